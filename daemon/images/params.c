/* params.c - reading the scalar parameters out of a tree.
 *
 * Invariants
 *   1. What the spec says of n, size, quality, fidelity and partial images is never less than what any upstream could
 *      read out of the same bytes: duplicates are refused before (json_read, form.c), and names that only look like a
 *      priced one are here, since lenient parsers would take them for it.
 *   2. A size that passed is one that the card can make.
 * Threads: any; no state between calls. */
#include "params.h"

#include <stdio.h>

#include "daemon/base/utf8.h"

enum {
    N_MAX = 10,         /* images a call, for a model without a card */
    PROMPT_MAX = 32000, /* code points, likewise */
    PARTIALS_MAX = 3,   /* partial images of a stream, whatever the model */
    SHOWN = 48,         /* bytes of a caller's value that a message repeats */
    LIST_TEXT = 256     /* bytes for a list of values in a message, with its NUL */
};

static const char default_model[] = "dall-e-2";

/* ---- names that only look like priced ones ---- */

/* One character of <key> without its case, as parsers fold it that ignore case: besides ASCII, the long s and the
 * Kelvin sign are an s and a k. 0 for anything else that is not ASCII. */
static char next_folded(const char **key)
{
    static const char long_s[] = "\xC5\xBF";
    static const char kelvin[] = "\xE2\x84\xAA";
    char c = **key;

    if (strncmp(*key, long_s, 2) == 0 || strncmp(*key, kelvin, 3) == 0) {
        *key += c == long_s[0] ? 2 : 3;
        return c == long_s[0] ? 's' : 'k';
    }
    (*key)++;
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return (unsigned char)c < 0x80 ? c : '\0';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* "N", " n", "n ", "n[]" and "n[0]" for "n". */
static bool looks_like(const char *key, const char *name)
{
    while (is_blank(*key))
        key++;
    while (*key != '\0' && *name != '\0') {
        if (next_folded(&key) != *name++)
            return false;
    }
    while (is_blank(*key))
        key++;
    return *name == '\0' && (*key == '\0' || *key == '[');
}

static bool is_lookalike(const char *key, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (looks_like(key, *names))
            return strcmp(key, *names) != 0;
    }
    return false;
}

enum err_code params_check_name(enum image_operation operation, const char *name, struct err *err)
{
    static const char *const priced[] = {"model", "prompt", "n", "size", "quality", "stream", "partial_images", NULL};
    static const char *const inputs[] = {"image", "images", "mask", "markup", "input_fidelity", "_charset_", NULL};
    bool bad = is_lookalike(name, priced);

    if (operation != OPERATION_GENERATIONS && strcmp(name, "image[]") != 0)
        bad |= is_lookalike(name, inputs);
    return bad ? err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name) : ERR_OK;
}

static enum err_code check_names(enum image_operation operation, struct json_object *tree, struct err *err)
{
    enum err_code code = ERR_OK;

    json_object_object_foreach(tree, key, member)
    {
        (void)member;
        if (code == ERR_OK)
            code = params_check_name(operation, key, err);
    }
    return code;
}

/* ---- the parameters ---- */

static enum err_code too_long(const char *name, size_t max, size_t length, struct err *err)
{
    return err_set(
        err, ERR_STRING_TOO_LONG, name,
        "Invalid '%s': string too long. Expected a string with maximum length %zu, but got a string with length "
        "%zu instead.",
        name, max, length);
}

static enum err_code read_model(struct json_object *tree, struct image_request *out, struct err *err)
{
    bool given;
    enum err_code code = json_get_text(tree, "model", false, out->spec.model, sizeof(out->spec.model), &given, err);

    if (code != ERR_OK)
        return code;
    if (given && out->spec.model[0] == '\0')
        return err_set(
            err, ERR_STRING_TOO_SHORT, "model",
            "Invalid 'model': empty string. Expected a string with minimum length 1, but got an empty string "
            "instead.");
    out->model_given = given;
    if (!given)
        (void)slice_copy(slice_from(default_model), out->spec.model, sizeof(out->spec.model));
    out->spec.card = model_find(slice_from(out->spec.model));
    return ERR_OK;
}

