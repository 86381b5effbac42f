/* describe.c - every route with its rules as JSON: what `help --routes` prints.
 *
 * Each member of a body and each parameter of a query comes with the JSON Schema that its rule amounts to; a test holds
 * admin/openapi.yaml against it, so that the document cannot say other than what is checked. What policies and budgets
 * look like is told by tables here, beside the parsers that read them. One thread. */
#include <inttypes.h>

#include "daemon/billing/budget.h"
#include "daemon/gate/limits.h"
#include "page.h"
#include "query.h"
#include "render.h"
#include "rules.h"

enum { DESCRIPTION = 1024 * 1024, PATTERN = 256, POLICY_N_MAX = 1000, POLICY_LIST_MAX = RECORD_JSON / 4 };

#define PLAIN_TEXT "^[^\\x00-\\x1f\\x7f]*$"
#define UNIX_SECONDS "^[0-9]{1,11}$"

/* ---- values whose parsers stand elsewhere ---- */

static const struct body_choice operations[] = {{"generations", 0}, {"edits", 0}, {"variations", 0}, {NULL, 0}};
static const struct body_field model_item = {.type = BODY_TEXT, .min = 1, .cap = LIMIT_MODEL};
static const struct body_field operation_item = {.type = BODY_CHOICE, .choices = operations};
static const struct body_field size_item = {
    .type = BODY_TEXT, .min = 1, .cap = LIMIT_SIZE, .pattern = "^(?:auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"};
static const struct body_field quality_item = {.type = BODY_TEXT, .min = 1, .cap = LIMIT_QUALITY};
static const struct body_field network_item = {.type = BODY_TEXT, .min = 2, .cap = 50, .pattern = "^[0-9A-Fa-f:./]+$"};
static const struct body_field policy_fields[] = {
    {.name = "models", .type = BODY_ARRAY, .min = 1, .max = POLICY_LIST_MAX, .item = &model_item},
    {.name = "operations", .type = BODY_ARRAY, .min = 1, .max = POLICY_LIST_MAX, .item = &operation_item},
    {.name = "sizes", .type = BODY_ARRAY, .min = 1, .max = POLICY_LIST_MAX, .item = &size_item},
    {.name = "qualities", .type = BODY_ARRAY, .min = 1, .max = POLICY_LIST_MAX, .item = &quality_item},
    {.name = "max_n", .type = BODY_INT, .min = 1, .max = POLICY_N_MAX},
    {.name = "ip_allow", .type = BODY_ARRAY, .min = 1, .max = POLICY_LIST_MAX, .item = &network_item},
};
static const struct body_table policy_members = BODY_TABLE(policy_fields);

static const struct body_field budget_fields[] = {
    {.name = "amount", .type = BODY_MONEY, .flags = BODY_REQUIRED, .max = BUDGET_AMOUNT_MAX},
    {.name = "window",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .min = 1,
     .cap = BUDGET_WINDOW_TEXT,
     .pattern = "^(?:day|week|month|lifetime|rolling:[1-9][0-9]{1,7}s)$"},
};
static const struct body_table budget_members = BODY_TABLE(budget_fields);
static const struct body_field budget = {.type = BODY_OBJECT, .members = &budget_members};
static const struct body_field budgets = {.type = BODY_ARRAY, .max = BUDGET_LIST, .item = &budget};

static const struct body_field limits_fields[] = {
    {.name = "requests_per_minute", .type = BODY_INT, .min = 1, .max = LIMITS_RATE_MAX},
    {.name = "images_per_minute", .type = BODY_INT, .min = 1, .max = LIMITS_RATE_MAX},
    {.name = "images_per_day", .type = BODY_INT, .min = 1, .max = LIMITS_RATE_MAX},
    {.name = "concurrent_requests", .type = BODY_INT, .min = 1, .max = LIMITS_CONCURRENT_MAX},
};
static const struct body_table limits_members = BODY_TABLE(limits_fields);

/* ---- patterns ---- */

static int64_t scale_of(int digits)
{
    int64_t scale = 1;

    while (digits-- > 0)
        scale *= 10;
    return scale;
}

