/* ledger.h - the writer's ledger in memory: balances, open holds and names of what is sold; every rule of money is
 * here.
 *
 * The ledger checks an operation against all invariants first and changes something only when all of them hold, so
 * nothing ever has to be taken back. What a batch changed is collected as *effects*, each account and roll-up once,
 * which an engine then writes. Between ledger_begin and ledger_settle the effects must reach the disk, or the process
 * must end: the memory runs ahead of it.
 *
 * A batch may be written in more than one part: ledger_effects and ledger_settle, and on. Whatever must be looked up in
 * the store as it will be after the operations so far (refunds, new budgets) does so.
 *
 * Amounts are nano-dollars, rows the store's numbers. One thread: the writer's (store_open's before it starts). */
#ifndef TG_DB_LEDGER_H
#define TG_DB_LEDGER_H

#include "daemon/billing/budget.h"
#include "store.h"

/* ---- accounts ---- */

/* The low four bits of an account's number; never renumber. Where an account belongs to a customer, what it stands
 * against is the tenant, not the platform: its cash and its promotions. */
enum account_kind {
    ACCOUNT_TENANT_WALLET = 0,    /* owner: tenant; positive = the platform owes it */
    ACCOUNT_CUSTOMER_WALLET,      /* owner: customer with an own wallet */
    ACCOUNT_TENANT_REVENUE,       /* owner: tenant; wholesale charges to it */
    ACCOUNT_CUSTOMER_REVENUE,     /* owner: customer; its retail charges, the tenant's revenue */
    ACCOUNT_COST,                 /* owner: tenant; what its upstream calls cost */
    ACCOUNT_PAYABLE,              /* owner: channel (0: not known); what is owed to it */
    ACCOUNT_PROMOTIONAL,          /* owner: tenant; credit given away */
    ACCOUNT_EXTERNAL,             /* owner: tenant; credit paid for: cash outside */
    ACCOUNT_LOSS,                 /* owner: tenant; worst-case cost of calls that nobody was charged for */
    ACCOUNT_TENANT_RECEIVABLE,    /* owner: tenant; overage its wallet could not bear */
    ACCOUNT_CUSTOMER_RECEIVABLE,  /* owner: customer; the same */
    ACCOUNT_LAPSED,               /* owner: tenant; credit that expired unused */
    ACCOUNT_CUSTOMER_PROMOTIONAL, /* owner: customer; as the tenant's */
    ACCOUNT_CUSTOMER_EXTERNAL,
    ACCOUNT_CUSTOMER_LAPSED,
    ACCOUNT_KINDS
};

enum { ACCOUNT_KIND_BITS = 4 };

static inline int64_t account_number(enum account_kind kind, int64_t owner)
{
    return owner << ACCOUNT_KIND_BITS | (int64_t)kind;
}

static inline enum account_kind account_kind_of(int64_t number)
{
    return (enum account_kind)(number & ((1 << ACCOUNT_KIND_BITS) - 1));
}

static inline int64_t account_owner_of(int64_t number)
{
    return number >> ACCOUNT_KIND_BITS;
}

static inline bool account_is_wallet(int64_t number)
{
    return account_kind_of(number) <= ACCOUNT_CUSTOMER_WALLET;
}

struct account {
    int64_t number;
    int64_t posted, held;       /* held: positive in wallets, the same amount negative in the revenue account */
    int64_t credit_limit;       /* wallets */
    struct wallet_lots *wallet; /* wallets: their lots; NULL until there is one */
    bool open;                  /* wallets: the owner exists and is not deleted */
    bool touched;               /* in effects.accounts */
};

/* ---- lots ---- */

/* A grant and what remains of it. */
struct lot {
    int64_t seq; /* of the grant */
    struct account *account;
    int64_t amount, remaining;
    int64_t held;       /* kept by holds; part of remaining */
    int64_t expires_at; /* 0: never */
    int priority;
    enum credit_category category;
    enum grant_status status; /* lapsed and withdrawn: only what holds keep is left */
    size_t heap_place;        /* 1 + place among those that expire; 0: not there */
    bool touched;             /* in effects.lots */
    bool due;                 /* in the list of lots that something must leave */
};

