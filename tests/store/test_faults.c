/* test_faults.c - the Nth call of each method of SQLite's file layer fails, once or from then on, for N = 1, 2, 3 ...
 * until a whole history runs through. After the fault nothing is acknowledged; after a restart everything acknowledged
 * is there, and what was refused while the store went on is not. Another program's locks are waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_load.h"
#include "lib_vfs.h"
#include "lib_world.h"

enum { STEPS = 8 };

struct history {
    uint8_t captured[STEPS][ID_BYTES];
    size_t n;
    struct id tried[STEPS]; /* by step; each with an idempotency key of its own */
    bool done[STEPS];
    int64_t credited;
    bool broken; /* the store has failed */
    int failures;
    char why[LIMIT_ERROR_MESSAGE];
};

/* After the store has failed no other answer than UNAVAILABLE may come. */
static bool step(const struct world *w, struct history *h, const struct store_op *op)
{
    enum err_code code = op->err.code;

    assert_true(code == ERR_OK || code == ERR_UNAVAILABLE);
    assert_true(code == ERR_OK || load_is_clear(op->err.message, sizeof(op->err.message)));
    assert_false(h->broken && code == ERR_OK);
    h->broken |= !store_healthy(w->store);
    return code == ERR_OK;
}

static bool do_step(struct world *w, struct history *h, struct store_op *op)
{
    (void)world_do(w, op);
    return step(w, h, op);
}

static void step_hold(struct world *w, struct store_hold *op, int i)
{
    static const char names[STEPS + 1] = "abcdefgh";

    world_hold_init(w, op, 50, -1);
    world_hold_key(op, &names[i], 1); /* up to the end: all differ */
}

/* The reader may be the one whose call fails: it says so, and the store goes on. */
static void ask_balance(struct world *w)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE}, .tenant_row = w->tenant};

    world_ask(w, &q.super);
    assert_true(q.super.err.code == ERR_OK || q.super.err.code == ERR_UNAVAILABLE);
    assert_true(q.super.err.code == ERR_OK || load_is_clear(q.super.err.message, sizeof(q.super.err.message)));
}

static void run_step(struct world *w, struct history *h, int i)
{
    struct store_credit credit = {.super = {.kind = STORE_CREDIT}, .tenant_row = w->tenant, .amount = 100};
    struct store_put put = {.super = {.kind = STORE_PUT}, .record = &world_tenant("t")->super};
    struct store_capture capture;
    struct store_void undo;
    struct store_hold hold;

    if (do_step(w, h, &credit.super))
        h->credited += 100;
    step_hold(w, &hold, i);
    h->tried[i] = hold.id;
    if (do_step(w, h, &hold.super)) {
        world_capture_init(&capture, hold.id, 10, 50, -1);
        h->done[i] = do_step(w, h, &capture.super);
    }
    if (h->done[i])
        memcpy(h->captured[h->n++], hold.id.b, ID_BYTES);
    world_hold_init(w, &hold, 10, -1);
    undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = hold.id};
    if (do_step(w, h, &hold.super))
        (void)do_step(w, h, &undo.super);
    (void)do_step(w, h, &put.super);
    record_unref(put.record);
    ask_balance(w);
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

static void on_failed(void *ctx, const char *why)
{
    struct history *h = ctx;

    h->failures++;
    (void)snprintf(h->why, sizeof(h->why), "%s", why);
}

static bool try_open(struct world *w, struct history *h)
{
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    struct err err = {.code = ERR_OK};
    enum err_code code = store_open(&options, &w->store, &err);

    if (code != ERR_OK)
        w->store = NULL;
    else
        code = store_start(w->store, on_failed, h, &err);
    if (code == ERR_OK)
        return true;
    assert_true(load_is_clear(err.message, sizeof(err.message)));
    world_close(w);
    return false;
}

/* Under faults; they go on while the store is closed. */
static void run_history(struct world *w, struct history *h, const struct vfs_fault *fault, int after, bool opening)
{
    if (opening)
        vfs_arm(fault, after);
    if (!try_open(w, h))
        return;
    if (!opening)
        vfs_arm(fault, after);
    for (int i = 0; i < STEPS; i++)
        run_step(w, h, i);
    assert_true(vfs_failed() || !h->broken);
    h->broken = !store_healthy(w->store);
    world_close(w);
    assert_int_equal(h->failures, h->broken);
    assert_true(!h->broken || load_is_clear(h->why, sizeof(h->why)));
}

