/* admit.h - from a caller and a request to a hold: policy, channel, prices, ceiling. No money moves here. */
#ifndef TG_GATE_ADMIT_H
#define TG_GATE_ADMIT_H

#include "auth.h"
#include "daemon/billing/quote.h"

/* The prices pinned for one call; references, released with terms_dispose. */
struct terms {
    struct price_version *cost, *wholesale, *retail; /* retail NULL: the wholesale price, then retail_ppm */
    int64_t wholesale_ppm, retail_ppm;               /* markups */
    struct channel *channel;                         /* the channel that will be tried; a reference */
    char upstream_model[LIMIT_MODEL];
};

/* Checks the key's, customer's and tenant's policy (models: MODEL_NOT_FOUND; operations, sizes, qualities, max_n:
 * POLICY_VIOLATION naming the parameter), finds a channel (NO_CHANNEL; a model that no channel lists for this tenant,
 * active or not: MODEL_NOT_FOUND; test keys only sandbox channels), pins the versions in effect at <now>
 * (MODEL_NOT_FOUND when a book has no price) and fills <hold> (legs, ceilings, versions, call, rule, created_at) but
 * for super and id. Legs: a tenant's key and a customer with a shared wallet hold the tenant's wallet at wholesale; a
 * customer with its own wallet holds both. A test key must name a model that has a price, like any other, but has no
 * legs and all its amounts are 0. <rule>: as configured; the tenant's own goes before. On an error <terms> is empty and
 * <hold> not to be used. */
TG_MUSTCHECK enum err_code admit_call(const struct catalog *c, const struct caller *caller,
                                      const struct image_spec *spec, bool stream, enum conf_in_doubt rule, int64_t now,
                                      struct terms *terms, struct store_hold *hold, struct err *err);
void terms_dispose(struct terms *terms);

/* Whether a caller can use a model now: its policies allow it, an active channel serves it, and some call of one image
 * has its prices: as admit_call has it. *created_at: of the oldest such
 * channel, wall. */
bool admit_model(const struct catalog *c, const struct caller *caller, struct slice model, int64_t now,
                 int64_t *created_at);

/* Final charges by the pinned prices: fills capture->usage.cost, wholesale, retail and charges (parallel to the hold's
 * legs). All 0 in test mode. */
TG_MUSTCHECK enum err_code admit_rate(const struct terms *terms, const struct store_hold *hold,
                                      const struct image_spec *spec, const struct price_item *item,
                                      const struct price_quantities *q, struct store_capture *capture, struct err *err);

/* What a call would cost, for POST /quotes: as admit_call, but for any tenant or customer (NULL: list prices) and
 * without policy. Cost is that of the channel that would be tried, else of openai-list. Without a customer retail is
 * wholesale. */
struct admit_quote {
    struct quote cost, wholesale, retail;
};
TG_MUSTCHECK enum err_code admit_price(const struct catalog *c, const struct tenant *tenant,
                                       const struct customer *customer, const struct image_spec *spec, int64_t now,
                                       struct admit_quote *out, struct err *err);

#endif
