/* test_gate_admit.c - who pays what from which book, at the hold and at the charge. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "daemon/gate/admit.h"
#include "gate_fixture.h"

#define DOLLAR INT64_C(1000000000)

static struct secrets *secrets;

static int start(void **state)
{
    (void)state;
    secrets = fixture_secrets();
    model_init();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    secret_close(secrets);
    return 0;
}

/* openai-list is book 1; books 2 (wholesale), 3 (retail), 4 (cost) sell "m" alone, at 0.03, 0.05 and 0.01 a picture. */
struct scene {
    struct catalog *c;
    struct caller caller;
    struct channel *channel; /* row 1; serves everything that is asked for */
    struct image_spec spec;
    struct terms terms;
    struct store_hold hold;
    struct err err;
};

static struct channel *wide_channel(int64_t row, int64_t priority)
{
    static const char *const models[] = {"m", "dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-2", "unpriced"};
    enum { N = sizeof(models) / sizeof(models[0]) };
    struct channel *ch = fixture_record(RECORD_CHANNEL, row, N * sizeof(struct channel_model));

    ch->priority = priority;
    ch->n_models = N;
    for (int i = 0; i < N; i++) {
        (void)snprintf(ch->models[i].name, LIMIT_MODEL, "%s", models[i]);
        (void)snprintf(ch->models[i].upstream, LIMIT_MODEL, "up-%s", models[i]);
    }
    return ch;
}

static void set_spec(struct scene *s, const char *model, const char *size, const char *quality, int n)
{
    s->spec = (struct image_spec){.operation = OPERATION_GENERATIONS, .n = n, .prompt_bytes = 14};
    (void)snprintf(s->spec.model, LIMIT_MODEL, "%s", model);
    (void)snprintf(s->spec.size, LIMIT_SIZE, "%s", size);
    (void)snprintf(s->spec.quality, LIMIT_QUALITY, "%s", quality);
    s->spec.card = model_find(slice_from(model));
}

/* The caller's records are the test's to change; the channel too, until scene_ready. */
static void scene_init(struct scene *s, bool customer, bool test)
{
    struct api_key *key = fixture_key(13, 11, secrets, test, NULL);

    *s = (struct scene){.c = catalog_create(), .channel = wide_channel(1, 0)};
    s->caller.tenant = fixture_tenant(11);
    if (customer) {
        s->caller.customer = fixture_customer(12, 11);
        key->customer_row = 12;
    }
    s->caller.key = credential_ref(fixture_credential(key));
    record_unref(key);
    catalog_apply(s->c, (struct record *)fixture_book(1, "openai-list", price_defaults()));
    catalog_apply(s->c, (struct record *)fixture_book(2, "whole", fixture_image_price("m", DOLLAR / 100 * 3)));
    catalog_apply(s->c, (struct record *)fixture_book(3, "retail", fixture_image_price("m", DOLLAR / 100 * 5)));
    catalog_apply(s->c, (struct record *)fixture_book(4, "cost", fixture_image_price("m", DOLLAR / 100)));
    set_spec(s, "dall-e-2", "256x256", "", 2);
}

static void scene_ready(struct scene *s)
{
    catalog_apply(s->c, (struct record *)s->channel);
}

static enum err_code admit(struct scene *s)
{
    terms_dispose(&s->terms);
    s->err = (struct err){0};
    return admit_call(s->c, &s->caller, &s->spec, false, IN_DOUBT_RELEASE, NOW, &s->terms, &s->hold, &s->err);
}

static void scene_dispose(struct scene *s)
{
    terms_dispose(&s->terms);
    caller_dispose(&s->caller);
    catalog_destroy(s->c);
}

static struct store_capture rate(struct scene *s, const struct price_quantities *q)
{
    struct store_capture capture = {0};
    struct price_item item;

    quote_item(&s->spec, SLICE_NONE, SLICE_NONE, &item);
    capture.charges[0] = capture.charges[1] = -1;
    assert_int_equal(admit_rate(&s->terms, &s->hold, &s->spec, &item, q, &capture, &s->err), ERR_OK);
    return capture;
}

