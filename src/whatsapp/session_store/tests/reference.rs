//! The store against wacore's in-memory backend: any sequence of calls has the same outcomes.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::InMemoryBackend;
use wacore::store::traits::*;

use super::super::SessionStore;
use super::{in_memory, mapping};
use crate::ledger::Database;

/// One call of any method. Which of the other fields it uses depends on the method.
#[derive(Debug, Clone)]
struct Call {
    method: Method,
    /// Picks addresses, users, groups, message ids from a handful, so that calls meet.
    key: usize,
    other: usize,
    number: i64,
    flag: bool,
    bytes: Vec<u8>,
}

macro_rules! methods {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq)]
        enum Method { $($name),* }
        const METHODS: &[Method] = &[$(Method::$name),*];
    };
}

methods!(
    PutIdentity,
    PutIdentities,
    DeleteIdentity,
    PutSession,
    PutSessions,
    DeleteSession,
    StorePrekey,
    StorePrekeys,
    MarkPrekeysUploaded,
    RemovePrekey,
    StoreSignedPrekey,
    RemoveSignedPrekey,
    PutSenderKey,
    PutSenderKeys,
    DeleteSenderKey,
    SetSyncKey,
    SetVersion,
    PutMutationMacs,
    DeleteMutationMacs,
    ClearMutationMacs,
    SetSenderKeyStatus,
    ClearSenderKeyDevices,
    DeleteSenderKeyDeviceRows,
    ClearAllSenderKeyDevices,
    PutLidMapping,
    PutLidMappings,
    SaveBaseKey,
    DeleteBaseKey,
    UpdateDeviceList,
    UpdateDeviceLists,
    DeleteDevices,
    PutGroupMetadata,
    DeleteGroupMetadata,
    PutTcToken,
    DeleteTcToken,
    DeleteExpiredTcTokens,
    TouchTcToken,
    StoreReceivedTcToken,
    StoreSentMessage,
    TakeSentMessage,
    DeleteExpiredSentMessages,
    StorePendingInbound,
    StorePendingInboundBatch,
    DeletePendingInbound,
    DeletePendingInboundBatch,
    DeleteExpiredPendingInbound,
    PutMsgSecret,
    PutMsgSecrets,
    DeleteExpiredMsgSecrets,
);

/// Two devices of one user, a user whose number starts with the first's, a LID.
const ADDRESSES: [&str; 4] = [
    "6280000000001@s.whatsapp.net",
    "6280000000001:3@s.whatsapp.net",
    "62800000000011:1@s.whatsapp.net",
    "100000000000001@lid",
];
const USERS: [&str; 4] = ["6280000000001", "62800000000011", "100000000000001", "628000000000"];
const NAMES: [&str; 4] = ["", "regular", "120363000000000001@g.us", "É 'quoted' %_"];

fn calls(length: usize) -> impl Strategy<Value = Vec<Call>> {
    let call = (
        prop::sample::select(METHODS),
        0..4_usize,
        0..4_usize,
        0..8_i64,
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 0..4),
    );
    let call = call.prop_map(|(method, key, other, number, flag, bytes)| Call {
        method,
        key,
        other,
        number,
        flag,
        bytes,
    });
    prop::collection::vec(call, 1..length)
}

