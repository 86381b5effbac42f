/* fingerprint.c - the digest of a request, its boundary left out.
 *
 * Invariants
 *  (1) `matched` bytes are pending: they were the body's last, are the boundary's first, and are not in the hash.
 *  (2) What is left out are the boundary's occurrences that a search from the left finds one behind the other, at any
 *      cut of the body into pieces.
 *
 * The bulk of a piece is searched at once; only what may be cut by a piece's end goes byte by byte (Knuth, Morris,
 * Pratt). */
#define _GNU_SOURCE /* memmem */
#include "fingerprint.h"

#include <stdlib.h>

#include "daemon/images/multipart.h"

struct fingerprint {
    struct secret_hash *hash;
    size_t len; /* of the boundary; 0: nothing is left out */
    size_t matched;
    char boundary[MULTIPART_BOUNDARY];
    uint8_t fall[MULTIPART_BOUNDARY]; /* how much stays matched when the byte after so many does not match */
};

static void hash_line(struct fingerprint *f, struct slice text)
{
    secret_hash_add(f->hash, text);
    secret_hash_add(f->hash, SLICE("\n"));
}

static void fill_falls(struct fingerprint *f)
{
    size_t k = 0;

    for (size_t i = 1; i < f->len; i++) {
        while (k > 0 && f->boundary[k] != f->boundary[i])
            k = f->fall[k];
        if (f->boundary[k] == f->boundary[i])
            k++;
        f->fall[i + 1] = (uint8_t)k;
    }
}

struct fingerprint *fingerprint_create(struct slice method, struct slice path, struct slice content_type,
                                       const char *boundary)
{
    struct fingerprint *f = mem_zalloc(sizeof(*f));
    struct slice type, parameters;
    bool fits = slice_copy(slice_from(boundary), f->boundary, sizeof(f->boundary));

    TG_ASSERT(fits);
    f->len = strlen(boundary);
    f->hash = secret_hash_create();
    fill_falls(f);
    (void)slice_cut(content_type, ';', &type, &parameters);
    hash_line(f, method);
    hash_line(f, path);
    hash_line(f, slice_trim(type));
    return f;
}

/* Lets go the first <n> pending bytes. */
static void release(struct fingerprint *f, size_t n)
{
    secret_hash_add(f->hash, (struct slice){f->boundary, n});
}

static void step(struct fingerprint *f, const char *byte)
{
    while (f->matched > 0 && f->boundary[f->matched] != *byte) {
        size_t left = f->fall[f->matched];

        release(f, f->matched - left);
        f->matched = left;
    }
    if (f->boundary[f->matched] != *byte)
        secret_hash_add(f->hash, (struct slice){byte, 1});
    else if (++f->matched == f->len)
        f->matched = 0;
}

static void add_all(struct fingerprint *f, struct slice bytes)
{
    const char *at = bytes.p, *end = bytes.p + bytes.len, *found;
    size_t edge;

    while (at < end && f->matched > 0)
        step(f, at++);
    while (at < end && (found = memmem(at, (size_t)(end - at), f->boundary, f->len)) != NULL) {
        secret_hash_add(f->hash, (struct slice){at, (size_t)(found - at)});
        at = found + f->len;
    }
    edge = (size_t)(end - at) < f->len - 1 ? (size_t)(end - at) : f->len - 1;
    secret_hash_add(f->hash, (struct slice){at, (size_t)(end - at) - edge});
    for (at = end - edge; at < end; at++)
        step(f, at);
}

void fingerprint_add(struct fingerprint *f, struct slice bytes)
{
    if (f->len == 0)
        secret_hash_add(f->hash, bytes);
    else
        add_all(f, bytes);
}

void fingerprint_finish(struct fingerprint *f, uint8_t out[SECRET_DIGEST])
{
    release(f, f->matched);
    f->matched = 0;
    secret_hash_finish(f->hash, out);
}

void fingerprint_destroy(struct fingerprint *f)
{
    if (f == NULL)
        return;
    secret_hash_destroy(f->hash);
    free(f);
}
