/* lib_sandbox.c - see lib_sandbox.h. */
#define _GNU_SOURCE
#include "lib_sandbox.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/secret.h"
#include "daemon/billing/model.h"
#include "daemon/sandbox/endpoints.h"

static struct front *running;
static int port;
static struct sandbox settings;
static struct json_object *tree;
static char *files[4];

enum { LONG_MS = 30000 };
static int64_t began; /* before the question left */
static int patience_first = LONG_MS, patience_then = LONG_MS;

struct said said;

int sandbox_up(void **state)
{
    const char *const address = "127.0.0.1:0";
    const struct front_listener listener = {.addresses = &address,
                                            .n_addresses = 1,
                                            .http2 = true,
                                            .max_body = 1 << 20,
                                            .request_timeout = 10 * CLOCK_SECOND,
                                            .routes = sandbox_routes,
                                            .ctx = &settings};
    const struct front_options options = {
        .threads = 1, .max_connections = 100, .listeners = &listener, .n_listeners = 1};
    struct buf text;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    secret_init();
    model_init();
    log_init(LEVEL_WARN);
    if (front_open(&options, &running, NULL) != ERR_OK || front_start_loops(running, NULL) != ERR_OK)
        return -1;
    buf_init(&text, 256);
    front_addresses(running, 0, &text);
    buf_append_char(&text, '\0');
    port = atoi(strrchr(text.p, ':') + 1);
    buf_dispose(&text);
    return 0;
}

int sandbox_down(void **state)
{
    (void)state;
    front_stop(running);
    json_object_put(tree);
    free(said.head);
    free(said.body);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        free(files[i]);
    return 0;
}

/* ---- the wire ---- */

static int dial(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

bool ask_bytes(int fd, const void *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes = (const char *)bytes + n;
        len -= (size_t)n;
    }
    return true;
}

static void forget(void)
{
    json_object_put(tree);
    tree = NULL;
    free(said.head);
    free(said.body);
    said = (struct said){.status = 0};
}

void ask_patience(int first, int then)
{
    patience_first = first;
    patience_then = then;
}

static void be_patient(int fd, int ms)
{
    const struct timeval patience = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
}

/* Everything until the end of the connection, or silence. */
static char *hear(int fd, size_t *len)
{
    size_t cap = 1 << 16;
    char *all = malloc(cap);
    ssize_t n;

    *len = 0;
    be_patient(fd, patience_first);
    while ((n = recv(fd, all + *len, cap - 1 - *len, 0)) > 0) {
        said.all_after = clock_mono() - began;
        if (*len == 0) {
            said.first_after = said.all_after;
            be_patient(fd, patience_then);
        }
        *len += (size_t)n;
        if (cap - *len < 1024)
            all = realloc(all, cap *= 2);
    }
    said.silent = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    all[*len] = '\0';
    ask_patience(LONG_MS, LONG_MS);
    return all;
}

/* Takes the chunks' frames out, in place; whether the last chunk was there. */
static bool unchunk(char *body, size_t *len)
{
    char *from = body, *to = body, *end = body + *len;

    while (from < end) {
        char *data;
        size_t n = strtoul(from, &data, 16);

        if (n == 0) {
            *len = (size_t)(to - body);
            return end - data >= 4 && memcmp(data, "\r\n\r\n", 4) == 0;
        }
        data += 2;
        if (data > end || n > (size_t)(end - data))
            n = data > end ? 0 : (size_t)(end - data);
        memmove(to, data, n);
        to += n;
        from = data + n + 2;
    }
    *len = (size_t)(to - body);
    return false;
}

