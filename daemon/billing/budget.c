/* budget.c - reading and writing lists of budgets, and the arithmetic of their windows.
 *
 * Cells of one kind follow one another without gap or overlap: the days of a zone do (zone.h), weeks and months begin
 * with one of their days, and the cells of a rolling window are whole multiples of one length. Days that never were are
 * empty and no instant is in them.
 * Faults of a list are named in the order of the text. Sums saturate at the ends of int64_t. Pure; any thread. */
#include "budget.h"

#include <inttypes.h>
#include <stdio.h>

#include "daemon/base/clock.h"
#include "daemon/base/json.h"
#include "daemon/base/money.h"
#include "daemon/base/utf8.h"

enum {
    TEXT_MAX = 64 * 1024, /* bytes of a list's text: eight budgets take 600 */
    SHOWN = 40,           /* bytes of a bad value that a message repeats */
    WEEK_DAYS = 7
};

static const char rolling[] = "rolling:";

static const struct {
    const char *name;
    int64_t window;
} calendar[] = {{"day", BUDGET_DAY}, {"week", BUDGET_WEEK}, {"month", BUDGET_MONTH}, {"lifetime", BUDGET_LIFETIME}};

enum { CALENDAR = sizeof(calendar) / sizeof(calendar[0]) };

/* ---- windows as text ---- */

static bool parse_window(struct slice text, int64_t *window)
{
    unsigned long long seconds;
    size_t head = sizeof(rolling) - 1;

    for (size_t i = 0; i < CALENDAR; i++) {
        *window = calendar[i].window;
        if (slice_eq_str(text, calendar[i].name))
            return true;
    }
    if (text.len <= head + 1 || !slice_starts(text, slice_from(rolling)) || text.p[text.len - 1] != 's')
        return false;
    if (!slice_to_u64((struct slice){text.p + head, text.len - head - 1}, &seconds))
        return false;
    *window = seconds <= BUDGET_ROLLING_MAX ? (int64_t)seconds : 0;
    return *window >= BUDGET_ROLLING_MIN;
}

const char *budget_window_format(int64_t window, char out[BUDGET_WINDOW_TEXT])
{
    for (size_t i = 0; i < CALENDAR; i++) {
        if (calendar[i].window == window) {
            (void)snprintf(out, BUDGET_WINDOW_TEXT, "%s", calendar[i].name);
            return out;
        }
    }
    TG_ASSERT(window > 0);
    (void)snprintf(out, BUDGET_WINDOW_TEXT, "%s%" PRId64 "s", rolling, window);
    return out;
}

/* ---- reading ---- */

/* Where a fault is: "budgets[1]". */
struct place {
    char text[LIMIT_ERROR_PARAM];
};

static struct place member_of(const struct place *parent, const char *member)
{
    struct slice shown = utf8_head(slice_from(member), SHOWN);
    struct place p;

    (void)snprintf(p.text, sizeof(p.text), "%.20s.%.*s", parent->text, (int)shown.len, shown.p);
    return p;
}

static enum err_code wrong_type(const char *place, const char *expected, struct json_object *value, struct err *err)
{
    return err_set(err, ERR_INVALID_TYPE, place, "Invalid type for '%s': expected %s, but got %s instead.", place,
                   expected, json_kind(value));
}

/* A member that must be there and a string. */
static enum err_code read_text(struct json_object *budget, const struct place *place, const char *name,
                               const char *expected, struct slice *out, struct err *err)
{
    struct json_object *value;

    if (!json_find(budget, name, &value))
        return err_set(err, ERR_MISSING_PARAMETER, place->text, "Missing required parameter: '%s'.", place->text);
    if (!json_object_is_type(value, json_type_string))
        return wrong_type(place->text, expected, value, err);
    *out = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    return ERR_OK;
}

static enum err_code read_amount(struct json_object *budget, const struct place *at, int64_t *out, struct err *err)
{
    struct place place = member_of(at, "amount");
    char text[MONEY_TEXT], max[MONEY_TEXT];
    struct slice given;
    enum err_code code = read_text(budget, &place, "amount", "a decimal string", &given, err);

