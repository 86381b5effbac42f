/* test_time.c - records by time, balances then, clocks that jump, holds and lots that outlive them or do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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
    q.filter.start_time = from;
    q.filter.end_time = to;
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
        "INSERT INTO rollups SELECT created_ms / 900000, tenant, created_ms / 60000 % 15, customer, key, item, channel,"
        " count(*), sum(images),"
        " sum(text_input_tokens), 0, 0, 0, sum(image_output_tokens), 0, sum(cost), sum(wholesale),"
        " sum(coalesce(retail, wholesale)), 0 FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7");
    world_open(w);
    q.filter.keys = (struct filter_rows){1, {w->customer_key}};
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_false(q.more);
    assert_int_equal(q.items[0].call.key_row, w->customer_key);
}

/* ---- holds and clocks ---- */

enum { DEADLINE = 7200 }; /* seconds */

/* The world's store, with a deadline of its own for holds. */
static void open_with_deadline(struct world *w)
{
    struct store_options options = {
        .url = w->url, .secrets = w->secrets, .migrate = true, .hold_deadline = DEADLINE * CLOCK_SECOND};
    struct err err;

    world_close(w);
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    assert_int_equal(store_start(w->store, NULL, NULL, &err), ERR_OK);
}

/* The writer sweeps after each batch: two batches, and it has. */
static void let_sweep(struct world *w)
{
    assert_int_equal(world_credit(w, false, 1), ERR_OK);
    assert_int_equal(world_credit(w, false, -1), ERR_OK);
}

static struct id hold_with_rule(struct world *w, enum conf_in_doubt rule)
{
    struct store_hold op;

    world_hold_init(w, &op, 10, -1);
    op.rule = rule;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.id;
}

/* However the wall clock jumps, no hold is given up; elapsed time alone counts. */
static void holds_outlive_jumps(void **state)
{
    static const int64_t jumps[] = {3600 * CLOCK_SECOND, -3600 * CLOCK_SECOND, 365 * DAY, -365 * DAY, 0};
    static const enum conf_in_doubt rules[] = {IN_DOUBT_RELEASE, IN_DOUBT_CHARGE, IN_DOUBT_KEEP};
    struct world *w = *state;
    int64_t began = 1000 * CLOCK_SECOND;
    struct id first, kept;

    open_with_deadline(w);
    clock_freeze(START, began);
    for (int i = 0; i < 30; i++)
        (void)hold_with_rule(w, rules[i % 3]);
    kept = hold_with_rule(w, IN_DOUBT_KEEP);
    first = hold_with_rule(w, IN_DOUBT_RELEASE);
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        clock_freeze(START + jumps[i], began + DEADLINE * CLOCK_SECOND); /* not a moment longer than the deadline */
        let_sweep(w);
        assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds WHERE state = 0"), 32);
    }
    assert_int_equal(world_capture(w, first, 1, 10, -1), ERR_OK);
    clock_freeze(START - 365 * DAY, began + DEADLINE * CLOCK_SECOND + 1);
    (void)hold_with_rule(w, IN_DOUBT_RELEASE);
    let_sweep(w); /* overdue: each goes by its rule, but the one that has just begun */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds WHERE state = 0"), 1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds WHERE state = 1"), 11);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage WHERE flags & 8 AND wholesale = 0"), 10);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage WHERE flags & 8 AND wholesale = 10"), 10);
    clock_freeze(START, began + 100 * DEADLINE * CLOCK_SECOND);
    let_sweep(w); /* what is kept in doubt is kept, however long */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds"), 11);
    assert_int_equal(world_capture(w, kept, 1, 10, -1), ERR_OK);
    world_close(w);
    clock_freeze(START + 365 * DAY, 0);
    world_open(w); /* the process that held is gone; time does not matter then either */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds"), 10);
}

/* ---- lots and clocks ---- */

static int64_t grant_until(struct world *w, int64_t amount, int64_t expires_at)
{
    struct store_credit op = {
        .super = {.kind = STORE_CREDIT}, .tenant_row = w->tenant, .amount = amount, .expires_at = expires_at};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return id_seq(op.grant);
}

static int64_t status_of(struct world *w, int64_t seq)
{
    char sql[80];

    (void)snprintf(sql, sizeof(sql), "SELECT status FROM grants WHERE seq = %lld", (long long)seq);
    return sql_number(w->url, sql);
}

static void lapses_at_the_instant(void **state)
{
    struct world *w = *state;
    int64_t at = START + DAY, seq = grant_until(w, 5000, at), other = grant_until(w, 70, at + 1000);
    struct id before, after;

    clock_freeze(at - 1, 0);
    assert_int_equal(world_hold(w, 5500, -1, &before), ERR_OK); /* 1000 + 5000 + 70 are there */
    assert_int_equal(status_of(w, seq), GRANT_LIVE);
    assert_int_equal(world_void(w, before), ERR_OK);
    clock_freeze(at, 0);
    assert_int_equal(world_hold(w, 1071, -1, &after), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(world_hold(w, 1070, -1, &after), ERR_OK);
    assert_int_equal(world_balance(w, false).posted, 1070);
    assert_int_equal(status_of(w, seq), GRANT_LAPSED);
    assert_int_equal(status_of(w, other), GRANT_LIVE);
    clock_freeze(at + 1000, 0);
    assert_int_equal(world_void(w, after), ERR_OK); /* what it gives back is over by now */
    assert_int_equal(world_balance(w, false).posted, 1000);
    clock_freeze(START, 0); /* and does not come back with the clock */
    assert_int_equal(world_hold(w, 1001, -1, &after), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(balance_at(w, false, at - 1), 1000 + 5000 + 70);
    assert_int_equal(balance_at(w, false, at), 1070);
    assert_int_equal(balance_at(w, false, at + 1000), 1000);
}

/* Nobody calls, and it lapses all the same, within moments. */
static void lapses_alone(void **state)
{
    struct world *w = *state;
    const struct timespec moment = {.tv_nsec = 20000000};

    (void)grant_until(w, 5000, START + DAY);
    clock_freeze(START + DAY, 0);
    for (int i = 0; i < 500 && world_balance(w, false).posted != 1000; i++)
        (void)nanosleep(&moment, NULL);
    assert_int_equal(world_balance(w, false).posted, 1000);
}

/* The clock jumps over everything: each lot lapses once, each in its turn, and what is owed is paid first. */
static void lapses_in_a_jump(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 20; i++)
        (void)grant_until(w, 100, START + (1 + i % 7) * DAY);
    clock_freeze(START + 365 * DAY, 0);
    let_sweep(w);
    assert_int_equal(world_balance(w, false).posted, 1000);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM entries WHERE kind = 2"), 20);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM entries a JOIN entries b ON b.seq = a.seq + 1"
                                        " AND a.kind = 2 AND b.kind = 2 JOIN grants g ON g.seq = a.reference"
                                        " JOIN grants h ON h.seq = b.reference WHERE g.expires_at > h.expires_at"),
                     0);
    clock_freeze(START - 365 * DAY, 0);
    let_sweep(w);
    clock_freeze(START + 365 * DAY, 0);
    let_sweep(w);
    assert_int_equal(world_balance(w, false).posted, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(balances_then, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(records_by_time, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(clock_falls_back, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(restless_clock, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(slices, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(holds_outlive_jumps, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(lapses_at_the_instant, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(lapses_alone, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(lapses_in_a_jump, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
