/* test_model.c - random operations against the model: the same answers, the same balances, restarts in between.
 * TG_SEED repeats a run, TG_OPS makes it longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_model.h"
#include "lib_sql.h"
#include "lib_world.h"

enum { TENANTS = 2, CUSTOMERS = 4, WALLETS = TENANTS + CUSTOMERS, OPS = 10000, KEYS = 5, REQUESTS = 2 };

#define START (INT64_C(1800000000) * CLOCK_SECOND)
#define KEEP (60 * CLOCK_SECOND)
#define STEP (5 * CLOCK_SECOND) /* between two operations, at most */

static struct party {
    int64_t row, key, version;
    int tenant; /* of a customer */
} parties[WALLETS];

static struct oracle model;
static struct world world;
static uint64_t seed;
static int reached[16]; /* rare branches that a run must reach */

enum {
    R_OVERAGE = 0,
    R_RECEIVABLE,
    R_NO_FUNDS,
    R_TWICE,
    R_KEPT_CAPTURED,
    R_LINE_REFUSED,
    R_DEAD,
    R_ADJUST_REFUSED,
    R_RUNNING,
    R_DONE,
    R_REUSED,
    R_FORGOTTEN,
    R_COUNT
};

static uint64_t random_below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static void make_party(int i)
{
    struct record *r;
    struct api_key *k;

    parties[i].tenant = i < TENANTS ? i : i % TENANTS;
    world.tenant = parties[parties[i].tenant].row;
    if (i < TENANTS)
        assert_int_equal(world_put(&world, world_tenant("t"), &r, NULL), ERR_OK);
    else
        assert_int_equal(world_put(&world, world_customer(&world, "c", true), &r, NULL), ERR_OK);
    parties[i].row = r->row;
    parties[i].version = 1;
    world.tenant = parties[parties[i].tenant].row;
    k = world_key(&world, "k", i < TENANTS ? 0 : parties[i].row);
    assert_int_equal(world_put(&world, k, &r, NULL), ERR_OK);
    parties[i].key = r->row;
}

static struct id some_hold(void)
{
    if (model.n_holds == 0 || random_below(20) == 0)
        return id_make();
    /* mostly recent ones, which may be open */
    return model.holds[model.n_holds - 1 - (int)random_below((uint64_t)(model.n_holds < 12 ? model.n_holds : 12))].id;
}

/* Every second hold has a key, one of a few. Returns whether the key is one that was forgotten. */
static bool give_key(struct store_hold *op, char text[8])
{
    if (random_below(2) == 0)
        return false;
    (void)snprintf(text, 8, "%d", (int)random_below(KEYS));
    world_hold_key(op, text, (int)random_below(REQUESTS));
    for (int i = 0; i < model.n_keys; i++)
        if (model.keys[i].api_key == op->call.key_row && strcmp(model.keys[i].text, text) == 0)
            return model.keys[i].hold >= 0 && model.keys[i].ended != 0 && model.keys[i].ended < model.now - KEEP;
    return false;
}

static const struct oracle_hold *user_of(const struct store_hold *op)
{
    for (int i = 0; i < model.n_keys; i++)
        if (model.keys[i].api_key == op->call.key_row && slice_eq_str(op->idempotency_key, model.keys[i].text))
            return &model.holds[model.keys[i].hold];
    return NULL;
}

static void compare_key(const struct store_hold *op, enum err_code expected)
{
    bool taken =
        expected == ERR_IDEMPOTENCY_RUNNING || expected == ERR_IDEMPOTENCY_DONE || expected == ERR_IDEMPOTENCY_REUSED;

    reached[R_RUNNING] += expected == ERR_IDEMPOTENCY_RUNNING;
    reached[R_DONE] += expected == ERR_IDEMPOTENCY_DONE;
    reached[R_REUSED] += expected == ERR_IDEMPOTENCY_REUSED;
    if (taken)
        assert_true(id_eq(op->earlier.request, user_of(op)->id));
    if (expected == ERR_IDEMPOTENCY_DONE || expected == ERR_IDEMPOTENCY_RUNNING)
        assert_int_equal(id_is_zero(op->earlier.usage), expected == ERR_IDEMPOTENCY_RUNNING);
}

