/* test_questions.c - answers about money: ledgers, grants, holds, charts of accounts, balances of the past, and what
 * the writer looks up: sums of a window, charges to be refunded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "db/engine.h"
#include "lib_sql.h"
#include "lib_world.h"

#define HOUR (3600 * CLOCK_SECOND)
#define DAY (24 * HOUR)
#define START (INT64_C(1800000000) * CLOCK_SECOND) /* a whole hour */

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    clock_freeze(START, 0);
    world_init(w);
    world_open(w);
    world_fill(w, 1000, 500);
    *state = w;
    return 0;
}

/* ---- what happens ---- */

static struct usage_record spend(struct world *w, int64_t at, int64_t wholesale, int64_t retail)
{
    struct store_capture op;
    struct id id;

    clock_freeze(at, 0);
    assert_int_equal(world_hold(w, wholesale, retail, &id), ERR_OK);
    world_capture_init(&op, id, 1, wholesale, retail);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.usage;
}

static struct id grant(struct world *w, bool customer, int64_t amount, int64_t expires_at, int priority,
                       const char *note)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .customer_row = customer ? w->customer : 0,
                              .amount = amount,
                              .category = CREDIT_PROMOTIONAL,
                              .expires_at = expires_at,
                              .priority = priority};

    assert_true(slice_copy(slice_from(note), op.note, sizeof(op.note)));
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.grant;
}

static struct store_grant withdraw(struct world *w, struct id id, const char *note)
{
    struct store_withdraw op = {.super = {.kind = STORE_WITHDRAW}, .seq = id_seq(id)};

    assert_true(slice_copy(slice_from(note), op.note, sizeof(op.note)));
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return op.grant;
}

