/* touch.c - gathers last uses and gives them to the store in bundles.
 *
 *   bundle:  FILLING --full, or its time has come--> FLYING --the store has it--> free, to be filled again
 *
 * Invariants
 *   1. At most one bundle is FILLING, and none that is FLYING is written to.
 *   2. Of a key one loop notes a use: the one that moves the credential's used_at on. It does so only when there is
 *      room, so that a use which cannot be noted is noted by the next one.
 *   3. The timer is asked for when a bundle gets its first note.
 * Threads: see touch.h. */
#include "touch.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

enum { BUNDLES = 2, TOKENS_SEEN = 64, NONE = -1 };

#define PERIOD (60 * CLOCK_SECOND) /* a use within it is not noted again */
#define DELAY (10 * CLOCK_SECOND)  /* what was noted waits no longer */

struct bundle {
    struct store_touch op; /* first: the store gives it back */
    struct touch *touch;
    bool flying;
};

struct touch {
    struct store *store;
    struct mailbox *box;
    touch_arm_fn *arm;
    void *ctx;
    int filling; /* which bundle; NONE: all are flying */
    struct bundle bundles[BUNDLES];
    struct {
        int64_t row, at;
    } tokens[TOKENS_SEEN]; /* the last use that was noted here; a row has one place */
};

struct touch *touch_create(struct store *store, struct mailbox *box, touch_arm_fn *arm, void *ctx)
{
    struct touch *t = mem_zalloc(sizeof(*t));

    t->store = store;
    t->box = box;
    t->arm = arm;
    t->ctx = ctx;
    for (int i = 0; i < BUNDLES; i++)
        t->bundles[i].touch = t;
    return t;
}

void touch_destroy(struct touch *t)
{
    free(t);
}

/* ---- bundles ---- */

static void landed(struct mail *mail)
{
    struct bundle *b = TG_CONTAINER(struct bundle, op.super.mail, mail);

    b->flying = false;
    b->op.n = 0;
    if (b->touch->filling == NONE)
        b->touch->filling = (int)(b - b->touch->bundles);
}

static void send(struct touch *t, struct mailbox *box)
{
    struct bundle *b = &t->bundles[t->filling];

    b->flying = true;
    b->op.super = (struct store_op){.mail = {.deliver = landed, .patient = true}, .reply_to = box, .kind = STORE_TOUCH};
    t->filling = NONE;
    for (int i = 0; i < BUNDLES; i++)
        if (!t->bundles[i].flying)
            t->filling = i;
    store_submit(t->store, &b->op.super);
}

static void note(struct touch *t, enum record_kind kind, int64_t row, int64_t at)
{
    struct store_touch *op = &t->bundles[t->filling].op;

    op->items[op->n].kind = kind;
    op->items[op->n].row = row;
    op->items[op->n].at = at;
    op->n++;
    if (op->n == STORE_TOUCHES)
        send(t, t->box);
    else if (op->n == 1)
        t->arm(t->ctx, DELAY);
}

void touch_due(struct touch *t)
{
    if (t->filling != NONE && t->bundles[t->filling].op.n > 0)
        send(t, t->box);
}

/* Nobody is there any more to whom the store could answer. */
static void drop_mail(struct mailbox *box, struct mail *chain)
{
    (void)box;
    (void)chain;
}

void touch_stop(struct touch *t)
{
    static struct mailbox nowhere = {.post = drop_mail};

    if (t->filling != NONE && t->bundles[t->filling].op.n > 0)
        send(t, &nowhere);
    t->filling = NONE;
}

/* ---- uses ---- */

void touch_key(struct touch *t, struct credential *key, int64_t now)
{
    long long used = atomic_load_explicit(&key->used_at, memory_order_relaxed);

    if (now - used < PERIOD || t == NULL || t->filling == NONE)
        return;
    if (atomic_compare_exchange_strong_explicit(&key->used_at, &used, now, memory_order_relaxed, memory_order_relaxed))
        note(t, RECORD_KEY, key->row, now);
}

void touch_admin_token(struct touch *t, const struct admin_token *token, int64_t now)
{
    int64_t row = token->super.row;
    size_t place = (size_t)row % TOKENS_SEEN;

    if (t == NULL || t->filling == NONE || (t->tokens[place].row == row && now - t->tokens[place].at < PERIOD))
        return;
    t->tokens[place].row = row;
    t->tokens[place].at = now;
    note(t, RECORD_ADMIN_TOKEN, row, now);
}
