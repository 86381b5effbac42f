/* sqlite_engine.c - the engine over SQLite connections: lock, transactions, checkpoints.
 *
 *   WAL:   |<---- backfilled ---->|<---- to be checkpointed ---->|  frames
 *          a checkpoint moves the first border right; when both meet, SQLite starts over at the file's beginning
 *
 * Invariants
 *  (1) Whoever has a writer has PATH.lock; so no second process writes, checkpoints or recovers.
 *  (2) Only the writer checkpoints, between transactions: when idle, or once WAL_FRAMES wait. The file is never cut
 * while open, so that commits overwrite blocks that exist. (3) After a failed commit nothing is checkpointed any more:
 * what the disk has is decided by the next start. Threads: see engine.h. */
#include "sqlite.h"

#include "daemon/base/failpoint.h"
#include "lock.h"
#include "sqlite_conn.h"

#include <limits.h>
#include <stdlib.h>

enum { WAL_FRAMES = 16 * 1024 * 1024 / 4096 };

struct sqlite_engine {
    struct engine super;
    struct sqlite_conn conn;
    char *path;
    int lock; /* -1 on readers */
    int frames, backfilled;
};

static struct sqlite_engine *self(struct engine *e)
{
    return TG_CONTAINER(struct sqlite_engine, super, e);
}

/* ---- transactions ---- */

static enum err_code begin(struct engine *e, struct err *err)
{
    struct sqlite_conn *c = &self(e)->conn;
    sqlite3_stmt *s = c->statements[SQL_BEGIN];
    enum err_code code = ERR_OK;
    int rc;

    if (FAILPOINT(BEGIN_BUSY))
        return err_set(err, ERR_CONFLICT, NULL, "Another program holds the database.");
    rc = sqlite3_step(s);
    if ((rc & 0xff) == SQLITE_BUSY)
        code = err_set(err, ERR_CONFLICT, NULL, "Another program holds the database.");
    else if (rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot begin", err);
    sqlite3_reset(s);
    return code;
}

static enum err_code commit(struct engine *e, struct err *err)
{
    struct sqlite_conn *c = &self(e)->conn;

    enum err_code code = FAILPOINT_CODE(COMMIT_BEFORE, err);

