/* call.c - one request from the library to its handler and back: the façade of call.h.
 *
 *   call_begin --> HELD --front_reply-----------------> DONE      (answer.c)
 *                   |  \--front_start--> STREAMING ---> DONE      (final front_send, front_abort)
 *                   '--- the library disposes ---> gone() first
 *
 * The body of an HTTP/1 request is still to come then (intake.c); on routes that are not FRONT_STREAMED it is collected
 * here before the handler runs. That of an HTTP/2 request is whole.
 *
 * Invariants
 *  (1) A front_call lives in its request's pool; call_dispose runs when that ends, for whatever reason, exactly once.
 *  (2) `gone` runs at most once, only from the library's dispose, and never inside a function that the owner called: a
 *      dispose that happens there is told from a timer.
 *  (3) After DONE nothing here touches the owner, and the owner nothing here.
 * The loop's own thread. */
#include "call.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "inside.h"

/* A `gone` that could not run at once. */
struct late_gone {
    struct loop_timer timer;
    struct front_owner owner;
};

static void fire_gone(struct loop_timer *timer)
{
    struct late_gone *late = TG_CONTAINER(struct late_gone, timer, timer);

    late->owner.gone(late->owner.ctx);
    free(late);
}

static void tell_gone(struct front_call *call)
{
    struct late_gone *late;

    metric_add(METRIC_CLIENT_GONE, 1);
    if (call->owner.gone == NULL)
        return;
    if (call->inside == 0) {
        call->owner.gone(call->owner.ctx);
        return;
    }
    late = mem_zalloc(sizeof(*late));
    loop_timer_init(&late->timer, fire_gone);
    late->owner = call->owner;
    loop_timer_arm(call->site->loop, &late->timer, 0);
}

static void write_log(const struct front_call *call, int64_t took)
{
    const h2o_req_t *req = call->req;
    enum log_event event = call->site->place->listener.is_public ? LOG_REQUEST : LOG_ADMIN_REQUEST;
    char peer[64];

    if (call->route != NULL && (call->route->flags & FRONT_QUIET) != 0)
        return;
    LOG(event, LOG_F_ID("request_id", "req", call->id),
        LOG_F_SLICE("method", ((struct slice){req->input.method.base, req->input.method.len})),
        LOG_F_SLICE("path", call->path), LOG_F_INT("status", req->res.status),
        LOG_F_INT("bytes", (int64_t)req->bytes_sent), LOG_F_TIME("duration", took),
        LOG_F_STR("peer", front_call_peer(call, peer)));
}

static void call_dispose(void *p)
{
    struct front_call *call = p;
    int64_t took = clock_mono() - call->started;
    int class = call->req->res.status / 100;

    if (call->site->place->listener.is_public) {
        metric_observe(METRIC_REQUEST_SECONDS, took);
        if (class >= 2 && class <= 5)
            metric_add_label(METRIC_RESPONSES, (unsigned)class - 2, 1);
    }
    if (log_enabled(call->site->place->listener.is_public ? LOG_REQUEST : LOG_ADMIN_REQUEST))
        write_log(call, took);
    if (call->state != CALL_DONE)
        tell_gone(call);
    call->state = CALL_DONE;
    if (!call->conn->http2)
        http1_done(call->conn);
    buf_dispose(&call->collected);
    atomic_fetch_sub_explicit(&call->site->loop->front->calls, 1, memory_order_relaxed);
}

/* ---- from the library ---- */

/* The path as it was sent, escapes decoded but for the slash's own. Not normalized: "//", "." and ".." stay. So no two
 * spellings of a path's segments match one route. */
static struct slice decode_path(h2o_req_t *req)
{
    size_t len = req->input.query_at != SIZE_MAX ? req->input.query_at : req->input.path.len;
    const char *raw = req->input.path.base;
    char *out;
    size_t n = 0;

    if (memchr(raw, '%', len) == NULL)
        return (struct slice){raw, len};
    out = h2o_mem_alloc_pool(&req->pool, len);
    for (size_t i = 0; i < len; i++) {
        int byte = raw[i] == '%' && i + 2 < len ? slice_hex_byte(raw[i + 1], raw[i + 2]) : -1;

        if (byte < 0 || byte == '/') {
            out[n++] = raw[i];
        } else {
            out[n++] = (char)byte;
            i += 2;
        }
    }
    return (struct slice){out, n};
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    struct front_call *call = (struct front_call *)generator;

