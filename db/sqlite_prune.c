/* sqlite_prune.c - records of a span of time leave `usage` for `pruned`, oldest numbers first.
 *
 *   clock_steps:   0 ......... s1 ........ s2 ............ now     between two steps time never runs back, so that in
 *   usage:         ----[####]-----[##]--------------------         each part the span is one range of numbers
 *
 * Invariants
 *  (1) A record is in one of the two tables, at every commit.
 *  (2) Within a span the least numbers go first: as long as any record of it is left, the one with the greatest number
 * is. Inside the writer's transactions. */
#include "sqlite_conn.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

#define QUARTER (15 * 60 * CLOCK_SECOND)
#define DAY (24 * 3600 * CLOCK_SECOND)

/* Where the part after number <step> ends: at the next step of the clock. INT64_MAX: it is the last. */
static enum err_code next_step(struct sqlite_conn *c, int64_t step, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_NEXT_CLOCK_STEP];
    int rc;

    sqlite3_bind_int64(s, 1, step);
    rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : INT64_MAX;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read clock steps", err);
}

/* When the first record of [first, end) that is not pruned was created. */
static enum err_code look(struct sqlite_conn *c, int64_t first, int64_t end, struct store_prune *op, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_FIRST_USAGE];
    int64_t at = 0;
    int rc;

    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, end);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        at = sqlite3_column_int64(s, 1) * 1000;
    sqlite3_reset(s);
    if (rc == SQLITE_ROW && (op->oldest == 0 || at < op->oldest))
        op->oldest = at;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read the first record", err);
}

static enum err_code move(struct sqlite_conn *c, int64_t first, int64_t last, struct err *err)
{
    static const enum sql steps[] = {SQL_PUT_PRUNED, SQL_DROP_USAGE};
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < 2; i++) {
        sqlite3_bind_int64(c->statements[steps[i]], 1, first);
        sqlite3_bind_int64(c->statements[steps[i]], 2, last);
        code = sqlite_run(c, c->statements[steps[i]], "Cannot prune records", err);
        if (code == ERR_OK && i == 0)
            code = FAILPOINT_CODE(PRUNE_COPIED, err);
    }
    return code;
}

static enum err_code take(struct sqlite_conn *c, int64_t first, int64_t end, struct store_prune *op, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_PRUNABLE];
    int64_t last = 0;
    int n = 0, rc;

    if (op->last != 0 && op->last < end)
        end = op->last + 1;
    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, end);
    sqlite3_bind_int(s, 3, op->limit - op->n);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        n = sqlite3_column_int(s, 0);
        first = sqlite3_column_int64(s, 1);
        last = sqlite3_column_int64(s, 2);
    }
    sqlite3_reset(s);
    if (rc != SQLITE_ROW)
        return sqlite_error(c, "Cannot find old records", err);
    op->n += n;
    return n > 0 ? move(c, first, last, err) : ERR_OK;
}

/* Days that have roll-ups which are not folded yet stay as they are. */
static enum err_code mind_folding(struct sqlite_conn *c, struct store_prune *op, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_UNFOLDED];
    int rc = sqlite3_step(s);

    if (rc == SQLITE_ROW) {
        int64_t begin = sqlite3_column_int64(s, 0) * QUARTER / DAY * DAY;

        op->waits = begin < op->before;
        op->before = op->waits ? begin : op->before;
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read the roll-ups", err);
}

enum err_code sqlite_prune(struct sqlite_conn *c, struct store_prune *op, struct err *err)
{
    int64_t step = 0, next, last, first, end;
    enum err_code code = mind_folding(c, op, err);

    if (code == ERR_OK)
        code = sqlite_last_usage(c, &last, err);

    while (code == ERR_OK && step <= last && (op->step == PRUNE_LOOK || op->n < op->limit)) {
        code = next_step(c, step, &next, err);
        end = next <= last ? next : last + 1;
        if (code == ERR_OK)
            code = sqlite_bisect_time(c, step, end, op->from / 1000, &first, err);
        if (code == ERR_OK)
            code = sqlite_bisect_time(c, step, end, op->before / 1000, &end, err);
        if (code == ERR_OK && first < end)
            code = op->step == PRUNE_LOOK ? look(c, first, end, op, err) : take(c, first, end, op, err);
        step = next;
    }
    return code;
}
