/* sqlite_audit.c - the audit trail: entries as the writer adds them, and the answer to who changed what.
 *
 * A list goes down from the newest entry, by the index of the tenant or object that is asked for, and looks at the rest
 * of the conditions row by row: in slices of SLICE rows, each a transaction of its own. The bounds of a time are found
 * once in an index of times; entries are numbered in the order in which they were made, but the clock may go back. */
#include "sqlite_conn.h"

#include <stdlib.h>

enum { SLICE = 4000 };

enum column {
    COLUMN_SEQ = 0,
    COLUMN_AT,
    COLUMN_TOKEN,
    COLUMN_ACTION,
    COLUMN_OBJECT,
    COLUMN_REQUEST,
    COLUMN_PEER,
    COLUMN_HASH,
    COLUMN_TENANT_ID,
    COLUMN_TOKEN_ID,
    COLUMN_TOKEN_NAME,
    COLUMN_TOKEN_TENANT,
    COLUMN_TENANT,
    COLUMN_BEFORE,
    COLUMN_AFTER
};

/* ---- writing ---- */

static void bind_slice(sqlite3_stmt *s, int place, struct slice text)
{
    if (text.len == 0)
        sqlite3_bind_null(s, place);
    else
        sqlite3_bind_text(s, place, text.p, (int)text.len, SQLITE_STATIC);
}

enum err_code sqlite_put_audit(struct sqlite_conn *c, const struct audit_entry *entry, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_AUDIT];
    enum err_code code;

    sqlite3_bind_int64(s, 1, entry->head.seq);
    sqlite3_bind_int64(s, 2, entry->at);
    sqlite3_bind_int64(s, 3, entry->token_row);
    sqlite3_bind_text(s, 4, entry->action, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, entry->object, -1, SQLITE_STATIC);
    sqlite_bind_id(s, 6, &entry->request);
    bind_slice(s, 7, entry->before);
    bind_slice(s, 8, entry->after);
    sqlite_bind_opt_number(s, 9, entry->tenant_row);
    sqlite_bind_opt_text(s, 10, entry->peer);
    sqlite3_bind_blob(s, 11, entry->head.hash, SECRET_DIGEST, SQLITE_STATIC);
    code = sqlite_run(c, s, "Cannot write the audit trail", err);
    sqlite3_clear_bindings(s);
    return code;
}

enum err_code sqlite_put_audit_head(struct sqlite_conn *c, const struct audit_head *head, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_AUDIT_HEAD];
    enum err_code code;

    sqlite3_bind_int64(s, 1, head->seq);
    sqlite3_bind_blob(s, 2, head->hash, SECRET_DIGEST, SQLITE_STATIC);
    code = sqlite_run(c, s, "Cannot write the audit trail", err);
    sqlite3_clear_bindings(s);
    return code;
}

enum err_code sqlite_get_audit_head(struct sqlite_conn *c, struct audit_head *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_AUDIT_HEAD];
    enum err_code code = ERR_OK;
    struct slice hash;
    int rc = sqlite3_step(s);

    if (rc == SQLITE_ROW) {
        out->seq = sqlite3_column_int64(s, 0);
        hash = sqlite_column_slice(s, 1);
        if (hash.len == SECRET_DIGEST)
            memcpy(out->hash, hash.p, SECRET_DIGEST);
        else
            code = err_set(err, ERR_UNAVAILABLE, NULL, "The audit trail's end is damaged.");
    } else if (rc == SQLITE_DONE) {
        code = err_set(err, ERR_UNAVAILABLE, NULL, "The audit trail's end is missing.");
    } else {
        code = sqlite_error(c, "Cannot read the audit trail", err);
    }
    sqlite3_reset(s);
    return code;
}

/* ---- what is asked for ---- */

