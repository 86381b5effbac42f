/* channel.c - channels: members, rules, rendering; and a small call to see whether one answers.
 *
 * A channel's credential is write-only: it is never rendered, described or logged, and lives in guarded memory. */
#include <arpa/inet.h>
#include <stdlib.h>

#include "body.h"
#include "render.h"

enum {
    PRIORITY_MAX = 1000000,
    WEIGHT_MAX = 1000,
    CONCURRENCY_MAX = 1000000,
    TIMEOUT_MAX = 3600, /* seconds */
    TENANTS_MAX = 1000
};

/* ---- members of their own kind ---- */

static enum err_code bad_url(const char *name, const char *what, struct err *err)
{
    return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': %s.", name, what);
}

/* Past a name, an IPv4 address or an IPv6 address in brackets; NULL: it is none of these. */
static const char *skip_host(const char *p)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    struct in6_addr ignored;
    char text[INET6_ADDRSTRLEN];
    const char *end;

    if (*p != '[')
        return p + strspn(p, letters);
    end = strchr(p, ']');
    if (end == NULL || !slice_copy((struct slice){p + 1, (size_t)(end - p - 1)}, text, sizeof(text)) ||
        inet_pton(AF_INET6, text, &ignored) != 1)
        return NULL;
    return end + 1;
}

static const char *skip_port(const char *p)
{
    unsigned long long port;
    size_t digits;

    if (*p != ':')
        return p;
    digits = strspn(p + 1, "0123456789");
    return p[1] != '0' && slice_to_u64((struct slice){p + 1, digits}, &port) && port <= UINT16_MAX ? p + 1 + digits
                                                                                                   : NULL;
}

static enum err_code check_url(const char *name, const char *url, struct err *err)
{
    const char *host = strncmp(url, "https://", 8) == 0 ? url + 8 : strncmp(url, "http://", 7) == 0 ? url + 7 : NULL;
    const char *end;

    if (host == NULL)
        return bad_url(name, "expected a URL that starts with https:// or http://", err);
    if (host[0] == '\0' || host[0] == '/' || host[0] == ':')
        return bad_url(name, "the URL names no host", err);
    if (strpbrk(url, "?#@\\ ") != NULL)
        return bad_url(name, "the URL may hold no credentials, query, fragment or blanks", err);
    end = skip_host(host);
    end = end != NULL ? skip_port(end) : NULL;
    if (end == NULL || end == host || (*end != '\0' && *end != '/'))
        return bad_url(
            name, "after https:// or http:// a host must stand, then :PORT or nothing, then a path or nothing", err);
    for (; *end != '\0'; end++) {
        if ((unsigned char)*end > 0x7e)
            return bad_url(name, "the URL may hold ASCII characters only", err);
    }
    return ERR_OK;
}

static enum err_code read_url(struct admin_call *call, const char *name, struct json_object *value, void *target,
                              struct err *err)
{
    struct channel *ch = target;
    enum err_code code;
    size_t len;

    (void)call;
    if (value == NULL)
        return err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    code = body_text(name, value, 1, ch->base_url, sizeof(ch->base_url), err);
    if (code == ERR_OK)
        code = check_url(name, ch->base_url, err);
    for (len = strlen(ch->base_url); len > 0 && ch->base_url[len - 1] == '/'; len--)
        ch->base_url[len - 1] = '\0';
    return code;
}

static void set_credential(struct channel *ch, const char *text)
{
    size_t size = strlen(text) + 1;

    secret_free(ch->credential);
    ch->credential = secret_alloc(size);
    memcpy(ch->credential, text, size);
}

/* Goes into a header as it is: printable ASCII without blanks. */
static enum err_code read_credential(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                     struct err *err)
{
    struct channel *ch = target;
    char text[LIMIT_CREDENTIAL + 1];
    enum err_code code;

    (void)call;
    if (value == NULL && ch->channel_kind == CHANNEL_SANDBOX) {
        set_credential(ch, "sandbox"); /* takes any */
        return ERR_OK;
    }
    if (value == NULL)
        return err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    code = body_text(name, value, 1, text, sizeof(text), err);
    for (const char *p = text; code == ERR_OK && *p != '\0'; p++) {
        if (*p <= ' ' || *p > '~')
            code = err_set(err, ERR_INVALID_VALUE, name,
                           "Invalid value for '%s': it holds blanks or characters outside ASCII.", name);
    }
    if (code == ERR_OK)
        set_credential(ch, text);
    secret_wipe(text, sizeof(text));
    return code;
}

