/* meter.c - what a call takes from its meters, and gives back.
 *
 *   a day:  UNKNOWN --meter_seed--> KNOWN --its end--> KNOWN, nothing used
 *              ^----------------------'  another zone, a clock that went back, a limit that is new
 *
 * Invariants
 *  (1) What a call takes it takes from all of its meters while all are locked; a refused one has changed no counter.
 *  (2) A minute has what was admitted in it and not given back: at most the figure that stood.
 *  (3) No call passes a limit by the day while that day is UNKNOWN.
 *  (4) busy and pending are the calls, and their images, of permits that hold this meter.
 *  (5) Locks: the register's goes before a meter's; of meters the key's before the customer's before the tenant's.
 *
 * More than one word must change at once, and a call that is refused must not make another one fail on its way: so a
 * lock, not a row of atomics. It is held for some hundred instructions and never across anything that waits.
 *
 * Any thread. */
#include "meter_state.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/base/clock.h"
#include "daemon/base/metrics.h"

_Static_assert((int)METER_SECONDS == (int)MINUTE_CELLS, "a minute's cells are seconds");

#define BUSY_WAIT (1 * CLOCK_SECOND) /* nobody knows when a call ends */

struct limits meter_limits(struct meter *m)
{
    struct limits limits;

    pthread_mutex_lock(&m->lock);
    limits = m->limits;
    pthread_mutex_unlock(&m->lock);
    return limits;
}

enum meter_owner meter_owner_of(const struct meter *m)
{
    return m->owner;
}

int64_t meter_row(const struct meter *m)
{
    return m->row;
}

/* ---- days ---- */

void meter_forget_day(struct meter *m)
{
    m->known = false;
    m->begin = m->end = m->ended = METER_NO_DAY;
}

/* Lets the day be that of <wall>. */
static void turn(struct meter *m, int64_t wall)
{
    int64_t day;

    if (m->begin <= wall && wall < m->end)
        return;
    day = zone_day_at(m->zone->zone, wall);
    m->begin = zone_day_begins(m->zone->zone, day);
    m->end = zone_day_begins(m->zone->zone, day + 1);
    m->used = 0;
    m->known = m->known && m->begin >= m->ended; /* a clock that went back: something was counted there */
    if (m->end > m->ended)
        m->ended = m->end;
}

struct meter *meters_to_seed(struct meter *const meters[METER_OWNERS], int64_t *from)
{
    for (int i = 0; i < METER_OWNERS; i++) {
        struct meter *m = meters[i];
        bool unknown;

        if (m == NULL)
            continue;
        pthread_mutex_lock(&m->lock);
        if (m->limits.of[LIMITS_IMAGES_DAY] != 0)
            turn(m, clock_wall());
        unknown = m->limits.of[LIMITS_IMAGES_DAY] != 0 && !m->known;
        *from = m->begin;
        pthread_mutex_unlock(&m->lock);
        if (unknown)
            return m;
    }
    return NULL;
}

