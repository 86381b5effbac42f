/* lib_model.c - see lib_model.h.
 *
 * Where the contract leaves something open, the model says
 *  - a charge takes from its own lots, from other lots and then from the money of no lot; what it takes from one lot is
 *    one transfer, whose place is that of the first it took;
 *  - a lot that was used up does not lapse; when a refund fills it again after its time, it lapses then;
 *  - a refund to a lot that was used up, of a wallet that has all the lots it may have, goes to the money of no lot;
 *  - a budget counts all records whose time is in its window, also those that were made before the clock fell back. */
#include "lib_model.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

enum { TOLERANCE = 1000000 }; /* microseconds by which the clock may fall back and time stands still instead */

#define MINIMUM(a, b) ((a) < (b) ? (a) : (b))

/* Room for one more in an array that grows by doubling; the new element is zeroed. */
#define APPEND(array, n)                                                                                               \
    ((array) = grow((array), (size_t)(n), sizeof(*(array))), memset(&(array)[n], 0, sizeof(*(array))), &(array)[(n)++])

static void *grow(void *array, size_t n, size_t size)
{
    if (n != 0 && (n & (n - 1)) != 0)
        return array;
    array = realloc(array, (n == 0 ? 1 : 2 * n) * size);
    TG_ASSERT(array != NULL);
    return array;
}

const char *oracle_branch_text(int branch)
{
    static const char *const texts[] = {
#define ORACLE_BRANCH(name, what) what,
        ORACLE_BRANCHES
#undef ORACLE_BRANCH
    };

    return texts[branch];
}

static void reach(struct oracle *m, enum oracle_branch branch, bool reached)
{
    m->reached[branch] += reached;
}

/* ---- life ---- */

struct oracle *oracle_create(int64_t *reached)
{
    struct oracle *m = calloc(1, sizeof(*m));

    TG_ASSERT(m != NULL);
    m->next_seq = 1;
    m->reached = reached;
    return m;
}

void oracle_destroy(struct oracle *m)
{
    for (int i = 0; i < m->n_parties; i++) {
        zone_unref(m->parties[i].zone);
        for (int k = 0; k < ORACLE_SPENDERS; k++)
            free(m->parties[i].spenders[k].spent);
    }
    for (int leg = 0; leg < STORE_LEGS; leg++) {
        for (int i = 0; i < m->n_holds; i++)
            free(m->holds[i].pins[leg].at);
        for (int i = 0; i < m->n_usage; i++)
            free(m->usage[i].parts[leg].at);
    }
    free(m->lots);
    free(m->holds);
    free(m->usage);
    free(m->keys);
    free(m->transfers);
    free(m->entries);
    free(m);
}

int oracle_add_party(struct oracle *m, int tenant, bool wallet, int64_t row, int64_t key)
{
    int i = m->n_parties++;

    TG_ASSERT(i < ORACLE_PARTIES);
    m->parties[i].customer = tenant >= 0;
    m->parties[i].tenant = tenant >= 0 ? tenant : i;
    m->parties[i].wallet = wallet;
    m->parties[i].row = row;
    m->parties[i].key = key;
    return i;
}

void oracle_set_zone(struct oracle *m, int party, struct zone *zone)
{
    reach(m, REACHED_ZONE_CHANGED, m->parties[party].zone != NULL);
    zone_unref(m->parties[party].zone);
    m->parties[party].zone = zone;
}

static int find_party(const struct oracle *m, bool customer, int64_t row)
{
    for (int i = 0; row != 0 && i < m->n_parties; i++)
        if (m->parties[i].customer == customer && m->parties[i].row == row)
            return i;
    return -1;
}

/* ---- accounts ---- */

struct oracle_account *oracle_account(struct oracle *m, int64_t number)
{
    for (int i = 0; i < m->n_accounts; i++)
        if (m->accounts[i].number == number)
            return &m->accounts[i];
    TG_ASSERT(m->n_accounts < (int)(sizeof(m->accounts) / sizeof(m->accounts[0])));
    m->accounts[m->n_accounts].number = number;
    return &m->accounts[m->n_accounts++];
}

/* The account of a party, by the name that it has for a tenant. */
static int64_t number_of(const struct oracle *m, int party, enum account_kind kind)
{
    static const enum account_kind kin[ACCOUNT_KINDS] = {
        [ACCOUNT_TENANT_WALLET] = ACCOUNT_CUSTOMER_WALLET,
        [ACCOUNT_TENANT_REVENUE] = ACCOUNT_CUSTOMER_REVENUE,
        [ACCOUNT_TENANT_RECEIVABLE] = ACCOUNT_CUSTOMER_RECEIVABLE,
        [ACCOUNT_PROMOTIONAL] = ACCOUNT_CUSTOMER_PROMOTIONAL,
        [ACCOUNT_EXTERNAL] = ACCOUNT_CUSTOMER_EXTERNAL,
        [ACCOUNT_LAPSED] = ACCOUNT_CUSTOMER_LAPSED,
    };
    const struct oracle_party *p = &m->parties[party];

    return account_number(p->customer ? kin[kind] : kind, p->row);
}

int64_t oracle_wallet_number(const struct oracle *m, int party)
{
    return number_of(m, party, ACCOUNT_TENANT_WALLET);
}

static void move(struct oracle *m, int64_t event, enum transfer_kind kind, int64_t debit, int64_t credit,
                 int64_t amount, int64_t lot)
{
    TG_ASSERT(amount >= 0);
    if (amount == 0)
        return;
    oracle_account(m, debit)->posted -= amount;
    oracle_account(m, credit)->posted += amount;
    *APPEND(m->transfers, m->n_transfers) = (struct transfer_row){event, kind, debit, credit, amount, lot};
}

