/* fsck_budget.c - what budgets have counted, against the usage records.
 *
 * A cell says when it begins and ends and what its owner was charged in it: wholesale for a tenant and its own keys,
 * retail for a customer and its keys. Two sorts are looked at only for whether their owner exists: estimated cells,
 * which were filled from sums of whole hours when the budget was made, and those of owners that are gone. */
#include "fsck_state.h"

#include <stdlib.h>

static bool match_owner(const void *item, const void *key)
{
    return ((const struct walked_owner *)item)->number == *(const int64_t *)key;
}

static struct walked_owner *find_owner(const struct walk *w, enum budget_owner_kind kind, int64_t row)
{
    int64_t number = row << BUDGET_OWNER_BITS | (int64_t)kind;

    return table_get(&w->owners, table_hash_u64((uint64_t)number), match_owner, &number);
}

static void add_cell(struct walk *w, sqlite3_stmt *s)
{
    int64_t number = sqlite3_column_int64(s, 0);
    uint64_t hash = table_hash_u64((uint64_t)number);
    struct walked_owner *owner = table_get(&w->owners, hash, match_owner, &number);
    struct walked_cell *cell = mem_zalloc(sizeof(*cell));

    if (owner == NULL) {
        owner = mem_zalloc(sizeof(*owner));
        owner->number = number;
        owner->status = sqlite3_column_int64(s, 5);
        owner->retail = sqlite3_column_int(s, 6) != 0;
        table_put(&w->owners, hash, match_owner, &number, owner);
    }
    cell->begin = sqlite3_column_int64(s, 1);
    cell->end = sqlite3_column_int64(s, 2);
    cell->used = sqlite3_column_int64(s, 3);
    cell->estimated = sqlite3_column_int(s, 4) != 0;
    cell->next = owner->cells;
    owner->cells = cell;
}

enum err_code walk_load_cells(struct walk *w, struct err *err)
{
    static const char sql[] =
        "SELECT b.owner, b.begin, b.end, b.used, b.estimated,"
        " coalesce(CASE b.owner & 3 WHEN 0 THEN (SELECT status FROM tenants WHERE row = b.owner >> 2)"
        "  WHEN 1 THEN (SELECT status FROM customers WHERE row = b.owner >> 2)"
        "  WHEN 2 THEN (SELECT status FROM keys WHERE row = b.owner >> 2) END, -1),"
        " CASE b.owner & 3 WHEN 1 THEN 1 WHEN 2 THEN EXISTS (SELECT 1 FROM keys WHERE row = b.owner >> 2"
        "  AND customer IS NOT NULL) ELSE 0 END FROM budget_cells b";
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(&w->f->conn, sql, &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        add_cell(w, s);
    if (rc != SQLITE_DONE)
        code = sqlite_error(&w->f->conn, "Cannot read the budgets", err);
    sqlite3_finalize(s);
    return code;
}

void walk_count_cells(struct walk *w, const struct usage_event *e)
{
    const int64_t rows[BUDGET_OWNERS] = {
        [BUDGET_TENANT] = e->tenant, [BUDGET_CUSTOMER] = e->customer, [BUDGET_KEY] = e->key};
    __int128 at = (__int128)e->created_ms * FSCK_MILLISECOND;

    if (w->owners.count == 0)
        return;
    for (int kind = 0; kind < BUDGET_OWNERS; kind++) {
        const struct walked_owner *owner =
            rows[kind] != 0 ? find_owner(w, (enum budget_owner_kind)kind, rows[kind]) : NULL;

        for (struct walked_cell *cell = owner != NULL ? owner->cells : NULL; cell != NULL; cell = cell->next)
            if (at >= cell->begin && at < cell->end)
                cell->sum += owner->retail ? e->retail : e->wholesale;
    }
}

static void compare_cell(struct walk *w, const struct walked_owner *owner, const struct walked_cell *cell)
{
    static const char *const kinds[BUDGET_OWNERS] = {
        [BUDGET_TENANT] = "tenant", [BUDGET_CUSTOMER] = "customer", [BUDGET_KEY] = "key"};
    int64_t kind = owner->number & ((1 << BUDGET_OWNER_BITS) - 1), row = owner->number >> BUDGET_OWNER_BITS;
    const char *name = kind < BUDGET_OWNERS ? kinds[kind] : "?";
    __int128 used = cell->sum < INT64_MAX ? cell->sum : INT64_MAX;
    bool exact = !cell->estimated && owner->status < RECORD_REVOKED;

    w->checked[WALK_BUDGETS]++;
    if (owner->status < 0 || cell->begin < 0 || cell->end <= cell->begin)
        finding_add(&w->findings[WALK_BUDGETS], "a cell of %s %lld from %lld to %lld", name, (long long)row,
                    (long long)cell->begin, (long long)cell->end);
    else if (cell->used < 0 || (exact && cell->used != used))
        finding_add(&w->findings[WALK_BUDGETS], "%s %lld from %lld to %lld: used %lld, records %lld", name,
                    (long long)row, (long long)cell->begin, (long long)cell->end, (long long)cell->used,
                    (long long)used);
}

void walk_compare_cells(struct walk *w)
{
    const struct walked_owner *owner;
    size_t pos = 0;

    while ((owner = table_next(&w->owners, &pos)) != NULL)
        for (const struct walked_cell *cell = owner->cells; cell != NULL; cell = cell->next)
            compare_cell(w, owner, cell);
}

void walk_dispose_cells(struct walk *w)
{
    struct walked_owner *owner;
    size_t pos = 0;

    while ((owner = table_next(&w->owners, &pos)) != NULL) {
        struct walked_cell *next;

        for (struct walked_cell *cell = owner->cells; cell != NULL; cell = next) {
            next = cell->next;
            free(cell);
        }
        free(owner);
    }
    table_dispose(&w->owners);
}
