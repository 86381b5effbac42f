/* endpoints.c - from a call to its answer.
 *
 *   handle --no key, wrong type--> refused at once
 *     '--> READING --body whole--> finish --> answer.h
 *             |---- refusal: the rest of the body is let go, then it is answered
 *             |---- early: answered amid the body
 *             '---- client gone --> (gone)
 *
 * Invariants
 *   1. A visit is freed once: when its call is answered, or by `gone` before that.
 *   2. What a body says is refused when it has come to its end, unless a directive wants it earlier: so an upload
 *      never races its answer.
 *   3. Served pictures are counted when they are made, delivered or not.
 * One loop; nothing is kept of a body. */
#include "endpoints.h"

#include <stdio.h>
#include <stdlib.h>

#include "answer.h"
#include "order.h"
#include "reply.h"
#include "served.h"
#include "views.h"

#define EDIT_BODY_MAX (INT64_C(1024) * 1024 * 1024) /* sixteen images of 50 MB, a mask, and what is around them */
#define VARIATION_BODY_MAX (INT64_C(64) * 1024 * 1024)

struct visit {
    struct front_call *call;
    const struct sandbox *sandbox;
    struct image_reader *reader;
    struct fields *fields;
    struct slice bearer;
    bool steered; /* the early directives were looked for */
    bool refused;
    struct refusal why;
};

static void visit_destroy(struct visit *v)
{
    image_reader_destroy(v->reader);
    fields_destroy(v->fields);
    free(v);
}

static void gone(void *ctx)
{
    visit_destroy(ctx);
}

/* ---- answers ---- */

static void answer_refusal(struct visit *v, const struct directives *d, const struct refusal *why)
{
    struct answer_start head = {.status = why->status, .type = "application/json"};
    struct script script;

    script_init(&script);
    if (d->form == FORM_HTML) {
        head.type = "text/html";
        buf_append_str(&script.text, "<!DOCTYPE html>\n<html><body><h1>This is an error.</h1></body></html>\n");
    } else {
        refusal_append(&script.text, why);
    }
    script_finish(&script);
    answer_send(v->call, d, v->sandbox->latency, &head, &script);
}

static const struct directives none = {.images = -1, .partials = -1, .retry_after = -1};

static const char *type_of(const struct order *o)
{
    if (o->stream)
        return "text/event-stream; charset=utf-8";
    if (o->d.form == FORM_HTML)
        return "text/html";
    return o->d.form == FORM_TEXT ? "text/plain" : "application/json";
}

static void answer_order(struct visit *v, const struct order *o)
{
    struct answer_start head = {.status = 200, .type = type_of(o), .streamed = o->stream};
    struct script script;
    int images = o->images;

    script_init(&script);
    if (o->d.stop != STOP_HEADERS) {
        if (o->stream)
            images = reply_events(o, &script);
        else
            reply_json(v->call, o, &script);
        if (o->d.form != FORM_ERROR && o->d.form != FORM_HTML)
            served_add(v->bearer, images, o->stream ? o->images * o->partials : 0);
    }
    answer_send(v->call, &o->d, v->sandbox->latency, &head, &script);
}

/* A refusal that was asked for; false when none was. */
static bool asked_refusal(const struct directives *d, bool gpt, struct refusal *why)
{
    if (d->status != 0)
        refusal_of_status(d->status, why);
    else if (d->moderation)
        refusal_of_moderation(gpt, why);
    return d->status != 0 || d->moderation;
}

static bool read_order(struct visit *v, struct order *o, struct refusal *why)
{
    struct err err;
    enum err_code code = image_reader_finish(v->reader, &o->request, &err);

    if (code == ERR_OK && o->request.spec.card == NULL)
        code = err_set(&err, ERR_MODEL_NOT_FOUND, "model",
                       "The model `%s` does not exist or you do not have access to it.", o->request.spec.model);
    if (code == ERR_OK)
        code = fields_finish(v->fields, &o->tree, &err);
    if (code != ERR_OK)
        return refuse_err(why, &err);
    o->form = fields_is_form(v->fields);
    o->n_uploads = fields_uploads(v->fields, &o->uploads);
    order_look(o);
    return order_check(o, why);
}

