/* usage_report.c - GET /usage: sums of usage by bucket and group, as JSON pages or one CSV file.
 *
 * Results are ordered by their names, or with `top` by what was asked for, largest first, with the rest as one result.
 * A tenant's token sees neither cost nor channels, and its margin is retail - wholesale. The call's loop. */
#include <stdlib.h>

#include "daemon/base/zone.h"
#include "render.h"
#include "report.h"
#include "sheet.h"

enum { TOP_MAX = 100, PREFIX = 2 * PEN_NUMBER };

struct usage_report {
    struct report super;
    int n_groups;
    char groups[QUERY_VALUES][16];
    char width_text[8], limit_text[16], page_text[REPORT_CURSOR * 2], zone_text[RECORD_TIMEZONE], top_text[16];
    char order_text[16], format_text[16];
    struct sheet sheet;
    char times[PREFIX]; /* CSV: what the lines of a bucket begin with */
    size_t times_len;
};

/* ---- columns ---- */

enum column_flags {
    OF_DIMENSION = (1 << REPORT_DIMENSIONS) - 1, /* bits 1 << enum report_by: there when grouped by it */
    FOR_PLATFORM = 1 << 16,
    FOR_TENANT = 1 << 17,
    JSON_ONLY = 1 << 18,
    WITH_TOP = 1 << 19
};

static char *put_operation(const void *row, bool csv, char *p)
{
    const struct report_row *r = row;
    struct slice name =
        r->operation > 0 ? slice_from(price_operation_name((enum image_operation)r->operation)) : SLICE_NONE;

    return sheet_own_text(name, csv, p);
}

/* Sums of charges, never negative: no difference of theirs overflows. */
static char *put_platform_margin(const void *row, bool csv, char *p)
{
    const struct report_row *r = row;

    return sheet_own_nano(r->wholesale - r->cost, csv, p);
}

static char *put_tenant_margin(const void *row, bool csv, char *p)
{
    const struct report_row *r = row;

    return sheet_own_nano(r->retail - r->wholesale, csv, p);
}

#define AT(member) offsetof(struct report_row, member)
#define BY_ID(name, prefix, dimension)                                                                                 \
    {                                                                                                                  \
#name, SHEET_ID, 1u << REPORT_##dimension, AT(name), prefix, 0, NULL                                           \
    }
#define BY_NAME(name, dimension, room)                                                                                 \
    {                                                                                                                  \
#name, SHEET_POINTER, 1u << REPORT_##dimension, AT(name), NULL, room, NULL                                     \
    }
#define TOKENS(name, unit)                                                                                             \
    {                                                                                                                  \
        name, SHEET_LONG, 0, AT(tokens[unit]), NULL, 0, NULL                                                           \
    }
#define PLAIN(name, kind, flags)                                                                                       \
    {                                                                                                                  \
#name, kind, flags, AT(name), NULL, 0, NULL                                                                    \
    }
#define OWN(name, own, flags)                                                                                          \
    {                                                                                                                  \
        name, SHEET_OWN, flags, 0, NULL, PEN_NUMBER, own                                                               \
    }

static const struct sheet_column columns[] = {
    {"object", SHEET_CONSTANT, JSON_ONLY, 0, "usage_result", 0, NULL},
    BY_ID(tenant, "ten", TENANT),
    BY_ID(customer, "cus", CUSTOMER),
    BY_ID(key, "key", KEY),
    BY_NAME(model, MODEL, LIMIT_MODEL),
    OWN("operation", put_operation, 1u << REPORT_OPERATION),
    BY_NAME(size, SIZE, LIMIT_SIZE),
    BY_NAME(quality, QUALITY, LIMIT_QUALITY),
    BY_ID(channel, "chn", CHANNEL),
    PLAIN(rest, SHEET_BOOL, WITH_TOP),
    PLAIN(requests, SHEET_LONG, 0),
    PLAIN(images, SHEET_LONG, 0),
    TOKENS("text_input_tokens", PRICE_TEXT_INPUT),
    TOKENS("cached_text_input_tokens", PRICE_CACHED_TEXT_INPUT),
    TOKENS("image_input_tokens", PRICE_IMAGE_INPUT),
    TOKENS("cached_image_input_tokens", PRICE_CACHED_IMAGE_INPUT),
    TOKENS("image_output_tokens", PRICE_IMAGE_OUTPUT),
    TOKENS("text_output_tokens", PRICE_TEXT_OUTPUT),
    PLAIN(cost, SHEET_NANO, FOR_PLATFORM),
    PLAIN(wholesale, SHEET_NANO, 0),
    PLAIN(retail, SHEET_NANO, 0),
    OWN("margin", put_platform_margin, FOR_PLATFORM),
    OWN("margin", put_tenant_margin, FOR_TENANT),
    PLAIN(refunded, SHEET_NANO, 0),
};

