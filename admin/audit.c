/* audit.c - GET /audit: who changed what, newest first; a page of it, or all as CSV or NDJSON.
 *
 * A tenant's token sees what is about its tenant. What the platform did to it is shown without the platform's token and
 * address. An export asks for a page, writes it, and asks for the next when there is room (stream.c). The call's loop.
 */
#include <stdlib.h>

#include "page.h"
#include "pen.h"
#include "query.h"
#include "render.h"
#include "stream.h"

enum { WORD = 16, ACTION = 48, TIME = 64, OBJECT_PREFIX = 3 };

struct audit_ask {
    char tenant[ID_TEXT * 2], token[ID_TEXT * 2], action[ACTION], object[ID_TEXT];
    char start_text[TIME], end_text[TIME], format_text[WORD], limit_text[WORD], after_text[ID_TEXT * 2];
    struct id tenant_id, token_id;
    int64_t start_time, end_time, after;
    int limit;
    enum stream_format format;
    bool all; /* an export to the end, not a page */
    bool headed;
    struct audit_scan scan; /* what the last page has found out for the next */
};

/* ---- the query ---- */

static enum err_code read_ids(const struct admin_call *call, struct audit_ask *ask, struct err *err)
{
    struct id after;

    if (ask->tenant[0] != '\0' && (!id_parse("ten", slice_from(ask->tenant), &ask->tenant_id) ||
                                   (call->who.tenant_row != 0 && !id_eq(ask->tenant_id, call->who.tenant))))
        return admin_no_such(err, "tenant", "tenant", slice_from(ask->tenant));
    if (ask->token[0] != '\0' && (!id_parse("adt", slice_from(ask->token), &ask->token_id)))
        return admin_no_such(err, "admin token", "token", slice_from(ask->token));
    if (ask->after_text[0] == '\0')
        return ERR_OK;
    if (!id_parse("aud", slice_from(ask->after_text), &after) || id_seq(after) <= 0)
        return err_set(err, ERR_INVALID_VALUE, "after",
                       "Invalid value for 'after': '%.40s' is not a cursor of this list.", ask->after_text);
    ask->after = id_seq(after);
    return ERR_OK;
}

static bool is_action(const char *text)
{
    int dots = 0;

    if (*text == '.')
        return false;
    for (; *text != '\0'; text++) {
        dots += *text == '.';
        if (*text != '.' && *text != '_' && (*text < 'a' || *text > 'z'))
            return false;
    }
    return dots <= 1;
}

static bool is_object(const char *text)
{
    char prefix[OBJECT_PREFIX + 1];
    struct id id;

    for (int i = 0; i < OBJECT_PREFIX; i++) {
        if (text[i] < 'a' || text[i] > 'z')
            return false;
        prefix[i] = text[i];
    }
    prefix[OBJECT_PREFIX] = '\0';
    return id_parse(prefix, slice_from(text), &id);
}

static enum err_code read_words(const struct admin_call *call, struct audit_ask *ask, struct err *err)
{
    enum err_code code = query_time("start_time", ask->start_text, &ask->start_time, err);

    if (code == ERR_OK)
        code = query_time("end_time", ask->end_text, &ask->end_time, err);
    if (code == ERR_OK)
        code = query_int("limit", ask->limit_text, 1, PAGE_LIMIT_MAX, &ask->limit, err);
    if (code == ERR_OK)
        code = stream_choose(call, ask->format_text, 1u << STREAM_JSON | 1u << STREAM_CSV | 1u << STREAM_NDJSON,
                             &ask->format, err);
    if (code == ERR_OK && ask->action[0] != '\0' && !is_action(ask->action))
        code = err_set(err, ERR_INVALID_VALUE, "action",
                       "Invalid value for 'action': expected an action such as 'key.create', or a beginning such as "
                       "'key.'.");
    if (code == ERR_OK && ask->object[0] != '\0' && !is_object(ask->object))
        code = err_set(err, ERR_INVALID_VALUE, "object", "Invalid value for 'object': expected the id of an object.");
    return code;
}