/* The row and tenant of a named tenant or token, deleted or not. */
static enum err_code find_row(struct sqlite_conn *c, enum sql which, const struct id *id, const char *param,
                              int64_t tenant_row, int64_t *row, struct err *err)
{
    sqlite3_stmt *s = c->statements[which];
    int64_t tenant = 0;
    int rc;

    sqlite_bind_id(s, 1, id);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        *row = sqlite3_column_int64(s, 0);
        tenant = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_error(c, "Cannot read the audit trail", err);
    if (rc == SQLITE_DONE || (tenant_row != 0 && tenant != tenant_row))
        return err_set(err, ERR_NOT_FOUND, param, "No such %s.", param);
    return ERR_OK;
}

static enum err_code find_bounds(struct sqlite_conn *c, struct store_audit_query *q, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_AUDIT_BOUNDS];
    int rc;

    q->scan.first = INT64_MIN;
    q->scan.end = INT64_MAX;
    if (q->start_time == 0 && q->end_time == 0)
        return ERR_OK;
    sqlite3_bind_int64(s, 1, q->start_time != 0 ? q->start_time : INT64_MIN);
    sqlite3_bind_int64(s, 2, q->end_time != 0 ? q->end_time : INT64_MAX);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        q->scan.first = sqlite3_column_int64(s, 0);
        q->scan.end = sqlite3_column_int64(s, 1) + 1;
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW ? ERR_OK : sqlite_error(c, "Cannot read the audit trail", err);
}

static enum err_code make_ready(struct sqlite_conn *c, struct store_audit_query *q, struct err *err)
{
    enum err_code code = ERR_OK;

    q->n = 0;
    q->more = false;
    q->scan.scanned = 0;
    code = sqlite_check_limit(q->limit, err);
    if (q->scan.ready || code != ERR_OK)
        return code;
    q->scan.tenant_row = q->tenant_row;
    q->scan.token_row = -1;
    if (!id_is_zero(q->tenant))
        code = find_row(c, SQL_FIND_TENANT, &q->tenant, "tenant", q->tenant_row, &q->scan.tenant_row, err);
    if (code == ERR_OK && !id_is_zero(q->token))
        code = find_row(c, SQL_FIND_TOKEN, &q->token, "token", q->tenant_row, &q->scan.token_row, err);
    if (code == ERR_OK)
        code = find_bounds(c, q, err);
    q->scan.ready = code == ERR_OK;
    return code;
}

/* ---- reading ---- */

static bool matches_action(const char *wanted, struct slice action)
{
    size_t len = strlen(wanted);

    if (len == 0)
        return true;
    return wanted[len - 1] == '.' ? slice_starts(action, slice_from(wanted)) : slice_eq_str(action, wanted);
}

static bool is_wanted(const struct store_audit_query *q, sqlite3_stmt *s)
{
    int64_t at = sqlite3_column_int64(s, COLUMN_AT);

    return (q->start_time == 0 || at >= q->start_time) && (q->end_time == 0 || at < q->end_time) &&
           (q->scan.tenant_row == 0 || sqlite3_column_int64(s, COLUMN_TENANT) == q->scan.tenant_row) &&
           (q->scan.token_row < 0 || sqlite3_column_int64(s, COLUMN_TOKEN) == q->scan.token_row) &&
           (q->object[0] == '\0' || slice_eq_str(sqlite_column_slice(s, COLUMN_OBJECT), q->object)) &&
           matches_action(q->action, sqlite_column_slice(s, COLUMN_ACTION));
}

static char *copy_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    return text != NULL ? mem_strdup(text) : NULL;
}

