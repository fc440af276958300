//! Which rows a batch has changed, and how they stand after it.
//!
//! SQLite names the table and the rowid of each row that a statement inserts, updates or deletes
//! (<https://sqlite.org/c3ref/update_hook.html>). At the end of a batch these rows are read once, whatever was done
//! to them: what is recorded is the row as it is now, or that it is gone. So what was undone on the way does no
//! harm, and a record may be applied twice.
//!
//! SQLite names no rows of tables without a rowid, none that a REPLACE removes to make room for another, not the old
//! rowid of a row that gets a new one, no change of the schema, and, unless it was built with
//! SQLITE_OMIT_TRUNCATE_OPTIMIZATION as ours is, no rows of a table that is emptied as a whole. The tests see to it
//! that nothing of that happens here. Rows without a rowid and emptied tables would show besides, as more rows are
//! changed then than named, and SQLite commits such a batch itself.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, params_from_iter};

use crate::ledger::LedgerError;

/// Rows that one record may hold: beyond that SQLite's own commit is cheaper, and what is remembered of a batch
/// stays below 64 KiB.
const MOST_ROWS: usize = 4096;

/// How a row begins in a record.
const GONE: u8 = 0;
const STANDS: u8 = 1;

/// A table, by its place in [`Images`], and a rowid.
type RowId = (u16, i64);

/// What SQLite has named since the batch began.
#[derive(Default)]
struct Named {
    rows: Vec<RowId>,
    /// How often it named one.
    calls: u64,
    /// Whether something was named that no record can hold.
    beyond: bool,
}

/// The rows that the open batch has changed.
pub(super) struct Changes {
    named: Arc<Mutex<Named>>,
    /// SQLite's count of changed rows when the batch began.
    counted: u64,
}

impl Changes {
    /// Listens to the connection for as long as it is open.
    pub fn watch(connection: &mut Connection, images: &Images) -> rusqlite::Result<Self> {
        let named = Arc::new(Mutex::new(Named::default()));
        let (listener, places) = (named.clone(), images.places());
        connection.update_hook(Some(move |_, schema: &str, table: &str, rowid| {
            let mut named = listener.lock().unwrap_or_else(PoisonError::into_inner);
            named.calls += 1;
            match places.get(table) {
                Some(&place) if schema == "main" && named.rows.len() < MOST_ROWS => {
                    // The same row is often changed several times in a row.
                    if named.rows.last() != Some(&(place, rowid)) {
                        named.rows.push((place, rowid));
                    }
                }
                _ => named.beyond = true,
            }
        }))?;
        Ok(Self { named, counted: connection.total_changes() })
    }

    pub fn begin(&mut self, connection: &Connection) {
        self.counted = connection.total_changes();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.rows.clear();
        named.calls = 0;
        named.beyond = false;
    }

    /// The rows that changed since [`begin`](Self::begin), each once; `None` if SQLite did not name them all.
    pub fn take(&mut self, connection: &Connection) -> Option<Vec<RowId>> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = connection.total_changes() - self.counted;
        if named.beyond || changed > named.calls {
            return None;
        }
        let mut rows = std::mem::take(&mut named.rows);
        rows.sort_unstable();
        rows.dedup();
        Some(rows)
    }

    /// Gives the memory of a list back for the next batch.
    pub fn give_back(&mut self, mut rows: Vec<RowId>) {
        rows.clear();
        self.named.lock().unwrap_or_else(PoisonError::into_inner).rows = rows;
    }
}

/// A table whose rows can be recorded.
struct Table {
    name: String,
    columns: usize,
    /// Reads a row by its rowid.
    select: String,
    /// Puts a row, whatever stood there before. The first parameter is the rowid.
    put: String,
    delete: String,
}

/// The tables of a database, as its schema stands.
pub(super) struct Images {
    tables: Vec<Table>,
}