static void set_aside(struct oracle *m, int party, int64_t amount)
{
    oracle_account(m, oracle_wallet_number(m, party))->held += amount;
    oracle_account(m, number_of(m, party, ACCOUNT_TENANT_REVENUE))->held -= amount;
}

void oracle_forget_transfers(struct oracle *m)
{
    m->n_transfers = m->n_entries = 0;
    free(m->transfers);
    free(m->entries);
    m->transfers = NULL;
    m->entries = NULL;
}

static int64_t next_event(struct oracle *m)
{
    reach(m, REACHED_CLOCK_BACK, m->now < m->last_event);
    m->last_event = m->now;
    return m->next_seq++;
}

static int64_t add_entry(struct oracle *m, enum entry_kind kind, int party, int64_t reference, int64_t amount)
{
    *APPEND(m->entries, m->n_entries) = (struct oracle_entry){kind, oracle_wallet_number(m, party), reference, amount};
    return next_event(m);
}

/* ---- lots ---- */

static int64_t posted(struct oracle *m, int party)
{
    return oracle_account(m, oracle_wallet_number(m, party))->posted;
}

/* The money of no lot. */
static int64_t base(struct oracle *m, int party)
{
    const struct oracle_party *p = &m->parties[party];
    int64_t sum = posted(m, party);

    for (int i = 0; i < p->n_lots; i++)
        sum -= m->lots[p->lots[i]].remaining;
    return sum;
}

static int64_t available(struct oracle *m, int party)
{
    const struct oracle_account *a = oracle_account(m, oracle_wallet_number(m, party));

    return a->posted - a->held + m->parties[party].credit_limit;
}

/* How much of the money of no lot can be had. */
static int64_t bears(struct oracle *m, int party)
{
    int64_t n = base(m, party) - m->parties[party].base_held + m->parties[party].credit_limit;

    TG_ASSERT(n >= 0);
    return n;
}

static int64_t free_of(const struct oracle_lot *lot)
{
    TG_ASSERT(lot->remaining >= lot->held && lot->held >= 0);
    return lot->remaining - lot->held;
}

static bool used_before(const struct oracle_lot *a, const struct oracle_lot *b)
{
    if (a->priority != b->priority)
        return a->priority < b->priority;
    if (a->expires_at != b->expires_at)
        return b->expires_at == 0 || (a->expires_at != 0 && a->expires_at < b->expires_at);
    if (a->category != b->category)
        return a->category == CREDIT_PROMOTIONAL;
    return a->seq < b->seq;
}

static void take_lot(struct oracle *m, int lot, int64_t amount)
{
    struct oracle_party *p = &m->parties[m->lots[lot].party];
    int i = 0;

    m->lots[lot].remaining -= amount;
    TG_ASSERT(free_of(&m->lots[lot]) >= 0);
    if (m->lots[lot].remaining > 0)
        return;
    while (p->lots[i] != lot)
        i++;
    p->n_lots--;
    memmove(&p->lots[i], &p->lots[i + 1], (size_t)(p->n_lots - i) * sizeof(p->lots[0]));
}

static void give_lot(struct oracle *m, int lot, int64_t amount)
{
    struct oracle_party *p = &m->parties[m->lots[lot].party];
    int i = 0;

    m->lots[lot].remaining += amount;
    TG_ASSERT(m->lots[lot].remaining <= m->lots[lot].amount);
    if (m->lots[lot].remaining > amount)
        return;
    TG_ASSERT(p->n_lots < STORE_LOTS);
    while (i < p->n_lots && used_before(&m->lots[p->lots[i]], &m->lots[lot]))
        i++;
    memmove(&p->lots[i + 1], &p->lots[i], (size_t)(p->n_lots - i) * sizeof(p->lots[0]));
    p->lots[i] = lot;
    p->n_lots++;
}

/* ---- lots that go ---- */

/* What is free of a lot that is gone leaves its wallet. */
static void leave(struct oracle *m, int lot)
{
    struct oracle_lot *l = &m->lots[lot];
    bool lapsed = l->status == GRANT_LAPSED;
    enum account_kind where = lapsed                              ? ACCOUNT_LAPSED
                              : l->category == CREDIT_PROMOTIONAL ? ACCOUNT_PROMOTIONAL
                                                                  : ACCOUNT_EXTERNAL;
    int64_t amount = free_of(l), event;

    if (amount == 0)
        return;
    event = add_entry(m, lapsed ? ENTRY_LAPSE : ENTRY_WITHDRAWAL, l->party, l->seq, amount);
    move(m, event, lapsed ? TRANSFER_LAPSE : TRANSFER_WITHDRAWAL, oracle_wallet_number(m, l->party),
         number_of(m, l->party, where), amount, l->seq);
    take_lot(m, lot, amount);
}

/* The lot pays what its wallet owes on the credit line. */
static void settle(struct oracle *m, int lot, enum oracle_branch branch)
{
    struct oracle_lot *l = &m->lots[lot];
    int64_t wallet = oracle_wallet_number(m, l->party), owed = -base(m, l->party);
    int64_t amount = MINIMUM(owed, free_of(l));

    if (amount <= 0)
        return;
    move(m, add_entry(m, ENTRY_SETTLEMENT, l->party, 0, amount), TRANSFER_SETTLEMENT, wallet, wallet, amount, l->seq);
    take_lot(m, lot, amount);
    reach(m, branch, true);
}

