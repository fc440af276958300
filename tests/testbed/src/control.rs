//! The control port: newline-delimited JSON over TCP, one command object per line, one answer
//! object per line. Usable from a shell:
//!
//! ```sh
//! exec 3<>/dev/tcp/127.0.0.1/$PORT
//! echo '{"do":"phone","name":"Ani"}' >&3; read -r answer <&3
//! ```
//!
//! Every answer has `"ok": true` with its results beside it, or `"ok": false` and `"error"`.
//!
//! | command | further keys | answer |
//! | --- | --- | --- |
//! | `status` | | `url`, `http`, `resent`, `phones`: name, push_name, number, lid, companions, online, queue |
//! | `phone` | `name` (see [`crate::whatsapp::scenario`]) | `number`, `lid`; opens the account if there is none |
//! | `scan_qr` | `name`, `text` | `device` |
//! | `link_code` | `name`, `code` | `device` |
//! | `unlink` | `name` | |
//! | `send` | `name`, `to`, `text`, \[`id`, `addressing` = `pn` or `lid`\] | `id` |
//! | `shown` | `name`, \[`since` = number of entries to skip\] | `shown`: chat, from, from_me, id, text, at, copies |
//! | `wait_shown` | `name`, `contains`, \[`from`, `since`, `seconds` = 30\] | `shown`: the first such entry |
//! | `delivered` | `name`, `id`, \[`seconds` = 0\] | `delivered`, `read`, `asked_again` |
//! | `failed` | `name` | `failed_decryptions` |
//! | `online` | `name`, `online` | |
//! | `forget_sessions` | `name`, `number` | |
//! | `wait_online` | `name`, \[`seconds` = 30\] | |
//! | `group` | `subject`, `members` = names, \[`addressing`\] | `group` |
//! | `fault` | `fault` (see [`Fault`]), \[`number`\] | |
//! | `clear_faults` | | |
//!
//! `fault` is written as `{"kind":"delay","ms":500}`, `{"kind":"iq","xmlns":"usync","code":null}`
//! and so on; without `number` it is for everybody.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::whatsapp::{Addressing, Fault, Handset, SendAs, Shown, WhatsApp, text_message};

/// Seconds that a waiting command waits unless it says else.
const PATIENCE: u64 = 30;

/// Bytes of one command line.
const MAX_LINE: u64 = 1024 * 1024;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    Status,
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
        #[serde(default)]
        addressing: Addressing,
    },
    Fault {
        fault: Fault,
        number: Option<String>,
    },
    ClearFaults,
}

fn patience() -> u64 {
    PATIENCE
}

/// A server with its control port.
pub struct Control {
    server: Arc<WhatsApp>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Control {
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(server: WhatsApp, address: SocketAddr) -> anyhow::Result<Control> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("listening on {address}: is the port taken?"))?;
        let address = listener.local_addr()?;
        Ok(Control { server: Arc::new(server), listener, address })
    }

    pub fn server(&self) -> &WhatsApp {
        &self.server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves control connections, each on a thread of its own, as commands may wait.
    ///
    /// # Errors
    /// When the listener fails.
    pub fn run_forever(self) -> anyhow::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().context("accepting a control connection")?;
            let server = self.server.clone();
            std::thread::spawn(move || {
                if let Err(ended) = converse(&server, stream) {
                    log::debug!("a control connection ended: {ended:#}");
                }
            });
        }
    }
}

fn converse(server: &WhatsApp, stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if std::io::Read::take(&mut reader, MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            continue;
        }
        let mut answer = answer(server, &line).to_string();
        answer.push('\n');
        writer.write_all(answer.as_bytes())?;
    }
}

/// The answer to one command line.
pub fn answer(server: &WhatsApp, line: &str) -> Value {
    let done = serde_json::from_str(line)
        .map_err(|wrong| anyhow::anyhow!("not a command: {wrong}"))
        .and_then(|command| perform(server, command));
    match done {
        Ok(mut results) => {
            results["ok"] = true.into();
            results
        }
        Err(failed) => json!({ "ok": false, "error": format!("{failed:#}") }),
    }
}

fn perform(server: &WhatsApp, command: Command) -> anyhow::Result<Value> {
    Ok(match command {
        Command::Status => {
            let phones: Vec<Value> =
                server.phones().iter().map(|phone| phone_status(server, phone)).collect();
            json!({
                "url": server.url(), "http": server.http_url(), "resent": server.resent(), "phones": phones
            })
        }
        Command::Phone { name } => {
            let phone = server.phone(&name)?;
            json!({ "number": phone.number(), "lid": phone.lid() })
        }
        Command::ScanQr { name, text } => json!({ "device": server.phone(&name)?.scan_qr(&text)? }),
        Command::LinkCode { name, code } => json!({ "device": server.phone(&name)?.enter_link_code(&code)? }),
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
        "queue": server.queue_len(phone.number()).unwrap_or_default(),
    })
}

fn entry(shown: &Shown) -> Value {
    json!({
        "chat": shown.chat, "from": shown.from, "from_me": shown.from_me, "id": shown.id,
        "text": shown.text, "at": shown.at, "copies": shown.copies,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::Options;

    fn ask(server: &WhatsApp, command: Value) -> Value {
        answer(server, &command.to_string())
    }

    #[test]
    fn two_phones_talk_through_the_control_port_s_commands() {
        let server = WhatsApp::start(Options::default()).unwrap();
        let budi = ask(&server, json!({ "do": "phone", "name": "Budi" }));
        let to = budi["number"].as_str().unwrap();
        for (place, addressing) in ["pn", "lid"].into_iter().enumerate() {
            let sent = ask(
                &server,
                json!({ "do": "send", "name": "Ani", "to": to, "text": "halo", "addressing": addressing }),
            );
            assert_eq!(sent["ok"], true, "{sent}");
            let shown = ask(&server, json!({ "do": "shown", "name": "Budi", "since": place }));
            assert_eq!(shown["shown"][0]["id"], sent["id"]);
            assert_eq!(shown["shown"][0]["text"], "halo");
            let delivered = ask(&server, json!({ "do": "delivered", "name": "Ani", "id": sent["id"] }));
            assert_eq!(delivered["delivered"], true);
        }
    }

    #[test]
    fn an_unknown_command_is_answered_with_its_mistake() {
        let server = WhatsApp::start(Options::default()).unwrap();
        for line in ["", "{}", r#"{"do":"dance"}"#, r#"{"do":"fault","fault":{"kind":"delay"}}"#] {
            let answer = answer(&server, line);
            assert_eq!(answer["ok"], false);
            assert!(answer["error"].as_str().unwrap().contains("not a command"), "{answer}");
        }
    }
}
