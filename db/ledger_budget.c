/* ledger_budget.c - budgets: what their owners may spend in a window, open holds included.
 *
 *   window:  cell unused --charge--> {begin, end, used} --the next window's first use--> used = 0
 *
 * Role: an owner with budgets is a spender: its held amount and, for each budget, the cells that count. A hold's worst
 * case counts in whatever window it is now until the hold ends; its charge counts from then on in the window in which
 * the usage record was made. One thread. Invariants (1) held = the sum of the worst cases of the owner's open and
 * in-doubt holds. (2) used of a cell = the sum of the owner's records created in [begin, end), but for estimated cells,
 * which have what the roll-ups say of whole hours, each hour at its end. (3) used + held <= amount after every hold
 * that was admitted, in every window of its owner. (4) Cells are written when something is charged in them; one that is
 * not of now counts for nothing. */
#include "ledger_state.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

#define HOUR (3600 * CLOCK_SECOND)

struct budget_use {
    struct budget budget;
    int n; /* cells: BUDGET_CELLS when rolling, else 1 */
    struct budget_cell *cells;
};

struct spender {
    struct budget_owner owner;
    __int128 held; /* as wide as prices of a tenant's own making may get */
    struct zone *zone; /* NULL until its budgets are set */
    int n;
    struct budget_use of[BUDGET_LIST];
};

/* ---- spenders ---- */

static bool match_spender(const void *item, const void *key)
{
    return budget_owner_number(&((const struct spender *)item)->owner) == *(const int64_t *)key;
}

static struct spender *find_spender(const struct ledger *l, int64_t number)
{
    return table_get(&l->spenders, table_hash_u64((uint64_t)number), match_spender, &number);
}

static struct spender *spender_at(struct ledger *l, const struct budget_owner *owner)
{
    int64_t number = budget_owner_number(owner);
    struct spender *s = find_spender(l, number);

    if (s != NULL)
        return s;
    s = mem_zalloc(sizeof(*s));
    s->owner = *owner;
    table_put(&l->spenders, table_hash_u64((uint64_t)number), match_spender, &number, s);
    return s;
}

static void destroy_spender(struct spender *s)
{
    for (int i = 0; i < s->n; i++)
        free(s->of[i].cells);
    zone_unref(s->zone);
    free(s);
}

void budgets_destroy(struct ledger *l)
{
    struct spender *s;
    size_t pos = 0;

    while ((s = table_next(&l->spenders, &pos)) != NULL)
        destroy_spender(s);
    table_dispose(&l->spenders);
}

/* The three that a call counts for; NULL where there is none with budgets. */
static void find_spenders(const struct ledger *l, int64_t key, int64_t customer, int64_t tenant,
                          struct spender *out[BUDGET_OWNERS])
{
    const struct budget_owner owners[BUDGET_OWNERS] = {{.kind = BUDGET_KEY, .row = key},
                                                       {.kind = BUDGET_CUSTOMER, .row = customer},
                                                       {.kind = BUDGET_TENANT, .row = tenant}};

    for (int i = 0; i < BUDGET_OWNERS; i++) {
        out[i] = owners[i].row != 0 ? find_spender(l, budget_owner_number(&owners[i])) : NULL;
        if (out[i] != NULL && out[i]->zone == NULL) /* its owner is gone */
            out[i] = NULL;
    }
}

static int64_t in_price_of(const struct spender *s, int64_t wholesale, int64_t retail)
{
    return s->owner.retail ? retail : wholesale;
}

/* ---- cells ---- */

static void init_use(struct budget_use *use, const struct budget *budget)
{
    use->budget = *budget;
    use->n = budget->window > 0 ? BUDGET_CELLS : 1;
    use->cells = mem_zalloc((size_t)use->n * sizeof(use->cells[0]));
    for (int i = 0; i < use->n; i++)
        use->cells[i].begin = -1;
}

static int place_of(const struct budget_use *use, struct budget_span span)
{
    return use->n == 1 ? 0 : (int)(span.begin / (span.end - span.begin) % use->n);
}

static bool is_span(const struct budget_cell *cell, struct budget_span span)
{
    return cell->begin == span.begin && cell->end == span.end;
}

/* Whether a calendar window's cell is that of an instant: found without asking the calendar. */
static bool is_now(const struct budget_use *use, int64_t wall)
{
    const struct budget_cell *cell = &use->cells[0];

    return use->n == 1 && cell->begin >= 0 && cell->begin <= wall && wall < cell->end;
}

