/* credit.c - money into the wallet of a tenant or of a customer that has its own, and adjustments out of it. */
#include "body.h"
#include "render.h"

enum { PRIORITY = 50, PRIORITY_MAX = 100 };

struct credit_body {
    int64_t amount;
    int category; /* enum credit_category */
    int64_t priority;
    int64_t expires_at; /* 0: never */
    char note[LIMIT_NAME * 2];
};

static const struct body_choice categories[] = {{"paid", CREDIT_PAID}, {"promotional", CREDIT_PROMOTIONAL}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "amount",
     .type = BODY_MONEY,
     .flags = BODY_REQUIRED | BODY_NONZERO,
     .offset = offsetof(struct credit_body, amount),
     .min = -BODY_MONEY_MAX,
     .max = BODY_MONEY_MAX},
    {.name = "category",
     .type = BODY_CHOICE,
     .offset = offsetof(struct credit_body, category),
     .otherwise = CREDIT_PAID,
     .choices = categories},
    {.name = "expires_at", .type = BODY_TIME, .offset = offsetof(struct credit_body, expires_at)},
    {.name = "priority",
     .type = BODY_INT,
     .offset = offsetof(struct credit_body, priority),
     .max = PRIORITY_MAX,
     .otherwise = PRIORITY},
    {.name = "note", .type = BODY_TEXT, .offset = offsetof(struct credit_body, note), .cap = LIMIT_NAME * 2, .min = 1},
};
const struct body_table credit_fields = BODY_TABLE(fields);

/* On the writer's thread. */
static void render_grant(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    const struct store_credit *credit = &call->op.credit;

    render_open(out, NULL, '{');
    render_id(out, "id", "grt", credit->grant);
    render_text(out, "object", credit->amount > 0 ? SLICE("grant") : SLICE("adjustment"));
    wallet_render_owner(out, &call->wallet);
    render_nano(out, "amount", credit->amount);
    render_text(out, "category", credit->category == CREDIT_PAID ? SLICE("paid") : SLICE("promotional"));
    render_int(out, "priority", credit->priority);
    render_time(out, "expires_at", credit->expires_at);
    render_text_or_null(out, "note", credit->note);
    render_time(out, "created_at", credit->created_at);
    render_close(out, '}');
}

static enum err_code read_credit(struct admin_call *call, struct credit_body *body, struct err *err)
{
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, body, err);

    if (code != ERR_OK)
        return code;
    if (body->amount < 0 && body->note[0] == '\0')
        return err_set(err, ERR_MISSING_PARAMETER, "note",
                       "Missing required parameter: 'note'. An adjustment needs a reason.");
    if (body->amount < 0 && body->expires_at != 0)
        return err_set(err, ERR_INVALID_VALUE, "expires_at", "An adjustment does not expire.");
    if (!call->wallet.own)
        return err_set(err, ERR_CONFLICT, NULL,
                       "The customer cannot be credited: it pays from its tenant's wallet (wallet: shared).");
    return ERR_OK;
}

static void credit_fetched(struct admin_call *call, const struct record *record)
{
    struct credit_body body = {0};
    struct store_credit *credit = &call->op.credit;
    struct err err;

    call->wallet = wallet_from(call, record);
    if (read_credit(call, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_CREDIT);
    credit->tenant_row = call->wallet.tenant_row;
    credit->customer_row = call->wallet.customer_row;
    credit->amount = body.amount;
    credit->category = (enum credit_category)body.category;
    credit->priority = (int)body.priority;
    credit->expires_at = body.expires_at;
    memcpy(credit->note, body.note, sizeof(credit->note));
    admin_act(call, render_grant);
    admin_submit(call, admin_reply_acted);
}

void wallet_credit(struct admin_call *call)
{
    noun_fetch(call, credit_fetched);
}
