-- Messages that were decrypted and lost before they were durable: the phone of their sender is asked for
-- them once more. A row goes when the message comes, or when the customer was asked instead.
CREATE TABLE missing_message (
  chat TEXT NOT NULL,
  sender TEXT NOT NULL,
  id TEXT NOT NULL,
  device INTEGER NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (chat, sender, id)
) STRICT, WITHOUT ROWID;
