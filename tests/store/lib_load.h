/* lib_load.h - work for a store with a memory of what was acknowledged, and the comparison with what is there later.
 *
 * Several hands have an operation each in the queue at once: credits, holds, captures, voids, records. Whatever happens
 * to the store in between (a cut, a fault, a full disk), once it is open again
 *  (1) everything acknowledged is there: credits, charges, records; what was voided is not;
 *  (2) of what was not acknowledged each operation is there as a whole or not at all;
 *  (3) what was refused while the store went on is not there;
 *  (4) no money is held, and every balance is the sum of what is there.
 * A load is a plain value: a copy of it goes with a copy of the store's files. One thread. */
#ifndef TG_TESTS_LIB_LOAD_H
#define TG_TESTS_LIB_LOAD_H

#include "lib_dice.h"
#include "lib_world.h"

/* Whether this is a build that runs several times slower: such a test does less. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

enum { LOAD_HANDS = 8, LOAD_CALLS = 6000, LOAD_WRONG = 256 };

/* How far a call came, as far as its caller knows. */
enum load_state {
    LOAD_HOLDING = 0, /* no answer to the hold */
    LOAD_HELD,
    LOAD_CAPTURING, /* no answer to the capture */
    LOAD_CAPTURED,
    LOAD_VOIDING,
    LOAD_VOIDED,
    LOAD_RELEASED, /* by the next start */
    LOAD_ABSENT    /* refused, or found to be absent */
};

struct load_call {
    struct id id;
    enum load_state state;
    bool own_wallet; /* two legs */
    int64_t wholesale, retail;
};

struct load_hand {
    int open;            /* its call, when it has one that is held; -1 */
    int64_t row;         /* its record; 0: not made yet */
    struct id id;        /* of that record */
    int64_t known, last; /* version acknowledged, version asked for */
};

struct load {
    struct world *w;
    struct dice dice;
    int n_hands;
    struct load_hand hands[LOAD_HANDS];
    int64_t credited[2];    /* acknowledged: tenant, customer */
    unsigned unknown[2];    /* hands whose last credit got no answer */
    bool failed;            /* the store has failed */
    bool relaxed;           /* acknowledged operations may be lost: counted, not wrong */
    char wrong[LOAD_WRONG]; /* the first thing that is not as it must be; empty: none */
    int64_t acknowledged;   /* operations */
    int n_calls;
    struct load_call calls[LOAD_CALLS];
};

/* For a world that was filled with these credits. */
void load_init(struct load *l, struct world *w, uint64_t seed, int n_hands, int64_t tenant, int64_t customer);

/* As world_open, but the store may refuse: then w->store is NULL. Checks the message. */
enum err_code load_open(struct load *l, struct err *err);

/* An operation of every hand, at once. False when the store has failed (or is out of calls): no further round. */
bool load_round(struct load *l);

/* Closes the store; it told of its failure as often as it must: once when it failed, else never. */
void load_close(struct load *l);

/* Compares with a store that was opened after a restart, and takes over what is there. Returns how many acknowledged
 * operations are lost; unless `relaxed` that is wrong too. */
int load_compare(struct load *l);

/* Of the tenant (0) or the customer (1); an error is noted as wrong. */
struct store_balance load_balance(struct load *l, int wallet);

/* Whether there is a message, and it ends within its bounds. */
bool load_is_clear(const char *message, size_t cap);

#endif
