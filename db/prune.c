/* prune.c - old usage records leave the store, a day of UTC at a time; who asks (admin/archive.c) has archived it.
 *
 *                 PRUNE_LOOK             PRUNE_CLOSE            PRUNE_TAKE, again and again
 *   day:  open -------------> open, due ------------> closed ------------------------------> pruned
 *
 * Invariants
 *  (1) Only closed days lose records, and only records that the asker names by their greatest number.
 *  (2) In a closed day nothing changes any more: no record of it is refunded. So what was read after the day was closed
 * is what is pruned.
 *  (3) A day is due only when its sums are folded (the engine sees to it): what reports need of it stands without its
 * records. (4) What is pruned stays as much as ledger, balances and fsck need (table `pruned`). The writer's thread. */
#include "store_state.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

#define DAY (24 * 3600 * CLOCK_SECOND)

static int64_t floor_day(int64_t wall)
{
    return wall < 0 ? 0 : wall - wall % DAY;
}

static enum err_code close_days(struct store *s, int64_t before, struct err *err)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%lld", (long long)before);
    enum err_code code;

    if (before <= s->closed)
        return ERR_OK;
    code = s->engine->class->put_meta(s->engine, "closed", (const uint8_t *)text, (size_t)n, err);
    if (code == ERR_OK)
        s->closed = before; /* should the commit fail, the store has failed */
    return code == ERR_OK ? FAILPOINT_CODE(PRUNE_CLOSED, err) : code;
}

enum err_code prune_load(struct store *s, struct err *err)
{
    uint8_t value[META_BYTES];
    unsigned long long closed = 0;
    size_t len;
    enum err_code code = s->engine->class->get_meta(s->engine, "closed", value, &len, err);

    if (code != ERR_OK)
        return code;
    if (len > 0 && (!slice_to_u64((struct slice){(const char *)value, len}, &closed) || closed > INT64_MAX))
        return err_set(err, ERR_CONFLICT, NULL, "What the store says of its closed days is damaged.");
    s->closed = (int64_t)closed;
    return ERR_OK;
}

enum err_code prune_apply(struct store *s, struct store_prune *op)
{
    struct err *err = &op->super.err;
    enum err_code code;

    op->n = 0;
    op->oldest = 0;
    op->waits = false;
    op->from = floor_day(op->from);
    op->before = floor_day(op->before);
    if (op->limit < 1 || op->limit > STORE_PRUNED)
        op->limit = STORE_PRUNED;
    if (op->step == PRUNE_CLOSE)
        return close_days(s, op->before, err);
    if (op->step == PRUNE_TAKE && op->before > s->closed)
        op->before = s->closed;
    code = batch_flush(s, err); /* a refund of this very batch */
    return code == ERR_OK ? s->engine->class->prune(s->engine, op, err) : code;
}