static int next_due(const struct oracle *m)
{
    int due = -1;

    for (int i = 0; i < m->n_parties; i++)
        for (int k = 0; k < m->parties[i].n_lots; k++) {
            const struct oracle_lot *l = &m->lots[m->parties[i].lots[k]], *best = due >= 0 ? &m->lots[due] : NULL;

            if (l->status == GRANT_LIVE && l->expires_at != 0 && l->expires_at <= m->now &&
                (best == NULL || l->expires_at < best->expires_at ||
                 (l->expires_at == best->expires_at && l->seq < best->seq)))
                due = m->parties[i].lots[k];
        }
    return due;
}

static void lapse(struct oracle *m)
{
    int lot;

    while ((lot = next_due(m)) >= 0) {
        reach(m, REACHED_LAPSE_HELD, m->lots[lot].held > 0);
        settle(m, lot, REACHED_LAPSE_SETTLES);
        m->lots[lot].status = GRANT_LAPSED;
        reach(m, REACHED_LAPSE, free_of(&m->lots[lot]) > 0);
        leave(m, lot);
    }
}

/* After each operation: nothing is free of a lot that is gone. */
static void finish(struct oracle *m)
{
    lapse(m);
    for (int i = 0; i < m->n_parties; i++)
        for (int k = m->parties[i].n_lots - 1; k >= 0; k--) {
            int lot = m->parties[i].lots[k];
            const struct oracle_lot *l = &m->lots[lot];

            if (l->status == GRANT_LIVE || free_of(l) == 0)
                continue;
            reach(m, l->status == GRANT_LAPSED ? REACHED_LAPSE_LATE : REACHED_WITHDRAW_LATE, true);
            leave(m, lot);
        }
}

void oracle_begin(struct oracle *m, int64_t wall)
{
    m->now = wall - wall % 1000;
    if (m->now < m->last_event && m->now >= m->last_event - TOLERANCE)
        m->now = m->last_event;
    lapse(m);
}

/* ---- credit ---- */

static void adjust(struct oracle *m, int party, const struct store_credit *op, struct oracle_answer *a)
{
    int64_t other = number_of(m, party, op->category == CREDIT_PROMOTIONAL ? ACCOUNT_PROMOTIONAL : ACCOUNT_EXTERNAL);
    int64_t wallet = oracle_wallet_number(m, party), left = -op->amount, event;
    struct oracle_party *p = &m->parties[party];
    int lots[STORE_LOTS], n = p->n_lots;

    reach(m, REACHED_ADJUST_REFUSED, available(m, party) < left);
    if (available(m, party) < left) {
        a->code = ERR_INSUFFICIENT_QUOTA;
        return;
    }
    reach(m, REACHED_ADJUSTMENT, true);
    event = add_entry(m, ENTRY_ADJUSTMENT, party, 0, left);
    memcpy(lots, p->lots, sizeof(lots));
    for (int i = 0; i < n; i++) {
        struct oracle_lot *l = &m->lots[lots[i]];
        int64_t part = l->status == GRANT_LIVE ? MINIMUM(left, free_of(l)) : 0;

        move(m, event, TRANSFER_ADJUSTMENT, wallet, other, part, l->seq);
        if (part > 0)
            take_lot(m, lots[i], part);
        left -= part;
    }
    TG_ASSERT(left <= bears(m, party));
    move(m, event, TRANSFER_ADJUSTMENT, wallet, other, left, 0);
}

void oracle_credit(struct oracle *m, const struct store_credit *op, struct oracle_answer *a)
{
    int party = op->customer_row != 0 ? find_party(m, true, op->customer_row) : find_party(m, false, op->tenant_row);
    int64_t other = number_of(m, party, op->category == CREDIT_PROMOTIONAL ? ACCOUNT_PROMOTIONAL : ACCOUNT_EXTERNAL);
    bool expired = op->expires_at != 0 && op->expires_at <= m->now, full = m->parties[party].n_lots == STORE_LOTS;
    struct oracle_lot *l;

    if (op->amount < 0) {
        adjust(m, party, op, a);
        return;
    }
    a->code = op->amount == 0 || expired ? ERR_INVALID_VALUE : full ? ERR_CONFLICT : ERR_OK;
    reach(m, REACHED_EXPIRED_GRANT, expired);
    reach(m, REACHED_LOTS_FULL, a->code == ERR_CONFLICT);
    if (a->code != ERR_OK)
        return;
    a->seq = next_event(m);
    l = APPEND(m->lots, m->n_lots);
    *l = (struct oracle_lot){.seq = a->seq,
                             .party = party,
                             .amount = op->amount,
                             .expires_at = op->expires_at,
                             .created_at = m->now,
                             .priority = op->priority,
                             .category = op->category};
    move(m, a->seq, TRANSFER_CREDIT, other, oracle_wallet_number(m, party), op->amount, a->seq);
    give_lot(m, m->n_lots - 1, op->amount);
    settle(m, m->n_lots - 1, REACHED_SETTLEMENT);
}

static int find_lot(const struct oracle *m, int64_t seq)
{
    for (int i = 0; i < m->n_lots; i++)
        if (m->lots[i].seq == seq)
            return i;
    return -1;
}

void oracle_withdraw(struct oracle *m, const struct store_withdraw *op, struct oracle_answer *a)
{
    int lot = find_lot(m, op->seq);

    a->code = lot < 0 ? ERR_NOT_FOUND : m->lots[lot].status != GRANT_LIVE ? ERR_CONFLICT : ERR_OK;
    reach(m, REACHED_WITHDRAW_GONE, a->code == ERR_CONFLICT);
    if (a->code != ERR_OK)
        return;
    reach(m, REACHED_WITHDRAW_HELD, m->lots[lot].held > 0);
    reach(m, REACHED_WITHDRAW_EMPTY, m->lots[lot].remaining == 0);
    m->lots[lot].status = GRANT_WITHDRAWN;
    leave(m, lot);
    a->lot = m->lots[lot];
}

