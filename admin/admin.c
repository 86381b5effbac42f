/* admin.c - the house, and the wrapper around every route: who asks, whether it may, what it sent; then the noun's
 * handler.
 *
 * Order: 401 (429 after too many of them from one address, tries.h), 403 for a viewer that writes, 404 or 403 for a
 * tenant's token, 404 for an id that is none, 400 for the body and the idempotency key. Nothing of this depends on
 * whether the thing exists, so nothing can be learned about what is not one's own. Each call stays on its loop. */
#include "house.h"

#include <stdlib.h>
#include <strings.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "daemon/gate/auth.h"
#include "daemon/gate/touch.h"
#include "rules.h"
#include "tries.h"

struct admin_house *admin_house_create(struct store *store, struct secrets *secrets, struct relay_house *relay,
                                       struct front **front, const struct conf *conf)
{
    struct admin_house *house = mem_zalloc(sizeof(*house));
    char local[SECRET_KEY_TEXT];

    (void)conf; /* nothing of the configuration concerns this room yet; limits of its listener are the front's */
    house->store = store;
    house->secrets = secrets;
    house->relay = relay;
    house->front = front;
    house->tries = tries_create();
    secret_local_token(secrets, local);
    secret_digest_key(secrets, SECRET_ADMIN_TOKEN, slice_from(local), house->local_digest);
    secret_wipe(local, sizeof(local));
    return house;
}

void admin_house_destroy(struct admin_house *house)
{
    if (house != NULL)
        tries_destroy(house->tries);
    free(house);
}

/* ---- who asks ---- */

static enum err_code refuse_token(struct slice text, struct err *err)
{
    char masked[SECRET_KEY_TEXT];

    return err_set(err, ERR_BAD_KEY, NULL, "Incorrect admin token provided: %s.", secret_mask_key(text, masked));
}

static enum err_code identify_record(const struct admin_call *call, const struct admin_token *token, struct slice text,
                                     struct who *who, struct err *err)
{
    if (token->super.status != RECORD_ACTIVE || (token->expires_at != 0 && token->expires_at <= clock_wall()))
        return refuse_token(text, err);
    *who = (struct who){.token_row = token->super.row,
                        .tenant_row = token->tenant_row,
                        .role = token->role,
                        .expires_at = token->expires_at};
    if (token->tenant_row != 0) {
        who->tenant = catalog_id(call->catalog, RECORD_TENANT, token->tenant_row);
        if (id_is_zero(who->tenant))
            return refuse_token(text, err);
    }
    return ERR_OK;
}

static enum err_code look_up(const struct admin_call *call, struct slice text, struct who *who,
                             const struct admin_token **token, struct err *err)
{
    enum secret_kind kind;
    uint8_t digest[SECRET_DIGEST];

    *token = NULL;
    if (!secret_check_key(text, &kind) || kind != SECRET_ADMIN_TOKEN)
        return refuse_token(text, err);
    secret_digest_key(call->house->secrets, kind, text, digest);
    if (secret_equal(digest, call->house->local_digest, SECRET_DIGEST)) {
        *who = (struct who){.role = ADMIN_ADMIN};
        return ERR_OK;
    }
    *token = catalog_token_by_digest(call->catalog, digest);
    return *token != NULL ? identify_record(call, *token, text, who, err) : refuse_token(text, err);
}

/* <code>: what the look-up said. A token that is refused here counts for nothing, whatever it is. */
static enum err_code count_try(struct admin_call *call, enum err_code code, const struct who *who, struct err *err)
{
    enum try_result result = tries_count(call->house->tries, call->peer, code == ERR_OK ? who->token_row : TRIES_BAD,
                                         clock_mono(), &call->wait);

    metric_add(METRIC_ADMIN_TRIES, code != ERR_OK);
    if (result == TRY_GOES)
        return code;
    metric_add(METRIC_ADMIN_TRIES_REFUSED, 1);
    if (result == TRY_REFUSED_FIRST)
        LOG(LOG_ADMIN_TRIES, LOG_F_STR("peer", call->peer));
    return err_set(err, ERR_REQUESTS_LIMIT, NULL,
                   "Too many failed tries with admin tokens came from your address. Please try again in %lld seconds.",
                   (long long)(call->wait / CLOCK_SECOND + 1));
}

