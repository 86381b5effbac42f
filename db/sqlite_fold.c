/* sqlite_fold.c - sums of days, folded from the roll-ups of minutes.
 *
 *   rollups, in the order of their key:  |== quarter ==|== quarter ==|== quarter == ...
 *                                        .......folded.......|^ mark: quarter, tenant, minute
 *   a row that comes before the mark (a refund, a clock that was set back) goes into its minute and its days at once
 *
 * Invariants, at every commit
 *  (1) A sum of a day of UTC is that of its roll-ups before the mark.
 *  (2) So is one of a day of another zone, of a tenant whose minutes of it were folded in that zone: tenant_zones says
 * which were. They begin where the tenant's were folded to when its zone changed.
 *  (3) A day has one row in `spans`, unless the zone's rules changed since: then two have minutes in common, and what
 * their sums are is nobody's business any more (sqlite_report.c looks at the minutes instead).
 * The writer's connection, inside its transactions. */
#include "sqlite_conn.h"

#include <stdlib.h>

#include "daemon/base/failpoint.h"
#include "daemon/base/table.h"
#include "days.h"

enum { ALWAYS_FIRST = 64 }; /* elements of a growing array */

/* A zone that tenants live in; the first is UTC. */
struct fold_zone {
    int64_t row; /* of `zones`; UTC: 0 */
    char name[ZONE_NAME];
    struct zone *zone;  /* NULL: the machine does not know it any more */
    int64_t begin, end; /* the day that was asked for last */
    int64_t span;       /* its row; 0: none was */
};

struct sqlite_fold {
    struct fold_mark mark;
    int64_t latest; /* the greatest quarter that has roll-ups; -1: none */
    struct fold_zone *zones;
    size_t n_zones, cap_zones;
};

/* ---- the state ---- */

static struct fold_zone *add_zone(struct sqlite_fold *f, int64_t row, const char *name)
{
    struct fold_zone *z;

    if (f->n_zones == f->cap_zones) {
        f->cap_zones = f->cap_zones != 0 ? f->cap_zones * 2 : ALWAYS_FIRST;
        f->zones = mem_realloc(f->zones, f->cap_zones * sizeof(f->zones[0]));
    }
    z = &f->zones[f->n_zones++];
    memset(z, 0, sizeof(*z));
    z->row = row;
    (void)slice_copy(slice_from(name), z->name, sizeof(z->name));
    if (zone_open(name, &z->zone, NULL) != ERR_OK)
        z->zone = NULL;
    return z;
}

static enum err_code step_failed(struct sqlite_conn *c, int rc, const char *doing, struct err *err)
{
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, doing, err);
}

enum err_code sqlite_fold_load(struct sqlite_conn *c, struct err *err)
{
    struct sqlite_fold *f;
    int64_t first;
    enum err_code code;

    if (c->fold != NULL)
        return ERR_OK;
    f = mem_zalloc(sizeof(*f));
    c->fold = f;
    (void)add_zone(f, 0, "UTC");
    code = sqlite_read_mark(c, &f->mark, err);
    if (code == ERR_OK)
        code = sqlite_rollup_ends(c, &first, &f->latest, err);
    if (code != ERR_OK)
        sqlite_fold_dispose(c);
    return code;
}

void sqlite_fold_dispose(struct sqlite_conn *c)
{
    struct sqlite_fold *f = c->fold;

    for (size_t i = 0; f != NULL && i < f->n_zones; i++)
        zone_unref(f->zones[i].zone);
    if (f != NULL)
        free(f->zones);
    free(f);
    c->fold = NULL;
}

void sqlite_folding(const struct sqlite_conn *c, struct fold_state *out)
{
    const struct sqlite_fold *f = c->fold;

    TG_ASSERT(f != NULL);
    out->folded = f->mark.quarter * ROLLUP_QUARTER * ROLLUP_MINUTE;
    out->latest = f->latest < 0 ? -1 : f->latest * ROLLUP_QUARTER * ROLLUP_MINUTE;
}

const struct fold_mark *sqlite_fold_mark(const struct sqlite_conn *c)
{
    return &c->fold->mark;
}

int64_t sqlite_fold_latest(const struct sqlite_conn *c)
{
    return c->fold->latest;
}

/* ---- days ---- */

