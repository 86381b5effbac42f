/* lib_model.h - the store's money as a few plain arrays: the oracle of the random test.
 *
 * It knows what every operation must answer, which transfers it must leave and what every balance, lot, budget and
 * record must be then, and nothing of batches, files or threads. Written from the contract (db/store.h), not from the
 * ledger's code: whatever can be worked out from the records or the open holds is worked out anew each time. What the
 * contract leaves open is said beside it in lib_model.c.
 *
 * Parties are tenants and customers, each with one API key; those with a wallet are its owner. One thread. */
#ifndef TG_TESTS_LIB_MODEL_H
#define TG_TESTS_LIB_MODEL_H

#include "db/ledger.h"

/* Rare branches that a run must reach: ORACLE_BRANCH(name, what happened). */
#define ORACLE_BRANCHES                                                                                                \
    ORACLE_BRANCH(NO_FUNDS_TENANT, "hold refused: the tenant's wallet")                                                \
    ORACLE_BRANCH(NO_FUNDS_CUSTOMER, "hold refused: the customer's wallet")                                            \
    ORACLE_BRANCH(BUDGET_KEY, "hold refused: a budget of the key")                                                     \
    ORACLE_BRANCH(BUDGET_CUSTOMER, "hold refused: a budget of the customer")                                           \
    ORACLE_BRANCH(BUDGET_TENANT, "hold refused: a budget of the tenant")                                               \
    ORACLE_BRANCH(BUDGET_HELD, "hold refused: a budget that has room but for what is held")                            \
    ORACLE_BRANCH(TURN_DAY, "a day's budget turned")                                                                   \
    ORACLE_BRANCH(TURN_WEEK, "a week's budget turned")                                                                 \
    ORACLE_BRANCH(TURN_MONTH, "a month's budget turned")                                                               \
    ORACLE_BRANCH(TURN_ROLLING, "something left a rolling window")                                                     \
    ORACLE_BRANCH(LIFETIME, "hold refused: a lifetime's budget")                                                       \
    ORACLE_BRANCH(LAPSE, "a lot lapsed")                                                                               \
    ORACLE_BRANCH(LAPSE_HELD, "a lot lapsed while holds kept some of it")                                              \
    ORACLE_BRANCH(LAPSE_SETTLES, "a lot that lapsed paid what was owed first")                                         \
    ORACLE_BRANCH(LAPSE_LATE, "what a hold gave back of a lapsed lot left")                                            \
    ORACLE_BRANCH(WITHDRAW_HELD, "a lot was withdrawn while holds kept some of it")                                    \
    ORACLE_BRANCH(WITHDRAW_LATE, "what a hold gave back of a withdrawn lot left")                                      \
    ORACLE_BRANCH(WITHDRAW_EMPTY, "a lot that is used up was withdrawn")                                               \
    ORACLE_BRANCH(WITHDRAW_GONE, "withdrawal refused: gone already")                                                   \
    ORACLE_BRANCH(CHARGE_LAPSED, "a charge took what its hold kept of a lapsed lot")                                   \
    ORACLE_BRANCH(REFUND, "a refund")                                                                                  \
    ORACLE_BRANCH(REFUND_LAPSED, "a refund to a lot that is gone")                                                     \
    ORACLE_BRANCH(REFUND_USED_UP, "a refund to a lot that was used up")                                                \
    ORACLE_BRANCH(REFUND_NO_ROOM, "a refund to a lot that has no place in its wallet any more")                        \
    ORACLE_BRANCH(REFUND_BEYOND, "refund refused: more than the charge")                                               \
    ORACLE_BRANCH(REFUND_NOTHING, "refund refused: nothing is left")                                                   \
    ORACLE_BRANCH(REFUND_OVERAGE, "a refund of overage")                                                               \
    ORACLE_BRANCH(REFUND_TWO_LEGS, "a refund to two wallets")                                                          \
    ORACLE_BRANCH(REFUND_RETAIL_ONLY, "a refund to the customer's wallet alone")                                       \
    ORACLE_BRANCH(REFUND_SPLIT, "a refund that begins inside a transfer")                                              \
    ORACLE_BRANCH(OVERAGE, "a charge above its hold")                                                                  \
    ORACLE_BRANCH(RECEIVABLE, "a charge above what the wallet bears")                                                  \
    ORACLE_BRANCH(CHARGE_LOTS, "a charge from several lots")                                                           \
    ORACLE_BRANCH(CHARGE_LINE, "a charge on the credit line")                                                          \
    ORACLE_BRANCH(HOLD_LOTS_AND_BASE, "a hold on several lots and the money of no lot")                                \
    ORACLE_BRANCH(SETTLEMENT, "a grant paid what was owed")                                                            \
    ORACLE_BRANCH(LOTS_FULL, "grant refused: too many lots")                                                           \
    ORACLE_BRANCH(ADJUSTMENT, "an adjustment")                                                                         \
    ORACLE_BRANCH(ADJUST_REFUSED, "adjustment refused")                                                                \
    ORACLE_BRANCH(EXPIRED_GRANT, "grant refused: expired already")                                                     \
    ORACLE_BRANCH(LINE_REFUSED, "credit line refused")                                                                 \
    ORACLE_BRANCH(RESOLVE_CAPTURE, "resolved: captured in part")                                                       \
    ORACLE_BRANCH(RESOLVE_VOID, "resolved: void")                                                                      \
    ORACLE_BRANCH(RESOLVE_OPEN, "resolve refused: its call is under way")                                              \
    ORACLE_BRANCH(RESOLVE_BEYOND, "resolve refused: more than the hold")                                               \
    ORACLE_BRANCH(DOUBT_RELEASE, "in doubt: released")                                                                 \
    ORACLE_BRANCH(DOUBT_CHARGE, "in doubt: charged")                                                                   \
    ORACLE_BRANCH(DOUBT_KEEP, "in doubt: kept")                                                                        \
    ORACLE_BRANCH(KEPT_CAPTURED, "a hold kept in doubt was captured")                                                  \
    ORACLE_BRANCH(TWICE, "a hold that ended already")                                                                  \
    ORACLE_BRANCH(KEY_REUSED, "idempotency key: reused")                                                               \
    ORACLE_BRANCH(KEY_RUNNING, "idempotency key: running")                                                             \
    ORACLE_BRANCH(KEY_DONE, "idempotency key: done")                                                                   \
    ORACLE_BRANCH(KEY_FORGOTTEN, "idempotency key: forgotten")                                                         \
    ORACLE_BRANCH(KEY_FREED, "idempotency key: free again")                                                            \
    ORACLE_BRANCH(DEAD_RELEASE, "a dead hold was released")                                                            \
    ORACLE_BRANCH(DEAD_CHARGE, "a dead hold was charged")                                                              \
    ORACLE_BRANCH(DEAD_KEEP, "a dead hold was kept")                                                                   \
    ORACLE_BRANCH(OVERDUE, "a hold was overdue")                                                                       \
    ORACLE_BRANCH(ZONE_CHANGED, "a tenant's time zone changed")                                                        \
    ORACLE_BRANCH(CLOCK_BACK, "the clock fell back")

