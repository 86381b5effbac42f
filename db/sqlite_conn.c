/* sqlite_conn.c - opening a SQLite connection the safe way, and small helpers around statements.
 *
 * SQLite before 3.51.3 can damage a WAL when two connections checkpoint at once. Hence one connection, the writer's,
 * writes and checkpoints; every other one is read-only and never checkpoints, not even when it is the last to close. A
 * writer keeps: WAL, synchronous FULL (a commit is on disk when it returns), no automatic checkpoints (the writer
 * chooses the moment), no memory map (I/O errors must be errors, not signals), foreign keys on. */
#include "sqlite_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum {
    OLDEST_LIBRARY = 3037000, /* STRICT tables */
    BUSY_TIMEOUT_MS = 5000,
    WRITER_CACHE_KIB = 6144,
    READER_CACHE_KIB = 4096
};

void sqlite_plain(char *text)
{
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text > '~')
            *text = *text == '\n' ? ' ' : '?';
}

enum err_code sqlite_error(struct sqlite_conn *c, const char *doing, struct err *err)
{
    enum err_code code;

    if (c->db == NULL)
        return err_set(err, ERR_UNAVAILABLE, NULL, "%s: out of memory.", doing);
    code = err_set(err, ERR_UNAVAILABLE, NULL, "%s: %s (SQLite error %d).", doing, sqlite3_errmsg(c->db),
                   sqlite3_extended_errcode(c->db));
    if (err != NULL)
        sqlite_plain(err->message); /* it may quote a damaged file */
    return code;
}

enum err_code sqlite_exec(struct sqlite_conn *c, const char *sql, struct err *err)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? ERR_OK : sqlite_error(c, "Cannot execute", err);
}

enum err_code sqlite_prepare(struct sqlite_conn *c, const char *sql, sqlite3_stmt **out, struct err *err)
{
    return sqlite3_prepare_v2(c->db, sql, -1, out, NULL) == SQLITE_OK ? ERR_OK : sqlite_error(c, "Cannot prepare", err);
}

enum err_code sqlite_get_number(struct sqlite_conn *c, const char *sql, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int rc;

    if (sqlite_prepare(c, sql, &s, err) != ERR_OK)
        return ERR_UNAVAILABLE;
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read", err);
}

enum err_code sqlite_run(struct sqlite_conn *c, sqlite3_stmt *s, const char *doing, struct err *err)
{
    int rc = sqlite3_step(s);
    enum err_code code = ERR_OK;

    if (rc != SQLITE_DONE)
        code = sqlite_error(c, doing, err);
    sqlite3_reset(s);
    return code;
}

/* ---- values ---- */

void sqlite_bind_opt_text(sqlite3_stmt *s, int place, const char *text)
{
    if (text == NULL || text[0] == '\0')
        sqlite3_bind_null(s, place);
    else
        sqlite3_bind_text(s, place, text, -1, SQLITE_STATIC);
}

void sqlite_bind_opt_number(sqlite3_stmt *s, int place, int64_t number)
{
    if (number == 0)
        sqlite3_bind_null(s, place);
    else
        sqlite3_bind_int64(s, place, number);
}

void sqlite_bind_id(sqlite3_stmt *s, int place, const struct id *id)
{
    sqlite3_bind_blob(s, place, id->b, ID_BYTES, SQLITE_STATIC);
}

void sqlite_column_id(sqlite3_stmt *s, int column, struct id *out)
{
    const void *bytes = sqlite3_column_blob(s, column);

    memset(out, 0, sizeof(*out));
    if (bytes != NULL && sqlite3_column_bytes(s, column) == ID_BYTES)
        memcpy(out->b, bytes, ID_BYTES);
}

struct slice sqlite_column_slice(sqlite3_stmt *s, int column)
{
    const void *bytes = sqlite3_column_blob(s, column);

    return (struct slice){bytes, bytes != NULL ? (size_t)sqlite3_column_bytes(s, column) : 0};
}

void sqlite_column_copy(sqlite3_stmt *s, int column, char *out, size_t cap)
{
    (void)slice_copy(sqlite_column_slice(s, column), out, cap);
}

/* ---- opening ---- */

static void configure_library(void)
{
    /* One allocator mutex less on every statement; our own metrics tell the memory in use. */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    (void)sqlite3_initialize();
}

/* Creates the file, readable by its owner alone. Only when it is absent: closing a descriptor of a database that is in
 * use by this process would drop SQLite's locks. */
static enum err_code create_file(const char *path, struct err *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 && errno != EEXIST)
        return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot create %s: %s.", path, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return ERR_OK;
}

/* Refuses to touch somebody else's database: before anything is written. */
static enum err_code check_owner(struct sqlite_conn *c, const char *path, struct err *err)
{
    int64_t id = 0, tables = 0;

