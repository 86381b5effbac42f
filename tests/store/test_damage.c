/* test_damage.c - a damaged store: bytes flipped, pages lost or misplaced, files cut, in the database, its log and its
 * shared memory.
 *
 * Each damage is tried in a process of its own: fsck, then a start, work and an end, then fsck again. The store may
 * refuse to open, or fsck may find it, with a message that can be read. It may not crash, hang, or go on with other
 * balances than those that were acknowledged while fsck finds nothing. A log is a chain: what is behind its damage
 * cannot be told from what a power cut left unfinished, so there the store may go back to where it was after an
 * earlier commit, and to nothing else.
 * TG_SEED chooses other places, TG_DAMAGES their number. */
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

#include "lib_load.h"

enum {
    PAGE = 4096,
    ROUNDS = 30,
    COMMITS = 150,
    PLACES = TEST_SANITIZED ? 60 : 300,
    HANGS = 120,
    DETAIL = 4096,
    LOG_FRAME = PAGE + 24
};

#define DEPOSIT (1000 * USD)

enum file { FILE_DB = 0, FILE_LOG, FILE_SHM, FILES };
static const char *const endings[FILES] = {"", "-wal", "-shm"};

enum damage_kind { DAMAGE_FLIP = 0, DAMAGE_ZERO_PAGE, DAMAGE_COPY_PAGE, DAMAGE_CUT, DAMAGE_KINDS };

struct damage {
    enum file file;
    enum damage_kind kind;
    size_t at, from; /* COPY_PAGE: the page at <from> over the one at <at> */
    uint8_t mask;    /* FLIP */
};

/* How a process that tried a damage ended. */
enum outcome { REFUSED = 10, REPORTED, HARMLESS, ALTERED, ROLLED_BACK, SILENT, UNCLEAR, OUTCOMES };

struct content {
    uint8_t *p;
    size_t n;
};

struct pair {
    int64_t posted[2];
};

static struct {
    struct world w;
    struct load load; /* what was acknowledged of the sample at hand */
    struct content files[FILES];
    struct pair past[COMMITS + 1]; /* balances after each commit; the last are the right ones */
    int n_past;
    long outcomes[OUTCOMES];
} t;

static struct dice dice;

/* ---- files ---- */

static void path_of(enum file file, char out[160])
{
    (void)snprintf(out, 160, "%s/t.db%s", t.w.dir, endings[file]);
}

static struct content read_file(enum file file)
{
    struct content c = {NULL, 0};
    char path[160];
    struct stat st;
    int fd;

    path_of(file, path);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return c;
    assert_int_equal(fstat(fd, &st), 0);
    c.n = (size_t)st.st_size;
    c.p = mem_alloc(c.n + 1);
    assert_int_equal(read(fd, c.p, c.n), (ssize_t)c.n);
    close(fd);
    return c;
}

static void read_files(void)
{
    for (enum file file = FILE_DB; file < FILES; file++) {
        free(t.files[file].p);
        t.files[file] = read_file(file);
    }
}

static void write_file(enum file file, const struct content *c)
{
    char path[160];
    int fd;

    path_of(file, path);
    (void)unlink(path);
    if (c->p == NULL)
        return;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, c->p, c->n), (ssize_t)c->n);
    close(fd);
}

static void apply(const struct damage *d, struct content *c)
{
    size_t room = c->n - d->at;

    switch (d->kind) {
    case DAMAGE_FLIP:
        c->p[d->at] ^= d->mask;
        break;
    case DAMAGE_ZERO_PAGE:
        memset(c->p + d->at, 0, room < PAGE ? room : PAGE);
        break;
    case DAMAGE_COPY_PAGE:
        memmove(c->p + d->at, c->p + d->from, PAGE);
        break;
    case DAMAGE_CUT:
        c->n = d->at;
        break;
    case DAMAGE_KINDS:
        break;
    }
}

static void write_damaged(const struct damage *d)
{
    for (enum file file = FILE_DB; file < FILES; file++) {
        struct content c = t.files[file];

        if (file != d->file || c.p == NULL) {
            write_file(file, &c);
            continue;
        }
        c.p = mem_alloc(c.n + 1);
        memcpy(c.p, t.files[file].p, c.n);
        apply(d, &c);
        write_file(file, &c);
        free(c.p);
    }
}

/* ---- one damage, in a process of its own ---- */

struct report {
    int violated;
    bool unclear;
};

static void note_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    struct report *r = ctx;

    (void)checked;
    r->violated += !ok;
    if (!load_is_clear(invariant, DETAIL) || (!ok && !load_is_clear(detail, DETAIL))) {
        r->unclear = true;
        fprintf(stderr, "fsck: %s: %s\n", invariant, detail);
    }
}

/* 0: clean; 1: it found something or could not look. */
static int look(bool *unclear)
{
    struct report r = {0, false};
    struct err err;
    int n;

    memset(&err, 0, sizeof(err));
    n = store_fsck(t.w.url, note_line, NULL, &r, &err);
    *unclear |= r.unclear || (n < 0 && !load_is_clear(err.message, sizeof(err.message))) || (n >= 0 && n != r.violated);
    return n != 0;
}

