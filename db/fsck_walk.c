/* fsck_walk.c - every event once, in the order of the numbers: usage records (with what is left of pruned ones), grants
 * and entries side by side, each with its transfers beside it.
 *
 *   usage   --.
 *   grants  --+-- by seq --> one event --.
 *   entries --'                          +--> what its transfers must be --> sums, lots, refunds, budgets, chain
 *   transfers ---- by number ------------'
 *
 * Invariants: at each step nothing with a smaller number is left in any cursor; a grant is in walk.lots from its own
 * event on. */
#include "fsck_state.h"

#include <stdlib.h>

enum { PROGRESS_STEP = 16384 }; /* events between two words about progress */

static const char *const names[WALK_INVARIANTS] = {
    [WALK_EVENTS] = "events have numbers of their own",
    [WALK_TIME] = "time runs forward between clock steps",
    [WALK_TRANSFERS] = "transfers belong to an event",
    [WALK_USAGE] = "usage records equal their transfers",
    [WALK_GRANTS] = "grants equal their transfers",
    [WALK_ENTRIES] = "entries equal their transfers",
    [WALK_LOTS] = "lots are used by their wallets and within what they have",
    [WALK_REMAINING] = "what remains of grants is what transfers left",
    [WALK_LAPSED] = "grants lapse when their time has come",
    [WALK_REFUNDS] = "refunds are within the charge",
    [WALK_BALANCES] = "balances equal their transfers",
    [WALK_CHAIN] = "the chain covers every transfer",
    [WALK_BUDGETS] = "budgets have what the usage records say",
};

/* ---- sums by account ---- */

struct sum {
    int64_t account;
    __int128 posted;
};

static bool match_sum(const void *item, const void *key)
{
    return ((const struct sum *)item)->account == *(const int64_t *)key;
}

static void add_sum(struct walk *w, int64_t account, int64_t amount)
{
    uint64_t hash = table_hash_u64((uint64_t)account);
    struct sum *sum = table_get(&w->sums, hash, match_sum, &account);

    if (sum == NULL) {
        sum = mem_zalloc(sizeof(*sum));
        sum->account = account;
        table_put(&w->sums, hash, match_sum, &account, sum);
    }
    sum->posted += amount;
}

