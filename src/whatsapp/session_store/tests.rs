//! The promises of the session store.

mod kill;
mod reference;

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use wacore::store::Device;
use wacore::store::error::StoreError;
use wacore::store::persistence::PersistenceManager;
use wacore::store::traits::{
    AppSyncStore, DeviceStore, LidPnMappingEntry, MsgSecretEntry, MsgSecretStore, PendingInboundRow,
    ProtocolStore, SignalStore,
};
use wacore_binary::Jid;

use super::*;

const PHONE: &str = "6280000000001";
const LID: &str = "100000000000001";
const ADDRESS: &str = "6280000000001:3@s.whatsapp.net";

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(1_000_000) };
}

fn now() -> i64 {
    NOW.get()
}

fn in_memory() -> SessionStore {
    SessionStore::with_clock(Database::in_memory().unwrap(), now)
}

fn sql(store: &SessionStore, statement: &str) {
    let job = |tx: &Connection| Ok::<_, LedgerError>(tx.execute_batch(statement)?);
    store.database.write_now(job).unwrap();
}

fn rows(store: &SessionStore, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    store.database.read(|c| c.query_row(&query, [], |row| row.get(0))).unwrap()
}

fn tables(store: &SessionStore) -> Vec<String> {
    let query = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    store.database.read(|c| list(c, query, [], |row| row.get(0))).unwrap()
}

fn mapping(lid: &str, phone: &str, at: i64) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: lid.into(),
        phone_number: phone.into(),
        created_at: at,
        updated_at: at,
        learning_source: "usync".into(),
    }
}

fn secret(id: &str, byte: u8, expires_at: i64, message_ts: i64) -> MsgSecretEntry {
    let jid: Arc<str> = "6280000000001@s.whatsapp.net".into();
    MsgSecretEntry {
        chat: jid.clone(),
        sender: jid,
        msg_id: id.into(),
        secret: [byte; 32],
        expires_at,
        message_ts,
    }
}

fn paired_device() -> Device {
    let mut device = Device::new();
    device.pn = Some(Jid::pn_device(PHONE, 3));
    device.lid = Some(Jid::lid_device(LID, 3));
    device.push_name = "Bot".into();
    device
}

#[test]
fn a_new_ledger_has_no_device_and_is_not_paired() {
    let store = in_memory();
    smol::block_on(async {
        assert!(!store.exists().await.unwrap());
        assert!(store.load().await.unwrap().is_none());
        assert!(!store.is_paired().unwrap());
        assert_eq!(store.create().await.unwrap(), 1);
        assert!(store.exists().await.unwrap());
        assert!(!store.is_paired().unwrap());
    });
}

#[test]
fn creating_a_device_twice_keeps_the_first() {
    let store = in_memory();
    smol::block_on(async {
        store.save(&paired_device()).await.unwrap();
        store.create().await.unwrap();
        assert!(store.is_paired().unwrap());
    });
}

#[test]
fn the_device_comes_back_whole_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bot-kjp.db");
    let device = paired_device();
    smol::block_on(async {
        SessionStore::new(Database::open(&file).unwrap()).save(&device).await.unwrap();
        let store = SessionStore::new(Database::open(&file).unwrap());
        assert!(store.is_paired().unwrap());
        let loaded = store.load().await.unwrap().unwrap();
        assert_eq!(serde_json::to_value(&loaded).unwrap(), serde_json::to_value(&device).unwrap());
        // Not stored, but what a phone is shown at pairing.
        assert_eq!(loaded.device_props, device.device_props);
    });
}

#[test]
fn whatsapp_rusts_persistence_manager_finds_its_device_again() {
    let store = in_memory();
    smol::block_on(async {
        let id = {
            let manager = PersistenceManager::new(Arc::new(store.clone())).await.unwrap();
            manager.get_device_snapshot().await.registration_id
        };
        let manager = PersistenceManager::new(Arc::new(store.clone())).await.unwrap();
        assert_eq!(manager.get_device_snapshot().await.registration_id, id);
    });
}

