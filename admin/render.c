/* render.c - JSON text, written once and in order. Every value goes through one of the functions here, so that strings
 * are always escaped and amounts are always decimal strings. No state; any thread. */
#include "render.h"

#include <inttypes.h>

/* The comma before a member or an element, and the member's name. */
static void begin(struct buf *out, const char *name)
{
    if (out->len > 0 && out->p[out->len - 1] != '{' && out->p[out->len - 1] != '[')
        buf_append_char(out, ',');
    if (name == NULL)
        return;
    buf_append_json_string(out, slice_from(name));
    buf_append_char(out, ':');
}

void render_open(struct buf *out, const char *name, char bracket)
{
    begin(out, name);
    buf_append_char(out, bracket);
}

void render_close(struct buf *out, char bracket)
{
    buf_append_char(out, bracket);
}

void render_text(struct buf *out, const char *name, struct slice text)
{
    begin(out, name);
    buf_append_json_string(out, text);
}

void render_null(struct buf *out, const char *name)
{
    begin(out, name);
    buf_append_str(out, "null");
}

void render_text_or_null(struct buf *out, const char *name, const char *text)
{
    if (text == NULL || text[0] == '\0')
        render_null(out, name);
    else
        render_text(out, name, slice_from(text));
}

void render_int(struct buf *out, const char *name, int64_t value)
{
    begin(out, name);
    buf_printf(out, "%" PRId64, value);
}

void render_int_or_null(struct buf *out, const char *name, int64_t value)
{
    if (value == 0)
        render_null(out, name);
    else
        render_int(out, name, value);
}

void render_bool(struct buf *out, const char *name, bool value)
{
    begin(out, name);
    buf_append_str(out, value ? "true" : "false");
}

void render_nano(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT];

    render_text(out, name, slice_from(money_format_nano(nano, text)));
}

void render_scaled(struct buf *out, const char *name, int64_t value, int digits)
{
    char text[MONEY_TEXT];

    render_text(out, name, slice_from(money_format_scaled(value, digits, text)));
}

void render_time(struct buf *out, const char *name, int64_t wall)
{
    char text[CLOCK_TEXT];

    if (wall == 0)
        render_null(out, name);
    else
        render_text(out, name, slice_from(clock_format(wall, text)));
}

void render_id(struct buf *out, const char *name, const char *prefix, struct id id)
{
    char text[ID_TEXT];

    if (id_is_zero(id))
        render_null(out, name);
    else
        render_text(out, name, slice_from(id_format(prefix, id, text)));
}

void render_json(struct buf *out, const char *name, const char *json, const char *otherwise)
{
    begin(out, name);
    buf_append_str(out, json != NULL && json[0] != '\0' ? json : otherwise);
}

void render_list_open(struct buf *out)
{
    render_open(out, NULL, '{');
    render_text(out, "object", SLICE("list"));
    render_open(out, "data", '[');
}

void render_list_close(struct buf *out, bool more, const char *next)
{
    render_close(out, ']');
    render_bool(out, "has_more", more);
    render_text_or_null(out, "next", more ? next : NULL);
    render_close(out, '}');
}