static void refund(struct world *w, int64_t seq, int64_t amount, const char *reason)
{
    struct store_refund op = {.super = {.kind = STORE_REFUND}, .seq = seq, .amount = amount};

    assert_true(slice_copy(slice_from(reason), op.reason, sizeof(op.reason)));
    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static void set_credit_limit(struct world *w, int64_t limit)
{
    struct store_list q = {.super = {.question = STORE_GET}, .kind = RECORD_TENANT, .id = w->tenant_id};
    struct tenant *t = world_tenant("Tenant");

    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    t->super.row = q.items[0]->row;
    t->super.version = q.items[0]->version;
    t->super.id = q.items[0]->id;
    t->credit_limit = limit;
    record_unref(q.items[0]);
    assert_int_equal(world_put(w, t, NULL, NULL), ERR_OK);
}

/* ---- the ledger ---- */

static struct store_ledger_query *ask_rows(struct world *w, int64_t tenant, int64_t customer, int64_t after, int limit)
{
    static struct store_ledger_query q;

    memset(&q, 0, sizeof(q));
    q.super.question = STORE_LEDGER;
    q.tenant_row = tenant;
    q.customer_row = customer;
    q.after = after;
    q.limit = limit;
    world_ask(w, &q.super);
    return &q;
}

static struct store_ledger_query *ask_ledger(struct world *w, bool customer, int64_t after, int limit)
{
    return ask_rows(w, w->tenant, customer ? w->customer : 0, after, limit);
}

/* The whole ledger, in pages of every size; returns how many transfers there are. They add up to the balance. */
static int read_ledger(struct world *w, bool customer, struct store_transfer *out, int cap)
{
    static struct store_transfer again[STORE_PAGE];
    const struct store_ledger_query *q = ask_ledger(w, customer, 0, STORE_PAGE);
    int64_t sum = 0;
    int n = q->n;

    assert_int_equal(q->super.err.code, ERR_OK);
    assert_false(q->more);
    assert_true(n <= cap);
    memcpy(out, q->items, (size_t)n * sizeof(out[0]));
    for (int i = 0; i < n; i++) {
        assert_true(i == 0 || out[i].number < out[i - 1].number);
        sum += out[i].amount;
    }
    assert_int_equal(sum, world_balance(w, customer).posted);
    for (int limit = 1; limit <= n; limit++) {
        int got = 0;
        bool more = true;

        for (int64_t after = 0; more; after = again[got - 1].number) {
            q = ask_ledger(w, customer, after, limit);
            assert_int_equal(q->super.err.code, ERR_OK);
            assert_true(q->n > 0 && (q->n == limit || !q->more) && got + q->n <= n);
            memcpy(&again[got], q->items, (size_t)q->n * sizeof(again[0]));
            got += q->n;
            more = q->more;
        }
        assert_int_equal(got, n);
        assert_memory_equal(again, out, (size_t)n * sizeof(out[0]));
    }
    return n;
}

static void expect(const struct store_transfer *t, const char *kind, int64_t amount, int64_t at,
                   const struct usage_record *usage, struct id lot, const char *note)
{
    struct id none = {{0}};

    assert_string_equal(t->kind, kind);
    assert_int_equal(t->amount, amount);
    assert_int_equal(t->created_at, at);
    assert_true(id_eq(t->usage, usage != NULL ? id_from_seq(usage->created_at, usage->seq) : none));
    assert_true(id_eq(t->request, usage != NULL ? usage->request : none));
    assert_true(id_eq(t->grant, lot));
    assert_string_equal(t->note, note);
}

static struct id newest_grant(struct world *w, bool customer)
{
    struct store_grants_query q = {.super = {.question = STORE_GRANTS},
                                   .tenant_row = w->tenant,
                                   .customer_row = customer ? w->customer : 0,
                                   .limit = 1};

    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    return id_from_seq(q.items[0].created_at, q.items[0].seq);
}

static void ledger_of_tenant(void **state)
{
    struct world *w = *state;
    struct id first = newest_grant(w, false), second, none = {{0}}, voided;
    struct store_transfer t[STORE_PAGE];
    struct usage_record a, b;
    int n, i = 0;

    a = spend(w, START + HOUR, 100, -1);
    second = grant(w, false, 50, START + 10 * HOUR, 0, "welcome"); /* used before the first: it expires */
    b = spend(w, START + 2 * HOUR, 80, 60);                        /* 50 of the second, 30 of the first */
    assert_int_equal(world_hold(w, 5, -1, &voided), ERR_OK);
    assert_int_equal(world_void(w, voided), ERR_OK);
    clock_freeze(START + 3 * HOUR, 0);
    assert_int_equal(world_credit(w, false, -20), ERR_OK);
    refund(w, b.seq, 45, "too dark"); /* three quarters: 60 of 80, the last part first */
    n = read_ledger(w, false, t, STORE_PAGE);
    assert_int_equal(n, 8);
    expect(&t[i++], "refund", 30, START + 3 * HOUR, &b, second, "too dark");
    expect(&t[i++], "refund", 30, START + 3 * HOUR, &b, first, "too dark");
    expect(&t[i++], "adjustment", -20, START + 3 * HOUR, NULL, first, "");
    expect(&t[i++], "charge", -30, START + 2 * HOUR, &b, first, "");
    expect(&t[i++], "charge", -50, START + 2 * HOUR, &b, second, "");
    expect(&t[i++], "credit", 50, START + HOUR, NULL, second, "welcome");
    expect(&t[i++], "charge", -100, START + HOUR, &a, first, "");
    expect(&t[i++], "credit", 1000, START, NULL, first, "");
    n = read_ledger(w, true, t, STORE_PAGE);
    assert_int_equal(n, 3);
    expect(&t[0], "refund", 45, START + 3 * HOUR, &b, newest_grant(w, true), "too dark");
    expect(&t[1], "retail_charge", -60, START + 2 * HOUR, &b, newest_grant(w, true), "");
    expect(&t[2], "credit", 500, START, NULL, newest_grant(w, true), "");
    assert_false(id_eq(first, none));
}

/* The credit line, lots that lapse or are withdrawn, settlements. */
static void ledger_of_debts(void **state)
{
    struct world *w = *state;
    struct id first = newest_grant(w, false), late, none = {{0}};
    struct store_transfer t[STORE_PAGE];
    struct usage_record a;
    int i = 0;

    set_credit_limit(w, 300);
    a = spend(w, START + HOUR, 1200, -1);
    clock_freeze(START + 2 * HOUR, 0);
    (void)grant(w, false, 500, START + 4 * HOUR, 0, "rescue"); /* 200 of it are owed */
    late = grant(w, false, 70, 0, 90, "late");
    clock_freeze(START + 5 * HOUR, 0);
    (void)spend(w, START + 5 * HOUR, 10, -1); /* by then the 300 have lapsed */
    assert_int_equal(withdraw(w, late, "a mistake").remaining, 0);
    assert_int_equal(read_ledger(w, false, t, STORE_PAGE), 9);
    expect(&t[i++], "withdrawal", -60, START + 5 * HOUR, NULL, late, "a mistake");
    assert_string_equal(t[i].kind, "charge");
    assert_int_equal(t[i++].amount, -10);
    assert_string_equal(t[i].kind, "lapse");
    assert_int_equal(t[i].amount, -300);
    assert_int_equal(t[i++].created_at, START + 5 * HOUR);
    expect(&t[i++], "credit", 70, START + 2 * HOUR, NULL, late, "late");
    assert_string_equal(t[i].kind, "settlement");
    assert_false(id_eq(t[i].grant, none));
    assert_int_equal(t[i++].amount, 0);
    assert_string_equal(t[i].kind, "credit");
    assert_int_equal(t[i++].amount, 500);
    expect(&t[i++], "charge", -200, START + HOUR, &a, none, "");
    expect(&t[i++], "charge", -1000, START + HOUR, &a, first, "");
    expect(&t[i++], "credit", 1000, START, NULL, first, "");
    assert_int_equal(world_balance(w, false).posted, 0);
}

static void ledger_refusals(void **state)
{
    struct world *w = *state;

    assert_int_equal(ask_ledger(w, false, 0, 0)->super.err.code, ERR_INVALID_VALUE);
    assert_int_equal(ask_ledger(w, false, 0, STORE_PAGE + 1)->super.err.code, ERR_INVALID_VALUE);
    assert_int_equal(ask_ledger(w, false, 1, 10)->n, 0);
    assert_int_equal(ask_ledger(w, false, -1, 10)->n, 0);
    assert_int_equal(ask_rows(w, w->tenant, 99, 0, 10)->super.err.code, ERR_NOT_FOUND);
    assert_int_equal(ask_rows(w, 99, 0, 0, 10)->super.err.code, ERR_NOT_FOUND);
    /* There is another tenant; the customer is not its. */
    assert_int_equal(ask_rows(w, w->tenant + 1, w->customer, 0, 10)->super.err.code, ERR_NOT_FOUND);
    assert_int_equal(ask_rows(w, w->tenant + 1, 0, 0, 10)->super.err.code, ERR_OK);
    assert_int_equal(ask_rows(w, 0, w->customer, 0, 10)->n, 1);
}

/* A customer's own transfers among many of others. */
static void ledger_in_slices(void **state)
{
    struct world *w = *state;
    const struct store_ledger_query *q;
    struct usage_record a = spend(w, START, 1, 1);

    world_close(w);
    sql_exec(
        w->url,
        "CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)"
        " SELECT i FROM n;"
        "INSERT INTO usage SELECT i, randomblob(16), tenant, 0, (SELECT min(row) FROM keys), channel, item, n,"
        " images, partial_images, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, NULL, created_ms"
        " FROM n, (SELECT * FROM usage LIMIT 1);"
        "DELETE FROM rollups;"
        "INSERT INTO rollups SELECT created_ms / 900000, tenant, created_ms / 60000 % 15, customer, key, item, channel,"
        " count(*), sum(images),"
        " sum(text_input_tokens), 0, 0, 0, sum(image_output_tokens), 0, sum(cost), sum(wholesale),"
        " sum(coalesce(retail, wholesale)), 0 FROM usage GROUP BY 1, 2, 3, 4, 5, 6, 7");
    world_open(w);
    q = ask_ledger(w, true, 0, 1);
    assert_int_equal(q->n, 1);
    assert_true(q->more);
    expect(&q->items[0], "retail_charge", -1, START, &a, newest_grant(w, true), "");
    q = ask_ledger(w, true, q->items[0].number, 1);
    assert_int_equal(q->n, 1);
    assert_false(q->more);
    assert_string_equal(q->items[0].kind, "credit");
}

/* ---- grants ---- */

static void grants(void **state)
{
    struct world *w = *state;
    struct store_grants_query q = {
        .super = {.question = STORE_GRANTS}, .tenant_row = w->tenant, .customer_row = w->customer, .limit = 2};
    struct id ids[5];
    int64_t last;

    for (int i = 0; i < 5; i++)
        ids[i] = grant(w, true, 100 + i, START + (i + 1) * HOUR, i, "gift");
    (void)spend(w, START + 1, 10, 30);
    assert_int_equal(withdraw(w, ids[2], "").remaining, 0);
    clock_freeze(START + HOUR, 0);
    assert_int_equal(world_credit(w, false, 1), ERR_OK); /* a batch: the first lapses */
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n, 2);
    assert_true(q.more);
    assert_int_equal(q.items[0].seq, id_seq(ids[4]));
    assert_int_equal(q.items[0].amount, 104);
    assert_int_equal(q.items[0].remaining, 104);
    assert_int_equal(q.items[0].category, CREDIT_PROMOTIONAL);
    assert_int_equal(q.items[0].status, GRANT_LIVE);
    assert_int_equal(q.items[0].expires_at, START + 5 * HOUR);
    assert_int_equal(q.items[0].priority, 4);
    assert_int_equal(q.items[0].created_at, START);
    assert_string_equal(q.items[0].note, "gift");
    assert_int_equal(q.items[0].tenant_row, w->tenant);
    assert_int_equal(q.items[0].customer_row, w->customer);
    assert_true(id_eq(q.items[0].tenant_id, w->tenant_id));
    assert_true(id_eq(q.items[0].customer_id, w->customer_id));
    q.after = q.items[1].seq;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 2);
    assert_int_equal(q.items[0].status, GRANT_WITHDRAWN);
    assert_int_equal(q.items[0].remaining, 0);
    assert_int_equal(q.items[1].seq, id_seq(ids[1]));
    q.after = q.items[1].seq;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 2);
    assert_false(q.more);
    assert_int_equal(q.items[0].status, GRANT_LAPSED);
    assert_int_equal(q.items[0].remaining, 0);
    assert_int_equal(q.items[0].amount, 100);
    assert_int_equal(q.items[1].category, CREDIT_PAID);
    assert_int_equal(q.items[1].expires_at, 0);
    last = q.items[1].seq;
    q.after = last;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 0);
    assert_int_equal(sql_number(w->url, "SELECT sum(amount) FROM entries WHERE kind = 2"), 70);
}

