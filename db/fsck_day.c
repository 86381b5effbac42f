/* fsck_day.c - sums of days against the roll-ups that they were folded from.
 *
 * Roll-ups come in the order of time (fsck_rollup.c). Each that lies before the mark is added to the day of UTC that it
 * is in, and to the days of the zones in which its tenant's minutes were folded; what a day has is compared and
 * forgotten once no roll-up of it can come any more. Days whose zone's rules have changed under them, and those that a
 * tenant's zone covers in part alone, are nobody's: reports do not use them, and nothing is said of them here. */
#include "fsck_state.h"

#include <stdlib.h>

#include "days.h"

enum { TABLES = 3 };

static const char *const tables[TABLES] = {"day_customers", "day_keys", "day_items"};

struct span {
    int64_t row, zone, begin, end;
    bool shared; /* another one of its zone has minutes in common with it */
    struct fsck_sums sums;
};

/* A tenant's minutes of a zone, [since, until). */
struct part {
    int64_t tenant, since, zone, until;
};

struct fsck_days {
    struct fsck *f;
    struct fold_mark mark;
    struct span *spans; /* by zone, begin */
    size_t n_spans;
    struct span **by_end;
    size_t passed;      /* places in by_end that are done */
    struct part *parts; /* by tenant, since */
    size_t n_parts;
    size_t first_part, end_part; /* of the tenant that was asked for last */
    int64_t tenant;
    sqlite3_stmt *rows[TABLES];
    struct finding bad;
    int64_t checked;
};

/* ---- loading ---- */

static enum err_code count_rows(struct fsck_days *d, const char *sql, size_t *n, struct err *err)
{
    int64_t rows = 0;
    enum err_code code = sqlite_get_number(&d->f->conn, sql, &rows, err);

    *n = (size_t)rows;
    return code;
}

static void load_span(struct fsck_days *d, size_t i, sqlite3_stmt *s)
{
    struct span *span = &d->spans[i];

    *span = (struct span){.row = sqlite3_column_int64(s, 0),
                          .zone = sqlite3_column_int64(s, 1),
                          .begin = sqlite3_column_int64(s, 2),
                          .end = sqlite3_column_int64(s, 3)};
    if (span->begin < 0 || span->end - span->begin > DAYS_LONGEST ||
        (span->zone == 0 && (span->begin % DAYS_MINUTES != 0 || span->end - span->begin != DAYS_MINUTES)))
        finding_add(&d->bad, "span %lld is no day", (long long)span->row);
    if (i > 0 && span[-1].zone == span->zone && span[-1].end > span->begin)
        span[-1].shared = span->shared = true;
}

static void load_part(struct fsck_days *d, size_t i, sqlite3_stmt *s)
{
    struct part *part = &d->parts[i];

    *part = (struct part){sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2),
                          sqlite3_column_int64(s, 3)};
    if (part->until <= part->since || (i > 0 && part[-1].tenant == part->tenant && part[-1].until > part->since))
        finding_add(&d->bad, "tenant %lld has two zones at minute %lld", (long long)part->tenant,
                    (long long)part->since);
}

static enum err_code load_rows(struct fsck_days *d, const char *sql, size_t n,
                               void (*load)(struct fsck_days *d, size_t i, sqlite3_stmt *s), struct err *err)
{
    sqlite3_stmt *s = NULL;
    size_t i = 0;
    enum err_code code = sqlite_prepare(&d->f->conn, sql, &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && i < n)
        load(d, i++, s);
    if (rc != SQLITE_DONE)
        code = sqlite_error(&d->f->conn, "Cannot read days", err);
    sqlite3_finalize(s);
    return code;
}

static enum err_code load_mark(struct fsck_days *d, struct err *err)
{
    static const char *const sql[] = {"SELECT quarter FROM folded WHERE row = 1",
                                      "SELECT tenant FROM folded WHERE row = 1",
                                      "SELECT minute FROM folded WHERE row = 1"};
    int64_t values[3] = {-1, -1, -1};
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < 3; i++)
        code = sqlite_get_number(&d->f->conn, sql[i], &values[i], err);
    d->mark = (struct fold_mark){values[0], values[1], values[2]};
    if (values[0] < 0 || values[1] < 0 || values[2] < 0 || values[2] >= ROLLUP_QUARTER)
        finding_add(&d->bad, "the mark is at quarter %lld", (long long)values[0]);
    return code;
}

