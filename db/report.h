/* report.h - a report while it is made, whatever the engine: its buckets, its groups and their order.
 *
 *   report_open --> report_add, for every row of sums --> report_arrange --> report_missing, report_found for every
 *   record that is to be named --> report_finish: the question has its answer
 *
 * An engine brings the sums, by minutes or by days, and says what rows stand for. Times are minutes since 1970. One
 * thread at a time. */
#ifndef TG_DB_REPORT_H
#define TG_DB_REPORT_H

#include "daemon/base/zone.h"
#include "ledger.h"

struct report_state;

/* What sums of days are enough for a report; else it is made of minutes. */
enum report_table { REPORT_OF_CUSTOMERS = 0, REPORT_OF_KEYS, REPORT_OF_ITEMS, REPORT_OF_MINUTES };

/* Whose sums they are: rows; 0 where the table does not say. */
struct report_source {
    int64_t tenant, customer, key, item, channel;
};

/* Begins: the question's buckets stand. INVALID_VALUE naming limit, timezone. <now> is wall. */
TG_MUSTCHECK enum err_code report_open(struct store_report *q, int64_t now, struct report_state **out, struct err *err);
void report_destroy(struct report_state *r); /* NULL-safe */

enum report_table report_table_of(const struct report_state *r);
const struct zone *report_zone(const struct report_state *r);
bool report_in_utc(const struct report_state *r);
int64_t report_begin(const struct report_state *r); /* of the page */
int64_t report_end(const struct report_state *r);
int64_t report_horizon(const struct report_state *r); /* of all pages */
int report_bucket_at(const struct report_state *r,
                     int64_t minute); /* place of the bucket that a minute of the page is in */

/* Whether an item must be known before its sums are added; then whether it is, and what it is. */
bool report_asks_items(const struct report_state *r);
bool report_knows_item(const struct report_state *r, int64_t row);
void report_set_item(struct report_state *r, int64_t row, const char *model, enum image_operation operation,
                     const char *size, const char *quality);

/* Adds sums to the group that they are of, unless a filter leaves them out. INVALID_VALUE: more than REPORT_ROWS
 * groups.
 */
TG_MUSTCHECK enum err_code report_add(struct report_state *r, int bucket, const struct report_source *source,
                                      const int64_t sums[ROLLUP_SUMS], struct err *err);

/* All sums are in: what is shown is chosen. */
void report_arrange(struct report_state *r);

/* The next record whose id is needed: a tenant, customer, key or channel; then report_found says it. */
bool report_missing(struct report_state *r, enum report_by *kind, int64_t *row);
void report_found(struct report_state *r, struct id id);

void report_finish(struct report_state *r);

/* The engine's own, freed with the report. */
void report_set_scan(struct report_state *r, void *scan, void (*destroy)(void *scan));
void *report_scan(const struct report_state *r);

#endif
