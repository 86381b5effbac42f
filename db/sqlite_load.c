/* sqlite_load.c - what the ledger needs to know before its first batch: items, accounts, holds, the event counter.
 * The writer's connection, before it runs. */
#include "sqlite_conn.h"

typedef enum err_code row_fn(struct ledger *l, sqlite3_stmt *s, struct err *err);

static enum err_code each_row(struct sqlite_conn *c, const char *sql, row_fn *fn, struct ledger *l, struct err *err)
{
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(c, sql, &s, err);
    int rc;

    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE)
        code = rc == SQLITE_ROW ? fn(l, s, err) : sqlite_error(c, "Cannot load the ledger", err);
    sqlite3_finalize(s);
    return code;
}

static enum err_code load_item(struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    int64_t row = sqlite3_column_int64(s, 0);

    if (ledger_load_item(l, row, (const char *)sqlite3_column_text(s, 1),
                         (enum image_operation)sqlite3_column_int(s, 2), (const char *)sqlite3_column_text(s, 3),
                         (const char *)sqlite3_column_text(s, 4)))
        return ERR_OK;
    return err_set(err, ERR_UNAVAILABLE, NULL, "Item %lld is damaged: run `tallygate fsck`.", (long long)row);
}

static enum err_code load_account(struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    (void)err;
    ledger_load_account(l, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2));
    return ERR_OK;
}

static enum err_code load_hold(struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    struct hold h = {.slot = sqlite3_column_int64(s, 0)};
    int flags = sqlite3_column_int(s, 10), at = 2;

    sqlite_column_id(s, 1, &h.id);
    h.epoch = sqlite3_column_int64(s, at++);
    h.state = (enum hold_state)sqlite3_column_int(s, at++);
    h.tenant_row = sqlite3_column_int64(s, at++);
    h.customer_row = sqlite3_column_int64(s, at++);
    h.key_row = sqlite3_column_int64(s, at++);
    h.channel_row = sqlite3_column_int64(s, at++);
    h.item = sqlite3_column_int64(s, at++);
    h.n = sqlite3_column_int(s, at++);
    at++;
    h.n_legs = sqlite3_column_int(s, at++);
    h.legs[0] = sqlite3_column_int64(s, at++);
    h.legs[1] = sqlite3_column_int64(s, at++);
    h.cost_max = sqlite3_column_int64(s, at++);
    h.wholesale_max = sqlite3_column_int64(s, at++);
    h.retail_max = sqlite3_column_int64(s, at++);
    h.version_cost = sqlite3_column_int64(s, at++);
    h.version_wholesale = sqlite3_column_int64(s, at++);
    h.version_retail = sqlite3_column_int64(s, at++);
    h.created_at = sqlite3_column_int64(s, 21);
    h.call_key = sqlite3_column_int64(s, 22);
    h.stream = (flags & 1) != 0;
    h.test = (flags & 2) != 0;
    h.rule = (enum conf_in_doubt)sqlite3_column_int(s, 20);
    if (ledger_load_hold(l, &h))
        return ERR_OK;
    return err_set(err, ERR_UNAVAILABLE, NULL, "The hold in slot %lld is damaged: run `tallygate fsck`.",
                   (long long)h.slot);
}

static enum err_code load_events(struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    (void)err;
    ledger_load_events(l, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1) * 1000);
    return ERR_OK;
}

enum err_code sqlite_load(struct sqlite_conn *c, struct ledger *l, struct err *err)
{
    static const char holds[] = "SELECT slot, id, epoch, state, tenant, customer, key, channel, item, n, flags, "
                                "n_legs, tenant_leg, customer_leg,"
                                " cost_max, wholesale_max, retail_max, version_cost, version_wholesale, "
                                "version_retail, rule, created_at, call_key FROM holds";
    /* The last event: of both tables the row with the greater number. */
    static const char events[] =
        "SELECT seq, created_ms FROM"
        " (SELECT * FROM (SELECT seq, created_ms FROM usage ORDER BY seq DESC LIMIT 1) UNION ALL"
        "  SELECT * FROM (SELECT seq, created_ms FROM grants ORDER BY seq DESC LIMIT 1))"
        " ORDER BY seq DESC LIMIT 1";
    enum err_code code;

    code = each_row(c, "SELECT row, model, operation, size, quality FROM items ORDER BY row", load_item, l, err);
    if (code == ERR_OK)
        code = each_row(c, "SELECT row, posted, held FROM accounts", load_account, l, err);
    if (code == ERR_OK)
        code = each_row(c, holds, load_hold, l, err);
    if (code == ERR_OK)
        code = each_row(c, events, load_events, l, err);
    return code;
}
