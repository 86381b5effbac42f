/* test_ops.c - every operation of money: what it does, and what it refuses. fsck after each test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "lib_sql.h"
#include "lib_world.h"

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 10 * USD, 5 * USD);
    *state = w;
    return 0;
}

static void assert_balance(struct world *w, bool customer, int64_t posted, int64_t held)
{
    struct store_balance b = world_balance(w, customer);

    assert_int_equal(b.posted, posted);
    assert_int_equal(b.held, held);
}

static int64_t posted(struct world *w, int kind, int64_t owner)
{
    char sql[128];
    int64_t n;

    (void)snprintf(sql, sizeof(sql), "SELECT posted FROM accounts WHERE kind = %d AND owner = %lld", kind,
                   (long long)owner);
    n = sql_number(w->url, sql);
    return n == INT64_MIN ? 0 : n;
}

enum { WALLET, CUSTOMER_WALLET, REVENUE, CUSTOMER_REVENUE, COST, PAYABLE, PROMOTIONAL, EXTERNAL, LOSS, RECEIVABLE };

static void hold_and_capture(void **state)
{
    struct world *w = *state;
    struct id id;

    assert_int_equal(world_hold(w, 3 * USD, -1, &id), ERR_OK);
    assert_balance(w, false, 10 * USD, 3 * USD);
    assert_int_equal(world_capture(w, id, 1 * USD, 2 * USD, -1), ERR_OK);
    assert_balance(w, false, 8 * USD, 0);
    assert_int_equal(posted(w, REVENUE, w->tenant), 2 * USD);
    assert_int_equal(posted(w, COST, w->tenant), -1 * USD);
    assert_int_equal(posted(w, PAYABLE, w->channel), 1 * USD);
    assert_int_equal(posted(w, EXTERNAL, w->tenant), -10 * USD);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM holds"), 0);
}

static void both_wallets(void **state)
{
    struct world *w = *state;
    struct id id;

    assert_int_equal(world_hold(w, 3 * USD, 4 * USD, &id), ERR_OK);
    assert_balance(w, false, 10 * USD, 3 * USD);
    assert_balance(w, true, 5 * USD, 4 * USD);
    assert_int_equal(world_capture(w, id, 1 * USD, 2 * USD, 3 * USD), ERR_OK);
    assert_balance(w, false, 8 * USD, 0);
    assert_balance(w, true, 2 * USD, 0);
    assert_int_equal(posted(w, CUSTOMER_REVENUE, w->customer), 3 * USD);
}

static void all_legs_or_none(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct id id;

    assert_int_equal(world_hold(w, 3 * USD, 5 * USD + 1, &id), ERR_INSUFFICIENT_QUOTA);
    assert_balance(w, false, 10 * USD, 0);
    assert_balance(w, true, 5 * USD, 0);
    assert_int_equal(world_hold(w, 10 * USD + 1, 1, &id), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(world_hold(w, 10 * USD, 5 * USD, &id), ERR_OK);
    assert_int_equal(world_hold(w, 1, -1, &id), ERR_INSUFFICIENT_QUOTA);
    world_hold_init(w, &op, 1, -1);
    assert_int_equal(world_do(w, &op.super), ERR_INSUFFICIENT_QUOTA);
    assert_string_equal(err_api_code(op.super.err.code), "insufficient_quota");
}

static void bad_holds(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct id id;

    world_hold_init(w, &op, -1, -1);
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE);
    world_hold_init(w, &op, 1, -1);
    op.cost_max = INT64_MAX;
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE);
    world_hold_init(w, &op, 1, -1);
    op.n_legs = 0;
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE);
    world_hold_init(w, &op, 1, -1);
    op.n_legs = 3;
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE);
    world_hold_init(w, &op, 1, 1);
    op.legs[1].customer = false;
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE);
    world_hold_init(w, &op, 1, -1);
    op.call.tenant_row = 999;
    assert_int_equal(world_do(w, &op.super), ERR_ACCOUNT_SUSPENDED);
    assert_int_equal(world_hold(w, 1, -1, &id), ERR_OK);
    world_hold_init(w, &op, 1, -1);
    op.id = id;
    assert_int_equal(world_do(w, &op.super), ERR_CONFLICT);
    assert_balance(w, false, 10 * USD, 1);
    assert_int_equal(world_void(w, id), ERR_OK);
}

static void ends_once(void **state)
{
    struct world *w = *state;
    struct id a, b, c, none = id_make();

    assert_int_equal(world_hold(w, USD, -1, &a), ERR_OK);
    assert_int_equal(world_hold(w, USD, -1, &b), ERR_OK);
    assert_int_equal(world_hold(w, USD, -1, &c), ERR_OK);
    assert_int_equal(world_capture(w, a, 1, USD, -1), ERR_OK);
    assert_int_equal(world_capture(w, a, 1, USD, -1), ERR_NOT_FOUND);
    assert_int_equal(world_void(w, a), ERR_NOT_FOUND);
    assert_int_equal(world_void(w, b), ERR_OK);
    assert_int_equal(world_void(w, b), ERR_NOT_FOUND);
    assert_int_equal(world_capture(w, b, 1, USD, -1), ERR_NOT_FOUND);
    assert_int_equal(world_doubt(w, b), ERR_NOT_FOUND);
    assert_int_equal(world_doubt(w, c), ERR_OK);
    assert_int_equal(world_doubt(w, c), ERR_NOT_FOUND);
    assert_int_equal(world_capture(w, none, 1, USD, -1), ERR_NOT_FOUND);
    assert_balance(w, false, 9 * USD, 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage"), 2);
}

static void same_batch_deliver(struct mail *mail)
{
    TG_CONTAINER(struct store_op, mail, mail)->reply_to = NULL;
}

/* Everything queued before the writer can look: the whole life of a hold inside one transaction. */
static void same_batch(void **state)
{
    struct world *w = *state;
    struct store_hold hold;
    struct store_capture capture;
    struct store_void twice = {.super = {.kind = STORE_VOID}};

    world_hold_init(w, &hold, USD, -1);
    world_capture_init(&capture, hold.id, 1, USD, -1);
    twice.hold = hold.id;
    hold.super.mail.deliver = capture.super.mail.deliver = twice.super.mail.deliver = same_batch_deliver;
    hold.super.reply_to = capture.super.reply_to = twice.super.reply_to = &w->box.super;
    store_submit(w->store, &hold.super);
    store_submit(w->store, &capture.super);
    store_submit(w->store, &twice.super);
    while (twice.super.reply_to != NULL)
        box_run(&w->box);
    assert_int_equal(hold.super.err.code, ERR_OK);
    assert_int_equal(capture.super.err.code, ERR_OK);
    assert_int_equal(twice.super.err.code, ERR_NOT_FOUND);
    assert_balance(w, false, 9 * USD, 0);
}

