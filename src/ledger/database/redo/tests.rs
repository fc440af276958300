//! What was durable is there again, whatever happened to SQLite's own transaction.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{Database, LedgerError};
use super::*;

/// One table of each kind that the schema has, and one that it has not: without a rowid.
const TABLES: &str = "
    CREATE TABLE numbered (id INTEGER PRIMARY KEY, word TEXT UNIQUE, body BLOB) STRICT;
    CREATE TABLE keyed (word TEXT NOT NULL, part TEXT NOT NULL, n INTEGER, PRIMARY KEY (word, part)) STRICT;
    CREATE INDEX keyed_by_n ON keyed (n);
    CREATE TABLE unnumbered (word TEXT PRIMARY KEY, n INTEGER) STRICT, WITHOUT ROWID;";

/// A ledger in a folder that vanishes with it.
struct Ledger {
    folder: tempfile::TempDir,
    database: Option<Database>,
}

impl Ledger {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Self { folder, database: None };
        drop(Database::open(&ledger.file()).unwrap());
        Connection::open(ledger.file()).unwrap().execute_batch(TABLES).unwrap();
        ledger.begin_again();
        ledger
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("bot-kjp.db")
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// As after `kill -9`: what SQLite has not committed is gone from its files.
    fn begin_again(&mut self) {
        self.database = None;
        self.database = Some(Database::open(&self.file()).unwrap());
    }

    fn run(&self, sql: &str) -> Result<(), LedgerError> {
        self.database().write_now(|tx| Ok(tx.execute_batch(sql)?))
    }

    fn has_records(&self) -> bool {
        self.database().lock().redo.as_ref().unwrap().has_records()
    }

    /// How the process was started does not matter: SQLite makes the first commit, records come after it.
    fn past_the_first_commit(self) -> Self {
        self.run("INSERT INTO numbered (id) VALUES (-1); DELETE FROM numbered WHERE id = -1").unwrap();
        assert!(!self.has_records());
        self
    }

    fn everything(&self) -> Vec<String> {
        self.database().read(|c| Ok::<_, LedgerError>(everything(c))).unwrap()
    }
}

fn everything(connection: &Connection) -> Vec<String> {
    let sound: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let mut found = Vec::new();
    for sql in [
        "SELECT 'numbered ' || quote(id) || quote(word) || quote(body) FROM numbered ORDER BY id",
        "SELECT 'keyed ' || quote(rowid) || quote(word) || quote(part) || quote(n) FROM keyed ORDER BY rowid",
        "SELECT 'unnumbered ' || quote(word) || quote(n) FROM unnumbered ORDER BY word",
    ] {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        found.extend(rows.map(Result::unwrap));
    }
    found
}

#[test]
fn a_batch_is_durable_without_a_commit_of_sqlites() {
    let mut ledger = Ledger::new().past_the_first_commit();
    let size = |ledger: &Ledger| fs::metadata(ledger.folder.path().join("bot-kjp.db-wal")).unwrap().len();
    let before = size(&ledger);
    for n in 0..20 {
        ledger.run(&format!("INSERT INTO keyed VALUES ('a', '{n}', {n})")).unwrap();
    }
    assert!(ledger.has_records());
    assert_eq!(size(&ledger), before, "SQLite has written nothing");
    let rows = ledger.everything();
    assert_eq!(rows.len(), 20);
    ledger.begin_again();
    assert_eq!(ledger.everything(), rows);
    ledger.begin_again();
    assert_eq!(ledger.everything(), rows, "and again");
}

#[test]
fn what_fills_the_log_is_folded_in() {
    let mut ledger = Ledger::new().past_the_first_commit();
    let generation = |ledger: &Ledger| ledger.database().lock().redo.as_ref().unwrap().file.generation();
    let before = generation(&ledger);
    for n in 0..file::BLOCKS + 10 {
        ledger.run(&format!("INSERT INTO numbered VALUES ({n}, '{n}', zeroblob(100))")).unwrap();
    }
    assert_eq!(generation(&ledger), before + 1);
    assert!(ledger.has_records());
    // One that no log can hold.
    ledger.run("INSERT INTO numbered VALUES (-5, 'large', zeroblob(2000000))").unwrap();
    assert_eq!(generation(&ledger), before + 2);
    assert!(!ledger.has_records());
    let rows = ledger.everything();
    ledger.begin_again();
    assert_eq!(ledger.everything(), rows);
}

