/* lib_upstream.c - see lib_upstream.h. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib_upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/base/attrs.h"
#include "daemon/base/clock.h"
#include "daemon/base/secret.h"
#include "daemon/front/front.h"

enum { MOST = 64 * 1024 * 1024, PATIENCE = 60 };

struct calls calls;

/* ---- the loop ---- */

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
    pthread_mutex_lock(&calls.lock);
    step->done = true;
    pthread_cond_broadcast(&calls.changed);
    pthread_mutex_unlock(&calls.lock);
}

void calls_on_loop(void (*run)(void *arg), void *arg)
{
    struct step step = {.mail = {.deliver = run_step}, .run = run, .arg = arg};

    mailbox_post(loop_mailbox(calls.loop), &step.mail);
    pthread_mutex_lock(&calls.lock);
    while (!step.done)
        pthread_cond_wait(&calls.changed, &calls.lock);
    pthread_mutex_unlock(&calls.lock);
}

/* ---- a call ---- */

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
        loop_timer_arm(calls.loop, &c->timer, c->rest);
    }
}

static size_t on_data(void *ctx, struct upstream *u, const char *bytes, size_t len)
{
    struct call *c = ctx;

    c->pieces++;
    if (c->pause_every != 0 && c->pieces % c->pause_every == 0) {
        loop_timer_arm(calls.loop, &c->timer, c->rest);
        return 0;
    }
    c->last = clock_mono();
    c->received += len;
    if (!c->forget)
        buf_append(&c->body, bytes, len);
    if (c->cancel_at != 0 && c->received >= c->cancel_at)
        upstream_cancel(u);
    return len;
}

static void on_done(void *ctx, struct upstream *u, enum upstream_end end, const char *why)
{
    struct call *c = ctx;

    (void)u;
    loop_timer_disarm(calls.loop, &c->timer);
    c->end = end;
    snprintf(c->why, sizeof(c->why), "%s", why);
    if (c->then != NULL)
        call_start(c->then);
    pthread_mutex_lock(&calls.lock);
    c->done = true;
    pthread_cond_broadcast(&calls.changed);
    pthread_mutex_unlock(&calls.lock);
}

void call_start(void *arg)
{
    struct call *c = arg;
    const struct upstream_callbacks callbacks = {c, on_head, on_data, on_done};

    loop_timer_init(&c->timer, wake);
    c->u = upstream_start(c->pool != NULL ? c->pool : calls.pool, &c->request, &callbacks);
    assert_int_equal(c->heads + c->pieces, 0); /* nothing runs inside */
    assert_false(c->done);
}

void call_wait(struct call *c)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE;
    pthread_mutex_lock(&calls.lock);
    while (!c->done)
        assert_int_equal(pthread_cond_timedwait(&calls.changed, &calls.lock, &until), 0);
    pthread_mutex_unlock(&calls.lock);
}

void call_run(struct call *c)
{
    calls_on_loop(call_start, c);
    call_wait(c);
}

void call_cancel(void *arg)
{
    upstream_cancel(((struct call *)arg)->u);
}

void call_init(struct call *c)
{
    memset(c, 0, sizeof(*c));
    buf_init(&c->body, MOST);
    c->request.route = calls.post_route;
    c->request.headers[0] = "x-client-request-id: req_1";
    c->request.n_headers = 1;
    c->request.body[0].bytes = SLICE("{\"prompt\":\"a cat\"}");
    c->request.n_body = 1;
    c->request.timeout = 20 * SECOND;
    c->request.connect_timeout = 5 * SECOND;
}

void call_dispose(struct call *c)
{
    buf_dispose(&c->body);
}

void call_expect_body(const struct call *c, const char *text)
{
    assert_int_equal(c->body.len, strlen(text));
    assert_memory_equal(c->body.p, text, c->body.len);
}

/* ---- routes ---- */

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

struct upstream_route *calls_route(const char *method, const char *url)
{
    struct make m = {.method = method, .url = url};

    calls_on_loop(make_route, &m);
    return m.route;
}

struct upstream_route *calls_route_to(const char *method, uint16_t port)
{
    char url[64];

    snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1/images", port);
    return calls_route(method, url);
}

static void drop_route(void *arg)
{
    upstream_route_unref(arg);
}

void calls_drop_route(struct upstream_route *route)
{
    calls_on_loop(drop_route, route);
}

/* ---- cases ---- */

struct pool_kind {
    const char *ca_file;
    bool public_only;
};

static void renew_pool(void *arg)
{
    const struct pool_kind *kind = arg;

    if (calls.pool != NULL)
        upstream_pool_destroy(calls.pool);
    calls.pool = upstream_pool_create(calls.loop, kind->ca_file, kind->public_only);
}

void calls_renew_pool(const char *ca_file, bool public_only)
{
    struct pool_kind kind = {ca_file, public_only};

    calls_on_loop(renew_pool, &kind);
}

void calls_begin_case(peer_fn *serve)
{
    calls_renew_pool(NULL, false);
    peer_server_reset(serve);
}

void peer_serve_whole(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, PEER_HEAD PEER_BODY);
}

void peer_serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

void peer_serve_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_wait_end(p);
}

unsigned char large_at(size_t i)
{
    return (unsigned char)((i * 2654435761u) >> 13);
}

/* ---- fixtures ---- */

int calls_set_up(void **state)
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
    pthread_mutex_init(&calls.lock, NULL);
    pthread_cond_init(&calls.changed, NULL);
    peer_server_start();
    assert_int_equal(front_open(&options, &calls.front, &err), ERR_OK);
    calls.loop = front_loop(calls.front, 0);
    assert_int_equal(front_start_loops(calls.front, &err), ERR_OK);
    calls.post_route = calls_route_to("POST", peer_server.port);
    return 0;
}

static void drop_pool(void *arg)
{
    upstream_pool_destroy(arg);
}

int calls_tear_down(void **state)
{
    (void)state;
    calls_drop_route(calls.post_route);
    if (calls.pool != NULL)
        calls_on_loop(drop_pool, calls.pool);
    front_stop(calls.front);
    free(peer_server.last);
    peer_server.last = NULL;
    return 0;
}
