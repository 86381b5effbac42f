/* archive_file.h - one file of archived records: NDJSON lines in zstd frames, with a seal at its end.
 *
 *   records-2026-10-01.ndjson.zst       the records of that day of UTC, newest first
 *   records-2026-10-01.2.ndjson.zst     those that came later, when the clock had been set back; and so on
 *   records-2026-10-01.ndjson.zst.part  one that is being written
 *
 * The seal is a skippable frame of a fixed size, which zstd passes over: which records the file has. A file has its
 * name only when it is whole and on disk, and no file is ever written over. Any one thread. */
#ifndef TG_ADMIN_ARCHIVE_FILE_H
#define TG_ADMIN_ARCHIVE_FILE_H

#include "daemon/base/err.h"
#include "daemon/base/id.h"

enum { ARCHIVE_DAY = 11 }; /* bytes of "2026-10-01", with the NUL */

/* What a file has: the record with the greatest number, by which it is known again. */
struct archive_seal {
    char day[ARCHIVE_DAY];
    int64_t records;   /* how many */
    struct id last;    /* use_ id of the first line */
    struct id request; /* and its request's */
};

struct archive_file;

/* Begins a file in <directory>, which is made (0700) when it is not there. UNAVAILABLE: it cannot be written. */
TG_MUSTCHECK enum err_code archive_file_create(const char *directory, const char *day, struct archive_file **out,
                                               struct err *err);

/* Adds lines. UNAVAILABLE: it could not be written. */
TG_MUSTCHECK enum err_code archive_file_add(struct archive_file *f, struct slice lines, struct err *err);

/* Seals the file, brings it to disk and gives it the day's next free name; *bytes: its size. The file is then done
 * with, whatever comes back; on UNAVAILABLE it has no name, or one that a power cut may take away again. */
TG_MUSTCHECK enum err_code archive_file_finish(struct archive_file *f, const struct archive_seal *seal, int64_t *bytes,
                                               struct err *err);

/* Makes sure that the names in the directory are on disk. */
TG_MUSTCHECK enum err_code archive_file_sync(const char *directory, struct err *err);
void archive_file_abandon(struct archive_file *f); /* NULL-safe; nothing of it is left */

/* The seal of the day's <number>-th file, from 1. NOT_FOUND: there is no such file. CONFLICT: it has no seal of that
 * day: somebody else's, or damaged. UNAVAILABLE: it could not be read. */
enum err_code archive_file_read_seal(const char *directory, const char *day, int number, struct archive_seal *out,
                                     struct err *err);

#endif
