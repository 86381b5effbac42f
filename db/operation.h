/* operation.h - everything that can be done to the store: what each operation is given, what it promises, what it
 * leaves.
 *
 * An operation begins with a struct store_op; its caller fills it, gives it to store_submit and has it back when
 * mail.deliver runs (store.h). Amounts are nano-dollars, times wall microseconds, rows the store's own numbers. */
#ifndef TG_DB_OPERATION_H
#define TG_DB_OPERATION_H

#include "daemon/base/mailbox.h"
#include "record.h"

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
    STORE_PUT_MANY,
    STORE_TOUCH,
    STORE_STANDING,
    STORE_PRUNE,
    STORE_KEEP,
    STORE_KINDS
};

enum { STORE_LEGS = 2 };

struct store_op;

/* The ids of records by their rows, for whoever describes one; zero when there is none. */
struct store_names {
    struct id (*id)(const void *ctx, enum record_kind kind, int64_t row);
    const void *ctx;
};

/* Who asks, for the audit trail and idempotency; admin operations only. */
struct store_actor {
    int64_t token_row;            /* 0: the command line */
    struct id request;            /* the admin call's request id */
    const char *action;           /* "tenant.create" */
    const char *peer;             /* the client's address as text; "" or NULL: the command line. Static or the call's */
    struct slice idempotency_key; /* empty: none given */
    uint8_t fingerprint[SECRET_DIGEST]; /* of method, path and body */
    /* Writes the answer's body, on the writer's thread, after the operation was applied and before it is committed;
     * it is kept (sealed) with the idempotency key and given back unchanged when the call is repeated. Pure. */
    void (*render)(struct store_op *op, struct buf *out);
    /* A record for the audit trail, as a JSON object without secrets. <names> knows of tenants, customers, channels,
     * price books and admin tokens. Pure; the writer's thread. May be NULL. */
    void (*describe)(const struct record *record, const struct store_names *names, struct buf *out);
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

/* STORE_PUT_MANY: creates up to STORE_MANY records of one kind (API keys), all or none, as STORE_PUT would one by one.
 * Takes over the references. One entry in the audit trail each, one kept reply for all. Acknowledged when every
 * subscriber knows all of them. */
enum { STORE_MANY = 1000 };

struct store_put_many {
    struct store_op super;
    int n;
    struct record **records; /* in: new values; out: the stored ones, references of the caller's, as is the array; after
                                an error and on replay all NULL */
    int failed;              /* out: the place of the record that was refused; -1: of no single one */
};

/* STORE_TOUCH: notes when keys and admin tokens were last used. No actor, no audit, no new version; a row that is not
 * there is passed over, an earlier time than the one that is known changes nothing. */
enum { STORE_TOUCHES = 256 };

struct store_touch {
    struct store_op super;
    int n;
    struct {
        enum record_kind kind; /* RECORD_KEY, RECORD_ADMIN_TOKEN */
        int64_t row, at;
    } items[STORE_TOUCHES];
};

/* STORE_STANDING: what a caller may still spend, exactly as the next hold would see it; writes nothing. NOT_FOUND: no
 * such wallet. */
enum { STORE_STANDINGS = 48 }; /* budgets of key, customer and tenant together */

struct store_standing {
    struct store_op super;
    int64_t tenant_row, customer_row, key_row;
    bool own_wallet; /* the customer's wallet is charged, too */
    int64_t wallet;  /* out: available (posted - held + credit line) in the wallet of the caller's price: the customer's
                        own,  else the tenant's */
    int64_t available; /* out: the least of that and of what the budgets in the caller's price leave; may be below 0 */
    int n;             /* out */
    struct {
        int owner;              /* enum budget_owner_kind (daemon/billing/budget.h) */
        char window[24];        /* "month", "rolling:3600s" */
        int64_t amount;         /* nano */
        int64_t used;           /* charged in the window and held now */
        int64_t resets_at;      /* wall; 0: never. Rolling: when the oldest part leaves */
    } budgets[STORE_STANDINGS]; /* out: key, customer, tenant; in the order of their lists */
};

/* STORE_PRUNE: takes raw usage records away, from the oldest on, in whole days of UTC; what the ledger, the reports and
 * fsck need of them stays (migrations/0006). Three steps, for whoever archives them in between:
 *   LOOK   says when the oldest record in [from, before) was created that may go: its day's sums are folded.
 *   CLOSE  from now on no record created earlier than <before> changes: a refund of it is NOT_FOUND.
 *   TAKE   takes up to <limit> records of [from, before) away that are closed and numbered up to <last>, least numbers
 *          first: as long as one is left, the one with the greatest number is.
 * A pruned record is not found by STORE_USAGE and STORE_REFUND. */
enum { STORE_PRUNED = 500 };
enum prune_step { PRUNE_LOOK = 0, PRUNE_CLOSE, PRUNE_TAKE };

struct store_prune {
    struct store_op super;
    enum prune_step step;
    int64_t from, before; /* wall, rounded down to days; from 0: from the first */
    int64_t last;         /* TAKE: 0: all */
    int limit;            /* TAKE: at most STORE_PRUNED, which 0 means too */
    int n;                /* out, of TAKE: how many went; 0: none is left */
    int64_t oldest;       /* out, of LOOK: wall; 0: there is none */
    bool waits;           /* out, of LOOK: sums of some days before <before> are yet to be folded */
};

/* STORE_KEEP, a struct store_op alone: changes nothing, and so leaves no entry in the audit trail; what the actor's
 * render writes is kept under its Idempotency-Key. For answers that are worked out elsewhere. */

#endif
