/* test_audit.c - the audit trail: what every entry says, that it is a chain which fsck holds against each damage, and
 * that every filter finds what a look at all entries does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "db/chain.h"
#include "lib_sql.h"
#include "lib_world.h"

enum { KEYS = 7 };

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 10 * USD, 5 * USD);
    *state = w;
    return 0;
}

static void describe(const struct record *record, const struct store_names *names, struct buf *out)
{
    char owner[ID_TEXT] = "none";
    int64_t row = record->kind == RECORD_KEY        ? ((const struct api_key *)record)->tenant_row
                  : record->kind == RECORD_CUSTOMER ? ((const struct customer *)record)->tenant_row
                                                    : 0;

    if (row != 0)
        (void)id_format("ten", names->id(names->ctx, RECORD_TENANT, row), owner);
    buf_printf(out, "{\"name\":\"%s\",\"tenant\":\"%s\"}", record->name, owner);
}

static struct store_actor act_as(int64_t token, const char *action, const char *peer)
{
    struct store_actor actor = {
        .token_row = token, .request = id_make(), .action = action, .peer = peer, .describe = describe, .status = 200};

    buf_init(&actor.reply, 4096);
    return actor;
}

static void put_as(struct world *w, int64_t token, const char *action, void *record)
{
    struct store_actor actor = act_as(token, action, "192.0.2.7");
    struct store_put put = {.super = {.kind = STORE_PUT, .actor = &actor}, .record = record};

    assert_int_equal(world_do(w, &put.super), ERR_OK);
    record_unref(put.record);
    buf_dispose(&actor.reply);
}

static void credit_as(struct world *w, int64_t token, const char *peer, bool customer, int64_t amount)
{
    struct store_actor actor = act_as(token, customer ? "customer.credit" : "tenant.credit", peer);
    struct store_credit op = {.super = {.kind = STORE_CREDIT, .actor = &actor},
                              .tenant_row = w->tenant,
                              .customer_row = customer ? w->customer : 0,
                              .amount = amount};

    assert_int_equal(world_do(w, &op.super), amount > -USD * 100 ? ERR_OK : ERR_INSUFFICIENT_QUOTA);
    buf_dispose(&actor.reply);
}

static void many_as(struct world *w, int64_t token)
{
    struct store_actor actor = act_as(token, "key.create", "2001:db8::1");
    struct record *records[KEYS];
    struct store_put_many op = {.super = {.kind = STORE_PUT_MANY, .actor = &actor}, .n = KEYS, .records = records};

    for (int i = 0; i < KEYS; i++)
        records[i] = &world_key(w, "bulk", 0)->super;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    for (int i = 0; i < KEYS; i++)
        record_unref(records[i]);
    buf_dispose(&actor.reply);
}

static void resolve_as(struct world *w, int64_t token, bool capture)
{
    struct store_actor actor = act_as(token, "hold.resolve", "192.0.2.8");
    struct store_resolve op = {.super = {.kind = STORE_RESOLVE, .actor = &actor}, .capture = capture, .amount = -1};
    struct store_hold hold;

    world_hold_init(w, &hold, USD / 10, -1);
    hold.rule = IN_DOUBT_KEEP;
    assert_int_equal(world_do(w, &hold.super), ERR_OK);
    assert_int_equal(world_doubt(w, hold.id), ERR_OK);
    op.hold = hold.id;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    buf_dispose(&actor.reply);
}

/* Something of every kind, by several people. */
static void make_history(struct world *w)
{
    put_as(w, 1, "tenant.create", world_tenant("Other"));
    put_as(w, 0, "customer.create", world_customer(w, "Someone", false));
    put_as(w, 2, "channel.create", world_channel("third", "sk-upstream"));
    credit_as(w, 1, "192.0.2.7", false, USD);
    credit_as(w, 2, NULL, true, USD);
    credit_as(w, 2, "192.0.2.7", false, -USD * 1000); /* refused: no entry */
    many_as(w, 2);
    resolve_as(w, 1, true);
    resolve_as(w, 1, false);
}

enum { HISTORY = 3 + 2 + KEYS + 2 };

