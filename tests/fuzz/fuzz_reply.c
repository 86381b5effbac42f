/* fuzz_reply.c - any bytes as a reply, and as the data of an event: the facts are the same however it is cut. The first
 * two bytes say how. */
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/images/reply_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pieces whose lengths a small generator gives; <seed> 0: in one piece. Each from memory of its own size. */
static struct reply_facts scan_reply(const uint8_t *data, size_t size, unsigned seed, bool event)
{
    struct reply_scan s;
    struct reply_facts facts;
    size_t at = 0;
    unsigned x = seed;

    if (event)
        reply_scan_init_event(&s);
    else
        reply_scan_init(&s);
    while (at < size) {
        size_t n = seed == 0 ? size : 1 + (x = x * 1103515245U + 12345U, x >> 16) % 40;
        char *copy;

        n = n < size - at ? n : size - at;
        copy = mem_alloc(n);
        memcpy(copy, data + at, n);
        reply_scan_feed(&s, copy, n);
        free(copy);
        at += n;
    }
    reply_scan_finish(&s, &facts);
    TG_ASSERT(event || s.types == 0);
    facts.partial_images = s.types; /* no fact of a reply: carries the types out */
    return facts;
}

static void check_facts(const struct reply_facts *f)
{
    int64_t sum = 0;

    for (int i = 0; i < PRICE_UNITS; i++) {
        TG_ASSERT(f->quantities.of[i] >= 0);
        sum += f->quantities.of[i];
    }
    TG_ASSERT(f->usage == REPLY_USAGE_GOOD || sum == 0);
    TG_ASSERT(f->images >= 0 && (f->whole || f->usage == REPLY_USAGE_NONE));
}

static void check_cuts(const uint8_t *data, size_t size, unsigned seed, bool event)
{
    struct reply_facts whole = scan_reply(data, size, 0, event);
    struct reply_facts cut = scan_reply(data, size, seed, event);

    check_facts(&whole);
    TG_ASSERT(whole.whole == cut.whole && whole.has_error == cut.has_error && whole.has_data == cut.has_data);
    TG_ASSERT(whole.images == cut.images && whole.usage == cut.usage && whole.partial_images == cut.partial_images);
    TG_ASSERT(memcmp(&whole.quantities, &cut.quantities, sizeof(cut.quantities)) == 0);
    TG_ASSERT(memcmp(&whole.quantities, &whole.largest, sizeof(whole.largest)) == 0);
    TG_ASSERT(strcmp(whole.size, cut.size) == 0 && strcmp(whole.quality, cut.quality) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned seed;

    if (size < 2)
        return 0;
    seed = 1U + data[0] + 256U * data[1];
    check_cuts(data + 2, size - 2, seed, false);
    check_cuts(data + 2, size - 2, seed, true);
    return 0;
}
