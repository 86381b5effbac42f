/* query.c - the query of a report, read strictly: a filter that was misspelt must not answer with everything. No state.
 */
#include "query.h"

#include "daemon/base/clock.h"
#include "daemon/base/utf8.h"
#include "daemon/front/call.h"

enum { NAME = 64, VALUE = 4096, SHOWN = 40 };

struct reading {
    const struct query_field *fields;
    size_t n;
    bool platform;
    uint32_t seen; /* a bit a field */
};

_Static_assert((int)QUERY_FIELDS <= 32, "a bit a field");

static enum err_code add_value(const struct query_field *f, struct slice value, struct err *err)
{
    int *n = f->n;

    if (value.len == 0)
        return ERR_OK;
    if (value.len >= f->cap)
        return err_set(err, ERR_STRING_TOO_LONG, f->name,
                       "Invalid '%s': string too long. Expected a string with maximum length %zu.", f->name,
                       f->cap - 1);
    if (n == NULL)
        return slice_copy(value, f->out, f->cap) ? ERR_OK : ERR_INTERNAL;
    for (int i = 0; i < *n; i++) {
        if (slice_eq_str(value, f->out + (size_t)i * f->cap))
            return ERR_OK;
    }
    if (*n == QUERY_VALUES)
        return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid '%s': too many values. Expected at most %d.", f->name,
                       QUERY_VALUES);
    return slice_copy(value, f->out + (size_t)(*n)++ * f->cap, f->cap) ? ERR_OK : ERR_INTERNAL;
}

static enum err_code add_values(const struct query_field *f, struct slice text, struct err *err)
{
    enum err_code code = ERR_OK;
    struct slice one;
    bool more = true;

    while (code == ERR_OK && more) {
        more = slice_cut(text, ',', &one, &text);
        code = add_value(f, slice_trim(one), err);
    }
    return code;
}

/* Whether a parameter of this name is meant; *bracketed: "name[]". */
static bool names(const struct reading *r, const struct query_field *f, const char *name)
{
    size_t length = strlen(f->name);

    if ((f->flags & QUERY_PLATFORM) != 0 && !r->platform)
        return false;
    return strncmp(name, f->name, length) == 0 &&
           (name[length] == '\0' || (f->n != NULL && strcmp(name + length, "[]") == 0));
}

static enum err_code read_one(struct reading *r, const char *name, const char *value, struct err *err)
{
    struct slice text = slice_from(value);

    if (!utf8_valid(text))
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': it is not UTF-8.", name);
    for (size_t i = 0; i < r->n; i++) {
        const struct query_field *f = &r->fields[i];

        if (!names(r, f, name))
            continue;
        if (f->n != NULL)
            return (f->flags & QUERY_WHOLE) != 0 ? add_value(f, text, err) : add_values(f, text, err);
        if ((r->seen & UINT32_C(1) << i) != 0)
            return err_set(err, ERR_DUPLICATE_PARAMETER, name, "Duplicate parameter: '%s'.", name);
        r->seen |= UINT32_C(1) << i;
        return add_value(f, text, err);
    }
    return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
}

enum err_code query_read(struct slice query, bool platform, const struct query_field *fields, size_t n, struct err *err)
{
    struct reading r = {fields, n, platform, 0};
    char name[NAME], value[VALUE];
    bool bad = false;

    TG_ASSERT(n <= QUERY_FIELDS);
    for (size_t i = 0; i < n; i++) {
        fields[i].out[0] = '\0';
        if (fields[i].n != NULL)
            *fields[i].n = 0;
    }
    while (front_query_next(&query, name, sizeof(name), value, sizeof(value), &bad)) {
        enum err_code code = bad ? err_set(err, ERR_INVALID_VALUE, NULL, "We could not read the query of your request.")
                                 : read_one(&r, name, value, err);

        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

/* ---- values ---- */

static int shown(const char *text)
{
    return (int)utf8_head(slice_from(text), SHOWN).len;
}

enum err_code query_time(const char *name, const char *text, int64_t *out, struct err *err)
{
    if (text[0] == '\0' || clock_parse(slice_from(text), out))
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, name,
                   "Invalid value for '%s': expected a time such as '2030-01-31T12:00:00Z' or Unix seconds, but got "
                   "'%.*s' instead.",
                   name, shown(text), text);
}

/* A minus makes it no less an integer. */
static bool is_integer(struct slice text)
{
    unsigned long long number;
    struct slice digits = slice_starts(text, SLICE("-")) ? (struct slice){text.p + 1, text.len - 1} : text;

    if (slice_to_u64(digits, &number))
        return true;
    for (size_t i = 0; i < digits.len; i++) {
        if (digits.p[i] < '0' || digits.p[i] > '9')
            return false;
    }
    return digits.len > 0 && digits.p[0] != '0';
}

enum err_code query_int(const char *name, const char *text, int min, int max, int *out, struct err *err)
{
    unsigned long long number;

    if (text[0] == '\0')
        return ERR_OK;
    if (!is_integer(slice_from(text)))
        return err_set(err, ERR_INVALID_TYPE, name,
                       "Invalid type for '%s': expected an integer, but got '%.*s' instead.", name, shown(text), text);
    if (text[0] == '-' || (slice_to_u64(slice_from(text), &number) && number < (unsigned long long)min))
        return err_set(err, ERR_INTEGER_BELOW_MIN, name,
                       "Invalid '%s': integer below minimum value. Expected a value >= %d, but got %.*s instead.", name,
                       min, shown(text), text);
    if (!slice_to_u64(slice_from(text), &number) || number > (unsigned long long)max)
        return err_set(err, ERR_INTEGER_ABOVE_MAX, name,
                       "Invalid '%s': integer above maximum value. Expected a value <= %d, but got %.*s instead.", name,
                       max, shown(text), text);
    *out = (int)number;
    return ERR_OK;
}

enum err_code query_choice(const char *name, const char *text, const char *const *choices, int *out, struct err *err)
{
    struct buf list;
    enum err_code code;

    if (text[0] == '\0')
        return ERR_OK;
    buf_init(&list, LIMIT_ERROR_MESSAGE);
    for (int i = 0; choices[i] != NULL; i++) {
        bool last = choices[i + 1] == NULL;

        if (strcmp(choices[i], text) == 0) {
            *out = i;
            buf_dispose(&list);
            return ERR_OK;
        }
        buf_printf(&list, "%s'%s'", i == 0 ? "" : !last ? ", " : i == 1 ? " and " : ", and ", choices[i]);
    }
    code = err_set(err, ERR_INVALID_VALUE, name, "Invalid value: '%.*s'. Supported values are: %.*s.", shown(text),
                   text, (int)list.len, list.p);
    buf_dispose(&list);
    return code;
}
