/* ledger_apply.c - the rules of money, first half: the life of a hold.
 *
 *                    hold                capture, void
 *          (none) ----------> OPEN -------------------------> ENDED (row gone; capture leaves a usage record)
 *                               |  doubt: release, charge       ^
 *                               |-------------------------------|
 *                               |  doubt: keep                  | capture, void, resolve
 *                               '------------> IN_DOUBT --------'
 *
 * Role: each function checks everything, then changes the ledger's memory; a refusal changes nothing. One thread.
 * Invariants
 *  (1) posted - held + credit_limit >= 0 in every wallet, before and after each operation.
 *  (2) Each change to `posted` is half of a transfer, each change to `held` has its opposite in the revenue account:
 * both sum to zero over all accounts. (3) The legs of open and in-doubt holds of a wallet sum to its held; the pins of
 * a leg to the leg. (4) A hold leaves the table when it ends; so a second ending finds none. (5) A usage record's
 * wholesale is its CHARGE + OVERAGE transfers, its cost COST + LOSS, and when the customer has a wallet of its own, its
 * retail RETAIL_CHARGE + RETAIL_OVERAGE. In test mode all are 0 and there are no transfers. */
#include "ledger_state.h"

static bool bad_amount(int64_t amount)
{
    return amount < 0 || amount > LEDGER_AMOUNT_MAX;
}

static enum account_kind revenue_kind(bool customer)
{
    return customer ? ACCOUNT_CUSTOMER_REVENUE : ACCOUNT_TENANT_REVENUE;
}

/* Leg 0 is the tenant's, leg 1 the customer's. */
static struct account *leg_account(struct ledger *l, const struct hold *h, int leg, enum account_kind kind)
{
    return ledger_account(l, kind, leg == 1 ? h->customer_row : h->tenant_row);
}

static enum err_code no_hold(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, NULL, "No open hold with this id.");
}

static enum err_code no_funds(struct err *err)
{
    return err_set(err, ERR_INSUFFICIENT_QUOTA, NULL,
                   "You exceeded your current quota, please check your plan and billing details.");
}

/* ---- hold ---- */

static enum err_code check_hold(struct ledger *l, struct store_hold *op, struct err *err)
{
    bool bad = bad_amount(op->cost_max) || bad_amount(op->wholesale_max) || bad_amount(op->retail_max);

    if (op->call.test ? op->n_legs != 0 : op->n_legs < 1 || op->n_legs > STORE_LEGS)
        return err_set(err, ERR_INVALID_VALUE, "legs", "A hold has one or two legs, in test mode none.");
    for (int i = 0; i < op->n_legs; i++)
        bad |= bad_amount(op->legs[i].amount) || op->legs[i].customer != (i == 1);
    if (bad)
        return err_set(err, ERR_INVALID_VALUE, "amount", "The hold's amounts are out of range.");
    if (id_is_zero(op->id) || ledger_find_hold(l, op->id) != NULL)
        return err_set(err, ERR_CONFLICT, NULL, "A hold with this id exists.");
    for (int i = 0; i < op->n_legs; i++) {
        const struct account *wallet =
            ledger_find_account(l, wallet_kind(i == 1), i == 1 ? op->call.customer_row : op->call.tenant_row);

        if (wallet == NULL || !wallet->open)
            return err_set(err, ERR_ACCOUNT_SUSPENDED, NULL, "The account is closed.");
        if (wallet_available(wallet) < op->legs[i].amount || op->legs[i].amount > INT64_MAX - wallet->held)
            return no_funds(err);
    }
    return budgets_check(l, op);
}

/* A leg's amount begins (sign 1) or ceases (-1) to be set aside, in its wallet and its counterpart. */
static void move_held(struct ledger *l, struct hold *h, int leg, int sign)
{
    struct account *wallet = leg_account(l, h, leg, wallet_kind(leg == 1));
    struct account *revenue = leg_account(l, h, leg, revenue_kind(leg == 1));

    if (h->legs[leg] == 0)
        return;
    wallet->held += sign * h->legs[leg];
    revenue->held -= sign * h->legs[leg];
    if (sign > 0)
        wallet_take_pins(wallet, h->legs[leg], &h->pins[leg]);
    else
        ledger_give_pins(l, wallet, &h->pins[leg]);
    h->split |= h->pins[leg].n > 1;
    TG_ASSERT(wallet->held >= 0 && wallet_available(wallet) >= 0);
    ledger_touch_account(l, wallet);
    ledger_touch_account(l, revenue);
}

static void set_aside(struct ledger *l, struct hold *h, int sign)
{
    for (int i = 0; i < h->n_legs; i++)
        move_held(l, h, i, sign);
    budgets_keep(l, h, sign);
}

enum err_code ledger_hold(struct ledger *l, struct store_hold *op)
{
    enum err_code code = check_hold(l, op, &op->super.err);
    struct hold *h;

