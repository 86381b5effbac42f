/* test_faults.c - the Nth write or sync of the database's files fails, and every one after it, for N = 1, 2, 3 ...
 * until a whole history runs through. After the fault nothing is acknowledged; after a restart everything acknowledged
 * is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_vfs.h"
#include "lib_world.h"

enum { STEPS = 12 };

struct history {
    uint8_t captured[STEPS][ID_BYTES];
    size_t n;
    struct id tried[STEPS]; /* by step; each with an idempotency key of its own */
    bool done[STEPS];
    int64_t credited;
    bool broken; /* an operation was answered with UNAVAILABLE */
};

/* After the first UNAVAILABLE no other answer may come. */
static bool step(struct history *h, enum err_code code)
{
    assert_true(code == ERR_OK || code == ERR_UNAVAILABLE);
    assert_false(h->broken && code == ERR_OK);
    h->broken |= code != ERR_OK;
    return code == ERR_OK;
}

static void step_hold(struct world *w, struct store_hold *op, int i)
{
    static const char names[STEPS + 1] = "abcdefghijkl";

    world_hold_init(w, op, 50, -1);
    world_hold_key(op, &names[i], 1); /* up to the end: all differ */
}

static void run_history(struct world *w, struct history *h)
{
    struct store_hold hold;
    struct store_put put;

    for (int i = 0; i < STEPS; i++) {
        if (step(h, world_credit(w, false, 100)))
            h->credited += 100;
        step_hold(w, &hold, i);
        h->tried[i] = hold.id;
        if (step(h, world_do(w, &hold.super)) && step(h, world_capture(w, hold.id, 10, 50, -1))) {
            memcpy(h->captured[h->n++], hold.id.b, ID_BYTES);
            h->done[i] = true;
        }
        put = (struct store_put){.super = {.kind = STORE_PUT}, .record = &world_tenant("t")->super};
        (void)step(h, world_do(w, &put.super));
        record_unref(put.record);
    }
}

/* The caller that got no answer sends each call again: what was carried out is told, the rest was not. */
static void send_again(struct world *w, const struct history *h)
{
    struct store_hold hold;

    for (int i = 0; i < STEPS && !id_is_zero(h->tried[i]); i++) {
        enum err_code code;

        step_hold(w, &hold, i);
        code = world_do(w, &hold.super);
        assert_true(code == ERR_IDEMPOTENCY_DONE || (code == ERR_OK && !h->done[i]));
        assert_int_equal(sql_missing_requests(w->url, (const uint8_t(*)[16])h->tried[i].b, 1), code == ERR_OK);
        if (code == ERR_OK)
            assert_int_equal(world_void(w, hold.id), ERR_OK);
        else
            assert_true(id_eq(hold.earlier.request, h->tried[i]));
    }
}

static bool try_open(struct world *w)
{
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    struct err err;

    if (store_open(&options, &w->store, &err) != ERR_OK) {
        w->store = NULL;
        return false;
    }
    if (store_start(w->store, NULL, NULL, &err) != ERR_OK) {
        world_close(w);
        return false;
    }
    return true;
}

/* One round; false when the fault was never reached. */
static bool round_of(enum vfs_fault fault, int after, bool while_opening)
{
    struct history h = {.n = 0};
    struct world w;
    bool reached;

    world_init(&w);
    world_open(&w);
    world_fill(&w, 0, 0);
    world_close(&w);
    if (while_opening)
        vfs_arm(fault, after);
    if (try_open(&w)) {
        if (!while_opening)
            vfs_arm(fault, after);
        run_history(&w, &h);
        reached = vfs_failed();
        assert_true(reached || !h.broken);
        assert_int_equal(store_healthy(w.store), !h.broken);
        world_close(&w);
    }
    reached = vfs_failed();
    vfs_disarm();
    world_open(&w);
    assert_int_equal(world_credit(&w, false, 50), ERR_OK);
    send_again(&w, &h);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    assert_int_equal(sql_missing_requests(w.url, (const uint8_t(*)[16])h.captured, h.n), 0);
    assert_true(sql_number(w.url, "SELECT coalesce(sum(amount), 0) FROM grants") >= h.credited);
    world_dispose(&w);
    return reached;
}

static void run_rounds(enum vfs_fault fault, bool while_opening)
{
    int after = 1;

    vfs_install();
    while (round_of(fault, after, while_opening))
        after += after < 40 ? 1 : 7;
    print_message("%d rounds of faults\n", after);
    assert_true(after > STEPS);
}

static void syncs_fail(void **state)
{
    (void)state;
    run_rounds(VFS_SYNC, false);
}

static void writes_fail(void **state)
{
    (void)state;
    run_rounds(VFS_WRITE, false);
}

static void syncs_fail_from_the_start(void **state)
{
    (void)state;
    run_rounds(VFS_SYNC, true);
}

static void writes_fail_from_the_start(void **state)
{
    (void)state;
    run_rounds(VFS_WRITE, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syncs_fail),
        cmocka_unit_test(writes_fail),
        cmocka_unit_test(syncs_fail_from_the_start),
        cmocka_unit_test(writes_fail_from_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
