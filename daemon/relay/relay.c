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
 *  (3) The answer's last byte leaves after the settlement is durable; an answer whose capture failed is never whole,
 *      and is not kept for a repeated call.
 *  (4) `call` is NULL from the moment the client is gone or was answered; everything the relay needs later is its own.
 *  (5) A place of the channel (load) is given back when the upstream call ends, or when there will be none.
 *  (6) A client that goes away ends nothing upstream: the pictures are paid for, so they are read and charged.
 *  (7) A call repeated under its Idempotency-Key goes no further than HOLDING: the store refuses the hold, and the
 *      answer is the kept one (replay.c) or an error that tells the SDK not to try again.
 *  (8) What a call has taken from its caller's limits is given back once, by relay_release, whatever its end; the place
 *      among the calls under way not before the upstream has ended.
 *
 * One thread: the loop on which the request came in. */
#include "carry.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "settle.h"

const char relay_no_quota[] = "You exceeded your current quota, please check your plan and billing details.";

static const struct front_header no_retry = {"x-should-retry", SLICE("false")};

static void destroy(struct relay *r)
{
    struct relay_house *house = r->room->house;

    TG_ASSERT(r->call == NULL && r->upstream == NULL);
    relay_release(r);
    house_leave(r->load);
    reply_dispose(r);
    spool_destroy(r->body);
    free(r->type_header);
    free(r->idempotency_key);
    terms_dispose(&r->terms);
    upstream_route_unref(r->route);
    free(r);
    atomic_fetch_sub(&house->inflight, 1);
    metric_add(METRIC_INFLIGHT, -1);
}

struct relay *relay_create(struct relay_room *room, struct front_call *call, const struct image_request *request,
                           struct spool *body)
{
    struct relay *r = mem_zalloc(sizeof(*r));

    r->room = room;
    r->call = call;
    r->id = front_call_id(call);
    r->started = front_call_started(call);
    r->request = *request;
    r->body = body;
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

void relay_release(struct relay *r)
{
    permit_end(&r->permit, r->delivered);
}

/* ---- answering ---- */

/* Ends the relay with an error. A head that has left with a 200 leaves two ways: an event stream tells it in an event,
 * JSON breaks off. */
static void end_with_err(struct relay *r, const struct err *err, const struct front_header *headers, size_t n)
{
    struct front_header all[HEADERS_BACK + 2 + HEADERS_LIMITS];
    struct front_call *call = r->call;
    struct headers_texts texts;

    if (call != NULL && r->reply.mode == REPLY_FLOWING && r->reply.events) {
        events_fail(r, err);
        r->state = RELAY_FINISHING;
        reply_close(r); /* relay_answered follows */
        return;
    }
    if (call != NULL && r->reply.mode == REPLY_FLOWING) {
        reply_break(r);
    } else if (call != NULL) {
        if (n > 0)
            memcpy(all, headers, n * sizeof(all[0]));
        n += headers_limits(&r->limits, &texts, all + n);
        r->call = NULL;
        relay_release(r);
        front_reply_err(call, err, all, n);
    }
    destroy(r);
}

static void outcome_err(const struct relay *r, struct err *err)
{
    (void)err_set(err, r->outcome->error, NULL, "%s", r->outcome->message);
}

static void end_with_outcome(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + 2];
    size_t n = headers_back(&r->kept, headers);
    char seconds[16];
    struct err err;

    if (r->outcome->no_retry)
        headers[n++] = no_retry;
    if (r->outcome->error == ERR_NO_CHANNEL && r->kept.retry_after > 0) {
        snprintf(seconds, sizeof(seconds), "%d", r->kept.retry_after);
        headers[n++] = (struct front_header){"retry-after", slice_from(seconds)};
    }
    outcome_err(r, &err);
    end_with_err(r, &err, headers, n);
}

/* The upstream's own words about the customer's input. */
static void end_with_refusal(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + 1 + HEADERS_LIMITS];
    size_t n = headers_back(&r->kept, headers);
    struct front_call *call = r->call;
    struct headers_texts texts;

    if (r->kept.should_retry[0] != '\0')
        headers[n++] = (struct front_header){"x-should-retry", slice_from(r->kept.should_retry)};
    n += headers_limits(&r->limits, &texts, headers + n);
    r->call = NULL;
    relay_release(r);
    if (call != NULL)
        front_reply(call, r->status, headers, n, headers_type(false), buf_slice(&r->reply.filling));
    destroy(r);
}

