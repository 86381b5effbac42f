/* settle.h - what ends a hold: the operation for the store, filled from what the upstream call came to. */
#ifndef TG_RELAY_SETTLE_H
#define TG_RELAY_SETTLE_H

#include "carry.h"

/* Fills r->settle and returns its operation, but for mail and reply_to. A capture whose charge cannot be worked out
 * becomes a doubt, and r->outcome is changed to match. */
struct store_op *settle_fill(struct relay *r, enum outcome_money money);

#endif
