/* test_front_early.c - answers that leave before the request's body is whole, clients that leave within it or dawdle,
 * and Expect: 100-continue; on clear text and inside TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_front.h"

enum { UPLOAD = 30 * 1024 * 1024, BODY_MAX = 2 * UPLOAD, PIECE = 64 * 1024 };

static char piece[PIECE];
static atomic_int refused, firsts;

/* ---- handlers ---- */

static void answer_long(struct front_call *call, int status)
{
    static char text[100 * 1024];

    memset(text, 'r', sizeof(text));
    memcpy(text + sizeof(text) - 4, "END.", 4);
    front_reply(call, status, NULL, 0, SLICE("text/plain"), (struct slice){text, sizeof(text)});
}

static void refuse_at_once(void *ctx, struct front_call *call)
{
    (void)ctx;
    atomic_fetch_add(&refused, 1);
    answer_long(call, 401);
}

struct late {
    struct loop_timer timer;
    struct front_call *call;
};

static void late_fire(struct loop_timer *timer)
{
    answer_long(((struct late *)timer)->call, 429);
    free(timer);
}

static void late_gone(void *ctx)
{
    struct late *late = ctx;

    loop_timer_disarm(front_call_loop(late->call), &late->timer);
    free(late);
}

static void refuse_late(void *ctx, struct front_call *call)
{
    struct late *late = mem_zalloc(sizeof(*late));

    (void)ctx;
    late->call = call;
    loop_timer_init(&late->timer, late_fire);
    front_call_own(call, &(const struct front_owner){.ctx = late, .gone = late_gone});
    loop_timer_arm(front_call_loop(call), &late->timer, 50000);
}

static void answer_first(void *ctx, struct slice bytes)
{
    (void)bytes;
    atomic_fetch_add(&firsts, 1);
    answer_long(ctx, 403);
}

static void abort_first(void *ctx, struct slice bytes)
{
    (void)bytes;
    atomic_fetch_add(&firsts, 1);
    front_abort(ctx);
}

static void stream_first(void *ctx, struct slice bytes)
{
    (void)bytes;
    atomic_fetch_add(&firsts, 1);
    front_start(ctx, 200, NULL, 0, SLICE("text/event-stream"), -1);
    front_send(ctx, SLICE("data: early\n\n"), true);
}

static void never_end(void *ctx, const struct err *err)
{
    (void)ctx;
    (void)err;
    abort(); /* every call was answered before */
}

static void receive(struct front_call *call, void (*data)(void *ctx, struct slice bytes))
{
    front_call_receive(call, &(const struct front_receiver){call, data, never_end});
}

static void first(void *ctx, struct front_call *call)
{
    (void)ctx;
    receive(call, answer_first);
}

static void first_aborts(void *ctx, struct front_call *call)
{
    (void)ctx;
    receive(call, abort_first);
}

static void first_streams(void *ctx, struct front_call *call)
{
    (void)ctx;
    receive(call, stream_first);
}

static const struct front_route routes[] = {
    {"POST", "/sink", sink_now, FRONT_STREAMED, 0},         {"POST", "/sink-late", sink_late, FRONT_STREAMED, 0},
    {"POST", "/refuse", refuse_at_once, FRONT_STREAMED, 0}, {"POST", "/refuse-late", refuse_late, FRONT_STREAMED, 0},
    {"POST", "/first", first, FRONT_STREAMED, 0},           {"POST", "/abort", first_aborts, FRONT_STREAMED, 0},
    {"POST", "/stream", first_streams, FRONT_STREAMED, 0},  {NULL, NULL, NULL, 0, 0},
};

/* ---- early answers ---- */

static void say_head(const struct client *c, const char *path, const char *fields)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\n" HOST "%s\r\n", path, fields);
    client_say(c, text);
}

static void say_upload(const struct client *c, const char *path, bool chunked)
{
    char field[64];

    (void)snprintf(field, sizeof(field), "Content-Length: %d\r\n", UPLOAD);
    say_head(c, path, chunked ? "Transfer-Encoding: chunked\r\n" : field);
}

/* All of it leaves, whatever the answer: a client that is reset on the way never sees the answer. */
static void upload(const struct client *c, bool chunked)
{
    for (int i = 0; i < UPLOAD / PIECE; i++) {
        if (chunked)
            client_say(c, "10000\r\n");
        assert_true(client_send(c, piece, PIECE));
        if (chunked)
            client_say(c, "\r\n");
    }
}

