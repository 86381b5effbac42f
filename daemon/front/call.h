/* call.h - one HTTP request and its answer, without libh2o's types.
 *
 * Life: a handler gets a call; it must answer it with exactly one of front_reply, front_start (then sends up to the
 * final one) or front_abort, now or later, on the same loop. Until then the call is the handler's to hold. If the
 * client goes away first, `gone` runs (once, never inside a function of this file that the owner called) and the
 * pointer is dead when it returns. After front_reply, front_abort or the final front_send the pointer is dead, too, as
 * far as the owner is concerned.
 *
 *   handler ----> HELD --front_reply-------------------------> (dead)
 *                  |  \--front_start--> STREAMING --final----> (dead)
 *                  |                        |
 *                  +----- client gone ------+---- gone() ----> (dead)
 *
 * Half-closing HTTP/1 clients are not "gone": they may still read. A peer that shuts its side is reported by
 * front_call_leaving. */
#ifndef TG_FRONT_CALL_H
#define TG_FRONT_CALL_H

#include "daemon/base/err.h"
#include "daemon/base/id.h"
#include "loop.h"

struct front_call;

struct front_header {
    const char *name;   /* lower case; static or valid during the call */
    struct slice value; /* copied */
};

/* ---- the request; every slice is borrowed until the call is dead ---- */

struct loop *front_call_loop(const struct front_call *call);
struct id front_call_id(const struct front_call *call); /* x-request-id: req_... */
struct slice front_call_method(const struct front_call *call);
struct slice front_call_path(const struct front_call *call);      /* decoded and normalized, without query */
struct slice front_call_query(const struct front_call *call);     /* without '?'; empty when none */
struct slice front_call_body(const struct front_call *call);      /* whole; empty on FRONT_STREAMED routes */
struct slice front_call_param(const struct front_call *call);     /* what {id} matched in the route; empty when none */
struct slice front_call_authority(const struct front_call *call); /* Host / :authority */
struct slice front_call_scheme(const struct front_call *call);    /* "http" or "https" */
/* The value of a header (lower-case name); false when absent. *count (may be NULL) tells how often it stands there. */
bool front_call_header(const struct front_call *call, const char *name, struct slice *value, int *count);
/* The peer's address as text ("127.0.0.1", "::1", "unix"); <out> has 64 bytes. */
const char *front_call_peer(const struct front_call *call, char out[64]);
int64_t front_call_started(const struct front_call *call); /* monotonic microseconds: when its last byte had come, or
                                                              as long as it has not, its head */
bool front_call_leaving(const struct front_call *call); /* the peer has shut its side (HTTP/1): it may have gone away */

/* ---- the body, on FRONT_STREAMED routes ---- */

/* How long the body is: 0 none, -1 not told before its end (chunked). Bodies whose told length is above the route's
 * limit never reach a handler. */
int64_t front_call_length(const struct front_call *call);

/* The client waits for a 100 (Expect: 100-continue) before it sends the body. It gets one from front_call_receive; an
 * answer before that spares it the upload. */
bool front_call_expects(const struct front_call *call);

struct front_receiver {
    void *ctx;
    /* The next bytes, at least one; borrowed for the call. */
    void (*data)(void *ctx, struct slice bytes);
    /* Once. NULL: the body is whole. Else it cannot be (TOO_LARGE: past the route's limit; BAD_REQUEST: damaged chunks)
     * and the owner answers with <err>. */
    void (*end)(void *ctx, const struct err *err);
};

/* Asks for the body. The callbacks run from the loop or inside this function, so it comes last in a handler; they may
 * answer the call, and after an answer none follows. Between this call and the first callback the owner must not
 * answer. An answer that leaves before the body is whole closes the connection, lingering, so that the client reads it
 * in spite of its upload; but a small rest is read over instead, and the connection stays. `gone` runs when the client
 * leaves within its body. front_call_own goes before. */
void front_call_receive(struct front_call *call, const struct front_receiver *receiver);

/* A decoded query parameter's first value into <out> (NUL-terminated, at most cap-1 bytes); false when absent or too
 * long. */
bool front_query_get(struct slice query, const char *name, char *out, size_t cap);
/* Walks all parameters from *rest (start with the whole query): decoded name and value; false at the end.
 * INVALID_VALUE-worthy damage (bad % escapes, names or values that do not fit) sets *bad. */
bool front_query_next(struct slice *rest, char *name, size_t name_cap, char *value, size_t value_cap, bool *bad);

/* ---- who holds it ---- */

struct front_owner {
    void *ctx;
    void (*gone)(void *ctx); /* see above */
    void (*ready)(
        void *ctx); /* after front_start or a non-final front_send: the bytes are taken, the next send may follow */
};
void front_call_own(struct front_call *call, const struct front_owner *owner);

/* ---- the answer ---- */

/* Whole answers. x-request-id is added; content-length is set; body and header values are copied. */
void front_reply(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, struct slice body);
void front_reply_json(struct front_call *call, int status, struct slice body);
/* The error object with its status (and request_id, on a listener with error_ids); adds x-should-retry: false for
 * INSUFFICIENT_QUOTA. */
void front_reply_err(struct front_call *call, const struct err *err, const struct front_header *headers, size_t n);

/* Streamed answers. <content_length> -1: unknown (chunked on HTTP/1.1). The head leaves with the first bytes. */
void front_start(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, int64_t content_length);
/* One send at a time. <bytes> must stay valid until `ready` runs. With <final> the call is dead on return, so the bytes
 * are copied into the request's own memory first. */
void front_send(struct front_call *call, struct slice bytes, bool final);
/* Memory of mem_alloc that was lent by front_send and must outlive a front_abort: taken over, and freed when nobody can
 * read it any more. */
void front_call_keep(struct front_call *call, void *memory);

/* Ends a streamed answer so that the client can see that it is not whole; before front_start: closes without an answer.
 */
void front_abort(struct front_call *call);

#endif
