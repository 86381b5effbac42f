/* test_race_budget.c - the last dollar: whatever bounds what may be spent (a wallet, two wallets, a credit line, lots
 * that lapse, a budget of anyone over any window), of many callers at once exactly as many are let through as it
 * bears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "lib_race.h"
#include "lib_sql.h"

enum { WHOLESALE = 1000, RETAIL = 700, PLENTY = 100000000, MOST = 40 }; /* MOST: let through in a round */
#define START (INT64_C(1800000000) * CLOCK_SECOND)
#define DAY (24 * 3600 * CLOCK_SECOND)

struct arena {
    struct world w;
    struct race_holds holds;
    int64_t now;
    unsigned random;
    int64_t versions[RECORD_KINDS];
    int64_t spent_wholesale, spent_retail; /* since the window began */
};

/* Makes the arena bear <k> holds of the round, and almost one more. */
typedef void bear_fn(struct arena *a, int round, int k);

static void set_time(struct arena *a, int64_t step)
{
    a->now += step;
    clock_freeze(a->now, 0);
}

static int64_t almost(int64_t price, int k)
{
    return price * (k + 1) - 1;
}

/* ---- rounds ---- */

static void run_round(struct arena *a, bear_fn *bear, int round, int callers, bool customer)
{
    int k = rand_r(&a->random) % ((callers < MOST ? callers : MOST) + 2), captured;
    int64_t retail = customer ? RETAIL : -1;

    bear(a, round, k);
    race_hold(&a->w, &a->holds, callers, WHOLESALE, retail);
    assert_int_equal(a->holds.n_won, k < callers ? k : callers);
    race_check_wallet(&a->w, false);
    race_check_wallet(&a->w, true);
    captured = race_end(&a->w, &a->holds, WHOLESALE, retail, &a->random);
    a->spent_wholesale += (int64_t)captured * WHOLESALE;
    a->spent_retail += (int64_t)captured * RETAIL;
    assert_int_equal(world_balance(&a->w, false).held, 0);
    assert_int_equal(world_balance(&a->w, true).held, 0);
}

static void run_rounds(bear_fn *bear, bool customer)
{
    static const int callers[] = {2, 10, 1000};
    static struct arena a;

    memset(&a, 0, sizeof(a));
    a.random = 3;
    for (int i = 0; i < RECORD_KINDS; i++)
        a.versions[i] = 1;
    set_time(&a, START);
    world_init(&a.w);
    world_open(&a.w);
    world_fill(&a.w, 0, 0);
    for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++)
        for (int round = 0; round < RACE_ROUNDS; round++)
            run_round(&a, bear, round, callers[i], customer);
    world_close(&a.w);
    clock_release();
    assert_int_equal(world_fsck(&a.w), 0);
    world_dispose(&a.w);
}

/* ---- wallets ---- */

static void bear_tenant(struct arena *a, int round, int k)
{
    (void)round;
    race_fill(&a->w, false, almost(WHOLESALE, k));
}

static void tenant_wallet(void **state)
{
    (void)state;
    run_rounds(bear_tenant, false);
}

static void bear_customer(struct arena *a, int round, int k)
{
    (void)round;
    race_fill(&a->w, false, PLENTY);
    race_fill(&a->w, true, almost(RETAIL, k));
}

static void customer_wallet(void **state)
{
    (void)state;
    run_rounds(bear_customer, true);
}

/* Now the one, now the other wallet is short, or both. */
static void bear_both(struct arena *a, int round, int k)
{
    race_fill(&a->w, false, round % 3 == 0 ? PLENTY : almost(WHOLESALE, k));
    race_fill(&a->w, true, round % 3 == 1 ? PLENTY : almost(RETAIL, k));
}

static void both_legs(void **state)
{
    (void)state;
    run_rounds(bear_both, true);
}

/* ---- lots ---- */

static void put_lot(struct arena *a, int64_t amount, int64_t expires_at)
{
    struct store_credit op = {
        .super = {.kind = STORE_CREDIT},
        .tenant_row = a->w.tenant,
        .amount = amount,
        .category = rand_r(&a->random) % 2 == 0 ? CREDIT_PAID : CREDIT_PROMOTIONAL,
        .priority = rand_r(&a->random) % 3,
        .expires_at = expires_at,
    };

    assert_int_equal(world_do(&a->w, &op.super), ERR_OK);
}