static enum err_code identify(struct admin_call *call, struct who *who, struct err *err)
{
    struct slice header, text;
    int count = 0;
    const struct admin_token *token = NULL;
    enum err_code code;

    (void)front_call_peer(call->front, call->peer);
    if (!front_call_header(call->front, "authorization", &header, &count) || !auth_bearer(header, &text))
        return err_set(
            err, ERR_NO_KEY, NULL,
            "You didn't provide an admin token. You need to provide it in an Authorization header using Bearer auth "
            "(i.e. Authorization: Bearer ta-...).");
    code = count > 1 ? refuse_token(text, err) : look_up(call, text, who, &token, err);
    code = count_try(call, code, who, err);
    if (code == ERR_OK && token != NULL)
        touch_admin_token(loop_get(call->loop, LOOP_SLOT_TOUCH), token, clock_wall());
    return code;
}

/* ---- what it may ---- */

static enum err_code no_such_id(const struct admin_call *call, struct err *err)
{
    return admin_no_such(err, call->rule->noun->word, "id", front_call_param(call->front));
}

static bool has_id(const struct admin_rule *rule)
{
    return strchr(rule->pattern, '{') != NULL;
}

/* A tenant's token before a route that is the platform's. */
static enum err_code check_scope(const struct admin_call *call, struct err *err)
{
    const struct admin_rule *rule = call->rule;

    if (call->who.tenant_row == 0 || rule->scope == SCOPE_TENANT)
        return ERR_OK;
    if (has_id(rule) && (rule->scope == SCOPE_PLATFORM || !id_eq(call->id, call->who.tenant)))
        return no_such_id(call, err);
    if (rule->scope == SCOPE_TERMS)
        return err_set(err, ERR_FORBIDDEN, NULL, "Only the platform may do this; the token is a tenant's.");
    return err_set(err, ERR_UNKNOWN_URL, NULL, "Invalid URL (%.*s %.*s)", (int)front_call_method(call->front).len,
                   front_call_method(call->front).p, (int)front_call_path(call->front).len,
                   front_call_path(call->front).p);
}

static enum err_code check_rights(struct admin_call *call, struct err *err)
{
    const struct admin_rule *rule = call->rule;
    enum err_code code = identify(call, &call->who, err);

    if (code != ERR_OK)
        return code;
    if (rule->access != ACCESS_READ && call->who.role != ADMIN_ADMIN)
        return err_set(err, ERR_FORBIDDEN, NULL, "The token's role is viewer: it may read, but not change anything.");
    if (has_id(rule) &&
        (!id_parse(noun_prefix(rule->noun), front_call_param(call->front), &call->id) || id_is_zero(call->id)))
        return no_such_id(call, err);
    return check_scope(call, err);
}

/* ---- what it sent ---- */

/* Bodies are JSON under any name, so that curl's -d will do; a form of parts is another thing. */
static enum err_code check_content_type(const struct admin_call *call, struct err *err)
{
    static const char multipart[] = "multipart/";
    struct slice type;

    if (front_call_header(call->front, "content-type", &type, NULL) && type.len >= sizeof(multipart) - 1 &&
        strncasecmp(type.p, multipart, sizeof(multipart) - 1) == 0)
        return err_set(err, ERR_UNSUPPORTED_CONTENT_TYPE, NULL,
                       "Invalid Content-Type: expected 'application/json', but got a multipart body.");
    return ERR_OK;
}

static enum err_code read_body(struct admin_call *call, struct err *err)
{
    struct slice body = front_call_body(call->front);
    enum err_code code = check_content_type(call, err);

    if (code != ERR_OK)
        return code;
    if (body.len > 0)
        return json_read(body, &call->body, err);
    call->body = json_object_new_object();
    TG_ASSERT(call->body != NULL);
    return ERR_OK;
}

static bool printable(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < 0x20 || text.p[i] > 0x7e)
            return false;
    }
    return text.len > 0;
}

static void fingerprint(struct admin_call *call)
{
    struct slice parts[] = {front_call_method(call->front), front_call_path(call->front), front_call_body(call->front)};
    struct buf text;

    buf_init(&text, 2 * LIMIT_ADMIN_BODY);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        buf_append_slice(&text, parts[i]);
        buf_append_char(&text, '\n');
    }
    TG_ASSERT(!text.full);
    secret_fingerprint(text.p, text.len, call->actor.fingerprint);
    buf_dispose(&text);
}