/* Every account against the sum of its transfers, and every sum against an account. */
static enum err_code compare_sums(struct walk *w, struct err *err)
{
    struct finding *g = &w->findings[WALK_BALANCES];
    sqlite3_stmt *s = NULL;
    struct sum *sum;
    size_t pos = 0;
    enum err_code code = sqlite_prepare(&w->f->conn, "SELECT row, posted FROM accounts", &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    for (; (rc = sqlite3_step(s)) == SQLITE_ROW; w->checked[WALK_BALANCES]++) {
        int64_t account = sqlite3_column_int64(s, 0), posted = sqlite3_column_int64(s, 1);

        sum = table_remove(&w->sums, table_hash_u64((uint64_t)account), match_sum, &account);
        if ((sum != NULL ? sum->posted : 0) != posted)
            finding_add(g, "account %lld: posted %lld, transfers %lld", (long long)account, (long long)posted,
                        (long long)(sum != NULL ? sum->posted : 0));
        free(sum);
    }
    if (rc != SQLITE_DONE)
        code = sqlite_error(&w->f->conn, "Cannot read the accounts", err);
    sqlite3_finalize(s);
    while (code == ERR_OK && (sum = table_next(&w->sums, &pos)) != NULL)
        if (sum->posted != 0)
            finding_add(g, "account %lld is missing", (long long)sum->account);
    return code;
}

/* ---- what an event's transfers must be ---- */

static int64_t owner_of(int64_t account)
{
    return account >> ACCOUNT_KIND_BITS;
}

static bool is_customer_wallet(int64_t account)
{
    return account == account_number(ACCOUNT_CUSTOMER_WALLET, owner_of(account));
}

static bool moves(const struct transfer_row *t, int64_t debit, int64_t credit)
{
    return t->debit == debit && t->credit == credit;
}

/* A transfer of a usage record: whether it joins the accounts that its kind joins. */
static bool joins(const struct usage_event *e, const struct transfer_row *t)
{
    bool free_of_lots = t->lot == 0;

    switch (t->kind) {
    case TRANSFER_CHARGE:
        return moves(t, account_number(ACCOUNT_TENANT_WALLET, e->tenant),
                     account_number(ACCOUNT_TENANT_REVENUE, e->tenant));
    case TRANSFER_RETAIL_CHARGE:
        return moves(t, account_number(ACCOUNT_CUSTOMER_WALLET, e->customer),
                     account_number(ACCOUNT_CUSTOMER_REVENUE, e->customer));
    case TRANSFER_OVERAGE:
        return free_of_lots && moves(t, account_number(ACCOUNT_TENANT_RECEIVABLE, e->tenant),
                                     account_number(ACCOUNT_TENANT_REVENUE, e->tenant));
    case TRANSFER_RETAIL_OVERAGE:
        return free_of_lots && moves(t, account_number(ACCOUNT_CUSTOMER_RECEIVABLE, e->customer),
                                     account_number(ACCOUNT_CUSTOMER_REVENUE, e->customer));
    case TRANSFER_COST:
        return free_of_lots &&
               moves(t, account_number(ACCOUNT_COST, e->tenant), account_number(ACCOUNT_PAYABLE, e->channel));
    case TRANSFER_LOSS:
        return free_of_lots &&
               moves(t, account_number(ACCOUNT_LOSS, e->tenant), account_number(ACCOUNT_PAYABLE, e->channel));
    default:
        return false;
    }
}

static bool usage_is_good(const struct usage_event *e, const struct group *g)
{
    __int128 by[TRANSFER_KINDS] = {0}, retail;
    bool good = true;

    for (int i = 0; good && i < g->n; i++) {
        good = joins(e, &g->at[i]);
        if (good)
            by[g->at[i].kind] += g->at[i].amount;
    }
    retail = by[TRANSFER_RETAIL_CHARGE] + by[TRANSFER_RETAIL_OVERAGE];
    good = good && by[TRANSFER_CHARGE] + by[TRANSFER_OVERAGE] == e->wholesale &&
           by[TRANSFER_COST] + by[TRANSFER_LOSS] == e->cost &&
           retail == ((e->flags & USAGE_ROW_OWN_WALLET) != 0 ? e->retail : 0);
    if ((e->flags & USAGE_TEST) != 0)
        good = good && g->n == 0 && e->cost == 0 && e->wholesale == 0 && e->retail == 0;
    if (by[TRANSFER_LOSS] != 0)
        good = good && (e->flags & USAGE_IN_DOUBT) != 0 && e->wholesale == 0 && by[TRANSFER_COST] == 0;
    if (by[TRANSFER_OVERAGE] + by[TRANSFER_RETAIL_OVERAGE] != 0)
        good = good && (e->flags & USAGE_OVERAGE) != 0;
    return good;
}

/* Where the credit of a wallet comes from and goes back to. */
static int64_t other_side(int64_t wallet, int category)
{
    if (is_customer_wallet(wallet))
        return account_number(category == CREDIT_PROMOTIONAL ? ACCOUNT_CUSTOMER_PROMOTIONAL : ACCOUNT_CUSTOMER_EXTERNAL,
                              owner_of(wallet));
    return account_number(category == CREDIT_PROMOTIONAL ? ACCOUNT_PROMOTIONAL : ACCOUNT_EXTERNAL, owner_of(wallet));
}

static bool grant_is_good(const struct grant_event *e, const struct group *g)
{
    const struct transfer_row *t = &g->at[0];

    return g->n == 1 && t->kind == TRANSFER_CREDIT && t->lot == e->seq && t->amount == e->amount &&
           moves(t, other_side(e->wallet, e->category), e->wallet);
}

/* Lapses and withdrawals: of a grant that has ended so. */
static bool leaving_is_good(const struct walk *w, const struct entry_event *e, const struct group *g)
{
    const struct walked_lot *lot = walk_find_lot(w, e->reference);
    const struct transfer_row *t = &g->at[0];
    bool lapse = e->kind == ENTRY_LAPSE;
    int64_t to;

    if (lot == NULL || lot->grant.wallet != e->wallet || g->n != 1 || t->lot != e->reference)
        return false;
    to = lapse ? account_number(is_customer_wallet(e->wallet) ? ACCOUNT_CUSTOMER_LAPSED : ACCOUNT_LAPSED,
                                owner_of(e->wallet))
               : other_side(e->wallet, lot->grant.category);
    return t->kind == (lapse ? TRANSFER_LAPSE : TRANSFER_WITHDRAWAL) && moves(t, e->wallet, to) &&
           lot->grant.status == (lapse ? GRANT_LAPSED : GRANT_WITHDRAWN);
}

static bool adjustment_is_good(const struct entry_event *e, const struct group *g)
{
    bool paid = true, promotional = true;

    for (int i = 0; i < g->n; i++) {
        paid = paid && moves(&g->at[i], e->wallet, other_side(e->wallet, CREDIT_PAID));
        promotional = promotional && moves(&g->at[i], e->wallet, other_side(e->wallet, CREDIT_PROMOTIONAL));
        if (g->at[i].kind != TRANSFER_ADJUSTMENT)
            return false;
    }
    return (paid || promotional) && e->reference == 0;
}

static bool refund_is_good(const struct entry_event *e, const struct group *g)
{
    bool customer = is_customer_wallet(e->wallet);
    int64_t owner = owner_of(e->wallet);
    int64_t revenue = account_number(customer ? ACCOUNT_CUSTOMER_REVENUE : ACCOUNT_TENANT_REVENUE, owner);
    int64_t receivable = account_number(customer ? ACCOUNT_CUSTOMER_RECEIVABLE : ACCOUNT_TENANT_RECEIVABLE, owner);

    for (int i = 0; i < g->n; i++) {
        const struct transfer_row *t = &g->at[i];
        bool owed = t->kind == TRANSFER_OVERAGE_REFUND;

        if ((!owed && t->kind != TRANSFER_REFUND) || !moves(t, revenue, owed ? receivable : e->wallet) ||
            (owed && t->lot != 0))
            return false;
    }
    return true; /* the record that it names: fsck_refund.c */
}

static bool entry_is_good(const struct walk *w, const struct entry_event *e, const struct group *g)
{
    __int128 sum = 0;

    for (int i = 0; i < g->n; i++)
        sum += g->at[i].amount;
    if (g->n == 0 || sum != e->amount)
        return false;
    switch (e->kind) {
    case ENTRY_ADJUSTMENT:
        return adjustment_is_good(e, g);
    case ENTRY_REFUND:
        return refund_is_good(e, g);
    case ENTRY_LAPSE:
    case ENTRY_WITHDRAWAL:
        return leaving_is_good(w, e, g);
    case ENTRY_SETTLEMENT:
        return g->n == 1 && g->at[0].kind == TRANSFER_SETTLEMENT && moves(&g->at[0], e->wallet, e->wallet) &&
               e->reference == 0;
    default:
        return false;
    }
}

/* ---- cursors ---- */

struct cursors {
    sqlite3_stmt *usage, *grants, *entries, *transfers;
    int usage_rc, grants_rc, entries_rc, transfers_rc;
    int64_t last_seq; /* that any of them will give, for progress */
    int64_t last;     /* number of the last transfer read */
    struct group group;
};

void fsck_read_transfer(sqlite3_stmt *s, struct transfer_row *out)
{
    int64_t kind = sqlite3_column_int64(s, 1);

    *out = (struct transfer_row){.number = sqlite3_column_int64(s, 0),
                                 .kind = kind >= 0 && kind < TRANSFER_KINDS ? (enum transfer_kind)kind : TRANSFER_KINDS,
                                 .debit = sqlite3_column_int64(s, 2),
                                 .credit = sqlite3_column_int64(s, 3),
                                 .amount = sqlite3_column_int64(s, 4),
                                 .lot = sqlite3_column_int64(s, 5)};
}

/* The next event's transfers. */
static void next_group(struct walk *w, struct cursors *c)
{
    struct group *g = &c->group;

    g->n = 0;
    g->seq = INT64_MAX;
    while (c->transfers_rc == SQLITE_ROW) {
        struct transfer_row t;

        fsck_read_transfer(c->transfers, &t);
        if (g->n > 0 && t.number >> EVENT_PLACE_BITS != g->seq)
            break;
        g->seq = t.number >> EVENT_PLACE_BITS;
        if (t.number != (g->seq << EVENT_PLACE_BITS | g->n))
            finding_add(&w->findings[WALK_TRANSFERS], "transfer %lld is not in place %d", (long long)t.number, g->n);
        g->at[g->n++] = t;
        add_sum(w, t.debit, -t.amount);
        add_sum(w, t.credit, t.amount);
        c->last = t.number;
        w->checked[WALK_TRANSFERS]++;
        c->transfers_rc = sqlite3_step(c->transfers);
    }
    if (g->n > 0)
        walk_chain(w, g);
}

static void use_lots(struct walk *w, const struct group *g, int64_t created_ms)
{
    for (int i = 0; i < g->n; i++)
        walk_use_lot(w, &g->at[i], created_ms);
}

/* ---- events ---- */

/* created_ms falls at a noted step of the clock only. */
static enum err_code check_time(struct walk *w, int64_t seq, int64_t created_ms, struct err *err)
{
    enum err_code code = ERR_OK;
    bool noted;
    int rc;

