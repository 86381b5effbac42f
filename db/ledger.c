/* ledger.c - the ledger's state: accounts, open holds, items, and the batch that collects effects.
 *
 * Role: what ledger_apply.c decides is kept and handed on here. One thread.
 * Invariants
 *  (1) Every account, hold and item that is in the store is in its table, with the values the last batch left.
 *  (2) An account is in effects.accounts at most once a batch, a hold in touched_holds at most once.
 *  (3) A hold that begins and ends in one batch never gets a slot: the store does not hear of it.
 *  (4) A slot belongs to at most one hold; slots in free_slots belong to none and their rows are gone.
 *  (5) next_seq is above every event's number; last_event is the greatest created_at since the last clock step. */
#include "ledger_state.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

enum { LIST_FIRST = 64, CLOCK_TOLERANCE = 1000000 }; /* elements; microseconds that the clock may fall back unnoticed */

static void free_hold(struct hold *hold)
{
    for (int i = 0; i < STORE_LEGS; i++)
        pins_dispose(&hold->pins[i]);
    free(hold);
}

void *list_add(struct list *list, size_t size)
{
    void *item;

    if (list->n == list->cap) {
        list->cap = list->cap != 0 ? list->cap * 2 : LIST_FIRST;
        list->at = mem_realloc(list->at, list->cap * size);
    }
    item = (char *)list->at + list->n * size;
    memset(item, 0, size);
    list->n++;
    return item;
}

void list_dispose(struct list *list)
{
    free(list->at);
    *list = (struct list){NULL, 0, 0};
}

/* ---- life ---- */

/* Every list of the ledger; from BATCH_LISTS on those of the batch, which ledger_settle empties. */
static const size_t lists[] = {
    offsetof(struct ledger, item_rows),     offsetof(struct ledger, expiry),
    offsetof(struct ledger, free_slots),    offsetof(struct ledger, due),
    offsetof(struct ledger, new_items),     offsetof(struct ledger, touched_accounts),
    offsetof(struct ledger, touched_holds), offsetof(struct ledger, written_holds),
    offsetof(struct ledger, dropped),       offsetof(struct ledger, usage),
    offsetof(struct ledger, transfers),     offsetof(struct ledger, grants),
    offsetof(struct ledger, touched_lots),  offsetof(struct ledger, entries),
    offsetof(struct ledger, refunds),       offsetof(struct ledger, rollups),
    offsetof(struct ledger, cells),         offsetof(struct ledger, cell_drops),
    offsetof(struct ledger, links),         offsetof(struct ledger, unpinned),
};
enum { BATCH_LISTS = 4 };

static struct list *list_at(struct ledger *l, size_t i)
{
    return (struct list *)((char *)l + lists[i]);
}

struct ledger *ledger_create(void)
{
    struct ledger *l = mem_zalloc(sizeof(*l));

    table_init(&l->accounts);
    table_init(&l->lots);
    table_init(&l->holds);
    table_init(&l->items);
    table_init(&l->spenders);
    table_init(&l->rollup_index);
    l->next_seq = 1;
    l->next_slot = 1;
    return l;
}

static void table_free_items(struct table *t)
{
    size_t pos = 0;
    void *item;

    while ((item = table_next(t, &pos)) != NULL)
        free(item);
    table_dispose(t);
}

static void free_accounts(struct ledger *l)
{
    size_t pos = 0;
    struct account *account;

    while ((account = table_next(&l->accounts, &pos)) != NULL)
        wallet_destroy(account->wallet);
    table_free_items(&l->accounts);
}

static void free_holds(struct ledger *l)
{
    size_t pos = 0;
    struct hold *hold;

    while ((hold = table_next(&l->holds, &pos)) != NULL)
        free_hold(hold);
    table_dispose(&l->holds);
}

void ledger_destroy(struct ledger *l)
{
    if (l == NULL)
        return;
    ledger_settle(l); /* frees holds that ended in a batch that never became durable */
    budgets_destroy(l);
    free_holds(l);
    free_accounts(l);
    table_free_items(&l->lots);
    table_free_items(&l->items);
    table_dispose(&l->rollup_index);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_dispose(list_at(l, i));
    free(l);
}

/* ---- accounts ---- */

static bool match_account(const void *item, const void *key)
{
    return ((const struct account *)item)->number == *(const int64_t *)key;
}

struct account *ledger_find_account(const struct ledger *l, enum account_kind kind, int64_t owner)
{
    int64_t number = account_number(kind, owner);

