/* call.c - an admin call between the client and the store.
 *
 * Invariants
 *  (1) A call that is not PENDING is being run by a handler or a `next`, which ends it or makes it PENDING before it
 * returns. (2) While it is PENDING the operation belongs to the store; nothing in `op`, `actor`, `refs` or `secret` is
 * touched. (3) front is NULL exactly after the client's gone(); then nothing more is started, and deliver only frees.
 *  (4) Secrets are wiped before their memory is given back.
 *  (5) A call with a stream may wait for the client alone: neither PENDING (asked is false) nor run. stream_ready goes
 * on with it then, and gone() frees it.
 * Threads: the call's loop. */
#include "house.h"

#include <stdlib.h>

#include "key.h"

#include "stream.h"

_Static_assert(offsetof(struct store_op, mail) == 0 && offsetof(struct store_query, mail) == 0,
               "an operation's mail is where the operation is");

/* What an operation is to the store. */
enum shape { SHAPE_NONE = 0, SHAPE_ACT, SHAPE_ASK, SHAPE_ASK_LONG };

static const struct {
    enum shape shape;
    int kind; /* enum store_kind or enum store_question */
} shapes[ADMIN_OPS] = {
    [OP_PUT] = {SHAPE_ACT, STORE_PUT},
    [OP_PUT_MANY] = {SHAPE_ACT, STORE_PUT_MANY},
    [OP_KEEP] = {SHAPE_ACT, STORE_KEEP},
    [OP_CREDIT] = {SHAPE_ACT, STORE_CREDIT},
    [OP_WITHDRAW] = {SHAPE_ACT, STORE_WITHDRAW},
    [OP_RESOLVE] = {SHAPE_ACT, STORE_RESOLVE},
    [OP_REFUND] = {SHAPE_ACT, STORE_REFUND},
    [OP_REPLAY] = {SHAPE_ACT, STORE_VOID},
    [OP_LIST] = {SHAPE_ASK, STORE_LIST},
    [OP_BALANCE] = {SHAPE_ASK, STORE_BALANCE},
    [OP_ACCOUNTS] = {SHAPE_ASK, STORE_ACCOUNTS},
    [OP_USAGE] = {SHAPE_ASK_LONG, STORE_USAGE},
    [OP_LEDGER] = {SHAPE_ASK_LONG, STORE_LEDGER},
    [OP_GRANTS] = {SHAPE_ASK_LONG, STORE_GRANTS},
    [OP_HOLDS] = {SHAPE_ASK_LONG, STORE_HOLDS},
    [OP_REPORT] = {SHAPE_ASK_LONG, STORE_REPORT},
    [OP_TURNOVER] = {SHAPE_ASK_LONG, STORE_TURNOVER},
    [OP_AUDIT] = {SHAPE_ASK_LONG, STORE_AUDIT},
};

static void client_gone(void *ctx)
{
    struct admin_call *call = ctx;

    call->front = NULL;
    if (call->stream != NULL && !call->asked) /* it waited for the client alone */
        admin_call_destroy(call);
}

static void client_ready(void *ctx)
{
    stream_ready(ctx);
}

struct admin_call *admin_call_create(struct admin_house *house, struct front_call *front, const struct admin_rule *rule)
{
    struct admin_call *call = mem_zalloc(sizeof(*call));
    const struct front_owner owner = {.ctx = call, .gone = client_gone, .ready = client_ready};

    call->house = house;
    call->front = front;
    call->loop = front_call_loop(front);
    call->catalog = loop_get(call->loop, LOOP_SLOT_CATALOG);
    call->rule = rule;
    buf_init(&call->actor.reply, ADMIN_REPLY);
    buf_init(&call->answer, ADMIN_REPLY);
    front_call_own(front, &owner);
    return call;
}

void refs_dispose(struct refs *refs)
{
    free(refs->tenants);
    *refs = (struct refs){0};
}

static void drop_list(struct store_list *list)
{
    for (int i = 0; i < list->n; i++)
        record_unref(list->items[i]);
    list->n = 0;
}

void admin_question_destroy(struct admin_question *question, enum admin_op op)
{
    if (question != NULL && op == OP_REPORT)
        store_report_dispose(&question->of.report);
    else if (question != NULL && op == OP_AUDIT)
        store_audit_dispose(&question->of.audit);
    free(question);
}

struct admin_question *admin_question_take(struct admin_call *call)
{
    struct admin_question *question = call->op.question;

