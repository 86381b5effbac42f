/* test_images_request.c - what generations requests are read as, which are refused with which words, and the body that
 * goes on. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib_request.h"

static int start(void **state)
{
    (void)state;
    model_init();
    return 0;
}

static struct image_request read_good(const char *body)
{
    return lib_request_good(OPERATION_GENERATIONS, LIB_JSON_TYPE, slice_from(body));
}

static void check_refused(const char *body, enum err_code code, const char *param, const char *message)
{
    lib_request_refused(OPERATION_GENERATIONS, LIB_JSON_TYPE, slice_from(body), code, param, message);
}

static enum err_code check_type(enum image_operation operation, const char *type, struct err *err)
{
    struct image_reader *r = NULL;
    enum err_code code = image_reader_create(operation, slice_from(type), &r, err);

    image_reader_destroy(r);
    return code;
}

static void test_type(void **state)
{
    static const char *const good[] = {"application/json", "APPLICATION/JSON", "application/json; charset=utf-8",
                                       " application/json ;x=y;z"};
    static const char *const bad[] = {"",
                                      "text/plain",
                                      "application/x-www-form-urlencoded",
                                      "multipart/form-data; boundary=x",
                                      "application/jsonp",
                                      "application/json, text/plain",
                                      ";application/json"};
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(check_type(OPERATION_GENERATIONS, good[i], &err), ERR_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(check_type(OPERATION_GENERATIONS, bad[i], &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_int_equal(check_type(OPERATION_GENERATIONS, "text/plain; x", &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_string_equal(
        err.message,
        "Unsupported content type: 'text/plain'. This API method only accepts 'application/json' requests, "
        "but you specified the header 'Content-Type: text/plain'. Please try again with a supported content "
        "type.");
    assert_string_equal(err.param, "");
    assert_int_equal(check_type(OPERATION_GENERATIONS, "", &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_string_equal(err.message, "Missing content type. This API method only accepts 'application/json' requests; "
                                     "please try again with that in the header 'Content-Type'.");
}

static void test_type_of_operations(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(check_type(OPERATION_EDITS, LIB_JSON_TYPE, &err), ERR_OK);
    assert_int_equal(check_type(OPERATION_EDITS, LIB_FORM_TYPE, &err), ERR_OK);
    assert_int_equal(check_type(OPERATION_EDITS, "Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", &err), ERR_OK);
    assert_int_equal(check_type(OPERATION_EDITS, "multipart/mixed; boundary=x", &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_int_equal(check_type(OPERATION_EDITS, "multipart/form-data", &err), ERR_BAD_REQUEST);
    assert_int_equal(check_type(OPERATION_EDITS, "", &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_int_equal(check_type(OPERATION_VARIATIONS, LIB_FORM_TYPE, &err), ERR_OK);
    assert_int_equal(check_type(OPERATION_VARIATIONS, LIB_JSON_TYPE, &err), ERR_UNSUPPORTED_CONTENT_TYPE);
    assert_string_equal(
        err.message,
        "Unsupported content type: 'application/json'. This API method only accepts 'multipart/form-data' requests, "
        "but you specified the header 'Content-Type: application/json'. Please try again with a supported content "
        "type.");
}

static void test_fields(void **state)
{
    struct image_request r =
        read_good("{\"prompt\":\"a cat\",\"model\":\"gpt-image-1\",\"n\":3,\"size\":\"1536x1024\",\"quality\":\"high\","
                  "\"stream\":true,\"partial_images\":2,\"background\":\"opaque\",\"seed\":[1,{\"n\":9}]}");

    (void)state;
    assert_int_equal(r.operation, OPERATION_GENERATIONS);
    assert_int_equal(r.spec.operation, OPERATION_GENERATIONS);
    assert_string_equal(r.spec.model, "gpt-image-1");
    assert_non_null(r.spec.card);
    assert_int_equal(r.spec.n, 3);
    assert_string_equal(r.spec.size, "1536x1024");
    assert_string_equal(r.spec.quality, "high");
    assert_int_equal(r.spec.partial_images, 2);
    assert_int_equal(r.spec.prompt_bytes, 5);
    assert_int_equal(r.spec.n_inputs, 0);
    assert_true(r.stream);
    assert_true(r.model_given);

    r = read_good(
        "{\"prompt\":\"\",\"n\":null,\"size\":null,\"quality\":null,\"stream\":null,\"partial_images\":null}");
    assert_string_equal(r.spec.model, "dall-e-2");
    assert_int_equal(r.spec.n, 1);
    assert_string_equal(r.spec.size, "");
    assert_string_equal(r.spec.quality, "");
    assert_false(r.stream);
    assert_false(r.model_given);

    r = read_good("{\"prompt\":\"\\u0000 \\ud800 \xE2\x80\xA8\",\"\\u006e\":10}"); /* passed on as they are */
    assert_int_equal(r.spec.n, 10);
    r = read_good("{\"prompt\":\"x\",\"model\":\"gpt-image-1\",\"response_format\":\"url\",\"style\":\"vivid\"}");
    assert_false(r.stream);
    r = read_good("{\"prompt\":\"x\",\"model\":\"some/new-model\",\"size\":\"13x7\",\"quality\":\"ultra\",\"n\":10}");
    assert_null(r.spec.card);
    assert_string_equal(r.spec.size, "13x7");
    assert_string_equal(r.spec.quality, "ultra");
}