/// Frozen when the format was made: the reader may change, what boxes have stored does not.
#[test]
fn a_device_stored_in_format_1_is_still_read() {
    let store = in_memory();
    let body = include_str!("tests/device-format-1.json").trim();
    sql(&store, &format!("INSERT INTO wa_device VALUES (1, 1, '0.1.0', '{body}')"));
    let device = smol::block_on(store.load()).unwrap().unwrap();
    assert_eq!(device.pn, Some(Jid::pn_device(PHONE, 3)));
    assert_eq!(device.lid, Some(Jid::lid_device(LID, 3)));
    assert_eq!(device.registration_id, 1_234_567_890);
    assert_eq!(device.next_pre_key_id, 31);
    assert!(device.server_has_prekeys);
    assert_eq!(device.account.unwrap().details.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(device.server_cert_chain.unwrap().leaf.key, [2; 32]);
}

#[test]
fn a_damaged_device_row_is_a_clear_error_without_its_contents() {
    let damages = [
        ("UPDATE wa_device SET body = substr(body, 1, 100)", "Eof error"),
        ("UPDATE wa_device SET body = '{}'", "missing field"),
        ("UPDATE wa_device SET body = json_set(body, '$.registration_id', '6280000000001')", "Data error"),
        ("UPDATE wa_device SET format = 2", "format 2"),
    ];
    for (damage, told) in damages {
        let store = in_memory();
        smol::block_on(store.save(&paired_device())).unwrap();
        sql(&store, damage);
        let error = store.is_paired().unwrap_err();
        assert!(matches!(error, SessionError::DeviceUnreadable { .. }), "{damage}: {error}");
        let text = error.to_string();
        assert!(text.contains(told), "{damage}: {text}");
        assert!(!text.contains(PHONE), "{text}");
        assert!(matches!(smol::block_on(store.load()), Err(StoreError::Serialization(_))));
        // The way out works all the same.
        let next = smol::block_on(store.set_aside(now())).unwrap();
        assert!(!next.is_paired().unwrap());
    }
}

#[test]
fn other_damaged_rows_are_errors_too() {
    let store = in_memory();
    sql(
        &store,
        "INSERT INTO wa_app_sync_version VALUES ('regular', '[]');
         INSERT INTO wa_device_list VALUES ('6280000000001', '{\"user\":5}');
         INSERT INTO wa_prekey VALUES (-1, x'00', 0);
         INSERT INTO wa_lid_mapping VALUES (1, '1', '6280000000001@s.whatsapp.net', 0, 0, 'usync');",
    );
    smol::block_on(async {
        assert!(matches!(store.get_version("regular").await, Err(StoreError::Serialization(_))));
        assert!(matches!(store.get_devices(PHONE).await, Err(StoreError::Serialization(_))));
        assert!(matches!(store.get_max_prekey_id().await, Err(StoreError::Database(_))));
    });
    let error = store.phone_of_lid("1").unwrap_err();
    assert!(matches!(error, LedgerError::Unreadable { .. }));
    assert!(!error.to_string().contains(PHONE));
}

#[test]
fn set_aside_removes_the_session_and_nothing_else() {
    let store = in_memory();
    sql(&store, "CREATE TABLE somebody_elses (x INTEGER) STRICT; INSERT INTO somebody_elses VALUES (1);");
    smol::block_on(async {
        reference::fill(&store).await;
        store.save(&paired_device()).await.unwrap();
        store.put_kept_answer("https://example.org/", b"kept").await.unwrap();
        for table in SESSION_TABLES.iter().chain(&["wa_device"]) {
            assert_ne!(rows(&store, table), 0, "{table} is not filled, so the test proves nothing about it");
        }

        let next = store.set_aside(now()).await.unwrap();
        assert!(!next.is_paired().unwrap());
        assert!(!next.exists().await.unwrap());
        for table in SESSION_TABLES {
            assert_eq!(rows(&next, table), 0, "{table}");
        }
        for kept in ["wa_lid_mapping", "wa_retired_device", "kept_http_answer", "somebody_elses"] {
            assert_ne!(rows(&next, kept), 0, "{kept}");
        }
        next.create().await.unwrap();
        next.put_session(ADDRESS, b"new").await.unwrap();
    });
}

#[test]
fn every_session_table_is_either_removed_by_set_aside_or_kept_for_a_reason() {
    // The last two are what a session leaves to the next one.
    let known = ["wa_device", "wa_retired_device", "wa_lid_mapping", "wa_kept_session", "wa_kept_tc_token"];
    for table in tables(&in_memory()).iter().filter(|table| table.starts_with("wa_")) {
        assert!(SESSION_TABLES.contains(&&table[..]) || known.contains(&&table[..]), "{table}");
    }
}

#[test]
fn tokens_and_salt_go_to_the_next_session_of_the_same_number_and_to_no_other() {
    const OTHER: &str = "6280000000002";
    for (number, taken_over) in [(PHONE, true), (OTHER, false)] {
        let old = in_memory();
        smol::block_on(async {
            old.save(&Device { nct_salt: Some(vec![7; 32]), ..paired_device() }).await.unwrap();
            old.store_received_tc_token(LID, b"token", 900).await.unwrap();
            old.touch_tc_token_sender_timestamp("100000000000002", 900).await.unwrap();
            let new = old.set_aside(now()).await.unwrap();
            assert!(new.get_all_tc_token_jids().await.unwrap().is_empty());
            // Not paired yet: nobody knows whose session it becomes.
            new.save(&Device::new()).await.unwrap();
            assert!(new.get_all_tc_token_jids().await.unwrap().is_empty());

            new.save(&Device { pn: Some(Jid::pn_device(number, 5)), ..paired_device() }).await.unwrap();
            let token = new.get_tc_token(LID).await.unwrap();
            assert_eq!(token.is_some_and(|entry| entry.token == b"token"), taken_over);
            assert_eq!(new.get_all_tc_token_jids().await.unwrap().len(), usize::from(taken_over));
            assert_eq!(new.kept_salt(number).unwrap().is_some(), taken_over);
        });
    }
}

#[test]
fn a_session_that_was_never_paired_leaves_what_is_kept_alone_and_old_tokens_are_forgotten() {
    let old = in_memory();
    smol::block_on(async {
        old.save(&paired_device()).await.unwrap();
        old.store_received_tc_token(LID, b"token", 900).await.unwrap();
        let unpaired = old.set_aside(now()).await.unwrap();
        unpaired.create().await.unwrap();
        let next = unpaired.set_aside(now()).await.unwrap();
        assert_eq!(rows(&next, "wa_kept_tc_token"), 1);
        next.prune(900 + TC_TOKEN_SECONDS).await.unwrap();
        assert_eq!(rows(&next, "wa_kept_tc_token"), 1);
        next.prune(901 + TC_TOKEN_SECONDS).await.unwrap();
        assert_eq!(rows(&next, "wa_kept_tc_token"), 0);
    });
}

#[test]
fn a_client_that_was_set_aside_cannot_write_into_the_next_session() {
    let old = in_memory();
    smol::block_on(async {
        old.save(&paired_device()).await.unwrap();
        let new = old.set_aside(now()).await.unwrap();
        assert!(matches!(old.save(&paired_device()).await, Err(StoreError::Database(_))));
        assert!(old.put_session(ADDRESS, b"old").await.is_err());
        assert!(!new.is_paired().unwrap());
        assert!(!new.has_session(ADDRESS).await.unwrap());
        new.save(&paired_device()).await.unwrap();
        let newest = new.set_aside(now()).await.unwrap();
        assert!(new.save(&paired_device()).await.is_err());
        newest.save(&paired_device()).await.unwrap();
    });
}

#[test]
fn a_set_aside_that_fails_leaves_the_session_in_use() {
    let store = in_memory();
    smol::block_on(async {
        store.save(&paired_device()).await.unwrap();
        sql(&store, "ALTER TABLE wa_msg_secret RENAME TO gone");
        assert!(store.set_aside(now()).await.is_err());
        assert!(store.is_paired().unwrap());
        store.put_session(ADDRESS, b"goes on").await.unwrap();
    });
}

#[test]
fn the_last_three_devices_that_were_set_aside_are_kept() {
    let mut store = in_memory();
    smol::block_on(async {
        for at in 1..=5 {
            store.create().await.unwrap();
            store = store.set_aside(at).await.unwrap();
        }
        // Without a device there is nothing to retire.
        store = store.set_aside(6).await.unwrap();
    });
    let times: Vec<i64> = store
        .database
        .read(|c| list(c, "SELECT set_aside_at FROM wa_retired_device ORDER BY no", [], |row| row.get(0)))
        .unwrap();
    assert_eq!(times, [3, 4, 5]);
}

#[test]
fn a_device_that_was_set_aside_by_mistake_can_be_taken_back() {
    let store = in_memory();
    smol::block_on(async {
        store.save(&paired_device()).await.unwrap();
        let next = store.set_aside(now()).await.unwrap();
        // As the schema's comment tells the operator.
        sql(
            &next,
            "INSERT OR REPLACE INTO wa_device SELECT 1, format, writer, body FROM wa_retired_device WHERE no = 1",
        );
        assert!(next.is_paired().unwrap());
    });
}

#[test]
fn a_lid_leads_to_its_phone_number_in_every_form() {
    let store = in_memory();
    smol::block_on(store.put_lid_mapping(&mapping(LID, PHONE, 1))).unwrap();
    for form in [LID.to_owned(), format!("{LID}@lid"), format!("{LID}:7@lid")] {
        assert_eq!(store.phone_of_lid(&form).unwrap(), Some(PhoneNumber::new(PHONE)), "{form}");
    }
    assert_eq!(store.phone_of_lid("2@lid").unwrap(), None);
    assert_eq!(store.phone_of_lid("").unwrap(), None);
}

#[test]
fn uploaded_marks_never_bring_back_a_used_prekey() {
    let store = in_memory();
    smol::block_on(async {
        let keys = [(1, Bytes::from_static(b"a")), (2, Bytes::from_static(b"b"))];
        store.store_prekeys_batch(&keys, false).await.unwrap();
        store.remove_prekey(1).await.unwrap();
        store.mark_prekeys_uploaded(&[1, 2, 3]).await.unwrap();
        assert_eq!(store.load_prekeys_batch(&[1, 2, 3]).await.unwrap(), [keys[1].clone()]);
    });
    let uploaded: Vec<(u32, bool)> = store
        .database
        .read(|c| list(c, "SELECT id, uploaded FROM wa_prekey", [], |row| Ok((row.get(0)?, row.get(1)?))))
        .unwrap();
    assert_eq!(uploaded, [(2, true)]);
}

#[test]
fn the_latest_sync_key_is_the_one_stored_last_whatever_its_timestamp() {
    let store = in_memory();
    let key = |timestamp| wacore::store::traits::AppStateSyncKey { timestamp, ..Default::default() };
    smol::block_on(async {
        assert_eq!(store.get_latest_sync_key_id().await.unwrap(), None);
        store.set_sync_key(b"a", key(9)).await.unwrap();
        store.set_sync_key(b"b", key(3)).await.unwrap();
        assert_eq!(store.get_latest_sync_key_id().await.unwrap().as_deref(), Some(&b"b"[..]));
        store.set_sync_key(b"a", key(1)).await.unwrap();
        assert_eq!(store.get_latest_sync_key_id().await.unwrap().as_deref(), Some(&b"a"[..]));
    });
}

#[test]
fn rows_expire_exactly_at_their_cut_off() {
    let store = in_memory();
    let start = now();
    smol::block_on(async {
        for at in [start, start + 10] {
            NOW.set(at);
            store.store_sent_message("c", &at.to_string(), b"m").await.unwrap();
            store.store_pending_inbound("c", "s", &at.to_string(), b"m").await.unwrap();
        }
        store.put_msg_secrets(vec![secret("a", 1, start, 0), secret("b", 2, 0, 0)]).await.unwrap();

        assert_eq!(store.delete_expired_sent_messages(start).await.unwrap(), 0);
        assert_eq!(store.delete_expired_sent_messages(start + 1).await.unwrap(), 1);
        assert_eq!(store.take_sent_message("c", &(start + 10).to_string()).await.unwrap().unwrap(), b"m");

        assert_eq!(store.delete_expired_pending_inbound(start).await.unwrap(), 0);
        assert_eq!(store.delete_expired_pending_inbound(start + 1).await.unwrap(), 1);
        assert!(store.get_pending_inbound("c", "s", &(start + 10).to_string()).await.unwrap().is_some());

        assert_eq!(store.delete_expired_msg_secrets(start - 1).await.unwrap(), 0);
        assert_eq!(store.delete_expired_msg_secrets(start).await.unwrap(), 1);
        assert_eq!(store.delete_expired_msg_secrets(i64::MAX).await.unwrap(), 0, "0 means never");
    });
}

#[test]
fn a_message_secret_never_lives_shorter_for_being_stored_again() {
    let store = in_memory();
    let (chat, sender) = ("6280000000001@s.whatsapp.net", "6280000000001@s.whatsapp.net");
    smol::block_on(async {
        store.put_msg_secrets(vec![secret("a", 1, 100, 7), secret("a", 2, 50, 0)]).await.unwrap();
        let stored = store.get_msg_secret_with_ts(chat, sender, "a").await.unwrap();
        assert_eq!(stored, Some((vec![2; 32], 7)), "the later secret, the known time");
        assert_eq!(store.delete_expired_msg_secrets(99).await.unwrap(), 0);
        store.put_msg_secret(chat, sender, "a", &[3; 32]).await.unwrap();
        assert_eq!(store.delete_expired_msg_secrets(i64::MAX).await.unwrap(), 0);
    });
}

#[test]
fn a_newer_privacy_token_wins_and_each_writer_keeps_its_own_field() {
    let store = in_memory();
    smol::block_on(async {
        let token = || async { store.get_tc_token(LID).await.unwrap().unwrap() };
        store.touch_tc_token_sender_timestamp(LID, 50).await.unwrap();
        store.store_received_tc_token(LID, b"first", 10).await.unwrap();
        assert_eq!(token().await.token, b"first", "a placeholder never blocks a token");
        store.store_received_tc_token(LID, b"stale", 9).await.unwrap();
        assert_eq!(token().await.token, b"first");
        store.store_received_tc_token(LID, b"newer", 10).await.unwrap();
        store.touch_tc_token_sender_timestamp(LID, 40).await.unwrap();
        let entry = token().await;
        assert_eq!((&entry.token[..], entry.token_timestamp), (&b"newer"[..], 10));
        assert_eq!(entry.sender_timestamp, Some(50), "it only ever moves forward");
        assert_eq!(store.delete_expired_tc_tokens(11, 50).await.unwrap(), 0);
        assert_eq!(store.delete_expired_tc_tokens(11, 51).await.unwrap(), 1);
    });
}

#[test]
fn prune_forgets_what_is_old_and_what_is_too_much() {
    let store = in_memory();
    let start = now();
    smol::block_on(async {
        store.save_base_key(ADDRESS, "old", b"k").await.unwrap();
        store.store_sent_message("c", "old", b"m").await.unwrap();
        store.touch_tc_token_sender_timestamp("old", start).await.unwrap();
        NOW.set(start + TC_TOKEN_SECONDS);
        store.save_base_key(ADDRESS, "new", b"k").await.unwrap();
        store.touch_tc_token_sender_timestamp("new", now()).await.unwrap();
        assert_eq!(store.prune(start).await.unwrap(), 0);
        assert_eq!(store.prune(now() + 1).await.unwrap(), 3);
        assert!(store.has_same_base_key(ADDRESS, "new", b"k").await.unwrap());
        assert_eq!(store.get_all_tc_token_jids().await.unwrap(), ["new"]);

        sql(
            &store,
            &format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MSG_SECRETS} + 7)
                 INSERT INTO wa_msg_secret SELECT 'c', 's', i, zeroblob(32), iif(i = 3, 0, {0} + 100 + i), 0 FROM n;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SENT_MESSAGES} + 5)
                 INSERT INTO wa_sent_message SELECT 'c', i, x'', {0} + i FROM n;",
                now()
            ),
        );
        assert_eq!(store.prune(now()).await.unwrap(), 12);
        assert_eq!(
            (rows(&store, "wa_msg_secret"), rows(&store, "wa_sent_message")),
            (MSG_SECRETS, SENT_MESSAGES)
        );
        assert_eq!(store.take_sent_message("c", "5").await.unwrap(), None, "the oldest went");
        assert!(store.take_sent_message("c", "6").await.unwrap().is_some());
        assert!(store.get_msg_secret("c", "s", "3").await.unwrap().is_some(), "it never expires");
        assert!(store.get_msg_secret("c", "s", "8").await.unwrap().is_none());
        assert!(store.get_msg_secret("c", "s", "9").await.unwrap().is_some());
    });
}

