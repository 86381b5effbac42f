/* test_power.c - the power goes at every sync and many writes; what was acknowledged is there after it.
 *
 * The disk keeps what was synced and any of what was not, in any order, some of it torn (lib_disk.h). The same test
 * must fail with synchronous=NORMAL, or it would prove nothing: so it is run with the syncs that NORMAL leaves out
 * swallowed, and acknowledged operations must be lost then.
 * TG_SEED makes other choices, TG_CUTS bounds the number of cuts of each test. The same seed makes the same choices,
 * but how operations fall into batches is up to the threads: a rare failure may take several runs to show again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib_load.h"
#include "lib_power.h"

enum { ROUNDS = 10, CUTS = TEST_SANITIZED ? 24 : 120, LIVES = TEST_SANITIZED ? 2 : 4, PATIENCE = 4000 };

#define DEPOSIT (1000 * USD)

/* A store's files with what was acknowledged of it, to start from again and again. */
struct start {
    struct disk *image;
    struct load load;
    int rounds; /* of work until the power goes, at the most */
};

static struct {
    struct world w;
    struct load load; /* of the run at hand */
    uint64_t seed;
    long cuts, lives, checkpointed; /* runs that came to a checkpoint while they worked */
} t;

static struct start small, full; /* a closed store; one whose log is about to be checkpointed */

static long most_cuts(void)
{
    return getenv("TG_CUTS") != NULL ? strtol(getenv("TG_CUTS"), NULL, 10) : CUTS;
}

static void assert_right(const char *when, enum power_point point, long nth, uint64_t seed)
{
    if (t.load.wrong[0] == '\0')
        return;
    print_error("TG_SEED=%llu, %s, point %d, number %ld, life %llu: %s\n", (unsigned long long)t.seed, when, (int)point,
                nth, (unsigned long long)seed, t.load.wrong);
    fail();
}

static void must_open(void)
{
    struct err err;

    if (load_open(&t.load, &err) != ERR_OK)
        (void)snprintf(t.load.wrong, sizeof(t.load.wrong), "the store does not open: %.200s", err.message);
}

/* ---- starts ---- */

static void keep(struct start *s, int rounds)
{
    struct disk *now = power_take();

    s->image = disk_copy(now);
    s->load = t.load;
    s->rounds = rounds;
    disk_destroy(now);
}

static void make_small(void)
{
    power_boot(disk_create());
    world_open(&t.w);
    world_fill(&t.w, DEPOSIT, DEPOSIT);
    load_init(&t.load, &t.w, t.seed, LOAD_HANDS, DEPOSIT, DEPOSIT);
    for (int i = 0; i < ROUNDS; i++)
        (void)load_round(&t.load);
    load_close(&t.load);
    assert_right("preparing", POWER_NEVER, 0, 0);
    keep(&small, ROUNDS);
}

/* Works from the small start on until <enough> says so; the store stays open. */
static int work_until(bool (*enough)(size_t log), size_t *log)
{
    char path[160];
    int n = 0;

    (void)snprintf(path, sizeof(path), "%s/t.db-wal", t.w.dir);
    power_boot(disk_copy(small.image));
    t.load = small.load;
    must_open();
    assert_right("preparing", POWER_NEVER, 0, 0);
    for (*log = 0; !enough(*log); n++) {
        assert_true(n < PATIENCE && load_round(&t.load));
        *log = power_size(path);
    }
    return n;
}

static size_t limit;

static bool is_checkpointed(size_t log)
{
    (void)log;
    return power_checkpoints() > 0;
}

static bool is_near_limit(size_t log)
{
    return log > limit;
}

/* A store that was killed a few rounds before a checkpoint that its work, not its idleness or its end, brings about. */
static void make_full(void)
{
    enum { BEFORE = 4 };
    size_t log;
    int n = work_until(is_checkpointed, &log);

    load_close(&t.load);
    limit = log - log / (size_t)n * BEFORE;
    disk_destroy(power_take());
    (void)work_until(is_near_limit, &log);
    power_cut();
    load_close(&t.load);
    assert_right("preparing", POWER_NEVER, 0, 0);
    keep(&full, 3 * BEFORE);
    print_message("the log is checkpointed at %zu KiB, after %d rounds\n", log / 1024, n);
}

