/* test_relay_flow_repeats.c - calls repeated under their Idempotency-Key: the answer again, or why not; never a second
 * upstream call, never a second charge. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib_stream.h"

static const char small[] = "{\"prompt\":\"a\",\"size\":\"256x256\"}";
static const int64_t small_charge = 16000000;

static const char *key_header(const char *headers, const char *key)
{
    static char text[512];

    snprintf(text, sizeof(text), "%sIdempotency-Key: %s\r\n", headers, key);
    return text;
}

static void call_keyed(const char *key, const char *body, struct answer *a)
{
    gw_call_as(gw.key, key_header(GW_JSON, key), body, a);
}

static void id_of(const struct answer *a, char out[64])
{
    const char *at = strcasestr(a->text, "x-request-id: req_");

    assert_non_null(at);
    assert_int_equal(sscanf(at + 14, "%63s", out), 1);
}

/* <first> is the answer of the first call; the same comes again, and nothing else happens. */
static void expect_again(const char *key, const char *body, const struct answer *first)
{
    int requests = atomic_load(&peer_server.requests);
    char id[64], first_id[64];
    struct answer a;

    call_keyed(key, body, &a);
    assert_int_equal(a.status, first->status);
    assert_int_equal(a.body_len, first->body_len);
    assert_memory_equal(a.body, first->body, a.body_len);
    assert_true(answer_has(&a, "idempotent-replayed: true"));
    assert_false(answer_has(first, "idempotent-replayed: true"));
    id_of(&a, id);
    id_of(first, first_id);
    assert_string_not_equal(id, first_id);
    answer_dispose(&a);
    assert_int_equal(atomic_load(&peer_server.requests), requests);
}

static void expect_conflict(const char *key, const char *body, int status, const char *code)
{
    struct answer a;

    call_keyed(key, body, &a);
    gw_expect_error(&a, status, code, true);
    answer_dispose(&a);
}

static void test_again(void **state)
{
    struct answer first, a;

    (void)state;
    gw_begin_reply(200, "x-request-id: req_up\r\n", PEER_ONE);
    call_keyed("k1", small, &first);
    assert_int_equal(first.status, 200);
    expect_again("k1", small, &first);
    call_keyed("k1", small, &a);
    assert_true(answer_has(&a, "tallygate-charge: 0.016000000"));
    assert_true(answer_has(&a, "x-upstream-request-id: req_up"));
    assert_true(answer_has(&a, "content-type: application/json"));
    answer_dispose(&a);
    gw_restart();
    expect_again("k1", small, &first);
    expect_again("k1", small, &first);
    answer_dispose(&first);
    gw_expect_charge(small_charge);
}

static void test_other_request(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    call_keyed("k2", small, &a);
    answer_dispose(&a);
    expect_conflict("k2", "{\"prompt\":\"b\",\"size\":\"256x256\"}", 422, "idempotency_key_reused");
    gw_expect_charge(small_charge);

    gw_call_as(gw.test_key, key_header(GW_JSON, "k2"), small, &a); /* another API key's are its own */
    assert_int_equal(strstr(a.text, "idempoten") == NULL, 1);
    answer_dispose(&a);
}

static void test_running(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    gw_begin(peer_when_told);
    atomic_store(&gw_go, false);
    fd = gw_connect(0);
    gw_post(fd, "generations", gw.key, key_header(GW_JSON, "k3"), small, strlen(small));
    gw_wait_requests(1);
    expect_conflict("k3", small, 409, "idempotency_in_progress");
    atomic_store(&gw_go, true);
    gw_read(fd, &a, GW_TEXT, 0);
    assert_int_equal(a.status, 200);
    expect_again("k3", small, &a);
    answer_dispose(&a);
    gw_expect_charge(small_charge);
}

