/* token.c - admin tokens: for the platform or for one tenant, to change things or only to look. The secret is shown
 * once. A token never makes one that may more than itself, or for longer. */
#include "body.h"
#include "render.h"

/* A tenant's token makes tokens of its own tenant, and need not say so. */
static enum err_code read_scope(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                struct err *err)
{
    struct admin_token *token = target;
    const void *tenant;
    enum err_code code;

    token->tenant_row = call->who.tenant_row;
    if (value == NULL)
        return ERR_OK;
    if (json_object_is_type(value, json_type_string) && strcmp(json_object_get_string(value), "platform") == 0)
        return token->tenant_row == 0
                   ? ERR_OK
                   : err_set(err, ERR_FORBIDDEN, name, "Only the platform may make tokens of the platform.");
    code = body_record(call, RECORD_TENANT, "tenant", name, value, &tenant, err);
    if (code != ERR_OK)
        return code;
    if (!noun_sees(&call->who, &noun_tenant, tenant))
        return admin_no_such(err, "tenant", name, slice_from(json_object_get_string(value)));
    token->tenant_row = ((const struct record *)tenant)->row;
    return ERR_OK;
}

static const struct body_choice scopes[] = {{"platform", 0}, {NULL, 0}}; /* besides a tenant's id */
static const struct body_choice roles[] = {{"admin", ADMIN_ADMIN}, {"viewer", ADMIN_VIEWER}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct admin_token, super.name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "scope", .type = BODY_OWN, .read = read_scope, .as = BODY_ID, .prefix = "ten", .choices = scopes},
    {.name = "role",
     .type = BODY_CHOICE,
     .offset = offsetof(struct admin_token, role),
     .otherwise = ADMIN_ADMIN,
     .choices = roles},
    {.name = "expires_at", .type = BODY_TIME, .offset = offsetof(struct admin_token, expires_at)},
};
const struct body_table token_fields = BODY_TABLE(fields);

static void render_token(const struct record *record, const struct refs *refs, struct buf *out)
{
    const struct admin_token *token = (const struct admin_token *)record;

    render_open(out, NULL, '{');
    render_id(out, "id", "adt", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_ADMIN_TOKEN)));
    render_text(out, "name", slice_from(record->name));
    if (token->tenant_row == 0)
        render_text(out, "scope", SLICE("platform"));
    else
        render_id(out, "scope", "ten", refs->tenant);
    render_text(out, "role", token->role == ADMIN_ADMIN ? SLICE("admin") : SLICE("viewer"));
    render_time(out, "expires_at", token->expires_at);
    if (!refs->audit)
        render_time(out, "last_used_at", token->last_used_at);
    noun_render_tail(record, out);
}

static void refer_token(const struct store_names *names, const struct record *record, struct refs *refs)
{
    refs->tenant = names_id(names, RECORD_TENANT, ((const struct admin_token *)record)->tenant_row);
}

static int64_t owner_of_token(const struct record *record)
{
    return ((const struct admin_token *)record)->tenant_row;
}

static struct record *copy_token(const struct record *record)
{
    struct admin_token *token = record_create(RECORD_ADMIN_TOKEN, 0);

    *token = *(const struct admin_token *)record;
    atomic_init(&token->super.refs, 1);
    return &token->super;
}

/* What a token makes does not outlive it. */
static enum err_code limit_life(const struct admin_call *call, struct admin_token *token, struct err *err)
{
    int64_t most = call->who.expires_at;

    if (most != 0 && token->expires_at > most)
        return err_set(err, ERR_FORBIDDEN, "expires_at", "A token cannot make one that expires after itself.");
    if (most != 0 && token->expires_at == 0)
        token->expires_at = most;
    return ERR_OK;
}

void token_create(struct admin_call *call)
{
    struct admin_token *token = record_create(RECORD_ADMIN_TOKEN, 0);
    struct err err;

    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, token, &err) == ERR_OK &&
        limit_life(call, token, &err) == ERR_OK) {
        secret_make_key(call->house->secrets, SECRET_ADMIN_TOKEN, call->secret, token->digest);
        noun_create(call, &token->super);
        return;
    }
    record_unref(token);
    admin_fail(call, &err);
}

const struct noun noun_token = {
    .kind = RECORD_ADMIN_TOKEN,
    .word = "admin token",
    .render = render_token,
    .refer = refer_token,
    .owner = owner_of_token,
    .copy = copy_token,
};
