/* ledger_wallet.c - wallets: lots of credit in the order of their use, and the money of no lot.
 *
 *   lot:  LIVE --expires_at--> LAPSED      remaining falls to what holds keep, then to 0 as they end
 *          '-----withdraw----> WITHDRAWN   (ledger_credit.c moves what leaves)
 *
 * Invariants
 *  (1) posted = base + sum of remaining; held = base_held + sum of held, in every wallet.
 *  (2) 0 <= held <= remaining <= amount in every lot; held = the sum of the pins on it.
 *  (3) base - base_held + credit limit >= 0: whatever happens to lots, what was drawn on credit stays within its line.
 *  (4) A lot is in memory while something remains of it (and in the batch in which nothing is left); `expiry` has the
 * live ones that expire. */
#include "ledger_state.h"

#include <stdlib.h>

enum { LOTS_FIRST = 4, PINS_FIRST = 4 };

/* ---- wallets ---- */

struct wallet_lots *wallet_of(struct account *account)
{
    if (account->wallet == NULL)
        account->wallet = mem_zalloc(sizeof(*account->wallet));
    return account->wallet;
}

void wallet_destroy(struct wallet_lots *w)
{
    if (w == NULL)
        return;
    free(w->lots);
    free(w);
}

__int128 wallet_available(const struct account *account)
{
    return (__int128)account->posted - account->held + account->credit_limit;
}

bool wallet_within_credit(const struct account *account, int64_t credit_limit)
{
    const struct wallet_lots *w = account->wallet;

    return w == NULL || (__int128)w->base - w->base_held + credit_limit >= 0;
}

bool ledger_within_credit(const struct ledger *l, enum account_kind kind, int64_t owner, int64_t credit_limit)
{
    const struct account *account = ledger_find_account(l, kind, owner);

    return account == NULL || wallet_within_credit(account, credit_limit);
}

int wallet_lots(const struct account *account)
{
    const struct wallet_lots *w = account->wallet;
    int n = 0;

    for (int i = 0; w != NULL && i < w->n; i++)
        n += w->lots[i]->remaining > 0;
    return n;
}

/* ---- lots ---- */

static bool match_lot(const void *item, const void *key)
{
    return ((const struct lot *)item)->seq == *(const int64_t *)key;
}

struct lot *ledger_find_lot(const struct ledger *l, int64_t seq)
{
    return table_get(&l->lots, table_hash_u64((uint64_t)seq), match_lot, &seq);
}

static int compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Below 0: <a> is used before <b>. */
static int compare_use(const struct lot *a, const struct lot *b)
{
    int order = compare(a->priority, b->priority);

    if (order == 0)
        order = compare(a->expires_at != 0 ? a->expires_at : INT64_MAX, b->expires_at != 0 ? b->expires_at : INT64_MAX);
    if (order == 0)
        order = (b->category == CREDIT_PROMOTIONAL) - (a->category == CREDIT_PROMOTIONAL);
    return order != 0 ? order : compare(a->seq, b->seq);
}

static void insert_lot(struct wallet_lots *w, struct lot *lot)
{
    int place = w->n;

    if (w->n == w->cap) {
        w->cap = w->cap != 0 ? w->cap * 2 : LOTS_FIRST;
        w->lots = mem_realloc(w->lots, (size_t)w->cap * sizeof(w->lots[0]));
    }
    while (place > 0 && compare_use(lot, w->lots[place - 1]) < 0) {
        w->lots[place] = w->lots[place - 1];
        place--;
    }
    w->lots[place] = lot;
    w->n++;
}

int64_t lot_free(const struct lot *lot)
{
    return lot->remaining - lot->held;
}

void ledger_touch_lot(struct ledger *l, struct lot *lot)
{
    if (lot->touched)
        return;
    lot->touched = true;
    *(struct lot **)list_add(&l->touched_lots, sizeof(lot)) = lot;
}

void ledger_lot_due(struct ledger *l, struct lot *lot)
{
    if (lot->due || lot->status == GRANT_LIVE || lot_free(lot) == 0)
        return;
    lot->due = true;
    *(struct lot **)list_add(&l->due, sizeof(lot)) = lot;
}

/* ---- expiry: a heap, the earliest on top ---- */

static bool expires_before(const struct lot *a, const struct lot *b)
{
    return a->expires_at != b->expires_at ? a->expires_at < b->expires_at : a->seq < b->seq;
}

static struct lot **heap_of(const struct ledger *l)
{
    return l->expiry.at;
}

static void heap_set(struct lot **heap, size_t place, struct lot *lot)
{
    heap[place] = lot;
    lot->heap_place = place + 1;
}

