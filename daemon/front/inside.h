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

enum {
    FRONT_ADDRESSES = 32,
    ACCEPT_BATCH = 16,
    SCRATCH = 64 * 1024 /* bytes read at a time, by one connection after the other */
};

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
    char *scratch; /* SCRATCH bytes: what was read last of a body on clear text, until it is handed over */
    /* mail */
    struct mailbox box;
    pthread_mutex_t lock;
    struct mail *first, **last;
    struct mail *patient_first, **patient_last; /* taken out of there, not delivered yet */
    int wake;                                   /* eventfd */
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

/* ---- chunk.c: the chunked coding ---- */

struct chunks { /* all zero at the start */
    int state, digits;
    unsigned long long left;           /* bytes of the chunk under way */
    unsigned long long framing, bytes; /* read so far: what is not the body's own, and what is */
};

enum chunk_verdict { CHUNK_MORE = 0, CHUNK_RUN, CHUNK_END, CHUNK_BAD };

/* Reads on, taking from the front of <in>. CHUNK_RUN: <run> is bytes of the body, lent by <in>; call again. CHUNK_MORE:
 * all is read, and it goes on. CHUNK_END: the body is whole, <in> is what stands behind it. */
enum chunk_verdict chunks_next(struct chunks *c, struct slice *in, struct slice *run);

/* ---- connections and calls ---- */

enum intake_state {
    INTAKE_WHOLE = 0, /* nothing is missing; or there is none */
    INTAKE_COMING,
    INTAKE_FORSAKEN /* something is missing that nobody wants any more: it was answered without, or is damaged */
};

/* The body of the HTTP/1 request under way, see intake.c. */
struct intake {
    enum intake_state state;
    bool expects;    /* the client waits for a 100 */
    bool continuing; /* which is being written */
    bool asked;      /* by intake_receive */
    int64_t length;  /* as told; -1: chunked */
    int64_t got;     /* bytes of it that were handed over */
    int64_t max;
    int64_t since; /* monotonic: when it was asked for */
    struct chunks chunks;
    struct slice ahead; /* what came together with the head and is not yet handed over: lies behind the head in its
                           buffer, where the library does not see it, or in <burst> */
    struct front_receiver to;
    h2o_buffer_t *burst; /* the buffer that the head was taken out of; or NULL */
    h2o_buffer_t *head;  /* TLS: the head's buffer, while sock->input takes the body; else NULL */
};

/* An accepted socket. Freed by its on_close. */
struct front_conn {
    struct site *site;
    h2o_socket_t *sock;
    struct loop_watch hangup;   /* edge-triggered: the peer shut its side */
    struct loop_timer patience; /* for the handshake, the first head, a body, a lingering close */
    struct buf refusal;
    bool leaving;
    bool http2;
    /* HTTP/1, see http1.c */
    h2o_socket_cb kept; /* the library's read callback */
    char *held;         /* bytes behind the request under way, not yet judged */
    size_t n_held;
    size_t seen;             /* bytes of an incomplete head that were looked at */
    struct front_call *call; /* a handler has the request: BUSY */
    struct intake intake;
    size_t skip;       /* bytes still to come of a body that was answered without them */
    bool lingers;      /* after the answer */
    int inside;        /* callbacks that are under way: on_close leaves the memory alone */
    bool closed;       /* and it came meanwhile */
    bool guard_wanted; /* in loop->guards */
};

enum call_state { CALL_HELD = 0, CALL_STREAMING, CALL_DONE };

