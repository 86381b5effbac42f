/* sqlite_admin.c - what admin calls leave beside records: replies kept for repeated calls, and the store's own
 * named values. Inside the writer's transactions (reads may stand outside). */
#include "sqlite_conn.h"

#include <stdlib.h>

static enum err_code unseal_reply(struct sqlite_conn *c, sqlite3_stmt *s, struct buf *body, struct err *err)
{
    struct slice sealed = sqlite_column_slice(s, 3);
    struct id request;
    size_t len;
    char *room;

    sqlite_column_id(s, 1, &request);
    if (sealed.len < SECRET_SEAL_EXTRA)
        return err_set(err, ERR_INTERNAL, NULL, "A stored reply is damaged.");
    len = sealed.len - SECRET_SEAL_EXTRA;
    room = buf_reserve(body, len + 1);
    if (room == NULL || !secret_unseal(c->secrets, request, (const uint8_t *)sealed.p, sealed.len, (uint8_t *)room))
        return err_set(err, ERR_INTERNAL, NULL, "A stored reply cannot be unsealed.");
    buf_advance(body, len);
    return ERR_OK;
}

enum err_code sqlite_find_reply(struct sqlite_conn *c, const struct store_actor *actor, int64_t oldest,
                                struct stored_reply *out, struct buf *body, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_REPLY];
    enum err_code code = ERR_OK;
    struct slice fingerprint;
    int rc;

    sqlite3_bind_int64(s, 1, actor->token_row);
    sqlite3_bind_text(s, 2, actor->idempotency_key.p, (int)actor->idempotency_key.len, SQLITE_STATIC);
    rc = sqlite3_step(s);
    if (rc == SQLITE_DONE || (rc == SQLITE_ROW && sqlite3_column_int64(s, 4) < oldest)) {
        code = err_set(err, ERR_NOT_FOUND, NULL, "No reply is kept under this key.");
    } else if (rc != SQLITE_ROW) {
        code = sqlite_error(c, "Cannot read a stored reply", err);
    } else {
        fingerprint = sqlite_column_slice(s, 0);
        memset(out->fingerprint, 0, sizeof(out->fingerprint));
        if (fingerprint.len == SECRET_DIGEST)
            memcpy(out->fingerprint, fingerprint.p, SECRET_DIGEST);
        out->status = sqlite3_column_int(s, 2);
        out->created_at = sqlite3_column_int64(s, 4);
        if (memcmp(out->fingerprint, actor->fingerprint, SECRET_DIGEST) == 0)
            code = unseal_reply(c, s, body, err);
    }
    sqlite3_reset(s);
    return code;
}

enum err_code sqlite_put_reply(struct sqlite_conn *c, const struct store_actor *actor, int64_t now, int64_t oldest,
                               struct err *err)
{
    sqlite3_stmt *drop = c->statements[SQL_DROP_REPLIES], *put = c->statements[SQL_PUT_REPLY];
    size_t len = actor->reply.len;
    uint8_t *sealed;
    enum err_code code;

    sqlite3_bind_int64(drop, 1, oldest);
    code = sqlite_run(c, drop, "Cannot forget old replies", err);
    if (code != ERR_OK)
        return code;
    sealed = mem_alloc(len + SECRET_SEAL_EXTRA);
    secret_seal(c->secrets, actor->request, (const uint8_t *)(len > 0 ? actor->reply.p : ""), len, sealed);
    sqlite3_bind_int64(put, 1, actor->token_row);
    sqlite3_bind_text(put, 2, actor->idempotency_key.p, (int)actor->idempotency_key.len, SQLITE_STATIC);
    sqlite3_bind_blob(put, 3, actor->fingerprint, SECRET_DIGEST, SQLITE_STATIC);
    sqlite_bind_id(put, 4, &actor->request);
    sqlite3_bind_int(put, 5, actor->status);
    sqlite3_bind_blob(put, 6, sealed, (int)(len + SECRET_SEAL_EXTRA), SQLITE_STATIC);
    sqlite3_bind_int64(put, 7, now);
    code = sqlite_run(c, put, "Cannot keep a reply", err);
    sqlite3_clear_bindings(put);
    free(sealed);
    return code;
}

enum err_code sqlite_get_meta(struct sqlite_conn *c, const char *name, uint8_t value[META_BYTES], size_t *len,
                              struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_META];
    enum err_code code = ERR_OK;
    struct slice found;
    int rc;

    *len = 0;
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        found = sqlite_column_slice(s, 0);
        if (found.len <= META_BYTES) {
            memcpy(value, found.p, found.len);
            *len = found.len;
        }
    } else if (rc != SQLITE_DONE) {
        code = sqlite_error(c, "Cannot read the store's values", err);
    }
    sqlite3_reset(s);
    return code;
}

enum err_code sqlite_put_meta(struct sqlite_conn *c, const char *name, const uint8_t *value, size_t len,
                              struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_META];
    enum err_code code;

    TG_ASSERT(len <= META_BYTES);
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, value, (int)len, SQLITE_STATIC);
    code = sqlite_run(c, s, "Cannot write the store's values", err);
    sqlite3_clear_bindings(s);
    return code;
}
