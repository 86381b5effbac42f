/* lib_peer.h - an upstream of raw sockets that does as each test says.
 *
 * A thread accepts; each connection gets a thread of its own, which runs the test's `serve` with the connection and its
 * number. So a test can answer, break off, dawdle or talk nonsense at any byte, in clear text or over TLS. */
#ifndef TG_TESTS_LIB_PEER_H
#define TG_TESTS_LIB_PEER_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PEER_FDS = 4096 };

struct peer {
    int fd;
    SSL *ssl;   /* NULL: clear text */
    int number; /* of the connection, from 1 */
    char *got;  /* the last request, with a NUL */
    size_t len;
};

typedef void peer_fn(struct peer *peer);

struct peer_server {
    int fd;
    uint16_t port;
    atomic_int connections;
    atomic_int requests;
    atomic_int ended; /* connection threads that returned */
    peer_fn *_Atomic serve;
    SSL_CTX *_Atomic tls; /* connections are served by TLS; set between cases; NULL: in clear text */
    pthread_mutex_t lock;
    char *last;          /* the last request read, of any connection */
    bool open[PEER_FDS]; /* by descriptor */
};

extern struct peer_server peer_server;

void peer_server_start(void);

/* Ends all connections; the next ones are served so, and counted from 0. */
void peer_server_reset(peer_fn *serve);

/* One whole request with a Content-Length or none; false at the end of the connection. */
bool peer_read(struct peer *p);

/* Its head only, and what came with it of the body. */
bool peer_read_head(struct peer *p);
const char *peer_body(const struct peer *p);

/* Reads <n> more bytes and drops them; false at the end of the connection. */
bool peer_skip(struct peer *p, size_t n);

void peer_say(struct peer *p, const char *text);
void peer_say_bytes(struct peer *p, const void *bytes, size_t len);
void peer_wait_end(struct peer *p); /* until the other side goes, 10 s at most */

/* A listening socket on a free port of 127.0.0.1. */
uint16_t peer_listen(int *fd, int backlog);

#endif
