//! Linking the bot to a phone: where it stands, and what the operator adds to it.
//!
//! One state ([`Linking`]) that anybody may read at any time: the terminal does, a page can. It is told what
//! happens by the connection to WhatsApp, which alone talks to it, and takes the operator's part as orders
//! that the connection carries out.
//!
//! ```text
//! QR code ──┐                                       ┌─ code to compare ─ confirmed ─┐
//!           ├─▶ (passkey asked for ─ proof sent ────┤                              ├─)─▶ done
//! link code ┘                                       └─ none: an earlier link proves it
//! ```
//!
//! The part in brackets is WhatsApp's gate since the middle of 2026, for some accounts, business accounts
//! above all: a device is linked only if one of the account's passkeys signs a challenge. The private key
//! lies in a phone or a password manager, and it signs only in a page of web.whatsapp.com. So the operator
//! runs one line in a browser's console there ([`browser`]), and pastes what comes out ([`answer`]).
//!
//! None of this could be tried against WhatsApp's own server: it is what whatsapp-rust does, and what people
//! with other clients report. So whatever does not go on is ended, explained, and begun anew with another
//! client, and none of it is waited for without an end.
//!
//! Pure but for [`Pairing`], the lock around the state: time is an argument.

pub mod answer;
pub mod browser;
pub mod request;
mod standing;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use event_listener::Event;

pub use answer::{AnswerError, Proof};
pub use request::{PasskeyRequest, RequestError};
pub use standing::{Happened, Linking, Obstacle, Stage, Trouble};

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Give WhatsApp what the passkey signed.
    Prove(Proof),
    /// The phone shows the same code: go on.
    Confirm,
    /// The phone shows another code, or none: end it.
    Deny,
}

/// Where linking stands; clones share it.
#[derive(Clone, Default)]
pub struct Pairing {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Event,
}

#[derive(Default)]
struct Board {
    linking: Linking,
    /// The last order, until it is carried out; a newer one takes its place.
    order: Option<Order>,
}

impl Pairing {
    /// Where linking stands now.
    pub fn linking(&self) -> Linking {
        self.board().linking.clone()
    }

    /// Returns once linking stands otherwise than it did at `version`. For any number of readers.
    pub async fn changed_since(&self, version: u64) {
        loop {
            let listener = self.shared.changed.listen();
            if self.board().linking.version != version {
                return;
            }
            listener.await;
        }
    }

    /// For whoever talks to WhatsApp: something happened.
    pub fn happened(&self, what: Happened, now: Instant) {
        {
            let mut board = self.board();
            let confirmed_already = matches!(&what, Happened::CodeToCompare { needless: true, .. });
            board.linking.happened(what, now);
            if confirmed_already {
                board.order = Some(Order::Confirm);
            }
            if !board.linking.stage.takes_orders() {
                board.order = None;
            }
        }
        self.shared.changed.notify(usize::MAX);
    }

    /// The operator's answer to the passkey request: `text` as pasted, complete.
    ///
    /// # Errors
    /// What is wrong with it, or that nothing is asked. Nothing has changed then.
    pub fn answer(&self, text: &str, now: Instant) -> Result<(), AnswerError> {
        let Stage::PasskeyAsked { request, .. } = self.linking().stage else {
            return Err(AnswerError::NotAsked);
        };
        let proof = answer::check(text, &request)?;
        self.board().order = Some(Order::Prove(proof));
        self.happened(Happened::Answered, now);
        Ok(())
    }

    /// Whether the phone shows the same code. Ignored unless there is one to compare.
    pub fn compared(&self, same: bool, now: Instant) {
        if !matches!(self.linking().stage, Stage::Comparing { confirmed: false, .. }) {
            return;
        }
        self.board().order = Some(if same { Order::Confirm } else { Order::Deny });
        self.happened(if same { Happened::Confirmed } else { Happened::Denied }, now);
    }

    /// The next order, for the one who carries them out.
    pub async fn order(&self) -> Order {
        loop {
            let listener = self.shared.changed.listen();
            if let Some(order) = self.board().order.take() {
                return order;
            }
            listener.await;
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.shared.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_lite::future::poll_once;

    use super::*;
    use crate::clock;

    fn asked(pairing: &Pairing, now: Instant) {
        let request = PasskeyRequest::parse(request::tests::OPTIONS).unwrap();
        pairing.happened(Happened::PasskeyAsked { request, within: Duration::from_secs(100) }, now);
    }

    #[test]
    fn every_reader_sees_a_change_and_an_order_is_carried_out_once() {
        smol::block_on(async {
            let (pairing, now) = (Pairing::default(), clock::now());
            let version = pairing.linking().version;
            assert!(poll_once(pairing.changed_since(version)).await.is_none());
            let (mut one, mut two) =
                (Box::pin(pairing.changed_since(version)), Box::pin(pairing.changed_since(version)));
            assert!(poll_once(&mut one).await.is_none() && poll_once(&mut two).await.is_none());
            asked(&pairing, now);
            assert!(poll_once(&mut one).await.is_some() && poll_once(&mut two).await.is_some());

            pairing.answer(&answer::tests::right(), now).unwrap();
            assert!(matches!(poll_once(pairing.order()).await, Some(Order::Prove(_))));
            assert!(poll_once(pairing.order()).await.is_none());
        });
    }

    #[test]
    fn what_is_not_asked_for_changes_nothing() {
        let (pairing, now) = (Pairing::default(), clock::now());
        let before = pairing.linking();
        assert_eq!(pairing.answer(&answer::tests::right(), now), Err(AnswerError::NotAsked));
        pairing.compared(true, now);
        assert_eq!(pairing.linking(), before);
    }

    #[test]
    fn a_code_that_nobody_needs_to_compare_is_confirmed_at_once() {
        smol::block_on(async {
            let (pairing, now) = (Pairing::default(), clock::now());
            asked(&pairing, now);
            pairing.answer(&answer::tests::right(), now).unwrap();
            assert!(poll_once(pairing.order()).await.is_some());
            let code = |needless| Happened::CodeToCompare { code: "ABCD-EFGH".into(), needless };
            pairing.happened(code(false), now);
            assert!(poll_once(pairing.order()).await.is_none());
            pairing.happened(code(true), now);
            assert_eq!(poll_once(pairing.order()).await, Some(Order::Confirm));
        });
    }

    #[test]
    fn an_order_does_not_outlive_what_it_was_for() {
        smol::block_on(async {
            let (pairing, now) = (Pairing::default(), clock::now());
            asked(&pairing, now);
            pairing.answer(&answer::tests::right(), now).unwrap();
            pairing.happened(Happened::Ended(Trouble::Late), now);
            assert!(poll_once(pairing.order()).await.is_none());
        });
    }
}
