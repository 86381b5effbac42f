/* answer.c - paces one answer with one timer.
 *
 * Invariants
 *   1. An answer owns its script and holds its call until the call is dead; `gone` is the only way it loses it early.
 *   2. At most one send is under way: the next piece leaves from `ready`, after a rest when the answer is slow or
 *      pauses. What was lent to it (script, gathered) stays until then.
 *   3. `allowed` bytes leave at most: all of them, or the share after which it dies or falls silent.
 * One loop. */
#include "answer.h"

#include <stdio.h>
#include <stdlib.h>

#include <zlib.h>

#include "daemon/base/clock.h"

enum {
    TURNS_A_SECOND = 20,    /* writes of a slow answer */
    GATHER_MAX = 32 * 1024, /* short runs leave together, up to so many bytes */
    WHOLE_MAX = 256 * 1024, /* an answer that long leaves in one piece, unless it is to be paced */
    GZIP_WINDOW = 15 + 16,  /* zlib's largest, in gzip's frame */
    GZIP_MEMORY = 8,        /* zlib's default */
    FLAT_MAX = 1 << 30      /* bytes of a compressed answer before */
};

struct answer {
    struct front_call *call;
    struct loop *loop;
    struct loop_timer timer;
    struct directives d;
    struct answer_start head;
    struct script script;
    struct script_cursor cursor;
    struct buf gathered;
    uint64_t sent;
    uint64_t allowed;
    bool started;
};

static void answer_destroy(struct answer *a)
{
    loop_timer_disarm(a->loop, &a->timer);
    script_close(&a->cursor);
    script_dispose(&a->script);
    buf_dispose(&a->gathered);
    free(a);
}

static void gone(void *ctx)
{
    answer_destroy(ctx);
}

/* ---- the head ---- */

enum { HEADERS_MAX = 8 };

/* What OpenAI's servers send beside the answer; none of it is a customer's business. */
static size_t fill_headers(const struct answer *a, char retry_after[24], struct front_header out[HEADERS_MAX])
{
    size_t n = 0;

    out[n++] = (struct front_header){"openai-processing-ms", SLICE("1")};
    out[n++] = (struct front_header){"openai-version", SLICE("2020-10-01")};
    out[n++] = (struct front_header){"openai-organization", SLICE("sandbox")};
    out[n++] = (struct front_header){"set-cookie", SLICE("__cf_bm=sandbox; path=/; HttpOnly")};
    out[n++] = (struct front_header){"cf-ray", SLICE("0000000000000000-SBX")};
    if (a->d.gzip)
        out[n++] = (struct front_header){"content-encoding", SLICE("gzip")};
    if (a->d.retry_after >= 0) {
        (void)snprintf(retry_after, 24, "%lld", (long long)a->d.retry_after);
        out[n++] = (struct front_header){"retry-after", slice_from(retry_after)};
    }
    return n;
}

/* The whole answer at once, when nothing wants it otherwise. */
static bool is_plain(const struct answer *a)
{
    return a->d.stop == STOP_NEVER && a->d.slow == 0 && a->d.split == 0 && !a->head.streamed &&
           a->script.length <= WHOLE_MAX;
}

static void reply_whole(struct answer *a, const struct front_header *headers, size_t n)
{
    struct buf body;

    buf_init(&body, WHOLE_MAX);
    script_flatten(&a->script, &body);
    front_reply(a->call, a->head.status, headers, n, slice_from(a->head.type), buf_slice(&body));
    buf_dispose(&body);
    answer_destroy(a);
}

/* ---- the body ---- */

/* The most bytes that the next write may have. */
static size_t next_most(const struct answer *a)
{
    uint64_t most = a->allowed - a->sent;

    if (a->d.split > 0 && (uint64_t)a->d.split < most)
        most = (uint64_t)a->d.split;
    if (a->d.slow > 0 && (uint64_t)(a->d.slow / TURNS_A_SECOND + 1) < most)
        most = (uint64_t)(a->d.slow / TURNS_A_SECOND + 1);
    return (size_t)most;
}

/* The next write: one long run, borrowed, or several short ones up to the end of an event, gathered. */
static struct slice next_bytes(struct answer *a)
{
    size_t most = next_most(a);
    struct slice bytes = script_next(&a->script, &a->cursor, most);

