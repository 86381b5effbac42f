/* sqlite_credential.c - API keys by the million: what a start needs of them, and when they were last used.
 *
 * A start reads the table once, on several connections side by side, a range of rows each; nothing is made of a row but
 * the credential. The writer's connection, or any reader's (load_credentials, last_key); one thread a connection. */
#include "sqlite_conn.h"

#include <stdlib.h>

enum { BUDGET_SQL = 1024 }; /* bytes of a statement made here */

/* ---- credentials ---- */

static char *opt_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    return text != NULL ? mem_strdup(text) : NULL;
}

/* Policy, limits, and an old secret that is not over: few keys have any. */
static struct credential_more *read_more(sqlite3_stmt *s, int at)
{
    struct slice old = sqlite_column_slice(s, at + 3);
    struct credential_more *more;

    if (sqlite3_column_type(s, at) == SQLITE_NULL && sqlite3_column_type(s, at + 1) == SQLITE_NULL &&
        old.len != SECRET_DIGEST)
        return NULL;
    more = mem_zalloc(sizeof(*more));
    more->policy = opt_text(s, at);
    more->limits = opt_text(s, at + 1);
    if (old.len == SECRET_DIGEST) {
        more->old_until = sqlite3_column_int64(s, at + 2);
        memcpy(more->old_digest, old.p, SECRET_DIGEST);
    }
    return more;
}

static struct credential *read_credential(sqlite3_stmt *s)
{
    struct credential *c = mem_zalloc(sizeof(*c));
    struct slice digest = sqlite_column_slice(s, 6);

    atomic_init(&c->refs, 1);
    c->row = sqlite3_column_int64(s, 0);
    sqlite_column_id(s, 1, &c->id);
    c->version = sqlite3_column_int64(s, 2);
    c->status = (uint8_t)sqlite3_column_int(s, 3);
    c->tenant_row = sqlite3_column_int64(s, 4);
    c->customer_row = sqlite3_column_int64(s, 5);
    if (digest.len == SECRET_DIGEST)
        memcpy(c->digest, digest.p, SECRET_DIGEST);
    c->test = sqlite3_column_int(s, 7) != 0;
    c->expires_at = sqlite3_column_int64(s, 8);
    atomic_init(&c->used_at, 0);
    if (sqlite3_column_int(s, 9) != 0)
        c->more = read_more(s, 10);
    return c;
}

enum err_code sqlite_load_credentials(struct sqlite_conn *c, int64_t first, int64_t end, credential_fn *fn, void *ctx,
                                      struct err *err)
{
    static const char sql[] =
        "SELECT row, id, version, status, tenant, customer, digest, test, expires_at,"
        " policy IS NOT NULL OR limits IS NOT NULL OR old_until IS NOT NULL, policy, limits, old_until, old_digest"
        " FROM keys WHERE row >= ?1 AND row < ?2 AND status < 3 ORDER BY row";
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_prepare(c, sql, &s, err);
    int rc = SQLITE_DONE;

    _Static_assert(RECORD_REVOKED == 3 && RECORD_DELETED == 4, "what is below these is live");
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, end);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        fn(ctx, read_credential(s));
    if (rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot load the API keys", err);
    sqlite3_finalize(s);
    return code;
}

enum err_code sqlite_last_key(struct sqlite_conn *c, int64_t *row, struct err *err)
{
    *row = 0;
    return sqlite_get_number(c, "SELECT coalesce(max(row), 0) FROM keys", row, err);
}

/* ---- keys with budgets ---- */

static void write_budget_sql(int64_t tenant_row, int64_t customer_row, struct buf *out)
{
    buf_append_str(out, "SELECT ");
    sqlite_record_columns(RECORD_KEY, out);
    buf_append_str(out, " FROM keys INDEXED BY keys_budgets WHERE budgets IS NOT NULL");
    if (tenant_row != 0)
        buf_append_str(out, " AND tenant = ?1");
    else
        buf_printf(out, " AND status < %d", RECORD_REVOKED);
    if (customer_row != 0)
        buf_append_str(out, " AND customer = ?2");
    buf_append_char(out, '\0');
    TG_ASSERT(!out->full);
}

enum err_code sqlite_budget_keys(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row, budget_key_fn *fn,
                                 void *ctx, struct err *err)
{
    sqlite3_stmt *s = NULL;
    struct record *key;
    struct buf sql;
    enum err_code code;
    int rc = SQLITE_DONE;

    buf_init(&sql, BUDGET_SQL);
    write_budget_sql(tenant_row, customer_row, &sql);
    code = sqlite_prepare(c, sql.p, &s, err);
    buf_dispose(&sql);
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(s, 1, tenant_row);
    sqlite3_bind_int64(s, 2, customer_row);
    while (code == ERR_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        code = sqlite_read_record(c, RECORD_KEY, s, &key, err);
        if (code != ERR_OK)
            break;
        code = fn(ctx, (const struct api_key *)key, err);
        record_unref(key);
    }
    if (code == ERR_OK && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read the budgets of API keys", err);
    sqlite3_finalize(s);
    return code;
}

/* ---- last use ---- */

enum err_code sqlite_touch(struct sqlite_conn *c, enum record_kind kind, int64_t row, int64_t at, struct err *err)
{
    sqlite3_stmt *s = c->statements[kind == RECORD_KEY ? SQL_TOUCH_KEY : SQL_TOUCH_TOKEN];

    TG_ASSERT(kind == RECORD_KEY || kind == RECORD_ADMIN_TOKEN);
    sqlite3_bind_int64(s, 1, row);
    sqlite3_bind_int64(s, 2, at);
    return sqlite_run(c, s, "Cannot note a last use", err);
}
