/* ledger_state.h - the ledger's inside, shared by its files: ledger.c (state and batch), ledger_plan.c (events),
 * ledger_item.c (what can be sold), ledger_wallet.c (lots), ledger_budget.c (budgets), ledger_apply.c (the life of
 * holds), ledger_credit.c (credit and refunds). */
#ifndef TG_DB_LEDGER_STATE_H
#define TG_DB_LEDGER_STATE_H

#include "daemon/base/table.h"
#include "ledger.h"

/* No single amount is above a thousand million dollars, so that sums of a few never overflow. */
#define LEDGER_AMOUNT_MAX INT64_C(1000000000000000000)

/* A growing array: struct list of the elements' bytes. */
struct list {
    void *at;
    size_t n, cap; /* elements */
};

/* The lots of a wallet, in the order in which they are used, and the money of no lot.
 * account.posted = base + sum of remaining; account.held = base_held + sum of held. */
struct wallet_lots {
    struct lot **lots;
    int n, cap;
    int64_t base, base_held;
};

/* The transfers of one event, collected before anything is changed. */
struct plan {
    struct plan_row {
        enum transfer_kind kind;
        struct account *debit, *credit;
        int64_t amount;
        struct lot *lot; /* NULL: of none */
    } rows[EVENT_TRANSFERS];
    int n;
    int64_t total;
};

struct ledger {
    struct table accounts;        /* struct account by number */
    struct table lots;            /* struct lot by seq */
    struct table holds;           /* struct hold by id: open and in doubt */
    struct table items;           /* struct item by what it says */
    struct table spenders;        /* struct spender by budget_owner_number: owners with budgets */
    struct list item_rows;        /* struct item *, by row - 1 */
    struct list expiry;           /* struct lot *: a heap of live lots that expire, the earliest first */
    struct hold *oldest, *newest; /* open holds of this process, by their begin */
    ledger_spent_fn *spent;
    void *spent_ctx;
    struct chain chain;
    int64_t epoch;
    int64_t next_seq;   /* of the next event */
    int64_t last_event; /* created_at of the last event */
    int64_t first_seq;  /* of the batch's events */
    bool back;          /* they lie before the last one, and the store does not know yet */
    bool stepped;       /* the clock has gone back, once at least: records may lie ahead of now */
    int64_t latest;     /* the greatest time of a batch since the clock last went back */
    int64_t next_slot;
    struct list free_slots;     /* int64_t */
    struct ended_key ended_key; /* row 0: none */
    /* the batch */
    struct effects effects;
    struct plan plan; /* of the operation that is being applied */
    bool chained;     /* the chain went on */
    struct list new_items, touched_accounts, touched_holds, written_holds, dropped, usage, transfers, grants,
        touched_lots, entries, refunds, rollups, cells, cell_drops, links, unpinned;
    struct list due;           /* struct lot *: gone lots with something left that no hold keeps */
    struct table rollup_index; /* 1 + place in rollups, by key */
};

void *list_add(struct list *list, size_t size); /* a zeroed new element */
void list_dispose(struct list *list);

/* ---- ledger.c ---- */

struct account *ledger_account(struct ledger *l, enum account_kind kind, int64_t owner); /* made when absent */
struct account *ledger_find_account(const struct ledger *l, enum account_kind kind, int64_t owner);
void ledger_touch_account(struct ledger *l, struct account *account);

struct hold *ledger_find_hold(const struct ledger *l, struct id id);
void ledger_add_hold(struct ledger *l, struct hold *hold); /* takes over the allocation */
void ledger_touch_hold(struct ledger *l, struct hold *hold);
void ledger_age_hold(struct ledger *l, struct hold *hold);   /* it begins now: last in the row of open holds */
void ledger_forget_age(struct ledger *l, struct hold *hold); /* out of that row, if it is in it */
/* Out of the table; freed by ledger_settle. <usage>: the record it left; 0: none. */
void ledger_end_hold(struct ledger *l, struct hold *hold, int64_t usage);

