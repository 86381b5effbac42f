/* usage.c - usage records: one row a finished request, newest first.
 *
 * The filters' ids are looked up in the store one after the other (revoked keys have usage, too, and are in no
 * catalog), then the records are asked for. A tenant's token sees neither cost nor channel, and its margin is retail -
 * wholesale. */
#include <stdlib.h>

#include "page.h"
#include "render.h"
#include "house.h"

struct id_filter {
    const char *name;
    enum record_kind kind;
    const char *word;
    char text[ID_TEXT * 2];
    int64_t row;
};

enum { FILTER_TENANT = 0, FILTER_CUSTOMER, FILTER_KEY, FILTER_CHANNEL };

struct usage_filter {
    struct page page;
    struct id_filter ids[ADMIN_FILTERS];
    int next_id;
    char model[LIMIT_MODEL], operation_text[LIMIT_NAME], size[LIMIT_SIZE], quality[LIMIT_QUALITY];
    char start_text[CLOCK_TEXT * 2], end_text[CLOCK_TEXT * 2];
    enum image_operation operation;
    int64_t start_time, end_time, after_seq;
};

static struct usage_filter *filter_create(void)
{
    struct usage_filter *f = mem_zalloc(sizeof(*f));

    f->ids[FILTER_TENANT] = (struct id_filter){.name = "tenant", .kind = RECORD_TENANT, .word = "tenant"};
    f->ids[FILTER_CUSTOMER] = (struct id_filter){.name = "customer", .kind = RECORD_CUSTOMER, .word = "customer"};
    f->ids[FILTER_KEY] = (struct id_filter){.name = "key", .kind = RECORD_KEY, .word = "key"};
    f->ids[FILTER_CHANNEL] = (struct id_filter){.name = "channel", .kind = RECORD_CHANNEL, .word = "channel"};
    return f;
}

/* ---- reading the query ---- */

static enum err_code read_time(const char *name, const char *text, int64_t *out, struct err *err)
{
    if (text[0] == '\0' || clock_parse(slice_from(text), out))
        return ERR_OK;
    return err_set(
        err, ERR_INVALID_VALUE, name,
        "Invalid value for '%s': expected a time such as '2030-01-31T12:00:00Z' or Unix seconds, but got '%s' instead.",
        name, text);
}

static enum err_code read_values(struct usage_filter *f, struct err *err)
{
    enum err_code code;

    if (f->operation_text[0] != '\0' && !price_operation_parse(slice_from(f->operation_text), &f->operation))
        return err_set(err, ERR_INVALID_VALUE, "operation",
                       "Invalid value: '%.40s'. Supported values are: 'generations', 'edits', and 'variations'.",
                       f->operation_text);
    code = read_time("start_time", f->start_text, &f->start_time, err);
    if (code == ERR_OK)
        code = read_time("end_time", f->end_text, &f->end_time, err);
    return code;
}

static enum err_code read_query(const struct admin_call *call, struct usage_filter *f, struct err *err)
{
    struct page_field fields[PAGE_FIELDS] = {
        {"model", f->model, sizeof(f->model)},
        {"operation", f->operation_text, sizeof(f->operation_text)},
        {"size", f->size, sizeof(f->size)},
        {"quality", f->quality, sizeof(f->quality)},
        {"start_time", f->start_text, sizeof(f->start_text)},
        {"end_time", f->end_text, sizeof(f->end_text)},
    };
    size_t n = 6;
    enum err_code code;

    for (int i = 0; i < ADMIN_FILTERS; i++) {
        if (i != FILTER_CHANNEL || call->who.tenant_row == 0) /* a tenant does not know that there are channels */
            fields[n++] = (struct page_field){f->ids[i].name, f->ids[i].text, sizeof(f->ids[i].text)};
    }
    code = page_read(front_call_query(call->front), "use", fields, n, &f->page, err);
    if (code == ERR_OK)
        code = page_seq(&f->page, &f->after_seq, err);
    return code != ERR_OK ? code : read_values(f, err);
}

/* ---- rendering ---- */

static void render_flags(const struct usage_record *u, struct buf *out)
{
    static const char *const names[] = {"estimated",   "untrusted_usage", "fewer_images", "in_doubt",
                                        "client_gone", "overage",         "test"};

    render_open(out, "flags", '[');
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if ((u->flags & 1u << i) != 0)
            render_text(out, NULL, slice_from(names[i]));
    }
    render_close(out, ']');
}

_Static_assert(USAGE_ESTIMATED == 1u << 0 && USAGE_UNTRUSTED == 1u << 1 && USAGE_FEWER_IMAGES == 1u << 2 &&
                   USAGE_IN_DOUBT == 1u << 3 && USAGE_CLIENT_GONE == 1u << 4 && USAGE_OVERAGE == 1u << 5 &&
                   USAGE_TEST == 1u << 6,
               "the flags' names stand in the order of their bits");

static void render_tokens(const struct usage_record *u, struct buf *out)
{
    static const struct {
        const char *name;
        enum price_unit unit;
    } tokens[] = {
        {"text_input_tokens", PRICE_TEXT_INPUT},     {"cached_text_input_tokens", PRICE_CACHED_TEXT_INPUT},
        {"image_input_tokens", PRICE_IMAGE_INPUT},   {"cached_image_input_tokens", PRICE_CACHED_IMAGE_INPUT},
        {"image_output_tokens", PRICE_IMAGE_OUTPUT}, {"text_output_tokens", PRICE_TEXT_OUTPUT},
    };

    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++)
        render_int(out, tokens[i].name, u->quantities.of[tokens[i].unit]);
}

