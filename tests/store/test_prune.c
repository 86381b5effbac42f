/* test_prune.c - old usage records go; ledger, balances, refunds' references, idempotency keys and fsck stay true
 * before, between and after, over restarts and steps of the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_trade.h"

enum { DAYS = 6, CALLS = 240, POINTS = 40 };

#define START (INT64_C(1800000000) * CLOCK_SECOND / TRADE_DAY * TRADE_DAY)

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));
    struct dice dice = {dice_seed()};

    clock_freeze(START, 0);
    world_init(w);
    w->keep = 400 * TRADE_DAY;
    world_open(w);
    world_fill(w, 200000, 300000);
    trade(w, &dice, START, DAYS, CALLS);
    trade_fold(w, START + DAYS * TRADE_DAY);
    *state = w;
    return 0;
}

/* ---- what must not change ---- */

struct view {
    int n[2];
    struct store_transfer *ledger[2];
    int64_t balances[2][POINTS];
};

static void look(struct world *w, struct view *v)
{
    for (int customer = 0; customer < 2; customer++) {
        v->ledger[customer] = trade_ledger(w, customer != 0, &v->n[customer]);
        for (int i = 0; i < POINTS; i++) {
            struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                            .tenant_row = w->tenant,
                                            .customer_row = customer != 0 ? w->customer : 0,
                                            .at = START + i * (DAYS * TRADE_DAY / POINTS) + 12345678};

            world_ask(w, &q.super);
            assert_int_equal(q.super.err.code, ERR_OK);
            v->balances[customer][i] = q.balance.posted;
        }
    }
}

static void forget(struct view *v)
{
    free(v->ledger[0]);
    free(v->ledger[1]);
}

static void check_same(struct world *w, const struct view *before)
{
    struct view now;

    look(w, &now);
    for (int customer = 0; customer < 2; customer++) {
        assert_int_equal(now.n[customer], before->n[customer]);
        for (int i = 0; i < now.n[customer]; i++) {
            const struct store_transfer *a = &now.ledger[customer][i], *b = &before->ledger[customer][i];

            assert_int_equal(a->number, b->number);
            assert_int_equal(a->created_at, b->created_at);
            assert_string_equal(a->kind, b->kind);
            assert_int_equal(a->amount, b->amount);
            assert_true(id_eq(a->usage, b->usage) && id_eq(a->request, b->request) && id_eq(a->grant, b->grant));
            assert_string_equal(a->note, b->note);
        }
        assert_memory_equal(now.balances[customer], before->balances[customer], sizeof(now.balances[customer]));
    }
    forget(&now);
}

/* ---- steps ---- */

static int64_t oldest(struct world *w, int64_t before)
{
    struct store_prune op = {.super = {.kind = STORE_PRUNE}, .step = PRUNE_LOOK, .before = before};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.oldest;
}

static void close_days(struct world *w, int64_t before)
{
    struct store_prune op = {.super = {.kind = STORE_PRUNE}, .step = PRUNE_CLOSE, .before = before};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static int take(struct world *w, int64_t from, int64_t before, int64_t last, int limit)
{
    struct store_prune op = {.super = {.kind = STORE_PRUNE},
                             .step = PRUNE_TAKE,
                             .from = from,
                             .before = before,
                             .last = last,
                             .limit = limit};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.n;
}

static int count(struct world *w, int64_t from, int64_t to)
{
    struct store_filter filter = {.start_time = from, .end_time = to};
    int n;

    free(trade_records(w, &filter, &n));
    return n;
}

static struct usage_record first_record(struct world *w)
{
    struct usage_record *all, first;
    int n;

    all = trade_records(w, NULL, &n);
    assert_true(n > 0);
    first = all[n - 1];
    free(all);
    return first;
}

/* ---- tests ---- */

static void nothing_else_changes(void **state)
{
    struct world *w = *state;
    int64_t end = START + 3 * TRADE_DAY, total = sql_number(w->url, "SELECT count(*) FROM usage");
    int n, gone = 0, day = count(w, START, end);
    struct view before;

    look(w, &before);
    assert_true(day > 60 && sql_number(w->url, "SELECT count(*) FROM entries WHERE kind = 1") > 5);
    assert_int_equal(take(w, 0, end, 0, 0), 0); /* not closed */
    close_days(w, end + TRADE_DAY / 2);         /* whole days */
    while ((n = take(w, 0, end + TRADE_DAY, 0, 37)) > 0) {
        assert_true(n == 37 || gone + n == day);
        gone += n;
        if (gone % 3 == 0) {
            check_same(w, &before);
            assert_int_equal(world_fsck(w), 0);
        }
        assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage") +
                             sql_number(w->url, "SELECT count(*) FROM pruned"),
                         total);
        assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage WHERE seq IN (SELECT seq FROM pruned)"), 0);
    }
    assert_int_equal(gone, day);
    assert_int_equal(count(w, 0, end), 0);
    assert_int_equal(count(w, 0, 0), total - day);
    check_same(w, &before);
    world_close(w);
    world_open(w);
    check_same(w, &before);
    forget(&before);
}

