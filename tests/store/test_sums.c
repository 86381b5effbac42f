/* test_sums.c - sums at their edges: more than 64 bits of recorded prices, which a tenant's own book can ask for
 * without any money, stop instead of ending the store; and days found by sums lose no record where the clock went back
 * over midnight. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_trade.h"

#define HOUR (3600 * CLOCK_SECOND)
#define START (INT64_C(1790899200) * CLOCK_SECOND) /* a midnight of UTC */
#define HUGE INT64_C(900000000000000000)           /* nano: nearly the most that a call can hold */

struct sums {
    struct world world;
    int64_t customer, key; /* of the tenant's wallet: its retail price is recorded, and nobody's money */
};

static int set_up(void **state)
{
    struct sums *t = mem_zalloc(sizeof(*t));
    struct world *w = &t->world;
    struct record *made;

    clock_freeze(START, 0);
    world_init(w);
    world_open(w);
    world_fill(w, 100 * USD, 0);
    assert_int_equal(world_put(w, world_customer(w, "shared", false), &made, NULL), ERR_OK);
    t->customer = made->row;
    assert_int_equal(world_put(w, world_key(w, "key", t->customer), &made, NULL), ERR_OK);
    t->key = made->row;
    *state = t; /* the world stands first */
    return 0;
}

static void call(struct sums *t, int64_t at, int64_t retail)
{
    struct store_hold hold;
    struct store_capture capture;

    clock_freeze(at, 0);
    world_hold_init(&t->world, &hold, 1000, -1);
    hold.call.customer_row = t->customer;
    hold.call.key_row = t->key;
    hold.retail_max = retail;
    assert_int_equal(world_do(&t->world, &hold.super), ERR_OK);
    world_capture_init(&capture, hold.id, 500, 1000, retail);
    assert_int_equal(world_do(&t->world, &capture.super), ERR_OK);
}

static void stop_at_the_largest(void **state)
{
    struct sums *t = *state;
    struct world *w = &t->world;

    for (int i = 0; i < 12; i++) /* past 64 bits within a minute, one commit after the other */
        call(t, START, HUGE);
    assert_true(sql_number(w->url, "SELECT max(retail) FROM rollups") == INT64_MAX);
    for (int i = 0; i < 6; i++) /* two quarters of a day: each fits, both do not */
        call(t, START + TRADE_DAY, HUGE);
    call(t, START + TRADE_DAY + HOUR, 1);
    trade_fold(w, START + TRADE_DAY + HOUR / 2);
    for (int i = 0; i < 6; i++)
        call(t, START + TRADE_DAY + HOUR, HUGE);
    call(t, START + TRADE_DAY + 3 * HOUR, 1);
    trade_fold(w, START + TRADE_DAY + 2 * HOUR);
    assert_true(store_healthy(w->store));
    assert_true(sql_number(w->url, "SELECT min(retail) FROM day_customers") == INT64_MAX);
    assert_true(sql_number(w->url, "SELECT sum(requests) FROM day_customers") == 12 + 6 + 1 + 6);
    world_close(w);
    world_open(w);
    call(t, START + TRADE_DAY + 3 * HOUR, HUGE);
}

static int count(struct world *w, const struct store_filter *filter)
{
    int n = 0;

    free(trade_records(w, filter, &n));
    return n;
}

static void found_beside_a_step_of_the_clock(void **state)
{
    struct sums *t = *state;
    const struct store_filter key = {.keys = {1, {t->key}}}, customer = {.customers = {1, {t->customer}}};
    struct world *w = &t->world;

    for (int i = 0; i < 3; i++)
        call(t, START + TRADE_DAY - HOUR / 2, 1);
    for (int i = 0; i < 5; i++)
        call(t, START + TRADE_DAY + HOUR / 12, 1);
    for (int i = 0; i < 2; i++)
        call(t, START + TRADE_DAY - HOUR / 12, 1);
    call(t, START + 2 * TRADE_DAY, 1);
    trade_fold(w, START + 2 * TRADE_DAY - HOUR);
    assert_int_equal(count(w, NULL), 11);
    assert_int_equal(count(w, &key), 11);
    assert_int_equal(count(w, &customer), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stop_at_the_largest, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(found_beside_a_step_of_the_clock, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