static enum err_code find_span(struct sqlite_conn *c, struct fold_zone *z, bool *found, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_SPANS];
    int rc;

    *found = false;
    sqlite3_bind_int64(s, 1, z->row);
    sqlite3_bind_int64(s, 2, z->begin);
    sqlite3_bind_int64(s, 3, z->end);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && !*found) {
        *found = sqlite3_column_int64(s, 1) == z->begin && sqlite3_column_int64(s, 2) == z->end;
        z->span = sqlite3_column_int64(s, 0);
    }
    sqlite3_reset(s);
    return step_failed(c, rc, "Cannot read a day", err);
}

static enum err_code make_span(struct sqlite_conn *c, struct fold_zone *z, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_SPAN];
    enum err_code code;

    sqlite3_bind_int64(s, 1, z->row);
    sqlite3_bind_int64(s, 2, z->begin);
    sqlite3_bind_int64(s, 3, z->end);
    code = sqlite_run(c, s, "Cannot write a day", err);
    z->span = sqlite3_last_insert_rowid(c->db);
    return code;
}

/* The row of the day that a minute is in, which is made when there is none. The zone is known. */
static enum err_code span_at(struct sqlite_conn *c, struct fold_zone *z, int64_t minute, int64_t *span, struct err *err)
{
    enum err_code code = ERR_OK;
    bool found = false;

    if (z->span == 0 || minute < z->begin || minute >= z->end) {
        days_at(z->zone, minute, &z->begin, &z->end);
        z->span = 0;
        code = find_span(c, z, &found, err);
        if (code == ERR_OK && !found)
            code = make_span(c, z, err);
        if (code != ERR_OK)
            z->span = 0;
    }
    *span = z->span;
    return code;
}

/* ---- zones of tenants ---- */

static enum err_code zone_row(struct sqlite_conn *c, const char *name, int64_t *row, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_ZONE];
    int rc;
    enum err_code code;

    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    *row = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    if (rc != SQLITE_DONE)
        return step_failed(c, rc, "Cannot read a zone", err);
    s = c->statements[SQL_PUT_ZONE];
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    code = sqlite_run(c, s, "Cannot write a zone", err);
    *row = sqlite3_last_insert_rowid(c->db);
    return code;
}

/* The zone of a name; UTC where the machine does not know it. */
static enum err_code zone_named(struct sqlite_conn *c, const char *name, struct fold_zone **out, struct err *err)
{
    struct sqlite_fold *f = c->fold;
    int64_t row;
    enum err_code code = ERR_OK;

    for (size_t i = 0; i < f->n_zones; i++)
        if (strcmp(f->zones[i].name, name) == 0) {
            *out = f->zones[i].zone != NULL ? &f->zones[i] : &f->zones[0];
            return ERR_OK;
        }
    code = zone_row(c, name, &row, err);
    if (code != ERR_OK)
        return code;
    *out = add_zone(f, row, name);
    if ((*out)->zone == NULL)
        *out = &f->zones[0];
    return ERR_OK;
}

/* NULL: the machine does not know it. */
static enum err_code zone_of_row(struct sqlite_conn *c, int64_t row, struct fold_zone **out, struct err *err)
{
    struct sqlite_fold *f = c->fold;
    sqlite3_stmt *s = c->statements[SQL_GET_ZONE_NAME];
    char name[ZONE_NAME] = "";
    int rc;

    *out = NULL;
    for (size_t i = 0; i < f->n_zones; i++)
        if (f->zones[i].row == row) {
            *out = f->zones[i].zone != NULL ? &f->zones[i] : NULL;
            return ERR_OK;
        }
    sqlite3_bind_int64(s, 1, row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        sqlite_column_copy(s, 0, name, sizeof(name));
    sqlite3_reset(s);
    if (rc == SQLITE_ROW) {
        *out = add_zone(f, row, name);
        *out = (*out)->zone != NULL ? *out : NULL;
    }
    return step_failed(c, rc, "Cannot read a zone", err);
}

struct living {
    int64_t since, zone, until; /* a row of tenant_zones; until INT64_MAX: still */
};

static enum err_code put_living(struct sqlite_conn *c, int64_t tenant, struct living l, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_TENANT_ZONE];

    sqlite3_bind_int64(s, 1, tenant);
    sqlite3_bind_int64(s, 2, l.since);
    sqlite3_bind_int64(s, 3, l.zone);
    sqlite3_bind_int64(s, 4, l.until);
    return sqlite_run(c, s, "Cannot write a tenant's zone", err);
}