enum err_code oracle_put_owner(struct oracle *m, int party, int64_t credit_limit, const struct budget_list *budgets)
{
    struct oracle_party *p = &m->parties[party];

    if (p->wallet && base(m, party) - p->base_held + credit_limit < 0) {
        reach(m, REACHED_LINE_REFUSED, true);
        return ERR_CONFLICT;
    }
    p->credit_limit = credit_limit;
    p->spenders[ORACLE_OWNER].budgets = *budgets;
    return ERR_OK;
}

void oracle_put_key(struct oracle *m, int party, const struct budget_list *budgets)
{
    m->parties[party].spenders[ORACLE_KEY].budgets = *budgets;
}

/* ---- budgets ---- */

struct budget_owner oracle_owner(const struct oracle *m, int party, int spender)
{
    const struct oracle_party *p = &m->parties[party];

    return (struct budget_owner){.kind = spender == ORACLE_KEY ? BUDGET_KEY
                                         : p->customer         ? BUDGET_CUSTOMER
                                                               : BUDGET_TENANT,
                                 .row = spender == ORACLE_KEY ? p->key : p->row,
                                 .tenant_row = m->parties[p->tenant].row,
                                 .retail = p->customer};
}

int64_t oracle_used(const struct oracle *m, int party, int spender, int64_t window)
{
    const struct zone *zone = m->parties[m->parties[party].tenant].zone;
    const struct oracle_spender *s = &m->parties[party].spenders[spender];
    int64_t from = budget_counts_from(window, zone, m->now), to = budget_cell_at(window, zone, m->now).end, used = 0;

    for (int i = 0; i < s->n_spent; i++)
        if (s->spent[i].created_at >= from && s->spent[i].created_at < to)
            used += s->spent[i].amount;
    return used;
}

/* Whether the worst case of a hold counts for this spender. */
static bool counts_for(const struct oracle_hold *h, int party, int spender)
{
    if (h->test)
        return false;
    return spender == ORACLE_KEY ? h->key == party : h->tenant == party || h->customer == party;
}

static int64_t held_for(const struct oracle *m, int party, int spender)
{
    bool retail = m->parties[party].customer;
    int64_t held = 0;

    for (int i = 0; i < m->n_holds; i++)
        if (counts_for(&m->holds[i], party, spender))
            held += retail ? m->holds[i].retail_max : m->holds[i].wholesale_max;
    return held;
}

static void note_turn(struct oracle *m, struct oracle_spender *s, int i, int64_t window, int64_t used)
{
    bool turned = m->now > s->looked_at[i] && used < s->seen[i];

    reach(m, REACHED_TURN_DAY, turned && window == BUDGET_DAY);
    reach(m, REACHED_TURN_WEEK, turned && window == BUDGET_WEEK);
    reach(m, REACHED_TURN_MONTH, turned && window == BUDGET_MONTH);
    reach(m, REACHED_TURN_ROLLING, turned && window > 0);
    s->looked_at[i] = m->now;
    s->seen[i] = used;
}

static bool budgets_refuse(struct oracle *m, int party, int spender, int64_t amount, struct oracle_answer *a)
{
    struct oracle_spender *s = &m->parties[party].spenders[spender];
    int64_t held = s->budgets.n > 0 ? held_for(m, party, spender) : 0;

    for (int i = 0; i < s->budgets.n; i++) {
        const struct budget *b = &s->budgets.of[i];
        int64_t used = oracle_used(m, party, spender, b->window);

        note_turn(m, s, i, b->window, used);
        if (used + held + amount <= b->amount)
            continue;
        reach(m, REACHED_BUDGET_HELD, used + amount <= b->amount);
        reach(m, REACHED_LIFETIME, b->window == BUDGET_LIFETIME);
        a->code = ERR_INSUFFICIENT_QUOTA;
        a->window = b->window;
        a->resets_at = budget_resets_at(b->window, m->parties[m->parties[party].tenant].zone, m->now);
        return true;
    }
    return false;
}

static int64_t room_of(const struct oracle *m, int party, int spender, int64_t top)
{
    const struct budget_list *list = &m->parties[party].spenders[spender].budgets;
    int64_t held = list->n > 0 ? held_for(m, party, spender) : 0;

    for (int i = 0; i < list->n; i++) {
        int64_t room = list->of[i].amount - oracle_used(m, party, spender, list->of[i].window) - held;

        top = MINIMUM(top, room);
    }
    return top;
}

int64_t oracle_room(const struct oracle *m, int party, int64_t top)
{
    top = room_of(m, party, ORACLE_KEY, top);
    top = room_of(m, party, ORACLE_OWNER, top);
    return room_of(m, m->parties[party].tenant, ORACLE_OWNER, top);
}

static bool any_budget_refuses(struct oracle *m, const struct oracle_hold *h, struct oracle_answer *a)
{
    int64_t at_key = m->parties[h->key].customer ? h->retail_max : h->wholesale_max;

    if (h->test)
        return false;
    if (budgets_refuse(m, h->key, ORACLE_KEY, at_key, a))
        a->owner = "key";
    else if (h->customer >= 0 && budgets_refuse(m, h->customer, ORACLE_OWNER, h->retail_max, a))
        a->owner = "customer";
    else if (budgets_refuse(m, h->tenant, ORACLE_OWNER, h->wholesale_max, a))
        a->owner = "tenant";
    reach(m, REACHED_BUDGET_KEY, a->owner != NULL && a->owner[0] == 'k');
    reach(m, REACHED_BUDGET_CUSTOMER, a->owner != NULL && a->owner[0] == 'c');
    reach(m, REACHED_BUDGET_TENANT, a->owner != NULL && a->owner[0] == 't');
    return a->owner != NULL;
}

