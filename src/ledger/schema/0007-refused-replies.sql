-- Replies that WhatsApp does not take now: what they wait for, and what WhatsApp says of the account.
-- Moments are seconds since 1970 UTC.

-- Since when a reply waits for something else than the time of its next attempt.
ALTER TABLE outbox ADD COLUMN parked_at INTEGER;
-- How often WhatsApp took it although the recipient's phone could not have read it.
ALTER TABLE outbox ADD COLUMN unkeyed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX outbox_parked ON outbox (chat) WHERE parked_at IS NOT NULL AND failed_at IS NULL;

-- Chats to which WhatsApp lets this account write nothing. wrote and token: 0 until the person has written
-- again or a token of theirs has come, 1 while one more attempt is due for that, 2 when it was refused too.
CREATE TABLE shut_chat (
  chat TEXT NOT NULL PRIMARY KEY,
  refused_at INTEGER NOT NULL,
  wrote INTEGER NOT NULL DEFAULT 0 CHECK (wrote IN (0, 1, 2)),
  token INTEGER NOT NULL DEFAULT 0 CHECK (token IN (0, 1, 2))
) STRICT, WITHOUT ROWID;
CREATE INDEX shut_chat_by_age ON shut_chat (refused_at);

-- Chats that have got a reply, with the day (since 1970) on which that was last written down.
CREATE TABLE answered_chat (
  chat TEXT NOT NULL PRIMARY KEY,
  day INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answered_chat_by_age ON answered_chat (day);
INSERT INTO answered_chat SELECT chat, max(at) / 86400 FROM inbound_message GROUP BY chat;

-- WhatsApp's lock on new chats, as far as it has told, and until when first replies pause.
CREATE TABLE reachout_lock (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  asked_at INTEGER,
  active INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
  kind TEXT,
  ends_at INTEGER,
  paused_until INTEGER
) STRICT;
INSERT INTO reachout_lock (only) VALUES (1);

-- Tokens of contacts, and the salt for others, of the session that was set aside last: they belong to its
-- phone number and go to the next session of the same number.
CREATE TABLE wa_kept_session (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  phone_number TEXT NOT NULL,
  nct_salt BLOB
) STRICT;
CREATE TABLE wa_kept_tc_token (
  jid TEXT NOT NULL PRIMARY KEY,
  token BLOB NOT NULL,
  token_timestamp INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
