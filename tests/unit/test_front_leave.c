/* test_front_leave.c - clients that leave within a request's body or an idle stream of events, and those that dawdle;
 * on clear text and inside TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_front.h"

/* A second, so that a slow body can be tried. */
#define TIMEOUT CLOCK_SECOND

enum { PIECE = 8 * 1024 };

static char piece[PIECE];

/* ---- a stream of events: one at once, then a comment every 20 ms ---- */

enum { TICK = 20000 };

struct ticker {
    struct loop_timer timer;
    struct front_call *call;
    bool sending;
};

static atomic_int tickers_gone, seen_leaving;

static void tick(struct loop_timer *timer)
{
    struct ticker *ticker = (struct ticker *)timer;

    if (front_call_leaving(ticker->call))
        atomic_fetch_add(&seen_leaving, 1);
    loop_timer_arm(front_call_loop(ticker->call), timer, TICK);
    if (ticker->sending)
        return;
    ticker->sending = true;
    front_send(ticker->call, SLICE(": alive\n\n"), false);
}

static void ticker_ready(void *ctx)
{
    ((struct ticker *)ctx)->sending = false;
}

static void ticker_gone(void *ctx)
{
    struct ticker *ticker = ctx;

    loop_timer_disarm(front_call_loop(ticker->call), &ticker->timer);
    free(ticker);
    atomic_fetch_add(&tickers_gone, 1);
}

static void start_ticker(void *ctx, struct front_call *call)
{
    struct ticker *ticker = mem_zalloc(sizeof(*ticker));

    (void)ctx;
    ticker->call = call;
    ticker->sending = true;
    loop_timer_init(&ticker->timer, tick);
    front_call_own(call, &(const struct front_owner){.ctx = ticker, .gone = ticker_gone, .ready = ticker_ready});
    front_start(call, 200, NULL, 0, SLICE("text/event-stream"), -1);
    front_send(call, SLICE("data: first\n\n"), false);
    loop_timer_arm(front_call_loop(call), &ticker->timer, TICK);
}

static const struct front_route routes[] = {
    {"GET", "/events", start_ticker, 0, 0},
    {"POST", "/sink", sink_now, FRONT_STREAMED, 0},
    {"POST", "/sink-late", sink_late, FRONT_STREAMED, 0},
    {"POST", "/whole", sink_now, 0, 0}, /* the handler never gets it here */
    {NULL, NULL, NULL, 0, 0},
};

static void say_head(const struct client *c, const char *path, const char *fields)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\n" HOST "%s\r\n", path, fields);
    client_say(c, text);
}

static void leave(bool tls, const char *path, const char *fields, const char *body, bool reset)
{
    struct client c = client_open(tls);
    int calls = atomic_load(&sink_calls), gone = atomic_load(&sink_gone);

    say_head(&c, path, fields);
    client_say(&c, body);
    await_at_least(&sink_calls, calls + 1);
    if (reset)
        client_reset(&c);
    else
        client_close(&c);
    await_at_least(&sink_gone, gone + 1);
    front_idle();
    assert_int_equal(atomic_load(&sink_gone), gone + 1);
}

static void test_clients_that_leave(void **state)
{
    (void)state;
    for (int way = 0; way < 8; way++) {
        bool tls = way % 2 != 0, reset = way / 2 % 2 != 0;
        const char *path = way < 4 ? "/sink" : "/sink-late";

        leave(tls, path, "Content-Length: 30\r\n", "", reset);
        leave(tls, path, "Content-Length: 30\r\n", "within", reset);
        leave(tls, path, "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n", reset);
        leave(tls, path, "Content-Length: 30\r\nExpect: 100-continue\r\n", "", reset);
    }
}

/* A client that shuts its side within its body cannot complete it. */
static void test_half_closed_within_a_body(void **state)
{
    struct client c = client_open(false);
    int gone = atomic_load(&sink_gone);

    (void)state;
    say_head(&c, "/sink", "Content-Length: 30\r\n");
    client_say(&c, "within");
    (void)shutdown(c.fd, SHUT_WR);
    await_at_least(&sink_gone, gone + 1);
    (void)client_hear_all(&c);
    assert_string_equal(heard, "");
    client_close(&c);
}