static void add_spent(struct oracle *m, int party, int spender, int64_t amount)
{
    struct oracle_spender *s = &m->parties[party].spenders[spender];

    *APPEND(s->spent, s->n_spent) = (struct oracle_spent){m->now, amount};
}

/* ---- idempotency keys ---- */

static int key_of(struct oracle *m, const struct store_hold *op)
{
    struct oracle_key *key;

    if (op->idempotency_key.len == 0)
        return -1;
    for (int i = 0; i < m->n_keys; i++)
        if (m->keys[i].api_key == op->call.key_row && slice_eq_str(op->idempotency_key, m->keys[i].text))
            return i;
    key = APPEND(m->keys, m->n_keys);
    key->api_key = op->call.key_row;
    (void)slice_copy(op->idempotency_key, key->text, sizeof(key->text));
    return m->n_keys - 1;
}

/* Whether a call has the key. */
static bool key_taken(struct oracle *m, int place, const struct store_hold *op, struct oracle_answer *a)
{
    const struct oracle_key *key;

    if (place < 0 || id_is_zero(m->keys[place].request))
        return false;
    key = &m->keys[place];
    if (key->usage != 0 && key->ended < m->now - m->keep) {
        reach(m, REACHED_KEY_FORGOTTEN, true);
        return false;
    }
    a->request = key->request;
    a->usage = key->usage_id;
    a->code = key->fingerprint != op->fingerprint[0] ? ERR_IDEMPOTENCY_REUSED
              : key->usage != 0                      ? ERR_IDEMPOTENCY_DONE
                                                     : ERR_IDEMPOTENCY_RUNNING;
    reach(m, REACHED_KEY_REUSED, a->code == ERR_IDEMPOTENCY_REUSED);
    reach(m, REACHED_KEY_DONE, a->code == ERR_IDEMPOTENCY_DONE);
    reach(m, REACHED_KEY_RUNNING, a->code == ERR_IDEMPOTENCY_RUNNING);
    return true;
}

static void take_key(struct oracle *m, int place, const struct store_hold *op)
{
    struct oracle_key *key;

    if (place < 0)
        return;
    key = &m->keys[place];
    key->request = op->id;
    key->fingerprint = op->fingerprint[0];
    key->usage = key->ended = 0;
    memset(&key->usage_id, 0, sizeof(key->usage_id));
}

/* The hold that has the key ended: with a record, or without (seq 0). */
static void end_key(struct oracle *m, int place, int64_t seq)
{
    struct oracle_key *key;

    if (place < 0)
        return;
    key = &m->keys[place];
    key->usage = seq;
    key->ended = m->now;
    if (seq != 0) {
        key->usage_id = id_from_seq(m->now, seq);
        return;
    }
    memset(&key->request, 0, sizeof(key->request));
    reach(m, REACHED_KEY_FREED, true);
}

/* ---- holds ---- */

struct oracle_hold *oracle_find_hold(struct oracle *m, struct id id)
{
    for (int i = m->n_holds - 1; i >= 0; i--)
        if (id_eq(m->holds[i].id, id))
            return &m->holds[i];
    return NULL;
}

static int leg_party(const struct oracle_hold *h, int leg)
{
    return leg == 0 ? h->tenant : h->customer;
}

static void pin(struct oracle *m, struct oracle_hold *h, int leg)
{
    int party = leg_party(h, leg), lots = 0;
    struct oracle_party *p = &m->parties[party];
    struct oracle_parts *pins = &h->pins[leg];
    int64_t left = h->legs[leg];

    for (int i = 0; i < p->n_lots && left > 0; i++) {
        struct oracle_lot *l = &m->lots[p->lots[i]];
        int64_t part = l->status == GRANT_LIVE ? MINIMUM(left, free_of(l)) : 0;

        if (part == 0)
            continue;
        *APPEND(pins->at, pins->n) = (struct oracle_part){p->lots[i], part};
        l->held += part;
        left -= part;
        lots++;
    }
    TG_ASSERT(left <= bears(m, party));
    if (left > 0)
        *APPEND(pins->at, pins->n) = (struct oracle_part){ORACLE_BASE, left};
    p->base_held += left;
    set_aside(m, party, h->legs[leg]);
    reach(m, REACHED_HOLD_LOTS_AND_BASE, lots > 1 && left > 0);
}

static void give_pins_back(struct oracle *m, struct oracle_hold *h)
{
    for (int leg = 0; leg < h->n_legs; leg++) {
        int party = leg_party(h, leg);

        for (int i = 0; i < h->pins[leg].n; i++) {
            const struct oracle_part *p = &h->pins[leg].at[i];

            *(p->lot == ORACLE_BASE ? &m->parties[party].base_held : &m->lots[p->lot].held) -= p->amount;
        }
        set_aside(m, party, -h->legs[leg]);
    }
}

static void forget_hold(struct oracle *m, struct oracle_hold *h)
{
    int place = (int)(h - m->holds);

    free(h->pins[0].at);
    free(h->pins[1].at);
    m->n_holds--;
    memmove(h, h + 1, (size_t)(m->n_holds - place) * sizeof(*h));
}

