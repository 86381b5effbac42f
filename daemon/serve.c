/* serve.c - the daemon's life: the only file that knows every room.
 *
 *                 start                 TERM, INT               all answered, or drain_timeout
 *    (nothing) ----------> RUNNING ----------------> DRAINING ----------------------------> closed, exit 0
 *                           |  ^ | HUP: reload          |
 *                           |  '-'                      | TERM, INT again: exit 1 at once
 *                           '------- store failed ------'-----> 503s leave for a second, exit 3 without closing
 *
 * Invariants
 *  1. Signals are blocked before the first thread is made and read from a signalfd here, so no handler runs anywhere.
 *  2. Rooms are opened right to left (store, relay, admin, front) and closed in the opposite order: nobody is submitted
 * to after it was closed.
 *  3. After a failed commit the process does not close the store: what is on disk is what was acknowledged, and the
 * next start resolves the rest. Thread: main. The store's writer calls store_failed. */
#include "serve.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin/admin.h"
#include "admin/archive.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/notify.h"
#include "daemon/billing/model.h"
#include "daemon/gate/catalog.h"

enum {
    TICK_MS = 50, /* how often a draining daemon looks whether it is done */
    IDLE_TICK_MS = 1000,
    CROWD = 1000,       /* connections whose memory is worth giving back */
    WHY = 256,          /* bytes kept of why the store failed */
    RESTART_KEYS = 1024 /* bytes for the names of keys that need a restart */
};
#define FAILED_GRACE (1 * CLOCK_SECOND) /* for the 503s of a failed store */
#define LOOP_STALL (10 * CLOCK_SECOND)  /* a loop that did not turn for so long is not alive */

enum phase { RUNNING = 0, DRAINING };

struct daemon {
    const char *conf_path;
    struct conf *conf;    /* in force */
    struct conf *started; /* what the rooms were opened with: keys that need a restart keep its values */
    struct secrets *secrets;
    struct store *store;
    struct relay_house *relay;
    struct admin_house *admin;
    struct archive *archive;
    struct front *front;
    char cache[PATH_MAX];      /* the cache directory */
    struct catalog **catalogs; /* one a loop */
    int loops;
    int signals;   /* signalfd */
    int failed;    /* eventfd: written once, when the store has failed */
    char why[WHY]; /* written before it */
    enum phase phase;
    int64_t drain_until; /* monotonic */
    int64_t crowd;       /* the most connections seen since memory was given back */
};

static void store_failed(void *ctx, const char *why)
{
    struct daemon *d = ctx;

    (void)slice_copy((struct slice){why, strnlen(why, WHY - 1)}, d->why, sizeof(d->why));
    (void)eventfd_write(d->failed, 1);
}

/* ---- opening ---- */

static enum err_code open_signals(struct daemon *d, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    d->failed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (d->signals < 0 || d->failed < 0)
        return err_set(err, ERR_INTERNAL, NULL, "signalfd, eventfd: %s", strerror(errno));
    return ERR_OK;
}

/* One descriptor a connection, on both sides. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum err_code open_store(struct daemon *d, struct err *err)
{
    const struct conf *c = d->conf;
    struct store_options options = {.url = c->store_url, .migrate = c->store_auto_migrate, .keep = c->idempotency_keep};
    char fallback[PATH_MAX];
    enum err_code code;

    if (!conf_beside_store(c, "master.key", fallback, sizeof(fallback)))
        return err_set(err, ERR_INVALID_VALUE, "store.url", "the path is too long");
    code = secret_open(c->secrets_master_key_file, fallback, &d->secrets, err);
    if (code != ERR_OK)
        return code;
    options.secrets = d->secrets;
    return store_open(&options, &d->store, err);
}

static enum err_code cache_path(const struct conf *c, char out[PATH_MAX], struct err *err)
{
    const char *of_service = getenv("CACHE_DIRECTORY");
    struct slice first, others;
    bool fits;

    if (c->server_cache_directory[0] != '\0') {
        fits = slice_copy(slice_from(c->server_cache_directory), out, PATH_MAX);
    } else if (of_service != NULL && of_service[0] != '\0') {
        (void)slice_cut(slice_from(of_service), ':', &first, &others);
        fits = slice_copy(first, out, PATH_MAX);
    } else {
        fits = conf_beside_store(c, "cache", out, PATH_MAX);
    }
    return fits ? ERR_OK : err_set(err, ERR_INVALID_VALUE, "server.cache_directory", "the path is too long");
}

/* In the directory that is the service's own, else beside the store. */
static enum err_code archive_path(const struct conf *c, char out[PATH_MAX], struct err *err)
{
    const char *of_service = getenv("STATE_DIRECTORY");
    struct slice first = {"", 0}, others;
    bool fits;

