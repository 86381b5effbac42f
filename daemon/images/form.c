/* form.c - what becomes of each part of a form.
 *
 *    begin --file name--> FILE: count, measure, size limit --> end: not empty; its picture is an input
 *      |---a field of ours--> FIELD: kept in `value` ---------> end: typed by its name, into the tree
 *      `---any other--> OTHER: passed over, its name noted ----> end
 *
 * Invariants
 *   1. names[0..n_names) are those of all parts so far; none stands there twice but those that end with [].
 *   2. inputs[0..n_inputs) are the files that ended, in the order of the form; n_images of them are images.
 *   3. The bytes of all fields together, kept or not, are at most LIMIT_FORM_FIELD.
 *   4. A field that is a number or a truth value has the one spelling that every reader takes for it; any other text
 *      stays a string, which the common validation refuses.
 * One form, one thread. */
#include "form.h"

#include <stdlib.h>

#include "daemon/base/utf8.h"
#include "params.h"
#include "part_head.h"
#include "picture_size.h"

enum kind { TEXT = 0, INTEGER, BOOLEAN };

static const struct field {
    const char *name;
    enum kind kind;
} fields[] = {
    {"model", TEXT},
    {"prompt", TEXT},
    {"n", INTEGER},
    {"size", TEXT},
    {"quality", TEXT},
    {"stream", BOOLEAN},
    {"partial_images", INTEGER},
    {"input_fidelity", TEXT},
    {"_charset_", TEXT},
    {NULL, TEXT},
};

struct input {
    char name[LIMIT_PART_NAME];
    uint64_t bytes;
    int w, h;
};

struct form {
    enum image_operation operation;
    struct multipart *parts;
    struct json_object *tree;
    char names[LIMIT_PARTS][LIMIT_PART_NAME];
    int n_names;
    size_t field_bytes;
    struct input inputs[QUOTE_INPUT_IMAGES];
    int n_inputs, n_images;
    bool model_seen;
    uint64_t model_start, model_end;
    /* the part under way */
    const struct field *field; /* NULL: none of ours */
    bool is_file;
    bool started; /* <start> is known */
    uint64_t start;
    struct buf value;
    uint64_t limit; /* of the file */
    struct input input;
    struct picture_size size;
};

/* ---- names ---- */

static const char *part_name(const struct form *f)
{
    return f->names[f->n_names - 1];
}

static bool is_array(const char *name)
{
    size_t n = strlen(name);

    return n > 2 && strcmp(name + n - 2, "[]") == 0;
}

static bool has_name(const struct form *f, const char *name)
{
    for (int i = 0; i < f->n_names; i++) {
        if (strcmp(f->names[i], name) == 0)
            return true;
    }
    return false;
}

static enum err_code refuse_second(const char *name, struct err *err)
{
    return err_set(err, ERR_DUPLICATE_PARAMETER, name,
                   "Duplicate parameter: '%s'. You provided multiple values for this parameter, whereas only one is "
                   "allowed. If you are trying to provide a list of values, use the array syntax instead e.g. "
                   "'%s[]=<value>'.",
                   name, name);
}

/* Notes the part's name, unless it may not stand there. */
static enum err_code note_name(struct form *f, const char *name, struct err *err)
{
    bool single = strcmp(name, "image") == 0, list = strcmp(name, "image[]") == 0;
    enum err_code code = params_check_name(f->operation, name, err);

    if (code != ERR_OK)
        return code;
    if ((has_name(f, name) && !is_array(name)) || (single && has_name(f, "image[]")) || (list && has_name(f, "image")))
        return refuse_second(list ? "image" : name, err);
    TG_ASSERT(f->n_names < LIMIT_PARTS);
    (void)slice_copy(slice_from(name), f->names[f->n_names++], LIMIT_PART_NAME);
    return ERR_OK;
}

static bool is_image(const char *name)
{
    return strcmp(name, "image") == 0 || strcmp(name, "image[]") == 0;
}

static const struct field *find_field(const char *name)
{
    for (const struct field *field = fields; field->name != NULL; field++) {
        if (strcmp(field->name, name) == 0)
            return field;
    }
    return NULL;
}

/* ---- files ---- */

static bool is_dalle2(struct slice model)
{
    const struct model_card *card = model_find(model);

    return card != NULL && card->family == MODEL_DALLE2;
}

/* As far as the model is known. */
static uint64_t file_limit(const struct form *f)
{
    struct json_object *value;
    struct slice model = SLICE_NONE;

    if (json_find(f->tree, "model", &value))
        model = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    return is_dalle2(model) ? FORM_DALLE2_FILE : FORM_FILE;
}

static enum err_code refuse_large(const char *name, uint64_t limit, struct err *err)
{
    const char *param = is_image(name) ? "image" : name;