void oracle_hold(struct oracle *m, const struct store_hold *op, struct oracle_answer *a)
{
    struct oracle_hold h = {.id = op->id,
                            .test = op->call.test,
                            .tenant = find_party(m, false, op->call.tenant_row),
                            .customer = find_party(m, true, op->call.customer_row),
                            .n_legs = op->n_legs,
                            .cost_max = op->cost_max,
                            .wholesale_max = op->wholesale_max,
                            .retail_max = op->retail_max,
                            .rule = op->rule,
                            .channel = op->call.channel_row,
                            .call_key = key_of(m, op)};

    h.key = h.customer >= 0 ? h.customer : h.tenant;
    if (key_taken(m, h.call_key, op, a))
        return;
    if (oracle_find_hold(m, op->id) != NULL) {
        a->code = ERR_CONFLICT;
        return;
    }
    for (int i = 0; i < h.n_legs; i++) {
        h.legs[i] = op->legs[i].amount;
        if (available(m, leg_party(&h, i)) < h.legs[i]) {
            a->code = ERR_INSUFFICIENT_QUOTA;
            reach(m, i == 0 ? REACHED_NO_FUNDS_TENANT : REACHED_NO_FUNDS_CUSTOMER, true);
            return;
        }
    }
    if (any_budget_refuses(m, &h, a))
        return;
    for (int i = 0; i < h.n_legs; i++)
        pin(m, &h, i);
    take_key(m, h.call_key, op);
    *APPEND(m->holds, m->n_holds) = h;
}

void oracle_void(struct oracle *m, const struct store_void *op, struct oracle_answer *a)
{
    struct oracle_hold *h = oracle_find_hold(m, op->hold);

    if (h == NULL) {
        a->code = ERR_NOT_FOUND;
        return;
    }
    give_pins_back(m, h);
    end_key(m, h->call_key, 0);
    forget_hold(m, h);
    finish(m);
}

/* ---- charges ---- */

struct charging {
    struct oracle_usage *usage;
    int leg, party, lots;
};

static void charge_part(struct oracle_usage *usage, int leg, int lot, int64_t amount)
{
    struct oracle_parts *parts = &usage->parts[leg];

    for (int i = 0; i < parts->n; i++)
        if (parts->at[i].lot == lot) {
            parts->at[i].amount += amount;
            return;
        }
    if (amount > 0)
        *APPEND(parts->at, parts->n) = (struct oracle_part){lot, amount};
}

static void move_charge(struct oracle *m, const struct oracle_usage *usage, int leg, int party)
{
    const struct oracle_parts *parts = &usage->parts[leg];

    for (int i = 0; i < parts->n; i++) {
        bool overage = parts->at[i].lot == ORACLE_OVERAGE;
        enum transfer_kind kind = overage ? (leg == 0 ? TRANSFER_OVERAGE : TRANSFER_RETAIL_OVERAGE)
                                          : (leg == 0 ? TRANSFER_CHARGE : TRANSFER_RETAIL_CHARGE);
        int lot = parts->at[i].lot;

        move(m, usage->seq, kind, number_of(m, party, overage ? ACCOUNT_TENANT_RECEIVABLE : ACCOUNT_TENANT_WALLET),
             number_of(m, party, ACCOUNT_TENANT_REVENUE), parts->at[i].amount, lot >= 0 ? m->lots[lot].seq : 0);
        reach(m, REACHED_CHARGE_LAPSED, lot >= 0 && m->lots[lot].status == GRANT_LAPSED);
    }
    reach(m, REACHED_CHARGE_LOTS, parts->n > 1 && parts->at[1].lot >= 0);
}

/* Takes a charge from the wallet of a leg, whose pins were given back; returns what it bore. */
static int64_t charge(struct oracle *m, const struct oracle_hold *h, struct oracle_usage *usage, int leg,
                      int64_t amount)
{
    int party = leg_party(h, leg), lots[STORE_LOTS], n;
    int64_t left = amount, of_no_lot = bears(m, party), part;

    for (int i = 0; i < h->pins[leg].n; i++)
        if (h->pins[leg].at[i].lot >= 0) {
            part = MINIMUM(left, h->pins[leg].at[i].amount);
            charge_part(usage, leg, h->pins[leg].at[i].lot, part);
            take_lot(m, h->pins[leg].at[i].lot, part);
            left -= part;
        }
    n = m->parties[party].n_lots;
    memcpy(lots, m->parties[party].lots, sizeof(lots));
    for (int i = 0; i < n; i++)
        if (m->lots[lots[i]].status == GRANT_LIVE) {
            part = MINIMUM(left, free_of(&m->lots[lots[i]]));
            charge_part(usage, leg, lots[i], part);
            take_lot(m, lots[i], part);
            left -= part;
        }
    part = MINIMUM(left, of_no_lot);
    charge_part(usage, leg, ORACLE_BASE, part);
    left -= part;
    charge_part(usage, leg, ORACLE_OVERAGE, left);
    move_charge(m, usage, leg, party);
    reach(m, REACHED_CHARGE_LINE, part > 0 && base(m, party) < 0);
    reach(m, REACHED_RECEIVABLE, left > 0);
    return amount - left;
}

/* What a hold ends with. */
struct ending {
    int64_t charges[STORE_LEGS], cost, wholesale, retail;
    enum transfer_kind cost_kind; /* TRANSFER_COST, TRANSFER_LOSS */
    unsigned flags;
    int64_t channel; /* 0: the hold's */
};

