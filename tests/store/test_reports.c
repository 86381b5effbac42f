/* test_reports.c - reports against every record summed up by hand: tenants in four time zones over the days on which
 * clocks are moved, refunds of old records, overage, wallets of customers, clocks that fall back, tenants that move to
 * another zone, processes that are killed while days are folded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "db/engine.h"
#include "lib_sql.h"
#include "lib_trade.h"

#define MINUTE (60 * CLOCK_SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (INT64_C(1790899200) * CLOCK_SECOND) /* 2026-10-02; Lord Howe's clocks go on on 4 October, */
enum { DAYS = 34 };                                /* New York's back on 1 November */

enum { TENANTS = 4, CUSTOMERS = 2, PARTIES = TENANTS * (1 + CUSTOMERS), CHANNELS = 2, BURST = 6, SUMS = 12 };

static const char *const zones[] = {"UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"};

/* Who calls: a tenant's own key, or that of its customer. The second customer has no wallet of its own. */
struct party {
    int64_t tenant, customer, key;
    bool own_wallet;
};

struct town {
    struct world world; /* first: see world_tear_down */
    struct party parties[PARTIES];
    int64_t tenants[TENANTS], channels[CHANNELS];
    struct id tenant_ids[TENANTS];
    int64_t now;
};

/* ---- the town ---- */

static struct record *put(struct town *t, void *record)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};

    MUST(world_do(&t->world, &op.super) == ERR_OK);
    return op.record; /* a reference */
}

static int64_t put_row(struct town *t, void *record)
{
    struct record *r = put(t, record);
    int64_t row = r->row;

    record_unref(r);
    return row;
}

static void credit(struct town *t, int64_t tenant, int64_t customer, int64_t amount)
{
    struct store_credit op = {
        .super = {.kind = STORE_CREDIT}, .tenant_row = tenant, .customer_row = customer, .amount = amount};

    MUST(world_do(&t->world, &op.super) == ERR_OK);
}

static void found_tenant(struct town *t, int i, const char *zone)
{
    struct tenant *tenant = world_tenant("Tenant");
    struct record *r;

    strcpy(tenant->timezone, zone);
    r = put(t, tenant);
    t->tenants[i] = t->world.tenant = r->row;
    t->tenant_ids[i] = r->id;
    record_unref(r);
    credit(t, t->tenants[i], 0, 4000000);
    t->parties[i * 3] = (struct party){t->tenants[i], 0, put_row(t, world_key(&t->world, "own", 0)), false};
    for (int k = 1; k <= CUSTOMERS; k++) {
        struct party *p = &t->parties[i * 3 + k];

        p->tenant = t->tenants[i];
        p->own_wallet = k == 1;
        p->customer = put_row(t, world_customer(&t->world, k == 1 ? "Own" : "Shared", k == 1));
        p->key = put_row(t, world_key(&t->world, "customer's", p->customer));
        if (k == 1)
            credit(t, p->tenant, p->customer, 3000000);
    }
}

static void found(struct town *t, const char *const names[TENANTS])
{
    clock_freeze(START, 0);
    world_init(&t->world);
    world_open(&t->world);
    for (int i = 0; i < CHANNELS; i++)
        t->channels[i] = put_row(t, world_channel(i == 0 ? "one" : "two", "sk-upstream"));
    for (int i = 0; i < TENANTS; i++)
        found_tenant(t, i, names[i]);
    t->now = START;
}

static int set_up(void **state)
{
    struct town *t = mem_zalloc(sizeof(*t));

    found(t, zones);
    *state = t;
    return 0;
}

/* ---- what happens ---- */

static void make_call(struct town *t, struct dice *dice, struct store_hold *hold, struct store_capture *capture)
{
    static const char *const models[] = {"dall-e-2", "dall-e-3", "gpt-image-1"};
    static const char *const sizes[] = {"256x256", "1024x1024"};
    const struct party *p = &t->parties[below(dice, PARTIES)];
    int64_t wholesale = 100 + below(dice, 900), charge = wholesale * (1 + below(dice, 12)) / 10;

    world_hold_init(&t->world, hold, wholesale, -1);
    secret_random(hold->id.b + 6, ID_BYTES - 6); /* another one in every process that is forked */
    hold->call.tenant_row = p->tenant;
    hold->call.customer_row = p->customer;
    hold->call.key_row = p->key;
    hold->call.channel_row = below(dice, 8) == 0 ? 0 : t->channels[below(dice, CHANNELS)];
    hold->call.operation = below(dice, 3) == 0 ? OPERATION_EDITS : OPERATION_GENERATIONS;
    strcpy(hold->call.model, models[below(dice, 3)]);
    strcpy(hold->call.size, sizes[below(dice, 2)]);
    strcpy(hold->call.quality, below(dice, 2) == 0 ? "high" : "");
    hold->n_legs = p->own_wallet ? 2 : 1;
    hold->retail_max = p->customer != 0 ? wholesale * 2 : wholesale;
    hold->legs[1] = (struct store_leg){true, p->own_wallet ? hold->retail_max : 0};
    if (below(dice, 20) == 0) {
        hold->call.test = true;
        hold->n_legs = 0;
    }
    world_capture_init(capture, hold->id, charge / 2, charge, p->customer != 0 ? charge * 2 : -1);
    capture->usage.images = 1 + (int)below(dice, 3);
    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        capture->usage.quantities.of[i] = below(dice, 4) == 0 ? 0 : below(dice, 2000);
}

