/* lib_relay.c - see lib_relay.h. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib_relay.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "daemon/base/log.h"

struct gw gw;

/* ---- the store's side ---- */

static void name_it(void *record, const char *name)
{
    struct record *r = record;

    r->id = id_make();
    (void)slice_copy(slice_from(name), r->name, sizeof(r->name));
}

int64_t gw_put(void *record)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};
    int64_t row;

    assert_int_equal(store_apply(gw.store, &op.super), ERR_OK);
    row = op.record->row;
    record_unref(op.record);
    return row;
}

static int64_t put_tenant(const char *name, int64_t book)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);

    name_it(t, name);
    strcpy(t->timezone, "UTC");
    t->in_doubt = -1;
    t->book_row = book;
    return gw_put(t);
}

static int64_t put_book(const char *model, int64_t pico)
{
    struct price_rate rate = {.unit = PRICE_IMAGE, .pico = pico};
    struct price_version *version;
    struct book *b = record_create(RECORD_BOOK, 0);

    name_it(b, "shop");
    strcpy(rate.model, model);
    version = price_version_create(&rate, 1);
    version->id = id_make();
    version->effective_from = 1000;
    b->prices = price_book_create(&version, 1);
    b->prices->kind = PRICE_WHOLESALE;
    return gw_put(b);
}

static void put_key(int64_t tenant, bool test, const char *policy, char text[SECRET_KEY_TEXT])
{
    struct api_key *k = record_create(RECORD_KEY, 0);

    name_it(k, "key");
    k->tenant_row = tenant;
    k->test = test;
    if (policy != NULL)
        k->policy = mem_strdup(policy);
    secret_make_key(gw.secrets, test ? SECRET_API_KEY_TEST : SECRET_API_KEY, text, k->digest);
    memcpy(k->prefix, text, 11);
    memcpy(k->last4, text + strlen(text) - 4, 4);
    (void)gw_put(k);
}

struct gw_channel {
    const char *name;
    uint16_t port;
    int64_t most, cost_book;
    const char *models[2][2];
};

static void put_channel(const struct gw_channel *from)
{
    int n = from->models[1][0] != NULL ? 2 : 1;
    struct channel *c = record_create(RECORD_CHANNEL, (size_t)n * sizeof(struct channel_model));

    name_it(c, from->name);
    c->channel_kind = CHANNEL_OPENAI;
    snprintf(c->base_url, sizeof(c->base_url), "http://127.0.0.1:%u/v1", from->port);
    c->credential = secret_alloc(16);
    strcpy(c->credential, "sk-channel");
    c->weight = 1;
    c->max_concurrency = from->most;
    c->cost_book_row = from->cost_book;
    c->timeout = 2 * CLOCK_SECOND;
    c->n_models = n;
    for (int i = 0; i < n; i++) {
        strcpy(c->models[i].name, from->models[i][0]);
        strcpy(c->models[i].upstream, from->models[i][1]);
    }
    (void)gw_put(c);
}

static void put_credit(int64_t tenant, int64_t amount)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT}, .tenant_row = tenant, .amount = amount};

    assert_int_equal(store_apply(gw.store, &op.super), ERR_OK);
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
    store_ask(gw.store, q);
    pthread_mutex_lock(&box.lock);
    while (box.mail == NULL)
        pthread_cond_wait(&box.changed, &box.lock);
    pthread_mutex_unlock(&box.lock);
    assert_int_equal(q->err.code, ERR_OK);
}

struct store_balance gw_balance(int64_t tenant)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE}, .tenant_row = tenant};

    ask(&q.super);
    return q.balance;
}

struct usage_record gw_last_usage(void)
{
    static struct store_usage_query q;

    q = (struct store_usage_query){.super = {.question = STORE_USAGE}, .filter.tenants = {1, {gw.tenant}}, .limit = 1};
    ask(&q.super);
    assert_int_equal(q.n, 1);
    return q.items[0];
}

void gw_wait_idle(void)
{
    for (int i = 0; i < 20000 && relay_inflight(gw.relay) > 0; i++)
        usleep(1000);
    assert_int_equal(relay_inflight(gw.relay), 0);
}