static void test_early_answers_are_read(void **state)
{
    static const struct {
        const char *path, *end;
        int status;
    } ways[] = {{"/refuse", "END.", 401},
                {"/refuse-late", "END.", 429},
                {"/first", "END.", 403},
                {"/nowhere", "Invalid URL", 404},
                {"/stream", "early\n\n", 200}};

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (size_t i = 0; i < 2 * sizeof(ways) / sizeof(ways[0]); i++) {
            struct client c = client_open(tls);
            bool chunked = i % 2 != 0;

            say_upload(&c, ways[i / 2].path, chunked);
            upload(&c, chunked);
            (void)client_hear_all(&c);
            if (heard_status() != ways[i / 2].status || !heard_text(ways[i / 2].end) ||
                !heard_text("Connection: close"))
                fail_msg("%s, tls %d, chunked %d: %.200s", ways[i / 2].path, tls, chunked, heard);
            client_close(&c);
        }
    }
    front_idle();
}

/* It is told at once, not after the upload; and what follows a forsaken body is dropped. */
static void test_early_answers_leave_at_once(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);

        say_upload(&c, "/refuse", false);
        client_hear_until(&c, "END.");
        assert_true(client_send(&c, piece, PIECE));
        client_say(&c, "POST /sink HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(atomic_load(&sink_calls), 0);
        client_close(&c);
    }
}

/* A small rest is not worth a connection. */
static void test_a_small_rest_is_read_over(void **state)
{
    static const char *const paths[] = {"/refuse", "/refuse-late", "/nowhere"};
    char answer[64];

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
            for (size_t before = 0; before <= 1000; before += 500) { /* bytes of 1000 that come before the answer */
                struct client c = client_open(tls);

                say_head(&c, paths[i], "Content-Length: 1000\r\n");
                assert_true(client_send(&c, piece, before));
                client_hear_until(&c, strcmp(paths[i], "/nowhere") == 0 ? "Invalid URL" : "END.");
                assert_false(heard_text("Connection: close"));
                assert_true(client_send(&c, piece, 1000 - before));
                say_head(&c, "/sink", "Content-Length: 3\r\n");
                client_say(&c, "abc");
                client_hear_until(&c, sink_answer("abc", 3, answer));
                client_close(&c);
            }
        }
    }
}

static void test_aborted_within_a_body(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);
        int before = atomic_load(&firsts);

        say_head(&c, "/abort", "Content-Length: 200000\r\n");
        (void)client_send(&c, piece, PIECE);
        (void)client_send(&c, piece, PIECE);
        (void)client_hear_all(&c);
        assert_string_equal(heard, "");
        client_close(&c);
        front_idle();
        assert_int_equal(atomic_load(&firsts), before + 1); /* nothing comes after it */
    }
}

/* ---- Expect ---- */

static void test_continue(void **state)
{
    static const char *const paths[] = {"/sink", "/sink-late"};
    char answer[64];

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);

        for (int i = 0; i < 4; i++) { /* on one connection */
            say_head(&c, paths[i % 2],
                     i < 2 ? "Content-Length: 3\r\nExpect: 100-continue\r\n"
                           : "Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n");
            client_hear_until(&c, "HTTP/1.1 100 Continue\r\n\r\n");
            client_say(&c, i < 2 ? "abc" : "3\r\nabc\r\n0\r\n\r\n");
            client_hear_until(&c, sink_answer("abc", 3, answer));
        }
        client_close(&c);
    }
}

static void test_who_gets_no_continue(void **state)
{
    static const char *const requests[] = {
        "POST /sink HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", /* did not wait */
        "POST /sink HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: something\r\n\r\nabc",
        "POST /sink HTTP/1.0\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    };
    char answer[64];

    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        struct client c = client_open(false);

        client_say(&c, requests[i]);
        client_hear_until(&c, sink_answer("abc", 3, answer));
        assert_int_equal(heard_status(), 200);
        client_close(&c);
    }
}

/* Refused before a byte of the upload; whether the body follows all the same nobody can know, so that is the end. */
static void test_expectations_that_fail(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);
        struct pollfd quiet = {.fd = c.fd, .events = POLLIN};

        say_head(&c, "/refuse", "Content-Length: 3\r\nExpect: 100-continue\r\n");
        client_hear_until(&c, "END.");
        assert_int_equal(heard_status(), 401);
        assert_true(heard_text("Connection: close"));
        assert_int_equal(poll(&quiet, 1, 5000), 1);
        assert_true(client_hear_all(&c));
        assert_string_equal(heard, "");
        client_close(&c);
    }
}

/* ---- set-up ---- */

static int set_up(void **state)
{
    (void)state;
    memset(piece, 'p', sizeof(piece));
    return front_up(routes, BODY_MAX, 30 * CLOCK_SECOND);
}

static int tear_down(void **state)
{
    (void)state;
    front_idle();
    return front_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_early_answers_leave_at_once), /* the first: it counts sinks from 0 */
        cmocka_unit_test(test_early_answers_are_read),      cmocka_unit_test(test_a_small_rest_is_read_over),
        cmocka_unit_test(test_aborted_within_a_body),       cmocka_unit_test(test_continue),
        cmocka_unit_test(test_who_gets_no_continue),        cmocka_unit_test(test_expectations_that_fail),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
