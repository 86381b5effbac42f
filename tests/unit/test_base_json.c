/* test_base_json.c - the scanner at every split, and the reader that guards json-c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/json.h"
#include "daemon/base/json_scan.h"

/* Events written as text, so that runs can be compared: "kind depth start-end text|". */
struct trace {
    char text[8192];
    size_t len;
    int stop_after; /* events until the callback says stop; 0: never */
};

static bool record(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole, uint64_t start,
                   uint64_t end)
{
    static const char kinds[] = "{[}ksdtfn";
    struct trace *t = ctx;

    t->len += (size_t)snprintf(t->text + t->len, sizeof(t->text) - t->len, "%c%d %llu-%llu %.*s%s|", kinds[event],
                               depth, (unsigned long long)start, (unsigned long long)end, (int)text.len,
                               text.len > 0 ? text.p : "", whole ? "" : "...");
    assert_true(t->len < sizeof(t->text));
    return --t->stop_after != 0;
}

/* Feeds <text> in pieces of <piece> bytes, from memory of exactly that size, so that a read past the end is caught. */
static enum json_scan_result run(struct slice text, size_t piece, bool strict, struct trace *t, uint64_t *offset)
{
    struct json_scan s;

    t->len = 0;
    t->text[0] = '\0';
    json_scan_init(&s, 32, strict, record, t);
    for (size_t i = 0; i < text.len; i += piece) {
        size_t n = text.len - i < piece ? text.len - i : piece;
        char *copy = malloc(n);

        memcpy(copy, text.p + i, n);
        json_scan_feed(&s, copy, n);
        free(copy);
    }
    *offset = s.offset;
    return json_scan_finish(&s);
}

static void check_splits(const char *text, bool strict, bool good)
{
    static struct trace whole, split;
    uint64_t at, split_at;
    struct slice s = slice_from(text);
    enum json_scan_result result = run(s, s.len + 1, strict, &whole, &at);

    if ((result == JSON_SCAN_DONE) != good)
        fail_msg("%s: %s", text, good ? "refused" : "accepted");
    for (size_t piece = 1; piece < s.len; piece++) {
        assert_int_equal(run(s, piece, strict, &split, &split_at), result);
        assert_string_equal(split.text, whole.text);
        assert_int_equal(split_at, at);
    }
}

static void scanner_accepts_the_grammar(void **state)
{
    static const char *const good[] = {"{}",
                                       "[]",
                                       " [ ] ",
                                       "null",
                                       "true",
                                       "false",
                                       "0",
                                       "-0",
                                       "10",
                                       "-1.5e+10",
                                       "1E5",
                                       "0.5",
                                       "0e0",
                                       "1e-400",
                                       "\"\"",
                                       "\"a\"",
                                       "{\"a\":1}",
                                       "{\"a\":[1,2,{\"b\":null}],\"c\":\"d\"}",
                                       "[[[]]]",
                                       "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83d\"",
                                       "\t\r\n{ \"a\" : \"b\" , \"c\" : [ ] }\n",
                                       "\"\\\\\"",
                                       "\"\\\\\\\"\"",
                                       "[\"\\\\\",\"\\\"\"]",
                                       "\"\x7f\"",
                                       "[0]",
                                       "[-0.0]"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        check_splits(good[i], true, true);
        check_splits(good[i], false, true);
    }
}

static void scanner_refuses_the_rest(void **state)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[",
                                      "}",
                                      "]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "{\"a\" 1}",
                                      "{a:1}",
                                      "{'a':1}",
                                      "01",
                                      "-",
                                      "1.",
                                      ".5",
                                      "1e",
                                      "1e+",
                                      "+1",
                                      "-a",
                                      "--1",
                                      "0x1",
                                      "NaN",
                                      "Infinity",
                                      "nul",
                                      "nulll",
                                      "tru ",
                                      "True",
                                      "\"",
                                      "\"\\\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\u12g4\"",
                                      "1 1",
                                      "{} {}",
                                      "[]]",
                                      "[}",
                                      "{]",
                                      "{\"a\":1]",
                                      "\xEF\xBB\xBF{}",
                                      "/**/{}",
                                      "[1]x",
                                      "{,}",
                                      "[\"a\":1]",
                                      "{1:1}",
                                      "00",
                                      "1.e5",
                                      "[-]",
                                      "\"\\",
                                      "-00",
                                      "1a",
                                      "[1e]"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_splits(bad[i], true, false);
        check_splits(bad[i], false, false);
    }
    check_splits("\"a\nb\"", true, false);
    check_splits("\"a\nb\"", false, true);
    check_splits("\"0123456789abcdef0123456789abcdef\x1f\"", true, false);
}

