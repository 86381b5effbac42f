/* test_billing_price.c - books, versions, which rate is found, and the charge's bounds. The arithmetic at large is the
 * oracle's (test_rating_oracle.py); here stand the rules that a reader would look up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/base/money.h"
#include "daemon/billing/price.h"

#define USD INT64_C(1000000000000) /* pico-dollars */

static struct price_item item_of(const char *model, enum image_operation op, const char *size, const char *quality)
{
    return (struct price_item){slice_from(model), op, slice_from(size), slice_from(quality)};
}

static void test_most_specific_wins(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "m", .unit = PRICE_IMAGE, .pico = 1},
        {.model = "m", .unit = PRICE_IMAGE, .operation = OPERATION_EDITS, .pico = 2},
        {.model = "m", .unit = PRICE_IMAGE, .size = "1024x1024", .pico = 3},
        {.model = "m", .unit = PRICE_IMAGE, .quality = "high", .pico = 4},
        {.model = "m", .unit = PRICE_IMAGE, .size = "1024x1024", .operation = OPERATION_EDITS, .pico = 5},
        {.model = "other", .unit = PRICE_IMAGE, .size = "1024x1024", .quality = "high", .pico = 99},
    };
    static const struct {
        enum image_operation op;
        const char *size, *quality;
        int64_t pico;
    } cases[] = {
        {OPERATION_GENERATIONS, "512x512", "low", 1},
        {OPERATION_EDITS, "512x512", "low", 2},
        {OPERATION_GENERATIONS, "1024x1024", "low", 3},
        {OPERATION_GENERATIONS, "1024x1024", "high", 4}, /* quality over size */
        {OPERATION_EDITS, "512x512", "high", 4},         /* quality over operation */
        {OPERATION_EDITS, "1024x1024", "high", 5},       /* two names over one */
        {OPERATION_ANY, "1024X1024", "High", 1},         /* texts compare as bytes */
        {OPERATION_ANY, "", "", 1},
    };
    struct price_version *v = price_version_create(rates, sizeof(rates) / sizeof(rates[0]));

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct price_item item = item_of("m", cases[i].op, cases[i].size, cases[i].quality);
        int64_t pico = -1;

        assert_true(price_find(v, &item, PRICE_IMAGE, &pico));
        assert_int_equal(pico, cases[i].pico);
        assert_false(price_find(v, &item, PRICE_REQUEST, &pico));
    }
    price_version_unref(v);
}

static void test_models_do_not_mix(void **state)
{
    struct price_rate rates[200] = {0};
    struct price_version *v;
    size_t n = 0;

    (void)state;
    for (int i = 0; i < 100; i++) { /* names that are each other's beginnings: a, aa, aaa, ... */
        size_t len = (size_t)(i % 50) + 1;

        memset(rates[n].model, i < 50 ? 'a' : 'b', len);
        rates[n].unit = PRICE_IMAGE;
        rates[n].pico = (int64_t)len + (i < 50 ? 0 : 1000);
        rates[n + 1] = rates[n];
        rates[n + 1].unit = PRICE_REQUEST;
        n += 2;
    }
    v = price_version_create(rates, n);
    for (size_t i = 0; i < n; i++) {
        struct price_item item = item_of(rates[i].model, OPERATION_ANY, "", "");
        int64_t pico = 0;
        size_t found;

        assert_true(price_find(v, &item, rates[i].unit, &pico));
        assert_int_equal(pico, rates[i].pico);
        assert_non_null(price_model_rates(v, item.model, &found));
        assert_int_equal(found, 2);
    }
    assert_false(price_has_model(v, SLICE("")));
    assert_false(price_has_model(v, SLICE_NONE));
    assert_false(price_has_model(v, SLICE("c")));
    assert_false(price_has_model(v, SLICE("a\0")));
    assert_true(price_has_model(v, SLICE("aa")));
    price_version_unref(v);
}

static void test_empty_version(void **state)
{
    struct price_version *v = price_version_create(NULL, 0);
    struct price_item item = item_of("m", OPERATION_ANY, "", "");
    struct price_quantities q = {.of = {[PRICE_IMAGE] = 1}};
    struct err err;
    int64_t nano = -5;

    (void)state;
    assert_false(price_has_model(v, SLICE("m")));
    assert_int_equal(price_charge(v, 0, &item, &q, &nano, NULL, &err), ERR_MODEL_NOT_FOUND);
    assert_int_equal(nano, -5);
    assert_string_equal(err.param, "model");
    price_version_unref(v);
}

