/* engine.h - what stands behind the store: a database that applies effects in transactions and answers questions.
 *
 * The store and the ledger know this interface only. A writer engine is one connection used by one thread at a time;
 * its reader is another, read-only one. UNAVAILABLE means that the database failed: the engine is good for nothing but
 * `rollback` and `close`, and the store acknowledges nothing more. Any other code is a refusal of that one call, which
 * then wrote nothing. */
#ifndef TG_DB_ENGINE_H
#define TG_DB_ENGINE_H

#include "ledger.h"

struct engine;

/* A reply kept with its idempotency key. */
struct stored_reply {
    uint8_t fingerprint[SECRET_DIGEST];
    int status;
    int64_t created_at;
};

/* A customer's Idempotency-Key and what it was used for. */
struct call_key {
    int64_t row;
    uint8_t fingerprint[SECRET_DIGEST];
    struct id request; /* the hold's id */
    int64_t usage;     /* seq of the record that ended the hold; 0: it is open or in doubt */
    int64_t at;        /* when it ended, until then when it began; whole milliseconds */
};

enum { CALL_KEYS_DROPPED = 4 }; /* keys forgotten at once */

/* The audit trail's newest entry: entries are numbered without gaps. */
struct audit_head {
    int64_t seq; /* 0: none */
    uint8_t hash[SECRET_DIGEST];
};

struct audit_entry {
    struct audit_head head; /* its number, and the hash of it and all before it */
    int64_t at;
    int64_t token_row, tenant_row; /* 0: the command line; the platform's alone */
    struct id request;
    const char *action, *object, *peer; /* "" where there is none */
    struct slice before, after;         /* JSON; empty: none */
};

enum { META_BYTES = 64 }; /* bytes of a named value */

/* How far the sums of days are folded; wall. */
struct fold_state {
    int64_t folded; /* all roll-ups before it are in them */
    int64_t latest; /* begin of the last quarter of an hour that has roll-ups; -1: none */
};

/* Takes over the reference. */
typedef void credential_fn(void *ctx, struct credential *credential);
/* The key is borrowed. */
typedef enum err_code budget_key_fn(void *ctx, const struct api_key *key, struct err *err);

struct engine_class {
    /* ---- schema; outside transactions ---- */
    /* Applies missing migrations (<apply>) or refuses when some are missing. Refuses a newer database. */
    enum err_code (*migrate)(struct engine *e, bool apply, int *applied, struct err *err);
    /* Fills <l> with items, accounts, lots, holds, budget cells, the chain and the event counter. */
    enum err_code (*load)(struct engine *e, struct ledger *l, struct err *err);
    /* Every record that is neither deleted nor revoked and whose owners live, owners first, but API keys; <fn> gets a
     * reference. */
    enum err_code (*load_records)(struct engine *e, void (*fn)(void *ctx, struct record *record), void *ctx,
                                  struct err *err);

    /* Credentials of the live keys in rows [first, end), by row. Any connection, readers too. */
    enum err_code (*load_credentials)(struct engine *e, int64_t first, int64_t end, credential_fn *fn, void *ctx,
                                      struct err *err);
    /* The greatest row of a key; 0: there is none. */
    enum err_code (*last_key)(struct engine *e, int64_t *row, struct err *err);
    /* Keys that have budgets: the live ones (tenant 0), or all of a tenant, or of a customer of it. In a transaction or
     * outside; <fn> may ask for what was spent. Ends at its first error. */
    enum err_code (*budget_keys)(struct engine *e, int64_t tenant_row, int64_t customer_row, budget_key_fn *fn,
                                 void *ctx, struct err *err);