/* Some calls at one moment. */
static void burst(struct town *t, struct dice *dice)
{
    static struct store_hold holds[BURST];
    static struct store_capture captures[BURST];
    int n = 1 + (int)below(dice, BURST);

    for (int i = 0; i < n; i++) {
        make_call(t, dice, &holds[i], &captures[i]);
        MUST(world_do(&t->world, &holds[i].super) == ERR_OK);
        if (below(dice, 12) == 0)
            MUST(world_doubt(&t->world, holds[i].id) == ERR_OK);
        else
            MUST(world_do(&t->world, &captures[i].super) == ERR_OK);
    }
}

static void refund(struct town *t, struct dice *dice)
{
    int64_t last = sql_number(t->world.url, "SELECT max(seq) FROM usage");

    if (last > 0)
        (void)trade_refund(&t->world, 1 + below(dice, last), below(dice, 2) * 7);
}

static void move(struct town *t, struct dice *dice)
{
    int i = (int)below(dice, TENANTS);
    struct store_list q = {.super = {.question = STORE_GET}, .kind = RECORD_TENANT, .id = t->tenant_ids[i], .limit = 1};
    struct tenant *new = world_tenant("Tenant");
    const struct tenant *old;

    world_ask(&t->world, &q.super);
    MUST(q.super.err.code == ERR_OK);
    old = (const struct tenant *)q.items[0];
    new->super.id = old->super.id;
    new->super.row = old->super.row;
    new->super.version = old->super.version;
    strcpy(new->timezone, zones[below(dice, TENANTS)]);
    record_unref(q.items[0]);
    record_unref(put(t, new));
}

static void reopen(struct town *t)
{
    world_close(&t->world);
    world_open(&t->world);
}

/* <hours> of business. */
static void live(struct town *t, struct dice *dice, int hours, bool moves)
{
    int64_t end = t->now + hours * HOUR;

    while (t->now < end) {
        t->now += below(dice, 3 * HOUR) + 1000;
        clock_freeze(t->now, 0);
        burst(t, dice);
        if (below(dice, 4) == 0)
            refund(t, dice);
        if (moves && below(dice, 12) == 0)
            move(t, dice);
        if (below(dice, 40) == 0)
            reopen(t);
        if (below(dice, 30) == 0)
            trade_fold(&t->world, t->now - HOUR);
    }
}

/* ---- by hand ---- */

struct group {
    int64_t of[8]; /* rows and numbers as in a report's key; -1: not grouped by */
    int bucket;
    int64_t sums[SUMS];
    bool seen;
};

struct truth {
    const struct usage_record *records;
    int n;
    struct zone *zone;
    int n_buckets;
    int64_t *begins; /* and the end of the last */
    struct group *groups;
    int n_groups;
};

static const char *names[64];
static int n_names;

static int64_t number_of(const char *name)
{
    for (int i = 0; i < n_names; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    names[n_names] = mem_strdup(name);
    return n_names++;
}

static bool begins_hour(const struct zone *z, int64_t minute)
{
    int64_t local = minute * 60 + zone_offset(z, minute * MINUTE);

    return local % 3600 == 0 || zone_day_at(z, minute * MINUTE) != zone_day_at(z, minute * MINUTE - 1);
}

static bool begins_bucket(const struct truth *t, const struct store_report *q, int64_t minute)
{
    switch (q->width) {
    case REPORT_MINUTE:
        return true;
    case REPORT_HOUR:
        return begins_hour(t->zone, minute);
    case REPORT_DAY:
        return zone_day_at(t->zone, minute * MINUTE) != zone_day_at(t->zone, minute * MINUTE - 1);
    case REPORT_ALL:
        break;
    }
    return false;
}

static void cut(struct truth *t, const struct store_report *q)
{
    int64_t begin = q->filter.start_time / MINUTE, end = (q->filter.end_time + MINUTE - 1) / MINUTE;

    t->begins = mem_alloc((size_t)(end - begin + 2) * sizeof(t->begins[0]));
    t->n_buckets = 0;
    for (int64_t m = begin; m < end; m++)
        if (m == begin || begins_bucket(t, q, m))
            t->begins[t->n_buckets++] = m * MINUTE;
    t->begins[t->n_buckets] = end * MINUTE;
}

static bool row_in(const struct filter_rows *f, int64_t row)
{
    for (int i = 0; i < f->n; i++)
        if (f->rows[i] == row)
            return true;
    return f->n == 0;
}

static bool name_in(const struct filter_names *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->names[i], name) == 0)
            return true;
    return f->n == 0;
}

