/* quote.c - the most a call can cost, and what it used when the upstream does not say.
 *
 * The ceiling walks every combination of size and quality that the call can come to, prices each with its own rates,
 * and keeps the dearest. Rates mostly name neither: then the price only grows with the tokens, and the combination with
 * the most of them is priced alone.
 *
 * Invariants
 *   1. No call whose usage is inside the card's own counting is charged more than its ceiling: all quantities are upper
 *      bounds, all rates are >= 0, and each combination is priced by itself.
 *   2. What quote_ceiling priced, quote_item can name: both choose from the same combinations. (An effective size or
 *      quality other than the one asked for is outside that: a book may have no price for it.)
 *
 * Threads: any; pure functions. */
#include "quote.h"

enum { BYTES_PER_TOKEN = 4 }; /* of a prompt, as a mean; the ceiling counts one */

/* One size and quality; slices borrowed from the spec, its card, the rates or the caller. */
struct choice {
    struct slice size;
    struct slice quality;
    int64_t tokens; /* output tokens of one picture */
};

/* The search for the dearest combination. */
struct search {
    const struct price_version *v;
    int64_t markup_ppm;
    const struct image_spec *spec;
    const struct price_rate *run; /* the model's rates */
    size_t n_run;
    bool uniform; /* no rate names a size or a quality */
    bool found;
    struct choice most;           /* uniform: the one with the most tokens so far */
    struct price_quantities base; /* what does not depend on the choice */
    int64_t partial_tokens;
    struct quote *out;
    struct err *err;
};

static bool is_auto(struct slice s)
{
    return slice_eq_str(s, "auto");
}

static bool is_named(struct slice s)
{
    return s.len > 0 && !is_auto(s);
}

static bool counts_tokens(const struct image_spec *spec)
{
    return spec->card != NULL && spec->card->per_token;
}

/* The size that is certain: the first of effective, asked and the card's default that says one; else nothing, and the
 * upstream may choose any. */
static struct slice settled_size(const struct image_spec *spec, struct slice effective)
{
    const struct model_card *card = spec->card;
    struct slice asked = slice_from(spec->size);

    if (is_named(effective) && (card == NULL || model_has_size(card, effective)))
        return effective;
    if (is_named(asked) && (card == NULL || model_has_size(card, asked)))
        return asked;
    if (card != NULL && is_named(slice_from(card->default_size)) && !is_auto(asked))
        return slice_from(card->default_size);
    return SLICE_NONE;
}

static struct slice settled_quality(const struct image_spec *spec, struct slice effective)
{
    const struct model_card *card = spec->card;
    struct slice asked = slice_from(spec->quality);

    if (is_named(effective) && (card == NULL || model_has_quality(card, effective)))
        return effective;
    if (is_named(asked) && (card == NULL || model_has_quality(card, asked)))
        return asked;
    if (card != NULL && is_named(slice_from(card->default_quality)) && asked.len == 0)
        return slice_from(card->default_quality);
    return SLICE_NONE;
}

/* ---- the ceiling --------------------------------------------------------------------------------------------------
 */

static enum err_code no_price(const struct search *s)
{
    return err_set(s->err, ERR_MODEL_NOT_FOUND, "model",
                   "The model `%s` does not exist or you do not have access to it.", s->spec->model);
}

static enum err_code too_large(struct err *err)
{
    return err_set(err, ERR_INVALID_VALUE, NULL, "The request is too large to be priced.");
}

