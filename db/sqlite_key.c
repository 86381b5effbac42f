/* sqlite_key.c - Idempotency-Keys of customers' calls (call_keys).
 *
 * Written as each operation is applied and not with the batch's effects, so that a look-up inside the transaction sees
 * the keys of the batch itself. A hold names its key's row; nothing is ever searched by request. Inside the writer's
 * transactions. */
#include "sqlite_conn.h"

static void read_key(sqlite3_stmt *s, struct call_key *out)
{
    struct slice fingerprint = sqlite_column_slice(s, 1);

    memset(out, 0, sizeof(*out));
    out->row = sqlite3_column_int64(s, 0);
    if (fingerprint.len == SECRET_DIGEST)
        memcpy(out->fingerprint, fingerprint.p, SECRET_DIGEST);
    sqlite_column_id(s, 2, &out->request);
    out->usage = sqlite3_column_int64(s, 3); /* NULL: 0 */
    out->at = sqlite3_column_int64(s, 4) * 1000;
}

enum err_code sqlite_find_key(struct sqlite_conn *c, const struct store_hold *op, int64_t oldest, struct call_key *out,
                              struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_KEY];
    enum err_code code = ERR_OK;
    int rc;

    sqlite3_bind_int64(s, 1, op->call.key_row);
    sqlite3_bind_text(s, 2, op->idempotency_key.p, (int)op->idempotency_key.len, SQLITE_STATIC);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        read_key(s, out);
    else if (rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read an idempotency key", err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    if (rc == SQLITE_DONE || (rc == SQLITE_ROW && out->usage != 0 && out->at < oldest))
        code = err_set(err, ERR_NOT_FOUND, NULL, "This idempotency key is free.");
    return code;
}

enum err_code sqlite_put_key(struct sqlite_conn *c, const struct store_hold *op, int64_t now, int64_t *row,
                             struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_KEY];
    enum err_code code;

    sqlite3_bind_int64(s, 1, op->call.key_row);
    sqlite3_bind_text(s, 2, op->idempotency_key.p, (int)op->idempotency_key.len, SQLITE_STATIC);
    sqlite3_bind_blob(s, 3, op->fingerprint, SECRET_DIGEST, SQLITE_STATIC);
    sqlite_bind_id(s, 4, &op->id);
    sqlite3_bind_int64(s, 5, now / 1000);
    code = sqlite_run(c, s, "Cannot keep an idempotency key", err);
    sqlite3_clear_bindings(s);
    *row = sqlite3_last_insert_rowid(c->db);
    return code;
}

enum err_code sqlite_end_key(struct sqlite_conn *c, const struct ended_key *key, int64_t now, struct err *err)
{
    sqlite3_stmt *s = c->statements[key->usage != 0 ? SQL_END_KEY : SQL_DROP_KEY];

    sqlite3_bind_int64(s, 1, key->row);
    if (key->usage != 0) {
        sqlite3_bind_int64(s, 2, key->usage);
        sqlite3_bind_int64(s, 3, now / 1000);
    }
    return sqlite_run(c, s, "Cannot settle an idempotency key", err);
}

enum err_code sqlite_drop_keys(struct sqlite_conn *c, int64_t oldest, bool *more, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_DROP_KEYS];
    enum err_code code;

    sqlite3_bind_int64(s, 1, oldest / 1000);
    sqlite3_bind_int(s, 2, CALL_KEYS_DROPPED);
    code = sqlite_run(c, s, "Cannot forget old idempotency keys", err);
    *more = sqlite3_changes(c->db) == CALL_KEYS_DROPPED;
    return code;
}
