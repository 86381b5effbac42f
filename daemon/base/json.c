/* json.c - json-c behind a guard.
 *
 * json_read, in this order, each step trusting the ones before:
 *   1. UTF-8;
 *   2. the grammar, the depth and the number of keys, by the strict scanner: json-c is laxer than RFC 8259, and keeps
 *      a key only up to its first \u0000, so such keys end here;
 *   3. json-c's tree;
 *   4. a tree that holds fewer keys than the text had a duplicate somewhere, however the two were spelled. Only then
 *      is the text walked once more to name it;
 *   5. integers that int64_t cannot hold get their digits back: json-c saturates them silently. A value that json-c
 *      holds as its largest or smallest is therefore never taken for a number by the getters.
 * No state; any thread, one tree in one thread at a time. */
#include "json.h"

#include <stdlib.h>

#include "json_scan.h"
#include "money.h"
#include "utf8.h"

enum { SHOWN = LIMIT_ERROR_PARAM - 1 }; /* bytes of a name that a message repeats */

static const char bad_json[] =
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
    "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
    "figuring out how to fix this, please contact us through our help center at help.openai.com.)";

_Static_assert(sizeof(bad_json) <= LIMIT_ERROR_MESSAGE, "clients match on the whole text");

/* An integer of the text that is outside int64_t. */
struct wide {
    size_t ordinal; /* its place among the numbers of the document */
    struct slice digits;
};

struct survey {
    struct slice text;
    size_t keys;
    size_t numbers;
    enum json_scan_event first; /* what the outermost value is */
    bool first_seen;
    struct slice nul_key; /* a key that holds a NUL, escaped; p NULL: none */
    struct wide *wide;
    size_t wide_len;
    size_t wide_cap;
};

static enum err_code refuse_text(struct err *err)
{
    return err_set(err, ERR_BAD_JSON, NULL, "%s", bad_json);
}

/* Whether an escaped string holds backslash u0000, and not a backslash followed by those letters. */
static bool holds_nul(struct slice escaped)
{
    const char *p = escaped.p;
    const char *end = p + escaped.len;

    while ((p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0)
            return true;
        p += 2; /* an escape is never the last byte of a string that passed the scanner */
    }
    return false;
}

/* Whether a JSON number is an integer that int64_t cannot hold. INT64_MIN counts too: json-c gives the same value for
 * everything below it, and no parameter needs it. */
static bool is_wide(struct slice number)
{
    bool minus = number.p[0] == '-';
    unsigned long long size;

    if (number.len < 19 || memchr(number.p, '.', number.len) != NULL || memchr(number.p, 'e', number.len) != NULL ||
        memchr(number.p, 'E', number.len) != NULL)
        return false;
    if (minus)
        number = (struct slice){number.p + 1, number.len - 1};
    return !slice_to_u64(number, &size) || size > INT64_MAX;
}

static void note_wide(struct survey *v, struct slice digits)
{
    if (v->wide_len == v->wide_cap) {
        v->wide_cap = v->wide_cap > 0 ? v->wide_cap * 2 : 16;
        v->wide = mem_realloc(v->wide, v->wide_cap * sizeof(*v->wide));
    }
    v->wide[v->wide_len++] = (struct wide){v->numbers, digits};
}

static bool survey_event(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole,
                         uint64_t start, uint64_t end)
{
    struct survey *v = ctx;
    struct slice token = {v->text.p + start, (size_t)(end - start)};

    (void)depth, (void)text, (void)whole; /* the whole document is at hand, so tokens are taken from there */
    if (!v->first_seen)
        v->first = event;
    v->first_seen = true;
    if (event == JSON_SCAN_KEY) {
        v->keys++;
        if (v->nul_key.p == NULL && holds_nul((struct slice){token.p + 1, token.len - 2}))
            v->nul_key = (struct slice){token.p + 1, token.len - 2};
    } else if (event == JSON_SCAN_NUMBER) {
        if (is_wide(token))
            note_wide(v, token);
        v->numbers++;
    }
    return true;
}

static bool scan(struct slice text, json_scan_fn *fn, void *ctx)
{
    struct json_scan s;

    json_scan_init(&s, LIMIT_JSON_DEPTH, true, fn, ctx);
    return json_scan_feed(&s, text.p, text.len) != JSON_SCAN_BAD && json_scan_finish(&s) == JSON_SCAN_DONE;
}

/* NULL when json-c refuses. <text> passed the scanner. */
static struct json_object *build(struct slice text)
{
    /* json-c counts a level for the value inside the innermost container, and one for the document. */
    struct json_tokener *tokener = json_tokener_new_ex(LIMIT_JSON_DEPTH + 2);
    struct json_object *tree = NULL;

    TG_ASSERT(tokener != NULL);
    if (text.len <= INT32_MAX)
        tree = json_tokener_parse_ex(tokener, text.p, (int)text.len);
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        json_object_put(tree);
        tree = NULL;
    }
    json_tokener_free(tokener);
    return tree;
}

