/* test_base_zone.c - days of time zones: the calendar, the machine's own files, files made here, damaged ones. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/zone.h"
#include "zone_fixture.h"

enum { HOUR = 3600, DAY = 86400, TIMES = 8 };

static void begins_at(const struct zone *z, int year, int month, int day, const char *time)
{
    char text[CLOCK_TEXT];

    assert_string_equal(clock_format(zone_day_begins(z, zone_day_of(year, month, day)), text), time);
}

static void is_day(const struct zone *z, const char *time, int year, int month, int day)
{
    int y, m, d;

    zone_civil(zone_day_at(z, at(time)), &y, &m, &d);
    if (y != year || m != month || d != day)
        fail_msg("%s is %d-%d-%d, not %d-%d-%d", time, y, m, d, year, month, day);
}

/* ---- the calendar ---- */

static void days_are_counted_as_on_a_calendar(void **state)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t expected = zone_day_of(-401, 1, 1);

    (void)state;
    assert_true(zone_day_of(1970, 1, 1) == 0);
    assert_true(zone_day_of(2000, 2, 29) == 11016);
    assert_true(zone_day_of(1969, 12, 31) == -1);
    for (int year = -401; year <= 2401; year++) {
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

        for (int month = 1; month <= 12; month++) {
            for (int day = 1; day <= lengths[month - 1] + (leap && month == 2); day++, expected++) {
                int y, m, d;

                assert_true(zone_day_of(year, month, day) == expected);
                zone_civil(expected, &y, &m, &d);
                assert_true(y == year && m == month && d == day);
            }
        }
    }
}

/* ---- the machine's own files ---- */

static void utc_is_always_there(void **state)
{
    struct zone *z = opened("UTC");

    (void)state;
    assert_ptr_equal(zone_ref(z), z);
    zone_unref(z);
    assert_int_equal(zone_offset(z, at("2026-07-01T00:00:00Z")), 0);
    begins_at(z, 2026, 7, 1, "2026-07-01T00:00:00Z");
    is_day(z, "2026-06-30T23:59:59.999999Z", 2026, 6, 30);
    is_day(z, "2026-07-01T00:00:00Z", 2026, 7, 1);
    assert_true(zone_day_at(z, -1) == -1);
    assert_true(zone_day_at(z, 0) == 0);
    zone_unref(z);
    zone_unref(NULL);
}

static void berlin_changes_in_spring_and_autumn(void **state)
{
    struct zone *z = opened("Europe/Berlin");

    (void)state;
    assert_int_equal(zone_offset(z, at("2026-03-29T00:59:59.999999Z")), HOUR);
    assert_int_equal(zone_offset(z, at("2026-03-29T01:00:00Z")), 2 * HOUR);
    assert_int_equal(zone_offset(z, at("2026-10-25T00:59:59.999999Z")), 2 * HOUR);
    assert_int_equal(zone_offset(z, at("2026-10-25T01:00:00Z")), HOUR);
    begins_at(z, 2026, 3, 29, "2026-03-28T23:00:00Z");
    begins_at(z, 2026, 3, 30, "2026-03-29T22:00:00Z"); /* 23 hours */
    begins_at(z, 2026, 10, 25, "2026-10-24T22:00:00Z");
    begins_at(z, 2026, 10, 26, "2026-10-25T23:00:00Z"); /* 25 hours */
    begins_at(z, 2028, 2, 29, "2028-02-28T23:00:00Z");
    begins_at(z, 2028, 3, 1, "2028-02-29T23:00:00Z");
    assert_true(zone_day_begins(z, 0) == -HOUR * CLOCK_SECOND);
    is_day(z, "2026-03-28T22:59:59.999999Z", 2026, 3, 28);
    is_day(z, "2026-03-28T23:00:00Z", 2026, 3, 29);
    zone_unref(z);
}

