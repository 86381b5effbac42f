/* auth.h - who is calling: from the Authorization header to a key, its tenant and customer.
 *
 * Form and checksum are looked at before anything is hashed; an unknown key costs one keyed hash and one look-up. */
#ifndef TG_GATE_AUTH_H
#define TG_GATE_AUTH_H

#include "catalog.h"

enum { CALLER_POLICIES = 3 };
_Static_assert((int)CALLER_POLICIES == (int)METER_OWNERS, "policies and meters have the same owners");

/* References of the caller's; release with caller_dispose. */
struct caller {
    struct credential *key;
    struct tenant *tenant;
    struct customer *customer;                /* NULL: a tenant's key */
    struct policy *policies[CALLER_POLICIES]; /* the key's, the customer's, the tenant's; NULL: none */
    struct meter *meters[METER_OWNERS];       /* likewise */
};

/* <authorization>: the header's value; <count>: how many such headers there were. Errors: NO_KEY (none, another scheme,
 * empty), BAD_KEY (more than one, malformed, unknown; a revoked, expired or disabled key, and the secret before the
 * last rotation once its grace is over, answers exactly like an unknown one; the message shows the key masked),
 * IP_NOT_AUTHORIZED (policy ip_allow of key, customer and tenant; <peer> as text), ACCOUNT_SUSPENDED. On an error <out>
 * is all NULL. */
TG_MUSTCHECK enum err_code auth_caller(const struct catalog *c, const struct secrets *secrets,
                                       struct slice authorization, int count, const char *peer, int64_t now,
                                       struct caller *out, struct err *err);
void caller_dispose(struct caller *caller); /* leaves it all NULL */

/* The bearer part of an Authorization value (scheme without case); false when it is another scheme or empty. */
bool auth_bearer(struct slice authorization, struct slice *text);

#endif
