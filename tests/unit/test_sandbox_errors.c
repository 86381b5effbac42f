/* test_sandbox_errors.c - what OpenAI refuses, the sandbox refuses in the same words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib_sandbox.h"

#define GENERATIONS "/v1/images/generations"
#define EDITS "/v1/images/edits"
#define VARIATIONS "/v1/images/variations"

static void test_parameters_that_a_model_does_not_take(void **state)
{
    static const struct {
        const char *json;
        const char *code, *param, *message;
    } rows[] = {
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"response_format\":\"url\"}", "unknown_parameter",
         "response_format", "Unknown parameter: 'response_format'."},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"seed\":1}", "unknown_parameter", "seed",
         "Unknown parameter: 'seed'."},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"style\":\"vivid\"}", "unknown_parameter", "style",
         "Unknown parameter"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"input_fidelity\":\"high\"}", "unknown_parameter",
         "input_fidelity", "Unknown parameter"},
        {"{\"model\":\"dall-e-2\",\"prompt\":\"x\",\"stream\":true}", "unknown_parameter", "stream",
         "Unknown parameter"},
        {"{\"model\":\"dall-e-3\",\"prompt\":\"x\",\"background\":\"opaque\"}", "unknown_parameter", "background",
         "Unknown parameter"},
        {"{\"model\":\"dall-e-2\",\"prompt\":\"x\",\"style\":\"vivid\"}", "unknown_parameter", "style",
         "Unknown parameter"},
        {"{\"model\":\"dall-e-3\",\"prompt\":\"x\",\"style\":\"loud\"}", "invalid_value", "style",
         "Supported values are: 'vivid' and 'natural'."},
        {"{\"model\":\"dall-e-2\",\"prompt\":\"x\",\"response_format\":\"b64\"}", "invalid_value", "response_format",
         "Supported values are: 'b64_json' and 'url'."},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"quality\":\"hd\"}", "invalid_value", "quality",
         "Invalid value: 'hd'. Supported values are: 'low', 'medium', 'high', and 'auto'."},
        {"{\"model\":\"gpt-image-2\",\"prompt\":\"x\",\"quality\":\"xhigh\"}", "invalid_value", "quality",
         "Invalid value: 'xhigh'."},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"output_format\":\"bmp\"}", "invalid_value", "output_format",
         "'png', 'jpeg', and 'webp'."},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"output_format\":3}", "invalid_type", "output_format",
         "expected a string"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"output_compression\":101}", "integer_above_max_value",
         "output_compression", "101"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"moderation\":\"off\"}", "invalid_value", "moderation",
         "'low' and 'auto'"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"background\":\"transparent\",\"output_format\":\"jpeg\"}",
         "invalid_value", "background", "Transparent"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"partial_images\":2}", "invalid_value", "partial_images",
         "'stream'"},
        {"{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"n\":11}", "integer_above_max_value", "n", "11"},
        {"{\"model\":\"dall-e-3\",\"prompt\":\"x\",\"n\":2}", NULL, NULL, "You must provide n=1 for this model."},
        {"{\"model\":\"gpt-image-1\"}", "missing_required_parameter", "prompt",
         "Missing required parameter: 'prompt'."},
        {"{\"model\":", NULL, NULL, "We could not parse the JSON body"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask_json(GENERATIONS, rows[i].json);
        said_refusal(400, rows[i].code, rows[i].param, rows[i].message);
    }
    ask_json(GENERATIONS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"style\":null,\"size\":null,\"quality\":"
                          "\"low\",\"stream\":null}");
    assert_int_equal(said.status, 200);
    ask_json(GENERATIONS, "{\"model\":\"midjourney\",\"prompt\":\"x\"}");
    said_refusal(404, "model_not_found", "model", "`midjourney`");
}

static void test_heads(void **state)
{
    (void)state;
    ask("POST", GENERATIONS, "text/plain", "{}", 2);
    said_refusal(400, "unsupported_content_type", NULL, "text/plain");
    ask("POST", VARIATIONS, "application/json", "{}", 2);
    said_refusal(400, "unsupported_content_type", NULL, "application/json");
    ask("POST", EDITS, "multipart/form-data", "x", 1);
    assert_int_equal(said.status, 400);
    ask("GET", EDITS, NULL, NULL, 0);
    assert_int_equal(said.status, 405);
    ask("POST", "/v1/images/foo", "application/json", "{}", 2);
    assert_int_equal(said.status, 404);
}

/* An edit by <model> of <image>, and of <more> when it has a name. */
static void edit(const char *model, struct part image, struct part more)
{
    const struct part parts[] = {image, {.name = "model", .text = model}, {.name = "prompt", .text = "a hat"}, more};

    ask_form(EDITS, parts, more.name != NULL ? 4 : 3);
}

