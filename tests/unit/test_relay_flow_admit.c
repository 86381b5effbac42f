/* test_relay_flow_admit.c - calls that never get upstream, models, and the probe of a channel. */
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

static const char one_small[] = "{\"prompt\":\"a\",\"size\":\"256x256\"}";

/* ---- cases: nothing is written ---- */

static void test_not_admitted(void **state)
{
    static const struct {
        const char *key, *headers, *body;
        int status;
        const char *code;
    } cases[] = {
        {"sk-tg-wrong", GW_JSON, one_small, 401, "invalid_api_key"},
        {"", GW_JSON, one_small, 401, NULL},
        {NULL, "Content-Type: text/plain\r\n", one_small, 400, "unsupported_content_type"},
        {NULL, "", one_small, 400, "unsupported_content_type"},
        {NULL, GW_JSON "Content-Encoding: gzip\r\n", one_small, 400, "unsupported_content_type"},
        {NULL, GW_JSON, "{\"prompt\":", 400, NULL},
        {NULL, GW_JSON, "{}", 400, "missing_required_parameter"},
        {NULL, GW_JSON, "{\"prompt\":\"a\",\"n\":0}", 400, "integer_below_min_value"},
        {NULL, GW_JSON, "{\"prompt\":\"a\",\"n\":1,\"n\":10}", 400, "duplicate_parameter"},
        {NULL, GW_JSON, "{\"prompt\":\"a\",\"model\":\"no-such\"}", 404, "model_not_found"},
    };

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        gw_call_as(cases[i].key != NULL ? cases[i].key : gw.key, cases[i].headers, cases[i].body, &a);
        if (cases[i].code != NULL)
            gw_expect_error(&a, cases[i].status, cases[i].code, false);
        else if (a.status != cases[i].status)
            fail_msg("case %zu: %.600s", i, a.text);
        answer_dispose(&a);
    }
    gw_expect_charge(0);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
}

static void test_no_money(void **state)
{
    enum { CALLERS = 40 };
    int fd[CALLERS], served = 0, refused = 0;

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    for (int i = 0; i < CALLERS; i++)
        fd[i] = gw_connect(0);
    for (int i = 0; i < CALLERS; i++)
        gw_post(fd[i], "generations", gw.poor_key, GW_JSON, one_small, strlen(one_small));
    for (int i = 0; i < CALLERS; i++) {
        struct answer a;

        gw_read(fd[i], &a, GW_TEXT, 0);
        if (a.status == 200) {
            served++;
        } else {
            gw_expect_error(&a, 429, "insufficient_quota", true);
            refused++;
        }
        answer_dispose(&a);
    }
    gw_wait_idle();
    assert_int_equal(served, 5);
    assert_int_equal(refused, CALLERS - 5);
    assert_int_equal(atomic_load(&peer_server.requests), 5);
    assert_int_equal(gw_balance(gw.poor_tenant).posted, 0);
    assert_int_equal(gw_balance(gw.poor_tenant).held, 0);
}

