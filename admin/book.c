/* book.c - price books, to be read: the list without rates, one book with its versions and every rate.
 *
 * An amount is shown for a natural number of units: a million tokens, one image, one request; decimals are exact. */
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

static void render_version(const struct price_version *version, struct buf *out)
{
    char effective[CLOCK_TEXT];

    render_open(out, NULL, '{');
    render_id(out, "id", "pbv", version->id);
    render_text(out, "object", SLICE("price_version"));
    render_text(out, "effective_from", slice_from(clock_format(version->effective_from, effective)));
    render_open(out, "rates", '[');
    for (size_t i = 0; i < version->n; i++)
        render_rate(&version->rates[i], out);
    render_close(out, ']');
    render_close(out, '}');
}

static void render_head(const struct record *record, struct buf *out)
{
    const struct price_book *book = ((const struct book *)record)->prices;
    const struct price_version *now = price_book_at(book, clock_wall());

    render_open(out, NULL, '{');
    render_id(out, "id", "pbk", record->id);
    render_text(out, "object", slice_from(record_object(RECORD_BOOK)));
    render_text(out, "name", slice_from(record->name));
    render_text(out, "kind", slice_from(price_kind_name(book->kind)));
    render_id(out, "current_version", "pbv", now != NULL ? now->id : (struct id){{0}});
    render_time(out, "created_at", record->created_at);
}

static void render_book(const struct record *record, const struct refs *refs, struct buf *out)
{
    const struct price_book *book = ((const struct book *)record)->prices;

    (void)refs;
    render_head(record, out);
    render_open(out, "versions", '[');
    for (size_t i = book->n; i > 0; i--) /* newest first, as in every list */
        render_version(book->versions[i - 1], out);
    render_close(out, ']');
    render_close(out, '}');
}

static void render_summary(const struct record *record, const struct refs *refs, struct buf *out)
{
    (void)refs;
    render_head(record, out);
    render_close(out, '}');
}

static int64_t owner_of_book(const struct record *record)
{
    (void)record;
    return 0;
}

const struct noun noun_book = {
    .kind = RECORD_BOOK,
    .word = "price book",
    .render = render_book,
    .summary = render_summary,
    .owner = owner_of_book,
};
