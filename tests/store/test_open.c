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

/* A store of the first release, with a hold that its process left behind. */
static void migrates_what_is_old(void **state)
{
    struct world *w = *state;
    struct store_hold op;
    struct err err;
    int applied;

    world_open(w);
    world_fill(w, 10 * USD, 0);
    world_hold_init(w, &op, USD, -1);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    world_close(w);
    sql_exec(w->url, "DROP TABLE call_keys; ALTER TABLE holds DROP COLUMN call_key;"
                     "DELETE FROM migrations WHERE name > '0001_initial.sql'");
    assert_int_equal(try_open(w, false, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.message, "0002_call_keys.sql"));
    assert_int_equal(store_fsck(w->url, note_nothing, NULL, &err), -1);
    assert_non_null(strstr(err.message, "tallygate migrate"));
    assert_int_equal(store_migrate(w->url, &applied, &err), ERR_OK);
    assert_int_equal(applied, 1);
    assert_int_equal(world_fsck(w), 0);
    world_open(w);
    assert_int_equal(store_recovered(w->store), 1);
    world_hold_init(w, &op, USD, -1);
    world_hold_key(&op, "new", 1);
    assert_int_equal(world_do(w, &op.super), ERR_OK);
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
    assert_int_equal(store_fsck(w->url, NULL, NULL, &err), -1);

    fd = open(path, O_WRONLY | O_TRUNC);
    assert_true(fd >= 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(write(fd, "this is not a database, is it?\n", 31), 31);
    close(fd);
    assert_int_equal(try_open(w, true, &err), ERR_UNAVAILABLE);
    assert_int_equal(store_fsck(w->url, NULL, NULL, &err), -1);
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
    assert_int_equal(store_fsck(w->url, NULL, NULL, &err), -1);
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
