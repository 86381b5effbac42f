/* test_relay_flow_large.c - JSON replies that flow through two buffers, and clients that leave or do not read.
 *
 * Every case says what the customer gets and what it costs; after each the wallet holds nothing. */
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

#include "lib_relay.h"

enum { LARGE = 12 * 1024 * 1024 };

static const char one_small[] = "{\"prompt\":\"a\",\"size\":\"256x256\"}";

/* ---- cases: large replies ---- */

static char large[LARGE + 256];
static size_t large_len;
static size_t large_cut; /* 0: whole */
static bool large_chunked;

static void make_large(void)
{
    size_t n = (size_t)sprintf(large, "{\"created\":1,\"data\":[{\"b64_json\":\"");

    for (size_t i = 0; i < LARGE; i++)
        large[n++] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(i * 2654435761u >> 11) & 63];
    n += (size_t)sprintf(large + n, "\"}]}");
    large_len = n;
}

static void serve_large(struct peer *p)
{
    char head[160];

    while (peer_read(p)) {
        size_t n = large_cut != 0 ? large_cut : large_len;

        if (large_chunked)
            snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", large_len);
        else
            snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", large_len);
        peer_say(p, head);
        peer_say_bytes(p, large, n);
        if (large_cut != 0)
            return;
        if (large_chunked)
            peer_say(p, "\r\n0\r\n\r\n");
    }
}

static void begin_large(bool chunked, size_t cut)
{
    gw_begin(serve_large); /* the old connections have ended: nobody reads these now */
    large_chunked = chunked;
    large_cut = cut;
}

static void test_large(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct answer a;
        int fd;

        begin_large(false, 0);
        fd = gw_connect(0);
        gw_post(fd, "generations", gw.key, GW_JSON, one_small, strlen(one_small));
        gw_read(fd, &a, i < 2 ? GW_TEXT * 16 : GW_TEXT, i < 2 ? 0 : 2000);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body_len, large_len);
        assert_memory_equal(a.body, large, large_len);
        answer_dispose(&a);
        gw_expect_charge(16000000);
    }
}

static void test_large_chunked(void **state)
{
    struct answer a;

    (void)state;
    begin_large(true, 0);
    gw_call(one_small, &a);
    assert_int_equal(a.status, 200);
    assert_true(answer_unchunk(&a));
    assert_int_equal(a.body_len, large_len);
    assert_memory_equal(a.body, large, large_len);
    answer_dispose(&a);
    gw_expect_charge(16000000);
}

static void test_large_cut(void **state)
{
    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        struct answer a;

        begin_large(chunked, LARGE / 2);
        gw_call(one_small, &a);
        assert_int_equal(a.status, 200);
        if (chunked)
            assert_false(answer_unchunk(&a));
        else
            assert_true(a.body_len < large_len);
        answer_dispose(&a);
        gw_expect_doubt(true);
    }
}

/* ---- cases: the client goes away ---- */

static void test_client_gone(void **state)
{
    int fd;

    (void)state;
    gw_begin(peer_when_told);
    atomic_store(&gw_go, false);
    fd = gw_connect(0);
    gw_post(fd, "generations", gw.key, GW_JSON, one_small, strlen(one_small));
    gw_wait_requests(1);
    close(fd);
    usleep(100000);
    atomic_store(&gw_go, true);
    gw_expect_charge(16000000);
    assert_true(gw_last_usage().flags & USAGE_CLIENT_GONE);
}

static void test_client_gone_inside(void **state)
{
    struct linger hard = {1, 0};
    char byte;
    int fd;

    (void)state;
    for (int reset = 0; reset < 2; reset++) {
        begin_large(false, 0);
        fd = gw_connect(0);
        gw_post(fd, "generations", gw.key, GW_JSON, one_small, strlen(one_small));
        assert_int_equal(recv(fd, &byte, 1, 0), 1);
        if (reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(fd);
        gw_expect_charge(16000000);
        assert_true(gw_last_usage().flags & USAGE_CLIENT_GONE);
    }
}

/* A client that stops reading is left behind before the upstream call's time is over, and pays. */
static void test_client_stalls(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    begin_large(false, 0);
    fd = gw_connect(4096);
    gw_post(fd, "generations", gw.key, GW_JSON, one_small, strlen(one_small));
    gw_wait_requests(1);
    gw_expect_charge(16000000);
    assert_true(gw_last_usage().flags & USAGE_CLIENT_GONE);
    gw_read(fd, &a, GW_TEXT, 0);
    assert_true(a.body_len < large_len);
    answer_dispose(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_chunked),
        cmocka_unit_test(test_large_cut),
        cmocka_unit_test(test_client_gone),
        cmocka_unit_test(test_client_gone_inside),
        cmocka_unit_test(test_client_stalls),
    };

    make_large();
    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