/* The cell of this instant, made empty when it was another's. */
static struct budget_cell *cell_at(struct spender *s, struct budget_use *use, int64_t wall)
{
    struct budget_cell *cell = &use->cells[0];
    struct budget_span span;

    if (is_now(use, wall))
        return cell;
    span = budget_cell_at(use->budget.window, s->zone, wall);
    cell = &use->cells[place_of(use, span)];
    if (!is_span(cell, span)) {
        cell->begin = span.begin;
        cell->end = span.end;
        cell->used = 0;
        cell->estimated = false;
    }
    return cell;
}

static int64_t used_at(struct spender *s, struct budget_use *use, int64_t wall)
{
    const struct budget_cell *now = cell_at(s, use, wall);
    int64_t from, used = 0;

    if (use->n == 1)
        return now->used;
    from = budget_counts_from(use->budget.window, s->zone, wall);
    for (int i = 0; i < use->n; i++)
        if (use->cells[i].begin >= from && use->cells[i].begin <= now->begin)
            used += use->cells[i].used;
    return used;
}

static void add_used(struct ledger *l, struct spender *s, struct budget_use *use, struct budget_cell *cell,
                     int64_t amount)
{
    if (__builtin_add_overflow(cell->used, amount, &cell->used))
        cell->used = INT64_MAX;
    if (cell->touched)
        return;
    cell->touched = true;
    *(struct cell_row *)list_add(&l->cells, sizeof(struct cell_row)) =
        (struct cell_row){budget_owner_number(&s->owner), use->budget.window, (int)(cell - use->cells), cell};
}

/* The cells of a window go: out of the effects, and out of the store. */
static void drop_cells(struct ledger *l, const struct spender *s, const struct budget_use *use)
{
    struct cell_row *rows = l->cells.at;
    size_t n = 0;

    for (size_t i = 0; i < l->cells.n; i++)
        if (rows[i].cell < use->cells || rows[i].cell >= use->cells + use->n)
            rows[n++] = rows[i];
    l->cells.n = n;
    *(struct cell_drop *)list_add(&l->cell_drops, sizeof(struct cell_drop)) =
        (struct cell_drop){budget_owner_number(&s->owner), use->budget.window};
}

/* ---- from the records ---- */

static enum err_code refill_rolling(struct ledger *l, struct spender *s, struct budget_use *use, int64_t now,
                                    struct err *err)
{
    int64_t from = budget_counts_from(use->budget.window, s->zone, now);
    int64_t to = budget_cell_at(use->budget.window, s->zone, now).end; /* records may lie ahead of now */
    int64_t all = 0;
    enum err_code code = l->spent(l->spent_ctx, &s->owner, from, to, &all, err);

    while (code == ERR_OK && all > 0 && from < to) { /* mostly there is nothing, which whole days tell quickly */
        int64_t end = (from / HOUR + 1) * HOUR, sum = 0;
        struct budget_cell *cell = cell_at(s, use, end - 1 < now ? end - 1 : now);

        code = l->spent(l->spent_ctx, &s->owner, from, end, &sum, err);
        if (code == ERR_OK && sum > 0) {
            cell->estimated = true;
            add_used(l, s, use, cell, sum);
        }
        from = end;
    }
    return code;
}

/* Begins a budget's windows anew with what the records say. */
static enum err_code refill(struct ledger *l, struct spender *s, struct budget_use *use, int64_t now, struct err *err)
{
    struct budget_cell *cell;
    int64_t sum = 0;
    enum err_code code;

    drop_cells(l, s, use);
    for (int i = 0; i < use->n; i++)
        use->cells[i] = (struct budget_cell){.begin = -1};
    if (use->n > 1)
        return refill_rolling(l, s, use, now, err);
    cell = cell_at(s, use, now);
    code = l->spent(l->spent_ctx, &s->owner, cell->begin, cell->end, &sum, err);
    if (code == ERR_OK)
        add_used(l, s, use, cell, sum);
    return code;
}

/* Lets the windows of a spender be those of now. They begin empty, but where the clock has ever gone back: then there
 * may be records in them already. */
static enum err_code turn(struct ledger *l, struct spender *s, int64_t now, struct err *err)
{
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < s->n; i++) {
        struct budget_use *use = &s->of[i];
        struct budget_span span;

        if (is_now(use, now))
            continue;
        span = budget_cell_at(use->budget.window, s->zone, now);
        if (l->stepped && !is_span(&use->cells[place_of(use, span)], span))
            code = refill(l, s, use, now, err);
        else
            (void)cell_at(s, use, now);
    }
    return code;
}

