/* lib_sql.c - see lib_sql.h. */
#include "lib_sql.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sqlite3 *open_file(const char *url)
{
    sqlite3 *db;

    if (sqlite3_open(url + strlen("sqlite:"), &db) != SQLITE_OK)
        abort();
    sqlite3_busy_timeout(db, 5000);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return db;
}

void sql_exec(const char *url, const char *sql)
{
    sqlite3 *db = open_file(url);

    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        abort();
    }
    sqlite3_close(db);
}

int64_t sql_number(const char *url, const char *sql)
{
    sqlite3 *db = open_file(url);
    int64_t number = INT64_MIN;
    sqlite3_stmt *s;

    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
        abort();
    }
    if (sqlite3_step(s) == SQLITE_ROW && sqlite3_column_type(s, 0) != SQLITE_NULL)
        number = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    sqlite3_close(db);
    return number;
}

void sql_hold(const char *url, int fd, int ms)
{
    sqlite3 *db = open_file(url);

    if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK || write(fd, "x", 1) != 1)
        abort();
    usleep((useconds_t)ms * 1000);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

size_t sql_missing_requests(const char *url, const uint8_t (*ids)[16], size_t n)
{
    size_t have = (size_t)sql_number(url, "SELECT count(*) FROM usage"), missing = 0, i = 0;
    uint8_t(*found)[16] = calloc(have + 1, 16);
    sqlite3 *db = open_file(url);
    sqlite3_stmt *s;

    if (found == NULL || sqlite3_prepare_v2(db, "SELECT request FROM usage", -1, &s, NULL) != SQLITE_OK)
        abort();
    for (; i < have && sqlite3_step(s) == SQLITE_ROW; i++)
        memcpy(found[i], sqlite3_column_blob(s, 0), 16);
    sqlite3_finalize(s);
    sqlite3_close(db);
    qsort(found, i, 16, compare_ids);
    for (size_t j = 0; j < n; j++)
        missing += bsearch(ids[j], found, i, 16, compare_ids) == NULL;
    free(found);
    return missing;
}
