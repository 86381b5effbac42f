/* test_images_json_edit.c - edits that come as JSON, with pictures inside of it that are not kept. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/images/skeleton.h"
#include "lib_request.h"

/* 64 x 32, as base64 of a PNG */
#define PNG64 "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAAAgCAYAAAA"
#define ONE "\"images\":[{\"image_url\":\"" PNG64 "\"}]"

static int start(void **state)
{
    (void)state;
    model_init();
    return 0;
}

static struct image_request read_good(const char *body)
{
    return lib_request_good(OPERATION_EDITS, LIB_JSON_TYPE, slice_from(body));
}

static void check_refused(const char *body, enum err_code code, const char *param, const char *message)
{
    lib_request_refused(OPERATION_EDITS, LIB_JSON_TYPE, slice_from(body), code, param, message);
}

static void test_fields(void **state)
{
    struct image_request r = read_good(
        "{\"prompt\":\"a cat\",\"images\":[{\"image_url\":\"" PNG64 "\"},{\"file_id\":\"file-1\"},"
        "{\"image_url\":\"https://example.com/a.png\",\"file_id\":null}],\"mask\":{\"image_url\":\"" PNG64 "\"},"
        "\"model\":\"gpt-image-1\",\"n\":2,\"size\":\"auto\",\"quality\":\"low\",\"input_fidelity\":\"high\","
        "\"stream\":true,\"partial_images\":1,\"moderation\":\"low\",\"output_format\":\"webp\",\"unknown\":[1]}");

    (void)state;
    assert_int_equal(r.operation, OPERATION_EDITS);
    assert_string_equal(r.spec.model, "gpt-image-1");
    assert_int_equal(r.spec.n, 2);
    assert_int_equal(r.spec.prompt_bytes, 5);
    assert_int_equal(r.spec.partial_images, 1);
    assert_true(r.spec.high_fidelity && r.stream);
    assert_int_equal(r.spec.n_inputs, 4);
    assert_int_equal(r.spec.inputs[0].w, 64);
    assert_int_equal(r.spec.inputs[0].h, 32);
    assert_int_equal(r.spec.inputs[1].w, 0);
    assert_int_equal(r.spec.inputs[2].w, 0);
    assert_int_equal(r.spec.inputs[3].w, 64);
    assert_string_equal(r.boundary, "");
    r = read_good("{" ONE ",\"prompt\":\"x\",\"mask\":null,\"markup\":{\"image_url\":\"" PNG64
                  "\"},\"input_fidelity\":null}");
    assert_int_equal(r.spec.n_inputs, 2);
    assert_int_equal(r.spec.inputs[1].w, 0);
    assert_false(r.spec.high_fidelity);
    assert_string_equal(r.spec.model, "dall-e-2");
}

