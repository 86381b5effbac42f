/* request.h - what a customer asks for: the request model of the Images API and its validation.
 *
 * The request's bytes are never copied or changed: the model borrows from the body and knows where the value of `model`
 * stands, so that a channel's own name can be put in its place and everything else goes upstream as it came. Checks are
 * OpenAI's, with OpenAI's messages; what only the upstream can judge (style on dall-e-2, unknown fields) passes. */
#ifndef TG_IMAGES_REQUEST_H
#define TG_IMAGES_REQUEST_H

#include "daemon/base/json.h"
#include "daemon/billing/quote.h"

struct image_request {
    enum image_operation operation;
    struct image_spec spec; /* model, card, size, quality, n, partial images, prompt bytes, inputs */
    bool stream;
    bool model_given;              /* a name stands there; absent and null are dall-e-2 */
    size_t model_start, model_end; /* the value's bytes in the body, quotes included, or those of its null; both 0 when
                                    * the body has no such member */
    size_t object_start;           /* the byte after the body's opening brace */
    bool object_empty;             /* "{}" */
};

/* Checks that a generations request may be read at all: UNSUPPORTED_CONTENT_TYPE unless the media type is
 * application/json (any case, any parameters). <content_type> may be empty (absent). */
TG_MUSTCHECK enum err_code image_request_check_type(struct slice content_type, struct err *err);

/* Reads and validates a generations request. A missing model is dall-e-2. Nothing is kept of <body>.
 * The model's card gives the limits; without a card: n 1..10, prompts of 32000 code points, any size and quality that
 * the spec can hold. A quality that the card does not list passes (the upstream judges it, quote_ceiling holds for the
 * dearest). <out> is filled on success only. */
TG_MUSTCHECK enum err_code image_request_read(struct slice body, struct image_request *out, struct err *err);

enum { IMAGE_REQUEST_NAME = LIMIT_MODEL * 6 + 16 }; /* bytes for the text that image_request_body writes */

/* The body to send: <parts>[0..n) in order, borrowed from <body> and <name> (a buffer of IMAGE_REQUEST_NAME bytes,
 * which gets what is put in); the model's name replaced by <upstream_model>, or added when the body has no such member,
 * so that the upstream never falls back to a model of its own. When nothing changes it is <body> itself. Returns n
 * (1..3) and the whole length. <upstream_model> is shorter than LIMIT_MODEL. */
int image_request_body(const struct image_request *req, struct slice body, const char *upstream_model, char *name,
                       size_t name_cap, struct slice parts[3], size_t *length);

#endif
