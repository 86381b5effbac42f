/* statement.c - GET /tenants/{id}/statement and /customers/{id}/statement: gathering a month, then writing it.
 *
 *   fetched --> TURNOVER --> GRANTS ... GRANTS --> REPORT --(month over)--> write ... write
 *      ^                                             |                        ^
 *      |                                             '--> TURNOVER --same-----+
 *      '------- differs: up to the last whole minute -------'
 *
 * The questions are answered one after the other, and while the month runs money moves in between: then the turnover is
 * asked for again, and when it has changed all is asked once more, up to a minute that is over. So what a statement
 * says belongs together. The call's loop. */
#include "statement.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/money.h"
#include "daemon/base/zone.h"
#include "query.h"

#define MINUTE (60 * CLOCK_SECOND)
enum { SETTLING = 2 }; /* seconds after which everything of a minute has been committed */

bool statement_is_customers(const struct statement *s)
{
    return s->wallet.customer_row != 0;
}

int64_t statement_price(const struct statement *s, const struct report_row *row)
{
    return statement_is_customers(s) ? row->retail : row->wholesale;
}

int64_t statement_charged(const struct statement *s)
{
    const char *kind = statement_is_customers(s) ? "retail_charge" : "charge";

    for (int i = 0; i < s->turnover.n; i++) {
        if (strcmp(s->turnover.kinds[i].kind, kind) == 0)
            return -s->turnover.kinds[i].amount;
    }
    return 0;
}

static void drop(void *state)
{
    struct statement *s = state;

    zone_unref(s->zone);
    free(s->grants);
    admin_question_destroy(s->report, OP_REPORT);
    free(s);
}

/* ---- writing ---- */

static const struct statement_writer *writer_of(const struct statement *s)
{
    return s->format == STREAM_HTML ? &statement_html : s->format == STREAM_CSV ? &statement_csv : &statement_json;
}

static void add(int64_t *sum, int64_t value)
{
    int64_t total;

    *sum = money_add(*sum, value, &total) ? total : INT64_MAX;
}

static void write_row(struct admin_call *call, struct statement *s, const struct report_row *row)
{
    const struct record *customer =
        id_is_zero(row->customer) ? NULL : catalog_by_id(call->catalog, RECORD_CUSTOMER, row->customer);

    writer_of(s)->row(s, row, customer, stream_out(call));
    add(&s->requests, row->requests);
    add(&s->images, row->images);
    add(&s->amount, statement_price(s, row));
}

static void write_more(struct admin_call *call)
{
    struct statement *s = call->state;
    const struct store_report *report = &s->report->of.report;

    if (!s->headed)
        writer_of(s)->head(s, stream_out(call));
    s->headed = true;
    while (s->row < report->n_rows && !stream_full(call))
        write_row(call, s, &report->rows[s->row++]);
    if (s->row < report->n_rows) {
        stream_push(call);
        return;
    }
    writer_of(s)->tail(s, stream_out(call));
    stream_end(call);
}

static void begin_writing(struct admin_call *call)
{
    struct statement *s = call->state;
    char name[STREAM_NAME];

    (void)snprintf(name, sizeof(name), "statement-%s", s->month);
    call->failed = NULL;
    stream_open(call, s->format, name, write_more);
}

/* ---- gathering ---- */

static void ask_turnover(struct admin_call *call, void (*next)(struct admin_call *call));
static void turnover_came(struct admin_call *call);

static bool is_same(const struct store_turnover *a, const struct store_turnover *b)
{
    bool same = a->opening == b->opening && a->closing == b->closing && a->n == b->n;

    for (int i = 0; same && i < a->n; i++)
        same = strcmp(a->kinds[i].kind, b->kinds[i].kind) == 0 && a->kinds[i].amount == b->kinds[i].amount &&
               a->kinds[i].count == b->kinds[i].count;
    return same;
}

static void forget(struct statement *s)
{
    s->n_grants = 0;
    admin_question_destroy(s->report, OP_REPORT);
    s->report = NULL;
}

