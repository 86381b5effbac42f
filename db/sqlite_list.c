/* sqlite_list.c - records one by one and in lists, newest first, for the reader's connection; of keys and customers
 * there may be a million.
 *
 * A page is found without looking at more rows than it has, or hardly more, whatever is filtered for:
 *
 *   last four characters     few keys have the same: their index, the rest is looked at row by row
 *   external_id              likewise
 *   begin of the prefix      an index of prefixes that has what else can be asked for: a 62nd of the keys by the first
 *                            random digit, a 3,844th by the second
 *   anything else            arms: one range of an index for each status and mode, each in order, merged
 *
 * Kinds of which there are few are read through. In a read transaction of the caller's. */
#include "sqlite_conn.h"

enum { LIST_SQL = 8192 }; /* bytes of a statement */

/* What a statement binds, whether it uses it or not. */
enum {
    PLACE_ID = 1,
    PLACE_BEFORE = 1,
    PLACE_TENANT,
    PLACE_EXTERNAL,
    PLACE_LIMIT,
    PLACE_CUSTOMER,
    PLACE_PREFIX,
    PLACE_PREFIX_END,
    PLACE_LAST4
};

/* The last letter of a prefix's range: behind every base62 digit. */
#define BEHIND_DIGITS "\x7f"

/* The column that a tenant's scope is about; NULL: a tenant sees none of this kind. */
static const char *tenant_column(enum record_kind kind)
{
    switch (kind) {
    case RECORD_TENANT:
        return "row";
    case RECORD_CUSTOMER:
    case RECORD_KEY:
    case RECORD_ADMIN_TOKEN:
    case RECORD_BOOK:
        return "tenant";
    case RECORD_CHANNEL:
    case RECORD_KINDS:
        break;
    }
    return NULL;
}

/* ---- the plain way ---- */

static void write_tenant(const struct store_list *q, struct buf *out)
{
    const char *column = tenant_column(q->kind);

    if (q->tenant_row != 0 && column != NULL)
        buf_printf(out, " AND %s = ?2", column);
    else if (q->tenant_row != 0)
        buf_append_str(out, " AND 0");
}

static void write_columns(const struct store_list *q, struct buf *out)
{
    buf_append_str(out, "SELECT ");
    sqlite_record_columns(q->kind, out);
    buf_printf(out, " FROM %s", sqlite_record_table(q->kind));
}

static void write_get(const struct store_list *q, struct buf *out)
{
    write_columns(q, out);
    buf_append_str(out, " WHERE id = ?1");
    if (!q->closed)
        buf_printf(out, " AND status <> %d", RECORD_DELETED);
    write_tenant(q, out);
    buf_append_str(out, " LIMIT ?4");
}

static void write_plain_list(const struct store_list *q, struct buf *out)
{
    write_columns(q, out);
    buf_printf(out, " WHERE status <> %d AND row < ?1", RECORD_DELETED);
    write_tenant(q, out);
    if (q->external_id[0] != '\0')
        buf_append_str(out, " AND external_id = ?3");
    if (q->status != 0)
        buf_printf(out, " AND status = %d", q->status - 1);
    buf_append_str(out, " ORDER BY row DESC LIMIT ?4");
}

/* ---- arms ---- */

/* The indexes of a kind of which there may be many; each ends in the row. */
static const struct many {
    const char *by_status, *by_tenant, *by_customer, *by_external_id;
    bool modes; /* the first three have the mode behind the status */
} many[RECORD_KINDS] = {
    [RECORD_TENANT] = {.by_status = "tenants_status", .by_external_id = "tenants_external_id"},
    [RECORD_CUSTOMER] = {.by_status = "customers_status",
                         .by_tenant = "customers_tenant",
                         .by_external_id = "customers_external_id"},
    [RECORD_KEY] = {.by_status = "keys_status",
                    .by_tenant = "keys_tenant",
                    .by_customer = "keys_customer",
                    .by_external_id = "keys_named",
                    .modes = true},
};

/* How many random digits of a key's visible prefix are given; -1: no key of that mode begins so. */
static int digits_given(const char *prefix, bool test)
{
    const char *head = test ? "sk-tg-test-" : "sk-tg-";
    size_t len = strlen(prefix), fixed = strlen(head);

    if (strncmp(prefix, head, len < fixed ? len : fixed) != 0)
        return -1;
    return len > fixed ? (int)(len - fixed) : 0;
}

