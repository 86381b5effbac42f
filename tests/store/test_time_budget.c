/* test_time_budget.c - budgets over months of frozen time: summer time, leap days, ends of months, clocks that jump by
 * an hour or a year, tenants that change their zone, budgets that come in mid-window, and restarts in between.
 *
 * What must happen is worked out from the list of all charges and the C library's own calendar (TZ, localtime_r): a
 * window's sum is that of the charges whose local day, week or month is that of now, so that windows can neither
 * overlap nor leave a gap. At the end fsck compares every counter with the records once more. */
#define _GNU_SOURCE /* timegm */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/base/clock.h"
#include "daemon/billing/budget.h"
#include "lib_world.h"

enum { PRICE = 1000, RETAIL = 1300, CHARGES = 6000, LIMITS = 15, ROLLING = 86400 };
#define HOUR (3600 * CLOCK_SECOND)
#define DAY (24 * HOUR)
#define YEAR (365 * DAY)
#define MILLISECOND INT64_C(1000)

/* A budget: of whom, over what, how much. */
struct limit {
    enum record_kind owner;
    int64_t window; /* BUDGET_DAY.., or seconds */
    int64_t amount;
};

struct charge_made {
    int64_t at, wholesale, retail;
};

struct calendar {
    struct world w;
    const char *zone;
    int64_t versions[RECORD_KINDS];
    int n_limits, n_charges, refused, jumps;
    struct limit limits[LIMITS];
    struct charge_made charges[CHARGES];
    unsigned random;
};

static unsigned below(struct calendar *c, unsigned n)
{
    return (unsigned)rand_r(&c->random) % n;
}

/* ---- the calendar ---- */

static int64_t local_day(int64_t at, struct tm *tm)
{
    time_t seconds = (time_t)(at / CLOCK_SECOND);
    struct tm date = {0};

    assert_non_null(localtime_r(&seconds, tm));
    date.tm_year = tm->tm_year;
    date.tm_mon = tm->tm_mon;
    date.tm_mday = tm->tm_mday;
    return (int64_t)timegm(&date) / 86400;
}

/* Which day, week or month it is; any two instants of one window have the same. */
static int64_t window_of(int64_t window, int64_t at)
{
    struct tm tm;
    int64_t day = local_day(at, &tm);

    switch (window) {
    case BUDGET_DAY:
        return day;
    case BUDGET_WEEK:
        return day - (tm.tm_wday + 6) % 7; /* its Monday */
    case BUDGET_MONTH:
        return tm.tm_year * 12 + tm.tm_mon;
    default:
        return 0;
    }
}

static int64_t price_in(const struct limit *l, int64_t wholesale, int64_t retail)
{
    return l->owner == RECORD_TENANT ? wholesale : retail;
}

/* What counts at <now>: at least *low, at most *high. */
static void counted(const struct calendar *c, const struct limit *l, int64_t now, int64_t *low, int64_t *high)
{
    int64_t length = l->window * CLOCK_SECOND, cell = (length + 59) / 60, late = cell + HOUR; /* filled by the hour */
    int64_t here = l->window <= 0 ? window_of(l->window, now) : 0;

    *low = *high = 0;
    for (int i = 0; i < c->n_charges; i++) {
        const struct charge_made *m = &c->charges[i];
        int64_t amount = price_in(l, m->wholesale, m->retail);

        if (l->window <= 0) {
            *low += window_of(l->window, m->at) == here ? amount : 0;
            continue;
        }
        *low += m->at > now - length && m->at <= now ? amount : 0;
        *high += m->at > now - length - late && m->at < now + late ? amount : 0;
    }
    if (l->window <= 0)
        *high = *low;
}

/* ---- spending ---- */

static const char *window_name(int64_t window)
{
    static char text[BUDGET_WINDOW_TEXT];

    return budget_window_format(window, text);
}

static void fail_at(const struct calendar *c, const struct limit *l, int64_t now, int64_t low, int64_t high,
                    const char *what)
{
    char when[CLOCK_TEXT];

    fail_msg("%s, %s: %s, %s budget of a %s with %lld counts %lld to %lld", c->zone, clock_format(now, when), what,
             window_name(l->window), record_object(l->owner), (long long)l->amount, (long long)low, (long long)high);
}

