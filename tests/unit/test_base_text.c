/* test_base_text.c - slices, UTF-8, bounded buffers and errors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "daemon/base/buf.h"
#include "daemon/base/err.h"
#include "daemon/base/slice.h"
#include "daemon/base/utf8.h"

static void assert_slice(struct slice s, const char *text)
{
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.p, text, s.len);
}

static void slices_compare_and_trim(void **state)
{
    char out[4];

    (void)state;
    assert_true(slice_eq_nocase(SLICE("Content-TYPE"), SLICE("content-type")));
    assert_false(slice_eq_nocase(SLICE("a"), SLICE("ab")));
    assert_false(slice_eq_nocase(SLICE("@"), SLICE("`"))); /* 0x20 apart, yet no letters */
    assert_true(slice_starts(SLICE("abc"), SLICE("ab")));
    assert_true(slice_starts(SLICE("abc"), SLICE_NONE));
    assert_false(slice_starts(SLICE("a"), SLICE("ab")));
    assert_slice(slice_trim(SLICE(" \ta b\t ")), "a b");
    assert_slice(slice_trim(SLICE("  ")), "");
    assert_true(slice_copy(SLICE("abc"), out, sizeof(out)));
    assert_string_equal(out, "abc");
    assert_false(slice_copy(SLICE("abcd"), out, sizeof(out)));
    assert_string_equal(out, "");
    assert_true(slice_eq(SLICE_NONE, SLICE("")));
}

static void slices_cut(void **state)
{
    struct slice head, rest;

    (void)state;
    assert_true(slice_cut(SLICE("a:b:c"), ':', &head, &rest));
    assert_slice(head, "a");
    assert_slice(rest, "b:c");
    assert_true(slice_cut(SLICE("a:"), ':', &head, &rest));
    assert_slice(head, "a");
    assert_int_equal(rest.len, 0);
    assert_false(slice_cut(SLICE("abc"), ':', &head, &rest));
    assert_slice(head, "abc");
    assert_int_equal(rest.len, 0);
    assert_false(slice_cut(SLICE_NONE, ':', &head, &rest));
}

static void slices_split_addresses(void **state)
{
    struct slice host, port;

    (void)state;
    assert_true(slice_split_address(SLICE("127.0.0.1:80"), &host, &port));
    assert_true(slice_eq_str(host, "127.0.0.1") && slice_eq_str(port, "80"));
    assert_true(slice_split_address(SLICE("[::1]:443"), &host, &port));
    assert_true(slice_eq_str(host, "::1") && slice_eq_str(port, "443"));
    assert_true(slice_split_address(SLICE(":"), &host, &port));
    assert_true(host.len == 0 && port.len == 0);
    assert_false(slice_split_address(SLICE("localhost"), &host, &port));
    assert_false(slice_split_address(SLICE(""), &host, &port));
}

static void slices_hex_bytes(void **state)
{
    (void)state;
    assert_int_equal(slice_hex_byte('0', '0'), 0);
    assert_int_equal(slice_hex_byte('f', 'F'), 255);
    assert_int_equal(slice_hex_byte('2', 'f'), '/');
    assert_int_equal(slice_hex_byte('g', '0'), -1);
    assert_int_equal(slice_hex_byte('0', '@'), -1);
    assert_int_equal(slice_hex_byte('\0', '1'), -1);
}

