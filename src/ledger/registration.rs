//! Registered people. At most one per day and card, per day and NIK, and per day, sender and
//! name (`registration/RULES.md` 7.3): SQLite's constraints decide, so no race between check and insert exists.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, params_from_iter};
use sha2::{Digest, Sha256};

use super::sync_queue::SyncState;
use super::{DAY, LedgerError, PRUNE_ROWS};
use crate::personal::{CardNumber, Kk, Nik, PhoneNumber, mask};
use crate::registration::{Clash, ClashField, Outcome, Person, Place};

/// How long a row is kept after Supabase has given its verdict, in days, if nobody says otherwise.
/// Supabase is the archive; the box needs today for its rules and some weeks for questions. A row
/// without a verdict is kept for ever: nobody else has it.
pub const KEEP_DELIVERED_DAYS: u32 = 35;

/// Most rows of one sender and day that [`of_day`] returns. Quotas are far lower.
pub const MAX_OF_DAY: u32 = 1_000;

/// Who sent a message, by what WhatsApp says of them: a phone number, an anonymous id (LID), or both. What
/// belongs to them stands under the canonical phone number if it is known, else under `<digits>@lid`
/// ([`person`](super::person)). The digits of a LID are no phone number and are never read as one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sender {
    key: String,
    phone: Option<String>,
    lid: Option<String>,
}

impl Sender {
    pub fn phone(number: &PhoneNumber) -> Self {
        let digits = number.expose().to_owned();
        Self { key: digits.clone(), phone: Some(digits), lid: None }
    }

    /// `digits` is the user part of a `…@lid` address.
    pub fn lid(digits: &str) -> Self {
        Self { key: format!("{digits}@lid"), phone: None, lid: Some(digits.to_owned()) }
    }

    /// By the digits of both; `None` if nothing is known.
    pub fn of(phone: Option<&str>, lid: Option<&str>) -> Option<Self> {
        let lid_digits = lid.map(str::to_owned);
        match phone {
            Some(phone) => Some(Self { lid: lid_digits, ..Self::phone(&PhoneNumber::new(phone)) }),
            None => lid.map(Self::lid),
        }
    }

    /// The phone number, if it is known. Never pass it to a log, a metric, an error or an alert.
    pub fn number(&self) -> Option<&str> {
        self.phone.as_deref()
    }

    /// The digits of the LID, if it is known.
    pub fn lid_digits(&self) -> Option<&str> {
        self.lid.as_deref()
    }

    /// The whole key. Never pass it to a log, a metric, an error or an alert.
    pub fn expose(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.strip_suffix("@lid") {
            Some(digits) => write!(f, "Sender({}@lid)", mask(digits)),
            None => write!(f, "Sender({})", mask(&self.key)),
        }
    }
}

/// Identity of a row in every database: a UUID made from where the row comes from, so that the
/// same person of the same message is the same row however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey([u8; 16]);

impl RowKey {
    /// A UUID of version 8 (RFC 9562 §5.8) from the SHA-256 of its origin. `from` is the address
    /// that the message itself names, not [`Sender`]: what is known about that one may grow between
    /// two deliveries of one message. `index` counts the people of the message.
    pub fn derive(chat: &str, from: &str, message_id: &str, index: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"bot-kjp registration row");
        for part in [chat, from, message_id] {
            // The length keeps ("ab", "c") apart from ("a", "bc").
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.update(index.to_be_bytes());
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    pub(super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// As RFC 9562 §4 writes a UUID.
impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID")]
pub struct NotAUuid;

impl FromStr for RowKey {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        let text = text.as_bytes();
        if text.len() != 36 || [8, 13, 18, 23].iter().any(|&place| text[place] != b'-') {
            return Err(NotAUuid);
        }
        let mut digits = text.iter().filter(|&&c| c != b'-').map(|&c| char::from(c).to_digit(16));
        let mut bytes = [0_u8; 16];
        for byte in &mut bytes {
            let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
                return Err(NotAUuid);
            };
            *byte = u8::try_from(high << 4 | low).map_err(|_| NotAUuid)?;
        }
        if digits.next().is_some() {
            return Err(NotAUuid);
        }
        Ok(Self(bytes))
    }
}

/// A person to register, and where it comes from.
#[derive(Clone, Copy)]
pub struct NewRegistration<'a> {
    pub chat: &'a str,
    /// Address that the message came from.
    pub from: &'a str,
    /// Who that is.
    pub sender: &'a Sender,
    /// The sender's name on WhatsApp, if it is known.
    pub sender_name: Option<&'a str>,
    pub message_id: &'a str,
    /// Place of the person in the message, from 0.
    pub index: u32,
    /// Registration day (`registration/RULES.md` 7.1).
    pub day: Date,
    /// Time of the WhatsApp message in seconds since 1970 UTC.
    pub received_at: i64,
    pub place: &'a Place,
    pub person: &'a Person,
}

