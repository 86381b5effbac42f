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
static struct credential *find_key(const struct catalog *c, const struct secrets *secrets, struct slice text,
                                   int64_t now)
{
    uint8_t digest[SECRET_DIGEST];
    struct credential *key;
    enum secret_kind kind;

    if (!secret_check_key(text, &kind) || kind == SECRET_ADMIN_TOKEN)
        return NULL;
    secret_digest_key(secrets, kind, text, digest);
    key = catalog_key_by_digest(c, digest, now);
    if (key == NULL || key->status != RECORD_ACTIVE || key->test != (kind == SECRET_API_KEY_TEST) ||
        (key->expires_at != 0 && now >= key->expires_at))
        return NULL;
    return key;
}

static void take_rules(const struct catalog *c, enum record_kind kind, int64_t row, enum meter_owner owner,
                       struct caller *out)
{
    out->policies[owner] = policy_ref(catalog_policy(c, kind, row));
    out->meters[owner] = meter_ref(catalog_meter(c, kind, row));
}

/* False when an owner is gone. */
static bool take_references(const struct catalog *c, struct credential *key, struct caller *out)
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
    out->key = credential_ref(key);
    out->tenant = record_ref((void *)tenant);
    out->customer = customer != NULL ? record_ref((void *)customer) : NULL;
    if (key->more != NULL)
        take_rules(c, RECORD_KEY, key->row, METER_KEY, out);
    if (customer != NULL)
        take_rules(c, RECORD_CUSTOMER, customer->super.row, METER_CUSTOMER, out);
    take_rules(c, RECORD_TENANT, tenant->super.row, METER_TENANT, out);
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
    struct credential *key;
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
    credential_unref(caller->key);
    record_unref(caller->tenant);
    record_unref(caller->customer);
    for (int i = 0; i < CALLER_POLICIES; i++) {
        policy_unref(caller->policies[i]);
        meter_unref(caller->meters[i]);
    }
    *caller = (struct caller){0};
}
