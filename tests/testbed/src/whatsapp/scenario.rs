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
//! | `tc_enabled[=0]` | the A/B property by which its companions attach contacts' tokens is on (`=0`: off) |
//! | `cs_enabled=0`, `=1` | tokens made from the sender's salt (`<cstoken>`) open it too, or not (as ever) |
//! | `nct_send_ab[=0]` | the A/B property by which its companions attach tokens from the salt |
//! | `nct_history_ab[=0]`, `nct_syncd_ab[=0]` | those by which they take the salt from history and app state |
//! | `nct_history_delivery`, `nct_syncd_delivery` | its phone gives them the salt in that way |
//! | `passkey` | a linked device needs a signature of its passkey |
//! | `hosted` | a business's server hosts it too: it vouches for companions as such accounts do |
//! | `delay=N` | messages to it come N milliseconds later |
//! | `duplicate[=N]` | messages to it come twice |
//! | `reorder[=N]` | messages to it are overtaken by the next one |
//! | `corrupt=N` | the first N messages to it are spoiled |
//! | `hold_offline` | messages to it stay in the offline queue |
//! | `reject=N` | its own messages are refused with `<ack error="N">` |
//! | `swallow_acks` | its own messages are relayed but never acknowledged |
//! | `ignore_pings` | its keep-alive pings are not answered |
//!
//! Those from `delay` on are [`Fault`]s and end with `clear_faults`. A flag that is not in the table, or lacks
//! its number, is an error to whoever opens the account.

use anyhow::{Context, ensure};

use super::accounts::AccountId;
use super::faults::Fault;
use super::passkey::{Demand, Gate};
use super::reachout::{SALT_BY_APP_STATE, SALT_BY_HISTORY, SEND_SALTED_TOKENS, SEND_TOKENS};
use super::world::World;

/// What one flag does.
#[derive(Debug, PartialEq, Eq)]
enum Behaviour {
    Restricted,
    Passkey,
    Hosted,
    AcceptsSalted(bool),
    Property(u32, bool),
    SaltByHistory,
    SaltByAppState,
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
        ("passkey", None) => return Some(Behaviour::Passkey),
        ("hosted", None) => return Some(Behaviour::Hosted),
        ("cs_enabled", Some(on @ (0 | 1))) => return Some(Behaviour::AcceptsSalted(on == 1)),
        ("tc_enabled" | "nct_send_ab" | "nct_history_ab" | "nct_syncd_ab", None | Some(0 | 1)) => {
            let code = match kind {
                "tc_enabled" => SEND_TOKENS,
                "nct_send_ab" => SEND_SALTED_TOKENS,
                "nct_history_ab" => SALT_BY_HISTORY,
                _ => SALT_BY_APP_STATE,
            };
            return Some(Behaviour::Property(code, number != Some(0)));
        }
        ("nct_history_delivery", None) => return Some(Behaviour::SaltByHistory),
        ("nct_syncd_delivery", None) => return Some(Behaviour::SaltByAppState),
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

/// Whether an account may be opened under that name.
///
/// # Errors
/// When it has a flag that there is not.
pub fn check(name: &str) -> anyhow::Result<()> {
    for flag in flags(name) {
        let unknown = flag.err();
        ensure!(
            unknown.is_none(),
            "there is no flag {:?}, wanted by {name:?}: see scenario.rs for those that there are",
            unknown.unwrap_or_default()
        );
    }
    Ok(())
}

impl World {
    /// Switches on what the name of a new account asks for.
    pub fn stage(&mut self, account: AccountId, name: &str) {
        for behaviour in flags(name).into_iter().flatten() {
            if let Err(refusal) = self.behave(account, behaviour) {
                log::error!("account {account} of {name:?} lacks a behaviour: {refusal:#}");
            }
        }
    }

    fn behave(&mut self, account: AccountId, behaviour: Behaviour) -> anyhow::Result<()> {
        let owner = &mut self.accounts[account];
        match behaviour {
            Behaviour::Restricted => owner.restricted = true,
            Behaviour::Passkey => owner.primary.gate = Some(Gate::new(Demand::default())),
            Behaviour::Hosted => owner.primary.phone.host_account(),
            Behaviour::AcceptsSalted(on) => owner.reachout.accepts_salted = on,
            Behaviour::Property(code, on) => {
                owner.reachout.properties.insert(code, on);
            }
            Behaviour::SaltByHistory => owner.reachout.salt_delivery.by_history = true,
            Behaviour::SaltByAppState => self.put_salt_into_app_state(account)?,
            Behaviour::Faulty(fault) => self.set_fault(Some(account), fault).context("setting its fault")?,
        }
        Ok(())
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
                Ok(Behaviour::AcceptsSalted(false)),
                Ok(Behaviour::Faulty(Fault::Duplicate { count: None })),
                Ok(Behaviour::Faulty(Fault::Delay { ms: 300 })),
                Ok(Behaviour::Faulty(Fault::RejectMessages { code: 479, count: None })),
            ]
        );
    }

    #[test]
    fn tokens_and_salts_are_switched_one_by_one() {
        let salt = "scenario:tc_enabled=0,cs_enabled=1,nct_send_ab,nct_history_ab=0,nct_syncd_ab,\
                    nct_history_delivery,nct_syncd_delivery:Ani";
        let expected = [
            Behaviour::Property(SEND_TOKENS, false),
            Behaviour::AcceptsSalted(true),
            Behaviour::Property(SEND_SALTED_TOKENS, true),
            Behaviour::Property(SALT_BY_HISTORY, false),
            Behaviour::Property(SALT_BY_APP_STATE, true),
            Behaviour::SaltByHistory,
            Behaviour::SaltByAppState,
        ];
        assert_eq!(flags(salt), expected.map(Ok));
        assert!(check(salt).is_ok() && check("Ani").is_ok());
        let refusal = check("scenario:restricted,dance:Ani").unwrap_err().to_string();
        assert!(refusal.contains("\"dance\""), "{refusal}");
    }

    #[test]
    fn an_unknown_or_half_written_flag_is_named() {
        assert_eq!(flags("scenario:passkey,hosted:Ani"), [Ok(Behaviour::Passkey), Ok(Behaviour::Hosted)]);
        assert_eq!(
            flags("scenario:dance,hold_offline,delay,corrupt=x,reject=99999,cs_enabled,tc_enabled=2,:Ani"),
            [
                Err("dance"),
                Ok(Behaviour::Faulty(Fault::HoldOffline)),
                Err("delay"),
                Err("corrupt=x"),
                Err("reject=99999"),
                Err("cs_enabled"),
                Err("tc_enabled=2"),
                Err(""),
            ]
        );
        assert_eq!(flags("scenario:Ani"), [Err("Ani")]);
    }
}
