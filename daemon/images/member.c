/* member.c - decoding of escaped strings, one character at a time.
 *
 * Only printable ASCII is of interest: the names of members, sizes and qualities. An escape that gives anything else
 * makes the string one that we do not know. The scanner has checked the escapes' form; nothing here trusts that, so a
 * cut string is safe too. Pure functions, any thread. */
#include "member.h"

enum { HEX_DIGITS = 4, UNKNOWN = -1 };

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : UNKNOWN;
}

/* The code unit of "XXXX" at the start of <s>. */
static int decode_hex(struct slice s)
{
    int value = 0;

    if (s.len < HEX_DIGITS)
        return UNKNOWN;
    for (size_t i = 0; i < HEX_DIGITS; i++) {
        int digit = hex_value(s.p[i]);

        if (digit < 0)
            return UNKNOWN;
        value = value * 16 + digit;
    }
    return value;
}

/* Takes one character off the head of *s: printable ASCII, or UNKNOWN. *s is not empty. */
static int next_char(struct slice *s)
{
    size_t taken = 1;
    int c = (unsigned char)s->p[0];

    if (c == '\\') {
        char kind = s->len > 1 ? s->p[1] : '\0';
        bool hex = kind == 'u';

        c = kind == '"' || kind == '\\' || kind == '/' ? kind : UNKNOWN;
        if (hex)
            c = decode_hex((struct slice){s->p + 2, s->len - 2});
        taken = hex && c != UNKNOWN ? 2 + HEX_DIGITS : s->len > 1 ? 2 : 1;
    }
    s->p += taken;
    s->len -= taken;
    return c >= ' ' && c < 0x7F ? c : UNKNOWN;
}

bool member_is(struct slice escaped, bool whole, const char *name)
{
    while (whole && escaped.len > 0 && *name != '\0') {
        if (next_char(&escaped) != (unsigned char)*name++)
            return false;
    }
    return whole && escaped.len == 0 && *name == '\0';
}

bool member_text(struct slice escaped, bool whole, char *out, size_t cap)
{
    size_t n = 0;

    out[0] = '\0';
    while (whole && escaped.len > 0) {
        int c = next_char(&escaped);

        if (c == UNKNOWN || n + 1 >= cap) {
            out[0] = '\0';
            return false;
        }
        out[n++] = (char)c;
    }
    out[n] = '\0';
    return whole;
}
