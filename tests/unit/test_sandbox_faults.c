/* test_sandbox_faults.c - every directive does on the wire what it says, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "daemon/base/clock.h"
#include "daemon/images/event_scan.h"
#include "lib_sandbox.h"

#define GENERATIONS "/v1/images/generations"

enum { SILENCE = 400, LONG = 30000 }; /* milliseconds */

static char header[256];

/* A plain call, and a stream with two partial images, that ask for <directives>. */
static void plain(const char *directives)
{
    char json[512];

    (void)snprintf(json, sizeof(json), "{\"model\":\"gpt-image-1\",\"quality\":\"low\",\"prompt\":\"an otter %s\"}",
                   directives);
    ask_json(GENERATIONS, json);
}

static void stream(int n, const char *directives)
{
    char json[512];

    (void)snprintf(json, sizeof(json),
                   "{\"model\":\"gpt-image-1\",\"quality\":\"low\",\"stream\":true,\"partial_images\":2,\"n\":%d,"
                   "\"prompt\":\"an otter %s\"}",
                   n, directives);
    ask_json(GENERATIONS, json);
}

static struct reply_facts scan(void)
{
    struct event_scan *s = malloc(sizeof(*s));
    struct reply_facts facts;

    assert_int_equal(said.status, 200);
    event_scan_init(s);
    event_scan_feed(s, said.body, said.len);
    event_scan_finish(s, &facts);
    free(s);
    return facts;
}

static int count(const char *text)
{
    int n = 0;

    for (const char *at = strstr(said.body, text); at != NULL; at = strstr(at + 1, text))
        n++;
    return n;
}

static size_t promised(void)
{
    assert_non_null(said_header("content-length", header));
    return strtoul(header, NULL, 10);
}

static void test_latency(void **state)
{
    (void)state;
    plain("[[latency=150ms]]");
    assert_int_equal(said.status, 200);
    assert_true(said.first_after >= 150000);
    stream(1, "[[latency=150ms]]");
    assert_true(said.first_after >= 150000 && said.whole);
}

static void test_refusals(void **state)
{
    (void)state;
    plain("[[status=429]] [[retry-after=7]]");
    said_refusal(429, "rate_limit_exceeded", NULL, "Rate limit");
    assert_string_equal(said_header("retry-after", header), "7");
    plain("[[status=429]]");
    assert_null(said_header("retry-after", header));
    plain("[[status=503]] [[as=html]]");
    assert_int_equal(said.status, 503);
    assert_string_equal(said_header("content-type", header), "text/html");
    stream(1, "[[status=500]]");
    said_refusal(500, NULL, NULL, "The server had an error");
    assert_string_equal(said_header("content-type", header), "application/json");
    stream(1, "[[moderation]]");
    said_refusal(400, "moderation_blocked", NULL, "safety system");
    assert_string_equal(said_text("error.type"), "image_generation_user_error");
    assert_string_equal(said_text("error.moderation_details.moderation_stage"), "output");
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[moderation]]\"}");
    said_refusal(400, "content_policy_violation", NULL, "safety system");
}

static void test_answers_that_break_off(void **state)
{
    (void)state;
    plain("[[die=headers]]");
    assert_int_equal(said.status, 0);
    assert_false(said.silent);
    plain("[[die=50%]]");
    assert_int_equal(said.status, 200);
    assert_false(said.whole || said.silent);
    assert_int_equal(said.len, promised() / 2);
    plain("[[die=100%]]");
    assert_false(said.whole);
    assert_int_equal(said.len, promised() - 1);
    stream(1, "[[die=2events]]");
    assert_false(said.whole || said.silent);
    assert_int_equal(count("\n\n"), 2);
    assert_memory_equal(said.body + said.len - 2, "\n\n", 2);
    stream(1, "[[die=9events]]");
    assert_false(said.whole);
    assert_int_equal(count("completed\n"), 1);
}

static void test_answers_that_fall_silent(void **state)
{
    (void)state;
    ask_patience(SILENCE, SILENCE);
    plain("[[hang]]");
    assert_true(said.silent);
    assert_int_equal(said.status, 0);
    ask_patience(LONG, SILENCE);
    stream(1, "[[hang=1event]]");
    assert_true(said.silent);
    assert_int_equal(count("partial_image\n"), 1);
    assert_int_equal(count("\n\n"), 1);
    ask_patience(LONG, SILENCE);
    plain("[[hang=50%]]");
    assert_true(said.silent && !said.whole && said.len > 0);
}

