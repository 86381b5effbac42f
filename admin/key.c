/* key.c - API keys: members, rules, rendering, rotation, revocation. Many at once are key_bulk.c's.
 *
 * The text of a key exists in this process from its creation to the end of that call, once in the call (wiped) and once
 * in the rendered answer (wiped); the store keeps its digest, and for a day the sealed answer when there was an
 * idempotency key.
 *
 *    create          rotate {grace}: a new secret; the old one works, too, until the grace ends
 *   -------> ACTIVE <--------'
 *              |  ^ PATCH status          revoke
 *              v  |              ACTIVE, DISABLED -------> REVOKED: shown, never changed again
 *           DISABLED
 */
#include "key.h"

#include <stdlib.h>

#include "render.h"

enum {
    SHOWN_DIGITS = 4,          /* of the random part, at both ends */
    GRACE_MAX = 30 * 24 * 3600 /* seconds that an old secret may go on */
};

static enum err_code read_tenant(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    return body_tenant(call, name, value, &((struct api_key *)target)->tenant_row, err);
}

/* Stands after the tenant in the table: a customer must be that tenant's. */
static enum err_code read_customer(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                   struct err *err)
{
    struct api_key *k = target;
    const void *customer;
    enum err_code code;

    if (value == NULL)
        return ERR_OK;
    code = body_record(call, RECORD_CUSTOMER, "customer", name, value, &customer, err);
    if (code != ERR_OK)
        return code;
    if (((const struct customer *)customer)->tenant_row != k->tenant_row)
        return admin_no_such(err, "customer", name, slice_from(json_object_get_string(value)));
    k->customer_row = ((const struct record *)customer)->row;
    return ERR_OK;
}

static const struct body_choice modes[] = {{"live", false}, {"test", true}, {NULL, 0}};

static enum err_code read_mode(struct admin_call *call, const char *name, struct json_object *value, void *target,
                               struct err *err)
{
    const struct body_field field = {.name = name, .choices = modes};
    int test = false;
    enum err_code code = ERR_OK;

    (void)call;
    if (value != NULL)
        code = body_choose(&field, value, &test, err);
    ((struct api_key *)target)->test = test != 0;
    return code;
}

static const struct body_choice statuses[] = {{"active", RECORD_ACTIVE}, {"disabled", RECORD_DISABLED}, {NULL, 0}};
/* That a list can be filtered by. */
static const struct body_choice key_statuses[] = {
    {"active", RECORD_ACTIVE}, {"disabled", RECORD_DISABLED}, {"revoked", RECORD_REVOKED}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "tenant", .type = BODY_OWN, .flags = BODY_FIXED, .read = read_tenant, .as = BODY_ID, .prefix = "ten"},
    {.name = "customer", .type = BODY_OWN, .flags = BODY_FIXED, .read = read_customer, .as = BODY_ID, .prefix = "cus"},
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct api_key, super.name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "external_id",
     .type = BODY_TEXT,
     .offset = offsetof(struct api_key, super.external_id),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "mode", .type = BODY_OWN, .flags = BODY_FIXED, .read = read_mode, .as = BODY_CHOICE, .choices = modes},
    {.name = "expires_at", .type = BODY_TIME, .offset = offsetof(struct api_key, expires_at)},
    {.name = "policy", .type = BODY_POLICY, .offset = offsetof(struct api_key, policy)},
    {.name = "limits", .type = BODY_LIMITS, .offset = offsetof(struct api_key, limits)},
    {.name = "budgets", .type = BODY_BUDGETS, .offset = offsetof(struct api_key, budgets)},
    {.name = "status",
     .type = BODY_CHOICE,
     .offset = offsetof(struct api_key, super.status),
     .otherwise = RECORD_ACTIVE,
     .choices = statuses},
};
const struct body_table key_fields = BODY_TABLE(fields);

/* ---- rendering ---- */

static void render_key(const struct record *record, const struct refs *refs, struct buf *out)
{
    const struct api_key *k = (const struct api_key *)record;

    render_open(out, NULL, '{');
    render_id(out, "id", "key", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_KEY)));
    render_id(out, "tenant", "ten", refs->tenant);
    render_id(out, "customer", "cus", refs->customer);
    render_text(out, "name", slice_from(record->name));
    render_text_or_null(out, "external_id", record->external_id);
    render_text(out, "status", slice_from(record_status_name(record->status)));
    render_text(out, "mode", k->test ? SLICE("test") : SLICE("live"));
    render_text(out, "prefix", slice_from(k->prefix));
    render_text(out, "last4", slice_from(k->last4));
    render_time(out, "expires_at", k->expires_at);
    if (!refs->audit)
        render_time(out, "last_used_at", k->last_used_at);
    render_time(out, "old_secret_expires_at", refs->audit || k->old_until > clock_wall() ? k->old_until : 0);
    render_json(out, "policy", k->policy, "null");
    render_json(out, "limits", k->limits, "null");
    render_json(out, "budgets", k->budgets, "[]");
    noun_render_tail(record, out);
}