    if (sqlite_get_number(c, "PRAGMA application_id", &id, err) != ERR_OK ||
        sqlite_get_number(c, "SELECT count(*) FROM sqlite_schema", &tables, err) != ERR_OK)
        return ERR_UNAVAILABLE;
    if (id == STORE_APPLICATION_ID || (id == 0 && tables == 0))
        return ERR_OK;
    return err_set(err, ERR_CONFLICT, NULL, "%s is a database of another program (application_id %lld).", path,
                   (long long)id);
}

static enum err_code set_up_writer(struct sqlite_conn *c, struct err *err)
{
    sqlite3_stmt *s = NULL;
    enum err_code code;

    code = sqlite_exec(c, "PRAGMA page_size = 4096", err);
    if (code != ERR_OK)
        return code;
    code = sqlite_prepare(c, "PRAGMA journal_mode = WAL", &s, err);
    if (code != ERR_OK)
        return code;
    if (sqlite3_step(s) != SQLITE_ROW)
        code = sqlite_error(c, "Cannot switch to WAL", err);
    else if (!slice_eq_str(sqlite_column_slice(s, 0), "wal"))
        code = err_set(err, ERR_UNAVAILABLE, NULL, "This file system does not allow a write-ahead log.");
    sqlite3_finalize(s);
    if (code != ERR_OK)
        return code;
    return sqlite_exec(c, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 0;", err);
}

static enum err_code set_up(struct sqlite_conn *c, const char *path, struct err *err)
{
    char cache[64];
    enum err_code code;

    (void)sqlite3_extended_result_codes(c->db, 1);
    (void)sqlite3_busy_timeout(c->db, BUSY_TIMEOUT_MS);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, c->writer ? 0 : 1, NULL);
    if (!c->writer) {
        int on = 1;
        (void)sqlite3_file_control(c->db, "main", SQLITE_FCNTL_PERSIST_WAL, &on);
    }
    (void)sqlite3_snprintf(sizeof(cache), cache, "PRAGMA cache_size = -%d",
                           c->writer ? WRITER_CACHE_KIB : READER_CACHE_KIB);
    code = sqlite_exec(c, "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0;", err);
    if (code == ERR_OK)
        code = sqlite_exec(c, cache, err);
    if (code == ERR_OK)
        code = sqlite_exec(c, c->writer ? "PRAGMA temp_store = MEMORY" : "PRAGMA query_only = ON", err);
    if (code == ERR_OK)
        code = check_owner(c, path, err);
    if (code == ERR_OK && c->writer)
        code = set_up_writer(c, err);
    return code;
}

enum err_code sqlite_conn_open(struct sqlite_conn *c, const char *path, enum conn_mode mode,
                               const struct secrets *secrets, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                (mode == CONN_WRITER ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
    enum err_code code = ERR_OK;

    memset(c, 0, sizeof(*c));
    c->secrets = secrets;
    c->writer = mode == CONN_WRITER;
    (void)pthread_once(&once, configure_library);
    if (sqlite3_libversion_number() < OLDEST_LIBRARY)
        return err_set(err, ERR_UNAVAILABLE, NULL, "SQLite %s is too old: 3.37 or later is needed.",
                       sqlite3_libversion());
    if (c->writer)
        code = create_file(path, err);
    if (code != ERR_OK)
        return code;
    if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK) {
        code = err_set(err, ERR_UNAVAILABLE, NULL, "Cannot open %s: %s.", path,
                       c->db != NULL ? sqlite3_errmsg(c->db) : "out of memory");
        goto out;
    }
    code = set_up(c, path, err);
out:
    if (code != ERR_OK)
        sqlite_conn_close(c);
    return code;
}

enum err_code sqlite_conn_prepare(struct sqlite_conn *c, struct err *err)
{
    enum { WRITER = 1, READER = 2, BOTH = 3 };
    static const struct {
        int who;
        const char *sql;
    } texts[SQL_COUNT] = {
#define STATEMENT(name, who, text) {who, text},
#include "sqlite_statements.def"
#undef STATEMENT
    };

    for (int i = 0; i < SQL_COUNT; i++) {
        if ((texts[i].who & (c->writer ? WRITER : READER)) == 0)
            continue;
        if (sqlite3_prepare_v3(c->db, texts[i].sql, -1, SQLITE_PREPARE_PERSISTENT, &c->statements[i], NULL) !=
            SQLITE_OK)
            return sqlite_error(c, "Cannot prepare a statement", err);
    }
    return ERR_OK;
}

void sqlite_conn_close(struct sqlite_conn *c)
{
    for (int i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(c->statements[i]);
    for (int i = 0; i < RECORD_KINDS; i++)
        for (int j = 0; j < SQL_RECORD_STATEMENTS; j++)
            sqlite3_finalize(c->records[i][j]);
    sqlite_names_dispose(c);
    sqlite_fold_dispose(c);
    (void)sqlite3_close(c->db);
    memset(c, 0, sizeof(*c));
}