static void test_pace(void **state)
{
    (void)state;
    plain("[[bytes=150KiB]] [[slow=1MiB/s]]"); /* 200 KiB in base64 */
    assert_true(said.whole);
    assert_true(said.all_after >= 140000);
    stream(1, "[[pause=60ms]]");
    assert_true(said.whole);
    assert_true(said.all_after >= 120000);
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[split=1]]\",\"size\":\"256x256\"}");
    assert_true(said.whole);
    assert_non_null(said_member("data.0.url"));
}

static void test_what_is_delivered(void **state)
{
    struct reply_facts facts;

    (void)state;
    ask_json(GENERATIONS, "{\"model\":\"dall-e-2\",\"prompt\":\"x [[images=1]]\",\"n\":4}");
    assert_non_null(said_member("data.0"));
    assert_null(said_member("data.1"));
    stream(3, "[[images=2]] [[partials=1]]");
    facts = scan();
    assert_int_equal(facts.images, 2);
    assert_int_equal(facts.partial_images, 2);
    assert_int_equal(facts.quantities.of[PRICE_IMAGE_OUTPUT], 2 * 272 + 2 * 100);
    stream(2, "[[images=0]]");
    assert_int_equal(said.len, 0);
    assert_true(said.whole);
    plain("[[bytes=1MiB]]");
    assert_int_equal(strlen(said_text("data.0.b64_json")), ((1 << 20) + 2) / 3 * 4);
}

static void test_usage_in_json(void **state)
{
    (void)state;
    plain("[[usage=1000,20,4160]]");
    assert_int_equal(said_number("usage.input_tokens"), 1020);
    assert_int_equal(said_number("usage.input_tokens_details.image_tokens"), 20);
    assert_int_equal(said_number("usage.output_tokens"), 4160);
    assert_int_equal(said_number("usage.total_tokens"), 5180);
    plain("[[usage=none]]");
    assert_int_equal(said.status, 200);
    assert_null(said_member("usage"));
    plain("[[usage=negative]]");
    assert_int_equal(said_number("usage.output_tokens_details.image_tokens"), -273);
    plain("[[usage=fractional]]");
    assert_non_null(strstr(said.body, "\"output_tokens\": 272.5"));
    plain("[[usage=huge]]");
    assert_non_null(strstr(said.body, "\"output_tokens\": 99999999999999999999"));
    plain("[[usage=inconsistent]]");
    assert_int_equal(said_number("usage.total_tokens"), said_number("usage.input_tokens") + 272 + 1);
    plain("[[usage=zero]]");
    assert_int_equal(said_number("usage.total_tokens"), 0);
}

static void test_usage_in_events(void **state)
{
    struct reply_facts facts;

    (void)state;
    stream(3, "[[usage=100,0,1000]]");
    assert_int_equal(count("\"usage\":"), 3);
    facts = scan();
    assert_int_equal(facts.quantities.of[PRICE_IMAGE_OUTPUT], 1000);
    assert_int_equal(facts.quantities.of[PRICE_TEXT_INPUT], 100);
    stream(3, "[[usage=last]]");
    assert_int_equal(count("\"usage\":"), 1);
    assert_int_equal(count("\"output_tokens\": 1416,"), 1); /* 3 * 272 and six partial images */
    stream(3, "[[usage=repeated]]");
    assert_int_equal(count("\"output_tokens\": 1416,"), 3);
    stream(3, "[[usage=none]]");
    assert_int_equal(count("\"usage\":"), 0);
}

