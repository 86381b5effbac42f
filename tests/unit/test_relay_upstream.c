/* test_relay_upstream.c - calls by libcurl inside a real loop, against a server that does as each case says.
 *
 * The cases run on the main thread and post their steps to the loop; the server is lib_peer.h's. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/attrs.h"
#include "daemon/base/buf.h"
#include "daemon/base/secret.h"
#include "daemon/front/front.h"
#include "daemon/relay/address.h"
#include "daemon/relay/upstream.h"
#include "lib_peer.h"

#define SECOND INT64_C(1000000)

enum { MOST = 64 * 1024 * 1024 };

/* ---- the loop ---- */

static struct {
    struct front *front;
    struct loop *loop;
    struct upstream_pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t changed;
} house;

struct step {
    struct mail mail;
    void (*run)(void *arg);
    void *arg;
    bool done;
};

static void run_step(struct mail *mail)
{
    struct step *step = TG_CONTAINER(struct step, mail, mail);

    step->run(step->arg);
    pthread_mutex_lock(&house.lock);
    step->done = true;
    pthread_cond_broadcast(&house.changed);
    pthread_mutex_unlock(&house.lock);
}

/* Runs a function on the loop's thread and waits for it. */
static void on_loop(void (*run)(void *arg), void *arg)
{
    struct step step = {.mail = {.deliver = run_step}, .run = run, .arg = arg};

    mailbox_post(loop_mailbox(house.loop), &step.mail);
    pthread_mutex_lock(&house.lock);
    while (!step.done)
        pthread_cond_wait(&house.changed, &house.lock);
    pthread_mutex_unlock(&house.lock);
}

/* ---- a call ---- */

struct call {
    struct upstream_request request;
    struct upstream *u;
    struct upstream_pool *pool; /* NULL: the common one */
    struct loop_timer timer;
    /* what to do */
    int pause_every;   /* take nothing of every n-th piece, resume from a timer */
    int64_t rest;      /* how long the pause lasts, microseconds */
    size_t cancel_at;  /* cancel when that many bytes have come */
    bool pause_early;  /* upstream_pause from the head, resumed from a timer */
    struct call *then; /* start this one from done */
    /* what came */
    int heads, status, pieces;
    int64_t content_length;
    char id[64], type[64];
    struct buf body;
    bool done;
    enum upstream_end end;
    char why[256];
};

static void start(void *arg);

static void wake(struct loop_timer *timer)
{
    upstream_resume(TG_CONTAINER(struct call, timer, timer)->u);
}

static void on_head(void *ctx, struct upstream *u, int status)
{
    struct call *c = ctx;

    c->heads++;
    c->status = status;
    c->content_length = upstream_content_length(u);
    (void)slice_copy(upstream_header(u, "x-request-id"), c->id, sizeof(c->id));
    (void)slice_copy(upstream_header(u, "Content-Type"), c->type, sizeof(c->type));
    if (c->pause_early) {
        upstream_pause(u);
        loop_timer_arm(house.loop, &c->timer, c->rest);
    }
}

static size_t on_data(void *ctx, struct upstream *u, const char *bytes, size_t len)
{
    struct call *c = ctx;

    c->pieces++;
    if (c->pause_every != 0 && c->pieces % c->pause_every == 0) {
        loop_timer_arm(house.loop, &c->timer, c->rest);
        return 0;
    }
    buf_append(&c->body, bytes, len);
    if (c->cancel_at != 0 && c->body.len >= c->cancel_at)
        upstream_cancel(u);
    return len;
}

static void on_done(void *ctx, struct upstream *u, enum upstream_end end, const char *why)
{
    struct call *c = ctx;

    (void)u;
    loop_timer_disarm(house.loop, &c->timer);
    c->end = end;
    snprintf(c->why, sizeof(c->why), "%s", why);
    if (c->then != NULL)
        start(c->then);
    pthread_mutex_lock(&house.lock);
    c->done = true;
    pthread_cond_broadcast(&house.changed);
    pthread_mutex_unlock(&house.lock);
}

