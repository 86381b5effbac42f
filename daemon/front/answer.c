/* answer.c - the answers of call.h: whole, streamed, broken off.
 *
 * An HTTP/1 answer that leaves before its request's body is whole says `connection: close`, and the connection lingers
 * after it. The library would close at once, so it believes again that the connection persists as soon as it has
 * written the head; http1.c takes it when the answer is out. See call.c for the states. */
#include <stdlib.h>
#include <sys/socket.h>

#include "inside.h"

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
                     struct slice content_type, int64_t content_length)
{
    h2o_req_t *req = call->req;
    char id[ID_TEXT];

    req->res.status = status;
    req->res.reason = reason_of(status);
    add_header(req, "content-type", content_type);
    add_header(req, "x-request-id", slice_from(id_format("req", call->id, id)));
    for (size_t i = 0; i < n; i++)
        add_header(req, headers[i].name, headers[i].value);
    if (content_length >= 0)
        req->res.content_length = (size_t)content_length;
    else if (req->version < 0x101)
        req->http1_is_persistent = 0; /* no chunks: the end of the connection is the end of the answer */
    if (front_draining(call->site->loop->front))
        req->http1_is_persistent = 0;
    if (!call->conn->http2 && !intake_answered(call->conn, !req->http1_is_persistent))
        req->http1_is_persistent = 0;
}

/* Sends, and the head with the first bytes. Over HTTP/1 nothing ends within: callbacks of a write come later. */
static void send_bytes(struct front_call *call, h2o_iovec_t bytes, h2o_send_state_t state)
{
    h2o_req_t *req = call->req;
    bool lingers = !call->conn->http2 && call->conn->lingers;

    h2o_send(req, &bytes, 1, state);
    if (lingers)
        req->http1_is_persistent = 1;
}

void front_reply(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, struct slice body)
{
    h2o_req_t *req = call->req;
    h2o_iovec_t bytes = h2o_strdup(&req->pool, body.p, is_head(call) ? 0 : body.len);

    TG_ASSERT(call->state == CALL_HELD);
    set_head(call, status, headers, n, content_type, (int64_t)body.len);
    call->state = CALL_DONE;
    h2o_start_response(req, &call->generator);
    send_bytes(call, bytes, H2O_SEND_STATE_FINAL);
}

void front_reply_json(struct front_call *call, int status, struct slice body)
{
    front_reply(call, status, NULL, 0, SLICE("application/json"), body);
}

enum { ERR_HEADERS = 24 };

void front_reply_err(struct front_call *call, const struct err *err, const struct front_header *headers, size_t n)
{
    struct front_header all[ERR_HEADERS];
    struct buf body;
    char id[ID_TEXT];

    TG_ASSERT(n < ERR_HEADERS);
    if (n > 0)
        memcpy(all, headers, n * sizeof(*headers));
    if (err->code == ERR_INSUFFICIENT_QUOTA)
        all[n++] = (struct front_header){"x-should-retry", SLICE("false")};
    buf_init(&body, (LIMIT_ERROR_MESSAGE + LIMIT_ERROR_PARAM) * 8);
    err_append_json_of(&body, err, call->site->place->listener.error_ids ? id_format("req", call->id, id) : NULL);
    front_reply(call, err_http_status(err->code), all, n, SLICE("application/json"), buf_slice(&body));
    buf_dispose(&body);
}

void front_start(struct front_call *call, int status, const struct front_header *headers, size_t n,
                 struct slice content_type, int64_t content_length)
{
    h2o_req_t *req = call->req;

    TG_ASSERT(call->state == CALL_HELD);
    set_head(call, status, headers, n, content_type, content_length);
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
        send_bytes(call, v, H2O_SEND_STATE_FINAL);
        return;
    }
    call->inside++;
    call->sending = true;
    send_bytes(call, v, H2O_SEND_STATE_IN_PROGRESS);
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
    if (!call->conn->http2) { /* nothing more may leave, neither a head nor a proper end */
        (void)shutdown(h2o_socket_get_fd(call->conn->sock), SHUT_RDWR);
        (void)intake_answered(call->conn, true);
    }
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
