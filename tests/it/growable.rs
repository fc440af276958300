//! Everything in `src/` that can grow is known: each field that holds a collection is either within a bound that
//! `bounds.rs` lists, or stands below with the reason why nobody can make it grow. Who adds a field that holds a
//! collection has to say which of the two it is, or this fails.
//!
//! A text on its own is no collection: it is as long as what it was made from, and those have bounds. Locals and
//! arguments end with the call. What is looked at is text and not what the compiler made of it, so a collection that
//! hides behind another crate's type is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bot_kjp::bounds::BOUNDS;

/// Types that grow.
const COLLECTIONS: [&str; 10] = [
    "Vec",
    "VecDeque",
    "HashMap",
    "HashSet",
    "BTreeMap",
    "BTreeSet",
    "BinaryHeap",
    "BytesMut",
    "LinkedList",
    "IndexMap",
];

/// Channels without a bound, which nothing may have.
const UNBOUNDED: [&str; 3] = ["unbounded(", "mpsc::channel(", "unbounded_channel("];

/// Why a field does not grow.
enum Kept {
    /// Within the bound of that name in `bounds.rs`.
    Within(&'static str),
    /// For another reason.
    Because(&'static str),
}
use Kept::{Because, Within};

/// Folders in which nothing lives longer than what it is about.
const PASSING: [(&str, &str); 5] = [
    ("cli/", "a command that ends; what it shows is about as long as what it looked at"),
    ("config/", "read once at the start, from a file that the operator wrote"),
    ("registration/", "what is read of one text, which has at most MAX_TEXT_BYTES"),
    ("ledger/database/torn.rs", "of tests"),
    ("desk/", "what becomes of one message; what waits for a place is bounded by MAX_WAITING_TEXTS"),
];

const ONE_PAIRING: &str = "about one pairing, read from one stanza or one line, and gone with it";
const ONE_BATCH: &str = "about one batch of rows and its answer, and gone with it";
const ONE_LOOK: &str = "about one look of the watch, and gone with it";
const ONE_LOOK_UP: &str = "about one look-up, dial or answer, and gone with it";
const CAUSES: &str = "at most one for each cause, of which there are some thirty";

/// Every other field that holds a collection: file, type and field (of an enum the variant, of a tuple the number).
const FIELDS: &[(&str, &str, Kept)] = &[
    // Long-lived, and filled by others.
    ("logging/repeats.rs", "Repeats.seen", Within("log, repeated lines")),
    (
        "net/kernel_changes.rs",
        "KernelChanges.waiting",
        Because("the changes of one datagram of DATAGRAM_BYTES"),
    ),
    ("net/kernel_changes.rs", "Links.0", Because("MAX_LINKS links, the kernel's own")),
    ("net/resolver/known.rs", "Known.hosts", Within("names known")),
    ("net/resolver/known.rs", "Host.stated", Because("what the hosts file says of one name")),
    ("net/resolver/known.rs", "Host.answer", Because("the addresses of one answer")),
    ("net/resolver/known.rs", "Host.proofs", Because("cut at last_good::MAX_ADDRESSES")),
    ("net/resolver/known.rs", "Host.shunned", Because("the first goes at MAX_SHUNNED")),
    ("net/resolver/mod.rs", "State.rungs", Because("the servers of the settings and of resolv.conf")),
    ("net/resolver/mod.rs", "State.nat64", Because("MAX_PREFIXES of one answer")),
    (
        "net/resolver/mod.rs",
        "State.flights",
        Because("one for each caller who waits; callers are rooms of the bot"),
    ),
    ("supabase/refusals.rs", "Refusals.suspects", Within("rows that Supabase refused")),
    ("supabase/refusals.rs", "Run.rows", Within("rows that Supabase refused")),
    ("watch/alert.rs", "Book.raised", Because(CAUSES)),
    ("watch/alert.rs", "Book.history", Because(CAUSES)),
    ("watch/hooks.rs", "Topic.waiting", Because(CAUSES)),
    ("watch/mod.rs", "State.hooked", Because(CAUSES)),
    ("watch/mod.rs", "View.conditions", Because(CAUSES)),
    ("watch/mod.rs", "View.visible", Because(CAUSES)),
    ("watch/warning.rs", "Sightings.0", Because(CAUSES)),
    ("whatsapp/acks.rs", "Shared.waiting", Within("replies on their way")),
    ("whatsapp/backlog.rs", "State.messages", Within("backlog inside")),
    ("whatsapp/backlog.rs", "Held.numbers", Because("some of the backlog's messages, while a hook has them")),
    ("whatsapp/connection/ceiling.rs", "Ceiling.tries", Because("attempts_per_hour of the settings")),
    ("whatsapp/connection/way.rs", "Way.said", Because("the oldest goes at MOST_SAID")),
    (
        "whatsapp/connection/way.rs",
        "EndCounts.0",
        Because("one for each kind of end, whose names are constants"),
    ),
    ("whatsapp/missing_messages.rs", "Unreadable.other_kinds", Within("messages of other kinds")),
    ("whatsapp/outbox.rs", "Busy.chats", Within("replies on their way")),
    ("whatsapp/owed_answers.rs", "Complaints.0", Within("complaints remembered")),
    (
        "whatsapp/pace.rs",
        "Pace.chats",
        Because("chats of the last gap: no more than replies may leave within it"),
    ),
    ("whatsapp/reachout.rs", "News.tokens", Within("tokens that came")),
    ("whatsapp/session_store/lost.rs", "LostMessages.0", Within("lost messages at once")),
    ("whatsapp/session_store/owed.rs", "OwedMessages.0", Within("wa_pending_inbound")),
    ("whatsapp/session_store/owed.rs", "Owed.message", Within("frame")),
    ("ledger/database/redo.rs", "Redo.record", Within("redo log")),
    ("ledger/database/redo/file.rs", "RedoFile.buffer", Within("redo log")),
    ("ledger/database/redo/rows.rs", "Named.rows", Within("rows of a batch")),
    ("ledger/database/redo/rows.rs", "Images.tables", Because("the tables of the schema")),
    ("ledger/database/redo/rows.rs", "Row.values", Because("the columns of one row")),
    (
        "reactor.rs",
        "Waiting.sockets",
        Because("one for each socket that is open and waited for, at most a few dozen"),
    ),
    (
        "reactor.rs",
        "Waiting.timers",
        Because("one for each timer that a task waits for, and tasks are bounded"),
    ),
    // The operator's, read once.
    ("net/resolver/mod.rs", "Options.order", Because("of the settings")),
    ("net/resolver/mod.rs", "Options.https", Because("of the settings")),
    ("net/resolver/mod.rs", "Options.tls_servers", Because("of the settings")),
    ("net/resolver/mod.rs", "Options.public", Because("of the settings")),
    ("net/resolver/mod.rs", "Options.private", Because("of the settings")),
    ("net/resolver/mod.rs", "Options.pinned", Because("of the settings")),
    ("net/resolver/mod.rs", "Shared.fixed", Because("of the settings")),
    ("watch/mod.rs", "Settings.operators", Because("of the settings")),
    ("whatsapp/connection/mod.rs", "Settings.backoff", Because("of the settings")),
    ("whatsapp/connection/ends.rs", "Course.backoff", Because("of the settings")),
];

/// Types that are about one thing and end with it, whatever they hold.
const PASSING_TYPES: &[(&str, &str, &str)] = &[
    ("ledger/process_start.rs", "Restarts", "one number for each cause, counted of KEEP rows"),
    ("net/dial.rs", "Progress", ONE_LOOK_UP),
    ("net/in_flight.rs", "InFlight", ONE_LOOK_UP),
    ("net/resolver/http_response.rs", "Response", ONE_LOOK_UP),
    ("net/resolver/https.rs", "Responses", ONE_LOOK_UP),
    ("net/resolver/ladder.rs", "Lane", ONE_LOOK_UP),
    ("net/resolver/ladder.rs", "Said", ONE_LOOK_UP),
    ("net/resolver/ladder.rs", "Schedule", ONE_LOOK_UP),
    ("net/resolver/message.rs", "Answer", ONE_LOOK_UP),
    ("net/resolver/search.rs", "Asked", ONE_LOOK_UP),
    ("net/resolver/search.rs", "Outcome", ONE_LOOK_UP),
    ("pairing/answer.rs", "Parts", ONE_PAIRING),
    ("pairing/answer.rs", "Proof", ONE_PAIRING),
    ("pairing/request.rs", "PasskeyRequest", ONE_PAIRING),
    ("supabase/client.rs", "Request", ONE_BATCH),
    ("supabase/verdict.rs", "Verdict", ONE_BATCH),
    ("watch/alert.rs", "Decision", ONE_LOOK),
    ("watch/facts.rs", "Facts", ONE_LOOK),
    ("watch/hooks.rs", "Call", ONE_LOOK),
    ("watch/mod.rs", "Sources", ONE_LOOK),
    ("watch/report.rs", "Report", ONE_LOOK),
    (
        "whatsapp/inbox.rs",
        "Delivery",
        "one delivery of whatsapp-rust: a message, or a batch of its offline queue",
    ),
];

/// One field of a type.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Field {
    file: String,
    /// `Type.field`
    name: String,
}

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push(path);
        }
    }
}

