/* route.c - which handler a method and path have. Pure functions over the listener's table. */
#include "inside.h"

/* "{id}" takes one segment, "{rest}" what is left; each at the place of a whole segment. */
static bool matches(const char *pattern, struct slice path, struct slice *param)
{
    size_t at = 0;

    *param = SLICE_NONE;
    for (; *pattern != '\0'; pattern++, at++) {
        if (*pattern == '{') {
            bool rest = pattern[1] == 'r';
            size_t end = at;

            while (end < path.len && (rest || path.p[end] != '/'))
                end++;
            if (end == at)
                return false;
            *param = (struct slice){path.p + at, end - at};
            at = end - 1;
            pattern = strchr(pattern, '}');
        } else if (at >= path.len || path.p[at] != *pattern) {
            return false;
        }
    }
    return at == path.len;
}

/* Whether the table names this very path: then it is no {id} of another row. */
static bool is_named(const struct front_route *routes, struct slice path)
{
    for (; routes->method != NULL; routes++) {
        if (slice_eq_str(path, routes->pattern))
            return true;
    }
    return false;
}

/* As matches, for a path that is_named or not. */
static bool fits(const char *pattern, bool named, struct slice path, struct slice *param)
{
    return matches(pattern, path, param) && (!named || strchr(pattern, '{') == NULL);
}

void route_find(const struct front_route *routes, struct slice method, struct slice path, struct route_match *out)
{
    bool named = is_named(routes, path);
    struct slice param;

    if (slice_eq_str(method, "HEAD")) /* whatever can be got has a head (RFC 9110, 9.1) */
        method = SLICE("GET");
    *out = (struct route_match){.route = NULL};
    for (; routes->method != NULL; routes++) {
        if (!fits(routes->pattern, named, path, &param))
            continue;
        out->path_known = true;
        if (slice_eq_str(method, routes->method)) {
            out->route = routes;
            out->param = param;
            return;
        }
    }
}

void route_allowed(const struct front_route *routes, struct slice path, struct buf *out)
{
    bool named = is_named(routes, path);
    struct slice param;

    for (; routes->method != NULL; routes++) {
        if (!fits(routes->pattern, named, path, &param))
            continue;
        if (out->len > 0)
            buf_append_str(out, ", ");
        buf_append_str(out, routes->method);
    }
}
