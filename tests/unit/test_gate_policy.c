/* test_gate_policy.c - policies: what is refused when one is set, and what one allows. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "daemon/gate/policy.h"

static int start(void **state)
{
    (void)state;
    model_init();
    return 0;
}

static void check_refused(const char *json, enum err_code code, const char *param)
{
    struct err err = {0};
    enum err_code got = policy_check(slice_from(json), &err);
    struct policy *p;

    if (got != code || strcmp(err.param, param) != 0)
        fail_msg("%s: %s at '%s': %s", json, err_name(got), err.param, err.message);
    p = policy_create(json); /* and such a text in the store allows nothing */
    assert_false(policy_allows_model(p, SLICE("dall-e-2")));
    assert_false(policy_allows_peer(p, "127.0.0.1"));
    policy_unref(p);
}

static void test_refused(void **state)
{
    (void)state;
    check_refused("[]", ERR_INVALID_TYPE, "policy");
    check_refused("{", ERR_INVALID_TYPE, "policy");
    check_refused("{\"x\":1}", ERR_UNKNOWN_PARAMETER, "policy.x");
    check_refused("{\"models\":\"dall-e-2\"}", ERR_INVALID_TYPE, "policy.models");
    check_refused("{\"models\":[]}", ERR_INVALID_VALUE, "policy.models");
    check_refused("{\"models\":[1]}", ERR_INVALID_TYPE, "policy.models");
    check_refused("{\"models\":[null]}", ERR_INVALID_TYPE, "policy.models");
    check_refused("{\"models\":[\"\"]}", ERR_INVALID_VALUE, "policy.models");
    check_refused("{\"models\":[\"a\\u0000b\"]}", ERR_INVALID_VALUE, "policy.models");
    check_refused("{\"operations\":[\"generation\"]}", ERR_INVALID_VALUE, "policy.operations");
    check_refused("{\"sizes\":[\"1024X1024\"]}", ERR_INVALID_VALUE, "policy.sizes");
    check_refused("{\"qualities\":[\"xxxxxxxxxxxxxxxx\"]}", ERR_INVALID_VALUE, "policy.qualities");
    check_refused("{\"max_n\":0}", ERR_INTEGER_BELOW_MIN, "policy.max_n");
    check_refused("{\"max_n\":1001}", ERR_INTEGER_ABOVE_MAX, "policy.max_n");
    check_refused("{\"max_n\":\"2\"}", ERR_INVALID_TYPE, "policy.max_n");
    check_refused("{\"ip_allow\":[\"10.0.0.1/8\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"10.0.0.0/33\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"10.0.0.0/\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"::1/129\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"10.0.0\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
    check_refused("{\"ip_allow\":[\"example.org\"]}", ERR_INVALID_VALUE, "policy.ip_allow");
}

/* Longer than a record may keep. */
static void test_too_long(void **state)
{
    struct buf b;
    struct err err;

    (void)state;
    buf_init(&b, 8192);
    buf_append_str(&b, "{\"models\":[\"a\"");
    while (b.len < 2050)
        buf_append_str(&b, ",\"a\"");
    buf_append(&b, "]}", 3);
    assert_int_equal(policy_check(slice_from(b.p), &err), ERR_STRING_TOO_LONG);
    assert_string_equal(err.param, "policy");
    buf_dispose(&b);
}

static struct policy *make(const char *json)
{
    struct err err = {0};

    if (policy_check(slice_from(json), &err) != ERR_OK)
        fail_msg("%s: %s", json, err.message);
    return policy_create(json);
}

static enum err_code ask(const struct policy *p, const char *model, const char *size, const char *quality, int n,
                         enum image_operation op, const char *param)
{
    struct image_spec spec = {.operation = op, .n = n, .card = model_find(slice_from(model))};
    struct err err = {0};
    enum err_code code;

    (void)snprintf(spec.model, sizeof(spec.model), "%s", model);
    (void)snprintf(spec.size, sizeof(spec.size), "%s", size);
    (void)snprintf(spec.quality, sizeof(spec.quality), "%s", quality);
    code = policy_check_spec(p, &spec, &err);
    assert_string_equal(err.param, param);
    return code;
}

static void test_none(void **state)
{
    struct policy *p = make("{}");

    (void)state;
    assert_null(policy_create(NULL));
    assert_null(policy_create(""));
    assert_true(policy_allows_model(NULL, SLICE("x")) && policy_allows_model(p, SLICE("x")));
    assert_true(policy_allows_peer(NULL, "unix") && policy_allows_peer(p, "unix"));
    assert_int_equal(ask(NULL, "x", "", "", 10, OPERATION_EDITS, ""), ERR_OK);
    assert_int_equal(ask(p, "x", "", "", 10, OPERATION_EDITS, ""), ERR_OK);
    assert_ptr_equal(policy_ref(p), p);
    policy_unref(p);
    policy_unref(p);
    policy_unref(NULL);
}

static void test_lists(void **state)
{
    struct policy *p =
        make("{\"models\":[\"dall-e-2\",\"gpt-image-1\"],\"operations\":[\"generations\"],\"sizes\":[\"512x512\","
             "\"1024x1024\"],\"qualities\":[\"standard\",\"low\"],\"max_n\":2}");
    const enum image_operation gen = OPERATION_GENERATIONS;

    (void)state;
    assert_true(policy_allows_model(p, SLICE("dall-e-2")) && policy_allows_model(p, SLICE("gpt-image-1")));
    assert_false(policy_allows_model(p, SLICE("dall-e-3")) || policy_allows_model(p, SLICE("512x512")) ||
                 policy_allows_model(p, SLICE("dall-e")) || policy_allows_model(p, SLICE("")));
    assert_int_equal(ask(p, "dall-e-2", "512x512", "standard", 2, gen, ""), ERR_OK);
    assert_int_equal(ask(p, "dall-e-2", "", "", 1, gen, ""), ERR_OK); /* 1024x1024, standard */
    assert_int_equal(ask(p, "dall-e-2", "256x256", "", 1, gen, "size"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "gpt-image-1", "1024x1024", "low", 1, gen, ""), ERR_OK);
    assert_int_equal(ask(p, "gpt-image-1", "", "low", 1, gen, "size"), ERR_POLICY_VIOLATION); /* auto */
    assert_int_equal(ask(p, "gpt-image-1", "auto", "low", 1, gen, "size"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "gpt-image-1", "1024x1024", "", 1, gen, "quality"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "gpt-image-1", "1024x1024", "LOW", 1, gen, "quality"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "gpt-image-1", "1024x1024", "low", 3, gen, "n"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "dall-e-2", "512x512", "", 1, OPERATION_EDITS, "operation"), ERR_POLICY_VIOLATION);
    assert_int_equal(ask(p, "new", "", "low", 1, gen, "size"), ERR_POLICY_VIOLATION); /* nobody knows its default */
    policy_unref(p);
    p = make("{\"sizes\":[\"auto\"]}");
    assert_int_equal(ask(p, "gpt-image-1", "", "high", 1, gen, ""), ERR_OK);
    assert_int_equal(ask(p, "gpt-image-1", "1024x1024", "high", 1, gen, "size"), ERR_POLICY_VIOLATION);
    policy_unref(p);
}

static void test_peers(void **state)
{
    static const char *const in[] = {"10.0.0.1",    "10.255.0.1",      "192.0.2.7",    "::ffff:10.1.2.3",
                                     "2001:db8::1", "2001:db8:7fff::", "203.0.113.129"};
    static const char *const out[] = {"11.0.0.1", "192.0.2.8", "2001:db8:8000::", "::1",       "unix",
                                      "",         "10.0.0.1 ", "203.0.113.127",   "::10.0.0.1"};
    struct policy *p = make("{\"ip_allow\":[\"10.0.0.0/8\",\"192.0.2.7\",\"2001:db8::/33\",\"203.0.113.128/25\"]}");

    (void)state;
    for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
        assert_true(policy_allows_peer(p, in[i]));
    for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++)
        assert_false(policy_allows_peer(p, out[i]));
    policy_unref(p);
    p = make("{\"ip_allow\":[\"0.0.0.0/0\"]}");
    assert_true(policy_allows_peer(p, "1.2.3.4"));
    assert_false(policy_allows_peer(p, "2001:db8::1"));
    policy_unref(p);
    p = make("{\"ip_allow\":[\"::/0\"]}");
    assert_true(policy_allows_peer(p, "2001:db8::1"));
    policy_unref(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_too_long), cmocka_unit_test(test_none),
        cmocka_unit_test(test_lists),   cmocka_unit_test(test_peers),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
