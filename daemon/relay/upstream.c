/* upstream.c - one HTTP call by libcurl: routes, transfers, their states, and what their end means.
 *
 *              upstream_start      begin            collect
 *   (idle list) ----------> WAITING -----> RUNNING ---------> done() -> (idle list)
 *                              |            |   ^ \
 *                              |  data()=0, |   |  \ upstream_cancel
 *                              |  pause     v   |   v
 *                              |           PAUSED   begin removes it, done(CANCELLED)
 *                              +-- upstream_cancel: done(CANCELLED), nothing was sent
 *
 * Invariants
 *  (1) Every transfer ends in done(), exactly once, from the wire's collect or begin, never inside libcurl.
 *  (2) A transfer is in the `waiting` list exactly while begin has something to do for it.
 *  (3) An end counts as "not reached" only when libcurl has handed no byte of the request to the kernel.
 *  (4) No second copy of a request leaves: on_prereq runs before every sending and refuses when (3) does not hold. So a
 *      body is read once, from its begin to its end, and never rewound. Over TLS libcurl calls a first write failed
 *      although some of its records may have left; the last one has not, so nobody can have acted on a whole request.
 *
 * One thread: the loop's. */
#include "upstream.h"

#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/base/limits.h"
#include "daemon/base/secret.h"
#include "upstream_body.h"
#include "upstream_wire.h"

enum {
    POOL_IDLE = 256, /* easy handles kept for the next calls */
    /* libcurl's receive buffer, and its send buffer if the request does not leave in one write. A transfer has them
     * from its start to its end: what is made small for many that wait costs the few large ones half as much time
     * again. */
    POOL_BUFFER = 64 * 1024,
    POOL_BUFFER_SMALL = 16 * 1024,
    POOL_KEEPALIVE = 60, /* seconds of silence before TCP asks whether the upstream is still there */
    /* Whole seconds that a connection may have rested to be used again. Many servers close after 5 (node, uvicorn), and
     * a request that crosses such a closing on its way is lost and in doubt; a new connection costs milliseconds of a
     * call that takes seconds. libcurl rounds the age down: this ends below 4 seconds. */
    POOL_REST = 3
};

struct upstream_route {
    int refs;
    bool post;
    char *url;
    struct curl_slist *headers;
};

struct upstream {
    struct upstream_pool *pool;
    CURL *easy;
    struct upstream *prev, *next; /* in the pool's waiting list; in its idle list by next */
    struct upstream_callbacks callbacks;
    struct upstream_route *route;                        /* what the easy handle is set to; kept for the next call */
    struct curl_slist own_headers[UPSTREAM_OWN_HEADERS]; /* in front of the route's, in place */
    struct upstream_body body;
    size_t head_bytes;
    int64_t timeout, connect_timeout; /* as set in the easy handle */
    long buffer;                      /* the same */
    int status;                       /* of the head that came; 0: none yet */
    bool waiting;                     /* in the waiting list */
    bool running;                     /* in the multi */
    bool paused;                      /* the owner wants no data */
    bool stalled;                     /* libcurl was told so */
    bool cancelled;                   /* the owner wants the end */
    const char *fault;                /* why a callback of ours ended it; NULL: none did */
    char why[CURL_ERROR_SIZE];
};

struct upstream_pool {
    struct wire wire;
    struct upstream *waiting_first, *waiting_last;
    struct upstream *idle;
    size_t n_idle, n_busy;
    char *ca_file; /* NULL: the system's */
};

/* ---- routes ---- */

struct upstream_route *upstream_route_create(const char *method, const char *url, const char *const *headers,
                                             size_t n_headers)
{
    struct upstream_route *route = mem_zalloc(sizeof(*route));

    route->refs = 1;
    route->post = strcmp(method, "POST") == 0;
    TG_ASSERT(route->post || strcmp(method, "GET") == 0);
    route->url = mem_strdup(url);
    for (size_t i = 0; i < n_headers; i++) {
        struct curl_slist *longer = curl_slist_append(route->headers, headers[i]);

        TG_ASSERT(longer != NULL);
        route->headers = longer;
    }
    return route;
}

struct upstream_route *upstream_route_ref(struct upstream_route *route)
{
    route->refs++;
    return route;
}

void upstream_route_unref(struct upstream_route *route)
{
    if (route == NULL || --route->refs > 0)
        return;
    for (struct curl_slist *h = route->headers; h != NULL; h = h->next)
        secret_wipe(h->data, strlen(h->data));
    curl_slist_free_all(route->headers);
    free(route->url);
    free(route);
}

