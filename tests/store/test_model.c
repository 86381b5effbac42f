/* test_model.c - random operations against the model: the same answers, the same balances, lots, budgets and records,
 * with restarts and a clock that jumps in between.
 *
 * TG_OPS: how many operations (in rounds, each with a store of its own); TG_SEED repeats a run. Each round runs in a
 * child process. A round that differs is cut as long as it still differs (for TG_SHRINK seconds at most) and what is
 * left of it is printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib_play.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifdef SANITIZED
enum { OPS = 40000, ROUND = 10000 };
#else
enum { OPS = 100000, ROUND = 20000 };
#endif

enum {
    SETUP = 2 * STEPS_PARTIES, /* steps that are never cut: what a window counts depends on when it was made */
    HANGS = 240,               /* seconds after which a round is given up */
    SHRINK_SECONDS = 120,
    KIND = 80,
    INTERVAL_CUT = 20
};

static struct play_result *result; /* shared with the children */

static int64_t setting_of(const char *name, int64_t otherwise)
{
    return getenv(name) != NULL ? (int64_t)strtoull(getenv(name), NULL, 10) : otherwise;
}

/* ---- one round in a child ---- */

static void remove_dir(const char *dir)
{
    struct dirent *entry;
    char path[512];
    DIR *d = dir[0] != '\0' ? opendir(dir) : NULL;

    while (d != NULL && (entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
            (void)unlink(path);
        }
    if (d != NULL) {
        closedir(d);
        (void)rmdir(dir);
    }
}

/* Whether all was well; else result->text says why not, and result->step how far it came. */
static bool run(const struct steps_setting *setting, const struct step *steps, int n, bool loud)
{
    int status = 0;
    pid_t child;

    result->text[0] = result->dir[0] = '\0';
    result->step = -1;
    (void)fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!loud && freopen("/dev/null", "w", stderr) == NULL)
            _exit(3);
        (void)alarm(HANGS);
        play(setting, steps, n, result);
        exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    remove_dir(result->dir);
    if (WIFSIGNALED(status))
        (void)snprintf(result->text, sizeof(result->text), "killed by signal %d", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0 && result->text[0] == '\0')
        (void)snprintf(result->text, sizeof(result->text), "exit status %d", WEXITSTATUS(status));
    return status == 0;
}

/* ---- cutting ---- */

/* What differs, without its numbers: a sequence that was cut must still differ in the same way. */
static void kind_of(const char *text, char kind[KIND])
{
    size_t n = 0;

    for (; *text != '\0' && n + 1 < KIND; text++)
        if (strchr("0123456789-(), ", *text) == NULL)
            kind[n++] = *text;
    kind[n] = '\0';
}

static bool still_differs(const struct steps_setting *setting, const struct step *steps, int n, const char *wanted)
{
    char kind[KIND];

    if (run(setting, steps, n, false))
        return false;
    kind_of(result->text, kind);
    return strcmp(kind, wanted) == 0;
}

/* Leaves out pieces of ever smaller length as long as it still differs; returns how many steps are left. */
static int cut(const struct steps_setting *setting, struct step *steps, int n, const char *wanted, time_t until)
{
    struct step *without = calloc((size_t)n, sizeof(*without));

    assert_non_null(without);
    for (int length = n / 2; length > 0; length /= 2) {
        bool again = true;

        while (again && time(NULL) < until) {
            again = false;
            for (int from = SETUP; from < n && time(NULL) < until;) {
                int end = from + length < n ? from + length : n;

                memcpy(without, steps, (size_t)from * sizeof(*steps));
                memcpy(without + from, steps + end, (size_t)(n - end) * sizeof(*steps));
                if (!still_differs(setting, without, n - (end - from), wanted)) {
                    from = end;
                    continue;
                }
                n -= end - from;
                memcpy(steps, without, (size_t)n * sizeof(*steps));
                again = true;
            }
        }
    }
    free(without);
    return n;
}

static void explain(struct steps_setting *setting, struct step *steps, int n)
{
    time_t until = time(NULL) + (time_t)setting_of("TG_SHRINK", SHRINK_SECONDS);
    int reached = result->step + 1, interval = setting->interval;
    char wanted[KIND];

    fprintf(stderr, "TG_SEED=%" PRIu64 ": differs after %d of %d steps: %s\n", setting->seed, reached, n, result->text);
    kind_of(result->text, wanted);
    if (reached < n && still_differs(setting, steps, reached, wanted))
        n = reached;
    setting->interval = INTERVAL_CUT;
    if (still_differs(setting, steps, n, wanted)) /* perhaps much earlier: they look more often */
        n = result->step + 1;
    else
        setting->interval = interval;
    n = cut(setting, steps, n, wanted, until);
    (void)run(setting, steps, n, true);
    fprintf(stderr, "%d steps are left of it (clock %s back): %s\n", n, setting->falls ? "falls" : "does not fall",
            result->text);
    for (int i = 0; i < n; i++)
        steps_print(&steps[i]);
}

/* ---- the test ---- */

static void one_round(uint64_t seed, int n)
{
    struct steps_setting setting = {.seed = seed};
    struct step *steps = calloc((size_t)n, sizeof(*steps));

    assert_non_null(steps);
    steps_make(&setting, steps, n);
    if (!run(&setting, steps, n, true)) {
        explain(&setting, steps, n);
        fail_msg("store and model differ; TG_OPS=%d TG_SEED=%" PRIu64 " repeats it", n, seed);
    }
    free(steps);
}

static void random_operations(void **state)
{
    int64_t ops = setting_of("TG_OPS", OPS), done = 0;
    uint64_t seed = (uint64_t)setting_of("TG_SEED", (int64_t)getpid() * 2654435761 + (int64_t)time(NULL));
    bool all = true;

    (void)state;
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* whether it reaches a disk is not what this is about */
    result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(result != MAP_FAILED);
    print_message("TG_OPS=%" PRId64 " TG_SEED=%" PRIu64 "\n", ops, seed);
    for (uint64_t i = 0; done < ops; i++) {
        int n = ops - done < ROUND ? (int)(ops - done) : ROUND;

        one_round(seed + i, n);
        done += n;
    }
    print_message("%" PRId64 " operations: %" PRId64 " records, %" PRId64 " transfers, %" PRId64 " rows compared\n",
                  done, result->records, result->transfers, result->compared);
    for (int i = 0; i < REACHED_COUNT; i++) {
        if (getenv("TG_VERBOSE") != NULL)
            print_message("%9" PRId64 "  %s\n", result->reached[i], oracle_branch_text(i));
        if (result->reached[i] == 0 && ops >= OPS) {
            print_message("never reached: %s\n", oracle_branch_text(i));
            all = false;
        }
    }
    assert_true(all);
    (void)munmap(result, sizeof(*result));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
