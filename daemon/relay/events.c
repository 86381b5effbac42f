/* events.c - what an event stream has that a JSON reply has not: an end that is not the connection's, silences, and a
 * way to tell of a failure when the head has left with a 200.
 *
 *   head --> OPEN --the last image asked for: STREAM_GRACE--> ENOUGH --grace over: cancelled--> ended
 *              |  \--[DONE], an error event: STREAM_DONE_GRACE--^  \--the upstream's own end--> ended
 *              '--the upstream's end, broken or not-----------------------------------------> ended
 *
 * Invariants
 *  (1) What leaves before the charge is durable is what the scanner lets go (event_scan.h).
 *  (2) A comment of ours, or an error event, stands where no event is under way. An event of which a part has left when
 *      its rest will never come becomes the error event, where its JSON can still be ended; else it is ended before,
 * and the client finds it damaged. (3) The client sees an event that was charged in full, its blank line included,
 * though the upstream left it out: one of the two SDKs passes over an event without. (4) After a failure nothing leaves
 * of an event that was not charged but what had to leave before.
 *
 * One thread: the loop's. */
#include "carry.h"

#include "daemon/base/clock.h"

#define STREAM_QUIET (15 * CLOCK_SECOND)      /* of silence, then a comment keeps proxies and clients waiting */
#define STREAM_GRACE (1 * CLOCK_SECOND)       /* for the upstream's end after the last image */
#define STREAM_DONE_GRACE (CLOCK_SECOND / 10) /* the same after it said itself that this is the end */

static const char comment[] = ": keep-alive\n\n";
static const char blank_line[] = "\n\n"; /* whatever line is under way, and the event */

/* ---- timers ---- */

static void on_quiet(struct loop_timer *timer)
{
    struct relay *r = TG_CONTAINER(struct relay, reply.quiet, timer);
    int64_t left = r->reply.left_at + STREAM_QUIET - loop_now(r->room->loop);

    if (r->reply.mode == REPLY_DROPPED)
        return;
    if (left <= 0 && !r->reply.lent && event_scan_at_line(&r->reply.scan.events))
        reply_lend_text(r, slice_from(comment));
    loop_timer_arm(r->room->loop, timer, left > 0 ? left : STREAM_QUIET);
}

static void on_grace(struct loop_timer *timer)
{
    struct relay *r = TG_CONTAINER(struct relay, reply.grace, timer);

    upstream_cancel(r->upstream);
}

void events_init(struct relay *r)
{
    loop_timer_init(&r->reply.quiet, on_quiet);
    loop_timer_init(&r->reply.grace, on_grace);
}

void events_stop(struct relay *r)
{
    loop_timer_disarm(r->room->loop, &r->reply.quiet);
    loop_timer_disarm(r->room->loop, &r->reply.grace);
}

/* ---- the stream ---- */

void events_begin(struct relay *r)
{
    event_scan_init(&r->reply.scan.events);
    event_scan_expect(&r->reply.scan.events, r->request.spec.n);
    r->reply.left_at = loop_now(r->room->loop);
    loop_timer_arm(r->room->loop, &r->reply.quiet, STREAM_QUIET);
}

static bool has_all(const struct relay *r)
{
    return event_scan_completed(&r->reply.scan.events) >= r->request.spec.n;
}

void events_feed(struct relay *r, const char *bytes, size_t len)
{
    struct reply *reply = &r->reply;
    struct event_scan *scan = &reply->scan.events;
    bool had_ended = event_scan_ended(scan);

    event_scan_feed(scan, bytes, len);
    if (!had_ended && event_scan_ended(scan))
        loop_timer_arm(r->room->loop, &reply->grace, STREAM_DONE_GRACE);
    else if (!reply->enough && has_all(r))
        loop_timer_arm(r->room->loop, &reply->grace, STREAM_GRACE);
    else
        return;
    reply->enough = true;
}

static size_t behind(const struct relay *r, uint64_t place)
{
    return (size_t)(r->reply.scan.events.offset - place);
}

size_t events_kept(const struct relay *r)
{
    return behind(r, event_scan_free(&r->reply.scan.events));
}

void events_end(struct relay *r)
{
    struct event_scan *scan = &r->reply.scan.events;
    int completed = event_scan_completed(scan);
    bool ended = event_scan_ended(scan);

    r->reply.mendable = event_scan_mend(scan, &r->reply.mend_keep, &r->reply.mend_rest);
    event_scan_finish(scan, &r->facts);
    r->reply.unended = completed != event_scan_completed(scan) || ended != event_scan_ended(scan);
    r->reply.enough |= has_all(r) || event_scan_ended(scan);
}

/* ---- its end towards the client ---- */

/* Where the unfinished event begins, of which nothing counts; all that came when there is none. */
static uint64_t counted_until(const struct event_scan *scan)
{
    return scan->in_event ? scan->start : scan->offset;
}

static void append(struct relay *r, const char *text)
{
    if (r->reply.mode != REPLY_DROPPED)
        buf_append_str(&r->reply.filling, text);
}

static void cut(struct relay *r, size_t n)
{
    if (r->reply.mode != REPLY_DROPPED)
        r->reply.filling.len -= n;
}

/* Takes back what must not leave: all from <until> on, but what has left. */
static void cut_from(struct relay *r, uint64_t until)
{
    uint64_t left = event_scan_free(&r->reply.scan.events);

    if (until >= left)
        r->reply.mendable = false; /* nothing of it has left */
    else if (r->reply.mendable)
        left = r->reply.mend_keep;
    cut(r, behind(r, until > left ? until : left));
}

void events_settle(struct relay *r)
{
    struct reply *reply = &r->reply;
    struct event_scan *scan = &reply->scan.events;
    uint64_t until = counted_until(scan);

    reply->settled = true;
    cut_from(r, until);
    if (until < scan->offset) { /* what is in the file is not what the client gets */
        answers_drop(reply->kept);
        reply->kept = NULL;
    }
    if (reply->unended) {
        append(r, blank_line);
        answers_add(reply->kept, slice_from(blank_line));
    }
}

/* A torn event that becomes the error itself: both SDKs look for the member in whatever event comes. */
static void mend(struct buf *out, struct slice rest, const struct err *err)
{
    buf_append_slice(out, rest);
    buf_append_str(out, ",\"error\":");
    err_append_object(out, err);
    buf_append_str(out, "}\n\n");
}

void events_fail(struct relay *r, const struct err *err)
{
    struct reply *reply = &r->reply;

    TG_ASSERT(reply->mode == REPLY_FLOWING || reply->settled);
    if (!reply->settled)
        cut_from(r, 0);
    if (reply->mendable) {
        mend(&reply->filling, reply->mend_rest, err);
    } else {
        if (reply->settled || !event_scan_at_line(&reply->scan.events))
            append(r, blank_line);
        buf_append_str(&reply->filling, "event: error\ndata: {\"type\":\"error\",\"error\":");
        err_append_object(&reply->filling, err);
        buf_append_str(&reply->filling, "}\n\n");
    }
    TG_ASSERT(!reply->filling.full);
}
