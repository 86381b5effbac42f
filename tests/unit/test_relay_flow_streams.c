/* test_relay_flow_streams.c - event streams through front, relay and store: every way in which one can end, at every
 * cut, what the customer reads and what it costs. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib_stream.h"

static const size_t pieces[] = {0, 1, 7, 64};

#define FAILED(code, message)                                                                                          \
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"" message "\",\"type\":\"server_error\","        \
    "\"param\":null,\"code\":\"" code "\"}}\n\n"
#define BROKE FAILED("upstream_error", "The connection to the image service broke before its answer was complete.")
#define CUT_OFF FAILED("upstream_error", "The connection to the image service broke before all images had come.")
#define LATE FAILED("upstream_timeout", "The image service did not answer in time.")
#define NONSENSE                                                                                                       \
    FAILED("upstream_invalid_response", "The image service returned a response that could not be understood.")

/* The body without its chunks. */
static void read_stream(struct answer *a)
{
    assert_int_equal(a->status, 200);
    assert_true(answer_has(a, "content-type: text/event-stream"));
    assert_true(answer_has(a, "cache-control: no-cache"));
    assert_true(answer_has(a, "x-accel-buffering: no"));
    assert_true(answer_has(a, "x-upstream-request-id: req_up"));
    if (answer_has(a, "transfer-encoding: chunked"))
        assert_true(answer_unchunk(a));
}

static void call_stream(const char *request, struct answer *a)
{
    gw_call(request, a);
    read_stream(a);
}

/* ---- endings ---- */

struct ending {
    const char *name, *request, *text;
    enum stream_end end;
    const char *seen; /* NULL: the text itself */
    int64_t charge;
    int images;
    unsigned flags; /* of the record; USAGE_IN_DOUBT: in doubt */
};

static const struct ending delivered[] = {
    {"plain", STREAM_ONE, PARTIAL COMPLETED, STREAM_WHOLE, NULL, COMPLETED_CHARGE, 1, 0},
    {"with the end's mark", STREAM_ONE, PARTIAL COMPLETED DONE, STREAM_WHOLE, NULL, COMPLETED_CHARGE, 1, 0},
    {"no end", STREAM_ONE, PARTIAL COMPLETED, STREAM_HANGS, NULL, COMPLETED_CHARGE, 1, 0},
    {"mark and no end", STREAM_ONE, PARTIAL COMPLETED DONE, STREAM_HANGS, NULL, COMPLETED_CHARGE, 1, 0},
    {"broken after the last", STREAM_ONE, PARTIAL COMPLETED, STREAM_BROKEN, NULL, COMPLETED_CHARGE, 1, 0},
    {"comments", STREAM_ONE, ": hello\n\n" PARTIAL ": a\n: b\n\n" COMPLETED ": c\n", STREAM_WHOLE, NULL,
     COMPLETED_CHARGE, 1, 0},
    {"fewer", STREAM_TWO, PARTIAL COMPLETED, STREAM_WHOLE, NULL, COMPLETED_CHARGE, 1, USAGE_FEWER_IMAGES},
    {"error after the first", STREAM_TWO, PARTIAL COMPLETED GAVE_UP, STREAM_WHOLE, NULL, COMPLETED_CHARGE, 1,
     USAGE_FEWER_IMAGES},
    {"two", STREAM_TWO, PARTIAL COMPLETED PARTIAL COMPLETED, STREAM_WHOLE, NULL, 2 * COMPLETED_CHARGE, 2, 0},
    {"cut off between", STREAM_TWO, PARTIAL COMPLETED, STREAM_BROKEN, PARTIAL COMPLETED "\n\n" CUT_OFF,
     COMPLETED_CHARGE, 1, USAGE_FEWER_IMAGES},
    {"cut off within", STREAM_TWO, COMPLETED "event: image_generation.completed\ndata: {\"b64", STREAM_BROKEN,
     COMPLETED "\n\n" CUT_OFF, COMPLETED_CHARGE, 1, USAGE_FEWER_IMAGES},
};

