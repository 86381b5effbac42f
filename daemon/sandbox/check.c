/* check.c - what only the upstream judges: parameters that a model does not take, values, image files.
 *
 * Messages are OpenAI's, or in its manner where nobody has published one. Pure. */
#include <stdio.h>

#include "daemon/base/utf8.h"
#include "order.h"

enum {
    SHOWN = 48,     /* bytes of a caller's value that a message repeats */
    LIST_TEXT = 256 /* bytes of a list of values in a message, with its NUL */
};
#define MASK_MAX (UINT64_C(4) * 1024 * 1024) /* bytes of a mask; image_reader judges the images */

/* ---- which parameters there are ---- */

enum family { D2 = 1, D3 = 2, GPT = 4, ALL = D2 | D3 | GPT };
enum operation { GENERATE = 1, EDIT = 2, VARY = 4, ANY = GENERATE | EDIT | VARY };
enum body { FORM = 1, JSON = 2, BOTH = FORM | JSON };

static const struct parameter {
    const char *name;
    unsigned families, operations, bodies;
} parameters[] = {
    {"model", ALL, ANY, BOTH},
    {"prompt", ALL, GENERATE | EDIT, BOTH},
    {"n", ALL, ANY, BOTH},
    {"size", ALL, ANY, BOTH},
    {"user", ALL, ANY, BOTH},
    {"quality", ALL, GENERATE | EDIT, BOTH},
    {"response_format", D2 | D3, ANY, BOTH},
    {"style", D3, GENERATE, BOTH},
    {"background", GPT, GENERATE | EDIT, BOTH},
    {"moderation", GPT, GENERATE | EDIT, JSON},
    {"output_format", GPT, GENERATE | EDIT, BOTH},
    {"output_compression", GPT, GENERATE | EDIT, BOTH},
    {"stream", GPT, GENERATE | EDIT, BOTH},
    {"partial_images", GPT, GENERATE | EDIT, BOTH},
    {"safety_identifier", GPT, GENERATE | EDIT, BOTH},
    {"input_fidelity", GPT, EDIT, BOTH},
    {"images", GPT, EDIT, JSON},
    {"mask", GPT, EDIT, JSON},
};

static unsigned family_of(const struct order *o)
{
    if (order_is_gpt(o))
        return GPT;
    return o->request.spec.card->family == MODEL_DALLE3 ? D3 : D2;
}

static unsigned operation_of(const struct order *o)
{
    static const unsigned bits[] = {
        [OPERATION_GENERATIONS] = GENERATE, [OPERATION_EDITS] = EDIT, [OPERATION_VARIATIONS] = VARY};

    return bits[o->request.spec.operation];
}

static bool takes(const struct order *o, const char *name)
{
    for (size_t i = 0; i < sizeof(parameters) / sizeof(parameters[0]); i++) {
        const struct parameter *p = &parameters[i];

        if (strcmp(name, p->name) == 0)
            return (p->families & family_of(o)) != 0 && (p->operations & operation_of(o)) != 0 &&
                   (p->bodies & (o->form ? FORM : JSON)) != 0;
    }
    return false;
}

/* A null is as good as absent. */
static bool check_names(const struct order *o, struct refusal *why)
{
    json_object_object_foreach(o->tree, name, value)
    {
        if (value != NULL && !takes(o, name))
            return refuse(why, "unknown_parameter", name, "Unknown parameter: '%s'.", name);
    }
    return true;
}

/* ---- values ---- */

/* "'a', 'b', and 'c'"; <values> ends with a NULL. */
static const char *list_values(const char *const *values, char out[LIST_TEXT])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; values[i] != NULL && len < LIST_TEXT; i++) {
        bool last = values[i + 1] == NULL;
        const char *before = i == 0 ? "" : !last ? ", " : i == 1 ? " and " : ", and ";

        len += (size_t)snprintf(out + len, LIST_TEXT - len, "%s'%s'", before, values[i]);
    }
    return out;
}

static bool refuse_value(struct refusal *why, const char *name, struct slice value, const char *const *values)
{
    struct slice shown = utf8_head(value, SHOWN);
    char list[LIST_TEXT];

    return refuse(why, "invalid_value", name, "Invalid value: '%.*s'. Supported values are: %s.", (int)shown.len,
                  shown.p, list_values(values, list));
}

