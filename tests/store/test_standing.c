/* test_standing.c - what STORE_STANDING says is what the next hold finds: exactly that much passes, a nano-dollar more
 * does not; through holds, charges, windows that turn, changes of budgets, and a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/billing/budget.h"
#include "lib_world.h"

#define BEGAN (INT64_C(1795507200) * CLOCK_SECOND)
#define HOUR (3600 * CLOCK_SECOND)

static int64_t now = BEGAN;

static int start(void **state)
{
    struct world *w = mem_zalloc(sizeof(*w));

    now = BEGAN;
    clock_freeze(now, now - BEGAN);
    world_init(w);
    world_open(w);
    world_fill(w, 100 * USD, 50 * USD);
    *state = w;
    return 0;
}

static void pass(int64_t microseconds)
{
    now += microseconds;
    clock_freeze(now, now - BEGAN);
}

static void set_budgets(struct world *w, enum record_kind kind, int64_t row, int64_t version, const char *budgets)
{
    struct tenant *tenant = NULL;
    struct customer *customer = NULL;
    struct api_key *key = NULL;
    struct record *record;
    struct err err;

    if (kind == RECORD_TENANT)
        tenant = world_tenant("tenant");
    else if (kind == RECORD_CUSTOMER)
        customer = world_customer(w, "customer", true);
    else
        key = world_key(w, "key", row == w->customer_key ? w->customer : 0);
    record = tenant != NULL ? &tenant->super : customer != NULL ? &customer->super : &key->super;
    record->row = row;
    record->version = version;
    *(tenant != NULL ? &tenant->budgets : customer != NULL ? &customer->budgets : &key->budgets) = mem_strdup(budgets);
    assert_int_equal(world_put(w, record, NULL, &err), ERR_OK);
}

static struct store_standing standing(struct world *w, bool customer)
{
    struct store_standing op = {.super = {.kind = STORE_STANDING}, .tenant_row = w->tenant};

    op.customer_row = customer ? w->customer : 0;
    op.key_row = customer ? w->customer_key : w->key;
    op.own_wallet = customer;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op;
}

static enum err_code hold(struct world *w, bool customer, int64_t amount, struct id *id)
{
    struct store_hold op;
    enum err_code code;

    world_hold_init(w, &op, customer ? 1 : amount, customer ? amount : -1);
    code = world_do(w, &op.super);
    *id = op.id;
    return code;
}

/* All that is said to be there can be held, and not a nano-dollar more. */
static void expect_exact(struct world *w, bool customer)
{
    int64_t available = standing(w, customer).available;
    struct id id;

    assert_true(available >= 0);
    assert_int_equal(hold(w, customer, available + 1, &id), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(standing(w, customer).available, available);
    assert_int_equal(hold(w, customer, available, &id), ERR_OK);
    assert_int_equal(standing(w, customer).available, 0);
    assert_int_equal(world_void(w, id), ERR_OK);
    assert_int_equal(standing(w, customer).available, available);
}

static void spend(struct world *w, bool customer, int64_t held, int64_t charged)
{
    struct id id;

    assert_int_equal(hold(w, customer, held, &id), ERR_OK);
    expect_exact(w, customer);
    assert_int_equal(world_capture(w, id, 1, customer ? 1 : charged, charged), ERR_OK);
    expect_exact(w, customer);
}

static void test_wallets(void **state)
{
    struct world *w = *state;
    struct store_standing op = standing(w, false);

    assert_int_equal(op.wallet, 100 * USD);
    assert_int_equal(op.available, 100 * USD);
    assert_int_equal(op.n, 0);
    spend(w, false, 3 * USD, 2 * USD);
    assert_int_equal(standing(w, false).wallet, 98 * USD);
    assert_int_equal(standing(w, true).wallet, 50 * USD);
    spend(w, true, 5 * USD, USD / 3);
    op = (struct store_standing){.super = {.kind = STORE_STANDING}, .tenant_row = 4711};
    assert_int_equal(world_do(w, &op.super), ERR_NOT_FOUND);
}

static void test_budgets_of_a_tenants_key(void **state)
{
    struct world *w = *state;
    struct store_standing op;

    set_budgets(w, RECORD_TENANT, w->tenant, 1, "[{\"amount\":\"20\",\"window\":\"day\"}]");
    set_budgets(w, RECORD_KEY, w->key, 1,
                "[{\"amount\":\"9\",\"window\":\"lifetime\"},{\"amount\":\"4\",\"window\":\"rolling:3600s\"}]");
    spend(w, false, 3 * USD, 2 * USD);
    op = standing(w, false);
    assert_int_equal(op.n, 3);
    assert_int_equal(op.available, 2 * USD);
    assert_int_equal(op.wallet, 98 * USD);
    assert_int_equal(op.budgets[0].owner, BUDGET_KEY);
    assert_string_equal(op.budgets[0].window, "lifetime");
    assert_int_equal(op.budgets[0].amount, 9 * USD);
    assert_int_equal(op.budgets[0].used, 2 * USD);
    assert_int_equal(op.budgets[0].resets_at, 0);
    assert_string_equal(op.budgets[1].window, "rolling:3600s");
    assert_true(op.budgets[1].resets_at > now && op.budgets[1].resets_at <= now + HOUR + 60 * CLOCK_SECOND);
    assert_int_equal(op.budgets[2].owner, BUDGET_TENANT);
    assert_int_equal(op.budgets[2].used, 2 * USD);
    pass(2 * HOUR);
    assert_int_equal(standing(w, false).available, 4 * USD);
    spend(w, false, 4 * USD, 4 * USD);
    pass(2 * HOUR);
    expect_exact(w, false); /* 3 of the lifetime's 9 */
    set_budgets(w, RECORD_KEY, w->key, 2, "[{\"amount\":\"5\",\"window\":\"lifetime\"}]");
    assert_int_equal(standing(w, false).available, -1 * USD); /* less than was used */
    set_budgets(w, RECORD_KEY, w->key, 3, "[{\"amount\":\"50\",\"window\":\"lifetime\"}]");
    expect_exact(w, false); /* 14 of the tenant's 20 */
    assert_int_equal(standing(w, false).available, 14 * USD);
    world_close(w);
    world_open(w);
    expect_exact(w, false);
    assert_int_equal(standing(w, false).available, 14 * USD);
    pass(24 * HOUR);
    assert_int_equal(standing(w, false).available, 20 * USD);
}

/* A customer's key: its own price and wallet; what the tenant may spend is told, and counts for nothing there. */
static void test_budgets_of_a_customers_key(void **state)
{
    struct world *w = *state;
    struct store_standing op;

    set_budgets(w, RECORD_TENANT, w->tenant, 1, "[{\"amount\":\"1\",\"window\":\"month\"}]");
    set_budgets(w, RECORD_CUSTOMER, w->customer, 1, "[{\"amount\":\"7\",\"window\":\"week\"}]");
    set_budgets(w, RECORD_KEY, w->customer_key, 1, "[{\"amount\":\"6\",\"window\":\"month\"}]");
    spend(w, true, 2 * USD, USD);
    op = standing(w, true);
    assert_int_equal(op.n, 3);
    assert_int_equal(op.available, 5 * USD);
    assert_int_equal(op.wallet, 49 * USD);
    assert_int_equal(op.budgets[1].owner, BUDGET_CUSTOMER);
    assert_int_equal(op.budgets[1].used, USD);
    assert_int_equal(op.budgets[2].used, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wallets, start, world_tear_down),
        cmocka_unit_test_setup_teardown(test_budgets_of_a_tenants_key, start, world_tear_down),
        cmocka_unit_test_setup_teardown(test_budgets_of_a_customers_key, start, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
