//! What the operator sees on the terminal while the bot runs: how linking stands and what happens to the
//! connection. With `pair`, what the operator answers.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::future::{or, pending};

use super::exit_code::ExitCode;
use super::keyboard::Keyboard;
use super::pairing_screen::{Offer, PairingScreen};
use super::qr::Surface;
use super::wording;
use crate::clock;
use crate::outlet::{self, Outlet};
use crate::pairing::answer::Paste;
use crate::pairing::{AnswerError, Linking, Pairing, PasskeyRequest, Stage, browser};
use crate::whatsapp::connection::Notice;

/// Time between two redraws of the countdown.
const TICK: Duration = Duration::from_secs(1);

/// Sets of codes that a service prints into its journal, some three minutes each, before it is
/// taken for forgotten.
const MOST_UNUSED_SETS: u32 = 3;

/// Tries behind a passkey before `pair` ends: who needs more should begin again with time.
const MOST_TRIES_BEHIND_PASSKEY: u32 = 5;

/// A paste that stands still for so long before it is whole is one that was cut off.
const PASTE_STALLS: Duration = Duration::from_secs(3);

/// How long before the end of the time for the passkey that is said once more.
const LAST_CALL: Duration = Duration::from_secs(45);

/// How the program ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// Somebody asked for it.
    Stopped,
    /// `pair` did what it was started for.
    Paired,
    /// `pair` had nothing to do.
    AlreadyPaired,
    /// `pair` was not answered in time.
    PairingTimedOut,
    /// `pair` needs somebody who can type.
    NoKeyboard,
    /// The passkey was asked for again and again.
    PasskeyGivenUp,
    /// The account cannot be linked.
    HostedAccount,
}

impl Farewell {
    /// The last sentence on the terminal.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Stopped => wording::STOPPED,
            Self::Paired => wording::PAIRED,
            Self::AlreadyPaired => wording::ALREADY_PAIRED,
            Self::PairingTimedOut => wording::PAIRING_TIMED_OUT,
            Self::NoKeyboard => wording::PASSKEY_NEEDS_A_TERMINAL,
            Self::PasskeyGivenUp => wording::PASSKEY_GIVEN_UP,
            Self::HostedAccount => wording::HOSTED_ACCOUNT,
        }
    }

    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Stopped | Self::Paired | Self::AlreadyPaired => ExitCode::Stopped,
            Self::PairingTimedOut | Self::NoKeyboard | Self::PasskeyGivenUp | Self::HostedAccount => {
                ExitCode::Temporary
            }
        }
    }
}

/// Shows notices and linking as they come. When it is dropped, no code stays on the screen.
pub struct Terminal {
    notices: Receiver<Notice>,
    pairing: Pairing,
    /// Goes on after pairing, and shows new codes for as long as nobody uses one.
    serving: bool,
    surface: Surface,
    screen: Option<PairingScreen<Outlet>>,
    shown: Option<Shown>,
    /// Linking, as far as it has been shown.
    told: Linking,
    /// The request whose steps are on the screen.
    steps_of: Option<Arc<PasskeyRequest>>,
    keyboard: Option<Keyboard>,
    /// There was a keyboard, and it is gone.
    keyboard_gone: bool,
    paste: Paste,
    /// The operator was told that an answer is not whole, or that the time is nearly over.
    stall_told: bool,
    last_call_told: bool,
}

/// The offer on the screen.
struct Shown {
    code: Code,
    until: Instant,
}

enum Code {
    Qr(String),
    Link(String),
}

impl Code {
    fn offer(&self) -> Offer<'_> {
        match self {
            Self::Qr(code) => Offer::Qr(code),
            Self::Link(code) => Offer::LinkCode(code),
        }
    }
}

/// What comes next.
enum Next {
    Notice(Option<Notice>),
    Linking,
    Typed(Option<String>),
    Tick,
}

impl Terminal {
    pub fn new(notices: Receiver<Notice>, pairing: Pairing, serving: bool) -> Self {
        let surface = if stdout().is_terminal() { Surface::Terminal } else { Surface::Plain };
        Self {
            notices,
            pairing,
            serving,
            surface,
            screen: None,
            shown: None,
            told: Linking::default(),
            steps_of: None,
            keyboard: None,
            keyboard_gone: false,
            paste: Paste::default(),
            stall_told: false,
            last_call_told: false,
        }
    }

