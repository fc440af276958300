//! Linking, as far as it is done with WhatsApp: tells [`Pairing`](crate::pairing::Pairing) what comes, carries
//! out the operator's orders, and keeps what whatsapp-rust does on its own from getting in their way.
//!
//! * Its QR codes rotate on while a passkey is waited for; 160 s after the first it hangs up for good, unless
//!   a link code is outstanding. Where the number is known, one is asked for shortly before.
//! * 60 s after the phone took a link code it gives that up and makes a new ADV secret, which would overwrite
//!   one that was confirmed just before. Nothing is confirmed around that moment, and the new link code that
//!   it proposes then is not wanted.
//! * QR codes rotate on when their connection is lost, too, beside those of the next one, and hang up on that
//!   at their end. So a client that has shown codes makes one connection only.
//! * What it keeps of a passkey's handshake is never cleared, not by a lost connection either. So every such
//!   try that does not go on ends its client, and another one begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::{or, pending, poll_once};
use wacore_binary::OwnedNodeRef;
use whatsapp_rust::Client;
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::passkey::Assertion;

use super::Connection;
use super::ends::End;
use crate::clock;
use crate::pairing::{Happened, Order, PasskeyRequest, Proof, Stage, Trouble};

/// Six QR codes: 60 s for the first, 20 s for each of the others.
const QR_CODES_LAST: Duration = Duration::from_secs(160);

/// When a link code is asked for that keeps the connection: late, as it lives for 180 s itself, and with time
/// left for the request.
const KEEP_OPEN_AFTER: Duration = Duration::from_secs(145);

/// Around the moment at which whatsapp-rust makes a new ADV secret, counted from the phone's answer to a link
/// code: 60 s, with room for a request that is under way and for timers that are late.
const NO_CONFIRMATION_FROM: Duration = Duration::from_secs(50);
const NO_CONFIRMATION_UNTIL: Duration = Duration::from_secs(62);

/// What whatsapp-rust says of a hosted account whose companions are end-to-end encrypted: it expects the
/// signature of a hosted companion.
const OF_A_HOSTED_ACCOUNT: &str = "signature-mismatch";

/// What is known of the codes of the present connection.
#[derive(Debug, Default)]
pub(super) struct Codes {
    /// When its first QR code came.
    first_qr: Option<Instant>,
    /// When the phone answered its link code.
    link_code_taken: Option<Instant>,
    /// Whether they come beside a link code, whose number is known.
    by_code: bool,
}

impl Connection {
    /// A client begins.
    pub(super) async fn linking_begins(&self, by_code: bool) {
        // What ended the client before does not end this one.
        let _ = poll_once(self.shared.link_over.heard()).await;
        self.state().codes = Codes { by_code, ..Codes::default() };
        self.shared.pairing.happened(Happened::Begun { by_code }, clock::now());
    }

    pub(super) fn linking(&self, what: Happened) {
        self.shared.pairing.happened(what, clock::now());
    }

    pub(super) fn is_behind_passkey(&self) -> bool {
        self.shared.pairing.linking().stage.behind_passkey()
    }

    /// The try to link is over. Ends the client; another one begins anew, at once or much later.
    pub(super) fn linking_failed(&self, trouble: Trouble) {
        let end = match trouble {
            Trouble::Hosted => End::HostedAccount,
            _ => End::LinkAnew,
        };
        self.linking(Happened::Ended(trouble));
        self.state().end.get_or_insert(end);
        self.shared.link_over.ring();
    }

    /// Whether it is known already why the present connection ends.
    pub(super) fn has_ended(&self) -> bool {
        self.state().end.is_some()
    }

    /// Whether the client has shown codes that nobody has used: they go on rotating when the connection that
    /// they came on is lost, and at their end whatsapp-rust hangs up.
    pub(super) fn has_codes_left(&self) -> bool {
        self.state().codes.first_qr.is_some() && self.shared.pairing.linking().stage != Stage::Done
    }

    pub(super) fn qr_code_came(&self, code: &str, valid: Duration) {
        if self.has_ended() {
            return;
        }
        self.state().codes.first_qr.get_or_insert_with(clock::now);
        self.linking(Happened::QrCode { code: code.to_owned(), valid });
    }

    /// Looks for the phone's answer to a link code, of which whatsapp-rust makes no event.
    pub(super) fn look_for_link_code_taken(&self, stanza: &OwnedNodeRef) {
        if stanza.tag() != "notification" {
            return;
        }
        let step = stanza.get().get_optional_child_by_tag(&["link_code_companion_reg"]);
        let stage =
            step.and_then(|step| step.get_attr("stage").map(|stage| stage.as_str() == "primary_hello"));
        if stage == Some(true) {
            self.state().codes.link_code_taken = Some(clock::now());
        }
    }

    pub(super) fn passkey_asked(&self, options: &str) {
        let request = match PasskeyRequest::parse(options) {
            Ok(request) => request,
            Err(error) => return self.linking_failed(Trouble::BrokenOff(error.to_string())),
        };
        log::info!("connection: WhatsApp asks for a passkey before it links this device");
        let within = {
            let mut state = self.state();
            // The code has done its part: nobody waits for it to be used, and no other one is wanted.
            state.link_code_until = None;
            let qr_codes_left = state
                .codes
                .first_qr
                .map_or(QR_CODES_LAST, |first| QR_CODES_LAST.saturating_sub(clock::since(first)));
            if state.codes.by_code { request.timeout } else { request.timeout.min(qr_codes_left) }
        };
        self.linking(Happened::PasskeyAsked { request, within });
    }

