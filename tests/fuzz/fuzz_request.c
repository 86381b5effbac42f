/* fuzz_request.c - any bytes as a call of any of the three operations, JSON or form: read or refused, the same at every
 * split; what was read survives a change of the model's name. The first byte is the operation, the next two say how to
 * split, the first line is the Content-Type. */
#include <stdlib.h>

#include "daemon/images/request.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    model_init();
    return 0;
}

/* How a body is to be read. */
struct way {
    enum image_operation operation;
    struct slice type;
};

static enum err_code read_body(const struct way *way, struct slice body, unsigned seed, struct image_request *out,
                               struct err *err)
{
    struct image_reader *r;
    size_t at = 0;
    unsigned x = seed;
    enum err_code code = image_reader_create(way->operation, way->type, &r, err);

    if (code != ERR_OK)
        return code;
    while (at < body.len && code == ERR_OK) {
        size_t n = seed == 0 ? body.len : 1 + (x = x * 1103515245U + 12345U, x >> 16) % 40;
        char *copy;

        n = n < body.len - at ? n : body.len - at;
        copy = mem_alloc(n);
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

static void check_spec(const struct image_request *a, const struct image_request *b)
{
    const struct image_spec *s = &a->spec, *t = &b->spec;

    TG_ASSERT(a->operation == b->operation && s->operation == t->operation && s->n == t->n);
    TG_ASSERT(s->prompt_bytes == t->prompt_bytes && s->partial_images == t->partial_images);
    TG_ASSERT(strcmp(s->size, t->size) == 0 && strcmp(s->quality, t->quality) == 0 && s->n_inputs == t->n_inputs);
    TG_ASSERT(s->high_fidelity == t->high_fidelity && a->stream == b->stream);
    TG_ASSERT(strcmp(a->boundary, b->boundary) == 0);
    for (int i = 0; i < s->n_inputs; i++)
        TG_ASSERT(s->inputs[i].w == t->inputs[i].w && s->inputs[i].h == t->inputs[i].h);
}

/* The body with its model renamed, as one text. */
static struct buf rename_model(const struct image_request *r, struct slice body, const char *model)
{
    struct image_patch patch = {0, 0, SLICE_NONE};
    char room[IMAGE_PATCH];
    struct buf all;

    buf_init(&all, body.len + sizeof(room));
    if (image_request_patch(r, model, room, &patch)) {
        TG_ASSERT(patch.start <= patch.end && patch.end <= body.len);
        buf_append(&all, body.p, (size_t)patch.start);
        buf_append_slice(&all, patch.text);
    }
    buf_append(&all, body.p + patch.end, body.len - (size_t)patch.end);
    TG_ASSERT(!all.full);
    return all;
}

static void check_read(const struct way *way, struct slice body, const struct image_request *r)
{
    struct image_request again;
    struct err err;
    struct buf sent = rename_model(r, body, "no such model"), back = rename_model(r, body, r->spec.model);
    enum err_code code = read_body(way, buf_slice(&sent), 0, &again, &err);

    /* another model has other limits, but the text is as good as before */
    TG_ASSERT(code != ERR_BAD_JSON && code != ERR_DUPLICATE_PARAMETER && code != ERR_UNKNOWN_PARAMETER);
    if (code == ERR_OK)
        TG_ASSERT(again.model_given && strcmp(again.spec.model, "no such model") == 0);
    /* one more part may be one too many */
    code = read_body(way, buf_slice(&back), 0, &again, &err);
    TG_ASSERT(code == ERR_OK || (r->model_absent && (r->boundary[0] != '\0' || code == ERR_TOO_LARGE)));
    if (code == ERR_OK) {
        TG_ASSERT(again.model_given && strcmp(r->spec.model, again.spec.model) == 0);
        check_spec(r, &again);
    }
    buf_dispose(&sent);
    buf_dispose(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_request whole, cut;
    struct err err = {.code = ERR_OK}, cut_err = {.code = ERR_OK};
    struct slice all, body;
    struct way way;
    enum err_code code;

    if (size < 4)
        return 0;
    all = (struct slice){(const char *)data + 3, size - 3};
    way.operation = OPERATION_GENERATIONS + data[0] % 3;
    if (!slice_cut(all, '\n', &way.type, &body))
        return 0;
    code = read_body(&way, body, 0, &whole, &err);
    TG_ASSERT(read_body(&way, body, 1U + data[1] + 256U * data[2], &cut, &cut_err) == code);
    if (code != ERR_OK) {
        TG_ASSERT(err.code == code && err.message[0] != '\0' && strcmp(err.message, cut_err.message) == 0);
        TG_ASSERT(strcmp(err.param, cut_err.param) == 0);
        return 0;
    }
    TG_ASSERT(whole.spec.n >= 1 && whole.spec.n <= 10 &&
              whole.spec.n_inputs >= (way.operation != OPERATION_GENERATIONS));
    TG_ASSERT(whole.model_start == cut.model_start && whole.model_end == cut.model_end);
    check_spec(&whole, &cut);
    check_read(&way, body, &whole);
    return 0;
}
