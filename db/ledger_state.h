/* ledger_state.h - the ledger's inside, shared by ledger.c (state) and ledger_apply.c (rules). */
#ifndef TG_DB_LEDGER_STATE_H
#define TG_DB_LEDGER_STATE_H

#include "daemon/base/table.h"
#include "ledger.h"

/* A growing array: struct list of the elements' bytes. */
struct list {
    void *at;
    size_t n, cap; /* elements */
};

struct ledger {
    struct table accounts; /* struct account by number */
    struct table holds;    /* struct hold by id: open and in doubt */
    struct table items;    /* struct item by what it says */
    struct list item_rows; /* struct item *, by row - 1 */
    int64_t epoch;
    int64_t next_seq;   /* of the next event */
    int64_t last_event; /* created_at of the last event */
    int64_t next_slot;
    struct list free_slots;     /* int64_t */
    struct ended_key ended_key; /* row 0: none */
    /* the batch */
    struct effects effects;
    struct list new_items, touched_accounts, touched_holds, written_holds, dropped, usage, transfers, grants, rollups;
    struct table rollup_index; /* 1 + place in rollups, by key */
};

void *list_add(struct list *list, size_t size); /* a zeroed new element */

struct account *ledger_account(struct ledger *l, enum account_kind kind, int64_t owner); /* made when absent */
struct account *ledger_find_account(const struct ledger *l, enum account_kind kind, int64_t owner);
void ledger_touch_account(struct ledger *l, struct account *account);

struct hold *ledger_find_hold(const struct ledger *l, struct id id);
void ledger_add_hold(struct ledger *l, struct hold *hold); /* takes over the allocation */
void ledger_touch_hold(struct ledger *l, struct hold *hold);
/* Out of the table; freed by ledger_settle. <usage>: the record it left; 0: none. */
void ledger_end_hold(struct ledger *l, struct hold *hold, int64_t usage);

int64_t ledger_item(struct ledger *l, const struct store_call *call);
const struct item *ledger_item_at(const struct ledger *l, int64_t row);

void ledger_add_rollup(struct ledger *l, const struct usage_record *usage, int64_t item);

#endif
