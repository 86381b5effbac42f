/* usage.c - usage records: one row a finished request, newest first; a page of them, or all as CSV or NDJSON.
 *
 * The filters' ids are looked up first (filter.c), then the records are asked for page by page. An export asks for the
 * next page before it writes the last one, so that store and loop work at the same time; it holds two pages and two
 * pieces (stream.c), whatever its length. A tenant's token sees neither cost nor channel, and its margin is retail -
 * wholesale. The call's loop. */
#include <stdlib.h>

#include "filter.h"
#include "page.h"
#include "render.h"
#include "stream.h"

enum { EXPORT_PAGE = 250 }; /* records that are asked for at once */
_Static_assert((int)EXPORT_PAGE <= (int)STORE_EXPORT, "what the store gives at once");

struct usage_ask {
    struct filter super;
    char limit_text[16], after_text[ID_TEXT * 2], request_text[ID_TEXT * 2], format_text[16];
    enum stream_format format;
    int limit;
    bool all; /* an export to the end, not a page */
    bool headed;
    int64_t after_seq;
    struct id request;
    struct usage_record *pages[2]; /* an export's, by turns the store's and the one that is written; owned */
    int turn;
};

static void drop_ask(void *state)
{
    struct usage_ask *ask = state;

    free(ask->pages[0]);
    free(ask->pages[1]);
    free(ask);
}

/* ---- reading the query ---- */

static enum err_code read_after(struct usage_ask *ask, struct err *err)
{
    struct id id;

    if (ask->after_text[0] == '\0')
        return ERR_OK;
    if (!id_parse("use", slice_from(ask->after_text), &id) || id_seq(id) <= 0)
        return err_set(err, ERR_INVALID_VALUE, "after",
                       "Invalid value for 'after': '%.40s' is not a cursor of this list.", ask->after_text);
    ask->after_seq = id_seq(id);
    return ERR_OK;
}

static enum err_code read_request(struct usage_ask *ask, struct err *err)
{
    if (ask->request_text[0] == '\0' ||
        (id_parse("req", slice_from(ask->request_text), &ask->request) && !id_is_zero(ask->request)))
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, "request_id", "Invalid value for 'request_id': '%.40s' is no request's id.",
                   ask->request_text);
}

static enum err_code read_query(const struct admin_call *call, struct usage_ask *ask, struct err *err)
{
    struct query_field fields[QUERY_FIELDS];
    size_t n = 0;
    enum err_code code;

    filter_add_fields(&ask->super, fields, &n);
    fields[n++] = (struct query_field){.name = "limit", .out = ask->limit_text, .cap = sizeof(ask->limit_text)};
    fields[n++] = (struct query_field){.name = "after", .out = ask->after_text, .cap = sizeof(ask->after_text)};
    fields[n++] =
        (struct query_field){.name = "request_id", .out = ask->request_text, .cap = sizeof(ask->request_text)};
    fields[n++] = (struct query_field){.name = "format", .out = ask->format_text, .cap = sizeof(ask->format_text)};
    code = query_read(front_call_query(call->front), call->who.tenant_row == 0, fields, n, err);
    if (code == ERR_OK)
        code = query_int("limit", ask->limit_text, 1, PAGE_LIMIT_MAX, &ask->limit, err);
    if (code == ERR_OK)
        code = read_after(ask, err);
    if (code == ERR_OK)
        code = read_request(ask, err);
    if (code == ERR_OK)
        code = stream_choose(call, ask->format_text, 1u << STREAM_JSON | 1u << STREAM_CSV | 1u << STREAM_NDJSON,
                             &ask->format, err);
    return code == ERR_OK ? filter_read(&ask->super, err) : code;
}

/* ---- asking ---- */

static void ask_page(struct admin_call *call, void (*next)(struct admin_call *call))
{
    const struct usage_ask *ask = call->state;
    struct store_usage_query *query;

    admin_begin(call, OP_USAGE);
    query = &call->op.question->of.usage;
    query->filter = ask->super.of;
    query->request = ask->request;
    query->after_seq = ask->after_seq;
    query->limit = ask->limit;
    query->page = ask->pages[ask->turn];
    admin_submit(call, next);
}

