/* test_base_failpoint.c - failpoints: what is asked for, passages, threads; and that other builds have none. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

#ifdef TG_FAILPOINTS

enum { THREADS = 4, PASSAGES = 1000 };

static void arm(const char *text)
{
    struct err err;

    if (!failpoint_arm(text, &err))
        fail_msg("%s", err.message);
}

static void refused(const char *text, const char *why)
{
    struct err err;

    assert_false(failpoint_arm(text, &err));
    if (strstr(err.message, why) == NULL)
        fail_msg("%s: %s", text, err.message);
    for (int i = 0; i < FAILPOINTS; i++)
        assert_false(failpoint_pass((enum failpoint)i));
}

static void test_understood(void **state)
{
    (void)state;
    arm(NULL);
    arm("");
    arm("hold.row:1:err");
    arm("hold.row:1:kill,usage.row:1000000000:err,deliver.before:2:delay,lot.row:3:delay=0,link.row:1:delay=60000ms");
    arm("");
}

static void test_refused(void **state)
{
    (void)state;
    refused("hold.rows:1:err", "no failpoint 'hold.rows'");
    refused("hold", "no failpoint 'hold'");
    refused(",", "no failpoint ''");
    refused("hold.row", "hold.row");
    refused("hold.row:1", "hold.row:1");
    refused("hold.row:0:err", "name:count:");
    refused("hold.row:-1:err", "name:count:");
    refused("hold.row:1000000001:err", "name:count:");
    refused("hold.row:x:err", "name:count:");
    refused("hold.row:1:error", "name:count:kill|err|delay");
    refused("hold.row:1:kill=1", "name:count:");
    refused("hold.row:1:delay=", "name:count:");
    refused("hold.row:1:delay=1s", "name:count:");
    refused("hold.row:1:delay=60001", "name:count:");
    refused("deliver.before:1:err", "name:count:kill|delay"); /* nothing can fail there */
    refused("usage.row:1:err,hold.row:1:err,usage.row:2:kill", "'usage.row' is there twice");
    refused("hold.row:1:err,usage.row:0:err", "usage.row:0:err");
}

/* At the count-th passage, and only then. */
static void test_passages(void **state)
{
    (void)state;
    arm("hold.row:3:err");
    assert_false(FAILPOINT(HOLD_ROW));
    assert_false(FAILPOINT(USAGE_ROW));
    assert_false(FAILPOINT(HOLD_ROW));
    assert_true(FAILPOINT(HOLD_ROW));
    assert_false(FAILPOINT(HOLD_ROW));
    arm("hold.row:1:err");
    assert_true(FAILPOINT(HOLD_ROW));
    arm("");
}

static void test_error(void **state)
{
    struct err err;

    (void)state;
    arm("capture.applied:1:err");
    assert_int_equal(FAILPOINT_CODE(HOLD_APPLIED, &err), ERR_OK);
    assert_int_equal(FAILPOINT_CODE(CAPTURE_APPLIED, &err), ERR_UNAVAILABLE);
    assert_int_equal(err.code, ERR_UNAVAILABLE);
    arm("capture.applied:1:err");
    assert_true(FAILPOINT_NTH(HOLD_APPLIED, 1));
    arm("");
}

static void test_delay(void **state)
{
    int64_t began = clock_mono();

    (void)state;
    arm("hold.row:1:delay=30ms");
    assert_false(FAILPOINT(HOLD_ROW));
    assert_true(clock_mono() - began >= 30000);
    arm("");
}

static void test_kill(void **state)
{
    int status;
    pid_t child;

    (void)state;
    child = fork();
    if (child == 0) {
        arm("hold.row:2:kill");
        (void)FAILPOINT(HOLD_ROW);
        (void)FAILPOINT(HOLD_ROW);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static atomic_int failures;

static void *pass_often(void *arg)
{
    for (int i = 0; i < PASSAGES; i++)
        if (FAILPOINT(HOLD_ROW))
            atomic_fetch_add(&failures, 1);
    return arg;
}

/* Of all threads exactly one is the count-th. */
static void test_threads(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    arm("hold.row:2000:err");
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, pass_often, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&failures), 1);
    arm("");
}

static void test_list(void **state)
{
    char *text = NULL;
    size_t len = 0, lines = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    failpoint_list(out);
    assert_int_equal(fclose(out), 0);
    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, FAILPOINTS);
    assert_ptr_equal(strstr(text, "hold.applied\tkill,err,delay\t"), text);
    assert_non_null(strstr(text, "\ndeliver.before\tkill,delay\t"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_understood), cmocka_unit_test(test_refused), cmocka_unit_test(test_passages),
        cmocka_unit_test(test_error),      cmocka_unit_test(test_delay),   cmocka_unit_test(test_kill),
        cmocka_unit_test(test_threads),    cmocka_unit_test(test_list),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_nothing_is_built_in(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_true(failpoint_arm("hold.row:1:kill", NULL));
    assert_false(FAILPOINT(HOLD_ROW));
    assert_false(FAILPOINT_BUILD);
    failpoint_list(out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(len, 0);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_built_in)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
