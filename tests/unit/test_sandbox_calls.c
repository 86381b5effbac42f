/* test_sandbox_calls.c - what a well-behaved client gets: pictures of the asked size and format, usage that the token
 * tables give, events in their order, models, and a count of what was served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/images/event_scan.h"
#include "daemon/images/picture_size.h"
#include "lib_sandbox.h"

#define GENERATIONS "/v1/images/generations"
#define EDITS "/v1/images/edits"
#define VARIATIONS "/v1/images/variations"

static void is_picture(const char *b64, const char *magic, int w, int h)
{
    struct picture_size size;
    size_t len;
    char *file = decode64(b64, strlen(b64), &len);
    int got_w, got_h;

    assert_true(len > 64);
    assert_memory_equal(file, magic, strlen(magic));
    picture_size_init(&size);
    picture_size_feed(&size, (struct slice){file, len});
    picture_size_get(&size, &got_w, &got_h);
    assert_int_equal(got_w, w);
    assert_int_equal(got_h, h);
    free(file);
}

static void test_a_generation_of_each_family(void **state)
{
    (void)state;
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"an "
                          "otter\",\"n\":2,\"size\":\"512x512\",\"response_format\":\"b64_json\"}");
    assert_int_equal(said.status, 200);
    assert_true(said.whole);
    is_picture(said_text("data.0.b64_json"), "\x89PNG", 512, 512);
    assert_string_not_equal(said_text("data.0.b64_json"), said_text("data.1.b64_json"));
    assert_null(said_member("data.2"));
    assert_null(said_member("usage"));
    ask_json(GENERATIONS, "{\"model\":\"dall-e-3\",\"prompt\":\"an otter\",\"size\":\"1792x1024\"}");
    assert_string_equal(said_text("data.0.revised_prompt"), "an otter");
    assert_memory_equal(said_text("data.0.url"), "http://sandbox.test/sandbox/images/1792x1024-", 45);
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"an otter\",\"quality\":\"low\"}");
    is_picture(said_text("data.0.b64_json"), "\x89PNG", 1024, 1024);
    assert_string_equal(said_text("quality"), "low");
    assert_string_equal(said_text("size"), "1024x1024");
    assert_string_equal(said_text("background"), "opaque");
    assert_int_equal(said_number("usage.output_tokens"), 272);
    assert_int_equal(said_number("usage.input_tokens_details.image_tokens"), 0);
    assert_int_equal(said_number("usage.total_tokens"), 272 + said_number("usage.input_tokens"));
    assert_true(said_number("created") > 1700000000);
}

static void test_formats(void **state)
{
    (void)state;
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"output_format\":\"jpeg\",\"output_"
                          "compression\":80,\"size\":\"1536x1024\"}");
    is_picture(said_text("data.0.b64_json"), "\xff\xd8\xff", 1536, 1024);
    assert_string_equal(said_text("output_format"), "jpeg");
    ask_json(GENERATIONS,
             "{\"model\":\"gpt-image-2\",\"prompt\":\"x\",\"output_format\":\"webp\",\"size\":\"1536x864\"}");
    is_picture(said_text("data.0.b64_json"), "RIFF", 1536, 864);
}

static void test_a_url_leads_to_its_picture(void **state)
{
    char path[256];
    const char *at;

    (void)state;
    ask_json(GENERATIONS, "{\"prompt\":\"x [[bytes=300KiB]]\",\"size\":\"256x256\",\"model\":\"dall-e-2\"}");
    at = strstr(said_text("data.0.url"), "/sandbox/images/");
    assert_non_null(at);
    (void)snprintf(path, sizeof(path), "%s", at);
    ask("GET", path, NULL, NULL, 0);
    assert_int_equal(said.status, 200);
    assert_int_equal(said.len, 300 << 10);
    assert_memory_equal(said.body, "\x89PNG", 4);
    ask("GET", "/sandbox/images/9999x9999-0000000000000001-0.png", NULL, NULL, 0);
    assert_int_equal(said.status, 404);
}

static void test_an_edit_of_one_image(void **state)
{
    struct part parts[] = {
        file_part("image", "image/png", "1024x1024", "png", 0, 0),
        {.name = "model", .text = "gpt-image-1"},
        {.name = "prompt", .text = "with a hat"},
        {.name = "quality", .text = "low"},
        {.name = "size", .text = "1024x1536"},
        {.name = "n", .text = "2"},
    };

    (void)state;
    ask_form(EDITS, parts, 6);
    assert_int_equal(said.status, 200);
    is_picture(said_text("data.1.b64_json"), "\x89PNG", 1024, 1536);
    assert_int_equal(said_number("usage.output_tokens"), 2 * 408);
    assert_int_equal(said_number("usage.input_tokens_details.image_tokens"), 2 * 194);
}

static void test_an_edit_of_several_images_with_a_mask(void **state)
{
    struct part parts[] = {
        {.name = "prompt", .text = "with a hat"},
        {.name = "input_fidelity", .text = "high"},
        {.name = "model", .text = "gpt-image-1"},
        file_part("mask", "image/png", "1024x1024", "png", 0, 0),
        file_part("image[]", "image/jpeg", "1024x1024", "jpeg", 0, 1),
        file_part("image[]", "image/webp", "1536x1024", "webp", 0, 2),
    };

    (void)state;
    ask_form(EDITS, parts, 6);
    assert_int_equal(said.status, 200);
    assert_int_equal(said_number("usage.input_tokens_details.image_tokens"), 194 + 4160 + 323 + 6240);
    assert_int_equal(said_number("usage.output_tokens"), 1056);
}

static void test_an_edit_in_json(void **state)
{
    struct part file = file_part("image", NULL, "1024x1024", "png", 3 << 20, 0);
    size_t room = file.len / 3 * 4 + 512;
    char *json = malloc(room);
    size_t n = (size_t)snprintf(json, room, "{\"images\":[{\"image_url\":\"data:image/png;base64,");

    (void)state;
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x [[bytes=3MiB]]\",\"quality\":\"low\"}");
    n += (size_t)snprintf(json + n, room - n, "%s", said_text("data.0.b64_json"));
    (void)snprintf(json + n, room - n,
                   "\"},{\"file_id\":\"file-1\"}],\"prompt\":\"with a "
                   "\\\"hat\\\"\",\"model\":\"gpt-image-1\",\"quality\":\"low\"}");
    ask_json(EDITS, json);
    assert_int_equal(said.status, 200);
    assert_int_equal(said_number("usage.output_tokens"), 272);
    assert_int_equal(said_number("usage.input_tokens_details.image_tokens"), 2 * 194);
    free(json);
}

static void test_a_variation(void **state)
{
    struct part parts[] = {
        file_part("image", "image/png", "256x256", "png", 0, 0),
        {.name = "n", .text = "3"},
        {.name = "size", .text = "256x256"},
        {.name = "response_format", .text = "b64_json"},
        {.name = "user", .text = "someone [[images=2]]"},
    };

    (void)state;
    ask_form(VARIATIONS, parts, 4);
    assert_int_equal(said.status, 200);
    is_picture(said_text("data.2.b64_json"), "\x89PNG", 256, 256);
    assert_null(said_member("usage"));
    ask_form(VARIATIONS, parts, 5);
    assert_non_null(said_member("data.1"));
    assert_null(said_member("data.2"));
}

static struct reply_facts scan(void)
{
    struct event_scan *s = malloc(sizeof(*s));
    struct reply_facts facts;

    event_scan_init(s);
    event_scan_feed(s, said.body, said.len);
    event_scan_finish(s, &facts);
    free(s);
    return facts;
}

static void test_a_stream_of_a_generation(void **state)
{
    struct reply_facts facts;
    char type[256];

    (void)state;
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"stream\":true,\"partial_images\":2,"
                          "\"quality\":\"low\",\"size\":\"1024x1024\"}");
    assert_int_equal(said.status, 200);
    assert_true(said.whole);
    assert_memory_equal(said_header("content-type", type), "text/event-stream", 17);
    assert_ptr_equal(said.body, strstr(said.body, "event: image_generation.partial_image\ndata: {\"type\":"
                                                  "\"image_generation.partial_image\",\"b64_json\":\"iVBOR"));
    facts = scan();
    assert_true(facts.whole);
    assert_int_equal(facts.images, 1);
    assert_int_equal(facts.partial_images, 2);
    assert_int_equal(facts.usage, REPLY_USAGE_GOOD);
    assert_int_equal(facts.quantities.of[PRICE_IMAGE_OUTPUT], 272 + 200);
    assert_string_equal(facts.size, "1024x1024");
    assert_string_equal(facts.quality, "low");
    assert_memory_equal(said.body + said.len - 2, "\n\n", 2);
}

static void test_a_stream_of_an_edit(void **state)
{
    struct part parts[] = {
        {.name = "stream", .text = "true"},       {.name = "partial_images", .text = "1"},
        {.name = "model", .text = "gpt-image-1"}, file_part("image", "image/png", "1024x1024", "png", 0, 0),
        {.name = "prompt", .text = "a hat"},      {.name = "n", .text = "3"},
        {.name = "quality", .text = "medium"},
    };
    struct reply_facts facts;

    (void)state;
    ask_form(EDITS, parts, 7);
    assert_int_equal(said.status, 200);
    facts = scan();
    assert_int_equal(facts.images, 3);
    assert_int_equal(facts.partial_images, 3);
    assert_int_equal(facts.quantities.of[PRICE_IMAGE_OUTPUT], 3 * 1056 + 3 * 100);
    assert_int_equal(facts.quantities.of[PRICE_IMAGE_INPUT], 3 * 194);
    assert_non_null(strstr(said.body, "event: image_edit.completed\n"));
}

/* Kilobytes of this process that are in memory, the sandbox's included. */
static long resident(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long kb = -1;

    assert_non_null(f);
    while (kb < 0 && fgets(line, sizeof(line), f) != NULL)
        (void)sscanf(line, "VmRSS: %ld", &kb);
    fclose(f);
    return kb;
}