static bool is_meant(const struct store_filter *f, const struct usage_record *u)
{
    const struct store_call *c = &u->call;

    return row_in(&f->tenants, c->tenant_row) && row_in(&f->customers, c->customer_row) &&
           row_in(&f->keys, c->key_row) && row_in(&f->channels, c->channel_row) && name_in(&f->models, c->model) &&
           name_in(&f->sizes, c->size) && name_in(&f->qualities, c->quality) &&
           (f->operations == 0 || (f->operations >> c->operation & 1) != 0);
}

static void add_record(struct truth *t, unsigned by, int bucket, const struct usage_record *u)
{
    const struct store_call *c = &u->call;
    const int64_t all[8] = {c->tenant_row,         c->customer_row,       c->key_row,
                            number_of(c->model),   (int64_t)c->operation, number_of(c->size),
                            number_of(c->quality), c->channel_row};
    struct group g = {.bucket = bucket};
    int i = 0;

    for (int d = 0; d < 8; d++)
        g.of[d] = (by >> d & 1) != 0 ? all[d] : -1;
    while (i < t->n_groups && (t->groups[i].bucket != bucket || memcmp(t->groups[i].of, g.of, sizeof(g.of)) != 0))
        i++;
    if (i == t->n_groups)
        t->groups[t->n_groups++] = g;
    t->groups[i].sums[0]++;
    t->groups[i].sums[1] += u->images;
    for (int k = PRICE_TEXT_INPUT; k < PRICE_UNITS; k++)
        t->groups[i].sums[2 + k - PRICE_TEXT_INPUT] += u->quantities.of[k];
    t->groups[i].sums[8] += u->cost;
    t->groups[i].sums[9] += u->wholesale;
    t->groups[i].sums[10] += u->retail;
    t->groups[i].sums[11] += u->refunded;
}

static void sum_up(struct truth *t, const struct store_report *q)
{
    MUST(zone_open(q->zone[0] != '\0' ? q->zone : "UTC", &t->zone, NULL) == ERR_OK);
    cut(t, q);
    t->groups = mem_zalloc((size_t)(t->n + 1) * sizeof(t->groups[0]));
    t->n_groups = 0;
    for (int i = 0; i < t->n; i++) {
        const struct usage_record *u = &t->records[i];
        int bucket = 0;

        if (t->n_buckets == 0 || u->created_at < t->begins[0] || u->created_at >= t->begins[t->n_buckets] ||
            !is_meant(&q->filter, u))
            continue;
        while (u->created_at >= t->begins[bucket + 1])
            bucket++;
        add_record(t, q->group_by, bucket, u);
    }
}

static void forget(struct truth *t)
{
    zone_unref(t->zone);
    free(t->begins);
    free(t->groups);
}

/* ---- comparing ---- */

static void sums_of(const struct report_row *row, int64_t out[SUMS])
{
    out[0] = row->requests;
    out[1] = row->images;
    for (int k = PRICE_TEXT_INPUT; k < PRICE_UNITS; k++)
        out[2 + k - PRICE_TEXT_INPUT] = row->tokens[k];
    out[8] = row->cost;
    out[9] = row->wholesale;
    out[10] = row->retail;
    out[11] = row->refunded;
}

/* Ids by row, from the records. */
static bool names_it(const struct truth *t, const struct group *g, const struct report_row *row)
{
    const struct usage_record *u = NULL;

    for (int i = 0; i < t->n && u == NULL; i++) {
        const struct store_call *c = &t->records[i].call;

        if ((g->of[0] < 0 || g->of[0] == c->tenant_row) && (g->of[1] < 0 || g->of[1] == c->customer_row) &&
            (g->of[2] < 0 || g->of[2] == c->key_row) && (g->of[7] < 0 || g->of[7] == c->channel_row))
            u = &t->records[i];
    }
    MUST(u != NULL);
    return (g->of[0] < 0 ? id_is_zero(row->tenant) : id_eq(row->tenant, u->tenant_id)) &&
           (g->of[1] < 0 ? id_is_zero(row->customer) : id_eq(row->customer, u->customer_id)) &&
           (g->of[2] < 0 ? id_is_zero(row->key) : id_eq(row->key, u->key_id)) &&
           (g->of[7] < 0 ? id_is_zero(row->channel) : id_eq(row->channel, u->channel_id)) &&
           (g->of[3] < 0 ? row->model == NULL : strcmp(row->model, names[g->of[3]]) == 0) &&
           row->operation == (int)g->of[4] &&
           (g->of[5] < 0 ? row->size == NULL : strcmp(row->size, names[g->of[5]]) == 0) &&
           (g->of[6] < 0 ? row->quality == NULL : strcmp(row->quality, names[g->of[6]]) == 0);
}