/* The last of them (minute < 0), or the one that a minute is in. */
static enum err_code find_living(struct sqlite_conn *c, int64_t tenant, int64_t minute, struct living *out, bool *found,
                                 struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_TENANT_ZONES];
    int rc;

    *found = false;
    sqlite3_bind_int64(s, 1, tenant);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        struct living l = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2)};

        if (minute >= 0 && (minute < l.since || minute >= l.until))
            continue;
        *out = l;
        *found = true;
    }
    sqlite3_reset(s);
    return step_failed(c, rc, "Cannot read a tenant's zones", err);
}

static enum err_code tenant_timezone(struct sqlite_conn *c, int64_t tenant, struct fold_zone **out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_TENANT_TIMEZONE];
    char name[ZONE_NAME] = "UTC";
    int rc;

    sqlite3_bind_int64(s, 1, tenant);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        sqlite_column_copy(s, 0, name, sizeof(name));
    sqlite3_reset(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_error(c, "Cannot read a tenant's zone", err);
    return zone_named(c, name, out, err);
}

/* In which zone a tenant's minutes from <from> on are folded; notes that it begins there when it is another than
 * before. Nothing of it from there on is folded yet. */
static enum err_code settle_zone(struct sqlite_conn *c, int64_t tenant, int64_t from, struct fold_zone **out,
                                 struct err *err)
{
    struct living last = {0, 0, 0};
    bool found;
    enum err_code code = tenant_timezone(c, tenant, out, err);

    if (code == ERR_OK)
        code = find_living(c, tenant, -1, &last, &found, err);
    if (code != ERR_OK || (found && last.zone == (*out)->row && last.until == INT64_MAX))
        return code;
    if (!found)
        return put_living(c, tenant, (struct living){0, (*out)->row, INT64_MAX}, err);
    if (last.since < from && last.until > from)
        code = put_living(c, tenant, (struct living){last.since, last.zone, from}, err);
    return code == ERR_OK ? put_living(c, tenant, (struct living){from, (*out)->row, INT64_MAX}, err) : code;
}

/* ---- sums ---- */

enum day_table { DAY_CUSTOMERS = 0, DAY_KEYS, DAY_ITEMS };

struct day_key {
    int64_t table, span, tenant, a, b; /* as the table's key */
};

struct day_sum {
    struct day_key key;
    int64_t sums[ROLLUP_SUMS];
};

/* What is to be added to sums of days, each once. */
struct day_sums {
    struct day_sum *at;
    size_t n, cap;
    struct table index; /* 1 + place, by key */
};

struct sum_probe {
    const struct day_sums *sums;
    const struct day_key *key;
};

static bool match_sum(const void *item, const void *key)
{
    const struct sum_probe *probe = key;

    return memcmp(&probe->sums->at[(uintptr_t)item - 1].key, probe->key, sizeof(*probe->key)) == 0;
}

static void add_sum(struct day_sums *d, struct day_key key, const int64_t sums[ROLLUP_SUMS])
{
    struct sum_probe probe = {d, &key};
    uint64_t hash = table_hash_bytes(&key, sizeof(key));
    size_t place = (uintptr_t)table_get(&d->index, hash, match_sum, &probe);

    if (place == 0) {
        if (d->n == d->cap) {
            d->cap = d->cap != 0 ? d->cap * 2 : ALWAYS_FIRST;
            d->at = mem_realloc(d->at, d->cap * sizeof(d->at[0]));
        }
        memset(&d->at[d->n], 0, sizeof(d->at[0]));
        d->at[d->n].key = key;
        place = ++d->n;
        (void)table_put(&d->index, hash, match_sum, &probe, (void *)place);
    }
    for (int i = 0; i < ROLLUP_SUMS; i++)
        rollup_add(&d->at[place - 1].sums[i], sums[i]);
}

/* A roll-up into the three sums of a day. */
static void add_rollup(struct day_sums *d, int64_t span, const struct rollup *r)
{
    const struct rollup_key *k = &r->key;

    add_sum(d, (struct day_key){DAY_CUSTOMERS, span, k->tenant_row, k->customer_row, 0}, r->sums);
    add_sum(d, (struct day_key){DAY_KEYS, span, k->tenant_row, k->key_row, k->customer_row}, r->sums);
    add_sum(d, (struct day_key){DAY_ITEMS, span, k->tenant_row, k->item, k->channel_row}, r->sums);
}

