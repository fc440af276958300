//! What a stranger can make grow, and how far: everything that gets larger because somebody writes, calls or
//! connects, in one place. Whatever is new and grows is added here; the tests look whether each constant is
//! still where this says, and whether each table of the ledger is named.
//!
//! What grows by nobody's doing but the operator's (settings, the account's own state) is not listed, with one
//! exception: the tables, all of which are. Not to be set from here: whatsapp-rust's queues for single chats, which
//! hold no more than is handed to it (`backlog.rs`), and its copy of the LID mappings.

/// One thing that can grow.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Queue, cache, table or file. A table of the ledger by its own name.
    pub what: &'static str,
    /// File and constant that says how far; empty where nobody but the account itself adds anything.
    pub file: &'static str,
    pub constant: &'static str,
    /// What happens beyond it.
    pub beyond: &'static str,
}

const fn bound(
    what: &'static str,
    file: &'static str,
    constant: &'static str,
    beyond: &'static str,
) -> Bound {
    Bound { what, file, constant, beyond }
}

/// A table that no stranger can add to.
const fn own(what: &'static str) -> Bound {
    bound(what, "", "", "nobody else adds to it")
}

/// All of them.
pub const BOUNDS: &[Bound] = &[
    // From the socket to the desk.
    bound("frame", "whatsapp/transport.rs", "MAX_MESSAGE_BYTES", "the connection ends"),
    bound("frames read ahead", "whatsapp/transport.rs", "EVENT_QUEUE", "the socket is not read"),
    bound("live messages inside", "whatsapp/backlog.rs", "MOST_LIVE", "the socket is not read"),
    bound("backlog inside", "whatsapp/backlog.rs", "MOST_IN_DRAIN", "the socket is not read"),
    bound("frames to be sent", "whatsapp/transport.rs", "SEND_QUEUE", "whoever sends waits"),
    bound("write backlog", "whatsapp/transport.rs", "WRITE_BACKLOG_BYTES", "whoever sends waits"),
    bound("wrappers around a message", "whatsapp/content.rs", "MAX_WRAPPERS", "it has no content"),
    bound("sender's name", "whatsapp/inbox.rs", "PUSH_NAME_MAX_CHARS", "it is cut"),
    bound("messages per commit", "reception.rs", "MAX_MESSAGES_PER_COMMIT", "the next commit takes them"),
    bound("text of a message", "desk/step.rs", "MAX_TEXT_BYTES", "it is cut"),
    bound("texts without a place", "desk/step.rs", "MAX_WAITING_TEXTS", "the sender chooses a place first"),
    bound(
        "people of a message",
        "registration/rulebook.rs",
        "MOST_PEOPLE",
        "the others are told to come alone",
    ),
    bound("lost messages at once", "whatsapp/session_store/lost.rs", "MOST", "WhatsApp keeps them"),
    bound("complaints remembered", "whatsapp/owed_answers.rs", "REMEMBERED", "the oldest is forgotten"),
    bound(
        "messages of other kinds",
        "whatsapp/missing_messages.rs",
        "OTHER_KINDS",
        "the oldest is forgotten",
    ),
    bound("answers owed at once", "whatsapp/owed_answers.rs", "AT_ONCE", "the next login brings them again"),
    bound("replies on their way", "whatsapp/outbox.rs", "MAX_IN_FLIGHT", "they wait in the ledger"),
    bound("notices for the terminal", "whatsapp/connection/mod.rs", "NOTICES", "one is dropped"),
    // The ledger's tables.
    bound("inbound_message", "ledger/inbound.rs", "CAPACITY", "the oldest are forgotten"),
    bound("conversation", "ledger/conversation.rs", "CAPACITY", "the oldest are forgotten"),
    bound("conversation state", "ledger/conversation.rs", "MAX_JSON_BYTES", "the message is refused"),
    bound("registration", "disk_space.rs", "STOP_SHARE", "nobody is registered until there is room"),
    bound("person", "ledger/person.rs", "CAPACITY", "those who wrote longest ago are forgotten"),
    bound("outbox", "ledger/outbox.rs", "CAPACITY", "who does not wait yet stays with WhatsApp"),
    bound("outbox, of a chat", "ledger/outbox.rs", "MOST_PER_CHAT", "verdicts are joined, menus replaced"),
    bound("outbox, given up", "ledger/outbox.rs", "MAX_FAILED", "the oldest make room"),
    bound("reply", "ledger/outbox.rs", "MAX_TEXT_BYTES", "it is refused"),
    bound("missing_message", "ledger/missing_message.rs", "CAPACITY", "nobody asks for it"),
    bound("missing_message, of a chat", "ledger/missing_message.rs", "MOST_PER_CHAT", "nobody asks for it"),
    bound("refused_message", "ledger/refused_message.rs", "CAPACITY", "the oldest make room"),
    bound("shut_chat", "ledger/reachout.rs", "MAX_SHUT", "the oldest are forgotten"),
    bound("answered_chat", "ledger/reachout.rs", "MAX_ANSWERED", "the oldest are forgotten"),
    bound("tokens that came", "whatsapp/reachout.rs", "MOST_TOKENS", "one that comes then is noticed later"),
    bound("process_start", "ledger/process_start.rs", "KEEP", "the oldest make room"),
    bound("connection_attempt", "ledger/connection_attempt.rs", "MOST", "no further try within the hour"),
    bound("alert", "ledger/alert.rs", "MOST", "the oldest make room"),
    bound("kept_http_answer", "whatsapp/kept_answers.rs", "MAX_ANSWERS", "the oldest make room"),
    bound("last_good_address", "net/resolver/last_good.rs", "MAX_HOSTS", "the oldest make room"),
    bound("wa_use", "whatsapp/session_store/mod.rs", "USERS", "who wrote longest ago is forgotten"),
    bound("wa_session", "whatsapp/session_store/mod.rs", "USERS", "goes with its owner"),
    bound("wa_identity", "whatsapp/session_store/mod.rs", "USERS", "goes with its owner"),
    bound("wa_device_list", "whatsapp/session_store/mod.rs", "USERS", "goes with its owner"),
    bound("wa_sender_key", "whatsapp/session_store/mod.rs", "USERS", "goes with its owner"),
    bound("wa_base_key", "whatsapp/session_store/mod.rs", "BASE_KEYS", "the oldest make room"),
    bound("wa_tc_token", "whatsapp/session_store/mod.rs", "TC_TOKENS", "those not used for longest go"),
    bound("wa_lid_mapping", "whatsapp/session_store/mod.rs", "LID_MAPPINGS", "those learned first go"),
    bound("wa_sent_message", "whatsapp/session_store/mod.rs", "SENT_MESSAGES", "the oldest make room"),
    bound("wa_msg_secret", "whatsapp/session_store/mod.rs", "MSG_SECRETS", "what expires first goes"),
    bound("wa_group_metadata", "whatsapp/session_store/mod.rs", "GROUPS", "it is asked for again"),
    bound("wa_sender_key_device", "whatsapp/session_store/mod.rs", "GROUP_DEVICES", "it is asked for again"),
    bound("wa_signed_prekey", "whatsapp/session_store/mod.rs", "RETIRED_SIGNED_PREKEYS", "the oldest go"),
    bound("wa_retired_device", "whatsapp/session_store/mod.rs", "RETIRED_DEVICES", "the oldest go"),
    // One message per chat, or one batch of the offline queue, which whatsapp-rust cuts at 400 messages.
    bound("wa_pending_inbound", "reception.rs", "MAX_MESSAGES_PER_COMMIT", "WhatsApp keeps them"),
    // What is no stranger's doing: one row each, or as many as WhatsApp has of the account's own.
    bound("wa_kept_tc_token", "whatsapp/session_store/mod.rs", "TC_TOKENS", "those not used for longest go"),
    own("wa_kept_session"),
    own("reachout_lock"),
    own("wa_device"),
    own("wa_prekey"),
    own("wa_app_sync_key"),
    own("wa_app_sync_version"),
    own("wa_app_sync_mutation"),
    own("known_time"),
    own("phone_seen"),
    own("compatibility"),
    own("redo_log"),
    bound("redo log", "ledger/database/redo/file.rs", "BLOCKS", "it is folded into the database"),
    bound("rows of a batch", "ledger/database/redo/rows.rs", "MOST_ROWS", "SQLite commits the batch itself"),
    // What others than WhatsApp's users can reach.
    bound("log, repeated lines", "logging/repeats.rs", "MOST", "the oldest is written"),
    bound("log line", "logging/mod.rs", "MAX_LINE_BYTES", "it is cut"),
    bound("status page, connections", "watch/page.rs", "MAX_CONNECTIONS", "no further is taken"),
    bound("status page, request", "watch/page.rs", "MAX_HEAD_BYTES", "it is refused"),
    bound("names known", "net/resolver/known.rs", "MAX_HOSTS", "the oldest is forgotten"),
    bound("answer over HTTP", "whatsapp/http_client.rs", "MAX_BODY_BYTES", "it is refused"),
    bound("answer of Supabase", "supabase/client.rs", "MAX_ANSWER_BYTES", "it is refused"),
    bound(
        "rows that Supabase refused",
        "supabase/refusals.rs",
        "MAX_REMEMBERED",
        "further ones are judged anew",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::*;
    use crate::ledger::registration::Sender;
    use crate::ledger::{self, Database, LedgerError, conversation, inbound, missing_message, outbox};
    use crate::ledger::{person, refused_message};
    use rusqlite::Connection;

    fn tables(conn: &Connection) -> Result<Vec<String>, LedgerError> {
        let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        let names = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    #[test]
    fn every_table_of_the_ledger_has_a_bound() {
        let named: HashSet<&str> = BOUNDS.iter().map(|bound| bound.what).collect();
        let tables = Database::in_memory().unwrap().read(tables).unwrap();
        let unnamed: Vec<_> = tables
            .iter()
            .filter(|table| !table.starts_with("sqlite_") && !named.contains(table.as_str()))
            .collect();
        assert!(unnamed.is_empty(), "tables without a bound: {unnamed:?}");
    }

    #[test]
    fn every_constant_is_where_the_list_says() {
        for Bound { what, file, constant, .. } in BOUNDS.iter().filter(|bound| !bound.file.is_empty()) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file);
            let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("const {constant}: ")), "{what}: {file} has no {constant}");
        }
    }

    /// So many more rows than the bound allows are put into the table first.
    const MORE: u32 = 3;

    fn fill(tx: &Connection, table: &str, columns: &str, most: u32) -> Result<(), LedgerError> {
        tx.execute(
            &format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
                 INSERT INTO {table} SELECT {columns} FROM n",
                most + MORE
            ),
            [],
        )?;
        Ok(())
    }

    #[test]
    fn a_ledger_that_strangers_have_filled_shrinks_to_its_bounds_and_still_takes_in_a_family() {
        const NOW: i64 = 1_795_410_000;
        let filled = [
            ("inbound_message (chat, sender, id, at)", "'a', 'a', i, 1795410000 - i", inbound::CAPACITY),
            (
                "conversation (chat, updated_at, json)",
                "'62' || i, 1795410000 - i, '{}'",
                conversation::CAPACITY,
            ),
            ("person (phone, seen_at)", "'62' || i, 1795410000 - i", person::CAPACITY),
            (
                "outbox (chat, wa_message_id, text, at, next_attempt_at, failed_at)",
                "'62' || i, i, 'x', 1795410000, 0, 1795410000 - i",
                outbox::MAX_FAILED,
            ),
        ];
        Database::in_memory()
            .unwrap()
            .write_now::<_, LedgerError>(|tx| {
                for (table, columns, most) in filled {
                    fill(tx, table, columns, most)?;
                }
                // These never hold more, not even until the next round.
                for n in 0..missing_message::CAPACITY + MORE {
                    let chat = format!("62{n}@s.whatsapp.net");
                    missing_message::note(
                        tx,
                        &missing_message::Missing {
                            chat: chat.clone(),
                            sender: chat.clone(),
                            id: "M".into(),
                            device: 0,
                            at: NOW,
                            cause: missing_message::Cause::Lost,
                        },
                    )?;
                }
                for n in 0..refused_message::CAPACITY + MORE {
                    refused_message::note(tx, "a", "a", &n.to_string(), "why", NOW)?;
                }
                while ledger::prune(tx, NOW, 35)? > 0 {}
                let rows = |table: &str| -> u32 {
                    tx.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
                };
                for (table, _, most) in filled {
                    let (table, _) = table.split_once(' ').unwrap();
                    assert_eq!(rows(table), most, "{table}");
                }
                assert_eq!(rows("missing_message"), missing_message::CAPACITY);
                assert_eq!(rows("refused_message"), refused_message::CAPACITY);
                // And a family that nobody knows.
                let family = person::recognise(tx, &Sender::lid("100000000000001"), NOW)?;
                assert!(inbound::remember(tx, "100000000000001@lid", "100000000000001@lid", "M", NOW)?);
                conversation::save(tx, family.expose(), "{}", NOW)?;
                let reply = outbox::Reply {
                    kind: outbox::Kind::Guidance,
                    chat: "100000000000001@lid".into(),
                    wa_message_id: "answer".into(),
                    text: "x".into(),
                    at: NOW,
                };
                outbox::enqueue(tx, &reply, NOW, |_, newer| newer.to_owned())?;
                while ledger::prune(tx, NOW, 35)? > 0 {}
                assert!(conversation::load(tx, family.expose())?.is_some());
                assert_eq!(outbox::count(tx)?.waiting, 1);
                Ok(())
            })
            .unwrap();
    }
}