static void explain(const struct store_report *q, const char *what, int bucket)
{
    fprintf(
        stderr,
        "%s in bucket %d: width %d, zone '%s', group_by %x, tenants %d, customers %d, keys %d, start %lld, end %lld,"
        " limit %d, top %d\n",
        what, bucket, (int)q->width, q->zone, q->group_by, q->filter.tenants.n, q->filter.customers.n, q->filter.keys.n,
        (long long)q->filter.start_time, (long long)q->filter.end_time, q->limit, q->top);
    abort();
}

static void match_row(struct truth *t, const struct store_report *q, const struct report_row *row, int bucket)
{
    int64_t sums[SUMS];

    sums_of(row, sums);
    for (int i = 0; i < t->n_groups; i++) {
        struct group *g = &t->groups[i];

        if (g->seen || g->bucket != bucket || memcmp(g->sums, sums, sizeof(sums)) != 0 || !names_it(t, g, row))
            continue;
        g->seen = true;
        return;
    }
    explain(q, "a row that should not be", bucket);
}

static int64_t value_of(const struct store_report *q, const int64_t sums[SUMS])
{
    const int64_t values[] = {sums[9], sums[10], sums[8], q->retail_margin ? sums[10] - sums[9] : sums[9] - sums[8],
                              sums[0], sums[1]};

    return values[q->order];
}

/* The rows of a bucket of a report with <top>: the largest, the rest added up. */
static void match_top(struct truth *t, const struct store_report *q, const struct report_bucket *b, int bucket)
{
    int64_t least = INT64_MAX, sums[SUMS], rest[SUMS] = {0};
    bool has_rest = false;
    int n = 0, left = 0;

    for (int i = b->first; i < b->first + b->n; i++) {
        sums_of(&q->rows[i], sums);
        if (q->rows[i].rest) {
            has_rest = true;
            memcpy(rest, sums, sizeof(rest));
            continue;
        }
        if (has_rest || value_of(q, sums) > least)
            explain(q, "wrong order", bucket);
        least = value_of(q, sums);
        match_row(t, q, &q->rows[i], bucket);
        n++;
    }
    for (int i = 0; i < t->n_groups; i++) {
        struct group *g = &t->groups[i];

        if (g->bucket != bucket || g->seen)
            continue;
        if (n < q->top || value_of(q, g->sums) > least)
            explain(q, "a larger one is left out", bucket);
        for (int k = 0; k < SUMS; k++)
            rest[k] -= g->sums[k];
        g->seen = true;
        left++;
    }
    for (int k = 0; k < SUMS; k++)
        if (rest[k] != 0)
            explain(q, "the rest is wrong", bucket);
    if (has_rest != (left > 0) || n > q->top)
        explain(q, "too many, or no rest", bucket);
}

static int compare_rows(const struct report_row *a, const struct report_row *b)
{
    const struct id *const x[] = {&a->tenant, &a->customer, &a->key}, *const y[] = {&b->tenant, &b->customer, &b->key};
    const char *const p[] = {a->model, a->size, a->quality}, *const q[] = {b->model, b->size, b->quality};
    int order = 0;

    for (int i = 0; i < 3 && order == 0; i++)
        order = memcmp(x[i]->b, y[i]->b, ID_BYTES);
    for (int i = 0; i < 3 && order == 0; i++) {
        order = p[i] != NULL ? strcmp(p[i], q[i]) : 0;
        if (i == 0 && order == 0)
            order = a->operation - b->operation;
    }
    return order != 0 ? order : memcmp(a->channel.b, b->channel.b, ID_BYTES);
}

static void match_bucket(struct truth *t, const struct store_report *q, const struct report_bucket *b, int bucket)
{
    if (bucket >= t->n_buckets || b->begin != t->begins[bucket] || b->end != t->begins[bucket + 1])
        explain(q, "wrong bounds", bucket);
    for (int i = b->first; i < b->first + b->n; i++)
        if (&q->buckets[q->rows[i].bucket] != b)
            explain(q, "a row of another bucket", bucket);
    if (q->top > 0) {
        match_top(t, q, b, bucket);
        return;
    }
    for (int i = b->first; i < b->first + b->n; i++) {
        match_row(t, q, &q->rows[i], bucket);
        if (i > b->first && compare_rows(&q->rows[i - 1], &q->rows[i]) >= 0)
            explain(q, "wrong order", bucket);
    }
}