static enum err_code read_prompt(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    bool required = spec->operation != OPERATION_VARIATIONS;
    size_t max = spec->card != NULL ? (size_t)spec->card->max_prompt : PROMPT_MAX;
    struct slice prompt;
    size_t length;
    enum err_code code = json_get_slice(tree, "prompt", required, &prompt, NULL, err);

    if (code != ERR_OK)
        return code;
    length = utf8_count(prompt);
    if (length > max)
        return too_long("prompt", max, length, err);
    spec->prompt_bytes = (int64_t)prompt.len;
    return ERR_OK;
}

static enum err_code read_n(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    int64_t max = spec->card != NULL && spec->card->max_n > 1 ? spec->card->max_n : N_MAX;
    int64_t n = 1;
    enum err_code code = json_get_int(tree, "n", 1, max, &n, NULL, err);

    if (code != ERR_OK)
        return code;
    if (spec->card != NULL && n > spec->card->max_n)
        return err_set(err, ERR_BAD_REQUEST, NULL, "You must provide n=%d for this model.", spec->card->max_n);
    spec->n = (int)n;
    return ERR_OK;
}

/* "'a', 'b', and 'auto'", as the API lists values; <join> is "and" or "or". */
static const char *list_values(const char *values, size_t stride, int n, bool with_auto, const char *join,
                               char out[LIST_TEXT])
{
    int all = n + with_auto;
    size_t len = 0;

    out[0] = '\0';
    for (int i = 0; i < all && len < LIST_TEXT; i++) {
        const char *before = i == 0 ? "" : all == 2 ? " " : ", ";
        const char *last = i > 0 && i == all - 1 ? join : "";

        len += (size_t)snprintf(out + len, LIST_TEXT - len, "%s%s%s'%s'", before, last, last[0] != '\0' ? " " : "",
                                i < n ? values + (size_t)i * stride : "auto");
    }
    return out;
}

static const char *list_sizes(const struct model_card *card, const char *join, char out[LIST_TEXT])
{
    return list_values(card->sizes[0], sizeof(card->sizes[0]), card->n_sizes, card->takes_auto, join, out);
}

/* The size is none that a model of any size can make: which rule it breaks. */
static enum err_code refuse_free_size(struct slice size, struct err *err)
{
    struct slice shown = utf8_head(size, SHOWN);
    const char *why;
    int w, h;

    if (!model_parse_size(size, &w, &h))
        why = "Expected 'auto' or a width and height in pixels, such as '1024x1024'.";
    else if (w % MODEL_EDGE_STEP != 0 || h % MODEL_EDGE_STEP != 0)
        why = "Width and height must both be divisible by 16.";
    else if (w > MODEL_EDGE_MAX || h > MODEL_EDGE_MAX)
        why = "The longest edge must be less than or equal to 3840.";
    else if ((int64_t)w * h < MODEL_PIXELS_MIN)
        why = "Requested resolution is below the current minimum pixel budget.";
    else if ((int64_t)w * h > MODEL_PIXELS_MAX)
        why = "Requested resolution is above the current maximum pixel budget.";
    else
        why = "The ratio of the longer edge to the shorter must not be greater than 3:1.";
    return err_set(err, ERR_INVALID_VALUE, "size", "Invalid size '%.*s'. %s", (int)shown.len, shown.p, why);
}

static enum err_code refuse_size(const struct model_card *card, struct slice size, struct err *err)
{
    struct slice shown = utf8_head(size, SHOWN);
    char list[LIST_TEXT];

    if (card->family == MODEL_DALLE3)
        return err_set(err, ERR_INVALID_SIZE, NULL, "The size is not supported by this model.");
    if (card->free_size)
        return refuse_free_size(size, err);
    return err_set(err, ERR_INVALID_VALUE, "size", "Invalid value: '%.*s'. Supported values are: %s.", (int)shown.len,
                   shown.p, list_sizes(card, "and", list));
}

