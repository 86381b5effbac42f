-- The audit trail as a chain: from where something was done, which tenant it is about, and a hash over the entry and the hash
-- before it. Entries are numbered without gaps; none is changed or taken away.

ALTER TABLE audit ADD COLUMN tenant INTEGER; -- its row; NULL: the platform's alone
ALTER TABLE audit ADD COLUMN peer TEXT;      -- the client's address; NULL: a command on this machine
ALTER TABLE audit ADD COLUMN hash BLOB CHECK (hash IS NULL OR length(hash) = 32); -- NULL: from before the chain began

CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_tenant ON audit (tenant) WHERE tenant IS NOT NULL;
CREATE INDEX audit_object ON audit (object);

CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is only added to'); END;
CREATE TRIGGER audit_holds BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit trail is only added to'); END;

-- Both ends of the chain: entries up to 0's are not in it, and 1's is the newest.
CREATE TABLE audit_chain (
    place INTEGER PRIMARY KEY CHECK (place IN (0, 1)),
    seq   INTEGER NOT NULL,
    hash  BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_chain (place, seq, hash) SELECT 0, coalesce(max(seq), 0), zeroblob(32) FROM audit;
INSERT INTO audit_chain (place, seq, hash) SELECT 1, coalesce(max(seq), 0), zeroblob(32) FROM audit;
