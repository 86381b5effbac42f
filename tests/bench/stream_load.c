/* stream_load.c - clients of event streams for the bench: how late each event comes, or how many streams stand open.
 *
 *   stream_load PORT PATH KEY STREAMS PER_SECOND
 *
 * Opens STREAMS connections, PER_SECOND at most, with one streamed call each, and reads them to their ends. Prints
 * "open" when each has its first event, and at the end one line of JSON: how many partial images and completed events
 * came, and how long after stream_mock had written them (same machine, same clock); what came before all were open is
 * left out. One thread. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 32, PIECE = 65536, TURN = 512, REQUEST_MAX = 2048, DIGITS = 16 };

/* "t":"<16 hex digits><0 or 1>" */
static const char MARK[] = "\"t\":\"", END[] = "\r\n0\r\n\r\n";

struct client {
    int fd;
    bool started;
    size_t len;      /* bytes kept of what came before */
    char kept[KEPT]; /* a mark or an end may be split */
};

struct series {
    int64_t *late;
    size_t n, cap;
};

static struct {
    int epoll, port;
    long streams, per_second, opened, started, ended, failed;
    char request[REQUEST_MAX];
    size_t request_len;
    struct client *clients;
    struct series partial, completed;
} load;

static void die(const char *what)
{
    fprintf(stderr, "stream_load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void book(struct series *s, int64_t late)
{
    if (load.started < load.streams)
        return;
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 65536 : s->cap * 2;
        s->late = realloc(s->late, s->cap * sizeof(s->late[0]));
        if (s->late == NULL)
            die("realloc");
    }
    s->late[s->n++] = late;
}

static void finish(struct client *c, bool good)
{
    close(c->fd);
    c->fd = -1;
    load.ended++;
    load.failed += !good;
}

static void note_start(struct client *c)
{
    if (c->started)
        return;
    c->started = true;
    if (++load.started == load.streams) {
        printf("open\n");
        fflush(stdout);
    }
}

/* Looks through what was kept and what came for events' times and for the end of the body. */
static void look(struct client *c, const char *bytes, size_t len, int64_t at)
{
    const char *p = bytes, *end = bytes + len, *mark;

    while ((mark = memmem(p, (size_t)(end - p), MARK, sizeof(MARK) - 1)) != NULL &&
           (size_t)(end - mark) > sizeof(MARK) - 1 + DIGITS) {
        char digits[DIGITS + 1] = {0};

        mark += sizeof(MARK) - 1;
        memcpy(digits, mark, DIGITS);
        book(mark[DIGITS] == '1' ? &load.completed : &load.partial, at - (int64_t)strtoull(digits, NULL, 16));
        note_start(c);
        p = mark + DIGITS + 1;
    }
    c->len = (size_t)(end - p) < KEPT ? (size_t)(end - p) : KEPT;
    memcpy(c->kept, end - c->len, c->len);
    if (len >= sizeof(END) - 1 && memcmp(end - (sizeof(END) - 1), END, sizeof(END) - 1) == 0)
        finish(c, c->started);
}

static void on_readable(struct client *c)
{
    static char bytes[KEPT + PIECE];
    ssize_t n;

    memcpy(bytes, c->kept, c->len);
    n = recv(c->fd, bytes + c->len, PIECE, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        finish(c, false);
        return;
    }
    look(c, bytes, c->len + (size_t)n, now_ns());
}

static void open_one(struct client *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load.port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        die("connect");
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (send(c->fd, load.request, load.request_len, MSG_NOSIGNAL) != (ssize_t)load.request_len)
        die("send");
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl");
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static double at_share(const struct series *s, double share)
{
    return s->n == 0 ? 0 : (double)s->late[(size_t)((double)(s->n - 1) * share)] / 1e3;
}

static void print_series(const char *name, struct series *s)
{
    if (s->n > 0)
        qsort(s->late, s->n, sizeof(s->late[0]), by_size);
    printf(",\"%s\":%zu,\"%s_p50\":%.1f,\"%s_p99\":%.1f,\"%s_max\":%.1f", name, s->n, name, at_share(s, 0.5), name,
           at_share(s, 0.99), name, at_share(s, 1));
}

static void make_request(const char *path, const char *key)
{
    static const char body[] =
        "{\"model\":\"gpt-image-1\",\"prompt\":\"a sea otter\",\"size\":\"1024x1024\",\"quality\":"
        "\"low\",\"stream\":true,\"partial_images\":3}";

    load.request_len = (size_t)snprintf(load.request, sizeof(load.request),
                                        "POST %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\nContent-Type: "
                                        "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                        path, key, sizeof(body) - 1, body);
}

static void run(void)
{
    struct epoll_event ready[TURN];
    int64_t began = now_ns();

    while (load.ended < load.streams) {
        int64_t may = (now_ns() - began) * load.per_second / 1000000000 + 1;
        int n;

        while (load.opened < load.streams && load.opened < may)
            open_one(&load.clients[load.opened++]);
        n = epoll_wait(load.epoll, ready, TURN, load.opened < load.streams ? 1 : -1);
        for (int i = 0; i < n; i++)
            on_readable(ready[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    struct rlimit limit;

    if (argc != 6) {
        fprintf(stderr, "usage: stream_load PORT PATH KEY STREAMS PER_SECOND\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    load.port = atoi(argv[1]);
    make_request(argv[2], argv[3]);
    load.streams = atol(argv[4]);
    load.per_second = atol(argv[5]);
    load.epoll = epoll_create1(0);
    load.clients = calloc((size_t)load.streams, sizeof(load.clients[0]));
    if (load.clients == NULL)
        die("calloc");
    run();
    printf("{\"streams\":%ld,\"failed\":%ld", load.streams, load.failed);
    print_series("partial", &load.partial);
    print_series("completed", &load.completed);
    printf("}\n");
    return load.failed != 0;
}
