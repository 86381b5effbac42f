/* order.h - one call, read: what was asked, whether OpenAI would refuse it, and what will be delivered.
 *
 *   image_reader and fields -> order_look -> order_check -> order_settle -> reply.h */
#ifndef TG_SANDBOX_ORDER_H
#define TG_SANDBOX_ORDER_H

#include "daemon/images/request.h"
#include "directives.h"
#include "fields.h"
#include "picture.h"
#include "refusal.h"

struct order {
    struct image_request request;
    struct json_object *tree; /* its parameters; a form's are strings */
    const struct upload *uploads;
    size_t n_uploads;
    bool form;
    int n_inputs; /* that go in, without a mask */
    struct {
        int w, h; /* 0: unknown */
    } inputs[LIMIT_INPUT_IMAGES];
    struct directives d;
    struct slice prompt; /* borrowed from the tree; empty for variations */
    /* settled */
    enum picture_format format;
    bool b64, stream;
    int images, partials;   /* to deliver; partials of each image */
    struct picture picture; /* the first; picture_of tells the others */
    char size[LIMIT_SIZE];
    char quality[LIMIT_QUALITY];
    const char *background;
    int64_t usage[3]; /* text in, image in, image out, of the whole call */
};

/* Whether the call is for a gpt-image model. */
bool order_is_gpt(const struct order *o);

/* A text parameter; false when absent, null, or no text. */
bool order_text(const struct order *o, const char *name, struct slice *out);

/* Notes the images that go in: the form's files, or the members of `images`. Before all below. */
void order_look(struct order *o);

/* What OpenAI would refuse of what image_reader passed; false and why. */
bool order_check(const struct order *o, struct refusal *why);

/* Reads the directives and makes everything effective: "auto" and absent become the square, the middle quality, PNG. */
void order_settle(struct order *o);

/* The <i>th image to deliver, and its <k>th partial image. */
struct picture order_picture(const struct order *o, int i);
struct picture order_partial(const struct order *o, int i, int k);

#endif
