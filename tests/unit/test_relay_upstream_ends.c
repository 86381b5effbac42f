/* test_relay_upstream_ends.c - how calls end, seen from the money's side: whole, not reached, broken, too late,
 * cancelled; and that no request is ever sent twice. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib_upstream.h"

/* The first connection answers once, takes one more request and closes; later ones answer all. */
static void serve_close_second(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, PEER_HEAD PEER_BODY);
    if (p->number == 1)
        (void)peer_read(p);
    else
        while (peer_read(p))
            peer_say(p, PEER_HEAD PEER_BODY);
}

/* The same, but it has seen no more than the head when it closes. */
static void serve_close_at_head(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, PEER_HEAD PEER_BODY);
    if (p->number == 1)
        (void)peer_read_head(p);
    else
        while (peer_read(p))
            peer_say(p, PEER_HEAD PEER_BODY);
}

/* One call that leaves a connection to reuse, and one that dies on it. */
static void expect_once(peer_fn *serve, const struct upstream_part *body, int n_body)
{
    struct call a, b;

    calls_begin_case(serve);
    call_init(&a);
    call_run(&a);
    assert_int_equal(a.end, UPSTREAM_COMPLETE);
    call_init(&b);
    memcpy(b.request.body, body, (size_t)n_body * sizeof(*body));
    b.request.n_body = n_body;
    call_run(&b);
    assert_int_equal(b.end, UPSTREAM_BROKEN);
    assert_int_equal(b.heads, 0);
    assert_true(b.why[0] != '\0');
    call_dispose(&a);
    call_dispose(&b);
}

/* A reused connection that dies under the request: the upstream may be at work on it, so no second copy is sent. */
static void test_sent_once(void **state)
{
    enum { LONG = 3000000 };
    char *text = malloc(LONG);
    const struct upstream_part small[] = {{.bytes = SLICE("{\"model\":")}, {.bytes = SLICE("\"other\"}")}};
    const struct upstream_part large[] = {{.bytes = {text, LONG / 2}}, {.bytes = {text, LONG / 2}}};

    (void)state;
    memset(text, 'x', LONG);
    expect_once(serve_close_second, small, 1);
    assert_int_equal(atomic_load(&peer_server.requests), 2);
    expect_once(serve_close_second, small, 2);
    assert_int_equal(atomic_load(&peer_server.requests), 2);
    expect_once(serve_close_second, large, 1);
    assert_int_equal(atomic_load(&peer_server.requests), 2);
    expect_once(serve_close_second, large, 2);
    assert_int_equal(atomic_load(&peer_server.requests), 2);
    expect_once(serve_close_at_head, large, 1);
    expect_once(serve_close_at_head, large, 2);
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    free(text);
}

/* ---- sends that fail ---- */

/* libcurl's sends come here: on the loop's thread, `pass` of them go through and then `fail` of them do not. */
static struct {
    pthread_t loop;
    atomic_int pass, fail;
    int error;
} sends;

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    if (atomic_load(&sends.fail) > 0 && pthread_equal(pthread_self(), sends.loop)) {
        if (atomic_load(&sends.pass) > 0) {
            atomic_fetch_sub(&sends.pass, 1);
        } else {
            atomic_fetch_sub(&sends.fail, 1);
            errno = sends.error;
            return -1;
        }
    }
    return sendto(fd, bytes, len, flags, NULL, 0);
}

static void learn_thread(void *arg)
{
    *(pthread_t *)arg = pthread_self();
}

static void fail_send(int pass, int error)
{
    calls_on_loop(learn_thread, &sends.loop);
    sends.error = error;
    atomic_store(&sends.pass, pass);
    atomic_store(&sends.fail, 1);
}

static void expect_end(enum upstream_end end, struct slice body)
{
    struct call c;

    call_init(&c);
    c.request.body[0].bytes = body;
    call_run(&c);
    assert_int_equal(atomic_load(&sends.fail), 0);
    assert_int_equal(c.end, end);
    call_dispose(&c);
}

static void leave_connection(peer_fn *serve)
{
    struct call c;

    calls_begin_case(serve);
    call_init(&c);
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    call_dispose(&c);
}

static void test_failing_sends(void **state)
{
    static char text[200000];
    const struct slice small = SLICE("{}"), large = {text, sizeof(text)};

    (void)state;
    memset(text, 'x', sizeof(text));

    /* Reused, and not a byte of it left: it goes on a fresh connection, and arrives once. */
    leave_connection(peer_serve_whole);
    fail_send(0, EPIPE);
    expect_end(UPSTREAM_COMPLETE, small);
    assert_int_equal(atomic_load(&peer_server.connections), 2);
    assert_int_equal(atomic_load(&peer_server.requests), 2);

    /* Reused, and the head left. */
    leave_connection(peer_serve_whole);
    fail_send(1, EPIPE);
    expect_end(UPSTREAM_BROKEN, large);
    assert_int_equal(atomic_load(&peer_server.requests), 1);

    /* Reused, nothing at the first try but all of it at the second: no doubt that it left. */
    leave_connection(serve_close_second);
    fail_send(0, EAGAIN);
    expect_end(UPSTREAM_BROKEN, small);
    assert_int_equal(atomic_load(&peer_server.requests), 2);

    /* A fresh connection, and not a byte. */
    calls_begin_case(peer_serve_whole);
    fail_send(0, EPIPE);
    expect_end(UPSTREAM_UNREACHED, small);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
}

static void serve_close_after_reply(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, PEER_HEAD PEER_BODY);
}