static void test_tenant_key(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2, [PRICE_REQUEST] = 1}};
    struct store_capture capture;
    struct scene s;

    (void)state;
    scene_init(&s, false, false);
    scene_ready(&s);
    s.hold.id = id_make();
    assert_int_equal(admit(&s), ERR_OK);
    assert_false(id_is_zero(s.hold.id));
    assert_int_equal(s.hold.n_legs, 1);
    assert_false(s.hold.legs[0].customer);
    assert_int_equal(s.hold.legs[0].amount, 32 * DOLLAR / 1000);
    assert_int_equal(s.hold.cost_max, 32 * DOLLAR / 1000);
    assert_int_equal(s.hold.wholesale_max, 32 * DOLLAR / 1000);
    assert_int_equal(s.hold.retail_max, 32 * DOLLAR / 1000);
    assert_int_equal(s.hold.version_cost, 10);
    assert_int_equal(s.hold.version_wholesale, 10);
    assert_int_equal(s.hold.version_retail, 0);
    assert_int_equal(s.hold.created_at, NOW);
    assert_int_equal(s.hold.call.tenant_row, 11);
    assert_int_equal(s.hold.call.customer_row, 0);
    assert_int_equal(s.hold.call.key_row, 13);
    assert_int_equal(s.hold.call.channel_row, 1);
    assert_int_equal(s.hold.call.n, 2);
    assert_string_equal(s.hold.call.model, "dall-e-2");
    assert_string_equal(s.hold.call.size, "256x256");
    assert_string_equal(s.terms.upstream_model, "up-dall-e-2");
    assert_ptr_equal(s.terms.channel, s.channel);
    capture = rate(&s, &two);
    assert_int_equal(capture.charges[0], 32 * DOLLAR / 1000);
    assert_int_equal(capture.charges[1], 0);
    assert_int_equal(capture.usage.wholesale, 32 * DOLLAR / 1000);
    assert_int_equal(capture.usage.retail, 32 * DOLLAR / 1000);
    assert_int_equal(capture.usage.cost, 32 * DOLLAR / 1000);
    scene_dispose(&s);
}

static void test_published_charges(void **state)
{
    const struct price_quantities one = {.of = {[PRICE_IMAGE] = 1, [PRICE_REQUEST] = 1}};
    const struct price_quantities tokens = {
        .of = {[PRICE_IMAGE] = 1, [PRICE_REQUEST] = 1, [PRICE_TEXT_INPUT] = 20, [PRICE_IMAGE_OUTPUT] = 1056}};
    struct scene s;

    (void)state;
    scene_init(&s, false, false);
    scene_ready(&s);
    set_spec(&s, "dall-e-3", "1792x1024", "hd", 1);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(rate(&s, &one).charges[0], 120 * DOLLAR / 1000);
    set_spec(&s, "gpt-image-1", "1024x1024", "medium", 1);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(rate(&s, &tokens).charges[0], 42340000);
    assert_true(s.hold.legs[0].amount >= 42340000);
    scene_dispose(&s);
}

static void test_markup(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2}};
    struct scene s;

    (void)state;
    scene_init(&s, false, false);
    s.caller.tenant->markup_ppm = 250000; /* 25 % */
    scene_ready(&s);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.legs[0].amount, 40 * DOLLAR / 1000);
    assert_int_equal(s.hold.cost_max, 32 * DOLLAR / 1000);
    assert_int_equal(rate(&s, &two).charges[0], 40 * DOLLAR / 1000);
    scene_dispose(&s);
}