    (void)req;
    call->sending = false;
    if (call->broken)
        h2o_send(call->req, NULL, 0, H2O_SEND_STATE_ERROR);
    else if (call->state == CALL_STREAMING && call->owner.ready != NULL)
        call->owner.ready(call->owner.ctx);
}

static void refuse_path(struct front_call *call, bool known)
{
    struct slice method = front_call_method(call);
    struct buf allowed;
    struct err err;

    if (!known) {
        (void)err_set(&err, ERR_UNKNOWN_URL, NULL, "Invalid URL (%.*s %.*s)", (int)method.len, method.p,
                      (int)call->path.len, call->path.p);
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    buf_init(&allowed, LIMIT_NAME);
    route_allowed(call->site->place->listener.routes, call->path, &allowed);
    (void)err_set(&err, ERR_METHOD_NOT_ALLOWED, NULL,
                  "Not allowed to %.*s on %.*s. (HINT: Perhaps you meant to use a different HTTP method?)",
                  (int)method.len, method.p, (int)call->path.len, call->path.p);
    front_reply_err(call, &err, &(const struct front_header){"allow", buf_slice(&allowed)}, 1);
    buf_dispose(&allowed);
}

/* ---- the body ---- */

static void call_handler(struct front_call *call)
{
    call->route->handler(call->site->place->listener.ctx, call);
}

static void collect_data(void *ctx, struct slice bytes)
{
    struct front_call *call = ctx;

    buf_append_slice(&call->collected, bytes);
}

static void collect_end(void *ctx, const struct err *err)
{
    struct front_call *call = ctx;

    if (err != NULL) {
        front_reply_err(call, err, NULL, 0);
        return;
    }
    call->body = buf_slice(&call->collected);
    call_handler(call);
}

static void collect(struct front_call *call)
{
    struct front_conn *conn = call->conn;

    if (intake_at_hand(conn, &call->body)) {
        call_handler(call);
        return;
    }
    call->asked = true;
    buf_init(&call->collected, (size_t)conn->intake.max);
    intake_receive(conn, &(const struct front_receiver){call, collect_data, collect_end});
}

/* All of it is there. Over HTTP/2 the library never ends a request within a call of ours, so its memory lasts. */
static void receive_entity(struct front_call *call, const struct front_receiver *receiver)
{
    struct slice entity = {call->req->entity.base, call->req->entity.len};

    if (entity.len > 0)
        receiver->data(receiver->ctx, entity);
    if (call->state == CALL_HELD)
        receiver->end(receiver->ctx, NULL);
}

int64_t front_call_length(const struct front_call *call)
{
    return call->conn->http2 ? (int64_t)call->req->entity.len : call->conn->intake.length;
}

bool front_call_expects(const struct front_call *call)
{
    return !call->conn->http2 && intake_waits(call->conn);
}

void front_call_receive(struct front_call *call, const struct front_receiver *receiver)
{
    TG_ASSERT(call->state == CALL_HELD && !call->asked);
    TG_ASSERT((call->route->flags & FRONT_STREAMED) != 0);
    call->asked = true;
    if (call->conn->http2)
        receive_entity(call, receiver);
    else
        intake_receive(call->conn, receiver);
}

void call_body_is_whole(struct front_call *call)
{
    call->started = clock_mono();
}

/* ---- to the handler ---- */

static void refuse_length(struct front_call *call, int64_t max)
{
    struct err err;

    (void)err_set(&err, ERR_TOO_LARGE, NULL, "The request body is larger than the maximum of %lld bytes.",
                  (long long)max);
    front_reply_err(call, &err, NULL, 0);
}

static void route(struct front_call *call)
{
    const struct front_listener *listener = &call->site->place->listener;
    struct route_match match;
    int64_t max;

    route_find(listener->routes, front_call_method(call), call->path, &match);
    if (match.route == NULL) {
        refuse_path(call, match.path_known);
        return;
    }
    call->route = match.route;
    call->param = match.param;
    max = match.route->max_body > 0 ? match.route->max_body : listener->max_body;
    if (front_call_length(call) > max) {
        refuse_length(call, max);
        return;
    }
    if (call->conn->http2)
        call->body = (struct slice){call->req->entity.base, call->req->entity.len};
    else
        call->conn->intake.max = max;
    if ((call->route->flags & FRONT_STREAMED) != 0)
        call->body = SLICE_NONE;
    if (call->conn->http2 || (call->route->flags & FRONT_STREAMED) != 0)
        call_handler(call);
    else
        collect(call);
}

int call_begin(h2o_handler_t *handler, h2o_req_t *req)
{
    struct front_call *call = h2o_mem_alloc_shared(&req->pool, sizeof(*call), call_dispose);
    h2o_socket_t *sock = req->conn->callbacks->get_socket(req->conn);
    struct front_conn *conn = sock->on_close.data;

    (void)handler;
    *call = (struct front_call){.generator = {on_proceed, NULL},
                                .req = req,
                                .conn = conn,
                                .site = conn->site,
                                .id = id_make(),
                                .started = clock_mono()};
    atomic_fetch_add_explicit(&conn->site->loop->front->calls, 1, memory_order_relaxed);
    if (conn->site->place->listener.is_public)
        metric_add(METRIC_REQUESTS, 1);
    call->path = decode_path(req);
    if (!conn->http2)
        http1_taken(conn, call);
    route(call);
    return 0;
}

/* ---- the request ---- */

static struct slice slice_of(h2o_iovec_t v)
{
    return (struct slice){v.base, v.len};
}

struct loop *front_call_loop(const struct front_call *call)
{
    return call->site->loop;
}

struct id front_call_id(const struct front_call *call)
{
    return call->id;
}

struct slice front_call_method(const struct front_call *call)
{
    return slice_of(call->req->input.method);
}

struct slice front_call_path(const struct front_call *call)
{
    return call->path;
}

struct slice front_call_query(const struct front_call *call)
{
    const h2o_req_t *req = call->req;

    if (req->input.query_at == SIZE_MAX)
        return SLICE_NONE;
    return (struct slice){req->input.path.base + req->input.query_at + 1,
                          req->input.path.len - req->input.query_at - 1};
}

struct slice front_call_body(const struct front_call *call)
{
    return call->body;
}

struct slice front_call_param(const struct front_call *call)
{
    return call->param;
}

struct slice front_call_authority(const struct front_call *call)
{
    return slice_of(call->req->input.authority);
}

struct slice front_call_scheme(const struct front_call *call)
{
    return slice_of(call->req->input.scheme->name);
}

bool front_call_header(const struct front_call *call, const char *name, struct slice *value, int *count)
{
    const h2o_headers_t *headers = &call->req->headers;
    ssize_t at = -1;
    int found = 0;

    while ((at = h2o_find_header_by_str(headers, name, strlen(name), at)) != -1) {
        if (found++ == 0)
            *value = slice_of(headers->entries[at].value);
        if (count == NULL)
            break;
    }
    if (count != NULL)
        *count = found;
    return found > 0;
}

const char *front_call_peer(const struct front_call *call, char out[64])
{
    struct sockaddr_storage sa;
    h2o_conn_t *conn = call->req->conn;

    sa.ss_family = AF_UNSPEC;
    (void)conn->callbacks->get_peername(conn, (struct sockaddr *)&sa);
    if (sa.ss_family == AF_INET)
        return inet_ntop(AF_INET, &((struct sockaddr_in *)&sa)->sin_addr, out, 64);
    if (sa.ss_family == AF_INET6)
        return inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&sa)->sin6_addr, out, 64);
    memcpy(out, "unix", 5);
    return out;
}

int64_t front_call_started(const struct front_call *call)
{
    return call->started;
}

bool front_call_leaving(const struct front_call *call)
{
    return call->conn->leaving;
}

void front_call_own(struct front_call *call, const struct front_owner *owner)
{
    TG_ASSERT(call->state != CALL_DONE);
    call->owner = *owner;
}