/* What had no effect frees the key. */
static void test_refused_first(void **state)
{
    struct answer a;

    (void)state;
    gw_begin_reply(500, "", "{}");
    call_keyed("k4", small, &a);
    gw_expect_error(&a, 502, "upstream_error", false);
    answer_dispose(&a);
    gw_begin_reply(200, "", PEER_ONE);
    call_keyed("k4", small, &a);
    assert_int_equal(a.status, 200);
    assert_false(answer_has(&a, "idempotent-replayed: true"));
    answer_dispose(&a);
    gw_expect_charge(small_charge);
}

static void serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

static void test_doubt_first(void **state)
{
    struct answer a;

    (void)state;
    gw_begin(serve_silence);
    call_keyed("k5", small, &a);
    gw_expect_error(&a, 502, "upstream_error", true);
    answer_dispose(&a);
    expect_conflict("k5", small, 409, "idempotency_answer_unavailable");
    assert_int_equal(atomic_load(&peer_server.requests), 1);
    gw_expect_doubt(true);
}

/* The client that left gets the answer when it comes back. */
static void test_gone_first(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    gw_begin(peer_when_told);
    atomic_store(&gw_go, false);
    fd = gw_connect(0);
    gw_post(fd, "generations", gw.key, key_header(GW_JSON, "k6"), small, strlen(small));
    gw_wait_requests(1);
    close(fd);
    usleep(50000);
    atomic_store(&gw_go, true);
    gw_expect_charge(small_charge);
    call_keyed("k6", small, &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, PEER_ONE);
    assert_true(answer_has(&a, "idempotent-replayed: true"));
    answer_dispose(&a);
    gw_expect_charge(small_charge);
}

static void test_stream_again(void **state)
{
    static const char text[] = PARTIAL COMPLETED;
    char unended[sizeof(text)];
    struct answer a;

    (void)state;
    strcpy(unended, text);
    unended[sizeof(text) - 3] = '\0'; /* the last blank line is ours */
    stream_begin(unended, 9, STREAM_WHOLE);
    call_keyed("k7", STREAM_ONE, &a);
    assert_true(answer_unchunk(&a));
    assert_string_equal(a.body, text);
    expect_again("k7", STREAM_ONE, &a);
    answer_dispose(&a);
    call_keyed("k7", STREAM_ONE, &a);
    assert_true(answer_has(&a, "content-type: text/event-stream"));
    assert_true(answer_has(&a, "cache-control: no-cache"));
    answer_dispose(&a);
    gw_expect_charge(COMPLETED_CHARGE);
}

/* Some of it was charged, but it is no answer to give again. */
static void test_stream_cut(void **state)
{
    struct answer a;

    (void)state;
    stream_begin(PARTIAL COMPLETED, 0, STREAM_BROKEN);
    call_keyed("k8", STREAM_TWO, &a);
    assert_non_null(strstr(a.text, "event: error"));
    answer_dispose(&a);
    expect_conflict("k8", STREAM_TWO, 409, "idempotency_answer_unavailable");
    gw_expect_charge(COMPLETED_CHARGE);
}

/* ---- sizes, damage ---- */

enum { MEGABYTE = 1024 * 1024 };

static size_t reply_size;

static void serve_sized(struct peer *p)
{
    static const char head[] = "{\"created\":1,\"data\":[{\"b64_json\":\"", tail[] = "\"}]}";
    char *body = malloc(reply_size + 1), text[160];
    size_t n = sizeof(head) - 1;

    memset(body, 'A', reply_size);
    for (size_t i = n; i < reply_size; i += 61)
        body[i] = (char)('A' + (i * 2654435761u >> 9) % 26);
    memcpy(body, head, n);
    memcpy(body + reply_size - sizeof(tail) + 1, tail, sizeof(tail) - 1);
    while (peer_read(p)) {
        snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", reply_size);
        peer_say(p, text);
        peer_say_bytes(p, body, reply_size);
    }
    free(body);
}

