/* clock.c - the two clocks, a switch that stops them for tests, and RFC 3339 in both directions.
 *
 * The calendar is computed here (days from civil, proleptic Gregorian): the C library's gmtime_r takes a lock that
 * every loop would share. The frozen values are atomics of their own; tests set them while nothing else runs.
 * Any thread. */
#include "clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "attrs.h"

enum { DAY_SECONDS = 86400, ERA_YEARS = 400, ERA_DAYS = 146097, TO_UNIX_DAYS = 719468 };
enum { PARSE_LONGEST = 64 }; /* bytes of a time that anyone may send */

#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

static atomic_bool frozen;
static _Atomic int64_t frozen_wall;
static _Atomic int64_t frozen_mono;

static int64_t read_clock(clockid_t which)
{
    struct timespec now;
    int failed = clock_gettime(which, &now);

    TG_ASSERT(failed == 0);
    return now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

int64_t clock_wall(void)
{
    if (atomic_load_explicit(&frozen, memory_order_acquire))
        return atomic_load_explicit(&frozen_wall, memory_order_relaxed);
    return read_clock(CLOCK_REALTIME);
}

int64_t clock_mono(void)
{
    if (atomic_load_explicit(&frozen, memory_order_acquire))
        return atomic_load_explicit(&frozen_mono, memory_order_relaxed);
    return read_clock(CLOCK_MONOTONIC);
}

void clock_freeze(int64_t wall, int64_t mono)
{
    atomic_store_explicit(&frozen_wall, wall, memory_order_relaxed);
    atomic_store_explicit(&frozen_mono, mono, memory_order_relaxed);
    atomic_store_explicit(&frozen, true, memory_order_release);
}

void clock_release(void)
{
    atomic_store_explicit(&frozen, false, memory_order_release);
}

struct civil {
    int64_t year;
    int month; /* 1..12 */
    int day;   /* 1..31 */
};

/* Years are counted from March, so that the leap day is the last of its year. */
static struct civil civil_from_days(int64_t days)
{
    int64_t shifted = days + TO_UNIX_DAYS;
    int64_t era = (shifted >= 0 ? shifted : shifted - (ERA_DAYS - 1)) / ERA_DAYS;
    int64_t day_of_era = shifted - era * ERA_DAYS;
    int64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    struct civil c = {.day = (int)(day_of_year - (153 * month + 2) / 5 + 1),
                      .month = (int)(month + (month < 10 ? 3 : -9))};

    c.year = year + era * ERA_YEARS + (c.month <= 2);
    return c;
}

static int64_t days_from_civil(struct civil c)
{
    int64_t year = c.year - (c.month <= 2);
    int64_t era = year / ERA_YEARS; /* years here are never negative */
    int64_t year_of_era = year - era * ERA_YEARS;
    int64_t day_of_year = (153 * (c.month + (c.month > 2 ? -3 : 9)) + 2) / 5 + c.day - 1;

    return era * ERA_DAYS + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - TO_UNIX_DAYS;
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

const char *clock_format(int64_t wall, char out[CLOCK_TEXT])
{
    int64_t seconds = floor_divide(wall, CLOCK_SECOND);
    int micros = (int)(wall - seconds * CLOCK_SECOND);
    int64_t days = floor_divide(seconds, DAY_SECONDS);
    int rest = (int)(seconds - days * DAY_SECONDS);
    struct civil c = civil_from_days(days);
    int n = snprintf(out, CLOCK_TEXT, "%04lld-%02d-%02dT%02d:%02d:%02d", (long long)c.year, c.month, c.day, rest / 3600,
                     rest / 60 % 60, rest % 60);

    TG_ASSERT(n > 0 && n < CLOCK_TEXT - 8);
    if (micros != 0)
        n += snprintf(out + n, (size_t)(CLOCK_TEXT - n), ".%06d", micros);
    (void)snprintf(out + n, (size_t)(CLOCK_TEXT - n), "Z");
    return out;
}

/* A reader over the text: each take_ function moves on, or sets bad. */
struct reader {
    struct slice left;
    bool bad;
};

static int take_digits(struct reader *r, size_t n)
{
    int value = 0;

    if (r->left.len < n) {
        r->bad = true;
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        char c = r->left.p[i];

        if (c < '0' || c > '9')
            r->bad = true;
        else
            value = value * 10 + (c - '0');
    }
    r->left.p += n;
    r->left.len -= n;
    return value;
}

static char take_char(struct reader *r, const char *allowed)
{
    char c = '\0';

    if (r->left.len > 0 && r->left.p[0] != '\0' && strchr(allowed, r->left.p[0]) != NULL) {
        c = r->left.p[0];
        r->left.p++;
        r->left.len--;
    } else {
        r->bad = true;
    }
    return c;
}

static bool next_is(const struct reader *r, char c)
{
    return r->left.len > 0 && r->left.p[0] == c;
}

static struct civil take_date(struct reader *r)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct civil c = {.year = take_digits(r, 4)};
    bool leap = c.year % 4 == 0 && (c.year % 100 != 0 || c.year % 400 == 0);

    take_char(r, "-");
    c.month = take_digits(r, 2);
    take_char(r, "-");
    c.day = take_digits(r, 2);
    if (c.month < 1 || c.month > 12 || c.day < 1 || c.day > month_days[c.month - 1] + (leap && c.month == 2))
        r->bad = true;
    return c;
}

/* A leap second (:60) is taken as the first second of the next minute, as Unix time has no name for it. */
static int64_t take_time(struct reader *r)
{
    int hour = take_digits(r, 2), minute, second;

    take_char(r, ":");
    minute = take_digits(r, 2);
    take_char(r, ":");
    second = take_digits(r, 2);
    if (hour > 23 || minute > 59 || second > 60)
        r->bad = true;
    return hour * 3600 + minute * 60 + second;
}

/* Microseconds of ".123456"; further digits are dropped. */
static int64_t take_fraction(struct reader *r)
{
    int64_t micros = 0, unit = CLOCK_SECOND;

    if (!next_is(r, '.'))
        return 0;
    take_char(r, ".");
    do {
        int digit = take_digits(r, 1);

        unit /= 10;
        micros += digit * unit;
    } while (r->left.len > 0 && r->left.p[0] >= '0' && r->left.p[0] <= '9');
    return micros;
}

static int64_t take_offset(struct reader *r)
{
    char sign = take_char(r, "Zz+-");
    int hours, minutes;

    if (sign == 'Z' || sign == 'z')
        return 0;
    hours = take_digits(r, 2);
    take_char(r, ":");
    minutes = take_digits(r, 2);
    if (hours > 23 || minutes > 59)
        r->bad = true;
    return (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
}

bool clock_parse(struct slice text, int64_t *wall)
{
    struct reader r = {.left = text};
    unsigned long long unix_seconds;
    struct civil date;
    int64_t seconds, micros;

    if (text.len > PARSE_LONGEST)
        return false;
    if (slice_to_u64(text, &unix_seconds)) {
        if (unix_seconds > (unsigned long long)LAST_SECOND)
            return false;
        *wall = (int64_t)unix_seconds * CLOCK_SECOND;
        return true;
    }
    date = take_date(&r);
    take_char(&r, "Tt ");
    seconds = take_time(&r);
    micros = take_fraction(&r);
    seconds -= take_offset(&r);
    if (r.bad || r.left.len > 0)
        return false;
    seconds += days_from_civil(date) * DAY_SECONDS;
    if (seconds < 0 || seconds > LAST_SECOND)
        return false;
    *wall = seconds * CLOCK_SECOND + micros;
    return true;
}