static void test_body_refused(void **state)
{
    static const char *const bad_json[] = {"",
                                           "{\"prompt\":",
                                           "{\"prompt\":\"x\",}",
                                           "{\"prompt\":NaN}",
                                           "{'prompt':'x'}",
                                           "{\"prompt\":\"\xFF\"}",
                                           "\xEF\xBB\xBF{\"prompt\":\"x\"}",
                                           "{\"prompt\":\"x\"}x",
                                           "{\"n\":01}"};
    static const char *const no_object[] = {"null", "[]", "\"x\"", "1"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad_json) / sizeof(bad_json[0]); i++)
        check_refused(bad_json[i], ERR_BAD_JSON, "", NULL);
    for (size_t i = 0; i < sizeof(no_object) / sizeof(no_object[0]); i++)
        check_refused(no_object[i], ERR_BAD_REQUEST, "", NULL);
    check_refused("{\"prompt\":\"x\",\"n\":1,\"n\":10}", ERR_DUPLICATE_PARAMETER, "n", NULL);
    check_refused("{\"prompt\":\"x\",\"n\":1,\"\\u006e\":10}", ERR_DUPLICATE_PARAMETER, "n", NULL);
}

static void test_lookalikes(void **state)
{
    (void)state;
    check_refused("{\"prompt\":\"x\",\"n\":1,\"N\":10}", ERR_UNKNOWN_PARAMETER, "N", "Unknown parameter: 'N'.");
    check_refused("{\"prompt\":\"x\",\"n[]\":10}", ERR_UNKNOWN_PARAMETER, "n[]", NULL);
    check_refused("{\"prompt\":\"x\",\" n\":10}", ERR_UNKNOWN_PARAMETER, " n", NULL);
    check_refused("{\"prompt\":\"x\",\"n\\t\":10}", ERR_UNKNOWN_PARAMETER, "n\t", NULL);
    check_refused("{\"prompt\":\"x\",\"Model\":\"gpt-image-2\"}", ERR_UNKNOWN_PARAMETER, "Model", NULL);
    check_refused("{\"prompt\":\"x\",\"\\u017fize\":\"1024x1024\"}", ERR_UNKNOWN_PARAMETER, "\xC5\xBFize", NULL);
    check_refused("{\"prompt\":\"x\",\"partial_image\xC5\xBF\":3}", ERR_UNKNOWN_PARAMETER, "partial_image\xC5\xBF",
                  NULL);
    (void)read_good(
        "{\"prompt\":\"x\",\"num\":10,\"sizes\":1,\"Background\":\"opaque\",\"\":1,\"\u212a\":0}"); /* near, but no
                                                                                                       parser takes them
                                                                                                       for a priced one
                                                                                                     */
}

