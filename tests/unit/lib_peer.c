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

bool peer_read(struct peer *p)
{
    size_t cap = 4096, need = 0;

    p->len = 0;
    p->got = realloc(p->got, cap + 1);
    for (;;) {
        ssize_t n = read(p->fd, p->got + p->len, cap - p->len);
        char *end, *length;

        if (n <= 0)
            return false;
        p->len += (size_t)n;
        p->got[p->len] = '\0';
        end = need == 0 ? strstr(p->got, "\r\n\r\n") : NULL;
        if (end != NULL) {
            length = strcasestr(p->got, "content-length:");
            need = (size_t)(end + 4 - p->got) + (length != NULL && length < end ? strtoul(length + 15, NULL, 10) : 0);
        }
        if (need != 0 && p->len >= need)
            break;
        if (p->len == cap) {
            cap *= 2;
            p->got = realloc(p->got, cap + 1);
        }
    }
    atomic_fetch_add(&peer_server.requests, 1);
    pthread_mutex_lock(&peer_server.lock);
    free(peer_server.last);
    peer_server.last = strdup(p->got);
    pthread_mutex_unlock(&peer_server.lock);
    return true;
}

void peer_say_bytes(struct peer *p, const void *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(p->fd, bytes, len, MSG_NOSIGNAL);

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

static void *connection(void *arg)
{
    struct peer *p = arg;
    peer_fn *serve = atomic_load(&peer_server.serve);

    serve(p);
    pthread_mutex_lock(&peer_server.lock);
    peer_server.open[p->fd] = false;
    close(p->fd);
    pthread_mutex_unlock(&peer_server.lock);
    free(p->got);
    free(p);
    atomic_fetch_add(&peer_server.ended, 1);
    return NULL;
}

static void *accepter(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(peer_server.fd, NULL, NULL);
        struct peer *p;
        pthread_t thread;

        if (fd < 0)
            return NULL;
        must(fd < PEER_FDS);
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

void peer_server_reset(peer_fn *serve)
{
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