static void sift_up(struct lot **heap, size_t place)
{
    struct lot *lot = heap[place];

    while (place > 0 && expires_before(lot, heap[(place - 1) / 2])) {
        heap_set(heap, place, heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_set(heap, place, lot);
}

static void sift_down(struct lot **heap, size_t n, size_t place)
{
    struct lot *lot = heap[place];
    size_t child;

    while ((child = 2 * place + 1) < n) {
        if (child + 1 < n && expires_before(heap[child + 1], heap[child]))
            child++;
        if (!expires_before(heap[child], lot))
            break;
        heap_set(heap, place, heap[child]);
        place = child;
    }
    heap_set(heap, place, lot);
}

struct lot *ledger_next_expiry(const struct ledger *l)
{
    return l->expiry.n > 0 ? heap_of(l)[0] : NULL;
}

void ledger_forget_expiry(struct ledger *l, struct lot *lot)
{
    struct lot **heap = heap_of(l);
    size_t place = lot->heap_place;
    struct lot *last;

    if (place == 0)
        return;
    lot->heap_place = 0;
    last = heap[--l->expiry.n];
    if (last == lot)
        return;
    heap_set(heap, place - 1, last);
    sift_up(heap, place - 1);
    sift_down(heap, l->expiry.n, last->heap_place - 1);
}

static void await_expiry(struct ledger *l, struct lot *lot)
{
    if (lot->status != GRANT_LIVE || lot->expires_at == 0)
        return;
    *(struct lot **)list_add(&l->expiry, sizeof(lot)) = lot;
    sift_up(heap_of(l), l->expiry.n - 1);
}

/* ---- life ---- */

struct lot *ledger_add_lot(struct ledger *l, struct account *account, const struct lot *lot)
{
    struct lot *copy = mem_alloc(sizeof(*copy));

    TG_ASSERT(ledger_find_lot(l, lot->seq) == NULL);
    *copy = *lot;
    copy->account = account;
    copy->touched = copy->due = false;
    copy->heap_place = 0;
    table_put(&l->lots, table_hash_u64((uint64_t)copy->seq), match_lot, &copy->seq, copy);
    insert_lot(wallet_of(account), copy);
    await_expiry(l, copy);
    return copy;
}

void ledger_drop_lot(struct ledger *l, struct lot *lot)
{
    struct wallet_lots *w = lot->account->wallet;
    int place = 0;

    TG_ASSERT(lot->remaining == 0 && lot->held == 0 && !lot->due);
    while (w->lots[place] != lot)
        place++;
    w->n--;
    memmove(&w->lots[place], &w->lots[place + 1], (size_t)(w->n - place) * sizeof(w->lots[0]));
    ledger_forget_expiry(l, lot);
    table_remove(&l->lots, table_hash_u64((uint64_t)lot->seq), match_lot, &lot->seq);
    free(lot);
}

/* ---- pins ---- */

void pins_add(struct pins *pins, struct lot *lot, int64_t amount)
{
    struct pin *many = pins->n > 1 ? pins->many : NULL;

    if (pins->n == 1 || (pins->n >= PINS_FIRST && (pins->n & (pins->n - 1)) == 0)) /* room for a power of two */
        pins->many = mem_realloc(many, sizeof(many[0]) * (size_t)(pins->n == 1 ? PINS_FIRST : 2 * pins->n));
    if (pins->n == 1)
        pins->many[0] = pins->one;
    TG_ASSERT(amount > 0 && pins->n <= STORE_LOTS);
    *(pins->n == 0 ? &pins->one : &pins->many[pins->n]) = (struct pin){lot, amount};
    pins->n++;
}

const struct pin *pins_at(const struct pins *pins, int i)
{
    return pins->n > 1 ? &pins->many[i] : &pins->one;
}

void pins_dispose(struct pins *pins)
{
    if (pins->n > 1)
        free(pins->many);
    pins->n = 0;
}

void wallet_take_pins(struct account *account, int64_t amount, struct pins *pins)
{
    struct wallet_lots *w = wallet_of(account);

    for (int i = 0; amount > 0 && i < w->n; i++) {
        struct lot *lot = w->lots[i];
        int64_t part = lot->status == GRANT_LIVE ? lot_free(lot) : 0;

        if (part > amount)
            part = amount;
        if (part == 0)
            continue;
        lot->held += part;
        pins_add(pins, lot, part);
        amount -= part;
    }
    if (amount == 0)
        return;
    w->base_held += amount;
    pins_add(pins, NULL, amount);
    TG_ASSERT(wallet_within_credit(account, account->credit_limit));
}

void ledger_give_pins(struct ledger *l, struct account *account, struct pins *pins)
{
    for (int i = 0; i < pins->n; i++) {
        const struct pin *pin = pins_at(pins, i);

        *(pin->lot != NULL ? &pin->lot->held : &account->wallet->base_held) -= pin->amount;
        if (pin->lot != NULL) {
            TG_ASSERT(pin->lot->held >= 0);
            ledger_lot_due(l, pin->lot);
        }
    }
    pins_dispose(pins);
}

/* ---- taking ---- */

static int64_t smaller(__int128 a, int64_t b)
{
    return a < b ? (int64_t)a : b;
}

/* Adds to what the plan takes from this lot already, if it does. */
static void plan_more(struct plan *plan, int from, enum transfer_kind kind, struct account *debit,
                      struct account *credit, int64_t amount, struct lot *lot)
{
    for (int i = from; i < plan->n; i++)
        if (plan->rows[i].lot == lot) {
            plan->rows[i].amount += amount;
            plan->total += amount;
            return;
        }
    plan_add(plan, kind, debit, credit, amount, lot);
}

int64_t wallet_plan_take(struct account *account, const struct pins *pins, int64_t amount, enum transfer_kind kind,
                         struct account *credit, struct plan *plan)
{
    const struct wallet_lots *w = wallet_of(account);
    int64_t left = amount, base_pin = 0, part;
    int from = plan->n;

    for (int i = 0; pins != NULL && i < pins->n; i++) {
        const struct pin *pin = pins_at(pins, i);

        if (pin->lot == NULL) {
            base_pin = pin->amount;
            continue;
        }
        part = smaller(pin->amount, left);
        plan_add(plan, kind, account, credit, part, pin->lot);
        left -= part;
    }
    for (int i = 0; left > 0 && i < w->n; i++) {
        if (w->lots[i]->status != GRANT_LIVE)
            continue;
        part = smaller(lot_free(w->lots[i]), left);
        if (part > 0)
            plan_more(plan, from, kind, account, credit, part, w->lots[i]);
        left -= part;
    }
    part = smaller((__int128)w->base - w->base_held + base_pin + account->credit_limit, left);
    TG_ASSERT(part >= 0);
    plan_add(plan, kind, account, credit, part, NULL);
    return amount - (left - part);
}
