/* reply.c - an upstream's reply on its way to the client.
 *
 *            too long to wait                     the client left, or could not be waited for
 *   HELD -----------------------> FLOWING ------------------------------> DROPPED
 *     |  \                                                                  ^
 *     |   `-- not JSON, too long to keep; the client left ------------------'
 *     `-- its end: one whole answer, with its charge
 *
 * A reply that fits LIMIT_REPLY_BUFFER is kept until its charge is durable and then leaves whole. A longer one flows
 * through two buffers: one fills while the other is with the front.
 *
 * Invariants
 *  (1) Memory is bounded by two buffers, however long the reply: when both are full the upstream is paused.
 *  (2) While the charge is not durable the last REPLY_TAIL bytes received stay here: no client ever holds a whole
 *      reply that was not charged.
 *  (3) Every byte of a 200 is scanned exactly once, in every mode: what was used is found even when nobody reads.
 *  (4) A client may hold the upstream back for REPLY_PATIENCE at a time and never past three quarters of the call's
 *      time; then it is dropped and the reply is read to its end. So nobody gets nine pictures of ten for nothing by
 *      reading slowly until the upstream call times out.
 *
 * One thread: the loop's. */
#include "carry.h"

#include "daemon/base/money.h"

enum {
    REPLY_TAIL = 4096,     /* bytes kept back until the charge is durable */
    REPLY_LEND = 64 * 1024 /* bytes worth a write of their own */
};
#define REPLY_PATIENCE (60 * INT64_C(1000000)) /* microseconds that a client may take for one buffer */

static void out_of_patience(struct loop_timer *timer)
{
    relay_drop_client(TG_CONTAINER(struct relay, reply.patience, timer));
}

void reply_init(struct relay *r)
{
    buf_init(&r->reply.filling, LIMIT_REPLY_BUFFER);
    buf_init(&r->reply.flying, LIMIT_REPLY_BUFFER);
    loop_timer_init(&r->reply.patience, out_of_patience);
    reply_scan_init(&r->scan);
}

void reply_dispose(struct relay *r)
{
    loop_timer_disarm(r->room->loop, &r->reply.patience);
    buf_dispose(&r->reply.filling);
    buf_dispose(&r->reply.flying);
}

void reply_drop(struct relay *r)
{
    loop_timer_disarm(r->room->loop, &r->reply.patience);
    r->reply.mode = REPLY_DROPPED;
    r->reply.lent = false;
    buf_dispose(&r->reply.filling);
    buf_dispose(&r->reply.flying);
}

void reply_break(struct relay *r)
{
    struct front_call *call = r->call;

    r->call = NULL;
    if (r->reply.lent) {
        front_call_keep(call, r->reply.flying.p);
        buf_init(&r->reply.flying, LIMIT_REPLY_BUFFER);
    }
    front_abort(call);
    reply_drop(r);
}

/* Gives the front all but the tail. */
static void lend(struct relay *r)
{
    struct reply *reply = &r->reply;
    struct buf full = reply->filling;
    size_t leaving = full.len - REPLY_TAIL;

    reply->filling = reply->flying;
    reply->flying = full;
    buf_append(&reply->filling, full.p + leaving, REPLY_TAIL);
    reply->lent = true;
    front_send(r->call, (struct slice){full.p, leaving}, false);
}

static void lend_if_any(struct relay *r)
{
    if (!r->reply.lent && r->reply.filling.len >= REPLY_TAIL + REPLY_LEND)
        lend(r);
}

static void start_flowing(struct relay *r)
{
    struct front_header headers[HEADERS_BACK];
    size_t n = headers_back(&r->kept, headers);

    r->reply.mode = REPLY_FLOWING;
    front_start(r->call, r->status, headers, n, SLICE("application/json"), upstream_content_length(r->upstream));
    lend_if_any(r);
}

/* Both buffers are full. Returns false when the client has used up its time. */
static bool wait_for_client(struct relay *r)
{
    int64_t patience = REPLY_PATIENCE;
    int64_t rest = r->called + r->timeout / 4 * 3 - loop_now(r->room->loop);

    if (rest <= 0)
        return false;
    loop_timer_arm(r->room->loop, &r->reply.patience, rest < patience ? rest : patience);
    return true;
}

/* A refusal's body: kept when it is short enough to be relayed. */
static size_t take_refusal(struct relay *r, const char *bytes, size_t len)
{
    struct reply *reply = &r->reply;

    if (reply->too_long || reply->filling.len + len > LIMIT_UPSTREAM_ERROR_BODY) {
        reply->too_long = true;
        buf_clear(&reply->filling);
    } else {
        buf_append(&reply->filling, bytes, len);
    }
    return len;
}

size_t reply_take(struct relay *r, const char *bytes, size_t len)
{
    struct reply *reply = &r->reply;
    bool fits = reply->filling.len + len <= LIMIT_REPLY_BUFFER;

    if (r->status != 200)
        return reply->mode == REPLY_HELD ? take_refusal(r, bytes, len) : len;
    if (reply->mode == REPLY_HELD && !fits) {
        if (r->scan.result == JSON_SCAN_BAD) {
            reply_drop(r); /* no reply of an Images API: the client gets an error, at the end */
        } else {
            start_flowing(r);
            fits = reply->filling.len + len <= LIMIT_REPLY_BUFFER;
        }
    }
    if (reply->mode == REPLY_FLOWING && !fits) {
        if (wait_for_client(r))
            return 0;
        relay_drop_client(r);
    }
    reply_scan_feed(&r->scan, bytes, len);
    if (reply->mode != REPLY_DROPPED)
        buf_append(&reply->filling, bytes, len);
    if (reply->mode == REPLY_FLOWING)
        lend_if_any(r);
    return len;
}

static void send_last(struct relay *r)
{
    struct front_call *call = r->call;

    r->call = NULL;
    front_send(call, buf_slice(&r->reply.filling), true);
    relay_answered(r);
}

void reply_ready(struct relay *r)
{
    struct reply *reply = &r->reply;

    if (!reply->lent)
        return;
    reply->lent = false;
    loop_timer_disarm(r->room->loop, &reply->patience);
    buf_clear(&reply->flying);
    if (reply->closing) {
        send_last(r);
        return;
    }
    lend_if_any(r);
    if (r->upstream != NULL)
        upstream_resume(r->upstream);
}

/* In the caller's price: retail for a customer's key, though with a shared wallet the tenant's pays wholesale. */
static int64_t charge_told(const struct relay *r)
{
    const struct store_capture *capture = &r->settle.capture;

    return r->hold.call.customer_row != 0 ? capture->usage.retail : capture->charged;
}

static void send_whole(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + 1];
    size_t n = headers_back(&r->kept, headers);
    struct front_call *call = r->call;
    char charge[MONEY_TEXT];

    money_format_nano(charge_told(r), charge);
    headers[n++] = (struct front_header){"tallygate-charge", slice_from(charge)};
    r->call = NULL;
    front_reply(call, r->status, headers, n, SLICE("application/json"), buf_slice(&r->reply.filling));
    relay_answered(r);
}

void reply_close(struct relay *r)
{
    struct reply *reply = &r->reply;

    if (reply->mode == REPLY_HELD) {
        send_whole(r);
        return;
    }
    TG_ASSERT(reply->mode == REPLY_FLOWING);
    reply->closing = true;
    if (!reply->lent)
        send_last(r);
    else
        loop_timer_arm(r->room->loop, &reply->patience, REPLY_PATIENCE);
}
