/* rules.c - checking a query by the rows of queries.def, before the route's handler reads it.
 *
 * A parameter that was misspelt must not answer with everything, so unknown names are refused, as are empty values and
 * those that stand there twice. No state; any thread. */
#include "rules.h"

#include "daemon/base/utf8.h"
#include "daemon/front/call.h"
#include "page.h"
#include "query.h"

enum { NAME = 64, VALUE = 4096, PARAMETERS = 32, SHOWN = 40 };

const struct param_rule param_rules[] = {
#define QUERY(route, name, type, flags, min, max, extra) {RULE_##route, name, PARAM_##type, flags, min, max, extra},
#include "queries.def"
#undef QUERY
    {RULES, NULL, PARAM_TEXT, 0, 0, 0, NULL},
};

static const struct body_rule bodies[RULES] = {
#define BODY(route, table, create) [RULE_##route] = {&table, create},
#include "bodies.def"
#undef BODY
};

const struct body_rule *rules_body(enum rule_name route)
{
    return &bodies[route];
}

/* ---- values ---- */

static int shown(struct slice value)
{
    return (int)utf8_head(value, SHOWN).len;
}

static enum err_code check_text(const struct param_rule *q, struct slice value, struct err *err)
{
    if ((int64_t)value.len > q->max)
        return err_set(err, ERR_STRING_TOO_LONG, q->name,
                       "Invalid '%s': string too long. Expected a string with maximum length %lld, but got a string "
                       "with length %zu instead.",
                       q->name, (long long)q->max, value.len);
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char)value.p[i] < 0x20 || value.p[i] == 0x7f)
            return err_set(err, ERR_INVALID_VALUE, q->name, "Invalid '%s': the string holds control characters.",
                           q->name);
    }
    return ERR_OK;
}

/* A minus makes it no less an integer, nor does its length. */
static bool is_integer(struct slice value)
{
    size_t i = value.len > 1 && value.p[0] == '-' ? 1 : 0;

    for (; i < value.len; i++) {
        if (value.p[i] < '0' || value.p[i] > '9')
            return false;
    }
    return true;
}

static enum err_code check_int(const struct param_rule *q, struct slice value, struct err *err)
{
    unsigned long long number = 0;

    if (!is_integer(value))
        return err_set(err, ERR_INVALID_TYPE, q->name,
                       "Invalid type for '%s': expected an integer, but got '%.*s' instead.", q->name, shown(value),
                       value.p);
    if (value.p[0] == '-' || (slice_to_u64(value, &number) && number < (unsigned long long)q->min))
        return err_set(err, ERR_INTEGER_BELOW_MIN, q->name,
                       "Invalid '%s': integer below minimum value. Expected a value >= %lld, but got %.*s instead.",
                       q->name, (long long)q->min, shown(value), value.p);
    if (!slice_to_u64(value, &number) || number > (unsigned long long)q->max)
        return err_set(err, ERR_INTEGER_ABOVE_MAX, q->name,
                       "Invalid '%s': integer above maximum value. Expected a value <= %lld, but got %.*s instead.",
                       q->name, (long long)q->max, shown(value), value.p);
    return ERR_OK;
}

static enum err_code check_choice(const struct param_rule *q, struct slice value, struct err *err)
{
    struct slice rest = slice_from(q->extra), word;
    struct buf names;
    enum err_code code;
    bool more = true;

    buf_init(&names, LIMIT_ERROR_MESSAGE);
    while (more) {
        more = slice_cut(rest, '|', &word, &rest);
        if (slice_eq(word, value)) {
            buf_dispose(&names);
            return ERR_OK;
        }
        buf_printf(&names, "%s'%.*s'", names.len == 0 ? "" : more ? ", " : " and ", (int)word.len, word.p);
    }
    code = err_set(err, ERR_INVALID_VALUE, q->name, "Invalid value: '%.*s'. Supported values are: %.*s.", shown(value),
                   value.p, (int)names.len, names.p);
    buf_dispose(&names);
    return code;
}

static enum err_code check_cursor(const struct param_rule *q, struct slice value, struct err *err)
{
    struct id id;

    if (id_parse(q->extra, value, &id) && !id_is_zero(id))
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, q->name, "Invalid value for '%s': '%.*s' is not a cursor of this list.",
                   q->name, shown(value), value.p);
}

