//! The control port: newline-delimited JSON over TCP, one command object per line, one answer
//! object per line. Usable from a shell:
//!
//! ```sh
//! exec 3<>/dev/tcp/127.0.0.1/$PORT
//! echo '{"do":"phone","name":"Ani"}' >&3; read -r answer <&3
//! ```
//!
//! Every answer has `"ok": true` with its results beside it, or `"ok": false` and `"error"`. One control
//! port drives whatever was started with it: WhatsApp's server, a DNS server, a TCP proxy.
//!
//! | command | further keys | answer |
//! | --- | --- | --- |
//! | `status` | | of WhatsApp: `url`, `http`, `resent`, `connections`, `phones`: name, push_name, number, lid, companions, online, logins, queue; `dns`: queries, and for each transport addresses, queries, connections; `proxy`: address, accepted, open, failed_dials, bytes_to_server, bytes_to_client |
//! | `phone` | `name` (see [`crate::whatsapp::scenario`]) | `number`, `lid`; opens the account if there is none |
//! | `scan_qr` | `name`, `text` | `device` |
//! | `link_code` | `name`, `code` | `device` |
//! | `passkey_answer` | `name`, `challenge` in base64url | `answer`: what a browser gives, for an account of `scenario:passkey:…` |
//! | `comparison_code` | `name` | `code` that the phone shows behind its passkey |
//! | `unlink` | `name` | |
//! | `send` | `name`, `to`, `text`, \[`id`, `addressing` = `pn` or `lid`\] | `id` |
//! | `shown` | `name`, \[`since` = number of entries to skip\] | `shown`: chat, from, from_me, id, text, at, copies |
//! | `wait_shown` | `name`, `contains`, \[`from`, `since`, `seconds` = 30\] | `shown`: the first such entry |
//! | `delivered` | `name`, `id`, \[`seconds` = 0\] | `delivered`, `read`, `asked_again` |
//! | `failed` | `name` | `failed_decryptions` |
//! | `online` | `name`, `online` | |
//! | `forget_sessions` | `name`, `number` | |
//! | `wait_online` | `name`, \[`seconds` = 30\] | |
//! | `group` | `subject`, `members` = names, \[`addressing`: `lid` unless it is an old group\] | `group` |
//! | `fault` | `fault` (see [`crate::Fault`]), \[`number`\] | |
//! | `clear_faults` | | of WhatsApp's server alone |
//! | `lock_new_chats` | `number`, \[`lock`: `ends_at`, `hidden`, `told`\] | without `lock` it is taken off |
//! | `set_property` | `code`, `on` | an A/B property, for clients that log in from now on |
//! | `give_token` | `name`, `to` | |
//! | `dns_host` | `host`, `addresses`, \[`ttl` = 60\] | |
//! | `dns_alias` | `host`, `of`, \[`ttl` = 60\] | |
//! | `dns_forget` | `host` | |
//! | `dns_fault` | `fault` (see [`crate::dns::Fault`]), \[`scope`: `transport`, `name`, `server`; `times`\] | |
//! | `dns_clear_faults` | | |
//! | `dns_die`, `dns_come_back` | | |
//! | `dns_queries` | \[`name`, `transport`\] | `count`, `asked`: transport, name, count |
//! | `dns_wait_queries` | `count`, \[`name`, `transport`, `seconds` = 30\] | `count` |
//! | `proxy_fault` | `fault` (see [`crate::proxy::Fault`]), \[`whom` = `new`, `open` or `all`\] | |
//! | `proxy_clear_faults` | | |
//!
//! `fault` is written as `{"kind":"delay","ms":500}`, `{"kind":"iq","xmlns":"usync","code":null}`
//! and so on; without `number` it is for everybody. A DNS fault without `scope` is everywhere:
//! `{"do":"dns_fault","fault":{"kind":"nxdomain"},"scope":{"transport":"udp"},"times":3}`. The proxy's
//! are for all connections unless `whom` says which, and happen at once unless they say when:
//! `{"do":"proxy_fault","fault":{"kind":"reset","when":{"from_server":1000}},"whom":"new"}`.

mod dns;
mod proxy;
mod whatsapp;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};

use crate::dns::DnsServer;
use crate::proxy::Proxy;
use crate::whatsapp::WhatsApp;

/// Seconds that a waiting command waits unless it says else.
const PATIENCE: u64 = 30;

/// Bytes of one command line.
const MAX_LINE: u64 = 1024 * 1024;

fn patience() -> u64 {
    PATIENCE
}

/// What a control port drives. It stops with the last clone.
#[derive(Clone, Default)]
pub struct Driven {
    pub whatsapp: Option<Arc<WhatsApp>>,
    pub dns: Option<Arc<DnsServer>>,
    pub proxy: Option<Arc<Proxy>>,
}

/// Servers with their control port.
pub struct Control {
    driven: Driven,
    listener: TcpListener,
    address: SocketAddr,
}

impl Control {
    /// # Errors
    /// When the address cannot be listened on.
    pub fn start(driven: Driven, address: SocketAddr) -> anyhow::Result<Control> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("listening on {address}: is the port taken?"))?;
        let address = listener.local_addr()?;
        Ok(Control { driven, listener, address })
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
            let driven = self.driven.clone();
            std::thread::spawn(move || {
                if let Err(ended) = converse(&driven, stream) {
                    log::debug!("a control connection ended: {ended:#}");
                }
            });
        }
    }
}

