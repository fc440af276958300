//! What the operator sees on the terminal while the bot runs: pairing codes and what happens to
//! the connection.

use std::io::{IsTerminal as _, Stdout, Write as _, stdout};
use std::time::{Duration, Instant};

use async_channel::Receiver;
use futures_lite::future::or;

use super::exit_code::ExitCode;
use super::pairing_screen::{Offer, PairingScreen};
use super::qr::Surface;
use super::wording;
use crate::clock;
use crate::whatsapp::connection::Notice;

/// Time between two redraws of the countdown.
const TICK: Duration = Duration::from_secs(1);

/// Sets of codes that a service prints into its journal, some three minutes each, before it is
/// taken for forgotten.
const MOST_UNUSED_SETS: u32 = 3;

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
}

impl Farewell {
    /// The last sentence on the terminal.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Stopped => wording::STOPPED,
            Self::Paired => wording::PAIRED,
            Self::AlreadyPaired => wording::ALREADY_PAIRED,
            Self::PairingTimedOut => wording::PAIRING_TIMED_OUT,
        }
    }

    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Stopped | Self::Paired | Self::AlreadyPaired => ExitCode::Stopped,
            Self::PairingTimedOut => ExitCode::Temporary,
        }
    }
}

/// Shows notices as they come. When it is dropped, no code stays on the screen.
pub struct Terminal {
    notices: Receiver<Notice>,
    /// Goes on after pairing, and shows new codes for as long as nobody uses one.
    serving: bool,
    surface: Surface,
    screen: Option<PairingScreen<Stdout>>,
    shown: Option<Shown>,
    /// Sets of QR codes that nobody used.
    unused_sets: u32,
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

impl Terminal {
    pub fn new(notices: Receiver<Notice>, serving: bool) -> Self {
        let surface = if stdout().is_terminal() { Surface::Terminal } else { Surface::Plain };
        Self { notices, serving, surface, screen: None, shown: None, unused_sets: 0 }
    }

    /// Runs until pairing is done, or for ever when serving.
    pub async fn run(mut self) -> Farewell {
        let mut paired = false;
        loop {
            let ticks = self.shown.is_some() && self.surface == Surface::Terminal;
            let next = or(async { self.notices.recv().await.ok() }, async {
                if !ticks {
                    return std::future::pending().await;
                }
                clock::sleep(TICK).await;
                None
            });
            let Some(notice) = next.await else {
                self.tick();
                continue;
            };
            match notice {
                Notice::QrCode { .. } | Notice::LinkCode { .. } if self.keeps_codes_back() => {}
                // A link code was asked for: the QR codes that come beside it would cover it.
                Notice::QrCode { .. } if self.shows_link_code() => {}
                Notice::QrCode { code, valid } => self.offer(Code::Qr(code), valid),
                Notice::LinkCode { code, valid } => self.offer(Code::Link(code), valid),
                Notice::LinkCodeRefused(reason) => self.say(&wording::link_code_refused(&reason)),
                Notice::CodesExhausted if !self.serving => return Farewell::PairingTimedOut,
                Notice::CodesExhausted => {
                    self.unused_sets += 1;
                    if self.keeps_codes_back() {
                        self.say(wording::NOT_PAIRED);
                    }
                }
                Notice::Paired => {
                    paired = true;
                    self.say(wording::PAIRED);
                }
                Notice::CheckingSession => self.say(wording::CHECKING_SESSION),
                Notice::Online if !self.serving => {
                    return if paired { Farewell::Paired } else { Farewell::AlreadyPaired };
                }
                Notice::Online => self.say(wording::ONLINE),
                Notice::Offline => self.say(wording::OFFLINE),
                Notice::LoggedOut => self.say(wording::LOGGED_OUT),
                Notice::Replaced => self.say(wording::REPLACED),
                Notice::Outdated => self.say(wording::OUTDATED),
                Notice::Banned { wait } => self.say(&wording::banned(wait)),
                Notice::Refused(reason) => self.say(&wording::refused(&reason)),
            }
        }
    }

    fn offer(&mut self, code: Code, valid: Duration) {
        let surface = self.surface;
        let screen = self.screen.get_or_insert_with(|| PairingScreen::new(stdout(), surface));
        if let Err(error) = screen.show(&code.offer(), valid.as_secs()) {
            log::error!("terminal: the pairing code could not be shown: {error}");
        }
        self.shown = Some(Shown { code, until: clock::now() + valid });
    }

    /// A journal is no place for codes that nobody looks at: they are secrets, and they fill it.
    fn keeps_codes_back(&self) -> bool {
        self.serving && self.surface == Surface::Plain && self.unused_sets >= MOST_UNUSED_SETS
    }

    fn shows_link_code(&self) -> bool {
        let shown = self.shown.as_ref().filter(|shown| clock::now() < shown.until);
        shown.is_some_and(|shown| matches!(shown.code, Code::Link(_)))
    }

    fn tick(&mut self) {
        let (Some(screen), Some(shown)) = (&mut self.screen, &self.shown) else { return };
        let left = shown.until.saturating_duration_since(clock::now()).as_secs();
        if let Err(error) = screen.tick(&shown.code.offer(), left) {
            log::debug!("terminal: the countdown could not be shown: {error}");
        }
    }

    /// Says a sentence; a pairing code on the screen makes room for it.
    fn say(&mut self, sentence: &str) {
        self.shown = None;
        let said = match self.screen.take() {
            Some(screen) => screen.close(sentence),
            None => writeln!(stdout(), "{sentence}"),
        };
        if let Err(error) = said {
            log::debug!("terminal: not written: {error}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(screen) = self.screen.take()
            && let Err(error) = screen.erase()
        {
            log::debug!("terminal: the code was not erased: {error}");
        }
    }
}
