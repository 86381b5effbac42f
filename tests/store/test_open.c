/* test_open.c - opening: migrations, foreign files, the lock, dead holds, what a start leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_world.h"

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_init(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    world_dispose(w);
    free(w);
    return 0;
}

static enum err_code try_open(struct world *w, bool migrate, struct err *err)
{
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = migrate};
    struct store *s = NULL;
    enum err_code code = store_open(&options, &s, err);

    store_close(s);
    return code;
}

static void migrates(void **state)
{
    struct world *w = *state;
    struct stat st;
    struct err err;
    int applied;

    assert_int_equal(try_open(w, false, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.message, "tallygate migrate"));
    assert_int_equal(store_migrate(w->url, &applied, &err), ERR_OK);
    assert_true(applied >= 1);
    assert_int_equal(store_migrate(w->url, &applied, &err), ERR_OK);
    assert_int_equal(applied, 0);
    assert_int_equal(try_open(w, false, &err), ERR_OK);
    assert_int_equal(sql_number(w->url, "PRAGMA application_id"), 0x544c4754);
    assert_int_equal(stat(w->url + strlen("sqlite:"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(world_fsck(w), 0);
}

static void note_nothing(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    (void)ctx;
    (void)invariant;
    (void)checked;
    (void)detail;
    assert_true(ok);
}

/* ---- stores of older releases, as their migrations made them and their programs filled them ---- */

struct embed_file {
    const char *name;
    const char *bytes;
    size_t len;
};
extern const struct embed_file embed_migrations[];

