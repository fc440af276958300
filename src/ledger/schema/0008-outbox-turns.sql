-- Chats take turns, and what a chat need not be told any more makes room.

-- 'guidance' (menus, guides, lists: can be asked for again), 'verdict' (what became of what somebody sent:
-- never dropped), 'alert' (to the operator). What is there already must not be dropped.
ALTER TABLE outbox ADD COLUMN kind TEXT NOT NULL DEFAULT 'verdict';
-- The chat whose number is the smallest is the next; all replies of a chat have the same. Alerts have 0.
ALTER TABLE outbox ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
-- Since when its chat has waited, in seconds since 1970 UTC.
ALTER TABLE outbox ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
-- 1 once it may have been handed to WhatsApp, also if the attempt was taken back: its text and its id then
-- belong together for ever.
ALTER TABLE outbox ADD COLUMN tried INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET since = at, tried = 1,
  turn = (SELECT min(id) FROM outbox AS first WHERE first.chat = outbox.chat AND first.failed_at IS NULL)
  WHERE failed_at IS NULL;
UPDATE outbox SET kind = 'alert', turn = 0 WHERE wa_message_id GLOB '3EB0A1E7*';

-- Has all that counting and finding the next needs, so that no text is read for that.
CREATE INDEX outbox_turn ON outbox (turn, chat, kind, since, parked_at) WHERE failed_at IS NULL;
