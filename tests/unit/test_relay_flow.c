/* test_relay_flow.c - whole calls with JSON replies through front, gate, relay and store, against an upstream that does
 * as each case says: delivered, refused, nonsense, in doubt.
 *
 * Every case says what the customer sees and what it costs; after each the wallet holds nothing. */
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

#include "lib_relay.h"

/* ---- cases: delivered ---- */

static const char two_small[] = "{\"model\":\"dall-e-2\",  \"prompt\":\"a cat\",\"n\":2,\"size\":\"256x256\",\"x\":1}";

static void test_per_image(void **state)
{
    struct usage_record u;
    struct answer a;

    (void)state;
    gw_begin_reply(200,
                   "x-request-id: req_up\r\nopenai-processing-ms: 77\r\nSet-Cookie: a=b\r\nopenai-organization: o\r\n",
                   PEER_TWO);
    gw_call_as(gw.key, GW_JSON "Cookie: c=1\r\nOpenAI-Organization: org-1\r\nX-Forwarded-For: 1.2.3.4\r\n", two_small,
               &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, PEER_TWO);
    assert_true(answer_has(&a, "tallygate-charge: 0.032000000"));
    assert_true(answer_has(&a, "content-type: application/json"));
    assert_true(answer_has(&a, "x-upstream-request-id: req_up"));
    assert_true(answer_has(&a, "openai-processing-ms: 77"));
    assert_null(strcasestr(a.text, "cookie"));
    assert_null(strcasestr(a.text, "organization"));
    answer_dispose(&a);
    gw_expect_charge(32000000);

    assert_non_null(strstr(peer_server.last, "POST /v1/images/generations HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAuthorization: Bearer sk-channel\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nx-client-request-id: req_"));
    assert_non_null(strstr(peer_server.last, two_small)); /* the client's own bytes */
    assert_null(strcasestr(peer_server.last, "cookie"));
    assert_null(strcasestr(peer_server.last, "openai-organization"));
    assert_null(strcasestr(peer_server.last, "forwarded"));
    assert_null(strstr(peer_server.last, gw.key));

    u = gw_last_usage();
    assert_int_equal(u.images, 2);
    assert_int_equal(u.call.n, 2);
    assert_int_equal(u.status, 200);
    assert_int_equal(u.flags, 0);
    assert_int_equal(u.wholesale, 32000000);
    assert_string_equal(u.upstream_request_id, "req_up");
    assert_string_equal(u.call.size, "256x256");
}

static void test_model_names(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call("{\"prompt\":\"a cat\"}", &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(peer_server.last, "\"model\":\"dall-e-2\""));
    answer_dispose(&a);
    gw_expect_charge(20000000);

    gw_begin_reply(200, "", PEER_USED("20", "1056", "1076"));
    gw_call("{\"model\":\"gpt-image-1\",\"prompt\":\"a cat\"}", &a);
    assert_int_equal(a.status, 200);
    assert_true(answer_has(&a, "tallygate-charge: 0.042340000"));
    assert_non_null(strstr(peer_server.last, "{\"model\":\"gpt-image-1-upstream\",\"prompt\":\"a cat\"}"));
    answer_dispose(&a);
    gw_expect_charge(42340000);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
}

