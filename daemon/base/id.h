/* id.h - 128-bit ids that sort by time, written as a prefix and 22 base62 characters ("ten_0Q3...").
 *
 * Two makes of them:
 *   id_make      48 bits of milliseconds, then 80 random bits (one more than the last inside the same millisecond)
 *   id_from_seq  48 bits of milliseconds, 16 zero bits, a 64-bit row number: rows that the store numbers anyway need no
 *                second index to be found by their id
 * Base62 is 0-9A-Za-z, most significant digit first, so text sorts as the number does. */
#ifndef TG_BASE_ID_H
#define TG_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum { ID_BYTES = 16, ID_DIGITS = 22, ID_TEXT = 32 }; /* ID_TEXT: prefix, "_", digits, NUL */

struct id {
    uint8_t b[ID_BYTES]; /* big-endian */
};

struct id id_make(void); /* any thread; strictly increasing within the thread */
struct id id_from_seq(int64_t wall_us, int64_t seq);
int64_t id_seq(struct id id); /* the row number of id_from_seq */
bool id_is_zero(struct id id);
bool id_eq(struct id a, struct id b);

/* <prefix> without underscore: "ten". Returns <out>. */
const char *id_format(const char *prefix, struct id id, char out[ID_TEXT]);

/* False unless <text> is exactly <prefix>, "_" and 22 digits of a number below 2^128. */
bool id_parse(const char *prefix, struct slice text, struct id *out);

/* Base62 of a 32-byte secret (43 digits) and of a CRC (6 digits) use the same alphabet. <out> gets exactly <digits>
 * characters and no NUL; the number must fit. */
void base62_encode(const uint8_t *bytes, size_t len, char *out, size_t digits);

#endif
