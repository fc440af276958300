//! One message in, one step of the conversation out (`registration/RULES.md` §8).

use super::state::{State, TTL_SECONDS};
use super::{Action, Content, Message, Reply, Step, Submission};
use crate::personal::Written;
use crate::registration::people::{self, Nature};
use crate::registration::{Place, Provider, Rulebook, Unreadable, day, text};

/// Longest text that is read, in bytes: several times what
/// [`MOST_PEOPLE`](crate::registration::rulebook::MOST_PEOPLE) people take.
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

/// Decides what to do with a message, by these rules. `last_message_at` is the time (seconds since 1970 UTC) of
/// the message that led to `state`; after [`TTL_SECONDS`] the state is forgotten.
///
/// The registration day of a conversation never steps back: a message of yesterday that comes after one of
/// today (sent again after a failed decryption, handed over by the operator's phone) is registered for
/// today. The customer has been answered for today by then, and yesterday's list has left. It is decided
/// per conversation, not for all together: somebody who wrote before midnight is registered for that
/// day even if a stranger's later message was decrypted first, as happens to every queue that waited.
///
/// Total: every state and text leads somewhere, and data that waited for a place is never dropped
/// without a word, unless the customer asks for the list of what is stored.
pub fn step(rules: &Rulebook, state: &State, last_message_at: i64, message: &Message) -> Step {
    let lapsed = message.at.saturating_sub(last_message_at) > TTL_SECONDS;
    let current = if lapsed { &State::Idle } else { state };
    let step = match &message.content {
        Content::Other => Step { state: current.clone(), action: Action::Ignore },
        Content::Lost => Step { state: current.clone(), action: Action::Reply(Reply::SendAgain) },
        Content::Media => {
            let unread = Reply::MediaUnread { provider: current.provider() };
            Step { state: current.clone(), action: Action::Reply(unread) }
        }
        Content::Text(written) => of_text(rules, current, written, message.at.max(last_message_at)),
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

fn of_text(rules: &Rulebook, state: &State, written: &Written, at: i64) -> Step {
    let stay = |reply| Step { state: state.clone(), action: Action::Reply(reply) };
    if written.expose().len() > MAX_TEXT_BYTES {
        return stay(Reply::TooLong);
    }
    let cleaned = text::clean(written.expose());
    let lines = text::lines(&cleaned);
    if lines.is_empty() {
        return Step { state: state.clone(), action: Action::Ignore };
    }
    match people::nature(&cleaned) {
        Nature::Data => return of_data(rules, state, written, at),
        Nature::Number => return stay(Reply::Incomplete { provider: state.provider() }),
        Nature::Chat => {}
    }
    match (input(&lines.join(" ")), state) {
        (Input::Menu, _) => reply(State::Idle, Reply::Menu),
        (Input::Leave | Input::Number(0), _) => reply(State::Idle, Reply::Left),
        (Input::Help, _) => stay(Reply::Help),
        (Input::ListToday, _) => list_today(state, at),
        (Input::Register, _) => ask_provider(state.waiting().to_vec()),
        (Input::Number(number), State::ChoosingProvider { waiting }) => match number_of_provider(number) {
            Some(provider) => choose_provider(rules, provider, waiting, at),
            None => stay(Reply::NoSuchChoice(Box::new(Reply::ProviderMenu { waiting: waiting.len() }))),
        },
        (Input::Other, State::ChoosingProvider { waiting }) => {
            stay(Reply::NoSuchChoice(Box::new(Reply::ProviderMenu { waiting: waiting.len() })))
        }
        (Input::Number(number), State::ChoosingPlace { provider, waiting }) => match provider.place(number) {
            Some(place) => choose_place(rules, place, waiting, at),
            None => stay(no_such_place(*provider, waiting)),
        },
        (Input::Other, State::ChoosingPlace { provider, waiting }) => stay(no_such_place(*provider, waiting)),
        (Input::Number(1), State::Idle | State::Ready { .. }) => ask_provider(Vec::new()),
        (Input::Number(2), State::Idle | State::Ready { .. }) => list_today(state, at),
        (Input::Number(6), State::Idle | State::Ready { .. }) => stay(Reply::Help),
        (Input::Number(_) | Input::Other, State::Idle | State::Ready { .. }) => stay(Reply::Greeting),
    }
}

/// A message with people in it (`registration/RULES.md` 8.3).
fn of_data(rules: &Rulebook, state: &State, written: &Written, at: i64) -> Step {
    let stay = |reply| Step { state: state.clone(), action: Action::Reply(reply) };
    match state {
        State::Ready { place } => {
            Step { state: state.clone(), action: submit(rules, place, std::slice::from_ref(written), at) }
        }
        State::Idle => ask_provider(vec![written.clone()]),
        State::ChoosingProvider { waiting } => match with_one_more(waiting, written) {
            Some(waiting) => ask_provider(waiting),
            None => stay(Reply::WaitingFull),
        },
        State::ChoosingPlace { provider, waiting } => {
            let Some(more) = with_one_more(waiting, written) else { return stay(Reply::WaitingFull) };
            match people::read(rules, *provider, more.iter().map(Written::expose), day::of(at)) {
                Ok(_) => ask_place(*provider, more),
                Err(why) => stay(Reply::NotRead { provider: *provider, why, waiting: 0 }),
            }
        }
    }
}

fn with_one_more(waiting: &[Written], written: &Written) -> Option<Vec<Written>> {
    if waiting.contains(written) {
        return Some(waiting.to_vec());
    }
    let bytes: usize = waiting.iter().chain([written]).map(|text| text.expose().len()).sum();
    let fits = waiting.len() < MAX_WAITING_TEXTS && bytes <= MAX_TEXT_BYTES;
    fits.then(|| waiting.iter().chain([written]).cloned().collect())
}

fn number_of_provider(number: usize) -> Option<Provider> {
    Provider::ALL.get(number.checked_sub(1)?).copied()
}

/// The provider is known: data that waits must fit its format before the place is asked for.
fn choose_provider(rules: &Rulebook, provider: Provider, waiting: &[Written], at: i64) -> Step {
    match people::read(rules, provider, waiting.iter().map(Written::expose), day::of(at)) {
        Ok(_) if provider.places().is_empty() => {
            choose_place(rules, Place { provider, sub: None }, waiting, at)
        }
        Ok(_) => ask_place(provider, waiting.to_vec()),
        Err(why) => {
            // Another provider may fit another format, but never more people.
            let kept = match why {
                Unreadable::NoBirthDates => waiting.to_vec(),
                Unreadable::TooManyPeople { .. } => Vec::new(),
            };
            let not_read = Reply::NotRead { provider, why, waiting: kept.len() };
            reply(State::ChoosingProvider { waiting: kept }, not_read)
        }
    }
}

fn choose_place(rules: &Rulebook, place: Place, waiting: &[Written], at: i64) -> Step {
    let action = if waiting.is_empty() {
        Action::Reply(Reply::FormatGuide(place.clone()))
    } else {
        submit(rules, &place, waiting, at)
    };
    Step { state: State::Ready { place }, action }
}

fn submit(rules: &Rulebook, place: &Place, texts: &[Written], at: i64) -> Action {
    let day = day::of(at);
    match people::read(rules, place.provider, texts.iter().map(Written::expose), day) {
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

/// Reads a command (`registration/RULES.md` 8.1): upper-case, single spaces, punctuation around it ignored.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::personal::Nik;
    use crate::registration::rulebook::MOST_PEOPLE;
    use jiff::civil::date;
    use proptest::prelude::*;

    /// 2026-11-24 00:00:00 WIB.
    const MIDNIGHT: i64 = 1_795_453_200;
    const NOON: i64 = MIDNIGHT + 12 * 3600;
    const ANI: &str = "Ani\nKJP 5049488500000000\n3171010101900000\n3171010101100000";
    const BUDI: &str = "Budi\nLANSIA 5049488600000000\n3171010202900000\n3171010101100000";

    fn step(state: &State, last_message_at: i64, message: &Message) -> Step {
        super::step(&Rulebook::default(), state, last_message_at, message)
    }

    fn message(at: i64, text: &str) -> Message {
        Message { at, content: Content::Text(text.into()) }
    }

    /// Lets a customer write texts at noon, one second apart; the last step.
    fn talk(texts: &[&str]) -> Step {
        let mut last = Step { state: State::Idle, action: Action::Ignore };
        for (second, line) in (0..).zip(texts) {
            last = step(&last.state, NOON + second - 1, &message(NOON + second, line));
        }
        last
    }

    fn replied(texts: &[&str]) -> Reply {
        match talk(texts).action {
            Action::Reply(reply) => reply,
            other => panic!("{texts:?}: {other:?}"),
        }
    }

    fn registered(texts: &[&str]) -> Submission {
        match talk(texts).action {
            Action::Register(submission) => submission,
            other => panic!("{texts:?}: {other:?}"),
        }
    }

    fn names(submission: &Submission) -> Vec<&str> {
        submission.people().map(|person| person.nama.as_str()).collect()
    }

    #[test]
    fn a_customer_reaches_every_place_by_numbers() {
        for (numbers, lokasi) in [
            (vec!["1", "1", "1"], "PASARJAYA - Jakgrosir Kedoya"),
            (vec!["daftar", "1", "4"], "PASARJAYA - Jakmart Bambu Larangan"),
            (vec!["Saya mau daftar", "2", "4"], "DHARMAJAYA - Cakung"),
            (vec!["MENU_DAFTAR", "3"], "FOODSTATION"),
            (vec!["１.", "2", "*1*"], "DHARMAJAYA - Duri Kosambi"),
        ] {
            let reached = talk(&numbers);
            let State::Ready { place } = &reached.state else { panic!("{numbers:?}: {reached:?}") };
            assert_eq!(place.lokasi(), lokasi);
            assert_eq!(reached.action, Action::Reply(Reply::FormatGuide(place.clone())));
        }
    }

    #[test]
    fn the_chosen_place_stays_for_the_next_message() {
        let first = registered(&["1", "2", "4", ANI]);
        let second = registered(&["1", "2", "4", ANI, BUDI]);
        assert_eq!(first.place.lokasi(), "DHARMAJAYA - Cakung");
        assert_eq!((names(&first), names(&second)), (vec!["Ani"], vec!["Budi"]));
        assert_eq!(first.day, date(2026, 11, 24));
    }

    #[test]
    fn the_chosen_place_is_forgotten_after_its_time() {
        let ready = talk(&["1", "3"]).state;
        let kept = step(&ready, NOON, &message(NOON + TTL_SECONDS, ANI));
        assert!(matches!(kept.action, Action::Register(_)));
        let forgotten = step(&ready, NOON, &message(NOON + TTL_SECONDS + 1, ANI));
        assert_eq!(forgotten.action, Action::Reply(Reply::ProviderMenu { waiting: 1 }));
    }

    #[test]
    fn data_without_a_place_waits_and_is_registered_once_the_place_is_picked() {
        assert_eq!(replied(&[ANI]), Reply::ProviderMenu { waiting: 1 });
        assert_eq!(replied(&[ANI, BUDI]), Reply::ProviderMenu { waiting: 2 });
        assert_eq!(
            replied(&[ANI, "2", BUDI]),
            Reply::PlaceMenu { provider: Provider::DharmaJaya, waiting: 2 }
        );
        assert_eq!(names(&registered(&[ANI, BUDI, "3"])), ["Ani", "Budi"]);
        assert_eq!(names(&registered(&[ANI, "2", BUDI, "4"])), ["Ani", "Budi"]);
        assert_eq!(names(&registered(&["1", ANI, "daftar", "3"])), ["Ani"]);
    }

    #[test]
    fn impatience_does_not_make_two_of_one() {
        assert_eq!(replied(&[ANI, ANI]), Reply::ProviderMenu { waiting: 1 });
        assert_eq!(names(&registered(&[ANI, "2", ANI, "4"])), ["Ani"]);
    }

    #[test]
    fn a_missing_line_in_one_waiting_text_does_not_shift_the_next() {
        let short = format!("{ANI}\nCitra\n5049488500000000");
        let submission = registered(&[&short, BUDI, "3"]);
        assert_eq!(names(&submission), ["Ani", "Budi"]);
        assert_eq!(submission.entries.len(), 3);
    }

    #[test]
    fn the_day_is_the_one_of_the_message_that_registers() {
        let waiting = step(&State::Idle, 0, &message(MIDNIGHT - 60, ANI));
        let picked = step(&waiting.state, MIDNIGHT - 60, &message(MIDNIGHT, "3"));
        let Action::Register(submission) = picked.action else { panic!("{picked:?}") };
        assert_eq!(submission.day, date(2026, 11, 24));
        let evening = step(&picked.state, MIDNIGHT - 2, &message(MIDNIGHT - 1, BUDI));
        let Action::Register(submission) = evening.action else { panic!("{evening:?}") };
        assert_eq!(submission.day, date(2026, 11, 23));
    }

    #[test]
    fn waiting_data_without_birth_dates_is_refused_before_a_place_that_wants_them_is_asked() {
        let refused = talk(&[ANI, "1"]);
        let why = Unreadable::NoBirthDates;
        let not_read = Reply::NotRead { provider: Provider::PasarJaya, why, waiting: 1 };
        assert_eq!(refused.action, Action::Reply(not_read));
        assert_eq!(names(&registered(&[ANI, "1", "3"])), ["Ani"]);
    }

    #[test]
    fn a_birth_date_that_nobody_asked_for_does_no_harm() {
        let five = format!("{ANI}\n20-01-2015");
        let submission = registered(&["1", "3", &five]);
        assert_eq!(names(&submission), ["Ani"]);
        assert_eq!(submission.people().next().unwrap().tanggal_lahir, None);
    }

    #[test]
    fn every_state_can_be_left() {
        for way in [vec!["1"], vec!["1", "1"], vec!["1", "2"], vec!["1", "3"], vec![]] {
            for (word, reply) in [("MENU", Reply::Menu), ("0", Reply::Left), ("batal", Reply::Left)] {
                let texts: Vec<&str> = way.iter().copied().chain([word]).collect();
                assert_eq!(talk(&texts), Step { state: State::Idle, action: Action::Reply(reply) });
            }
        }
    }

    #[test]
    fn waiting_data_is_not_dropped_without_a_word() {
        for leaving in ["MENU", "0", "BATAL", "halo"] {
            assert!(matches!(replied(&[ANI, leaving]), Reply::Dropped(_)), "{leaving}");
        }
        let waiting = talk(&[ANI]).state;
        let late = NOON + TTL_SECONDS + 1;
        for content in [Content::Text("3".into()), Content::Text(BUDI.into()), Content::Media, Content::Other]
        {
            let late = step(&waiting, NOON, &Message { at: late, content });
            assert!(matches!(late.action, Action::Reply(Reply::Dropped(_))), "{late:?}");
        }
    }

    #[test]
    fn no_more_waits_than_the_bound() {
        let different: Vec<String> = (0..MAX_WAITING_TEXTS).map(|n| format!("{ANI}\n{n}")).collect();
        let mut texts: Vec<&str> = different.iter().map(String::as_str).collect();
        assert_eq!(replied(&texts), Reply::ProviderMenu { waiting: MAX_WAITING_TEXTS });
        texts.push(BUDI);
        assert_eq!(replied(&texts), Reply::WaitingFull);
        assert_eq!(talk(&texts).state.waiting().len(), MAX_WAITING_TEXTS);
        let half = format!("{ANI}\n{}", "x".repeat(MAX_TEXT_BYTES / 2));
        assert_eq!(replied(&[&half, ANI]), Reply::ProviderMenu { waiting: 2 });
        assert_eq!(replied(&[&half, &format!("{half}x")]), Reply::WaitingFull);
    }

    #[test]
    fn too_much_in_one_message_is_refused_whole() {
        let long = "1".repeat(MAX_TEXT_BYTES + 1);
        assert_eq!(replied(&["1", "3", &long]), Reply::TooLong);
        let many = format!("{ANI}\n").repeat(MOST_PEOPLE + 1);
        let why = Unreadable::TooManyPeople { people: MOST_PEOPLE + 1, most: MOST_PEOPLE };
        let not_read = Reply::NotRead { provider: Provider::FoodStation, why, waiting: 0 };
        assert_eq!(replied(&["1", "3", &many]), not_read);
        assert_eq!(replied(&[&many, "3"]), Reply::Dropped(Box::new(not_read)));
    }

    #[test]
    fn the_list_of_today_can_be_asked_for_at_any_time() {
        let today = Action::ListToday { day: date(2026, 11, 24) };
        for texts in [vec!["2"], vec!["cek"], vec!["Cek data saya"], vec!["1", "3", "2"], vec!["1", "CEK"]] {
            assert_eq!(talk(&texts).action, today, "{texts:?}");
        }
        assert_eq!(talk(&[ANI, "cek"]).state, talk(&[ANI]).state);
    }

    #[test]
    fn what_is_no_choice_repeats_the_choices() {
        let providers = Reply::NoSuchChoice(Box::new(Reply::ProviderMenu { waiting: 0 }));
        let places = Reply::PlaceMenu { provider: Provider::PasarJaya, waiting: 0 };
        assert_eq!(replied(&["1", "4"]), providers);
        assert_eq!(replied(&["1", "cipinang"]), providers);
        assert_eq!(replied(&["1", "1", "5"]), Reply::NoSuchChoice(Box::new(places)));
    }

    #[test]
    fn small_talk_and_pictures_are_answered() {
        assert_eq!(replied(&["Selamat pagi, pak"]), Reply::Menu);
        assert_eq!(replied(&["Halo!"]), Reply::Menu);
        assert_eq!(replied(&["6"]), Reply::Help);
        assert_eq!(replied(&["terima kasih"]), Reply::Greeting);
        assert_eq!(replied(&["5049488500000000"]), Reply::Incomplete { provider: None });
        let picture = step(&talk(&["1", "1"]).state, NOON, &Message { at: NOON, content: Content::Media });
        let unread = Reply::MediaUnread { provider: Some(Provider::PasarJaya) };
        assert_eq!(picture.action, Action::Reply(unread));
        assert_eq!(talk(&["\u{200B}\n "]).action, Action::Ignore);
    }

    fn states() -> impl Strategy<Value = State> {
        let waiting = || proptest::collection::vec("(?s).{0,40}".prop_map(Written::from), 0..3);
        prop_oneof![
            Just(State::Idle),
            waiting().prop_map(|waiting| State::ChoosingProvider { waiting }),
            (0usize..3, waiting())
                .prop_map(|(n, waiting)| State::ChoosingPlace { provider: Provider::ALL[n], waiting }),
            (1usize..5).prop_map(|n| State::Ready { place: Provider::PasarJaya.place(n).unwrap() }),
            Just(State::Ready { place: Place { provider: Provider::FoodStation, sub: None } }),
        ]
    }

    fn texts() -> impl Strategy<Value = String> {
        let words = ["0", "1", "2", "3", "4", "6", "MENU", "DAFTAR", "CEK", "BATAL", ANI, BUDI];
        prop_oneof![
            proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
            "(?s).{0,200}",
            "([0-9]{16}\n){1,12}",
            "(?s)[a-z0-9 \n]{16380,16390}",
        ]
    }

    #[test]
    fn the_day_of_a_conversation_never_steps_back() {
        let ready = talk(&["1", "3"]).state;
        let submitted = |last_at, at| match step(&ready, last_at, &message(at, ANI)).action {
            Action::Register(submission) => submission.day,
            other => panic!("{other:?}"),
        };
        let (today, yesterday) = (date(2026, 11, 24), date(2026, 11, 23));
        assert_eq!(submitted(MIDNIGHT - 2, MIDNIGHT - 1), yesterday);
        assert_eq!(submitted(MIDNIGHT - 1, MIDNIGHT), today);
        assert_eq!(submitted(MIDNIGHT, MIDNIGHT - 1), today, "a late one");
        let listed = step(&ready, MIDNIGHT, &message(MIDNIGHT - 1, "2")).action;
        assert_eq!(listed, Action::ListToday { day: today });
    }

    proptest! {
        #[test]
        fn every_state_and_text_leads_to_a_sound_step(
            state in states(),
            written in texts(),
            idle in 0i64..3600,
        ) {
            let taken = step(&state, NOON - idle, &message(NOON, &written));
            prop_assert_eq!(State::restore(&taken.state.to_json()), taken.state.clone());
            prop_assert!(taken.state.waiting().len() <= MAX_WAITING_TEXTS.max(state.waiting().len()));
            match &taken.action {
                Action::Reply(reply) => prop_assert!(!reply.text(&Rulebook::default()).is_empty()),
                Action::Register(submission) => {
                    prop_assert_eq!(&taken.state, &State::Ready { place: submission.place.clone() });
                    prop_assert!(submission.entries.len() <= MOST_PEOPLE);
                    let niks: Vec<&Nik> = submission.people().map(|person| &person.ktp).collect();
                    prop_assert!((1..niks.len()).all(|at| !niks[..at].contains(&niks[at])));
                }
                Action::ListToday { day } => prop_assert_eq!(*day, date(2026, 11, 24)),
                Action::Ignore => prop_assert!(text::lines(&text::clean(&written)).is_empty()),
            }
        }
    }
}
