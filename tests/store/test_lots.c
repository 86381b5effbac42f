/* Lots of credit: the order of their use, what holds keep, lapse, withdrawal, what is owed, refunds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_world.h"

#define START INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
#define HOUR (3600 * CLOCK_SECOND)

static int64_t now;

static void pass(int64_t time)
{
    now += time;
    clock_freeze(now, now - START + CLOCK_SECOND);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));

    now = START;
    pass(0);
    world_init(w);
    world_open(w);
    world_fill(w, 0, 0);
    *state = w;
    return 0;
}

/* Credits the tenant's wallet; the grant's seq. */
static int64_t credit(struct world *w, int64_t amount, enum credit_category category, int priority, int64_t expires_in)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .amount = amount,
                              .category = category,
                              .priority = priority,
                              .expires_at = expires_in != 0 ? now + expires_in : 0};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return id_seq(op.grant);
}

static struct store_grant grant(struct world *w, int64_t seq)
{
    struct store_grants_query *q = calloc(1, sizeof(*q));
    struct store_grant found;

    q->super.question = STORE_GRANTS;
    q->seq = seq;
    q->limit = 1;
    world_ask(w, &q->super);
    assert_int_equal(q->super.err.code, ERR_OK);
    assert_int_equal(q->n, 1);
    found = q->items[0];
    free(q);
    return found;
}

static int64_t remaining(struct world *w, int64_t seq)
{
    return grant(w, seq).remaining;
}

static struct id hold(struct world *w, int64_t amount)
{
    struct id id;

    assert_int_equal(world_hold(w, amount, -1, &id), ERR_OK);
    return id;
}

static void spend(struct world *w, int64_t amount)
{
    assert_int_equal(world_capture(w, hold(w, amount), 0, amount, -1), ERR_OK);
}

static int64_t posted(struct world *w)
{
    return world_balance(w, false).posted;
}

static void set_credit_limit(struct world *w, int64_t limit, enum err_code expected)
{
    struct tenant *t = world_tenant("Tenant");
    char sql[96];

    t->credit_limit = limit;
    t->super.row = w->tenant;
    (void)snprintf(sql, sizeof(sql), "SELECT version FROM tenants WHERE row = %lld", (long long)w->tenant);
    t->super.version = sql_number(w->url, sql);
    assert_int_equal(world_put(w, &t->super, NULL, NULL), expected);
}

/* Something happens, so that what is due happens too. */
static void nudge(struct world *w)
{
    assert_int_equal(world_void(w, hold(w, 0)), ERR_OK);
}

static void used_in_order(void **state)
{
    struct world *w = *state;
    int64_t last = credit(w, 5, CREDIT_PAID, 50, 0);
    int64_t paid = credit(w, 5, CREDIT_PAID, 50, 2 * HOUR);
    int64_t promotional = credit(w, 5, CREDIT_PROMOTIONAL, 50, 2 * HOUR);
    int64_t later = credit(w, 5, CREDIT_PROMOTIONAL, 50, 3 * HOUR);
    int64_t first = credit(w, 5, CREDIT_PAID, 10, 0);
    const int64_t order[] = {first, promotional, paid, later, last};

    for (int i = 0; i < 5; i++) {
        spend(w, 3);
        spend(w, 2);
        for (int j = 0; j < 5; j++)
            assert_int_equal(remaining(w, order[j]), j <= i ? 0 : 5);
    }
    assert_int_equal(posted(w), 0);
}

static void one_charge_of_many_lots(void **state)
{
    struct world *w = *state;
    struct id id;

    for (int i = 0; i < 200; i++)
        (void)credit(w, 3, CREDIT_PAID, i % 101, i % 3 == 0 ? HOUR : 0);
    id = hold(w, 599);
    world_close(w); /* what it keeps survives the process */
    world_open(w);
    assert_int_equal(store_recovered(w->store), 1);
    assert_int_equal(posted(w), 600);
    id = hold(w, 599);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM hold_pins"), 200);
    assert_int_equal(world_capture(w, id, 7, 598, -1), ERR_OK);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM hold_pins"), 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM transfers WHERE kind = 1"), 200);
    assert_int_equal(posted(w), 2);
}

