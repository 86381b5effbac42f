/* store_state.h - the store's inside, shared by store.c (threads), batch.c (transactions), put.c (records), budgets.c
 * (their budgets), admin.c (audit, repeated admin calls), sweep.c (what time asks for), repeat.c (repeated calls of
 * customers) and start.c (what happens at open). */
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
    struct subscriber *subscribers;
    size_t n_subscribers;
    struct worker write, read;
    bool started;
    atomic_bool healthy;
    void (*failed)(void *ctx, const char *why);
    void *failed_ctx;
    /* the batch */
    struct changed changed[STORE_BATCH];
    size_t n_changed;
    struct usage_record *doubts[STORE_BATCH]; /* records that in-doubt holds leave */
    size_t n_doubts;
};

/* ---- batch.c ---- */

/* Applies up to STORE_BATCH operations, linked by mail.next, in one transaction, and fills their err. Afterwards they
 * are durable or refused; s->changed lists what is to be published. Not healthy any more: every one has UNAVAILABLE. */
void batch_run(struct store *s, struct store_op *chain, size_t n);

/* ---- repeat.c ---- */

/* Applies a hold unless its idempotency key is taken. */
enum err_code repeat_hold(struct store *s, struct store_hold *op);

/* After an operation that may have ended a hold, <code> being its result: settles the hold's key, if it has one. */
enum err_code repeat_ended(struct store *s, struct store_op *op, enum err_code code);

/* ---- put.c ---- */

/* Inside a transaction. *before: the record replaced, a reference of the caller's, or NULL. */
enum err_code put_apply(struct store *s, struct store_put *op, struct record **before);

/* Sets the budgets of a record that has come, changed or gone (gone: there is none), and with a tenant's time zone
 * those of whatever is its own. What the batch did before must be flushed. */
enum err_code put_budgets(struct store *s, const struct record *record, struct err *err);

void zones_dispose(struct zone_shelf *zones);

/* ---- admin.c ---- */

/* Applies an operation that has an actor: replay or apply, then the audit trail and the kept reply. */
enum err_code admin_apply(struct store *s, struct store_op *op);

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

/* ---- start.c ---- */

/* Loads everything, takes a new epoch, brings the default prices up to date and resolves dead holds. */
enum err_code start_store(struct store *s, bool migrate, struct err *err);

#endif
