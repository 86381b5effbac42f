/* multipart.h - multipart/form-data (RFC 7578, RFC 2046 5.1) read piece by piece: any split gives the same parts.
 *
 * No byte of a part's content is copied: it is told as runs of the fed bytes, as they come. A part of type
 * multipart/mixed is told as its sub-parts, under its own name (what curl makes of -F "image[]=@a,b"; one level).
 * Delimiters are CRLF -- boundary, with CRLF or -- right behind. Bytes that begin like one and go on otherwise are
 * content. A preamble and an epilogue are passed over.
 *
 * Where two readers could split a body differently, one could be shown a price and the other the work. So a line that
 * begins with the whole delimiter is one or refused, whatever ended the line before it. Likewise in a part's head.
 *
 * Refused (BAD_REQUEST unless said): more than LIMIT_PARTS parts; a part's head of more than LIMIT_PART_HEAD bytes; a
 * part without a name, with a name of LIMIT_PART_NAME bytes or more, with two names or two Content-Dispositions; names
 * with escapes other than \" \\ %22, and name*; control characters, bare LF and folded lines in a head; another
 * transfer encoding than binary, 8bit or 7bit (an upstream would decode what was not priced); a delimiter line with
 * more on it (blanks too), behind a bare LF, at once behind a head, or behind the last one; a body that ends before its
 * closing delimiter. In a multipart/mixed: parts without a file name; and other multiparts as parts. One thread a
 * reader.
 */
#ifndef TG_IMAGES_MULTIPART_H
#define TG_IMAGES_MULTIPART_H

#include "daemon/base/err.h"
#include "daemon/base/limits.h"

enum { MULTIPART_BOUNDARY = 71 }; /* bytes of a boundary with its NUL (RFC 2046, 5.1.1) */

struct multipart_part {
    struct slice name;
    bool has_filename;     /* a filename, or a filename* (which is not read) */
    struct slice filename; /* as it stands there, escapes kept; for looking at, never a path */
    struct slice type;     /* Content-Type; empty: none */
};

/* Each may refuse with an error; it is final. */
struct multipart_callbacks {
    void *ctx;
    enum err_code (*begin)(void *ctx, const struct multipart_part *part, struct err *err);
    /* <offset>: of bytes.p in the whole body */
    enum err_code (*data)(void *ctx, struct slice bytes, uint64_t offset, struct err *err);
    /* <offset>: where the content ended (that of an empty part: where it would stand) */
    enum err_code (*end)(void *ctx, uint64_t offset, struct err *err);
};

struct multipart;

/* The boundary of a multipart/form-data Content-Type, NUL-terminated; quoted or not. UNSUPPORTED_CONTENT_TYPE-worthy
 * types are the caller's to look at; BAD_REQUEST: a boundary missing, given twice, empty, of more than 70 characters,
 * of characters that RFC 2046 does not have, or ending with a space. */
TG_MUSTCHECK enum err_code multipart_boundary(struct slice content_type, char out[MULTIPART_BOUNDARY], struct err *err);

struct multipart *multipart_create(const char *boundary, const struct multipart_callbacks *callbacks);
void multipart_destroy(struct multipart *m); /* NULL-safe */
TG_MUSTCHECK enum err_code multipart_feed(struct multipart *m, struct slice bytes, struct err *err);
TG_MUSTCHECK enum err_code multipart_finish(struct multipart *m, struct err *err);

/* Where the first delimiter line begins: a part of one's own can be put in there. After the first part has begun. */
uint64_t multipart_first(const struct multipart *m);

#endif
