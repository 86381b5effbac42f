/* test_base_conf.c - the INI reader and the configuration. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/conf.h"
#include "daemon/base/ini.h"

struct seen {
    char text[4096];
    size_t len;
};

static void note(struct seen *s, const char *fmt, ...) TG_PRINTF(2, 3);

static void note(struct seen *s, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    s->len += (size_t)vsnprintf(s->text + s->len, sizeof(s->text) - s->len, fmt, args);
    va_end(args);
    assert_true(s->len < sizeof(s->text));
}

static enum err_code on_key(void *ctx, struct slice section, struct slice key, struct slice value, int line,
                            struct err *err)
{
    note(ctx, "%d %.*s/%.*s=%.*s|", line, (int)section.len, section.p, (int)key.len, key.p, (int)value.len, value.p);
    return slice_eq_str(value, "bad") ? err_set(err, ERR_INVALID_VALUE, NULL, "no good") : ERR_OK;
}

static void on_fault(void *ctx, int line, struct slice key, const char *what)
{
    note(ctx, "%d !%.*s: %s|", line, (int)key.len, key.len > 0 ? key.p : "", what);
}

static void check_ini(struct slice text, int faults, const char *expected)
{
    struct seen s = {{0}, 0};
    char *copy = malloc(text.len + 1); /* of the heap, so that a read outside it is caught */

    (void)slice_copy(text, copy, text.len + 1);
    assert_int_equal(ini_read((struct slice){copy, text.len}, on_key, on_fault, &s), faults);
    free(copy);
    assert_string_equal(s.text, expected);
}

static void ini_reads_lines(void **state)
{
    (void)state;
    check_ini(
        SLICE("a=1\n[s]\n\n# c\n  b = 2  # c\r\n[ long name ] # c\nc =\nd=x#y\ne = # c\nf = #\ng=a = b\n\t[t]\nh=1"), 0,
        "1 /a=1|5 s/b=2|7 long name/c=|8 long name/d=x#y|9 long name/e=|10 long name/f=|11 long name/g=a = b|"
        "13 t/h=1|");
    check_ini(SLICE("\xEF\xBB\xBF[s]\na=1\n"), 0, "2 s/a=1|");
    check_ini(SLICE_NONE, 0, "");
    check_ini(SLICE("["), 1, "1 !: a section is written [name]|");
}

static void ini_tells_every_fault(void **state)
{
    static char long_line[INI_LINE + 16];

    (void)state;
    check_ini(SLICE("[s]\nnonsense\n=1\nk=bad\n[\n[]\n[a]b\n[a]]\nz=1\n\xFF=1\n"), 8,
              "2 !: expected key = value|3 !: there is no key before the =|4 s/k=bad|4 !k: no good|"
              "5 !: a section is written [name]|6 !: a section is written [name]|7 !: a section is written [name]|"
              "8 !: a section is written [name]|9 s/z=1|10 !: the line is not UTF-8 text|");
    check_ini((struct slice){"a=\0\nb=1", 7}, 1, "1 !: the line is not UTF-8 text|2 /b=1|");
    memset(long_line, 'a', INI_LINE + 1);
    memcpy(long_line + INI_LINE + 1, "\nb=1", 5);
    check_ini(slice_from(long_line), 1, "1 !: the line is too long|2 /b=1|");
}

static char path[] = "/tmp/tallygate-test-conf-XXXXXX";