/// Makes the call; returns what it answered.
async fn apply(backend: &impl Backend, call: &Call) -> String {
    let Call { method, key, other, number, flag, bytes } = call.clone();
    let (address, second) = (ADDRESSES[key], ADDRESSES[other]);
    let (name, id) = (NAMES[key], NAMES[other]);
    let byte = bytes.first().copied().unwrap_or(0);
    let record = Bytes::from(bytes.clone());
    let records: [(Arc<str>, Bytes); 2] =
        [(address.into(), record.clone()), (second.into(), Bytes::from_static(b"second"))];
    let number32 = number as u32;
    let index = |n: usize| vec![n as u8; 32];
    let mapping = |lid: usize, phone: usize| mapping(USERS[lid], USERS[phone], number);
    let device_list = |user: usize| DeviceListRecord {
        user: USERS[user].into(),
        devices: vec![DeviceInfo::new(number32, flag.then_some(number32)).with_hosting(flag)],
        timestamp: number,
        phash: flag.then(|| "2:abc".into()),
        raw_id: flag.then_some(7),
    };
    let msg_secret = |expires_at: i64, byte: u8| MsgSecretEntry {
        chat: name.into(),
        sender: address.into(),
        msg_id: id.into(),
        secret: [byte; 32],
        expires_at,
        message_ts: number,
    };
    // These stamp rows with the time of day; of the cut-offs only "all" and "none" are certain.
    let cutoff = if flag { i64::MAX } else { 0 };

    macro_rules! told {
        ($call:expr) => {
            format!("{:?}", $call.await.unwrap())
        };
    }
    match method {
        Method::PutIdentity => told!(backend.put_identity(address, [byte; 32])),
        Method::PutIdentities => {
            let identities: [(Arc<str>, [u8; 32]); 2] =
                [(address.into(), [byte; 32]), (second.into(), [9; 32])];
            told!(backend.put_identities_batch(&identities))
        }
        Method::DeleteIdentity => told!(backend.delete_identity(address)),
        Method::PutSession => told!(backend.put_session(address, &bytes)),
        Method::PutSessions => told!(backend.put_sessions_batch(&records)),
        Method::DeleteSession => told!(backend.delete_session(address)),
        Method::StorePrekey => told!(backend.store_prekey(number32, &bytes, flag)),
        Method::StorePrekeys => {
            let keys = [(number32, record), (u32::MAX - key as u32, Bytes::new())];
            told!(backend.store_prekeys_batch(&keys, flag))
        }
        Method::MarkPrekeysUploaded => {
            told!(backend.mark_prekeys_uploaded(&[number32, key as u32]))
        }
        Method::RemovePrekey => told!(backend.remove_prekey(number32)),
        Method::StoreSignedPrekey => told!(backend.store_signed_prekey(number32, &bytes)),
        Method::RemoveSignedPrekey => told!(backend.remove_signed_prekey(number32)),
        Method::PutSenderKey => told!(backend.put_sender_key(address, &bytes)),
        Method::PutSenderKeys => told!(backend.put_sender_keys_batch(&records)),
        Method::DeleteSenderKey => told!(backend.delete_sender_key(address)),
        Method::SetSyncKey => {
            let sync_key = AppStateSyncKey { key_data: bytes, fingerprint: vec![byte], timestamp: number };
            told!(backend.set_sync_key(&[key as u8], sync_key))
        }
        Method::SetVersion => {
            let state = HashState {
                version: u64::MAX - number as u64,
                hash: [byte; 128],
                index_value_map: [(id.to_owned(), bytes)].into(),
                mac_mismatch_fatal: flag,
            };
            told!(backend.set_version(name, state))
        }
        Method::PutMutationMacs => {
            let mac = |n, value_mac| AppStateMutationMAC { index_mac: index(n), value_mac };
            let macs = [mac(key, bytes), mac(other, vec![byte])];
            told!(backend.put_mutation_macs(name, number as u64, &macs))
        }
        Method::DeleteMutationMacs => {
            told!(backend.delete_mutation_macs(name, &[index(key), index(other)]))
        }
        Method::ClearMutationMacs => told!(backend.clear_mutation_macs(name)),
        Method::SetSenderKeyStatus => {
            told!(backend.set_sender_key_status(name, &[(address, flag), (second, true)]))
        }
        Method::ClearSenderKeyDevices => told!(backend.clear_sender_key_devices(name)),
        Method::DeleteSenderKeyDeviceRows => {
            told!(backend.delete_sender_key_device_rows(&[address, second]))
        }
        Method::ClearAllSenderKeyDevices => told!(backend.clear_all_sender_key_devices()),
        Method::PutLidMapping => told!(backend.put_lid_mapping(&mapping(key, other))),
        Method::PutLidMappings => {
            let mappings = [mapping(key, other), mapping(other, key)];
            told!(backend.put_lid_mappings(&mappings))
        }
        Method::SaveBaseKey => told!(backend.save_base_key(address, id, &bytes)),
        Method::DeleteBaseKey => told!(backend.delete_base_key(address, id)),
        Method::UpdateDeviceList => told!(backend.update_device_list(device_list(key))),
        Method::UpdateDeviceLists => {
            told!(backend.update_device_lists(vec![device_list(key), device_list(other)]))
        }
        Method::DeleteDevices => told!(backend.delete_devices(USERS[key])),
        Method::PutGroupMetadata => told!(backend.put_group_metadata(name, &bytes)),
        Method::DeleteGroupMetadata => told!(backend.delete_group_metadata(name)),
        Method::PutTcToken => {
            let entry = TcTokenEntry {
                token: bytes,
                token_timestamp: number,
                sender_timestamp: flag.then_some(other as i64),
            };
            told!(backend.put_tc_token(name, &entry))
        }
        Method::DeleteTcToken => told!(backend.delete_tc_token(name)),
        Method::DeleteExpiredTcTokens => {
            told!(backend.delete_expired_tc_tokens(number, other as i64))
        }
        Method::TouchTcToken => {
            told!(backend.touch_tc_token_sender_timestamp(name, number))
        }
        Method::StoreReceivedTcToken => {
            told!(backend.store_received_tc_token(name, &bytes, number))
        }
        Method::StoreSentMessage => told!(backend.store_sent_message(name, id, &bytes)),
        Method::TakeSentMessage => told!(backend.take_sent_message(name, id)),
        Method::DeleteExpiredSentMessages => {
            told!(backend.delete_expired_sent_messages(cutoff))
        }
        Method::StorePendingInbound => {
            told!(backend.store_pending_inbound(name, address, id, &bytes))
        }
        Method::StorePendingInboundBatch => {
            let rows = [
                PendingInboundRow { chat: name, sender: address, id, message: &bytes },
                PendingInboundRow { chat: name, sender: second, id, message: b"second" },
            ];
            told!(backend.store_pending_inbound_batch(&rows))
        }
        Method::DeletePendingInbound => {
            told!(backend.delete_pending_inbound(name, address, id))
        }
        Method::DeletePendingInboundBatch => {
            let keys = [
                PendingInboundKey { chat: name, sender: address, id },
                PendingInboundKey { chat: id, sender: second, id: name },
            ];
            told!(backend.delete_pending_inbound_batch(&keys))
        }
        Method::DeleteExpiredPendingInbound => {
            told!(backend.delete_expired_pending_inbound(cutoff))
        }
        Method::PutMsgSecret => {
            told!(backend.put_msg_secret(name, address, id, &[byte; 32]))
        }
        Method::PutMsgSecrets => {
            let secrets = vec![msg_secret(number, byte), msg_secret(other as i64, 9)];
            told!(backend.put_msg_secrets(secrets))
        }
        Method::DeleteExpiredMsgSecrets => {
            told!(backend.delete_expired_msg_secrets(number))
        }
    }
}

