/* health.c - for supervisors: is the process alive, can it serve, and its metrics. No token; nothing here names a
 * tenant. */
#include "daemon/base/metrics.h"
#include "house.h"
#include "render.h"

enum { ALIVE_SECONDS = 10, METRICS_MAX = 1024 * 1024 };

static bool alive(const struct admin_house *house)
{
    return front_alive(*house->front, ALIVE_SECONDS * CLOCK_SECOND);
}

static void reply_status(struct front_call *call, bool ok, const struct buf *out)
{
    front_reply_json(call, ok ? 200 : 503, buf_slice(out));
}

void health_live(void *ctx, struct front_call *call)
{
    bool ok = alive(ctx);
    struct buf out;

    buf_init(&out, LIMIT_NAME);
    render_open(&out, NULL, '{');
    render_text(&out, "status", ok ? SLICE("ok") : SLICE("stalled"));
    render_close(&out, '}');
    reply_status(call, ok, &out);
    buf_dispose(&out);
}

static bool has_channel(const struct catalog *catalog)
{
    const struct channel *ch;
    size_t pos = 0;

    while ((ch = catalog_next_channel(catalog, &pos)) != NULL) {
        if (ch->super.status == RECORD_ACTIVE)
            return true;
    }
    return false;
}

void health_ready(void *ctx, struct front_call *call)
{
    const struct admin_house *house = ctx;
    const char *reasons[] = {
        front_draining(*house->front) ? "draining" : NULL,
        store_healthy(house->store) ? NULL : "store",
        has_channel(loop_get(front_call_loop(call), LOOP_SLOT_CATALOG)) ? NULL : "no channel",
    };
    bool ok = true;
    struct buf out;

    buf_init(&out, LIMIT_NAME * 2);
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        ok = ok && reasons[i] == NULL;
    render_open(&out, NULL, '{');
    render_text(&out, "status", ok ? SLICE("ok") : SLICE("unavailable"));
    render_open(&out, "reasons", '[');
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i] != NULL)
            render_text(&out, NULL, slice_from(reasons[i]));
    }
    render_close(&out, ']');
    render_close(&out, '}');
    reply_status(call, ok, &out);
    buf_dispose(&out);
}

void health_metrics(void *ctx, struct front_call *call)
{
    struct buf out;

    (void)ctx;
    buf_init(&out, METRICS_MAX);
    metrics_print(&out);
    front_reply(call, 200, NULL, 0, SLICE("text/plain; version=0.0.4; charset=utf-8"), buf_slice(&out));
    buf_dispose(&out);
}
