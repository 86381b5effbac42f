/* http1.c - stands between an HTTP/1 socket and the library, so that the library sees judged heads only.
 *
 * The library reads by a callback that it sets itself, anew for every request, and parses what is left in the socket's
 * buffer without reading. So its callback is kept and ours put in its place before the loop next looks at the socket,
 * and what a client sent behind the request under way is held back until that one is over.
 *
 *     http1_begin                              head good             whole
 *    ------------> READING A HEAD (on_head) ------------> A BODY ------------> BUSY (on_busy; http1_taken)
 *                    ^         |                (on_body)   |                   |
 *                    |         | refused                    | past the limit    | http1_done
 *    http1_next      |         v                            v                   v
 *    (loop_guard) ---'      LINGERING (on_refused, on_lingering) --> closed   between two requests
 *
 * Invariants
 *  (1) No byte of a head reaches the library before head_judge called the whole head good.
 *  (2) `kept` is called only while one of our callbacks waits in the socket: then the library's connection is alive.
 * Once it is not, it has closed the socket, or is closing it (TLS), and has taken our callbacks out. (3) While busy the
 * socket stays registered for reading but is not read (the request's slices point into its buffer): so a request that
 * is answered later costs no epoll_ctl. (4) held != NULL only from http1_done to http1_next. The loop's own thread. */
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "daemon/base/clock.h"
#include "inside.h"

enum { REFUSAL_MAX = 4096 };

/* A client that is told early that its upload is too large often looks only after the upload: until then it must not be
 * reset, or it sees a broken connection and tries again. */
#define LINGER_PATIENCE (30 * CLOCK_SECOND)

static void on_head(h2o_socket_t *sock, const char *err);
static void on_body(h2o_socket_t *sock, const char *err);
static void on_refused(h2o_socket_t *sock, const char *err);
static void on_lingering(h2o_socket_t *sock, const char *err);
static void refuse(struct front_conn *conn, enum head_verdict verdict);

/* Something came, or the peer went, while a handler is at work. It is looked at when that is done. */
static void on_busy(h2o_socket_t *sock, const char *err)
{
    (void)err;
    h2o_socket_read_stop(sock);
}

static bool is_past_limit(const struct front_conn *conn)
{
    size_t size = conn->sock->input->size;

    return conn->chunked && size > conn->head && (int64_t)(size - conn->head) > conn->max_body;
}

/* <conn> may be gone on return. */
static void to_library(struct front_conn *conn, const char *err)
{
    h2o_socket_t *sock = conn->sock;

    conn->inside = true;
    conn->kept(sock, err);
    conn->inside = false;
    if (conn->closed) {
        free(conn);
    } else if (conn->busy && sock->_cb.read == NULL) {
        h2o_socket_dont_read(sock, 1);
        sock->_cb.read = on_busy; /* not read_start: nothing changes for epoll */
    } else if (!conn->busy && sock->_cb.read == on_body && is_past_limit(conn)) {
        refuse(conn, HEAD_TOO_LARGE);
    }
}

/* ---- refusing ---- */

void http1_give_up(struct front_conn *conn)
{
    const h2o_socket_t *sock = conn->sock;
    h2o_socket_cb reads = sock->_cb.read;

    if (reads == on_head || reads == on_body || reads == on_lingering || sock->_cb.write == on_refused)
        to_library(conn, h2o_socket_error_closed);
    else
        h2o_socket_close(conn->sock);
}

static void on_lingering(h2o_socket_t *sock, const char *err)
{
    h2o_buffer_consume(&sock->input, sock->input->size);
    if (err != NULL)
        to_library(sock->on_close.data, err);
}

static void on_refused(h2o_socket_t *sock, const char *err)
{
    if (err != NULL) {
        to_library(sock->on_close.data, err);
        return;
    }
    (void)shutdown(h2o_socket_get_fd(sock), SHUT_WR);
    h2o_socket_read_start(sock, on_lingering);
}