static void do_hold(void)
{
    struct store_hold op;
    char text[8];
    bool forgotten;
    int customer = random_below(2) == 0 ? -1 : TENANTS + (int)random_below(CUSTOMERS);
    int tenant = customer < 0 ? (int)random_below(TENANTS) : parties[customer].tenant;
    enum err_code expected;

    world.tenant = parties[tenant].row;
    world.key = parties[tenant].key;
    world.customer = customer < 0 ? 0 : parties[customer].row;
    world.customer_key = customer < 0 ? 0 : parties[customer].key;
    world_hold_init(&world, &op, (int64_t)random_below(300), customer < 0 ? -1 : (int64_t)random_below(300));
    if (random_below(30) == 0) {
        struct id id = some_hold();
        if (oracle_find(&model, id) != NULL) /* ids are unique; one that is open is refused all the same */
            op.id = id;
    }
    op.rule = (enum conf_in_doubt)random_below(3);
    if (random_below(15) == 0) {
        op.call.test = true;
        op.n_legs = 0;
    }
    (void)snprintf(op.call.size, sizeof(op.call.size), "%d", (int)random_below(5));
    if (model.n_holds == ORACLE_HOLDS)
        return;
    forgotten = give_key(&op, text);
    expected = oracle_hold(&model, &op, tenant, customer);
    assert_int_equal(world_do(&world, &op.super), expected);
    compare_key(&op, expected);
    reached[R_FORGOTTEN] += forgotten && expected == ERR_OK;
    reached[R_NO_FUNDS] += expected == ERR_INSUFFICIENT_QUOTA;
}

static void do_capture(void)
{
    struct store_capture op;
    struct id id = some_hold();
    const struct oracle_hold *h = oracle_find(&model, id);
    int64_t charges[STORE_LEGS], charged;
    bool overage;
    enum err_code expected;

    for (int i = 0; i < STORE_LEGS; i++) {
        int64_t leg = h != NULL ? h->legs[i] : 100;
        uint64_t how = random_below(10);

        charges[i] = how < 6   ? (int64_t)random_below((uint64_t)leg + 1)
                     : how < 8 ? leg
                               : leg + (int64_t)random_below(400);
    }
    reached[R_KEPT_CAPTURED] += h != NULL && h->doubtful;
    world_capture_init(&op, id, (int64_t)random_below(100), charges[0], charges[1]);
    expected = oracle_capture(&model, &op, &charged, &overage);
    assert_int_equal(world_do(&world, &op.super), expected);
    reached[R_TWICE] += expected == ERR_NOT_FOUND;
    if (expected != ERR_OK)
        return;
    assert_int_equal(op.charged, charged);
    assert_int_equal((op.usage.flags & USAGE_OVERAGE) != 0, overage);
    reached[R_OVERAGE] += overage;
    reached[R_RECEIVABLE] += overage && charged < charges[h->customer >= 0];
}

static void do_end(void)
{
    struct id id = some_hold();

    if (random_below(2) == 0)
        assert_int_equal(world_void(&world, id), oracle_void(&model, id));
    else
        assert_int_equal(world_doubt(&world, id), oracle_doubt(&model, id));
}

static void do_credit(void)
{
    int wallet = (int)random_below(WALLETS);
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = parties[parties[wallet].tenant].row,
                              .customer_row = wallet < TENANTS ? 0 : parties[wallet].row,
                              .amount = (int64_t)random_below(1000) - 400,
                              .category = (enum credit_category)random_below(2)};
    enum err_code expected = oracle_credit(&model, wallet, op.amount, op.category);

    assert_int_equal(world_do(&world, &op.super), expected);
    reached[R_ADJUST_REFUSED] += expected == ERR_INSUFFICIENT_QUOTA;
}

