//! The ways to a host: what each DNS server says, which addresses are really the host's, and what
//! follows from both.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::rustls::ClientConfig;
use smol::future::{or, pending};

use super::finding::{Dns, Finding, Leads, NoReach, Said};
use crate::clock;
use crate::executor::Executor;
use crate::net::deadline::within;
use crate::net::resolver::{Asked, ResolveError, Resolver};
use crate::net::rung::Kind;
use crate::net::segment::{self, SILENT_AFTER, Size};
use crate::net::tls::{self, TlsError};

/// Time for all DNS servers together: two rounds of five seconds if there are more than twelve.
const ASKING: Duration = Duration::from_millis(10_500);

/// Time for a look-up as the bot does it, when asking each server gave nothing: what is pinned or
/// stands in the hosts file.
const LOOKING_UP: Duration = Duration::from_secs(6);

/// Time for TCP and TLS with one address; all are tried at once.
const REACHING: Duration = Duration::from_secs(10);

/// Addresses that are tried: WhatsApp's name has one or two of each family.
const MOST_ADDRESSES: usize = 8;

/// Addresses on the internet that a datagram could be sent to; none is.
const FAR: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), 53),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)), 53),
];

/// Whether there is an address and a route to the internet: the kernel knows without sending anything.
pub(super) fn way_out() -> Finding {
    let local = |far: &SocketAddr| -> io::Result<IpAddr> {
        let any: IpAddr =
            if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(far)?;
        Ok(socket.local_addr()?.ip())
    };
    FAR.iter().find_map(|far| local(far).ok()).map_or(Finding::NoWayOut, Finding::Address)
}

/// A server somewhere.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// A name or an address.
    pub name: String,
    pub port: u16,
    pub tls: bool,
    /// Whether it is beyond doubt that the name exists.
    pub exists: bool,
}

/// What came of one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tried {
    pub address: SocketAddr,
    pub outcome: Result<Duration, NoReach>,
    /// It took small segments.
    pub small: bool,
}

/// Asks every DNS server for `host`, and tries every address that they give.
pub(super) async fn examine(
    executor: Executor,
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    host: Host,
) -> Vec<Finding> {
    let name = host.name.clone();
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let mut findings = Vec::new();
    let mut asked = Vec::new();
    if literal || name.eq_ignore_ascii_case("localhost") {
        findings.push(Finding::NoDnsNeeded { host: name.clone() });
    } else {
        match within(ASKING, Box::pin(resolver.ask_each(&name))).await {
            Some(Ok(answers)) if answers.is_empty() => {
                findings.push(Finding::NobodyToAsk { host: name.clone() });
            }
            Some(Ok(answers)) => asked = answers,
            Some(Err(ResolveError::BadName { .. })) => {
                return vec![Finding::NoSuchName { host: name }];
            }
            Some(Err(_)) | None => findings.push(Finding::NobodyToAsk { host: name.clone() }),
        }
    }
    let mut addresses = distinct(&asked);
    if addresses.is_empty() {
        addresses = match within(LOOKING_UP, Box::pin(resolver.lookup(&name))).await {
            Some(Ok(found)) => found,
            Some(Err(_)) | None => Vec::new(),
        };
        addresses.truncate(MOST_ADDRESSES);
    }
    let file = resolver.hosts_file();
    let lines = if literal { Vec::new() } else { resolver.hosts_lines(&name) };
    let given = addresses.len();
    for line in lines.iter().filter(|line| line.is_address()) {
        if !addresses.contains(&line.address) {
            addresses.push(line.address);
        }
    }
    let trials: Vec<_> = addresses
        .into_iter()
        .map(|ip| executor.spawn(try_address(tls.clone(), host.clone(), SocketAddr::new(ip, host.port))))
        .collect();
    let mut tried = Vec::new();
    for trial in trials {
        tried.push(trial.await);
    }
    let outcome =
        |ip: IpAddr| tried.iter().find(|tried| tried.address.ip() == ip).map(|tried| &tried.outcome);
    findings.extend(lines.iter().map(|line| Finding::HostsLine {
        host: name.clone(),
        file: file.to_owned(),
        line: line.number,
        address: line.address,
        leads: match outcome(line.address) {
            None => Leads::Nowhere,
            Some(Ok(_)) => Leads::ToTheHost,
            Some(Err(why)) => Leads::Astray(why.clone()),
        },
    }));
    findings.extend(dns(&host, &asked, &tried));
    // What only the hosts file gives is told with its line.
    findings.extend(reach(&host, &tried[..given.min(tried.len())]));
    findings
}

