/* lib_front.h - a real front on two free ports, one of them inside TLS, and a client of raw bytes for it.
 *
 * The front has one loop. The client waits five seconds for anything, and keeps what it heard. */
#ifndef TG_TESTS_LIB_FRONT_H
#define TG_TESTS_LIB_FRONT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include "daemon/front/front.h"

#define HOST "Host: x\r\n"

enum { HEARD_MAX = 1 << 18 };

extern struct front *front;
extern int front_port, front_tls_port;
extern const char *front_cache; /* the front's cache_directory; to be set before */

/* 0, or -1: as cmocka's set-up functions return. */
int front_up(const struct front_route *routes, int64_t max_body, int64_t request_timeout);
int front_down(void);

/* No call is left; the loop has had a second to get there. */
void front_idle(void);

struct client {
    int fd;
    SSL *ssl; /* NULL: clear text */
};

struct client client_open(bool tls);
void client_close(struct client *c);
void client_reset(struct client *c);                                     /* closes with RST */
bool client_send(const struct client *c, const char *bytes, size_t len); /* false: the connection broke */
void client_say(const struct client *c, const char *text);
void client_say_in_pieces(const struct client *c, const char *text, size_t piece); /* a segment each */

/* What was heard last; client_hear_until and client_hear_all begin anew. */
extern char heard[HEARD_MAX];
void client_hear_until(const struct client *c, const char *text);
bool client_hear_all(const struct client *c); /* until the end; false: it was a reset, or took too long */
bool heard_text(const char *text);
int heard_status(void); /* of the first answer; 100 counts */

void await_at_least(atomic_int *counter, int value); /* five seconds */

/* Handlers of FRONT_STREAMED routes that take the body in: the answer is "sink LENGTH SUM.", or the error that its end
 * told. The second asks for the body only 20 ms later. */
void sink_now(void *ctx, struct front_call *call);
void sink_late(void *ctx, struct front_call *call);
extern atomic_int sink_calls, sink_pieces, sink_gone; /* handlers that ran, data() that ran, clients that left */
extern atomic_llong sink_bytes;
/* What such an answer is for these bytes. */
const char *sink_answer(const void *bytes, size_t len, char out[64]);

/* A checksum over bytes that come in pieces. */
uint64_t sum_bytes(uint64_t sum, const void *bytes, size_t len);

#endif