    w->checked[WALK_TIME]++;
    if (created_ms < w->last_ms) {
        sqlite3_bind_int64(w->steps, 1, w->last_seq);
        sqlite3_bind_int64(w->steps, 2, seq);
        rc = sqlite3_step(w->steps);
        noted = rc == SQLITE_ROW;
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            code = sqlite_error(&w->f->conn, "Cannot read the clock's steps", err);
        sqlite3_reset(w->steps);
        if (!noted)
            finding_add(&w->findings[WALK_TIME], "event %lld", (long long)seq);
        w->stepped = true;
    }
    w->last_seq = seq;
    w->last_ms = created_ms;
    return code;
}

static enum err_code walk_usage(struct walk *w, struct cursors *c, const struct group *g, struct err *err)
{
    sqlite3_stmt *s = c->usage;
    struct usage_event e = {.seq = sqlite3_column_int64(s, 0),
                            .tenant = sqlite3_column_int64(s, 1),
                            .customer = sqlite3_column_int64(s, 2),
                            .key = sqlite3_column_int64(s, 3),
                            .channel = sqlite3_column_int64(s, 4),
                            .cost = sqlite3_column_int64(s, 5),
                            .wholesale = sqlite3_column_int64(s, 6),
                            .retail = sqlite3_column_int64(s, 7),
                            .refunded = sqlite3_column_int64(s, 8),
                            .flags = (unsigned)sqlite3_column_int(s, 9),
                            .created_ms = sqlite3_column_int64(s, 10)};
    enum err_code code = check_time(w, e.seq, e.created_ms, err);

