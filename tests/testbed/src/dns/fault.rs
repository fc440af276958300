//! What goes wrong with DNS, where, and how often.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::zone::plain;

/// Faults active at once.
const MAX_ACTIVE: usize = 64;

/// How a question comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Https,
}

impl Transport {
    pub const ALL: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https];

    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Https => "https",
        }
    }
}

/// Where a fault happens: everywhere, but for what is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    #[serde(default)]
    pub transport: Option<Transport>,
    /// Only questions about this name.
    #[serde(default)]
    pub name: Option<String>,
    /// Only on this address of the server.
    #[serde(default)]
    pub server: Option<IpAddr>,
}

impl Scope {
    pub fn everywhere() -> Scope {
        Scope::default()
    }

    pub fn over(transport: Transport) -> Scope {
        Scope { transport: Some(transport), ..Scope::default() }
    }

    #[must_use]
    pub fn about(self, name: &str) -> Scope {
        Scope { name: Some(name.to_owned()), ..self }
    }

    #[must_use]
    pub fn at(self, server: IpAddr) -> Scope {
        Scope { server: Some(server), ..self }
    }

    fn covers(&self, transport: Transport, server: IpAddr, name: Option<&str>) -> bool {
        self.transport.is_none_or(|wanted| wanted == transport)
            && self.server.is_none_or(|wanted| wanted == server)
            && self.name.as_ref().is_none_or(|wanted| name.is_some_and(|name| plain(wanted) == plain(name)))
    }
}

/// Something that goes wrong. Of several faults on one question the newest says what is answered;
/// delays add up, and each loss has its chance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// "There is no such name."
    Nxdomain,
    Servfail,
    Refused,
    /// No error and no records.
    Empty,
    /// No answer ever; a connection stays open.
    Silence,
    /// The answer comes this much later.
    Delay {
        ms: u64,
    },
    /// These addresses, perhaps behind an alias, as a censor or a captive portal answers.
    Lie {
        addresses: Vec<IpAddr>,
        #[serde(default)]
        alias: Option<String>,
        /// Seconds; 1 as censors say when absent.
        #[serde(default)]
        ttl: Option<u32>,
    },
    /// UDP: an answer that is cut short (TC bit), so that the client must ask over TCP.
    Truncate,
    /// The right answer under another transaction id.
    WrongId,
    /// The right answer to another question.
    WrongQuestion,
    /// UDP: the right answer from another port.
    WrongPort,
    /// Bytes that are no DNS message.
    Garbage,
    /// Loses this many of a hundred questions, by the dice of [`super::Options::seed`].
    Drop {
        percent: u8,
    },
    /// HTTPS: this status and no DNS message.
    HttpStatus {
        status: u16,
    },
    /// Does not listen: connections are refused, datagrams come back as unreachable. What is open is
    /// cut. On everything it is a server that died; it comes back on the same addresses.
    Refuse,
    /// Takes connections and never says a word, not even in the TLS handshake.
    Stall,
    /// Cuts connections: over TCP before the first answer, over TLS within the handshake.
    Cut,
    /// Shows a certificate of an authority that nobody trusts.
    WrongAuthority,
    /// Shows a certificate for another name.
    WrongName,
}

impl Fault {
    /// Whether it concerns sockets and connections, which know no name yet.
    fn is_of_connections(&self) -> bool {
        matches!(self, Fault::Refuse | Fault::Stall | Fault::Cut | Fault::WrongAuthority | Fault::WrongName)
    }
}

struct Active {
    scope: Scope,
    fault: Fault,
    /// How often it still happens; `None`: until cleared.
    left: Option<u32>,
}

/// What happens to one question.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fate {
    pub delay: Duration,
    pub lost: bool,
    /// What is answered instead of the truth.
    pub answer: Option<Fault>,
}

/// The faults that are on.
pub struct Faults {
    active: Vec<Active>,
    dice: StdRng,
}

impl Faults {
    pub fn new(seed: u64) -> Faults {
        Faults { active: Vec::new(), dice: StdRng::seed_from_u64(seed) }
    }

    /// # Errors
    /// When too many are on already, or it cannot happen where it shall.
    pub fn set(&mut self, scope: Scope, fault: Fault, times: Option<u32>) -> anyhow::Result<()> {
        ensure!(self.active.len() < MAX_ACTIVE, "{MAX_ACTIVE} DNS faults are on: clear some");
        ensure!(times != Some(0), "a fault that happens 0 times is none");
        ensure!(
            !fault.is_of_connections() || scope.name.is_none(),
            "{fault:?} happens to connections, before any name is asked for"
        );
        ensure!(
            fault != Fault::Refuse || times.is_none(),
            "nobody can count what is refused: clear it when it was enough"
        );
        self.active.push(Active { scope, fault, left: times });
        Ok(())
    }

    pub fn clear(&mut self) {
        self.active.clear();
    }