static void scanner_tells_offsets_and_depths(void **state)
{
    static struct trace t;
    uint64_t at;

    (void)state;
    assert_int_equal(run(SLICE("{\"a\": [12, \"x\\\"y\", true], \"b\":{}}"), 99, true, &t, &at), JSON_SCAN_DONE);
    assert_string_equal(t.text, "{0 0-1 |k1 1-4 a|[1 6-7 |d2 7-9 12|s2 11-17 x\\\"y|t2 19-23 true|}1 23-24 |k1 26-29 b|"
                                "{1 30-31 |}1 31-32 |}0 32-33 |");
    assert_int_equal(at, 33);
    assert_int_equal(run(SLICE(" -12 "), 99, true, &t, &at), JSON_SCAN_DONE);
    assert_string_equal(t.text, "d0 1-4 -12|");
    assert_int_equal(run(SLICE("[1,x]"), 99, true, &t, &at), JSON_SCAN_BAD);
    assert_int_equal(at, 3); /* the byte that was refused */
}

static void scanner_keeps_the_head_of_long_tokens(void **state)
{
    static struct trace t;
    char text[2 * JSON_SCAN_TEXT];
    uint64_t at;

    (void)state;
    for (size_t n = JSON_SCAN_TEXT - 1; n <= JSON_SCAN_TEXT + 1; n++) {
        memset(text, 'x', n + 2);
        text[0] = text[n + 1] = '"';
        text[n + 2] = '\0';
        check_splits(text, true, true);
        run(slice_from(text), 7, true, &t, &at);
        assert_int_equal(strstr(t.text, "...|") != NULL, n > JSON_SCAN_TEXT);
    }
}

static void scanner_bounds_depth(void **state)
{
    struct json_scan s;

    (void)state;
    json_scan_init(&s, 3, true, NULL, NULL);
    assert_int_equal(json_scan_feed(&s, "[[[", 3), JSON_SCAN_MORE);
    assert_int_equal(json_scan_feed(&s, "[", 1), JSON_SCAN_BAD);
    json_scan_init(&s, 0, true, NULL, NULL);
    assert_int_equal(json_scan_feed(&s, "1 ", 2), JSON_SCAN_DONE);
}

static void scanner_results_stay(void **state)
{
    struct json_scan s;
    struct trace t = {.stop_after = 2};

    (void)state;
    json_scan_init(&s, 3, true, NULL, NULL);
    assert_int_equal(json_scan_feed(&s, "{}", 2), JSON_SCAN_DONE);
    assert_int_equal(json_scan_feed(&s, " \n", 2), JSON_SCAN_DONE);
    assert_int_equal(json_scan_finish(&s), JSON_SCAN_DONE);
    assert_int_equal(json_scan_feed(&s, "x", 1), JSON_SCAN_BAD);
    assert_int_equal(json_scan_feed(&s, " ", 1), JSON_SCAN_BAD);
    json_scan_init(&s, 3, true, record, &t);
    assert_int_equal(json_scan_feed(&s, "[1,2]", 5), JSON_SCAN_BAD); /* the callback stopped it */
    assert_string_equal(t.text, "[0 0-1 |d1 1-2 1|");
    json_scan_init(&s, 3, true, NULL, NULL);
    assert_int_equal(json_scan_feed(&s, "12", 2), JSON_SCAN_MORE);
    assert_int_equal(json_scan_feed(&s, NULL, 0), JSON_SCAN_MORE);
    assert_int_equal(json_scan_finish(&s), JSON_SCAN_DONE);
}

/* A string of nothing but escapes must not be searched for its quote again at each of them. */
static void scanner_is_linear(void **state)
{
    enum { N = 4 * 1024 * 1024 };
    char *text = malloc(N + 2);
    struct json_scan s;

    (void)state;
    text[0] = text[N + 1] = '"';
    for (size_t i = 1; i <= N; i += 2)
        memcpy(text + i, "\\n", 2);
    json_scan_init(&s, 1, true, NULL, NULL);
    assert_int_equal(json_scan_feed(&s, text, N + 2), JSON_SCAN_DONE);
    free(text);
}

