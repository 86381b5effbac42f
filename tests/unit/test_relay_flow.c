/* test_relay_flow.c - whole calls through front, gate, relay and store, against an upstream that does as each case
 * says.
 *
 * Every case says what the customer sees and what it costs; after each the wallet holds nothing. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/gate/catalog.h"
#include "daemon/relay/relay.h"
#include "lib_peer.h"

#define USD INT64_C(1000000000)
#define CREDIT (1000 * USD)

enum { LARGE = 12 * 1024 * 1024, TEXT = 64 * 1024, MODELS = 5, THREADS = 2 };

static struct {
    char dir[64], url[128];
    struct secrets *secrets;
    struct store *store;
    struct relay_house *relay;
    struct front *front;
    struct catalog *catalogs[THREADS];
    uint16_t port;
    int64_t tenant, poor_tenant;
    char key[SECRET_KEY_TEXT], poor_key[SECRET_KEY_TEXT];
} house;

/* ---- the store's side ---- */

static void name_it(void *record, const char *name)
{
    struct record *r = record;

    r->id = id_make();
    (void)slice_copy(slice_from(name), r->name, sizeof(r->name));
}

static int64_t put(void *record)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};
    int64_t row;

    assert_int_equal(store_apply(house.store, &op.super), ERR_OK);
    row = op.record->row;
    record_unref(op.record);
    return row;
}

static int64_t put_tenant(const char *name)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);

    name_it(t, name);
    strcpy(t->timezone, "UTC");
    t->in_doubt = -1;
    return put(t);
}

static void put_key(int64_t tenant, char text[SECRET_KEY_TEXT])
{
    struct api_key *k = record_create(RECORD_KEY, 0);

    name_it(k, "key");
    k->tenant_row = tenant;
    secret_make_key(house.secrets, SECRET_API_KEY, text, k->digest);
    memcpy(k->prefix, text, 11);
    memcpy(k->last4, text + strlen(text) - 4, 4);
    (void)put(k);
}

static void put_channel(const char *name, uint16_t port, int64_t most, const char *const (*models)[2], int n)
{
    struct channel *c = record_create(RECORD_CHANNEL, (size_t)n * sizeof(struct channel_model));

    name_it(c, name);
    c->channel_kind = CHANNEL_OPENAI;
    snprintf(c->base_url, sizeof(c->base_url), "http://127.0.0.1:%u/v1", port);
    c->credential = secret_alloc(16);
    strcpy(c->credential, "sk-channel");
    c->weight = 1;
    c->max_concurrency = most;
    c->timeout = 2 * CLOCK_SECOND;
    c->n_models = n;
    for (int i = 0; i < n; i++) {
        strcpy(c->models[i].name, models[i][0]);
        strcpy(c->models[i].upstream, models[i][1]);
    }
    (void)put(c);
}

static void put_credit(int64_t tenant, int64_t amount)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT}, .tenant_row = tenant, .amount = amount};

    assert_int_equal(store_apply(house.store, &op.super), ERR_OK);
}

struct box {
    struct mailbox super;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct mail *mail;
};

static void box_post(struct mailbox *super, struct mail *chain)
{
    struct box *b = TG_CONTAINER(struct box, super, super);

    pthread_mutex_lock(&b->lock);
    b->mail = chain;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
}

static void delivered(struct mail *mail)
{
    (void)mail; /* whoever asked has seen it come */
}

static void ask(struct store_query *q)
{
    static struct box box = {{box_post}, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL};

    q->mail.deliver = delivered;
    q->reply_to = &box.super;
    box.mail = NULL;
    store_ask(house.store, q);
    pthread_mutex_lock(&box.lock);
    while (box.mail == NULL)
        pthread_cond_wait(&box.changed, &box.lock);
    pthread_mutex_unlock(&box.lock);
    assert_int_equal(q->err.code, ERR_OK);
}

static struct store_balance balance_of(int64_t tenant)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE}, .tenant_row = tenant};

    ask(&q.super);
    return q.balance;
}

