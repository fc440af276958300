//! One message in, one step of the conversation out (domain §7).

use super::state::{State, TTL_SECONDS};
use super::{Action, Content, Message, Reply, Step, Submission};
use crate::personal::Written;
use crate::registration::{Place, Provider, Unreadable, day, people, text};

/// Longest text that is read, in bytes: several times what [`people::MAX_PEOPLE`] people take.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Most texts kept while no place is chosen; together they may not exceed [`MAX_TEXT_BYTES`],
/// which bounds the state that the ledger stores.
pub const MAX_WAITING_TEXTS: usize = 5;

/// What a customer's short text asks for.
enum Input {
    /// A number of at most two digits, as a choice from a list.
    Number(usize),
    Menu,
    Register,
    ListToday,
    Help,
    Leave,
    Other,
}

/// Decides what to do with a message. `last_message_at` is the time (seconds since 1970 UTC) of
/// the message that led to `state`; after [`TTL_SECONDS`] the state is forgotten.
///
/// Total: every state and text leads somewhere, and data that waited for a place is never dropped
/// without a word, unless the customer asks for the list of what is stored.
pub fn step(state: &State, last_message_at: i64, message: &Message) -> Step {
    let lapsed = message.at.saturating_sub(last_message_at) > TTL_SECONDS;
    let current = if lapsed { &State::Idle } else { state };
    let step = match &message.content {
        Content::Other => Step { state: current.clone(), action: Action::Ignore },
        Content::Media => {
            let unread = Reply::MediaUnread { provider: current.provider() };
            Step { state: current.clone(), action: Action::Reply(unread) }
        }
        Content::Text(written) => of_text(current, written, message.at),
    };
    let had_waiting = !state.waiting().is_empty();
    let dropped = lapsed || step.state.waiting().is_empty();
    if had_waiting && dropped { tell_dropped(step) } else { step }
}

fn tell_dropped(step: Step) -> Step {
    let action = match step.action {
        Action::Reply(reply) => Action::Reply(Reply::Dropped(Box::new(reply))),
        Action::Ignore => Action::Reply(Reply::Dropped(Box::new(Reply::Greeting))),
        told @ (Action::Register(_) | Action::ListToday { .. }) => told,
    };
    Step { action, ..step }
}

fn of_text(state: &State, written: &Written, at: i64) -> Step {
    let stay = |reply| Step { state: state.clone(), action: Action::Reply(reply) };
    if written.expose().len() > MAX_TEXT_BYTES {
        return stay(Reply::TooLong);
    }
    let cleaned = text::clean(written.expose());
    let lines = text::lines(&cleaned);
    if lines.is_empty() {
        return Step { state: state.clone(), action: Action::Ignore };
    }
    if people::looks_like_data(&lines) {
        return of_data(state, written, at);
    }
    if people::looks_incomplete(&lines) {
        return stay(Reply::Incomplete { provider: state.provider() });
    }
    match (input(&lines.join(" ")), state) {
        (Input::Menu, _) => reply(State::Idle, Reply::Menu),
        (Input::Leave | Input::Number(0), _) => reply(State::Idle, Reply::Left),
        (Input::Help, _) => stay(Reply::Help),
        (Input::ListToday, _) => list_today(state, at),
        (Input::Register, _) => ask_provider(state.waiting().to_vec()),
        (Input::Number(number), State::ChoosingProvider { waiting }) => match number_of_provider(number) {
            Some(provider) => choose_provider(provider, waiting, at),
            None => stay(Reply::NoSuchChoice(Box::new(Reply::ProviderMenu { waiting: waiting.len() }))),
        },
        (Input::Other, State::ChoosingProvider { waiting }) => {
            stay(Reply::NoSuchChoice(Box::new(Reply::ProviderMenu { waiting: waiting.len() })))
        }
        (Input::Number(number), State::ChoosingPlace { provider, waiting }) => match provider.place(number) {
            Some(place) => choose_place(place, waiting, at),
            None => stay(no_such_place(*provider, waiting)),
        },
        (Input::Other, State::ChoosingPlace { provider, waiting }) => stay(no_such_place(*provider, waiting)),
        (Input::Number(1), State::Idle | State::Ready { .. }) => ask_provider(Vec::new()),
        (Input::Number(2), State::Idle | State::Ready { .. }) => list_today(state, at),
        (Input::Number(6), State::Idle | State::Ready { .. }) => stay(Reply::Help),
        (Input::Number(_) | Input::Other, State::Idle | State::Ready { .. }) => stay(Reply::Greeting),
    }
}

