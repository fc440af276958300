//! The last good answer of a web server, for when there is none.
//!
//! whatsapp-rust asks web.whatsapp.com daily which client version is current and refuses to
//! connect without an answer. The one it got before is better than a bot that stays offline.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::session_store::SessionStore;
use crate::ledger::LedgerError;

/// Longest answer that is kept, in bytes: ample for a script, and harmless to memory and flash.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// Answers that are kept, the newest. One is in use.
const MAX_ANSWERS: i64 = 4;

/// Keeps the last good answer per URL. Losing one is no harm, so failures are logged, not told.
#[async_trait]
pub trait KeptAnswers: Send + Sync {
    /// The body kept for `url`.
    fn kept(&self, url: &str) -> Option<Vec<u8>>;

    /// Keeps `body` for `url`, instead of what was kept before.
    async fn keep(&self, url: &str, body: &[u8]);
}

/// Why an answer could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    #[error("an answer of {bytes} bytes is not kept; the limit is {MAX_BODY_BYTES}")]
    TooLong { bytes: usize },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl SessionStore {
    /// Keeps `body` (at most [`MAX_BODY_BYTES`]) under `name`; beyond [`MAX_ANSWERS`] names the
    /// one kept longest ago goes.
    pub async fn put_kept_answer(&self, name: &str, body: &[u8]) -> Result<(), KeepError> {
        if body.len() > MAX_BODY_BYTES {
            return Err(KeepError::TooLong { bytes: body.len() });
        }
        let now = self.now();
        let written: Result<(), LedgerError> = self
            .database()
            .write(|tx| {
                tx.execute(
                    "INSERT INTO kept_http_answer (name, body, kept_at) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET body = excluded.body, kept_at = excluded.kept_at",
                    (name, body, now),
                )?;
                tx.execute(
                    "DELETE FROM kept_http_answer WHERE name NOT IN
                     (SELECT name FROM kept_http_answer ORDER BY name = ?1 DESC, kept_at DESC LIMIT ?2)",
                    (name, MAX_ANSWERS),
                )?;
                Ok(())
            })
            .await;
        Ok(written?)
    }

    /// The body kept under `name`.
    pub fn kept_answer(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.database().read(|c| {
            let sql = "SELECT body FROM kept_http_answer WHERE name = ?1";
            Ok(c.query_row(sql, [name], |row| row.get(0)).optional()?)
        })
    }
}

#[async_trait]
impl KeptAnswers for SessionStore {
    fn kept(&self, url: &str) -> Option<Vec<u8>> {
        self.kept_answer(url).unwrap_or_else(|error| {
            log::warn!("kept answers: {url} could not be read: {error}");
            None
        })
    }

    async fn keep(&self, url: &str, body: &[u8]) {
        if let Err(error) = self.put_kept_answer(url, body).await {
            log::warn!("kept answers: {url} was not kept: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Database;

    const URL: &str = "https://web.whatsapp.com/sw.js";

    #[test]
    fn the_last_answer_is_served_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        let store = SessionStore::new(Database::open(&file).unwrap());
        assert_eq!(store.kept(URL), None);
        smol::block_on(async {
            store.keep(URL, b"first").await;
            store.keep(URL, b"second").await;
        });
        drop(store);
        let store = SessionStore::new(Database::open(&file).unwrap());
        assert_eq!(store.kept(URL).as_deref(), Some(&b"second"[..]));
    }

    #[test]
    fn neither_a_huge_answer_nor_many_answers_fill_the_disk() {
        let store = SessionStore::new(Database::in_memory().unwrap());
        smol::block_on(async {
            store.put_kept_answer(URL, b"good").await.unwrap();
            let huge = vec![0; MAX_BODY_BYTES + 1];
            assert!(matches!(store.put_kept_answer(URL, &huge).await, Err(KeepError::TooLong { .. })));
            assert_eq!(store.kept(URL).as_deref(), Some(&b"good"[..]));
            for n in 0..20 {
                let name = format!("https://example.org/{n}");
                store.put_kept_answer(&name, b"x").await.unwrap();
                assert!(store.kept(&name).is_some(), "the newest is always kept");
            }
        });
        let rows: i64 = store
            .database()
            .read(|c| c.query_row("SELECT count(*) FROM kept_http_answer", [], |row| row.get(0)))
            .unwrap();
        assert_eq!(rows, MAX_ANSWERS);
    }
}
