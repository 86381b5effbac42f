/* answer.c - paces one answer with one timer.
 *
 * Invariants
 *   1. An answer owns its body and holds its call until the call is dead; `gone` is the only way it loses it early.
 *   2. At most one send is under way: the next piece leaves from `ready`, after a rest when the answer is slow.
 *   3. `allowed` bytes leave at most: all of them, or the share after which it dies.
 * One loop. */
#include "answer.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

enum { TURNS_A_SECOND = 20 }; /* writes of a slow answer */

struct answer {
    struct front_call *call;
    struct loop *loop;
    struct loop_timer timer;
    struct directives d;
    int status;
    struct buf body;
    size_t sent;
    size_t allowed;
    bool started;
};

static void answer_destroy(struct answer *a)
{
    loop_timer_disarm(a->loop, &a->timer);
    buf_dispose(&a->body);
    free(a);
}

static void gone(void *ctx)
{
    answer_destroy(ctx);
}

/* Bytes of the next write. */
static size_t next_piece(const struct answer *a)
{
    size_t left = a->allowed - a->sent;
    size_t piece = left;

    if (a->d.split > 0 && (size_t)a->d.split < piece)
        piece = (size_t)a->d.split;
    if (a->d.slow > 0 && (size_t)(a->d.slow / TURNS_A_SECOND + 1) < piece)
        piece = (size_t)(a->d.slow / TURNS_A_SECOND + 1);
    return piece;
}

static void step(struct answer *a)
{
    struct front_call *call = a->call;
    struct slice bytes = {a->body.p + a->sent, next_piece(a)};

    if (a->sent == a->allowed && a->allowed < a->body.len) {
        front_abort(call);
        answer_destroy(a);
        return;
    }
    a->sent += bytes.len;
    front_send(call, bytes, a->sent == a->body.len);
    if (a->sent == a->body.len)
        answer_destroy(a);
}

static void ready(void *ctx)
{
    struct answer *a = ctx;

    if (a->d.slow > 0)
        loop_timer_arm(a->loop, &a->timer, CLOCK_SECOND / TURNS_A_SECOND);
    else
        step(a);
}

static void start(struct answer *a)
{
    const struct front_header headers[] = {{"openai-processing-ms", SLICE("1")},
                                           {"openai-version", SLICE("2020-10-01")}};

    a->started = true;
    if (a->d.die == DIRECTIVE_DIE_NEVER && a->d.slow == 0 && a->d.split == 0) {
        front_reply(a->call, a->status, headers, 2, SLICE("application/json"), buf_slice(&a->body));
        answer_destroy(a);
        return;
    }
    front_start(a->call, a->status, headers, 2, SLICE("application/json"), (int64_t)a->body.len);
    step(a);
}

static void fire(struct loop_timer *timer)
{
    struct answer *a = TG_CONTAINER(struct answer, timer, timer);

    if (a->started) {
        step(a);
    } else if (a->d.die == DIRECTIVE_DIE_HEADERS) {
        front_abort(a->call);
        answer_destroy(a);
    } else {
        start(a);
    }
}

void answer_send(struct front_call *call, const struct directives *d, int64_t latency, int status, struct buf *body)
{
    struct answer *a = mem_zalloc(sizeof(*a));

    *a = (struct answer){.call = call, .loop = front_call_loop(call), .d = *d, .status = status, .body = *body};
    buf_init(body, body->max);
    a->allowed = a->d.die >= 0 ? a->body.len * (size_t)a->d.die / 100 : a->body.len;
    if (a->d.die >= 0 && a->allowed == a->body.len)
        a->allowed--; /* die=100%: all but the end */
    loop_timer_init(&a->timer, fire);
    front_call_own(call, &(const struct front_owner){.ctx = a, .gone = gone, .ready = ready});
    if (a->d.hang)
        return;
    if (latency + d->latency > 0 || d->die == DIRECTIVE_DIE_HEADERS)
        loop_timer_arm(a->loop, &a->timer, latency + d->latency);
    else
        start(a);
}