static void rules_hold_after_the_last_change(void **state)
{
    struct zone *z = opened("Europe/Berlin");

    (void)state;
    /* The last Sundays of March and October 2100: the 28th and the 31st. */
    assert_int_equal(zone_offset(z, at("2100-03-28T00:59:59Z")), HOUR);
    assert_int_equal(zone_offset(z, at("2100-03-28T01:00:00Z")), 2 * HOUR);
    assert_int_equal(zone_offset(z, at("2100-10-31T00:59:59Z")), 2 * HOUR);
    assert_int_equal(zone_offset(z, at("2100-10-31T01:00:00Z")), HOUR);
    begins_at(z, 2100, 3, 1, "2100-02-28T23:00:00Z"); /* no leap year */
    begins_at(z, 2100, 7, 1, "2100-06-30T22:00:00Z");
    zone_unref(z);
    z = opened("America/Sao_Paulo"); /* gave it up */
    assert_int_equal(zone_offset(z, at("2099-12-31T00:00:00Z")), -3 * HOUR);
    zone_unref(z);
    z = opened("Australia/Sydney"); /* the span of daylight saving goes over New Year */
    assert_int_equal(zone_offset(z, at("2090-01-01T00:00:00Z")), 11 * HOUR);
    assert_int_equal(zone_offset(z, at("2090-07-01T00:00:00Z")), 10 * HOUR);
    assert_int_equal(zone_offset(z, at("2090-12-31T23:59:59Z")), 11 * HOUR);
    zone_unref(z);
}

static void midnights_that_are_jumped_over_or_come_twice(void **state)
{
    struct zone *z = opened("America/Sao_Paulo");

    (void)state;
    begins_at(z, 2018, 11, 3, "2018-11-03T03:00:00Z");
    begins_at(z, 2018, 11, 4, "2018-11-04T03:00:00Z"); /* 00:00 is 01:00 */
    begins_at(z, 2018, 11, 5, "2018-11-05T02:00:00Z");
    is_day(z, "2018-11-04T02:59:59.999999Z", 2018, 11, 3);
    is_day(z, "2018-11-04T03:00:00Z", 2018, 11, 4);
    /* The 17th has 25 hours: at midnight it is 23:00 once more. */
    begins_at(z, 2018, 2, 17, "2018-02-17T02:00:00Z");
    begins_at(z, 2018, 2, 18, "2018-02-18T03:00:00Z");
    is_day(z, "2018-02-18T02:00:00Z", 2018, 2, 17);
    is_day(z, "2018-02-18T02:59:59.999999Z", 2018, 2, 17);
    is_day(z, "2018-02-18T03:00:00Z", 2018, 2, 18);
    zone_unref(z);
    z = opened("America/Havana"); /* at 01:00 it is 00:00 once more: the day has begun already */
    begins_at(z, 2026, 11, 1, "2026-11-01T04:00:00Z");
    begins_at(z, 2026, 11, 2, "2026-11-02T05:00:00Z");
    zone_unref(z);
    z = opened("America/St_Johns"); /* at 00:01 it is 23:01 of the day before: it stays the new day */
    begins_at(z, 2006, 10, 29, "2006-10-29T02:30:00Z");
    is_day(z, "2006-10-29T02:29:59Z", 2006, 10, 28);
    is_day(z, "2006-10-29T02:30:00Z", 2006, 10, 29);
    is_day(z, "2006-10-29T02:31:00Z", 2006, 10, 29);
    assert_int_equal(zone_offset(z, at("2006-10-29T02:31:00Z")), -3 * HOUR - HOUR / 2);
    zone_unref(z);
}

