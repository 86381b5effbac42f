/* sqlite_turnover.c - what moved in a wallet in a span of time, and its balances at both ends.
 *
 *   from             to              now
 *    |---- inside ----|---- after ----|        closing = posted now - after;   opening = closing - inside
 *
 * Transfers have neither owner nor time: they are their events'. So the wallet's events are walked, by number: the
 * tenant's usage records (in `usage` or, once pruned, in `pruned`), entries, grants; each with its transfers.
 * Invariants
 *  (1) The balance, and the numbers up to which there are events, are read in one moment; later events are not looked
 * at.
 *  (2) A walk goes in slices of SLICE events, each a transaction of its own. A record may be pruned between two: it
 * keeps its number, and both tables are walked side by side, so it is seen once.
 * The past changes in no other way. Reader's thread. */
#include "sqlite_conn.h"

#include <stdlib.h>

enum { SLICE = 20000 };
enum part { INSIDE = 0, AFTER, PARTS };

/* Events of one sort, numbered [first, end). */
struct pass {
    enum sql tables[2]; /* the second is SQL_COUNT when there is one alone */
    enum part part;
    int64_t owner;           /* tenant's row or account, as the table has it */
    int64_t first, end;      /* first moves on */
    int64_t from_ms, before; /* the events' time is looked at as well; 0 and INT64_MAX: it is known */
};

struct sqlite_flow {
    struct sqlite_wallet wallet;
    int64_t from_ms, to_ms;
    int64_t posted, owed; /* of wallet and receivable, in that moment */
    struct {
        int64_t posted, owed; /* changes of the two accounts */
        int64_t amount[TRANSFER_KINDS], count[TRANSFER_KINDS];
    } parts[PARTS];
    int n, at;
    struct pass passes[2 * (TIME_RANGES + 2)];
};

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

/* ---- what is to be walked ---- */

static void add_pass(struct sqlite_flow *f, struct pass pass)
{
    TG_ASSERT(f->n < (int)(sizeof(f->passes) / sizeof(f->passes[0])));
    if (pass.first < pass.end && pass.from_ms < pass.before)
        f->passes[f->n++] = pass;
}

static enum err_code plan_usage(struct sqlite_conn *c, struct sqlite_flow *f, enum part part, int64_t from_ms,
                                int64_t to_ms, struct err *err)
{
    struct sqlite_ranges ranges = {.n = 0};
    enum err_code code = ERR_OK;

    if (from_ms < to_ms)
        code = sqlite_time_ranges(c, from_ms, to_ms == INT64_MAX ? 0 : to_ms, &ranges, err);
    for (int i = 0; code == ERR_OK && i < ranges.n; i++) {
        bool others = i == TIME_RANGES - 1; /* it may have records of other times */

        add_pass(f, (struct pass){.tables = {SQL_FLOW_USAGE, SQL_FLOW_PRUNED},
                                  .part = part,
                                  .owner = f->wallet.tenant,
                                  .first = ranges.at[i].first,
                                  .end = ranges.at[i].end,
                                  .from_ms = others ? from_ms : 0,
                                  .before = others ? to_ms : INT64_MAX});
    }
    return code;
}

static enum err_code plan_events(struct sqlite_conn *c, struct sqlite_flow *f, enum sql table, enum sql last,
                                 struct err *err)
{
    sqlite3_stmt *s = c->statements[last];
    struct pass pass = {.tables = {table, SQL_COUNT}, .owner = f->wallet.account, .first = 1};
    int rc;

    sqlite3_bind_int64(s, 1, f->wallet.account);
    rc = sqlite3_step(s);
    pass.end = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) + 1 : 0;
    sqlite3_reset(s);
    if (rc != SQLITE_ROW)
        return sqlite_error(c, "Cannot read the last event", err);
    pass.part = INSIDE;
    pass.from_ms = f->from_ms;
    pass.before = f->to_ms;
    add_pass(f, pass);
    pass.part = AFTER;
    pass.from_ms = f->to_ms;
    pass.before = INT64_MAX;
    add_pass(f, pass);
    return ERR_OK;
}