static const struct ending failed[] = {
    {"error event", STREAM_ONE, PARTIAL GAVE_UP, STREAM_WHOLE, NULL, 0, 0, 0},
    {"error event, no end", STREAM_ONE, PARTIAL GAVE_UP, STREAM_HANGS, NULL, 0, 0, 0},
    {"error event alone", STREAM_ONE, GAVE_UP, STREAM_WHOLE, NULL, 0, 0, 0},
    {"broken between", STREAM_ONE, PARTIAL, STREAM_BROKEN, PARTIAL BROKE, 0, 0, USAGE_IN_DOUBT},
    {"broken within", STREAM_ONE, PARTIAL "event: image_generation.completed\ndata: {\"b64_json\":\"QUJ", STREAM_BROKEN,
     PARTIAL BROKE, 0, 0, USAGE_IN_DOUBT},
    {"no image", STREAM_ONE, PARTIAL, STREAM_WHOLE, PARTIAL NONSENSE, 0, 0, USAGE_IN_DOUBT},
    {"mark and no image", STREAM_ONE, PARTIAL DONE, STREAM_WHOLE, PARTIAL DONE NONSENSE, 0, 0, USAGE_IN_DOUBT},
};

/* So that the last record is none of an earlier case. */
static void make_plain_record(void)
{
    struct answer a;

    gw_begin_reply(200, "", PEER_ONE);
    gw_call("{\"prompt\":\"a\"}", &a);
    answer_dispose(&a);
    gw_wait_idle();
}

static void check_ending(const struct ending *e, size_t piece)
{
    const char *seen = e->seen != NULL ? e->seen : e->text;
    struct usage_record u;
    struct answer a;

    make_plain_record();
    stream_begin(e->text, piece, e->end);
    call_stream(e->request, &a);
    if (strcmp(a.body, seen) != 0)
        fail_msg("%s, by %zu: expected:\n%s\ngot:\n%s", e->name, piece, seen, a.body);
    answer_dispose(&a);
    gw_expect_charge(e->charge);
    u = gw_last_usage();
    if (e->images > 0) {
        assert_int_equal(u.images, e->images);
        assert_int_equal(u.flags, e->flags);
        assert_int_equal(u.status, 200);
        assert_true(u.call.stream);
        assert_string_equal(u.upstream_request_id, "req_up");
    } else {
        assert_int_equal(u.flags & USAGE_IN_DOUBT, e->flags);
        assert_true(u.call.stream == (e->flags != 0));
    }
}

static void test_delivered(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(delivered) / sizeof(delivered[0]); i++)
        for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++)
            check_ending(&delivered[i], pieces[k]);
}

static void test_failed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(failed) / sizeof(failed[0]); i++)
        for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++)
            check_ending(&failed[i], pieces[k]);
}

static void test_timed_out(void **state)
{
    const struct ending late = {"late", STREAM_ONE, PARTIAL, STREAM_HANGS, PARTIAL LATE, 0, 0, USAGE_IN_DOUBT};

    (void)state;
    check_ending(&late, 0);
}

/* A last event without its blank line is completed; one SDK would pass over it. */
static void test_unended(void **state)
{
    static const char text[] = PARTIAL COMPLETED;
    char *open;

    (void)state;
    for (size_t lacking = 1; lacking <= 2; lacking++) {
        struct answer a;

        open = strdup(text);
        open[strlen(open) - lacking] = '\0';
        stream_begin(open, 0, STREAM_WHOLE);
        call_stream(STREAM_ONE, &a);
        assert_int_equal(strncmp(a.body, open, strlen(open)), 0);
        assert_string_equal(a.body + strlen(open), "\n\n");
        answer_dispose(&a);
        gw_expect_charge(COMPLETED_CHARGE);
        free(open);
    }
}

static void test_crlf(void **state)
{
    static const char text[] = PARTIAL COMPLETED DONE;
    char *crlf = malloc(2 * sizeof(text)), *out = crlf;

    (void)state;
    for (const char *in = text; *in != '\0'; in++) {
        if (*in == '\n')
            *out++ = '\r';
        *out++ = *in;
    }
    *out = '\0';
    for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
        struct answer a;

        stream_begin(crlf, pieces[k], STREAM_WHOLE);
        call_stream(STREAM_ONE, &a);
        assert_string_equal(a.body, crlf);
        answer_dispose(&a);
        gw_expect_charge(COMPLETED_CHARGE);
    }
    free(crlf);
}

