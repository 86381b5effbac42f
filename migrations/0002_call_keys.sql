-- Idempotency-Keys of customers' calls: what each was used for. A row is written with the hold, goes when the hold is
-- voided, and stays for the configured time after the hold has ended with a usage record.

CREATE TABLE call_keys (
    row         INTEGER PRIMARY KEY,
    api_key     INTEGER NOT NULL, -- whose it is: a row of keys
    text        TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32), -- of the request
    request     BLOB NOT NULL CHECK (length(request) = 16),     -- the hold's id
    usage       INTEGER,          -- the usage record that ended the hold; NULL: it is open or in doubt
    at_ms       INTEGER NOT NULL  -- when the hold ended, until then when it began
) STRICT;
CREATE UNIQUE INDEX call_keys_text ON call_keys (api_key, text);
CREATE INDEX call_keys_ended ON call_keys (at_ms) WHERE usage IS NOT NULL;

ALTER TABLE holds ADD COLUMN call_key INTEGER NOT NULL DEFAULT 0; -- a row of call_keys; 0: the call had no key