/// Every address that some server gave, each once, in the order of the servers.
fn distinct(asked: &[Asked]) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for address in asked.iter().flat_map(|asked| asked.answer.iter().flatten()) {
        if !all.contains(address) && all.len() < MOST_ADDRESSES {
            all.push(*address);
        }
    }
    all
}

async fn try_address(tls: Arc<ClientConfig>, host: Host, address: SocketAddr) -> Tried {
    let begin = clock::now();
    let attempt = async |size| {
        let stream = segment::connect(address, size).await.map_err(|error| no_tcp(&error))?;
        if host.tls {
            tls::handshake(&tls, &host.name, stream).await.map_err(no_tls)?;
        }
        Ok(clock::since(begin))
    };
    let usual = async { (attempt(Size::Usual).await, false) };
    // Only if the other is silent for long; and only success says anything.
    let small = async {
        clock::sleep(SILENT_AFTER).await;
        match attempt(Size::Small).await {
            Ok(took) if host.tls => (Ok(took), true),
            _ => pending().await,
        }
    };
    let (outcome, small) =
        within(REACHING, Box::pin(or(usual, small))).await.unwrap_or((Err(NoReach::Silent), false));
    Tried { address, outcome, small }
}

fn no_tcp(error: &io::Error) -> NoReach {
    use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut};
    match error.kind() {
        AddrNotAvailable | HostUnreachable | NetworkDown | NetworkUnreachable => NoReach::NoRoute,
        TimedOut => NoReach::Silent,
        _ => NoReach::Refused(error.to_string()),
    }
}

fn no_tls(error: TlsError) -> NoReach {
    match error {
        TlsError::Handshake { source, .. } if tls::is_about_time(&source) => NoReach::Clock,
        TlsError::Handshake { source, .. } if source.kind() == io::ErrorKind::TimedOut => NoReach::Silent,
        TlsError::Handshake { source, .. } => NoReach::Disproved(source.to_string()),
        TlsError::Timeout { .. } => NoReach::Silent,
        other => NoReach::Refused(other.to_string()),
    }
}