/// A registration as a sender may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub row_key: RowKey,
    pub nama: String,
    pub kjp: CardNumber,
    /// As stored in `jenis_kartu`; `None` at Pasarjaya.
    pub jenis_kartu: Option<String>,
    pub ktp: Nik,
    pub kk: Kk,
    pub tanggal_lahir: Option<Date>,
    pub lokasi: String,
    pub sync: SyncState,
}

/// Registers a person, or says which earlier registration of the day stands against it: the same
/// card first, then the same NIK, then the same name of the same sender.
///
/// The same row again (same [`RowKey`]) is [`Outcome::Stored`] and changes nothing.
pub fn insert(tx: &Connection, new: &NewRegistration<'_>) -> Result<Outcome, LedgerError> {
    let row_key = RowKey::derive(new.chat, new.from, new.message_id, new.index);
    let person = new.person;
    let (jenis_kartu, sumber) =
        person.jenis_kartu.map(|(card, source)| (card.stored(), source.stored())).unzip();
    let inserted = tx
        .prepare_cached(
            "INSERT INTO registration (row_key, day, received_at, sender, sender_name, message_id,
               message_index, nama, name_canonical, no_kjp, jenis_kartu, jenis_kartu_sumber, no_ktp,
               no_kk, tanggal_lahir, lokasi)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            row_key.bytes(),
            new.day.to_string(),
            new.received_at,
            new.sender.expose(),
            new.sender_name,
            new.message_id,
            new.index,
            person.nama,
            person.name_canonical,
            person.kjp.expose(),
            jenis_kartu,
            sumber,
            person.ktp.expose(),
            person.kk.expose(),
            person.tanggal_lahir.map(|date| date.to_string()),
            new.place.lokasi(),
        ]);
    match inserted {
        Ok(_) => Ok(Outcome::Stored),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            match earlier(tx, new, row_key)? {
                Some(outcome) => Ok(outcome),
                // Another constraint than those of uniqueness.
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The registration that made an insert fail.
fn earlier(
    tx: &Connection,
    new: &NewRegistration<'_>,
    row_key: RowKey,
) -> Result<Option<Outcome>, LedgerError> {
    let known: bool = tx
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM registration WHERE row_key = ?1)")?
        .query_row(params![row_key.bytes()], |row| row.get(0))?;
    if known {
        return Ok(Some(Outcome::Stored));
    }
    let day = new.day.to_string();
    let sender = new.sender.expose();
    let rules: [(ClashField, &str, &[&str]); 3] = [
        (
            ClashField::Kjp,
            "SELECT sender, nama FROM registration WHERE day = ?1 AND no_kjp = ?2",
            &[&day, new.person.kjp.expose()],
        ),
        (
            ClashField::Ktp,
            "SELECT sender, nama FROM registration WHERE day = ?1 AND no_ktp = ?2",
            &[&day, new.person.ktp.expose()],
        ),
        (
            ClashField::Nama,
            "SELECT sender, nama FROM registration WHERE day = ?1 AND sender = ?2 AND name_canonical = ?3",
            &[&day, sender, &new.person.name_canonical],
        ),
    ];
    for (field, query, values) in rules {
        let found: Option<(String, String)> = tx
            .prepare_cached(query)?
            .query_row(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((earlier_sender, nama)) = found {
            let own = earlier_sender == sender;
            let earlier_nama = if own { nama } else { String::new() };
            return Ok(Some(Outcome::Duplicate(Clash { field, own, earlier_nama })));
        }
    }
    Ok(None)
}

/// The sender's registrations of a day in the order in which they came, at most [`MAX_OF_DAY`].
pub fn of_day(conn: &Connection, sender: &Sender, day: Date) -> Result<Vec<Registered>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "SELECT row_key, nama, no_kjp, jenis_kartu, no_ktp, no_kk, tanggal_lahir, lokasi, sync_state,
           sync_detail
         FROM registration WHERE day = ?1 AND sender = ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![day.to_string(), sender.expose(), MAX_OF_DAY])?;
    let mut registered = Vec::new();
    while let Some(row) = rows.next()? {
        registered.push(Registered {
            row_key: row_key_of(row, 0)?,
            nama: row.get(1)?,
            kjp: CardNumber::new(row.get::<_, String>(2)?),
            jenis_kartu: row.get(3)?,
            ktp: Nik::new(row.get::<_, String>(4)?),
            kk: Kk::new(row.get::<_, String>(5)?),
            tanggal_lahir: date_of(row, 6)?,
            lokasi: row.get(7)?,
            sync: SyncState::read(row, 8, 9)?,
        });
    }
    Ok(registered)
}

