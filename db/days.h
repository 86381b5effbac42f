/* days.h - days and hours of a time zone in whole minutes, as roll-ups are kept.
 *
 * Minutes are since 1970. A border that lies within a minute (clocks of the past that ran by the sun) is moved to its
 * end. So the days of a zone still follow one another without gap or overlap. Pure; any thread. */
#ifndef TG_DB_DAYS_H
#define TG_DB_DAYS_H

#include <stdbool.h>

#include "daemon/base/zone.h"

enum { DAYS_MINUTES = 24 * 60, DAYS_LONGEST = 10000 }; /* of UTC; no day of any zone is so long */

/* The day that a minute is in: [begin, end), end > begin. */
void days_at(const struct zone *z, int64_t minute, int64_t *begin, int64_t *end);

/* The first minute after <minute> in which an hour of the zone's clocks begins, or a day. Where the clocks are moved by
 * a part of an hour, that hour is longer or shorter. */
int64_t days_next_hour(const struct zone *z, int64_t minute);

#endif