/// Everything that the getters tell about the keys the calls use, in a fixed order.
async fn everything(backend: &impl Backend) -> String {
    let mut out = String::new();
    let mut tell = |what: &dyn std::fmt::Debug| writeln!(out, "{what:?}").unwrap();
    for address in ADDRESSES {
        tell(&backend.load_identity(address).await.unwrap());
        tell(&(backend.get_session(address).await.unwrap(), backend.has_session(address).await.unwrap()));
        tell(&backend.get_sender_key(address).await.unwrap());
        for id in NAMES {
            for key in [&b""[..], &[0]] {
                tell(&backend.has_same_base_key(address, id, key).await.unwrap());
            }
            for chat in NAMES {
                tell(&backend.get_pending_inbound(chat, address, id).await.unwrap());
                tell(&backend.get_msg_secret(chat, address, id).await.unwrap());
                tell(&backend.get_msg_secret_with_ts(chat, address, id).await.unwrap());
            }
        }
    }
    for user in USERS {
        tell(&backend.has_signal_state_for_user(user).await.unwrap());
        tell(&backend.get_lid_mapping(user).await.unwrap());
        tell(&backend.get_devices(user).await.unwrap());
    }
    for id in 0..8 {
        tell(&(backend.load_prekey(id).await.unwrap(), backend.load_signed_prekey(id).await.unwrap()));
    }
    tell(&backend.load_prekeys_batch(&[3, 1, 7, 3, u32::MAX]).await.unwrap());
    tell(&backend.get_max_prekey_id().await.unwrap());
    let mut signed = backend.load_all_signed_prekeys().await.unwrap();
    signed.sort();
    tell(&signed);
    for key_id in 0..4 {
        tell(&backend.get_sync_key(&[key_id]).await.unwrap());
    }
    tell(&backend.get_latest_sync_key_id().await.unwrap());
    let indexes = [[0; 32], [1; 32], [2; 32], [3; 32]];
    for name in NAMES {
        tell(&backend.get_version(name).await.unwrap());
        let macs = backend.get_mutation_macs(name, &indexes).await.unwrap();
        for index in indexes {
            let mac = backend.get_mutation_mac(name, &index).await.unwrap();
            assert_eq!(mac.as_ref(), macs.get(&index));
            tell(&mac);
        }
        let mut devices = backend.get_sender_key_devices(name).await.unwrap();
        devices.sort();
        tell(&devices);
        tell(&backend.get_group_metadata(name).await.unwrap());
        tell(&backend.get_tc_token(name).await.unwrap());
    }
    let mut jids = backend.get_all_tc_token_jids().await.unwrap();
    jids.sort();
    tell(&jids);
    let mut lids: Vec<_> =
        backend.get_all_lid_mappings().await.unwrap().into_iter().map(|entry| entry.lid).collect();
    lids.sort();
    tell(&lids);
    out
}

