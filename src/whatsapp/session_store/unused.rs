//! What nobody has used for long: of each person and each sender in a group it is written down on which
//! day something of theirs was stored last.

use rusqlite::{Connection, params_from_iter};

use super::{
    DAY, FORGET_AT_ONCE, GROUP_DEVICES, GROUPS, LID_MAPPINGS, SessionError, UNUSED_DAYS, USERS, execute, list,
};

/// Whose rows they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner<'a> {
    /// A person, by a Signal address ("user@server", "user:device@server") or the bare user.
    User(&'a str),
    /// A sender in a group, by the address of its key.
    SenderKey(&'a str),
}

/// Writes down that something of `owner` was stored at `now` (Unix seconds): once a day, so that a
/// message costs nothing more.
pub(super) fn used(tx: &Connection, owner: Owner<'_>, now: i64) -> Result<(), SessionError> {
    let (kind, name) = match owner {
        Owner::User(address) => ("user", address.split([':', '@']).next().unwrap_or(address)),
        Owner::SenderKey(address) => ("sender_key", address),
    };
    let sql = "INSERT INTO wa_use (kind, name, day) VALUES (?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET day = excluded.day WHERE excluded.day > day";
    execute(tx, sql, (kind, name, now.div_euclid(DAY))).map(drop)
}

/// Forgets up to [`FORGET_AT_ONCE`] people and group senders whom nobody has used for [`UNUSED_DAYS`] or who are
/// beyond [`USERS`], as many LID mappings that belong to nobody or are beyond [`LID_MAPPINGS`], and what is too
/// much of groups; returns how many rows.
pub(super) fn forget(tx: &Connection, now: i64) -> Result<usize, SessionError> {
    let oldest = now.div_euclid(DAY) - UNUSED_DAYS;
    let count = |sql: &str| -> Result<i64, SessionError> {
        Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    };
    let surplus = (count("SELECT count(*) FROM wa_use")? - USERS).clamp(0, i64::from(FORGET_AT_ONCE));
    let unused: Vec<(String, String)> = list(
        tx,
        "SELECT kind, name FROM (SELECT kind, name, day FROM wa_use ORDER BY day LIMIT ?2)
         WHERE day < ?1
         UNION SELECT kind, name FROM (SELECT kind, name FROM wa_use ORDER BY day LIMIT ?3)",
        (oldest, FORGET_AT_ONCE, surplus),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut rows = 0;
    for (kind, name) in &unused {
        if kind == "user" {
            // ';' and 'A' follow ':' and '@', so each pair spans one prefix of the primary key.
            let bounds = [format!("{name}:"), format!("{name};"), format!("{name}@"), format!("{name}A")];
            for table in ["wa_session", "wa_identity", "wa_base_key"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE address >= ?1 AND address < ?2 OR address >= ?3 AND address < ?4"
                );
                rows += tx.prepare_cached(&sql)?.execute(params_from_iter(&bounds))?;
            }
            rows += execute(tx, "DELETE FROM wa_device_list WHERE user = ?1", [name])?;
        } else {
            rows += execute(tx, "DELETE FROM wa_sender_key WHERE address = ?1", [name])?;
        }
        rows += execute(tx, "DELETE FROM wa_use WHERE kind = ?1 AND name = ?2", [kind, name])?;
    }
    // A mapping may be older than the last message: it is written only when it is learned.
    rows += execute(
        tx,
        "DELETE FROM wa_lid_mapping WHERE put_no IN
         (SELECT put_no FROM wa_lid_mapping AS known WHERE updated_at < ?1 AND NOT EXISTS
            (SELECT 1 FROM wa_use WHERE kind = 'user' AND name IN (known.lid, known.phone_number))
          ORDER BY put_no LIMIT ?2)",
        (oldest * DAY, FORGET_AT_ONCE),
    )?;
    let surplus =
        (count("SELECT count(*) FROM wa_lid_mapping")? - LID_MAPPINGS).clamp(0, i64::from(FORGET_AT_ONCE));
    if surplus > 0 {
        let sql = "DELETE FROM wa_lid_mapping WHERE put_no IN (SELECT put_no FROM wa_lid_mapping ORDER BY put_no LIMIT ?1)";
        rows += execute(tx, sql, [surplus])?;
    }
    for (table, key, most) in [
        ("wa_group_metadata", "group_jid", GROUPS),
        ("wa_sender_key_device", "(group_jid, device_jid)", GROUP_DEVICES),
    ] {
        let columns = key.trim_matches(['(', ')']);
        let sql =
            format!("DELETE FROM {table} WHERE {key} IN (SELECT {columns} FROM {table} LIMIT -1 OFFSET ?1)");
        rows += execute(tx, &sql, [most])?;
    }
    Ok(rows)
}
