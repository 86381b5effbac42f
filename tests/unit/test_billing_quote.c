/* test_billing_quote.c - ceilings, estimates and what a finished call is priced as; and at random, that no call inside
 * a card's own counting is charged above its ceiling. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/billing/quote.h"

#define USD INT64_C(1000000000000) /* pico-dollars */

static struct price_version *list; /* the default prices */

static struct image_spec spec_of(const char *model, const char *size, const char *quality, int n)
{
    struct image_spec spec = {.operation = OPERATION_GENERATIONS, .n = n};

    assert_true(slice_copy(slice_from(model), spec.model, sizeof(spec.model)));
    assert_true(slice_copy(slice_from(size), spec.size, sizeof(spec.size)));
    assert_true(slice_copy(slice_from(quality), spec.quality, sizeof(spec.quality)));
    spec.card = model_find(slice_from(model));
    return spec;
}

static struct quote ceiling(const struct price_version *v, const struct image_spec *spec)
{
    struct quote q = {0};

    assert_int_equal(quote_ceiling(v, 0, spec, &q, NULL), ERR_OK);
    return q;
}

static void test_ceiling_per_image(void **state)
{
    static const struct {
        const char *model, *size, *quality;
        int n;
        int64_t nano;
        const char *at_size, *at_quality;
    } cases[] = {
        {"dall-e-2", "256x256", "", 2, 32000000, "256x256", "standard"},
        {"dall-e-2", "", "", 1, 20000000, "1024x1024", "standard"}, /* absent: the default, exactly */
        {"dall-e-2", "auto", "", 1, 20000000, "1024x1024", "standard"},
        {"dall-e-2", "256x256", "hd", 1, 16000000, "256x256", "standard"},
        {"dall-e-3", "", "", 1, 40000000, "1024x1024", "standard"},
        {"dall-e-3", "1792x1024", "hd", 1, 120000000, "1792x1024", "hd"},
        {"dall-e-3", "1024x1024", "auto", 1, 80000000, "1024x1024", "hd"},
        {"dall-e-3", "1024x1024", "high", 1, 80000000, "1024x1024", "hd"}, /* the upstream will judge it */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct image_spec spec = spec_of(cases[i].model, cases[i].size, cases[i].quality, cases[i].n);
        struct quote q;

        spec.prompt_bytes = 100;
        q = ceiling(list, &spec);
        assert_int_equal(q.nano, cases[i].nano);
        assert_string_equal(q.size, cases[i].at_size);
        assert_string_equal(q.quality, cases[i].at_quality);
        assert_int_equal(q.quantities.of[PRICE_IMAGE], cases[i].n);
        assert_int_equal(q.lines[PRICE_IMAGE], cases[i].nano);
        for (int unit = PRICE_TEXT_INPUT; unit < PRICE_UNITS; unit++)
            assert_int_equal(q.quantities.of[unit], 0);
    }
}

