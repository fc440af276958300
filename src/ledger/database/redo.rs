//! The redo log: what makes a batch durable without a commit of SQLite's.
//!
//! One message changes rows in a dozen tables and their indexes. Committed by SQLite that is some twenty pages of
//! 4 KiB; the rows themselves are two or three KiB. So a batch stays a savepoint in one long transaction of
//! SQLite's, and what is flushed for it is a record of its rows ([`rows`]) at the end of a file beside the database
//! ([`file`]). Only when that file is full are all pages that changed since written, once each: the log is folded
//! in, and begins anew.
//!
//! What is durable is then the database as of the last fold and, on top of it, the records of the log. The number
//! of the generation stands in the database and in each record, and changes in the very commit that folds: a cut
//! at any moment leaves either the old pages with their records or the new pages and records that no longer
//! count. [`recover`] brings both together at the start, and [`Redo::restore`] does when SQLite had to undo its
//! transaction, as on a disk that is full.
//!
//! A version of the bot that knows nothing of the log must not work on a file that has one: while there are
//! records, `compatibility.oldest` names the first that does, and a clean end takes that back.

mod file;
mod rows;

use std::io;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::{CommitFailure, LedgerError, OpenError, open_error, run};
use file::{Position, RedoFile};
use rows::{Changes, Images};

pub(super) use file::path_of;

/// The schema that brought the log: no program of an earlier one knows that there may be records.
const FIRST_SCHEMA: i32 = 12;

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is durable: by a record, or because it changed nothing.
    Durable,
    /// It is in no record, so SQLite must commit: it does not fit, or something changed that no record can say.
    Unrecorded,
}

/// The log of one open database.
pub(super) struct Redo {
    file: RedoFile,
    changes: Changes,
    images: Images,
    /// Whether earlier versions are kept out already.
    guarded: bool,
    /// Whether SQLite's last commit failed. It may have reached the disk all the same, and a start after a cut would
    /// then find its generation and pass over the records: so there are none until a commit succeeds.
    in_doubt: bool,
    /// The record that is being made; kept for its memory.
    record: Vec<u8>,
}

impl Redo {
    /// Begins on a database whose schema is up to date, with an empty log.
    pub fn start(connection: &mut Connection, database: &Path) -> Result<Self, OpenError> {
        let fail = |error| open_error(database, error);
        let position = position(connection).map_err(fail)?.unwrap_or_default();
        let path = path_of(database);
        let file = RedoFile::open(&path, position)
            .map_err(|cause| OpenError::NotAccessible { file: path, cause })?;
        let images = Images::of(connection).map_err(fail)?;
        let changes = Changes::watch(connection, &images).map_err(fail)?;
        Ok(Self { file, changes, images, guarded: false, in_doubt: false, record: Vec::new() })
    }

    /// A batch begins, in a savepoint of its own.
    pub fn begin(&mut self, connection: &Connection) {
        self.changes.begin(connection);
    }

    /// Whether the tables of SQLite's transaction are not all: batches are durable that are in the log alone.
    pub fn has_records(&self) -> bool {
        !self.file.is_empty()
    }

    /// Makes what the batch has changed durable, if a record can.
    pub fn keep(&mut self, connection: &Connection) -> Result<Kept, CommitFailure> {
        let Some(changed) = self.changes.take(connection) else { return Ok(Kept::Unrecorded) };
        if changed.is_empty() {
            return Ok(Kept::Durable);
        }
        // The first commit of a process is SQLite's: it keeps earlier versions out.
        if !self.guarded || self.in_doubt {
            return Ok(Kept::Unrecorded);
        }
        self.record.clear();
        let written = self.images.write(connection, &changed, self.file.room(), &mut self.record);
        self.changes.give_back(changed);
        if !written.map_err(|error| CommitFailure::from(&error))? {
            return Ok(Kept::Unrecorded);
        }
        self.file.append(&self.record).map_err(|error| CommitFailure {
            code: None,
            message: format!("the redo log could not be written: {error}").into(),
        })?;
        Ok(Kept::Durable)
    }

    /// Has SQLite commit its transaction and begins the next generation.
    ///
    /// If that fails, SQLite's transaction is gone or of no use; [`restore`](Self::restore) makes another.
    pub fn fold(&mut self, connection: &Connection, last: bool) -> Result<(), LedgerError> {
        self.in_doubt = true;
        let next = self.file.generation() + 1;
        connection.prepare_cached("UPDATE redo_log SET generation = ?1")?.execute([next])?;
        if last {
            connection.execute("UPDATE compatibility SET oldest = (SELECT oldest FROM redo_log)", [])?;
        } else if !self.guarded {
            connection.execute("UPDATE compatibility SET oldest = max(oldest, ?1)", [FIRST_SCHEMA])?;
        }
        run(connection, "COMMIT")?;
        self.in_doubt = false;
        self.file.begin(next);
        self.guarded = !last;
        Ok(())
    }

    /// Opens a transaction in which everything that is durable is there again.
    pub fn restore(&mut self, connection: &Connection) -> Result<(), LedgerError> {
        run(connection, "BEGIN IMMEDIATE")?;
        let mut batches = 0;
        self.file.records(|record| {
            batches += 1;
            self.images.apply(connection, record)
        })?;
        log::warn!(
            "ledger: SQLite's transaction was undone; {batches} batches are restored from the redo log"
        );
        Ok(())
    }
}

/// Brings a database and the log beside it together, as after a power cut. Nothing else may have changed the
/// database since the log was written, nor its rowids: before any migration.
pub(super) fn recover(connection: &Connection, database: &Path) -> Result<(), OpenError> {
    let fail = |error| open_error(database, error);
    let Some(position) = position(connection).map_err(fail)? else { return Ok(()) };
    let path = path_of(database);
    let mut file = match RedoFile::existing(&path, position) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(OpenError::NotAccessible { file: path, cause }),
    };
    let images = Images::of(connection).map_err(fail)?;
    let mut batches = 0_u32;
    let applied = file.records(|record| {
        if batches == 0 {
            run(connection, "BEGIN IMMEDIATE")?;
        }
        batches += 1;
        images.apply(connection, record)
    });
    let damaged = |detail: String| OpenError::Damaged { file: path.clone(), detail };
    let failed = |error| match error {
        LedgerError::Statement(error) => open_error(database, error),
        other => damaged(other.to_string()),
    };
    applied.map_err(failed)?;
    if batches > 0 {
        connection.execute("UPDATE redo_log SET generation = generation + 1", []).map_err(fail)?;
        run(connection, "COMMIT").map_err(failed)?;
        log::info!("ledger: {batches} batches taken over from the redo log");
    }
    Ok(())
}

/// Which log, and which of its records, belong to this database; `None` before schema 12.
fn position(connection: &Connection) -> rusqlite::Result<Option<Position>> {
    let table = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'redo_log')";
    if !connection.query_row(table, [], |row| row.get::<_, bool>(0))? {
        return Ok(None);
    }
    connection
        .query_row("SELECT id, generation FROM redo_log", [], |row| {
            Ok(Position { id: row.get(0)?, generation: row.get(1)? })
        })
        .optional()
}

#[cfg(test)]
mod tests;