static void test_kinship(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "text", .unit = PRICE_TEXT_INPUT, .pico = 5},
        {.model = "image", .unit = PRICE_TEXT_INPUT, .pico = 5},
        {.model = "image", .unit = PRICE_IMAGE_INPUT, .pico = 8},
        {.model = "image", .unit = PRICE_IMAGE_OUTPUT, .pico = 30},
    };
    static const int64_t text[PRICE_UNITS] = {-1, -1, 5, 5, 5, 5, -1, -1};
    static const int64_t image[PRICE_UNITS] = {-1, -1, 5, 5, 8, 8, 30, 30};
    struct price_version *v = price_version_create(rates, sizeof(rates) / sizeof(rates[0]));

    (void)state;
    for (int unit = 0; unit < PRICE_UNITS; unit++) {
        struct price_item a = item_of("text", OPERATION_ANY, "", "");
        struct price_item b = item_of("image", OPERATION_ANY, "", "");
        int64_t pico = -1;

        assert_int_equal(price_find(v, &a, (enum price_unit)unit, &pico), text[unit] >= 0);
        assert_int_equal(pico, text[unit]);
        pico = -1;
        assert_int_equal(price_find(v, &b, (enum price_unit)unit, &pico), image[unit] >= 0);
        assert_int_equal(pico, image[unit]);
    }
    price_version_unref(v);
}

static void test_charge_rounds_once_and_up(void **state)
{
    static const struct price_rate rates[] = {
        {.model = "m", .unit = PRICE_TEXT_INPUT, .pico = 1},
        {.model = "m", .unit = PRICE_IMAGE_OUTPUT, .pico = 1},
    };
    static const struct {
        int64_t text, output, markup, nano;
    } cases[] = {
        {0, 0, 0, 0},
        {1, 0, 0, 1},
        {500, 500, 0, 1},
        {500, 501, 0, 2},
        {999, 0, 1000, 1},
        {1000, 0, 1, 2},
        {1000, 0, -1, 1},
        {1000, 0, -1000000, 0},
        {1000, 0, 500000, 2},
        {2000, 0, 500000, 3},
        {1000, 0, 1000000000, 1001},
    };
    struct price_version *v = price_version_create(rates, 2);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct price_item item = item_of("m", OPERATION_ANY, "", "");
        struct price_quantities q = {
            .of = {[PRICE_TEXT_INPUT] = cases[i].text, [PRICE_IMAGE_OUTPUT] = cases[i].output}};
        int64_t nano = -1;
        int64_t lines[PRICE_UNITS];

        assert_int_equal(price_charge(v, cases[i].markup, &item, &q, &nano, lines, NULL), ERR_OK);
        assert_int_equal(nano, cases[i].nano);
        assert_int_equal(lines[PRICE_TEXT_INPUT], cases[i].text / 1000);
        assert_int_equal(lines[PRICE_IMAGE], 0);
    }
    price_version_unref(v);
}

static void test_charge_bounds(void **state)
{
    static const struct price_rate rate = {.model = "m", .unit = PRICE_IMAGE, .pico = 1000};
    struct price_version *v = price_version_create(&rate, 1);
    struct price_item item = item_of("m", OPERATION_ANY, "", "");
    struct price_quantities q = {.of = {[PRICE_IMAGE] = INT64_MAX}};
    struct err err;
    int64_t nano = 7;

    (void)state;
    assert_int_equal(price_charge(v, 0, &item, &q, &nano, NULL, &err), ERR_OK);
    assert_int_equal(nano, INT64_MAX);
    nano = 7;
    assert_int_equal(price_charge(v, 1, &item, &q, &nano, NULL, &err), ERR_INVALID_VALUE);
    assert_int_equal(price_charge(v, PRICE_MARKUP_MIN - 1, &item, &q, &nano, NULL, &err), ERR_INVALID_VALUE);
    assert_int_equal(price_charge(v, PRICE_MARKUP_MAX + 1, &item, &q, &nano, NULL, &err), ERR_INVALID_VALUE);
    q.of[PRICE_TEXT_OUTPUT] = -1;
    assert_int_equal(price_charge(v, 0, &item, &q, &nano, NULL, &err), ERR_INVALID_VALUE);
    assert_string_equal(err.param, "text_output_token");
    assert_int_equal(nano, 7);
    /* A unit without a rate is free, and nothing at all costs nothing, as long as the item has a price. */
    q = (struct price_quantities){.of = {[PRICE_IMAGE_OUTPUT] = 1000}};
    assert_int_equal(price_charge(v, 0, &item, &q, &nano, NULL, &err), ERR_OK);
    assert_int_equal(nano, 0);
    price_version_unref(v);
}

