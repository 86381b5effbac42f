/* intake.c - the bodies of HTTP/1 requests: the library never sees one.
 *
 * The library sees a head that tells of no body, and waits for the answer. Meanwhile the body is read here, piece by
 * piece, and handed on from where it was read: on clear text from the loop's scratch; inside TLS, where only the
 * library can read, from the socket's buffer, which is another one as long as the head lies in the first.
 *
 *                intake_receive                           last byte
 *    AHEAD (lies --------------> READING (on_clear, ----------------> WHOLE --> end()
 *    behind head) \               ^  on_cipher)   |
 *      |           \ expects      | 100 is out    | damaged, too large
 *      |            '-----> CONTINUING            v
 *      '-- answered -----------------------> FORSAKEN: a small rest is skipped, else the connection lingers
 *
 * Invariants
 *  (1) Bytes of a body are in one place at a time: `ahead`, then the socket. Nothing is read before `ahead` is empty.
 *  (2) While `intake.head` is set it is the library's buffer and sock->input is ours; they are exchanged again
 *      before the library next looks (intake_close at the latest).
 *  (3) The receiver is called in state COMING only; whoever answers ends that (intake_answered). After each of its
 *      callbacks the call may be over: then conn->call is not what it was.
 *  (4) `patience` runs from intake_receive until the body is whole or forsaken.
 * The loop's own thread. */
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "inside.h"

enum {
    HEAD_ROOM = 16 * 1024, /* a buffer larger than this is not kept for the head in it */
    SKIP_MAX = 64 * 1024   /* a rest of a body that is rather read over than paid for with the connection */
};

static void on_clear(h2o_socket_t *sock, const char *err);
static void on_cipher(h2o_socket_t *sock, const char *err);
static void on_continued(h2o_socket_t *sock, const char *err);

/* ---- where its bytes are ---- */

static void fresh_input(h2o_socket_t *sock)
{
    h2o_buffer_init(&sock->input, &h2o_socket_buffer_prototype);
}

static void free_buffer(h2o_buffer_t **buffer)
{
    if (*buffer != NULL)
        h2o_buffer_dispose(buffer);
    *buffer = NULL;
}

/* A head stays in memory until its answer has left. What it came in may be hundreds of times as large. */
static void move_head(struct front_conn *conn, size_t len)
{
    h2o_socket_t *sock = conn->sock;
    h2o_buffer_t *burst = sock->input;
    h2o_iovec_t room;

    fresh_input(sock);
    room = h2o_buffer_reserve(&sock->input, len);
    memcpy(room.base, burst->bytes, len);
    sock->input->size = len;
    conn->intake.burst = burst;
}

void intake_open(struct front_conn *conn, const struct head *head, int64_t max)
{
    h2o_buffer_t *input = conn->sock->input;
    struct intake *b = &conn->intake;
    bool has_body = head->chunked || head->body > 0;

    *b = (struct intake){.state = has_body ? INTAKE_COMING : INTAKE_WHOLE,
                         .expects = has_body && head->expects,
                         .length = head->chunked ? -1 : (int64_t)head->body,
                         .max = max,
                         .ahead = {input->bytes + head->len, input->size - head->len}};
    if (head->framing != 0)
        input->bytes[head->framing] = '-'; /* a field that nobody knows */
    if (b->ahead.len > 0 && input->capacity > HEAD_ROOM)
        move_head(conn, head->len);
    else
        input->size = head->len;
}

bool intake_at_hand(struct front_conn *conn, struct slice *out)
{
    struct intake *b = &conn->intake;

    if (b->length < 0 || (int64_t)b->ahead.len < b->length)
        return false;
    *out = (struct slice){b->ahead.p, (size_t)b->length};
    b->ahead = (struct slice){b->ahead.p + b->length, b->ahead.len - (size_t)b->length};
    b->got = b->length;
    b->state = INTAKE_WHOLE;
    return true;
}

/* ---- handing on ---- */

enum feeding { FED_ALL = 0, FED_TO_END, FED_DAMAGE };