static void test_large_again(void **state)
{
    struct answer first, a;
    int fd;

    (void)state;
    gw_begin(serve_sized);
    reply_size = 9 * MEGABYTE;
    call_keyed("k9", small, &first);
    assert_int_equal(first.status, 200);
    assert_int_equal(first.body_len, reply_size);
    expect_again("k9", small, &first);
    gw_restart();
    fd = gw_connect(8192);
    gw_post(fd, "generations", gw.key, key_header(GW_JSON, "k9"), small, strlen(small));
    gw_read(fd, &a, GW_TEXT, 500);
    assert_int_equal(a.body_len, first.body_len);
    assert_memory_equal(a.body, first.body, a.body_len);
    answer_dispose(&a);
    answer_dispose(&first);

    fd = gw_connect(8192); /* a reader that leaves within */
    gw_post(fd, "generations", gw.key, key_header(GW_JSON, "k9"), small, strlen(small));
    memset(&a, 0, sizeof(a));
    assert_true(gw_read_until(fd, &a, "idempotent-replayed: true"));
    close(fd);
    answer_dispose(&a);
    gw_expect_charge(small_charge);
}

static void test_too_large(void **state)
{
    struct answer a;

    (void)state;
    gw_begin(serve_sized);
    reply_size = 17 * MEGABYTE;
    call_keyed("k10", small, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body_len, reply_size);
    answer_dispose(&a);
    expect_conflict("k10", small, 409, "idempotency_answer_unavailable");
    gw_expect_charge(small_charge);
}

/* Flips a byte in the file of an answer, near its end. */
static void damage(const struct answer *a)
{
    char id[64], path[512];
    char byte;
    int fd;

    id_of(a, id);
    snprintf(path, sizeof(path), "%s/answers/%s", gw.cache, id);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, 500000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 500000), 1);
    close(fd);
}

static void test_damaged(void **state)
{
    struct answer a;

    (void)state;
    gw_begin(serve_sized);
    reply_size = MEGABYTE;
    call_keyed("k11", small, &a);
    assert_int_equal(a.status, 200);
    gw_wait_idle();
    damage(&a);
    answer_dispose(&a);
    gw_restart();
    expect_conflict("k11", small, 409, "idempotency_answer_unavailable");
    expect_conflict("k11", small, 409, "idempotency_answer_unavailable");
    gw_expect_charge(small_charge);
}

/* A client makes its form's boundary anew when it repeats a call. */
static void test_form_again(void **state)
{
    static const char form[] = "--%s\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a.png\"\r\n"
                               "Content-Type: image/png\r\n\r\n\x89PNG\r\n\r\n--%s\r\nContent-Disposition: form-data; "
                               "name=\"prompt\"\r\n\r\n%s\r\n--%s--\r\n";
    static const struct {
        const char *boundary, *prompt;
        int status;
    } calls[] = {{"first-boundary", "a", 200}, {"another", "a", 200}, {"first-boundary", "b", 422}};

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const char *b = calls[i].boundary;
        char type[128], body[1024];
        struct answer a;
        int n = snprintf(body, sizeof(body), form, b, b, calls[i].prompt, b);

        snprintf(type, sizeof(type), "Content-Type: multipart/form-data; boundary=%s\r\n", b);
        gw_call_path("edits", key_header(type, "k12"), body, (size_t)n, &a);
        if (a.status != calls[i].status)
            fail_msg("call %zu: %.600s", i, a.text);
        answer_dispose(&a);
    }
    assert_int_equal(atomic_load(&peer_server.requests), 1);
}

static void test_nothing_left_behind(void **state)
{
    char path[256];
    struct dirent *item;
    DIR *dir;

    (void)state;
    gw_wait_idle();
    snprintf(path, sizeof(path), "%s/answers", gw.cache);
    dir = opendir(path);
    assert_non_null(dir);
    while ((item = readdir(dir)) != NULL)
        assert_true(item->d_name[0] == '.' || strncmp(item->d_name, "req_", 4) == 0);
    closedir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_other_request),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_refused_first),
        cmocka_unit_test(test_doubt_first),
        cmocka_unit_test(test_gone_first),
        cmocka_unit_test(test_stream_again),
        cmocka_unit_test(test_stream_cut),
        cmocka_unit_test(test_large_again),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_form_again),
        cmocka_unit_test(test_nothing_left_behind),
    };

    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
