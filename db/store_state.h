/* store_state.h - the store's inside, shared by store.c (threads), batch.c (transactions), put.c (records), budgets.c
 * (their budgets), admin.c (repeated admin calls), audit.c (who changed what), sweep.c (what time asks for), repeat.c
 * (repeated calls of customers), prune.c (old records), fold.c (sums of days) and start.c (what happens at open). */
#ifndef TG_DB_STORE_STATE_H
#define TG_DB_STORE_STATE_H

#include <pthread.h>

#include "directory.h"
#include "engine.h"

enum {
    STORE_BATCH = 512,      /* operations in one transaction at most */
    SWEEP_HOLDS = 64,       /* holds swept in one */
    STORE_SUBSCRIBERS = 300 /* loops and a few more */
};

/* The time zones of tenants, each opened once. */
struct zone_shelf {
    struct named_zone {
        char name[ZONE_NAME];
        struct zone *zone;
    } * at;
    size_t n;
};

struct subscriber {
    struct mailbox *box;
    store_apply_fn *apply;
    void *ctx;
};

/* A record that the batch changed, until it was published. */
struct changed {
    struct store_op *op;
    struct record *record; /* a reference */
};

/* A queue of mails and the thread that empties it. */
struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *head, **tail;
    atomic_size_t queued; /* changed under the lock; looked at without */
    bool waiting, stopping, running;
};

struct store {
    struct engine *engine, *reader;
    struct ledger *ledger;
    struct directory directory; /* live records; the writer's */
    int64_t recovered;
    int64_t hold_deadline; /* microseconds */
    struct zone_shelf zones;
    int64_t keep;      /* microseconds that a customer's idempotency key outlives its call */
    int64_t drop_next; /* wall time from which on old keys are looked for */
    int64_t fold_next; /* monotonic time from which on days are folded beside other work */
    struct audit_head audit;
    int64_t closed; /* records created before this wall time do not change any more (prune.c) */
    struct subscriber *subscribers;
    size_t n_subscribers;
    struct worker write, read;
    bool started;
    atomic_bool healthy;
    void (*failed)(void *ctx, const char *why);
    void *failed_ctx;
    /* the batch */
    struct changed *changed; /* in the order of the operations */
    size_t n_changed, cap_changed;
    struct usage_record *doubts[STORE_BATCH]; /* records that in-doubt holds leave */
    size_t n_doubts;
};

/* ---- batch.c ---- */

/* Applies up to STORE_BATCH operations, linked by mail.next, in one transaction, and fills their err. Afterwards they
 * are durable or refused; s->changed lists what is to be published. Not healthy any more: every one has UNAVAILABLE. */
void batch_run(struct store *s, struct store_op *chain, size_t n);

/* Ends it for good: a transaction could not be finished. */
void batch_fail(struct store *s, const char *why);

/* ---- repeat.c ---- */

/* Applies a hold unless its idempotency key is taken. */
enum err_code repeat_hold(struct store *s, struct store_hold *op);

/* After an operation that may have ended a hold, <code> being its result: settles the hold's key, if it has one. */
enum err_code repeat_ended(struct store *s, struct store_op *op, enum err_code code);

/* ---- put.c ---- */

/* Inside a transaction. *before: the record replaced, a reference of the caller's, or NULL. */
enum err_code put_apply(struct store *s, struct store_put *op, struct record **before);

/* Likewise; all or none. */
enum err_code put_many_apply(struct store *s, struct store_put_many *op);
void put_many_drop(struct store_put_many *op); /* lets go of its records */

/* ---- budgets.c ---- */

/* INVALID_VALUE: the record's budgets are none. */
enum err_code budgets_check_record(const struct record *record, struct err *err);

/* Sets the budgets of a record that has come, changed or gone (gone: there is none), and when a tenant's time zone is
 * not that of <before> those of whatever is its own. What the batch did before must be flushed. */
enum err_code put_budgets(struct store *s, const struct record *record, const struct record *before, struct err *err);

/* Sets the budgets of every live API key that has any. */
enum err_code load_key_budgets(struct store *s, struct err *err);

/* Forgets the budgets of the keys of a tenant or customer that is gone. */
enum err_code forget_key_budgets(struct store *s, const struct record *owner, struct err *err);

void zones_dispose(struct zone_shelf *zones);

/* ---- admin.c ---- */

/* Applies an operation that has an actor: replay or apply, then the audit trail and the kept reply. */
enum err_code admin_apply(struct store *s, struct store_op *op);

/* ---- audit.c ---- */

/* The newest entry. At a start. */
enum err_code audit_load(struct store *s, struct err *err);

/* The tenant that an operation is about, as far as it must be asked before it is applied; else 0. */
int64_t audit_tenant_before(const struct store *s, const struct store_op *op);

/* Writes what an operation that was applied has changed: an entry, or one for each of many. <before>: the record that
 * it replaced, or NULL. <tenant>: of audit_tenant_before. */
enum err_code audit_write(struct store *s, struct store_op *op, const struct record *before, int64_t tenant);

/* ---- batch.c ---- */

/* Writes what the batch has done so far into its transaction, so that it can be looked up (batch.c). */
enum err_code batch_flush(struct store *s, struct err *err);

/* The operation itself, whoever asks (batch.c). *before as in put_apply. */
enum err_code batch_apply(struct store *s, struct store_op *op, struct record **before);

/* ---- sweep.c ---- */

/* Ends the open holds of dead processes by their in-doubt rule. */
enum err_code sweep_dead(struct store *s, struct err *err);

/* Does what time asks for: holds past the deadline, lots whose time has come. The writer's thread, between batches. */
void sweep_due(struct store *s);
bool sweep_waits(const struct store *s); /* whether anything may become due */

/* ---- fold.c ---- */

bool fold_due(const struct store *s);     /* whether there is something to fold now */
bool fold_waits(const struct store *s);   /* whether there will be */
int64_t fold_done(const struct store *s); /* wall: all roll-ups before it are in the sums of days */

/* Makes one step, when there is something to fold and <idle> or it is time. The writer's thread, between batches. */
void fold_run(struct store *s, bool idle);

/* ---- prune.c ---- */

/* Inside a transaction. */
enum err_code prune_apply(struct store *s, struct store_prune *op);

/* What was closed by earlier processes. At a start. */
enum err_code prune_load(struct store *s, struct err *err);

/* ---- start.c ---- */

/* Loads everything, takes a new epoch, brings the default prices up to date and resolves dead holds. */
enum err_code start_store(struct store *s, bool migrate, struct err *err);

#endif
