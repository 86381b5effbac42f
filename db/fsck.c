/* fsck.c - checks every invariant of the store from the outside, on a read-only connection, in one snapshot.
 *
 * It shares no code with the writer's rules on purpose: sums are made anew from transfers, holds and records. The
 * events and their transfers are read once, side by side in the order of their numbers (fsck_walk.c), records and their
 * sums in the order of time (fsck_rollup.c); everything else is a query whose rows, if there are any, break the
 * invariant (fsck_query.c). Memory grows with accounts, grants, budget cells and what is sold in a day, not with what
 * was used. Any thread; works beside a running daemon. */
#include "fsck_state.h"

#include "sqlite.h"

/* What the parts take of the whole, in thousandths. */
enum { PART_FILE = 150, PART_WALK = 450, PART_ROLLUPS = 700, PART_QUERIES = 980, PART_ALL = 1000 };

enum { PROGRESS_OPS = 1000000 }; /* steps of SQLite's machine: some dozen milliseconds */

/* ---- findings ---- */

void finding_init(struct finding *g)
{
    g->bad = 0;
    buf_init(&g->detail, FSCK_DETAIL - 1);
}

void finding_dispose(struct finding *g)
{
    buf_dispose(&g->detail);
}

void finding_add(struct finding *g, const char *fmt, ...)
{
    char text[256];
    va_list args;

    if (g->bad++ >= FSCK_ROWS)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    buf_printf(&g->detail, "%s%s", g->bad > 1 ? "; " : "", text);
}

void fsck_report(struct fsck *f, const char *invariant, const struct finding *g, int64_t checked)
{
    char text[FSCK_DETAIL] = "";

    (void)slice_copy(buf_slice(&g->detail), text, sizeof(text));
    sqlite_plain(text);
    if (g->bad > 0)
        f->violated++;
    f->line(f->ctx, invariant, g->bad == 0, checked, text);
}

/* ---- progress ---- */

static void tell(struct fsck *f, int permille)
{
    if (f->progress == NULL || permille == f->told)
        return;
    f->told = permille;
    f->progress(f->ctx, f->what, permille);
}

void fsck_part(struct fsck *f, const char *what, int begin, int end)
{
    f->what = what;
    f->begin = begin;
    f->end = end;
    f->told = -1;
    tell(f, begin);
}

void fsck_progress(struct fsck *f, int64_t done, int64_t of)
{
    if (of > 0 && done >= 0 && done <= of)
        tell(f, f->begin + (int)((__int128)(f->end - f->begin) * done / of));
}

/* Inside a statement that takes its time: says the same again, so that a line drawn on a terminal is up to date. */
static int on_progress(void *ctx)
{
    struct fsck *f = ctx;

    if (f->what != NULL && f->told >= 0)
        f->progress(f->ctx, f->what, f->told);
    return 0;
}

/* ---- the file ---- */

static enum err_code check_file(struct fsck *f, struct err *err)
{
    int64_t id = 0, pages = 0;
    struct finding g;
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_get_number(&f->conn, "PRAGMA application_id", &id, err);
    int rc;

    if (code == ERR_OK)
        code = sqlite_get_number(&f->conn, "PRAGMA page_count", &pages, err);
    if (code == ERR_OK && id != STORE_APPLICATION_ID)
        code = err_set(err, ERR_CONFLICT, NULL, "There is no store in this database.");
    if (code == ERR_OK)
        code = sqlite_prepare(&f->conn, "PRAGMA integrity_check(5)", &s, err);
    if (code != ERR_OK)
        return code;
    fsck_part(f, "the file", 0, PART_FILE);
    finding_init(&g);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        if (!slice_eq_str(sqlite_column_slice(s, 0), "ok"))
            finding_add(&g, "%s", (const char *)sqlite3_column_text(s, 0));
    if (rc != SQLITE_DONE)
        finding_add(&g, "%s", sqlite3_errmsg(f->conn.db));
    sqlite3_finalize(s);
    fsck_report(f, "the file is whole", &g, pages);
    finding_dispose(&g);
    return ERR_OK;
}

int store_fsck(const char *url, store_fsck_fn *line, store_progress_fn *progress, void *ctx, struct err *err)
{
    struct fsck f = {.line = line, .progress = progress, .ctx = ctx};
    const char *path;
    int applied;
    enum err_code code = ERR_OK;

    if (!sqlite_url_path(url, &path)) {
        (void)err_set(err, ERR_INVALID_VALUE, "url", "The store's URL must be sqlite:PATH, not '%s'.", url);
        return -1;
    }
    if (sqlite_conn_open(&f.conn, path, CONN_READER, NULL, err) != ERR_OK)
        return -1;
    if (progress != NULL)
        sqlite3_progress_handler(f.conn.db, PROGRESS_OPS, on_progress, &f);
    code = sqlite_exec(&f.conn, "PRAGMA temp_store = FILE; PRAGMA cache_size = -16384; BEGIN", err);
    if (code == ERR_OK)
        code = check_file(&f, err);
    if (code == ERR_OK && f.violated > 0)
        goto out; /* nothing read from a damaged file means anything */
    if (code == ERR_OK)
        code = sqlite_migrate(&f.conn, false, &applied, err); /* applies nothing: is the schema ours? */
    if (code == ERR_OK) {
        fsck_part(&f, "events and their transfers", PART_FILE, PART_WALK);
        code = fsck_walk(&f, err);
    }
    if (code == ERR_OK)
        code = fsck_rollups(&f, PART_WALK, PART_ROLLUPS, err);
    if (code == ERR_OK)
        code = fsck_queries(&f, PART_ROLLUPS, PART_QUERIES, err);
    if (code == ERR_OK)
        code = fsck_audit(&f, PART_QUERIES, PART_ALL, err);
out:
    sqlite_conn_close(&f.conn);
    return code == ERR_OK ? f.violated : -1;
}
