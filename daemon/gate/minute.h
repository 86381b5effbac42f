/* minute.h - how much was taken in the last minute: sixty cells of a second and the one that is running.
 *
 * What is taken in a second counts until that second lies sixty behind; so the sum over any sixty seconds is never more
 * than what was let in, and what was used is free again up to a second late. Seconds and microseconds are monotonic and
 * never go back. Pure; one thread at a time. */
#ifndef TG_GATE_MINUTE_H
#define TG_GATE_MINUTE_H

#include <stdint.h>

enum { MINUTE_CELLS = 61 };

struct minute {
    int64_t latest;               /* second of the newest cell */
    int64_t used;                 /* the sum of the cells */
    uint32_t cells[MINUTE_CELLS]; /* by second % MINUTE_CELLS */
};

void minute_advance(struct minute *t, int64_t second);          /* lets go of what counts no more */
void minute_add(struct minute *t, int64_t second, int n);       /* in the running second */
void minute_give_back(struct minute *t, int64_t second, int n); /* what was added there, unless it counts no more */

/* Microseconds from <now> until <n> more fit under <limit>; INT64_MAX: never. */
int64_t minute_wait(const struct minute *t, int64_t limit, int n, int64_t now);

/* Microseconds until nothing is used. */
int64_t minute_reset(const struct minute *t, int64_t now);

#endif
