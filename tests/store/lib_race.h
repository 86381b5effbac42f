/* lib_race.h - many operations at once: threads that wait for each other and then submit all they have.
 *
 * race_run is called by one thread, which owns the operations before and after. */
#ifndef TG_TESTS_LIB_RACE_H
#define TG_TESTS_LIB_RACE_H

#include "lib_world.h"

enum { RACE_OPS = 1024 }; /* in one race at most */

/* Rounds of a race: fewer where every step is watched. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RACE_SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RACE_SLOW 1
#endif
#endif
#ifdef RACE_SLOW
enum { RACE_ROUNDS = 12 };
#else
enum { RACE_ROUNDS = 100 };
#endif

/* Up to ten operations: a thread each; more: eight threads, each with its share in flight at once. Returns when all
 * have come back; <meanwhile> (may be NULL) runs on the caller's thread beside them. */
void race_run(struct world *w, struct store_op *const *ops, int n, void (*meanwhile)(void *ctx), void *ctx);

/* Holds that all want the same money. */
struct race_holds {
    int n;
    struct store_hold ops[RACE_OPS];
    struct id won[RACE_OPS];
    int n_won;
};

/* <n> holds of these amounts at once (retail < 0: the tenant's key). Whoever lost must have INSUFFICIENT_QUOTA. */
void race_hold(struct world *w, struct race_holds *r, int n, int64_t wholesale, int64_t retail);

/* Ends what was won, all at once: about half by capture of the whole, the others by void. Returns the captures. */
int race_end(struct world *w, struct race_holds *r, int64_t wholesale, int64_t retail, unsigned *random);

/* Makes what is available in a wallet <amount>: a grant or an adjustment. */
void race_fill(struct world *w, bool customer, int64_t amount);

/* Fails the test when more is held in a wallet than it bears. */
void race_check_wallet(struct world *w, bool customer);

#endif
