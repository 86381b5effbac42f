/* test_admin_sheet.c - rows written quickly, held against the slow writers that everything else uses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/query.h"
#include "admin/sheet.h"
#include "daemon/base/clock.h"
#include "daemon/base/money.h"

static uint64_t state = 88172645463325252u;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

/* Numbers of every length, both signs. */
static int64_t number(void)
{
    return (int64_t)(next() >> (next() % 64)) * (next() % 2 == 0 ? 1 : -1);
}

static void assert_wrote(const char *p, const char *end, const char *expected)
{
    assert_int_equal(end - p, strlen(expected));
    assert_memory_equal(p, expected, strlen(expected));
}

static void test_numbers(void **unused)
{
    static const int64_t edges[] = {0, 1, -1, 9, 10, 99, 100, 999999999, 1000000000, -1000000000, INT64_MAX, INT64_MIN};
    char p[PEN_NUMBER], text[64];

    (void)unused;
    for (size_t i = 0; i < 200000 + sizeof(edges) / sizeof(edges[0]); i++) {
        int64_t value = i < sizeof(edges) / sizeof(edges[0]) ? edges[i] : number();

        (void)snprintf(text, sizeof(text), "%lld", (long long)value);
        assert_wrote(p, pen_int(p, value), text);
        assert_wrote(p, pen_nano(p, value), money_format_nano(value, text));
    }
}

static void test_times(void **unused)
{
    static const int64_t edges[] = {0, 1, 999999, 86399999999, 86400000000, 951782400000000, 253402300799999999};
    char p[PEN_NUMBER], text[CLOCK_TEXT];

    (void)unused;
    for (size_t i = 0; i < 200000; i++) {
        int64_t wall = i < 7 ? edges[i] : (int64_t)(next() % 253402300799999999u);

        if (i % 2 == 1)
            wall -= wall % 1000000;
        assert_wrote(p, pen_time(p, wall), clock_format(wall, text));
    }
}

/* Formatted by long division, read back by multiplication. */
static void test_ids(void **unused)
{
    char p[PEN_NUMBER], slow[ID_DIGITS + 1];
    struct id id, back;

    (void)unused;
    for (int i = 0; i < 200000; i++) {
        uint64_t words[2] = {next() >> (next() % 64), next()};
        char *end;

        if (i < 4)
            memset(words, i % 2 == 0 ? 0 : 0xff, i < 2 ? sizeof(words) : sizeof(words[0]));
        memcpy(id.b, words, sizeof(id.b));
        end = pen_id(p, "use", id);
        assert_int_equal(end - p, 4 + ID_DIGITS);
        base62_encode(id.b, ID_BYTES, slow, ID_DIGITS);
        assert_memory_equal(p + 4, slow, ID_DIGITS);
        assert_true(id_parse("use", (struct slice){p, (size_t)(end - p)}, &back) && id_eq(id, back));
    }
}

static void test_texts(void **unused)
{
    static const char *const texts[] = {
        "",         "plain",     "quo\"te",  "back\\slash",  "tab\t", "nl\n",        "a,b",
        "\xC3\xA9", "\xC2\x85x", "\xff\xfe", "\x01\x1f\x7f", "=1+1",  "\xE2\x80\xA8"};
    char p[256];
    struct buf slow;

    (void)unused;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct slice text = slice_from(texts[i]);
        char *end = pen_json(p, text);

        buf_init(&slow, sizeof(p));
        buf_append_json_string(&slow, text);
        assert_int_equal(end - p, slow.len);
        assert_memory_equal(p, slow.p, slow.len);
        assert_true((size_t)(end - p) <= PEN_TEXT(text.len));
        buf_dispose(&slow);
    }
}

static void assert_csv(const char *text, const char *expected)
{
    char p[256], *end = pen_csv(p, slice_from(text));

    assert_wrote(p, end, expected);
    assert_true((size_t)(end - p) <= PEN_TEXT(strlen(text)));
}

static void test_csv(void **unused)
{
    (void)unused;
    assert_csv("", "");
    assert_csv("plain text", "plain text");
    assert_csv("a,b", "\"a,b\"");
    assert_csv("say \"x\"", "\"say \"\"x\"\"\"");
    assert_csv("two\r\nlines", "\"two\r\nlines\"");
    assert_csv("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0");
    assert_csv("+1", "'+1");
    assert_csv("-1", "'-1");
    assert_csv("@SUM(A1,A2)", "\"'@SUM(A1,A2)\"");
    assert_csv("\tx", "'\tx");
    assert_csv("\rx", "\"'\rx\"");
    assert_csv("\"\"\"", "\"\"\"\"\"\"\"\"");
}

