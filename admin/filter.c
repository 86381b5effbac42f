/* filter.c - from the ids, names and times of a query to a store_filter.
 *
 *   filter_resolve --> next id --at hand--> next id ... --> done
 *                        \--STORE_GET--> found --> next id
 *
 * One id after the other: a query names a few. The call's loop. */
#include "filter.h"

static const struct {
    const char *name, *word;
    enum record_kind kind;
} kinds[FILTER_KINDS] = {
    [FILTER_TENANT] = {"tenant", "tenant", RECORD_TENANT},
    [FILTER_CUSTOMER] = {"customer", "customer", RECORD_CUSTOMER},
    [FILTER_KEY] = {"key", "key", RECORD_KEY},
    [FILTER_CHANNEL] = {"channel", "channel", RECORD_CHANNEL},
};

void filter_init(struct filter *f)
{
    for (int i = 0; i < FILTER_KINDS; i++)
        f->ids[i].name = kinds[i].name;
}

static struct query_field names_field(const char *name, struct filter_names *names)
{
    return (struct query_field){.name = name, .out = names->names[0], .cap = LIMIT_MODEL, .n = &names->n};
}

void filter_add_fields(struct filter *f, struct query_field *fields, size_t *n)
{
    for (int i = 0; i < FILTER_KINDS; i++)
        fields[(*n)++] = (struct query_field){.name = f->ids[i].name,
                                              .out = f->ids[i].text[0],
                                              .cap = sizeof(f->ids[i].text[0]),
                                              .n = &f->ids[i].n,
                                              .flags = i == FILTER_CHANNEL ? QUERY_PLATFORM : 0};
    fields[(*n)++] = names_field("model", &f->of.models);
    fields[(*n)++] = (struct query_field){
        .name = "operation", .out = f->operations[0], .cap = sizeof(f->operations[0]), .n = &f->n_operations};
    fields[(*n)++] = names_field("size", &f->of.sizes);
    fields[(*n)++] = names_field("quality", &f->of.qualities);
    fields[(*n)++] = (struct query_field){.name = "start_time", .out = f->start_text, .cap = sizeof(f->start_text)};
    fields[(*n)++] = (struct query_field){.name = "end_time", .out = f->end_text, .cap = sizeof(f->end_text)};
}

enum err_code filter_read(struct filter *f, struct err *err)
{
    enum image_operation operation;
    enum err_code code;

    for (int i = 0; i < f->n_operations; i++) {
        if (!price_operation_parse(slice_from(f->operations[i]), &operation))
            return err_set(err, ERR_INVALID_VALUE, "operation",
                           "Invalid value: '%s'. Supported values are: 'generations', 'edits', and 'variations'.",
                           f->operations[i]);
        f->of.operations |= 1u << operation;
    }
    code = query_time("start_time", f->start_text, &f->of.start_time, err);
    if (code == ERR_OK)
        code = query_time("end_time", f->end_text, &f->of.end_time, err);
    if (code == ERR_OK && f->of.end_time != 0 && f->of.end_time <= f->of.start_time)
        return err_set(err, ERR_INVALID_VALUE, "end_time",
                       "Invalid value for 'end_time': it must be later than 'start_time'.");
    return code;
}

/* ---- ids ---- */

static struct filter_rows *rows_of(struct filter *f, int kind)
{
    struct filter_rows *const rows[FILTER_KINDS] = {&f->of.tenants, &f->of.customers, &f->of.keys, &f->of.channels};

    return rows[kind];
}

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

static void fail_id(struct admin_call *call, const struct filter *f)
{
    struct err err;

    (void)admin_no_such(&err, kinds[f->kind].word, f->ids[f->kind].name, slice_from(f->ids[f->kind].text[f->place]));
    admin_fail(call, &err);
}

/* False: it is not the token's to see. */
static bool take_record(struct admin_call *call, struct filter *f, const struct record *record)
{
    struct filter_rows *rows = rows_of(f, f->kind);

    if (call->who.tenant_row != 0 && owner_of(record) != call->who.tenant_row)
        return false;
    rows->rows[rows->n++] = record->row;
    f->place++;
    return true;
}

static void find_next(struct admin_call *call);

static bool not_found(struct admin_call *call, const struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return false;
    fail_id(call, call->state);
    return true;
}

static void found(struct admin_call *call)
{
    const struct store_list *list = &call->op.list;

    if (list->n == 1 && take_record(call, call->state, list->items[0]))
        find_next(call);
    else
        fail_id(call, call->state);
}

static void ask_for(struct admin_call *call, enum record_kind kind, struct id id)
{
    admin_begin(call, OP_LIST);
    call->op.list.super.question = STORE_GET;
    call->op.list.kind = kind;
    call->op.list.id = id;
    call->op.list.limit = 1;
    call->op.list.closed = true; /* its usage is still there */
    call->failed = not_found;
    admin_submit(call, found);
}

static void resolved(struct admin_call *call, struct filter *f)
{
    if (call->who.tenant_row != 0)
        f->of.tenants = (struct filter_rows){1, {call->who.tenant_row}};
    call->failed = NULL;
    f->done(call);
}

/* The next id that is to be looked up; false: there is none. */
static bool next_id(struct filter *f)
{
    while (f->kind < FILTER_KINDS && f->place >= f->ids[f->kind].n) {
        f->kind++;
        f->place = 0;
    }
    return f->kind < FILTER_KINDS;
}

/* Keys are in no catalog. */
static const struct record *at_hand(const struct admin_call *call, enum record_kind kind, struct id id)
{
    return kind != RECORD_KEY ? catalog_by_id(call->catalog, kind, id) : NULL;
}

static void find_next(struct admin_call *call)
{
    struct filter *f = call->state;
    const struct record *record;
    struct id id;

    while (next_id(f)) {
        enum record_kind kind = kinds[f->kind].kind;

        if (!id_parse(record_prefix(kind), slice_from(f->ids[f->kind].text[f->place]), &id) || id_is_zero(id)) {
            fail_id(call, f);
            return;
        }
        record = at_hand(call, kind, id);
        if (record == NULL) {
            ask_for(call, kind, id);
            return;
        }
        if (!take_record(call, f, record)) {
            fail_id(call, f);
            return;
        }
    }
    resolved(call, f);
}

void filter_resolve(struct admin_call *call, void (*done)(struct admin_call *call))
{
    struct filter *f = call->state;

    f->done = done;
    f->kind = f->place = 0;
    find_next(call);
}
