/* sqlite_charge.c - what the writer must look up of the past: what was charged in a window, a charge that is to be
 * refunded, a grant that is no longer in memory.
 *
 * Inside the writer's transactions, and sees what they have written. What a window holds is summed from the sums of its
 * whole days of UTC as far as they are folded, from the roll-ups of its other minutes, and of the minutes at its ends,
 * of which it has a part, from the records. Sums stop at INT64_MAX. */
#include "days.h"
#include "sqlite_conn.h"

enum { MINUTE_MS = 60 * 1000 };

/* ---- spent ---- */

struct spent {
    const struct budget_owner *owner;
    int64_t sum;
    int gap; /* quarters without a row, so far */
};

/* The first whole millisecond not before <us>. */
static int64_t ceil_ms(int64_t us)
{
    return us <= 0 ? 0 : us / 1000 + (us % 1000 > 0);
}

/* Adds up what a statement finds in [from, to), which are milliseconds, or minutes of days or of a quarter. */
static enum err_code add_rows(struct sqlite_conn *c, sqlite3_stmt *s, struct spent *spent, int64_t from, int64_t to,
                              struct err *err)
{
    const struct budget_owner *owner = spent->owner;
    int rc;

    sqlite3_bind_int64(s, 1, owner->tenant_row);
    sqlite3_bind_int64(s, 2, from);
    sqlite3_bind_int64(s, 3, to);
    sqlite3_bind_int(s, 4, owner->retail);
    sqlite3_bind_int64(s, 5, owner->kind == BUDGET_CUSTOMER ? owner->row : 0);
    sqlite3_bind_int64(s, 6, owner->kind == BUDGET_KEY ? owner->row : 0);
    spent->gap++;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (__builtin_add_overflow(spent->sum, sqlite3_column_int64(s, 0), &spent->sum))
            spent->sum = INT64_MAX;
        spent->gap = 0;
    }
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot sum what was spent", err);
}

static enum err_code add_records(struct sqlite_conn *c, struct spent *spent, int64_t from_ms, int64_t to_ms,
                                 struct err *err)
{
    static const enum sql tables[] = {SQL_GET_SPENT_RECORDS, SQL_GET_SPENT_PRUNED};
    struct sqlite_ranges ranges = {.n = 0};
    enum err_code code = ERR_OK;

    if (from_ms < to_ms)
        code = sqlite_time_ranges(c, from_ms, to_ms, &ranges, err);
    for (int i = 0; code == ERR_OK && i < 2 * ranges.n; i++) {
        sqlite3_stmt *s = c->statements[tables[i % 2]];

        sqlite3_bind_int64(s, 7, ranges.at[i / 2].first);
        sqlite3_bind_int64(s, 8, ranges.at[i / 2].end);
        code = add_rows(c, s, spent, from_ms, to_ms, err);
    }
    return code;
}

/* The roll-ups of minutes [from, to). */
static enum err_code add_minutes(struct sqlite_conn *c, struct spent *spent, int64_t from, int64_t to, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_SPENT_MINUTES];
    int64_t first, last;
    enum err_code code = ERR_OK;

    if (from < to)
        code = sqlite_rollup_ends(c, &first, &last, err);
    if (code != ERR_OK || from >= to || last < 0)
        return code;
    if (from < first * ROLLUP_QUARTER)
        from = first * ROLLUP_QUARTER;
    if (to > (last + 1) * ROLLUP_QUARTER)
        to = (last + 1) * ROLLUP_QUARTER;
    spent->gap = 0;
    for (int64_t quarter = from / ROLLUP_QUARTER, next;
         code == ERR_OK && quarter <= last && quarter * ROLLUP_QUARTER < to; quarter = next) {
        int64_t begin = quarter * ROLLUP_QUARTER, end = begin + ROLLUP_QUARTER;

        sqlite3_bind_int64(s, 7, quarter);
        code = add_rows(c, s, spent, (from > begin ? from : begin) - begin, (to < end ? to : end) - begin, err);
        next = quarter + 1;
        if (code == ERR_OK && spent->gap >= ROLLUP_GAP) {
            spent->gap = 0;
            code = sqlite_next_quarter(c, next, &next, err);
        }
    }
    return code;
}

/* Whole days of UTC, [from, to) in minutes. */
static enum err_code add_days(struct sqlite_conn *c, struct spent *spent, int64_t from, int64_t to, struct err *err)
{
    static const enum sql statements[BUDGET_OWNERS] = {[BUDGET_TENANT] = SQL_GET_SPENT_TENANT_DAYS,
                                                       [BUDGET_CUSTOMER] = SQL_GET_SPENT_CUSTOMER_DAYS,
                                                       [BUDGET_KEY] = SQL_GET_SPENT_KEY_DAYS};
    int64_t frontier = fold_frontier(sqlite_fold_mark(c), spent->owner->tenant_row);
    enum err_code code = add_rows(c, c->statements[statements[spent->owner->kind]], spent, from, to, err);

