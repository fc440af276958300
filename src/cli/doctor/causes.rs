//! Of one fault the doctor sees many things. The cause is told first; what only follows from it is told after
//! it, or not at all.

use std::net::SocketAddr;

use super::finding::{Check, Dns, Finding, Mark, Said};
use crate::net::rung::Kind;

/// The same findings with causes before all others, in their order, and without what adds nothing to them.
pub(super) fn first(mut findings: Vec<Finding>) -> Vec<Finding> {
    let no_way_out = findings.contains(&Finding::NoWayOut);
    let silent = silent_servers(&findings);
    if no_way_out || silent > 0 {
        let reached = findings.iter().any(|finding| matches!(finding, Finding::Reached { .. }));
        findings.retain(|finding| !follows_from_no_line(finding, no_way_out));
        if !no_way_out {
            findings.push(Finding::NobodyAnswers { servers: silent, reached });
        }
    }
    if findings.iter().any(keeps_the_bot_from_starting) {
        findings.retain(|finding| *finding != Finding::BotDoesNotRun);
    }
    // Every host tells of it.
    let mut told = false;
    findings.retain(|finding| {
        let vanish = matches!(finding, Finding::LargePacketsVanish { .. });
        let again = vanish && told;
        told |= vanish;
        !again
    });
    let explained: Vec<_> = findings.iter().flat_map(addresses_told).collect();
    findings.retain(|finding| match finding {
        Finding::NotReached { address, others: true, .. } => !explained.contains(&address.ip()),
        _ => true,
    });
    let (causes, others): (Vec<_>, Vec<_>) = findings.into_iter().partition(is_cause);
    causes.into_iter().chain(others).collect()
}

/// How many DNS servers there are, if not one of them answered anything.
fn silent_servers(findings: &[Finding]) -> usize {
    let mut servers: Vec<SocketAddr> = Vec::new();
    for finding in findings {
        let Finding::Dns(dns) = finding else { continue };
        if !matches!(dns.said, Said::Silent | Said::Failed(_)) {
            return 0;
        }
        if !servers.contains(&dns.server) {
            servers.push(dns.server);
        }
    }
    servers.len()
}

fn follows_from_no_line(finding: &Finding, no_way_out: bool) -> bool {
    match finding {
        Finding::Dns(_)
        | Finding::NoVersionPage { .. }
        | Finding::SupabaseSilent { .. }
        | Finding::HookHostUnknown { .. }
        | Finding::ClockNotCompared
        | Finding::TooSlow(
            Check::WhatsApp | Check::VersionPage | Check::Supabase | Check::SupabaseAnswer | Check::Alerts,
        ) => true,
        Finding::NobodyToAsk { .. } | Finding::NotReached { .. } | Finding::NowhereToGo { .. } => no_way_out,
        _ => false,
    }
}

/// Addresses of which it is said already that they are no way to the host.
fn addresses_told(finding: &Finding) -> Vec<std::net::IpAddr> {
    match finding {
        Finding::Dns(Dns { said: Said::Wrong(addresses) | Said::DeadEnd(addresses), .. }) => {
            addresses.clone()
        }
        _ => Vec::new(),
    }
}

fn keeps_the_bot_from_starting(finding: &Finding) -> bool {
    matches!(finding, Finding::SandboxRefused(_) | Finding::AccountMissing)
}

