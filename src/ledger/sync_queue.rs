//! How far each registration is on its way to Supabase. The queue is no table of its own but the
//! registrations whose state is *pending*: a row cannot be registered and yet missing here.
//!
//! ```text
//! pending ──stored──▶ confirmed
//!    │ ▲ ───duplicate──▶ duplicate   (another box was first)
//!    │ └──release_parked, take_back
//!    └──────rejected──▶ parked       (kept and visible; never blocks others)
//! ```
//!
//! Failures that concern a whole batch (no line, wrong key) are not written to its rows: during
//! an outage that would wear out the flash to store what is true for all of them alike.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::LedgerError;
use super::registration::{RowKey, row_key_of};
use crate::registration::ClashField;

/// Longest reason of a refusal in bytes that is kept with a parked row.
const MAX_DETAIL_BYTES: usize = 300;

/// How far a row is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncState {
    /// Not sent, or sent without an answer.
    Pending,
    /// Stands in Supabase.
    Confirmed,
    /// Supabase has an equal registration of the day that is not this row.
    Duplicate(ClashField),
    /// Supabase refuses the row for good; the text says why and holds no personal number.
    Parked(String),
}

/// What Supabase said about one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowVerdict {
    /// The row stands there, from this time or an earlier one.
    Stored,
    /// An equal registration of the day stands there.
    Duplicate(ClashField),
    /// The row itself is unacceptable. `message` must hold no personal number.
    Rejected { code: String, message: String },
}

/// A pending registration, complete, as the table `data_harian` wants it (`registration/RULES.md` 9.1).
#[derive(Clone, PartialEq, Eq)]
pub struct QueuedRow {
    pub row_key: RowKey,
    /// `YYYY-MM-DD`.
    pub day: String,
    /// Seconds since 1970 UTC.
    pub received_at: i64,
    pub sender: String,
    pub sender_name: Option<String>,
    pub message_id: String,
    pub message_index: u32,
    pub nama: String,
    pub name_canonical: String,
    pub no_kjp: String,
    pub jenis_kartu: Option<String>,
    pub jenis_kartu_sumber: Option<String>,
    pub no_ktp: String,
    pub no_kk: String,
    /// `YYYY-MM-DD`.
    pub tanggal_lahir: Option<String>,
    pub lokasi: String,
}

/// Shows the key only: everything else is about a person.
impl std::fmt::Debug for QueuedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QueuedRow({})", self.row_key)
    }
}

/// How many rows are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: u32,
    pub confirmed: u32,
    pub duplicate: u32,
    pub parked: u32,
}

/// The oldest pending rows, at most `limit`.
pub fn next_batch(conn: &Connection, limit: u32) -> Result<Vec<QueuedRow>, LedgerError> {
    queued(conn, "ORDER BY id LIMIT ?1", limit)
}

/// The newest pending row; none if none waits.
pub fn newest(conn: &Connection) -> Result<Vec<QueuedRow>, LedgerError> {
    queued(conn, "ORDER BY id DESC LIMIT ?1", 1)
}

fn queued(conn: &Connection, order: &str, limit: u32) -> Result<Vec<QueuedRow>, LedgerError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT row_key, day, received_at, sender, sender_name, message_id, message_index, nama,
           name_canonical, no_kjp, jenis_kartu, jenis_kartu_sumber, no_ktp, no_kk, tanggal_lahir, lokasi
         FROM registration WHERE sync_state = 'pending' {order}",
    ))?;
    let mut rows = statement.query(params![limit])?;
    let mut batch = Vec::new();
    while let Some(row) = rows.next()? {
        batch.push(QueuedRow {
            row_key: row_key_of(row, 0)?,
            day: row.get(1)?,
            received_at: row.get(2)?,
            sender: row.get(3)?,
            sender_name: row.get(4)?,
            message_id: row.get(5)?,
            message_index: row.get(6)?,
            nama: row.get(7)?,
            name_canonical: row.get(8)?,
            no_kjp: row.get(9)?,
            jenis_kartu: row.get(10)?,
            jenis_kartu_sumber: row.get(11)?,
            no_ktp: row.get(12)?,
            no_kk: row.get(13)?,
            tanggal_lahir: row.get(14)?,
            lokasi: row.get(15)?,
        });
    }
    Ok(batch)
}

