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

static void put_text(struct buf *out, struct slice text)
{
    uint8_t length[8];

    (void)put_number(length, (int64_t)text.len);
    buf_append(out, length, sizeof(length));
    buf_append_slice(out, text);
}

void chain_audit(uint8_t hash[SECRET_DIGEST], const struct audit_entry *entry)
{
    const int64_t numbers[] = {entry->head.seq, entry->at, entry->token_row, entry->tenant_row};
    const struct slice texts[] = {slice_from(entry->action), slice_from(entry->object), slice_from(entry->peer),
                                  entry->before, entry->after};
    uint8_t few[sizeof(numbers)], *p = few;
    struct buf bytes;

    buf_init(&bytes, SIZE_MAX / 2);
    buf_append(&bytes, hash, SECRET_DIGEST);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        p = put_number(p, numbers[i]);
    buf_append(&bytes, few, sizeof(few));
    buf_append(&bytes, entry->request.b, ID_BYTES);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        put_text(&bytes, texts[i]);
    secret_fingerprint(bytes.p, bytes.len, hash);
    buf_dispose(&bytes);
}