/// Puts at least one row into every table of the session.
pub(super) async fn fill(backend: &impl Backend) {
    for &method in METHODS.iter().filter(|&&method| {
        let name = format!("{method:?}");
        !["Delete", "Remove", "Clear", "Take"].iter().any(|taking| name.starts_with(taking))
    }) {
        apply(backend, &Call { method, key: 1, other: 0, number: 1, flag: true, bytes: vec![1] }).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_answers_as_the_reference_does(calls in calls(80)) {
        let (store, reference) = (in_memory(), InMemoryBackend::new());
        smol::block_on(async {
            for (step, call) in calls.iter().enumerate() {
                assert_eq!(apply(&store, call).await, apply(&reference, call).await, "step {step}: {call:?}");
            }
            assert_eq!(everything(&store).await, everything(&reference).await);
        });
    }

    /// The in-memory backend forgets a phone number when an older LID moves away from it, so here
    /// the trait's words are the model: the most recent LID that still belongs to the phone.
    #[test]
    fn a_phone_number_leads_to_its_most_recent_lid(
        puts in prop::collection::vec((0..3_usize, 0..3_usize, 0..4_i64), 1..20),
    ) {
        let store = in_memory();
        let mut model: Vec<LidPnMappingEntry> = Vec::new();
        smol::block_on(async {
            for (lid, phone, at) in puts {
                let entry = mapping(USERS[lid], USERS[phone], at);
                store.put_lid_mapping(&entry).await.unwrap();
                model.retain(|known| known.lid != entry.lid);
                model.push(entry);
                for user in USERS {
                    // Of equals, max_by_key takes the last: the one put last.
                    let recent = model.iter().filter(|e| e.phone_number == user).max_by_key(|e| e.updated_at);
                    let found = store.get_pn_mapping(user).await.unwrap();
                    assert_eq!(found.map(|e| e.lid), recent.map(|e| e.lid.clone()));
                }
            }
        });
    }
}

proptest! {
    // Each case opens a file twice and flushes it to disk for every call.
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_there_again_after_a_restart(calls in calls(120)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bot-kjp.db");
        let open = || SessionStore::new(Database::open(&file).unwrap());
        let reference = InMemoryBackend::new();
        smol::block_on(async {
            let store = open();
            fill(&store).await;
            fill(&reference).await;
            for call in &calls {
                apply(&store, call).await;
                apply(&reference, call).await;
            }
            // What is written lazily is durable with the next write, or with the end of the process.
            store.database().finish().unwrap();
            drop(store);
            assert_eq!(everything(&open()).await, everything(&reference).await);
        });
    }
}