static void test_model(void **state)
{
    (void)state;
    check_refused("{\"prompt\":\"x\",\"model\":1}", ERR_INVALID_TYPE, "model",
                  "Invalid type for 'model': expected a string, but got an integer instead.");
    check_refused("{\"prompt\":\"x\",\"model\":[\"dall-e-2\"]}", ERR_INVALID_TYPE, "model", NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"\"}", ERR_STRING_TOO_SHORT, "model", NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"a\\u0000b\"}", ERR_INVALID_VALUE, "model", NULL);
    check_refused(
        "{\"prompt\":\"x\",\"model\":"
        "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}",
        ERR_STRING_TOO_LONG, "model", NULL);
}

/* A prompt of <count> times <unit>. */
static char *with_prompt(const char *model, const char *unit, size_t count)
{
    struct buf b;

    buf_init(&b, LIMIT_GENERATION_BODY);
    buf_printf(&b, "{\"model\":\"%s\",\"prompt\":\"", model);
    while (count-- > 0)
        buf_append_str(&b, unit);
    buf_append(&b, "\"}", 3);
    assert_false(b.full);
    return b.p;
}

static void test_prompt(void **state)
{
    static const struct {
        const char *model;
        size_t max;
    } rows[] = {{"dall-e-2", 1000},
                {"dall-e-3", 4000},
                {"gpt-image-1", 32000},
                {"gpt-image-2-2026-04-21", 32000},
                {"other", 32000}};
    char message[200];

    (void)state;
    check_refused("{}", ERR_MISSING_PARAMETER, "prompt", "Missing required parameter: 'prompt'.");
    check_refused("{\"prompt\":null}", ERR_MISSING_PARAMETER, "prompt", NULL);
    check_refused("{\"prompt\":{}}", ERR_INVALID_TYPE, "prompt", NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *at = with_prompt(rows[i].model, "\xF0\x9F\x90\x88", rows[i].max);
        char *over = with_prompt(rows[i].model, "x", rows[i].max + 1);

        assert_int_equal(read_good(at).spec.prompt_bytes, rows[i].max * 4);
        snprintf(message, sizeof(message),
                 "Invalid 'prompt': string too long. Expected a string with maximum length %zu, but got a string with "
                 "length "
                 "%zu instead.",
                 rows[i].max, rows[i].max + 1);
        check_refused(over, ERR_STRING_TOO_LONG, "prompt", message);
        free(at);
        free(over);
    }
}

static void check_n(const char *n, enum err_code code, const char *message)
{
    char body[128];

    snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"n\":%s}", n);
    check_refused(body, code, "n", message);
}

static void test_n(void **state)
{
    (void)state;
    check_n("0", ERR_INTEGER_BELOW_MIN,
            "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead.");
    check_n("-1", ERR_INTEGER_BELOW_MIN, NULL);
    check_n("11", ERR_INTEGER_ABOVE_MAX,
            "Invalid 'n': integer above maximum value. Expected a value <= 10, but got 11 instead.");
    check_n("99999999999999999999", ERR_INTEGER_ABOVE_MAX, NULL);
    check_n("18446744073709551617", ERR_INTEGER_ABOVE_MAX, NULL);
    check_n("-9223372036854775809", ERR_INTEGER_BELOW_MIN, NULL);
    check_n("1e400", ERR_INVALID_TYPE, NULL);
    check_n("1.0", ERR_INVALID_TYPE, NULL);
    check_n("1e0", ERR_INVALID_TYPE, NULL);
    check_n("\"1\"", ERR_INVALID_TYPE, "Invalid type for 'n': expected an integer, but got a string instead.");
    check_n("true", ERR_INVALID_TYPE, NULL);
    check_n("[]", ERR_INVALID_TYPE, NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"dall-e-3\",\"n\":2}", ERR_BAD_REQUEST, "",
                  "You must provide n=1 for this model.");
    check_refused("{\"prompt\":\"x\",\"model\":\"dall-e-3\",\"n\":0}", ERR_INTEGER_BELOW_MIN, "n", NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"other\",\"n\":11}", ERR_INTEGER_ABOVE_MAX, "n", NULL);
    assert_int_equal(read_good("{\"prompt\":\"x\",\"model\":\"dall-e-3\",\"n\":1}").spec.n, 1);
}