    if (code == ERR_OK)
        code = money_parse(given, MONEY_NANO_DIGITS, place.text, out, err);
    if (code != ERR_OK || (*out >= 0 && *out <= BUDGET_AMOUNT_MAX))
        return code;
    return err_set(err, ERR_INVALID_VALUE, place.text, "Invalid value for '%s': expected 0 to %s, but got %s instead.",
                   place.text, money_format_scaled(BUDGET_AMOUNT_MAX, MONEY_NANO_DIGITS, max),
                   money_format_scaled(*out, MONEY_NANO_DIGITS, text));
}

static enum err_code read_window(struct json_object *budget, const struct place *at, int64_t *out, struct err *err)
{
    struct place place = member_of(at, "window");
    struct slice given, shown;
    enum err_code code = read_text(budget, &place, "window", "a string", &given, err);

    if (code != ERR_OK || parse_window(given, out))
        return code;
    shown = utf8_head(given, SHOWN);
    return err_set(err, ERR_INVALID_VALUE, place.text,
                   "Invalid value for '%s': expected 'day', 'week', 'month', 'lifetime', or 'rolling:Ns' with %d to "
                   "%d seconds, but got '%.*s' instead.",
                   place.text, BUDGET_ROLLING_MIN, BUDGET_ROLLING_MAX, (int)shown.len, shown.len > 0 ? shown.p : "");
}

static enum err_code refuse_unknown(struct json_object *budget, const struct place *at, struct err *err)
{
    static const char *const names[] = {"amount", "window", NULL};
    struct err unknown = {0};
    struct place place;

    if (json_only(budget, names, &unknown) == ERR_OK)
        return ERR_OK;
    place = member_of(at, unknown.param);
    return err_set(err, unknown.code, place.text, "Unknown parameter: '%s'.", place.text);
}

static enum err_code read_budget(struct json_object *value, const struct place *at, struct budget_list *list,
                                 struct err *err)
{
    struct budget *b = &list->of[list->n];
    enum err_code code;

    if (!json_object_is_type(value, json_type_object))
        return wrong_type(at->text, "an object", value, err);
    code = refuse_unknown(value, at, err);
    if (code == ERR_OK)
        code = read_amount(value, at, &b->amount, err);
    if (code == ERR_OK)
        code = read_window(value, at, &b->window, err);
    for (int i = 0; i < list->n && code == ERR_OK; i++) {
        if (list->of[i].window == b->window) {
            struct place place = member_of(at, "window");

            code = err_set(err, ERR_DUPLICATE_PARAMETER, place.text,
                           "Duplicate parameter: '%s' is the window of an earlier budget.", place.text);
        }
    }
    list->n += code == ERR_OK;
    return code;
}

static enum err_code read_list(const char *name, struct json_object *array, struct budget_list *list, struct err *err)
{
    size_t n = json_object_array_length(array);
    enum err_code code = ERR_OK;

    if (n > BUDGET_LIST)
        return err_set(err, ERR_INVALID_VALUE, name, "'%s' must hold at most %d budgets, but got %zu.", name,
                       BUDGET_LIST, n);
    for (size_t i = 0; i < n && code == ERR_OK; i++) {
        struct place at;

        (void)snprintf(at.text, sizeof(at.text), "%.16s[%zu]", name, i);
        code = read_budget(json_object_array_get_idx(array, i), &at, list, err);
    }
    return code;
}

/* The reader of documents takes objects, so the list becomes the one member of one. Text that would add members of its
 * own is no list. */
static enum err_code read_document(const char *name, struct slice text, struct json_object **out, struct err *err)
{
    struct buf document;
    struct err fault = {0};
    enum err_code code;

    *out = NULL;
    buf_init(&document, TEXT_MAX);
    buf_append_str(&document, "{\"list\":");
    buf_append_slice(&document, text);
    buf_append_char(&document, '}');
    if (document.full)
        code = err_set(err, ERR_STRING_TOO_LONG, name, "'%s' is too long.", name);
    else
        code = json_read(buf_slice(&document), out, &fault);
    buf_dispose(&document);
    if (fault.code == ERR_DUPLICATE_PARAMETER)
        return err_set(err, fault.code, name, "%s", fault.message);
    if (fault.code != ERR_OK || (code == ERR_OK && json_object_object_length(*out) != 1))
        return err_set(err, ERR_INVALID_TYPE, name, "Invalid type for '%s': expected an array.", name);
    return code;
}