/* All pages of a question. Returns how many rows. */
static int compare(struct world *w, const struct usage_record *records, int n, const struct store_report *question)
{
    struct truth t = {.records = records, .n = n};
    struct store_report q = *question;
    int bucket = 0, rows = 0;

    q.super.question = STORE_REPORT;
    sum_up(&t, &q);
    do {
        world_ask(w, &q.super);
        if (q.super.err.code != ERR_OK)
            explain(&q, q.super.err.message, bucket);
        for (int i = 0; i < q.n_buckets; i++)
            match_bucket(&t, &q, &q.buckets[i], bucket++);
        rows += q.n_rows;
        q.from_bucket = q.next;
        if (q.more != (bucket < t.n_buckets) || (q.more && q.next != t.begins[bucket]))
            explain(&q, "wrong end of a page", bucket);
        store_report_dispose(&q);
    } while (q.more);
    for (int i = 0; i < t.n_groups; i++)
        if (!t.groups[i].seen)
            explain(&q, "a group is missing", t.groups[i].bucket);
    forget(&t);
    return rows;
}

/* ---- questions ---- */

static void filter_rows(struct dice *dice, struct filter_rows *f, int one_in, const int64_t *rows, int n)
{
    if (below(dice, one_in) != 0)
        return;
    f->n = 1 + (int)below(dice, 3);
    for (int i = 0; i < f->n; i++)
        f->rows[i] = rows[below(dice, n)];
}

static void filter_some(const struct town *t, struct dice *dice, struct store_filter *f)
{
    int64_t customers[PARTIES + 1], keys[PARTIES];

    for (int i = 0; i < PARTIES; i++) {
        customers[i] = t->parties[i].customer;
        keys[i] = t->parties[i].key;
    }
    customers[PARTIES] = 12345;
    filter_rows(dice, &f->tenants, 2, t->tenants, TENANTS);
    for (int i = 0; i < PARTIES; i++)
        customers[i] = customers[i] != 0 ? customers[i] : customers[1];
    filter_rows(dice, &f->customers, 5, customers, PARTIES + 1);
    filter_rows(dice, &f->keys, 5, keys, PARTIES);
    filter_rows(dice, &f->channels, 8, t->channels, CHANNELS);
    if (below(dice, 8) == 0) {
        f->models.n = 1;
        strcpy(f->models.names[0], below(dice, 2) == 0 ? "dall-e-3" : "gpt-image-1");
    }
    if (below(dice, 10) == 0) {
        f->sizes.n = 1;
        strcpy(f->sizes.names[0], "256x256");
    }
    if (below(dice, 10) == 0)
        f->operations = 1u << OPERATION_EDITS;
}

static struct store_report some_question(const struct town *t, struct dice *dice, int64_t begin, int64_t end)
{
    static const enum report_width widths[] = {REPORT_MINUTE, REPORT_HOUR, REPORT_DAY, REPORT_DAY,
                                               REPORT_DAY,    REPORT_ALL,  REPORT_ALL};
    struct store_report q = {.width = widths[below(dice, 7)], .limit = REPORT_BUCKETS};
    int64_t span = q.width == REPORT_MINUTE ? 2 * DAY : end - begin;

    strcpy(q.zone, below(dice, 4) == 0 ? "" : zones[below(dice, TENANTS)]);
    if (below(dice, 3) == 0)
        q.limit = 1 + (int)below(dice, 40);
    q.filter.start_time = begin + below(dice, 1000) * ((end - begin) / 1000);
    q.filter.end_time = q.filter.start_time + below(dice, 1000) * (span / 1000);
    if (below(dice, 2) == 0) { /* whole days */
        q.filter.start_time -= q.filter.start_time % DAY;
        q.filter.end_time -= q.filter.end_time % DAY;
    }
    if (below(dice, 4) == 0 && q.width != REPORT_MINUTE)
        q.filter.end_time = end + DAY;
    for (int d = 0; d < REPORT_DIMENSIONS; d++)
        q.group_by |= below(dice, 5) == 0 ? 1u << d : 0;
    if (below(dice, 3) == 0)
        q.group_by &= 1u << REPORT_TENANT | 1u << REPORT_CUSTOMER | 1u << REPORT_KEY;
    filter_some(t, dice, &q.filter);
    if (below(dice, 4) == 0) {
        q.top = 1 + (int)below(dice, 5);
        q.order = (enum report_order)below(dice, 6);
        q.retail_margin = below(dice, 2) == 0;
    }
    return q;
}

static void ask_many(struct town *t, struct dice *dice, int questions)
{
    int64_t begin = sql_number(t->world.url, "SELECT min(created_ms) FROM usage") * 1000 - 2 * DAY;
    int n, rows = 0;
    struct usage_record *records = trade_records(&t->world, NULL, &n);

    for (int i = 0; i < questions; i++) {
        struct store_report q = some_question(t, dice, begin, t->now);

        rows += compare(&t->world, records, n, &q);
    }
    assert_true(rows > 0);
    free(records);
}