static void check_size(const char *model, const char *size, enum err_code code, const char *param, const char *message)
{
    char body[256];

    snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"model\":\"%s\",\"size\":%s}", model, size);
    if (code != ERR_OK)
        check_refused(body, code, param, message);
    else
        (void)read_good(body);
}

static void test_named_sizes(void **state)
{
    static const char *const never[] = {"\"1x1\"",
                                        "\"1024X1024\"",
                                        "\"01024x1024\"",
                                        "\" 1024x1024\"",
                                        "\"1024x1024\\u0000\"",
                                        "\"\"",
                                        "\"AUTO\"",
                                        "\"1024x1024xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\""};

    (void)state;
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        check_size("gpt-image-1", never[i], ERR_INVALID_VALUE, "size", NULL);
        check_size("gpt-image-2", never[i], ERR_INVALID_VALUE, "size", NULL);
        check_size("dall-e-2", never[i], ERR_INVALID_VALUE, "size", NULL);
        check_size("dall-e-3", never[i], ERR_INVALID_SIZE, "", "The size is not supported by this model.");
    }
    check_size("gpt-image-1", "\"512x512\"", ERR_INVALID_VALUE, "size",
               "Invalid value: '512x512'. Supported values are: '1024x1024', '1024x1536', '1536x1024', and 'auto'.");
    check_size("dall-e-2", "\"1792x1024\"", ERR_INVALID_VALUE, "size",
               "Invalid value: '1792x1024'. Supported values are: '256x256', '512x512', and '1024x1024'.");
    check_size("dall-e-2", "\"auto\"", ERR_INVALID_VALUE, "size", NULL);
    check_size(
        "gpt-image-1", "1024", ERR_INVALID_TYPE, "size",
        "Invalid type for 'size': expected one of '1024x1024', '1024x1536', '1536x1024', or 'auto', but got an integer "
        "instead.");
    check_size("gpt-image-1", "\"auto\"", ERR_OK, NULL, NULL);
    check_size("dall-e-2", "\"256x256\"", ERR_OK, NULL, NULL);
    check_size("dall-e-3", "\"1792x1024\"", ERR_OK, NULL, NULL);
    check_size("dall-e-3", "\"512x512\"", ERR_INVALID_SIZE, "", NULL);
    check_size("other", "\"1234567890123456\"", ERR_STRING_TOO_LONG, "size", NULL);
    check_size("other", "5", ERR_INVALID_TYPE, "size", NULL);
}

static void test_free_sizes(void **state)
{
    static const char *const good[] = {"\"1536x864\"", "\"2880x2880\"", "\"3840x2160\"",
                                       "\"816x816\"",  "\"auto\"",      "\"1024x1024\""};

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        check_size("gpt-image-2", good[i], ERR_OK, NULL, NULL);
        check_size("gpt-image-2.5-flare-2026-09-08", good[i], ERR_OK, NULL, NULL);
    }
    check_size("gpt-image-2", "\"1000x1000\"", ERR_INVALID_VALUE, "size",
               "Invalid size '1000x1000'. Width and height must both be divisible by 16.");
    check_size("gpt-image-2", "\"4096x1024\"", ERR_INVALID_VALUE, "size",
               "Invalid size '4096x1024'. The longest edge must be less than or equal to 3840.");
    check_size("gpt-image-2", "\"512x512\"", ERR_INVALID_VALUE, "size",
               "Invalid size '512x512'. Requested resolution is below the current minimum pixel budget.");
    check_size("gpt-image-2", "\"3840x3840\"", ERR_INVALID_VALUE, "size",
               "Invalid size '3840x3840'. Requested resolution is above the current maximum pixel budget.");
    check_size("gpt-image-2", "\"3840x1024\"", ERR_INVALID_VALUE, "size",
               "Invalid size '3840x1024'. The ratio of the longer edge to the shorter must not be greater than 3:1.");
    check_size("gpt-image-2", "\"99999999x1\"", ERR_INVALID_VALUE, "size", NULL);
}