static void test_ceiling_per_token(void **state)
{
    struct image_spec spec = spec_of("gpt-image-1", "1024x1024", "medium", 1);
    struct quote q;

    (void)state;
    spec.prompt_bytes = 20;
    q = ceiling(list, &spec);
    assert_int_equal(q.quantities.of[PRICE_TEXT_INPUT], 26);
    assert_int_equal(q.quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(q.nano, 26 * 5000 + 1056 * 40000);

    spec = spec_of("gpt-image-1", "", "", 3); /* auto: 1024x1536 at high */
    spec.operation = OPERATION_EDITS;
    spec.prompt_bytes = 100;
    spec.partial_images = 2;
    spec.high_fidelity = true;
    spec.n_inputs = 2;
    spec.inputs[0].w = spec.inputs[0].h = 1024;
    q = ceiling(list, &spec);
    assert_string_equal(q.size, "1024x1536");
    assert_string_equal(q.quality, "high");
    assert_int_equal(q.quantities.of[PRICE_TEXT_INPUT], 3 * (100 + 6 + 2 * 32));
    assert_int_equal(q.quantities.of[PRICE_IMAGE_INPUT], 3 * (194 + 4160 + 581 + 6240));
    assert_int_equal(q.quantities.of[PRICE_IMAGE_OUTPUT], 3 * (6240 + 2 * 100));
    assert_int_equal(q.quantities.of[PRICE_IMAGE], 3);
    assert_int_equal(q.quantities.of[PRICE_REQUEST], 1);

    spec = spec_of("gpt-image-2", "auto", "auto", 10);
    q = ceiling(list, &spec);
    assert_string_equal(q.size, "2880x2880");
    assert_string_equal(q.quality, "high");
    assert_int_equal(q.nano, 10 * (23719 * INT64_C(30000) + 6 * 5000));

    spec = spec_of("gpt-image-2", "1536x864", "hd", 1); /* a quality that it does not list: at its dearest */
    q = ceiling(list, &spec);
    assert_string_equal(q.quality, "high");

    spec = spec_of("gpt-image-1-mini", "1024x1024", "low", 1); /* the dearer of two readings */
    assert_int_equal(ceiling(list, &spec).quantities.of[PRICE_IMAGE_OUTPUT], 625);
    spec = spec_of("gpt-image-1.5", "1024x1024", "low", 2);
    assert_int_equal(ceiling(list, &spec).quantities.of[PRICE_TEXT_OUTPUT], 2048);
}

static void test_ceiling_refusals(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "flux", .unit = PRICE_IMAGE, .size = "1024x1024", .pico = USD / 10},
        {.model = "seed", .unit = PRICE_IMAGE_OUTPUT, .pico = 1},
        {.model = "dall-e-2", .unit = PRICE_TEXT_INPUT, .pico = 5},
        {.model = "dall-e-2", .unit = PRICE_IMAGE, .pico = 5},
        {.model = "gpt-image-1", .unit = PRICE_TEXT_INPUT, .pico = 5},
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .size = "1024x1024", .pico = USD / 10},
        {.model = "gpt-image-1.5", .unit = PRICE_IMAGE, .quality = "high", .pico = USD / 10},
        {.model = "gpt-image-1-mini", .unit = PRICE_IMAGE, .operation = OPERATION_EDITS, .pico = USD / 10},
    };
    static const struct {
        const char *model, *size, *quality;
        enum err_code code;
    } cases[] = {
        {"none", "1024x1024", "", ERR_MODEL_NOT_FOUND},
        {"flux", "1024x1024", "any", ERR_OK},
        {"flux", "512x512", "", ERR_MODEL_NOT_FOUND},
        {"flux", "", "", ERR_MODEL_NOT_FOUND},                    /* nothing says what it would come to */
        {"seed", "1024x1024", "", ERR_MODEL_NOT_FOUND},           /* nothing bounds its tokens */
        {"dall-e-2", "1024x1024", "", ERR_MODEL_NOT_FOUND},       /* nor these */
        {"gpt-image-1", "1024x1024", "low", ERR_MODEL_NOT_FOUND}, /* input alone is no price */
        {"gpt-image-2", "1024x1024", "low", ERR_OK},
        {"gpt-image-2", "auto", "low", ERR_MODEL_NOT_FOUND}, /* may come out at a size without a price */
        {"gpt-image-2", "512x512", "low", ERR_INVALID_VALUE},
        {"gpt-image-1.5", "", "high", ERR_OK},
        {"gpt-image-1.5", "", "", ERR_MODEL_NOT_FOUND},
        {"gpt-image-1-mini", "", "", ERR_MODEL_NOT_FOUND}, /* generations have no price */
    };
    struct price_version *v = price_version_create(rates, sizeof(rates) / sizeof(rates[0]));

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct image_spec spec = spec_of(cases[i].model, cases[i].size, cases[i].quality, 1);
        struct quote q;
        struct err err = {0};

        assert_int_equal(quote_ceiling(v, 0, &spec, &q, &err), cases[i].code);
        if (cases[i].code == ERR_INVALID_VALUE)
            assert_string_equal(err.param, "size");
        else if (cases[i].code != ERR_OK)
            assert_string_equal(err.param, "model");
    }
    price_version_unref(v);
}