static void overage(void **state)
{
    struct world *w = *state;
    struct store_capture op;
    struct id id, other;

    /* 10 in the wallet, 1 held for this, 8 for another: 1 + 1 can be taken of 5. */
    assert_int_equal(world_hold(w, 1 * USD, -1, &id), ERR_OK);
    assert_int_equal(world_hold(w, 8 * USD, -1, &other), ERR_OK);
    world_capture_init(&op, id, USD, 5 * USD, -1);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(op.charged, 2 * USD);
    assert_int_equal(op.usage.wholesale, 5 * USD);
    assert_true(op.usage.flags & USAGE_OVERAGE);
    assert_balance(w, false, 8 * USD, 8 * USD);
    assert_int_equal(posted(w, RECEIVABLE, w->tenant), -3 * USD);
    assert_int_equal(posted(w, REVENUE, w->tenant), 5 * USD);
    assert_int_equal(world_void(w, other), ERR_OK);
    /* Above the hold, but the wallet bears it: taken whole, still flagged. */
    assert_int_equal(world_hold(w, 1 * USD, -1, &id), ERR_OK);
    world_capture_init(&op, id, 0, 3 * USD, -1);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(op.charged, 3 * USD);
    assert_true(op.usage.flags & USAGE_OVERAGE);
    assert_balance(w, false, 5 * USD, 0);
}

static void overage_of_the_customer(void **state)
{
    struct world *w = *state;
    struct store_capture op;
    struct id id;

    assert_int_equal(world_hold(w, 1 * USD, 5 * USD, &id), ERR_OK);
    world_capture_init(&op, id, USD, 1 * USD, 7 * USD);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(op.charged, 5 * USD);
    assert_balance(w, true, 0, 0);
    assert_int_equal(posted(w, RECEIVABLE + 1, w->customer), -2 * USD);
    assert_int_equal(posted(w, CUSTOMER_REVENUE, w->customer), 7 * USD);
}