impl Images {
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let names = "SELECT name FROM pragma_table_list
             WHERE schema = 'main' AND type = 'table' AND wr = 0 AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
             ORDER BY name";
        let mut statement = connection.prepare(names)?;
        let names = statement.query_map([], |row| row.get::<_, String>(0))?;
        let tables = names.map(|name| Table::of(connection, name?)).collect::<Result<_, _>>()?;
        Ok(Self { tables })
    }

    fn places(&self) -> HashMap<String, u16> {
        // Some forty tables.
        self.tables.iter().enumerate().map(|(place, table)| (table.name.clone(), place as u16)).collect()
    }

    /// Writes how `rows` stand now, to the end of `record`; `false` if that takes more than `room` bytes.
    pub fn write(
        &self,
        connection: &Connection,
        rows: &[RowId],
        room: usize,
        record: &mut Vec<u8>,
    ) -> rusqlite::Result<bool> {
        for same in rows.chunk_by(|one, other| one.0 == other.0) {
            let table = &self.tables[usize::from(same[0].0)];
            let mut select = connection.prepare_cached(&table.select)?;
            for &(_, rowid) in same {
                let mut found = select.query([rowid])?;
                let row = found.next()?;
                record.push(if row.is_some() { STANDS } else { GONE });
                put_bytes(record, table.name.as_bytes());
                record.extend_from_slice(&rowid.to_le_bytes());
                if let Some(row) = row {
                    record.extend_from_slice(&(table.columns as u32).to_le_bytes());
                    for column in 0..table.columns {
                        put_value(record, row.get_ref(column)?);
                    }
                }
                if record.len() > room {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes the rows of a record stand as they stood when it was written.
    pub fn apply(&self, connection: &Connection, record: &[u8]) -> Result<(), LedgerError> {
        let bad = || LedgerError::Unreadable {
            column: "the redo log",
            detail: "a record with a right checksum does not fit this schema".into(),
        };
        let mut rest = record;
        while !rest.is_empty() {
            let row = Row::read(&mut rest).ok_or_else(bad)?;
            let table =
                self.tables.iter().find(|table| table.name.as_bytes() == row.table).ok_or_else(bad)?;
            match row.values {
                None => connection.prepare_cached(&table.delete)?.execute([row.rowid])?,
                Some(values) if values.len() == table.columns => {
                    let rowid = ValueRef::Integer(row.rowid);
                    let parameters = std::iter::once(rowid).chain(values).map(ToSql);
                    connection.prepare_cached(&table.put)?.execute(params_from_iter(parameters))?
                }
                Some(_) => return Err(bad()),
            };
        }
        Ok(())
    }
}

impl Table {
    fn of(connection: &Connection, name: String) -> rusqlite::Result<Self> {
        let mut statement =
            connection.prepare("SELECT name, type, pk FROM pragma_table_info(?1) ORDER BY cid")?;
        let columns: Vec<(String, String, i64)> = statement
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let keys = columns.iter().filter(|column| column.2 > 0).count();
        // A single INTEGER PRIMARY KEY is the rowid itself (sqlite.org/lang_createtable.html#rowid).
        let alias = columns.iter().find(|column| column.2 > 0 && keys == 1 && column.1 == "INTEGER");
        let alias = alias.map(|column| column.0.clone());
        let others: Vec<&str> = columns
            .iter()
            .map(|column| column.0.as_str())
            .filter(|name| Some(*name) != alias.as_deref())
            .collect();
        let rowid = alias.as_deref().unwrap_or("rowid");
        let (mut list, mut marks) = (String::new(), String::new());
        for (n, column) in others.iter().enumerate() {
            let _ = write!(list, "{}\"{column}\"", if n == 0 { "" } else { ", " });
            let _ = write!(marks, ", ?{}", n + 2);
        }
        let comma = if others.is_empty() { "" } else { ", " };
        let selected = if others.is_empty() { "1" } else { &list };
        Ok(Self {
            select: format!("SELECT {selected} FROM \"{name}\" WHERE {rowid} = ?1"),
            // All that stands in its way has changed in the same batch, and has its own image.
            put: format!("INSERT OR REPLACE INTO \"{name}\" ({rowid}{comma}{list}) VALUES (?1{marks})"),
            delete: format!("DELETE FROM \"{name}\" WHERE {rowid} = ?1"),
            columns: others.len(),
            name,
        })
    }
}

/// A row of a record.
struct Row<'a> {
    table: &'a [u8],
    rowid: i64,
    values: Option<Vec<ValueRef<'a>>>,
}

impl<'a> Row<'a> {
    /// Takes the next row off `rest`; `None` if there is none that is whole.
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let kind = *rest.split_off_first()?;
        let table = take_bytes(rest)?;
        let rowid = i64::from_le_bytes(take_array(rest)?);
        let values = match kind {
            GONE => None,
            STANDS => {
                let columns = u32::from_le_bytes(take_array(rest)?);
                Some((0..columns).map(|_| take_value(rest)).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Self { table, rowid, values })
    }
}

struct ToSql<'a>(ValueRef<'a>);

impl rusqlite::ToSql for ToSql<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

fn put_bytes(record: &mut Vec<u8>, bytes: &[u8]) {
    // Far below 4 GiB: SQLite's own bound for a value is 1 GB.
    record.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    record.extend_from_slice(bytes);
}

fn put_value(record: &mut Vec<u8>, value: ValueRef<'_>) {
    record.push(kind(value.data_type()));
    match value {
        ValueRef::Null => {}
        ValueRef::Integer(number) => record.extend_from_slice(&number.to_le_bytes()),
        ValueRef::Real(number) => record.extend_from_slice(&number.to_le_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => put_bytes(record, bytes),
    }
}

const fn kind(of: Type) -> u8 {
    match of {
        Type::Null => 0,
        Type::Integer => 1,
        Type::Real => 2,
        Type::Text => 3,
        Type::Blob => 4,
    }
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Option<ValueRef<'a>> {
    Some(match *rest.split_off_first()? {
        0 => ValueRef::Null,
        1 => ValueRef::Integer(i64::from_le_bytes(take_array(rest)?)),
        2 => ValueRef::Real(f64::from_le_bytes(take_array(rest)?)),
        3 => ValueRef::Text(take_bytes(rest)?),
        4 => ValueRef::Blob(take_bytes(rest)?),
        _ => return None,
    })
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take_array(rest)?) as usize;
    rest.split_off(..length)
}
