//! Carries registrations from the ledger to Supabase, one batch at a time.
//!
//! A row leaves the queue only by a verdict about that very row. Everything else (no line, a lost
//! answer, a wrong key, refusals that are no row's fault) leaves it pending, and sending it again is
//! harmless because the server knows its key. Nothing here stands in the way of a reply: requests run on
//! the worker thread, and the ledger is touched only to read a batch and to write down its verdicts.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_lite::future::race;

use super::client::{Answer, Client, MAX_BATCH_ROWS};
use super::refusals::{Blame, Refusals};
use super::verdict::{Action, Reason, Verdict, judge};
use crate::bell::Bell;
use crate::clock;
use crate::ledger::registration::RowKey;
use crate::ledger::sync_queue::{self, QueuedRow, RowVerdict};
use crate::ledger::{Database, LedgerError};
use crate::net::link::Link;
use crate::trusted_clock;

/// How often and how much is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Rows per request, at most [`MAX_BATCH_ROWS`].
    pub batch_rows: u32,
    /// Rest after a batch that emptied the queue: what comes meanwhile travels together.
    pub interval: Duration,
    /// Upper end of the first random delay after a failure; it doubles with each further one.
    pub first_retry: Duration,
    /// Upper end of the longest random delay. After an outage rows wait at most this long.
    pub max_retry: Duration,
    /// Time between attempts when only a person can help. Each of them is refused work for the
    /// server, and one is needed to see that the repair was made.
    pub probe: Duration,
    /// How long the server may not know the function before a person is called. It reads the schema in 0.2 s
    /// as a rule; while its connections were busy, 14 s were seen.
    pub unknown: Duration,
    /// Time between attempts meanwhile.
    pub unknown_retry: Duration,
    /// Time between attempts while the link is down: it is WhatsApp's, which may refuse us while the
    /// line is good.
    pub without_link: Duration,
    /// Time between looks at the queue when nobody rings: a safety net.
    pub idle_check: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            batch_rows: MAX_BATCH_ROWS,
            interval: Duration::from_secs(2),
            first_retry: Duration::from_secs(1),
            max_retry: Duration::from_secs(5 * 60),
            probe: Duration::from_secs(15 * 60),
            unknown: Duration::from_secs(30),
            unknown_retry: Duration::from_secs(5),
            without_link: Duration::from_secs(15 * 60),
            idle_check: Duration::from_secs(60),
        }
    }
}

/// Parked rows that are put back into the queue by one transaction, so that none takes long.
const PARKED_PER_COMMIT: u32 = 1_000;

/// The longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// How the way to Supabase stands, for the status page and alerts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// The last request got its verdicts, or none was made yet.
    #[default]
    Working,
    /// The last `failures` requests failed in a way that passes.
    Retrying { since: Instant, failures: u32, reason: Reason },
    /// A person has to do something.
    NeedsOperator { since: Instant, action: Action },
    /// The server does not understand the bot.
    Broken { since: Instant, reason: Reason },
}

/// Handle to the one [`Standing`]; clones share it. Sync is its only writer.
#[derive(Clone, Default)]
pub struct SyncStatus(Arc<Mutex<Standing>>);

impl SyncStatus {
    pub fn get(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs when the kind changes, not each attempt.
    fn set(&self, standing: Standing) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&*current, &standing) {
            (Standing::NeedsOperator { action: old, .. }, Standing::NeedsOperator { action: new, .. }) => {
                old == new
            }
            (old, new) => std::mem::discriminant(old) == std::mem::discriminant(new),
        };
        if !same {
            match &standing {
                Standing::Working => log::info!("supabase: registrations are being stored again"),
                Standing::Retrying { reason, .. } => {
                    log::warn!("supabase: {reason}; registrations wait and are sent again");
                }
                Standing::NeedsOperator { action, .. } => {
                    log::error!("supabase: {action}; registrations wait")
                }
                Standing::Broken { reason, .. } => {
                    log::error!(
                        "supabase: the server refuses the bot's request ({reason}); registrations wait"
                    );
                }
            }
        }
        *current = standing;
    }
}

/// Everything that sync works with.
pub struct Sync {
    pub database: Database,
    pub client: Client,
    pub link: Link,
    /// Rung by whoever has made registrations durable.
    pub bell: Bell,
    pub status: SyncStatus,
    pub pace: Pace,
    /// Source of randomness for delays.
    pub random: fn() -> u64,
}

/// What to do after a request.
enum Next {
    /// More rows wait.
    Continue,
    Rest(Duration),
}