static void in_doubt(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct store_doubt doubt = {.super = {.kind = STORE_DOUBT}, .duration_ms = 7, .client_gone = true};
    struct store_usage_query q = {.super = {.question = STORE_USAGE}, .limit = 10};

    world_hold_init(w, &op, 2 * USD, -1); /* release */
    doubt.hold = op.id;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(world_do(w, &doubt.super), ERR_OK);
    assert_int_equal(doubt.applied, IN_DOUBT_RELEASE);
    assert_balance(w, false, 10 * USD, 0);
    assert_int_equal(posted(w, LOSS, w->tenant), -1 * USD);
    assert_int_equal(posted(w, PAYABLE, w->channel), 1 * USD);

    world_hold_init(w, &op, 2 * USD, 3 * USD);
    op.rule = IN_DOUBT_CHARGE;
    doubt.hold = op.id;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(world_do(w, &doubt.super), ERR_OK);
    assert_int_equal(doubt.applied, IN_DOUBT_CHARGE);
    assert_balance(w, false, 8 * USD, 0);
    assert_balance(w, true, 2 * USD, 0);

    world_hold_init(w, &op, 2 * USD, -1);
    op.rule = IN_DOUBT_KEEP;
    doubt.hold = op.id;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(world_do(w, &doubt.super), ERR_OK);
    assert_int_equal(doubt.applied, IN_DOUBT_KEEP);
    assert_balance(w, false, 8 * USD, 2 * USD);
    assert_int_equal(sql_number(w->url, "SELECT state FROM holds"), 1);
    assert_int_equal(world_capture(w, op.id, USD, 1 * USD, -1), ERR_OK); /* reconciled by hand */
    assert_balance(w, false, 7 * USD, 0);

    world_ask(w, &q.super);
    assert_int_equal(q.n, 3);
    assert_int_equal(q.items[2].flags, USAGE_IN_DOUBT | USAGE_CLIENT_GONE);
    assert_int_equal(q.items[2].cost, 1 * USD);
    assert_int_equal(q.items[2].wholesale, 0);
    assert_int_equal(q.items[2].duration_ms, 7);
    assert_string_equal(q.items[2].call.model, "dall-e-2");
    assert_int_equal(q.items[1].wholesale, 2 * USD);
    assert_int_equal(q.items[1].retail, 3 * USD);
    assert_int_equal(q.items[0].flags, 0);
}

