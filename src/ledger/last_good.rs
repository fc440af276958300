//! Addresses that hosts really had, for when nobody can be asked.
//!
//! Moments are the box's clock, which may be wrong. They only order the rows: which of too many
//! goes, and which is tried first. Nothing is forgotten by age, because TLS proves an address anew
//! whenever it is used.

use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension};

use super::database::{Database, LedgerError};
use crate::net::resolver::last_good::{LastGood, MAX_ADDRESSES, MAX_HOSTS, Proof};
use crate::trusted_clock;

/// A proof is written again only when the one in the ledger is older, in seconds: reconnects must
/// not wear out the flash.
const REWRITE_AFTER: i64 = 60 * 60;

/// Longest name and source that are kept, in bytes. A DNS name has 253 at most.
const MAX_TEXT_BYTES: usize = 253;

/// The bounds as SQLite takes them.
const ADDRESSES: i64 = MAX_ADDRESSES as i64;
const HOSTS: i64 = MAX_HOSTS as i64;

/// What is kept, the newest first. A row that cannot be read is skipped: it is only a hint.
pub fn load(c: &Connection) -> Result<Vec<Proof>, LedgerError> {
    let mut statement = c.prepare_cached(
        "SELECT host, address, source FROM last_good_address ORDER BY proved_at DESC, host, address LIMIT ?1",
    )?;
    let rows = statement
        .query_map([HOSTS * ADDRESSES], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?)))?;
    let mut proofs = Vec::new();
    for row in rows {
        let (host, address, source) = row?;
        if let Ok(address) = address.parse::<IpAddr>() {
            proofs.push(Proof { host, address, source });
        }
    }
    Ok(proofs)
}

/// Whether `proof` is worth a write at `now`.
pub fn is_due(c: &Connection, proof: &Proof, now: i64) -> Result<bool, LedgerError> {
    let mut statement =
        c.prepare_cached("SELECT proved_at FROM last_good_address WHERE host = ?1 AND address = ?2")?;
    let proved_at: Option<i64> =
        statement.query_row((&proof.host, proof.address.to_string()), |row| row.get(0)).optional()?;
    // A clock that went back is no reason to write each time, nor to never write again.
    Ok(proved_at.is_none_or(|at| now.abs_diff(at) > REWRITE_AFTER.unsigned_abs()))
}

/// Keeps `proof`, made at `now`. Beyond [`MAX_ADDRESSES`] of its host and [`MAX_HOSTS`] hosts the
/// oldest go, never `proof` itself.
pub fn keep(tx: &Connection, proof: &Proof, now: i64) -> Result<(), LedgerError> {
    let Proof { host, address, source } = proof;
    for (what, text) in [("host name", host), ("source of an address", source)] {
        if text.len() > MAX_TEXT_BYTES {
            return Err(LedgerError::TooLong { what, bytes: text.len(), limit: MAX_TEXT_BYTES });
        }
    }
    let address = address.to_string();
    tx.prepare_cached(
        "INSERT INTO last_good_address (host, address, proved_at, source) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET proved_at = excluded.proved_at, source = excluded.source",
    )?
    .execute((host, &address, now, source))?;
    tx.prepare_cached(
        "DELETE FROM last_good_address WHERE host = ?1 AND address NOT IN
         (SELECT address FROM last_good_address WHERE host = ?1
          ORDER BY address = ?2 DESC, proved_at DESC LIMIT ?3)",
    )?
    .execute((host, &address, ADDRESSES))?;
    tx.prepare_cached(
        "DELETE FROM last_good_address WHERE host NOT IN
         (SELECT host FROM last_good_address GROUP BY host
          ORDER BY host = ?1 DESC, max(proved_at) DESC LIMIT ?2)",
    )?
    .execute((host, HOSTS))?;
    Ok(())
}

impl LastGood for Database {
    fn load(&self) -> Vec<Proof> {
        self.read(load).unwrap_or_else(|error: LedgerError| {
            log::warn!("last good: addresses were not read: {error}");
            Vec::new()
        })
    }

    /// With the next commit of something else: whoever connects soon has something to write.
    fn keep(&self, proof: &Proof) {
        let now = trusted_clock::now();
        let kept = self
            .read(|c| is_due(c, proof, now))
            .and_then(|due| if due { self.write_lazily(|tx| keep(tx, proof, now)) } else { Ok(()) });
        if let Err(error) = kept {
            log::warn!("last good: {} of {} was not kept: {error}", proof.address, proof.host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(host: &str, n: u8) -> Proof {
        Proof { host: host.into(), address: [1, 2, 3, n].into(), source: "https 1.1.1.1:443".into() }
    }

    fn write<T>(database: &Database, job: impl FnOnce(&Connection) -> Result<T, LedgerError>) -> T {
        database.write_now(job).unwrap()
    }

    #[test]
    fn proofs_survive_a_restart_the_newest_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        let database = Database::open(&file).unwrap();
        write(&database, |tx| keep(tx, &proof("a.example", 1), 100));
        write(&database, |tx| keep(tx, &proof("a.example", 2), 200));
        LastGood::keep(&database, &proof("b.example", 3));
        database.finish().unwrap();
        drop(database);
        let database = Database::open(&file).unwrap();
        let expected = [proof("b.example", 3), proof("a.example", 2), proof("a.example", 1)];
        assert_eq!(LastGood::load(&database), expected);
    }

    #[test]
    fn a_reconnect_within_the_hour_writes_nothing() {
        let database = Database::in_memory().unwrap();
        let due = |now| database.read(|c| is_due(c, &proof("a.example", 1), now)).unwrap();
        assert!(due(10_000));
        write(&database, |tx| keep(tx, &proof("a.example", 1), 10_000));
        assert!(!due(10_000) && !due(10_000 + REWRITE_AFTER) && due(10_001 + REWRITE_AFTER));
        assert!(due(0), "the clock has gone back: the old moment says nothing");
    }

    #[test]
    fn neither_many_hosts_nor_many_addresses_fill_the_table() {
        let database = Database::in_memory().unwrap();
        for host in 0..100 {
            for n in 0..10 {
                // The clock goes back all the time.
                let proof = proof(&format!("{host}.example"), n);
                write(&database, |tx| keep(tx, &proof, -i64::from(host)));
                assert!(LastGood::load(&database).contains(&proof), "the newest is always kept");
            }
        }
        let kept = LastGood::load(&database);
        assert_eq!(kept.iter().filter(|proof| proof.host == "99.example").count(), MAX_ADDRESSES);
        let rows: i64 = database
            .read(|c| c.query_row("SELECT count(*) FROM last_good_address", [], |row| row.get(0)))
            .unwrap();
        assert!(rows <= HOSTS * ADDRESSES, "{rows}");
        let long = proof(&"x".repeat(1000), 1);
        assert!(database.write_now(|tx| keep(tx, &long, 0)).is_err());
    }

    #[test]
    fn a_row_that_nobody_can_read_is_skipped() {
        let database = Database::in_memory().unwrap();
        write(&database, |tx| {
            tx.execute("INSERT INTO last_good_address VALUES ('a.example', 'nonsense', 1, 'x')", [])?;
            keep(tx, &proof("a.example", 1), 2)
        });
        assert_eq!(LastGood::load(&database), [proof("a.example", 1)]);
    }
}
