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
 * captured hold leaves exactly one usage record, its transfers and its share of the hourly roll-up, in one transaction.
 *  (5) Transfers are only ever added; over all accounts both posted and held sum to zero.
 *  (6) A change of a record is known to every subscriber before it is acknowledged to whoever asked for it.
 *  (7) After a failed commit nothing is acknowledged any more: every operation gets UNAVAILABLE and `failed` is called,
 * once. (8) At open, holds of dead epochs are resolved by their in-doubt rule before anything else is applied.
 *
 * Threads: submit and ask from any thread; deliver runs where reply_to delivers. */
#ifndef TG_DB_STORE_H
#define TG_DB_STORE_H

#include "daemon/base/mailbox.h"
#include "record.h"

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

/* Every live record (deleted and revoked ones are left out), in an order in which owners come first. The record is
 * borrowed; ref it to keep it. Before store_start. */
void store_each_record(struct store *s, void (*fn)(void *ctx, struct record *record), void *ctx);

/* Starts writer and reader. <failed> runs once, on the writer's thread, when the store cannot go on. */
TG_MUSTCHECK enum err_code store_start(struct store *s, void (*failed)(void *ctx, const char *why), void *ctx,
                                       struct err *err);

/* Finishes what was submitted, checkpoints, releases the lock. No submit may follow or run beside it. NULL-safe. */
void store_close(struct store *s);

bool store_healthy(const struct store *s);      /* any thread; false after a failed commit */
int64_t store_recovered(const struct store *s); /* how many dead holds store_open resolved */

/* ---- operations ---- */

enum store_kind {
    STORE_HOLD = 0,
    STORE_CAPTURE,
    STORE_VOID,
    STORE_DOUBT,
    STORE_RESOLVE,
    STORE_CREDIT,
    STORE_WITHDRAW,
    STORE_REFUND,
    STORE_PUT,
    STORE_KINDS
};

enum { STORE_LEGS = 2 };

struct store_op;

/* Who asks, for the audit trail and idempotency; admin operations only. */
struct store_actor {
    int64_t token_row;                  /* 0: the command line */
    struct id request;                  /* the admin call's request id */
    const char *action;                 /* "tenant.create" */
    struct slice idempotency_key;       /* empty: none given */
    uint8_t fingerprint[SECRET_DIGEST]; /* of method, path and body */
    /* Writes the answer's body, on the writer's thread, after the operation was applied and before it is committed;
     * it is kept (sealed) with the idempotency key and given back unchanged when the call is repeated. Pure. */
    void (*render)(struct store_op *op, struct buf *out);
    /* A record for the audit trail, without secrets. Pure. May be NULL. */
    void (*describe)(const struct record *record, struct buf *out);
    int status;       /* in: HTTP status of the answer; out: the stored one when replayed */
    struct buf reply; /* out: the rendered or stored body; the caller inits and disposes it */
    bool replayed;    /* out: the operation was not applied, reply is the stored answer */
};

struct store_op {
    struct mail mail;         /* mail.deliver: set by the caller */
    struct mailbox *reply_to; /* NULL: store_apply (synchronous) only */
    enum store_kind kind;
    struct store_actor *actor; /* NULL on the data plane */
    struct err err;            /* out: err.code is ERR_OK when applied and durable */
};

/* A wallet's part in a hold or a charge. */
struct store_leg {
    bool customer;  /* the customer's own wallet; else the tenant's */
    int64_t amount; /* nano, >= 0 */
};

/* What is being sold, as every record of it names it. */
struct store_call {
    int64_t tenant_row, customer_row, key_row, channel_row; /* 0: none */
    char model[LIMIT_MODEL];
    enum image_operation operation;
    char size[LIMIT_SIZE];
    char quality[LIMIT_QUALITY];
    int n;
    bool stream;
    bool test; /* test-mode key: no legs, no money */
};

