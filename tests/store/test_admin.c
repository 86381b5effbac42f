/* test_admin.c - operations with an actor: repeated calls get the same reply, applied once; the audit trail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_world.h"

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 10 * USD, 0);
    *state = w;
    return 0;
}

static int rendered;

static void render(struct store_op *op, struct buf *out)
{
    rendered++;
    if (op->kind == STORE_PUT)
        buf_printf(out, "{\"name\": \"%s\", \"n\": %d}", ((struct store_put *)op)->record->name, rendered);
    else
        buf_printf(out, "{\"n\": %d}", rendered);
}

static void describe(const struct record *record, const struct store_names *names, struct buf *out)
{
    (void)names;
    buf_printf(out, "{\"name\": \"%s\", \"version\": %lld}", record->name, (long long)record->version);
}

static void actor_init(struct store_actor *a, const char *key, uint8_t fingerprint)
{
    memset(a, 0, sizeof(*a));
    a->token_row = 3;
    a->request = id_make();
    a->action = "thing.create";
    a->idempotency_key = slice_from(key);
    memset(a->fingerprint, fingerprint, sizeof(a->fingerprint));
    a->render = render;
    a->describe = describe;
    a->status = 201;
    buf_init(&a->reply, 4096);
}

static enum err_code credit(struct world *w, struct store_actor *a, int64_t amount)
{
    struct store_credit op = {
        .super = {.kind = STORE_CREDIT, .actor = a}, .tenant_row = w->tenant, .amount = amount, .note = "a \"note\""};

    return world_do(w, &op.super);
}

static void assert_reply(struct store_actor *a, bool replayed, int status, const char *body)
{
    assert_int_equal(a->replayed, replayed);
    assert_int_equal(a->status, status);
    assert_true(slice_eq_str(buf_slice(&a->reply), body));
    buf_dispose(&a->reply);
}

static void repeated_call(void **state)
{
    struct world *w = *state;
    struct store_actor a;

    rendered = 0;
    actor_init(&a, "key-1", 1);
    assert_int_equal(credit(w, &a, USD), ERR_OK);
    assert_reply(&a, false, 201, "{\"n\": 1}");
    actor_init(&a, "key-1", 1);
    a.status = 999;
    assert_int_equal(credit(w, &a, USD), ERR_OK);
    assert_reply(&a, true, 201, "{\"n\": 1}");
    assert_int_equal(world_balance(w, false).posted, 11 * USD);
    world_close(w); /* across a restart */
    world_open(w);
    actor_init(&a, "key-1", 1);
    assert_int_equal(credit(w, &a, USD), ERR_OK);
    assert_reply(&a, true, 201, "{\"n\": 1}");
    actor_init(&a, "key-1", 2);
    assert_int_equal(credit(w, &a, USD), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(a.reply.len, 0);
    actor_init(&a, "key-1", 1);
    a.token_row = 4; /* another token's key of the same text */
    assert_int_equal(credit(w, &a, USD), ERR_OK);
    assert_reply(&a, false, 201, "{\"n\": 2}");
    assert_int_equal(world_balance(w, false).posted, 12 * USD);
    assert_int_equal(
        sql_number(w->url, "SELECT count(*) FROM idempotency WHERE instr(reply, 'n') > 0 AND length(reply) < 40"), 0);
}

static void refused_call_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct store_actor a;

    actor_init(&a, "key-1", 1);
    assert_int_equal(credit(w, &a, -11 * USD), ERR_INSUFFICIENT_QUOTA);
    assert_int_equal(a.reply.len, 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM idempotency"), 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit"), 0);
    assert_int_equal(world_credit(w, false, USD), ERR_OK);
    assert_int_equal(credit(w, &a, -11 * USD), ERR_OK);
    assert_false(a.replayed);
    buf_dispose(&a.reply);
}

/* STORE_KEEP: an answer that was worked out elsewhere. */
static enum err_code keep(struct world *w, struct store_actor *a, const char *key, uint8_t fingerprint)
{
    struct store_op op = {.kind = STORE_KEEP, .actor = a};

    actor_init(a, key, fingerprint);
    return world_do(w, &op);
}

static void kept_answer(void **state)
{
    struct world *w = *state;
    struct store_actor a;

    rendered = 0;
    assert_int_equal(keep(w, &a, "quote", 1), ERR_OK);
    assert_reply(&a, false, 201, "{\"n\": 1}");
    assert_int_equal(keep(w, &a, "quote", 1), ERR_OK);
    assert_reply(&a, true, 201, "{\"n\": 1}");
    assert_int_equal(keep(w, &a, "quote", 2), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(a.reply.len, 0);
    actor_init(&a, "quote", 3);
    assert_int_equal(credit(w, &a, USD), ERR_IDEMPOTENCY_REUSED);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit"), 0);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM idempotency"), 1);
    assert_int_equal(world_balance(w, false).posted, 10 * USD);
}