/* Someone wants a picture at <now>; whether he gets it must be what the charges say. */
static void spend(struct calendar *c, int64_t now)
{
    int64_t wholesale = PRICE - below(c, 2) * below(c, PRICE), low, high;
    const struct limit *bars = NULL, *may_bar = NULL;
    int64_t last = c->n_charges > 0 ? c->charges[c->n_charges - 1].at : 0;
    struct store_hold op;
    enum err_code code;

    if (now < last && now >= last - CLOCK_SECOND) /* to fall back by a moment is to stand still */
        now = last;
    clock_freeze(now, 0);
    world_hold_init(&c->w, &op, PRICE, RETAIL);
    code = world_do(&c->w, &op.super);
    for (int i = 0; i < c->n_limits; i++) {
        const struct limit *l = &c->limits[i];
        int64_t price = price_in(l, PRICE, RETAIL);

        counted(c, l, now, &low, &high);
        if (low + price > l->amount && code == ERR_OK)
            fail_at(c, l, now, low, high, "let through");
        if (low + price > l->amount && bars == NULL)
            bars = l;
        if (high + price > l->amount)
            may_bar = l;
    }
    if (code != ERR_OK && may_bar == NULL)
        fail_msg("%s: refused at %lld: %s", c->zone, (long long)now, op.super.err.message);
    if (code != ERR_OK) {
        assert_int_equal(code, ERR_INSUFFICIENT_QUOTA);
        c->refused++;
        return;
    }
    assert_int_equal(world_capture(&c->w, op.id, 1, wholesale, wholesale * RETAIL / PRICE), ERR_OK);
    assert_true(c->n_charges < CHARGES);
    c->charges[c->n_charges++] = (struct charge_made){now, wholesale, wholesale * RETAIL / PRICE};
}

/* The millisecond at which the day that runs at <after> begins, when none of <before> is on. */
static int64_t day_begins(int64_t before, int64_t after)
{
    while (after - before > MILLISECOND) {
        int64_t middle = before + (after - before) / 2;

        middle -= middle % MILLISECOND;
        *(window_of(BUDGET_DAY, middle) == window_of(BUDGET_DAY, after) ? &after : &before) = middle;
    }
    return after;
}

/* ---- changes ---- */

static char *budgets_text(const struct calendar *c, enum record_kind owner)
{
    struct budget_list list = {.n = 0};
    struct buf text;
    char *copy;

    for (int i = 0; i < c->n_limits; i++)
        if (c->limits[i].owner == owner)
            list.of[list.n++] = (struct budget){c->limits[i].amount, c->limits[i].window};
    buf_init(&text, RECORD_JSON);
    budget_list_format(&list, &text);
    buf_append_char(&text, '\0');
    assert_false(text.full);
    copy = mem_alloc(text.len);
    memcpy(copy, text.p, text.len);
    buf_dispose(&text);
    return copy;
}

static void put_again(struct calendar *c, void *record, int64_t row)
{
    struct record *r = record;
    enum record_kind kind = r->kind;
    struct err err;

    r->row = row;
    r->version = c->versions[kind];
    if (world_put(&c->w, record, NULL, &err) != ERR_OK)
        fail_msg("put: %s", err.message);
    c->versions[kind]++;
}

static void put_tenant(struct calendar *c, bool budgets)
{
    struct tenant *t = world_tenant("Tenant");

    (void)slice_copy(slice_from(c->zone), t->timezone, sizeof(t->timezone));
    t->credit_limit = 1000 * USD;
    t->budgets = budgets ? budgets_text(c, RECORD_TENANT) : NULL;
    put_again(c, t, c->w.tenant);
}

static void put_customer(struct calendar *c, bool budgets)
{
    struct customer *customer = world_customer(&c->w, "Customer", true);

    customer->credit_limit = 1000 * USD;
    customer->budgets = budgets ? budgets_text(c, RECORD_CUSTOMER) : NULL;
    put_again(c, customer, c->w.customer);
}

static void put_key(struct calendar *c, bool budgets)
{
    struct api_key *key = world_key(&c->w, "customer key", c->w.customer);

    key->budgets = budgets ? budgets_text(c, RECORD_KEY) : NULL;
    put_again(c, key, c->w.customer_key);
}

static void set_zone(struct calendar *c, const char *zone)
{
    c->zone = zone;
    setenv("TZ", zone, 1);
    tzset();
}

/* An owner's budgets go and come again: they must count what was charged before. */
static void renew_budgets(struct calendar *c)
{
    static void (*const puts[])(struct calendar * c, bool budgets) = {put_tenant, put_customer, put_key};
    unsigned which = below(c, 3);

    puts[which](c, false);
    puts[which](c, true);
}

/* An hour or a year there, a few pictures, and back again. */
static void jump(struct calendar *c, int64_t now)
{
    static const int64_t jumps[] = {-HOUR, HOUR, -YEAR, YEAR};
    int64_t there = now + jumps[below(c, 4)];

    for (unsigned i = 0, n = 1 + below(c, 6); i < n; i++)
        spend(c, there + i * 2 * CLOCK_SECOND);
    if (below(c, 3) == 0) { /* it comes back while the store is closed */
        world_close(&c->w);
        clock_freeze(now, 0);
        world_open(&c->w);
    }
    c->jumps++;
}

/* ---- the walk ---- */