/* ---- the ledger ---- */

static int64_t kinds_of(const struct world *w, const char *kinds, const char *where)
{
    char sql[256];

    (void)snprintf(sql, sizeof(sql), "SELECT coalesce(sum(amount), 0) FROM transfers WHERE kind IN (%s) AND %s", kinds,
                   where);
    return sql_number(w->url, sql);
}

/* Whatever a report says was charged, was moved. */
static void equals_the_ledger(struct town *t)
{
    struct store_report q = {.super = {.question = STORE_REPORT},
                             .width = REPORT_ALL,
                             .limit = 1,
                             .group_by = 1u << REPORT_TENANT,
                             .filter = {.start_time = 1, .end_time = t->now + 400 * DAY}};
    struct world *w = &t->world;
    int64_t cost = 0, refunded = 0, retail = 0;

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n_rows, TENANTS);
    for (int i = 0; i < TENANTS; i++) {
        char where[64];

        (void)snprintf(where, sizeof(where), "credit = %lld", (long long)t->tenants[i] * 16 + 2);
        assert_true(id_eq(q.rows[i].tenant, t->tenant_ids[i]));
        assert_int_equal(q.rows[i].wholesale, kinds_of(w, "1, 6", where));
        cost += q.rows[i].cost;
        refunded += q.rows[i].refunded;
    }
    store_report_dispose(&q);
    assert_int_equal(cost, kinds_of(w, "0, 5", "1"));
    q.group_by = 1u << REPORT_CUSTOMER;
    world_ask(w, &q.super);
    for (int i = 0; i < q.n_rows; i++)
        retail += q.rows[i].retail;
    store_report_dispose(&q);
    assert_int_equal(retail, sql_number(w->url, "SELECT sum(coalesce(retail, wholesale)) FROM usage"));
    q.group_by = 0;
    for (int i = 0, n = 0; i < PARTIES; i++)
        if (t->parties[i].own_wallet)
            q.filter.customers.rows[n++] = t->parties[i].customer, q.filter.customers.n = n;
    world_ask(w, &q.super);
    assert_int_equal(q.n_rows, 1);
    assert_int_equal(q.rows[0].retail, kinds_of(w, "2, 7", "1"));
    refunded -= q.rows[0].refunded;
    assert_int_equal(q.rows[0].refunded, kinds_of(w, "11, 12", "debit & 15 = 3"));
    assert_int_equal(refunded, kinds_of(w, "11, 12",
                                        "debit & 15 = 2 AND (number >> 12) IN (SELECT e.seq FROM entries e JOIN usage u"
                                        " ON u.seq = e.reference WHERE e.kind = 1 AND u.flags & 2048 = 0)"));
    store_report_dispose(&q);
}

/* ---- budgets ---- */

static int64_t spent_by_hand(const struct usage_record *records, int n, const struct budget_owner *o, int64_t from,
                             int64_t to)
{
    int64_t sum = 0;

    for (int i = 0; i < n; i++) {
        const struct store_call *c = &records[i].call;
        bool is_of = o->kind == BUDGET_TENANT     ? c->tenant_row == o->row
                     : o->kind == BUDGET_CUSTOMER ? c->customer_row == o->row
                                                  : c->key_row == o->row;

        if (is_of && records[i].created_at >= from && records[i].created_at < to)
            sum += o->retail ? records[i].retail : records[i].wholesale;
    }
    return sum;
}

static void compare_spent(struct town *t, struct dice *dice)
{
    int n, applied;
    struct usage_record *records = trade_records(&t->world, NULL, &n);
    struct engine *e = NULL;
    struct err err;

    world_close(&t->world);
    MUST(engine_open(t->world.url, t->world.secrets, &e, &err) == ERR_OK);
    MUST(e->class->migrate(e, false, &applied, &err) == ERR_OK);
    MUST(e->class->begin(e, &err) == ERR_OK);
    for (int i = 0; i < 400; i++) {
        const struct party *p = &t->parties[below(dice, PARTIES)];
        struct budget_owner o = {.kind = (enum budget_owner_kind)below(dice, 3), .tenant_row = p->tenant};
        int64_t from = START - 3 * DAY + below(dice, 40 * DAY),
                to = from + below(dice, i % 2 == 0 ? 3 * HOUR : 40 * DAY);
        int64_t sum = -1;

        if (i % 5 == 0)
            from -= from % DAY;
        if (i % 7 == 0)
            to -= to % DAY;
        if (i % 11 == 0)
            to = INT64_MAX;
        o.row = o.kind == BUDGET_TENANT ? p->tenant : o.kind == BUDGET_KEY ? p->key : p->customer;
        o.retail = o.kind != BUDGET_TENANT;
        if (o.row == 0)
            continue;
        MUST(e->class->spent(e, &o, from, to, &sum, &err) == ERR_OK);
        assert_int_equal(sum, spent_by_hand(records, n, &o, from, to));
    }
    e->class->rollback(e);
    e->class->close(e, true);
    free(records);
    world_open(&t->world);
}