/// Writes down Supabase's verdicts. `now` is in seconds since 1970 UTC. A row that is not pending
/// any more keeps its state: its verdict came before.
pub fn record(tx: &Connection, verdicts: &[(RowKey, RowVerdict)], now: i64) -> Result<(), LedgerError> {
    let mut update = tx.prepare_cached(
        "UPDATE registration SET sync_state = ?2, sync_detail = ?3, sync_at = ?4
         WHERE row_key = ?1 AND sync_state = 'pending'",
    )?;
    for (row_key, verdict) in verdicts {
        let (state, detail) = match verdict {
            RowVerdict::Stored => ("confirmed", None),
            RowVerdict::Duplicate(field) => ("duplicate", Some(field_name(*field).to_owned())),
            RowVerdict::Rejected { code, message } => ("parked", Some(detail(code, message))),
        };
        update.execute(params![row_key.bytes(), state, detail, now])?;
    }
    Ok(())
}

/// Puts up to `limit` parked rows back into the queue, oldest first, after an operator has repaired
/// what the server refused them for; returns how many.
pub fn release_parked(tx: &Connection, limit: u32) -> Result<usize, LedgerError> {
    Ok(tx.execute(
        "UPDATE registration SET sync_state = 'pending', sync_detail = NULL, sync_at = NULL
         WHERE id IN (SELECT id FROM registration WHERE sync_state = 'parked' ORDER BY id LIMIT ?1)",
        params![limit],
    )?)
}

/// Puts these rows back into the queue if they are parked: they were not at fault.
pub fn take_back(tx: &Connection, row_keys: &[RowKey]) -> Result<(), LedgerError> {
    let mut update = tx.prepare_cached(
        "UPDATE registration SET sync_state = 'pending', sync_detail = NULL, sync_at = NULL
         WHERE row_key = ?1 AND sync_state = 'parked'",
    )?;
    for row_key in row_keys {
        update.execute(params![row_key.bytes()])?;
    }
    Ok(())
}

/// How many rows are in which state. Reads the whole table: for reports, not for every message.
pub fn count(conn: &Connection) -> Result<Counts, LedgerError> {
    Ok(conn
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE sync_state = 'pending'),
                    count(*) FILTER (WHERE sync_state = 'confirmed'),
                    count(*) FILTER (WHERE sync_state = 'duplicate'),
                    count(*) FILTER (WHERE sync_state = 'parked') FROM registration",
        )?
        .query_row([], |row| {
            Ok(Counts {
                pending: row.get(0)?,
                confirmed: row.get(1)?,
                duplicate: row.get(2)?,
                parked: row.get(3)?,
            })
        })?)
}

/// How many rows are pending: cheap enough to be asked every few seconds.
pub fn count_pending(conn: &Connection) -> Result<u32, LedgerError> {
    Ok(conn
        .prepare_cached("SELECT count(*) FROM registration WHERE sync_state = 'pending'")?
        .query_row([], |row| row.get(0))?)
}

/// When the oldest pending row was received (seconds since 1970 UTC); `None` if none waits.
pub fn oldest_pending(conn: &Connection) -> Result<Option<i64>, LedgerError> {
    Ok(conn
        .prepare_cached(
            "SELECT received_at FROM registration WHERE sync_state = 'pending' ORDER BY id LIMIT 1",
        )?
        .query_row([], |row| row.get(0))
        .optional()?)
}

impl SyncState {
    pub(super) fn read(row: &Row<'_>, state: usize, detail: usize) -> Result<Self, LedgerError> {
        let name: String = row.get(state)?;
        let detail: Option<String> = row.get(detail)?;
        match (name.as_str(), detail) {
            ("pending", _) => Ok(Self::Pending),
            ("confirmed", _) => Ok(Self::Confirmed),
            ("parked", detail) => Ok(Self::Parked(detail.unwrap_or_default())),
            ("duplicate", Some(detail)) => match detail.as_str() {
                "no_kjp" => Ok(Self::Duplicate(ClashField::Kjp)),
                "no_ktp" => Ok(Self::Duplicate(ClashField::Ktp)),
                "nama" => Ok(Self::Duplicate(ClashField::Nama)),
                _ => Err(LedgerError::Unreadable { column: "registration.sync_detail", detail }),
            },
            _ => Err(LedgerError::Unreadable { column: "registration.sync_state", detail: name }),
        }
    }
}

/// As `data_harian` names the column; also what Supabase's function answers.
const fn field_name(field: ClashField) -> &'static str {
    match field {
        ClashField::Kjp => "no_kjp",
        ClashField::Ktp => "no_ktp",
        ClashField::Nama => "nama",
    }
}