static void add_limits(struct calendar *c, enum record_kind owner, int64_t price, int day, int week, int month,
                       int rolling)
{
    c->limits[c->n_limits++] = (struct limit){owner, BUDGET_DAY, day * price};
    c->limits[c->n_limits++] = (struct limit){owner, BUDGET_WEEK, week * price};
    c->limits[c->n_limits++] = (struct limit){owner, BUDGET_MONTH, month * price};
    c->limits[c->n_limits++] = (struct limit){owner, ROLLING, rolling * price};
    c->limits[c->n_limits++] = (struct limit){owner, BUDGET_LIFETIME, 2000 * price};
}

static void maybe_change(struct calendar *c, int64_t now, const char *home)
{
    if (below(c, 25) == 0)
        jump(c, now);
    clock_freeze(now, 0);
    if (below(c, 40) == 0)
        renew_budgets(c);
    if (below(c, 60) == 0) {
        set_zone(c, c->zone == home ? "Asia/Kolkata" : home);
        put_tenant(c, true);
    }
    if (below(c, 80) == 0) {
        world_close(&c->w);
        world_open(&c->w);
    }
}

/* From four days before a moment to four days after it, and both sides of each midnight. */
static void walk(struct calendar *c, int64_t moment, const char *home)
{
    int64_t before = moment - 4 * DAY, now = before;

    while (now < moment + 4 * DAY) {
        int64_t step = (2 + (int64_t)below(c, 3 * 3600)) * CLOCK_SECOND + below(c, 1000) * MILLISECOND;

        before = now;
        now += step;
        if (window_of(BUDGET_DAY, before) != window_of(BUDGET_DAY, now)) {
            int64_t begin = day_begins(before, now);

            if (begin - before > 2 * CLOCK_SECOND && now - begin > 2 * CLOCK_SECOND) {
                spend(c, begin - MILLISECOND);
                spend(c, begin);
            }
        }
        spend(c, now);
        maybe_change(c, now, home);
    }
}

static void walk_zone(const char *zone, const char *const *moments, unsigned seed)
{
    static struct calendar c;
    int64_t at;

    memset(&c, 0, sizeof(c));
    c.random = seed;
    for (int i = 0; i < RECORD_KINDS; i++)
        c.versions[i] = 1;
    set_zone(&c, zone);
    assert_true(clock_parse(slice_from(moments[0]), &at));
    clock_freeze(at - 5 * DAY, 0);
    world_init(&c.w);
    world_open(&c.w);
    world_fill(&c.w, 0, 0);
    add_limits(&c, RECORD_TENANT, PRICE, 8, 30, 60, 9);
    add_limits(&c, RECORD_CUSTOMER, RETAIL, 9, 28, 70, 8);
    add_limits(&c, RECORD_KEY, RETAIL, 8, 32, 58, 10);
    put_tenant(&c, true);
    put_customer(&c, true);
    put_key(&c, true);
    for (int i = 0; moments[i] != NULL; i++) {
        assert_true(clock_parse(slice_from(moments[i]), &at));
        walk(&c, at, zone);
        if (world_fsck(&c.w) != 0)
            fail_msg("%s after %s", zone, moments[i]);
    }
    assert_true(c.refused > 20 && c.n_charges > 100);
    world_close(&c.w);
    clock_release();
    unsetenv("TZ");
    tzset();
    assert_int_equal(world_fsck(&c.w), 0);
    world_dispose(&c.w);
}

static void berlin(void **state)
{
    static const char *const moments[] = {"2026-01-31T23:00:00Z", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z",
                                          "2027-12-31T23:00:00Z", "2028-02-29T12:00:00Z", NULL};

    (void)state;
    walk_zone("Europe/Berlin", moments, 1);
}

/* Midnight that is not there, and midnight that comes twice. */
static void sao_paulo(void **state)
{
    static const char *const moments[] = {"2016-02-29T12:00:00Z", "2018-02-18T02:00:00Z", "2018-04-30T03:00:00Z",
                                          "2018-11-04T03:00:00Z", "2019-02-17T02:00:00Z", NULL};
    static const unsigned seeds[] = {2, 32, 162, 182};

    (void)state;
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
        walk_zone("America/Sao_Paulo", moments, seeds[i]);
}

/* A day that never was. */
static void apia(void **state)
{
    static const char *const moments[] = {"2011-09-24T14:00:00Z", "2011-12-30T10:00:00Z", "2012-02-29T12:00:00Z",
                                          "2012-03-31T14:00:00Z", "2020-09-26T14:00:00Z", NULL};
    static const unsigned seeds[] = {3, 113};

    (void)state;
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
        walk_zone("Pacific/Apia", moments, seeds[i]);
}

static void utc(void **state)
{
    static const char *const moments[] = {"2023-12-31T00:00:00Z", "2024-02-29T12:00:00Z", "2024-11-30T00:00:00Z", NULL};
    static const unsigned seeds[] = {4, 124};

    (void)state;
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++)
        walk_zone("UTC", moments, seeds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(berlin),
        cmocka_unit_test(sao_paulo),
        cmocka_unit_test(apia),
        cmocka_unit_test(utc),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
