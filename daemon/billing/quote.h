/* quote.h - the most a call can cost, before it runs; and what to charge when the upstream does not say what it used.
 *
 * Pure functions. The charge for known quantities is price_charge (price.h). */
#ifndef TG_BILLING_QUOTE_H
#define TG_BILLING_QUOTE_H

#include "model.h"

enum { QUOTE_INPUT_IMAGES = 17 }; /* 16 images and a mask */

/* A call as pricing sees it. */
struct image_spec {
    char model[LIMIT_MODEL];
    const struct model_card *card; /* NULL: unknown model */
    enum image_operation operation;
    char size[LIMIT_SIZE];       /* as asked; empty: absent */
    char quality[LIMIT_QUALITY]; /* as asked; empty: absent */
    int n;                       /* >= 1 */
    int partial_images;
    int64_t prompt_bytes; /* UTF-8 bytes of the prompt: a token is at least one byte, so never fewer than its tokens */
    bool high_fidelity;
    int n_inputs;
    struct {
        int w, h; /* 0: unknown */
    } inputs[QUOTE_INPUT_IMAGES];
};

struct quote {
    int64_t nano;          /* the ceiling, markup included */
    char size[LIMIT_SIZE]; /* the combination that gave it */
    char quality[LIMIT_QUALITY];
    struct price_quantities quantities;
    int64_t lines[PRICE_UNITS]; /* nano-dollars before the markup */
};

/* The dearest that <spec> can come to: "auto", and an absent value that means it, are tried at everything the card can
 * do, and so is a quality that the card does not list (the upstream will judge it). Each combination needs a price.
 * MODEL_NOT_FOUND when one has none (a per-token model needs a rate for its output tokens, its images or its requests),
 * or when the model is priced by tokens that no card bounds. INVALID_VALUE: a size that the card cannot make, or
 * quantities that no balance can hold. */
TG_MUSTCHECK enum err_code quote_ceiling(const struct price_version *v, int64_t markup_ppm,
                                         const struct image_spec *spec, struct quote *out, struct err *err);

/* Quantities for <images> delivered and <partials> sent when the upstream reported no usage: the token table or formula
 * at the effective size and quality (empty, or nothing that the card knows: as asked; "auto" at the dearest), input
 * tokens estimated (text: a quarter of the prompt's bytes, rounded up, plus the overhead; all of it for each image
 * delivered, as the upstream counts). Never above the ceiling's quantities. Per-image models: images. Nothing
 * delivered: all zero. */
void quote_estimate(const struct image_spec *spec, struct slice size, struct slice quality, int images, int partials,
                    struct price_quantities *out);

/* Which usage a stream's call had, when each of its images came with one: upstreams tell either each image's own (then
 * it is <sum> over all of them) or the whole call's in each (then it is <largest>). The one whose image output tokens
 * are nearer to the token table's for <images> and <partials>, as quote_estimate has them; in a tie, and without a
 * table, <largest>. */
void quote_choose_usage(const struct image_spec *spec, struct slice size, struct slice quality, int images,
                        int partials, const struct price_quantities *sum, const struct price_quantities *largest,
                        struct price_quantities *out);

/* The item under which a finished call is priced: effective size and quality, else the asked, else the card's default;
 * where that is "auto", the combination with the most tokens. Values that the card does not know are passed over, so
 * that what quote_ceiling could price has a price here too. <out> borrows from <spec>, its card, <size> and <quality>.
 */
void quote_item(const struct image_spec *spec, struct slice size, struct slice quality, struct price_item *out);

#endif