static void test_mode(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct store_capture capture;

    world_hold_init(w, &op, 0, -1);
    op.call.test = true;
    assert_int_equal(world_do(w, &op.super), ERR_INVALID_VALUE); /* a leg in test mode */
    op.n_legs = 0;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    world_capture_init(&capture, op.id, USD, USD, USD);
    assert_int_equal(world_do(w, &capture.super), ERR_OK);
    assert_int_equal(capture.charged, 0);
    assert_int_equal(capture.usage.wholesale, 0);
    assert_int_equal(capture.usage.flags, USAGE_TEST);
    assert_balance(w, false, 10 * USD, 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM transfers"), 2); /* the two credits */
}

static void credits(void **state)
{
    struct world *w = *state;
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .amount = 2 * USD,
                              .category = CREDIT_PROMOTIONAL,
                              .priority = 10,
                              .note = "hello"};
    struct id id;

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(id_seq(op.grant), sql_number(w->url, "SELECT max(seq) FROM grants"));
    assert_int_equal(posted(w, PROMOTIONAL, w->tenant), -2 * USD);
    assert_balance(w, false, 12 * USD, 0);
    assert_int_equal(world_credit(w, false, -12 * USD - 1), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(world_hold(w, USD, -1, &id), ERR_OK);
    assert_int_equal(world_credit(w, false, -12 * USD), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(world_credit(w, false, -11 * USD), ERR_OK);
    assert_int_equal(world_void(w, id), ERR_OK);
    assert_int_equal(world_credit(w, false, 0), ERR_INVALID_VALUE);
    assert_int_equal(world_credit(w, false, INT64_MAX), ERR_INVALID_VALUE);
    op.tenant_row = 999;
    assert_int_equal(world_do(w, &op.super), ERR_NOT_FOUND);
    for (int i = 0; i < 9; i++) /* until int64 is full: refused, not wrapped */
        assert_int_equal(world_credit(w, false, INT64_C(1000000000000000000)), ERR_OK);
    assert_int_equal(world_credit(w, false, INT64_C(1000000000000000000)), ERR_INVALID_VALUE);
}

static void credit_line(void **state)
{
    struct world *w = *state;
    struct tenant *t = world_tenant("Tenant");
    struct record *r;
    struct err err;
    struct id id;

    t->super.row = w->tenant;
    t->super.version = 1;
    t->credit_limit = 5 * USD;
    assert_int_equal(world_put(w, t, &r, &err), ERR_OK);
    assert_int_equal(world_hold(w, 15 * USD, -1, &id), ERR_OK);
    assert_int_equal(world_capture(w, id, 0, 14 * USD, -1), ERR_OK);
    assert_balance(w, false, -4 * USD, 0);
    assert_int_equal(world_balance(w, false).credit_limit, 5 * USD);
    assert_int_equal(world_hold(w, 1 * USD + 1, -1, &id), ERR_INSUFFICIENT_QUOTA);
    t = world_tenant("Tenant");
    t->super.row = w->tenant;
    t->super.version = 2;
    t->credit_limit = 4 * USD - 1;
    assert_int_equal(world_put(w, t, &r, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "credit_limit");
    t = world_tenant("Tenant");
    t->super.row = w->tenant;
    t->super.version = 2;
    t->credit_limit = 4 * USD;
    assert_int_equal(world_put(w, t, &r, &err), ERR_OK);
    assert_int_equal(world_hold(w, 1, -1, &id), ERR_INSUFFICIENT_QUOTA);
    (void)world_put(w, world_tenant(""), NULL, NULL);
}

static void usage_says_everything(void **state)
{
    struct world *w = *state;
    struct store_hold hold;
    struct store_capture op;
    struct store_usage_query q = {.super = {.question = STORE_USAGE}, .limit = 10};
    const struct usage_record *u = &q.items[0];

    world_hold_init(w, &hold, USD, 2 * USD);
    hold.call.stream = true;
    hold.call.n = 3;
    assert_int_equal(world_do(w, &hold.super), ERR_OK);
    world_capture_init(&op, hold.id, 100, 200, 300);
    op.usage.images = 2;
    op.usage.partial_images = 1;
    op.usage.status = 201;
    op.usage.flags = USAGE_FEWER_IMAGES;
    strcpy(op.usage.call.model, "gpt-image-1");
    op.usage.call.operation = OPERATION_EDITS;
    strcpy(op.usage.call.size, "1024x1024");
    strcpy(op.usage.call.quality, "high");
    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        op.usage.quantities.of[i] = 10 + i;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n, 1);
    assert_false(q.more);
    assert_int_equal(u->seq, op.usage.seq);
    assert_int_equal(u->created_at, op.usage.created_at);
    assert_true(id_eq(u->request, hold.id));
    assert_true(id_eq(u->tenant_id, w->tenant_id));
    assert_true(id_eq(u->customer_id, w->customer_id));
    assert_string_equal(u->channel_name, "Channel");
    assert_string_equal(u->call.model, "gpt-image-1");
    assert_string_equal(u->call.size, "1024x1024");
    assert_string_equal(u->call.quality, "high");
    assert_int_equal(u->call.operation, OPERATION_EDITS);
    assert_int_equal(u->call.n, 3);
    assert_int_equal(u->call.key_row, w->customer_key);
    assert_int_equal(u->call.channel_row, w->channel);
    assert_true(u->call.stream);
    assert_int_equal(u->images, 2);
    assert_int_equal(u->partial_images, 1);
    assert_int_equal(u->status, 201);
    assert_int_equal(u->flags, USAGE_FEWER_IMAGES);
    assert_int_equal(u->cost, 100);
    assert_int_equal(u->wholesale, 200);
    assert_int_equal(u->retail, 300);
    assert_int_equal(u->duration_ms, 12000);
    assert_int_equal(u->upstream_ms, 11998);
    assert_string_equal(u->upstream_request_id, "req_00112233445566778899aabbccddeeff");
    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        assert_int_equal(u->quantities.of[i], 10 + i);
    assert_int_equal(sql_number(w->url, "SELECT images FROM rollups"), 2);
    assert_int_equal(sql_number(w->url, "SELECT retail FROM rollups"), 300);
}

static void usage_filters_and_pages(void **state)
{
    struct world *w = *state;
    struct store_usage_query q = {.super = {.question = STORE_USAGE}, .limit = 10};
    struct id id;
    int seen = 0;

    for (int i = 0; i < 25; i++) {
        assert_int_equal(world_hold(w, 100, i % 5 == 0 ? 100 : -1, &id), ERR_OK);
        assert_int_equal(world_capture(w, id, 1, 2, 3), ERR_OK);
    }
    q.filter.tenants = (struct filter_rows){1, {w->tenant}};
    do {
        world_ask(w, &q.super);
        assert_int_equal(q.super.err.code, ERR_OK);
        for (int i = 1; i < q.n; i++)
            assert_true(q.items[i].seq < q.items[i - 1].seq);
        seen += q.n;
        q.after_seq = q.items[q.n - 1].seq;
    } while (q.more);
    assert_int_equal(seen, 25);
    q.after_seq = 0;
    q.filter.keys = (struct filter_rows){1, {w->customer_key}};
    world_ask(w, &q.super);
    assert_int_equal(q.n, 5);
    assert_false(q.more);
    q.filter.keys.n = 0;
    q.filter.tenants.rows[0] = 999;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 0);
    q.filter.tenants.n = 0;
    q.filter.models.n = 1;
    strcpy(q.filter.models.names[0], "dall-e-3");
    world_ask(w, &q.super);
    assert_int_equal(q.n, 0);
    q.limit = 0;
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_INVALID_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hold_and_capture, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(both_wallets, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(all_legs_or_none, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(bad_holds, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(ends_once, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(same_batch, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(overage, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(overage_of_the_customer, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(in_doubt, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(test_mode, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(credits, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(credit_line, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(usage_says_everything, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(usage_filters_and_pages, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