static void test_shared_wallet(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2}};
    struct store_capture capture;
    struct scene s;

    (void)state;
    scene_init(&s, true, false);
    s.caller.tenant->markup_ppm = 250000;
    s.caller.customer->markup_ppm = 100000; /* on what the tenant pays */
    scene_ready(&s);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.n_legs, 1);
    assert_false(s.hold.legs[0].customer);
    assert_int_equal(s.hold.legs[0].amount, 40 * DOLLAR / 1000);
    assert_int_equal(s.hold.retail_max, 44 * DOLLAR / 1000);
    assert_int_equal(s.hold.call.customer_row, 12);
    capture = rate(&s, &two);
    assert_int_equal(capture.charges[0], 40 * DOLLAR / 1000);
    assert_int_equal(capture.usage.retail, 44 * DOLLAR / 1000);
    scene_dispose(&s);
}

static void test_own_wallet(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2}};
    struct store_capture capture;
    struct scene s;

    (void)state;
    scene_init(&s, true, false);
    s.caller.customer->own_wallet = true;
    s.caller.customer->book_row = 3;
    s.caller.customer->markup_ppm = 200000;
    s.caller.tenant->book_row = 2;
    s.channel->cost_book_row = 4;
    scene_ready(&s);
    set_spec(&s, "m", "", "", 3);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.n_legs, 2);
    assert_false(s.hold.legs[0].customer);
    assert_true(s.hold.legs[1].customer);
    assert_int_equal(s.hold.legs[0].amount, 9 * DOLLAR / 100);
    assert_int_equal(s.hold.legs[1].amount, 18 * DOLLAR / 100);
    assert_int_equal(s.hold.cost_max, 3 * DOLLAR / 100);
    assert_int_equal(s.hold.version_cost, 40);
    assert_int_equal(s.hold.version_wholesale, 20);
    assert_int_equal(s.hold.version_retail, 30);
    capture = rate(&s, &two);
    assert_int_equal(capture.charges[0], 6 * DOLLAR / 100);
    assert_int_equal(capture.charges[1], 12 * DOLLAR / 100);
    assert_int_equal(capture.usage.cost, 2 * DOLLAR / 100);
    assert_int_equal(capture.usage.retail, 12 * DOLLAR / 100);
    scene_dispose(&s);
}

/* Retail out of a wholesale amount that a markup has made odd is rounded up, at the hold and at the charge alike. */
static void test_rounding(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2}};
    struct scene s;

    (void)state;
    scene_init(&s, true, false);
    s.caller.customer->own_wallet = true;
    s.caller.tenant->markup_ppm = 1;
    s.caller.customer->markup_ppm = 1;
    scene_ready(&s);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.legs[0].amount, 32000032);
    assert_int_equal(s.hold.legs[1].amount, 32000065); /* 32000064.000032 */
    assert_int_equal(rate(&s, &two).charges[1], 32000065);
    s.caller.customer->markup_ppm = PRICE_MARKUP_MIN;
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.legs[1].amount, 0);
    scene_dispose(&s);
}

static void check_unknown(struct scene *s)
{
    char message[256];

    assert_int_equal(admit(s), ERR_MODEL_NOT_FOUND);
    (void)snprintf(message, sizeof(message), "The model `%s` does not exist or you do not have access to it.",
                   s->spec.model);
    assert_string_equal(s->err.message, message);
    assert_string_equal(s->err.param, "model");
    assert_null(s->terms.channel);
    assert_null(s->terms.cost);
}

static void test_unpriced(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, true, false);
    scene_ready(&s);
    set_spec(&s, "unpriced", "", "", 1);
    check_unknown(&s);
    set_spec(&s, "nobody-lists-it", "", "", 1);
    check_unknown(&s);
    set_spec(&s, "m", "", "", 1); /* not in openai-list */
    check_unknown(&s);
    set_spec(&s, "dall-e-2", "256x256", "", 1);
    s.caller.tenant->book_row = 2; /* a book that lacks the model: nothing falls back */
    check_unknown(&s);
    s.caller.tenant->book_row = 0;
    s.caller.customer->book_row = 3;
    check_unknown(&s);
    s.caller.customer->book_row = 99; /* a book that is gone */
    check_unknown(&s);
    s.caller.customer->book_row = 0;
    assert_int_equal(admit(&s), ERR_OK);
    scene_dispose(&s);

    scene_init(&s, false, false);
    s.channel->cost_book_row = 4;
    scene_ready(&s);
    check_unknown(&s);
    scene_dispose(&s);
}

