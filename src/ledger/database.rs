//! The one SQLite connection of the process, with group commit.
//!
//! Whoever writes calls [`Database::write`]. The first writer begins a batch, gives every
//! task that is ready to run a turn for as long as further writers come of it, and ends it: all of
//! them share one flush to flash. Each of them gets its answer only after it, so "returned `Ok`" means
//! "survives a power cut". What is flushed is a record of the rows that changed ([`redo`]); SQLite itself
//! commits when the log of these records is full (`synchronous=FULL`).
//!
//! The file is locked for the life of the process (`locking_mode=EXCLUSIVE`): a second bot on the
//! same file is refused, and two instances can never fight over one WhatsApp session.

use std::fmt;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::process::geteuid;
use smol::lock::OnceCell;

use crate::bell::Bell;
use crate::clock;
use redo::{Kept, Redo};

pub(super) mod redo;

/// `PRAGMA application_id` of our files ("bkjp"), so that a foreign database is recognised.
pub(crate) const APPLICATION_ID: i32 = 0x626b_6a70;

/// Bytes of a page: a block of the file system, which is the least that flash cards and eMMC write. A cut
/// while a block is being written may damage all of it, and what is moved from the journal into the file is
/// only safe where a block holds nothing but the page that the journal still has.
const PAGE_BYTES: u32 = 4096;

/// SQLite's page cache in KiB, at most. It holds what has changed since the redo log was folded in, some 200 pages
/// when it is full, and what is read beside that (sessions of the chats that are active, today's registrations). With
/// 512 a busy hour read 37 pages per registration again, and wrote eight out early.
const PAGE_CACHE_KIB: i64 = 1280;

/// Pages that are cached while the file is looked through at the start, each of which is read once: what is larger
/// stays taken from the box's memory for good.
const CHECK_CACHE_PAGES: i64 = 16;

/// Pages that the write-ahead log may hold before they are moved to the database file: a page that
/// changed a hundred times until then is moved once. 4 MB, as long as a box has room for anything.
const JOURNAL_PAGES: i64 = 1000;

/// The write-ahead log is cut back to this many bytes after it was emptied: to what it usually has, as
/// writing to blocks that a file already owns changes nothing in the file system.
const JOURNAL_BYTES: i64 = JOURNAL_PAGES * (PAGE_BYTES as i64 + 24) + 64 * 1024;

/// Statements that are kept ready: all that a message needs on its way, so that none of them is read and planned
/// again. A kept one takes some 3 KiB.
const STATEMENTS: usize = 160;

/// Longest time that changes nobody waits for stay open: what they save in writing is worth more than
/// the little work that a power cut makes the bot do again.
const LONGEST_OPEN: Duration = Duration::from_secs(2);

/// Time from one flush to the next while writers come together: none of them notices it, and a flush costs as much as
/// the work on a message. Whoever writes alone does not wait.
const GATHER: Duration = Duration::from_millis(5);

/// Turns that a transaction stays open for further writers at most; the commit of those that came
/// first is not put off for ever.
const MOST_TURNS: usize = 16;

/// Owner only: the file holds keys, and people's numbers.
const MODE: u32 = 0o600;

/// Longest time for looking through the file at the start. A box reads some 50 MB in it, more than a year
/// of registrations.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// SQLite's steps between two looks at the time; milliseconds.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Between two tries of a patient write: at first a moment, in case it was one; in the end seldom
/// enough not to keep a failing disk busy, often enough that nobody waits long once it works again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Numbered schema files in the order in which they are applied. `user_version` counts how many
/// a file has seen, and the table `compatibility` names the oldest schema whose program may still work
/// with it: so an update can be taken back, as long as it only added things.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001-ledger.sql"),
    include_str!("schema/0002-whatsapp-session.sql"),
    include_str!("schema/0003-line-and-watch.sql"),
    include_str!("schema/0004-years-of-service.sql"),
    include_str!("schema/0005-session-rows.sql"),
    include_str!("schema/0006-missing-messages.sql"),
    include_str!("schema/0007-refused-replies.sql"),
    include_str!("schema/0008-outbox-turns.sql"),
    include_str!("schema/0009-missed-and-refused.sql"),
    include_str!("schema/0010-people.sql"),
    include_str!("schema/0011-outbox-lanes.sql"),
    include_str!("schema/0012-redo-log.sql"),
];

