-- Who is who: WhatsApp knows a person by a phone number, by an anonymous id (LID), or by both. What belongs
-- to a person is kept under the phone number, or under '<digits>@lid' while that is all that is known.
CREATE TABLE person (
  id INTEGER PRIMARY KEY,
  phone TEXT UNIQUE,
  -- Digits only.
  lid TEXT UNIQUE,
  -- When they wrote last, to the day.
  seen_at INTEGER NOT NULL,
  -- When they were asked last to send a message again that nobody could read.
  asked_again_at INTEGER,
  CHECK (phone IS NOT NULL OR lid IS NOT NULL)
) STRICT;
CREATE INDEX person_by_age ON person (seen_at);

-- What was learned of a LID after its person had written: the newer conversation stays, and rows follow. A
-- name that one person registered twice on a day under two addresses keeps both its rows.
CREATE TEMP TABLE now_known AS
  SELECT lid || '@lid' AS before, phone_number AS phone FROM wa_lid_mapping ORDER BY put_no;
DELETE FROM conversation WHERE EXISTS
  (SELECT 1 FROM now_known JOIN conversation AS twin ON twin.chat = now_known.phone
   WHERE now_known.before = conversation.chat AND twin.updated_at >= conversation.updated_at);
UPDATE OR REPLACE conversation SET chat = (SELECT phone FROM now_known WHERE before = conversation.chat)
  WHERE chat IN (SELECT before FROM now_known);
UPDATE OR IGNORE registration SET sender = (SELECT phone FROM now_known WHERE before = registration.sender)
  WHERE sender IN (SELECT before FROM now_known);
UPDATE registration SET sender = (SELECT phone FROM now_known WHERE before = registration.sender),
    name_canonical = name_canonical || ' #' || id
  WHERE sender IN (SELECT before FROM now_known);
DROP TABLE now_known;

-- The latest LID of a number, as whatsapp-rust takes it.
INSERT OR IGNORE INTO person (phone, lid, seen_at)
  SELECT key, (SELECT lid FROM wa_lid_mapping WHERE phone_number = key ORDER BY updated_at DESC, put_no DESC LIMIT 1),
    max(at)
  FROM (SELECT chat AS key, updated_at AS at FROM conversation UNION ALL SELECT sender, received_at FROM registration)
  WHERE key NOT LIKE '%@lid' GROUP BY key;
INSERT OR IGNORE INTO person (lid, seen_at)
  SELECT substr(key, 1, length(key) - 4), max(at)
  FROM (SELECT chat AS key, updated_at AS at FROM conversation UNION ALL SELECT sender, received_at FROM registration)
  WHERE key LIKE '%@lid' GROUP BY key;
