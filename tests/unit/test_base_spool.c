/* The spool: what goes in comes out, in memory and in a file that nobody else sees. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/base/attrs.h"
#include "daemon/base/spool.h"

static char directory[] = "/tmp/spool-test-XXXXXX";

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory); /* fails when a file was left */
}

static void append(struct spool *s, const char *bytes, size_t len)
{
    struct err err;

    assert_int_equal(spool_append(s, (struct slice){bytes, len}, &err), ERR_OK);
}

/* Bytes that tell their place. */
static void fill(char *out, size_t len, size_t from)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (char)((from + i) * 2654435761u >> 13);
}

static void append_filled(struct spool *s, size_t len, size_t piece)
{
    char *bytes = mem_alloc(piece);

    for (size_t at = 0; at < len; at += piece) {
        size_t n = piece < len - at ? piece : len - at;

        fill(bytes, n, at);
        append(s, bytes, n);
    }
    free(bytes);
}

static void assert_filled(const struct spool *s, size_t len, size_t piece)
{
    char *got = mem_alloc(piece), *expected = mem_alloc(piece);
    ssize_t n;
    size_t at = 0;

    while ((n = spool_read(s, at, got, piece)) > 0) {
        fill(expected, (size_t)n, at);
        assert_memory_equal(got, expected, (size_t)n);
        at += (size_t)n;
    }
    assert_int_equal(n, 0);
    assert_int_equal(at, len);
    assert_int_equal(spool_len(s), len);
    free(got);
    free(expected);
}

static int files_open(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void few_bytes_stay_in_memory(void **state)
{
    struct spool *s = spool_create("/does/not/exist", 11);
    int before = files_open();
    struct slice all;

    (void)state;
    assert_true(spool_memory(s, &all));
    assert_int_equal(all.len, 0);
    append(s, "hello ", 6);
    append(s, "world", 5);
    assert_true(spool_memory(s, &all));
    assert_int_equal(all.len, 11);
    assert_memory_equal(all.p, "hello world", 11);
    assert_int_equal(files_open(), before);
    spool_destroy(s);
}

static void many_bytes_go_to_a_file_without_a_name(void **state)
{
    static const size_t pieces[] = {1000, LIMIT_SPOOL_MEMORY - 1, LIMIT_SPOOL_MEMORY + 1};
    size_t len = 3 * (size_t)LIMIT_SPOOL_MEMORY + 17;

    (void)state;
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct spool *s = spool_create(directory, 0);
        int before = files_open();
        struct slice all;

        append_filled(s, len, pieces[i]);
        assert_int_equal(files_open(), before + 1);
        assert_int_equal(rmdir(directory), 0); /* it is empty */
        assert_int_equal(mkdir(directory, 0700), 0);
        assert_false(spool_memory(s, &all));
        assert_filled(s, len, 4096);
        assert_filled(s, len, len + 1);
        spool_destroy(s);
        assert_int_equal(files_open(), before);
    }
}

static void the_limit_itself_still_fits(void **state)
{
    struct spool *s = spool_create("/does/not/exist", LIMIT_SPOOL_MEMORY);
    struct slice all;

    (void)state;
    append_filled(s, LIMIT_SPOOL_MEMORY, 1024);
    assert_true(spool_memory(s, &all));
    assert_filled(s, LIMIT_SPOOL_MEMORY, 999);
    spool_destroy(s);
}

static void a_file_that_cannot_be_made_loses_nothing(void **state)
{
    struct spool *s = spool_create("/does/not/exist", 0);
    struct err err;

    (void)state;
    append_filled(s, LIMIT_SPOOL_MEMORY, 1024);
    assert_int_equal(spool_append(s, SLICE("x"), &err), ERR_UNAVAILABLE);
    assert_filled(s, LIMIT_SPOOL_MEMORY, 4096);
    spool_destroy(s);
}

static void a_full_disk_loses_nothing(void **state)
{
    size_t room = 2 * (size_t)LIMIT_SPOOL_MEMORY;
    struct rlimit old, small = {room, room};
    struct spool *s = spool_create(directory, 0);
    struct err err;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    append_filled(s, room, 4096);
    assert_int_equal(spool_append(s, SLICE("x"), &err), ERR_UNAVAILABLE);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_filled(s, room, 4096);
    spool_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_bytes_stay_in_memory),    cmocka_unit_test(many_bytes_go_to_a_file_without_a_name),
        cmocka_unit_test(the_limit_itself_still_fits), cmocka_unit_test(a_file_that_cannot_be_made_loses_nothing),
        cmocka_unit_test(a_full_disk_loses_nothing),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
