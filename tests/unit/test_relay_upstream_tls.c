/* test_relay_upstream_tls.c - calls over TLS, against certificates that are good and bad in every way that matters. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_upstream.h"

enum { DAY = 24 * 60 * 60, LONG = 3000000 };

/* ---- authorities and certificates ---- */

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
    char path[64]; /* its PEM file */
};

static struct {
    struct authority known, unknown;
    SSL_CTX *good, *other_host, *expired, *foreign;
    struct upstream_route *route, *get;
} tls;

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* <issuer> NULL: signed by itself. Valid from two days ago until <days> from now. */
static X509 *make_certificate(EVP_PKEY *key, const char *name, int days, const struct authority *issuer)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    static long serial;

    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * DAY);
    X509_gmtime_adj(X509_getm_notAfter(certificate), (long)days * DAY);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer != NULL ? X509_get_subject_name(issuer->certificate) : subject);
    X509_set_pubkey(certificate, key);
    if (issuer == NULL)
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    else
        add_extension(certificate, NID_subject_alt_name, name);
    assert_true(X509_sign(certificate, issuer != NULL ? issuer->key : key, EVP_sha256()) > 0);
    return certificate;
}

static void make_authority(struct authority *a, const char *name)
{
    FILE *file;
    int fd;

    a->key = EVP_EC_gen("P-256");
    a->certificate = make_certificate(a->key, name, 30, NULL);
    snprintf(a->path, sizeof(a->path), "/tmp/tg_authority_XXXXXX");
    fd = mkstemp(a->path);
    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    assert_int_equal(PEM_write_X509(file, a->certificate), 1);
    fclose(file);
}

static void drop_authority(struct authority *a)
{
    unlink(a->path);
    X509_free(a->certificate);
    EVP_PKEY_free(a->key);
}

static SSL_CTX *make_server(const char *names, int days, const struct authority *issuer)
{
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key, names, days, issuer);

    assert_int_equal(SSL_CTX_use_certificate(server, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server, key), 1);
    SSL_CTX_set_options(server, SSL_OP_IGNORE_UNEXPECTED_EOF);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return server;
}

/* ---- cases ---- */

static void begin_tls(SSL_CTX *server, peer_fn *serve)
{
    peer_server_reset(serve);
    atomic_store(&peer_server.tls, server);
    calls_renew_pool(tls.known.path, false);
}

static void init_tls(struct call *c)
{
    call_init(c);
    c->request.route = tls.route;
}

