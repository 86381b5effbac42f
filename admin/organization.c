/* organization.c - OpenAI's own reports, GET /v1/organization/usage/images and /costs, for tools that already read
 * them.
 *
 * What a project and a user are depends on who asks. To the platform a project is a tenant and a user is a customer; to
 * a tenant its projects are its customers, and it has no users. Times are Unix seconds. Costs are what the tenant pays
 * (wholesale), as exact decimal numbers. A line item is a model and an operation: "gpt-image-1, edits". The call's
 * loop. */
#include <stdlib.h>

#include "page.h"
#include "render.h"
#include "report.h"

enum { COST_LIMIT = 7, COST_LIMIT_MAX = 180, LINE_ITEM = LIMIT_MODEL + 24, GROUPS = 6 };

enum group {
    BY_PROJECT = 1,
    BY_USER = 2,
    BY_KEY = 4,
    BY_MODEL = 8,
    BY_SIZE = 16,
    BY_SOURCE = 32,
    BY_LINE = 64,
    BY_API = 128
};

struct organization {
    struct report super;
    bool costs;
    unsigned groups; /* bits of enum group */
    int n_groups, n_sources, n_lines;
    char group_texts[QUERY_VALUES][16], sources[QUERY_VALUES][24], lines[QUERY_VALUES][LINE_ITEM];
    struct {
        char model[LIMIT_MODEL];
        enum image_operation operation;
    } items[QUERY_VALUES]; /* the line items that are asked for */
    char width_text[8], limit_text[16], page_text[REPORT_CURSOR * 2];
    struct report_row sum; /* costs: of the results that differ in nothing that is shown */
    bool summing;
};

static const char *const source_names[] = {"image.generation", "image.edit", "image.variation", NULL};
static const enum image_operation source_operations[] = {OPERATION_GENERATIONS, OPERATION_EDITS, OPERATION_VARIATIONS};

static struct organization *of(struct report *r)
{
    return (struct organization *)r;
}

/* ---- what usage and costs have in common ---- */

static void open_bucket(struct report *r, const struct report_bucket *bucket, struct buf *out)
{
    (void)r;
    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("bucket"));
    render_int(out, "start_time", bucket->begin / CLOCK_SECOND);
    render_int(out, "end_time", bucket->end / CLOCK_SECOND);
    render_open(out, "results", '[');
}

static void close_bucket(struct report *r, struct buf *out)
{
    (void)r;
    buf_append_str(out, "]}");
}

static void render_project(const struct organization *o, const struct report_row *row, struct buf *out)
{
    if (o->super.platform)
        render_id(out, "project_id", "ten", row->tenant);
    else
        render_id(out, "project_id", "cus", row->customer);
}

/* Zero ids and empty names, of what was not grouped by, are null. */
static void render_user(const struct organization *o, const struct report_row *row, struct buf *out)
{
    if (o->super.platform)
        render_id(out, "user_id", "cus", row->customer);
    else
        render_null(out, "user_id");
}

/* ---- usage ---- */

static const char *source_of(const struct report_row *row)
{
    for (int i = 0; source_names[i] != NULL; i++) {
        if (row->operation == (int)source_operations[i])
            return source_names[i];
    }
    return NULL;
}

static void usage_row(struct report *r, const struct report_row *row, struct buf *out)
{
    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("organization.usage.images.result"));
    render_int(out, "images", row->images);
    render_int(out, "num_model_requests", row->requests);
    render_text_or_null(out, "size", row->size);
    render_text_or_null(out, "source", source_of(row));
    render_project(of(r), row, out);
    render_user(of(r), row, out);
    render_id(out, "api_key_id", "key", row->key);
    render_text_or_null(out, "model", row->model);
    render_close(out, '}');
}

static const struct report_writer usage_writer = {report_page_head, open_bucket, usage_row, close_bucket,
                                                  report_page_tail};

/* ---- costs ---- */

