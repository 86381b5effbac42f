/* request.c - the reader of a body, and the change of its model's name.
 *
 *    bytes --JSON--> skeleton --end--> json_read --> params, json_edit --> request
 *         `--form--> form (multipart, picture_size) --end--> params -----> request
 *
 * Invariants
 *   1. Exactly one of skeleton and form is there.
 *   2. The tree (json-c) and the walk (json_scan) agree on whether there is a member `model`; both read escaped keys.
 *   3. After an error every call returns it again.
 * One reader, one thread. */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/json_scan.h"
#include "daemon/base/utf8.h"
#include "form.h"
#include "json_edit.h"
#include "member.h"
#include "params.h"
#include "skeleton.h"

enum { SHOWN = 48 }; /* bytes of a caller's value that a message repeats */

struct image_reader {
    enum image_operation operation;
    struct skeleton *skeleton;
    struct form *form;
    char boundary[MULTIPART_BOUNDARY];
    struct err failed;
};

/* ---- content type ---- */

static enum err_code refuse_type(enum image_operation operation, struct slice type, struct err *err)
{
    static const char *const takes[] = {
        [OPERATION_GENERATIONS] = "'application/json'",
        [OPERATION_EDITS] = "'multipart/form-data' or 'application/json'",
        [OPERATION_VARIATIONS] = "'multipart/form-data'",
    };
    struct slice shown = utf8_head(type, SHOWN);

    if (shown.len == 0)
        return err_set(err, ERR_UNSUPPORTED_CONTENT_TYPE, NULL,
                       "Missing content type. This API method only accepts %s requests; please try again with that in "
                       "the header 'Content-Type'.",
                       takes[operation]);
    return err_set(err, ERR_UNSUPPORTED_CONTENT_TYPE, NULL,
                   "Unsupported content type: '%.*s'. This API method only accepts %s requests, but you specified the "
                   "header 'Content-Type: %.*s'. Please try again with a supported content type.",
                   (int)shown.len, shown.p, takes[operation], (int)shown.len, shown.p);
}

enum err_code image_reader_create(enum image_operation operation, struct slice content_type, struct image_reader **out,
                                  struct err *err)
{
    char boundary[MULTIPART_BOUNDARY] = "";
    struct slice type, parameters;
    struct image_reader *r;
    bool json, form;

    (void)slice_cut(content_type, ';', &type, &parameters);
    type = slice_trim(type);
    json = operation != OPERATION_VARIATIONS && slice_eq_nocase(type, SLICE("application/json"));
    form = operation != OPERATION_GENERATIONS && slice_eq_nocase(type, SLICE("multipart/form-data"));
    if (!json && !form)
        return refuse_type(operation, type, err);
    if (form) {
        enum err_code code = multipart_boundary(content_type, boundary, err);

        if (code != ERR_OK)
            return code;
    }
    r = mem_zalloc(sizeof(*r));
    r->operation = operation;
    (void)slice_copy(slice_from(boundary), r->boundary, sizeof(r->boundary));
    if (form)
        r->form = form_create(operation, boundary);
    else
        r->skeleton = skeleton_create(operation == OPERATION_EDITS);
    *out = r;
    return ERR_OK;
}

void image_reader_destroy(struct image_reader *r)
{
    if (r == NULL)
        return;
    skeleton_destroy(r->skeleton);
    form_destroy(r->form);
    free(r);
}

const char *image_reader_boundary(const struct image_reader *r)
{
    return r->boundary;
}

static enum err_code tell(const struct image_reader *r, struct err *err)
{
    if (r->failed.code != ERR_OK && err != NULL)
        *err = r->failed;
    return r->failed.code;
}

enum err_code image_reader_feed(struct image_reader *r, struct slice bytes, struct err *err)
{
    enum err_code code = r->failed.code;

    if (code == ERR_OK)
        code = r->form != NULL ? form_feed(r->form, bytes, &r->failed) : skeleton_feed(r->skeleton, bytes, &r->failed);
    TG_ASSERT(code == r->failed.code);
    return tell(r, err);
}

/* ---- where the model's name stands in JSON ---- */

