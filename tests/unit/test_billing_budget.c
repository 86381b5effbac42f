/* test_billing_budget.c - lists of budgets as text, and their windows in time: by the calendar and by properties. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/billing/budget.h"
#include "zone_fixture.h"

static const char *const zones[] = {
    "UTC",          "Europe/Berlin",       "America/Sao_Paulo",   "Pacific/Apia",     "America/Havana",
    "Asia/Gaza",    "Africa/Casablanca",   "Australia/Lord_Howe", "America/St_Johns", "Europe/Dublin",
    "Asia/Kolkata", "Pacific/Kwajalein",   "America/Nuuk",        "Antarctica/Troll", "Pacific/Kiritimati",
    "Africa/Cairo", "America/Scoresbysund"};

enum { ZONES = sizeof(zones) / sizeof(zones[0]) };

/* ---- text ---- */

static void lists_are_read_and_written(void **state)
{
    static const struct {
        const char *text, *canonical;
    } cases[] = {
        {NULL, "[]"},
        {"", "[]"},
        {"null", "[]"},
        {"[]", "[]"},
        {"[{\"amount\":\"25.00\",\"window\":\"day\"}]", "[{\"amount\":\"25.000000000\",\"window\":\"day\"}]"},
        {" [ { \"window\" : \"week\" , \"amount\" : \"0\" } ] ", "[{\"amount\":\"0.000000000\",\"window\":\"week\"}]"},
        {"[{\"amount\":\"0.000000001\",\"window\":\"rolling:60s\"},{\"amount\":\"1000000000\",\"window\":\"rolling:"
         "31622400s\"},{\"amount\":\"1\",\"window\":\"month\"},{\"amount\":\"-0\",\"window\":\"lifetime\"}]",
         "[{\"amount\":\"0.000000001\",\"window\":\"rolling:60s\"},{\"amount\":\"1000000000.000000000\",\"window\":"
         "\"rolling:31622400s\"},{\"amount\":\"1.000000000\",\"window\":\"month\"},{\"amount\":\"0.000000000\","
         "\"window\":\"lifetime\"}]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int again = 0; again < 2; again++) { /* the canonical text is its own */
            struct budget_list list;
            struct buf out;

            assert_int_equal(
                budget_list_parse("budgets", slice_from(again ? cases[i].canonical : cases[i].text), &list, NULL),
                ERR_OK);
            buf_init(&out, 4096);
            budget_list_format(&list, &out);
            assert_true(slice_eq_str(buf_slice(&out), cases[i].canonical));
            buf_dispose(&out);
        }
    }
}

static void windows_are_numbers(void **state)
{
    static const struct {
        const char *name;
        int64_t window;
    } cases[] = {{"lifetime", 0}, {"day", -1}, {"week", -2}, {"month", -3}, {"rolling:3600s", 3600}};
    char text[128], window[BUDGET_WINDOW_TEXT];
    struct budget_list list;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(text, sizeof(text), "[{\"amount\":\"1.5\",\"window\":\"%s\"}]", cases[i].name);
        assert_int_equal(budget_list_parse("budgets", slice_from(text), &list, NULL), ERR_OK);
        assert_int_equal(list.n, 1);
        assert_true(list.of[0].window == cases[i].window && list.of[0].amount == 1500000000);
        assert_string_equal(budget_window_format(cases[i].window, window), cases[i].name);
    }
}

#define GOOD "{\"amount\":\"1\",\"window\":\"day\"}"
#define AMOUNT(amount) "[{\"amount\":" amount ",\"window\":\"day\"}]"
#define WINDOW(window) "[" GOOD ",{\"amount\":\"1\",\"window\":" window "}]"