static struct usage_record last_usage(void)
{
    static struct store_usage_query q;

    q = (struct store_usage_query){.super = {.question = STORE_USAGE}, .tenant_row = house.tenant, .limit = 1};
    ask(&q.super);
    assert_int_equal(q.n, 1);
    return q.items[0];
}

static void wait_idle(void)
{
    for (int i = 0; i < 20000 && relay_inflight(house.relay) > 0; i++)
        usleep(1000);
    assert_int_equal(relay_inflight(house.relay), 0);
}

/* ---- the client's side ---- */

struct answer {
    int status;
    char *text; /* all of it, with a NUL */
    size_t len;
    char *body;
    size_t body_len;
};

static int client_connect_with(int buffer)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(house.port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

static int client_connect(void)
{
    return client_connect_with(0);
}

static void client_send(int fd, const char *key, const char *headers, const char *body)
{
    char *text = malloc(strlen(body) + 1024);
    int n = sprintf(text,
                    "POST /v1/images/generations HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                    "Authorization: Bearer %s\r\n%sContent-Length: %zu\r\n\r\n%s",
                    key, headers, strlen(body), body);

    assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    free(text);
}

/* Reads to the end of the connection; <pace> microseconds between reads of <piece> bytes. */
static void client_read(int fd, struct answer *a, size_t piece, useconds_t pace)
{
    size_t cap = 2 * LARGE;

    memset(a, 0, sizeof(*a));
    a->text = malloc(cap + 1);
    for (;;) {
        ssize_t n = recv(fd, a->text + a->len, piece < cap - a->len ? piece : cap - a->len, 0);

        if (n <= 0)
            break;
        a->len += (size_t)n;
        if (pace > 0)
            usleep(pace);
    }
    close(fd);
    a->text[a->len] = '\0';
    a->body = strstr(a->text, "\r\n\r\n");
    if (a->body == NULL)
        return;
    a->body += 4;
    a->body_len = a->len - (size_t)(a->body - a->text);
    a->status = atoi(a->text + 9);
}

#define JSON_TYPE "Content-Type: application/json\r\n"

static void call_as(const char *key, const char *headers, const char *body, struct answer *a)
{
    int fd = client_connect();

    client_send(fd, key, headers, body);
    client_read(fd, a, TEXT, 0);
}

static void call(const char *body, struct answer *a)
{
    call_as(house.key, JSON_TYPE, body, a);
}

static void answer_dispose(struct answer *a)
{
    free(a->text);
}

static bool has_header(const struct answer *a, const char *line)
{
    char text[256];

    snprintf(text, sizeof(text), "\r\n%s\r\n", line);
    return a->body != NULL && strcasestr(a->text, text) != NULL && strcasestr(a->text, text) < a->body;
}

/* ---- expectations ---- */

static int64_t spent_before;

static int64_t spent(void)
{
    struct store_balance b;

    wait_idle();
    b = balance_of(house.tenant);
    assert_int_equal(b.held, 0);
    return CREDIT - b.posted;
}

static void begin_case(peer_fn *serve)
{
    wait_idle();
    peer_server_reset(serve);
    spent_before = spent();
}

static void expect_charge(int64_t nano)
{
    assert_int_equal(spent() - spent_before, nano);
}

static void expect_error(const struct answer *a, int status, const char *code, bool no_retry)
{
    char text[128];

    snprintf(text, sizeof(text), "\"code\": \"%s\"", code);
    if (a->status != status || strstr(a->body, text) == NULL)
        fail_msg("expected %d %s, got: %.600s", status, code, a->text);
    assert_true(has_header(a, "x-should-retry: false") == no_retry);
    assert_true(strcasestr(a->text, "x-request-id: req_") != NULL);
}

/* ---- what upstreams say ---- */

static void say_json(struct peer *p, int status, const char *headers, const char *body)
{
    char head[512];

    snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
             status, headers, strlen(body));
    peer_say(p, head);
    peer_say(p, body);
}

