/* upstream.h - one HTTP call to an upstream: libcurl's multi interface inside a loop.
 *
 * One multi per loop, no locks. Wiring (each point was measured to matter): an upstream connection's descriptor stays
 * registered for reading all its life and epoll is touched only when libcurl asks for writing; libcurl's timeout is a
 * number behind one loop timer, and a timeout of 0 runs at once after the call that asked for it; finished transfers
 * are collected after every socket action and after adding; easy handles are reused; what all calls to one place share
 * is prepared once, as a route.
 *
 * A request is sent once. A reused connection may turn out to be dead only after the request left; libcurl would then
 * repeat it on a fresh one, and an upstream that had acted on the first copy would be paid twice. That ends here as
 * UPSTREAM_BROKEN, unless not a byte of the request had been handed to the kernel.
 *
 * Callbacks never run inside upstream_start, upstream_resume or upstream_cancel, but from the loop. The owner may call
 * upstream_pause, upstream_resume and upstream_cancel at any time, also from callbacks, and upstream_start too. */
#ifndef TG_RELAY_UPSTREAM_H
#define TG_RELAY_UPSTREAM_H

#include "daemon/base/slice.h"
#include "daemon/base/spool.h"
#include "daemon/front/loop.h"

enum { UPSTREAM_BODY_PARTS = 3, UPSTREAM_OWN_HEADERS = 2 };

struct upstream_pool; /* per loop: the multi, idle easies */
struct upstream;      /* one transfer */

/* <ca_file>: PEM of the authorities that certificates are checked against; NULL: the system's; copied. <public_only>:
 * addresses that lie inside (address.h) are refused. */
struct upstream_pool *upstream_pool_create(struct loop *loop, const char *ca_file, bool public_only);
void upstream_pool_destroy(struct upstream_pool *pool); /* no transfer may be left; the loop must still be there */

/* Where calls go and what they all say: method, URL, headers. Reference-counted, of one loop. Everything is copied;
 * the headers' copies are wiped when the last reference goes, as they carry the credential. */
struct upstream_route;

/* <method>: "POST" or "GET". <headers>: "name: value"; "name:" keeps libcurl from sending that header of its own. */
struct upstream_route *upstream_route_create(const char *method, const char *url, const char *const *headers,
                                             size_t n_headers);
struct upstream_route *upstream_route_ref(struct upstream_route *route);
void upstream_route_unref(struct upstream_route *route); /* NULL-safe */

/* A run of a body: of memory, or of a spool that may lie in a file. */
struct upstream_part {
    struct slice bytes;        /* when there is no spool */
    const struct spool *spool; /* NULL: bytes */
    uint64_t at, len;          /* in the spool */
};

struct upstream_request {
    struct upstream_route *route;              /* a reference is taken for as long as it is needed */
    const char *headers[UPSTREAM_OWN_HEADERS]; /* more "name: value", of this call alone; borrowed until done */
    int n_headers;
    struct upstream_part body[UPSTREAM_BODY_PARTS]; /* what they point at is borrowed until done */
    int n_body;
    bool small_buffers;      /* for replies that come in small pieces over a long time: many of them wait at once */
    int64_t timeout;         /* microseconds, the whole call */
    int64_t connect_timeout; /* microseconds */
};

/* How it ended, seen from the money's side. */
enum upstream_end {
    UPSTREAM_COMPLETE = 0, /* a whole reply, whatever its status */
    UPSTREAM_UNREACHED,    /* no byte of the request was sent: resolve, connect or TLS failed, or refused by rule */
    UPSTREAM_CONNECT_TIMED_OUT, /* the same, because it took too long */
    UPSTREAM_BROKEN,            /* the connection failed after the request may have been seen */
    UPSTREAM_TIMED_OUT,         /* after the request may have been seen */
    UPSTREAM_CANCELLED
};

struct upstream_callbacks {
    void *ctx;
    /* The head is there: status, and where the interesting headers stand (upstream_header). */
    void (*head)(void *ctx, struct upstream *u, int status);
    /* Some of the body. Return how much was taken: len, or 0 to pause (the same bytes come again after
     * upstream_resume). */
    size_t (*data)(void *ctx, struct upstream *u, const char *bytes, size_t len);
    /* The end, once. The upstream is dead after it. <why> is a short text for logs. */
    void (*done)(void *ctx, struct upstream *u, enum upstream_end end, const char *why);
};

/* Never NULL; every failure comes by done. */
struct upstream *upstream_start(struct upstream_pool *pool, const struct upstream_request *request,
                                const struct upstream_callbacks *callbacks);
void upstream_pause(struct upstream *u);
void upstream_resume(struct upstream *u);
void upstream_cancel(struct upstream *u); /* done(UPSTREAM_CANCELLED) follows from the loop */

/* A response header's last value, borrowed until done has returned; empty when absent. */
struct slice upstream_header(const struct upstream *u, const char *name);
int64_t upstream_content_length(const struct upstream *u); /* of the decoded body; -1: unknown */

#endif