enum err_code budgets_turn(struct ledger *l, const struct store_call *call, struct err *err)
{
    struct spender *spenders[BUDGET_OWNERS];
    enum err_code code = ERR_OK;

    if (call->test || l->spenders.count == 0)
        return ERR_OK;
    find_spenders(l, call->key_row, call->customer_row, call->tenant_row, spenders);
    for (int i = 0; code == ERR_OK && i < BUDGET_OWNERS; i++)
        if (spenders[i] != NULL)
            code = turn(l, spenders[i], l->effects.now, err);
    return code;
}

enum err_code budgets_turn_back(struct ledger *l, int64_t now, struct err *err)
{
    enum err_code code = ERR_OK;
    struct spender *s;
    size_t pos = 0;

    while (code == ERR_OK && (s = table_next(&l->spenders, &pos)) != NULL)
        for (int i = 0; code == ERR_OK && s->zone != NULL && i < s->n; i++) {
            bool ahead = false;

            for (int j = 0; j < s->of[i].n; j++)
                ahead |= s->of[i].cells[j].begin > now;
            if (ahead)
                code = refill(l, s, &s->of[i], now, err);
        }
    return code;
}

/* ---- setting ---- */

void ledger_set_source(struct ledger *l, ledger_spent_fn *spent, void *ctx)
{
    l->spent = spent;
    l->spent_ctx = ctx;
}

static struct budget_use *find_use(struct spender *s, int64_t window)
{
    for (int i = 0; i < s->n; i++)
        if (s->of[i].budget.window == window)
            return &s->of[i];
    return NULL;
}

static bool in_list(const struct budget_list *list, int64_t window)
{
    for (int i = 0; i < list->n; i++)
        if (list->of[i].window == window)
            return true;
    return false;
}

static void drop_uses(struct ledger *l, struct spender *s, const struct budget_list *keep)
{
    int n = 0;

    for (int i = 0; i < s->n; i++) {
        if (in_list(keep, s->of[i].budget.window)) {
            s->of[n++] = s->of[i];
            continue;
        }
        drop_cells(l, s, &s->of[i]);
        free(s->of[i].cells);
    }
    s->n = n;
}

/* Whether what is kept of a window is still right: it is the window of now, or one of this zone that is over. */
static bool still_right(const struct spender *s, const struct budget_use *use, int64_t now)
{
    const struct budget_cell *cell = &use->cells[0];
    struct budget_span span;

    if (use->n > 1)
        return true;
    if (cell->begin < 0 || cell->begin > now)
        return false;
    span = budget_cell_at(use->budget.window, s->zone, cell->begin);
    return span.begin == cell->begin && span.end == cell->end;
}

static bool is_of(const struct budget_owner *owner, const struct hold *h)
{
    switch (owner->kind) {
    case BUDGET_TENANT:
        return h->tenant_row == owner->row;
    case BUDGET_CUSTOMER:
        return h->customer_row == owner->row;
    case BUDGET_KEY:
        return h->key_row == owner->row;
    case BUDGET_OWNERS:
        break;
    }
    return false;
}

static void count_held(struct ledger *l, struct spender *s)
{
    const struct hold *h;
    size_t pos = 0;

    s->held = 0;
    while ((h = table_next(&l->holds, &pos)) != NULL)
        if (!h->test && is_of(&s->owner, h))
            s->held += in_price_of(s, h->wholesale_max, h->retail_max);
}

/* In the order of the list, keeping the cells of windows that were there. */
static enum err_code set_uses(struct ledger *l, struct spender *s, const struct budget_list *list, int64_t now,
                              struct err *err)
{
    struct budget_use uses[BUDGET_LIST];
    bool fresh[BUDGET_LIST];
    enum err_code code = ERR_OK;

    for (int i = 0; i < list->n; i++) {
        struct budget_use *old = find_use(s, list->of[i].window);

        fresh[i] = old == NULL;
        if (old != NULL)
            uses[i] = *old;
        else
            init_use(&uses[i], &list->of[i]);
        uses[i].budget = list->of[i];
    }
    s->n = list->n;
    if (s->n > 0)
        memcpy(s->of, uses, (size_t)s->n * sizeof(uses[0]));
    for (int i = 0; code == ERR_OK && i < s->n; i++)
        if (fresh[i] || !still_right(s, &s->of[i], now))
            code = refill(l, s, &s->of[i], now, err);
    return code;
}