static enum err_code read_card_size(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    const struct model_card *card = spec->card;
    struct json_object *value;
    struct slice size;
    char list[LIST_TEXT];
    bool fits;

    if (!json_find(tree, "size", &value))
        return ERR_OK;
    if (!json_object_is_type(value, json_type_string))
        return err_set(err, ERR_INVALID_TYPE, "size",
                       "Invalid type for 'size': expected one of %s, but got %s instead.", list_sizes(card, "or", list),
                       json_kind(value));
    size = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    if (!(card->takes_auto && slice_eq_str(size, "auto")) && !model_has_size(card, size))
        return refuse_size(card, size, err);
    fits = slice_copy(size, spec->size, sizeof(spec->size));
    TG_ASSERT(fits);
    return ERR_OK;
}

static enum err_code read_size(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    if (spec->card != NULL)
        return read_card_size(tree, spec, err);
    return json_get_text(tree, "size", false, spec->size, sizeof(spec->size), NULL, err);
}

/* What the card does not list is for the upstream to judge, as long as the spec can name it: then it is held for at the
 * dearest and charged by usage. A price per picture must be known before, so there only listed values pass. */
static enum err_code read_quality(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    const struct model_card *card = spec->card;
    struct slice quality, shown;
    char list[LIST_TEXT];
    bool judged_here;
    enum err_code code = json_get_slice(tree, "quality", false, &quality, NULL, err);

    if (code != ERR_OK)
        return code;
    judged_here = card != NULL && !card->per_token && quality.len > 0 && !model_has_quality(card, quality);
    if (!judged_here && memchr(quality.p, '\0', quality.len) == NULL &&
        slice_copy(quality, spec->quality, sizeof(spec->quality)))
        return ERR_OK;
    if (card == NULL)
        return json_get_text(tree, "quality", false, spec->quality, sizeof(spec->quality), NULL, err);
    shown = utf8_head(quality, SHOWN);
    return err_set(
        err, ERR_INVALID_VALUE, "quality", "Invalid value: '%.*s'. Supported values are: %s.", (int)shown.len, shown.p,
        list_values(card->qualities[0], sizeof(card->qualities[0]), card->n_qualities, card->takes_auto, "and", list));
}

static enum err_code read_stream(struct json_object *tree, struct image_request *out, struct err *err)
{
    int64_t partials = 0;
    enum err_code code = json_get_bool(tree, "stream", &out->stream, NULL, err);

    if (code == ERR_OK)
        code = json_get_int(tree, "partial_images", 0, PARTIALS_MAX, &partials, NULL, err);
    out->spec.partial_images = (int)partials;
    return code;
}

/* Whatever is not a generation takes pictures in. */
static enum err_code read_fidelity(struct json_object *tree, struct image_spec *spec, struct err *err)
{
    struct slice fidelity, shown;
    bool given;
    enum err_code code = json_get_slice(tree, "input_fidelity", false, &fidelity, &given, err);

    if (code != ERR_OK || !given)
        return code;
    spec->high_fidelity = slice_eq_str(fidelity, "high");
    if (spec->high_fidelity || slice_eq_str(fidelity, "low"))
        return ERR_OK;
    shown = utf8_head(fidelity, SHOWN);
    return err_set(err, ERR_INVALID_VALUE, "input_fidelity",
                   "Invalid value: '%.*s'. Supported values are: 'low' and 'high'.", (int)shown.len, shown.p);
}

enum err_code params_read(struct json_object *tree, struct image_request *out, struct err *err)
{
    enum err_code code = check_names(out->operation, tree, err);

    if (code == ERR_OK)
        code = read_model(tree, out, err);
    if (code == ERR_OK)
        code = read_prompt(tree, &out->spec, err);
    if (code == ERR_OK)
        code = read_n(tree, &out->spec, err);
    if (code == ERR_OK)
        code = read_size(tree, &out->spec, err);
    if (code == ERR_OK)
        code = read_quality(tree, &out->spec, err);
    if (code == ERR_OK && out->operation != OPERATION_GENERATIONS)
        code = read_fidelity(tree, &out->spec, err);
    return code == ERR_OK ? read_stream(tree, out, err) : code;
}
