/* test_front_http1.c - what stands between an HTTP/1 socket and the library: heads that are read in two ways, bodies
 * past the limit, pipelining, answers that come later, on clear text and inside TLS.
 *
 * Handlers that answer from a timer matter most here: that is how real requests are answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_front.h"

enum { BODY_MAX = 100 * 1024, UPLOAD = 8 * 1024 * 1024 };

static atomic_int served, gone;

/* ---- handlers ---- */

struct late {
    struct loop_timer timer;
    struct front_call *call;
};

static void late_gone(void *ctx)
{
    struct late *late = ctx;

    atomic_fetch_add(&gone, 1);
    loop_timer_disarm(front_call_loop(late->call), &late->timer);
    free(late);
}

static void late_fire(struct loop_timer *timer)
{
    struct late *late = (struct late *)timer;
    struct slice body = front_call_body(late->call);
    char text[64];
    int n =
        snprintf(text, sizeof(text), "late %zu%s", body.len, body.len > 0 && body.p[body.len - 1] == 'z' ? " z" : "");

    front_reply(late->call, 200, NULL, 0, SLICE("text/plain"), (struct slice){text, (size_t)n});
    free(late);
}

static void answer_late(void *ctx, struct front_call *call)
{
    struct late *late = mem_zalloc(sizeof(*late));

    (void)ctx;
    atomic_fetch_add(&served, 1);
    late->call = call;
    loop_timer_init(&late->timer, late_fire);
    front_call_own(call, &(const struct front_owner){.ctx = late, .gone = late_gone});
    loop_timer_arm(front_call_loop(call), &late->timer, 20000);
}

static void answer_now(void *ctx, struct front_call *call)
{
    (void)ctx;
    atomic_fetch_add(&served, 1);
    front_reply(call, 200, NULL, 0, SLICE("text/plain"), SLICE("now"));
}

static void ready_never(void *ctx)
{
    (void)ctx;
}

/* An error of unknown length. */
static void stream_error(void *ctx, struct front_call *call)
{
    front_call_own(call, &(const struct front_owner){.ctx = ctx, .gone = ready_never, .ready = ready_never});
    front_start(call, 502, NULL, 0, SLICE("text/plain"), -1);
    front_send(call, SLICE("broken"), true);
}

static const struct front_route routes[] = {
    {"GET", "/now", answer_now, 0, 0},    {"POST", "/now", answer_now, 0, 10},   {"GET", "/late", answer_late, 0, 0},
    {"POST", "/late", answer_late, 0, 0}, {"GET", "/error", stream_error, 0, 0}, {NULL, NULL, NULL, 0, 0},
};

/* ---- tests ---- */

static const char *const two_ways[] = {
    "POST /late HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /late HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "POST /late HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /late HTTP/1.1\r\n" HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "POST /late HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /late HTTP/1.1\r\n" HOST "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "GET /late HTTP/1.1\r\n" HOST "X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /late HTTP/1.1\r\n" HOST HOST "\r\n",
    "GET /late HTTP/1.1\r\n\r\n",
    "NONSENSE\r\n\r\n",
};

/* <before>: what the connection has seen until then. */
static void expect_refused(bool tls, const char *before, const char *after_before, bool pipelined)
{
    for (size_t i = 0; i < sizeof(two_ways) / sizeof(two_ways[0]); i++) {
        struct client c = client_open(tls);
        int count;

        client_say(&c, before);
        if (!pipelined && before[0] != '\0')
            client_hear_until(&c, after_before);
        count = atomic_load(&served);
        client_say(&c, two_ways[i]);
        (void)client_hear_all(&c);
        if (!heard_text("could not be understood") || !heard_text("application/json") ||
            !heard_text("x-request-id: req_"))
            fail_msg("case %zu after \"%s\": %s", i, before, heard);
        if (!pipelined)
            assert_int_equal(atomic_load(&served), count);
        client_close(&c);
    }
}

static void test_refused_wherever_it_stands(void **state)
{
    static const char late[] = "GET /late HTTP/1.1\r\n" HOST "\r\n", now[] = "GET /now HTTP/1.1\r\n" HOST "\r\n";

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        expect_refused(tls, "", NULL, false);
        expect_refused(tls, now, "now", false);
        expect_refused(tls, late, "late 0", false);
        expect_refused(tls, now, "now", true);
        expect_refused(tls, late, "late 0", true);
    }
}

static void test_pipelined_requests_keep_their_order(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);

        client_say(&c, "POST /late HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabzGET /now HTTP/1.1\r\n" HOST
                       "\r\nPOST /late HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n4\r\nabcz\r\n0\r\n\r\n"
                       "GET /now HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
        (void)client_hear_all(&c);
        assert_true(heard_text("late 3 z") && heard_text("late 4 z"));
        assert_true(strstr(heard, "late 3 z") < strstr(heard, "now"));
        assert_true(strstr(strstr(heard, "late 4 z"), "now") != NULL);
        client_close(&c);
    }
}

static void test_bytes_that_come_while_a_handler_works(void **state)
{
    struct client c = client_open(false);

    (void)state;
    client_say(&c, "POST /late HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabz");
    usleep(5000); /* the handler has it, and the answer is not yet due */
    client_say(&c, "GET /now HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    (void)client_hear_all(&c);
    assert_true(heard_text("late 3 z") && heard_text("now"));
    client_close(&c);
}

static void test_a_head_in_single_bytes(void **state)
{
    static const char text[] = "POST /late HTTP/1.1\r\n" HOST "Content-Length: 2\r\nConnection: close\r\n\r\nxz";
    struct client c = client_open(false);

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        assert_true(client_send(&c, text + i, 1));
        usleep(200);
    }
    (void)client_hear_all(&c);
    assert_true(heard_text("late 2 z"));
    client_close(&c);
}

