/* sqlite_report.c - the sums that a report is made of: of whole days where those are enough, else of minutes.
 *
 *   page:   |..minutes..|=== day ===|=== day ===|=== day ===|..minutes..|
 *                                                    ^ mark: what is before it is in the sums of days; of the day in
 *                                                      which it lies, the minutes after it are added
 *
 * A page is made in slices of SLICE rows, each a read transaction of its own, so that no other question waits long and
 * nothing old is kept alive. Invariants
 *  (1) Roll-ups are never taken away, nor do they change once records are captured elsewhere: each minute, and each
 * day, is as it stood at one moment of the question; so whatever was committed before the question is in the answer.
 *  (2) No roll-up counts twice, none is left out: the mark is read in the transaction that reads a day's sums, and kept
 * until the day's minutes are done. A day that has the mark in it is read in one slice.
 *  (3) Sums of days are used for a tenant only if all its minutes of that day were folded in the report's zone.
 * On the reader's connection. */
#include "days.h"
#include "report.h"
#include "sqlite_conn.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

enum { SLICE = 20000, SEEK = 4, NAMES = 5000 }; /* rows; what finding the first one costs in rows; ids in a slice */

/* Of tenants [first, last]. */
struct tenant_range {
    int64_t first, last;
};

/* A tenant's minutes of the report's zone, [since, until). */
struct folded_part {
    int64_t tenant, since, until;
};

enum stage { STAGE_NEXT = 0, STAGE_DAY, STAGE_MINUTES };

struct scan {
    struct report_state *report;
    enum report_table table;
    int n_ranges;
    struct tenant_range ranges[2 * FILTER_VALUES];
    int64_t first_a, last_a;          /* of the second column of a sum of days' key: customers or keys */
    int64_t first_minute, end_minute; /* where there are roll-ups */
    int64_t zone;                     /* row; UTC: 0; -1: nobody lives in it */
    /* where it is */
    enum stage stage;
    int64_t at;       /* all minutes before it are done */
    int64_t to;       /* of this stretch: a day, or minutes between days */
    int range;        /* place in ranges */
    int64_t after[6]; /* the rest of the key of the row before */
    int gap;          /* quarters without a row, so far */
    /* of this day */
    bool of_day; /* its sums are used, and minutes that are in them are passed over */
    int64_t span, begin, end;
    struct fold_mark mark;
    struct folded_part *parts; /* by tenant; zones other than UTC */
    size_t n_parts, cap_parts;
    bool names; /* sums are done, ids are looked up */
};

static void destroy_scan(void *p)
{
    struct scan *scan = p;

    free(scan->parts);
    free(scan);
}

/* ---- the plan ---- */

static int compare_ranges(const void *a, const void *b)
{
    int64_t x = ((const struct tenant_range *)a)->first, y = ((const struct tenant_range *)b)->first;

    return (x > y) - (x < y);
}

static void set_ranges(struct scan *scan, const int64_t *tenants, int n)
{
    int kept = 0;

    for (int i = 0; i < n; i++)
        scan->ranges[i] = (struct tenant_range){tenants[i], tenants[i]};
    qsort(scan->ranges, (size_t)n, sizeof(scan->ranges[0]), compare_ranges);
    for (int i = 0; i < n; i++)
        if (kept == 0 || scan->ranges[kept - 1].first != scan->ranges[i].first)
            scan->ranges[kept++] = scan->ranges[i];
    scan->n_ranges = kept;
}

static enum err_code plan_ranges(struct sqlite_conn *c, struct scan *scan, const struct store_filter *f,
                                 struct err *err)
{
    int64_t tenants[2 * FILTER_VALUES];
    int n = 0;
    enum err_code code = ERR_OK;

    if (f->tenants.n > 0) {
        set_ranges(scan, f->tenants.rows, f->tenants.n);
        return ERR_OK;
    }
    if (f->customers.n == 0 && f->keys.n == 0) {
        scan->n_ranges = 1;
        scan->ranges[0] = (struct tenant_range){0, INT64_MAX};
        return ERR_OK;
    }
    if (f->customers.n > 0)
        code = sqlite_find_tenants(c, &f->customers, SQL_GET_CUSTOMER_TENANT, tenants, &n, err);
    else
        code = sqlite_find_tenants(c, &f->keys, SQL_GET_KEY_TENANT, tenants, &n, err);
    set_ranges(scan, tenants, n);
    return code;
}

