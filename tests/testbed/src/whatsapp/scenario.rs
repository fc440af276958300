//! Names that switch behaviours of the account opened under them, so that a client's test needs no
//! control port. Two prefixes of the same convention that other clients' suites use:
//!
//! - `restricted:NAME`: strangers need a trusted-contact token to write to it (`<ack error="463">`).
//! - `scenario:flag[,flag]:NAME`, with flags out of this table. `N` is a number; where it is in
//!   brackets, it says for how many messages, and without it the behaviour lasts.
//!
//! | flag | behaviour |
//! | --- | --- |
//! | `restricted` | as the prefix |
//! | `cs_enabled=0` | none: tokens made from a salt (`<cstoken>`) are not accepted here anyway |
//! | `delay=N` | messages to it come N milliseconds later |
//! | `duplicate[=N]` | messages to it come twice |
//! | `reorder[=N]` | messages to it are overtaken by the next one |
//! | `corrupt=N` | the first N messages to it are spoiled |
//! | `hold_offline` | messages to it stay in the offline queue |
//! | `reject=N` | its own messages are refused with `<ack error="N">` |
//! | `swallow_acks` | its own messages are relayed but never acknowledged |
//! | `ignore_pings` | its keep-alive pings are not answered |
//! | `passkey` | a linked device needs a signature of its passkey |
//! | `hosted` | a business's server hosts it too: it vouches for companions as such accounts do |
//!
//! All but the first two and the last two are [`Fault`]s and end with `clear_faults`. A flag that is not in the table,
//! or lacks its number, is refused with an error in the log; the other ones work.

use super::accounts::AccountId;
use super::faults::Fault;
use super::passkey::{Demand, Gate};
use super::world::World;

/// What one flag does.
#[derive(Debug, PartialEq, Eq)]
enum Behaviour {
    Restricted,
    AsEver,
    Passkey,
    Hosted,
    Faulty(Fault),
}

/// The flags in a name: what each does, or its text when there is no such flag.
fn flags(name: &str) -> Vec<Result<Behaviour, &str>> {
    if name.starts_with("restricted:") {
        return vec![Ok(Behaviour::Restricted)];
    }
    let Some(rest) = name.strip_prefix("scenario:") else { return Vec::new() };
    let Some((flags, _)) = rest.split_once(':') else { return vec![Err(rest)] };
    flags.split(',').map(|flag| behaviour(flag).ok_or(flag)).collect()
}

fn behaviour(flag: &str) -> Option<Behaviour> {
    let (kind, number) = match flag.split_once('=') {
        Some((kind, number)) => (kind, Some(number.parse::<u32>().ok()?)),
        None => (flag, None),
    };
    let code = number.and_then(|number| u16::try_from(number).ok());
    let fault = match (kind, number) {
        ("restricted", None) => return Some(Behaviour::Restricted),
        ("cs_enabled", Some(0)) => return Some(Behaviour::AsEver),
        ("passkey", None) => return Some(Behaviour::Passkey),
        ("hosted", None) => return Some(Behaviour::Hosted),
        ("delay", Some(ms)) => Fault::Delay { ms: ms.into() },
        ("duplicate", count) => Fault::Duplicate { count },
        ("reorder", count) => Fault::Reorder { count },
        ("corrupt", count @ Some(_)) => Fault::Corrupt { count },
        ("hold_offline", None) => Fault::HoldOffline,
        ("reject", Some(_)) => Fault::RejectMessages { code: code?, count: None },
        ("swallow_acks", None) => Fault::SwallowAcks { class: "message".into(), count: None },
        ("ignore_pings", None) => Fault::IgnorePings,
        _ => return None,
    };
    Some(Behaviour::Faulty(fault))
}

impl World {
    /// Switches on what the name of a new account asks for.
    pub fn stage(&mut self, account: AccountId, name: &str) {
        for flag in flags(name) {
            match flag {
                Ok(Behaviour::Restricted) => self.accounts[account].restricted = true,
                Ok(Behaviour::AsEver) => {}
                Ok(Behaviour::Passkey) => {
                    self.accounts[account].primary.gate = Some(Gate::new(Demand::default()));
                }
                Ok(Behaviour::Hosted) => self.accounts[account].primary.phone.host_account(),
                Ok(Behaviour::Faulty(fault)) => {
                    if let Err(refusal) = self.set_fault(Some(account), fault) {
                        log::error!("account {account} of {name:?} lacks a behaviour: {refusal}");
                    }
                }
                Err(unknown) => {
                    log::error!(
                        "refused the flag {unknown:?} of {name:?}: see scenario.rs for what there is"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_prefix_switches_nothing() {
        for name in ["", "Ani", "Ani:restricted:x", "scenario", "restricted"] {
            assert_eq!(flags(name), [], "{name}");
        }
    }

    #[test]
    fn each_flag_does_what_the_table_says() {
        assert_eq!(flags("restricted:Ani"), [Ok(Behaviour::Restricted)]);
        assert_eq!(
            flags("scenario:restricted,cs_enabled=0,duplicate,delay=300,reject=479:Ani:2"),
            [
                Ok(Behaviour::Restricted),
                Ok(Behaviour::AsEver),
                Ok(Behaviour::Faulty(Fault::Duplicate { count: None })),
                Ok(Behaviour::Faulty(Fault::Delay { ms: 300 })),
                Ok(Behaviour::Faulty(Fault::RejectMessages { code: 479, count: None })),
            ]
        );
    }

    #[test]
    fn an_unknown_or_half_written_flag_is_named() {
        assert_eq!(flags("scenario:passkey,hosted:Ani"), [Ok(Behaviour::Passkey), Ok(Behaviour::Hosted)]);
        assert_eq!(
            flags("scenario:dance,hold_offline,delay,corrupt=x,reject=99999,:Ani"),
            [
                Err("dance"),
                Ok(Behaviour::Faulty(Fault::HoldOffline)),
                Err("delay"),
                Err("corrupt=x"),
                Err("reject=99999"),
                Err(""),
            ]
        );
        assert_eq!(flags("scenario:Ani"), [Err("Ani")]);
    }
}
