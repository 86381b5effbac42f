/* ledger_plan.c - events: their transfers are planned first and then applied, all or none.
 *
 * Invariants
 *  (1) Nothing changes before ledger_apply_plan, and then nothing can fail.
 *  (2) The transfers of an event are numbered without a gap, in the order of the plan; every event goes into the chain.
 */
#include "chain.h"
#include "ledger_state.h"

int64_t ledger_next_event(struct ledger *l)
{
    return l->next_seq++;
}

struct plan *ledger_plan(struct ledger *l)
{
    l->plan.n = 0;
    l->plan.total = 0;
    return &l->plan;
}

void plan_add(struct plan *plan, enum transfer_kind kind, struct account *debit, struct account *credit, int64_t amount,
              struct lot *lot)
{
    if (amount == 0)
        return;
    TG_ASSERT(plan->n < EVENT_TRANSFERS && amount > 0);
    plan->rows[plan->n++] = (struct plan_row){kind, debit, credit, amount, lot};
    plan->total += amount;
}

bool plan_fits(const struct plan *plan)
{
    int64_t ignored;

    for (int i = 0; i < plan->n; i++)
        if (__builtin_sub_overflow(plan->rows[i].debit->posted, plan->total, &ignored) ||
            __builtin_add_overflow(plan->rows[i].credit->posted, plan->total, &ignored))
            return false;
    return true;
}

/* Within a wallet: money goes into the lot or into that of none. */
static void move_in_wallet(struct ledger *l, struct account *account, struct lot *lot, int64_t amount)
{
    if (!account_is_wallet(account->number))
        return;
    if (lot == NULL) {
        wallet_of(account)->base += amount;
        return;
    }
    TG_ASSERT(lot->account == account && lot->remaining + amount >= lot->held &&
              lot->remaining + amount <= lot->amount);
    lot->remaining += amount;
    ledger_touch_lot(l, lot);
}

static void apply_row(struct ledger *l, const struct plan_row *row)
{
    bool into = row->kind == TRANSFER_CREDIT || row->kind == TRANSFER_REFUND; /* the lot is given to, else taken from */

    row->debit->posted -= row->amount;
    row->credit->posted += row->amount;
    move_in_wallet(l, row->debit, into ? NULL : row->lot, -row->amount);
    move_in_wallet(l, row->credit, into ? row->lot : NULL, row->amount);
    if (into && row->lot != NULL)
        ledger_lot_due(l, row->lot); /* it may have lapsed or been withdrawn */
    ledger_touch_account(l, row->debit);
    ledger_touch_account(l, row->credit);
}

static void chain_event(struct ledger *l, const struct transfer_row *transfers, size_t n)
{
    struct chain *c = &l->chain;

    if (c->events == CHAIN_EVENTS) { /* the link is whole: it stays as it is */
        if (l->chained)
            *(struct chain *)list_add(&l->links, sizeof(*c)) = *c;
        c->place++;
        c->events = 0;
    }
    chain_step(c->hash, transfers, n);
    c->last = transfers[n - 1].number;
    c->events++;
    l->chained = true;
}

void ledger_apply_plan(struct ledger *l, int64_t seq)
{
    const struct plan *plan = &l->plan;
    size_t first = l->transfers.n;

    for (int i = 0; i < plan->n; i++) {
        const struct plan_row *row = &plan->rows[i];
        struct transfer_row *transfer = list_add(&l->transfers, sizeof(*transfer));

        apply_row(l, row);
        *transfer =
            (struct transfer_row){seq << EVENT_PLACE_BITS | i, row->kind,   row->debit->number,
                                  row->credit->number,         row->amount, row->lot != NULL ? row->lot->seq : 0};
    }
    if (plan->n > 0)
        chain_event(l, (const struct transfer_row *)l->transfers.at + first, (size_t)plan->n);
}