static void plan_columns(struct scan *scan, const struct store_filter *f)
{
    const struct filter_rows *rows = scan->table == REPORT_OF_CUSTOMERS ? &f->customers : &f->keys;

    scan->first_a = 0;
    scan->last_a = INT64_MAX;
    if ((scan->table != REPORT_OF_CUSTOMERS && scan->table != REPORT_OF_KEYS) || rows->n == 0)
        return;
    scan->first_a = scan->last_a = rows->rows[0];
    for (int i = 1; i < rows->n; i++) {
        scan->first_a = rows->rows[i] < scan->first_a ? rows->rows[i] : scan->first_a;
        scan->last_a = rows->rows[i] > scan->last_a ? rows->rows[i] : scan->last_a;
    }
}

static enum err_code plan_zone(struct sqlite_conn *c, struct scan *scan, const char *name, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_ZONE];
    int rc;

    scan->zone = 0;
    if (report_in_utc(scan->report) || scan->table == REPORT_OF_MINUTES)
        return ERR_OK;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    scan->zone = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read a zone", err);
}

/* In the first slice. */
static enum err_code plan(struct sqlite_conn *c, struct store_report *q, struct err *err)
{
    struct report_state *r;
    struct scan *scan;
    int64_t first = -1, last = -1;
    enum err_code code = report_open(q, clock_wall(), &r, err);

    if (code != ERR_OK)
        return code;
    q->state = r;
    scan = mem_zalloc(sizeof(*scan));
    report_set_scan(r, scan, destroy_scan);
    scan->report = r;
    scan->table = report_table_of(r);
    scan->at = report_begin(r);
    plan_columns(scan, &q->filter);
    code = plan_ranges(c, scan, &q->filter, err);
    if (code == ERR_OK)
        code = plan_zone(c, scan, q->zone, err);
    if (code == ERR_OK)
        code = sqlite_rollup_ends(c, &first, &last, err);
    scan->first_minute = first < 0 ? report_end(r) : first * ROLLUP_QUARTER;
    scan->end_minute = first < 0 ? report_end(r) : (last + 1) * ROLLUP_QUARTER;
    if (scan->n_ranges == 0)
        scan->at = report_end(r);
    return code;
}

/* ---- days ---- */

/* The sums of the day [begin, end): its row, or 0 when it has none. False in *usable: the zone's rules have changed. */
static enum err_code find_span(struct sqlite_conn *c, struct scan *scan, bool *usable, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_SPANS];
    int n = 0, rc;

    scan->span = 0;
    *usable = true;
    sqlite3_bind_int64(s, 1, scan->zone);
    sqlite3_bind_int64(s, 2, scan->begin);
    sqlite3_bind_int64(s, 3, scan->end);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        scan->span = sqlite3_column_int64(s, 0);
        if (++n > 1 || sqlite3_column_int64(s, 1) != scan->begin || sqlite3_column_int64(s, 2) != scan->end)
            *usable = false;
    }
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read a day", err);
}

static void add_part(struct scan *scan, struct folded_part part)
{
    if (scan->n_parts == scan->cap_parts) {
        scan->cap_parts = scan->cap_parts != 0 ? scan->cap_parts * 2 : FILTER_VALUES;
        scan->parts = mem_realloc(scan->parts, scan->cap_parts * sizeof(scan->parts[0]));
    }
    scan->parts[scan->n_parts++] = part;
}

/* Which tenants' minutes of the day are all in the zone's sums, as far as they are folded. */
static enum err_code find_parts(struct sqlite_conn *c, struct scan *scan, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_ZONE_TENANTS];
    int rc = SQLITE_DONE;

    scan->n_parts = 0;
    for (int i = 0; scan->zone != 0 && i < scan->n_ranges; i++) {
        sqlite3_bind_int64(s, 1, scan->zone);
        sqlite3_bind_int64(s, 2, scan->ranges[i].first);
        sqlite3_bind_int64(s, 3, scan->ranges[i].last);
        while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
            struct folded_part part = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1),
                                       sqlite3_column_int64(s, 2)};
            int64_t frontier = fold_frontier(&scan->mark, part.tenant);

            if (part.since <= scan->begin && part.until >= (frontier < scan->end ? frontier : scan->end))
                add_part(scan, part);
        }
        sqlite3_reset(s);
        if (rc != SQLITE_DONE)
            return sqlite_error(c, "Cannot read the zones of tenants", err);
    }
    return ERR_OK;
}

/* Whether the sums of the day are used for a tenant. */
static bool has_day(const struct scan *scan, int64_t tenant)
{
    size_t low = 0, high = scan->n_parts;

    if (scan->zone == 0)
        return true;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (scan->parts[middle].tenant < tenant)
            low = middle + 1;
        else
            high = middle;
    }
    return low < scan->n_parts && scan->parts[low].tenant == tenant;
}