static void a_day_that_never_was_is_empty(void **state)
{
    struct zone *z = opened("Pacific/Apia");

    (void)state;
    begins_at(z, 2011, 12, 29, "2011-12-29T10:00:00Z");
    begins_at(z, 2011, 12, 30, "2011-12-30T10:00:00Z");
    begins_at(z, 2011, 12, 31, "2011-12-30T10:00:00Z");
    begins_at(z, 2012, 1, 1, "2011-12-31T10:00:00Z");
    is_day(z, "2011-12-30T09:59:59.999999Z", 2011, 12, 29);
    is_day(z, "2011-12-30T10:00:00Z", 2011, 12, 31);
    zone_unref(z);
    z = opened("Pacific/Kwajalein");
    begins_at(z, 1993, 8, 21, "1993-08-21T12:00:00Z");
    begins_at(z, 1993, 8, 22, "1993-08-21T12:00:00Z");
    zone_unref(z);
}

static void the_ends_of_time_do_no_harm(void **state)
{
    static const int64_t walls[] = {INT64_MIN, INT64_MIN + 1, -CLOCK_SECOND, -1, 0, INT64_MAX - 1, INT64_MAX};
    struct zone *z = opened("Australia/Lord_Howe");

    (void)state;
    for (size_t i = 0; i < sizeof(walls) / sizeof(walls[0]); i++) {
        int64_t day = zone_day_at(z, walls[i]);

        assert_true(zone_day_begins(z, day) <= walls[i]);
        assert_true(zone_day_begins(z, day + 1) >= walls[i]);
    }
    assert_true(zone_day_begins(z, INT64_MAX) == INT64_MAX);
    assert_true(zone_day_begins(z, INT64_MIN) == INT64_MIN);
    zone_unref(z);
}

static void names_lead_nowhere_else(void **state)
{
    static const char *const bad[] = {"",
                                      "/",
                                      "Nowhere",
                                      "Europe",
                                      "Europe/",
                                      "/Europe/Berlin",
                                      "Europe//Berlin",
                                      "Europe/Berlin/",
                                      "Europe/Berlin/Mitte",
                                      "../zoneinfo/Europe/Berlin",
                                      "Europe/../Europe/Berlin",
                                      "./UTC",
                                      "..",
                                      "Europe/Berlin ",
                                      "Europe/B\xc3\xa9rlin",
                                      "UTC\n",
                                      "tzdata.zi",
                                      "tzdata_zi",
                                      "A123456789012345678901234567890123456789012345678901234567890123"};
    struct zone *z = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        err = (struct err){0};
        assert_int_equal(zone_open(bad[i], &z, &err), ERR_NOT_FOUND);
        assert_null(z);
        assert_true(strstr(err.message, "No such time zone") != NULL);
    }
    z = opened("Etc/GMT+12");
    assert_int_equal(zone_offset(z, 0), -12 * HOUR);
    zone_unref(z);
    z = opened("America/Argentina/Buenos_Aires");
    zone_unref(z);
}

/* ---- files made here ---- */

static void put32(struct buf *b, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        buf_append_char(b, (char)(value >> shift));
}

static void put64(struct buf *b, int64_t value)
{
    put32(b, (uint32_t)((uint64_t)value >> 32));
    put32(b, (uint32_t)value);
}

static void put_header(struct buf *b, char version, uint32_t leaps, uint32_t times, uint32_t types)
{
    buf_append(b, "TZif", 4);
    buf_append_char(b, version);
    buf_append(b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15);
    put32(b, 0);
    put32(b, 0);
    put32(b, leaps);
    put32(b, times);
    put32(b, types);
    put32(b, 4);
}

/* Change i leads to type i + 1; type 0 stands before. */
static void put_block(struct buf *b, size_t width, const int64_t *times, int n, const int32_t *offsets)
{
    for (int i = 0; i < n; i++) {
        if (width == 8)
            put64(b, times[i]);
        else
            put32(b, (uint32_t)times[i]);
    }
    for (int i = 0; i < n; i++)
        buf_append_char(b, (char)(i + 1));
    for (int i = 0; i <= n; i++) {
        put32(b, (uint32_t)offsets[i]);
        buf_append_char(b, 0);
        buf_append_char(b, 0);
    }
    buf_append(b, "XYZ", 4);
}

