/* keyring.c - digests to credentials in four bytes a slot.
 *
 *   slots   hash of the digest -> row        linear probing, at most 3/4 full
 *   rows    row -> credential                the store numbers keys from 1 without large gaps
 *   old     hash of the old digest -> credential
 *
 * A digest is a keyed hash that strangers can neither choose nor foresee, so its own first bytes are the hash.
 * Invariants
 *   1. A row is in one slot exactly when rows[row] is not NULL; count is how many there are.
 *   2. Between a row's slot and the slot that its hash asks for none is free.
 *   3. A credential is in <old> exactly when it is in <rows> and has an old secret.
 * Threads: the loop's own. */
#include "keyring.h"

#include <stdlib.h>

enum { FIRST_ROWS = 64, FIRST_SLOTS = 64 };

static uint64_t hash(const uint8_t digest[SECRET_DIGEST])
{
    uint64_t h;

    memcpy(&h, digest, sizeof(h));
    return h;
}

static bool has_old(const struct credential *c)
{
    return c->more != NULL && c->more->old_until != 0;
}

static bool match_old(const void *item, const void *digest)
{
    return secret_equal(((const struct credential *)item)->more->old_digest, digest, SECRET_DIGEST);
}

/* ---- life ---- */

void keyring_init(struct keyring *k)
{
    memset(k, 0, sizeof(*k));
    table_init(&k->old);
}

void keyring_dispose(struct keyring *k)
{
    table_dispose(&k->old);
    for (size_t i = 0; i < k->n_rows; i++)
        credential_unref(k->rows[i]);
    free(k->rows);
    free(k->slots);
    keyring_init(k);
}

/* ---- slots ---- */

static size_t wanted_slot(const struct keyring *k, const struct credential *c)
{
    return (size_t)hash(c->digest) & (k->n_slots - 1);
}

static void take_slot(struct keyring *k, const struct credential *c)
{
    size_t i = wanted_slot(k, c);

    while (k->slots[i] != 0)
        i = (i + 1) & (k->n_slots - 1);
    k->slots[i] = (uint32_t)c->row;
}

static void leave_slot(struct keyring *k, const struct credential *c)
{
    size_t mask = k->n_slots - 1, hole = wanted_slot(k, c);

    while (k->slots[hole] != (uint32_t)c->row)
        hole = (hole + 1) & mask;
    for (size_t i = (hole + 1) & mask; k->slots[i] != 0; i = (i + 1) & mask) {
        size_t wanted = wanted_slot(k, k->rows[k->slots[i]]);

        if (((i - wanted) & mask) < ((i - hole) & mask))
            continue; /* its place lies behind the hole */
        k->slots[hole] = k->slots[i];
        hole = i;
    }
    k->slots[hole] = 0;
}

static void grow_slots(struct keyring *k)
{
    k->n_slots = k->n_slots != 0 ? k->n_slots * 2 : FIRST_SLOTS;
    free(k->slots);
    k->slots = mem_zalloc(k->n_slots * sizeof(k->slots[0]));
    for (size_t row = 0; row < k->n_rows; row++)
        if (k->rows[row] != NULL)
            take_slot(k, k->rows[row]);
}

static void grow_rows(struct keyring *k, size_t row)
{
    size_t n = k->n_rows != 0 ? k->n_rows : FIRST_ROWS;

    while (n <= row)
        n += n / 2;
    k->rows = mem_realloc(k->rows, n * sizeof(k->rows[0]));
    memset(k->rows + k->n_rows, 0, (n - k->n_rows) * sizeof(k->rows[0]));
    k->n_rows = n;
}

/* ---- putting in, taking out, finding ---- */

struct credential *keyring_by_row(const struct keyring *k, int64_t row)
{
    return row > 0 && (uint64_t)row < k->n_rows ? k->rows[row] : NULL;
}

void keyring_put(struct keyring *k, struct credential *c)
{
    TG_ASSERT(c->row > 0 && c->row < UINT32_MAX && keyring_by_row(k, c->row) == NULL);
    if ((size_t)c->row >= k->n_rows)
        grow_rows(k, (size_t)c->row);
    if (k->count + 1 > k->n_slots / 4 * 3)
        grow_slots(k);
    k->rows[c->row] = c;
    k->count++;
    take_slot(k, c);
    if (has_old(c)) {
        void *other = table_put(&k->old, hash(c->more->old_digest), match_old, c->more->old_digest, c);

        TG_ASSERT(other == NULL); /* a secret belongs to one key */
    }
}

void keyring_remove(struct keyring *k, int64_t row)
{
    struct credential *c = keyring_by_row(k, row);

    if (c == NULL)
        return;
    if (has_old(c))
        (void)table_remove(&k->old, hash(c->more->old_digest), match_old, c->more->old_digest);
    leave_slot(k, c);
    k->rows[row] = NULL;
    k->count--;
    credential_unref(c);
}

struct credential *keyring_find(const struct keyring *k, const uint8_t digest[SECRET_DIGEST], int64_t now)
{
    size_t mask = k->n_slots - 1, i = (size_t)hash(digest) & mask;
    struct credential *c;

    for (; k->n_slots != 0 && k->slots[i] != 0; i = (i + 1) & mask) {
        c = k->rows[k->slots[i]];
        if (secret_equal(c->digest, digest, SECRET_DIGEST))
            return c;
    }
    c = table_get(&k->old, hash(digest), match_old, digest);
    return c != NULL && now < c->more->old_until ? c : NULL;
}
