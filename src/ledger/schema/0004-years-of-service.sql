-- What a box needs that runs for years: updates that can be taken back, restarts with their causes, a
-- time to begin with, and the age of what would else be kept for ever.

-- The oldest schema whose program can still work with this file. A migration that only adds things
-- leaves the number alone; one that an older program would stumble over sets it to its own number.
CREATE TABLE compatibility (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  oldest INTEGER NOT NULL
) STRICT;
INSERT INTO compatibility (only, oldest) VALUES (1, 4);

-- The latest time that is known to have been, in seconds since 1970 UTC by WhatsApp's clock.
CREATE TABLE known_time (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  at INTEGER NOT NULL
) STRICT;

-- The kernel's id of the boot, the program's version, and why the process before this one ended.
ALTER TABLE process_start ADD COLUMN boot TEXT;
ALTER TABLE process_start ADD COLUMN version TEXT;
ALTER TABLE process_start ADD COLUMN cause TEXT;

-- Rows that may be forgotten when they are old, found without looking at those that may not.
CREATE INDEX registration_delivered ON registration (id) WHERE sync_state IN ('confirmed', 'duplicate');

-- The day (since 1970) on which something of the WhatsApp session that belongs to a person or a group
-- was last written. A table of its own, written once a day for each: a column in the rows themselves
-- would need an index, and with it another page of flash per message.
CREATE TABLE wa_use (
  kind TEXT NOT NULL CHECK (kind IN ('user', 'sender_key')),
  name TEXT NOT NULL,
  day INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX wa_use_by_age ON wa_use (day);

-- What is there already counts as used when the last message came.
CREATE TEMP TABLE today AS SELECT coalesce((SELECT max(at) FROM inbound_message), unixepoch()) / 86400 AS day;
INSERT OR IGNORE INTO wa_use SELECT 'user', substr(address, 1, instr(replace(address, ':', '@'), '@') - 1), day
  FROM wa_session, today WHERE address GLOB '*[:@]*';
INSERT OR IGNORE INTO wa_use SELECT 'user', substr(address, 1, instr(replace(address, ':', '@'), '@') - 1), day
  FROM wa_identity, today WHERE address GLOB '*[:@]*';
INSERT OR IGNORE INTO wa_use SELECT 'user', user, day FROM wa_device_list, today;
INSERT OR IGNORE INTO wa_use SELECT 'sender_key', address, day FROM wa_sender_key, today;
DROP TABLE today;
