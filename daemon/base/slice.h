/* slice.h - a borrowed run of bytes: never owned, never NUL-terminated by contract. */
#ifndef TG_BASE_SLICE_H
#define TG_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *p; /* may be NULL only when len is 0 */
    size_t len;    /* bytes */
};

#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})
#define SLICE_NONE ((struct slice){NULL, 0})

static inline struct slice slice_from(const char *text)
{
    return (struct slice){text, text != NULL ? strlen(text) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *text)
{
    return slice_eq(a, slice_from(text));
}

/* ASCII letters compare without case; other bytes as they are. */
bool slice_eq_nocase(struct slice a, struct slice b);

bool slice_starts(struct slice s, struct slice head);

/* Without the spaces and tabs at both ends. */
struct slice slice_trim(struct slice s);

/* Copies into <out> with a NUL; false (and an empty string) when it does not fit in <cap> bytes. */
bool slice_copy(struct slice s, char *out, size_t cap);

/* A whole decimal number without sign, spaces or leading zeros beyond "0"; false on anything else or overflow. */
bool slice_to_u64(struct slice s, unsigned long long *out);

/* Splits at the first <sep>: *head gets what stands before, *rest what stands after (none when there is no sep).
 * Returns whether the separator was there. */
bool slice_cut(struct slice s, char sep, struct slice *head, struct slice *rest);

/* "host:port" or "[v6]:port" into its two halves, brackets taken off; either half may be empty. False without a colon.
 */
bool slice_split_address(struct slice address, struct slice *host, struct slice *port);

/* The byte that two hex digits of either case stand for; -1 when one is none. */
int slice_hex_byte(char high, char low);

#endif