    if (c->retention_archive_directory[0] != '\0') {
        fits = slice_copy(slice_from(c->retention_archive_directory), out, PATH_MAX);
    } else if (of_service != NULL && of_service[0] != '\0') {
        (void)slice_cut(slice_from(of_service), ':', &first, &others);
        fits = first.len < PATH_MAX && snprintf(out, PATH_MAX, "%.*s/archive", (int)first.len, first.p) < PATH_MAX;
    } else {
        fits = conf_beside_store(c, "archive", out, PATH_MAX);
    }
    return fits ? ERR_OK : err_set(err, ERR_INVALID_VALUE, "retention.archive_directory", "the path is too long");
}

static enum err_code start_archive(struct daemon *d, struct err *err)
{
    char path[PATH_MAX];
    enum err_code code = archive_path(d->conf, path, err);

    return code == ERR_OK ? archive_start(d->store, path, d->conf->retention_records, &d->archive, err) : code;
}

static enum err_code open_cache(struct daemon *d, struct err *err)
{
    enum err_code code = cache_path(d->conf, d->cache, err);

    if (code != ERR_OK)
        return code;
    if ((mkdir(d->cache, 0700) != 0 && errno != EEXIST) || access(d->cache, R_OK | W_OK | X_OK) != 0)
        return err_set(err, ERR_INVALID_VALUE, "server.cache_directory", "%s: %s", d->cache, strerror(errno));
    return ERR_OK;
}

static int loop_count(const struct conf *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (c->server_threads > 0)
        return (int)c->server_threads;
    return cores > 0 ? (int)cores : 1;
}

static enum err_code open_front(struct daemon *d, struct err *err)
{
    const struct conf *c = d->conf;
    const struct front_listener listeners[] = {
        {.addresses = (const char *const *)c->public_listen.at,
         .n_addresses = c->public_listen.n,
         .tls_certificate = c->public_tls_certificate,
         .tls_key = c->public_tls_key,
         .http2 = c->public_http2,
         .max_body = c->public_max_body,
         .request_timeout = c->server_request_timeout,
         .is_public = true,
         .routes = relay_routes,
         .ctx = d->relay},
        {.addresses = (const char *const *)c->admin_listen.at,
         .n_addresses = c->admin_listen.n,
         .http2 = true,
         .max_body = LIMIT_ADMIN_BODY,
         .request_timeout = c->server_request_timeout,
         .error_ids = true,
         .routes = admin_routes,
         .ctx = d->admin},
    };
    const struct front_options options = {.threads = loop_count(c),
                                          .max_connections = c->public_max_connections,
                                          .cache_directory = d->cache,
                                          .listeners = listeners,
                                          .n_listeners = sizeof(listeners) / sizeof(listeners[0])};

    return front_open(&options, &d->front, err);
}

static enum err_code furnish_loops(struct daemon *d, struct err *err)
{
    struct mailbox **boxes;
    enum err_code code;

    d->loops = front_loops(d->front);
    d->catalogs = mem_zalloc((size_t)d->loops * sizeof(*d->catalogs));
    boxes = mem_zalloc((size_t)d->loops * sizeof(*boxes));
    for (int i = 0; i < d->loops; i++) {
        struct loop *loop = front_loop(d->front, i);

        d->catalogs[i] = catalog_create();
        boxes[i] = loop_mailbox(loop);
        loop_set(loop, LOOP_SLOT_CATALOG, d->catalogs[i]);
        relay_loop_init(d->relay, loop);
    }
    code = catalog_fill(d->catalogs, boxes, d->loops, d->store, err);
    free(boxes);
    return code;
}

