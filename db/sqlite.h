/* sqlite.h - the SQLite engine, as engine.c sees it. */
#ifndef TG_DB_SQLITE_H
#define TG_DB_SQLITE_H

#include "engine.h"

/* Whether <url> is "sqlite:PATH"; *path points into it. */
bool sqlite_url_path(const char *url, const char **path);

/* Takes PATH.lock, creates the file when absent (0600), sets journal and durability. Not migrated yet. */
TG_MUSTCHECK enum err_code sqlite_open_writer(const char *path, const struct secrets *secrets, struct engine **out,
                                              struct err *err);

/* store_backup's. */
TG_MUSTCHECK enum err_code sqlite_backup(const char *path, const char *dest, store_progress_fn *progress, void *ctx,
                                         struct err *err);

#endif
