/* http1.c - stands between an HTTP/1 socket and the library, so that the library sees judged heads, one at a time, and
 * nothing else.
 *
 * The library reads by a callback that it sets itself, anew for every request, and parses what is left in the socket's
 * buffer without reading. So its callback is kept and ours put in its place before the loop next looks at the socket.
 * What follows a head is its body, which intake.c reads, and then what waits for the request to be over.
 *
 *     http1_begin                              head good
 *    ------------> READING A HEAD (on_head) ------------> BUSY (http1_taken; on_busy, or intake.c reads)
 *                    ^         |                            |
 *                    |         | refused                    | answered (http1_done)
 *    http1_next      |         v                            v
 *    (loop_guard) ---'      LINGERING (on_refused, <----- between two requests
 *                            on_lingering) --> closed   body forsaken
 *
 * Invariants
 *  (1) No byte of a head reaches the library before head_judge called the whole head good, and no byte behind it ever.
 *  (2) `kept` is called only while one of our callbacks waits in the socket: then the library's connection is alive.
 *      Once it is not, it has closed the socket, or is closing it (TLS), and has taken our callbacks out.
 *  (3) While BUSY the socket stays registered for reading but is not read, unless intake.c does: so a request that is
 *      answered later costs no epoll_ctl. The request's slices point into sock->input, which does not move.
 *  (4) Clear text is read by us alone, a bounded piece at a time; TLS by the library.
 * The loop's own thread. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "inside.h"

enum { REFUSAL_MAX = 4096, HEAD_PIECE = 4096 };

/* A client that is told early that its upload is too large often looks only after the upload: until then it must not be
 * reset, or it sees a broken connection and tries again. */
#define LINGER_PATIENCE (30 * CLOCK_SECOND)

static void on_head(h2o_socket_t *sock, const char *err);
static void on_refused(h2o_socket_t *sock, const char *err);
static void on_lingering(h2o_socket_t *sock, const char *err);

/* ---- callbacks and their end ---- */

void http1_enter(struct front_conn *conn)
{
    conn->inside++;
}

bool http1_leave(struct front_conn *conn)
{
    bool closed = conn->closed;

    if (--conn->inside == 0 && closed)
        free(conn);
    return !closed;
}

/* Something came, or the peer went, while a handler is at work. It is looked at when that is done. */
static void on_busy(h2o_socket_t *sock, const char *err)
{
    (void)err;
    h2o_socket_read_stop(sock);
}

void http1_rest(struct front_conn *conn)
{
    h2o_socket_dont_read(conn->sock, 1);
    conn->sock->_cb.read = on_busy; /* not read_start: nothing changes for epoll */
}

void http1_end(struct front_conn *conn, const char *err)
{
    http1_enter(conn);
    conn->kept(conn->sock, err);
    (void)http1_leave(conn);
}

/* The head in the socket's buffer is the library's now. <conn> may be gone on return. */
static void to_library(struct front_conn *conn)
{
    h2o_socket_t *sock = conn->sock;

    http1_enter(conn);
    conn->kept(sock, NULL);
    if (http1_leave(conn) && conn->call != NULL && sock->_cb.read == NULL)
        http1_rest(conn);
}

void http1_give_up(struct front_conn *conn)
{
    const h2o_socket_t *sock = conn->sock;
    h2o_socket_cb reads = sock->_cb.read;

    if (intake_has_time(conn))
        return;
    if (reads == on_head || reads == on_lingering || sock->_cb.write == on_refused || intake_reads(conn))
        http1_end(conn, h2o_socket_error_closed);
    else
        h2o_socket_close(conn->sock);
}

/* ---- reading clear text ---- */

static ssize_t read_some(const struct front_conn *conn, char *out, size_t max)
{
    ssize_t n;

    do
        n = read(h2o_socket_get_fd(conn->sock), out, max);
    while (n < 0 && errno == EINTR);
    return n;
}

static const char *judge_read(ssize_t n)
{
    if (n == 0)
        return h2o_socket_error_closed;
    return n < 0 && errno != EAGAIN ? h2o_socket_error_io : NULL;
}

const char *http1_read(struct front_conn *conn, size_t max, struct slice *out)
{
    char *scratch = conn->site->loop->scratch;
    ssize_t n = read_some(conn, scratch, max < SCRATCH ? max : SCRATCH);

    *out = (struct slice){scratch, n > 0 ? (size_t)n : 0};
    return judge_read(n);
}

static const char *read_head(struct front_conn *conn)
{
    h2o_buffer_t **input = &conn->sock->input;
    h2o_iovec_t room = h2o_buffer_reserve(input, HEAD_PIECE);
    ssize_t n = read_some(conn, room.base, room.len);

    if (n > 0)
        (*input)->size += (size_t)n;
    return judge_read(n);
}

/* ---- refusing, and lingering ---- */

static void on_lingering(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;
    struct slice dropped;

    if (err == NULL && sock->ssl == NULL)
        err = http1_read(conn, SCRATCH, &dropped);
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (err != NULL)
        http1_end(conn, err);
}

/* The answer has left. What still comes is read and dropped, until the client has seen it and goes. */
static void linger(struct front_conn *conn)
{
    (void)shutdown(h2o_socket_get_fd(conn->sock), SHUT_WR);
    h2o_socket_read_start(conn->sock, on_lingering);
}

