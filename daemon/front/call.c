/* call.c - one request from the library to its handler and back: the façade of call.h.
 *
 *   call_begin --> HELD --front_reply-----------------> DONE
 *                   |  \--front_start--> STREAMING ---> DONE      (final front_send, front_abort)
 *                   '--- the library disposes ---> gone() first
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

enum call_state { CALL_HELD = 0, CALL_STREAMING, CALL_DONE };

struct front_call {
    h2o_generator_t generator;
    h2o_req_t *req;
    struct site *site;
    struct front_conn *conn;
    const struct front_route *route;
    struct slice path; /* decoded */
    struct slice param;
    struct id id;
    struct front_owner owner;
    int64_t started;
    enum call_state state;
    bool sending; /* the library has bytes of ours and will ask for more */
    bool broken;  /* then it gets a broken end */
    int inside;   /* calls into the library that the owner made, under way */
};

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

static void route(struct front_call *call)
{
    const struct front_listener *listener = &call->site->place->listener;
    struct route_match match;
    int64_t max;
    struct err err;

    route_find(listener->routes, front_call_method(call), call->path, &match);
    if (match.route == NULL) {
        refuse_path(call, match.path_known);
        return;
    }
    call->route = match.route;
    call->param = match.param;
    max = match.route->max_body > 0 ? match.route->max_body : listener->max_body;
    if ((int64_t)call->req->entity.len > max) {
        (void)err_set(&err, ERR_TOO_LARGE, NULL, "The request body is larger than the maximum of %lld bytes.",
                      (long long)max);
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    match.route->handler(listener->ctx, call);
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
        http1_taken(conn, req);
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
    return slice_of(call->req->entity);
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

/* ---- the answer ---- */

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return status < 300 ? "OK" : status < 400 ? "Redirect" : "Error";
    }
}

static void add_header(h2o_req_t *req, const char *name, struct slice value)
{
    h2o_iovec_t copy = h2o_strdup(&req->pool, value.p, value.len);

    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 1, NULL, copy.base, copy.len);
}

/* The answer to HEAD ends with its head: a body would be taken for the next answer. */
static bool is_head(const struct front_call *call)
{
    return slice_eq_str(front_call_method(call), "HEAD");
}

/* Status line and headers; the length is set apart. */
static void set_head(struct front_call *call, int status, const struct front_header *headers, size_t n,
                     struct slice content_type)
{
    h2o_req_t *req = call->req;
    char id[ID_TEXT];

    req->res.status = status;
    req->res.reason = reason_of(status);
    add_header(req, "content-type", content_type);
    add_header(req, "x-request-id", slice_from(id_format("req", call->id, id)));
    for (size_t i = 0; i < n; i++)
        add_header(req, headers[i].name, headers[i].value);
    if (front_draining(call->site->loop->front))
        req->http1_is_persistent = 0;
}

void front_reply(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, struct slice body)
{
    h2o_req_t *req = call->req;
    h2o_iovec_t bytes = h2o_strdup(&req->pool, body.p, is_head(call) ? 0 : body.len);

    TG_ASSERT(call->state == CALL_HELD);
    set_head(call, status, headers, n, content_type);
    req->res.content_length = body.len;
    call->state = CALL_DONE;
    h2o_start_response(req, &call->generator);
    h2o_send(req, &bytes, 1, H2O_SEND_STATE_FINAL);
}

void front_reply_json(struct front_call *call, int status, struct slice body)
{
    front_reply(call, status, NULL, 0, SLICE("application/json"), body);
}

enum { ERR_HEADERS = 8 };

void front_reply_err(struct front_call *call, const struct err *err, const struct front_header *headers, size_t n)
{
    struct front_header all[ERR_HEADERS];
    struct buf body;

    TG_ASSERT(n < ERR_HEADERS);
    if (n > 0)
        memcpy(all, headers, n * sizeof(*headers));
    if (err->code == ERR_INSUFFICIENT_QUOTA)
        all[n++] = (struct front_header){"x-should-retry", SLICE("false")};
    buf_init(&body, (LIMIT_ERROR_MESSAGE + LIMIT_ERROR_PARAM) * 8);
    err_append_json(&body, err);
    front_reply(call, err_http_status(err->code), all, n, SLICE("application/json"), buf_slice(&body));
    buf_dispose(&body);
}

void front_start(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, int64_t content_length)
{
    h2o_req_t *req = call->req;

    TG_ASSERT(call->state == CALL_HELD);
    set_head(call, status, headers, n, content_type);
    if (content_length >= 0)
        req->res.content_length = (size_t)content_length;
    else if (req->version < 0x101)
        req->http1_is_persistent = 0; /* no chunks: the end of the connection is the end of the answer */
    call->state = CALL_STREAMING;
    call->inside++;
    req->res.status = 200; /* the library chunks no other; it looks here, and writes the head only later */
    h2o_start_response(req, &call->generator);
    req->res.status = status;
    call->inside--;
}

void front_send(struct front_call *call, struct slice bytes, bool final)
{
    h2o_req_t *req = call->req;
    h2o_iovec_t v = h2o_iovec_init(bytes.p, bytes.len);

    TG_ASSERT(call->state == CALL_STREAMING);
    if (is_head(call))
        v.len = 0;
    if (final) {
        v = h2o_strdup(&req->pool, v.base, v.len);
        call->state = CALL_DONE;
        h2o_send(req, &v, 1, H2O_SEND_STATE_FINAL);
        return;
    }
    call->inside++;
    call->sending = true;
    h2o_send(req, &v, 1, H2O_SEND_STATE_IN_PROGRESS);
    call->inside--;
}

static void free_kept(void *p)
{
    free(*(void **)p);
}

void front_call_keep(struct front_call *call, void *memory)
{
    void **kept = h2o_mem_alloc_shared(&call->req->pool, sizeof(*kept), free_kept);

    *kept = memory;
}

void front_abort(struct front_call *call)
{
    h2o_req_t *req = call->req;
    bool started = call->state == CALL_STREAMING;

    TG_ASSERT(call->state != CALL_DONE);
    call->state = CALL_DONE;
    if (!call->conn->http2) /* nothing more may leave, neither a head nor a proper end */
        (void)shutdown(h2o_socket_get_fd(call->conn->sock), SHUT_RDWR);
    if (call->sending) { /* the library takes the end only when it has nothing of ours in hand */
        call->broken = true;
        return;
    }
    if (!started) {
        req->res.status = 502;
        req->res.reason = reason_of(502);
        h2o_start_response(req, &call->generator);
    }
    h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
}
