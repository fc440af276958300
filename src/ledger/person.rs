//! Who is who. WhatsApp knows a person by a phone number, by an anonymous id (LID), or by both, and may tell
//! the one long after the other.
//!
//! A person is one row here. What belongs to a person (conversation, registrations) stands under one key: the
//! phone number, or the LID while that is all that is known. Whenever WhatsApp says that two addresses are
//! one person, everything moves under the key that holds from then on, in the transaction that learns it.

use rusqlite::{Connection, OptionalExtension, params};

use super::registration::Sender;
use super::{DAY, LedgerError, PRUNE_ROWS};
use crate::personal::PhoneNumber;

/// People that are known at most, those who wrote last; the others are forgotten when nothing of theirs is
/// left. Jakarta's subsidised food concerns fewer families.
pub const CAPACITY: u32 = 50_000;

/// How long somebody who does not write is known, in seconds: as long as whatsapp-rust's session with them.
pub const KEEP_SECONDS: i64 = 180 * DAY;

struct Row {
    id: i64,
    phone: Option<String>,
    lid: Option<String>,
}

impl Row {
    /// What stands under the row's addresses, stands under this.
    fn key(&self) -> Option<Sender> {
        let phone = self.phone.as_ref().map(|digits| Sender::phone(&PhoneNumber::new(digits.as_str())));
        phone.or_else(|| self.lid.as_deref().map(Sender::lid))
    }
}

/// Whoever wrote at `at` (seconds since 1970 UTC), with everything that is known of them: what `seen` says,
/// and what was learned before. What stood under an address of theirs that is none any more follows.
///
/// WhatsApp's word holds: a number that gets another LID is the same person for us, as is a LID that gets
/// another number.
pub fn recognise(tx: &Connection, seen: &Sender, at: i64) -> Result<Sender, LedgerError> {
    let rows = rows_of(tx, seen)?;
    // The row with the number itself first, then the one with the LID.
    let known = rows.first();
    let phone = seen.number().or_else(|| known.and_then(|row| row.phone.as_deref()));
    let lid = seen.lid_digits().or_else(|| known.and_then(|row| row.lid.as_deref()));
    let person = Sender::of(phone, lid).unwrap_or_else(|| seen.clone());
    let Some(known) = known else {
        tx.prepare_cached("INSERT INTO person (phone, lid, seen_at) VALUES (?1, ?2, ?3)")?
            .execute(params![phone, lid, at])?;
        return Ok(person);
    };
    let changed = rows.len() > 1 || known.phone.as_deref() != phone || known.lid.as_deref() != lid;
    if changed {
        for row in &rows[1..] {
            tx.prepare_cached(
                "UPDATE person SET asked_again_at = max(ifnull(asked_again_at, 0),
                   (SELECT asked_again_at FROM person WHERE id = ?2))
                 WHERE id = ?1 AND (SELECT asked_again_at FROM person WHERE id = ?2) IS NOT NULL",
            )?
            .execute([known.id, row.id])?;
            tx.prepare_cached("DELETE FROM person WHERE id = ?1")?.execute([row.id])?;
        }
        tx.prepare_cached("UPDATE person SET phone = ?2, lid = ?3 WHERE id = ?1")?
            .execute(params![known.id, phone, lid])?;
        for before in rows.iter().filter_map(Row::key).filter(|before| before.expose() != person.expose()) {
            follow(tx, &before, &person)?;
        }
    }
    // Once a day, so that a message costs no further page.
    tx.prepare_cached("UPDATE person SET seen_at = ?2 WHERE id = ?1 AND seen_at <= ?2 - ?3")?
        .execute(params![known.id, at, DAY])?;
    Ok(person)
}

/// WhatsApp says that this number and this LID are one person. Of people who never wrote nothing is kept.
pub fn are_one(tx: &Connection, phone: &str, lid: &str) -> Result<(), LedgerError> {
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = is_number(phone) && is_number(lid);
    let Some(both) = Sender::of(Some(phone), Some(lid)).filter(|_| numbers) else { return Ok(()) };
    if !rows_of(tx, &both)?.is_empty() {
        // Nobody wrote now.
        recognise(tx, &both, 0)?;
    }
    Ok(())
}

/// Notes that this person is asked to send a message of `at` again, unless they were asked for one of the
/// `seconds` before it, or a later one; `true` if they are to be asked. The person must have been
/// [recognised](recognise).
pub fn ask_again(tx: &Connection, person: &Sender, at: i64, seconds: i64) -> Result<bool, LedgerError> {
    let asked = tx
        .prepare_cached(
            "UPDATE person SET asked_again_at = ?3 WHERE (phone = ?1 OR lid = ?2)
               AND ifnull(asked_again_at <= ?3 - ?4, TRUE)",
        )?
        .execute(params![person.number(), person.lid_digits(), at, seconds])?;
    Ok(asked > 0)
}

