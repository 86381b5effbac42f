/* upstream_body.c - see upstream_body.h.
 *
 * Invariants
 *  (1) Everything before (part, at) has been read, and nothing behind it; there is no way back.
 *  (2) A part with a spool lies in a file: a spool in memory was taken for what it is by upstream_body_set.
 *
 * One thread: the loop's. */
#include "upstream_body.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/attrs.h"

enum { BODY_JOIN = 32 * 1024 }; /* several runs are copied into one piece up to this length */

static uint64_t part_len(const struct upstream_part *part)
{
    return part->spool != NULL ? part->len : part->bytes.len;
}

static struct upstream_part settle(const struct upstream_part *part)
{
    struct upstream_part out = *part;
    struct slice memory;

    if (part->spool == NULL)
        return out;
    TG_ASSERT(part->at <= spool_len(part->spool) && part->len <= spool_len(part->spool) - part->at);
    if (spool_memory(part->spool, &memory)) {
        out.spool = NULL;
        out.bytes = part->len > 0 ? (struct slice){memory.p + part->at, (size_t)part->len} : SLICE_NONE;
    }
    return out;
}

void upstream_body_set(struct upstream_body *b, const struct upstream_part *parts, int n)
{
    TG_ASSERT(n >= 0 && n <= UPSTREAM_BODY_PARTS);
    *b = (struct upstream_body){.n = n};
    for (int i = 0; i < n; i++) {
        b->parts[i] = settle(&parts[i]);
        b->len += part_len(&b->parts[i]);
    }
}

void upstream_body_release(struct upstream_body *b)
{
    free(b->joined);
    b->joined = NULL;
}

const char *upstream_body_piece(struct upstream_body *b)
{
    TG_ASSERT(b->part == 0 && b->at == 0 && b->joined == NULL);
    if (b->len == 0)
        return "";
    for (int i = 0; i < b->n; i++)
        if (b->parts[i].spool != NULL)
            return NULL;
    if (b->n == 1)
        return b->parts[0].bytes.p;
    if (b->len > BODY_JOIN)
        return NULL;
    b->joined = mem_alloc((size_t)b->len);
    (void)upstream_body_read(b, b->joined, (size_t)b->len); /* of memory alone: it does not fail */
    return b->joined;
}

static bool read_part(const struct upstream_part *part, uint64_t at, char *out, size_t len)
{
    if (part->spool != NULL)
        return spool_read(part->spool, part->at + at, out, len) == (ssize_t)len;
    if (len > 0)
        memcpy(out, part->bytes.p + at, len);
    return true;
}

ssize_t upstream_body_read(struct upstream_body *b, char *out, size_t cap)
{
    size_t done = 0;

    while (done < cap && b->part < b->n) {
        const struct upstream_part *part = &b->parts[b->part];
        uint64_t left = part_len(part) - b->at;
        size_t take = left < cap - done ? (size_t)left : cap - done;

        if (!read_part(part, b->at, out + done, take))
            return -1;
        done += take;
        b->at += take;
        if (take == left) {
            b->part++;
            b->at = 0;
        }
    }
    return (ssize_t)done;
}