    use_lots(w, g, e.created_ms);
    w->checked[WALK_USAGE]++;
    if (!usage_is_good(&e, g))
        finding_add(&w->findings[WALK_USAGE], "record %lld", (long long)e.seq);
    walk_count_cells(w, &e);
    if (code == ERR_OK)
        code = walk_refunds_of(w, &e, g, err);
    c->usage_rc = sqlite3_step(s);
    return code;
}

static enum err_code walk_grant(struct walk *w, struct cursors *c, const struct group *g, struct err *err)
{
    sqlite3_stmt *s = c->grants;
    struct grant_event e = {.seq = sqlite3_column_int64(s, 0),
                            .wallet = sqlite3_column_int64(s, 1),
                            .amount = sqlite3_column_int64(s, 2),
                            .remaining = sqlite3_column_int64(s, 3),
                            .category = sqlite3_column_int(s, 4),
                            .expires_at = sqlite3_column_int64(s, 5),
                            .status = sqlite3_column_int(s, 6),
                            .created_ms = sqlite3_column_int64(s, 7)};
    enum err_code code = check_time(w, e.seq, e.created_ms, err);

    walk_add_lot(w, &e);
    use_lots(w, g, e.created_ms);
    w->checked[WALK_GRANTS]++;
    if (!grant_is_good(&e, g))
        finding_add(&w->findings[WALK_GRANTS], "grant %lld", (long long)e.seq);
    c->grants_rc = sqlite3_step(s);
    return code;
}

static enum err_code walk_entry(struct walk *w, struct cursors *c, const struct group *g, struct err *err)
{
    sqlite3_stmt *s = c->entries;
    struct entry_event e = {.seq = sqlite3_column_int64(s, 0),
                            .kind = sqlite3_column_int(s, 1),
                            .wallet = sqlite3_column_int64(s, 2),
                            .reference = sqlite3_column_int64(s, 3),
                            .amount = sqlite3_column_int64(s, 4),
                            .created_ms = sqlite3_column_int64(s, 5)};
    enum err_code code = check_time(w, e.seq, e.created_ms, err);