/// The code without comments, texts, characters in quotes and what only tests have.
fn code_of(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::new();
    let mut rest = source.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '/' if rest.peek() == Some(&'/') => {
                for skipped in rest.by_ref() {
                    if skipped == '\n' {
                        break;
                    }
                }
                code.push('\n');
            }
            '"' => {
                code.push('"');
                let mut escaped = false;
                for skipped in rest.by_ref() {
                    match skipped {
                        _ if escaped => escaped = false,
                        '\\' => escaped = true,
                        '"' => break,
                        _ => {}
                    }
                }
                code.push('"');
            }
            // A character such as '{', and no lifetime.
            '\'' => {
                let mut ahead = rest.clone();
                let first = ahead.next();
                if first != Some('\\') && ahead.next() == Some('\'') {
                    rest.nth(1);
                } else if first == Some('\\') {
                    rest.by_ref().take_while(|skipped| *skipped != '\'').for_each(drop);
                } else {
                    code.push(letter);
                }
            }
            _ => code.push(letter),
        }
    }
    code
}

/// Whether a type names a collection.
fn grows(text: &str) -> bool {
    text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
        .any(|word| COLLECTIONS.contains(&word))
}

/// What stands between this bracket and its match.
fn inside(code: &str) -> &str {
    let mut depth = 0_i32;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' | '(' => depth += 1,
            '}' | ')' => {
                depth -= 1;
                if depth == 0 {
                    return &code[1..at];
                }
            }
            _ => {}
        }
    }
    panic!("a bracket without its match: {}", &code[..code.len().min(80)]);
}

