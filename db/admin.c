/* admin.c - operations that someone answers for: repeated calls and the rendered reply.
 *
 * Everything, the audit trail (audit.c) too, is written in the transaction of the operation itself, so that a reply is
 * kept exactly when what it tells of has happened. A refused operation leaves nothing: it may be tried again under the
 * same key. The writer's thread.
 */
#include "store_state.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

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

enum err_code admin_apply(struct store *s, struct store_op *op)
{
    struct store_actor *actor = op->actor;
    struct record *before = NULL;
    int64_t tenant;
    enum err_code code;

    actor->replayed = false;
    code = replay(s, op);
    if (code != ERR_NOT_FOUND)
        return code;
    op->err.code = ERR_OK;
    tenant = audit_tenant_before(s, op);
    code = batch_apply(s, op, &before);
    if (code != ERR_OK)
        return code;
    if (actor->render != NULL)
        actor->render(op, &actor->reply);
    if (op->kind != STORE_KEEP)
        code = audit_write(s, op, before, tenant);
    record_unref(before);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(AUDIT_WRITTEN, &op->err);
    if (code == ERR_OK && actor->idempotency_key.len > 0)
        code = s->engine->class->put_reply(s->engine, actor, ledger_now(s->ledger), ledger_now(s->ledger) - REPLY_LIFE,
                                           &op->err);
    return code == ERR_OK && actor->idempotency_key.len > 0 ? FAILPOINT_CODE(REPLY_WRITTEN, &op->err) : code;
}