static void slices_to_numbers(void **state)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "01",
                                      "00",
                                      "1a",
                                      "0x1",
                                      "18446744073709551616",
                                      "99999999999999999999",
                                      "\xEF\xBC\x92"};
    unsigned long long value = 7;

    (void)state;
    assert_true(slice_to_u64(SLICE("0"), &value));
    assert_int_equal(value, 0);
    assert_true(slice_to_u64(SLICE("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(slice_to_u64(slice_from(bad[i]), &value));
}

static void utf8_refuses_what_rfc_3629_refuses(void **state)
{
    static const char *const good[] = {"",
                                       "plain ascii, longer than eight",
                                       "\xC2\x80",
                                       "\xDF\xBF",
                                       "\xE0\xA0\x80",
                                       "\xED\x9F\xBF",
                                       "\xEE\x80\x80",
                                       "\xEF\xBF\xBF",
                                       "\xF0\x90\x80\x80",
                                       "\xF4\x8F\xBF\xBF",
                                       ("12345678\xE2\x82\xAC"
                                        "9")};
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC2",
                                      "\xC2\x41",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "\xE2\x82",
                                      "12345678\xE2\x82",
                                      "\xF0\x9F\x98"};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(utf8_valid(slice_from(good[i])));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(utf8_valid(slice_from(bad[i])));
    assert_int_equal(utf8_count(SLICE("a\xE2\x82\xAC\xF0\x9F\x98\x80")), 3);
}

/* Every code point, and every pair of first bytes with the length that the standard gives it. */
static void utf8_knows_every_code_point(void **state)
{
    size_t valid = 0;

    (void)state;
    for (uint32_t c = 0x10000; c <= 0x10FFFF; c++) {
        char four[4] = {(char)(0xF0 | c >> 18), (char)(0x80 | (c >> 12 & 63)), (char)(0x80 | (c >> 6 & 63)),
                        (char)(0x80 | (c & 63))};

        assert_int_equal(utf8_length((struct slice){four, 4}), 4);
    }
    for (uint32_t c = 0x800; c <= 0xFFFF; c++) {
        char three[3] = {(char)(0xE0 | c >> 12), (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))};
        bool surrogate = c >= 0xD800 && c <= 0xDFFF;

        assert_int_equal(utf8_length((struct slice){three, 3}), surrogate ? 0 : 3);
    }
    for (uint32_t c = 0; c <= 0xFFFF; c++) {
        char two[2] = {(char)(c >> 8), (char)c};

        valid += utf8_length((struct slice){two, 2}) == 2;
    }
    assert_int_equal(valid, 0x800 - 0x80);
}

static void utf8_heads_end_between_characters(void **state)
{
    struct slice euro = SLICE("a\xE2\x82\xAC"), broken = SLICE("\x80\x80\x80\x80\x80\x80");

    (void)state;
    assert_int_equal(utf8_head(euro, 4).len, 4);
    assert_int_equal(utf8_head(euro, 9).len, 4);
    for (size_t max = 1; max < 4; max++)
        assert_int_equal(utf8_head(euro, max).len, 1);
    assert_int_equal(utf8_head(euro, 0).len, 0);
    assert_int_equal(utf8_head(broken, 5).len, 5);
}

static void buffers_stop_at_their_maximum(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 600);
    for (int i = 0; i < 60; i++)
        buf_append_str(&b, "0123456789");
    assert_int_equal(b.len, 600);
    assert_int_equal(b.cap, 600);
    assert_false(b.full);
    buf_append_char(&b, 'x');
    assert_true(b.full);
    assert_int_equal(b.len, 600);
    b.len = 0; /* room again, but a full buffer stays full until it is cleared */
    buf_append_char(&b, 'x');
    assert_int_equal(b.len, 0);
    buf_clear(&b);
    buf_append(&b, NULL, 0);
    assert_non_null(buf_reserve(&b, 600));
    buf_advance(&b, 600);
    assert_null(buf_reserve(&b, 1));
    buf_dispose(&b);
    assert_null(b.p);
}

static void buffers_refuse_sizes_that_would_wrap(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    buf_append_str(&b, "abc");
    assert_null(buf_reserve(&b, SIZE_MAX - 1));
    assert_true(b.full);
    buf_dispose(&b);
}

static void buffers_print(void **state)
{
    struct buf b;
    char long_text[1000];

    (void)state;
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    buf_init(&b, 1008);
    buf_printf(&b, "%d-%s", 42, "ok");
    assert_slice(buf_slice(&b), "42-ok");
    buf_printf(&b, "%s", long_text); /* longer than the array that short texts are made in */
    assert_int_equal(b.len, 1004);
    buf_printf(&b, "%s", "12345");
    assert_true(b.full);
    assert_int_equal(b.len, 1004);
    buf_dispose(&b);
}

