/* repeat.c - customers' calls that are sent again: a hold with an Idempotency-Key happens once.
 *
 *   key:  free --hold--> RUNNING --capture, doubt (release, charge)--> DONE --store_options.keep--> free
 *          ^                |
 *          '------void------'
 *
 * Invariants
 *  (1) A key's row is written, settled and deleted in the transaction of its hold's beginning and end.
 *  (2) It is looked up before anything of the hold is checked or moved, and the look-up sees the batch's own keys.
 *  (3) While a hold is open or in doubt its key is taken, whatever its age; time runs from the hold's end.
 * A call without a key passes through here and touches nothing. The writer's thread (store_open's before it starts). */
#include "store_state.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

static enum err_code refuse(const struct store *s, struct store_hold *op, const struct call_key *key)
{
    struct err *err = &op->super.err;
    char usage[ID_TEXT];

    op->earlier.request = key->request;
    if (key->usage != 0)
        op->earlier.usage = id_from_seq(key->at, key->usage);
    if (memcmp(key->fingerprint, op->fingerprint, SECRET_DIGEST) != 0)
        return err_set(err, ERR_IDEMPOTENCY_REUSED, NULL,
                       "This Idempotency-Key was used with a different request before.");
    if (key->usage != 0)
        return err_set(err, ERR_IDEMPOTENCY_DONE, NULL,
                       "The request with this Idempotency-Key has already been processed and settled (%s); its answer "
                       "is no longer kept.",
                       id_format("use", op->earlier.usage, usage));
    if (ledger_in_doubt(s->ledger, key->request))
        return err_set(err, ERR_IDEMPOTENCY_RUNNING, NULL,
                       "A request with this Idempotency-Key was interrupted; whether it was carried out is not known "
                       "yet.");
    return err_set(err, ERR_IDEMPOTENCY_RUNNING, NULL, "A request with this Idempotency-Key is still being processed.");
}

/* A few at a time, more than are added; once none is left, not before a second is over. */
static enum err_code drop_old(struct store *s, struct err *err)
{
    int64_t now = ledger_now(s->ledger);
    enum err_code code;
    bool more;

    if (now < s->drop_next && now >= s->drop_next - CLOCK_SECOND)
        return ERR_OK;
    code = s->engine->class->drop_keys(s->engine, now - s->keep, &more, err);
    if (!more)
        s->drop_next = now + CLOCK_SECOND;
    return code == ERR_OK ? FAILPOINT_CODE(KEY_DROPPED, err) : code;
}

enum err_code repeat_hold(struct store *s, struct store_hold *op)
{
    const struct engine_class *class = s->engine->class;
    struct err *err = &op->super.err;
    struct call_key key;
    enum err_code code;
    int64_t row;

    if (op->idempotency_key.len == 0)
        return ledger_hold(s->ledger, op);
    memset(&op->earlier, 0, sizeof(op->earlier));
    if (op->idempotency_key.len > LIMIT_IDEMPOTENCY_KEY)
        return err_set(err, ERR_INVALID_VALUE, "Idempotency-Key", "An Idempotency-Key has at most %d bytes.",
                       LIMIT_IDEMPOTENCY_KEY);
    code = class->find_key(s->engine, op, ledger_now(s->ledger) - s->keep, &key, err);
    if (code != ERR_NOT_FOUND)
        return code == ERR_OK ? refuse(s, op, &key) : code;
    err->code = ERR_OK;
    code = ledger_hold(s->ledger, op);
    if (code == ERR_OK)
        code = drop_old(s, err);
    if (code == ERR_OK)
        code = class->put_key(s->engine, op, ledger_now(s->ledger), &row, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(KEY_WRITTEN, err);
    if (code == ERR_OK)
        ledger_set_key(s->ledger, op->id, row);
    return code;
}

enum err_code repeat_ended(struct store *s, struct store_op *op, enum err_code code)
{
    struct ended_key key;

    if (code != ERR_OK || !ledger_ended_key(s->ledger, &key))
        return code;
    code = s->engine->class->end_key(s->engine, &key, ledger_now(s->ledger), &op->err);
    return code == ERR_OK ? FAILPOINT_CODE(KEY_ENDED, &op->err) : code;
}
