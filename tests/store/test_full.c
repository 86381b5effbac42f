/* test_full.c - the disk is full: at the first start, at a later start, under load. Refused is refused, acknowledged
 * is there, and once there is room again everything goes on.
 *
 * The disk is a small tmpfs in a mount namespace of this process. Where that is not allowed, it is the limit on the
 * size of files, with the signal ignored, so that writing past it is an error as on a full disk. */
#define _GNU_SOURCE /* unshare */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib_load.h"

enum { DISK_KIB = 8192, PAGE = 4096, PATIENCE = 3000 };

#define DEPOSIT (1000 * USD)

static char mount_point[64];
static bool mounted;
static struct load l;
static struct world w;

/* ---- a disk with little room ---- */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    if (fd >= 0)
        close(fd);
    return good;
}

/* Root of a namespace of its own, when it is not root already. */
static bool become_root(void)
{
    char map[32];

    (void)snprintf(map, sizeof(map), "0 %lu 1", (unsigned long)geteuid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", map);
}

static bool mount_disk(void)
{
    char options[32];

    if (unshare(CLONE_NEWNS) != 0 && !become_root())
        return false;
    (void)snprintf(options, sizeof(options), "size=%dk", DISK_KIB);
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", mount_point, "tmpfs", 0, options) == 0;
}

static size_t size_of(const char *ending)
{
    char path[160];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/t.db%s", w.dir, ending);
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static void fill_disk(size_t room)
{
    static const char zeros[PAGE];
    struct statvfs vfs;
    char path[96];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/ballast", mount_point);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    for (;;) {
        assert_int_equal(statvfs(mount_point, &vfs), 0);
        if (vfs.f_bavail * vfs.f_frsize <= room || write(fd, zeros, PAGE) != PAGE)
            break;
    }
    close(fd);
}

/* Leaves <room> bytes; on the other way, files may grow to that size beyond the database's. */
static void take_room(size_t room)
{
    struct rlimit limit;

    if (mounted) {
        fill_disk(room);
        return;
    }
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size_of("") + room;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void give_room(void)
{
    struct rlimit limit;
    char path[96];

    if (mounted) {
        (void)snprintf(path, sizeof(path), "%s/ballast", mount_point);
        assert_int_equal(unlink(path), 0);
        return;
    }
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* ---- what is done on it ---- */

static void make_store(void)
{
    world_init(&w);
    world_open(&w);
    world_fill(&w, DEPOSIT, DEPOSIT);
    world_close(&w);
    load_init(&l, &w, dice_seed(), LOAD_HANDS, DEPOSIT, DEPOSIT);
}

static void must_open(void)
{
    struct err err;

    if (load_open(&l, &err) != ERR_OK)
        print_error("%s\n", err.message);
    assert_non_null(w.store);
}

/* There is room again: a new start has everything, and works. */
static void must_recover(void)
{
    must_open();
    (void)load_compare(&l);
    assert_string_equal(l.wrong, "");
    for (int i = 0; i < 20; i++)
        assert_true(load_round(&l));
    load_close(&l);
    must_open();
    (void)load_compare(&l);
    load_close(&l);
    assert_string_equal(l.wrong, "");
    assert_int_equal(world_fsck(&w), 0);
}

/* One failure with that much room before it. */
static void fill_up(size_t room)
{
    int64_t before;
    int rounds = 0;

    make_store();
    must_open();
    assert_true(load_round(&l));
    before = l.acknowledged;
    take_room(room);
    while (load_round(&l))
        assert_true(++rounds < PATIENCE);
    assert_true(l.failed);
    assert_false(load_round(&l)); /* whatever it acknowledged now would be wrong */
    load_close(&l);
    assert_string_equal(l.wrong, "");
    assert_non_null(strstr(w.why, mounted ? "full" : "error"));
    print_message("%zu KiB: %lld operations, then: %s\n", room / 1024, (long long)(l.acknowledged - before), w.why);
    give_room();
    must_recover();
    world_dispose(&w);
}

static void under_load(void **state)
{
    (void)state;
    for (size_t room = 0; room <= 512 * 1024; room += 64 * 1024 + PAGE)
        fill_up(room);
}

/* A start without room is refused or works, and takes nothing away. What is to be written is already there after a
 * failure under load: a log that is not carried over. */
static void at_a_start(void **state)
{
    struct err err;
    int refused = 0;

    (void)state;
    make_store();
    must_open();
    for (int i = 0; i < 10; i++)
        assert_true(load_round(&l));
    take_room(0);
    while (load_round(&l))
        ;
    load_close(&l);
    give_room();
    for (size_t room = 0; room <= 40 * PAGE; room += 2 * PAGE) {
        take_room(room);
        if (load_open(&l, &err) == ERR_OK)
            load_close(&l);
        else
            refused++;
        assert_string_equal(l.wrong, "");
        give_room();
    }
    must_recover();
    print_message("%d starts were refused\n", refused);
    assert_true(refused > 0);
    world_dispose(&w);
}

/* The very first start makes the store: what it leaves behind when it cannot, the next one can use. */
static void at_the_first_start(void **state)
{
    struct err err;
    int refused = 0;

    (void)state;
    for (size_t room = 0; room <= 1024 * 1024; room += room < 64 * 1024 ? 2 * PAGE : 64 * 1024) {
        world_init(&w);
        load_init(&l, &w, dice_seed(), LOAD_HANDS, DEPOSIT, DEPOSIT);
        take_room(room);
        if (load_open(&l, &err) == ERR_OK)
            load_close(&l);
        else
            refused++;
        assert_string_equal(l.wrong, "");
        give_room();
        world_open(&w);
        world_fill(&w, DEPOSIT, DEPOSIT);
        world_close(&w);
        must_recover();
        world_dispose(&w);
    }
    print_message("%d starts were refused\n", refused);
    assert_true(refused > 0);
}

static int set_up(void **state)
{
    const char *tmp = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";

    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(mount_point, sizeof(mount_point), "%.40s/tg-full-XXXXXX", tmp);
    if (mkdtemp(mount_point) == NULL)
        return -1;
    mounted = getenv("TG_NO_MOUNT") == NULL && mount_disk();
    if (mounted)
        (void)setenv("TMPDIR", mount_point, 1);
    print_message("TG_SEED=%llu; the disk is %s\n", (unsigned long long)dice_seed(),
                  mounted ? "a tmpfs" : "a limit on the size of files (no tmpfs may be mounted here)");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (mounted)
        (void)umount(mount_point);
    (void)rmdir(mount_point);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_the_first_start),
        cmocka_unit_test(at_a_start),
        cmocka_unit_test(under_load),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