static void test_ceiling_extremes(void **state)
{
    struct image_spec spec = spec_of("gpt-image-2", "1024x1024", "low", 1);
    struct quote q;

    (void)state;
    spec.prompt_bytes = INT64_MAX;
    assert_int_equal(quote_ceiling(list, 0, &spec, &q, NULL), ERR_INVALID_VALUE);
    spec.prompt_bytes = INT64_MAX / 4;
    spec.n = 10;
    assert_int_equal(quote_ceiling(list, 0, &spec, &q, NULL), ERR_INVALID_VALUE);
    spec.prompt_bytes = 0;
    spec.n = INT32_MAX;
    spec.partial_images = INT32_MAX;
    assert_int_equal(quote_ceiling(list, 0, &spec, &q, NULL), ERR_INVALID_VALUE);
    spec.partial_images = 0;
    spec.n = 0;
    assert_int_equal(quote_ceiling(list, 0, &spec, &q, NULL), ERR_INVALID_VALUE);
    spec.n = 1;
    spec.n_inputs = QUOTE_INPUT_IMAGES + 1;
    assert_int_equal(quote_ceiling(list, 0, &spec, &q, NULL), ERR_INVALID_VALUE);
    spec.n_inputs = 0;
    assert_int_equal(quote_ceiling(list, -1000000, &spec, &q, NULL), ERR_OK);
    assert_int_equal(q.nano, 0);
    assert_int_equal(quote_ceiling(list, 1000000000, &spec, &q, NULL), ERR_OK);
    assert_int_equal(q.nano, INT64_C(1001) * (196 * 30000 + 6 * 5000));
    assert_int_equal(quote_ceiling(list, 1000000001, &spec, &q, NULL), ERR_INVALID_VALUE);
}

/* A cheap quality can be the dear one in somebody's book, and a size that no card lists can have a price of its own. */
static void test_ceiling_follows_the_rates(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .pico = USD / 100},
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .quality = "low", .pico = USD},
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .quality = "low", .size = "2048x2048", .pico = 2 * USD},
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .quality = "low", .size = "512x512", .pico = 9 * USD},
        {.model = "gpt-image-2", .unit = PRICE_IMAGE, .operation = OPERATION_EDITS, .size = "816x816", .pico = 9 * USD},
    };
    struct price_version *v = price_version_create(rates, sizeof(rates) / sizeof(rates[0]));
    struct image_spec spec = spec_of("gpt-image-2", "", "", 2);
    struct quote q = ceiling(v, &spec);

    (void)state;
    assert_int_equal(q.nano, INT64_C(4000000000));
    assert_string_equal(q.size, "2048x2048");
    assert_string_equal(q.quality, "low");
    spec = spec_of("gpt-image-2", "", "high", 1);
    assert_int_equal(ceiling(v, &spec).nano, 10000000);
    spec = spec_of("gpt-image-2", "1024x1024", "", 1);
    assert_int_equal(ceiling(v, &spec).nano, 1000000000);
    price_version_unref(v);
}

/* Input that turns out to be cached may be the dearer in somebody's book. */
static void test_ceiling_covers_cached_input(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "gpt-image-1", .unit = PRICE_TEXT_INPUT, .pico = 1000},
        {.model = "gpt-image-1", .unit = PRICE_CACHED_TEXT_INPUT, .pico = 3000},
        {.model = "gpt-image-1", .unit = PRICE_IMAGE_OUTPUT, .pico = 0},
    };
    struct price_version *v = price_version_create(rates, 3);
    struct image_spec spec = spec_of("gpt-image-1", "1024x1024", "low", 1);

    (void)state;
    spec.prompt_bytes = 94;
    assert_int_equal(ceiling(v, &spec).nano, 300);
    price_version_unref(v);
}