/// Why the database cannot be opened. Each variant says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the folder {} does not exist; create it, or set `data.folder`", .0.display())]
    FolderMissing(PathBuf),
    #[error("{} cannot be opened: {cause}; check owner and mode (the bot's user must own it)", file.display())]
    NotAccessible { file: PathBuf, cause: std::io::Error },
    #[error("others may write into {} (mode {mode:03o}) and replace what is in it; run: chmod 700 {}", folder.display(), folder.display())]
    FolderOpenToOthers { folder: PathBuf, mode: u32 },
    #[error("{} cannot be opened for writing: its disk is read-only; as a rule the card is failing: restart the machine, and replace the card if it happens again", .0.display())]
    ReadOnly(PathBuf),
    #[error("{} cannot be made: its disk is full; delete what is not needed (never the bot's own files)", .0.display())]
    NoSpace(PathBuf),
    #[error("{} is in use by another process; is the bot running already? Stop it first", .0.display())]
    InUse(PathBuf),
    #[error("{} is damaged ({detail}); nothing was changed. Keep it: its registrations can be rescued. To start fresh without it, run: bot-kjp set-aside", file.display())]
    Damaged { file: PathBuf, detail: String },
    #[error("{} is an SQLite database of another program; set `data.folder` to a folder of the bot's own", .0.display())]
    Foreign(PathBuf),
    #[error("{} was written by a newer version whose schema this one cannot use (schema {found}, this version knows {known}); install that version again", file.display())]
    Newer { file: PathBuf, found: i32, known: i32 },
    #[error("{} cannot be prepared: {cause}", file.display())]
    Sqlite { file: PathBuf, cause: rusqlite::Error },
}