    /// Runs until pairing is done, or for ever when serving.
    pub async fn run(mut self) -> Farewell {
        let mut notices_end = false;
        loop {
            if let Some(farewell) = self.show_linking() {
                return farewell;
            }
            let next = self.next(notices_end).await;
            // What is in the notice may have come after a change of linking.
            if let Some(farewell) = self.show_linking() {
                return farewell;
            }
            match next {
                Next::Linking => {}
                Next::Tick => self.tick(),
                Next::Typed(Some(line)) => self.typed(&line),
                Next::Typed(None) => {
                    self.keyboard = None;
                    self.keyboard_gone = true;
                    if self.told.stage.waits_for_somebody() {
                        return Farewell::NoKeyboard;
                    }
                }
                Next::Notice(None) => notices_end = true,
                Next::Notice(Some(notice)) => match notice {
                    Notice::CheckingSession => self.say(wording::CHECKING_SESSION),
                    Notice::Online if !self.serving => {
                        let linked = self.told.stage == Stage::Done;
                        return if linked { Farewell::Paired } else { Farewell::AlreadyPaired };
                    }
                    Notice::Online => self.say(wording::ONLINE),
                    Notice::Offline => self.say(wording::OFFLINE),
                    Notice::LoggedOut => self.say(wording::LOGGED_OUT),
                    Notice::Replaced => self.say(wording::REPLACED),
                    Notice::Outdated => self.say(wording::OUTDATED),
                    Notice::Banned { wait } => self.say(&wording::banned(wait)),
                    Notice::Refused(reason) => self.say(&wording::refused(&reason)),
                },
            }
        }
    }

    async fn next(&mut self, notices_end: bool) -> Next {
        let countdown = self.shown.is_some() && self.surface == Surface::Terminal;
        let ticks = countdown || !self.serving && self.told.stage.behind_passkey();
        let pause = if self.paste.is_begun() { PASTE_STALLS } else { TICK };
        let (notices, pairing, version) = (&self.notices, &self.pairing, self.told.version);
        let keyboard = &mut self.keyboard;
        let notice = async {
            if notices_end {
                return pending().await;
            }
            Next::Notice(notices.recv().await.ok())
        };
        let linking = async {
            pairing.changed_since(version).await;
            Next::Linking
        };
        let typed = async {
            match keyboard {
                Some(keyboard) => Next::Typed(keyboard.line().await),
                None => pending().await,
            }
        };
        let tick = async {
            if !ticks {
                return pending().await;
            }
            clock::sleep(pause).await;
            Next::Tick
        };
        or(notice, or(linking, or(typed, tick))).await
    }

    /// Shows what has changed about linking; gives the end, if that is one.
    fn show_linking(&mut self) -> Option<Farewell> {
        let now = self.pairing.linking();
        let before = std::mem::replace(&mut self.told, now.clone());
        if now.version == before.version {
            return None;
        }
        if !self.serving && matches!(now.stage, Stage::Refused(_)) {
            return Some(Farewell::HostedAccount);
        }
        if now.troubles != before.troubles
            && let Some(trouble) = &now.trouble
        {
            self.say(&wording::linking_trouble(trouble));
        }
        if now.unused_sets != before.unused_sets {
            if !self.serving {
                return Some(Farewell::PairingTimedOut);
            }
            if self.keeps_codes_back() {
                self.say(wording::NOT_PAIRED);
            }
        }
        if !self.serving && now.failed_behind_passkey >= MOST_TRIES_BEHIND_PASSKEY {
            return Some(Farewell::PasskeyGivenUp);
        }
        if now.stage == before.stage {
            return None;
        }
        if !self.serving && now.stage.waits_for_somebody() && !self.can_type() {
            return Some(Farewell::NoKeyboard);
        }
        match now.stage {
            Stage::Idle | Stage::Refused(_) => {}
            Stage::QrCode { .. } | Stage::LinkCode { .. } if self.keeps_codes_back() => {}
            Stage::QrCode { code, until } => self.offer(Code::Qr(code), until),
            Stage::LinkCode { code, until } => self.offer(Code::Link(code), until),
            Stage::PasskeyAsked { .. } if self.serving => self.say(wording::PASSKEY_NEEDS_A_TERMINAL),
            Stage::PasskeyAsked { request, until, .. } => self.ask_for_passkey(request, until),
            Stage::ProofSent { .. } => self.say(wording::PROOF_SENT),
            Stage::Comparing { confirmed: true, .. } => self.say(wording::CONFIRMED),
            Stage::Comparing { code, .. } => self.say(&wording::compare(&code)),
            Stage::Done => self.say(wording::PAIRED),
        }
        None
    }