static void bad_lists_name_the_place(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
        const char *param;
    } cases[] = {
        {"{}", ERR_INVALID_TYPE, "budgets"},
        {"\"day\"", ERR_INVALID_TYPE, "budgets"},
        {"1", ERR_INVALID_TYPE, "budgets"},
        {"[", ERR_INVALID_TYPE, "budgets"},
        {"[],\"more\":1", ERR_INVALID_TYPE, "budgets"},
        {"[]},{\"list\":[]", ERR_INVALID_TYPE, "budgets"},
        {"[],\"list\":[]", ERR_DUPLICATE_PARAMETER, "budgets"},
        {"[1]", ERR_INVALID_TYPE, "budgets[0]"},
        {"[null]", ERR_INVALID_TYPE, "budgets[0]"},
        {"[" GOOD ",[]]", ERR_INVALID_TYPE, "budgets[1]"},
        {"[{}]", ERR_MISSING_PARAMETER, "budgets[0].amount"},
        {"[{\"amount\":null,\"window\":\"day\"}]", ERR_MISSING_PARAMETER, "budgets[0].amount"},
        {"[{\"amount\":\"1\"}]", ERR_MISSING_PARAMETER, "budgets[0].window"},
        {"[{\"amount\":\"1\",\"amount\":\"2\",\"window\":\"day\"}]", ERR_DUPLICATE_PARAMETER, "budgets"},
        {"[{\"amount\":\"1\",\"window\":\"day\",\"currency\":\"EUR\"}]", ERR_UNKNOWN_PARAMETER, "budgets[0].currency"},
        {"[{\"\":1}]", ERR_UNKNOWN_PARAMETER, "budgets[0]."},
        {AMOUNT("25"), ERR_INVALID_TYPE, "budgets[0].amount"},
        {AMOUNT("2.5"), ERR_INVALID_TYPE, "budgets[0].amount"},
        {AMOUNT("\"\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"-1\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"-0.000000001\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"1000000000.000000001\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"1000000000000000000000000000000\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"1e30\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"0.0000000001\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"1.0000000000\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"25 USD\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {AMOUNT("\"25\\u0000\""), ERR_INVALID_VALUE, "budgets[0].amount"},
        {WINDOW("1"), ERR_INVALID_TYPE, "budgets[1].window"},
        {WINDOW("\"\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"Day\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"day\\u0000\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"year\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:3600\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:59s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:0s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:060s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:-60s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:31622401s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:18446744073709551676s\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"rolling:1h\""), ERR_INVALID_VALUE, "budgets[1].window"},
        {WINDOW("\"day\""), ERR_DUPLICATE_PARAMETER, "budgets[1].window"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct budget_list list = {.n = 7};
        struct err err = {0};
        enum err_code code = budget_list_parse("budgets", slice_from(cases[i].text), &list, &err);

        if (code != cases[i].code || err.code != code || strcmp(err.param, cases[i].param) != 0 || list.n != 7)
            fail_msg("%s: %s at '%s': %s", cases[i].text, err_name(code), err.param, err.message);
        if (budget_list_parse("budgets", slice_from(cases[i].text), &list, NULL) != code)
            fail_msg("%s: another answer without a place for it", cases[i].text);
    }
}

static void lists_are_short(void **state)
{
    struct budget_list list;
    struct err err = {0};
    struct buf text;

    (void)state;
    for (int n = BUDGET_LIST; n <= BUDGET_LIST + 1; n++) {
        buf_init(&text, 4096);
        for (int i = 0; i < n; i++)
            buf_printf(&text, "%c{\"amount\":\"1\",\"window\":\"rolling:%ds\"}", i == 0 ? '[' : ',', 60 + i);
        buf_append_char(&text, ']');
        assert_int_equal(budget_list_parse("budgets", buf_slice(&text), &list, &err),
                         n <= BUDGET_LIST ? ERR_OK : ERR_INVALID_VALUE);
        buf_dispose(&text);
    }
    assert_string_equal(err.param, "budgets");
    buf_init(&text, 1 << 20);
    memset(buf_reserve(&text, 1 << 17), ' ', 1 << 17);
    buf_advance(&text, 1 << 17);
    buf_append_str(&text, "[]");
    assert_int_equal(budget_list_parse("budgets", buf_slice(&text), &list, &err), ERR_STRING_TOO_LONG);
    buf_dispose(&text);
}

