-- What is durable beside the database: src/ledger/database/redo.rs. Applied once; a change is a new file with
-- the next number.
CREATE TABLE redo_log (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  -- Which log belongs to this file, whatever else lies beside it.
  id BLOB NOT NULL CHECK (length(id) = 16),
  -- Its batches of this number are not in the tables yet.
  generation INTEGER NOT NULL,
  -- What compatibility.oldest is while the log is empty.
  oldest INTEGER NOT NULL
) STRICT;
INSERT INTO redo_log (only, id, generation, oldest) SELECT 1, randomblob(16), 1, oldest FROM compatibility;

-- SQLite says which rows a statement has changed in tables with a rowid alone.
CREATE TABLE by_row (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT;
INSERT INTO by_row (chat, sender, id, at) SELECT chat, sender, id, at FROM inbound_message ORDER BY at;
DROP TABLE inbound_message;
ALTER TABLE by_row RENAME TO inbound_message;
CREATE INDEX inbound_message_by_age ON inbound_message (at);

CREATE TABLE by_row (
  address TEXT NOT NULL PRIMARY KEY,
  public_key BLOB NOT NULL CHECK (length(public_key) = 32)
) STRICT;
INSERT INTO by_row (address, public_key) SELECT address, public_key FROM wa_identity;
DROP TABLE wa_identity;
ALTER TABLE by_row RENAME TO wa_identity;

CREATE TABLE by_row (
  address TEXT NOT NULL,
  message_id TEXT NOT NULL,
  base_key BLOB NOT NULL,
  saved_at INTEGER NOT NULL,
  PRIMARY KEY (address, message_id)
) STRICT;
INSERT INTO by_row (address, message_id, base_key, saved_at)
  SELECT address, message_id, base_key, saved_at FROM wa_base_key ORDER BY saved_at;
DROP TABLE wa_base_key;
ALTER TABLE by_row RENAME TO wa_base_key;

CREATE TABLE by_row (
  user TEXT NOT NULL PRIMARY KEY,
  record TEXT NOT NULL -- JSON of wacore's `DeviceListRecord`
) STRICT;
INSERT INTO by_row (user, record) SELECT user, record FROM wa_device_list;
DROP TABLE wa_device_list;
ALTER TABLE by_row RENAME TO wa_device_list;

CREATE TABLE by_row (
  jid TEXT NOT NULL PRIMARY KEY,
  token BLOB NOT NULL, -- empty: none received yet
  token_timestamp INTEGER NOT NULL,
  sender_timestamp INTEGER
) STRICT;
INSERT INTO by_row (jid, token, token_timestamp, sender_timestamp)
  SELECT jid, token, token_timestamp, sender_timestamp FROM wa_tc_token;
DROP TABLE wa_tc_token;
ALTER TABLE by_row RENAME TO wa_tc_token;

CREATE TABLE by_row (
  chat_jid TEXT NOT NULL,
  message_id TEXT NOT NULL,
  payload BLOB NOT NULL,
  stored_at INTEGER NOT NULL,
  PRIMARY KEY (chat_jid, message_id)
) STRICT;
INSERT INTO by_row (chat_jid, message_id, payload, stored_at)
  SELECT chat_jid, message_id, payload, stored_at FROM wa_sent_message ORDER BY stored_at;
DROP TABLE wa_sent_message;
ALTER TABLE by_row RENAME TO wa_sent_message;

CREATE TABLE by_row (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  message BLOB NOT NULL,
  stored_at INTEGER NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT;
INSERT INTO by_row (chat, sender, id, message, stored_at)
  SELECT chat, sender, id, message, stored_at FROM wa_pending_inbound ORDER BY stored_at;
DROP TABLE wa_pending_inbound;
ALTER TABLE by_row RENAME TO wa_pending_inbound;

CREATE TABLE by_row (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  msg_id TEXT NOT NULL,
  secret BLOB NOT NULL CHECK (length(secret) = 32),
  expires_at INTEGER NOT NULL, -- 0: never
  message_ts INTEGER NOT NULL, -- 0: unknown
  PRIMARY KEY (chat, sender, msg_id)
) STRICT;
INSERT INTO by_row (chat, sender, msg_id, secret, expires_at, message_ts)
  SELECT chat, sender, msg_id, secret, expires_at, message_ts FROM wa_msg_secret ORDER BY message_ts;
DROP TABLE wa_msg_secret;
ALTER TABLE by_row RENAME TO wa_msg_secret;

CREATE TABLE by_row (
  kind TEXT NOT NULL CHECK (kind IN ('user', 'sender_key')),
  name TEXT NOT NULL,
  day INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT;
INSERT INTO by_row (kind, name, day) SELECT kind, name, day FROM wa_use ORDER BY day;
DROP TABLE wa_use;
ALTER TABLE by_row RENAME TO wa_use;
CREATE INDEX wa_use_by_age ON wa_use (day);

CREATE TABLE by_row (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  device INTEGER NOT NULL,
  at INTEGER NOT NULL,
  cause TEXT NOT NULL DEFAULT 'lost' CHECK (cause IN ('lost', 'unreadable')),
  PRIMARY KEY (chat, sender, id)
) STRICT;
INSERT INTO by_row (chat, sender, id, device, at, cause)
  SELECT chat, sender, id, device, at, cause FROM missing_message ORDER BY at;
DROP TABLE missing_message;
ALTER TABLE by_row RENAME TO missing_message;

CREATE TABLE by_row (
  chat TEXT NOT NULL PRIMARY KEY,
  refused_at INTEGER NOT NULL,
  wrote INTEGER NOT NULL DEFAULT 0 CHECK (wrote IN (0, 1, 2)),
  token INTEGER NOT NULL DEFAULT 0 CHECK (token IN (0, 1, 2))
) STRICT;
INSERT INTO by_row (chat, refused_at, wrote, token) SELECT chat, refused_at, wrote, token FROM shut_chat;
DROP TABLE shut_chat;
ALTER TABLE by_row RENAME TO shut_chat;
CREATE INDEX shut_chat_by_age ON shut_chat (refused_at);

CREATE TABLE by_row (
  chat TEXT NOT NULL PRIMARY KEY,
  day INTEGER NOT NULL
) STRICT;
INSERT INTO by_row (chat, day) SELECT chat, day FROM answered_chat ORDER BY day;
DROP TABLE answered_chat;
ALTER TABLE by_row RENAME TO answered_chat;
CREATE INDEX answered_chat_by_age ON answered_chat (day);

CREATE TABLE by_row (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  refused_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT;
INSERT INTO by_row (chat, sender, id, refused_at, reason)
  SELECT chat, sender, id, refused_at, reason FROM refused_message ORDER BY refused_at;
DROP TABLE refused_message;
ALTER TABLE by_row RENAME TO refused_message;
CREATE INDEX refused_message_by_age ON refused_message (refused_at);

CREATE TABLE by_row (
  address TEXT NOT NULL PRIMARY KEY,
  record BLOB NOT NULL
) STRICT;
INSERT INTO by_row (address, record) SELECT address, record FROM wa_sender_key;
DROP TABLE wa_sender_key;
ALTER TABLE by_row RENAME TO wa_sender_key;

CREATE TABLE by_row (
  collection TEXT NOT NULL PRIMARY KEY,
  state TEXT NOT NULL -- JSON of wacore's `HashState`
) STRICT;
INSERT INTO by_row (collection, state) SELECT collection, state FROM wa_app_sync_version;
DROP TABLE wa_app_sync_version;
ALTER TABLE by_row RENAME TO wa_app_sync_version;

CREATE TABLE by_row (
  collection TEXT NOT NULL,
  index_mac BLOB NOT NULL,
  value_mac BLOB NOT NULL,
  PRIMARY KEY (collection, index_mac)
) STRICT;
INSERT INTO by_row (collection, index_mac, value_mac)
  SELECT collection, index_mac, value_mac FROM wa_app_sync_mutation;
DROP TABLE wa_app_sync_mutation;
ALTER TABLE by_row RENAME TO wa_app_sync_mutation;

CREATE TABLE by_row (
  group_jid TEXT NOT NULL,
  device_jid TEXT NOT NULL,
  has_key INTEGER NOT NULL CHECK (has_key IN (0, 1)),
  PRIMARY KEY (group_jid, device_jid)
) STRICT;
INSERT INTO by_row (group_jid, device_jid, has_key)
  SELECT group_jid, device_jid, has_key FROM wa_sender_key_device;
DROP TABLE wa_sender_key_device;
ALTER TABLE by_row RENAME TO wa_sender_key_device;

CREATE TABLE by_row (
  group_jid TEXT NOT NULL PRIMARY KEY,
  body BLOB NOT NULL -- opaque to us
) STRICT;
INSERT INTO by_row (group_jid, body) SELECT group_jid, body FROM wa_group_metadata;
DROP TABLE wa_group_metadata;
ALTER TABLE by_row RENAME TO wa_group_metadata;

CREATE TABLE by_row (
  name TEXT NOT NULL PRIMARY KEY,
  body BLOB NOT NULL,
  kept_at INTEGER NOT NULL
) STRICT;
INSERT INTO by_row (name, body, kept_at) SELECT name, body, kept_at FROM kept_http_answer;
DROP TABLE kept_http_answer;
ALTER TABLE by_row RENAME TO kept_http_answer;

CREATE TABLE by_row (
  host TEXT NOT NULL,
  address TEXT NOT NULL,
  proved_at INTEGER NOT NULL,
  -- The rung of the ladder that gave it.
  source TEXT NOT NULL,
  PRIMARY KEY (host, address)
) STRICT;
INSERT INTO by_row (host, address, proved_at, source)
  SELECT host, address, proved_at, source FROM last_good_address;
DROP TABLE last_good_address;
ALTER TABLE by_row RENAME TO last_good_address;

CREATE TABLE by_row (
  code TEXT NOT NULL PRIMARY KEY,
  raised_at INTEGER NOT NULL
) STRICT;
INSERT INTO by_row (code, raised_at) SELECT code, raised_at FROM alert;
DROP TABLE alert;
ALTER TABLE by_row RENAME TO alert;

CREATE TABLE by_row (
  jid TEXT NOT NULL PRIMARY KEY,
  token BLOB NOT NULL,
  token_timestamp INTEGER NOT NULL
) STRICT;
INSERT INTO by_row (jid, token, token_timestamp) SELECT jid, token, token_timestamp FROM wa_kept_tc_token;
DROP TABLE wa_kept_tc_token;
ALTER TABLE by_row RENAME TO wa_kept_tc_token;