static void refer_key(const struct store_names *names, const struct record *record, struct refs *refs)
{
    const struct api_key *k = (const struct api_key *)record;

    refs->tenant = names_id(names, RECORD_TENANT, k->tenant_row);
    refs->customer = names_id(names, RECORD_CUSTOMER, k->customer_row);
}

static int64_t owner_of_key(const struct record *record)
{
    return ((const struct api_key *)record)->tenant_row;
}

/* ---- changing ---- */

static struct record *copy_key(const struct record *record)
{
    const struct api_key *old = (const struct api_key *)record;
    struct api_key *k = record_create(RECORD_KEY, 0);

    *k = *old;
    atomic_init(&k->super.refs, 1);
    k->credential = NULL; /* the store makes the new one */
    k->policy = noun_copy_text(old->policy);
    k->limits = noun_copy_text(old->limits);
    k->budgets = noun_copy_text(old->budgets);
    return &k->super;
}

static enum err_code change_key(struct admin_call *call, struct record **copy, struct err *err)
{
    return body_read(call, fields, sizeof(fields) / sizeof(fields[0]), false, *copy, err);
}

enum err_code key_read(struct admin_call *call, struct api_key *k, struct err *err)
{
    return body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, k, err);
}

void key_draw(struct admin_call *call, struct api_key *k, char secret[SECRET_KEY_TEXT])
{
    enum secret_kind kind = k->test ? SECRET_API_KEY_TEST : SECRET_API_KEY;
    struct slice head = k->test ? SLICE("sk-tg-test-") : SLICE("sk-tg-");
    size_t len;

    secret_make_key(call->house->secrets, kind, secret, k->digest);
    len = strlen(secret);
    TG_ASSERT(head.len + SHOWN_DIGITS < sizeof(k->prefix) && len > head.len + 2 * SHOWN_DIGITS);
    (void)slice_copy((struct slice){secret, head.len + SHOWN_DIGITS}, k->prefix, sizeof(k->prefix));
    (void)slice_copy((struct slice){secret + len - SHOWN_DIGITS, SHOWN_DIGITS}, k->last4, sizeof(k->last4));
}

void key_create(struct admin_call *call)
{
    struct api_key *k = record_create(RECORD_KEY, 0);
    struct err err;

    if (key_read(call, k, &err) == ERR_OK) {
        key_draw(call, k, call->secret);
        noun_create(call, &k->super);
        return;
    }
    record_unref(k);
    admin_fail(call, &err);
}

/* ---- rotation ---- */

struct rotate_body {
    int64_t grace; /* microseconds */
};

static const struct body_field rotation[] = {
    {.name = "grace_seconds",
     .type = BODY_SECONDS,
     .offset = offsetof(struct rotate_body, grace),
     .min = 0,
     .max = GRACE_MAX},
};
const struct body_table rotate_fields = BODY_TABLE(rotation);

/* Of the secrets before the last one none works any more, whatever grace it had. */
static void rotate_fetched(struct admin_call *call, const struct record *record)
{
    struct rotate_body body = {0};
    struct api_key *k;
    struct err err;

    if (noun_check_changeable(call, record, &err) != ERR_OK ||
        body_read(call, rotation, sizeof(rotation) / sizeof(rotation[0]), true, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    k = (struct api_key *)copy_key(record);
    memset(k->old_digest, 0, sizeof(k->old_digest));
    k->old_until = 0;
    if (body.grace > 0) {
        memcpy(k->old_digest, k->digest, sizeof(k->old_digest));
        k->old_until = clock_wall() + body.grace;
    }
    key_draw(call, k, call->secret);
    noun_put(call, &k->super);
}

void key_rotate(struct admin_call *call)
{
    noun_fetch(call, rotate_fetched);
}

/* ---- revocation ---- */

/* Revoking again only gives a new version. */
static void revoke_fetched(struct admin_call *call, const struct record *record)
{
    struct record *copy;
    struct err err;

    if (noun_check_match(call, record, &err) != ERR_OK || body_read(call, NULL, 0, true, NULL, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    copy = copy_key(record);
    copy->status = RECORD_REVOKED;
    memset(((struct api_key *)copy)->old_digest, 0, SECRET_DIGEST);
    ((struct api_key *)copy)->old_until = 0;
    noun_put(call, copy);
}

void key_revoke(struct admin_call *call)
{
    noun_fetch(call, revoke_fetched);
}

const struct noun noun_key = {
    .kind = RECORD_KEY,
    .word = "key",
    .render = render_key,
    .refer = refer_key,
    .owner = owner_of_key,
    .copy = copy_key,
    .change = change_key,
    .has_external_id = true,
    .has_tenant = true,
    .statuses = key_statuses,
};