static enum err_code read_query(const struct admin_call *call, struct audit_ask *ask, struct err *err)
{
    const struct query_field fields[] = {
        {.name = "tenant", .out = ask->tenant, .cap = sizeof(ask->tenant)},
        {.name = "token", .out = ask->token, .cap = sizeof(ask->token)},
        {.name = "action", .out = ask->action, .cap = sizeof(ask->action)},
        {.name = "object", .out = ask->object, .cap = sizeof(ask->object)},
        {.name = "start_time", .out = ask->start_text, .cap = sizeof(ask->start_text)},
        {.name = "end_time", .out = ask->end_text, .cap = sizeof(ask->end_text)},
        {.name = "format", .out = ask->format_text, .cap = sizeof(ask->format_text)},
        {.name = "limit", .out = ask->limit_text, .cap = sizeof(ask->limit_text)},
        {.name = "after", .out = ask->after_text, .cap = sizeof(ask->after_text)},
    };
    enum err_code code = query_read(front_call_query(call->front), call->who.tenant_row == 0, fields,
                                    sizeof(fields) / sizeof(fields[0]), err);

    if (code == ERR_OK)
        code = read_words(call, ask, err);
    return code == ERR_OK ? read_ids(call, ask, err) : code;
}

/* ---- entries ---- */

enum { HASH_TEXT = 2 * SECRET_DIGEST };

static struct slice hash_text(const struct store_audited *a, char out[HASH_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < SECRET_DIGEST; i++) {
        out[2 * i] = digits[a->hash[i] >> 4];
        out[2 * i + 1] = digits[a->hash[i] & 15];
    }
    return (struct slice){out, a->chained ? HASH_TEXT : 0};
}

/* Who did it, and from where, is the reader's to know. */
static bool is_open(const struct admin_call *call, const struct store_audited *a)
{
    return call->who.tenant_row == 0 || a->token_tenant == call->who.tenant_row;
}

static void render_entry(const struct admin_call *call, const struct store_audited *a, struct buf *out)
{
    bool open = is_open(call, a);
    char hash[HASH_TEXT];

    render_open(out, NULL, '{');
    render_id(out, "id", "aud", id_from_seq(a->at, a->seq));
    render_text(out, "object", SLICE("audit_entry"));
    render_time(out, "created_at", a->at);
    render_text(out, "action", slice_from(a->action));
    render_text_or_null(out, "object_id", a->object);
    render_id(out, "tenant", "ten", a->tenant_id);
    if (open && !id_is_zero(a->token_id)) {
        render_open(out, "token", '{');
        render_id(out, "id", "adt", a->token_id);
        render_text(out, "name", slice_from(a->token_name));
        render_close(out, '}');
    } else {
        render_null(out, "token");
    }
    render_text_or_null(out, "peer", open ? a->peer : NULL);
    render_id(out, "request_id", "req", a->request);
    render_json(out, "before", a->before, "null");
    render_json(out, "after", a->after, "null");
    if (a->chained)
        render_text(out, "hash", hash_text(a, hash));
    else
        render_null(out, "hash");
    render_close(out, '}');
}

static void put_cell(struct buf *out, struct slice text, char end)
{
    char *room = buf_reserve(out, PEN_TEXT(text.len) + 1), *p;

    if (room == NULL)
        return;
    p = pen_csv(room, text);
    *p++ = end;
    buf_advance(out, (size_t)(p - room));
}

static void put_id_cell(struct buf *out, const char *prefix, struct id id, bool shown)
{
    char text[ID_TEXT] = "";

    if (shown && !id_is_zero(id))
        (void)id_format(prefix, id, text);
    put_cell(out, slice_from(text), ',');
}

static void put_line(const struct admin_call *call, const struct store_audited *a, struct buf *out)
{
    bool open = is_open(call, a);
    char time[CLOCK_TEXT], hash[HASH_TEXT];

    put_id_cell(out, "aud", id_from_seq(a->at, a->seq), true);
    put_cell(out, slice_from(clock_format(a->at, time)), ',');
    put_cell(out, slice_from(a->action), ',');
    put_cell(out, slice_from(a->object), ',');
    put_id_cell(out, "ten", a->tenant_id, true);
    put_id_cell(out, "adt", a->token_id, open);
    put_cell(out, slice_from(open ? a->token_name : ""), ',');
    put_cell(out, slice_from(open ? a->peer : ""), ',');
    put_id_cell(out, "req", a->request, true);
    put_cell(out, slice_from(a->before != NULL ? a->before : ""), ',');
    put_cell(out, slice_from(a->after != NULL ? a->after : ""), ',');
    put_cell(out, hash_text(a, hash), '\n');
}

