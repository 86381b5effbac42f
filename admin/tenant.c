/* tenant.c - tenants: members, rules, rendering. What their money does is in wallet.c. */
#include "body.h"
#include "daemon/base/zone.h"
#include "render.h"

static enum err_code read_timezone(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                   struct err *err)
{
    struct tenant *t = target;
    struct zone *zone;
    enum err_code code;

    (void)call;
    if (value == NULL) {
        (void)slice_copy(SLICE("UTC"), t->timezone, sizeof(t->timezone));
        return ERR_OK;
    }
    code = body_text(name, value, 1, t->timezone, sizeof(t->timezone), err);
    if (code != ERR_OK)
        return code;
    code = zone_open(t->timezone, &zone, err);
    if (code == ERR_NOT_FOUND)
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': no such time zone: '%s'.", name,
                       t->timezone);
    if (code == ERR_OK)
        zone_unref(zone);
    return code;
}

static enum err_code read_book(struct admin_call *call, const char *name, struct json_object *value, void *target,
                               struct err *err)
{
    return body_book(call, PRICE_WHOLESALE, 0, name, value, &((struct tenant *)target)->book_row, err);
}

static const struct body_choice statuses[] = {{"active", RECORD_ACTIVE}, {"suspended", RECORD_SUSPENDED}, {NULL, 0}};
static const struct body_choice in_doubt_rules[] = {
    {"release", IN_DOUBT_RELEASE}, {"charge", IN_DOUBT_CHARGE}, {"keep", IN_DOUBT_KEEP}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct tenant, super.name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "external_id",
     .type = BODY_TEXT,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct tenant, super.external_id),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "timezone", /* of its budgets, too */
     .type = BODY_OWN,
     .flags = BODY_PLATFORM,
     .read = read_timezone,
     .as = BODY_TEXT,
     .cap = RECORD_TIMEZONE,
     .min = 1},
    {.name = "credit_limit",
     .type = BODY_MONEY,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct tenant, credit_limit),
     .max = BODY_MONEY_MAX},
    {.name = "price_book",
     .type = BODY_OWN,
     .read = read_book,
     .flags = BODY_PLATFORM,
     .as = BODY_ID,
     .prefix = "pbk",
     .choices = body_books},
    {.name = "markup_percent",
     .type = BODY_PERCENT,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct tenant, markup_ppm),
     .min = PRICE_MARKUP_MIN,
     .max = PRICE_MARKUP_MAX},
    {.name = "limits", .type = BODY_LIMITS, .flags = BODY_PLATFORM, .offset = offsetof(struct tenant, limits)},
    {.name = "budgets", .type = BODY_BUDGETS, .flags = BODY_PLATFORM, .offset = offsetof(struct tenant, budgets)},
    {.name = "policy", .type = BODY_POLICY, .flags = BODY_PLATFORM, .offset = offsetof(struct tenant, policy)},
    {.name = "in_doubt",
     .type = BODY_CHOICE,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct tenant, in_doubt),
     .otherwise = -1,
     .choices = in_doubt_rules},
    {.name = "status",
     .type = BODY_CHOICE,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct tenant, super.status),
     .otherwise = RECORD_ACTIVE,
     .choices = statuses},
};
const struct body_table tenant_fields = BODY_TABLE(fields);

/* ---- rendering ---- */

static void render_tenant(const struct record *record, const struct refs *refs, struct buf *out)
{
    static const char *const rules[] = {"release", "charge", "keep"};
    const struct tenant *t = (const struct tenant *)record;

    render_open(out, NULL, '{');
    render_id(out, "id", "ten", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_TENANT)));
    render_text(out, "name", slice_from(record->name));
    render_text_or_null(out, "external_id", record->external_id);
    render_text(out, "status", slice_from(record_status_name(record->status)));
    render_text(out, "timezone", slice_from(t->timezone));
    render_nano(out, "credit_limit", t->credit_limit);
    render_scaled(out, "markup_percent", t->markup_ppm, MONEY_PPM_DIGITS);
    render_json(out, "policy", t->policy, "null");
    render_json(out, "limits", t->limits, "null");
    render_json(out, "budgets", t->budgets, "[]");
    render_text_or_null(out, "in_doubt", t->in_doubt >= 0 ? rules[t->in_doubt] : NULL);
    render_id(out, "price_book", "pbk", refs->book);
    if (!refs->audit) {
        render_open(out, "balance", '{');
        wallet_render_balance(out, &refs->balance);
        render_close(out, '}');
    }
    noun_render_tail(record, out);
}

/* The balance is that of a tenant without transfers; the store's own replaces it where there is one. */
static void refer_tenant(const struct store_names *names, const struct record *record, struct refs *refs)
{
    const struct tenant *t = (const struct tenant *)record;

    refs->book = names_id(names, RECORD_BOOK, t->book_row);
    refs->balance = (struct store_balance){.credit_limit = t->credit_limit};
}

static int64_t owner_of_tenant(const struct record *record)
{
    return record->row;
}

/* ---- changing ---- */

static struct record *copy_tenant(const struct record *record)
{
    const struct tenant *old = (const struct tenant *)record;
    struct tenant *t = record_create(RECORD_TENANT, 0);

    *t = *old;
    atomic_init(&t->super.refs, 1);
    t->policy = noun_copy_text(old->policy);
    t->limits = noun_copy_text(old->limits);
    t->budgets = noun_copy_text(old->budgets);
    return &t->super;
}

static enum err_code change_tenant(struct admin_call *call, struct record **copy, struct err *err)
{
    return body_read(call, fields, sizeof(fields) / sizeof(fields[0]), false, *copy, err);
}

void tenant_create(struct admin_call *call)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);
    struct err err;

    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, t, &err) == ERR_OK) {
        noun_create(call, &t->super);
        return;
    }
    record_unref(t);
    admin_fail(call, &err);
}

const struct noun noun_tenant = {
    .kind = RECORD_TENANT,
    .word = "tenant",
    .render = render_tenant,
    .refer = refer_tenant,
    .owner = owner_of_tenant,
    .copy = copy_tenant,
    .change = change_tenant,
    .has_external_id = true,
    .statuses = statuses,
};