static enum err_code put_sums(struct sqlite_conn *c, const struct day_sums *d, struct err *err)
{
    static const enum sql statements[] = {SQL_ADD_DAY_CUSTOMER, SQL_ADD_DAY_KEY, SQL_ADD_DAY_ITEM};
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < d->n; i++) {
        const struct day_sum *sum = &d->at[i];
        sqlite3_stmt *s = c->statements[statements[sum->key.table]];

        if (FAILPOINT(DAY_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, sum->key.span);
        sqlite3_bind_int64(s, 2, sum->key.tenant);
        sqlite3_bind_int64(s, 3, sum->key.a);
        if (sum->key.table != DAY_CUSTOMERS)
            sqlite3_bind_int64(s, 4, sum->key.b);
        for (int k = 0; k < ROLLUP_SUMS; k++)
            sqlite3_bind_int64(s, 5 + k, sum->sums[k]);
        code = sqlite_run(c, s, "Cannot write the sum of a day", err);
    }
    return code;
}

static void dispose_sums(struct day_sums *d)
{
    table_dispose(&d->index);
    free(d->at);
}

/* ---- what comes behind the mark ---- */

/* The row of the day of a zone that a minute is in. 0: there is none, and none can be made. */
static enum err_code late_span(struct sqlite_conn *c, int64_t zone, int64_t minute, int64_t *span, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_SPANS];
    struct fold_zone *z;
    enum err_code code;
    int rc;

    sqlite3_bind_int64(s, 1, zone);
    sqlite3_bind_int64(s, 2, minute);
    sqlite3_bind_int64(s, 3, minute + 1);
    rc = sqlite3_step(s);
    *span = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    code = step_failed(c, rc, "Cannot read a day", err);
    if (code != ERR_OK || *span != 0)
        return code;
    code = zone_of_row(c, zone, &z, err);
    return code == ERR_OK && z != NULL ? span_at(c, z, minute, span, err) : code;
}

/* The tenant's minutes of a zone, but for this one, of which no day is known. */
static enum err_code leave_out(struct sqlite_conn *c, int64_t tenant, struct living l, int64_t minute, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_DROP_TENANT_ZONE];
    enum err_code code = ERR_OK;

    if (l.since < minute) {
        code = put_living(c, tenant, (struct living){l.since, l.zone, minute}, err);
    } else {
        sqlite3_bind_int64(s, 1, tenant);
        sqlite3_bind_int64(s, 2, l.since);
        code = sqlite_run(c, s, "Cannot write a tenant's zone", err);
    }
    if (code == ERR_OK && l.until > minute + 1)
        code = put_living(c, tenant, (struct living){minute + 1, l.zone, l.until}, err);
    return code;
}

/* Where the tenant's own days are to get it. 0: nowhere. */
static enum err_code late_own_span(struct sqlite_conn *c, const struct rollup_key *k, int64_t *span, struct err *err)
{
    struct fold_zone *zone;
    struct living l = {0, 0, 0};
    bool found;
    enum err_code code = find_living(c, k->tenant_row, -1, &l, &found, err);

    *span = 0;
    if (code == ERR_OK && !found) /* its first minute of all */
        code = settle_zone(c, k->tenant_row, 0, &zone, err);
    if (code == ERR_OK)
        code = find_living(c, k->tenant_row, k->minute, &l, &found, err);
    if (code != ERR_OK || !found || l.zone == 0)
        return code;
    code = late_span(c, l.zone, k->minute, span, err);
    return code == ERR_OK && *span == 0 ? leave_out(c, k->tenant_row, l, k->minute, err) : code;
}

enum err_code sqlite_fold_late(struct sqlite_conn *c, const struct rollup *r, struct err *err)
{
    int64_t quarter = r->key.minute / ROLLUP_QUARTER, span;
    struct day_sums sums = {.n = 0};
    enum err_code code = sqlite_fold_load(c, err);

    if (code != ERR_OK)
        return code;
    if (quarter > c->fold->latest)
        c->fold->latest = quarter;
    if (r->key.minute >= fold_frontier(&c->fold->mark, r->key.tenant_row))
        return ERR_OK;
    table_init(&sums.index);
    code = span_at(c, &c->fold->zones[0], r->key.minute, &span, err);
    if (code == ERR_OK) {
        add_rollup(&sums, span, r);
        code = late_own_span(c, &r->key, &span, err);
    }
    if (code == ERR_OK && span != 0)
        add_rollup(&sums, span, r);
    if (code == ERR_OK)
        code = put_sums(c, &sums, err);
    dispose_sums(&sums);
    return code;
}