/// How the last requests went.
struct Course {
    /// Rows of the next request.
    rows: u32,
    /// Failed requests in a row.
    failures: u32,
    /// When the present trouble began.
    since: Instant,
    /// Since when the server does not know the function.
    unknown: Option<Instant>,
    refusals: Refusals,
    /// Where the next request takes its rows from, and whether the newest row has spoken since the last rest.
    witness: Witness,
}

/// While the oldest rows are refused one after another the newest row shows whether all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Witness {
    #[default]
    NotCalled,
    /// It is sent next, alone.
    Called,
    Heard,
}

impl Course {
    fn new(rows: u32) -> Self {
        Self {
            rows,
            failures: 0,
            since: clock::now(),
            unknown: None,
            refusals: Refusals::default(),
            witness: Witness::default(),
        }
    }
}

/// Runs until it is dropped. A request under way then ends on its own; its rows stay pending and are
/// sent again by the next run.
pub async fn run(sync: Sync) -> Infallible {
    let mut course = Course::new(sync.pace.batch_rows());
    // The operator restarts the bot after having repaired something, or with a newer version.
    match sync.release_parked().await {
        Ok(0) => {}
        Ok(rows) => log::info!("supabase: {rows} rows that were refused are tried again"),
        Err(error) => log::error!("supabase: refused rows not tried again: {error}"),
    }
    loop {
        race(sync.link.wait_until_up(), async {
            clock::sleep(sync.pace.without_link).await;
        })
        .await;
        let rest = match sync.turn(&mut course).await {
            Ok(Some(Next::Continue)) => continue,
            Ok(Some(Next::Rest(rest))) => rest,
            Ok(None) => {
                race(sync.bell.heard(), async {
                    clock::sleep(sync.pace.idle_check).await;
                })
                .await;
                continue;
            }
            Err(error) => {
                log::error!("supabase: {error}");
                course.failures = course.failures.saturating_add(1);
                sync.backoff(course.failures)
            }
        };
        clock::sleep(rest).await;
    }
}

impl Sync {
    /// Puts all parked rows back into the queue; returns how many.
    async fn release_parked(&self) -> Result<usize, LedgerError> {
        let mut all = 0;
        loop {
            let released =
                self.database.write(|tx| sync_queue::release_parked(tx, PARKED_PER_COMMIT)).await?;
            all += released;
            if released < PARKED_PER_COMMIT as usize {
                return Ok(all);
            }
        }
    }

    /// Sends one batch and writes down what came of it; `None` if there is nothing to send.
    async fn turn(&self, course: &mut Course) -> Result<Option<Next>, LedgerError> {
        let rows = course.rows;
        let witness = course.witness == Witness::Called;
        if witness {
            course.witness = Witness::Heard;
        }
        // Only what is durable leaves the box.
        let batch = self
            .database
            .read_durable(|conn| match witness {
                true => sync_queue::newest(conn),
                false => sync_queue::next_batch(conn, rows),
            })
            .await?;
        if batch.is_empty() {
            return Ok(None);
        }
        let sent: Vec<RowKey> = batch.iter().map(|row| row.row_key).collect();
        let answer = self.ask(&batch).await;
        if matches!(answer, Answer::None { .. }) {
            // On a slow line the same rows would not pass the next time either.
            course.rows = (rows / 2).max(1);
        }
        let verdict = judge(&answer, &sent);
        crate::logging::debug!("supabase: {} rows sent, answer {answer:?}", sent.len());
        let verdict = match verdict {
            Verdict::Quarantine { .. } => self.ask_again(&batch, &sent).await,
            other => other,
        };
        drop(batch);
        self.follow(verdict, &sent, course).await.map(Some)
    }

    async fn ask(&self, rows: &[QueuedRow]) -> Answer {
        self.client
            .register_batch(rows)
            .await
            .unwrap_or_else(|error| Answer::None { reason: format!("no worker thread: {error}") })
    }

    /// What to make of a row that made its whole request fail: whether a request without rows fails too, and if not,
    /// what becomes of the row now. What was wrong with all may have been mended between the two.
    async fn ask_again(&self, batch: &[QueuedRow], sent: &[RowKey]) -> Verdict {
        let answer = self.ask(&[]).await;
        crate::logging::debug!("supabase: no rows sent, answer {answer:?}");
        match judge(&answer, &[]) {
            Verdict::Rows(_) => judge(&self.ask(batch).await, sent),
            worse => worse,
        }
    }

