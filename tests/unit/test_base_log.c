/* test_base_log.c - log lines and their masking, metrics, and what is told to systemd. */
#define _GNU_SOURCE /* posix_openpt */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "daemon/base/notify.h"
#include "daemon/base/utf8.h"

static int saved_stderr = -1;
static int capture[2] = {-1, -1};

static void capture_start(void)
{
    assert_int_equal(pipe(capture), 0);
    saved_stderr = dup(STDERR_FILENO);
    dup2(capture[1], STDERR_FILENO);
}

/* What was written to standard error since. */
static const char *capture_end(void)
{
    static char text[65536];
    ssize_t n;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(capture[1]);
    n = read(capture[0], text, sizeof(text) - 1);
    close(capture[0]);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

static void lines_are_json(void **state)
{
    struct id id = {{0}};
    const char *line;

    (void)state;
    clock_freeze(INT64_C(1795507200123456), 0);
    capture_start();
    log_init(LEVEL_INFO);
    LOG(LOG_REQUEST, LOG_F_STR("method", "POST"), LOG_F_INT("status", 200), LOG_F_ID("request", "req", id),
        LOG_F_NANO("charge", 40000000), LOG_F_TIME("took", 12345), LOG_F_SLICE("path", SLICE("/a\"b\n")),
        LOG_F_TIME("back", -1500), LOG_F_STR("none", NULL));
    line = capture_end();
    clock_release();
    assert_string_equal(line,
                        "{\"ts\":\"2026-11-24T08:00:00.123456Z\",\"level\":\"info\",\"event\":\"request\","
                        "\"msg\":\"request\",\"method\":\"POST\",\"status\":200,"
                        "\"request\":\"req_0000000000000000000000\",\"charge\":\"0.040000000\",\"took_ms\":12.345,"
                        "\"path\":\"/a\\\"b\\n\",\"back_ms\":-1.500,\"none\":\"\"}\n");
}

static void levels_are_kept(void **state)
{
    (void)state;
    capture_start();
    log_init(LEVEL_WARN);
    LOG(LOG_REQUEST, LOG_F_INT("x", 1));
    LOG(LOG_OVERAGE, LOG_F_INT("x", 2));
    log_set_level(LEVEL_DEBUG);
    assert_true(log_enabled(LOG_TLS_FAILED));
    LOG(LOG_STOPPED);
    assert_null(strstr(capture_end(), "\"x\":1"));
    log_set_level(LEVEL_INFO);
    assert_false(log_enabled(LOG_TLS_FAILED));
}

static void check_masked(const char *text, const char *expected)
{
    char wanted[2048];
    const char *line;

    capture_start();
    log_init(LEVEL_INFO);
    LOG(LOG_REQUEST, LOG_F_STR("t", text));
    line = capture_end();
    (void)snprintf(wanted, sizeof(wanted), "\"t\":\"%s\"}", expected);
    if (strstr(line, wanted) == NULL)
        fail_msg("%s does not hold %s", line, wanted);
}

static void keys_are_masked(void **state)
{
    (void)state;
    check_masked("sk-tg-0123456789012345678901234567890123456789012abcdef", "sk-...cdef");
    check_masked("Bearer ta-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA9900, then", "Bearer ta-...9900, then");
    check_masked("a=sk-proj-abc_DEF-0123456789&b=%20sk-aaaaaaaaaaaaaaaaaaaaaaaa", "a=sk-...6789&b=%20sk-...aaaa");
    check_masked("sk-short ta-short", "sk-short ta-short");
    check_masked("sk-0123456789abcde", "sk-0123456789abcde");
    check_masked("sk-0123456789abcdef", "sk-...cdef");
    check_masked("plain text", "plain text");
}

/* A key at the place where a long value is cut must not lose the length by which it is recognised. */
static void keys_at_a_cut_are_masked(void **state)
{
    char text[1400];

    (void)state;
    for (size_t at = 980; at < 1030; at++) {
        const char *line;

        memset(text, '.', sizeof(text));
        memcpy(text + at, "sk-tg-SECRETsecretSECRETsecretSECRETsecret", 42);
        text[at + 42] = '\0';
        capture_start();
        log_init(LEVEL_INFO);
        LOG(LOG_REQUEST, LOG_F_STR("t", text));
        line = capture_end();
        assert_null(strstr(line, "SEC"));
    }
}

static void lines_are_bounded(void **state)
{
    static char text[8192];
    const char *line;
    struct json_object *tree;

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, kind == 0 ? "aaa" : kind == 1 ? "\xE2\x82\xAC" : "\x01\x02\x03", 3);
        capture_start();
        log_init(LEVEL_INFO);
        LOG(LOG_REQUEST, LOG_F_STR("a", text), LOG_F_STR("b", text), LOG_F_STR("c", text), LOG_F_STR("d", text),
            LOG_F_STR("e", text), LOG_F_INT("last", 7));
        line = capture_end();
        assert_in_range(strlen(line), 100, 4096);
        assert_true(utf8_valid(slice_from(line)));
        assert_int_equal(line[strlen(line) - 1], '\n');
        tree = json_tokener_parse(line);
        assert_non_null(tree);
        assert_true(json_object_object_get_ex(tree, "cut", NULL));
        assert_true(json_object_object_get_ex(tree, "last", NULL)); /* what still fits is kept */
        json_object_put(tree);
    }
}

static void journal_lines_have_a_priority(void **state)
{
    struct stat st;
    char stream[64];
    const char *line;

    (void)state;
    capture_start();
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    (void)snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    log_init(LEVEL_INFO);
    LOG(LOG_OVERAGE);
    setenv("JOURNAL_STREAM", "1:1", 1);
    log_init(LEVEL_INFO);
    LOG(LOG_OVERAGE);
    unsetenv("JOURNAL_STREAM");
    line = capture_end();
    assert_memory_equal(line, "<4>{\"ts\"", 8);
    assert_memory_equal(strchr(line, '\n') + 1, "{\"ts\"", 5);
}