/* What a hold keeps of a lot. */
struct pin {
    struct lot *lot; /* NULL: of the money of no lot */
    int64_t amount;  /* > 0 */
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

struct hold {
    struct id id;
    int64_t slot; /* its row; 0: not written yet */
    int64_t epoch;
    int64_t tenant_row, customer_row, key_row, channel_row;
    int64_t item;
    int64_t legs[STORE_LEGS];
    struct pins {
        int n;
        struct pin one;   /* n = 1 */
        struct pin *many; /* n > 1; owned */
    } pins[STORE_LEGS];   /* their sum is the leg */
    int64_t cost_max, wholesale_max, retail_max;
    int64_t version_cost, version_wholesale, version_retail;
    int64_t created_at;
    int64_t began;              /* monotonic, where it is aged */
    struct hold *older, *newer; /* among the open holds of this process */
    int64_t call_key;           /* row of its idempotency key; 0: none */
    int n, n_legs;
    enum hold_state state;
    enum conf_in_doubt rule;
    bool stream, test;
    bool split;   /* rows of hold_pins may stand in its slot */
    bool aged;    /* in the row of open holds of this process */
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
    TRANSFER_CREDIT,         /* external or promotional -> wallet, into the new lot */
    TRANSFER_ADJUSTMENT,     /* wallet -> external or promotional */
    TRANSFER_LOSS,           /* loss -> payable */
    TRANSFER_OVERAGE,        /* tenant receivable -> tenant revenue */
    TRANSFER_RETAIL_OVERAGE, /* customer receivable -> customer revenue */
    TRANSFER_SETTLEMENT,     /* wallet -> the same wallet: a lot pays what is owed on the credit line */
    TRANSFER_LAPSE,          /* wallet -> lapsed */
    TRANSFER_WITHDRAWAL,     /* wallet -> external or promotional */
    TRANSFER_REFUND,         /* revenue -> wallet */
    TRANSFER_OVERAGE_REFUND, /* revenue -> receivable */
    TRANSFER_KINDS
};

/* A transfer's number: event seq * 4096 + place. More than a charge of two wallets with all their lots needs. */
enum { EVENT_PLACE_BITS = 12, EVENT_TRANSFERS = 1 << EVENT_PLACE_BITS };
_Static_assert(EVENT_TRANSFERS >= STORE_LEGS * (STORE_LOTS + 2) + 1, "an event has room for its transfers");

struct transfer_row {
    int64_t number;
    enum transfer_kind kind;
    int64_t debit, credit; /* account numbers */
    int64_t amount;        /* > 0 */
    int64_t lot;           /* the grant that it takes from or gives to; 0: none */
};

/* An event that is neither a usage record nor a grant. Never renumber. */
enum entry_kind { ENTRY_ADJUSTMENT = 0, ENTRY_REFUND, ENTRY_LAPSE, ENTRY_WITHDRAWAL, ENTRY_SETTLEMENT, ENTRY_KINDS };

struct entry_row {
    int64_t seq;
    enum entry_kind kind;
    int64_t wallet;    /* account number */
    int64_t reference; /* refund: the usage record; lapse, withdrawal: the grant; else 0 */
    int64_t amount;    /* of its transfers in all, > 0 */
    const char *note;  /* borrowed from the operation; NULL: none */
};

/* A record of which more was refunded. */
struct refund_row {
    int64_t seq;      /* of the usage record */
    int64_t refunded; /* in all, now */
};

/* What was charged in a cell of a budget's window. */
struct budget_cell {
    int64_t begin, end; /* microseconds; begin < 0: the cell was never used */
    int64_t used;
    bool estimated; /* put here from the roll-ups when the budget was made */
    bool touched;   /* in effects.cells */
};

struct cell_row {
    int64_t owner, window; /* as budget_cells in the migrations */
    int place;
    struct budget_cell *cell;
};

/* Cells to forget: those of an owner's window that it has no more. */
struct cell_drop {
    int64_t owner, window;
};

enum { CHAIN_HASH = SECRET_DIGEST, CHAIN_EVENTS = 4096 }; /* bytes; events of a link */

struct chain {
    int64_t place;  /* of the link that is being made */
    int64_t events; /* in it so far */
    int64_t last;   /* the last transfer's number that is in <hash> */
    uint8_t hash[CHAIN_HASH];
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

/* ---- roll-ups: sums of usage records ---- */

enum { ROLLUP_TOKENS = PRICE_UNITS - PRICE_TEXT_INPUT };

/* What is summed, in the order of the columns. */
enum rollup_sum {
    SUM_REQUESTS = 0,
    SUM_IMAGES,
    SUM_TOKENS, /* from PRICE_TEXT_INPUT on */
    SUM_COST = SUM_TOKENS + ROLLUP_TOKENS,
    SUM_WHOLESALE,
    SUM_RETAIL,
    SUM_REFUNDED,
    ROLLUP_SUMS
};

#define ROLLUP_MINUTE (60 * INT64_C(1000000)) /* microseconds */
enum { ROLLUP_QUARTER = 15 };                 /* minutes; of a quarter of an hour a tenant's rows lie together */

struct rollup_key {
    int64_t minute; /* since 1970 */
    int64_t tenant_row, customer_row, key_row, item, channel_row;
};

struct rollup {
    struct rollup_key key;
    int64_t sums[ROLLUP_SUMS];
};

/* Sums stop at INT64_MAX: prices of a tenant's own making could push them further. Nothing that is added is negative,
 * so the order does not matter. */
static inline void rollup_add(int64_t *sum, int64_t more)
{
    if (__builtin_add_overflow(*sum, more, sum))
        *sum = INT64_MAX;
}

/* What a batch leaves behind. All arrays are the ledger's and valid until ledger_settle. */
struct effects {
    int64_t now;        /* wall, whole milliseconds */
    int64_t clock_step; /* the event number from which on the clock stood earlier; 0: none */
    size_t n_items, n_accounts, n_holds, n_dropped, n_usage, n_transfers, n_grants, n_lots, n_entries, n_refunds,
        n_rollups, n_cells, n_cell_drops, n_links, n_unpinned;
    struct item **items;       /* new */
    struct account **accounts; /* their new values */
    struct hold **holds;       /* to write into their slots, over whatever is there */
    int64_t *unpinned;         /* slots whose hold_pins go, before anything is written into slots */
    int64_t *dropped;          /* slots to empty */
    struct usage_row *usage;
    struct transfer_row *transfers;
    struct grant_row *grants;
    struct lot **lots; /* their new remaining and status; after the grants */
    struct entry_row *entries;
    struct refund_row *refunds;
    struct rollup *rollups;       /* to add */
    struct cell_drop *cell_drops; /* before the cells */
    struct cell_row *cells;       /* their new values */
    struct chain *links;          /* of the chain, made or moved on */
};

/* ---- the ledger ---- */

struct ledger;

struct ledger *ledger_create(void);
void ledger_destroy(struct ledger *l); /* NULL-safe */

/* Loading, in this order; before the first batch. False: the value cannot be (items come by row, from 1 without a gap;
 * a lot's wallet and a hold's lots must be there). ledger_load_done checks the whole: that every hold's pins are its
 * legs, and every lot bears its holds. */
bool ledger_load_item(struct ledger *l, int64_t row, const char *model, enum image_operation operation,
                      const char *size, const char *quality);
void ledger_load_account(struct ledger *l, int64_t number, int64_t posted, int64_t held);
bool ledger_load_lot(struct ledger *l, int64_t account, const struct lot *lot); /* copied; with something left */
bool ledger_load_hold(struct ledger *l, const struct hold *hold);               /* copied, without its pins */
bool ledger_load_pin(struct ledger *l, struct id hold, int leg, int64_t lot, int64_t amount); /* lot 0: of none */
bool ledger_load_cell(struct ledger *l, const struct cell_row *row);
void ledger_load_chain(struct ledger *l, const struct chain *chain);
void ledger_load_events(struct ledger *l, int64_t last_seq, int64_t last_created_at,
                        bool stepped); /* the clock went back */
bool ledger_load_done(struct ledger *l);

void ledger_set_epoch(struct ledger *l, int64_t epoch);

/* A wallet's owner appeared, changed its credit line or went. */
void ledger_set_wallet(struct ledger *l, enum account_kind kind, int64_t owner, int64_t credit_limit, bool open);

/* Whether a wallet's credit line could be <credit_limit>: what is drawn on it and held of it is within. */
bool ledger_within_credit(const struct ledger *l, enum account_kind kind, int64_t owner, int64_t credit_limit);

/* Zeros for a wallet never used. */
struct store_balance ledger_balance(const struct ledger *l, enum account_kind kind, int64_t owner);

/* ---- budgets (ledger_budget.c) ---- */

enum { BUDGET_OWNER_BITS = 2 };

struct budget_owner {
    enum budget_owner_kind kind;
    int64_t row, tenant_row; /* tenant_row: its own or its tenant's */
    bool retail;             /* it speaks in retail, else in wholesale */
};

static inline int64_t budget_owner_number(const struct budget_owner *owner)
{
    return owner->row << BUDGET_OWNER_BITS | (int64_t)owner->kind;
}

/* What was charged to <owner> in records created in [from, to), from the store as far as it is written. */
typedef enum err_code ledger_spent_fn(void *ctx, const struct budget_owner *owner, int64_t from, int64_t to,
                                      int64_t *out, struct err *err);
void ledger_set_source(struct ledger *l, ledger_spent_fn *spent, void *ctx);

/* Sets the budgets of an owner, whose days are those of <zone> (a reference is taken); none: forgets them. Windows that
 * are new or no longer the same begin with what the records say, so the batch's effects must be written before. Between
 * batches or in one. */
enum err_code ledger_set_budgets(struct ledger *l, const struct budget_owner *owner, const struct budget_list *list,
                                 struct zone *zone, struct err *err);

/* ---- a batch ---- */

/* Starts a batch at wall time <now>. UNAVAILABLE: the store could not be read after the clock had gone back. */
enum err_code ledger_begin(struct ledger *l, int64_t now, struct err *err);
int64_t ledger_now(const struct ledger *l);

/* Lets lots lapse whose time has come, and leave what holds have given back of lots that are gone. At a batch's begin
 * and after each operation: nothing else may find a lot that is gone with something free. */
void ledger_lapse(struct ledger *l);

/* Whether a lot is to lapse at <now>. */
bool ledger_lapse_due(const struct ledger *l, int64_t now);

/* Each applies one operation or refuses it, with op->super.err filled; returns its code. */
enum err_code ledger_hold(struct ledger *l, struct store_hold *op);
enum err_code ledger_capture(struct ledger *l, struct store_capture *op);
enum err_code ledger_void(struct ledger *l, struct store_void *op);
enum err_code ledger_credit(struct ledger *l, struct store_credit *op);
enum err_code ledger_resolve(struct ledger *l, struct store_resolve *op);

/* What the next hold would find: as STORE_STANDING has it. Windows may turn, as they do for a hold. */
enum err_code ledger_standing(struct ledger *l, struct store_standing *op);

/* <op->grant> is the grant as the store has it: all but <remaining>, where it is still in memory. */
enum err_code ledger_withdraw(struct ledger *l, struct store_withdraw *op);

/* A usage record with what it was charged and what was given back, as the store has it (the batch's effects being
 * written). */
struct charge {
    struct usage_record usage;
    int64_t item;                 /* of its roll-up */
    int n_legs;                   /* 2: from the customer's own wallet too */
    int64_t refunded[STORE_LEGS]; /* nano, so far, of each leg's wallet */
    int n;
    struct transfer_row transfers[EVENT_TRANSFERS]; /* of kinds CHARGE, OVERAGE and their retail kin, by number */
};

/* What <find> does when a lot that is not in memory is given something back: fills the grant. NOT_FOUND, UNAVAILABLE.
 */
typedef enum err_code ledger_grant_fn(void *ctx, int64_t seq, struct store_grant *out, struct err *err);
enum err_code ledger_refund(struct ledger *l, struct store_refund *op, const struct charge *charge,
                            ledger_grant_fn *find, void *ctx);

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

/* Whose hold it is; 0: there is no such hold. */
int64_t ledger_hold_tenant(const struct ledger *l, struct id hold);

/* Whether the outcome of this hold is unknown, and kept so. */
bool ledger_in_doubt(const struct ledger *l, struct id hold);

size_t ledger_open_holds(const struct ledger *l);

/* Whether a tenant, or with <customer> a customer, has open or in-doubt holds. */
bool ledger_has_holds(const struct ledger *l, bool customer, int64_t row);

/* Ids of up to <cap> open holds of this process that began before monotonic time <before>; returns how many. */
size_t ledger_overdue_holds(const struct ledger *l, int64_t before, struct id *ids, size_t cap);

/* Ids of all open holds of earlier epochs that are not in doubt, oldest first; *n how many. The caller frees it. */
struct id *ledger_dead_holds(const struct ledger *l, size_t *n);

#endif
