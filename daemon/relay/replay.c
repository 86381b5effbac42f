/* replay.c - a kept answer on its way to a client that asked again.
 *
 *   replay_begin --> PROVING --good--> SENDING --the last piece--> (gone)
 *                       | damaged: the error       | the client left, is too slow, the file cannot be read
 *                       v                          v
 *                    (gone)                     (gone)
 *
 * Invariants
 *  (1) Nothing leaves before the whole file was checked, once in a process's life, a piece a turn of the loop.
 *  (2) Memory is one piece, whatever the answer's length; the next is read when the front has taken the last.
 *  (3) No hold, no upstream, no money: the relay that found the answer is gone.
 *
 * One thread: the loop's. */
#include "carry.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/money.h"

enum { REPLAY_PIECE = 64 * 1024 };

struct replay {
    struct relay_house *house;
    struct loop *loop;
    struct front_call *call;
    struct answer_reader *reader;
    struct err otherwise;
    struct meter_view limits;
    uint64_t sent;
    char *piece;              /* NULL: nothing has been read */
    struct loop_timer step;   /* proves the next piece */
    struct loop_timer waited; /* the client takes nothing */
};

static void destroy(struct replay *p)
{
    struct relay_house *house = p->house;

    loop_timer_disarm(p->loop, &p->step);
    loop_timer_disarm(p->loop, &p->waited);
    answer_close(p->reader);
    free(p->piece);
    free(p);
    atomic_fetch_sub(&house->inflight, 1);
}

static void on_gone(void *ctx)
{
    destroy(ctx);
}

static void abort_call(struct replay *p)
{
    if (p->piece != NULL) {
        front_call_keep(p->call, p->piece);
        p->piece = NULL;
    }
    front_abort(p->call);
    destroy(p);
}

static void out_of_patience(struct loop_timer *timer)
{
    abort_call(TG_CONTAINER(struct replay, waited, timer));
}

static void send_piece(struct replay *p)
{
    ssize_t n;
    bool final;

    if (p->piece == NULL)
        p->piece = mem_alloc(REPLAY_PIECE);
    n = answer_read(p->reader, p->sent, p->piece, REPLAY_PIECE);
    if (n < 0) {
        abort_call(p);
        return;
    }
    p->sent += (uint64_t)n;
    final = p->sent == answer_len(p->reader);
    if (!final)
        loop_timer_arm(p->loop, &p->waited, REPLY_PATIENCE);
    front_send(p->call, (struct slice){p->piece, (size_t)n}, final);
    if (final)
        destroy(p);
}

static void on_ready(void *ctx)
{
    struct replay *p = ctx;

    loop_timer_disarm(p->loop, &p->waited);
    send_piece(p);
}

static void start(struct replay *p)
{
    const struct answer_head *head = answer_head(p->reader);
    struct front_header headers[HEADERS_EVENTS + 3 + HEADERS_LIMITS];
    struct headers_texts texts;
    char charge[MONEY_TEXT];
    size_t n = head->events ? headers_events(headers) : 0;

    money_format_nano(head->charge, charge);
    headers[n++] = (struct front_header){"tallygate-charge", slice_from(charge)};
    headers[n++] = (struct front_header){"idempotent-replayed", SLICE("true")};
    if (head->upstream_id[0] != '\0')
        headers[n++] = (struct front_header){"x-upstream-request-id", slice_from(head->upstream_id)};
    n += headers_limits(&p->limits, &texts, headers + n);
    front_start(p->call, head->status, headers, n, headers_type(head->events), (int64_t)answer_len(p->reader));
    send_piece(p);
}

static void refuse(struct replay *p)
{
    struct front_header headers[1 + HEADERS_LIMITS] = {{"x-should-retry", SLICE("false")}};
    struct headers_texts texts;
    size_t n = 1 + headers_limits(&p->limits, &texts, headers + 1);

    front_reply_err(p->call, &p->otherwise, headers, n);
    destroy(p);
}

static void on_step(struct loop_timer *timer)
{
    struct replay *p = TG_CONTAINER(struct replay, step, timer);

    switch (answer_prove(p->reader)) {
    case ANSWER_UNPROVEN:
        loop_timer_arm(p->loop, &p->step, 0);
        break;
    case ANSWER_GOOD:
        start(p);
        break;
    default:
        refuse(p);
        break;
    }
}

void replay_begin(struct relay_room *room, struct front_call *call, struct answer_reader *reader,
                  const struct err *otherwise, const struct meter_view *limits)
{
    struct replay *p = mem_zalloc(sizeof(*p));
    const struct front_owner owner = {p, on_gone, on_ready};

    p->house = room->house;
    p->loop = room->loop;
    p->call = call;
    p->reader = reader;
    p->otherwise = *otherwise;
    p->limits = *limits;
    loop_timer_init(&p->step, on_step);
    loop_timer_init(&p->waited, out_of_patience);
    atomic_fetch_add(&room->house->inflight, 1);
    front_call_own(call, &owner);
    on_step(&p->step);
}
