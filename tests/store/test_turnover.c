/* test_turnover.c - what moved in a wallet in a span of time, against its whole ledger summed up by hand; balances then
 * and grants of a time likewise; on days whose records were pruned too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_trade.h"

enum { DAYS = 9, CALLS = 500, SPANS = 120 };

#define START (INT64_C(1800000000) * CLOCK_SECOND / TRADE_DAY * TRADE_DAY)

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));
    struct dice dice = {42};

    clock_freeze(START, 0);
    world_init(w);
    world_open(w);
    world_fill(w, 200000, 300000);
    trade(w, &dice, START, DAYS, CALLS);
    trade_fold(w, START + DAYS * TRADE_DAY);
    *state = w;
    return 0;
}

static const char *const kinds[] = {"cost",       "charge",  "retail_charge",  "credit",     "adjustment",
                                    "loss",       "overage", "retail_overage", "settlement", "lapse",
                                    "withdrawal", "refund",  "overage_refund"};

static void check_span(struct world *w, bool customer, const struct store_transfer *all, int n, int64_t from,
                       int64_t to)
{
    struct store_turnover q = {.super = {.question = STORE_TURNOVER},
                               .tenant_row = w->tenant,
                               .customer_row = customer ? w->customer : 0,
                               .from = from,
                               .to = to};
    int64_t opening = 0, closing = 0, sum = 0;

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    for (int i = 0; i < n; i++) {
        opening += all[i].created_at < from ? all[i].amount : 0;
        closing += all[i].created_at < to ? all[i].amount : 0;
    }
    assert_int_equal(q.opening, opening);
    assert_int_equal(q.closing, to > from ? closing : opening);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        int64_t amount = 0, count = 0, told = 0, told_count = 0;

        for (int i = 0; i < n; i++) {
            if (strcmp(all[i].kind, kinds[k]) != 0 || all[i].created_at < from || all[i].created_at >= to)
                continue;
            amount += all[i].amount;
            count++;
        }
        for (int i = 0; i < q.n; i++) {
            if (strcmp(q.kinds[i].kind, kinds[k]) != 0)
                continue;
            told = q.kinds[i].amount;
            told_count = q.kinds[i].count;
            assert_true(told_count > 0);
        }
        assert_int_equal(told, amount);
        assert_int_equal(told_count, count);
        sum += told;
    }
    assert_int_equal(q.opening + sum, q.closing);
}

static void check_balance(struct world *w, bool customer, const struct store_transfer *all, int n, int64_t at)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                    .tenant_row = w->tenant,
                                    .customer_row = customer ? w->customer : 0,
                                    .at = at};
    int64_t posted = 0;

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    for (int i = 0; i < n; i++)
        posted += all[i].created_at <= at ? all[i].amount : 0;
    assert_int_equal(q.balance.posted, posted);
}

static void check_all(struct world *w, uint64_t seed)
{
    struct dice dice = {seed};
    int n;

    for (int customer = 0; customer < 2; customer++) {
        struct store_transfer *all = trade_ledger(w, customer != 0, &n);

        assert_true(n > 100);
        check_span(w, customer != 0, all, n, START, START + DAYS * TRADE_DAY);
        check_span(w, customer != 0, all, n, 0, INT64_MAX);
        check_span(w, customer != 0, all, n, START + 400 * TRADE_DAY, START + 500 * TRADE_DAY);
        check_span(w, customer != 0, all, n, 0, START - 1);
        check_span(w, customer != 0, all, n, START + TRADE_DAY, START + TRADE_DAY);
        for (int i = 0; i < SPANS; i++) {
            int64_t from =
                i % 3 == 0 ? all[below(&dice, n)].created_at : START + below(&dice, 1000) * (DAYS * TRADE_DAY / 1000);
            int64_t to = i % 2 == 0 ? all[below(&dice, n)].created_at : from + below(&dice, 1000) * (TRADE_DAY / 500);

            check_span(w, customer != 0, all, n, from, to);
            check_balance(w, customer != 0, all, n, from);
        }
        free(all);
    }
}

static void prune(struct world *w, int64_t before)
{
    struct store_prune close = {.super = {.kind = STORE_PRUNE}, .step = PRUNE_CLOSE, .before = before};
    struct store_prune take = {.super = {.kind = STORE_PRUNE}, .step = PRUNE_TAKE, .before = before};

    assert_int_equal(world_do(w, &close.super), ERR_OK);
    do
        assert_int_equal(world_do(w, &take.super), ERR_OK);
    while (take.n > 0);
}

static void nobodys_wallet(struct world *w)
{
    struct store_turnover q = {.super = {.question = STORE_TURNOVER}, .tenant_row = 12345, .to = 1};

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_NOT_FOUND);
}

static void grants_of_a_time(struct world *w)
{
    static struct store_grants_query all, some;

    memset(&all, 0, sizeof(all));
    all.super.question = STORE_GRANTS;
    all.tenant_row = w->tenant;
    all.limit = STORE_PAGE;
    some = all;
    world_ask(w, &all.super);
    assert_true(all.super.err.code == ERR_OK && all.n > 5 && !all.more);
    some.start_time = all.items[all.n - 2].created_at;
    some.end_time = all.items[1].created_at;
    world_ask(w, &some.super);
    assert_int_equal(some.super.err.code, ERR_OK);
    assert_int_equal(some.n, all.n - 3);
    for (int i = 0; i < some.n; i++)
        assert_int_equal(some.items[i].seq, all.items[i + 2].seq);
}

static void turnover_equals_the_ledger(void **state)
{
    struct world *w = *state;

    nobodys_wallet(w);
    grants_of_a_time(w);
    check_all(w, 1);
    assert_true(sql_number(w->url, "SELECT count(DISTINCT kind) FROM transfers") >= 11);
    prune(w, START + 4 * TRADE_DAY);
    assert_true(sql_number(w->url, "SELECT count(*) FROM pruned") > 100);
    check_all(w, 2);
    prune(w, START + DAYS * TRADE_DAY);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage"), 0);
    check_all(w, 3);
}

/* The clock falls back by days and goes on: events of one day lie in several ranges of numbers. */
static void over_clock_steps(void **state)
{
    struct world *w = *state;
    struct dice dice = {7};

    trade(w, &dice, START + 2 * TRADE_DAY, 3, 60);
    trade(w, &dice, START + TRADE_DAY, 9, 60);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM clock_steps"), 2);
    check_all(w, 4);
    prune(w, START + 3 * TRADE_DAY);
    check_all(w, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(turnover_equals_the_ledger, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(over_clock_steps, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
