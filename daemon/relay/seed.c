/* seed.c - a day's images from the roll-ups, for a meter that does not know them.
 *
 * Whoever comes first asks, and so does everyone who comes before the answer: the first answer counts (meter_seed). A
 * record that is written while the question is under way may be counted twice, never left out: a day is not given
 * again, at worst a little less of it.
 *
 * One thread: the loop's. */
#include "seed.h"

#include <stdlib.h>

struct seed {
    struct store_report report;
    struct meter *meter; /* a reference */
    int64_t from;
    void (*done)(void *ctx, const struct err *err);
    void *ctx;
};

static int64_t count_images(const struct store_report *report)
{
    int64_t images = 0;

    for (int i = 0; i < report->n_rows; i++)
        if (__builtin_add_overflow(images, report->rows[i].images, &images))
            return INT64_MAX / 2;
    return images;
}

static void answered(struct mail *mail)
{
    struct store_query *query = TG_CONTAINER(struct store_query, mail, mail);
    struct store_report *report = TG_CONTAINER(struct store_report, super, query);
    struct seed *s = TG_CONTAINER(struct seed, report, report);
    struct err err = query->err;

    if (err.code == ERR_OK)
        meter_seed(s->meter, s->from, count_images(report));
    else
        (void)err_set(&err, ERR_UNAVAILABLE, NULL, "The ledger is unavailable. Please try again later.");
    s->done(s->ctx, err.code == ERR_OK ? NULL : &err);
    store_report_dispose(report);
    meter_unref(s->meter);
    free(s);
}

static struct filter_rows *rows_of(struct store_filter *filter, enum meter_owner owner)
{
    switch (owner) {
    case METER_KEY:
        return &filter->keys;
    case METER_CUSTOMER:
        return &filter->customers;
    case METER_TENANT:
    case METER_OWNERS:
        break;
    }
    return &filter->tenants;
}

void seed_begin(struct relay_room *room, struct meter *meter, int64_t from,
                void (*done)(void *ctx, const struct err *err), void *ctx)
{
    struct seed *s = mem_zalloc(sizeof(*s));
    struct store_report *report = &s->report;
    struct filter_rows *rows = rows_of(&report->filter, meter_owner_of(meter));

    s->meter = meter_ref(meter);
    s->from = from;
    s->done = done;
    s->ctx = ctx;
    rows->n = 1;
    rows->rows[0] = meter_row(meter);
    report->filter.start_time = from;
    report->width = REPORT_ALL;
    report->limit = 1;
    report->super.mail.deliver = answered;
    report->super.reply_to = loop_mailbox(room->loop);
    report->super.question = STORE_REPORT;
    store_ask(room->house->store, &report->super);
}
