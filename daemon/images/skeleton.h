/* skeleton.h - a JSON text of any length, kept without its pictures.
 *
 * Every byte of the text is kept but those of strings that are the value of a member "image_url", at any depth and
 * however its name is escaped: there the string's number stands instead, "0", "1", ... in the order of the text, and
 * what was seen of the string is told apart. The text is good JSON exactly when the skeleton is: the strings that are
 * cut out were checked as they passed (UTF-8, control characters, escapes), all else is json_read's to check.
 *
 * Memory: LIMIT_GENERATION_BODY. One reader, one thread. */
#ifndef TG_IMAGES_SKELETON_H
#define TG_IMAGES_SKELETON_H

#include "daemon/base/err.h"

enum {
    SKELETON_URLS = 64,                   /* strings that may be cut out of one text */
    SKELETON_URL_CHARS = 20 * 1024 * 1024 /* characters of one (an escape counts as one) */
};

struct skeleton;

/* Without <cut> the skeleton is the text itself. */
struct skeleton *skeleton_create(bool cut);
void skeleton_destroy(struct skeleton *s); /* NULL-safe */

/* TOO_LARGE: more than LIMIT_GENERATION_BODY bytes would be kept; STRING_TOO_LONG, BAD_JSON: in a string cut out;
 * BAD_REQUEST: more than SKELETON_URLS of them. */
TG_MUSTCHECK enum err_code skeleton_feed(struct skeleton *s, struct slice bytes, struct err *err);

struct slice skeleton_text(const struct skeleton *s);

/* Where in the whole text the byte at <at> of the skeleton stands. Not for bytes of a number that stands for a string.
 */
uint64_t skeleton_offset(const struct skeleton *s, size_t at);

/* Of the string that <number> stands for (what the text between its quotes says): the size of the picture in it;
 * 0 and 0: unknown. */
void skeleton_size(const struct skeleton *s, struct slice number, int *w, int *h);

#endif