/* ---- the waiting list ---- */

static void wait_add(struct upstream *u)
{
    struct upstream_pool *pool = u->pool;

    wire_want(&pool->wire);
    if (u->waiting)
        return;
    u->waiting = true;
    u->prev = pool->waiting_last;
    u->next = NULL;
    *(u->prev != NULL ? &u->prev->next : &pool->waiting_first) = u;
    pool->waiting_last = u;
}

static void wait_remove(struct upstream *u)
{
    struct upstream_pool *pool = u->pool;

    if (!u->waiting)
        return;
    u->waiting = false;
    *(u->prev != NULL ? &u->prev->next : &pool->waiting_first) = u->next;
    *(u->next != NULL ? &u->next->prev : &pool->waiting_last) = u->prev;
}

/* ---- what libcurl calls ---- */

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    struct upstream *u = ctx;
    long status = 0;

    (void)size;
    u->head_bytes += n;
    if (u->head_bytes > LIMIT_UPSTREAM_HEAD) {
        u->fault = "the reply's head is too large";
        return 0;
    }
    if (u->status != 0 || n > 2 || (line[0] != '\r' && line[0] != '\n'))
        return n; /* not the end of a head; after the head: trailers */
    curl_easy_getinfo(u->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200)
        return n; /* an interim reply: the real one follows */
    u->status = (int)status;
    if (!u->cancelled)
        u->callbacks.head(u->callbacks.ctx, u, u->status);
    return n;
}

static size_t on_data(char *bytes, size_t size, size_t n, void *ctx)
{
    struct upstream *u = ctx;
    size_t taken;

    (void)size;
    if (u->cancelled || n == 0)
        return n;
    if (!u->paused) {
        taken = u->callbacks.data(u->callbacks.ctx, u, bytes, n);
        TG_ASSERT(taken == n || taken == 0);
        if (taken == n || u->cancelled) {
            u->pool->wire.received += n;
            return n;
        }
        u->paused = true;
    }
    u->stalled = true;
    return CURL_WRITEFUNC_PAUSE;
}

static size_t on_read(char *out, size_t size, size_t n, void *ctx)
{
    struct upstream *u = ctx;
    ssize_t got = upstream_body_read(&u->body, out, size * n);

    if (got >= 0)
        return (size_t)got;
    u->fault = "the request could not be read back";
    return CURL_READFUNC_ABORT;
}

/* Whether the kernel may have got some of the request. The size counts what the first write took; libcurl takes the
 * time when it writes more, even if that first write took nothing. */
static bool was_sent(const struct upstream *u)
{
    long first = 0;
    curl_off_t later = 0;

    curl_easy_getinfo(u->easy, CURLINFO_REQUEST_SIZE, &first);
    curl_easy_getinfo(u->easy, CURLINFO_STARTTRANSFER_TIME_T, &later);
    return first != 0 || later != 0;
}

/* Connected and about to send: for the first time, or again because a reused connection was dead. */
static int on_prereq(void *ctx, char *remote, char *local, int remote_port, int local_port)
{
    struct upstream *u = ctx;

    (void)remote;
    (void)local;
    (void)remote_port;
    (void)local_port;
    if (!was_sent(u))
        return CURL_PREREQFUNC_OK;
    u->fault = "the connection was closed before a reply came";
    return CURL_PREREQFUNC_ABORT;
}

/* ---- ends ---- */

static void release(struct upstream *u)
{
    struct upstream_pool *pool = u->pool;

    wait_remove(u);
    upstream_body_release(&u->body);
    pool->n_busy--;
    if (pool->n_idle < POOL_IDLE) {
        u->next = pool->idle;
        pool->idle = u;
        pool->n_idle++;
        return;
    }
    curl_easy_cleanup(u->easy);
    upstream_route_unref(u->route);
    free(u);
}

static void finish(struct upstream *u, enum upstream_end end, const char *why)
{
    wait_remove(u);
    u->callbacks.done(u->callbacks.ctx, u, end, why);
    release(u);
}

