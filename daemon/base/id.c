/* id.c - making ids, and base62.
 *
 * Invariants of id_make, per thread:
 *   1. each id is greater than the one before, whatever the wall clock does: while the clock stands or goes back the
 *      next id is the last one plus one (a carry out of the random part moves into the milliseconds, which is still
 *      greater);
 *   2. random bytes are used once and come from the kernel, a block at a time: one system call for hundreds of ids.
 * All state is thread-local; any thread. */
#include "id.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "attrs.h"
#include "clock.h"

enum { RANDOM_BLOCK = 4096, RANDOM_PART = 10, LIMB_DIGITS = 5, LIMBS = 16 };

#define LIMB_BASE UINT32_C(916132832) /* 62^5, the largest power of 62 below 2^32 */

static const char alphabet[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

static _Thread_local struct {
    struct id last;
    size_t left; /* unused bytes at the end of block */
    uint8_t block[RANDOM_BLOCK];
} maker;

static void fill_random(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);

        TG_ASSERT(n > 0 || errno == EINTR);
        if (n > 0) {
            out += n;
            len -= (size_t)n;
        }
    }
}

static const uint8_t *random_part(void)
{
    if (maker.left < RANDOM_PART) {
        fill_random(maker.block, RANDOM_BLOCK);
        maker.left = RANDOM_BLOCK;
    }
    maker.left -= RANDOM_PART;
    return maker.block + maker.left;
}

static void put_be(uint8_t *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get_be(const uint8_t *in, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | in[i];
    return value;
}

static void increment(struct id *id)
{
    for (size_t i = ID_BYTES; i > 0; i--) {
        if (++id->b[i - 1] != 0)
            return;
    }
}

struct id id_make(void)
{
    uint64_t now = (uint64_t)(clock_wall() / 1000);

    if (now > get_be(maker.last.b, 6)) {
        put_be(maker.last.b, now, 6);
        memcpy(maker.last.b + 6, random_part(), RANDOM_PART);
    } else {
        increment(&maker.last);
    }
    return maker.last;
}

struct id id_from_seq(int64_t wall_us, int64_t seq)
{
    struct id id = {{0}};

    put_be(id.b, (uint64_t)(wall_us / 1000), 6);
    put_be(id.b + 8, (uint64_t)seq, 8);
    return id;
}

int64_t id_seq(struct id id)
{
    return (int64_t)get_be(id.b + 8, 8);
}

bool id_is_zero(struct id id)
{
    return get_be(id.b, 8) == 0 && get_be(id.b + 8, 8) == 0;
}

bool id_eq(struct id a, struct id b)
{
    return memcmp(a.b, b.b, ID_BYTES) == 0;
}

/* Divides the big number by 62^5 in place and returns the remainder: five digits for one pass over the limbs. */
static uint32_t divide(uint32_t *limbs, size_t n)
{
    uint64_t rest = 0;

    for (size_t i = 0; i < n; i++) {
        uint64_t part = rest << 32 | limbs[i];

        limbs[i] = (uint32_t)(part / LIMB_BASE);
        rest = part % LIMB_BASE;
    }
    return (uint32_t)rest;
}

void base62_encode(const uint8_t *bytes, size_t len, char *out, size_t digits)
{
    uint32_t limbs[LIMBS] = {0};
    size_t n = (len + 3) / 4;
    size_t at = digits;
    uint32_t left = 0;

    TG_ASSERT(n <= LIMBS);
    for (size_t i = 0; i < len; i++)
        limbs[n - 1 - (len - 1 - i) / 4] |= (uint32_t)bytes[i] << (8 * ((len - 1 - i) % 4));
    while (at > 0) {
        left = divide(limbs, n);
        for (int i = 0; i < LIMB_DIGITS && at > 0; i++) {
            out[--at] = alphabet[left % 62];
            left /= 62;
        }
    }
    for (size_t i = 0; i < n; i++)
        left |= limbs[i];
    TG_ASSERT(left == 0); /* the number fits in so many digits */
}

/* Five digits of a number below 62^5. */
static void put_limb(uint32_t value, char *out)
{
    for (int i = LIMB_DIGITS - 1; i >= 0; i--) {
        out[i] = alphabet[value % 62];
        value /= 62;
    }
}

/* All 22 digits by two long divisions: ids are written by the million. */
static void encode_id(struct id id, char out[ID_DIGITS])
{
    const uint64_t ten = (uint64_t)LIMB_BASE * LIMB_BASE; /* 62^10 */
    unsigned __int128 number = (unsigned __int128)get_be(id.b, 8) << 64 | get_be(id.b + 8, 8);
    unsigned __int128 high = number / ten;
    uint64_t low = (uint64_t)(number - high * ten), middle;
    uint32_t top = (uint32_t)(high / ten);

    middle = (uint64_t)(high - (unsigned __int128)top * ten);
    out[0] = alphabet[top / 62];
    out[1] = alphabet[top % 62];
    put_limb((uint32_t)(middle / LIMB_BASE), out + 2);
    put_limb((uint32_t)(middle % LIMB_BASE), out + 7);
    put_limb((uint32_t)(low / LIMB_BASE), out + 12);
    put_limb((uint32_t)(low % LIMB_BASE), out + 17);
}

const char *id_format(const char *prefix, struct id id, char out[ID_TEXT])
{
    size_t head = strlen(prefix);

    TG_ASSERT(head + 1 + ID_DIGITS < ID_TEXT);
    memcpy(out, prefix, head);
    out[head] = '_';
    encode_id(id, out + head + 1);
    out[head + 1 + ID_DIGITS] = '\0';
    return out;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'z' ? c - 'a' + 36 : -1;
}

bool id_parse(const char *prefix, struct slice text, struct id *out)
{
    size_t head = strlen(prefix);
    unsigned __int128 number = 0;

    if (text.len != head + 1 + ID_DIGITS || memcmp(text.p, prefix, head) != 0 || text.p[head] != '_')
        return false;
    for (size_t i = head + 1; i < text.len; i++) {
        int digit = digit_value(text.p[i]);

        if (digit < 0 || __builtin_mul_overflow(number, (unsigned __int128)62, &number) ||
            __builtin_add_overflow(number, (unsigned __int128)digit, &number))
            return false;
    }
    put_be(out->b, (uint64_t)(number >> 64), 8);
    put_be(out->b + 8, (uint64_t)number, 8);
    return true;
}