    TG_ASSERT(shapes[call->pending].shape == SHAPE_ASK_LONG && !call->asked);
    call->pending = OP_NONE;
    call->op.question = NULL;
    return question;
}

void admin_keep(struct admin_call *call, void *state, void (*drop)(void *state))
{
    TG_ASSERT(call->state == NULL);
    call->state = state;
    call->drop_state = drop;
}

/* The array is the bulk's. */
static void drop_many(struct store_put_many *many)
{
    for (int i = 0; i < many->n; i++) {
        record_unref(many->records[i]);
        many->records[i] = NULL;
    }
    many->n = 0;
}

void admin_op_drop(struct admin_call *call)
{
    if (call->pending == OP_PUT)
        record_unref(call->op.put.record);
    else if (call->pending == OP_PUT_MANY)
        drop_many(&call->op.put_many);
    else if (call->pending == OP_LIST)
        drop_list(&call->op.list);
    else if (shapes[call->pending].shape == SHAPE_ASK_LONG)
        admin_question_destroy(call->op.question, call->pending);
    call->pending = OP_NONE;
}

static void wipe_reply(struct buf *reply)
{
    if (reply->p != NULL)
        secret_wipe(reply->p, reply->cap);
    buf_dispose(reply);
}

void admin_call_destroy(struct admin_call *call)
{
    admin_op_drop(call);
    refs_dispose(&call->refs);
    wipe_reply(&call->actor.reply);
    wipe_reply(&call->answer);
    key_bulk_destroy(call->bulk);
    secret_wipe(call->secret, sizeof(call->secret));
    json_object_put(call->body);
    stream_destroy(call->stream);
    if (call->state != NULL)
        call->drop_state(call->state);
    free(call);
}

/* ---- the answer ---- */

void admin_reply(struct admin_call *call, int status, const struct buf *out, int64_t version)
{
    const struct err overrun = {.code = ERR_INTERNAL, .message = "The answer is too large."};
    char etag[32];
    struct front_header header = {.name = "etag"};

    if (out->full) {
        admin_fail(call, &overrun);
        return;
    }
    (void)snprintf(etag, sizeof(etag), "\"%lld\"", (long long)version);
    header.value = slice_from(etag);
    if (call->front != NULL)
        front_reply(call->front, status, &header, version > 0 ? 1 : 0, SLICE("application/json"), buf_slice(out));
    admin_call_destroy(call);
}

/* On the writer's thread. */
static void render_kept(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);

    buf_append_slice(out, buf_slice(&call->answer));
}

void admin_reply_kept(struct admin_call *call, const struct buf *out)
{
    if (call->actor.idempotency_key.len == 0 || call->front == NULL) {
        admin_reply(call, 200, out, 0);
        return;
    }
    buf_append_slice(&call->answer, buf_slice(out));
    admin_begin(call, OP_KEEP);
    admin_act(call, render_kept);
    admin_submit(call, admin_reply_acted);
}

/* The operation was repeated and has its answer, or nothing is known of the key: NOT_FOUND, since it voids no hold. */
static bool reply_refusal(struct admin_call *call, const struct err *err)
{
    if (err->code == ERR_IDEMPOTENCY_REUSED)
        call->refusal = *err;
    admin_fail(call, &call->refusal);
    return true;
}

static void look_for_answer(struct admin_call *call, const struct err *err)
{
    call->refusal = *err; /* it may stand in what admin_begin drops */
    admin_begin(call, OP_REPLAY);
    call->failed = reply_refusal;
    admin_act(call, NULL);
    admin_submit(call, admin_reply_acted);
}

void admin_fail(struct admin_call *call, const struct err *err)
{
    if (call->front != NULL && call->actor.idempotency_key.len > 0 && !call->acted) {
        look_for_answer(call, err);
        return;
    }
    if (call->front != NULL && !stream_break(call))
        front_reply_err(call->front, err, NULL, 0);
    admin_call_destroy(call);
}

enum err_code admin_no_such(struct err *err, const char *word, const char *param, struct slice id)
{
    return err_set(err, ERR_NOT_FOUND, param, "No such %s: '%.*s'.", word, id.len < 64 ? (int)id.len : 64, id.p);
}

void admin_fail_no_such(struct admin_call *call)
{
    char text[ID_TEXT];
    struct err err;

    id_format(noun_prefix(call->rule->noun), call->id, text);
    (void)admin_no_such(&err, call->rule->noun->word, "id", slice_from(text));
    admin_fail(call, &err);
}

/* ---- the store ---- */

