/* ledger.h - the writer's ledger in memory: balances, open holds and names of what is sold; every rule of money is
 * here.
 *
 * The ledger checks an operation against all invariants first and changes something only when all of them hold, so
 * nothing ever has to be taken back. What a batch changed is collected as *effects*, each account and roll-up once,
 * which an engine then writes. Between ledger_begin and ledger_settle the effects must reach the disk, or the process
 * must end: the memory runs ahead of it.
 *
 * Amounts are nano-dollars, rows the store's numbers. One thread: the writer's (store_open's before it starts). */
#ifndef TG_DB_LEDGER_H
#define TG_DB_LEDGER_H

#include "store.h"

/* ---- accounts ---- */

/* The low four bits of an account's number; never renumber. */
enum account_kind {
    ACCOUNT_TENANT_WALLET = 0,   /* owner: tenant; positive = the platform owes it */
    ACCOUNT_CUSTOMER_WALLET,     /* owner: customer with an own wallet */
    ACCOUNT_TENANT_REVENUE,      /* owner: tenant; wholesale charges to it */
    ACCOUNT_CUSTOMER_REVENUE,    /* owner: customer; its retail charges, the tenant's revenue */
    ACCOUNT_COST,                /* what upstream calls cost */
    ACCOUNT_PAYABLE,             /* owner: channel (0: not known); what is owed to it */
    ACCOUNT_PROMOTIONAL,         /* credit given away */
    ACCOUNT_EXTERNAL,            /* credit paid for: cash outside */
    ACCOUNT_LOSS,                /* worst-case cost of calls that nobody was charged for */
    ACCOUNT_TENANT_RECEIVABLE,   /* owner: tenant; overage its wallet could not bear */
    ACCOUNT_CUSTOMER_RECEIVABLE, /* owner: customer; the same */
    ACCOUNT_KINDS
};

enum { ACCOUNT_KIND_BITS = 4 };

static inline int64_t account_number(enum account_kind kind, int64_t owner)
{
    return owner << ACCOUNT_KIND_BITS | (int64_t)kind;
}

struct account {
    int64_t number;
    int64_t posted, held; /* held: positive in wallets, the same amount negative in the revenue account */
    int64_t credit_limit; /* wallets */
    bool open;            /* wallets: the owner exists and is not deleted */
    bool touched;         /* in effects.accounts */
};

/* ---- items ---- */

/* What can be sold: a model for an operation in a size and quality, interned. */
struct item {
    int64_t row; /* 1, 2, ... */
    enum image_operation operation;
    const char *model, *size, *quality; /* inside this allocation */
};

enum { LEDGER_ITEMS = 65536 }; /* past this many, new sizes and qualities are all called "other" */

/* ---- holds ---- */

enum hold_state { HOLD_OPEN = 0, HOLD_IN_DOUBT, HOLD_ENDED };

struct hold {
    struct id id;
    int64_t slot; /* its row; 0: not written yet */
    int64_t epoch;
    int64_t tenant_row, customer_row, key_row, channel_row;
    int64_t item;
    int64_t legs[STORE_LEGS];
    int64_t cost_max, wholesale_max, retail_max;
    int64_t version_cost, version_wholesale, version_retail;
    int64_t created_at;
    int64_t call_key; /* row of its idempotency key; 0: none */
    int n, n_legs;
    enum hold_state state;
    enum conf_in_doubt rule;
    bool stream, test;
    bool touched; /* in the batch's list */
};

/* The idempotency key of a hold that ended. */
struct ended_key {
    int64_t row;
    int64_t usage; /* seq of the record it left; 0: voided, so that the key is free again */
};

/* ---- effects ---- */

/* Never renumber: 0 and 1, the commonest, take no byte in a row. */
enum transfer_kind {
    TRANSFER_COST = 0,       /* cost -> payable */
    TRANSFER_CHARGE,         /* tenant wallet -> tenant revenue */
    TRANSFER_RETAIL_CHARGE,  /* customer wallet -> customer revenue */
    TRANSFER_CREDIT,         /* external or promotional -> wallet */
    TRANSFER_ADJUSTMENT,     /* wallet -> external or promotional */
    TRANSFER_LOSS,           /* loss -> payable */
    TRANSFER_OVERAGE,        /* tenant receivable -> tenant revenue */
    TRANSFER_RETAIL_OVERAGE, /* customer receivable -> customer revenue */
    TRANSFER_KINDS
};

enum { EVENT_PLACE_BITS = 3, EVENT_TRANSFERS = 1 << EVENT_PLACE_BITS }; /* a transfer's number: event seq * 8 + place */