static void long_names_are_cut_between_characters(void **state)
{
    struct budget_list list;
    struct err err = {0};
    struct buf text;

    (void)state;
    buf_init(&text, 4096);
    buf_append_str(&text, "[{\"x");
    for (int i = 0; i < 200; i++)
        buf_append_str(&text, "\xc3\xa9");
    buf_append_str(&text, "\":1}]");
    assert_int_equal(budget_list_parse("budgets", buf_slice(&text), &list, &err), ERR_UNKNOWN_PARAMETER);
    assert_true(strncmp(err.param, "budgets[0].x\xc3\xa9", 14) == 0);
    assert_true((strlen(err.param) - 12) % 2 == 0);
    buf_dispose(&text);
}

/* ---- the calendar ---- */

static void spans(const char *zone, int64_t window, const char *wall, const char *begin, const char *end)
{
    struct zone *z = opened(zone);
    struct budget_span s = budget_cell_at(window, z, at(wall));
    char a[CLOCK_TEXT], b[CLOCK_TEXT];

    if (s.begin != at(begin) || s.end != at(end))
        fail_msg("%s at %s: %s to %s", zone, wall, clock_format(s.begin, a), clock_format(s.end, b));
    assert_true(budget_counts_from(window, z, at(wall)) == s.begin);
    assert_true(budget_resets_at(window, z, at(wall)) == s.end);
    zone_unref(z);
}

