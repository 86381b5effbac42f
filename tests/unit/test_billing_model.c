/* test_billing_model.c - the cards, the sizes, and that the dearest size is the dearest: every legal size is tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/billing/model.h"
#include "daemon/billing/tariff.h"

static const struct model_card *card_of(const char *name)
{
    const struct model_card *card = model_find(slice_from(name));

    assert_non_null(card);
    return card;
}

static void test_find(void **state)
{
    (void)state;
    assert_string_equal(card_of("gpt-image-1.5")->name, "gpt-image-1.5");
    assert_string_equal(card_of("gpt-image-1.5-2025-12-16")->name, "gpt-image-1.5");
    assert_string_equal(card_of("gpt-image-1-mini")->name, "gpt-image-1-mini");
    assert_string_equal(card_of("gpt-image-2.5-flare-2026-09-08")->name, "gpt-image-2.5-flare");
    assert_string_equal(card_of("dall-e-3")->name, "dall-e-3");
    assert_null(model_find(SLICE_NONE));
    assert_null(model_find(SLICE("")));
    assert_null(model_find(SLICE("gpt-image-")));
    assert_null(model_find(SLICE("gpt-image-1-maxi")));
    assert_null(model_find(SLICE("GPT-image-1")));
    assert_null(model_find(SLICE("gpt-image-2-2026-4-21")));
    assert_null(model_find(SLICE("gpt-image-2-2026-04-21-x")));
    assert_null(model_find(SLICE("gpt-image-2-2026-04-2a")));
    assert_null(model_find(SLICE("-2026-04-21")));
}

/* Each card is sold, and each thing sold has a card. */
static void test_defaults_are_whole(void **state)
{
    struct price_version *v = price_defaults();
    const struct model_card *card;
    size_t pos = 0;
    int n = 0;

    (void)state;
    while ((card = model_next(&pos)) != NULL) {
        n++;
        assert_true(price_has_model(v, slice_from(card->name)));
        assert_int_equal(card->per_token, card->takes_auto);
        assert_true(card->per_token || card->max_partials == 0);
    }
    assert_int_equal(n, 11);
    assert_int_equal(v->row, 0);
    for (size_t i = 0; i < v->n; i++)
        assert_non_null(model_find(slice_from(v->rates[i].model)));
    price_version_unref(v);
}

static void test_parse_size(void **state)
{
    static const char *const bad[] = {"",          "x",          "1024",       "1024x",       "x1024",
                                      "1024X1024", "01024x1024", " 1024x1024", "1024x1024 ",  "1024x01024",
                                      "0x0",       "1x0",        "100000x1",   "1024x1024x1", "-1x1",
                                      "+1x1",      "1024*1024",  "1 x1",       "auto",        "1024x1024\n"};
    int w = 0;
    int h = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(model_parse_size(slice_from(bad[i]), &w, &h));
    assert_false(model_parse_size(SLICE("1024x1024\0"), &w, &h));
    assert_false(model_parse_size(SLICE_NONE, &w, &h));
    assert_true(model_parse_size(SLICE("99999x1"), &w, &h));
    assert_int_equal(w, 99999);
    assert_int_equal(h, 1);
    assert_true(model_parse_size(SLICE("1792x1024"), &w, &h));
    assert_int_equal(w, 1792);
    assert_int_equal(h, 1024);
}

static void test_has_size(void **state)
{
    static const struct {
        const char *size;
        bool legal;
    } cases[] = {
        {"1024x1024", true}, {"3840x2160", true},  {"2160x3840", true},  {"2880x2880", true},  {"816x816", true},
        {"800x800", false},  {"1000x1000", false}, {"3840x2176", false}, {"4096x1024", false}, {"3840x1264", false},
        {"3840x1280", true}, {"1536x864", true},   {"2896x2880", false}, {"512x512", false},   {"1x1", false},
        {"auto", false},     {"", false},
    };
    const struct model_card *card = card_of("gpt-image-2");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice size = slice_from(cases[i].size);

        assert_int_equal(model_has_size(card, size), cases[i].legal);
        assert_int_equal(model_output_tokens(card, size, SLICE("high"), 1) >= 0, cases[i].legal);
    }
    assert_false(model_has_size(card_of("gpt-image-1"), SLICE("1536x864")));
    assert_true(model_has_size(card_of("dall-e-2"), SLICE("256x256")));
    assert_false(model_has_size(card_of("dall-e-2"), SLICE("auto")));
    assert_true(model_has_quality(card_of("gpt-image-2.6-flare"), SLICE("xhigh")));
    assert_false(model_has_quality(card, SLICE("xhigh")));
    assert_false(model_has_quality(card, SLICE("auto")));
    assert_int_equal(model_output_tokens(card_of("dall-e-2"), SLICE("256x256"), SLICE("standard"), 1), -1);
}

