//! Where linking stands, and what follows what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::request::PasskeyRequest;

/// How long a proof may stay without the phone's answer, and a confirmation without the end. WhatsApp's own
/// answers come within 75 s, or whatsapp-rust gives up on them.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// How long the operator may compare codes.
const COMPARE_WITHIN: Duration = Duration::from_secs(180);

/// Proofs that WhatsApp may refuse before a new challenge is asked for: whether a refused one uses the
/// challenge up is not known, so there is one more try, and no third.
const MOST_REFUSALS: u32 = 2;

/// Where linking is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stage {
    /// Nothing to do: there is a session, or no connection to make one on.
    #[default]
    Idle,
    /// To be scanned with the phone.
    QrCode { code: String, until: Instant },
    /// To be typed into the phone.
    LinkCode { code: String, until: Instant },
    /// WhatsApp wants one of the account's passkeys to sign.
    PasskeyAsked { request: Arc<PasskeyRequest>, since: Instant, until: Instant },
    /// What it signed goes to WhatsApp; the phone answers.
    ProofSent { since: Instant, until: Instant },
    /// The phone shows a code: is it this one?
    Comparing { code: String, confirmed: bool, since: Instant, until: Instant },
    /// No further try would end otherwise.
    Refused(Obstacle),
    /// The phone has accepted.
    Done,
}

impl Stage {
    /// A stable word for machines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::QrCode { .. } => "qr_code",
            Self::LinkCode { .. } => "link_code",
            Self::PasskeyAsked { .. } => "passkey_asked",
            Self::ProofSent { .. } => "proof_sent",
            Self::Comparing { .. } => "comparing",
            Self::Refused(_) => "refused",
            Self::Done => "done",
        }
    }

    /// Between the request for a passkey and the end. What whatsapp-rust keeps of it belongs to one client
    /// and one connection.
    pub const fn behind_passkey(&self) -> bool {
        matches!(self, Self::PasskeyAsked { .. } | Self::ProofSent { .. } | Self::Comparing { .. })
    }

    /// Whether it needs somebody who types.
    pub const fn waits_for_somebody(&self) -> bool {
        matches!(self, Self::PasskeyAsked { .. } | Self::Comparing { confirmed: false, .. })
    }

    pub(super) const fn takes_orders(&self) -> bool {
        matches!(self, Self::ProofSent { .. } | Self::Comparing { .. })
    }

    /// Until when this stage may last; `None`: for as long as it likes.
    pub const fn until(&self) -> Option<Instant> {
        match self {
            Self::QrCode { until, .. }
            | Self::LinkCode { until, .. }
            | Self::PasskeyAsked { until, .. }
            | Self::ProofSent { until, .. }
            | Self::Comparing { until, .. } => Some(*until),
            Self::Idle | Self::Refused(_) | Self::Done => None,
        }
    }
}

/// What stands between this account and a linked bot, as far as this process has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A passkey has to sign: somebody at a terminal can do that.
    Passkey,
    /// The account is hosted by a business's server too ("coexistence"); this client cannot be linked to it.
    Hosted,
}

/// Why a try to link came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// WhatsApp gave no link code; its reason.
    NoLinkCode(String),
    /// WhatsApp refused what the passkey signed; its reason. `again`: the same request may be answered once
    /// more.
    ProofRefused { reason: String, again: bool },
    /// Nobody answered in time, or what was sent was not answered.
    Late,
    /// The operator saw another code on the phone, or none.
    CodesDiffer,
    /// The connection was lost in the middle.
    LineLost,
    /// WhatsApp or the client broke it off; the reason.
    BrokenOff(String),
    /// See [`Obstacle::Hosted`].
    Hosted,
}

/// Something that moves linking on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A new client begins. `by_code`: the operator wants a link code, so that no QR code is shown unless
    /// that is refused.
    Begun {
        by_code: bool,
    },
    /// A QR code is good for so long.
    QrCode {
        code: String,
        valid: Duration,
    },
    LinkCode {
        code: String,
        valid: Duration,
    },
    LinkCodeRefused(String),
    /// No code was used while it was good.
    CodesUnused,
    /// WhatsApp asks for a passkey; at most so much time is left for all that follows.
    PasskeyAsked {
        request: PasskeyRequest,
        within: Duration,
    },
    /// The operator gave an answer that looks right.
    Answered,
    /// WhatsApp did not take the answer.
    ProofRefused(String),
    /// The phone has shown its key. `needless`: an earlier link proves enough.
    CodeToCompare {
        code: String,
        needless: bool,
    },
    Confirmed,
    Denied,
    /// The try is over; another client begins anew unless this is [`Trouble::Hosted`].
    Ended(Trouble),
    /// The phone accepted.
    Linked,
}