static void test_quality(void **state)
{
    struct image_request r = read_good("{\"prompt\":\"x\",\"model\":\"gpt-image-2\",\"quality\":\"xhigh\"}");

    (void)state;
    assert_string_equal(r.spec.quality, "xhigh"); /* the upstream says no */
    r = read_good("{\"prompt\":\"x\",\"model\":\"gpt-image-1\",\"quality\":\"hd\"}");
    assert_string_equal(r.spec.quality, "hd");
    check_refused("{\"prompt\":\"x\",\"model\":\"gpt-image-1\",\"quality\":\"xxxxxxxxxxxxxxxx\"}", ERR_INVALID_VALUE,
                  "quality",
                  "Invalid value: 'xxxxxxxxxxxxxxxx'. Supported values are: 'low', 'medium', 'high', and 'auto'.");
    check_refused("{\"prompt\":\"x\",\"model\":\"dall-e-3\",\"quality\":\"hd\\u0000\"}", ERR_INVALID_VALUE, "quality",
                  NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"other\",\"quality\":\"xxxxxxxxxxxxxxxx\"}", ERR_STRING_TOO_LONG,
                  "quality", NULL);
    check_refused("{\"prompt\":\"x\",\"quality\":1}", ERR_INVALID_TYPE, "quality", NULL);
}

/* By usage, what the card does not list is the upstream's to judge and held for at the dearest; a price per picture
 * must be known before, so there it is refused. */
static void test_unlisted_quality(void **state)
{
    static const char *const bodies[] = {"{\"prompt\":\"x\",\"model\":\"gpt-image-1\",\"quality\":\"HD\"}",
                                         "{\"prompt\":\"x\",\"model\":\"gpt-image-1\",\"quality\":\"high\"}"};
    struct price_version *v = price_defaults();
    struct quote quotes[2];
    struct err err;

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct image_request r = read_good(bodies[i]);

        assert_int_equal(quote_ceiling(v, 0, &r.spec, &quotes[i], &err), ERR_OK);
    }
    assert_true(quotes[0].nano >= quotes[1].nano);
    check_refused("{\"prompt\":\"x\",\"model\":\"dall-e-3\",\"quality\":\"HD\"}", ERR_INVALID_VALUE, "quality", NULL);
    check_refused("{\"prompt\":\"x\",\"model\":\"dall-e-2\",\"quality\":\"hd\"}", ERR_INVALID_VALUE, "quality", NULL);
    price_version_unref(v);
}

static void test_stream(void **state)
{
    (void)state;
    check_refused("{\"prompt\":\"x\",\"stream\":\"true\"}", ERR_INVALID_TYPE, "stream",
                  "Invalid type for 'stream': expected a boolean, but got a string instead.");
    check_refused("{\"prompt\":\"x\",\"stream\":1}", ERR_INVALID_TYPE, "stream", NULL);
    check_refused("{\"prompt\":\"x\",\"partial_images\":4}", ERR_INTEGER_ABOVE_MAX, "partial_images", NULL);
    check_refused("{\"prompt\":\"x\",\"partial_images\":-1}", ERR_INTEGER_BELOW_MIN, "partial_images", NULL);
    check_refused("{\"prompt\":\"x\",\"partial_images\":\"2\"}", ERR_INVALID_TYPE, "partial_images", NULL);
}

static void check_body(const char *body, const char *upstream, const char *expected)
{
    struct image_request r = read_good(body);
    struct buf sent = lib_request_patch(&r, slice_from(body), upstream);

    assert_string_equal(sent.p, expected);
    buf_dispose(&sent);
}