static void oldest_days_first(void **state)
{
    struct world *w = *state;
    struct usage_record first = first_record(w);
    int64_t all = INT64_MAX;

    assert_int_equal(oldest(w, START), 0);
    assert_int_equal(oldest(w, START + TRADE_DAY - 1), 0);
    assert_int_equal(oldest(w, START + TRADE_DAY), first.created_at);
    assert_int_equal(oldest(w, all), first.created_at);
    close_days(w, START + TRADE_DAY);
    assert_int_equal(take(w, 0, all, first.seq, 0), 1); /* up to a number */
    assert_int_equal(take(w, 0, all, first.seq, 0), 0);
    assert_true(oldest(w, all) > first.created_at);
    while (take(w, START, START + TRADE_DAY, 0, 0) > 0)
        ;
    assert_true(oldest(w, all) >= START + TRADE_DAY);
    assert_int_equal(sql_number(w->url, "SELECT max(created_ms) < (SELECT min(created_ms) FROM usage) FROM pruned"), 1);
}

static void closed_records_are_not_refunded(void **state)
{
    struct world *w = *state;
    struct usage_record *all, charged = {.seq = 0};
    static struct store_usage_query q;
    int n;

    all = trade_records(w, NULL, &n);
    for (int i = 0; i < n && charged.seq == 0; i++)
        if (all[i].wholesale > 10 && all[i].refunded == 0 && all[i].created_at < START + 2 * TRADE_DAY)
            charged = all[i];
    free(all);
    assert_true(charged.seq > 0);
    assert_int_equal(trade_refund(w, charged.seq, 1), ERR_OK);
    close_days(w, START + 2 * TRADE_DAY);
    assert_int_equal(trade_refund(w, charged.seq, 1), ERR_NOT_FOUND);
    world_close(w);
    world_open(w); /* closed is closed */
    assert_int_equal(trade_refund(w, charged.seq, 1), ERR_NOT_FOUND);
    close_days(w, START + TRADE_DAY);
    assert_int_equal(trade_refund(w, charged.seq, 1), ERR_NOT_FOUND);
    while (take(w, 0, START + 2 * TRADE_DAY, 0, 0) > 0)
        ;
    assert_int_equal(trade_refund(w, charged.seq, 1), ERR_NOT_FOUND);
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_USAGE;
    q.seq = charged.seq;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 0);
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_USAGE;
    q.request = charged.request;
    q.limit = 1;
    world_ask(w, &q.super);
    assert_true(q.super.err.code == ERR_OK && q.n == 0);
}

/* Everything gone: numbers go on, and so does the clock's memory. */
static void all_of_it(void **state)
{
    struct world *w = *state;
    int64_t last = sql_number(w->url, "SELECT max(seq) FROM usage");
    struct id id;

    close_days(w, START + DAYS * TRADE_DAY);
    while (take(w, 0, INT64_MAX, 0, 0) > 0)
        ;
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage"), 0);
    assert_int_equal(oldest(w, INT64_MAX), 0);
    world_close(w);
    world_open(w);
    assert_int_equal(world_credit(w, false, 1000), ERR_OK);
    assert_int_equal(world_hold(w, 10, -1, &id), ERR_OK);
    assert_int_equal(world_capture(w, id, 1, 10, -1), ERR_OK);
    assert_true(first_record(w).seq > last);
    assert_int_equal(count(w, START + DAYS * TRADE_DAY, 0), 1);
}

