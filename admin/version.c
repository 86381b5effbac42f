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

#define RATE_MAX INT64_C(1000000000000000000) /* pico: a million dollars */
#define SUPPORTED "Invalid value: "           /* how the message of a value outside its list begins */
#define NOW_GRACE (5 * CLOCK_SECOND)          /* so long ago is still now: the way here takes time, and clocks differ */

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
    at = strncmp(message, SUPPORTED, strlen(SUPPORTED)) == 0 ? message + strlen(SUPPORTED) : message;
    return err_set(err, err->code, param, "Invalid value for '%s': %s", param, at);
}

struct rate_body {
    char model[LIMIT_MODEL];
    int operation; /* enum image_operation */
    char size[LIMIT_SIZE], quality[LIMIT_QUALITY];
    int unit;       /* enum price_unit */
    int64_t amount; /* pico-dollars for <per> units */
    int64_t per;
};

static const struct body_choice operations[] = {{"generations", OPERATION_GENERATIONS},
                                                {"edits", OPERATION_EDITS},
                                                {"variations", OPERATION_VARIATIONS},
                                                {NULL, 0}};

static const struct body_choice units[] = {{"image", PRICE_IMAGE},
                                           {"request", PRICE_REQUEST},
                                           {"text_input_token", PRICE_TEXT_INPUT},
                                           {"cached_text_input_token", PRICE_CACHED_TEXT_INPUT},
                                           {"image_input_token", PRICE_IMAGE_INPUT},
                                           {"cached_image_input_token", PRICE_CACHED_IMAGE_INPUT},
                                           {"image_output_token", PRICE_IMAGE_OUTPUT},
                                           {"text_output_token", PRICE_TEXT_OUTPUT},
                                           {NULL, 0}};

/* Left out or null, operation, size and quality stand for any. */
static const struct body_field rate_fields[] = {
    {.name = "model",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct rate_body, model),
     .cap = LIMIT_MODEL,
     .min = 1},
    {.name = "operation",
     .type = BODY_CHOICE,
     .offset = offsetof(struct rate_body, operation),
     .otherwise = OPERATION_ANY,
     .choices = operations},
    {.name = "size", .type = BODY_TEXT, .offset = offsetof(struct rate_body, size), .cap = LIMIT_SIZE, .min = 1},
    {.name = "quality",
     .type = BODY_TEXT,
     .offset = offsetof(struct rate_body, quality),
     .cap = LIMIT_QUALITY,
     .min = 1},
    {.name = "unit",
     .type = BODY_CHOICE,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct rate_body, unit),
     .choices = units},
    {.name = "amount",
     .type = BODY_RATE,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct rate_body, amount),
     .max = RATE_MAX},
    {.name = "per",
     .type = BODY_INT,
     .offset = offsetof(struct rate_body, per),
     .min = 1,
     .max = PER_MAX,
     .otherwise = 1},
};
static const struct body_table rate_table = BODY_TABLE(rate_fields);
static const struct body_field rate_object = {.type = BODY_OBJECT, .members = &rate_table};

static enum err_code fill_rate(const struct rate_body *body, struct price_rate *out, struct err *err)
{
    memcpy(out->model, body->model, sizeof(out->model));
    memcpy(out->size, body->size, sizeof(out->size));
    memcpy(out->quality, body->quality, sizeof(out->quality));
    out->operation = (enum image_operation)body->operation;
    out->unit = (enum price_unit)body->unit;
    if (body->amount % body->per != 0)
        return err_set(err, ERR_INVALID_VALUE, "amount",
                       "The rate is not a whole number of pico-dollars for one unit.");
    out->pico = body->amount / body->per;
    return ERR_OK;
}

static enum err_code read_rate(struct admin_call *call, size_t i, struct json_object *rate, struct price_rate *out,
                               struct err *err)
{
    struct rate_body body = {0};
    char place[LIMIT_ERROR_PARAM];
    enum err_code code;

    if (!json_object_is_type(rate, json_type_object)) {
        (void)snprintf(place, sizeof(place), "rates[%zu]", i);
        return body_wrong_type(place, "an object", rate, err);
    }
    code = body_read_object(call, rate, rate_table.fields, rate_table.n, true, &body, err);
    if (code == ERR_OK)
        code = fill_rate(&body, out, err);
    return code == ERR_OK ? ERR_OK : nest(i, err);
}

static enum err_code read_rates(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                struct err *err)
{
    struct version_body *body = target;
    enum err_code code = ERR_OK;
    size_t n;

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
        code = read_rate(call, i, json_object_array_get_idx(value, i), &body->rates[i], err);
    body->n = n;
    return code;
}

static enum err_code read_effective_from(struct admin_call *call, const char *name, struct json_object *value,
                                         void *target, struct err *err)
{
    struct version_body *body = target;
    int64_t now = clock_wall(), at;
    unsigned long long seconds;
    struct slice text;

    (void)call;
    body->effective_from = 0;
    if (value == NULL)
        return ERR_OK;
    if (!json_object_is_type(value, json_type_string))
        return body_wrong_type(name, "a string", value, err);
    text = (struct slice){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
    if (slice_to_u64(text, &seconds) || !clock_parse(text, &at)) /* Unix seconds are for queries */
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
    {.name = "effective_from", .type = BODY_OWN, .read = read_effective_from, .as = BODY_TIME},
    {.name = "rates",
     .type = BODY_OWN,
     .flags = BODY_REQUIRED,
     .read = read_rates,
     .as = BODY_ARRAY,
     .min = 1,
     .max = VERSION_RATES,
     .item = &rate_object},
};
const struct body_table version_fields = BODY_TABLE(fields);

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

/* How many versions, the oldest first, are older than the cursor's: ids grow with time. */
static size_t count_older(const struct price_book *book, struct id after)
{
    size_t n = book->n;

    while (!id_is_zero(after) && n > 0 && memcmp(&book->versions[n - 1]->id, &after, sizeof(after)) >= 0)
        n--;
    return n;
}

static void list_fetched(struct admin_call *call, const struct record *record)
{
    const struct price_book *book = ((const struct book *)record)->prices;
    char next[ID_TEXT] = "";
    struct page page;
    struct buf out;
    struct err err;
    size_t left;

    if (page_read(front_call_query(call->front), "pbv", NULL, 0, &page, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    left = count_older(book, page.after);
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