static void test_upstream_body(void **state)
{
    (void)state;
    check_body("{ \"prompt\":\"x\" , \"model\" : \"dall-e-2\", \"z\":1}", "dall-e-2",
               "{ \"prompt\":\"x\" , \"model\" : \"dall-e-2\", \"z\":1}");
    check_body("{ \"prompt\":\"x\" , \"model\" : \"dall-e-2\", \"z\":1}", "d2",
               "{ \"prompt\":\"x\" , \"model\" : \"d2\", \"z\":1}");
    check_body("{\"model\":\"a\",\"prompt\":\"x\"}", "q\"\\\n", "{\"model\":\"q\\\"\\\\\\n\",\"prompt\":\"x\"}");
    check_body("{\"mo\\u0064el\":\"\\u0061\",\"prompt\":\"x\"}", "b", "{\"mo\\u0064el\":\"b\",\"prompt\":\"x\"}");
    check_body("{\"mo\\u0064el\":\"\\u0061\",\"prompt\":\"x\"}", "a", "{\"mo\\u0064el\":\"\\u0061\",\"prompt\":\"x\"}");
    check_body(" {\"prompt\":\"x\"}", "dall-e-2", " {\"model\":\"dall-e-2\",\"prompt\":\"x\"}");
    check_body("{\"prompt\":\"x\",\"model\":null}", "dall-e-2", "{\"prompt\":\"x\",\"model\":\"dall-e-2\"}");
    check_body("{\"x\":{\"model\":\"inner\"},\"prompt\":\"model\"}", "m",
               "{\"model\":\"m\",\"x\":{\"model\":\"inner\"},\"prompt\":\"model\"}");
}

/* The longest name, all of it escaped, still fits. */
static void test_longest_name(void **state)
{
    struct image_request r = read_good("{\"prompt\":\"x\"}");
    char model[LIMIT_MODEL];
    char room[IMAGE_PATCH];
    struct image_patch patch;

    (void)state;
    memset(model, 1, sizeof(model) - 1);
    model[sizeof(model) - 1] = '\0';
    assert_true(image_request_patch(&r, model, room, &patch));
    assert_int_equal(patch.text.len, (sizeof(model) - 1) * 6 + 11);
}

/* LIMIT_GENERATION_BODY bytes are read, one more is not, and is not waited for. */
static void test_largest_body(void **state)
{
    static const char head[] = "{\"prompt\":\"x\",\"z\":\"", tail[] = "\"}";
    size_t len = LIMIT_GENERATION_BODY;
    char *body = mem_alloc(len + 1);
    struct image_reader *r;
    struct err err;

    (void)state;
    memset(body, 'z', len + 1);
    memcpy(body, head, sizeof(head) - 1);
    memcpy(body + len - 2, tail, 2);
    (void)lib_request_good(OPERATION_GENERATIONS, LIB_JSON_TYPE, (struct slice){body, len});
    body[len] = ' ';
    lib_request_refused(OPERATION_GENERATIONS, LIB_JSON_TYPE, (struct slice){body, len + 1}, ERR_TOO_LARGE, "",
                        "The request body is larger than 1048576 bytes.");
    assert_int_equal(image_reader_create(OPERATION_GENERATIONS, SLICE(LIB_JSON_TYPE), &r, &err), ERR_OK);
    assert_int_equal(image_reader_feed(r, (struct slice){body, len}, &err), ERR_OK);
    assert_int_equal(image_reader_feed(r, SLICE(" "), &err), ERR_TOO_LARGE);
    assert_int_equal(image_reader_feed(r, SLICE(" "), &err), ERR_TOO_LARGE);
    image_reader_destroy(r);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_type),
        cmocka_unit_test(test_type_of_operations),
        cmocka_unit_test(test_largest_body),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_body_refused),
        cmocka_unit_test(test_lookalikes),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_n),
        cmocka_unit_test(test_named_sizes),
        cmocka_unit_test(test_free_sizes),
        cmocka_unit_test(test_quality),
        cmocka_unit_test(test_unlisted_quality),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_upstream_body),
        cmocka_unit_test(test_longest_name),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