/// Forgets up to [`PRUNE_ROWS`] people who have not written for [`KEEP_SECONDS`], and as many beyond
/// [`CAPACITY`]; returns how many. Whoever comes back is a person anew.
pub fn prune(tx: &Connection, now: i64) -> Result<usize, LedgerError> {
    let mut forget = tx.prepare_cached(
        "DELETE FROM person WHERE id IN (SELECT id FROM person WHERE seen_at < ?1 ORDER BY seen_at LIMIT ?2)",
    )?;
    let silent = forget.execute(params![now.saturating_sub(KEEP_SECONDS), PRUNE_ROWS])?;
    let people: u32 = tx.prepare_cached("SELECT count(*) FROM person")?.query_row([], |row| row.get(0))?;
    let surplus = people.saturating_sub(CAPACITY).min(PRUNE_ROWS);
    Ok(silent + if surplus > 0 { forget.execute(params![i64::MAX, surplus])? } else { 0 })
}

/// The rows of a person, at most two: the one with the number first.
fn rows_of(tx: &Connection, seen: &Sender) -> Result<Vec<Row>, LedgerError> {
    let mut rows: Vec<Row> = Vec::with_capacity(2);
    for (sql, value) in [
        ("SELECT id, phone, lid FROM person WHERE phone = ?1", seen.number()),
        ("SELECT id, phone, lid FROM person WHERE lid = ?1", seen.lid_digits()),
    ] {
        let found = tx
            .prepare_cached(sql)?
            .query_row([value], |row| Ok(Row { id: row.get(0)?, phone: row.get(1)?, lid: row.get(2)? }))
            .optional()?;
        rows.extend(found.filter(|found| rows.iter().all(|row| row.id != found.id)));
    }
    Ok(rows)
}