#[test]
fn a_commit_that_sqlite_refuses_takes_nothing_along_that_was_durable() {
    let mut ledger = Ledger::new().past_the_first_commit();
    ledger.run("INSERT INTO keyed VALUES ('a', 'durable', 1)").unwrap();
    ledger.run("INSERT INTO numbered VALUES (1, 'durable', x'00')").unwrap();
    let durable = ledger.everything();
    let refuse = |refuses: bool| {
        let hook = refuses.then_some(|| true);
        ledger.database().lock().connection.commit_hook(hook).unwrap();
    };
    refuse(true);
    assert!(matches!(
        ledger.run("DELETE FROM unnumbered; INSERT INTO unnumbered VALUES ('a', 1)"),
        Err(LedgerError::Commit(_))
    ));
    assert_eq!(ledger.everything(), durable);
    ledger.database().fold().unwrap_err();
    assert_eq!(ledger.everything(), durable);
    // A commit that failed may have reached the disk: records behind it might be passed over.
    assert!(matches!(ledger.run("UPDATE numbered SET body = x'01'"), Err(LedgerError::Commit(_))));
    assert_eq!(ledger.everything(), durable);
    refuse(false);
    ledger.run("UPDATE numbered SET body = x'01'").unwrap();
    assert!(!ledger.has_records(), "SQLite commits");
    ledger.run("UPDATE numbered SET body = x'02'").unwrap();
    assert!(ledger.has_records());
    let durable = ledger.everything();
    ledger.begin_again();
    assert_eq!(ledger.everything(), durable);
}

#[test]
fn a_record_that_cannot_be_written_fails_its_batch_and_nothing_else() {
    let mut ledger = Ledger::new().past_the_first_commit();
    ledger.run("INSERT INTO keyed VALUES ('a', 'durable', 1)").unwrap();
    let durable = ledger.everything();
    let full = fs::OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let exchange = |file| {
        let mut shared = ledger.database().lock();
        std::mem::replace(&mut shared.redo.as_mut().unwrap().file.file, file)
    };
    let log = exchange(full);
    let refused = ledger.run("INSERT INTO keyed VALUES ('a', 'refused', 2); DELETE FROM keyed WHERE n = 1");
    assert!(
        matches!(&refused, Err(LedgerError::Commit(failure)) if failure.message.contains("redo log")),
        "{refused:?}"
    );
    assert_eq!(ledger.everything(), durable);
    exchange(log);
    ledger.run("INSERT INTO keyed VALUES ('a', 'taken', 3)").unwrap();
    let durable = ledger.everything();
    assert_eq!(durable.len(), 2);
    ledger.begin_again();
    assert_eq!(ledger.everything(), durable);
}

#[test]
fn earlier_versions_are_kept_out_for_as_long_as_there_are_records() {
    let mut ledger = Ledger::new();
    let oldest = |ledger: &Ledger| {
        let sql = "SELECT oldest FROM compatibility";
        Connection::open(ledger.file()).unwrap().query_row(sql, [], |row| row.get::<_, i32>(0)).unwrap()
    };
    for _ in 0..2 {
        ledger.run("INSERT INTO keyed (word, part) VALUES (hex(randomblob(8)), '')").unwrap();
        ledger.run("INSERT INTO keyed (word, part) VALUES (hex(randomblob(8)), '')").unwrap();
        assert!(ledger.has_records());
        ledger.database = None;
        assert_eq!(oldest(&ledger), FIRST_SCHEMA);
        ledger.begin_again();
        ledger.database().finish().unwrap();
        ledger.database = None;
        assert!(oldest(&ledger) < FIRST_SCHEMA);
        ledger.begin_again();
    }
    assert_eq!(ledger.everything().len(), 4);
}

#[test]
fn the_log_of_another_database_does_not_count() {
    let theirs = Ledger::new().past_the_first_commit();
    theirs.run("INSERT INTO keyed VALUES ('theirs', '', 1)").unwrap();
    let mut ours = Ledger::new().past_the_first_commit();
    ours.database = None;
    fs::copy(path_of(&theirs.file()), path_of(&ours.file())).unwrap();
    ours.begin_again();
    assert_eq!(ours.everything(), [""; 0]);
}

