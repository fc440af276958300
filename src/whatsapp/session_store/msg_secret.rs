//! Secrets of messages, with which later edits, reactions and poll votes are decrypted.

use async_trait::async_trait;
use rusqlite::Connection;
use wacore::store::error::Result as StoreResult;
use wacore::store::traits::{MsgSecretEntry, MsgSecretStore};

use super::{SessionError, SessionStore, count, execute, find};

#[async_trait]
impl MsgSecretStore for SessionStore {
    async fn put_msg_secrets(&self, entries: Vec<MsgSecretEntry>) -> StoreResult<usize> {
        // As wacore's merge_msg_secret_expiry and merge_msg_secret_message_ts have it: no expiry
        // beats the later one, and a known time beats 0.
        let sql = "INSERT INTO wa_msg_secret (chat, sender, msg_id, secret, expires_at, message_ts)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET
                 secret = excluded.secret,
                 expires_at = iif(expires_at = 0 OR excluded.expires_at = 0, 0,
                                  max(expires_at, excluded.expires_at)),
                 message_ts = max(message_ts, excluded.message_ts)";
        self.write_lazily(|tx| {
            for entry in &entries {
                let MsgSecretEntry { chat, sender, msg_id, secret, expires_at, message_ts } = entry;
                execute(tx, sql, (chat, sender, msg_id, secret, expires_at, message_ts))?;
            }
            Ok(entries.len())
        })
    }

    async fn get_msg_secret(&self, chat: &str, sender: &str, msg_id: &str) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.get_msg_secret_with_ts(chat, sender, msg_id).await?.map(|(secret, _)| secret))
    }

    async fn get_msg_secret_with_ts(
        &self,
        chat: &str,
        sender: &str,
        msg_id: &str,
    ) -> StoreResult<Option<(Vec<u8>, i64)>> {
        let sql =
            "SELECT secret, message_ts FROM wa_msg_secret WHERE chat = ?1 AND sender = ?2 AND msg_id = ?3";
        self.read(|c| find(c, sql, (chat, sender, msg_id), |row| Ok((row.get(0)?, row.get(1)?))))
    }

    async fn delete_expired_msg_secrets(&self, cutoff_timestamp: i64) -> StoreResult<u32> {
        Ok(count(self.write(|tx| delete_expired(tx, cutoff_timestamp)).await?))
    }
}

/// Unlike the other cut-offs this one is inclusive: a deadline that is now has passed.
pub(super) fn delete_expired(tx: &Connection, cutoff: i64) -> Result<usize, SessionError> {
    execute(tx, "DELETE FROM wa_msg_secret WHERE expires_at <> 0 AND expires_at <= ?1", [cutoff])
}
