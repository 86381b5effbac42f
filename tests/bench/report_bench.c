/* report_bench.c - a month of ten million usage records, and how long reports over it take.
 *
 *   report_bench PATH [records]
 *
 * Makes the store PATH when it is not there: October 2026, 50 tenants in four time zones, 1,000 customers (a quarter
 * with wallets of their own), 3,000 keys, 12 items, 3 channels; more by day than by night and on workdays, some keys
 * much busier than others, a refund now and then. All of it through the store's own transactions under a set clock, so
 * that it is a store like any other: its sums of days are folded, fsck finds it clean. Ten million take about ten
 * minutes.
 *
 * Then asks for reports, each several times, and tells the fastest and the middle time of each. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "db/store_state.h"

enum { TENANTS = 50, CUSTOMERS = 1000, KEYS = 3000, CHANNELS = 3, ITEMS = 12, DAYS = 31 };
enum { RECORDS = 10000000, PAIRS = STORE_BATCH / 2, ROUNDS = 7, WANT_MS = 50 };

#define MINUTE (60 * CLOCK_SECOND)
#define DAY (24 * 60 * MINUTE)
#define BEGIN (INT64_C(1790812800) * CLOCK_SECOND) /* 2026-10-01, a Thursday */

static const char *const zones[] = {"UTC", "Asia/Kolkata", "America/New_York", "Europe/Berlin"};
static const char *const models[] = {"gpt-image-1", "gpt-image-1-mini", "dall-e-3"};
static const char *const sizes[] = {"1024x1024", "1536x1024"};
static const char *const qualities[] = {"medium", "high"};

static struct {
    struct store *store;
    struct secrets *secrets;
    uint64_t random;
    int64_t tenants[TENANTS], customers[CUSTOMERS], channels[CHANNELS];
    struct key {
        int64_t row, tenant, customer;
        bool own_wallet;
    } keys[KEYS];
    struct store_hold holds[PAIRS];
    struct store_capture captures[PAIRS];
} month = {.random = 88172645463325252u};

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "report_bench: %s: %s\n", what, err != NULL ? err->message : "");
    exit(1);
}

static int64_t below(int64_t n)
{
    month.random ^= month.random << 13;
    month.random ^= month.random >> 7;
    month.random ^= month.random << 17;
    return (int64_t)((month.random >> 11) % (uint64_t)n);
}

/* Of n places the first ones more often. */
static int64_t skewed(int64_t n)
{
    int64_t a = below(n), b = below(n);

    return a * b / n;
}

/* ---- who there is ---- */

static void apply(struct store_op *op)
{
    if (store_apply(month.store, op) != ERR_OK)
        die("set-up refused", &op->err);
}

static int64_t put(void *record, const char *name, int64_t number)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};
    int64_t row;

    op.record->id = id_make();
    (void)snprintf(op.record->name, sizeof(op.record->name), "%s %lld", name, (long long)number);
    apply(&op.super);
    row = op.record->row;
    record_unref(op.record);
    return row;
}

static void add_credit(int64_t tenant, int64_t customer)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = tenant,
                              .customer_row = customer,
                              .amount = INT64_C(900000000000000000)};

    apply(&op.super);
}

static void add_tenant(int i)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);

    strcpy(t->timezone, zones[(size_t)i % (sizeof(zones) / sizeof(zones[0]))]);
    month.tenants[i] = put(t, "Tenant", i);
    add_credit(month.tenants[i], 0);
}

static void add_customer(int i)
{
    struct customer *c = record_create(RECORD_CUSTOMER, 0);

    c->tenant_row = month.tenants[i % TENANTS];
    c->own_wallet = i % 4 == 0;
    month.customers[i] = put(c, "Customer", i);
    if (i % 4 == 0)
        add_credit(month.tenants[i % TENANTS], month.customers[i]);
}

