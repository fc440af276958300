//! Years of service through the real ledger and session store, with the time passed in: what is kept
//! grows until everything that comes is matched by something that goes, and then no more.
//!
//! As a test it lives through three years of a small service in seconds; `scripts/bench growth` shows
//! the curve of a full one, 300 registrations a day. The database lies in memory, where it has the
//! pages that its file would have. It is never made smaller: free pages are used again
//! (`auto_vacuum` would move pages about for it, and wear out the flash).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bot_kjp::desk::wording;
use bot_kjp::ledger::registration::{KEEP_DELIVERED_DAYS, NewRegistration, Sender};
use bot_kjp::ledger::sync_queue::{self, RowVerdict};
use bot_kjp::ledger::{
    self, Database, LedgerError, conversation, inbound, outbox, person, process_start, reachout, registration,
};
use bot_kjp::personal::{CardNumber, Kk, Nik};
use bot_kjp::registration::{CardType, CardTypeSource, Outcome, Person, Place, Provider, day};
use bot_kjp::whatsapp::session_store::SessionStore;
use bytes::Bytes;
use rusqlite::Connection;
use smol::block_on;
use wacore::store::traits::{
    DeviceInfo, DeviceListRecord, LidPnMappingEntry, MsgSecretEntry, MsgSecretStore as _, PendingInboundKey,
    PendingInboundRow, ProtocolStore as _, SignalStore as _,
};

const DAY: i64 = 86_400;

/// 2026-12-01, 10:00 in Jakarta.
const BEGIN: i64 = 1_796_094_000;

/// People whom a family registers with one message.
const PEOPLE: u32 = 3;

/// A Signal session of a phone that has written for some weeks, in bytes.
const SESSION_BYTES: usize = 2_500;

/// New families write on so many days, and never again.
const STAY_DAYS: i64 = 10;

static NOW: AtomicI64 = AtomicI64::new(BEGIN);

fn now() -> i64 {
    NOW.load(Ordering::Relaxed)
}

/// How much is going on.
struct Service {
    years: i64,
    registrations_per_day: u32,
    /// Families that come back year after year, a few of them each day.
    regulars: u32,
    /// Families that come new each day.
    new_per_day: u32,
}

/// Everything that a family and its phone leave behind with one message and its answer.
struct Ledgers {
    database: Database,
    store: SessionStore,
    messages: u64,
}

impl Ledgers {
    fn new() -> Self {
        let database = Database::in_memory().expect("a database");
        Self { store: SessionStore::with_clock(database.clone(), now), database, messages: 0 }
    }