/* How many models the body names; the record is made for that many. -1: it does not say. */
static int count_models(const struct admin_call *call)
{
    struct json_object *models;

    if (!json_find(call->body, "models", &models) || !json_object_is_type(models, json_type_object))
        return -1;
    return json_object_object_length(models) <= LIMIT_CHANNEL_MODELS ? json_object_object_length(models) : 0;
}

static enum err_code read_model(struct channel_model *m, const char *name, struct json_object *upstream,
                                struct err *err)
{
    struct json_object *text = json_object_new_string(name);
    enum err_code code = body_text("models", text, 1, m->name, sizeof(m->name), err);

    json_object_put(text);
    if (code != ERR_OK)
        return code;
    if (!json_object_is_type(upstream, json_type_string))
        return err_set(err, ERR_INVALID_TYPE, "models",
                       "Invalid type for 'models.%s': expected a string (the upstream's name), but got %s instead.",
                       m->name, upstream != NULL ? json_kind(upstream) : "null");
    return body_text("models", upstream, 1, m->upstream, sizeof(m->upstream), err);
}

static enum err_code read_models(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    struct channel *ch = target;
    enum err_code code = ERR_OK;
    int i = 0;

    (void)call;
    if (value == NULL)
        return err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    if (!json_object_is_type(value, json_type_object))
        return body_wrong_type(name, "an object", value, err);
    if (json_object_object_length(value) < 1 || json_object_object_length(value) > LIMIT_CHANNEL_MODELS)
        return err_set(err, ERR_INVALID_VALUE, name,
                       "Invalid value for '%s': expected 1 to %d models, but got %d instead.", name,
                       LIMIT_CHANNEL_MODELS, json_object_object_length(value));
    TG_ASSERT(ch->n_models == json_object_object_length(value));
    json_object_object_foreach(value, public_name, upstream)
    {
        if (code == ERR_OK)
            code = read_model(&ch->models[i++], public_name, upstream, err);
    }
    return code;
}

static enum err_code read_cost_book(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                    struct err *err)
{
    return body_book(call, PRICE_COST, 0, name, value, &((struct channel *)target)->cost_book_row, err);
}

static enum err_code read_tenants(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                  struct err *err)
{
    struct channel *ch = target;
    size_t n = value != NULL && json_object_is_type(value, json_type_array) ? json_object_array_length(value) : 0;
    enum err_code code = ERR_OK;

    if (value != NULL && !json_object_is_type(value, json_type_array))
        return body_wrong_type(name, "an array", value, err);
    if (n > TENANTS_MAX)
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': more than %d tenants.", name,
                       TENANTS_MAX);
    free(ch->tenant_rows);
    ch->tenant_rows = n > 0 ? mem_zalloc(n * sizeof(*ch->tenant_rows)) : NULL;
    ch->n_tenants = 0;
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        const void *tenant = NULL;

        code = body_record(call, RECORD_TENANT, "tenant", name, json_object_array_get_idx(value, i), &tenant, err);
        if (code == ERR_OK)
            ch->tenant_rows[ch->n_tenants++] = ((const struct record *)tenant)->row;
    }
    return code;
}

/* Azure's URLs and headers are another dialect, which this version does not speak. */
static const struct body_choice kinds[] = {{"openai", CHANNEL_OPENAI}, {"sandbox", CHANNEL_SANDBOX}, {NULL, 0}};
static const struct body_choice statuses[] = {{"active", RECORD_ACTIVE}, {"disabled", RECORD_DISABLED}, {NULL, 0}};

static const struct body_field upstream_field = {.type = BODY_TEXT, .cap = LIMIT_MODEL, .min = 1};
static const struct body_field tenant_field = {.type = BODY_ID, .prefix = "ten"};