static void test_estimate(void **state)
{
    struct image_spec spec = spec_of("gpt-image-2", "auto", "auto", 4);
    struct price_quantities q;

    (void)state;
    spec.prompt_bytes = 9;
    spec.partial_images = 1;
    quote_estimate(&spec, SLICE("1024x1024"), SLICE("low"), 2, 1, &q);
    assert_int_equal(q.of[PRICE_IMAGE], 2);
    assert_int_equal(q.of[PRICE_REQUEST], 1);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 391 + 100); /* images multiplied before the rounding */
    assert_int_equal(q.of[PRICE_TEXT_INPUT], 2 * (3 + 6));
    quote_estimate(&spec, SLICE_NONE, SLICE_NONE, 1, 0, &q);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 23719);
    quote_estimate(&spec, SLICE("nonsense"), SLICE("auto"), 1, 0, &q);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 23719);
    quote_estimate(&spec, SLICE("1024x1024"), SLICE("low"), 0, 0, &q);
    for (int unit = 0; unit < PRICE_UNITS; unit++)
        assert_int_equal(q.of[unit], 0);
    quote_estimate(&spec, SLICE("1024x1024"), SLICE("low"), 0, 3, &q); /* died after three partials */
    assert_int_equal(q.of[PRICE_IMAGE], 0);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 300);
    assert_int_equal(q.of[PRICE_TEXT_INPUT], 9);
    quote_estimate(&spec, SLICE("1024x1024"), SLICE("low"), 99, 99, &q); /* no more than was asked for */
    assert_int_equal(q.of[PRICE_IMAGE], 4);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 781 + 400);

    spec = spec_of("gpt-image-1", "1024x1024", "low", 1); /* asked exactly: no more than that is estimated */
    quote_estimate(&spec, SLICE("1024x1536"), SLICE("high"), 1, 0, &q);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 272);

    spec = spec_of("dall-e-3", "", "", 1);
    quote_estimate(&spec, SLICE_NONE, SLICE_NONE, 1, 0, &q);
    assert_int_equal(q.of[PRICE_IMAGE], 1);
    assert_int_equal(q.of[PRICE_TEXT_INPUT], 0);
    assert_int_equal(q.of[PRICE_IMAGE_OUTPUT], 0);
}

static void check_item(const struct image_spec *spec, const char *size, const char *quality, const char *want_size,
                       const char *want_quality)
{
    struct price_item item;

    quote_item(spec, slice_from(size), slice_from(quality), &item);
    assert_true(slice_eq_str(item.model, spec->model));
    assert_true(slice_eq_str(item.size, want_size));
    assert_true(slice_eq_str(item.quality, want_quality));
    assert_int_equal(item.operation, spec->operation);
}

/* Of usages with so many tokens out, summed and largest, the one that the call is charged by. */
static void check_chosen(const struct image_spec *spec, int images, int partials, int64_t sum, int64_t largest,
                         int64_t expected)
{
    struct price_quantities a = {.of = {[PRICE_TEXT_INPUT] = 70, [PRICE_IMAGE_OUTPUT] = sum}};
    struct price_quantities b = {.of = {[PRICE_TEXT_INPUT] = 10, [PRICE_IMAGE_OUTPUT] = largest}};
    struct price_quantities got;

    quote_choose_usage(spec, SLICE_NONE, SLICE_NONE, images, partials, &a, &b, &got);
    assert_int_equal(got.of[PRICE_IMAGE_OUTPUT], expected);
    assert_memory_equal(&got, expected == sum ? &a : &b, sizeof(got));
}

static void test_choose_usage(void **state)
{
    struct image_spec spec = spec_of("gpt-image-1", "1024x1024", "medium", 3); /* 1056 tokens each */

    (void)state;
    spec.partial_images = 2;
    check_chosen(&spec, 3, 0, 3 * 1056, 1056, 3 * 1056);     /* each told its own */
    check_chosen(&spec, 3, 0, 9 * 1056, 3 * 1056, 3 * 1056); /* each told the call's */
    check_chosen(&spec, 3, 6, 9 * 1256, 3 * 1256, 3 * 1256);
    check_chosen(&spec, 3, 6, 3 * 1256, 1256, 3 * 1256);
    check_chosen(&spec, 2, 0, 2 * 1056 + 7, 2 * 1056 - 7, 2 * 1056 - 7); /* a tie */
    check_chosen(&spec, 2, 0, 2 * 1056 + 6, 2 * 1056 - 7, 2 * 1056 + 6);
    check_chosen(&spec, 2, 4, 2 * 1056 + 405, 2 * 1056, 2 * 1056 + 405); /* partials count */
    check_chosen(&spec, 2, 0, 2 * 1056 + 405, 2 * 1056, 2 * 1056);
    check_chosen(&spec, 2, 0, INT64_MAX, 0, 0);
    spec = spec_of("dall-e-2", "1024x1024", "", 2);
    check_chosen(&spec, 2, 0, 2000, 1000, 1000);
    spec = spec_of("a-model-of-its-own", "", "", 2);
    check_chosen(&spec, 2, 0, 2000, 1000, 1000);
}