static int compare_ends(const void *a, const void *b)
{
    int64_t x = (*(struct span *const *)a)->end, y = (*(struct span *const *)b)->end;

    return (x > y) - (x < y);
}

enum err_code fsck_days_open(struct fsck *f, struct fsck_days **out, struct err *err)
{
    struct fsck_days *d = mem_zalloc(sizeof(*d));
    char sql[128];
    enum err_code code;

    *out = d;
    d->f = f;
    finding_init(&d->bad);
    code = load_mark(d, err);
    if (code == ERR_OK)
        code = count_rows(d, "SELECT count(*) FROM spans", &d->n_spans, err);
    if (code == ERR_OK)
        code = count_rows(d, "SELECT count(*) FROM tenant_zones", &d->n_parts, err);
    if (code != ERR_OK)
        return code;
    d->spans = mem_zalloc((d->n_spans + 1) * sizeof(d->spans[0]));
    d->parts = mem_zalloc((d->n_parts + 1) * sizeof(d->parts[0]));
    d->by_end = mem_zalloc((d->n_spans + 1) * sizeof(d->by_end[0]));
    code =
        load_rows(d, "SELECT row, zone, begin, end FROM spans ORDER BY zone, begin, end", d->n_spans, load_span, err);
    if (code == ERR_OK)
        code = load_rows(d,
                         "SELECT tenant, since, zone, coalesce(until, 9223372036854775807) FROM tenant_zones"
                         " ORDER BY tenant, since",
                         d->n_parts, load_part, err);
    for (size_t i = 0; i < d->n_spans; i++)
        d->by_end[i] = &d->spans[i];
    qsort(d->by_end, d->n_spans, sizeof(d->by_end[0]), compare_ends);
    for (int i = 0; code == ERR_OK && i < TABLES; i++) {
        (void)snprintf(sql, sizeof(sql), "SELECT * FROM %s WHERE span = ?1", tables[i]);
        code = sqlite_prepare(&f->conn, sql, &d->rows[i], err);
    }
    return code;
}

/* ---- whose minutes are whose ---- */

static void find_tenant(struct fsck_days *d, int64_t tenant)
{
    size_t low = 0, high = d->n_parts;

    if (d->tenant == tenant)
        return;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (d->parts[middle].tenant < tenant)
            low = middle + 1;
        else
            high = middle;
    }
    d->tenant = tenant;
    d->first_part = d->end_part = low;
    while (d->end_part < d->n_parts && d->parts[d->end_part].tenant == tenant)
        d->end_part++;
}

/* Whether a report may use the day's sums for the tenant. */
static bool is_used(struct fsck_days *d, const struct span *span, int64_t tenant)
{
    int64_t frontier = fold_frontier(&d->mark, tenant), end = frontier < span->end ? frontier : span->end;

    if (span->zone == 0 || span->shared)
        return !span->shared;
    find_tenant(d, tenant);
    for (size_t i = d->first_part; i < d->end_part; i++)
        if (d->parts[i].zone == span->zone && d->parts[i].since <= span->begin && d->parts[i].until >= end)
            return true;
    return false;
}

/* The day of a zone that a minute is in; NULL: none. */
static struct span *find_span(const struct fsck_days *d, int64_t zone, int64_t minute)
{
    size_t low = 0, high = d->n_spans;

    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct span *span = &d->spans[middle];

        if (span->zone < zone || (span->zone == zone && span->begin <= minute))
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && d->spans[low - 1].zone == zone && d->spans[low - 1].end > minute ? &d->spans[low - 1] : NULL;
}

/* ---- adding ---- */

static void add_sum(struct span *span, const int64_t key[FSCK_KEY], const int64_t sums[ROLLUP_SUMS])
{
    struct fsck_sum *sum = fsck_sum_at(&span->sums, key);

    for (int i = 0; i < ROLLUP_SUMS; i++)
        sum->sums[i] += (uint64_t)sums[i];
}

static void add_to_day(struct span *span, const struct rollup *r)
{
    const struct rollup_key *k = &r->key;

    add_sum(span, (int64_t[FSCK_KEY]){0, k->tenant_row, k->customer_row}, r->sums);
    add_sum(span, (int64_t[FSCK_KEY]){1, k->tenant_row, k->key_row, k->customer_row}, r->sums);
    add_sum(span, (int64_t[FSCK_KEY]){2, k->tenant_row, k->item, k->channel_row}, r->sums);
}