/// At the commas that stand in no brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut all, mut before) = (0_i32, 0, Vec::new(), ' ');
    for (at, letter) in text.char_indices() {
        match letter {
            '{' | '(' | '[' | '<' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            '>' if before != '-' => depth -= 1,
            ',' if depth == 0 => {
                all.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
        before = letter;
    }
    all.push(&text[begin..]);
    all.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Without attributes and `pub`.
fn bare(part: &str) -> &str {
    let mut part = part.trim_start();
    while let Some(attribute) = part.strip_prefix("#[") {
        part = attribute.split_once(']').map_or("", |(_, rest)| rest).trim_start();
    }
    match part.strip_prefix("pub") {
        Some(scope) if scope.starts_with('(') => {
            scope.split_once(')').map_or("", |(_, rest)| rest).trim_start()
        }
        Some(rest) if rest.starts_with(' ') => rest.trim_start(),
        _ => part,
    }
}

/// Fields and statics of a file that hold a collection: `Type.field`, `Enum.Variant`, `STATIC`.
fn growable(source: &str) -> Vec<String> {
    let code = code_of(source);
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, _) in code.match_indices('\n').map(|(at, end)| (at + 1, end)).chain([(0, "")]) {
        let line = bare(&code[at..]);
        let begin = code.len() - line.len();
        // The empty lines and attributes before it have led here as well.
        if !seen.insert(begin) {
            continue;
        }
        let mut words = line.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
        let (kind, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match kind {
            "static" => {
                let declared = line.split('=').next().unwrap_or_default();
                if grows(declared) {
                    found.push(name.to_owned());
                }
            }
            "struct" | "enum" => {
                let Some(open) = line.find(['{', '(', ';']).filter(|open| !line[*open..].starts_with(';'))
                else {
                    continue;
                };
                let tuple = line[open..].starts_with('(');
                for (number, part) in parts(inside(&code[begin + open..])).into_iter().enumerate() {
                    let part = bare(part);
                    let field =
                        part.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')).next();
                    let field = if tuple { number.to_string() } else { field.unwrap_or_default().to_owned() };
                    if grows(part) {
                        found.push(format!("{name}.{field}"));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// All of `src/`, but for what only tests have.
fn files() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    paths
        .into_iter()
        .filter_map(|path| {
            let name = path.strip_prefix(&src).ok()?.to_str()?.to_owned();
            let of_tests = name.ends_with("/tests.rs") || name.contains("/tests/");
            (!of_tests).then(|| (name, fs::read_to_string(&path).expect("a source")))
        })
        .collect()
}

#[test]
fn every_field_that_can_grow_has_a_bound_or_a_reason() {
    let files = files();
    let known: BTreeSet<Field> = FIELDS
        .iter()
        .map(|(file, name, _)| Field { file: (*file).to_owned(), name: (*name).to_owned() })
        .collect();
    assert_eq!(known.len(), FIELDS.len(), "a field stands there twice");
    let of_passing_type = |field: &Field| {
        let of_type = field.name.split('.').next().unwrap_or_default();
        PASSING_TYPES.iter().any(|(file, name, _)| *file == field.file && *name == of_type)
    };
    let found: BTreeSet<Field> = files
        .iter()
        .filter(|(file, _)| PASSING.iter().all(|(folder, _)| !file.starts_with(folder)))
        .flat_map(|(file, source)| {
            growable(source).into_iter().map(|name| Field { file: file.clone(), name })
        })
        .filter(|field| !of_passing_type(field))
        .collect();
    let missing: Vec<_> =
        found.difference(&known).map(|field| format!("{} {}", field.file, field.name)).collect();
    assert!(
        missing.is_empty(),
        "these can grow, and nothing says how far; list each in bounds.rs and here, or here with the reason:\n  {}",
        missing.join("\n  ")
    );
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "these are no more and need no reason: {gone:?}");
    for (file, name, reason) in PASSING_TYPES {
        let source = files.get(*file).unwrap_or_else(|| panic!("{file} is no more"));
        let begins = format!("{name}.");
        assert!(
            growable(source).iter().any(|field| field.starts_with(&begins)),
            "{name} needs no reason: {reason}"
        );
    }
}

#[test]
fn every_bound_that_a_field_is_within_is_listed() {
    let files = files();
    for (file, name, kept) in FIELDS {
        match kept {
            Within(what) => {
                assert!(
                    BOUNDS.iter().any(|bound| bound.what == *what),
                    "{file} {name}: no bound is called {what:?}"
                );
            }
            // A constant that a reason names must be there.
            Because(reason) => {
                let source = files.get(*file).map_or("", String::as_str);
                for word in reason.split(' ').filter(|word| word.len() > 3 && is_constant(word)) {
                    let constant = word.rsplit("::").next().unwrap_or_default().trim_end_matches(',');
                    let there = source.contains(constant)
                        || files.values().any(|text| text.contains(&format!("const {constant}:")));
                    assert!(there, "{file} {name}: there is no {constant}");
                }
            }
        }
    }
}

fn is_constant(word: &str) -> bool {
    let word = word.rsplit("::").next().unwrap_or_default().trim_end_matches(',');
    word.contains('_')
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn no_channel_is_without_a_bound() {
    for (file, source) in files() {
        let code = code_of(&source);
        for word in UNBOUNDED {
            assert!(!code.contains(word), "{file} has a channel without a bound: {word}");
        }
    }
}

#[test]
fn what_can_grow_is_found_however_it_is_written() {
    let source = r#"
/// Not `Vec<u8>` in a comment.
#[derive(Debug)]
pub(super) struct Queue<'a, T> {
    pub name: &'static str,
    #[allow(dead_code)]
    pub(super) waiting: Arc<Mutex<
        HashMap<String, (u8, T)>,
    >>,
    call: fn(u8, u8) -> Vec<u8>, hidden: Option<std::collections::VecDeque<&'a str>>,
    brace: char,
}
struct Pair(u8, Vec<u8>);
struct Unit;
enum Kind { Plain, Full { rows: Vec<u8>, n: u8 }, Many(BTreeSet<u8>), Quoted }
    static SEEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
const NAMES: &str = "struct Never { rows: Vec<u8> }";
fn local() { let brace = '{'; let rows: Vec<u8> = Vec::new(); }
struct VectorLike { vectors: u8 }
#[cfg(test)]
mod tests {
    struct OfTests { rows: Vec<u8> }
}
"#;
    let mut found = growable(source);
    found.sort();
    let expected =
        ["Kind.Full", "Kind.Many", "Pair.1", "Queue.call", "Queue.hidden", "Queue.waiting", "SEEN"];
    assert_eq!(found, expected);
}
