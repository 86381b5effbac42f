/* version.c - versions of price books: added, never changed, and in effect from now on or later.
 *
 * A version begins after every other of its book. So no call is ever priced by rates that came after it, and what was
 * announced stays announced. A fault names the rate and its member: rates[3].unit. Loop's thread, but for
 * `render_created` (the writer's). */
#include <stdlib.h>

#include "body.h"
#include "page.h"
#include "render.h"

enum {
    VERSION_RATES = 10000, /* of a version */
    BOOK_VERSIONS = 1000,  /* of a book */
    BOOK_RATES = 1000000,  /* of all of them */
    PER_MAX = 1000000000,
    VERSIONS_REPLY = ADMIN_REPLY / 2 /* bytes after which a page of versions ends: the last one may take as many */
};

#define NOW_GRACE (5 * CLOCK_SECOND) /* so long ago is still now: the way here takes time, and clocks differ */

struct version_body {
    int64_t effective_from; /* 0: now */
    struct price_rate *rates;
    size_t n;
};

/* ---- rates ---- */

/* A fault of a member of the <i>th rate, told from the body's top. */
static enum err_code nest(size_t i, struct err *err)
{
    char quoted[LIMIT_ERROR_PARAM + 4], param[LIMIT_ERROR_PARAM], message[LIMIT_ERROR_MESSAGE];
    const char *at;

    (void)snprintf(quoted, sizeof(quoted), "'%s'", err->param);
    (void)snprintf(param, sizeof(param), "rates[%zu].%.40s", i, err->param);
    memcpy(message, err->message, sizeof(message));
    at = strstr(message, quoted);
    if (at != NULL)
        return err_set(err, err->code, param, "%.*s'%s'%s", (int)(at - message), message, param, at + strlen(quoted));
    return err_set(err, err->code, param, "Invalid value for '%s': %s", param, message);
}

static enum err_code read_text(struct json_object *rate, const char *name, bool required, char *out, size_t cap,
                               struct err *err)
{
    struct json_object *value;

    out[0] = '\0';
    if (json_find(rate, name, &value))
        return body_text(name, value, 1, out, cap, err);
    return required ? err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name) : ERR_OK;
}

/* What is sold. */
static enum err_code read_item(struct json_object *rate, struct price_rate *out, struct err *err)
{
    char operation[LIMIT_NAME];
    enum err_code code = read_text(rate, "model", true, out->model, sizeof(out->model), err);

    if (code == ERR_OK)
        code = read_text(rate, "operation", false, operation, sizeof(operation), err);
    if (code == ERR_OK && operation[0] != '\0' && !price_operation_parse(slice_from(operation), &out->operation))
        code = err_set(err, ERR_INVALID_VALUE, "operation",
                       "Invalid value for 'operation': '%.40s'. Supported values are: 'generations', 'edits', and "
                       "'variations'.",
                       operation);
    if (code == ERR_OK)
        code = read_text(rate, "size", false, out->size, sizeof(out->size), err);
    if (code == ERR_OK)
        code = read_text(rate, "quality", false, out->quality, sizeof(out->quality), err);
    return code;
}

static enum err_code refuse_unit(const char *unit, struct err *err)
{
    struct buf names;
    enum err_code code;

    buf_init(&names, LIMIT_ERROR_MESSAGE);
    for (int i = 0; i < PRICE_UNITS; i++)
        buf_printf(&names, "%s'%s'", i == 0 ? "" : ", ", price_unit_name((enum price_unit)i));
    code = err_set(err, ERR_INVALID_VALUE, "unit", "Invalid value for 'unit': '%.40s'. Supported values are: %.*s.",
                   unit, (int)names.len, names.p);
    buf_dispose(&names);
    return code;
}

/* What a unit of it costs. */
static enum err_code read_price(struct json_object *rate, struct price_rate *out, struct err *err)
{
    char unit[LIMIT_NAME];
    struct slice amount;
    int64_t per = 1;
    enum err_code code = read_text(rate, "unit", true, unit, sizeof(unit), err);

    if (code == ERR_OK && !price_unit_parse(slice_from(unit), &out->unit))
        code = refuse_unit(unit, err);
    if (code == ERR_OK)
        code = json_get_slice(rate, "amount", true, &amount, NULL, err);
    if (code == ERR_OK)
        code = json_get_int(rate, "per", 1, PER_MAX, &per, NULL, err);
    if (code == ERR_OK)
        code = price_parse_amount(amount, per, &out->pico, err);
    return code;
}