static void count_usage(struct oracle *m, const struct oracle_usage *u)
{
    if ((u->flags & USAGE_TEST) != 0)
        return;
    add_spent(m, u->tenant, ORACLE_OWNER, u->wholesale);
    if (u->customer >= 0)
        add_spent(m, u->customer, ORACLE_OWNER, u->retail);
    add_spent(m, u->key, ORACLE_KEY, u->customer >= 0 ? u->retail : u->wholesale);
}

/* The hold ends with a record. */
static void end_hold(struct oracle *m, struct oracle_hold *h, const struct ending *e, struct oracle_answer *a)
{
    struct oracle_usage *u = APPEND(m->usage, m->n_usage);
    enum account_kind of_cost = e->cost_kind == TRANSFER_LOSS ? ACCOUNT_LOSS : ACCOUNT_COST;

    give_pins_back(m, h);
    *u = (struct oracle_usage){.seq = next_event(m),
                               .created_at = m->now,
                               .request = h->id,
                               .tenant = h->tenant,
                               .customer = h->customer,
                               .key = h->key,
                               .n_legs = h->n_legs,
                               .cost = h->test ? 0 : e->cost,
                               .wholesale = h->test ? 0 : e->wholesale,
                               .retail = h->test ? 0 : e->retail,
                               .flags = e->flags | (h->test ? USAGE_TEST : 0)};
    for (int leg = 0; leg < h->n_legs; leg++) {
        a->charged = charge(m, h, u, leg, e->charges[leg]);
        if (e->charges[leg] > h->legs[leg])
            u->flags |= USAGE_OVERAGE;
    }
    reach(m, REACHED_OVERAGE, (u->flags & USAGE_OVERAGE) != 0);
    move(m, u->seq, e->cost_kind, account_number(of_cost, m->parties[h->tenant].row),
         account_number(ACCOUNT_PAYABLE, e->channel != 0 ? e->channel : h->channel), u->cost, 0);
    count_usage(m, u);
    end_key(m, h->call_key, u->seq);
    a->seq = u->seq;
    a->flags = u->flags;
    a->cost = u->cost;
    a->wholesale = u->wholesale;
    a->retail = u->retail;
    forget_hold(m, h);
    finish(m);
}

void oracle_capture(struct oracle *m, const struct store_capture *op, struct oracle_answer *a)
{
    struct oracle_hold *h = oracle_find_hold(m, op->hold);
    struct ending e = {.cost = op->usage.cost, .flags = op->usage.flags, .channel = op->usage.call.channel_row};

    reach(m, REACHED_TWICE, h == NULL);
    if (h == NULL) {
        a->code = ERR_NOT_FOUND;
        return;
    }
    reach(m, REACHED_KEPT_CAPTURED, h->doubtful);
    e.wholesale = e.charges[0] = op->charges[0];
    e.charges[1] = op->charges[1];
    e.retail = h->n_legs == 2 ? op->charges[1] : op->usage.retail;
    end_hold(m, h, &e, a);
}

static void doubt(struct oracle *m, struct oracle_hold *h, unsigned flags, struct oracle_answer *a)
{
    struct ending e = {.cost = h->cost_max, .flags = USAGE_IN_DOUBT | flags};

    a->applied = h->rule;
    reach(m, REACHED_DOUBT_RELEASE, h->rule == IN_DOUBT_RELEASE);
    reach(m, REACHED_DOUBT_CHARGE, h->rule == IN_DOUBT_CHARGE);
    reach(m, REACHED_DOUBT_KEEP, h->rule == IN_DOUBT_KEEP);
    if (h->rule == IN_DOUBT_KEEP) {
        h->doubtful = true;
        return;
    }
    e.cost_kind = h->rule == IN_DOUBT_RELEASE ? TRANSFER_LOSS : TRANSFER_COST;
    if (h->rule == IN_DOUBT_CHARGE) {
        e.charges[0] = e.wholesale = h->legs[0];
        e.charges[1] = h->legs[1];
        e.retail = h->n_legs == 2 ? h->legs[1] : h->retail_max;
    }
    end_hold(m, h, &e, a);
}

void oracle_doubt(struct oracle *m, const struct store_doubt *op, struct oracle_answer *a)
{
    struct oracle_hold *h = oracle_find_hold(m, op->hold);

    if (h == NULL)
        a->code = ERR_NOT_FOUND;
    else
        doubt(m, h, op->client_gone ? USAGE_CLIENT_GONE : 0, a);
}

static int64_t proportion(int64_t of, int64_t amount, int64_t whole)
{
    return amount == whole ? of : (int64_t)(((__int128)of * amount + whole - 1) / whole);
}

void oracle_resolve(struct oracle *m, const struct store_resolve *op, struct oracle_answer *a)
{
    struct oracle_hold *h = oracle_find_hold(m, op->hold);
    int64_t whole = h == NULL || h->n_legs == 0 ? 0 : h->legs[h->n_legs - 1];
    int64_t amount = op->amount < 0 ? whole : op->amount;
    struct ending e = {.flags = USAGE_IN_DOUBT};

    a->code = h == NULL                       ? ERR_NOT_FOUND
              : !h->doubtful                  ? ERR_CONFLICT
              : op->capture && amount > whole ? ERR_INVALID_VALUE
                                              : ERR_OK;
    reach(m, REACHED_RESOLVE_OPEN, a->code == ERR_CONFLICT);
    reach(m, REACHED_RESOLVE_BEYOND, a->code == ERR_INVALID_VALUE);
    reach(m, REACHED_RESOLVE_CAPTURE, a->code == ERR_OK && op->capture && amount < whole);
    reach(m, REACHED_RESOLVE_VOID, a->code == ERR_OK && !op->capture);
    if (a->code != ERR_OK)
        return;
    if (!op->capture) {
        struct store_void end = {.hold = op->hold};

        oracle_void(m, &end, a);
        return;
    }
    e.cost = proportion(h->cost_max, amount, whole);
    e.wholesale = e.charges[0] = proportion(h->legs[0], amount, whole);
    e.charges[1] = proportion(h->legs[1], amount, whole);
    e.retail = proportion(h->n_legs == 2 ? h->legs[1] : h->retail_max, amount, whole);
    end_hold(m, h, &e, a);
}

