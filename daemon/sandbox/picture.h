/* picture.h - real pictures: a gradient that depends on a seed, as PNG, JPEG or WebP of any size up to the API's
 * largest. */
#ifndef TG_SANDBOX_PICTURE_H
#define TG_SANDBOX_PICTURE_H

#include "daemon/base/buf.h"

enum picture_format { PICTURE_PNG = 0, PICTURE_JPEG, PICTURE_WEBP, PICTURE_FORMATS };

struct picture {
    enum picture_format format;
    int w, h; /* pixels, 1..3840 */
    uint64_t seed;
};

/* Appends the file; grown to <bytes> when it is smaller (a PNG by a private chunk, the others by bytes behind the end,
 * which decoders skip). <bytes> 0: as it is. <out> must have room. The last few pictures are remembered. One thread. */
void picture_write(const struct picture *p, int64_t bytes, struct buf *out);

const char *picture_format_name(enum picture_format format); /* "png", "jpeg", "webp": also behind "image/" */
bool picture_format_parse(struct slice text, enum picture_format *out);

#endif
