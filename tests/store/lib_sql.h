/* lib_sql.h - looking into a store's file, and damaging it, from outside. Abort on errors. */
#ifndef TG_TESTS_LIB_SQL_H
#define TG_TESTS_LIB_SQL_H

#include <stddef.h>
#include <stdint.h>

void sql_exec(const char *url, const char *sql);
int64_t sql_number(const char *url, const char *sql); /* INT64_MIN: no row or NULL */

/* Takes the write lock, writes a byte to <fd>, and keeps the lock for <ms>. */
void sql_hold(const char *url, int fd, int ms);

/* Whether the usage records hold each of <n> 16-byte request ids; returns how many are missing. */
size_t sql_missing_requests(const char *url, const uint8_t (*ids)[16], size_t n);

#endif
