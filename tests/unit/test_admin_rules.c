/* test_admin_rules.c - queries by their rules: what each type takes, what many values are, what a tenant's token does
 * not know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/rules.h"

struct query_case {
    enum rule_name route;
    bool tenant;
    const char *query;
    enum err_code code;
    const char *param;
};

#define ID(prefix) prefix "_0353E6dfg6YAuhBUy6kexm"

static void test_queries(void **state)
{
    static const struct query_case cases[] = {
        {RULE_TENANT_LIST, false, "", ERR_OK, ""},
        {RULE_TENANT_LIST, false, "limit=100&after=" ID("ten") "&status=active&external_id=a%20b", ERR_OK, ""},
        {RULE_TENANT_LIST, false, "limit=0", ERR_INTEGER_BELOW_MIN, "limit"},
        {RULE_TENANT_LIST, false, "limit=-1", ERR_INTEGER_BELOW_MIN, "limit"},
        {RULE_TENANT_LIST, false, "limit=101", ERR_INTEGER_ABOVE_MAX, "limit"},
        {RULE_TENANT_LIST, false, "limit=99999999999999999999999", ERR_INTEGER_ABOVE_MAX, "limit"},
        {RULE_TENANT_LIST, false, "limit=1e2", ERR_INVALID_TYPE, "limit"},
        {RULE_TENANT_LIST, false, "limit=", ERR_STRING_TOO_SHORT, "limit"},
        {RULE_TENANT_LIST, false, "limit=1&limit=1", ERR_DUPLICATE_PARAMETER, "limit"},
        {RULE_TENANT_LIST, false, "limit[]=1", ERR_UNKNOWN_PARAMETER, "limit[]"},
        {RULE_TENANT_LIST, false, "Limit=1", ERR_UNKNOWN_PARAMETER, "Limit"},
        {RULE_TENANT_LIST, false, "after=" ID("cus"), ERR_INVALID_VALUE, "after"},
        {RULE_TENANT_LIST, false, "after=ten_0000000000000000000000", ERR_INVALID_VALUE, "after"},
        {RULE_TENANT_LIST, false, "status=revoked", ERR_INVALID_VALUE, "status"},
        {RULE_TENANT_LIST, false, "status=activ", ERR_INVALID_VALUE, "status"},
        {RULE_TENANT_LIST, false, "external_id=%01", ERR_INVALID_VALUE, "external_id"},
        {RULE_TENANT_LIST, false, "external_id=%ff", ERR_INVALID_VALUE, ""},
        {RULE_TENANT_GET, false, "limit=1", ERR_UNKNOWN_PARAMETER, "limit"},
        {RULE_TENANT_CREATE, false, "x=1", ERR_UNKNOWN_PARAMETER, "x"},
        {RULE_TENANT_BALANCE, false, "at=0", ERR_OK, ""},
        {RULE_TENANT_BALANCE, false, "at=2026-02-28T00:00:00%2B01:00", ERR_OK, ""},
        {RULE_TENANT_BALANCE, false, "at=2026-02-29T00:00:00Z", ERR_INVALID_VALUE, "at"},
        {RULE_USAGE_RECORDS, false, "operation=edits,generations&operation[]=variations&operation=edits", ERR_OK, ""},
        {RULE_USAGE_RECORDS, false, "operation=edits,,generations", ERR_STRING_TOO_SHORT, "operation"},
        {RULE_USAGE_RECORDS, false, "operation=edits,other", ERR_INVALID_VALUE, "operation"},
        {RULE_USAGE_RECORDS, false, "size=1234567890123456", ERR_STRING_TOO_LONG, "size"},
        {RULE_USAGE_RECORDS, false, "channel=" ID("chn"), ERR_OK, ""},
        {RULE_USAGE_RECORDS, true, "channel=" ID("chn"), ERR_UNKNOWN_PARAMETER, "channel"},
        {RULE_USAGE_RECORDS, false, "tenant=nonsense", ERR_OK, ""}, /* the handler's 404 */
        {RULE_USAGE_REPORT, false, "end_time=1", ERR_MISSING_PARAMETER, "start_time"},
        {RULE_USAGE_REPORT, false, "start_time=1&group_by=model,size", ERR_OK, ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct err err = {0};
        enum err_code code = rules_check_query(cases[i].route, cases[i].tenant, slice_from(cases[i].query), &err);

        if (code != cases[i].code || (code != ERR_OK && strcmp(err.param, cases[i].param) != 0))
            fail_msg("'%s': %d, param '%s'", cases[i].query, (int)code, code != ERR_OK ? err.param : "");
    }
}

static void test_too_many_values(void **state)
{
    struct buf query;
    struct err err;

    (void)state;
    buf_init(&query, 4096);
    buf_append_str(&query, "model=a");
    for (int i = 1; i < 32; i++)
        buf_printf(&query, i % 2 == 0 ? "&model=m%d" : ",m%d", i);
    assert_int_equal(rules_check_query(RULE_USAGE_RECORDS, false, buf_slice(&query), &err), ERR_OK);
    buf_append_str(&query, ",one");
    assert_int_equal(rules_check_query(RULE_USAGE_RECORDS, false, buf_slice(&query), &err), ERR_INVALID_VALUE);
    assert_string_equal(err.param, "model");
    buf_dispose(&query);
}

/* Each name of a route stands there once, and there are no more of them than a call keeps track of. */
static void test_the_table(void **state)
{
    (void)state;
    for (const struct param_rule *q = param_rules; q->name != NULL; q++) {
        int n = 0;

        for (const struct param_rule *other = param_rules; other->name != NULL; other++) {
            n += other->route == q->route;
            if (other != q && other->route == q->route)
                assert_string_not_equal(other->name, q->name);
        }
        assert_true(n <= 32);
    }
}

static void test_the_dump_is_json(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = open_memstream(&text, &len);
    struct json_object *tree;
    struct err err;

    (void)state;
    rules_print(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(json_read((struct slice){text, len}, &tree, &err), ERR_OK);
    json_object_put(tree);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queries),
        cmocka_unit_test(test_too_many_values),
        cmocka_unit_test(test_the_table),
        cmocka_unit_test(test_the_dump_is_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
