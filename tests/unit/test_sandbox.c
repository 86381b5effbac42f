/* test_sandbox.c - directives are found and bounded; pictures are what their headers say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/sandbox/directives.h"
#include "daemon/sandbox/picture.h"

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
                                 "[[slow=100KiB]]",
                                 "[[bytes=65MiB]]",
                                 "[[unknown=1]]"};

    (void)state;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct directives d = read_all(plain[i]);

        assert_int_equal(d.latency, 0);
        assert_int_equal(d.status, 0);
        assert_false(d.usage_none || d.usage_given || d.hang || d.moderation);
        assert_int_equal(d.images, -1);
        assert_int_equal(d.bytes, 0);
        assert_int_equal(d.die, DIRECTIVE_DIE_NEVER);
        assert_int_equal(d.slow, 0);
        assert_int_equal(d.split, 0);
    }
}

static void test_every_directive(void **state)
{
    struct directives d =
        read_all("an [[latency=2s]] otter [[status=429]][[usage=1000,20,4160]] [[images=1]] [[bytes=4MiB]] "
                 "[[die=50%]] [[hang]] [[moderation]] [[slow=100KiB/s]] [[split=1]]");

    (void)state;
    assert_int_equal(d.latency, 2000000);
    assert_int_equal(d.status, 429);
    assert_true(d.usage_given && d.hang && d.moderation);
    assert_int_equal(d.usage[0], 1000);
    assert_int_equal(d.usage[1], 20);
    assert_int_equal(d.usage[2], 4160);
    assert_int_equal(d.images, 1);
    assert_int_equal(d.bytes, 4 << 20);
    assert_int_equal(d.die, 50);
    assert_int_equal(d.slow, 100 << 10);
    assert_int_equal(d.split, 1);
    assert_int_equal(read_all("[[die=headers]]").die, DIRECTIVE_DIE_HEADERS);
    assert_true(read_all("[[usage=none]]").usage_none);
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
    struct picture p = {PICTURE_PNG, 256, 512, 42};
    struct buf plain, grown;

    (void)state;
    buf_init(&plain, 8 << 20);
    buf_init(&grown, 8 << 20);
    picture_write(&p, 0, &plain);
    assert_memory_equal(plain.p, "\x89PNG\r\n\x1a\n", 8);
    assert_int_equal(be32(plain.p + 16), 256);
    assert_int_equal(be32(plain.p + 20), 512);
    picture_write(&p, 1 << 20, &grown);
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
        struct picture p = {(enum picture_format)format, 64, 48, 7};

        buf_init(&first, 1 << 20);
        buf_init(&again, 1 << 20);
        picture_write(&p, 0, &first);
        for (uint64_t other = 100; other < 120; other++) /* push it out of what is remembered */
            picture_write(&(struct picture){PICTURE_JPEG, 8, 8, other}, 0, &again);
        buf_clear(&again);
        picture_write(&p, 0, &again);
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
    picture_write(&(struct picture){PICTURE_JPEG, 64, 48, 1}, 0, &out);
    assert_memory_equal(out.p, "\xff\xd8\xff", 3);
    assert_memory_equal(out.p + out.len - 2, "\xff\xd9", 2);
    buf_clear(&out);
    picture_write(&(struct picture){PICTURE_WEBP, 64, 48, 1}, 0, &out);
    assert_memory_equal(out.p, "RIFF", 4);
    assert_memory_equal(out.p + 8, "WEBP", 4);
    buf_dispose(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_prompts_ask_nothing),
        cmocka_unit_test(test_every_directive),
        cmocka_unit_test(test_png_has_its_size_and_grows),
        cmocka_unit_test(test_the_same_picture_has_the_same_bytes),
        cmocka_unit_test(test_jpeg_and_webp_say_what_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
