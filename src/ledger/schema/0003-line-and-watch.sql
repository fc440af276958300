-- What must be known of the line and of the process across restarts. Moments are seconds since 1970
-- UTC by the box's clock, which may be wrong: whoever reads them says what that means.

-- Tries to connect to WhatsApp of the last hour, for the ceiling that no restart resets.
CREATE TABLE connection_attempt (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT;

-- Addresses that a host really had: TLS for its name succeeded there.
CREATE TABLE last_good_address (
  host TEXT NOT NULL,
  address TEXT NOT NULL,
  proved_at INTEGER NOT NULL,
  -- The rung of the ladder that gave it.
  source TEXT NOT NULL,
  PRIMARY KEY (host, address)
) STRICT, WITHOUT ROWID;

-- Starts of the process and how each ended; `ended` is NULL while it runs, and after a power cut.
CREATE TABLE process_start (
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  ended TEXT
) STRICT;

-- Causes that the operator was told of and that have not gone away yet.
CREATE TABLE alert (
  code TEXT NOT NULL PRIMARY KEY,
  raised_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When the operator's phone last gave a sign of life, by WhatsApp's clock.
CREATE TABLE phone_seen (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  at INTEGER NOT NULL
) STRICT;
