/* test_relay_flow_forms.c - edits and variations: forms and JSON, what the upstream gets of them byte for byte, and
 * refusals before their end. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib_stream.h"

#define BOUNDARY "----xYz42"
#define FORM "Content-Type: multipart/form-data; boundary=\"" BOUNDARY "\"; charset=x\r\n"
#define FIELD(name, value) "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define IMAGE_HEAD                                                                                                     \
    "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"                         \
    "Content-Type: image/png\r\n\r\n"
#define PNG                                                                                                            \
    "\x89PNG\r\n\x1a\n"                                                                                                \
    "????IHDR????????"
#define END "--" BOUNDARY "--\r\n"

enum { LARGE = 8 * 1024 * 1024 };

/* The body of the last request: checked by the peer, as it may hold any bytes. */
static const char *expected;
static size_t expected_len;
static atomic_bool as_expected;

static void serve_checked(struct peer *p)
{
    while (peer_read(p)) {
        size_t len = p->len - (size_t)(peer_body(p) - p->got);

        atomic_store(&as_expected, len == expected_len && memcmp(peer_body(p), expected, len) == 0);
        peer_json(p, 200, "", PEER_ONE);
    }
}

static void begin_checked(const char *body, size_t len)
{
    gw_begin(serve_checked);
    expected = body;
    expected_len = len;
    atomic_store(&as_expected, false);
}

static void expect_passed(const char *path, const char *headers, const char *body, size_t len, int64_t charge)
{
    char line[128];
    struct answer a;

    gw_call_path(path, headers, body, len, &a);
    if (a.status != 200)
        fail_msg("%s: %.600s", path, a.text);
    answer_dispose(&a);
    assert_true(atomic_load(&as_expected));
    snprintf(line, sizeof(line), "POST /v1/images/%s HTTP/1.1\r\n", path);
    assert_non_null(strstr(peer_server.last, line));
    assert_non_null(strstr(peer_server.last, headers)); /* the type as it was, boundary and all */
    if (charge >= 0)
        gw_expect_charge(charge);
}

static void test_untouched(void **state)
{
    static const char edit[] = IMAGE_HEAD PNG "\0\r\n--\r\n\r\n------xYz4\r\n" FIELD("prompt", "a cat")
        FIELD("size", "256x256") FIELD("model", "dall-e-2") FIELD("n", "1") END "epilogue";
    static const char variation[] = FIELD("model", "dall-e-2") FIELD("size", "512x512") IMAGE_HEAD PNG "\r\n" END;

    (void)state;
    begin_checked(edit, sizeof(edit) - 1);
    expect_passed("edits", FORM, edit, sizeof(edit) - 1, 16000000);
    assert_int_equal(gw_last_usage().call.operation, OPERATION_EDITS);
    begin_checked(variation, sizeof(variation) - 1);
    expect_passed("variations", FORM, variation, sizeof(variation) - 1, 18000000);
    assert_int_equal(gw_last_usage().call.operation, OPERATION_VARIATIONS);
}

