//! The conversation with a customer, pure: (state, message) → (state, action). No I/O, no clock.
//!
//! The way of a message: [`step()`] decides from the conversation's [`State`] and the message what
//! to do. Data becomes [`Action::Register`]: `registration::people` has already found the faults
//! of each person; the caller gives the good ones to the ledger, which finds clashes with the
//! day's earlier registrations, and hands its outcomes to [`conclude()`], which decides what the
//! reply says. Every Indonesian word of a [`Reply`] is in [`wording`].
//!
//! So the reply to a duplicate NIK of today: the ledger returns `Outcome::Duplicate`,
//! [`conclude()`] turns it into a [`Reason`], `wording` says it, and never names a stranger.

pub mod conclude;
pub mod state;
pub mod step;
pub mod wording;

use jiff::civil::Date;

use crate::personal::{CardNumber, Kk, Nik, Written};
use crate::registration::{CardType, Clash, Entry, Fault, Person, Place, Provider, Unreadable, Warning};

pub use conclude::{conclude, conclude_list};
pub use state::State;
pub use step::step;

/// What a customer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// WhatsApp's timestamp of the message, seconds since 1970 UTC: it decides the registration day.
    pub at: i64,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Text(Written),
    /// Picture, video or document without caption.
    Media,
    /// Anything else: stickers, reactions, polls.
    Other,
    /// What it said was lost between decryption and the disk, and no phone has sent it again.
    Lost,
}

/// What a message leads to. The state is to be stored with the message's time, whatever the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub state: State,
    pub action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Ignore,
    Reply(Reply),
    /// Offer the people to the ledger, then reply with [`conclude()`].
    Register(Submission),
    /// Read the sender's rows of this day, then reply with [`conclude_list`].
    ListToday {
        day: Date,
    },
}

/// The people of one or several messages, for one place and day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub place: Place,
    /// Registration day: the WIB date of the message that caused the submission (`registration/RULES.md` 7.1), or of a
    /// later one of the same conversation that came first.
    pub day: Date,
    /// In the order of the message, good and bad.
    pub entries: Vec<Entry>,
    /// Lines that do not make a whole person.
    pub remainder: Vec<Written>,
}

impl Submission {
    /// The people to offer to the ledger, in order.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.entries.iter().filter_map(|entry| entry.verdict.as_ref().ok())
    }
}

/// One of the sender's registrations, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub nama: String,
    pub kjp: CardNumber,
    /// As stored; `None` at Pasarjaya.
    pub jenis_kartu: Option<String>,
    pub ktp: Nik,
    pub kk: Kk,
    pub tanggal_lahir: Option<Date>,
    /// As stored, e.g. `DHARMAJAYA - Cakung`.
    pub lokasi: String,
}

/// Everything the bot can say. [`Reply::text`] puts it into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Menu,
    /// Short hint for what nobody understands.
    Greeting,
    Help,
    /// Which provider? `waiting` texts are kept until the place is known.
    ProviderMenu {
        waiting: usize,
    },
    /// Which of the provider's places?
    PlaceMenu {
        provider: Provider,
        waiting: usize,
    },
    /// The answer was no number of the menu that follows.
    NoSuchChoice(Box<Reply>),
    /// The place is chosen: how to write the data.
    FormatGuide(Place),
    /// Data that cannot be read person by person. If `waiting` texts are kept, the provider is
    /// asked for again; otherwise nothing of the message is kept.
    NotRead {
        provider: Provider,
        why: Unreadable,
        waiting: usize,
    },
    /// Too few lines for one person.
    Incomplete {
        provider: Option<Provider>,
    },
    /// A message above [`step::MAX_TEXT_BYTES`].
    TooLong,
    /// No more texts are kept before a place is chosen.
    WaitingFull,
    /// The disk has no room for registrations; nothing of the message is kept.
    NoRoom,
    /// The message was lost, and no phone has sent it again.
    SendAgain,
    /// Whatever was going on has ended.
    Left,
    /// Pictures cannot be read.
    MediaUnread {
        provider: Option<Provider>,
    },
    /// Texts that waited for a place were dropped; another reply follows.
    Dropped(Box<Reply>),
    Conclusion(Conclusion),
    /// The sender's registrations of today, in the order to show.
    Today(Vec<Registered>),
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    pub place: Place,
    pub saved: Vec<Saved>,
    /// Names of people whom the sender has registered today already, for this place and with the same
    /// data: nothing is wrong with them.
    pub known: Vec<String>,
    pub refused: Vec<Refused>,
    pub remainder: Vec<Written>,
    /// The sender's registrations of the day in the order of arrival, this submission's included.
    pub today: Vec<Registered>,
}

/// A person who was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub nama: String,
    pub kjp: CardNumber,
    pub jenis_kartu: Option<CardType>,
    /// The kind of card was set against what was written.
    pub corrected: bool,
    /// What the sender should look at all the same.
    pub warnings: Vec<Warning>,
}

/// A person who was not registered, and every reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Position in the submission, from 0.
    pub entry: usize,
    pub nama: Written,
    pub reasons: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Found in the message itself.
    Fault(Fault),
    /// Found by the ledger among the day's registrations.
    Clash(Clash),
    /// The ledger said nothing about this person.
    NotStored,
}
