//! Sender-key tracking, LID mappings, device lists, tokens and message buffers.

use async_trait::async_trait;
use rusqlite::{Connection, Row};
use wacore::store::error::Result as StoreResult;
use wacore::store::traits::{
    DeviceListRecord, LidPnMappingEntry, PendingInboundKey, PendingInboundRow, ProtocolStore, TcTokenEntry,
};

use super::lost;
use super::unused::{Owner, used};
use super::{SessionError, SessionStore, count, execute, find, from_json, list, to_json};
use crate::ledger::{LedgerError, inbound, person, refused_message};

/// Where a device list lies, for errors.
const DEVICE_LIST_COLUMN: &str = "wa_device_list.record";

const DELETE_PENDING_INBOUND: &str =
    "DELETE FROM wa_pending_inbound WHERE chat = ?1 AND sender = ?2 AND id = ?3";

#[async_trait]
impl ProtocolStore for SessionStore {
    async fn get_sender_key_devices(&self, group_jid: &str) -> StoreResult<Vec<(String, bool)>> {
        let sql = "SELECT device_jid, has_key FROM wa_sender_key_device WHERE group_jid = ?1";
        self.read(|c| list(c, sql, [group_jid], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    async fn set_sender_key_status(&self, group_jid: &str, entries: &[(&str, bool)]) -> StoreResult<()> {
        let sql = "INSERT INTO wa_sender_key_device (group_jid, device_jid, has_key) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET has_key = excluded.has_key";
        self.write(|tx| {
            for (device_jid, has_key) in entries {
                execute(tx, sql, (group_jid, device_jid, has_key))?;
            }
            Ok(())
        })
        .await
    }

    async fn clear_sender_key_devices(&self, group_jid: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_sender_key_device WHERE group_jid = ?1";
        self.write(|tx| execute(tx, sql, [group_jid]).map(drop)).await
    }

    async fn delete_sender_key_device_rows(&self, device_jids: &[&str]) -> StoreResult<()> {
        let sql = "DELETE FROM wa_sender_key_device WHERE device_jid = ?1";
        self.write(|tx| {
            for device_jid in device_jids {
                execute(tx, sql, [device_jid])?;
            }
            Ok(())
        })
        .await
    }

    async fn clear_all_sender_key_devices(&self) -> StoreResult<()> {
        self.write(|tx| execute(tx, "DELETE FROM wa_sender_key_device", []).map(drop)).await
    }

    async fn get_lid_mapping(&self, lid: &str) -> StoreResult<Option<LidPnMappingEntry>> {
        let sql = "SELECT lid, phone_number, created_at, updated_at, learning_source
             FROM wa_lid_mapping WHERE lid = ?1";
        self.read(|c| find(c, sql, [lid], lid_mapping))
    }

    async fn get_pn_mapping(&self, phone: &str) -> StoreResult<Option<LidPnMappingEntry>> {
        let sql = "SELECT lid, phone_number, created_at, updated_at, learning_source
             FROM wa_lid_mapping WHERE phone_number = ?1 ORDER BY updated_at DESC, put_no DESC LIMIT 1";
        self.read(|c| find(c, sql, [phone], lid_mapping))
    }

    async fn put_lid_mapping(&self, entry: &LidPnMappingEntry) -> StoreResult<()> {
        self.write_lazily(|tx| put_lid_mapping(tx, entry))
    }

    async fn put_lid_mappings(&self, entries: &[LidPnMappingEntry]) -> StoreResult<()> {
        self.write_lazily(|tx| entries.iter().try_for_each(|entry| put_lid_mapping(tx, entry)))
    }

    async fn get_all_lid_mappings(&self) -> StoreResult<Vec<LidPnMappingEntry>> {
        // In the order learned, so that a cache filled from it prefers the latest.
        let sql = "SELECT lid, phone_number, created_at, updated_at, learning_source
             FROM wa_lid_mapping ORDER BY put_no";
        self.read(|c| list(c, sql, [], lid_mapping))
    }

    async fn save_base_key(&self, address: &str, message_id: &str, base_key: &[u8]) -> StoreResult<()> {
        let sql = "INSERT INTO wa_base_key (address, message_id, base_key, saved_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET base_key = excluded.base_key, saved_at = excluded.saved_at";
        self.write(|tx| execute(tx, sql, (address, message_id, base_key, self.now())).map(drop)).await
    }

    async fn has_same_base_key(
        &self,
        address: &str,
        message_id: &str,
        current_base_key: &[u8],
    ) -> StoreResult<bool> {
        let sql = "SELECT 1 FROM wa_base_key WHERE address = ?1 AND message_id = ?2 AND base_key = ?3";
        self.read(|c| Ok(c.prepare_cached(sql)?.exists((address, message_id, current_base_key))?))
    }

    async fn delete_base_key(&self, address: &str, message_id: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_base_key WHERE address = ?1 AND message_id = ?2";
        self.write(|tx| execute(tx, sql, (address, message_id)).map(drop)).await
    }

    async fn update_device_list(&self, record: DeviceListRecord) -> StoreResult<()> {
        self.write_lazily(|tx| put_device_list(tx, &record, self.now()))
    }

    async fn update_device_lists(&self, records: Vec<DeviceListRecord>) -> StoreResult<()> {
        self.write_lazily(|tx| records.iter().try_for_each(|record| put_device_list(tx, record, self.now())))
    }

    async fn get_devices(&self, user: &str) -> StoreResult<Option<DeviceListRecord>> {
        let sql = "SELECT record FROM wa_device_list WHERE user = ?1";
        self.read(|c| {
            let json = find(c, sql, [user], |row| row.get::<_, String>(0))?;
            json.map(|json| from_json(DEVICE_LIST_COLUMN, &json)).transpose()
        })
    }

    async fn delete_devices(&self, user: &str) -> StoreResult<()> {
        self.write(|tx| execute(tx, "DELETE FROM wa_device_list WHERE user = ?1", [user]).map(drop)).await
    }

    async fn get_group_metadata(&self, group_jid: &str) -> StoreResult<Option<Vec<u8>>> {
        let sql = "SELECT body FROM wa_group_metadata WHERE group_jid = ?1";
        self.read(|c| find(c, sql, [group_jid], |row| row.get(0)))
    }

    async fn put_group_metadata(&self, group_jid: &str, blob: &[u8]) -> StoreResult<()> {
        let sql = "INSERT INTO wa_group_metadata (group_jid, body) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET body = excluded.body";
        self.write(|tx| execute(tx, sql, (group_jid, blob)).map(drop)).await
    }

    async fn delete_group_metadata(&self, group_jid: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_group_metadata WHERE group_jid = ?1";
        self.write(|tx| execute(tx, sql, [group_jid]).map(drop)).await
    }

    async fn get_tc_token(&self, jid: &str) -> StoreResult<Option<TcTokenEntry>> {
        let sql = "SELECT token, token_timestamp, sender_timestamp FROM wa_tc_token WHERE jid = ?1";
        self.read(|c| {
            find(c, sql, [jid], |row| {
                Ok(TcTokenEntry {
                    token: row.get(0)?,
                    token_timestamp: row.get(1)?,
                    sender_timestamp: row.get(2)?,
                })
            })
        })
    }

    async fn put_tc_token(&self, jid: &str, entry: &TcTokenEntry) -> StoreResult<()> {
        let sql = "INSERT INTO wa_tc_token (jid, token, token_timestamp, sender_timestamp)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET token = excluded.token, token_timestamp = excluded.token_timestamp,
                 sender_timestamp = excluded.sender_timestamp";
        self.write_lazily(|tx| {
            execute(tx, sql, (jid, &entry.token, entry.token_timestamp, entry.sender_timestamp)).map(drop)
        })
    }

    async fn delete_tc_token(&self, jid: &str) -> StoreResult<()> {
        self.write(|tx| execute(tx, "DELETE FROM wa_tc_token WHERE jid = ?1", [jid]).map(drop)).await
    }

    async fn get_all_tc_token_jids(&self) -> StoreResult<Vec<String>> {
        self.read(|c| list(c, "SELECT jid FROM wa_tc_token", [], |row| row.get(0)))
    }

    async fn delete_expired_tc_tokens(&self, token_cutoff: i64, sender_cutoff: i64) -> StoreResult<u32> {
        Ok(count(self.write(|tx| delete_expired_tc_tokens(tx, token_cutoff, sender_cutoff)).await?))
    }

    async fn touch_tc_token_sender_timestamp(&self, jid: &str, sender_timestamp: i64) -> StoreResult<()> {
        let sql = "INSERT INTO wa_tc_token (jid, token, token_timestamp, sender_timestamp)
             VALUES (?1, x'', ?2, ?2)
             ON CONFLICT DO UPDATE SET
                 sender_timestamp = max(ifnull(sender_timestamp, excluded.sender_timestamp),
                                        excluded.sender_timestamp)";
        self.write_lazily(|tx| execute(tx, sql, (jid, sender_timestamp)).map(drop))
    }

    async fn store_received_tc_token(
        &self,
        jid: &str,
        token: &[u8],
        token_timestamp: i64,
    ) -> StoreResult<()> {
        let sql = "INSERT INTO wa_tc_token (jid, token, token_timestamp, sender_timestamp)
             VALUES (?1, ?2, ?3, NULL)
             ON CONFLICT DO UPDATE SET token = excluded.token, token_timestamp = excluded.token_timestamp
             WHERE length(token) = 0 OR excluded.token_timestamp >= token_timestamp";
        self.write_lazily(|tx| execute(tx, sql, (jid, token, token_timestamp)).map(drop))
    }

    async fn store_sent_message(&self, chat_jid: &str, message_id: &str, payload: &[u8]) -> StoreResult<()> {
        let sql = "INSERT INTO wa_sent_message (chat_jid, message_id, payload, stored_at)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET payload = excluded.payload, stored_at = excluded.stored_at";
        self.write_lazily(|tx| execute(tx, sql, (chat_jid, message_id, payload, self.now())).map(drop))
    }

    async fn take_sent_message(&self, chat_jid: &str, message_id: &str) -> StoreResult<Option<Vec<u8>>> {
        let sql = "DELETE FROM wa_sent_message WHERE chat_jid = ?1 AND message_id = ?2 RETURNING payload";
        self.write_lazily(|tx| find(tx, sql, (chat_jid, message_id), |row| row.get(0)))
    }

    async fn delete_expired_sent_messages(&self, cutoff_timestamp: i64) -> StoreResult<u32> {
        Ok(count(self.write(|tx| delete_expired_sent_messages(tx, cutoff_timestamp)).await?))
    }

    async fn store_pending_inbound(
        &self,
        chat: &str,
        sender: &str,
        id: &str,
        message: &[u8],
    ) -> StoreResult<()> {
        self.store_pending_inbound_batch(&[PendingInboundRow { chat, sender, id, message }]).await
    }

    async fn get_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> StoreResult<Option<Vec<u8>>> {
        let sql = "SELECT message FROM wa_pending_inbound WHERE chat = ?1 AND sender = ?2 AND id = ?3";
        if let Some(message) = self.owed.get(chat, sender, id) {
            return Ok(Some(message));
        }
        let found = self.read(|c| find(c, sql, (chat, sender, id), |row| row.get(0)))?;
        if found.is_none() && self.misses_lost && !self.was_worked_off(chat, id)? {
            log::warn!(
                "session: message {id} was decrypted and is lost; the phone that sent it is asked for it"
            );
            if !self.lost.add(chat, sender, id) {
                return Err(SessionError::from(LedgerError::Full {
                    table: "list of lost messages",
                    limit: lost::MOST,
                })
                .into());
            }
            // A message without content.
            return Ok(Some(Vec::new()));
        }
        Ok(found)
    }

    async fn delete_pending_inbound(&self, chat: &str, sender: &str, id: &str) -> StoreResult<()> {
        self.delete_pending_inbound_batch(&[PendingInboundKey { chat, sender, id }]).await
    }

    async fn delete_expired_pending_inbound(&self, cutoff_timestamp: i64) -> StoreResult<u32> {
        self.owed.forget_before(cutoff_timestamp);
        let sql = "DELETE FROM wa_pending_inbound WHERE stored_at < ?1";
        Ok(count(self.write(|tx| execute(tx, sql, [cutoff_timestamp])).await?))
    }

    async fn store_pending_inbound_batch(&self, rows: &[PendingInboundRow<'_>]) -> StoreResult<()> {
        let owed: Vec<PendingInboundRow<'_>> =
            rows.iter().filter(|row| !self.lost.is_stand_in(row)).copied().collect();
        self.owed.owe(&owed, self.now());
        // Every write of the session writes what is owed, so this one has nothing else to do. It is not
        // flushed: the commit of the message's effects, which its acknowledgement waits for, takes it
        // along. An error would lose the messages: they are decrypted, so their keys are used up.
        match self.write_lazily(|_| Ok(())) {
            Err(error) if !self.is_set_aside() => {
                log::error!("session: received messages are not written yet: {error}");
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn delete_pending_inbound_batch(&self, keys: &[PendingInboundKey<'_>]) -> StoreResult<()> {
        // What the hook has committed may be replayed without harm, so this need not be flushed.
        for key in keys {
            self.owed.forget(key.chat, key.sender, key.id);
            self.lost.forget(key.chat, key.sender, key.id);
        }
        self.write_lazily(|tx| {
            for key in keys {
                execute(tx, DELETE_PENDING_INBOUND, (key.chat, key.sender, key.id))?;
            }
            Ok(())
        })
    }
}

impl SessionStore {
    fn was_worked_off(&self, chat: &str, id: &str) -> StoreResult<bool> {
        // The ledger knows chats without devices.
        let (user, server) = chat.split_once('@').unwrap_or((chat, ""));
        let person = format!("{}@{server}", user.split(':').next().unwrap_or(user));
        self.read(|c| Ok(inbound::knows(c, &person, id)? || refused_message::knows(c, &person, id)?))
    }
}

fn put_lid_mapping(tx: &Connection, entry: &LidPnMappingEntry) -> Result<(), SessionError> {
    // A new row has a new put_no: it is now the one learned last.
    execute(tx, "DELETE FROM wa_lid_mapping WHERE lid = ?1", [&entry.lid])?;
    let sql = "INSERT INTO wa_lid_mapping
         (lid, phone_number, created_at, updated_at, learning_source) VALUES (?1, ?2, ?3, ?4, ?5)";
    let LidPnMappingEntry { lid, phone_number, created_at, updated_at, learning_source } = entry;
    execute(tx, sql, (lid, phone_number, created_at, updated_at, learning_source))?;
    // Whoever wrote before their number was known has what they wrote under their LID.
    Ok(person::are_one(tx, phone_number, lid)?)
}

fn lid_mapping(row: &Row<'_>) -> rusqlite::Result<LidPnMappingEntry> {
    Ok(LidPnMappingEntry {
        lid: row.get(0)?,
        phone_number: row.get(1)?,
        created_at: row.get(2)?,
        updated_at: row.get(3)?,
        learning_source: row.get(4)?,
    })
}

fn put_device_list(tx: &Connection, record: &DeviceListRecord, now: i64) -> Result<(), SessionError> {
    let sql = "INSERT INTO wa_device_list (user, record) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET record = excluded.record";
    execute(tx, sql, (&record.user, to_json(DEVICE_LIST_COLUMN, record)?))?;
    used(tx, Owner::User(&record.user), now)
}

pub(super) fn delete_expired_tc_tokens(
    tx: &Connection,
    token_cutoff: i64,
    sender_cutoff: i64,
) -> Result<usize, SessionError> {
    let sql = "DELETE FROM wa_tc_token
         WHERE (length(token) = 0 OR token_timestamp < ?1)
           AND (sender_timestamp IS NULL OR sender_timestamp < ?2)";
    execute(tx, sql, (token_cutoff, sender_cutoff))
}

pub(super) fn delete_expired_sent_messages(tx: &Connection, cutoff: i64) -> Result<usize, SessionError> {
    execute(tx, "DELETE FROM wa_sent_message WHERE stored_at < ?1", [cutoff])
}