/* For one card: no legal size has more tokens than the dearest, for the charge and for the hold, at any quality. */
static long try_every_size(const struct model_card *card)
{
    struct slice dearest = slice_from(card->dearest_size);
    long tried = 0;

    for (int w = MODEL_EDGE_STEP; w <= MODEL_EDGE_MAX; w += MODEL_EDGE_STEP) {
        for (int h = MODEL_EDGE_STEP; h <= MODEL_EDGE_MAX; h += MODEL_EDGE_STEP) {
            char text[LIMIT_SIZE];
            struct slice size = {text, (size_t)snprintf(text, sizeof(text), "%dx%d", w, h)};

            if (!model_has_size(card, size))
                continue;
            tried++;
            for (int q = 0; q < card->n_qualities; q++) {
                struct slice quality = slice_from(card->qualities[q]);
                int64_t tokens = model_output_tokens(card, size, quality, 1);
                int64_t hold = model_hold_tokens(card, size, quality);

                assert_true(tokens > 0 && hold >= tokens);
                assert_true(tokens <= model_output_tokens(card, dearest, quality, 1));
                assert_true(hold <= model_hold_tokens(card, dearest, quality));
            }
        }
    }
    return tried;
}

/* The same count by the definition alone. */
static long count_legal_sizes(void)
{
    long n = 0;

    for (long w = 16; w <= 3840; w += 16) {
        for (long h = 16; h <= 3840; h += 16)
            n += w <= 3 * h && h <= 3 * w && w * h >= 655360 && w * h <= 8294400;
    }
    return n;
}

static void test_dearest_size_is_dearest(void **state)
{
    const struct model_card *card;
    size_t pos = 0;
    int cards = 0;

    (void)state;
    while ((card = model_next(&pos)) != NULL) {
        if (!card->free_size)
            continue;
        assert_int_equal(try_every_size(card), count_legal_sizes());
        cards++;
    }
    assert_int_equal(cards, 5);
}

static void test_formula(void **state)
{
    static const struct {
        const char *model, *size, *quality;
        int64_t images, tokens;
    } cases[] = {
        {"gpt-image-2", "1024x1024", "low", 1, 196},
        {"gpt-image-2", "1024x1024", "low", 2, 391},
        {"gpt-image-2", "1024x1024", "high", 1, 7024},
        {"gpt-image-2", "1536x1024", "medium", 1, 1372},
        {"gpt-image-2", "3840x2160", "high", 1, 13342},
        {"gpt-image-2", "2880x2880", "high", 1, 23719},
        {"gpt-image-2.5-flare", "2048x2048", "medium", 1, 892},
        {"gpt-image-2.5-flare", "2048x2048", "xhigh", 1, 6343},
        {"gpt-image-2.6-flare", "1024x1024", "max", 1, 7024},
        {"gpt-image-2", "1024x1024", "low", 0, 0},
        {"gpt-image-1", "1536x1024", "high", 10, 62080},
        {"gpt-image-1-mini", "1024x1024", "medium", 1, 1056},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(model_output_tokens(card_of(cases[i].model), slice_from(cases[i].size),
                                             slice_from(cases[i].quality), cases[i].images),
                         cases[i].tokens);
    }
    assert_int_equal(model_hold_tokens(card_of("gpt-image-1-mini"), SLICE("1024x1536"), SLICE("high")), 6500);
    assert_int_equal(model_hold_tokens(card_of("gpt-image-2.6-flare"), SLICE("1024x1024"), SLICE("high")), 7024);
}

