/* answers.h - answers kept to be given again, when a customer repeats a call under its Idempotency-Key.
 *
 * A directory of files, one an answer, named by the id of the request that it answered; what the key was used for, and
 * that it was charged, is the store's to know (db/store.h): an answer that is lost costs nothing but the repeating.
 * So nothing is synced. A file begins under another name and gets its own when its charge is durable; its head carries
 * length and checksum, so a file that a power cut tore is never given.
 *
 * Any thread; a writer or reader by one thread at a time. Nothing here fails a call: what cannot be kept is not. */
#ifndef TG_RELAY_ANSWERS_H
#define TG_RELAY_ANSWERS_H

#include <sys/types.h>

#include "daemon/base/err.h"
#include "daemon/base/id.h"

struct answers;

struct answers_options {
    const char *directory; /* made when it is not there (its parent is) */
    int64_t keep;          /* microseconds; older ones are not given */
    int64_t max_answer;    /* bytes of a body; larger ones are not kept */
    int64_t max_kept;      /* bytes of disk in all, those being written included; the oldest go first */
};

/* Takes stock of what is there; leftovers of a dead process are removed. */
TG_MUSTCHECK enum err_code answers_open(const struct answers_options *options, struct answers **out, struct err *err);
void answers_close(struct answers *a); /* no writer may be left; readers may. NULL-safe */

/* What is known beside the body. */
struct answer_head {
    int status;
    bool events;                         /* text/event-stream; else application/json */
    int64_t charge;                      /* nano-dollars */
    char upstream_id[LIMIT_UPSTREAM_ID]; /* empty: none */
};

struct answer_writer;

struct answer_writer *answers_begin(struct answers *a, struct id request);    /* NULL: not kept */
void answers_add(struct answer_writer *w, struct slice bytes);                /* NULL-safe */
void answers_commit(struct answer_writer *w, const struct answer_head *head); /* frees <w>; NULL-safe */
void answers_drop(struct answer_writer *w);                                   /* frees <w>; NULL-safe */

struct answer_reader;

struct answer_reader *answers_find(struct answers *a, struct id request); /* NULL: there is none */
const struct answer_head *answer_head(const struct answer_reader *r);
uint64_t answer_len(const struct answer_reader *r);

enum answer_proof { ANSWER_GOOD = 0, ANSWER_UNPROVEN, ANSWER_DAMAGED };

/* Checks the next piece of an answer that another process wrote; before any of it is given, until it is not
 * ANSWER_UNPROVEN. A damaged one is removed. */
enum answer_proof answer_prove(struct answer_reader *r);

/* Copies bytes from <offset>; fewer than <cap> only at the end; -1 when the file cannot be read. */
ssize_t answer_read(struct answer_reader *r, uint64_t offset, void *out, size_t cap);
void answer_close(struct answer_reader *r);

#endif