/* A text that is absent or one of <values>. */
static bool check_choice(const struct order *o, const char *name, const char *const *values, struct refusal *why)
{
    struct slice value;
    struct err err;
    bool present;

    if (json_get_slice(o->tree, name, false, &value, &present, &err) != ERR_OK)
        return refuse_err(why, &err);
    if (!present)
        return true;
    for (size_t i = 0; values[i] != NULL; i++) {
        if (slice_eq_str(value, values[i]))
            return true;
    }
    return refuse_value(why, name, value, values);
}

static bool check_choices(const struct order *o, struct refusal *why)
{
    static const char *const replies[] = {"b64_json", "url", NULL};
    static const char *const styles[] = {"vivid", "natural", NULL};
    static const char *const backgrounds[] = {"transparent", "opaque", "auto", NULL};
    static const char *const moderations[] = {"low", "auto", NULL};
    static const char *const formats[] = {"png", "jpeg", "webp", NULL};
    static const char *const fidelities[] = {"high", "low", NULL};

    return check_choice(o, "response_format", replies, why) && check_choice(o, "style", styles, why) &&
           check_choice(o, "background", backgrounds, why) && check_choice(o, "moderation", moderations, why) &&
           check_choice(o, "output_format", formats, why) && check_choice(o, "input_fidelity", fidelities, why);
}

static bool check_quality(const struct order *o, struct refusal *why)
{
    const struct model_card *card = o->request.spec.card;
    const char *values[MODEL_QUALITIES + 2] = {NULL};
    size_t n = 0;

    for (int i = 0; i < card->n_qualities; i++)
        values[n++] = card->qualities[i];
    if (card->takes_auto)
        values[n++] = "auto";
    return check_choice(o, "quality", values, why);
}

/* A form's number is text. */
static bool check_compression(const struct order *o, struct refusal *why)
{
    static const char name[] = "output_compression";
    unsigned long long in_form;
    struct slice text;
    struct err err;
    int64_t n;

    if (o->form && order_text(o, name, &text)) {
        if (!slice_to_u64(text, &in_form))
            return refuse(why, "invalid_type", name,
                          "Invalid type for '%s': expected an integer, but got a string instead.", name);
        return in_form <= 100 || refuse(why, "integer_above_max_value", name,
                                        "Invalid '%s': integer above maximum value. Expected a value <= 100, but got "
                                        "%llu instead.",
                                        name, in_form);
    }
    return json_get_int(o->tree, name, 0, 100, &n, NULL, &err) == ERR_OK || refuse_err(why, &err);
}

static bool check_combinations(const struct order *o, struct refusal *why)
{
    struct slice format, background;

    if (o->request.spec.partial_images > 0 && !o->request.stream)
        return refuse(why, "invalid_value", "partial_images",
                      "Invalid value: 'partial_images' is only supported when 'stream' is true.");
    if (order_text(o, "background", &background) && slice_eq_str(background, "transparent") &&
        order_text(o, "output_format", &format) && slice_eq_str(format, "jpeg"))
        return refuse(why, "invalid_value", "background",
                      "Transparent background is not supported for JPEG output format.");
    return true;
}

/* ---- images ---- */

static bool refuse_image(struct refusal *why, int number)
{
    return refuse(why, "invalid_image_file", "image",
                  "Invalid image file or mode for image %d, please check your image file.", number);
}

static bool refuse_small_image(struct refusal *why)
{
    return refuse(why, "invalid_image_format", NULL, "Uploaded image must be a PNG and less than 4 MB.");
}

static bool check_type(const struct upload *u, bool png_only, struct refusal *why)
{
    const char *name = u->is_mask ? "mask" : "image";
    bool known = strcmp(u->type, "image/png") == 0;
    struct slice shown = utf8_head(slice_from(u->type), SHOWN);

    if (!u->has_type)
        return refuse(why, "missing_file_mimetype", name,
                      "Invalid file '%s': failed to determine mimetype. Ensure you are providing the file's mimetype "
                      "as part of the 'Content-Type' header.",
                      name);
    if (!png_only)
        known |= strcmp(u->type, "image/jpeg") == 0 || strcmp(u->type, "image/webp") == 0;
    if (known)
        return true;
    return refuse(why, "unsupported_file_mimetype", name,
                  "Invalid file '%s': unsupported mimetype ('%.*s'). Supported file formats are %s.", name,
                  (int)shown.len, shown.p, png_only ? "'image/png'" : "'image/jpeg', 'image/png', and 'image/webp'");
}

