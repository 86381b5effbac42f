/* fuzz_request.c - any bytes as a generations request: read or refused; what was read survives a change of the model's
 * name. */
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

/* The body with its model renamed, as one text. */
static struct buf rename_model(const struct image_request *r, struct slice body, const char *model)
{
    char name[IMAGE_REQUEST_NAME];
    struct slice parts[3];
    struct buf all;
    size_t length;
    int n = image_request_body(r, body, model, name, sizeof(name), parts, &length);

    buf_init(&all, body.len + sizeof(name));
    for (int i = 0; i < n; i++)
        buf_append_slice(&all, parts[i]);
    TG_ASSERT(!all.full && all.len == length);
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body = {(const char *)data, size};
    struct image_request first, second;
    struct err err = {0};
    struct buf sent, back;

    (void)!image_request_check_type(body, &err);
    err = (struct err){0};
    if (image_request_read(body, &first, &err) != ERR_OK) {
        TG_ASSERT(err.code != ERR_OK && err.message[0] != '\0');
        return 0;
    }
    TG_ASSERT(first.spec.n >= 1 && first.spec.n <= 10 && first.model_end <= size && first.object_start <= size);
    sent = rename_model(&first, body, "\x01\"\\ no such model");
    TG_ASSERT(image_request_read(buf_slice(&sent), &second, &err) == ERR_OK || err.code != ERR_BAD_JSON);
    back = rename_model(&first, body, first.spec.model);
    if (image_request_read(buf_slice(&back), &second, &err) != ERR_OK)
        abort();
    TG_ASSERT(second.model_given && strcmp(first.spec.model, second.spec.model) == 0);
    TG_ASSERT(first.spec.n == second.spec.n && first.spec.prompt_bytes == second.spec.prompt_bytes);
    TG_ASSERT(first.stream == second.stream && first.spec.partial_images == second.spec.partial_images);
    TG_ASSERT(strcmp(first.spec.size, second.spec.size) == 0 && strcmp(first.spec.quality, second.spec.quality) == 0);
    buf_dispose(&sent);
    buf_dispose(&back);
    return 0;
}
