/* test_front_flow.c - uploads of 200 MB leave the process as small as it was: on clear text, chunked, inside TLS, and
 * refused while they come. Over HTTP/2 they lie in a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_front.h"

/* Sanitizers keep freed memory, and are slow. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) ||               \
    __has_feature(thread_sanitizer)
enum { PIECES = 10 * 16, GROWTH_MAX_KB = 1024 * 1024, TLS_GROWTH_MAX_KB = GROWTH_MAX_KB };
#else
/* Inside TLS a piece is what the kernel holds of one connection, twice: tens of MB at the most. */
enum { PIECES = 200 * 16, GROWTH_MAX_KB = 8 * 1024, TLS_GROWTH_MAX_KB = 80 * 1024 };
#endif

enum { PIECE = 64 * 1024 };

static char piece[PIECE];

static void refuse(void *ctx, struct front_call *call)
{
    (void)ctx;
    front_reply(call, 401, NULL, 0, SLICE("text/plain"), SLICE("refused."));
}

static char cache[] = "/tmp/tg-front-cache-XXXXXX";

/* Whether a file of the cache directory is mapped. */
static bool is_in_file(void)
{
    char line[512];
    bool found = false;
    FILE *f = fopen("/proc/self/maps", "r");

    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        found = found || strstr(line, cache) != NULL;
    if (f != NULL)
        (void)fclose(f);
    return found;
}

static void tell_place(void *ctx, struct front_call *call)
{
    (void)ctx;
    front_reply(call, is_in_file() ? 200 : 500, NULL, 0, SLICE("text/plain"), SLICE_NONE);
}

static const struct front_route routes[] = {
    {"POST", "/place", tell_place, FRONT_STREAMED, 0},
    {"POST", "/sink", sink_now, FRONT_STREAMED, 0},
    {"POST", "/refuse", refuse, FRONT_STREAMED, 0},
    {NULL, NULL, NULL, 0, 0},
};

/* The largest the process ever was since <reset>, in KiB. */
static long peak(bool reset)
{
    char line[256];
    long kb = -1;
    FILE *f;

    if (reset) {
        f = fopen("/proc/self/clear_refs", "w");
        assert_non_null(f);
        assert_true(fputs("5", f) >= 0);
        assert_int_equal(fclose(f), 0);
    }
    f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f) != NULL)
        (void)sscanf(line, "VmHWM: %ld", &kb);
    (void)fclose(f);
    assert_true(kb > 0);
    return kb;
}

static void send_upload(const struct client *c, const char *path, bool chunked)
{
    char head[256];

    (void)snprintf(head, sizeof(head),
                   chunked ? "POST %s HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                           : "POST %s HTTP/1.1\r\n" HOST "Content-Length: %lld\r\n\r\n",
                   path, (long long)PIECE * PIECES);
    client_say(c, head);
    for (int i = 0; i < PIECES; i++) {
        if (chunked)
            client_say(c, "10000\r\n");
        assert_true(client_send(c, piece, PIECE));
        if (chunked)
            client_say(c, "\r\n");
    }
    if (chunked)
        client_say(c, "0\r\n\r\n");
}

static void expect_small(bool tls, const char *path, bool chunked, const char *answer)
{
    struct client c = client_open(tls);
    long before = peak(true), after;
    int64_t begun = clock_mono();

    send_upload(&c, path, chunked);
    client_hear_until(&c, answer);
    client_close(&c);
    front_idle();
    after = peak(false);
    print_message("%s, TLS %d, chunked %d: %lld MB/s, grown by %ld KiB\n", path, tls, chunked,
                  (long long)PIECE * PIECES / (clock_mono() - begun), after - before);
    assert_true(after - before < (tls ? TLS_GROWTH_MAX_KB : GROWTH_MAX_KB));
}

static void test_uploads(void **state)
{
    char answer[64];

    (void)state;
    (void)snprintf(answer, sizeof(answer), "sink %lld ", (long long)PIECE * PIECES);
    for (int tls = 0; tls < 2; tls++) {
        expect_small(tls, "/sink", false, answer);
        expect_small(tls, "/sink", true, answer);
        expect_small(tls, "/refuse", false, "refused.");
        expect_small(tls, "/refuse", true, "refused.");
    }
}

static long post_h2(size_t len)
{
    CURL *easy = curl_easy_init();
    char url[64], *body = calloc(1, len);
    long status = 0;

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/place", front_port);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)len);
    assert_int_equal(curl_easy_perform(easy), CURLE_OK);
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(easy);
    free(body);
    return status;
}

static void test_large_bodies_over_http2_lie_in_a_file(void **state)
{
    (void)state;
    assert_int_equal(post_h2(100 * 1024), 500);
    assert_int_equal(post_h2(8 * 1024 * 1024), 200);
}

static int set_up(void **state)
{
    (void)state;
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    front_cache = mkdtemp(cache);
    memset(piece, 'p', sizeof(piece));
    return front_up(routes, INT64_C(1) << 30, 30 * CLOCK_SECOND);
}

static int tear_down(void **state)
{
    (void)state;
    front_idle();
    curl_global_cleanup();
    (void)front_down();
    return rmdir(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_bodies_over_http2_lie_in_a_file),
        cmocka_unit_test(test_uploads),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
