/* catalog.h - everything that a request's admission needs, in one loop's memory: no SQL, no lock on the way.
 *
 * Each loop has its own index (by key digest, by row, by id) over records that all loops share (db/record.h). The store
 * tells every loop of a change before the change is acknowledged, so a revocation holds everywhere when the admin call
 * returns. All functions belong to the loop's thread; catalog_fill runs before the loop does. */
#ifndef TG_GATE_CATALOG_H
#define TG_GATE_CATALOG_H

#include "db/store.h"
#include "policy.h"

struct catalog;

struct catalog *catalog_create(void);
void catalog_destroy(struct catalog *c);

/* Takes every record that the store has (store_each_record), and subscribes for the changes. */
void catalog_fill(struct catalog *c, struct store *store, struct mailbox *box);

/* Puts one record in (takes over the reference), or takes it out when it is deleted or revoked. A record older than the
 * one that is there is dropped. */
void catalog_apply(void *catalog, struct record *record);

/* Look-ups: borrowed until the loop's next turn; NULL when absent. */
const struct api_key *catalog_key_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST]);
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

/* The channel's own name for a public model, or NULL when it does not serve it. */
const char *channel_upstream_model(const struct channel *ch, struct slice model);

/* Whether the channel is open to a tenant: it names none, or this one. */
bool channel_serves_tenant(const struct channel *ch, int64_t tenant_row);

#endif