static enum err_code plan(struct sqlite_conn *c, struct sqlite_flow *f, struct err *err)
{
    bool found;
    int64_t held;
    enum err_code code = sqlite_read_account(c, f->wallet.account, &f->posted, &held, &found, err);

    if (code == ERR_OK)
        code = sqlite_read_account(c, f->wallet.receivable, &f->owed, &held, &found, err);
    if (code == ERR_OK)
        code = plan_usage(c, f, INSIDE, f->from_ms, f->to_ms, err);
    if (code == ERR_OK)
        code = plan_usage(c, f, AFTER, f->to_ms, INT64_MAX, err);
    if (code == ERR_OK)
        code = plan_events(c, f, SQL_FLOW_ENTRIES, SQL_GET_LAST_ENTRY, err);
    return code == ERR_OK ? plan_events(c, f, SQL_FLOW_GRANTS, SQL_GET_LAST_GRANT, err) : code;
}

/* ---- walking ---- */

static int64_t effect(sqlite3_stmt *s, int64_t account)
{
    int64_t amount = sqlite3_column_int64(s, 4);

    return (sqlite3_column_int64(s, 3) == account ? amount : 0) - (sqlite3_column_int64(s, 2) == account ? amount : 0);
}

/* A row: an event's number, and one of its transfers or nothing. */
static void add_transfer(struct sqlite_flow *f, enum part part, sqlite3_stmt *s)
{
    int kind = sqlite3_column_int(s, 1);
    int64_t posted;

    if (sqlite3_column_type(s, 1) == SQLITE_NULL || kind < 0 || kind >= TRANSFER_KINDS)
        return;
    if (sqlite3_column_int64(s, 2) == f->wallet.account || sqlite3_column_int64(s, 3) == f->wallet.account) {
        posted = effect(s, f->wallet.account);
        f->parts[part].posted = add(f->parts[part].posted, posted);
        f->parts[part].amount[kind] = add(f->parts[part].amount[kind], posted);
        f->parts[part].count[kind]++;
    }
    f->parts[part].owed = add(f->parts[part].owed, effect(s, f->wallet.receivable));
}

static sqlite3_stmt *open_table(struct sqlite_conn *c, const struct sqlite_flow *f, const struct pass *pass, int table)
{
    sqlite3_stmt *s = c->statements[pass->tables[table]];

    sqlite3_bind_int64(s, 1, pass->owner);
    sqlite3_bind_int64(s, 2, pass->first);
    sqlite3_bind_int64(s, 3, pass->end);
    sqlite3_bind_int64(s, 4, f->wallet.account);
    sqlite3_bind_int64(s, 5, f->wallet.receivable);
    sqlite3_bind_int64(s, 6, f->wallet.customer);
    sqlite3_bind_int(s, 7, pass->from_ms != 0 || pass->before != INT64_MAX);
    sqlite3_bind_int64(s, 8, pass->from_ms);
    sqlite3_bind_int64(s, 9, pass->before);
    return s;
}

/* Walks up to *left events of a pass, both tables side by side; pass->first is where the next slice begins. */
static enum err_code walk(struct sqlite_conn *c, struct sqlite_flow *f, struct pass *pass, int *left, struct err *err)
{
    int tables = pass->tables[1] == SQL_COUNT ? 1 : 2, rc[2] = {SQLITE_DONE, SQLITE_DONE};
    sqlite3_stmt *s[2] = {NULL, NULL};
    int64_t seq[2] = {INT64_MAX, INT64_MAX}, last = 0;

