//! The promises of the one connection.

use super::*;
use futures_lite::future::zip;

fn with_table() -> Database {
    let database = Database::in_memory().unwrap();
    database
        .write_now::<_, LedgerError>(|tx| Ok(tx.execute_batch("CREATE TABLE t(x INTEGER UNIQUE) STRICT")?))
        .unwrap();
    database
}

fn insert(x: i64) -> impl FnOnce(&Connection) -> Result<(), LedgerError> {
    move |tx| {
        tx.execute("INSERT INTO t VALUES (?1)", [x])?;
        Ok(())
    }
}

fn rows(database: &Database) -> i64 {
    database.read(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).unwrap()
}

#[test]
fn writers_that_are_ready_together_share_one_commit() {
    let database = with_table();
    let commits = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = commits.clone();
    database
        .lock()
        .connection
        .commit_hook(Some(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            false
        }))
        .unwrap();
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(async {
        let tasks: Vec<_> = (0..20)
            .map(|x| {
                let database = database.clone();
                executor.spawn(async move { database.write(insert(x)).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }));
    assert_eq!(rows(&database), 20);
    assert_eq!(commits.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_patient_writer_waits_until_the_disk_takes_it() {
    let database = with_table();
    let pages = |limit: i64| {
        let shared = database.lock();
        // SQLite's own answer to a full disk.
        shared.connection.pragma_update_and_check(None, "max_page_count", limit, |_| Ok(())).unwrap();
    };
    let used: i64 = database.read(|c| c.query_row("PRAGMA page_count", [], |row| row.get(0))).unwrap();
    pages(used);
    let big = |tx: &Connection| {
        tx.execute_batch("CREATE TABLE big(x BLOB); INSERT INTO big VALUES (zeroblob(100000))")
            .map_err(LedgerError::from)
    };
    smol::block_on(async {
        assert!(database.write(big).await.unwrap_err().may_pass());
        let tries = std::cell::Cell::new(0);
        let writing = database.write_patiently("a test", |tx| {
            tries.set(tries.get() + 1);
            big(tx)
        });
        let freeing = async {
            while tries.get() < 2 {
                futures_lite::future::yield_now().await;
            }
            pages(used + 100);
        };
        zip(writing, freeing).await.0.unwrap();
        assert!(tries.get() > 2);
    });
}

#[test]
fn a_patient_writer_gives_up_on_what_is_wrong_with_the_write_itself() {
    let database = with_table();
    smol::block_on(async {
        database.write(insert(1)).await.unwrap();
        let twice = |tx: &Connection| insert(1)(tx);
        assert!(database.write_patiently("a test", twice).await.is_err());
    });
}

#[test]
fn a_failed_writer_does_not_undo_its_neighbours() {
    let database = with_table();
    smol::block_on(async {
        let (first, (twin, third)) =
            zip(database.write(insert(1)), zip(database.write(insert(1)), database.write(insert(3)))).await;
        first.unwrap();
        assert!(matches!(twin, Err(LedgerError::Statement(_))));
        third.unwrap();
    });
    assert_eq!(rows(&database), 2);
}

#[test]
fn a_failed_commit_is_told_to_every_writer_and_leaves_nothing() {
    let database = with_table();
    database.lock().connection.commit_hook(Some(|| true)).unwrap();
    smol::block_on(async {
        let (a, b) = zip(database.write(insert(1)), database.write(insert(2))).await;
        assert!(matches!(a, Err(LedgerError::Commit(_))));
        assert!(matches!(b, Err(LedgerError::Commit(_))));
    });
    database.lock().connection.commit_hook(None::<fn() -> bool>).unwrap();
    assert_eq!(rows(&database), 0);
    smol::block_on(database.write(insert(1))).unwrap();
    assert_eq!(rows(&database), 1);
}

#[test]
fn a_reader_of_what_is_durable_does_not_wait_for_what_nobody_waits_for() {
    let database = with_table();
    database.write_lazily(insert(1)).unwrap();
    let count = |c: &Connection| Ok(c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?);
    let counted: Result<i64, LedgerError> = smol::block_on(database.read_durable(count));
    assert_eq!(counted.unwrap(), 1);
    assert!(database.lock().batch.is_some(), "still open");
}

#[test]
fn what_was_left_open_is_closed_in_the_end() {
    let database = with_table();
    let executor = crate::executor::new();
    smol::block_on(executor.run(async {
        executor.spawn(database.clone().close_what_is_open()).detach();
        database.write_lazily(insert(1)).unwrap();
        while database.lock().batch.is_some() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    }));
    assert_eq!(rows(&database), 1);
}

#[test]
fn a_lazy_write_is_seen_at_once_and_commits_with_the_next_write() {
    let database = with_table();
    database.write_lazily(insert(1)).unwrap();
    assert_eq!(rows(&database), 1);
    assert!(!database.lock().connection.is_autocommit());
    smol::block_on(database.write(insert(2))).unwrap();
    assert!(database.lock().connection.is_autocommit());
}

#[test]
fn a_cancelled_leader_still_commits_for_the_others() {
    let database = with_table();
    smol::block_on(async {
        let mut leader = Box::pin(database.write(insert(1)));
        assert!(futures_lite::future::poll_once(&mut leader).await.is_none());
        let mut follower = Box::pin(database.write(insert(2)));
        assert!(futures_lite::future::poll_once(&mut follower).await.is_none());
        drop(leader);
        follower.await.unwrap();
    });
    assert_eq!(rows(&database), 2);
}

#[test]
fn a_leader_that_nobody_polls_any_more_keeps_no_writer_waiting() {
    let database = with_table();
    smol::block_on(async {
        let mut leader = Box::pin(database.write(insert(1)));
        assert!(futures_lite::future::poll_once(&mut leader).await.is_none());
        database.write(insert(2)).await.unwrap();
        assert_eq!(rows(&database), 2);
        leader.await.unwrap();
    });
}

#[test]
fn read_durable_waits_for_the_commit() {
    let database = with_table();
    smol::block_on(async {
        let mut writer = Box::pin(database.write(insert(1)));
        assert!(futures_lite::future::poll_once(&mut writer).await.is_none());
        let count = |c: &Connection| {
            Ok::<i64, LedgerError>(c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
        };
        assert_eq!(database.read(count).unwrap(), 1);
        let mut reader = Box::pin(database.read_durable(count));
        assert!(futures_lite::future::poll_once(&mut reader).await.is_none());
        writer.await.unwrap();
        assert_eq!(reader.await.unwrap(), 1);
    });
}

#[test]
fn a_new_file_is_private_and_locked_against_a_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let database = Database::open(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(Database::open(&file), Err(OpenError::InUse(_))));
    drop(database);
    Database::open(&file).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_reported_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let noise = vec![7_u8; 8192];
    std::fs::write(&file, &noise).unwrap();
    assert!(matches!(Database::open(&file), Err(OpenError::Damaged { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), noise);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    assert!(matches!(Database::open(&file), Err(OpenError::Foreign(_))));
}

/// A ledger to which a version from the future has applied one more migration.
fn updated(folder: &Path, migration: &str) -> (PathBuf, Vec<&'static str>) {
    let file = folder.join("bot-kjp.db");
    drop(Database::open(&file).unwrap());
    let mut newer = MIGRATIONS.to_vec();
    newer.push(Box::leak(migration.to_owned().into_boxed_str()));
    migrate(&mut Connection::open(&file).unwrap(), &file, &newer).unwrap();
    (file, newer)
}

#[test]
fn an_update_that_only_added_things_can_be_taken_back_and_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let added = "CREATE TABLE added(x) STRICT; ALTER TABLE outbox ADD COLUMN added TEXT";
    let added = added.replace("(x)", "(x INTEGER)");
    let (file, newer) = updated(folder.path(), &added);
    let database = Database::open(&file).unwrap();
    database.write_now(|tx| crate::ledger::inbound::remember(tx, "a", "a", "1", 1)).unwrap();
    drop(database);
    let mut connection = Connection::open(&file).unwrap();
    migrate(&mut connection, &file, &newer).unwrap();
    let rows = "SELECT (SELECT count(*) FROM inbound_message) + (SELECT count(*) FROM added)";
    assert_eq!(connection.query_row(rows, [], |row| row.get::<_, i64>(0)), Ok(1));
}

#[test]
fn a_schema_that_this_version_cannot_use_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let newer = MIGRATIONS.len() + 1;
    let changed = format!("UPDATE compatibility SET oldest = {newer}; DROP TABLE phone_seen");
    let (file, _) = updated(folder.path(), &changed);
    let before = std::fs::read(&file).unwrap();
    let refused = Database::open(&file);
    assert!(matches!(refused, Err(OpenError::Newer { found, .. }) if found as usize == newer));
    assert_eq!(std::fs::read(&file).unwrap(), before);

    // Nor one that does not say whom it suits.
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("DROP TABLE compatibility; PRAGMA user_version = 4711").unwrap();
    drop(connection);
    assert!(matches!(Database::open(&file), Err(OpenError::Newer { found: 4711, .. })));
    Connection::open(&file).unwrap().execute_batch("PRAGMA user_version = -1").unwrap();
    assert!(matches!(Database::open(&file), Err(OpenError::Newer { found: -1, .. })));
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gone/bot-kjp.db");
    assert!(matches!(Database::open(&file), Err(OpenError::FolderMissing(f)) if f.ends_with("gone")));
}

#[test]
fn people_of_an_earlier_version_follow_the_numbers_that_were_learned_since() {
    let file = Path::new(":memory:");
    let mut connection = Connection::open_in_memory().unwrap();
    let people = MIGRATIONS.iter().position(|sql| sql.contains("CREATE TABLE person")).unwrap();
    migrate(&mut connection, file, &MIGRATIONS[..people]).unwrap();
    let registration = |sender: &str, name: &str, n: u32| {
        format!(
            "INSERT INTO registration (row_key, day, received_at, sender, message_id, message_index, nama,
               name_canonical, no_kjp, no_ktp, no_kk, lokasi)
             VALUES (randomblob(16), '2026-11-23', 50, '{sender}', 'M', 0, 'x', '{name}', '{n}', '{n}', '1', 'x');"
        )
    };
    let rows: String =
        [("62811", "ani", 1), ("101@lid", "ani", 2), ("101@lid", "budi", 3), ("102@lid", "cici", 4)]
            .map(|(sender, name, n)| registration(sender, name, n))
            .concat();
    connection
        .execute_batch(&format!(
            "INSERT INTO wa_lid_mapping (lid, phone_number, created_at, updated_at, learning_source) VALUES
               ('101', '62811', 1, 1, 'usync'), ('103', '62813', 1, 1, 'usync'), ('104', '62814', 1, 1, 'usync');
             INSERT INTO conversation (chat, updated_at, json) VALUES
               ('62811', 10, 'older'), ('101@lid', 20, 'newer'), ('102@lid', 5, 'hidden'),
               ('62813', 20, 'newer'), ('103@lid', 10, 'older');
             {rows}"
        ))
        .unwrap();
    migrate(&mut connection, file, MIGRATIONS).unwrap();
    let list = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let conversations = list("SELECT chat || ' ' || json FROM conversation ORDER BY chat");
    assert_eq!(conversations, ["102@lid hidden", "62811 newer", "62813 newer"]);
    let senders = list("SELECT sender || ' ' || no_kjp FROM registration ORDER BY id");
    assert_eq!(senders, ["62811 1", "62811 2", "62811 3", "102@lid 4"]);
    let people = list("SELECT ifnull(phone, '-') || ' ' || ifnull(lid, '-') FROM person ORDER BY phone");
    assert_eq!(people, ["- 102", "62811 101", "62813 103"]);
}