    async fn follow(
        &self,
        verdict: Verdict,
        sent: &[RowKey],
        course: &mut Course,
    ) -> Result<Next, LedgerError> {
        if course.failures == 0 {
            course.since = clock::now();
        }
        let since = course.since;
        match verdict {
            Verdict::Rows(verdicts) => self.keep(&verdicts, course).await,
            Verdict::Quarantine { code, message } => {
                let verdicts: Vec<_> = sent
                    .iter()
                    .map(|&key| (key, RowVerdict::Rejected { code: code.clone(), message: message.clone() }))
                    .collect();
                self.keep(&verdicts, course).await
            }
            Verdict::HalveBatch { reason } => {
                course.rows = u32::try_from(sent.len() / 2).unwrap_or(MAX_BATCH_ROWS).max(1);
                crate::logging::debug!("supabase: {reason}; continuing with {} rows at a time", course.rows);
                Ok(Next::Continue)
            }
            Verdict::Retry { reason, after } => {
                course.failures = course.failures.saturating_add(1);
                self.status.set(Standing::Retrying { since, failures: course.failures, reason });
                let told = after.unwrap_or_default().min(MAX_RETRY_AFTER);
                Ok(Next::Rest(told + self.backoff(course.failures)))
            }
            Verdict::NotKnown { reason } => {
                course.failures = course.failures.saturating_add(1);
                let first = *course.unknown.get_or_insert_with(clock::now);
                if clock::since(first) < self.pace.unknown {
                    self.status.set(Standing::Retrying { since, failures: course.failures, reason });
                    return Ok(Next::Rest(self.pace.unknown_retry));
                }
                self.status.set(Standing::NeedsOperator { since, action: Action::InstallSchema });
                Ok(Next::Rest(self.pace.probe))
            }
            Verdict::Operator(action) => {
                course.failures = course.failures.saturating_add(1);
                self.status.set(Standing::NeedsOperator { since, action });
                Ok(Next::Rest(match action {
                    // These pass by themselves, too, and cost the server nothing or little.
                    Action::ClearTheWay | Action::CheckRole => self.backoff(course.failures),
                    _ => self.pace.probe,
                }))
            }
            Verdict::Bug(reason) => {
                course.failures = course.failures.saturating_add(1);
                self.status.set(Standing::Broken { since, reason });
                Ok(Next::Rest(self.pace.probe))
            }
        }
    }

    /// Writes verdicts down. If that fails the rows stay pending, and the server will say the same
    /// of them again.
    async fn keep(
        &self,
        verdicts: &[(RowKey, RowVerdict)],
        course: &mut Course,
    ) -> Result<Next, LedgerError> {
        let take_back = match course.refusals.judge(verdicts) {
            Blame::Nobody { code, take_back } => return self.hold(&code, take_back, course).await,
            Blame::Rows { take_back } => take_back,
        };
        let now = trusted_clock::now();
        self.database
            .write(|tx| {
                sync_queue::record(tx, verdicts, now)?;
                sync_queue::take_back(tx, take_back.as_slice())
            })
            .await?;
        report(verdicts);
        self.status.set(Standing::Working);
        course.failures = 0;
        course.unknown = None;
        course.witness = Witness::NotCalled;
        let full = verdicts.len() >= course.rows as usize;
        course.rows = course.rows.saturating_mul(2).min(self.pace.batch_rows());
        Ok(if full { Next::Continue } else { Next::Rest(self.pace.interval) })
    }

    /// Leaves rows in the queue that were refused without being at fault, puts back what was parked for it, and
    /// rests, after having heard the newest row.
    async fn hold(
        &self,
        code: &str,
        take_back: Option<RowKey>,
        course: &mut Course,
    ) -> Result<Next, LedgerError> {
        if take_back.is_some() {
            self.database.write(|tx| sync_queue::take_back(tx, take_back.as_slice())).await?;
        }
        if course.witness == Witness::NotCalled {
            let newest = self.database.read(sync_queue::newest)?;
            if newest.iter().any(|row| !course.refusals.include(&row.row_key)) {
                course.witness = Witness::Called;
                return Ok(Next::Continue);
            }
        }
        course.witness = Witness::NotCalled;
        course.failures = course.failures.saturating_add(1);
        // Requests without rows pass, or the verdict were another.
        let standing = Standing::NeedsOperator { since: course.since, action: Action::CheckTable };
        if self.status.get() != standing {
            log::error!("supabase: no row is stored, each is refused with code {code}");
        }
        self.status.set(standing);
        Ok(Next::Rest(self.backoff(course.failures)))
    }

    /// Full jitter: anything between nothing and a bound that doubles with each failure, so that many
    /// boxes do not come back at the same moment.
    fn backoff(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let bound = self.pace.first_retry.saturating_mul(1 << doublings).min(self.pace.max_retry);
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis((self.random)() % bound.saturating_add(1).max(1))
    }
}