void oracle_end_by_rule(struct oracle *m, struct id hold, bool dead)
{
    struct oracle_hold *h = oracle_find_hold(m, hold);
    struct oracle_answer a = {.code = ERR_OK};

    reach(m, REACHED_OVERDUE, !dead);
    reach(m, REACHED_DEAD_RELEASE, dead && h->rule == IN_DOUBT_RELEASE);
    reach(m, REACHED_DEAD_CHARGE, dead && h->rule == IN_DOUBT_CHARGE);
    reach(m, REACHED_DEAD_KEEP, dead && h->rule == IN_DOUBT_KEEP);
    doubt(m, h, 0, &a);
}

struct oracle_usage *oracle_find_usage(struct oracle *m, struct id request)
{
    for (int i = m->n_usage - 1; i >= 0; i--)
        if (id_eq(m->usage[i].request, request))
            return &m->usage[i];
    return NULL;
}

/* ---- refunds ---- */

static void refund_part(struct oracle *m, int64_t event, int party, const struct oracle_part *part, int64_t amount)
{
    int64_t revenue = number_of(m, party, ACCOUNT_TENANT_REVENUE), wallet = oracle_wallet_number(m, party);
    struct oracle_lot *l = part->lot >= 0 ? &m->lots[part->lot] : NULL;

    reach(m, REACHED_REFUND_OVERAGE, part->lot == ORACLE_OVERAGE);
    reach(m, REACHED_REFUND_LAPSED, l != NULL && l->status != GRANT_LIVE);
    reach(m, REACHED_REFUND_USED_UP, l != NULL && l->remaining == 0);
    if (part->lot == ORACLE_OVERAGE) {
        move(m, event, TRANSFER_OVERAGE_REFUND, revenue, number_of(m, party, ACCOUNT_TENANT_RECEIVABLE), amount, 0);
    } else if (l == NULL || (l->remaining == 0 && m->parties[party].n_lots == STORE_LOTS)) {
        reach(m, REACHED_REFUND_NO_ROOM, l != NULL);
        move(m, event, TRANSFER_REFUND, revenue, wallet, amount, 0);
    } else {
        move(m, event, TRANSFER_REFUND, revenue, wallet, amount, l->seq);
        give_lot(m, part->lot, amount);
    }
}

/* Gives a leg's wallet something back: of its transfers, last first, what was not given back yet. */
static void refund_leg(struct oracle *m, struct oracle_usage *u, int leg, int64_t amount)
{
    const struct oracle_parts *parts = &u->parts[leg];
    int party = leg == 0 ? u->tenant : u->customer;
    int64_t skip = u->given_back[leg], left = amount, event;

    if (amount == 0)
        return;
    event = add_entry(m, ENTRY_REFUND, party, u->seq, amount);
    u->given_back[leg] += amount;
    for (int i = parts->n - 1; i >= 0 && left > 0; i--) {
        int64_t skipped = MINIMUM(skip, parts->at[i].amount), part = MINIMUM(left, parts->at[i].amount - skipped);

        skip -= skipped;
        reach(m, REACHED_REFUND_SPLIT, part > 0 && skipped > 0);
        if (part > 0)
            refund_part(m, event, party, &parts->at[i], part);
        left -= part;
    }
    TG_ASSERT(left == 0);
}

void oracle_refund(struct oracle *m, const struct store_refund *op, struct oracle_answer *a)
{
    struct oracle_usage *u = NULL;
    int64_t whole, left, amount, share, before;

    for (int i = m->n_usage - 1; i >= 0 && u == NULL; i--)
        if (m->usage[i].seq == op->seq)
            u = &m->usage[i];
    if (u == NULL) {
        a->code = ERR_NOT_FOUND;
        return;
    }
    if (op->retail_only && u->n_legs < 2) {
        a->code = ERR_FORBIDDEN;
        return;
    }
    whole = u->n_legs == 2 ? u->retail : u->wholesale;
    before = u->refunded;
    left = whole - before;
    amount = op->amount == 0 ? left : op->amount;
    a->code = left == 0 ? ERR_CONFLICT : amount > left ? ERR_INVALID_VALUE : ERR_OK;
    reach(m, REACHED_REFUND_NOTHING, a->code == ERR_CONFLICT);
    reach(m, REACHED_REFUND_BEYOND, a->code == ERR_INVALID_VALUE);
    if (a->code != ERR_OK)
        return;
    share = (int64_t)((__int128)u->wholesale * (before + amount) / whole - (__int128)u->wholesale * before / whole);
    u->refunded += amount;
    reach(m, REACHED_REFUND, true);
    reach(m, REACHED_REFUND_TWO_LEGS, u->n_legs == 2 && share > 0 && !op->retail_only);
    reach(m, REACHED_REFUND_RETAIL_ONLY, u->n_legs == 2 && share > 0 && op->retail_only);
    if (u->n_legs == 2 && !op->retail_only)
        refund_leg(m, u, 0, share);
    refund_leg(m, u, u->n_legs - 1, amount);
    a->charged = amount;
    a->refunded = u->refunded;
    finish(m);
}