/* Whether no minute of the day need be looked at before the mark. */
static bool has_day_of_all(const struct scan *scan)
{
    if (scan->zone == 0)
        return true;
    for (int i = 0; i < scan->n_ranges; i++)
        if (scan->ranges[i].first != scan->ranges[i].last || !has_day(scan, scan->ranges[i].first))
            return false;
    return true;
}

/* Whether the day at scan->at is made of sums of days: it is whole, or goes on beyond the report's end where nothing is
 * folded; and something of it is folded. */
static enum err_code try_day(struct sqlite_conn *c, struct scan *scan, struct err *err)
{
    const struct report_state *r = scan->report;
    bool usable;
    enum err_code code;

    scan->of_day = false;
    if (scan->table == REPORT_OF_MINUTES || scan->zone < 0)
        return ERR_OK;
    days_at(report_zone(r), scan->at, &scan->begin, &scan->end);
    if (scan->begin != scan->at)
        return ERR_OK;
    code = sqlite_read_mark(c, &scan->mark, err);
    if (code != ERR_OK || scan->mark.quarter * ROLLUP_QUARTER <= scan->begin ||
        (scan->end > report_horizon(r) && (scan->mark.quarter + 1) * ROLLUP_QUARTER > report_horizon(r)))
        return code;
    code = find_span(c, scan, &usable, err);
    if (code == ERR_OK && usable)
        code = find_parts(c, scan, err);
    if (code == ERR_OK && usable && (scan->zone == 0 || scan->n_parts > 0))
        scan->of_day = true;
    return code;
}

/* ---- stretches ---- */

static void begin_rows(struct scan *scan, bool minutes)
{
    const struct tenant_range *range = &scan->ranges[scan->range];

    for (int i = 0; i < 6; i++)
        scan->after[i] = INT64_MAX;
    scan->after[0] = range->first - 1;
    if (!minutes && range->first == range->last) { /* of one tenant: from the first customer or key on */
        scan->after[0] = range->first;
        scan->after[1] = scan->first_a - 1;
    }
}

static void begin_minutes(struct scan *scan, int64_t from)
{
    scan->stage = STAGE_MINUTES;
    scan->at = from > scan->first_minute ? from : scan->first_minute;
    scan->end = scan->to < scan->end_minute ? scan->to : scan->end_minute;
    scan->range = 0;
    begin_rows(scan, true);
}

/* Where the minutes at scan->at end: at the next day that may be made of sums of days. */
static int64_t minutes_until(const struct scan *scan)
{
    int64_t end = report_end(scan->report), day, next;

    if (scan->table == REPORT_OF_MINUTES || scan->zone < 0)
        return end;
    days_at(report_zone(scan->report), scan->at, &day, &next);
    return next < end ? next : end;
}

static enum err_code next_stretch(struct sqlite_conn *c, struct scan *scan, struct err *err)
{
    enum err_code code;
    int64_t end = report_end(scan->report), begin, next;

    if (scan->at < scan->first_minute) { /* nothing before it */
        days_at(report_zone(scan->report), scan->first_minute, &begin, &next);
        scan->at = begin > scan->at ? begin : scan->at;
    }
    if (scan->at >= end || scan->at >= scan->end_minute) {
        scan->at = end;
        return ERR_OK;
    }
    code = try_day(c, scan, err);
    if (code != ERR_OK)
        return code;
    if (scan->of_day) {
        scan->to = scan->end < end ? scan->end : end;
        scan->stage = STAGE_DAY;
        scan->range = 0;
        begin_rows(scan, false);
    } else {
        scan->to = minutes_until(scan);
        begin_minutes(scan, scan->at);
    }
    return ERR_OK;
}

/* ---- rows ---- */

static enum err_code know_item(struct sqlite_conn *c, struct scan *scan, int64_t row, struct err *err)
{
    struct sqlite_item item;
    enum err_code code;

    if (!report_asks_items(scan->report) || report_knows_item(scan->report, row))
        return ERR_OK;
    code = sqlite_find_item(c, row, &item, err);
    if (code == ERR_OK)
        report_set_item(scan->report, row, item.model, item.operation, item.size, item.quality);
    return code;
}

