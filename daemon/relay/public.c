/* public.c - the public listener's routes, and who is calling.
 *
 * The order of refusals is part of the contract: whether the gateway still serves (503), who is calling (401, 403),
 * whether the request can be read (400, 413), whether it may be served (404, 403, 503). Nothing is written anywhere for
 * any of these; money is looked at by the hold, and before an upload that waits for our leave (intake.c). One thread:
 * the loop's. */
#include "carry.h"

#include "daemon/base/clock.h"
#include "key.h"

enum err_code public_authenticate(const struct relay_house *house, struct front_call *call, struct caller *caller,
                                  struct err *err)
{
    const struct catalog *catalog = loop_get(front_call_loop(call), LOOP_SLOT_CATALOG);
    struct slice authorization = SLICE_NONE;
    int64_t now = clock_wall();
    enum err_code code;
    char peer[64];
    int count = 0;

    if (!front_call_header(call, "authorization", &authorization, &count))
        count = 0;
    code = auth_caller(catalog, house->secrets, authorization, count, front_call_peer(call, peer), now, caller, err);
    if (code == ERR_OK)
        touch_key(loop_get(front_call_loop(call), LOOP_SLOT_TOUCH), caller->key, now);
    return code;
}

bool public_enter(const struct relay_house *house, struct front_call *call, struct caller *caller)
{
    struct err err;
    enum err_code code;

    if (atomic_load_explicit(&house->draining, memory_order_relaxed))
        code = err_set(&err, ERR_UNAVAILABLE, NULL, "This gateway is shutting down. Please try again in a moment.");
    else
        code = public_authenticate(house, call, caller, &err);
    if (code != ERR_OK)
        front_reply_err(call, &err, NULL, 0);
    return code == ERR_OK;
}

static void take(const struct relay_house *house, struct front_call *call, enum image_operation operation)
{
    struct caller caller;

    if (!public_enter(house, call, &caller))
        return;
    intake_begin(house_room(front_call_loop(call)), call, &caller, operation);
    caller_dispose(&caller);
}

static void generations(void *ctx, struct front_call *call)
{
    take(ctx, call, OPERATION_GENERATIONS);
}

static void edits(void *ctx, struct front_call *call)
{
    take(ctx, call, OPERATION_EDITS);
}

static void variations(void *ctx, struct front_call *call)
{
    take(ctx, call, OPERATION_VARIATIONS);
}

const struct front_route relay_routes[] = {
    {.method = "POST",
     .pattern = "/v1/images/generations",
     .handler = generations,
     .flags = FRONT_STREAMED,
     .max_body = LIMIT_GENERATION_BODY},
    {.method = "POST", .pattern = "/v1/images/edits", .handler = edits, .flags = FRONT_STREAMED},
    {.method = "POST", .pattern = "/v1/images/variations", .handler = variations, .flags = FRONT_STREAMED},
    {.method = "GET", .pattern = "/v1/models", .handler = models_list},
    {.method = "GET", .pattern = "/v1/models/{rest}", .handler = models_get},
    {.method = "GET", .pattern = "/v1/key", .handler = key_get},
    {.method = "GET", .pattern = "/v1/dashboard/billing/subscription", .handler = dashboard_subscription},
    {.method = "GET", .pattern = "/dashboard/billing/subscription", .handler = dashboard_subscription},
    {.method = "GET", .pattern = "/v1/dashboard/billing/usage", .handler = dashboard_usage},
    {.method = "GET", .pattern = "/dashboard/billing/usage", .handler = dashboard_usage},
    {.method = NULL},
};