static void terminals_get_text(void **state)
{
    char text[1024] = "";
    int master = posix_openpt(O_RDWR | O_NOCTTY), terminal, saved = dup(STDERR_FILENO);

    (void)state;
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0)
        skip();
    terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    dup2(terminal, STDERR_FILENO);
    clock_freeze(INT64_C(1795507200000000), 0);
    log_init(LEVEL_INFO);
    LOG(LOG_LISTENING, LOG_F_STR("address", "127.0.0.1:8080"), LOG_F_STR("what", "two words\x1b[2J"),
        LOG_F_INT("n", 3));
    clock_release();
    dup2(saved, STDERR_FILENO);
    close(saved);
    log_init(LEVEL_INFO);
    assert_true(read(master, text, sizeof(text) - 1) > 0);
    assert_string_equal(text,
                        "2026-11-24T08:00:00Z INFO  listening address=127.0.0.1:8080 what=\"two words\\u001b[2J\" "
                        "n=3\r\n");
    close(terminal);
    close(master);
}

static bool printed(const char *text, const char *line)
{
    char wanted[512];

    (void)snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    return strstr(text, wanted) != NULL;
}

static void metrics_are_printed(void **state)
{
    static const char *const lines[] = {
        "# TYPE tallygate_requests_total counter",
        "tallygate_requests_total 3",
        "tallygate_responses_total{class=\"2xx\"} 5",
        "tallygate_responses_total{class=\"5xx\"} 0",
        "# TYPE tallygate_inflight_requests gauge",
        "tallygate_inflight_requests -1",
        "# TYPE tallygate_upstream_seconds histogram",
        "tallygate_upstream_seconds_bucket{le=\"0.0001\"} 1",
        "tallygate_upstream_seconds_bucket{le=\"0.00025\"} 2",
        "tallygate_upstream_seconds_bucket{le=\"600\"} 2",
        "tallygate_upstream_seconds_bucket{le=\"+Inf\"} 3",
        "tallygate_upstream_seconds_sum 700.000201",
        "tallygate_upstream_seconds_count 3",
        "# TYPE process_resident_memory_bytes gauge",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_open_fds gauge",
        "# TYPE process_start_time_seconds gauge",
    };
    struct buf out;

    (void)state;
    metric_add(METRIC_REQUESTS, 1);
    metric_add(METRIC_REQUESTS, 2);
    metric_add_label(METRIC_RESPONSES, 0, 5);
    metric_add(METRIC_INFLIGHT, -1);
    metric_set(METRIC_CONNECTIONS, 9);
    metric_observe(METRIC_UPSTREAM_SECONDS, 100);
    metric_observe(METRIC_UPSTREAM_SECONDS, 101);
    metric_observe(METRIC_UPSTREAM_SECONDS, 700000000);
    assert_int_equal(metric_read(METRIC_REQUESTS), 3);
    assert_int_equal(metric_read(METRIC_RESPONSES), 5);
    assert_int_equal(metric_read(METRIC_CONNECTIONS), 9);
    buf_init(&out, 256 * 1024);
    metrics_print(&out);
    assert_false(out.full);
    buf_append_char(&out, '\0');
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (!printed(out.p, lines[i]))
            fail_msg("not printed: %s", lines[i]);
    }
    assert_non_null(strstr(out.p, "\ntallygate_build_info{version=\""));
    buf_dispose(&out);
}

/* Every line is a comment of the two known kinds, or a name, perhaps labels, and a decimal number. */
static void metrics_are_well_formed(void **state)
{
    struct buf out;
    char *save = NULL;

    (void)state;
    buf_init(&out, 256 * 1024);
    metrics_print(&out);
    buf_append_char(&out, '\0');
    for (char *line = strtok_r(out.p, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        char *value;

        if (strncmp(line, "# HELP ", 7) == 0 || strncmp(line, "# TYPE ", 7) == 0)
            continue;
        value = strrchr(line, ' ');
        assert_non_null(value);
        assert_int_equal(strspn(value + 1, "-0123456789."), strlen(value + 1));
        assert_true(strlen(value + 1) > 0);
    }
    buf_dispose(&out);
}

static void systemd_is_told(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    char text[512];
    ssize_t n;

    (void)state;
    notify_ready(); /* no socket: nothing happens */
    assert_int_equal(notify_watchdog_interval(), 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/tmp/tallygate-test-notify-%d", (int)getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
    setenv("WATCHDOG_USEC", "30000000", 1);
    unsetenv("WATCHDOG_PID");
    notify_status("serving\n%d", 7);
    n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    assert_true(n > 0);
    text[n] = '\0';
    assert_string_equal(text, "STATUS=serving 7");
    notify_reloading();
    n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
    assert_true(n > 0);
    text[n] = '\0';
    assert_memory_equal(text, "RELOADING=1\nMONOTONIC_USEC=", 27);
    assert_int_equal(notify_watchdog_interval(), 15000000);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    close(fd);
    unlink(address.sun_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_json),          cmocka_unit_test(levels_are_kept),
        cmocka_unit_test(keys_are_masked),         cmocka_unit_test(keys_at_a_cut_are_masked),
        cmocka_unit_test(lines_are_bounded),       cmocka_unit_test(journal_lines_have_a_priority),
        cmocka_unit_test(terminals_get_text),      cmocka_unit_test(metrics_are_printed),
        cmocka_unit_test(metrics_are_well_formed), cmocka_unit_test(systemd_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
