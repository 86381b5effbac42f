/* test_images_picture.c - widths and heights out of headers, at every cut, and what is left unknown. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/base/buf.h"
#include "daemon/images/data_url.h"

static void measure(struct slice bytes, size_t first, size_t piece, int *w, int *h)
{
    struct picture_size s;

    picture_size_init(&s);
    for (size_t at = 0, n = first; at < bytes.len; at += n, n = piece) {
        char *copy;

        n = n < bytes.len - at ? n : bytes.len - at;
        copy = mem_alloc(n + 1);
        memcpy(copy, bytes.p + at, n);
        picture_size_feed(&s, (struct slice){copy, n});
        free(copy);
    }
    picture_size_get(&s, w, h);
}

static void check_size(struct slice bytes, int w, int h)
{
    for (size_t cut = 0; cut <= bytes.len; cut++) {
        int got_w, got_h;

        measure(bytes, cut, cut == 0 ? 1 : bytes.len, &got_w, &got_h);
        if (got_w != w || got_h != h)
            fail_msg("cut at %zu: %d x %d, not %d x %d", cut, got_w, got_h, w, h);
    }
}

#define CHECK(bytes, w, h) check_size((struct slice){bytes, sizeof(bytes) - 1}, w, h)

/* Every byte less than <known> leaves the size unknown. */
static void check_needs(struct slice bytes, size_t known)
{
    for (size_t n = 0; n <= bytes.len; n++) {
        int w, h;

        measure((struct slice){bytes.p, n}, n, 1, &w, &h);
        assert_int_equal(w > 0, n >= known);
        assert_int_equal(h > 0, n >= known);
    }
}

#define PNG "\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR"

static void test_png(void **state)
{
    (void)state;
    CHECK(PNG "\0\0\x04\0\0\0\x02\x58\x08\x06\0\0\0crc.", 1024, 600);
    CHECK(PNG "\0\0\xFF\xFF\0\0\0\x01", 65535, 1);
    CHECK(PNG "\0\x01\0\0\0\0\0\x01", 0, 0);
    CHECK(PNG "\0\0\0\0\0\0\0\x01", 0, 0);
    CHECK(PNG "\x80\0\0\x01\0\0\0\x01", 0, 0);
    CHECK("\x89PNG\r\n\x1A\n\0\0\0\x0D"
          "acTL\0\0\x04\0\0\0\x02\x58",
          0, 0);
    CHECK("\x89PNG\n\n\x1A\n\0\0\0\x0DIHDR\0\0\x04\0\0\0\x02\x58", 0, 0);
    check_needs((struct slice){PNG "\0\0\x04\0\0\0\x02\x58", 24}, 24);
}

#define SOI "\xFF\xD8"
#define APP1                                                                                                           \
    "\xFF\xE1\0\x10"                                                                                                   \
    "Exif\0\0\xFF\xC0\0\x0B\x08\0\x01\0" /* what looks like a frame inside is none */
#define SOF(code) "\xFF" code "\0\x0B\x08\x02\x58\x04\0\x01\x01\x11\0"
#define SOS "\xFF\xDA"

static void test_jpeg(void **state)
{
    (void)state;
    CHECK(SOI SOF("\xC0") SOS, 1024, 600);
    CHECK(SOI APP1 APP1 "\xFF\xFF\xFF\xDB\0\x03q" SOF("\xC2") "\xFF\xC4\0\x02" SOS "anything \xFF\xC0", 1024, 600);
    CHECK(SOI SOF("\xC0") SOF("\xC0") SOS, 0, 0);
    CHECK(SOI SOF("\xC0") "\xFF\xD9", 0, 0);
    CHECK(SOI SOF("\xC0") "garbage" SOS, 0, 0);
    CHECK(SOI "\xFF\xDE\0\x02" SOF("\xC0") SOS, 0, 0);
    CHECK(SOI "\xFF\xD8" SOF("\xC0") SOS, 0, 0);
    CHECK(SOI "\xFF\xE0\0\x01" SOF("\xC0") SOS, 0, 0);
    CHECK(SOI "\xFF\xC0\0\x06\x08\x02\x58\x04\0" SOS, 0, 0);
    CHECK(SOI "\xFF\xC0\0\x0B\x08\0\0\x04\0\x01\x01\x11\0" SOS, 0, 0); /* the height comes later (DNL) */
    CHECK(SOI SOS, 0, 0);
    check_needs((struct slice){SOI APP1 SOF("\xC0") SOS, 2 + 18 + 13 + 2}, 2 + 18 + 13 + 2);
}