#[test]
fn records_that_vanish_while_the_bot_runs_are_a_damage() {
    let ledger = Ledger::new().past_the_first_commit();
    ledger.run("INSERT INTO keyed VALUES ('a', '', 1)").unwrap();
    ledger.database().lock().connection.execute_batch("ROLLBACK").unwrap();
    fs::write(path_of(&ledger.file()), "").unwrap();
    assert!(ledger.run("INSERT INTO keyed VALUES ('b', '', 1)").is_err());
    assert!(ledger.database().damage().is_some());
}

#[test]
fn what_sqlite_does_not_name_it_commits() {
    let mut ledger = Ledger::new().past_the_first_commit();
    ledger.run("INSERT INTO keyed VALUES ('a', '', 1), ('b', '', 2)").unwrap();
    ledger.run("DELETE FROM keyed").unwrap();
    assert!(ledger.has_records(), "a table that is emptied is named row by row");
    ledger.run("INSERT INTO unnumbered VALUES ('a', 1)").unwrap();
    assert!(!ledger.has_records());
    let rows = ledger.everything();
    assert_eq!(rows, ["unnumbered 'a'1"]);
    ledger.begin_again();
    assert_eq!(ledger.everything(), rows);
}

#[test]
fn every_table_of_the_schema_can_be_recorded() {
    let database = Database::in_memory().unwrap();
    let sql = "SELECT group_concat(name) FROM pragma_table_list
         WHERE schema = 'main' AND name NOT LIKE 'sqlite%' AND (type <> 'table' OR wr = 1)";
    let others = database.read(|c| c.query_row(sql, [], |row| row.get::<_, Option<String>>(0)));
    assert_eq!(others.unwrap(), None);
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
    assert_eq!(database.read(|c| c.query_row(triggers, [], |row| row.get::<_, i64>(0))).unwrap(), 0);
}

/// SQLite names no row that a REPLACE removes, of a row that gets another rowid not the old one, and no table that
/// is made or dropped.
#[test]
fn no_statement_changes_anything_unseen() {
    fn search(folder: &Path, unseen: &[String], found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.ends_with("tests.rs") || path.ends_with("redo/rows.rs");
            if path.is_dir() {
                if !path.ends_with("tests") {
                    search(&path, unseen, found);
                }
            } else if path.extension().is_some_and(|kind| kind == "rs") && !is_test {
                let text = fs::read_to_string(&path).unwrap();
                // What a test at the end of a file does to a ledger of its own is its own business.
                let text = text.split("#[cfg(test)]").next().unwrap_or_default();
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
                if unseen.iter().any(|unseen| words.contains(unseen)) {
                    found.push(path);
                }
            }
        }
    }
    let rowids = "SELECT DISTINCT upper(info.name) FROM pragma_table_list AS list, pragma_table_info(list.name) AS info
         WHERE list.schema = 'main' AND list.name NOT LIKE 'sqlite%' AND info.pk = 1 AND info.type = 'INTEGER'";
    let rowids: Vec<String> = Database::in_memory()
        .unwrap()
        .read(|c| c.prepare(rowids)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>())
        .unwrap();
    assert!(rowids.contains(&"PUT_NO".to_owned()), "{rowids:?}");
    let mut unseen: Vec<String> =
        ["OR REPLACE", "REPLACE INTO", "CREATE TABLE", "CREATE INDEX", "ALTER TABLE", "DROP TABLE"]
            .map(str::to_owned)
            .to_vec();
    unseen.extend(rowids.iter().flat_map(|rowid| [format!(" SET {rowid} ="), format!(", {rowid} = ?")]));
    let mut found = Vec::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &unseen, &mut found);
    found.retain(|path| !path.ends_with("database/torn.rs"));
    assert!(found.is_empty(), "{found:?} has one of {unseen:?}");
}

/// Something that a writer, or the world, does.
#[derive(Debug, Clone)]
enum Happening {
    /// One batch of several jobs, each of which is a list of statements; one that fails is undone alone.
    Batch(Vec<Vec<String>>),
    /// A job that nobody has waited for when the process is killed.
    Lost(Vec<String>),
    Killed,
    Folded,
    Finished,
}

