/* statement_html.c - a statement as a page that prints well: one file, its styles within, no scripts. Every text that
 * people have given is escaped. Pure; any thread. */
#include "render.h"
#include "statement.h"

enum { DECIMALS_MIN = 2 };

static const char style[] =
    "@page{size:A4;margin:18mm 16mm 20mm}"
    "*{box-sizing:border-box}"
    "body{font:10pt/1.45 -apple-system,'Segoe UI','Helvetica Neue',Arial,sans-serif;color:#1a1d21;max-width:178mm;"
    "margin:12mm auto;padding:0 4mm}"
    "header{display:flex;justify-content:space-between;align-items:flex-end;border-bottom:2px solid #1a1d21;"
    "padding-bottom:4mm;margin-bottom:6mm}"
    "h1{font-size:19pt;margin:0;letter-spacing:-.01em}"
    "h2{font-size:11pt;margin:8mm 0 2mm;break-after:avoid}"
    "header p{margin:0;text-align:right}"
    ".who{font-weight:600;font-size:12pt;overflow-wrap:anywhere}"
    ".dim{color:#5c646d;font-size:8.5pt;overflow-wrap:anywhere}"
    ".draft{border:1px solid #b45309;color:#8a3f06;padding:2mm 3mm;margin:0 0 5mm}"
    "table{width:100%;border-collapse:collapse}"
    "th{text-align:left;font-weight:600;font-size:8.5pt;color:#5c646d;border-bottom:1px solid #9aa3ad;padding:1mm 2mm}"
    "td{border-bottom:1px solid #e3e6e9;padding:1.2mm 2mm;vertical-align:top;overflow-wrap:anywhere}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;overflow-wrap:normal}"
    "tr{break-inside:avoid}thead{display:table-header-group}"
    "tr.sum td{font-weight:600;border-top:1px solid #1a1d21;border-bottom:none}"
    "tr.edge td{font-weight:600;background:#f2f4f6}"
    "p.note{color:#5c646d;font-size:8.5pt;margin:2mm 0 0}"
    "@media print{body{margin:0;max-width:none;padding:0}tr.edge td{-webkit-print-color-adjust:exact;"
    "print-color-adjust:exact}}";

static void put_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        switch (*p) {
        case '&':
            buf_append_str(out, "&amp;");
            break;
        case '<':
            buf_append_str(out, "&lt;");
            break;
        case '>':
            buf_append_str(out, "&gt;");
            break;
        case '"':
            buf_append_str(out, "&quot;");
            break;
        case '\'':
            buf_append_str(out, "&#39;");
            break;
        default:
            buf_append_char(out, *p);
        }
    }
}

/* Whole dollars in threes, then two decimals or as many as there are. */
static void put_money(struct buf *out, int64_t nano)
{
    char text[MONEY_TEXT];
    const char *p = money_format_nano(nano, text);
    size_t whole, decimals = MONEY_NANO_DIGITS;

    if (*p == '-') {
        buf_append_str(out, "\xE2\x88\x92"); /* a minus sign */
        p++;
    }
    buf_append_char(out, '$');
    whole = strcspn(p, ".");
    for (size_t i = 0; i < whole; i++) {
        buf_append_char(out, p[i]);
        if (i + 1 < whole && (whole - i - 1) % 3 == 0)
            buf_append_char(out, ',');
    }
    while (decimals > DECIMALS_MIN && p[whole + decimals] == '0')
        decimals--;
    buf_append(out, p + whole, decimals + 1);
}

/* As the clocks of the statement's zone show it. */
static void put_time(const struct statement *s, struct buf *out, int64_t wall)
{
    char text[CLOCK_TEXT];

    (void)clock_format(wall + zone_offset(s->zone, wall) * CLOCK_SECOND, text);
    buf_printf(out, "%.10s %.5s", text, text + 11);
}

static void put_amount_row(struct buf *out, const char *class, const char *label, int64_t count, int64_t nano)
{
    buf_printf(out, "<tr class=\"%s\"><td>", class);
    put_text(out, label);
    buf_append_str(out, "</td><td class=\"n\">");
    if (count >= 0)
        buf_printf(out, "%lld", (long long)count);
    buf_append_str(out, "</td><td class=\"n\">");
    put_money(out, nano);
    buf_append_str(out, "</td></tr>\n");
}

static const char *label_of(const char *kind)
{
    static const struct {
        const char *kind, *label;
    } labels[] = {
        {"charge", "Images"},
        {"retail_charge", "Images"},
        {"credit", "Credit"},
        {"adjustment", "Adjustments"},
        {"refund", "Refunds"},
        {"lapse", "Credit that expired"},
        {"withdrawal", "Credit that was voided"},
        {"settlement", "Credit line settled from new credit"},
    };

    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        if (strcmp(labels[i].kind, kind) == 0)
            return labels[i].label;
    }
    return kind;
}

static void put_movements(const struct statement *s, struct buf *out)
{
    buf_append_str(out,
                   "<h2>Account</h2>\n<table><thead><tr><th>Movement</th><th class=\"n\">Entries</th><th class=\"n\">"
                   "Amount</th></tr></thead><tbody>\n");
    put_amount_row(out, "edge", "Opening balance", -1, s->turnover.opening);
    for (int i = 0; i < s->turnover.n; i++)
        put_amount_row(out, "", label_of(s->turnover.kinds[i].kind), s->turnover.kinds[i].count,
                       s->turnover.kinds[i].amount);
    put_amount_row(out, "edge", "Closing balance", -1, s->turnover.closing);
    buf_append_str(out, "</tbody></table>\n");
}