static enum err_code read_text(const char *text, struct err *err)
{
    struct json_object *tree = NULL;
    enum err_code code = json_read(slice_from(text), &tree, err);

    assert_int_equal(code == ERR_OK, tree != NULL);
    json_object_put(tree);
    return code;
}

static void reader_refuses_bad_text(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"prompt\":",
                                      "{\"a\":1,}",
                                      "{\"n\":NaN}",
                                      "{'a':1}",
                                      "\xEF\xBB\xBF{}",
                                      "{\"a\":\"\xFF\"}",
                                      "{\"\xED\xA0\x80\":1}",
                                      "{\"a\":\"\n\"}",
                                      "{}x",
                                      "{\"a\":01}"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(read_text(bad[i], &err), ERR_BAD_JSON);
        assert_string_equal(
            err.message, "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
                         "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was "
                         "not valid JSON. If you have trouble figuring out how to fix this, please contact us through "
                         "our help center at help.openai.com.)");
    }
    assert_int_equal(json_read((struct slice){"{\0\"\0a\0", 6}, &(struct json_object *){NULL}, &err), ERR_BAD_JSON);
    assert_int_equal(read_text("null", &err), ERR_BAD_REQUEST);
    assert_string_equal(err.message, "Invalid type for the request body: expected an object, but got null instead.");
    assert_int_equal(read_text("[]", &err), ERR_BAD_REQUEST);
    assert_int_equal(read_text("\"x\"", &err), ERR_BAD_REQUEST);
    assert_int_equal(read_text("1", &err), ERR_BAD_REQUEST);
    assert_int_equal(read_text("[", NULL), ERR_BAD_JSON);
}

static void nest(char *out, size_t levels)
{
    strcpy(out, "{\"a\":");
    for (size_t i = 1; i < levels; i++)
        strcat(out, "[");
    strcat(out, "1");
    for (size_t i = 1; i < levels; i++)
        strcat(out, "]");
    strcat(out, "}");
}

static void reader_bounds_depth(void **state)
{
    char text[256];
    char *deep = malloc(100001);

    (void)state;
    nest(text, LIMIT_JSON_DEPTH);
    assert_int_equal(read_text(text, NULL), ERR_OK);
    nest(text, LIMIT_JSON_DEPTH + 1);
    assert_int_equal(read_text(text, NULL), ERR_BAD_JSON);
    memset(deep, '[', 100000);
    deep[100000] = '\0';
    assert_int_equal(read_text(deep, NULL), ERR_BAD_JSON);
    free(deep);
}

static void reader_names_duplicates(void **state)
{
    static const struct {
        const char *text;
        const char *name;
    } cases[] = {
        {"{\"n\":1,\"n\":10}", "n"},
        {"{\"n\":1,\"\\u006e\":10}", "n"},
        {"{\"a\":{\"b\":1},\"c\":[{\"d\":1,\"e\":2,\"d\":3}],\"a\":1}", "d"},
        {"{\"\":1,\"\":1}", ""},
        {"{\"a\\\"\":1,\"a\\u0022\":2}", "a\""},
        {"{\"n\":null,\"n\":null}", "n"},
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_text(cases[i].text, &err), ERR_DUPLICATE_PARAMETER);
        assert_string_equal(err.param, cases[i].name);
    }
    assert_int_equal(read_text("{\"n\":1,\"n\":10}", &err), ERR_DUPLICATE_PARAMETER);
    assert_string_equal(err.message,
                        "Duplicate parameter: 'n'. You provided multiple values for this parameter, whereas "
                        "only one is allowed.");
    assert_int_equal(read_text("{\"a\":{\"n\":1},\"b\":{\"n\":1},\"n\":1}", NULL), ERR_OK);
}

static void reader_refuses_keys_with_nul(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(read_text("{\"n\\u0000x\":10}", &err), ERR_UNKNOWN_PARAMETER);
    assert_string_equal(err.param, "n\\u0000x");
    assert_int_equal(read_text("{\"n\\\\u0000x\":10}", NULL), ERR_OK); /* a backslash, then plain letters */
    assert_int_equal(read_text("{\"a\":\"\\u0000\"}", NULL), ERR_OK);
    assert_int_equal(read_text("{\"a\":\"\\ud800\"}", NULL), ERR_OK);
}