/* The upstream's reply is the answer; it may be followed by an error. */
static void end_with_reply(struct relay *r)
{
    struct err err;

    if (r->call == NULL) {
        destroy(r);
        return;
    }
    if (r->outcome->error != ERR_OK) {
        outcome_err(r, &err);
        events_fail(r, &err);
    }
    r->state = RELAY_FINISHING;
    reply_close(r); /* relay_answered follows */
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

int64_t relay_charge_told(const struct relay *r)
{
    const struct store_capture *capture = &r->settle.capture;

    /* With a shared wallet the tenant's pays wholesale, and the customer is told retail. */
    return r->hold.call.customer_row != 0 ? capture->usage.retail : capture->charged;
}

static void note_captured(const struct relay *r)
{
    const struct store_capture *capture = &r->settle.capture;

    metric_add(METRIC_IMAGES, capture->usage.images);
    if ((capture->usage.flags & USAGE_OVERAGE) != 0)
        LOG(LOG_OVERAGE, LOG_F_ID("request", "req", r->id), LOG_F_ID("channel", "chn", r->terms.channel->super.id),
            LOG_F_NANO("held", r->hold.legs[0].amount), LOG_F_NANO("used", capture->charges[0]));
}

/* The answer is whole and charged: it may be given again. */
static void keep_answer(struct relay *r)
{
    struct answer_head head = {.status = r->status, .events = r->reply.events, .charge = relay_charge_told(r)};

    (void)slice_copy(slice_from(r->kept.upstream_id), head.upstream_id, sizeof(head.upstream_id));
    answers_commit(r->reply.kept, &head);
    r->reply.kept = NULL;
}

static void captured(struct relay *r)
{
    r->delivered = r->settle.capture.usage.images;
    note_captured(r);
    if (r->reply.events)
        events_settle(r);
    if (r->outcome->error == ERR_OK)
        keep_answer(r);
    end_with_reply(r);
}

static void settled(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);
    struct relay *r = TG_CONTAINER(struct relay, settle, op);
    struct err err;

    if (op->kind == STORE_CAPTURE && op->err.code != ERR_OK) {
        (void)err_set(&err, ERR_UNAVAILABLE, NULL, "The ledger is unavailable. Please try again later.");
        end_with_err(r, &err, &no_retry, 1); /* the pictures were made */
    } else if (op->kind == STORE_CAPTURE) {
        captured(r);
    } else if (r->outcome == NULL) {
        destroy(r);
    } else if (r->outcome->relay) {
        end_with_refusal(r);
    } else if (r->outcome->error == ERR_OK) {
        events_settle(r);
        end_with_reply(r);
    } else {
        end_with_outcome(r);
    }
}

/* <outcome> NULL: the upstream was never called, as nobody waits for it any more. */
static void settle(struct relay *r, const struct outcome *outcome)
{
    enum outcome_money money = outcome != NULL ? outcome->money : OUTCOME_VOID;
    struct store_op *op;

    r->state = RELAY_SETTLING;
    r->outcome = outcome;
    op = settle_fill(r, money);
    op->mail = (struct mail){.deliver = settled, .patient = true};
    op->reply_to = loop_mailbox(r->room->loop);
    store_submit(r->room->house->store, op);
}

/* ---- the upstream ---- */

