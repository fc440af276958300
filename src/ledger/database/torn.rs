//! What a power cut may leave of the block that is being written takes nothing that was durable before.

use super::*;

use std::collections::BTreeSet;
use std::fs;

/// What flash writes at least, in bytes.
const BLOCK: usize = 4096;

/// Bytes that nobody wrote, the same in each run.
const NOISE: u8 = 0xa7;

/// The files of a ledger as they stand at one moment.
#[derive(Clone)]
struct Files {
    database: Vec<u8>,
    journal: Vec<u8>,
    log: Vec<u8>,
}

impl Files {
    fn of(file: &Path) -> Self {
        let beside = |suffix| fs::read(file.with_extension(suffix)).unwrap_or_default();
        Self { database: fs::read(file).unwrap(), journal: beside("db-wal"), log: beside("db-redo") }
    }

    fn open(&self) -> Result<Database, OpenError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        fs::write(&file, &self.database).unwrap();
        fs::write(file.with_extension("db-wal"), &self.journal).unwrap();
        fs::write(file.with_extension("db-redo"), &self.log).unwrap();
        // What was opened stays readable, as nothing of it is in memory alone.
        Database::open(&file)
    }
}

/// All that a cut may leave when `before` was being turned into `after`: blocks before the one that was being
/// written are written, those behind it are not, and of itself a part is old, new, empty or noise.
fn torn(before: &[u8], after: &[u8]) -> Vec<Vec<u8>> {
    let blocks = before.len().max(after.len()).div_ceil(BLOCK);
    let block = |bytes: &[u8], n: usize| -> Vec<u8> {
        let mut block: Vec<u8> = bytes.iter().skip(n * BLOCK).take(BLOCK).copied().collect();
        block.resize(BLOCK, 0);
        block
    };
    let written: Vec<usize> = (0..blocks).filter(|&n| block(before, n) != block(after, n)).collect();
    let mut left = Vec::new();
    for &being_written in &written {
        let (old, new) = (block(before, being_written), block(after, being_written));
        let empty = vec![0; BLOCK];
        let noise = vec![NOISE; BLOCK];
        for at in [0, 512, BLOCK / 2, BLOCK - 512] {
            for (first, second) in
                [(&empty, &new), (&noise, &new), (&new, &empty), (&new, &noise), (&new, &old)]
            {
                let mut file = Vec::new();
                for n in 0..blocks {
                    file.extend(match n.cmp(&being_written) {
                        std::cmp::Ordering::Less => block(after, n),
                        std::cmp::Ordering::Equal => [&first[..at], &second[at..]].concat(),
                        std::cmp::Ordering::Greater => block(before, n),
                    });
                }
                left.push(file);
            }
        }
    }
    left
}

fn numbers(database: &Database) -> BTreeSet<i64> {
    database
        .read(|c| {
            let mut statement = c.prepare("SELECT x FROM t")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<Result<_, rusqlite::Error>>()
        })
        .unwrap()
}

/// A batch of some size.
fn write(database: &Database, x: i64, bytes: i64) {
    let row = |tx: &Connection| -> Result<(), LedgerError> {
        tx.execute("INSERT INTO t VALUES (?1, randomblob(?2))", [x, bytes])?;
        Ok(())
    };
    database.write_now(row).unwrap();
}

fn with_table(file: &Path) -> Database {
    drop(Database::open(file).unwrap());
    // The log knows the tables that were there when it began.
    let table = "CREATE TABLE t(x INTEGER PRIMARY KEY, y BLOB) STRICT";
    Connection::open(file).unwrap().execute_batch(table).unwrap();
    let database = Database::open(file).unwrap();
    write(&database, -1, 0);
    database
}

fn is_sound(database: &Database) -> bool {
    let verdict: String =
        database.read(|c| c.query_row("PRAGMA integrity_check", [], |row| row.get(0))).unwrap();
    verdict == "ok"
}

