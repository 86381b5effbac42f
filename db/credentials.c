/* credentials.c - reads every live API key once, before the store runs: several readers side by side, a slice of rows
 * at a time, handed on in order.
 *
 *   slice:  TAKEN --read by a helper--> FULL --handed on by the caller--> empty, its place is free again
 *
 * Invariants
 *  (1) Slices are taken in order and handed on in order; at most SLICES of them are between the two.
 *  (2) A slice's credentials belong to its reader until it is FULL, then to the caller's thread.
 *  (3) After a failure no slice is taken any more; what was read is let go.
 * Threads: store_each_credential's, and the helpers that it starts and joins. */
#include "store_state.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SLICE_ROWS = 8192,
    SLICES = 16, /* between readers and the caller */
    READERS_MAX = 4,
    READER_ROWS = 20000 /* fewer rows than this are no work for one more */
};

struct slice_read {
    bool full;
    size_t n;
    struct credential *at[SLICE_ROWS];
};

struct reading {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t slices;            /* in all */
    int64_t taken, handed_on;  /* slices */
    struct err err;            /* err.code: of the first failure */
    struct slice_read *places; /* SLICES */
};

struct helper {
    pthread_t thread;
    struct reading *reading;
    struct engine *engine;
};

static void add_credential(void *ctx, struct credential *c)
{
    struct slice_read *slice = ctx;

    TG_ASSERT(slice->n < SLICE_ROWS);
    slice->at[slice->n++] = c;
}

/* ---- helpers ---- */

/* The next slice to read; -1: none, or no more. With the lock held. */
static int64_t take_slice(struct reading *r)
{
    while (r->err.code == ERR_OK && r->taken < r->slices && r->taken - r->handed_on >= SLICES)
        (void)pthread_cond_wait(&r->changed, &r->lock);
    return r->err.code == ERR_OK && r->taken < r->slices ? r->taken++ : -1;
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct reading *r = h->reading;
    struct err err = {.code = ERR_OK};
    int64_t slice;

    (void)pthread_mutex_lock(&r->lock);
    while ((slice = take_slice(r)) >= 0) {
        struct slice_read *place = &r->places[slice % SLICES];
        int64_t first = slice * SLICE_ROWS;

        (void)pthread_mutex_unlock(&r->lock);
        place->n = 0;
        (void)h->engine->class->load_credentials(h->engine, first, first + SLICE_ROWS, add_credential, place, &err);
        (void)pthread_mutex_lock(&r->lock);
        place->full = true;
        if (err.code != ERR_OK && r->err.code == ERR_OK)
            r->err = err;
        (void)pthread_cond_broadcast(&r->changed);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

static enum err_code start_helper(struct helper *h, struct reading *r, struct engine *writer, struct err *err)
{
    enum err_code code = writer->class->open_reader(writer, &h->engine, err);
    sigset_t all, before;
    int why;

    h->reading = r;
    if (code != ERR_OK)
        return code;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are main's */
    why = pthread_create(&h->thread, NULL, helper_main, h);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why == 0)
        return ERR_OK;
    h->engine->class->close(h->engine, false);
    return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot start a thread that loads API keys: %s.", strerror(why));
}

/* ---- the caller ---- */

static void hand_on(struct slice_read *place, void (*fn)(void *ctx, struct credential *credential), void *ctx)
{
    for (size_t i = 0; i < place->n; i++) {
        if (fn != NULL)
            fn(ctx, place->at[i]);
        credential_unref(place->at[i]);
    }
    place->n = 0;
    place->full = false;
}

static void hand_all_on(struct reading *r, void (*fn)(void *ctx, struct credential *credential), void *ctx)
{
    (void)pthread_mutex_lock(&r->lock);
    while (r->err.code == ERR_OK && r->handed_on < r->slices) {
        struct slice_read *place = &r->places[r->handed_on % SLICES];

        if (!place->full) {
            (void)pthread_cond_wait(&r->changed, &r->lock);
            continue;
        }
        (void)pthread_mutex_unlock(&r->lock);
        hand_on(place, fn, ctx);
        (void)pthread_mutex_lock(&r->lock);
        r->handed_on++;
        (void)pthread_cond_broadcast(&r->changed);
    }
    (void)pthread_mutex_unlock(&r->lock);
}

static int count_helpers(int64_t rows)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t n = rows / READER_ROWS + 1;

    if (n > cores)
        n = cores > 0 ? cores : 1;
    return n < READERS_MAX ? (int)n : READERS_MAX;
}

static void read_all(struct reading *r, struct engine *writer, int wanted,
                     void (*fn)(void *ctx, struct credential *credential), void *ctx)
{
    struct helper helpers[READERS_MAX];
    struct err err = {.code = ERR_OK};
    int n = 0;

    while (n < wanted && start_helper(&helpers[n], r, writer, &err) == ERR_OK)
        n++;
    (void)pthread_mutex_lock(&r->lock);
    if (n == 0)
        r->err = err;
    (void)pthread_mutex_unlock(&r->lock);
    hand_all_on(r, fn, ctx);
    for (int i = 0; i < n; i++) {
        (void)pthread_join(helpers[i].thread, NULL);
        helpers[i].engine->class->close(helpers[i].engine, false);
    }
    for (int i = 0; i < SLICES; i++) /* after a failure */
        hand_on(&r->places[i], NULL, NULL);
}

enum err_code store_each_credential(struct store *s, void (*fn)(void *ctx, struct credential *credential), void *ctx,
                                    struct err *err)
{
    struct reading r;
    int64_t last;
    enum err_code code;

    TG_ASSERT(!s->started);
    code = s->engine->class->last_key(s->engine, &last, err);
    if (code != ERR_OK || last == 0)
        return code;
    memset(&r, 0, sizeof(r));
    r.slices = last / SLICE_ROWS + 1;
    r.places = mem_zalloc(SLICES * sizeof(r.places[0]));
    (void)pthread_mutex_init(&r.lock, NULL);
    (void)pthread_cond_init(&r.changed, NULL);
    read_all(&r, s->engine, count_helpers(last), fn, ctx);
    if (r.err.code != ERR_OK && err != NULL)
        *err = r.err;
    (void)pthread_cond_destroy(&r.changed);
    (void)pthread_mutex_destroy(&r.lock);
    free(r.places);
    return r.err.code;
}
