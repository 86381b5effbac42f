/* stream_mock.c - an upstream of event streams for the bench: cheap enough not to be what is measured.
 *
 *   stream_mock PORT EVENTS INTERVAL_US BYTES
 *
 * Answers each POST with an event stream of EVENTS partial images, INTERVAL_US apart, each with BYTES of base64, then a
 * completed event with usage. Each tells the time (monotonic nanoseconds) at which it was written, and 0 or 1: whether
 * it is the completed one. EVENTS 0: one event, then silence until SIGUSR1 completes all streams. One thread.
 *
 *   accepted -> READING --request whole--> STREAMING (in the queue, ordered by due time) --completed--> READING
 *
 * Invariant: all streams wait equally long, so the queue's order is that of joining and its head is always due first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { REQUEST_MAX = 8192, EVENT_MAX = 65536, TURN = 512 };

struct stream {
    int fd;
    int left; /* events still to come before the completed one */
    int64_t due;
    size_t len; /* of the request so far */
    bool queued;
    struct stream *next;
    char request[];
};

static struct {
    int epoll, listener, events;
    int64_t interval;
    struct stream *head, **tail;
    char *filler;
} mock = {.tail = &mock.head};

static volatile sig_atomic_t release;

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

static void die(const char *what)
{
    fprintf(stderr, "stream_mock: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void on_release(int number)
{
    (void)number;
    release = 1;
}

static void enqueue(struct stream *s)
{
    s->due = now_ns() + mock.interval * 1000;
    s->next = NULL;
    s->queued = true;
    *mock.tail = s;
    mock.tail = &s->next;
}

/* Streams are short and small: what the socket does not take at once is a broken bench. */
static bool send_all(struct stream *s, const char *bytes, size_t len)
{
    return send(s->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool send_event(struct stream *s, const char *kind, const char *more, bool last)
{
    char data[EVENT_MAX + 512], chunk[EVENT_MAX + 640];
    int len, framed;

    len = snprintf(data, sizeof(data),
                   "event: image_generation.%s\ndata: {\"type\":\"image_generation.%s\",\"b64_json\":\"%s\"%s,"
                   "\"t\":\"%016llx%d\"}\n\n",
                   kind, kind, mock.filler, more, (unsigned long long)now_ns(), last);
    framed = snprintf(chunk, sizeof(chunk), "%x\r\n%s\r\n%s", (unsigned)len, data, last ? "0\r\n\r\n" : "");
    return send_all(s, chunk, (size_t)framed);
}

static bool send_next(struct stream *s)
{
    if (s->left > 0) {
        s->left--;
        return send_event(s, "partial_image", ",\"partial_image_index\":0", false);
    }
    return send_event(s, "completed", ",\"usage\":{\"input_tokens\":10,\"output_tokens\":272,\"total_tokens\":282}",
                      true);
}

static void drop(struct stream *s)
{
    if (s->queued) { /* freed when its turn comes */
        shutdown(s->fd, SHUT_RDWR);
        epoll_ctl(mock.epoll, EPOLL_CTL_DEL, s->fd, NULL);
        return;
    }
    close(s->fd);
    free(s);
}

static void run_due(void)
{
    while (mock.head != NULL && (release || (mock.events > 0 && mock.head->due <= now_ns()))) {
        struct stream *s = mock.head;
        bool last = s->left == 0;

        mock.head = s->next;
        if (mock.head == NULL)
            mock.tail = &mock.head;
        s->queued = false;
        if (!send_next(s))
            drop(s);
        else if (!last)
            enqueue(s);
    }
    if (mock.head == NULL)
        release = 0;
}

static int64_t body_length(const char *head)
{
    const char *at = strcasestr(head, "\r\ncontent-length:");

    return at != NULL ? atoll(at + 17) : 0;
}

static void on_request(struct stream *s)
{
    char *end;

    s->request[s->len] = '\0';
    end = strstr(s->request, "\r\n\r\n");
    if (end == NULL || s->len - (size_t)(end + 4 - s->request) < (size_t)body_length(s->request))
        return;
    s->len = 0;
    s->left = mock.events > 0 ? mock.events : 1;
    if (!send_all(s, HEAD, sizeof(HEAD) - 1)) {
        drop(s);
        return;
    }
    if (mock.events == 0 && !send_next(s)) {
        drop(s);
        return;
    }
    enqueue(s);
}

static void on_readable(struct stream *s)
{
    ssize_t n = recv(s->fd, s->request + s->len, REQUEST_MAX - 1 - s->len, 0);

    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            drop(s);
        return;
    }
    s->len += (size_t)n;
    if (!s->queued)
        on_request(s);
}

static void on_connection(void)
{
    int fd, one = 1;

    while ((fd = accept4(mock.listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct stream *s = calloc(1, sizeof(*s) + REQUEST_MAX);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};

        if (s == NULL)
            die("calloc");
        s->fd = fd;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (epoll_ctl(mock.epoll, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
    }
}

static void listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN};
    int one = 1;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    mock.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    mock.epoll = epoll_create1(0);
    (void)setsockopt(mock.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(mock.listener, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(mock.listener, 4096) != 0 ||
        epoll_ctl(mock.epoll, EPOLL_CTL_ADD, mock.listener, &event) != 0)
        die("listen");
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Until the next event is due; NULL: for ever. */
static struct timespec *patience(struct timespec *out)
{
    int64_t left;

    if (mock.head == NULL || mock.events == 0)
        return NULL;
    left = mock.head->due - now_ns();
    left = left < 0 ? 0 : left;
    out->tv_sec = (time_t)(left / 1000000000);
    out->tv_nsec = (long)(left % 1000000000);
    return out;
}

int main(int argc, char **argv)
{
    struct epoll_event ready[TURN];
    struct sigaction action = {.sa_handler = on_release};
    size_t bytes;

    if (argc != 5 || (bytes = (size_t)atoll(argv[4])) > EVENT_MAX) {
        fprintf(stderr, "usage: stream_mock PORT EVENTS INTERVAL_US BYTES\n");
        return 2;
    }
    mock.events = atoi(argv[2]);
    mock.interval = atoll(argv[3]);
    mock.filler = calloc(1, bytes + 1);
    if (mock.filler == NULL)
        die("calloc");
    memset(mock.filler, 'A', bytes);
    sigaction(SIGUSR1, &action, NULL);
    raise_file_limit();
    listen_on(atoi(argv[1]));
    for (;;) {
        struct timespec wait;
        int n = epoll_pwait2(mock.epoll, ready, TURN, patience(&wait), NULL);

        for (int i = 0; i < n; i++) {
            if (ready[i].data.ptr == NULL)
                on_connection();
            else
                on_readable(ready[i].data.ptr);
        }
        run_due();
    }
}