    if (bytes.len >= GATHER_MAX || bytes.len == most)
        return bytes;
    buf_clear(&a->gathered);
    buf_append_slice(&a->gathered, bytes);
    while (a->gathered.len < GATHER_MAX && a->gathered.len < most && !script_between_events(&a->script, &a->cursor)) {
        size_t room = most < GATHER_MAX ? most - a->gathered.len : GATHER_MAX - a->gathered.len;

        bytes = script_next(&a->script, &a->cursor, room);
        if (bytes.len == 0)
            break;
        buf_append_slice(&a->gathered, bytes);
    }
    return buf_slice(&a->gathered);
}

static void stop(struct answer *a)
{
    if (a->d.hang)
        return;
    front_abort(a->call);
    answer_destroy(a);
}

static void step(struct answer *a)
{
    struct slice bytes;

    if (a->sent == a->allowed && a->allowed < a->script.length) {
        stop(a);
        return;
    }
    bytes = next_bytes(a);
    a->sent += bytes.len;
    front_send(a->call, bytes, a->sent == a->script.length);
    if (a->sent == a->script.length)
        answer_destroy(a);
}

static void ready(void *ctx)
{
    struct answer *a = ctx;

    if (a->d.pause > 0 && script_between_events(&a->script, &a->cursor)) {
        buf_dispose(&a->gathered); /* thousands may wait here */
        buf_init(&a->gathered, GATHER_MAX);
        loop_timer_arm(a->loop, &a->timer, a->d.pause);
    } else if (a->d.slow > 0) {
        loop_timer_arm(a->loop, &a->timer, CLOCK_SECOND / TURNS_A_SECOND);
    } else {
        step(a);
    }
}

static void start(struct answer *a)
{
    struct front_header headers[HEADERS_MAX];
    char retry_after[24];
    size_t n = fill_headers(a, retry_after, headers);

    a->started = true;
    if (is_plain(a)) {
        reply_whole(a, headers, n);
        return;
    }
    front_start(a->call, a->head.status, headers, n, slice_from(a->head.type),
                a->head.streamed ? -1 : (int64_t)a->script.length);
    step(a);
}

static void fire(struct loop_timer *timer)
{
    struct answer *a = TG_CONTAINER(struct answer, timer, timer);

    if (a->started)
        step(a);
    else if (a->d.stop == STOP_HEADERS)
        stop(a);
    else
        start(a);
}

/* ---- before the first byte ---- */

static void compress_script(struct script *s)
{
    z_stream z = {.zalloc = Z_NULL};
    struct script packed;
    struct buf flat;
    size_t room;
    char *at;

    buf_init(&flat, FLAT_MAX);
    script_flatten(s, &flat);
    if (deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY, Z_DEFAULT_STRATEGY) != Z_OK)
        assert_failed(__FILE__, __LINE__, "zlib could not start");
    room = deflateBound(&z, flat.len);
    script_init(&packed);
    packed.text.max = room;
    at = buf_reserve(&packed.text, room);
    z.next_in = (Bytef *)flat.p;
    z.avail_in = (uInt)flat.len;
    z.next_out = (Bytef *)at;
    z.avail_out = (uInt)room;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        assert_failed(__FILE__, __LINE__, "zlib could not compress");
    buf_advance(&packed.text, z.total_out);
    (void)deflateEnd(&z);
    script_finish(&packed);
    buf_dispose(&flat);
    script_dispose(s);
    *s = packed;
}

static uint64_t allowed_bytes(const struct answer *a)
{
    uint64_t whole = a->script.length, allowed = whole;

    if (a->d.stop == STOP_PERCENT)
        allowed = whole / 100 * (uint64_t)a->d.stop_at + whole % 100 * (uint64_t)a->d.stop_at / 100;
    else if (a->d.stop == STOP_EVENTS)
        allowed = script_length_of(&a->script, a->d.stop_at);
    if (a->d.stop != STOP_NEVER && allowed == whole && whole > 0)
        allowed--; /* all but the end */
    return allowed;
}

void answer_send(struct front_call *call, const struct directives *d, int64_t latency, const struct answer_start *head,
                 struct script *script)
{
    struct answer *a = mem_zalloc(sizeof(*a));

    if (d->gzip && script->length > 0)
        compress_script(script);
    *a = (struct answer){.call = call, .loop = front_call_loop(call), .d = *d, .head = *head, .script = *script};
    script_init(script);
    buf_init(&a->gathered, GATHER_MAX);
    a->head.streamed |= d->chunked;
    a->allowed = allowed_bytes(a);
    loop_timer_init(&a->timer, fire);
    front_call_own(call, &(const struct front_owner){.ctx = a, .gone = gone, .ready = ready});
    if (latency + d->latency > 0 || d->stop == STOP_HEADERS)
        loop_timer_arm(a->loop, &a->timer, latency + d->latency);
    else
        start(a);
}
