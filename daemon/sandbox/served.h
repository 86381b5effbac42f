/* served.h - what the sandbox has served, so that a test can hold it against what was charged. One thread. */
#ifndef TG_SANDBOX_SERVED_H
#define TG_SANDBOX_SERVED_H

#include "daemon/base/buf.h"

enum { SERVED_KEYS = 1024 }; /* keys told apart; further ones count as "other" */

/* One accepted call by the key <bearer> that made <images> pictures and <partials> partial ones (they count once they
 * are made, delivered or not). */
void served_add(struct slice bearer, int images, int partials);

/* {"requests", "images", "partial_images", "by_key": {"sk-...aB3x": {"requests", "images", "partial_images"}}} */
void served_print(struct buf *out);

#endif
