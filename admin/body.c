/* body.c - bodies of admin requests, read by tables of fields.
 *
 * Order of faults: an unknown member first (a typo must never pass as "left out"), then the members in the table's
 * order. The target is changed member by member; callers give a copy and throw it away on error. One call's loop. */
#include "body.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/money.h"
#include "daemon/base/utf8.h"
#include "daemon/billing/budget.h"
#include "daemon/gate/limits.h"
#include "daemon/gate/policy.h"

enum { FIELDS = 24, SHOWN = 40 };

enum err_code body_wrong_type(const char *name, const char *expected, struct json_object *value, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, name, "Invalid type for '%s': expected %s, but got %s instead.", name,
                   expected, json_kind(value));
}

static bool has_control(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f)
            return true;
    }
    return false;
}

enum err_code body_text(const char *name, struct json_object *value, size_t min, char *out, size_t cap, struct err *err)
{
    struct slice text;

    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    text = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    if (text.len < min)
        return err_set(
            err, ERR_STRING_TOO_SHORT, name,
            "Invalid '%s': string too short. Expected a string with minimum length %zu, but got a string with "
            "length %zu instead.",
            name, min, text.len);
    if (text.len >= cap)
        return err_set(
            err, ERR_STRING_TOO_LONG, name,
            "Invalid '%s': string too long. Expected a string with maximum length %zu, but got a string with "
            "length %zu instead.",
            name, cap - 1, text.len);
    if (!utf8_valid(text) || has_control(text))
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': the string holds control characters.", name);
    return slice_copy(text, out, cap) ? ERR_OK : ERR_INTERNAL;
}

static enum err_code out_of_range(const char *name, const char *text, const char *min, const char *max, struct err *err)
{
    return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': expected %s to %s, but got %s instead.", name,
                   min, max, text);
}

/* A decimal string, scaled. */
static enum err_code read_decimal(const struct body_field *f, struct json_object *value, int digits, int64_t *out,
                                  struct err *err)
{
    char text[MONEY_TEXT], min[MONEY_TEXT], max[MONEY_TEXT];
    struct slice given;
    enum err_code code;

    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(f->name, "a decimal string", value, err);
    given = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    code = money_parse(given, digits, f->name, out, err);
    if (code == ERR_OK && *out == 0 && (f->flags & BODY_NONZERO) != 0)
        return err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value for '%s': it must not be zero.", f->name);
    if (code != ERR_OK || (*out >= f->min && *out <= f->max))
        return code;
    return out_of_range(f->name, money_format_scaled(*out, digits, text), money_format_scaled(f->min, digits, min),
                        money_format_scaled(f->max, digits, max), err);
}

static enum err_code read_time(const char *name, struct json_object *value, int64_t *out, struct err *err)
{
    unsigned long long seconds;
    struct slice text;

    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    text = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    if (slice_to_u64(text, &seconds) || !clock_parse(text, out)) /* Unix seconds are for queries */
        return err_set(
            err, ERR_INVALID_VALUE, name,
            "Invalid value for '%s': expected a time such as '2030-01-31T12:00:00Z', but got '%.*s' instead.", name,
            (int)utf8_head(text, SHOWN).len, text.p);
    if (*out <= clock_wall())
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': the time is past.", name);
    return ERR_OK;
}

enum err_code body_choose(const struct body_field *f, struct json_object *value, int *out, struct err *err)
{
    struct buf names;
    enum err_code code;

    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(f->name, "a string", value, err);
    buf_init(&names, LIMIT_ERROR_MESSAGE);
    for (int i = 0; f->choices[i].name != NULL; i++) {
        bool last = f->choices[i + 1].name == NULL;

        if (strcmp(f->choices[i].name, json_object_get_string(value)) == 0) {
            *out = f->choices[i].value;
            buf_dispose(&names);
            return ERR_OK;
        }
        buf_printf(&names, "%s'%s'", i == 0 ? "" : !last ? ", " : i == 1 ? " and " : ", and ", f->choices[i].name);
    }
    code = err_set(err, ERR_INVALID_VALUE, f->name, "Invalid value: '%.*s'. Supported values are: %.*s.",
                   (int)utf8_head(slice_from(json_object_get_string(value)), SHOWN).len, json_object_get_string(value),
                   (int)names.len, names.p);
    buf_dispose(&names);
    return code;
}

static enum err_code read_policy(const char *name, struct json_object *value, char **out, struct err *err)
{
    const char *text;
    enum err_code code;

