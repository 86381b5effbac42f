/* test_front.c - a real front on a free port, driven by raw sockets: routes, errors, streams, clients that leave,
 * timers, mail.
 *
 * Handlers run on the front's one loop; what they note for the test thread is atomic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/front/front.h"

enum { BODY_MAX = 1000, STREAM_PIECE = 64 * 1024, STREAM_PIECES = 200, REPLY_MAX = 1 << 20 };

static struct front *front;
static int port;
static atomic_int gone_count, fired, delivered;
static atomic_llong streamed;

/* ---- handlers ---- */

static void hello(void *ctx, struct front_call *call)
{
    struct buf out;
    char q[32] = "";

    (void)ctx;
    (void)front_query_get(front_call_query(call), "q", q, sizeof(q));
    buf_init(&out, REPLY_MAX);
    buf_printf(&out, "hello %.*s %s %zu", (int)front_call_param(call).len, front_call_param(call).p, q,
               front_call_body(call).len);
    front_reply(call, 200, NULL, 0, SLICE("text/plain"), buf_slice(&out));
    buf_dispose(&out);
}

static void count_gone(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&gone_count, 1);
}

static void hold_for_ever(void *ctx, struct front_call *call)
{
    (void)ctx;
    front_call_own(call, &(const struct front_owner){.gone = count_gone});
}

struct stream {
    struct front_call *call;
    int sent;
    bool breaks; /* off after half */
    char piece[STREAM_PIECE];
};

static void stream_step(void *ctx)
{
    struct stream *s = ctx;
    bool last = ++s->sent == STREAM_PIECES;

    if (s->breaks && s->sent > STREAM_PIECES / 2) {
        front_abort(s->call);
        free(s);
        return;
    }
    atomic_fetch_add(&streamed, STREAM_PIECE);
    front_send(s->call, (struct slice){s->piece, STREAM_PIECE}, last);
    if (last)
        free(s);
}

static void stream_gone(void *ctx)
{
    count_gone(ctx);
    free(ctx);
}

static void start_stream(struct front_call *call, bool breaks)
{
    struct stream *s = mem_zalloc(sizeof(*s));

    memset(s->piece, 'x', sizeof(s->piece));
    s->call = call;
    s->breaks = breaks;
    front_call_own(call, &(const struct front_owner){.ctx = s, .gone = stream_gone, .ready = stream_step});
    front_start(call, 200, NULL, 0, SLICE("text/plain"), breaks ? (int64_t)STREAM_PIECE * STREAM_PIECES : -1);
    stream_step(s);
}

static void stream_whole(void *ctx, struct front_call *call)
{
    (void)ctx;
    start_stream(call, false);
}

static void stream_broken(void *ctx, struct front_call *call)
{
    (void)ctx;
    start_stream(call, true);
}

static void abort_at_once(void *ctx, struct front_call *call)
{
    (void)ctx;
    front_abort(call);
}

static const struct front_route routes[] = {
    {"GET", "/hello/{id}", hello, 0, 0},
    {"POST", "/hello/{id}", hello, 0, 10},
    {"GET", "/deep/{rest}", hello, 0, 0},
    {"GET", "/hold", hold_for_ever, 0, 0},
    {"GET", "/stream", stream_whole, 0, 0},
    {"GET", "/broken", stream_broken, 0, 0},
    {"GET", "/abort", abort_at_once, 0, 0},
    {"POST", "/big", hello, 0, 0},
    {NULL, NULL, NULL, 0, 0},
};

/* ---- a client ---- */