struct transfer_row {
    int64_t number;
    enum transfer_kind kind;
    int64_t debit, credit; /* account numbers */
    int64_t amount;        /* > 0 */
};

struct usage_row {
    const struct usage_record *record; /* borrowed from the operation */
    int64_t item;
    bool own_wallet; /* the customer's wallet was charged beside the tenant's */
};

struct grant_row {
    int64_t seq, wallet, created_at;
    const struct store_credit *credit; /* borrowed */
};

enum { ROLLUP_TOKENS = PRICE_UNITS - PRICE_TEXT_INPUT };

struct rollup_key {
    int64_t hour; /* since 1970 */
    int64_t tenant_row, customer_row, key_row, item, channel_row;
};

struct rollup {
    struct rollup_key key;
    int64_t requests, images;
    int64_t tokens[ROLLUP_TOKENS]; /* from PRICE_TEXT_INPUT on */
    int64_t cost, wholesale, retail, refunded;
};

/* What a batch leaves behind. All arrays are the ledger's and valid until ledger_settle. */
struct effects {
    int64_t now;        /* wall, whole milliseconds */
    int64_t clock_step; /* the event number from which on the clock stood earlier; 0: none */
    size_t n_items, n_accounts, n_holds, n_dropped, n_usage, n_transfers, n_grants, n_rollups;
    struct item **items;       /* new */
    struct account **accounts; /* their new values */
    struct hold **holds;       /* to write into their slots, over whatever is there */
    int64_t *dropped;          /* slots to empty */
    struct usage_row *usage;
    struct transfer_row *transfers;
    struct grant_row *grants;
    struct rollup *rollups; /* to add */
};

/* ---- the ledger ---- */

struct ledger;

struct ledger *ledger_create(void);
void ledger_destroy(struct ledger *l); /* NULL-safe */

/* Loading, in this order; before the first batch. False: the value cannot be (items come by row, from 1 without a gap).
 */
bool ledger_load_item(struct ledger *l, int64_t row, const char *model, enum image_operation operation,
                      const char *size, const char *quality);
void ledger_load_account(struct ledger *l, int64_t number, int64_t posted, int64_t held);
bool ledger_load_hold(struct ledger *l, const struct hold *hold);
void ledger_load_events(struct ledger *l, int64_t last_seq, int64_t last_created_at);

void ledger_set_epoch(struct ledger *l, int64_t epoch);

/* A wallet's owner appeared, changed its credit line or went. */
void ledger_set_wallet(struct ledger *l, enum account_kind kind, int64_t owner, int64_t credit_limit, bool open);

/* Zeros for a wallet never used. */
struct store_balance ledger_balance(const struct ledger *l, enum account_kind kind, int64_t owner);

/* Starts a batch at wall time <now>. */
void ledger_begin(struct ledger *l, int64_t now);
int64_t ledger_now(const struct ledger *l);

/* Each applies one operation or refuses it, with op->super.err filled; returns its code. */
enum err_code ledger_hold(struct ledger *l, struct store_hold *op);
enum err_code ledger_capture(struct ledger *l, struct store_capture *op);
enum err_code ledger_void(struct ledger *l, struct store_void *op);
enum err_code ledger_credit(struct ledger *l, struct store_credit *op);

/* <usage>: storage for the record that release and charge leave; it must stay until ledger_settle. */
enum err_code ledger_doubt(struct ledger *l, struct store_doubt *op, struct usage_record *usage);

/* Closes the batch: what is to be written. */
const struct effects *ledger_effects(struct ledger *l);

/* The effects are durable: forget them and the ended holds. */
void ledger_settle(struct ledger *l);

/* Notes the row of an open hold's idempotency key: after ledger_hold, in the same batch. */
void ledger_set_key(struct ledger *l, struct id hold, int64_t row);

/* Whether the operation applied last ended a hold that has a key; tells it once. */
bool ledger_ended_key(struct ledger *l, struct ended_key *out);

/* Whether the outcome of this hold is unknown, and kept so. */
bool ledger_in_doubt(const struct ledger *l, struct id hold);

size_t ledger_open_holds(const struct ledger *l);

/* Whether a tenant, or with <customer> a customer, has open or in-doubt holds. */
bool ledger_has_holds(const struct ledger *l, bool customer, int64_t row);

/* Ids of up to <cap> open holds of earlier epochs that are not in doubt, into <ids>; returns how many. */
size_t ledger_dead_holds(const struct ledger *l, struct id *ids, size_t cap);

#endif