    /* ---- transactions of the writer ---- */
    /* CONFLICT: another program holds the database; nothing happened, try again later. */
    enum err_code (*begin)(struct engine *e, struct err *err);
    enum err_code (*commit)(struct engine *e, struct err *err);
    void (*rollback)(struct engine *e);
    enum err_code (*put_effects)(struct engine *e, const struct effects *effects, struct err *err);
    /* What was charged to an owner in records created in [from, to), as far as this transaction has written. */
    enum err_code (*spent)(struct engine *e, const struct budget_owner *owner, int64_t from, int64_t to, int64_t *out,
                           struct err *err);
    /* A grant by its seq; NOT_FOUND. Ids are left zero. */
    enum err_code (*find_grant)(struct engine *e, int64_t seq, struct store_grant *out, struct err *err);
    /* A usage record by its seq, ids included, with its charge; NOT_FOUND. */
    enum err_code (*find_charge)(struct engine *e, int64_t seq, struct charge *out, struct err *err);
    /* Looks for old records or takes them away (STORE_PRUNE, but PRUNE_CLOSE): <op> is as it was asked, in whole
     * days. */
    enum err_code (*prune)(struct engine *e, struct store_prune *op, struct err *err);
    /* Inserts (row 0: the row is set) or replaces. CONFLICT: a value that must be unique is not (param names it);
     * nothing was written. A deleted tenant takes its customers and keys with it, a deleted customer its keys. */
    enum err_code (*put_record)(struct engine *e, struct record *record, struct err *err);
    /* Inserts all (their rows are 0, and set) or none. *failed: the place of the one that was refused, else -1. */
    enum err_code (*put_records)(struct engine *e, struct record **records, int n, int *failed, struct err *err);
    /* Notes when a key or admin token was used, unless a later time is known. */
    enum err_code (*touch)(struct engine *e, enum record_kind kind, int64_t row, int64_t at, struct err *err);
    /* Any record by its row, deleted ones too: NOT_FOUND. One reference. */
    enum err_code (*find_record)(struct engine *e, enum record_kind kind, int64_t row, struct record **out,
                                 struct err *err);
    /* NOT_FOUND when there is none younger than <oldest>. When the fingerprint is the actor's, the body, unsealed, is
     * appended to <body>. */
    enum err_code (*find_reply)(struct engine *e, const struct store_actor *actor, int64_t oldest,
                                struct stored_reply *out, struct buf *body, struct err *err);
    /* Also forgets a few replies older than <oldest>. */
    enum err_code (*put_reply)(struct engine *e, const struct store_actor *actor, int64_t now, int64_t oldest,
                               struct err *err);
    /* What the hold's key was used for before. NOT_FOUND: for nothing, or for a call that ended before <oldest>. Sees
     * what this transaction has written. */
    enum err_code (*find_key)(struct engine *e, const struct store_hold *op, int64_t oldest, struct call_key *out,
                              struct err *err);
    /* Keeps the key of an open hold, over an old one; *row is for ledger_set_key. */
    enum err_code (*put_key)(struct engine *e, const struct store_hold *op, int64_t now, int64_t *row, struct err *err);
    enum err_code (*end_key)(struct engine *e, const struct ended_key *key, int64_t now, struct err *err);
    /* Forgets up to CALL_KEYS_DROPPED keys of calls that ended before <oldest>; *more: there may be others. */
    enum err_code (*drop_keys)(struct engine *e, int64_t oldest, bool *more, struct err *err);
    enum err_code (*put_audit)(struct engine *e, const struct audit_entry *entry, struct err *err);
    /* What is now the newest; after the put_audits of an operation. */
    enum err_code (*put_audit_head)(struct engine *e, const struct audit_head *head, struct err *err);
    enum err_code (*get_audit_head)(struct engine *e, struct audit_head *out, struct err *err);
    /* Named values of the store itself. *len 0 when absent. */
    enum err_code (*get_meta)(struct engine *e, const char *name, uint8_t value[META_BYTES], size_t *len,
                              struct err *err);
    enum err_code (*put_meta)(struct engine *e, const char *name, const uint8_t *value, size_t len, struct err *err);

    /* Folds at least <rows> roll-ups into the sums of days, or all there are in quarters of hours that end at <before>
     * or earlier. In a transaction of its own. */
    enum err_code (*fold)(struct engine *e, int64_t before, int rows, struct err *err);

    /* ---- between transactions ---- */
    void (*folding)(const struct engine *e, struct fold_state *out); /* after load */
    /* Housekeeping when there is enough to do, or <idle> and anything to do. */
    enum err_code (*tidy)(struct engine *e, bool idle, struct err *err);
    /* Whether an idle tidy has something to do. */
    bool (*untidy)(const struct engine *e);

    /* ---- questions ---- */
    /* A read-only companion, for another thread; only ask and close may be used on it. */
    enum err_code (*open_reader)(struct engine *e, struct engine **out, struct err *err);
    /* Answers <query> into it (err included). False: a slice was done, ask again. */
    bool (*ask)(struct engine *reader, struct store_query *query);

    /* <clean>: leave the database in one file where that can be done. NULL-safe not required. */
    void (*close)(struct engine *e, bool clean);
};

struct engine {
    const struct engine_class *class;
};

/* Opens the database that <url> names for writing and takes its lock (CONFLICT: another process has it). */
TG_MUSTCHECK enum err_code engine_open(const char *url, const struct secrets *secrets, struct engine **out,
                                       struct err *err);

#endif