/// Moves what stands under one key under another: of two conversations the newer one stays. A name that was
/// registered under both on one day keeps both its rows.
fn follow(tx: &Connection, before: &Sender, now: &Sender) -> Result<(), LedgerError> {
    let keys = [before.expose(), now.expose()];
    tx.prepare_cached(
        "DELETE FROM conversation WHERE chat = ?1 AND updated_at <= (SELECT updated_at FROM conversation WHERE chat = ?2)",
    )?
    .execute(keys)?;
    tx.prepare_cached(
        "DELETE FROM conversation WHERE chat = ?2 AND EXISTS (SELECT 1 FROM conversation WHERE chat = ?1)",
    )?
    .execute(keys)?;
    tx.prepare_cached("UPDATE conversation SET chat = ?2 WHERE chat = ?1")?.execute(keys)?;
    tx.prepare_cached("UPDATE OR IGNORE registration SET sender = ?2 WHERE sender = ?1")?.execute(keys)?;
    tx.prepare_cached(
        "UPDATE registration SET sender = ?2, name_canonical = name_canonical || ' #' || id WHERE sender = ?1",
    )?
    .execute(keys)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Database, conversation};
    use proptest::prelude::*;

    const PHONE: &str = "6280000000001";
    const LID: &str = "100000000000001";
    const NOW: i64 = 1_795_410_000;

    fn by(phone: Option<&str>, lid: Option<&str>) -> Sender {
        Sender::of(phone, lid).unwrap()
    }

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    fn people(tx: &Connection) -> Vec<(Option<String>, Option<String>)> {
        let mut statement = tx.prepare("SELECT phone, lid FROM person ORDER BY id").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// A registration of that sender, card `n`.
    fn registered(tx: &Connection, sender: &str, name: &str, n: u32) {
        tx.execute(
            "INSERT INTO registration (row_key, day, received_at, sender, message_id, message_index, nama,
               name_canonical, no_kjp, no_ktp, no_kk, lokasi)
             VALUES (randomblob(16), '2026-11-23', ?3, ?1, 'M', 0, ?2, ?2, ?4, ?4, '1', 'x')",
            params![sender, name, NOW, n.to_string()],
        )
        .unwrap();
    }

    fn rows_under(tx: &Connection, sender: &str) -> u32 {
        let sql = "SELECT count(*) FROM registration WHERE sender = ?1";
        tx.query_row(sql, [sender], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_stood_under_a_lid_follows_when_its_number_is_learned() {
        in_transaction(|tx| {
            let before = recognise(tx, &by(None, Some(LID)), NOW)?;
            assert_eq!(before.expose(), format!("{LID}@lid"));
            conversation::save(tx, before.expose(), "waits", NOW)?;
            registered(tx, before.expose(), "ani", 1);
            are_one(tx, PHONE, LID)?;
            assert_eq!(people(tx), [(Some(PHONE.into()), Some(LID.into()))]);
            assert_eq!(conversation::load(tx, PHONE)?, Some(("waits".into(), NOW)));
            assert_eq!((rows_under(tx, before.expose()), rows_under(tx, PHONE)), (0, 1));
            // From now on either address will do.
            for seen in [by(None, Some(LID)), by(Some(PHONE), None), by(Some(PHONE), Some(LID))] {
                assert_eq!(recognise(tx, &seen, NOW)?, by(Some(PHONE), Some(LID)));
            }
            Ok(())
        });
    }

    #[test]
    fn two_people_who_are_one_keep_all_rows_and_the_newer_conversation() {
        for (lid_at, kept) in [(NOW - 1, "phone's"), (NOW + 1, "lid's")] {
            in_transaction(|tx| {
                let lid = recognise(tx, &by(None, Some(LID)), NOW)?;
                recognise(tx, &by(Some(PHONE), None), NOW)?;
                conversation::save(tx, lid.expose(), "lid's", lid_at)?;
                conversation::save(tx, PHONE, "phone's", NOW)?;
                registered(tx, PHONE, "ani", 1);
                // The same name, and another one.
                registered(tx, lid.expose(), "ani", 2);
                registered(tx, lid.expose(), "budi", 3);
                recognise(tx, &by(Some(PHONE), Some(LID)), NOW)?;
                assert_eq!(people(tx).len(), 1);
                assert_eq!(conversation::load(tx, PHONE)?.unwrap().0, kept);
                assert_eq!(conversation::load(tx, lid.expose())?, None);
                assert_eq!(rows_under(tx, PHONE), 3);
                Ok(())
            });
        }
    }

    #[test]
    fn people_who_never_wrote_are_not_kept_though_whatsapp_names_them() {
        in_transaction(|tx| {
            are_one(tx, PHONE, LID)?;
            assert_eq!(people(tx), []);
            Ok(())
        });
    }

    #[test]
    fn somebody_is_asked_once_in_so_many_hours_also_by_another_address() {
        in_transaction(|tx| {
            const HOURS: i64 = 6 * 3600;
            let lid = recognise(tx, &by(None, Some(LID)), NOW)?;
            let phone = recognise(tx, &by(Some(PHONE), None), NOW)?;
            assert!(ask_again(tx, &lid, NOW, HOURS)?);
            assert!(!ask_again(tx, &lid, NOW + HOURS - 1, HOURS)?);
            assert!(!ask_again(tx, &lid, NOW - HOURS, HOURS)?, "an earlier message comes later");
            are_one(tx, PHONE, LID)?;
            assert!(!ask_again(tx, &phone, NOW + 1, HOURS)?);
            assert!(ask_again(tx, &phone, NOW + HOURS, HOURS)?);
            Ok(())
        });
    }

    #[test]
    fn people_are_forgotten_by_age_and_beyond_their_number() {
        in_transaction(|tx| {
            tx.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO person (phone, seen_at) SELECT '62' || i, ?2 + i FROM n",
                params![CAPACITY + 3, NOW],
            )?;
            recognise(tx, &by(None, Some(LID)), NOW - KEEP_SECONDS)?;
            assert_eq!(prune(tx, NOW + 1)?, 1 + 3);
            assert_eq!(prune(tx, NOW + 1)?, 0);
            let oldest: i64 = tx.query_row("SELECT min(seen_at) FROM person", [], |row| row.get(0))?;
            assert_eq!(oldest, NOW + 4);
            Ok(())
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever WhatsApp says in whatever order: nobody is known twice, and nothing is left under an address
        /// that is no key any more.
        #[test]
        fn nobody_is_two_and_nothing_is_orphaned(
            words in prop::collection::vec((0_u8..4, prop::option::of(0_u8..4), any::<bool>()), 1..24),
        ) {
            in_transaction(|tx| {
                let mut rows = 0;
                for (a, b, writes) in words {
                    let (a, b) = (format!("62{a}"), b.map(|b| format!("1{b}")));
                    let seen = match (&b, writes) {
                        (Some(lid), true) => by(None, Some(lid)),
                        (lid, _) => by(Some(&a), lid.as_deref()),
                    };
                    let person = recognise(tx, &seen, NOW)?;
                    rows += 1;
                    registered(tx, person.expose(), "ani", 0xFF00 + rows);
                    tx.execute("UPDATE registration SET day = day || id WHERE day = '2026-11-23'", [])?;
                }
                let people = people(tx);
                let keys: Vec<String> =
                    people.iter().map(|(phone, lid)| by(phone.as_deref(), lid.as_deref()).expose().to_owned()).collect();
                let kept: u32 = keys.iter().map(|key| rows_under(tx, key)).sum();
                assert_eq!(kept, rows, "{people:?}");
                Ok(())
            });
        }
    }
}
