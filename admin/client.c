/* client.c - one request, one connection: HTTP/1.1 with `Connection: close`, over TCP or a unix socket.
 *
 * The daemon sends a content-length with every answer of the admin API, so nothing else is understood. Blocking, with a
 * deadline for every read and write. One thread. */
#define _GNU_SOURCE /* memmem */
#include "client.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { DEADLINE_SECONDS = 15, CHUNK = 16 * 1024, HOST = 256 };

static int open_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && slice_copy(slice_from(path), address.sun_path, sizeof(address.sun_path)) &&
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    if (fd >= 0)
        (void)close(fd);
    return -1;
}

/* "host:port", "[v6]:port" into its two halves. */
static bool split_address(const char *text, char host[HOST], char port[HOST])
{
    struct slice name, number;

    return slice_split_address(slice_from(text), &name, &number) && slice_copy(name, host, HOST) &&
           slice_copy(number, port, HOST);
}

static int open_tcp(const char *text)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[HOST], port[HOST];
    int fd = -1;

    /* A wildcard ("0.0.0.0", "::") connects to this machine. */
    if (!split_address(text, host, port) || getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) != 0)
        return -1;
    for (const struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

static int open_connection(const char *address)
{
    const struct timeval deadline = {.tv_sec = DEADLINE_SECONDS};
    int fd = strncmp(address, "unix:", 5) == 0 ? open_unix(address + 5) : open_tcp(address);

    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof(deadline));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof(deadline));
    }
    return fd;
}

static bool send_all(int fd, struct slice bytes)
{
    while (bytes.len > 0) {
        ssize_t n = send(fd, bytes.p, bytes.len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes = (struct slice){bytes.p + n, bytes.len - (size_t)n};
    }
    return true;
}

static bool receive_all(int fd, struct buf *out)
{
    for (;;) {
        char *at = buf_reserve(out, CHUNK);
        ssize_t n = at != NULL ? recv(fd, at, CHUNK, 0) : -1;

        if (at != NULL && n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0;
        buf_advance(out, (size_t)n);
    }
}

/* The value of content-length in a head of lines that end with CR LF; -1 when there is none. */
static int64_t find_length(struct slice head)
{
    struct slice line, name, value;
    unsigned long long length;

    while (head.len > 0) {
        (void)slice_cut(head, '\n', &line, &head);
        if (line.len > 0 && line.p[line.len - 1] == '\r')
            line.len--;
        if (slice_cut(line, ':', &name, &value) && slice_eq_nocase(name, SLICE("content-length")) &&
            slice_to_u64(slice_trim(value), &length) && length <= CLIENT_REPLY)
            return (int64_t)length;
    }
    return -1;
}

/* "HTTP/1.1 200 OK", the head, an empty line, the body. */
static bool read_reply(struct slice all, int *status, struct buf *reply)
{
    static const char blank[] = "\r\n\r\n";
    const char *end = all.len > 0 ? memmem(all.p, all.len, blank, strlen(blank)) : NULL;
    struct slice body;
    unsigned long long number;
    int64_t length;

    if (end == NULL || all.len < 12 || strncmp(all.p, "HTTP/1.", 7) != 0 ||
        !slice_to_u64((struct slice){all.p + 9, 3}, &number))
        return false;
    body = (struct slice){end + strlen(blank), (size_t)(all.p + all.len - end) - strlen(blank)};
    length = find_length((struct slice){all.p, (size_t)(end - all.p)});
    if (length < 0 || (size_t)length > body.len)
        return false;
    *status = (int)number;
    buf_append(reply, body.p, (size_t)length);
    return !reply->full;
}

enum err_code client_post(const char *address, const char *path, const char *token, struct slice body, int *status,
                          struct buf *reply, struct err *err)
{
    int fd = open_connection(address);
    struct buf request, all;
    bool whole;

    if (fd < 0)
        return err_set(err, ERR_NO_CHANNEL, NULL, "nobody answers on %s", address);
    buf_init(&request, CLIENT_REPLY);
    buf_init(&all, 2 * CLIENT_REPLY);
    buf_printf(&request,
               "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer %s\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
               path, token, body.len);
    buf_append_slice(&request, body);
    whole = !request.full && send_all(fd, buf_slice(&request)) && receive_all(fd, &all) &&
            read_reply(buf_slice(&all), status, reply);
    (void)close(fd);
    explicit_bzero(request.p, request.len); /* the token; and a secret may stand in the answer */
    if (all.len > 0)
        explicit_bzero(all.p, all.len);
    buf_dispose(&request);
    buf_dispose(&all);
    return whole ? ERR_OK : err_set(err, ERR_UNAVAILABLE, NULL, "no whole answer came from %s", address);
}