#[test]
fn a_batch_is_one_commit_and_all_or_nothing() {
    let store = in_memory();
    sql(
        &store,
        "CREATE TRIGGER refuse BEFORE INSERT ON wa_session WHEN NEW.address = 'bad'
         BEGIN SELECT raise(ABORT, 'refused'); END;",
    );
    let batch: [(Arc<str>, Bytes); 2] =
        [("good".into(), Bytes::from_static(b"r")), ("bad".into(), Bytes::from_static(b"r"))];
    smol::block_on(async {
        assert!(matches!(store.put_sessions_batch(&batch).await, Err(StoreError::Database(_))));
        assert!(!store.has_session("good").await.unwrap());
    });
}

#[test]
fn the_memory_report_counts_at_most_the_page_cache() {
    let report = smol::block_on(in_memory().resource_report());
    let (memory, pages) = (report.memory_bytes.unwrap(), report.pages.unwrap());
    assert!(pages > 0 && memory > 0);
    assert!(memory <= 512 * 1024, "{memory}");
}

#[test]
fn a_message_that_was_lost_after_its_decryption_is_missed_and_no_other() {
    const ANI: &str = "6280000000001@s.whatsapp.net";
    let database = Database::in_memory().unwrap();
    let store = SessionStore::new(database.clone()).missing_what_is_lost();
    database.write_now(|tx| crate::ledger::inbound::remember(tx, ANI, ANI, "DONE", 1)).unwrap();
    smol::block_on(async {
        let copy = |chat: &'static str, id: &'static str| store.get_pending_inbound(chat, chat, id);
        assert_eq!(copy(ANI, "DONE").await.unwrap(), None);
        assert_eq!(copy("6280000000001:7@s.whatsapp.net", "DONE").await.unwrap(), None);
        assert!(!store.is_lost(ANI, ANI, "LOST"));
        assert_eq!(copy(ANI, "LOST").await.unwrap().as_deref(), Some(&b""[..]), "a stand-in");
        assert!(store.is_lost(ANI, ANI, "LOST") && !store.is_lost(ANI, ANI, "DONE"));

        // The stand-in is never written down, so that another process finds the message lost as well.
        let row = PendingInboundRow { chat: ANI, sender: ANI, id: "LOST", message: b"" };
        store.store_pending_inbound_batch(&[row]).await.unwrap();
        assert_eq!(rows(&store, "wa_pending_inbound"), 0);
        store.delete_pending_inbound(ANI, ANI, "LOST").await.unwrap();
        assert!(!store.is_lost(ANI, ANI, "LOST"), "it is missed by then");

        // An empty message that came is no stand-in.
        let row = PendingInboundRow { chat: ANI, sender: ANI, id: "EMPTY", message: b"" };
        store.store_pending_inbound_batch(&[row]).await.unwrap();
        assert!(!store.is_lost(ANI, ANI, "EMPTY"));
        assert_eq!(copy(ANI, "EMPTY").await.unwrap().as_deref(), Some(&b""[..]));

        let row = PendingInboundRow { chat: ANI, sender: ANI, id: "WAITS", message: b"copy" };
        store.store_pending_inbound_batch(&[row]).await.unwrap();
        assert_eq!(copy(ANI, "WAITS").await.unwrap().as_deref(), Some(&b"copy"[..]));
    });
}