static void apply_by_hand(const char *url, const struct embed_file *file)
{
    uint8_t checksum[SECRET_DIGEST];
    char sql[256], hex[2 * SECRET_DIGEST + 1];

    sql_exec(url, file->bytes);
    secret_fingerprint(file->bytes, file->len, checksum);
    for (int i = 0; i < SECRET_DIGEST; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", checksum[i]);
    (void)snprintf(sql, sizeof(sql), "INSERT INTO migrations VALUES ('%s', x'%s', 1)", file->name, hex);
    sql_exec(url, sql);
}

/* Tenant 1: three lots (one used up, one in part), an adjustment, a customer with a wallet of its own, open holds.
 * Tenant 2: promotional credit that has expired. Tenant 3: on its credit line, and owing beyond it. */
static const char old_records[] =
    "INSERT INTO meta VALUES ('epoch', CAST('3' AS BLOB));"
    "INSERT INTO tenants (row, id, version, status, created_at, name, timezone, credit_limit, markup_ppm)"
    " VALUES (1, randomblob(16), 1, 0, 1, 'one', 'UTC', 0, 0), (2, randomblob(16), 1, 0, 1, 'two', 'UTC', 0, 0),"
    " (3, randomblob(16), 1, 0, 1, 'three', 'UTC', 2000000000, 0);"
    "INSERT INTO customers (row, id, version, status, created_at, name, tenant, own_wallet, credit_limit, markup_ppm)"
    " VALUES (1, randomblob(16), 1, 0, 1, 'own', 1, 1, 0, 0);"
    "INSERT INTO keys (row, id, version, status, created_at, name, tenant, customer, digest, prefix, last4, test)"
    " VALUES (1, randomblob(16), 1, 0, 1, 'a', 1, NULL, randomblob(32), 'sk-tg-aaaa', 'aaaa', 0),"
    " (2, randomblob(16), 1, 0, 1, 'b', 1, 1, randomblob(32), 'sk-tg-bbbb', 'bbbb', 0),"
    " (3, randomblob(16), 1, 0, 1, 'c', 2, NULL, randomblob(32), 'sk-tg-cccc', 'cccc', 0),"
    " (4, randomblob(16), 1, 0, 1, 'd', 3, NULL, randomblob(32), 'sk-tg-dddd', 'dddd', 0);"
    "INSERT INTO channels (row, id, version, status, created_at, name, kind, base_url, priority, weight,"
    " max_concurrency, timeout) VALUES (1, randomblob(16), 1, 0, 1, 'channel', 2, 'http://127.0.0.1:9/v1', 0, 1, 0, 0);"
    "INSERT INTO items VALUES (1, 'dall-e-2', 0, '256x256', '');";

static const char old_events[] =
    "INSERT INTO grants (seq, wallet, amount, category, priority, expires_at, note, created_ms) VALUES"
    " (1, 16, 10000000000, 0, 10, NULL, NULL, 1000), (2, 16, 3000000000, 1, 0, 4000000000000000, 'hello', 1000),"
    " (3, 17, 5000000000, 0, 0, NULL, NULL, 1001), (5, 16, -2000000000, 0, 0, NULL, 'wrong', 1003),"
    " (8, 32, 4000000000, 1, 0, 2000000, NULL, 1005), (10, 48, 1000000000, 0, 0, NULL, NULL, 1007);"
    "INSERT INTO usage (seq, request, tenant, customer, key, channel, item, n, images, partial_images,"
    " text_input_tokens, cached_text_input_tokens, image_input_tokens, cached_image_input_tokens, image_output_tokens,"
    " text_output_tokens, cost, wholesale, retail, refunded, flags, duration_ms, added_ms, created_ms) VALUES"
    " (4, randomblob(16), 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 2000000000, 4000000000, NULL, 0, 0, 5, 0, 1002),"
    " (6, randomblob(16), 1, 1, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1000000000, 2000000000, 0, 2048, 5, 0, 1004),"
    " (7, randomblob(16), 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1000000000, 0, NULL, 0, 8, 5, 0, 1004),"
    " (9, randomblob(16), 2, 0, 3, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1000000000, NULL, 0, 0, 5, 0, 1006),"
    " (11, randomblob(16), 3, 0, 4, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 5000000000, NULL, 0, 32, 5, 0, 1008);"
    "INSERT INTO transfers (number, kind, debit, credit, amount) VALUES (8, 3, 7, 16, 10000000000),"
    " (16, 3, 6, 16, 3000000000), (24, 3, 7, 17, 5000000000), (32, 1, 16, 18, 4000000000), (33, 0, 4, 21, 2000000000),"
    " (40, 4, 16, 7, 2000000000), (48, 1, 16, 18, 1000000000), (49, 2, 17, 19, 2000000000), (50, 0, 4, 21, 1),"
    " (56, 5, 8, 21, 1000000000), (64, 3, 6, 32, 4000000000), (72, 1, 32, 34, 1000000000), (73, 0, 4, 21, 7),"
    " (80, 3, 7, 48, 1000000000), (88, 1, 48, 50, 3000000000), (89, 6, 57, 50, 2000000000), (90, 0, 4, 21, 7);"
    "INSERT INTO rollups SELECT created_ms / 3600000, tenant, customer, key, item, channel, count(*), sum(images),"
    " 0, 0, 0, 0, 0, 0, sum(cost), sum(wholesale), sum(coalesce(retail, wholesale)), 0 FROM usage"
    " GROUP BY 1, 2, 3, 4, 5, 6;"
    "INSERT INTO holds (slot, id, epoch, state, tenant, customer, key, channel, item, n, flags, n_legs, tenant_leg,"
    " customer_leg, cost_max, wholesale_max, retail_max, version_cost, version_wholesale, version_retail, rule,"
    " created_at) VALUES (1, randomblob(16), 3, 0, 1, 1, 2, 1, 1, 1, 0, 2, 1000000000, 2000000000, 500000000,"
    " 1000000000, 2000000000, 0, 0, 0, 0, 1), (2, x'00112233445566778899aabbccddeeff', 2, 1, 1, 0, 1, 1, 1, 1, 0, 1,"
    " 500000000, 0, 1, 500000000, 500000000, 0, 0, 0, 2, 1);"
    "INSERT INTO accounts (row, posted, held) SELECT account, sum(amount), sum(held) FROM ("
    " SELECT debit AS account, -amount AS amount, 0 AS held FROM transfers UNION ALL"
    " SELECT credit, amount, 0 FROM transfers UNION ALL SELECT 16, 0, tenant_leg FROM holds UNION ALL"
    " SELECT 18, 0, -tenant_leg FROM holds UNION ALL SELECT 17, 0, customer_leg FROM holds UNION ALL"
    " SELECT 19, 0, -customer_leg FROM holds) GROUP BY account;";

static void assert_number(const struct world *w, int64_t expected, const char *sql)
{
    int64_t number = sql_number(w->url, sql);

    if (number != expected)
        fail_msg("%s: %lld, not %lld", sql, (long long)number, (long long)expected);
}

static void assert_migrated(const struct world *w)
{
    assert_number(w, 6 * USD, "SELECT posted FROM accounts WHERE row = 16");
    assert_number(w, 3 * USD / 2, "SELECT held FROM accounts WHERE row = 16");
    assert_number(w, 3 * USD, "SELECT posted FROM accounts WHERE row = 17");
    assert_number(w, 2 * USD, "SELECT held FROM accounts WHERE row = 17");
    assert_number(w, 3 * USD, "SELECT posted FROM accounts WHERE row = 32");
    assert_number(w, -2 * USD, "SELECT posted FROM accounts WHERE row = 48");
    assert_number(w, -2 * USD, "SELECT posted FROM accounts WHERE row = 57");
    assert_number(w, -8 * USD, "SELECT posted FROM accounts WHERE row = 23");     /* paid in, less the adjustment */
    assert_number(w, -5 * USD, "SELECT posted FROM accounts WHERE row = 29");     /* by the customer */
    assert_number(w, -2 * USD - 1, "SELECT posted FROM accounts WHERE row = 20"); /* its cost */
    assert_number(w, -7, "SELECT posted FROM accounts WHERE row = 36");
    assert_number(w, -USD, "SELECT posted FROM accounts WHERE row = 24");
    assert_number(w, 0, "SELECT count(*) FROM accounts WHERE owner = 0");
    /* used: what is not posted, and what is held; first the one of priority 0 */
    assert_number(w, 0, "SELECT remaining FROM grants WHERE seq = 2");
    assert_number(w, 9 * USD / 2, "SELECT remaining FROM grants WHERE seq = 1");
    assert_number(w, USD, "SELECT remaining FROM grants WHERE seq = 3");
    assert_number(w, 3 * USD, "SELECT remaining FROM grants WHERE seq = 8");
    assert_number(w, 0, "SELECT remaining FROM grants WHERE seq = 10");
    assert_number(w, 2 * USD, "SELECT amount FROM entries WHERE kind = 0 AND seq = 5 AND wallet = 16");
    assert_number(w, 5, "SELECT count(*) FROM entries WHERE kind = 4 AND seq > 11");
}

static void migrates_what_is_old(void **state)
{
    struct world *w = *state;
    struct err err;
    int applied;

    for (int old = 1; old <= 2; old++) {
        (void)snprintf(w->url, sizeof(w->url), "sqlite:%s/old%d.db", w->dir, old);
        for (int i = 0; i < old; i++)
            apply_by_hand(w->url, &embed_migrations[i]);
        sql_exec(w->url, old_records);
        sql_exec(w->url, old_events);
        if (old > 1)
            sql_exec(w->url, "INSERT INTO call_keys SELECT 7, 1, 'key', zeroblob(32), id, NULL, 1 FROM holds"
                             " WHERE slot = 2; UPDATE holds SET call_key = 7 WHERE slot = 2");
        assert_int_equal(try_open(w, false, &err), ERR_CONFLICT);
        assert_non_null(strstr(err.message, embed_migrations[old].name));
        assert_int_equal(store_fsck(w->url, note_nothing, NULL, NULL, &err), -1);
        assert_non_null(strstr(err.message, "tallygate migrate"));
        assert_int_equal(store_migrate(w->url, &applied, &err), ERR_OK);
        assert_true(applied >= 3 - old);
        assert_int_equal(world_fsck(w), 0);
        assert_migrated(w);

        world_open(w); /* ends the dead hold; what had expired lapses */
        assert_int_equal(store_recovered(w->store), 1);
        w->tenant = 1;
        w->customer = 1;
        w->key = 1;
        assert_int_equal(world_balance(w, false).posted, 6 * USD);
        assert_int_equal(world_balance(w, false).held, USD / 2);
        assert_int_equal(world_balance(w, true).posted, 3 * USD);
        assert_int_equal(world_credit(w, false, USD), ERR_OK);
        assert_number(w, 0, "SELECT posted FROM accounts WHERE row = 32");
        assert_number(w, 3 * USD, "SELECT posted FROM accounts WHERE row = 32 + 11");
        world_close(w);
        assert_int_equal(world_fsck(w), 0);
    }
}

/* Of a store without any event. */
static void migrates_what_is_empty(void **state)
{
    struct world *w = *state;
    struct err err;
    int applied;

    apply_by_hand(w->url, &embed_migrations[0]);
    apply_by_hand(w->url, &embed_migrations[1]);
    assert_int_equal(store_migrate(w->url, &applied, &err), ERR_OK);
    assert_int_equal(world_fsck(w), 0);
    world_open(w);
    world_fill(w, 10 * USD, 0);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
}

static void refuses_changed_migrations(void **state)
{
    struct world *w = *state;
    struct err err;

    assert_int_equal(try_open(w, true, &err), ERR_OK);
    sql_exec(w->url, "UPDATE migrations SET checksum = x'00'");
    assert_int_equal(try_open(w, true, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.message, "0001_initial.sql"));
}

static void refuses_newer_schemas(void **state)
{
    struct world *w = *state;
    struct err err;

    assert_int_equal(try_open(w, true, &err), ERR_OK);
    sql_exec(w->url, "INSERT INTO migrations VALUES ('9999_future.sql', x'00', 0)");
    assert_int_equal(try_open(w, true, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.message, "newer"));
}

static void refuses_foreign_files(void **state)
{
    struct world *w = *state;
    const char *path = w->url + strlen("sqlite:");
    struct err err;
    int fd;

    sql_exec(w->url, "CREATE TABLE theirs (x)");
    assert_int_equal(try_open(w, true, &err), ERR_CONFLICT);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM sqlite_schema"), 1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'"), 0);
    assert_int_equal(store_fsck(w->url, NULL, NULL, NULL, &err), -1);

    fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(write(fd, "this is not a database, is it?\n", 31), 31);
    close(fd);
    assert_int_equal(try_open(w, true, &err), ERR_UNAVAILABLE);
    assert_int_equal(store_fsck(w->url, NULL, NULL, NULL, &err), -1);
}

