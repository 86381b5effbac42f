/* buf.h - a growable byte buffer that must name its maximum.
 *
 * Invariants: len <= cap <= max; once an append did not fit the buffer is `full` for good and every later append
 * is ignored, so that a chain of appends needs one check at its end. The buffer owns its memory. */
#ifndef TG_BASE_BUF_H
#define TG_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attrs.h"
#include "slice.h"

struct buf {
    char *p;    /* NULL until the first append */
    size_t len; /* bytes in use */
    size_t cap; /* bytes allocated */
    size_t max; /* bytes it may ever hold */
    bool full;  /* an append was refused */
};

void buf_init(struct buf *b, size_t max);
void buf_dispose(struct buf *b); /* frees; wipes nothing (secrets use secret.h) */
void buf_clear(struct buf *b);   /* empty again, memory kept, `full` reset */

/* Room for <n> more bytes; returns where to write them (then call buf_advance), or NULL and `full`. */
char *buf_reserve(struct buf *b, size_t n);
void buf_advance(struct buf *b, size_t n);

void buf_append(struct buf *b, const void *bytes, size_t n);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *text);
void buf_append_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) TG_PRINTF(2, 3);

/* A JSON string with its quotes: control characters, quote and backslash escaped; bytes that are not UTF-8 become
 * U+FFFD, so the result is always valid JSON. */
void buf_append_json_string(struct buf *b, struct slice s);

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->p, b->len};
}

#endif
