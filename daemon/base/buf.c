/* buf.c - growth by doubling up to the named maximum, and JSON string escaping.
 *
 * Invariants: those of buf.h; besides, p is NULL exactly while cap is 0, and growth never moves past max, so an
 * append either lands whole or leaves the bytes as they were and marks the buffer full. One thread at a time. */
#include "buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "utf8.h"

enum { BUF_FIRST = 256 }; /* bytes of the first allocation */

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_dispose(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->full = false;
}

static void grow(struct buf *b, size_t need)
{
    size_t cap = b->cap > 0 ? b->cap : BUF_FIRST;

    while (cap < need)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    if (cap > b->max)
        cap = b->max;
    b->p = mem_realloc(b->p, cap);
    b->cap = cap;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->full || n > b->max - b->len) {
        b->full = true;
        return NULL;
    }
    if (b->p == NULL || b->cap - b->len < n)
        grow(b, b->len + n);
    return b->p + b->len;
}

void buf_advance(struct buf *b, size_t n)
{
    TG_ASSERT(n <= b->cap - b->len);
    b->len += n;
}

void buf_append(struct buf *b, const void *bytes, size_t n)
{
    char *at;

    if (n == 0)
        return;
    at = buf_reserve(b, n);
    if (at == NULL)
        return;
    memcpy(at, bytes, n);
    b->len += n;
}

void buf_append_slice(struct buf *b, struct slice s)
{
    buf_append(b, s.p, s.len);
}

void buf_append_str(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_append_char(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(small, sizeof(small), fmt, args);
    va_end(args);
    TG_ASSERT(n >= 0);
    if ((size_t)n < sizeof(small)) {
        buf_append(b, small, (size_t)n);
        return;
    }
    /* vsnprintf ends with a NUL that is not part of the text, hence one byte more for it while it is written. */
    char *large = mem_alloc((size_t)n + 1);

    va_start(args, fmt);
    (void)vsnprintf(large, (size_t)n + 1, fmt, args);
    va_end(args);
    buf_append(b, large, (size_t)n);
    free(large);
}

/* Bytes at the head of <s> that stand in a JSON string as they are. C1 controls (C2 80..9F) are kept out because
 * terminals obey some of them. */
static size_t plain_run(struct slice s)
{
    size_t i = 0;

    while (i < s.len) {
        unsigned char c = (unsigned char)s.p[i];
        size_t n;

        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)
            break;
        if (c < 0x80) {
            i++;
            continue;
        }
        n = utf8_length((struct slice){s.p + i, s.len - i});
        if (n == 0 || (c == 0xC2 && (unsigned char)s.p[i + 1] < 0xA0))
            break;
        i += n;
    }
    return i;
}

static const char *short_escape(unsigned char c)
{
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

/* Writes one character that may not stand as it is; returns how many bytes of <s> it took. */
static size_t append_escaped(struct buf *b, struct slice s)
{
    unsigned char c = (unsigned char)s.p[0];
    const char *escape = short_escape(c);

    if (escape != NULL) {
        buf_append_str(b, escape);
        return 1;
    }
    if (c < 0x80) {
        buf_printf(b, "\\u%04x", c);
        return 1;
    }
    if (utf8_length(s) == 2) { /* only a C1 control comes here well-formed */
        buf_printf(b, "\\u%04x", (unsigned char)s.p[1]);
        return 2;
    }
    buf_append_str(b, "\xEF\xBF\xBD");
    return 1;
}

void buf_append_json_string(struct buf *b, struct slice s)
{
    buf_append_char(b, '"');
    while (s.len > 0 && !b->full) {
        size_t n = plain_run(s);

        buf_append(b, s.p, n);
        if (n < s.len)
            n += append_escaped(b, (struct slice){s.p + n, s.len - n});
        s.p += n;
        s.len -= n;
    }
    buf_append_char(b, '"');
}