/* Six images of 18 MB each, in JSON or in a form. */
static void send_large(const char *type, const char *before, const char *each, const char *between, const char *after,
                       char fill)
{
    enum { PIECE = 1 << 20, IMAGES = 6, PIECES = 18 };
    size_t len = strlen(before) + IMAGES * (strlen(each) + PIECES * (size_t)PIECE) + (IMAGES - 1) * strlen(between) +
                 strlen(after);
    char *piece = malloc(PIECE);
    long most = 0, start;
    int fd;

    memset(piece, fill, PIECE);
    start = resident();
    fd = ask_begin("POST", EDITS, type, len);
    assert_true(ask_bytes(fd, before, strlen(before)));
    for (int i = 0; i < IMAGES; i++) {
        assert_true(ask_bytes(fd, each, strlen(each)));
        for (int k = 0; k < PIECES; k++)
            assert_true(ask_bytes(fd, piece, PIECE));
        most = resident() > most ? resident() : most;
        assert_true(ask_bytes(fd, i < IMAGES - 1 ? between : after, strlen(i < IMAGES - 1 ? between : after)));
    }
    ask_end(fd);
    assert_true(most - start < 16 * 1024);
    free(piece);
}

static void test_a_large_upload_takes_no_memory(void **state)
{
    (void)state;
    send_large("multipart/form-data; boundary=b",
               "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n"
               "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-image-1\r\n",
               "--b\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a\"\r\n"
               "Content-Type: image/png\r\n\r\n",
               "\r\n", "\r\n--b--\r\n", '\0');
    said_refusal(400, "invalid_image_file", "image", "for image 1");
    send_large("application/json", "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"images\":[",
               "{\"image_url\":\"https://example.com/", "\"},", "\"}]}", 'A');
    assert_int_equal(said.status, 200);
}

