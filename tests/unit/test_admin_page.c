/* test_admin_page.c - queries of lists: limits, cursors, filters, and every way to get them wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "admin/page.h"

static char model[8], tenant[16];
static const struct page_field fields[] = {{"model", model, sizeof(model)}, {"tenant", tenant, sizeof(tenant)}};

static enum err_code read_page(const char *query, struct page *page, struct err *err)
{
    err->param[0] = '\0';
    return page_read(slice_from(query), "key", fields, 2, page, err);
}

static void defaults(void **state)
{
    struct page page;
    struct err err;

    (void)state;
    assert_int_equal(read_page("", &page, &err), ERR_OK);
    assert_int_equal(page.limit, PAGE_LIMIT);
    assert_true(id_is_zero(page.after));
    assert_string_equal(model, "");
}

static void values(void **state)
{
    struct id id = id_make();
    char text[ID_TEXT], query[128];
    struct page page;
    struct err err;

    (void)state;
    (void)snprintf(query, sizeof(query), "limit=100&after=%s&model=a%%2Db", id_format("key", id, text));
    assert_int_equal(read_page(query, &page, &err), ERR_OK);
    assert_int_equal(page.limit, 100);
    assert_true(id_eq(page.after, id));
    assert_string_equal(model, "a-b");
}

static void faults(void **state)
{
    static const struct {
        const char *query;
        enum err_code code;
        const char *param;
    } cases[] = {
        {"limit=0", ERR_INTEGER_BELOW_MIN, "limit"},
        {"limit=101", ERR_INTEGER_ABOVE_MAX, "limit"},
        {"limit=ten", ERR_INVALID_TYPE, "limit"},
        {"limit=", ERR_INVALID_TYPE, "limit"},
        {"limit=-1", ERR_INVALID_TYPE, "limit"},
        {"limit=1&limit=2", ERR_DUPLICATE_PARAMETER, "limit"},
        {"after=key_x", ERR_INVALID_VALUE, "after"},
        {"after=ten_0000000000000000000001", ERR_INVALID_VALUE, "after"},
        {"after=key_0000000000000000000000", ERR_INVALID_VALUE, "after"},
        {"model=a&model=a", ERR_DUPLICATE_PARAMETER, "model"},
        {"model=eightlong", ERR_STRING_TOO_LONG, "model"},
        {"modle=a", ERR_UNKNOWN_PARAMETER, "modle"},
        {"model=%zz", ERR_INVALID_VALUE, ""},
        {"model=%ff", ERR_INVALID_VALUE, ""},
        {"%ff=a", ERR_INVALID_VALUE, ""},
        {"model=a%00", ERR_INVALID_VALUE, ""},
        {"model=", ERR_STRING_TOO_SHORT, "model"},
        {"model", ERR_STRING_TOO_SHORT, "model"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct page page;
        struct err err;

        print_message("%s\n", cases[i].query);
        assert_int_equal(read_page(cases[i].query, &page, &err), cases[i].code);
        assert_string_equal(err.param, cases[i].param);
    }
}

static void no_list(void **state)
{
    struct err err;

    (void)state;
    assert_int_equal(page_read(SLICE("tenant=x"), "", fields, 2, NULL, &err), ERR_OK);
    assert_string_equal(tenant, "x");
    assert_int_equal(page_read(SLICE("limit=5"), "", fields, 2, NULL, &err), ERR_UNKNOWN_PARAMETER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(values),
        cmocka_unit_test(faults),
        cmocka_unit_test(no_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