    fn message(&mut self, family: u64) {
        self.messages += 1;
        let (lid, phone) = (format!("{}", 100_000_000_000_000 + family), format!("62811{family:08}"));
        let id = format!("3EB0{:016X}", self.messages);
        let chat = format!("{lid}@lid");
        let address: Arc<str> = format!("{lid}:0@lid").into();
        let device = DeviceListRecord {
            user: lid.clone(),
            devices: vec![DeviceInfo::new(0, None)],
            timestamp: now(),
            phash: None,
            raw_id: None,
        };
        block_on(async {
            let store = &self.store;
            if !store.has_session(&address).await? {
                store
                    .put_lid_mapping(&LidPnMappingEntry {
                        lid: lid.clone(),
                        phone_number: phone.clone(),
                        created_at: now(),
                        updated_at: now(),
                        learning_source: "peer_lid_message".into(),
                    })
                    .await?;
                store.put_identity(&address, [7; 32]).await?;
                store.update_device_list(device).await?;
                store.touch_tc_token_sender_timestamp(&chat, now()).await?;
            }
            let row = PendingInboundRow { chat: &chat, sender: &chat, id: &id, message: &[1; 300] };
            store.store_pending_inbound_batch(&[row]).await?;
            store.put_sessions_batch(&[(address.clone(), Bytes::from(vec![3; SESSION_BYTES]))]).await?;
            store
                .put_msg_secrets(vec![MsgSecretEntry {
                    chat: chat.as_str().into(),
                    sender: chat.as_str().into(),
                    msg_id: id.as_str().into(),
                    secret: [5; 32],
                    expires_at: now() + 30 * DAY,
                    message_ts: now(),
                }])
                .await?;
            store.store_sent_message(&chat, &id, &[2; 400]).await?;
            if self.messages.is_multiple_of(50) {
                store.save_base_key(&address, &id, &[9; 33]).await?;
            }
            store
                .delete_pending_inbound_batch(&[PendingInboundKey { chat: &chat, sender: &chat, id: &id }])
                .await
        })
        .expect("the session is written");
        let sender = Sender::of(Some(&phone), Some(&lid)).expect("somebody");
        self.database
            .write_now::<_, LedgerError>(|tx| {
                assert!(inbound::remember(tx, &chat, &chat, &id, now())?);
                person::recognise(tx, &sender, now())?;
                conversation::save(tx, sender.expose(), "{\"Ready\":{\"place\":\"DHARMAJAYA\"}}", now())?;
                for index in 0..PEOPLE {
                    register(tx, &chat, &sender, &id, index, family)?;
                }
                let text = "Pendaftaran berhasil ".repeat(40);
                let reply = outbox::Reply {
                    kind: outbox::Kind::Verdict,
                    chat: chat.clone(),
                    wa_message_id: id.clone(),
                    text,
                    at: now(),
                };
                outbox::enqueue(tx, &reply, now(), wording::joined)?;
                outbox::remove(tx, &id)?;
                // Now and then WhatsApp does not let a family in.
                if self.messages.is_multiple_of(40) {
                    reachout::refused(tx, &chat, now())?;
                } else {
                    reachout::accepted(tx, &chat, now())?;
                }
                Ok(())
            })
            .expect("the message is written");
    }

    /// What Supabase says at the end of a day, and the night's housework.
    fn night(&self) {
        self.database
            .write_now::<_, LedgerError>(|tx| {
                loop {
                    let batch = sync_queue::next_batch(tx, 200)?;
                    if batch.is_empty() {
                        break;
                    }
                    let verdicts: Vec<_> =
                        batch.iter().map(|row| (row.row_key, RowVerdict::Stored)).collect();
                    sync_queue::record(tx, &verdicts, now())?;
                }
                let start = process_start::Beginning { at: now(), boot: None, version: "1", verdict: None };
                // So many that their bound is reached too.
                for _ in 0..3 {
                    process_start::begin(tx, &start)?;
                }
                Ok(())
            })
            .expect("the verdicts are written");
        loop {
            let pruned = self.database.write_now::<_, LedgerError>(|tx| {
                let judged_by = ledger::judged_by(tx, now())?.expect("messages came");
                ledger::prune(tx, judged_by, KEEP_DELIVERED_DAYS)
            });
            let forgotten = block_on(self.store.prune(now())).expect("old rows are forgotten");
            if pruned.expect("old rows are forgotten") + forgotten == 0 {
                return;
            }
        }
    }

    /// Bytes of the file, and rows of every table.
    fn size(&self) -> (u64, Vec<(String, u64)>) {
        self.database
            .read(|conn: &Connection| {
                let number =
                    |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
                let bytes = number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?;
                let mut names =
                    conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
                let names =
                    names.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
                let mut rows = Vec::new();
                for name in names {
                    let count = number(&format!("SELECT count(*) FROM \"{name}\""))?;
                    rows.push((name, count));
                }
                Ok::<_, rusqlite::Error>((bytes, rows))
            })
            .expect("the sizes are read")
    }
}