static enum err_code add(struct sqlite_conn *c, struct scan *scan, int bucket, const struct report_source *source,
                         sqlite3_stmt *s, int column, struct err *err)
{
    int64_t sums[ROLLUP_SUMS];
    enum err_code code = know_item(c, scan, source->item, err);

    for (int i = 0; code == ERR_OK && i < ROLLUP_SUMS; i++)
        sums[i] = sqlite3_column_int64(s, column + i);
    return code == ERR_OK ? report_add(scan->report, bucket, source, sums, err) : code;
}

static enum err_code add_day(struct sqlite_conn *c, struct scan *scan, int bucket, sqlite3_stmt *s, struct err *err)
{
    struct report_source source = {.tenant = sqlite3_column_int64(s, 0)};

    for (int i = 0; i < 3; i++)
        scan->after[i] = sqlite3_column_int64(s, i);
    if (!has_day(scan, source.tenant))
        return ERR_OK;
    switch (scan->table) {
    case REPORT_OF_CUSTOMERS:
        source.customer = scan->after[1];
        break;
    case REPORT_OF_KEYS:
        source.key = scan->after[1];
        source.customer = scan->after[2];
        break;
    case REPORT_OF_ITEMS:
        source.item = scan->after[1];
        source.channel = scan->after[2];
        break;
    case REPORT_OF_MINUTES:
        break;
    }
    return add(c, scan, bucket, &source, s, 3, err);
}

/* Sums of this day, up to *left rows of them; to the end where the mark lies in it. */
static enum err_code scan_day(struct sqlite_conn *c, struct scan *scan, int *left, struct err *err)
{
    static const enum sql statements[] = {SQL_REPORT_DAY_CUSTOMERS, SQL_REPORT_DAY_KEYS, SQL_REPORT_DAY_ITEMS};
    sqlite3_stmt *s = c->statements[statements[scan->table]];
    const struct tenant_range *range = &scan->ranges[scan->range];
    bool whole = scan->mark.quarter * ROLLUP_QUARTER < scan->end, one = range->first == range->last;
    int bucket = report_bucket_at(scan->report, scan->begin), rc = SQLITE_ROW;
    enum err_code code = ERR_OK;

    *left -= SEEK;
    sqlite3_bind_int64(s, 1, scan->span);
    for (int i = 0; i < 3; i++)
        sqlite3_bind_int64(s, 2 + i, scan->after[i]);
    sqlite3_bind_int64(s, 5, range->last);
    while (code == ERR_OK && (whole || *left > 0) && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        (*left)--;
        if (one && sqlite3_column_int64(s, 1) > scan->last_a) {
            rc = SQLITE_DONE;
            break;
        }
        code = add_day(c, scan, bucket, s, err);
    }
    sqlite3_reset(s);
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read sums of days", err);
    if (code != ERR_OK || rc != SQLITE_DONE)
        return code;
    if (++scan->range < scan->n_ranges)
        begin_rows(scan, false);
    else
        begin_minutes(scan, has_day_of_all(scan) ? scan->mark.quarter * ROLLUP_QUARTER : scan->begin);
    if (whole && scan->stage == STAGE_DAY) /* other tenants of the same day */
        return scan_day(c, scan, left, err);
    return ERR_OK;
}

/* A roll-up, unless it is not of this stretch or the day's sums have it. */
static enum err_code add_minute(struct sqlite_conn *c, struct scan *scan, const int *buckets, int64_t quarter,
                                sqlite3_stmt *s, struct err *err)
{
    struct report_source source = {.tenant = sqlite3_column_int64(s, 0),
                                   .customer = sqlite3_column_int64(s, 2),
                                   .key = sqlite3_column_int64(s, 3),
                                   .item = sqlite3_column_int64(s, 4),
                                   .channel = sqlite3_column_int64(s, 5)};
    int64_t place = sqlite3_column_int64(s, 1), minute = quarter * ROLLUP_QUARTER + place;

    if (buckets[place % ROLLUP_QUARTER] < 0)
        return ERR_OK;
    if (scan->of_day && minute < fold_frontier(&scan->mark, source.tenant) && has_day(scan, source.tenant))
        return ERR_OK;
    return add(c, scan, buckets[place], &source, s, 6, err);
}

static enum err_code next_quarter(struct sqlite_conn *c, struct scan *scan, int64_t quarter, struct err *err)
{
    enum err_code code = ERR_OK;

    if (++scan->gap >= ROLLUP_GAP) {
        scan->gap = 0;
        code = sqlite_next_quarter(c, quarter, &quarter, err);
    }
    scan->at = quarter < scan->end / ROLLUP_QUARTER + 1 ? quarter * ROLLUP_QUARTER : scan->end;
    return code;
}