static enum err_code find_grant(struct world *w, int64_t tenant, int64_t customer, int64_t seq, struct store_grant *out)
{
    struct store_grants_query q = {
        .super = {.question = STORE_GRANTS}, .tenant_row = tenant, .customer_row = customer, .seq = seq};

    world_ask(w, &q.super);
    assert_int_equal(q.n, q.super.err.code == ERR_OK);
    if (q.n == 1)
        *out = q.items[0];
    return q.super.err.code;
}

static void one_grant(void **state)
{
    struct world *w = *state;
    int64_t own = id_seq(newest_grant(w, false)), customers = id_seq(newest_grant(w, true));
    struct store_grant g;
    struct id none = {{0}};

    assert_int_equal(find_grant(w, w->tenant, 0, own, &g), ERR_OK);
    assert_int_equal(g.seq, own);
    assert_int_equal(g.amount, 1000);
    assert_int_equal(g.customer_row, 0);
    assert_true(id_eq(g.tenant_id, w->tenant_id));
    assert_true(id_eq(g.customer_id, none));
    assert_int_equal(find_grant(w, 0, 0, customers, &g), ERR_OK);
    assert_int_equal(g.tenant_row, w->tenant);
    assert_int_equal(g.customer_row, w->customer);
    assert_int_equal(find_grant(w, w->tenant, 0, customers, &g), ERR_OK);
    assert_int_equal(find_grant(w, w->tenant + 1, 0, customers, &g), ERR_NOT_FOUND);
    assert_int_equal(find_grant(w, w->tenant, w->customer, own, &g), ERR_NOT_FOUND);
    assert_int_equal(find_grant(w, 0, 0, 12345, &g), ERR_NOT_FOUND);
}

