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

static void run_history(struct world *w, struct history *h)
{
    struct store_put put;
    struct id id;

    for (int i = 0; i < STEPS; i++) {
        if (step(h, world_credit(w, false, 100)))
            h->credited += 100;
        if (step(h, world_hold(w, 50, -1, &id)) && step(h, world_capture(w, id, 10, 50, -1)))
            memcpy(h->captured[h->n++], id.b, ID_BYTES);
        put = (struct store_put){.super = {.kind = STORE_PUT}, .record = &world_tenant("t")->super};
        (void)step(h, world_do(w, &put.super));
        record_unref(put.record);
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