/* While all was asked something moved: once more, up to a time before which nothing moves any more. */
static void compare(struct admin_call *call)
{
    struct statement *s = call->state;
    int64_t quiet = (clock_wall() - SETTLING * CLOCK_SECOND) / MINUTE * MINUTE;

    if (is_same(&s->turnover, &call->op.question->of.turnover) || quiet <= s->from) {
        begin_writing(call);
        return;
    }
    forget(s);
    s->as_of = quiet;
    s->settled = true;
    ask_turnover(call, turnover_came);
}

static void report_came(struct admin_call *call)
{
    struct statement *s = call->state;

    s->report = admin_question_take(call);
    if (s->settled)
        begin_writing(call);
    else
        ask_turnover(call, compare);
}

static int64_t end_of(const struct statement *s)
{
    return s->settled ? s->as_of : s->to;
}

static void ask_report(struct admin_call *call)
{
    const struct statement *s = call->state;
    struct store_report *report;

    admin_begin(call, OP_REPORT);
    report = &call->op.question->of.report;
    report->filter.tenants = (struct filter_rows){1, {s->wallet.tenant_row}};
    if (statement_is_customers(s))
        report->filter.customers = (struct filter_rows){1, {s->wallet.customer_row}};
    report->filter.start_time = s->from;
    report->filter.end_time = end_of(s);
    report->group_by = 1u << REPORT_CUSTOMER | 1u << REPORT_MODEL;
    report->width = REPORT_ALL;
    (void)slice_copy(slice_from(s->zone_name), report->zone, sizeof(report->zone));
    report->limit = 1;
    admin_submit(call, report_came);
}

static void ask_grants(struct admin_call *call, int64_t after);

static void grants_came(struct admin_call *call)
{
    struct statement *s = call->state;
    const struct store_grants_query *query = &call->op.question->of.grants;
    struct err err;

    if (s->n_grants + query->n > STATEMENT_GRANTS) {
        (void)err_set(&err, ERR_INVALID_VALUE, "month",
                      "The month has more than %d grants, which is more than a statement can show.", STATEMENT_GRANTS);
        admin_fail(call, &err);
        return;
    }
    s->grants = mem_realloc(s->grants, ((size_t)s->n_grants + (size_t)query->n + 1) * sizeof(s->grants[0]));
    memcpy(s->grants + s->n_grants, query->items, (size_t)query->n * sizeof(s->grants[0]));
    s->n_grants += query->n;
    if (query->more)
        ask_grants(call, query->items[query->n - 1].seq);
    else
        ask_report(call);
}

static void ask_grants(struct admin_call *call, int64_t after)
{
    const struct statement *s = call->state;
    struct store_grants_query *query;

    admin_begin(call, OP_GRANTS);
    query = &call->op.question->of.grants;
    query->tenant_row = s->wallet.tenant_row;
    query->customer_row = s->wallet.customer_row;
    query->start_time = s->from;
    query->end_time = end_of(s);
    query->after = after;
    query->limit = STORE_PAGE;
    admin_submit(call, grants_came);
}

static void turnover_came(struct admin_call *call)
{
    struct statement *s = call->state;

    s->turnover = call->op.question->of.turnover;
    ask_grants(call, 0);
}

static void ask_turnover(struct admin_call *call, void (*next)(struct admin_call *call))
{
    const struct statement *s = call->state;
    struct store_turnover *turnover;

    admin_begin(call, OP_TURNOVER);
    turnover = &call->op.question->of.turnover;
    turnover->tenant_row = s->wallet.tenant_row;
    turnover->customer_row = s->wallet.customer_row;
    turnover->from = s->from;
    turnover->to = end_of(s);
    admin_submit(call, next);
}

/* ---- whose, and which month ---- */

static bool read_digits(const char *text, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *out = *out * 10 + (text[i] - '0');
    }
    return true;
}