static void json_strings_are_always_valid(void **state)
{
    static const struct {
        const char *in;
        const char *out;
    } cases[] = {
        {"", "\"\""},
        {"a\"b\\c/", "\"a\\\"b\\\\c/\""},
        {"\b\f\n\r\t\x01\x1f\x7f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\""},
        {"\xE2\x82\xAC\xF0\x9F\x98\x80", "\"\xE2\x82\xAC\xF0\x9F\x98\x80\""},
        {"a\xFF"
         "b\xE2\x82",
         "\"a\xEF\xBF\xBD"
         "b\xEF\xBF\xBD\xEF\xBF\xBD\""},
        {"\xC2\x9B"
         "1m\xC2\xA0",
         "\"\\u009b1m\xC2\xA0\""},
        {"\xED\xA0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        buf_clear(&b);
        buf_append_json_string(&b, slice_from(cases[i].in));
        assert_slice(buf_slice(&b), cases[i].out);
    }
    buf_clear(&b);
    buf_append_json_string(&b, (struct slice){"a\0b", 3});
    assert_slice(buf_slice(&b), "\"a\\u0000b\"");
    buf_dispose(&b);
}

static void errors_print_as_openai_does(void **state)
{
    struct err err;
    struct buf b;

    (void)state;
    buf_init(&b, 4096);
    assert_int_equal(err_set(&err, ERR_INTEGER_BELOW_MIN, "n", "%s %d", "got", 0), ERR_INTEGER_BELOW_MIN);
    err_append_json(&b, &err);
    assert_slice(buf_slice(&b), "{\n  \"error\": {\n    \"message\": \"got 0\",\n"
                                "    \"type\": \"invalid_request_error\",\n    \"param\": \"n\",\n"
                                "    \"code\": \"integer_below_min_value\"\n  }\n}\n");
    buf_clear(&b);
    err_set(&err, ERR_NO_KEY, NULL, "x");
    err_append_json(&b, &err);
    assert_slice(buf_slice(&b), "{\n  \"error\": {\n    \"message\": \"x\",\n    \"type\": \"invalid_request_error\",\n"
                                "    \"param\": null,\n    \"code\": null\n  }\n}\n");
    buf_clear(&b);
    err_append_json_of(&b, &err, "req_1");
    assert_slice(buf_slice(&b), "{\n  \"error\": {\n    \"message\": \"x\",\n    \"type\": \"invalid_request_error\",\n"
                                "    \"param\": null,\n    \"code\": null,\n    \"request_id\": \"req_1\"\n  }\n}\n");
    buf_dispose(&b);
    assert_int_equal(err_set(NULL, ERR_INTERNAL, "p", "x"), ERR_INTERNAL);
}

static void errors_have_their_table(void **state)
{
    (void)state;
    for (int code = ERR_OK + 1; code < ERR_COUNT; code++) {
        int status = err_http_status((enum err_code)code);

        assert_in_range(status, 400, 599);
        assert_non_null(err_type((enum err_code)code));
        assert_non_null(err_name((enum err_code)code));
    }
    assert_int_equal(err_http_status(ERR_INSUFFICIENT_QUOTA), 429);
    assert_string_equal(err_api_code(ERR_REQUESTS_LIMIT), "rate_limit_exceeded");
    assert_null(err_api_code(ERR_BAD_JSON));
    assert_string_equal(err_name(ERR_OK), "OK");
}

static void messages_are_cut_between_characters(void **state)
{
    char text[LIMIT_ERROR_MESSAGE + 8];
    struct err err;

    (void)state;
    for (size_t pad = 0; pad < 4; pad++) {
        memset(text, 'a', sizeof(text));
        for (size_t i = pad; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "\xF0\x9F\x98\x80", 4);
        text[sizeof(text) - 1] = '\0';
        err_set(&err, ERR_INTERNAL, text, "%s", text);
        assert_true(utf8_valid(slice_from(err.message)));
        assert_true(utf8_valid(slice_from(err.param)));
        assert_in_range(strlen(err.message), LIMIT_ERROR_MESSAGE - 4, LIMIT_ERROR_MESSAGE - 1);
    }
    err_set(&err, ERR_INTERNAL, NULL, "inner");
    err_set(&err, ERR_INTERNAL, NULL, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_compare_and_trim),
        cmocka_unit_test(slices_cut),
        cmocka_unit_test(slices_split_addresses),
        cmocka_unit_test(slices_hex_bytes),
        cmocka_unit_test(slices_to_numbers),
        cmocka_unit_test(utf8_refuses_what_rfc_3629_refuses),
        cmocka_unit_test(utf8_knows_every_code_point),
        cmocka_unit_test(utf8_heads_end_between_characters),
        cmocka_unit_test(buffers_stop_at_their_maximum),
        cmocka_unit_test(buffers_refuse_sizes_that_would_wrap),
        cmocka_unit_test(buffers_print),
        cmocka_unit_test(json_strings_are_always_valid),
        cmocka_unit_test(errors_print_as_openai_does),
        cmocka_unit_test(errors_have_their_table),
        cmocka_unit_test(messages_are_cut_between_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
