/* keyring.h - one loop's API keys: from the digest of a secret to its credential, for a million of them.
 *
 * Beside the credentials, which all loops share, a key takes a pointer and six to eleven bytes of slots. One
 * thread: the loop's (while it is filled: whoever fills it). */
#ifndef TG_GATE_KEYRING_H
#define TG_GATE_KEYRING_H

#include "daemon/base/table.h"
#include "db/record.h"

struct keyring {
    struct credential **rows; /* by row; NULL: none; a reference each */
    size_t n_rows;
    uint32_t *slots; /* rows, by digest, open addressing; 0: free */
    size_t n_slots;  /* a power of two, or 0 */
    size_t count;
    struct table old; /* those with an old secret, by its digest; borrowed from <rows> */
};

void keyring_init(struct keyring *k);
void keyring_dispose(struct keyring *k);

struct credential *keyring_by_row(const struct keyring *k, int64_t row); /* borrowed; NULL: none */

/* Adds a credential whose row has none yet. Takes over the reference. */
void keyring_put(struct keyring *k, struct credential *c);
void keyring_remove(struct keyring *k, int64_t row); /* none there: nothing happens */

/* Borrowed; NULL: none. By an old secret while <now>, wall microseconds, is before its end. */
struct credential *keyring_find(const struct keyring *k, const uint8_t digest[SECRET_DIGEST], int64_t now);

#endif