/* ---- tests ---- */

static void equal_every_record(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed()};

    live(t, &dice, 3, false); /* nothing is folded yet, or little */
    ask_many(t, &dice, 20);
    live(t, &dice, 24 * DAYS, false);
    ask_many(t, &dice, 150);
    trade_fold(&t->world, t->now - 2 * HOUR);
    ask_many(t, &dice, 150);
    assert_true(sql_number(t->world.url, "SELECT count(*) FROM day_keys JOIN spans ON row = span WHERE zone <> 0") >
                50);
    equals_the_ledger(t);
    compare_spent(t, &dice);
}

static void over_clock_steps(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed() + 1};

    for (int i = 0; i < 6; i++) {
        live(t, &dice, 60, false);
        if (i % 2 == 0)
            trade_fold(&t->world, t->now - HOUR);
        t->now -= 20 * HOUR + below(&dice, DAY);
        clock_freeze(t->now, 0);
        ask_many(t, &dice, 25);
    }
    assert_true(sql_number(t->world.url, "SELECT count(*) FROM clock_steps") > 3);
    compare_spent(t, &dice);
    equals_the_ledger(t);
}

static void tenants_move(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed() + 2};

    for (int i = 0; i < 5; i++) {
        live(t, &dice, 100, true);
        ask_many(t, &dice, 40);
        assert_int_equal(world_fsck(&t->world), 0);
    }
    assert_true(sql_number(t->world.url, "SELECT count(*) FROM tenant_zones WHERE until IS NOT NULL") > 5);
    equals_the_ledger(t);
}

static int64_t last_event(const struct world *w)
{
    return sql_number(w->url, "SELECT max(created_ms) FROM usage") * 1000;
}

/* A process dies while it folds and is asked to go on with old records; what is there then is right. */
static void killed_while_folding(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed() + 3};

    live(t, &dice, 30, false);
    for (int i = 0; i < 6; i++) {
        pid_t child;

        world_close(&t->world);
        child = fork();
        MUST(child >= 0);
        if (child == 0) {
            struct dice own = {dice_seed() + 100 + (uint64_t)i};

            world_open(&t->world);
            for (;;)
                live(t, &own, 1000, true);
        }
        (void)usleep((useconds_t)(30000 + below(&dice, 120000)));
        MUST(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
        t->now = last_event(&t->world) + MINUTE;
        clock_freeze(t->now, 0);
        world_open(&t->world);
        assert_int_equal(world_fsck(&t->world), 0);
        ask_many(t, &dice, 10);
    }
    assert_true(sql_number(t->world.url, "SELECT count(*) FROM day_customers") > 0);
}

/* Roll-ups are made anew from the records by the migration, and folded by whoever opens the store then. */
static void folds_what_was_there(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed() + 4};
    int64_t rows;

    live(t, &dice, 400, true);
    trade_fold(&t->world, t->now - HOUR);
    rows = sql_number(t->world.url, "SELECT count(*) FROM day_keys");
    world_close(&t->world);
    sql_exec(t->world.url,
             "DELETE FROM day_customers; DELETE FROM day_keys; DELETE FROM day_items; DELETE FROM spans;"
             "DELETE FROM zones; DELETE FROM tenant_zones; UPDATE folded SET quarter = 0, tenant = 0, minute = 0");
    assert_int_equal(world_fsck(&t->world), 0);
    world_open(&t->world);
    ask_many(t, &dice, 20);
    trade_fold(&t->world, t->now - HOUR);
    assert_true(sql_number(t->world.url, "SELECT count(*) FROM day_keys") > rows / 2);
    ask_many(t, &dice, 40);
}

/* The rules of a zone changed after days were folded: their sums are not used. */
static void rules_change(void **state)
{
    struct town *t = *state;
    struct dice dice = {dice_seed() + 5};

    live(t, &dice, 200, false);
    trade_fold(&t->world, t->now - HOUR);
    world_close(&t->world);
    sql_exec(t->world.url, "CREATE TABLE moved AS SELECT row FROM spans WHERE zone <> 0 AND row % 3 = 0;"
                           "UPDATE spans SET begin = begin - 60 WHERE row IN (SELECT row FROM moved)");
    world_open(&t->world);
    live(t, &dice, 100, false);
    ask_many(t, &dice, 60);
    world_close(&t->world);
    sql_exec(t->world.url, "UPDATE spans SET begin = begin + 60 WHERE row IN (SELECT row FROM moved)"
                           " AND NOT EXISTS (SELECT 1 FROM spans s WHERE s.zone = spans.zone AND s.row <> spans.row"
                           "  AND s.begin < spans.end AND s.end > spans.begin + 60); DROP TABLE moved");
    world_open(&t->world);
}

