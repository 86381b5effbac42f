-- The money model complete: lots of credit that are used in order and may lapse, refunds, budgets, a chart of accounts for each
-- tenant and customer, and a hash chain over the transfers.
--
-- An event may now have up to 4096 transfers (a charge takes from as many lots as it needs), so they are numbered seq * 4096 + place.
-- A transfer names the lot that it takes from or gives to: 0 is the money of no lot, which goes below zero along the credit line.
-- A wallet's posted balance = what remains of its lots + the money of no lot.

---- transfers: new numbers, and the platform's side of an event in accounts of the tenant or customer that it is about

CREATE TABLE transfers_new (
    number INTEGER PRIMARY KEY,
    kind   INTEGER NOT NULL,
    debit  INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    lot    INTEGER NOT NULL -- a grant's seq; 0: none
) STRICT;

INSERT INTO transfers_new (number, kind, debit, credit, amount, lot)
SELECT (t.number >> 3) * 4096 + (t.number & 7), t.kind,
       CASE t.debit WHEN 4 THEN u.tenant * 16 + 4 WHEN 8 THEN u.tenant * 16 + 8
                    WHEN 6 THEN (g.wallet & -16) + CASE g.wallet & 15 WHEN 0 THEN 6 ELSE 12 END
                    WHEN 7 THEN (g.wallet & -16) + CASE g.wallet & 15 WHEN 0 THEN 7 ELSE 13 END ELSE t.debit END,
       CASE t.credit WHEN 6 THEN (g.wallet & -16) + CASE g.wallet & 15 WHEN 0 THEN 6 ELSE 12 END
                     WHEN 7 THEN (g.wallet & -16) + CASE g.wallet & 15 WHEN 0 THEN 7 ELSE 13 END ELSE t.credit END,
       t.amount, CASE t.kind WHEN 3 THEN t.number >> 3 ELSE 0 END
FROM transfers t LEFT JOIN usage u ON u.seq = t.number >> 3 LEFT JOIN grants g ON g.seq = t.number >> 3
ORDER BY t.number;

DROP VIEW ledger;
DROP TABLE transfers;
ALTER TABLE transfers_new RENAME TO transfers;

DELETE FROM accounts WHERE row IN (4, 6, 7, 8);
INSERT INTO accounts (row, posted, held)
SELECT account, sum(amount), 0 FROM (
    SELECT debit AS account, -amount AS amount FROM transfers WHERE debit & 15 IN (4, 6, 7, 8, 12, 13) UNION ALL
    SELECT credit, amount FROM transfers WHERE credit & 15 IN (4, 6, 7, 8, 12, 13))
GROUP BY account;

---- events that are neither a usage record nor a grant

CREATE TABLE entries (
    seq        INTEGER PRIMARY KEY,
    kind       INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4), -- adjustment, refund, lapse, withdrawal, settlement
    wallet     INTEGER NOT NULL, -- an account
    reference  INTEGER NOT NULL, -- refund: the usage record; lapse, withdrawal: the grant; else 0
    amount     INTEGER NOT NULL CHECK (amount > 0), -- of its transfers in all
    note       TEXT,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX entries_wallet ON entries (wallet);
CREATE INDEX entries_refunds ON entries (reference) WHERE kind = 1;

INSERT INTO entries (seq, kind, wallet, reference, amount, note, created_ms)
SELECT seq, 0, wallet, 0, -amount, note, created_ms FROM grants WHERE amount < 0;

---- lots. What was used before lots were told apart is taken from them in their order, down to what is not held now.

CREATE TABLE grants_new (
    seq        INTEGER PRIMARY KEY,
    wallet     INTEGER NOT NULL, -- an account
    amount     INTEGER NOT NULL CHECK (amount > 0),
    remaining  INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND amount),
    category   INTEGER NOT NULL CHECK (category IN (0, 1)),
    priority   INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 100),
    expires_at INTEGER,
    status     INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2), -- live, lapsed, withdrawn
    note       TEXT,
    created_ms INTEGER NOT NULL
) STRICT;

INSERT INTO grants_new (seq, wallet, amount, remaining, category, priority, expires_at, status, note, created_ms)
SELECT g.seq, g.wallet, g.amount, g.amount - max(0, min(g.amount, g.total - a.posted + a.held - g.earlier)), g.category, g.priority,
       g.expires_at, 0, g.note, g.created_ms
