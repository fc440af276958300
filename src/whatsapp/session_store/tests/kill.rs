//! A writer killed at any moment has lost nothing of what it was told is durable.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wacore::store::traits::SignalStore;

use super::super::SessionStore;
use crate::ledger::Database;

/// Names the database to the child process.
const FILE: &str = "BOT_KJP_KILL_TEST_FILE";
/// Replays the kill moments of an earlier run.
const SEED: &str = "BOT_KJP_KILL_TEST_SEED";
const ROUNDS: u64 = 20;
/// Tasks that write at the same time, and so share commits.
const WRITERS: u64 = 4;

#[test]
fn nothing_reported_as_durable_is_lost_to_a_kill() {
    if let Some(file) = std::env::var_os(FILE) {
        write_until_killed(&PathBuf::from(file));
        return;
    }
    let mut random = seed();
    println!("replay with {SEED}={random}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let mut durable = BTreeSet::new();
    for round in 0..ROUNDS {
        let reports = next(&mut random) % 60;
        let pause = Duration::from_micros(next(&mut random) % 3000);
        let before = durable.len();
        durable.extend(run_and_kill(&file, round, reports, pause));
        assert!(durable.len() > before, "round {round}: the child wrote nothing");

        // Opening checks the file (quick_check) and recovers the log.
        let store = SessionStore::new(Database::open(&file).unwrap());
        smol::block_on(async {
            for address in &durable {
                let session = store.get_session(address).await.unwrap();
                assert_eq!(session, Some(record(address)), "round {round}: {address} was lost");
                assert!(store.load_identity(address).await.unwrap().is_some(), "round {round}: {address}");
            }
        });
        let verdict: String =
            store.database().read(|c| c.query_row("PRAGMA quick_check", [], |row| row.get(0))).unwrap();
        assert_eq!(verdict, "ok", "round {round}");
    }
}

/// Starts a writing child, kills it some time after its `reports`th report, and returns the
/// addresses that it reported.
fn run_and_kill(file: &Path, round: u64, reports: u64, pause: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["whatsapp::session_store::tests::kill::nothing_reported", "--nocapture"])
        .env(FILE, file)
        .env("BOT_KJP_KILL_TEST_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut addresses = Vec::new();
    let mut line = String::new();
    let mut read = |addresses: &mut Vec<String>| {
        line.clear();
        let more = output.read_line(&mut line).unwrap() > 0;
        // A report that was cut off was not made.
        if let Some(address) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("durable ")) {
            addresses.push(address.to_owned());
        }
        more
    };
    while addresses.len() as u64 <= reports {
        assert!(read(&mut addresses), "the child ended by itself");
    }
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    while read(&mut addresses) {}
    addresses
}

/// The child: sessions and identities from several tasks at once, each reported when durable.
fn write_until_killed(file: &Path) {
    let round = std::env::var("BOT_KJP_KILL_TEST_ROUND").unwrap();
    let store = SessionStore::new(Database::open(file).unwrap());
    // Ends the line on which the test harness names the test.
    report("");
    let executor = smol::LocalExecutor::new();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, round) = (store.clone(), round.clone());
            executor.spawn(async move {
                for n in 0_u64.. {
                    let address: Arc<str> = format!("{round}-{writer}-{n}:1@lid").into();
                    store.put_identities_batch(&[(address.clone(), [7; 32])]).await.unwrap();
                    store.put_sessions_batch(&[(address.clone(), record(&address))]).await.unwrap();
                    report(&format!("durable {address}"));
                }
            })
        })
        .collect();
    smol::block_on(executor.run(async {
        for task in tasks {
            task.await;
        }
    }));
}

fn report(line: &str) {
    // One write, so that a kill cannot interleave two reports.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// About as long as a session record, and different for each address.
fn record(address: &str) -> Bytes {
    address.repeat(60).into()
}

fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => getrandom::u64().unwrap(),
    }
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
