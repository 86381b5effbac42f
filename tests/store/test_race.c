/* test_race.c - many callers at once: a hold ends once, a charge is given back once, a repeated call happens once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "lib_race.h"
#include "lib_sql.h"

enum { THREADS = 8, CALLS = 60 };

struct racer {
    struct world *w;
    pthread_t thread;
    int n, won;
};

static void run(struct racer *racers, void *(*main)(void *))
{
    for (int i = 0; i < THREADS; i++)
        pthread_create(&racers[i].thread, NULL, main, &racers[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(racers[i].thread, NULL);
}

/* ---- one hold ends once ---- */

enum { SETTLED = 8, ENDINGS = 7 }; /* holds in a race; who wants to end each */

struct settlement {
    struct store_hold hold;
    struct store_capture captures[2];
    struct store_void undo;
    struct store_doubt doubts[2];
    struct store_resolve resolves[2];
};

static int add_endings(struct settlement *s, struct store_op **ops)
{
    struct id id = s->hold.id;
    int n = 0;

    for (int i = 0; i < 2; i++) {
        world_capture_init(&s->captures[i], id, 10, 600 + i, -1);
        s->doubts[i] = (struct store_doubt){.super = {.kind = STORE_DOUBT}, .hold = id};
        s->resolves[i] =
            (struct store_resolve){.super = {.kind = STORE_RESOLVE}, .hold = id, .capture = i == 0, .amount = 500};
    }
    s->undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = id};
    ops[n++] = &s->captures[0].super;
    ops[n++] = &s->captures[1].super;
    ops[n++] = &s->undo.super;
    ops[n++] = &s->doubts[0].super;
    ops[n++] = &s->doubts[1].super;
    ops[n++] = &s->resolves[0].super;
    ops[n++] = &s->resolves[1].super;
    return n;
}

/* How many of the calls ended the hold; *records: how many of them leave a usage record. */
static int count_endings(const struct settlement *s, int *records)
{
    int charged = 0, undone = s->undo.super.err.code == ERR_OK, resolved;

    assert_true(undone || s->undo.super.err.code == ERR_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        enum err_code capture = s->captures[i].super.err.code, doubt = s->doubts[i].super.err.code,
                      resolve = s->resolves[i].super.err.code;

        assert_true(capture == ERR_OK || capture == ERR_NOT_FOUND);
        assert_true(doubt == ERR_OK || doubt == ERR_NOT_FOUND);
        assert_true(resolve == ERR_OK || resolve == ERR_NOT_FOUND || resolve == ERR_CONFLICT);
        charged += capture == ERR_OK;
        charged += doubt == ERR_OK && s->hold.rule != IN_DOUBT_KEEP;
        resolved = resolve == ERR_OK;
        assert_true(!resolved || s->hold.rule == IN_DOUBT_KEEP);
        *(i == 0 ? &charged : &undone) += resolved;
    }
    *records += charged;
    return charged + undone;
}

static void shuffle(struct store_op **ops, int n, unsigned *random)
{
    for (int i = n - 1; i > 0; i--) {
        int j = rand_r(random) % (i + 1);
        struct store_op *op = ops[i];

        ops[i] = ops[j];
        ops[j] = op;
    }
}

static void credit_lot(struct world *w, int64_t amount, int priority, int64_t expires_at, struct store_credit *op)
{
    *op = (struct store_credit){.super = {.kind = STORE_CREDIT},
                                .tenant_row = w->tenant,
                                .amount = amount,
                                .category = priority % 2 == 0 ? CREDIT_PAID : CREDIT_PROMOTIONAL,
                                .priority = priority,
                                .expires_at = expires_at};
    assert_int_equal(world_do(w, &op->super), ERR_OK);
}

static void pass_expiry(void *ctx)
{
    clock_freeze(*(int64_t *)ctx, 0);
}

