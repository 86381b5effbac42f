/* generations.c - reads a request as the gateway reads it, refuses what OpenAI would refuse, makes the pictures.
 *
 * The reply's members and their order are OpenAI's. One loop; a request is worked off where it arrives, only its answer
 * waits (answer.h). */
#include "generations.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "answer.h"
#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/table.h"
#include "daemon/images/request.h"
#include "picture.h"
#include "served.h"

enum {
    REPLY_MAX = 1024 * 1024 * 1024, /* ten pictures of DIRECTIVE_BYTES_MAX in base64 */
    BYTES_PER_TOKEN = 4,
    FULL_COMPRESSION = 100
};

/* One request, read. */
struct order {
    struct image_request request;
    struct directives d;
    struct slice prompt;
    struct json_object *tree;
    enum picture_format format;
    bool b64;
    int images;
    struct picture picture; /* the first; each further one has the next seed */
    char size[LIMIT_SIZE];  /* effective */
    char quality[LIMIT_QUALITY];
};

static bool is_gpt(const struct order *o)
{
    return o->request.spec.card->per_token;
}

static enum err_code refuse_unknown(const char *name, struct err *err)
{
    return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
}

/* What only the upstream judges. */
static enum err_code check_fields(const struct order *o, struct err *err)
{
    const struct image_spec *spec = &o->request.spec;
    struct slice text;
    bool known = spec->quality[0] == '\0' || strcmp(spec->quality, "auto") == 0;
    enum err_code code;
    bool present;

    for (int i = 0; i < spec->card->n_qualities; i++)
        known |= strcmp(spec->quality, spec->card->qualities[i]) == 0;
    if (!known)
        return err_set(err, ERR_INVALID_VALUE, "quality", "Invalid value: '%s'.", spec->quality);
    if (o->request.stream)
        return refuse_unknown("stream", err);
    code = json_get_slice(o->tree, "response_format", false, &text, &present, err);
    if (code != ERR_OK || !present)
        return code;
    if (is_gpt(o))
        return refuse_unknown("response_format", err);
    if (!slice_eq_str(text, "url") && !slice_eq_str(text, "b64_json"))
        return err_set(err, ERR_INVALID_VALUE, "response_format",
                       "Invalid value: '%.*s'. Supported values are: 'b64_json' and 'url'.", (int)text.len, text.p);
    return ERR_OK;
}

static enum err_code read_format(struct order *o, struct err *err)
{
    struct slice text;
    bool present;
    enum err_code code = json_get_slice(o->tree, "output_format", false, &text, &present, err);

    o->format = PICTURE_PNG;
    if (code != ERR_OK || !present)
        return code;
    if (!is_gpt(o))
        return refuse_unknown("output_format", err);
    if (!picture_format_parse(text, &o->format))
        return err_set(err, ERR_INVALID_VALUE, "output_format",
                       "Invalid value: '%.*s'. Supported values are: 'png', 'jpeg', and 'webp'.", (int)text.len,
                       text.p);
    return ERR_OK;
}

/* "auto" and absent become what this sandbox picks: the square and the middle quality. */
static void settle(struct order *o)
{
    const struct image_spec *spec = &o->request.spec;
    const struct model_card *card = spec->card;
    struct slice size = slice_from(spec->size), quality = slice_from(spec->quality), text;
    bool chosen = size.len > 0 && !slice_eq_str(size, "auto");

    (void)slice_copy(chosen ? size : SLICE("1024x1024"), o->size, sizeof(o->size));
    chosen = quality.len > 0 && !slice_eq_str(quality, "auto");
    (void)slice_copy(chosen      ? quality
                     : is_gpt(o) ? SLICE("medium")
                                 : slice_from(card->default_quality),
                     o->quality, sizeof(o->quality));
    (void)model_parse_size(slice_from(o->size), &o->picture.w, &o->picture.h);
    o->picture.format = o->format;
    o->picture.seed = table_hash_bytes(o->prompt.p, o->prompt.len);
    o->b64 = is_gpt(o) || (json_get_slice(o->tree, "response_format", false, &text, NULL, NULL) == ERR_OK &&
                           slice_eq_str(text, "b64_json"));
    o->images = o->d.images >= 0 && o->d.images < spec->n ? o->d.images : spec->n;
}

static enum err_code read_order(struct front_call *call, struct order *o, struct err *err)
{
    struct slice type = SLICE_NONE;
    enum err_code code;