static void begin_arm(const struct store_list *q, const char *index, int *arms, struct buf *out)
{
    buf_printf(out, "%sSELECT row FROM (SELECT row FROM %s INDEXED BY %s WHERE row < ?1",
               *arms > 0 ? " UNION ALL " : "", sqlite_record_table(q->kind), index);
    (*arms)++;
}

static void end_arm(struct buf *out)
{
    buf_append_str(out, " ORDER BY row DESC LIMIT ?4)");
}

/* Whose it must be. A key's customer tells its tenant. */
static void write_owner(const struct store_list *q, struct buf *out)
{
    if (q->kind != RECORD_KEY || q->customer_row == 0) {
        write_tenant(q, out);
        return;
    }
    buf_append_str(out, " AND customer = ?5");
    if (q->tenant_row != 0)
        buf_append_str(out, " AND (SELECT tenant FROM customers WHERE row = ?5) = ?2");
}

/* All else that is asked for, for an arm whose index has not seen to it. */
static void write_rest(const struct store_list *q, struct buf *out)
{
    buf_printf(out, " AND status <> %d", RECORD_DELETED); /* in these words: indexes of the live need them */
    if (q->status != 0)
        buf_printf(out, " AND status = %d", q->status - 1);
    if (q->external_id[0] != '\0')
        buf_append_str(out, " AND external_id = ?3");
    write_owner(q, out);
    if (q->kind != RECORD_KEY)
        return;
    if (q->mode != 0)
        buf_printf(out, " AND test = %d", q->mode - 1);
    if (q->prefix[0] != '\0')
        buf_append_str(out, " AND prefix >= ?6 AND prefix < ?7");
    if (q->last4[0] != '\0')
        buf_append_str(out, " AND last4 = ?8");
}

static void write_prefix_arm(const struct store_list *q, bool test, int *arms, struct buf *out)
{
    begin_arm(q, "keys_prefix", arms, out);
    buf_printf(out, " AND test = %d", test);
    write_rest(q, out);
    end_arm(out);
}

/* One for each status; <test> < 0: the kind has no modes. */
static void write_walk_arms(const struct store_list *q, int test, int *arms, struct buf *out)
{
    const struct many *m = &many[q->kind];
    const char *index = q->kind == RECORD_KEY && q->customer_row != 0 ? m->by_customer
                        : q->tenant_row != 0 && m->by_tenant != NULL  ? m->by_tenant
                                                                      : m->by_status;

    for (int status = 0; status < RECORD_DELETED; status++) {
        if (q->status != 0 && q->status - 1 != status)
            continue;
        begin_arm(q, index, arms, out);
        buf_printf(out, " AND status = %d", status);
        if (test >= 0)
            buf_printf(out, " AND test = %d", test);
        write_owner(q, out);
        end_arm(out);
    }
}

static void write_mode_arms(const struct store_list *q, bool test, int *arms, struct buf *out)
{
    int digits = digits_given(q->prefix, test);

    if (digits < 0 || (q->mode != 0 && q->mode - 1 != (int)test))
        return;
    if (digits > 0)
        write_prefix_arm(q, test, arms, out);
    else
        write_walk_arms(q, test, arms, out);
}

/* Returns how many arms there are; 0: nothing can be found. */
static int write_arms(const struct store_list *q, struct buf *out)
{
    const struct many *m = &many[q->kind];
    bool last4 = q->kind == RECORD_KEY && q->last4[0] != '\0';
    int arms = 0;

    if (last4 || q->external_id[0] != '\0') {
        begin_arm(q, last4 ? "keys_last4" : m->by_external_id, &arms, out);
        write_rest(q, out);
        end_arm(out);
    } else if (m->modes) {
        write_mode_arms(q, false, &arms, out);
        write_mode_arms(q, true, &arms, out);
    } else {
        write_walk_arms(q, -1, &arms, out);
    }
    return arms;
}

static int write_long_list(const struct store_list *q, struct buf *out)
{
    int arms;

    write_columns(q, out);
    buf_append_str(out, " WHERE row IN (SELECT row FROM (");
    arms = write_arms(q, out);
    buf_append_str(out, ") ORDER BY row DESC LIMIT ?4) ORDER BY row DESC");
    return arms;
}

