/* test_images_torn.c - events that break off when a part of them has left, and how they become an error. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "daemon/base/buf.h"
#include "daemon/base/json.h"
#include "daemon/images/event_scan.h"

#define PARTIAL "event: image_generation.partial_image\n"
#define COMPLETED "event: image_generation.completed\n"
#define PARTIAL_DATA                                                                                                   \
    "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"aGVs\",\"partial_image_index\":0}\n\n"

/* Ends a torn event with the error as its last member, and reads what the client then has of it. */
static struct json_object *mended(const char *text, size_t len)
{
    struct event_scan s;
    struct json_object *root;
    struct slice rest;
    struct buf data;
    uint64_t keep;
    const char *start;

    event_scan_init(&s);
    event_scan_feed(&s, text, len);
    if (!event_scan_mend(&s, &keep, &rest))
        return NULL;
    assert_true(keep >= event_scan_free(&s) && keep <= len);
    start = strstr(text, "data: ");
    assert_non_null(start);
    buf_init(&data, len + 64);
    buf_append(&data, start + 6, keep - (size_t)(start + 6 - text));
    buf_append_slice(&data, rest);
    buf_append_str(&data, ",\"error\":{\"code\":\"upstream_error\"}}");
    assert_int_equal(json_read(buf_slice(&data), &root, NULL), ERR_OK);
    buf_dispose(&data);
    return root;
}

static void assert_mended(const char *text, size_t len, bool can)
{
    struct json_object *root = mended(text, len), *error, *picture;

    assert_int_equal(root != NULL, can);
    if (root == NULL)
        return;
    assert_true(json_find(root, "error", &error));
    if (json_find(root, "b64_json", &picture))
        assert_true(json_object_get_string_len(picture) < 9000);
    json_object_put(root);
}

static void test_torn_events_can_be_mended(void **state)
{
    struct buf text;
    size_t picture, after;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_append_str(&text, PARTIAL_DATA COMPLETED "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"");
    picture = text.len;
    for (int i = 0; i < 9000; i++)
        buf_append_char(&text, "aGVs"[i % 4]);
    after = text.len;
    buf_append_str(&text, "\",\"usage\":{\"input_tokens\":30,\"output_tokens\":4160,\"total_tokens\":4190}}");
    buf_append_char(&text, '\0');
    text.len--;
    text.p[picture - 1] = '"';
    assert_mended(text.p, picture + 100, false); /* nothing of the event has left: it is just taken back */
    assert_mended(text.p + sizeof(PARTIAL_DATA) - 1, EVENT_TAIL + 200, true);
    for (size_t len = picture + EVENT_TAIL + 1; len <= after; len += 97)
        assert_mended(text.p + sizeof(PARTIAL_DATA) - 1, len - sizeof(PARTIAL_DATA) + 1, true);
    for (size_t len = after; len < text.len; len++)
        assert_mended(text.p + sizeof(PARTIAL_DATA) - 1, len - sizeof(PARTIAL_DATA) + 1, true);
    buf_dispose(&text);
}

static void test_torn_escapes_can_be_mended(void **state)
{
    static const char *const ends[] = {"x", "\\", "\\\\", "\\u", "\\u0", "\\u00", "\\u004", "\\u0041"};
    struct buf text;

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        buf_init(&text, 1 << 20);
        buf_append_str(&text, PARTIAL "data: {\"text\":\"");
        for (int k = 0; k < EVENT_TAIL; k++)
            buf_append_char(&text, 'x');
        buf_append_str(&text, ends[i]);
        buf_append_char(&text, '\0');
        assert_mended(text.p, text.len - 1, true);
        buf_dispose(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn_events_can_be_mended),
        cmocka_unit_test(test_torn_escapes_can_be_mended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