static bool is_shown(const struct report *r, bool csv, unsigned flags)
{
    unsigned dimension = flags & OF_DIMENSION;

    return (dimension == 0 || (dimension & r->group_by) != 0) &&
           (flags & (r->platform ? FOR_TENANT : FOR_PLATFORM)) == 0 && (!csv || (flags & JSON_ONLY) == 0) &&
           ((flags & WITH_TOP) == 0 || r->top > 0);
}

static void make_sheet(struct usage_report *u, bool csv)
{
    sheet_init(&u->sheet);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        if (is_shown(&u->super, csv, columns[i].flags))
            sheet_add(&u->sheet, &columns[i]);
    }
}

/* ---- JSON ---- */

static void json_open(struct report *r, const struct report_bucket *bucket, struct buf *out)
{
    (void)r;
    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("bucket"));
    render_time(out, "start_time", bucket->begin);
    render_time(out, "end_time", bucket->end);
    render_open(out, "results", '[');
}

static void json_row(struct report *r, const struct report_row *row, struct buf *out)
{
    sheet_json(&((struct usage_report *)r)->sheet, row, out);
}

static void json_close(struct report *r, struct buf *out)
{
    (void)r;
    buf_append_str(out, "]}");
}

static const struct report_writer json_writer = {report_page_head, json_open, json_row, json_close, report_page_tail};

/* ---- CSV ---- */

static void csv_head(struct report *r, struct buf *out)
{
    buf_append_str(out, "start_time,end_time,");
    sheet_csv_head(&((struct usage_report *)r)->sheet, out);
}

static void csv_open(struct report *r, const struct report_bucket *bucket, struct buf *out)
{
    struct usage_report *u = (struct usage_report *)r;
    char *p = u->times;

    (void)out;
    p = pen_time(p, bucket->begin);
    *p++ = ',';
    p = pen_time(p, bucket->end);
    *p++ = ',';
    u->times_len = (size_t)(p - u->times);
}

static void csv_row(struct report *r, const struct report_row *row, struct buf *out)
{
    const struct usage_report *u = (const struct usage_report *)r;

    buf_append(out, u->times, u->times_len);
    sheet_csv(&u->sheet, row, out);
}

static void csv_close(struct report *r, struct buf *out)
{
    (void)r;
    (void)out;
}

static void csv_tail(struct report *r, bool more, const char *next_page, struct buf *out)
{
    (void)r;
    (void)more;
    (void)next_page;
    (void)out;
}

static const struct report_writer csv_writer = {csv_head, csv_open, csv_row, csv_close, csv_tail};

/* ---- reading the query ---- */

static const char *const dimension_names[] = {"tenant", "customer", "key",     "model", "operation",
                                              "size",   "quality",  "channel", NULL};
_Static_assert(REPORT_TENANT == 0 && REPORT_CUSTOMER == 1 && REPORT_KEY == 2 && REPORT_MODEL == 3 &&
                   REPORT_OPERATION == 4 && REPORT_SIZE == 5 && REPORT_QUALITY == 6 && REPORT_CHANNEL == 7 &&
                   REPORT_DIMENSIONS == 8,
               "the names of dimensions stand in their order");
static const char *const tenant_dimensions[] = {"tenant",    "customer", "key",     "model",
                                                "operation", "size",     "quality", NULL};

static const char *const width_names[] = {"1m", "1h", "1d", "all", NULL};
_Static_assert(REPORT_MINUTE == 0 && REPORT_HOUR == 1 && REPORT_DAY == 2 && REPORT_ALL == 3, "likewise");

/* What a tenant may not see stands last. */
static const char *const order_names[] = {"wholesale", "retail", "margin", "requests", "images", "cost", NULL};
static const char *const tenant_orders[] = {"wholesale", "retail", "margin", "requests", "images", NULL};
static const enum report_order orders[] = {ORDER_WHOLESALE, ORDER_RETAIL, ORDER_MARGIN,
                                           ORDER_REQUESTS,  ORDER_IMAGES, ORDER_COST};

static enum err_code read_groups(struct usage_report *u, struct err *err)
{
    for (int i = 0; i < u->n_groups; i++) {
        int dimension = 0;
        enum err_code code = query_choice("group_by", u->groups[i],
                                          u->super.platform ? dimension_names : tenant_dimensions, &dimension, err);

        if (code != ERR_OK)
            return code;
        u->super.group_by |= 1u << dimension;
    }
    return ERR_OK;
}