static void test_versions_in_time(void **state)
{
    struct price_version *versions[2] = {fixture_image_price("m", 1000), fixture_image_price("m", 2000)};
    struct book *b = fixture_record(RECORD_BOOK, 7, 0);
    struct scene s;

    (void)state;
    versions[0]->effective_from = NOW;
    versions[0]->row = 71;
    versions[1]->effective_from = NOW + 1;
    versions[1]->row = 72;
    (void)snprintf(b->super.name, LIMIT_NAME, "dated");
    b->prices = price_book_create(versions, 2);
    scene_init(&s, false, false);
    s.caller.tenant->book_row = 7;
    s.channel->cost_book_row = 4;
    catalog_apply(s.c, (struct record *)b);
    scene_ready(&s);
    set_spec(&s, "m", "", "", 1);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.version_wholesale, 71);
    assert_int_equal(
        admit_call(s.c, &s.caller, &s.spec, false, IN_DOUBT_RELEASE, NOW - 1, &(struct terms){0}, &s.hold, NULL),
        ERR_MODEL_NOT_FOUND);
    terms_dispose(&s.terms);
    assert_int_equal(admit_call(s.c, &s.caller, &s.spec, true, IN_DOUBT_RELEASE, NOW + 1, &s.terms, &s.hold, NULL),
                     ERR_OK);
    assert_int_equal(s.hold.version_wholesale, 72);
    assert_true(s.hold.call.stream);
    scene_dispose(&s);
}

static void test_test_key(void **state)
{
    const struct price_quantities two = {.of = {[PRICE_IMAGE] = 2}};
    struct store_capture capture;
    struct channel *sandbox = wide_channel(2, -5);
    struct scene s;

    (void)state;
    scene_init(&s, true, true);
    scene_ready(&s);
    check_unknown(&s); /* no sandbox channel lists it */
    sandbox->channel_kind = CHANNEL_SANDBOX;
    catalog_apply(s.c, (struct record *)sandbox);
    s.caller.customer->own_wallet = true;
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.call.channel_row, 2);
    assert_true(s.hold.call.test);
    assert_int_equal(s.hold.n_legs, 0);
    assert_int_equal(s.hold.cost_max + s.hold.wholesale_max + s.hold.retail_max, 0);
    capture = rate(&s, &two);
    assert_int_equal(capture.usage.cost + capture.usage.wholesale + capture.usage.retail, 0);
    assert_int_equal(capture.charges[0] + capture.charges[1], 0);
    set_spec(&s, "unpriced", "", "", 1);
    check_unknown(&s);
    scene_dispose(&s);
}

static void test_channel_choice(void **state)
{
    struct channel *others = wide_channel(2, 9);
    struct channel *off = wide_channel(3, 8);
    struct scene s;

    (void)state;
    others->n_tenants = 1;
    others->tenant_rows = mem_alloc(sizeof(int64_t));
    others->tenant_rows[0] = 99;
    off->super.status = RECORD_DISABLED;
    scene_init(&s, false, false);
    catalog_apply(s.c, (struct record *)others);
    check_unknown(&s); /* another tenant's channel is no reason to say more */
    catalog_apply(s.c, (struct record *)off);
    assert_int_equal(admit(&s), ERR_NO_CHANNEL);
    assert_null(s.terms.channel);
    set_spec(&s, "unpriced", "", "", 1);
    check_unknown(&s);
    set_spec(&s, "dall-e-2", "", "", 1);
    scene_ready(&s);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.call.channel_row, 1);
    scene_dispose(&s);
}