/* While it is collected for a handler, nobody owns it; it counts all the same. */
static void test_leaving_a_body_that_is_collected(void **state)
{
    struct client c = client_open(false);
    int calls = atomic_load(&sink_calls);

    (void)state;
    say_head(&c, "/whole", "Content-Length: 30\r\n");
    client_say(&c, "within");
    for (int i = 0; i < 1000 && front_calls(front) == 0; i++)
        usleep(5000);
    assert_int_equal(front_calls(front), 1);
    client_close(&c);
    front_idle();
    assert_int_equal(atomic_load(&sink_calls), calls);
}

static void test_slow_bodies_end(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct client c = client_open(way % 2 != 0);
        int gone = atomic_load(&sink_gone);
        int64_t begun = clock_mono();

        say_head(&c, "/sink", way < 2 ? "Content-Length: 30\r\n" : "Transfer-Encoding: chunked\r\n");
        while (atomic_load(&sink_gone) == gone && clock_mono() - begun < 5 * TIMEOUT) {
            (void)client_send(&c, way < 2 ? "x" : "1\r\nx\r\n", way < 2 ? 1 : 6); /* some progress, not enough */
            usleep(200000);
        }
        assert_int_equal(atomic_load(&sink_gone), gone + 1);
        assert_in_range(clock_mono() - begun, TIMEOUT * 9 / 10, TIMEOUT * 3);
        client_close(&c);
    }
}

/* What came buys time: this one takes longer than the time-out alone. */
static void test_steady_bodies_go_on(void **state)
{
    enum { STEPS = 16 };

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct client c = client_open(tls);
        char field[64];
        int64_t begun = clock_mono();

        (void)snprintf(field, sizeof(field), "Content-Length: %d\r\n", STEPS * PIECE);
        say_head(&c, "/sink", field);
        for (int i = 0; i < STEPS; i++) {
            assert_true(client_send(&c, piece, PIECE));
            usleep(120000);
        }
        assert_true(clock_mono() - begun > TIMEOUT * 3 / 2);
        client_hear_until(&c, "sink 131072 ");
        client_close(&c);
    }
}

/* Every event leaves by itself. A stream whose client went away is seen to be leaving, and ends at a write. */
static void test_events(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct client c = client_open(way % 2 != 0);
        int before = atomic_load(&tickers_gone), leaving = atomic_load(&seen_leaving);

        client_say(&c, "GET /events HTTP/1.1\r\n" HOST "\r\n");
        client_hear_until(&c, "d\r\ndata: first\n\n\r\n");
        assert_false(heard_text("0\r\n\r\n"));
        for (int i = 0; i < 3; i++)
            client_hear_until(&c, ": alive\n\n\r\n");
        if (way < 2)
            client_close(&c);
        else
            client_reset(&c);
        await_at_least(&tickers_gone, before + 1);
        if (way < 2)
            assert_true(atomic_load(&seen_leaving) > leaving);
    }
    front_idle();
}

/* A half-closing client still hears its events, and is known to be leaving. */
static void test_half_closed_within_events(void **state)
{
    struct client c = client_open(false);
    int before = atomic_load(&tickers_gone), leaving = atomic_load(&seen_leaving);

    (void)state;
    client_say(&c, "GET /events HTTP/1.1\r\n" HOST "\r\n");
    client_hear_until(&c, "data: first");
    (void)shutdown(c.fd, SHUT_WR);
    await_at_least(&seen_leaving, leaving + 1);
    for (int i = 0; i < 3; i++)
        client_hear_until(&c, ": alive\n\n\r\n");
    assert_int_equal(atomic_load(&tickers_gone), before);
    client_close(&c);
    await_at_least(&tickers_gone, before + 1);
}

/* ---- set-up ---- */

static int set_up(void **state)
{
    (void)state;
    memset(piece, 'p', sizeof(piece));
    return front_up(routes, 1024 * 1024, TIMEOUT);
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
        cmocka_unit_test(test_clients_that_leave),
        cmocka_unit_test(test_half_closed_within_a_body),
        cmocka_unit_test(test_leaving_a_body_that_is_collected),
        cmocka_unit_test(test_slow_bodies_end),
        cmocka_unit_test(test_steady_bodies_go_on),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_half_closed_within_events),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