static void test_images_refused(void **state)
{
    (void)state;
    check_refused("{\"prompt\":\"x\"}", ERR_MISSING_PARAMETER, "images", "Missing required parameter: 'images'.");
    check_refused("{\"prompt\":\"x\",\"images\":null}", ERR_MISSING_PARAMETER, "images", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":{}}", ERR_INVALID_TYPE, "images",
                  "Invalid type for 'images': expected an array, but got an object instead.");
    check_refused("{\"prompt\":\"x\",\"images\":[]}", ERR_INVALID_VALUE, "images",
                  "Invalid 'images': array too short. Expected an array with minimum length 1, but got an array with "
                  "length 0 instead.");
    check_refused("{\"prompt\":\"x\",\"images\":[1]}", ERR_INVALID_TYPE, "images[0]",
                  "Invalid type for 'images[0]': expected an object, but got an integer instead.");
    check_refused("{\"prompt\":\"x\",\"images\":[null]}", ERR_INVALID_TYPE, "images[0]", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{}]}", ERR_MISSING_PARAMETER, "images[0]",
                  "Invalid 'images[0]': expected exactly one of 'image_url' and 'file_id'.");
    check_refused("{\"prompt\":\"x\",\"images\":[{\"file_id\":\"a\"},{\"image_url\":\"a\",\"file_id\":\"b\"}]}",
                  ERR_INVALID_VALUE, "images[1]",
                  "Invalid 'images[1]': expected exactly one of 'image_url' and 'file_id'.");
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":1}]}", ERR_INVALID_TYPE, "images[0].image_url",
                  "Invalid type for 'images[0].image_url': expected a string, but got an integer instead.");
    check_refused("{\"prompt\":\"x\",\"images\":[{\"file_id\":[]}]}", ERR_INVALID_TYPE, "images[0].file_id", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"file_id\":\"a\",\"detail\":1}]}", ERR_UNKNOWN_PARAMETER, "detail",
                  NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"mask\":\"x\"}", ERR_INVALID_TYPE, "mask",
                  "Invalid type for 'mask': expected an object, but got a string instead.");
    check_refused("{\"prompt\":\"x\"," ONE ",\"mask\":{}}", ERR_MISSING_PARAMETER, "mask", NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"mask\":{\"image_url\":\"a\",\"file_id\":\"b\"}}", ERR_INVALID_VALUE,
                  "mask", NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"image\":\"a\"}", ERR_UNKNOWN_PARAMETER, "image",
                  "Unknown parameter: 'image'. In a JSON body the images go into 'images'.");
    check_refused("{\"prompt\":\"x\"," ONE ",\"image[]\":[]}", ERR_UNKNOWN_PARAMETER, "image[]", NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"Images\":[]}", ERR_UNKNOWN_PARAMETER, "Images", NULL);
    check_refused("{" ONE "}", ERR_MISSING_PARAMETER, "prompt", NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"input_fidelity\":\"medium\"}", ERR_INVALID_VALUE, "input_fidelity",
                  NULL);
    check_refused("{\"prompt\":\"x\"," ONE ",\"input_fidelity\":1}", ERR_INVALID_TYPE, "input_fidelity", NULL);
}

static void test_counts(void **state)
{
    struct buf body;

    (void)state;
    for (int n = 15; n <= 17; n++) {
        buf_init(&body, 65536);
        buf_append_str(&body,
                       "{\"prompt\":\"x\",\"mask\":{\"file_id\":\"m\"},\"images\":[{\"image_url\":\"" PNG64 "\"}");
        for (int i = 1; i < n; i++)
            buf_append_str(&body, ",{\"image_url\":\"http://x\"}");
        buf_append_str(&body, "]}");
        if (n <= 16)
            assert_int_equal(lib_request_good(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body)).spec.n_inputs, n + 1);
        else
            lib_request_refused(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body), ERR_INVALID_VALUE, "images",
                                "Invalid 'images': array too long. Expected an array with maximum length 16, but got "
                                "an array with length 17 instead.");
        if (n == 16) {
            body.len--;
            buf_append_str(&body, ",\"markup\":{}}");
            lib_request_refused(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body), ERR_INVALID_VALUE, "images",
                                "Too many images. Expected at most 16 and a mask.");
        }
        buf_dispose(&body);
    }
}

/* What is cut out is checked as strictly as what is kept. */
static void test_bad_text(void **state)
{
    static const char *const bad[] = {
        "\n",           "\x1F",         "\xFF",
        "\x80",         "\xC3(",        "\xC0\xAF",
        "\xE0\x80\x80", "\xED\xA0\x80", "\xF5\x80\x80\x80",
        "\xF0\x90\x80", "\\x",          "\\u12",
        "\\u12G4",      "\\",           "\"",
    };
    static const char *const good[] = {"\\n",  "\\u0000", "\\ud800", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x90\x88",
                                       "\x7F", "\\\"",    ""};
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"images\":[{\"image_url\":\"a%s\"}]}", bad[i]);
        check_refused(body, ERR_BAD_JSON, "", NULL);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        (void)snprintf(body, sizeof(body), "{\"prompt\":\"x\",\"images\":[{\"image_url\":\"%s\"}]}", good[i]);
        (void)read_good(body);
    }
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":\"a", ERR_BAD_JSON, "", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":\"a\"},]}", ERR_BAD_JSON, "", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\"::\"a\"}]}", ERR_BAD_JSON, "", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":\"a\"\"b\"}]}", ERR_BAD_JSON, "", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":x\"a\"}]}", ERR_BAD_JSON, "", NULL);
    check_refused("{\"prompt\":\"x\",\"images\":[{\"image_url\":\"a\",\"image\\u005furl\":\"b\"}]}",
                  ERR_DUPLICATE_PARAMETER, "image_url", NULL);
    check_refused("[]", ERR_BAD_REQUEST, "", NULL);
    check_refused("", ERR_BAD_JSON, "", NULL);
}