/* ---- folding ---- */

struct fold_step {
    struct day_sums sums;
    int64_t tenant;        /* whose zone that is; 0: nobody's yet */
    size_t zone;           /* place */
    struct fold_mark last; /* of the row before */
    int rows;
};

static void read_rollup(sqlite3_stmt *s, struct rollup *r)
{
    r->key = (struct rollup_key){.minute = sqlite3_column_int64(s, 0) * ROLLUP_QUARTER + sqlite3_column_int64(s, 2),
                                 .tenant_row = sqlite3_column_int64(s, 1),
                                 .customer_row = sqlite3_column_int64(s, 3),
                                 .key_row = sqlite3_column_int64(s, 4),
                                 .item = sqlite3_column_int64(s, 5),
                                 .channel_row = sqlite3_column_int64(s, 6)};
    for (int i = 0; i < ROLLUP_SUMS; i++)
        r->sums[i] = sqlite3_column_int64(s, 7 + i);
}

static enum err_code fold_rollup(struct sqlite_conn *c, struct fold_step *step, const struct rollup *r, struct err *err)
{
    struct sqlite_fold *f = c->fold;
    struct fold_zone *zone;
    int64_t span;
    enum err_code code = ERR_OK;

    if (step->tenant != r->key.tenant_row) {
        code = settle_zone(c, r->key.tenant_row, fold_frontier(&f->mark, r->key.tenant_row), &zone, err);
        if (code != ERR_OK)
            return code;
        step->tenant = r->key.tenant_row;
        step->zone = (size_t)(zone - f->zones);
    }
    code = span_at(c, &f->zones[0], r->key.minute, &span, err);
    if (code == ERR_OK)
        add_rollup(&step->sums, span, r);
    if (code == ERR_OK && step->zone != 0) {
        code = span_at(c, &f->zones[step->zone], r->key.minute, &span, err);
        if (code == ERR_OK)
            add_rollup(&step->sums, span, r);
    }
    return code;
}

/* Takes rows from the mark on, at least <rows> of them; the last ones of one tenant and minute. *next: the new mark. */
static enum err_code read_step(struct sqlite_conn *c, struct fold_step *step, int64_t before, int rows,
                               struct fold_mark *next, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_UNFOLDED];
    const struct fold_mark *mark = &c->fold->mark;
    enum err_code code = ERR_OK;
    struct rollup r;
    int rc;

    sqlite3_bind_int64(s, 1, mark->quarter);
    sqlite3_bind_int64(s, 2, mark->tenant);
    sqlite3_bind_int64(s, 3, mark->minute);
    sqlite3_bind_int64(s, 4, before);
    *next = (struct fold_mark){before, 0, 0};
    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        struct fold_mark at = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2)};

        if (rc != SQLITE_ROW) {
            code = sqlite_error(c, "Cannot read roll-ups", err);
            break;
        }
        if (step->rows >= rows && memcmp(&at, &step->last, sizeof(at)) != 0) {
            *next = at;
            break;
        }
        read_rollup(s, &r);
        code = fold_rollup(c, step, &r, err);
        step->last = at;
        step->rows++;
    }
    sqlite3_reset(s);
    return code;
}

enum err_code sqlite_fold(struct sqlite_conn *c, int64_t before, int rows, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_FOLDED];
    struct fold_step step = {.tenant = 0};
    struct fold_mark next;
    int64_t quarter = before / (ROLLUP_QUARTER * ROLLUP_MINUTE);
    enum err_code code = sqlite_fold_load(c, err);

    if (code != ERR_OK || quarter <= c->fold->mark.quarter)
        return code;
    table_init(&step.sums.index);
    code = read_step(c, &step, quarter, rows, &next, err);
    if (code == ERR_OK)
        code = put_sums(c, &step.sums, err);
    dispose_sums(&step.sums);
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(s, 1, next.quarter);
    sqlite3_bind_int64(s, 2, next.tenant);
    sqlite3_bind_int64(s, 3, next.minute);
    code = sqlite_run(c, s, "Cannot write what is folded", err);
    if (code == ERR_OK)
        c->fold->mark = next; /* should the commit fail, the store has failed */
    return code == ERR_OK ? FAILPOINT_CODE(FOLD_MOVED, err) : code;
}