fn statement() -> impl Strategy<Value = String> {
    let (word, n) = (prop::sample::select(vec!["a", "b", "c", "d"]), 0..6_i64);
    (0..16_u8, word.clone(), word, n.clone(), n).prop_map(|(kind, word, other, n, m)| match kind {
        0 => format!("INSERT INTO numbered VALUES ({n}, '{word}', x'00ff')"),
        1 => format!("INSERT OR IGNORE INTO numbered (word, body) VALUES ('{word}', zeroblob({n}))"),
        2 => format!("UPDATE numbered SET body = x'0{m}' WHERE id <= {n}"),
        3 => format!("UPDATE OR IGNORE numbered SET word = '{word}' WHERE id = {n}"),
        4 => format!("UPDATE OR IGNORE numbered SET word = '{word}', body = NULL WHERE id IN ({n}, {m})"),
        5 => format!("DELETE FROM numbered WHERE id = {n}"),
        6 => format!("INSERT INTO keyed VALUES ('{word}', '{other}', {n}) ON CONFLICT DO UPDATE SET n = n + 1"),
        7 => format!("INSERT INTO keyed VALUES ('{word}', '{other}', NULL)"),
        8 => format!("DELETE FROM keyed WHERE n = {n} OR word = '{word}'"),
        9 => format!("UPDATE keyed SET part = '{word}' WHERE n <= {n}"),
        // Two rows change places, by way of a third name.
        10 => format!(
            "UPDATE numbered SET word = NULL WHERE id = {n}; UPDATE numbered SET word = '{word}' WHERE id = {m};
             UPDATE numbered SET word = '{other}' WHERE id = {n}"
        ),
        11 => format!("UPDATE keyed SET word = '{word}', n = {n} WHERE rowid = {m}"),
        12 => "DELETE FROM keyed".into(),
        13 => "DELETE FROM numbered".into(),
        // Fails at its last row, when others have changed.
        14 => format!("INSERT INTO numbered SELECT id + {n}, NULL, body FROM numbered WHERE id < {m}"),
        _ => format!("DELETE FROM keyed WHERE word = '{word}'; INSERT INTO keyed VALUES ('{word}', '{other}', {n})"),
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let job = || prop::collection::vec(statement(), 1..4);
    prop_oneof![
        12 => prop::collection::vec(job(), 1..4).prop_map(Happening::Batch),
        2 => job().prop_map(Happening::Lost),
        3 => Just(Happening::Killed),
        1 => Just(Happening::Folded),
        1 => Just(Happening::Finished),
    ]
}

/// Does in one savepoint what a job does; like the rooms of the bot, it may go on after a statement that failed.
fn perform(tx: &Connection, statements: &[String], goes_on: bool) -> Result<(), LedgerError> {
    for statement in statements {
        match tx.execute_batch(statement) {
            Err(error) if !goes_on => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    // Each opens a dozen databases; PROPTEST_CASES=8000 for a night's work.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 4,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_done_and_whenever_it_is_killed_what_was_durable_is_there(
        happenings in prop::collection::vec(happening(), 1..25),
        go_on in prop::collection::vec(any::<bool>(), 25 * 4),
    ) {
        let mut ledger = Ledger::new();
        // What SQLite alone makes of it.
        let plain = Connection::open_in_memory().unwrap();
        plain.execute_batch(TABLES).unwrap();
        let mut go_on = go_on.into_iter();
        for happening in happenings {
            match happening {
                Happening::Batch(jobs) => {
                    for (n, job) in jobs.iter().enumerate() {
                        let goes_on = go_on.next().unwrap_or_default();
                        plain.execute_batch("SAVEPOINT job").unwrap();
                        let expected = perform(&plain, job, goes_on).is_ok();
                        plain.execute_batch(if expected { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })
                            .unwrap();
                        let database = ledger.database();
                        let done = if n + 1 < jobs.len() {
                            database.write_lazily(|tx| perform(tx, job, goes_on))
                        } else {
                            database.write_now(|tx| perform(tx, job, goes_on))
                        };
                        prop_assert_eq!(done.is_ok(), expected);
                    }
                }
                Happening::Lost(job) => {
                    let _ = ledger.database().write_lazily(|tx| perform(tx, &job, true));
                    ledger.begin_again();
                }
                Happening::Killed => ledger.begin_again(),
                Happening::Folded => ledger.database().fold().unwrap(),
                Happening::Finished => {
                    ledger.database().finish().unwrap();
                    ledger.begin_again();
                }
            }
            prop_assert_eq!(ledger.everything(), everything(&plain));
        }
        ledger.begin_again();
        prop_assert_eq!(ledger.everything(), everything(&plain));
    }
}