/* kind stands before api_key, which depends on it. */
static const struct body_field fields[] = {
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct channel, super.name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "kind",
     .type = BODY_CHOICE,
     .flags = BODY_REQUIRED | BODY_FIXED,
     .offset = offsetof(struct channel, channel_kind),
     .choices = kinds},
    {.name = "base_url",
     .type = BODY_OWN,
     .flags = BODY_REQUIRED,
     .read = read_url,
     .as = BODY_TEXT,
     .cap = LIMIT_URL,
     .min = 1,
     .pattern = "^https?://(?:[0-9A-Za-z._-]+|\\[[0-9A-Fa-f:.]+\\])(?::[1-9][0-9]{0,4})?(?:/[!\"$->A-\\[\\]-~]*)?$"},
    {.name = "api_key",
     .type = BODY_OWN,
     .read = read_credential,
     .as = BODY_TEXT,
     .cap = LIMIT_CREDENTIAL + 1,
     .min = 1,
     .pattern = "^[!-~]+$"},
    {.name = "models",
     .type = BODY_OWN,
     .flags = BODY_REQUIRED,
     .read = read_models,
     .as = BODY_MAP,
     .cap = LIMIT_MODEL,
     .min = 1,
     .max = LIMIT_CHANNEL_MODELS,
     .item = &upstream_field},
    {.name = "priority",
     .type = BODY_INT,
     .offset = offsetof(struct channel, priority),
     .min = -PRIORITY_MAX,
     .max = PRIORITY_MAX},
    {.name = "weight",
     .type = BODY_INT,
     .offset = offsetof(struct channel, weight),
     .min = 1,
     .max = WEIGHT_MAX,
     .otherwise = 1},
    {.name = "max_concurrency",
     .type = BODY_INT,
     .offset = offsetof(struct channel, max_concurrency),
     .min = 1,
     .max = CONCURRENCY_MAX},
    {.name = "timeout_seconds",
     .type = BODY_SECONDS,
     .offset = offsetof(struct channel, timeout),
     .min = 1,
     .max = TIMEOUT_MAX},
    {.name = "cost_book",
     .type = BODY_OWN,
     .read = read_cost_book,
     .as = BODY_ID,
     .prefix = "pbk",
     .choices = body_books},
    {.name = "tenants",
     .type = BODY_OWN,
     .read = read_tenants,
     .as = BODY_ARRAY,
     .max = TENANTS_MAX,
     .item = &tenant_field},
    {.name = "status",
     .type = BODY_CHOICE,
     .offset = offsetof(struct channel, super.status),
     .otherwise = RECORD_ACTIVE,
     .choices = statuses},
    {.name = "api_version", .type = BODY_UNSUPPORTED}, /* Azure's */
};
const struct body_table channel_fields = BODY_TABLE(fields);

/* ---- rendering ---- */

static void render_members(const struct channel *ch, struct buf *out)
{
    static const char *const kind_names[] = {"openai", "azure", "sandbox"};

    render_text(out, "name", slice_from(ch->super.name));
    render_text(out, "kind", slice_from(kind_names[ch->channel_kind]));
    render_text(out, "status", slice_from(record_status_name(ch->super.status)));
    render_text(out, "base_url", slice_from(ch->base_url));
    render_open(out, "models", '{');
    for (int i = 0; i < ch->n_models; i++)
        render_text(out, ch->models[i].name, slice_from(ch->models[i].upstream));
    render_close(out, '}');
    render_int(out, "priority", ch->priority);
    render_int(out, "weight", ch->weight);
    render_int_or_null(out, "max_concurrency", ch->max_concurrency);
    render_int_or_null(out, "timeout_seconds", ch->timeout / CLOCK_SECOND);
    render_text_or_null(out, "api_version", ch->api_version);
}

static void render_channel(const struct record *record, const struct refs *refs, struct buf *out)
{
    render_open(out, NULL, '{');
    render_id(out, "id", "chn", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_CHANNEL)));
    render_members((const struct channel *)record, out);
    render_id(out, "cost_book", "pbk", refs->book);
    render_json(out, "tenants", refs->tenants, "[]");
    noun_render_tail(record, out);
}

