/* sqlite_load.c - what the ledger needs to know before its first batch: items, accounts, lots, holds, budgets, the
 * chain, the event counter. The writer's connection, before it runs. */
#include "sqlite_conn.h"

typedef enum err_code row_fn(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err);

static enum err_code damaged(const char *what, int64_t row, struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, NULL, "The %s %lld is damaged: run `tallygate fsck`.", what, (long long)row);
}

static enum err_code each_row(struct sqlite_conn *c, const char *sql, row_fn *fn, struct ledger *l, struct err *err)
{
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(c, sql, &s, err);
    int rc;

    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE)
        code = rc == SQLITE_ROW ? fn(c, l, s, err) : sqlite_error(c, "Cannot load the ledger", err);
    sqlite3_finalize(s);
    return code;
}

static enum err_code load_item(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    int64_t row = sqlite3_column_int64(s, 0);

    (void)c;
    if (ledger_load_item(l, row, (const char *)sqlite3_column_text(s, 1),
                         (enum image_operation)sqlite3_column_int(s, 2), (const char *)sqlite3_column_text(s, 3),
                         (const char *)sqlite3_column_text(s, 4)))
        return ERR_OK;
    return damaged("item", row, err);
}

static enum err_code load_account(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    (void)c;
    (void)err;
    ledger_load_account(l, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int64(s, 2));
    return ERR_OK;
}

static enum err_code load_lot(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    const struct lot lot = {.seq = sqlite3_column_int64(s, 0),
                            .amount = sqlite3_column_int64(s, 2),
                            .remaining = sqlite3_column_int64(s, 3),
                            .category = (enum credit_category)sqlite3_column_int(s, 4),
                            .priority = sqlite3_column_int(s, 5),
                            .expires_at = sqlite3_column_int64(s, 6),
                            .status = (enum grant_status)sqlite3_column_int(s, 7)};

    (void)c;
    return ledger_load_lot(l, sqlite3_column_int64(s, 1), &lot) ? ERR_OK : damaged("grant", lot.seq, err);
}

/* The lots that a leg is taken from: one, or the rows of hold_pins. */
static enum err_code load_pins(struct sqlite_conn *c, struct ledger *l, const struct hold *h, int leg, int64_t lot,
                               struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_PINS];
    bool good = true;
    int rc = SQLITE_DONE;

    if (leg >= h->n_legs || h->legs[leg] == 0)
        return ERR_OK;
    if (lot != SPLIT_LEG)
        return ledger_load_pin(l, h->id, leg, lot, h->legs[leg]) ? ERR_OK : damaged("hold in slot", h->slot, err);
    sqlite3_bind_int64(s, 1, h->slot);
    sqlite3_bind_int(s, 2, leg);
    while (good && (rc = sqlite3_step(s)) == SQLITE_ROW)
        good = ledger_load_pin(l, h->id, leg, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1));
    sqlite3_reset(s);
    if (good && rc != SQLITE_DONE)
        return sqlite_error(c, "Cannot load a hold's lots", err);
    return good ? ERR_OK : damaged("hold in slot", h->slot, err);
}

static enum err_code load_cell(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    struct budget_cell cell = {.begin = sqlite3_column_int64(s, 3),
                               .end = sqlite3_column_int64(s, 4),
                               .used = sqlite3_column_int64(s, 5),
                               .estimated = sqlite3_column_int(s, 6) != 0};
    const struct cell_row row = {sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1), sqlite3_column_int(s, 2),
                                 &cell};

    (void)c;
    return ledger_load_cell(l, &row) ? ERR_OK : damaged("budget of owner", row.owner, err);
}

/* The last link; how many events are in it is counted, it may be one that still moves on. */
static enum err_code load_chain(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    struct chain chain = {
        .place = sqlite3_column_int64(s, 0), .last = sqlite3_column_int64(s, 1), .events = sqlite3_column_int64(s, 3)};
    struct slice hash = sqlite_column_slice(s, 2);

    (void)c;
    if (hash.len != CHAIN_HASH || chain.place < -1 || chain.events > CHAIN_EVENTS)
        return damaged("link of the chain", chain.place, err);
    memcpy(chain.hash, hash.p, CHAIN_HASH);
    if (chain.place < 0)
        chain = (struct chain){.last = chain.last};
    ledger_load_chain(l, &chain);
    return ERR_OK;
}