static void start(void *arg)
{
    struct call *c = arg;
    const struct upstream_callbacks callbacks = {c, on_head, on_data, on_done};

    loop_timer_init(&c->timer, wake);
    c->u = upstream_start(c->pool != NULL ? c->pool : house.pool, &c->request, &callbacks);
    assert_int_equal(c->heads + c->pieces, 0); /* nothing runs inside */
    assert_false(c->done);
}

static void wait_for(struct call *c)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    pthread_mutex_lock(&house.lock);
    while (!c->done)
        assert_int_equal(pthread_cond_timedwait(&house.changed, &house.lock, &until), 0);
    pthread_mutex_unlock(&house.lock);
}

static void run(struct call *c)
{
    on_loop(start, c);
    wait_for(c);
}

static void drop_route(void *arg)
{
    upstream_route_unref(arg);
}

struct make {
    const char *method, *url;
    struct upstream_route *route;
};

static void make_route(void *arg)
{
    static const char *const headers[] = {"Authorization: Bearer sk-upstream", "Content-Type: application/json",
                                          "Accept-Encoding: identity", "Expect:"};
    struct make *m = arg;

    m->route = upstream_route_create(m->method, m->url, headers, 4);
}

static struct upstream_route *route_to(const char *method, uint16_t port)
{
    char url[64];
    struct make m = {.method = method, .url = url};

    snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1/images", port);
    on_loop(make_route, &m);
    return m.route;
}

static struct upstream_route *post_route;

static void call_init(struct call *c)
{
    memset(c, 0, sizeof(*c));
    buf_init(&c->body, MOST);
    c->request.route = post_route;
    c->request.header = "x-client-request-id: req_1";
    c->request.body[0] = SLICE("{\"prompt\":\"a cat\"}");
    c->request.n_body = 1;
    c->request.timeout = 20 * SECOND;
    c->request.connect_timeout = 5 * SECOND;
}

static void call_dispose(struct call *c)
{
    buf_dispose(&c->body);
}

static void expect_body(const struct call *c, const char *text)
{
    assert_int_equal(c->body.len, strlen(text));
    assert_memory_equal(c->body.p, text, c->body.len);
}

/* Old connections out of the way: the pool is made anew. */
static void renew_pool(void *arg)
{
    (void)arg;
    if (house.pool != NULL)
        upstream_pool_destroy(house.pool);
    house.pool = upstream_pool_create(house.loop, NULL, false);
}

static void begin_case(peer_fn *serve)
{
    on_loop(renew_pool, NULL);
    peer_server_reset(serve);
}

/* ---- cases ---- */

#define WHOLE                                                                                                          \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: old\r\nx-request-id: "                         \
    "req_up\r\nContent-Length: 11\r\n\r\n"

static void serve_whole(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, WHOLE "{\"data\":[]}");
}

static void test_whole(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_whole);
    call_init(&c);
    run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.heads, 1);
    assert_int_equal(c.status, 200);
    assert_int_equal(c.content_length, 11);
    assert_string_equal(c.id, "req_up");
    assert_string_equal(c.type, "application/json");
    assert_string_equal(c.why, "");
    expect_body(&c, "{\"data\":[]}");
    call_dispose(&c);

    assert_non_null(strstr(peer_server.last, "POST /v1/images HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAuthorization: Bearer sk-upstream\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nx-client-request-id: req_1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nContent-Length: 18\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAccept-Encoding: identity\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\n\r\n{\"prompt\":\"a cat\"}"));
    assert_null(strcasestr(peer_server.last, "expect:"));
}

static void test_keep_alive(void **state)
{
    (void)state;
    begin_case(serve_whole);
    for (int i = 0; i < 20; i++) {
        struct call c;

        call_init(&c);
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        expect_body(&c, "{\"data\":[]}");
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    assert_int_equal(atomic_load(&peer_server.requests), 20);
}

static void test_many_at_once(void **state)
{
    enum { N = 64 };
    struct call c[N];

    (void)state;
    begin_case(serve_whole);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            call_init(&c[i]);
            on_loop(start, &c[i]);
        }
        for (int i = 0; i < N; i++) {
            wait_for(&c[i]);
            assert_int_equal(c[i].end, UPSTREAM_COMPLETE);
            expect_body(&c[i], "{\"data\":[]}");
            call_dispose(&c[i]);
        }
    }
    assert_int_equal(atomic_load(&peer_server.requests), 3 * N);
    assert_true(atomic_load(&peer_server.connections) <= N);
}

