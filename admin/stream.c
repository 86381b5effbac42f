/* stream.c - a long answer between its source and the client.
 *
 *   IDLE --push--> [out -> flying] --front_send--> SENDING --ready--> IDLE
 *
 * Invariants
 *  (1) `flying` is the library's exactly while `sending`; `out` is the source's.
 *  (2) While `sending` the source is asked for more until a piece is full, and not beyond.
 *  (3) The source is never asked while the store has a question of it (call->asked).
 *  (4) After `ended` the source is not asked; what is left in `out` is the last that leaves.
 * The call's loop. */
#include "stream.h"

#include <stdlib.h>

struct stream {
    enum stream_format format;
    char filename[STREAM_NAME];
    void (*more)(struct admin_call *call);
    struct buf out, flying;
    bool started; /* the head is gone */
    bool sending;
    bool ended;
};

static const struct {
    const char *name;  /* of `format` */
    const char *media; /* in Accept */
    const char *type;  /* Content-Type */
    const char *ending;
} formats[STREAM_FORMATS] = {
    [STREAM_JSON] = {"json", "application/json", "application/json", NULL},
    [STREAM_CSV] = {"csv", "text/csv", "text/csv; charset=utf-8; header=present", "csv"},
    [STREAM_NDJSON] = {"ndjson", "application/x-ndjson", "application/x-ndjson", "ndjson"},
    [STREAM_HTML] = {"html", "text/html", "text/html; charset=utf-8", NULL},
};

/* ---- which format ---- */

enum { QUALITY_WHOLE = 1000, QUALITY_DIGITS = 3 };

/* "0.8" in thousandths; what is none counts as 1. */
static int read_quality(struct slice text)
{
    int value = 0;

    if (text.len == 0 || text.p[0] == '1' || text.p[0] != '0')
        return QUALITY_WHOLE;
    for (size_t i = 2; i < 2 + QUALITY_DIGITS; i++)
        value = value * 10 + (i < text.len && text.p[i] >= '0' && text.p[i] <= '9' ? text.p[i] - '0' : 0);
    return value;
}

/* One media range: its type without parameters, and its q. */
static int read_range(struct slice range, struct slice *type)
{
    struct slice rest, one;
    int quality = QUALITY_WHOLE;
    bool more = slice_cut(range, ';', type, &rest);

    *type = slice_trim(*type);
    while (more) {
        more = slice_cut(rest, ';', &one, &rest);
        one = slice_trim(one);
        if (one.len > 2 && (one.p[0] == 'q' || one.p[0] == 'Q') && one.p[1] == '=')
            quality = read_quality((struct slice){one.p + 2, one.len - 2});
    }
    return quality;
}

static bool range_allows(struct slice type, enum stream_format format)
{
    struct slice media = slice_from(formats[format].media);

    if (slice_eq_str(type, "*/*"))
        return format == STREAM_JSON;
    return slice_eq_nocase(type, media) ||
           (format == STREAM_NDJSON && slice_eq_nocase(type, SLICE("application/jsonl")));
}

/* The first of those that are liked best. */
static enum stream_format read_accept(struct slice accept, unsigned allowed)
{
    enum stream_format best = STREAM_JSON;
    int best_quality = 0;
    struct slice one, type;
    bool more = true;

    while (more) {
        int quality;

        more = slice_cut(accept, ',', &one, &accept);
        quality = read_range(one, &type);
        for (int f = 0; f < STREAM_FORMATS; f++) {
            if ((allowed & 1u << f) != 0 && quality > best_quality && range_allows(type, (enum stream_format)f)) {
                best_quality = quality;
                best = (enum stream_format)f;
            }
        }
    }
    return best;
}

enum err_code stream_choose(const struct admin_call *call, const char *text, unsigned allowed, enum stream_format *out,
                            struct err *err)
{
    struct slice accept;