static void on_head(void *ctx, struct upstream *u, int status)
{
    struct relay *r = ctx;

    r->status = status;
    headers_keep(&r->kept, u);
    reply_head(r, upstream_header(u, "content-type"));
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

static const struct outcome *judge(const struct relay *r, enum upstream_end end)
{
    const struct reply *reply = &r->reply;
    const struct outcome_seen seen = {
        .end = end,
        .status = r->status,
        .events = reply->events,
        .foreign = reply->foreign,
        .enough = reply->enough,
        .facts = &r->facts,
        .body = reply->mode == REPLY_HELD ? buf_slice(&reply->filling) : SLICE_NONE,
    };

    return outcome_of(&seen);
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
    reply_end(r);
    outcome = judge(r, end);
    metric_add_label(METRIC_UPSTREAM, (unsigned)outcome->label, 1);
    metric_observe(METRIC_UPSTREAM_SECONDS, r->upstream_us);
    if (outcome->money == OUTCOME_DOUBT)
        note_doubt(r, why);
    settle(r, outcome);
}

static struct upstream_part part_of(const struct spool *body, uint64_t from, uint64_t to)
{
    return (struct upstream_part){.spool = body, .at = from, .len = to - from};
}

/* The customer's own bytes, with the channel's name of the model. Returns how many parts. */
static int fill_body(struct relay *r, struct upstream_part parts[UPSTREAM_BODY_PARTS])
{
    uint64_t len = spool_len(r->body);
    struct image_patch patch;
    int n = 0;

    if (!image_request_patch(&r->request, r->terms.upstream_model, r->patch, &patch)) {
        parts[0] = part_of(r->body, 0, len);
        return 1;
    }
    if (patch.start > 0)
        parts[n++] = part_of(r->body, 0, patch.start);
    parts[n++] = (struct upstream_part){.bytes = patch.text};
    if (patch.end < len)
        parts[n++] = part_of(r->body, patch.end, len);
    return n;
}

static void call_upstream(struct relay *r)
{
    const struct upstream_callbacks callbacks = {r, on_head, on_data, upstream_ended};
    struct relay_house *house = r->room->house;
    struct upstream_request request = {
        .route = r->route,
        .headers = {headers_own(r->id, r->own_header),
                    r->type_header != NULL ? r->type_header : "Content-Type: application/json"},
        .n_headers = 2,
        .small_buffers = r->request.stream,
        .connect_timeout = atomic_load_explicit(&house->connect_timeout, memory_order_relaxed),
    };

    request.n_body = fill_body(r, request.body);
    r->timeout = r->terms.channel->timeout;
    if (r->timeout <= 0)
        r->timeout = atomic_load_explicit(&house->timeout, memory_order_relaxed);
    request.timeout = r->timeout;
    r->state = RELAY_CALLING;
    r->called = loop_now(r->room->loop);
    r->upstream = upstream_start(r->room->pool, &request, &callbacks);
}

/* ---- the hold ---- */

/* Gives the kept answer of an earlier call again; false when there is none. */
static bool replay(struct relay *r)
{
    struct front_call *call = r->call;
    struct answer_reader *reader;

    if (call == NULL)
        return false;
    reader = answers_find(r->room->house->answers, r->hold.earlier.request);
    if (reader == NULL)
        return false;
    r->call = NULL;
    relay_release(r);
    replay_begin(r->room, call, reader, &r->hold.super.err, &r->limits);
    destroy(r);
    return true;
}

static void refuse(struct relay *r)
{
    struct err err = r->hold.super.err;

    switch (err.code) {
    case ERR_IDEMPOTENCY_DONE:
        if (!replay(r))
            end_with_err(r, &err, &no_retry, 1);
        break;
    case ERR_IDEMPOTENCY_RUNNING:
    case ERR_IDEMPOTENCY_REUSED:
        end_with_err(r, &err, &no_retry, 1);
        break;
    default:
        end_with_err(r, &err, NULL, 0);
        break;
    }
}

static void held(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);
    struct relay *r = TG_CONTAINER(struct relay, hold, op);

    if (op->err.code != ERR_OK)
        refuse(r);
    else if (r->call == NULL)
        settle(r, NULL);
    else
        call_upstream(r);
}

void relay_begin(struct relay *r, struct upstream_route *route)
{
    const struct front_owner owner = {r, on_gone, on_ready};

    r->route = upstream_route_ref(route);
    r->hold.id = r->id;
    r->hold.super = (struct store_op){
        .mail = {.deliver = held, .patient = true}, .reply_to = loop_mailbox(r->room->loop), .kind = STORE_HOLD};
    r->state = RELAY_HOLDING;
    front_call_own(r->call, &owner);
    store_submit(r->room->house->store, &r->hold.super);
}
