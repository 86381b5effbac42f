/* catalog.h - everything that a request's admission needs, in one loop's memory: no SQL, no lock on the way.
 *
 * Each loop has its own index (by key digest, by row, by id) over records that all loops share (db/record.h). Of API
 * keys, of which there may be a million, it has the credentials alone: whoever needs more of one asks the store. The
 * store tells every loop of a change before the change is acknowledged, so a revocation holds everywhere when the admin
 * call returns. All functions belong to the loop's thread; catalog_fill runs before the loops do. */
#ifndef TG_GATE_CATALOG_H
#define TG_GATE_CATALOG_H

#include "db/store.h"
#include "meter.h"
#include "policy.h"

struct catalog;

struct catalog *catalog_create(void);
void catalog_destroy(struct catalog *c);

/* The register that this catalog's limits are counted in, with all loops': before anything comes in, and to outlive the
 * catalog. Without one no limit applies. */
void catalog_set_meters(struct catalog *c, struct meters *meters);

/* Fills <n> catalogs with every record and credential that the store has, which is read once for all of them, and
 * subscribes each for the changes, told in its box. Before store_start. */
TG_MUSTCHECK enum err_code catalog_fill(struct catalog *const *catalogs, struct mailbox *const *boxes, int n,
                                        struct store *store, struct err *err);

/* Puts one record in (takes over the reference), or takes it out when it is deleted or revoked. A record older than the
 * one that is there is dropped. Of a key its credential is kept, which it must have unless it goes. */
void catalog_apply(void *catalog, struct record *record);

/* Look-ups: borrowed until the loop's next turn; NULL when absent. By row and id: of all kinds but keys. A key is found
 * by its secret, and by the one before while <now>, wall microseconds, is before the end of its grace. */
struct credential *catalog_key_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST], int64_t now);
const struct admin_token *catalog_token_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST]);
const void *catalog_by_row(const struct catalog *c, enum record_kind kind, int64_t row);
const void *catalog_by_id(const struct catalog *c, enum record_kind kind, struct id id);

/* The book a row names; row 0: openai-list. NULL when there is none. */
const struct price_book *catalog_book(const struct catalog *c, int64_t row);

/* Walks the active channels, larger priority first (the older one of two equals). *pos starts at 0; NULL at the end. */
const struct channel *catalog_next_channel(const struct catalog *c, size_t *pos);

/* The same with the disabled ones. */
const struct channel *catalog_next_any_channel(const struct catalog *c, size_t *pos);

/* The policy of a tenant, customer or key, parsed when it came in: borrowed; NULL when it has none. */
struct policy *catalog_policy(const struct catalog *c, enum record_kind kind, int64_t row);

/* The meter of a tenant, customer or key: borrowed; NULL when it has no limits. */
struct meter *catalog_meter(const struct catalog *c, enum record_kind kind, int64_t row);

/* The channel's own name for a public model, or NULL when it does not serve it. */
const char *channel_upstream_model(const struct channel *ch, struct slice model);

/* Whether the channel is open to a tenant: it names none, or this one. */
bool channel_serves_tenant(const struct channel *ch, int64_t tenant_row);

#endif
