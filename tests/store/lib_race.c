/* lib_race.c - see lib_race.h. */
#include "lib_race.h"

#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 8, SINGLE = 10 }; /* of a crowd; callers up to which each has a thread */

struct runner {
    pthread_t thread;
    pthread_barrier_t *start;
    struct store *store;
    struct store_op *const *ops;
    int first, step, n; /* its share: ops[first], ops[first + step], ... */
};

static void came_back(struct mail *mail)
{
    TG_CONTAINER(struct store_op, mail, mail)->reply_to = NULL;
}

static void *run_share(void *arg)
{
    struct runner *r = arg;
    struct box box;

    box_init(&box);
    for (int i = r->first; i < r->n; i += r->step) {
        r->ops[i]->mail.deliver = came_back;
        r->ops[i]->reply_to = &box.super;
    }
    (void)pthread_barrier_wait(r->start);
    for (int i = r->first; i < r->n; i += r->step)
        store_submit(r->store, r->ops[i]);
    for (int i = r->first; i < r->n; i += r->step)
        while (r->ops[i]->reply_to != NULL)
            box_run(&box);
    box_dispose(&box);
    return NULL;
}

void race_run(struct world *w, struct store_op *const *ops, int n, void (*meanwhile)(void *ctx), void *ctx)
{
    int threads = n <= SINGLE ? n : THREADS;
    struct runner runners[SINGLE];
    pthread_barrier_t start;

    if (n == 0)
        return;
    MUST(n <= RACE_OPS && pthread_barrier_init(&start, NULL, (unsigned)threads + 1) == 0);
    for (int i = 0; i < threads; i++) {
        runners[i] =
            (struct runner){.start = &start, .store = w->store, .ops = ops, .first = i, .step = threads, .n = n};
        MUST(pthread_create(&runners[i].thread, NULL, run_share, &runners[i]) == 0);
    }
    (void)pthread_barrier_wait(&start);
    if (meanwhile != NULL)
        meanwhile(ctx);
    for (int i = 0; i < threads; i++)
        pthread_join(runners[i].thread, NULL);
    pthread_barrier_destroy(&start);
}

/* ---- holds ---- */

void race_hold(struct world *w, struct race_holds *r, int n, int64_t wholesale, int64_t retail)
{
    static struct store_op *ops[RACE_OPS];

    r->n = n;
    r->n_won = 0;
    for (int i = 0; i < n; i++) {
        world_hold_init(w, &r->ops[i], wholesale, retail);
        ops[i] = &r->ops[i].super;
    }
    race_run(w, ops, n, NULL, NULL);
    for (int i = 0; i < n; i++)
        if (ops[i]->err.code == ERR_OK)
            r->won[r->n_won++] = r->ops[i].id;
        else
            MUST(ops[i]->err.code == ERR_INSUFFICIENT_QUOTA);
}

int race_end(struct world *w, struct race_holds *r, int64_t wholesale, int64_t retail, unsigned *random)
{
    static struct store_capture captures[RACE_OPS];
    static struct store_void voids[RACE_OPS];
    static struct store_op *ops[RACE_OPS];
    int captured = 0;

    for (int i = 0; i < r->n_won; i++) {
        bool capture = rand_r(random) % 2 == 0;

        if (capture)
            world_capture_init(&captures[i], r->won[i], 1, wholesale, retail);
        else
            voids[i] = (struct store_void){.super = {.kind = STORE_VOID}, .hold = r->won[i]};
        ops[i] = capture ? &captures[i].super : &voids[i].super;
        captured += capture;
    }
    race_run(w, ops, r->n_won, NULL, NULL);
    for (int i = 0; i < r->n_won; i++)
        MUST(ops[i]->err.code == ERR_OK);
    return captured;
}

/* ---- wallets ---- */

void race_fill(struct world *w, bool customer, int64_t amount)
{
    struct store_balance b = world_balance(w, customer);
    int64_t missing = amount - (b.posted - b.held + b.credit_limit);

    if (missing != 0)
        MUST(world_credit(w, customer, missing) == ERR_OK);
}

void race_check_wallet(struct world *w, bool customer)
{
    struct store_balance b = world_balance(w, customer);

    MUST(b.held >= 0 && b.posted - b.held + b.credit_limit >= 0);
}