    return table_get(&l->accounts, table_hash_u64((uint64_t)number), match_account, &number);
}

static struct account *account_at(struct ledger *l, int64_t number)
{
    uint64_t hash = table_hash_u64((uint64_t)number);
    struct account *account = table_get(&l->accounts, hash, match_account, &number);

    if (account == NULL) {
        account = mem_zalloc(sizeof(*account));
        account->number = number;
        table_put(&l->accounts, hash, match_account, &number, account);
    }
    return account;
}

struct account *ledger_account(struct ledger *l, enum account_kind kind, int64_t owner)
{
    return account_at(l, account_number(kind, owner));
}

void ledger_touch_account(struct ledger *l, struct account *account)
{
    if (account->touched)
        return;
    account->touched = true;
    *(struct account **)list_add(&l->touched_accounts, sizeof(account)) = account;
}

void ledger_set_wallet(struct ledger *l, enum account_kind kind, int64_t owner, int64_t credit_limit, bool open)
{
    struct account *account = ledger_account(l, kind, owner);

    account->credit_limit = credit_limit;
    account->open = open;
}

struct store_balance ledger_balance(const struct ledger *l, enum account_kind kind, int64_t owner)
{
    const struct account *account = ledger_find_account(l, kind, owner);

    if (account == NULL)
        return (struct store_balance){.posted = 0};
    return (struct store_balance){
        .posted = account->posted, .held = account->held, .credit_limit = account->credit_limit};
}

/* ---- holds ---- */

static bool match_hold(const void *item, const void *key)
{
    return id_eq(((const struct hold *)item)->id, *(const struct id *)key);
}

struct hold *ledger_find_hold(const struct ledger *l, struct id id)
{
    return table_get(&l->holds, table_hash_bytes(id.b, ID_BYTES), match_hold, &id);
}

void ledger_add_hold(struct ledger *l, struct hold *hold)
{
    table_put(&l->holds, table_hash_bytes(hold->id.b, ID_BYTES), match_hold, &hold->id, hold);
}

void ledger_touch_hold(struct ledger *l, struct hold *hold)
{
    if (hold->touched)
        return;
    hold->touched = true;
    *(struct hold **)list_add(&l->touched_holds, sizeof(hold)) = hold;
}

void ledger_end_hold(struct ledger *l, struct hold *hold, int64_t usage)
{
    TG_ASSERT(hold->state != HOLD_ENDED);
    l->ended_key = (struct ended_key){hold->call_key, usage};
    ledger_touch_hold(l, hold);
    ledger_forget_age(l, hold);
    hold->state = HOLD_ENDED;
    table_remove(&l->holds, table_hash_bytes(hold->id.b, ID_BYTES), match_hold, &hold->id);
}

void ledger_set_key(struct ledger *l, struct id hold, int64_t row)
{
    struct hold *h = ledger_find_hold(l, hold);

    TG_ASSERT(h != NULL && h->touched && h->call_key == 0 && row > 0);
    h->call_key = row;
}

bool ledger_ended_key(struct ledger *l, struct ended_key *out)
{
    *out = l->ended_key;
    l->ended_key.row = 0;
    return out->row != 0;
}

int64_t ledger_hold_tenant(const struct ledger *l, struct id hold)
{
    const struct hold *h = ledger_find_hold(l, hold);

    return h != NULL ? h->tenant_row : 0;
}

bool ledger_in_doubt(const struct ledger *l, struct id hold)
{
    const struct hold *h = ledger_find_hold(l, hold);

    return h != NULL && h->state == HOLD_IN_DOUBT;
}

void ledger_age_hold(struct ledger *l, struct hold *hold)
{
    hold->began = clock_mono();
    hold->aged = true;
    hold->older = l->newest;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = hold;
    l->newest = hold;
}

void ledger_forget_age(struct ledger *l, struct hold *hold)
{
    if (!hold->aged)
        return;
    *(hold->older != NULL ? &hold->older->newer : &l->oldest) = hold->newer;
    *(hold->newer != NULL ? &hold->newer->older : &l->newest) = hold->older;
    hold->older = hold->newer = NULL;
    hold->aged = false;
}

size_t ledger_open_holds(const struct ledger *l)
{
    return l->holds.count;
}

bool ledger_has_holds(const struct ledger *l, bool customer, int64_t row)
{
    const struct hold *hold;
    size_t pos = 0;

    while ((hold = table_next(&l->holds, &pos)) != NULL)
        if ((customer ? hold->customer_row : hold->tenant_row) == row)
            return true;
    return false;
}