/* ---- holds ---- */

static void ask_holds(struct world *w, struct store_holds_query *q, struct id after)
{
    q->super.question = STORE_HOLDS;
    q->after = after;
    world_ask(w, &q->super);
    assert_int_equal(q->super.err.code, ERR_OK);
}

static void holds(void **state)
{
    struct world *w = *state;
    static struct store_holds_query q;
    struct store_hold op;
    struct id ids[4], none = {{0}};

    memset(&q, 0, sizeof(q));
    for (int i = 0; i < 4; i++) {
        world_hold_init(w, &op, 10 + i, i == 3 ? 7 : -1);
        op.rule = IN_DOUBT_KEEP;
        op.created_at = START + i;
        op.call.stream = i == 1;
        ids[i] = op.id;
        assert_int_equal(world_do(w, &op.super), ERR_OK);
    }
    assert_int_equal(world_doubt(w, ids[1]), ERR_OK);
    q.state = -1;
    q.limit = 3;
    ask_holds(w, &q, none);
    assert_int_equal(q.n, 3);
    assert_true(q.more);
    assert_true(id_eq(q.items[0].id, ids[3]) && id_eq(q.items[1].id, ids[2]) && id_eq(q.items[2].id, ids[1]));
    assert_int_equal(q.items[0].state, HOLD_OPEN);
    assert_int_equal(q.items[0].n_legs, 2);
    assert_int_equal(q.items[0].legs[0], 13);
    assert_int_equal(q.items[0].legs[1], 7);
    assert_int_equal(q.items[0].cost_max, 6);
    assert_int_equal(q.items[0].wholesale_max, 13);
    assert_int_equal(q.items[0].retail_max, 7);
    assert_int_equal(q.items[0].rule, IN_DOUBT_KEEP);
    assert_int_equal(q.items[0].created_at, START + 3);
    assert_int_equal(q.items[0].call.key_row, w->customer_key);
    assert_string_equal(q.items[0].call.model, "dall-e-2");
    assert_string_equal(q.items[0].call.size, "256x256");
    assert_int_equal(q.items[0].call.operation, OPERATION_GENERATIONS);
    assert_int_equal(q.items[0].call.n, 1);
    assert_true(id_eq(q.items[0].tenant_id, w->tenant_id));
    assert_true(id_eq(q.items[0].customer_id, w->customer_id));
    assert_false(id_is_zero(q.items[0].key_id));
    assert_false(id_is_zero(q.items[0].channel_id));
    assert_true(id_is_zero(q.items[1].customer_id));
    assert_true(q.items[2].call.stream && !q.items[1].call.stream && !q.items[2].call.test);
    ask_holds(w, &q, q.items[2].id);
    assert_int_equal(q.n, 1);
    assert_false(q.more);
    assert_true(id_eq(q.items[0].id, ids[0]));
    q.state = HOLD_IN_DOUBT;
    ask_holds(w, &q, none);
    assert_int_equal(q.n, 1);
    assert_true(id_eq(q.items[0].id, ids[1]));
    assert_int_equal(q.items[0].state, HOLD_IN_DOUBT);
    q.state = HOLD_OPEN;
    q.tenant_row = w->tenant;
    ask_holds(w, &q, none);
    assert_int_equal(q.n, 3);
    assert_false(q.more);
    q.tenant_row++;
    ask_holds(w, &q, none);
    assert_int_equal(q.n, 0);
    q.only_id = ids[2];
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_NOT_FOUND); /* another tenant's */
    q.tenant_row = 0;
    ask_holds(w, &q, none);
    assert_int_equal(q.n, 1);
    assert_true(id_eq(q.items[0].id, ids[2]));
    assert_int_equal(world_void(w, ids[2]), ERR_OK);
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_NOT_FOUND);
    q.only_id = none;
    q.limit = 0;
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_INVALID_VALUE);
}