/// A failed read or write. Nothing of the write is in the database.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger refused a statement: {0}")]
    Statement(#[from] rusqlite::Error),
    /// The commit that this write shared with others failed; all of them were undone.
    #[error("the ledger could not write to disk: {0}")]
    Commit(CommitFailure),
    /// A row holds a value that no version of the bot writes.
    #[error("the ledger holds an unreadable value in {column}: {detail}")]
    Unreadable { column: &'static str, detail: String },
    /// A bound was met; the caller takes less in until there is room again.
    #[error("the ledger's {table} is full ({limit} rows); nothing was added")]
    Full { table: &'static str, limit: usize },
    /// The file turned out to be damaged. Nothing is written any more: a damaged file that is written on
    /// loses what could still be rescued.
    #[error("the ledger is damaged ({0}); nothing is written to it any more")]
    Damaged(Arc<str>),
    /// A value is longer than its writer may ever make it.
    #[error("the ledger refused a {what} of {bytes} bytes; the limit is {limit}")]
    TooLong { what: &'static str, bytes: usize, limit: usize },
}

/// Whether a failed write may succeed later as it is: see [`Database::write_patiently`].
pub trait MayPass: fmt::Display {
    fn may_pass(&self) -> bool;

    /// Whether it says that the file is damaged.
    fn is_damage(&self) -> bool;
}

/// SQLite's codes for a file that is damaged.
fn is_damage(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

impl MayPass for LedgerError {
    /// What the disk, the memory or a full table refused may pass; what is wrong with the write
    /// itself will not.
    fn may_pass(&self) -> bool {
        match self {
            Self::Commit(failure) => !is_damage(failure.code),
            Self::Full { .. } => true,
            Self::Statement(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::ReadOnly
                        | ErrorCode::CannotOpen
                        | ErrorCode::OutOfMemory
                )
            ),
            Self::Unreadable { .. } | Self::TooLong { .. } | Self::Damaged(_) => false,
        }
    }

    fn is_damage(&self) -> bool {
        match self {
            Self::Commit(failure) => is_damage(failure.code),
            Self::Statement(error) => is_damage(error.sqlite_error_code()),
            Self::Damaged(_) => true,
            Self::Full { .. } | Self::Unreadable { .. } | Self::TooLong { .. } => false,
        }
    }
}

/// Why a shared commit failed, in a form that every writer of the batch can have.
#[derive(Debug, Clone)]
pub struct CommitFailure {
    /// SQLite's primary result code, if it was SQLite that refused.
    pub code: Option<ErrorCode>,
    pub message: Arc<str>,
}

impl fmt::Display for CommitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl CommitFailure {
    fn of(error: &LedgerError) -> Self {
        match error {
            LedgerError::Statement(error) => error.into(),
            other => Self { code: None, message: other.to_string().into() },
        }
    }
}

impl From<&rusqlite::Error> for CommitFailure {
    fn from(error: &rusqlite::Error) -> Self {
        Self { code: error.sqlite_error_code(), message: error.to_string().into() }
    }
}

/// A handle to the ledger; clones share the one connection.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Mutex<Shared>>,
    /// Rung when something was changed that nobody waits for.
    left_open: Bell,
    /// How often something that was written was undone.
    undone: Arc<AtomicU64>,
}

struct Shared {
    connection: Connection,
    /// `None` for a ledger in memory, where each batch is a transaction of SQLite's.
    redo: Option<Redo>,
    /// The batch that is open now and not yet durable.
    batch: Option<Batch>,
    /// Whether somebody is about to commit it.
    led: bool,
    /// Writers that it has taken and that wait for its commit.
    writers: usize,
    /// When the last batch was made durable, if it had several writers.
    crowded_at: Option<Instant>,
    /// The last commit that failed.
    failed: Option<(Instant, CommitFailure)>,
    /// What SQLite said of the file when it turned out to be damaged.
    damaged: Option<Arc<str>>,
}

impl Shared {
    fn new(connection: Connection, redo: Option<Redo>) -> Self {
        Self {
            connection,
            redo,
            batch: None,
            led: false,
            writers: 0,
            crowded_at: None,
            failed: None,
            damaged: None,
        }
    }

    fn handle(self) -> Database {
        Database { shared: Arc::new(Mutex::new(self)), left_open: Bell::default(), undone: Arc::default() }
    }

    fn found_damaged(&mut self, said: &str) {
        if self.damaged.is_none() {
            log::error!("ledger: the file is damaged ({said}); nothing is written or acknowledged any more");
            self.damaged = Some(said.into());
            leave_alone(&self.connection);
        }
    }

    fn begin(&mut self) -> Result<Batch, LedgerError> {
        self.restore()?;
        if self.connection.is_autocommit() {
            run(&self.connection, "BEGIN IMMEDIATE")?;
        }
        if let Some(redo) = &mut self.redo {
            run(&self.connection, "SAVEPOINT batch")?;
            redo.begin(&self.connection);
        }
        let batch = Batch::default();
        self.batch = Some(batch.clone());
        self.led = false;
        self.writers = 0;
        Ok(batch)
    }

    /// Brings back what is durable by the redo log alone, should SQLite have undone its transaction, as it does
    /// when the disk is full.
    fn restore(&mut self) -> Result<(), LedgerError> {
        let lost = self.redo.as_mut().filter(|redo| redo.has_records() && self.connection.is_autocommit());
        let Some(redo) = lost else { return Ok(()) };
        redo.restore(&self.connection).inspect_err(|error| {
            log::error!("ledger: what the redo log holds could not be restored: {error}");
            undo_all(&self.connection);
            if matches!(error, LedgerError::Unreadable { .. }) {
                let said = error.to_string();
                self.found_damaged(&said);
            }
        })
    }

    /// Makes the open batch durable; afterwards nothing of it is left if that failed.
    fn commit(&mut self) -> Result<(), CommitFailure> {
        self.batch = None;
        let connection = &self.connection;
        let committed = match &mut self.redo {
            None => run(connection, "COMMIT").map_err(|error| CommitFailure::of(&error)),
            Some(redo) => match redo.keep(connection) {
                Ok(Kept::Durable) => {
                    run(connection, "RELEASE batch").map_err(|error| CommitFailure::of(&error))
                }
                Ok(Kept::Unrecorded) => {
                    redo.fold(connection, false).map_err(|error| CommitFailure::of(&error))
                }
                Err(failure) => {
                    if let Err(error) = connection.execute_batch("ROLLBACK TO batch; RELEASE batch") {
                        log::error!("ledger: a failed batch could not be undone alone: {error}");
                        undo_all(connection);
                    }
                    return Err(failure);
                }
            },
        };
        // Whatever the log has comes back before the next batch.
        committed.inspect_err(|_| undo_all(connection))
    }
}

/// Undoes SQLite's transaction, if it has not done so itself.
fn undo_all(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        log::error!("ledger: a failed transaction could not be rolled back: {error}");
    }
}

/// Set once the shared transaction is durable or undone.
type Batch = Arc<OnceCell<Result<(), CommitFailure>>>;

impl Database {
    /// Opens or creates the ledger, locks it, checks it and brings its schema up to date.
    ///
    /// The file is created with mode 0600, and set to it if others could read it; its folder must exist, and
    /// nobody else may write into it. Made by root in somebody else's folder, the file is theirs.
    pub fn open(file: &Path) -> Result<Self, OpenError> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder
            && !folder.is_dir()
        {
            return Err(OpenError::FolderMissing(folder.to_path_buf()));
        }
        make_private(file)?;
        let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI;
        let mut connection =
            Connection::open_with_flags(uri(file), flags).map_err(|e| open_error(file, e))?;
        let prepared = prepare(&mut connection, file).and_then(|()| Redo::start(&mut connection, file));
        if matches!(prepared, Err(OpenError::Damaged { .. })) {
            leave_alone(&connection);
        }
        let redo = prepared?;
        Ok(Shared::new(connection, Some(redo)).handle())
    }

    /// A ledger that lives in memory, for tests of what is built on it.
    pub fn in_memory() -> Result<Self, OpenError> {
        let file = Path::new(":memory:");
        let mut connection = Connection::open_in_memory().map_err(|e| open_error(file, e))?;
        prepare(&mut connection, file)?;
        Ok(Shared::new(connection, None).handle())
    }

    /// Reads at once, seeing also what other tasks have written and not yet committed.
    ///
    /// Whoever acts on the outside world because of what it reads uses
    /// [`read_durable`](Self::read_durable).
    pub fn read<T, E>(&self, job: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        job(&self.lock_restored().connection)
    }

    /// Reads what is durable: waits until no transaction is open that anybody else waits for. What was
    /// written [lazily](Self::write_lazily) counts as well.
    pub async fn read_durable<T, E: From<LedgerError>>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut waited = false;
        loop {
            let (batch, led) = {
                let shared = self.lock_restored();
                match &shared.batch {
                    Some(batch) if shared.writers > 0 => (batch.clone(), shared.led),
                    _ => return job(&shared.connection),
                }
            };
            self.gather(&batch).await;
            // Having waited once, it ends the next transaction itself: writers in an unbroken
            // row must not keep a reader out.
            if !led || waited {
                self.commit(&batch);
            }
            waited = true;
            // A failed commit concerns its writers; what is left is what there is to read.
            let _ = batch.wait().await;
        }
    }

    /// Runs `job` in a savepoint of the shared transaction and returns once that is durable.
    ///
    /// If `job` fails, its own changes are undone and its error is returned; other writers are
    /// not affected. If the commit fails, every writer of the batch gets
    /// [`LedgerError::Commit`] and nothing of the batch remains.
    pub async fn write<T, E: From<LedgerError> + MayPass>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let (result, batch) = self.enlist(job, 1)?;
        self.gather(&batch).await;
        if self.takes_the_lead(&batch) {
            let leader = Leader { database: self, batch: &batch };
            let mut writers = 0;
            for _ in 0..MOST_TURNS {
                // A turn for every task that is ready: what they write shares this commit.
                futures_lite::future::yield_now().await;
                let now = self.lock().writers;
                if now == writers {
                    break;
                }
                writers = now;
            }
            drop(leader);
        }
        let value = result?;
        // Whoever leads may be a future that is kept and no longer polled (whatsapp-rust selects among
        // some): it must not keep the others waiting for ever.
        for _ in 0..2 * MOST_TURNS {
            if batch.is_initialized() {
                break;
            }
            futures_lite::future::yield_now().await;
        }
        self.commit(&batch);
        batch.wait().await.clone().map_err(LedgerError::Commit)?;
        Ok(value)
    }

    /// Like [`write`](Self::write), for what must not be lost: while the disk refuses, it waits and
    /// tries again, for as long as that takes. `what` names the write in the log.
    ///
    /// Fails only with an error that would come again ([`MayPass`]).
    pub async fn write_patiently<T, E: From<LedgerError> + MayPass>(
        &self,
        what: &str,
        mut job: impl FnMut(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.write(&mut job).await {
                Err(error) if error.may_pass() => {
                    if pause == FIRST_PAUSE {
                        log::error!("ledger: {what} not written, tried again until it is: {error}");
                    }
                    clock::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => {
                    if pause > FIRST_PAUSE && outcome.is_ok() {
                        log::info!("ledger: {what} written at last");
                    }
                    return outcome;
                }
            }
        }
    }

    /// Like [`write`](Self::write) for callers outside the executor: commits at once.
    pub fn write_now<T, E: From<LedgerError> + MayPass>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let (result, batch) = self.enlist(job, 1)?;
        self.commit(&batch);
        let value = result?;
        match batch.get() {
            Some(Err(failure)) => Err(LedgerError::Commit(failure.clone()).into()),
            _ => Ok(value),
        }
    }

    /// Runs `job` in the shared transaction and does not wait for its commit, which comes with the
    /// next [`write`](Self::write), or by [`close_what_is_open`](Self::close_what_is_open). For changes
    /// that do no harm if a power cut or a failed commit undoes them.
    ///
    /// What is durable is always everything up to a moment: nothing written later is without this.
    pub fn write_lazily<T, E: From<LedgerError> + MayPass>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = self.enlist(job, 0)?.0;
        self.left_open.ring();
        result
    }

    /// Commits what was written lazily when nothing else does; runs for ever.
    pub async fn close_what_is_open(self) {
        loop {
            self.left_open.heard().await;
            clock::sleep(LONGEST_OPEN).await;
            let open = self.lock().batch.clone();
            if let Some(batch) = open {
                self.commit(&batch);
            }
        }
    }

    /// How often something that was written was undone, by a failed job or a failed commit. While that stays the same,
    /// what was written before is there: durable, or in the open batch, and so durable with whatever is written next.
    pub fn undone(&self) -> u64 {
        self.undone.load(Ordering::Relaxed)
    }

    /// When a commit failed the last time, and why. Whoever must write tries again within seconds,
    /// so an old failure has passed.
    pub fn last_failure(&self) -> Option<(Instant, CommitFailure)> {
        self.lock().failed.clone()
    }

    /// What SQLite said of the file, once it turned out to be damaged; it stays so.
    pub fn damage(&self) -> Option<Arc<str>> {
        self.lock().damaged.clone()
    }

    /// Makes durable what is open and has SQLite commit all that the redo log holds.
    pub fn fold(&self) -> Result<(), LedgerError> {
        self.fold_as(false)
    }

    /// Makes durable what is open and moves everything from the redo log and the journal into the database
    /// file, as the last act of the process.
    pub fn finish(&self) -> Result<(), LedgerError> {
        self.fold_as(true)?;
        let busy: bool =
            self.read(|c| c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)))?;
        if busy {
            // Another connection cannot exist, so a statement was left open.
            log::warn!("ledger: the journal could not be folded into the database file");
        }
        Ok(())
    }

    fn fold_as(&self, last: bool) -> Result<(), LedgerError> {
        self.write_now(|_| Ok::<_, LedgerError>(()))?;
        let mut shared = self.lock();
        if let Some(said) = &shared.damaged {
            return Err(LedgerError::Damaged(said.clone()));
        }
        shared.restore()?;
        let Shared { connection, redo: Some(redo), .. } = &mut *shared else { return Ok(()) };
        if !last && !redo.has_records() {
            return Ok(());
        }
        if connection.is_autocommit() {
            run(connection, "BEGIN IMMEDIATE")?;
        }
        redo.fold(connection, last).inspect_err(|_| undo_all(connection))
    }

    /// Runs `job` in the open transaction, opening one if there is none. `waiting`: how many wait for its
    /// commit.
    fn enlist<T, E: From<LedgerError> + MayPass>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E>,
        waiting: usize,
    ) -> Result<(Result<T, E>, Batch), E> {
        let mut shared = self.lock();
        if let Some(said) = &shared.damaged {
            return Err(LedgerError::Damaged(said.clone()).into());
        }
        let batch = match &shared.batch {
            Some(batch) => batch.clone(),
            None => shared.begin()?,
        };
        shared.writers += waiting;
        let result = in_savepoint(&shared.connection, job);
        if result.is_err() {
            self.undone.fetch_add(1, Ordering::Relaxed);
        }
        if let Err(error) = &result
            && error.is_damage()
        {
            shared.found_damaged(&error.to_string());
        }
        if shared.connection.is_autocommit() {
            // Full disk, I/O error, no memory: SQLite has undone the whole transaction by itself.
            shared.batch = None;
            self.undone.fetch_add(1, Ordering::Relaxed);
            let failure = CommitFailure { code: None, message: "SQLite undid the transaction".into() };
            shared.failed = Some((clock::now(), failure.clone()));
            let _ = batch.set_blocking(Err(failure));
        }
        Ok((result, batch))
    }

    /// Lets further writers join the batch until it is due, or made durable by somebody else.
    async fn gather(&self, batch: &Batch) {
        let wait = {
            let shared = self.lock();
            shared.crowded_at.map_or(Duration::ZERO, |at| GATHER.saturating_sub(clock::since(at)))
        };
        if wait > Duration::ZERO {
            let durable = async {
                let _ = batch.wait().await;
            };
            futures_lite::future::or(durable, clock::sleep(wait)).await;
        }
    }

    /// Whether the caller is to commit this batch: the first one who asks.
    fn takes_the_lead(&self, batch: &Batch) -> bool {
        let mut shared = self.lock();
        !batch.is_initialized() && !std::mem::replace(&mut shared.led, true)
    }

    fn commit(&self, batch: &Batch) {
        let mut shared = self.lock();
        if batch.is_initialized() {
            return;
        }
        let outcome = shared.commit();
        shared.crowded_at = (shared.writers > 1).then(clock::now);
        if let Err(failure) = &outcome {
            self.undone.fetch_add(1, Ordering::Relaxed);
            shared.failed = Some((clock::now(), failure.clone()));
            if is_damage(failure.code) {
                shared.found_damaged(&failure.message);
            }
        }
        // It is set under the lock only, and was not set a moment ago.
        let _ = batch.set_blocking(outcome);
    }

    /// For whoever reads: with all that is durable, if that can be had. If not, the log says so, what is read
    /// is older, and nothing can be written.
    fn lock_restored(&self) -> MutexGuard<'_, Shared> {
        let mut shared = self.lock();
        let _ = shared.restore();
        shared
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic inside a job unwinds through its savepoint, which is rolled back: the
        // connection stays usable.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// Commits when dropped, also when the leading writer is cancelled: the others wait for it.
