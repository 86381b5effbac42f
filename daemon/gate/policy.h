/* policy.h - what a key, customer or tenant may do, parsed once from its JSON and asked on every request.
 *
 * {"models": [...], "operations": [...], "sizes": [...], "qualities": [...], "max_n": 1..1000, "ip_allow": [CIDR,
 * ...]}: every member may be left out, which allows all; a list that is there holds one value at least. Models, sizes
 * and qualities match exactly; "auto" has to be listed where the upstream may choose.
 *
 * A policy never changes; references may be held and dropped on any thread. */
#ifndef TG_GATE_POLICY_H
#define TG_GATE_POLICY_H

#include "daemon/base/json.h"
#include "daemon/billing/quote.h"

struct policy;

/* Checks a policy that somebody wants to set; <json> is a whole document. Errors name the parameter as it stands in the
 * record: "policy", "policy.sizes", ... */
TG_MUSTCHECK enum err_code policy_check(struct slice json, struct err *err);

/* Parses a stored policy; returns one reference, or NULL when <json> is NULL or empty: all is allowed. A text that
 * policy_check refuses gives a policy that allows nothing: a damaged record must not open a door. */
struct policy *policy_create(const char *json);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p); /* NULL-safe */

/* The rest takes NULL for a policy that allows all. */

bool policy_allows_model(const struct policy *p, struct slice model);

/* <peer>: an address as text; one that is no IP address ("unix") is on no list. IPv4 inside IPv6 (::ffff:a.b.c.d) is
 * IPv4. */
bool policy_allows_peer(const struct policy *p, const char *peer);

/* Operation, size, quality and n: POLICY_VIOLATION naming the parameter ("operation", "size", "quality", "n"). An
 * absent size or quality counts as the model's default. */
TG_MUSTCHECK enum err_code policy_check_spec(const struct policy *p, const struct image_spec *spec, struct err *err);

#endif
