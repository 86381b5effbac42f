/* ledger_credit.c - the rules of money, second half: what comes into wallets and leaves them without a call.
 *
 *   credit      other side -> wallet, into a new lot; what is owed on the credit line is settled from it at once
 *   adjustment  wallet -> other side, lots in their order
 *   lapse       at expires_at: the lot settles what is owed, the rest of what no hold keeps -> LAPSED
 *   withdrawal  what no hold keeps -> other side
 *   refund      revenue -> wallet, into the lots that had paid; what was owed beyond the wallet is forgiven first
 *
 * Role: as ledger_apply.c. Each movement is an event of its own; in each wallet that it is about.
 * Invariants: those of ledger_apply.c and ledger_wallet.c, and
 *  (1) A lot that has lapsed or was withdrawn has nothing left but what holds keep, whenever an operation begins.
 *  (2) The refunds of a record sum up to no more than its charge, in each of its wallets. */
#include "ledger_state.h"

/* ---- events ---- */

static void add_entry(struct ledger *l, enum entry_kind kind, const struct account *wallet, int64_t reference,
                      const char *note)
{
    struct entry_row *row = list_add(&l->entries, sizeof(*row));

    TG_ASSERT(l->plan.n > 0);
    *row = (struct entry_row){ledger_next_event(l), kind, wallet->number, reference, l->plan.total, note};
    ledger_apply_plan(l, row->seq);
}

static bool is_customer(const struct account *wallet)
{
    return account_kind_of(wallet->number) == ACCOUNT_CUSTOMER_WALLET;
}

/* Where the credit of a wallet came from. */
static struct account *source_of(struct ledger *l, const struct account *wallet, enum credit_category category)
{
    enum account_kind kind = category == CREDIT_PROMOTIONAL
                                 ? (is_customer(wallet) ? ACCOUNT_CUSTOMER_PROMOTIONAL : ACCOUNT_PROMOTIONAL)
                                 : (is_customer(wallet) ? ACCOUNT_CUSTOMER_EXTERNAL : ACCOUNT_EXTERNAL);

    return ledger_account(l, kind, account_owner_of(wallet->number));
}

/* ---- credit ---- */

/* A lot pays what is owed on the credit line, as far as it can. */
static void settle_debt(struct ledger *l, struct lot *lot)
{
    int64_t owed = -wallet_of(lot->account)->base, part = lot_free(lot);

    if (owed < part)
        part = owed;
    if (part <= 0)
        return;
    plan_add(ledger_plan(l), TRANSFER_SETTLEMENT, lot->account, lot->account, part, lot);
    add_entry(l, ENTRY_SETTLEMENT, lot->account, 0, NULL);
}

static enum err_code overflow(struct err *err)
{
    return err_set(err, ERR_INVALID_VALUE, "amount",
                   "Invalid value for 'amount': an account's balance would overflow.");
}

static enum err_code grant(struct ledger *l, struct store_credit *op, struct account *wallet)
{
    struct plan *plan = ledger_plan(l);
    struct err *err = &op->super.err;
    struct lot lot = {
        .amount = op->amount, .expires_at = op->expires_at, .priority = op->priority, .category = op->category};
    struct grant_row *row;
    struct lot *made;

    if (op->expires_at != 0 && op->expires_at <= l->effects.now)
        return err_set(err, ERR_INVALID_VALUE, "expires_at",
                       "Invalid value for 'expires_at': expected a time in the future.");
    if (op->priority < 0 || op->priority > 100)
        return err_set(err, ERR_INVALID_VALUE, "priority", "Invalid value for 'priority': expected 0 to 100.");
    if (wallet_lots(wallet) >= STORE_LOTS)
        return err_set(err, ERR_CONFLICT, NULL,
                       "The wallet has %d grants that are not used up: more cannot be told apart. Withdraw some first.",
                       STORE_LOTS);
    plan_add(plan, TRANSFER_CREDIT, source_of(l, wallet, op->category), wallet, op->amount, NULL);
    if (!plan_fits(plan))
        return overflow(err);

