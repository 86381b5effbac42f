/* minute.c - a ring of seconds. used is the sum of its cells; cells older than the newest by MINUTE_CELLS are empty or
 * another second's. Pure. */
#include "minute.h"

#include "daemon/base/attrs.h"
#include "daemon/base/clock.h"

void minute_advance(struct minute *t, int64_t second)
{
    int64_t from = second - t->latest > MINUTE_CELLS ? second - MINUTE_CELLS : t->latest;

    while (from < second) {
        uint32_t *cell = &t->cells[++from % MINUTE_CELLS];

        t->used -= *cell;
        *cell = 0;
    }
    if (second > t->latest)
        t->latest = second;
}

void minute_add(struct minute *t, int64_t second, int n)
{
    t->cells[second % MINUTE_CELLS] += (uint32_t)n;
    t->used += n;
}

void minute_give_back(struct minute *t, int64_t second, int n)
{
    uint32_t *cell = &t->cells[second % MINUTE_CELLS];

    if (second <= t->latest - MINUTE_CELLS)
        return; /* it counts no more */
    TG_ASSERT(*cell >= (uint32_t)n);
    *cell -= (uint32_t)n;
    t->used -= n;
}

/* When what is in a second's cell counts no more. */
static int64_t leaves_at(int64_t second)
{
    return (second + MINUTE_CELLS) * CLOCK_SECOND;
}

/* Microseconds until <n> more fit. */
int64_t minute_wait(const struct minute *t, int64_t limit, int n, int64_t now)
{
    int64_t used = t->used;

    for (int64_t s = t->latest - MINUTE_CELLS + 1; s <= t->latest; s++) {
        used -= s >= 0 ? t->cells[s % MINUTE_CELLS] : 0;
        if (used + n <= limit)
            return leaves_at(s) - now;
    }
    return INT64_MAX;
}

int64_t minute_reset(const struct minute *t, int64_t now)
{
    for (int64_t s = t->latest; s >= 0 && s > t->latest - MINUTE_CELLS; s--)
        if (t->cells[s % MINUTE_CELLS] > 0)
            return leaves_at(s) - now;
    return 0;
}
