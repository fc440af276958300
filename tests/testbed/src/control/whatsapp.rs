//! Commands to WhatsApp's server and its phones.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::patience;
use crate::phone::passkey::Ceremony;
use crate::whatsapp::{Addressing, Fault, Handset, Lock, SendAs, Shown, WhatsApp, text_message};

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    Phone {
        name: String,
    },
    ScanQr {
        name: String,
        text: String,
    },
    LinkCode {
        name: String,
        code: String,
    },
    PasskeyAnswer {
        name: String,
        challenge: String,
    },
    ComparisonCode {
        name: String,
    },
    Unlink {
        name: String,
    },
    Send {
        name: String,
        to: String,
        text: String,
        id: Option<String>,
        #[serde(default)]
        addressing: Addressing,
    },
    Shown {
        name: String,
        #[serde(default)]
        since: usize,
    },
    WaitShown {
        name: String,
        contains: String,
        from: Option<String>,
        #[serde(default)]
        since: usize,
        #[serde(default = "patience")]
        seconds: u64,
    },
    Delivered {
        name: String,
        id: String,
        #[serde(default)]
        seconds: u64,
    },
    Failed {
        name: String,
    },
    Online {
        name: String,
        online: bool,
    },
    ForgetSessions {
        name: String,
        number: String,
    },
    WaitOnline {
        name: String,
        #[serde(default = "patience")]
        seconds: u64,
    },
    Group {
        subject: String,
        members: Vec<String>,
        #[serde(default = "as_new_groups")]
        addressing: Addressing,
    },
    Fault {
        fault: Fault,
        number: Option<String>,
    },
    ClearFaults,
    /// Without `lock` it is taken off.
    LockNewChats {
        number: String,
        #[serde(default)]
        lock: Option<Lock>,
    },
    SetProperty {
        code: u32,
        on: bool,
    },
    GiveToken {
        name: String,
        to: String,
    },
}

/// New groups name their members by LID; only old ones do it by number.
fn as_new_groups() -> Addressing {
    Addressing::Lid
}

/// The server's part of `status`.
pub fn status(server: &WhatsApp) -> Value {
    let phones: Vec<Value> = server.phones().iter().map(|phone| phone_status(server, phone)).collect();
    json!({
        "url": server.url(),
        "http": server.http_url(),
        "resent": server.resent(),
        "connections": server.connections(),
        "phones": phones,
    })
}

pub fn perform(server: &WhatsApp, command: Command) -> anyhow::Result<Value> {
    Ok(match command {
        Command::Phone { name } => {
            let phone = server.phone(&name)?;
            json!({ "number": phone.number(), "lid": phone.lid() })
        }
        Command::ScanQr { name, text } => json!({ "device": server.phone(&name)?.scan_qr(&text)? }),
        Command::LinkCode { name, code } => json!({ "device": server.phone(&name)?.enter_link_code(&code)? }),
        Command::PasskeyAnswer { name, challenge } => {
            let answer = server.phone(&name)?.passkey_answer(&challenge, &Ceremony::default())?;
            json!({ "answer": answer })
        }
        Command::ComparisonCode { name } => json!({ "code": server.phone(&name)?.comparison_code()? }),
        Command::Unlink { name } => {
            server.phone(&name)?.unlink_companions();
            json!({})
        }
        Command::Send { name, to, text, id, addressing } => {
            let how = SendAs { id, addressing };
            json!({ "id": server.phone(&name)?.send(&to, text_message(&text), how)? })
        }
        Command::Shown { name, since } => {
            let shown = server.phone(&name)?.shown();
            json!({ "shown": shown.iter().skip(since).map(entry).collect::<Vec<_>>() })
        }
        Command::WaitShown { name, contains, from, since, seconds } => {
            let phone = server.phone(&name)?;
            let old: Vec<(String, String)> =
                phone.shown().into_iter().take(since).map(|shown| (shown.from, shown.id)).collect();
            let found = phone.wait_for(
                |shown| {
                    shown.text.contains(&contains)
                        && from.as_ref().is_none_or(|from| *from == shown.from)
                        && !old.iter().any(|(from, id)| *from == shown.from && *id == shown.id)
                },
                Duration::from_secs(seconds),
            )?;
            json!({ "shown": entry(&found) })
        }
        Command::Delivered { name, id, seconds } => {
            let phone = server.phone(&name)?;
            let delivered = phone.wait_delivered(&id, Duration::from_secs(seconds)).is_ok();
            json!({ "delivered": delivered, "read": phone.read(&id), "asked_again": phone.asked_again(&id) })
        }
        Command::Failed { name } => {
            json!({ "failed_decryptions": server.phone(&name)?.failed_decryptions() })
        }
        Command::Online { name, online } => {
            server.phone(&name)?.set_online(online);
            json!({})
        }
        Command::ForgetSessions { name, number } => {
            server.phone(&name)?.forget_sessions(&number)?;
            json!({})
        }
        Command::WaitOnline { name, seconds } => {
            server.wait_online(server.phone(&name)?.number(), Duration::from_secs(seconds))?;
            json!({})
        }
        Command::Group { subject, members, addressing } => {
            let members: Vec<Handset> =
                members.iter().map(|name| server.phone(name)).collect::<anyhow::Result<_>>()?;
            let members: Vec<&Handset> = members.iter().collect();
            json!({ "group": server.group(&subject, &members, addressing)? })
        }
        Command::Fault { fault, number } => {
            match number {
                Some(number) => server.fault_on(&number, fault)?,
                None => server.fault(fault)?,
            }
            json!({})
        }
        Command::ClearFaults => {
            server.clear_faults();
            json!({})
        }
        Command::LockNewChats { number, lock } => {
            server.lock_new_chats(&number, lock)?;
            json!({})
        }
        Command::SetProperty { code, on } => {
            server.set_property(code, on);
            json!({})
        }
        Command::GiveToken { name, to } => {
            server.phone(&name)?.give_token(&to)?;
            json!({})
        }
    })
}

fn phone_status(server: &WhatsApp, phone: &Handset) -> Value {
    json!({
        "name": phone.name(),
        "push_name": phone.push_name(),
        "number": phone.number(),
        "lid": phone.lid(),
        "companions": phone.companions(),
        "online": phone.companions_online(),
        "logins": server.logins(phone.number()).unwrap_or_default(),
        "queue": server.queue_len(phone.number()).unwrap_or_default(),
    })
}

fn entry(shown: &Shown) -> Value {
    json!({
        "chat": shown.chat, "from": shown.from, "from_me": shown.from_me, "id": shown.id,
        "text": shown.text, "at": shown.at, "copies": shown.copies,
    })
}