size_t ledger_overdue_holds(const struct ledger *l, int64_t before, struct id *ids, size_t cap)
{
    size_t n = 0;

    for (const struct hold *hold = l->oldest; n < cap && hold != NULL && hold->began < before; hold = hold->newer)
        ids[n++] = hold->id;
    return n;
}

/* Ids begin with the time. */
static int compare_ids(const void *a, const void *b)
{
    return memcmp(((const struct id *)a)->b, ((const struct id *)b)->b, ID_BYTES);
}

struct id *ledger_dead_holds(const struct ledger *l, size_t *n)
{
    struct id *ids = mem_alloc((l->holds.count + 1) * sizeof(*ids));
    const struct hold *hold;
    size_t pos = 0;

    *n = 0;
    while ((hold = table_next(&l->holds, &pos)) != NULL)
        if (hold->epoch != l->epoch && hold->state == HOLD_OPEN)
            ids[(*n)++] = hold->id;
    qsort(ids, *n, sizeof(*ids), compare_ids);
    return ids;
}

/* ---- the batch ---- */

void ledger_set_epoch(struct ledger *l, int64_t epoch)
{
    l->epoch = epoch;
}

enum err_code ledger_begin(struct ledger *l, int64_t now, struct err *err)
{
    bool back = now < l->latest;

    TG_ASSERT(l->touched_accounts.n == 0 && l->touched_holds.n == 0 && l->usage.n == 0);
    now -= now % 1000;
    if (now < l->last_event && now >= l->last_event - CLOCK_TOLERANCE)
        now = l->last_event;
    l->effects.now = now;
    l->back = now < l->last_event;
    l->stepped |= l->back;
    l->latest = now;
    l->first_seq = l->next_seq;
    return back ? budgets_turn_back(l, now, err) : ERR_OK;
}

int64_t ledger_now(const struct ledger *l)
{
    return l->effects.now;
}

struct rollup_probe {
    const struct ledger *ledger;
    const struct rollup_key *key;
};

static bool match_rollup(const void *item, const void *key)
{
    const struct rollup_probe *probe = key;
    const struct rollup *rollup = (const struct rollup *)probe->ledger->rollups.at + ((uintptr_t)item - 1);

    return memcmp(&rollup->key, probe->key, sizeof(rollup->key)) == 0;
}

static struct rollup *rollup_at(struct ledger *l, const struct rollup_key *key)
{
    struct rollup_probe probe = {l, key};
    uint64_t hash = table_hash_bytes(key, sizeof(*key));
    void *found = table_get(&l->rollup_index, hash, match_rollup, &probe);
    struct rollup *rollup;

    if (found != NULL)
        return (struct rollup *)l->rollups.at + ((uintptr_t)found - 1);
    rollup = list_add(&l->rollups, sizeof(*rollup));
    rollup->key = *key;
    table_put(&l->rollup_index, hash, match_rollup, &probe, (void *)(uintptr_t)l->rollups.n);
    return rollup;
}

static struct rollup *rollup_of(struct ledger *l, const struct usage_record *usage, int64_t item)
{
    struct rollup_key key = {usage->created_at / ROLLUP_MINUTE,
                             usage->call.tenant_row,
                             usage->call.customer_row,
                             usage->call.key_row,
                             item,
                             usage->call.channel_row};

    return rollup_at(l, &key);
}

void ledger_add_rollup(struct ledger *l, const struct usage_record *usage, int64_t item)
{
    struct rollup *rollup = rollup_of(l, usage, item);

    rollup_add(&rollup->sums[SUM_REQUESTS], 1);
    rollup_add(&rollup->sums[SUM_IMAGES], usage->images);
    for (int i = 0; i < ROLLUP_TOKENS; i++)
        rollup_add(&rollup->sums[SUM_TOKENS + i], usage->quantities.of[PRICE_TEXT_INPUT + i]);
    rollup_add(&rollup->sums[SUM_COST], usage->cost);
    rollup_add(&rollup->sums[SUM_WHOLESALE], usage->wholesale);
    rollup_add(&rollup->sums[SUM_RETAIL], usage->retail);
}

void ledger_add_refund(struct ledger *l, const struct usage_record *usage, int64_t item, int64_t refunded)
{
    rollup_add(&rollup_of(l, usage, item)->sums[SUM_REFUNDED], refunded);
}

/* ---- what is written ---- */

/* Slots of holds that ended go to holds that began, so that one row is written instead of one deleted and one inserted.
 */
