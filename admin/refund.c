/* refund.c - giving a charge back, in all or in part.
 *
 * A tenant's token gives back what its customers paid it from wallets of their own, and nothing that it was itself
 * charged. Loop's thread, but for `render_refunded` (the writer's). */
#include "body.h"
#include "render.h"

struct refund_body {
    int64_t amount; /* 0: all that is left */
    char reason[LIMIT_NAME * 2];
};

static const struct body_field fields[] = {
    {.name = "amount",
     .type = BODY_MONEY,
     .offset = offsetof(struct refund_body, amount),
     .min = 1,
     .max = BODY_MONEY_MAX},
    {.name = "reason",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct refund_body, reason),
     .cap = LIMIT_NAME * 2,
     .min = 1},
};
const struct body_table refund_fields = BODY_TABLE(fields);

/* On the writer's thread. */
static void render_refunded(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);

    usage_render(&call->op.refund.usage, call->who.tenant_row == 0, out);
}

static void refund_fetched(struct admin_call *call)
{
    bool tenant = call->who.tenant_row != 0, own_wallet = call->op.question->of.usage.items[0].own_wallet;
    struct refund_body body = {0};
    struct err err;
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, &body, &err);

    if (code == ERR_OK && tenant && !own_wallet)
        code = err_set(&err, ERR_FORBIDDEN, NULL,
                       "Only the platform may refund what the tenant was charged; the token is a tenant's.");
    if (code != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_REFUND);
    call->op.refund.seq = id_seq(call->id);
    call->op.refund.amount = body.amount;
    call->op.refund.retail_only = tenant;
    memcpy(call->op.refund.reason, body.reason, sizeof(call->op.refund.reason));
    admin_act(call, render_refunded);
    admin_submit(call, admin_reply_acted);
}

void usage_refund(struct admin_call *call)
{
    usage_fetch(call, refund_fetched);
}
