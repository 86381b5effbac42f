/* ledger_load.c - filling the ledger with what the store has, before the first batch; anything that cannot be is
 * refused. */
#include "ledger_state.h"

static struct account *find_number(struct ledger *l, int64_t number)
{
    return ledger_find_account(l, account_kind_of(number), account_owner_of(number));
}

void ledger_load_account(struct ledger *l, int64_t number, int64_t posted, int64_t held)
{
    struct account *account = ledger_account(l, account_kind_of(number), account_owner_of(number));

    account->posted = posted;
    account->held = held;
    if (account_is_wallet(number))
        wallet_of(account)->base = posted;
}

bool ledger_load_lot(struct ledger *l, int64_t number, const struct lot *lot)
{
    struct account *account = find_number(l, number);

    if (account == NULL || account->wallet == NULL || lot->seq < 1 || lot->remaining < 1 ||
        lot->remaining > lot->amount || lot->held != 0 || (unsigned)lot->status > GRANT_WITHDRAWN ||
        (unsigned)lot->category > CREDIT_PROMOTIONAL || ledger_find_lot(l, lot->seq) != NULL ||
        __builtin_sub_overflow(account->wallet->base, lot->remaining, &account->wallet->base))
        return false;
    (void)ledger_add_lot(l, account, lot);
    return true;
}

bool ledger_load_hold(struct ledger *l, const struct hold *hold)
{
    struct hold *copy;

    if (hold->slot < 1 || hold->call_key < 0 || hold->item < 1 || (size_t)hold->item > l->item_rows.n ||
        hold->n_legs < 0 || hold->n_legs > STORE_LEGS || (hold->state != HOLD_OPEN && hold->state != HOLD_IN_DOUBT) ||
        hold->rule > IN_DOUBT_KEEP || ledger_find_hold(l, hold->id) != NULL)
        return false;
    copy = mem_alloc(sizeof(*copy));
    *copy = *hold;
    copy->touched = false;
    copy->aged = false;
    copy->older = copy->newer = NULL;
    memset(copy->pins, 0, sizeof(copy->pins));
    ledger_add_hold(l, copy);
    if (hold->slot >= l->next_slot)
        l->next_slot = hold->slot + 1;
    return true;
}

bool ledger_load_pin(struct ledger *l, struct id id, int leg, int64_t seq, int64_t amount)
{
    struct hold *hold = ledger_find_hold(l, id);
    struct account *account;
    struct lot *lot = NULL;

    if (hold == NULL || leg < 0 || leg >= hold->n_legs || amount < 1 || hold->pins[leg].n > STORE_LOTS)
        return false;
    account = ledger_find_account(l, wallet_kind(leg == 1), leg == 1 ? hold->customer_row : hold->tenant_row);
    if (account == NULL || account->wallet == NULL)
        return false;
    if (seq != 0) {
        lot = ledger_find_lot(l, seq);
        if (lot == NULL || lot->account != account || amount > lot_free(lot))
            return false;
        lot->held += amount;
    } else {
        account->wallet->base_held += amount;
    }
    pins_add(&hold->pins[leg], lot, amount);
    hold->split |= hold->pins[leg].n > 1;
    return true;
}

bool ledger_load_cell(struct ledger *l, const struct cell_row *row)
{
    return budgets_load_cell(l, row);
}

void ledger_load_chain(struct ledger *l, const struct chain *chain)
{
    l->chain = *chain;
}

void ledger_load_events(struct ledger *l, int64_t last_seq, int64_t last_created_at, bool stepped)
{
    l->stepped = stepped;
    l->next_seq = last_seq + 1;
    l->last_event = l->latest = last_created_at;
}

static bool legs_are_pinned(const struct hold *hold)
{
    for (int i = 0; i < hold->n_legs; i++) {
        __int128 sum = 0;

        for (int j = 0; j < hold->pins[i].n; j++)
            sum += pins_at(&hold->pins[i], j)->amount;
        if (sum != hold->legs[i])
            return false;
    }
    return true;
}

bool ledger_load_done(struct ledger *l)
{
    const struct account *account;
    const struct hold *hold;
    size_t pos = 0;

    while ((hold = table_next(&l->holds, &pos)) != NULL)
        if (!legs_are_pinned(hold))
            return false;
    pos = 0;
    while ((account = table_next(&l->accounts, &pos)) != NULL) {
        __int128 held = account->wallet != NULL ? account->wallet->base_held : 0;

        for (int i = 0; account->wallet != NULL && i < account->wallet->n; i++)
            held += account->wallet->lots[i]->held;
        if (account->wallet != NULL && held != account->held)
            return false;
    }
    return true;
}
