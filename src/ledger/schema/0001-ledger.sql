-- The ledger's own tables. Applied once; a change is a new file with the next number.
-- Moments are seconds since 1970 UTC, days are 'YYYY-MM-DD' in Jakarta.

-- Messages that were processed. WhatsApp delivers at least once; this makes it exactly once.
CREATE TABLE inbound_message (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX inbound_message_by_age ON inbound_message (at);

-- Where each conversation stands. No index on updated_at: the table is small, and an index would
-- cost one more page of flash per message. updated_at stands before json so that looking for old
-- rows does not read the overflow pages of long ones.
CREATE TABLE conversation (
  chat TEXT NOT NULL PRIMARY KEY,
  updated_at INTEGER NOT NULL,
  json TEXT NOT NULL
) STRICT;

-- Registered people, and how far each row is on its way to Supabase.
CREATE TABLE registration (
  id INTEGER PRIMARY KEY,
  row_key BLOB NOT NULL UNIQUE CHECK (length(row_key) = 16),
  day TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  sender TEXT NOT NULL,
  sender_name TEXT,
  message_id TEXT NOT NULL,
  message_index INTEGER NOT NULL,
  nama TEXT NOT NULL,
  name_canonical TEXT NOT NULL,
  no_kjp TEXT NOT NULL,
  jenis_kartu TEXT,
  jenis_kartu_sumber TEXT,
  no_ktp TEXT NOT NULL,
  no_kk TEXT NOT NULL,
  tanggal_lahir TEXT,
  lokasi TEXT NOT NULL,
  sync_state TEXT NOT NULL DEFAULT 'pending'
    CHECK (sync_state IN ('pending', 'confirmed', 'duplicate', 'parked')),
  -- duplicate: the field that clashes; parked: why the server refuses the row.
  sync_detail TEXT,
  -- When Supabase's verdict came.
  sync_at INTEGER,
  UNIQUE (day, no_kjp),
  UNIQUE (day, no_ktp),
  UNIQUE (day, sender, name_canonical)
) STRICT;

CREATE INDEX registration_pending ON registration (id) WHERE sync_state = 'pending';

-- Replies that WhatsApp has not accepted yet.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  chat TEXT NOT NULL,
  wa_message_id TEXT NOT NULL UNIQUE,
  text TEXT NOT NULL,
  at INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_attempt_at INTEGER NOT NULL,
  -- Set when the bot gave up; such rows stay for the operator to see.
  failed_at INTEGER,
  failed_reason TEXT
) STRICT;

CREATE INDEX outbox_waiting ON outbox (chat, id) WHERE failed_at IS NULL;
CREATE INDEX outbox_failed ON outbox (failed_at) WHERE failed_at IS NOT NULL;