enum oracle_branch {
#define ORACLE_BRANCH(name, what) REACHED_##name,
    ORACLE_BRANCHES
#undef ORACLE_BRANCH
        REACHED_COUNT
};

const char *oracle_branch_text(int branch);

enum { ORACLE_PARTIES = 16, ORACLE_TEXT = 8, ORACLE_CHART = 9 };

/* ---- what there is ---- */

struct oracle_lot {
    int64_t seq;
    int party; /* whose wallet */
    int64_t amount, remaining, held, expires_at, created_at;
    int priority;
    enum credit_category category;
    enum grant_status status;
};

enum { ORACLE_BASE = -1, ORACLE_OVERAGE = -2 }; /* instead of a lot: the money of no lot; owed beyond the wallet */

struct oracle_part {
    int lot; /* place in lots, or one of the above */
    int64_t amount;
};

struct oracle_parts {
    int n;
    struct oracle_part *at;
};

struct oracle_hold {
    struct id id;
    bool doubtful, test;
    int tenant, customer, key; /* parties; customer -1: none; key: whose API key */
    int n_legs;
    int64_t legs[STORE_LEGS], cost_max, wholesale_max, retail_max;
    struct oracle_parts pins[STORE_LEGS];
    enum conf_in_doubt rule;
    int64_t channel;
    int call_key; /* place in keys; -1: none */
};

struct oracle_usage {
    int64_t seq, created_at;
    struct id request;
    int tenant, customer, key, n_legs;
    int64_t cost, wholesale, retail, refunded;
    unsigned flags;
    int64_t given_back[STORE_LEGS]; /* to each leg's wallet */
    struct oracle_parts parts[STORE_LEGS];
};

/* An Idempotency-Key and what it was used for last. */
struct oracle_key {
    int64_t api_key;
    char text[ORACLE_TEXT];
    uint8_t fingerprint;
    struct id request;  /* of its hold; zero: free */
    int64_t usage;      /* seq of the record; 0: not ended */
    int64_t ended;      /* when */
    struct id usage_id; /* as told to a repeated call */
};

struct oracle_spent {
    int64_t created_at, amount;
};

/* Who may have budgets: a tenant or customer, or its key. */
struct oracle_spender {
    struct budget_list budgets;
    int64_t looked_at[BUDGET_LIST], seen[BUDGET_LIST]; /* when a hold looked last, and what was used then */
    int n_spent;
    struct oracle_spent *spent; /* what its records say */
};

