/* test_relay_flow_listeners.c - event streams and their clients: who leaves, who reads slowly or not at all, who waits;
 * and pictures that do not fit any buffer. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib_stream.h"

enum { PICTURE = 12 * 1024 * 1024 };

static const char last[] = "\"}\n\n"; /* of the large stream */
static char *large;                   /* a partial image and a completed one, without usage */
static size_t large_len;

static void make_large(void)
{
    size_t n = 0;

    large = malloc(2 * PICTURE + 1024);
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "partial_image" : "completed";

        n += (size_t)sprintf(large + n,
                             "event: image_generation.%s\ndata: {\"type\":\"image_generation.%s\",\"b64_json\":\"",
                             name, name);
        for (size_t k = 0; k < PICTURE; k++)
            large[n++] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(k * 2654435761u >> 11) & 63];
        n += (size_t)sprintf(large + n, "%s", last);
    }
    large_len = n;
}

static int start(const char *request, int buffer)
{
    int fd = gw_connect(buffer);

    gw_post(fd, "generations", gw.key, GW_JSON, request, strlen(request));
    return fd;
}

static void expect_large_charge(void)
{
    struct usage_record u;

    gw_wait_idle();
    u = gw_last_usage();
    assert_int_equal(u.images, 1);
    assert_int_equal(u.partial_images, 1);
    assert_int_equal(u.quantities.of[PRICE_IMAGE_OUTPUT], 1056 + 100);
    assert_int_equal(gw_spent(), u.wholesale);
}

static void test_large(void **state)
{
    (void)state;
    for (int slow = 0; slow < 2; slow++) {
        struct answer a;
        int fd;

        stream_begin(large, 0, STREAM_WHOLE);
        fd = start(STREAM_ONE, 0);
        gw_read(fd, &a, slow ? GW_TEXT : GW_TEXT * 16, slow ? 1000 : 0);
        assert_int_equal(a.status, 200);
        assert_true(answer_unchunk(&a));
        assert_int_equal(a.body_len, large_len);
        assert_memory_equal(a.body, large, large_len);
        answer_dispose(&a);
        expect_large_charge();
    }
}

/* However late it breaks within the completed event, the customer does not have the picture, and what he has of the
 * event is an error. */
static void test_large_cut(void **state)
{
    static const size_t lacking[] = {PICTURE / 2, 4096, sizeof(last) - 1, 3};
    static const char mended[] = "\",\"error\":{\"message\":";

    (void)state;
    for (size_t i = 0; i < sizeof(lacking) / sizeof(lacking[0]); i++) {
        struct answer a;
        char *end;

        stream_begin(large, 0, STREAM_BROKEN);
        stream.len = large_len - lacking[i];
        gw_call(STREAM_ONE, &a);
        assert_true(answer_unchunk(&a));
        end = memmem(a.body, a.body_len, mended, sizeof(mended) - 1);
        assert_non_null(end);
        assert_true((size_t)(end - a.body) <= large_len - 4096);
        assert_memory_equal(a.body, large, (size_t)(end - a.body));
        assert_memory_equal(a.body + a.body_len - 5, "\"}}\n\n", 5);
        answer_dispose(&a);
        gw_expect_doubt(true);
    }
}

/* ---- gone ---- */

