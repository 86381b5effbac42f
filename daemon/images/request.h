/* request.h - what a customer asks for: the request model of the Images API and its validation.
 *
 * The body streams through; its bytes are never copied but for the scalar parameters, nor changed: the model knows
 * where the value of `model` stands, so that a channel's own name can be put in its place and everything else goes
 * upstream as it came. Checks are OpenAI's, with OpenAI's messages; what only the upstream can judge (style on
 * dall-e-2, unknown fields, what an image file holds) passes.
 *
 *   generations   application/json
 *   edits         multipart/form-data, or application/json with image_url and file_id
 *   variations    multipart/form-data
 *
 * Memory: LIMIT_GENERATION_BODY at most, whatever the length of the body. One thread a reader. */
#ifndef TG_IMAGES_REQUEST_H
#define TG_IMAGES_REQUEST_H

#include "daemon/base/json.h"
#include "daemon/base/limits.h"
#include "daemon/billing/quote.h"
#include "multipart.h"

struct image_request {
    enum image_operation operation;
    struct image_spec spec; /* model, card, size, quality, n, partial images, prompt bytes, inputs */
    bool stream;
    bool model_given; /* a name stands there; absent and null are dall-e-2 */
    /* Where the channel's name goes: the value's bytes in the body (in JSON with its quotes, or those of its null), or
     * an empty run where the member or the part is to be put in. */
    uint64_t model_start, model_end;
    bool model_absent;                 /* there is no such member or part */
    bool object_empty;                 /* JSON: "{}" */
    char boundary[MULTIPART_BOUNDARY]; /* multipart; empty: JSON */
};

struct image_reader;

/* UNSUPPORTED_CONTENT_TYPE unless the media type (any case, any parameters) is one of the operation's;
 * BAD_REQUEST: a boundary that is missing, empty, longer than 70 characters or not made of RFC 2046's. <content_type>
 * may be empty (absent). */
TG_MUSTCHECK enum err_code image_reader_create(enum image_operation operation, struct slice content_type,
                                               struct image_reader **out, struct err *err);
void image_reader_destroy(struct image_reader *r); /* NULL-safe */

/* The boundary of a form, borrowed from the reader; empty: JSON. */
const char *image_reader_boundary(const struct image_reader *r);

/* The next bytes of the body. An error is final: what can be refused before the body's end is. */
TG_MUSTCHECK enum err_code image_reader_feed(struct image_reader *r, struct slice bytes, struct err *err);

/* The body is whole. A missing model is dall-e-2. The model's card gives the limits; without a card: n 1..10, prompts
 * of 32000 code points, any size and quality that the spec can hold. A quality that the card does not list passes (the
 * upstream judges it, quote_ceiling holds for the dearest). <out> is filled on success only and borrows nothing. */
TG_MUSTCHECK enum err_code image_reader_finish(struct image_reader *r, struct image_request *out, struct err *err);

/* Room for the text that image_request_patch writes. */
enum { IMAGE_PATCH = LIMIT_MODEL * 6 + MULTIPART_BOUNDARY + 128 };

/* What to change in the body for a channel: bytes start..end become <text> (borrowed from <room>, IMAGE_PATCH bytes).
 * The model's name is replaced, or added when the body has none, so that the upstream never falls back to a model of
 * its own. Returns false when nothing changes. <upstream_model> is shorter than LIMIT_MODEL and printable ASCII. */
struct image_patch {
    uint64_t start, end;
    struct slice text;
};
bool image_request_patch(const struct image_request *req, const char *upstream_model, char room[IMAGE_PATCH],
                         struct image_patch *out);

#endif