    use_lots(w, g, e.created_ms);
    w->checked[WALK_ENTRIES]++;
    if (!entry_is_good(w, &e, g))
        finding_add(&w->findings[WALK_ENTRIES], "entry %lld", (long long)e.seq);
    if (code == ERR_OK && e.kind == ENTRY_REFUND)
        code = walk_refund(w, &e, err);
    c->entries_rc = sqlite3_step(s);
    return code;
}

static bool is_at(sqlite3_stmt *s, int rc, int64_t seq)
{
    return rc == SQLITE_ROW && sqlite3_column_int64(s, 0) == seq;
}

/* All there is with one number; the first event of it has the transfers. */
static enum err_code walk_number(struct walk *w, struct cursors *c, int64_t seq, struct err *err)
{
    static const struct group none;
    const struct group *g = c->group.seq == seq ? &c->group : &none;
    enum err_code code = ERR_OK;
    int events = 0;

    while (code == ERR_OK && is_at(c->usage, c->usage_rc, seq)) /* twice: a record that is pruned and there */
        code = walk_usage(w, c, events++ == 0 ? g : &none, err);
    if (code == ERR_OK && is_at(c->grants, c->grants_rc, seq))
        code = walk_grant(w, c, events++ == 0 ? g : &none, err);
    if (code == ERR_OK && is_at(c->entries, c->entries_rc, seq))
        code = walk_entry(w, c, events++ == 0 ? g : &none, err);
    w->checked[WALK_EVENTS] += events;
    if (events > 1 || seq < 1)
        finding_add(&w->findings[WALK_EVENTS], "number %lld", (long long)seq);
    if (events == 0) {
        finding_add(&w->findings[WALK_TRANSFERS], "transfer %lld", (long long)g->at[0].number);
        use_lots(w, g, w->last_ms);
    }
    if (g == &c->group)
        next_group(w, c);
    return code;
}

static int64_t smallest(int64_t least, sqlite3_stmt *s, int rc)
{
    int64_t seq = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : INT64_MAX;

    return seq < least ? seq : least;
}

static enum err_code walk_all(struct walk *w, struct cursors *c, struct err *err)
{
    enum err_code code = ERR_OK;