    if (limit == FORM_DALLE2_FILE)
        return err_set(err, ERR_BAD_REQUEST, param, "Uploaded image must be a PNG and less than 4 MB.");
    return err_set(err, ERR_TOO_LARGE, param, "Invalid file '%s': too large. Expected a file of at most %d bytes.",
                   param, FORM_FILE);
}

static enum err_code begin_file(struct form *f, struct err *err)
{
    int most = f->operation == OPERATION_VARIATIONS ? 1 : LIMIT_INPUT_IMAGES;
    bool image = is_image(part_name(f));

    if (image && ++f->n_images > most)
        return err_set(err, ERR_INVALID_VALUE, "image",
                       "Invalid 'image': array too long. Expected an array with maximum length %d, but got an array "
                       "with length %d instead.",
                       most, f->n_images);
    if (f->n_inputs == QUOTE_INPUT_IMAGES)
        return err_set(err, ERR_INVALID_VALUE, image ? "image" : part_name(f),
                       "Too many files. Expected at most %d images and a mask.", LIMIT_INPUT_IMAGES);
    f->input = (struct input){.bytes = 0};
    (void)slice_copy(slice_from(part_name(f)), f->input.name, sizeof(f->input.name));
    f->limit = file_limit(f);
    picture_size_init(&f->size);
    return ERR_OK;
}

static enum err_code take_file(struct form *f, struct slice bytes, struct err *err)
{
    f->input.bytes += bytes.len;
    if (f->input.bytes > f->limit)
        return refuse_large(f->input.name, f->limit, err);
    picture_size_feed(&f->size, bytes);
    return ERR_OK;
}

static enum err_code end_file(struct form *f, struct err *err)
{
    if (f->input.bytes == 0)
        return err_set(err, ERR_BAD_REQUEST, is_image(f->input.name) ? "image" : f->input.name,
                       "Invalid image file or mode for image %d, please check your image file. The file is empty.",
                       f->n_inputs + 1);
    picture_size_get(&f->size, &f->input.w, &f->input.h);
    f->inputs[f->n_inputs++] = f->input;
    return ERR_OK;
}

/* ---- fields ---- */

static enum err_code refuse_type(const char *name, const char *expected, const char *got, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, name, "Invalid type for '%s': expected %s, but got %s instead.", name,
                   expected, got);
}

/* A text that is read in another character set upstream is not the text that was priced. */
static enum err_code check_charset(const char *name, struct slice type, struct err *err)
{
    struct slice charset = SLICE("utf-8");

    if (part_head_param(type, "charset", &charset) >= 0 &&
        (slice_eq_nocase(charset, SLICE("utf-8")) || slice_eq_nocase(charset, SLICE("us-ascii"))))
        return ERR_OK;
    return err_set(err, ERR_BAD_REQUEST, name, "Invalid '%s': the field must be UTF-8.", name);
}

static enum err_code begin_field(struct form *f, const struct multipart_part *part, struct err *err)
{
    const char *name = part_name(f);

    buf_clear(&f->value);
    if (is_image(name))
        return refuse_type("image", "one of an array of files or file", "a string", err);
    if (strcmp(name, "mask") == 0 || strcmp(name, "markup") == 0)
        return refuse_type(name, "a file", "a string", err);
    f->field = find_field(name);
    return f->field != NULL ? check_charset(name, part->type, err) : ERR_OK;
}

static enum err_code take_field(struct form *f, struct slice bytes, struct err *err)
{
    if (bytes.len > LIMIT_FORM_FIELD - f->field_bytes)
        return err_set(err, ERR_TOO_LARGE, NULL, "The fields of the form are larger than %d bytes together.",
                       LIMIT_FORM_FIELD);
    f->field_bytes += bytes.len;
    if (f->field != NULL)
        buf_append_slice(&f->value, bytes);
    return ERR_OK;
}

/* An optional minus and digits without a leading zero; "-0" is none. */
static bool is_integer(struct slice text)
{
    size_t sign = text.len > 0 && text.p[0] == '-';
    bool lone_zero = sign == 0 && text.len == 1;

    if (text.len == sign || (text.p[sign] == '0' && !lone_zero))
        return false;
    for (size_t i = sign; i < text.len; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
    }
    return true;
}

/* What int64_t cannot hold becomes its largest or smallest with the digits kept, as json_read makes it. */
static struct json_object *new_integer(struct slice text)
{
    bool minus = text.p[0] == '-';
    struct slice digits = {text.p + minus, text.len - minus};
    unsigned long long size;
    struct json_object *value;
    char *copy;

    if (slice_to_u64(digits, &size) && size <= INT64_MAX)
        return json_object_new_int64(minus ? -(int64_t)size : (int64_t)size);
    value = json_object_new_int64(minus ? INT64_MIN : INT64_MAX);
    copy = mem_alloc(text.len + 1);
    (void)slice_copy(text, copy, text.len + 1);
    json_object_set_serializer(value, json_object_userdata_to_json_string, copy, json_object_free_userdata);
    return value;
}

