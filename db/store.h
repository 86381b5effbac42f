/* store.h - the store: one interface of typed operations, applied in batches by a single writer.
 *
 * Everything that changes money or records is a `struct store_op`. The caller embeds it in what it keeps anyway (a
 * relay, an admin call), fills it, submits it and forgets it until mail.deliver runs on its own thread: then the
 * operation is durable (or refused: op->err), and the struct is the caller's again. Questions are `struct store_query`,
 * answered by a reader thread from a read-only connection. No engine's type shows here: SQLite stands behind it
 * (engine.h), PostgreSQL may.
 *
 * What the store promises
 *  (1) An operation is acknowledged only after the transaction it was in is on disk (synchronous=FULL).
 *  (2) posted - held + credit limit >= 0 for every wallet, always: a hold that would break it is refused, nothing
 * written. (3) A hold ends exactly once: captured or voided. A second ending gets NOT_FOUND and changes nothing. (4) A
 * captured hold leaves exactly one usage record, its transfers and its share of the roll-ups, in one transaction.
 *  (5) Transfers are only ever added; over all accounts both posted and held sum to zero.
 *  (6) A change of a record is known to every subscriber before it is acknowledged to whoever asked for it.
 *  (7) After a failed commit nothing is acknowledged any more: every operation gets UNAVAILABLE and `failed` is called,
 * once. (8) At open, holds of dead epochs are resolved by their in-doubt rule before anything else is applied.
 *
 * Threads: submit and ask from any thread; deliver runs where reply_to delivers. */
#ifndef TG_DB_STORE_H
#define TG_DB_STORE_H

#include "question.h"

struct store;

/* ---- opening ---- */

struct store_options {
    const char *url;         /* "sqlite:PATH" */
    struct secrets *secrets; /* to unseal channel credentials and stored replies */
    bool migrate;            /* bring the schema up to date; else an old schema is refused */
    int64_t keep;            /* microseconds that a customer's idempotency key outlives its call; 0: 24 hours */
    int64_t hold_deadline;   /* microseconds after which an open hold that nobody ended is in doubt; 0: 3 hours */
};

/* Opens, migrates, loads balances and records, resolves dead holds, loads the default price book at the first start.
 * Takes the store's lock: CONFLICT when another process holds it. The writer does not run yet. */
TG_MUSTCHECK enum err_code store_open(const struct store_options *options, struct store **out, struct err *err);

/* Only brings the schema up to date. *applied: how many migrations ran. */
TG_MUSTCHECK enum err_code store_migrate(const char *url, int *applied, struct err *err);

/* Told of every changed record, on <box>'s thread. Before store_start. Each change carries a reference that `apply`
 * takes over. */
typedef void store_apply_fn(void *ctx, struct record *record);
void store_subscribe(struct store *s, struct mailbox *box, store_apply_fn *apply, void *ctx);

/* Every live record (deleted and revoked ones are left out) but API keys, in an order in which owners come first. The
 * record is borrowed; ref it to keep it. Before store_start. */
void store_each_record(struct store *s, void (*fn)(void *ctx, struct record *record), void *ctx);

/* The credential of every live API key, borrowed likewise; all are read from disk, so once for whoever needs them.
 * <fn> runs on the caller's thread. UNAVAILABLE: they could not be read. Before store_start. */
TG_MUSTCHECK enum err_code store_each_credential(struct store *s, void (*fn)(void *ctx, struct credential *credential),
                                                 void *ctx, struct err *err);

/* Starts writer and reader. <failed> runs once, on the writer's thread, when the store cannot go on. */
TG_MUSTCHECK enum err_code store_start(struct store *s, void (*failed)(void *ctx, const char *why), void *ctx,
                                       struct err *err);

/* Finishes what was submitted, checkpoints, releases the lock. No submit may follow or run beside it. NULL-safe. */
void store_close(struct store *s);

bool store_healthy(const struct store *s);      /* any thread; false after a failed commit */
int64_t store_recovered(const struct store *s); /* how many dead holds store_open resolved */

/* ---- operations (operation.h) ---- */

void store_submit(struct store *s, struct store_op *op);

/* Applies one operation at once, on the caller's thread: for commands, before store_start. */
enum err_code store_apply(struct store *s, struct store_op *op);

/* ---- questions (question.h) ---- */

void store_ask(struct store *s, struct store_query *query);

/* ---- checking ---- */

/* One line an invariant, told to <line>: its name, whether it holds, and the first rows that break it. Opens its own
 * read-only connection and looks at one snapshot, so it works beside a running daemon and on a backup. <progress>, when
 * not NULL, is told from time to time what is being looked at and how far it is, in thousandths. Returns the number
 * violated; -1 and <err> when it could not look. */
typedef void store_fsck_fn(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail);
typedef void store_progress_fn(void *ctx, const char *what, int permille);
int store_fsck(const char *url, store_fsck_fn *line, store_progress_fn *progress, void *ctx, struct err *err);

/* ---- copying ---- */

/* A consistent copy of the store as it is now, in the new file <dest> (0600), which opens like the store itself; works
 * beside a running daemon. The master key is not in it. CONFLICT: <dest> is there already, or there is no store.
 * UNAVAILABLE: it could not be read or written; then <dest> is not there. <progress> as in store_fsck, may be NULL. */
TG_MUSTCHECK enum err_code store_backup(const char *url, const char *dest, store_progress_fn *progress, void *ctx,
                                        struct err *err);

#endif