struct Leader<'a> {
    database: &'a Database,
    batch: &'a Batch,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.database.commit(self.batch);
    }
}

/// Keeps SQLite from folding the journal into a damaged file when it is closed: what can be rescued is
/// best rescued from both as they are.
fn leave_alone(connection: &Connection) {
    if let Err(error) = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
        log::warn!("ledger: the journal may be folded into the damaged file: {error}");
    }
}

/// Makes sure that the file is there, and that nobody else can read it or put another one in its place.
/// SQLite gives its journal the mode and the owner of the database file.
fn make_private(file: &Path) -> Result<(), OpenError> {
    let fail = |cause: io::Error| match cause.kind() {
        io::ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(file.to_path_buf()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::NoSpace(file.to_path_buf()),
        _ => OpenError::NotAccessible { file: file.to_path_buf(), cause },
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let about = folder.metadata().map_err(fail)?;
    if about.mode() & 0o002 != 0 {
        return Err(OpenError::FolderOpenToOthers {
            folder: folder.to_path_buf(),
            mode: about.mode() & 0o7777,
        });
    }
    let is_new = !file.exists();
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(file)
        .map_err(fail)?;
    if is_new && geteuid().is_root() && about.uid() != 0 {
        // `sudo bot-kjp pair`, in the folder of the service.
        fchown(&opened, Some(about.uid()), Some(about.gid())).map_err(fail)?;
    }
    for suffix in ["", "-wal", "-journal", "-redo"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        let Ok(found) = path.metadata() else { continue };
        if found.mode() & 0o077 != 0 {
            log::warn!("ledger: others could read {}; now only its owner can", path.display());
            std::fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(fail)?;
        }
    }
    Ok(())
}

fn in_savepoint<T, E: From<LedgerError>>(
    connection: &Connection,
    job: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    run(connection, "SAVEPOINT job")?;
    let undo = Undo(connection);
    let value = job(connection)?;
    run(connection, "RELEASE job")?;
    std::mem::forget(undo);
    Ok(value)
}

/// Undoes a job that failed, or that panicked.
struct Undo<'a>(&'a Connection);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // SQLite may have undone the whole transaction by itself, and the savepoint with it.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK TO job; RELEASE job")
        {
            log::error!("ledger: a failed change could not be undone: {error}");
        }
    }
}