static void serve_close_second(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, WHOLE "{\"data\":[]}");
    if (p->number == 1)
        (void)peer_read(p); /* and not a word */
    else
        while (peer_read(p))
            peer_say(p, WHOLE "{\"data\":[]}");
}

/* A reused connection that dies under the request: sent again on a fresh one, no doubt. */
static void test_dead_reused(void **state)
{
    (void)state;
    for (int parts = 1; parts <= 3; parts += 2) {
        struct call a, b;

        begin_case(serve_close_second);
        call_init(&a);
        run(&a);
        call_init(&b);
        if (parts == 3) {
            b.request.body[0] = SLICE("{\"model\":");
            b.request.body[1] = SLICE("\"other\"");
            b.request.body[2] = SLICE(",\"n\":1}");
            b.request.n_body = 3;
        }
        run(&b);
        assert_int_equal(b.end, UPSTREAM_COMPLETE);
        assert_int_equal(atomic_load(&peer_server.connections), 2);
        assert_int_equal(atomic_load(&peer_server.requests), 3);
        if (parts == 3)
            assert_non_null(strstr(peer_server.last, "\r\n\r\n{\"model\":\"other\",\"n\":1}"));
        call_dispose(&a);
        call_dispose(&b);
    }
}

static void serve_close_after_reply(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, WHOLE "{\"data\":[]}");
}

/* A resting connection that the upstream closes is noticed without spinning, and replaced. */
static void test_closed_while_resting(void **state)
{
    (void)state;
    begin_case(serve_close_after_reply);
    for (int i = 1; i <= 3; i++) {
        struct call c;

        call_init(&c);
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_dispose(&c);
        usleep(50000);
        assert_int_equal(atomic_load(&peer_server.connections), i);
    }
}

static void serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

static void test_broken_before_reply(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_silence);
    call_init(&c);
    run(&c);
    assert_int_equal(c.end, UPSTREAM_BROKEN);
    assert_int_equal(c.heads, 0);
    assert_true(c.why[0] != '\0');
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    call_dispose(&c);
}

static void serve_half(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, WHOLE "{\"da");
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

        begin_case(serves[i]);
        call_init(&c);
        run(&c);
        assert_int_equal(c.end, UPSTREAM_BROKEN);
        assert_int_equal(c.status, 200);
        expect_body(&c, "{\"da");
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

        begin_case(serves[i]);
        call_init(&c);
        run(&c);
        assert_int_equal(c.end, UPSTREAM_BROKEN);
        assert_int_equal(c.heads, 0);
        assert_int_equal(c.body.len, 0);
        call_dispose(&c);
    }
}

static void test_unreached(void **state)
{
    struct call c;
    int fd;
    uint16_t port = peer_listen(&fd, 1);
    struct upstream_route *route;

    (void)state;
    close(fd); /* nobody listens there now */
    begin_case(serve_whole);
    route = route_to("POST", port);
    call_init(&c);
    c.request.route = route;
    run(&c);
    assert_int_equal(c.end, UPSTREAM_UNREACHED);
    assert_true(c.why[0] != '\0');
    call_dispose(&c);
    on_loop(drop_route, route);
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
    begin_case(serve_whole);
    route = route_to("POST", port);
    call_init(&c);
    c.request.route = route;
    c.request.connect_timeout = SECOND / 3;
    run(&c);
    assert_int_equal(c.end, UPSTREAM_CONNECT_TIMED_OUT);
    call_dispose(&c);
    on_loop(drop_route, route);
    for (int i = 0; i < FILL; i++)
        close(fill[i]);
    close(fd);
}

static void serve_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_wait_end(p);
}