/* All of it leaves, whatever the answer: a client that is reset on the way never sees the answer. */
static void expect_413(const char *before, bool chunked)
{
    static char piece[8 + 65536 + 2];
    struct client c = client_open(false);
    bool sent = true;

    memcpy(piece, "010000\r\n", 8);
    memset(piece + 8, 'x', sizeof(piece) - 10);
    memcpy(piece + sizeof(piece) - 2, "\r\n", 2);
    if (before[0] != '\0') {
        client_say(&c, before);
        client_hear_until(&c, "late 0");
    }
    client_say(&c, chunked ? "POST /late HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                           : "POST /late HTTP/1.1\r\n" HOST "Content-Length: 8388608\r\n\r\n");
    for (int i = 0; i < UPLOAD / 65536 && sent; i++)
        sent = client_send(&c, piece, sizeof(piece));
    assert_true(sent);
    (void)client_hear_all(&c);
    assert_true(strncmp(heard, "HTTP/1.1 413", 12) == 0 && heard_text("request_too_large"));
    assert_true((heard_text("connection: close") || heard_text("Connection: close")));
    client_close(&c);
}

static void test_too_large_is_told_and_not_reset(void **state)
{
    int count = atomic_load(&served);

    (void)state;
    expect_413("", false);
    expect_413("", true);
    assert_int_equal(atomic_load(&served), count);
    expect_413("GET /late HTTP/1.1\r\n" HOST "\r\n", false);
    expect_413("GET /late HTTP/1.1\r\n" HOST "\r\n", true);
}

static void test_continue(void **state)
{
    struct client c = client_open(false);

    (void)state;
    for (int i = 0; i < 2; i++) { /* twice on one connection */
        client_say(&c, "POST /late HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        client_hear_until(&c, "100 Continue\r\n\r\n");
        client_say(&c, "abz");
        client_hear_until(&c, "late 3 z");
    }
    client_say(&c, "POST /late HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 8388608\r\n\r\n");
    (void)client_hear_all(&c); /* refused before a byte of the body */
    assert_int_equal(strncmp(heard, "HTTP/1.1 413", 12), 0);
    client_close(&c);
}

static void test_head_has_no_body(void **state)
{
    struct client c = client_open(false);

    (void)state;
    client_say(&c, "HEAD /now HTTP/1.1\r\n" HOST "\r\nHEAD /nowhere HTTP/1.1\r\n" HOST
                   "\r\nHEAD /error HTTP/1.1\r\n" HOST "\r\nGET /now HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
    (void)client_hear_all(&c);
    assert_true(heard_text("Content-Length: 3\r\n") && heard_text("HTTP/1.1 404") && heard_text("HTTP/1.1 502"));
    assert_null(strstr(heard, "Invalid URL"));
    assert_null(strstr(heard, "broken"));
    assert_string_equal(strstr(heard, "now"), "now"); /* once, at the end */
    client_close(&c);
}

static void test_unknown_lengths(void **state)
{
    struct client c = client_open(false);

    (void)state;
    client_say(&c, "GET /error HTTP/1.1\r\n" HOST "\r\n"); /* no 200, and chunked all the same: its end can be seen */
    client_hear_until(&c, "6\r\nbroken\r\n0\r\n\r\n");
    assert_int_equal(strncmp(heard, "HTTP/1.1 502", 12), 0);
    client_say(&c, "GET /now HTTP/1.1\r\n" HOST "\r\n");
    client_hear_until(&c, "now");
    client_close(&c);
    c = client_open(false);
    client_say(&c, "GET /error HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    (void)client_hear_all(&c); /* its end is the connection's */
    assert_true(heard_text("\r\n\r\nbroken") && !heard_text("chunked"));
    client_close(&c);
}

static void test_leaving_while_a_handler_works(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (int i = 0; i < 20; i++) {
            struct client c = client_open(tls);
            const struct linger reset = {1, 0};

            client_say(&c, "GET /late HTTP/1.1\r\n" HOST "\r\n");
            usleep((useconds_t)i * 1500); /* before, at and after the answer */
            if (i % 2 == 0)
                (void)setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
            client_close(&c);
        }
    }
    for (int i = 0; i < 400 && front_calls(front) > 0; i++)
        usleep(5000);
    assert_int_equal(front_calls(front), 0);
}

/* ---- set-up ---- */

static int open_front(void **state)
{
    (void)state;
    return front_up(routes, BODY_MAX, 30 * CLOCK_SECOND);
}

static int close_front(void **state)
{
    (void)state;
    return front_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_wherever_it_stands),
        cmocka_unit_test(test_pipelined_requests_keep_their_order),
        cmocka_unit_test(test_bytes_that_come_while_a_handler_works),
        cmocka_unit_test(test_a_head_in_single_bytes),
        cmocka_unit_test(test_too_large_is_told_and_not_reset),
        cmocka_unit_test(test_continue),
        cmocka_unit_test(test_head_has_no_body),
        cmocka_unit_test(test_unknown_lengths),
        cmocka_unit_test(test_leaving_while_a_handler_works),
    };

    return cmocka_run_group_tests(tests, open_front, close_front);
}