/// A statement of every write, which is kept ready.
fn run(connection: &Connection, statement: &str) -> Result<(), LedgerError> {
    Ok(connection.prepare_cached(statement)?.execute([]).map(drop)?)
}

/// Pragmas, lock, integrity check and migrations of a freshly opened connection.
fn prepare(connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let fail = |error| open_error(file, error);
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Else a statement is planned again whenever another value is bound that an index's condition mentions.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(fail)?;
    // Nobody else has business in this file, so there is nobody worth waiting for.
    connection.busy_timeout(Duration::ZERO).map_err(fail)?;
    // Before the first access: WAL then needs no shared-memory file, and the lock is kept.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(fail)?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(fail)?;
    if id != APPLICATION_ID && (id != 0 || tables != 0) {
        return Err(OpenError::Foreign(file.to_path_buf()));
    }
    // The first changes to the file, and they last: only to one of ours.
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(fail)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(fail)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(fail)?;
    connection.pragma_update(None, "temp_store", "MEMORY").map_err(fail)?;
    connection.pragma_update(None, "cache_size", CHECK_CACHE_PAGES).map_err(fail)?;
    for (pragma, value) in [("journal_size_limit", JOURNAL_BYTES), ("wal_autocheckpoint", JOURNAL_PAGES)] {
        connection.pragma_update_and_check(None, pragma, value, |_| Ok(())).map_err(fail)?;
    }
    // Takes the lock now: a second bot must fail here, not at its first message.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT").map_err(fail)?;

    check(connection, file)?;
    connection.pragma_update(None, "cache_size", -PAGE_CACHE_KIB).map_err(fail)?;
    redo::recover(connection, file)?;
    repage(connection);
    migrate(connection, file, MIGRATIONS)
}

