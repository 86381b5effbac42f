/* accept.c - from the kernel's queue to the library: connections, TLS, and which protocol gets them.
 *
 *                 TLS                      ALPN
 *    accepted ------------> HANDSHAKING ------------> handed over to HTTP/2, or by http1.c to HTTP/1
 *        |                       | error, too slow          ^   |
 *        |                       v                          |   | on_close
 *        | clear text         closed                        |   v
 *        '------------> SNIFFING ---------------------------'  freed
 *                                "PRI" or not
 *
 * Invariants
 *  (1) A front_conn lives as long as its h2o socket: sock->on_close frees it, whoever closed.
 *  (2) Until the hand-over sock->data is the front_conn; from then on it is the library's, and sock->on_close.data
 * ours. (3) All connections of a front count in front->connections, from accept to on_close; past the limit they are
 * closed at once. A loop's own thread. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "inside.h"

enum {
    SNIFF_BYTES = 3,        /* "PRI" tells HTTP/2's preface from any HTTP/1 method (RFC 9113, 3.4) */
    USER_TIMEOUT_MS = 60000 /* unacknowledged bytes for so long: the peer is gone */
};
#define FIRST_BYTES_PATIENCE (10 * CLOCK_SECOND)
#define REST (CLOCK_SECOND / 10)

static void conn_closed(void *data)
{
    struct front_conn *conn = data;
    struct loop *loop = conn->site->loop;

    loop_watch_forget(loop, &conn->hangup); /* the descriptor is closed already, and epoll has let go of it */
    loop_timer_disarm(loop, &conn->patience);
    atomic_fetch_sub(&loop->front->connections, 1);
    metric_add(METRIC_CONNECTIONS, -1);
    buf_dispose(&conn->refusal);
    free(conn->held);
    if (conn->guard_wanted)
        loop_unguard(loop, conn);
    conn->closed = true;
    if (conn->inside == 0)
        free(conn);
}

static void on_hangup(struct loop_watch *watch, unsigned events)
{
    (void)events;
    TG_CONTAINER(struct front_conn, hangup, watch)->leaving = true;
}

static void out_of_patience(struct loop_timer *timer)
{
    http1_give_up(TG_CONTAINER(struct front_conn, patience, timer));
}

/* The one place between socket and library: a guard of HTTP/2 frames belongs here. */
static void conn_hand_over(struct front_conn *conn)
{
    struct timeval now;

    if (!conn->http2) {
        http1_begin(conn);
        return;
    }
    loop_timer_disarm(conn->site->loop, &conn->patience);
    h2o_socket_read_stop(conn->sock);
    (void)gettimeofday(&now, NULL);
    h2o_http2_accept(&conn->site->accept, conn->sock, now);
}

/* ---- clear text: which protocol ---- */

static bool is_preface(const h2o_buffer_t *input)
{
    return input->size >= SNIFF_BYTES && memcmp(input->bytes, "PRI", SNIFF_BYTES) == 0;
}

static void on_first_bytes(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->data;

    if (err != NULL) {
        h2o_socket_close(sock);
        return;
    }
    if (sock->input->size < SNIFF_BYTES)
        return;
    conn->http2 = is_preface(sock->input);
    conn_hand_over(conn);
}

static void conn_sniff(struct front_conn *conn)
{
    if (conn->site->place->listener.http2)
        h2o_socket_read_start(conn->sock, on_first_bytes);
    else
        conn_hand_over(conn);
}

/* ---- accepting ---- */

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->data;
    h2o_iovec_t protocol;

    if (err != NULL) {
        LOG(LOG_TLS_FAILED, LOG_F_STR("why", err));
        h2o_socket_close(sock);
        return;
    }
    protocol = h2o_socket_ssl_get_selected_protocol(sock);
    conn->http2 = conn->site->place->listener.http2 && protocol.len >= 2 && memcmp(protocol.base, "h2", 2) == 0;
    conn_hand_over(conn);
}

static void set_options(int fd)
{
    int on = 1;
    unsigned patience = USER_TIMEOUT_MS;

    /* Neither applies to unix sockets, where they fail. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof(patience));
}

static void conn_create(struct site *site, h2o_socket_t *sock)
{
    struct front_conn *conn = mem_zalloc(sizeof(*conn));
    struct loop *loop = site->loop;

    conn->site = site;
    conn->sock = sock;
    conn->hangup.fd = h2o_socket_get_fd(sock);
    conn->hangup.ready = on_hangup;
    loop_timer_init(&conn->patience, out_of_patience);
    sock->data = conn;
    sock->on_close.cb = conn_closed;
    sock->on_close.data = conn;
    atomic_fetch_add(&loop->front->connections, 1);
    metric_add(METRIC_CONNECTIONS, 1);
    set_options(conn->hangup.fd);
    loop_watch_hangup(loop, &conn->hangup);
    loop_timer_arm(loop, &conn->patience, FIRST_BYTES_PATIENCE);
    if (site->place->tls == NULL)
        conn_sniff(conn);
    else
        h2o_socket_ssl_handshake(sock, site->place->tls, NULL, on_handshake);
}

static void on_accept(h2o_socket_t *listener, const char *err);

/* Out of descriptors or memory: the queue would keep the loop spinning. */
static void rest(struct site *site)
{
    LOG(LOG_ACCEPT_FAILED, LOG_F_STR("why", "out of file descriptors or memory"));
    for (size_t i = 0; i < site->n_sockets; i++)
        h2o_socket_read_stop(site->sockets[i]);
    loop_timer_arm(site->loop, &site->rest, REST);
}

static void go_on(struct loop_timer *timer)
{
    struct site *site = TG_CONTAINER(struct site, rest, timer);

    for (size_t i = 0; i < site->n_sockets; i++)
        h2o_socket_read_start(site->sockets[i], on_accept);
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct site *site = listener->data;
    struct front *front = site->loop->front;

    if (err != NULL)
        return;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);

        if (sock == NULL) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                rest(site);
            return;
        }
        if (atomic_load(&front->connections) >= front->max_connections) {
            LOG(LOG_ACCEPT_FAILED, LOG_F_STR("why", "server.max_connections are open"));
            h2o_socket_close(sock);
            continue;
        }
        conn_create(site, sock);
    }
}

void accept_start(struct site *site)
{
    struct loop *loop = site->loop;

    loop_timer_init(&site->rest, go_on);
    for (site->n_sockets = 0; site->n_sockets < site->place->n_fds; site->n_sockets++) {
        int fd = fcntl(site->place->fds[site->n_sockets], F_DUPFD_CLOEXEC, 0);
        h2o_socket_t *sock;

        TG_ASSERT(fd >= 0);
        sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
        sock->data = site;
        h2o_socket_read_start(sock, on_accept);
        site->sockets[site->n_sockets] = sock;
    }
}

void accept_stop(struct site *site)
{
    loop_timer_disarm(site->loop, &site->rest);
    while (site->n_sockets > 0)
        h2o_socket_close(site->sockets[--site->n_sockets]);
}
