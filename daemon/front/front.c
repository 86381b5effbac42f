/* front.c - listeners and loops from start to stop.
 *
 *   front_open --> bound, no threads --front_start_loops--> running --front_drain--> draining --front_stop--> stopped
 *
 * Invariants
 *  (1) Every globalconf is complete before the first context is made and read-only from then on.
 *  (2) A loop's contexts, sockets and timers are touched by its own thread only, once that runs.
 * Main thread, but for front_drain, front_calls, front_draining and front_alive. */
#include "front.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "inside.h"

enum {
    HTTP2_STREAMS = 100,
    FILE_THRESHOLD = 1024 * 1024 /* a buffer of the library's that grows so large lies in a file */
};

/* The library resets an HTTP/2 stream whose body goes past its limit, which is no answer. So that limit stands so far
 * behind ours, and what ends between them gets one. */
#define BODY_SLACK (INT64_C(64) * 1024 * 1024)

/* ---- opening ---- */

static int64_t largest_body(const struct front_listener *listener)
{
    int64_t largest = listener->max_body;

    for (const struct front_route *route = listener->routes; route->method != NULL; route++) {
        if (route->max_body > largest)
            largest = route->max_body;
    }
    return largest;
}

static void configure(struct place *place)
{
    h2o_globalconf_t *conf = &place->conf;
    h2o_hostconf_t *host;
    h2o_pathconf_t *path;
    h2o_handler_t *handler;

    h2o_config_init(conf);
    conf->server_name = h2o_iovec_init(H2O_STRLIT("tallygate"));
    conf->max_request_entity_size = (size_t)(largest_body(&place->listener) + BODY_SLACK);
    conf->http1.req_timeout = (uint64_t)(place->listener.request_timeout / 1000);
    conf->http1.upgrade_to_http2 = 0; /* accept.c decides, so that nothing slips into HTTP/2 behind a guard */
    conf->http2.idle_timeout = (uint64_t)(place->listener.request_timeout / 1000);
    conf->http2.max_concurrent_requests_per_connection = HTTP2_STREAMS;
    host = h2o_config_register_host(conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    path = h2o_config_register_path(host, "/", 0);
    handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = call_begin;
    refuse_register(host, &place->listener);
}

static enum err_code open_place(struct place *place, const struct front_listener *listener, struct err *err)
{
    enum err_code code = ERR_OK;

    place->listener = *listener;
    if (listener->tls_certificate != NULL && listener->tls_certificate[0] != '\0')
        code = tls_open(listener, &place->tls, err);
    if (code == ERR_OK)
        code = listen_open(place, err);
    configure(place);
    return code;
}

static void open_site(struct site *site, struct loop *loop, struct place *place)
{
    site->loop = loop;
    site->place = place;
    h2o_context_init(&site->context, loop->evloop, &place->conf);
    site->accept = (h2o_accept_ctx_t){.ctx = &site->context, .hosts = place->conf.hosts};
}

static void open_loop(struct front *f, int index)
{
    struct loop *loop = &f->loops[index];

    loop_open(loop, f, index);
    loop->sites = mem_zalloc(f->n_places * sizeof(*loop->sites));
    for (size_t i = 0; i < f->n_places; i++)
        open_site(&loop->sites[i], loop, &f->places[i]);
}

static void close_fds(struct front *f)
{
    for (size_t i = 0; i < f->n_places; i++) {
        for (size_t k = 0; k < f->places[i].n_fds; k++)
            close(f->places[i].fds[k]);
        f->places[i].n_fds = 0;
    }
}

/* The library's setting is one for the process. */
static void place_files(const char *directory)
{
    h2o_buffer_mmap_settings_t *settings = &h2o_socket_buffer_mmap_settings;

    settings->threshold = FILE_THRESHOLD;
    (void)snprintf(settings->fn_template, sizeof(settings->fn_template), "%s/tallygate-XXXXXX",
                   directory != NULL ? directory : "/tmp");
}

enum err_code front_open(const struct front_options *options, struct front **out, struct err *err)
{
    struct front *f = mem_zalloc(sizeof(*f));
    enum err_code code = ERR_OK;

    TG_ASSERT(options->threads >= 1);
    place_files(options->cache_directory);
    f->max_connections = options->max_connections;
    f->places = mem_zalloc(options->n_listeners * sizeof(*f->places));
    for (size_t i = 0; i < options->n_listeners && code == ERR_OK; i++) {
        f->n_places++;
        code = open_place(&f->places[i], &options->listeners[i], err);
    }
    if (code != ERR_OK) {
        close_fds(f);
        free(f->places);
        free(f);
        return code;
    }
    f->n_loops = options->threads;
    f->loops = mem_zalloc((size_t)f->n_loops * sizeof(*f->loops));
    for (int i = 0; i < f->n_loops; i++)
        open_loop(f, i);
    *out = f;
    return ERR_OK;
}

int front_loops(const struct front *f)
{
    return f->n_loops;
}

struct loop *front_loop(struct front *f, int index)
{
    TG_ASSERT(index >= 0 && index < f->n_loops);
    return &f->loops[index];
}

/* ---- running ---- */

static void *loop_main(void *arg)
{
    struct loop *loop = arg;

    for (size_t i = 0; i < loop->front->n_places; i++)
        accept_start(&loop->sites[i]);
    while (!atomic_load(&loop->stop))
        loop_turn(loop);
    return NULL;
}

enum err_code front_start_loops(struct front *f, struct err *err)
{
    sigset_t all, before;
    int failed = 0;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    for (int i = 0; i < f->n_loops && failed == 0; i++) {
        failed = pthread_create(&f->loops[i].thread, NULL, loop_main, &f->loops[i]);
        f->loops[i].running = failed == 0;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0)
        return err_set(err, ERR_INTERNAL, NULL, "no thread: %s", strerror(failed));
    return ERR_OK;
}

static void drain_loop(struct mail *mail)
{
    struct loop *loop = TG_CONTAINER(struct loop, drain_mail, mail);

    for (size_t i = 0; i < loop->front->n_places; i++) {
        if (!loop->front->places[i].listener.is_public)
            continue;
        accept_stop(&loop->sites[i]);
        h2o_context_request_shutdown(&loop->sites[i].context);
    }
}

void front_drain(struct front *f)
{
    if (atomic_exchange(&f->draining, true))
        return;
    for (int i = 0; i < f->n_loops; i++) {
        f->loops[i].drain_mail.next = NULL;
        f->loops[i].drain_mail.deliver = drain_loop;
        mailbox_post(&f->loops[i].box, &f->loops[i].drain_mail);
    }
    close_fds(f);
}

int64_t front_connections(const struct front *f)
{
    return atomic_load(&f->connections);
}

int64_t front_calls(const struct front *f)
{
    return atomic_load(&f->calls);
}

bool front_draining(const struct front *f)
{
    return atomic_load_explicit(&f->draining, memory_order_relaxed);
}

bool front_alive(const struct front *f, int64_t within)
{
    int64_t oldest = clock_mono() - within;

    for (int i = 0; i < f->n_loops; i++) {
        if (atomic_load_explicit(&f->loops[i].turned, memory_order_relaxed) < oldest)
            return false;
    }
    return true;
}

void front_stop(struct front *f)
{
    for (int i = 0; i < f->n_loops; i++) {
        atomic_store(&f->loops[i].stop, true);
        loop_wake(&f->loops[i]);
    }
    for (int i = 0; i < f->n_loops; i++) {
        if (f->loops[i].running)
            (void)pthread_join(f->loops[i].thread, NULL);
        f->loops[i].running = false;
    }
    close_fds(f);
}