static void fail_with_op(struct admin_call *call, const struct err *err)
{
    struct err copy = *err;

    if (copy.code == ERR_NOT_FOUND && call->rule->noun != NULL && !id_is_zero(call->id))
        admin_fail_no_such(call);
    else
        admin_fail(call, &copy);
}

static const struct err *op_err(const struct admin_call *call)
{
    switch (shapes[call->pending].shape) {
    case SHAPE_ACT:
        return &call->op.act.err;
    case SHAPE_ASK:
        return &call->op.ask.err;
    case SHAPE_ASK_LONG:
        return &call->op.question->of.ask.err;
    case SHAPE_NONE:
        break;
    }
    TG_ASSERT(!"an operation");
    return NULL;
}

static void delivered(struct admin_call *call)
{
    const struct err *err = op_err(call);

    call->asked = false;
    if (call->front == NULL)
        admin_call_destroy(call);
    else if (err->code == ERR_OK)
        call->next(call);
    else if (call->failed == NULL || !call->failed(call, err))
        fail_with_op(call, err);
}

static void deliver(struct mail *mail)
{
    delivered(TG_CONTAINER(struct admin_call, op, mail));
}

static void deliver_question(struct mail *mail)
{
    delivered(TG_CONTAINER(struct admin_question, of, mail)->call);
}

static void begin_query(struct admin_call *call, struct store_query *query, void (*done)(struct mail *mail))
{
    query->mail.deliver = done;
    query->question = (enum store_question)shapes[call->pending].kind;
    query->reply_to = loop_mailbox(call->loop);
}

static void begin_op(struct admin_call *call, struct store_op *op)
{
    op->mail.deliver = deliver;
    op->kind = (enum store_kind)shapes[call->pending].kind;
    op->reply_to = loop_mailbox(call->loop);
    op->actor = &call->actor;
}

void admin_begin(struct admin_call *call, enum admin_op op)
{
    admin_op_drop(call);
    memset(&call->op, 0, sizeof(call->op));
    call->pending = op;
    switch (shapes[op].shape) {
    case SHAPE_ACT:
        begin_op(call, &call->op.act);
        break;
    case SHAPE_ASK:
        begin_query(call, &call->op.ask, deliver);
        break;
    case SHAPE_ASK_LONG:
        call->op.question = mem_zalloc(sizeof(*call->op.question));
        call->op.question->call = call;
        begin_query(call, &call->op.question->of.ask, deliver_question);
        break;
    case SHAPE_NONE:
        break;
    }
}

void admin_submit(struct admin_call *call, void (*next)(struct admin_call *call))
{
    enum shape shape = shapes[call->pending].shape;

    TG_ASSERT(shape != SHAPE_NONE);
    call->next = next;
    call->asked = true;
    call->acted = call->acted || shape == SHAPE_ACT;
    if (shape == SHAPE_ACT)
        store_submit(call->house->store, &call->op.act);
    else
        store_ask(call->house->store, shape == SHAPE_ASK ? &call->op.ask : &call->op.question->of.ask);
}

/* ---- who did it ---- */

void admin_describe(const struct record *record, const struct store_names *names, struct buf *out)
{
    static const struct noun *const nouns[RECORD_KINDS] = {
        [RECORD_TENANT] = &noun_tenant,   [RECORD_CUSTOMER] = &noun_customer, [RECORD_KEY] = &noun_key,
        [RECORD_CHANNEL] = &noun_channel, [RECORD_BOOK] = &noun_book,         [RECORD_ADMIN_TOKEN] = &noun_token,
    };

    const struct noun *noun = nouns[record->kind];
    struct refs refs = {0};

    TG_ASSERT(noun != NULL);
    if (noun->refer != NULL)
        noun->refer(names, record, &refs);
    refs.audit = true;
    noun->render(record, &refs, out);
    refs_dispose(&refs);
}

void admin_act(struct admin_call *call, void (*render)(struct store_op *op, struct buf *out))
{
    struct store_actor *actor = &call->actor;

    actor->token_row = call->who.token_row;
    actor->request = front_call_id(call->front);
    actor->action = call->rule->action;
    actor->peer = call->peer;
    actor->render = render;
    actor->describe = admin_describe;
    actor->status = 200;
    buf_clear(&actor->reply);
}

void admin_reply_acted(struct admin_call *call)
{
    const struct record *record = call->pending == OP_PUT && !call->actor.replayed ? call->op.put.record : NULL;

    admin_reply(call, call->actor.status, &call->actor.reply, record != NULL ? record->version : 0);
}
