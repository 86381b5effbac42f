/* statement_text.c - a statement as JSON and as CSV. Pure; any thread. */
#include "pen.h"
#include "render.h"
#include "statement.h"

/* ---- JSON ---- */

static void render_party(struct buf *out, const char *member, const char *prefix, struct id id, const char *name,
                         const char *external_id)
{
    render_open(out, member, '{');
    render_id(out, "id", prefix, id);
    render_text_or_null(out, "name", name);
    render_text_or_null(out, "external_id", external_id);
    render_close(out, '}');
}

static void render_grants(const struct statement *s, struct buf *out)
{
    render_open(out, "grants", '[');
    for (int i = s->n_grants - 1; i >= 0; i--) { /* the store gives the newest first */
        const struct store_grant *g = &s->grants[i];

        render_open(out, NULL, '{');
        render_id(out, "id", "grt", id_from_seq(g->created_at, g->seq));
        render_time(out, "created_at", g->created_at);
        render_nano(out, "amount", g->amount);
        render_text(out, "category", g->category == CREDIT_PAID ? SLICE("paid") : SLICE("promotional"));
        render_time(out, "expires_at", g->expires_at);
        render_text_or_null(out, "note", g->note);
        render_close(out, '}');
    }
    render_close(out, ']');
}

static void render_movements(const struct statement *s, struct buf *out)
{
    render_open(out, "movements", '[');
    for (int i = 0; i < s->turnover.n; i++) {
        render_open(out, NULL, '{');
        render_text(out, "kind", slice_from(s->turnover.kinds[i].kind));
        render_nano(out, "amount", s->turnover.kinds[i].amount);
        render_int(out, "count", s->turnover.kinds[i].count);
        render_close(out, '}');
    }
    render_close(out, ']');
}

static void json_head(const struct statement *s, struct buf *out)
{
    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("statement"));
    render_party(out, "tenant", "ten", s->wallet.tenant, s->tenant_name, s->tenant_external);
    if (statement_is_customers(s))
        render_party(out, "customer", "cus", s->wallet.customer, s->customer_name, s->customer_external);
    else
        render_null(out, "customer");
    render_text(out, "month", slice_from(s->month));
    render_text(out, "timezone", slice_from(s->zone_name));
    render_text(out, "currency", SLICE("USD"));
    render_open(out, "period", '{');
    render_time(out, "start", s->from);
    render_time(out, "end", s->to);
    render_close(out, '}');
    render_bool(out, "complete", s->complete);
    render_time(out, "as_of", s->as_of);
    render_nano(out, "opening_balance", s->turnover.opening);
    render_nano(out, "closing_balance", s->turnover.closing);
    render_grants(s, out);
    render_movements(s, out);
    render_open(out, "usage", '[');
}

static const char *price_name(const struct statement *s)
{
    return statement_is_customers(s) ? "retail" : "wholesale";
}

static void json_row(const struct statement *s, const struct report_row *row, const struct record *customer,
                     struct buf *out)
{
    render_open(out, NULL, '{');
    if (id_is_zero(row->customer))
        render_null(out, "customer");
    else
        render_party(out, "customer", "cus", row->customer, customer != NULL ? customer->name : "",
                     customer != NULL ? customer->external_id : "");
    render_text_or_null(out, "model", row->model);
    render_int(out, "requests", row->requests);
    render_int(out, "images", row->images);
    render_nano(out, price_name(s), statement_price(s, row));
    render_close(out, '}');
}

static void json_tail(const struct statement *s, struct buf *out)
{
    int64_t charged = statement_charged(s);

    render_close(out, ']');
    render_open(out, "totals", '{');
    render_int(out, "requests", s->requests);
    render_int(out, "images", s->images);
    render_nano(out, price_name(s), s->amount);
    render_nano(out, "charged", charged);
    render_nano(out, "not_charged", s->amount - charged);
    render_close(out, '}');
    render_close(out, '}');
}

const struct statement_writer statement_json = {json_head, json_row, json_tail};

/* ---- CSV: one table for all, told apart by its first column ---- */

