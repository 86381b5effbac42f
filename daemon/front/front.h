/* front.h - listeners, routes and loops: everything between the network and a handler.
 *
 * The front owns each accepted socket, completes TLS itself and decides by ALPN, or on clear text by the first bytes,
 * whether HTTP/2 or HTTP/1 gets it; so a guard can stand between socket and library. It reads HTTP/1 bodies
 * itself, piece by piece; HTTP/2 bodies come whole from the library. It answers 404, 405, 413 and unparsable requests
 * with the error object by itself and knows nothing of money. */
#ifndef TG_FRONT_FRONT_H
#define TG_FRONT_FRONT_H

#include "call.h"

typedef void front_handler(void *ctx, struct front_call *call);

enum front_route_flags {
    FRONT_QUIET = 1,   /* not in the access log: health checks */
    FRONT_STREAMED = 2 /* the handler gets the call as soon as its head is there and asks for the body itself
                          (front_call_receive); else the front collects the body, in memory, and then calls it */
};

struct front_route {
    const char *method;  /* "POST" */
    const char *pattern; /* "/admin/v1/tenants/{id}": one {id} at most, one path segment; "{rest}" at the end takes the
                            remainder */
    front_handler *handler;
    unsigned flags;
    int64_t max_body; /* bytes; 0: the listener's */
};

struct front_listener {
    const char *const *addresses; /* "host:port", "[v6]:port", "unix:/path" */
    size_t n_addresses;
    const char *tls_certificate; /* PEM paths; NULL or "": clear text */
    const char *tls_key;
    bool http2;
    int64_t max_body;
    int64_t request_timeout; /* microseconds: for a head, and for a body beside what FRONT_BODY_RATE allows */
    bool is_public;          /* counted in the request metrics, and drained */
    bool error_ids;          /* every error object tells its request_id; else it has OpenAI's four keys alone */
    const struct front_route *routes; /* ends with a NULL method */
    void *ctx;                        /* handed to every handler */
};

/* A body may take the request time-out and a second more for each so many bytes that came (bytes a second). */
#define FRONT_BODY_RATE (16 * 1024)

struct front_options {
    int threads;                 /* >= 1 */
    int64_t max_connections;     /* over all loops */
    const char *cache_directory; /* where the library's large buffers (HTTP/2 bodies) lie; NULL: /tmp; copied */
    const struct front_listener *listeners;
    size_t n_listeners;
};

struct front;

/* Binds every listener (an error names the address) and makes the loops; nothing runs yet. unix: sockets left by a dead
 * process are replaced, mode 0660. */
TG_MUSTCHECK enum err_code front_open(const struct front_options *options, struct front **out, struct err *err);
int front_loops(const struct front *f);
struct loop *front_loop(struct front *f, int index);

/* "127.0.0.1:8080 ..." as bound (port 0 is replaced by the real one). */
void front_addresses(const struct front *f, size_t listener, struct buf *out);

TG_MUSTCHECK enum err_code front_start_loops(struct front *f, struct err *err); /* one thread each */

/* Public listeners accept no more, keep-alive connections close after their answer, GOAWAY on HTTP/2. The others go on,
 * so that a supervisor can watch. Any thread. */
void front_drain(struct front *f);
int64_t front_connections(const struct front *f);        /* open ones, of all listeners; any thread */
int64_t front_calls(const struct front *f);              /* calls not yet answered; any thread */
bool front_draining(const struct front *f);              /* any thread */
bool front_alive(const struct front *f, int64_t within); /* every loop turned within the last <within> microseconds */

/* Stops the loops (they finish their turn), joins the threads. Connections still open are closed by the process's end.
 */
void front_stop(struct front *f);

#endif