/// The name under which SQLite opens a file of which a power cut may damage the block that is being written,
/// and not just the bytes (`psow=0`, <https://sqlite.org/psow.html>): each commit then ends on a block's
/// border, so that the next one cannot take it along.
fn uri(file: &Path) -> String {
    let mut uri = "file:".to_owned();
    for &byte in file.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(byte.into()),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?psow=0"
}

/// Gives a file of an earlier version pages of [`PAGE_BYTES`], once. Where that is not possible now, as when
/// the disk has no room for a second copy, the bot works as it did, and the next start tries again.
fn repage(connection: &Connection) {
    let page_bytes = || connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0));
    if page_bytes().is_ok_and(|bytes| bytes == PAGE_BYTES) {
        return;
    }
    let mode = |mode| connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()));
    // Not in memory, where the second copy would take more than all else.
    let store = |store| connection.pragma_update(None, "temp_store", store);
    let rewritten = mode("DELETE")
        .and_then(|()| store("FILE"))
        .and_then(|()| connection.pragma_update(None, "page_size", PAGE_BYTES))
        .and_then(|()| connection.execute_batch("VACUUM"));
    let restored = store("MEMORY").and_then(|()| mode("WAL"));
    match rewritten.and(restored).and_then(|()| page_bytes()) {
        Ok(bytes) if bytes == PAGE_BYTES => log::info!("ledger: the file has pages of {bytes} bytes now"),
        Ok(bytes) => log::warn!("ledger: the file still has pages of {bytes} bytes, not {PAGE_BYTES}"),
        Err(error) => log::warn!(
            "ledger: the file cannot have pages of {PAGE_BYTES} bytes yet; a power cut may damage it: {error}"
        ),
    }
}

