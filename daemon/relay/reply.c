/* reply.c - an upstream's reply on its way to the client.
 *
 *            JSON: too long to wait; a stream:
 *            something may leave                  the client left, or could not be waited for
 *   HELD ------------------------------> FLOWING ----------------------------> DROPPED
 *     |  \                                                                       ^
 *     |   `-- not what was asked for, too long to keep; the client left ---------'
 *     `-- its end: one whole answer, with its charge
 *
 * JSON that fits LIMIT_REPLY_BUFFER is kept until its charge is durable and then leaves whole. A longer one, and every
 * stream of events, flows through two buffers: one fills while the other is with the front. What is a stream's own
 * stands in events.c.
 *
 * Invariants
 *  (1) Memory is bounded by two buffers, however long the reply: when both are full the upstream is paused. A stream
 *      that waits for its next event has none.
 *  (2) While the charge is not durable the last bytes stay here, REPLY_TAIL of JSON, as many as the scanner says of a
 *      stream: no client ever holds a whole reply that was not charged.
 *  (3) Every byte of a 200 of the kind that was asked for is scanned exactly once, in every mode: what was used is
 *      found even when nobody reads; and it is put into the kept answer, should it be asked for again.
 *  (4) A client may hold the upstream back for REPLY_PATIENCE at a time and never past three quarters of the call's
 *      time; then it is dropped and the reply is read to its end. So nobody gets nine pictures of ten for nothing by
 *      reading slowly until the upstream call times out.
 *
 * One thread: the loop's. */
#include "carry.h"

#include "daemon/base/money.h"

enum {
    REPLY_TAIL = 4096,      /* bytes of JSON kept back until the charge is durable */
    REPLY_LEND = 64 * 1024, /* bytes of JSON worth a write of their own */
    REPLY_LAST = 4096       /* room for an error event behind a full buffer */
};

static void out_of_patience(struct loop_timer *timer)
{
    relay_drop_client(TG_CONTAINER(struct relay, reply.patience, timer));
}

void reply_init(struct relay *r)
{
    buf_init(&r->reply.filling, LIMIT_REPLY_BUFFER + REPLY_LAST);
    buf_init(&r->reply.flying, LIMIT_REPLY_BUFFER + REPLY_LAST);
    loop_timer_init(&r->reply.patience, out_of_patience);
    events_init(r);
    reply_scan_init(&r->reply.scan.json);
}

void reply_dispose(struct relay *r)
{
    loop_timer_disarm(r->room->loop, &r->reply.patience);
    events_stop(r);
    answers_drop(r->reply.kept);
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
        buf_init(&r->reply.flying, r->reply.flying.max);
    }
    front_abort(call);
    reply_drop(r);
}

/* ---- towards the client ---- */

static size_t kept(const struct relay *r)
{
    size_t len = r->reply.filling.len;

    if (r->reply.events)
        return events_kept(r);
    return len < REPLY_TAIL ? len : REPLY_TAIL;
}

static void start_flowing(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + HEADERS_EVENTS + HEADERS_LIMITS];
    size_t n = headers_back(&r->kept, headers);
    bool events = r->reply.events;
    struct headers_texts texts;

    r->reply.mode = REPLY_FLOWING;
    if (events)
        n += headers_events(headers + n);
    n += headers_limits(&r->limits, &texts, headers + n);
    front_start(r->call, r->status, headers, n, headers_type(events),
                events ? -1 : upstream_content_length(r->upstream));
}

/* Gives the front all but the last <staying> bytes. */
static void lend(struct relay *r, size_t staying)
{
    struct reply *reply = &r->reply;
    struct buf full = reply->filling;
    size_t leaving = full.len - staying;

    reply->filling = reply->flying;
    reply->flying = full;
    buf_append(&reply->filling, full.p + leaving, staying);
    reply->lent = true;
    reply->left_at = loop_now(r->room->loop);
    front_send(r->call, (struct slice){full.p, leaving}, false);
}

void reply_lend_any(struct relay *r)
{
    struct reply *reply = &r->reply;
    size_t staying = kept(r);

    if (reply->lent || reply->mode == REPLY_DROPPED)
        return;
    if (reply->filling.len < staying + (reply->events ? 1 : REPLY_LEND))
        return;
    if (reply->mode == REPLY_HELD)
        start_flowing(r);
    lend(r, staying);
}

