/* test_race.c - many callers at once: the last dollar is spent once, a hold ends once, a repeated call happens once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "lib_sql.h"
#include "lib_world.h"

enum { THREADS = 8, IMAGES = 203, CALLS = 60 };

struct racer {
    struct world *w;
    pthread_t thread;
    struct id held[IMAGES];
    int n, won;
    struct id *ids; /* shared by all */
    int n_ids;
};

static void *hold_until_refused(void *arg)
{
    struct racer *r = arg;
    struct store_hold op;
    struct box box;

    box_init(&box);
    for (;;) {
        world_hold_init(r->w, &op, 1000, -1);
        if (world_do_in(r->w->store, &box, &op.super) != ERR_OK)
            break;
        r->held[r->n++] = op.id;
    }
    assert_int_equal(op.super.err.code, ERR_INSUFFICIENT_QUOTA);
    box_dispose(&box);
    return NULL;
}

/* All threads try to end all holds, half of them by capture. */
static void *end_all(void *arg)
{
    struct racer *r = arg;
    struct store_capture capture;
    struct store_void undo;
    struct box box;

    box_init(&box);
    for (int i = 0; i < r->n_ids; i++) {
        enum err_code code;

        if (r->n % 2 == 0) {
            world_capture_init(&capture, r->ids[i], 10, 1000, -1);
            code = world_do_in(r->w->store, &box, &capture.super);
        } else {
            undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = r->ids[i]};
            code = world_do_in(r->w->store, &box, &undo.super);
        }
        assert_true(code == ERR_OK || code == ERR_NOT_FOUND);
        r->won += code == ERR_OK;
    }
    box_dispose(&box);
    return NULL;
}

static void run(struct racer *racers, void *(*main)(void *))
{
    for (int i = 0; i < THREADS; i++)
        pthread_create(&racers[i].thread, NULL, main, &racers[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(racers[i].thread, NULL);
}

static void last_dollar(void **state)
{
    static struct racer racers[THREADS];
    static struct id ids[IMAGES];
    struct world w;
    int n = 0, won = 0;
    int64_t captured;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, IMAGES * 1000 + 999, 0);
    memset(racers, 0, sizeof(racers));
    for (int i = 0; i < THREADS; i++)
        racers[i].w = &w;
    run(racers, hold_until_refused);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < racers[i].n; j++)
            ids[n++] = racers[i].held[j];
    assert_int_equal(n, IMAGES); /* not one over, not one short */
    assert_int_equal(world_balance(&w, false).held, IMAGES * 1000);

    for (int i = 0; i < THREADS; i++) {
        racers[i].n = i;
        racers[i].ids = ids;
        racers[i].n_ids = n;
    }
    run(racers, end_all);
    for (int i = 0; i < THREADS; i++)
        won += racers[i].won;
    assert_int_equal(won, IMAGES);
    captured = sql_number(w.url, "SELECT count(*) FROM usage");
    assert_int_equal(world_balance(&w, false).held, 0);
    assert_int_equal(world_balance(&w, false).posted, (IMAGES - captured) * 1000 + 999);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

/* Every thread sends every call, again and again until it is done; some give up in between. */
static void *send_again(void *arg)
{
    struct racer *r = arg;
    struct store_hold op;
    struct store_capture capture;
    struct store_void undo;
    struct box box;
    unsigned random = (unsigned)r->n;
    enum err_code code;
    char text[16];

    box_init(&box);
    for (int i = 0; i < CALLS; i++) {
        (void)snprintf(text, sizeof(text), "call %d", i);
        do {
            world_hold_init(r->w, &op, 100, -1);
            world_hold_key(&op, text, 1);
            code = world_do_in(r->w->store, &box, &op.super);
            if (code == ERR_OK && rand_r(&random) % 3 == 0) {
                undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = op.id};
                assert_int_equal(world_do_in(r->w->store, &box, &undo.super), ERR_OK);
                code = ERR_IDEMPOTENCY_RUNNING;
            } else if (code == ERR_OK) {
                world_capture_init(&capture, op.id, 1, 100, -1);
                assert_int_equal(world_do_in(r->w->store, &box, &capture.super), ERR_OK);
                r->won++;
            }
        } while (code == ERR_IDEMPOTENCY_RUNNING);
        assert_true(code == ERR_OK || code == ERR_IDEMPOTENCY_DONE);
    }
    box_dispose(&box);
    return NULL;
}

static void repeated_calls(void **state)
{
    static struct racer racers[THREADS];
    struct world w;
    int won = 0;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, CALLS * 100, 0); /* what is asked for at once never comes to more */
    memset(racers, 0, sizeof(racers));
    for (int i = 0; i < THREADS; i++) {
        racers[i].w = &w;
        racers[i].n = i;
    }
    run(racers, send_again);
    for (int i = 0; i < THREADS; i++)
        won += racers[i].won;
    assert_int_equal(won, CALLS);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM usage"), CALLS);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM call_keys"), CALLS);
    assert_int_equal(world_balance(&w, false).posted, 0);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

/* Askers and writers together. */
static void *ask_and_spend(void *arg)
{
    struct racer *r = arg;
    struct store_usage_query *q = mem_zalloc(sizeof(*q));
    struct store_hold hold;
    struct store_capture capture;
    struct world w = *r->w;

    box_init(&w.box);
    for (int i = 0; i < 50; i++) {
        world_hold_init(&w, &hold, 10, -1);
        assert_int_equal(world_do(&w, &hold.super), ERR_OK);
        world_capture_init(&capture, hold.id, 1, 10, -1);
        assert_int_equal(world_do(&w, &capture.super), ERR_OK);
        q->super.question = STORE_USAGE;
        q->limit = STORE_PAGE;
        q->tenant_row = w.tenant;
        world_ask(&w, &q->super);
        assert_int_equal(q->super.err.code, ERR_OK);
        assert_true(q->n > 0 && q->items[0].seq >= capture.usage.seq); /* what was acknowledged is seen */
        assert_true(world_balance(&w, false).posted <= 100000 - 10);
    }
    box_dispose(&w.box);
    free(q);
    return NULL;
}

static void askers(void **state)
{
    static struct racer racers[THREADS];
    struct world w;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 100000, 0);
    memset(racers, 0, sizeof(racers));
    for (int i = 0; i < THREADS; i++)
        racers[i].w = &w;
    run(racers, ask_and_spend);
    assert_int_equal(world_balance(&w, false).posted, 100000 - THREADS * 50 * 10);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_dollar),
        cmocka_unit_test(repeated_calls),
        cmocka_unit_test(askers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