enum err_code ledger_set_budgets(struct ledger *l, const struct budget_owner *owner, const struct budget_list *list,
                                 struct zone *zone, struct err *err)
{
    int64_t number = budget_owner_number(owner), now = l->effects.now != 0 ? l->effects.now : clock_wall();
    struct spender *s = find_spender(l, number);
    bool counted = s != NULL && s->zone != NULL;

    if (s == NULL && list->n == 0)
        return ERR_OK;
    s = spender_at(l, owner);
    s->owner = *owner;
    drop_uses(l, s, list);
    if (list->n == 0) {
        table_remove(&l->spenders, table_hash_u64((uint64_t)number), match_spender, &number);
        destroy_spender(s);
        return ERR_OK;
    }
    zone_ref(zone);
    zone_unref(s->zone);
    s->zone = zone;
    if (!counted)
        count_held(l, s);
    return set_uses(l, s, list, now, err);
}

/* What the store has of an owner whose budgets are set later. */
bool budgets_load_cell(struct ledger *l, const struct cell_row *row)
{
    const struct budget_owner owner = {.kind = (enum budget_owner_kind)(row->owner & ((1 << BUDGET_OWNER_BITS) - 1)),
                                       .row = row->owner >> BUDGET_OWNER_BITS};
    const struct budget budget = {0, row->window};
    struct spender *s;
    struct budget_use *use;

    if ((unsigned)owner.kind >= BUDGET_OWNERS || owner.row < 1 || row->window < BUDGET_MONTH ||
        row->window > BUDGET_ROLLING_MAX || row->place < 0 || row->cell->used < 0 || row->cell->begin < 0 ||
        row->cell->end <= row->cell->begin)
        return false;
    s = spender_at(l, &owner);
    use = find_use(s, row->window);
    if (use == NULL && s->n == BUDGET_LIST)
        return false;
    if (use == NULL) {
        use = &s->of[s->n++];
        init_use(use, &budget);
    }
    if (row->place >= use->n)
        return false;
    use->cells[row->place] = *row->cell;
    use->cells[row->place].touched = false;
    return true;
}

/* ---- holds and charges ---- */

/* When something that was charged may count no more; INT64_MAX: never. */
static int64_t resets_at(const struct spender *s, const struct budget_use *use, int64_t now)
{
    int64_t from, oldest = INT64_MAX;

    if (use->n == 1)
        return budget_resets_at(use->budget.window, s->zone, now);
    from = budget_counts_from(use->budget.window, s->zone, now);
    for (int i = 0; i < use->n; i++)
        if (use->cells[i].used > 0 && use->cells[i].begin >= from && use->cells[i].begin <= now &&
            use->cells[i].end < oldest)
            oldest = use->cells[i].end;
    return oldest != INT64_MAX ? oldest - 1 + use->budget.window * CLOCK_SECOND
                               : budget_resets_at(use->budget.window, s->zone, now);
}

/* The same for people: whole seconds. */
static int64_t resets_told(const struct spender *s, const struct budget_use *use, int64_t now)
{
    int64_t resets = resets_at(s, use, now);

    return resets < INT64_MAX - CLOCK_SECOND ? (resets + CLOCK_SECOND - 1) / CLOCK_SECOND * CLOCK_SECOND : resets;
}

static enum err_code refuse(const struct spender *s, const struct budget_use *use, int64_t now, struct err *err)
{
    static const char *const owners[BUDGET_OWNERS] = {
        [BUDGET_TENANT] = "account", [BUDGET_CUSTOMER] = "customer", [BUDGET_KEY] = "API key"};
    int64_t resets = resets_told(s, use, now);
    char window[BUDGET_WINDOW_TEXT], when[CLOCK_TEXT];

    budget_window_format(use->budget.window, window);
    if (resets == INT64_MAX)
        return err_set(
            err, ERR_INSUFFICIENT_QUOTA, NULL,
            "You exceeded your current quota: the %s budget of this %s cannot bear this request. It does not "
            "reset.",
            window, owners[s->owner.kind]);
    return err_set(
        err, ERR_INSUFFICIENT_QUOTA, NULL,
        "You exceeded your current quota: the %s budget of this %s cannot bear this request. It resets at %s.", window,
        owners[s->owner.kind], clock_format(resets, when));
}

enum err_code budgets_check(struct ledger *l, struct store_hold *op)
{
    int64_t now = l->effects.now;
    struct spender *spenders[BUDGET_OWNERS];
    enum err_code code = budgets_turn(l, &op->call, &op->super.err);

