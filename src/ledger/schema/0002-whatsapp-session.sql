-- Tables of src/whatsapp/session_store: what WhatsApp's protocol must find again after a restart.
-- Signal addresses are "user@server" or "user:device@server"; times are Unix seconds.
-- Applied once; a change is a new file with the next number.

-- The linked device itself: JSON of wacore's `Device`, private keys included.
CREATE TABLE wa_device (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    format INTEGER NOT NULL, -- layout of body
    writer TEXT NOT NULL,    -- version of the bot that wrote it
    body TEXT NOT NULL
) STRICT;

-- Device rows that were set aside. To take one back after a false "logged out": stop the bot, then
-- INSERT OR REPLACE INTO wa_device SELECT 1, format, writer, body FROM wa_retired_device WHERE no = ...
CREATE TABLE wa_retired_device (
    no INTEGER PRIMARY KEY,
    set_aside_at INTEGER NOT NULL,
    format INTEGER NOT NULL,
    writer TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Signal

CREATE TABLE wa_identity (
    address TEXT PRIMARY KEY,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32)
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_session (
    address TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_prekey (
    id INTEGER PRIMARY KEY,
    record BLOB NOT NULL,
    uploaded INTEGER NOT NULL CHECK (uploaded IN (0, 1))
) STRICT;

CREATE TABLE wa_signed_prekey (
    id INTEGER PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;

CREATE TABLE wa_sender_key (
    address TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- App state

-- put_no grows with every put, so the highest is the key stored last.
CREATE TABLE wa_app_sync_key (
    put_no INTEGER PRIMARY KEY,
    key_id BLOB NOT NULL UNIQUE,
    key_data BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    timestamp INTEGER NOT NULL
) STRICT;

CREATE TABLE wa_app_sync_version (
    collection TEXT PRIMARY KEY,
    state TEXT NOT NULL -- JSON of wacore's `HashState`
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_app_sync_mutation (
    collection TEXT NOT NULL,
    index_mac BLOB NOT NULL,
    value_mac BLOB NOT NULL,
    PRIMARY KEY (collection, index_mac)
) STRICT, WITHOUT ROWID;

-- Chats and contacts

CREATE TABLE wa_sender_key_device (
    group_jid TEXT NOT NULL,
    device_jid TEXT NOT NULL,
    has_key INTEGER NOT NULL CHECK (has_key IN (0, 1)),
    PRIMARY KEY (group_jid, device_jid)
) STRICT, WITHOUT ROWID;

-- put_no orders mappings of one phone number that were learned in the same second.
CREATE TABLE wa_lid_mapping (
    put_no INTEGER PRIMARY KEY,
    lid TEXT NOT NULL UNIQUE,
    phone_number TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    learning_source TEXT NOT NULL
) STRICT;
CREATE INDEX wa_lid_mapping_phone_number ON wa_lid_mapping (phone_number, updated_at);

CREATE TABLE wa_base_key (
    address TEXT NOT NULL,
    message_id TEXT NOT NULL,
    base_key BLOB NOT NULL,
    saved_at INTEGER NOT NULL,
    PRIMARY KEY (address, message_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_device_list (
    user TEXT PRIMARY KEY,
    record TEXT NOT NULL -- JSON of wacore's `DeviceListRecord`
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_group_metadata (
    group_jid TEXT PRIMARY KEY,
    body BLOB NOT NULL -- opaque to us
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_tc_token (
    jid TEXT PRIMARY KEY,
    token BLOB NOT NULL, -- empty: none received yet
    token_timestamp INTEGER NOT NULL,
    sender_timestamp INTEGER
) STRICT, WITHOUT ROWID;

-- Messages

CREATE TABLE wa_sent_message (
    chat_jid TEXT NOT NULL,
    message_id TEXT NOT NULL,
    payload BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (chat_jid, message_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_pending_inbound (
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    id TEXT NOT NULL,
    message BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    PRIMARY KEY (chat, sender, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE wa_msg_secret (
    chat TEXT NOT NULL,
    sender TEXT NOT NULL,
    msg_id TEXT NOT NULL,
    secret BLOB NOT NULL CHECK (length(secret) = 32),
    expires_at INTEGER NOT NULL, -- 0: never
    message_ts INTEGER NOT NULL, -- 0: unknown
    PRIMARY KEY (chat, sender, msg_id)
) STRICT, WITHOUT ROWID;

-- Last good HTTP answers; no part of the session.
CREATE TABLE kept_http_answer (
    name TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
