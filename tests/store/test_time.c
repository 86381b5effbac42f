/* test_time.c - records by time, balances then, and clocks that jump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_world.h"

#define DAY (24 * 3600 * CLOCK_SECOND)
#define START (INT64_C(1800000000) * CLOCK_SECOND)

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    clock_freeze(START, 0);
    world_init(w);
    world_open(w);
    world_fill(w, 1000, 500);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int bad;

    clock_release();
    world_close(w);
    bad = world_fsck(w);
    world_dispose(w);
    free(w);
    return bad;
}

static void spend(struct world *w, int64_t at, int64_t wholesale, int64_t retail)
{
    struct id id;

    clock_freeze(at, 0);
    assert_int_equal(world_hold(w, wholesale, retail, &id), ERR_OK);
    assert_int_equal(world_capture(w, id, 1, wholesale, retail), ERR_OK);
}

static int64_t balance_at(struct world *w, bool customer, int64_t at)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                    .tenant_row = w->tenant,
                                    .customer_row = customer ? w->customer : 0,
                                    .at = at};

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    return q.balance.posted;
}

static void balances_then(void **state)
{
    struct world *w = *state;

    spend(w, START + DAY, 10, 5);
    spend(w, START + 2 * DAY, 20, -1);
    clock_freeze(START + 3 * DAY, 0);
    assert_int_equal(world_credit(w, false, 100), ERR_OK);
    spend(w, START + 4 * DAY, 30, 7);
    assert_int_equal(balance_at(w, false, START - 1000), 0);
    assert_int_equal(balance_at(w, false, START), 1000);
    assert_int_equal(balance_at(w, false, START + DAY - 1), 1000);
    assert_int_equal(balance_at(w, false, START + DAY), 990);
    assert_int_equal(balance_at(w, false, START + 2 * DAY), 970);
    assert_int_equal(balance_at(w, false, START + 3 * DAY), 1070);
    assert_int_equal(balance_at(w, false, START + 5 * DAY), 1040);
    assert_int_equal(balance_at(w, false, 0), 1040);
    assert_int_equal(balance_at(w, true, START + DAY - 1), 500);
    assert_int_equal(balance_at(w, true, START + 3 * DAY), 495);
    assert_int_equal(balance_at(w, true, START + 9 * DAY), 488);
}

static int count(struct world *w, int64_t from, int64_t to)
{
    static struct store_usage_query q;

    memset(&q, 0, sizeof(q));
    q.super.question = STORE_USAGE;
    q.limit = STORE_PAGE;
    q.start_time = from;
    q.end_time = to;
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    for (int i = 0; i < q.n; i++)
        assert_true((from == 0 || q.items[i].created_at >= from) && (to == 0 || q.items[i].created_at < to));
    return q.n;
}

static void records_by_time(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 40; i++)
        spend(w, START + i * 3600 * CLOCK_SECOND, 1, -1);
    assert_int_equal(count(w, 0, 0), 40);
    assert_int_equal(count(w, START, 0), 40);
    assert_int_equal(count(w, START + 1, 0), 39);
    assert_int_equal(count(w, START + 10 * 3600 * CLOCK_SECOND, START + 20 * 3600 * CLOCK_SECOND), 10);
    assert_int_equal(count(w, START + 10 * 3600 * CLOCK_SECOND, START + 20 * 3600 * CLOCK_SECOND + 1), 11);
    assert_int_equal(count(w, 0, START), 0);
    assert_int_equal(count(w, START + 39 * 3600 * CLOCK_SECOND + 1, 0), 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM rollups"), 40);
}

/* The clock falls back by hours, twice, and by a moment; nothing is lost from any report. */
static void clock_falls_back(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 10; i++)
        spend(w, START + i * CLOCK_SECOND, 1, -1);
    for (int i = 0; i < 10; i++)
        spend(w, START - 5 * 3600 * CLOCK_SECOND + i * CLOCK_SECOND, 1, -1);
    spend(w, START - 5 * 3600 * CLOCK_SECOND + 9 * CLOCK_SECOND - 1000, 1,
          -1); /* a millisecond back: it stands still */
    for (int i = 0; i < 10; i++)
        spend(w, START - 9 * 3600 * CLOCK_SECOND + i * CLOCK_SECOND, 1, -1);
    for (int i = 0; i < 10; i++)
        spend(w, START + DAY + i * CLOCK_SECOND, 1, -1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM clock_steps"), 2);
    assert_int_equal(count(w, 0, 0), 41);
    assert_int_equal(count(w, START - 9 * 3600 * CLOCK_SECOND, START - 8 * 3600 * CLOCK_SECOND), 10);
    assert_int_equal(count(w, START - 5 * 3600 * CLOCK_SECOND, START - 4 * 3600 * CLOCK_SECOND), 11);
    assert_int_equal(count(w, START, START + 3600 * CLOCK_SECOND), 10);
    assert_int_equal(count(w, START - 5 * 3600 * CLOCK_SECOND, START + DAY), 21);
    assert_int_equal(count(w, START + DAY + 5 * CLOCK_SECOND, 0), 5);
    assert_int_equal(balance_at(w, false, START + DAY - 1), 1000 - 31);
    world_close(w);
    world_open(w); /* the last event is known again */
    clock_freeze(START - DAY, 0);
    spend(w, START - DAY, 1, -1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM clock_steps"), 3);
    assert_int_equal(count(w, START - DAY, START - DAY + 1000), 1);
}

/* More falls than a query looks at one by one. */
static void restless_clock(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 90; i++)
        spend(w, START - i * 3600 * CLOCK_SECOND, 1, -1);
    assert_int_equal(count(w, START - 85 * 3600 * CLOCK_SECOND, START - 80 * 3600 * CLOCK_SECOND), 5);
    assert_int_equal(count(w, START - 5 * 3600 * CLOCK_SECOND, START), 5);
    assert_int_equal(count(w, 0, START), 89);
}

/* A search that matches almost nothing goes on in slices, and other questions are answered meanwhile. */
static void slices(void **state)
{
    struct world *w = *state;
    struct store_usage_query q = {.super = {.question = STORE_USAGE}, .limit = 1};

    spend(w, START, 1, 1);
    world_close(w);
    sql_exec(
        w->url,
        "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)"
        " SELECT i FROM n;"
        "INSERT INTO usage SELECT i, randomblob(16), tenant, 0, (SELECT min(row) FROM keys), channel, item, n,"
        " images, partial_images, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, created_ms"
        " FROM n, (SELECT * FROM usage LIMIT 1);"
        "DELETE FROM rollups;"
        "INSERT INTO rollups SELECT created_ms / 3600000, tenant, customer, key, item, channel, count(*), sum(images),"
        " sum(text_input_tokens), 0, 0, 0, sum(image_output_tokens), 0, sum(cost), sum(wholesale),"
        " sum(coalesce(retail, wholesale)), 0 FROM usage GROUP BY 1, 2, 3, 4, 5, 6");
    world_open(w);
    q.key_row = w->customer_key;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_false(q.more);
    assert_int_equal(q.items[0].call.key_row, w->customer_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(balances_then, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_by_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(clock_falls_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(restless_clock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(slices, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