static void test_policy(void **state)
{
    (void)state;
    for (int who = 0; who < CALLER_POLICIES; who++) {
        struct scene s;

        scene_init(&s, true, false);
        scene_ready(&s);
        s.caller.policies[who] = policy_create("{\"models\":[\"dall-e-2\"],\"max_n\":2}");
        assert_int_equal(admit(&s), ERR_OK);
        set_spec(&s, "dall-e-3", "", "", 1);
        check_unknown(&s);
        set_spec(&s, "dall-e-2", "", "", 3);
        assert_int_equal(admit(&s), ERR_POLICY_VIOLATION);
        assert_string_equal(s.err.param, "n");
        scene_dispose(&s);
    }
}

static void test_rule(void **state)
{
    struct scene s;

    (void)state;
    scene_init(&s, false, false);
    scene_ready(&s);
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.rule, IN_DOUBT_RELEASE);
    s.caller.tenant->in_doubt = IN_DOUBT_KEEP;
    assert_int_equal(admit(&s), ERR_OK);
    assert_int_equal(s.hold.rule, IN_DOUBT_KEEP);
    scene_dispose(&s);
}

/* A book that prices only the size that was asked for; the upstream makes another. */
static void test_unpriced_effective_size(void **state)
{
    struct price_rate rates[] = {{.model = "gpt-image-1", .size = "1024x1024", .unit = PRICE_IMAGE, .pico = 70000}};
    const struct price_quantities one = {.of = {[PRICE_IMAGE] = 1, [PRICE_IMAGE_OUTPUT] = 1584}};
    struct store_capture capture = {0};
    struct price_item item;
    struct scene s;

    (void)state;
    scene_init(&s, false, false);
    catalog_apply(s.c, (struct record *)fixture_book(8, "one size", price_version_create(rates, 1)));
    s.caller.tenant->book_row = 8;
    scene_ready(&s);
    set_spec(&s, "gpt-image-1", "1024x1024", "low", 1);
    assert_int_equal(admit(&s), ERR_OK);
    quote_item(&s.spec, SLICE("1024x1536"), SLICE("medium"), &item);
    assert_int_equal(admit_rate(&s.terms, &s.hold, &s.spec, &item, &one, &capture, &s.err), ERR_OK);
    assert_int_equal(capture.charges[0], 70);
    scene_dispose(&s);
}

static void test_price(void **state)
{
    struct admit_quote q;
    struct scene s;

    (void)state;
    scene_init(&s, true, false);
    s.caller.tenant->markup_ppm = 250000;
    s.caller.customer->markup_ppm = 100000;
    assert_int_equal(admit_price(s.c, NULL, NULL, &s.spec, NOW, &q, &s.err), ERR_OK);
    assert_int_equal(q.cost.nano, 32 * DOLLAR / 1000);
    assert_int_equal(q.wholesale.nano, 32 * DOLLAR / 1000);
    assert_int_equal(q.retail.nano, 32 * DOLLAR / 1000);
    assert_int_equal(admit_price(s.c, s.caller.tenant, s.caller.customer, &s.spec, NOW, &q, &s.err), ERR_OK);
    assert_int_equal(q.wholesale.nano, 40 * DOLLAR / 1000);
    assert_int_equal(q.retail.nano, 44 * DOLLAR / 1000);
    assert_string_equal(q.retail.size, "256x256");
    s.channel->cost_book_row = 4;
    scene_ready(&s);
    s.caller.tenant->book_row = 2;
    set_spec(&s, "m", "", "", 2);
    assert_int_equal(admit_price(s.c, s.caller.tenant, NULL, &s.spec, NOW, &q, &s.err), ERR_OK);
    assert_int_equal(q.cost.nano, 2 * DOLLAR / 100);
    scene_dispose(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenant_key),
        cmocka_unit_test(test_published_charges),
        cmocka_unit_test(test_markup),
        cmocka_unit_test(test_shared_wallet),
        cmocka_unit_test(test_own_wallet),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_unpriced),
        cmocka_unit_test(test_versions_in_time),
        cmocka_unit_test(test_test_key),
        cmocka_unit_test(test_channel_choice),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_rule),
        cmocka_unit_test(test_unpriced_effective_size),
        cmocka_unit_test(test_price),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