static void do_credit_line(void)
{
    int wallet = (int)random_below(WALLETS);
    int64_t limit = (int64_t)random_below(500);
    enum err_code expected = oracle_credit_line(&model, wallet, limit);
    struct record *record;

    world.tenant = parties[parties[wallet].tenant].row;
    if (wallet < TENANTS) {
        struct tenant *t = world_tenant("t");
        t->credit_limit = limit;
        record = &t->super;
    } else {
        struct customer *c = world_customer(&world, "c", true);
        c->credit_limit = limit;
        record = &c->super;
    }
    record->row = parties[wallet].row;
    record->version = parties[wallet].version;
    assert_int_equal(world_put(&world, record, NULL, NULL), expected);
    parties[wallet].version += expected == ERR_OK;
    reached[R_LINE_REFUSED] += expected == ERR_CONFLICT;
}

static void do_restart(void)
{
    int64_t dead;

    world_close(&world);
    if (random_below(3) == 0)
        assert_int_equal(world_fsck(&world), 0);
    world_open(&world);
    dead = oracle_restart(&model);
    assert_int_equal(store_recovered(world.store), dead);
    reached[R_DEAD] += dead > 0;
}

static void compare_balance(int i)
{
    struct store_balance b;

    world.tenant = parties[parties[i].tenant].row;
    world.customer = i < TENANTS ? 0 : parties[i].row;
    b = world_balance(&world, i >= TENANTS);
    assert_int_equal(b.posted, model.wallets[i].posted);
    assert_int_equal(b.held, model.wallets[i].held);
    assert_int_equal(b.credit_limit, model.wallets[i].credit_limit);
}

static int64_t posted(int kind, int64_t owner)
{
    char sql[128];
    int64_t n;

    (void)snprintf(sql, sizeof(sql), "SELECT posted FROM accounts WHERE kind = %d AND owner = %lld", kind,
                   (long long)owner);
    n = sql_number(world.url, sql);
    return n == INT64_MIN ? 0 : n;
}

static void compare_everything(void)
{
    for (int i = 0; i < WALLETS; i++) {
        compare_balance(i);
        assert_int_equal(posted(i < TENANTS ? 2 : 3, parties[i].row), model.wallets[i].revenue);
        assert_int_equal(posted(i < TENANTS ? 9 : 10, parties[i].row), -model.wallets[i].receivable);
    }
    assert_int_equal(posted(4, 0), -model.cost);
    assert_int_equal(posted(8, 0), -model.loss);
    assert_int_equal(posted(7, 0), -model.paid);
    assert_int_equal(posted(6, 0), -model.promotional);
    assert_int_equal(sql_number(world.url, "SELECT count(*) FROM usage"), model.records);
    assert_int_equal(sql_number(world.url, "SELECT total(requests) FROM rollups"), model.records);
}

static void random_operations(void **state)
{
    int ops = getenv("TG_OPS") != NULL ? atoi(getenv("TG_OPS")) : OPS;

    (void)state;
    seed = getenv("TG_SEED") != NULL ? strtoull(getenv("TG_SEED"), NULL, 10) : (uint64_t)getpid() * 2654435761u + 1;
    print_message("TG_SEED=%llu\n", (unsigned long long)seed);
    world_init(&world);
    world.keep = model.keep = KEEP;
    model.now = START;
    clock_freeze(START, 0);
    world_open(&world);
    for (int i = 0; i < WALLETS; i++)
        make_party(i);
    for (int i = 0; i < ops; i++) {
        uint64_t what = random_below(1000);

        model.now += (int64_t)random_below(STEP / 1000) * 1000;
        clock_freeze(model.now, 0);
        if (what < 400)
            do_hold();
        else if (what < 700)
            do_capture();
        else if (what < 850)
            do_end();
        else if (what < 950)
            do_credit();
        else if (what < 992)
            do_credit_line();
        else
            do_restart();
        if (i % 7 == 0)
            compare_balance((int)random_below(WALLETS));
    }
    compare_everything();
    (void)world_put(&world, world_tenant(""), NULL, NULL);
    world_close(&world);
    assert_int_equal(world_fsck(&world), 0);
    for (int i = 0; i < R_COUNT; i++)
        if (reached[i] == 0)
            fail_msg("branch %d was not reached", i);
    world_dispose(&world);
    clock_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
