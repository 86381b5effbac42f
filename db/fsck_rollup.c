/* fsck_rollup.c - roll-ups against the usage records, in one pass over both.
 *
 *   records:  ordered by their number, which is the order of time, or sorted where the clock was ever set back
 *   roll-ups: ordered by quarter of an hour
 *
 * A quarter's records are summed, its roll-ups taken off again, and nothing must be left. So memory grows with the
 * roll-ups of a quarter, and nothing is sorted. Of pruned records quantities are not kept: where there are any, what
 * records are left must not be more than the roll-up. What roll-ups name must exist; they say it for the records, which
 * they equal. Roll-ups are handed on to fsck_day.c. */
#include "fsck_state.h"

#include <stdlib.h>

enum { QUARTER_MS = ROLLUP_QUARTER * 60 * 1000, SUMS_FIRST = 256, PROGRESS_ROWS = 8192 };

/* ---- sums ---- */

static size_t slot_of(const struct fsck_sums *s, const int64_t key[FSCK_KEY])
{
    return (size_t)table_hash_bytes(key, FSCK_KEY * sizeof(key[0])) & (s->n_slots - 1);
}

static void grow(struct fsck_sums *s)
{
    s->cap = s->cap != 0 ? s->cap * 2 : SUMS_FIRST;
    s->at = mem_realloc(s->at, s->cap * sizeof(s->at[0]));
    free(s->slots);
    s->n_slots = s->cap * 2;
    s->slots = mem_zalloc(s->n_slots * sizeof(s->slots[0]));
    for (size_t i = 0; i < s->n; i++) {
        size_t at = slot_of(s, s->at[i].key);

        while (s->slots[at] != 0)
            at = (at + 1) & (s->n_slots - 1);
        s->slots[at] = (uint32_t)i + 1;
    }
}

struct fsck_sum *fsck_sum_at(struct fsck_sums *s, const int64_t key[FSCK_KEY])
{
    size_t at;

    if (s->n == s->cap)
        grow(s);
    for (at = slot_of(s, key); s->slots[at] != 0; at = (at + 1) & (s->n_slots - 1))
        if (memcmp(s->at[s->slots[at] - 1].key, key, FSCK_KEY * sizeof(key[0])) == 0)
            return &s->at[s->slots[at] - 1];
    s->slots[at] = (uint32_t)s->n + 1;
    memset(&s->at[s->n], 0, sizeof(s->at[0]));
    memcpy(s->at[s->n].key, key, FSCK_KEY * sizeof(key[0]));
    return &s->at[s->n++];
}

void fsck_sums_clear(struct fsck_sums *s)
{
    s->n = 0;
    if (s->n_slots > 0)
        memset(s->slots, 0, s->n_slots * sizeof(s->slots[0]));
}

void fsck_sums_dispose(struct fsck_sums *s)
{
    free(s->at);
    free(s->slots);
    *s = (struct fsck_sums){.n = 0};
}

/* ---- what is named ---- */

enum named { NAMED_TENANT = 0, NAMED_CUSTOMER, NAMED_KEY, NAMED_CHANNEL, NAMED_ITEM, NAMED };

static const char *const named_tables[NAMED] = {"tenants", "customers", "keys", "channels", "items"};

struct pass {
    struct fsck *f;
    sqlite3_stmt *records, *rollups, *exist[NAMED];
    int records_rc, rollups_rc;
    struct fsck_days *days;
    struct fsck_sums sums;  /* of the quarter */
    struct fsck_sums known; /* rows that exist */
    struct rollup last;     /* the roll-up before: most name what it does */
    struct finding unequal, unknown;
    int64_t quarter, n_rollups, n_records, all; /* all: records that there are, about */
};

static bool exists(struct pass *p, enum named which, int64_t row)
{
    const int64_t key[FSCK_KEY] = {which, row};
    struct fsck_sum *known = fsck_sum_at(&p->known, key);

    if (known->pruned == 0) { /* not looked up yet */
        sqlite3_bind_int64(p->exist[which], 1, row);
        known->pruned = sqlite3_step(p->exist[which]) == SQLITE_ROW ? 1 : -1;
        sqlite3_reset(p->exist[which]);
    }
    return known->pruned > 0;
}