/* STORE_HOLD: sets money aside in every leg, or in none (INSUFFICIENT_QUOTA; ACCOUNT_SUSPENDED when a wallet's owner
 * was deleted; CONFLICT when the id is open already). Leg 0 is the tenant's, leg 1 the customer's.
 * Each leg is taken from the wallet's lots in their order (store_credit) and then from the money of no lot, down to the
 * credit line; the hold keeps its lots until it ends, even past their expiry. Every budget of the key, the customer and
 * the tenant must bear it as well: wholesale_max counts for the tenant and for its own keys, retail_max for the
 * customer and its keys; in test mode none. The first budget that cannot (key, customer, tenant; in the order of its
 * list) is named in the message, with the time at which it resets. */
struct store_hold {
    struct store_op super;
    struct id id; /* also the request's id (req_) and the hold's (hld_) */
    struct store_call call;
    int n_legs;                                  /* 0 for test mode */
    struct store_leg legs[STORE_LEGS];           /* tenant's at wholesale first, then the customer's at retail */
    int64_t cost_max, wholesale_max, retail_max; /* nano */
    int64_t version_cost, version_wholesale,
        version_retail; /* rows of the pinned price versions; retail 0: as wholesale */
    enum conf_in_doubt rule;
    int64_t created_at;
    /* A customer's Idempotency-Key, 1..LIMIT_IDEMPOTENCY_KEY bytes, of this API key alone; empty: none. Borrowed until
     * delivered. What it was used for is remembered, across a crash, while the hold is open and from its end on for
     * store_options.keep; a hold that is refused or voided had no effect, so its key is free again. When it is taken
     * the hold is refused, nothing moves, and <earlier> is filled:
     * IDEMPOTENCY_REUSED (another fingerprint), IDEMPOTENCY_RUNNING (the same, not settled yet, or kept in doubt),
     * IDEMPOTENCY_DONE (the same, captured or ended by its in-doubt rule). */
    struct slice idempotency_key;
    uint8_t fingerprint[SECRET_DIGEST]; /* of method, path, content type and body */
    struct {
        struct id request; /* of the first call */
        struct id usage;   /* its record, use_; zero: not settled */
    } earlier;             /* out */
};

enum usage_flag {
    USAGE_ESTIMATED = 1,
    USAGE_UNTRUSTED = 2,
    USAGE_FEWER_IMAGES = 4,
    USAGE_IN_DOUBT = 8,
    USAGE_CLIENT_GONE = 16,
    USAGE_OVERAGE = 32,
    USAGE_TEST = 64
};

/* What one request used. The store fills seq, request and created_at (when it was applied, in whole milliseconds; from
 * one seq to the next it goes back only when the clock did) and, in answers to queries, the ids. */
struct usage_record {
    int64_t seq; /* use_ id: id_from_seq(created_at, seq) */
    struct id request;
    struct store_call call;
    int64_t created_at;
    char upstream_request_id[LIMIT_UPSTREAM_ID];
    int images, partial_images;
    struct price_quantities quantities;        /* tokens; image and request units are not kept */
    int64_t cost, wholesale, retail, refunded; /* nano */
    unsigned flags;
    int status;                                           /* of the attempt that delivered; 0: none answered */
    int64_t duration_ms;                                  /* of the call as a whole */
    int64_t upstream_ms;                                  /* of that attempt */
    struct id tenant_id, customer_id, key_id, channel_id; /* queries only */
    bool own_wallet;                                      /* queries only: the customer's wallet was charged beside */
    char channel_name[LIMIT_NAME];
};

/* STORE_CAPTURE: ends the hold with charges. A charge is taken from the lots that the hold kept, in their order, then
 * from other lots, then from the money of no lot. A charge above its leg's hold is taken as far as the wallet bears
 * (above its credit line, never below); the rest is booked to a receivable. The record is flagged overage whenever a
 * charge was above its leg's hold. Who was served (tenant, customer, key, n, stream, test) is the hold's, and so is
 * what was served where usage.call has no model, and the channel where it has none. The record's wholesale and retail
 * become charges[0] and, with two legs, charges[1]: a record says what was charged. In test mode all amounts become 0.
 * A hold that is kept in doubt can be captured too. NOT_FOUND: no such hold. */