static void add_key(int i)
{
    struct api_key *key = record_create(RECORD_KEY, 0);
    struct key *k = &month.keys[i];
    bool own = i % 7 == 0; /* the tenant's own */
    int customer = i % CUSTOMERS;

    k->tenant = month.tenants[customer % TENANTS];
    k->customer = own ? 0 : month.customers[customer];
    k->own_wallet = !own && customer % 4 == 0;
    key->tenant_row = k->tenant;
    key->customer_row = k->customer;
    secret_random(key->digest, sizeof(key->digest));
    k->row = put(key, "Key", i);
}

static void fill(void)
{
    clock_freeze(BEGIN - DAY, 0);
    for (int i = 0; i < CHANNELS; i++)
        month.channels[i] = put(record_create(RECORD_CHANNEL, 0), "Channel", i);
    for (int i = 0; i < TENANTS; i++)
        add_tenant(i);
    for (int i = 0; i < CUSTOMERS; i++)
        add_customer(i);
    for (int i = 0; i < KEYS; i++)
        add_key(i);
}

/* ---- what happens ---- */

static void make_hold(struct store_hold *op, const struct key *k)
{
    int64_t item = skewed(ITEMS);

    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_HOLD;
    op->id = id_make();
    op->call.tenant_row = k->tenant;
    op->call.customer_row = k->customer;
    op->call.key_row = k->row;
    op->call.channel_row = month.channels[skewed(CHANNELS)];
    strcpy(op->call.model, models[item % 3]);
    op->call.operation = OPERATION_GENERATIONS;
    strcpy(op->call.size, sizes[item / 3 % 2]);
    strcpy(op->call.quality, qualities[item / 6]);
    op->call.n = 1;
    op->n_legs = k->own_wallet ? 2 : 1;
    op->legs[0].amount = op->wholesale_max = 190000000;
    op->retail_max = k->customer != 0 ? 228000000 : op->wholesale_max;
    op->legs[1] = (struct store_leg){true, op->n_legs == 2 ? op->retail_max : 0};
    op->cost_max = 167000000;
    op->version_cost = op->version_wholesale = 1;
    op->created_at = clock_wall();
}

static void make_capture(struct store_capture *op, const struct store_hold *hold)
{
    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_CAPTURE;
    op->hold = hold->id;
    op->usage.cost = 40000000 + below(4000000);
    op->charges[0] = op->usage.wholesale = op->usage.retail = op->usage.cost * 6 / 5;
    if (hold->call.customer_row != 0)
        op->charges[1] = op->usage.retail = op->usage.wholesale * 6 / 5;
    op->usage.images = 1;
    op->usage.status = 200;
    op->usage.duration_ms = 10000 + below(20000);
    op->usage.upstream_ms = op->usage.duration_ms - 1;
    op->usage.quantities.of[PRICE_TEXT_INPUT] = 20 + below(100);
    op->usage.quantities.of[PRICE_IMAGE_OUTPUT] = 1056;
    (void)snprintf(op->usage.upstream_request_id, sizeof(op->usage.upstream_request_id), "req_%032llx",
                   (unsigned long long)month.random);
}

/* <n> calls at one moment, in one transaction. */
static void run_calls(int n)
{
    struct store_op *chain = NULL;

    for (int i = n - 1; i >= 0; i--) {
        make_hold(&month.holds[i], &month.keys[skewed(KEYS)]);
        make_capture(&month.captures[i], &month.holds[i]);
        month.captures[i].super.mail.next = chain != NULL ? &chain->mail : NULL;
        month.holds[i].super.mail.next = &month.captures[i].super.mail;
        chain = &month.holds[i].super;
    }
    batch_run(month.store, chain, 2 * (size_t)n);
    for (int i = 0; i < n; i++)
        if (month.captures[i].super.err.code != ERR_OK)
            die("a call was refused", &month.captures[i].super.err);
}

static void refund_some(void)
{
    struct store_refund op = {.super = {.kind = STORE_REFUND}, .seq = month.captures[0].usage.seq, .amount = 1000000};

    batch_run(month.store, &op.super, 1);
    if (op.super.err.code != ERR_OK)
        die("a refund was refused", &op.super.err);
}