static void test_how_events_are_written(void **state)
{
    static const struct {
        const char *directive, *there, *not_there;
    } rows[] = {
        {"[[events=crlf]]", "event: image_generation.completed\r\ndata: {", NULL},
        {"[[events=cr]]", "event: image_generation.completed\rdata: {", "\n"},
        {"[[events=untyped]]", "data: {\"type\":\"image_generation.completed\",", "event:"},
        {"[[events=done]]", "}\n\ndata: [DONE]\n\n", NULL},
        {"[[events=comments]]", "\n\n: keep-alive\n\nevent: image_generation.completed\n", NULL},
        {"[[events=lines]]", "data: {\"type\":\"image_generation.completed\",\ndata: \"b64_json\":\"", NULL},
        {"[[events=minimal]]", "\",\"usage\":{", "created_at"},
        {"[[events=unknown]]", "event: image_generation.queued\ndata: {", NULL},
        {"[[events=untyped,crlf,done]]", "}\r\n\r\ndata: [DONE]\r\n\r\n", "event:"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct reply_facts facts;

        stream(1, rows[i].directive);
        facts = scan();
        assert_non_null(strstr(said.body, rows[i].there));
        assert_true(rows[i].not_there == NULL || strstr(said.body, rows[i].not_there) == NULL);
        assert_int_equal(facts.images, 1);
        assert_int_equal(facts.partial_images, 2);
        assert_int_equal(facts.usage, REPLY_USAGE_GOOD);
    }
    stream(1, "[[events=open]]");
    assert_true(said.whole);
    assert_memory_equal(said.body + said.len - 3, "}}\n", 3);
    stream(2, "[[events=error]]");
    assert_true(scan().has_error && said.whole);
    assert_int_equal(count("completed\n"), 1);
    assert_int_equal(count("event: error\ndata: {\"type\":\"error\",\"error\":{\"message\": "), 1);
}

static void test_another_form_than_asked(void **state)
{
    (void)state;
    stream(1, "[[as=json]]");
    assert_string_equal(said_header("content-type", header), "application/json");
    assert_non_null(said_member("data.0.b64_json"));
    plain("[[as=events]]");
    assert_memory_equal(said_header("content-type", header), "text/event-stream", 17);
    assert_int_equal(scan().images, 1);
    plain("[[as=html]]");
    assert_int_equal(said.status, 200);
    assert_memory_equal(said.body, "<!DOCTYPE html>", 15);
    plain("[[as=text]]");
    assert_string_equal(said_header("content-type", header), "text/plain");
    assert_non_null(said_member("data.0.b64_json"));
    plain("[[as=error]]");
    assert_int_equal(said.status, 200);
    assert_string_equal(said_text("error.type"), "server_error");
    plain("[[as=cut]]");
    assert_true(said.whole);
    assert_null(said_member("data"));
    plain("[[chunked]]");
    assert_true(said.whole);
    assert_null(said_header("content-length", header));
    assert_non_null(said_member("data.0.b64_json"));
}

static void unzip(void)
{
    z_stream z = {.next_in = (Bytef *)said.body, .avail_in = (uInt)said.len};
    size_t room = 64 << 20;
    char *out = malloc(room + 1);

    assert_string_equal(said_header("content-encoding", header), "gzip");
    assert_int_equal(inflateInit2(&z, 15 + 16), Z_OK);
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    free(said.body);
    said.body = out;
    said.len = z.total_out;
    out[said.len] = '\0';
    (void)inflateEnd(&z);
}

static void test_gzip(void **state)
{
    (void)state;
    plain("[[gzip]] [[bytes=2MiB]]");
    assert_true(said.whole);
    unzip();
    assert_int_equal(strlen(said_text("data.0.b64_json")), ((2 << 20) + 2) / 3 * 4);
    stream(1, "[[gzip]]");
    unzip();
    assert_int_equal(scan().partial_images, 2);
}

static void test_an_early_refusal(void **state)
{
    struct part image = file_part("image", "image/png", "256x256", "png", 0, 0);
    const struct part refused[] = {
        {.name = "prompt", .text = "x [[early]] [[status=400]]"}, {.name = "model", .text = "gpt-image-1"}, image};
    static const char broken[] = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n"
                                 "[[early]] [[status=429]]\r\n--b\r\nContent-Disp";
    const struct part late[] = {
        {.name = "prompt", .text = "x [[early]]"}, {.name = "model", .text = "gpt-image-1"}, image};

    (void)state;
    ask_form("/v1/images/edits", refused, 3);
    said_refusal(400, NULL, NULL, "as it asked for");
    ask("POST", "/v1/images/edits", "multipart/form-data; boundary=b", broken, strlen(broken));
    said_refusal(429, "rate_limit_exceeded", NULL, "Rate limit"); /* though the rest does not fit the form */
    ask_form("/v1/images/edits", late, 3);
    assert_int_equal(said.status, 200);
}

static void test_what_openai_sends_besides(void **state)
{
    (void)state;
    plain("");
    assert_non_null(said_header("openai-organization", header));
    assert_non_null(said_header("set-cookie", header));
    assert_string_equal(said_header("openai-version", header), "2020-10-01");
    assert_memory_equal(said_header("x-request-id", header), "req_", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_latency),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_answers_that_break_off),
        cmocka_unit_test(test_answers_that_fall_silent),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_what_is_delivered),
        cmocka_unit_test(test_usage_in_json),
        cmocka_unit_test(test_usage_in_events),
        cmocka_unit_test(test_how_events_are_written),
        cmocka_unit_test(test_another_form_than_asked),
        cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_an_early_refusal),
        cmocka_unit_test(test_what_openai_sends_besides),
    };

    return cmocka_run_group_tests(tests, sandbox_up, sandbox_down);
}