    return code == ERR_OK ? add_minutes(c, spent, frontier > from ? frontier : from, to, err) : code;
}

static enum err_code add_whole_minutes(struct sqlite_conn *c, struct spent *spent, int64_t from, int64_t to,
                                       struct err *err)
{
    int64_t first = (from + DAYS_MINUTES - 1) / DAYS_MINUTES * DAYS_MINUTES, end = to / DAYS_MINUTES * DAYS_MINUTES;
    enum err_code code;

    if (first >= end)
        return add_minutes(c, spent, from, to, err);
    code = add_minutes(c, spent, from, first, err);
    if (code == ERR_OK)
        code = add_days(c, spent, first, end, err);
    return code == ERR_OK ? add_minutes(c, spent, end, to, err) : code;
}

enum err_code sqlite_spent(struct sqlite_conn *c, const struct budget_owner *owner, int64_t from, int64_t to,
                           int64_t *out, struct err *err)
{
    struct spent spent = {.owner = owner};
    int64_t from_ms = ceil_ms(from), to_ms = ceil_ms(to);
    int64_t first = from_ms / MINUTE_MS + (from_ms % MINUTE_MS > 0), end = to_ms / MINUTE_MS; /* whole minutes */
    enum err_code code = sqlite_fold_load(c, err);

    if (code == ERR_OK && first >= end) {
        code = add_records(c, &spent, from_ms, to_ms, err);
    } else if (code == ERR_OK) {
        code = add_records(c, &spent, from_ms, first * MINUTE_MS, err);
        if (code == ERR_OK)
            code = add_whole_minutes(c, &spent, first, end, err);
        if (code == ERR_OK && to != INT64_MAX) /* else the minute at the end is never reached */
            code = add_records(c, &spent, end * MINUTE_MS, to_ms, err);
    }
    if (code == ERR_OK)
        *out = spent.sum;
    return code;
}

/* ---- grants ---- */

enum err_code sqlite_find_grant(struct sqlite_conn *c, int64_t seq, struct store_grant *out, struct err *err)
{
    enum err_code code = sqlite_get_grant(c, seq, out, err);

    memset(&out->tenant_id, 0, sizeof(out->tenant_id));
    memset(&out->customer_id, 0, sizeof(out->customer_id));
    return code;
}

/* ---- charges ---- */

static bool of_charge(enum transfer_kind kind)
{
    return kind == TRANSFER_CHARGE || kind == TRANSFER_RETAIL_CHARGE || kind == TRANSFER_OVERAGE ||
           kind == TRANSFER_RETAIL_OVERAGE;
}

static enum err_code read_transfers(struct sqlite_conn *c, struct charge *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_EVENT_TRANSFERS];
    int rc;

    sqlite3_bind_int64(s, 1, out->usage.seq << EVENT_PLACE_BITS);
    sqlite3_bind_int64(s, 2, (out->usage.seq + 1) << EVENT_PLACE_BITS);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        enum transfer_kind kind = (enum transfer_kind)sqlite3_column_int(s, 1);

        if (!of_charge(kind))
            continue;
        TG_ASSERT(out->n < EVENT_TRANSFERS); /* numbers are unique */
        out->transfers[out->n++] = (struct transfer_row){.number = sqlite3_column_int64(s, 0),
                                                         .kind = kind,
                                                         .debit = sqlite3_column_int64(s, 2),
                                                         .credit = sqlite3_column_int64(s, 3),
                                                         .amount = sqlite3_column_int64(s, 4),
                                                         .lot = sqlite3_column_int64(s, 5)};
    }
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read a charge", err);
}

static enum err_code read_refunded(struct sqlite_conn *c, const struct charge *charge, int leg, int64_t *out,
                                   struct err *err)
{
    const struct store_call *call = &charge->usage.call;
    sqlite3_stmt *s = c->statements[SQL_GET_REFUNDS];
    int rc;

    sqlite3_bind_int64(s, 1, charge->usage.seq);
    sqlite3_bind_int64(s, 2,
                       leg == 1 ? account_number(ACCOUNT_CUSTOMER_WALLET, call->customer_row)
                                : account_number(ACCOUNT_TENANT_WALLET, call->tenant_row));
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return rc == SQLITE_ROW ? ERR_OK : sqlite_error(c, "Cannot read refunds", err);
}

enum err_code sqlite_find_charge(struct sqlite_conn *c, int64_t seq, struct charge *out, struct err *err)
{
    bool own_wallet = false;
    enum err_code code;

    memset(out, 0, sizeof(*out));
    code = sqlite_find_usage(c, seq, &out->usage, &out->item, &own_wallet, err);
    out->n_legs = own_wallet ? STORE_LEGS : 1;
    if (code == ERR_OK)
        code = read_transfers(c, out, err);
    for (int i = 0; code == ERR_OK && i < out->n_legs; i++)
        code = read_refunded(c, out, i, &out->refunded[i], err);
    return code;
}
