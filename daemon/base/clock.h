/* clock.h - wall and monotonic time in microseconds; tests can set both. Any thread. */
#ifndef TG_BASE_CLOCK_H
#define TG_BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

#define CLOCK_SECOND INT64_C(1000000)
enum { CLOCK_TEXT = 32 }; /* bytes for a formatted time, with the NUL */

int64_t clock_wall(void); /* microseconds since 1970-01-01T00:00:00Z */
int64_t clock_mono(void); /* microseconds since an arbitrary start; never goes back */

/* From now on both clocks stand at these values until set again; clock_release gives them back to the system. */
void clock_freeze(int64_t wall, int64_t mono);
void clock_release(void);

/* "2026-11-24T08:00:00.123456Z" (microseconds left out when they are 0). Returns <out>. */
const char *clock_format(int64_t wall, char out[CLOCK_TEXT]);

/* RFC 3339 (any offset) or whole Unix seconds; false when it is neither or outside years 1970..9999. */
bool clock_parse(struct slice text, int64_t *wall);

#endif