struct row {
    char text[8];
    const char *pointer;
    int small, zero;
    int64_t large, nano, at;
    struct id id;
    bool flag;
};

static char *put_own(const void *row, bool csv, char *p)
{
    (void)row;
    return csv ? PEN(p, "own") : PEN(p, "[1]");
}

#define COLUMN(name, kind, prefix, room)                                                                               \
    {                                                                                                                  \
#name, kind, 0, offsetof(struct row, name), prefix, room, NULL                                                 \
    }
static const struct sheet_column columns[] = {
    COLUMN(text, SHEET_TEXT, NULL, 8),
    COLUMN(pointer, SHEET_POINTER, NULL, 8),
    COLUMN(small, SHEET_INT, NULL, 0),
    COLUMN(zero, SHEET_INT_OR_NULL, NULL, 0),
    COLUMN(large, SHEET_LONG, NULL, 0),
    COLUMN(nano, SHEET_NANO, NULL, 0),
    COLUMN(at, SHEET_TIME, NULL, 0),
    COLUMN(id, SHEET_ID, "cus", 0),
    COLUMN(flag, SHEET_BOOL, NULL, 0),
    {"constant", SHEET_CONSTANT, 0, 0, "row", 0, NULL},
    {"own", SHEET_OWN, 0, 0, NULL, 8, put_own},
};

static void assert_buf(const struct buf *out, const char *expected)
{
    assert_int_equal(out->len, strlen(expected));
    assert_memory_equal(out->p, expected, out->len);
}

static void test_rows(void **unused)
{
    struct sheet sheet;
    struct row full = {"a,b", "=x", -7, 5, 1234567890123, -1, 1000000, {{0}}, true}, empty = {.small = 0};
    struct buf out;

    (void)unused;
    full.id.b[15] = 61;
    sheet_init(&sheet);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
        sheet_add(&sheet, &columns[i]);
    buf_init(&out, 65536);
    sheet_json(&sheet, &full, &out);
    sheet_json(&sheet, &empty, &out);
    assert_buf(&out, "{\"text\":\"a,b\",\"pointer\":\"=x\",\"small\":-7,\"zero\":5,\"large\":1234567890123,\"nano\":\"-"
                     "0.000000001\","
                     "\"at\":\"1970-01-01T00:00:01Z\",\"id\":\"cus_000000000000000000000z\",\"flag\":true,\"constant\":"
                     "\"row\",\"own\":[1]},"
                     "{\"text\":null,\"pointer\":null,\"small\":0,\"zero\":null,\"large\":0,\"nano\":\"0.000000000\","
                     "\"at\":null,\"id\":null,"
                     "\"flag\":false,\"constant\":\"row\",\"own\":[1]}");
    buf_clear(&out);
    sheet_csv_head(&sheet, &out);
    sheet_csv(&sheet, &full, &out);
    sheet_csv(&sheet, &empty, &out);
    assert_buf(
        &out,
        "text,pointer,small,zero,large,nano,at,id,flag,constant,own\r\n"
        "\"a,b\",'=x,-7,5,1234567890123,-0.000000001,1970-01-01T00:00:01Z,cus_000000000000000000000z,true,row,own\r\n"
        ",,0,,0,0.000000000,,,false,row,own\r\n");
    buf_dispose(&out);
}

/* A buffer that is too small becomes full and is not written past. */
static void test_no_room(void **unused)
{
    struct sheet sheet;
    struct row row = {.text = "x"};
    struct buf out;

    (void)unused;
    sheet_init(&sheet);
    sheet_add(&sheet, &columns[0]);
    buf_init(&out, 16);
    sheet_json(&sheet, &row, &out);
    assert_true(out.full && out.len == 0);
    buf_dispose(&out);
}

/* ---- queries ---- */

struct asked {
    char one[8], many[QUERY_VALUES][8], whole[QUERY_VALUES][16], hidden[8];
    int n_many, n_whole;
};

