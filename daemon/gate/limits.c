/* limits.c - reading and writing the limits object. Faults are named in the order of the table, an unknown member
 * first: a typo must never pass as "no limit". Pure; any thread. */
#include "limits.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/base/json.h"
#include "daemon/base/utf8.h"

enum { SHOWN = 40 /* bytes of a name or value that a message repeats */ };

static const struct {
    const char *name;
    int64_t greatest;
} kinds[LIMITS_KINDS] = {
    [LIMITS_REQUESTS_MINUTE] = {"requests_per_minute", LIMITS_RATE_MAX},
    [LIMITS_IMAGES_MINUTE] = {"images_per_minute", LIMITS_RATE_MAX},
    [LIMITS_IMAGES_DAY] = {"images_per_day", LIMITS_RATE_MAX},
    [LIMITS_CONCURRENT] = {"concurrent_requests", LIMITS_CONCURRENT_MAX},
};

const char *limits_name(enum limits_kind kind)
{
    return kinds[kind].name;
}

int64_t limits_greatest(enum limits_kind kind)
{
    return kinds[kind].greatest;
}

bool limits_any(const struct limits *limits)
{
    for (int i = 0; i < LIMITS_KINDS; i++)
        if (limits->of[i] != 0)
            return true;
    return false;
}

/* ---- reading ---- */

struct place {
    char text[LIMIT_ERROR_PARAM];
};

static struct place member_of(const char *name, const char *member)
{
    struct slice shown = utf8_head(slice_from(member), SHOWN);
    struct place p;

    (void)snprintf(p.text, sizeof(p.text), "%.20s.%.*s", name, (int)shown.len, shown.p);
    return p;
}

static enum err_code not_an_object(const char *name, const char *got, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, name, "Invalid type for '%s': expected an object, but got %s instead.", name,
                   got);
}

static enum err_code refuse_unknown(const char *name, struct json_object *object, struct err *err)
{
    const char *names[LIMITS_KINDS + 1] = {NULL};
    struct err unknown = {0};
    struct place place;

    for (int i = 0; i < LIMITS_KINDS; i++)
        names[i] = kinds[i].name;
    if (json_only(object, names, &unknown) == ERR_OK)
        return ERR_OK;
    place = member_of(name, unknown.param);
    return err_set(err, unknown.code, place.text, "Unknown parameter: '%s'.", place.text);
}

/* The getter's fault, in words that name the whole path. */
static enum err_code refuse_figure(const char *name, enum limits_kind kind, struct json_object *object,
                                   enum err_code code, struct err *err)
{
    struct place place = member_of(name, kinds[kind].name);
    struct json_object *value = json_object_object_get(object, kinds[kind].name);

    if (code == ERR_INVALID_TYPE)
        return err_set(err, code, place.text, "Invalid type for '%s': expected an integer, but got %s instead.",
                       place.text, json_kind(value));
    return err_set(
        err, code, place.text, "Invalid '%s': integer %s value. Expected a value %s %" PRId64 ", but got %.*s instead.",
        place.text, code == ERR_INTEGER_BELOW_MIN ? "below minimum" : "above maximum",
        code == ERR_INTEGER_BELOW_MIN ? ">=" : "<=", code == ERR_INTEGER_BELOW_MIN ? (int64_t)1 : kinds[kind].greatest,
        SHOWN, json_object_to_json_string(value));
}

static enum err_code read_members(const char *name, struct json_object *object, struct limits *out, struct err *err)
{
    enum err_code code = refuse_unknown(name, object, err);
    struct err fault;

    for (int i = 0; i < LIMITS_KINDS && code == ERR_OK; i++) {
        code = json_get_int(object, kinds[i].name, 1, kinds[i].greatest, &out->of[i], NULL, &fault);
        if (code != ERR_OK)
            return refuse_figure(name, (enum limits_kind)i, object, code, err);
    }
    return code;
}

enum err_code limits_parse(const char *name, struct slice text, struct limits *out, struct err *err)
{
    struct limits limits = {{0}};
    struct json_object *object = NULL;
    struct err fault = {0};
    enum err_code code = ERR_OK;

    if (text.len > 0 && json_read(text, &object, &fault) != ERR_OK) {
        struct place place = member_of(name, fault.param);

        if (fault.code == ERR_DUPLICATE_PARAMETER)
            return err_set(err, fault.code, place.text, "Duplicate parameter: '%s'.", place.text);
        return not_an_object(name, "something else", err);
    }
    if (object != NULL)
        code = read_members(name, object, &limits, err);
    json_object_put(object);
    if (code == ERR_OK)
        *out = limits;
    return code;
}

/* ---- writing ---- */

void limits_format(const struct limits *limits, struct buf *out)
{
    const char *comma = "";

    buf_append_char(out, '{');
    for (int i = 0; i < LIMITS_KINDS; i++) {
        if (limits->of[i] == 0)
            continue;
        buf_printf(out, "%s\"%s\":%" PRId64, comma, kinds[i].name, limits->of[i]);
        comma = ",";
    }
    buf_append_char(out, '}');
}

struct limits limits_stricter(const struct limits *a, const struct limits *b)
{
    struct limits least = *a;

    for (int i = 0; i < LIMITS_KINDS; i++)
        if (b->of[i] != 0 && (least.of[i] == 0 || b->of[i] < least.of[i]))
            least.of[i] = b->of[i];
    return least;
}