/* One round; false when the fault was never reached. */
static bool round_of(const struct vfs_fault *fault, int after, bool opening)
{
    struct history h = {.n = 0};
    struct world w;
    bool reached;

    world_init(&w);
    world_open(&w);
    world_fill(&w, 0, 0);
    world_close(&w);
    run_history(&w, &h, fault, after, opening);
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

/* Each N at first, then fewer and fewer. */
static int run_rounds(const struct vfs_fault *fault, bool opening)
{
    enum { EACH = TEST_SANITIZED ? 2 : 16, GROWTH = TEST_SANITIZED ? 1 : 4 };
    int after = 1, n = 0;

    for (; round_of(fault, after, opening); n++)
        after += after < EACH ? 1 : 1 + after / GROWTH;
    print_message("%s %s, error %d, %s: %d rounds up to call %d\n", opening ? "opening," : "working,",
                  vfs_name(fault->method), fault->code, fault->times > 0 ? "once" : "for ever", n, after);
    return n;
}

static void run_all(const struct vfs_fault *faults, size_t n)
{
    vfs_install();
    for (size_t i = 0; i < n; i++) {
        int rounds = run_rounds(&faults[i], true);

        rounds += run_rounds(&faults[i], false);
        assert_true(rounds > 0);
    }
}

/* The device itself. */
static void data_fails(void **state)
{
    static const struct vfs_fault faults[] = {
        {VFS_WRITE, SQLITE_FULL, 0},        {VFS_WRITE, SQLITE_FULL, 1},       {VFS_WRITE, SQLITE_IOERR_WRITE, 0},
        {VFS_WRITE, SQLITE_IOERR_WRITE, 1}, {VFS_SYNC, SQLITE_IOERR_FSYNC, 0}, {VFS_SYNC, SQLITE_IOERR_FSYNC, 1},
        {VFS_READ, SQLITE_IOERR_READ, 0},   {VFS_READ, SQLITE_IOERR_READ, 1},  {VFS_READ, SQLITE_IOERR_CORRUPTFS, 0},
        {VFS_READ, SQLITE_CORRUPT, 1},
    };

    (void)state;
    run_all(faults, sizeof(faults) / sizeof(faults[0]));
}

/* What the system says of files. */
static void files_fail(void **state)
{
    static const struct vfs_fault faults[] = {
        {VFS_TRUNCATE, SQLITE_IOERR_TRUNCATE, 0}, {VFS_TRUNCATE, SQLITE_IOERR_TRUNCATE, 1},
        {VFS_OPEN, SQLITE_CANTOPEN, 0},           {VFS_OPEN, SQLITE_CANTOPEN, 1},
        {VFS_SIZE, SQLITE_IOERR_FSTAT, 0},        {VFS_SIZE, SQLITE_IOERR_FSTAT, 1},
        {VFS_DELETE, SQLITE_IOERR_DELETE, 0},     {VFS_DELETE, SQLITE_IOERR_DELETE, 1},
        {VFS_ACCESS, SQLITE_IOERR_ACCESS, 0},     {VFS_ACCESS, SQLITE_IOERR_ACCESS, 1},
    };

    (void)state;
    run_all(faults, sizeof(faults) / sizeof(faults[0]));
}

/* Locks and shared memory. For ever busy is another test: each call would wait its five seconds. */
static void locks_fail(void **state)
{
    static const struct vfs_fault faults[] = {
        {VFS_LOCK, SQLITE_IOERR_LOCK, 0},
        {VFS_LOCK, SQLITE_IOERR_LOCK, 1},
        {VFS_LOCK, SQLITE_BUSY, 2},
        {VFS_SHM_MAP, SQLITE_IOERR_SHMMAP, 0},
        {VFS_SHM_MAP, SQLITE_IOERR_SHMMAP, 1},
        {VFS_SHM_LOCK, SQLITE_IOERR_SHMLOCK, 0},
        {VFS_SHM_LOCK, SQLITE_IOERR_SHMLOCK, 1},
        {VFS_SHM_LOCK, SQLITE_BUSY, 2},
    };

    (void)state;
    run_all(faults, sizeof(faults) / sizeof(faults[0]));
}

static void memory_fails(void **state)
{
    static const struct vfs_fault faults[] = {
        {VFS_OPEN, SQLITE_NOMEM, 1},
        {VFS_READ, SQLITE_IOERR_NOMEM, 1},
        {VFS_SHM_MAP, SQLITE_NOMEM, 0},
        {VFS_SHM_MAP, SQLITE_NOMEM, 1},
    };

    (void)state;
    run_all(faults, sizeof(faults) / sizeof(faults[0]));
}

/* The fault strikes a checkpoint between transactions: nothing acknowledged was at stake, but the store goes no
 * further. */
static void housekeeping_fails(void **state)
{
    static const struct vfs_fault faults[] = {
        {VFS_WRITE, SQLITE_FULL, 1}, {VFS_SYNC, SQLITE_IOERR_FSYNC, 1}, {VFS_READ, SQLITE_IOERR_READ, 1}};
    static struct load l;

    (void)state;
    vfs_install();
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct world w;
        struct err err;

        world_init(&w);
        world_open(&w);
        world_fill(&w, USD, USD);
        world_close(&w);
        load_init(&l, &w, dice_seed(), LOAD_HANDS, USD, USD);
        assert_int_equal(load_open(&l, &err), ERR_OK);
        for (int n = 0; n < 5; n++)
            assert_true(load_round(&l));
        vfs_arm(&faults[i], 1);
        for (int n = 0; n < 100 && !vfs_failed(); n++)
            usleep(100 * 1000);
        assert_true(vfs_failed());
        for (int n = 0; n < 100 && store_healthy(w.store); n++)
            usleep(10 * 1000);
        assert_false(load_round(&l));
        load_close(&l);
        vfs_disarm();
        assert_int_equal(load_open(&l, &err), ERR_OK);
        (void)load_compare(&l);
        load_close(&l);
        assert_string_equal(l.wrong, "");
        assert_int_equal(world_fsck(&w), 0);
        world_dispose(&w);
    }
}

