/* test_images_reply.c - what replies say, whole and at every split. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/images/reply_scan.h"

static struct reply_facts scan_pieces(const char *text, size_t len, size_t piece)
{
    struct reply_scan s;
    struct reply_facts facts;

    reply_scan_init(&s);
    for (size_t i = 0; i < len; i += piece)
        reply_scan_feed(&s, text + i, len - i < piece ? len - i : piece);
    reply_scan_finish(&s, &facts);
    return facts;
}

static void check_same(const struct reply_facts *a, const struct reply_facts *b)
{
    assert_int_equal(a->whole, b->whole);
    assert_int_equal(a->has_error, b->has_error);
    assert_int_equal(a->has_data, b->has_data);
    assert_int_equal(a->images, b->images);
    assert_int_equal(a->usage, b->usage);
    assert_memory_equal(&a->quantities, &b->quantities, sizeof(a->quantities));
    assert_memory_equal(&a->quantities, &a->largest, sizeof(a->quantities));
    assert_memory_equal(&a->largest, &b->largest, sizeof(a->largest));
    assert_string_equal(a->size, b->size);
    assert_string_equal(a->quality, b->quality);
}

/* The facts, after a look that they are the same in two pieces cut anywhere and byte by byte. */
static struct reply_facts scan_text(const char *text)
{
    size_t len = strlen(text);
    struct reply_facts facts = scan_pieces(text, len, len + 1);
    struct reply_facts again = scan_pieces(text, len, 1);

    check_same(&facts, &again);
    for (size_t cut = 1; cut < len; cut++) {
        struct reply_scan s;

        reply_scan_init(&s);
        reply_scan_feed(&s, text, cut);
        reply_scan_feed(&s, text + cut, len - cut);
        reply_scan_finish(&s, &again);
        check_same(&facts, &again);
    }
    return facts;
}

static void test_dalle(void **state)
{
    struct reply_facts f =
        scan_text("{\"created\":1,\"data\":[{\"url\":\"https://x/a.png\",\"revised_prompt\":\"\\\"data\\\"\"},"
                  " {\"b64_json\":\"aGVs\"},{\"url\":null},{},{\"b64_json\":\"\"},7,"
                  "{\"b64_json\":\"aGVs\",\"url\":\"https://x\"}]}\n");

    (void)state;
    assert_true(f.whole && f.has_data && !f.has_error);
    assert_int_equal(f.images, 3);
    assert_int_equal(f.usage, REPLY_USAGE_NONE);
    assert_string_equal(f.size, "");
}