/* ---- money ---- */

static void test_charge_told(void **state)
{
    struct answer a;

    (void)state;
    stream_begin(COMPLETED, 0, STREAM_WHOLE); /* nothing of it may leave before it is charged */
    call_stream(STREAM_ONE, &a);
    assert_string_equal(a.body, COMPLETED);
    assert_true(answer_has(&a, "tallygate-charge: 0.046290000"));
    answer_dispose(&a);
    gw_expect_charge(COMPLETED_CHARGE);
}

static void test_usage(void **state)
{
    struct answer a;

    (void)state;
    stream_begin(PARTIAL COMPLETED_WITH(""), 0, STREAM_WHOLE);
    call_stream(STREAM_ONE, &a);
    answer_dispose(&a);
    gw_wait_idle();
    assert_int_equal(gw_last_usage().flags, USAGE_ESTIMATED);
    assert_int_equal(gw_last_usage().partial_images, 1);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056 + 100);

    stream_begin(PARTIAL COMPLETED_USING("20", "1156", "7"), 0, STREAM_WHOLE);
    call_stream(STREAM_ONE, &a);
    answer_dispose(&a);
    gw_wait_idle();
    assert_int_equal(gw_last_usage().flags, USAGE_ESTIMATED | USAGE_UNTRUSTED);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056 + 100);

    /* the whole call's usage, repeated in each image's event */
    stream_begin(PARTIAL COMPLETED_USING("20", "2212", "2232") COMPLETED_USING("20", "2212", "2232"), 0, STREAM_WHOLE);
    call_stream(STREAM_TWO, &a);
    answer_dispose(&a);
    gw_wait_idle();
    assert_int_equal(gw_last_usage().flags, 0);
    assert_int_equal(gw_last_usage().images, 2);
    assert_int_equal(gw_last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 2212);
}

/* ---- no stream ---- */

static void serve_head_only(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void test_nothing_came(void **state)
{
    struct answer a;

    (void)state;
    gw_begin(serve_head_only);
    gw_call(STREAM_ONE, &a);
    gw_expect_error(&a, 502, "upstream_error", true);
    answer_dispose(&a);
    gw_expect_doubt(true);

    stream_begin("", 0, STREAM_WHOLE);
    gw_call(STREAM_ONE, &a);
    gw_expect_error(&a, 502, "upstream_invalid_response", true);
    answer_dispose(&a);
    gw_expect_doubt(true);
}

static void test_another_kind(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    gw_call(STREAM_ONE, &a);
    gw_expect_error(&a, 502, "upstream_invalid_response", true);
    answer_dispose(&a);
    gw_expect_doubt(true);

    stream_begin(PARTIAL COMPLETED, 0, STREAM_WHOLE);
    gw_call("{\"model\":\"gpt-image-1\",\"prompt\":\"a\"}", &a);
    gw_expect_error(&a, 502, "upstream_invalid_response", true);
    answer_dispose(&a);
    gw_expect_doubt(true);
}

static void test_refused(void **state)
{
    static const char refusal[] = "{\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\",\"param\":null,"
                                  "\"code\":\"moderation_blocked\"}}\n";
    struct answer a;

    (void)state;
    gw_begin_reply(400, "", refusal);
    gw_call(STREAM_ONE, &a);
    assert_int_equal(a.status, 400);
    assert_string_equal(a.body, refusal);
    assert_true(answer_has(&a, "content-type: application/json"));
    answer_dispose(&a);
    gw_expect_charge(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered), cmocka_unit_test(test_failed),       cmocka_unit_test(test_timed_out),
        cmocka_unit_test(test_unended),   cmocka_unit_test(test_crlf),         cmocka_unit_test(test_charge_told),
        cmocka_unit_test(test_usage),     cmocka_unit_test(test_nothing_came), cmocka_unit_test(test_another_kind),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
