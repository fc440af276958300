//! Identities, sessions, pre-keys and sender keys.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use wacore::store::error::Result as StoreResult;
use wacore::store::traits::SignalStore;

use super::unused::{Owner, used};
use super::{RETIRED_SIGNED_PREKEYS, SessionError, SessionStore, device, execute, find, list};

const PUT_IDENTITY: &str = "INSERT INTO wa_identity (address, public_key) VALUES (?1, ?2)
     ON CONFLICT DO UPDATE SET public_key = excluded.public_key";
const PUT_SESSION: &str = "INSERT INTO wa_session (address, record) VALUES (?1, ?2)
     ON CONFLICT DO UPDATE SET record = excluded.record";
const PUT_PREKEY: &str = "INSERT INTO wa_prekey (id, record, uploaded) VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET record = excluded.record, uploaded = excluded.uploaded";
const PUT_SENDER_KEY: &str = "INSERT INTO wa_sender_key (address, record) VALUES (?1, ?2)
     ON CONFLICT DO UPDATE SET record = excluded.record";

#[async_trait]
impl SignalStore for SessionStore {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> StoreResult<()> {
        self.write(|tx| self.put_identity_in(tx, address, key)).await
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> StoreResult<()> {
        self.write(|tx| {
            for (address, key) in identities {
                self.put_identity_in(tx, address, *key)?;
            }
            Ok(())
        })
        .await
    }

    async fn load_identity(&self, address: &str) -> StoreResult<Option<[u8; 32]>> {
        let sql = "SELECT public_key FROM wa_identity WHERE address = ?1";
        self.read(|c| find(c, sql, [address], |row| row.get(0)))
    }

    async fn delete_identity(&self, address: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_identity WHERE address = ?1";
        self.write(|tx| execute(tx, sql, [address]).map(drop)).await
    }

