/* relay.h - one client request carried upstream: hold before the first byte goes, capture before the last one comes
 * back.
 *
 * The state machine, its invariants and its diagram stand at the head of relay.c. */
#ifndef TG_RELAY_RELAY_H
#define TG_RELAY_RELAY_H

#include "daemon/front/front.h"
#include "db/store.h"

struct relay_house; /* what all loops share */

/* <cache_directory>: is there, and ours; where large uploads wait and answers are kept. Copies what it needs of <conf>.
 */
TG_MUSTCHECK enum err_code relay_house_create(struct store *store, struct secrets *secrets, const struct conf *conf,
                                              const char *cache_directory, struct relay_house **out, struct err *err);
/* After the loops' threads have ended, while the loops are still in memory. Relays that are still under way keep the
 * house. */
void relay_house_destroy(struct relay_house *house);
void relay_house_reload(struct relay_house *house,
                        const struct conf *conf); /* LIVE keys; any thread; copies what it needs */

/* From now on new calls are answered 503; those under way finish. Any thread. */
void relay_house_drain(struct relay_house *house);

/* Per loop, before it runs: its upstream pool (LOOP_SLOT_RELAY) and what it notes of last uses (LOOP_SLOT_TOUCH, a
 * struct touch). The loop's catalog must stand in LOOP_SLOT_CATALOG. */
void relay_loop_init(struct relay_house *house, struct loop *loop);

/* When the loops' threads have ended, while the store still runs: it gets what they have noted. */
void relay_house_stop(struct relay_house *house);

/* Routes of the public listener; ctx is the house. Ends with a NULL method. */
extern const struct front_route relay_routes[];

/* Relays under way, clients gone or not: a draining daemon waits for 0. Any thread. */
int64_t relay_inflight(const struct relay_house *house);

/* One small call to a channel, to see whether it answers (GET base_url/models). Copies what it needs of the channel;
 * <done> runs on the loop. <why> is empty when it answered. */
void relay_probe(struct loop *loop, const struct channel *channel,
                 void (*done)(void *ctx, bool ok, int status, int64_t duration_us, const char *why), void *ctx);

#endif