/* False: nothing can be found. */
static bool write_list_sql(const struct store_list *q, struct buf *out)
{
    bool some = q->status - 1 != RECORD_DELETED;

    if (q->super.question == STORE_GET)
        write_get(q, out);
    else if (many[q->kind].by_status == NULL)
        write_plain_list(q, out);
    else
        some = write_long_list(q, out) > 0 && some;
    buf_append_char(out, '\0');
    TG_ASSERT(!out->full);
    return some;
}

/* ---- the answer ---- */

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
        wallet = sqlite_make_wallet(record->row, 0, ((const struct tenant *)record)->credit_limit);
        code = sqlite_read_balance(c, &wallet, &q->balances[place], err);
        break;
    case RECORD_CUSTOMER:
        tenant = ((const struct customer *)record)->tenant_row;
        wallet = sqlite_make_wallet(tenant, record->row, ((const struct customer *)record)->credit_limit);
        code = sqlite_read_balance(c, &wallet, &q->balances[place], err);
        break;
    case RECORD_KEY:
        tenant = ((const struct api_key *)record)->tenant_row;
        customer = ((const struct api_key *)record)->customer_row;
        break;
    case RECORD_ADMIN_TOKEN:
        tenant = ((const struct admin_token *)record)->tenant_row;
        break;
    case RECORD_BOOK:
        tenant = ((const struct book *)record)->tenant_row;
        break;
    case RECORD_CHANNEL:
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

/* The row after which the page begins: the cursor's, or where it would stand (ids grow as rows do). */
static enum err_code find_before(struct sqlite_conn *c, const struct store_list *q, int64_t *before, struct err *err)
{
    char sql[128];
    sqlite3_stmt *s = NULL;
    enum err_code code;
    int rc;

    *before = INT64_MAX;
    if (id_is_zero(q->id) || q->super.question == STORE_GET)
        return ERR_OK;
    (void)snprintf(sql, sizeof(sql), "SELECT row + (id < ?1) FROM %s WHERE id <= ?1 ORDER BY id DESC LIMIT 1",
                   sqlite_record_table(q->kind));
    code = sqlite_prepare(c, sql, &s, err);
    if (code != ERR_OK)
        return code;
    sqlite_bind_id(s, 1, &q->id);
    rc = sqlite3_step(s);
    *before = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot list records", err);
}

static enum err_code run_list(struct sqlite_conn *c, struct store_list *q, const char *sql, int64_t before, int limit,
                              struct err *err)
{
    char prefix_end[sizeof(q->prefix) + sizeof(BEHIND_DIGITS)];
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(c, sql, &s, err);

    if (code != ERR_OK)
        return code;
    if (q->super.question == STORE_GET)
        sqlite_bind_id(s, PLACE_ID, &q->id);
    else
        sqlite3_bind_int64(s, PLACE_BEFORE, before);
    (void)snprintf(prefix_end, sizeof(prefix_end), "%s" BEHIND_DIGITS, q->prefix);
    sqlite3_bind_int64(s, PLACE_TENANT, q->tenant_row);
    sqlite3_bind_text(s, PLACE_EXTERNAL, q->external_id, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, PLACE_LIMIT, limit + 1);
    sqlite3_bind_int64(s, PLACE_CUSTOMER, q->customer_row);
    sqlite3_bind_text(s, PLACE_PREFIX, q->prefix, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, PLACE_PREFIX_END, prefix_end, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, PLACE_LAST4, q->last4, -1, SQLITE_STATIC);
    code = read_items(c, s, q, limit, err);
    sqlite3_finalize(s);
    return code;
}

enum err_code sqlite_ask_list(struct sqlite_conn *c, struct store_list *q, struct err *err)
{
    bool get = q->super.question == STORE_GET;
    int limit = get ? 1 : q->limit;
    struct buf sql;
    int64_t before;
    enum err_code code;

    q->n = 0;
    q->more = false;
    TG_ASSERT((unsigned)q->kind < RECORD_KINDS);
    code = sqlite_check_limit(limit, err);
    if (code == ERR_OK)
        code = find_before(c, q, &before, err);
    if (code != ERR_OK)
        return code;
    buf_init(&sql, LIST_SQL);
    if (write_list_sql(q, &sql))
        code = run_list(c, q, sql.p, before, limit, err);
    buf_dispose(&sql);
    if (code == ERR_OK && get && q->n == 0)
        code = err_set(err, ERR_NOT_FOUND, NULL, "No such %s.", record_object(q->kind));
    if (code != ERR_OK)
        forget_items(q);
    return code;
}