/* Which commit these balances are of; -1: none. */
static int find_past(const struct pair *now)
{
    for (int i = t.n_past - 1; i >= 0; i--)
        if (now->posted[0] == t.past[i].posted[0] && now->posted[1] == t.past[i].posted[1])
            return i;
    return -1;
}

static enum outcome judge(const struct pair *now, int64_t held, bool may_go_back)
{
    int found = held == 0 ? find_past(now) : -1;

    if (found == t.n_past - 1)
        return HARMLESS;
    return found >= 0 && may_go_back ? ROLLED_BACK : SILENT;
}

static enum outcome try_damage(const struct damage *d)
{
    enum outcome outcome;
    bool unclear = false;
    struct pair now;
    int64_t held = 0;
    struct err err;
    int found = look(&unclear);

    if (load_open(&t.load, &err) != ERR_OK) {
        fprintf(stderr, "refused: %s: %s\n", t.load.wrong, err.message);
        return unclear || t.load.wrong[0] != '\0' ? UNCLEAR : REFUSED;
    }
    for (int wallet = 0; wallet < 2; wallet++) {
        struct store_balance b = load_balance(&t.load, wallet);

        now.posted[wallet] = b.posted;
        held += b.held;
    }
    outcome = judge(&now, held, d->file == FILE_LOG);
    t.load.relaxed = true;
    (void)load_compare(&t.load);
    if (outcome == HARMLESS && t.load.wrong[0] != '\0')
        outcome = ALTERED; /* in something that is no money and that no rule of fsck's speaks of: a name, a size */
    fprintf(stderr, "compared: %s\n", t.load.wrong);
    (void)load_round(&t.load);
    load_close(&t.load);
    found |= look(&unclear);
    if (unclear)
        return UNCLEAR;
    return found != 0 ? REPORTED : outcome;
}

static void show(const char *path)
{
    char text[4096];
    FILE *file = fopen(path, "r");
    size_t n = file != NULL ? fread(text, 1, sizeof(text) - 1, file) : 0;

    text[n] = '\0';
    print_error("%s\n", text);
    if (file != NULL)
        (void)fclose(file);
}

static enum outcome try_apart(const struct damage *d)
{
    char path[160];
    int status;
    pid_t child;

    write_damaged(d);
    (void)snprintf(path, sizeof(path), "%s/stderr", t.w.dir);
    child = fork();
    if (child == 0) {
        if (freopen(path, "w", stderr) == NULL)
            _exit(1);
        (void)alarm(HANGS);
        status = (int)try_damage(d);
        (void)fflush(stderr);
        _exit(status);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) >= REFUSED && WEXITSTATUS(status) < SILENT) {
        t.outcomes[WEXITSTATUS(status)]++;
        return (enum outcome)WEXITSTATUS(status);
    }
    print_error("TG_SEED=%llu, damage of kind %d to t.db%s at %zu (from %zu, mask %#x): status %#x, outcome %d\n",
                (unsigned long long)dice_seed(), (int)d->kind, endings[d->file], d->at, d->from, d->mask, status,
                WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    show(path);
    fail();
    return UNCLEAR;
}

/* ---- samples ---- */

static void note_past(void)
{
    struct pair *p = &t.past[t.n_past++];

    for (int wallet = 0; wallet < 2; wallet++)
        p->posted[wallet] = load_balance(&t.load, wallet).posted;
}

static void must_open(void)
{
    struct err err;

    assert_int_equal(load_open(&t.load, &err), ERR_OK);
}

static void start_sample(int n_hands)
{
    static const struct content none = {NULL, 0};

    for (enum file file = FILE_DB; file < FILES; file++)
        write_file(file, &none);
    world_open(&t.w);
    world_fill(&t.w, DEPOSIT, DEPOSIT);
    world_close(&t.w);
    load_init(&t.load, &t.w, dice_seed(), n_hands, DEPOSIT, DEPOSIT);
    t.n_past = 0;
    memset(t.outcomes, 0, sizeof(t.outcomes));
    dice.state = dice_seed();
    must_open();
}

/* A store that was closed: one file, nothing held. */
static void make_closed(void)
{
    start_sample(LOAD_HANDS);
    for (int i = 0; i < ROUNDS; i++)
        assert_true(load_round(&t.load));
    load_close(&t.load);
    must_open();
    (void)load_compare(&t.load);
    note_past();
    load_close(&t.load);
    assert_string_equal(t.load.wrong, "");
    read_files();
}

/* A store that was killed: most is in its log. One operation a commit, and the balances after each are known. */
static void make_killed(void)
{
    start_sample(1);
    note_past();
    for (int i = 1; i < COMMITS; i++) {
        assert_true(load_round(&t.load));
        note_past();
    }
    read_files();
    load_close(&t.load);
    assert_string_equal(t.load.wrong, "");
    assert_true(t.files[FILE_LOG].n > COMMITS * PAGE);
}

static size_t places(void)
{
    return getenv("TG_DAMAGES") != NULL ? strtoul(getenv("TG_DAMAGES"), NULL, 10) : PLACES;
}