    (void)front_call_header(call, "content-type", &type, NULL);
    code = image_request_check_type(type, err);
    if (code == ERR_OK)
        code = image_request_read(front_call_body(call), &o->request, err);
    if (code == ERR_OK && o->request.spec.card == NULL)
        code = err_set(err, ERR_MODEL_NOT_FOUND, "model",
                       "The model `%s` does not exist or you do not have access to it.", o->request.spec.model);
    if (code == ERR_OK)
        code = json_read(front_call_body(call), &o->tree, err);
    if (code == ERR_OK)
        code = json_get_slice(o->tree, "prompt", true, &o->prompt, NULL, err);
    if (code == ERR_OK)
        code = check_fields(o, err);
    if (code == ERR_OK)
        code = read_format(o, err);
    if (code == ERR_OK) {
        directives_read(o->prompt, &o->d);
        settle(o);
    }
    return code;
}

static void append_base64(struct buf *out, const struct buf *file)
{
    char *at = buf_reserve(out, (file->len + 2) / 3 * 4 + 1);

    TG_ASSERT(at != NULL);
    buf_advance(out, (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)file->p, (int)file->len));
}

static void append_picture(struct front_call *call, const struct order *o, const struct picture *p, struct buf *out)
{
    struct slice authority = front_call_authority(call), scheme = front_call_scheme(call);
    struct buf file;

    if (!o->b64) {
        buf_printf(out, "\"url\": \"%.*s://%.*s/sandbox/images/%dx%d-%016llx-%lld.%s\"", (int)scheme.len, scheme.p,
                   (int)authority.len, authority.p, p->w, p->h, (unsigned long long)p->seed, (long long)o->d.bytes,
                   picture_format_name(p->format));
        return;
    }
    buf_init(&file, DIRECTIVE_BYTES_MAX * 2);
    picture_write(p, o->d.bytes, &file);
    buf_append_str(out, "\"b64_json\": \"");
    append_base64(out, &file);
    buf_append_char(out, '"');
    buf_dispose(&file);
}

static void append_data(struct front_call *call, const struct order *o, struct buf *out)
{
    struct picture p = o->picture;

    buf_append_str(out, "  \"data\": [");
    for (int i = 0; i < o->images; i++, p.seed++) {
        buf_append_str(out, i == 0 ? "\n    {" : ",\n    {");
        if (o->request.spec.card->family == MODEL_DALLE3) {
            buf_append_str(out, "\"revised_prompt\": ");
            buf_append_json_string(out, o->prompt);
            buf_append_str(out, ", ");
        }
        append_picture(call, o, &p, out);
        buf_append_char(out, '}');
    }
    buf_append_str(out, "\n  ]");
}