/* ---- accounts ---- */

static int64_t account(const struct store_accounts_query *q, const char *name, int64_t *held)
{
    for (int i = 0; i < q->n; i++)
        if (strcmp(q->items[i].name, name) == 0) {
            *held = q->items[i].held;
            return q->items[i].posted;
        }
    return INT64_MIN;
}

static void accounts(void **state)
{
    struct world *w = *state;
    struct store_accounts_query q = {.super = {.question = STORE_ACCOUNTS}, .tenant_row = w->tenant};
    int64_t held = 0;
    struct id id;

    (void)grant(w, false, 60, START + HOUR, 0, "");
    (void)spend(w, START + 1, 10, 30);
    assert_int_equal(world_hold(w, 5, 6, &id), ERR_OK);
    clock_freeze(START + 2 * HOUR, 0);
    assert_int_equal(world_credit(w, false, 1), ERR_OK); /* 50 - 5 lapse */
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(account(&q, "wallet", &held), 1000 + 60 - 10 - 45 + 1);
    assert_int_equal(held, 5);
    assert_int_equal(account(&q, "revenue", &held), 10);
    assert_int_equal(held, -5);
    assert_int_equal(account(&q, "external", &held), -1001);
    assert_int_equal(account(&q, "promotional", &held), -60);
    assert_int_equal(account(&q, "lapsed", &held), 45);
    assert_int_equal(account(&q, "cost", &held), -1);
    assert_int_equal(account(&q, "loss", &held), INT64_MIN);
    assert_int_equal(account(&q, "receivable", &held), INT64_MIN);
    q.customer_row = w->customer;
    world_ask(w, &q.super);
    assert_int_equal(account(&q, "wallet", &held), 470);
    assert_int_equal(held, 6);
    assert_int_equal(account(&q, "revenue", &held), 30);
    assert_int_equal(account(&q, "external", &held), -500);
    assert_int_equal(q.n, 3);
    q.tenant_row++;
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_NOT_FOUND);
    assert_int_equal(q.n, 0);
    assert_int_equal(world_void(w, id), ERR_OK); /* the 5 lapse too */
    q.tenant_row = w->tenant;
    q.customer_row = 0;
    world_ask(w, &q.super);
    assert_int_equal(account(&q, "lapsed", &held), 50);
}

/* ---- balances ---- */

static struct store_balance balance_at(struct world *w, bool customer, int64_t at)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                    .tenant_row = w->tenant,
                                    .customer_row = customer ? w->customer : 0,
                                    .at = at};

    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    return q.balance;
}