/* Small lots that no hold fits into; and one that would bear many, but has just lapsed or is about to. */
static void bear_lots(struct arena *a, int round, int k)
{
    int64_t left = almost(WHOLESALE, k), part;
    bool lapses = round % 2 == 0;

    set_time(a, 10 * CLOCK_SECOND);
    assert_int_equal(world_credit(&a->w, false, 1), ERR_OK); /* a batch begins: what is due lapses */
    race_fill(&a->w, false, 0);
    for (int i = 0; i < 12 && left > 0; i++) {
        part = i == 11 ? left : 1 + (int64_t)(rand_r(&a->random) % (unsigned)left);
        put_lot(a, part, i % 3 == 0 ? a->now + 3 * CLOCK_SECOND + i : i % 3 == 1 ? a->now + DAY : 0);
        left -= part;
    }
    if (lapses) {
        put_lot(a, (int64_t)MOST * WHOLESALE, a->now + CLOCK_SECOND);
        set_time(a, CLOCK_SECOND); /* the race's first batch finds it lapsed */
    }
}

static void lots(void **state)
{
    (void)state;
    run_rounds(bear_lots, false);
}

/* ---- records ---- */

static void put_again(struct arena *a, void *record, int64_t row)
{
    struct record *r = record;
    enum record_kind kind = r->kind;
    struct err err;

    r->row = row;
    r->version = a->versions[kind];
    if (world_put(&a->w, record, NULL, &err) != ERR_OK)
        fail_msg("put: %s", err.message);
    a->versions[kind]++;
}

/* What was drawn is paid back in part, the line moves, and what it bears is all below zero. */
static void bear_credit_line(struct arena *a, int round, int k)
{
    enum { LINE = 100 * WHOLESALE };
    struct tenant *t = world_tenant("Tenant");

    if (a->versions[RECORD_TENANT] > 1) /* there is a line already */
        race_fill(&a->w, false, LINE / 2);
    t->credit_limit = LINE + round % 7 * WHOLESALE;
    put_again(a, t, a->w.tenant);
    race_fill(&a->w, false, almost(WHOLESALE, k));
    assert_true(world_balance(&a->w, false).posted < 0);
}

static void credit_line(void **state)
{
    (void)state;
    run_rounds(bear_credit_line, false);
}

/* ---- budgets ---- */

struct budget_case {
    enum record_kind owner;
    const char *window;
    int64_t turn; /* after how long a new window has begun for sure; 0: never */
};

static struct budget_case budget_case;

static char *budgets_text(const char *window, int64_t amount)
{
    char *text = mem_alloc(200);

    (void)snprintf(text, 200, "[{\"amount\":\"%lld.%09lld\",\"window\":\"%s\"}]", (long long)(amount / USD),
                   (long long)(amount % USD), window);
    return text;
}

static void bear_budget(struct arena *a, int round, int k)
{
    const struct budget_case *c = &budget_case;
    struct tenant *t;
    struct customer *customer;
    struct api_key *key;

    race_fill(&a->w, false, PLENTY);
    race_fill(&a->w, true, PLENTY);
    if (c->turn != 0 && round % 5 == 0) {
        set_time(a, c->turn);
        a->spent_wholesale = a->spent_retail = 0;
    }
    if (c->owner == RECORD_TENANT) {
        t = world_tenant("Tenant");
        t->budgets = budgets_text(c->window, a->spent_wholesale + almost(WHOLESALE, k));
        put_again(a, t, a->w.tenant);
    } else if (c->owner == RECORD_CUSTOMER) {
        customer = world_customer(&a->w, "Customer", true);
        customer->budgets = budgets_text(c->window, a->spent_retail + almost(RETAIL, k));
        put_again(a, customer, a->w.customer);
    } else {
        key = world_key(&a->w, "customer key", a->w.customer);
        key->budgets = budgets_text(c->window, a->spent_retail + almost(RETAIL, k));
        put_again(a, key, a->w.customer_key);
    }
}

static void budgets(void **state)
{
    static const struct budget_case cases[] = {
        {RECORD_KEY, "day", DAY},
        {RECORD_KEY, "lifetime", 0},
        {RECORD_KEY, "rolling:3600s", 2 * 3600 * CLOCK_SECOND},
        {RECORD_CUSTOMER, "day", DAY},
        {RECORD_CUSTOMER, "lifetime", 0},
        {RECORD_CUSTOMER, "rolling:3600s", 2 * 3600 * CLOCK_SECOND},
        {RECORD_TENANT, "day", DAY},
        {RECORD_TENANT, "lifetime", 0},
        {RECORD_TENANT, "rolling:3600s", 2 * 3600 * CLOCK_SECOND},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        budget_case = cases[i];
        run_rounds(bear_budget, true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tenant_wallet), cmocka_unit_test(customer_wallet), cmocka_unit_test(both_legs),
        cmocka_unit_test(lots),          cmocka_unit_test(credit_line),     cmocka_unit_test(budgets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