/* Records of a day that was pruned already come in while the clock stands in the past. */
static void late_records(void **state)
{
    struct world *w = *state;
    struct dice dice = {3};
    struct view before;
    int n, late = 0;

    close_days(w, START + 2 * TRADE_DAY);
    while (take(w, 0, START + 2 * TRADE_DAY, 0, 0) > 0)
        ;
    trade(w, &dice, START + TRADE_DAY, 3, 90);
    trade(w, &dice, START + TRADE_DAY, 8, 90);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM clock_steps"), 2);
    look(w, &before);
    assert_int_equal(oldest(w, START + 4 * TRADE_DAY) / TRADE_DAY, START / TRADE_DAY + 1);
    n = count(w, START + TRADE_DAY, START + 2 * TRADE_DAY);
    assert_true(n > 5);
    for (int k; (k = take(w, START + TRADE_DAY, START + 2 * TRADE_DAY, 0, 11)) > 0;)
        late += k;
    assert_int_equal(late, n);
    assert_int_equal(count(w, 0, START + 2 * TRADE_DAY), 0);
    check_same(w, &before);
    forget(&before);
}

/* Keys of pruned calls still know their call. */
static void idempotency_keys(void **state)
{
    struct world *w = *state;
    struct store_hold hold;

    assert_int_equal(world_credit(w, false, 1000), ERR_OK);
    world_hold_init(w, &hold, 100, -1);
    world_hold_key(&hold, "kept", 1);
    assert_int_equal(world_do(w, &hold.super), ERR_OK);
    assert_int_equal(world_capture(w, hold.id, 1, 50, -1), ERR_OK);
    clock_freeze(START + (DAYS + 2) * TRADE_DAY, 0);
    trade_fold(w, START + (DAYS + 1) * TRADE_DAY);
    close_days(w, START + (DAYS + 1) * TRADE_DAY);
    while (take(w, 0, INT64_MAX, 0, 0) > 0)
        ;
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage"), 0);
    world_hold_init(w, &hold, 100, -1);
    world_hold_key(&hold, "kept", 1);
    assert_int_equal(world_do(w, &hold.super), ERR_IDEMPOTENCY_DONE);
    assert_false(id_is_zero(hold.earlier.usage));
    assert_int_equal(world_fsck(w), 0);
}

static int violations(struct world *w, const char *sql)
{
    sql_exec(w->url, sql);
    return world_fsck(w);
}

/* What fsck says when what is left of records is not what it was. */
static void damage(void **state)
{
    struct world *w = *state;

    close_days(w, START + 2 * TRADE_DAY);
    while (take(w, 0, INT64_MAX, 0, 0) > 0)
        ;
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
    fprintf(stderr, "what fsck says now is expected\n");
    sql_exec(w->url, "CREATE TABLE was AS SELECT * FROM pruned");
    assert_true(violations(w, "UPDATE pruned SET wholesale = wholesale + 1 WHERE seq = (SELECT max(seq) FROM pruned "
                              "WHERE flags & 64 = 0)") >= 2);
    sql_exec(w->url, "DELETE FROM pruned; INSERT INTO pruned SELECT * FROM was");
    assert_true(violations(w, "DELETE FROM pruned WHERE seq = (SELECT max(seq) FROM pruned WHERE wholesale > 0)") >= 2);
    sql_exec(w->url, "DELETE FROM pruned; INSERT INTO pruned SELECT * FROM was");
    assert_true(violations(w, "INSERT INTO pruned SELECT seq, request, tenant, customer, key, channel, item, cost, "
                              "wholesale, retail, refunded, flags, created_ms FROM usage ORDER BY seq LIMIT 1") >= 3);
    sql_exec(w->url, "DELETE FROM pruned; INSERT INTO pruned SELECT * FROM was; DROP TABLE was");
    assert_int_equal(world_fsck(w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_else_changes, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(oldest_days_first, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(closed_records_are_not_refunded, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(all_of_it, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(late_records, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(idempotency_keys, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(damage, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