    /// Whether an endpoint shall listen.
    pub fn listens(&self, transport: Transport, server: IpAddr) -> bool {
        !self
            .active
            .iter()
            .any(|active| active.fault == Fault::Refuse && active.scope.covers(transport, server, None))
    }

    /// What happens to a new connection: the newest fault of its kind.
    pub fn on_connection(&mut self, transport: Transport, server: IpAddr) -> Option<Fault> {
        let place = self.active.iter().rposition(|active| {
            active.fault.is_of_connections() && active.scope.covers(transport, server, None)
        })?;
        Some(self.use_up(place))
    }

    /// What happens to a question.
    pub fn on_question(&mut self, transport: Transport, server: IpAddr, name: &str) -> Fate {
        let mut fate = Fate::default();
        let mut used = Vec::new();
        for (place, active) in self.active.iter().enumerate().rev() {
            if active.fault.is_of_connections() || !active.scope.covers(transport, server, Some(name)) {
                continue;
            }
            match &active.fault {
                Fault::Delay { ms } => fate.delay += Duration::from_millis(*ms),
                Fault::Drop { percent } => fate.lost |= self.dice.random_range(0..100) < *percent,
                Fault::Silence => fate.lost = true,
                Fault::Truncate | Fault::WrongPort if transport != Transport::Udp => continue,
                Fault::HttpStatus { .. } if transport != Transport::Https => continue,
                _ if fate.answer.is_some() => continue,
                answer => fate.answer = Some(answer.clone()),
            }
            used.push(place);
        }
        // From the back, so that the places of the others stay true.
        for place in used {
            self.use_up(place);
        }
        fate
    }

    fn use_up(&mut self, place: usize) -> Fault {
        let active = &mut self.active[place];
        let fault = active.fault.clone();
        if let Some(left) = &mut active.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.active.remove(place);
            }
        }
        fault
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_fault_happens_only_in_its_scope_and_as_often_as_it_says() {
        let mut faults = Faults::new(1);
        let scope = Scope::over(Transport::Udp).about("Web.whatsapp.com.").at(HERE);
        faults.set(scope, Fault::Servfail, Some(1)).unwrap();
        let far: IpAddr = "1.1.1.1".parse().unwrap();
        assert_eq!(faults.on_question(Transport::Tcp, HERE, "web.whatsapp.com"), Fate::default());
        assert_eq!(faults.on_question(Transport::Udp, far, "web.whatsapp.com"), Fate::default());
        assert_eq!(faults.on_question(Transport::Udp, HERE, "x.example"), Fate::default());
        let fate = faults.on_question(Transport::Udp, HERE, "web.whatsapp.com");
        assert_eq!(fate.answer, Some(Fault::Servfail));
        assert_eq!(faults.on_question(Transport::Udp, HERE, "web.whatsapp.com"), Fate::default());
    }

    #[test]
    fn of_several_faults_the_newest_answers_and_delays_add_up() {
        let mut faults = Faults::new(1);
        for fault in [Fault::Nxdomain, Fault::Delay { ms: 20 }, Fault::Empty, Fault::Delay { ms: 3 }] {
            faults.set(Scope::everywhere(), fault, None).unwrap();
        }
        let fate = faults.on_question(Transport::Udp, HERE, "a");
        assert_eq!(fate.delay, Duration::from_millis(23));
        assert_eq!(fate.answer, Some(Fault::Empty));
        assert!(!fate.lost);
    }

    #[test]
    fn losses_come_at_their_rate_and_the_same_for_the_same_seed() {
        let lost = |seed| {
            let mut faults = Faults::new(seed);
            faults.set(Scope::everywhere(), Fault::Drop { percent: 20 }, None).unwrap();
            (0..1000).map(|_| faults.on_question(Transport::Udp, HERE, "a").lost).collect::<Vec<bool>>()
        };
        let first = lost(7);
        assert_eq!(first, lost(7));
        let count = first.iter().filter(|lost| **lost).count();
        assert!((150..250).contains(&count), "{count} of 1000");
    }

    #[test]
    fn a_fault_that_cannot_happen_is_refused() {
        let mut faults = Faults::new(1);
        assert!(faults.set(Scope::everywhere().about("a"), Fault::Stall, None).is_err());
        assert!(faults.set(Scope::everywhere(), Fault::Refuse, Some(3)).is_err());
        assert!(faults.set(Scope::everywhere(), Fault::Empty, Some(0)).is_err());
    }

    #[test]
    fn a_fault_is_written_as_the_control_port_s_documentation_says() {
        let fault: Fault =
            serde_json::from_str(r#"{"kind":"lie","addresses":["10.0.0.1"],"alias":"blocked.example"}"#)
                .unwrap();
        assert!(matches!(fault, Fault::Lie { ttl: None, .. }));
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"drop"}"#).is_err());
        let scope: Scope = serde_json::from_str(r#"{"transport":"https","server":"1.1.1.1"}"#).unwrap();
        assert_eq!(scope, Scope::over(Transport::Https).at("1.1.1.1".parse().unwrap()));
    }
}