static void tell(const char *what)
{
    print_message(
        "%s: %ld refused, %ld found by fsck, %ld harmless, %ld altered beside the money, %ld back to an earlier "
        "commit\n",
        what, t.outcomes[REFUSED], t.outcomes[REPORTED], t.outcomes[HARMLESS], t.outcomes[ALTERED],
        t.outcomes[ROLLED_BACK]);
}

static uint8_t some_mask(void)
{
    return dice_below(&dice, 2) == 0 ? (uint8_t)(1u << dice_below(&dice, 8)) : (uint8_t)(1 + dice_below(&dice, 255));
}

/* ---- tests ---- */

static void the_samples_are_right(void **state)
{
    struct damage none = {.file = FILE_DB, .kind = DAMAGE_FLIP, .at = 200, .mask = 0};

    (void)state;
    make_closed();
    assert_int_equal(try_apart(&none), HARMLESS);
    make_killed();
    assert_int_equal(try_apart(&none), HARMLESS);
}

static void headers_of_pages(void **state)
{
    enum { HEADER = 12, FILE_HEADER = 100 };
    size_t step;

    (void)state;
    make_closed();
    step = t.files[FILE_DB].n / PAGE * HEADER / (places() + 1) + 1;
    for (size_t at = 0; at < FILE_HEADER; at += TEST_SANITIZED ? 5 : 1)
        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_FLIP, at, 0, some_mask()});
    for (size_t i = 0; i < t.files[FILE_DB].n / PAGE * HEADER; i += step) {
        size_t at = i / HEADER * PAGE + i % HEADER + (i < HEADER ? FILE_HEADER : 0);

        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_FLIP, at, 0, some_mask()});
    }
    tell("headers");
    assert_true(t.outcomes[REFUSED] > 0 && t.outcomes[REPORTED] > 0);
}

static void random_places(void **state)
{
    (void)state;
    make_closed();
    for (size_t i = 0; i < places(); i++)
        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_FLIP, dice_below(&dice, t.files[FILE_DB].n), 0, some_mask()});
    tell("random places");
    assert_true(t.outcomes[REPORTED] > 0);
}

static void whole_pages(void **state)
{
    size_t pages;

    (void)state;
    make_closed();
    pages = t.files[FILE_DB].n / PAGE;
    for (size_t i = 0; i < places() / 3; i++) {
        size_t at = dice_below(&dice, pages) * PAGE, from = dice_below(&dice, pages) * PAGE;

        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_ZERO_PAGE, at, 0, 0});
        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_COPY_PAGE, at, from, 0});
        (void)try_apart(&(struct damage){FILE_DB, DAMAGE_CUT, 1 + dice_below(&dice, pages * PAGE - 1), 0, 0});
    }
    tell("pages lost, misplaced or cut off");
}

static void the_log(void **state)
{
    size_t n;

    (void)state;
    make_killed();
    n = t.files[FILE_LOG].n;
    for (size_t at = 0; at < 32; at += TEST_SANITIZED ? 4 : 1)
        (void)try_apart(&(struct damage){FILE_LOG, DAMAGE_FLIP, at, 0, some_mask()});
    for (size_t i = 0; i < places() / 2; i++) {
        size_t frame = 32 + dice_below(&dice, n / LOG_FRAME) * LOG_FRAME;

        (void)try_apart(&(struct damage){FILE_LOG, DAMAGE_FLIP, frame + dice_below(&dice, 24), 0, some_mask()});
        (void)try_apart(&(struct damage){FILE_LOG, DAMAGE_FLIP, dice_below(&dice, n), 0, some_mask()});
    }
    for (size_t i = 0; i < places() / 10; i++)
        (void)try_apart(&(struct damage){FILE_LOG, DAMAGE_CUT, dice_below(&dice, n), 0, 0});
    tell("the log");
}

/* Shared memory is made anew by the first who opens: nothing in its file matters. */
static void the_shared_memory(void **state)
{
    struct content *shm = &t.files[FILE_SHM];

    (void)state;
    make_killed();
    assert_true(shm->n > 0);
    for (size_t i = 0; i < places() / 10 + 1; i++) {
        struct damage d = {FILE_SHM, DAMAGE_FLIP, dice_below(&dice, shm->n), 0, some_mask()};

        if (i % 2 == 0)
            for (size_t at = 0; at < shm->n; at++)
                shm->p[at] = (uint8_t)dice_roll(&dice);
        assert_int_equal(try_apart(&d), HARMLESS);
    }
    tell("shared memory");
}

static int set_up(void **state)
{
    (void)state;
    print_message("TG_SEED=%llu\n", (unsigned long long)dice_seed());
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* thousands of small files; the damage is no disk's */
    world_init(&t.w);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (enum file file = FILE_DB; file < FILES; file++)
        free(t.files[file].p);
    world_dispose(&t.w);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_samples_are_right),
        cmocka_unit_test(headers_of_pages),
        cmocka_unit_test(random_places),
        cmocka_unit_test(whole_pages),
        cmocka_unit_test(the_log),
        cmocka_unit_test(the_shared_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