    row = list_add(&l->grants, sizeof(*row));
    *row = (struct grant_row){ledger_next_event(l), wallet->number, l->effects.now, op};
    lot.seq = row->seq;
    op->created_at = row->created_at;
    op->grant = id_from_seq(row->created_at, row->seq);
    made = ledger_add_lot(l, wallet, &lot);
    plan->rows[0].lot = made;
    ledger_apply_plan(l, lot.seq);
    settle_debt(l, made);
    return ERR_OK;
}

static enum err_code adjust(struct ledger *l, struct store_credit *op, struct account *wallet)
{
    struct plan *plan = ledger_plan(l);
    int64_t taken;

    if (wallet_available(wallet) < -op->amount)
        return err_set(&op->super.err, ERR_INSUFFICIENT_QUOTA, "amount",
                       "The adjustment is more than the wallet has available.");
    taken = wallet_plan_take(wallet, NULL, -op->amount, TRANSFER_ADJUSTMENT, source_of(l, wallet, op->category), plan);
    if (taken != -op->amount) /* the credit line bears only what is drawn on it */
        return err_set(&op->super.err, ERR_INSUFFICIENT_QUOTA, "amount",
                       "The adjustment is more than the wallet has available.");
    if (!plan_fits(plan))
        return overflow(&op->super.err);
    add_entry(l, ENTRY_ADJUSTMENT, wallet, 0, op->note);
    op->created_at = l->effects.now;
    op->grant = id_from_seq(op->created_at, l->next_seq - 1);
    return ERR_OK;
}

enum err_code ledger_credit(struct ledger *l, struct store_credit *op)
{
    bool customer = op->customer_row != 0;
    struct account *wallet =
        ledger_find_account(l, wallet_kind(customer), customer ? op->customer_row : op->tenant_row);

    if (op->amount == 0 || op->amount > LEDGER_AMOUNT_MAX || op->amount < -LEDGER_AMOUNT_MAX)
        return err_set(&op->super.err, ERR_INVALID_VALUE, "amount", "Invalid value for 'amount': out of range.");
    if ((unsigned)op->category > CREDIT_PROMOTIONAL)
        return err_set(&op->super.err, ERR_INVALID_VALUE, "category", "Invalid value for 'category'.");
    if (wallet == NULL || !wallet->open)
        return err_set(&op->super.err, ERR_NOT_FOUND, NULL, "No such wallet.");
    return op->amount > 0 ? grant(l, op, wallet) : adjust(l, op, wallet);
}

/* ---- lots that are gone ---- */

/* What no hold keeps of a gone lot leaves the wallet. It stays when the account on the other side cannot take it. */
static void leave(struct ledger *l, struct lot *lot, const char *note)
{
    bool lapsed = lot->status == GRANT_LAPSED;
    enum account_kind lapse = is_customer(lot->account) ? ACCOUNT_CUSTOMER_LAPSED : ACCOUNT_LAPSED;
    struct plan *plan = ledger_plan(l);

    plan_add(plan, lapsed ? TRANSFER_LAPSE : TRANSFER_WITHDRAWAL, lot->account,
             lapsed ? ledger_account(l, lapse, account_owner_of(lot->account->number))
                    : source_of(l, lot->account, lot->category),
             lot_free(lot), lot);
    if (plan->n > 0 && plan_fits(plan))
        add_entry(l, lapsed ? ENTRY_LAPSE : ENTRY_WITHDRAWAL, lot->account, lot->seq, note);
}

static void end_lot(struct ledger *l, struct lot *lot, enum grant_status status)
{
    ledger_forget_expiry(l, lot);
    lot->status = status;
    ledger_touch_lot(l, lot);
    ledger_lot_due(l, lot);
}

bool ledger_lapse_due(const struct ledger *l, int64_t now)
{
    const struct lot *lot = ledger_next_expiry(l);

    return lot != NULL && lot->expires_at <= now;
}

void ledger_lapse(struct ledger *l)
{
    struct lot **due;

    while (ledger_lapse_due(l, l->effects.now)) {
        struct lot *lot = ledger_next_expiry(l);

        settle_debt(l, lot);
        end_lot(l, lot, GRANT_LAPSED);
    }
    due = l->due.at;
    for (size_t i = 0; i < l->due.n; i++) {
        due[i]->due = false;
        leave(l, due[i], NULL);
    }
    l->due.n = 0;
}