static struct json_object *tree_of(const char *text)
{
    struct json_object *tree = NULL;

    assert_int_equal(json_read(slice_from(text), &tree, NULL), ERR_OK);
    return tree;
}

static enum err_code get_n(const char *value, int64_t min, int64_t max, int64_t *out, bool *present, struct err *err)
{
    char text[256];
    struct json_object *tree;
    enum err_code code;

    (void)snprintf(text, sizeof(text), "{\"n\":%s}", value);
    tree = tree_of(text);
    code = json_get_int(tree, "n", min, max, out, present, err);
    json_object_put(tree);
    return code;
}

static void integers_never_wrap(void **state)
{
    static const struct {
        const char *value;
        enum err_code code;
        const char *message;
    } cases[] = {
        {"0", ERR_INTEGER_BELOW_MIN,
         "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead."},
        {"11", ERR_INTEGER_ABOVE_MAX,
         "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 11 instead."},
        {"99999999999999999999", ERR_INTEGER_ABOVE_MAX,
         "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 99999999999999999999 instead."},
        {"9223372036854775808", ERR_INTEGER_ABOVE_MAX,
         "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 9223372036854775808 instead."},
        {"-9223372036854775809", ERR_INTEGER_BELOW_MIN,
         "Invalid 'n': integer below minimum value. Expected a value >= 1, but got -9223372036854775809 instead."},
        {"-99999999999999999999", ERR_INTEGER_BELOW_MIN,
         "Invalid 'n': integer below minimum value. Expected a value >= 1, but got -99999999999999999999 instead."},
        {"1.0", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a decimal number instead."},
        {"1e0", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a decimal number instead."},
        {"1e400", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a decimal number instead."},
        {"\"1\"", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a string instead."},
        {"true", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a boolean instead."},
        {"[]", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got an array instead."},
        {"{}", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got an object instead."},
    };
    struct err err;
    int64_t n = 7;
    bool present;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(get_n(cases[i].value, 1, 10, &n, &present, &err), cases[i].code);
        assert_string_equal(err.message, cases[i].message);
        assert_string_equal(err.param, "n");
        assert_false(present);
    }
    assert_int_equal(n, 7);
    assert_int_equal(get_n("null", 1, 10, &n, &present, &err), ERR_OK);
    assert_false(present);
    assert_int_equal(get_n("10", 1, 10, &n, &present, &err), ERR_OK);
    assert_true(present && n == 10);
    assert_int_equal(get_n("-0", 0, 10, &n, NULL, &err), ERR_OK);
    assert_int_equal(n, 0);
    assert_int_equal(get_n("9223372036854775807", INT64_MIN, INT64_MAX, &n, NULL, &err), ERR_OK);
    assert_true(n == INT64_MAX);
    assert_int_equal(get_n("9223372036854775808", INT64_MIN, INT64_MAX, &n, NULL, &err), ERR_INTEGER_ABOVE_MAX);
    assert_int_equal(get_n("-9223372036854775807", INT64_MIN, INT64_MAX, &n, NULL, &err), ERR_OK);
    assert_true(n == -INT64_MAX);
    assert_int_equal(get_n("-9223372036854775809", INT64_MIN, INT64_MAX, &n, NULL, &err), ERR_INTEGER_BELOW_MIN);
}

/* Digits that json-c would saturate come back as they were written, each in its place. */
static void wide_integers_keep_their_digits(void **state)
{
    static const char text[] = "{\"a\":[1,99999999999999999999,2.5,{\"b\":-18446744073709551616}],\"c\":3,"
                               "\"d\":18446744073709551616}";
    struct json_object *tree = tree_of(text);

    (void)state;
    assert_string_equal(json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN), text);
    json_object_put(tree);
}

static void texts_are_bounded(void **state)
{
    struct json_object *tree = tree_of("{\"s\":\"abc\",\"z\":\"a\\u0000b\",\"n\":1,\"x\":null,\"e\":\"\"}");
    char out[4];
    struct slice s;
    struct err err;
    bool present;

    (void)state;
    assert_int_equal(json_get_text(tree, "s", true, out, 4, &present, &err), ERR_OK);
    assert_true(present);
    assert_string_equal(out, "abc");
    assert_int_equal(json_get_text(tree, "s", true, out, 3, &present, &err), ERR_STRING_TOO_LONG);
    assert_string_equal(err.message, "Invalid 's': string too long. Expected a string with maximum length 2, but got a "
                                     "string with length 3 instead.");
    assert_string_equal(out, "");
    assert_false(present);
    assert_int_equal(json_get_text(tree, "z", true, out, 4, &present, &err), ERR_INVALID_VALUE);
    assert_int_equal(json_get_text(tree, "e", true, out, 4, &present, &err), ERR_OK);
    assert_true(present);
    assert_int_equal(json_get_slice(tree, "z", true, &s, &present, &err), ERR_OK);
    assert_int_equal(s.len, 3);
    assert_int_equal(json_get_slice(tree, "n", false, &s, &present, &err), ERR_INVALID_TYPE);
    assert_string_equal(err.message, "Invalid type for 'n': expected a string, but got an integer instead.");
    assert_int_equal(json_get_slice(tree, "x", false, &s, &present, &err), ERR_OK);
    assert_false(present);
    assert_int_equal(json_get_slice(tree, "x", true, &s, &present, &err), ERR_MISSING_PARAMETER);
    assert_string_equal(err.message, "Missing required parameter: 'x'.");
    assert_int_equal(json_get_slice(tree, "absent", true, &s, NULL, &err), ERR_MISSING_PARAMETER);
    json_object_put(tree);
}

static void other_getters(void **state)
{
    static const char *const names[] = {"t", "f", "m", "d", "bad", NULL};
    struct json_object *tree = tree_of("{\"t\":true,\"f\":false,\"m\":\"25.00\",\"d\":1.5,\"bad\":\"1e3\",\"x\":1}");
    struct json_object *value;
    struct err err;
    int64_t money;
    bool b, present;

    (void)state;
    assert_int_equal(json_get_bool(tree, "t", &b, &present, &err), ERR_OK);
    assert_true(b && present);
    assert_int_equal(json_get_bool(tree, "f", &b, NULL, &err), ERR_OK);
    assert_false(b);
    assert_int_equal(json_get_bool(tree, "m", &b, NULL, &err), ERR_INVALID_TYPE);
    assert_string_equal(err.message, "Invalid type for 'm': expected a boolean, but got a string instead.");
    assert_int_equal(json_get_money(tree, "m", 9, true, &money, &present, &err), ERR_OK);
    assert_true(money == 25000000000 && present);
    assert_int_equal(json_get_money(tree, "d", 9, true, &money, &present, &err), ERR_INVALID_TYPE);
    assert_int_equal(json_get_money(tree, "bad", 9, true, &money, &present, &err), ERR_INVALID_VALUE);
    assert_false(present);
    assert_string_equal(err.param, "bad");
    assert_int_equal(json_get_money(tree, "none", 9, false, &money, &present, &err), ERR_OK);
    assert_false(present);
    assert_int_equal(json_only(tree, names, &err), ERR_UNKNOWN_PARAMETER);
    assert_string_equal(err.message, "Unknown parameter: 'x'.");
    assert_true(json_find(tree, "d", &value));
    assert_string_equal(json_kind(value), "a decimal number");
    json_object_put(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanner_accepts_the_grammar),
        cmocka_unit_test(scanner_refuses_the_rest),
        cmocka_unit_test(scanner_tells_offsets_and_depths),
        cmocka_unit_test(scanner_keeps_the_head_of_long_tokens),
        cmocka_unit_test(scanner_bounds_depth),
        cmocka_unit_test(scanner_results_stay),
        cmocka_unit_test(scanner_is_linear),
        cmocka_unit_test(reader_refuses_bad_text),
        cmocka_unit_test(reader_bounds_depth),
        cmocka_unit_test(reader_names_duplicates),
        cmocka_unit_test(reader_refuses_keys_with_nul),
        cmocka_unit_test(integers_never_wrap),
        cmocka_unit_test(wide_integers_keep_their_digits),
        cmocka_unit_test(texts_are_bounded),
        cmocka_unit_test(other_getters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
