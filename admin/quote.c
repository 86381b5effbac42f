/* quote.c - what a call would cost at most, and what would be set aside for it. Moves nothing, writes nothing.
 *
 * The body's counts become the same spec that a real request becomes; the prices are the gate's. */
#include <stdlib.h>

#include "body.h"
#include "daemon/gate/admit.h"
#include "render.h"

enum { N_MAX = 1000, N_WITHOUT_CARD = 10, PARTIALS_MAX = 3, INPUTS_MAX = 16, PROMPT_TOKENS_MAX = 1000000 };

struct quote_body {
    const struct tenant *tenant; /* NULL: list prices */
    const struct customer *customer;
    char model[LIMIT_MODEL];
    int operation; /* enum image_operation */
    char size[LIMIT_SIZE];
    char quality[LIMIT_QUALITY];
    int64_t n, partial_images, input_images, prompt_tokens; /* input_images -1: not said */
};

static enum err_code set_tenant(struct admin_call *call, const char *name, struct json_object *value, int64_t row,
                                struct quote_body *q, struct err *err)
{
    const struct tenant *tenant = catalog_by_row(call->catalog, RECORD_TENANT, row);

    if (tenant == NULL || !noun_sees(&call->who, &noun_tenant, &tenant->super))
        return admin_no_such(err, name, name, slice_from(json_object_get_string(value)));
    if (q->tenant != NULL && q->tenant != tenant)
        return err_set(err, ERR_INVALID_VALUE, name, "The %s is not that tenant's.", name);
    q->tenant = tenant;
    return ERR_OK;
}

static enum err_code read_tenant(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    struct quote_body *q = target;
    const void *tenant;
    enum err_code code;

    if (value == NULL) {
        q->tenant =
            call->who.tenant_row != 0 ? catalog_by_row(call->catalog, RECORD_TENANT, call->who.tenant_row) : NULL;
        return ERR_OK;
    }
    code = body_record(call, RECORD_TENANT, "tenant", name, value, &tenant, err);
    return code != ERR_OK ? code : set_tenant(call, name, value, ((const struct record *)tenant)->row, q, err);
}

static enum err_code read_customer(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                   struct err *err)
{
    struct quote_body *q = target;
    const void *found;
    enum err_code code;

    if (value == NULL)
        return ERR_OK;
    code = body_record(call, RECORD_CUSTOMER, "customer", name, value, &found, err);
    if (code != ERR_OK)
        return code;
    q->customer = found;
    return set_tenant(call, name, value, q->customer->tenant_row, q, err);
}

/* Of a key that the body names, once the store was asked: whose it is. */
struct quote_key {
    int64_t tenant_row, customer_row; /* tenant 0: there is no such key */
};

static enum err_code read_key(struct admin_call *call, const char *name, struct json_object *value, void *target,
                              struct err *err)
{
    const struct quote_key *key = call->state;
    struct quote_body *q = target;
    const struct customer *customer;

    if (value == NULL)
        return ERR_OK;
    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    if (key == NULL || key->tenant_row == 0)
        return admin_no_such(err, "key", name, slice_from(json_object_get_string(value)));
    customer = key->customer_row != 0 ? catalog_by_row(call->catalog, RECORD_CUSTOMER, key->customer_row) : NULL;
    if (q->customer != NULL && q->customer != customer)
        return err_set(err, ERR_INVALID_VALUE, name, "The key is not that customer's.");
    q->customer = customer;
    return set_tenant(call, name, value, key->tenant_row, q, err);
}

static const struct body_choice operations[] = {{"generations", OPERATION_GENERATIONS},
                                                {"edits", OPERATION_EDITS},
                                                {"variations", OPERATION_VARIATIONS},
                                                {NULL, 0}};

/* tenant, customer and key in this order: each must agree with those before. */
static const struct body_field fields[] = {
    {.name = "tenant", .type = BODY_OWN, .read = read_tenant, .as = BODY_ID, .prefix = "ten"},
    {.name = "customer", .type = BODY_OWN, .read = read_customer, .as = BODY_ID, .prefix = "cus"},
    {.name = "key", .type = BODY_OWN, .read = read_key, .as = BODY_ID, .prefix = "key"},
    {.name = "model",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct quote_body, model),
     .cap = LIMIT_MODEL,
     .min = 1},
    {.name = "operation",
     .type = BODY_CHOICE,
     .offset = offsetof(struct quote_body, operation),
     .otherwise = OPERATION_GENERATIONS,
     .choices = operations},
    {.name = "size", .type = BODY_TEXT, .offset = offsetof(struct quote_body, size), .cap = LIMIT_SIZE, .min = 1},
    {.name = "quality",
     .type = BODY_TEXT,
     .offset = offsetof(struct quote_body, quality),
     .cap = LIMIT_QUALITY,
     .min = 1},
    {.name = "n", .type = BODY_INT, .offset = offsetof(struct quote_body, n), .min = 1, .max = N_MAX, .otherwise = 1},
    {.name = "partial_images",
     .type = BODY_INT,
     .offset = offsetof(struct quote_body, partial_images),
     .max = PARTIALS_MAX},
    {.name = "input_images",
     .type = BODY_INT,
     .offset = offsetof(struct quote_body, input_images),
     .max = INPUTS_MAX,
     .otherwise = -1},
    {.name = "prompt_tokens",
     .type = BODY_INT,
     .offset = offsetof(struct quote_body, prompt_tokens),
     .max = PROMPT_TOKENS_MAX},
};
const struct body_table quote_fields = BODY_TABLE(fields);

