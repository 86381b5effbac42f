/* test_relay_upstream_body.c - long bodies both ways: replies with pauses, requests from memory and from files, and
 * upstreams that answer before they have read all. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib_upstream.h"

enum { LARGE = 8 * 1024 * 1024 };

static void serve_large(struct peer *p)
{
    static unsigned char bytes[LARGE];
    char head[128];

    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = large_at(i);
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LARGE);
    while (peer_read(p)) {
        peer_say(p, head);
        peer_say_bytes(p, bytes, LARGE);
    }
}

static void expect_large(const struct call *c)
{
    assert_int_equal(c->end, UPSTREAM_COMPLETE);
    assert_int_equal(c->body.len, LARGE);
    for (size_t i = 0; i < LARGE; i++)
        if ((unsigned char)c->body.p[i] != large_at(i))
            fail_msg("byte %zu differs", i);
}

static void test_large(void **state)
{
    const int every[] = {0, 2, 7, 40};

    (void)state;
    calls_begin_case(serve_large);
    for (int i = 0; i < 4; i++) {
        struct call c;

        call_init(&c);
        c.pause_every = every[i];
        c.rest = i % 2 == 0 ? 0 : 500;
        call_run(&c);
        expect_large(&c);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
}

static void test_pause_from_head(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(serve_large);
    call_init(&c);
    c.pause_early = true;
    c.rest = SECOND / 5;
    call_run(&c);
    expect_large(&c);
    call_dispose(&c);
}

/* While a transfer is paused its readable socket must not keep the loop busy. */
static void test_pause_is_idle(void **state)
{
    struct timespec before, after;
    clockid_t clock;
    struct call c;
    int64_t spent;

    (void)state;
    calls_begin_case(serve_large);
    call_init(&c);
    c.pause_early = true;
    c.rest = SECOND;
    calls_on_loop(call_start, &c);
    usleep(200000);
    assert_int_equal(pthread_getcpuclockid(pthread_self(), &clock), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(500000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    spent = (after.tv_sec - before.tv_sec) * SECOND + (after.tv_nsec - before.tv_nsec) / 1000;
    assert_true(spent < SECOND / 10);
    call_wait(&c);
    expect_large(&c);
    call_dispose(&c);
}

static void serve_echo(struct peer *p)
{
    while (peer_read(p)) {
        char head[64];
        const char *body = peer_body(p);
        size_t len = p->len - (size_t)(body - p->got);

        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
        peer_say(p, head);
        peer_say_bytes(p, body, len);
    }
}

static char *large_text(size_t len)
{
    char *text = malloc(len);

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + large_at(i) % 26);
    return text;
}

static void expect_echo(const struct upstream_part *body, int n_body, const char *text, size_t len)
{
    struct call c;

    call_init(&c);
    memcpy(c.request.body, body, (size_t)n_body * sizeof(*body));
    c.request.n_body = n_body;
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.body.len, len);
    if (len > 0)
        assert_memory_equal(c.body.p, text, len);
    call_dispose(&c);
}

/* Runs of memory: in one piece with the head, and read by libcurl. */
static void test_runs(void **state)
{
    enum { PART = 700001 };
    const size_t sizes[] = {0, 1, 1000, 16384, 70000, PART};
    char *text = large_text(PART * 3);

    (void)state;
    calls_begin_case(serve_echo);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (int n = 0; n <= 3; n++) {
            struct upstream_part body[3];

            for (int i = 0; i < n; i++)
                body[i] = (struct upstream_part){.bytes = {text + (size_t)i * sizes[s], sizes[s]}};
            expect_echo(body, n, text, sizes[s] * (size_t)n);
        }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    free(text);
}

static struct spool *fill_spool(const char *text, size_t len)
{
    struct spool *spool = spool_create("/tmp", 0);
    struct err err;

