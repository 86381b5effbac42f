/* touch.h - when API keys and admin tokens were last used, noted without haste: one of these a loop.
 *
 * A use is noted when the last one that was is a minute old; what is noted goes to the store when STORE_TOUCHES have
 * gathered, ten seconds after the first, and at the end. No call ever waits for it, and a process that is killed loses
 * at most what it had not given away. Functions belong to the loop's thread, but for touch_stop and touch_destroy. */
#ifndef TG_GATE_TOUCH_H
#define TG_GATE_TOUCH_H

#include "db/store.h"

struct touch;

/* Asks for touch_due, on the loop's thread, once <delay> microseconds are over. */
typedef void touch_arm_fn(void *ctx, int64_t delay);

/* <box>: the loop's. */
struct touch *touch_create(struct store *store, struct mailbox *box, touch_arm_fn *arm, void *ctx);
void touch_destroy(struct touch *t); /* after the store was closed; NULL-safe */

/* Used now, wall microseconds. NULL-safe in <t>. */
void touch_key(struct touch *t, struct credential *key, int64_t now);
void touch_admin_token(struct touch *t, const struct admin_token *token, int64_t now);

void touch_due(struct touch *t); /* the delay is over */

/* Gives the store what is left: when the loop has ended and the store still runs. Nothing is noted after it. */
void touch_stop(struct touch *t);

#endif