fn register(
    tx: &Connection,
    chat: &str,
    sender: &Sender,
    id: &str,
    index: u32,
    family: u64,
) -> Result<(), LedgerError> {
    let number = family * u64::from(PEOPLE) + u64::from(index);
    let person = Person {
        nama: format!("Ani Lestari {number}"),
        name_canonical: format!("ani lestari {number}"),
        kjp: CardNumber::new(format!("50494885{number:08}")),
        jenis_kartu: Some((CardType::Kjp, CardTypeSource::Prefix)),
        ktp: Nik::new(format!("31710101{number:08}")),
        kk: Kk::new(format!("31710102{number:08}")),
        tanggal_lahir: None,
    };
    let new = NewRegistration {
        chat,
        from: chat,
        sender,
        sender_name: Some("Ani Lestari"),
        message_id: id,
        index,
        day: day::of(now()),
        received_at: now(),
        place: &Place { provider: Provider::DharmaJaya, sub: Some("Cakung".into()) },
        person: &person,
    };
    assert_eq!(registration::insert(tx, &new)?, Outcome::Stored);
    Ok(())
}

impl Service {
    /// Lives through the years; `each_month` gets the day, the bytes and the rows of every table.
    fn run(&self, mut each_month: impl FnMut(i64, u64, &[(String, u64)])) {
        let mut ledgers = Ledgers::new();
        for today in 0..self.years * 365 {
            NOW.store(BEGIN + today * DAY, Ordering::Relaxed);
            let news = i64::from(self.new_per_day);
            let newcomers = ((today - STAY_DAYS + 1).max(0) * news..(today + 1) * news)
                .map(|n| u64::from(self.regulars) + u64::try_from(n).expect("not negative"));
            let messages = self.registrations_per_day / PEOPLE;
            let first = u64::try_from(today).expect("not negative") * u64::from(messages);
            let regulars = (first..).map(|n| n % u64::from(self.regulars));
            for family in newcomers.chain(regulars).take(messages as usize) {
                NOW.fetch_add(60, Ordering::Relaxed);
                ledgers.message(family);
            }
            ledgers.night();
            if today % 30 == 29 {
                let (bytes, rows) = ledgers.size();
                each_month(today + 1, bytes, &rows);
            }
        }
    }
}

/// The plateau is reached when the longest time for which anything is kept has passed.
const PLATEAU_DAYS: i64 = 400;

fn main() {
    let full = std::env::args().any(|argument| argument == "--full");
    let service = if full {
        Service { years: 3, registrations_per_day: 300, regulars: 2_000, new_per_day: 5 }
    } else {
        Service { years: 3, registrations_per_day: 60, regulars: 60, new_per_day: 1 }
    };
    let mut months: Vec<(i64, u64, u64)> = Vec::new();
    let mut last_rows = Vec::new();
    if full {
        println!("{:>5} {:>13} {:>9} {:>10} {:>10}", "day", "registrations", "MB", "rows", "sessions");
    }
    service.run(|day, bytes, rows| {
        let all: u64 = rows.iter().map(|(_, count)| count).sum();
        let of = |table: &str| rows.iter().find(|(name, _)| name == table).map_or(0, |(_, count)| *count);
        if full {
            let registered = day * i64::from(service.registrations_per_day);
            let megabytes = bytes as f64 / 1e6;
            println!("{day:>5} {registered:>13} {megabytes:>9.1} {all:>10} {:>10}", of("wa_session"));
        }
        months.push((day, bytes, all));
        last_rows = rows.to_vec();
    });
    if full {
        for (table, rows) in last_rows.iter().filter(|(_, rows)| *rows > 0) {
            println!("{rows:>10} {table}");
        }
    }
    let plateau = months.iter().find(|(day, ..)| *day >= PLATEAU_DAYS).expect("a plateau");
    let (_, bytes, rows) = months.last().expect("some months");
    assert!(
        *bytes <= plateau.1 + plateau.1 / 50,
        "{} bytes after {PLATEAU_DAYS} days, {bytes} at the end",
        plateau.1
    );
    assert!(
        *rows <= plateau.2 + plateau.2 / 20,
        "{} rows after {PLATEAU_DAYS} days, {rows} at the end",
        plateau.2
    );
    println!("{bytes} bytes and {rows} rows after three years, no more than after {PLATEAU_DAYS} days: ok");
}