/* Each is seen, and is gone when it is taken back. */
static void damage_is_found(void **state)
{
    static const char *const damages[][2] = {
        {"UPDATE day_keys SET images = images + 1 WHERE span = 1",
         "UPDATE day_keys SET images = images - 1 WHERE span = 1"},
        {"UPDATE day_items SET refunded = refunded + 1 WHERE span = (SELECT max(span) FROM day_items)",
         "UPDATE day_items SET refunded = refunded - 1 WHERE span = (SELECT max(span) FROM day_items)"},
        {"CREATE TABLE kept AS SELECT * FROM day_customers; DELETE FROM day_customers WHERE span = 2",
         "INSERT OR IGNORE INTO day_customers SELECT * FROM kept; DROP TABLE kept"},
        {"UPDATE folded SET quarter = quarter - 40, tenant = 0, minute = 0",
         "UPDATE folded SET quarter = quarter + 40"},
        {"UPDATE spans SET zone = 9 WHERE row = 2",
         "UPDATE spans SET zone = (SELECT zone FROM kept_zone) WHERE row = 2"}};
    struct town *t = *state;
    struct dice dice = {dice_seed() + 7};
    int64_t until = START + 60 * HOUR;

    live(t, &dice, 60, false);
    t->now = until;
    clock_freeze(until, 0);
    trade_fold(&t->world, until - HOUR);
    world_close(&t->world);
    sql_exec(t->world.url, "CREATE TABLE kept_zone AS SELECT zone FROM spans WHERE row = 2");
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        assert_int_equal(world_fsck(&t->world), 0);
        sql_exec(t->world.url, damages[i][0]);
        assert_int_equal(world_fsck(&t->world), 1);
        sql_exec(t->world.url, damages[i][1]);
    }
    sql_exec(t->world.url, "DROP TABLE kept_zone");
    world_open(&t->world);
}

static enum err_code refused(struct world *w, struct store_report q, const char *param)
{
    q.super.question = STORE_REPORT;
    world_ask(w, &q.super);
    assert_null(q.buckets);
    assert_null(q.rows);
    assert_null(q.state);
    if (param != NULL)
        assert_string_equal(q.super.err.param, param);
    store_report_dispose(&q);
    return q.super.err.code;
}

static void odd_questions(void **state)
{
    struct town *t = *state;
    struct world *w = &t->world;
    struct dice dice = {dice_seed() + 6};
    struct store_report q = {.super = {.question = STORE_REPORT}, .limit = 5, .width = REPORT_DAY};

    q.filter.start_time = START;
    q.filter.end_time = START + 3 * DAY;
    world_ask(w, &q.super); /* nothing has happened */
    assert_int_equal(q.n_buckets, 3);
    assert_int_equal(q.n_rows, 0);
    assert_false(q.more);
    store_report_dispose(&q);
    live(t, &dice, 50, false);
    strcpy(q.zone, "Mars/Olympus");
    assert_int_equal(refused(w, q, "timezone"), ERR_INVALID_VALUE);
    q.zone[0] = '\0';
    q.limit = 0;
    assert_int_equal(refused(w, q, "limit"), ERR_INVALID_VALUE);
    q.limit = REPORT_BUCKETS + 1;
    assert_int_equal(refused(w, q, "limit"), ERR_INVALID_VALUE);
    q.limit = 5;
    q.filter.end_time = START - 1; /* before its start */
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n_buckets, 0);
    store_report_dispose(&q);
    q.filter.start_time = 0; /* for ever */
    q.filter.end_time = INT64_MAX;
    q.width = REPORT_ALL;
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n_rows, 1);
    assert_int_equal(q.rows[0].requests, sql_number(w->url, "SELECT count(*) FROM usage"));
    store_report_dispose(&q);
    q.filter.end_time = 0; /* until now */
    world_ask(w, &q.super);
    assert_int_equal(q.rows[0].requests, sql_number(w->url, "SELECT count(*) FROM usage"));
    assert_int_equal(q.buckets[0].end, (t->now + MINUTE - 1) / MINUTE * MINUTE);
    store_report_dispose(&q);
    q.filter.customers = (struct filter_rows){1, {12345}}; /* nobody */
    world_ask(w, &q.super);
    assert_int_equal(q.n_rows, 0);
    store_report_dispose(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(equal_every_record, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(over_clock_steps, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(tenants_move, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(killed_while_folding, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(folds_what_was_there, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(rules_change, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(damage_is_found, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(odd_questions, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