    /// The phone has shown its key. `needless`: an earlier link proves enough, and nobody has to compare.
    pub(super) fn code_to_compare(&self, code: &str, needless: bool) {
        self.linking(Happened::CodeToCompare { code: code.to_owned(), needless });
    }

    pub(super) fn pair_error(&self, error: &str) {
        log::warn!("connection: pairing failed: {error}");
        self.linking_failed(match error.contains(OF_A_HOSTED_ACCOUNT) {
            true => Trouble::Hosted,
            false => Trouble::BrokenOff(error.to_owned()),
        });
    }

    /// Sees linking through on `client`. `options`: of the link code, if it is by one. Never returns.
    pub(super) async fn see_linking_through<T>(
        &self,
        client: &Arc<Client>,
        options: Option<PairCodeOptions>,
    ) -> T {
        let over = async {
            self.shared.link_over.heard().await;
            client.disconnect().await;
            pending().await
        };
        or(
            over,
            or(self.carry_out_orders(client), or(self.watch_the_time(), self.keep_open(client, options))),
        )
        .await
    }

    async fn carry_out_orders<T>(&self, client: &Arc<Client>) -> T {
        loop {
            match self.shared.pairing.order().await {
                Order::Prove(Proof { credential_id, json }) => {
                    let assertion = Assertion { assertion_json: json, credential_id };
                    if let Err(error) = client.send_passkey_response(assertion).await {
                        log::warn!("connection: WhatsApp did not take the passkey's answer: {error}");
                        if !client.is_connected() {
                            // It may not even have it; what follows is said by the end of the connection.
                            continue;
                        }
                        self.linking(Happened::ProofRefused(error.to_string()));
                        if !self.is_behind_passkey() {
                            self.state().end.get_or_insert(End::LinkAnew);
                            self.shared.link_over.ring();
                        }
                    }
                }
                Order::Confirm => self.confirm(client).await,
                Order::Deny => self.linking_failed(Trouble::CodesDiffer),
            }
        }
    }

    async fn confirm(&self, client: &Arc<Client>) {
        let taken = self.state().codes.link_code_taken;
        if let Some(wait) = taken.and_then(|taken| confirmation_waits(clock::since(taken))) {
            log::info!("connection: the confirmation waits {} s for whatsapp-rust's timer", wait.as_secs());
            clock::sleep(wait).await;
        }
        if let Err(error) = client.send_passkey_confirmation().await {
            self.linking_failed(Trouble::BrokenOff(error.to_string()));
        }
    }

    /// Ends what lasts longer than it may behind a passkey.
    async fn watch_the_time<T>(&self) -> T {
        let pairing = &self.shared.pairing;
        loop {
            let linking = pairing.linking();
            let until = linking.stage.until().filter(|_| linking.stage.behind_passkey());
            let over = async {
                let Some(until) = until else { return pending().await };
                clock::sleep(until.saturating_duration_since(clock::now())).await;
                true
            };
            let changed = async {
                pairing.changed_since(linking.version).await;
                false
            };
            if or(changed, over).await {
                self.linking_failed(Trouble::Late);
            }
        }
    }

    /// Keeps whatsapp-rust from hanging up when its QR codes run out while a passkey is waited for, if the
    /// number is known.
    async fn keep_open<T>(&self, client: &Arc<Client>, options: Option<PairCodeOptions>) -> T {
        let Some(options) = options else { return pending().await };
        let first_qr = loop {
            let version = self.shared.pairing.linking().version;
            if let Some(first) = { self.state().codes.first_qr } {
                break first;
            }
            self.shared.pairing.changed_since(version).await;
        };
        clock::sleep(KEEP_OPEN_AFTER.saturating_sub(clock::since(first_qr))).await;
        if self.is_behind_passkey() {
            // Nobody is to type it: the phone need not ring.
            let quiet = PairCodeOptions { show_push_notification: false, ..options };
            match client.pair_with_code(quiet).await {
                Ok(_) => log::info!("connection: a link code keeps the connection open for the passkey"),
                Err(error) => log::warn!("connection: no link code to keep the connection open: {error}"),
            }
        }
        pending().await
    }
}

/// How long a confirmation has to wait, so long after the phone took the link code.
fn confirmation_waits(taken: Duration) -> Option<Duration> {
    (NO_CONFIRMATION_FROM..NO_CONFIRMATION_UNTIL).contains(&taken).then(|| NO_CONFIRMATION_UNTIL - taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_confirmed_around_the_moment_at_which_the_secret_changes() {
        let wait = |seconds| confirmation_waits(Duration::from_secs(seconds)).map(|wait| wait.as_secs());
        assert_eq!([wait(0), wait(49), wait(62), wait(300)], [None; 4]);
        assert_eq!([wait(50), wait(60), wait(61)], [Some(12), Some(2), Some(1)]);
    }
}
