/* admin.c - operations that someone answers for: repeated calls, the rendered reply, the audit trail.
 *
 * Everything is written in the transaction of the operation itself, so that a reply is kept exactly when what it tells
 * of has happened. A refused operation leaves nothing: it may be tried again under the same key. The writer's thread.
 */
#include "store_state.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/money.h"

enum { AUDIT_TEXT = 128 * 1024 };             /* bytes of a record's description */
#define REPLY_LIFE (24 * 3600 * CLOCK_SECOND) /* how long a reply is kept */

/* NOT_FOUND: to be applied. OK: the stored reply is in the actor. */
static enum err_code replay(struct store *s, struct store_op *op)
{
    struct store_actor *actor = op->actor;
    struct stored_reply reply;
    enum err_code code;

    if (actor->idempotency_key.len == 0)
        return ERR_NOT_FOUND;
    if (actor->idempotency_key.len > LIMIT_IDEMPOTENCY_KEY)
        return err_set(&op->err, ERR_INVALID_VALUE, "Idempotency-Key", "An Idempotency-Key has at most %d bytes.",
                       LIMIT_IDEMPOTENCY_KEY);
    code = s->engine->class->find_reply(s->engine, actor, ledger_now(s->ledger) - REPLY_LIFE, &reply, &actor->reply,
                                        &op->err);
    if (code != ERR_OK)
        return code;
    if (memcmp(reply.fingerprint, actor->fingerprint, SECRET_DIGEST) != 0)
        return err_set(&op->err, ERR_IDEMPOTENCY_REUSED, NULL,
                       "This Idempotency-Key was used with a different request before.");
    actor->status = reply.status;
    actor->replayed = true;
    return ERR_OK;
}

/* ---- the audit trail ---- */

static void name_object(const struct store *s, const struct store_op *op, char out[ID_TEXT])
{
    const struct record *record = NULL;

    out[0] = '\0';
    switch (op->kind) {
    case STORE_PUT:
        record = ((const struct store_put *)op)->record;
        break;
    case STORE_CREDIT: {
        const struct store_credit *credit = (const struct store_credit *)op;
        record = credit->customer_row != 0 ? directory_get(&s->directory, RECORD_CUSTOMER, credit->customer_row)
                                           : directory_get(&s->directory, RECORD_TENANT, credit->tenant_row);
        break;
    }
    case STORE_HOLD:
        (void)id_format("hld", ((const struct store_hold *)op)->id, out);
        break;
    case STORE_CAPTURE:
        (void)id_format("hld", ((const struct store_capture *)op)->hold, out);
        break;
    case STORE_VOID:
        (void)id_format("hld", ((const struct store_void *)op)->hold, out);
        break;
    case STORE_DOUBT:
        (void)id_format("hld", ((const struct store_doubt *)op)->hold, out);
        break;
    case STORE_RESOLVE:
        (void)id_format("hld", ((const struct store_resolve *)op)->hold, out);
        break;
    case STORE_WITHDRAW: {
        const struct store_grant *grant = &((const struct store_withdraw *)op)->grant;
        (void)id_format("grt", id_from_seq(grant->created_at, grant->seq), out);
        break;
    }
    case STORE_REFUND: {
        const struct usage_record *usage = &((const struct store_refund *)op)->usage;
        (void)id_format("use", id_from_seq(usage->created_at, usage->seq), out);
        break;
    }
    case STORE_KINDS:
        break;
    }
    if (record != NULL)
        (void)id_format(record_prefix(record->kind), record->id, out);
}

static void describe_credit(const struct store_credit *credit, struct buf *out)
{
    char grant[ID_TEXT], amount[MONEY_TEXT];

    buf_printf(out, "{\"grant\": \"%s\", \"amount\": \"%s\", \"category\": \"%s\", \"note\": ",
               id_format("grt", credit->grant, grant), money_format_nano(credit->amount, amount),
               credit->category == CREDIT_PROMOTIONAL ? "promotional" : "paid");
    buf_append_json_string(out, slice_from(credit->note));
    buf_append_str(out, "}");
}

