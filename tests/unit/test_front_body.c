/* test_front_body.c - HTTP/1 request bodies that the front reads: told and chunked, in any segments, whole and damaged,
 * one after the other, on clear text and inside TLS; and those of HTTP/2, which come whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_front.h"

enum { BODY_MAX = 300 * 1024, PLAIN = 200 * 1024 };

static char plain[PLAIN];

/* ---- handlers ---- */

static void echo_sum(void *ctx, struct front_call *call)
{
    struct slice body = front_call_body(call);
    char text[64];

    (void)ctx;
    front_reply(call, 200, NULL, 0, SLICE("text/plain"), slice_from(sink_answer(body.p, body.len, text)));
}

static void tell_length(void *ctx, struct front_call *call)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "length %lld, body %zu, %s.", (long long)front_call_length(call),
                     front_call_body(call).len, front_call_expects(call) ? "expects" : "goes on");

    (void)ctx;
    front_reply(call, 200, NULL, 0, SLICE("text/plain"), (struct slice){text, (size_t)n});
}

static const struct front_route routes[] = {
    {"POST", "/now", sink_now, FRONT_STREAMED, 0},
    {"POST", "/late", sink_late, FRONT_STREAMED, 0},
    {"POST", "/small", sink_now, FRONT_STREAMED, 10},
    {"POST", "/whole", echo_sum, 0, 0},
    {"POST", "/whole/{id}", echo_sum, 0, 10},
    {"POST", "/length", tell_length, FRONT_STREAMED, 0},
    {NULL, NULL, NULL, 0, 0},
};

static const char *const takers[] = {"/now", "/late", "/whole"};
enum { TAKERS = sizeof(takers) / sizeof(takers[0]) };

/* ---- requests ---- */

struct text {
    char *p;
    size_t len, cap;
};

static void add(struct text *t, const void *bytes, size_t len)
{
    if (t->len + len + 1 > t->cap) {
        t->cap = 2 * (t->len + len + 1);
        t->p = realloc(t->p, t->cap);
    }
    memcpy(t->p + t->len, bytes, len);
    t->len += len;
    t->p[t->len] = '\0';
}

static void add_text(struct text *t, const char *text)
{
    add(t, text, strlen(text));
}

static struct text head(const char *path, const char *fields)
{
    char line[512];
    struct text t = {.p = NULL};

    (void)snprintf(line, sizeof(line), "POST %s HTTP/1.1\r\n" HOST "%s\r\n", path, fields);
    add_text(&t, line);
    return t;
}

static struct text told(const char *path, const char *body, size_t len)
{
    char field[64];
    struct text t;

    (void)snprintf(field, sizeof(field), "Content-Length: %zu\r\n", len);
    t = head(path, field);
    add(&t, body, len);
    return t;
}

static struct text chunked(const char *path, const char *body, size_t len, size_t piece, const char *extension,
                           const char *trailer)
{
    struct text t = head(path, "Transfer-Encoding: chunked\r\n");
    char line[256];

    for (size_t at = 0; at < len; at += piece) {
        size_t n = len - at < piece ? len - at : piece;

        (void)snprintf(line, sizeof(line), "%zx%s\r\n", n, extension);
        add_text(&t, line);
        add(&t, body + at, n);
        add(&t, "\r\n", 2);
    }
    (void)snprintf(line, sizeof(line), "0\r\n%s\r\n", trailer);
    add_text(&t, line);
    return t;
}

/* Sends <t> in pieces and expects the sum of <body>, then that the connection is still of use. */
static void expect_sum(bool tls, struct text t, size_t piece, const char *body, size_t len)
{
    struct client c = client_open(tls);
    char answer[64];

    for (size_t at = 0; at < t.len; at += piece) {
        assert_true(client_send(&c, t.p + at, t.len - at < piece ? t.len - at : piece));
        if (piece < 100)
            usleep(50);
    }
    client_hear_until(&c, sink_answer(body, len, answer));
    client_say(&c, "POST /now HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    client_hear_until(&c, sink_answer("abc", 3, answer));
    client_close(&c);
    free(t.p);
}

/* ---- tests ---- */

static void test_any_segments(void **state)
{
    static const char body[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    const size_t len = sizeof(body) - 1;

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (int i = 0; i < TAKERS; i++) {
            for (size_t piece = 1; piece < 200; piece = piece * 3 + 1) {
                expect_sum(tls, told(takers[i], body, len), piece, body, len);
                expect_sum(tls, chunked(takers[i], body, len, 5, "", ""), piece, body, len);
                expect_sum(tls, chunked(takers[i], body, len, 1, ";a=\"b\"", "X: y\r\nZ: \r\n"), piece, body, len);
            }
        }
    }
}

static void test_longer_than_any_buffer(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (int i = 0; i < TAKERS; i++) {
            expect_sum(tls, told(takers[i], plain, PLAIN), 1 << 20, plain, PLAIN);
            expect_sum(tls, told(takers[i], plain, PLAIN), 7919, plain, PLAIN);
            expect_sum(tls, chunked(takers[i], plain, PLAIN, 10007, "", ""), 1 << 20, plain, PLAIN);
            expect_sum(tls, chunked(takers[i], plain, PLAIN, 1, "", ""), 65536, plain, PLAIN);
        }
    }
}

