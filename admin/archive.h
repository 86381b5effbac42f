/* archive.h - retention: records older than [retention] records are archived, a file a day of UTC, and then pruned.
 *
 * A thread of its own looks once an hour, and whenever the time is changed. A day is written whole, in the platform's
 * rendering, before the first of its records goes; then they go in small steps, so that nothing else waits. What cannot
 * be written is not pruned, and tried again. May be stopped at any moment: the next start goes on. */
#ifndef TG_ADMIN_ARCHIVE_H
#define TG_ADMIN_ARCHIVE_H

#include "db/store.h"

struct archive;

/* <records>: microseconds that records are kept; 0: for ever. <directory> is copied. The store must be started, and not
 * be closed before archive_stop. */
TG_MUSTCHECK enum err_code archive_start(struct store *store, const char *directory, int64_t records,
                                         struct archive **out, struct err *err);
void archive_set_records(struct archive *a, int64_t records); /* takes effect at once; any thread */
void archive_stop(struct archive *a);                         /* waits for the thread; NULL-safe */

#endif
