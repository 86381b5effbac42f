/* tries.h - failed tries of admin tokens, by the client's address: who guesses is stopped, whoever else comes from the
 * same address is not locked out.
 *
 * An address has TRIES_BURST tries, and one more a second. When they are used up a token counts for nothing, right or
 * wrong, unless it is one of the last TRIES_GOOD that succeeded from that address within TRIES_REMEMBERED: so an answer
 * says nothing about a token that is guessed. An IPv6 address counts as its /64, an IPv4 address in IPv6 clothes as
 * itself, every Unix socket as one. At most TRIES_ADDRESSES are known; the one that was longest not seen makes room.
 *
 * Any thread; one lock, held for a look-up. Times are monotonic microseconds. */
#ifndef TG_ADMIN_TRIES_H
#define TG_ADMIN_TRIES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TRIES_BURST = 20,       /* failed tries at once */
    TRIES_PER_SECOND = 1,   /* that come back */
    TRIES_ADDRESSES = 4096, /* that are known */
    TRIES_GOOD = 4,         /* tokens that are remembered of each */
    TRIES_REMEMBERED = 3600 /* seconds that each of them is */
};

struct tries;

struct tries *tries_create(void);
void tries_destroy(struct tries *t); /* NULL-safe */

enum try_result {
    TRY_GOES = 0,     /* the answer is what the token deserves */
    TRY_REFUSED,      /* too many have failed: *wait says when the next may */
    TRY_REFUSED_FIRST /* the same, and it is the first since the address could try: worth a line in the log */
};

/* A token was shown from <peer> ("127.0.0.1", "::1", "unix"). <row> is of the token when it is good; the command line's
 * has TRIES_LOCAL; TRIES_BAD: it is none. *wait: microseconds, when it is refused. */
enum { TRIES_BAD = -1, TRIES_LOCAL = 0 };
enum try_result tries_count(struct tries *t, const char *peer, int64_t row, int64_t now, int64_t *wait);

#endif