/* Every kind of event, a day each; the balance of each evening is what was said that evening. */
static void balances_then(void **state)
{
    struct world *w = *state;
    enum { DAYS = 9 };
    struct store_balance then[DAYS][2], b;
    struct usage_record over = {.seq = 0};
    struct id lot = {{0}}, id;
    struct store_capture capture;

    for (int day = 0; day < DAYS; day++) {
        clock_freeze(START + day * DAY, 0);
        if (day == 1)
            lot = grant(w, false, 400, START + 6 * DAY, 0, "");
        else if (day == 2)
            over = spend(w, START + day * DAY, 300, 200);
        else if (day == 3)
            assert_int_equal(world_credit(w, true, -50), ERR_OK);
        else if (day == 4)
            refund(w, over.seq, 100, "half");
        else if (day == 5) { /* more than the customer's wallet has: 350 of 400 */
            assert_int_equal(world_hold(w, 10, 10, &id), ERR_OK);
            world_capture_init(&capture, id, 1, 10, 400);
            assert_int_equal(world_do(w, &capture.super), ERR_OK);
            over = capture.usage;
        } else if (day == 6) /* what is left of the lot lapses: 240 */
            assert_int_equal(world_credit(w, true, 7), ERR_OK);
        else if (day == 7)
            refund(w, over.seq, 60, "what was owed, and 10");
        else if (day == 8)
            (void)withdraw(w, newest_grant(w, true), "");
        for (int i = 0; i < 2; i++)
            then[day][i] = world_balance(w, i == 1);
    }
    assert_int_equal(then[1][0].posted, 1400);
    assert_int_equal(then[2][0].posted, 1100);
    assert_int_equal(then[4][0].posted, 1250);
    assert_int_equal(then[4][1].posted, 350);
    assert_int_equal(then[5][1].posted, 0);
    assert_int_equal(then[5][1].receivable, 50);
    assert_int_equal(then[6][0].posted, 1000);
    assert_int_equal(then[7][1].receivable, 0);
    assert_int_equal(then[7][1].posted, 17);
    assert_int_equal(then[8][1].posted, 10);
    assert_int_equal(id_seq(lot), 3);
    for (int day = 0; day < DAYS; day++)
        for (int i = 0; i < 2; i++)
            for (int64_t at = START + day * DAY; at < START + (day + 1) * DAY; at += DAY - 1) {
                b = balance_at(w, i == 1, at);
                assert_int_equal(b.posted, then[day][i].posted);
                assert_int_equal(b.receivable, then[day][i].receivable);
                assert_int_equal(b.held, 0);
            }
    assert_int_equal(balance_at(w, false, START - 1).posted, 0);
    assert_int_equal(balance_at(w, true, START - 1).posted, 0);
}

/* Lists say what is owed too. */
static void balance_in_lists(void **state)
{
    struct world *w = *state;
    struct store_list q = {.super = {.question = STORE_GET}, .kind = RECORD_CUSTOMER, .id = w->customer_id};
    struct id id;

    assert_int_equal(world_hold(w, 1, 1, &id), ERR_OK);
    assert_int_equal(world_capture(w, id, 1, 1, 700), ERR_OK);
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_int_equal(q.balances[0].posted, 0);
    assert_int_equal(q.balances[0].receivable, 200);
    assert_true(id_eq(q.tenant_ids[0], w->tenant_id));
    record_unref(q.items[0]);
}

/* ---- one usage record ---- */

static int find_usage(struct world *w, struct store_usage_query *q, int64_t seq)
{
    q->super.question = STORE_USAGE;
    q->seq = seq;
    q->scanned = 0;
    world_ask(w, &q->super);
    assert_int_equal(q->super.err.code, ERR_OK);
    assert_false(q->more);
    return q->n;
}

static void one_record(void **state)
{
    struct world *w = *state;
    static struct store_usage_query q;
    struct usage_record a = spend(w, START, 10, -1), b = spend(w, START, 20, 30);

    memset(&q, 0, sizeof(q));
    assert_int_equal(find_usage(w, &q, a.seq), 1);
    assert_int_equal(q.items[0].wholesale, 10);
    assert_true(id_eq(q.items[0].request, a.request));
    q.filter.tenants = (struct filter_rows){1, {w->tenant}};
    assert_int_equal(find_usage(w, &q, b.seq), 1);
    assert_int_equal(q.items[0].retail, 30);
    assert_true(id_eq(q.items[0].customer_id, w->customer_id));
    q.filter.tenants.rows[0]++;
    assert_int_equal(find_usage(w, &q, b.seq), 0);
    q.filter.tenants.n = 0;
    assert_int_equal(find_usage(w, &q, b.seq + 1), 0);
}

