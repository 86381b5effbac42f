-- API keys by the million: rotation with a grace, last use, and an index for every way to list and search them.
--
-- Lists are newest first, by row. Each index below ends in the row, so that a page of one status (and, of keys, one mode) of an
-- owner is a range of it; a page of several is merged from one range each.

ALTER TABLE keys ADD COLUMN old_digest BLOB CHECK (old_digest IS NULL OR length(old_digest) = 32); -- of the secret before the last rotation
ALTER TABLE keys ADD COLUMN old_until INTEGER;    -- until when that one works, too
ALTER TABLE keys ADD COLUMN last_used_at INTEGER; -- written lazily
ALTER TABLE admin_tokens ADD COLUMN last_used_at INTEGER;

DROP INDEX keys_tenant;
DROP INDEX keys_customer;
CREATE INDEX keys_status ON keys (status, test);
CREATE INDEX keys_tenant ON keys (tenant, status, test);
CREATE INDEX keys_customer ON keys (customer, status, test) WHERE customer IS NOT NULL;
CREATE INDEX keys_prefix ON keys (test, prefix, status, tenant, customer); -- a search by few digits never leaves it
CREATE INDEX keys_last4 ON keys (last4);
CREATE INDEX keys_named ON keys (external_id) WHERE external_id IS NOT NULL; -- revoked ones, too
CREATE INDEX keys_budgets ON keys (tenant, customer) WHERE budgets IS NOT NULL;

DROP INDEX customers_tenant;
CREATE INDEX customers_status ON customers (status);
CREATE INDEX customers_tenant ON customers (tenant, status);
CREATE INDEX tenants_status ON tenants (status);

---- price books of tenants

ALTER TABLE price_books ADD COLUMN tenant INTEGER REFERENCES tenants (row); -- whose it is; NULL: the platform's

DROP INDEX price_books_name;
DROP INDEX price_books_external_id;
CREATE UNIQUE INDEX price_books_name ON price_books (name, coalesce(tenant, 0)) WHERE status <> 4;
CREATE UNIQUE INDEX price_books_external_id ON price_books (external_id, coalesce(tenant, 0))
    WHERE external_id IS NOT NULL AND status <> 4;
