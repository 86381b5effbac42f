/* relay.c - the state machine of one request carried upstream.
 *
 *   relay_create            relay_begin                 held()
 *   ------------> RECEIVED ------------> HOLDING ---------------------------> CALLING
 *                    | relay_discard        | refused: answer, end                | upstream_ended()
 *                    v                      | client gone: void                   v
 *                  (none)                   +--------------------------------> SETTLING
 *                                                                                 | settled()
 *                                   (none) <-- relay_answered -- FINISHING <------+--> (none), when there is
 *                                              the last buffer has left                nobody to answer
 *
 * Invariants
 *  (1) Nothing goes upstream before the hold is durable (held).
 *  (2) A hold that was made is settled exactly once: by capture, void or doubt (settle), whatever the client does.
 *  (3) The answer's last byte leaves after the settlement is durable; an answer whose capture failed is never whole.
 *  (4) `call` is NULL from the moment the client is gone or was answered; everything the relay needs later is its own.
 *  (5) A place of the channel (load) is given back when the upstream call ends, or when there will be none.
 *  (6) A client that goes away ends nothing upstream: the pictures are paid for, so they are read and charged.
 *
 * One thread: the loop on which the request came in. */
#include "carry.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "settle.h"

static void destroy(struct relay *r)
{
    struct relay_house *house = r->room->house;

    TG_ASSERT(r->call == NULL && r->upstream == NULL);
    house_leave(r->load);
    reply_dispose(r);
    buf_dispose(&r->body);
    terms_dispose(&r->terms);
    upstream_route_unref(r->route);
    free(r);
    atomic_fetch_sub(&house->inflight, 1);
    metric_add(METRIC_INFLIGHT, -1);
}

struct relay *relay_create(struct relay_room *room, struct front_call *call, const struct image_request *request)
{
    struct relay *r = mem_zalloc(sizeof(*r));

    r->room = room;
    r->call = call;
    r->id = front_call_id(call);
    r->started = front_call_started(call);
    r->request = *request;
    buf_init(&r->body, LIMIT_GENERATION_BODY + LIMIT_MODEL * 8);
    reply_init(r);
    atomic_fetch_add(&room->house->inflight, 1);
    metric_add(METRIC_INFLIGHT, 1);
    return r;
}

void relay_discard(struct relay *r)
{
    TG_ASSERT(r->state == RELAY_RECEIVED);
    r->call = NULL;
    destroy(r);
}

/* ---- answering ---- */

static void answer_err(struct relay *r, const struct err *err, const struct front_header *headers, size_t n)
{
    struct front_call *call = r->call;

    if (call == NULL)
        return;
    if (r->reply.mode == REPLY_FLOWING) {
        reply_break(r); /* the head has left with a 200: only a broken end can tell */
        return;
    }
    r->call = NULL;
    front_reply_err(call, err, headers, n);
}

static void answer_outcome_error(struct relay *r)
{
    const struct outcome *outcome = r->outcome;
    struct front_header headers[HEADERS_BACK + 2];
    size_t n = headers_back(&r->kept, headers);
    char seconds[16];
    struct err err;

    if (outcome->no_retry)
        headers[n++] = (struct front_header){"x-should-retry", SLICE("false")};
    if (outcome->error == ERR_NO_CHANNEL && r->kept.retry_after > 0) {
        snprintf(seconds, sizeof(seconds), "%d", r->kept.retry_after);
        headers[n++] = (struct front_header){"retry-after", slice_from(seconds)};
    }
    (void)err_set(&err, outcome->error, NULL, "%s", outcome->message);
    answer_err(r, &err, headers, n);
}

/* The upstream's own words about the customer's input. */
static void answer_refusal(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + 1];
    size_t n = headers_back(&r->kept, headers);
    struct front_call *call = r->call;

    if (call == NULL)
        return;
    if (r->kept.should_retry[0] != '\0')
        headers[n++] = (struct front_header){"x-should-retry", slice_from(r->kept.should_retry)};
    r->call = NULL;
    front_reply(call, r->status, headers, n, SLICE("application/json"), buf_slice(&r->reply.filling));
}

void relay_answered(struct relay *r)
{
    r->call = NULL;
    destroy(r);
}

/* ---- the client ---- */

/* Its call is dead. */
static void lose_client(struct relay *r)
{
    r->client_gone = true;
    if (r->upstream != NULL)
        upstream_resume(r->upstream);
    if (r->state == RELAY_FINISHING)
        destroy(r);
}

static void on_gone(void *ctx)
{
    struct relay *r = ctx;

    r->call = NULL;
    reply_drop(r);
    lose_client(r);
}

static void on_ready(void *ctx)
{
    reply_ready(ctx);
}

void relay_drop_client(struct relay *r)
{
    metric_add(METRIC_CLIENT_GONE, 1);
    reply_break(r);
    lose_client(r);
}

/* ---- settling ---- */

static void note_captured(const struct relay *r)
{
    const struct store_capture *capture = &r->settle.capture;

    metric_add(METRIC_IMAGES, capture->usage.images);
    if ((capture->usage.flags & USAGE_OVERAGE) != 0)
        LOG(LOG_OVERAGE, LOG_F_ID("request", "req", r->id), LOG_F_ID("channel", "chn", r->terms.channel->super.id),
            LOG_F_NANO("held", r->hold.legs[0].amount), LOG_F_NANO("used", capture->charges[0]));
}

