/* lib_peer.c - see lib_peer.h. */
#define _GNU_SOURCE
#include "lib_peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer_server peer_server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void must(bool ok)
{
    if (!ok) {
        perror("lib_peer");
        abort();
    }
}

static ssize_t take(struct peer *p, void *out, size_t cap)
{
    return p->ssl != NULL ? SSL_read(p->ssl, out, (int)cap) : read(p->fd, out, cap);
}

/* Some more of a request, at the end of what is there. */
static bool more(struct peer *p, size_t *cap)
{
    ssize_t n;

    if (p->len == *cap) {
        *cap *= 2;
        p->got = realloc(p->got, *cap + 1);
    }
    n = take(p, p->got + p->len, *cap - p->len);
    if (n <= 0)
        return false;
    p->len += (size_t)n;
    p->got[p->len] = '\0';
    return true;
}

static bool read_head(struct peer *p, size_t *cap)
{
    *cap = 4096;
    p->len = 0;
    p->got = realloc(p->got, *cap + 1);
    p->got[0] = '\0';
    while (strstr(p->got, "\r\n\r\n") == NULL)
        if (!more(p, cap))
            return false;
    return true;
}

bool peer_read_head(struct peer *p)
{
    size_t cap;

    return read_head(p, &cap);
}

bool peer_read(struct peer *p)
{
    size_t cap, need;
    char *length;

    if (!read_head(p, &cap))
        return false;
    need = (size_t)(peer_body(p) - p->got);
    length = strcasestr(p->got, "content-length:");
    if (length != NULL && length < p->got + need)
        need += strtoul(length + 15, NULL, 10);
    while (p->len < need)
        if (!more(p, &cap))
            return false;
    atomic_fetch_add(&peer_server.requests, 1);
    pthread_mutex_lock(&peer_server.lock);
    free(peer_server.last);
    peer_server.last = strdup(p->got);
    pthread_mutex_unlock(&peer_server.lock);
    return true;
}

bool peer_skip(struct peer *p, size_t n)
{
    char piece[64 * 1024];

    while (n > 0) {
        ssize_t got = take(p, piece, n < sizeof(piece) ? n : sizeof(piece));

        if (got <= 0)
            return false;
        n -= (size_t)got;
    }
    return true;
}

void peer_say_bytes(struct peer *p, const void *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = p->ssl != NULL ? SSL_write(p->ssl, bytes, (int)len) : send(p->fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        bytes = (const char *)bytes + n;
        len -= (size_t)n;
    }
}

void peer_say(struct peer *p, const char *text)
{
    peer_say_bytes(p, text, strlen(text));
}

static bool greet(struct peer *p, SSL_CTX *tls)
{
    if (tls == NULL)
        return true;
    p->ssl = SSL_new(tls);
    return SSL_set_fd(p->ssl, p->fd) == 1 && SSL_accept(p->ssl) == 1;
}

static void *connection(void *arg)
{
    struct peer *p = arg;
    peer_fn *serve = atomic_load(&peer_server.serve);

    if (greet(p, atomic_load(&peer_server.tls)))
        serve(p);
    SSL_free(p->ssl);
    pthread_mutex_lock(&peer_server.lock);
    peer_server.open[p->fd] = false;
    close(p->fd);
    pthread_mutex_unlock(&peer_server.lock);
    free(p->got);
    free(p);
    atomic_fetch_add(&peer_server.ended, 1);
    return NULL;
}

/* The port that peer_server_reset calls from; 0: it has been accepted, and so has all that stood before it. */
static atomic_int marker;

static void *accepter(void *arg)
{
    (void)arg;
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        int fd = accept(peer_server.fd, (struct sockaddr *)&from, &len);
        struct peer *p;
        pthread_t thread;

        if (fd < 0)
            return NULL;
        must(fd < PEER_FDS);
        if (ntohs(from.sin_port) == atomic_load(&marker)) {
            close(fd);
            atomic_store(&marker, 0);
            continue;
        }
        p = calloc(1, sizeof(*p));
        p->fd = fd;
        pthread_mutex_lock(&peer_server.lock);
        peer_server.open[fd] = true;
        pthread_mutex_unlock(&peer_server.lock);
        p->number = atomic_fetch_add(&peer_server.connections, 1) + 1;
        pthread_create(&thread, NULL, connection, p);
        pthread_detach(thread);
    }
}

uint16_t peer_listen(int *fd, int backlog)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);

    *fd = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(*fd, (struct sockaddr *)&in, sizeof(in)) == 0);
    must(listen(*fd, backlog) == 0);
    must(getsockname(*fd, (struct sockaddr *)&in, &len) == 0);
    return ntohs(in.sin_port);
}

void peer_server_start(void)
{
    pthread_t thread;

    (void)signal(SIGPIPE, SIG_IGN);
    peer_server.port = peer_listen(&peer_server.fd, 512);
    must(pthread_create(&thread, NULL, accepter, NULL) == 0);
    (void)pthread_detach(thread);
}

/* Until all connections that were made are accepted: a late one would be taken for the next case's first. */
static void empty_backlog(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(peer_server.port)};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(own);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    must(bind(fd, (struct sockaddr *)&own, sizeof(own)) == 0);
    must(getsockname(fd, (struct sockaddr *)&own, &len) == 0);
    atomic_store(&marker, ntohs(own.sin_port));
    must(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    while (atomic_load(&marker) != 0)
        usleep(100);
    close(fd);
}

void peer_server_reset(peer_fn *serve)
{
    empty_backlog();
    pthread_mutex_lock(&peer_server.lock);
    for (int fd = 0; fd < PEER_FDS; fd++)
        if (peer_server.open[fd])
            (void)shutdown(fd, SHUT_RDWR);
    pthread_mutex_unlock(&peer_server.lock);
    while (atomic_load(&peer_server.ended) < atomic_load(&peer_server.connections))
        usleep(1000);
    atomic_store(&peer_server.serve, serve);
    atomic_store(&peer_server.connections, 0);
    atomic_store(&peer_server.ended, 0);
    atomic_store(&peer_server.requests, 0);
}

const char *peer_body(const struct peer *p)
{
    return strstr(p->got, "\r\n\r\n") + 4;
}

void peer_wait_end(struct peer *p)
{
    struct pollfd watch = {p->fd, POLLIN, 0};

    (void)poll(&watch, 1, 10000);
}
