/* table.h - an open-addressing hash table of pointers. One thread at a time. Owns no element.
 *
 * The caller gives a well-mixed 64-bit hash and, on look-up, a function that says whether an element is the one. */
#ifndef TG_BASE_TABLE_H
#define TG_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table_slot {
    uint64_t hash;
    void *item; /* NULL: free */
};

struct table {
    struct table_slot *slots;
    size_t cap;   /* a power of two, or 0 before the first put */
    size_t count; /* elements */
};

typedef bool table_match(const void *item, const void *key);

void table_init(struct table *t);
void table_dispose(struct table *t);
void *table_get(const struct table *t, uint64_t hash, table_match *match, const void *key);

/* Adds <item>, or puts it in the place of the element that matches <key>, which is returned (else NULL). */
void *table_put(struct table *t, uint64_t hash, table_match *match, const void *key, void *item);
void *table_remove(struct table *t, uint64_t hash, table_match *match, const void *key);

/* Walks all elements: start with *pos = 0, ends with NULL. The table must not change meanwhile. */
void *table_next(const struct table *t, size_t *pos);

/* Mixes an integer; bytes of strangers are hashed with secret_hash64 (keyed), ids of our own with table_hash_bytes. */
uint64_t table_hash_u64(uint64_t x);
uint64_t table_hash_bytes(const void *bytes, size_t len);

#endif