enum err_code budget_list_parse(const char *name, struct slice text, struct budget_list *out, struct err *err)
{
    struct budget_list list = {0};
    struct json_object *document = NULL, *array;
    enum err_code code = ERR_OK;

    if (text.len > 0)
        code = read_document(name, text, &document, err);
    if (code == ERR_OK && document != NULL && json_find(document, "list", &array)) {
        if (json_object_is_type(array, json_type_array))
            code = read_list(name, array, &list, err);
        else
            code = wrong_type(name, "an array", array, err);
    }
    json_object_put(document);
    if (code == ERR_OK)
        *out = list;
    return code;
}

void budget_list_format(const struct budget_list *list, struct buf *out)
{
    char amount[MONEY_TEXT], window[BUDGET_WINDOW_TEXT];

    buf_append_char(out, '[');
    for (int i = 0; i < list->n; i++)
        buf_printf(out, "%s{\"amount\":\"%s\",\"window\":\"%s\"}", i > 0 ? "," : "",
                   money_format_nano(list->of[i].amount, amount), budget_window_format(list->of[i].window, window));
    buf_append_char(out, ']');
}

/* ---- windows in time ---- */

static int64_t floor_mod(int64_t a, int64_t b)
{
    return a % b + (a % b < 0 ? b : 0);
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;

    return __builtin_add_overflow(a, b, &sum) ? (b > 0 ? INT64_MAX : INT64_MIN) : sum;
}

static struct budget_span days(const struct zone *z, int64_t first, int64_t next)
{
    return (struct budget_span){zone_day_begins(z, first), zone_day_begins(z, next)};
}

static struct budget_span month_of(const struct zone *z, int64_t day)
{
    int year, month, day_of_month;

    zone_civil(day, &year, &month, &day_of_month);
    return days(z, zone_day_of(year, month, 1),
                month < 12 ? zone_day_of(year, month + 1, 1) : zone_day_of(year + 1, 1, 1));
}

static struct budget_span rolling_cell(int64_t seconds, int64_t wall)
{
    int64_t length = (seconds * CLOCK_SECOND + BUDGET_ROLLING_PARTS - 1) / BUDGET_ROLLING_PARTS;
    int64_t begin = add(wall, -floor_mod(wall, length));

    return (struct budget_span){begin, add(begin, length)};
}

struct budget_span budget_cell_at(int64_t window, const struct zone *z, int64_t wall)
{
    int64_t day, monday;

    if (window > 0)
        return rolling_cell(window, wall);
    if (window == BUDGET_LIFETIME)
        return (struct budget_span){0, INT64_MAX};
    day = zone_day_at(z, wall);
    switch (window) {
    case BUDGET_DAY:
        return days(z, day, day + 1);
    case BUDGET_WEEK:
        monday = day - floor_mod(day + 3, WEEK_DAYS); /* 1970 began on a Thursday */
        return days(z, monday, monday + WEEK_DAYS);
    default:
        TG_ASSERT(window == BUDGET_MONTH);
        return month_of(z, day);
    }
}

/* The oldest cell that touches (wall - length, wall]. */
static struct budget_span oldest_cell(int64_t seconds, int64_t wall)
{
    return rolling_cell(seconds, add(wall, 1 - seconds * CLOCK_SECOND));
}

int64_t budget_counts_from(int64_t window, const struct zone *z, int64_t wall)
{
    return window > 0 ? oldest_cell(window, wall).begin : budget_cell_at(window, z, wall).begin;
}

int64_t budget_resets_at(int64_t window, const struct zone *z, int64_t wall)
{
    if (window > 0) /* when the window's first instant is the first one past the cell */
        return add(oldest_cell(window, wall).end, window * CLOCK_SECOND - 1);
    return budget_cell_at(window, z, wall).end;
}