    c->usage_rc = sqlite3_step(c->usage);
    c->grants_rc = sqlite3_step(c->grants);
    c->entries_rc = sqlite3_step(c->entries);
    c->transfers_rc = sqlite3_step(c->transfers);
    next_group(w, c);
    for (int64_t steps = 0; code == ERR_OK; steps++) {
        int64_t seq = smallest(c->group.seq, c->usage, c->usage_rc);

        seq = smallest(seq, c->grants, c->grants_rc);
        seq = smallest(seq, c->entries, c->entries_rc);
        if (seq == INT64_MAX)
            break;
        if (steps % PROGRESS_STEP == 0)
            fsck_progress(w->f, seq, c->last_seq);
        code = walk_number(w, c, seq, err);
    }
    if (code == ERR_OK && (c->usage_rc != SQLITE_DONE || c->grants_rc != SQLITE_DONE || c->entries_rc != SQLITE_DONE ||
                           c->transfers_rc != SQLITE_DONE))
        code = sqlite_error(&w->f->conn, "Cannot read the ledger", err);
    return code;
}

static enum err_code open_cursors(struct walk *w, struct cursors *c, struct err *err)
{
    static const struct {
        size_t at;
        const char *sql;
    } texts[] = {
        {offsetof(struct cursors, usage), "SELECT seq, tenant, customer, key, channel, cost, wholesale,"
                                          " coalesce(retail, wholesale), refunded, flags, created_ms FROM usage"
                                          " UNION ALL SELECT seq, tenant, customer, key, channel, cost, wholesale,"
                                          " coalesce(retail, wholesale), refunded, flags, created_ms FROM pruned"
                                          " ORDER BY seq"},
        {offsetof(struct cursors, grants), "SELECT seq, wallet, amount, remaining, category, coalesce(expires_at, 0),"
                                           " status, created_ms FROM grants ORDER BY seq"},
        {offsetof(struct cursors, entries),
         "SELECT seq, kind, wallet, reference, amount, created_ms FROM entries ORDER BY seq"},
        {offsetof(struct cursors, transfers),
         "SELECT number, kind, debit, credit, amount, lot FROM transfers ORDER BY number"},
    };
    enum err_code code = ERR_OK;
    int64_t last = 0;

    for (size_t i = 0; code == ERR_OK && i < sizeof(texts) / sizeof(texts[0]); i++)
        code = sqlite_prepare(&w->f->conn, texts[i].sql, (sqlite3_stmt **)((char *)c + texts[i].at), err);
    if (code == ERR_OK)
        code = sqlite_get_number(&w->f->conn, "SELECT coalesce(max(number), 0) FROM transfers", &last, err);
    if (code == ERR_OK)
        code = sqlite_prepare(&w->f->conn, "SELECT 1 FROM clock_steps WHERE seq > ?1 AND seq <= ?2", &w->steps, err);
    if (code == ERR_OK)
        code = walk_open_refunds(w, err);
    if (code == ERR_OK)
        code = walk_load_cells(w, err);
    if (code == ERR_OK)
        code = walk_open_chain(w, err);
    c->last_seq = last >> EVENT_PLACE_BITS;
    return code;
}

static void dispose(struct walk *w, struct cursors *c)
{
    struct sum *sum;
    size_t pos = 0;

    sqlite3_finalize(c->usage);
    sqlite3_finalize(c->grants);
    sqlite3_finalize(c->entries);
    sqlite3_finalize(c->transfers);
    sqlite3_finalize(w->steps);
    while ((sum = table_next(&w->sums, &pos)) != NULL)
        free(sum);
    table_dispose(&w->sums);
    walk_dispose_lots(w);
    walk_close_refunds(w);
    walk_dispose_cells(w);
    walk_dispose_chain(w);
    for (int i = 0; i < WALK_INVARIANTS; i++)
        finding_dispose(&w->findings[i]);
    free(c);
    free(w);
}

enum err_code fsck_walk(struct fsck *f, struct err *err)
{
    struct walk *w = mem_zalloc(sizeof(*w));
    struct cursors *c = mem_zalloc(sizeof(*c));
    enum err_code code;

    w->f = f;
    w->last_ms = INT64_MIN;
    table_init(&w->sums);
    table_init(&w->owners);
    for (int i = 0; i < WALK_INVARIANTS; i++)
        finding_init(&w->findings[i]);
    code = open_cursors(w, c, err);
    if (code == ERR_OK)
        code = walk_all(w, c, err);
    if (code == ERR_OK)
        code = walk_close_chain(w, c->last, err);
    if (code == ERR_OK)
        code = compare_sums(w, err);
    if (code == ERR_OK) {
        walk_compare_lots(w);
        walk_compare_cells(w);
    }
    for (int i = 0; code == ERR_OK && i < WALK_INVARIANTS; i++)
        fsck_report(f, names[i], &w->findings[i], w->checked[i]);
    dispose(w, c);
    return code;
}
