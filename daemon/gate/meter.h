/* meter.h - what counts against rate limits: one meter for each API key, customer and tenant that has some, shared by
 * all loops.
 *
 * Minutes are sixty cells of a second and the one that is running: never more than the figure within any sixty seconds,
 * and what was used is free again up to a second late. A day is the tenant's calendar day in its time zone. Calls under
 * way are counted from their admission to their end.
 *
 * A call takes from all meters that stand (the key's, its customer's, its tenant's), or from none: they are locked
 * together, in that order, for some hundred instructions. Whoever has no limits has no meter and meets no lock.
 *
 * The counters of a meter live on when its figures change, and from one version of a record to the next. A day's are
 * not known before somebody has looked them up (meters_to_seed): so neither a restart nor a kill gives a day twice.
 *
 * Any thread. */
#ifndef TG_GATE_METER_H
#define TG_GATE_METER_H

#include "limits.h"

enum { METER_SECONDS = 61 }; /* what was used in a minute counts so long at most */

/* Whose: the order in which meters are locked, checked and named. */
enum meter_owner { METER_KEY = 0, METER_CUSTOMER, METER_TENANT, METER_OWNERS };

struct meter;
struct meters; /* all of them */

struct meters *meters_create(void);
void meters_destroy(
    struct meters *all); /* NULL-safe; when somebody still holds a meter, all stay for the process's end */

/* The meter of a record that has limits: one reference. <version>: of the record; older figures never take the place
 * of newer ones. <zone_name>: the tenant's time zone; one that cannot be read counts as UTC. */
struct meter *meters_enter(struct meters *all, enum meter_owner owner, int64_t row, int64_t version, int64_t tenant_row,
                           const struct limits *limits, const char *zone_name);

/* The tenant's days are those of another zone from now on: for its own meter and its customers' and keys'. */
void meters_set_zone(struct meters *all, int64_t tenant_row, const char *zone_name);

struct meter *meter_ref(struct meter *m); /* NULL-safe, as is the next */
void meter_unref(struct meter *m);

struct limits meter_limits(struct meter *m); /* the figures now */

/* ---- a call ---- */

/* What the caller is told: the tightest of its limits, that with the least remaining. */
struct meter_figures {
    int64_t limit;     /* 0: none stands */
    int64_t remaining; /* after this call */
    int64_t reset;     /* microseconds until all of it is free again */
};

struct meter_view {
    struct meter_figures requests, images; /* requests by the minute; images by the minute or the day */
    int64_t wait; /* of a refusal: microseconds until the same call can pass; INT64_MAX: never, it asks for too much */
};

#define METER_NO_DAY INT64_MIN

/* What a call has taken; begins as all zeros. Belongs to the call. */
struct permit {
    struct meter *meters[METER_OWNERS]; /* references; NULL: none, or given back */
    int64_t second;                     /* in which it was admitted, monotonic */
    bool minutes[METER_OWNERS];         /* its images count in that one's minute */
    int64_t days[METER_OWNERS];         /* begin of the day in which its images count; METER_NO_DAY: in none */
    int images;                         /* asked for */
};

/* The first of <meters> whose day is not known, and where that day begins; NULL: none. Borrowed. The caller looks up
 * what was delivered since and tells it with meter_seed; until then no call passes. */
struct meter *meters_to_seed(struct meter *const meters[METER_OWNERS], int64_t *from);
enum meter_owner meter_owner_of(const struct meter *m);
int64_t meter_row(const struct meter *m);

/* <images> were delivered since <from>; calls under way are counted besides. Passed over when that day is known
 * meanwhile, or is not the meter's any more. */
void meter_seed(struct meter *m, int64_t from, int64_t images);

/* Takes one request, <images> and a place among the calls under way from all meters (NULL: none), or nothing:
 * REQUESTS_LIMIT or IMAGES_LIMIT with a message that names whose limit, which and its figure (of several the one that
 * lasts longest); UNAVAILABLE when a day is not known. <permit> is filled on success, <view> always. */
TG_MUSTCHECK enum err_code meters_admit(struct meter *const meters[METER_OWNERS], int images, struct permit *permit,
                                        struct meter_view *view, struct err *err);

/* What would be told now, with nothing taken. */
void meters_look(struct meter *const meters[METER_OWNERS], struct meter_view *view);

/* The call is over and <delivered> of its images were: its place is free, and the images that were asked for and not
 * delivered are given back. Once; a permit that holds nothing stays so. The request itself counts, whatever came of
 * it. */
void permit_end(struct permit *permit, int delivered);

/* A span of time for people and headers, rounded up: "20ms", "1s", "6m0s", "11h3m20s". Returns <out>. */
enum { METER_SPAN_TEXT = 32 };
const char *meter_format_span(int64_t microseconds, char out[METER_SPAN_TEXT]);

#endif
