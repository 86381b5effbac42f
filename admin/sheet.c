/* sheet.c - one row after the other through a table of columns. What a row takes at most is known, so that room is
 * asked for once a row and not once a value. No state; any thread. */
#include "sheet.h"

#include <stdio.h>

#include "daemon/base/clock.h"

static size_t room_of(const struct sheet_column *c)
{
    switch (c->kind) {
    case SHEET_TEXT:
    case SHEET_POINTER:
        return PEN_TEXT(c->room);
    case SHEET_CONSTANT:
        return PEN_TEXT(strlen(c->prefix));
    case SHEET_OWN:
        return c->room;
    default:
        return PEN_NUMBER;
    }
}

void sheet_init(struct sheet *sheet)
{
    sheet->n = 0;
    sheet->room = 8 + SHEET_HEAD; /* comma, braces, CR LF */
}

void sheet_add(struct sheet *sheet, const struct sheet_column *column)
{
    size_t n = sheet->n++;
    int length;

    TG_ASSERT(n < SHEET_COLUMNS);
    sheet->columns[n] = column;
    length = snprintf(sheet->heads[n], SHEET_HEAD, ",\"%s\":", column->name);
    TG_ASSERT(length < SHEET_HEAD);
    sheet->head_lengths[n] = (uint8_t)length;
    sheet->room += room_of(column) + (size_t)length;
}

char *sheet_own_text(struct slice text, bool csv, char *p)
{
    if (csv)
        return pen_csv(p, text);
    return text.len > 0 ? pen_json(p, text) : PEN(p, "null");
}

static char *put_quote(bool csv, char *p)
{
    if (!csv)
        *p++ = '"';
    return p;
}

char *sheet_own_nano(int64_t nano, bool csv, char *p)
{
    return put_quote(csv, pen_nano(put_quote(csv, p), nano));
}

static char *put_null(bool csv, char *p)
{
    return csv ? p : PEN(p, "null");
}

static char *put_id(const struct sheet_column *c, const struct id *id, bool csv, char *p)
{
    if (id_is_zero(*id))
        return put_null(csv, p);
    return put_quote(csv, pen_id(put_quote(csv, p), c->prefix, *id));
}

static char *put_time(int64_t wall, bool csv, char *p)
{
    if (wall == 0)
        return put_null(csv, p);
    return put_quote(csv, pen_time(put_quote(csv, p), wall));
}

static char *put_bool(bool value, char *p)
{
    return value ? PEN(p, "true") : PEN(p, "false");
}

static char *put_value(const struct sheet_column *c, const void *row, bool csv, char *p)
{
    const char *at = (const char *)row + c->offset;

    switch (c->kind) {
    case SHEET_TEXT:
        return sheet_own_text((struct slice){at, strnlen(at, c->room)}, csv, p);
    case SHEET_POINTER:
        return sheet_own_text(slice_from(*(const char *const *)(const void *)at), csv, p);
    case SHEET_INT:
        return pen_int(p, *(const int *)(const void *)at);
    case SHEET_INT_OR_NULL:
        return *(const int *)(const void *)at == 0 ? put_null(csv, p) : pen_int(p, *(const int *)(const void *)at);
    case SHEET_LONG:
        return pen_int(p, *(const int64_t *)(const void *)at);
    case SHEET_NANO:
        return sheet_own_nano(*(const int64_t *)(const void *)at, csv, p);
    case SHEET_BOOL:
        return put_bool(*(const bool *)at, p);
    case SHEET_TIME:
        return put_time(*(const int64_t *)(const void *)at, csv, p);
    case SHEET_ID:
        return put_id(c, (const struct id *)at, csv, p);
    case SHEET_CONSTANT:
        return sheet_own_text(slice_from(c->prefix), csv, p);
    case SHEET_OWN:
        return c->own(row, csv, p);
    }
    TG_ASSERT(!"a kind of column");
    return p;
}

/* Heads are copied at their full width, which is a few moves; what is too much is overwritten. */
static char *put_members(const struct sheet *sheet, const void *row, bool comma, char *p)
{
    for (size_t i = 0; i < sheet->n; i++) {
        size_t skipped = i == 0 && !comma;

        memcpy(p, sheet->heads[i] + skipped, SHEET_HEAD - 1);
        p += sheet->head_lengths[i] - skipped;
        p = put_value(sheet->columns[i], row, false, p);
    }
    return p;
}

static char last_of(const struct buf *out)
{
    return out->len > 0 ? out->p[out->len - 1] : '\0';
}

void sheet_json(const struct sheet *sheet, const void *row, struct buf *out)
{
    bool comma = last_of(out) == '}';
    char *start = buf_reserve(out, sheet->room), *p = start;

    if (p == NULL)
        return;
    if (comma)
        *p++ = ',';
    *p++ = '{';
    p = put_members(sheet, row, false, p);
    *p++ = '}';
    buf_advance(out, (size_t)(p - start));
}

void sheet_members(const struct sheet *sheet, const void *row, struct buf *out)
{
    bool comma = last_of(out) != '{';
    char *start = buf_reserve(out, sheet->room);

    if (start != NULL)
        buf_advance(out, (size_t)(put_members(sheet, row, comma, start) - start));
}

void sheet_csv_head(const struct sheet *sheet, struct buf *out)
{
    for (size_t i = 0; i < sheet->n; i++) {
        if (i > 0)
            buf_append_char(out, ',');
        buf_append_str(out, sheet->columns[i]->name);
    }
    buf_append_str(out, "\r\n");
}

void sheet_csv(const struct sheet *sheet, const void *row, struct buf *out)
{
    char *start = buf_reserve(out, sheet->room), *p = start;

    if (p == NULL)
        return;
    for (size_t i = 0; i < sheet->n; i++) {
        if (i > 0)
            *p++ = ',';
        p = put_value(sheet->columns[i], row, true, p);
    }
    p = PEN(p, "\r\n");
    buf_advance(out, (size_t)(p - start));
}