static void test_endless_jpeg(void **state)
{
    struct buf b;
    int w, h;

    (void)state;
    buf_init(&b, 1024 * 1024);
    buf_append(&b, SOI, 2);
    for (int i = 0; i < 20000; i++)
        buf_append(&b, "\xFF\xE0\0\x02", 4);
    buf_append(&b, SOF("\xC0") SOS, 15);
    measure(buf_slice(&b), b.len, 1, &w, &h);
    assert_int_equal(w, 0);
    buf_dispose(&b);
}

static void test_gif(void **state)
{
    (void)state;
    CHECK("GIF89a\0\x04\x58\x02\0\0\0,\0\0\0\0\x01\0\x01\0\0", 1024, 600);
    CHECK("GIF87a\0\x04\x58\x02\x80\0\0......,\0\0\0\0\x01\0\x01\0\0", 1024, 600);
    CHECK("GIF89a\0\x04\x58\x02\0\0\0!\xF9\x04xxxx\0!\xFE\x02,,\x01,\0,\0\0\0\0\x01\0\x01\0\0", 1024, 600);
    CHECK("GIF89a\x01\0\x01\0\0\0\0,\x0A\0\x14\0\0\x04\x58\x02\0", 1034, 620); /* decoders grow the picture */
    CHECK("GIF89a\0\x04\x58\x02\0\0\0;", 0, 0);
    CHECK("GIF88a\0\x04\x58\x02\0\0\0,\0\0\0\0\x01\0\x01\0\0", 0, 0);
    CHECK("GIF89a\0\x04\x58\x02\0\0\0!\xF9\x04xxxx", 0, 0);
}

static void test_webp(void **state)
{
    (void)state;
    CHECK("RIFF....WEBPVP8 ....\x30\x01\0\x9D\x01\x2A\0\x44\x58\x02", 1024, 600);
    CHECK("RIFF....WEBPVP8 ....\x31\x01\0\x9D\x01\x2A\0\x44\x58\x02", 0, 0); /* no key frame */
    CHECK("RIFF....WEBPVP8 ....\x30\x01\0\x9D\x01\x2B\0\x44\x58\x02", 0, 0);
    CHECK("RIFF....WEBPVP8L....\x2F\xFF\xC3\x95\0", 1024, 600);
    CHECK("RIFF....WEBPVP8L....\x2E\xFF\xC3\x95\0", 0, 0);
    CHECK("RIFF....WEBPVP8X....\x10\0\0\0\xFF\x03\0\x57\x02\0", 1024, 600);
    CHECK("RIFF....WEBPVP8X....\x10\0\0\0\xFF\xFF\x01\x57\x02\0", 0, 0);
    CHECK("RIFF....WEBPANIM....\x10\0\0\0\xFF\x03\0\x57\x02\0", 0, 0);
    CHECK("RIFF....WAVEVP8X....\x10\0\0\0\xFF\x03\0\x57\x02\0", 0, 0);
}

static void test_other(void **state)
{
    (void)state;
    CHECK("", 0, 0);
    CHECK("<svg width=\"64\" height=\"64\"/>", 0, 0);
    CHECK("\0\0\0\x1C"
          "ftypavif",
          0, 0);
    CHECK("BM......", 0, 0);
}