static void describe_capture(const struct store_capture *capture, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out, "{\"charged\": \"%s\"}", money_format_nano(capture->charged, amount));
}

static void describe_resolve(const struct store_resolve *resolve, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out, "{\"action\": \"%s\", \"charged\": \"%s\"}", resolve->capture ? "capture" : "void",
               money_format_nano(resolve->charged, amount));
}

static void describe_withdraw(const struct store_withdraw *withdraw, struct buf *out)
{
    char amount[MONEY_TEXT];

    buf_printf(out, "{\"status\": \"voided\", \"amount\": \"%s\", \"note\": ",
               money_format_nano(withdraw->grant.amount, amount));
    buf_append_json_string(out, slice_from(withdraw->note));
    buf_append_str(out, "}");
}

static void describe_refund(const struct store_refund *refund, struct buf *out)
{
    char amount[MONEY_TEXT], total[MONEY_TEXT];

    buf_printf(out,
               "{\"amount\": \"%s\", \"refunded\": \"%s\", \"reason\": ", money_format_nano(refund->refunded, amount),
               money_format_nano(refund->usage.refunded, total));
    buf_append_json_string(out, slice_from(refund->reason));
    buf_append_str(out, "}");
}

/* What the operation left, where it is no record. */
static void describe_money(const struct store_op *op, struct buf *out)
{
    switch (op->kind) {
    case STORE_CREDIT:
        describe_credit((const struct store_credit *)op, out);
        break;
    case STORE_CAPTURE:
        describe_capture((const struct store_capture *)op, out);
        break;
    case STORE_RESOLVE:
        describe_resolve((const struct store_resolve *)op, out);
        break;
    case STORE_WITHDRAW:
        describe_withdraw((const struct store_withdraw *)op, out);
        break;
    case STORE_REFUND:
        describe_refund((const struct store_refund *)op, out);
        break;
    case STORE_HOLD:
    case STORE_VOID:
    case STORE_DOUBT:
    case STORE_PUT:
    case STORE_KINDS:
        break;
    }
}

static enum err_code write_audit(struct store *s, struct store_op *op, const struct record *before)
{
    const struct store_actor *actor = op->actor;
    struct buf old_text, new_text;
    struct audit_entry entry;
    char object[ID_TEXT];
    enum err_code code;

    buf_init(&old_text, AUDIT_TEXT);
    buf_init(&new_text, AUDIT_TEXT);
    describe_money(op, &new_text);
    if (op->kind == STORE_PUT && actor->describe != NULL)
        actor->describe(((const struct store_put *)op)->record, &new_text);
    if (before != NULL && actor->describe != NULL)
        actor->describe(before, &old_text);
    name_object(s, op, object);
    entry = (struct audit_entry){ledger_now(s->ledger), actor, object, buf_slice(&old_text), buf_slice(&new_text)};
    code = s->engine->class->put_audit(s->engine, &entry, &op->err);
    buf_dispose(&old_text);
    buf_dispose(&new_text);
    return code;
}

enum err_code admin_apply(struct store *s, struct store_op *op)
{
    struct store_actor *actor = op->actor;
    struct record *before = NULL;
    enum err_code code;

    actor->replayed = false;
    code = replay(s, op);
    if (code != ERR_NOT_FOUND)
        return code;
    op->err.code = ERR_OK;
    code = batch_apply(s, op, &before);
    if (code != ERR_OK)
        return code;
    if (actor->render != NULL)
        actor->render(op, &actor->reply);
    code = write_audit(s, op, before);
    record_unref(before);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(AUDIT_WRITTEN, &op->err);
    if (code == ERR_OK && actor->idempotency_key.len > 0)
        code = s->engine->class->put_reply(s->engine, actor, ledger_now(s->ledger), ledger_now(s->ledger) - REPLY_LIFE,
                                           &op->err);
    return code == ERR_OK && actor->idempotency_key.len > 0 ? FAILPOINT_CODE(REPLY_WRITTEN, &op->err) : code;
}
