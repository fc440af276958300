//! What the bot has made durable beside its database, read by the description of the format alone
//! (`src/ledger/database/redo/`): a second reader, so that a mistake of the first shows.

use std::io::{Cursor, Read as _};

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 4096;
const HEAD: usize = 64;

/// Makes the rows in a copy of the bot's database stand as its redo log says. A database of another program
/// has none.
///
/// # Errors
/// When a record that counts cannot be applied.
pub fn apply(connection: &Connection, log: &[u8]) -> Result<()> {
    let Ok(belongs) = connection.query_row("SELECT id, generation FROM redo_log", [], |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
    }) else {
        return Ok(());
    };
    let mut at = 0;
    connection.execute_batch("BEGIN")?;
    while let Some(content) = record(log, at, &belongs) {
        let mut rows = Cursor::new(content);
        while (rows.position() as usize) < content.len() {
            row(connection, &mut rows).with_context(|| format!("the record at byte {at}"))?;
        }
        at += (HEAD + content.len()).next_multiple_of(BLOCK);
    }
    Ok(connection.execute_batch("COMMIT")?)
}

/// The content of the record at this byte, if it counts.
fn record<'a>(log: &'a [u8], at: usize, (id, generation): &(Vec<u8>, i64)) -> Option<&'a [u8]> {
    let head = log.get(at..at + HEAD)?;
    let begins =
        [b"kjpredo1".as_slice(), id, &generation.to_le_bytes(), &((at / BLOCK) as u32).to_le_bytes()];
    if head[..36] != begins.concat() {
        return None;
    }
    let length = u32::from_le_bytes(head[36..40].try_into().ok()?) as usize;
    let content = log.get(at + HEAD..at + HEAD + length)?;
    let digest = Sha256::new().chain_update(&head[..40]).chain_update(content).finalize();
    (head[40..56] == digest[..16]).then_some(content)
}

fn row(connection: &Connection, from: &mut Cursor<&[u8]>) -> Result<()> {
    let stands = match take::<1>(from)? {
        [0] => false,
        [1] => true,
        [other] => bail!("a row of kind {other}"),
    };
    let table = String::from_utf8(take_bytes(from)?)?;
    let rowid = i64::from_le_bytes(take(from)?);
    if !stands {
        connection.execute(&format!("DELETE FROM {table} WHERE rowid = ?1"), [rowid])?;
        return Ok(());
    }
    let values = u32::from_le_bytes(take(from)?);
    let values = (0..values).map(|_| value(from)).collect::<Result<Vec<_>>>()?;
    // The rowid's own column, where it has one, is not among the values.
    let alias: Option<String> = connection
        .query_row(
            "SELECT name FROM pragma_table_info(?1) WHERE pk = 1 AND type = 'INTEGER'
               AND (SELECT max(pk) FROM pragma_table_info(?1)) = 1",
            [&table],
            |row| row.get(0),
        )
        .optional()?;
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let mut columns: Vec<String> =
        statement.query_map([&table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    columns.retain(|name| Some(name) != alias.as_ref());
    ensure!(
        columns.len() == values.len(),
        "{} values for {} columns of {table}",
        values.len(),
        columns.len()
    );
    columns.insert(0, alias.unwrap_or_else(|| "rowid".into()));
    let marks = vec!["?"; columns.len()].join(", ");
    let put = format!("INSERT OR REPLACE INTO {table} ({}) VALUES ({marks})", columns.join(", "));
    connection.execute(&put, params_from_iter(std::iter::once(Value::Integer(rowid)).chain(values)))?;
    Ok(())
}

fn value(from: &mut Cursor<&[u8]>) -> Result<Value> {
    Ok(match take::<1>(from)? {
        [0] => Value::Null,
        [1] => Value::Integer(i64::from_le_bytes(take(from)?)),
        [2] => Value::Real(f64::from_le_bytes(take(from)?)),
        [3] => Value::Text(String::from_utf8(take_bytes(from)?)?),
        [4] => Value::Blob(take_bytes(from)?),
        [other] => bail!("a value of kind {other}"),
    })
}

fn take<const N: usize>(from: &mut Cursor<&[u8]>) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take_bytes(from: &mut Cursor<&[u8]>) -> Result<Vec<u8>> {
    let length = u32::from_le_bytes(take(from)?) as usize;
    let rest = from.get_ref().len() - from.position() as usize;
    ensure!(length <= rest, "{length} bytes where {rest} are left");
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