void fsck_days_add(struct fsck_days *d, const struct rollup *r)
{
    const struct rollup_key *k = &r->key;
    struct span *span;

    if (k->minute >= fold_frontier(&d->mark, k->tenant_row))
        return;
    span = find_span(d, 0, k->minute);
    if (span == NULL)
        finding_add(&d->bad, "no day has minute %lld of tenant %lld", (long long)k->minute, (long long)k->tenant_row);
    else
        add_to_day(span, r);
    find_tenant(d, k->tenant_row);
    for (size_t i = d->first_part; i < d->end_part; i++) {
        const struct part *part = &d->parts[i];

        if (part->zone == 0 || k->minute < part->since || k->minute >= part->until)
            continue;
        span = find_span(d, part->zone, k->minute);
        if (span == NULL)
            finding_add(&d->bad, "no day of zone %lld has minute %lld of tenant %lld", (long long)part->zone,
                        (long long)k->minute, (long long)k->tenant_row);
        else if (is_used(d, span, k->tenant_row))
            add_to_day(span, r);
    }
}

/* ---- comparing ---- */

static void take_row(struct fsck_days *d, struct span *span, int table, sqlite3_stmt *s)
{
    int columns = table == 0 ? 2 : 3; /* of the key, without the span */
    int64_t key[FSCK_KEY] = {table};
    struct fsck_sum *sum;

    d->checked++;
    for (int i = 0; i < columns; i++)
        key[1 + i] = sqlite3_column_int64(s, 1 + i);
    if (!is_used(d, span, key[1]))
        return;
    sum = fsck_sum_at(&span->sums, key);
    for (int i = 0; i < ROLLUP_SUMS; i++) {
        int64_t has = sqlite3_column_int64(s, 1 + columns + i);

        sum->sums[i] -= (uint64_t)has;
        if (has == INT64_MAX)
            sum->full |= 1u << i;
    }
}

static enum err_code compare_span(struct fsck_days *d, struct span *span, struct err *err)
{
    for (int table = 0; table < TABLES; table++) {
        sqlite3_stmt *s = d->rows[table];
        int rc;

        sqlite3_bind_int64(s, 1, span->row);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW)
            take_row(d, span, table, s);
        sqlite3_reset(s);
        if (rc != SQLITE_DONE)
            return sqlite_error(&d->f->conn, "Cannot read sums of days", err);
    }
    for (size_t i = 0; i < span->sums.n; i++) {
        const struct fsck_sum *sum = &span->sums.at[i];
        bool bad = false;

        for (int k = 0; k < ROLLUP_SUMS; k++)
            bad |= sum->sums[k] != 0 && (sum->full & 1u << k) == 0;
        if (bad)
            finding_add(&d->bad, "%s: span %lld tenant %lld, %lld, %lld", tables[sum->key[0]], (long long)span->row,
                        (long long)sum->key[1], (long long)sum->key[2], (long long)sum->key[3]);
    }
    fsck_sums_dispose(&span->sums);
    return ERR_OK;
}

/* Sums of days that are none. */
static enum err_code check_strays(struct fsck_days *d, struct err *err)
{
    char sql[128];
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < TABLES; i++) {
        int64_t strays = 0;

        (void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE span NOT IN (SELECT row FROM spans)",
                       tables[i]);
        code = sqlite_get_number(&d->f->conn, sql, &strays, err);
        if (strays > 0)
            finding_add(&d->bad, "%s: %lld rows of no day", tables[i], (long long)strays);
    }
    return code;
}

enum err_code fsck_days_pass(struct fsck_days *d, int64_t minute, struct err *err)
{
    enum err_code code = ERR_OK;

    while (code == ERR_OK && d->passed < d->n_spans && d->by_end[d->passed]->end <= minute)
        code = compare_span(d, d->by_end[d->passed++], err);
    return code == ERR_OK && minute == INT64_MAX ? check_strays(d, err) : code;
}

void fsck_days_close(struct fsck_days *d, bool report)
{
    if (d == NULL)
        return;
    if (report)
        fsck_report(d->f, "sums of days equal the roll-ups", &d->bad, d->checked);
    for (size_t i = 0; i < d->n_spans && d->spans != NULL; i++)
        fsck_sums_dispose(&d->spans[i].sums);
    for (int i = 0; i < TABLES; i++)
        sqlite3_finalize(d->rows[i]);
    finding_dispose(&d->bad);
    free(d->spans);
    free(d->by_end);
    free(d->parts);
    free(d);
}