    async fn get_session(&self, address: &str) -> StoreResult<Option<Bytes>> {
        let sql = "SELECT record FROM wa_session WHERE address = ?1";
        let record = self.read(|c| find(c, sql, [address], |row| row.get::<_, Vec<u8>>(0)))?;
        Ok(record.map(Bytes::from))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> StoreResult<()> {
        self.write(|tx| self.put_record(tx, PUT_SESSION, Owner::User(address), session)).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> StoreResult<()> {
        self.write(|tx| {
            for (address, record) in sessions {
                self.put_record(tx, PUT_SESSION, Owner::User(address), record)?;
            }
            Ok(())
        })
        .await
    }

    async fn delete_session(&self, address: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_session WHERE address = ?1";
        self.write(|tx| execute(tx, sql, [address]).map(drop)).await
    }

    async fn has_session(&self, address: &str) -> StoreResult<bool> {
        let sql = "SELECT 1 FROM wa_session WHERE address = ?1";
        self.read(|c| Ok(c.prepare_cached(sql)?.exists([address])?))
    }

    async fn has_signal_state_for_user(&self, user: &str) -> StoreResult<bool> {
        // ';' and 'A' follow ':' and '@', so each pair spans one prefix of the primary key.
        let bounds = [format!("{user}:"), format!("{user};"), format!("{user}@"), format!("{user}A")];
        let sql = "SELECT 1 WHERE
             EXISTS (SELECT 1 FROM wa_session WHERE address >= ?1 AND address < ?2)
             OR EXISTS (SELECT 1 FROM wa_session WHERE address >= ?3 AND address < ?4)
             OR EXISTS (SELECT 1 FROM wa_identity WHERE address >= ?1 AND address < ?2)
             OR EXISTS (SELECT 1 FROM wa_identity WHERE address >= ?3 AND address < ?4)";
        self.read(|c| Ok(c.prepare_cached(sql)?.exists(bounds)?))
    }

    async fn store_prekey(&self, id: u32, record: &[u8], uploaded: bool) -> StoreResult<()> {
        self.write(|tx| execute(tx, PUT_PREKEY, (id, record, uploaded)).map(drop)).await
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], uploaded: bool) -> StoreResult<()> {
        self.write(|tx| {
            for (id, record) in keys {
                execute(tx, PUT_PREKEY, (id, &record[..], uploaded))?;
            }
            Ok(())
        })
        .await
    }

    async fn load_prekey(&self, id: u32) -> StoreResult<Option<Bytes>> {
        self.read(|c| load_prekey(c, id))
    }

    async fn load_prekeys_batch(&self, ids: &[u32]) -> StoreResult<Vec<(u32, Bytes)>> {
        self.read(|c| {
            let mut found = Vec::with_capacity(ids.len());
            for &id in ids {
                found.extend(load_prekey(c, id)?.map(|record| (id, record)));
            }
            Ok(found)
        })
    }

    async fn mark_prekeys_uploaded(&self, ids: &[u32]) -> StoreResult<()> {
        let sql = "UPDATE wa_prekey SET uploaded = 1 WHERE id = ?1";
        self.write(|tx| {
            for id in ids {
                execute(tx, sql, [id])?;
            }
            Ok(())
        })
        .await
    }

    async fn remove_prekey(&self, id: u32) -> StoreResult<()> {
        self.write(|tx| execute(tx, "DELETE FROM wa_prekey WHERE id = ?1", [id]).map(drop)).await
    }

    async fn get_max_prekey_id(&self) -> StoreResult<u32> {
        let sql = "SELECT max(id) FROM wa_prekey";
        let id = self.read(|c| find(c, sql, [], |row| row.get::<_, Option<u32>>(0)))?;
        Ok(id.flatten().unwrap_or(0))
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> StoreResult<()> {
        let sql = "INSERT INTO wa_signed_prekey (id, record) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET record = excluded.record";
        self.write(|tx| execute(tx, sql, (id, record)).map(drop)).await
    }

    async fn load_signed_prekey(&self, id: u32) -> StoreResult<Option<Vec<u8>>> {
        let sql = "SELECT record FROM wa_signed_prekey WHERE id = ?1";
        self.read(|c| find(c, sql, [id], |row| row.get(0)))
    }

    async fn load_all_signed_prekeys(&self) -> StoreResult<Vec<(u32, Vec<u8>)>> {
        let sql = "SELECT id, record FROM wa_signed_prekey ORDER BY id";
        self.read(|c| list(c, sql, [], |row| Ok((row.get(0)?, row.get(1)?))))
    }

    /// Keeps keys that were in force ([`RETIRED_SIGNED_PREKEYS`]): whatsapp-rust prunes all but the last two,
    /// that is after three weeks, and a phone that has no answer yet goes on using the key that it began
    /// with. A candidate that the server refused has an id above the current one and goes.
    async fn remove_signed_prekey(&self, id: u32) -> StoreResult<()> {
        self.write(|tx| {
            let current = device::load(tx)?.map_or(0, |device| device.signed_pre_key_id);
            if (current.saturating_sub(RETIRED_SIGNED_PREKEYS).max(1)..current).contains(&id) {
                return Ok(());
            }
            execute(tx, "DELETE FROM wa_signed_prekey WHERE id = ?1", [id]).map(drop)
        })
        .await
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> StoreResult<()> {
        self.write(|tx| self.put_record(tx, PUT_SENDER_KEY, Owner::SenderKey(address), record)).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> StoreResult<()> {
        self.write(|tx| {
            for (address, record) in sender_keys {
                self.put_record(tx, PUT_SENDER_KEY, Owner::SenderKey(address), record)?;
            }
            Ok(())
        })
        .await
    }

    async fn get_sender_key(&self, address: &str) -> StoreResult<Option<Vec<u8>>> {
        let sql = "SELECT record FROM wa_sender_key WHERE address = ?1";
        self.read(|c| find(c, sql, [address], |row| row.get(0)))
    }

    async fn delete_sender_key(&self, address: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_sender_key WHERE address = ?1";
        self.write(|tx| execute(tx, sql, [address]).map(drop)).await
    }
}

impl SessionStore {
    fn put_identity_in(&self, tx: &Connection, address: &str, key: [u8; 32]) -> Result<(), SessionError> {
        execute(tx, PUT_IDENTITY, (address, key))?;
        used(tx, Owner::User(address), self.now())
    }

    /// Stores a session or a sender key; both have an address and a record.
    fn put_record(
        &self,
        tx: &Connection,
        sql: &str,
        owner: Owner<'_>,
        record: &[u8],
    ) -> Result<(), SessionError> {
        let (Owner::User(address) | Owner::SenderKey(address)) = owner;
        execute(tx, sql, (address, record))?;
        used(tx, owner, self.now())
    }
}

fn load_prekey(connection: &Connection, id: u32) -> Result<Option<Bytes>, SessionError> {
    let sql = "SELECT record FROM wa_prekey WHERE id = ?1";
    Ok(find(connection, sql, [id], |row| row.get::<_, Vec<u8>>(0))?.map(Bytes::from))
}