static void test_gpt(void **state)
{
    struct reply_facts f =
        scan_text("{\"created\": 1, \"background\": \"opaque\", \"data\": [{\"b64_json\": \"iVBORw0KGgo\\/=\"}], "
                  "\"output_format\": \"png\","
                  "\"quality\": \"\\u0068igh\", \"size\": \"1024x1536\", \"usage\": {\"input_tokens\": 30, "
                  "\"input_tokens_details\":"
                  "{\"image_tokens\": 10, \"text_tokens\": 20}, \"output_tokens\": 1066, \"output_tokens_details\":"
                  "{\"image_tokens\": 1056, \"text_tokens\": 10}, \"total_tokens\": 1096}}");

    (void)state;
    assert_true(f.whole);
    assert_int_equal(f.images, 1);
    assert_int_equal(f.usage, REPLY_USAGE_GOOD);
    assert_int_equal(f.quantities.of[PRICE_IMAGE], 1);
    assert_int_equal(f.quantities.of[PRICE_REQUEST], 1);
    assert_int_equal(f.quantities.of[PRICE_TEXT_INPUT], 20);
    assert_int_equal(f.quantities.of[PRICE_IMAGE_INPUT], 10);
    assert_int_equal(f.quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(f.quantities.of[PRICE_TEXT_OUTPUT], 10);
    assert_string_equal(f.size, "1024x1536");
    assert_string_equal(f.quality, "high");
}

/* Usage around one image; <q>: text, cached text, image, cached image, image output, text output. */
static void check_usage(const char *usage, enum reply_usage expected, const int64_t q[6])
{
    char text[1024];
    struct reply_facts f;

    snprintf(text, sizeof(text), "{\"data\":[{\"b64_json\":\"x\"}],\"usage\":%s}", usage);
    f = scan_text(text);
    assert_true(f.whole);
    if (f.usage != expected)
        fail_msg("%s: usage %d, not %d", usage, (int)f.usage, (int)expected);
    for (int i = 0; i < 6; i++) {
        int64_t got = f.quantities.of[PRICE_TEXT_INPUT + i];

        if (got != (q != NULL ? q[i] : 0))
            fail_msg("%s: %s is %lld", usage, price_unit_name((enum price_unit)(PRICE_TEXT_INPUT + i)), (long long)got);
    }
}

#define GOOD(usage, ...) check_usage(usage, REPLY_USAGE_GOOD, (const int64_t[6]){__VA_ARGS__})
#define UNTRUSTED(usage) check_usage(usage, REPLY_USAGE_UNTRUSTED, NULL)
#define NONE(usage) check_usage(usage, REPLY_USAGE_NONE, NULL)

static void test_usage_good(void **state)
{
    (void)state;
    GOOD("{\"input_tokens\":22,\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":22},\"output_tokens\":272,"
         "\"total_tokens\":294}",
         22, 0, 0, 0, 272, 0);
    GOOD("{\"input_tokens\":22,\"output_tokens\":272}", 22, 0, 0, 0, 272, 0);
    GOOD("{\"input_tokens\":22,\"total_tokens\":294}", 22, 0, 0, 0, 272, 0);
    GOOD("{\"output_tokens\":272,\"total_tokens\":294}", 22, 0, 0, 0, 272, 0);
    GOOD("{\"input_tokens\":22,\"output_tokens\":272,\"input_tokens_details\":{\"image_tokens\":2}}", 20, 0, 2, 0, 272,
         0);
    GOOD("{\"input_tokens\":22,\"output_tokens\":272,\"input_tokens_details\":{\"text_tokens\":2}}", 2, 0, 20, 0, 272,
         0);
    GOOD("{\"input_tokens\":22,\"output_tokens\":272,\"output_tokens_details\":{\"text_tokens\":2}}", 22, 0, 0, 0, 270,
         2);
    GOOD("{\"input_tokens\":30,\"output_tokens\":9,\"input_tokens_details\":{\"text_tokens\":20,\"image_tokens\":10,"
         "\"cached_tokens\":25}}",
         0, 20, 5, 5, 9, 0);
    GOOD("{\"input_tokens\":30,\"output_tokens\":9,\"input_tokens_details\":{\"text_tokens\":20,\"image_tokens\":10,"
         "\"cached_tokens\":8}}",
         12, 8, 10, 0, 9, 0);
    GOOD("{\"input_tokens\":30,\"output_tokens\":9,\"input_tokens_details\":{\"text_tokens\":20,\"image_tokens\":10,"
         "\"cached_tokens\":8,\"cached_tokens_details\":{\"text_tokens\":1,\"image_tokens\":7}}}",
         19, 1, 3, 7, 9, 0);
    GOOD("{\"input_tokens\":30,\"output_tokens\":9,\"input_tokens_details\":{\"text_tokens\":20,\"image_tokens\":10,"
         "\"cached_tokens_details\":{\"image_tokens\":7}}}",
         20, 0, 3, 7, 9, 0);
    GOOD("{\"input_tokens\":0,\"output_tokens\":9,\"total_tokens\":null,\"input_tokens_details\":null,\"x\":{\"input_"
         "tokens\":5}}",
         0, 0, 0, 0, 9, 0);
    GOOD("{\"input_tokens\":22,\"output_tokens\":272},\"usage\":{\"input_tokens\":22,\"total_tokens\":294}", 22, 0, 0,
         0, 272, 0);
    GOOD("{\"input_tokens\":100000000,\"output_tokens\":100000000}", 100000000, 0, 0, 0, 100000000, 0);
    GOOD("{\"\\u0069nput_tokens\":1,\"output_tokens\":2}", 1, 0, 0, 0, 2, 0);
}

static void test_usage_untrusted(void **state)
{
    static const char *const figures[] = {
        "-1", "-0", "1e3", "12.0", "1.5", "\"22\"", "true", "[22]", "{}", "100000001", "99999999999999999999999999"};
    char usage[128];

    (void)state;
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        snprintf(usage, sizeof(usage), "{\"input_tokens\":5,\"output_tokens\":%s}", figures[i]);
        UNTRUSTED(usage);
        snprintf(usage, sizeof(usage),
                 "{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"cached_tokens\":%s}}",
                 figures[i]);
        UNTRUSTED(usage);
    }
    UNTRUSTED("\"none\"");
    UNTRUSTED("[]");
    UNTRUSTED("7");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"total_tokens\":12}");
    UNTRUSTED("{\"input_tokens\":5}");
    UNTRUSTED("{\"output_tokens\":5}");
    UNTRUSTED("{\"output_tokens\":5,\"total_tokens\":4}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":0}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":[]}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"text_tokens\":6}}");
    UNTRUSTED(
        "{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"text_tokens\":2,\"image_tokens\":2}}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"output_tokens_details\":{\"text_tokens\":7}}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"cached_tokens\":6}}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens_details\":{\"cached_tokens\":5,\"cached_tokens_"
              "details\":"
              "{\"image_tokens\":1}}}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6,\"input_tokens\":4}");
    UNTRUSTED("{\"input_tokens\":5,\"output_tokens\":6},\"usage\":{\"output_tokens\":7}");
}

static void test_usage_none(void **state)
{
    (void)state;
    NONE("null");
    NONE("{}");
    NONE("{\"input_tokens\":0,\"output_tokens\":0,\"total_tokens\":0}");
}