/* The next run of the body from the front of <in>; empty when there is none. */
static enum feeding next_run(struct intake *b, struct slice *in, struct slice *run)
{
    *run = SLICE_NONE;
    if (b->length >= 0) {
        size_t left = (size_t)(b->length - b->got);

        *run = (struct slice){in->p, in->len < left ? in->len : left};
        *in = (struct slice){in->p + run->len, in->len - run->len};
        return left == 0 ? FED_TO_END : FED_ALL;
    }
    switch (chunks_next(&b->chunks, in, run)) {
    case CHUNK_END:
        return FED_TO_END;
    case CHUNK_BAD:
        return FED_DAMAGE;
    default:
        return FED_ALL;
    }
}

/* Hands on what <in> has of the body. On FED_DAMAGE <err> is filled. */
static enum feeding feed(struct intake *b, struct slice *in, struct err *err)
{
    struct slice run;
    enum feeding fed;

    while (b->state == INTAKE_COMING) {
        fed = next_run(b, in, &run);
        if (fed == FED_DAMAGE)
            (void)err_set(err, ERR_BAD_REQUEST, NULL, "The chunks of the request body could not be understood.");
        if (fed != FED_ALL || run.len == 0)
            return fed;
        b->got += (int64_t)run.len;
        if (b->got > b->max) {
            (void)err_set(err, ERR_TOO_LARGE, NULL, "The request body is larger than the maximum of %lld bytes.",
                          (long long)b->max);
            return FED_DAMAGE;
        }
        b->to.data(b->to.ctx, run);
    }
    return FED_ALL;
}

/* The head's buffer is the socket's again. */
static void restore(struct front_conn *conn)
{
    struct intake *b = &conn->intake;

    if (b->head == NULL)
        return;
    h2o_buffer_dispose(&conn->sock->input);
    conn->sock->input = b->head;
    b->head = NULL;
}

/* No more is read. */
static void stop(struct front_conn *conn, struct slice behind)
{
    loop_timer_disarm(conn->site->loop, &conn->patience);
    http1_hold(conn, behind);
    restore(conn);
    http1_rest(conn);
}

/* The body has ended, well or not. */
static void finish(struct front_conn *conn, enum feeding fed, const struct err *err)
{
    struct intake *b = &conn->intake;

    loop_timer_disarm(conn->site->loop, &conn->patience);
    b->state = fed == FED_TO_END ? INTAKE_WHOLE : INTAKE_FORSAKEN;
    call_body_is_whole(conn->call);
    b->to.end(b->to.ctx, fed == FED_TO_END ? NULL : err);
}

/* Works <in> off, as read from the socket or lying ahead. Whether the body is still coming; <conn> may be gone if not.
 */
static bool work_off(struct front_conn *conn, struct slice *in)
{
    struct intake *b = &conn->intake;
    const struct front_call *call = conn->call;
    bool coming, is_ahead = in == &b->ahead;
    enum feeding fed;
    struct err err;

    http1_enter(conn);
    fed = feed(b, in, &err);
    if (conn->call == call) {
        coming = fed == FED_ALL && b->state == INTAKE_COMING;
        if (is_ahead && in->len == 0)
            free_buffer(&b->burst);
        if (!is_ahead && !coming)
            stop(conn, b->state == INTAKE_FORSAKEN || fed == FED_DAMAGE ? SLICE_NONE : *in);
        if (b->state == INTAKE_COMING && !coming)
            finish(conn, fed, &err);
    }
    coming = conn->call == call && b->state == INTAKE_COMING;
    return http1_leave(conn) && coming;
}

/* ---- reading ---- */

/* Inside TLS the library reads all that the kernel has, and holds it twice: as it came, and decoded. */
static void read_on(struct front_conn *conn)
{
    h2o_socket_t *sock = conn->sock;
    struct intake *b = &conn->intake;

    if (sock->ssl == NULL) {
        h2o_socket_read_start(sock, on_clear);
        return;
    }
    TG_ASSERT(b->head == NULL);
    b->head = sock->input;
    fresh_input(sock);
    h2o_socket_dont_read(sock, 0);
    h2o_socket_read_start(sock, on_cipher);
}

bool intake_reads(const struct front_conn *conn)
{
    const h2o_socket_t *sock = conn->sock;

    return sock->_cb.read == on_clear || sock->_cb.read == on_cipher || sock->_cb.write == on_continued;
}

/* What came with the head goes first. */
static void take(struct front_conn *conn)
{
    if (work_off(conn, &conn->intake.ahead))
        read_on(conn);
}