static void append_usage(const struct order *o, struct buf *out)
{
    const struct image_spec *spec = &o->request.spec;
    int64_t text = (int64_t)((o->prompt.len + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN) + spec->card->text_overhead;
    int64_t figures[3] = {text * spec->n, 0,
                          model_output_tokens(spec->card, slice_from(o->size), slice_from(o->quality), o->images)};
    const int64_t *u = o->d.usage_given ? o->d.usage : figures;

    if (o->d.usage_none)
        return;
    buf_printf(out,
               ",\n  \"usage\": {\"input_tokens\": %lld, \"input_tokens_details\": {\"image_tokens\": %lld, "
               "\"text_tokens\": %lld}, \"output_tokens\": %lld, \"output_tokens_details\": {\"image_tokens\": %lld, "
               "\"text_tokens\": 0}, \"total_tokens\": %lld}",
               (long long)(u[0] + u[1]), (long long)u[1], (long long)u[0], (long long)u[2], (long long)u[2],
               (long long)(u[0] + u[1] + u[2]));
}

static void append_reply(struct front_call *call, const struct order *o, struct buf *out)
{
    buf_printf(out, "{\n  \"created\": %lld,\n", (long long)(clock_wall() / CLOCK_SECOND));
    if (is_gpt(o))
        buf_append_str(out, "  \"background\": \"opaque\",\n");
    append_data(call, o, out);
    if (is_gpt(o)) {
        buf_printf(out, ",\n  \"output_format\": \"%s\",\n  \"quality\": \"%s\",\n  \"size\": \"%s\"",
                   picture_format_name(o->format), o->quality, o->size);
        append_usage(o, out);
    }
    buf_append_str(out, "\n}\n");
    TG_ASSERT(!out->full);
}

static void append_error(struct buf *out, const char *message, const char *type, const char *code, const char *extra)
{
    buf_printf(out,
               "{\n  \"error\": {\n    \"message\": \"%s\",\n    \"type\": \"%s\",\n    \"param\": null,\n"
               "    \"code\": %s%s\n  }\n}\n",
               message, type, code, extra);
}

static void append_moderation(const struct order *o, struct buf *out)
{
    if (is_gpt(o))
        append_error(out,
                     "Your request was rejected by the safety system. If you believe this is an error, contact us at "
                     "help.openai.com and include the request ID. safety_violations=[sexual].",
                     "image_generation_user_error", "\"moderation_blocked\"",
                     ",\n    \"moderation_details\": {\"moderation_stage\": \"output\", \"categories\": [\"sexual\"]}");
    else
        append_error(out,
                     "Your request was rejected as a result of our safety system. Your prompt may contain text that is "
                     "not allowed by our safety system.",
                     "invalid_request_error", "\"content_policy_violation\"", "");
}

static void append_status(int status, struct buf *out)
{
    if (status == 429)
        append_error(out, "Rate limit reached for images per minute: Limit 5, Used 5, Requested 1.", "requests",
                     "\"rate_limit_exceeded\"", "");
    else if (status == 401)
        append_error(out, "Incorrect API key provided.", "invalid_request_error", "\"invalid_api_key\"", "");
    else if (status >= 500)
        append_error(out, "The server had an error while processing your request. Sorry about that!", "server_error",
                     "null", "");
    else
        append_error(out, "The request was refused, as it asked for.", "invalid_request_error", "null", "");
}

static void answer_order(const struct sandbox *sandbox, struct front_call *call, const struct order *o,
                         struct slice bearer)
{
    struct buf body;
    int status = 200;

    buf_init(&body, REPLY_MAX);
    if (o->d.status != 0) {
        status = o->d.status;
        append_status(status, &body);
    } else if (o->d.moderation) {
        status = 400;
        append_moderation(o, &body);
    } else if (!o->d.hang && o->d.die != DIRECTIVE_DIE_HEADERS) {
        append_reply(call, o, &body);
        served_add(bearer, o->images);
    }
    answer_send(call, &o->d, sandbox->latency, status, &body);
}

void generations_handle(void *ctx, struct front_call *call)
{
    struct order o = {.tree = NULL};
    struct slice bearer = SLICE_NONE, scheme;
    struct err err;

    if (!front_call_header(call, "authorization", &bearer, NULL) || !slice_cut(bearer, ' ', &scheme, &bearer) ||
        bearer.len == 0) {
        (void)err_set(
            &err, ERR_NO_KEY, NULL,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).");
        front_reply_err(call, &err, NULL, 0);
    } else if (read_order(call, &o, &err) != ERR_OK) {
        front_reply_err(call, &err, NULL, 0);
    } else {
        answer_order(ctx, call, &o, bearer);
    }
    json_object_put(o.tree);
}

/* "1024x1024-0123456789abcdef-0.png" */
static bool parse_name(struct slice name, struct picture *p, int64_t *bytes)
{
    struct slice size, seed, rest, length, format;
    unsigned long long n;
    char hex[17];
    int end = 0;

    if (!slice_cut(name, '-', &size, &rest) || !slice_cut(rest, '-', &seed, &rest) ||
        !slice_cut(rest, '.', &length, &format) || !model_parse_size(size, &p->w, &p->h) || p->w > MODEL_EDGE_MAX ||
        p->h > MODEL_EDGE_MAX || !slice_copy(seed, hex, sizeof(hex)) || seed.len != 16 || !slice_to_u64(length, &n) ||
        n > (unsigned long long)DIRECTIVE_BYTES_MAX || !picture_format_parse(format, &p->format))
        return false;
    *bytes = (int64_t)n;
    return sscanf(hex, "%16llx%n", &n, &end) == 1 && end == 16 && (p->seed = n, true);
}

void generations_picture(void *sandbox, struct front_call *call)
{
    struct picture p;
    struct buf file;
    struct err err;
    int64_t bytes;
    char type[32];

    (void)sandbox;
    if (!parse_name(front_call_param(call), &p, &bytes)) {
        (void)err_set(&err, ERR_NOT_FOUND, NULL, "There is no such picture.");
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    buf_init(&file, DIRECTIVE_BYTES_MAX * 2);
    picture_write(&p, bytes, &file);
    (void)snprintf(type, sizeof(type), "image/%s", picture_format_name(p.format));
    front_reply(call, 200, NULL, 0, slice_from(type), buf_slice(&file));
    buf_dispose(&file);
}
