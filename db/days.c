/* days.c - days and hours of a time zone in whole minutes. Pure; any thread. */
#include "days.h"

#include "daemon/base/clock.h"

#define MINUTE (60 * CLOCK_SECOND)

enum { HOUR_SECONDS = 3600, MOVED_MINUTES = 3 * 60 }; /* an hour in which clocks are moved is not longer */

static int64_t ceil_minute(int64_t wall)
{
    int64_t whole = wall / MINUTE - (wall % MINUTE < 0);

    return whole + (wall != whole * MINUTE);
}

void days_at(const struct zone *z, int64_t minute, int64_t *begin, int64_t *end)
{
    int64_t day = zone_day_at(z, minute * MINUTE);

    *begin = ceil_minute(zone_day_begins(z, day));
    do
        *end = ceil_minute(zone_day_begins(z, ++day));
    while (*end <= minute); /* a day that never was */
}

/* Seconds of the zone's clocks since their last whole hour. */
static int64_t into_hour(const struct zone *z, int64_t minute)
{
    int64_t seconds = (minute * 60 + zone_offset(z, minute * MINUTE)) % HOUR_SECONDS;

    return seconds < 0 ? seconds + HOUR_SECONDS : seconds;
}

int64_t days_next_hour(const struct zone *z, int64_t minute)
{
    int64_t begin, end, next = minute + (HOUR_SECONDS - into_hour(z, minute) + 59) / 60;

    if (zone_offset(z, next * MINUTE) != zone_offset(z, minute * MINUTE)) { /* the clocks are moved before that */
        next = minute + 1;
        while (next < minute + MOVED_MINUTES && into_hour(z, next) >= 60)
            next++;
    }
    days_at(z, minute, &begin, &end);
    return next < end ? next : end;
}
