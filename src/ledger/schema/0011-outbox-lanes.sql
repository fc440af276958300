-- Who wrote little since their last answer does not wait behind all who wrote much.

-- Messages that a reply answers: one, and those of the replies whose place it took.
ALTER TABLE outbox ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;
-- 1 for chats that wrote much since their last answer; all replies of a chat have the same.
ALTER TABLE outbox ADD COLUMN lane INTEGER NOT NULL DEFAULT 0 CHECK (lane IN (0, 1));

DROP INDEX outbox_turn;
-- Has all that counting and finding the next of a lane needs, so that no text is read for that.
CREATE INDEX outbox_turn ON outbox (lane, turn, chat, kind, since, parked_at) WHERE failed_at IS NULL;
