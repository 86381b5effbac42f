/* fields.h - the parameters of a body of any length, read as it streams by: what is long (image files, image URLs) is
 * looked at and let go.
 *
 * The grammar and the limits are image_reader's to judge, which reads the same bytes before: here only what it passed
 * arrives. Memory: LIMIT_GENERATION_BODY at most. One thread. */
#ifndef TG_SANDBOX_FIELDS_H
#define TG_SANDBOX_FIELDS_H

#include "daemon/base/json.h"
#include "daemon/images/picture_size.h"

enum {
    UPLOAD_HEAD = 8,  /* bytes of a PNG's signature */
    UPLOAD_TYPE = 64, /* bytes of a content type, with the NUL; a longer one is none that is known */
    UPLOADS_MAX = LIMIT_INPUT_IMAGES + 1
};

/* One file of a form: an image, or the mask. */
struct upload {
    bool is_mask;
    bool has_type;
    char type[UPLOAD_TYPE];
    uint64_t bytes;
    uint8_t head[UPLOAD_HEAD];
    struct picture_size size;
};

/* Its width and height; false when its header cannot be read, or when it is to be a PNG and is none. */
bool upload_size(const struct upload *u, bool png_only, int *w, int *h);

struct fields;

/* <boundary>: of a form; empty: JSON. */
struct fields *fields_create(const char *boundary);
void fields_destroy(struct fields *f); /* NULL-safe */
TG_MUSTCHECK enum err_code fields_feed(struct fields *f, struct slice bytes, struct err *err);

/* A form's field, once it is there whole; borrowed. False: not yet, or the body is JSON. */
bool fields_early(const struct fields *f, const char *name, struct slice *out);

/* The body is whole. *tree: JSON's members (long texts inside them are cut), or a form's fields as strings; the
 * caller's. */
TG_MUSTCHECK enum err_code fields_finish(struct fields *f, struct json_object **tree, struct err *err);

bool fields_is_form(const struct fields *f);
size_t fields_uploads(const struct fields *f, const struct upload **out); /* in their order, the mask anywhere */

#endif
