/* test_relay_answers.c - kept answers and their bounds; fingerprints of requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/relay/answers.h"
#include "daemon/relay/fingerprint.h"

enum { KIB = 1024, FILE_COST = 4096 };

static char dir[64], directory[96];

static struct answers *open_with(int64_t keep, int64_t max_answer, int64_t max_kept)
{
    const struct answers_options options = {directory, keep, max_answer, max_kept};
    struct answers *a;
    struct err err;

    assert_int_equal(answers_open(&options, &a, &err), ERR_OK);
    return a;
}

static struct answers *open_plain(void)
{
    return open_with(CLOCK_SECOND * 3600, 1024 * KIB, 4096 * KIB);
}

static void add_filled(struct answer_writer *w, char byte, size_t len)
{
    char piece[KIB];

    memset(piece, byte, sizeof(piece));
    for (; len > 0; len -= len < KIB ? len : KIB)
        answers_add(w, (struct slice){piece, len < KIB ? len : KIB});
}

static struct id keep(struct answers *a, char byte, size_t len)
{
    const struct answer_head head = {.status = 200, .events = true, .charge = 42, .upstream_id = "req_up"};
    struct id id = id_make();
    struct answer_writer *w = answers_begin(a, id);

    add_filled(w, byte, len);
    answers_commit(w, &head);
    return id;
}

static bool is_kept(struct answers *a, struct id id)
{
    struct answer_reader *r = answers_find(a, id);

    if (r != NULL)
        answer_close(r);
    return r != NULL;
}

/* Proves it whole and checks that it is <len> times <byte>. */
static void expect_answer(struct answers *a, struct id id, char byte, size_t len)
{
    struct answer_reader *r = answers_find(a, id);
    enum answer_proof proof;
    char *body = malloc(len + 1);

    assert_non_null(r);
    while ((proof = answer_prove(r)) == ANSWER_UNPROVEN)
        ;
    assert_int_equal(proof, ANSWER_GOOD);
    assert_int_equal(answer_len(r), len);
    assert_int_equal(answer_head(r)->status, 200);
    assert_true(answer_head(r)->events);
    assert_int_equal(answer_head(r)->charge, 42);
    assert_string_equal(answer_head(r)->upstream_id, "req_up");
    assert_int_equal(answer_read(r, 0, body, len + 1), len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(body[i], byte);
    assert_int_equal(answer_read(r, len, body, 1), 0);
    free(body);
    answer_close(r);
}

static int files(void)
{
    DIR *d = opendir(directory);
    struct dirent *item;
    int n = 0;

    while ((item = readdir(d)) != NULL)
        n += item->d_name[0] != '.';
    closedir(d);
    return n;
}

static void test_kept(void **state)
{
    struct answers *a = open_plain();
    struct id id = keep(a, 'x', 700 * KIB), empty = keep(a, 'x', 0);

    (void)state;
    expect_answer(a, id, 'x', 700 * KIB);
    expect_answer(a, empty, 'x', 0);
    assert_false(is_kept(a, id_make()));
    answers_close(a);
    a = open_plain();
    expect_answer(a, id, 'x', 700 * KIB);
    expect_answer(a, empty, 'x', 0);
    answers_close(a);
}

static void test_dropped(void **state)
{
    struct answers *a = open_plain();
    struct answer_writer *w = answers_begin(a, id_make());
    struct id id = id_make();
    int before = files();

    (void)state;
    add_filled(w, 'x', 10 * KIB);
    answers_drop(w);
    assert_int_equal(files(), before - 1);

    w = answers_begin(a, id); /* too long */
    add_filled(w, 'x', 1025 * KIB);
    assert_int_equal(files(), before - 1);
    answers_commit(w, &(struct answer_head){.status = 200});
    assert_false(is_kept(a, id));

    w = answers_begin(a, id); /* a process that dies leaves it behind */
    add_filled(w, 'x', KIB);
    assert_int_equal(files(), before);
    answers_close(open_plain());
    assert_int_equal(files(), before - 1);
    answers_drop(w);
    answers_close(a);
}

static void test_room(void **state)
{
    const int64_t most = 10 * (100 * KIB + FILE_COST);
    struct answers *a;
    struct answer_writer *w;
    struct id id[12];

    (void)state;
    answers_close(open_with(1, KIB, 0)); /* nothing older stays */
    assert_int_equal(files(), 0);
    a = open_with(CLOCK_SECOND * 3600, 1024 * KIB, most);
    for (int i = 0; i < 12; i++)
        id[i] = keep(a, 'x', 100 * KIB);
    for (int i = 0; i < 12; i++)
        assert_int_equal(is_kept(a, id[i]), i >= 2);
    assert_int_equal(files(), 10);

    w = answers_begin(a, id_make()); /* what is being written counts */
    add_filled(w, 'x', 150 * KIB);
    assert_int_equal(files(), 10 - 2 + 1);
    assert_false(is_kept(a, id[3]));
    assert_true(is_kept(a, id[4]));
    answers_drop(w);
    answers_close(a);

    a = open_with(CLOCK_SECOND * 3600, 1024 * KIB, most / 2); /* less from now on */
    assert_int_equal(files(), 5);
    assert_false(is_kept(a, id[6]));
    assert_true(is_kept(a, id[7]));
    answers_close(a);
    answers_close(open_with(CLOCK_SECOND * 3600, 1024 * KIB, 0));
    assert_int_equal(files(), 0);
}

static void test_none(void **state)
{
    struct answers *a = open_with(CLOCK_SECOND, 0, 1024 * KIB);

    (void)state;
    assert_null(answers_begin(a, id_make()));
    answers_close(a);
    a = open_with(CLOCK_SECOND, KIB, 0);
    assert_null(answers_begin(a, id_make()));
    answers_close(a);
}

static void test_age(void **state)
{
    struct answers *a = open_with(CLOCK_SECOND * 3600, 1024 * KIB, 1024 * KIB);
    struct id id;
    int64_t now = clock_wall();

    (void)state;
    clock_freeze(now, clock_mono());
    id = keep(a, 'x', KIB);
    clock_freeze(now + CLOCK_SECOND * 3600, clock_mono());
    assert_true(is_kept(a, id));
    clock_freeze(now + CLOCK_SECOND * 3600 + 1, clock_mono());
    assert_false(is_kept(a, id));
    assert_int_equal(files(), 0);
    clock_release();
    answers_close(a);
}

static void path_of(struct id id, char out[256])
{
    char text[ID_TEXT];

    snprintf(out, 256, "%s/%s", directory, id_format("req", id, text));
}

/* Whatever byte of a file was lost or changed while nobody looked, it is not given. */
static void test_damage(void **state)
{
    static const long places[] = {0, 8, 16, 24, 28, 32, 100, 127, 128, 1000, 128 + 300 * KIB - 1, -1, -2};

    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        struct answers *a = open_plain();
        struct id id = keep(a, 'x', 300 * KIB);
        enum answer_proof proof = ANSWER_DAMAGED;
        struct answer_reader *r;
        char path[256], byte;
        int fd;

        answers_close(a);
        path_of(id, path);
        fd = open(path, O_RDWR);
        if (places[i] < 0) {
            assert_int_equal(ftruncate(fd, places[i] == -1 ? 128 + 300 * KIB - 1 : 60), 0);
        } else {
            assert_int_equal(pread(fd, &byte, 1, places[i]), 1);
            byte ^= 0x10;
            assert_int_equal(pwrite(fd, &byte, 1, places[i]), 1);
        }
        close(fd);
        a = open_plain();
        r = answers_find(a, id);
        if (r != NULL) {
            while ((proof = answer_prove(r)) == ANSWER_UNPROVEN)
                ;
            answer_close(r);
        }
        assert_int_equal(proof, ANSWER_DAMAGED);
        assert_false(is_kept(a, id));
        assert_int_equal(access(path, F_OK), -1);
        answers_close(a);
    }
}

