/* upstream_wire.h - inside upstream.h: libcurl's multi handle wired into a loop. Nobody else includes this.
 *
 * The wire knows sockets, time and the multi handle, and nothing of what a transfer is: the pool (upstream.c) gives it
 * work to do before each turn and takes the transfers that ended in it. */
#ifndef TG_RELAY_UPSTREAM_WIRE_H
#define TG_RELAY_UPSTREAM_WIRE_H

#include <curl/curl.h>

#include "daemon/front/loop.h"

struct wire_link;

struct wire {
    struct loop *loop;
    CURLM *multi;
    struct wire_link **links; /* by descriptor; NULL where libcurl never had one */
    size_t n_links;
    struct loop_timer timer;
    int64_t deadline; /* when libcurl wants its time-out, monotonic microseconds; -1: never */
    bool due;         /* libcurl asked to be run at once */
    bool wanted;      /* the owner asked for a turn */
    bool turning;     /* inside wire_turn or a socket's event */
    size_t received;  /* body bytes of this turn; the owner adds */
    bool public_only; /* refuse addresses that lie inside */

    void *ctx;
    void (*begin)(void *ctx);   /* before libcurl runs: start, resume, cancel what waits */
    void (*collect)(void *ctx); /* after it ran: take what ended */
};

/* The owner has filled ctx, begin and collect. */
void wire_init(struct wire *w, struct loop *loop, bool public_only);
void wire_dispose(struct wire *w); /* no transfer may be left in the multi */

/* A turn soon: from the loop, never inside this call. */
void wire_want(struct wire *w);

/* Gives an easy handle the socket functions of this wire. */
void wire_adopt(struct wire *w, CURL *easy);

#endif
