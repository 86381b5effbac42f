/* probe.c - one small call to a channel, to see whether it answers: GET base_url/models with its credential.
 *
 * A probe owns itself from relay_probe until its `done` has run. One thread: the loop's. */
#include "carry.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"

#define PROBE_TIMEOUT (20 * CLOCK_SECOND)

struct probe {
    struct loop *loop;
    struct loop_timer refusal; /* tells from the loop what is known at once */
    struct upstream_route *route;
    int64_t started;
    int status;
    void (*done)(void *ctx, bool ok, int status, int64_t duration_us, const char *why);
    void *ctx;
};

static void tell(struct probe *p, bool ok, const char *why)
{
    p->done(p->ctx, ok, p->status, loop_now(p->loop) - p->started, why);
    upstream_route_unref(p->route);
    free(p);
}

static void on_refusal(struct loop_timer *timer)
{
    tell(TG_CONTAINER(struct probe, refusal, timer), false, "channels of this kind cannot be called");
}

static void on_head(void *ctx, struct upstream *u, int status)
{
    struct probe *p = ctx;

    (void)u;
    p->status = status;
}

static size_t on_data(void *ctx, struct upstream *u, const char *bytes, size_t len)
{
    (void)ctx;
    (void)u;
    (void)bytes;
    return len;
}

static void on_done(void *ctx, struct upstream *u, enum upstream_end end, const char *why)
{
    struct probe *p = ctx;
    char text[32];

    (void)u;
    if (end != UPSTREAM_COMPLETE) {
        tell(p, false, why);
    } else if (p->status != 200) {
        snprintf(text, sizeof(text), "HTTP status %d", p->status);
        tell(p, false, text);
    } else {
        tell(p, true, "");
    }
}

void relay_probe(struct loop *loop, const struct channel *channel,
                 void (*done)(void *ctx, bool ok, int status, int64_t duration_us, const char *why), void *ctx)
{
    const struct relay_room *room = house_room(loop);
    struct probe *p = mem_zalloc(sizeof(*p));
    const struct upstream_callbacks callbacks = {p, on_head, on_data, on_done};
    struct upstream_request request = {.timeout = PROBE_TIMEOUT};

    p->loop = loop;
    p->started = loop_now(loop);
    p->done = done;
    p->ctx = ctx;
    p->route = headers_route(channel, "GET", "/models");
    if (p->route == NULL) {
        loop_timer_init(&p->refusal, on_refusal);
        loop_timer_arm(loop, &p->refusal, 0);
        return;
    }
    request.route = p->route;
    request.connect_timeout = atomic_load(&room->house->connect_timeout);
    (void)upstream_start(room->pool, &request, &callbacks);
}