/* <value> ends with a NUL where there is one value alone, as of a TIME. */
static enum err_code check_value(const struct param_rule *q, struct slice value, struct err *err)
{
    int64_t number = 0;

    if (value.len == 0)
        return err_set(err, ERR_STRING_TOO_SHORT, q->name,
                       "Invalid '%s': empty string. Leave the parameter out, or give it a value.", q->name);
    switch (q->type) {
    case PARAM_TEXT:
        return check_text(q, value, err);
    case PARAM_INT:
        return check_int(q, value, err);
    case PARAM_TIME:
        return query_time(q->name, value.p, &number, err);
    case PARAM_CHOICE:
        return check_choice(q, value, err);
    case PARAM_ID:
        return ERR_OK;
    case PARAM_CURSOR:
        return check_cursor(q, value, err);
    }
    TG_ASSERT(!"a type of parameter");
    return ERR_INTERNAL;
}

/* A comma list is as many values; *n counts them over the whole query. */
static enum err_code check_values(const struct param_rule *q, struct slice text, int *n, struct err *err)
{
    enum err_code code = ERR_OK;
    bool more = (q->flags & PARAM_MANY) != 0;
    struct slice one;

    if (!more)
        return check_value(q, text, err);
    while (more && code == ERR_OK) {
        more = slice_cut(text, ',', &one, &text);
        code = check_value(q, slice_trim(one), err);
        if (code == ERR_OK && ++*n > QUERY_VALUES)
            code = err_set(err, ERR_INVALID_VALUE, q->name, "Invalid '%s': too many values. Expected at most %d.",
                           q->name, QUERY_VALUES);
    }
    return code;
}

/* ---- the whole ---- */

/* A rule's name, or with MANY its name[]. */
static bool is_called(const struct param_rule *q, struct slice name)
{
    size_t len = strlen(q->name);

    if (slice_eq_str(name, q->name))
        return true;
    return (q->flags & PARAM_MANY) != 0 && name.len == len + 2 && memcmp(name.p, q->name, len) == 0 &&
           memcmp(name.p + len, "[]", 2) == 0;
}

struct reading {
    enum rule_name route;
    bool tenant;
    uint32_t seen;     /* a bit a rule of the route, in their order */
    int n[PARAMETERS]; /* values of each */
};

static enum err_code read_one(struct reading *r, const char *name, const char *value, struct err *err)
{
    unsigned place = 0;

    for (const struct param_rule *q = param_rules; q->name != NULL; q++) {
        if (q->route != r->route)
            continue;
        TG_ASSERT(place < PARAMETERS);
        if (!is_called(q, slice_from(name)) || (r->tenant && (q->flags & PARAM_PLATFORM) != 0)) {
            place++;
            continue;
        }
        if ((r->seen & 1u << place) != 0 && (q->flags & PARAM_MANY) == 0)
            return err_set(err, ERR_DUPLICATE_PARAMETER, q->name, "Duplicate parameter: '%s'.", q->name);
        r->seen |= 1u << place;
        return check_values(q, slice_from(value), &r->n[place], err);
    }
    return err_set(err, ERR_UNKNOWN_PARAMETER, name, "Unknown parameter: '%s'.", name);
}

static enum err_code check_required(const struct reading *r, struct err *err)
{
    unsigned place = 0;

    for (const struct param_rule *q = param_rules; q->name != NULL; q++) {
        if (q->route != r->route)
            continue;
        if ((q->flags & PARAM_REQUIRED) != 0 && (r->seen & 1u << place) == 0)
            return err_set(err, ERR_MISSING_PARAMETER, q->name, "Missing required parameter: '%s'.", q->name);
        place++;
    }
    return ERR_OK;
}

enum err_code rules_check_query(enum rule_name route, bool tenant, struct slice query, struct err *err)
{
    struct reading r = {.route = route, .tenant = tenant};
    char name[NAME], value[VALUE];
    bool bad = false;

    while (front_query_next(&query, name, sizeof(name), value, sizeof(value), &bad)) {
        enum err_code code;

        if (bad || !utf8_valid(slice_from(name)) || !utf8_valid(slice_from(value)))
            return err_set(err, ERR_INVALID_VALUE, NULL, "We could not read the query of your request.");
        code = read_one(&r, name, value, err);
        if (code != ERR_OK)
            return code;
    }
    return check_required(&r, err);
}
