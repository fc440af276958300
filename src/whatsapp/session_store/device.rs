//! The linked device: its keys, its JID and what the server told it about itself.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;
use wacore::stats::StorageResourceReport;
use wacore::store::Device;
use wacore::store::device::DEVICE_PROPS;
use wacore::store::error::Result as StoreResult;
use wacore::store::traits::DeviceStore;

use super::{SessionError, SessionStore, execute, find, json_fault, kept};

/// One ledger holds one device.
const DEVICE_ID: i32 = 1;

/// JSON of wacore's `Device` by its own serde definition. wacore gives each field it adds a
/// default, so a newer wacore reads this too; should it ever not, the number goes up here.
const FORMAT: i64 = 1;

#[async_trait]
impl DeviceStore for SessionStore {
    async fn save(&self, device: &Device) -> StoreResult<()> {
        let json = to_json(device)?;
        let own = device.pn.as_ref().map(|own| own.user.as_str());
        self.write(|tx| {
            put(tx, &json)?;
            own.map_or(Ok(()), |own| kept::take_over(tx, own))
        })
        .await
    }

    async fn load(&self) -> StoreResult<Option<Device>> {
        self.read(load)
    }

    async fn exists(&self) -> StoreResult<bool> {
        self.read(exists)
    }

    /// Makes the device unless there is one already; its id is 1 in either case.
    async fn create(&self) -> StoreResult<i32> {
        let json = serde_json::to_string(&Device::new())
            .map_err(|e| unreadable(FORMAT, writer(), json_fault(&e)))?;
        self.write(|tx| if exists(tx)? { Ok(()) } else { put(tx, &json) }).await?;
        Ok(DEVICE_ID)
    }

    /// `memory_bytes` is the upper bound of SQLite's page cache: its limit, or the whole database
    /// if that is smaller.
    async fn resource_report(&self) -> StorageResourceReport {
        match self.read(page_cache) {
            Ok((memory_bytes, pages)) => StorageResourceReport {
                memory_bytes: Some(memory_bytes),
                pages: Some(pages),
                ..Default::default()
            },
            Err(error) => {
                crate::logging::debug!("session store: no resource report: {error}");
                StorageResourceReport::default()
            }
        }
    }
}

/// The stored device, ready for a client.
/// Saves a device for whoever is inside a transaction.
pub(super) fn save(tx: &Connection, device: &Device) -> Result<(), SessionError> {
    put(tx, &to_json(device)?)
}

fn to_json(device: &Device) -> Result<String, SessionError> {
    serde_json::to_string(device).map_err(|e| unreadable(FORMAT, writer(), json_fault(&e)))
}

pub(super) fn load(connection: &Connection) -> Result<Option<Device>, SessionError> {
    let sql = "SELECT format, writer, body FROM wa_device WHERE id = ?1";
    let row = find(connection, sql, [DEVICE_ID], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    let Some((format, writer, json)) = row else {
        return Ok(None);
    };
    if format != FORMAT {
        return Err(unreadable(format, writer, format!("this version knows format {FORMAT}")));
    }
    let mut device: Device =
        serde_json::from_str(&json).map_err(|e| unreadable(format, writer, json_fault(&e)))?;
    // Not stored, and empty by default; a new device starts with these.
    device.device_props = Arc::new(DEVICE_PROPS.clone());
    Ok(Some(device))
}

fn exists(connection: &Connection) -> Result<bool, SessionError> {
    Ok(connection.prepare_cached("SELECT 1 FROM wa_device WHERE id = ?1")?.exists([DEVICE_ID])?)
}

fn put(tx: &Connection, json: &str) -> Result<(), SessionError> {
    let sql = "INSERT INTO wa_device (id, format, writer, body) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET format = excluded.format, writer = excluded.writer, body = excluded.body";
    execute(tx, sql, (DEVICE_ID, FORMAT, writer(), json)).map(drop)
}

fn writer() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn unreadable(format: i64, writer: String, detail: String) -> SessionError {
    SessionError::DeviceUnreadable { format, writer, detail }
}

/// Upper bound of the page cache in bytes, and the number of pages of the database.
fn page_cache(connection: &Connection) -> Result<(u64, u64), SessionError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (size, pages, cache) = (pragma("page_size")?, pragma("page_count")?, pragma("cache_size")?);
    // Positive: pages. Negative: KiB (https://sqlite.org/pragma.html#pragma_cache_size).
    let limit = if cache < 0 { cache.saturating_mul(-1024) } else { cache.saturating_mul(size) };
    let bytes = limit.min(pages.saturating_mul(size));
    Ok((bytes.unsigned_abs(), pages.unsigned_abs()))
}