static enum err_code load_hold(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    struct hold h = {.slot = sqlite3_column_int64(s, 0)};
    int flags = sqlite3_column_int(s, 10), at = 2;
    enum err_code code;

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
    if (!ledger_load_hold(l, &h))
        return damaged("hold in slot", h.slot, err);
    code = load_pins(c, l, &h, 0, sqlite3_column_int64(s, 23), err);
    return code == ERR_OK ? load_pins(c, l, &h, 1, sqlite3_column_int64(s, 24), err) : code;
}

static enum err_code load_events(struct sqlite_conn *c, struct ledger *l, sqlite3_stmt *s, struct err *err)
{
    (void)c;
    (void)err;
    ledger_load_events(l, sqlite3_column_int64(s, 0), sqlite3_column_int64(s, 1) * 1000, sqlite3_column_int(s, 2) != 0);
    return ERR_OK;
}

enum err_code sqlite_load(struct sqlite_conn *c, struct ledger *l, struct err *err)
{
    static const char holds[] = "SELECT slot, id, epoch, state, tenant, customer, key, channel, item, n, flags, "
                                "n_legs, tenant_leg, customer_leg,"
                                " cost_max, wholesale_max, retail_max, version_cost, version_wholesale, "
                                "version_retail, rule, created_at, call_key, tenant_lot, customer_lot FROM holds";
    static const char lots[] =
        "SELECT seq, wallet, amount, remaining, category, priority, expires_at, status FROM grants WHERE remaining > 0";
    static const char cells[] = "SELECT owner, window, place, begin, end, used, estimated FROM budget_cells";
    static const char chain[] =
        "SELECT place, last, hash, (SELECT count(DISTINCT number >> 12) FROM transfers WHERE number >"
        "  coalesce((SELECT last FROM chain b WHERE b.place < c.place ORDER BY place DESC LIMIT 1), c.last)"
        "  AND number <= c.last) FROM chain c ORDER BY place DESC LIMIT 1";
    /* The last event: of the tables the row with the greatest number. */
    static const char events[] =
        "SELECT seq, created_ms, EXISTS (SELECT 1 FROM clock_steps) FROM"
        " (SELECT * FROM (SELECT seq, created_ms FROM usage ORDER BY seq DESC LIMIT 1) UNION ALL"
        "  SELECT * FROM (SELECT seq, created_ms FROM pruned ORDER BY seq DESC LIMIT 1) UNION ALL"
        "  SELECT * FROM (SELECT seq, created_ms FROM grants ORDER BY seq DESC LIMIT 1) UNION ALL"
        "  SELECT * FROM (SELECT seq, created_ms FROM entries ORDER BY seq DESC LIMIT 1))"
        " ORDER BY seq DESC LIMIT 1";
    enum err_code code;

    code = each_row(c, "SELECT row, model, operation, size, quality FROM items ORDER BY row", load_item, l, err);
    if (code == ERR_OK)
        code = each_row(c, "SELECT row, posted, held FROM accounts", load_account, l, err);
    if (code == ERR_OK)
        code = each_row(c, lots, load_lot, l, err);
    if (code == ERR_OK)
        code = each_row(c, holds, load_hold, l, err);
    if (code == ERR_OK)
        code = each_row(c, cells, load_cell, l, err);
    if (code == ERR_OK)
        code = each_row(c, chain, load_chain, l, err);
    if (code == ERR_OK)
        code = each_row(c, events, load_events, l, err);
    if (code == ERR_OK && !ledger_load_done(l))
        code = err_set(err, ERR_UNAVAILABLE, NULL, "What holds keep of wallets does not add up: run `tallygate fsck`.");
    return code;
}
