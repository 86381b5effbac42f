/* limits.h - rate limits as somebody sets them: {"requests_per_minute", "images_per_minute", "images_per_day",
 * "concurrent_requests"}, every member optional. What enforces them is meter.h. Pure; any thread. */
#ifndef TG_GATE_LIMITS_H
#define TG_GATE_LIMITS_H

#include "daemon/base/err.h"

enum limits_kind {
    LIMITS_REQUESTS_MINUTE = 0,
    LIMITS_IMAGES_MINUTE,
    LIMITS_IMAGES_DAY,
    LIMITS_CONCURRENT,
    LIMITS_KINDS
};

enum {
    LIMITS_RATE_MAX = 1000000000,   /* requests or images in a window */
    LIMITS_CONCURRENT_MAX = 100000, /* calls under way */
    LIMITS_TEXT = 192               /* bytes of the canonical text, with its NUL */
};

struct limits {
    int64_t of[LIMITS_KINDS]; /* by enum limits_kind; 1.. its greatest; 0: none */
};

const char *limits_name(enum limits_kind kind); /* "requests_per_minute"; static */
int64_t limits_greatest(enum limits_kind kind); /* the largest figure that may be set */
bool limits_any(const struct limits *limits);   /* whether there is one at all */

/* Reads the JSON text of an object (NULL, empty, {} or null members: none) that stands as <name> in a request.
 * INVALID_TYPE, INTEGER_BELOW_MIN, INTEGER_ABOVE_MAX, UNKNOWN_PARAMETER, DUPLICATE_PARAMETER naming the place:
 * "limits.images_per_day". Text that is no JSON object: INVALID_TYPE naming the whole. <out> is touched on success
 * only. */
TG_MUSTCHECK enum err_code limits_parse(const char *name, struct slice text, struct limits *out, struct err *err);

/* The canonical text, as it is stored and shown: the members that are set, in the order of the enum. */
void limits_format(const struct limits *limits, struct buf *out);

/* Of two the stricter, figure by figure. */
struct limits limits_stricter(const struct limits *a, const struct limits *b);

#endif
