/* report.c - from a report that is asked for to its pages.
 *
 *   report_run --ids--> prepare --> stream_open --> ask --STORE_REPORT--> came --> write ... write --> end
 *                                                    ^                              |
 *                                                    '------ all, and more ---------'
 *
 * The store's answer is held while it is written; what is written leaves in pieces (stream.c). The call's loop. */
#include "report.h"

#include <stdlib.h>

#include "render.h"

static const struct {
    int limit, max;
} limits[] = {
    [REPORT_MINUTE] = {60, 1440},
    [REPORT_HOUR] = {24, 168},
    [REPORT_DAY] = {7, 31},
    [REPORT_ALL] = {1, 1},
};

int report_limit(enum report_width width)
{
    return limits[width].limit;
}

int report_limit_max(enum report_width width)
{
    return limits[width].max;
}

/* ---- cursors: the end in milliseconds, then the next bucket's begin ---- */

#define CURSOR_PREFIX "page"

static int64_t cursor_end(struct id id)
{
    int64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id.b[i];
    return ms * 1000;
}

enum err_code report_read_page(struct report *r, const char *text, struct err *err)
{
    struct id id;

    if (text[0] == '\0')
        return ERR_OK;
    if (!id_parse(CURSOR_PREFIX, slice_from(text), &id) || id_seq(id) <= 0 || id_seq(id) < r->super.of.start_time ||
        cursor_end(id) <= id_seq(id))
        return err_set(err, ERR_INVALID_VALUE, "page",
                       "Invalid value for 'page': '%.40s' is not a cursor of this list.", text);
    r->from_bucket = id_seq(id);
    if (r->super.of.end_time == 0)
        r->super.of.end_time = cursor_end(id);
    return ERR_OK;
}

enum err_code report_read_period(struct report *r, struct err *err)
{
    struct store_filter *f = &r->super.of;

    if (f->end_time == 0)
        f->end_time = clock_wall() / 1000 * 1000 + 1000; /* in whole milliseconds, as cursors keep it */
    if (f->start_time < f->end_time && r->from_bucket < f->end_time)
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, r->from_bucket >= f->end_time ? "page" : "start_time",
                   "Invalid value for '%s': the time is not past yet.",
                   r->from_bucket >= f->end_time ? "page" : "start_time");
}

/* ---- writing ---- */

void report_page_head(struct report *r, struct buf *out)
{
    (void)r;
    buf_append_str(out, "{\"object\":\"page\",\"data\":[");
}

void report_page_tail(struct report *r, bool more, const char *next_page, struct buf *out)
{
    (void)r;
    render_close(out, ']');
    render_bool(out, "has_more", more);
    render_text_or_null(out, "next_page", next_page);
    render_close(out, '}');
}

/* Writes until a piece is full; true: the report is through. */
static bool write_some(struct admin_call *call, struct report *r, const struct store_report *report)
{
    struct buf *out = stream_out(call);

    while (r->bucket < report->n_buckets) {
        const struct report_bucket *bucket = &report->buckets[r->bucket];

        if (stream_full(call))
            return false;
        if (!r->opened)
            r->writer->open(r, bucket, out);
        r->opened = true;
        while (r->row < bucket->n && !stream_full(call))
            r->writer->row(r, &report->rows[bucket->first + r->row++], out);
        if (r->row < bucket->n)
            return false;
        r->writer->close(r, out);
        r->bucket++;
        r->row = 0;
        r->opened = false;
    }
    return true;
}

static void end(struct admin_call *call, struct report *r, const struct store_report *report)
{
    char next[REPORT_CURSOR] = "";

    if (report->more)
        (void)id_format(CURSOR_PREFIX, id_from_seq(r->super.of.end_time, report->next), next);
    r->writer->tail(r, report->more, next, stream_out(call));
    stream_end(call);
}

static void forget_answer(struct report *r)
{
    admin_question_destroy(r->question, OP_REPORT);
    r->question = NULL;
    r->bucket = r->row = 0;
}

static void go_on(struct admin_call *call, struct report *r)
{
    const struct store_report *report = &r->question->of.report;

    if (!r->headed)
        r->writer->head(r, stream_out(call));
    r->headed = true;
    if (!write_some(call, r, report)) {
        stream_push(call);
    } else if (report->more && r->all) {
        r->from_bucket = report->next;
        forget_answer(r);
        stream_push(call);
    } else {
        end(call, r, report);
    }
}

static void came(struct admin_call *call)
{
    struct report *r = call->state;

    r->question = admin_question_take(call);
    go_on(call, r);
}

static void ask(struct admin_call *call, const struct report *r)
{
    struct store_report *report;

    admin_begin(call, OP_REPORT);
    report = &call->op.question->of.report;
    report->filter = r->super.of;
    report->group_by = r->group_by;
    report->width = r->width;
    memcpy(report->zone, r->zone, sizeof(report->zone));
    report->from_bucket = r->from_bucket;
    report->limit = r->limit;
    report->top = r->top;
    report->order = r->order;
    report->retail_margin = !r->platform;
    admin_submit(call, came);
}

static void more(struct admin_call *call)
{
    struct report *r = call->state;

    if (r->question != NULL)
        go_on(call, r);
    else
        ask(call, r);
}

/* ---- beginning ---- */

static void begin(struct admin_call *call)
{
    struct report *r = call->state;
    struct err err;

    if (r->prepare != NULL && r->prepare(call, &err) != ERR_OK)
        admin_fail(call, &err);
    else
        stream_open(call, r->format, r->filename, more);
}

void report_run(struct admin_call *call, enum stream_format format, const char *filename,
                enum err_code (*prepare)(struct admin_call *call, struct err *err))
{
    struct report *r = call->state;

    r->format = format;
    r->filename = filename;
    r->prepare = prepare;
    filter_resolve(call, begin);
}

void report_drop(void *report)
{
    forget_answer(report);
    free(report);
}