static enum err_code above(const char *name, int max, int64_t got, struct err *err)
{
    return err_set(
        err, ERR_INTEGER_ABOVE_MAX, name,
        "Invalid '%s': integer above maximum value. Expected a value <= %d for this model, but got %lld instead.", name,
        max, (long long)got);
}

static enum err_code fill_spec(const struct quote_body *q, struct image_spec *spec, struct err *err)
{
    const struct model_card *card = model_find(slice_from(q->model));
    int max_n = card != NULL ? card->max_n : N_WITHOUT_CARD;
    int64_t inputs = q->input_images >= 0 ? q->input_images : q->operation == OPERATION_GENERATIONS ? 0 : 1;

    if (q->n > max_n)
        return above("n", max_n, q->n, err);
    if (q->partial_images > (card != NULL ? card->max_partials : 0))
        return above("partial_images", card != NULL ? card->max_partials : 0, q->partial_images, err);
    *spec = (struct image_spec){
        .card = card,
        .operation = (enum image_operation)q->operation,
        .n = (int)q->n,
        .partial_images = (int)q->partial_images,
        .prompt_bytes = q->prompt_tokens, /* a token counts as a byte does: at most one of the other */
        .n_inputs = (int)inputs,          /* of unknown size: as the dearest there are */
    };
    memcpy(spec->model, q->model, sizeof(spec->model));
    memcpy(spec->size, q->size, sizeof(spec->size));
    memcpy(spec->quality, q->quality, sizeof(spec->quality));
    return ERR_OK;
}

static void render_lines(const struct quote *quote, struct buf *out)
{
    render_open(out, "lines", '[');
    for (int unit = 0; unit < PRICE_UNITS; unit++) {
        if (quote->lines[unit] == 0) /* nothing of it, or it has no price */
            continue;
        render_open(out, NULL, '{');
        render_text(out, "unit", slice_from(price_unit_name((enum price_unit)unit)));
        render_int(out, "quantity", quote->quantities.of[unit]);
        render_nano(out, "amount", quote->lines[unit]);
        render_close(out, '}');
    }
    render_close(out, ']');
}

/* hold and lines speak in the caller's price: retail where a customer pays from its own wallet. */
static void reply_quote(struct admin_call *call, const struct quote_body *q, const struct admit_quote *quote)
{
    const struct quote *paid = q->customer != NULL && q->customer->own_wallet ? &quote->retail : &quote->wholesale;
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_open(&out, NULL, '{');
    render_text(&out, "object", SLICE("quote"));
    if (call->who.tenant_row == 0)
        render_nano(&out, "cost", quote->cost.nano);
    render_nano(&out, "wholesale", quote->wholesale.nano);
    render_nano(&out, "retail", quote->retail.nano);
    render_nano(&out, "hold", paid->nano);
    render_lines(paid, &out);
    render_close(&out, '}');
    admin_reply_kept(call, &out);
    buf_dispose(&out);
}

static void make_quote(struct admin_call *call)
{
    struct quote_body q = {0};
    struct image_spec spec;
    struct admit_quote quote;
    struct err err;

    call->failed = NULL;
    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, &q, &err) == ERR_OK &&
        fill_spec(&q, &spec, &err) == ERR_OK &&
        admit_price(call->catalog, q.tenant, q.customer, &spec, clock_wall(), &quote, &err) == ERR_OK)
        reply_quote(call, &q, &quote);
    else
        admin_fail(call, &err);
}

static bool no_key(struct admin_call *call, const struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return false;
    make_quote(call);
    return true;
}

static void found_key(struct admin_call *call)
{
    struct quote_key *key = call->state;
    const struct api_key *k = (const struct api_key *)call->op.list.items[0];

    if (k->super.status != RECORD_REVOKED) {
        key->tenant_row = k->tenant_row;
        key->customer_row = k->customer_row;
    }
    make_quote(call);
}

/* Keys are in no catalog: the store is asked. */
static void ask_for_key(struct admin_call *call, struct id id)
{
    admin_keep(call, mem_zalloc(sizeof(struct quote_key)), free);
    admin_begin(call, OP_LIST);
    call->op.list.super.question = STORE_GET;
    call->op.list.kind = RECORD_KEY;
    call->op.list.id = id;
    call->op.list.tenant_row = call->who.tenant_row;
    call->op.list.limit = 1;
    call->failed = no_key;
    admin_submit(call, found_key);
}

void quote_create(struct admin_call *call)
{
    struct json_object *value = NULL;
    struct id id;

    if (json_object_object_get_ex(call->body, "key", &value) && json_object_is_type(value, json_type_string) &&
        id_parse(record_prefix(RECORD_KEY), slice_from(json_object_get_string(value)), &id) && !id_is_zero(id))
        ask_for_key(call, id);
    else
        make_quote(call);
}