/* The effective size and quality count, not the asked ones. */
static void test_choose_usage_by_what_was_made(void **state)
{
    struct image_spec spec = spec_of("gpt-image-1", "auto", "auto", 2);
    struct price_quantities sum = {.of = {[PRICE_IMAGE_OUTPUT] = 2 * 4160}};
    struct price_quantities largest = {.of = {[PRICE_IMAGE_OUTPUT] = 4160}};
    struct price_quantities got;

    (void)state;
    quote_choose_usage(&spec, SLICE("1024x1024"), SLICE("high"), 2, 0, &sum, &largest, &got);
    assert_int_equal(got.of[PRICE_IMAGE_OUTPUT], 2 * 4160);
    quote_choose_usage(&spec, SLICE("1024x1024"), SLICE("medium"), 2, 0, &sum, &largest, &got);
    assert_int_equal(got.of[PRICE_IMAGE_OUTPUT], 4160);
}

static void test_item(void **state)
{
    struct image_spec spec = spec_of("gpt-image-1", "auto", "", 1);

    (void)state;
    check_item(&spec, "1536x1024", "medium", "1536x1024", "medium");
    check_item(&spec, "", "", "1024x1536", "high");
    check_item(&spec, "auto", "hd", "1024x1536", "high");
    check_item(&spec, "1024x1024", "", "1024x1024", "high");
    spec = spec_of("dall-e-3", "", "", 1);
    check_item(&spec, "", "", "1024x1024", "standard");
    spec = spec_of("dall-e-3", "1792x1024", "hd", 1);
    check_item(&spec, "", "", "1792x1024", "hd");
    spec = spec_of("flux", "2x2", "auto", 1); /* no card */
    check_item(&spec, "", "", "2x2", "");
    check_item(&spec, "3x3", "fine", "3x3", "fine");
}

/* ---- at random ----------------------------------------------------------------------------------------------------
 */

static uint64_t seed = 20260101;

static int64_t random_below(int64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((seed >> 33) % (uint64_t)n);
}

static const struct model_card *random_card(void)
{
    const struct model_card *card = NULL;
    size_t pos = 0;

    for (int64_t i = random_below(11); i >= 0; i--)
        card = model_next(&pos);
    return card;
}

static const char *random_size(const struct model_card *card)
{
    static const char *const free_sizes[] = {"1536x864", "2880x2880", "3840x2160", "816x816"};

    if (card->free_size && random_below(2) == 0)
        return free_sizes[random_below(4)];
    return card->sizes[random_below(card->n_sizes)];
}

static struct image_spec random_spec(void)
{
    const struct model_card *card = random_card();
    const char *size = random_below(2) == 0                       ? random_size(card)
                       : random_below(2) == 0 && card->takes_auto ? "auto"
                                                                  : "";
    const char *quality = random_below(2) == 0 ? card->qualities[random_below(card->n_qualities)] : "";
    struct image_spec spec = spec_of(card->name, size, quality, 1 + (int)random_below(card->max_n));

    spec.operation = (enum image_operation)(1 + random_below(3));
    spec.partial_images = (int)random_below(card->max_partials + 1);
    spec.prompt_bytes = random_below(1000);
    spec.high_fidelity = random_below(2) == 0;
    if (spec.operation != OPERATION_GENERATIONS)
        spec.n_inputs = (int)random_below(QUOTE_INPUT_IMAGES + 1);
    for (int i = 0; i < spec.n_inputs; i++) {
        spec.inputs[i].w = (int)random_below(4000);
        spec.inputs[i].h = (int)random_below(4000);
    }
    return spec;
}

/* What the upstream could report for the call, at a size and quality that it may choose. */
static void random_usage(const struct image_spec *spec, struct slice size, struct slice quality,
                         struct price_quantities *q)
{
    const struct model_card *card = spec->card;
    int images = 1 + (int)random_below(spec->n);

