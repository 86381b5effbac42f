/* sqlite_query.c - answers from the reader's connection: balances; and which question goes where.
 *
 * Most in one short read transaction each. A balance of the past is today's, without what events changed
 * since: they are summed in slices, after one transaction has said what there is. */
#include "sqlite_conn.h"

enum err_code sqlite_check_limit(int limit, struct err *err)
{
    if (limit >= 1 && limit <= STORE_PAGE)
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, "limit", "Invalid value for 'limit': expected 1 to %d.", STORE_PAGE);
}

/* ---- wallets ---- */

struct sqlite_wallet sqlite_make_wallet(int64_t tenant, int64_t customer, int64_t credit_limit)
{
    bool own = customer != 0;
    int64_t owner = own ? customer : tenant;

    return (struct sqlite_wallet){
        .account = account_number(own ? ACCOUNT_CUSTOMER_WALLET : ACCOUNT_TENANT_WALLET, owner),
        .receivable = account_number(own ? ACCOUNT_CUSTOMER_RECEIVABLE : ACCOUNT_TENANT_RECEIVABLE, owner),
        .tenant = tenant,
        .customer = customer,
        .credit_limit = credit_limit};
}

enum err_code sqlite_find_wallet(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row,
                                 struct sqlite_wallet *out, struct err *err)
{
    bool customer = customer_row != 0;
    sqlite3_stmt *s = c->statements[customer ? SQL_GET_CREDIT_CUSTOMER : SQL_GET_CREDIT_TENANT];
    int64_t limit = 0, tenant = 0;
    int rc;

    sqlite3_bind_int64(s, 1, customer ? customer_row : tenant_row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        limit = sqlite3_column_int64(s, 0);
        tenant = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_error(c, "Cannot read a wallet", err);
    if (rc == SQLITE_DONE || (tenant_row != 0 && tenant_row != tenant))
        return err_set(err, ERR_NOT_FOUND, NULL, "No such wallet.");
    *out = sqlite_make_wallet(tenant, customer_row, limit);
    return ERR_OK;
}

enum err_code sqlite_read_account(struct sqlite_conn *c, int64_t number, int64_t *posted, int64_t *held, bool *found,
                                  struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_ACCOUNT];
    int rc;

    sqlite3_bind_int64(s, 1, number);
    rc = sqlite3_step(s);
    *found = rc == SQLITE_ROW;
    *posted = *found ? sqlite3_column_int64(s, 0) : 0;
    *held = *found ? sqlite3_column_int64(s, 1) : 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read an account", err);
}

enum err_code sqlite_read_balance(struct sqlite_conn *c, const struct sqlite_wallet *w, struct store_balance *out,
                                  struct err *err)
{
    int64_t owed = 0, ignored;
    bool found;
    enum err_code code = sqlite_read_account(c, w->account, &out->posted, &out->held, &found, err);

    if (code == ERR_OK)
        code = sqlite_read_account(c, w->receivable, &owed, &ignored, &found, err);
    out->credit_limit = w->credit_limit;
    out->receivable = -owed;
    return code;
}

/* ---- balances ---- */

/* What it is now, less what came after <at>. */
static enum err_code read_past(struct sqlite_conn *c, struct store_balance_query *q, struct err *err)
{
    int64_t next = q->at < INT64_MAX - 1000 ? (q->at / 1000 + 1) * 1000 : q->at; /* the first millisecond after it */
    struct sqlite_flow *flow;
    int64_t owed = 0;
    bool done = false;
    enum err_code code = sqlite_flow_open(c, q->tenant_row, q->customer_row, next, next, &flow, err);

    if (code != ERR_OK)
        return code;
    while (code == ERR_OK && !done)
        code = sqlite_flow_walk(c, flow, &done, err);
    sqlite_flow_closing(flow, &q->balance.posted, &owed);
    sqlite_flow_close(flow);
    q->balance.receivable = -owed;
    q->balance.held = 0;
    return code;
}

static enum err_code ask_balance(struct sqlite_conn *c, struct store_balance_query *q, struct err *err)
{
    struct sqlite_wallet wallet;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    memset(&q->balance, 0, sizeof(q->balance));
    if (code != ERR_OK)
        return code;
    code = sqlite_find_wallet(c, q->tenant_row, q->customer_row, &wallet, err);
    if (code == ERR_OK)
        code = sqlite_read_balance(c, &wallet, &q->balance, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    return code == ERR_OK && q->at != 0 ? read_past(c, q, err) : code;
}

/* ---- dispatch ---- */

/* Questions that one short transaction answers. */
static void ask_at_once(struct sqlite_conn *c, struct store_query *query, struct err *err)
{
    if (sqlite_exec(c, "BEGIN", err) != ERR_OK)
        return;
    if (query->question == STORE_GET || query->question == STORE_LIST)
        (void)sqlite_ask_list(c, TG_CONTAINER(struct store_list, super, query), err);
    else if (query->question == STORE_GRANTS)
        (void)sqlite_ask_grants(c, TG_CONTAINER(struct store_grants_query, super, query), err);
    else if (query->question == STORE_HOLDS)
        (void)sqlite_ask_holds(c, TG_CONTAINER(struct store_holds_query, super, query), err);
    else
        (void)sqlite_ask_accounts(c, TG_CONTAINER(struct store_accounts_query, super, query), err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
}

bool sqlite_ask(struct sqlite_conn *c, struct store_query *query)
{
    struct err *err = &query->err;

    err->code = ERR_OK;
    switch (query->question) {
    case STORE_GET:
    case STORE_LIST:
    case STORE_GRANTS:
    case STORE_HOLDS:
    case STORE_ACCOUNTS:
        ask_at_once(c, query, err);
        return true;
    case STORE_BALANCE:
        (void)ask_balance(c, TG_CONTAINER(struct store_balance_query, super, query), err);
        return true;
    case STORE_USAGE:
        return sqlite_ask_usage(c, TG_CONTAINER(struct store_usage_query, super, query));
    case STORE_LEDGER:
        return sqlite_ask_ledger(c, TG_CONTAINER(struct store_ledger_query, super, query));
    case STORE_TURNOVER:
        return sqlite_ask_turnover(c, TG_CONTAINER(struct store_turnover, super, query));
    case STORE_AUDIT:
        return sqlite_ask_audit(c, TG_CONTAINER(struct store_audit_query, super, query));
    case STORE_REPORT:
        return sqlite_ask_report(c, TG_CONTAINER(struct store_report, super, query));
    case STORE_QUESTIONS:
        break;
    }
    (void)err_set(err, ERR_INTERNAL, NULL, "No such question.");
    return true;
}