/* Parts of a thousand of the busiest minute. */
static int64_t busy(int64_t minute)
{
    int64_t hour = minute / 60 % 24, day = (minute / 1440 + 3) % 7; /* 0: Monday */
    int64_t by_day = hour < 6 ? 250 : hour < 9 ? 600 : hour < 18 ? 1000 : 700;

    return day >= 5 ? by_day * 6 / 10 : by_day;
}

static void tidy(bool all)
{
    struct err err;

    while (fold_due(month.store))
        fold_run(month.store, true);
    if (month.store->engine->class->tidy(month.store->engine, all, &err) != ERR_OK)
        die("tidy", &err);
}

static void generate(int64_t records)
{
    int64_t minutes = DAYS * 24 * 60, all = 0, done = 0, parts = 0;

    for (int64_t m = 0; m < minutes; m++)
        all += busy(m);
    for (int64_t m = 0; m < minutes; m++) {
        parts += busy(m);
        for (int64_t due = (int64_t)((__int128)records * parts / all) - done; due > 0;) {
            int n = due < PAIRS ? (int)due : PAIRS;

            clock_freeze(BEGIN + m * MINUTE + below(50) * CLOCK_SECOND, m * MINUTE);
            run_calls(n);
            due -= n;
            done += n;
        }
        if (m % 97 == 0 && done > 0)
            refund_some();
        tidy(false);
        if (m % 1440 == 1439)
            fprintf(stderr, "day %lld: %lld records\n", (long long)m / 1440 + 1, (long long)done);
    }
    clock_freeze(BEGIN + DAYS * DAY + 20 * MINUTE, minutes * MINUTE);
    tidy(true);
}

/* ---- what is asked ---- */

static struct box {
    struct mailbox super;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *head;
} box;

static void post(struct mailbox *b, struct mail *chain)
{
    (void)b;
    pthread_mutex_lock(&box.lock);
    box.head = chain;
    pthread_cond_signal(&box.wake);
    pthread_mutex_unlock(&box.lock);
}

static void nothing(struct mail *mail)
{
    (void)mail;
}

static int64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * CLOCK_SECOND + t.tv_nsec / 1000;
}