#[test]
fn the_record_that_is_being_written_takes_none_of_those_before_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let database = with_table(&file);
    // They end anywhere between two borders of blocks, and exactly on one.
    for (x, bytes) in [10, 10, 700, 3000, 4096 - 64 - 54, 5000, 10, 9000, 10].into_iter().enumerate() {
        let x = x as i64;
        let before = Files::of(&file);
        write(&database, x, bytes);
        let after = Files::of(&file);
        assert_eq!((&before.database, &before.journal), (&after.database, &after.journal));
        let cuts = torn(&before.log, &after.log);
        assert!(!cuts.is_empty());
        for log in cuts {
            let left = Files { log, ..before.clone() }.open().unwrap();
            assert!(is_sound(&left));
            assert!(numbers(&left).is_superset(&(-1..x).collect()), "{:?} before {x}", numbers(&left));
        }
        assert_eq!(numbers(&after.open().unwrap()), (-1..=x).collect());
    }
}

#[test]
fn the_commit_that_folds_the_log_in_takes_nothing_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let database = with_table(&file);
    for round in 0..4 {
        for x in 0..3 {
            write(&database, round * 3 + x, 700 * (x + 1));
        }
        let rows: BTreeSet<i64> = (-1..round * 3 + 3).collect();
        let before = Files::of(&file);
        database.fold().unwrap();
        let after = Files::of(&file);
        assert_eq!(before.log, after.log);
        let cuts = torn(&before.journal, &after.journal);
        assert!(!cuts.is_empty());
        for journal in cuts {
            let left = Files { journal, ..before.clone() }.open().unwrap();
            assert!(is_sound(&left));
            assert_eq!(numbers(&left), rows, "round {round}");
        }
        assert_eq!(numbers(&after.open().unwrap()), rows);
    }
}

#[test]
fn the_commit_that_is_being_written_takes_none_of_those_before_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let database = with_table(&file);
    // Each is durable when the next one begins, and they end anywhere between two borders of blocks.
    for (x, bytes) in [10, 10, 10, 700, 10, 3000, 5000, 10, 9000, 10].into_iter().enumerate() {
        let x = x as i64;
        let before = Files::of(&file);
        write(&database, x, bytes);
        database.fold().unwrap();
        for journal in torn(&before.journal, &Files::of(&file).journal) {
            // As if there were no log: SQLite's own promise.
            let left = Files { journal, ..before.clone() }.open().unwrap();
            assert!(is_sound(&left));
            assert!(numbers(&left).is_superset(&(-1..x).collect()), "{:?} before {x}", numbers(&left));
        }
    }
}

#[test]
fn what_is_moved_into_the_file_takes_none_of_its_neighbours_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let database = with_table(&file);
    for x in 0..20 {
        write(&database, x, 700);
        database.fold().unwrap();
    }
    let fold = |c: &Connection| c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    database.read(fold).unwrap();
    // From here on neighbours of what changes stand in the file alone.
    write(&database, 20, 700);
    database.fold().unwrap();
    let before = Files::of(&file);
    database.read(fold).unwrap();
    let cuts = torn(&before.database, &Files::of(&file).database);
    assert!(!cuts.is_empty());
    for torn in cuts {
        let left = Files { database: torn, ..before.clone() }.open().unwrap();
        assert!(is_sound(&left));
        assert_eq!(numbers(&left), (-1..=20).collect());
    }
}

#[test]
fn a_file_of_an_earlier_version_gets_pages_as_large_as_blocks() {
    let folder = tempfile::tempdir().unwrap();
    // A name that means something else in a URI.
    let file = folder.path().join("50%25 ?a#b.db");
    let mut earlier = Connection::open(&file).unwrap();
    earlier.execute_batch("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL").unwrap();
    migrate(&mut earlier, &file, MIGRATIONS).unwrap();
    earlier.execute_batch("CREATE TABLE t(x INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2)").unwrap();
    drop(earlier);

    for _ in 0..2 {
        let database = Database::open(&file).unwrap();
        let pragma = |name: &str| -> String {
            database
                .read(|c| c.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)))
                .map(|value| format!("{value:?}"))
                .unwrap()
        };
        assert_eq!(pragma("page_size"), "Integer(4096)");
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("temp_store"), "Integer(2)");
        assert_eq!(numbers(&database), BTreeSet::from([1, 2]));
    }
    let names: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let expected = ["50%25 ?a#b.db", "50%25 ?a#b.db-redo"].map(Into::into);
    assert_eq!(names, BTreeSet::from(expected), "nothing else lies beside it");
}
