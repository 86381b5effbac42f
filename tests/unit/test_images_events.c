/* test_images_events.c - what event streams say, whole and at every split, and how much of them may leave when. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/base/buf.h"
#include "daemon/images/event_scan.h"

#define PARTIAL "event: image_generation.partial_image\n"
#define COMPLETED "event: image_generation.completed\n"
#define PARTIAL_DATA                                                                                                   \
    "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"aGVs\",\"partial_image_index\":0}\n\n"
#define COMPLETED_DATA                                                                                                 \
    "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"aGVs\",\"size\":\"1024x1024\",\"quality\":"         \
    "\"high\",\"usage\":{\"input_tokens\":30,\"input_tokens_details\":{\"text_tokens\":20,\"image_tokens\":10},"       \
    "\"output_tokens\":4160,\"total_tokens\":4190}}\n\n"

/* All that a scan tells after its end. */
struct told {
    struct reply_facts facts;
    uint64_t before, after; /* may leave before and after the stream's end was told */
    int completed;
    bool ended, at_line;
};

static void feed(struct event_scan *s, const char *text, size_t len)
{
    uint64_t before = event_scan_free(s);
    uint64_t after;

    event_scan_feed(s, text, len);
    after = event_scan_free(s);
    assert_true(before <= after && after <= s->offset);
    assert_true(s->frozen || s->offset - after <= EVENT_TAIL);
}

static struct told finish(struct event_scan *s)
{
    struct told t = {.before = event_scan_free(s), .at_line = event_scan_at_line(s)};

    event_scan_finish(s, &t.facts);
    t.after = event_scan_free(s);
    t.completed = event_scan_completed(s);
    t.ended = event_scan_ended(s);
    return t;
}

static void check_same(const struct told *a, const struct told *b)
{
    assert_int_equal(a->facts.whole, b->facts.whole);
    assert_int_equal(a->facts.has_error, b->facts.has_error);
    assert_int_equal(a->facts.has_data, b->facts.has_data);
    assert_int_equal(a->facts.images, b->facts.images);
    assert_int_equal(a->facts.partial_images, b->facts.partial_images);
    assert_int_equal(a->facts.usage, b->facts.usage);
    assert_memory_equal(&a->facts.quantities, &b->facts.quantities, sizeof(a->facts.quantities));
    assert_memory_equal(&a->facts.largest, &b->facts.largest, sizeof(a->facts.largest));
    assert_string_equal(a->facts.size, b->facts.size);
    assert_string_equal(a->facts.quality, b->facts.quality);
    assert_true(a->before == b->before && a->after == b->after);
    assert_int_equal(a->completed, b->completed);
    assert_int_equal(a->ended, b->ended);
    assert_int_equal(a->at_line, b->at_line);
}

/* What is told, after a look that it is the same in two pieces cut anywhere and byte by byte. */
static struct told scan(const char *text)
{
    size_t len = strlen(text);
    struct event_scan s;
    struct told told, again;

    event_scan_init(&s);
    feed(&s, text, len);
    told = finish(&s);
    event_scan_init(&s);
    for (size_t i = 0; i < len; i++)
        feed(&s, text + i, 1);
    again = finish(&s);
    check_same(&told, &again);
    for (size_t cut = 1; cut < len; cut++) {
        event_scan_init(&s);
        feed(&s, text, cut);
        feed(&s, text + cut, len - cut);
        again = finish(&s);
        check_same(&told, &again);
    }
    return told;
}