static void render_line(const struct report_row *row, struct buf *out)
{
    char text[LINE_ITEM];

    (void)snprintf(text, sizeof(text), "%s, %s", row->model != NULL ? row->model : "",
                   row->operation > 0 ? price_operation_name((enum image_operation)row->operation) : "");
    render_text(out, "line_item", slice_from(text));
    render_int(out, "quantity", row->images);
    render_text(out, "quantity_unit", SLICE("images"));
}

static void render_cost(const struct organization *o, const struct report_row *row, struct buf *out)
{
    char value[MONEY_TEXT];

    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("organization.costs.result"));
    render_open(out, "amount", '{');
    render_json(out, "value", money_format_scaled(row->wholesale, MONEY_NANO_DIGITS, value), "0");
    render_text(out, "currency", SLICE("usd"));
    render_close(out, '}');
    if ((o->groups & BY_LINE) != 0) {
        render_line(row, out);
    } else {
        render_null(out, "line_item");
        render_null(out, "quantity");
        render_null(out, "quantity_unit");
    }
    render_project(o, row, out);
    render_user(o, row, out);
    render_id(out, "api_key_id", "key", row->key);
    render_text_or_null(out, "api_source", (o->groups & BY_API) != 0 ? "unlabeled" : NULL);
    render_close(out, '}');
}

/* Models and operations were asked for one by one; only some of their pairs may be meant. */
static bool is_wanted(const struct organization *o, const struct report_row *row)
{
    for (int i = 0; i < o->n_lines; i++) {
        if ((int)o->items[i].operation == row->operation && row->model != NULL &&
            strcmp(o->items[i].model, row->model) == 0)
            return true;
    }
    return o->n_lines == 0;
}

static bool is_same(const struct organization *o, const struct report_row *row)
{
    const struct report_row *sum = &o->sum;

    return o->summing && (o->groups & BY_LINE) == 0 && id_eq(sum->tenant, row->tenant) &&
           id_eq(sum->customer, row->customer) && id_eq(sum->key, row->key);
}

static void flush_cost(struct organization *o, struct buf *out)
{
    if (o->summing)
        render_cost(o, &o->sum, out);
    o->summing = false;
}

/* With line items asked for, results come by model and operation, in order of the names before these: those of one
 * project, user and key stand together. */
static void cost_row(struct report *r, const struct report_row *row, struct buf *out)
{
    struct organization *o = of(r);
    int64_t sum;

    if (!is_wanted(o, row))
        return;
    if (is_same(o, row)) {
        o->sum.wholesale = money_add(o->sum.wholesale, row->wholesale, &sum) ? sum : INT64_MAX;
        return;
    }
    flush_cost(o, out);
    o->sum = *row;
    o->summing = true;
}

static void close_costs(struct report *r, struct buf *out)
{
    flush_cost(of(r), out);
    close_bucket(r, out);
}

static const struct report_writer cost_writer = {report_page_head, open_bucket, cost_row, close_costs,
                                                 report_page_tail};

/* ---- reading the query ---- */

static enum err_code read_groups(struct organization *o, struct err *err)
{
    static const char *const usage_names[] = {"project_id", "user_id", "api_key_id", "model", "size", "source", NULL};
    static const unsigned usage_groups[] = {BY_PROJECT, BY_USER, BY_KEY, BY_MODEL, BY_SIZE, BY_SOURCE};
    static const char *const cost_names[] = {"project_id", "user_id", "api_key_id", "line_item", "api_source", NULL};
    static const unsigned cost_groups[] = {BY_PROJECT, BY_USER, BY_KEY, BY_LINE, BY_API};

    for (int i = 0; i < o->n_groups; i++) {
        int place = 0;
        enum err_code code =
            query_choice("group_by", o->group_texts[i], o->costs ? cost_names : usage_names, &place, err);

        if (code != ERR_OK)
            return code;
        o->groups |= o->costs ? cost_groups[place] : usage_groups[place];
    }
    return ERR_OK;
}

