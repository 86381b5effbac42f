/* upstream_body.h - inside upstream.h: a request's body as libcurl takes it, in one piece or read from begin to end.
 * Only upstream.c includes this. */
#ifndef TG_RELAY_UPSTREAM_BODY_H
#define TG_RELAY_UPSTREAM_BODY_H

#include <sys/types.h>

#include "upstream.h"

struct upstream_body {
    struct upstream_part parts[UPSTREAM_BODY_PARTS];
    int n;
    uint64_t len;
    int part; /* where it is read next */
    uint64_t at;
    char *joined; /* a small one of several runs, in one piece; NULL: none */
};

/* What the parts point at is borrowed until upstream_body_release. */
void upstream_body_set(struct upstream_body *b, const struct upstream_part *parts, int n);
void upstream_body_release(struct upstream_body *b);

/* All of it in one piece, which leaves in the same write as the head when it is small; borrowed until
 * upstream_body_release. NULL: it has to be read. Before the first upstream_body_read. */
const char *upstream_body_piece(struct upstream_body *b);

/* The next bytes, fewer than <cap> only at the end. -1: a file could not be read. */
ssize_t upstream_body_read(struct upstream_body *b, char *out, size_t cap);

#endif