    for (int i = 0; i < tables; i++) {
        s[i] = open_table(c, f, pass, i);
        rc[i] = sqlite3_step(s[i]);
        seq[i] = rc[i] == SQLITE_ROW ? sqlite3_column_int64(s[i], 0) : INT64_MAX;
    }
    while (rc[0] == SQLITE_ROW || rc[1] == SQLITE_ROW) {
        int i = seq[0] <= seq[1] ? 0 : 1;

        if (seq[i] != last && (*left)-- == 0)
            break;
        last = seq[i];
        add_transfer(f, pass->part, s[i]);
        rc[i] = sqlite3_step(s[i]);
        seq[i] = rc[i] == SQLITE_ROW ? sqlite3_column_int64(s[i], 0) : INT64_MAX;
    }
    pass->first = last + 1;
    for (int i = 0; i < tables; i++)
        sqlite3_reset(s[i]);
    for (int i = 0; i < tables; i++)
        if (rc[i] != SQLITE_ROW && rc[i] != SQLITE_DONE)
            return sqlite_error(c, "Cannot sum events", err);
    if (rc[0] == SQLITE_DONE && rc[1] == SQLITE_DONE)
        pass->first = pass->end;
    return ERR_OK;
}

/* ---- the flow of a wallet ---- */

static int64_t ceil_ms(int64_t us)
{
    return us <= 0 ? 0 : us / 1000 + (us % 1000 > 0);
}

enum err_code sqlite_flow_open(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row, int64_t from,
                               int64_t to, struct sqlite_flow **out, struct err *err)
{
    struct sqlite_flow *f;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    if (code != ERR_OK)
        return code;
    f = mem_zalloc(sizeof(*f));
    f->from_ms = ceil_ms(from);
    f->to_ms = ceil_ms(to > from ? to : from);
    code = sqlite_find_wallet(c, tenant_row, customer_row, &f->wallet, err);
    if (code == ERR_OK)
        code = plan(c, f, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    if (code == ERR_OK)
        *out = f;
    else
        free(f);
    return code;
}

enum err_code sqlite_flow_walk(struct sqlite_conn *c, struct sqlite_flow *f, bool *done, struct err *err)
{
    int left = SLICE;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    if (code != ERR_OK)
        return code;
    while (code == ERR_OK && left > 0 && f->at < f->n) {
        code = walk(c, f, &f->passes[f->at], &left, err);
        if (f->passes[f->at].first == f->passes[f->at].end)
            f->at++;
    }
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    *done = f->at == f->n;
    return code;
}

void sqlite_flow_closing(const struct sqlite_flow *f, int64_t *posted, int64_t *owed)
{
    *posted = f->posted - f->parts[AFTER].posted;
    *owed = f->owed - f->parts[AFTER].owed;
}

void sqlite_flow_close(struct sqlite_flow *f)
{
    free(f);
}

/* ---- the question ---- */

static void answer(const struct sqlite_flow *f, struct store_turnover *q)
{
    int64_t owed;

    _Static_assert((int)TRANSFER_KINDS <= (int)STORE_TURNOVER_KINDS, "there is room for every kind");
    sqlite_flow_closing(f, &q->closing, &owed);
    q->opening = q->closing - f->parts[INSIDE].posted;
    q->n = 0;
    for (int kind = 0; kind < TRANSFER_KINDS; kind++) {
        if (f->parts[INSIDE].count[kind] == 0)
            continue;
        q->kinds[q->n].kind = sqlite_transfer_name(kind);
        q->kinds[q->n].amount = f->parts[INSIDE].amount[kind];
        q->kinds[q->n].count = f->parts[INSIDE].count[kind];
        q->n++;
    }
}

bool sqlite_ask_turnover(struct sqlite_conn *c, struct store_turnover *q)
{
    struct sqlite_flow *f = q->state;
    struct err *err = &q->super.err;
    bool done = false;
    enum err_code code = ERR_OK;

    if (f == NULL)
        code = sqlite_flow_open(c, q->tenant_row, q->customer_row, q->from, q->to, &f, err);
    q->state = f;
    if (code == ERR_OK)
        code = sqlite_flow_walk(c, f, &done, err);
    if (code == ERR_OK && !done)
        return false;
    if (code == ERR_OK)
        answer(f, q);
    sqlite_flow_close(f);
    q->state = NULL;
    return true;
}
