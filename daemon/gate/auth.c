/* auth.c - who is calling. Every refusal of a key reads the same, so that nobody learns which keys once existed.
 *
 * Order: header, form and checksum, digest, look-up, life of the key, its owners, address, suspension. Up to the
 * checksum nothing costs more than a walk over some 60 bytes.
 *
 * Threads: the loop's own. */
#include "auth.h"

static enum err_code no_key(struct err *err)
{
    return err_set(
        err, ERR_NO_KEY, NULL,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer "
        "auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from your provider's dashboard.");
}

static enum err_code bad_key(struct slice text, struct err *err)
{
    char masked[SECRET_KEY_TEXT];

    return err_set(err, ERR_BAD_KEY, NULL,
                   "Incorrect API key provided: %s. You can find your API key in your provider's dashboard.",
                   secret_mask_key(text, masked));
}

bool auth_bearer(struct slice authorization, struct slice *text)
{
    struct slice scheme, rest;

    *text = SLICE_NONE;
    if (!slice_cut(slice_trim(authorization), ' ', &scheme, &rest) || !slice_eq_nocase(scheme, SLICE("bearer")))
        return false;
    *text = slice_trim(rest);
    return text->len > 0;
}

/* The key of that text, borrowed; NULL when there is none that may be used. */
static const struct api_key *find_key(const struct catalog *c, const struct secrets *secrets, struct slice text,
                                      int64_t now)
{
    uint8_t digest[SECRET_DIGEST];
    const struct api_key *key;
    enum secret_kind kind;

    if (!secret_check_key(text, &kind) || kind == SECRET_ADMIN_TOKEN)
        return NULL;
    secret_digest_key(secrets, kind, text, digest);
    key = catalog_key_by_digest(c, digest);
    if (key == NULL || key->super.status != RECORD_ACTIVE || key->test != (kind == SECRET_API_KEY_TEST) ||
        (key->expires_at != 0 && now >= key->expires_at))
        return NULL;
    return key;
}

/* False when an owner is gone. */
static bool take_references(const struct catalog *c, const struct api_key *key, struct caller *out)
{
    const struct tenant *tenant = catalog_by_row(c, RECORD_TENANT, key->tenant_row);
    const struct customer *customer = NULL;

    if (key->customer_row != 0) {
        customer = catalog_by_row(c, RECORD_CUSTOMER, key->customer_row);
        if (customer == NULL || customer->tenant_row != key->tenant_row)
            return false;
    }
    if (tenant == NULL)
        return false;
    out->key = record_ref((void *)key);
    out->tenant = record_ref((void *)tenant);
    out->customer = customer != NULL ? record_ref((void *)customer) : NULL;
    out->policies[0] = policy_ref(catalog_policy(c, RECORD_KEY, key->super.row));
    out->policies[1] = customer != NULL ? policy_ref(catalog_policy(c, RECORD_CUSTOMER, customer->super.row)) : NULL;
    out->policies[2] = policy_ref(catalog_policy(c, RECORD_TENANT, tenant->super.row));
    return true;
}

static enum err_code check_caller(const struct caller *caller, const char *peer, struct err *err)
{
    for (int i = 0; i < CALLER_POLICIES; i++) {
        if (!policy_allows_peer(caller->policies[i], peer))
            return err_set(err, ERR_IP_NOT_AUTHORIZED, NULL,
                           "Your IP address %s is not on the list of addresses that may use this API key.", peer);
    }
    if (caller->tenant->super.status != RECORD_ACTIVE ||
        (caller->customer != NULL && caller->customer->super.status != RECORD_ACTIVE))
        return err_set(err, ERR_ACCOUNT_SUSPENDED, NULL,
                       "The account that this API key belongs to is suspended. Please contact your provider.");
    return ERR_OK;
}

enum err_code auth_caller(const struct catalog *c, const struct secrets *secrets, struct slice authorization, int count,
                          const char *peer, int64_t now, struct caller *out, struct err *err)
{
    const struct api_key *key;
    struct slice text;
    enum err_code code;

    *out = (struct caller){0};
    if (count > 1)
        return err_set(
            err, ERR_BAD_KEY, NULL,
            "Incorrect API key provided: there is more than one Authorization header. You can find your API key "
            "in your provider's dashboard.");
    if (count == 0 || !auth_bearer(authorization, &text))
        return no_key(err);
    key = find_key(c, secrets, text, now);
    if (key == NULL || !take_references(c, key, out))
        return bad_key(text, err);
    code = check_caller(out, peer, err);
    if (code != ERR_OK)
        caller_dispose(out);
    return code;
}

void caller_dispose(struct caller *caller)
{
    record_unref(caller->key);
    record_unref(caller->tenant);
    record_unref(caller->customer);
    for (int i = 0; i < CALLER_POLICIES; i++)
        policy_unref(caller->policies[i]);
    *caller = (struct caller){0};
}
