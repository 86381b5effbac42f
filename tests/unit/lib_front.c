/* lib_front.c - see lib_front.h. */
#include "lib_front.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"

struct front *front;
int front_port, front_tls_port;
const char *front_cache;
char heard[HEARD_MAX];

static size_t n_heard;
static char certificate[] = "/tmp/tg-front-cert-XXXXXX", key[] = "/tmp/tg-front-key-XXXXXX";
static SSL_CTX *client_tls;

/* ---- the client ---- */

static int dial(int to)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to)};
    const struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

struct client client_open(bool tls)
{
    struct client c = {.fd = dial(tls ? front_tls_port : front_port)};

    if (tls) {
        c.ssl = SSL_new(client_tls);
        (void)SSL_set_fd(c.ssl, c.fd);
        assert_int_equal(SSL_connect(c.ssl), 1);
    }
    return c;
}

void client_close(struct client *c)
{
    if (c->ssl != NULL)
        SSL_free(c->ssl);
    close(c->fd);
}

void client_reset(struct client *c)
{
    const struct linger now = {1, 0};

    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    client_close(c);
}

bool client_send(const struct client *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = c->ssl != NULL ? SSL_write(c->ssl, bytes, (int)len) : send(c->fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

void client_say(const struct client *c, const char *text)
{
    assert_true(client_send(c, text, strlen(text)));
}

void client_say_in_pieces(const struct client *c, const char *text, size_t piece)
{
    size_t len = strlen(text);

    for (size_t at = 0; at < len; at += piece) {
        assert_true(client_send(c, text + at, len - at < piece ? len - at : piece));
        usleep(100); /* mostly enough for the loop to read it apart from the next */
    }
}

static ssize_t more(const struct client *c)
{
    size_t room = sizeof(heard) - 1 - n_heard;
    ssize_t n = c->ssl != NULL ? SSL_read(c->ssl, heard + n_heard, (int)room) : recv(c->fd, heard + n_heard, room, 0);

    if (n > 0)
        n_heard += (size_t)n;
    heard[n_heard] = '\0';
    return n;
}

void client_hear_until(const struct client *c, const char *text)
{
    n_heard = 0;
    heard[0] = '\0';
    while (strstr(heard, text) == NULL) {
        if (more(c) <= 0)
            fail_msg("\"%s\" did not come, but: %s", text, heard);
    }
}

bool client_hear_all(const struct client *c)
{
    ssize_t n;

    n_heard = 0;
    errno = 0;
    while ((n = more(c)) > 0)
        continue;
    return n == 0 || (errno != ECONNRESET && errno != EAGAIN);
}

bool heard_text(const char *text)
{
    return strstr(heard, text) != NULL;
}

int heard_status(void)
{
    return strncmp(heard, "HTTP/1.1 ", 9) == 0 ? atoi(heard + 9) : 0;
}

/* ---- a handler that takes bodies ---- */

atomic_int sink_calls, sink_pieces, sink_gone;
atomic_llong sink_bytes;

struct sink {
    struct loop_timer timer;
    struct front_call *call;
    size_t len;
    uint64_t sum;
};

static void sink_data(void *ctx, struct slice bytes)
{
    struct sink *sink = ctx;

    assert_true(bytes.len > 0);
    sink->sum = sum_bytes(sink->sum, bytes.p, bytes.len);
    sink->len += bytes.len;
    atomic_fetch_add(&sink_pieces, 1);
    atomic_fetch_add(&sink_bytes, (long long)bytes.len);
}

static void sink_end(void *ctx, const struct err *err)
{
    struct sink *sink = ctx;
    char text[64];
    int n = snprintf(text, sizeof(text), "sink %zu %016llx.", sink->len, (unsigned long long)sink->sum);

    if (err != NULL)
        front_reply_err(sink->call, err, NULL, 0);
    else
        front_reply(sink->call, 200, NULL, 0, SLICE("text/plain"), (struct slice){text, (size_t)n});
    free(sink);
}

static void sink_left(void *ctx)
{
    struct sink *sink = ctx;

    loop_timer_disarm(front_call_loop(sink->call), &sink->timer);
    free(sink);
    atomic_fetch_add(&sink_gone, 1);
}

static void sink_ask(struct loop_timer *timer)
{
    struct sink *sink = (struct sink *)timer;

    front_call_receive(sink->call, &(const struct front_receiver){sink, sink_data, sink_end});
}

static struct sink *sink_create(struct front_call *call)
{
    struct sink *sink = mem_zalloc(sizeof(*sink));

    sink->call = call;
    loop_timer_init(&sink->timer, sink_ask);
    front_call_own(call, &(const struct front_owner){.ctx = sink, .gone = sink_left});
    atomic_fetch_add(&sink_calls, 1);
    return sink;
}

void sink_now(void *ctx, struct front_call *call)
{
    (void)ctx;
    sink_ask(&sink_create(call)->timer);
}

void sink_late(void *ctx, struct front_call *call)
{
    (void)ctx;
    loop_timer_arm(front_call_loop(call), &sink_create(call)->timer, 20000);
}

const char *sink_answer(const void *bytes, size_t len, char out[64])
{
    (void)snprintf(out, 64, "sink %zu %016llx.", len, (unsigned long long)sum_bytes(0, bytes, len));
    return out;
}

/* ---- the front ---- */

static void write_pem(char *path, EVP_PKEY *pair, X509 *x)
{
    FILE *f = fdopen(mkstemp(path), "w");

    assert_non_null(f);
    assert_int_equal(x != NULL ? PEM_write_X509(f, x) : PEM_write_PrivateKey(f, pair, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
}

static void make_certificate(void)
{
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    X509 *x = X509_new();

    assert_true(pair != NULL && x != NULL);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), 0);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    (void)X509_set_pubkey(x, pair);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"x", -1, -1,
                                     0);
    (void)X509_set_issuer_name(x, X509_get_subject_name(x));
    assert_true(X509_sign(x, pair, EVP_sha256()) > 0);
    write_pem(certificate, pair, x);
    write_pem(key, pair, NULL);
    X509_free(x);
    EVP_PKEY_free(pair);
}

static int port_of(size_t listener)
{
    struct buf text;
    int found;

    buf_init(&text, LIMIT_URL);
    front_addresses(front, listener, &text);
    buf_append_char(&text, '\0');
    found = atoi(strrchr(text.p, ':') + 1);
    buf_dispose(&text);
    return found;
}

int front_up(const struct front_route *routes, int64_t max_body, int64_t request_timeout)
{
    static const char *const addresses[] = {"127.0.0.1:0"};
    struct front_listener listeners[2] = {{.addresses = addresses,
                                           .n_addresses = 1,
                                           .http2 = true,
                                           .max_body = max_body,
                                           .request_timeout = request_timeout,
                                           .is_public = true,
                                           .routes = routes}};
    const struct front_options options = {
        .threads = 1, .max_connections = 100, .cache_directory = front_cache, .listeners = listeners, .n_listeners = 2};
    struct err err;

    (void)signal(SIGPIPE, SIG_IGN);
    log_init(LEVEL_ERROR);
    make_certificate();
    listeners[1] = listeners[0];
    listeners[1].tls_certificate = certificate;
    listeners[1].tls_key = key;
    client_tls = SSL_CTX_new(TLS_client_method());
    if (front_open(&options, &front, &err) != ERR_OK || front_start_loops(front, &err) != ERR_OK)
        return -1;
    front_port = port_of(0);
    front_tls_port = port_of(1);
    return 0;
}

int front_down(void)
{
    front_stop(front);
    SSL_CTX_free(client_tls);
    (void)unlink(certificate);
    (void)unlink(key);
    return 0;
}

void front_idle(void)
{
    for (int i = 0; i < 1000 && front_calls(front) > 0; i++)
        usleep(5000);
    assert_int_equal(front_calls(front), 0);
}

void await_at_least(atomic_int *counter, int value)
{
    for (int i = 0; i < 1000 && atomic_load(counter) < value; i++)
        usleep(5000);
    assert_true(atomic_load(counter) >= value);
}

uint64_t sum_bytes(uint64_t sum, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
    return sum;
}