/// Reads through the file for as long as [`CHECK_TIME`]; the rest is believed. A database that has grown
/// large on slow flash must not keep the bot from its start.
fn check(connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let fail = |error| open_error(file, error);
    let begun = clock::now();
    connection
        .progress_handler(STEPS_BETWEEN_LOOKS, Some(move || clock::since(begun) > CHECK_TIME))
        .map_err(fail)?;
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>).map_err(fail)?;
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(detail) => Err(OpenError::Damaged { file: file.to_path_buf(), detail }),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            log::info!(
                "ledger: the file was read through for {} s, and not to its end",
                CHECK_TIME.as_secs()
            );
            Ok(())
        }
        Err(error) => Err(fail(error)),
    }
}

fn migrate(connection: &mut Connection, file: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let fail = |error| open_error(file, error);
    let known = i32::try_from(migrations.len()).unwrap_or(i32::MAX);
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|found| migrations.get(found..)) else {
        // It stays as the newer version left it, which will find nothing to do when it comes back.
        if found > 0 && oldest_compatible(connection).is_some_and(|oldest| oldest <= known) {
            log::warn!("ledger: schema {found} of a newer version is used by this one, which knows {known}");
            return Ok(());
        }
        return Err(OpenError::Newer { file: file.to_path_buf(), found, known });
    };
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction().map_err(fail)?;
    for migration in missing {
        transaction.execute_batch(migration).map_err(fail)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
    transaction.pragma_update(None, "user_version", known).map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// The oldest schema whose program can work with this file, if the file says so.
fn oldest_compatible(connection: &Connection) -> Option<i32> {
    connection.query_row("SELECT oldest FROM compatibility", [], |row| row.get(0)).ok()
}

fn open_error(file: &Path, error: rusqlite::Error) -> OpenError {
    let file = file.to_path_buf();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(file),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            OpenError::Damaged { file, detail: error.to_string() }
        }
        Some(ErrorCode::DiskFull) => OpenError::NoSpace(file),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            OpenError::NotAccessible { file, cause: std::io::Error::other(error) }
        }
        _ => OpenError::Sqlite { file, cause: error },
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torn;
