/* hold.c - holds that are open or kept in doubt, and ending one whose outcome an operator has found out.
 *
 * A hold's id is its request's. Resolving moves the tenant's own money, so it is the platform's; a tenant sees its
 * holds, without channel and cost. Loop's thread, but for `render_resolved` (the writer's). */
#include "body.h"
#include "page.h"
#include "render.h"

const struct noun noun_hold = {.kind = RECORD_KINDS, .word = "hold", .prefix = "hld"};

static void render_hold(const struct store_held *h, bool platform, struct buf *out)
{
    static const char *const rules[] = {
        [IN_DOUBT_RELEASE] = "release", [IN_DOUBT_CHARGE] = "charge", [IN_DOUBT_KEEP] = "keep"};

    render_open(out, NULL, '{');
    render_id(out, "id", "hld", h->id);
    render_text(out, "object", SLICE("hold"));
    render_text(out, "state", h->state == HOLD_IN_DOUBT ? SLICE("in_doubt") : SLICE("open"));
    render_id(out, "tenant", "ten", h->tenant_id);
    render_id(out, "customer", "cus", h->customer_id);
    render_id(out, "key", "key", h->key_id);
    if (platform)
        render_id(out, "channel", "chn", h->channel_id);
    render_text(out, "model", slice_from(h->call.model));
    render_text_or_null(out, "operation", price_operation_name(h->call.operation));
    render_text_or_null(out, "size", h->call.size);
    render_text_or_null(out, "quality", h->call.quality);
    render_int(out, "n", h->call.n);
    render_bool(out, "stream", h->call.stream);
    render_nano(out, "amount", h->n_legs > 0 ? h->legs[h->n_legs - 1] : 0);
    if (platform)
        render_nano(out, "cost", h->cost_max);
    render_nano(out, "wholesale", h->wholesale_max);
    render_nano(out, "retail", h->retail_max);
    render_text(out, "rule", slice_from(rules[h->rule]));
    render_id(out, "request_id", "req", h->id);
    render_time(out, "created_at", h->created_at);
    render_close(out, '}');
}

/* ---- list and get ---- */

static void reply_holds(struct admin_call *call)
{
    const struct store_holds_query *query = &call->op.question->of.holds;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++)
        render_hold(&query->items[i], call->who.tenant_row == 0, &out);
    if (query->n > 0)
        (void)id_format("hld", query->items[query->n - 1].id, next);
    render_list_close(&out, query->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

static enum err_code read_state(const char *text, int *state, struct err *err)
{
    *state = -1;
    if (strcmp(text, "open") == 0)
        *state = HOLD_OPEN;
    else if (strcmp(text, "in_doubt") == 0)
        *state = HOLD_IN_DOUBT;
    if (*state >= 0 || text[0] == '\0')
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, "state",
                   "Invalid value: '%.40s'. Supported values are: 'open' and 'in_doubt'.", text);
}

void hold_list(struct admin_call *call)
{
    char state_text[LIMIT_NAME], tenant[ID_TEXT * 2];
    const struct page_field fields[] = {{"state", state_text, sizeof(state_text)}, {"tenant", tenant, sizeof(tenant)}};
    struct store_holds_query *query;
    struct page page;
    int64_t tenant_row = 0;
    int state = -1;
    struct err err;

    if (page_read(front_call_query(call->front), "hld", fields, 2, &page, &err) != ERR_OK ||
        read_state(state_text, &state, &err) != ERR_OK ||
        noun_filter_tenant(call, tenant, &tenant_row, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_HOLDS);
    query = &call->op.question->of.holds;
    query->tenant_row = tenant_row;
    query->state = state;
    query->after = page.after;
    query->limit = page.limit;
    admin_submit(call, reply_holds);
}

static void fetch(struct admin_call *call, void (*next)(struct admin_call *call))
{
    struct store_holds_query *query;

    admin_begin(call, OP_HOLDS);
    query = &call->op.question->of.holds;
    query->tenant_row = call->who.tenant_row;
    query->state = -1;
    query->only_id = call->id;
    query->limit = 1;
    admin_submit(call, next);
}

static void reply_hold(struct admin_call *call)
{
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_hold(&call->op.question->of.holds.items[0], call->who.tenant_row == 0, &out);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

void hold_get(struct admin_call *call)
{
    fetch(call, reply_hold);
}

/* ---- resolve ---- */

struct resolve_body {
    int capture; /* 1; 0: void */
    int64_t amount;
};

static const struct body_choice actions[] = {{"void", 0}, {"capture", 1}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "action",
     .type = BODY_CHOICE,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct resolve_body, capture),
     .choices = actions},
    {.name = "amount",
     .type = BODY_MONEY,
     .offset = offsetof(struct resolve_body, amount),
     .max = BODY_MONEY_MAX,
     .otherwise = -1},
};
const struct body_table resolve_fields = BODY_TABLE(fields);

static enum err_code read_resolve(struct admin_call *call, struct resolve_body *body, struct err *err)
{
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, body, err);

    if (code == ERR_OK && !body->capture && body->amount >= 0)
        code = err_set(err, ERR_INVALID_VALUE, "amount", "'amount' goes with the action 'capture' only.");
    return code;
}

/* On the writer's thread. */
static void render_resolved(struct store_op *op, struct buf *out)
{
    const struct store_resolve *resolve = TG_CONTAINER(struct store_resolve, super, op);
    const struct usage_record *u = &resolve->usage;

    render_open(out, NULL, '{');
    render_id(out, "id", "hld", resolve->hold);
    render_text(out, "object", SLICE("hold"));
    render_text(out, "state", resolve->capture ? SLICE("captured") : SLICE("voided"));
    render_nano(out, "charged", resolve->capture ? resolve->charged : 0);
    if (resolve->capture)
        render_id(out, "usage_record", "use", id_from_seq(u->created_at, u->seq));
    else
        render_null(out, "usage_record");
    render_close(out, '}');
}

/* A tenant's hold is its own: so it may be told that there is one. */
static enum err_code check_resolve(struct admin_call *call, struct resolve_body *body, struct err *err)
{
    if (call->who.tenant_row != 0)
        return err_set(err, ERR_FORBIDDEN, NULL, "Only the platform may resolve holds; the token is a tenant's.");
    return read_resolve(call, body, err);
}

static void resolve_fetched(struct admin_call *call)
{
    struct resolve_body body = {0};
    struct err err;

    if (check_resolve(call, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_RESOLVE);
    call->op.resolve.hold = call->id;
    call->op.resolve.capture = body.capture != 0;
    call->op.resolve.amount = body.amount;
    admin_act(call, render_resolved);
    admin_submit(call, admin_reply_acted);
}

void hold_resolve(struct admin_call *call)
{
    fetch(call, resolve_fetched);
}