struct front_call {
    h2o_generator_t generator;
    h2o_req_t *req;
    struct site *site;
    struct front_conn *conn;
    const struct front_route *route;
    struct slice path; /* decoded */
    struct slice param;
    struct slice body;    /* not on FRONT_STREAMED routes */
    struct buf collected; /* where it lies, unless it came together with its head or over HTTP/2 */
    struct id id;
    struct front_owner owner;
    int64_t started;
    enum call_state state;
    bool asked;   /* for the body */
    bool sending; /* the library has bytes of ours and will ask for more */
    bool broken;  /* then it gets a broken end */
    int inside;   /* calls into the library that the owner made, under way */
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

/* ---- http1.c: every HTTP/1 head is judged before the library sees it, and it sees nothing else ---- */

void http1_begin(struct front_conn *conn);                          /* hands the socket to the library */
void http1_next(struct front_conn *conn);                           /* stands before it again, between two requests */
void http1_taken(struct front_conn *conn, struct front_call *call); /* a handler gets the request */
void http1_done(struct front_conn *conn);                           /* the library disposes it */
void http1_give_up(struct front_conn *conn); /* out of patience: closes, whoever has the socket */

/* Around callbacks that may close the connection; http1_leave: whether it is still there. */
void http1_enter(struct front_conn *conn);
bool http1_leave(struct front_conn *conn);

/* Tells the library that the socket ended. <conn> may be gone on return. */
void http1_end(struct front_conn *conn, const char *err);

/* The socket is left alone until the request is answered. */
void http1_rest(struct front_conn *conn);

/* Reads at most <max> bytes of clear text from the socket itself: <out> is them, in the loop's scratch. Returns an
 * error of the library's; NULL with nothing in <out>: there was nothing. */
const char *http1_read(struct front_conn *conn, size_t max, struct slice *out);

/* <bytes> stand behind the request under way, and wait until it is over. */
void http1_hold(struct front_conn *conn, struct slice bytes);

/* ---- intake.c: the bodies of HTTP/1 requests ---- */

struct head;

/* The head that stands at the front of sock->input was found good: takes what follows it out of the library's sight. */
void intake_open(struct front_conn *conn, const struct head *head, int64_t max);

/* Whether all of it came together with its head: then it is taken, and <out> lasts as long as the request. */
bool intake_at_hand(struct front_conn *conn, struct slice *out);

bool intake_waits(const struct front_conn *conn); /* for a 100 */
void intake_receive(struct front_conn *conn, const struct front_receiver *receiver);

/* The answer leaves now; what is still to come of the body is not wanted. <close>: the connection ends with it anyway.
 * False: the head must say so, and the connection lingers. */
bool intake_answered(struct front_conn *conn, bool closes);

void intake_close(struct front_conn *conn); /* the request is over */
bool intake_reads(const struct front_conn *conn);
bool intake_has_time(struct front_conn *conn); /* when its patience is at an end: looks again, and waits on */

/* ---- head.c: HTTP/1 request heads ---- */

enum head_verdict { HEAD_INCOMPLETE = 0, HEAD_GOOD, HEAD_BAD, HEAD_TOO_LARGE };

struct head {
    size_t len; /* bytes, the empty line included */
    struct slice method, target;
    unsigned long long body; /* Content-Length; 0: none */
    bool chunked;
    bool expects;   /* Expect: 100-continue. Other expectations, and HTTP/1.0's, are none (RFC 9110, 10.1.1) */
    size_t framing; /* where the name of the field stands that tells the body's end; 0: none does */
};

/* What can be said of a head before the library reads it; never HEAD_TOO_LARGE. <seen>: bytes that an earlier call
 * found incomplete. <out> is filled when it is good. */
enum head_verdict head_judge(const char *bytes, size_t len, size_t seen, struct head *out);

/* ---- call.c ---- */

int call_begin(h2o_handler_t *handler, h2o_req_t *req); /* the only handler of every site */

void call_body_is_whole(struct front_call *call); /* its last byte has come */

/* ---- refuse.c: errors on paths where the library would answer by itself ---- */

void refuse_register(h2o_hostconf_t *host, const struct front_listener *listener);

/* A whole HTTP/1 answer with the error object, for a socket of this listener that the library does not have. */
void refuse_append(struct buf *out, const struct front_listener *listener, const struct err *err);

/* ---- route.c ---- */

struct route_match {
    const struct front_route *route; /* NULL: none */
    bool path_known;                 /* another method would do */
    struct slice param;
};
void route_find(const struct front_route *routes, struct slice method, struct slice path, struct route_match *out);
void route_allowed(const struct front_route *routes, struct slice path, struct buf *out); /* "GET, POST" */

#endif
