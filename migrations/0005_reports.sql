-- Reports: sums of the usage records by minute, written with them, and sums of days, folded from those.
--
-- A quarter is 15 minutes (created_ms / 900000), a minute its place in it. Of a quarter the rows of a tenant lie together, and
-- of a time all rows do, without a second index. In the background the sums go into those of days, in the order of the rows:
-- `folded` says how far. What comes behind that border goes into both at once. So at every commit a day's sum is that of its
-- minutes before the border.

DROP TABLE rollups;
CREATE TABLE rollups (
    quarter                   INTEGER NOT NULL,
    tenant                    INTEGER NOT NULL,
    minute                    INTEGER NOT NULL CHECK (minute BETWEEN 0 AND 14),
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
    PRIMARY KEY (quarter, tenant, minute, customer, key, item, channel)
) STRICT, WITHOUT ROWID;

INSERT INTO rollups
SELECT created_ms / 900000 AS quarter, tenant, created_ms / 60000 % 15 AS minute, customer, key, item, channel, count(*),
       sum(images), sum(text_input_tokens), sum(cached_text_input_tokens), sum(image_input_tokens),
       sum(cached_image_input_tokens), sum(image_output_tokens), sum(text_output_tokens), sum(cost), sum(wholesale),
       sum(coalesce(retail, wholesale)), sum(refunded)
FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 1, 2, 3, 4, 5, 6, 7;

-- The first row that is not folded is this one or a later one.
CREATE TABLE folded (
    row     INTEGER PRIMARY KEY CHECK (row = 1),
    quarter INTEGER NOT NULL,
    tenant  INTEGER NOT NULL,
    minute  INTEGER NOT NULL
) STRICT;
INSERT INTO folded (row, quarter, tenant, minute) VALUES (1, 0, 0, 0);

-- Days: of UTC (zone 0), and of other time zones those that tenants live in. Minutes since 1970, the end is the next one's begin.
CREATE TABLE zones (
    row  INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE spans (
    row   INTEGER PRIMARY KEY,
    zone  INTEGER NOT NULL,
    begin INTEGER NOT NULL,
    end   INTEGER NOT NULL CHECK (end > begin),
    UNIQUE (zone, begin, end)
) STRICT;

-- In which zone a tenant's minutes [since, until) were folded, beside UTC. zone 0: in none; until NULL: from then on.
CREATE TABLE tenant_zones (
    tenant INTEGER NOT NULL,
    since  INTEGER NOT NULL,
    zone   INTEGER NOT NULL,
    until  INTEGER CHECK (until > since),
    PRIMARY KEY (tenant, since)
) STRICT, WITHOUT ROWID;

CREATE TABLE day_customers (
    span                      INTEGER NOT NULL,
    tenant                    INTEGER NOT NULL,
    customer                  INTEGER NOT NULL,
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
    PRIMARY KEY (span, tenant, customer)
) STRICT, WITHOUT ROWID;

CREATE TABLE day_keys (
    span                      INTEGER NOT NULL,
    tenant                    INTEGER NOT NULL,
    key                       INTEGER NOT NULL,
    customer                  INTEGER NOT NULL,
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
    PRIMARY KEY (span, tenant, key, customer)
) STRICT, WITHOUT ROWID;

CREATE TABLE day_items (
    span                      INTEGER NOT NULL,
    tenant                    INTEGER NOT NULL,
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
    PRIMARY KEY (span, tenant, item, channel)
) STRICT, WITHOUT ROWID;