static void on_clear(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;
    struct intake *b = &conn->intake;
    size_t max = SCRATCH;
    struct slice in;

    if (b->state != INTAKE_COMING) { /* answered meanwhile */
        h2o_socket_read_stop(sock);
        return;
    }
    if (b->length >= 0 && b->length - b->got < SCRATCH)
        max = (size_t)(b->length - b->got);
    if (err == NULL)
        err = http1_read(conn, max, &in);
    if (err != NULL)
        http1_end(conn, err);
    else if (in.len > 0)
        (void)work_off(conn, &in);
}

static void on_cipher(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;
    struct slice in = {sock->input->bytes, sock->input->size};

    if (conn->intake.state != INTAKE_COMING) {
        h2o_socket_read_stop(sock);
        return;
    }
    if (err != NULL)
        http1_end(conn, err);
    else if (in.len > 0 && work_off(conn, &in))
        h2o_buffer_consume(&sock->input, sock->input->size);
}

/* ---- asked for ---- */

static void on_continued(h2o_socket_t *sock, const char *err)
{
    struct front_conn *conn = sock->on_close.data;

    conn->intake.continuing = false;
    if (err != NULL)
        http1_end(conn, err);
    else
        read_on(conn);
}

bool intake_waits(const struct front_conn *conn)
{
    const struct intake *b = &conn->intake;

    return b->expects && !b->asked && b->ahead.len == 0;
}

static int64_t time_left(const struct front_conn *conn)
{
    const struct intake *b = &conn->intake;
    int64_t allowed = conn->site->place->listener.request_timeout + b->got / FRONT_BODY_RATE * CLOCK_SECOND;

    return b->since + allowed - loop_now(conn->site->loop);
}

bool intake_has_time(struct front_conn *conn)
{
    int64_t left;

    if (conn->call == NULL || conn->intake.state != INTAKE_COMING)
        return false;
    left = time_left(conn);
    if (left > 0)
        loop_timer_arm(conn->site->loop, &conn->patience, left);
    return left > 0;
}

void intake_receive(struct front_conn *conn, const struct front_receiver *receiver)
{
    static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    h2o_iovec_t bytes = {go_on, sizeof(go_on) - 1};
    struct intake *b = &conn->intake;
    bool waits = intake_waits(conn);

    TG_ASSERT(!b->asked);
    b->asked = true;
    b->to = *receiver;
    if (b->state == INTAKE_WHOLE) {
        b->to.end(b->to.ctx, NULL);
        return;
    }
    if (b->length < 0 || (int64_t)b->ahead.len < b->length) {
        b->since = loop_now(conn->site->loop);
        loop_timer_arm(conn->site->loop, &conn->patience, conn->site->place->listener.request_timeout);
    }
    if (waits) {
        b->continuing = true;
        h2o_socket_write(conn->sock, &bytes, 1, on_continued);
        return;
    }
    take(conn);
}

/* ---- answered ---- */

/* Of a body whose length was told: what lies ahead is let go. Returns how much is still to come. */
static size_t let_go(struct intake *b)
{
    size_t left = (size_t)(b->length - b->got);
    size_t n = b->ahead.len < left ? b->ahead.len : left;

    b->ahead = (struct slice){b->ahead.p + n, b->ahead.len - n};
    return left - n;
}

bool intake_answered(struct front_conn *conn, bool closes)
{
    struct intake *b = &conn->intake;
    bool waits = intake_waits(conn);
    size_t left = SIZE_MAX;

    TG_ASSERT(!b->continuing);
    loop_timer_disarm(conn->site->loop, &conn->patience);
    if (b->state == INTAKE_WHOLE)
        return true;
    if (b->state == INTAKE_COMING && b->length >= 0)
        left = let_go(b);
    b->state = left == 0 ? INTAKE_WHOLE : INTAKE_FORSAKEN;
    if (left == 0)
        return true;
    h2o_socket_dont_read(conn->sock, 1);
    if (!closes && !waits && left <= SKIP_MAX)
        conn->skip = left;
    else
        conn->lingers = true;
    return !conn->lingers;
}

void intake_close(struct front_conn *conn)
{
    struct intake *b = &conn->intake;

    loop_timer_disarm(conn->site->loop, &conn->patience);
    if (!conn->lingers)
        http1_hold(conn, b->ahead);
    b->ahead = SLICE_NONE;
    free_buffer(&b->burst);
    restore(conn);
    b->state = INTAKE_WHOLE;
}
