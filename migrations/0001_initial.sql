-- The whole vocabulary. Times of entities are wall microseconds; of events (usage, grants) wall milliseconds, in *_ms columns.
-- Amounts are nano-dollars, rates pico-dollars a unit. `row` is the store's own number, `id` (16 bytes) what the outside sees.
--
-- Usage records and grants are events: each takes the next number of one sequence (`seq`). The transfers of an event are
-- numbered seq * 8 + place, so that neither needs a column or an index to find the other, and a transfer's time and
-- reason are its event's. Rows of finished requests are the bulk of the file: integers 0 and 1 take no byte in a row.

PRAGMA application_id = 0x544c4754; -- "TLGT"

CREATE TABLE migrations (
    name       TEXT PRIMARY KEY,
    checksum   BLOB NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

---- prices

CREATE TABLE price_books (
    row         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version     INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    name        TEXT NOT NULL,
    external_id TEXT,
    kind        INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 2)
) STRICT;
CREATE UNIQUE INDEX price_books_name ON price_books (name) WHERE status <> 4;
CREATE UNIQUE INDEX price_books_external_id ON price_books (external_id) WHERE external_id IS NOT NULL AND status <> 4;

CREATE TABLE price_versions (
    row            INTEGER PRIMARY KEY,
    id             BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    book           INTEGER NOT NULL REFERENCES price_books (row),
    effective_from INTEGER NOT NULL,
    created_at     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX price_versions_effective_from ON price_versions (book, effective_from);

CREATE TABLE price_rates (
    version   INTEGER NOT NULL REFERENCES price_versions (row),
    model     TEXT NOT NULL,
    operation INTEGER NOT NULL,
    size      TEXT NOT NULL,
    quality   TEXT NOT NULL,
    unit      INTEGER NOT NULL,
    pico      INTEGER NOT NULL CHECK (pico >= 0),
    PRIMARY KEY (version, model, operation, size, quality, unit)
) STRICT, WITHOUT ROWID;

---- who is served

CREATE TABLE tenants (
    row          INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version      INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    name         TEXT NOT NULL,
    external_id  TEXT,
    timezone     TEXT NOT NULL,
    credit_limit INTEGER NOT NULL CHECK (credit_limit >= 0),
    price_book   INTEGER REFERENCES price_books (row),
    markup_ppm   INTEGER NOT NULL,
    in_doubt     INTEGER,
    policy       TEXT,
    limits       TEXT,
    budgets      TEXT
) STRICT;
CREATE UNIQUE INDEX tenants_external_id ON tenants (external_id) WHERE external_id IS NOT NULL AND status <> 4;

CREATE TABLE customers (
    row          INTEGER PRIMARY KEY,
    id           BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version      INTEGER NOT NULL,
    status       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    name         TEXT NOT NULL,
    external_id  TEXT,
    tenant       INTEGER NOT NULL REFERENCES tenants (row),
    own_wallet   INTEGER NOT NULL CHECK (own_wallet IN (0, 1)),
    credit_limit INTEGER NOT NULL CHECK (credit_limit >= 0),
    price_book   INTEGER REFERENCES price_books (row),
    markup_ppm   INTEGER NOT NULL,
    policy       TEXT,
    limits       TEXT,
    budgets      TEXT
) STRICT;
CREATE INDEX customers_tenant ON customers (tenant);
CREATE UNIQUE INDEX customers_external_id ON customers (external_id, tenant) WHERE external_id IS NOT NULL AND status <> 4;

CREATE TABLE keys (
    row         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version     INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    name        TEXT NOT NULL,
    external_id TEXT,
    tenant      INTEGER NOT NULL REFERENCES tenants (row),
    customer    INTEGER REFERENCES customers (row),
    digest      BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    prefix      TEXT NOT NULL,
    last4       TEXT NOT NULL,
    test        INTEGER NOT NULL CHECK (test IN (0, 1)),
    expires_at  INTEGER,
    policy      TEXT,
    limits      TEXT,
    budgets     TEXT
) STRICT;
CREATE INDEX keys_tenant ON keys (tenant);
CREATE INDEX keys_customer ON keys (customer) WHERE customer IS NOT NULL;
CREATE UNIQUE INDEX keys_external_id ON keys (external_id, tenant) WHERE external_id IS NOT NULL AND status NOT IN (3, 4);

CREATE TABLE admin_tokens (
    row         INTEGER PRIMARY KEY,
    id          BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version     INTEGER NOT NULL,
    status      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    name        TEXT NOT NULL,
    external_id TEXT,
    tenant      INTEGER REFERENCES tenants (row),
    role        INTEGER NOT NULL,
    digest      BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    expires_at  INTEGER
) STRICT;

---- who serves

CREATE TABLE channels (
    row             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    version         INTEGER NOT NULL,
    status          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    name            TEXT NOT NULL,
    external_id     TEXT,
    kind            INTEGER NOT NULL,
    base_url        TEXT NOT NULL,
    credential      BLOB, -- sealed, bound to the id
    priority        INTEGER NOT NULL,
    weight          INTEGER NOT NULL,
    max_concurrency INTEGER NOT NULL,
    timeout         INTEGER NOT NULL,
    cost_book       INTEGER REFERENCES price_books (row),
    api_version     TEXT
) STRICT;
CREATE UNIQUE INDEX channels_name ON channels (name) WHERE status <> 4;
CREATE UNIQUE INDEX channels_external_id ON channels (external_id) WHERE external_id IS NOT NULL AND status <> 4;

CREATE TABLE channel_models (
    channel  INTEGER NOT NULL REFERENCES channels (row),
    place    INTEGER NOT NULL,
    name     TEXT NOT NULL,
    upstream TEXT NOT NULL,
    PRIMARY KEY (channel, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE channel_tenants (
    channel INTEGER NOT NULL REFERENCES channels (row),
    place   INTEGER NOT NULL,
    tenant  INTEGER NOT NULL REFERENCES tenants (row),
    PRIMARY KEY (channel, place)
) STRICT, WITHOUT ROWID;

---- the ledger. No foreign keys here: the writer made the rows these numbers name, a check per row would cost as much as
---- the row, and fsck checks them all.

-- An account's row is owner * 16 + kind, so that it is found without an index. held: money set aside for open holds; positive
-- in a wallet, negative in the account the money would go to.
CREATE TABLE accounts (
    row    INTEGER PRIMARY KEY,
    posted INTEGER NOT NULL,
    held   INTEGER NOT NULL,
    kind   INTEGER AS (row & 15) VIRTUAL,
    owner  INTEGER AS (row >> 4) VIRTUAL
) STRICT;

-- amount moves from debit to credit.
CREATE TABLE transfers (
    number INTEGER PRIMARY KEY,
    kind   INTEGER NOT NULL,
    debit  INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0)
) STRICT;

CREATE TABLE grants (
    seq        INTEGER PRIMARY KEY,
    wallet     INTEGER NOT NULL, -- an account
    amount     INTEGER NOT NULL CHECK (amount <> 0),
    category   INTEGER NOT NULL,
    priority   INTEGER NOT NULL,
    expires_at INTEGER,
    note       TEXT,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX grants_wallet ON grants (wallet);

-- What can be sold, each combination once.
CREATE TABLE items (
    row       INTEGER PRIMARY KEY,
    model     TEXT NOT NULL,
    operation INTEGER NOT NULL,
    size      TEXT NOT NULL,
    quality   TEXT NOT NULL,
    UNIQUE (model, operation, size, quality)
) STRICT;

-- Open and in-doubt holds only: a row goes when its hold ends, and its slot is used again.
CREATE TABLE holds (
    slot              INTEGER PRIMARY KEY,
    id                BLOB NOT NULL CHECK (length(id) = 16),
    epoch             INTEGER NOT NULL,
    state             INTEGER NOT NULL CHECK (state IN (0, 1)),
    tenant            INTEGER NOT NULL,
    customer          INTEGER NOT NULL,
    key               INTEGER NOT NULL,
    channel           INTEGER NOT NULL,
    item              INTEGER NOT NULL,
    n                 INTEGER NOT NULL,
    flags             INTEGER NOT NULL, -- 1: stream, 2: test
    n_legs            INTEGER NOT NULL,
    tenant_leg        INTEGER NOT NULL,
    customer_leg      INTEGER NOT NULL,
    cost_max          INTEGER NOT NULL,
    wholesale_max     INTEGER NOT NULL,
    retail_max        INTEGER NOT NULL,
    version_cost      INTEGER NOT NULL,
    version_wholesale INTEGER NOT NULL,
    version_retail    INTEGER NOT NULL,
    rule              INTEGER NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT;

CREATE TABLE usage (
    seq                       INTEGER PRIMARY KEY,
    request                   BLOB NOT NULL,
    tenant                    INTEGER NOT NULL,
    customer                  INTEGER NOT NULL,
    key                       INTEGER NOT NULL,
    channel                   INTEGER NOT NULL,
    item                      INTEGER NOT NULL,
    n                         INTEGER NOT NULL,
    images                    INTEGER NOT NULL,
    partial_images            INTEGER NOT NULL,
    text_input_tokens         INTEGER NOT NULL,
    cached_text_input_tokens  INTEGER NOT NULL,
    image_input_tokens        INTEGER NOT NULL,
    cached_image_input_tokens INTEGER NOT NULL,
    image_output_tokens       INTEGER NOT NULL,
    text_output_tokens        INTEGER NOT NULL,
    cost                      INTEGER NOT NULL,
    wholesale                 INTEGER NOT NULL,
    retail                    INTEGER,          -- NULL: as wholesale
    refunded                  INTEGER NOT NULL,
    flags                     INTEGER NOT NULL, -- usage flags; 1024: streamed; 2048: from the customer's own wallet too
    status                    INTEGER,          -- NULL: 200
    duration_ms               INTEGER NOT NULL,
    added_ms                  INTEGER NOT NULL, -- of the duration, outside the attempt that delivered
    upstream_id               ANY,              -- text; a blob of 16 bytes stands for "req_" and 32 hex digits
    created_ms                INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_tenant ON usage (tenant);

-- Sums of the usage records by hour (created_ms / 3600000), written with them.
CREATE TABLE rollups (
    hour                      INTEGER NOT NULL,
    tenant                    INTEGER NOT NULL,
    customer                  INTEGER NOT NULL,
    key                       INTEGER NOT NULL,
    item                      INTEGER NOT NULL,
    channel                   INTEGER NOT NULL,
    requests                  INTEGER NOT NULL,
    images                    INTEGER NOT NULL,
    text_input_tokens         INTEGER NOT NULL,
    cached_text_input_tokens  INTEGER NOT NULL,
    image_input_tokens        INTEGER NOT NULL,
    cached_image_input_tokens INTEGER NOT NULL,
    image_output_tokens       INTEGER NOT NULL,
    text_output_tokens        INTEGER NOT NULL,
    cost                      INTEGER NOT NULL,
    wholesale                 INTEGER NOT NULL,
    retail                    INTEGER NOT NULL,
    refunded                  INTEGER NOT NULL,
    PRIMARY KEY (hour, tenant, customer, key, item, channel)
) STRICT, WITHOUT ROWID;

-- Event numbers from which on the wall clock stood earlier than before. Between two of them created_ms never falls, so that
-- a time is found by bisection. Almost always empty.
CREATE TABLE clock_steps (
    seq INTEGER PRIMARY KEY
) STRICT;

---- who did what

CREATE TABLE idempotency (
    token       INTEGER NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    request     BLOB NOT NULL,
    status      INTEGER NOT NULL,
    reply       BLOB NOT NULL, -- sealed, bound to the request's id
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (token, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created_at ON idempotency (created_at);

CREATE TABLE audit (
    seq          INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    token        INTEGER NOT NULL, -- 0: the command line
    action       TEXT NOT NULL,
    object       TEXT NOT NULL,
    request      BLOB NOT NULL,
    before_state TEXT,
    after_state  TEXT
) STRICT;

---- for people with a shell

CREATE VIEW ledger AS
SELECT t.number,
       CASE t.kind WHEN 0 THEN 'cost' WHEN 1 THEN 'charge' WHEN 2 THEN 'retail_charge' WHEN 3 THEN 'credit'
                   WHEN 4 THEN 'adjustment' WHEN 5 THEN 'loss' WHEN 6 THEN 'overage' WHEN 7 THEN 'retail_overage' END AS kind,
       t.debit, t.credit, t.amount, t.number >> 3 AS seq,
       coalesce(u.created_ms, g.created_ms) AS created_ms, u.request
FROM transfers t
LEFT JOIN usage u ON u.seq = t.number >> 3
LEFT JOIN grants g ON g.seq = t.number >> 3;