/* Decimals from 0 to <max>, a power of ten, with at most so many digits behind the point. */
static void append_decimals(struct buf *out, int64_t max, int digits)
{
    int64_t whole = max / scale_of(digits);
    int places = 0;

    for (int64_t rest = whole; rest >= 10; rest /= 10)
        places++;
    TG_ASSERT(whole == scale_of(places) && max == whole * scale_of(digits));
    buf_printf(out, "(?:0|[1-9][0-9]{0,%d})(?:\\.[0-9]{1,%d})?|%" PRId64 "(?:\\.0{1,%d})?", places - 1, digits, whole,
               digits);
}

static void render_decimal(struct buf *out, const struct body_field *f, int digits)
{
    struct buf pattern;

    buf_init(&pattern, PATTERN);
    buf_append_str(&pattern, "^");
    if ((f->flags & BODY_NONZERO) != 0 || f->min > 0)
        buf_append_str(&pattern, "(?!-?0(?:\\.0+)?$)");
    buf_append_str(&pattern, "(?:");
    if (f->min < 0 && f->min == -f->max) {
        buf_append_str(&pattern, "-?(?:");
        append_decimals(&pattern, f->max, digits);
        buf_append_str(&pattern, ")");
    } else {
        if (f->min < 0) {
            buf_append_str(&pattern, "-(?:");
            append_decimals(&pattern, -f->min, digits);
            buf_append_str(&pattern, ")|");
        }
        append_decimals(&pattern, f->max, digits);
    }
    buf_append_str(&pattern, ")$");
    TG_ASSERT(!pattern.full);
    render_text(out, "pattern", buf_slice(&pattern));
    buf_dispose(&pattern);
}

/* An id, or one of the words that may stand in its place. */
static void render_id_pattern(struct buf *out, const char *prefix, const struct body_choice *words)
{
    struct buf pattern;

    buf_init(&pattern, PATTERN);
    buf_append_str(&pattern, "^");
    if (words != NULL)
        buf_append_str(&pattern, "(?:");
    for (; words != NULL && words->name != NULL; words++)
        buf_printf(&pattern, "%s|", words->name);
    buf_printf(&pattern, "%s_[0-9A-Za-z]{%d}%s$", prefix, ID_DIGITS, words != NULL ? ")" : "");
    TG_ASSERT(!pattern.full);
    render_text(out, "pattern", buf_slice(&pattern));
    buf_dispose(&pattern);
}

/* An id that there can be: not zero, and below 2^128. */
static void render_cursor_pattern(struct buf *out, const char *prefix)
{
    struct buf pattern;

    buf_init(&pattern, PATTERN);
    buf_printf(&pattern, "^%s_(?!0{%d}$)[0-6][0-9A-Za-z]{%d}$", prefix, ID_DIGITS, ID_DIGITS - 1);
    TG_ASSERT(!pattern.full);
    render_text(out, "pattern", buf_slice(&pattern));
    buf_dispose(&pattern);
}

/* ---- schemas ---- */

static void render_schema(struct buf *out, const char *name, const struct body_field *f, bool null);

static void render_type(struct buf *out, const char *type, bool null)
{
    if (!null) {
        render_text(out, "type", slice_from(type));
        return;
    }
    render_open(out, "type", '[');
    render_text(out, NULL, slice_from(type));
    render_text(out, NULL, SLICE("null"));
    render_close(out, ']');
}

static void render_string(struct buf *out, const struct body_field *f, bool null)
{
    render_type(out, "string", null);
    if (f->min > 0)
        render_int(out, "minLength", f->min);
    render_int(out, "maxLength", (int64_t)f->cap - 1);
    render_text(out, "pattern", slice_from(f->pattern != NULL ? f->pattern : PLAIN_TEXT));
}

static void render_choice(struct buf *out, const struct body_choice *choices, bool null)
{
    render_type(out, "string", null);
    render_open(out, "enum", '[');
    for (; choices->name != NULL; choices++)
        render_text(out, NULL, slice_from(choices->name));
    if (null)
        render_null(out, NULL);
    render_close(out, ']');
}

static void render_bounds(struct buf *out, const struct body_field *f, const char *least, const char *most)
{
    if (f->min > 0)
        render_int(out, least, f->min);
    render_int(out, most, f->max);
}

static void render_array(struct buf *out, const struct body_field *f, bool null)
{
    render_type(out, "array", null);
    render_bounds(out, f, "minItems", "maxItems");
    render_schema(out, "items", f->item, false);
}

static void render_map(struct buf *out, const struct body_field *f, bool null)
{
    struct body_field key = {.type = BODY_TEXT, .min = 1, .cap = f->cap};

    render_type(out, "object", null);
    render_bounds(out, f, "minProperties", "maxProperties");
    render_schema(out, "propertyNames", &key, false);
    render_schema(out, "additionalProperties", f->item, false);
}