    for (size_t at = 0; at < len; at += 100000)
        assert_int_equal(spool_append(spool, (struct slice){text + at, len - at < 100000 ? len - at : 100000}, &err),
                         ERR_OK);
    return spool;
}

/* Runs of a spool around a run of memory, as when a model's name is replaced: from memory and from a file. */
static void test_spooled(void **state)
{
    enum { MOST_TEXT = 3 * LIMIT_SPOOL_MEMORY };
    const size_t sizes[] = {100, LIMIT_SPOOL_MEMORY, MOST_TEXT};
    char *text = large_text(MOST_TEXT);

    (void)state;
    calls_begin_case(serve_echo);
    for (size_t s = 0; s < 3; s++) {
        const size_t len = sizes[s], cut = len / 3;
        struct spool *spool = fill_spool(text, len);
        char *wanted = malloc(len + 5);
        const struct upstream_part body[3] = {{.spool = spool, .at = 0, .len = cut},
                                              {.bytes = SLICE("dall-e")},
                                              {.spool = spool, .at = cut + 1, .len = len - cut - 1}};

        memcpy(wanted, text, cut);
        memcpy(wanted + cut, "dall-e", 6);
        memcpy(wanted + cut + 6, text + cut + 1, len - cut - 1);
        expect_echo(body, 3, wanted, len + 5);
        expect_echo(&body[2], 1, text + cut + 1, len - cut - 1);
        free(wanted);
        spool_destroy(spool);
    }
    free(text);
}

/* A file that lost its end: another process may shorten it through /proc, a disk may fail. */
static void shorten_spools(void)
{
    char path[64], target[256];

    for (int fd = 3; fd < 1024; fd++) {
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, target, sizeof(target) - 1);
        if (n <= 0)
            continue;
        target[n] = '\0';
        if (strncmp(target, "/tmp/", 5) == 0 && strstr(target, "(deleted)") != NULL)
            assert_int_equal(ftruncate(fd, LIMIT_SPOOL_MEMORY), 0);
    }
}

static void test_unreadable(void **state)
{
    char *text = large_text(2 * LIMIT_SPOOL_MEMORY);
    struct spool *spool = fill_spool(text, 2 * LIMIT_SPOOL_MEMORY);
    struct call c;

    (void)state;
    calls_begin_case(serve_echo);
    shorten_spools();
    call_init(&c);
    c.request.body[0] = (struct upstream_part){.spool = spool, .len = spool_len(spool)};
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_BROKEN);
    assert_string_equal(c.why, "the request could not be read back");
    assert_int_equal(atomic_load(&peer_server.requests), 0); /* never whole */
    call_dispose(&c);
    spool_destroy(spool);
    free(text);
}

/* ---- answers before the end of the request ---- */

enum { UPLOAD = 16 * 1024 * 1024, ROUNDS = 3, WAIT = 10000, STILL = 10 };

/* libcurl's sends come here, so that the upstream can look at the other end of its connection. */
static atomic_int sender = -1;

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    if (len > 1000) /* an upload, no answer */
        atomic_store(&sender, fd);
    return sendto(fd, bytes, len, flags, NULL, 0);
}

/* Until the client has filled all buffers between the two and waits: what it does then no longer hangs on who is
 * faster. (In the moment between libcurl's last look for a reply and its next write, a reply that comes together with
 * a reset is lost to libcurl: one in a hundred, when an upload runs at full speed on one machine.) */
static bool wait_for_stall(void)
{
    for (int i = 0, still = 0; i < WAIT; i++) {
        struct pollfd watch = {atomic_load(&sender), POLLOUT, 0};

        still = watch.fd >= 0 && poll(&watch, 1, 0) == 0 ? still + 1 : 0;
        if (still == STILL)
            return true;
        usleep(1000);
    }
    return false;
}

#define REFUSAL "{\"error\":{\"message\":\"too large\"}}"

static void answer_early(struct peer *p, size_t after, const char *text)
{
    if (peer_read_head(p) && peer_skip(p, after) && wait_for_stall())
        peer_say(p, text);
}