/* ---- another program ---- */

static int64_t milliseconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static pid_t hold_lock(struct world *w, int ms)
{
    int ready[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        sql_hold(w->url, ready[1], ms);
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return child;
}

/* Another program has the write lock for <ms>: every operation is answered within <bound>, and afterwards all is well.
 * Returns how many were acknowledged meanwhile. */
static int64_t work_beside(int ms, int64_t least, int64_t bound)
{
    static struct load l;
    struct world w;
    struct err err;
    int64_t began, done, acknowledged;
    pid_t child;

    world_init(&w);
    world_open(&w);
    world_fill(&w, USD, USD);
    world_close(&w);
    load_init(&l, &w, dice_seed(), LOAD_HANDS, USD, USD);
    assert_int_equal(load_open(&l, &err), ERR_OK);
    assert_true(load_round(&l));
    child = hold_lock(&w, ms);
    began = milliseconds();
    acknowledged = -l.acknowledged;
    assert_true(load_round(&l));
    done = milliseconds() - began;
    acknowledged += l.acknowledged;
    assert_in_range(done, least, bound);
    assert_int_equal(waitpid(child, NULL, 0), child);
    for (int i = 0; i < 20; i++)
        assert_true(load_round(&l));
    load_close(&l);
    assert_int_equal(load_open(&l, &err), ERR_OK);
    (void)load_compare(&l);
    load_close(&l);
    assert_string_equal(l.wrong, "");
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
    return acknowledged;
}

static void waits_for_a_short_writer(void **state)
{
    (void)state;
    assert_int_equal(work_beside(1000, 500, 4000), LOAD_HANDS);
}

/* The first batch waits for five seconds and is refused, the next one finds the lock free. */
static void refuses_beside_a_long_writer(void **state)
{
    int64_t acknowledged;

    (void)state;
    acknowledged = work_beside(6500, 4500, 11000);
    assert_in_range(acknowledged, 0, LOAD_HANDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_fails),
        cmocka_unit_test(files_fail),
        cmocka_unit_test(locks_fail),
        cmocka_unit_test(memory_fails),
        cmocka_unit_test(housekeeping_fails),
        cmocka_unit_test(waits_for_a_short_writer),
        cmocka_unit_test(refuses_beside_a_long_writer),
    };

    /* Thousands of small stores, whose faults are in the file layer: where there is a file system in memory, there. */
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    print_message("TG_SEED=%llu\n", (unsigned long long)dice_seed());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