struct finder {
    bool found, pending;
    bool any_member;
    size_t start, end;
    size_t object_start;
};

static bool finder_event(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole,
                         uint64_t start, uint64_t end)
{
    struct finder *f = ctx;

    if (depth == 0 && event == JSON_SCAN_OBJECT)
        f->object_start = (size_t)end;
    if (depth != 1)
        return true;
    if (event == JSON_SCAN_KEY) {
        f->any_member = true;
        f->pending = member_is(text, whole, "model");
        f->found |= f->pending;
    } else if (f->pending) {
        f->start = (size_t)start;
        f->end = (size_t)end;
        f->pending = false;
    }
    return true;
}

/* The skeleton passed json_read, so the walk comes to its end. */
static void find_model(const struct skeleton *skeleton, struct json_object *tree, struct image_request *out)
{
    struct slice text = skeleton_text(skeleton);
    struct finder f = {.found = false};
    struct json_scan scan;
    enum json_scan_result result;

    json_scan_init(&scan, LIMIT_JSON_DEPTH, true, finder_event, &f);
    result = json_scan_feed(&scan, text.p, text.len);
    TG_ASSERT(result == JSON_SCAN_DONE);
    TG_ASSERT(f.found == json_object_object_get_ex(tree, "model", NULL));
    TG_ASSERT(f.any_member == (json_object_object_length(tree) > 0));
    out->model_absent = !f.found;
    out->object_empty = !f.any_member;
    out->model_start = skeleton_offset(skeleton, f.found ? f.start : f.object_start);
    out->model_end = skeleton_offset(skeleton, f.found ? f.end : f.object_start);
}

/* ---- the end of the body ---- */

static enum err_code finish_json(struct image_reader *r, struct image_request *out, struct err *err)
{
    struct json_object *tree;
    enum err_code code = json_read(skeleton_text(r->skeleton), &tree, err);

    if (code != ERR_OK)
        return code;
    code = params_read(tree, out, err);
    if (code == ERR_OK && r->operation == OPERATION_EDITS)
        code = json_edit_read(tree, r->skeleton, &out->spec, err);
    if (code == ERR_OK)
        find_model(r->skeleton, tree, out);
    json_object_put(tree);
    return code;
}

enum err_code image_reader_finish(struct image_reader *r, struct image_request *out, struct err *err)
{
    struct image_request request = {.operation = r->operation, .spec = {.operation = r->operation}};
    enum err_code code = r->failed.code;

    if (code == ERR_OK)
        code = r->form != NULL ? form_finish(r->form, &request, &r->failed) : finish_json(r, &request, &r->failed);
    if (code == ERR_OK) {
        (void)slice_copy(slice_from(r->boundary), request.boundary, sizeof(request.boundary));
        *out = request;
    }
    TG_ASSERT(code == r->failed.code);
    return tell(r, err);
}

/* ---- the body that goes upstream ---- */

static void write_json(const struct image_request *req, const char *model, struct buf *b)
{
    if (req->model_absent)
        buf_append_str(b, "\"model\":");
    buf_append_json_string(b, slice_from(model));
    if (req->model_absent && !req->object_empty)
        buf_append_char(b, ',');
}

static void write_field(const struct image_request *req, const char *model, struct buf *b)
{
    if (req->model_absent)
        buf_printf(b, "--%s\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n", req->boundary);
    buf_append_str(b, model);
    if (req->model_absent)
        buf_append_str(b, "\r\n");
}

bool image_request_patch(const struct image_request *req, const char *upstream_model, char room[IMAGE_PATCH],
                         struct image_patch *out)
{
    struct buf b;

    if (req->model_given && strcmp(upstream_model, req->spec.model) == 0)
        return false;
    buf_init(&b, IMAGE_PATCH);
    if (req->boundary[0] != '\0')
        write_field(req, upstream_model, &b);
    else
        write_json(req, upstream_model, &b);
    TG_ASSERT(!b.full);
    memcpy(room, b.p, b.len);
    *out = (struct image_patch){req->model_start, req->model_end, {room, b.len}};
    buf_dispose(&b);
    return true;
}
