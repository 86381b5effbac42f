/* inside.h - what the files of this room share; no other room sees it.
 *
 * One `struct site` a listener and loop: an h2o context with its own limits. One `struct front_conn` an accepted
 * socket, from accept to close. One `struct front_call` a request, in the request's own memory. */
#ifndef TG_FRONT_INSIDE_H
#define TG_FRONT_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

#include "front.h"

enum { FRONT_ADDRESSES = 32, ACCEPT_BATCH = 16 };

/* The library's limit of a body stands so far behind ours: its own refusals close without a lingering. */
#define BODY_SLACK (INT64_C(64) * 1024 * 1024)

/* A listener as all loops share it. */
struct place {
    struct front_listener listener; /* routes and ctx are borrowed; texts are not kept */
    h2o_globalconf_t conf;
    SSL_CTX *tls; /* NULL: clear text */
    int fds[FRONT_ADDRESSES];
    size_t n_fds;
};

/* A listener on one loop. */
struct site {
    struct loop *loop;
    struct place *place;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_socket_t *sockets[FRONT_ADDRESSES];
    size_t n_sockets;       /* 0 once draining */
    struct loop_timer rest; /* from accepting, when out of descriptors */
};

struct loop {
    h2o_evloop_t *evloop;
    int index;
    struct front *front;
    struct site *sites;
    pthread_t thread;
    bool running;
    void *slots[LOOP_SLOTS];
    /* timers */
    struct loop_timer **heap;
    size_t n_timers, cap_timers;
    /* descriptors */
    int epoll;
    h2o_socket_t *epoll_socket;
    void **batch; /* of the epoll_wait under way: watches not yet called */
    int n_batch;
    /* mail */
    struct mailbox box;
    pthread_mutex_t lock;
    struct mail *first, **last;
    int wake; /* eventfd */
    h2o_socket_t *wake_socket;
    struct front_conn **guards; /* connections whose next head is to be judged; NULL: closed since */
    size_t n_guards, cap_guards;
    /* life */
    atomic_bool stop;
    _Atomic int64_t turned; /* monotonic: the last turn */
    struct mail drain_mail;
};

struct front {
    struct place *places;
    size_t n_places;
    struct loop *loops;
    int n_loops;
    int64_t max_connections;
    _Atomic int64_t connections;
    _Atomic int64_t calls;
    atomic_bool draining;
};

/* An accepted socket. Freed by its on_close. */
struct front_conn {
    struct site *site;
    h2o_socket_t *sock;
    struct loop_watch hangup;   /* edge-triggered: the peer shut its side */
    struct loop_timer patience; /* for the handshake, the first head, a lingering close */
    struct buf refusal;
    bool leaving;
    bool http2;
    /* HTTP/1, see http1.c */
    h2o_socket_cb kept; /* the library's read callback */
    char *held;         /* bytes behind the request under way, not yet judged */
    size_t n_held;
    size_t seen;      /* bytes of an incomplete head that were looked at */
    size_t head;      /* bytes of the head under way */
    size_t next;      /* offset in sock->input at which the request under way ends */
    int64_t max_body; /* of the request under way */
    bool chunked;
    bool busy;         /* a handler has the request */
    bool inside;       /* the library's callback runs: on_close leaves the memory alone */
    bool closed;       /* and it came meanwhile */
    bool guard_wanted; /* in loop->guards */
};

/* ---- loop.c ---- */

void loop_open(struct loop *loop, struct front *front, int index);
void loop_turn(struct loop *loop);                             /* one turn: waits for something, works it off */
void loop_wake(struct loop *loop);                             /* any thread */
void loop_guard(struct loop *loop, struct front_conn *conn);   /* http1_next before the loop next looks at sockets */
void loop_unguard(struct loop *loop, struct front_conn *conn); /* not any more */

/* Tells once when the peer shuts its side of watch->fd. loop_watch_remove undoes it. */
void loop_watch_hangup(struct loop *loop, struct loop_watch *watch);

/* ---- listen.c ---- */

TG_MUSTCHECK enum err_code listen_open(struct place *place, struct err *err);

/* ---- tls.c ---- */

TG_MUSTCHECK enum err_code tls_open(const struct front_listener *listener, SSL_CTX **out, struct err *err);

/* ---- accept.c ---- */

void accept_start(struct site *site);
void accept_stop(struct site *site); /* no more connections on this loop */

/* ---- http1.c: every HTTP/1 head is judged before the library sees it ---- */

void http1_begin(struct front_conn *conn);                       /* hands the socket to the library */
void http1_next(struct front_conn *conn);                        /* stands before it again, between two requests */
void http1_taken(struct front_conn *conn, const h2o_req_t *req); /* a handler gets the request */
void http1_done(struct front_conn *conn);                        /* the library disposes it */
void http1_give_up(struct front_conn *conn);                     /* closes, whoever has the socket */

/* ---- head.c: HTTP/1 request heads ---- */

enum head_verdict { HEAD_INCOMPLETE = 0, HEAD_GOOD, HEAD_BAD, HEAD_TOO_LARGE };

struct head {
    size_t len; /* bytes, the empty line included */
    struct slice method, target;
    unsigned long long body; /* Content-Length; 0: none */
    bool chunked;
};

/* What can be said of a head before the library reads it; never HEAD_TOO_LARGE. <seen>: bytes that an earlier call
 * found incomplete. <out> is filled when it is good. */
enum head_verdict head_judge(const char *bytes, size_t len, size_t seen, struct head *out);

/* ---- call.c ---- */

int call_begin(h2o_handler_t *handler, h2o_req_t *req); /* the only handler of every site */

/* ---- refuse.c: errors on paths where the library would answer by itself ---- */

void refuse_register(h2o_hostconf_t *host);

/* A whole HTTP/1 answer with the error object, for a socket that the library does not have. */
void refuse_append(struct buf *out, const struct err *err);

/* ---- route.c ---- */

struct route_match {
    const struct front_route *route; /* NULL: none */
    bool path_known;                 /* another method would do */
    struct slice param;
};
void route_find(const struct front_route *routes, struct slice method, struct slice path, struct route_match *out);
void route_allowed(const struct front_route *routes, struct slice path, struct buf *out); /* "GET, POST" */

#endif