static int64_t ask(const struct store_report *question, int *buckets, int *rows, int64_t *requests)
{
    struct store_report q = *question;
    int64_t began = now_us(), took;

    q.super.question = STORE_REPORT;
    q.super.mail.deliver = nothing;
    q.super.reply_to = &box.super;
    store_ask(month.store, &q.super);
    pthread_mutex_lock(&box.lock);
    while (box.head == NULL)
        pthread_cond_wait(&box.wake, &box.lock);
    box.head = NULL;
    pthread_mutex_unlock(&box.lock);
    took = now_us() - began;
    if (q.super.err.code != ERR_OK)
        die("a report was refused", &q.super.err);
    *buckets = q.n_buckets;
    *rows = q.n_rows;
    *requests = 0;
    for (int i = 0; i < q.n_rows; i++)
        *requests += q.rows[i].requests;
    store_report_dispose(&q);
    return took;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static bool measure(const char *what, struct store_report q, int64_t want_ms)
{
    int64_t took[ROUNDS], requests;
    int buckets, rows;

    if (q.filter.start_time == 0)
        q.filter.start_time = BEGIN;
    if (q.filter.end_time == 0)
        q.filter.end_time = BEGIN + DAYS * DAY;
    if (q.limit == 0)
        q.limit = REPORT_BUCKETS;
    for (int i = 0; i < ROUNDS; i++)
        took[i] = ask(&q, &buckets, &rows, &requests);
    qsort(took, ROUNDS, sizeof(took[0]), compare);
    printf("%-52s %7.1f ms, middle %7.1f ms  %4d buckets %6d rows %9lld requests%s\n", what, (double)took[0] / 1e3,
           (double)took[ROUNDS / 2] / 1e3, buckets, rows, (long long)requests,
           want_ms == 0                                  ? ""
           : took[ROUNDS / 2] <= want_ms * INT64_C(1000) ? "  reached"
                                                         : "  MISSED");
    fflush(stdout);
    return want_ms == 0 || took[ROUNDS / 2] <= want_ms * 1000;
}

enum { TENANT = 1 << REPORT_TENANT, CUSTOMER = 1 << REPORT_CUSTOMER, KEY = 1 << REPORT_KEY, MODEL = 1 << REPORT_MODEL };

static bool measure_all(void)
{
    const struct filter_rows one = {1, {1}}, kolkata = {1, {2}};
    const int64_t week = BEGIN + 24 * DAY;
    bool good = true;

    good &= measure("a month by customer and day, platform",
                    (struct store_report){.group_by = CUSTOMER, .width = REPORT_DAY}, WANT_MS);
    good &= measure("a month by customer and day, one tenant",
                    (struct store_report){.filter.tenants = one, .group_by = CUSTOMER, .width = REPORT_DAY}, WANT_MS);
    good &= measure("the same in its own zone, Asia/Kolkata",
                    (struct store_report){
                        .filter.tenants = kolkata, .group_by = CUSTOMER, .width = REPORT_DAY, .zone = "Asia/Kolkata"},
                    WANT_MS);
    good &= measure("a month by customer, platform", (struct store_report){.group_by = CUSTOMER, .width = REPORT_ALL},
                    WANT_MS);
    good &= measure("the first 10 customers of a month, platform",
                    (struct store_report){.group_by = CUSTOMER, .width = REPORT_ALL, .top = 10}, WANT_MS);
    good &= measure("the first 10 keys of a month, platform",
                    (struct store_report){.group_by = KEY, .width = REPORT_ALL, .top = 10}, 0);
    good &= measure("a month by model and day, platform", (struct store_report){.group_by = MODEL, .width = REPORT_DAY},
                    WANT_MS);
    good &= measure("a month by key and day, platform", (struct store_report){.group_by = KEY, .width = REPORT_DAY}, 0);
    good &= measure("7 days by hour, one tenant",
                    (struct store_report){.filter.tenants = one, .filter.start_time = week, .width = REPORT_HOUR}, 0);
    good &=
        measure("7 days by hour, platform", (struct store_report){.filter.start_time = week, .width = REPORT_HOUR}, 0);
    good &= measure("a month by customer and model, one tenant",
                    (struct store_report){.filter.tenants = one, .group_by = CUSTOMER | MODEL, .width = REPORT_ALL}, 0);
    good &= measure("a month by customer and model, platform",
                    (struct store_report){.group_by = CUSTOMER | MODEL, .width = REPORT_ALL}, 0);
    good &= measure("a month by tenant and day in Europe/Berlin, platform",
                    (struct store_report){.group_by = TENANT, .width = REPORT_DAY, .zone = "Europe/Berlin"}, 0);
    return good;
}

int main(int argc, char **argv)
{
    struct store_options options = {.migrate = true};
    char url[600], key[600];
    struct stat st;
    struct err err;
    bool there, good;

    if (argc < 2) {
        fprintf(stderr, "usage: report_bench PATH [records]\n");
        return 2;
    }
    secret_init();
    log_init(LEVEL_ERROR);
    (void)snprintf(url, sizeof(url), "sqlite:%s", argv[1]);
    (void)snprintf(key, sizeof(key), "%s.key", argv[1]);
    if (secret_open(key, NULL, &month.secrets, &err) != ERR_OK)
        die("secrets", &err);
    options.url = url;
    options.secrets = month.secrets;
    there = stat(argv[1], &st) == 0;
    if (!there)
        clock_freeze(BEGIN - DAY, 0);
    if (store_open(&options, &month.store, &err) != ERR_OK)
        die("store_open", &err);
    if (!there) {
        fill();
        generate(argc > 2 ? strtoll(argv[2], NULL, 10) : RECORDS);
        clock_release();
    }
    pthread_mutex_init(&box.lock, NULL);
    pthread_cond_init(&box.wake, NULL);
    box.super.post = post;
    if (store_start(month.store, NULL, NULL, &err) != ERR_OK)
        die("store_start", &err);
    good = measure_all();
    store_close(month.store);
    secret_close(month.secrets);
    return good ? 0 : 1;
}
