/* data_url.h - the size of the picture in a data: URL, from its first bytes; other URLs are unknown.
 *
 * Strict base64 only (no blanks, no other alphabet): what another decoder might read otherwise is unknown. Reads on
 * until the size is known, but never more than DATA_URL_LOOK decoded bytes. One reader, one thread. */
#ifndef TG_IMAGES_DATA_URL_H
#define TG_IMAGES_DATA_URL_H

#include "picture_size.h"

enum {
    DATA_URL_HEAD = 128,        /* bytes of "data:image/png;base64," at most */
    DATA_URL_LOOK = 1024 * 1024 /* decoded bytes looked at: a JPEG's profile and preview stand before its size */
};

struct data_url {
    bool closed;  /* no byte that comes matters any more */
    bool in_body; /* behind the comma */
    char head[DATA_URL_HEAD];
    size_t head_len;
    uint32_t bits; /* of a group of four characters under way */
    int n_bits;
    uint32_t decoded;
    struct picture_size size;
};

void data_url_init(struct data_url *u);

/* The URL's next characters, as they are when no JSON escape stands for them. */
void data_url_feed(struct data_url *u, struct slice text);

/* Something stands in the URL that none has. */
void data_url_spoil(struct data_url *u);

void data_url_size(const struct data_url *u, int *w, int *h); /* 0 and 0: unknown */

#endif