static void serve_refuse_close(struct peer *p)
{
    answer_early(p, 50000,
                 "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Type: application/json\r\n"
                 "Content-Length: 33\r\n\r\n" REFUSAL);
}

static void serve_refuse_silently(struct peer *p)
{
    answer_early(p, 0, "HTTP/1.1 400 Bad Request\r\nContent-Length: 33\r\n\r\n" REFUSAL);
}

static void serve_refuse_chunked(struct peer *p)
{
    answer_early(p, 3000000, "HTTP/1.1 429 Slow\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n" REFUSAL "\r\n0\r\n\r\n");
}

/* The reply's end is the connection's, so this one lingers. */
static void serve_refuse_until_end(struct peer *p)
{
    answer_early(p, 0, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" REFUSAL);
    (void)shutdown(p->fd, SHUT_WR);
    (void)peer_skip(p, UPLOAD);
}

/* The others close with unread bytes, so their kernel resets the connection right behind the answer. */
static void test_early_refusal(void **state)
{
    static const struct {
        peer_fn *serve;
        int status;
    } ways[] = {{serve_refuse_close, 413},
                {serve_refuse_silently, 400},
                {serve_refuse_chunked, 429},
                {serve_refuse_until_end, 400}};
    char *text = large_text(UPLOAD);
    struct spool *spool = fill_spool(text, UPLOAD);

    (void)state;
    for (int i = 0; i < 8; i++) { /* each from memory and from a file */
        struct call c;

        calls_begin_case(ways[i % 4].serve);
        call_init(&c);
        c.request.body[0] = i < 4 ? (struct upstream_part){.bytes = {text, UPLOAD}}
                                  : (struct upstream_part){.spool = spool, .len = UPLOAD};
        call_run(&c);
        if (c.end != UPSTREAM_COMPLETE)
            fail_msg("way %d: end %d, status %d, %s", i % 4, c.end, c.status, c.why);
        assert_int_equal(c.status, ways[i % 4].status);
        call_expect_body(&c, REFUSAL);
        call_dispose(&c);
    }
    spool_destroy(spool);
    free(text);
}

static void serve_answer_and_read(struct peer *p)
{
    while (peer_read_head(p)) {
        size_t extra = p->len - (size_t)(peer_body(p) - p->got);

        peer_say(p, PEER_HEAD PEER_BODY);
        if (!peer_skip(p, UPLOAD - extra))
            return;
        atomic_fetch_add(&peer_server.requests, 1);
    }
}

static void serve_answer_and_close(struct peer *p)
{
    answer_early(p, 100000, PEER_HEAD PEER_BODY);
}

static void expect_success(const char *text)
{
    struct call c;

    call_init(&c);
    c.request.body[0].bytes = (struct slice){text, UPLOAD};
    call_run(&c);
    if (c.end != UPSTREAM_COMPLETE)
        fail_msg("end %d, status %d, %s", c.end, c.status, c.why);
    assert_int_equal(c.status, 200);
    call_expect_body(&c, PEER_BODY);
    call_dispose(&c);
}

/* 200 before all is read: an upstream that reads on gets all and is used again; one that closes has answered. */
static void test_early_success(void **state)
{
    char *text = large_text(UPLOAD);

    (void)state;
    calls_begin_case(serve_answer_and_read);
    for (int i = 0; i < ROUNDS; i++)
        expect_success(text);
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    for (int i = 0; i < ROUNDS; i++) {
        calls_begin_case(serve_answer_and_close);
        expect_success(text);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),         cmocka_unit_test(test_pause_from_head),
        cmocka_unit_test(test_pause_is_idle), cmocka_unit_test(test_runs),
        cmocka_unit_test(test_spooled),       cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_early_refusal), cmocka_unit_test(test_early_success),
    };

    return cmocka_run_group_tests(tests, calls_set_up, calls_tear_down);
}