static enum err_code read_rate(size_t i, struct json_object *rate, struct price_rate *out, struct err *err)
{
    static const char *const names[] = {"model", "operation", "size", "quality", "unit", "amount", "per", NULL};
    char place[LIMIT_ERROR_PARAM];
    enum err_code code;

    if (!json_object_is_type(rate, json_type_object)) {
        (void)snprintf(place, sizeof(place), "rates[%zu]", i);
        return body_wrong_type(place, "an object", rate, err);
    }
    code = json_only(rate, names, err);
    if (code == ERR_OK)
        code = read_item(rate, out, err);
    if (code == ERR_OK)
        code = read_price(rate, out, err);
    return code == ERR_OK ? ERR_OK : nest(i, err);
}

static enum err_code read_rates(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                struct err *err)
{
    struct version_body *body = target;
    enum err_code code = ERR_OK;
    size_t n;

    (void)call;
    if (value == NULL)
        return err_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    if (!json_object_is_type(value, json_type_array))
        return body_wrong_type(name, "an array", value, err);
    n = json_object_array_length(value);
    if (n < 1 || n > VERSION_RATES)
        return err_set(err, ERR_INVALID_VALUE, name, "Invalid value for '%s': expected 1 to %d rates, but got %zu.",
                       name, VERSION_RATES, n);
    body->rates = mem_zalloc(n * sizeof(body->rates[0]));
    for (size_t i = 0; i < n && code == ERR_OK; i++)
        code = read_rate(i, json_object_array_get_idx(value, i), &body->rates[i], err);
    body->n = n;
    return code;
}

static enum err_code read_effective_from(struct admin_call *call, const char *name, struct json_object *value,
                                         void *target, struct err *err)
{
    struct version_body *body = target;
    int64_t now = clock_wall(), at;
    struct slice text;

    (void)call;
    body->effective_from = 0;
    if (value == NULL)
        return ERR_OK;
    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    text = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    if (!clock_parse(text, &at))
        return err_set(
            err, ERR_INVALID_VALUE, name,
            "Invalid value for '%s': expected a time such as '2030-01-31T12:00:00Z', but got '%.40s' instead.", name,
            text.p);
    if (at < now - NOW_GRACE)
        return err_set(err, ERR_INVALID_VALUE, name,
                       "Invalid value for '%s': the time is past. A version starts now or later.", name);
    body->effective_from = at > now ? at : 0;
    return ERR_OK;
}

static const struct body_field fields[] = {
    {.name = "effective_from", .type = BODY_OWN, .read = read_effective_from},
    {.name = "rates", .type = BODY_OWN, .flags = BODY_REQUIRED, .read = read_rates},
};

/* ---- the new version ---- */

static bool same_item(const struct price_rate *a, const struct price_rate *b)
{
    return a->unit == b->unit && a->operation == b->operation && strcmp(a->model, b->model) == 0 &&
           strcmp(a->size, b->size) == 0 && strcmp(a->quality, b->quality) == 0;
}

static enum err_code refuse_twice(const struct version_body *body, const struct price_rate *rate, struct err *err)
{
    char param[LIMIT_ERROR_PARAM];
    size_t first = 0, second;

    while (!same_item(&body->rates[first], rate))
        first++;
    for (second = first + 1; !same_item(&body->rates[second], rate);)
        second++;
    (void)snprintf(param, sizeof(param), "rates[%zu]", second);
    return err_set(err, ERR_INVALID_VALUE, param, "Invalid value for '%s': it prices the same as 'rates[%zu]'.", param,
                   first);
}

/* In the sorted rates of a version two for the same item stand side by side. */
static enum err_code check_twice(const struct version_body *body, const struct price_version *version, struct err *err)
{
    for (size_t i = 1; i < version->n; i++)
        if (same_item(&version->rates[i - 1], &version->rates[i]))
            return refuse_twice(body, &version->rates[i], err);
    return ERR_OK;
}

static enum err_code check_order(const struct price_book *book, const struct price_version *version, struct err *err)
{
    const struct price_version *last = book->n > 0 ? book->versions[book->n - 1] : NULL;
    char text[CLOCK_TEXT];
    size_t rates = version->n;