void gw_wait_requests(int n)
{
    for (int i = 0; i < 10000 && atomic_load(&peer_server.requests) < n; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&peer_server.requests), n);
}

/* ---- the client's side ---- */

int gw_connect(int buffer)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(gw.port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (buffer > 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

void gw_send_bytes(int fd, const void *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        bytes = (const char *)bytes + n;
        len -= (size_t)n;
    }
}

void gw_post(int fd, const char *path, const char *key, const char *headers, const void *body, size_t len)
{
    char *text = malloc(len + strlen(headers) + 1024);
    int n = sprintf(text,
                    "POST /v1/images/%s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
                    "Authorization: Bearer %s\r\n%sContent-Length: %zu\r\n\r\n",
                    path, key, headers, len);

    memcpy(text + n, body, len);
    gw_send_bytes(fd, text, (size_t)n + len);
    free(text);
}

static void look_at(struct answer *a)
{
    a->text[a->len] = '\0';
    a->body = strstr(a->text, "\r\n\r\n");
    if (a->body == NULL)
        return;
    a->body += 4;
    a->body_len = a->len - (size_t)(a->body - a->text);
    a->status = atoi(a->text + 9);
}

void gw_read(int fd, struct answer *a, size_t piece, useconds_t pace)
{
    size_t cap = GW_TEXT;

    memset(a, 0, sizeof(*a));
    a->text = malloc(cap + 1);
    for (;;) {
        ssize_t n = recv(fd, a->text + a->len, piece < cap - a->len ? piece : cap - a->len, 0);

        if (n <= 0)
            break;
        a->len += (size_t)n;
        if (a->len == cap) {
            cap *= 2;
            assert_true(cap <= GW_ANSWER_MAX);
            a->text = realloc(a->text, cap + 1);
        }
        if (pace > 0)
            usleep(pace);
    }
    close(fd);
    look_at(a);
}

bool gw_read_until(int fd, struct answer *a, const char *text)
{
    if (a->text == NULL)
        a->text = calloc(1, GW_TEXT + 1);
    while (strstr(a->text, text) == NULL) {
        ssize_t n = recv(fd, a->text + a->len, GW_TEXT - a->len, 0);

        if (n <= 0)
            return false;
        a->len += (size_t)n;
        look_at(a);
    }
    return true;
}

void gw_call_as(const char *key, const char *headers, const char *body, struct answer *a)
{
    int fd = gw_connect(0);

    gw_post(fd, "generations", key, headers, body, strlen(body));
    gw_read(fd, a, GW_TEXT, 0);
}

void gw_call(const char *body, struct answer *a)
{
    gw_call_as(gw.key, GW_JSON, body, a);
}

void gw_call_path(const char *path, const char *headers, const void *body, size_t len, struct answer *a)
{
    int fd = gw_connect(0);

    gw_post(fd, path, gw.key, headers, body, len);
    gw_read(fd, a, GW_TEXT, 0);
}

void gw_get(const char *path, const char *key, struct answer *a)
{
    char text[512];
    int fd = gw_connect(0);
    int n = snprintf(text, sizeof(text),
                     "GET %s HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", path,
                     key);

    gw_send_bytes(fd, text, (size_t)n);
    gw_read(fd, a, GW_TEXT, 0);
}

void answer_dispose(struct answer *a)
{
    free(a->text);
    memset(a, 0, sizeof(*a));
}

bool answer_has(const struct answer *a, const char *line)
{
    char text[256];

    snprintf(text, sizeof(text), "\r\n%s\r\n", line);
    return a->body != NULL && strcasestr(a->text, text) != NULL && strcasestr(a->text, text) < a->body;
}

bool answer_unchunk(struct answer *a)
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
    *out = '\0';
    a->body_len = (size_t)(out - a->body);
    return true;
}

/* ---- expectations ---- */

static int64_t spent_before;

