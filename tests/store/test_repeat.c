/* test_repeat.c - calls that are sent again under their Idempotency-Key: one hold, whatever happens meanwhile. fsck
 * after each test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "db/store_state.h"
#include "lib_sql.h"
#include "lib_world.h"

#define START (INT64_C(1800000000) * CLOCK_SECOND)
#define KEEP (600 * CLOCK_SECOND)

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    clock_freeze(START, 0);
    world_init(w);
    w->keep = KEEP;
    world_open(w);
    world_fill(w, 10 * USD, 5 * USD);
    *state = w;
    return 0;
}

/* Holds a dollar under a key; <op> tells the rest. */
static enum err_code try(struct world *w, struct store_hold *op, const char *text, int request)
{
    world_hold_init(w, op, USD, -1);
    world_hold_key(op, text, request);
    return world_do(w, &op->super);
}

/* What the key says now, without leaving anything: a hold that gets through is voided. */
static enum err_code ask(struct world *w, const char *text, int request)
{
    struct store_hold op;
    enum err_code code = try(w, &op, text, request);

    if (code == ERR_OK)
        assert_int_equal(world_void(w, op.id), ERR_OK);
    return code;
}

static int64_t count_keys(struct world *w)
{
    return sql_number(w->url, "SELECT count(*) FROM call_keys");
}