#define TWO "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"},{\"b64_json\":\"REVG\"}]}"
#define ONE "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"}]}"
#define USED(i, o, t)                                                                                                  \
    "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"}],\"size\":\"1024x1024\",\"quality\":\"medium\",\"usage\":{"      \
    "\"input_tokens\":" i ",\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":" i "},\"output_tokens\":" o  \
    ",\"total_tokens\":" t "}}"

static const char *reply; /* of serve_reply */
static int reply_status;
static const char *reply_headers;

static void serve_reply(struct peer *p)
{
    while (peer_read(p))
        say_json(p, reply_status, reply_headers, reply);
}

static void begin_reply(int status, const char *headers, const char *body)
{
    begin_case(serve_reply);
    reply_status = status;
    reply_headers = headers;
    reply = body;
}

/* ---- cases: delivered ---- */

static const char two_small[] = "{\"model\":\"dall-e-2\",  \"prompt\":\"a cat\",\"n\":2,\"size\":\"256x256\",\"x\":1}";

static void test_per_image(void **state)
{
    struct usage_record u;
    struct answer a;

    (void)state;
    begin_reply(
        200, "x-request-id: req_up\r\nopenai-processing-ms: 77\r\nSet-Cookie: a=b\r\nopenai-organization: o\r\n", TWO);
    call_as(house.key, JSON_TYPE "Cookie: c=1\r\nOpenAI-Organization: org-1\r\nX-Forwarded-For: 1.2.3.4\r\n", two_small,
            &a);
    assert_int_equal(a.status, 200);
    assert_string_equal(a.body, TWO);
    assert_true(has_header(&a, "tallygate-charge: 0.032000000"));
    assert_true(has_header(&a, "content-type: application/json"));
    assert_true(has_header(&a, "x-upstream-request-id: req_up"));
    assert_true(has_header(&a, "openai-processing-ms: 77"));
    assert_null(strcasestr(a.text, "cookie"));
    assert_null(strcasestr(a.text, "organization"));
    answer_dispose(&a);
    expect_charge(32000000);

    assert_non_null(strstr(peer_server.last, "POST /v1/images/generations HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nAuthorization: Bearer sk-channel\r\n"));
    assert_non_null(strstr(peer_server.last, "\r\nx-client-request-id: req_"));
    assert_non_null(strstr(peer_server.last, two_small)); /* the client's own bytes */
    assert_null(strcasestr(peer_server.last, "cookie"));
    assert_null(strcasestr(peer_server.last, "openai-organization"));
    assert_null(strcasestr(peer_server.last, "forwarded"));
    assert_null(strstr(peer_server.last, house.key));

    u = last_usage();
    assert_int_equal(u.images, 2);
    assert_int_equal(u.call.n, 2);
    assert_int_equal(u.status, 200);
    assert_int_equal(u.flags, 0);
    assert_int_equal(u.wholesale, 32000000);
    assert_string_equal(u.upstream_request_id, "req_up");
    assert_string_equal(u.call.size, "256x256");
}