#[test]
fn signed_prekeys_that_were_in_force_stay_for_half_a_year_and_refused_candidates_go() {
    const CURRENT: u32 = 40;
    let store = in_memory();
    let device = Device { signed_pre_key_id: CURRENT, ..paired_device() };
    smol::block_on(async {
        store.save(&device).await.unwrap();
        for id in 1..=CURRENT + 1 {
            store.store_signed_prekey(id, b"key").await.unwrap();
        }
        // As whatsapp-rust does at a rotation: the candidate that took over, and all but the last two; or the
        // candidate that the server refused.
        for id in (1..=CURRENT - 3).chain([CURRENT, CURRENT + 1]) {
            store.remove_signed_prekey(id).await.unwrap();
        }
        let kept: Vec<u32> =
            store.load_all_signed_prekeys().await.unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(kept, (CURRENT - RETIRED_SIGNED_PREKEYS..CURRENT).collect::<Vec<_>>());
    });
}

#[test]
fn what_strangers_make_of_a_session_has_a_bound() {
    let store = in_memory();
    let fill = |table: &str, columns: &str, most: i64| {
        sql(
            &store,
            &format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
                 INSERT INTO {table} SELECT {columns} FROM n",
                most + 3
            ),
        );
    };
    let day = now().div_euclid(DAY);
    fill("wa_use (kind, name, day)", &format!("'user', '62' || i, {day} - (i = 1)"), USERS);
    fill("wa_session (address, record)", "'62' || i || ':0@s.whatsapp.net', x'00'", USERS);
    fill(
        "wa_lid_mapping (lid, phone_number, created_at, updated_at, learning_source)",
        &format!("'1' || i, '62' || i, {0}, {0}, 'usync'", now()),
        LID_MAPPINGS,
    );
    fill(
        "wa_base_key (address, message_id, base_key, saved_at)",
        &format!("'a', i, x'00', {} + i", now()),
        BASE_KEYS,
    );
    fill(
        "wa_tc_token (jid, token, token_timestamp, sender_timestamp)",
        &format!("'1' || i || '@lid', x'00', {} + i, NULL", now()),
        TC_TOKENS,
    );
    while smol::block_on(store.prune(now())).unwrap() > 0 {}
    for (table, most) in [
        ("wa_use", USERS),
        ("wa_session", USERS),
        ("wa_lid_mapping", LID_MAPPINGS),
        ("wa_base_key", BASE_KEYS),
        ("wa_tc_token", TC_TOKENS),
    ] {
        assert_eq!(rows(&store, table), most, "{table}");
    }
    smol::block_on(async {
        // Whoever wrote longest ago was forgotten, and somebody new has room.
        assert!(!store.has_session("621:0@s.whatsapp.net").await.unwrap());
        store.put_session(ADDRESS, b"session").await.unwrap();
        assert!(store.has_session(ADDRESS).await.unwrap());
    });
}

#[test]
fn what_stood_under_a_lid_follows_when_the_store_learns_its_number() {
    use crate::ledger::registration::Sender;
    use crate::ledger::{conversation, person};

    let store = in_memory();
    let hidden = Sender::lid(LID);
    store
        .database
        .write_now::<_, LedgerError>(|tx| {
            person::recognise(tx, &hidden, 1)?;
            conversation::save(tx, hidden.expose(), "waits", 1)
        })
        .unwrap();
    smol::block_on(store.put_lid_mappings(&[mapping(LID, PHONE, 1), mapping("1", "62", 1)])).unwrap();
    let found = store.database.read(|conn| conversation::load(conn, PHONE)).unwrap();
    assert_eq!(found, Some(("waits".into(), 1)));
    assert_eq!(rows(&store, "person"), 1, "nobody else has written");
}
