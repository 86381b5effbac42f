/* zone.c - civil time of one zone, from a compiled file of the IANA database (TZif, RFC 8536).
 *
 * A zone is a list of changes, each with the offset that holds from then on, and a rule for the time after the last of
 * them: the POSIX TZ text at the end of a file of version 2 or later. Everything else here asks two questions of it:
 * which offset holds at an instant, and when it may change next.
 *
 * Invariants
 *   1. The changes ascend strictly.
 *   2. Every offset lies within OFFSET_LIMIT of UTC. So a day begins within that distance of the UTC day of its number,
 *      and no instant before that shows the day or a later one: a search may start there.
 *   3. The daylight saving time of a rule is a union of spans, one a year, each of which lies within 10 days of the
 *      years that it begins and ends in.
 * A file is trusted in nothing: it is read whole, up to ZONE_FILE bytes, and every count is held against its length.
 * Immutable once made; any thread, the count of references is atomic. */
#include "zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "file.h"

#define DATABASE "/usr/share/zoneinfo"

enum {
    HOUR_SECONDS = 3600,
    DAY_SECONDS = 86400,
    OFFSET_LIMIT = 26 * HOUR_SECONDS, /* exclusive */
    ERA_YEARS = 400,
    ERA_DAYS = 146097,
    TO_UNIX_DAYS = 719468, /* from 0000-03-01 to 1970-01-01 */
    HEADER = 44,           /* bytes of a header in the file */
    TYPE = 6,              /* bytes of a local time type */
    RULE_HOURS = 167       /* of the time of day at which a rule changes, either way */
};

/* What int64_t microseconds can reach, and a little more. */
#define DAY_LIMIT (INT64_MAX / (CLOCK_SECOND * DAY_SECONDS) + 2)

struct change {
    int64_t at; /* seconds since 1970 */
    int32_t offset;
};

/* The day of a year on which a rule changes, and the time on the clocks as they were until then. */
struct edge {
    enum { EDGE_JULIAN, EDGE_DAY, EDGE_MONTH } kind;
    int month, week; /* EDGE_MONTH: week 5 is the last */
    int day;         /* 1..365 without 29 February; 0..365 with it; 0..6 from Sunday */
    int32_t time;    /* seconds */
};

struct rule {
    int32_t standard, daylight; /* offsets */
    bool changes;               /* false: standard time all year */
    struct edge start, end;     /* of daylight saving time */
};

struct zone {
    atomic_int refs;
    int32_t before; /* the offset before the first change */
    bool ruled;
    struct rule rule; /* when ruled: from the last change on, or always */
    size_t n;
    struct change changes[];
};

/* ---- the calendar ---- */

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t floor_mod(int64_t a, int64_t b)
{
    return a % b + (a % b < 0 ? b : 0);
}

/* Years that begin in March: the leap day is then the last of its year. */
int64_t zone_day_of(int year, int month, int day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = floor_div(y, ERA_YEARS);
    int64_t year_of_era = y - era * ERA_YEARS;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - TO_UNIX_DAYS;
}

void zone_civil(int64_t day, int *year, int *month, int *day_of_month)
{
    int64_t z = day + TO_UNIX_DAYS;
    int64_t era = floor_div(z, ERA_DAYS);
    int64_t of_era = z - era * ERA_DAYS;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * of_year + 2) / 153; /* month from March */

    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *day_of_month = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *year = (int)(year_of_era + era * ERA_YEARS + (*month <= 2));
}

static int year_at(int64_t second)
{
    int year, month, day;

    zone_civil(floor_div(second, DAY_SECONDS), &year, &month, &day);
    return year;
}

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % ERA_YEARS == 0);
}

/* ---- rules ---- */

static int64_t day_in_month(const struct edge *e, int year)
{
    int64_t first = zone_day_of(year, e->month, 1);
    int64_t next = e->month == 12 ? zone_day_of(year + 1, 1, 1) : zone_day_of(year, e->month + 1, 1);
    int64_t weekday = floor_mod(first + 4, 7); /* 1970 began on a Thursday */
    int64_t day = first + floor_mod(e->day - weekday, 7) + (int64_t)(e->week - 1) * 7;

    return day < next ? day : day - 7;
}

/* The instant of a year's edge; <offset>: what the clocks were ahead until then. */
static int64_t edge_at(const struct edge *e, int year, int32_t offset)
{
    int64_t day;

    if (e->kind == EDGE_MONTH)
        day = day_in_month(e, year);
    else if (e->kind == EDGE_JULIAN)
        day = zone_day_of(year, 1, 1) + e->day - 1 + (is_leap(year) && e->day >= 60);
    else
        day = zone_day_of(year, 1, 1) + e->day;
    return day * DAY_SECONDS + e->time - offset;
}