static void on_refused(h2o_socket_t *sock, const char *err)
{
    if (err != NULL)
        http1_end(sock->on_close.data, err);
    else
        linger(sock->on_close.data);
}

static void refuse(struct front_conn *conn, enum head_verdict verdict, int64_t max)
{
    h2o_socket_t *sock = conn->sock;
    struct err err;
    h2o_iovec_t bytes;

    if (verdict == HEAD_TOO_LARGE)
        (void)err_set(&err, ERR_TOO_LARGE, NULL, "The request body is larger than the maximum of %lld bytes.",
                      (long long)max);
    else
        (void)err_set(&err, ERR_BAD_REQUEST, NULL, "The request could not be understood as HTTP.");
    buf_init(&conn->refusal, REFUSAL_MAX);
    refuse_append(&conn->refusal, &conn->site->place->listener, &err);
    bytes = h2o_iovec_init(conn->refusal.p, conn->refusal.len);
    h2o_socket_read_stop(sock);
    h2o_buffer_consume(&sock->input, sock->input->size);
    loop_timer_arm(conn->site->loop, &conn->patience, LINGER_PATIENCE);
    h2o_socket_write(sock, &bytes, 1, on_refused);
}

/* ---- heads ---- */

/* The limit of the route, as far as the target shows it without decoding; call.c looks again. */
static int64_t limit_of(const struct front_conn *conn, const struct head *head)
{
    const struct front_listener *listener = &conn->site->place->listener;
    struct route_match match;
    struct slice path, query;

    (void)slice_cut(head->target, '?', &path, &query);
    route_find(listener->routes, head->method, path, &match);
    return match.route != NULL && match.route->max_body > 0 ? match.route->max_body : listener->max_body;
}

/* What has come of the next head, if that is all. */
static void judge(struct front_conn *conn)
{
    h2o_buffer_t *input = conn->sock->input;
    struct head head;
    enum head_verdict verdict = head_judge(input->bytes, input->size, conn->seen, &head);
    int64_t max = 0;

    if (verdict == HEAD_INCOMPLETE) {
        conn->seen = input->size;
        return;
    }
    loop_timer_disarm(conn->site->loop, &conn->patience);
    if (verdict == HEAD_GOOD) {
        max = limit_of(conn, &head);
        if (head.body > (unsigned long long)max)
            verdict = HEAD_TOO_LARGE;
    }
    if (verdict != HEAD_GOOD) {
        refuse(conn, verdict, max);
        return;
    }
    intake_open(conn, &head, max);
    to_library(conn);
}

/* The rest of a body that was answered without it. Whether anything stands behind it. */
static bool skip(struct front_conn *conn)
{
    h2o_buffer_t **input = &conn->sock->input;
    size_t n = (*input)->size < conn->skip ? (*input)->size : conn->skip;

    conn->skip -= n;
    h2o_buffer_consume(input, n);
    return (*input)->size > 0;
}

static void on_head(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;

    if (err == NULL && sock->ssl == NULL)
        err = read_head(conn);
    if (err != NULL)
        http1_end(conn, err);
    else if (skip(conn))
        judge(conn);
}

/* ---- between two requests ---- */

void http1_hold(struct front_conn *conn, struct slice bytes)
{
    if (bytes.len == 0)
        return;
    TG_ASSERT(conn->held == NULL);
    conn->n_held = bytes.len;
    conn->held = mem_alloc(bytes.len);
    memcpy(conn->held, bytes.p, bytes.len);
}

void http1_next(struct front_conn *conn)
{
    h2o_socket_t *sock = conn->sock;
    h2o_iovec_t room;

    conn->guard_wanted = false;
    if (sock->_cb.read == NULL) /* the library is closing it */
        return;
    conn->kept = sock->_cb.read;
    conn->seen = 0;
    if (conn->lingers) {
        loop_timer_arm(conn->site->loop, &conn->patience, LINGER_PATIENCE);
        linger(conn);
        return;
    }
    sock->_cb.read = on_head;
    if (conn->held == NULL)
        return;
    room = h2o_buffer_reserve(&sock->input, conn->n_held);
    if (room.base == NULL) { /* a large buffer is a temporary file, and there was no room for it */
        http1_end(conn, h2o_socket_error_out_of_memory);
        return;
    }
    memcpy(room.base, conn->held, conn->n_held);
    sock->input->size += conn->n_held;
    free(conn->held);
    conn->held = NULL;
    judge(conn);
}

void http1_begin(struct front_conn *conn)
{
    h2o_socket_t *sock = conn->sock;
    struct timeval now;

    h2o_socket_read_stop(sock);
    http1_hold(conn, (struct slice){sock->input->bytes, sock->input->size});
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (sock->ssl == NULL)
        h2o_socket_dont_read(sock, 1);
    (void)gettimeofday(&now, NULL);
    h2o_http1_accept(&conn->site->accept, sock, now);
    http1_next(conn);
}

void http1_taken(struct front_conn *conn, struct front_call *call)
{
    conn->call = call;
}

void http1_done(struct front_conn *conn)
{
    conn->call = NULL;
    intake_close(conn);
    if (conn->sock->ssl != NULL)
        h2o_socket_dont_read(conn->sock, 0);
    loop_guard(conn->site->loop, conn);
}