static void test_model_put_in(void **state)
{
    static const char body[] = IMAGE_HEAD PNG "\r\n" FIELD("prompt", "a cat") FIELD("size", "256x256") END;
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call_path("edits", FORM, body, sizeof(body) - 1, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    gw_expect_charge(16000000);
    assert_non_null(strstr(peer_server.last, "name=\"model\"\r\n\r\ndall-e-2\r\n--" BOUNDARY "\r\n"));
    assert_int_equal(gw_last_usage().call.operation, OPERATION_EDITS);
}

/* Larger than what stays in memory, the model's name behind it and not the channel's. */
static void test_large(void **state)
{
    static const char head[] = IMAGE_HEAD PNG;
    static const char between[] =
        "\r\n" FIELD("prompt", "a cat") "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n";
    static const char tail[] = "\r\n" FIELD("size", "1024x1024") FIELD("quality", "low") END;
    char *sent = malloc(LARGE + 2048), *got = malloc(LARGE + 2048);
    size_t n = 0, sent_len, got_len;

    (void)state;
    memcpy(sent, head, sizeof(head) - 1);
    for (n = sizeof(head) - 1; n < LARGE; n++)
        sent[n] = (char)((n * 2654435761u) >> 13);
    memcpy(sent + n, between, sizeof(between) - 1);
    n += sizeof(between) - 1;
    memcpy(got, sent, n);
    sent_len = n + (size_t)sprintf(sent + n, "gpt-image-1%s", tail);
    got_len = n + (size_t)sprintf(got + n, "gpt-image-1-upstream%s", tail);
    begin_checked(got, got_len);
    expect_passed("edits", FORM, sent, sent_len, -1);
    assert_int_equal(gw_spent(), gw_last_usage().wholesale);
    assert_true(gw_spent() > 0);
    free(sent);
    free(got);
}

static void test_json(void **state)
{
    static const char body[] = "{\"images\":[{\"file_id\":\"file-1\"}],\"prompt\":\"a cat\",\"model\":\"gpt-image-1\","
                               "\"quality\":\"low\",\"size\":\"1024x1024\"}";
    static const char got[] = "{\"images\":[{\"file_id\":\"file-1\"}],\"prompt\":\"a cat\",\"model\":"
                              "\"gpt-image-1-upstream\",\"quality\":\"low\",\"size\":\"1024x1024\"}";

    (void)state;
    begin_checked(got, sizeof(got) - 1);
    expect_passed("edits", GW_JSON, body, sizeof(body) - 1, -1);
}

static void test_stream(void **state)
{
#define EDITED EVENT("image_edit.completed", "\"b64_json\":\"RE9ORQ==\"")
    static const char body[] = FIELD("stream", "true") FIELD("prompt", "a cat") FIELD("model", "gpt-image-1")
        FIELD("size", "1024x1024") FIELD("quality", "low") IMAGE_HEAD PNG "\r\n" END;
    struct answer a;

    (void)state;
    stream_begin(EDITED, 0, STREAM_WHOLE);
    gw_call_path("edits", FORM, body, sizeof(body) - 1, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, EDITED);
    answer_dispose(&a);
    assert_int_equal(gw_spent(), gw_last_usage().wholesale);
    assert_int_equal(gw_last_usage().flags, USAGE_ESTIMATED);
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
    static const struct {
        const char *path, *headers, *body;
        int status;
        const char *code; /* NULL: any */
    } cases[] = {
        {"variations", GW_JSON, "{}", 400, "unsupported_content_type"},
        {"generations", FORM, END, 400, "unsupported_content_type"},
        {"edits", "Content-Type: text/plain\r\n", "x", 400, "unsupported_content_type"},
        {"edits", "Content-Type: multipart/form-data\r\n", END, 400, NULL},
        {"edits", FORM "Content-Type: application/json\r\n", END, 400, NULL},
        {"edits", "Content-Type: multipart/form-data; boundary=a; x=\001\r\n", "--a--\r\n", 400, NULL},
        {"edits", FORM, FIELD("prompt", "a") END, 400, "missing_required_parameter"},
        {"edits", FORM, FIELD("prompt", "a") FIELD("prompt", "b") END, 400, "duplicate_parameter"},
        {"edits", FORM, IMAGE_HEAD PNG "\r\n" FIELD("prompt", "a"), 400, NULL},
        {"edits", FORM "Idempotency-Key: a\r\nIdempotency-Key: b\r\n", END, 400, "invalid_value"},
        {"edits", FORM "Idempotency-Key:\r\n", END, 400, "invalid_value"},
        {"edits", FORM "Idempotency-Key: \xc3\xa4\r\n", END, 400, "invalid_value"},
        {"foo", FORM, END, 404, NULL},
    };

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        gw_call_path(cases[i].path, cases[i].headers, cases[i].body, strlen(cases[i].body), &a);
        if (cases[i].code != NULL)
            gw_expect_error(&a, cases[i].status, cases[i].code, false);
        else if (a.status != cases[i].status)
            fail_msg("case %zu: %.600s", i, a.text);
        answer_dispose(&a);
    }
    gw_expect_charge(0);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
}

/* What is wrong is said at once, though most of the body is still to come. */
static void test_refused_early(void **state)
{
    static const char beginning[] = FIELD("prompt", "a") FIELD("prompt", "b") IMAGE_HEAD;
    char head[512];
    struct answer a;
    int fd, n;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    fd = gw_connect(0);
    n = snprintf(head, sizeof(head),
                 "POST /v1/images/edits HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n" FORM
                 "Content-Length: 50000000\r\n\r\n",
                 gw.key);
    gw_send_bytes(fd, head, (size_t)n);
    gw_send_bytes(fd, beginning, sizeof(beginning) - 1);
    gw_read(fd, &a, GW_TEXT, 0);
    gw_expect_error(&a, 400, "duplicate_parameter", false);
    answer_dispose(&a);
}

static void test_gone_within(void **state)
{
    static const char beginning[] = FIELD("prompt", "a") IMAGE_HEAD;
    char head[512];
    int fd, n;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    fd = gw_connect(0);
    n = snprintf(head, sizeof(head),
                 "POST /v1/images/edits HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer %s\r\n" FORM
                 "Idempotency-Key: gone\r\nContent-Length: 5000\r\n\r\n",
                 gw.key);
    gw_send_bytes(fd, head, (size_t)n);
    gw_send_bytes(fd, beginning, sizeof(beginning) - 1);
    close(fd);
    for (int i = 0; i < 10000 && front_calls(gw.front) > 0; i++)
        usleep(1000);
    assert_int_equal(front_calls(gw.front), 0);
    gw_expect_charge(0);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_untouched),     cmocka_unit_test(test_model_put_in), cmocka_unit_test(test_large),
        cmocka_unit_test(test_json),          cmocka_unit_test(test_stream),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_early), cmocka_unit_test(test_gone_within),
    };

    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