static void check_named(struct pass *p, const struct rollup_key *k)
{
    const struct rollup_key *last = &p->last.key;

    if (last->tenant_row == k->tenant_row && last->customer_row == k->customer_row && last->key_row == k->key_row &&
        last->channel_row == k->channel_row && last->item == k->item)
        return;
    if (exists(p, NAMED_TENANT, k->tenant_row) &&
        (k->customer_row == 0 || exists(p, NAMED_CUSTOMER, k->customer_row)) &&
        (k->key_row == 0 || exists(p, NAMED_KEY, k->key_row)) &&
        (k->channel_row == 0 || exists(p, NAMED_CHANNEL, k->channel_row)) && exists(p, NAMED_ITEM, k->item))
        return;
    finding_add(&p->unknown, "minute %lld tenant %lld key %lld channel %lld item %lld", (long long)k->minute,
                (long long)k->tenant_row, (long long)k->key_row, (long long)k->channel_row, (long long)k->item);
}

/* ---- a quarter ---- */

static struct fsck_sum *sum_of(struct pass *p, const struct rollup_key *k)
{
    const int64_t key[FSCK_KEY] = {k->minute, k->tenant_row, k->customer_row, k->key_row, k->item, k->channel_row};

    return fsck_sum_at(&p->sums, key);
}

static int64_t record_quarter(const struct pass *p)
{
    return p->records_rc == SQLITE_ROW ? sqlite3_column_int64(p->records, 1) / QUARTER_MS : INT64_MAX;
}

static int64_t rollup_quarter(const struct pass *p)
{
    return p->rollups_rc == SQLITE_ROW ? sqlite3_column_int64(p->rollups, 0) : INT64_MAX;
}

static void add_record(struct pass *p)
{
    sqlite3_stmt *s = p->records;
    const struct rollup_key key = {.minute = sqlite3_column_int64(s, 1) / 60000,
                                   .tenant_row = sqlite3_column_int64(s, 2),
                                   .customer_row = sqlite3_column_int64(s, 3),
                                   .key_row = sqlite3_column_int64(s, 4),
                                   .item = sqlite3_column_int64(s, 5),
                                   .channel_row = sqlite3_column_int64(s, 6)};
    struct fsck_sum *sum = sum_of(p, &key);

    sum->pruned += sqlite3_column_int64(s, 7);
    sum->sums[SUM_REQUESTS]++;
    for (int i = SUM_IMAGES; i < ROLLUP_SUMS; i++)
        sum->sums[i] += (uint64_t)sqlite3_column_int64(s, 7 + i);
    if (++p->n_records % PROGRESS_ROWS == 0)
        fsck_progress(p->f, p->n_records, p->all);
}

static void take_rollup(struct pass *p)
{
    sqlite3_stmt *s = p->rollups;
    struct rollup r = {.key = {.minute = sqlite3_column_int64(s, 0) * ROLLUP_QUARTER + sqlite3_column_int64(s, 2),
                               .tenant_row = sqlite3_column_int64(s, 1),
                               .customer_row = sqlite3_column_int64(s, 3),
                               .key_row = sqlite3_column_int64(s, 4),
                               .item = sqlite3_column_int64(s, 5),
                               .channel_row = sqlite3_column_int64(s, 6)}};
    struct fsck_sum *sum = sum_of(p, &r.key);

    for (int i = 0; i < ROLLUP_SUMS; i++) {
        r.sums[i] = sqlite3_column_int64(s, 7 + i);
        sum->sums[i] -= (uint64_t)r.sums[i];
        if (r.sums[i] == INT64_MAX)
            sum->full |= 1u << i;
    }
    check_named(p, &r.key);
    fsck_days_add(p->days, &r);
    p->last = r;
    p->n_rollups++;
}

/* What is left: records less roll-ups. */
static void compare_quarter(struct pass *p)
{
    for (size_t i = 0; i < p->sums.n; i++) {
        const struct fsck_sum *sum = &p->sums.at[i];
        bool bad = false;

        for (int k = 0; k < ROLLUP_SUMS; k++) {
            bool quantity = k >= SUM_IMAGES && k < SUM_COST;

            if ((sum->full & 1u << k) == 0)
                bad |= sum->pruned > 0 && quantity ? (int64_t)sum->sums[k] > 0 : sum->sums[k] != 0;
        }
        if (bad)
            finding_add(&p->unequal, "minute %lld tenant %lld key %lld item %lld", (long long)sum->key[0],
                        (long long)sum->key[1], (long long)sum->key[3], (long long)sum->key[4]);
    }
    fsck_sums_clear(&p->sums);
}

static enum err_code walk_quarter(struct pass *p, struct err *err)
{
    int64_t records = record_quarter(p), rollups = rollup_quarter(p);
    int64_t quarter = records < rollups ? records : rollups;

