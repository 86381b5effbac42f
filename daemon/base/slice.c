/* slice.c - comparing, trimming, cutting and converting borrowed bytes.
 *
 * Nothing here allocates, and nothing depends on the locale: header names, configuration and key texts are ASCII by
 * contract, so isalpha() and its kin would only add surprises. Any thread. */
#include "slice.h"

static unsigned char ascii_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : (unsigned char)c;
}

bool slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
            return false;
    }
    return true;
}

bool slice_starts(struct slice s, struct slice head)
{
    return s.len >= head.len && (head.len == 0 || memcmp(s.p, head.p, head.len) == 0);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.p[0])) {
        s.p++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.p[s.len - 1]))
        s.len--;
    return s;
}

bool slice_copy(struct slice s, char *out, size_t cap)
{
    if (cap == 0)
        return false;
    if (s.len >= cap) {
        out[0] = '\0';
        return false;
    }
    if (s.len > 0)
        memcpy(out, s.p, s.len);
    out[s.len] = '\0';
    return true;
}

bool slice_to_u64(struct slice s, unsigned long long *out)
{
    unsigned long long value = 0;

    if (s.len == 0 || (s.len > 1 && s.p[0] == '0'))
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.p[i] - (unsigned)'0';

        if (digit > 9 || __builtin_mul_overflow(value, 10ULL, &value) || __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *out = value;
    return true;
}

bool slice_cut(struct slice s, char sep, struct slice *head, struct slice *rest)
{
    const char *at = s.len > 0 ? memchr(s.p, sep, s.len) : NULL;

    if (at == NULL) {
        *head = s;
        *rest = SLICE_NONE;
        return false;
    }
    *head = (struct slice){s.p, (size_t)(at - s.p)};
    *rest = (struct slice){at + 1, s.len - head->len - 1};
    return true;
}

bool slice_split_address(struct slice address, struct slice *host, struct slice *port)
{
    size_t colon = address.len;

    while (colon > 0 && address.p[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return false;
    *port = (struct slice){address.p + colon, address.len - colon};
    *host = (struct slice){address.p, colon - 1};
    if (host->len >= 2 && host->p[0] == '[' && host->p[host->len - 1] == ']')
        *host = (struct slice){host->p + 1, host->len - 2};
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int slice_hex_byte(char high, char low)
{
    int h = hex_digit(high), l = hex_digit(low);

    return h < 0 || l < 0 ? -1 : h << 4 | l;
}