static const struct part nothing = {.name = NULL};

static void test_files_of_a_gpt_image_edit(void **state)
{
    struct part image = file_part("image", "image/png", "256x256", "png", 0, 0);
    struct part other = image;

    (void)state;
    other.type = NULL;
    edit("gpt-image-1", other, nothing);
    said_refusal(400, "missing_file_mimetype", "image", "Invalid file 'image': failed to determine mimetype.");
    other.type = "application/octet-stream";
    edit("gpt-image-1", other, nothing);
    said_refusal(400, "unsupported_file_mimetype", "image",
                 "unsupported mimetype ('application/octet-stream'). Supported file formats are 'image/jpeg', "
                 "'image/png', and 'image/webp'.");
    other = image;
    other.bytes = "certainly no picture, whatever its name says";
    other.len = 44;
    edit("gpt-image-1", other, nothing);
    said_refusal(400, "invalid_image_file", "image",
                 "Invalid image file or mode for image 1, please check your image file.");
    other.len = 0;
    edit("gpt-image-1", other, nothing);
    assert_int_equal(said.status, 400);
    edit("gpt-image-1", image, image);
    said_refusal(400, "duplicate_parameter", "image", "Duplicate parameter: 'image'.");
    edit("gpt-image-1", image, (struct part){.name = "moderation", .text = "low"});
    said_refusal(400, "unknown_parameter", "moderation", "Unknown parameter");
    edit("gpt-image-1", image, (struct part){.name = "output_compression", .text = "200"});
    said_refusal(400, "integer_above_max_value", "output_compression", "200");
    edit("gpt-image-1", image, (struct part){.name = "prompt", .text = "again"});
    said_refusal(400, "duplicate_parameter", "prompt", "Duplicate parameter: 'prompt'.");
    edit("gpt-image-1", (struct part){.name = "user", .text = "x"}, nothing);
    said_refusal(400, "missing_required_parameter", "image", "Missing required parameter: 'image'.");
    edit("gpt-image-1", (struct part){.name = "image", .text = "x"}, nothing);
    said_refusal(400, "invalid_type", "image", "Invalid type for 'image'");
}

static void test_masks(void **state)
{
    struct part image = file_part("image", "image/png", "512x512", "png", 0, 0);

    (void)state;
    edit("gpt-image-1", image, file_part("mask", "image/png", "256x256", "png", 0, 1));
    said_refusal(400, "invalid_image_file", "image", "for image 2");
    edit("gpt-image-1", image, file_part("mask", "image/jpeg", "512x512", "jpeg", 0, 1));
    said_refusal(400, "unsupported_file_mimetype", "mask", "'image/png'.");
    edit("gpt-image-1", image, file_part("mask", "image/png", "512x512", "jpeg", 0, 1));
    said_refusal(400, "invalid_image_file", "image", "for image 2");
    edit("gpt-image-1", image, file_part("mask", "image/png", "512x512", "png", (4 << 20) + 1, 1));
    said_refusal(400, "file_above_max_size", "mask", "4 MB");
    edit("gpt-image-1", image, file_part("mask", "image/png", "512x512", "png", 4 << 20, 1));
    assert_int_equal(said.status, 200);
    edit("dall-e-2", image, file_part("mask", "image/png", "512x512", "png", 0, 1));
    assert_int_equal(said.status, 200);
}

