/* json_edit.c - reading images[], mask and markup.
 *
 * Invariant: every string that the tree has under a name "image_url" is the number of one that the skeleton cut out; so
 * it is asked for its size, and never shown. Threads: any; no state. */
#include "json_edit.h"

#include <stdio.h>

static enum err_code refuse_type(const char *where, const char *expected, struct json_object *value, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, where, "Invalid type for '%s': expected %s, but got %s instead.", where,
                   expected, json_kind(value));
}

static enum err_code add_input(struct image_spec *spec, int w, int h, struct err *err)
{
    if (spec->n_inputs == QUOTE_INPUT_IMAGES)
        return err_set(err, ERR_INVALID_VALUE, "images", "Too many images. Expected at most %d and a mask.",
                       LIMIT_INPUT_IMAGES);
    spec->inputs[spec->n_inputs].w = w;
    spec->inputs[spec->n_inputs++].h = h;
    return ERR_OK;
}

/* One member of a source, a string. */
static enum err_code check_string(const char *where, const char *member, struct json_object *value, struct err *err)
{
    char path[LIMIT_ERROR_PARAM];

    if (json_object_is_type(value, json_type_string))
        return ERR_OK;
    (void)snprintf(path, sizeof(path), "%s.%s", where, member);
    return refuse_type(path, "a string", value, err);
}

static enum err_code read_source(struct json_object *source, const char *where, const struct skeleton *skeleton,
                                 struct image_spec *spec, struct err *err)
{
    static const char *const names[] = {"image_url", "file_id", NULL};
    struct json_object *url, *id;
    bool has_url, has_id;
    enum err_code code;
    int w = 0, h = 0;

    if (!json_object_is_type(source, json_type_object))
        return refuse_type(where, "an object", source, err);
    code = json_only(source, names, err);
    if (code != ERR_OK)
        return code;
    has_url = json_find(source, "image_url", &url);
    has_id = json_find(source, "file_id", &id);
    if (has_url == has_id)
        return err_set(err, has_url ? ERR_INVALID_VALUE : ERR_MISSING_PARAMETER, where,
                       "Invalid '%s': expected exactly one of 'image_url' and 'file_id'.", where);
    code = has_url ? check_string(where, "image_url", url, err) : check_string(where, "file_id", id, err);
    if (code != ERR_OK)
        return code;
    if (has_url)
        skeleton_size(skeleton, (struct slice){json_object_get_string(url), (size_t)json_object_get_string_len(url)},
                      &w, &h);
    return add_input(spec, w, h, err);
}

static enum err_code read_images(struct json_object *tree, const struct skeleton *skeleton, struct image_spec *spec,
                                 struct err *err)
{
    struct json_object *images;
    enum err_code code = ERR_OK;
    size_t n;

    if (!json_find(tree, "images", &images))
        return err_set(err, ERR_MISSING_PARAMETER, "images", "Missing required parameter: 'images'.");
    if (!json_object_is_type(images, json_type_array))
        return refuse_type("images", "an array", images, err);
    n = json_object_array_length(images);
    if (n == 0 || n > LIMIT_INPUT_IMAGES)
        return err_set(err, ERR_INVALID_VALUE, "images",
                       "Invalid 'images': array too %s. Expected an array with %s length %d, but got an array with "
                       "length %zu instead.",
                       n == 0 ? "short" : "long", n == 0 ? "minimum" : "maximum", n == 0 ? 1 : LIMIT_INPUT_IMAGES, n);
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        char where[LIMIT_ERROR_PARAM];

        (void)snprintf(where, sizeof(where), "images[%zu]", i);
        code = read_source(json_object_array_get_idx(images, i), where, skeleton, spec, err);
    }
    return code;
}

/* The spellings of forms: an upstream that takes them here would be given pictures that were not priced. */
static enum err_code refuse_form_names(struct json_object *tree, struct err *err)
{
    static const char *const names[] = {"image", "image[]"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (json_object_object_get_ex(tree, names[i], NULL))
            return err_set(err, ERR_UNKNOWN_PARAMETER, names[i],
                           "Unknown parameter: '%s'. In a JSON body the images go into 'images'.", names[i]);
    }
    return ERR_OK;
}

enum err_code json_edit_read(struct json_object *tree, const struct skeleton *skeleton, struct image_spec *spec,
                             struct err *err)
{
    struct json_object *value;
    enum err_code code = refuse_form_names(tree, err);

    if (code == ERR_OK)
        code = read_images(tree, skeleton, spec, err);
    if (code == ERR_OK && json_find(tree, "mask", &value))
        code = read_source(value, "mask", skeleton, spec, err);
    if (code == ERR_OK && json_find(tree, "markup", &value))
        code = add_input(spec, 0, 0, err); /* the upstream judges its form */
    return code;
}