struct store_capture {
    struct store_op super;
    struct id hold;
    int64_t charges[STORE_LEGS]; /* parallel to the hold's legs */
    struct usage_record usage;   /* cost, wholesale, retail as rated; flags may be added to */
    int64_t charged;             /* out: what was taken from the last leg's wallet; 0 in test mode */
};

/* STORE_VOID: gives the hold back. NOT_FOUND: no such open hold. */
struct store_void {
    struct store_op super;
    struct id hold;
};

/* STORE_DOUBT: the outcome upstream is unknown. By the hold's rule: release ends it with a usage record at no charge
 * whose worst-case cost is booked to the loss account; charge captures the whole hold; keep leaves it, marked in doubt.
 */
struct store_doubt {
    struct store_op super;
    struct id hold;
    int64_t duration_ms;
    bool client_gone;
    enum conf_in_doubt applied; /* out */
};

/* STORE_RESOLVE: ends a hold that is kept in doubt. NOT_FOUND: no such hold; CONFLICT: it is open, its call is under
 * way; INVALID_VALUE: more than the hold. A capture leaves a usage record flagged in_doubt. Its <amount> is in the
 * price of the last leg's wallet; the other leg, the recorded prices and the worst-case cost are charged in proportion,
 * each rounded up. A void leaves nothing. */
struct store_resolve {
    struct store_op super;
    struct id hold;
    bool capture;              /* else void */
    int64_t amount;            /* nano; < 0: the whole hold */
    struct usage_record usage; /* out, of a capture */
    int64_t charged;           /* out: as in store_capture */
};

enum credit_category { CREDIT_PAID = 0, CREDIT_PROMOTIONAL };

enum grant_status { GRANT_LIVE = 0, GRANT_LAPSED, GRANT_WITHDRAWN };

/* STORE_CREDIT: a grant (amount > 0) or an adjustment (amount < 0, refused past the credit line: INSUFFICIENT_QUOTA).
 *
 * A grant is a lot of credit. Lots are used in this order: lower priority, then earlier expiry (never is last), then
 * promotional before paid, then older. A new grant first settles what the wallet owes on its credit line. At expires_at
 * what is left of a lot lapses: it leaves the wallet by a transfer; what holds keep of it follows when they end, unless
 * it is charged. expires_at must lie in the future (INVALID_VALUE). CONFLICT: the wallet has STORE_LOTS lots already.
 * An adjustment takes from the lots in their order, then from the money of no lot; of promotional or paid credit says
 * only where it is booked. */
enum { STORE_LOTS = 1000 }; /* lots of a wallet that are not used up */

struct store_credit {
    struct store_op super;
    int64_t tenant_row;
    int64_t customer_row; /* 0: the tenant's wallet */
    int64_t amount;       /* nano, not 0 */
    enum credit_category category;
    int64_t expires_at; /* 0: never */
    int priority;       /* 0..100, lower is used first */
    char note[LIMIT_NAME * 2];
    struct id grant;    /* out */
    int64_t created_at; /* out */
};

/* A grant as it stands. */
struct store_grant {
    int64_t seq;                      /* grt_ id: id_from_seq(created_at, seq) */
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t amount, remaining;        /* nano; what holds keep of it is part of remaining */
    enum credit_category category;
    enum grant_status status;
    int64_t expires_at; /* 0: never */
    int priority;
    char note[LIMIT_NAME * 2];
    int64_t created_at;
    struct id tenant_id, customer_id; /* queries only */
};

/* STORE_WITHDRAW: voids what is left of a grant: it goes back where it came from, what holds keep of it when they end,
 * unless it is charged. NOT_FOUND: no such grant; CONFLICT: it has lapsed or was withdrawn. Used up is no conflict. */