static void read_entry(sqlite3_stmt *s, struct store_audited *a)
{
    struct slice hash = sqlite_column_slice(s, COLUMN_HASH);

    memset(a, 0, sizeof(*a));
    a->seq = sqlite3_column_int64(s, COLUMN_SEQ);
    a->at = sqlite3_column_int64(s, COLUMN_AT);
    a->token_row = sqlite3_column_int64(s, COLUMN_TOKEN);
    a->token_tenant = sqlite3_column_int64(s, COLUMN_TOKEN_TENANT);
    sqlite_column_id(s, COLUMN_REQUEST, &a->request);
    sqlite_column_id(s, COLUMN_TENANT_ID, &a->tenant_id);
    sqlite_column_id(s, COLUMN_TOKEN_ID, &a->token_id);
    sqlite_column_copy(s, COLUMN_TOKEN_NAME, a->token_name, sizeof(a->token_name));
    sqlite_column_copy(s, COLUMN_ACTION, a->action, sizeof(a->action));
    sqlite_column_copy(s, COLUMN_OBJECT, a->object, sizeof(a->object));
    sqlite_column_copy(s, COLUMN_PEER, a->peer, sizeof(a->peer));
    a->chained = hash.len == SECRET_DIGEST;
    if (a->chained)
        memcpy(a->hash, hash.p, SECRET_DIGEST);
    a->before = copy_text(s, COLUMN_BEFORE);
    a->after = copy_text(s, COLUMN_AFTER);
}

void store_audit_dispose(struct store_audit_query *query)
{
    for (int i = 0; i < query->n; i++) {
        free(query->items[i].before);
        free(query->items[i].after);
    }
    query->n = 0;
}

static size_t text_bytes(const struct store_audited *a)
{
    return (a->before != NULL ? strlen(a->before) : 0) + (a->after != NULL ? strlen(a->after) : 0);
}

/* Rows of a statement that goes down, until the page is full, SLICE were looked at or there are no more (*done). */
static enum err_code read_rows(struct sqlite_conn *c, sqlite3_stmt *s, struct store_audit_query *q, bool *done,
                               struct err *err)
{
    size_t bytes = 0;
    int rc, looked = 0;

    for (int i = 0; i < q->n; i++)
        bytes += text_bytes(&q->items[i]);
    *done = true;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (looked++ == SLICE) {
            *done = false;
            return ERR_OK;
        }
        if (is_wanted(q, s)) {
            if (q->n == q->limit || bytes >= AUDIT_PAGE_TEXT) {
                q->more = true;
                return ERR_OK;
            }
            read_entry(s, &q->items[q->n]);
            bytes += text_bytes(&q->items[q->n++]);
        }
        q->scan.scanned = sqlite3_column_int64(s, COLUMN_SEQ);
    }
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read the audit trail", err);
}

/* The index that leaves the fewest rows. */
static sqlite3_stmt *choose(struct sqlite_conn *c, const struct store_audit_query *q)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_AUDIT];

    if (q->object[0] != '\0') {
        s = c->statements[SQL_LIST_OBJECT_AUDIT];
        sqlite3_bind_text(s, 3, q->object, -1, SQLITE_STATIC);
    } else if (q->scan.tenant_row != 0) {
        s = c->statements[SQL_LIST_TENANT_AUDIT];
        sqlite3_bind_int64(s, 3, q->scan.tenant_row);
    }
    return s;
}

static enum err_code ask_slice(struct sqlite_conn *c, struct store_audit_query *q, bool *done, struct err *err)
{
    int64_t end = q->scan.scanned != 0 ? q->scan.scanned : q->after != 0 ? q->after : INT64_MAX;
    sqlite3_stmt *s = choose(c, q);
    enum err_code code;

    sqlite3_bind_int64(s, 1, end < q->scan.end ? end : q->scan.end);
    sqlite3_bind_int64(s, 2, q->scan.first);
    code = read_rows(c, s, q, done, err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return code;
}

bool sqlite_ask_audit(struct sqlite_conn *c, struct store_audit_query *q)
{
    struct err *err = &q->super.err;
    bool done = true;
    enum err_code code = sqlite_exec(c, "BEGIN", err);

    if (code != ERR_OK)
        return true;
    if (!q->scan.ready || q->scan.scanned == 0)
        code = make_ready(c, q, err);
    if (code == ERR_OK)
        code = ask_slice(c, q, &done, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    if (code != ERR_OK)
        store_audit_dispose(q);
    return done;
}