enum err_code ledger_withdraw(struct ledger *l, struct store_withdraw *op)
{
    struct store_grant *g = &op->grant;
    bool customer = g->customer_row != 0;
    struct account *wallet = ledger_account(l, wallet_kind(customer), customer ? g->customer_row : g->tenant_row);
    struct lot *lot = ledger_find_lot(l, op->seq);
    const struct lot gone = {.seq = g->seq,
                             .amount = g->amount,
                             .expires_at = g->expires_at,
                             .priority = g->priority,
                             .category = g->category,
                             .status = g->status};

    if ((lot != NULL ? lot->status : g->status) != GRANT_LIVE)
        return err_set(&op->super.err, ERR_CONFLICT, NULL, "This grant has expired or was voided already.");
    if (lot == NULL) /* used up */
        lot = ledger_add_lot(l, wallet, &gone);
    end_lot(l, lot, GRANT_WITHDRAWN);
    if (lot->due)
        leave(l, lot, op->note);
    ledger_lapse(l);
    g->status = GRANT_WITHDRAWN;
    g->remaining = lot->remaining;
    return ERR_OK;
}

/* ---- refunds ---- */

/* The lot that a part of a charge goes back to; NULL: to none. */
static enum err_code lot_of(struct ledger *l, struct account *wallet, int64_t seq, ledger_grant_fn *find, void *ctx,
                            struct lot **out, struct err *err)
{
    struct store_grant g;
    enum err_code code;

    *out = seq != 0 ? ledger_find_lot(l, seq) : NULL;
    if (seq == 0 || *out != NULL || wallet_of(wallet)->n >= STORE_LOTS) /* those put back for this refund included */
        return ERR_OK;
    code = find(ctx, seq, &g, err);
    if (code != ERR_OK)
        return code;
    *out = ledger_add_lot(l, wallet,
                          &(struct lot){.seq = g.seq,
                                        .amount = g.amount,
                                        .expires_at = g.expires_at,
                                        .priority = g.priority,
                                        .category = g.category,
                                        .status = g.status});
    ledger_touch_lot(l, *out); /* forgotten again when nothing comes back to it */
    return ERR_OK;
}

static bool is_of_leg(const struct transfer_row *t, int leg, bool *overage)
{
    *overage = t->kind == (leg == 1 ? TRANSFER_RETAIL_OVERAGE : TRANSFER_OVERAGE);
    return *overage || t->kind == (leg == 1 ? TRANSFER_RETAIL_CHARGE : TRANSFER_CHARGE);
}

static struct account *find_number(struct ledger *l, int64_t number)
{
    return ledger_account(l, account_kind_of(number), account_owner_of(number));
}

/* Plans to give <amount> of a leg back: its transfers last first, of which charge->refunded[leg] are back already. */
static enum err_code plan_back(struct ledger *l, const struct charge *charge, int leg, int64_t amount,
                               ledger_grant_fn *find, void *ctx, struct err *err)
{
    int64_t skip = charge->refunded[leg];
    enum err_code code = ERR_OK;

    for (int i = charge->n - 1; code == ERR_OK && amount > 0 && i >= 0; i--) {
        const struct transfer_row *t = &charge->transfers[i];
        struct lot *lot = NULL;
        int64_t part;
        bool overage;

        if (!is_of_leg(t, leg, &overage))
            continue;
        part = t->amount > skip ? t->amount - skip : 0;
        skip -= t->amount < skip ? t->amount : skip;
        if (part > amount)
            part = amount;
        if (part > 0 && !overage)
            code = lot_of(l, find_number(l, t->debit), t->lot, find, ctx, &lot, err);
        if (code == ERR_OK)
            plan_add(&l->plan, overage ? TRANSFER_OVERAGE_REFUND : TRANSFER_REFUND, find_number(l, t->credit),
                     find_number(l, t->debit), part, lot);
        amount -= part;
    }
    TG_ASSERT(code != ERR_OK || amount == 0);
    return code;
}