static void refuse(struct front_conn *conn, enum head_verdict verdict)
{
    h2o_socket_t *sock = conn->sock;
    struct err err;
    h2o_iovec_t bytes;

    if (verdict == HEAD_TOO_LARGE)
        (void)err_set(&err, ERR_TOO_LARGE, NULL, "The request body is larger than the maximum of %lld bytes.",
                      (long long)conn->max_body);
    else
        (void)err_set(&err, ERR_BAD_REQUEST, NULL, "The request could not be understood as HTTP.");
    buf_init(&conn->refusal, REFUSAL_MAX);
    refuse_append(&conn->refusal, &err);
    bytes = h2o_iovec_init(conn->refusal.p, conn->refusal.len);
    h2o_socket_read_stop(sock);
    h2o_buffer_consume(&sock->input, sock->input->size);
    loop_timer_arm(conn->site->loop, &conn->patience, LINGER_PATIENCE);
    h2o_socket_write(sock, &bytes, 1, on_refused);
}

/* ---- reading ---- */

/* The limit of the route, as far as the target shows it without decoding; call.c looks again. */
static enum head_verdict admit(struct front_conn *conn, const struct head *head)
{
    const struct front_listener *listener = &conn->site->place->listener;
    struct route_match match;
    struct slice path, query;

    (void)slice_cut(head->target, '?', &path, &query);
    route_find(listener->routes, head->method, path, &match);
    conn->max_body = match.route != NULL && match.route->max_body > 0 ? match.route->max_body : listener->max_body;
    conn->head = head->len;
    conn->chunked = head->chunked;
    return head->body > (unsigned long long)conn->max_body ? HEAD_TOO_LARGE : HEAD_GOOD;
}

static void on_body(h2o_socket_t *sock, const char *err)
{
    to_library(sock->on_close.data, err);
}

static void on_head(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;
    enum head_verdict verdict;
    struct head head;

    if (err != NULL) {
        to_library(conn, err);
        return;
    }
    verdict = head_judge(sock->input->bytes, sock->input->size, conn->seen, &head);
    if (verdict == HEAD_INCOMPLETE) {
        conn->seen = sock->input->size;
        return;
    }
    loop_timer_disarm(conn->site->loop, &conn->patience);
    if (verdict == HEAD_GOOD)
        verdict = admit(conn, &head);
    if (verdict != HEAD_GOOD) {
        refuse(conn, verdict);
        return;
    }
    sock->_cb.read = on_body;
    to_library(conn, NULL);
}

/* ---- between two requests ---- */

/* Takes what stands behind <from> out of the library's sight. */
static void hold_back(struct front_conn *conn, size_t from)
{
    h2o_buffer_t *input = conn->sock->input;

    if (input->size <= from)
        return;
    TG_ASSERT(conn->held == NULL);
    conn->n_held = input->size - from;
    conn->held = mem_alloc(conn->n_held);
    memcpy(conn->held, input->bytes + from, conn->n_held);
    if (from == 0)
        h2o_buffer_consume(&conn->sock->input, input->size);
    else
        input->size = from;
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
    sock->_cb.read = on_head;
    if (conn->held == NULL)
        return;
    room = h2o_buffer_reserve(&sock->input, conn->n_held);
    if (room.base == NULL) { /* a large buffer is a temporary file, and there was no room for it */
        to_library(conn, h2o_socket_error_out_of_memory);
        return;
    }
    memcpy(room.base, conn->held, conn->n_held);
    sock->input->size += conn->n_held;
    free(conn->held);
    conn->held = NULL;
    on_head(sock, NULL);
}

void http1_begin(struct front_conn *conn)
{
    struct timeval now;

    h2o_socket_read_stop(conn->sock);
    hold_back(conn, 0);
    (void)gettimeofday(&now, NULL);
    h2o_http1_accept(&conn->site->accept, conn->sock, now);
    http1_next(conn);
}

void http1_taken(struct front_conn *conn, const h2o_req_t *req)
{
    conn->busy = true;
    conn->next =
        req->entity.base != NULL ? (size_t)(req->entity.base + req->entity.len - conn->sock->input->bytes) : conn->head;
}

void http1_done(struct front_conn *conn)
{
    conn->busy = false;
    h2o_socket_dont_read(conn->sock, 0);
    hold_back(conn, conn->next);
    loop_guard(conn->site->loop, conn);
}