    if (code == ERR_OK)
        code = sqlite_run(c, c->statements[SQL_COMMIT], "Cannot commit", err);
    return code == ERR_OK ? FAILPOINT_CODE(COMMIT_AFTER, err) : code;
}

static void rollback(struct engine *e)
{
    (void)sqlite3_exec(self(e)->conn.db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- checkpoints ---- */

static int on_commit(void *ctx, sqlite3 *db, const char *name, int frames)
{
    struct sqlite_engine *e = ctx;

    (void)db;
    (void)name;
    if (frames <= e->frames) /* started over */
        e->backfilled = 0;
    e->frames = frames;
    return SQLITE_OK;
}

static bool untidy(const struct engine *e)
{
    const struct sqlite_engine *s = TG_CONTAINER(const struct sqlite_engine, super, e);

    return s->frames > s->backfilled;
}

static enum err_code tidy(struct engine *e, bool idle, struct err *err)
{
    struct sqlite_engine *s = self(e);
    int frames = 0, done = 0, rc;

    if (s->frames - s->backfilled < (idle ? 1 : WAL_FRAMES))
        return ERR_OK;
    if (FAILPOINT(CHECKPOINT_BEFORE))
        return FAILPOINT_ERROR(err);
    rc = sqlite3_wal_checkpoint_v2(s->conn.db, "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &done);
    if ((rc & 0xff) == SQLITE_BUSY)
        return ERR_OK;
    if (rc != SQLITE_OK)
        return sqlite_error(&s->conn, "Cannot checkpoint", err);
    s->frames = frames;
    s->backfilled = done;
    return FAILPOINT_CODE(CHECKPOINT_AFTER, err);
}

/* ---- the rest of the interface ---- */

static enum err_code migrate(struct engine *e, bool apply, int *applied, struct err *err)
{
    struct sqlite_conn *c = &self(e)->conn;
    enum err_code code = sqlite_migrate(c, apply, applied, err);

    return code == ERR_OK ? sqlite_conn_prepare(c, err) : code;
}

static enum err_code load(struct engine *e, struct ledger *l, struct err *err)
{
    enum err_code code = sqlite_load(&self(e)->conn, l, err);

    return code == ERR_OK ? sqlite_fold_load(&self(e)->conn, err) : code;
}

static enum err_code load_records(struct engine *e, void (*fn)(void *ctx, struct record *record), void *ctx,
                                  struct err *err)
{
    return sqlite_load_records(&self(e)->conn, fn, ctx, err);
}

static enum err_code load_credentials(struct engine *e, int64_t first, int64_t end, credential_fn *fn, void *ctx,
                                      struct err *err)
{
    return sqlite_load_credentials(&self(e)->conn, first, end, fn, ctx, err);
}

static enum err_code last_key(struct engine *e, int64_t *row, struct err *err)
{
    return sqlite_last_key(&self(e)->conn, row, err);
}

static enum err_code budget_keys(struct engine *e, int64_t tenant_row, int64_t customer_row, budget_key_fn *fn,
                                 void *ctx, struct err *err)
{
    return sqlite_budget_keys(&self(e)->conn, tenant_row, customer_row, fn, ctx, err);
}

static enum err_code put_effects(struct engine *e, const struct effects *effects, struct err *err)
{
    return sqlite_put_effects(&self(e)->conn, effects, err);
}

static enum err_code spent(struct engine *e, const struct budget_owner *owner, int64_t from, int64_t to, int64_t *out,
                           struct err *err)
{
    return sqlite_spent(&self(e)->conn, owner, from, to, out, err);
}

static enum err_code find_grant(struct engine *e, int64_t seq, struct store_grant *out, struct err *err)
{
    return sqlite_find_grant(&self(e)->conn, seq, out, err);
}

static enum err_code find_charge(struct engine *e, int64_t seq, struct charge *out, struct err *err)
{
    return sqlite_find_charge(&self(e)->conn, seq, out, err);
}

static enum err_code prune(struct engine *e, struct store_prune *op, struct err *err)
{
    return sqlite_prune(&self(e)->conn, op, err);
}

static enum err_code fold(struct engine *e, int64_t before, int rows, struct err *err)
{
    return sqlite_fold(&self(e)->conn, before, rows, err);
}

static void folding(const struct engine *e, struct fold_state *out)
{
    sqlite_folding(&TG_CONTAINER(const struct sqlite_engine, super, e)->conn, out);
}

static enum err_code put_record(struct engine *e, struct record *record, struct err *err)
{
    return sqlite_put_record(&self(e)->conn, record, err);
}

static enum err_code put_records(struct engine *e, struct record **records, int n, int *failed, struct err *err)
{
    return sqlite_put_records(&self(e)->conn, records, n, failed, err);
}

static enum err_code touch(struct engine *e, enum record_kind kind, int64_t row, int64_t at, struct err *err)
{
    return sqlite_touch(&self(e)->conn, kind, row, at, err);
}

static enum err_code find_record(struct engine *e, enum record_kind kind, int64_t row, struct record **out,
                                 struct err *err)
{
    return sqlite_find_record(&self(e)->conn, kind, row, out, err);
}

static enum err_code find_reply(struct engine *e, const struct store_actor *actor, int64_t oldest,
                                struct stored_reply *out, struct buf *body, struct err *err)
{
    return sqlite_find_reply(&self(e)->conn, actor, oldest, out, body, err);
}

static enum err_code put_reply(struct engine *e, const struct store_actor *actor, int64_t now, int64_t oldest,
                               struct err *err)
{
    return sqlite_put_reply(&self(e)->conn, actor, now, oldest, err);
}

static enum err_code find_key(struct engine *e, const struct store_hold *op, int64_t oldest, struct call_key *out,
                              struct err *err)
{
    return sqlite_find_key(&self(e)->conn, op, oldest, out, err);
}

static enum err_code put_key(struct engine *e, const struct store_hold *op, int64_t now, int64_t *row, struct err *err)
{
    return sqlite_put_key(&self(e)->conn, op, now, row, err);
}

static enum err_code end_key(struct engine *e, const struct ended_key *key, int64_t now, struct err *err)
{
    return sqlite_end_key(&self(e)->conn, key, now, err);
}

static enum err_code drop_keys(struct engine *e, int64_t oldest, bool *more, struct err *err)
{
    return sqlite_drop_keys(&self(e)->conn, oldest, more, err);
}

static enum err_code put_audit(struct engine *e, const struct audit_entry *entry, struct err *err)
{
    return sqlite_put_audit(&self(e)->conn, entry, err);
}

static enum err_code put_audit_head(struct engine *e, const struct audit_head *head, struct err *err)
{
    return sqlite_put_audit_head(&self(e)->conn, head, err);
}

static enum err_code get_audit_head(struct engine *e, struct audit_head *out, struct err *err)
{
    return sqlite_get_audit_head(&self(e)->conn, out, err);
}

static enum err_code get_meta(struct engine *e, const char *name, uint8_t value[META_BYTES], size_t *len,
                              struct err *err)
{
    return sqlite_get_meta(&self(e)->conn, name, value, len, err);
}

static enum err_code put_meta(struct engine *e, const char *name, const uint8_t *value, size_t len, struct err *err)
{
    return sqlite_put_meta(&self(e)->conn, name, value, len, err);
}

static bool ask(struct engine *e, struct store_query *query)
{
    return sqlite_ask(&self(e)->conn, query);
}

static void engine_close(struct engine *e, bool clean)
{
    struct sqlite_engine *s = self(e);

    if (!clean && s->conn.db != NULL)
        (void)sqlite3_db_config(s->conn.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite_conn_close(&s->conn);
    lock_release(s->lock);
    free(s->path);
    free(s);
}

static enum err_code open_reader(struct engine *e, struct engine **out, struct err *err);

static const struct engine_class class = {
    .migrate = migrate,
    .load = load,
    .load_records = load_records,
    .load_credentials = load_credentials,
    .last_key = last_key,
    .budget_keys = budget_keys,
    .begin = begin,
    .commit = commit,
    .rollback = rollback,
    .put_effects = put_effects,
    .spent = spent,
    .find_grant = find_grant,
    .find_charge = find_charge,
    .prune = prune,
    .put_record = put_record,
    .put_records = put_records,
    .touch = touch,
    .find_record = find_record,
    .find_reply = find_reply,
    .put_reply = put_reply,
    .find_key = find_key,
    .put_key = put_key,
    .end_key = end_key,
    .drop_keys = drop_keys,
    .put_audit = put_audit,
    .put_audit_head = put_audit_head,
    .get_audit_head = get_audit_head,
    .get_meta = get_meta,
    .put_meta = put_meta,
    .fold = fold,
    .folding = folding,
    .tidy = tidy,
    .untidy = untidy,
    .open_reader = open_reader,
    .ask = ask,
    .close = engine_close,
};

static struct sqlite_engine *engine_create(const char *path)
{
    struct sqlite_engine *s = mem_zalloc(sizeof(*s));

    s->super.class = &class;
    s->path = mem_strdup(path);
    s->lock = -1;
    return s;
}

static enum err_code open_reader(struct engine *e, struct engine **out, struct err *err)
{
    const struct sqlite_engine *writer = self(e);
    struct sqlite_engine *s = engine_create(writer->path);
    enum err_code code = sqlite_conn_open(&s->conn, s->path, CONN_READER, writer->conn.secrets, err);

    if (code == ERR_OK)
        code = sqlite_conn_prepare(&s->conn, err);
    if (code == ERR_OK)
        *out = &s->super;
    else
        engine_close(&s->super, false);
    return code;
}

bool sqlite_url_path(const char *url, const char **path)
{
    static const char scheme[] = "sqlite:";

    if (url == NULL || strncmp(url, scheme, sizeof(scheme) - 1) != 0 || url[sizeof(scheme) - 1] == '\0')
        return false;
    *path = url + sizeof(scheme) - 1;
    return true;
}

enum err_code sqlite_open_writer(const char *path, const struct secrets *secrets, struct engine **out, struct err *err)
{
    struct sqlite_engine *s = engine_create(path);
    struct buf lock_path;
    enum err_code code;

    buf_init(&lock_path, PATH_MAX);
    buf_append_str(&lock_path, path);
    buf_append(&lock_path, ".lock", sizeof(".lock"));
    code = lock_path.full ? err_set(err, ERR_INVALID_VALUE, "url", "The store's path is too long.")
                          : lock_take(lock_path.p, &s->lock, err);
    buf_dispose(&lock_path);
    if (code == ERR_OK)
        code = sqlite_conn_open(&s->conn, path, CONN_WRITER, secrets, err);
    if (code != ERR_OK) {
        engine_close(&s->super, false);
        return code;
    }
    (void)sqlite3_wal_hook(s->conn.db, on_commit, s);
    *out = &s->super;
    return ERR_OK;
}
