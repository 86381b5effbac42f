/* sandbox.c - the sandbox's process: one listener, one loop, until a signal says stop. */
#include "sandbox.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/secret.h"
#include "daemon/billing/model.h"
#include "endpoints.h"

enum {
    BODY_MAX = 1024 * 1024, /* of routes that name no limit of their own */
    CONNECTIONS_MAX = 20000,
    REQUEST_TIMEOUT_S = 120
};

static void print_address(const struct front *front)
{
    struct buf text;

    buf_init(&text, LIMIT_URL);
    front_addresses(front, 0, &text);
    printf("sandbox listening on http://%.*s/v1\n", (int)text.len, text.p);
    (void)fflush(stdout);
    buf_dispose(&text);
}

static void wait_for_signal(const sigset_t *stop)
{
    int sig;

    while (sigwait(stop, &sig) != 0)
        continue;
}

int sandbox_run(const char *listen, int64_t latency)
{
    struct sandbox sandbox = {.latency = latency};
    const struct front_listener listener = {.addresses = &listen,
                                            .n_addresses = 1,
                                            .http2 = true,
                                            .max_body = BODY_MAX,
                                            .request_timeout = REQUEST_TIMEOUT_S * CLOCK_SECOND,
                                            .routes = sandbox_routes,
                                            .ctx = &sandbox};
    const struct front_options options = {
        .threads = 1, .max_connections = CONNECTIONS_MAX, .listeners = &listener, .n_listeners = 1};
    struct front *front;
    struct err err;
    sigset_t stop;

    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigaddset(&stop, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &stop, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    secret_init();
    model_init();
    log_init(LEVEL_WARN);
    if (front_open(&options, &front, &err) != ERR_OK || front_start_loops(front, &err) != ERR_OK) {
        fprintf(stderr, "tallygate sandbox: %s\n", err.message);
        return 1;
    }
    print_address(front);
    wait_for_signal(&stop);
    front_stop(front);
    return 0;
}