struct store_withdraw {
    struct store_op super;
    int64_t seq;               /* of the grant */
    char note[LIMIT_NAME * 2]; /* may be empty */
    struct store_grant grant;  /* out: as it stands now */
};

/* STORE_REFUND: gives a charge back, in all or in part. <amount> is in the price of the last wallet that was charged
 * (retail where the customer has its own, else wholesale). Then the tenant is given back the same share of the
 * wholesale price, unless <retail_only>. Over all refunds of a record never more than the charge: INVALID_VALUE naming
 * amount. The transfers of the charge are taken back last first: what was owed beyond the wallet, then lot by lot. What
 * comes back to a lot that has lapsed or was withdrawn leaves it again. The cost stays. Budgets are not given back.
 * NOT_FOUND: no such record. FORBIDDEN: retail_only, and only the tenant was charged. CONFLICT: nothing is left to
 * refund, or the wallet's owner is gone. */
struct store_refund {
    struct store_op super;
    int64_t seq;    /* of the usage record */
    int64_t amount; /* nano, > 0; 0: all that is left */
    bool retail_only;
    char reason[LIMIT_NAME * 2];
    struct usage_record usage; /* out: the record as it stands now, with the ids of a query's */
    int64_t refunded;          /* out: this refund, nano */
};

/* STORE_PUT: creates (record->row == 0; the store gives it row, version 1 and created_at; the id is the caller's, by
 * id_make) or replaces a record (record->version: the version it was made from; PRECONDITION_FAILED when that is not
 * the current one; id, created_at and owners stay what they were). Takes over the reference.
 * Deleting is a put with status RECORD_DELETED: a tenant or customer with money or open holds: CONFLICT. With a tenant
 * go its customers, keys (revoked) and admin tokens, with a customer its keys; subscribers are told of the owner alone.
 * Revoked stays revoked: CONFLICT. A name (channels, price books) or external_id that must be unique and is not, a
 * credit_limit below what is used, two price versions with one effective_from: CONFLICT naming the parameter. An owner
 * that is not there: NOT_FOUND. A price book's put adds the versions that have no row yet; it can take none away. */
struct store_put {
    struct store_op super;
    struct record *record; /* in: new values; out: the stored one, with a reference; NULL on error and on replay */
};

void store_submit(struct store *s, struct store_op *op);

/* Applies one operation at once, on the caller's thread: for commands, before store_start. */
enum err_code store_apply(struct store *s, struct store_op *op);

/* ---- questions ---- */

enum store_question {
    STORE_GET = 0,
    STORE_LIST,
    STORE_BALANCE,
    STORE_USAGE,
    STORE_LEDGER,
    STORE_GRANTS,
    STORE_HOLDS,
    STORE_ACCOUNTS,
    STORE_QUESTIONS
};
enum { STORE_PAGE = 100 };

struct store_query {
    struct mail mail;
    struct mailbox *reply_to;
    enum store_question question;
    struct err err;
};

struct store_balance {
    int64_t posted, held, credit_limit; /* nano; available = posted - held + credit_limit */
    int64_t receivable;                 /* what was used beyond the wallet and is owed, >= 0; queries only */
};

/* STORE_GET and STORE_LIST: records of one kind, newest first; STORE_GET by id (NOT_FOUND when absent or, with a
 * tenant_row, another tenant's). Deleted records are not seen; revoked keys are. */
struct store_list {
    struct store_query super;
    enum record_kind kind;
    struct id id;                              /* STORE_GET: which; STORE_LIST: after which (zero: from the newest) */
    int64_t tenant_row;                        /* 0: any */
    char external_id[LIMIT_NAME];              /* empty: any */
    int limit;                                 /* 1..STORE_PAGE */
    int n;                                     /* out */
    bool more;                                 /* out */
    struct record *items[STORE_PAGE];          /* out: references of the caller's */
    struct store_balance balances[STORE_PAGE]; /* out: tenants and customers */
    struct id tenant_ids[STORE_PAGE], customer_ids[STORE_PAGE]; /* out: the owners' ids, zero when none */
};

