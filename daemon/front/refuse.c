/* refuse.c - the error object where the library has answers of its own, and where there is no request to answer.
 *
 * HTTP/2 heads with bytes that no field may have: the library binds the request to the fallback path and sends plain
 * text, which a filter there replaces. HTTP/1 heads that are refused never become a request; http1.c answers with the
 * bytes made here. */
#include "daemon/base/id.h"
#include "inside.h"

struct refusal {
    h2o_ostream_t super;
    h2o_iovec_t body;
    bool sent;
};

struct refusal_filter {
    h2o_filter_t super;
    const struct front_listener *listener;
};

/* The error object, under a request id of its own: nothing else made one. */
static void make_refusal(const struct front_listener *listener, const struct err *err, struct buf *body,
                         char id[ID_TEXT])
{
    (void)id_format("req", id_make(), id);
    buf_init(body, LIMIT_ERROR_MESSAGE * 8);
    err_append_json_of(body, err, listener->error_ids ? id : NULL);
}

static void send_refusal(h2o_ostream_t *stream, h2o_req_t *req, h2o_iovec_t *bufs, size_t n, h2o_send_state_t state)
{
    struct refusal *r = (struct refusal *)stream;
    bool first = !r->sent;

    (void)bufs;
    (void)n;
    r->sent = true;
    h2o_ostream_send_next(&r->super, req, &r->body, first ? 1 : 0, state);
}

static void setup_refusal(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    const struct front_listener *listener = ((const struct refusal_filter *)filter)->listener;
    struct refusal *r;
    struct buf text;
    struct err err;
    char id[ID_TEXT];

    (void)err_set(&err, ERR_BAD_REQUEST, NULL, "The request could not be understood as HTTP.");
    make_refusal(listener, &err, &text, id);
    r = (void *)h2o_add_ostream(req, sizeof(*r), slot);
    r->super.do_send = send_refusal;
    r->body = h2o_strdup(&req->pool, text.p, text.len);
    r->sent = false;
    req->res.content_length = text.len;
    h2o_set_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("content-type"), 0, H2O_STRLIT("application/json"),
                          1);
    h2o_iovec_t copy = h2o_strdup(&req->pool, id, SIZE_MAX);
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("x-request-id"), 0, NULL, copy.base, copy.len);
    buf_dispose(&text);
}

void refuse_register(h2o_hostconf_t *host, const struct front_listener *listener)
{
    h2o_filter_t *filter = h2o_create_filter(&host->fallback_path, sizeof(struct refusal_filter));

    filter->on_setup_ostream = setup_refusal;
    ((struct refusal_filter *)filter)->listener = listener;
}

void refuse_append(struct buf *out, const struct front_listener *listener, const struct err *err)
{
    struct buf body;
    char id[ID_TEXT];

    make_refusal(listener, err, &body, id);
    buf_printf(out,
               "HTTP/1.1 %d %s\r\nserver: tallygate\r\nconnection: close\r\ncontent-type: application/json\r\n"
               "x-request-id: %s\r\ncontent-length: %zu\r\n\r\n",
               err_http_status(err->code), err_http_status(err->code) == 413 ? "Content Too Large" : "Bad Request", id,
               body.len);
    buf_append_slice(out, buf_slice(&body));
    buf_dispose(&body);
}