static unsigned dimensions_of(const struct organization *o)
{
    unsigned tenant = 1u << REPORT_TENANT, customer = 1u << REPORT_CUSTOMER, by = 0;
    unsigned line = 1u << REPORT_MODEL | 1u << REPORT_OPERATION;

    if ((o->groups & BY_PROJECT) != 0)
        by |= o->super.platform ? tenant : customer;
    if ((o->groups & BY_USER) != 0 && o->super.platform)
        by |= customer;
    by |= (o->groups & BY_KEY) != 0 ? 1u << REPORT_KEY : 0;
    by |= (o->groups & BY_MODEL) != 0 ? 1u << REPORT_MODEL : 0;
    by |= (o->groups & BY_SIZE) != 0 ? 1u << REPORT_SIZE : 0;
    by |= (o->groups & BY_SOURCE) != 0 ? 1u << REPORT_OPERATION : 0;
    return by | ((o->groups & BY_LINE) != 0 || o->n_lines > 0 ? line : 0);
}

static enum err_code read_sources(struct organization *o, struct err *err)
{
    for (int i = 0; i < o->n_sources; i++) {
        int place = 0;
        enum err_code code = query_choice("sources", o->sources[i], source_names, &place, err);

        if (code != ERR_OK)
            return code;
        o->super.super.of.operations |= 1u << source_operations[place];
    }
    return ERR_OK;
}

static void add_model(struct filter_names *models, const char *model)
{
    for (int i = 0; i < models->n; i++) {
        if (strcmp(models->names[i], model) == 0)
            return;
    }
    (void)slice_copy(slice_from(model), models->names[models->n++], LIMIT_MODEL);
}

/* A line item without an operation is none, and matches nothing. */
static void read_lines(struct organization *o)
{
    struct store_filter *f = &o->super.super.of;

    for (int i = 0; i < o->n_lines; i++) {
        const char *comma = strrchr(o->lines[i], ',');
        struct slice model = {o->lines[i], comma != NULL ? (size_t)(comma - o->lines[i]) : strlen(o->lines[i])};
        struct slice operation = slice_trim(slice_from(comma != NULL ? comma + 1 : ""));

        if (!price_operation_parse(operation, &o->items[i].operation))
            o->items[i].operation = OPERATION_ANY;
        (void)slice_copy(model, o->items[i].model, LIMIT_MODEL);
        add_model(&f->models, o->items[i].model);
    }
}

static enum err_code read_seconds(const char *name, const char *text, int64_t *out, struct err *err)
{
    unsigned long long seconds;

    if (text[0] == '\0')
        return ERR_OK;
    if (!slice_to_u64(slice_from(text), &seconds))
        return err_set(err, ERR_INVALID_TYPE, name,
                       "Invalid type for '%s': expected an integer, but got '%.40s' instead.", name, text);
    return query_time(name, text, out, err);
}

static enum err_code read_times(struct organization *o, struct err *err)
{
    struct filter *f = &o->super.super;
    enum err_code code;

    if (f->start_text[0] == '\0')
        return err_set(err, ERR_MISSING_PARAMETER, "start_time", "Missing required parameter: 'start_time'.");
    code = read_seconds("start_time", f->start_text, &f->of.start_time, err);
    if (code == ERR_OK)
        code = read_seconds("end_time", f->end_text, &f->of.end_time, err);
    if (code == ERR_OK)
        code = filter_read(f, err);
    if (code == ERR_OK && f->of.start_time == 0)
        f->of.start_time = 1; /* 0 would mean that there is none */
    if (code == ERR_OK)
        code = report_read_page(&o->super, o->page_text, err);
    return code == ERR_OK ? report_read_period(&o->super, err) : code;
}

static enum err_code read_shape(struct organization *o, struct err *err)
{
    static const char *const widths[] = {"1m", "1h", "1d", NULL}, *const days[] = {"1d", NULL};
    struct report *r = &o->super;
    int width = o->costs ? 0 : REPORT_DAY;
    enum err_code code = query_choice("bucket_width", o->width_text, o->costs ? days : widths, &width, err);