/* ---- what the writer looks up ---- */

/* The store's engine, without the store. */
static struct engine *open_engine(struct world *w)
{
    struct engine *e = NULL;
    struct err err;
    int applied;

    world_close(w);
    assert_int_equal(engine_open(w->url, w->secrets, &e, &err), ERR_OK);
    assert_int_equal(e->class->migrate(e, false, &applied, &err), ERR_OK);
    assert_int_equal(e->class->begin(e, &err), ERR_OK);
    return e;
}

static void close_engine(struct engine *e)
{
    e->class->rollback(e);
    e->class->close(e, true);
}

static int64_t spent_by_hand(struct world *w, const struct budget_owner *owner, int64_t from, int64_t to)
{
    static const char *const columns[BUDGET_OWNERS] = {"tenant", "customer", "key"};
    char sql[512];

    snprintf(sql, sizeof(sql),
             "SELECT coalesce(sum(%s), 0) FROM usage WHERE %s = %lld AND created_ms * 1000 >= %lld"
             " AND created_ms * 1000 < %lld",
             owner->retail ? "coalesce(retail, wholesale)" : "wholesale", columns[owner->kind], (long long)owner->row,
             (long long)from, (long long)to);
    return sql_number(w->url, sql);
}

/* Asks for every window between some edges, for every kind of owner, and compares with the records. */
static void compare_spent(struct world *w, const int64_t *edges, int n)
{
    const struct budget_owner owners[] = {{BUDGET_TENANT, w->tenant, w->tenant, false},
                                          {BUDGET_CUSTOMER, w->customer, w->tenant, true},
                                          {BUDGET_KEY, w->key, w->tenant, false},
                                          {BUDGET_KEY, w->customer_key, w->tenant, true},
                                          {BUDGET_CUSTOMER, 77, w->tenant, true}};
    struct engine *e = open_engine(w);
    struct err err;

    for (size_t o = 0; o < sizeof(owners) / sizeof(owners[0]); o++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                int64_t sum = -1;

                assert_int_equal(e->class->spent(e, &owners[o], edges[i], edges[j], &sum, &err), ERR_OK);
                assert_int_equal(sum, edges[i] < edges[j] ? spent_by_hand(w, &owners[o], edges[i], edges[j]) : 0);
            }
    close_engine(e);
    world_open(w);
}

static void spent_in_windows(void **state)
{
    struct world *w = *state;
    const int64_t edges[] = {0,
                             START - HOUR,
                             START,
                             START + 1,
                             START + 10 * CLOCK_SECOND,
                             START + HOUR - 1,
                             START + HOUR - 1000,
                             START + HOUR,
                             START + HOUR + 999,
                             START + 2 * HOUR + 1800 * CLOCK_SECOND,
                             START + 5 * HOUR - 1,
                             START + 5 * HOUR,
                             START + 5 * HOUR + 1000,
                             START + 100 * DAY,
                             INT64_MAX};

    spend(w, START, 1, -1);
    spend(w, START + 1000, 2, 3);
    spend(w, START + 10 * CLOCK_SECOND, 4, 7);
    spend(w, START + HOUR - 1000, 8, 11);
    spend(w, START + HOUR, 16, -1);
    spend(w, START + 2 * HOUR + 1800 * CLOCK_SECOND, 32, 41);
    spend(w, START + 5 * HOUR - 1000, 64, 83);
    spend(w, START + 5 * HOUR, 128, -1);
    spend(w, START + 5 * HOUR + 1000, 256, 97);
    compare_spent(w, edges, (int)(sizeof(edges) / sizeof(edges[0])));
}

/* The clock falls back, once, and then more often than there are ranges. */
static void spent_under_steps(void **state)
{
    struct world *w = *state;
    const int64_t edges[] = {START - 80 * HOUR - 1,
                             START - 80 * HOUR,
                             START - 70 * HOUR + 5 * CLOCK_SECOND,
                             START - 3 * HOUR + 30 * 60 * CLOCK_SECOND,
                             START - HOUR,
                             START + 5 * CLOCK_SECOND,
                             START + 6 * CLOCK_SECOND,
                             START + 3 * HOUR,
                             INT64_MAX};

    for (int i = 0; i < 10; i++)
        spend(w, START + i * CLOCK_SECOND, i + 1, i % 2 == 0 ? 2 * i : -1);
    for (int i = 0; i < 10; i++)
        spend(w, START - HOUR + i * 700 * CLOCK_SECOND, 3 * i, -1);
    compare_spent(w, edges, (int)(sizeof(edges) / sizeof(edges[0])));
    for (int i = 0; i < 80; i++)
        spend(w, START - i * HOUR + 1800 * CLOCK_SECOND, 1, i % 3 == 0 ? 2 : -1);
    assert_true(sql_number(w->url, "SELECT count(*) FROM clock_steps") > 64);
    compare_spent(w, edges, (int)(sizeof(edges) / sizeof(edges[0])));
}

