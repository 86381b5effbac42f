/* utf8.c - validity by the table of well-formed byte sequences (RFC 3629, section 4; Unicode table 3-7).
 *
 * Bodies are nearly all ASCII, so eight bytes at a time are passed while none has its high bit set. Any thread. */
#include "utf8.h"

#include <stdint.h>

static bool is_continuation(unsigned char c)
{
    return (c & 0xC0) == 0x80;
}

/* What the second byte may be depends on the first: this is where overlong forms and surrogates fall out. */
static bool second_fits(unsigned char first, unsigned char second)
{
    switch (first) {
    case 0xE0:
        return second >= 0xA0 && second <= 0xBF;
    case 0xED:
        return second >= 0x80 && second <= 0x9F;
    case 0xF0:
        return second >= 0x90 && second <= 0xBF;
    case 0xF4:
        return second >= 0x80 && second <= 0x8F;
    default:
        return is_continuation(second);
    }
}

static size_t length_by_first(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first < 0xC2)
        return 0;
    if (first < 0xE0)
        return 2;
    if (first < 0xF0)
        return 3;
    return first < 0xF5 ? 4 : 0;
}

size_t utf8_length(struct slice s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t n = s.len > 0 ? length_by_first(p[0]) : 0;

    if (n > s.len)
        return 0;
    if (n >= 2 && !second_fits(p[0], p[1]))
        return 0;
    for (size_t i = 2; i < n; i++) {
        if (!is_continuation(p[i]))
            return 0;
    }
    return n;
}

static size_t ascii_run(struct slice s)
{
    size_t i = 0;

    while (s.len - i >= 8) {
        uint64_t eight;

        memcpy(&eight, s.p + i, 8);
        if ((eight & UINT64_C(0x8080808080808080)) != 0)
            break;
        i += 8;
    }
    while (i < s.len && (unsigned char)s.p[i] < 0x80)
        i++;
    return i;
}

bool utf8_valid(struct slice s)
{
    while (s.len > 0) {
        size_t n = ascii_run(s);

        if (n == 0 && (n = utf8_length(s)) == 0)
            return false;
        s.p += n;
        s.len -= n;
    }
    return true;
}

size_t utf8_count(struct slice s)
{
    size_t count = 0;

    for (size_t i = 0; i < s.len; i++)
        count += !is_continuation((unsigned char)s.p[i]);
    return count;
}

struct slice utf8_head(struct slice s, size_t max)
{
    size_t n = max;

    if (s.len <= max)
        return s;
    /* At most three continuation bytes follow a first byte; a longer run is not UTF-8 and may be cut anywhere. */
    while (n > 0 && max - n < 3 && is_continuation((unsigned char)s.p[n]))
        n--;
    if (is_continuation((unsigned char)s.p[n]))
        n = max;
    return (struct slice){s.p, n};
}
