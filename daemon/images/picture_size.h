/* picture_size.h - width and height out of the first bytes of a PNG, JPEG, WebP or GIF, read piece by piece.
 *
 * Nothing is decoded and no checksum verified: a customer may write what he likes there, and the upstream, which reads
 * the same header, refuses a picture that lies. Where two decoders could see two sizes, it is unknown, and so is what
 * is neither of the four formats, ends too early, or is absurd; unknown counts as the dearest picture there is. How the
 * picture is turned (EXIF) does not matter: width and height may change places. One reader, one thread. */
#ifndef TG_IMAGES_PICTURE_SIZE_H
#define TG_IMAGES_PICTURE_SIZE_H

#include <stdint.h>

#include "daemon/base/slice.h"

enum { PICTURE_EDGE_MAX = 65535 }; /* pixels; no format of interest, and no upstream, takes more */

struct picture_size {
    uint8_t step;       /* enum of picture_size.c: what to do with the bytes when they are there */
    uint8_t have, want; /* bytes collected, and to collect */
    uint8_t bytes[24];
    uint64_t skip; /* bytes to pass over first */
    int steps;
    int w, h; /* what is known so far */
};

void picture_size_init(struct picture_size *s);
void picture_size_feed(struct picture_size *s, struct slice bytes);

/* Nothing that still comes can change the result. */
bool picture_size_done(const struct picture_size *s);

/* 0 and 0: unknown. May be asked at any time; final at the picture's end or once done. */
void picture_size_get(const struct picture_size *s, int *w, int *h);

#endif