static void windows_follow_the_calendar(void **state)
{
    (void)state;
    spans("UTC", BUDGET_DAY, "2026-02-28T23:59:59.999999Z", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z");
    spans("UTC", BUDGET_DAY, "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z");
    spans("UTC", BUDGET_MONTH, "2028-02-29T23:59:59.999999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    spans("UTC", BUDGET_MONTH, "2026-12-31T23:59:59.999999Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    spans("UTC", BUDGET_MONTH, "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z");
    spans("UTC", BUDGET_MONTH, "2100-02-28T12:00:00Z", "2100-02-01T00:00:00Z", "2100-03-01T00:00:00Z");
    /* Monday 28 December 2026 to Sunday 3 January 2027 */
    spans("UTC", BUDGET_WEEK, "2026-12-28T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z");
    spans("UTC", BUDGET_WEEK, "2027-01-03T23:59:59.999999Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z");
    spans("UTC", BUDGET_WEEK, "2026-12-27T23:59:59.999999Z", "2026-12-21T00:00:00Z", "2026-12-28T00:00:00Z");
    spans("UTC", BUDGET_WEEK, "1970-01-05T00:00:00Z", "1970-01-05T00:00:00Z", "1970-01-12T00:00:00Z");
}

static void windows_follow_the_zone(void **state)
{
    (void)state;
    spans("Europe/Berlin", BUDGET_DAY, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    spans("Europe/Berlin", BUDGET_DAY, "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    spans("Europe/Berlin", BUDGET_WEEK, "2026-10-25T12:00:00Z", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z");
    spans("Europe/Berlin", BUDGET_MONTH, "2026-03-01T12:00:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    spans("Europe/Berlin", BUDGET_MONTH, "2099-10-15T12:00:00Z", "2099-09-30T22:00:00Z", "2099-10-31T23:00:00Z");
    spans("America/Sao_Paulo", BUDGET_DAY, "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    spans("America/Sao_Paulo", BUDGET_DAY, "2018-02-18T02:30:00Z", "2018-02-17T02:00:00Z", "2018-02-18T03:00:00Z");
    spans("America/Sao_Paulo", BUDGET_WEEK, "2018-02-18T02:30:00Z", "2018-02-12T02:00:00Z", "2018-02-19T03:00:00Z");
    spans("Pacific/Apia", BUDGET_DAY, "2011-12-30T09:59:59.999999Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    spans("Pacific/Apia", BUDGET_DAY, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    spans("Pacific/Apia", BUDGET_WEEK, "2011-12-31T00:00:00Z", "2011-12-26T10:00:00Z", "2012-01-01T10:00:00Z");
    spans("Pacific/Apia", BUDGET_MONTH, "2011-12-31T00:00:00Z", "2011-12-01T10:00:00Z", "2011-12-31T10:00:00Z");
    spans("Pacific/Kiritimati", BUDGET_MONTH, "1995-01-01T00:00:00Z", "1994-12-31T10:00:00Z", "1995-01-31T10:00:00Z");
}

static void a_lifetime_never_ends(void **state)
{
    struct zone *z = opened("UTC");
    struct budget_span s = budget_cell_at(BUDGET_LIFETIME, z, clock_wall());

    (void)state;
    assert_true(s.begin == 0 && s.end == INT64_MAX);
    assert_true(budget_counts_from(BUDGET_LIFETIME, z, clock_wall()) == 0);
    assert_true(budget_resets_at(BUDGET_LIFETIME, z, clock_wall()) == INT64_MAX);
    zone_unref(z);
}

static void rolling_cells_are_a_sixtieth(void **state)
{
    struct budget_span s = budget_cell_at(3600, NULL, at("2026-07-01T12:34:56Z"));

    (void)state;
    assert_true(s.begin == at("2026-07-01T12:34:00Z") && s.end == at("2026-07-01T12:35:00Z"));
    assert_true(budget_counts_from(3600, NULL, at("2026-07-01T12:34:56Z")) == at("2026-07-01T11:34:00Z"));
    assert_true(budget_counts_from(3600, NULL, at("2026-07-01T12:34:59.999999Z")) == at("2026-07-01T11:35:00Z"));
    assert_true(budget_resets_at(3600, NULL, at("2026-07-01T12:34:56Z")) == at("2026-07-01T12:34:59.999999Z"));
    s = budget_cell_at(61, NULL, 0); /* a sixtieth of 61 s is no whole number of microseconds */
    assert_true(s.begin == 0 && s.end == 1016667);
}

/* ---- properties ---- */

static int64_t chance(int64_t below)
{
    int64_t high = random();

    return ((high << 31) | random()) % below;
}

/* From 1970 to 2100, half of them close to a change of the clocks. */
static int64_t random_wall(const struct zone *z)
{
    int64_t wall = chance(at("2101-01-01T00:00:00Z"));
    int64_t later = wall + 200 * 86400 * CLOCK_SECOND;

    if (random() % 2 == 0 || zone_offset(z, wall) == zone_offset(z, later))
        return wall;
    for (int64_t low = wall; later - low > 1;) {
        int64_t middle = low + (later - low) / 2;

        if (zone_offset(z, middle) == zone_offset(z, low))
            low = middle;
        else
            later = middle;
    }
    return later + (chance(5) - 2) * 12 * 3600 * CLOCK_SECOND + chance(3) - 1;
}

static int64_t random_window(void)
{
    static const int64_t kinds[] = {BUDGET_DAY, BUDGET_WEEK, BUDGET_MONTH, 60, 61, 3600, 86400, BUDGET_ROLLING_MAX};
    size_t which = (size_t)random() % (sizeof(kinds) / sizeof(kinds[0]) + 1);

    return which < sizeof(kinds) / sizeof(kinds[0])
               ? kinds[which]
               : BUDGET_ROLLING_MIN + chance(BUDGET_ROLLING_MAX - BUDGET_ROLLING_MIN + 1);
}

static void cells_neither_overlap_nor_gap(void **state)
{
    (void)state;
    srandom(3);
    for (int i = 0; i < ZONES; i++) {
        struct zone *z = opened(zones[i]);

        for (int round = 0; round < 3000; round++) {
            int64_t wall = random_wall(z), window = random_window();
            struct budget_span s = budget_cell_at(window, z, wall);
            struct budget_span before = budget_cell_at(window, z, s.begin - 1);
            struct budget_span after = budget_cell_at(window, z, s.end);
            int64_t inside = s.begin + chance(s.end - s.begin);
            struct budget_span same = budget_cell_at(window, z, inside);

            if (!(s.begin <= wall && wall < s.end) || before.end != s.begin || after.begin != s.end)
                fail_msg("%s, window %lld, %lld", zones[i], (long long)window, (long long)wall);
            assert_true(same.begin == s.begin && same.end == s.end);
            assert_true(before.begin < before.end && after.begin < after.end);
        }
        zone_unref(z);
    }
}

/* The clocks show a window's first day when it begins, or a later one that jumped over it. */
static void windows_begin_with_their_day(void **state)
{
    (void)state;
    srandom(4);
    for (int i = 0; i < ZONES; i++) {
        struct zone *z = opened(zones[i]);

        for (int round = 0; round < 1000; round++) {
            int64_t wall = random_wall(z);
            struct budget_span month = budget_cell_at(BUDGET_MONTH, z, wall);
            struct budget_span week = budget_cell_at(BUDGET_WEEK, z, wall);
            int y, m, d, year, mon, dom;

            zone_civil(zone_day_at(z, wall), &y, &m, &d);
            zone_civil(zone_day_at(z, month.begin), &year, &mon, &dom);
            assert_true(y == year && m == mon && dom <= 2);
            assert_true(month.begin == zone_day_begins(z, zone_day_of(y, m, 1)));
            assert_true(week.end - week.begin > 6 * 86400 * CLOCK_SECOND - 7200 * CLOCK_SECOND);
            assert_true(week.end - week.begin < 8 * 86400 * CLOCK_SECOND + 7200 * CLOCK_SECOND);
            assert_true((zone_day_at(z, week.end) + 3) % 7 <= 1);
        }
        zone_unref(z);
    }
}

static void counting_cells_cover_the_window_and_one_cell_more(void **state)
{
    struct zone *z = opened("UTC");

    (void)state;
    srandom(5);
    for (int round = 0; round < 100000; round++) {
        int64_t window = 0, wall = random_wall(z);
        int64_t length, first, from, reset, cell;
        struct budget_span now;

        while (window <= 0)
            window = random_window();
        now = budget_cell_at(window, z, wall);
        cell = now.end - now.begin;
        if (round % 4 == 0) /* at the edges of cells */
            wall = now.begin + round % 3 - 1;
        length = window * CLOCK_SECOND;
        first = wall - length + 1;
        from = budget_counts_from(window, z, wall);
        now = budget_cell_at(window, z, wall);
        assert_true(from <= first && first - from < cell);
        assert_true(from == budget_cell_at(window, z, from).begin);
        assert_true((now.begin - from) % cell == 0 && (now.begin - from) / cell + 1 <= BUDGET_CELLS);
        reset = budget_resets_at(window, z, wall);
        assert_true(reset > wall && reset - wall <= cell);
        assert_true(budget_counts_from(window, z, reset - 1) == from);
        assert_true(budget_counts_from(window, z, reset) == from + cell);
    }
    zone_unref(z);
}

static void the_ends_of_time_do_no_harm(void **state)
{
    static const int64_t walls[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    static const int64_t windows[] = {BUDGET_DAY, BUDGET_WEEK, BUDGET_MONTH, BUDGET_LIFETIME, 60, BUDGET_ROLLING_MAX};
    struct zone *z = opened("Europe/Berlin");

    (void)state;
    for (size_t i = 0; i < sizeof(walls) / sizeof(walls[0]); i++) {
        for (size_t k = 0; k < sizeof(windows) / sizeof(windows[0]); k++) {
            struct budget_span s = budget_cell_at(windows[k], z, walls[i]);

            assert_true(s.begin <= s.end);
            assert_true(budget_counts_from(windows[k], z, walls[i]) <= budget_resets_at(windows[k], z, walls[i]));
        }
    }
    zone_unref(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_are_read_and_written),
        cmocka_unit_test(windows_are_numbers),
        cmocka_unit_test(bad_lists_name_the_place),
        cmocka_unit_test(lists_are_short),
        cmocka_unit_test(long_names_are_cut_between_characters),
        cmocka_unit_test(windows_follow_the_calendar),
        cmocka_unit_test(windows_follow_the_zone),
        cmocka_unit_test(a_lifetime_never_ends),
        cmocka_unit_test(rolling_cells_are_a_sixtieth),
        cmocka_unit_test(cells_neither_overlap_nor_gap),
        cmocka_unit_test(windows_begin_with_their_day),
        cmocka_unit_test(counting_cells_cover_the_window_and_one_cell_more),
        cmocka_unit_test(the_ends_of_time_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