/* ---- what it says ---- */

static void entries(void **state)
{
    struct world *w = *state;
    char sql[512], tenant[ID_TEXT];

    make_history(w);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit"), HISTORY);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit WHERE length(hash) = 32 AND length(request) = 16"),
                     HISTORY);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM audit WHERE tenant = %lld AND action IN ('customer.create', 'tenant.credit',"
                   " 'customer.credit', 'key.create', 'hold.resolve')",
                   (long long)w->tenant);
    assert_int_equal(sql_number(w->url, sql), HISTORY - 2);
    assert_int_equal(
        sql_number(w->url, "SELECT count(*) FROM audit WHERE action = 'channel.create' AND tenant IS NULL"), 1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit a JOIN tenants t ON t.row = a.tenant"
                                        " WHERE a.action = 'tenant.create' AND t.name = 'Other'"),
                     1);
    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM audit WHERE action IN ('key.create', 'customer.create')"
                   " AND after_state ->> 'tenant' = '%s' AND before_state IS NULL",
                   id_format("ten", w->tenant_id, tenant));
    assert_int_equal(sql_number(w->url, sql), KEYS + 1);
    assert_int_equal(sql_number(w->url,
                                "SELECT count(*) FROM audit a JOIN keys k ON a.object LIKE 'key_%'"
                                " WHERE a.action = 'key.create' AND k.name = 'bulk' AND a.peer = '2001:db8::1'"),
                     KEYS * KEYS);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit WHERE peer IS NULL"), 1);
}

/* The chain goes on after a restart. */
static void restarted(void **state)
{
    struct world *w = *state;

    make_history(w);
    world_close(w);
    world_open(w);
    credit_as(w, 1, "192.0.2.7", false, USD);
    assert_int_equal(sql_number(w->url, "SELECT max(seq) - min(seq) + 1 FROM audit"), HISTORY + 1);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
    world_open(w);
}

/* ---- fsck ---- */

static const struct {
    const char *sql;
} damages[] = {
    {"UPDATE audit SET at = at + 1 WHERE seq = 3"},
    {"UPDATE audit SET token = 5 WHERE seq = 3"},
    {"UPDATE audit SET action = 'tenant.update' WHERE seq = 3"},
    {"UPDATE audit SET object = 'ten_0' WHERE seq = 3"},
    {"UPDATE audit SET request = randomblob(16) WHERE seq = 3"},
    {"UPDATE audit SET before_state = after_state, after_state = NULL WHERE seq = 3"},
    {"UPDATE audit SET after_state = replace(after_state, '1', '2') WHERE seq = 4"},
    {"UPDATE audit SET tenant = NULL WHERE seq = 4"},
    {"UPDATE audit SET peer = NULL WHERE seq = 4"},
    {"UPDATE audit SET hash = NULL WHERE seq = 4"},
    {"UPDATE audit SET hash = randomblob(32) WHERE seq = (SELECT max(seq) FROM audit)"},
    {"DELETE FROM audit WHERE seq = 1"},
    {"DELETE FROM audit WHERE seq = 4"},
    {"DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)"},
    {"DELETE FROM audit"},
    {"UPDATE audit SET seq = -seq WHERE seq IN (2, 3); UPDATE audit SET seq = 5 + seq WHERE seq < 0"},
    {"INSERT INTO audit (at, token, action, object, request) VALUES (1, 0, 'x', '', zeroblob(16))"},
    {"INSERT INTO audit (seq, at, token, action, object, request, hash)"
     " VALUES (0, 1, 0, 'x', '', zeroblob(16), zeroblob(32))"},
    {"UPDATE audit_chain SET seq = seq + 1 WHERE place = 1"},
    {"UPDATE audit_chain SET seq = 5 WHERE place = 0"},
    {"UPDATE audit_chain SET hash = randomblob(32) WHERE place = 0"},
    {"DELETE FROM audit_chain WHERE place = 0"},
    {"DELETE FROM audit_chain WHERE place = 1"},
};

struct verdict {
    int violated;
    bool chain;
};

