/* lib_upstream.h - upstream calls inside a real loop, for the tests of daemon/relay/upstream.h.
 *
 * Cases run on the main thread and post their steps to the loop; the upstream is lib_peer.h's. */
#ifndef TG_TESTS_LIB_UPSTREAM_H
#define TG_TESTS_LIB_UPSTREAM_H

#include <pthread.h>

#include "daemon/base/buf.h"
#include "daemon/front/loop.h"
#include "daemon/relay/upstream.h"
#include "lib_peer.h"

#define SECOND INT64_C(1000000)

struct calls {
    struct front *front;
    struct loop *loop;
    struct upstream_pool *pool;        /* of the case */
    struct upstream_route *post_route; /* to the peer, by POST */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

extern struct calls calls;

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
    bool forget;       /* keep nothing of the body */
    struct call *then; /* start this one from done */
    /* what came */
    int heads, status, pieces;
    int64_t content_length;
    char id[64], type[64];
    struct buf body;
    uint64_t received;
    int64_t last; /* when the last piece came, by the monotonic clock */
    bool done;
    enum upstream_end end;
    char why[256];
};

/* Fixtures of a group: the loop and the peer. The pool is made by the first case. */
int calls_set_up(void **state);
int calls_tear_down(void **state);

/* A new pool, so that no connection or address is left of other cases; the peer serves so from now on. */
void calls_begin_case(peer_fn *serve);
void calls_renew_pool(const char *ca_file, bool public_only);

/* Runs a function on the loop's thread and waits for it. */
void calls_on_loop(void (*run)(void *arg), void *arg);

struct upstream_route *calls_route(const char *method, const char *url);
struct upstream_route *calls_route_to(const char *method, uint16_t port);
void calls_drop_route(struct upstream_route *route);

void call_init(struct call *c); /* a small POST to the peer */
void call_dispose(struct call *c);
void call_start(void *arg); /* on the loop's thread */
void call_wait(struct call *c);
void call_run(struct call *c); /* starts and waits */
void call_cancel(void *arg);   /* on the loop's thread */
void call_expect_body(const struct call *c, const char *text);

/* An answer of {"data":[]}, with headers. */
#define PEER_HEAD                                                                                                      \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: old\r\nx-request-id: "                         \
    "req_up\r\nContent-Length: 11\r\n\r\n"
#define PEER_BODY "{\"data\":[]}"

void peer_serve_whole(struct peer *p);   /* every request gets it */
void peer_serve_silence(struct peer *p); /* reads one request and goes */
void peer_serve_hang(struct peer *p);    /* reads one request and waits for the other side to go */

/* A long text that is not the same anywhere. */
unsigned char large_at(size_t i);

#endif