    if (code != ERR_OK)
        return code;
    h = mem_zalloc(sizeof(*h));
    h->id = op->id;
    h->epoch = l->epoch;
    h->tenant_row = op->call.tenant_row;
    h->customer_row = op->call.customer_row;
    h->key_row = op->call.key_row;
    h->channel_row = op->call.channel_row;
    h->item = ledger_item(l, &op->call);
    h->cost_max = op->cost_max;
    h->wholesale_max = op->wholesale_max;
    h->retail_max = op->retail_max;
    h->version_cost = op->version_cost;
    h->version_wholesale = op->version_wholesale;
    h->version_retail = op->version_retail;
    h->created_at = op->created_at;
    h->n = op->call.n;
    h->n_legs = op->n_legs;
    h->rule = op->rule;
    h->stream = op->call.stream;
    h->test = op->call.test;
    for (int i = 0; i < h->n_legs; i++)
        h->legs[i] = op->legs[i].amount;
    set_aside(l, h, 1);
    ledger_add_hold(l, h);
    ledger_age_hold(l, h);
    ledger_touch_hold(l, h);
    return ERR_OK;
}

/* ---- the end of a hold ---- */

/* What a leg is charged: as much as its wallet bears once the hold is given back; the rest is owed. */
static int64_t plan_leg(struct ledger *l, const struct hold *h, int leg, int64_t charge, struct plan *plan)
{
    bool customer = leg == 1;
    struct account *revenue = leg_account(l, h, leg, revenue_kind(customer));
    int64_t taken = wallet_plan_take(leg_account(l, h, leg, wallet_kind(customer)), &h->pins[leg], charge,
                                     customer ? TRANSFER_RETAIL_CHARGE : TRANSFER_CHARGE, revenue, plan);

    TG_ASSERT(taken >= (charge < h->legs[leg] ? charge : h->legs[leg]));
    plan_add(plan, customer ? TRANSFER_RETAIL_OVERAGE : TRANSFER_OVERAGE,
             leg_account(l, h, leg, customer ? ACCOUNT_CUSTOMER_RECEIVABLE : ACCOUNT_TENANT_RECEIVABLE), revenue,
             charge - taken, NULL);
    return taken;
}

static bool bad_usage(const struct usage_record *usage)
{
    bool bad = bad_amount(usage->cost) || bad_amount(usage->wholesale) || bad_amount(usage->retail) ||
               usage->images < 0 || usage->partial_images < 0;

    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        bad |= bad_amount(usage->quantities.of[i]);
    return bad;
}

/* Who was served is the hold's; what was served is as the caller found it, else the hold's. */
static void complete_usage(struct ledger *l, const struct hold *h, struct usage_record *usage)
{
    const struct item *item = ledger_item_at(l, h->item);
    struct store_call *call = &usage->call;

    if (call->model[0] == '\0') {
        (void)slice_copy(slice_from(item->model), call->model, sizeof(call->model));
        (void)slice_copy(slice_from(item->size), call->size, sizeof(call->size));
        (void)slice_copy(slice_from(item->quality), call->quality, sizeof(call->quality));
        call->operation = item->operation;
    }
    if (call->channel_row == 0)
        call->channel_row = h->channel_row;
    call->tenant_row = h->tenant_row;
    call->customer_row = h->customer_row;
    call->key_row = h->key_row;
    call->n = h->n;
    call->stream = h->stream;
    call->test = h->test;
    usage->request = h->id;
    usage->created_at = l->effects.now;
    usage->refunded = 0;
    if (h->test) {
        usage->cost = usage->wholesale = usage->retail = 0;
        usage->flags |= USAGE_TEST;
    }
}

/* Ends <h> with charges, a usage record and its cost (booked as <cost_kind>). */
static enum err_code end_with_usage(struct ledger *l, struct hold *h, const int64_t charges[STORE_LEGS],
                                    struct usage_record *usage, enum transfer_kind cost_kind, int64_t *charged,
                                    struct err *err)
{
    struct plan *plan = ledger_plan(l);
    struct usage_row *row;
    enum err_code code;
    int64_t taken = 0;

    if (bad_usage(usage))
        return err_set(err, ERR_INVALID_VALUE, "usage", "The usage record's numbers are out of range.");
    for (int i = 0; i < h->n_legs; i++)
        if (bad_amount(charges[i]))
            return err_set(err, ERR_INVALID_VALUE, "charges", "The charge is out of range.");
    complete_usage(l, h, usage);
    code = budgets_turn(l, &usage->call, err);
    if (code != ERR_OK)
        return code;
    for (int i = 0; i < h->n_legs; i++) {
        taken = plan_leg(l, h, i, charges[i], plan);
        if (charges[i] > h->legs[i])
            usage->flags |= USAGE_OVERAGE;
        *(i == 0 ? &usage->wholesale : &usage->retail) = charges[i]; /* the record says what was charged, always */
    }
    plan_add(plan, cost_kind,
             ledger_account(l, cost_kind == TRANSFER_LOSS ? ACCOUNT_LOSS : ACCOUNT_COST, h->tenant_row),
             ledger_account(l, ACCOUNT_PAYABLE, usage->call.channel_row), usage->cost, NULL);
    if (!plan_fits(plan))
        return err_set(err, ERR_INVALID_VALUE, NULL, "An account's balance would overflow.");

