/* sqlite_query.c - answers from the reader's connection: records, lists, balances; and which question goes where.
 *
 * Records and lists in one short read transaction each. A balance of the past is today's, without what events changed
 * since: they are summed in slices, after one transaction has said what there is. */
#include "sqlite_conn.h"

enum { LIST_SQL = 1024, EVENTS_SLICE = 20000 }; /* bytes of a statement; rows of one read transaction */

enum err_code sqlite_check_limit(int limit, struct err *err)
{
    if (limit >= 1 && limit <= STORE_PAGE)
        return ERR_OK;
    return err_set(err, ERR_INVALID_VALUE, "limit", "Invalid value for 'limit': expected 1 to %d.", STORE_PAGE);
}

/* ---- wallets ---- */

static struct sqlite_wallet make_wallet(int64_t tenant, int64_t customer, int64_t credit_limit)
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
    *out = make_wallet(tenant, customer_row, limit);
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

static enum err_code read_balance(struct sqlite_conn *c, const struct sqlite_wallet *w, struct store_balance *out,
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

/* ---- records ---- */

/* The column that a tenant's scope is about; NULL: a tenant sees none of this kind. */
static const char *tenant_column(enum record_kind kind)
{
    switch (kind) {
    case RECORD_TENANT:
        return "row";
    case RECORD_CUSTOMER:
    case RECORD_KEY:
    case RECORD_ADMIN_TOKEN:
        return "tenant";
    case RECORD_CHANNEL:
    case RECORD_BOOK:
    case RECORD_KINDS:
        break;
    }
    return NULL;
}

static void write_list_sql(const struct store_list *q, struct buf *out)
{
    const char *column = tenant_column(q->kind);
    const char *table = sqlite_record_table(q->kind);

    buf_append_str(out, "SELECT ");
    sqlite_record_columns(q->kind, out);
    buf_printf(out, " FROM %s WHERE status <> %d", table, RECORD_DELETED);
    if (q->super.question == STORE_GET)
        buf_append_str(out, " AND id = ?1");
    else if (!id_is_zero(q->id))
        buf_printf(out, " AND row < (SELECT row FROM %s WHERE id = ?1)", table);
    if (q->tenant_row != 0 && column != NULL)
        buf_printf(out, " AND %s = ?2", column);
    else if (q->tenant_row != 0)
        buf_append_str(out, " AND 0");
    if (q->external_id[0] != '\0')
        buf_append_str(out, " AND external_id = ?3");
    buf_append_str(out, " ORDER BY row DESC LIMIT ?4");
    buf_append_char(out, '\0');
    TG_ASSERT(!out->full);
}

static enum err_code read_id(struct sqlite_conn *c, enum sql which, int64_t row, struct id *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[which];
    int rc;

    memset(out, 0, sizeof(*out));
    if (row == 0)
        return ERR_OK;
    sqlite3_bind_int64(s, 1, row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        sqlite_column_id(s, 0, out);
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read an owner", err);
}

/* What stands beside a record in a list: its owners' ids, and a wallet's balance. */
static enum err_code complete_item(struct sqlite_conn *c, struct store_list *q, int place, struct err *err)
{
    const struct record *record = q->items[place];
    struct sqlite_wallet wallet;
    int64_t tenant = 0, customer = 0;
    enum err_code code = ERR_OK;

    memset(&q->balances[place], 0, sizeof(q->balances[place]));
    switch (record->kind) {
    case RECORD_TENANT:
        wallet = make_wallet(record->row, 0, ((const struct tenant *)record)->credit_limit);
        code = read_balance(c, &wallet, &q->balances[place], err);
        break;
    case RECORD_CUSTOMER:
        tenant = ((const struct customer *)record)->tenant_row;
        wallet = make_wallet(tenant, record->row, ((const struct customer *)record)->credit_limit);
        code = read_balance(c, &wallet, &q->balances[place], err);
        break;
    case RECORD_KEY:
        tenant = ((const struct api_key *)record)->tenant_row;
        customer = ((const struct api_key *)record)->customer_row;
        break;
    case RECORD_ADMIN_TOKEN:
        tenant = ((const struct admin_token *)record)->tenant_row;
        break;
    case RECORD_CHANNEL:
    case RECORD_BOOK:
    case RECORD_KINDS:
        break;
    }
    if (code == ERR_OK)
        code = read_id(c, SQL_GET_TENANT_ID, tenant, &q->tenant_ids[place], err);
    if (code == ERR_OK)
        code = read_id(c, SQL_GET_CUSTOMER_ID, customer, &q->customer_ids[place], err);
    return code;
}

static void forget_items(struct store_list *q)
{
    for (int i = 0; i < q->n; i++)
        record_unref(q->items[i]);
    q->n = 0;
    q->more = false;
}

static enum err_code read_items(struct sqlite_conn *c, sqlite3_stmt *s, struct store_list *q, int limit,
                                struct err *err)
{
    enum err_code code = ERR_OK;
    int rc;

    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW)
            return sqlite_error(c, "Cannot list records", err);
        if (q->n == limit) {
            q->more = true;
            return ERR_OK;
        }
        code = sqlite_read_record(c, q->kind, s, &q->items[q->n], err);
        if (code == ERR_OK)
            code = complete_item(c, q, q->n++, err);
    }
    return code;
}