static int connect_to_front(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const struct timeval patience = {.tv_sec = 10};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Everything until the peer closes. */
static size_t read_all(int fd, char *out, size_t cap)
{
    size_t n = 0;
    ssize_t got;

    while (n < cap - 1 && (got = recv(fd, out + n, cap - 1 - n, 0)) > 0)
        n += (size_t)got;
    out[n] = '\0';
    return n;
}

static char reply[REPLY_MAX];

/* One request on a connection of its own, answered and closed. */
static const char *ask(const char *request)
{
    int fd = connect_to_front();

    send_text(fd, request);
    (void)shutdown(fd, SHUT_WR); /* a half-closing client still gets its answer */
    (void)read_all(fd, reply, sizeof(reply));
    close(fd);
    return reply;
}

static void await_count(atomic_int *counter, int value)
{
    for (int i = 0; i < 1000 && atomic_load(counter) < value; i++)
        usleep(5000);
    assert_int_equal(atomic_load(counter), value);
}

/* ---- tests ---- */

static void test_routes(void **state)
{
    (void)state;
    assert_non_null(
        strstr(ask("GET /hello/a%20b?q=1%2B1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "hello a b 1+1 0"));
    assert_non_null(strstr(reply, "x-request-id: req_"));
    assert_non_null(strstr(ask("GET /deep/a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "hello a/b"));
}

static void test_errors_are_objects(void **state)
{
    static const struct {
        const char *request, *status, *text;
    } cases[] = {
        {"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "Invalid URL (GET /nowhere)"},
        {"GET /hello/a/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "Invalid URL"},
        {"GET /hello%2fa HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "Invalid URL"},
        {"GET //hello/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "Invalid URL"},
        {"GET /x/../hello/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404", "Invalid URL"},
        {"PUT /hello/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 405",
         "Not allowed to PUT on /hello/a."},
        {"POST /hello/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 11\r\n\r\n01234567890",
         "HTTP/1.1 413", "request_too_large"},
        {"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", "HTTP/1.1 413", "request_too_large"},
        {"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "HTTP/1.1 400", "error"},
        {"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 400", "error"},
        {"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nx", "HTTP/1.1 400", "error"},
        {"POST /big HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nx", "HTTP/1.1 400", "error"},
        {"GARBAGE\r\n\r\n", "HTTP/1.1 400", "could not be understood"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)ask(cases[i].request);
        assert_int_equal(strncmp(reply, cases[i].status, strlen(cases[i].status)), 0);
        assert_non_null(strstr(reply, cases[i].text));
        assert_non_null(strstr(reply, "x-request-id: req_"));
        assert_non_null(strstr(reply, "content-type: application/json"));
    }
    assert_non_null(strstr(ask("PUT /hello/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), "allow: GET, POST"));
}

static void test_chunked_body_past_the_limit(void **state)
{
    char request[4096] = "POST /big HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n";
    size_t at = strlen(request);

    (void)state;
    memset(request + at, 'x', 0x7d0);
    memcpy(request + at + 0x7d0, "\r\n0\r\n\r\n", 8);
    (void)ask(request);
    assert_int_equal(strncmp(reply, "HTTP/1.1 413", 12), 0);
    assert_non_null(strstr(reply, "request_too_large"));
}

static void test_pipelining_and_later_garbage(void **state)
{
    int fd = connect_to_front();
    char *second;

    (void)state;
    send_text(fd, "GET /hello/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /hello/2 HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(100000);
    send_text(fd, "NONSENSE\r\n\r\n"); /* on a connection that has answered before */
    (void)read_all(fd, reply, sizeof(reply));
    close(fd);
    second = strstr(reply, "hello 2");
    assert_non_null(strstr(reply, "hello 1"));
    assert_non_null(second);
    assert_true(strstr(reply, "hello 1") < second);
    assert_non_null(strstr(second, "could not be understood"));
}

static void test_slow_reader_holds_the_stream_back(void **state)
{
    int fd = connect_to_front();
    size_t total = 0;
    ssize_t n;

    (void)state;
    atomic_store(&streamed, 0);
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    usleep(300000);
    assert_true(atomic_load(&streamed) < (long long)STREAM_PIECE * STREAM_PIECES); /* the kernel's buffers are full */
    while ((n = recv(fd, reply, sizeof(reply), 0)) > 0)
        total += (size_t)n;
    close(fd);
    assert_true(total > (size_t)STREAM_PIECE * STREAM_PIECES);
    assert_int_equal(atomic_load(&streamed), (long long)STREAM_PIECE * STREAM_PIECES);
}

static void test_aborts_show(void **state)
{
    int fd = connect_to_front();
    size_t total = 0;
    ssize_t n;

    (void)state;
    send_text(fd, "GET /broken HTTP/1.1\r\nHost: x\r\n\r\n");
    while ((n = recv(fd, reply, sizeof(reply), 0)) > 0)
        total += (size_t)n;
    close(fd);
    assert_true(total < (size_t)STREAM_PIECE * STREAM_PIECES);
    assert_int_equal(strlen(ask("GET /abort HTTP/1.1\r\nHost: x\r\n\r\n")), 0);
}

static void test_clients_that_leave(void **state)
{
    int before = atomic_load(&gone_count);
    int fd = connect_to_front();
    const struct linger reset = {1, 0};

    (void)state;
    send_text(fd, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(200000);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd); /* with a reset, while the stream waits for it */
    await_count(&gone_count, before + 1);
}

static void fire(struct loop_timer *timer)
{
    (void)timer;
    atomic_fetch_add(&fired, 1);
}

struct test_mail {
    struct mail super;
    struct loop_timer *timers;
    int n;
};

static void deliver(struct mail *mail)
{
    struct test_mail *m = (struct test_mail *)mail;
    struct loop *loop = front_loop(front, 0);

    atomic_fetch_add(&delivered, 1);
    for (int i = 0; i < m->n; i++) {
        loop_timer_init(&m->timers[i], fire);
        loop_timer_arm(loop, &m->timers[i], (i * 7919) % 50 * 1000);
    }
    for (int i = 0; i < m->n; i += 2)
        loop_timer_disarm(loop, &m->timers[i]);
}

static void *post_many(void *arg)
{
    struct test_mail *mails = arg;

    for (int i = 0; i < 1000; i++) {
        mails[i].super = (struct mail){.deliver = deliver};
        mailbox_post(loop_mailbox(front_loop(front, 0)), &mails[i].super);
    }
    return NULL;
}

static void test_timers_and_mail(void **state)
{
    static struct loop_timer timers[100];
    static struct test_mail one = {.timers = timers, .n = 100}, many[4][1000];
    pthread_t threads[4];

    (void)state;
    one.super = (struct mail){.deliver = deliver};
    mailbox_post(loop_mailbox(front_loop(front, 0)), &one.super);
    await_count(&fired, 50); /* every other one was disarmed */
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, many[i]), 0);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    await_count(&delivered, 4001);
    usleep(100000);
    assert_int_equal(atomic_load(&fired), 50);
}

static void test_drain(void **state)
{
    int idle = connect_to_front(), busy = connect_to_front();
    int before = atomic_load(&gone_count);

    (void)state;
    send_text(busy, "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
    send_text(idle, "GET /hello/1 HTTP/1.1\r\nHost: x\r\n\r\n");
    usleep(100000);
    assert_true(front_alive(front, 5 * CLOCK_SECOND));
    assert_int_equal(front_calls(front), 1);
    front_drain(front);
    usleep(100000);
    assert_true(front_draining(front));
    send_text(idle,
              "GET /hello/2 HTTP/1.1\r\nHost: x\r\n\r\n"); /* open connections are served once more, then closed */
    (void)read_all(idle, reply, sizeof(reply));
    assert_non_null(strstr(reply, "hello 2"));
    assert_non_null(strstr(reply, "Connection: close"));
    assert_int_equal(front_calls(front), 1);
    assert_int_equal(atomic_load(&gone_count), before);
    close(idle);
    close(busy);
}

static int open_front(void **state)
{
    static const char *const addresses[] = {"127.0.0.1:0"};
    const struct front_listener listener = {.addresses = addresses,
                                            .n_addresses = 1,
                                            .http2 = true,
                                            .max_body = BODY_MAX,
                                            .request_timeout = 30 * CLOCK_SECOND,
                                            .is_public = true,
                                            .routes = routes};
    const struct front_options options = {
        .threads = 1, .max_connections = 100, .listeners = &listener, .n_listeners = 1};
    struct buf text;
    struct err err;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    log_init(LEVEL_ERROR);
    if (front_open(&options, &front, &err) != ERR_OK || front_start_loops(front, &err) != ERR_OK)
        return -1;
    buf_init(&text, LIMIT_URL);
    front_addresses(front, 0, &text);
    buf_append_char(&text, '\0');
    port = atoi(strrchr(text.p, ':') + 1);
    buf_dispose(&text);
    return 0;
}

static int close_front(void **state)
{
    (void)state;
    front_stop(front);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_errors_are_objects),
        cmocka_unit_test(test_chunked_body_past_the_limit),
        cmocka_unit_test(test_pipelining_and_later_garbage),
        cmocka_unit_test(test_slow_reader_holds_the_stream_back),
        cmocka_unit_test(test_aborts_show),
        cmocka_unit_test(test_clients_that_leave),
        cmocka_unit_test(test_timers_and_mail),
        cmocka_unit_test(test_drain), /* the last: nothing is accepted after it */
    };

    return cmocka_run_group_tests(tests, open_front, close_front);
}
