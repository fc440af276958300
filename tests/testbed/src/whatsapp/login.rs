//! From the end of the handshake to live traffic: login, backlog, marker.

use std::time::Duration;

use wacore_binary::Node;

use super::accounts::{Addressing, DeviceAddress};
use super::faults::LoginFault;
use super::noise::Finished;
use super::pairing::Registration;
use super::stanza::{Stanza, ib, node};
use super::world::{Later, Outgoing, Peer, SocketId, World};

/// `<failure reason>` for a device that is not, or no longer, linked.
const NOT_LINKED: u16 = 401;

/// Stanzas of a backlog that come before anybody asks for them.
const PRIMER: usize = 5;

/// Time for a client to ask for more of its backlog. Some ask once and others never, and get it too.
const UNASKED: Duration = Duration::from_secs(2);

impl World {
    /// A client finished its handshake.
    ///
    /// `None` when it was turned away.
    ///
    /// # Errors
    /// When its payload is unusable; the socket must be dropped.
    pub fn client_arrived(
        &mut self,
        out: async_channel::Sender<Outgoing>,
        finished: &Finished,
    ) -> anyhow::Result<Option<SocketId>> {
        let payload = &finished.payload;
        let Some(username) = payload.username else {
            let registration = Registration::new(finished.client_static, payload.clone())?;
            let id = self.open_socket(out, Peer::Unpaired(Box::new(registration)));
            log::info!("socket {id}: a client wants to be linked");
            self.offer_pairing(id);
            return Ok(Some(id));
        };
        let known = self.account_of_user(&username.to_string()).and_then(|account| {
            let device = u16::try_from(payload.device.unwrap_or(0)).ok()?;
            let companion = self.accounts[account].companions.get(&device)?;
            (companion.noise == finished.client_static).then_some(DeviceAddress { account, device })
        });
        let Some(at) = known else {
            log::info!("a login was refused: no such device, or another Noise key");
            fail_login(&out, NOT_LINKED, &[]);
            return Ok(None);
        };
        if let Some(LoginFault { reason, attrs }) = self.faults.fails_login(at.account) {
            fail_login(&out, reason, &attrs);
            return Ok(None);
        }
        Ok(Some(self.log_in(at, out)))
    }

    fn log_in(&mut self, at: DeviceAddress, out: async_channel::Sender<Outgoing>) -> SocketId {
        let id = self.open_socket(out, Peer::Device(at));
        self.accounts[at.account].logins += 1;
        let Some(companion) = self.companion(at) else { return id };
        companion.drained = false;
        companion.handed_out = None;
        companion.queue.forget_written();
        companion.available = false;
        if let Some(old) = companion.socket.replace(id) {
            let conflict = node("conflict").attr("type", "replaced").build();
            self.write(old, node("stream:error").children([conflict]).build());
            self.close(old);
        }
        log::info!("device {}:{} came online on socket {id}", at.account, at.device);
        // Subscriptions end with the connection.
        for account in &mut self.accounts {
            account.subscribers.remove(&at);
        }
        let success = node("success")
            .attr("t", self.now.unix)
            .attr("lid", self.jid(at, Addressing::Lid))
            .attr("creation", self.now.unix)
            .attr("location", "cgk")
            .build();
        self.write(id, success);
        id
    }

    /// The client is ready (`<active/>`): it hears how much waits, gets the beginning of it, the rest in batches
    /// as it asks for them, and the marker.
    pub fn activate(&mut self, id: SocketId, at: DeviceAddress) {
        let Some(companion) = self.companion(at) else { return };
        if companion.socket != Some(id) || companion.drained || companion.handed_out.is_some() {
            return;
        }
        if self.faults.holds_offline(at.account) {
            return self.backlog_is_over(id, at, 0);
        }
        let Some(companion) = self.companion(at) else { return };
        let tags = companion.queue.start_backlog();
        log::info!("device {}:{} gets a backlog of {}", at.account, at.device, tags.len());
        if tags.is_empty() {
            return self.backlog_is_over(id, at, 0);
        }
        companion.handed_out = Some(0);
        let count = |tag: &str| tags.iter().filter(|waiting| *waiting == tag).count();
        let preview = node("offline_preview")
            .attr("count", tags.len())
            .attr("message", count("message"))
            .attr("notification", count("notification"))
            .attr("receipt", count("receipt"))
            .attr("appdata", 0u8)
            .attr("call", 0u8)
            .attr("status", 0u8)
            .build();
        self.write(id, ib(preview));
        self.hand_out(id, at, PRIMER);
    }

    /// `<ib>` of a client: `<offline_batch count="200"/>` asks for so much more of the backlog. Nothing follows
    /// from anything else.
    pub fn on_ib(&mut self, id: SocketId, at: DeviceAddress, request: &Node) {
        let asked = request.child("offline_batch").and_then(|batch| batch.attr("count")?.parse().ok());
        if let Some(count) = asked {
            self.hand_out(id, at, count);
        }
    }

    /// Nobody asked for more since so many stanzas of the backlog were handed out: the rest comes all the same.
    pub fn hand_out_rest(&mut self, id: SocketId, at: DeviceAddress, handed_out: usize) {
        if self.companion(at).is_some_and(|companion| companion.handed_out == Some(handed_out)) {
            self.hand_out(id, at, usize::MAX);
        }
    }

