/* grant.c - grants of credit: their list, and taking back what is left of one.
 *
 * A grant is no record: its id is its number in the ledger and its time. A tenant's token voids grants of its
 * customers; those of its own wallet are the platform's. Loop's thread, but for `render_voided` (the writer's). */
#include "body.h"
#include "render.h"

const struct noun noun_grant = {.kind = RECORD_KINDS, .word = "grant", .prefix = "grt"};

static const char *status_of(const struct store_grant *g)
{
    switch (g->status) {
    case GRANT_LAPSED:
        return "expired";
    case GRANT_WITHDRAWN:
        return "voided";
    case GRANT_LIVE:
        break;
    }
    /* past its time it cannot be used, though the transfer that says so may still be to come */
    if (g->expires_at != 0 && g->expires_at <= clock_wall())
        return "expired";
    return g->remaining > 0 ? "active" : "used_up";
}

static void render_grant(const struct store_grant *g, const struct wallet *owner, struct buf *out)
{
    render_open(out, NULL, '{');
    render_id(out, "id", "grt", id_from_seq(g->created_at, g->seq));
    render_text(out, "object", SLICE("grant"));
    wallet_render_owner(out, owner);
    render_nano(out, "amount", g->amount);
    render_nano(out, "remaining", g->remaining);
    render_text(out, "status", slice_from(status_of(g)));
    render_text(out, "category", g->category == CREDIT_PAID ? SLICE("paid") : SLICE("promotional"));
    render_int(out, "priority", g->priority);
    render_time(out, "expires_at", g->expires_at);
    render_text_or_null(out, "note", g->note);
    render_time(out, "created_at", g->created_at);
    render_close(out, '}');
}

/* ---- list ---- */

static void reply_grants(struct admin_call *call)
{
    const struct store_grants_query *query = &call->op.question->of.grants;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++)
        render_grant(&query->items[i], &call->wallet, &out);
    if (query->n > 0) {
        const struct store_grant *last = &query->items[query->n - 1];

        (void)id_format("grt", id_from_seq(last->created_at, last->seq), next);
    }
    render_list_close(&out, query->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

static void ask_grants(struct admin_call *call, const struct record *record)
{
    struct store_grants_query *query;
    int64_t after;
    int limit;

    if (!wallet_read_page(call, record, "grt", &limit, &after))
        return;
    admin_begin(call, OP_GRANTS);
    query = &call->op.question->of.grants;
    query->tenant_row = call->wallet.tenant_row;
    query->customer_row = call->wallet.customer_row;
    query->after = after;
    query->limit = limit;
    admin_submit(call, reply_grants);
}

void wallet_grants(struct admin_call *call)
{
    noun_fetch(call, ask_grants);
}

/* ---- void ---- */

struct void_body {
    char note[LIMIT_NAME * 2];
};

static const struct body_field fields[] = {
    {.name = "note", .type = BODY_TEXT, .offset = offsetof(struct void_body, note), .cap = LIMIT_NAME * 2, .min = 1},
};
const struct body_table void_fields = BODY_TABLE(fields);

/* On the writer's thread. */
static void render_voided(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);

    render_grant(&call->op.withdraw.grant, &call->wallet, out);
}

static void void_fetched(struct admin_call *call)
{
    const struct store_grant *g = &call->op.question->of.grants.items[0];
    int64_t seq = g->seq;
    struct void_body body = {""};
    struct err err;

    if (!id_eq(id_from_seq(g->created_at, g->seq), call->id)) {
        admin_fail_no_such(call);
        return;
    }
    call->wallet = (struct wallet){g->tenant_row, g->customer_row, g->tenant_id, g->customer_id, true};
    if (call->who.tenant_row != 0 && g->customer_row == 0) {
        (void)err_set(&err, ERR_FORBIDDEN, NULL,
                      "Only the platform may void a tenant's grants; the token is a tenant's.");
        admin_fail(call, &err);
        return;
    }
    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_WITHDRAW);
    call->op.withdraw.seq = seq;
    memcpy(call->op.withdraw.note, body.note, sizeof(call->op.withdraw.note));
    admin_act(call, render_voided);
    admin_submit(call, admin_reply_acted);
}

void grant_void(struct admin_call *call)
{
    struct store_grants_query *query;

    if (id_seq(call->id) <= 0) {
        admin_fail_no_such(call);
        return;
    }
    admin_begin(call, OP_GRANTS);
    query = &call->op.question->of.grants;
    query->tenant_row = call->who.tenant_row;
    query->seq = id_seq(call->id);
    query->limit = 1;
    admin_submit(call, void_fetched);
}