/* The lots that the holds keep lapse or are withdrawn while everybody ends them. */
static void settle_round(struct world *w, int64_t now, unsigned *random, int *records)
{
    static struct settlement s[SETTLED];
    struct store_op *ops[SETTLED * ENDINGS + 2];
    struct store_withdraw withdraw[2];
    struct store_credit lots[3];
    int64_t later = now + 10 * CLOCK_SECOND;
    int n = 0;

    clock_freeze(now, 0);
    credit_lot(w, 2500, 1, later, &lots[0]);
    credit_lot(w, 2500, 2, 0, &lots[1]);
    credit_lot(w, 5000, 3, 0, &lots[2]);
    for (int i = 0; i < SETTLED; i++) {
        world_hold_init(w, &s[i].hold, 1000, -1);
        s[i].hold.rule = (enum conf_in_doubt)(rand_r(random) % 3);
        assert_int_equal(world_do(w, &s[i].hold.super), ERR_OK);
        n += add_endings(&s[i], &ops[n]);
    }
    for (int i = 0; i < 2; i++) {
        withdraw[i] = (struct store_withdraw){.super = {.kind = STORE_WITHDRAW}, .seq = id_seq(lots[i].grant)};
        ops[n++] = &withdraw[i].super;
    }
    shuffle(ops, n, random);
    race_run(w, ops, n, rand_r(random) % 4 != 0 ? pass_expiry : NULL, &later);
    for (int i = 0; i < SETTLED; i++)
        assert_int_equal(count_endings(&s[i], records), 1);
    assert_true(withdraw[0].super.err.code == ERR_OK || withdraw[0].super.err.code == ERR_CONFLICT);
    assert_int_equal(withdraw[1].super.err.code, ERR_OK);
    clock_freeze(later, 0);
    race_fill(w, false, 0); /* begins a batch: what is due lapses; and the wallet is empty again */
    assert_int_equal(world_balance(w, false).held, 0);
}

static void settled_once(void **state)
{
    int64_t now = INT64_C(1800000000) * CLOCK_SECOND;
    unsigned random = 7;
    int records = 0;
    struct world w;

    (void)state;
    clock_freeze(now, 0);
    world_init(&w);
    world_open(&w);
    world_fill(&w, 0, 0);
    for (int i = 0; i < RACE_ROUNDS; i++)
        settle_round(&w, now + i * 60 * CLOCK_SECOND, &random, &records);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM usage"), records);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM holds"), 0);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM hold_pins"), 0);
    world_close(&w);
    clock_release();
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

/* ---- a charge is given back once ---- */

enum { REFUNDS = 100 };

static int64_t refund_all(struct world *w, int64_t seq, int64_t amount, unsigned *random, struct store_refund *r,
                          int *n_ok)
{
    struct store_op *ops[REFUNDS];
    int64_t sum = 0;

    *n_ok = 0;
    for (int i = 0; i < REFUNDS; i++) {
        r[i] = (struct store_refund){
            .super = {.kind = STORE_REFUND}, .seq = seq, .amount = amount >= 0 ? amount : 1 + rand_r(random) % 60};
        ops[i] = &r[i].super;
    }
    race_run(w, ops, REFUNDS, NULL, NULL);
    for (int i = 0; i < REFUNDS; i++) {
        enum err_code code = r[i].super.err.code;

        assert_true(code == ERR_OK || code == ERR_INVALID_VALUE || code == ERR_CONFLICT);
        sum += code == ERR_OK ? r[i].refunded : 0;
        *n_ok += code == ERR_OK;
    }
    return sum;
}

static void refunded_once(void **state)
{
    static struct store_refund refunds[REFUNDS];
    struct store_capture capture;
    struct world w;
    unsigned random = 11;
    struct id id;
    int n_ok;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 100000, 100000);
    for (int i = 0; i < RACE_ROUNDS / 4; i++) {
        bool fixed = i % 2 == 0;
        int64_t sum;

        assert_int_equal(world_hold(&w, 999, 1000, &id), ERR_OK);
        world_capture_init(&capture, id, 10, 999, 1000);
        assert_int_equal(world_do(&w, &capture.super), ERR_OK);
        sum = refund_all(&w, capture.usage.seq, fixed ? 30 : -1, &random, refunds, &n_ok);
        assert_true(sum <= 1000);
        if (fixed)
            assert_int_equal(n_ok, 33); /* 34 would be 1020 */
        if (sum < 1000)
            assert_int_equal(sum + refund_all(&w, capture.usage.seq, 0, &random, refunds, &n_ok), 1000);
        assert_true(sum == 1000 || n_ok == 1); /* the rest: once */
        assert_int_equal(world_balance(&w, false).posted, 100000);
        assert_int_equal(world_balance(&w, true).posted, 100000);
    }
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM usage WHERE refunded <> retail"), 0);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

