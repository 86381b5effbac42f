/* lib_request.c - see lib_request.h. */
#include "lib_request.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

enum { EVERY_CUT = 2000, FORM_MAX = 128 * 1024 * 1024 };

/* The first <first> bytes, then pieces of <piece>. */
static enum err_code read_cut(enum image_operation operation, const char *type, struct slice body, size_t first,
                              size_t piece, struct image_request *out, struct err *err)
{
    struct image_reader *r;
    enum err_code code = image_reader_create(operation, slice_from(type), &r, err);
    size_t at = 0;

    if (code != ERR_OK)
        return code;
    while (at < body.len && code == ERR_OK) {
        size_t want = at == 0 && first > 0 ? first : piece;
        size_t n = want < body.len - at ? want : body.len - at;
        char *copy = mem_alloc(n);

        memcpy(copy, body.p + at, n);
        code = image_reader_feed(r, (struct slice){copy, n}, err);
        free(copy);
        at += n;
    }
    if (code == ERR_OK)
        code = image_reader_finish(r, out, err);
    image_reader_destroy(r);
    return code;
}

enum err_code lib_request_read(enum image_operation operation, const char *type, struct slice body, size_t piece,
                               struct image_request *out, struct err *err)
{
    return read_cut(operation, type, body, 0, piece, out, err);
}

static void check_same(const struct image_request *a, const struct image_request *b)
{
    assert_int_equal(a->operation, b->operation);
    assert_string_equal(a->spec.model, b->spec.model);
    assert_string_equal(a->spec.size, b->spec.size);
    assert_string_equal(a->spec.quality, b->spec.quality);
    assert_int_equal(a->spec.n, b->spec.n);
    assert_int_equal(a->spec.partial_images, b->spec.partial_images);
    assert_int_equal(a->spec.prompt_bytes, b->spec.prompt_bytes);
    assert_int_equal(a->spec.high_fidelity, b->spec.high_fidelity);
    assert_int_equal(a->spec.n_inputs, b->spec.n_inputs);
    for (int i = 0; i < a->spec.n_inputs; i++) {
        assert_int_equal(a->spec.inputs[i].w, b->spec.inputs[i].w);
        assert_int_equal(a->spec.inputs[i].h, b->spec.inputs[i].h);
    }
    assert_int_equal(a->stream, b->stream);
    assert_int_equal(a->model_given, b->model_given);
    assert_int_equal(a->model_start, b->model_start);
    assert_int_equal(a->model_end, b->model_end);
    assert_int_equal(a->model_absent, b->model_absent);
    assert_int_equal(a->object_empty, b->object_empty);
    assert_string_equal(a->boundary, b->boundary);
}

struct result {
    enum err_code code;
    struct image_request request;
    struct err err;
};

static void check_cut(enum image_operation operation, const char *type, struct slice body, size_t first, size_t piece,
                      const struct result *whole)
{
    struct result again = {.code = ERR_OK};

    again.code = read_cut(operation, type, body, first, piece, &again.request, &again.err);
    if (again.code != whole->code)
        fail_msg("cut at %zu, then %zu: %s, not %s: %s", first, piece, err_name(again.code), err_name(whole->code),
                 again.code != ERR_OK ? again.err.message : whole->err.message);
    if (whole->code == ERR_OK) {
        check_same(&whole->request, &again.request);
    } else {
        assert_string_equal(whole->err.param, again.err.param);
        assert_string_equal(whole->err.message, again.err.message);
    }
}

static struct result read_everywhere(enum image_operation operation, const char *type, struct slice body)
{
    struct result whole = {.code = ERR_OK};

    whole.code = read_cut(operation, type, body, 0, body.len + 1, &whole.request, &whole.err);
    if (body.len <= EVERY_CUT) {
        check_cut(operation, type, body, 0, 1, &whole);
        check_cut(operation, type, body, 0, 7, &whole);
        for (size_t cut = 1; cut < body.len; cut++)
            check_cut(operation, type, body, cut, body.len, &whole);
    } else {
        check_cut(operation, type, body, 0, 4093, &whole);
    }
    return whole;
}

struct image_request lib_request_good(enum image_operation operation, const char *type, struct slice body)
{
    struct result result = read_everywhere(operation, type, body);

    if (result.code != ERR_OK)
        fail_msg("%.*s: %s", body.len < 400 ? (int)body.len : 400, body.p, result.err.message);
    return result.request;
}

void lib_request_refused(enum image_operation operation, const char *type, struct slice body, enum err_code code,
                         const char *param, const char *message)
{
    struct result result = read_everywhere(operation, type, body);

    if (result.code != code)
        fail_msg("%.*s: got %s (%s), not %s", body.len < 400 ? (int)body.len : 400, body.p, err_name(result.code),
                 result.err.message, err_name(code));
    assert_string_equal(result.err.param, param);
    if (message != NULL)
        assert_string_equal(result.err.message, message);
}

struct buf lib_request_patch(const struct image_request *req, struct slice body, const char *model)
{
    struct image_patch patch = {0, 0, SLICE_NONE};
    char room[IMAGE_PATCH];
    struct buf out;

    buf_init(&out, FORM_MAX);
    if (image_request_patch(req, model, room, &patch)) {
        assert_true(patch.start <= patch.end && patch.end <= body.len);
        buf_append(&out, body.p, (size_t)patch.start);
        buf_append_slice(&out, patch.text);
    }
    buf_append(&out, body.p + patch.end, body.len - (size_t)patch.end);
    buf_append_char(&out, '\0');
    out.len--;
    assert_false(out.full);
    return out;
}

void lib_form_init(struct buf *form)
{
    buf_init(form, FORM_MAX);
}

void lib_form_field(struct buf *form, const char *name, const char *value)
{
    buf_printf(form, "--xYzZY\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", name, value);
}

void lib_form_file(struct buf *form, const char *name, const char *filename, const char *type, struct slice content)
{
    buf_printf(form,
               "--xYzZY\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"%s\"\r\nContent-Type: %s\r\n\r\n",
               name, filename, type);
    buf_append_slice(form, content);
    buf_append_str(form, "\r\n");
}

void lib_form_end(struct buf *form)
{
    buf_append_str(form, "--xYzZY--\r\n");
    assert_false(form->full);
}