/// A message with people in it (domain §2.6).
fn of_data(state: &State, written: &Written, at: i64) -> Step {
    let stay = |reply| Step { state: state.clone(), action: Action::Reply(reply) };
    match state {
        State::Ready { place } => {
            Step { state: state.clone(), action: submit(place, std::slice::from_ref(written), at) }
        }
        State::Idle => ask_provider(vec![written.clone()]),
        State::ChoosingProvider { waiting } => match with_one_more(waiting, written) {
            Some(waiting) => ask_provider(waiting),
            None => stay(Reply::WaitingFull),
        },
        State::ChoosingPlace { provider, waiting } => {
            let Some(more) = with_one_more(waiting, written) else { return stay(Reply::WaitingFull) };
            match people::read(*provider, more.iter().map(Written::expose), day::of(at)) {
                Ok(_) => ask_place(*provider, more),
                Err(why) => stay(Reply::NotRead { provider: *provider, why, waiting: 0 }),
            }
        }
    }
}

fn with_one_more(waiting: &[Written], written: &Written) -> Option<Vec<Written>> {
    let bytes: usize = waiting.iter().chain([written]).map(|text| text.expose().len()).sum();
    let fits = waiting.len() < MAX_WAITING_TEXTS && bytes <= MAX_TEXT_BYTES;
    fits.then(|| waiting.iter().chain([written]).cloned().collect())
}

fn number_of_provider(number: usize) -> Option<Provider> {
    Provider::ALL.get(number.checked_sub(1)?).copied()
}

/// The provider is known: data that waits must fit its format before the place is asked for.
fn choose_provider(provider: Provider, waiting: &[Written], at: i64) -> Step {
    match people::read(provider, waiting.iter().map(Written::expose), day::of(at)) {
        Ok(_) if provider.places().is_empty() => choose_place(Place { provider, sub: None }, waiting, at),
        Ok(_) => ask_place(provider, waiting.to_vec()),
        Err(why) => {
            // Another provider may fit another format, but never more people.
            let kept = match why {
                Unreadable::OtherFormat { .. } => waiting.to_vec(),
                Unreadable::TooManyPeople { .. } => Vec::new(),
            };
            let not_read = Reply::NotRead { provider, why, waiting: kept.len() };
            reply(State::ChoosingProvider { waiting: kept }, not_read)
        }
    }
}

fn choose_place(place: Place, waiting: &[Written], at: i64) -> Step {
    let action = if waiting.is_empty() {
        Action::Reply(Reply::FormatGuide(place.clone()))
    } else {
        submit(&place, waiting, at)
    };
    Step { state: State::Ready { place }, action }
}

fn submit(place: &Place, texts: &[Written], at: i64) -> Action {
    let day = day::of(at);
    match people::read(place.provider, texts.iter().map(Written::expose), day) {
        Ok(people::Reading { entries, remainder }) => {
            Action::Register(Submission { place: place.clone(), day, entries, remainder })
        }
        Err(why) => Action::Reply(Reply::NotRead { provider: place.provider, why, waiting: 0 }),
    }
}

fn ask_provider(waiting: Vec<Written>) -> Step {
    let menu = Reply::ProviderMenu { waiting: waiting.len() };
    reply(State::ChoosingProvider { waiting }, menu)
}

fn ask_place(provider: Provider, waiting: Vec<Written>) -> Step {
    let menu = Reply::PlaceMenu { provider, waiting: waiting.len() };
    reply(State::ChoosingPlace { provider, waiting }, menu)
}

fn no_such_place(provider: Provider, waiting: &[Written]) -> Reply {
    Reply::NoSuchChoice(Box::new(Reply::PlaceMenu { provider, waiting: waiting.len() }))
}

fn list_today(state: &State, at: i64) -> Step {
    Step { state: state.clone(), action: Action::ListToday { day: day::of(at) } }
}

fn reply(state: State, reply: Reply) -> Step {
    Step { state, action: Action::Reply(reply) }
}

/// Reads a command (domain §7): upper-case, single spaces, punctuation around it ignored.
fn input(cleaned: &str) -> Input {
    let upper = text::collapse(cleaned).to_uppercase();
    let words = upper.trim_matches(|c: char| !c.is_alphanumeric());
    if (1..=2).contains(&words.len())
        && let Ok(number) = words.parse()
    {
        return Input::Number(number);
    }
    match words {
        "HALO" | "HI" | "P" | "TEST" | "PING" | "ASSALAMUALAIKUM" | "START" | "MENU" | "INFO" => Input::Menu,
        "BATAL" | "CANCEL" | "UNDO" => Input::Leave,
        "BANTUAN" | "MENU_BANTUAN" => Input::Help,
        "MENU_CEK" => Input::ListToday,
        _ if words.split(' ').next() == Some("CEK") => Input::ListToday,
        _ if words.starts_with("SELAMAT") => Input::Menu,
        _ if words.contains("DAFTAR") => Input::Register,
        _ => Input::Other,
    }
}