static enum err_code check_after(struct sqlite_conn *c, const struct store_list *q, struct err *err)
{
    char sql[128];
    sqlite3_stmt *s = NULL;
    enum err_code code;
    int rc;

    if (id_is_zero(q->id) || q->super.question == STORE_GET)
        return ERR_OK;
    (void)snprintf(sql, sizeof(sql), "SELECT 1 FROM %s WHERE id = ?1", sqlite_record_table(q->kind));
    code = sqlite_prepare(c, sql, &s, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_id(s, 1, &q->id);
    rc = sqlite3_step(s);
    sqlite3_finalize(s);
    if (rc == SQLITE_ROW)
        return ERR_OK;
    return rc == SQLITE_DONE ? err_set(err, ERR_INVALID_VALUE, "after", "Invalid value for 'after': no such object.")
                             : sqlite_error(c, "Cannot list records", err);
}

static enum err_code ask_list(struct sqlite_conn *c, struct store_list *q, struct err *err)
{
    bool get = q->super.question == STORE_GET;
    int limit = get ? 1 : q->limit;
    sqlite3_stmt *s = NULL;
    struct buf sql;
    enum err_code code;

    q->n = 0;
    q->more = false;
    TG_ASSERT((unsigned)q->kind < RECORD_KINDS);
    code = sqlite_check_limit(limit, err);
    if (code == ERR_OK)
        code = check_after(c, q, err);
    if (code != ERR_OK)
        return code;
    buf_init(&sql, LIST_SQL);
    write_list_sql(q, &sql);
    code = sqlite_prepare(c, sql.p, &s, err);
    buf_dispose(&sql);
    if (code != ERR_OK)
        return code;
    if (get || !id_is_zero(q->id))
        sqlite_bind_id(s, 1, &q->id);
    sqlite3_bind_int64(s, 2, q->tenant_row);
    sqlite3_bind_text(s, 3, q->external_id, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 4, limit + 1);
    code = read_items(c, s, q, limit, err);
    sqlite3_finalize(s);
    if (code == ERR_OK && get && q->n == 0)
        code = err_set(err, ERR_NOT_FOUND, NULL, "No such %s.", record_object(q->kind));
    if (code != ERR_OK)
        forget_items(q);
    return code;
}

/* ---- balances ---- */

/* What later events changed, to be taken off the balance of today. */
struct later {
    struct sqlite_wallet wallet;
    int64_t after_ms;
    int64_t posted, receivable; /* of the two accounts */
};

/* Adds the events of one owner numbered [first, end), in slices: the past does not change, so each slice may be a
 * transaction of its own. */
static enum err_code add_later(struct sqlite_conn *c, enum sql which, int64_t owner, int64_t first, int64_t end,
                               struct later *later, struct err *err)
{
    sqlite3_stmt *s = c->statements[which];
    int n = EVENTS_SLICE, rc = SQLITE_DONE;