/* Escapes inside of a data: URL, and of the member's name. */
static void test_escapes(void **state)
{
    struct image_request r =
        read_good("{\"prompt\":\"x\",\"images\":[{\"\\u0069mage_ur\\u006C\" : "
                  "\"data:image\\/png;base64,\\u0069VBORw0KGgoAAAANSUhEUgAAAEAAAAAg\"},"
                  "{\"image_url\":\"data:image\\/png;base64,iVBORw0KGgo\\nAAAANSUhEUgAAAEAAAAAg\"},"
                  "{\"image_url\":\"data:image\\/png;base64,iVBORw0KGgo\xC3\xA9"
                  "AAAANSUhEUgAAAEAAAAAg\"}]}");

    (void)state;
    assert_int_equal(r.spec.inputs[0].w, 64);
    assert_int_equal(r.spec.inputs[1].w, 0);
    assert_int_equal(r.spec.inputs[2].w, 0);
}

/* Strings that only look like it stay: keys, array elements, values of other members. */
static void test_what_is_kept(void **state)
{
    struct image_request r = read_good(
        "{\"x\":[\"image_url\",\"a\",{\"image_url\":[\"kept\"],\"y\":\"image_url\"}],\"image_url\":{\"z\":\"kept\"},"
        "\"prompt\":\"image_url\",\"user\":\"" PNG64 "\"," ONE "}");

    (void)state;
    assert_int_equal(r.spec.prompt_bytes, 9);
    assert_int_equal(r.spec.inputs[0].w, 64);
}

static void check_patch(const char *body, const char *model, const char *expected)
{
    struct image_request r = read_good(body);
    struct buf sent = lib_request_patch(&r, slice_from(body), model);

    assert_string_equal(sent.p, expected);
    buf_dispose(&sent);
}

/* The offsets are those of the body, before, between and behind what was cut out. */
static void test_patch(void **state)
{
    (void)state;
    check_patch("{\"model\":\"a\"," ONE ",\"prompt\":\"x\"}", "m", "{\"model\":\"m\"," ONE ",\"prompt\":\"x\"}");
    check_patch("{" ONE ",\"model\":\"a\",\"prompt\":\"x\"}", "m", "{" ONE ",\"model\":\"m\",\"prompt\":\"x\"}");
    check_patch(
        "{\"images\":[{\"image_url\":\"\"}],\"model\":\"a\",\"prompt\":\"x\",\"mask\":{\"image_url\":\"long\"}}", "m",
        "{\"images\":[{\"image_url\":\"\"}],\"model\":\"m\",\"prompt\":\"x\",\"mask\":{\"image_url\":\"long\"}}");
    check_patch("{\"mask\":{\"image_url\":\"" PNG64 "\"},\"image_url\":\"" PNG64 "\",\"model\":null ," ONE
                ",\"prompt\":\"x\"}",
                "m",
                "{\"mask\":{\"image_url\":\"" PNG64 "\"},\"image_url\":\"" PNG64 "\",\"model\":\"m\" ," ONE
                ",\"prompt\":\"x\"}");
    check_patch(" { " ONE ",\"prompt\":\"x\"}", "m", " {\"model\":\"m\", " ONE ",\"prompt\":\"x\"}");
    check_patch("{" ONE ",\"model\":\"m\",\"prompt\":\"x\"}", "m", "{" ONE ",\"model\":\"m\",\"prompt\":\"x\"}");
}