/* As the compiler of the database writes it: an empty first block, then the real one, then the rule. */
static void make_file(struct buf *b, const int64_t *times, int n, const int32_t *offsets, const char *rule)
{
    static const int32_t none[1] = {0};

    buf_init(b, ZONE_FILE);
    put_header(b, '3', 0, 0, 1);
    put_block(b, 4, NULL, 0, none);
    put_header(b, '3', 0, (uint32_t)n, (uint32_t)n + 1);
    put_block(b, 8, times, n, offsets);
    buf_printf(b, "\n%s\n", rule);
}

static struct zone *ruled(const char *rule)
{
    static const int32_t none[1] = {7};
    struct zone *z = NULL;
    struct buf file;

    make_file(&file, NULL, 0, none, rule);
    if (zone_parse("made", buf_slice(&file), &z, NULL) != ERR_OK)
        assert_null(z);
    buf_dispose(&file);
    return z;
}

static void changes_at(const char *rule, const char *time, int32_t before, int32_t after)
{
    struct zone *z = ruled(rule);

    assert_non_null(z);
    if (zone_offset(z, at(time) - 1) != before || zone_offset(z, at(time)) != after)
        fail_msg("%s at %s: %d, %d", rule, time, zone_offset(z, at(time) - 1), zone_offset(z, at(time)));
    zone_unref(z);
}