static void note(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    struct verdict *v = ctx;

    (void)checked;
    (void)detail;
    v->violated += !ok;
    if (strcmp(invariant, "the audit trail is a chain") == 0)
        v->chain = ok;
}

static void damaged(void **state)
{
    struct world *w = *state;
    char copy[160], path[128], sql[1024];
    struct err err;

    make_history(w);
    world_close(w);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        struct verdict v = {0, true};

        (void)snprintf(path, sizeof(path), "%s/damaged-%zu.db", w->dir, i);
        assert_int_equal(store_backup(w->url, path, NULL, NULL, &err), ERR_OK);
        (void)snprintf(copy, sizeof(copy), "sqlite:%s", path);
        (void)snprintf(sql, sizeof(sql), "DROP TRIGGER audit_stays; DROP TRIGGER audit_holds; %s", damages[i].sql);
        sql_exec(copy, sql);
        assert_int_equal(store_fsck(copy, note, NULL, &v, &err), 1);
        if (v.chain || v.violated != 1)
            fail_msg("not found: %s", damages[i].sql);
        (void)remove(path);
    }
    world_open(w);
}

/* ---- questions ---- */

/* All that a filter finds, through pages of <limit>; the numbers of the entries, newest first. */
static int ask_all(struct world *w, const struct store_audit_query *filter, int limit, int64_t *seqs)
{
    struct store_audit_query *q = mem_zalloc(sizeof(*q));
    int64_t after = 0;
    int n = 0;
    bool more = true;

    while (more) {
        *q = *filter;
        q->super.question = STORE_AUDIT;
        q->limit = limit;
        q->after = after;
        world_ask(w, &q->super);
        assert_int_equal(q->super.err.code, ERR_OK);
        assert_true(q->n <= limit);
        more = q->more;
        for (int i = 0; i < q->n; i++)
            seqs[n++] = after = q->items[i].seq;
        store_audit_dispose(q);
    }
    free(q);
    return n;
}