static enum err_code read_idempotency_key(struct admin_call *call, struct err *err)
{
    struct slice value;
    int count = 0;

    if (!front_call_header(call->front, "idempotency-key", &value, &count))
        return call->rule->access != ACCESS_MONEY
                   ? ERR_OK
                   : err_set(err, ERR_MISSING_PARAMETER, "Idempotency-Key",
                             "Missing required parameter: 'Idempotency-Key'. A request that moves money needs this "
                             "header, so that it can be repeated safely.");
    if (count > 1 || !printable(value) || !slice_copy(value, call->idempotency_key, sizeof(call->idempotency_key)))
        return err_set(err, ERR_INVALID_VALUE, "Idempotency-Key",
                       "Invalid 'Idempotency-Key': expected one header of 1 to %d printable characters.",
                       LIMIT_IDEMPOTENCY_KEY);
    call->actor.idempotency_key = slice_from(call->idempotency_key);
    fingerprint(call);
    return ERR_OK;
}

static enum rule_name rule_name_of(const struct admin_rule *rule);

static enum err_code read_request(struct admin_call *call, struct err *err)
{
    struct slice method = front_call_method(call->front);
    bool post = slice_eq_str(method, "POST");
    enum err_code code =
        rules_check_query(rule_name_of(call->rule), call->who.tenant_row != 0, front_call_query(call->front), err);

    if (code == ERR_OK && (post || slice_eq_str(method, "PATCH")))
        code = read_body(call, err);
    if (code == ERR_OK && post)
        code = read_idempotency_key(call, err);
    return code;
}

/* Too many tries have failed: not a word about the token. */
static void refuse_try(struct admin_call *call, const struct err *err)
{
    char seconds[24], ms[24];
    struct front_header headers[] = {{.name = "retry-after"}, {.name = "retry-after-ms"}};

    (void)snprintf(seconds, sizeof(seconds), "%lld", (long long)(call->wait / CLOCK_SECOND + 1));
    (void)snprintf(ms, sizeof(ms), "%lld", (long long)(call->wait / 1000 + 1));
    headers[0].value = slice_from(seconds);
    headers[1].value = slice_from(ms);
    front_reply_err(call->front, err, headers, 2);
    admin_call_destroy(call);
}

static void serve(void *ctx, struct front_call *front, const struct admin_rule *rule)
{
    struct admin_call *call = admin_call_create(ctx, front, rule);
    struct err err;

    enum err_code code = check_rights(call, &err);

    if (code == ERR_REQUESTS_LIMIT)
        refuse_try(call, &err);
    else if (code != ERR_OK || read_request(call, &err) != ERR_OK)
        admin_fail(call, &err);
    else
        rule->handler(call);
}

/* ---- the table ---- */

static const struct admin_rule rules[RULES] = {
#define PLAIN(name, method, pattern, handler)
#define ROUTE(name, method, pattern, action, handler, noun, scope, access)                                             \
    [RULE_##name] = {action, handler, noun, pattern, SCOPE_##scope, ACCESS_##access},
#include "routes.def"
#undef PLAIN
#undef ROUTE
};

static enum rule_name rule_name_of(const struct admin_rule *rule)
{
    return (enum rule_name)(rule - rules);
}

#define PLAIN(name, method, pattern, handler)
#define ROUTE(name, method, pattern, action, handler, noun, scope, access)                                             \
    static void serve_##name(void *ctx, struct front_call *call)                                                       \
    {                                                                                                                  \
        serve(ctx, call, &rules[RULE_##name]);                                                                         \
    }
#include "routes.def"
#undef PLAIN
#undef ROUTE

const struct front_route admin_routes[] = {
#define PLAIN(name, method, pattern, handler) {method, pattern, handler, FRONT_QUIET, LIMIT_ADMIN_BODY},
#define ROUTE(name, method, pattern, action, handler, noun, scope, access)                                             \
    {method, pattern, serve_##name, 0, LIMIT_ADMIN_BODY},
#include "routes.def"
#undef PLAIN
#undef ROUTE
    {NULL, NULL, NULL, 0, 0},
};
