/* query.c - query parameters, decoded as HTML forms are. Pure functions. */
#include "call.h"

/* False when an escape is damaged, a NUL comes out, or it does not fit. */
static bool decode(struct slice s, char *out, size_t cap)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i] == '+' ? ' ' : s.p[i];

        if (c == '%') {
            int byte = i + 2 < s.len ? slice_hex_byte(s.p[i + 1], s.p[i + 2]) : -1;

            if (byte < 0)
                return false;
            c = (char)byte;
            i += 2;
        }
        if (c == '\0' || n + 1 >= cap)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return true;
}

bool front_query_next(struct slice *rest, char *name, size_t name_cap, char *value, size_t value_cap, bool *bad)
{
    struct slice pair, left, right;

    while (rest->len > 0) {
        (void)slice_cut(*rest, '&', &pair, rest);
        if (pair.len == 0)
            continue;
        (void)slice_cut(pair, '=', &left, &right);
        if (!decode(left, name, name_cap) || !decode(right, value, value_cap)) {
            name[0] = value[0] = '\0';
            *bad = true;
        }
        return true;
    }
    return false;
}

bool front_query_get(struct slice query, const char *name, char *out, size_t cap)
{
    char found[64];
    struct slice pair, left, right;

    while (query.len > 0) {
        (void)slice_cut(query, '&', &pair, &query);
        (void)slice_cut(pair, '=', &left, &right);
        if (decode(left, found, sizeof(found)) && strcmp(found, name) == 0)
            return decode(right, out, cap);
    }
    return false;
}
