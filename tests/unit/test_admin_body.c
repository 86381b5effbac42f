/* test_admin_body.c - bodies by tables: every type, what absence and null mean, who may set what, and all faults by
 * name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/body.h"
#include "daemon/base/clock.h"

struct thing {
    char name[8];
    int64_t money, percent, count, wait, until;
    int choice;
    char *policy;
};

static const struct body_choice choices[] = {{"red", 3}, {"green", 5}, {"blue", 7}, {NULL, 0}};

static const struct body_field fields[] = {
    {.name = "name",
     .type = BODY_TEXT,
     .flags = BODY_REQUIRED,
     .offset = offsetof(struct thing, name),
     .cap = 8,
     .min = 2},
    {.name = "money", .type = BODY_MONEY, .offset = offsetof(struct thing, money), .max = INT64_C(5000000000)},
    {.name = "percent",
     .type = BODY_PERCENT,
     .offset = offsetof(struct thing, percent),
     .min = -1000000,
     .max = 1000000},
    {.name = "count", .type = BODY_INT, .offset = offsetof(struct thing, count), .min = 1, .max = 9, .otherwise = 4},
    {.name = "wait", .type = BODY_SECONDS, .offset = offsetof(struct thing, wait), .min = 1, .max = 60},
    {.name = "until", .type = BODY_TIME, .offset = offsetof(struct thing, until)},
    {.name = "choice",
     .type = BODY_CHOICE,
     .flags = BODY_PLATFORM,
     .offset = offsetof(struct thing, choice),
     .otherwise = 3,
     .choices = choices},
    {.name = "fixed", .type = BODY_UNSUPPORTED, .flags = BODY_FIXED},
    {.name = "policy", .type = BODY_POLICY, .offset = offsetof(struct thing, policy)},
    {.name = "limits", .type = BODY_UNSUPPORTED},
};

static enum err_code read_thing(const char *json, bool create, int64_t tenant_row, struct thing *thing, struct err *err)
{
    struct admin_call *call = mem_zalloc(sizeof(*call));
    enum err_code code;

    err->param[0] = '\0';
    call->who.tenant_row = tenant_row;
    code = json_read(slice_from(json), &call->body, err);
    assert_int_equal(code, ERR_OK);
    code = body_read(call, fields, sizeof(fields) / sizeof(fields[0]), create, thing, err);
    json_object_put(call->body);
    free(call);
    return code;
}

static void sets_everything(void **state)
{
    struct thing t = {.count = 0};
    struct err err;

    (void)state;
    assert_int_equal(
        read_thing("{\"name\":\"ab\",\"money\":\"1.5\",\"percent\":\"12.5\",\"count\":9,\"wait\":60,"
                   "\"until\":\"2099-01-01T00:00:00Z\",\"choice\":\"blue\",\"policy\":{\"max_n\":2},\"limits\":null}",
                   true, 0, &t, &err),
        ERR_OK);
    assert_string_equal(t.name, "ab");
    assert_int_equal(t.money, 1500000000);
    assert_int_equal(t.percent, 125000);
    assert_int_equal(t.count, 9);
    assert_int_equal(t.wait, 60 * CLOCK_SECOND);
    assert_true(t.until > clock_wall());
    assert_int_equal(t.choice, 7);
    assert_string_equal(t.policy, "{\"max_n\":2}");
    free(t.policy);
}

static void absent_and_null(void **state)
{
    struct thing t = {.count = 0};
    struct err err;

    (void)state;
    assert_int_equal(read_thing("{\"name\":\"ab\"}", true, 0, &t, &err), ERR_OK);
    assert_int_equal(t.count, 4);
    assert_int_equal(t.choice, 3);
    t.count = 8;
    t.money = 7;
    t.policy = mem_strdup("{}");
    assert_int_equal(read_thing("{}", false, 0, &t, &err), ERR_OK);
    assert_int_equal(t.count, 8);
    assert_int_equal(read_thing("{\"count\":null,\"policy\":null}", false, 0, &t, &err), ERR_OK);
    assert_int_equal(t.count, 4);
    assert_int_equal(t.money, 7);
    assert_null(t.policy);
}

static void faults(void **state)
{
    static const struct {
        const char *json;
        bool create;
        int64_t tenant;
        enum err_code code;
        const char *param;
    } cases[] = {
        {"{}", true, 0, ERR_MISSING_PARAMETER, "name"},
        {"{\"name\":null}", false, 0, ERR_MISSING_PARAMETER, "name"},
        {"{\"name\":\"ab\",\"nmae\":1}", true, 0, ERR_UNKNOWN_PARAMETER, "nmae"},
        {"{\"name\":1}", true, 0, ERR_INVALID_TYPE, "name"},
        {"{\"name\":\"a\"}", true, 0, ERR_STRING_TOO_SHORT, "name"},
        {"{\"name\":\"abcdefgh\"}", true, 0, ERR_STRING_TOO_LONG, "name"},
        {"{\"name\":\"a\\nb\"}", true, 0, ERR_INVALID_VALUE, "name"},
        {"{\"money\":1}", false, 0, ERR_INVALID_TYPE, "money"},
        {"{\"money\":\"1e3\"}", false, 0, ERR_INVALID_VALUE, "money"},
        {"{\"money\":\"-1\"}", false, 0, ERR_INVALID_VALUE, "money"},
        {"{\"money\":\"5.000000001\"}", false, 0, ERR_INVALID_VALUE, "money"},
        {"{\"percent\":\"0.00001\"}", false, 0, ERR_INVALID_VALUE, "percent"},
        {"{\"count\":\"4\"}", false, 0, ERR_INVALID_TYPE, "count"},
        {"{\"count\":0}", false, 0, ERR_INTEGER_BELOW_MIN, "count"},
        {"{\"count\":10}", false, 0, ERR_INTEGER_ABOVE_MAX, "count"},
        {"{\"until\":\"soon\"}", false, 0, ERR_INVALID_VALUE, "until"},
        {"{\"until\":\"2001-01-01T00:00:00Z\"}", false, 0, ERR_INVALID_VALUE, "until"},
        {"{\"choice\":\"mauve\"}", false, 0, ERR_INVALID_VALUE, "choice"},
        {"{\"choice\":\"red\"}", false, 1, ERR_FORBIDDEN, "choice"},
        {"{\"fixed\":{}}", false, 0, ERR_INVALID_VALUE, "fixed"},
        {"{\"policy\":[]}", false, 0, ERR_INVALID_TYPE, "policy"},
        {"{\"policy\":{\"max_m\":1}}", false, 0, ERR_UNKNOWN_PARAMETER, "policy.max_m"},
        {"{\"limits\":{\"requests_per_minute\":1}}", false, 0, ERR_UNKNOWN_PARAMETER, "limits"},
        {"{\"limits\":5}", false, 0, ERR_UNKNOWN_PARAMETER, "limits"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct thing t = {.count = 0};
        struct err err;

        print_message("%s\n", cases[i].json);
        assert_int_equal(read_thing(cases[i].json, cases[i].create, cases[i].tenant, &t, &err), cases[i].code);
        assert_string_equal(err.param, cases[i].param);
        free(t.policy);
    }
}

static void names_the_choices(void **state)
{
    struct thing t = {.count = 0};
    struct err err;

    (void)state;
    assert_int_equal(read_thing("{\"choice\":\"mauve\"}", false, 0, &t, &err), ERR_INVALID_VALUE);
    assert_string_equal(err.message, "Invalid value: 'mauve'. Supported values are: 'red', 'green', and 'blue'.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_everything),
        cmocka_unit_test(absent_and_null),
        cmocka_unit_test(faults),
        cmocka_unit_test(names_the_choices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