/// Where linking stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Linking {
    pub stage: Stage,
    /// Grows with every change.
    pub version: u64,
    /// The last trouble, and how many there were: a reader that counts misses none but the ones in between.
    pub trouble: Option<Trouble>,
    pub troubles: u32,
    /// Sets of codes that nobody used.
    pub unused_sets: u32,
    /// Tries that ended after a passkey was asked for.
    pub failed_behind_passkey: u32,
    /// A passkey was asked for since the process started, or the account is known to be hosted.
    pub obstacle: Option<Obstacle>,
    by_code: bool,
    /// The QR code that is held back while a link code is wanted.
    held_back: Option<(String, Instant)>,
    /// The request that is answered, should WhatsApp refuse the first answer; with its end and the refusals.
    asked: Option<(Arc<PasskeyRequest>, Instant, u32)>,
}

impl Linking {
    pub(super) fn happened(&mut self, what: Happened, now: Instant) {
        self.version += 1;
        match what {
            Happened::Begun { by_code } => {
                self.stage = Stage::Idle;
                self.by_code = by_code;
                self.held_back = None;
                self.asked = None;
            }
            // Codes rotate on while a passkey is waited for; they are of no use then.
            Happened::QrCode { .. } | Happened::LinkCode { .. } if self.stage.behind_passkey() => {}
            Happened::QrCode { code, valid } if self.by_code => self.held_back = Some((code, now + valid)),
            Happened::QrCode { code, valid } => self.stage = Stage::QrCode { code, until: now + valid },
            Happened::LinkCode { code, valid } => self.stage = Stage::LinkCode { code, until: now + valid },
            Happened::LinkCodeRefused(_) if self.stage.behind_passkey() => {}
            Happened::LinkCodeRefused(reason) => {
                self.troubled(Trouble::NoLinkCode(reason));
                self.by_code = false;
                if let Some((code, until)) = self.held_back.take().filter(|(_, until)| *until > now) {
                    self.stage = Stage::QrCode { code, until };
                }
            }
            Happened::CodesUnused if self.stage.behind_passkey() => self.ended(Trouble::Late),
            Happened::CodesUnused => self.unused_sets += 1,
            Happened::PasskeyAsked { request, within } => {
                let (request, until) = (Arc::new(request), now + within);
                self.obstacle = Some(Obstacle::Passkey);
                self.asked = Some((request.clone(), until, 0));
                self.stage = Stage::PasskeyAsked { request, since: now, until };
            }
            Happened::Answered => {
                let until = self.end_of_request(now + ANSWER_WITHIN);
                self.stage = Stage::ProofSent { since: now, until };
            }
            Happened::ProofRefused(reason) => self.proof_refused(reason, now),
            Happened::CodeToCompare { code, needless } => {
                let until = self.end_of_request(now + COMPARE_WITHIN);
                self.stage = Stage::Comparing { code, confirmed: needless, since: now, until };
            }
            Happened::Confirmed => {
                if let Stage::Comparing { confirmed, until, .. } = &mut self.stage {
                    *confirmed = true;
                    *until = now + ANSWER_WITHIN;
                }
            }
            // The order goes out; the end follows.
            Happened::Denied => {}
            Happened::Ended(trouble) => self.ended(trouble),
            Happened::Linked => {
                self.stage = Stage::Done;
                self.obstacle = None;
            }
        }
    }

    /// The time of the request bounds what follows it.
    fn end_of_request(&self, until: Instant) -> Instant {
        self.asked.as_ref().map_or(until, |(_, end, _)| until.min(*end))
    }

    fn proof_refused(&mut self, reason: String, now: Instant) {
        let Some((request, until, refusals)) = &mut self.asked else { return };
        *refusals += 1;
        let again = *refusals < MOST_REFUSALS && *until > now;
        if again {
            self.stage = Stage::PasskeyAsked { request: request.clone(), since: now, until: *until };
            self.troubled(Trouble::ProofRefused { reason, again });
        } else {
            self.ended(Trouble::ProofRefused { reason, again });
        }
    }

    fn ended(&mut self, trouble: Trouble) {
        if self.stage.behind_passkey() {
            self.failed_behind_passkey += 1;
        }
        self.stage = match trouble {
            Trouble::Hosted => {
                self.obstacle = Some(Obstacle::Hosted);
                Stage::Refused(Obstacle::Hosted)
            }
            _ => Stage::Idle,
        };
        self.asked = None;
        self.troubled(trouble);
    }

