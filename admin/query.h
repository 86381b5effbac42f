/* query.h - reading the query of a report or an export by a table: parameters that stand once, and parameters that may
 * have several values.
 *
 * A parameter of several values may be repeated, spelt `name[]`, and hold a comma list; a value that stands twice
 * counts once. What the table does not name is UNKNOWN_PARAMETER; a parameter of one value that stands twice
 * DUPLICATE_PARAMETER. An empty value is as none. Pure; any thread. */
#ifndef TG_ADMIN_QUERY_H
#define TG_ADMIN_QUERY_H

#include <stdbool.h>

#include "daemon/base/err.h"

enum { QUERY_VALUES = 32, QUERY_FIELDS = 32 };

enum query_flags {
    QUERY_PLATFORM = 1, /* unknown to a tenant's token */
    QUERY_WHOLE = 2     /* of several values: a comma is part of one */
};

/* Where the values of one parameter go: <cap> bytes each, NUL-terminated; of several values <n> counts them and there
 * is room for QUERY_VALUES. */
struct query_field {
    const char *name;
    char *out;
    size_t cap;
    int *n; /* NULL: one value */
    unsigned flags;
};

TG_MUSTCHECK enum err_code query_read(struct slice query, bool platform, const struct query_field *fields, size_t n,
                                      struct err *err);

/* A time: RFC 3339 or Unix seconds; empty: *out stays. INVALID_VALUE naming <name>. */
TG_MUSTCHECK enum err_code query_time(const char *name, const char *text, int64_t *out, struct err *err);

/* A whole number in [min, max]; empty: *out stays. INVALID_TYPE, INTEGER_BELOW_MIN, INTEGER_ABOVE_MAX. */
TG_MUSTCHECK enum err_code query_int(const char *name, const char *text, int min, int max, int *out, struct err *err);

/* The place of <text> among <choices> (up to a NULL); empty: *out stays. INVALID_VALUE naming <name> and the choices.
 */
TG_MUSTCHECK enum err_code query_choice(const char *name, const char *text, const char *const *choices, int *out,
                                        struct err *err);

#endif
