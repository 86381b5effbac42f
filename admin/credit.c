/* credit.c - money into a tenant's wallet, and adjustments out of it. The only admin route that moves money, so the
 * idempotency key is required: a client that lost the answer asks again and cannot credit twice. */
#include "body.h"
#include "render.h"

#define AMOUNT_MAX INT64_C(1000000000000000000) /* a thousand million dollars at once */

enum { PRIORITY = 50, PRIORITY_MAX = 100 };

struct credit_body {
    int64_t amount;
    int category; /* enum credit_category */
    int64_t priority;
    char note[LIMIT_NAME * 2];
};

static const struct body_choice categories[] = {{"paid", CREDIT_PAID}, {"promotional", CREDIT_PROMOTIONAL}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "amount",
     .type = BODY_MONEY,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct credit_body, amount),
     .min = -AMOUNT_MAX,
     .max = AMOUNT_MAX},
    {.name = "category",
     .type = BODY_CHOICE,
     .offset = offsetof(struct credit_body, category),
     .otherwise = CREDIT_PAID,
     .choices = categories},
    {.name = "expires_at", .type = BODY_UNSUPPORTED}, /* lots do not lapse yet */
    {.name = "priority",
     .type = BODY_INT,
     .offset = offsetof(struct credit_body, priority),
     .max = PRIORITY_MAX,
     .otherwise = PRIORITY},
    {.name = "note", .type = BODY_TEXT, .offset = offsetof(struct credit_body, note), .cap = LIMIT_NAME * 2, .min = 1},
};

/* On the writer's thread. */
static void render_grant(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    const struct store_credit *credit = &call->op.credit;

    render_open(out, NULL, '{');
    render_id(out, "id", "grt", credit->grant);
    render_text(out, "object", credit->amount > 0 ? SLICE("grant") : SLICE("adjustment"));
    render_id(out, "tenant", "ten", call->id);
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
    if (body->amount == 0)
        return err_set(err, ERR_INVALID_VALUE, "amount", "Invalid value for 'amount': it must not be zero.");
    if (body->amount < 0 && body->note[0] == '\0')
        return err_set(err, ERR_MISSING_PARAMETER, "note",
                       "Missing required parameter: 'note'. An adjustment needs a reason.");
    return ERR_OK;
}

static void credit_fetched(struct admin_call *call, const struct record *record)
{
    int64_t row = record->row;
    struct credit_body body = {0};
    struct store_credit *credit = &call->op.credit;
    struct err err;

    if (read_credit(call, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_CREDIT);
    credit->tenant_row = row;
    credit->amount = body.amount;
    credit->category = (enum credit_category)body.category;
    credit->priority = (int)body.priority;
    memcpy(credit->note, body.note, sizeof(credit->note));
    admin_act(call, render_grant);
    admin_submit(call, admin_reply_acted);
}

void tenant_credit(struct admin_call *call)
{
    struct err err;

    if (call->idempotency_key[0] != '\0') {
        noun_fetch(call, credit_fetched);
        return;
    }
    (void)err_set(&err, ERR_MISSING_PARAMETER, "Idempotency-Key",
                  "Missing required parameter: 'Idempotency-Key'. A request that moves money needs this header, so "
                  "that it can be "
                  "repeated safely.");
    admin_fail(call, &err);
}