    fn troubled(&mut self, trouble: Trouble) {
        self.trouble = Some(trouble);
        self.troubles += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::OPTIONS;
    use super::*;
    use crate::clock;

    const VALID: Duration = Duration::from_secs(60);

    fn qr(code: &str) -> Happened {
        Happened::QrCode { code: code.into(), valid: VALID }
    }

    fn asked() -> Happened {
        let request = PasskeyRequest::parse(OPTIONS).unwrap();
        Happened::PasskeyAsked { request, within: Duration::from_secs(100) }
    }

    /// After all of these at one moment.
    fn after(events: impl IntoIterator<Item = Happened>) -> (Linking, Instant) {
        let (mut linking, now) = (Linking::default(), clock::now());
        events.into_iter().for_each(|event| linking.happened(event, now));
        (linking, now)
    }

    #[test]
    fn who_wants_a_link_code_is_shown_no_qr_code_unless_it_is_refused() {
        let by_code = Happened::Begun { by_code: true };
        let (linking, now) = after([by_code.clone(), qr("a"), qr("b")]);
        assert_eq!(linking.stage, Stage::Idle);
        let link_code = Happened::LinkCode { code: "ABCD1234".into(), valid: VALID };
        let (linking, _) = after([by_code.clone(), qr("a"), link_code, qr("b")]);
        assert!(matches!(linking.stage, Stage::LinkCode { .. }));
        let (linking, refused_at) = after([by_code, qr("b"), Happened::LinkCodeRefused("400".into())]);
        assert_eq!(linking.stage, Stage::QrCode { code: "b".into(), until: refused_at + VALID });
        assert_eq!(linking.trouble, Some(Trouble::NoLinkCode("400".into())));
        assert!(refused_at >= now);
    }

    #[test]
    fn codes_that_rotate_do_not_cover_a_passkey_request() {
        let begun = Happened::Begun { by_code: false };
        let link_code = Happened::LinkCode { code: "ABCD1234".into(), valid: VALID };
        let refused = Happened::LinkCodeRefused("400".into());
        let (linking, now) = after([begun, qr("a"), asked(), qr("b"), link_code, refused]);
        let Stage::PasskeyAsked { until, .. } = linking.stage else { panic!("{linking:?}") };
        assert_eq!((until, linking.troubles), (now + Duration::from_secs(100), 0));
        assert_eq!(linking.obstacle, Some(Obstacle::Passkey));
    }

    #[test]
    fn a_refused_proof_may_be_given_once_more_and_the_second_refusal_ends_it() {
        let refused = || Happened::ProofRefused("400".into());
        let (linking, now) = after([asked(), Happened::Answered, refused()]);
        assert!(
            matches!(linking.stage, Stage::PasskeyAsked { until, .. } if until == now + Duration::from_secs(100))
        );
        assert_eq!(linking.trouble, Some(Trouble::ProofRefused { reason: "400".into(), again: true }));
        let (linking, _) = after([asked(), Happened::Answered, refused(), Happened::Answered, refused()]);
        assert_eq!(linking.stage, Stage::Idle);
        assert_eq!(linking.trouble, Some(Trouble::ProofRefused { reason: "400".into(), again: false }));
        assert_eq!((linking.troubles, linking.failed_behind_passkey), (2, 1));
    }

    #[test]
    fn nothing_behind_a_passkey_lasts_longer_than_the_request_until_the_code_is_confirmed() {
        let (linking, now) = after([asked(), Happened::Answered]);
        assert_eq!(linking.stage.until(), Some(now + ANSWER_WITHIN));
        let code = Happened::CodeToCompare { code: "ABCD-EFGH".into(), needless: false };
        let (linking, now) = after([asked(), Happened::Answered, code.clone()]);
        assert_eq!(linking.stage.until(), Some(now + Duration::from_secs(100)));
        let (linking, now) = after([asked(), Happened::Answered, code, Happened::Confirmed]);
        assert!(matches!(linking.stage, Stage::Comparing { confirmed: true, until, .. }
            if until == now + ANSWER_WITHIN));
    }

    #[test]
    fn codes_that_run_out_behind_a_passkey_are_a_late_answer_and_not_an_unused_set() {
        let (linking, _) = after([qr("a"), asked(), Happened::CodesUnused]);
        assert_eq!((linking.stage, linking.unused_sets), (Stage::Idle, 0));
        assert_eq!(linking.trouble, Some(Trouble::Late));
        let (linking, _) = after([qr("a"), Happened::CodesUnused]);
        assert_eq!((linking.unused_sets, linking.trouble), (1, None));
    }

    #[test]
    fn a_hosted_account_is_refused_for_good_and_a_link_clears_what_stood_in_the_way() {
        let (linking, _) = after([qr("a"), Happened::Ended(Trouble::Hosted)]);
        assert_eq!(linking.stage, Stage::Refused(Obstacle::Hosted));
        assert_eq!(linking.obstacle, Some(Obstacle::Hosted));
        let (linking, _) = after([qr("a"), asked(), Happened::Answered, Happened::Linked]);
        assert_eq!((linking.stage, linking.obstacle), (Stage::Done, None));
    }
}