static void refuses_bad_urls(void **state)
{
    struct world *w = *state;
    struct err err;

    strcpy(w->url, "mysql:somewhere");
    assert_int_equal(try_open(w, true, &err), ERR_INVALID_VALUE);
    strcpy(w->url, "sqlite:");
    assert_int_equal(try_open(w, true, &err), ERR_INVALID_VALUE);
    strcpy(w->url, "sqlite:/nonexistent/directory/t.db");
    assert_int_equal(try_open(w, true, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(store_fsck(w->url, NULL, NULL, NULL, &err), -1);
}

static void one_process_at_a_time(void **state)
{
    struct world *w = *state;
    struct err err;
    char expected[32];
    pid_t child;
    int status, applied;

    world_open(w);
    assert_int_equal(try_open(w, true, &err), ERR_CONFLICT); /* not even twice in one process */
    (void)snprintf(expected, sizeof(expected), "process %ld", (long)getpid());
    assert_non_null(strstr(err.message, expected));
    assert_int_equal(store_migrate(w->url, &applied, &err), ERR_CONFLICT);
    child = fork();
    if (child == 0)
        _exit(try_open(w, true, &err) == ERR_CONFLICT ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    world_close(w);
    assert_int_equal(try_open(w, true, &err), ERR_OK);
}

/* What a killed process leaves: an image of the files while the store is open, with its log. */
static void copy_file(const char *from, const char *to)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "cp '%s' '%s'", from, to);
    assert_int_equal(system(text), 0);
}

static void resolves_dead_holds(void **state)
{
    struct world *w = *state;
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    static const enum conf_in_doubt rules[] = {IN_DOUBT_RELEASE, IN_DOUBT_CHARGE, IN_DOUBT_KEEP};
    const char *path = w->url + strlen("sqlite:");
    struct store_hold op;
    struct err err;
    char from[128], to[128];

    world_open(w);
    world_fill(w, 10 * USD, 0);
    for (int i = 0; i < 3; i++) {
        world_hold_init(w, &op, USD, -1);
        op.rule = rules[i];
        assert_int_equal(world_do(w, &op.super), ERR_OK);
    }
    assert_int_equal(store_recovered(w->store), 0);
    (void)snprintf(from, sizeof(from), "%s-wal", path);
    (void)snprintf(to, sizeof(to), "%s/copy.db", w->dir);
    copy_file(path, to);
    (void)snprintf(to, sizeof(to), "%s/copy.db-wal", w->dir);
    copy_file(from, to);
    world_close(w);
    (void)snprintf(w->url, sizeof(w->url), "sqlite:%s/copy.db", w->dir);
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    assert_int_equal(store_recovered(w->store), 3);
    world_close(w);
    world_open(w);
    assert_int_equal(store_recovered(w->store), 0); /* the kept one is left alone */
    assert_int_equal(world_balance(w, false).posted, 9 * USD);
    assert_int_equal(world_balance(w, false).held, USD);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM usage WHERE flags & 8"), 2);
    assert_int_equal(sql_number(w->url, "SELECT posted FROM accounts WHERE kind = 8"), -USD / 2);
    assert_int_equal(world_void(w, op.id), ERR_OK);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
}

/* Holds of this process that are open when it closes the store are dead for the next. */
static void closing_with_open_holds(void **state)
{
    struct world *w = *state;
    struct id id;

    world_open(w);
    world_fill(w, 10 * USD, 0);
    assert_int_equal(world_hold(w, USD, -1, &id), ERR_OK);
    world_close(w);
    world_open(w);
    assert_int_equal(store_recovered(w->store), 1);
    assert_int_equal(world_capture(w, id, 1, 1, -1), ERR_NOT_FOUND);
    assert_int_equal(world_balance(w, false).held, 0);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
    assert_int_not_equal(access(w->url + strlen("sqlite:"), R_OK), -1);
}

/* A closed store is one file: nothing is left in a log. */
static void closes_to_one_file(void **state)
{
    struct world *w = *state;
    char path[160];

    world_open(w);
    world_fill(w, USD, 0);
    (void)snprintf(path, sizeof(path), "%s-wal", w->url + strlen("sqlite:"));
    assert_int_equal(access(path, F_OK), 0);
    world_close(w);
    assert_int_not_equal(access(path, F_OK), 0);
}

/* After a second without work the log is carried over into the file. */
static void tidies_when_idle(void **state)
{
    struct world *w = *state;
    struct stat before, after;

    world_open(w);
    world_fill(w, USD, 0);
    assert_int_equal(stat(w->url + strlen("sqlite:"), &before), 0);
    usleep(1600 * 1000);
    assert_int_equal(stat(w->url + strlen("sqlite:"), &after), 0);
    assert_true(after.st_size > before.st_size);
    assert_true(store_healthy(w->store));
}

/* Somebody holds the file with another program for long: calls are refused for that time, and nothing breaks. */
static void foreign_writer(void **state)
{
    struct world *w = *state;
    int ready[2];
    char byte;
    pid_t child;

    world_open(w);
    world_fill(w, USD, 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        sql_hold(w->url, ready[1], 6000);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(world_credit(w, false, USD), ERR_UNAVAILABLE);
    assert_true(store_healthy(w->store));
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(world_credit(w, false, USD), ERR_OK);
    assert_int_equal(world_balance(w, false).posted, 2 * USD);
    assert_int_equal(w->failures, 0);
    close(ready[0]);
    close(ready[1]);
    world_close(w);
    assert_int_equal(world_fsck(w), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(migrates, set_up, tear_down),
        cmocka_unit_test_setup_teardown(migrates_what_is_old, set_up, tear_down),
        cmocka_unit_test_setup_teardown(migrates_what_is_empty, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_changed_migrations, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_newer_schemas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_foreign_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_bad_urls, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_process_at_a_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(resolves_dead_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_with_open_holds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closes_to_one_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tidies_when_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(foreign_writer, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