/* In the south the span that begins in a year ends in the next. One that ends where it began lasts all year. */
static bool is_daylight(const struct rule *r, int64_t t)
{
    int year = year_at(t);

    for (int y = year - 2; y <= year + 1; y++) {
        int64_t start = edge_at(&r->start, y, r->standard);
        int64_t end = edge_at(&r->end, y, r->daylight);

        if (end <= start)
            end = edge_at(&r->end, y + 1, r->daylight);
        if (start <= t && t < end)
            return true;
    }
    return false;
}

static int64_t next_edge(const struct rule *r, int64_t t)
{
    int64_t next = INT64_MAX;
    int year = year_at(t);

    for (int y = year - 1; y <= year + 2; y++) {
        int64_t start = edge_at(&r->start, y, r->standard);
        int64_t end = edge_at(&r->end, y, r->daylight);

        if (start > t && start < next)
            next = start;
        if (end > t && end < next)
            next = end;
    }
    return next;
}

/* ---- asking a zone; in seconds ---- */

/* How many changes have happened. */
static size_t changes_until(const struct zone *z, int64_t t)
{
    size_t low = 0, high = z->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->changes[middle].at <= t)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int32_t offset_at(const struct zone *z, int64_t t)
{
    size_t i = changes_until(z, t);

    if (i == z->n && z->ruled)
        return z->rule.changes && is_daylight(&z->rule, t) ? z->rule.daylight : z->rule.standard;
    return i > 0 ? z->changes[i - 1].offset : z->before;
}

/* The offset stays what it is until then. INT64_MAX: for ever. */
static int64_t next_change(const struct zone *z, int64_t t)
{
    size_t i = changes_until(z, t);

    if (i < z->n)
        return z->changes[i].at;
    return z->ruled && z->rule.changes ? next_edge(&z->rule, t) : INT64_MAX;
}

/* Walks the spans of constant offset, from where no clock shows the day yet (invariant 2), to the first in which the
 * clocks reach it: either they do so within the span, or they have jumped there at its begin. */
static int64_t day_begins(const struct zone *z, int64_t day)
{
    int64_t midnight = day * DAY_SECONDS;
    int64_t t = midnight - OFFSET_LIMIT;

    for (;;) {
        int64_t end = next_change(z, t);
        int64_t reached = midnight - offset_at(z, t);

        if (reached < t)
            reached = t;
        if (reached < end)
            return reached;
        t = end;
    }
}

int32_t zone_offset(const struct zone *z, int64_t wall)
{
    return offset_at(z, floor_div(wall, CLOCK_SECOND));
}

int64_t zone_day_at(const struct zone *z, int64_t wall)
{
    int64_t t = floor_div(wall, CLOCK_SECOND);
    int64_t day = floor_div(t + offset_at(z, t), DAY_SECONDS);

    while (day_begins(z, day + 1) <= t) /* set back over midnight */
        day++;
    return day;
}

int64_t zone_day_begins(const struct zone *z, int64_t day)
{
    int64_t wall;

    if (day > DAY_LIMIT || day < -DAY_LIMIT)
        return day > 0 ? INT64_MAX : INT64_MIN;
    if (__builtin_mul_overflow(day_begins(z, day), CLOCK_SECOND, &wall))
        return day > 0 ? INT64_MAX : INT64_MIN;
    return wall;
}

/* ---- reading a rule: "CET-1CEST,M3.5.0,M10.5.0/3" ---- */

