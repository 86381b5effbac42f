/* book.c - price books: made empty, read as a list, or one with its versions and the rates in effect. Versions are in
 * version.c.
 *
 * The platform has books of every kind, a tenant retail books of its own. A tenant's token reads its tenant's and the
 * wholesale book that its tenant pays by. An amount is shown for a natural number of units: a million tokens, one
 * image, one request; decimals are exact. */
#include "body.h"
#include "render.h"

enum { TOKENS_PER = 1000000 };

static void render_rate(const struct price_rate *rate, struct buf *out)
{
    bool whole = rate->unit == PRICE_IMAGE || rate->unit == PRICE_REQUEST;

    render_open(out, NULL, '{');
    render_text(out, "model", slice_from(rate->model));
    render_text_or_null(out, "operation", price_operation_name(rate->operation));
    render_text_or_null(out, "size", rate->size);
    render_text_or_null(out, "quality", rate->quality);
    render_text(out, "unit", slice_from(price_unit_name(rate->unit)));
    /* pico-dollars a unit are micro-dollars a million */
    render_scaled(out, "amount", rate->pico, whole ? MONEY_PICO_DIGITS : MONEY_PICO_DIGITS - 6);
    render_int(out, "per", whole ? 1 : TOKENS_PER);
    render_close(out, '}');
}

static void render_rates(const struct price_version *version, struct buf *out)
{
    render_open(out, "rates", '[');
    for (size_t i = 0; version != NULL && i < version->n; i++)
        render_rate(&version->rates[i], out);
    render_close(out, ']');
}

void book_render_version(const struct price_version *version, bool rates, struct buf *out)
{
    char effective[CLOCK_TEXT];

    render_open(out, NULL, '{');
    render_id(out, "id", "pbv", version->id);
    render_text(out, "object", SLICE("price_version"));
    render_text(out, "effective_from", slice_from(clock_format(version->effective_from, effective)));
    render_int(out, "rate_count", (int64_t)version->n);
    if (rates)
        render_rates(version, out);
    render_close(out, '}');
}

static void render_head(const struct record *record, const struct refs *refs, const struct price_version *now,
                        struct buf *out)
{
    render_open(out, NULL, '{');
    render_id(out, "id", "pbk", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_BOOK)));
    render_text(out, "name", slice_from(record->name));
    render_text(out, "kind", slice_from(price_kind_name(((const struct book *)record)->prices->kind)));
    render_id(out, "tenant", "ten", refs->tenant);
    render_id(out, "current_version", "pbv", now != NULL ? now->id : (struct id){{0}});
}

/* The audit trail does without rates, and names the newest version alone: a version never changes, so its id tells. */
static void render_newest(const struct price_book *book, struct buf *out)
{
    render_int(out, "version_count", (int64_t)book->n);
    render_open(out, "versions", '[');
    if (book->n > 0)
        book_render_version(book->versions[book->n - 1], false, out);
    render_close(out, ']');
}

static void render_book(const struct record *record, const struct refs *refs, struct buf *out)
{
    const struct price_book *book = ((const struct book *)record)->prices;
    const struct price_version *now = price_book_at(book, clock_wall());

    render_head(record, refs, now, out);
    if (refs->audit) {
        render_newest(book, out);
    } else {
        render_open(out, "versions", '[');
        for (size_t i = book->n; i > 0; i--) /* newest first, as in every list */
            book_render_version(book->versions[i - 1], false, out);
        render_close(out, ']');
        render_rates(now, out);
    }
    noun_render_tail(record, out);
}

static void render_summary(const struct record *record, const struct refs *refs, struct buf *out)
{
    render_head(record, refs, price_book_at(((const struct book *)record)->prices, clock_wall()), out);
    noun_render_tail(record, out);
}

static void refer_book(const struct store_names *names, const struct record *record, struct refs *refs)
{
    refs->tenant = names_id(names, RECORD_TENANT, ((const struct book *)record)->tenant_row);
}

/* ---- whose ---- */

static int64_t owner_of_book(const struct record *record)
{
    return ((const struct book *)record)->tenant_row;
}

/* The book that the token's tenant pays by. */
static bool is_shown(const struct admin_call *call, const struct record *record)
{
    const struct tenant *tenant = catalog_by_row(call->catalog, RECORD_TENANT, call->who.tenant_row);

    return tenant != NULL && tenant->book_row == record->row;
}

bool book_sees(const struct admin_call *call, const struct record *record)
{
    return noun_sees(&call->who, &noun_book, record) || is_shown(call, record);
}

/* ---- making ---- */

struct book_body {
    char name[LIMIT_NAME];
    int kind; /* enum price_kind */
    int64_t tenant_row;
};

static enum err_code read_tenant(struct admin_call *call, const char *name, struct json_object *value, void *target,
                                 struct err *err)
{
    struct book_body *body = target;

    body->tenant_row = call->who.tenant_row;
    return value != NULL ? body_tenant(call, name, value, &body->tenant_row, err) : ERR_OK;
}

static const struct body_choice kinds[] = {
    {"cost", PRICE_COST}, {"wholesale", PRICE_WHOLESALE}, {"retail", PRICE_RETAIL}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct book_body, name),
     .cap = LIMIT_NAME,
     .min = 1},
    {.name = "kind",
     .type = BODY_CHOICE,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct book_body, kind),
     .choices = kinds},
    {.name = "tenant", .type = BODY_OWN, .read = read_tenant, .as = BODY_ID, .prefix = "ten"},
};
const struct body_table book_fields = BODY_TABLE(fields);

static enum err_code read_book(struct admin_call *call, struct book_body *body, struct err *err)
{
    enum err_code code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), true, body, err);

    if (code != ERR_OK || body->kind == PRICE_RETAIL)
        return code;
    if (call->who.tenant_row != 0)
        return err_set(err, ERR_FORBIDDEN, "kind", "A tenant's token makes price books of kind 'retail' only.");
    if (body->tenant_row != 0)
        return err_set(err, ERR_INVALID_VALUE, "kind",
                       "Invalid value for 'kind': a tenant's own price book is of kind 'retail'.");
    return ERR_OK;
}

void book_create(struct admin_call *call)
{
    struct book_body body = {0};
    struct book *book;
    struct err err;

    if (read_book(call, &body, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    book = record_create(RECORD_BOOK, 0);
    book->tenant_row = body.tenant_row;
    memcpy(book->super.name, body.name, sizeof(book->super.name));
    book->prices = price_book_create(NULL, 0);
    book->prices->kind = (enum price_kind)body.kind;
    memcpy(book->prices->name, body.name, sizeof(book->prices->name));
    noun_create(call, &book->super);
}

const struct noun noun_book = {
    .kind = RECORD_BOOK,
    .word = "price book",
    .render = render_book,
    .summary = render_summary,
    .refer = refer_book,
    .owner = owner_of_book,
    .shown = is_shown,
    .has_tenant = true,
};
