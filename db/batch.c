/* batch.c - one transaction of many operations.
 *
 *   begin --> each: check, change memory, write records --> effects --> commit --> durable
 *     | busy            | engine failed                       |            |
 *     v                 v                                     v            v
 *   UNAVAILABLE       FAILED: memory is ahead of the disk; nothing is acknowledged, now or later; the process must end
 *
 * Invariants
 *  (1) No operation's result leaves before the commit that holds it has returned.
 *  (2) A refused operation has changed neither memory nor disk; the others of its batch go on.
 *  (3) After FAILED the ledger and the directory are never read again for an answer.
 * The writer's thread (store_open's before it starts). */
#include "store_state.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"

_Static_assert(FAILPOINT_PUT_MANY_APPLIED - FAILPOINT_HOLD_APPLIED == STORE_PUT_MANY,
               "failpoints go by enum store_kind");

static struct store_op *next_op(const struct store_op *op)
{
    return (struct store_op *)op->mail.next; /* mail is the first member */
}

static enum err_code apply_doubt(struct store *s, struct store_doubt *op)
{
    struct usage_record *usage = mem_alloc(sizeof(*usage));

    s->doubts[s->n_doubts++] = usage;
    return ledger_doubt(s->ledger, op, usage);
}

/* ---- what must be looked up as it will be ---- */

enum err_code batch_flush(struct store *s, struct err *err)
{
    enum err_code code = s->engine->class->put_effects(s->engine, ledger_effects(s->ledger), err);

    if (code == ERR_OK)
        ledger_settle(s->ledger);
    return code;
}

static enum err_code find_grant(void *ctx, int64_t seq, struct store_grant *out, struct err *err)
{
    struct store *s = ctx;

    return s->engine->class->find_grant(s->engine, seq, out, err);
}

static enum err_code apply_withdraw(struct store *s, struct store_withdraw *op)
{
    struct err *err = &op->super.err;
    enum err_code code = batch_flush(s, err);

    if (code == ERR_OK)
        code = find_grant(s, op->seq, &op->grant, err);
    return code == ERR_OK ? ledger_withdraw(s->ledger, op) : code;
}

static enum err_code apply_refund(struct store *s, struct store_refund *op)
{
    struct charge *charge = mem_alloc(sizeof(*charge));
    struct err *err = &op->super.err;
    enum err_code code = batch_flush(s, err);

    if (code == ERR_OK)
        code = s->engine->class->find_charge(s->engine, op->seq, charge, err);
    if (code == ERR_OK && charge->usage.created_at < s->closed)
        code = err_set(err, ERR_NOT_FOUND, NULL, "No such usage record."); /* it is about to go */
    if (code == ERR_OK)
        code = ledger_refund(s->ledger, op, charge, find_grant, s);
    free(charge);
    return code;
}

static enum err_code apply_touch(struct store *s, struct store_touch *op)
{
    enum err_code code = ERR_OK;

    TG_ASSERT(op->n >= 0 && op->n <= STORE_TOUCHES);
    for (int i = 0; code == ERR_OK && i < op->n; i++)
        code = s->engine->class->touch(s->engine, op->items[i].kind, op->items[i].row, op->items[i].at, &op->super.err);
    return code;
}

/* ---- one operation ---- */

static enum err_code apply_kind(struct store *s, struct store_op *op, struct record **before)
{
    switch (op->kind) {
    case STORE_HOLD:
        return repeat_hold(s, (struct store_hold *)op);
    case STORE_CAPTURE:
        return repeat_ended(s, op, ledger_capture(s->ledger, (struct store_capture *)op));
    case STORE_VOID:
        return repeat_ended(s, op, ledger_void(s->ledger, (struct store_void *)op));
    case STORE_DOUBT:
        return repeat_ended(s, op, apply_doubt(s, (struct store_doubt *)op));
    case STORE_RESOLVE:
        return repeat_ended(s, op, ledger_resolve(s->ledger, (struct store_resolve *)op));
    case STORE_CREDIT:
        return ledger_credit(s->ledger, (struct store_credit *)op);
    case STORE_WITHDRAW:
        return apply_withdraw(s, (struct store_withdraw *)op);
    case STORE_REFUND:
        return apply_refund(s, (struct store_refund *)op);
    case STORE_PUT:
        return put_apply(s, (struct store_put *)op, before);
    case STORE_PRUNE:
        return prune_apply(s, (struct store_prune *)op);
    case STORE_PUT_MANY:
        return put_many_apply(s, (struct store_put_many *)op);
    case STORE_TOUCH:
        return apply_touch(s, (struct store_touch *)op);
    case STORE_STANDING:
        return ledger_standing(s->ledger, (struct store_standing *)op);
    case STORE_KEEP:
        return ERR_OK;
    case STORE_KINDS:
        break;
    }
    return err_set(&op->err, ERR_INTERNAL, NULL, "No such operation.");
}

enum err_code batch_apply(struct store *s, struct store_op *op, struct record **before)
{
    enum err_code code;

    *before = NULL;
    code = apply_kind(s, op, before);
    if (code == ERR_OK && op->kind <= STORE_PUT_MANY && op->kind != STORE_PUT && FAILPOINT_NTH(HOLD_APPLIED, op->kind))
        code = FAILPOINT_ERROR(&op->err);
    ledger_lapse(s->ledger); /* of lots that are gone, what a hold has just given back */
    return code;
}