static void forgotten_after_a_day(void **state)
{
    struct world *w = *state;
    struct store_actor a;
    int64_t now = clock_wall();
    char key[16];

    rendered = 0;
    clock_freeze(now, clock_mono());
    for (int i = 0; i < 10; i++) {
        (void)snprintf(key, sizeof(key), "old-%d", i);
        actor_init(&a, key, 1);
        assert_int_equal(credit(w, &a, 1), ERR_OK);
        buf_dispose(&a.reply);
    }
    clock_freeze(now + 25 * 3600 * CLOCK_SECOND, clock_mono());
    actor_init(&a, "old-9", 2); /* not even a conflict any more */
    assert_int_equal(credit(w, &a, 1), ERR_OK);
    assert_reply(&a, false, 201, "{\"n\": 11}");
    for (int i = 0; i < 3; i++) {
        (void)snprintf(key, sizeof(key), "new-%d", i);
        actor_init(&a, key, 1);
        assert_int_equal(credit(w, &a, 1), ERR_OK);
        buf_dispose(&a.reply);
    }
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM idempotency"), 4);
}

static void records_and_audit(void **state)
{
    struct world *w = *state;
    struct store_actor a;
    struct store_put put = {.super = {.kind = STORE_PUT, .actor = &a}};
    char object[ID_TEXT], sql[256];
    struct id id;

    rendered = 0;
    actor_init(&a, "put", 1);
    put.record = &world_tenant("First")->super;
    assert_int_equal(world_do(w, &put.super), ERR_OK);
    assert_reply(&a, false, 201, "{\"name\": \"First\", \"n\": 1}");
    id = put.record->id;
    assert_int_equal(put.record->version, 1);
    record_unref(put.record);

    actor_init(&a, "put", 1); /* the same call again: no second tenant */
    put.record = &world_tenant("First")->super;
    assert_int_equal(world_do(w, &put.super), ERR_OK);
    assert_null(put.record);
    assert_reply(&a, true, 201, "{\"name\": \"First\", \"n\": 1}");

    actor_init(&a, "put", 9);
    put.record = &world_tenant("Other")->super;
    assert_int_equal(world_do(w, &put.super), ERR_IDEMPOTENCY_REUSED);
    assert_null(put.record);

    actor_init(&a, "", 0);
    a.action = "thing.update";
    a.idempotency_key = SLICE_NONE;
    put.record = &world_tenant("Second")->super;
    put.record->row = sql_number(w->url, "SELECT max(row) FROM tenants");
    put.record->version = 1;
    assert_int_equal(world_do(w, &put.super), ERR_OK);
    buf_dispose(&a.reply);
    record_unref(put.record);

    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit"), 2);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM audit WHERE object = '%s' AND token = 3 AND action = 'thing.update'"
                   " AND before_state = '{\"name\": \"First\", \"version\": 1}'"
                   " AND after_state = '{\"name\": \"Second\", \"version\": 2}'",
                   id_format("ten", id, object));
    assert_int_equal(sql_number(w->url, sql), 1);
}

static void audit_of_a_credit(void **state)
{
    struct world *w = *state;
    struct store_actor a;
    char object[ID_TEXT], sql[256];

    actor_init(&a, "", 0);
    assert_int_equal(credit(w, &a, 5 * USD), ERR_OK);
    buf_dispose(&a.reply);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM audit WHERE object = '%s' AND after_state ->> 'amount' = '5.000000000'"
                   " AND after_state ->> 'note' = 'a \"note\"'",
                   id_format("ten", w->tenant_id, object));
    assert_int_equal(sql_number(w->url, sql), 1);
}

static void too_long_a_key(void **state)
{
    struct world *w = *state;
    struct store_actor a;
    char key[LIMIT_IDEMPOTENCY_KEY + 2];

    memset(key, 'k', sizeof(key));
    key[sizeof(key) - 1] = '\0';
    actor_init(&a, key, 1);
    assert_int_equal(credit(w, &a, 1), ERR_INVALID_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(repeated_call, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(refused_call_leaves_nothing, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(kept_answer, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(forgotten_after_a_day, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(records_and_audit, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(audit_of_a_credit, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(too_long_a_key, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