enum { COLUMNS = 11 };
enum column { SECTION = 0, ID, CREATED_AT, KIND, CUSTOMER, CUSTOMER_NAME, MODEL, REQUESTS, IMAGES, COUNT, AMOUNT };
_Static_assert((int)AMOUNT + 1 == (int)COLUMNS, "a name for each");

struct line {
    struct slice at[COLUMNS];
    char amount[MONEY_TEXT], numbers[3][PEN_NUMBER], time[CLOCK_TEXT], id[ID_TEXT];
};

static void put_line(const struct line *line, struct buf *out)
{
    for (int i = 0; i < COLUMNS; i++) {
        bool number = i >= REQUESTS;
        char *p = buf_reserve(out, PEN_TEXT(line->at[i].len) + 1), *start = p;

        if (p == NULL)
            return;
        if (i > 0)
            *p++ = ',';
        p = number ? pen_bytes(p, line->at[i].p != NULL ? line->at[i].p : "", line->at[i].len)
                   : pen_csv(p, line->at[i]);
        buf_advance(out, (size_t)(p - start));
    }
    buf_append_str(out, "\r\n");
}

static void set_amount(struct line *line, const char *section, int64_t nano)
{
    line->at[SECTION] = slice_from(section);
    line->at[AMOUNT] = slice_from(money_format_nano(nano, line->amount));
}

static void set_number(struct line *line, enum column column, int place, int64_t value)
{
    char *end = pen_int(line->numbers[place], value);

    line->at[column] = (struct slice){line->numbers[place], (size_t)(end - line->numbers[place])};
}

static void put_amount(const char *section, int64_t nano, struct buf *out)
{
    struct line line = {0};

    set_amount(&line, section, nano);
    put_line(&line, out);
}

static void csv_head(const struct statement *s, struct buf *out)
{
    buf_append_str(out, "section,id,created_at,kind,customer,customer_name,model,requests,images,count,amount\r\n");
    put_amount("opening_balance", s->turnover.opening, out);
    for (int i = s->n_grants - 1; i >= 0; i--) {
        const struct store_grant *g = &s->grants[i];
        struct line line = {0};

        set_amount(&line, "grant", g->amount);
        line.at[ID] = slice_from(id_format("grt", id_from_seq(g->created_at, g->seq), line.id));
        line.at[CREATED_AT] = slice_from(clock_format(g->created_at, line.time));
        line.at[KIND] = g->category == CREDIT_PAID ? SLICE("paid") : SLICE("promotional");
        put_line(&line, out);
    }
    for (int i = 0; i < s->turnover.n; i++) {
        struct line line = {0};

        set_amount(&line, "movement", s->turnover.kinds[i].amount);
        line.at[KIND] = slice_from(s->turnover.kinds[i].kind);
        set_number(&line, COUNT, 0, s->turnover.kinds[i].count);
        put_line(&line, out);
    }
}

static void csv_row(const struct statement *s, const struct report_row *row, const struct record *customer,
                    struct buf *out)
{
    struct line line = {0};

    set_amount(&line, "usage", statement_price(s, row));
    if (!id_is_zero(row->customer))
        line.at[CUSTOMER] = slice_from(id_format("cus", row->customer, line.id));
    if (customer != NULL)
        line.at[CUSTOMER_NAME] = slice_from(customer->name);
    line.at[MODEL] = slice_from(row->model);
    set_number(&line, REQUESTS, 0, row->requests);
    set_number(&line, IMAGES, 1, row->images);
    put_line(&line, out);
}

static void csv_tail(const struct statement *s, struct buf *out)
{
    struct line line = {0};

    set_amount(&line, "usage_total", s->amount);
    set_number(&line, REQUESTS, 0, s->requests);
    set_number(&line, IMAGES, 1, s->images);
    put_line(&line, out);
    put_amount("not_charged", s->amount - statement_charged(s), out);
    put_amount("closing_balance", s->turnover.closing, out);
}

const struct statement_writer statement_csv = {csv_head, csv_row, csv_tail};
