/* test_fsck.c - fsck finds what it promises to: each damage, done by hand, breaks the invariant named beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_world.h"

static const struct {
    const char *invariant, *sql;
} damages[] = {
    {"posted sums to zero", "UPDATE accounts SET posted = posted + 1 WHERE kind = 0"},
    {"balances equal their transfers", "UPDATE accounts SET posted = posted + 1 WHERE kind = 0"},
    {"balances equal their transfers", "DELETE FROM accounts WHERE kind = 4"},
    {"held sums to zero", "UPDATE accounts SET held = held + 1 WHERE kind = 0"},
    {"wallets are within their credit", "UPDATE accounts SET posted = -1, held = 0 WHERE kind = 0"},
    {"wallets are within their credit", "UPDATE accounts SET held = -1 WHERE kind = 1"},
    {"open holds equal the held column", "UPDATE holds SET tenant_leg = tenant_leg + 1"},
    {"open holds equal the held column", "DELETE FROM holds"},
    {"holds are unique",
     "INSERT INTO holds SELECT slot + 1000, id, epoch, state, tenant, customer, key, channel, item, n, flags,"
     " n_legs, tenant_leg, customer_leg, cost_max, wholesale_max, retail_max, version_cost,"
     " version_wholesale, version_retail, rule, created_at, call_key FROM holds"},
    {"a hold that is open has no usage record", "UPDATE holds SET id = (SELECT request FROM usage LIMIT 1)"},
    {"idempotency keys have their hold or their record", "DELETE FROM call_keys WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record", "UPDATE holds SET call_key = 0"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET api_key = api_key + 1"},
    {"idempotency keys have their hold or their record",
     "UPDATE call_keys SET request = randomblob(16) WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record",
     "UPDATE call_keys SET request = randomblob(16) WHERE usage IS NOT NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = 1 WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = usage + 1"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET at_ms = at_ms - 1"},
    {"an idempotency key stands for one request", "INSERT INTO call_keys SELECT row + 1000, api_key, text || '2', "
                                                  "fingerprint, request, usage, at_ms FROM call_keys"},
    {"an idempotency key stands for one request", "DROP INDEX call_keys_text;"
                                                  "INSERT INTO call_keys SELECT row + 1000, api_key, text, "
                                                  "fingerprint, randomblob(16), usage, at_ms FROM call_keys"},
    {"a hold resolves once", "UPDATE usage SET request = (SELECT request FROM usage LIMIT 1)"},
    {"roll-ups equal the usage records", "UPDATE rollups SET cost = cost + 1"},
    {"roll-ups equal the usage records", "DELETE FROM rollups"},
    {"roll-ups equal the usage records", "UPDATE rollups SET image_output_tokens = 0"},
    {"refunds are within the charge", "UPDATE usage SET refunded = wholesale + coalesce(retail, 0) + 1"},
    {"usage records name what exists", "UPDATE usage SET key = 999"},
    {"usage records name what exists", "UPDATE usage SET item = 999"},
    {"time runs forward between clock steps",
     "UPDATE usage SET created_ms = created_ms - 5000 WHERE seq = (SELECT max(seq) FROM usage)"},
    {"foreign keys", "PRAGMA foreign_keys = OFF; UPDATE keys SET tenant = 999"},
    {"transfers belong to a record or a grant", "INSERT INTO transfers VALUES (99999, 0, 4, 5, 1)"},
    {"transfers belong to a record or a grant", "DELETE FROM usage WHERE seq = (SELECT min(seq) FROM usage)"},
    {"usage records equal their transfers", "UPDATE usage SET wholesale = wholesale + 1"},
    {"usage records equal their transfers", "UPDATE usage SET cost = cost + 1"},
    {"usage records equal their transfers",
     "UPDATE usage SET retail = coalesce(retail, wholesale) + 1 WHERE customer <> 0"},
    {"usage records equal their transfers", "DELETE FROM transfers WHERE kind = 2"},
    {"usage records equal their transfers", "UPDATE transfers SET amount = amount + 1 WHERE kind = 1"},
    {"usage records equal their transfers", "UPDATE transfers SET debit = 160 WHERE kind = 1"},
    {"usage records equal their transfers", "UPDATE usage SET flags = 0 WHERE flags & 8"},
    {"usage records equal their transfers", "UPDATE usage SET flags = flags | 64"},
    {"grants equal their transfers", "UPDATE grants SET amount = amount + 1"},
    {"grants equal their transfers", "DELETE FROM transfers WHERE kind = 3"},
    {"grants equal their transfers", "UPDATE grants SET category = 1 - category"},
};

struct seen {
    const char *wanted;
    bool found, violated;
    int lines;
};

static void note(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    struct seen *seen = ctx;

    assert_true(checked >= 0);
    seen->lines++;
    if (seen->wanted != NULL && strcmp(invariant, seen->wanted) == 0) {
        seen->found = true;
        seen->violated = !ok;
        assert_true(ok || detail[0] != '\0');
    }
}

static void make_history(struct world *w)
{
    struct store_hold op;
    struct id id;

    world_fill(w, 100 * USD, 50 * USD);
    for (int i = 0; i < 3; i++) {
        world_hold_init(w, &op, 2 * USD, i == 1 ? USD : -1);
        world_hold_key(&op, &"aaa"[i], 1); /* three keys */
        assert_int_equal(world_do(w, &op.super), ERR_OK);
        assert_int_equal(world_capture(w, op.id, USD / 2, USD, USD), ERR_OK);
    }
    assert_int_equal(world_hold(w, USD, -1, &id), ERR_OK);
    assert_int_equal(world_doubt(w, id), ERR_OK);
    world_hold_init(w, &op, USD, -1);
    world_hold_key(&op, "kept", 2);
    op.rule = IN_DOUBT_KEEP;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(world_doubt(w, op.id), ERR_OK);
    world_close(w);
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1024 * 1024];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