static void lapses_at_its_time(void **state)
{
    struct world *w = *state;
    int64_t lot = credit(w, 10, CREDIT_PROMOTIONAL, 50, HOUR);

    pass(HOUR - 1000);
    nudge(w);
    assert_int_equal(posted(w), 10);
    pass(1000);
    assert_int_equal(world_hold(w, 1, -1, &(struct id){{0}}), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(posted(w), 0);
    assert_int_equal(grant(w, lot).status, GRANT_LAPSED);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 11"), 10);
}

static void held_part_lapses_with_its_hold(void **state)
{
    struct world *w = *state;
    int64_t lot = credit(w, 10, CREDIT_PAID, 50, HOUR);
    struct id kept = hold(w, 4), given = hold(w, 3);

    pass(2 * HOUR);
    nudge(w);
    assert_int_equal(remaining(w, lot), 7);
    assert_int_equal(world_hold(w, 1, -1, &(struct id){{0}}), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(world_void(w, given), ERR_OK);
    assert_int_equal(remaining(w, lot), 4);
    assert_int_equal(world_capture(w, kept, 0, 3, -1), ERR_OK);
    assert_int_equal(remaining(w, lot), 0);
    assert_int_equal(posted(w), 0);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 11"), 7);
}

static void debts_are_settled(void **state)
{
    struct world *w = *state;
    int64_t lot;

    set_credit_limit(w, 20, ERR_OK);
    spend(w, 15);
    assert_int_equal(posted(w), -15);
    lot = credit(w, 10, CREDIT_PAID, 50, 0);
    assert_int_equal(remaining(w, lot), 0);
    assert_int_equal(posted(w), -5);
    lot = credit(w, 12, CREDIT_PAID, 50, HOUR);
    assert_int_equal(remaining(w, lot), 7);
    assert_int_equal(posted(w), 7);
    set_credit_limit(w, 0, ERR_OK);
}

/* What was drawn on credit while a lot was held is paid from that lot before it lapses. */
static void debt_before_lapse(void **state)
{
    struct world *w = *state;
    struct id id;

    set_credit_limit(w, 20, ERR_OK);
    (void)credit(w, 10, CREDIT_PAID, 50, HOUR);
    id = hold(w, 10);
    spend(w, 6);
    assert_int_equal(world_void(w, id), ERR_OK);
    assert_int_equal(posted(w), 4);
    set_credit_limit(w, 5, ERR_CONFLICT); /* six are drawn on it */
    pass(2 * HOUR);
    nudge(w);
    assert_int_equal(posted(w), 0);
    set_credit_limit(w, 0, ERR_OK);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 11"), 4);
}

static enum err_code withdraw(struct world *w, int64_t seq)
{
    struct store_withdraw op = {.super = {.kind = STORE_WITHDRAW}, .seq = seq};

    return world_do(w, &op.super);
}

static void withdrawal(void **state)
{
    struct world *w = *state;
    int64_t lot = credit(w, 10, CREDIT_PROMOTIONAL, 50, 0), used = credit(w, 2, CREDIT_PAID, 10, 0);
    struct id id;

    spend(w, 2);
    id = hold(w, 4);
    assert_int_equal(withdraw(w, lot), ERR_OK);
    assert_int_equal(posted(w), 4);
    assert_int_equal(withdraw(w, lot), ERR_CONFLICT);
    assert_int_equal(withdraw(w, used), ERR_OK); /* used up: nothing moves */
    assert_int_equal(grant(w, used).status, GRANT_WITHDRAWN);
    assert_int_equal(withdraw(w, 999999), ERR_NOT_FOUND);
    assert_int_equal(world_capture(w, id, 0, 1, -1), ERR_OK);
    assert_int_equal(posted(w), 0);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 6"), -1);
}

/* ---- refunds ---- */

static int64_t last_record(struct world *w)
{
    return sql_number(w->url, "SELECT max(seq) FROM usage");
}

static enum err_code refund(struct world *w, int64_t seq, int64_t amount, bool retail_only)
{
    struct store_refund op = {
        .super = {.kind = STORE_REFUND}, .seq = seq, .amount = amount, .retail_only = retail_only, .reason = "blurred"};

    return world_do(w, &op.super);
}

static void refund_to_its_lots(void **state)
{
    struct world *w = *state;
    int64_t first = credit(w, 5, CREDIT_PAID, 10, 0), second = credit(w, 5, CREDIT_PAID, 20, 0), record;

    spend(w, 8);
    record = last_record(w);
    assert_int_equal(refund(w, record, 2, false), ERR_OK);
    assert_int_equal(remaining(w, first), 0);
    assert_int_equal(remaining(w, second), 4);
    assert_int_equal(refund(w, record, 7, false), ERR_INVALID_VALUE);
    assert_int_equal(refund(w, record, 0, false), ERR_OK);
    assert_int_equal(remaining(w, first), 5);
    assert_int_equal(remaining(w, second), 5);
    assert_int_equal(refund(w, record, 0, false), ERR_CONFLICT);
    assert_int_equal(refund(w, record + 1000, 1, false), ERR_NOT_FOUND);
    assert_int_equal(sql_number(w->url, "SELECT refunded FROM usage"), 8);
    assert_int_equal(posted(w), 10);
}

/* The receivable is forgiven first; a lot that has lapsed gets its part and loses it. */
static void refund_of_overage_and_lapsed(void **state)
{
    struct world *w = *state;
    int64_t record;

    (void)credit(w, 5, CREDIT_PAID, 50, HOUR);
    assert_int_equal(world_capture(w, hold(w, 5), 0, 9, -1), ERR_OK);
    record = last_record(w);
    pass(2 * HOUR);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 9"), -4);
    assert_int_equal(refund(w, record, 3, false), ERR_OK);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 9"), -1);
    assert_int_equal(refund(w, record, 3, false), ERR_OK);
    assert_int_equal(posted(w), 0);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 11"), 2);
}

static void refund_of_both_prices(void **state)
{
    struct world *w = *state;
    struct id id;
    int64_t record;

    assert_int_equal(world_credit(w, false, 100), ERR_OK);
    assert_int_equal(world_credit(w, true, 100), ERR_OK);
    assert_int_equal(world_hold(w, 7, 10, &id), ERR_OK);
    assert_int_equal(world_capture(w, id, 1, 7, 10), ERR_OK);
    record = last_record(w);
    assert_int_equal(refund(w, record, 3, true), ERR_OK); /* the tenant alone gives back */
    assert_int_equal(world_balance(w, true).posted, 93);
    assert_int_equal(world_balance(w, false).posted, 93);
    assert_int_equal(refund(w, record, 1, false), ERR_OK); /* floor(7*4/10) - floor(7*3/10) = 0 */
    assert_int_equal(world_balance(w, false).posted, 93);
    assert_int_equal(refund(w, record, 0, false), ERR_OK); /* 7 - 2 */
    assert_int_equal(world_balance(w, true).posted, 100);
    assert_int_equal(world_balance(w, false).posted, 98);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(used_in_order, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(one_charge_of_many_lots, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(lapses_at_its_time, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(held_part_lapses_with_its_hold, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(debts_are_settled, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(debt_before_lapse, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(withdrawal, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(refund_to_its_lots, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(refund_of_overage_and_lapsed, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(refund_of_both_prices, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
