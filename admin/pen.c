/* pen.c - digits two at a time, days by integer arithmetic, and no formatted printing. Pure; any thread. */
#include "pen.h"

#include "daemon/base/buf.h"
#include "daemon/base/clock.h"
#include "daemon/base/money.h"
#include "daemon/base/zone.h"

#define NANO UINT64_C(1000000000)

static const char pairs[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
    "4950515253545556575859606162636465666768697071727374757677787980818283848586878889909192939495969798"
    "99";

static char *put_pair(char *p, unsigned value)
{
    memcpy(p, pairs + 2 * (size_t)value, 2);
    return p + 2;
}

static char *put_unsigned(char *p, uint64_t value)
{
    char text[20];
    size_t at = sizeof(text);

    if (value < 10) {
        *p = (char)('0' + value);
        return p + 1;
    }
    while (value >= 100) {
        at -= 2;
        (void)put_pair(text + at, (unsigned)(value % 100));
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        (void)put_pair(text + at, (unsigned)value);
    } else {
        text[--at] = (char)('0' + value);
    }
    return pen_bytes(p, text + at, sizeof(text) - at);
}

/* INT64_MIN has a magnitude, too. */
static uint64_t magnitude(int64_t value)
{
    return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

char *pen_int(char *p, int64_t value)
{
    if (value < 0)
        *p++ = '-';
    return put_unsigned(p, magnitude(value));
}

_Static_assert(MONEY_NANO_DIGITS == 9, "four pairs and a digit");

char *pen_nano(char *p, int64_t nano)
{
    uint64_t size = magnitude(nano);
    unsigned rest = (unsigned)(size % NANO);

    if (nano < 0)
        *p++ = '-';
    p = put_unsigned(p, size / NANO);
    *p++ = '.';
    *p++ = (char)('0' + rest / 100000000);
    p = put_pair(p, rest / 1000000 % 100);
    p = put_pair(p, rest / 10000 % 100);
    p = put_pair(p, rest / 100 % 100);
    return put_pair(p, rest % 100);
}

char *pen_time(char *p, int64_t wall)
{
    int64_t seconds = wall / CLOCK_SECOND - (wall % CLOCK_SECOND < 0);
    int64_t day = seconds / 86400 - (seconds % 86400 < 0);
    unsigned micros = (unsigned)(wall - seconds * CLOCK_SECOND), rest = (unsigned)(seconds - day * 86400);
    int year, month, of_month;

    zone_civil(day, &year, &month, &of_month);
    p = put_pair(p, (unsigned)year / 100 % 100);
    p = put_pair(p, (unsigned)year % 100);
    *p++ = '-';
    p = put_pair(p, (unsigned)month);
    *p++ = '-';
    p = put_pair(p, (unsigned)of_month);
    *p++ = 'T';
    p = put_pair(p, rest / 3600);
    *p++ = ':';
    p = put_pair(p, rest / 60 % 60);
    *p++ = ':';
    p = put_pair(p, rest % 60);
    if (micros != 0) {
        *p++ = '.';
        p = put_pair(p, micros / 10000);
        p = put_pair(p, micros / 100 % 100);
        p = put_pair(p, micros % 100);
    }
    *p++ = 'Z';
    return p;
}

char *pen_id(char *p, const char *prefix, struct id id)
{
    _Static_assert((int)ID_TEXT <= (int)PEN_NUMBER, "the NUL fits, too");

    (void)id_format(prefix, id, p);
    return p + strlen(prefix) + 1 + ID_DIGITS;
}

static bool is_plain(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.p[i];

        if (c < 0x20 || c == 0x7f || c == '"' || c == '\\') /* bytes of UTF-8 are below zero */
            return false;
    }
    return true;
}

char *pen_json(char *p, struct slice text)
{
    struct buf escaped;

    if (is_plain(text)) {
        *p++ = '"';
        p = pen_bytes(p, text.p, text.len);
        *p++ = '"';
        return p;
    }
    buf_init(&escaped, PEN_TEXT(text.len));
    buf_append_json_string(&escaped, text);
    p = pen_bytes(p, escaped.p, escaped.len);
    buf_dispose(&escaped);
    return p;
}

char *pen_csv(char *p, struct slice text)
{
    bool quoted = false;

    for (size_t i = 0; i < text.len && !quoted; i++)
        quoted = text.p[i] == ',' || text.p[i] == '"' || text.p[i] == '\n' || text.p[i] == '\r';
    if (quoted)
        *p++ = '"';
    if (text.len > 0 && text.p[0] != '\0' && strchr("=+-@\t\r", text.p[0]) != NULL)
        *p++ = '\'';
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '"')
            *p++ = '"';
        *p++ = text.p[i];
    }
    if (quoted)
        *p++ = '"';
    return p;
}
