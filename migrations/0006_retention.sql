-- Retention: usage records go after their time; what the ledger needs of them stays.
--
-- A record is in `usage` or in `pruned`, never in both. What is kept says whose it was, what was charged, and which roll-up
-- it is part of; quantities, times and upstream ids are in the archive. About half of a record's bytes.

CREATE TABLE pruned (
    seq        INTEGER PRIMARY KEY, -- all as in usage
    request    BLOB NOT NULL,
    tenant     INTEGER NOT NULL,
    customer   INTEGER NOT NULL,
    key        INTEGER NOT NULL,
    channel    INTEGER NOT NULL,
    item       INTEGER NOT NULL,
    cost       INTEGER NOT NULL,
    wholesale  INTEGER NOT NULL,
    retail     INTEGER,
    refunded   INTEGER NOT NULL,
    flags      INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX pruned_tenant ON pruned (tenant);

---- for people with a shell

DROP VIEW ledger;
CREATE VIEW ledger AS
SELECT t.number,
       CASE t.kind WHEN 0 THEN 'cost' WHEN 1 THEN 'charge' WHEN 2 THEN 'retail_charge' WHEN 3 THEN 'credit'
                   WHEN 4 THEN 'adjustment' WHEN 5 THEN 'loss' WHEN 6 THEN 'overage' WHEN 7 THEN 'retail_overage'
                   WHEN 8 THEN 'settlement' WHEN 9 THEN 'lapse' WHEN 10 THEN 'withdrawal' WHEN 11 THEN 'refund'
                   WHEN 12 THEN 'overage_refund' END AS kind,
       t.debit, t.credit, t.amount, t.lot, t.number >> 12 AS seq,
       coalesce(u.created_ms, p.created_ms, g.created_ms, e.created_ms) AS created_ms, coalesce(u.request, p.request) AS request
FROM transfers t
LEFT JOIN usage u ON u.seq = t.number >> 12
LEFT JOIN pruned p ON p.seq = t.number >> 12
LEFT JOIN grants g ON g.seq = t.number >> 12
LEFT JOIN entries e ON e.seq = t.number >> 12;
