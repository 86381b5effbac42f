/* sandbox.c - the sandbox's process: one listener, one loop, until a signal says stop. */
#include "sandbox.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/secret.h"
#include "daemon/billing/model.h"
#include "generations.h"
#include "served.h"

enum {
    BODY_MAX = 64 * 1024 * 1024,
    CONNECTIONS_MAX = 20000,
    REQUEST_TIMEOUT_S = 120,
    MODEL_CREATED = 1698785189 /* when dall-e-3 was announced; every model says the same */
};

static void served_handle(void *sandbox, struct front_call *call)
{
    struct buf body;

    (void)sandbox;
    buf_init(&body, SERVED_KEYS * 256);
    served_print(&body);
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

static void append_model(struct buf *out, const char *name)
{
    buf_append_str(out, "{\"id\":");
    buf_append_json_string(out, slice_from(name));
    buf_printf(out, ",\"object\":\"model\",\"created\":%d,\"owned_by\":\"sandbox\"}", MODEL_CREATED);
}

static void models_handle(void *sandbox, struct front_call *call)
{
    const struct model_card *card;
    struct buf body;
    size_t pos = 0;
    const char *comma = "";

    (void)sandbox;
    buf_init(&body, LIMIT_ADMIN_BODY);
    buf_append_str(&body, "{\"object\":\"list\",\"data\":[");
    while ((card = model_next(&pos)) != NULL) {
        buf_append_str(&body, comma);
        append_model(&body, card->name);
        comma = ",";
    }
    buf_append_str(&body, "]}\n");
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

static void model_handle(void *sandbox, struct front_call *call)
{
    const struct model_card *card = model_find(front_call_param(call));
    struct buf body;
    struct err err;

    (void)sandbox;
    if (card == NULL) {
        (void)err_set(&err, ERR_MODEL_NOT_FOUND, "model", "The model `%.*s` does not exist",
                      (int)front_call_param(call).len, front_call_param(call).p);
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    buf_init(&body, LIMIT_ADMIN_BODY);
    append_model(&body, card->name);
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

static const struct front_route routes[] = {
    {"POST", "/v1/images/generations", generations_handle, 0, LIMIT_GENERATION_BODY},
    {"GET", "/v1/models", models_handle, 0, 0},
    {"GET", "/v1/models/{rest}", model_handle, 0, 0},
    {"GET", "/sandbox/served", served_handle, 0, 0},
    {"GET", "/sandbox/images/{id}", generations_picture, 0, 0},
    {NULL, NULL, NULL, 0, 0},
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
                                            .routes = routes,
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