/// What each server's answer is worth, in the light of all others and of TLS.
fn dns(host: &Host, asked: &[Asked], tried: &[Tried]) -> Vec<Finding> {
    let outcome = |ip: &IpAddr| tried.iter().find(|tried| tried.address.ip() == *ip).map(|t| &t.outcome);
    // Whoever answers encrypted is who was asked: what stands in the way there is not a wrong address.
    let encrypted = |asked: &&Asked| matches!(asked.rung.kind, Kind::Https | Kind::Tls);
    let vouched = |ip: &IpAddr| {
        asked.iter().filter(encrypted).any(|asked| asked.answer.as_ref().is_ok_and(|all| all.contains(ip)))
    };
    let wrong = |ip: &IpAddr| matches!(outcome(ip), Some(Err(NoReach::Disproved(_)))) && !vouched(ip);
    let reached = tried.iter().any(|tried| tried.outcome.is_ok());
    let dead = |ip: &IpAddr| reached && matches!(outcome(ip), Some(Err(NoReach::Silent))) && !vouched(ip);
    let is_right =
        |asked: &Asked| asked.answer.as_ref().is_ok_and(|all| !all.iter().all(|ip| wrong(ip) || dead(ip)));
    let known = asked.iter().any(is_right);
    let mut findings: Vec<_> = asked
        .iter()
        .map(|one| {
            let said = match &one.answer {
                Ok(addresses) if is_right(one) => Said::Right(addresses.clone()),
                Ok(addresses) if addresses.iter().all(dead) => Said::DeadEnd(addresses.clone()),
                Ok(addresses) => Said::Wrong(addresses.clone()),
                Err(words) => in_words(words, known || host.exists),
            };
            let kind = one.rung.kind;
            let beside = asked.iter().any(|other| {
                other.rung.kind == kind && other.rung.server != one.rung.server && is_right(other)
            });
            Finding::Dns(Dns {
                host: host.name.clone(),
                kind,
                server: one.rung.server,
                took: one.took,
                said,
                others: known,
                beside,
            })
        })
        .collect();
    // Plain DNS alone is no witness where providers answer in everybody's name.
    let denied = |asked: &Asked| asked.answer.as_ref().is_err_and(|words| words.starts_with(DENIED));
    let credible = asked.iter().filter(encrypted).any(denied) || asked.iter().all(denied);
    if !asked.is_empty() && !known && !host.exists && credible {
        findings.push(Finding::NoSuchName { host: host.name.clone() });
    }
    findings
}

/// How the resolver's words begin (`net::resolver`, where they are made) for what is more than a
/// failure.
const DENIED: &str = "said that the name";
const PRIVATE: &str = "gave the private address ";
const SILENT: &str = "was silent";
const INTERCEPTED: &str = "does not speak TLS as itself";

/// How rustls says that a certificate is only not valid now: that is the clock's fault.
const OUT_OF_TIME: [&str; 2] = ["expired", "not valid yet"];

fn in_words(words: &str, exists: bool) -> Said {
    if words.starts_with(DENIED) {
        Said::Denied { lie: exists }
    } else if let Some(address) = words.strip_prefix(PRIVATE) {
        Said::Private(address.to_owned())
    } else if words.starts_with(SILENT) {
        Said::Silent
    } else if words.starts_with(INTERCEPTED) && !OUT_OF_TIME.iter().any(|part| words.contains(part)) {
        Said::Intercepted
    } else {
        Said::Failed(words.to_owned())
    }
}