    fn ask_for_passkey(&mut self, request: Arc<PasskeyRequest>, until: Instant) {
        self.paste = Paste::default();
        // One that may be answered once more has its steps on the screen.
        if self.steps_of.as_ref() != Some(&request) {
            self.last_call_told = false;
            let line = browser::script(&request, &wording::SCRIPT_WORDS);
            let left = until.saturating_duration_since(clock::now());
            self.say(&wording::passkey_steps(&line, left));
            self.steps_of = Some(request);
        }
    }

    /// Whether there is somebody who can answer; the keyboard is read from now on.
    fn can_type(&mut self) -> bool {
        if self.keyboard.is_none() && !self.keyboard_gone {
            match Keyboard::open() {
                Ok(keyboard) => self.keyboard = Some(keyboard),
                Err(error) => log::warn!("terminal: nobody can type here: {error}"),
            }
        }
        self.keyboard.is_some()
    }

    /// A line that the operator typed, or one of several that were pasted.
    fn typed(&mut self, line: &str) {
        self.stall_told = false;
        match &self.told.stage {
            Stage::PasskeyAsked { .. } => {
                let done = match self.paste.line(line) {
                    Ok(None) => return,
                    Ok(Some(text)) => self.pairing.answer(&text, clock::now()),
                    Err(error) => Err(error),
                };
                if let Err(error) = done {
                    self.say(&wording::answer_wrong(&error));
                }
            }
            Stage::Comparing { confirmed: false, .. } => match line.trim().to_lowercase().as_str() {
                "ya" | "y" => self.pairing.compared(true, clock::now()),
                "tidak" | "t" => self.pairing.compared(false, clock::now()),
                "" => {}
                // The rest of what was pasted before, or a slip.
                _ => self.say(wording::YES_OR_NO),
            },
            _ => {}
        }
    }

    fn offer(&mut self, code: Code, until: Instant) {
        let surface = self.surface;
        let left = until.saturating_duration_since(clock::now()).as_secs_f64().round();
        let screen = self.screen.get_or_insert_with(|| PairingScreen::new(outlet::out(), surface));
        if let Err(error) = screen.show(&code.offer(), left as u64) {
            log::error!("terminal: the pairing code could not be shown: {error}");
        }
        self.shown = Some(Shown { code, until });
    }

    /// A journal is no place for codes that nobody looks at: they are secrets, and they fill it.
    fn keeps_codes_back(&self) -> bool {
        let unused = self.told.unused_sets + self.told.failed_behind_passkey;
        self.serving && self.surface == Surface::Plain && unused >= MOST_UNUSED_SETS
    }

    fn tick(&mut self) {
        if self.paste.is_begun() && !std::mem::replace(&mut self.stall_told, true) {
            self.say(&wording::answer_wrong(&AnswerError::Incomplete));
        }
        if let Stage::PasskeyAsked { until, .. } = self.told.stage {
            let left = until.saturating_duration_since(clock::now());
            if left <= LAST_CALL && !self.serving && !std::mem::replace(&mut self.last_call_told, true) {
                self.say(&wording::passkey_time_left(left));
            }
        }
        let (Some(screen), Some(shown)) = (&mut self.screen, &self.shown) else { return };
        let left = shown.until.saturating_duration_since(clock::now()).as_secs();
        if let Err(error) = screen.tick(&shown.code.offer(), left) {
            crate::logging::debug!("terminal: the countdown could not be shown: {error}");
        }
    }

    /// Says a sentence; a pairing code on the screen makes room for it.
    fn say(&mut self, sentence: &str) {
        self.shown = None;
        let said = match self.screen.take() {
            Some(screen) => screen.close(sentence),
            None => outlet::out().write_all(format!("{sentence}\n").as_bytes()),
        };
        if let Err(error) = said {
            crate::logging::debug!("terminal: not written: {error}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(screen) = self.screen.take()
            && let Err(error) = screen.erase()
        {
            crate::logging::debug!("terminal: the code was not erased: {error}");
        }
    }
}