    fn hand_out(&mut self, id: SocketId, at: DeviceAddress, count: usize) {
        let Some(companion) = self.companion(at).filter(|companion| companion.socket == Some(id)) else {
            return;
        };
        let Some(before) = companion.handed_out else { return };
        let batch = companion.queue.batch(before, count);
        let handed_out = before + batch.len();
        companion.handed_out = Some(handed_out);
        let more = companion.queue.has_backlog();
        for stanza in batch {
            self.write(id, stanza);
        }
        match more {
            true => self.after(UNASKED, Later::RestOfBacklog { to: at, socket: id, handed_out }),
            false => self.backlog_is_over(id, at, handed_out),
        }
    }

    /// The marker, and what came meanwhile.
    fn backlog_is_over(&mut self, id: SocketId, at: DeviceAddress, handed_out: usize) {
        self.write(id, ib(node("offline").attr("count", handed_out).build()));
        let held = self.faults.holds_offline(at.account);
        let Some(companion) = self.companion(at) else { return };
        companion.handed_out = None;
        companion.drained = true;
        let live = if held { Vec::new() } else { companion.queue.take_unwritten() };
        for stanza in live {
            self.write(id, stanza);
        }
        self.tell_who_is_typing(at);
        self.expect_acknowledgement(at, id);
    }
}

/// `<failure>` and the end of the stream, to a client that gets no further than this.
fn fail_login(out: &async_channel::Sender<Outgoing>, reason: u16, attrs: &[(String, String)]) {
    let mut failure = node("failure").attr("reason", reason).build();
    for (key, value) in attrs {
        failure.attrs.insert(key.clone(), value.as_str());
    }
    // A fresh queue has room; if its socket is gone already, nobody misses the answer.
    let _ = out.try_send(Outgoing::Stanza(failure));
    let _ = out.try_send(Outgoing::Close);
}

#[cfg(test)]
mod tests {
    use super::super::linked::{COMPANION, Linked};
    use super::super::primary::{SendAs, text_message};
    use super::*;

    /// Ani's companion, ready to say that it is ready, with so many messages waiting for it.
    fn away(waiting: usize) -> Linked {
        let mut linked = Linked::new();
        if let Some(companion) = linked.world.companion(COMPANION) {
            companion.drained = false;
        }
        write(&mut linked, waiting);
        assert!(linked.written().is_empty());
        linked
    }

    fn write(linked: &mut Linked, messages: usize) {
        let budi = linked.world.account_named("Budi");
        let ani = linked.world.accounts[0].number.clone();
        for n in 0..messages {
            let message = text_message(&format!("pesan {n}"));
            linked.world.phone_sends(budi, &ani, message, SendAs::default()).unwrap();
        }
        linked.world.settle();
    }

    /// What was written since the last look: for a message its place in the backlog, for an `<ib>` what it says.
    fn came(linked: &mut Linked) -> Vec<String> {
        let written = linked.written();
        let said = written.iter().map(|stanza| match stanza.first_child() {
            Some(child) if stanza.tag == "ib" => format!("{} {}", child.tag, child.attr("count").unwrap()),
            _ => stanza.attr("offline").map_or("live".into(), |place| place.into_owned()),
        });
        said.collect()
    }

    fn ask(linked: &mut Linked, count: usize) -> Vec<String> {
        let batch = node("offline_batch").attr("count", count).build();
        linked.world.on_stanza(linked.socket, node("ib").children([batch]).build());
        came(linked)
    }

    fn places(from: usize, to: usize) -> Vec<String> {
        (from..to).map(|place| place.to_string()).collect()
    }

    /// Twenty messages, and the token of who wrote them.
    const BACKLOG: usize = 21;

    #[test]
    fn a_backlog_is_announced_begun_and_goes_on_as_it_is_asked_for() {
        let mut linked = away(20);
        linked.world.activate(linked.socket, COMPANION);
        let first = came(&mut linked);
        assert_eq!(first[0], format!("offline_preview {BACKLOG}"));
        assert_eq!(first[1..], places(0, PRIMER));
        // What comes meanwhile comes behind it.
        write(&mut linked, 1);
        assert_eq!(came(&mut linked), [""; 0]);
        assert_eq!(ask(&mut linked, 10), places(PRIMER, PRIMER + 10));
        let last = ask(&mut linked, 200);
        let (rest, then) = last.split_at(BACKLOG - PRIMER - 10);
        assert_eq!(rest, places(PRIMER + 10, BACKLOG));
        assert_eq!(then, [format!("offline {BACKLOG}"), "live".into()]);
        assert_eq!(ask(&mut linked, 200), [""; 0]);
        write(&mut linked, 1);
        assert_eq!(came(&mut linked), ["live"]);
    }

    #[test]
    fn a_client_that_asks_for_nothing_gets_its_backlog_later() {
        let mut linked = away(20);
        linked.world.activate(linked.socket, COMPANION);
        came(&mut linked);
        linked.world.now.instant += UNASKED / 2;
        linked.world.run_timers();
        assert_eq!(came(&mut linked), [""; 0]);
        linked.world.now.instant += UNASKED;
        linked.world.run_timers();
        let rest = came(&mut linked);
        let (rest, then) = rest.split_at(BACKLOG - PRIMER);
        assert_eq!(rest, places(PRIMER, BACKLOG));
        assert_eq!(then, [format!("offline {BACKLOG}")]);
    }

    #[test]
    fn nothing_that_waits_is_a_marker_alone() {
        let mut linked = away(0);
        linked.world.activate(linked.socket, COMPANION);
        assert_eq!(came(&mut linked), ["offline 0"]);
    }
}