static void settled(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);
    struct relay *r = TG_CONTAINER(struct relay, settle, op);
    const struct front_header no_retry = {"x-should-retry", SLICE("false")}; /* the pictures were made: paid for */
    struct err err;

    if (op->kind == STORE_CAPTURE && op->err.code != ERR_OK) {
        (void)err_set(&err, ERR_UNAVAILABLE, NULL, "The ledger is unavailable. Please try again later.");
        answer_err(r, &err, &no_retry, 1);
    } else if (op->kind == STORE_CAPTURE) {
        note_captured(r);
        if (r->call != NULL) {
            r->state = RELAY_FINISHING;
            reply_close(r); /* relay_answered follows */
            return;
        }
    } else if (r->outcome != NULL && r->outcome->relay) {
        answer_refusal(r);
    } else if (r->outcome != NULL) {
        answer_outcome_error(r);
    }
    destroy(r);
}

/* <outcome> NULL: the upstream was never called, as nobody waits for it any more. */
static void settle(struct relay *r, const struct outcome *outcome)
{
    enum outcome_money money = outcome != NULL ? outcome->money : OUTCOME_VOID;
    struct store_op *op;

    r->state = RELAY_SETTLING;
    r->outcome = outcome;
    op = settle_fill(r, money);
    op->mail.deliver = settled;
    op->reply_to = loop_mailbox(r->room->loop);
    store_submit(r->room->house->store, op);
}

/* ---- the upstream ---- */

static void on_head(void *ctx, struct upstream *u, int status)
{
    struct relay *r = ctx;

    r->status = status;
    headers_keep(&r->kept, u);
}

static size_t on_data(void *ctx, struct upstream *u, const char *bytes, size_t len)
{
    (void)u;
    return reply_take(ctx, bytes, len);
}

static void note_doubt(const struct relay *r, const char *why)
{
    LOG(LOG_IN_DOUBT, LOG_F_ID("request", "req", r->id), LOG_F_ID("channel", "chn", r->terms.channel->super.id),
        LOG_F_INT("status", r->status), LOG_F_STR("why", why[0] != '\0' ? why : "the reply was not understood"));
}

static void upstream_ended(void *ctx, struct upstream *u, enum upstream_end end, const char *why)
{
    struct relay *r = ctx;
    const struct outcome *outcome;

    (void)u;
    r->upstream = NULL;
    r->upstream_us = loop_now(r->room->loop) - r->called;
    house_leave(r->load);
    r->load = NULL;
    loop_timer_disarm(r->room->loop, &r->reply.patience);
    if (r->status == 200)
        reply_scan_finish(&r->scan, &r->facts);
    outcome =
        outcome_of(end, r->status, &r->facts, r->reply.mode == REPLY_HELD ? buf_slice(&r->reply.filling) : SLICE_NONE);
    metric_add_label(METRIC_UPSTREAM, (unsigned)outcome->label, 1);
    metric_observe(METRIC_UPSTREAM_SECONDS, r->upstream_us);
    if (outcome->money == OUTCOME_DOUBT)
        note_doubt(r, why);
    settle(r, outcome);
}

static void call_upstream(struct relay *r)
{
    const struct upstream_callbacks callbacks = {r, on_head, on_data, upstream_ended};
    struct relay_house *house = r->room->house;
    struct upstream_request request = {
        .route = r->route,
        .header = headers_own(r->id, r->own_header),
        .body = {buf_slice(&r->body)},
        .n_body = 1,
        .connect_timeout = atomic_load_explicit(&house->connect_timeout, memory_order_relaxed),
    };

    r->timeout = r->terms.channel->timeout;
    if (r->timeout <= 0)
        r->timeout = atomic_load_explicit(&house->timeout, memory_order_relaxed);
    request.timeout = r->timeout;
    r->state = RELAY_CALLING;
    r->called = loop_now(r->room->loop);
    r->upstream = upstream_start(r->room->pool, &request, &callbacks);
}

/* ---- the hold ---- */

static void refuse(struct relay *r, const struct err *why)
{
    struct err err = *why;

    if (err.code == ERR_INSUFFICIENT_QUOTA)
        (void)err_set(&err, ERR_INSUFFICIENT_QUOTA, NULL,
                      "You exceeded your current quota, please check your plan and billing details.");
    answer_err(r, &err, NULL, 0);
    destroy(r);
}

static void held(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);
    struct relay *r = TG_CONTAINER(struct relay, hold, op);

    if (op->err.code != ERR_OK)
        refuse(r, &op->err);
    else if (r->call == NULL)
        settle(r, NULL);
    else
        call_upstream(r);
}

/* The customer's own bytes, with the channel's name of the model; copied, as they must outlive the client. */
static void copy_body(struct relay *r, struct slice body)
{
    char name[LIMIT_MODEL * 6 + 16];
    struct slice parts[UPSTREAM_BODY_PARTS];
    size_t length;
    int n = image_request_body(&r->request, body, r->terms.upstream_model, name, sizeof(name), parts, &length);

    (void)buf_reserve(&r->body, length);
    for (int i = 0; i < n; i++)
        buf_append_slice(&r->body, parts[i]);
    TG_ASSERT(!r->body.full && r->body.len == length);
}

void relay_begin(struct relay *r, const struct channel_way *way, struct slice body)
{
    const struct front_owner owner = {r, on_gone, on_ready};

    copy_body(r, body);
    r->route = upstream_route_ref(way->generations);
    r->hold.id = r->id;
    r->hold.super =
        (struct store_op){.mail = {.deliver = held}, .reply_to = loop_mailbox(r->room->loop), .kind = STORE_HOLD};
    r->state = RELAY_HOLDING;
    front_call_own(r->call, &owner);
    store_submit(r->room->house->store, &r->hold.super);
}