    while (n == EVENTS_SLICE && rc == SQLITE_DONE) {
        sqlite3_bind_int64(s, 1, owner);
        sqlite3_bind_int64(s, 2, first);
        sqlite3_bind_int64(s, 3, end);
        sqlite3_bind_int(s, 4, EVENTS_SLICE);
        sqlite3_bind_int64(s, 5, later->wallet.account);
        sqlite3_bind_int64(s, 6, later->wallet.receivable);
        sqlite3_bind_int64(s, 7, later->after_ms);
        for (n = 0; (rc = sqlite3_step(s)) == SQLITE_ROW; n++) {
            first = sqlite3_column_int64(s, 0) + 1;
            later->posted += sqlite3_column_int64(s, 1);
            later->receivable += sqlite3_column_int64(s, 2);
        }
        sqlite3_reset(s);
    }
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot sum events", err);
}

/* A grant puts its whole amount into its wallet. */
static enum err_code add_later_grants(struct sqlite_conn *c, struct later *later, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_LATER_GRANTS];
    int rc;

    sqlite3_bind_int64(s, 1, later->wallet.account);
    sqlite3_bind_int64(s, 2, later->after_ms);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        later->posted += sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return rc == SQLITE_ROW ? ERR_OK : sqlite_error(c, "Cannot sum grants", err);
}

static enum err_code read_last_entry(struct sqlite_conn *c, int64_t account, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_LAST_ENTRY];
    int rc;

    sqlite3_bind_int64(s, 1, account);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    sqlite3_reset(s);
    return rc == SQLITE_ROW ? ERR_OK : sqlite_error(c, "Cannot read the last entry", err);
}

/* What is so in one moment: the balance, and how far the events go that made it. */
static enum err_code read_moment(struct sqlite_conn *c, struct store_balance_query *q, struct later *later,
                                 struct sqlite_ranges *usage, int64_t *last_entry, struct err *err)
{
    enum err_code code = sqlite_find_wallet(c, q->tenant_row, q->customer_row, &later->wallet, err);

    if (code == ERR_OK)
        code = read_balance(c, &later->wallet, &q->balance, err);
    if (code != ERR_OK || q->at == 0)
        return code;
    code = add_later_grants(c, later, err);
    if (code == ERR_OK)
        code = read_last_entry(c, later->wallet.account, last_entry, err);
    if (code == ERR_OK)
        code = sqlite_time_ranges(c, later->after_ms + 1, 0, usage, err);
    return code;
}

static enum err_code ask_balance(struct sqlite_conn *c, struct store_balance_query *q, struct err *err)
{
    struct later later = {.after_ms = q->at / 1000};
    struct sqlite_ranges usage = {.n = 0};
    int64_t last_entry = 0;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    memset(&q->balance, 0, sizeof(q->balance));
    if (code != ERR_OK)
        return code;
    code = read_moment(c, q, &later, &usage, &last_entry, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    for (int i = 0; code == ERR_OK && i < usage.n; i++)
        code = add_later(c, SQL_GET_LATER_USAGE, later.wallet.tenant, usage.at[i].first, usage.at[i].end, &later, err);
    if (code == ERR_OK && last_entry != 0)
        code = add_later(c, SQL_GET_LATER_ENTRIES, later.wallet.account, 1, last_entry + 1, &later, err);
    if (code == ERR_OK && q->at != 0) {
        q->balance.posted -= later.posted;
        q->balance.receivable += later.receivable;
        q->balance.held = 0;
    }
    return code;
}

/* ---- dispatch ---- */

/* Questions that one short transaction answers. */
static void ask_at_once(struct sqlite_conn *c, struct store_query *query, struct err *err)
{
    if (sqlite_exec(c, "BEGIN", err) != ERR_OK)
        return;
    if (query->question == STORE_GET || query->question == STORE_LIST)
        (void)ask_list(c, TG_CONTAINER(struct store_list, super, query), err);
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
    case STORE_QUESTIONS:
        break;
    }
    (void)err_set(err, ERR_INTERNAL, NULL, "No such question.");
    return true;
}