static struct json_object *new_value(enum kind kind, struct slice text)
{
    bool yes = slice_eq_str(text, "true");

    if (kind == INTEGER && is_integer(text))
        return new_integer(text);
    if (kind == BOOLEAN && (yes || slice_eq_str(text, "false")))
        return json_object_new_boolean(yes);
    return json_object_new_string_len(text.len > 0 ? text.p : "", (int)text.len);
}

static enum err_code end_field(struct form *f, uint64_t end, struct err *err)
{
    struct slice text = buf_slice(&f->value);
    const char *name = part_name(f);

    if (f->field == NULL)
        return ERR_OK;
    if (!utf8_valid(text))
        return err_set(err, ERR_BAD_REQUEST, name, "Invalid '%s': the field must be UTF-8.", name);
    if (strcmp(name, "_charset_") == 0 && !slice_eq_nocase(text, SLICE("utf-8")))
        return err_set(err, ERR_BAD_REQUEST, name, "Invalid '%s': the form must be UTF-8.", name);
    if (strcmp(name, "model") == 0) {
        f->model_seen = true;
        f->model_start = f->start;
        f->model_end = end;
    }
    (void)json_object_object_add(f->tree, name, new_value(f->field->kind, text));
    return ERR_OK;
}

/* ---- parts ---- */

static enum err_code on_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    static const char *const expected[] = {"a string", "an integer", "a boolean"};
    struct form *f = ctx;
    const struct field *field;
    enum err_code code = note_name(f, part->name.p, err);

    if (code != ERR_OK)
        return code;
    f->started = false;
    f->field = NULL;
    f->is_file = part->has_filename;
    if (!f->is_file)
        return begin_field(f, part, err);
    field = find_field(part_name(f));
    return field == NULL ? begin_file(f, err) : refuse_type(field->name, expected[field->kind], "a file", err);
}

static enum err_code on_data(void *ctx, struct slice bytes, uint64_t offset, struct err *err)
{
    struct form *f = ctx;

    if (!f->started)
        f->start = offset;
    f->started = true;
    return f->is_file ? take_file(f, bytes, err) : take_field(f, bytes, err);
}

static enum err_code on_end(void *ctx, uint64_t offset, struct err *err)
{
    struct form *f = ctx;

    if (!f->started)
        f->start = offset;
    return f->is_file ? end_file(f, err) : end_field(f, offset, err);
}

/* ---- the form ---- */

struct form *form_create(enum image_operation operation, const char *boundary)
{
    struct form *f = mem_zalloc(sizeof(*f));
    const struct multipart_callbacks callbacks = {f, on_begin, on_data, on_end};

    f->operation = operation;
    f->tree = json_object_new_object();
    f->parts = multipart_create(boundary, &callbacks);
    buf_init(&f->value, LIMIT_FORM_FIELD);
    return f;
}

void form_destroy(struct form *f)
{
    if (f == NULL)
        return;
    multipart_destroy(f->parts);
    json_object_put(f->tree);
    buf_dispose(&f->value);
    free(f);
}

enum err_code form_feed(struct form *f, struct slice bytes, struct err *err)
{
    return multipart_feed(f->parts, bytes, err);
}

/* The model that counts is known now, wherever it stood. */
static enum err_code check_files(const struct form *f, const struct image_spec *spec, struct err *err)
{
    uint64_t limit = is_dalle2(slice_from(spec->model)) ? FORM_DALLE2_FILE : FORM_FILE;

    if (f->n_images == 0)
        return err_set(err, ERR_MISSING_PARAMETER, "image", "Missing required parameter: 'image'.");
    for (int i = 0; i < f->n_inputs; i++) {
        if (f->inputs[i].bytes > limit)
            return refuse_large(f->inputs[i].name, limit, err);
    }
    return ERR_OK;
}

enum err_code form_finish(struct form *f, struct image_request *out, struct err *err)
{
    uint64_t first = multipart_first(f->parts);
    enum err_code code = multipart_finish(f->parts, err);

    if (code == ERR_OK)
        code = params_read(f->tree, out, err);
    if (code == ERR_OK)
        code = check_files(f, &out->spec, err);
    if (code != ERR_OK)
        return code;
    out->spec.n_inputs = f->n_inputs;
    for (int i = 0; i < f->n_inputs; i++) {
        out->spec.inputs[i].w = f->inputs[i].w;
        out->spec.inputs[i].h = f->inputs[i].h;
    }
    out->model_absent = !f->model_seen;
    out->model_start = f->model_seen ? f->model_start : first;
    out->model_end = f->model_seen ? f->model_end : first;
    return ERR_OK;
}
