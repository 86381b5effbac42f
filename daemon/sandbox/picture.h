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
    int64_t bytes; /* the file is grown to so many when it is smaller: a PNG by a private chunk, the others by bytes
                      behind the end, which decoders skip; 0: as it is */
};

enum { PICTURE_FILE_MAX = 128 * 1024 * 1024 }; /* bytes of any file */

/* Appends the file; <out> must have room. The last few pictures are remembered. One thread. */
void picture_write(const struct picture *p, struct buf *out);

/* Bytes that picture_write appends. */
size_t picture_length(const struct picture *p);

bool picture_same(const struct picture *a, const struct picture *b);

const char *picture_format_name(enum picture_format format); /* "png", "jpeg", "webp": also behind "image/" */
bool picture_format_parse(struct slice text, enum picture_format *out);

#endif