static void put_grants(const struct statement *s, struct buf *out)
{
    char id[ID_TEXT];

    if (s->n_grants == 0)
        return;
    buf_append_str(out, "<h2>Credit received</h2>\n<table><thead><tr><th>Date</th><th>Credit</th><th>Expires</th>"
                        "<th class=\"n\">Amount</th></tr></thead><tbody>\n");
    for (int i = s->n_grants - 1; i >= 0; i--) {
        const struct store_grant *g = &s->grants[i];

        buf_append_str(out, "<tr><td>");
        put_time(s, out, g->created_at);
        buf_printf(out, "</td><td>%s", g->category == CREDIT_PAID ? "Paid" : "Promotional");
        if (g->note[0] != '\0') {
            buf_append_str(out, ": ");
            put_text(out, g->note);
        }
        buf_printf(out, "<div class=\"dim\">%s</div></td><td>",
                   id_format("grt", id_from_seq(g->created_at, g->seq), id));
        if (g->expires_at != 0)
            put_time(s, out, g->expires_at);
        else
            buf_append_str(out, "never");
        buf_append_str(out, "</td><td class=\"n\">");
        put_money(out, g->amount);
        buf_append_str(out, "</td></tr>\n");
    }
    buf_append_str(out, "</tbody></table>\n");
}

static void put_party(const struct statement *s, struct buf *out)
{
    char id[ID_TEXT];
    bool customer = statement_is_customers(s);
    const char *external = customer ? s->customer_external : s->tenant_external;

    buf_append_str(out, "<p><span class=\"who\">");
    put_text(out, customer ? s->customer_name : s->tenant_name);
    buf_append_str(out, "</span><br><span class=\"dim\">");
    if (customer) {
        put_text(out, s->tenant_name);
        buf_append_str(out, "<br>");
    }
    if (external[0] != '\0') {
        put_text(out, external);
        buf_append_str(out, "<br>");
    }
    buf_printf(out, "%s</span></p>",
               customer ? id_format("cus", s->wallet.customer, id) : id_format("ten", s->wallet.tenant, id));
}

static void html_head(const struct statement *s, struct buf *out)
{
    buf_append_str(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                        "content=\"width=device-width,initial-scale=1\"><title>Statement ");
    buf_printf(out, "%s - ", s->month);
    put_text(out, statement_is_customers(s) ? s->customer_name : s->tenant_name);
    buf_printf(out, "</title><style>%s</style></head>\n<body><header><div><h1>Statement %s</h1><div class=\"dim\">",
               style, s->month);
    put_time(s, out, s->from);
    buf_append_str(out, " to ");
    put_time(s, out, s->to);
    buf_append_str(out, ", time zone ");
    put_text(out, s->zone_name);
    buf_append_str(out, "<br>All amounts in US dollars</div></div>");
    put_party(s, out);
    buf_append_str(out, "</header>\n");
    if (!s->complete) {
        buf_append_str(out, "<p class=\"draft\">The month is not over: this is what it has come to by ");
        put_time(s, out, s->as_of);
        buf_append_str(out, ".</p>\n");
    }
    put_movements(s, out);
    put_grants(s, out);
    buf_printf(out,
               "<h2>Images</h2>\n<table><thead><tr>%s<th>Model</th><th class=\"n\">Requests</th><th "
               "class=\"n\">Images</th><th class=\"n\">Amount</th></tr></thead><tbody>\n",
               statement_is_customers(s) ? "" : "<th>Customer</th>");
}

static void put_customer(const struct report_row *row, const struct record *customer, struct buf *out)
{
    char id[ID_TEXT];

    buf_append_str(out, "<td>");
    if (customer != NULL) {
        put_text(out, customer->name);
        if (customer->external_id[0] != '\0') {
            buf_append_str(out, "<div class=\"dim\">");
            put_text(out, customer->external_id);
            buf_append_str(out, "</div>");
        }
    } else {
        buf_append_str(out, id_is_zero(row->customer) ? "Own keys" : id_format("cus", row->customer, id));
    }
    buf_append_str(out, "</td>");
}

static void html_row(const struct statement *s, const struct report_row *row, const struct record *customer,
                     struct buf *out)
{
    buf_append_str(out, "<tr>");
    if (!statement_is_customers(s))
        put_customer(row, customer, out);
    buf_append_str(out, "<td>");
    put_text(out, row->model != NULL ? row->model : "");
    buf_printf(out, "</td><td class=\"n\">%lld</td><td class=\"n\">%lld</td><td class=\"n\">", (long long)row->requests,
               (long long)row->images);
    put_money(out, statement_price(s, row));
    buf_append_str(out, "</td></tr>\n");
}

static void html_tail(const struct statement *s, struct buf *out)
{
    int64_t left = s->amount - statement_charged(s);

    buf_printf(out,
               "<tr class=\"sum\"><td%s>Total</td><td class=\"n\">%lld</td><td class=\"n\">%lld</td><td class=\"n\">",
               statement_is_customers(s) ? "" : " colspan=\"2\"", (long long)s->requests, (long long)s->images);
    put_money(out, s->amount);
    buf_append_str(out, "</td></tr>\n</tbody></table>\n");
    if (left != 0) {
        buf_append_str(out, "<p class=\"note\">Of this ");
        put_money(out, left);
        buf_append_str(
            out, statement_is_customers(s)
                     ? " was not charged to this account: it is owed beyond it, or was paid from the reseller's.</p>\n"
                     : " was not charged to this account: it was used beyond what the account could bear, and is "
                       "owed.</p>\n");
    }
    buf_append_str(out, "</body></html>\n");
}

const struct statement_writer statement_html = {html_head, html_row, html_tail};