/* ---- threads ---- */

enum { WORKERS = 4, ROUNDS = 200 };

static void *work(void *arg)
{
    struct answers *a = arg;

    for (int i = 0; i < ROUNDS; i++) {
        struct id id = keep(a, 'y', (size_t)(i % 7) * 20 * KIB);
        struct answer_reader *r = answers_find(a, id);

        if (r == NULL) /* the others needed the room */
            continue;
        if (answer_prove(r) != ANSWER_GOOD)
            abort();
        answer_close(r);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct answers *a = open_with(CLOCK_SECOND * 3600, 1024 * KIB, 1024 * KIB);
    pthread_t threads[WORKERS];

    (void)state;
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, a), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(files() > 0 && files() <= 1024 * KIB / FILE_COST);
    answers_close(a);
}

/* ---- fingerprints ---- */

static void print_of(const char *path, const char *type, const char *boundary, const char *body, size_t piece,
                     uint8_t out[SECRET_DIGEST])
{
    struct fingerprint *f = fingerprint_create(SLICE("POST"), slice_from(path), slice_from(type), boundary);
    size_t len = strlen(body);

    for (size_t at = 0; at < len; at += piece)
        fingerprint_add(f, (struct slice){body + at, piece < len - at ? piece : len - at});
    fingerprint_finish(f, out);
    fingerprint_destroy(f);
}

