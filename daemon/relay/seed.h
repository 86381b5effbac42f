/* seed.h - what was delivered today before this process counted: asked of the store once a meter, for limits by the
 * day. */
#ifndef TG_RELAY_SEED_H
#define TG_RELAY_SEED_H

#include "carry.h"

/* Looks up what <meter> has not counted since <from>, the begin of its day, and tells it; then runs <done> on the loop,
 * with NULL or why it could not be looked up (UNAVAILABLE). <ctx> must live until then. */
void seed_begin(struct relay_room *room, struct meter *meter, int64_t from,
                void (*done)(void *ctx, const struct err *err), void *ctx);

#endif