static void render_object(struct buf *out, const struct body_table *table, bool null)
{
    render_type(out, "object", null);
    render_open(out, "properties", '{');
    for (const struct body_field *m = table->fields; m < table->fields + table->n; m++)
        render_schema(out, m->name, m, (m->flags & (BODY_REQUIRED | BODY_NOT_NULL)) == 0);
    render_close(out, '}');
    render_open(out, "required", '[');
    for (const struct body_field *m = table->fields; m < table->fields + table->n; m++) {
        if ((m->flags & BODY_REQUIRED) != 0)
            render_text(out, NULL, slice_from(m->name));
    }
    render_close(out, ']');
    render_bool(out, "additionalProperties", false);
}

static void render_integer(struct buf *out, const struct body_field *f, bool null)
{
    render_type(out, "integer", null);
    render_int(out, "minimum", f->min);
    render_int(out, "maximum", f->max);
}

static void render_members(struct buf *out, enum body_type type, const struct body_field *f, bool null)
{
    switch (type) {
    case BODY_TEXT:
        render_string(out, f, null);
        break;
    case BODY_MONEY:
    case BODY_PERCENT:
    case BODY_RATE:
        render_type(out, "string", null);
        render_decimal(out, f,
                       type == BODY_MONEY     ? MONEY_NANO_DIGITS
                       : type == BODY_PERCENT ? MONEY_PPM_DIGITS
                                              : MONEY_PICO_DIGITS);
        break;
    case BODY_INT:
    case BODY_SECONDS:
        render_integer(out, f, null);
        break;
    case BODY_TIME:
        render_type(out, "string", null);
        render_text(out, "format", SLICE("date-time"));
        break;
    case BODY_CHOICE:
        render_choice(out, f->choices, null);
        break;
    case BODY_POLICY:
        render_object(out, &policy_members, null);
        break;
    case BODY_BUDGETS:
        render_array(out, &budgets, null);
        break;
    case BODY_LIMITS:
        render_object(out, &limits_members, null);
        break;
    case BODY_UNSUPPORTED:
        render_text(out, "type", SLICE("null"));
        break;
    case BODY_ID:
        render_type(out, "string", null);
        render_id_pattern(out, f->prefix, f->choices);
        break;
    case BODY_ARRAY:
        render_array(out, f, null);
        break;
    case BODY_MAP:
        render_map(out, f, null);
        break;
    case BODY_OBJECT:
        render_object(out, f->members, null);
        break;
    case BODY_OWN:
        TG_ASSERT(!"a member that does not say what it reads");
    }
}

static void render_schema(struct buf *out, const char *name, const struct body_field *f, bool null)
{
    render_open(out, name, '{');
    render_members(out, f->type == BODY_OWN ? f->as : f->type, f, null);
    render_close(out, '}');
}

/* ---- bodies ---- */

static void render_field(struct buf *out, const struct body_field *f, bool create)
{
    bool required = (f->flags & BODY_REQUIRED) != 0;

    render_open(out, NULL, '{');
    render_text(out, "name", slice_from(f->name));
    render_bool(out, "required", required && create);
    render_bool(out, "fixed", (f->flags & BODY_FIXED) != 0);
    render_bool(out, "platform", (f->flags & BODY_PLATFORM) != 0);
    render_schema(out, "schema", f, !required && (f->flags & BODY_NOT_NULL) == 0);
    render_close(out, '}');
}

static void render_body(struct buf *out, enum rule_name route)
{
    const struct body_rule *rule = rules_body(route);

    if (rule->table == NULL) {
        render_null(out, "body");
        return;
    }
    render_open(out, "body", '{');
    render_bool(out, "create", rule->create);
    render_open(out, "fields", '[');
    for (size_t i = 0; i < rule->table->n; i++) {
        if (rule->create || (rule->table->fields[i].flags & BODY_FIXED) == 0)
            render_field(out, &rule->table->fields[i], rule->create);
    }
    render_close(out, ']');
    render_close(out, '}');
}

/* ---- queries ---- */

static void render_words(struct buf *out, const char *words)
{
    struct slice rest = slice_from(words), word;
    bool more = true;

    render_text(out, "type", SLICE("string"));
    render_open(out, "enum", '[');
    while (more) {
        more = slice_cut(rest, '|', &word, &rest);
        render_text(out, NULL, word);
    }
    render_close(out, ']');
}