static void test_good(void **state)
{
    (void)state;
    begin_tls(tls.good, peer_serve_whole);
    for (int i = 0; i < 10; i++) {
        struct call c;

        init_tls(&c);
        if (i % 2 != 0) {
            c.request.route = tls.get;
            c.request.n_body = 0;
        }
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        call_expect_body(&c, PEER_BODY);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    assert_int_equal(atomic_load(&peer_server.requests), 10);
}

static void expect_not_reached(SSL_CTX *server, peer_fn *serve, enum upstream_end end, const char *why)
{
    struct call c;

    begin_tls(server, serve);
    init_tls(&c);
    c.request.connect_timeout = SECOND;
    call_run(&c);
    assert_int_equal(c.end, end);
    assert_int_equal(c.heads, 0);
    if (strstr(c.why, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", c.why, why);
    assert_int_equal(atomic_load(&peer_server.requests), 0);
    call_dispose(&c);
}

static void serve_plainly(struct peer *p)
{
    peer_say(p, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    peer_wait_end(p);
}

static bool read_hello(struct peer *p)
{
    char hello[4096];

    return read(p->fd, hello, sizeof(hello)) > 0;
}

static void serve_hello_and_close(struct peer *p)
{
    (void)read_hello(p);
}

static void serve_hello_and_hang(struct peer *p)
{
    if (read_hello(p))
        peer_wait_end(p);
}

static void test_not_reached(void **state)
{
    (void)state;
    expect_not_reached(tls.foreign, peer_serve_whole, UPSTREAM_UNREACHED, "unable to get local issuer certificate");
    expect_not_reached(tls.other_host, peer_serve_whole, UPSTREAM_UNREACHED,
                       "no alternative certificate subject name matches target host name '127.0.0.1'");
    expect_not_reached(tls.expired, peer_serve_whole, UPSTREAM_UNREACHED, "certificate has expired");
    expect_not_reached(NULL, serve_plainly, UPSTREAM_UNREACHED, "wrong version number");
    expect_not_reached(NULL, serve_hello_and_close, UPSTREAM_UNREACHED, "SSL");
    expect_not_reached(NULL, serve_hello_and_hang, UPSTREAM_CONNECT_TIMED_OUT, "timeout");
}

static void serve_echo(struct peer *p)
{
    while (peer_read(p)) {
        char head[64];
        const char *body = peer_body(p);
        size_t len = p->len - (size_t)(body - p->got);

        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
        peer_say(p, head);
        peer_say_bytes(p, body, len);
    }
}

/* Both ways at once full records, read in one piece, in runs, and with pauses. */
static void test_long(void **state)
{
    char *text = malloc(LONG);

    (void)state;
    for (size_t i = 0; i < LONG; i++)
        text[i] = (char)('a' + large_at(i) % 26);
    begin_tls(tls.good, serve_echo);
    for (int i = 0; i < 6; i++) {
        struct call c;

        init_tls(&c);
        c.request.small_buffers = i >= 3;
        c.request.n_body = 1 + i % 3;
        for (int part = 0; part < c.request.n_body; part++)
            c.request.body[part].bytes = (struct slice){text + part * 1000000, 1000000};
        c.pause_every = i % 2 == 0 ? 5 : 0;
        call_run(&c);
        assert_int_equal(c.end, UPSTREAM_COMPLETE);
        assert_int_equal(c.body.len, c.request.n_body * 1000000);
        assert_memory_equal(c.body.p, text, c.body.len);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.connections), 1);
    free(text);
}

static void serve_close_second(struct peer *p)
{
    if (peer_read(p))
        peer_say(p, PEER_HEAD PEER_BODY);
    (void)peer_read(p);
}

static void test_sent_once(void **state)
{
    (void)state;
    begin_tls(tls.good, serve_close_second);
    for (int i = 0; i < 2; i++) {
        struct call c;

        init_tls(&c);
        call_run(&c);
        assert_int_equal(c.end, i == 0 ? UPSTREAM_COMPLETE : UPSTREAM_BROKEN);
        call_dispose(&c);
    }
    assert_int_equal(atomic_load(&peer_server.requests), 2);
}

/* ---- setting up ---- */

static int set_up(void **state)
{
    char url[64];

    (void)calls_set_up(state);
    make_authority(&tls.known, "Known");
    make_authority(&tls.unknown, "Unknown");
    tls.good = make_server("DNS:localhost,IP:127.0.0.1", 30, &tls.known);
    tls.other_host = make_server("DNS:other.example", 30, &tls.known);
    tls.expired = make_server("IP:127.0.0.1", -1, &tls.known);
    tls.foreign = make_server("IP:127.0.0.1", 30, &tls.unknown);
    snprintf(url, sizeof(url), "https://127.0.0.1:%u/v1/images", peer_server.port);
    tls.route = calls_route("POST", url);
    tls.get = calls_route("GET", url);
    return 0;
}

static int tear_down(void **state)
{
    peer_server_reset(peer_serve_whole); /* no connection uses them any more */
    SSL_CTX_free(tls.good);
    SSL_CTX_free(tls.other_host);
    SSL_CTX_free(tls.expired);
    SSL_CTX_free(tls.foreign);
    drop_authority(&tls.known);
    drop_authority(&tls.unknown);
    calls_drop_route(tls.route);
    calls_drop_route(tls.get);
    return calls_tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_not_reached),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_sent_once),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