static void test_book_by_time(void **state)
{
    static const int64_t from[] = {300, 100, 200, 200};
    struct price_version *versions[4];
    struct price_book *book;

    (void)state;
    for (int i = 0; i < 4; i++) {
        versions[i] = price_version_create(NULL, 0);
        versions[i]->effective_from = from[i];
        versions[i]->row = i + 1;
    }
    book = price_book_create(versions, 4);
    assert_null(price_book_at(book, 99));
    assert_int_equal(price_book_at(book, 100)->row, 2);
    assert_int_equal(price_book_at(book, 199)->row, 2);
    assert_int_equal(price_book_at(book, 200)->row, 4); /* of two, the later made */
    assert_int_equal(price_book_at(book, 299)->row, 4);
    assert_int_equal(price_book_at(book, INT64_MAX)->row, 1);
    versions[0] = price_version_ref(price_book_at(book, 300));
    assert_ptr_equal(price_book_ref(book), book);
    price_book_unref(book);
    price_book_unref(book);
    assert_int_equal(versions[0]->row, 1); /* outlives its book */
    price_version_unref(versions[0]);
    price_book_unref(NULL);
    price_version_unref(NULL);
}

static void test_names(void **state)
{
    enum price_unit unit;
    enum image_operation op;

    (void)state;
    for (int i = 0; i < PRICE_UNITS; i++) {
        assert_true(price_unit_parse(slice_from(price_unit_name((enum price_unit)i)), &unit));
        assert_int_equal(unit, i);
    }
    assert_string_equal(price_unit_name(PRICE_CACHED_IMAGE_INPUT), "cached_image_input_token");
    assert_false(price_unit_parse(SLICE("images"), &unit));
    assert_false(price_unit_parse(SLICE(""), &unit));
    assert_true(price_operation_parse(SLICE("variations"), &op));
    assert_int_equal(op, OPERATION_VARIATIONS);
    assert_false(price_operation_parse(SLICE(""), &op));
    assert_false(price_operation_parse(SLICE("generation"), &op));
    assert_string_equal(price_operation_name(OPERATION_ANY), "");
    assert_string_equal(price_kind_name(PRICE_RETAIL), "retail");
}

static void test_parse_amount(void **state)
{
    static const struct {
        const char *amount;
        int64_t per;
        int64_t pico; /* -1: refused */
    } cases[] = {
        {"1.25", 1000000, 1250000},
        {"0.016", 1, USD * 16 / 1000},
        {"0", 1000000, 0},
        {"0.000000000001", 1, 1},
        {"40", 1000, USD / 25},
        {"0.0000000000001", 1, -1},
        {"-1", 1, -1},
        {"1", 3, -1},
        {"1", 0, -1},
        {"1", -1, -1},
        {"1e3", 1, -1},
        {"", 1, -1},
        {"99999999999", 1, -1},
        {"0.25", 1000000, 250000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t pico = -1;
        enum err_code code = price_parse_amount(slice_from(cases[i].amount), cases[i].per, &pico, NULL);

        assert_int_equal(code, cases[i].pico < 0 ? ERR_INVALID_VALUE : ERR_OK);
        assert_int_equal(pico, cases[i].pico);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_most_specific_wins),
        cmocka_unit_test(test_models_do_not_mix),
        cmocka_unit_test(test_empty_version),
        cmocka_unit_test(test_kinship),
        cmocka_unit_test(test_charge_rounds_once_and_up),
        cmocka_unit_test(test_charge_bounds),
        cmocka_unit_test(test_book_by_time),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_parse_amount),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
