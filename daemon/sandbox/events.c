/* events.c - the events of a stream: for each image its partial images, then the whole one, which tells the usage.
 *
 *   event: image_generation.partial_image           event: image_generation.completed
 *   data: {"type":"...","b64_json":"...",...}       data: {"type":"...","b64_json":"...",...,"usage":{...}}
 *
 * The members and their order are OpenAI's; the manner of writing is the directives' (EVENTS_*). */
#include "daemon/base/clock.h"
#include "reply.h"

struct stage {
    const struct order *o;
    struct script *script;
    struct buf *out;      /* the script's text */
    const char *line_end; /* what ends a line */
    const char *kind;     /* "image_generation" */
};

static bool wants(const struct stage *s, enum directive_events manner)
{
    return (s->o->d.events & manner) != 0;
}

static void line_end(struct stage *s)
{
    buf_append_str(s->out, s->line_end);
}

static void event_begin(struct stage *s, const char *kind, const char *name)
{
    if (wants(s, EVENTS_COMMENTS)) {
        buf_append_str(s->out, ": keep-alive");
        line_end(s);
        line_end(s);
    }
    if (!wants(s, EVENTS_UNTYPED)) {
        buf_printf(s->out, "event: %s%s", kind, name);
        line_end(s);
    }
    buf_append_str(s->out, "data: ");
}

static void event_end(struct stage *s)
{
    line_end(s);
    line_end(s);
    script_event_end(s->script);
}

/* Up to the members that partial and whole images do not share. */
static void picture_begin(struct stage *s, const char *name, const struct picture *p)
{
    const struct order *o = s->o;

    event_begin(s, s->kind, name);
    buf_printf(s->out, "{\"type\":\"%s%s\",", s->kind, name);
    if (wants(s, EVENTS_LINES)) {
        line_end(s);
        buf_append_str(s->out, "data: ");
    }
    buf_append_str(s->out, "\"b64_json\":\"");
    script_picture(s->script, p);
    buf_append_char(s->out, '"');
    if (!wants(s, EVENTS_MINIMAL))
        buf_printf(s->out,
                   ",\"created_at\":%lld,\"size\":\"%s\",\"quality\":\"%s\",\"background\":\"%s\","
                   "\"output_format\":\"%s\"",
                   (long long)(clock_wall() / CLOCK_SECOND), o->size, o->quality, o->background,
                   picture_format_name(o->format));
}

static void append_partial(struct stage *s, int i, int k)
{
    struct picture p = order_partial(s->o, i, k);

    picture_begin(s, ".partial_image", &p);
    buf_printf(s->out, ",\"partial_image_index\":%d}", k);
    event_end(s);
}

static void append_completed(struct stage *s, int i)
{
    const struct order *o = s->o;
    struct picture p = order_picture(o, i);
    bool last = i == o->images - 1;

    picture_begin(s, ".completed", &p);
    if (order_is_gpt(o) && o->d.usage_on != USAGE_NONE && (o->d.usage_on != USAGE_LAST || last)) {
        buf_append_str(s->out, ",\"usage\":");
        if (o->d.usage_on == USAGE_EACH)
            reply_append_usage(o, i, o->images, s->out);
        else
            reply_append_usage(o, 0, 1, s->out);
    }
    buf_append_char(s->out, '}');
    event_end(s);
}

static void append_error(struct stage *s)
{
    struct refusal refusal;

    refusal_of_status(500, &refusal);
    event_begin(s, "error", "");
    refusal_append_event(s->out, &refusal);
    event_end(s);
}

static void append_unknown(struct stage *s)
{
    event_begin(s, s->kind, ".queued");
    buf_printf(s->out, "{\"type\":\"%s.queued\",\"place\":1}", s->kind);
    event_end(s);
}

static void append_done(struct stage *s)
{
    buf_append_str(s->out, "data: [DONE]");
    event_end(s);
}

/* Takes the last event's empty line away again. */
static void leave_open(struct stage *s)
{
    size_t extra = strlen(s->line_end);

    if (s->script->n == 0)
        return;
    s->script->runs[s->script->n - 1].text -= extra;
    s->script->length -= extra;
    s->script->closed -= extra;
    s->out->len -= extra;
}

int reply_events(const struct order *o, struct script *script)
{
    struct stage s = {.o = o, .script = script, .out = &script->text};
    bool fails = wants(&s, EVENTS_ERROR);
    int whole = fails && o->images > 0 ? o->images - 1 : o->images;

    s.line_end = wants(&s, EVENTS_CRLF) ? "\r\n" : wants(&s, EVENTS_CR) ? "\r" : "\n";
    s.kind = o->request.spec.operation == OPERATION_GENERATIONS ? "image_generation" : "image_edit";
    if (wants(&s, EVENTS_UNKNOWN))
        append_unknown(&s);
    for (int i = 0; i < o->images; i++) {
        for (int k = 0; k < o->partials; k++)
            append_partial(&s, i, k);
        if (i < whole)
            append_completed(&s, i);
    }
    if (fails)
        append_error(&s);
    if (wants(&s, EVENTS_DONE))
        append_done(&s);
    if (wants(&s, EVENTS_OPEN))
        leave_open(&s);
    return whole;
}