/* ---- a page ---- */

static void reply_page(struct admin_call *call)
{
    const struct store_usage_query *query = &call->op.question->of.usage;
    bool platform = call->who.tenant_row == 0;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++)
        usage_render(&query->items[i], platform, &out);
    if (query->n > 0) {
        const struct usage_record *last = &query->items[query->n - 1];

        id_format("use", id_from_seq(last->created_at, last->seq), next);
    }
    render_list_close(&out, query->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

/* ---- an export ---- */

static void write_records(struct admin_call *call, struct usage_ask *ask, const struct usage_record *records, int n)
{
    bool platform = call->who.tenant_row == 0;
    struct buf *out = stream_out(call);

    if (!ask->headed && ask->format == STREAM_CSV)
        usage_render_csv_head(platform, out);
    ask->headed = true;
    for (int i = 0; i < n; i++) {
        if (ask->format == STREAM_CSV) {
            usage_render_csv(&records[i], platform, out);
        } else {
            usage_render(&records[i], platform, out);
            buf_append_char(out, '\n');
        }
    }
}

static void export_more(struct admin_call *call);

static void page_came(struct admin_call *call)
{
    struct usage_ask *ask = call->state;
    const struct usage_record *records = ask->pages[ask->turn];
    int n = call->op.question->of.usage.n;
    bool more = call->op.question->of.usage.more && ask->all;

    ask->turn = !ask->turn;
    if (more)
        ask->after_seq = records[n - 1].seq;
    if (more && !stream_full(call))
        export_more(call);
    write_records(call, ask, records, n);
    if (more)
        stream_push(call);
    else
        stream_end(call);
}

static void export_more(struct admin_call *call)
{
    ask_page(call, page_came);
}

static void begin(struct admin_call *call)
{
    struct usage_ask *ask = call->state;

    ask->all = ask->format != STREAM_JSON && ask->limit == 0;
    if (ask->limit == 0)
        ask->limit = ask->all ? EXPORT_PAGE : PAGE_LIMIT;
    if (ask->format == STREAM_JSON) {
        ask_page(call, reply_page);
        return;
    }
    for (int i = 0; i < 2; i++)
        ask->pages[i] = mem_alloc((size_t)ask->limit * sizeof(struct usage_record));
    stream_open(call, ask->format, "usage-records", export_more);
}

void usage_records(struct admin_call *call)
{
    struct usage_ask *ask = mem_zalloc(sizeof(*ask));
    struct err err;

    filter_init(&ask->super);
    admin_keep(call, ask, drop_ask);
    if (read_query(call, ask, &err) == ERR_OK)
        filter_resolve(call, begin);
    else
        admin_fail(call, &err);
}

/* ---- one record ---- */

const struct noun noun_usage = {.kind = RECORD_KINDS, .word = "usage record", .prefix = "use"};

/* The number in an id finds a record; its time must be the record's, too. */
static void record_fetched(struct admin_call *call)
{
    const struct store_usage_query *query = &call->op.question->of.usage;
    const struct usage_record *u = &query->items[0];

    if (query->n != 1 || !id_eq(id_from_seq(u->created_at, u->seq), call->id))
        admin_fail_no_such(call);
    else
        call->found(call);
}

void usage_fetch(struct admin_call *call, void (*next)(struct admin_call *call))
{
    struct store_usage_query *query;

    if (id_seq(call->id) <= 0) {
        admin_fail_no_such(call);
        return;
    }
    admin_begin(call, OP_USAGE);
    query = &call->op.question->of.usage;
    if (call->who.tenant_row != 0)
        query->filter.tenants = (struct filter_rows){1, {call->who.tenant_row}};
    query->seq = id_seq(call->id);
    query->limit = 1;
    call->found = next;
    admin_submit(call, record_fetched);
}

static void reply_record(struct admin_call *call)
{
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    usage_render(&call->op.question->of.usage.items[0], call->who.tenant_row == 0, &out);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

void usage_get(struct admin_call *call)
{
    usage_fetch(call, reply_record);
}
