/* part_head.h - the header of one part of a form, and the parameters of header values.
 *
 * Readers of forms differ in what they make of folded lines, escapes and names given twice; whatever two of them could
 * read differently is refused here, so that no upstream sees a part that was not priced. Pure functions, any thread. */
#ifndef TG_IMAGES_PART_HEAD_H
#define TG_IMAGES_PART_HEAD_H

#include "multipart.h"

struct part_head {
    struct multipart_part part;      /* borrows from the head's bytes and from name_text */
    char name_text[LIMIT_PART_NAME]; /* decoded */
    bool mixed;                      /* a multipart/mixed whose parts are the files */
    char boundary[MULTIPART_BOUNDARY];
};

/* <head>: the header lines, each with its CRLF, without the empty line. <outer> NULL: a part of the form itself; else a
 * part of a multipart/mixed of that name: it has a file name and no name of its own. BAD_REQUEST as multipart.h says.
 */
TG_MUSTCHECK enum err_code part_head_read(struct slice head, const char *outer, struct part_head *out, struct err *err);

/* The parameter <name> of a header's value ("text/plain; charset=utf-8"), as it stands between its quotes. Returns how
 * often it is there, -1 when the value cannot be read. */
int part_head_param(struct slice value, const char *name, struct slice *out);

#endif