static void render_any_time(struct buf *out)
{
    render_open(out, "anyOf", '[');
    render_open(out, NULL, '{');
    render_text(out, "type", SLICE("string"));
    render_text(out, "format", SLICE("date-time"));
    render_close(out, '}');
    render_open(out, NULL, '{');
    render_text(out, "type", SLICE("string"));
    render_text(out, "pattern", SLICE(UNIX_SECONDS));
    render_close(out, '}');
    render_close(out, ']');
}

static void render_query_members(struct buf *out, const struct param_rule *q)
{
    struct body_field text = {.min = q->min, .max = q->max, .cap = (size_t)q->max + 1, .pattern = q->extra};

    switch (q->type) {
    case PARAM_TEXT:
        render_string(out, &text, false);
        break;
    case PARAM_INT:
        render_integer(out, &text, false);
        break;
    case PARAM_TIME:
        render_any_time(out);
        break;
    case PARAM_CHOICE:
        render_words(out, q->extra);
        break;
    case PARAM_ID:
        render_text(out, "type", SLICE("string"));
        render_id_pattern(out, q->extra, NULL);
        break;
    case PARAM_CURSOR:
        render_text(out, "type", SLICE("string"));
        render_cursor_pattern(out, q->extra);
        break;
    }
}

static void render_query_schema(struct buf *out, const struct param_rule *q)
{
    bool many = (q->flags & PARAM_MANY) != 0;

    render_open(out, "schema", '{');
    if (many) {
        render_text(out, "type", SLICE("array"));
        render_int(out, "maxItems", QUERY_VALUES);
        render_open(out, "items", '{');
    }
    render_query_members(out, q);
    if (many)
        render_close(out, '}');
    render_close(out, '}');
}

static void render_query(struct buf *out, enum rule_name route)
{
    render_open(out, "query", '[');
    for (const struct param_rule *q = param_rules; q->name != NULL; q++) {
        if (q->route != route)
            continue;
        render_open(out, NULL, '{');
        render_text(out, "name", slice_from(q->name));
        render_bool(out, "required", (q->flags & PARAM_REQUIRED) != 0);
        render_bool(out, "many", (q->flags & PARAM_MANY) != 0);
        render_bool(out, "platform", (q->flags & PARAM_PLATFORM) != 0);
        render_query_schema(out, q);
        render_close(out, '}');
    }
    render_close(out, ']');
}

/* ---- routes ---- */

struct route {
    const char *method, *pattern, *action, *scope, *access; /* the last three NULL: no token needed */
    enum rule_name rule;
};

static const struct route routes[] = {
#define PLAIN(name, method, pattern, handler) {method, pattern, NULL, NULL, NULL, RULES},
#define ROUTE(name, method, pattern, action, handler, noun, scope, access)                                             \
    {method, pattern, action, #scope, #access, RULE_##name},
#include "routes.def"
#undef PLAIN
#undef ROUTE
};

static void render_lower(struct buf *out, const char *name, const char *text)
{
    char lower[LIMIT_NAME];
    size_t n = 0;

    for (; text[n] != '\0' && n < sizeof(lower) - 1; n++)
        lower[n] = (char)(text[n] >= 'A' && text[n] <= 'Z' ? text[n] + ('a' - 'A') : text[n]);
    render_text(out, name, (struct slice){lower, n});
}

static void render_route(struct buf *out, const struct route *r)
{
    render_open(out, NULL, '{');
    render_text(out, "method", slice_from(r->method));
    render_text(out, "path", slice_from(r->pattern));
    render_bool(out, "token", r->action != NULL);
    if (r->action != NULL) {
        render_text(out, "action", slice_from(r->action));
        render_lower(out, "scope", r->scope);
        render_lower(out, "access", r->access);
        render_query(out, r->rule);
        render_body(out, r->rule);
    }
    render_close(out, '}');
}

void rules_print(FILE *out)
{
    struct buf text;

    buf_init(&text, DESCRIPTION);
    render_open(&text, NULL, '{');
    render_open(&text, "routes", '[');
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        render_route(&text, &routes[i]);
    render_close(&text, ']');
    render_close(&text, '}');
    TG_ASSERT(!text.full);
    (void)fwrite(text.p, 1, text.len, out);
    (void)fputc('\n', out);
    buf_dispose(&text);
}