static int64_t spent_in_all(void)
{
    struct store_balance b;

    gw_wait_idle();
    b = gw_balance(gw.tenant);
    assert_int_equal(b.held, 0);
    return GW_CREDIT - b.posted;
}

void gw_begin(peer_fn *serve)
{
    gw_wait_idle();
    peer_server_reset(serve);
    spent_before = spent_in_all();
}

int64_t gw_spent(void)
{
    return spent_in_all() - spent_before;
}

void gw_expect_charge(int64_t nano)
{
    assert_int_equal(gw_spent(), nano);
}

void gw_expect_doubt(bool recorded)
{
    gw_expect_charge(0);
    if (recorded)
        assert_true(gw_last_usage().flags & USAGE_IN_DOUBT);
    else
        assert_false(gw_last_usage().flags & USAGE_IN_DOUBT);
}

void gw_expect_error(const struct answer *a, int status, const char *code, bool no_retry)
{
    char text[128];

    snprintf(text, sizeof(text), "\"code\": \"%s\"", code);
    if (a->status != status || strstr(a->body, text) == NULL)
        fail_msg("expected %d %s, got: %.600s", status, code, a->text);
    assert_true(answer_has(a, "x-should-retry: false") == no_retry);
    assert_true(strcasestr(a->text, "x-request-id: req_") != NULL);
}

/* ---- what upstreams say ---- */

void peer_json(struct peer *p, int status, const char *headers, const char *body)
{
    char head[512];

    snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n",
             status, headers, strlen(body));
    peer_say(p, head);
    peer_say(p, body);
}

static struct {
    int status;
    const char *headers, *body;
} reply;

static void serve_reply(struct peer *p)
{
    while (peer_read(p))
        peer_json(p, reply.status, reply.headers, reply.body);
}

void gw_begin_reply(int status, const char *headers, const char *body)
{
    gw_begin(serve_reply);
    reply.status = status;
    reply.headers = headers;
    reply.body = body;
}

atomic_bool gw_go;

void peer_when_told(struct peer *p)
{
    while (peer_read(p)) {
        while (!atomic_load(&gw_go))
            usleep(1000);
        peer_json(p, 200, "", PEER_ONE);
    }
}

/* ---- setting up ---- */

static void fill_store(void)
{
    int64_t book = put_book("vendor/image", INT64_C(10000000000));
    int fd;
    const struct gw_channel channels[] = {
        {"main", peer_server.port, 0, 0, {{"dall-e-2", "dall-e-2"}, {"gpt-image-1", "gpt-image-1-upstream"}}},
        {"nowhere", peer_listen(&fd, 1), 0, 0, {{"dall-e-3", "dall-e-3"}}},
        {"narrow", peer_server.port, 1, 0, {{"gpt-image-1-mini", "gpt-image-1-mini"}}},
        {"shop", peer_server.port, 0, book, {{"vendor/image", "image"}, {"unpriced", "unpriced"}}},
    };

    close(fd);
    gw.tenant = put_tenant("rich", 0);
    gw.poor_tenant = put_tenant("poor", 0);
    put_credit(gw.tenant, GW_CREDIT);
    put_credit(gw.poor_tenant, 5 * INT64_C(16000000));
    put_key(gw.tenant, false, NULL, gw.key);
    put_key(gw.tenant, false, "{\"models\":[\"gpt-image-1\"]}", gw.narrow_key);
    put_key(gw.poor_tenant, false, NULL, gw.poor_key);
    put_key(gw.poor_tenant, true, NULL, gw.test_key);
    put_key(put_tenant("shop", book), false, NULL, gw.shop_key);
    for (size_t i = 0; i < sizeof(channels) / sizeof(channels[0]); i++)
        put_channel(&channels[i]);
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
                                      .ctx = gw.relay};
    const struct front_options options = {.threads = GW_THREADS,
                                          .max_connections = 256,
                                          .cache_directory = gw.cache,
                                          .listeners = &listener,
                                          .n_listeners = 1};
    struct buf text;
    struct err err;

    assert_int_equal(front_open(&options, &gw.front, &err), ERR_OK);
    buf_init(&text, 256);
    front_addresses(gw.front, 0, &text);
    buf_append_char(&text, '\0');
    gw.port = (uint16_t)atoi(strrchr(text.p, ':') + 1);
    buf_dispose(&text);
}