static void serve_head_and_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, WHOLE "{\"da");
    peer_wait_end(p);
}

static void test_timeout(void **state)
{
    peer_fn *const serves[] = {serve_hang, serve_head_and_hang};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct call c;

        begin_case(serves[i]);
        call_init(&c);
        c.request.timeout = SECOND / 4;
        run(&c);
        assert_int_equal(c.end, UPSTREAM_TIMED_OUT);
        assert_int_equal(c.status, i == 0 ? 0 : 200);
        call_dispose(&c);
    }
}

static void serve_chunks(struct peer *p)
{
    static const char text[] = "HTTP/1.1 102 Processing\r\nX-Request-Id: no\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-request-id: yes\r\n\r\n"
                               "4;ext=1\r\n{\"da\r\n7\r\nta\":[]}\r\n0\r\nX-Trailer: t\r\n\r\n";

    while (peer_read(p))
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
            peer_say_bytes(p, text + i, 1);
            usleep(100);
        }
}

static void test_chunks_and_interim(void **state)
{
    (void)state;
    begin_case(serve_chunks);
    for (int i = 0; i < 2; i++) {
        struct call c;

        call_init(&c);
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_int_equal(c.heads, 1);
        assert_int_equal(c.status, 200);
        assert_int_equal(c.content_length, -1);
        assert_string_equal(c.id, "yes");
        expect_body(&c, "{\"data\":[]}");
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
}

static void serve_moved(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
}

static void test_no_redirect(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_moved);
    call_init(&c);
    run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.status, 302);
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    call_dispose(&c);
}

static void serve_gzip(struct peer *p)
{
    /* gzip of {"data":[]} */
    static const unsigned char packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab,
                                           0x56, 0x4a, 0x49, 0x2c, 0x49, 0x54, 0xb2, 0x8a, 0x8e, 0xad, 0x05,
                                           0x00, 0x94, 0x64, 0xb2, 0x5e, 0x0b, 0x00, 0x00, 0x00};
    char head[128];

    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
             sizeof(packed));
    while (peer_read(p)) {
        peer_say(p, head);
        peer_say_bytes(p, packed, sizeof(packed));
    }
}

static void test_gzip(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_gzip);
    call_init(&c);
    run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.content_length, -1);
    expect_body(&c, "{\"data\":[]}");
    call_dispose(&c);
}

enum { LARGE = 8 * 1024 * 1024 };

static unsigned char large_at(size_t i)
{
    return (unsigned char)((i * 2654435761u) >> 13);
}

static void serve_large(struct peer *p)
{
    static unsigned char bytes[LARGE];
    char head[128];

    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = large_at(i);
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LARGE);
    while (peer_read(p)) {
        peer_say(p, head);
        peer_say_bytes(p, bytes, LARGE);
    }
}

static void expect_large(const struct call *c)
{
    assert_int_equal(c->end, UPSTREAM_COMPLETE);
    assert_int_equal(c->body.len, LARGE);
    for (size_t i = 0; i < LARGE; i++)
        if ((unsigned char)c->body.p[i] != large_at(i))
            fail_msg("byte %zu differs", i);
}

static void test_large(void **state)
{
    const int every[] = {0, 2, 7, 40};

    (void)state;
    begin_case(serve_large);
    for (int i = 0; i < 4; i++) {
        struct call c;

        call_init(&c);
        c.pause_every = every[i];
        c.rest = i % 2 == 0 ? 0 : 500;
        run(&c);
        expect_large(&c);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
}

static void test_pause_from_head(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_large);
    call_init(&c);
    c.pause_early = true;
    c.rest = SECOND / 5;
    run(&c);
    expect_large(&c);
    call_dispose(&c);
}

/* While a transfer is paused its readable socket must not keep the loop busy. */
static void test_pause_is_idle(void **state)
{
    struct timespec before, after;
    clockid_t clock;
    struct call c;
    int64_t spent;

    (void)state;
    begin_case(serve_large);
    call_init(&c);
    c.pause_early = true;
    c.rest = SECOND;
    on_loop(start, &c);
    usleep(200000);
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &clock), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(500000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    spent = (after.tv_sec - before.tv_sec) * SECOND + (after.tv_nsec - before.tv_nsec) / 1000;
    assert_true(spent < SECOND / 10);
    wait_for(&c);
    expect_large(&c);
    call_dispose(&c);
}

