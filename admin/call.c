/* call.c - an admin call between the client and the store.
 *
 * Invariants
 *  (1) A call that is not PENDING is being run by a handler or a `next`, which ends it or makes it PENDING before it
 * returns. (2) While it is PENDING the operation belongs to the store; nothing in `op`, `actor`, `refs` or `secret` is
 * touched. (3) front is NULL exactly after the client's gone(); then nothing more is started, and deliver only frees.
 *  (4) Secrets are wiped before their memory is given back.
 * Threads: the call's loop. */
#include "house.h"

#include <stdlib.h>

_Static_assert(offsetof(struct store_put, super.mail) == 0 && offsetof(struct store_credit, super.mail) == 0 &&
                   offsetof(struct store_list, super.mail) == 0 &&
                   offsetof(struct store_balance_query, super.mail) == 0 &&
                   offsetof(struct store_usage_query, super.mail) == 0,
               "an operation's mail is where the operation is");

static void client_gone(void *ctx)
{
    struct admin_call *call = ctx;

    call->front = NULL;
}

struct admin_call *admin_call_create(struct admin_house *house, struct front_call *front, const struct admin_rule *rule)
{
    struct admin_call *call = mem_zalloc(sizeof(*call));
    const struct front_owner owner = {.ctx = call, .gone = client_gone};

    call->house = house;
    call->front = front;
    call->loop = front_call_loop(front);
    call->catalog = loop_get(call->loop, LOOP_SLOT_CATALOG);
    call->rule = rule;
    buf_init(&call->actor.reply, ADMIN_REPLY);
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

void admin_op_drop(struct admin_call *call)
{
    switch (call->pending) {
    case OP_PUT:
        record_unref(call->op.put.record);
        break;
    case OP_LIST:
        drop_list(&call->op.list);
        break;
    case OP_USAGE:
        free(call->op.usage);
        break;
    case OP_NONE:
    case OP_CREDIT:
    case OP_BALANCE:
    case OP_PROBE:
        break;
    }
    call->pending = OP_NONE;
}

static void wipe_reply(struct buf *reply)
{
    if (reply->p != NULL)
        secret_wipe(reply->p, reply->cap);
    buf_dispose(reply);
}

static void destroy(struct admin_call *call)
{
    admin_op_drop(call);
    refs_dispose(&call->refs);
    wipe_reply(&call->actor.reply);
    secret_wipe(call->secret, sizeof(call->secret));
    json_object_put(call->body);
    free(call->filter);
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
    destroy(call);
}

void admin_fail(struct admin_call *call, const struct err *err)
{
    if (call->front != NULL)
        front_reply_err(call->front, err, NULL, 0);
    destroy(call);
}

enum err_code admin_no_such(struct err *err, const char *word, const char *param, struct slice id)
{
    return err_set(err, ERR_NOT_FOUND, param, "No such %s: '%.*s'.", word, id.len < 64 ? (int)id.len : 64, id.p);
}

void admin_fail_no_such(struct admin_call *call)
{
    char text[ID_TEXT];
    struct err err;

    id_format(record_prefix(call->rule->noun->kind), call->id, text);
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
    switch (call->pending) {
    case OP_PUT:
        return &call->op.put.super.err;
    case OP_CREDIT:
        return &call->op.credit.super.err;
    case OP_LIST:
        return &call->op.list.super.err;
    case OP_BALANCE:
        return &call->op.balance.super.err;
    case OP_USAGE:
        return &call->op.usage->super.err;
    case OP_NONE:
    case OP_PROBE:
        break;
    }
    TG_ASSERT(!"an operation");
    return NULL;
}

static void delivered(struct admin_call *call)
{
    const struct err *err = op_err(call);

    if (call->front == NULL)
        destroy(call);
    else if (err->code == ERR_OK)
        call->next(call);
    else if (call->failed == NULL || !call->failed(call, err))
        fail_with_op(call, err);
}

static void deliver(struct mail *mail)
{
    delivered(TG_CONTAINER(struct admin_call, op, mail));
}

/* The usage query is too large to sit in every call. */
struct usage_ticket {
    struct store_usage_query query;
    struct admin_call *call;
};

static void deliver_usage(struct mail *mail)
{
    delivered(TG_CONTAINER(struct usage_ticket, query.super.mail, mail)->call);
}

static void begin_usage(struct admin_call *call)
{
    struct usage_ticket *ticket = mem_zalloc(sizeof(*ticket));

    ticket->call = call;
    ticket->query.super.mail.deliver = deliver_usage;
    ticket->query.super.question = STORE_USAGE;
    ticket->query.super.reply_to = loop_mailbox(call->loop);
    call->op.usage = &ticket->query;
}

static void begin_query(struct admin_call *call, struct store_query *query, enum store_question question)
{
    query->mail.deliver = deliver;
    query->question = question;
    query->reply_to = loop_mailbox(call->loop);
}

static void begin_op(struct admin_call *call, struct store_op *op, enum store_kind kind)
{
    op->mail.deliver = deliver;
    op->kind = kind;
    op->reply_to = loop_mailbox(call->loop);
    op->actor = &call->actor;
}

void admin_begin(struct admin_call *call, enum admin_op op)
{
    admin_op_drop(call);
    memset(&call->op, 0, sizeof(call->op));
    call->pending = op;
    switch (op) {
    case OP_PUT:
        begin_op(call, &call->op.put.super, STORE_PUT);
        break;
    case OP_CREDIT:
        begin_op(call, &call->op.credit.super, STORE_CREDIT);
        break;
    case OP_LIST:
        begin_query(call, &call->op.list.super, STORE_LIST);
        break;
    case OP_BALANCE:
        begin_query(call, &call->op.balance.super, STORE_BALANCE);
        break;
    case OP_USAGE:
        begin_usage(call);
        break;
    case OP_NONE:
    case OP_PROBE:
        break;
    }
}

void admin_submit(struct admin_call *call, void (*next)(struct admin_call *call))
{
    call->next = next;
    switch (call->pending) {
    case OP_PUT:
        store_submit(call->house->store, &call->op.put.super);
        break;
    case OP_CREDIT:
        store_submit(call->house->store, &call->op.credit.super);
        break;
    case OP_LIST:
        store_ask(call->house->store, &call->op.list.super);
        break;
    case OP_BALANCE:
        store_ask(call->house->store, &call->op.balance.super);
        break;
    case OP_USAGE:
        store_ask(call->house->store, &call->op.usage->super);
        break;
    case OP_NONE:
    case OP_PROBE:
        TG_ASSERT(!"something to give to the store");
    }
}

/* ---- who did it ---- */

void admin_describe(const struct record *record, struct buf *out)
{
    static const struct noun *const nouns[RECORD_KINDS] = {
        [RECORD_TENANT] = &noun_tenant, [RECORD_KEY] = &noun_key,           [RECORD_CHANNEL] = &noun_channel,
        [RECORD_BOOK] = &noun_book,     [RECORD_ADMIN_TOKEN] = &noun_token,
    };

    if (nouns[record->kind] != NULL)
        nouns[record->kind]->render(record, NULL, out);
}

void admin_act(struct admin_call *call, void (*render)(struct store_op *op, struct buf *out))
{
    struct store_actor *actor = &call->actor;

    actor->token_row = call->who.token_row;
    actor->request = front_call_id(call->front);
    actor->action = call->rule->action;
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