/* ---- asking ---- */

/* What the store does not know is told in the words for what is not there. */
static bool refuse_name(struct admin_call *call, const struct err *err)
{
    const struct audit_ask *ask = call->state;
    bool tenant = strcmp(err->param, "tenant") == 0;
    struct err refusal;

    if (err->code != ERR_NOT_FOUND)
        return false;
    (void)admin_no_such(&refusal, tenant ? "tenant" : "admin token", tenant ? "tenant" : "token",
                        slice_from(tenant ? ask->tenant : ask->token));
    admin_fail(call, &refusal);
    return true;
}

static void ask_page(struct admin_call *call, void (*next)(struct admin_call *call))
{
    const struct audit_ask *ask = call->state;
    struct store_audit_query *query;

    admin_begin(call, OP_AUDIT);
    call->failed = refuse_name;
    query = &call->op.question->of.audit;
    query->tenant_row = call->who.tenant_row;
    query->tenant = ask->tenant_id;
    query->token = ask->token_id;
    memcpy(query->action, ask->action, sizeof(query->action));
    memcpy(query->object, ask->object, sizeof(query->object));
    query->start_time = ask->start_time;
    query->end_time = ask->end_time;
    query->after = ask->after;
    query->limit = ask->limit;
    query->scan = ask->scan;
    query->scan.scanned = 0;
    admin_submit(call, next);
}

static void reply_page(struct admin_call *call)
{
    const struct store_audit_query *query = &call->op.question->of.audit;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++)
        render_entry(call, &query->items[i], &out);
    if (query->n > 0)
        id_format("aud", id_from_seq(query->items[query->n - 1].at, query->items[query->n - 1].seq), next);
    render_list_close(&out, query->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

/* ---- an export ---- */

static void write_entries(struct admin_call *call, struct audit_ask *ask, const struct store_audit_query *query)
{
    struct buf *out = stream_out(call), entry;

    if (!ask->headed && ask->format == STREAM_CSV)
        buf_append_str(out, "id,created_at,action,object_id,tenant,token_id,token_name,peer,request_id,before,after,"
                            "hash\n");
    ask->headed = true;
    buf_init(&entry, ADMIN_REPLY);
    for (int i = 0; i < query->n; i++) {
        if (ask->format == STREAM_CSV) {
            put_line(call, &query->items[i], out);
            continue;
        }
        buf_clear(&entry); /* each stands alone: no comma before it */
        render_entry(call, &query->items[i], &entry);
        buf_append_slice(out, buf_slice(&entry));
        buf_append_char(out, '\n');
    }
    buf_dispose(&entry);
}

static void page_came(struct admin_call *call)
{
    struct audit_ask *ask = call->state;
    struct admin_question *question = admin_question_take(call);
    const struct store_audit_query *query = &question->of.audit;
    bool more = query->more && ask->all;

    write_entries(call, ask, query);
    if (more) {
        ask->after = query->items[query->n - 1].seq;
        ask->scan = query->scan;
    }
    admin_question_destroy(question, OP_AUDIT);
    if (more)
        stream_push(call);
    else
        stream_end(call);
}

static void export_more(struct admin_call *call)
{
    ask_page(call, page_came);
}

void audit_list(struct admin_call *call)
{
    struct audit_ask *ask = mem_zalloc(sizeof(*ask));
    struct err err;

    admin_keep(call, ask, free);
    if (read_query(call, ask, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    ask->all = ask->format != STREAM_JSON && ask->limit == 0;
    if (ask->limit == 0)
        ask->limit = ask->all ? STORE_PAGE : PAGE_LIMIT;
    if (ask->format == STREAM_JSON)
        ask_page(call, reply_page);
    else
        stream_open(call, ask->format, "audit", export_more);
}