    *q = (struct price_quantities){.of = {[PRICE_IMAGE] = images, [PRICE_REQUEST] = 1}};
    if (!card->per_token)
        return;
    q->of[PRICE_TEXT_INPUT] = spec->n * (random_below(spec->prompt_bytes + 1) + card->text_overhead);
    q->of[PRICE_CACHED_TEXT_INPUT] = random_below(q->of[PRICE_TEXT_INPUT] + 1);
    q->of[PRICE_TEXT_INPUT] -= q->of[PRICE_CACHED_TEXT_INPUT];
    for (int i = 0; i < spec->n_inputs; i++) {
        q->of[PRICE_IMAGE_INPUT] +=
            spec->n * model_input_tokens(card, spec->inputs[i].w, spec->inputs[i].h, spec->high_fidelity);
    }
    q->of[PRICE_IMAGE_OUTPUT] = images * model_hold_tokens(card, size, quality) +
                                random_below(spec->n * spec->partial_images + 1) * card->partial_tokens;
    q->of[PRICE_TEXT_OUTPUT] = random_below(images * card->text_output + 1);
}

static struct price_version *random_version(const struct model_card *card)
{
    struct price_rate rates[12] = {0};
    size_t n = 0;

    for (int i = 0; i < 12; i++) {
        struct price_rate *r = &rates[n];

        memcpy(r->model, card->name, sizeof(r->model));
        r->unit = i == 0 ? PRICE_IMAGE : (enum price_unit)random_below(PRICE_UNITS);
        if (!card->per_token && r->unit > PRICE_REQUEST)
            continue;
        r->pico = random_below(1000000000);
        if (i > 0 && random_below(3) == 0)
            memcpy(r->size, card->sizes[random_below(card->n_sizes)], sizeof(r->size));
        if (i > 0 && random_below(3) == 0)
            memcpy(r->quality, card->qualities[random_below(card->n_qualities)], sizeof(r->quality));
        n++;
    }
    return price_version_create(rates, n);
}

/* The call's usage, and the estimate of it, at every size and quality that it may come to. */
static void try_outcomes(const struct price_version *v, int64_t markup, const struct image_spec *spec)
{
    const struct model_card *card = spec->card;
    bool open_size = spec->size[0] == '\0' ? strcmp(card->default_size, "auto") == 0 : strcmp(spec->size, "auto") == 0;
    bool open_quality = spec->quality[0] == '\0' && strcmp(card->default_quality, "auto") == 0;
    struct quote held;

    assert_int_equal(quote_ceiling(v, markup, spec, &held, NULL), ERR_OK);
    for (int i = 0; i < 8; i++) {
        struct slice size = open_size ? slice_from(random_size(card)) : SLICE_NONE;
        struct slice quality = open_quality ? slice_from(card->qualities[random_below(card->n_qualities)]) : SLICE_NONE;
        struct price_quantities used;
        struct price_item item;
        int64_t nano = 0;

        quote_item(spec, size, quality, &item);
        random_usage(spec, item.size, item.quality, &used);
        assert_int_equal(price_charge(v, markup, &item, &used, &nano, NULL, NULL), ERR_OK);
        assert_true(nano <= held.nano);
        quote_estimate(spec, size, quality, (int)random_below(spec->n + 1),
                       (int)random_below(spec->n * spec->partial_images + 1), &used);
        assert_int_equal(price_charge(v, markup, &item, &used, &nano, NULL, NULL), ERR_OK);
        assert_true(nano <= held.nano);
        if (v == list) {
            for (int unit = 0; unit < PRICE_UNITS; unit++)
                assert_true(used.of[unit] <= held.quantities.of[unit]);
        }
    }
}

static void test_nothing_exceeds_its_ceiling(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct image_spec spec = random_spec();
        struct price_version *v = random_version(spec.card);
        int64_t markup = random_below(3000001) - 1000000;

        try_outcomes(list, markup, &spec);
        try_outcomes(v, markup, &spec);
        price_version_unref(v);
    }
}

static int setup(void **state)
{
    (void)state;
    model_init();
    list = price_defaults();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    price_version_unref(list);
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ceiling_per_image),
        cmocka_unit_test(test_ceiling_per_token),
        cmocka_unit_test(test_ceiling_refusals),
        cmocka_unit_test(test_ceiling_extremes),
        cmocka_unit_test(test_ceiling_follows_the_rates),
        cmocka_unit_test(test_ceiling_covers_cached_input),
        cmocka_unit_test(test_estimate),
        cmocka_unit_test(test_choose_usage),
        cmocka_unit_test(test_choose_usage_by_what_was_made),
        cmocka_unit_test(test_item),
        cmocka_unit_test(test_nothing_exceeds_its_ceiling),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
