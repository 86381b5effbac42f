/* order.c - what a call asks for, made effective. Pure. */
#include "order.h"

#include "daemon/base/table.h"
#include "gallery.h"

enum {
    BYTES_PER_TOKEN = 4,
    UNSEEN_EDGE = 1024 /* of an input image that is only named: a URL, a file's id */
};

bool order_is_gpt(const struct order *o)
{
    return o->request.spec.card->per_token;
}

bool order_text(const struct order *o, const char *name, struct slice *out)
{
    return json_get_slice(o->tree, name, true, out, NULL, NULL) == ERR_OK;
}

static bool is_text(const struct order *o, const char *name, const char *value)
{
    struct slice text;

    return order_text(o, name, &text) && slice_eq_str(text, value);
}

static void add_input(struct order *o, int w, int h)
{
    TG_ASSERT(o->n_inputs < LIMIT_INPUT_IMAGES);
    o->inputs[o->n_inputs].w = w;
    o->inputs[o->n_inputs++].h = h;
}

void order_look(struct order *o)
{
    struct json_object *images;
    int n, w, h;

    for (size_t i = 0; i < o->n_uploads; i++) {
        (void)upload_size(&o->uploads[i], false, &w, &h);
        if (!o->uploads[i].is_mask)
            add_input(o, w, h);
    }
    if (o->form || !json_find(o->tree, "images", &images) || !json_object_is_type(images, json_type_array))
        return;
    n = (int)json_object_array_length(images);
    for (int i = 0; i < n && i < o->request.spec.n_inputs; i++)
        add_input(o, o->request.spec.inputs[i].w, o->request.spec.inputs[i].h);
}

/* <asked>, or <otherwise> when it is absent or leaves the choice. */
static struct slice effective(const char *asked, const char *otherwise)
{
    return slice_from(asked[0] != '\0' && strcmp(asked, "auto") != 0 ? asked : otherwise);
}

static void settle_picture(struct order *o)
{
    struct slice text;

    o->format = PICTURE_PNG;
    if (order_text(o, "output_format", &text))
        (void)picture_format_parse(text, &o->format);
    o->picture = (struct picture){.format = o->format, .bytes = o->d.bytes};
    (void)model_parse_size(slice_from(o->size), &o->picture.w, &o->picture.h);
    o->picture.seed = table_hash_bytes(o->prompt.p, o->prompt.len) % GALLERY_SEEDS;
}

static void settle_usage(struct order *o)
{
    const struct image_spec *spec = &o->request.spec;
    const struct model_card *card = spec->card;
    int64_t text = (int64_t)((o->prompt.len + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN) + card->text_overhead +
                   card->text_per_input_image * o->n_inputs;
    int64_t inputs = 0;

    if (o->d.usage_given) {
        memcpy(o->usage, o->d.usage, sizeof(o->usage));
        return;
    }
    for (int i = 0; i < o->n_inputs; i++) {
        bool seen = o->inputs[i].w > 0;

        inputs += model_input_tokens(card, seen ? o->inputs[i].w : UNSEEN_EDGE, seen ? o->inputs[i].h : UNSEEN_EDGE,
                                     spec->high_fidelity);
    }
    o->usage[0] = text * spec->n;
    o->usage[1] = inputs * spec->n;
    o->usage[2] = model_output_tokens(card, slice_from(o->size), slice_from(o->quality), o->images) +
                  card->partial_tokens * o->partials * o->images;
}

static int fewer(int asked, int directed)
{
    return directed >= 0 && directed < asked ? directed : asked;
}

void order_settle(struct order *o)
{
    const struct image_spec *spec = &o->request.spec;
    struct slice steering;

    (void)order_text(o, "prompt", &o->prompt);
    steering = o->prompt;
    if (spec->operation == OPERATION_VARIATIONS)
        (void)order_text(o, "user", &steering);
    directives_read(steering, &o->d);
    (void)slice_copy(effective(spec->size, "1024x1024"), o->size, sizeof(o->size));
    (void)slice_copy(effective(spec->quality, order_is_gpt(o) ? "medium" : spec->card->default_quality), o->quality,
                     sizeof(o->quality));
    o->background = is_text(o, "background", "transparent") ? "transparent" : "opaque";
    o->b64 = order_is_gpt(o) || is_text(o, "response_format", "b64_json");
    o->stream = o->d.form == FORM_EVENTS || (o->request.stream && o->d.form != FORM_JSON);
    o->images = fewer(spec->n, o->d.images);
    o->partials = o->request.stream ? fewer(spec->partial_images, o->d.partials) : 0;
    settle_picture(o);
    if (order_is_gpt(o))
        settle_usage(o);
}

struct picture order_picture(const struct order *o, int i)
{
    struct picture p = o->picture;

    p.seed = (p.seed + (uint64_t)i) % GALLERY_SEEDS;
    return p;
}

struct picture order_partial(const struct order *o, int i, int k)
{
    return order_picture(o, i + k + 1);
}