struct oracle_account {
    int64_t number, posted, held;
};

enum { ORACLE_OWNER = 0, ORACLE_KEY, ORACLE_SPENDERS };

struct oracle_party {
    bool customer, wallet;
    int tenant;       /* itself or its tenant */
    int64_t row, key; /* the store's */
    struct zone *zone;
    int64_t credit_limit, base_held;
    int lots[STORE_LOTS]; /* with something left, in the order in which they are used */
    int n_lots;
    struct oracle_spender spenders[ORACLE_SPENDERS];
};

struct oracle_entry {
    enum entry_kind kind;
    int64_t wallet, reference, amount;
};

struct oracle {
    int64_t now, keep; /* now: whole milliseconds */
    int64_t next_seq, last_event;
    int n_parties, n_lots, n_holds, n_usage, n_keys, n_accounts, n_transfers, n_entries;
    struct oracle_party parties[ORACLE_PARTIES];
    struct oracle_account accounts[ORACLE_PARTIES * ORACLE_CHART];
    struct oracle_lot *lots;
    struct oracle_hold *holds;      /* open and in doubt, oldest first */
    struct oracle_usage *usage;     /* by seq */
    struct oracle_key *keys;        /* each text of each API key once */
    struct transfer_row *transfers; /* since oracle_forget_transfers; numbers are the event's alone */
    struct oracle_entry *entries;   /* the same */
    int64_t *reached;               /* REACHED_COUNT; the caller's */
};

/* What an operation must answer. */
struct oracle_answer {
    enum err_code code;
    int64_t seq;     /* of the record or grant */
    int64_t charged; /* or refunded in this refund */
    int64_t wholesale, retail, cost, refunded;
    unsigned flags;
    enum conf_in_doubt applied;
    struct id request, usage;               /* of the call that had the idempotency key before */
    struct oracle_lot lot;                  /* a withdrawn grant as it stands now */
    const char *owner;                      /* of the budget that refused: "key", "customer", "tenant"; or NULL */
    int64_t window, resets_at, credit_line; /* its window */
};

struct oracle *oracle_create(int64_t *reached);
void oracle_destroy(struct oracle *m);

/* The next party; returns its place. <tenant> -1: a tenant. */
int oracle_add_party(struct oracle *m, int tenant, bool wallet, int64_t row, int64_t key);
/* NULL zone: UTC stays. Takes the reference. */
void oracle_set_zone(struct oracle *m, int party, struct zone *zone);

/* A batch begins at this wall time: lots lapse. Before any operation whenever the clock was set. */
void oracle_begin(struct oracle *m, int64_t wall);

void oracle_hold(struct oracle *m, const struct store_hold *op, struct oracle_answer *a);
void oracle_capture(struct oracle *m, const struct store_capture *op, struct oracle_answer *a);
void oracle_void(struct oracle *m, const struct store_void *op, struct oracle_answer *a);
void oracle_doubt(struct oracle *m, const struct store_doubt *op, struct oracle_answer *a);
void oracle_resolve(struct oracle *m, const struct store_resolve *op, struct oracle_answer *a);
void oracle_credit(struct oracle *m, const struct store_credit *op, struct oracle_answer *a);
void oracle_withdraw(struct oracle *m, const struct store_withdraw *op, struct oracle_answer *a);
void oracle_refund(struct oracle *m, const struct store_refund *op, struct oracle_answer *a);

/* A tenant's or customer's record is replaced: its credit line and budgets. */
enum err_code oracle_put_owner(struct oracle *m, int party, int64_t credit_limit, const struct budget_list *budgets);
void oracle_put_key(struct oracle *m, int party, const struct budget_list *budgets);

/* A new process, or a deadline, ends an open hold by its rule. In which order is the store's. */
void oracle_end_by_rule(struct oracle *m, struct id hold, bool dead);

/* ---- looking ---- */

struct oracle_hold *oracle_find_hold(struct oracle *m, struct id id);                /* open or in doubt, or NULL */
struct oracle_usage *oracle_find_usage(struct oracle *m, struct id request);         /* or NULL */
int64_t oracle_wallet_number(const struct oracle *m, int party);                     /* of its account */
struct oracle_account *oracle_account(struct oracle *m, int64_t number);             /* zeros when it is new */
int64_t oracle_used(const struct oracle *m, int party, int spender, int64_t window); /* of a window now */
/* The most that a hold of this party's key may count for its budgets, at most <top>; negative: not even nothing. */
int64_t oracle_room(const struct oracle *m, int party, int64_t top);
struct budget_owner oracle_owner(const struct oracle *m, int party, int spender);

void oracle_forget_transfers(struct oracle *m);

#endif
