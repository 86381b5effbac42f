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

static void list_dispose(struct list *list)
{
    free(list->at);
    *list = (struct list){NULL, 0, 0};
}

/* ---- life ---- */

struct ledger *ledger_create(void)
{
    struct ledger *l = mem_zalloc(sizeof(*l));

    table_init(&l->accounts);
    table_init(&l->holds);
    table_init(&l->items);
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

void ledger_destroy(struct ledger *l)
{
    if (l == NULL)
        return;
    ledger_settle(l); /* frees holds that ended in a batch that never became durable */
    table_free_items(&l->accounts);
    table_free_items(&l->holds);
    table_free_items(&l->items);
    table_dispose(&l->rollup_index);
    list_dispose(&l->item_rows);
    list_dispose(&l->free_slots);
    list_dispose(&l->new_items);
    list_dispose(&l->touched_accounts);
    list_dispose(&l->touched_holds);
    list_dispose(&l->written_holds);
    list_dispose(&l->dropped);
    list_dispose(&l->usage);
    list_dispose(&l->transfers);
    list_dispose(&l->grants);
    list_dispose(&l->rollups);
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

void ledger_load_account(struct ledger *l, int64_t number, int64_t posted, int64_t held)
{
    struct account *account = account_at(l, number);

    account->posted = posted;
    account->held = held;
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
        return (struct store_balance){0, 0, 0};
    return (struct store_balance){account->posted, account->held, account->credit_limit};
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

bool ledger_in_doubt(const struct ledger *l, struct id hold)
{
    const struct hold *h = ledger_find_hold(l, hold);

    return h != NULL && h->state == HOLD_IN_DOUBT;
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
    ledger_add_hold(l, copy);
    if (hold->slot >= l->next_slot)
        l->next_slot = hold->slot + 1;
    return true;
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

size_t ledger_dead_holds(const struct ledger *l, struct id *ids, size_t cap)
{
    const struct hold *hold;
    size_t pos = 0, n = 0;

    while (n < cap && (hold = table_next(&l->holds, &pos)) != NULL)
        if (hold->epoch != l->epoch && hold->state == HOLD_OPEN)
            ids[n++] = hold->id;
    return n;
}

/* ---- items ---- */

struct item_key {
    struct slice model, size, quality;
    enum image_operation operation;
};

static bool match_item(const void *item, const void *key)
{
    const struct item *a = item;
    const struct item_key *b = key;

    return a->operation == b->operation && slice_eq_str(b->model, a->model) && slice_eq_str(b->size, a->size) &&
           slice_eq_str(b->quality, a->quality);
}

static uint64_t hash_item(const struct item_key *key)
{
    uint64_t hash = table_hash_bytes(key->model.p, key->model.len);

    hash = table_hash_u64(hash ^ table_hash_bytes(key->size.p, key->size.len));
    hash = table_hash_u64(hash ^ table_hash_bytes(key->quality.p, key->quality.len));
    return table_hash_u64(hash ^ (uint64_t)key->operation);
}

static const char *pack_text(char **at, struct slice text)
{
    char *start = *at;

    if (text.len != 0)
        memcpy(start, text.p, text.len);
    start[text.len] = '\0';
    *at = start + text.len + 1;
    return start;
}

static struct item *add_item(struct ledger *l, const struct item_key *key, int64_t row)
{
    struct item *item = mem_alloc(sizeof(*item) + key->model.len + key->size.len + key->quality.len + 3);
    char *at = (char *)(item + 1);

    TG_ASSERT(row == (int64_t)l->item_rows.n + 1);
    item->row = row;
    item->operation = key->operation;
    item->model = pack_text(&at, key->model);
    item->size = pack_text(&at, key->size);
    item->quality = pack_text(&at, key->quality);
    table_put(&l->items, hash_item(key), match_item, key, item);
    *(struct item **)list_add(&l->item_rows, sizeof(item)) = item;
    return item;
}

int64_t ledger_item(struct ledger *l, const struct store_call *call)
{
    struct item_key key = {slice_from(call->model), slice_from(call->size), slice_from(call->quality), call->operation};
    struct item *item = table_get(&l->items, hash_item(&key), match_item, &key);

    if (item == NULL && l->item_rows.n >= LEDGER_ITEMS) {
        /* Models are bounded by the price books; sizes and qualities come from strangers. */
        key.size = key.quality = SLICE("other");
        item = table_get(&l->items, hash_item(&key), match_item, &key);
    }
    if (item == NULL) {
        item = add_item(l, &key, (int64_t)l->item_rows.n + 1);
        *(struct item **)list_add(&l->new_items, sizeof(item)) = item;
    }
    return item->row;
}

const struct item *ledger_item_at(const struct ledger *l, int64_t row)
{
    TG_ASSERT(row >= 1 && (size_t)row <= l->item_rows.n);
    return ((struct item **)l->item_rows.at)[row - 1];
}

bool ledger_load_item(struct ledger *l, int64_t row, const char *model, enum image_operation operation,
                      const char *size, const char *quality)
{
    struct item_key key = {slice_from(model), slice_from(size), slice_from(quality), operation};

    if (row != (int64_t)l->item_rows.n + 1)
        return false;
    add_item(l, &key, row);
    return true;
}

/* ---- the batch ---- */

void ledger_load_events(struct ledger *l, int64_t last_seq, int64_t last_created_at)
{
    l->next_seq = last_seq + 1;
    l->last_event = last_created_at;
}

void ledger_set_epoch(struct ledger *l, int64_t epoch)
{
    l->epoch = epoch;
}

void ledger_begin(struct ledger *l, int64_t now)
{
    TG_ASSERT(l->touched_accounts.n == 0 && l->touched_holds.n == 0 && l->usage.n == 0);
    now -= now % 1000;
    if (now < l->last_event && now >= l->last_event - CLOCK_TOLERANCE)
        now = l->last_event;
    l->effects.now = now;
    l->effects.clock_step = now < l->last_event ? l->next_seq : 0;
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

void ledger_add_rollup(struct ledger *l, const struct usage_record *usage, int64_t item)
{
    struct rollup_key key = {usage->created_at / (3600 * CLOCK_SECOND),
                             usage->call.tenant_row,
                             usage->call.customer_row,
                             usage->call.key_row,
                             item,
                             usage->call.channel_row};
    struct rollup *rollup = rollup_at(l, &key);

    rollup->requests++;
    rollup->images += usage->images;
    for (int i = 0; i < ROLLUP_TOKENS; i++)
        rollup->tokens[i] += usage->quantities.of[PRICE_TEXT_INPUT + i];
    rollup->cost += usage->cost;
    rollup->wholesale += usage->wholesale;
    rollup->retail += usage->retail;
    rollup->refunded += usage->refunded;
}

/* Slots of holds that ended go to holds that began, so that one row is written instead of one deleted and one inserted.
 */
static void assign_slots(struct ledger *l)
{
    struct hold **touched = l->touched_holds.at;
    int64_t *slot;

    for (size_t i = 0; i < l->touched_holds.n; i++)
        if (touched[i]->state == HOLD_ENDED && touched[i]->slot != 0)
            *(int64_t *)list_add(&l->dropped, sizeof(int64_t)) = touched[i]->slot;
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
    if (l->usage.n == 0 && l->grants.n == 0)
        e->clock_step = 0;
    else
        l->last_event = e->now;
    e->n_items = l->new_items.n;
    e->items = l->new_items.at;
    e->n_accounts = l->touched_accounts.n;
    e->accounts = l->touched_accounts.at;
    e->n_holds = l->written_holds.n;
    e->holds = l->written_holds.at;
    e->n_dropped = l->dropped.n;
    e->dropped = l->dropped.at;
    e->n_usage = l->usage.n;
    e->usage = l->usage.at;
    e->n_transfers = l->transfers.n;
    e->transfers = l->transfers.at;
    e->n_grants = l->grants.n;
    e->grants = l->grants.at;
    e->n_rollups = l->rollups.n;
    e->rollups = l->rollups.at;
    return e;
}

void ledger_settle(struct ledger *l)
{
    struct account **accounts = l->touched_accounts.at;
    struct hold **holds = l->touched_holds.at;

    for (size_t i = 0; i < l->touched_accounts.n; i++)
        accounts[i]->touched = false;
    for (size_t i = 0; i < l->touched_holds.n; i++) {
        holds[i]->touched = false;
        if (holds[i]->state == HOLD_ENDED)
            free(holds[i]);
    }
    l->new_items.n = l->touched_accounts.n = l->touched_holds.n = l->written_holds.n = l->dropped.n = 0;
    l->usage.n = l->transfers.n = l->grants.n = l->rollups.n = 0;
    if (l->rollup_index.count > 0) {
        memset(l->rollup_index.slots, 0, l->rollup_index.cap * sizeof(l->rollup_index.slots[0]));
        l->rollup_index.count = 0;
    }
}