/* A stream as upstreams send them; the last blank line is the caller's to add. */
static void test_stream(void **state)
{
    struct told t = scan(PARTIAL PARTIAL_DATA PARTIAL PARTIAL_DATA COMPLETED COMPLETED_DATA);

    (void)state;
    assert_true(t.facts.whole && t.facts.has_data && !t.facts.has_error && !t.ended);
    assert_int_equal(t.completed, 1);
    assert_int_equal(t.facts.images, 1);
    assert_int_equal(t.facts.partial_images, 2);
    assert_int_equal(t.facts.usage, REPLY_USAGE_GOOD);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE], 1);
    assert_int_equal(t.facts.quantities.of[PRICE_REQUEST], 1);
    assert_int_equal(t.facts.quantities.of[PRICE_TEXT_INPUT], 20);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE_INPUT], 10);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE_OUTPUT], 4160);
    assert_memory_equal(&t.facts.quantities, &t.facts.largest, sizeof(t.facts.largest));
    assert_string_equal(t.facts.size, "1024x1024");
    assert_string_equal(t.facts.quality, "high");
    t = scan("event: image_edit.completed\n" COMPLETED_DATA "data: [DONE]\n\n");
    assert_true(t.facts.whole && t.ended && t.completed == 1);
    t = scan("");
    assert_true(t.facts.whole && !t.facts.has_data && !t.ended && t.at_line);
}

/* The same stream with another line end. */
static struct told scan_with(const char *line_end, const char *text)
{
    struct told t;
    struct buf b;

    buf_init(&b, 64 * 1024);
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            buf_append_str(&b, line_end);
        else
            buf_append_char(&b, *text);
    }
    buf_append_char(&b, '\0');
    t = scan(b.p);
    buf_dispose(&b);
    return t;
}

static void test_line_ends(void **state)
{
    static const char *const streams[] = {
        PARTIAL PARTIAL_DATA COMPLETED COMPLETED_DATA "data: [DONE]\n\n",
        "\n\n: hello\n\n" COMPLETED ": in between\n" COMPLETED_DATA ": bye\n",
        "data: {\"type\":\ndata: \"image_edit.completed\",\ndata\ndata:\"url\":\"x\"}\n\n",
        "event: error\ndata: {\"error\":{}}\n\n",
    };
    static const char *const ends[] = {"\r\n", "\r"};

    (void)state;
    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        for (size_t j = 0; j < 2; j++) {
            struct told plain = scan(streams[i]);
            struct told t = scan_with(ends[j], streams[i]);

            assert_int_equal(t.facts.whole, plain.facts.whole);
            assert_int_equal(t.completed, plain.completed);
            assert_int_equal(t.facts.images, plain.facts.images);
            assert_int_equal(t.facts.partial_images, plain.facts.partial_images);
            assert_int_equal(t.ended, plain.ended);
            assert_int_equal(t.at_line, plain.at_line);
            assert_memory_equal(&t.facts.quantities, &plain.facts.quantities, sizeof(plain.facts.quantities));
        }
    }
}