/* Recursion is as deep as the document, which the scanner has bounded. */
static size_t count_keys(struct json_object *value)
{
    size_t n = 0;

    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, name, member)
        {
            (void)name;
            n += 1 + count_keys(member);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            n += count_keys(json_object_array_get_idx(value, i));
    }
    return n;
}

/* For naming a duplicate: the keys seen in each object that is open. */
struct key_sets {
    struct slice text;
    struct json_object *open[LIMIT_JSON_DEPTH]; /* NULL for an array */
    char name[LIMIT_ERROR_PARAM];
};

static bool add_key(struct key_sets *k, struct json_object *set, struct slice token)
{
    struct json_object *key = build(token);
    const char *name = json_object_get_string(key);
    bool fresh = key != NULL && !json_object_object_get_ex(set, name, NULL);

    if (fresh)
        (void)json_object_object_add(set, name, NULL);
    else if (key != NULL)
        (void)slice_copy(utf8_head(slice_from(name), SHOWN), k->name, sizeof(k->name));
    json_object_put(key);
    return fresh;
}

static bool key_sets_event(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole,
                           uint64_t start, uint64_t end)
{
    struct key_sets *k = ctx;

    (void)text, (void)whole;
    switch (event) {
    case JSON_SCAN_OBJECT:
        k->open[depth] = json_object_new_object();
        return true;
    case JSON_SCAN_ARRAY:
        k->open[depth] = NULL;
        return true;
    case JSON_SCAN_END:
        json_object_put(k->open[depth]);
        k->open[depth] = NULL;
        return true;
    case JSON_SCAN_KEY:
        return add_key(k, k->open[depth - 1], (struct slice){k->text.p + start, (size_t)(end - start)});
    default:
        return true;
    }
}

static enum err_code refuse_duplicate(struct slice text, struct err *err)
{
    struct key_sets k = {.text = text};

    (void)scan(text, key_sets_event, &k);
    for (size_t i = 0; i < LIMIT_JSON_DEPTH; i++)
        json_object_put(k.open[i]);
    return err_set(err, ERR_DUPLICATE_PARAMETER, k.name,
                   "Duplicate parameter: '%s'. You provided multiple values for this parameter, whereas only one is "
                   "allowed.",
                   k.name);
}

/* Walks the numbers of a tree in the order of the text and gives wide ones their digits. */
struct restore {
    const struct survey *survey;
    size_t number;
    size_t next; /* index in survey->wide */
};

static void restore_wide(struct restore *r, struct json_object *value);

static void restore_number(struct restore *r, struct json_object *value)
{
    const struct survey *v = r->survey;

    if (r->next < v->wide_len && v->wide[r->next].ordinal == r->number) {
        struct slice digits = v->wide[r->next++].digits;
        char *copy = mem_alloc(digits.len + 1);

        (void)slice_copy(digits, copy, digits.len + 1);
        json_object_set_serializer(value, json_object_userdata_to_json_string, copy, json_object_free_userdata);
    }
    r->number++;
}

static void restore_wide(struct restore *r, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_int:
    case json_type_double:
        restore_number(r, value);
        break;
    case json_type_array:
        for (size_t i = 0; i < json_object_array_length(value); i++)
            restore_wide(r, json_object_array_get_idx(value, i));
        break;
    case json_type_object: {
        json_object_object_foreach(value, name, member)
        {
            (void)name;
            restore_wide(r, member);
        }
        break;
    }
    default:
        break;
    }
}

static const char *kind_of_event(enum json_scan_event event)
{
    static const char *const kinds[] = {
        [JSON_SCAN_ARRAY] = "an array", [JSON_SCAN_STRING] = "a string", [JSON_SCAN_NUMBER] = "a number",
        [JSON_SCAN_TRUE] = "a boolean", [JSON_SCAN_FALSE] = "a boolean", [JSON_SCAN_NULL] = "null",
    };

    return kinds[event];
}

static enum err_code read_surveyed(struct survey *v, struct json_object **out, struct err *err)
{
    struct json_object *tree;

    if (!utf8_valid(v->text) || !scan(v->text, survey_event, v))
        return refuse_text(err);
    if (v->first != JSON_SCAN_OBJECT)
        return err_set(err, ERR_BAD_REQUEST, NULL,
                       "Invalid type for the request body: expected an object, but got %s instead.",
                       kind_of_event(v->first));
    if (v->nul_key.p != NULL) {
        char name[LIMIT_ERROR_PARAM];

        (void)slice_copy(utf8_head(v->nul_key, SHOWN), name, sizeof(name));
        return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
    }
    tree = build(v->text);
    if (tree == NULL)
        return refuse_text(err);
    if (count_keys(tree) != v->keys) {
        json_object_put(tree);
        return refuse_duplicate(v->text, err);
    }
    if (v->wide_len > 0)
        restore_wide(&(struct restore){.survey = v}, tree);
    *out = tree;
    return ERR_OK;
}