static void render(struct store_op *op, struct buf *out)
{
    buf_printf(out, "{\"refunded\": %lld}", (long long)((struct store_refund *)op)->refunded);
}

/* The same admin call a hundred times at once: one refund, one answer. */
static void refund_repeated(void **state)
{
    static struct store_refund refunds[REFUNDS];
    static struct store_actor actors[REFUNDS];
    struct store_op *ops[REFUNDS];
    struct store_capture capture;
    struct world w;
    struct id id;
    int applied = 0;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 1000, 0);
    assert_int_equal(world_hold(&w, 1000, -1, &id), ERR_OK);
    world_capture_init(&capture, id, 10, 1000, -1);
    assert_int_equal(world_do(&w, &capture.super), ERR_OK);
    for (int i = 0; i < REFUNDS; i++) {
        actors[i] = (struct store_actor){.token_row = 3,
                                         .request = id_make(),
                                         .action = "usage.refund",
                                         .idempotency_key = slice_from("refund once"),
                                         .render = render,
                                         .status = 201};
        buf_init(&actors[i].reply, 4096);
        refunds[i] = (struct store_refund){
            .super = {.kind = STORE_REFUND, .actor = &actors[i]}, .seq = capture.usage.seq, .amount = 5};
        ops[i] = &refunds[i].super;
    }
    race_run(&w, ops, REFUNDS, NULL, NULL);
    for (int i = 0; i < REFUNDS; i++) {
        assert_int_equal(ops[i]->err.code, ERR_OK);
        assert_true(slice_eq_str(buf_slice(&actors[i].reply), "{\"refunded\": 5}"));
        applied += !actors[i].replayed;
        buf_dispose(&actors[i].reply);
    }
    assert_int_equal(applied, 1);
    assert_int_equal(world_balance(&w, false).posted, 5);
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

/* ---- a repeated call happens once ---- */

enum { REPEATS = 1000 };

/* The same call a thousand times at once; <expected> is what all but <winners> are told. Returns the hold that won. */
static struct id repeat_all(struct world *w, const char *key, int request, enum err_code expected, int winners)
{
    static struct store_hold holds[REPEATS];
    static struct store_op *ops[REPEATS];
    struct id won = {{0}};
    int n_won = 0;

    for (int i = 0; i < REPEATS; i++) {
        world_hold_init(w, &holds[i], 100, -1);
        world_hold_key(&holds[i], key, request);
        ops[i] = &holds[i].super;
    }
    race_run(w, ops, REPEATS, NULL, NULL);
    for (int i = 0; i < REPEATS; i++) {
        assert_true(ops[i]->err.code == ERR_OK || ops[i]->err.code == expected);
        n_won += ops[i]->err.code == ERR_OK;
        if (ops[i]->err.code == ERR_OK)
            won = holds[i].id;
    }
    assert_int_equal(n_won, winners);
    for (int i = 0; i < REPEATS && winners > 0; i++)
        assert_true(ops[i]->err.code == ERR_OK || id_eq(holds[i].earlier.request, won));
    return won;
}

static void thousand_repeats(void **state)
{
    struct world w;
    struct id id;
    char key[32];

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 1000000, 0);
    for (int i = 0; i < RACE_ROUNDS / 10; i++) {
        (void)snprintf(key, sizeof(key), "call %d", i);
        id = repeat_all(&w, key, 1, ERR_IDEMPOTENCY_RUNNING, 1);
        assert_int_equal(world_balance(&w, false).held, 100);
        (void)repeat_all(&w, key, 2, ERR_IDEMPOTENCY_REUSED, 0);
        assert_int_equal(world_void(&w, id), ERR_OK); /* it had no effect: the key is free again */
        id = repeat_all(&w, key, 2, ERR_IDEMPOTENCY_RUNNING, 1);
        assert_int_equal(world_capture(&w, id, 1, 100, -1), ERR_OK);
        (void)repeat_all(&w, key, 2, ERR_IDEMPOTENCY_DONE, 0);
    }
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM usage"), RACE_ROUNDS / 10);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM call_keys"), RACE_ROUNDS / 10);
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
        q->filter.tenants = (struct filter_rows){1, {w.tenant}};
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
        cmocka_unit_test(settled_once),     cmocka_unit_test(refunded_once),  cmocka_unit_test(refund_repeated),
        cmocka_unit_test(thousand_repeats), cmocka_unit_test(repeated_calls), cmocka_unit_test(askers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