static bool multiply(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static int64_t input_image_tokens(const struct image_spec *spec)
{
    int64_t sum = 0;

    for (int i = 0; i < spec->n_inputs; i++)
        sum += model_input_tokens(spec->card, spec->inputs[i].w, spec->inputs[i].h, spec->high_fidelity);
    return sum;
}

/* Everything but the pictures' own output tokens. The upstream counts the input once for each picture. */
static bool fill_base(struct search *s)
{
    const struct image_spec *spec = s->spec;
    const struct model_card *card = spec->card;
    int64_t *of = s->base.of;
    int64_t text;

    of[PRICE_IMAGE] = spec->n;
    of[PRICE_REQUEST] = 1;
    if (!counts_tokens(spec))
        return true;
    return !__builtin_add_overflow(spec->prompt_bytes,
                                   card->text_overhead + card->text_per_input_image * spec->n_inputs, &text) &&
           multiply(text, spec->n, &of[PRICE_TEXT_INPUT]) &&
           multiply(input_image_tokens(spec), spec->n, &of[PRICE_IMAGE_INPUT]) &&
           multiply(card->text_output, spec->n, &of[PRICE_TEXT_OUTPUT]) &&
           multiply(card->partial_tokens * spec->partial_images, spec->n, &s->partial_tokens);
}

/* Without a card that counts them, tokens have no bound: a rate for them cannot be held for. */
static bool priced_by_unbounded_tokens(const struct search *s)
{
    if (counts_tokens(s->spec))
        return false;
    for (size_t i = 0; i < s->n_run; i++) {
        const struct price_rate *r = &s->run[i];

        if (r->unit != PRICE_IMAGE && r->unit != PRICE_REQUEST && r->pico > 0 &&
            (r->operation == OPERATION_ANY || r->operation == s->spec->operation))
            return true;
    }
    return false;
}

static bool names_size_or_quality(const struct search *s)
{
    for (size_t i = 0; i < s->n_run; i++) {
        if (s->run[i].size[0] != '\0' || s->run[i].quality[0] != '\0')
            return true;
    }
    return false;
}

/* Whether the rates sell what comes out: input alone is no price for a picture. */
static bool is_sold(const struct search *s, const struct price_item *item)
{
    int64_t pico;

    return price_find(s->v, item, PRICE_IMAGE, &pico) || price_find(s->v, item, PRICE_REQUEST, &pico) ||
           (counts_tokens(s->spec) && price_find(s->v, item, PRICE_IMAGE_OUTPUT, &pico));
}

/* Input may turn out to be cached; should that be the dearer, it is held for as such. */
static void place_dearer(const struct search *s, const struct price_item *item, enum price_unit plain,
                         enum price_unit cached, struct price_quantities *q)
{
    int64_t plain_pico = 0;
    int64_t cached_pico = 0;

    (void)price_find(s->v, item, plain, &plain_pico);
    (void)price_find(s->v, item, cached, &cached_pico);
    if (cached_pico > plain_pico) {
        q->of[cached] = q->of[plain];
        q->of[plain] = 0;
    }
}

static enum err_code price_choice(struct search *s, const struct choice *choice)
{
    const struct image_spec *spec = s->spec;
    struct price_item item = {slice_from(spec->model), spec->operation, choice->size, choice->quality};
    struct quote quote = {.quantities = s->base};
    int64_t output;
    enum err_code code;

    if (!is_sold(s, &item))
        return no_price(s);
    if (!multiply(choice->tokens, spec->n, &output) ||
        __builtin_add_overflow(output, s->partial_tokens, &quote.quantities.of[PRICE_IMAGE_OUTPUT]))
        return too_large(s->err);
    place_dearer(s, &item, PRICE_TEXT_INPUT, PRICE_CACHED_TEXT_INPUT, &quote.quantities);
    place_dearer(s, &item, PRICE_IMAGE_INPUT, PRICE_CACHED_IMAGE_INPUT, &quote.quantities);
    code = price_charge(s->v, s->markup_ppm, &item, &quote.quantities, &quote.nano, quote.lines, s->err);
    if (code != ERR_OK || (s->found && quote.nano <= s->out->nano))
        return code;
    (void)slice_copy(choice->size, quote.size, sizeof(quote.size));
    (void)slice_copy(choice->quality, quote.quality, sizeof(quote.quality));
    *s->out = quote;
    s->found = true;
    return ERR_OK;
}

static enum err_code try_choice(struct search *s, struct slice size, struct slice quality)
{
    struct choice choice = {size, quality, 0};

    if (counts_tokens(s->spec))
        choice.tokens = model_hold_tokens(s->spec->card, size, quality);
    TG_ASSERT(choice.tokens >= 0); /* only what the card has is tried */
    if (!s->uniform)
        return price_choice(s, &choice);
    if (!s->found || choice.tokens > s->most.tokens)
        s->most = choice;
    s->found = true;
    return ERR_OK;
}

static enum err_code try_qualities(struct search *s, struct slice size)
{
    const struct model_card *card = s->spec->card;
    struct slice settled = settled_quality(s->spec, SLICE_NONE);
    enum err_code code = ERR_OK;

    if (card == NULL || settled.len > 0)
        return try_choice(s, size, settled);
    for (int i = 0; i < card->n_qualities && code == ERR_OK; i++)
        code = try_choice(s, size, slice_from(card->qualities[i]));
    return code;
}

/* Any legal size can come: the dearest by tokens, the usual ones, and those that a rate names. */
static enum err_code try_sizes(struct search *s)
{
    const struct model_card *card = s->spec->card;
    struct slice settled = settled_size(s->spec, SLICE_NONE);
    enum err_code code = ERR_OK;

    if (card == NULL || settled.len > 0)
        return try_qualities(s, settled);
    for (int i = 0; i < card->n_sizes && code == ERR_OK; i++)
        code = try_qualities(s, slice_from(card->sizes[i]));
    if (code != ERR_OK || !card->free_size)
        return code;
    code = try_qualities(s, slice_from(card->dearest_size));
    for (size_t i = 0; i < s->n_run && code == ERR_OK; i++) {
        struct slice size = slice_from(s->run[i].size);
        bool again = i > 0 && strcmp(s->run[i].size, s->run[i - 1].size) == 0;

        if (size.len > 0 && !again && model_has_size(card, size))
            code = try_qualities(s, size);
    }
    return code;
}

static enum err_code check_spec(const struct image_spec *spec, struct err *err)
{
    struct slice size = slice_from(spec->size);

    if (spec->n < 1 || spec->partial_images < 0 || spec->prompt_bytes < 0 || spec->n_inputs < 0 ||
        spec->n_inputs > QUOTE_INPUT_IMAGES)
        return too_large(err);
    if (spec->card != NULL && is_named(size) && !model_has_size(spec->card, size))
        return err_set(err, ERR_INVALID_VALUE, "size", "Invalid size '%s' for the model `%s`.", spec->size,
                       spec->model);
    return ERR_OK;
}

enum err_code quote_ceiling(const struct price_version *v, int64_t markup_ppm, const struct image_spec *spec,
                            struct quote *out, struct err *err)
{
    struct search s = {.v = v, .markup_ppm = markup_ppm, .spec = spec, .out = out, .err = err};
    enum err_code code = check_spec(spec, err);

    if (code != ERR_OK)
        return code;
    s.run = price_model_rates(v, slice_from(spec->model), &s.n_run);
    if (s.run == NULL)
        return no_price(&s);
    if (priced_by_unbounded_tokens(&s))
        return err_set(err, ERR_MODEL_NOT_FOUND, "model",
                       "The model `%s` is priced by tokens, and nothing is known that bounds them.", spec->model);
    if (!fill_base(&s))
        return too_large(err);
    s.uniform = !names_size_or_quality(&s);
    code = try_sizes(&s);
    if (code != ERR_OK || !s.uniform)
        return code;
    s.found = false;
    return price_choice(&s, &s.most);
}

/* ---- after the call -----------------------------------------------------------------------------------------------
 */

/* Of one size with the open or settled quality, the one with more tokens than <best>, if any. */
static void prefer_size(const struct image_spec *spec, struct slice size, struct slice quality, struct choice *best)
{
    const struct model_card *card = spec->card;
    int n = quality.len > 0 ? 1 : card->n_qualities;

    for (int i = 0; i < n; i++) {
        struct slice q = quality.len > 0 ? quality : slice_from(card->qualities[i]);
        int64_t tokens = card->per_token ? model_output_tokens(card, size, q, 1) : 0;

        if (tokens > best->tokens)
            *best = (struct choice){size, q, tokens};
    }
}

/* The combination that a finished call counts as (see quote_item). */
static struct choice settle(const struct image_spec *spec, struct slice effective_size, struct slice effective_quality)
{
    const struct model_card *card = spec->card;
    struct slice size = settled_size(spec, effective_size);
    struct slice quality = settled_quality(spec, effective_quality);
    struct choice best = {size, quality, -1};

    if (card == NULL)
        return best;
    if (size.len > 0) {
        prefer_size(spec, size, quality, &best);
        return best;
    }
    for (int i = 0; i < card->n_sizes; i++)
        prefer_size(spec, slice_from(card->sizes[i]), quality, &best);
    if (card->free_size)
        prefer_size(spec, slice_from(card->dearest_size), quality, &best);
    return best;
}

static int clamp(int value, int64_t most)
{
    if (value < 0)
        return 0;
    return value > most ? (int)most : value;
}

/* Output tokens of the pictures and partials, but never more than the call could be held for. */
static int64_t estimate_output(const struct image_spec *spec, const struct choice *made, int images, int partials)
{
    struct choice asked = settle(spec, SLICE_NONE, SLICE_NONE);
    int64_t most = images * model_hold_tokens(spec->card, asked.size, asked.quality);
    int64_t tokens = model_output_tokens(spec->card, made->size, made->quality, images);

    return (tokens < most ? tokens : most) + partials * spec->card->partial_tokens;
}

void quote_estimate(const struct image_spec *spec, struct slice size, struct slice quality, int images, int partials,
                    struct price_quantities *out)
{
    struct choice made = settle(spec, size, quality);
    const struct model_card *card = spec->card;
    int64_t times;

    images = clamp(images, spec->n);
    partials = clamp(partials, (int64_t)spec->n * spec->partial_images);
    times = images > 0 ? images : partials > 0;
    *out = (struct price_quantities){.of = {[PRICE_IMAGE] = images, [PRICE_REQUEST] = times > 0}};
    if (!counts_tokens(spec) || times == 0)
        return;
    out->of[PRICE_TEXT_INPUT] =
        times * (spec->prompt_bytes / BYTES_PER_TOKEN + (spec->prompt_bytes % BYTES_PER_TOKEN != 0) +
                 card->text_overhead + card->text_per_input_image * spec->n_inputs);
    out->of[PRICE_IMAGE_INPUT] = times * input_image_tokens(spec);
    out->of[PRICE_IMAGE_OUTPUT] = estimate_output(spec, &made, images, partials);
}

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

void quote_choose_usage(const struct image_spec *spec, struct slice size, struct slice quality, int images,
                        int partials, const struct price_quantities *sum, const struct price_quantities *largest,
                        struct price_quantities *out)
{
    struct price_quantities expected;
    int64_t tokens;

    quote_estimate(spec, size, quality, images, partials, &expected);
    tokens = expected.of[PRICE_IMAGE_OUTPUT];
    *out =
        tokens > 0 && distance(sum->of[PRICE_IMAGE_OUTPUT], tokens) < distance(largest->of[PRICE_IMAGE_OUTPUT], tokens)
            ? *sum
            : *largest;
}

void quote_item(const struct image_spec *spec, struct slice size, struct slice quality, struct price_item *out)
{
    struct choice made = settle(spec, size, quality);

    *out = (struct price_item){slice_from(spec->model), spec->operation, made.size, made.quality};
}