/* ---- one cut ---- */

/* Works until the power goes. False: it did not; the whole run is through. */
static bool work_to_cut(const struct start *s, enum power_point point, long nth)
{
    struct err err;

    power_boot(disk_copy(s->image));
    t.load = s->load;
    t.load.dice.state ^= (uint64_t)nth << 8 | (uint64_t)point;
    power_arm(point, nth);
    if (load_open(&t.load, &err) == ERR_OK) {
        for (int i = 0; i < s->rounds && load_round(&t.load); i++)
            ;
        t.checkpointed += power_checkpoints() > 0;
        load_close(&t.load);
    } else {
        assert_false(power_on());
    }
    assert_right("working", point, nth, 0);
    return !power_on();
}

/* The next start loses its power too. Only where a torn write spoils nothing beside itself: SQLite pads a commit to the
 * end of its block, but after a cut it goes on at the end of the last whole commit, which may be inside of one. */
static void cut_again(struct dice *dice)
{
    struct disk *wreck;
    struct err err;

    power_arm((enum power_point)(1 + dice_below(dice, POWER_POINTS - 1)), 1 + (long)dice_below(dice, 8));
    if (load_open(&t.load, &err) == ERR_OK)
        load_close(&t.load);
    else
        assert_false(power_on());
    wreck = power_take();
    power_boot(disk_survive(wreck, dice_roll(dice), true));
    disk_destroy(wreck);
}

/* Returns how many acknowledged operations this way out of the cut has lost. */
static int live_on(const struct disk *wreck, const struct load *acknowledged, uint64_t seed, bool powersafe)
{
    struct dice dice = {seed};
    int lost = 0;

    power_boot(disk_survive(wreck, dice_roll(&dice), powersafe));
    t.load = *acknowledged;
    if (powersafe && dice_below(&dice, 3) == 0)
        cut_again(&dice);
    must_open();
    if (t.load.wrong[0] == '\0') {
        lost = load_compare(&t.load);
        (void)load_round(&t.load); /* it works, too */
        load_close(&t.load);
        if (world_fsck(&t.w) != 0 && t.load.wrong[0] == '\0')
            (void)snprintf(t.load.wrong, sizeof(t.load.wrong), "fsck found something");
    }
    t.lives++;
    return lost;
}

static int cut_once(const struct start *s, enum power_point point, long nth, bool *through)
{
    static struct load acknowledged;
    bool powersafe = nth % 3 != 0;
    struct disk *wreck;
    int lost = 0;

    power_set_powersafe(powersafe);
    *through = !work_to_cut(s, point, nth);
    wreck = power_take();
    acknowledged = t.load;
    for (uint64_t i = 0; !*through && i < LIVES; i++) {
        uint64_t seed = (t.seed << 20) + ((uint64_t)nth << 8) + ((uint64_t)point << 4) + i;

        lost += live_on(wreck, &acknowledged, seed, powersafe);
        assert_right("after the cut", point, nth, seed);
        disk_destroy(power_take());
    }
    disk_destroy(wreck);
    t.cuts++;
    return lost;
}

/* Cuts at every <step>th such point until a run gets through. */
static int cut_everywhere(const struct start *s, enum power_point point, long step)
{
    bool through = false;
    long n = 0, most = most_cuts();
    int lost = 0;

    for (long nth = 1; !through && n < most; nth += step, n++)
        lost += cut_once(s, point, nth, &through);
    print_message("point %d: %ld cuts%s\n", (int)point, n, through ? ", all there are" : "");
    assert_true(n > 3 || most <= 3);
    return lost;
}

/* ---- tests ---- */

static void syncs(void **state)
{
    (void)state;
    assert_int_equal(cut_everywhere(&small, POWER_BEFORE_SYNC, 1), 0);
    assert_int_equal(cut_everywhere(&small, POWER_AFTER_SYNC, 1), 0);
}

