/* reply.c - the JSON of an answer. The members and their order are OpenAI's. */
#include "reply.h"

#include "daemon/base/clock.h"

enum { CUT_BYTES = 3 }; /* the last brace and the line ends around it */

static void append_url(struct front_call *call, const struct picture *p, struct buf *out)
{
    struct slice authority = front_call_authority(call), scheme = front_call_scheme(call);

    buf_printf(out, "\"url\": \"%.*s://%.*s/sandbox/images/%dx%d-%016llx-%lld.%s\"", (int)scheme.len, scheme.p,
               (int)authority.len, authority.p, p->w, p->h, (unsigned long long)p->seed, (long long)p->bytes,
               picture_format_name(p->format));
}

static void append_data(struct front_call *call, const struct order *o, struct script *script)
{
    struct buf *out = &script->text;

    buf_append_str(out, "  \"data\": [");
    for (int i = 0; i < o->images; i++) {
        struct picture p = order_picture(o, i);

        buf_append_str(out, i == 0 ? "\n    {" : ",\n    {");
        if (o->request.spec.card->family == MODEL_DALLE3) {
            buf_append_str(out, "\"revised_prompt\": ");
            buf_append_json_string(out, o->prompt);
            buf_append_str(out, ", ");
        }
        if (o->b64) {
            buf_append_str(out, "\"b64_json\": \"");
            script_picture(script, &p);
            buf_append_char(out, '"');
        } else {
            append_url(call, &p, out);
        }
        buf_append_char(out, '}');
    }
    buf_append_str(out, "\n  ]");
}

/* ---- usage ---- */

static void append_figure(const struct order *o, int64_t figure, struct buf *out)
{
    switch (o->d.lie) {
    case LIE_NEGATIVE:
        buf_printf(out, "-%lld", (long long)figure + 1);
        break;
    case LIE_FRACTIONAL:
        buf_printf(out, "%lld.5", (long long)figure);
        break;
    case LIE_HUGE:
        buf_append_str(out, "99999999999999999999");
        break;
    default:
        buf_printf(out, "%lld", (long long)figure);
        break;
    }
}

void reply_append_usage(const struct order *o, int k, int n, struct buf *out)
{
    int64_t u[3];
    int64_t total;

    for (int i = 0; i < 3; i++) {
        int64_t rest = o->usage[i] % n;

        u[i] = o->d.lie == LIE_ZERO ? 0 : o->usage[i] / n + (k < rest);
    }
    total = u[0] + u[1] + u[2] + (o->d.lie == LIE_INCONSISTENT);
    buf_printf(out,
               "{\"input_tokens\": %lld, \"input_tokens_details\": {\"image_tokens\": %lld, \"text_tokens\": %lld}",
               (long long)(u[0] + u[1]), (long long)u[1], (long long)u[0]);
    buf_append_str(out, ", \"output_tokens\": ");
    append_figure(o, u[2], out);
    buf_append_str(out, ", \"output_tokens_details\": {\"image_tokens\": ");
    append_figure(o, u[2], out);
    buf_printf(out, ", \"text_tokens\": 0}, \"total_tokens\": %lld}", (long long)total);
}

/* ---- the whole ---- */

static void append_reply(struct front_call *call, const struct order *o, struct script *script)
{
    struct buf *out = &script->text;

    buf_printf(out, "{\n  \"created\": %lld,\n", (long long)(clock_wall() / CLOCK_SECOND));
    if (order_is_gpt(o))
        buf_printf(out, "  \"background\": \"%s\",\n", o->background);
    append_data(call, o, script);
    if (order_is_gpt(o)) {
        buf_printf(out, ",\n  \"output_format\": \"%s\",\n  \"quality\": \"%s\",\n  \"size\": \"%s\"",
                   picture_format_name(o->format), o->quality, o->size);
        if (o->d.usage_on != USAGE_NONE) {
            buf_append_str(out, ",\n  \"usage\": ");
            reply_append_usage(o, 0, 1, out);
        }
    }
    buf_append_str(out, "\n}\n");
}

void reply_json(struct front_call *call, const struct order *o, struct script *script)
{
    struct refusal refusal;

    if (o->d.form == FORM_HTML) {
        buf_append_str(&script->text, "<!DOCTYPE html>\n<html><body><h1>This is a page.</h1></body></html>\n");
    } else if (o->d.form == FORM_ERROR) {
        refusal_of_status(500, &refusal);
        refusal_append(&script->text, &refusal);
    } else {
        append_reply(call, o, script);
        if (o->d.form == FORM_CUT)
            script->text.len -= CUT_BYTES;
    }
    script_finish(script);
}
