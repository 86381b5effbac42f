/* params.h - the scalar parameters of a call, from JSON or from a form's fields (a tree in either case).
 *
 * What is priced is checked here with OpenAI's rules and words: model, prompt, n, size, quality, stream,
 * partial_images, and input_fidelity where pictures go in. Pure functions, any thread. */
#ifndef TG_IMAGES_PARAMS_H
#define TG_IMAGES_PARAMS_H

#include "request.h"

/* Fills the spec (all but its inputs), stream and model_given; out->operation and out->spec.operation are set before. A
 * variation needs no prompt, but one that is there counts. */
TG_MUSTCHECK enum err_code params_read(struct json_object *tree, struct image_request *out, struct err *err);

/* UNKNOWN_PARAMETER for a name that some parser could take for one that is priced, or for a picture's: other case,
 * blanks around it, brackets behind it. */
TG_MUSTCHECK enum err_code params_check_name(enum image_operation operation, const char *name, struct err *err);

#endif