fn converse(driven: &Driven, stream: TcpStream) -> anyhow::Result<()> {
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
        let mut answer = answer(driven, &line).to_string();
        answer.push('\n');
        writer.write_all(answer.as_bytes())?;
    }
}

/// The answer to one command line.
pub fn answer(driven: &Driven, line: &str) -> Value {
    match perform(driven, line) {
        Ok(mut results) => {
            results["ok"] = true.into();
            results
        }
        Err(failed) => json!({ "ok": false, "error": format!("{failed:#}") }),
    }
}

/// Finds whom a command is for by the start of its name.
fn perform(driven: &Driven, line: &str) -> anyhow::Result<Value> {
    let mut command: Value = understood(serde_json::from_str(line))?;
    let name = command["do"].as_str().unwrap_or_default().to_owned();
    if name == "status" {
        return Ok(status(driven));
    }
    if let Some(name) = name.strip_prefix("dns_") {
        let server = driven.dns.as_ref().context("no DNS server was started here")?;
        command["do"] = name.into();
        return dns::perform(server, understood(serde_json::from_value(command))?);
    }
    if let Some(name) = name.strip_prefix("proxy_") {
        let proxy = driven.proxy.as_ref().context("no proxy was started here")?;
        command["do"] = name.into();
        return proxy::perform(proxy, understood(serde_json::from_value(command))?);
    }
    let server = driven.whatsapp.as_ref().context("no WhatsApp server was started here")?;
    whatsapp::perform(server, understood(serde_json::from_value(command))?)
}

fn understood<T>(read: serde_json::Result<T>) -> anyhow::Result<T> {
    read.map_err(|wrong| anyhow::anyhow!("not a command: {wrong}"))
}

fn status(driven: &Driven) -> Value {
    let mut status = driven.whatsapp.as_ref().map_or_else(|| json!({}), |server| whatsapp::status(server));
    if let Some(server) = &driven.dns {
        status["dns"] = dns::status(server);
    }
    if let Some(server) = &driven.proxy {
        status["proxy"] = proxy::status(server);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::Options;
    use crate::{dns as dns_server, proxy as tcp_proxy};

    fn whatsapp() -> Driven {
        let server = WhatsApp::start(Options::default()).unwrap();
        Driven { whatsapp: Some(Arc::new(server)), ..Driven::default() }
    }

    fn ask(driven: &Driven, command: Value) -> Value {
        answer(driven, &command.to_string())
    }

    #[test]
    fn two_phones_talk_through_the_control_port_s_commands() {
        let server = whatsapp();
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
        let server = whatsapp();
        for line in ["", "{}", "7", r#"{"do":"dance"}"#, r#"{"do":"fault","fault":{"kind":"delay"}}"#] {
            let answer = answer(&server, line);
            assert_eq!(answer["ok"], false);
            assert!(answer["error"].as_str().unwrap().contains("not a command"), "{answer}");
        }
    }

    #[test]
    fn one_control_port_drives_whatever_was_started_and_says_what_was_not() {
        let dns = DnsServer::start(dns_server::Options::default()).unwrap();
        let to = dns.address(dns_server::Transport::Tcp).unwrap();
        let mut driven = Driven { dns: Some(Arc::new(dns)), ..Driven::default() };
        let fault = json!({ "do": "proxy_fault", "fault": { "kind": "refuse" }, "whom": "new" });
        assert!(ask(&driven, fault.clone())["error"].as_str().unwrap().contains("no proxy"));
        assert!(
            ask(&driven, json!({ "do": "phone", "name": "Ani" }))["error"]
                .as_str()
                .unwrap()
                .contains("no WhatsApp")
        );

        driven.proxy = Some(Arc::new(Proxy::start(tcp_proxy::Options::to(to)).unwrap()));
        for command in [
            fault,
            json!({ "do": "proxy_clear_faults" }),
            json!({ "do": "proxy_fault", "fault": { "kind": "cut", "when": { "from_server": 10 } } }),
            json!({ "do": "dns_host", "host": "a.example", "addresses": ["10.0.0.1", "::1"] }),
            json!({ "do": "dns_alias", "host": "b.example", "of": "a.example", "ttl": 1 }),
            json!({ "do": "dns_forget", "host": "b.example" }),
            json!({ "do": "dns_fault", "fault": { "kind": "drop", "percent": 20 } }),
            json!({ "do": "dns_fault", "fault": { "kind": "empty" }, "scope": { "transport": "udp" }, "times": 1 }),
            json!({ "do": "dns_clear_faults" }),
            json!({ "do": "dns_die" }),
            json!({ "do": "dns_come_back" }),
            json!({ "do": "dns_wait_queries", "count": 0 }),
        ] {
            let answer = ask(&driven, command.clone());
            assert_eq!(answer["ok"], true, "{command}: {answer}");
        }
        let queries = ask(&driven, json!({ "do": "dns_queries", "transport": "udp" }));
        assert_eq!((&queries["count"], &queries["asked"]), (&json!(0), &json!([])));
        let status = ask(&driven, json!({ "do": "status" }));
        assert_eq!(status["dns"]["tcp"]["addresses"], json!([to]));
        assert_eq!(status["proxy"]["accepted"], 0);
    }
}