static void test_model_names(void **state)
{
    struct answer a;

    (void)state;
    begin_reply(200, "", ONE);
    call("{\"prompt\":\"a cat\"}", &a);
    assert_int_equal(a.status, 200);
    assert_non_null(strstr(peer_server.last, "\"model\":\"dall-e-2\""));
    answer_dispose(&a);
    expect_charge(20000000);

    begin_reply(200, "", USED("20", "1056", "1076"));
    call("{\"model\":\"gpt-image-1\",\"prompt\":\"a cat\"}", &a);
    assert_int_equal(a.status, 200);
    assert_true(has_header(&a, "tallygate-charge: 0.042340000"));
    assert_non_null(strstr(peer_server.last, "{\"model\":\"gpt-image-1-upstream\",\"prompt\":\"a cat\"}"));
    answer_dispose(&a);
    expect_charge(42340000);
    assert_int_equal(last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
}

static void test_no_usage(void **state)
{
    static const char request[] =
        "{\"model\":\"gpt-image-1\",\"prompt\":\"a cat\",\"size\":\"1024x1024\",\"quality\":\"medium\"}";
    struct answer a;

    (void)state;
    begin_reply(200, "", ONE);
    call(request, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    assert_int_equal(last_usage().flags, USAGE_ESTIMATED);
    assert_int_equal(last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(spent() - spent_before, last_usage().wholesale);

    begin_reply(200, "", USED("20", "1056", "5"));
    call(request, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    assert_int_equal(last_usage().flags, USAGE_ESTIMATED | USAGE_UNTRUSTED);
    assert_int_equal(last_usage().quantities.of[PRICE_IMAGE_OUTPUT], 1056);
    assert_int_equal(spent() - spent_before, last_usage().wholesale);
}

static void test_fewer_and_more(void **state)
{
    struct answer a;

    (void)state;
    begin_reply(200, "", ONE);
    call(two_small, &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    expect_charge(16000000);
    assert_int_equal(last_usage().flags, USAGE_FEWER_IMAGES);

    begin_reply(200, "", TWO); /* more than asked for are the upstream's gift */
    call("{\"prompt\":\"a\",\"size\":\"256x256\"}", &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    expect_charge(16000000);
    assert_int_equal(last_usage().images, 1);
}

/* ---- cases: refused ---- */

struct refusal {
    int status;
    const char *headers, *body;
    int seen;         /* the status that the customer sees */
    const char *code; /* NULL: the body itself is relayed */
    const char *also; /* a header */
};

static void test_refusals(void **state)
{
    static const char html[] = "<html><body>no</body></html>";
    static const char moderation[] =
        "{\"error\":{\"message\":\"no\",\"type\":\"image_generation_user_error\",\"param\":null,"
        "\"code\":\"moderation_blocked\",\"moderation_details\":{}}}\n";
    static const char limit[] =
        "{\"error\":{\"message\":\"limit\",\"type\":\"billing_limit_user_error\",\"param\":null,\"code\":\"x\"}}";
    static const struct refusal refusals[] = {
        {400, "x-should-retry: false\r\n", moderation, 400, NULL, "x-should-retry: false"},
        {404, "", moderation, 404, NULL, NULL},
        {413, "", moderation, 413, NULL, NULL},
        {422, "", moderation, 422, NULL, NULL},
        {400, "", html, 502, "upstream_error", NULL},
        {400, "", limit, 502, "upstream_error", NULL},
        {401, "", moderation, 502, "upstream_error", NULL},
        {403, "", moderation, 502, "upstream_error", NULL},
        {429, "Retry-After: 500\r\n", moderation, 503, "no_channel_available", "retry-after: 59"},
        {429, "Retry-After: 0\r\n", moderation, 503, "no_channel_available", "retry-after: 1"},
        {429, "", moderation, 503, "no_channel_available", NULL},
        {500, "", moderation, 502, "upstream_error", NULL},
        {503, "", html, 502, "upstream_error", NULL},
        {302, "Location: http://127.0.0.1:1/\r\n", "", 502, "upstream_error", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *r = &refusals[i];
        struct answer a;

        begin_reply(r->status, r->headers, r->body);
        call(two_small, &a);
        if (r->code != NULL) {
            expect_error(&a, r->seen, r->code, false);
        } else {
            assert_int_equal(a.status, r->seen);
            assert_string_equal(a.body, r->body);
            assert_true(has_header(&a, "content-type: application/json"));
        }
        if (r->also != NULL)
            assert_true(has_header(&a, r->also));
        else
            assert_false(has_header(&a, "retry-after: 1"));
        answer_dispose(&a);
        expect_charge(0);
        assert_int_equal(atomic_load(&peer_server.requests), 1);
    }
}

static void test_unreached(void **state)
{
    struct answer a;

    (void)state;
    begin_reply(200, "", ONE);
    call("{\"model\":\"dall-e-3\",\"prompt\":\"a\"}", &a);
    expect_error(&a, 502, "upstream_error", false);
    answer_dispose(&a);
    expect_charge(0);
}

/* ---- cases: nonsense and in doubt ---- */

static void serve_silence(struct peer *p)
{
    (void)peer_read(p);
}

static void serve_hang(struct peer *p)
{
    (void)peer_read(p);
    peer_wait_end(p);
}

static void serve_half(struct peer *p)
{
    (void)peer_read(p);
    peer_say(p, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"data\":[{\"b64_json\":\"QUJ");
}

static void expect_doubt(bool recorded)
{
    expect_charge(0);
    if (recorded)
        assert_true(last_usage().flags & USAGE_IN_DOUBT);
    else
        assert_false(last_usage().flags & USAGE_IN_DOUBT);
}

static void test_in_doubt(void **state)
{
    static const struct {
        peer_fn *serve;
        int status;
        const char *code;
    } cases[] = {
        {serve_silence, 502, "upstream_error"},
        {serve_half, 502, "upstream_error"},
        {serve_hang, 504, "upstream_timeout"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        begin_case(cases[i].serve);
        call(two_small, &a);
        expect_error(&a, cases[i].status, cases[i].code, true);
        answer_dispose(&a);
        expect_doubt(true);
    }
}

static void test_nonsense(void **state)
{
    static const struct {
        const char *body;
        bool doubt;
    } cases[] = {
        {"<html>ok</html>", true},
        {"{\"created\":1,\"data\":[{\"b64_json\":\"QU", true}, /* whole by its length, cut as JSON */
        {"", true},
        {ONE "x", true},
        {"{\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"param\":null,\"code\":null}}", false},
        {"{\"created\":1,\"data\":[]}", false},
        {"[]", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        begin_reply(200, "", ONE); /* so that the last record is none in doubt */
        call(two_small, &a);
        answer_dispose(&a);
        begin_reply(200, "", cases[i].body);
        call(two_small, &a);
        expect_error(&a, 502, "upstream_invalid_response", true);
        answer_dispose(&a);
        expect_doubt(cases[i].doubt);
    }
}

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
    begin_case(serve_large); /* the old connections have ended: nobody reads these now */
    large_chunked = chunked;
    large_cut = cut;
}

static const char one_small[] = "{\"prompt\":\"a\",\"size\":\"256x256\"}";

static void test_large(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct answer a;
        int fd;

        begin_large(false, 0);
        fd = client_connect();
        client_send(fd, house.key, JSON_TYPE, one_small);
        client_read(fd, &a, i < 2 ? TEXT * 16 : TEXT, i < 2 ? 0 : 2000);
        assert_int_equal(a.status, 200);
        assert_int_equal(a.body_len, large_len);
        assert_memory_equal(a.body, large, large_len);
        answer_dispose(&a);
        expect_charge(16000000);
    }
}

/* Takes the chunks of a chunked body apart, in place; false when the last chunk is missing. */
static bool unchunk(struct answer *a)
{
    char *in = a->body, *out = a->body;

    for (;;) {
        char *end;
        size_t n = strtoul(in, &end, 16);

        if (end == in || strncmp(end, "\r\n", 2) != 0)
            return false;
        if (n == 0)
            break;
        if (end + 2 + n + 2 > a->text + a->len)
            return false;
        memmove(out, end + 2, n);
        out += n;
        in = end + 2 + n + 2;
    }
    a->body_len = (size_t)(out - a->body);
    return true;
}

static void test_large_chunked(void **state)
{
    struct answer a;

    (void)state;
    begin_large(true, 0);
    call(one_small, &a);
    assert_int_equal(a.status, 200);
    assert_true(unchunk(&a));
    assert_int_equal(a.body_len, large_len);
    assert_memory_equal(a.body, large, large_len);
    answer_dispose(&a);
    expect_charge(16000000);
}

static void test_large_cut(void **state)
{
    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        struct answer a;

        begin_large(chunked, LARGE / 2);
        call(one_small, &a);
        assert_int_equal(a.status, 200);
        if (chunked)
            assert_false(unchunk(&a));
        else
            assert_true(a.body_len < large_len);
        answer_dispose(&a);
        expect_doubt(true);
    }
}

/* ---- cases: the client goes away ---- */

static atomic_bool go;

static void serve_when_told(struct peer *p)
{
    while (peer_read(p)) {
        while (!atomic_load(&go))
            usleep(1000);
        say_json(p, 200, "", ONE);
    }
}

static void wait_request(void)
{
    for (int i = 0; i < 10000 && atomic_load(&peer_server.requests) == 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&peer_server.requests), 1);
}

static void test_client_gone(void **state)
{
    int fd;

    (void)state;
    begin_case(serve_when_told);
    atomic_store(&go, false);
    fd = client_connect();
    client_send(fd, house.key, JSON_TYPE, one_small);
    wait_request();
    close(fd);
    usleep(100000);
    atomic_store(&go, true);
    expect_charge(16000000);
    assert_true(last_usage().flags & USAGE_CLIENT_GONE);
}

static void test_client_gone_inside(void **state)
{
    struct linger hard = {1, 0};
    char byte;
    int fd;

    (void)state;
    for (int reset = 0; reset < 2; reset++) {
        begin_large(false, 0);
        fd = client_connect();
        client_send(fd, house.key, JSON_TYPE, one_small);
        assert_int_equal(recv(fd, &byte, 1, 0), 1);
        if (reset)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
        close(fd);
        expect_charge(16000000);
        assert_true(last_usage().flags & USAGE_CLIENT_GONE);
    }
}

/* A client that stops reading is left behind before the upstream call's time is over, and pays. */
static void test_client_stalls(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    begin_large(false, 0);
    fd = client_connect_with(4096);
    client_send(fd, house.key, JSON_TYPE, one_small);
    wait_request();
    expect_charge(16000000);
    assert_true(last_usage().flags & USAGE_CLIENT_GONE);
    client_read(fd, &a, TEXT, 0);
    assert_true(a.body_len < large_len);
    answer_dispose(&a);
}

/* ---- cases: nothing is written ---- */

static void test_not_admitted(void **state)
{
    static const struct {
        const char *key, *headers, *body;
        int status;
        const char *code;
    } cases[] = {
        {"sk-tg-wrong", JSON_TYPE, one_small, 401, "invalid_api_key"},
        {"", JSON_TYPE, one_small, 401, NULL},
        {NULL, "Content-Type: text/plain\r\n", one_small, 400, "unsupported_content_type"},
        {NULL, "", one_small, 400, "unsupported_content_type"},
        {NULL, JSON_TYPE "Content-Encoding: gzip\r\n", one_small, 400, "unsupported_content_type"},
        {NULL, JSON_TYPE, "{\"prompt\":", 400, NULL},
        {NULL, JSON_TYPE, "{}", 400, "missing_required_parameter"},
        {NULL, JSON_TYPE, "{\"prompt\":\"a\",\"n\":0}", 400, "integer_below_min_value"},
        {NULL, JSON_TYPE, "{\"prompt\":\"a\",\"n\":1,\"n\":10}", 400, "duplicate_parameter"},
        {NULL, JSON_TYPE, "{\"prompt\":\"a\",\"model\":\"gpt-image-1\",\"stream\":true}", 400, "invalid_value"},
        {NULL, JSON_TYPE, "{\"prompt\":\"a\",\"model\":\"no-such\"}", 404, "model_not_found"},
    };

    (void)state;
    begin_reply(200, "", ONE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answer a;

        call_as(cases[i].key != NULL ? cases[i].key : house.key, cases[i].headers, cases[i].body, &a);
        if (cases[i].code != NULL)
            expect_error(&a, cases[i].status, cases[i].code, false);
        else if (a.status != cases[i].status)
            fail_msg("case %zu: %.600s", i, a.text);
        answer_dispose(&a);
    }
    expect_charge(0);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
}

static void test_no_money(void **state)
{
    enum { CALLERS = 40 };
    int fd[CALLERS], served = 0, refused = 0;

    (void)state;
    begin_reply(200, "", ONE);
    for (int i = 0; i < CALLERS; i++)
        fd[i] = client_connect();
    for (int i = 0; i < CALLERS; i++)
        client_send(fd[i], house.poor_key, JSON_TYPE, one_small);
    for (int i = 0; i < CALLERS; i++) {
        struct answer a;

        client_read(fd[i], &a, TEXT, 0);
        if (a.status == 200) {
            served++;
        } else {
            expect_error(&a, 429, "insufficient_quota", true);
            refused++;
        }
        answer_dispose(&a);
    }
    wait_idle();
    assert_int_equal(served, 5);
    assert_int_equal(refused, CALLERS - 5);
    assert_int_equal(atomic_load(&peer_server.requests), 5);
    assert_int_equal(balance_of(house.poor_tenant).posted, 0);
    assert_int_equal(balance_of(house.poor_tenant).held, 0);
}

static void test_channel_full(void **state)
{
    struct answer a;
    int fd;

    (void)state;
    begin_case(serve_when_told);
    atomic_store(&go, false);
    fd = client_connect();
    client_send(fd, house.key, JSON_TYPE, "{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}");
    wait_request();
    call("{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}", &a); /* the channel takes one at a time */
    expect_error(&a, 503, "no_channel_available", false);
    answer_dispose(&a);
    atomic_store(&go, true);
    client_read(fd, &a, TEXT, 0);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
    wait_idle();
    call("{\"model\":\"gpt-image-1-mini\",\"prompt\":\"a\"}", &a);
    assert_int_equal(a.status, 200);
    answer_dispose(&a);
}

/* ---- the probe ---- */

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
    struct loop *loop = front_loop(house.front, 0);
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
    mailbox_post(loop_mailbox(front_loop(house.front, 0)), &p->mail);
    for (int i = 0; i < 10000 && !atomic_load(&p->done); i++)
        usleep(1000);
    assert_true(atomic_load(&p->done));
}

static void test_probe(void **state)
{
    struct probing p;

    (void)state;
    begin_reply(200, "", "{\"object\":\"list\",\"data\":[]}");
    probe(&p);
    assert_true(p.ok);
    assert_int_equal(p.status, 200);
    assert_string_equal(p.why, "");
    assert_non_null(strstr(peer_server.last, "GET /v1/models HTTP/1.1\r\n"));
    assert_non_null(strstr(peer_server.last, "Bearer sk-channel"));
    begin_reply(401, "", "{}");
    probe(&p);
    assert_false(p.ok);
    assert_int_equal(p.status, 401);
    begin_case(serve_silence);
    probe(&p);
    assert_false(p.ok);
    assert_int_equal(p.status, 0);
    assert_true(p.why[0] != '\0');
}

/* ---- setting up ---- */

static void fill_store(void)
{
    static const char *const models[][2] = {{"dall-e-2", "dall-e-2"}, {"gpt-image-1", "gpt-image-1-upstream"}};
    static const char *const nowhere[][2] = {{"dall-e-3", "dall-e-3"}};
    static const char *const narrow[][2] = {{"gpt-image-1-mini", "gpt-image-1-mini"}};
    int fd;
    uint16_t closed = peer_listen(&fd, 1);

    close(fd);
    house.tenant = put_tenant("rich");
    house.poor_tenant = put_tenant("poor");
    put_credit(house.tenant, CREDIT);
    put_credit(house.poor_tenant, 5 * INT64_C(16000000));
    put_key(house.tenant, house.key);
    put_key(house.poor_tenant, house.poor_key);
    put_channel("main", peer_server.port, 0, models, 2);
    put_channel("nowhere", closed, 0, nowhere, 1);
    put_channel("narrow", peer_server.port, 1, narrow, 1);
}

static void open_front(void)
{
    static const char *const addresses[] = {"127.0.0.1:0"};
    struct front_listener listener = {.addresses = addresses,
                                      .n_addresses = 1,
                                      .http2 = true,
                                      .max_body = 64 * 1024 * 1024,
                                      .request_timeout = 10 * CLOCK_SECOND,
                                      .is_public = true,
                                      .routes = relay_routes,
                                      .ctx = house.relay};
    const struct front_options options = {
        .threads = THREADS, .max_connections = 256, .listeners = &listener, .n_listeners = 1};
    struct buf text;
    struct err err;

    assert_int_equal(front_open(&options, &house.front, &err), ERR_OK);
    buf_init(&text, 256);
    front_addresses(house.front, 0, &text);
    buf_append_char(&text, '\0');
    house.port = (uint16_t)atoi(strrchr(text.p, ':') + 1);
    buf_dispose(&text);
}

static void store_failed(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "store failed: %s\n", why);
    abort();
}

static int set_up(void **state)
{
    struct store_options options = {.url = house.url, .migrate = true};
    struct conf conf = {
        .relay_timeout = 10 * CLOCK_SECOND, .relay_connect_timeout = 5 * CLOCK_SECOND, .relay_private_addresses = true};
    char path[128];
    struct err err;

    (void)state;
    secret_init();
    log_init(LEVEL_ERROR);
    model_init();
    make_large();
    peer_server_start();
    strcpy(house.dir, "/tmp/tg-relay-XXXXXX");
    assert_non_null(mkdtemp(house.dir));
    snprintf(house.url, sizeof(house.url), "sqlite:%s/t.db", house.dir);
    snprintf(path, sizeof(path), "%s/master.key", house.dir);
    assert_int_equal(secret_open(path, NULL, &house.secrets, &err), ERR_OK);
    options.secrets = house.secrets;
    assert_int_equal(store_open(&options, &house.store, &err), ERR_OK);
    fill_store();
    house.relay = relay_house_create(house.store, house.secrets, &conf);
    open_front();
    for (int i = 0; i < THREADS; i++) {
        struct loop *loop = front_loop(house.front, i);

        house.catalogs[i] = catalog_create();
        catalog_fill(house.catalogs[i], house.store, loop_mailbox(loop));
        loop_set(loop, LOOP_SLOT_CATALOG, house.catalogs[i]);
        relay_loop_init(house.relay, loop);
    }
    assert_int_equal(store_start(house.store, store_failed, NULL, &err), ERR_OK);
    assert_int_equal(front_start_loops(house.front, &err), ERR_OK);
    return 0;
}

static void fsck_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    (void)ctx;
    (void)checked;
    if (!ok)
        fprintf(stderr, "%s: %s\n", invariant, detail);
}

static int tear_down(void **state)
{
    char command[128];
    struct err err;

    (void)state;
    wait_idle();
    front_stop(house.front);
    store_close(house.store);
    assert_int_equal(store_fsck(house.url, fsck_line, NULL, &err), 0);
    for (int i = 0; i < THREADS; i++)
        catalog_destroy(house.catalogs[i]);
    relay_house_destroy(house.relay);
    secret_close(house.secrets);
    pthread_mutex_lock(&peer_server.lock);
    free(peer_server.last);
    peer_server.last = NULL;
    pthread_mutex_unlock(&peer_server.lock);
    snprintf(command, sizeof(command), "rm -r %s", house.dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_per_image),
        cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_no_usage),
        cmocka_unit_test(test_fewer_and_more),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unreached),
        cmocka_unit_test(test_in_doubt),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_chunked),
        cmocka_unit_test(test_large_cut),
        cmocka_unit_test(test_client_gone),
        cmocka_unit_test(test_client_gone_inside),
        cmocka_unit_test(test_client_stalls),
        cmocka_unit_test(test_not_admitted),
        cmocka_unit_test(test_no_money),
        cmocka_unit_test(test_channel_full),
        cmocka_unit_test(test_probe),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