/* A resting connection that the upstream closes is noticed without spinning, and replaced. */
static void test_closed_while_resting(void **state)
{
    (void)state;
    calls_begin_case(serve_close_after_reply);
    for (int i = 1; i <= 3; i++) {
        struct call c;

        call_init(&c);
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_dispose(&c);
        usleep(50000);
        assert_int_equal(atomic_load(&peer_server.connections), i);
    }
}

/* One that rested long is not used again, although it is open: the upstream may be about to close it. */
static void test_rested(void **state)
{
    (void)state;
    leave_connection(peer_serve_whole);
    expect_end(UPSTREAM_COMPLETE, SLICE("{}"));
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    usleep(4200000);
    expect_end(UPSTREAM_COMPLETE, SLICE("{}"));
    assert_int_equal(atomic_load(&peer_server.connections), 2);
}

static void test_broken_before_reply(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(peer_serve_silence);
    call_init(&c);
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_BROKEN);
    assert_int_equal(c.heads, 0);
    assert_true(c.why[0] != '\0');
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    call_dispose(&c);
}

static void serve_half(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, PEER_HEAD "{\"da");
}

static void serve_half_chunk(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"da");
}

static void test_broken_inside_reply(void **state)
{
    peer_fn *const serves[] = {serve_half, serve_half_chunk};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call c;

        calls_begin_case(serves[i]);
        call_init(&c);
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_BROKEN);
        assert_int_equal(c.status, 200);
        call_expect_body(&c, "{\"da");
        call_dispose(&c);
    }
}

static void serve_garbage(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, "SSH-2.0-nonsense\r\n\r\n");
}

static void serve_endless_head(struct peer *p)
{
    char line[1024];

    (void)peer_read(p);
    memset(line, 'x', sizeof(line));
    memcpy(line, "X-Long: ", 8);
    memcpy(line + sizeof(line) - 3, "\r\n", 3);
    peer_say(p, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 1000; i++)
        peer_say(p, line);
}

static void test_no_http(void **state)
{
    peer_fn *const serves[] = {serve_garbage, serve_endless_head};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call c;

        calls_begin_case(serves[i]);
        call_init(&c);
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_BROKEN);
        assert_int_equal(c.heads, 0);
        assert_int_equal(c.body.len, 0);
        call_dispose(&c);
    }
}

static void expect_unreached(const char *url, const char *why)
{
    struct upstream_route *route = calls_route("POST", url);
    struct call c;

    call_init(&c);
    c.request.route = route;
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_UNREACHED);
    if (strstr(c.why, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", c.why, why);
    call_dispose(&c);
    calls_drop_route(route);
}

static void test_unreached(void **state)
{
    char url[64];
    int fd;

    (void)state;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/", peer_listen(&fd, 1));
    close(fd); /* nobody listens there now */
    calls_begin_case(peer_serve_whole);
    expect_unreached(url, "Failed to connect to 127.0.0.1");
    expect_unreached("http://no-such-host.invalid/", "Could not resolve host: no-such-host.invalid");
    expect_unreached("ftp://127.0.0.1/", "Protocol \"ftp\"");
}

static void test_connect_timeout(void **state)
{
    enum { FILL = 8 };
    struct call c;
    int fd, fill[FILL];
    uint16_t port = peer_listen(&fd, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    struct upstream_route *route;

    (void)state;
    for (int i = 0; i < FILL; i++) { /* a full backlog drops what comes */
        fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fill[i], (struct sockaddr *)&in, sizeof(in));
    }
    calls_begin_case(peer_serve_whole);
    route = calls_route_to("POST", port);
    call_init(&c);
    c.request.route = route;
    c.request.connect_timeout = SECOND / 3;
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_CONNECT_TIMED_OUT);
    call_dispose(&c);
    calls_drop_route(route);
    for (int i = 0; i < FILL; i++)
        close(fill[i]);
    close(fd);
}

static void serve_head_and_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, PEER_HEAD "{\"da");
    peer_wait_end(p);
}

static void test_timeout(void **state)
{
    peer_fn *const serves[] = {peer_serve_hang, serve_head_and_hang};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call c;

        calls_begin_case(serves[i]);
        call_init(&c);
        c.request.timeout = SECOND / 4;
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_TIMED_OUT);
        assert_int_equal(c.status, i == 0 ? 0 : 200);
        call_dispose(&c);
    }
}

static void serve_notice_end(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789");
}

static void start_and_cancel(void *arg)
{
    call_start(arg);
    call_cancel(arg);
}

static void test_cancel(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(serve_notice_end);
    call_init(&c); /* at once: nothing is sent */
    calls_on_loop(start_and_cancel, &c);
    call_wait(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
    call_dispose(&c);

    call_init(&c); /* from the data */
    c.cancel_at = 10;
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    call_dispose(&c);

    calls_begin_case(peer_serve_hang);
    call_init(&c); /* from outside, while the upstream thinks */
    calls_on_loop(call_start, &c);
    while (atomic_load(&peer_server.requests) == 0)
        usleep(1000);
    calls_on_loop(call_cancel, &c);
    call_wait(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    assert_string_equal(c.why, "cancelled");
    call_dispose(&c);
    while (atomic_load(&peer_server.ended) < 1) /* the upstream saw the end */
        usleep(1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sent_once),
        cmocka_unit_test(test_failing_sends),
        cmocka_unit_test(test_closed_while_resting),
        cmocka_unit_test(test_rested),
        cmocka_unit_test(test_broken_before_reply),
        cmocka_unit_test(test_broken_inside_reply),
        cmocka_unit_test(test_no_http),
        cmocka_unit_test(test_unreached),
        cmocka_unit_test(test_connect_timeout),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_cancel),
    };

    return cmocka_run_group_tests(tests, calls_set_up, calls_tear_down);
}
