/* report.h - answering with a report: the store is asked for buckets and results, and they are written in pieces.
 *
 * What a route of reports reads from its query and how its results look is its own (usage_report.c, organization.c);
 * that the report is asked for, paged, and walked through is here. The call's loop. */
#ifndef TG_ADMIN_REPORT_H
#define TG_ADMIN_REPORT_H

#include "filter.h"
#include "stream.h"

struct report;

/* How a report is written. <row> runs for each result, between <open> and <close> of its bucket. */
struct report_writer {
    void (*head)(struct report *r, struct buf *out);
    void (*open)(struct report *r, const struct report_bucket *bucket, struct buf *out);
    void (*row)(struct report *r, const struct report_row *row, struct buf *out);
    void (*close)(struct report *r, struct buf *out);
    void (*tail)(struct report *r, bool more, const char *next_page, struct buf *out);
};

/* The call's state; a route's own state begins with it. */
struct report {
    struct filter super;
    const struct report_writer *writer;
    bool platform; /* who reads it */
    unsigned group_by;
    enum report_width width;
    char zone[RECORD_TIMEZONE];
    int limit, top;
    enum report_order order;
    int64_t from_bucket;
    bool all; /* page after page, to the end */
    bool headed;
    enum stream_format format;
    const char *filename; /* static */
    enum err_code (*prepare)(struct admin_call *call, struct err *err);
    struct admin_question *question; /* its answer, while it is written; owned */
    int bucket, row;                 /* what is written next */
    bool opened;                     /* that bucket */
};

/* Buckets of a page: by default, and at most. */
int report_limit(enum report_width width);
int report_limit_max(enum report_width width);

/* A cursor is where the next bucket begins and when the report ends, so that the pages of one report belong together
 * though it had no end_time. report_read_page takes one over; INVALID_VALUE naming page. Empty: none. */
enum { REPORT_CURSOR = ID_TEXT };
TG_MUSTCHECK enum err_code report_read_page(struct report *r, const char *text, struct err *err);

/* After everything is read: the end (now, when none is set). INVALID_VALUE naming start_time. */
TG_MUSTCHECK enum err_code report_read_period(struct report *r, struct err *err);

/* Looks up the ids, has <prepare> (may be NULL) see to the rest, then asks and answers. */
void report_run(struct admin_call *call, enum stream_format format, const char *filename,
                enum err_code (*prepare)(struct admin_call *call, struct err *err));

void report_drop(void *report); /* for admin_keep, of a struct whose first member this is and that owns nothing else */

/* Heads and tails of pages in JSON. */
void report_page_head(struct report *r, struct buf *out);
void report_page_tail(struct report *r, bool more, const char *next_page, struct buf *out);

#endif
