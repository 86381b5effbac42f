/* page.h - reading the query of a list: limit, after, and the filters that the list has.
 *
 * Every name must be known and stand there once: UNKNOWN_PARAMETER, DUPLICATE_PARAMETER; no value may be empty
 * (STRING_TOO_SHORT: an empty filter would mean everything). Pure; any thread. */
#ifndef TG_ADMIN_PAGE_H
#define TG_ADMIN_PAGE_H

#include "daemon/base/err.h"
#include "daemon/base/id.h"

enum { PAGE_LIMIT = 20, PAGE_LIMIT_MAX = 100, PAGE_FIELDS = 16 };

/* A filter: the decoded value goes to <out> (empty when it is absent). */
struct page_field {
    const char *name;
    char *out;
    size_t cap;
};

struct page {
    int limit;
    struct id after; /* zero: from the newest */
};

/* <prefix>: of the ids that <after> names ("ten"). <fields>: at most PAGE_FIELDS. <out> NULL: no list, so
 * neither limit nor after. */
TG_MUSTCHECK enum err_code page_read(struct slice query, const char *prefix, const struct page_field *fields, size_t n,
                                     struct page *out, struct err *err);

/* The number that a cursor made by id_from_seq stands for; 0 without a cursor. INVALID_VALUE naming after. */
TG_MUSTCHECK enum err_code page_seq(const struct page *page, int64_t *seq, struct err *err);

#endif