    if (!json_object_is_type(value, json_type_object))
        return body_wrong_type(name, "an object", value, err);
    text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (strlen(text) >= RECORD_JSON)
        return err_set(err, ERR_STRING_TOO_LONG, name, "Invalid '%s': it takes more than %d bytes.", name,
                       RECORD_JSON - 1);
    code = policy_check(slice_from(text), err);
    if (code != ERR_OK)
        return code;
    free(*out);
    *out = json_object_object_length(value) > 0 ? mem_strdup(text) : NULL;
    return ERR_OK;
}

static enum err_code read_budgets(const char *name, struct json_object *value, char **out, struct err *err)
{
    struct budget_list list;
    struct buf text;
    enum err_code code = budget_list_parse(
        name,
        slice_from(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)),
        &list, err);

    if (code != ERR_OK)
        return code;
    buf_init(&text, RECORD_JSON);
    budget_list_format(&list, &text);
    buf_append_char(&text, '\0');
    TG_ASSERT(!text.full);
    free(*out);
    *out = list.n > 0 ? mem_strdup(text.p) : NULL;
    buf_dispose(&text);
    return ERR_OK;
}

static enum err_code read_limits(const char *name, struct json_object *value, char **out, struct err *err)
{
    struct limits limits;
    struct buf text;
    enum err_code code = limits_parse(
        name,
        slice_from(json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)),
        &limits, err);

    if (code != ERR_OK)
        return code;
    buf_init(&text, LIMITS_TEXT);
    limits_format(&limits, &text);
    buf_append_char(&text, '\0');
    TG_ASSERT(!text.full);
    free(*out);
    *out = limits_any(&limits) ? mem_strdup(text.p) : NULL;
    buf_dispose(&text);
    return ERR_OK;
}

static enum err_code set_value(struct admin_call *call, struct json_object *object, const struct body_field *f,
                               struct json_object *value, void *target, struct err *err)
{
    char *at = (char *)target + f->offset;
    int64_t number = 0;
    enum err_code code;

    switch (f->type) {
    case BODY_TEXT:
        return body_text(f->name, value, (size_t)f->min, at, f->cap, err);
    case BODY_MONEY:
        return read_decimal(f, value, MONEY_NANO_DIGITS, (int64_t *)(void *)at, err);
    case BODY_PERCENT:
        return read_decimal(f, value, MONEY_PPM_DIGITS, (int64_t *)(void *)at, err);
    case BODY_RATE:
        return read_decimal(f, value, MONEY_PICO_DIGITS, (int64_t *)(void *)at, err);
    case BODY_INT:
        return json_get_int(object, f->name, f->min, f->max, (int64_t *)(void *)at, NULL, err);
    case BODY_SECONDS:
        code = json_get_int(object, f->name, f->min, f->max, &number, NULL, err);
        *(int64_t *)(void *)at = number * CLOCK_SECOND;
        return code;
    case BODY_TIME:
        return read_time(f->name, value, (int64_t *)(void *)at, err);
    case BODY_CHOICE:
        return body_choose(f, value, (int *)(void *)at, err);
    case BODY_POLICY:
        return read_policy(f->name, value, (char **)(void *)at, err);
    case BODY_BUDGETS:
        return read_budgets(f->name, value, (char **)(void *)at, err);
    case BODY_LIMITS:
        if (!json_object_is_type(value, json_type_object))
            return body_wrong_type(f->name, "an object", value, err);
        return read_limits(f->name, value, (char **)(void *)at, err);
    case BODY_UNSUPPORTED:
        return err_set(err, ERR_UNKNOWN_PARAMETER, f->name, "Unknown parameter: '%s' is not supported by this version.",
                       f->name);
    case BODY_OWN:
        return f->read(call, f->name, value, target, err);
    case BODY_ID:
    case BODY_ARRAY:
    case BODY_OBJECT:
    case BODY_MAP:
        break; /* these only describe */
    }
    TG_ASSERT(!"a field type");
    return ERR_INTERNAL;
}

/* An explicit null, or a member left out of something new. */
static enum err_code set_default(struct admin_call *call, const struct body_field *f, void *target, struct err *err)
{
    char *at = (char *)target + f->offset;

    switch (f->type) {
    case BODY_TEXT:
        at[0] = '\0';
        return ERR_OK;
    case BODY_MONEY:
    case BODY_PERCENT:
    case BODY_RATE:
    case BODY_INT:
    case BODY_TIME:
        *(int64_t *)(void *)at = f->otherwise;
        return ERR_OK;
    case BODY_SECONDS:
        *(int64_t *)(void *)at = f->otherwise * CLOCK_SECOND;
        return ERR_OK;
    case BODY_CHOICE:
        *(int *)(void *)at = (int)f->otherwise;
        return ERR_OK;
    case BODY_POLICY:
    case BODY_BUDGETS:
    case BODY_LIMITS:
        free(*(char **)(void *)at);
        *(char **)(void *)at = NULL;
        return ERR_OK;
    case BODY_UNSUPPORTED:
        return ERR_OK;
    case BODY_OWN:
        return f->read(call, f->name, NULL, target, err);
    case BODY_ID:
    case BODY_ARRAY:
    case BODY_OBJECT:
    case BODY_MAP:
        break; /* these only describe */
    }
    return ERR_OK;
}