static void check_url(const char *url, int w, int h)
{
    size_t len = strlen(url);

    for (size_t cut = 0; cut <= len; cut++) {
        struct data_url u;
        int got_w, got_h;

        data_url_init(&u);
        data_url_feed(&u, (struct slice){url, cut});
        data_url_feed(&u, (struct slice){url + cut, len - cut});
        data_url_size(&u, &got_w, &got_h);
        if (got_w != w || got_h != h)
            fail_msg("%s cut at %zu: %d x %d", url, cut, got_w, got_h);
    }
}

/* 64 x 32 */
#define PNG64 "iVBORw0KGgoAAAANSUhEUgAAAEAAAAAg"

static void test_data_url(void **state)
{
    (void)state;
    check_url("data:image/png;base64," PNG64 "CAYAAAA=", 64, 32);
    check_url("DATA:;BASE64," PNG64, 64, 32);
    check_url("data:image/png;charset=x;base64," PNG64 "!", 64, 32); /* all that matters stands before */
    check_url("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEA!AAAAg", 0, 0);
    check_url("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEA=AAAAg", 0, 0);
    check_url("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEA AAAAg", 0, 0);
    check_url("data:image/png;base64 ," PNG64, 0, 0);
    check_url("data:image/png," PNG64, 0, 0);
    check_url("data:,", 0, 0);
    check_url(";base64," PNG64, 0, 0);
    check_url("https://example.com/a.png;base64," PNG64, 0, 0);
    check_url("", 0, 0);
}

static void append_base64(struct buf *out, const struct buf *in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned bits = 0;
    int n = 0;

    for (size_t i = 0; i < in->len; i++) {
        bits = (bits << 8 | (unsigned char)in->p[i]) & 0xFFFF;
        for (n += 8; n >= 6; n -= 6)
            buf_append_char(out, digits[bits >> (n - 6) & 63]);
    }
    if (n > 0)
        buf_append_char(out, digits[bits << (6 - n) & 63]);
}

/* A JPEG whose size stands behind <segments> of 65537 bytes. */
static void check_far(int segments, bool known)
{
    static const char frame[] = SOF("\xC0") SOS;
    char *fill = mem_zalloc(65533);
    struct buf jpeg, url;
    struct data_url u;
    int w, h;

    buf_init(&jpeg, 4 * 1024 * 1024);
    buf_init(&url, 4 * 1024 * 1024);
    buf_append(&jpeg, SOI, 2);
    for (int i = 0; i < segments; i++) {
        buf_append(&jpeg, "\xFF\xE2\xFF\xFF", 4);
        buf_append(&jpeg, fill, 65533);
    }
    buf_append(&jpeg, frame, sizeof(frame) - 1);
    buf_append_str(&url, "data:image/jpeg;base64,");
    append_base64(&url, &jpeg);
    data_url_init(&u);
    for (size_t at = 0; at < url.len; at += 1000)
        data_url_feed(&u, (struct slice){url.p + at, url.len - at < 1000 ? url.len - at : 1000});
    data_url_size(&u, &w, &h);
    assert_int_equal(w, known ? 1024 : 0);
    assert_int_equal(h, known ? 600 : 0);
    assert_true(u.closed && u.decoded <= DATA_URL_LOOK);
    buf_dispose(&jpeg);
    buf_dispose(&url);
    free(fill);
}

/* What stands too far behind is not looked for. */
static void test_far_data_url(void **state)
{
    (void)state;
    check_far(0, true);
    check_far(15, true);
    check_far(16, false);
}

static void test_spoilt_data_url(void **state)
{
    struct data_url u;
    int w, h;

    (void)state;
    data_url_init(&u);
    data_url_feed(&u, SLICE("data:;base64,"));
    data_url_spoil(&u);
    data_url_feed(&u, SLICE(PNG64));
    data_url_size(&u, &w, &h);
    assert_int_equal(w, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_png),      cmocka_unit_test(test_jpeg),         cmocka_unit_test(test_endless_jpeg),
        cmocka_unit_test(test_gif),      cmocka_unit_test(test_webp),         cmocka_unit_test(test_other),
        cmocka_unit_test(test_data_url), cmocka_unit_test(test_far_data_url), cmocka_unit_test(test_spoilt_data_url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
