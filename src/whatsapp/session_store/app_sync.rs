//! App state: the settings that WhatsApp synchronises between a person's devices.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::Connection;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::error::Result as StoreResult;
use wacore::store::traits::{AppStateSyncKey, AppSyncStore};

use super::{SessionError, SessionStore, execute, find, from_json, to_json};

/// Where a collection's state lies, for errors.
const STATE_COLUMN: &str = "wa_app_sync_version.state";

#[async_trait]
impl AppSyncStore for SessionStore {
    async fn get_sync_key(&self, key_id: &[u8]) -> StoreResult<Option<AppStateSyncKey>> {
        let sql = "SELECT key_data, fingerprint, timestamp FROM wa_app_sync_key WHERE key_id = ?1";
        self.read(|c| {
            find(c, sql, [key_id], |row| {
                Ok(AppStateSyncKey {
                    key_data: row.get(0)?,
                    fingerprint: row.get(1)?,
                    timestamp: row.get(2)?,
                })
            })
        })
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> StoreResult<()> {
        // A new row has a new put_no: it is now the one stored last.
        let sql = "INSERT INTO wa_app_sync_key (key_id, key_data, fingerprint, timestamp)
             VALUES (?1, ?2, ?3, ?4)";
        self.write(|tx| {
            execute(tx, "DELETE FROM wa_app_sync_key WHERE key_id = ?1", [key_id])?;
            execute(tx, sql, (key_id, key.key_data, key.fingerprint, key.timestamp)).map(drop)
        })
        .await
    }

    async fn get_version(&self, name: &str) -> StoreResult<HashState> {
        let sql = "SELECT state FROM wa_app_sync_version WHERE collection = ?1";
        self.read(|c| match find(c, sql, [name], |row| row.get::<_, String>(0))? {
            Some(json) => from_json(STATE_COLUMN, &json),
            None => Ok(HashState::default()),
        })
    }

    async fn set_version(&self, name: &str, state: HashState) -> StoreResult<()> {
        let sql = "INSERT INTO wa_app_sync_version (collection, state) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET state = excluded.state";
        let json = to_json(STATE_COLUMN, &state)?;
        self.write(|tx| execute(tx, sql, (name, json)).map(drop)).await
    }

    async fn put_mutation_macs(
        &self,
        name: &str,
        _version: u64,
        mutations: &[AppStateMutationMAC],
    ) -> StoreResult<()> {
        let sql = "INSERT INTO wa_app_sync_mutation (collection, index_mac, value_mac) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET value_mac = excluded.value_mac";
        self.write(|tx| {
            for mutation in mutations {
                execute(tx, sql, (name, &mutation.index_mac, &mutation.value_mac))?;
            }
            Ok(())
        })
        .await
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        self.read(|c| mutation_mac(c, name, index_mac))
    }

    async fn get_mutation_macs(
        &self,
        name: &str,
        index_macs: &[[u8; 32]],
    ) -> StoreResult<HashMap<[u8; 32], Vec<u8>>> {
        self.read(|c| {
            let mut found = HashMap::with_capacity(index_macs.len());
            for index_mac in index_macs {
                found.extend(mutation_mac(c, name, index_mac)?.map(|value_mac| (*index_mac, value_mac)));
            }
            Ok(found)
        })
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> StoreResult<()> {
        let sql = "DELETE FROM wa_app_sync_mutation WHERE collection = ?1 AND index_mac = ?2";
        self.write(|tx| {
            for index_mac in index_macs {
                execute(tx, sql, (name, index_mac))?;
            }
            Ok(())
        })
        .await
    }

    async fn clear_mutation_macs(&self, name: &str) -> StoreResult<()> {
        let sql = "DELETE FROM wa_app_sync_mutation WHERE collection = ?1";
        self.write(|tx| execute(tx, sql, [name]).map(drop)).await
    }

    async fn get_latest_sync_key_id(&self) -> StoreResult<Option<Vec<u8>>> {
        let sql = "SELECT key_id FROM wa_app_sync_key ORDER BY put_no DESC LIMIT 1";
        self.read(|c| find(c, sql, [], |row| row.get(0)))
    }
}

fn mutation_mac(c: &Connection, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>, SessionError> {
    let sql = "SELECT value_mac FROM wa_app_sync_mutation WHERE collection = ?1 AND index_mac = ?2";
    find(c, sql, (name, index_mac), |row| row.get(0))
}