/* The body is whole. */
static void finish(struct visit *v)
{
    struct order o = {.tree = NULL};

    if (v->refused) {
        answer_refusal(v, &none, &v->why);
    } else if (!read_order(v, &o, &v->why)) {
        answer_refusal(v, &none, &v->why);
    } else {
        order_settle(&o);
        if (asked_refusal(&o.d, order_is_gpt(&o), &v->why))
            answer_refusal(v, &o.d, &v->why);
        else
            answer_order(v, &o);
    }
    json_object_put(o.tree);
    visit_destroy(v);
}

/* ---- the body ---- */

static void feed(struct visit *v, struct slice bytes)
{
    struct err err;

    if (v->refused)
        return;
    if (image_reader_feed(v->reader, bytes, &err) != ERR_OK || fields_feed(v->fields, bytes, &err) != ERR_OK) {
        v->refused = true;
        (void)refuse_err(&v->why, &err);
    }
}

/* Whether the prompt has come and asks for a refusal before the rest. Then the visit is over. */
static bool refuse_early(struct visit *v)
{
    struct directives d;
    struct slice prompt;

    if (v->steered || v->refused || !fields_early(v->fields, "prompt", &prompt))
        return false;
    v->steered = true;
    directives_read(prompt, &d);
    if (!d.early || !asked_refusal(&d, true, &v->why))
        return false;
    answer_refusal(v, &d, &v->why);
    visit_destroy(v);
    return true;
}

static void on_data(void *ctx, struct slice bytes)
{
    struct visit *v = ctx;

    feed(v, bytes);
    (void)refuse_early(v);
}

static void on_end(void *ctx, const struct err *err)
{
    struct visit *v = ctx;

    if (err != NULL) {
        v->refused = true;
        (void)refuse_err(&v->why, err);
    }
    finish(v);
}

/* ---- the routes ---- */

static bool find_bearer(struct front_call *call, struct slice *bearer)
{
    struct slice scheme, value;

    return front_call_header(call, "authorization", &value, NULL) && slice_cut(value, ' ', &scheme, bearer) &&
           bearer->len > 0;
}

static enum err_code visit_create(struct front_call *call, const struct sandbox *sandbox,
                                  enum image_operation operation, struct visit **out, struct err *err)
{
    struct slice type = SLICE_NONE, bearer;
    struct image_reader *reader;
    enum err_code code;

    if (!find_bearer(call, &bearer))
        return err_set(
            err, ERR_NO_KEY, NULL,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using "
            "Bearer auth (i.e. Authorization: Bearer YOUR_KEY).");
    (void)front_call_header(call, "content-type", &type, NULL);
    code = image_reader_create(operation, type, &reader, err);
    if (code != ERR_OK)
        return code;
    *out = mem_zalloc(sizeof(**out));
    **out = (struct visit){.call = call,
                           .sandbox = sandbox,
                           .reader = reader,
                           .fields = fields_create(image_reader_boundary(reader)),
                           .bearer = bearer};
    return ERR_OK;
}

static void handle(void *sandbox, struct front_call *call, enum image_operation operation)
{
    struct visit *v = NULL;
    struct err err;

    if (visit_create(call, sandbox, operation, &v, &err) != ERR_OK) {
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    front_call_own(call, &(const struct front_owner){.ctx = v, .gone = gone});
    front_call_receive(call, &(const struct front_receiver){.ctx = v, .data = on_data, .end = on_end});
}

static void generations_handle(void *sandbox, struct front_call *call)
{
    handle(sandbox, call, OPERATION_GENERATIONS);
}

static void edits_handle(void *sandbox, struct front_call *call)
{
    handle(sandbox, call, OPERATION_EDITS);
}

static void variations_handle(void *sandbox, struct front_call *call)
{
    handle(sandbox, call, OPERATION_VARIATIONS);
}

const struct front_route sandbox_routes[] = {
    {"POST", "/v1/images/generations", generations_handle, FRONT_STREAMED, LIMIT_GENERATION_BODY},
    {"POST", "/v1/images/edits", edits_handle, FRONT_STREAMED, EDIT_BODY_MAX},
    {"POST", "/v1/images/variations", variations_handle, FRONT_STREAMED, VARIATION_BODY_MAX},
    {"GET", "/v1/models", view_models, 0, 0},
    {"GET", "/v1/models/{rest}", view_model, 0, 0},
    {"GET", "/sandbox/served", view_served, 0, 0},
    {"GET", "/sandbox/images/{id}", view_picture, 0, 0},
    {NULL, NULL, NULL, 0, 0},
};