static enum err_code read_field(struct admin_call *call, struct json_object *object, const struct body_field *f,
                                bool create, void *target, struct err *err)
{
    struct json_object *value = NULL;
    bool named = json_object_object_get_ex(object, f->name, &value);

    if (named && !create && (f->flags & BODY_FIXED) != 0)
        return err_set(err, ERR_INVALID_VALUE, f->name, "'%s' cannot be changed.", f->name);
    if (named && (f->flags & BODY_PLATFORM) != 0 && call->who.tenant_row != 0)
        return err_set(err, ERR_FORBIDDEN, f->name, "Only the platform may set '%s'.", f->name);
    if (value != NULL)
        return set_value(call, object, f, value, target, err);
    if ((f->flags & BODY_REQUIRED) != 0 && (create || named))
        return err_set(err, ERR_MISSING_PARAMETER, f->name, "Missing required parameter: '%s'.", f->name);
    return create || named ? set_default(call, f, target, err) : ERR_OK;
}

enum err_code body_read_object(struct admin_call *call, struct json_object *object, const struct body_field *fields,
                               size_t n, bool create, void *target, struct err *err)
{
    const char *names[FIELDS + 1] = {NULL};
    enum err_code code;

    TG_ASSERT(n <= FIELDS);
    for (size_t i = 0; i < n; i++)
        names[i] = fields[i].name;
    code = json_only(object, names, err);
    for (size_t i = 0; i < n && code == ERR_OK; i++)
        code = read_field(call, object, &fields[i], create, target, err);
    return code;
}

enum err_code body_read(struct admin_call *call, const struct body_field *fields, size_t n, bool create, void *target,
                        struct err *err)
{
    return body_read_object(call, call->body, fields, n, create, target, err);
}

enum err_code body_record(struct admin_call *call, enum record_kind kind, const char *word, const char *name,
                          struct json_object *value, const void **record, struct err *err)
{
    struct slice text;
    struct id id;

    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    text = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    *record = id_parse(record_prefix(kind), text, &id) ? catalog_by_id(call->catalog, kind, id) : NULL;
    return *record != NULL ? ERR_OK : admin_no_such(err, word, name, text);
}

enum err_code body_tenant(struct admin_call *call, const char *name, struct json_object *value, int64_t *row,
                          struct err *err)
{
    const void *tenant;
    enum err_code code;

    *row = call->who.tenant_row;
    if (value == NULL)
        return *row != 0 ? ERR_OK
                         : err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    code = body_record(call, RECORD_TENANT, "tenant", name, value, &tenant, err);
    if (code != ERR_OK)
        return code;
    if (!noun_sees(&call->who, &noun_tenant, tenant))
        return admin_no_such(err, "tenant", name, slice_from(json_object_get_string(value)));
    *row = ((const struct record *)tenant)->row;
    return ERR_OK;
}

const struct body_choice body_books[] = {{"openai-list", 0}, {NULL, 0}};

enum err_code body_book(struct admin_call *call, enum price_kind kind, int64_t tenant_row, const char *name,
                        struct json_object *value, int64_t *row, struct err *err)
{
    const struct price_book *standard = catalog_book(call->catalog, 0);
    const struct book *book;
    const void *found;
    enum err_code code;

    *row = 0;
    if (value == NULL)
        return ERR_OK;
    if (standard != NULL && json_object_is_type(value, json_type_string) &&
        strcmp(json_object_get_string(value), standard->name) == 0) {
        *row = standard->row;
        return ERR_OK;
    }
    code = body_record(call, RECORD_BOOK, "price book", name, value, &found, err);
    if (code != ERR_OK)
        return code;
    book = found;
    if ((book->tenant_row != 0 && book->tenant_row != tenant_row) ||
        (book->prices->kind != kind && book->prices != standard && !book_sees(call, &book->super)))
        return admin_no_such(err, "price book", name, slice_from(json_object_get_string(value)));
    if (book->prices->kind != kind && book->prices != standard)
        return err_set(err, ERR_INVALID_VALUE, name,
                       "Invalid value for '%s': expected a price book of kind '%s', but its kind is '%s'.", name,
                       price_kind_name(kind), price_kind_name(book->prices->kind));
    *row = book->super.row;
    return ERR_OK;
}