/* What a usage record, or <refunded> alone of one, adds to its roll-up. */
void ledger_add_rollup(struct ledger *l, const struct usage_record *usage, int64_t item);
void ledger_add_refund(struct ledger *l, const struct usage_record *usage, int64_t item, int64_t refunded);

/* ---- ledger_plan.c ---- */

/* The next event's number. */
int64_t ledger_next_event(struct ledger *l);

/* Plans: made with ledger_plan, one at a time; nothing changes before ledger_apply_plan. */
struct plan *ledger_plan(struct ledger *l);
void plan_add(struct plan *plan, enum transfer_kind kind, struct account *debit, struct account *credit, int64_t amount,
              struct lot *lot);
bool plan_fits(const struct plan *plan); /* every account can take it without overflow, whatever the order */
void ledger_apply_plan(struct ledger *l, int64_t seq);

/* ---- ledger_item.c ---- */

int64_t ledger_item(struct ledger *l, const struct store_call *call);
const struct item *ledger_item_at(const struct ledger *l, int64_t row);

/* ---- ledger_wallet.c ---- */

static inline enum account_kind wallet_kind(bool customer)
{
    return customer ? ACCOUNT_CUSTOMER_WALLET : ACCOUNT_TENANT_WALLET;
}

struct wallet_lots *wallet_of(struct account *account); /* made when absent */
void wallet_destroy(struct wallet_lots *w);             /* NULL-safe; not its lots */
__int128 wallet_available(const struct account *account);
bool wallet_within_credit(const struct account *account, int64_t credit_limit); /* the money of no lot alone */

struct lot *ledger_find_lot(const struct ledger *l, int64_t seq);
struct lot *ledger_add_lot(struct ledger *l, struct account *account, const struct lot *lot); /* a copy, in its place */
void ledger_touch_lot(struct ledger *l, struct lot *lot);
void ledger_drop_lot(struct ledger *l, struct lot *lot); /* out of its wallet and every table; freed */
int wallet_lots(const struct account *account);          /* with something left */
int64_t lot_free(const struct lot *lot);                 /* what no hold keeps */
struct lot *ledger_next_expiry(const struct ledger *l);  /* NULL: none */
void ledger_forget_expiry(struct ledger *l, struct lot *lot);
void ledger_lot_due(struct ledger *l, struct lot *lot); /* notes a gone lot that something must leave */

/* Takes <amount> out of what is free, which suffices, as pins; or gives pins back (and frees them). */
void wallet_take_pins(struct account *account, int64_t amount, struct pins *pins);
void ledger_give_pins(struct ledger *l, struct account *account, struct pins *pins);
void pins_dispose(struct pins *pins);
void pins_add(struct pins *pins, struct lot *lot, int64_t amount);
const struct pin *pins_at(const struct pins *pins, int i);

/* Plans to take up to <amount> out of a wallet for <kind> and into <credit>: the pins' lots, then live lots in their
 * order, then the money of no lot down to the credit line. <pins> may be NULL. Returns how much could be taken. */
int64_t wallet_plan_take(struct account *account, const struct pins *pins, int64_t amount, enum transfer_kind kind,
                         struct account *credit, struct plan *plan);

/* ---- ledger_budget.c ---- */

/* INSUFFICIENT_QUOTA naming the budget that cannot bear a hold. */
enum err_code budgets_check(struct ledger *l, struct store_hold *op);
/* Lets the windows of a call's budgets be those of now; before anything is charged. */
enum err_code budgets_turn(struct ledger *l, const struct store_call *call, struct err *err);
/* An open hold's worst case begins (sign 1) or ceases (-1) to count. */
void budgets_keep(struct ledger *l, const struct hold *hold, int sign);
void budgets_charge(struct ledger *l, const struct usage_record *usage);
/* The clock went back to <now>: windows that lie in the future begin anew from the records. */
enum err_code budgets_turn_back(struct ledger *l, int64_t now, struct err *err);
bool budgets_load_cell(struct ledger *l, const struct cell_row *row);
void budgets_destroy(struct ledger *l);

#endif
