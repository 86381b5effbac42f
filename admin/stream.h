/* stream.h - answers of any length, in pieces and with constant memory: exports, large reports; and which of its
 * formats an answer is wanted in.
 *
 * A source is a function <more> that is called whenever there is room for another piece. It either writes one at once
 * or asks the store (admin_begin, admin_submit) and writes when the answer comes; then it calls stream_push, or
 * stream_end with the last. While a piece is on its way to the client one more is made, no further: so a slow client
 * costs two pieces and stops the source. A source that asks ahead (admin_submit, then writes what came before, then
 * stream_push) has the store and the loop work at the same time.
 *
 *   stream_open --> more() --stream_push--> [piece leaves] --room--> more() ...
 *                     \--stream_end--> [last piece leaves] (freed)
 *
 * Nothing leaves before the first push: until then admin_fail answers with an error object. After it admin_fail breaks
 * the connection off, so that the client can tell that what it has is not all. An answer that ends with its first piece
 * is sent whole, with its length. When the client goes, the call is freed and the source is asked no more.
 *
 * Threads: the call's loop. */
#ifndef TG_ADMIN_STREAM_H
#define TG_ADMIN_STREAM_H

#include "house.h"

enum stream_format { STREAM_JSON = 0, STREAM_CSV, STREAM_NDJSON, STREAM_HTML, STREAM_FORMATS };

enum {
    STREAM_PIECE = 128 * 1024,        /* bytes from which on a piece is full */
    STREAM_LONGEST = 4 * 1024 * 1024, /* bytes that a piece may come to at most: with more the call fails */
    STREAM_NAME = 96                  /* bytes of a file's name, with its NUL */
};

/* Which of the formats in <allowed> (bits 1 << enum stream_format) the client wants: the one that the query's `format`
 * names (<text>: "json", "csv", "ndjson", "html"; empty: not given), else the one that Accept likes best, else JSON.
 * INVALID_VALUE naming format. */
TG_MUSTCHECK enum err_code stream_choose(const struct admin_call *call, const char *text, unsigned allowed,
                                         enum stream_format *out, struct err *err);

/* Begins. <filename>: what a browser calls it (CSV, NDJSON), without the ending; letters, digits, - _ . only; copied.
 * Runs <more>, so it comes last. The call may be dead on return, here as in the next three. */
void stream_open(struct admin_call *call, enum stream_format format, const char *filename,
                 void (*more)(struct admin_call *call));

/* Where the piece is written that is being made; may hold what was pushed before and has not left. */
struct buf *stream_out(struct admin_call *call);

bool stream_full(const struct admin_call *call); /* a piece's worth is there: push */

void stream_push(struct admin_call *call);
void stream_end(struct admin_call *call);

/* Sends a whole answer of a format, as stream_end would. */
void stream_reply(struct admin_call *call, enum stream_format format, const char *filename, const struct buf *out);

/* ---- for call.c ---- */

void stream_ready(struct admin_call *call); /* the client has taken a piece */
bool stream_break(struct admin_call *call); /* an error: breaks off what has begun; false: nothing has */
void stream_destroy(struct stream *stream); /* NULL-safe */

#endif