    if (quarter < p->quarter) { /* records alone can be, where time runs back: an invariant of its own */
        finding_add(&p->unequal, "a record of quarter %lld after those of %lld", (long long)quarter,
                    (long long)p->quarter);
        p->records_rc = sqlite3_step(p->records);
        return ERR_OK;
    }
    p->quarter = quarter;
    while (record_quarter(p) == quarter) {
        add_record(p);
        p->records_rc = sqlite3_step(p->records);
    }
    while (rollup_quarter(p) == quarter) {
        take_rollup(p);
        p->rollups_rc = sqlite3_step(p->rollups);
    }
    compare_quarter(p);
    return fsck_days_pass(p->days, (quarter + 1) * ROLLUP_QUARTER, err);
}

/* ---- the pass ---- */

#define QUANTITIES                                                                                                     \
    "images, text_input_tokens, cached_text_input_tokens, image_input_tokens, cached_image_input_tokens,"              \
    " image_output_tokens, text_output_tokens, "
#define RECORDS(first)                                                                                                 \
    "SELECT " first ", created_ms, tenant, customer, key, item, channel, 0, " QUANTITIES                               \
    "cost, wholesale, coalesce(retail, wholesale), refunded FROM usage UNION ALL SELECT " first                        \
    ", created_ms, tenant, customer, key, item, channel, 1, 0, 0, 0, 0, 0, 0, 0, cost, wholesale,"                     \
    " coalesce(retail, wholesale), refunded FROM pruned ORDER BY 1"

static enum err_code open_pass(struct pass *p, struct err *err)
{
    struct sqlite_conn *c = &p->f->conn;
    int64_t steps = 0;
    char sql[64];
    enum err_code code = sqlite_get_number(c, "SELECT count(*) FROM clock_steps", &steps, err);

    if (code == ERR_OK)
        code =
            sqlite_get_number(c, "SELECT (SELECT count(*) FROM usage) + (SELECT count(*) FROM pruned)", &p->all, err);
    if (code == ERR_OK)
        code = sqlite_prepare(c, steps == 0 ? RECORDS("seq") : RECORDS("created_ms / 900000"), &p->records, err);
    if (code == ERR_OK)
        code = sqlite_prepare(c,
                              "SELECT quarter, tenant, minute, customer, key, item, channel, requests, " QUANTITIES
                              "cost, wholesale, retail, refunded FROM rollups"
                              " ORDER BY quarter, tenant, minute, customer, key, item, channel",
                              &p->rollups, err);
    for (int i = 0; code == ERR_OK && i < NAMED; i++) {
        (void)snprintf(sql, sizeof(sql), "SELECT 1 FROM %s WHERE row = ?1", named_tables[i]);
        code = sqlite_prepare(c, sql, &p->exist[i], err);
    }
    return code == ERR_OK ? fsck_days_open(p->f, &p->days, err) : code;
}

static void close_pass(struct pass *p, bool report)
{
    if (report) {
        fsck_report(p->f, "roll-ups equal the usage records", &p->unequal, p->n_rollups);
        fsck_report(p->f, "usage records name what exists", &p->unknown, p->n_records);
    }
    fsck_days_close(p->days, report);
    sqlite3_finalize(p->records);
    sqlite3_finalize(p->rollups);
    for (int i = 0; i < NAMED; i++)
        sqlite3_finalize(p->exist[i]);
    fsck_sums_dispose(&p->sums);
    fsck_sums_dispose(&p->known);
    finding_dispose(&p->unequal);
    finding_dispose(&p->unknown);
}

enum err_code fsck_rollups(struct fsck *f, int begin, int end, struct err *err)
{
    struct pass p = {.f = f, .quarter = INT64_MIN};
    enum err_code code;

    fsck_part(f, "roll-ups", begin, end);
    finding_init(&p.unequal);
    finding_init(&p.unknown);
    code = open_pass(&p, err);
    if (code == ERR_OK) {
        p.records_rc = sqlite3_step(p.records);
        p.rollups_rc = sqlite3_step(p.rollups);
    }
    while (code == ERR_OK && (p.records_rc == SQLITE_ROW || p.rollups_rc == SQLITE_ROW))
        code = walk_quarter(&p, err);
    if (code == ERR_OK && (p.records_rc != SQLITE_DONE || p.rollups_rc != SQLITE_DONE))
        code = sqlite_error(&f->conn, "Cannot read roll-ups", err);
    if (code == ERR_OK)
        code = fsck_days_pass(p.days, INT64_MAX, err);
    close_pass(&p, code == ERR_OK);
    return code;
}
