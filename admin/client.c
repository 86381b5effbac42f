/* client.c - one request to an admin listener: what a command asks, as libcurl wants it.
 *
 * Buffers that held the token or an answer are the caller's to wipe; libcurl's own copies go with its handle. One
 * thread. */
#include "client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/attrs.h"

enum { CONNECT_SECONDS = 15, STALL_SECONDS = 120, STALL_BYTES = 1, HEADER = 512 };

struct receiving {
    CURL *curl;
    FILE *stream;
    struct buf *reply;
};

static size_t receive(char *bytes, size_t size, size_t n, void *ctx)
{
    struct receiving *r = ctx;
    long status = 0;

    (void)curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    if (r->stream != NULL && status == 200)
        return fwrite(bytes, size, n, r->stream);
    buf_append(r->reply, bytes, size * n);
    return r->reply->full ? 0 : size * n;
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
    char line[HEADER];
    struct curl_slist *longer;

    if (value == NULL || snprintf(line, sizeof(line), "%s: %s", name, value) >= (int)sizeof(line))
        return;
    longer = curl_slist_append(*list, line);
    TG_ASSERT(longer != NULL);
    *list = longer;
    explicit_bzero(line, sizeof(line));
}

static struct curl_slist *make_headers(const struct client_request *request)
{
    struct curl_slist *list = NULL;
    char bearer[HEADER];

    if (request->token != NULL) {
        (void)snprintf(bearer, sizeof(bearer), "Bearer %s", request->token);
        add_header(&list, "Authorization", bearer);
        explicit_bzero(bearer, sizeof(bearer));
    }
    add_header(&list, "Accept", request->accept != NULL ? request->accept : "application/json");
    add_header(&list, "Idempotency-Key", request->idempotency_key);
    if (request->body.len > 0)
        add_header(&list, "Content-Type", "application/json");
    return list;
}

static void set_server(CURL *curl, const char *server, const char *path)
{
    bool local = strncmp(server, "unix:", 5) == 0;
    bool url = strncmp(server, "http://", 7) == 0 || strncmp(server, "https://", 8) == 0;
    size_t len = strlen(server);
    struct buf text;

    while (url && len > 0 && server[len - 1] == '/')
        len--;
    buf_init(&text, CLIENT_SERVER + CLIENT_REPLY);
    buf_printf(&text, "%s%.*s%s", url ? "" : "http://", (int)(local ? 9 : len), local ? "localhost" : server, path);
    buf_append_char(&text, '\0');
    TG_ASSERT(!text.full);
    (void)curl_easy_setopt(curl, CURLOPT_URL, text.p);
    if (local)
        (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, server + 5);
    if (!url)
        (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    buf_dispose(&text);
}

static void set_request(CURL *curl, const struct client_request *request, const struct curl_slist *headers,
                        struct receiving *receiving)
{
    set_server(curl, request->server, request->path);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)STALL_BYTES);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, receive);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, receiving);
    if (strcmp(request->method, "GET") != 0)
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    if (strcmp(request->method, "POST") == 0 || request->body.len > 0) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.len > 0 ? request->body.p : "");
    }
}

static enum err_code explain(CURLcode result, const struct client_request *request, struct err *err)
{
    switch (result) {
    case CURLE_OK:
        return ERR_OK;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        return err_set(err, ERR_NO_CHANNEL, NULL, "nobody answers on %s", request->server);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return err_set(err, ERR_INVALID_VALUE, NULL, "'%s' is no address of a server", request->server);
    default:
        return err_set(err, ERR_UNAVAILABLE, NULL, "no whole answer came from %s: %s", request->server,
                       curl_easy_strerror(result));
    }
}

enum err_code client_call(const struct client_request *request, int *status, struct buf *reply, struct err *err)
{
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = make_headers(request);
    struct receiving receiving = {curl, request->stream, reply};
    long code = 0;
    CURLcode result;

    TG_ASSERT(curl != NULL);
    set_request(curl, request, headers, &receiving);
    result = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    *status = (int)code;
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return explain(result, request, err);
}

void client_add_query(struct buf *path, const char *name, const char *value)
{
    char *escaped = curl_easy_escape(NULL, value, 0);

    TG_ASSERT(escaped != NULL);
    buf_printf(path, "%c%s=%s", path->len > 0 && memchr(path->p, '?', path->len) != NULL ? '&' : '?', name, escaped);
    curl_free(escaped);
}