    set_aside(l, h, -1);
    usage->seq = ledger_next_event(l);
    ledger_apply_plan(l, usage->seq);
    row = list_add(&l->usage, sizeof(*row));
    *row = (struct usage_row){usage, ledger_item(l, &usage->call), h->n_legs > 1};
    ledger_add_rollup(l, usage, row->item);
    budgets_charge(l, usage);
    ledger_end_hold(l, h, usage->seq);
    *charged = taken;
    return ERR_OK;
}

enum err_code ledger_capture(struct ledger *l, struct store_capture *op)
{
    struct hold *h = ledger_find_hold(l, op->hold);

    op->charged = 0;
    if (h == NULL)
        return no_hold(&op->super.err);
    return end_with_usage(l, h, op->charges, &op->usage, TRANSFER_COST, &op->charged, &op->super.err);
}

enum err_code ledger_void(struct ledger *l, struct store_void *op)
{
    struct hold *h = ledger_find_hold(l, op->hold);

    if (h == NULL)
        return no_hold(&op->super.err);
    set_aside(l, h, -1);
    ledger_end_hold(l, h, 0);
    return ERR_OK;
}

enum err_code ledger_doubt(struct ledger *l, struct store_doubt *op, struct usage_record *usage)
{
    struct hold *h = ledger_find_hold(l, op->hold);
    static const int64_t nothing[STORE_LEGS];
    bool charge;
    int64_t charged;

    if (h == NULL)
        return no_hold(&op->super.err);
    op->applied = h->rule;
    if (h->rule == IN_DOUBT_KEEP) {
        h->state = HOLD_IN_DOUBT;
        ledger_touch_hold(l, h);
        ledger_forget_age(l, h);
        return ERR_OK;
    }
    charge = h->rule == IN_DOUBT_CHARGE;
    memset(usage, 0, sizeof(*usage));
    usage->cost = h->cost_max;
    usage->wholesale = charge ? h->wholesale_max : 0;
    usage->retail = charge ? h->retail_max : 0;
    usage->flags = USAGE_IN_DOUBT | (op->client_gone ? USAGE_CLIENT_GONE : 0);
    usage->duration_ms = op->duration_ms;
    return end_with_usage(l, h, charge ? h->legs : nothing, usage, charge ? TRANSFER_COST : TRANSFER_LOSS, &charged,
                          &op->super.err);
}

/* ---- an operator's word ---- */

/* The part of <whole> that <amount> is of <total>, rounded up. */
static int64_t share(int64_t whole, int64_t amount, int64_t total)
{
    return total == 0 ? whole : (int64_t)(((__int128)whole * amount + total - 1) / total);
}

static enum err_code check_resolve(const struct hold *h, const struct store_resolve *op, int64_t total, struct err *err)
{
    if (h == NULL)
        return no_hold(err);
    if (h->state != HOLD_IN_DOUBT)
        return err_set(err, ERR_CONFLICT, NULL, "The call of this hold is under way; it is not in doubt.");
    if (op->capture && op->amount > total)
        return err_set(err, ERR_INVALID_VALUE, "amount", "Invalid value for 'amount': more than the hold.");
    return ERR_OK;
}

enum err_code ledger_resolve(struct ledger *l, struct store_resolve *op)
{
    struct hold *h = ledger_find_hold(l, op->hold);
    int64_t total = h == NULL ? 0 : h->n_legs > 1 ? h->legs[1] : h->n_legs > 0 ? h->legs[0] : 0;
    enum err_code code = check_resolve(h, op, total, &op->super.err);
    int64_t amount = op->amount < 0 ? total : op->amount, charges[STORE_LEGS] = {0, 0};
    struct usage_record *usage = &op->usage;

    op->charged = 0;
    memset(usage, 0, sizeof(*usage));
    if (code != ERR_OK)
        return code;
    if (!op->capture) {
        set_aside(l, h, -1);
        ledger_end_hold(l, h, 0);
        return ERR_OK;
    }
    for (int i = 0; i < h->n_legs; i++)
        charges[i] = share(h->legs[i], amount, total);
    usage->cost = share(h->cost_max, amount, total);
    usage->wholesale = share(h->wholesale_max, amount, total);
    usage->retail = share(h->retail_max, amount, total);
    usage->flags = USAGE_IN_DOUBT;
    usage->duration_ms = (l->effects.now - h->created_at) / 1000;
    if (usage->duration_ms < 0)
        usage->duration_ms = 0;
    return end_with_usage(l, h, charges, usage, TRANSFER_COST, &op->charged, &op->super.err);
}