impl Pace {
    fn batch_rows(&self) -> u32 {
        self.batch_rows.clamp(1, MAX_BATCH_ROWS)
    }
}

fn report(verdicts: &[(RowKey, RowVerdict)]) {
    let (mut stored, mut duplicate) = (0, 0);
    for (key, verdict) in verdicts {
        match verdict {
            RowVerdict::Stored => stored += 1,
            RowVerdict::Duplicate(_) => duplicate += 1,
            // The message may quote a name, so the log has the code only.
            RowVerdict::Rejected { code, .. } => {
                log::warn!("supabase: row {key} refused, code {code}; parked")
            }
        }
    }
    log::info!("supabase: stored={stored} duplicate={duplicate} of={}", verdicts.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(random: fn() -> u64) -> Sync {
        let agent = ureq::Agent::new_with_defaults();
        Sync {
            database: Database::in_memory().unwrap(),
            client: Client::new(agent, "http://127.0.0.1:1", "key".into()).unwrap(),
            link: Link::default(),
            bell: Bell::default(),
            status: SyncStatus::default(),
            pace: Pace::default(),
            random,
        }
    }

    #[test]
    fn delays_are_random_below_a_bound_that_doubles_up_to_a_limit() {
        let longest = sync(|| (1 << 40) - 1);
        let shortest = sync(|| 0);
        let mut bound = Duration::from_secs(1);
        for failures in 1..100 {
            assert_eq!(shortest.backoff(failures), Duration::ZERO);
            assert!(longest.backoff(failures) <= bound, "{failures}");
            bound = (bound * 2).min(longest.pace.max_retry);
        }
        let one_ms_below = sync(|| 299_999);
        assert_eq!(one_ms_below.backoff(u32::MAX), Duration::from_millis(299_999));
    }

    #[test]
    fn trouble_is_told_with_its_beginning_and_ends_with_the_first_verdict() {
        smol::block_on(async {
            let sync = sync(|| 0);
            let sent = [RowKey::derive("c", "1", "m", 0)];
            let mut course = Course::new(8);
            let retry = || Verdict::Retry { reason: Reason::new("HTTP 503"), after: None };
            sync.follow(retry(), &sent, &mut course).await.unwrap();
            let Standing::Retrying { since: first, failures: 1, .. } = sync.status.get() else {
                panic!("{:?}", sync.status.get());
            };
            sync.follow(retry(), &sent, &mut course).await.unwrap();
            assert!(
                matches!(sync.status.get(), Standing::Retrying { since, failures: 2, .. } if since == first)
            );
            sync.follow(Verdict::Operator(Action::CheckKey), &sent, &mut course).await.unwrap();
            assert!(matches!(
                sync.status.get(),
                Standing::NeedsOperator { action: Action::CheckKey, since } if since == first
            ));
            sync.follow(Verdict::Rows(vec![(sent[0], RowVerdict::Stored)]), &sent, &mut course)
                .await
                .unwrap();
            assert_eq!(sync.status.get(), Standing::Working);
        });
    }

    #[test]
    fn a_batch_shrinks_by_halves_and_grows_back() {
        smol::block_on(async {
            let sync = sync(|| 0);
            let sent: Vec<_> = (0..5).map(|n| RowKey::derive("c", "1", "m", n)).collect();
            let mut course = Course::new(200);
            let halve = || Verdict::HalveBatch { reason: Reason::new("HTTP 413") };
            let next = sync.follow(halve(), &sent, &mut course).await.unwrap();
            assert!(matches!(next, Next::Continue));
            assert_eq!(course.rows, 2);
            sync.follow(halve(), &sent[..2], &mut course).await.unwrap();
            assert_eq!(course.rows, 1);
            let verdicts = Verdict::Rows(vec![(sent[0], RowVerdict::Stored)]);
            let next = sync.follow(verdicts, &sent[..1], &mut course).await.unwrap();
            assert!(matches!(next, Next::Continue));
            assert_eq!(course.rows, 2);
        });
    }

    #[test]
    fn a_server_that_names_a_delay_is_not_asked_earlier_nor_believed_for_ever() {
        smol::block_on(async {
            let sync = sync(|| 0);
            let mut course = Course::new(8);
            for (told, rest) in [(7, 7), (1_000_000, 15 * 60)] {
                let after = Some(Duration::from_secs(told));
                let verdict = Verdict::Retry { reason: Reason::new("HTTP 429"), after };
                let next = sync.follow(verdict, &[], &mut course).await.unwrap();
                assert!(matches!(next, Next::Rest(time) if time == Duration::from_secs(rest)));
            }
        });
    }
}
