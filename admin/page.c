/* page.c - the query of a list, read strictly: a filter that was misspelt must not answer with everything. No state. */
#include "page.h"

#include "daemon/base/utf8.h"
#include "daemon/front/call.h"

enum { NAME = 64, VALUE = 4096 };

struct reading {
    const char *prefix;
    const struct page_field *fields;
    size_t n;
    unsigned seen; /* a bit a field, then limit, then after */
    struct page *out;
};

static enum err_code mark(struct reading *r, size_t place, const char *name, struct err *err)
{
    if ((r->seen & 1u << place) != 0)
        return err_set(err, ERR_DUPLICATE_PARAMETER, name, "Duplicate parameter: '%s'.", name);
    r->seen |= 1u << place;
    return ERR_OK;
}

static enum err_code read_limit(struct page *out, const char *value, struct err *err)
{
    unsigned long long number;

    if (!slice_to_u64(slice_from(value), &number))
        return err_set(err, ERR_INVALID_TYPE, "limit",
                       "Invalid type for 'limit': expected an integer, but got '%s' instead.", value);
    if (number < 1)
        return err_set(err, ERR_INTEGER_BELOW_MIN, "limit",
                       "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got %s instead.",
                       value);
    if (number > PAGE_LIMIT_MAX)
        return err_set(err, ERR_INTEGER_ABOVE_MAX, "limit",
                       "Invalid 'limit': integer above maximum value. Expected a value <= %d, but got %s instead.",
                       PAGE_LIMIT_MAX, value);
    out->limit = (int)number;
    return ERR_OK;
}

static enum err_code read_after(const struct reading *r, const char *value, struct err *err)
{
    if (!id_parse(r->prefix, slice_from(value), &r->out->after) || id_is_zero(r->out->after))
        return err_set(err, ERR_INVALID_VALUE, "after", "Invalid value for 'after': '%s' is not a cursor of this list.",
                       value);
    return ERR_OK;
}

static enum err_code read_field(struct reading *r, const char *name, const char *value, struct err *err)
{
    enum err_code code;

    for (size_t i = 0; i < r->n; i++) {
        const struct page_field *field = &r->fields[i];

        if (strcmp(name, field->name) != 0)
            continue;
        code = mark(r, i, name, err);
        if (code == ERR_OK && value[0] == '\0')
            code = err_set(err, ERR_STRING_TOO_SHORT, name,
                           "Invalid '%s': empty string. Leave the parameter out, or give it a value.", name);
        if (code == ERR_OK && !slice_copy(slice_from(value), field->out, field->cap))
            code = err_set(err, ERR_STRING_TOO_LONG, name,
                           "Invalid '%s': string too long. Expected a string with maximum length %zu.", name,
                           field->cap - 1);
        return code;
    }
    return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
}

static enum err_code read_one(struct reading *r, const char *name, const char *value, struct err *err)
{
    enum err_code code;

    if (r->out != NULL && strcmp(name, "limit") == 0) {
        code = mark(r, r->n, name, err);
        return code != ERR_OK ? code : read_limit(r->out, value, err);
    }
    if (r->out != NULL && strcmp(name, "after") == 0) {
        code = mark(r, r->n + 1, name, err);
        return code != ERR_OK ? code : read_after(r, value, err);
    }
    return read_field(r, name, value, err);
}

enum err_code page_read(struct slice query, const char *prefix, const struct page_field *fields, size_t n,
                        struct page *out, struct err *err)
{
    struct reading r = {prefix, fields, n, 0, out};
    char name[NAME], value[VALUE];
    bool bad = false;

    TG_ASSERT(n <= PAGE_FIELDS);
    if (out != NULL)
        *out = (struct page){.limit = PAGE_LIMIT};
    for (size_t i = 0; i < n; i++)
        fields[i].out[0] = '\0';
    while (front_query_next(&query, name, sizeof(name), value, sizeof(value), &bad)) {
        bool readable = !bad && utf8_valid(slice_from(name)) && utf8_valid(slice_from(value));
        enum err_code code = !readable
                                 ? err_set(err, ERR_INVALID_VALUE, NULL, "We could not read the query of your request.")
                                 : read_one(&r, name, value, err);

        if (code != ERR_OK)
            return code;
    }
    return ERR_OK;
}

enum err_code page_seq(const struct page *page, int64_t *seq, struct err *err)
{
    *seq = id_is_zero(page->after) ? 0 : id_seq(page->after);
    if (*seq > 0 || id_is_zero(page->after))
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, "after", "Invalid value for 'after': it is not a cursor of this list.");
}