    if (last != NULL && version->effective_from <= last->effective_from)
        return err_set(err, ERR_INVALID_VALUE, "effective_from",
                       "Invalid value for 'effective_from': a version must start after the last one, which starts at "
                       "%s.",
                       clock_format(last->effective_from, text));
    for (size_t i = 0; i < book->n; i++)
        rates += book->versions[i]->n;
    if (book->n >= BOOK_VERSIONS || rates > BOOK_RATES)
        return err_set(err, ERR_CONFLICT, NULL,
                       "The price book is full: it can have %d versions, and %d rates in all of them.", BOOK_VERSIONS,
                       BOOK_RATES);
    return ERR_OK;
}

/* The book with one version more, whose reference is taken over. */
static struct record *extend(const struct record *record, struct price_version *version)
{
    const struct price_book *old = ((const struct book *)record)->prices;
    struct price_version **versions = mem_alloc((old->n + 1) * sizeof(*versions));
    struct book *book = record_create(RECORD_BOOK, 0);

    for (size_t i = 0; i < old->n; i++)
        versions[i] = price_version_ref(old->versions[i]);
    versions[old->n] = version;
    *book = *(const struct book *)record;
    atomic_init(&book->super.refs, 1);
    book->prices = price_book_create(versions, old->n + 1);
    book->prices->row = old->row;
    book->prices->id = old->id;
    memcpy(book->prices->name, old->name, sizeof(book->prices->name));
    book->prices->kind = old->kind;
    book->prices->created_at = old->created_at;
    free(versions);
    return &book->super;
}

/* On the writer's thread: the new version is the last of its book. */
static void render_created(struct store_op *op, struct buf *out)
{
    const struct admin_call *call = TG_CONTAINER(struct admin_call, op, op);
    const struct price_book *book = ((const struct book *)call->op.put.record)->prices;

    book_render_version(book->versions[book->n - 1], true, out);
}

static void reply_created(struct admin_call *call)
{
    admin_reply(call, call->actor.status, &call->actor.reply, 0); /* the etag is the book's, not the version's */
}

static void create_fetched(struct admin_call *call, const struct record *record)
{
    struct version_body body = {0};
    struct price_version *version = NULL;
    struct err err;
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, &body, &err);

    if (code == ERR_OK) {
        version = price_version_create(body.rates, body.n);
        version->id = id_make();
        version->effective_from = body.effective_from != 0 ? body.effective_from : clock_wall();
        code = check_twice(&body, version, &err);
    }
    if (code == ERR_OK)
        code = check_order(((const struct book *)record)->prices, version, &err);
    free(body.rates);
    if (code == ERR_OK) {
        noun_submit(call, extend(record, version), render_created, reply_created);
        return;
    }
    price_version_unref(version);
    admin_fail(call, &err);
}

void version_create(struct admin_call *call)
{
    noun_fetch(call, create_fetched);
}

/* ---- list ---- */

/* How many versions, the oldest first, are older than the cursor's. */
static enum err_code find_after(const struct price_book *book, const struct page *page, size_t *older, struct err *err)
{
    *older = book->n;
    if (id_is_zero(page->after))
        return ERR_OK;
    for (size_t i = 0; i < book->n; i++) {
        if (id_eq(book->versions[i]->id, page->after)) {
            *older = i;
            return ERR_OK;
        }
    }
    return err_set(err, ERR_INVALID_VALUE, "after", "Invalid value for 'after': no such object.");
}

static void list_fetched(struct admin_call *call, const struct record *record)
{
    const struct price_book *book = ((const struct book *)record)->prices;
    char next[ID_TEXT] = "";
    struct page page;
    struct buf out;
    struct err err;
    size_t left;

    if (page_read(front_call_query(call->front), "pbv", NULL, 0, &page, &err) != ERR_OK ||
        find_after(book, &page, &left, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int n = 0; left > 0 && n < page.limit && out.len < VERSIONS_REPLY; n++) {
        book_render_version(book->versions[--left], true, &out);
        (void)id_format("pbv", book->versions[left]->id, next);
    }
    render_list_close(&out, left > 0, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

void version_list(struct admin_call *call)
{
    noun_fetch(call, list_fetched);
}
