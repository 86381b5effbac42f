/* table.c - linear probing over a power of two, at most three quarters full.
 *
 * Invariants:
 *   1. from an element's home slot (hash & (cap - 1)) to the slot it lies in, no slot is free: so a search ends at the
 *      first free one;
 *   2. removing moves later elements of the run back instead of leaving a tombstone, which keeps 1 and lets a table
 *      that lives for months stay as fast as a new one;
 *   3. at least a quarter of the slots is free, so every search ends.
 * One thread at a time. */
#include "table.h"

#include <stdlib.h>
#include <string.h>

#include "attrs.h"

enum { TABLE_FIRST = 16 };

void table_init(struct table *t)
{
    *t = (struct table){0};
}

void table_dispose(struct table *t)
{
    free(t->slots);
    *t = (struct table){0};
}

/* The slot of the element, or the free slot where the search ended. cap > 0. */
static size_t find(const struct table *t, uint64_t hash, table_match *match, const void *key)
{
    size_t mask = t->cap - 1;
    size_t i = hash & mask;

    while (t->slots[i].item != NULL && !(t->slots[i].hash == hash && match(t->slots[i].item, key)))
        i = (i + 1) & mask;
    return i;
}

void *table_get(const struct table *t, uint64_t hash, table_match *match, const void *key)
{
    return t->count > 0 ? t->slots[find(t, hash, match, key)].item : NULL;
}

static void place(struct table *t, struct table_slot slot)
{
    size_t mask = t->cap - 1;
    size_t i = slot.hash & mask;

    while (t->slots[i].item != NULL)
        i = (i + 1) & mask;
    t->slots[i] = slot;
}

static void resize(struct table *t)
{
    struct table old = *t;

    t->cap = old.cap > 0 ? old.cap * 2 : TABLE_FIRST;
    TG_ASSERT(t->cap <= SIZE_MAX / sizeof(struct table_slot) / 2);
    t->slots = mem_zalloc(t->cap * sizeof(struct table_slot));
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].item != NULL)
            place(t, old.slots[i]);
    }
    free(old.slots);
}

void *table_put(struct table *t, uint64_t hash, table_match *match, const void *key, void *item)
{
    size_t i;
    void *old;

    TG_ASSERT(item != NULL);
    if ((t->count + 1) * 4 > t->cap * 3)
        resize(t);
    i = find(t, hash, match, key);
    old = t->slots[i].item;
    t->slots[i] = (struct table_slot){hash, item};
    t->count += old == NULL;
    return old;
}

/* Fills the hole at <hole> with the next element that may lie there, and so on until the run ends. */
static void close_hole(struct table *t, size_t hole)
{
    size_t mask = t->cap - 1;

    for (size_t i = (hole + 1) & mask; t->slots[i].item != NULL; i = (i + 1) & mask) {
        size_t home = t->slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole] = (struct table_slot){0};
}

void *table_remove(struct table *t, uint64_t hash, table_match *match, const void *key)
{
    size_t i;
    void *old;

    if (t->count == 0)
        return NULL;
    i = find(t, hash, match, key);
    old = t->slots[i].item;
    if (old == NULL)
        return NULL;
    close_hole(t, i);
    t->count--;
    return old;
}

void *table_next(const struct table *t, size_t *pos)
{
    while (*pos < t->cap) {
        void *item = t->slots[(*pos)++].item;

        if (item != NULL)
            return item;
    }
    return NULL;
}

/* The finaliser of splitmix64: every input bit reaches every output bit. */
uint64_t table_hash_u64(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 27;
    x *= UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t table_hash_bytes(const void *bytes, size_t len)
{
    const unsigned char *p = bytes;
    uint64_t hash = UINT64_C(0x9E3779B97F4A7C15) ^ len;

    while (len > 0) {
        size_t n = len < 8 ? len : 8;
        uint64_t part = 0;

        memcpy(&part, p, n);
        hash = table_hash_u64(hash ^ part) + UINT64_C(0x9E3779B97F4A7C15);
        p += n;
        len -= n;
    }
    return table_hash_u64(hash);
}