/// What came of the addresses.
fn reach(host: &Host, tried: &[Tried]) -> Vec<Finding> {
    if tried.is_empty() {
        return vec![Finding::NowhereToGo { host: host.name.clone() }];
    }
    let others = tried.iter().any(|tried| tried.outcome.is_ok());
    let vanish = tried.iter().any(|tried| tried.small);
    let vanish = vanish.then(|| Finding::LargePacketsVanish { host: host.name.clone() });
    let finding = |tried: &Tried| {
        let (host, address, tls) = (host.name.clone(), tried.address, host.tls);
        Some(match &tried.outcome {
            Ok(took) => Finding::Reached { host, address, took: *took, tls },
            // No IPv6 in the house is nothing to be told about.
            Err(NoReach::NoRoute) if others && address.is_ipv6() => return None,
            Err(why) => Finding::NotReached { host, address, why: why.clone(), others },
        })
    };
    vanish.into_iter().chain(tried.iter().filter_map(finding)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::*;
    use crate::net::resolver::RungId;

    const HOST: &str = "web.example.com";
    const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(157, 240, 0, 60));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1));

    fn asked(kind: Kind, last: u8, answer: Result<IpAddr, &str>) -> Asked {
        let server = SocketAddr::from(([192, 0, 2, last], 53));
        Asked {
            rung: RungId { kind, server },
            took: Duration::from_millis(20),
            answer: answer.map(|ip| vec![ip]).map_err(str::to_owned),
        }
    }

    fn host() -> Host {
        Host { name: HOST.into(), port: 443, tls: true, exists: false }
    }

    fn tried(ip: IpAddr, outcome: Result<Duration, NoReach>) -> Tried {
        Tried { address: SocketAddr::new(ip, 443), outcome, small: false }
    }

    fn well(ip: IpAddr) -> Tried {
        tried(ip, Ok(Duration::from_millis(90)))
    }

    fn disproved(ip: IpAddr) -> Tried {
        tried(ip, Err(NoReach::Disproved("certificate for another name".into())))
    }

    /// What is thought of each server, and how bad that is.
    fn judged(all: &[Asked], tried: &[Tried]) -> Vec<(Said, Mark)> {
        let judged = |finding: &Finding| match finding {
            Finding::Dns(dns) => Some((dns.said.clone(), finding.mark())),
            _ => None,
        };
        dns(&host(), all, tried).iter().filter_map(judged).collect()
    }

    #[test]
    fn a_provider_that_denies_what_others_know_lies_and_has_to_be_mended() {
        let all = [
            asked(Kind::System, 1, Err("said that the name does not exist")),
            asked(Kind::Https, 2, Ok(RIGHT)),
            asked(Kind::Tls, 3, Err("was silent for 5 s")),
        ];
        assert_eq!(
            judged(&all, &[well(RIGHT)]),
            [
                (Said::Denied { lie: true }, Mark::Bad),
                (Said::Right(vec![RIGHT]), Mark::Good),
                (Said::Silent, Mark::Note)
            ]
        );
    }

    #[test]
    fn a_name_that_nobody_knows_is_a_wrong_name_and_nobodys_lie() {
        let all = [
            asked(Kind::System, 1, Err("said that the name does not exist")),
            asked(Kind::Https, 2, Err("said that the name does not exist")),
        ];
        let findings = dns(&host(), &all, &[]);
        assert_eq!(findings.last(), Some(&Finding::NoSuchName { host: HOST.into() }));
        assert!(
            judged(&all, &[])
                .iter()
                .all(|(said, mark)| { *said == Said::Denied { lie: false } && *mark == Mark::Note })
        );
    }

    #[test]
    fn plain_dns_alone_does_not_prove_that_a_name_is_wrong() {
        let denied = "said that the name does not exist";
        let intercepted = "does not speak TLS as itself (invalid peer certificate)";
        let all = [asked(Kind::System, 1, Err(denied)), asked(Kind::Https, 2, Err(intercepted))];
        let expected = [(Said::Denied { lie: false }, Mark::Note), (Said::Intercepted, Mark::Bad)];
        assert_eq!(judged(&all, &[]), expected);
        assert_eq!(dns(&host(), &all, &[]).len(), 2);
        // Whatever they all say, WhatsApp's name exists.
        let whatsapp = Host { exists: true, ..host() };
        let all = [asked(Kind::System, 1, Err(denied))];
        let [Finding::Dns(one)] = &dns(&whatsapp, &all, &[])[..] else { panic!("one finding") };
        assert_eq!(one.said, Said::Denied { lie: true });
    }

    #[test]
    fn an_address_with_another_certificate_is_wrong_unless_somebody_vouches_for_it() {
        let all = [asked(Kind::System, 1, Ok(OTHER)), asked(Kind::Https, 2, Ok(RIGHT))];
        let found = judged(&all, &[disproved(OTHER), well(RIGHT)]);
        assert_eq!(found[0], (Said::Wrong(vec![OTHER]), Mark::Bad));
        // Something on the way cuts TLS: that the DNS servers cannot help.
        let all = [asked(Kind::System, 1, Ok(RIGHT)), asked(Kind::Https, 2, Ok(RIGHT))];
        let found = judged(&all, &[disproved(RIGHT)]);
        assert!(found.iter().all(|(said, _)| *said == Said::Right(vec![RIGHT])), "{found:?}");
    }

    #[test]
    fn an_address_that_never_says_a_word_while_others_do_is_a_dead_end_unless_somebody_vouches_for_it() {
        let all = [asked(Kind::System, 1, Ok(OTHER)), asked(Kind::Https, 2, Ok(RIGHT))];
        let silent = || tried(OTHER, Err(NoReach::Silent));
        assert_eq!(judged(&all, &[silent(), well(RIGHT)])[0], (Said::DeadEnd(vec![OTHER]), Mark::Bad));
        // On a line that swallows everything that says nothing.
        let found = judged(&all, &[silent(), tried(RIGHT, Err(NoReach::Silent))]);
        assert_eq!(found[0].0, Said::Right(vec![OTHER]));
        let all = [asked(Kind::System, 1, Ok(OTHER)), asked(Kind::Tls, 2, Ok(OTHER))];
        assert_eq!(judged(&all, &[silent(), well(RIGHT)])[0].0, Said::Right(vec![OTHER]));
    }

    #[test]
    fn what_is_reached_with_small_packets_only_says_that_large_ones_vanish() {
        let found =
            reach(&host(), &[Tried { small: true, ..well(RIGHT) }, tried(OTHER, Err(NoReach::Silent))]);
        assert_eq!(found[0], Finding::LargePacketsVanish { host: HOST.into() });
        assert_eq!(found.iter().map(Finding::mark).collect::<Vec<_>>(), [Mark::Bad, Mark::Good, Mark::Note]);
    }

    #[test]
    fn a_second_server_of_the_provider_makes_up_for_a_silent_first() {
        let all = [asked(Kind::System, 1, Err("was silent for 5 s")), asked(Kind::System, 2, Ok(RIGHT))];
        assert_eq!(judged(&all, &[well(RIGHT)])[0], (Said::Silent, Mark::Note));
        let all = [asked(Kind::System, 1, Err("was silent for 5 s")), asked(Kind::Https, 2, Ok(RIGHT))];
        assert_eq!(judged(&all, &[well(RIGHT)])[0], (Said::Silent, Mark::Bad));
    }

    #[test]
    fn when_nobody_helps_every_server_is_bad() {
        let all = [
            asked(Kind::System, 1, Err("gave the private address 10.10.10.10")),
            asked(Kind::Https, 2, Err("answered 403")),
            asked(Kind::Public, 3, Ok(OTHER)),
        ];
        let expected = [
            (Said::Private("10.10.10.10".into()), Mark::Bad),
            (Said::Failed("answered 403".into()), Mark::Bad),
            (Said::Wrong(vec![OTHER]), Mark::Bad),
        ];
        assert_eq!(judged(&all, &[disproved(OTHER)]), expected);
    }

    #[test]
    fn an_address_that_fails_beside_one_that_works_is_only_worth_knowing() {
        let host = host();
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let found = reach(
            &host,
            &[well(RIGHT), tried(OTHER, Err(NoReach::Silent)), tried(v6, Err(NoReach::NoRoute))],
        );
        assert_eq!(found.iter().map(Finding::mark).collect::<Vec<_>>(), [Mark::Good, Mark::Note]);
        let found = reach(&host, &[tried(OTHER, Err(NoReach::Silent))]);
        assert_eq!(found[0].mark(), Mark::Bad);
        assert_eq!(reach(&host, &[]), [Finding::NowhereToGo { host: HOST.into() }]);
    }

    #[test]
    fn each_address_is_tried_once_and_no_more_than_so_many() {
        let all = [
            asked(Kind::System, 1, Ok(RIGHT)),
            asked(Kind::Https, 2, Ok(RIGHT)),
            asked(Kind::Tls, 3, Ok(OTHER)),
        ];
        assert_eq!(distinct(&all), [RIGHT, OTHER]);
        let many: Vec<_> = (0..99).map(|n| asked(Kind::System, 1, Ok([8, 8, 8, n].into()))).collect();
        assert_eq!(distinct(&many).len(), MOST_ADDRESSES);
    }
}