/* An upstream may answer without reading all of the request, and close: sending fails after the reply has come. */
static bool is_answered(const struct upstream *u, CURLcode code)
{
    curl_off_t length = -1, got = 0;

    if (u->status == 0 || code == CURLE_OK)
        return u->status != 0;
    if (code != CURLE_SEND_ERROR || u->stalled)
        return false;
    curl_easy_getinfo(u->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(u->easy, CURLINFO_SIZE_DOWNLOAD_T, &got);
    return length >= 0 && got == length;
}

static enum upstream_end classify(const struct upstream *u, CURLcode code)
{
    if (is_answered(u, code))
        return UPSTREAM_COMPLETE;
    if (!was_sent(u))
        return code == CURLE_OPERATION_TIMEDOUT ? UPSTREAM_CONNECT_TIMED_OUT : UPSTREAM_UNREACHED;
    return code == CURLE_OPERATION_TIMEDOUT ? UPSTREAM_TIMED_OUT : UPSTREAM_BROKEN;
}

static void end_transfer(struct upstream *u, CURLcode code)
{
    enum upstream_end end = u->cancelled ? UPSTREAM_CANCELLED : classify(u, code);
    const char *why = "";

    curl_multi_remove_handle(u->pool->wire.multi, u->easy);
    u->running = false;
    if (end == UPSTREAM_CANCELLED)
        why = "cancelled";
    else if (end != UPSTREAM_COMPLETE && u->fault != NULL)
        why = u->fault;
    else if (end != UPSTREAM_COMPLETE)
        why = u->why[0] != '\0' ? u->why : curl_easy_strerror(code);
    finish(u, end, why);
}

/* ---- the wire's turns ---- */

static void step(struct upstream *u)
{
    CURLMcode added;
    CURLcode resumed;

    if (u->cancelled && u->running) {
        end_transfer(u, CURLE_OK);
    } else if (u->cancelled) {
        finish(u, UPSTREAM_CANCELLED, "cancelled");
    } else if (!u->running) {
        added = curl_multi_add_handle(u->pool->wire.multi, u->easy);
        TG_ASSERT(added == CURLM_OK);
        u->running = true;
    } else if (u->stalled && !u->paused) {
        u->stalled = false;
        resumed = curl_easy_pause(u->easy, CURLPAUSE_CONT);
        if (resumed != CURLE_OK)
            end_transfer(u, resumed);
    }
}

static void begin(void *ctx)
{
    struct upstream_pool *pool = ctx;
    struct upstream *u, *last = pool->waiting_last;

    /* What is added meanwhile (a callback may) waits for the next turn. */
    while ((u = pool->waiting_first) != NULL) {
        bool was_last = u == last;

        wait_remove(u);
        step(u);
        if (was_last)
            break;
    }
}

static void collect(void *ctx)
{
    struct upstream_pool *pool = ctx;
    struct CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(pool->wire.multi, &left)) != NULL) {
        struct upstream *u = NULL;

        if (msg->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&u);
        end_transfer(u, msg->data.result);
    }
}

/* ---- transfers ---- */

/* What never changes from call to call. */
static void prepare(struct upstream *u)
{
    CURL *easy = u->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, u);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, u->why);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* the environment has no say in where money is spent */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (u->pool->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, u->pool->ca_file);
    /* With a folder beside the file libcurl would read all authorities again for every connection. */
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)POOL_KEEPALIVE);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)POOL_REST);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate"); /* decode them; routes may ask for identity */
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, u);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, u);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, u);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_prereq);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, u);
    wire_adopt(&u->pool->wire, easy);
}

static struct upstream *take(struct upstream_pool *pool)
{
    struct upstream *u = pool->idle;

    pool->n_busy++;
    if (u != NULL) {
        pool->idle = u->next;
        pool->n_idle--;
        return u;
    }
    u = mem_zalloc(sizeof(*u));
    u->pool = pool;
    u->easy = curl_easy_init();
    TG_ASSERT(u->easy != NULL);
    prepare(u);
    return u;
}

static void set_route(struct upstream *u, struct upstream_route *route)
{
    if (u->route == route)
        return;
    upstream_route_unref(u->route);
    u->route = upstream_route_ref(route);
    curl_easy_setopt(u->easy, CURLOPT_URL, route->url);
}

/* libcurl only walks the list, so the call's own headers stand in front of the shared ones without a copy. */
static void set_headers(struct upstream *u, const struct upstream_request *request)
{
    struct curl_slist *first = u->route->headers;

    TG_ASSERT(request->n_headers >= 0 && request->n_headers <= UPSTREAM_OWN_HEADERS);
    for (int i = request->n_headers - 1; i >= 0; i--) {
        u->own_headers[i] = (struct curl_slist){(char *)(uintptr_t)request->headers[i], first};
        first = &u->own_headers[i];
    }
    curl_easy_setopt(u->easy, CURLOPT_HTTPHEADER, first);
}