    r->width = o->costs ? REPORT_DAY : (enum report_width)width;
    r->limit = o->costs ? COST_LIMIT : report_limit(r->width);
    if (code == ERR_OK)
        code = query_int("limit", o->limit_text, 1, o->costs ? COST_LIMIT_MAX : report_limit_max(r->width), &r->limit,
                         err);
    return code;
}

static struct query_field many(const char *name, char *out, size_t cap, int *n, unsigned flags)
{
    return (struct query_field){name, out, cap, n, flags};
}

static struct query_field ids(struct filter *f, const char *name, enum filter_kind kind, unsigned flags)
{
    f->ids[kind].name = name;
    return many(name, f->ids[kind].text[0], sizeof(f->ids[kind].text[0]), &f->ids[kind].n, flags);
}

static size_t list_fields(struct organization *o, struct query_field *fields)
{
    struct filter *f = &o->super.super;
    size_t n = 0;

    fields[n++] = (struct query_field){"start_time", f->start_text, sizeof(f->start_text), NULL, 0};
    fields[n++] = (struct query_field){"end_time", f->end_text, sizeof(f->end_text), NULL, 0};
    fields[n++] = (struct query_field){"bucket_width", o->width_text, sizeof(o->width_text), NULL, 0};
    fields[n++] = (struct query_field){"limit", o->limit_text, sizeof(o->limit_text), NULL, 0};
    fields[n++] = (struct query_field){"page", o->page_text, sizeof(o->page_text), NULL, 0};
    fields[n++] = many("group_by", o->group_texts[0], sizeof(o->group_texts[0]), &o->n_groups, 0);
    fields[n++] = ids(f, "project_ids", o->super.platform ? FILTER_TENANT : FILTER_CUSTOMER, 0);
    fields[n++] = ids(f, "api_key_ids", FILTER_KEY, 0);
    if (o->super.platform)
        fields[n++] = ids(f, "user_ids", FILTER_CUSTOMER, 0);
    if (o->costs) {
        fields[n++] = many("line_items", o->lines[0], LINE_ITEM, &o->n_lines, QUERY_WHOLE);
        return n;
    }
    fields[n++] = many("models", f->of.models.names[0], LIMIT_MODEL, &f->of.models.n, 0);
    fields[n++] = many("sizes", f->of.sizes.names[0], LIMIT_MODEL, &f->of.sizes.n, 0);
    fields[n++] = many("sources", o->sources[0], sizeof(o->sources[0]), &o->n_sources, 0);
    return n;
}

static enum err_code read_query(struct admin_call *call, struct organization *o, struct err *err)
{
    struct query_field fields[QUERY_FIELDS];
    size_t n = list_fields(o, fields);
    enum err_code code = query_read(front_call_query(call->front), o->super.platform, fields, n, err);

    if (code == ERR_OK)
        code = read_groups(o, err);
    if (code == ERR_OK)
        code = read_sources(o, err);
    if (code == ERR_OK)
        code = read_shape(o, err);
    if (code != ERR_OK)
        return code;
    read_lines(o);
    o->super.group_by = dimensions_of(o);
    return read_times(o, err);
}

static void answer(struct admin_call *call, bool costs)
{
    struct organization *o = mem_zalloc(sizeof(*o));
    struct err err;

    filter_init(&o->super.super);
    o->costs = costs;
    o->super.platform = call->who.tenant_row == 0;
    o->super.writer = costs ? &cost_writer : &usage_writer;
    admin_keep(call, o, report_drop);
    if (read_query(call, o, &err) == ERR_OK)
        report_run(call, STREAM_JSON, "usage", NULL);
    else
        admin_fail(call, &err);
}

void organization_usage(struct admin_call *call)
{
    answer(call, false);
}

void organization_costs(struct admin_call *call)
{
    answer(call, true);
}
