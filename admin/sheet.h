/* sheet.h - rows written by a table of columns: as JSON objects or as the lines of a CSV file, from one description.
 *
 * A table of columns is static; a sheet is the choice of them that one answer shows, put together once an answer. Rows
 * are structs, columns find their values by offset. In CSV what would be null is an empty field. A sheet is immutable
 * once it is put together. Any thread. */
#ifndef TG_ADMIN_SHEET_H
#define TG_ADMIN_SHEET_H

#include "daemon/base/buf.h"
#include "pen.h"

enum sheet_kind {
    SHEET_TEXT = 0,    /* char[]; empty: null */
    SHEET_POINTER,     /* const char *; NULL, empty: null */
    SHEET_INT,         /* int */
    SHEET_INT_OR_NULL, /* int; 0: null */
    SHEET_LONG,        /* int64_t */
    SHEET_NANO,        /* int64_t, an amount */
    SHEET_BOOL,        /* bool */
    SHEET_TIME,        /* int64_t, wall; 0: null */
    SHEET_ID,          /* struct id with <prefix>; zero: null */
    SHEET_CONSTANT,    /* <prefix> itself */
    SHEET_OWN          /* <own> writes it, as JSON or as a CSV field, in <room> bytes */
};

struct sheet_column {
    const char *name;
    enum sheet_kind kind;
    unsigned flags; /* the table's owner's own: what sheet_add is asked for */
    size_t offset;
    const char *prefix;
    size_t room; /* SHEET_OWN, SHEET_TEXT, SHEET_POINTER: bytes of the value at most */
    char *(*own)(const void *row, bool csv, char *p);
};

enum { SHEET_COLUMNS = 48, SHEET_HEAD = 32 };

struct sheet {
    size_t n;
    const struct sheet_column *columns[SHEET_COLUMNS];
    char heads[SHEET_COLUMNS][SHEET_HEAD]; /* what goes before a member: ,"name": */
    uint8_t head_lengths[SHEET_COLUMNS];
    size_t room; /* bytes that a row takes at most, and SHEET_HEAD more */
};

void sheet_init(struct sheet *sheet);
void sheet_add(struct sheet *sheet, const struct sheet_column *column); /* static */

/* {"name":value,...}; after the brace of another object a comma goes first. */
void sheet_json(const struct sheet *sheet, const void *row, struct buf *out);

/* The members without braces, after what is there already. */
void sheet_members(const struct sheet *sheet, const void *row, struct buf *out);

/* Lines end with CR LF. */
void sheet_csv_head(const struct sheet *sheet, struct buf *out);
void sheet_csv(const struct sheet *sheet, const void *row, struct buf *out);

/* For columns of one's own: an amount that no member holds; a text, null or nothing when it is empty. */
char *sheet_own_nano(int64_t nano, bool csv, char *p);
char *sheet_own_text(struct slice text, bool csv, char *p);

#endif