static bool same(const char *type_a, const char *boundary_a, const char *body_a, const char *type_b,
                 const char *boundary_b, const char *body_b)
{
    uint8_t a[SECRET_DIGEST], b[SECRET_DIGEST], c[SECRET_DIGEST];

    print_of("/x", type_a, boundary_a, body_a, 1000, a);
    print_of("/x", type_b, boundary_b, body_b, 1000, b);
    for (size_t piece = 1; piece <= strlen(body_b) + 1; piece++) {
        print_of("/x", type_b, boundary_b, body_b, piece, c);
        assert_memory_equal(b, c, sizeof(b));
    }
    return memcmp(a, b, sizeof(a)) == 0;
}

static void test_fingerprint(void **state)
{
    static const char json[] = "application/json", form[] = "multipart/form-data";
    uint8_t a[SECRET_DIGEST], b[SECRET_DIGEST];

    (void)state;
    assert_true(same(json, "", "{\"n\":1}", "application/json; charset=utf-8", "", "{\"n\":1}"));
    assert_false(same(json, "", "{\"n\":1}", json, "", "{\"n\":2}"));
    assert_false(same(json, "", "{\"n\":1}", "text/plain", "", "{\"n\":1}"));
    print_of("/x", json, "", "{}", 9, a);
    print_of("/y", json, "", "{}", 9, b);
    assert_memory_not_equal(a, b, sizeof(a));

    assert_true(same(form, "aab", "--aab\r\naaaab--aab--", form, "cd", "--cd\r\naacd--cd--"));
    assert_true(same(form, "abab", "ababab abaabab-ababa", form, "q", "qab abaq-qa"));
    assert_true(same(form, "----", "--------x---y-----", form, "%", "%%x---y%-"));
    assert_false(same(form, "aab", "--aab\r\nb--aab--", form, "cd", "--cd\r\nc--cd--"));
    assert_false(same(form, "aab", "--aab\r\nx", form, "aab", "--aab\r\ny"));
    assert_false(same(form, "aab", "--aa", form, "aab", "--a"));
}

static int set_up(void **state)
{
    (void)state;
    secret_init();
    strcpy(dir, "/tmp/tg-answers-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(directory, sizeof(directory), "%s/answers", dir);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),    cmocka_unit_test(test_dropped),     cmocka_unit_test(test_room),
        cmocka_unit_test(test_none),    cmocka_unit_test(test_age),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_fingerprint),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