static void test_not_whole(void **state)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "null",
                                      "<html>",
                                      "{",
                                      "{\"data\":[{\"url\":\"x\"}],\"usage\":{\"input_tokens\":5,\"output_tokens\":6}",
                                      "{\"data\":[]}x",
                                      "{\"data\":[}"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct reply_facts f = scan_text(bad[i]);

        assert_false(f.whole);
        assert_int_equal(f.usage, REPLY_USAGE_NONE);
        assert_int_equal(f.quantities.of[PRICE_IMAGE_OUTPUT], 0);
    }
}

static void test_shapes(void **state)
{
    struct reply_facts f = scan_text("{\"error\":{\"message\":\"no\",\"data\":[{\"url\":\"x\"}]}}");

    (void)state;
    assert_true(f.whole && f.has_error && !f.has_data);
    assert_int_equal(f.images, 0);
    f = scan_text("{\"error\":null,\"data\":null}");
    assert_true(f.whole && !f.has_error && !f.has_data);
    f = scan_text("{\"data\":{\"url\":\"x\"}}");
    assert_false(f.has_data);
    f = scan_text("{\"data\":[[{\"url\":\"x\"}],{\"a\":{\"url\":\"x\"}},{\"a\":[\"url\",\"x\"]}]}");
    assert_true(f.has_data);
    assert_int_equal(f.images, 0);
    f = scan_text("{\"data\":[{\"url\":\"x\"},{\"url\":\"x\"}],\"data\":[{\"url\":\"x\"}]}");
    assert_int_equal(f.images, 1); /* the last one, as parsers have it */
    f = scan_text("{\"size\":\"a size that is much too long to be one\",\"quality\":7}");
    assert_string_equal(f.size, "");
    assert_string_equal(f.quality, "");
    f = scan_text("{\"a\":[[[[[[[[[[[[{\"usage\":{\"input_tokens\":1}}]]]]]]]]]]]],\"usage\":{\"input_tokens\":1,"
                  "\"output_tokens\":2}}");
    assert_int_equal(f.usage, REPLY_USAGE_GOOD);
}

/* The data of an event: the picture stands at the top, and so does what a reply may have. */
static void test_data_of_an_event(void **state)
{
    static const struct {
        const char *text;
        int images;
        unsigned types;
    } cases[] = {
        {"{\"type\":\"image_edit.completed\",\"b64_json\":\"x\",\"url\":\"y\"}", 1, REPLY_TYPE_COMPLETED},
        {"{\"b64_json\":\"\",\"url\":null,\"type\":\"x.partial_image\"}", 0, REPLY_TYPE_PARTIAL},
        {"{\"a\":{\"type\":\"x.completed\",\"url\":\"x\"},\"type\":\"error\"}", 0, REPLY_TYPE_ERROR},
        {"{\"data\":[{\"url\":\"x\"},{\"url\":\"x\",\"type\":\"x\"}],\"type\":\"ping\"}", 2, REPLY_TYPE_OTHER},
        {"{\"url\":\"x\",\"data\":[]}", 1, 0},
        {"{\"type\":\"x.completed\",\"type\":\"\",\"type\":null,\"type\":\"x.partial_image\"}", 0,
         REPLY_TYPE_COMPLETED | REPLY_TYPE_PARTIAL},
        {"{\"type\":\"\\u00e9.partial_image\"}", 0, REPLY_TYPE_COMPLETED}, /* cannot be read: in doubt */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct reply_scan s;
        struct reply_facts f;

        reply_scan_init_event(&s);
        reply_scan_feed(&s, cases[i].text, strlen(cases[i].text));
        reply_scan_finish(&s, &f);
        if (!f.whole || f.images != cases[i].images || s.types != cases[i].types)
            fail_msg("%s: %d images, types %u", cases[i].text, f.images, s.types);
        assert_int_equal(scan_text(cases[i].text).images, i == 3 ? 2 : 0); /* a reply has none at the top */
    }
}

/* A long reply in pieces: base64 of 32 MB is crossed in constant memory. */
static void test_long(void **state)
{
    enum { PIECE = 64 * 1024, PIECES = 512 };
    char *base64 = mem_alloc(PIECE);
    struct reply_scan s;
    struct reply_facts f;

    (void)state;
    memset(base64, 'A', PIECE);
    reply_scan_init(&s);
    reply_scan_feed(&s, "{\"data\":[{\"b64_json\":\"", 22);
    for (int i = 0; i < PIECES; i++)
        reply_scan_feed(&s, base64, PIECE);
    reply_scan_feed(&s, "\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}", 49);
    reply_scan_finish(&s, &f);
    assert_true(f.whole);
    assert_int_equal(f.images, 1);
    assert_int_equal(f.usage, REPLY_USAGE_GOOD);
    free(base64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dalle),      cmocka_unit_test(test_gpt),
        cmocka_unit_test(test_usage_good), cmocka_unit_test(test_usage_untrusted),
        cmocka_unit_test(test_usage_none), cmocka_unit_test(test_not_whole),
        cmocka_unit_test(test_shapes),     cmocka_unit_test(test_data_of_an_event),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