static void one_hold(void **state)
{
    struct world *w = *state;
    struct store_hold first, again;
    struct store_capture capture;
    char usage[ID_TEXT];

    assert_int_equal(try(w, &first, "k", 1), ERR_OK);
    assert_int_equal(try(w, &again, "k", 1), ERR_IDEMPOTENCY_RUNNING);
    assert_true(id_eq(again.earlier.request, first.id));
    assert_true(id_is_zero(again.earlier.usage));
    assert_string_equal(again.super.err.message, "A request with this Idempotency-Key is still being processed.");
    assert_int_equal(try(w, &again, "k", 2), ERR_IDEMPOTENCY_REUSED);
    assert_true(id_eq(again.earlier.request, first.id));
    assert_int_equal(world_balance(w, false).held, USD);
    world_capture_init(&capture, first.id, 1, USD / 2, -1);
    assert_int_equal(world_do(w, &capture.super), ERR_OK);
    assert_int_equal(try(w, &again, "k", 1), ERR_IDEMPOTENCY_DONE);
    assert_true(id_eq(again.earlier.request, first.id));
    assert_true(id_eq(again.earlier.usage, id_from_seq(capture.usage.created_at, capture.usage.seq)));
    assert_non_null(strstr(again.super.err.message, id_format("use", again.earlier.usage, usage)));
    assert_int_equal(try(w, &again, "k", 2), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(world_balance(w, false).held, 0);
    assert_int_equal(world_balance(w, false).posted, 10 * USD - USD / 2);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage"), 1);
}

/* A hold that had no effect leaves its key free, for any request. */
static void free_again(void **state)
{
    struct world *w = *state;
    struct store_hold op;

    assert_int_equal(try(w, &op, "k", 1), ERR_OK);
    assert_int_equal(world_void(w, op.id), ERR_OK);
    assert_int_equal(count_keys(w), 0);
    assert_int_equal(ask(w, "k", 2), ERR_OK);
    world_hold_init(w, &op, 11 * USD, -1);
    world_hold_key(&op, "k", 3);
    assert_int_equal(world_do(w, &op.super), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(count_keys(w), 0);
    assert_int_equal(try(w, &op, "k", 1), ERR_OK);
    world_hold_init(w, &op, 11 * USD, -1);
    world_hold_key(&op, "k", 1);
    assert_int_equal(world_do(w, &op.super), ERR_IDEMPOTENCY_RUNNING); /* before the quota is looked at */
}

static void whose_key(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct api_key *key = world_key(w, "key", 0);
    struct record *r;

    assert_int_equal(try(w, &op, "k", 1), ERR_OK);
    world_hold_init(w, &op, USD, USD); /* the customer's API key */
    world_hold_key(&op, "k", 2);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(ask(w, "K", 2), ERR_OK);
    assert_int_equal(ask(w, "k ", 2), ERR_OK);
    world_hold_init(w, &op, USD, -1);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_true(id_is_zero(op.earlier.request));
    world_hold_init(w, &op, USD, -1);
    assert_int_equal(world_do(w, &op.super), ERR_OK); /* no key is not a key */
    key->super.row = w->key;                          /* rotated: another secret in the same row */
    key->super.version = 1;
    assert_int_equal(world_put(w, key, &r, NULL), ERR_OK);
    assert_int_equal(ask(w, "k", 1), ERR_IDEMPOTENCY_RUNNING);
    (void)world_put(w, world_tenant(""), NULL, NULL);
}

static void any_bytes(void **state)
{
    struct world *w = *state;
    char text[LIMIT_IDEMPOTENCY_KEY + 2];

    memset(text, 0xfe, sizeof(text));
    text[LIMIT_IDEMPOTENCY_KEY + 1] = '\0';
    assert_int_equal(ask(w, text, 1), ERR_INVALID_VALUE);
    text[LIMIT_IDEMPOTENCY_KEY] = '\0';
    for (int i = 0; i < 2; i++) {
        struct store_hold op;

        assert_int_equal(try(w, &op, text, 1), ERR_OK);
        assert_int_equal(ask(w, text, 1), ERR_IDEMPOTENCY_RUNNING);
        text[LIMIT_IDEMPOTENCY_KEY - 1] = '\x01';
    }
}

static void in_doubt(void **state)
{
    static const char *const names[] = {"release", "charge", "keep"};
    struct world *w = *state;
    struct store_hold op, again;
    struct id kept = {{0}};

    for (int rule = IN_DOUBT_RELEASE; rule <= IN_DOUBT_KEEP; rule++) {
        world_hold_init(w, &op, USD, -1);
        world_hold_key(&op, names[rule], 1);
        op.rule = (enum conf_in_doubt)rule;
        assert_int_equal(world_do(w, &op.super), ERR_OK);
        assert_int_equal(world_doubt(w, op.id), ERR_OK);
        kept = op.id;
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try(w, &again, "release", 1), ERR_IDEMPOTENCY_DONE);
        assert_false(id_is_zero(again.earlier.usage));
        assert_int_equal(ask(w, "charge", 1), ERR_IDEMPOTENCY_DONE);
        assert_int_equal(try(w, &again, "keep", 1), ERR_IDEMPOTENCY_RUNNING);
        assert_true(id_eq(again.earlier.request, kept));
        assert_true(id_is_zero(again.earlier.usage));
        assert_non_null(strstr(again.super.err.message, "not known"));
        world_close(w);
        world_open(w);
    }
    assert_int_equal(world_capture(w, kept, 1, USD, -1), ERR_OK); /* reconciled by hand */
    assert_int_equal(ask(w, "keep", 1), ERR_IDEMPOTENCY_DONE);
}

/* The process goes with holds open: the next one ends each by its rule, and every key knows. */
static void dead_holds(void **state)
{
    struct world *w = *state;
    struct store_hold ops[3], again;

    assert_int_equal(try(w, &ops[0], "release", 1), ERR_OK);
    world_hold_init(w, &ops[1], USD, -1);
    world_hold_key(&ops[1], "charge", 1);
    ops[1].rule = IN_DOUBT_CHARGE;
    assert_int_equal(world_do(w, &ops[1].super), ERR_OK);
    world_hold_init(w, &ops[2], USD, -1);
    world_hold_key(&ops[2], "keep", 1);
    ops[2].rule = IN_DOUBT_KEEP;
    assert_int_equal(world_do(w, &ops[2].super), ERR_OK);
    world_close(w);
    world_open(w);
    assert_int_equal(store_recovered(w->store), 3);
    assert_int_equal(try(w, &again, "release", 1), ERR_IDEMPOTENCY_DONE);
    assert_true(id_eq(again.earlier.request, ops[0].id));
    assert_int_equal(ask(w, "charge", 1), ERR_IDEMPOTENCY_DONE);
    assert_int_equal(ask(w, "charge", 2), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(ask(w, "keep", 1), ERR_IDEMPOTENCY_RUNNING);
    assert_int_equal(world_void(w, ops[2].id), ERR_OK); /* an operator found that nothing was done */
    assert_int_equal(ask(w, "keep", 2), ERR_OK);
}

/* ---- one batch ---- */

static struct store_op *link_ops(struct store_op **ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ops[i]->mail.next = i + 1 < n ? &ops[i + 1]->mail : NULL;
    return ops[0];
}

static void same_batch(void **state)
{
    struct world *w = *state;
    struct store_options options = {.url = w->url, .secrets = w->secrets};
    struct store_hold holds[8];
    struct store_capture capture;
    struct store_void undo = {.super = {.kind = STORE_VOID}};
    static const char *const keys[8] = {"a", "a", "a", "b", "b", "b", "c", "c"};
    static const enum err_code expected[8] = {ERR_OK, ERR_IDEMPOTENCY_RUNNING, ERR_IDEMPOTENCY_DONE,   ERR_OK,
                                              ERR_OK, ERR_IDEMPOTENCY_REUSED,  ERR_INSUFFICIENT_QUOTA, ERR_OK};
    struct store_op *ops[10];
    struct err err;

    for (int i = 0; i < 8; i++) {
        world_hold_init(w, &holds[i], i == 6 ? 100 * USD : USD, -1);
        world_hold_key(&holds[i], keys[i], i == 5 ? 2 : 1);
    }
    world_capture_init(&capture, holds[0].id, 1, USD, -1);
    undo.hold = holds[3].id;
    ops[0] = &holds[0].super;
    ops[1] = &holds[1].super;
    ops[2] = &capture.super;
    ops[3] = &holds[2].super;
    ops[4] = &holds[3].super;
    ops[5] = &undo.super;
    for (int i = 4; i < 8; i++)
        ops[i + 2] = &holds[i].super;
    world_close(w);
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    batch_run(w->store, link_ops(ops, 10), 10);
    for (int i = 0; i < 8; i++)
        assert_int_equal(holds[i].super.err.code, expected[i]);
    assert_true(id_eq(holds[1].earlier.request, holds[0].id));
    assert_true(id_eq(holds[2].earlier.usage, id_from_seq(capture.usage.created_at, capture.usage.seq)));
    assert_true(id_eq(holds[5].earlier.request, holds[4].id));
    assert_int_equal(count_keys(w), 3);
    assert_int_equal(world_fsck(w), 0);
}

/* ---- for how long ---- */

static void remembered_for_a_while(void **state)
{
    struct world *w = *state;
    struct store_hold op, open;
    int64_t ended = START + 2 * KEEP;

    assert_int_equal(try(w, &op, "ended", 1), ERR_OK);
    assert_int_equal(try(w, &open, "open", 1), ERR_OK);
    clock_freeze(ended, 0); /* a long call: its age counts from its end */
    assert_int_equal(ask(w, "ended", 1), ERR_IDEMPOTENCY_RUNNING);
    assert_int_equal(world_capture(w, op.id, 1, USD, -1), ERR_OK);
    clock_freeze(ended + KEEP, 0);
    assert_int_equal(ask(w, "ended", 1), ERR_IDEMPOTENCY_DONE);
    clock_freeze(ended - KEEP, 0); /* the clock falls back */
    assert_int_equal(ask(w, "ended", 1), ERR_IDEMPOTENCY_DONE);
    clock_freeze(ended + KEEP + 1000, 0);
    assert_int_equal(try(w, &op, "ended", 2), ERR_OK); /* over the old one, which was still there */
    assert_int_equal(ask(w, "ended", 1), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(world_capture(w, op.id, 1, USD, -1), ERR_OK);
    clock_freeze(ended + 100 * KEEP, 0);
    assert_int_equal(ask(w, "open", 1), ERR_IDEMPOTENCY_RUNNING); /* as long as its hold */
    assert_int_equal(world_void(w, open.id), ERR_OK);
}

static void forgotten_a_few_at_a_time(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    char text[16];

    clock_freeze(START + 1000 * KEEP, 0); /* a clock that was wrong once must not put it off */
    assert_int_equal(ask(w, "new", 1), ERR_OK);
    clock_freeze(START, 0);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(try(w, &op, text, 1), ERR_OK);
        if (i < 19)
            assert_int_equal(world_capture(w, op.id, 1, 1, -1), ERR_OK);
    }
    clock_freeze(START + KEEP, 0);
    assert_int_equal(ask(w, "new", 1), ERR_OK);
    assert_int_equal(count_keys(w), 20);
    clock_freeze(START + KEEP + CLOCK_SECOND, 0);
    for (int i = 1; i <= 7; i++) {
        world_hold_init(w, &op, 1, -1);
        assert_int_equal(world_do(w, &op.super), ERR_OK); /* without a key: nothing is looked at */
        assert_int_equal(ask(w, "new", 1), ERR_OK);
        assert_int_equal(count_keys(w), i < 5 ? 20 - 4 * i : 1);
    }
    assert_int_equal(ask(w, "19", 1), ERR_IDEMPOTENCY_RUNNING);
}

/* A key whose time is over is free at once, although its row is still there. */
static void free_before_it_is_forgotten(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    char text[16];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        assert_int_equal(try(w, &op, text, 1), ERR_OK);
        assert_int_equal(world_capture(w, op.id, 1, 1, -1), ERR_OK);
    }
    clock_freeze(START + KEEP + 1000, 0);
    assert_int_equal(try(w, &op, "19", 2), ERR_OK);
    assert_int_equal(count_keys(w), 16);
    assert_int_equal(ask(w, "19", 2), ERR_IDEMPOTENCY_RUNNING);
    assert_int_equal(ask(w, "19", 1), ERR_IDEMPOTENCY_REUSED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_hold, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(free_again, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(whose_key, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(any_bytes, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(in_doubt, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(dead_holds, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(same_batch, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(remembered_for_a_while, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(forgotten_a_few_at_a_time, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(free_before_it_is_forgotten, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