    if (code != ERR_OK || op->call.test || l->spenders.count == 0)
        return code;
    find_spenders(l, op->call.key_row, op->call.customer_row, op->call.tenant_row, spenders);
    for (int i = 0; i < BUDGET_OWNERS; i++)
        for (int j = 0; spenders[i] != NULL && j < spenders[i]->n; j++) {
            struct spender *s = spenders[i];
            struct budget_use *use = &s->of[j];

            if ((__int128)used_at(s, use, now) + s->held + in_price_of(s, op->wholesale_max, op->retail_max) >
                use->budget.amount)
                return refuse(s, use, now, &op->super.err);
        }
    return ERR_OK;
}

void budgets_keep(struct ledger *l, const struct hold *h, int sign)
{
    struct spender *spenders[BUDGET_OWNERS];

    if (h->test || l->spenders.count == 0)
        return;
    find_spenders(l, h->key_row, h->customer_row, h->tenant_row, spenders);
    for (int i = 0; i < BUDGET_OWNERS; i++)
        if (spenders[i] != NULL) {
            spenders[i]->held += sign * in_price_of(spenders[i], h->wholesale_max, h->retail_max);
            TG_ASSERT(spenders[i]->held >= 0);
        }
}

void budgets_charge(struct ledger *l, const struct usage_record *usage)
{
    const struct store_call *call = &usage->call;
    struct spender *spenders[BUDGET_OWNERS];

    if (call->test || l->spenders.count == 0)
        return;
    find_spenders(l, call->key_row, call->customer_row, call->tenant_row, spenders);
    for (int i = 0; i < BUDGET_OWNERS; i++)
        for (int j = 0; spenders[i] != NULL && j < spenders[i]->n; j++) {
            struct spender *s = spenders[i];
            int64_t amount = in_price_of(s, usage->wholesale, usage->retail);

            if (amount > 0)
                add_used(l, s, &s->of[j], cell_at(s, &s->of[j], usage->created_at), amount);
        }
}

/* ---- what is left ---- */

/* The exact difference, or the nearest that there is. */
static int64_t clamp(__int128 amount)
{
    return amount > INT64_MAX ? INT64_MAX : amount < INT64_MIN ? INT64_MIN : (int64_t)amount;
}

static void tell_budget(struct spender *s, struct budget_use *use, int64_t now, bool retail, struct store_standing *op)
{
    __int128 used = (__int128)used_at(s, use, now) + s->held, left = use->budget.amount - used;
    int64_t resets = resets_told(s, use, now);
    char window[BUDGET_WINDOW_TEXT];

    TG_ASSERT(op->n < STORE_STANDINGS);
    op->budgets[op->n].owner = (int)s->owner.kind;
    (void)slice_copy(slice_from(budget_window_format(use->budget.window, window)), op->budgets[op->n].window,
                     sizeof(op->budgets[op->n].window));
    op->budgets[op->n].amount = use->budget.amount;
    op->budgets[op->n].used = clamp(used);
    op->budgets[op->n].resets_at = resets != INT64_MAX ? resets : 0;
    op->n++;
    if (s->owner.retail == retail && left < op->available)
        op->available = clamp(left);
}

static enum err_code tell_budgets(struct ledger *l, struct store_standing *op)
{
    const struct store_call call = {
        .tenant_row = op->tenant_row, .customer_row = op->customer_row, .key_row = op->key_row};
    struct spender *spenders[BUDGET_OWNERS];
    enum err_code code = budgets_turn(l, &call, &op->super.err);

    if (code != ERR_OK || l->spenders.count == 0)
        return code;
    find_spenders(l, op->key_row, op->customer_row, op->tenant_row, spenders);
    for (int i = 0; i < BUDGET_OWNERS; i++)
        for (int j = 0; spenders[i] != NULL && j < spenders[i]->n; j++)
            tell_budget(spenders[i], &spenders[i]->of[j], l->effects.now, op->customer_row != 0, op);
    return ERR_OK;
}

enum err_code ledger_standing(struct ledger *l, struct store_standing *op)
{
    const struct account *wallet =
        ledger_find_account(l, wallet_kind(op->own_wallet), op->own_wallet ? op->customer_row : op->tenant_row);

    op->n = 0;
    if (wallet == NULL || !wallet->open)
        return err_set(&op->super.err, ERR_NOT_FOUND, NULL, "No such wallet.");
    op->wallet = op->available = clamp(wallet_available(wallet));
    return tell_budgets(l, op);
}