static void finds_every_damage(void **state)
{
    struct seen seen = {.wanted = NULL};
    struct world w;
    char good[128], bad[128], url[160];
    struct err err;

    (void)state;
    world_init(&w);
    world_open(&w);
    make_history(&w);
    (void)snprintf(good, sizeof(good), "%s/t.db", w.dir);
    (void)snprintf(bad, sizeof(bad), "%s/bad.db", w.dir);
    (void)snprintf(url, sizeof(url), "sqlite:%s", bad);
    assert_int_equal(store_fsck(w.url, note, &seen, &err), 0);
    assert_true(seen.lines >= 17);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        copy_file(good, bad);
        sql_exec(url, damages[i].sql);
        seen = (struct seen){.wanted = damages[i].invariant};
        if (store_fsck(url, note, &seen, &err) < 1 || !seen.found || !seen.violated)
            fail_msg("\"%s\" was not found by: %s", damages[i].sql, damages[i].invariant);
        sql_exec(url, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
    world_dispose(&w);
}

/* A page overwritten: told, not believed. */
static void finds_damaged_files(void **state)
{
    struct seen seen = {.wanted = "the file is whole"};
    struct world w;
    char path[128], page[4096];
    struct err err;
    int64_t root;
    int fd;

    (void)state;
    world_init(&w);
    world_open(&w);
    make_history(&w);
    (void)snprintf(path, sizeof(path), "%s/t.db", w.dir);
    root = sql_number(w.url, "SELECT rootpage FROM sqlite_schema WHERE name = 'usage'");
    memset(page, 0xa5, sizeof(page));
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, page, sizeof(page), (root - 1) * 4096), (ssize_t)sizeof(page));
    close(fd);
    assert_int_equal(store_fsck(w.url, note, &seen, &err), 1);
    assert_true(seen.violated);
    world_dispose(&w);
}

static void beside_a_running_store(void **state)
{
    struct world w;
    struct id id;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 100 * USD, 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(world_hold(&w, USD, -1, &id), ERR_OK);
        assert_int_equal(world_fsck(&w), 0); /* with a hold open */
        assert_int_equal(world_capture(&w, id, 1, 2, -1), ERR_OK);
    }
    assert_true(store_healthy(w.store));
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_damage),
        cmocka_unit_test(finds_damaged_files),
        cmocka_unit_test(beside_a_running_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