static enum err_code read(const char *query, bool platform, struct asked *a, struct err *err)
{
    const struct query_field fields[] = {
        {"one", a->one, sizeof(a->one), NULL, 0},
        {"many", a->many[0], sizeof(a->many[0]), &a->n_many, 0},
        {"whole", a->whole[0], sizeof(a->whole[0]), &a->n_whole, QUERY_WHOLE},
        {"hidden", a->hidden, sizeof(a->hidden), NULL, QUERY_PLATFORM},
    };

    return query_read(slice_from(query), platform, fields, 4, err);
}

static void test_queries(void **unused)
{
    struct asked a;
    struct err err;

    (void)unused;
    assert_int_equal(read("one=1&many=a,b&many%5B%5D=c&many[]=a&whole=x%2C%20y&whole[]=z&hidden=h", true, &a, &err),
                     ERR_OK);
    assert_string_equal(a.one, "1");
    assert_int_equal(a.n_many, 3);
    assert_string_equal(a.many[2], "c");
    assert_int_equal(a.n_whole, 2);
    assert_string_equal(a.whole[0], "x, y");
    assert_string_equal(a.hidden, "h");
    assert_int_equal(read("", true, &a, &err), ERR_OK);
    assert_int_equal(a.n_many + a.n_whole + a.one[0], 0);
    assert_int_equal(read("one=1&one=2", true, &a, &err), ERR_DUPLICATE_PARAMETER);
    assert_int_equal(read("hidden=1", false, &a, &err), ERR_UNKNOWN_PARAMETER);
    assert_int_equal(read("one[]=1", true, &a, &err), ERR_UNKNOWN_PARAMETER);
    assert_int_equal(read("other=1", true, &a, &err), ERR_UNKNOWN_PARAMETER);
    assert_string_equal(err.param, "other");
    assert_int_equal(read("one=12345678", true, &a, &err), ERR_STRING_TOO_LONG);
    assert_int_equal(read("many=a,12345678", true, &a, &err), ERR_STRING_TOO_LONG);
    assert_int_equal(read("one=%ff", true, &a, &err), ERR_INVALID_VALUE);
    assert_int_equal(read("one=%4", true, &a, &err), ERR_INVALID_VALUE);
    assert_int_equal(read("many=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                          true, &a, &err),
                     ERR_OK);
    assert_int_equal(a.n_many, QUERY_VALUES);
    assert_int_equal(
        read("many=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31&many=x", true,
             &a, &err),
        ERR_INVALID_VALUE);
}

static void test_values(void **unused)
{
    static const char *const words[] = {"a", "b", "c", NULL};
    struct err err;
    int value = 5;
    int64_t at = 7;

    (void)unused;
    assert_int_equal(query_int("x", "", 1, 9, &value, &err), ERR_OK);
    assert_int_equal(value, 5);
    assert_int_equal(query_int("x", "9", 1, 9, &value, &err), ERR_OK);
    assert_int_equal(value, 9);
    assert_int_equal(query_int("x", "10", 1, 9, &value, &err), ERR_INTEGER_ABOVE_MAX);
    assert_int_equal(query_int("x", "99999999999999999999999", 1, 9, &value, &err), ERR_INTEGER_ABOVE_MAX);
    assert_int_equal(query_int("x", "0", 1, 9, &value, &err), ERR_INTEGER_BELOW_MIN);
    assert_int_equal(query_int("x", "-1", 1, 9, &value, &err), ERR_INTEGER_BELOW_MIN);
    assert_int_equal(query_int("x", "1.5", 1, 9, &value, &err), ERR_INVALID_TYPE);
    assert_int_equal(query_int("x", "-", 1, 9, &value, &err), ERR_INVALID_TYPE);
    assert_int_equal(query_choice("x", "c", words, &value, &err), ERR_OK);
    assert_int_equal(value, 2);
    assert_int_equal(query_choice("x", "d", words, &value, &err), ERR_INVALID_VALUE);
    assert_non_null(strstr(err.message, "'a', 'b', and 'c'"));
    assert_int_equal(query_time("x", "1970-01-01T00:00:02Z", &at, &err), ERR_OK);
    assert_int_equal(at, 2000000);
    assert_int_equal(query_time("x", "yesterday", &at, &err), ERR_INVALID_VALUE);
    assert_string_equal(err.param, "x");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_times),   cmocka_unit_test(test_ids),
        cmocka_unit_test(test_texts),   cmocka_unit_test(test_csv),     cmocka_unit_test(test_rows),
        cmocka_unit_test(test_no_room), cmocka_unit_test(test_queries), cmocka_unit_test(test_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
