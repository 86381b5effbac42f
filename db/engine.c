/* engine.c - chooses the engine by the scheme of the store's URL. */
#include "engine.h"

#include "sqlite.h"

enum err_code engine_open(const char *url, const struct secrets *secrets, struct engine **out, struct err *err)
{
    const char *path;

    if (sqlite_url_path(url, &path))
        return sqlite_open_writer(path, secrets, out, err);
    return err_set(err, ERR_INVALID_VALUE, "url", "The store's URL must be sqlite:PATH, not '%s'.", url);
}

enum err_code store_backup(const char *url, const char *dest, store_progress_fn *progress, void *ctx, struct err *err)
{
    const char *path;

    if (sqlite_url_path(url, &path))
        return sqlite_backup(path, dest, progress, ctx, err);
    return err_set(err, ERR_INVALID_VALUE, "url", "The store's URL must be sqlite:PATH, not '%s'.", url);
}