static void assign_slots(struct ledger *l)
{
    struct hold **touched = l->touched_holds.at;
    int64_t *slot;

    for (size_t i = 0; i < l->touched_holds.n; i++) {
        if (touched[i]->slot != 0 && touched[i]->split)
            *(int64_t *)list_add(&l->unpinned, sizeof(int64_t)) = touched[i]->slot;
        if (touched[i]->state == HOLD_ENDED && touched[i]->slot != 0)
            *(int64_t *)list_add(&l->dropped, sizeof(int64_t)) = touched[i]->slot;
    }
    for (size_t i = 0; i < l->touched_holds.n; i++) {
        struct hold *hold = touched[i];
        if (hold->state == HOLD_ENDED)
            continue;
        if (hold->slot == 0 && l->dropped.n > 0)
            hold->slot = ((int64_t *)l->dropped.at)[--l->dropped.n];
        else if (hold->slot == 0 && l->free_slots.n > 0)
            hold->slot = ((int64_t *)l->free_slots.at)[--l->free_slots.n];
        else if (hold->slot == 0)
            hold->slot = l->next_slot++;
        *(struct hold **)list_add(&l->written_holds, sizeof(hold)) = hold;
    }
    for (size_t i = 0; i < l->dropped.n; i++) {
        slot = list_add(&l->free_slots, sizeof(*slot));
        *slot = ((int64_t *)l->dropped.at)[i];
    }
}

const struct effects *ledger_effects(struct ledger *l)
{
    struct effects *e = &l->effects;

    assign_slots(l);
    e->clock_step = l->back ? l->first_seq : 0; /* even without an event: budgets may have turned back */
    if (l->usage.n > 0 || l->grants.n > 0 || l->entries.n > 0) {
        l->back = false;
        l->last_event = e->now;
    }
    e->n_items = l->new_items.n;
    e->items = l->new_items.at;
    e->n_accounts = l->touched_accounts.n;
    e->accounts = l->touched_accounts.at;
    e->n_holds = l->written_holds.n;
    e->holds = l->written_holds.at;
    e->n_unpinned = l->unpinned.n;
    e->unpinned = l->unpinned.at;
    e->n_dropped = l->dropped.n;
    e->dropped = l->dropped.at;
    e->n_usage = l->usage.n;
    e->usage = l->usage.at;
    e->n_transfers = l->transfers.n;
    e->transfers = l->transfers.at;
    e->n_grants = l->grants.n;
    e->grants = l->grants.at;
    e->n_lots = l->touched_lots.n;
    e->lots = l->touched_lots.at;
    e->n_entries = l->entries.n;
    e->entries = l->entries.at;
    e->n_refunds = l->refunds.n;
    e->refunds = l->refunds.at;
    e->n_rollups = l->rollups.n;
    e->rollups = l->rollups.at;
    e->n_cell_drops = l->cell_drops.n;
    e->cell_drops = l->cell_drops.at;
    e->n_cells = l->cells.n;
    e->cells = l->cells.at;
    if (l->chained)
        *(struct chain *)list_add(&l->links, sizeof(struct chain)) = l->chain;
    e->n_links = l->links.n;
    e->links = l->links.at;
    return e;
}

static void settle_holds(struct ledger *l)
{
    struct hold **holds = l->touched_holds.at;

    for (size_t i = 0; i < l->touched_holds.n; i++) {
        holds[i]->touched = false;
        if (holds[i]->state == HOLD_ENDED)
            free_hold(holds[i]);
    }
}

static void settle_lots(struct ledger *l)
{
    struct lot **lots = l->touched_lots.at;

    for (size_t i = 0; i < l->touched_lots.n; i++) {
        lots[i]->touched = false;
        if (lots[i]->remaining == 0)
            ledger_drop_lot(l, lots[i]);
    }
}

void ledger_settle(struct ledger *l)
{
    struct account **accounts = l->touched_accounts.at;
    struct cell_row *cells = l->cells.at;

    for (size_t i = 0; i < l->touched_accounts.n; i++)
        accounts[i]->touched = false;
    for (size_t i = 0; i < l->cells.n; i++)
        cells[i].cell->touched = false;
    settle_holds(l);
    settle_lots(l);
    l->chained = false;
    for (size_t i = BATCH_LISTS; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_at(l, i)->n = 0;
    if (l->rollup_index.count > 0) {
        memset(l->rollup_index.slots, 0, l->rollup_index.cap * sizeof(l->rollup_index.slots[0]));
        l->rollup_index.count = 0;
    }
}