static void test_images_of_dalle2(void **state)
{
    struct part good = file_part("image", "image/png", "256x256", "png", 4 << 20, 0);
    static const struct {
        const char *size, *format;
        int64_t bytes;
        const char *code, *param;
    } bad[] = {{"256x256", "png", (4 << 20) + 1, NULL, "image"},
               {"256x512", "png", 0, "invalid_image_format", NULL},
               {"256x256", "jpeg", 0, "invalid_image_format", NULL}};

    (void)state;
    edit("dall-e-2", good, nothing);
    assert_int_equal(said.status, 200);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct part image = file_part("image", "image/png", bad[i].size, bad[i].format, bad[i].bytes, 1);

        edit("dall-e-2", image, nothing);
        said_refusal(400, bad[i].code, bad[i].param, "Uploaded image must be a PNG and less than 4 MB.");
        ask_form(VARIATIONS, &image, 1);
        said_refusal(400, bad[i].code, bad[i].param, "Uploaded image must be a PNG and less than 4 MB.");
    }
    good.type = "image/jpeg";
    edit("dall-e-2", good, nothing);
    said_refusal(400, "unsupported_file_mimetype", "image", "Supported file formats are 'image/png'.");
}

static void test_models_that_cannot(void **state)
{
    struct part image = file_part("image", "image/png", "256x256", "png", 0, 0);
    const struct part variation[] = {image, {.name = "model", .text = "gpt-image-1"}};
    const struct part prompted[] = {image, {.name = "prompt", .text = "x"}};

    (void)state;
    edit("dall-e-3", image, nothing);
    said_refusal(400, "invalid_value", "model", "'dall-e-3'");
    ask_form(VARIATIONS, variation, 2);
    said_refusal(400, "invalid_value", "model", "Value must be 'dall-e-2'.");
    ask_form(VARIATIONS, prompted, 2);
    said_refusal(400, "unknown_parameter", "prompt", "Unknown parameter: 'prompt'.");
    ask_json(EDITS, "{\"model\":\"dall-e-2\",\"prompt\":\"x\",\"images\":[{\"file_id\":\"file-1\"}]}");
    said_refusal(400, "unsupported_content_type", NULL, "'multipart/form-data'");
}

static void test_edits_in_json(void **state)
{
    (void)state;
    ask_json(EDITS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"images\":[{\"file_id\":\"file-1\"},{\"image_url\":"
                    "\"https://example.com/a.png\"}],\"quality\":\"low\"}");
    assert_int_equal(said.status, 200);
    ask_json(EDITS, "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"images\":[{\"file_id\":\"file-1\"},{\"image_url\":"
                    "\"data:image/png;base64,AAAA\"}]}");
    said_refusal(400, "invalid_image_file", "image", "for image 2");
    ask_json(EDITS,
             "{\"model\":\"gpt-image-1\",\"prompt\":\"x\",\"images\":[{\"file_id\":\"file-1\"}],\"image\":\"x\"}");
    said_refusal(400, "unknown_parameter", "image", "Unknown parameter");
}

static void test_a_file_at_its_limit(void **state)
{
    struct part image = file_part("image", "image/png", "256x256", "png", 50 << 20, 0);

    (void)state;
    edit("gpt-image-1", image, nothing);
    assert_int_equal(said.status, 200);
    edit("gpt-image-1", file_part("image", "image/png", "256x256", "png", (50 << 20) + 1, 0), nothing);
    said_refusal(413, "request_too_large", "image", "too large");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parameters_that_a_model_does_not_take),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_files_of_a_gpt_image_edit),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_images_of_dalle2),
        cmocka_unit_test(test_models_that_cannot),
        cmocka_unit_test(test_edits_in_json),
        cmocka_unit_test(test_a_file_at_its_limit),
    };

    return cmocka_run_group_tests(tests, sandbox_up, sandbox_down);
}
