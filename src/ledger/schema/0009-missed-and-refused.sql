-- Messages that could not be decrypted are missed too: whatsapp-rust has asked for them, and the customer is
-- asked when they do not come.
ALTER TABLE missing_message ADD COLUMN cause TEXT NOT NULL DEFAULT 'lost'
  CHECK (cause IN ('lost', 'unreadable'));

-- Messages that the ledger refused for a reason that no repetition cures, and that were acknowledged.
CREATE TABLE refused_message (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  refused_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX refused_message_by_age ON refused_message (refused_at);