/* STORE_BALANCE: a wallet now (at = 0) or after the last transfer not later than <at> (held is 0 then). */
struct store_balance_query {
    struct store_query super;
    int64_t tenant_row, customer_row;
    int64_t at;
    struct store_balance balance; /* out */
};

/* STORE_USAGE: finished requests, newest first. */
struct store_usage_query {
    struct store_query super;
    int64_t tenant_row, customer_row, key_row, channel_row; /* 0: any */
    char model[LIMIT_MODEL];                                /* empty: any */
    enum image_operation operation;
    char size[LIMIT_SIZE], quality[LIMIT_QUALITY];
    int64_t start_time, end_time; /* 0: open; start inclusive, end exclusive */
    int64_t after_seq;            /* 0: from the newest */
    int64_t seq;                  /* this record alone; 0: any */
    int limit;
    int n;                                 /* out */
    bool more;                             /* out */
    struct usage_record items[STORE_PAGE]; /* out */
    int64_t scanned;                       /* the store's own: how far a search in slices has come */
};

/* STORE_LEDGER: the transfers of a wallet, newest first. */
struct store_transfer {
    int64_t number; /* txn_ id: id_from_seq(created_at, number) */
    int64_t created_at;
    const char *kind;  /* "charge"; static */
    int64_t amount;    /* signed as the wallet sees it; a settlement within the wallet: 0 */
    struct id usage;   /* the usage record that it belongs to or refunds; else zero */
    struct id request; /* and its request */
    struct id grant;   /* the lot that it takes from or gives to; zero: none */
    char note[LIMIT_NAME * 2];
};

struct store_ledger_query {
    struct store_query super;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t after;                    /* a transfer's number; 0: from the newest */
    int limit;
    int n;                                   /* out */
    bool more;                               /* out */
    struct store_transfer items[STORE_PAGE]; /* out */
    int64_t scanned;                         /* the store's own */
};

/* STORE_GRANTS: the grants of a wallet, newest first; or, with seq, this one (NOT_FOUND; n is 1). */
struct store_grants_query {
    struct store_query super;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t seq;
    int64_t after; /* a grant's seq; 0: from the newest */
    int limit;
    int n;                                /* out */
    bool more;                            /* out */
    struct store_grant items[STORE_PAGE]; /* out */
};

/* STORE_HOLDS: open holds and those in doubt, newest first; or, with only_id, this one (NOT_FOUND; n is 1). */
enum hold_state { HOLD_OPEN = 0, HOLD_IN_DOUBT, HOLD_ENDED };

struct store_held {
    struct id id;
    enum hold_state state;
    struct store_call call;
    int n_legs;
    int64_t legs[STORE_LEGS];                    /* nano */
    int64_t cost_max, wholesale_max, retail_max; /* nano */
    enum conf_in_doubt rule;
    int64_t created_at;
    struct id tenant_id, customer_id, key_id, channel_id;
};

struct store_holds_query {
    struct store_query super;
    int64_t tenant_row; /* 0: any */
    int state;          /* enum hold_state, or -1: open and in doubt */
    struct id only_id;
    struct id after; /* zero: from the newest */
    int limit;
    int n;                               /* out */
    bool more;                           /* out */
    struct store_held items[STORE_PAGE]; /* out */
};

/* STORE_ACCOUNTS: the chart of accounts of a tenant, or with customer_row of a customer; those that were ever used. */
enum { STORE_CHART = 16 };

struct store_accounts_query {
    struct store_query super;
    int64_t tenant_row, customer_row;
    int n; /* out */
    struct {
        const char *name; /* "wallet", "revenue", "cost", "loss", ...; static */
        int64_t posted, held;
    } items[STORE_CHART]; /* out */
};

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
