/* zone.h - civil time in a time zone of the IANA database, as far as billing periods need it: which instant a day
 * begins.
 *
 * Reads the compiled files of the machine's own database (TZif, RFC 8536), so that a change of law arrives with the
 * system's updates. "UTC" is always there. A zone is immutable and may be used by any thread.
 *
 * A day begins at the first instant at which the zone's clocks show it or a later day. So the days of a zone follow one
 * another without gap or overlap, whatever the clocks do at midnight: where they jump over it the day begins at the
 * jump, where they are set back over it the day has begun already, and a day that never was (Apia, 30 December 2011) is
 * empty. */
#ifndef TG_BASE_ZONE_H
#define TG_BASE_ZONE_H

#include <stdint.h>

#include "err.h"
#include "slice.h"

enum { ZONE_NAME = 64 };    /* bytes of a zone's name, with its NUL */
enum { ZONE_FILE = 65536 }; /* bytes of a file of the database at most */

struct zone;

/* NOT_FOUND: no such zone, a name that is none (letters, digits, _ + - and single / inside: no path leads out of the
 * database), or a damaged file. UNAVAILABLE: it could not be read this time (file descriptors, permissions). One
 * reference. <out> is touched on success only. */
TG_MUSTCHECK enum err_code zone_open(const char *name, struct zone **out, struct err *err);

/* The same from the bytes of a file; <name> is for messages. NOT_FOUND: damaged, longer than ZONE_FILE, or one that
 * counts leap seconds. */
TG_MUSTCHECK enum err_code zone_parse(const char *name, struct slice file, struct zone **out, struct err *err);

struct zone *zone_ref(struct zone *z);
void zone_unref(struct zone *z); /* NULL-safe */

/* What the zone's clocks are ahead of UTC at an instant, in seconds. <wall> in microseconds, here as below. */
int32_t zone_offset(const struct zone *z, int64_t wall);

/* Days since 1970-01-01 of the proleptic Gregorian calendar. month 1..12, day 1..31. zone_civil takes the days that an
 * instant in int64_t microseconds can have. */
int64_t zone_day_of(int year, int month, int day);
void zone_civil(int64_t day, int *year, int *month, int *day_of_month);

/* The day that is running at an instant: the last one that has begun. */
int64_t zone_day_at(const struct zone *z, int64_t wall);

/* When a day begins, in microseconds. Never falls as <day> grows. Past what int64_t can hold: its end. */
int64_t zone_day_begins(const struct zone *z, int64_t day);

#endif