/* A body with one image_url of <chars> characters: a data: URL, or with <two> bytes a character. */
static struct buf write_long(size_t chars, bool two)
{
    static const char head[] = "{\"prompt\":\"x\",\"images\":[{\"image_url\":\"", url[] = PNG64;
    struct buf body;
    size_t done = two ? 0 : sizeof(url) - 1;

    buf_init(&body, 64 * 1024 * 1024);
    buf_append_str(&body, head);
    buf_append(&body, url, done);
    if (two) {
        while (done++ < chars)
            buf_append(&body, "\xC3\xA9", 2);
    } else {
        char *at = buf_reserve(&body, chars - done);

        memset(at, 'A', chars - done);
        buf_advance(&body, chars - done);
    }
    buf_append_str(&body, "\"}],\"model\":\"gpt-image-1\"}");
    assert_false(body.full);
    return body;
}

static void test_long_urls(void **state)
{
    (void)state;
    for (int two = 0; two < 2; two++) {
        struct buf at = write_long(SKELETON_URL_CHARS, two), over = write_long(SKELETON_URL_CHARS + 1, two);
        struct image_request r;
        struct err err;

        assert_int_equal(lib_request_read(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&at), 65536, &r, &err), ERR_OK);
        assert_int_equal(r.spec.inputs[0].w, two ? 0 : 64);
        assert_memory_equal(at.p + r.model_start, "\"gpt-image-1\"}", 14);
        assert_int_equal(r.model_end, at.len - 1);
        assert_int_equal(lib_request_read(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&over), 65536, &r, &err),
                         ERR_STRING_TOO_LONG);
        assert_string_equal(err.param, "image_url");
        assert_string_equal(err.message, "Invalid 'image_url': string too long. Expected a string with maximum length "
                                         "20971520, but got a longer one instead.");
        buf_dispose(&at);
        buf_dispose(&over);
    }
}

/* What is kept is bounded, and so are the strings that are not. */
static void test_bounds(void **state)
{
    struct buf body;

    (void)state;
    buf_init(&body, 4 * 1024 * 1024);
    buf_append_str(&body, "{\"prompt\":\"x\"," ONE ",\"user\":\"");
    for (int i = 0; i < LIMIT_GENERATION_BODY / 16; i++)
        buf_append_str(&body, "0123456789abcdef");
    buf_append_str(&body, "\"}");
    lib_request_refused(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body), ERR_TOO_LARGE, "",
                        "The request body is larger than 1048576 bytes, the members 'image_url' not counted.");
    buf_clear(&body);
    buf_append_str(&body, "{\"prompt\":\"x\"," ONE ",\"x\":[");
    for (int i = 0; i < SKELETON_URLS - 1; i++)
        buf_append_str(&body, i == 0 ? "{\"image_url\":\"u\"}" : ",{\"image_url\":\"u\"}");
    buf_append_str(&body, "]}");
    (void)lib_request_good(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body));
    body.len -= 2;
    buf_append_str(&body, ",{\"image_url\":\"u\"}]}");
    lib_request_refused(OPERATION_EDITS, LIB_JSON_TYPE, buf_slice(&body), ERR_BAD_REQUEST, "images", NULL);
    buf_dispose(&body);
}

/* In a generation no member is special. */
static void test_generation(void **state)
{
    struct image_request r = lib_request_good(OPERATION_GENERATIONS, LIB_JSON_TYPE,
                                              SLICE("{\"prompt\":\"x\"," ONE ",\"image\":\"y\",\"input_fidelity\":7}"));

    (void)state;
    assert_int_equal(r.spec.n_inputs, 0);
    assert_false(r.spec.high_fidelity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),     cmocka_unit_test(test_images_refused), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_bad_text),   cmocka_unit_test(test_escapes),        cmocka_unit_test(test_what_is_kept),
        cmocka_unit_test(test_patch),      cmocka_unit_test(test_long_urls),      cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_generation),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