/// Whether other findings may follow from it.
fn is_cause(finding: &Finding) -> bool {
    match finding {
        Finding::SandboxRefused(_)
        | Finding::AccountMissing
        | Finding::NoRandomNumbers
        | Finding::NoWayOut
        | Finding::NobodyAnswers { .. }
        | Finding::LargePacketsVanish { .. }
        | Finding::ClockWrong { .. }
        | Finding::ClockInThePast => true,
        Finding::HostsLine { .. } | Finding::Dns(Dns { kind: Kind::System, .. }) => {
            finding.mark() == Mark::Bad
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Leads, NoReach};
    use super::*;
    use crate::cli::install::{Loosened, Refusal};
    use crate::watch::report::State;
    use std::net::IpAddr;
    use std::time::Duration;

    const HOST: &str = "web.whatsapp.com";

    fn dns(kind: Kind, last: u8, said: Said) -> Finding {
        let server = SocketAddr::from(([192, 0, 2, last], 53));
        let others = false;
        Finding::Dns(Dns {
            host: HOST.into(),
            kind,
            server,
            took: Duration::ZERO,
            said,
            others,
            beside: false,
        })
    }

    fn address() -> Finding {
        Finding::Address([192, 168, 1, 2].into())
    }

    fn nowhere() -> Finding {
        Finding::NowhereToGo { host: HOST.into() }
    }

    #[test]
    fn a_dead_line_is_one_finding_and_not_one_for_each_server() {
        let found = vec![
            Finding::ConfigurationFile(None),
            address(),
            dns(Kind::System, 1, Said::Silent),
            dns(Kind::Https, 2, Said::Failed("broke off".into())),
            dns(Kind::Tls, 3, Said::Silent),
            nowhere(),
            // The second host asks the same servers.
            dns(Kind::System, 1, Said::Silent),
            Finding::TooSlow(Check::SupabaseAnswer),
            Finding::NoVersionPage { reason: None },
        ];
        let cause = Finding::NobodyAnswers { servers: 3, reached: false };
        assert_eq!(first(found), [cause, Finding::ConfigurationFile(None), address(), nowhere()]);
    }

    #[test]
    fn without_a_way_out_nothing_else_is_said_of_the_network() {
        let silent = dns(Kind::System, 1, Said::Failed("could not be reached".into()));
        let found = vec![Finding::BotDoesNotRun, Finding::NoWayOut, silent, nowhere(), Finding::SupabaseOff];
        assert_eq!(first(found), [Finding::NoWayOut, Finding::BotDoesNotRun, Finding::SupabaseOff]);
    }

    #[test]
    fn a_sandbox_that_is_refused_is_told_first_and_not_also_that_the_bot_does_not_run() {
        let refused = || Finding::SandboxRefused(Refusal::User);
        let loosened =
            || Finding::SandboxLoosened(Loosened { directives: vec!["PrivateUsers"], until_boot: true });
        let file = || Finding::ConfigurationFile(None);
        let found = vec![file(), loosened(), refused(), Finding::BotDoesNotRun];
        assert_eq!(first(found), [refused(), file(), loosened()]);
        // Stopped by somebody, or for another reason.
        let found = || vec![loosened(), Finding::BotDoesNotRun];
        assert_eq!(first(found()), found());
    }

    #[test]
    fn servers_that_answer_are_told_one_by_one() {
        let right = dns(Kind::Https, 2, Said::Right(vec![[157, 240, 0, 60].into()]));
        let found = vec![Finding::BotDoesNotRun, dns(Kind::System, 1, Said::Silent), right.clone()];
        // The provider's comes first: what the bot says may follow from it.
        let expected = [dns(Kind::System, 1, Said::Silent), Finding::BotDoesNotRun, right];
        assert_eq!(first(found), expected);
    }

    #[test]
    fn a_cause_stands_before_what_the_bot_says_and_is_told_once() {
        let vanish = |host: &str| Finding::LargePacketsVanish { host: host.into() };
        let stale = Finding::HostsLine {
            host: HOST.into(),
            file: "/etc/hosts".into(),
            line: 3,
            address: [1, 1, 1, 1].into(),
            leads: Leads::Astray(NoReach::Silent),
        };
        let bot = Finding::BotRuns(State::Unhealthy);
        let found = vec![bot.clone(), vanish(HOST), stale.clone(), vanish("x.supabase.co")];
        assert_eq!(first(found), [vanish(HOST), stale, bot]);
    }

    #[test]
    fn an_address_that_a_server_should_not_have_given_is_not_told_twice() {
        let dead: IpAddr = [36, 86, 63, 182].into();
        let tried = |ip: IpAddr| Finding::NotReached {
            host: HOST.into(),
            address: (ip, 443).into(),
            why: NoReach::Silent,
            others: true,
        };
        let lie = dns(Kind::System, 1, Said::DeadEnd(vec![dead]));
        let other: IpAddr = [157, 240, 0, 61].into();
        assert_eq!(first(vec![lie.clone(), tried(dead), tried(other)]), [lie, tried(other)]);
    }
}