/* Names, from where they may come, and what the event then is. */
static void test_names(void **state)
{
    static const struct {
        const char *text;
        int completed, images, partials;
    } cases[] = {
        {"data: {\"b64_json\":\"x\",\"type\":\"image_generation.completed\"}\n\n", 1, 1, 0},
        {"data:{\"url\":\"x\",\"type\":\"image_edit.completed\"}\n\n", 1, 1, 0},
        {"data: {\"type\":\"image_edit.partial_image\",\"b64_json\":\"x\"}\n\n", 0, 0, 1},
        {"data: {\"type\":\"image_generation.complet\\u0065d\",\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"\xEF\xBB\xBF" COMPLETED "data: {\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"\xEF\xBB" COMPLETED "data: {\"b64_json\":\"x\",\"type\":\"a\"}\n\n", 0, 0, 0},
        {COMPLETED "data: {\"b64_json\":\"\"}\n\n", 1, 0, 0}, /* completed, without a picture */
        {COMPLETED "data: {\"usage\":null}\n\n", 1, 0, 0},
        {"event:image_generation.completed \ndata: {\"url\":\"x\"}\n\n", 1, 1, 0},
        /* names that contradict each other */
        {PARTIAL "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {COMPLETED "data: {\"type\":\"image_generation.partial_image\",\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"event: ping\ndata: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {COMPLETED PARTIAL "data: {\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"data: {\"type\":\"x.completed\",\"b64_json\":\"x\",\"type\":\"x.partial_image\"}\n\n", 1, 1, 0},
        /* no name, and yet a picture */
        {"data: {\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"event:\ndata: {\"b64_json\":\"x\",\"type\":7}\n\n", 1, 1, 0},
        {"data: {\"created\":1,\"data\":[{\"url\":\"x\"},{\"url\":\"y\"}]}\n\n", 1, 2, 0},
        {"data: {\"created\":1}\n\n", 0, 0, 0},
        /* a name that cannot be read */
        {"data: {\"type\":\"\xC3\xA9.x\",\"b64_json\":\"x\"}\n\n", 1, 1, 0},
        {"event: 0123456789012345678901234567890123456789012345678901234567890123456789\ndata: {}\n\n", 1, 0, 0},
        /* data that is no JSON */
        {COMPLETED "data: {b64_json: 'x'}\n\n", 1, 1, 0},
        {PARTIAL "data: oops\n\n", 0, 0, 1},
        /* others */
        {"event: ping\ndata: {\"b64_json\":\"x\"}\n\n", 0, 0, 0},
        {"event: completed\ndata: {\"b64_json\":\"x\"}\n\n", 0, 0, 0},
        {COMPLETED "\ndata: {\"type\":\"ping\"}\n\n", 0, 0, 0}, /* an event without data is none */
        {"Data: {\"type\":\"x.completed\"}\n\n", 0, 0, 0},
        {"data : {\"type\":\"x.completed\"}\n\n", 0, 0, 0},
        {" data: {\"type\":\"x.completed\"}\n\n", 0, 0, 0},
        /* line ends of several kinds */
        {PARTIAL "data: {}\r\n\n" COMPLETED "data: {\"url\":\"x\"}\r\rdata: {\"url\":\"x\"}\n\r\n", 2, 2, 1},
        {"dat: {\"type\":\"x.completed\"}\ndatax: {\"type\":\"x.completed\"}\nid: 7\nretry\n\n", 0, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told t = scan(cases[i].text);

        if (t.completed != cases[i].completed || t.facts.images != cases[i].images ||
            t.facts.partial_images != cases[i].partials || !t.facts.whole || t.facts.has_error)
            fail_msg("%s: %d completed, %d images, %d partial", cases[i].text, t.completed, t.facts.images,
                     t.facts.partial_images);
    }
}

static void test_lines_of_data(void **state)
{
    struct told t = scan("data: {\"type\": \"image_generation.completed\",\n: no part of it\n"
                         "data:  \"b64_json\"\nid: 5\ndata: : \"x\", \"usage\":\ndata\n"
                         "data: {\"input_tokens\":1,\"output_tokens\":2}}\n\n");

    (void)state;
    assert_int_equal(t.facts.images, 1);
    assert_int_equal(t.facts.usage, REPLY_USAGE_GOOD);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE_OUTPUT], 2);
    /* lines are joined with a line end, which parts a number */
    t = scan(COMPLETED "data: {\"usage\":{\"input_tokens\":1,\"output_tokens\":1\ndata: 2}}\n\n");
    assert_int_equal(t.facts.usage, REPLY_USAGE_NONE);
}

static void test_errors_and_the_end(void **state)
{
    static const struct {
        const char *text;
        bool has_error, ended;
        int completed;
    } cases[] = {
        {"event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"no\"}}\n\n", true, true, 0},
        {"event: error\ndata: no JSON\n\n", true, true, 0},
        {"data: {\"type\":\"error\",\"message\":\"no\"}\n\n", true, true, 0},
        {"data: {\"error\":{\"message\":\"no\"}}\n\n", true, true, 0},
        {"data: {\"error\":null}\n\n", false, false, 0},
        {COMPLETED "data: {\"error\":{\"message\":\"no\"}}\n\n", true, true, 0},
        {COMPLETED "data: {\"error\":{\"message\":\"no\"},\"b64_json\":\"x\"}\n\n", true, true, 1},
        {PARTIAL PARTIAL_DATA "data: [DONE]\n\n", false, true, 0},
        {"data:[DONE]\n\n", false, true, 0},
        {"data: [DONE] \n\n", false, true, 0},
        {COMPLETED "data: [DONE]\n\n", false, true, 0},
        {"data: [DONE\ndata: ]\n\n", false, false, 0},
        {"data: x[DONE]\n\n", false, false, 0},
        {"data: [DON]\n\n", false, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told t = scan(cases[i].text);

        if (t.facts.has_error != cases[i].has_error || t.ended != cases[i].ended || t.completed != cases[i].completed ||
            !t.facts.has_data)
            fail_msg("%s: error %d, ended %d, completed %d", cases[i].text, t.facts.has_error, t.ended, t.completed);
    }
}

static void test_unfinished(void **state)
{
    static const struct {
        const char *text;
        int completed;
        bool ended;
    } cases[] = {
        {COMPLETED "data: {\"b64_json\":\"x\"}\n", 1, false},
        {COMPLETED "data: {\"b64_json\":\"x\"}\r", 1, false},
        {COMPLETED "data: {\"b64_json\":\"x\"}", 1, false},
        {"data: {\"b64_json\":\"x\"}\n" COMPLETED, 1, false},
        {"data: {\"type\":\"a.b\",\"b64_json\":\"x\"}\nevent: image_edit.completed", 1, false},
        {COMPLETED "data: {\"b64_json\":\"x\"}\ndata", 1, false},
        {COMPLETED "data: {\"b64_json\":\"x\"", 0, false},
        {COMPLETED "data: {\"b64_json\":\"x", 0, false},
        {COMPLETED "dat", 0, false},
        {COMPLETED, 0, false},
        {"event: image_gen", 0, false},
        {"data: [DONE]", 0, true},
        {"data: [DONE", 0, false},
        {"\xEF", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct told t = scan(cases[i].text);

        if (t.facts.whole || t.completed != cases[i].completed || t.facts.images != cases[i].completed ||
            t.ended != cases[i].ended)
            fail_msg("%s: whole %d, completed %d", cases[i].text, t.facts.whole, t.completed);
    }
    assert_true(scan(COMPLETED_DATA ": a comment").facts.whole);
}

/* A completed event with a usage (NULL: none) of so many tokens out. */
static void append_completed(struct buf *b, const char *usage)
{
    buf_printf(b, "data: {\"type\":\"image_generation.completed\",\"b64_json\":\"x\",\"usage\":%s}\n\n",
               usage != NULL ? usage : "null");
}

static struct told scan_usages(const char *const *usages, size_t n)
{
    struct told t;
    struct buf b;

    buf_init(&b, 16 * 1024);
    for (size_t i = 0; i < n; i++)
        append_completed(&b, usages[i]);
    buf_append_char(&b, '\0');
    t = scan(b.p);
    buf_dispose(&b);
    return t;
}

#define USAGES(...)                                                                                                    \
    scan_usages((const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_usage(void **state)
{
    struct told t = USAGES("{\"input_tokens\":5,\"output_tokens\":100}", "{\"input_tokens\":7,\"output_tokens\":300}",
                           "{\"input_tokens\":9,\"output_tokens\":200}");

    (void)state;
    assert_int_equal(t.facts.usage, REPLY_USAGE_GOOD);
    assert_int_equal(t.facts.images, 3);
    assert_int_equal(t.facts.quantities.of[PRICE_TEXT_INPUT], 21);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE_OUTPUT], 600);
    assert_int_equal(t.facts.largest.of[PRICE_TEXT_INPUT], 7);
    assert_int_equal(t.facts.largest.of[PRICE_IMAGE_OUTPUT], 300);
    assert_int_equal(t.facts.quantities.of[PRICE_IMAGE], 3);
    assert_int_equal(t.facts.largest.of[PRICE_IMAGE], 3);
    assert_int_equal(t.facts.quantities.of[PRICE_REQUEST], 1);
    assert_int_equal(t.facts.largest.of[PRICE_REQUEST], 1);
    assert_int_equal(USAGES(NULL, NULL).facts.usage, REPLY_USAGE_NONE);
    assert_int_equal(USAGES("{}").facts.usage, REPLY_USAGE_NONE);
}

static void test_usage_untrusted(void **state)
{
    static const char good[] = "{\"input_tokens\":5,\"output_tokens\":100}";
    static const char *const untrusted[][3] = {
        {good, NULL, good},
        {NULL, NULL, good},
        {good, "{\"input_tokens\":5,\"output_tokens\":-100}", good},
        {good, "{\"input_tokens\":5,\"output_tokens\":0}", good},
        {good, "{\"input_tokens\":5,\"output_tokens\":6,\"total_tokens\":7}", NULL},
        {"{\"input_tokens\":0,\"output_tokens\":60000000}", "{\"input_tokens\":0,\"output_tokens\":60000000}", good},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(untrusted) / sizeof(untrusted[0]); i++) {
        struct told t = scan_usages(untrusted[i], 3);
        static const struct price_quantities zero;

        assert_int_equal(t.facts.usage, REPLY_USAGE_UNTRUSTED);
        assert_int_equal(t.facts.images, 3);
        assert_memory_equal(&t.facts.quantities, &zero, sizeof(zero));
        assert_memory_equal(&t.facts.largest, &zero, sizeof(zero));
    }
}

/* ---- what may leave ---- */

static void feed_text(struct event_scan *s, const char *text)
{
    feed(s, text, strlen(text));
}

/* <n> bytes of base64. */
static void feed_base64(struct event_scan *s, size_t n)
{
    static const char run[] = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2";

    for (; n >= 64; n -= 64)
        feed(s, run, 64);
    feed(s, run, n);
}

#define KEPT(s) ((int)((s)->offset - event_scan_free(s)))

static void test_free_of_partials(void **state)
{
    struct event_scan s;

    (void)state;
    event_scan_init(&s);
    assert_true(event_scan_at_line(&s));
    feed_text(&s, ": hel");
    assert_int_equal(KEPT(&s), 0); /* a comment is harmless at once, but nothing can be put inside it */
    assert_false(event_scan_at_line(&s));
    feed_text(&s, "lo\n");
    assert_true(event_scan_at_line(&s));
    feed_text(&s, PARTIAL "data: {\"b64_json\":\"");
    assert_int_equal(KEPT(&s), strlen(PARTIAL "data: {\"b64_json\":\""));
    assert_true(event_scan_at_line(&s)); /* before the event */
    feed_base64(&s, 100000);
    assert_int_equal(KEPT(&s), EVENT_TAIL);
    assert_false(event_scan_at_line(&s));
    feed_text(&s, "\"}\n");
    assert_int_equal(KEPT(&s), EVENT_TAIL);
    feed_text(&s, "\n");
    assert_int_equal(KEPT(&s), 0);
    assert_true(event_scan_at_line(&s));
    feed_text(&s, "data: {\"type\":\"ping\"}\r\n\r");
    assert_int_equal(KEPT(&s), 0);
    feed_text(&s, "\n");
    assert_int_equal(KEPT(&s), 0);
    assert_true(event_scan_at_line(&s));
}

static void test_free_of_completed(void **state)
{
    struct event_scan s;
    int short_event = (int)strlen(COMPLETED COMPLETED_DATA);

    (void)state;
    event_scan_init(&s);
    feed_text(&s, COMPLETED COMPLETED_DATA);
    assert_int_equal(KEPT(&s), short_event); /* nothing of one shorter than the tail */
    assert_true(event_scan_at_line(&s));
    feed_text(&s, ": comment\n\ndata: [DONE]\n\nevent: error\ndata: {}\n\nevent: ping\ndata: {}\n\n");
    assert_int_equal(event_scan_free(&s), 0); /* these do not let it go */
    feed_text(&s, COMPLETED COMPLETED_DATA);
    assert_int_equal(KEPT(&s), short_event); /* another completed one does, once it is known */
    feed_text(&s, PARTIAL PARTIAL_DATA);
    assert_int_equal(KEPT(&s), 0); /* and so does a partial one */
    feed_text(&s, COMPLETED "data: {\"b64_json\":\"");
    feed_base64(&s, 100000);
    feed_text(&s, "\"}\n\n");
    assert_int_equal(event_scan_completed(&s), 3);
    assert_int_equal(KEPT(&s), EVENT_TAIL);
    assert_false(event_scan_at_line(&s));
    feed_text(&s, COMPLETED "data: {\"b64_json\":\"");
    feed_base64(&s, 100000);
    assert_int_equal(KEPT(&s), EVENT_TAIL); /* what is kept is bounded, whatever follows */
}

/* Behind the last one that is expected nothing leaves, whatever it is and however it came. */
static void test_free_of_the_last(void **state)
{
    static const char behind[] = PARTIAL PARTIAL_DATA COMPLETED COMPLETED_DATA ": comment\n\n";
    struct event_scan s;
    uint64_t held;

    (void)state;
    for (size_t piece = 1; piece <= sizeof(behind); piece += 7) {
        event_scan_init(&s);
        event_scan_expect(&s, 2);
        feed_text(&s, PARTIAL PARTIAL_DATA COMPLETED COMPLETED_DATA);
        held = s.offset;
        feed_text(&s, COMPLETED COMPLETED_DATA);
        assert_int_equal(event_scan_free(&s), held);
        for (size_t i = 0; i + 1 < sizeof(behind); i += piece)
            feed(&s, behind + i, piece < sizeof(behind) - 1 - i ? piece : sizeof(behind) - 1 - i);
        for (int i = 0; i < 100; i++)
            feed_text(&s, behind);
        assert_int_equal(event_scan_free(&s), held);
        assert_true(event_scan_at_line(&s));
        assert_int_equal(event_scan_completed(&s), 103);
    }
}

static void test_free_of_the_last_when_long(void **state)
{
    struct event_scan s;
    uint64_t end;

    (void)state;
    event_scan_init(&s);
    event_scan_expect(&s, 1);
    feed_text(&s, COMPLETED "data: {\"b64_json\":\"");
    feed_base64(&s, 100000);
    feed_text(&s, "\"}\r\n\r");
    end = s.offset;
    assert_int_equal(event_scan_free(&s), end - EVENT_TAIL);
    feed_text(&s, "\ndata: [DONE]\r\n\r\n");
    feed_text(&s, PARTIAL PARTIAL_DATA);
    assert_int_equal(event_scan_free(&s), end - EVENT_TAIL);
    assert_false(event_scan_at_line(&s));
}

/* A line of 32 MB without an event: line, its name at the end, in constant memory and in pieces. */
static void test_long(void **state)
{
    enum { PIECE = 64 * 1024, PIECES = 512 };
    char *base64 = mem_alloc(PIECE);
    struct event_scan s;
    struct told t;

    (void)state;
    assert_true(sizeof(s) <= 2048);
    memset(base64, 'A', PIECE);
    event_scan_init(&s);
    feed_text(&s, "data: {\"b64_json\":\"");
    for (int i = 0; i < PIECES; i++)
        feed(&s, base64, PIECE);
    feed_text(&s, "\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2},\"type\":\"image_edit.completed\"}\n\n");
    t = finish(&s);
    assert_true(t.facts.whole);
    assert_int_equal(t.facts.images, 1);
    assert_int_equal(t.facts.usage, REPLY_USAGE_GOOD);
    free(base64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_lines_of_data),
        cmocka_unit_test(test_errors_and_the_end),
        cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_usage_untrusted),
        cmocka_unit_test(test_free_of_partials),
        cmocka_unit_test(test_free_of_completed),
        cmocka_unit_test(test_free_of_the_last),
        cmocka_unit_test(test_free_of_the_last_when_long),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