static void store_failed(void *ctx, const char *why)
{
    (void)ctx;
    fprintf(stderr, "store failed: %s\n", why);
    abort();
}

static void open_gateway(bool fill)
{
    const struct conf conf = {.relay_timeout = 10 * CLOCK_SECOND,
                              .relay_connect_timeout = 5 * CLOCK_SECOND,
                              .relay_private_addresses = true,
                              .idempotency_keep = 3600 * CLOCK_SECOND,
                              .idempotency_max_answer = 16 * 1024 * 1024,
                              .idempotency_max_kept = 64 * 1024 * 1024};
    const struct store_options options = {.url = gw.url, .secrets = gw.secrets, .migrate = true};
    struct mailbox *boxes[GW_THREADS];
    struct err err;

    assert_int_equal(store_open(&options, &gw.store, &err), ERR_OK);
    if (fill)
        fill_store();
    assert_int_equal(relay_house_create(gw.store, gw.secrets, &conf, gw.cache, &gw.relay, &err), ERR_OK);
    open_front();
    for (int i = 0; i < GW_THREADS; i++) {
        struct loop *loop = front_loop(gw.front, i);

        gw.catalogs[i] = catalog_create();
        boxes[i] = loop_mailbox(loop);
        loop_set(loop, LOOP_SLOT_CATALOG, gw.catalogs[i]);
        relay_loop_init(gw.relay, loop);
    }
    assert_int_equal(catalog_fill(gw.catalogs, boxes, GW_THREADS, gw.store, &err), ERR_OK);
    assert_int_equal(store_start(gw.store, store_failed, NULL, &err), ERR_OK);
    assert_int_equal(front_start_loops(gw.front, &err), ERR_OK);
}

static void fsck_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    (void)ctx;
    (void)checked;
    if (!ok)
        fprintf(stderr, "%s: %s\n", invariant, detail);
}

static void close_gateway(void)
{
    struct err err;

    gw_wait_idle();
    front_stop(gw.front);
    relay_house_stop(gw.relay);
    store_close(gw.store);
    assert_int_equal(store_fsck(gw.url, fsck_line, NULL, NULL, &err), 0);
    for (int i = 0; i < GW_THREADS; i++)
        catalog_destroy(gw.catalogs[i]);
    relay_house_destroy(gw.relay);
}

/* What the library cannot dispose of stays reachable. */
static struct front *fronts[4];

void gw_restart(void)
{
    for (size_t i = 0; i < sizeof(fronts) / sizeof(fronts[0]); i++)
        if (fronts[i] == NULL) {
            fronts[i] = gw.front;
            break;
        }
    close_gateway();
    open_gateway(false);
}

int gw_set_up(void **state)
{
    char path[128];
    struct err err;

    (void)state;
    secret_init();
    log_init(LEVEL_ERROR);
    model_init();
    peer_server_start();
    strcpy(gw.dir, "/tmp/tg-relay-XXXXXX");
    assert_non_null(mkdtemp(gw.dir));
    snprintf(gw.url, sizeof(gw.url), "sqlite:%s/t.db", gw.dir);
    snprintf(gw.cache, sizeof(gw.cache), "%s/cache", gw.dir);
    assert_int_equal(mkdir(gw.cache, 0700), 0);
    snprintf(path, sizeof(path), "%s/master.key", gw.dir);
    assert_int_equal(secret_open(path, NULL, &gw.secrets, &err), ERR_OK);
    open_gateway(true);
    return 0;
}

int gw_tear_down(void **state)
{
    char command[128];

    (void)state;
    close_gateway();
    secret_close(gw.secrets);
    pthread_mutex_lock(&peer_server.lock);
    free(peer_server.last);
    peer_server.last = NULL;
    pthread_mutex_unlock(&peer_server.lock);
    snprintf(command, sizeof(command), "rm -r %s", gw.dir);
    return system(command);
}
