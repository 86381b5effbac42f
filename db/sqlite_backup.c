/* sqlite_backup.c - a copy of a database that is in use: the pages of one snapshot, a few at a time.
 *
 * The source is read inside one transaction, so that whatever is written meanwhile neither shows nor makes the copy
 * begin anew; until it is done the source's WAL cannot be used again from its beginning. The copy grows under another
 * name and gets its own when it is whole and on disk. Any thread. */
#include "sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "sqlite_conn.h"

enum { PAGES = 256 }; /* copied at once */

static enum err_code system_error(const char *what, const char *path, struct err *err)
{
    return err_set(err, errno == EEXIST ? ERR_CONFLICT : ERR_UNAVAILABLE, NULL, "Cannot %s %s: %s.", what, path,
                   strerror(errno));
}

/* SQLite would make the file readable for everybody. */
static enum err_code create_file(const char *path, struct err *err)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0)
        return system_error("create", path, err);
    (void)close(fd);
    return ERR_OK;
}

static enum err_code sync_folder(const char *path, struct err *err)
{
    char folder[PATH_MAX];
    char *slash;
    int fd, rc;

    (void)snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder ? 1 : 0] = '\0';
    fd = open(slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return system_error("open", folder, err);
    rc = fsync(fd);
    (void)close(fd);
    return rc == 0 ? ERR_OK : system_error("sync", folder, err);
}

static enum err_code copy_pages(struct sqlite_conn *source, sqlite3 *copy, store_progress_fn *progress, void *ctx,
                                struct err *err)
{
    sqlite3_backup *b = sqlite3_backup_init(copy, "main", source->db, "main");
    int rc = SQLITE_OK;

    if (b == NULL)
        return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot begin the copy: %s.", sqlite3_errmsg(copy));
    while (rc == SQLITE_OK) {
        int total, left;

        rc = sqlite3_backup_step(b, PAGES);
        total = sqlite3_backup_pagecount(b);
        left = sqlite3_backup_remaining(b);
        if (progress != NULL && total > 0)
            progress(ctx, "copying", (int)((int64_t)(total - left) * 1000 / total));
    }
    (void)sqlite3_backup_finish(b);
    if (rc == SQLITE_DONE)
        return ERR_OK;
    return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot copy the database: %s.", sqlite3_errstr(rc));
}

static enum err_code copy_to(struct sqlite_conn *source, const char *path, store_progress_fn *progress, void *ctx,
                             struct err *err)
{
    int64_t id = 0;
    sqlite3 *copy = NULL;
    enum err_code code = sqlite_exec(source, "BEGIN", err);

    if (code == ERR_OK)
        code = sqlite_get_number(source, "PRAGMA application_id", &id, err);
    if (code == ERR_OK && id != STORE_APPLICATION_ID)
        code = err_set(err, ERR_CONFLICT, NULL, "There is no store in this database.");
    if (code == ERR_OK && sqlite3_open_v2(path, &copy, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        code = err_set(err, ERR_UNAVAILABLE, NULL, "Cannot open %s: %s.", path, sqlite3_errmsg(copy));
    if (code == ERR_OK && sqlite3_exec(copy, "PRAGMA synchronous = FULL", NULL, NULL, NULL) != SQLITE_OK)
        code = err_set(err, ERR_UNAVAILABLE, NULL, "Cannot open %s: %s.", path, sqlite3_errmsg(copy));
    if (code == ERR_OK)
        code = copy_pages(source, copy, progress, ctx, err);
    if (sqlite3_close(copy) != SQLITE_OK && code == ERR_OK)
        code = err_set(err, ERR_UNAVAILABLE, NULL, "Cannot close %s.", path);
    return code;
}

enum err_code sqlite_backup(const char *path, const char *dest, store_progress_fn *progress, void *ctx, struct err *err)
{
    char partial[PATH_MAX];
    struct sqlite_conn source;
    enum err_code code;

    if (snprintf(partial, sizeof(partial), "%s.partial", dest) >= (int)sizeof(partial))
        return err_set(err, ERR_INVALID_VALUE, NULL, "The name of the copy is too long.");
    if (access(dest, F_OK) == 0)
        return err_set(err, ERR_CONFLICT, NULL, "%s is there already; a backup overwrites nothing.", dest);
    (void)unlink(partial); /* of a backup that was interrupted */
    code = create_file(partial, err);
    if (code != ERR_OK)
        return code;
    code = sqlite_conn_open(&source, path, CONN_READER, NULL, err);
    if (code == ERR_OK) {
        code = copy_to(&source, partial, progress, ctx, err);
        sqlite_conn_close(&source);
    }
    if (code == ERR_OK && link(partial, dest) != 0) /* unlike rename, link overwrites nothing */
        code = system_error("create", dest, err);
    (void)unlink(partial);
    return code == ERR_OK ? sync_folder(dest, err) : code;
}