fn date_of(row: &Row<'_>, column: usize) -> Result<Option<Date>, LedgerError> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse()).transpose().map_err(|_| LedgerError::Unreadable {
        column: "registration.tanggal_lahir",
        detail: "not a date".into(),
    })
}

pub(super) fn row_key_of(row: &Row<'_>, column: usize) -> Result<RowKey, LedgerError> {
    Ok(RowKey::from_bytes(row.get(column)?))
}

/// Forgets up to [`PRUNE_ROWS`] rows whose day was more than `keep_days` ago and for which Supabase has
/// given its verdict; returns how many. Rows that it has not seen, or refuses, stay.
pub fn prune(tx: &Connection, now: i64, keep_days: u32) -> Result<usize, LedgerError> {
    let before = crate::registration::day::of(now.saturating_sub(i64::from(keep_days) * DAY)).to_string();
    Ok(tx
        .prepare_cached(
            "DELETE FROM registration WHERE id IN
             (SELECT id FROM (SELECT id, day FROM registration
                              WHERE sync_state IN ('confirmed', 'duplicate') ORDER BY id LIMIT ?2)
              WHERE day < ?1)",
        )?
        .execute(params![before, PRUNE_ROWS])?)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;
    use crate::ledger::Database;
    use crate::ledger::sync_queue::{self, RowVerdict};
    use crate::registration::{CardType, CardTypeSource, Provider};
    use jiff::civil::date;
    use proptest::prelude::*;

    const TODAY: Date = date(2026, 11, 23);

    fn phone(n: u8) -> Sender {
        Sender::phone(&PhoneNumber::new(format!("62800000000{n:02}")))
    }

    fn person(nama: &str, card: u8, nik: u8) -> Person {
        Person {
            nama: nama.to_owned(),
            name_canonical: nama.to_lowercase(),
            kjp: CardNumber::new(format!("50494885000000{card:02}")),
            jenis_kartu: Some((CardType::Kjp, CardTypeSource::Prefix)),
            ktp: Nik::new(format!("31710101019000{nik:02}")),
            kk: Kk::new("3171010101100000"),
            tanggal_lahir: None,
        }
    }

    fn place() -> Place {
        Place { provider: Provider::DharmaJaya, sub: Some("Kosambi".into()) }
    }

    /// Registers one person of its own message.
    fn register(
        tx: &Connection,
        sender: &Sender,
        id: &str,
        person: &Person,
        day: Date,
    ) -> Result<Outcome, LedgerError> {
        let place = place();
        insert(
            tx,
            &NewRegistration {
                chat: sender.expose(),
                from: sender.expose(),
                sender,
                sender_name: Some("Ani"),
                message_id: id,
                index: 0,
                day,
                received_at: 1_795_400_000,
                place: &place,
                person,
            },
        )
    }

    fn in_transaction(test: impl FnOnce(&Connection) -> Result<(), LedgerError>) {
        Database::in_memory().unwrap().write_now(test).unwrap();
    }

    fn clash(field: ClashField, own: bool, earlier_nama: &str) -> Outcome {
        Outcome::Duplicate(Clash { field, own, earlier_nama: earlier_nama.into() })
    }

    #[test]
    fn clashes_are_told_card_first_then_nik_then_name() {
        in_transaction(|tx| {
            let (ani, budi) = (phone(1), phone(2));
            let put = |sender, id, person: &Person| register(tx, sender, id, person, TODAY);
            assert_eq!(put(&ani, "1", &person("Ani", 1, 1))?, Outcome::Stored);
            assert_eq!(put(&ani, "2", &person("Ani", 1, 1))?, clash(ClashField::Kjp, true, "Ani"));
            assert_eq!(put(&ani, "3", &person("Ani", 2, 1))?, clash(ClashField::Ktp, true, "Ani"));
            assert_eq!(put(&ani, "4", &person("Ani", 2, 2))?, clash(ClashField::Nama, true, "Ani"));
            // The name is a rule of the sender only.
            assert_eq!(put(&budi, "5", &person("Ani", 2, 2))?, Outcome::Stored);
            // Card of one, NIK of another: the card is told.
            assert_eq!(put(&ani, "6", &person("Cici", 2, 1))?, clash(ClashField::Kjp, false, ""));
            Ok(())
        });
    }

    #[test]
    fn which_rule_is_told_does_not_hang_on_the_age_of_an_index() {
        // SQLite names the newest of those that are broken.
        for newest in ["day, no_kjp", "day, no_ktp", "day, sender, name_canonical"] {
            in_transaction(|tx| {
                tx.execute_batch(&format!("CREATE UNIQUE INDEX newest ON registration ({newest})"))?;
                let ani = phone(1);
                let put = |id, person: &Person| register(tx, &ani, id, person, TODAY);
                assert_eq!(put("1", &person("Ani", 1, 1))?, Outcome::Stored);
                assert_eq!(put("2", &person("Ani", 1, 1))?, clash(ClashField::Kjp, true, "Ani"), "{newest}");
                assert_eq!(put("3", &person("Ani", 2, 1))?, clash(ClashField::Ktp, true, "Ani"), "{newest}");
                assert_eq!(put("4", &person("Ani", 2, 2))?, clash(ClashField::Nama, true, "Ani"), "{newest}");
                Ok(())
            });
        }
    }

    #[test]
    fn the_name_of_a_strangers_registration_is_never_told() {
        in_transaction(|tx| {
            register(tx, &phone(1), "1", &person("Ani", 1, 1), TODAY)?;
            for (card, nik, field) in [(1, 2, ClashField::Kjp), (2, 1, ClashField::Ktp)] {
                let outcome = register(tx, &phone(2), "2", &person("Budi", card, nik), TODAY)?;
                assert_eq!(outcome, clash(field, false, ""));
            }
            Ok(())
        });
    }

    #[test]
    fn the_same_person_may_register_again_the_next_day() {
        in_transaction(|tx| {
            register(tx, &phone(1), "1", &person("Ani", 1, 1), TODAY)?;
            let tomorrow = TODAY.tomorrow().unwrap();
            assert_eq!(register(tx, &phone(1), "2", &person("Ani", 1, 1), tomorrow)?, Outcome::Stored);
            Ok(())
        });
    }

    #[test]
    fn a_row_that_is_inserted_again_is_no_duplicate_of_itself() {
        in_transaction(|tx| {
            for _ in 0..2 {
                assert_eq!(register(tx, &phone(1), "1", &person("Ani", 1, 1), TODAY)?, Outcome::Stored);
            }
            assert_eq!(of_day(tx, &phone(1), TODAY)?.len(), 1);
            Ok(())
        });
    }

    #[test]
    fn a_sender_sees_its_own_rows_of_the_day_in_order_of_arrival() {
        in_transaction(|tx| {
            let ani = phone(1);
            register(tx, &ani, "1", &person("Zaki", 1, 1), TODAY)?;
            register(tx, &phone(2), "2", &person("Budi", 2, 2), TODAY)?;
            register(tx, &ani, "3", &person("Ani", 3, 3), TODAY)?;
            register(tx, &ani, "4", &person("Ani", 4, 4), TODAY.tomorrow().unwrap())?;
            let rows = of_day(tx, &ani, TODAY)?;
            let names: Vec<_> = rows.iter().map(|row| row.nama.as_str()).collect();
            assert_eq!(names, ["Zaki", "Ani"]);
            assert_eq!(rows[0].kjp, person("", 1, 1).kjp);
            assert_eq!(rows[0].jenis_kartu.as_deref(), Some("KJP"));
            assert_eq!(rows[0].lokasi, "DHARMAJAYA - Kosambi");
            assert_eq!(rows[0].sync, SyncState::Pending);
            Ok(())
        });
    }

    #[test]
    fn a_row_key_is_a_stable_uuid_of_its_origin() {
        let key = RowKey::derive("chat", "6280000000001", "id", 0);
        // Fixed: keys of stored rows must never change with a new version of the bot.
        assert_eq!(key.to_string(), "bc550b4b-970f-888f-88ec-8906c9745f8b");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_ne!(key, RowKey::derive("chat", "6280000000001", "id", 1));
        assert_ne!(key, RowKey::derive("chatx", "6280000000001", "id", 0));
        assert_ne!(RowKey::derive("ab", "1", "c", 0), RowKey::derive("a", "b1", "c", 0));
    }

    #[test]
    fn a_lid_is_never_taken_for_a_phone_number_and_never_printed_whole() {
        let lid = Sender::lid("6280000000001");
        assert_ne!(lid, Sender::phone(&PhoneNumber::new("6280000000001")));
        assert_eq!(format!("{lid:?}"), "Sender(*********0001@lid)");
        assert_eq!(format!("{:?}", phone(1)), "Sender(*********0001)");
    }

    #[test]
    fn pruning_keeps_undelivered_rows_for_ever_and_is_not_held_up_by_them() {
        in_transaction(|tx| {
            let ani = phone(1);
            for n in 0..4 {
                register(tx, &ani, &n.to_string(), &person(&format!("Ani {n}"), n, n), TODAY)?;
            }
            let [_, parked, stored, duplicate] = &of_day(tx, &ani, TODAY)?[..] else { panic!("four rows") };
            let refused = RowVerdict::Rejected { code: "23514".into(), message: "refused".into() };
            let verdicts = [
                (parked.row_key, refused),
                (stored.row_key, RowVerdict::Stored),
                (duplicate.row_key, RowVerdict::Duplicate(ClashField::Kjp)),
            ];
            sync_queue::record(tx, &verdicts, 0)?;
            let noon = 1_795_410_000; // 2026-11-23, 12:00 WIB
            let after = |days: u32| noon + i64::from(days) * DAY;
            assert_eq!(prune(tx, after(9), 9)?, 0);
            assert_eq!(prune(tx, after(10), 9)?, 2);
            assert_eq!(prune(tx, after(100_000), 9)?, 0);
            let names: Vec<_> = of_day(tx, &ani, TODAY)?.into_iter().map(|row| row.nama).collect();
            assert_eq!(names, ["Ani 0", "Ani 1"]);

            // The rows that must stay are not even looked at.
            let plan: String = tx.query_row(
                "EXPLAIN QUERY PLAN SELECT id, day FROM registration
                 WHERE sync_state IN ('confirmed', 'duplicate') ORDER BY id LIMIT 200",
                [],
                |row| row.get(3),
            )?;
            assert!(plan.contains("registration_delivered"), "{plan}");
            Ok(())
        });
    }

    /// One attempt of the race: who sends which of few cards, NIKs and names.
    #[derive(Debug, Clone)]
    struct Attempt {
        sender: u8,
        nama: u8,
        card: u8,
        nik: u8,
        day: u8,
        /// Turns that the sender gives to others before it writes.
        pause: u8,
    }

    fn attempt() -> impl Strategy<Value = Attempt> {
        (0..3_u8, 0..4_u8, 0..6_u8, 0..6_u8, 0..2_u8, 0..4_u8)
            .prop_map(|(sender, nama, card, nik, day, pause)| Attempt { sender, nama, card, nik, day, pause })
    }

    /// The rule 7.3 of `registration/RULES.md` in its plainest form, over a list.
    fn model(kept: &[Attempt], new: &Attempt) -> Outcome {
        let same_day = || kept.iter().filter(|old| old.day == new.day);
        let found = same_day()
            .find(|old| old.card == new.card)
            .map(|old| (ClashField::Kjp, old))
            .or_else(|| same_day().find(|old| old.nik == new.nik).map(|old| (ClashField::Ktp, old)))
            .or_else(|| {
                same_day()
                    .find(|old| old.sender == new.sender && old.nama == new.nama)
                    .map(|old| (ClashField::Nama, old))
            });
        match found {
            None => Outcome::Stored,
            Some((field, old)) => {
                let own = old.sender == new.sender;
                clash(field, own, &if own { format!("Nama {}", old.nama) } else { String::new() })
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// Senders race over one database, some of their transactions failing at the end.
        #[test]
        fn racing_senders_leave_one_row_per_card_nik_and_own_name(
            attempts in prop::collection::vec((attempt(), prop::bool::weighted(0.15)), 1..40)
        ) {
            let ledger = Database::in_memory().unwrap();
            // In the order in which the ledger took them.
            let history: RefCell<Vec<(Attempt, Outcome, bool)>> = RefCell::default();
            let executor = smol::LocalExecutor::new();
            smol::block_on(executor.run(async {
                let mut by_sender: BTreeMap<u8, Vec<(usize, Attempt, bool)>> = BTreeMap::new();
                for (n, (attempt, fails)) in attempts.into_iter().enumerate() {
                    by_sender.entry(attempt.sender).or_default().push((n, attempt, fails));
                }
                let (ledger, history) = (&ledger, &history);
                let senders: Vec<_> = by_sender.into_values().map(|attempts| executor.spawn(async move {
                    for (n, attempt, fails) in attempts {
                        for _ in 0..attempt.pause {
                            smol::future::yield_now().await;
                        }
                        let day = TODAY.saturating_add(jiff::Span::new().days(i64::from(attempt.day)));
                        let person = person(&format!("Nama {}", attempt.nama), attempt.card, attempt.nik);
                        let written = ledger.write(|tx| {
                            let outcome =
                                register(tx, &phone(attempt.sender), &n.to_string(), &person, day)?;
                            history.borrow_mut().push((attempt.clone(), outcome, fails));
                            if fails {
                                return Err(LedgerError::Full { table: "test", limit: 0 });
                            }
                            Ok(())
                        }).await;
                        assert_eq!(written.is_err(), fails);
                    }
                })).collect();
                for sender in senders {
                    sender.await;
                }
            }));
            drop(executor);
            let mut kept = Vec::new();
            for (attempt, outcome, undone) in history.into_inner() {
                prop_assert_eq!(&outcome, &model(&kept, &attempt));
                if outcome == Outcome::Stored && !undone {
                    kept.push(attempt);
                }
            }
            let rows = ledger.read(|c| sync_queue::next_batch(c, 1000)).unwrap();
            prop_assert_eq!(rows.len(), kept.len());
            for (row, attempt) in rows.iter().zip(&kept) {
                let expected = person("", attempt.card, attempt.nik);
                prop_assert_eq!(row.no_kjp.as_str(), expected.kjp.expose());
                prop_assert_eq!(row.no_ktp.as_str(), expected.ktp.expose());
            }
        }

        #[test]
        fn a_text_is_a_row_key_only_if_it_is_printed_like_one(text in "[0-9a-f-]{30,40}|\\PC{0,40}") {
            if let Ok(key) = text.parse::<RowKey>() {
                prop_assert_eq!(key.to_string(), text.to_lowercase());
            }
        }
    }
}