static void log_listening(const struct daemon *d)
{
    static const char *const names[] = {"public", "admin"};
    struct buf text;

    buf_init(&text, CONF_LIST * LIMIT_URL);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        buf_clear(&text);
        front_addresses(d->front, i, &text);
        LOG(LOG_LISTENING, LOG_F_STR("listener", names[i]), LOG_F_SLICE("address", buf_slice(&text)));
    }
    buf_dispose(&text);
}

static enum err_code open_rooms(struct daemon *d, struct err *err)
{
    enum err_code code = open_store(d, err);

    if (code == ERR_OK)
        code = open_cache(d, err);
    if (code == ERR_OK)
        code = relay_house_create(d->store, d->secrets, d->conf, d->cache, &d->relay, err);
    if (code != ERR_OK)
        return code;
    d->admin = admin_house_create(d->store, d->secrets, d->relay, &d->front, d->conf);
    code = open_front(d, err);
    if (code != ERR_OK)
        return code;
    code = furnish_loops(d, err);
    if (code == ERR_OK)
        code = store_start(d->store, store_failed, d, err);
    if (code == ERR_OK)
        code = start_archive(d, err);
    return code == ERR_OK ? front_start_loops(d->front, err) : code;
}

static void close_rooms(struct daemon *d)
{
    if (d->front != NULL)
        front_stop(d->front);
    if (d->relay != NULL)
        relay_house_stop(d->relay);
    archive_stop(d->archive);
    store_close(d->store);
    for (int i = 0; i < d->loops; i++)
        catalog_destroy(d->catalogs[i]);
    free(d->catalogs);
    if (d->admin != NULL)
        admin_house_destroy(d->admin);
    if (d->relay != NULL)
        relay_house_destroy(d->relay);
    if (d->secrets != NULL)
        secret_close(d->secrets);
    if (d->conf != d->started)
        conf_destroy(d->conf);
    conf_destroy(d->started);
}

/* ---- running ---- */

static void start_drain(struct daemon *d)
{
    d->phase = DRAINING;
    d->drain_until = clock_mono() + d->conf->server_drain_timeout;
    notify_stopping();
    LOG(LOG_DRAINING, LOG_F_INT("relays", relay_inflight(d->relay)));
    relay_house_drain(d->relay);
    front_drain(d->front);
}

static void publish(struct daemon *d, struct conf *fresh)
{
    struct buf keys;

    buf_init(&keys, RESTART_KEYS);
    conf_restart_keys(d->started, fresh, &keys);
    relay_house_reload(d->relay, fresh);
    archive_set_records(d->archive, fresh->retention_records);
    log_set_level(fresh->server_log_level);
    if (d->conf != d->started)
        conf_destroy(d->conf);
    d->conf = fresh;
    LOG(LOG_RELOADED, LOG_F_STR("file", d->conf_path));
    if (keys.len > 0)
        LOG(LOG_RESTART_NEEDED, LOG_F_SLICE("keys", buf_slice(&keys)));
    buf_dispose(&keys);
}

/* All or nothing: a file with any fault changes nothing. */
static void reload(struct daemon *d)
{
    char *text = NULL;
    size_t len = 0;
    FILE *faults = open_memstream(&text, &len);
    struct conf *fresh;

    TG_ASSERT(faults != NULL);
    notify_reloading();
    fresh = conf_read(d->conf_path, faults);
    (void)fclose(faults);
    if (fresh != NULL)
        publish(d, fresh);
    else
        LOG(LOG_RELOAD_REFUSED, LOG_F_SLICE("why", ((struct slice){text, len})));
    free(text);
    notify_ready();
}

/* Returns an exit code to stop with at once, or -1. */
static int read_signals(struct daemon *d)
{
    struct signalfd_siginfo info;

    while (read(d->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP)
            reload(d);
        else if (d->phase == DRAINING)
            return SERVE_FAILED;
        else
            start_drain(d);
    }
    return -1;
}