/* Sums that no number holds stop at the greatest. */
static void spent_without_bounds(void **state)
{
    struct world *w = *state;
    const struct budget_owner tenant = {BUDGET_TENANT, w->tenant, w->tenant, false};
    struct engine *e = open_engine(w);
    int64_t sum = 0;
    struct err err;

    close_engine(e);
    sql_exec(
        w->url,
        "CREATE TABLE kept AS SELECT * FROM rollups;"
        "INSERT INTO rollups SELECT 2100000, 1, 0, 0, i, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 9000000000000000000, 0, 0"
        " FROM (SELECT 1 AS i UNION ALL SELECT 2)");
    e = open_engine(w);
    assert_int_equal(e->class->spent(e, &tenant, 0, INT64_MAX, &sum, &err), ERR_OK);
    assert_true(sum == INT64_MAX);
    close_engine(e);
    sql_exec(w->url, "DELETE FROM rollups; INSERT INTO rollups SELECT * FROM kept; DROP TABLE kept");
    world_open(w);
}

static void charges(void **state)
{
    struct world *w = *state;
    static struct charge charge;
    struct usage_record one, two;
    struct store_grant g;
    struct id lot, none = {{0}};
    struct engine *e;
    struct err err;

    lot = grant(w, false, 50, 0, 0, "small");
    one = spend(w, START, 80, -1);
    two = spend(w, START + HOUR, 90, 45);
    refund(w, two.seq, 10, "");
    refund(w, two.seq, 5, "");
    e = open_engine(w);
    assert_int_equal(e->class->find_charge(e, one.seq, &charge, &err), ERR_OK);
    assert_int_equal(charge.usage.seq, one.seq);
    assert_int_equal(charge.usage.wholesale, 80);
    assert_true(id_eq(charge.usage.request, one.request));
    assert_true(id_eq(charge.usage.tenant_id, w->tenant_id));
    assert_int_equal(charge.item, 1);
    assert_int_equal(charge.n_legs, 1);
    assert_int_equal(charge.refunded[0], 0);
    assert_int_equal(charge.n, 2); /* the cost is none of it */
    assert_int_equal(charge.transfers[0].number, one.seq * EVENT_TRANSFERS);
    assert_int_equal(charge.transfers[0].lot, id_seq(lot));
    assert_int_equal(charge.transfers[0].amount, 50);
    assert_int_equal(charge.transfers[0].kind, TRANSFER_CHARGE);
    assert_int_equal(charge.transfers[0].debit, account_number(ACCOUNT_TENANT_WALLET, w->tenant));
    assert_int_equal(charge.transfers[0].credit, account_number(ACCOUNT_TENANT_REVENUE, w->tenant));
    assert_int_equal(charge.transfers[1].amount, 30);
    assert_int_equal(e->class->find_charge(e, two.seq, &charge, &err), ERR_OK);
    assert_int_equal(charge.n_legs, 2);
    assert_int_equal(charge.n, 2);
    assert_int_equal(charge.transfers[1].kind, TRANSFER_RETAIL_CHARGE);
    assert_int_equal(charge.refunded[0], 30);
    assert_int_equal(charge.refunded[1], 15);
    assert_int_equal(charge.usage.refunded, 15);
    assert_int_equal(e->class->find_charge(e, 12345, &charge, &err), ERR_NOT_FOUND);
    assert_int_equal(e->class->find_grant(e, id_seq(lot), &g, &err), ERR_OK);
    assert_int_equal(g.amount, 50);
    assert_int_equal(g.remaining, 0);
    assert_int_equal(g.tenant_row, w->tenant);
    assert_true(id_eq(g.tenant_id, none));
    assert_int_equal(e->class->find_grant(e, one.seq, &g, &err), ERR_NOT_FOUND);
    close_engine(e);
    world_open(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ledger_of_tenant),
        TEST(ledger_of_debts),
        TEST(ledger_refusals),
        TEST(ledger_in_slices),
        TEST(grants),
        TEST(one_grant),
        TEST(holds),
        TEST(accounts),
        TEST(balances_then),
        TEST(balance_in_lists),
        TEST(one_record),
        TEST(spent_in_windows),
        TEST(spent_under_steps),
        TEST(spent_without_bounds),
        TEST(charges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
