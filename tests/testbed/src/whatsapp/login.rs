//! From the end of the handshake to live traffic: login, app-state key, backlog, marker.

use wacore_binary::Node;

use super::accounts::{Addressing, DeviceAddress};
use super::faults::LoginFault;
use super::noise::Finished;
use super::pairing::Registration;
use super::stanza::{ib, node};
use super::world::{Outgoing, Peer, SocketId, World};

/// `<failure reason>` for a device that is not, or no longer, linked.
const NOT_LINKED: u16 = 401;

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

    /// The client is ready (`<active/>`): it gets its app-state key, its backlog and the marker.
    pub fn activate(&mut self, id: SocketId, at: DeviceAddress) {
        let Some(companion) = self.companion(at) else { return };
        if companion.socket != Some(id) || companion.drained {
            return;
        }
        companion.drained = true;
        if !std::mem::replace(&mut companion.has_app_state_key, true)
            && let Some(share) = self.app_state_key_share(at)
            && let Some(companion) = self.companion(at)
        {
            companion.queue.push(share, false);
        }
        let held = self.faults.holds_offline(at.account);
        let Some(companion) = self.companion(at) else { return };
        let backlog = if held { Vec::new() } else { companion.queue.backlog() };
        log::info!("device {}:{} gets a backlog of {}", at.account, at.device, backlog.len());
        if !backlog.is_empty() {
            let count = |tag: &str| backlog.iter().filter(|stanza| stanza.tag == tag).count();
            let preview = node("offline_preview")
                .attr("count", backlog.len())
                .attr("message", count("message"))
                .attr("notification", count("notification"))
                .attr("receipt", count("receipt"))
                .attr("appdata", 0u8)
                .attr("call", 0u8)
                .attr("status", 0u8)
                .build();
            self.write(id, ib(preview));
        }
        let count = backlog.len();
        for stanza in backlog {
            self.write(id, stanza);
        }
        self.write(id, ib(node("offline").attr("count", count).build()));
        self.tell_who_is_typing(at);
        self.expect_acknowledgement(at, id);
    }

    /// The phone's peer message with the app-state key for a new companion.
    fn app_state_key_share(&mut self, to: DeviceAddress) -> Option<Node> {
        let now = self.now.unix;
        let id = self.fresh_message_id();
        let message = self.accounts[to.account].primary.phone.app_state_key_share(now);
        let enc = self.encrypt_for(to.account, to, &message)?;
        Some(
            node("message")
                .attr("from", self.accounts[to.account].jid(0, Addressing::Pn))
                .attr("id", id)
                .attr("t", now)
                .attr("type", "text")
                .attr("category", "peer")
                .children([enc])
                .build(),
        )
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