static bool take_char(struct slice *s, char c)
{
    if (s->len == 0 || s->p[0] != c)
        return false;
    *s = (struct slice){s->p + 1, s->len - 1};
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* One to three digits. */
static bool take_number(struct slice *s, int min, int max, int *out)
{
    int value = 0;
    size_t digits = 0;

    while (digits < s->len && is_digit(s->p[digits])) {
        value = value * 10 + (s->p[digits] - '0');
        if (++digits > 3)
            return false;
    }
    *s = (struct slice){s->p + digits, s->len - digits};
    *out = value;
    return digits > 0 && value >= min && value <= max;
}

/* [+-]h[h[h]][:m[m][:s[s]]] */
static bool take_time(struct slice *s, int max_hours, int32_t *out)
{
    int hours, minutes = 0, seconds = 0;
    bool minus = take_char(s, '-');

    if (!minus)
        (void)take_char(s, '+');
    if (!take_number(s, 0, max_hours, &hours))
        return false;
    if (take_char(s, ':') &&
        (!take_number(s, 0, 59, &minutes) || (take_char(s, ':') && !take_number(s, 0, 59, &seconds))))
        return false;
    *out = hours * HOUR_SECONDS + minutes * 60 + seconds;
    if (minus)
        *out = -*out;
    return true;
}

/* Three letters or more, or <> around letters, digits and signs. */
static bool take_abbreviation(struct slice *s)
{
    bool quoted = take_char(s, '<');
    size_t n = 0;

    while (n < s->len && (is_letter(s->p[n]) || (quoted && (is_digit(s->p[n]) || s->p[n] == '+' || s->p[n] == '-'))))
        n++;
    *s = (struct slice){s->p + n, s->len - n};
    return n >= 3 && (!quoted || take_char(s, '>'));
}

static bool take_offset(struct slice *s, int32_t *out)
{
    if (!take_time(s, 24, out))
        return false;
    *out = -*out; /* the text counts westwards */
    return true;
}

static bool take_edge(struct slice *s, struct edge *e)
{
    bool fits;

    *e = (struct edge){.time = 2 * HOUR_SECONDS};
    if (!take_char(s, ','))
        return false;
    if (take_char(s, 'M')) {
        e->kind = EDGE_MONTH;
        fits = take_number(s, 1, 12, &e->month) && take_char(s, '.') && take_number(s, 1, 5, &e->week) &&
               take_char(s, '.') && take_number(s, 0, 6, &e->day);
    } else if (take_char(s, 'J')) {
        e->kind = EDGE_JULIAN;
        fits = take_number(s, 1, 365, &e->day);
    } else {
        e->kind = EDGE_DAY;
        fits = take_number(s, 0, 365, &e->day);
    }
    return fits && (!take_char(s, '/') || take_time(s, RULE_HOURS, &e->time));
}

/* Daylight saving time without the days on which it changes is not a rule. */
static bool parse_rule(struct slice text, struct rule *r)
{
    *r = (struct rule){0};
    if (!take_abbreviation(&text) || !take_offset(&text, &r->standard))
        return false;
    if (text.len == 0)
        return true;
    r->changes = true;
    r->daylight = r->standard + HOUR_SECONDS;
    if (!take_abbreviation(&text))
        return false;
    if (text.len > 0 && text.p[0] != ',' && !take_offset(&text, &r->daylight))
        return false;
    return take_edge(&text, &r->start) && take_edge(&text, &r->end) && text.len == 0;
}

/* ---- reading a file ---- */

struct header {
    char version; /* NUL, '2', '3', ... */
    uint32_t universals, standards, leaps, times, types, letters;
};

static uint32_t be32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

/* A time of <width> bytes, 4 or 8. */
static int64_t time_of(const char *p, size_t width)
{
    return width == 4 ? (int32_t)be32(p) : (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

static void skip(struct slice *s, uint64_t n)
{
    *s = (struct slice){s->p + n, s->len - (size_t)n};
}

static bool take_header(struct slice *s, struct header *h)
{
    if (s->len < HEADER || memcmp(s->p, "TZif", 4) != 0)
        return false;
    h->version = s->p[4];
    h->universals = be32(s->p + 20);
    h->standards = be32(s->p + 24);
    h->leaps = be32(s->p + 28);
    h->times = be32(s->p + 32);
    h->types = be32(s->p + 36);
    h->letters = be32(s->p + 40);
    skip(s, HEADER);
    return h->version == '\0' || (h->version >= '2' && h->version <= '9');
}

/* Bytes of the block behind a header. No sum of counts overflows. */
static uint64_t block_size(const struct header *h, size_t width)
{
    return (uint64_t)h->times * (width + 1) + (uint64_t)h->types * TYPE + h->letters +
           (uint64_t)h->leaps * (width + 4) + h->standards + h->universals;
}

static bool take_offset_of_type(const char *types, const struct header *h, unsigned char which, int32_t *out)
{
    const char *type = types + (size_t)which * TYPE;

    if (which >= h->types)
        return false;
    *out = (int32_t)be32(type);
    return *out > -OFFSET_LIMIT && *out < OFFSET_LIMIT && (unsigned char)type[4] <= 1 &&
           (unsigned char)type[5] < h->letters;
}

/* <block> has block_size bytes, <z> room for h->times changes. NULL, or what is wrong. */
static const char *read_block(struct slice block, const struct header *h, size_t width, struct zone *z)
{
    const char *which = block.p + (size_t)h->times * width;
    const char *types = which + h->times;

    if (h->leaps > 0)
        return "it counts leap seconds";
    if (!take_offset_of_type(types, h, 0, &z->before))
        return "its first offset makes no sense";
    for (z->n = 0; z->n < h->times; z->n++) {
        struct change *c = &z->changes[z->n];

        c->at = time_of(block.p + z->n * width, width);
        if (z->n > 0 && c->at <= c[-1].at)
            return "its changes are out of order";
        if (!take_offset_of_type(types, h, (unsigned char)which[z->n], &c->offset))
            return "an offset makes no sense";
    }
    return NULL;
}

/* "\nRULE\n"; an empty rule is none. */
static const char *read_footer(struct slice rest, struct zone *z)
{
    struct slice text;

    if (!take_char(&rest, '\n') || !slice_cut(rest, '\n', &text, &rest))
        return "its end is missing";
    z->ruled = text.len > 0;
    return !z->ruled || parse_rule(text, &z->rule) ? NULL : "its rule cannot be read";
}

static const char *read_file(struct slice rest, struct zone **out)
{
    struct header h;
    size_t width = 4;
    const char *wrong;

    if (!take_header(&rest, &h))
        return "it is no compiled time zone";
    if (h.version != '\0') { /* the first block is for readers that know no other */
        if (block_size(&h, width) > rest.len)
            return "it is too short";
        skip(&rest, block_size(&h, width));
        width = 8;
        if (!take_header(&rest, &h) || h.version == '\0')
            return "its second header is missing";
    }
    if (block_size(&h, width) > rest.len)
        return "it is too short";
    *out = mem_zalloc(sizeof(**out) + (size_t)h.times * sizeof(struct change));
    wrong = read_block(rest, &h, width, *out);
    skip(&rest, block_size(&h, width));
    return wrong == NULL && h.version != '\0' ? read_footer(rest, *out) : wrong;
}

enum err_code zone_parse(const char *name, struct slice file, struct zone **out, struct err *err)
{
    struct zone *z = NULL;
    const char *wrong = file.len <= ZONE_FILE ? read_file(file, &z) : "it is too long";

    if (wrong != NULL) {
        free(z);
        return err_set(err, ERR_NOT_FOUND, NULL, "The time zone file '%s' cannot be used: %s.", name, wrong);
    }
    atomic_init(&z->refs, 1);
    *out = z;
    return ERR_OK;
}

/* ---- life ---- */

/* Letters, digits and _ + - in components that are not empty. */
static bool is_name(const char *name)
{
    size_t len = strnlen(name, ZONE_NAME);

    if (len == 0 || len == ZONE_NAME || name[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (name[i] == '/' && (i == 0 || name[i - 1] == '/'))
            return false;
        if (!is_letter(name[i]) && !is_digit(name[i]) && memchr("_+-/", name[i], 4) == NULL)
            return false;
    }
    return true;
}

static enum err_code no_such_zone(const char *name, struct err *err)
{
    bool database = access(DATABASE, X_OK) == 0;

    return err_set(err, ERR_NOT_FOUND, NULL, "No such time zone: '%.*s'%s.", ZONE_NAME - 1, name,
                   database ? "" : " (this machine has no time zone database in " DATABASE ")");
}

static enum err_code unreadable(const char *name, struct err *err)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return no_such_zone(name, err);
    return err_set(err, ERR_UNAVAILABLE, NULL, "The time zone file '%s' cannot be read: %s.", name, strerror(errno));
}

static enum err_code read_whole(int fd, const char *name, struct zone **out, struct err *err)
{
    struct stat about;
    char *bytes;
    size_t len;
    enum err_code code;

    if (fstat(fd, &about) != 0)
        return unreadable(name, err);
    if (!S_ISREG(about.st_mode)) /* a folder: "Europe" */
        return no_such_zone(name, err);
    if (about.st_size > ZONE_FILE)
        return err_set(err, ERR_NOT_FOUND, NULL, "The time zone file '%s' cannot be used: it is too long.", name);
    len = (size_t)about.st_size;
    bytes = mem_alloc(len + 1);
    if (file_read_at(fd, bytes, len, 0))
        code = zone_parse(name, (struct slice){bytes, len}, out, err);
    else
        code = unreadable(name, err);
    free(bytes);
    return code;
}

enum err_code zone_open(const char *name, struct zone **out, struct err *err)
{
    char path[sizeof(DATABASE) + ZONE_NAME];
    enum err_code code;
    int fd;

    if (!is_name(name))
        return no_such_zone(name, err);
    if (strcmp(name, "UTC") == 0) {
        *out = mem_zalloc(sizeof(**out));
        atomic_init(&(*out)->refs, 1);
        return ERR_OK;
    }
    (void)snprintf(path, sizeof(path), DATABASE "/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return unreadable(name, err);
    code = read_whole(fd, name, out, err);
    (void)close(fd);
    return code;
}

struct zone *zone_ref(struct zone *z)
{
    atomic_fetch_add_explicit(&z->refs, 1, memory_order_relaxed);
    return z;
}

void zone_unref(struct zone *z)
{
    if (z != NULL && atomic_fetch_sub_explicit(&z->refs, 1, memory_order_acq_rel) == 1)
        free(z);
}