FROM (SELECT *, sum(amount) OVER (PARTITION BY wallet) AS total,
             coalesce(sum(amount) OVER (PARTITION BY wallet ORDER BY priority, coalesce(expires_at, 9223372036854775807), category DESC, seq
                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier
      FROM grants WHERE amount > 0) g
JOIN accounts a ON a.row = g.wallet
ORDER BY g.seq;

DROP TABLE grants;
ALTER TABLE grants_new RENAME TO grants;
CREATE INDEX grants_wallet ON grants (wallet);

INSERT INTO entries (seq, kind, wallet, reference, amount, note, created_ms)
SELECT last.seq + row_number() OVER (ORDER BY g.seq), 4, g.wallet, g.seq, g.amount - g.remaining, NULL,
       max(last.created_ms, unixepoch() * 1000)
FROM grants g, (SELECT max(seq) AS seq, max(created_ms) AS created_ms FROM
                (SELECT seq, created_ms FROM usage UNION ALL SELECT seq, created_ms FROM grants UNION ALL
                 SELECT seq, created_ms FROM entries)) last
WHERE g.remaining < g.amount;

INSERT INTO transfers (number, kind, debit, credit, amount, lot)
SELECT seq * 4096, 8, wallet, wallet, amount, reference FROM entries WHERE kind = 4;
UPDATE entries SET reference = 0 WHERE kind = 4;

---- what holds keep of lots

ALTER TABLE holds ADD COLUMN tenant_lot INTEGER NOT NULL DEFAULT 0;   -- the lot that bears the whole leg; -1: see hold_pins
ALTER TABLE holds ADD COLUMN customer_lot INTEGER NOT NULL DEFAULT 0;

CREATE TABLE hold_pins (
    slot   INTEGER NOT NULL, -- of holds
    leg    INTEGER NOT NULL CHECK (leg IN (0, 1)),
    place  INTEGER NOT NULL,
    lot    INTEGER NOT NULL, -- 0: the money of no lot
    amount INTEGER NOT NULL CHECK (amount > 0),
    PRIMARY KEY (slot, leg, place)
) STRICT, WITHOUT ROWID;

---- budgets: what was charged in the windows that count now

CREATE TABLE budget_cells (
    owner     INTEGER NOT NULL, -- row * 4 + kind: 0 tenant, 1 customer, 2 key
    window    INTEGER NOT NULL, -- seconds of a rolling window; 0 lifetime, -1 day, -2 week, -3 month
    place     INTEGER NOT NULL, -- a rolling window's cells lie in a ring; else 0
    begin     INTEGER NOT NULL, -- microseconds
    end       INTEGER NOT NULL,
    used      INTEGER NOT NULL CHECK (used >= 0),
    estimated INTEGER NOT NULL CHECK (estimated IN (0, 1)), -- 1: put here from the roll-ups when the budget was made
    PRIMARY KEY (owner, window, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX rollups_tenant ON rollups (tenant, hour);

---- the chain: hash of an event's transfers and of the hash before it. A row for every 4096 events, the last one moves on.
---- Row -1 says after which transfer the chain begins.

CREATE TABLE chain (
    place INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL, -- number of the last transfer that is in <hash>
    hash  BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO chain (place, last, hash) SELECT -1, coalesce(max(number), 0), zeroblob(32) FROM transfers;

---- for people with a shell

CREATE VIEW ledger AS
SELECT t.number,
       CASE t.kind WHEN 0 THEN 'cost' WHEN 1 THEN 'charge' WHEN 2 THEN 'retail_charge' WHEN 3 THEN 'credit'
                   WHEN 4 THEN 'adjustment' WHEN 5 THEN 'loss' WHEN 6 THEN 'overage' WHEN 7 THEN 'retail_overage'
                   WHEN 8 THEN 'settlement' WHEN 9 THEN 'lapse' WHEN 10 THEN 'withdrawal' WHEN 11 THEN 'refund'
                   WHEN 12 THEN 'overage_refund' END AS kind,
       t.debit, t.credit, t.amount, t.lot, t.number >> 12 AS seq,
       coalesce(u.created_ms, g.created_ms, e.created_ms) AS created_ms, u.request
FROM transfers t
LEFT JOIN usage u ON u.seq = t.number >> 12
LEFT JOIN grants g ON g.seq = t.number >> 12
LEFT JOIN entries e ON e.seq = t.number >> 12;