/* The callers that wait for the store get their 503; then the process ends as it stands. */
static int die_of_store(struct daemon *d)
{
    int64_t until = clock_mono() + FAILED_GRACE;

    notify_stopping();
    notify_status("the store failed: %s", d->why); /* the store itself has logged it */
    front_drain(d->front);
    while (front_calls(d->front) > 0 && clock_mono() < until)
        (void)poll(NULL, 0, TICK_MS);
    return SERVE_STORE;
}

static bool is_drained(const struct daemon *d)
{
    int64_t left = front_calls(d->front) + relay_inflight(d->relay);

    notify_status("draining %lld calls", (long long)left);
    return left == 0 || clock_mono() >= d->drain_until;
}

/* A crowd of streams leaves its memory with the allocator, between what is still in use. When it has gone the kernel
 * gets it back; that takes milliseconds, so it waits for quiet. */
static void give_memory_back(struct daemon *d)
{
    int64_t now = front_connections(d->front);

    if (now > d->crowd)
        d->crowd = now;
    if (d->crowd < CROWD || now > d->crowd / 8)
        return;
    (void)malloc_trim(0);
    d->crowd = now;
}

static int wait_ms(const struct daemon *d)
{
    int64_t watchdog = notify_watchdog_interval() / 1000;

    if (d->phase == DRAINING)
        return TICK_MS;
    return watchdog > 0 && watchdog < IDLE_TICK_MS ? (int)watchdog : IDLE_TICK_MS;
}

/* Runs until the end; *at_once: leave without closing anything. */
static int run(struct daemon *d, bool *at_once)
{
    struct pollfd fds[] = {{.fd = d->signals, .events = POLLIN}, {.fd = d->failed, .events = POLLIN}};
    int code;

    for (;;) {
        (void)poll(fds, 2, wait_ms(d));
        if ((fds[1].revents & POLLIN) != 0) {
            *at_once = true;
            return die_of_store(d);
        }
        code = read_signals(d);
        if (code >= 0) {
            *at_once = true;
            return code;
        }
        if (d->phase == DRAINING && is_drained(d))
            return SERVE_DONE;
        give_memory_back(d);
        if (front_alive(d->front, LOOP_STALL) && store_healthy(d->store))
            notify_watchdog();
    }
}

static const char *read_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0}};
    const char *path = NULL;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "c:", options, NULL)) != -1) {
        if (option != 'c')
            return NULL;
        path = optarg;
    }
    return optind == argc ? path : NULL;
}

static int fail_to_start(struct daemon *d, const struct err *err)
{
    LOG(LOG_FATAL, LOG_F_STR("why", err->message));
    close_rooms(d);
    return SERVE_FAILED;
}

int serve(int argc, char **argv)
{
    static struct daemon d = {.signals = -1,
                              .failed = -1}; /* what libh2o cannot dispose of stays reachable from here */
    bool at_once = false;
    struct err err;
    int code;

    d.conf_path = read_arguments(argc, argv);
    if (d.conf_path == NULL) {
        fprintf(stderr, "tallygate serve: which configuration? -c FILE is missing, or there is something else\n"
                        "Try 'tallygate help serve'.\n");
        return SERVE_USAGE;
    }
    d.conf = conf_read(d.conf_path, stderr);
    if (d.conf == NULL)
        return SERVE_FAILED;
    d.started = d.conf;
    log_init(d.conf->server_log_level);
    secret_init();
    model_init();
    raise_descriptor_limit();
    if (open_signals(&d, &err) != ERR_OK || open_rooms(&d, &err) != ERR_OK)
        return fail_to_start(&d, &err);
    log_listening(&d);
    notify_ready();
    LOG(LOG_STARTED, LOG_F_INT("loops", d.loops));
    code = run(&d, &at_once);
    LOG(LOG_STOPPED, LOG_F_INT("code", code));
    if (at_once)
        _exit(code);
    close_rooms(&d);
    return code;
}
