/* test_sandbox.c - directives are found and bounded; pictures are what their headers say; scripts say all of
 * themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/sandbox/directives.h"
#include "daemon/sandbox/picture.h"
#include "daemon/sandbox/script.h"

static struct directives read_all(const char *prompt)
{
    struct directives d;

    directives_read(slice_from(prompt), &d);
    return d;
}

static void test_plain_prompts_ask_nothing(void **state)
{
    const char *const plain[] = {"",
                                 "a sea otter",
                                 "[[",
                                 "[[latency=2s",
                                 "[latency=2s]",
                                 "[[latency]]",
                                 "[[latency=]]",
                                 "[[latency=2 s]]",
                                 "[[latency=-1s]]",
                                 "[[status=200]]",
                                 "[[status=1e3]]",
                                 "[[usage=1,2]]",
                                 "[[usage=1,2,3,4]]",
                                 "[[images=99999999999999999999]]",
                                 "[[die=101%]]",
                                 "[[hang=1]]",
                                 "[[die]]",
                                 "[[die=2 events]]",
                                 "[[events=crlf,loud]]",
                                 "[[events=]]",
                                 "[[as=xml]]",
                                 "[[pause=2]]",
                                 "[[retry-after=soon]]",
                                 "[[partials=4]]",
                                 "[[gzip=1]]",
                                 "[[slow=100KiB]]",
                                 "[[bytes=65MiB]]",
                                 "[[unknown=1]]"};

    (void)state;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct directives d = read_all(plain[i]);

        assert_int_equal(d.latency, 0);
        assert_int_equal(d.status, 0);
        assert_false(d.usage_given || d.hang || d.moderation || d.gzip || d.chunked || d.early);
        assert_int_equal(d.usage_on, USAGE_EACH);
        assert_int_equal(d.lie, LIE_NONE);
        assert_int_equal(d.images, -1);
        assert_int_equal(d.partials, -1);
        assert_int_equal(d.retry_after, -1);
        assert_int_equal(d.bytes, 0);
        assert_int_equal(d.pause, 0);
        assert_int_equal(d.stop, STOP_NEVER);
        assert_int_equal(d.events, 0);
        assert_int_equal(d.form, FORM_ASKED);
        assert_int_equal(d.slow, 0);
        assert_int_equal(d.split, 0);
    }
}

static void test_every_directive(void **state)
{
    struct directives d =
        read_all("an [[latency=2s]] otter [[status=429]][[usage=1000,20,4160]] [[images=1]] [[bytes=4MiB]] "
                 "[[die=50%]] [[moderation]] [[slow=100KiB/s]] [[split=1]] [[partials=2]] [[pause=3ms]] [[gzip]] "
                 "[[chunked]] [[early]] [[retry-after=7]] [[as=html]] [[events=crlf,done]]");

    (void)state;
    assert_int_equal(d.latency, 2000000);
    assert_int_equal(d.pause, 3000);
    assert_int_equal(d.status, 429);
    assert_true(d.usage_given && d.moderation && d.gzip && d.chunked && d.early && !d.hang);
    assert_int_equal(d.usage[0], 1000);
    assert_int_equal(d.usage[1], 20);
    assert_int_equal(d.usage[2], 4160);
    assert_int_equal(d.images, 1);
    assert_int_equal(d.partials, 2);
    assert_int_equal(d.bytes, 4 << 20);
    assert_int_equal(d.stop, STOP_PERCENT);
    assert_int_equal(d.stop_at, 50);
    assert_int_equal(d.slow, 100 << 10);
    assert_int_equal(d.split, 1);
    assert_int_equal(d.retry_after, 7);
    assert_int_equal(d.form, FORM_HTML);
    assert_int_equal(d.events, EVENTS_CRLF | EVENTS_DONE);
}

static void test_directives_of_one_kind(void **state)
{
    struct directives d = read_all("[[hang=2events]]");

    (void)state;
    assert_true(d.hang && d.stop == STOP_EVENTS && d.stop_at == 2);
    d = read_all("[[hang]] [[die=headers]]"); /* the last counts */
    assert_true(!d.hang && d.stop == STOP_HEADERS);
    assert_int_equal(read_all("[[usage=none]]").usage_on, USAGE_NONE);
    assert_int_equal(read_all("[[usage=last]]").usage_on, USAGE_LAST);
    assert_int_equal(read_all("[[usage=negative]]").lie, LIE_NEGATIVE);
    d = read_all("[[usage=1,2,3]][[usage=repeated]]"); /* what, and where */
    assert_true(d.usage_given && d.usage_on == USAGE_REPEATED);
    assert_int_equal(read_all("[[[latency=5ms]]").latency, 0);
    assert_int_equal(read_all("[[x]][[latency=5ms]]").latency, 5000);
}

