/* customer.c - end customers of a tenant: members, rules, rendering. What their money does is in wallet.c.
 *
 * All of a customer is its tenant's business, so a tenant's token may set every member. With a shared wallet it pays
 * from its tenant's: then it has neither credit line nor balance. */
#include "body.h"
#include "render.h"

static enum err_code read_tenant(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    return body_tenant(call, name, value, &((struct customer *)target)->tenant_row, err);
}

static const struct body_choice wallets[] = {{"shared", false}, {"own", true}, {NULL, 0}};

static enum err_code read_wallet(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    const struct body_field field = {.name = name, .choices = wallets};
    int own = false;
    enum err_code code = ERR_OK;

    (void)call;
    if (value != NULL)
        code = body_choose(&field, value, &own, err);
    ((struct customer *)target)->own_wallet = own != 0;
    return code;
}

static enum err_code read_book(struct admin_call *call, const char *name, struct json_object *value, void *target,
                               struct err *err)
{
    struct customer *c = target;

    return body_book(call, PRICE_RETAIL, c->tenant_row, name, value, &c->book_row, err);
}

static const struct body_choice statuses[] = {{"active", RECORD_ACTIVE}, {"suspended", RECORD_SUSPENDED}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "tenant", .type = BODY_OWN, .flags = BODY_FIXED, .read = read_tenant, .as = BODY_ID, .prefix = "ten"},
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct customer, super.name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "external_id",
     .type = BODY_TEXT,
     .offset = offsetof(struct customer, super.external_id),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "wallet", .type = BODY_OWN, .read = read_wallet, .as = BODY_CHOICE, .choices = wallets},
    {.name = "credit_limit",
     .type = BODY_MONEY,
     .offset = offsetof(struct customer, credit_limit),
     .max = BODY_MONEY_MAX},
    {.name = "price_book", .type = BODY_OWN, .read = read_book, .as = BODY_ID, .prefix = "pbk", .choices = body_books},
    {.name = "markup_percent",
     .type = BODY_PERCENT,
     .offset = offsetof(struct customer, markup_ppm),
     .min = PRICE_MARKUP_MIN,
     .max = PRICE_MARKUP_MAX},
    {.name = "limits", .type = BODY_LIMITS, .offset = offsetof(struct customer, limits)},
    {.name = "budgets", .type = BODY_BUDGETS, .offset = offsetof(struct customer, budgets)},
    {.name = "policy", .type = BODY_POLICY, .offset = offsetof(struct customer, policy)},
    {.name = "status",
     .type = BODY_CHOICE,
     .offset = offsetof(struct customer, super.status),
     .otherwise = RECORD_ACTIVE,
     .choices = statuses},
};
const struct body_table customer_fields = BODY_TABLE(fields);

static enum err_code read_customer(struct admin_call *call, bool create, struct customer *c, struct err *err)
{
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), create, c, err);

    if (code == ERR_OK && !c->own_wallet && c->credit_limit != 0)
        code = err_set(err, ERR_INVALID_VALUE, "credit_limit",
                       "A customer with a shared wallet has no credit line of its own: 'credit_limit' must be \"0\".");
    return code;
}

/* ---- rendering ---- */

static void render_members(const struct customer *c, struct buf *out)
{
    render_text(out, "name", slice_from(c->super.name));
    render_text_or_null(out, "external_id", c->super.external_id);
    render_text(out, "status", slice_from(record_status_name(c->super.status)));
    render_text(out, "wallet", c->own_wallet ? SLICE("own") : SLICE("shared"));
    render_nano(out, "credit_limit", c->credit_limit);
    render_scaled(out, "markup_percent", c->markup_ppm, MONEY_PPM_DIGITS);
    render_json(out, "policy", c->policy, "null");
    render_json(out, "limits", c->limits, "null");
    render_json(out, "budgets", c->budgets, "[]");
}

static void render_customer(const struct record *record, const struct refs *refs, struct buf *out)
{
    const struct customer *c = (const struct customer *)record;

    render_open(out, NULL, '{');
    render_id(out, "id", "cus", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_CUSTOMER)));
    render_id(out, "tenant", "ten", refs->tenant);
    render_members(c, out);
    render_id(out, "price_book", "pbk", refs->book);
    if (!refs->audit && c->own_wallet) {
        render_open(out, "balance", '{');
        wallet_render_balance(out, &refs->balance);
        render_close(out, '}');
    } else if (!refs->audit) {
        render_null(out, "balance");
    }
    noun_render_tail(record, out);
}

/* The balance as refer_tenant has it. */
static void refer_customer(const struct store_names *names, const struct record *record, struct refs *refs)
{
    const struct customer *c = (const struct customer *)record;

    refs->tenant = names_id(names, RECORD_TENANT, c->tenant_row);
    refs->book = names_id(names, RECORD_BOOK, c->book_row);
    refs->balance = (struct store_balance){.credit_limit = c->credit_limit};
}

static int64_t owner_of_customer(const struct record *record)
{
    return ((const struct customer *)record)->tenant_row;
}

/* ---- changing ---- */

static struct record *copy_customer(const struct record *record)
{
    const struct customer *old = (const struct customer *)record;
    struct customer *c = record_create(RECORD_CUSTOMER, 0);

    *c = *old;
    atomic_init(&c->super.refs, 1);
    c->policy = noun_copy_text(old->policy);
    c->limits = noun_copy_text(old->limits);
    c->budgets = noun_copy_text(old->budgets);
    return &c->super;
}

static enum err_code change_customer(struct admin_call *call, struct record **copy, struct err *err)
{
    return read_customer(call, false, (struct customer *)*copy, err);
}

void customer_create(struct admin_call *call)
{
    struct customer *c = record_create(RECORD_CUSTOMER, 0);
    struct err err;

    if (read_customer(call, true, c, &err) == ERR_OK) {
        noun_create(call, &c->super);
        return;
    }
    record_unref(c);
    admin_fail(call, &err);
}

const struct noun noun_customer = {
    .kind = RECORD_CUSTOMER,
    .word = "customer",
    .render = render_customer,
    .refer = refer_customer,
    .owner = owner_of_customer,
    .copy = copy_customer,
    .change = change_customer,
    .has_external_id = true,
    .has_tenant = true,
    .statuses = statuses,
};