static enum err_code read_shape(struct usage_report *u, struct err *err)
{
    struct report *r = &u->super;
    int width = REPORT_DAY, order = 0;
    enum err_code code = query_choice("bucket_width", u->width_text, width_names, &width, err);

    r->width = (enum report_width)width;
    if (code == ERR_OK)
        code = query_int("limit", u->limit_text, 1, report_limit_max(r->width), &r->limit, err);
    if (code == ERR_OK)
        code = query_int("top", u->top_text, 1, TOP_MAX, &r->top, err);
    if (code == ERR_OK)
        code = query_choice("order_by", u->order_text, r->platform ? order_names : tenant_orders, &order, err);
    r->order = orders[order];
    return code;
}

static enum err_code read_times(struct usage_report *u, struct err *err)
{
    struct report *r = &u->super;
    enum err_code code;

    if (r->super.start_text[0] == '\0')
        return err_set(err, ERR_MISSING_PARAMETER, "start_time", "Missing required parameter: 'start_time'.");
    code = filter_read(&r->super, err);
    if (code == ERR_OK && r->super.of.start_time == 0)
        r->super.of.start_time = 1; /* 1970 itself; 0 would mean that there is none */
    if (code == ERR_OK)
        code = report_read_page(r, u->page_text, err);
    return code == ERR_OK ? report_read_period(r, err) : code;
}

static enum err_code read_query(const struct admin_call *call, struct usage_report *u, struct err *err)
{
    struct query_field fields[QUERY_FIELDS] = {
        {"group_by", u->groups[0], sizeof(u->groups[0]), &u->n_groups, 0},
        {"bucket_width", u->width_text, sizeof(u->width_text), NULL, 0},
        {"limit", u->limit_text, sizeof(u->limit_text), NULL, 0},
        {"page", u->page_text, sizeof(u->page_text), NULL, 0},
        {"timezone", u->zone_text, sizeof(u->zone_text), NULL, 0},
        {"top", u->top_text, sizeof(u->top_text), NULL, 0},
        {"order_by", u->order_text, sizeof(u->order_text), NULL, 0},
        {"format", u->format_text, sizeof(u->format_text), NULL, 0},
    };
    size_t n = 8;
    enum err_code code;

    filter_add_fields(&u->super.super, fields, &n);
    code = query_read(front_call_query(call->front), u->super.platform, fields, n, err);
    if (code == ERR_OK)
        code = read_groups(u, err);
    if (code == ERR_OK)
        code = read_shape(u, err);
    return code == ERR_OK ? read_times(u, err) : code;
}

/* ---- beginning ---- */

/* "tenant": the zone of the tenant that the report is about. */
static enum err_code find_zone(struct admin_call *call, struct err *err)
{
    struct usage_report *u = call->state;
    const struct filter_rows *tenants = &u->super.super.of.tenants;
    const struct tenant *tenant;

    if (strcmp(u->zone_text, "tenant") != 0) {
        memcpy(u->super.zone, u->zone_text, sizeof(u->super.zone));
        return ERR_OK;
    }
    tenant = tenants->n == 1 ? catalog_by_row(call->catalog, RECORD_TENANT, tenants->rows[0]) : NULL;
    if (tenant == NULL)
        return err_set(err, ERR_INVALID_VALUE, "timezone",
                       "Invalid value for 'timezone': with 'tenant' the report must be about exactly one tenant.");
    memcpy(u->super.zone, tenant->timezone, sizeof(u->super.zone));
    return ERR_OK;
}

void report_usage(struct admin_call *call)
{
    struct usage_report *u = mem_zalloc(sizeof(*u));
    struct report *r = &u->super;
    enum stream_format format;
    struct err err;

    filter_init(&r->super);
    r->platform = call->who.tenant_row == 0;
    admin_keep(call, u, report_drop);
    if (read_query(call, u, &err) != ERR_OK ||
        stream_choose(call, u->format_text, 1u << STREAM_JSON | 1u << STREAM_CSV, &format, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    r->all = format == STREAM_CSV && r->limit == 0;
    if (r->limit == 0)
        r->limit = r->all ? report_limit_max(r->width) : report_limit(r->width);
    r->writer = format == STREAM_CSV ? &csv_writer : &json_writer;
    make_sheet(u, format == STREAM_CSV);
    report_run(call, format, "usage", find_zone);
}