static void test_empty_bodies(void **state)
{
    (void)state;
    for (int i = 0; i < TAKERS; i++) {
        expect_sum(false, head(takers[i], ""), 1000, "", 0);
        expect_sum(false, head(takers[i], "Content-Length: 0\r\nExpect: 100-continue\r\n"), 1000, "", 0);
        expect_sum(false, chunked(takers[i], "", 0, 1, "", ""), 1000, "", 0);
    }
}

static void test_what_a_handler_is_told(void **state)
{
    struct client c = client_open(false);

    (void)state;
    client_say(&c, "POST /length HTTP/1.1\r\n" HOST "\r\n");
    client_hear_until(&c, "length 0, body 0, goes on.");
    client_say(&c, "POST /length HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc");
    client_hear_until(&c, "length 3, body 0, goes on.");
    client_say(&c, "POST /length HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    client_hear_until(&c, "length -1, body 0, goes on.");
    client_close(&c);
    c = client_open(false);
    client_say(&c, "POST /length HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    client_hear_until(&c, "length 3, body 0, goes on."); /* it did not wait */
    client_say(&c, "POST /length HTTP/1.1\r\n" HOST "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    client_hear_until(&c, "length 3, body 0, expects.");
    client_close(&c);
}

/* Each damage stands behind good bytes; the answer is 400 and the end. */
static void test_damaged_chunks(void **state)
{
    static const char *const damages[] = {
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "0x3\r\n",
        "3\n",
        "3 \n",
        "3;a\nabc\r\n",
        "3\rabc\r\n",
        "3,a\r\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3\r\nabc\r\r\n",
        "00000000000000003\r\nabc\r\n",
        "11111111111111111\r\n",
        "3;\x01\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX:\x7f\r\n\r\n",
        "0\r\n\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        for (int way = 0; way < 2 * TAKERS; way++) {
            struct client c = client_open(way % 2 != 0);
            struct text t = head(takers[way / 2], "Transfer-Encoding: chunked\r\n");

            add(&t, "4\r\ngood\r\n", 9);
            add(&t, damages[i], strlen(damages[i]));
            client_say_in_pieces(&c, t.p, i % 2 == 0 ? 1000 : 9);
            assert_true(client_hear_all(&c));
            if (heard_status() != 400 || !heard_text("\"error\"") || !heard_text("Connection: close"))
                fail_msg("damage %zu, way %d: %s", i, way, heard);
            client_close(&c);
            free(t.p);
        }
    }
}

/* Chunks, extensions or trailers that are much more than the body. */
static void test_framing_is_bounded(void **state)
{
    static char extension[40 * 1024];

    (void)state;
    memset(extension, 'e', sizeof(extension) - 1);
    for (int way = 0; way < 2; way++) {
        struct client c = client_open(false);
        struct text t = head("/now", "Transfer-Encoding: chunked\r\n");

        add(&t, way == 0 ? "3;" : "0\r\nX:", way == 0 ? 2 : 5);
        add(&t, extension, sizeof(extension) - 1);
        add(&t, way == 0 ? "\r\nabc\r\n0\r\n\r\n" : "\r\n\r\n", way == 0 ? 12 : 4);
        assert_true(client_send(&c, t.p, t.len));
        assert_true(client_hear_all(&c));
        assert_int_equal(heard_status(), 400);
        client_close(&c);
        free(t.p);
    }
}

static void expect_413(bool tls, struct text t)
{
    struct client c = client_open(tls);

    assert_true(client_send(&c, t.p, t.len));
    client_hear_until(&c, "request_too_large");
    assert_int_equal(heard_status(), 413);
    client_close(&c);
    free(t.p);
}

static void test_limits(void **state)
{
    int calls;

    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        expect_sum(tls, told("/small", plain, 10), 1000, plain, 10);
        expect_sum(tls, chunked("/small", plain, 10, 3, "", ""), 1000, plain, 10);
        expect_sum(tls, chunked("/whole/a", plain, 10, 3, "", ""), 1000, plain, 10);
        calls = atomic_load(&sink_calls);
        expect_413(tls, told("/small", plain, 11));
        expect_413(tls, told("/whole/a", plain, 11));
        expect_413(tls, told("/sm%61ll", plain, 11));
        assert_int_equal(atomic_load(&sink_calls), calls); /* a told length never gets to a handler */
        expect_413(tls, chunked("/small", plain, 11, 3, "", ""));
        expect_413(tls, chunked("/whole/a", plain, 11, 3, "", ""));
        expect_413(tls, chunked("/sm%61ll", plain, PLAIN, 1000, "", ""));
    }
}

static void test_pipelined(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (size_t piece = 30; piece <= PLAIN; piece *= 31) {
            struct client c = client_open(tls);
            struct text t = told("/late", "first", 5),
                        more[] = {chunked("/now", "second", 6, 2, "", ""), told("/whole", plain, 20 * 1024),
                                  chunked("/late", "fourth", 6, 6, "", "A: b\r\n"),
                                  head("/nowhere", "Connection: close\r\n")};
            char answers[4][64];
            const char *at = heard;

            for (int i = 0; i < 4; i++) {
                add(&t, more[i].p, more[i].len);
                free(more[i].p);
            }
            for (size_t sent = 0; sent < t.len; sent += piece)
                assert_true(client_send(&c, t.p + sent, t.len - sent < piece ? t.len - sent : piece));
            assert_true(client_hear_all(&c));
            (void)sink_answer("first", 5, answers[0]);
            (void)sink_answer("second", 6, answers[1]);
            (void)sink_answer(plain, 20 * 1024, answers[2]);
            (void)sink_answer("fourth", 6, answers[3]);
            for (int i = 0; i < 4; i++) {
                at = strstr(at, answers[i]);
                assert_non_null(at);
            }
            assert_non_null(strstr(at, "HTTP/1.1 404"));
            client_close(&c);
            free(t.p);
        }
    }
}