void meter_seed(struct meter *m, int64_t from, int64_t images)
{
    pthread_mutex_lock(&m->lock);
    if (!m->known && m->begin == from) {
        m->known = true;
        m->used = images + m->pending;
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- a call ---- */

/* One moment for all meters of a call, read while they are locked: so no meter ever sees an earlier one than before,
 * unless the wall clock was set back. */
struct moment {
    int64_t now, wall; /* microseconds, monotonic and wall */
};

/* The limit that holds a call back longest. */
struct fault {
    const struct meter *meter; /* NULL: none does */
    enum limits_kind kind;
    int64_t used, wait;
};

static bool has_any(struct meter *const meters[METER_OWNERS])
{
    bool any = false;

    for (int i = 0; i < METER_OWNERS; i++)
        any |= meters[i] != NULL;
    return any;
}

static void lock_all(struct meter *const meters[METER_OWNERS])
{
    for (int i = 0; i < METER_OWNERS; i++)
        if (meters[i] != NULL)
            pthread_mutex_lock(&meters[i]->lock);
}

static void unlock_all(struct meter *const meters[METER_OWNERS])
{
    for (int i = METER_OWNERS - 1; i >= 0; i--)
        if (meters[i] != NULL)
            pthread_mutex_unlock(&meters[i]->lock);
}

static struct minute *minute_of(struct minute **of)
{
    if (*of == NULL)
        *of = mem_zalloc(sizeof(**of));
    return *of;
}

/* Brings all windows to now; false when a day is not known. */
static bool bring_to_now(struct meter *const meters[METER_OWNERS], struct moment *at)
{
    bool known = true;

    *at = (struct moment){clock_mono(), clock_wall()};
    for (int i = 0; i < METER_OWNERS; i++) {
        struct meter *m = meters[i];

        if (m == NULL)
            continue;
        if (m->limits.of[LIMITS_REQUESTS_MINUTE] != 0)
            minute_advance(minute_of(&m->requests), at->now / CLOCK_SECOND);
        if (m->limits.of[LIMITS_IMAGES_MINUTE] != 0)
            minute_advance(minute_of(&m->images), at->now / CLOCK_SECOND);
        if (m->limits.of[LIMITS_IMAGES_DAY] == 0)
            continue;
        turn(m, at->wall);
        known &= m->known;
    }
    return known;
}

static int64_t used_of(const struct meter *m, enum limits_kind kind)
{
    switch (kind) {
    case LIMITS_REQUESTS_MINUTE:
        return m->requests->used;
    case LIMITS_IMAGES_MINUTE:
        return m->images->used;
    case LIMITS_IMAGES_DAY:
        return m->used;
    case LIMITS_CONCURRENT:
        return m->busy;
    case LIMITS_KINDS:
        break;
    }
    return 0;
}

static int64_t wait_for(const struct meter *m, enum limits_kind kind, int n, const struct moment *at)
{
    int64_t limit = m->limits.of[kind];

    if (n > limit)
        return INT64_MAX;
    switch (kind) {
    case LIMITS_REQUESTS_MINUTE:
        return minute_wait(m->requests, limit, n, at->now);
    case LIMITS_IMAGES_MINUTE:
        return minute_wait(m->images, limit, n, at->now);
    case LIMITS_IMAGES_DAY:
        return m->end - at->wall;
    case LIMITS_CONCURRENT:
    case LIMITS_KINDS:
        break;
    }
    return BUSY_WAIT;
}

static bool counts_images(enum limits_kind kind)
{
    return kind == LIMITS_IMAGES_MINUTE || kind == LIMITS_IMAGES_DAY;
}

static void check(const struct meter *m, int images, const struct moment *at, struct fault *worst)
{
    for (int i = 0; i < LIMITS_KINDS; i++) {
        enum limits_kind kind = (enum limits_kind)i;
        int n = counts_images(kind) ? images : 1;
        int64_t used, wait;

        if (m->limits.of[kind] == 0)
            continue;
        used = used_of(m, kind);
        if (used + n <= m->limits.of[kind])
            continue;
        wait = wait_for(m, kind, n, at);
        if (worst->meter == NULL || wait > worst->wait)
            *worst = (struct fault){m, kind, used, wait};
    }
}

static void take(struct meter *m, int i, struct permit *permit)
{
    permit->meters[i] = meter_ref(m);
    permit->minutes[i] = m->limits.of[LIMITS_IMAGES_MINUTE] != 0;
    permit->days[i] = m->limits.of[LIMITS_IMAGES_DAY] != 0 ? m->begin : METER_NO_DAY;
    m->busy++;
    m->pending += permit->images;
    if (m->limits.of[LIMITS_REQUESTS_MINUTE] != 0)
        minute_add(m->requests, permit->second, 1);
    if (permit->minutes[i])
        minute_add(m->images, permit->second, permit->images);
    if (permit->days[i] != METER_NO_DAY)
        m->used += permit->images;
}

/* ---- what is told ---- */

static void tighten(struct meter_figures *least, int64_t limit, int64_t used, int64_t reset)
{
    int64_t remaining = limit > used ? limit - used : 0;

    if (least->limit == 0 || remaining < least->remaining)
        *least = (struct meter_figures){limit, remaining, reset > 0 ? reset : 0};
}

static void view_meter(const struct meter *m, const struct moment *at, struct meter_view *view)
{
    const int64_t *limits = m->limits.of;

    if (limits[LIMITS_REQUESTS_MINUTE] != 0)
        tighten(&view->requests, limits[LIMITS_REQUESTS_MINUTE], m->requests->used, minute_reset(m->requests, at->now));
    if (limits[LIMITS_IMAGES_MINUTE] != 0)
        tighten(&view->images, limits[LIMITS_IMAGES_MINUTE], m->images->used, minute_reset(m->images, at->now));
    if (limits[LIMITS_IMAGES_DAY] != 0 && m->known)
        tighten(&view->images, limits[LIMITS_IMAGES_DAY], m->used, m->used > 0 ? m->end - at->wall : 0);
}

static void fill_view(struct meter *const meters[METER_OWNERS], const struct moment *at, struct meter_view *view)
{
    for (int i = 0; i < METER_OWNERS; i++)
        if (meters[i] != NULL)
            view_meter(meters[i], at, view);
}

void meters_look(struct meter *const meters[METER_OWNERS], struct meter_view *view)
{
    struct moment at;

    *view = (struct meter_view){.wait = 0};
    if (!has_any(meters))
        return;
    lock_all(meters);
    (void)bring_to_now(meters, &at);
    fill_view(meters, &at, view);
    unlock_all(meters);
}

static enum err_code refuse(const struct fault *f, int64_t limit, int images, struct err *err)
{
    static const char *const owners[METER_OWNERS] = {
        [METER_KEY] = "API key", [METER_CUSTOMER] = "customer", [METER_TENANT] = "account"};
    enum err_code code = counts_images(f->kind) ? ERR_IMAGES_LIMIT : ERR_REQUESTS_LIMIT;
    const char *owner = owners[f->meter->owner];
    char span[METER_SPAN_TEXT];

    metric_add_label(METRIC_RATE_LIMITED, (unsigned)f->kind, 1);
    if (f->wait == INT64_MAX)
        return err_set(err, code, NULL,
                       "Rate limit reached for %s of this %s: Limit %" PRId64
                       ", Requested %d. A request for so many images can never pass.",
                       limits_name(f->kind), owner, limit, images);
    return err_set(err, code, NULL,
                   "Rate limit reached for %s of this %s: Limit %" PRId64 ", Used %" PRId64
                   ", Requested %d. Please try again in %s.",
                   limits_name(f->kind), owner, limit, f->used, counts_images(f->kind) ? images : 1,
                   meter_format_span(f->wait, span));
}

enum err_code meters_admit(struct meter *const meters[METER_OWNERS], int images, struct permit *permit,
                           struct meter_view *view, struct err *err)
{
    struct moment at;
    struct fault worst = {.meter = NULL};
    int64_t limit = 0;
    bool known;

    *permit = (struct permit){.images = images};
    *view = (struct meter_view){.wait = 0};
    if (!has_any(meters))
        return ERR_OK;
    lock_all(meters);
    known = bring_to_now(meters, &at);
    permit->second = at.now / CLOCK_SECOND;
    for (int i = 0; known && i < METER_OWNERS; i++)
        if (meters[i] != NULL)
            check(meters[i], images, &at, &worst);
    for (int i = 0; known && worst.meter == NULL && i < METER_OWNERS; i++)
        if (meters[i] != NULL)
            take(meters[i], i, permit);
    fill_view(meters, &at, view);
    if (worst.meter != NULL) {
        limit = worst.meter->limits.of[worst.kind];
        view->wait = worst.wait;
    }
    unlock_all(meters);
    if (!known)
        return err_set(err, ERR_UNAVAILABLE, NULL, "The limits of this API key are changing. Please try again.");
    return worst.meter == NULL ? ERR_OK : refuse(&worst, limit, images, err);
}

static void give_back(struct meter *m, const struct permit *permit, int i, int n)
{
    m->busy--;
    m->pending -= permit->images;
    TG_ASSERT(m->busy >= 0 && m->pending >= 0);
    if (n == 0)
        return;
    if (permit->minutes[i]) {
        minute_advance(m->images, clock_mono() / CLOCK_SECOND);
        minute_give_back(m->images, permit->second, n);
    }
    if (permit->days[i] != METER_NO_DAY && m->known && m->begin == permit->days[i])
        m->used -= m->used < n ? m->used : n;
}

void permit_end(struct permit *permit, int delivered)
{
    int n = delivered < permit->images ? permit->images - (delivered > 0 ? delivered : 0) : 0;

    for (int i = 0; i < METER_OWNERS; i++) {
        struct meter *m = permit->meters[i];

        if (m == NULL)
            continue;
        pthread_mutex_lock(&m->lock);
        give_back(m, permit, i, n);
        pthread_mutex_unlock(&m->lock);
        permit->meters[i] = NULL;
        meter_unref(m);
    }
}

const char *meter_format_span(int64_t microseconds, char out[METER_SPAN_TEXT])
{
    int64_t ms = microseconds / 1000 + (microseconds % 1000 > 0);
    int64_t s = ms / 1000 + (ms % 1000 > 0);

    if (ms < 1000)
        (void)snprintf(out, METER_SPAN_TEXT, "%" PRId64 "ms", ms);
    else if (s < 60)
        (void)snprintf(out, METER_SPAN_TEXT, "%" PRId64 "s", s);
    else if (s < 3600)
        (void)snprintf(out, METER_SPAN_TEXT, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
    else
        (void)snprintf(out, METER_SPAN_TEXT, "%" PRId64 "h%" PRId64 "m%" PRId64 "s", s / 3600, s / 60 % 60, s % 60);
    return out;
}