static void rules_are_read_in_every_form(void **state)
{
    (void)state;
    changes_at("<+03>-3", "2026-01-01T00:00:00Z", 3 * HOUR, 3 * HOUR);
    changes_at("<-1130>11:30:15", "2026-01-01T00:00:00Z", -(11 * HOUR + 1815), -(11 * HOUR + 1815));
    changes_at("EST5EDT,M3.2.0,M11.1.0", "2027-03-14T07:00:00Z", -5 * HOUR, -4 * HOUR);
    changes_at("EST5EDT,M3.2.0,M11.1.0", "2027-11-07T06:00:00Z", -4 * HOUR, -5 * HOUR);
    changes_at("CET-1CEST,M3.5.0,M10.5.0/3", "2027-03-28T01:00:00Z", HOUR, 2 * HOUR);
    changes_at("LHST-10:30LHDT-11,M10.1.0,M4.1.0", "2027-04-03T15:00:00Z", 11 * HOUR, 10 * HOUR + HOUR / 2);
    changes_at("IST-1GMT0,M10.5.0,M3.5.0/1", "2027-03-28T01:00:00Z", 0, HOUR);
    changes_at("<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "2027-03-28T01:00:00Z", -2 * HOUR, -HOUR);
    changes_at("EET-2EEST,M3.4.4/50,M10.4.4/50", "2027-03-27T00:00:00Z", 2 * HOUR, 3 * HOUR);
    changes_at("AAA0BBB,J60/0,J300/0", "2028-03-01T00:00:00Z", 0, HOUR); /* the leap day does not count */
    changes_at("AAA0BBB,J60/0,J300/0", "2027-03-01T00:00:00Z", 0, HOUR);
    changes_at("AAA0BBB,59/0,300/0", "2028-02-29T00:00:00Z", 0, HOUR); /* it does */
    changes_at("AAA0BBB,59/0,300/0", "2027-03-01T00:00:00Z", 0, HOUR);
    changes_at("AAA0BBB,M2.5.2/0:30:15,300/0", "2028-02-29T00:30:15Z", 0, HOUR);
    changes_at("AAA0BBB,M1.1.5/-167,J200/0", "2026-12-25T01:00:00Z", 0, HOUR); /* begins in the year before */
    changes_at("AAA0BBB,J200,M12.5.5/+167:59:59", "2028-01-06T22:59:59Z", HOUR, 0);
    changes_at("EST5EDT,0/0,J365/25", "2027-01-01T05:00:00Z", -4 * HOUR, -4 * HOUR); /* all year */
    changes_at("EST5EDT,0/0,J365/25", "2028-12-31T23:00:00Z", -4 * HOUR, -4 * HOUR);
}

static void bad_rules_are_refused(void **state)
{
    static const char *const bad[] = {"X",
                                      "XY1",
                                      "XYZ",
                                      "XYZ25",
                                      "XYZ1:60",
                                      "XYZ1:",
                                      "XYZ1:1:",
                                      "XYZ--1",
                                      "XYZ+-1",
                                      "<XYZ1",
                                      "<X>1",
                                      "<X.Z>1",
                                      "XYZ1ABC",
                                      "XYZ1ABC,",
                                      "XYZ1ABC,M3.2.0",
                                      "XYZ1ABC,M3.2.0,",
                                      "XYZ1ABC,M0.2.0,M11.1.0",
                                      "XYZ1ABC,M13.2.0,M11.1.0",
                                      "XYZ1ABC,M3.0.0,M11.1.0",
                                      "XYZ1ABC,M3.6.0,M11.1.0",
                                      "XYZ1ABC,M3.2.7,M11.1.0",
                                      "XYZ1ABC,M3.2,M11.1.0",
                                      "XYZ1ABC,J0,J100",
                                      "XYZ1ABC,J366,J100",
                                      "XYZ1ABC,366,100",
                                      "XYZ1ABC,-1,100",
                                      "XYZ1ABC,1/168,100",
                                      "XYZ1ABC,1/-168,100",
                                      "XYZ1ABC,1/,100",
                                      "XYZ1ABC,1,0000100",
                                      "XYZ1ABC,1,99999999999999999999",
                                      "XYZ1ABC,1,100,",
                                      "XYZ1ABC,1,100 ",
                                      "XYZ1,1,100",
                                      ",",
                                      ":America/New_York"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (ruled(bad[i]) != NULL)
            fail_msg("taken: %s", bad[i]);
    }
}

static void changes_and_rule_meet(void **state)
{
    static const int64_t times[] = {-1000, 0, 1000 * DAY};
    static const int32_t offsets[] = {100, -HOUR, HOUR, 0};
    struct zone *z = NULL;
    struct buf file;

    (void)state;
    make_file(&file, times, 3, offsets, "AAA-2");
    assert_int_equal(zone_parse("made", buf_slice(&file), &z, NULL), ERR_OK);
    assert_int_equal(zone_offset(z, INT64_MIN), 100);
    assert_int_equal(zone_offset(z, -1000 * CLOCK_SECOND - 1), 100);
    assert_int_equal(zone_offset(z, -1000 * CLOCK_SECOND), -HOUR);
    assert_int_equal(zone_offset(z, -1), -HOUR);
    assert_int_equal(zone_offset(z, 0), HOUR);
    assert_int_equal(zone_offset(z, 1000 * DAY * CLOCK_SECOND - 1), HOUR);
    assert_int_equal(zone_offset(z, 1000 * DAY * CLOCK_SECOND), 2 * HOUR);
    zone_unref(z);
    buf_dispose(&file);
    make_file(&file, times, 3, offsets, ""); /* no rule: the last offset stays */
    assert_int_equal(zone_parse("made", buf_slice(&file), &z, NULL), ERR_OK);
    assert_int_equal(zone_offset(z, INT64_MAX), 0);
    zone_unref(z);
    buf_dispose(&file);
}

static void files_of_the_first_version_are_read(void **state)
{
    static const int64_t times[] = {-2147483648, 1000};
    static const int32_t offsets[] = {1, 2, -3};
    struct zone *z = NULL;
    struct buf file;

    (void)state;
    buf_init(&file, ZONE_FILE);
    put_header(&file, '\0', 0, 2, 3);
    put_block(&file, 4, times, 2, offsets);
    assert_int_equal(zone_parse("made", buf_slice(&file), &z, NULL), ERR_OK);
    assert_int_equal(zone_offset(z, INT64_MIN), 1);
    assert_int_equal(zone_offset(z, 0), 2);
    assert_int_equal(zone_offset(z, 1000 * CLOCK_SECOND), -3);
    zone_unref(z);
    buf_dispose(&file);
}

/* Days of any file neither overlap nor gap, and every question ends. */
static void sound(const struct zone *z, int64_t from, int64_t to)
{
    int64_t before = zone_day_begins(z, from - 1);

    for (int64_t day = from; day <= to; day++) {
        int64_t begin = zone_day_begins(z, day);

        assert_true(begin >= before);
        assert_true(begin > (day * DAY - 26 * HOUR) * CLOCK_SECOND && begin < (day * DAY + 26 * HOUR) * CLOCK_SECOND);
        assert_true(zone_day_at(z, begin) >= day);
        assert_true(zone_day_at(z, begin - 1) < day);
        before = begin;
    }
}

static void clocks_may_do_anything(void **state)
{
    (void)state;
    srandom(1);
    for (int round = 0; round < 2000; round++) {
        int64_t times[TIMES], t = -2 * DAY;
        int32_t offsets[TIMES + 1];
        struct zone *z = NULL;
        struct buf file;

        for (int i = 0; i <= TIMES; i++) {
            offsets[i] = (int32_t)(random() % (2 * 26 * HOUR - 1)) - 26 * HOUR + 1;
            t += 1 + random() % DAY;
            if (i < TIMES)
                times[i] = t;
        }
        make_file(&file, times, TIMES, offsets, round % 2 == 0 ? "" : "AAA-20BBB+23,5/-100,J7/90:30");
        assert_int_equal(zone_parse("made", buf_slice(&file), &z, NULL), ERR_OK);
        sound(z, -4, 16);
        for (int i = 0; i < 50; i++) { /* by the rule itself, second by second would be too slow */
            int64_t wall = (-4 * DAY + random() % (20 * DAY)) * CLOCK_SECOND;
            int64_t day = zone_day_at(z, wall);

            assert_true((wall / CLOCK_SECOND + zone_offset(z, wall)) < (day + 1) * DAY);
            assert_true(zone_day_begins(z, day) <= wall && wall < zone_day_begins(z, day + 1));
            wall = zone_day_begins(z, day);
            assert_true(wall / CLOCK_SECOND + zone_offset(z, wall) >= day * DAY);
        }
        zone_unref(z);
        buf_dispose(&file);
    }
}

/* ---- damage ---- */

static void is_damaged(const struct buf *file, size_t len, const char *why)
{
    struct zone *z = NULL;
    struct err err = {0};
    char *copy = mem_alloc(len + 1); /* of its very length, for the sanitizer */

    memcpy(copy, file->p, len);
    assert_int_equal(zone_parse("made", (struct slice){copy, len}, &z, &err), ERR_NOT_FOUND);
    assert_null(z);
    assert_string_equal(err.param, "");
    assert_true(strstr(err.message, "'made'") != NULL && strstr(err.message, why) != NULL);
    free(copy);
}

static void damaged_files_are_refused(void **state)
{
    static const int64_t times[] = {5, 5};
    static const int64_t falling[] = {5, 4};
    static const int64_t good[] = {5, 6};
    static const int32_t offsets[] = {0, 0, 0};
    static const int32_t far[] = {0, 26 * HOUR, 0};
    static const int32_t far_first[] = {-26 * HOUR, 0, 0};
    struct buf file;

    (void)state;
    make_file(&file, good, 2, offsets, "AAA5");
    for (size_t len = 0; len < file.len; len++)
        is_damaged(&file, len, "");
    for (size_t i = 0; i < 4; i++) { /* counts that are lies: the last bytes of the second header */
        char *count = file.p + 44 + 6 + 4 + 28 + i * 4;

        memset(count, 0xff, 4);
        is_damaged(&file, file.len, i == 0 ? "too short" : "");
        memset(count, 0, 4);
        count[3] = (char)(i == 0 ? 0 : i == 1 ? 2 : i == 2 ? 3 : 4);
    }
    file.p[4] = '1';
    is_damaged(&file, file.len, "no compiled time zone");
    buf_dispose(&file);
    make_file(&file, times, 2, offsets, "");
    is_damaged(&file, file.len, "out of order");
    buf_dispose(&file);
    make_file(&file, falling, 2, offsets, "");
    is_damaged(&file, file.len, "out of order");
    buf_dispose(&file);
    make_file(&file, good, 2, far, "");
    is_damaged(&file, file.len, "an offset makes no sense");
    buf_dispose(&file);
    make_file(&file, good, 2, far_first, "");
    is_damaged(&file, file.len, "first offset makes no sense");
    buf_dispose(&file);
    make_file(&file, good, 2, offsets, "CET-1CEST");
    is_damaged(&file, file.len, "rule");
    buf_dispose(&file);
}

static void leap_seconds_are_not_for_us(void **state)
{
    static const int32_t offsets[] = {0};
    struct buf file;

    (void)state;
    buf_init(&file, ZONE_FILE);
    put_header(&file, '\0', 1, 0, 1);
    put_block(&file, 4, NULL, 0, offsets);
    put32(&file, 78796800);
    put32(&file, 1);
    is_damaged(&file, file.len, "leap seconds");
    buf_dispose(&file);
}

static void long_files_are_refused(void **state)
{
    struct buf file;

    (void)state;
    buf_init(&file, ZONE_FILE + 1);
    memset(buf_reserve(&file, ZONE_FILE + 1), 0, ZONE_FILE + 1);
    buf_advance(&file, ZONE_FILE + 1);
    is_damaged(&file, file.len, "too long");
    buf_dispose(&file);
}

/* A file that is changed anywhere is refused or is a zone like any other. */
static void flipped_bytes_do_no_harm(void **state)
{
    static char bytes[ZONE_FILE];
    FILE *f = fopen("/usr/share/zoneinfo/Africa/Casablanca", "rb");
    size_t len, taken = 0;

    (void)state;
    assert_non_null(f);
    len = fread(bytes, 1, sizeof(bytes), f);
    assert_true(len > 200 && len < sizeof(bytes) && fclose(f) == 0);
    srandom(2);
    for (size_t i = 0; i < len * 4; i++) {
        size_t where = i / 4;
        char kept = bytes[where];
        struct zone *z = NULL;

        bytes[where] = (char)(i % 4 == 0 ? 0 : i % 4 == 1 ? 0xff : kept ^ (1 << (random() % 8)));
        if (zone_parse("flipped", (struct slice){bytes, len}, &z, NULL) == ERR_OK) {
            int64_t day = random() % 60000;

            sound(z, day, day + 3);
            taken++;
        }
        zone_unref(z);
        bytes[where] = kept;
    }
    assert_true(taken > len / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(days_are_counted_as_on_a_calendar),
        cmocka_unit_test(utc_is_always_there),
        cmocka_unit_test(berlin_changes_in_spring_and_autumn),
        cmocka_unit_test(rules_hold_after_the_last_change),
        cmocka_unit_test(midnights_that_are_jumped_over_or_come_twice),
        cmocka_unit_test(a_day_that_never_was_is_empty),
        cmocka_unit_test(the_ends_of_time_do_no_harm),
        cmocka_unit_test(names_lead_nowhere_else),
        cmocka_unit_test(rules_are_read_in_every_form),
        cmocka_unit_test(bad_rules_are_refused),
        cmocka_unit_test(changes_and_rule_meet),
        cmocka_unit_test(files_of_the_first_version_are_read),
        cmocka_unit_test(clocks_may_do_anything),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(leap_seconds_are_not_for_us),
        cmocka_unit_test(long_files_are_refused),
        cmocka_unit_test(flipped_bytes_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