static void serve_notice_end(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789");
}

static void cancel(void *arg)
{
    upstream_cancel(((struct call *)arg)->u);
}

static void start_and_cancel(void *arg)
{
    start(arg);
    cancel(arg);
}

static void test_cancel(void **state)
{
    struct call c;

    (void)state;
    begin_case(serve_notice_end);
    call_init(&c); /* at once: nothing is sent */
    on_loop(start_and_cancel, &c);
    wait_for(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
    call_dispose(&c);

    call_init(&c); /* from the data */
    c.cancel_at = 10;
    run(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    call_dispose(&c);

    begin_case(serve_hang);
    call_init(&c); /* from outside, while the upstream thinks */
    on_loop(start, &c);
    while (atomic_load(&peer_server.requests) == 0)
        usleep(1000);
    on_loop(cancel, &c);
    wait_for(&c);
    assert_int_equal(c.end, UPSTREAM_CANCELLED);
    assert_string_equal(c.why, "cancelled");
    call_dispose(&c);
    while (atomic_load(&peer_server.ended) < 1) /* the upstream saw the end */
        usleep(1000);
}

static void serve_echo(struct peer *p)
{
    while (peer_read(p)) {
        char head[64];
        const char *body = peer_body(p);
        size_t len = p->len - (size_t)(body - p->got);

        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
        peer_say(p, head);
        peer_say_bytes(p, body, len);
    }
}

static void test_large_body(void **state)
{
    enum { PART = 700001 };
    char *text = malloc(PART * 3);

    (void)state;
    for (size_t i = 0; i < PART * 3; i++)
        text[i] = (char)('a' + large_at(i) % 26);
    for (int n = 1; n <= 3; n++) {
        struct call c;

        begin_case(serve_echo);
        call_init(&c);
        c.request.n_body = n;
        for (int i = 0; i < n; i++)
            c.request.body[i] = (struct slice){text + (size_t)i * PART, PART};
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_int_equal(c.body.len, (size_t)PART * (size_t)n);
        assert_memory_equal(c.body.p, text, c.body.len);
        call_dispose(&c);
    }
    free(text);
}

static void test_get_and_post(void **state)
{
    struct upstream_route *get = route_to("GET", peer_server.port);

    (void)state;
    begin_case(serve_whole);
    for (int i = 0; i < 4; i++) { /* the same easy handle, in turn */
        struct call c;

        call_init(&c);
        if (i % 2 == 0) {
            c.request.route = get;
            c.request.n_body = 0;
            c.request.header = NULL;
        }
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_non_null(strstr(peer_server.last, i % 2 == 0 ? "GET /v1/images " : "POST /v1/images "));
        assert_true((strstr(peer_server.last, "a cat") != NULL) == (i % 2 != 0));
        assert_true((strstr(peer_server.last, "req_1") != NULL) == (i % 2 != 0));
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    on_loop(drop_route, get);
}

static void test_start_from_done(void **state)
{
    struct call a, b;

    (void)state;
    begin_case(serve_whole);
    call_init(&a);
    call_init(&b);
    a.then = &b;
    run(&a);
    wait_for(&b);
    assert_int_equal(b.end, UPSTREAM_COMPLETE);
    call_dispose(&a);
    call_dispose(&b);
}

static void make_public_pool(void *arg)
{
    *(struct upstream_pool **)arg = upstream_pool_create(house.loop, NULL, true);
}

static void drop_pool(void *arg)
{
    upstream_pool_destroy(arg);
}

static void test_private_refused(void **state)
{
    struct upstream_pool *pool;
    struct upstream_route *by_name;
    char url[64];
    struct make m = {.method = "POST", .url = url};

    (void)state;
    begin_case(serve_whole);
    on_loop(make_public_pool, &pool);
    snprintf(url, sizeof(url), "http://localhost:%u/", peer_server.port);
    on_loop(make_route, &m);
    by_name = m.route;
    for (int i = 0; i < 2; i++) {
        struct call c;

        call_init(&c);
        c.pool = pool;
        c.request.route = i == 0 ? post_route : by_name;
        run(&c);
        assert_int_equal(c.end, UPSTREAM_UNREACHED);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 0);
    on_loop(drop_pool, pool);
    on_loop(drop_route, by_name);
}

/* By name: the resolver's thread and its descriptors come and go. */
static void test_by_name(void **state)
{
    char url[64];
    struct make m = {.method = "POST", .url = url};

    (void)state;
    for (int i = 0; i < 10; i++) {
        struct call c;

        begin_case(serve_whole); /* a new pool: no cached address */
        snprintf(url, sizeof(url), "http://localhost:%u/", peer_server.port);
        on_loop(make_route, &m);
        call_init(&c);
        c.request.route = m.route;
        run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_dispose(&c);
        on_loop(drop_route, m.route);
    }
}

static bool is_private(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return address_is_private((struct sockaddr *)&in, sizeof(in));
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return address_is_private((struct sockaddr *)&in6, sizeof(in6));
}

static void test_addresses(void **state)
{
    static const char *const inside[] = {"127.0.0.1",
                                         "127.255.255.254",
                                         "10.0.0.1",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.1.1",
                                         "169.254.169.254",
                                         "100.64.0.1",
                                         "0.0.0.0",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "198.18.0.1",
                                         "::1",
                                         "::",
                                         "fe80::1",
                                         "fc00::1",
                                         "fd12:3456::1",
                                         "ff02::1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:127.0.0.1",
                                         "::127.0.0.1",
                                         "64:ff9b::a00:1",
                                         "2002:7f00:1::1",
                                         "fec0::1"};
    static const char *const outside[] = {"1.1.1.1",        "8.8.8.8",          "172.15.0.1",     "172.32.0.1",
                                          "100.128.0.1",    "192.169.0.1",      "11.0.0.1",       "2606:4700::1111",
                                          "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"};

    (void)state;
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
        if (!is_private(inside[i]))
            fail_msg("%s is private", inside[i]);
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
        if (is_private(outside[i]))
            fail_msg("%s is public", outside[i]);
}

/* ---- setting up ---- */

static int set_up(void **state)
{
    static const struct front_route routes[] = {{.method = NULL}};
    static const char *const addresses[] = {"127.0.0.1:0"};
    static const struct front_listener listener = {
        .addresses = addresses, .n_addresses = 1, .max_body = 4096, .request_timeout = SECOND, .routes = routes};
    const struct front_options options = {
        .threads = 1, .max_connections = 16, .listeners = &listener, .n_listeners = 1};
    struct err err;

    (void)state;
    secret_init();
    pthread_mutex_init(&house.lock, NULL);
    pthread_cond_init(&house.changed, NULL);
    peer_server_start();
    assert_int_equal(front_open(&options, &house.front, &err), ERR_OK);
    house.loop = front_loop(house.front, 0);
    assert_int_equal(front_start_loops(house.front, &err), ERR_OK);
    post_route = route_to("POST", peer_server.port);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    on_loop(drop_route, post_route);
    on_loop(drop_pool, house.pool);
    front_stop(house.front);
    free(peer_server.last);
    peer_server.last = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_dead_reused),
        cmocka_unit_test(test_closed_while_resting),
        cmocka_unit_test(test_broken_before_reply),
        cmocka_unit_test(test_broken_inside_reply),
        cmocka_unit_test(test_no_http),
        cmocka_unit_test(test_unreached),
        cmocka_unit_test(test_connect_timeout),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_chunks_and_interim),
        cmocka_unit_test(test_no_redirect),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_pause_from_head),
        cmocka_unit_test(test_pause_is_idle),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_large_body),
        cmocka_unit_test(test_get_and_post),
        cmocka_unit_test(test_start_from_done),
        cmocka_unit_test(test_private_refused),
        cmocka_unit_test(test_by_name),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