static void test_models(void **state)
{
    (void)state;
    ask("GET", "/v1/models", NULL, NULL, 0);
    assert_string_equal(said_text("object"), "list");
    assert_string_equal(said_text("data.0.object"), "model");
    ask("GET", "/v1/models/gpt-image-2", NULL, NULL, 0);
    assert_string_equal(said_text("id"), "gpt-image-2");
    ask("GET", "/v1/models/none", NULL, NULL, 0);
    said_refusal(404, "model_not_found", "model", "does not exist");
}

static void test_what_was_served_is_counted(void **state)
{
    int64_t requests, images, partials;

    (void)state;
    ask("GET", "/sandbox/served", NULL, NULL, 0);
    requests = said_number("requests");
    images = said_number("images");
    partials = said_number("partial_images");
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x\",\"n\":3}");
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[die=50%]]\",\"n\":2}");
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[status=500]]\",\"n\":2}");
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[die=headers]]\",\"n\":2}");
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"stream\":true,\"partial_images\":3,"
                          "\"quality\":\"low\",\"n\":2}");
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x [[events=error]]\",\"stream\":true,\"n\":2}");
    ask("GET", "/sandbox/served", NULL, NULL, 0);
    assert_int_equal(said_number("requests"), requests + 4);
    assert_int_equal(said_number("images"), images + 3 + 2 + 2 + 1);
    assert_int_equal(said_number("partial_images"), partials + 6);
    assert_non_null(strstr(said_text("by_key"), "\"sk-"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_generation_of_each_family),
        cmocka_unit_test(test_formats),
        cmocka_unit_test(test_a_url_leads_to_its_picture),
        cmocka_unit_test(test_an_edit_of_one_image),
        cmocka_unit_test(test_an_edit_of_several_images_with_a_mask),
        cmocka_unit_test(test_an_edit_in_json),
        cmocka_unit_test(test_a_variation),
        cmocka_unit_test(test_a_stream_of_a_generation),
        cmocka_unit_test(test_a_stream_of_an_edit),
        cmocka_unit_test(test_a_large_upload_takes_no_memory),
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_what_was_served_is_counted),
    };

    return cmocka_run_group_tests(tests, sandbox_up, sandbox_down);
}
