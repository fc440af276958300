#!/bin/sh
# SQLite 3.54.1 (rusqlite 0.43.0, bundled): a statement that is prepared once is parsed and planned again each time
# that it runs with another value than before, if that value stands behind LIMIT, or is compared with a column that
# the condition of a partial index of the table mentions. The planner wants to look at the value, and so the
# statement is marked for as long as it lives. A cache of prepared statements does not help, and nothing tells but
# the statement's own counter (SQLITE_STMTSTATUS_REPREPARE).
#
# Cost for a program that takes the next N rows of a queue, N changing: the parser at every look.
# Way out: SQLITE_DBCONFIG_ENABLE_QPSG, by which plans never depend on values.
#
# Seen on Debian 12: 1,000 runs with 1,000 values, 1,000 preparations for LIMIT and for the partial index's column,
# none for another column, none at all with QPSG.
# Exit 0: as described. Exit 1: changed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "replanned"
version = "0.0.0"
edition = "2024"
[dependencies]
rusqlite = { version = "=0.43.0", features = ["bundled"] }
libsqlite3-sys = "=0.40.0"
TOML
cat >src/main.rs <<'RUST'
use rusqlite::{Connection, StatementStatus, config::DbConfig};

const RUNS: i64 = 1000;

fn main() -> rusqlite::Result<()> {
    let connection = Connection::open_in_memory()?;
    connection.execute_batch(
        "CREATE TABLE job (id INTEGER PRIMARY KEY, due INTEGER, kind INTEGER);
         CREATE INDEX by_due ON job (due);
         CREATE INDEX of_kind_5 ON job (id) WHERE kind = 5;",
    )?;
    println!("SQLite {}", rusqlite::version());
    let mut seen = Vec::new();
    for stable in [false, true] {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, stable)?;
        for condition in ["ORDER BY due LIMIT ?1", "WHERE kind = ?1", "WHERE due = ?1"] {
            let mut statement = connection.prepare(&format!("SELECT id FROM job {condition}"))?;
            for value in 1..=RUNS {
                let mut rows = statement.query([value])?;
                while rows.next()?.is_some() {}
            }
            let again = statement.get_status(StatementStatus::RePrepare);
            println!("QPSG {stable}: {condition}: prepared again {again} times in {RUNS} runs");
            seen.push(i64::from(again));
        }
    }
    // With 5 it may or may not use the partial index.
    let always = |again: i64| again >= RUNS - 1;
    let as_described = always(seen[0]) && always(seen[1]) && seen[2..].iter().all(|&again| again == 0);
    std::process::exit(i32::from(!as_described))
}
RUST
cargo run --quiet
