//! What outlives a session: tokens by which contacts trust this account, and the salt of those for others.
//! They belong to the account, not to the device, so the next session of the same phone number takes them
//! over; without them WhatsApp may refuse replies to people who have written for weeks.

use rusqlite::Connection;

use super::{SessionError, SessionStore, device, execute, find};

/// Keeps tokens and salt of the session that is set aside. One that was never paired has none, and leaves
/// what is kept alone.
pub(super) fn keep(tx: &Connection) -> Result<(), SessionError> {
    // A device that cannot be read is set aside all the same.
    let Some(device) = device::load(tx).ok().flatten() else { return Ok(()) };
    let Some(own) = &device.pn else { return Ok(()) };
    execute(
        tx,
        "INSERT INTO wa_kept_session (only, phone_number, nct_salt) VALUES (1, ?1, ?2)
         ON CONFLICT DO UPDATE SET phone_number = excluded.phone_number, nct_salt = excluded.nct_salt",
        (own.user.as_str(), &device.nct_salt),
    )?;
    execute(tx, "DELETE FROM wa_kept_tc_token", [])?;
    execute(
        tx,
        "INSERT INTO wa_kept_tc_token (jid, token, token_timestamp)
         SELECT jid, token, token_timestamp FROM wa_tc_token WHERE length(token) > 0",
        [],
    )?;
    Ok(())
}

/// Gives the session of phone number `own` the tokens that are kept for it; it may have newer ones.
pub(super) fn take_over(tx: &Connection, own: &str) -> Result<(), SessionError> {
    let kept =
        "SELECT 1 FROM wa_kept_session WHERE phone_number = ?1 AND EXISTS (SELECT 1 FROM wa_kept_tc_token)";
    if !tx.prepare_cached(kept)?.exists([own])? {
        return Ok(());
    }
    let tokens = execute(
        tx,
        "INSERT INTO wa_tc_token (jid, token, token_timestamp, sender_timestamp)
         SELECT jid, token, token_timestamp, NULL FROM wa_kept_tc_token WHERE true
         ON CONFLICT DO UPDATE SET token = excluded.token, token_timestamp = excluded.token_timestamp
         WHERE length(token) = 0",
        [],
    )?;
    execute(tx, "DELETE FROM wa_kept_tc_token", [])?;
    log::info!("session: took over {tokens} tokens of the session before");
    Ok(())
}

/// Forgets kept tokens that were made before `cutoff`, in Unix seconds; returns how many.
pub(super) fn delete_expired(tx: &Connection, cutoff: i64) -> Result<usize, SessionError> {
    execute(tx, "DELETE FROM wa_kept_tc_token WHERE token_timestamp < ?1", [cutoff])
}

impl SessionStore {
    /// The salt of the session that was set aside last, if that was of this phone number (digits) and had one.
    pub fn kept_salt(&self, own: &str) -> Result<Option<Vec<u8>>, SessionError> {
        let sql = "SELECT nct_salt FROM wa_kept_session WHERE phone_number = ?1";
        let salt = self.database.read(|c| find(c, sql, [own], |row| row.get::<_, Option<Vec<u8>>>(0)))?;
        Ok(salt.flatten())
    }
}