static void refer_channel(const struct store_names *names, const struct record *record, struct refs *refs)
{
    const struct channel *ch = (const struct channel *)record;
    struct buf ids;

    refs->book = names_id(names, RECORD_BOOK, ch->cost_book_row);
    buf_init(&ids, TENANTS_MAX * (ID_TEXT + 4));
    buf_append_char(&ids, '[');
    for (int i = 0; i < ch->n_tenants; i++) {
        struct id id = names_id(names, RECORD_TENANT, ch->tenant_rows[i]);

        if (!id_is_zero(id))
            render_id(&ids, NULL, "ten", id);
    }
    buf_append_str(&ids, "]");
    buf_append_char(&ids, '\0');
    TG_ASSERT(!ids.full);
    refs->tenants = ids.p;
}

static int64_t owner_of_channel(const struct record *record)
{
    (void)record;
    return 0;
}

/* ---- changing ---- */

static struct channel *channel_of(int n_models)
{
    struct channel *ch = record_create(RECORD_CHANNEL, (size_t)n_models * sizeof(struct channel_model));

    ch->n_models = n_models;
    return ch;
}

/* With room for another number of models; those of the old are copied when there is room for them all. */
static struct channel *copy_for(const struct channel *old, int n_models)
{
    struct channel *ch = channel_of(n_models);

    *ch = *old; /* without the models, which stand behind the struct */
    atomic_init(&ch->super.refs, 1);
    ch->n_models = n_models;
    if (n_models == old->n_models)
        memcpy(ch->models, old->models, (size_t)n_models * sizeof(ch->models[0]));
    ch->credential = NULL;
    if (old->credential != NULL)
        set_credential(ch, old->credential);
    ch->tenant_rows = NULL;
    if (old->n_tenants > 0) {
        ch->tenant_rows = mem_alloc((size_t)old->n_tenants * sizeof(*ch->tenant_rows));
        memcpy(ch->tenant_rows, old->tenant_rows, (size_t)old->n_tenants * sizeof(*ch->tenant_rows));
    }
    return ch;
}

static struct record *copy_channel(const struct record *record)
{
    const struct channel *old = (const struct channel *)record;

    return &copy_for(old, old->n_models)->super;
}

static enum err_code change_channel(struct admin_call *call, struct record **copy, struct err *err)
{
    int n_models = count_models(call);

    if (n_models >= 0) {
        struct channel *resized = copy_for((const struct channel *)*copy, n_models);

        record_unref(*copy);
        *copy = &resized->super;
    }
    return body_read(call, fields, sizeof(fields) / sizeof(fields[0]), false, *copy, err);
}

void channel_create(struct admin_call *call)
{
    int n_models = count_models(call);
    struct channel *ch = channel_of(n_models > 0 ? n_models : 0);
    struct err err;

    if (body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, ch, &err) == ERR_OK) {
        noun_create(call, &ch->super);
        return;
    }
    record_unref(ch);
    admin_fail(call, &err);
}

const struct noun noun_channel = {
    .kind = RECORD_CHANNEL,
    .word = "channel",
    .render = render_channel,
    .refer = refer_channel,
    .owner = owner_of_channel,
    .copy = copy_channel,
    .change = change_channel,
    .statuses = statuses,
};

/* ---- testing ---- */

static void tested(void *ctx, bool ok, int status, int64_t duration_us, const char *why)
{
    struct admin_call *call = ctx;
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_open(&out, NULL, '{');
    render_bool(&out, "ok", ok);
    render_int_or_null(&out, "status", status);
    render_int(&out, "duration_ms", duration_us / 1000);
    if (why != NULL && why[0] != '\0')
        render_text(&out, "error", slice_from(why));
    render_close(&out, '}');
    admin_reply_kept(call, &out);
    buf_dispose(&out);
}

/* The probe copies what it needs; the record goes with the call. When the client leaves meanwhile, the answer goes
 * nowhere. */
static void probe(struct admin_call *call, const struct record *record)
{
    struct err err;

    if (body_read(call, NULL, 0, true, NULL, &err) == ERR_OK)
        relay_probe(call->loop, (const struct channel *)record, tested, call);
    else
        admin_fail(call, &err);
}

void channel_test(struct admin_call *call)
{
    noun_fetch(call, probe);
}