static void set_body(struct upstream *u, const struct upstream_request *request)
{
    const char *piece;

    upstream_body_set(&u->body, request->body, request->n_body);
    if (!u->route->post) {
        curl_easy_setopt(u->easy, CURLOPT_HTTPGET, 1L);
        return;
    }
    piece = upstream_body_piece(&u->body);
    curl_easy_setopt(u->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)u->body.len);
    curl_easy_setopt(u->easy, CURLOPT_POSTFIELDS, piece);
    if (piece == NULL)
        curl_easy_setopt(u->easy, CURLOPT_POST, 1L); /* on_read gives it */
}

static long to_milliseconds(int64_t us)
{
    int64_t ms = (us + 999) / 1000;

    return (long)(ms > 0 ? ms : 1);
}

static void set_times(struct upstream *u, int64_t timeout, int64_t connect_timeout)
{
    if (u->timeout != timeout)
        curl_easy_setopt(u->easy, CURLOPT_TIMEOUT_MS, to_milliseconds(timeout));
    if (u->connect_timeout != connect_timeout)
        curl_easy_setopt(u->easy, CURLOPT_CONNECTTIMEOUT_MS, to_milliseconds(connect_timeout));
    u->timeout = timeout;
    u->connect_timeout = connect_timeout;
}

static void set_buffers(struct upstream *u, long size)
{
    /* Refused while the buffer of a call that got nowhere still stands: that one serves then. */
    if (u->buffer == size || curl_easy_setopt(u->easy, CURLOPT_BUFFERSIZE, size) != CURLE_OK)
        return;
    curl_easy_setopt(u->easy, CURLOPT_UPLOAD_BUFFERSIZE, size);
    u->buffer = size;
}

struct upstream *upstream_start(struct upstream_pool *pool, const struct upstream_request *request,
                                const struct upstream_callbacks *callbacks)
{
    struct upstream *u = take(pool);

    u->callbacks = *callbacks;
    u->head_bytes = 0;
    u->status = 0;
    u->running = u->paused = u->stalled = u->cancelled = false;
    u->fault = NULL;
    u->why[0] = '\0';
    set_route(u, request->route);
    set_headers(u, request);
    set_body(u, request);
    set_times(u, request->timeout, request->connect_timeout);
    set_buffers(u, request->small_buffers ? POOL_BUFFER_SMALL : POOL_BUFFER);
    wait_add(u);
    return u;
}

void upstream_pause(struct upstream *u)
{
    u->paused = true;
}

void upstream_resume(struct upstream *u)
{
    u->paused = false;
    if (u->stalled)
        wait_add(u);
}

void upstream_cancel(struct upstream *u)
{
    u->cancelled = true;
    wait_add(u);
}

struct slice upstream_header(const struct upstream *u, const char *name)
{
    struct curl_header *header;

    if (curl_easy_header(u->easy, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return SLICE_NONE;
    if (header->amount > 1 &&
        curl_easy_header(u->easy, name, header->amount - 1, CURLH_HEADER, -1, &header) != CURLHE_OK)
        return SLICE_NONE;
    return slice_trim(slice_from(header->value));
}

int64_t upstream_content_length(const struct upstream *u)
{
    struct slice encoding = upstream_header(u, "content-encoding");
    curl_off_t length = -1;

    if (encoding.len > 0 && !slice_eq_nocase(encoding, SLICE("identity")))
        return -1;
    curl_easy_getinfo(u->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    return length;
}

/* ---- the pool ---- */

struct upstream_pool *upstream_pool_create(struct loop *loop, const char *ca_file, bool public_only)
{
    struct upstream_pool *pool = mem_zalloc(sizeof(*pool));

    pool->wire.ctx = pool;
    pool->wire.begin = begin;
    pool->wire.collect = collect;
    wire_init(&pool->wire, loop, public_only);
    if (ca_file != NULL)
        pool->ca_file = mem_strdup(ca_file);
    return pool;
}

void upstream_pool_destroy(struct upstream_pool *pool)
{
    struct upstream *u;

    TG_ASSERT(pool->n_busy == 0);
    while ((u = pool->idle) != NULL) {
        pool->idle = u->next;
        curl_easy_cleanup(u->easy);
        upstream_route_unref(u->route);
        free(u);
    }
    wire_dispose(&pool->wire);
    free(pool->ca_file);
    free(pool);
}
