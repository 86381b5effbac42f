/* form.h - an edit or a variation that came as a form: its fields as a tree, its files counted and measured.
 *
 * A part with a file name is a picture that goes in, whatever it is called, and is priced as one: `image`, `image[]`,
 * `mask`, `markup` by the API; others by caution, as some upstream may know them. A part without one is a scalar; a
 * scalar of ours with a file name is refused (INVALID_TYPE), as is an image without (which OpenAI says too): readers
 * differ on whether those are text. A name may stand once, unless it ends with [].
 *
 * A file may have LIMIT 4 MB for dall-e-2 (400, OpenAI's words) and 50 MB for others (413): judged when it passes that
 * where the model is known by then, else at the end of the form. One form, one thread. */
#ifndef TG_IMAGES_FORM_H
#define TG_IMAGES_FORM_H

#include "request.h"

enum {
    FORM_DALLE2_FILE = 4 * 1024 * 1024, /* bytes of a file, for dall-e-2 */
    FORM_FILE = 50 * 1024 * 1024        /* for all others */
};

struct form;

/* <boundary> as multipart_boundary gives it. */
struct form *form_create(enum image_operation operation, const char *boundary);
void form_destroy(struct form *f); /* NULL-safe */

TG_MUSTCHECK enum err_code form_feed(struct form *f, struct slice bytes, struct err *err);

/* The form is whole: fills everything of <out> but the boundary; out->operation and out->spec.operation are set before.
 */
TG_MUSTCHECK enum err_code form_finish(struct form *f, struct image_request *out, struct err *err);

#endif