static void understand(char *all, size_t len)
{
    char *end = memmem(all, len, "\r\n\r\n", 4);
    char value[256];

    if (end == NULL) {
        free(all);
        return;
    }
    said.head = strndup(all, (size_t)(end - all) + 2);
    for (char *c = said.head; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    said.status = atoi(said.head + 9);
    said.len = len - (size_t)(end + 4 - all);
    said.body = malloc(said.len + 1);
    memcpy(said.body, end + 4, said.len);
    if (said_header("transfer-encoding", value) != NULL)
        said.whole = unchunk(said.body, &said.len);
    else
        said.whole = said_header("content-length", value) != NULL && strtoul(value, NULL, 10) == said.len;
    said.body[said.len] = '\0';
    free(all);
}

int ask_begin(const char *method, const char *path, const char *type, size_t len)
{
    int fd = dial();
    char head[1024];
    size_t n;

    forget();
    began = clock_mono();
    n = (size_t)snprintf(head, sizeof(head),
                         "%s %s HTTP/1.1\r\nHost: sandbox.test\r\nAuthorization: Bearer sk-key-of-%s\r\n"
                         "Connection: close\r\nContent-Length: %zu\r\n%s%s%s\r\n",
                         method, path, method, len, type != NULL ? "Content-Type: " : "", type != NULL ? type : "",
                         type != NULL ? "\r\n" : "");
    (void)ask_bytes(fd, head, n);
    return fd;
}

void ask_end(int fd)
{
    size_t n;
    char *all = hear(fd, &n);

    close(fd);
    understand(all, n);
}

void ask(const char *method, const char *path, const char *type, const void *body, size_t len)
{
    int fd = ask_begin(method, path, type, len);

    (void)ask_bytes(fd, body, len);
    ask_end(fd);
}

void ask_json(const char *path, const char *json)
{
    ask("POST", path, "application/json", json, strlen(json));
}

void ask_form(const char *path, const struct part *parts, size_t n)
{
    struct buf body;

    buf_init(&body, 256 << 20);
    for (size_t i = 0; i < n; i++) {
        const struct part *p = &parts[i];

        buf_printf(&body, "--b0undary\r\nContent-Disposition: form-data; name=\"%s\"", p->name);
        if (p->filename != NULL)
            buf_printf(&body, "; filename=\"%s\"", p->filename);
        if (p->type != NULL)
            buf_printf(&body, "\r\nContent-Type: %s", p->type);
        buf_append_str(&body, "\r\n\r\n");
        if (p->text != NULL)
            buf_append_str(&body, p->text);
        else
            buf_append(&body, p->bytes, p->len);
        buf_append_str(&body, "\r\n");
    }
    buf_append_str(&body, "--b0undary--\r\n");
    assert_false(body.full);
    ask("POST", path, "multipart/form-data; boundary=b0undary", body.p, body.len);
    buf_dispose(&body);
}

/* ---- what was said ---- */

const char *said_header(const char *name, char out[256])
{
    char line[128];
    const char *at;
    size_t len;

    (void)snprintf(line, sizeof(line), "\r\n%s: ", name);
    at = said.head != NULL ? strstr(said.head, line) : NULL;
    if (at == NULL)
        return NULL;
    at += strlen(line);
    len = strcspn(at, "\r");
    (void)snprintf(out, 256, "%.*s", (int)len, at);
    return out;
}

struct json_object *said_member(const char *path)
{
    struct json_object *at;
    char name[64];

    if (tree == NULL)
        tree = json_tokener_parse(said.body != NULL ? said.body : "");
    at = tree;
    while (at != NULL && *path != '\0') {
        size_t len = strcspn(path, ".");

        (void)snprintf(name, sizeof(name), "%.*s", (int)len, path);
        if (json_object_is_type(at, json_type_array))
            at = json_object_array_get_idx(at, strtoul(name, NULL, 10));
        else if (!json_object_object_get_ex(at, name, &at))
            return NULL;
        path += len + (path[len] == '.');
    }
    return at;
}

const char *said_text(const char *path)
{
    struct json_object *value = said_member(path);

    return value != NULL ? json_object_get_string(value) : "";
}

int64_t said_number(const char *path)
{
    struct json_object *value = said_member(path);

    return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : -1;
}

void said_refusal(int status, const char *code, const char *param, const char *message_part)
{
    if (said.status != status || strcmp(said_text("error.code"), code != NULL ? code : "") != 0 ||
        strcmp(said_text("error.param"), param != NULL ? param : "") != 0 ||
        strstr(said_text("error.message"), message_part) == NULL)
        fail_msg("expected %d %s %s \"%s\", but got %d: %.400s", status, code, param, message_part, said.status,
                 said.body != NULL ? said.body : "nothing");
}

struct part file_part(const char *name, const char *type, const char *size, const char *format, int64_t bytes, int slot)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "/sandbox/images/%s-0000000000000001-%lld.%s", size, (long long)bytes, format);
    ask("GET", path, NULL, NULL, 0);
    assert_int_equal(said.status, 200);
    free(files[slot]);
    files[slot] = said.body;
    said.body = NULL;
    return (struct part){.name = name, .filename = "a.png", .type = type, .bytes = files[slot], .len = said.len};
}

char *decode64(const char *text, size_t len, size_t *out_len)
{
    char *out = malloc(len / 4 * 3 + 1);
    int n = EVP_DecodeBlock((unsigned char *)out, (const unsigned char *)text, (int)len);

    assert_int_equal(len % 4, 0);
    assert_true(n >= 0);
    *out_len = (size_t)n - (len > 0 && text[len - 1] == '=') - (len > 1 && text[len - 2] == '=');
    return out;
}
