/* sqlite_migrate.c - brings the schema up to date: embedded files in the order of their names, each in one transaction.
 *
 * The store keeps the name and the fingerprint of every migration it has applied. Refused are: a migration whose text
 * differs from what was applied, and one that this program does not know (a newer program made it). To apply takes the
 * writer; to ask, any connection. */
#include "sqlite_conn.h"

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"

struct embed_file {
    const char *name;
    const char *bytes;
    size_t len;
};
extern const struct embed_file embed_migrations[]; /* sorted by name, ended by a NULL name; made from migrations/ */

static int count_embedded(void)
{
    int n = 0;

    while (embed_migrations[n].name != NULL) {
        TG_ASSERT(n == 0 || strcmp(embed_migrations[n - 1].name, embed_migrations[n].name) < 0);
        n++;
    }
    return n;
}

/* One applied migration against the embedded one in its place. */
static enum err_code check_applied(sqlite3_stmt *s, int place, int known, struct err *err)
{
    struct slice name = sqlite_column_slice(s, 0), checksum = sqlite_column_slice(s, 1);
    const struct embed_file *file = &embed_migrations[place];
    uint8_t expected[SECRET_DIGEST];

    if (place >= known || !slice_eq_str(name, file->name))
        return err_set(
            err, ERR_CONFLICT, NULL,
            "The store was migrated by a newer version of this program (%.*s is unknown here): use that version.",
            (int)name.len, name.p);
    secret_fingerprint(file->bytes, file->len, expected);
    if (!slice_eq(checksum, (struct slice){(const char *)expected, sizeof(expected)}))
        return err_set(
            err, ERR_CONFLICT, NULL,
            "Migration %s was applied with another text than this program has: a released migration must never "
            "change.",
            file->name);
    return ERR_OK;
}

/* *applied: how many of the embedded ones the store has. */
static enum err_code count_applied(struct sqlite_conn *c, int known, int *applied, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int64_t exists = 0;
    enum err_code code;
    int rc;

    *applied = 0;
    code = sqlite_get_number(c, "SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'", &exists, err);
    if (code != ERR_OK || exists == 0)
        return code;
    code = sqlite_prepare(c, "SELECT name, checksum FROM migrations ORDER BY name", &s, err);
    if (code != ERR_OK)
        return code;
    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW)
            code = sqlite_error(c, "Cannot read the migrations", err);
        else
            code = check_applied(s, (*applied)++, known, err);
    }
    sqlite3_finalize(s);
    return code;
}

static enum err_code note_applied(struct sqlite_conn *c, const struct embed_file *file, struct err *err)
{
    uint8_t checksum[SECRET_DIGEST];
    sqlite3_stmt *s = NULL;
    enum err_code code =
        sqlite_prepare(c, "INSERT INTO migrations (name, checksum, applied_at) VALUES (?1, ?2, ?3)", &s, err);

    if (code != ERR_OK)
        return code;
    secret_fingerprint(file->bytes, file->len, checksum);
    sqlite3_bind_text(s, 1, file->name, -1, SQLITE_STATIC);
    sqlite3_bind_blob(s, 2, checksum, sizeof(checksum), SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, clock_wall());
    code = sqlite_run(c, s, "Cannot note a migration", err);
    sqlite3_finalize(s);
    return code;
}

static enum err_code apply_one(struct sqlite_conn *c, const struct embed_file *file, struct err *err)
{
    enum err_code code = sqlite_exec(c, "BEGIN IMMEDIATE", err);
    struct err why;

    if (code != ERR_OK)
        return code;
    code = FAILPOINT_CODE(MIGRATE_BEGUN, &why);
    if (code == ERR_OK)
        code = sqlite_exec(c, file->bytes, &why); /* embedded files end with a NUL */
    if (code == ERR_OK)
        code = FAILPOINT_CODE(MIGRATE_STEP, &why);
    if (code == ERR_OK)
        code = note_applied(c, file, &why);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(MIGRATE_NOTED, &why);
    if (code == ERR_OK)
        code = sqlite_exec(c, "COMMIT", &why);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(MIGRATE_DONE, &why);
    if (code != ERR_OK) {
        (void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
        return err_set(err, code, NULL, "Migration %s failed: %s", file->name, why.message);
    }
    return ERR_OK;
}

enum err_code sqlite_migrate(struct sqlite_conn *c, bool apply, int *applied, struct err *err)
{
    int known = count_embedded(), have;
    enum err_code code = count_applied(c, known, &have, err);

    *applied = 0;
    if (code != ERR_OK && err != NULL)
        sqlite_plain(err->message); /* it names what stands in the file */
    if (code != ERR_OK)
        return code;
    if (have < known && !apply)
        return err_set(err, ERR_CONFLICT, NULL, "The store's schema is old (%s is missing): run `tallygate migrate`.",
                       embed_migrations[have].name);
    if (have < known)
        code = sqlite_exec(c, "PRAGMA temp_store = FILE", err); /* what is sorted may be larger than memory */
    for (; code == ERR_OK && have < known; have++) {
        code = apply_one(c, &embed_migrations[have], err);
        if (code != ERR_OK)
            return code;
        (*applied)++;
        LOG(LOG_MIGRATED, LOG_F_STR("migration", embed_migrations[have].name));
    }
    return code == ERR_OK && *applied > 0 ? sqlite_exec(c, "PRAGMA temp_store = MEMORY", err) : code;
}