static void writes(void **state)
{
    (void)state;
    assert_int_equal(cut_everywhere(&small, POWER_AT_WRITE, TEST_SANITIZED ? 31 : 5), 0);
}

static void checkpoints(void **state)
{
    (void)state;
    make_full();
    t.checkpointed = 0;
    assert_int_equal(cut_everywhere(&full, POWER_BEFORE_SYNC, TEST_SANITIZED ? 3 : 1), 0);
    assert_int_equal(cut_everywhere(&full, POWER_AFTER_SYNC, TEST_SANITIZED ? 3 : 2), 0);
    assert_int_equal(cut_everywhere(&full, POWER_AT_WRITE, TEST_SANITIZED ? 67 : 37), 0);
    assert_true(t.checkpointed > 3);
    disk_destroy(full.image);
}

/* A harness in which NORMAL is good enough does not cut anything. The store stays whole, as SQLite promises. */
static void normal_loses(void **state)
{
    struct start s = small;
    int lost;

    (void)state;
    s.load.relaxed = true;
    power_set_relaxed(true);
    lost = cut_everywhere(&s, POWER_BEFORE_SYNC, 2);
    lost += cut_everywhere(&s, POWER_AT_WRITE, 37);
    power_set_relaxed(false);
    print_message("NORMAL: %d acknowledged operations lost\n", lost);
    assert_true(lost > 0);
}

/* The power goes while the very first start makes the store. */
static bool first_start(enum power_point point, long nth)
{
    struct disk *wreck;
    struct err err;

    power_boot(disk_create());
    load_init(&t.load, &t.w, t.seed, LOAD_HANDS, 0, 0);
    power_arm(point, nth);
    if (load_open(&t.load, &err) == ERR_OK)
        load_close(&t.load);
    if (power_on()) {
        disk_destroy(power_take());
        return false;
    }
    wreck = power_take();
    for (uint64_t i = 0; i < LIVES; i++) {
        power_boot(disk_survive(wreck, t.seed * 64 + i, nth % 2 == 0));
        must_open();
        assert_right("a first start", point, nth, i);
        load_close(&t.load);
        assert_int_equal(world_fsck(&t.w), 0);
        disk_destroy(power_take());
        t.lives++;
    }
    disk_destroy(wreck);
    t.cuts++;
    return true;
}

static void first_starts(void **state)
{
    long most = most_cuts();

    (void)state;
    for (enum power_point point = POWER_BEFORE_SYNC; point < POWER_POINTS; point++)
        for (long nth = 1, n = 0; n < most && first_start(point, nth); n++)
            nth += point == POWER_AT_WRITE ? (TEST_SANITIZED ? 37 : 7) : (TEST_SANITIZED ? 3 : 1);
}

/* What the disk in memory promises is what the real layer says of a real file. */
static void promises(void **state)
{
    sqlite3_file *file = NULL;
    char path[128];
    sqlite3 *db;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/traits", t.w.dir);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"), SQLITE_OK);
    assert_int_equal(sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file), SQLITE_OK);
    assert_int_equal(file->pMethods->xSectorSize(file), DISK_BLOCK);
    assert_int_not_equal(file->pMethods->xDeviceCharacteristics(file) & SQLITE_IOCAP_POWERSAFE_OVERWRITE, 0);
    sqlite3_close(db);
}

static int set_up(void **state)
{
    (void)state;
    t.seed = dice_seed();
    print_message("TG_SEED=%llu\n", (unsigned long long)t.seed);
    power_install();
    world_init(&t.w);
    make_small();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    print_message("%ld cuts, survived %ld times\n", t.cuts, t.lives);
    disk_destroy(small.image);
    world_dispose(&t.w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promises), cmocka_unit_test(first_starts), cmocka_unit_test(syncs),
        cmocka_unit_test(writes),   cmocka_unit_test(checkpoints),  cmocka_unit_test(normal_loses),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