static int make_path(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int drop_path(void **state)
{
    (void)state;
    return unlink(path);
}

/* Reads <text> as a file; what was said goes to <said>, with the path shown as F. */
static struct conf *read_text(const char *text, char *said, size_t cap)
{
    FILE *f = fopen(path, "w"), *out = tmpfile();
    struct conf *conf;
    char line[1024];

    assert_non_null(f);
    assert_non_null(out);
    fputs(text, f);
    fclose(f);
    conf = conf_read(path, out);
    rewind(out);
    said[0] = '\0';
    while (fgets(line, sizeof(line), out) != NULL) {
        assert_memory_equal(line, path, strlen(path));
        strncat(said, "F", cap - strlen(said) - 1);
        strncat(said, line + strlen(path), cap - strlen(said) - 1);
    }
    fclose(out);
    return conf;
}

static void conf_has_the_contracts_defaults(void **state)
{
    char said[1024];
    struct conf *c = read_text("", said, sizeof(said));

    (void)state;
    assert_non_null(c);
    assert_int_equal(c->public_listen.n, 1);
    assert_string_equal(c->public_listen.at[0], "127.0.0.1:8080");
    assert_string_equal(c->admin_listen.at[0], "127.0.0.1:8081");
    assert_true(c->public_http2);
    assert_int_equal(c->public_max_body, 512 * 1024 * 1024);
    assert_string_equal(c->store_url, "sqlite:/var/lib/tallygate/tallygate.db");
    assert_true(c->store_auto_migrate);
    assert_string_equal(c->secrets_master_key_file, "");
    assert_int_equal(c->relay_timeout, 600 * 1000000LL);
    assert_int_equal(c->relay_connect_timeout, 10 * 1000000LL);
    assert_true(c->relay_private_addresses);
    assert_int_equal(c->relay_in_doubt, IN_DOUBT_RELEASE);
    assert_int_equal(c->server_threads, 0);
    assert_int_equal(c->server_drain_timeout, 600 * 1000000LL);
    assert_int_equal(c->server_log_level, LEVEL_INFO);
    conf_destroy(c);
}

static void conf_reads_every_type(void **state)
{
    char said[1024];
    struct conf *c = read_text("[public]\nlisten = [::1]:443\nlisten = unix:/run/t.sock\nlisten=host-1.example:65535\n"
                               "http2 = off\nmax_body = 1GiB # comment\ntls_certificate = /c.pem\ntls_key = /k.pem\n"
                               "[relay]\ntimeout = 90000ms\nconnect_timeout=1m\nin_doubt = keep\n"
                               "[server]\nthreads = 4\ndrain_timeout = 0\nrequest_timeout = 1h\nlog_level = error\n",
                               said, sizeof(said));

    (void)state;
    assert_string_equal(said, "");
    assert_non_null(c);
    assert_int_equal(c->public_listen.n, 3); /* the default went */
    assert_string_equal(c->public_listen.at[1], "unix:/run/t.sock");
    assert_false(c->public_http2);
    assert_int_equal(c->public_max_body, 1024 * 1024 * 1024);
    assert_int_equal(c->relay_timeout, 90 * 1000000LL);
    assert_int_equal(c->relay_connect_timeout, 60 * 1000000LL);
    assert_int_equal(c->relay_in_doubt, IN_DOUBT_KEEP);
    assert_int_equal(c->server_threads, 4);
    assert_int_equal(c->server_drain_timeout, 0);
    assert_int_equal(c->server_request_timeout, 3600 * 1000000LL);
    assert_int_equal(c->server_log_level, LEVEL_ERROR);
    conf_destroy(c);
}

static void conf_tells_every_fault(void **state)
{
    char said[4096];

    (void)state;
    assert_null(
        read_text("stray = 1\n[public]\nmax_bdy = 1\nmax_body = 12XiB\nhttp2 = yes\nhttp2 = on\n[publik]\na=1\n"
                  "[relay]\ntimeout = 10\ntimeout = 2h\nin_doubt=maybe\n[server]\nthreads = -1\nthreads=300\nx\n",
                  said, sizeof(said)));
    assert_string_equal(said, "F:1: stray: stands before the first [section]\n"
                              "F:3: max_bdy: unknown key in section [public]\n"
                              "F:4: max_body: expected a size in bytes (B, KiB, MiB, GiB), but got '12XiB'\n"
                              "F:5: http2: expected on or off, but got 'yes'\n"
                              "F:6: http2: set twice, first in line 5\n"
                              "F:8: a: unknown section [publik]\n"
                              "F:10: timeout: expected a time with its unit (us, ms, s, m, h, d), but got '10'\n"
                              "F:11: timeout: set twice, first in line 10\n"
                              "F:12: in_doubt: expected release, charge or keep, but got 'maybe'\n"
                              "F:14: threads: expected a whole number, but got '-1'\n"
                              "F:15: threads: set twice, first in line 14\n"
                              "F:16: syntax: expected key = value\n");
}

static void conf_bounds_numbers(void **state)
{
    static const char *const bad[] = {"[public]\nmax_body = 4095\n",
                                      "[public]\nmax_body = 4097MiB\n",
                                      "[public]\nmax_body = 99999999999GiB\n",
                                      "[public]\nmax_body =\n",
                                      "[public]\nmax_body = 99999999999999999999\n",
                                      "[public]\nmax_body = 1.5GiB\n",
                                      "[relay]\ntimeout = 999ms\n",
                                      "[relay]\ntimeout = 3601s\n",
                                      "[relay]\ntimeout = 61m\n",
                                      "[server]\nthreads = 257\n",
                                      "[server]\nthreads = 1x\n",
                                      "[server]\nthreads = 01\n"};
    char said[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(read_text(bad[i], said, sizeof(said)));
    assert_null(read_text("[server]\nthreads = 257\n", said, sizeof(said)));
    assert_string_equal(said, "F:2: threads: out of range: 0 to 256\n");
}

static void conf_checks_addresses_and_urls(void **state)
{
    static const char *const bad[] = {
        "",      "8080",    ":8080",    "host",         "host:", "host:0",   "host:65536", "host:80x", "::1:80",
        "[::1]", "[::1]80", "[::g]:80", "[1.2.3.4]:80", "unix:", "unix:rel", "unix:/",     "a b:80",   "http://x:80"};
    static const char *const bad_urls[] = {"", "sqlite:", "/path", "postgres://x"};
    char text[512], said[1024];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(text, sizeof(text), "[admin]\nlisten = %s\n", bad[i]);
        if (read_text(text, said, sizeof(said)) != NULL)
            fail_msg("%s was accepted", bad[i]);
    }
    (void)snprintf(text, sizeof(text), "[admin]\nlisten = unix:/%0120d\n", 0);
    assert_null(read_text(text, said, sizeof(said)));
    for (size_t i = 0; i < sizeof(bad_urls) / sizeof(bad_urls[0]); i++) {
        (void)snprintf(text, sizeof(text), "[store]\nurl = %s\n", bad_urls[i]);
        assert_null(read_text(text, said, sizeof(said)));
    }
    strcpy(text, "[public]\n");
    for (int i = 0; i <= CONF_LIST; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "listen = h:%d\n", i + 1);
    assert_null(read_text(text, said, sizeof(said)));
    assert_string_equal(said, "F:18: listen: more than 16 entries\n");
}

static void conf_checks_keys_together(void **state)
{
    char said[1024];

    (void)state;
    assert_null(read_text("[public]\ntls_certificate = /c\n", said, sizeof(said)));
    assert_string_equal(said, "F:2: tls_certificate: needs tls_key beside it\n");
    assert_null(read_text("[public]\n\ntls_key = /k\n", said, sizeof(said)));
    assert_string_equal(said, "F:3: tls_key: needs tls_certificate beside it\n");
    assert_null(conf_read("/nonexistent/file", NULL));
    assert_null(conf_read("/tmp", NULL));
}

static void conf_names_keys_that_need_a_restart(void **state)
{
    char said[1024];
    struct conf *a = read_text("", said, sizeof(said));
    struct conf *b =
        read_text("[public]\nlisten = h:1\n[relay]\ntimeout=1s\nca_file=/x\n[server]\nthreads=2\n", said, sizeof(said));
    struct buf out;

    (void)state;
    buf_init(&out, 1024);
    conf_restart_keys(a, a, &out);
    assert_int_equal(out.len, 0);
    conf_restart_keys(a, b, &out);
    buf_append_char(&out, '\0');
    assert_string_equal(out.p, "public.listen, relay.ca_file, server.threads");
    buf_dispose(&out);
    conf_destroy(a);
    conf_destroy(b);
}

/* The printed sample, with its comment signs taken from the settings, is a configuration that says the defaults. */
static void conf_help_is_a_configuration(void **state)
{
    char said[1024], *text = NULL, *sample, *out;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    struct conf *c;
    bool line_start = true;

    (void)state;
    conf_print_help(f);
    fclose(f);
    sample = out = calloc(1, len + 1);
    for (char *p = text; *p != '\0'; p++) {
        char *end = strchr(p, '\n'), *equals = strstr(p, " =");

        if (line_start && strncmp(p, "# ", 2) == 0 && equals != NULL && equals < end &&
            strcspn(p + 2, " ") + 2 == (size_t)(equals - p))
            p += 2;
        line_start = *p == '\n';
        *out++ = *p;
    }
    assert_non_null(strstr(sample, "\nlisten = 127.0.0.1:8080\n"));
    assert_non_null(strstr(sample, "\ntls_key =\n"));
    c = read_text(sample, said, sizeof(said));
    assert_string_equal(said, "");
    assert_non_null(c);
    conf_destroy(c);
    free(sample);
    free(text);
}

static void conf_manual_has_every_key(void **state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    (void)state;
    conf_print_manual(f);
    fclose(f);
#define CONF(section, key, type, def, min, max, reload, help) assert_non_null(strstr(text, ".BR " #key " "));
#include "daemon/base/conf.def"
#undef CONF
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ini_reads_lines),
        cmocka_unit_test(ini_tells_every_fault),
        cmocka_unit_test(conf_has_the_contracts_defaults),
        cmocka_unit_test(conf_reads_every_type),
        cmocka_unit_test(conf_tells_every_fault),
        cmocka_unit_test(conf_bounds_numbers),
        cmocka_unit_test(conf_checks_addresses_and_urls),
        cmocka_unit_test(conf_checks_keys_together),
        cmocka_unit_test(conf_names_keys_that_need_a_restart),
        cmocka_unit_test(conf_help_is_a_configuration),
        cmocka_unit_test(conf_manual_has_every_key),
    };

    return cmocka_run_group_tests(tests, make_path, drop_path);
}