static void assert_found(struct world *w, const struct store_audit_query *filter, const char *where)
{
    int64_t seqs[HISTORY + 1];
    char sql[512];

    for (int limit = 1; limit <= STORE_PAGE; limit += 3) {
        int n = ask_all(w, filter, limit, seqs);

        (void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM audit WHERE %s", where);
        assert_int_equal(n, sql_number(w->url, sql));
        for (int i = 0; i < n; i++) {
            (void)snprintf(sql, sizeof(sql), "SELECT seq FROM audit WHERE %s ORDER BY seq DESC LIMIT 1 OFFSET %d",
                           where, i);
            assert_int_equal(seqs[i], sql_number(w->url, sql));
        }
    }
}

static void filters(void **state)
{
    struct world *w = *state;
    int64_t third;
    char where[256];

    make_history(w);
    third = sql_number(w->url, "SELECT at FROM audit WHERE seq = 3");
    assert_found(w, &(struct store_audit_query){.limit = 1}, "1");
    assert_found(w, &(struct store_audit_query){.tenant_row = w->tenant}, "tenant = 1");
    assert_found(w, &(struct store_audit_query){.tenant = w->tenant_id}, "tenant = 1");
    assert_found(w, &(struct store_audit_query){.action = "key."}, "action LIKE 'key.%'");
    assert_found(w, &(struct store_audit_query){.action = "key"}, "0");
    assert_found(w, &(struct store_audit_query){.action = "tenant.credit"}, "action = 'tenant.credit'");
    assert_found(w, &(struct store_audit_query){.action = "customer.", .tenant_row = w->tenant},
                 "action LIKE 'customer.%'");
    (void)snprintf(where, sizeof(where), "at >= %lld", (long long)third);
    assert_found(w, &(struct store_audit_query){.start_time = third}, where);
    (void)snprintf(where, sizeof(where), "at < %lld", (long long)third);
    assert_found(w, &(struct store_audit_query){.end_time = third}, where);
    assert_found(w, &(struct store_audit_query){.start_time = 1, .end_time = 2}, "0");
    assert_found(w, &(struct store_audit_query){.object = "key_nothing"}, "0");
}

static void one_entry(void **state)
{
    struct world *w = *state;
    struct store_audit_query *q = mem_zalloc(sizeof(*q));
    char object[ID_TEXT];

    make_history(w);
    q->super.question = STORE_AUDIT;
    q->limit = STORE_PAGE;
    (void)id_format("cus", w->customer_id, q->object);
    world_ask(w, &q->super);
    assert_int_equal(q->n, 1);
    assert_string_equal(q->items[0].action, "customer.credit");
    assert_string_equal(q->items[0].object, id_format("cus", w->customer_id, object));
    assert_string_equal(q->items[0].peer, "");
    assert_int_equal(q->items[0].token_row, 2);
    assert_true(id_eq(q->items[0].tenant_id, w->tenant_id));
    assert_true(q->items[0].chained);
    assert_null(q->items[0].before);
    assert_non_null(strstr(q->items[0].after, "\"amount\":\"1.000000000\""));
    store_audit_dispose(q);
    q->tenant = id_make(); /* nobody */
    memset(&q->scan, 0, sizeof(q->scan));
    world_ask(w, &q->super);
    assert_int_equal(q->super.err.code, ERR_NOT_FOUND);
    assert_string_equal(q->super.err.param, "tenant");
    free(q);
}

/* A search that matches little goes through many slices. */
static void long_trail(void **state)
{
    struct world *w = *state;
    struct store_audit_query filter = {.action = "rare.thing"};
    struct store_actor actor = act_as(0, "rare.thing", "");
    struct store_credit op = {.super = {.kind = STORE_CREDIT, .actor = &actor}, .tenant_row = w->tenant, .amount = USD};
    int64_t seqs[HISTORY];

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    buf_dispose(&actor.reply);
    world_close(w);
    sql_exec(w->url, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
                     " INSERT INTO audit (seq, at, token, action, object, request) SELECT 100 + i, i, 0, 'much', '',"
                     " zeroblob(16) FROM n");
    world_open(w);
    assert_int_equal(ask_all(w, &filter, 10, seqs), 1);
    assert_int_equal(seqs[0], 1);
    filter.start_time = 5;
    filter.end_time = 10;
    filter.action[0] = '\0';
    assert_int_equal(ask_all(w, &filter, 2, seqs), 5);
    assert_int_equal(seqs[0], 109);
    world_close(w);
    sql_exec(w->url, "DROP TRIGGER audit_stays; DELETE FROM audit WHERE seq > 100");
    world_open(w);
}

/* What an entry's hash depends on: everything in it, and the hash before. */
static void hash_of(const struct audit_entry *entry, uint8_t before, uint8_t out[SECRET_DIGEST])
{
    memset(out, before, SECRET_DIGEST);
    chain_audit(out, entry);
}

static void links(void **state)
{
    const struct audit_entry entry = {.head.seq = 7,
                                      .at = 5,
                                      .token_row = 3,
                                      .tenant_row = 2,
                                      .action = "key.create",
                                      .object = "key_1",
                                      .peer = "::1"};
    struct audit_entry others[] = {entry, entry, entry, entry, entry, entry, entry, entry, entry};
    uint8_t hash[SECRET_DIGEST], other[SECRET_DIGEST];

    (void)state;
    hash_of(&entry, 0, hash);
    hash_of(&entry, 1, other);
    assert_memory_not_equal(hash, other, sizeof(hash));
    others[0].head.seq++;
    others[1].at++;
    others[2].token_row++;
    others[3].tenant_row++;
    others[4].action = "key.update";
    others[5].object = "key_2";
    others[6].peer = "::2";
    others[7].before = SLICE("{}");
    others[8].after = SLICE("{}"); /* the same bytes in another place */
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        hash_of(&others[i], 0, other);
        assert_memory_not_equal(hash, other, sizeof(hash));
    }
    hash_of(&others[7], 0, hash);
    assert_memory_not_equal(hash, other, sizeof(hash));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links),
        cmocka_unit_test_setup_teardown(entries, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(restarted, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(damaged, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(filters, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(one_entry, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(long_trail, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
