/* render.h - writing JSON text straight into a buffer: members of objects, elements of arrays, commas where they
 * belong.
 *
 * A member is written after the name; inside arrays the name is NULL. Whether a comma is due is read from the last byte
 * of the buffer, so a value must be whole before the next begins. Pure; any thread. */
#ifndef TG_ADMIN_RENDER_H
#define TG_ADMIN_RENDER_H

#include "daemon/base/clock.h"
#include "daemon/base/id.h"
#include "daemon/base/money.h"

void render_open(struct buf *out, const char *name, char bracket); /* '{' or '[' */
void render_close(struct buf *out, char bracket);                  /* '}' or ']' */
void render_text(struct buf *out, const char *name, struct slice text);
void render_text_or_null(struct buf *out, const char *name, const char *text); /* NULL and "": null */
void render_int(struct buf *out, const char *name, int64_t value);
void render_int_or_null(struct buf *out, const char *name, int64_t value); /* 0: null */
void render_bool(struct buf *out, const char *name, bool value);
void render_null(struct buf *out, const char *name);
void render_nano(struct buf *out, const char *name, int64_t nano);                   /* "12.340000000" */
void render_scaled(struct buf *out, const char *name, int64_t value, int digits);    /* "12.5" */
void render_time(struct buf *out, const char *name, int64_t wall);                   /* 0: null */
void render_id(struct buf *out, const char *name, const char *prefix, struct id id); /* zero: null */
void render_json(struct buf *out, const char *name, const char *json,
                 const char *otherwise); /* NULL, "": <otherwise> */

/* A whole list: open, then the elements, then close with has_more and the cursor (empty: null). */
void render_list_open(struct buf *out);
void render_list_close(struct buf *out, bool more, const char *next);

#endif