static uint32_t be32(const char *p)
{
    const uint8_t *b = (const uint8_t *)p;

    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void test_png_has_its_size_and_grows(void **state)
{
    struct picture p = {PICTURE_PNG, 256, 512, 42, 0};
    struct buf plain, grown;

    (void)state;
    buf_init(&plain, 8 << 20);
    buf_init(&grown, 8 << 20);
    picture_write(&p, &plain);
    assert_memory_equal(plain.p, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(be32(plain.p + 16), 256);
    assert_int_equal(be32(plain.p + 20), 512);
    p.bytes = 1 << 20;
    assert_int_equal(picture_length(&p), 1 << 20);
    picture_write(&p, &grown);
    assert_int_equal(grown.len, 1 << 20);
    assert_memory_equal(grown.p + grown.len - 8, "IEND", 4);
    assert_int_equal(be32(grown.p + plain.len - 12), (1 << 20) - plain.len - 12);
    buf_dispose(&plain);
    buf_dispose(&grown);
}

static void test_the_same_picture_has_the_same_bytes(void **state)
{
    struct buf first, again;

    (void)state;
    for (int format = 0; format < PICTURE_FORMATS; format++) {
        struct picture p = {(enum picture_format)format, 64, 48, 7, 0};

        buf_init(&first, 1 << 20);
        buf_init(&again, 1 << 20);
        picture_write(&p, &first);
        for (uint64_t other = 100; other < 170; other++) /* push it out of what is remembered */
            picture_write(&(struct picture){PICTURE_JPEG, 8, 8, other, 0}, &again);
        buf_clear(&again);
        picture_write(&p, &again);
        assert_int_equal(first.len, again.len);
        assert_memory_equal(first.p, again.p, first.len);
        buf_dispose(&first);
        buf_dispose(&again);
    }
}

static void test_jpeg_and_webp_say_what_they_are(void **state)
{
    struct buf out;

    (void)state;
    buf_init(&out, 1 << 20);
    picture_write(&(struct picture){PICTURE_JPEG, 64, 48, 1, 0}, &out);
    assert_memory_equal(out.p, "\xff\xd8\xff", 3);
    assert_memory_equal(out.p + out.len - 2, "\xff\xd9", 2);
    buf_clear(&out);
    picture_write(&(struct picture){PICTURE_WEBP, 64, 48, 1, 0}, &out);
    assert_memory_equal(out.p, "RIFF", 4);
    assert_memory_equal(out.p + 8, "WEBP", 4);
    buf_dispose(&out);
}

static void test_a_script_says_text_and_pictures(void **state)
{
    const struct picture p = {PICTURE_PNG, 64, 48, 3, 5000};
    struct script script;
    struct script_cursor cursor = {.run = 0};
    struct buf whole, pieces;
    struct slice bytes;

    (void)state;
    script_init(&script);
    buf_append_str(&script.text, "a");
    script_picture(&script, &p);
    buf_append_str(&script.text, "b\n");
    script_event_end(&script);
    script_picture(&script, &p);
    buf_append_str(&script.text, "c");
    script_finish(&script);
    assert_int_equal(script.length, 1 + 6668 + 2 + 6668 + 1);
    assert_int_equal(script_length_of(&script, 1), 1 + 6668 + 2);
    assert_int_equal(script_length_of(&script, 9), script.length);
    buf_init(&whole, 1 << 20);
    buf_init(&pieces, 1 << 20);
    script_flatten(&script, &whole);
    while ((bytes = script_next(&script, &cursor, 7)).len > 0) {
        assert_true(bytes.len <= 7);
        buf_append_slice(&pieces, bytes);
        assert_int_equal(script_between_events(&script, &cursor), pieces.len == 1 + 6668 + 2);
    }
    assert_int_equal(whole.len, script.length);
    assert_int_equal(pieces.len, whole.len);
    assert_memory_equal(pieces.p, whole.p, whole.len);
    assert_memory_equal(whole.p, "aiVBOR", 6);
    script_close(&cursor);
    script_dispose(&script);
    buf_dispose(&whole);
    buf_dispose(&pieces);
}

static void test_prints_are_shared_and_let_go(void **state)
{
    struct picture p = {PICTURE_PNG, 64, 48, 0, 48 << 20}; /* 64 MiB of base64 */
    struct print *held = gallery_take(&p), *again = gallery_take(&p);

    (void)state;
    assert_ptr_equal(held, again);
    gallery_give(again);
    for (p.seed = 1; p.seed < 6; p.seed++) /* more than are kept */
        gallery_give(gallery_take(&p));
    p.seed = 0;
    again = gallery_take(&p);
    assert_ptr_equal(held, again);
    assert_int_equal(print_text(held).len, 64 << 20);
    assert_memory_equal(print_text(held).p, "iVBOR", 5);
    gallery_give(again);
    gallery_give(held);
    gallery_give(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_prompts_ask_nothing),
        cmocka_unit_test(test_every_directive),
        cmocka_unit_test(test_directives_of_one_kind),
        cmocka_unit_test(test_png_has_its_size_and_grows),
        cmocka_unit_test(test_the_same_picture_has_the_same_bytes),
        cmocka_unit_test(test_jpeg_and_webp_say_what_they_are),
        cmocka_unit_test(test_a_script_says_text_and_pictures),
        cmocka_unit_test(test_prints_are_shared_and_let_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