static void test_no_usage(void **state)
{
    static const char request[] =
        "{\"model\":\"gpt-image-1\",\"prompt\":\"a cat\",\"size\":\"1024x1024\",\"quality\":\"medium\"}";
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call(request, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    assert_int_equal(gw_last_usage().flags, USAGE_ESTIMATED);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(gw_spent(), gw_last_usage().wholesale);

    gw_begin_reply(200, "", PEER_USED("20", "1056", "5"));
    gw_call(request, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    assert_int_equal(gw_last_usage().flags, USAGE_ESTIMATED | USAGE_UNTRUSTED);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(gw_spent(), gw_last_usage().wholesale);
}

static void test_fewer_and_more(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call(two_small, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    gw_expect_charge(16000000);
    assert_int_equal(gw_last_usage().flags, USAGE_FEWER_IMAGES);

    gw_begin_reply(200, "", PEER_TWO); /* more than asked for are the upstream's gift */
    gw_call("{\"prompt\":\"a\",\"size\":\"256x256\"}", &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    gw_expect_charge(16000000);
    assert_int_equal(gw_last_usage().images, 1);
}

/* ---- cases: refused ---- */

struct refusal {
    int status;
    const char *headers, *body;
    int seen;         /* the status that the customer sees */
    const char *code; /* NULL: the body itself is relayed */
    const char *also; /* a header */
};

static void test_refusals(void **state)
{
    static const char html[] = "<html><body>no</body></html>";
    static const char moderation[] =
        "{\"error\":{\"message\":\"no\",\"type\":\"image_generation_user_error\",\"param\":null,"
        "\"code\":\"moderation_blocked\",\"moderation_details\":{}}}\n";
    static const char limit[] =
        "{\"error\":{\"message\":\"limit\",\"type\":\"billing_limit_user_error\",\"param\":null,\"code\":\"x\"}}";
    static const struct refusal refusals[] = {
        {400, "x-should-retry: false\r\n", moderation, 400, NULL, "x-should-retry: false"},
        {404, "", moderation, 404, NULL, NULL},
        {413, "", moderation, 413, NULL, NULL},
        {422, "", moderation, 422, NULL, NULL},
        {400, "", html, 502, "upstream_error", NULL},
        {400, "", limit, 502, "upstream_error", NULL},
        {401, "", moderation, 502, "upstream_error", NULL},
        {403, "", moderation, 502, "upstream_error", NULL},
        {429, "Retry-After: 500\r\n", moderation, 503, "no_channel_available", "retry-after: 59"},
        {429, "Retry-After: 0\r\n", moderation, 503, "no_channel_available", "retry-after: 1"},
        {429, "", moderation, 503, "no_channel_available", NULL},
        {500, "", moderation, 502, "upstream_error", NULL},
        {503, "", html, 502, "upstream_error", NULL},
        {302, "Location: http://127.0.0.1:1/\r\n", "", 502, "upstream_error", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *r = &refusals[i];
        struct answer a;

        gw_begin_reply(r->status, r->headers, r->body);
        gw_call(two_small, &a);
        if (r->code != NULL) {
            gw_expect_error(&a, r->seen, r->code, false);
        } else {
            assert_int_equal(a.status, r->seen);
            assert_string_equal(a.body, r->body);
            assert_true(answer_has(&a, "content-type: application/json"));
        }
        if (r->also != NULL)
            assert_true(answer_has(&a, r->also));
        else
            assert_false(answer_has(&a, "retry-after: 1"));
        answer_dispose(&a);
        gw_expect_charge(0);
        assert_int_equal(atomic_load(&peer_server.requests), 1);
    }
}

static void test_unreached(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call("{\"model\":\"dall-e-3\",\"prompt\":\"a\"}", &a);
    gw_expect_error(&a, 502, "upstream_error", false);
    answer_dispose(&a);
    gw_expect_charge(0);
}

/* ---- cases: nonsense and in doubt ---- */

static void serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

static void serve_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_wait_end(p);
}

static void serve_half(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":[{\"b64_json\":\"QUJ");
}

static void test_in_doubt(void **state)
{
    static const struct {
        peer_fn *serve;
        int status;
        const char *code;
    } cases[] = {
        {serve_silence, 502, "upstream_error"},
        {serve_half, 502, "upstream_error"},
        {serve_hang, 504, "upstream_timeout"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        gw_begin(cases[i].serve);
        gw_call(two_small, &a);
        gw_expect_error(&a, cases[i].status, cases[i].code, true);
        answer_dispose(&a);
        gw_expect_doubt(true);
    }
}

static void test_nonsense(void **state)
{
    static const struct {
        const char *body;
        bool doubt;
    } cases[] = {
        {"<html>ok</html>", true},
        {"{\"created\":1,\"data\":[{\"b64_json\":\"QU", true}, /* whole by its length, cut as JSON */
        {"", true},
        {PEER_ONE "x", true},
        {"{\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}", false},
        {"{\"created\":1,\"data\":[]}", false},
        {"[]", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        gw_begin_reply(200, "", PEER_ONE); /* so that the last record is none in doubt */
        gw_call(two_small, &a);
        answer_dispose(&a);
        gw_begin_reply(200, "", cases[i].body);
        gw_call(two_small, &a);
        gw_expect_error(&a, 502, "upstream_invalid_response", true);
        answer_dispose(&a);
        gw_expect_doubt(cases[i].doubt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_per_image),      cmocka_unit_test(test_model_names), cmocka_unit_test(test_no_usage),
        cmocka_unit_test(test_fewer_and_more), cmocka_unit_test(test_refusals),    cmocka_unit_test(test_unreached),
        cmocka_unit_test(test_in_doubt),       cmocka_unit_test(test_nonsense),
    };

    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
