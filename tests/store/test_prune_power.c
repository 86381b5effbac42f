/* test_prune_power.c - the power goes at every sync and many writes while old records are pruned: each is then in one
 * of the two tables, what was acknowledged as gone is gone, a closed day stays closed, and fsck is clean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "lib_power.h"
#include "lib_sql.h"
#include "lib_trade.h"

enum { DAYS = 3, CALLS = 60, STEP = 7, CUTS = 12, LIVES = 2 };

#define START (INT64_C(1800000000) * CLOCK_SECOND / TRADE_DAY * TRADE_DAY)

static struct world world;
static struct disk *image;
static int64_t records, last_seq; /* in the image */

static int make_image(void **state)
{
    struct world *w = &world;
    struct dice dice = {dice_seed()};
    struct disk *now;

    (void)state;
    power_install();
    clock_freeze(START, 0);
    world_init(w);
    power_boot(disk_create());
    world_open(w);
    world_fill(w, 200000, 300000);
    trade(w, &dice, START, DAYS, CALLS);
    trade_fold(w, START + DAYS * TRADE_DAY);
    world_close(w);
    records = sql_number(w->url, "SELECT count(*) FROM usage");
    last_seq = sql_number(w->url, "SELECT max(seq) FROM usage");
    now = power_take();
    image = disk_copy(now);
    disk_destroy(now);
    return 0;
}

static int drop_image(void **state)
{
    (void)state;
    power_boot(disk_create());
    world_dispose(&world);
    disk_destroy(power_take());
    disk_destroy(image);
    clock_release();
    return 0;
}

static void on_failed(void *ctx, const char *why)
{
    (void)why;
    ((struct world *)ctx)->failures++;
}

static bool open_store(struct world *w)
{
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    struct err err;

    if (store_open(&options, &w->store, &err) != ERR_OK) {
        w->store = NULL;
        return false;
    }
    return store_start(w->store, on_failed, w, &err) == ERR_OK;
}

static bool do_step(struct world *w, enum prune_step step, int *n)
{
    struct store_prune op = {.super = {.kind = STORE_PRUNE},
                             .step = step,
                             .before = START + (DAYS - 1) * TRADE_DAY,
                             .last = last_seq,
                             .limit = STEP};

    if (world_do(w, &op.super) != ERR_OK)
        return false;
    *n = op.n;
    return true;
}

/* Prunes until nothing is left or the power goes. */
static void prune(struct world *w, bool *closed, int *gone)
{
    int n = 0;

    *closed = do_step(w, PRUNE_CLOSE, &n);
    do {
        n = 0;
        if (*closed && do_step(w, PRUNE_TAKE, &n))
            *gone += n;
    } while (n > 0);
}

static void check(struct world *w, bool closed, int gone)
{
    int more = 0;
    bool again;

    MUST(open_store(w));
    MUST(sql_number(w->url, "SELECT count(*) FROM usage") + sql_number(w->url, "SELECT count(*) FROM pruned") ==
         records);
    MUST(sql_number(w->url, "SELECT count(*) FROM usage WHERE seq IN (SELECT seq FROM pruned)") == 0);
    MUST(sql_number(w->url, "SELECT count(*) FROM pruned") >= gone);
    MUST(!closed || sql_number(w->url, "SELECT count(*) FROM meta WHERE name = 'closed'") == 1);
    prune(w, &again, &more); /* and it goes on */
    MUST(again && gone + more <= records);
    world_close(w);
    MUST(world_fsck(w) == 0);
}

/* False: the power was not cut, so far it does not come. */
static bool cut(enum power_point point, long nth)
{
    struct world *w = &world;
    struct disk *wreck;
    bool closed = false, dark;
    int gone = 0;

    power_boot(disk_copy(image));
    power_arm(point, nth);
    if (open_store(w))
        prune(w, &closed, &gone);
    world_close(w);
    dark = !power_on();
    wreck = power_take();
    for (uint64_t seed = 1; dark && seed <= LIVES; seed++) {
        power_boot(disk_survive(wreck, seed * 1000 + (uint64_t)nth, true));
        check(w, closed, gone);
        disk_destroy(power_take());
    }
    disk_destroy(wreck);
    return dark;
}

static void power_goes(void **state)
{
    long cuts = 0;

    (void)state;
    for (int point = POWER_BEFORE_SYNC; point < POWER_POINTS; point++) {
        long step = point == POWER_AT_WRITE ? 9 : 1;

        for (long i = 0; i < CUTS && cut((enum power_point)point, 1 + i * step); i++)
            cuts++;
    }
    assert_true(cuts > CUTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(power_goes)};

    return cmocka_run_group_tests(tests, make_image, drop_image);
}
