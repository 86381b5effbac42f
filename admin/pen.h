/* pen.h - numbers, amounts, times, ids and texts written into memory that has room for them: the quick way, for rows of
 * which there are millions.
 *
 * Each function writes at <p>, without a NUL, and returns where it ended. Room is the caller's to know: PEN_NUMBER
 * bytes for anything but texts; PEN_TEXT(n) for a text of n bytes in any format. Pure; any thread. */
#ifndef TG_ADMIN_PEN_H
#define TG_ADMIN_PEN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/base/id.h"

enum { PEN_NUMBER = 40 };
#define PEN_TEXT(n) (6 * (n) + 3)

static inline char *pen_bytes(char *p, const void *bytes, size_t n)
{
    memcpy(p, bytes, n);
    return p + n;
}
#define PEN(p, literal) pen_bytes(p, "" literal, sizeof(literal) - 1)

char *pen_int(char *p, int64_t value);
char *pen_nano(char *p, int64_t nano); /* "12.340000000", as money_format_nano */
char *pen_time(char *p, int64_t wall); /* as clock_format */
char *pen_id(char *p, const char *prefix, struct id id);

/* A JSON string with its quotes, as buf_append_json_string writes it. */
char *pen_json(char *p, struct slice text);

/* A field of a CSV line (RFC 4180): in quotes where it holds a comma, a quote or a line's end. Text that a spreadsheet
 * would take for a formula (it begins with = + - @, a tab or a carriage return) is led by an apostrophe. */
char *pen_csv(char *p, struct slice text);

#endif