static enum err_code read_month(struct statement *s, struct err *err)
{
    int year, month;
    enum err_code code;

    if (s->month[0] == '\0')
        return err_set(err, ERR_MISSING_PARAMETER, "month", "Missing required parameter: 'month'.");
    if (strlen(s->month) != 7 || s->month[4] != '-' || !read_digits(s->month, 4, &year) ||
        !read_digits(s->month + 5, 2, &month) || year < 1970 || month < 1 || month > 12)
        return err_set(err, ERR_INVALID_VALUE, "month",
                       "Invalid value for 'month': expected a month such as '2030-01', but got '%s' instead.",
                       s->month);
    code = zone_open(s->zone_name, &s->zone, err);
    if (code != ERR_OK)
        return code;
    s->from = zone_day_begins(s->zone, zone_day_of(year, month, 1));
    s->to = zone_day_begins(s->zone, month == 12 ? zone_day_of(year + 1, 1, 1) : zone_day_of(year, month + 1, 1));
    return ERR_OK;
}

static enum err_code read_period(struct statement *s, struct err *err)
{
    int64_t now = clock_wall();
    enum err_code code = read_month(s, err);

    if (code != ERR_OK)
        return code;
    if (s->from > now)
        return err_set(err, ERR_INVALID_VALUE, "month", "Invalid value for 'month': '%s' has not begun.", s->month);
    if (s->from <= 0)
        s->from = 1; /* the month of the epoch: 0 would mean that there is no begin */
    s->complete = s->to <= now;
    s->settled = s->to <= now - SETTLING * CLOCK_SECOND;
    s->as_of = s->settled ? s->to : now;
    return ERR_OK;
}

static enum err_code read_query(struct admin_call *call, struct statement *s, struct err *err)
{
    char format[16];
    const struct query_field fields[] = {{"month", s->month, sizeof(s->month), NULL, 0},
                                         {"format", format, sizeof(format), NULL, 0}};
    enum err_code code = query_read(front_call_query(call->front), call->who.tenant_row == 0, fields, 2, err);

    if (code == ERR_OK)
        code = stream_choose(call, format, 1u << STREAM_JSON | 1u << STREAM_CSV | 1u << STREAM_HTML, &s->format, err);
    return code == ERR_OK ? read_period(s, err) : code;
}

static void copy_names(struct admin_call *call, struct statement *s, const struct record *record)
{
    const struct tenant *tenant = (const struct tenant *)record;

    if (record->kind == RECORD_CUSTOMER) {
        memcpy(s->customer_name, record->name, LIMIT_NAME);
        memcpy(s->customer_external, record->external_id, LIMIT_NAME);
        tenant = catalog_by_row(call->catalog, RECORD_TENANT, s->wallet.tenant_row);
    }
    (void)slice_copy(SLICE("UTC"), s->zone_name, sizeof(s->zone_name));
    if (tenant == NULL) /* closed a moment ago */
        return;
    memcpy(s->tenant_name, tenant->super.name, LIMIT_NAME);
    memcpy(s->tenant_external, tenant->super.external_id, LIMIT_NAME);
    memcpy(s->zone_name, tenant->timezone, sizeof(s->zone_name));
}

static void fetched(struct admin_call *call, const struct record *record)
{
    struct statement *s = mem_zalloc(sizeof(*s));
    struct err err;
    enum err_code code = ERR_OK;

    admin_keep(call, s, drop);
    s->wallet = wallet_from(call, record);
    copy_names(call, s, record);
    if (!s->wallet.own)
        code = err_set(&err, ERR_CONFLICT, NULL,
                       "The customer has no statement: it pays from its tenant's wallet (wallet: shared).");
    if (code == ERR_OK)
        code = read_query(call, s, &err);
    if (code == ERR_OK)
        ask_turnover(call, turnover_came);
    else
        admin_fail(call, &err);
}

void statement_get(struct admin_call *call)
{
    noun_fetch(call, fetched);
}