/* Roll-ups of one quarter of an hour, up to *left of them. */
static enum err_code scan_quarter(struct sqlite_conn *c, struct scan *scan, int *left, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_REPORT_ROLLUPS];
    int64_t quarter = scan->at / ROLLUP_QUARTER, begin = quarter * ROLLUP_QUARTER;
    int buckets[ROLLUP_QUARTER], rc = SQLITE_ROW;
    enum err_code code = ERR_OK;

    for (int i = 0; i < ROLLUP_QUARTER; i++)
        buckets[i] = begin + i >= scan->at && begin + i < scan->end ? report_bucket_at(scan->report, begin + i) : -1;
    *left -= SEEK;
    sqlite3_bind_int64(s, 1, quarter);
    for (int i = 0; i < 6; i++)
        sqlite3_bind_int64(s, 2 + i, scan->after[i]);
    sqlite3_bind_int64(s, 8, scan->ranges[scan->range].last);
    while (code == ERR_OK && *left > 0 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        (*left)--;
        scan->gap = -1;
        for (int i = 0; i < 6; i++)
            scan->after[i] = sqlite3_column_int64(s, i);
        code = add_minute(c, scan, buckets, quarter, s, err);
    }
    sqlite3_reset(s);
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read roll-ups", err);
    if (code != ERR_OK || rc != SQLITE_DONE)
        return code;
    if (++scan->range == scan->n_ranges) {
        scan->range = 0;
        code = next_quarter(c, scan, quarter + 1, err);
    }
    begin_rows(scan, true);
    return code;
}

static enum err_code scan_minutes(struct sqlite_conn *c, struct scan *scan, int *left, struct err *err)
{
    enum err_code code = ERR_OK;

    while (code == ERR_OK && *left > 0 && scan->at < scan->end)
        code = scan_quarter(c, scan, left, err);
    if (code == ERR_OK && scan->at >= scan->end) {
        scan->at = scan->to;
        scan->stage = STAGE_NEXT;
    }
    return code;
}

static enum err_code scan_rows(struct sqlite_conn *c, struct scan *scan, int *left, struct err *err)
{
    enum err_code code = ERR_OK;

    while (code == ERR_OK && *left > 0 && (scan->stage != STAGE_NEXT || scan->at < report_end(scan->report)))
        code = scan->stage == STAGE_NEXT  ? next_stretch(c, scan, err)
               : scan->stage == STAGE_DAY ? scan_day(c, scan, left, err)
                                          : scan_minutes(c, scan, left, err);
    return code;
}

/* ---- names ---- */

static enum err_code find_ids(struct sqlite_conn *c, struct report_state *r, int *left, struct err *err)
{
    static const enum record_kind kinds[REPORT_DIMENSIONS] = {
        [REPORT_TENANT] = RECORD_TENANT, [REPORT_CUSTOMER] = RECORD_CUSTOMER, [REPORT_KEY] = RECORD_KEY};
    char name[LIMIT_NAME];
    enum err_code code = ERR_OK;
    enum report_by kind;
    struct id id;
    int64_t row;

    while (code == ERR_OK && *left > 0 && report_missing(r, &kind, &row)) {
        (*left) -= SLICE / NAMES;
        code = kind == REPORT_CHANNEL ? sqlite_channel_name(c, row, &id, name, err)
                                      : sqlite_row_id(c, kinds[kind], row, &id, err);
        if (code == ERR_OK)
            report_found(r, id);
    }
    return code;
}

/* ---- the question ---- */

static enum err_code slice(struct sqlite_conn *c, struct store_report *q, bool *done, struct err *err)
{
    int left = SLICE;
    struct report_state *r = q->state;
    struct scan *scan;
    enum err_code code = ERR_OK;

    if (r == NULL)
        code = plan(c, q, err);
    if (code != ERR_OK)
        return code;
    r = q->state;
    scan = report_scan(r);
    if (!scan->names) {
        code = scan_rows(c, scan, &left, err);
        if (code != ERR_OK || left <= 0)
            return code;
        report_arrange(r);
        scan->names = true;
    }
    code = find_ids(c, r, &left, err);
    *done = code == ERR_OK && left > 0;
    return code;
}

bool sqlite_ask_report(struct sqlite_conn *c, struct store_report *q)
{
    struct err *err = &q->super.err;
    bool done = false;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    if (code == ERR_OK) {
        sqlite_names_begin(c);
        code = slice(c, q, &done, err);
        (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    }
    if (code != ERR_OK) {
        store_report_dispose(q);
        return true;
    }
    if (done)
        report_finish(q->state);
    return done;
}
