/* sqlite_rollup.c - where roll-ups are: how far they are folded, from when to when there are any, whose they are. On
 * any connection, in a transaction or outside. */
#include "sqlite_conn.h"

static enum err_code checked(struct sqlite_conn *c, int rc, const char *doing, struct err *err)
{
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, doing, err);
}

enum err_code sqlite_read_mark(struct sqlite_conn *c, struct fold_mark *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_FOLDED];
    int rc = sqlite3_step(s);

    *out = (struct fold_mark){0, 0, 0};
    if (rc == SQLITE_ROW) {
        out->quarter = sqlite3_column_int64(s, 0);
        out->tenant = sqlite3_column_int64(s, 1);
        out->minute = sqlite3_column_int64(s, 2);
    }
    sqlite3_reset(s);
    return checked(c, rc, "Cannot read what is folded", err);
}

enum err_code sqlite_rollup_ends(struct sqlite_conn *c, int64_t *first, int64_t *last, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_ROLLUP_ENDS];
    int rc = sqlite3_step(s);

    *first = *last = -1;
    if (rc == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL) {
        *first = sqlite3_column_int64(s, 0);
        *last = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    return checked(c, rc, "Cannot read roll-ups", err);
}

enum err_code sqlite_next_quarter(struct sqlite_conn *c, int64_t quarter, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_NEXT_QUARTER];
    int rc;

    sqlite3_bind_int64(s, 1, quarter);
    rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : INT64_MAX;
    sqlite3_reset(s);
    return checked(c, rc, "Cannot read roll-ups", err);
}

enum err_code sqlite_find_tenants(struct sqlite_conn *c, const struct filter_rows *rows, enum sql statement,
                                  int64_t *tenants, int *n, struct err *err)
{
    sqlite3_stmt *s = c->statements[statement];

    for (int i = 0; i < rows->n; i++) {
        int rc;

        sqlite3_bind_int64(s, 1, rows->rows[i]);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW)
            tenants[(*n)++] = sqlite3_column_int64(s, 0);
        sqlite3_reset(s);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return sqlite_error(c, "Cannot read an owner", err);
    }
    return ERR_OK;
}
