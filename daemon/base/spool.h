/* spool.h - bytes that come in pieces and are read again: few in memory, many in a file without a name.
 *
 * A request's body waits here until its hold is durable; it outlives the client that sent it. Memory is bounded by
 * LIMIT_SPOOL_MEMORY whatever the length; the file is made when that is passed and vanishes with its last user, also
 * when the process is killed. Reading and writing go through the page cache: nothing of a file counts as our memory.
 *
 * One thread at a time. */
#ifndef TG_BASE_SPOOL_H
#define TG_BASE_SPOOL_H

#include <stdint.h>
#include <sys/types.h>

#include "err.h"
#include "limits.h"

struct spool;

/* <directory>: where a file is made when one is needed; borrowed for the spool's life. <expect>: bytes that will likely
 * come, 0 when nobody knows. */
struct spool *spool_create(const char *directory, uint64_t expect);
void spool_destroy(struct spool *s); /* NULL-safe */

/* UNAVAILABLE: the file could not be made or written (no room); what was appended before stays readable. */
TG_MUSTCHECK enum err_code spool_append(struct spool *s, struct slice bytes, struct err *err);

uint64_t spool_len(const struct spool *s);

/* All of it while it is in memory, borrowed until the next append; false when it is in a file. */
bool spool_memory(const struct spool *s, struct slice *out);

/* Copies up to <cap> bytes from <offset>; fewer only at the end. -1 when the file could not be read. */
ssize_t spool_read(const struct spool *s, uint64_t offset, void *out, size_t cap);

#endif
