/* test_relay_upstream.c - calls by libcurl inside a real loop: what an upstream gets, and what comes back.
 *
 * How calls end is in test_relay_upstream_ends.c, long bodies in test_relay_upstream_body.c, TLS in
 * test_relay_upstream_tls.c. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/relay/address.h"
#include "lib_upstream.h"

static void test_whole(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(peer_serve_whole);
    call_init(&c);
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.heads, 1);
    assert_int_equal(c.status, 200);
    assert_int_equal(c.content_length, 11);
    assert_string_equal(c.id, "req_up");
    assert_string_equal(c.type, "application/json");
    assert_string_equal(c.why, "");
    call_expect_body(&c, PEER_BODY);
    call_dispose(&c);

    assert_non_null(strstr(peer_server.last, "POST /v1/images HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAuthorization: Bearer sk-upstream\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nx-client-request-id: req_1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nContent-Length: 18\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAccept-Encoding: identity\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\n\r\n{\"prompt\":\"a cat\"}"));
    assert_null(strcasestr(peer_server.last, "expect:"));
}

static void test_keep_alive(void **state)
{
    (void)state;
    calls_begin_case(peer_serve_whole);
    for (int i = 0; i < 20; i++) {
        struct call c;

        call_init(&c);
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_expect_body(&c, PEER_BODY);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    assert_int_equal(atomic_load(&peer_server.requests), 20);
}

static void test_many_at_once(void **state)
{
    enum { N = 64 };
    struct call c[N];

    (void)state;
    calls_begin_case(peer_serve_whole);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            call_init(&c[i]);
            calls_on_loop(call_start, &c[i]);
        }
        for (int i = 0; i < N; i++) {
            call_wait(&c[i]);
            assert_int_equal(c[i].end, UPSTREAM_COMPLETE);
            call_expect_body(&c[i], PEER_BODY);
            call_dispose(&c[i]);
        }
    }
    assert_int_equal(atomic_load(&peer_server.requests), 3 * N);
    assert_true(atomic_load(&peer_server.connections) <= N);
}

static void serve_chunks(struct peer *p)
{
    static const char text[] = "HTTP/1.1 102 Processing\r\nX-Request-Id: no\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-request-id: yes\r\n\r\n"
                               "4;ext=1\r\n{\"da\r\n7\r\nta\":[]}\r\n0\r\nX-Trailer: t\r\n\r\n";

    while (peer_read(p))
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
            peer_say_bytes(p, text + i, 1);
            usleep(100);
        }
}

static void test_chunks_and_interim(void **state)
{
    (void)state;
    calls_begin_case(serve_chunks);
    for (int i = 0; i < 2; i++) {
        struct call c;

        call_init(&c);
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_int_equal(c.heads, 1);
        assert_int_equal(c.status, 200);
        assert_int_equal(c.content_length, -1);
        assert_string_equal(c.id, "yes");
        call_expect_body(&c, PEER_BODY);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
}

static void serve_moved(struct peer *p)
{
    while (peer_read(p))
        peer_say(p, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
}

static void test_no_redirect(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(serve_moved);
    call_init(&c);
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.status, 302);
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    call_dispose(&c);
}

static void serve_gzip(struct peer *p)
{
    /* gzip of {"data":[]} */
    static const unsigned char packed[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab,
                                           0x56, 0x4a, 0x49, 0x2c, 0x49, 0x54, 0xb2, 0x8a, 0x8e, 0xad, 0x05,
                                           0x00, 0x94, 0x64, 0xb2, 0x5e, 0x0b, 0x00, 0x00, 0x00};
    char head[128];

    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
             sizeof(packed));
    while (peer_read(p)) {
        peer_say(p, head);
        peer_say_bytes(p, packed, sizeof(packed));
    }
}

static void test_gzip(void **state)
{
    struct call c;

    (void)state;
    calls_begin_case(serve_gzip);
    call_init(&c);
    call_run(&c);
    assert_int_equal(c.end, UPSTREAM_COMPLETE);
    assert_int_equal(c.content_length, -1);
    call_expect_body(&c, PEER_BODY);
    call_dispose(&c);
}