void reply_lend_text(struct relay *r, struct slice text)
{
    TG_ASSERT(!r->reply.lent);
    if (r->reply.mode == REPLY_HELD)
        start_flowing(r);
    r->reply.lent = true;
    r->reply.left_at = loop_now(r->room->loop);
    front_send(r->call, text, false);
}

/* ---- from the upstream ---- */

void reply_head(struct relay *r, struct slice content_type)
{
    struct reply *reply = &r->reply;

    if (r->status != 200)
        return;
    reply->foreign = headers_is_events(content_type) != r->request.stream;
    if (reply->foreign)
        return;
    reply->events = r->request.stream;
    if (r->idempotency_key != NULL)
        reply->kept = answers_begin(r->room->house->answers, r->id);
    if (reply->events)
        events_begin(r);
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

static bool fits(const struct relay *r, size_t len)
{
    return r->reply.filling.len + len <= LIMIT_REPLY_BUFFER;
}

/* Whether the next bytes can be taken now; may start the answer, or end the waiting for the client. */
static bool make_room(struct relay *r, size_t len)
{
    struct reply *reply = &r->reply;

    if (reply->mode == REPLY_HELD && !fits(r, len)) {
        if (!reply->events && r->reply.scan.json.result == JSON_SCAN_BAD) {
            reply_drop(r); /* no reply of an Images API: the client gets an error, at the end */
        } else {
            start_flowing(r);
            reply_lend_any(r);
        }
    }
    if (reply->mode != REPLY_FLOWING || fits(r, len))
        return true;
    if (wait_for_client(r))
        return false;
    relay_drop_client(r);
    return true;
}

size_t reply_take(struct relay *r, const char *bytes, size_t len)
{
    struct reply *reply = &r->reply;

    if (r->status != 200)
        return reply->mode == REPLY_HELD ? take_refusal(r, bytes, len) : len;
    if (reply->foreign) { /* no answer, but it may say that there is nothing to pay for */
        if (r->request.stream)
            reply_scan_feed(&reply->scan.json, bytes, len);
        return len;
    }
    if (!make_room(r, len))
        return 0;
    if (reply->events)
        events_feed(r, bytes, len);
    else
        reply_scan_feed(&reply->scan.json, bytes, len);
    answers_add(reply->kept, (struct slice){bytes, len});
    if (reply->mode != REPLY_DROPPED)
        buf_append(&reply->filling, bytes, len);
    if (reply->mode == REPLY_FLOWING || reply->events)
        reply_lend_any(r);
    return len;
}

void reply_end(struct relay *r)
{
    loop_timer_disarm(r->room->loop, &r->reply.patience);
    events_stop(r);
    if (r->status != 200)
        return;
    if (r->reply.events)
        events_end(r);
    else
        reply_scan_finish(&r->reply.scan.json, &r->facts);
}

/* ---- its end ---- */

static void send_last(struct relay *r)
{
    struct front_call *call = r->call;

    r->call = NULL;
    relay_release(r);
    front_send(call, buf_slice(&r->reply.filling), true);
    relay_answered(r);
}

/* A stream that waits keeps no memory for what it does not have. */
static void empty_flying(struct relay *r)
{
    if (r->reply.events)
        buf_dispose(&r->reply.flying);
    else
        buf_clear(&r->reply.flying);
}

void reply_ready(struct relay *r)
{
    struct reply *reply = &r->reply;

    if (!reply->lent)
        return;
    reply->lent = false;
    loop_timer_disarm(r->room->loop, &reply->patience);
    empty_flying(r);
    if (reply->closing) {
        send_last(r);
        return;
    }
    reply_lend_any(r);
    if (r->upstream != NULL)
        upstream_resume(r->upstream);
}

static void send_whole(struct relay *r)
{
    struct front_header headers[HEADERS_BACK + HEADERS_EVENTS + 1 + HEADERS_LIMITS];
    size_t n = headers_back(&r->kept, headers);
    struct front_call *call = r->call;
    bool events = r->reply.events;
    struct headers_texts texts;
    char charge[MONEY_TEXT];

    if (events)
        n += headers_events(headers + n);
    if (r->outcome->money == OUTCOME_CAPTURE) {
        money_format_nano(relay_charge_told(r), charge);
        headers[n++] = (struct front_header){"tallygate-charge", slice_from(charge)};
    }
    n += headers_limits(&r->limits, &texts, headers + n);
    r->call = NULL;
    relay_release(r);
    front_reply(call, r->status, headers, n, headers_type(events), buf_slice(&r->reply.filling));
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
