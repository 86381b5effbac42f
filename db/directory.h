/* directory.h - the writer's list of live records, by kind and row; API keys, of which there may be a million, are not
 * in it. One thread. */
#ifndef TG_DB_DIRECTORY_H
#define TG_DB_DIRECTORY_H

#include "record.h"

struct directory {
    struct shelf {
        struct record **at; /* ascending rows; a reference each */
        size_t n, cap;
    } shelves[RECORD_KINDS];
};

void directory_init(struct directory *d);
void directory_dispose(struct directory *d);

struct record *directory_get(const struct directory *d, enum record_kind kind, int64_t row); /* borrowed; NULL: none */
void directory_put(struct directory *d, struct record *record); /* adds or replaces; takes over the reference */
void directory_remove(struct directory *d, enum record_kind kind, int64_t row);

/* Removes the customers, tokens and price books of a tenant, telling <gone> (may be NULL) of each. */
void directory_remove_owned(struct directory *d, const struct record *owner,
                            void (*gone)(void *ctx, const struct record *record), void *ctx);

/* Owners first. */
void directory_each(const struct directory *d, void (*fn)(void *ctx, struct record *record), void *ctx);

#endif