/* Gives <amount> of a leg back, or only checks that it can be (<apply> false). */
static enum err_code refund_leg(struct ledger *l, struct store_refund *op, const struct charge *charge, int leg,
                                int64_t amount, ledger_grant_fn *find, void *ctx, bool apply)
{
    const struct store_call *call = &charge->usage.call;
    const struct account *wallet =
        ledger_account(l, wallet_kind(leg == 1), leg == 1 ? call->customer_row : call->tenant_row);
    struct plan *plan = ledger_plan(l);
    enum err_code code;

    if (amount == 0)
        return ERR_OK;
    code = plan_back(l, charge, leg, amount, find, ctx, &op->super.err);
    if (code == ERR_OK && !plan_fits(plan))
        code = overflow(&op->super.err);
    if (code == ERR_OK && apply)
        add_entry(l, ENTRY_REFUND, wallet, op->seq, op->reason);
    return code;
}

/* How much of <whole> belongs to <part> of <total>, in all, rounded down: so that the shares of many parts sum up to
 * it. */
static int64_t share(int64_t whole, int64_t part, int64_t total)
{
    return (int64_t)((__int128)whole * part / total);
}

static enum err_code check_refund(struct ledger *l, const struct store_refund *op, const struct charge *charge,
                                  int64_t total, struct err *err)
{
    const struct store_call *call = &charge->usage.call;
    const struct account *tenant = ledger_find_account(l, ACCOUNT_TENANT_WALLET, call->tenant_row);
    const struct account *customer = ledger_find_account(l, ACCOUNT_CUSTOMER_WALLET, call->customer_row);

    if (op->amount < 0 || op->amount > LEDGER_AMOUNT_MAX)
        return err_set(err, ERR_INVALID_VALUE, "amount", "Invalid value for 'amount': out of range.");
    if (op->retail_only && charge->n_legs < 2)
        return err_set(err, ERR_FORBIDDEN, NULL, "No wallet of a customer was charged for this record.");
    if (total - charge->usage.refunded <= 0)
        return err_set(err, ERR_CONFLICT, NULL, "Nothing of this record's charge is left to refund.");
    if (op->amount > total - charge->usage.refunded)
        return err_set(err, ERR_INVALID_VALUE, "amount",
                       "Invalid value for 'amount': more than what is left of the charge.");
    if (tenant == NULL || !tenant->open || (charge->n_legs > 1 && (customer == NULL || !customer->open)))
        return err_set(err, ERR_CONFLICT, NULL, "The wallet that was charged is closed.");
    return ERR_OK;
}

enum err_code ledger_refund(struct ledger *l, struct store_refund *op, const struct charge *charge,
                            ledger_grant_fn *find, void *ctx)
{
    bool two = charge->n_legs > 1;
    int64_t total = two ? charge->usage.retail : charge->usage.wholesale, before = charge->usage.refunded;
    enum err_code code = check_refund(l, op, charge, total, &op->super.err);
    int64_t amounts[STORE_LEGS] = {0, 0};
    struct refund_row *row;

    if (code != ERR_OK)
        return code;
    op->refunded = op->amount != 0 ? op->amount : total - before;
    amounts[two ? 1 : 0] = op->refunded;
    if (two && !op->retail_only)
        amounts[0] = share(charge->usage.wholesale, before + op->refunded, total) -
                     share(charge->usage.wholesale, before, total);
    for (int i = 0; code == ERR_OK && i < 2 * STORE_LEGS; i++) /* all are checked before the first is given */
        code = refund_leg(l, op, charge, i % STORE_LEGS, amounts[i % STORE_LEGS], find, ctx, i >= STORE_LEGS);
    if (code != ERR_OK)
        return code;
    row = list_add(&l->refunds, sizeof(*row));
    *row = (struct refund_row){op->seq, before + op->refunded};
    ledger_add_refund(l, &charge->usage, charge->item, op->refunded);
    op->usage = charge->usage;
    op->usage.refunded = row->refunded;
    return ERR_OK;
}