/* An unknown picture counts as no known one exceeds. */
static void test_input_unknown_is_dearest(void **state)
{
    const struct model_card *one = card_of("gpt-image-1");
    const struct model_card *two = card_of("gpt-image-2");

    (void)state;
    for (int w = 1; w < 9000; w += 1 + w / 40) {
        for (int h = 1; h < 9000; h += 1 + h / 40) {
            assert_true(model_input_tokens(one, w, h, false) <= model_input_tokens(one, 0, 0, false));
            assert_true(model_input_tokens(one, w, h, true) <= model_input_tokens(one, w, 0, true));
            assert_true(model_input_tokens(two, w, h, false) <= model_input_tokens(two, 0, h, false));
            assert_true(model_input_tokens(two, w, h, false) >= 1);
        }
    }
    assert_int_equal(model_input_tokens(one, 0, 0, false), 581);
    assert_int_equal(model_input_tokens(one, 0, 0, true), 6821);
    assert_int_equal(model_input_tokens(two, -1, 5, true), 1536);
    assert_true(model_input_tokens(two, INT32_MAX, 1, false) <= 1536);
    assert_true(model_input_tokens(two, INT32_MAX, INT32_MAX, false) <= 1536);
    assert_true(model_input_tokens(one, INT32_MAX, 1, false) <= 581);
    assert_int_equal(model_input_tokens(card_of("dall-e-2"), 1024, 1024, false), 0);
}

/* One fault each, in data that is otherwise whole. */
static void test_tariff_faults(void **state)
{
    static const char card[] = "[model m]\nfamily = gpt-image-1\nper_token = on\ntakes_auto = on\nmax_n = 10\n"
                               "max_prompt = 100\nsizes = 1x1 2x2\nqualities = low high\ndefault_size = auto\n"
                               "default_quality = low\ntokens.low = 1 2\n";
    static const struct {
        const char *text;
        int faults;
    } cases[] = {
        {"tokens.high = 3 4\n[rates m n]\nimage = 1\nimage.edits.high.1x1 = 2.5 per 10 # why\n", 0},
        {"", 1},                                            /* a quality without tokens */
        {"tokens.high = 3\n", 1},                           /* too few */
        {"tokens.high = 3 4 5\n", 1},                       /* too many */
        {"tokens.high = 3 4\nhold_tokens.high = 3 3\n", 1}, /* a hold below the charge */
        {"tokens.high = 3 x\n", 2},
        {"tokens.hd = 3 4\ntokens.high = 3 4\n", 1},
        {"tokens.high = 3 4\nfactor.high = 3\n", 1},
        {"tokens.high = 3 4\ncolour = red\n", 1},
        {"tokens.high = 3 4\nmax_n = 0\n", 1},
        {"tokens.high = 3 4\nmax_n = -1\n", 1},
        {"tokens.high = 3 4\nsizes = 1x1\n", 1}, /* given twice */
        {"tokens.high = 3 4\ndearest_size = 1x1\n", 1},
        {"tokens.high = 3 4\ndefault_size = 3x3\n", 1},
        {"tokens.high = 3 4\nfamily = gpt\n", 1},
        {"tokens.high = 3 4\nper_token = yes\n", 2},
        {"tokens.high = 3 4\n[rates]\nimage = 1\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = 1\nimage = 2\n", 1},
        {"tokens.high = 3 4\n[rates m]\npicture = 1\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = -1\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = 1 for 2\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = 1 per\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = 1 per 3\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = 1 per 2 3\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage = \n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage.low.high = 1\n", 1},
        {"tokens.high = 3 4\n[rates m]\nimage. = 1\n", 1},
        {"tokens.high = 3 4\n[prices m]\nimage = 1\n", 1},
        {"tokens.high = 3 4\n[model ]\nmax_n = 1\n", 1},
    };
    struct tariff *t = malloc(sizeof(*t));
    char text[2048];

    (void)state;
    assert_non_null(t);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int len = snprintf(text, sizeof(text), "%s%s", card, cases[i].text);
        int faults = tariff_read((struct slice){text, (size_t)len}, t, NULL);

        if (faults != cases[i].faults)
            fail_msg("%d faults, not %d, in:\n%s", faults, cases[i].faults, cases[i].text);
        if (i == 0) {
            assert_int_equal(t->n_cards, 1);
            assert_int_equal(t->n_rates, 4);
            assert_string_equal(t->rates[3].model, "n");
            assert_string_equal(t->rates[3].size, "1x1");
            assert_string_equal(t->rates[3].quality, "high");
            assert_int_equal(t->rates[3].operation, OPERATION_EDITS);
            assert_int_equal(t->rates[3].pico, INT64_C(250000000000));
            assert_int_equal(t->cards[0].hold_tokens[1][1], 4);
        }
    }
    free(t);
}

static int setup(void **state)
{
    (void)state;
    model_init();
    return 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_defaults_are_whole),
        cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_has_size),
        cmocka_unit_test(test_dearest_size_is_dearest),
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_input_unknown_is_dearest),
        cmocka_unit_test(test_tariff_faults),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