fn detail(code: &str, message: &str) -> String {
    let mut detail = format!("{code}: {message}");
    detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
    detail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    fn with_rows(count: u8, test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        let ledger = Database::in_memory().unwrap();
        ledger
            .write_now::<_, LedgerError>(|tx| {
                for n in 0..count {
                    tx.execute(
                        "INSERT INTO registration (row_key, day, received_at, sender, message_id,
                           message_index, nama, name_canonical, no_kjp, no_ktp, no_kk, lokasi)
                         VALUES (?1, '2026-11-23', ?2, 's', 'm', ?2, ?3, ?3, ?3, ?3, '', '')",
                        params![[n; 16], n, n.to_string()],
                    )?;
                }
                test(tx)
            })
            .unwrap();
    }

    fn key(n: u8) -> RowKey {
        RowKey::from_bytes([n; 16])
    }

    fn keys(batch: &[QueuedRow]) -> Vec<RowKey> {
        batch.iter().map(|row| row.row_key).collect()
    }

    fn state(conn: &Connection, n: u8) -> SyncState {
        conn.query_row(
            "SELECT sync_state, sync_detail FROM registration WHERE row_key = ?1",
            params![[n; 16]],
            |row| Ok(SyncState::read(row, 0, 1)),
        )
        .unwrap()
        .unwrap()
    }

    #[test]
    fn rows_leave_the_queue_by_their_verdict_and_others_stay_in_order() {
        with_rows(5, |tx| {
            assert_eq!(oldest_pending(tx)?, Some(0));
            let rejected = RowVerdict::Rejected { code: "23514".into(), message: "check".into() };
            let verdicts = [
                (key(0), RowVerdict::Stored),
                (key(1), RowVerdict::Duplicate(ClashField::Ktp)),
                (key(3), rejected),
            ];
            record(tx, &verdicts, 100)?;
            assert_eq!(keys(&next_batch(tx, 9)?), [key(2), key(4)]);
            assert_eq!(keys(&next_batch(tx, 1)?), [key(2)]);
            assert_eq!(oldest_pending(tx)?, Some(2));
            assert_eq!(count_pending(tx)?, 2);
            assert_eq!(count(tx)?, Counts { pending: 2, confirmed: 1, duplicate: 1, parked: 1 });
            assert_eq!(state(tx, 0), SyncState::Confirmed);
            assert_eq!(state(tx, 1), SyncState::Duplicate(ClashField::Ktp));
            assert_eq!(state(tx, 3), SyncState::Parked("23514: check".into()));
            Ok(())
        });
    }

    #[test]
    fn the_first_verdict_of_a_row_stands() {
        with_rows(1, |tx| {
            record(tx, &[(key(0), RowVerdict::Stored)], 100)?;
            record(tx, &[(key(0), RowVerdict::Duplicate(ClashField::Nama))], 101)?;
            assert_eq!(state(tx, 0), SyncState::Confirmed);
            Ok(())
        });
    }

    #[test]
    fn only_parked_rows_are_taken_back_and_the_newest_row_is_the_last_in_the_queue() {
        with_rows(4, |tx| {
            let rejected = || RowVerdict::Rejected { code: "22023".into(), message: String::new() };
            let verdicts = [(key(0), rejected()), (key(1), rejected()), (key(2), RowVerdict::Stored)];
            record(tx, &verdicts, 100)?;
            take_back(tx, &[key(1), key(2)])?;
            assert_eq!(keys(&next_batch(tx, 9)?), [key(1), key(3)]);
            assert_eq!(keys(&newest(tx)?), [key(3)]);
            assert_eq!(state(tx, 0), SyncState::Parked("22023: ".into()));
            assert_eq!(state(tx, 2), SyncState::Confirmed);
            record(tx, &[(key(1), RowVerdict::Stored), (key(3), RowVerdict::Stored)], 101)?;
            assert_eq!(newest(tx)?, []);
            Ok(())
        });
    }

    #[test]
    fn parked_rows_can_be_sent_again() {
        with_rows(2, |tx| {
            let message = "ä".repeat(MAX_DETAIL_BYTES);
            record(tx, &[(key(0), RowVerdict::Rejected { code: "22000".into(), message })], 100)?;
            assert!(matches!(state(tx, 0), SyncState::Parked(text) if text.len() <= MAX_DETAIL_BYTES));
            assert_eq!(keys(&next_batch(tx, 9)?), [key(1)]);
            assert_eq!(release_parked(tx, 9)?, 1);
            assert_eq!(keys(&next_batch(tx, 9)?), [key(0), key(1)]);
            Ok(())
        });
    }
}