/* dall-e-2's: a square PNG. */
static bool check_small_image(const struct upload *u, struct refusal *why)
{
    int w, h;

    if (!check_type(u, true, why))
        return false;
    return (upload_size(u, true, &w, &h) && w == h) || refuse_small_image(why);
}

static bool check_gpt_image(const struct upload *u, int index, struct refusal *why)
{
    int w, h;

    if (!check_type(u, false, why))
        return false;
    return upload_size(u, false, &w, &h) || refuse_image(why, index + 1);
}

/* A PNG with the dimensions of the first image. */
static bool check_mask(const struct order *o, const struct upload *u, struct refusal *why)
{
    int w, h;

    if (!check_type(u, true, why))
        return false;
    if (u->bytes > MASK_MAX)
        return refuse(why, "file_above_max_size", "mask",
                      "Invalid file 'mask': file too large. Expected a file of at most 4 MB.");
    if (!upload_size(u, true, &w, &h) || w != o->inputs[0].w || h != o->inputs[0].h)
        return refuse_image(why, o->n_inputs + 1);
    return true;
}

static bool check_uploads(const struct order *o, struct refusal *why)
{
    int index = 0;

    if (!order_is_gpt(o) && o->n_inputs > 1)
        return refuse(why, NULL, "image", "You must provide one image for this model.");
    for (size_t i = 0; i < o->n_uploads; i++) {
        const struct upload *u = &o->uploads[i];

        if (u->is_mask)
            continue;
        if (!(order_is_gpt(o) ? check_gpt_image(u, index, why) : check_small_image(u, why)))
            return false;
        index++;
    }
    for (size_t i = 0; i < o->n_uploads; i++) {
        if (o->uploads[i].is_mask && !check_mask(o, &o->uploads[i], why))
            return false;
    }
    return true;
}

/* Images in JSON: what stands there itself must be an image; what is only named is taken for one. */
static bool check_references(const struct order *o, struct refusal *why)
{
    struct json_object *images;
    struct slice url;

    if (!json_find(o->tree, "images", &images))
        return true;
    for (int i = 0; i < o->n_inputs; i++) {
        struct json_object *image = json_object_array_get_idx(images, (size_t)i);

        if (json_get_slice(image, "image_url", true, &url, NULL, NULL) == ERR_OK && slice_starts(url, SLICE("data:")) &&
            o->inputs[i].w == 0)
            return refuse_image(why, i + 1);
    }
    return true;
}

/* ---- all of it ---- */

/* Edits are made by dall-e-2 and the gpt-image models, variations by dall-e-2 alone; JSON is for gpt-image models. */
static bool check_model(const struct order *o, struct refusal *why)
{
    unsigned operation = operation_of(o);

    if (operation == VARY && family_of(o) != D2)
        return refuse(why, "invalid_value", "model", "Invalid value: '%s'. Value must be 'dall-e-2'.",
                      o->request.spec.model);
    if (operation == EDIT && family_of(o) == D3)
        return refuse(why, "invalid_value", "model", "Invalid value: '%s'. The model does not support image edits.",
                      o->request.spec.model);
    if (operation == EDIT && !o->form && !order_is_gpt(o))
        return refuse(why, "unsupported_content_type", NULL,
                      "Unsupported content type: 'application/json'. This API method only accepts "
                      "'multipart/form-data' requests, but you specified the header 'Content-Type: application/json'. "
                      "Please try again with a supported content type.");
    return true;
}

bool order_check(const struct order *o, struct refusal *why)
{
    return check_model(o, why) && check_names(o, why) && check_choices(o, why) && check_quality(o, why) &&
           check_compression(o, why) && check_combinations(o, why) && check_uploads(o, why) && check_references(o, why);
}