    *out = STREAM_JSON;
    if (text[0] == '\0') {
        if (front_call_header(call->front, "accept", &accept, NULL))
            *out = read_accept(accept, allowed);
        return ERR_OK;
    }
    for (int f = 0; f < STREAM_FORMATS; f++) {
        if ((allowed & 1u << f) != 0 && strcmp(text, formats[f].name) == 0) {
            *out = (enum stream_format)f;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_INVALID_VALUE, "format",
                   "Invalid value: '%.40s'. Supported values are: 'json'%s%s%s, as far as this route has them.", text,
                   (allowed & 1u << STREAM_CSV) != 0 ? ", 'csv'" : "",
                   (allowed & 1u << STREAM_NDJSON) != 0 ? ", 'ndjson'" : "",
                   (allowed & 1u << STREAM_HTML) != 0 ? ", 'html'" : "");
}

/* ---- heads ---- */

enum { HEADERS = 3 };

/* <disposition>: memory for the one header that is made here. */
static size_t make_head(const struct stream *s, char disposition[STREAM_NAME + 48], struct front_header h[HEADERS])
{
    size_t n = 0;

    h[n++] = (struct front_header){"vary", SLICE("accept")};
    if (formats[s->format].ending != NULL) {
        (void)snprintf(disposition, STREAM_NAME + 48, "attachment; filename=\"%s.%s\"", s->filename,
                       formats[s->format].ending);
        h[n++] = (struct front_header){"content-disposition", slice_from(disposition)};
    }
    if (s->format == STREAM_HTML) /* it has styles of its own and nothing else */
        h[n++] = (struct front_header){"content-security-policy",
                                       SLICE("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")};
    return n;
}

static void reply_whole(struct admin_call *call, const struct stream *s)
{
    char disposition[STREAM_NAME + 48];
    struct front_header headers[HEADERS];
    size_t n = make_head(s, disposition, headers);

    front_reply(call->front, 200, headers, n, slice_from(formats[s->format].type), buf_slice(&s->out));
}

static void start(struct admin_call *call, struct stream *s)
{
    char disposition[STREAM_NAME + 48];
    struct front_header headers[HEADERS];
    size_t n = make_head(s, disposition, headers);

    s->started = true;
    front_start(call->front, 200, headers, n, slice_from(formats[s->format].type), -1);
}

/* ---- pieces ---- */

/* Whether a comma is due is read from the last byte of what was written (render.h): of JSON it stays for the next
 * piece. */
static size_t kept_back(const struct stream *s)
{
    return s->format == STREAM_JSON ? 1 : 0;
}

static void launch(struct admin_call *call, struct stream *s)
{
    struct buf empty = s->flying;

    if (!s->started)
        start(call, s);
    s->flying = s->out;
    s->out = empty;
    buf_clear(&s->out);
    if (kept_back(s) > 0) {
        s->flying.len--;
        buf_append_char(&s->out, s->flying.p[s->flying.len]);
    }
    s->sending = true;
    front_send(call->front, buf_slice(&s->flying), false);
}

static void finish(struct admin_call *call, struct stream *s)
{
    if (s->started)
        front_send(call->front, buf_slice(&s->out), true);
    else
        reply_whole(call, s);
    admin_call_destroy(call);
}

/* What can be done now. The call may be dead on return. */
static void go_on(struct admin_call *call)
{
    const struct err overrun = {.code = ERR_INTERNAL, .message = "The answer is too large."};
    struct stream *s = call->stream;

    if (s->out.full) {
        admin_fail(call, &overrun);
        return;
    }
    if (s->ended) {
        if (!s->sending)
            finish(call, s);
        return;
    }
    if (!s->sending && s->out.len > kept_back(s))
        launch(call, s);
    if (!call->asked && !stream_full(call))
        s->more(call);
}

static struct stream *create(enum stream_format format, const char *filename)
{
    struct stream *s = mem_zalloc(sizeof(*s));

    s->format = format;
    buf_init(&s->out, STREAM_LONGEST);
    buf_init(&s->flying, STREAM_LONGEST);
    if (!slice_copy(slice_from(filename), s->filename, sizeof(s->filename)))
        (void)slice_copy(SLICE("export"), s->filename, sizeof(s->filename));
    return s;
}

void stream_open(struct admin_call *call, enum stream_format format, const char *filename,
                 void (*more)(struct admin_call *call))
{
    TG_ASSERT(call->stream == NULL);
    call->stream = create(format, filename);
    call->stream->more = more;
    more(call);
}

struct buf *stream_out(struct admin_call *call)
{
    return &call->stream->out;
}

bool stream_full(const struct admin_call *call)
{
    return call->stream->out.len >= STREAM_PIECE;
}

void stream_push(struct admin_call *call)
{
    go_on(call);
}

void stream_end(struct admin_call *call)
{
    TG_ASSERT(!call->asked);
    call->stream->ended = true;
    go_on(call);
}

void stream_reply(struct admin_call *call, enum stream_format format, const char *filename, const struct buf *out)
{
    const struct err overrun = {.code = ERR_INTERNAL, .message = "The answer is too large."};
    struct stream *s;

    TG_ASSERT(call->stream == NULL && !call->asked);
    if (out->full) {
        admin_fail(call, &overrun);
        return;
    }
    s = create(format, filename);
    s->out = *out;
    reply_whole(call, s);
    s->out.p = NULL; /* the caller's */
    stream_destroy(s);
    admin_call_destroy(call);
}

void stream_ready(struct admin_call *call)
{
    struct stream *s = call->stream;

    if (s == NULL || !s->sending)
        return;
    s->sending = false;
    go_on(call);
}

bool stream_break(struct admin_call *call)
{
    struct stream *s = call->stream;

    if (s == NULL || !s->started)
        return false;
    if (s->sending) {
        front_call_keep(call->front, s->flying.p);
        s->flying.p = NULL;
    }
    front_abort(call->front);
    return true;
}

void stream_destroy(struct stream *s)
{
    if (s == NULL)
        return;
    buf_dispose(&s->out);
    buf_dispose(&s->flying);
    free(s);
}