static void render_money(const struct usage_record *u, bool platform, struct buf *out)
{
    int64_t margin = 0;

    if (platform)
        render_nano(out, "cost", u->cost);
    render_nano(out, "wholesale", u->wholesale);
    render_nano(out, "retail", u->retail);
    /* both are charges, never negative: no difference of theirs overflows */
    margin = platform ? u->wholesale - u->cost : u->retail - u->wholesale;
    render_nano(out, "margin", margin);
    render_nano(out, "refunded", u->refunded);
}

static void render_attempts(const struct usage_record *u, bool platform, struct buf *out)
{
    render_open(out, "attempts", '[');
    render_open(out, NULL, '{');
    if (platform)
        render_id(out, "channel", "chn", u->channel_id);
    render_int_or_null(out, "status", u->status);
    render_text(out, "outcome", (u->flags & USAGE_IN_DOUBT) != 0 ? SLICE("in_doubt") : SLICE("delivered"));
    render_int(out, "duration_ms", u->upstream_ms);
    render_close(out, '}');
    render_close(out, ']');
}

static void render_names(const struct usage_record *u, bool platform, struct buf *out)
{
    render_id(out, "tenant", "ten", u->tenant_id);
    render_id(out, "customer", "cus", u->customer_id);
    render_id(out, "key", "key", u->key_id);
    if (platform)
        render_id(out, "channel", "chn", u->channel_id);
    render_text(out, "model", slice_from(u->call.model));
    render_text_or_null(out, "operation", price_operation_name(u->call.operation));
    render_text_or_null(out, "size", u->call.size);
    render_text_or_null(out, "quality", u->call.quality);
}

void usage_render(const struct usage_record *u, bool platform, struct buf *out)
{
    render_open(out, NULL, '{');
    render_id(out, "id", "use", id_from_seq(u->created_at, u->seq));
    render_text(out, "object", SLICE("usage_record"));
    render_time(out, "created_at", u->created_at);
    render_id(out, "request_id", "req", u->request);
    render_text_or_null(out, "upstream_request_id", u->upstream_request_id);
    render_names(u, platform, out);
    render_bool(out, "stream", u->call.stream);
    render_int(out, "n", u->call.n);
    render_int(out, "images", u->images);
    render_int(out, "partial_images", u->partial_images);
    render_tokens(u, out);
    render_money(u, platform, out);
    render_flags(u, out);
    render_attempts(u, platform, out);
    render_int(out, "duration_ms", u->duration_ms);
    render_close(out, '}');
}

static void reply_records(struct admin_call *call)
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

/* ---- asking ---- */

static void ask_records(struct admin_call *call)
{
    const struct usage_filter *f = call->filter;
    struct store_usage_query *query;

    admin_begin(call, OP_USAGE);
    query = &call->op.question->of.usage;
    query->tenant_row = call->who.tenant_row != 0 ? call->who.tenant_row : f->ids[FILTER_TENANT].row;
    query->customer_row = f->ids[FILTER_CUSTOMER].row;
    query->key_row = f->ids[FILTER_KEY].row;
    query->channel_row = f->ids[FILTER_CHANNEL].row;
    memcpy(query->model, f->model, sizeof(query->model));
    memcpy(query->size, f->size, sizeof(query->size));
    memcpy(query->quality, f->quality, sizeof(query->quality));
    query->operation = f->operation;
    query->start_time = f->start_time;
    query->end_time = f->end_time;
    query->after_seq = f->after_seq;
    query->limit = f->page.limit;
    call->failed = NULL;
    admin_submit(call, reply_records);
}

static void fail_filter(struct admin_call *call, const struct id_filter *filter)
{
    struct err err;

    (void)admin_no_such(&err, filter->word, filter->name, slice_from(filter->text));
    admin_fail(call, &err);
}

static bool filter_not_found(struct admin_call *call, const struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return false;
    fail_filter(call, &call->filter->ids[call->filter->next_id]);
    return true;
}

static void find_next(struct admin_call *call);

static int64_t owner_of(const struct record *record)
{
    switch (record->kind) {
    case RECORD_TENANT:
        return record->row;
    case RECORD_CUSTOMER:
        return ((const struct customer *)record)->tenant_row;
    case RECORD_KEY:
        return ((const struct api_key *)record)->tenant_row;
    default:
        return 0;
    }
}

static void filter_found(struct admin_call *call)
{
    struct id_filter *filter = &call->filter->ids[call->filter->next_id];
    const struct store_list *list = &call->op.list;

    if (list->n != 1 || (call->who.tenant_row != 0 && owner_of(list->items[0]) != call->who.tenant_row)) {
        fail_filter(call, filter);
        return;
    }
    filter->row = list->items[0]->row;
    call->filter->next_id++;
    find_next(call);
}

/* Looks up the next id that the query names; when there is none left, asks for the records. */
static void find_next(struct admin_call *call)
{
    struct usage_filter *f = call->filter;
    struct store_list *list = &call->op.list;
    struct id id;

    while (f->next_id < ADMIN_FILTERS && f->ids[f->next_id].text[0] == '\0')
        f->next_id++;
    if (f->next_id == ADMIN_FILTERS) {
        ask_records(call);
        return;
    }
    if (!id_parse(record_prefix(f->ids[f->next_id].kind), slice_from(f->ids[f->next_id].text), &id)) {
        fail_filter(call, &f->ids[f->next_id]);
        return;
    }
    admin_begin(call, OP_LIST);
    list->super.question = STORE_GET;
    list->kind = f->ids[f->next_id].kind;
    list->id = id;
    list->limit = 1;
    call->failed = filter_not_found;
    admin_submit(call, filter_found);
}

void usage_records(struct admin_call *call)
{
    struct err err;

    call->filter = filter_create();
    if (read_query(call, call->filter, &err) == ERR_OK)
        find_next(call);
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
    query->tenant_row = call->who.tenant_row;
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
