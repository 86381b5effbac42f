/* public.c - the public listener's routes: from a request to a relay on its way.
 *
 * The order of refusals is part of the contract: who is calling (401, 403), whether the request can be read (400, 413),
 * whether it may be served (404, 403, 503). Nothing is written anywhere for any of these; money is looked at first
 * by the hold. One thread: the loop's. */
#include "carry.h"

#include "daemon/base/clock.h"

static enum err_code authenticate(const struct relay_room *room, const struct catalog *catalog,
                                  const struct front_call *call, struct caller *caller, struct err *err)
{
    struct slice authorization = SLICE_NONE;
    char peer[64];
    int count = 0;

    if (!front_call_header(call, "authorization", &authorization, &count))
        count = 0;
    return auth_caller(catalog, room->house->secrets, authorization, count, front_call_peer(call, peer), clock_wall(),
                       caller, err);
}

static enum err_code read_request(const struct front_call *call, struct image_request *request, struct err *err)
{
    struct slice type = SLICE_NONE, encoding = SLICE_NONE, body = front_call_body(call);
    enum err_code code;

    (void)front_call_header(call, "content-type", &type, NULL);
    code = image_request_check_type(type, err);
    if (code != ERR_OK)
        return code;
    if (front_call_header(call, "content-encoding", &encoding, NULL) && !slice_eq_nocase(encoding, SLICE("identity")))
        return err_set(err, ERR_UNSUPPORTED_CONTENT_TYPE, NULL, "Compressed request bodies are not supported.");
    if (body.len > LIMIT_GENERATION_BODY)
        return err_set(err, ERR_TOO_LARGE, NULL, "The request body is larger than %d bytes.", LIMIT_GENERATION_BODY);
    code = image_request_read(body, request, err);
    if (code != ERR_OK)
        return code;
    if (request->stream)
        return err_set(
            err, ERR_INVALID_VALUE, "stream",
            "Invalid value: 'true'. Streaming is not available here; leave 'stream' out or set it to false.");
    return ERR_OK;
}

/* Fills terms and hold and takes a place of the channel. */
static enum err_code admit(struct relay *r, const struct catalog *catalog, const struct caller *caller,
                           const struct channel_way **way, struct err *err)
{
    const struct relay_house *house = r->room->house;
    enum err_code code = admit_call(catalog, caller, &r->request.spec, r->request.stream,
                                    (enum conf_in_doubt)atomic_load_explicit(&house->in_doubt, memory_order_relaxed),
                                    clock_wall(), &r->terms, &r->hold, err);

    if (code != ERR_OK)
        return code;
    *way = house_way(r->room, r->terms.channel);
    if ((*way)->generations == NULL || !house_enter(*way, r->terms.channel, &r->load))
        return err_set(err, ERR_NO_CHANNEL, NULL,
                       "No channel can serve the model '%s' at the moment. Please try again later.",
                       r->request.spec.model);
    return ERR_OK;
}

static enum err_code receive(struct relay_room *room, struct front_call *call, const struct caller *caller,
                             const struct catalog *catalog, struct err *err)
{
    const struct channel_way *way = NULL;
    struct image_request request;
    struct relay *r;
    enum err_code code = read_request(call, &request, err);

    if (code != ERR_OK)
        return code;
    r = relay_create(room, call, &request);
    code = admit(r, catalog, caller, &way, err);
    if (code != ERR_OK)
        relay_discard(r);
    else
        relay_begin(r, way, front_call_body(call));
    return code;
}

static void generations(void *ctx, struct front_call *call)
{
    struct relay_house *house = ctx;
    struct loop *loop = front_call_loop(call);
    struct relay_room *room = house_room(loop);
    const struct catalog *catalog = loop_get(loop, LOOP_SLOT_CATALOG);
    struct caller caller;
    struct err err;
    enum err_code code;

    if (atomic_load_explicit(&house->draining, memory_order_relaxed)) {
        (void)err_set(&err, ERR_UNAVAILABLE, NULL, "This gateway is shutting down. Please try again in a moment.");
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    code = authenticate(room, catalog, call, &caller, &err);
    if (code == ERR_OK) {
        code = receive(room, call, &caller, catalog, &err);
        caller_dispose(&caller);
    }
    if (code != ERR_OK)
        front_reply_err(call, &err, NULL, 0);
}

const struct front_route relay_routes[] = {
    {.method = "POST", .pattern = "/v1/images/generations", .handler = generations, .max_body = LIMIT_GENERATION_BODY},
    {.method = NULL},
};
