-- Records of some hundred bytes: without a rowid each would lie on an overflow page of its own, beside the
-- page with its key, and both are written at every message. Applied once; a change is a new file with the
-- next number.
CREATE TABLE wa_session_by_row (
    address TEXT PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;
INSERT INTO wa_session_by_row (address, record) SELECT address, record FROM wa_session;
DROP TABLE wa_session;
ALTER TABLE wa_session_by_row RENAME TO wa_session;