static void test_gone(void **state)
{
    struct linger hard = {1, 0};

    (void)state;
    for (int reset = 0; reset < 2; reset++) {
        struct answer a = {0};
        int fd;

        stream_begin(PARTIAL COMPLETED, 0, STREAM_WHOLE);
        stream.stop_at = strlen(PARTIAL);
        fd = start(STREAM_ONE, 0);
        assert_true(gw_read_until(fd, &a, PARTIAL)); /* at once, though the stream goes on */
        if (reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(fd);
        answer_dispose(&a);
        usleep(50000);
        atomic_store(&stream_go, true);
        gw_expect_charge(COMPLETED_CHARGE);
        assert_int_equal(gw_last_usage().flags, USAGE_CLIENT_GONE);
    }
}

static void test_gone_before(void **state)
{
    int fd;

    (void)state;
    stream_begin(PARTIAL COMPLETED, 0, STREAM_WHOLE);
    stream.stop_at = 8;
    fd = start(STREAM_ONE, 0);
    gw_wait_requests(1);
    close(fd);
    usleep(50000);
    atomic_store(&stream_go, true);
    gw_expect_charge(COMPLETED_CHARGE);
    assert_int_equal(gw_last_usage().flags, USAGE_CLIENT_GONE);
}

/* A client that stops reading is left behind before the upstream call's time is over, and pays. */
static void test_stalls(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    stream_begin(large, 0, STREAM_WHOLE);
    fd = start(STREAM_ONE, 4096);
    gw_wait_requests(1);
    expect_large_charge();
    assert_true(gw_last_usage().flags & USAGE_CLIENT_GONE);
    gw_read(fd, &a, GW_TEXT, 0);
    assert_true(a.len < large_len);
    answer_dispose(&a);
}

/* ---- silence ---- */

/* Lets the loops' time pass, not the upstream calls'. */
static void pass_time(int64_t us)
{
    clock_freeze(clock_wall(), clock_mono() + us);
}

static void expect_comment(int fd, struct answer *a, const char *behind)
{
    char text[256];

    snprintf(text, sizeof(text), "%s", behind);
    assert_true(gw_read_until(fd, a, behind));
    pass_time(16 * CLOCK_SECOND);
    assert_true(gw_read_until(fd, a, ": keep-alive\n\n"));
    clock_release();
}

static void test_keep_alive(void **state)
{
    struct answer a = {0};
    int fd;

    (void)state;
    stream_begin(PARTIAL COMPLETED, 0, STREAM_WHOLE);
    stream.stop_at = strlen(PARTIAL);
    fd = start(STREAM_ONE, 0);
    expect_comment(fd, &a, PARTIAL);
    atomic_store(&stream_go, true);
    assert_true(gw_read_until(fd, &a, "\r\n0\r\n\r\n"));
    close(fd);
    assert_true(answer_unchunk(&a));
    assert_string_equal(a.body, PARTIAL ": keep-alive\n\n" COMPLETED);
    answer_dispose(&a);
    gw_expect_charge(COMPLETED_CHARGE);
}

/* None within an event: it would cut it. */
static void test_no_comment_within(void **state)
{
    struct answer a = {0};
    int fd;

    (void)state;
    stream_begin(large, 0, STREAM_WHOLE);
    stream.stop_at = 20000; /* what the client does not read yet fits its socket */
    fd = start(STREAM_ONE, 0);
    assert_true(gw_read_until(fd, &a, "data: "));
    pass_time(16 * CLOCK_SECOND);
    usleep(1100000); /* longer than a loop ever sleeps */
    clock_release();
    atomic_store(&stream_go, true);
    answer_dispose(&a);
    gw_read(fd, &a, GW_TEXT, 0);
    assert_null(memmem(a.text, a.len, "keep-alive\n", 11));
    assert_non_null(memmem(a.text, a.len, "image_generation.completed", 26));
    answer_dispose(&a);
    expect_large_charge();
}

/* Before the first event, too; and then the answer is none that could be told whole. */
static void test_keep_alive_first(void **state)
{
    struct answer a = {0};
    int fd;

    (void)state;
    stream_begin("\n" COMPLETED, 0, STREAM_BROKEN);
    stream.stop_at = 1;
    stream.len = 20;
    fd = start(STREAM_ONE, 0);
    gw_wait_requests(1);
    expect_comment(fd, &a, "\r\n\r\n");
    atomic_store(&stream_go, true);
    assert_true(gw_read_until(fd, &a, "event: error\n"));
    close(fd);
    answer_dispose(&a);
    gw_expect_doubt(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_cut),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_gone_before),
        cmocka_unit_test(test_stalls),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_no_comment_within),
        cmocka_unit_test(test_keep_alive_first),
    };

    make_large();
    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
