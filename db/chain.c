/* chain.c - see chain.h. */
#include "chain.h"

#include <stdlib.h>

enum { NUMBERS = 6, TRANSFER_BYTES = NUMBERS * 8, FEW = 8 }; /* transfers of nearly every event, at most */

static uint8_t *put_number(uint8_t *p, int64_t number)
{
    uint64_t bits = (uint64_t)number;

    for (size_t i = 0; i < sizeof(bits); i++)
        *p++ = (uint8_t)(bits >> 8 * i);
    return p;
}

void chain_step(uint8_t hash[CHAIN_HASH], const struct transfer_row *transfers, size_t n)
{
    uint8_t few[CHAIN_HASH + FEW * TRANSFER_BYTES];
    uint8_t *bytes = n <= FEW ? few : mem_alloc(CHAIN_HASH + n * TRANSFER_BYTES), *p = bytes + CHAIN_HASH;

    TG_ASSERT(n > 0 && n <= EVENT_TRANSFERS);
    memcpy(bytes, hash, CHAIN_HASH);
    for (size_t i = 0; i < n; i++) {
        const struct transfer_row *t = &transfers[i];

        p = put_number(p, t->number);
        p = put_number(p, t->kind);
        p = put_number(p, t->debit);
        p = put_number(p, t->credit);
        p = put_number(p, t->amount);
        p = put_number(p, t->lot);
    }
    secret_fingerprint(bytes, (size_t)(p - bytes), hash);
    if (bytes != few)
        free(bytes);
}