static void test_get_and_post(void **state)
{
    struct upstream_route *get = calls_route_to("GET", peer_server.port);

    (void)state;
    calls_begin_case(peer_serve_whole);
    for (int i = 0; i < 4; i++) { /* the same easy handle, in turn */
        struct call c;

        call_init(&c);
        if (i % 2 == 0) {
            c.request.route = get;
            c.request.n_body = 0;
            c.request.n_headers = 0;
        }
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_non_null(strstr(peer_server.last, i % 2 == 0 ? "GET /v1/images " : "POST /v1/images "));
        assert_true((strstr(peer_server.last, "a cat") != NULL) == (i % 2 != 0));
        assert_true((strstr(peer_server.last, "req_1") != NULL) == (i % 2 != 0));
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    calls_drop_route(get);
}

static void test_start_from_done(void **state)
{
    struct call a, b;

    (void)state;
    calls_begin_case(peer_serve_whole);
    call_init(&a);
    call_init(&b);
    a.then = &b;
    call_run(&a);
    call_wait(&b);
    assert_int_equal(b.end, UPSTREAM_COMPLETE);
    call_dispose(&a);
    call_dispose(&b);
}

static void test_private_refused(void **state)
{
    struct upstream_route *by_name;
    char url[64];

    (void)state;
    peer_server_reset(peer_serve_whole);
    calls_renew_pool(NULL, true);
    snprintf(url, sizeof(url), "http://localhost:%u/", peer_server.port);
    by_name = calls_route("POST", url);
    for (int i = 0; i < 2; i++) {
        struct call c;

        call_init(&c);
        c.request.route = i == 0 ? calls.post_route : by_name;
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_UNREACHED);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 0);
    calls_drop_route(by_name);
}

/* By name: the resolver's thread and its descriptors come and go. */
static void test_by_name(void **state)
{
    struct upstream_route *route;
    char url[64];

    (void)state;
    snprintf(url, sizeof(url), "http://localhost:%u/", peer_server.port);
    route = calls_route("POST", url);
    for (int i = 0; i < 10; i++) {
        struct call c;

        calls_begin_case(peer_serve_whole); /* a new pool: no cached address */
        call_init(&c);
        c.request.route = route;
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_dispose(&c);
    }
    calls_drop_route(route);
}

/* Own headers stand beside the route's, in the same easy handle with none, one and two of them. */
static void test_own_headers(void **state)
{
    (void)state;
    calls_begin_case(peer_serve_whole);
    for (int n = UPSTREAM_OWN_HEADERS; n >= 0; n--) {
        struct call c;

        call_init(&c);
        c.request.headers[1] = "Content-Length-Hint: 7";
        c.request.n_headers = n;
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_true((strstr(peer_server.last, "\r\nx-client-request-id: req_1\r\n") != NULL) == (n >= 1));
        assert_true((strstr(peer_server.last, "\r\nContent-Length-Hint: 7\r\n") != NULL) == (n >= 2));
        assert_non_null(strstr(peer_server.last, "\r\nAuthorization: Bearer sk-upstream\r\n"));
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
}

static bool is_private(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
        return address_is_private((struct sockaddr *)&in, sizeof(in));
    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return address_is_private((struct sockaddr *)&in6, sizeof(in6));
}

static void test_addresses(void **state)
{
    static const char *const inside[] = {"127.0.0.1",
                                         "127.255.255.254",
                                         "10.0.0.1",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.1.1",
                                         "169.254.169.254",
                                         "100.64.0.1",
                                         "0.0.0.0",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "198.18.0.1",
                                         "::1",
                                         "::",
                                         "fe80::1",
                                         "fc00::1",
                                         "fd12:3456::1",
                                         "ff02::1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:127.0.0.1",
                                         "::127.0.0.1",
                                         "64:ff9b::a00:1",
                                         "2002:7f00:1::1",
                                         "fec0::1"};
    static const char *const outside[] = {"1.1.1.1",        "8.8.8.8",          "172.15.0.1",     "172.32.0.1",
                                          "100.128.0.1",    "192.169.0.1",      "11.0.0.1",       "2606:4700::1111",
                                          "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"};

    (void)state;
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
        if (!is_private(inside[i]))
            fail_msg("%s is private", inside[i]);
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
        if (is_private(outside[i]))
            fail_msg("%s is public", outside[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_chunks_and_interim),
        cmocka_unit_test(test_no_redirect),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_get_and_post),
        cmocka_unit_test(test_start_from_done),
        cmocka_unit_test(test_private_refused),
        cmocka_unit_test(test_by_name),
        cmocka_unit_test(test_own_headers),
    };

    return cmocka_run_group_tests(tests, calls_set_up, calls_tear_down);
}