static void test_channel_full(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    gw_begin(peer_when_told);
    atomic_store(&gw_go, false);
    fd = gw_connect(0);
    gw_post(fd, "generations", gw.key, GW_JSON, "{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}",
            strlen("{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}"));
    gw_wait_requests(1);
    gw_call("{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}", &a); /* the channel takes one at a time */
    gw_expect_error(&a, 503, "no_channel_available", false);
    answer_dispose(&a);
    atomic_store(&gw_go, true);
    gw_read(fd, &a, GW_TEXT, 0);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    gw_wait_idle();
    gw_call("{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}", &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
}

/* ---- money before an upload ---- */

/* Asks for leave to send; <first> gets what came before any byte of the body was sent. */
static void ask_leave(const char *key, const char *more, char *first, size_t cap)
{
    char head[512];
    int fd = gw_connect(0);
    size_t n;
    ssize_t got;

    n = (size_t)snprintf(head, sizeof(head),
                         "POST /v1/images/generations HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                         "Authorization: Bearer %s\r\n" GW_JSON "%sExpect: 100-continue\r\nContent-Length: %zu\r\n\r\n",
                         key, more, strlen(one_small));
    gw_send_bytes(fd, head, n);
    got = recv(fd, first, cap - 1, 0);
    assert_true(got > 0);
    first[got] = '\0';
    if (strstr(first, " 100 ") != NULL) {
        struct answer a;

        gw_send_bytes(fd, one_small, strlen(one_small));
        gw_read(fd, &a, GW_TEXT, 0);
        answer_dispose(&a);
    } else {
        close(fd);
    }
    gw_wait_idle();
}

static void test_leave(void **state)
{
    char first[2048];

    (void)state;
    gw_begin_reply(200, "", PEER_ONE);
    ask_leave(gw.key, "", first, sizeof(first));
    assert_int_equal(strncmp(first, "HTTP/1.1 100 ", 13), 0);
    gw_expect_charge(16000000);
    ask_leave("sk-tg-wrong", "", first, sizeof(first));
    assert_int_equal(strncmp(first, "HTTP/1.1 401 ", 13), 0);

    assert_int_equal(gw_balance(gw.poor_tenant).posted, 0); /* spent by the case before */
    ask_leave(gw.poor_key, "", first, sizeof(first));
    assert_int_equal(strncmp(first, "HTTP/1.1 429 ", 13), 0);
    assert_non_null(strstr(first, "insufficient_quota"));
    assert_non_null(strstr(first, "x-should-retry: false"));
    ask_leave(gw.poor_key, "Idempotency-Key: paid\r\n", first, sizeof(first)); /* it may have been */
    assert_int_equal(strncmp(first, "HTTP/1.1 100 ", 13), 0);
    ask_leave(gw.test_key, "", first, sizeof(first));
    assert_int_equal(strncmp(first, "HTTP/1.1 100 ", 13), 0);
    assert_int_equal(atomic_load(&peer_server.requests), 1);
}

/* ---- models ---- */

#define LIST(models) "{\"object\":\"list\",\"data\":[" models "]}"
#define MODEL(name) "{\"id\":\"" name "\",\"object\":\"model\",\"created\":0,\"owned_by\":\"system\"}"

/* Puts a 0 for each creation time, which must be a recent one. */
static void expect_models(const char *path, const char *key, const char *expected)
{
    static const char created[] = "\"created\":";
    struct answer a;
    char *at;

    gw_get(path, key, &a);
    assert_int_equal(a.status, 200);
    assert_true(answer_has(&a, "content-type: application/json"));
    for (at = a.body; (at = strstr(at, created)) != NULL;) {
        char *end;
        long long then = strtoll(at + sizeof(created) - 1, &end, 10);

        assert_in_range(clock_wall() / CLOCK_SECOND - then, 0, 600);
        at += sizeof(created) - 1;
        *at++ = '0';
        memmove(at, end, strlen(end) + 1);
    }
    assert_string_equal(a.body, expected);
    answer_dispose(&a);
}

static void test_models(void **state)
{
    struct answer a;

    (void)state;
    expect_models("/v1/models", gw.key,
                  LIST(MODEL("dall-e-2") "," MODEL("dall-e-3") "," MODEL("gpt-image-1") "," MODEL("gpt-image-1-mini")));
    expect_models("/v1/models", gw.narrow_key, LIST(MODEL("gpt-image-1")));
    expect_models("/v1/models", gw.shop_key, LIST(MODEL("vendor/image")));
    expect_models("/v1/models", gw.test_key, LIST("")); /* no sandbox channel */
    gw_get("/v1/models", "sk-tg-wrong", &a);
    gw_expect_error(&a, 401, "invalid_api_key", false);
    answer_dispose(&a);
}

static void test_model(void **state)
{
    const struct {
        const char *key, *name;
    } missing[] = {
        {gw.key, "gpt-image-1-upstream"}, {gw.key, "dall-e-4"},         {gw.key, "vendor%2Fimage"},
        {gw.shop_key, "unpriced"},        {gw.test_key, "gpt-image-1"}, {gw.shop_key, "gpt-image-1"},
        {gw.shop_key, "vendor%2F"},       {gw.narrow_key, "dall-e-2"},  {gw.key, "gpt-image-1%00"},
    };

    (void)state;
    expect_models("/v1/models/gpt-image-1", gw.key, MODEL("gpt-image-1"));
    expect_models("/v1/models/vendor%2Fimage", gw.shop_key, MODEL("vendor/image"));
    expect_models("/v1/models/vendor%2fimage", gw.shop_key, MODEL("vendor/image"));
    expect_models("/v1/models/vendor/image", gw.shop_key, MODEL("vendor/image"));
    for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
        struct answer a;
        char path[64];

        snprintf(path, sizeof(path), "/v1/models/%s", missing[i].name);
        gw_get(path, missing[i].key, &a);
        gw_expect_error(&a, 404, "model_not_found", false);
        answer_dispose(&a);
    }
}

/* ---- the probe ---- */

static void serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

struct probing {
    struct mail mail;
    const struct channel *channel;
    atomic_bool done;
    bool ok;
    int status;
    char why[128];
};

static void probed(void *ctx, bool ok, int status, int64_t duration_us, const char *why)
{
    struct probing *p = ctx;

    assert_true(duration_us >= 0);
    p->ok = ok;
    p->status = status;
    snprintf(p->why, sizeof(p->why), "%s", why);
    atomic_store(&p->done, true);
}

static void start_probe(struct mail *mail)
{
    struct probing *p = TG_CONTAINER(struct probing, mail, mail);
    struct loop *loop = front_loop(gw.front, 0);
    const struct catalog *catalog = loop_get(loop, LOOP_SLOT_CATALOG);
    const struct channel *ch;
    size_t pos = 0;

    while ((ch = catalog_next_channel(catalog, &pos)) != NULL)
        if (strcmp(ch->super.name, "main") == 0)
            relay_probe(loop, ch, probed, p);
}

static void probe(struct probing *p)
{
    memset(p, 0, sizeof(*p));
    p->mail.deliver = start_probe;
    mailbox_post(loop_mailbox(front_loop(gw.front, 0)), &p->mail);
    for (int i = 0; i < 10000 && !atomic_load(&p->done); i++)
        usleep(1000);
    assert_true(atomic_load(&p->done));
}

static void test_probe(void **state)
{
    struct probing p;

    (void)state;
    gw_begin_reply(200, "", "{\"object\":\"list\",\"data\":[]}");
    probe(&p);
    assert_true(p.ok);
    assert_int_equal(p.status, 200);
    assert_string_equal(p.why, "");
    assert_non_null(strstr(peer_server.last, "GET /v1/models HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "Bearer sk-channel"));
    gw_begin_reply(401, "", "{}");
    probe(&p);
    assert_false(p.ok);
    assert_int_equal(p.status, 401);
    gw_begin(serve_silence);
    probe(&p);
    assert_false(p.ok);
    assert_int_equal(p.status, 0);
    assert_true(p.why[0] != '\0');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_admitted), cmocka_unit_test(test_no_money), cmocka_unit_test(test_channel_full),
        cmocka_unit_test(test_leave),        cmocka_unit_test(test_models),   cmocka_unit_test(test_model),
        cmocka_unit_test(test_probe),
    };

    return cmocka_run_group_tests(tests, gw_set_up, gw_tear_down);
}