enum err_code json_read(struct slice text, struct json_object **out, struct err *err)
{
    struct survey v = {.text = text};
    enum err_code code = read_surveyed(&v, out, err);

    free(v.wide);
    return code;
}

bool json_find(struct json_object *obj, const char *name, struct json_object **value)
{
    struct json_object *found = NULL;

    if (!json_object_object_get_ex(obj, name, &found) || found == NULL)
        return false;
    *value = found;
    return true;
}

const char *json_kind(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_boolean:
        return "a boolean";
    case json_type_double:
        return "a decimal number";
    case json_type_int:
        return "an integer";
    case json_type_object:
        return "an object";
    case json_type_array:
        return "an array";
    case json_type_string:
        return "a string";
    default:
        return "null";
    }
}

static enum err_code wrong_type(const char *name, const char *expected, struct json_object *value, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, name, "Invalid type for '%s': expected %s, but got %s instead.", name,
                   expected, json_kind(value));
}

static void set_present(bool *present, bool is_there)
{
    if (present != NULL)
        *present = is_there;
}

enum err_code json_get_slice(struct json_object *obj, const char *name, bool required, struct slice *out, bool *present,
                             struct err *err)
{
    struct json_object *value;

    *out = SLICE("");
    set_present(present, false);
    if (!json_find(obj, name, &value))
        return required ? err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name) : ERR_OK;
    if (!json_object_is_type(value, json_type_string))
        return wrong_type(name, "a string", value, err);
    *out = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    set_present(present, true);
    return ERR_OK;
}

enum err_code json_get_text(struct json_object *obj, const char *name, bool required, char *out, size_t cap,
                            bool *present, struct err *err)
{
    struct slice text;
    enum err_code code = json_get_slice(obj, name, required, &text, present, err);

    TG_ASSERT(cap > 0);
    out[0] = '\0';
    if (code != ERR_OK)
        return code;
    if (text.len >= cap)
        code = err_set(err, ERR_STRING_TOO_LONG, name,
                       "Invalid '%s': string too long. Expected a string with maximum length %zu, but got a string "
                       "with length %zu instead.",
                       name, cap - 1, text.len);
    else if (memchr(text.p, '\0', text.len) != NULL)
        code = err_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': the string holds a null character.", name);
    else
        (void)slice_copy(text, out, cap);
    if (code != ERR_OK)
        set_present(present, false);
    return code;
}

static enum err_code below(const char *name, int64_t min, const char *got, struct err *err)
{
    return err_set(err, ERR_INTEGER_BELOW_MIN, name,
                   "Invalid '%s': integer below minimum value. Expected a value >= %lld, but got %.48s instead.", name,
                   (long long)min, got);
}

static enum err_code above(const char *name, int64_t max, const char *got, struct err *err)
{
    return err_set(err, ERR_INTEGER_ABOVE_MAX, name,
                   "Invalid '%s': integer above maximum value. Expected a value <= %lld, but got %.48s instead.", name,
                   (long long)max, got);
}

enum err_code json_get_int(struct json_object *obj, const char *name, int64_t min, int64_t max, int64_t *out,
                           bool *present, struct err *err)
{
    struct json_object *value;
    int64_t number;

    set_present(present, false);
    if (!json_find(obj, name, &value))
        return ERR_OK;
    if (!json_object_is_type(value, json_type_int))
        return wrong_type(name, "an integer", value, err);
    number = json_object_get_int64(value); /* saturates */
    if (number < min || number == INT64_MIN)
        return below(name, min, json_object_to_json_string(value), err);
    if (number > max || json_object_get_uint64(value) > INT64_MAX)
        return above(name, max, json_object_to_json_string(value), err);
    *out = number;
    set_present(present, true);
    return ERR_OK;
}

enum err_code json_get_bool(struct json_object *obj, const char *name, bool *out, bool *present, struct err *err)
{
    struct json_object *value;

    set_present(present, false);
    if (!json_find(obj, name, &value))
        return ERR_OK;
    if (!json_object_is_type(value, json_type_boolean))
        return wrong_type(name, "a boolean", value, err);
    *out = json_object_get_boolean(value);
    set_present(present, true);
    return ERR_OK;
}

enum err_code json_get_money(struct json_object *obj, const char *name, int digits, bool required, int64_t *out,
                             bool *present, struct err *err)
{
    struct slice text;
    bool there;
    enum err_code code = json_get_slice(obj, name, required, &text, &there, err);

    if (code == ERR_OK && there)
        code = money_parse(text, digits, name, out, err);
    set_present(present, code == ERR_OK && there);
    return code;
}

static bool is_among(const char *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (strcmp(name, *names) == 0)
            return true;
    }
    return false;
}

enum err_code json_only(struct json_object *obj, const char *const *names, struct err *err)
{
    json_object_object_foreach(obj, name, member)
    {
        (void)member;
        if (!is_among(name, names)) {
            struct slice shown = utf8_head(slice_from(name), SHOWN);

            return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%.*s'.", (int)shown.len, shown.p);
        }
    }
    return ERR_OK;
}