/* The request behind a body is judged like any other. */
static void test_what_follows_a_body_is_judged(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        for (int way = 0; way < 2; way++) {
            struct client c = client_open(tls);
            struct text t = way == 0 ? told("/late", "abc", 3) : chunked("/late", "abc", 3, 3, "", "");
            char answer[64];

            add(&t, "GET / HTTP/1.1\r\n\r\n", 18);
            client_say(&c, t.p);
            assert_true(client_hear_all(&c));
            assert_true(heard_text(sink_answer("abc", 3, answer)) && heard_text("HTTP/1.1 400"));
            client_close(&c);
            free(t.p);
        }
    }
}

/* ---- HTTP/2 ---- */

static size_t note(char *bytes, size_t size, size_t n, void *ctx)
{
    add(ctx, bytes, size * n);
    return size * n;
}

static long post_h2(const char *path, size_t len, struct text *answer)
{
    CURL *easy = curl_easy_init();
    char url[128];
    long status = 0;

    *answer = (struct text){.p = NULL};
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", front_port, path);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, plain);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)len);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, note);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, answer);
    assert_int_equal(curl_easy_perform(easy), CURLE_OK);
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    return status;
}

static void test_http2(void **state)
{
    static const size_t lengths[] = {0, 1, 100, PLAIN};
    struct text answer;
    char expected[64];

    (void)state;
    for (int i = 0; i < TAKERS; i++) {
        for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
            assert_int_equal(post_h2(takers[i], lengths[k], &answer), 200);
            assert_string_equal(answer.p, sink_answer(plain, lengths[k], expected));
            free(answer.p);
        }
    }
    assert_int_equal(post_h2("/small", 11, &answer), 413);
    assert_non_null(strstr(answer.p, "request_too_large"));
    free(answer.p);
    assert_int_equal(post_h2("/length", 7, &answer), 200);
    assert_string_equal(answer.p, "length 7, body 0, goes on.");
    free(answer.p);
}

/* ---- set-up ---- */

static int set_up(void **state)
{
    (void)state;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    for (size_t i = 0; i < PLAIN; i++)
        plain[i] = (char)(i * 7 + i / 251);
    return front_up(routes, BODY_MAX, 30 * CLOCK_SECOND);
}

static int tear_down(void **state)
{
    (void)state;
    front_idle();
    curl_global_cleanup();
    return front_down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_segments),
        cmocka_unit_test(test_longer_than_any_buffer),
        cmocka_unit_test(test_empty_bodies),
        cmocka_unit_test(test_what_a_handler_is_told),
        cmocka_unit_test(test_damaged_chunks),
        cmocka_unit_test(test_framing_is_bounded),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_what_follows_a_body_is_judged),
        cmocka_unit_test(test_http2),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