/* The records that were given to a put that will not happen. */
static void drop_records(struct store_op *op)
{
    if (op->kind == STORE_PUT) {
        struct store_put *put = (struct store_put *)op;

        record_unref(put->record);
        put->record = NULL;
    } else if (op->kind == STORE_PUT_MANY) {
        put_many_drop((struct store_put_many *)op);
    }
}

static enum err_code apply_one(struct store *s, struct store_op *op)
{
    struct record *before = NULL;
    enum err_code code;

    op->err.code = ERR_OK;
    if (op->actor != NULL) {
        code = admin_apply(s, op);
        if (code != ERR_OK || op->actor->replayed) /* perhaps the put itself was never reached */
            drop_records(op);
    } else {
        code = batch_apply(s, op, &before);
        record_unref(before);
    }
    return code;
}

/* ---- the end of a batch ---- */

static void count_op(const struct store_op *op)
{
    switch (op->kind) {
    case STORE_HOLD:
        metric_add(METRIC_HOLDS, 1);
        break;
    case STORE_CAPTURE: {
        const struct store_capture *capture = (const struct store_capture *)op;
        metric_add(METRIC_CAPTURES, 1);
        metric_add(METRIC_OVERAGE, (capture->usage.flags & USAGE_OVERAGE) != 0);
        break;
    }
    case STORE_VOID:
        metric_add(METRIC_VOIDS, 1);
        break;
    case STORE_DOUBT:
        metric_add(METRIC_IN_DOUBT, 1);
        break;
    case STORE_REFUND:
        metric_add(METRIC_REFUNDS, 1);
        break;
    case STORE_RESOLVE:
    case STORE_CREDIT:
    case STORE_WITHDRAW:
    case STORE_PUT:
    case STORE_PUT_MANY:
    case STORE_TOUCH:
    case STORE_STANDING:
    case STORE_PRUNE:
    case STORE_KEEP:
    case STORE_KINDS:
        break;
    }
}

static void count_batch(const struct store *s, const struct store_op *chain, int64_t began)
{
    int64_t n = 0;

    for (const struct store_op *op = chain; op != NULL; op = next_op(op), n++)
        if (op->err.code == ERR_OK)
            count_op(op);
    metric_add(METRIC_STORE_COMMITS, 1);
    metric_add(METRIC_STORE_OPS, n);
    metric_set(METRIC_HOLDS_OPEN, (int64_t)ledger_open_holds(s->ledger));
    metric_observe(METRIC_COMMIT_SECONDS, clock_mono() - began);
}

static void refuse_all(struct store *s, struct store_op *chain)
{
    for (struct store_op *op = chain; op != NULL; op = next_op(op)) {
        drop_records(op);
        if (op->actor != NULL) {
            op->actor->replayed = false;
            buf_clear(&op->actor->reply);
        }
        (void)err_set(&op->err, ERR_UNAVAILABLE, NULL,
                      "The service is temporarily unavailable. Please try again later.");
    }
    for (size_t i = 0; i < s->n_changed; i++)
        record_unref(s->changed[i].record);
    s->n_changed = 0;
}

static void forget_doubts(struct store *s)
{
    for (size_t i = 0; i < s->n_doubts; i++)
        free(s->doubts[i]);
    s->n_doubts = 0;
}

void batch_fail(struct store *s, const char *why)
{
    s->engine->class->rollback(s->engine);
    atomic_store(&s->healthy, false);
    LOG(LOG_STORE_FAILED, LOG_F_STR("why", why));
    if (s->failed != NULL)
        s->failed(s->failed_ctx, why);
}

static enum err_code apply_all(struct store *s, struct store_op *chain, struct err *err)
{
    enum err_code code = ledger_begin(s->ledger, clock_wall(), err);
    bool lapses = FAILPOINT_BUILD && ledger_lapse_due(s->ledger, ledger_now(s->ledger));

    if (code != ERR_OK)
        return code;
    ledger_lapse(s->ledger);
    if (lapses && FAILPOINT(LAPSE_APPLIED))
        return FAILPOINT_ERROR(err);
    for (struct store_op *op = chain; op != NULL; op = next_op(op))
        if (apply_one(s, op) == ERR_UNAVAILABLE) {
            *err = op->err;
            return ERR_UNAVAILABLE;
        }
    code = s->engine->class->put_effects(s->engine, ledger_effects(s->ledger), err);
    return code == ERR_OK ? s->engine->class->commit(s->engine, err) : code;
}

void batch_run(struct store *s, struct store_op *chain, size_t n)
{
    int64_t began = clock_mono();
    enum err_code code;
    struct err err;

    TG_ASSERT(n <= STORE_BATCH && s->n_changed == 0);
    if (!atomic_load(&s->healthy)) {
        refuse_all(s, chain);
        return;
    }
    code = s->engine->class->begin(s->engine, &err);
    if (code != ERR_OK) {
        if (code == ERR_UNAVAILABLE)
            batch_fail(s, err.message);
        refuse_all(s,
                   chain); /* when the database was only busy, nothing was touched and the next batch may fare better */
        return;
    }
    if (apply_all(s, chain, &err) == ERR_OK) {
        ledger_settle(s->ledger);
        count_batch(s, chain, began);
    } else {
        batch_fail(s, err.message);
        refuse_all(s, chain);
    }
    forget_doubts(s);
}
