/* picture.c - encodes gradients with libpng, libjpeg and libwebp; remembers the last few files.
 *
 * Invariant: the same picture gives the same bytes, so that a `url` and the reply that named it agree. One thread (the
 * sandbox has one loop). */
#include "picture.h"

#include <png.h>
#include <stdio.h> /* jpeglib.h wants it before */
#include <stdlib.h>

#include <jpeglib.h>
#include <webp/encode.h>
#include <zlib.h>

enum {
    REMEMBERED = 64,
    PNG_TAIL = 12,        /* the IEND chunk */
    PNG_CHUNK_FRAME = 12, /* length, type, checksum */
    JPEG_QUALITY = 85
};

static struct {
    struct picture what;
    struct buf file;
} remembered[REMEMBERED];
static unsigned next_slot;

static const char *const names[PICTURE_FORMATS] = {"png", "jpeg", "webp"};

const char *picture_format_name(enum picture_format format)
{
    return names[format];
}

bool picture_format_parse(struct slice text, enum picture_format *out)
{
    for (int i = 0; i < PICTURE_FORMATS; i++) {
        if (slice_eq_str(text, names[i])) {
            *out = (enum picture_format)i;
            return true;
        }
    }
    return false;
}

/* One row of RGB: a diagonal gradient between two colours of the seed. */
static void draw_row(const struct picture *p, int y, uint8_t *row)
{
    const uint8_t *from = (const uint8_t *)&p->seed;
    const uint8_t *to = from + 3;
    int span = p->w + p->h;

    for (int x = 0; x < p->w; x++) {
        for (int c = 0; c < 3; c++)
            row[3 * x + c] = (uint8_t)(from[c] + (to[c] - from[c]) * (x + y) / span);
    }
}

static void png_to_buf(png_structp png, png_bytep bytes, size_t n)
{
    buf_append(png_get_io_ptr(png), bytes, n);
}

static void png_no_flush(png_structp png)
{
    (void)png;
}

static void write_png(const struct picture *p, struct buf *out)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    uint8_t *row = mem_alloc((size_t)p->w * 3);

    TG_ASSERT(png != NULL && info != NULL);
    if (setjmp(png_jmpbuf(png)) != 0)
        assert_failed(__FILE__, __LINE__, "libpng could not encode");
    png_set_write_fn(png, out, png_to_buf, png_no_flush);
    png_set_compression_level(png, 1);
    png_set_IHDR(png, info, (png_uint_32)p->w, (png_uint_32)p->h, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < p->h; y++) {
        draw_row(p, y, row);
        png_write_row(png, row);
    }
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(row);
}

static void write_jpeg(const struct picture *p, struct buf *out)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long n = 0;
    uint8_t *row = mem_alloc((size_t)p->w * 3);

    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &n);
    jpeg.image_width = (JDIMENSION)p->w;
    jpeg.image_height = (JDIMENSION)p->h;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, JPEG_QUALITY, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < p->h; y++) {
        JSAMPROW rows[1] = {row};

        draw_row(p, y, row);
        (void)jpeg_write_scanlines(&jpeg, rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    buf_append(out, bytes, n);
    free(bytes);
    free(row);
}

static void write_webp(const struct picture *p, struct buf *out)
{
    size_t stride = (size_t)p->w * 3;
    uint8_t *pixels = mem_alloc(stride * (size_t)p->h);
    uint8_t *bytes = NULL;
    size_t n;

    for (int y = 0; y < p->h; y++)
        draw_row(p, y, pixels + stride * (size_t)y);
    n = WebPEncodeRGB(pixels, p->w, p->h, (int)stride, JPEG_QUALITY, &bytes);
    TG_ASSERT(n > 0);
    buf_append(out, bytes, n);
    WebPFree(bytes);
    free(pixels);
}

static const struct buf *encoded(const struct picture *p)
{
    static void (*const writers[PICTURE_FORMATS])(const struct picture *, struct buf *) = {write_png, write_jpeg,
                                                                                           write_webp};
    unsigned slot;

    for (unsigned i = 0; i < REMEMBERED; i++) {
        const struct picture *r = &remembered[i].what;

        if (r->format == p->format && r->w == p->w && r->h == p->h && r->seed == p->seed)
            return &remembered[i].file;
    }
    slot = next_slot++ % REMEMBERED;
    buf_dispose(&remembered[slot].file);
    buf_init(&remembered[slot].file, PICTURE_FILE_MAX);
    remembered[slot].what = *p;
    writers[p->format](p, &remembered[slot].file);
    TG_ASSERT(!remembered[slot].file.full);
    return &remembered[slot].file;
}

static void append_be32(struct buf *out, uint32_t n)
{
    const uint8_t bytes[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};

    buf_append(out, bytes, sizeof(bytes));
}

static void append_zeros(struct buf *out, size_t n)
{
    char *at = buf_reserve(out, n);

    TG_ASSERT(at != NULL);
    memset(at, 0, n);
    buf_advance(out, n);
}

/* The file with a private ancillary chunk of <zeros> bytes before its last. */
static void append_png_grown(const struct buf *file, size_t zeros, struct buf *out)
{
    size_t type_at;

    buf_append(out, file->p, file->len - PNG_TAIL);
    append_be32(out, (uint32_t)zeros);
    type_at = out->len;
    buf_append(out, "tgPd", 4);
    append_zeros(out, zeros);
    append_be32(out, (uint32_t)crc32(0, (const Bytef *)out->p + type_at, (uInt)(4 + zeros)));
    buf_append(out, file->p + file->len - PNG_TAIL, PNG_TAIL);
}

bool picture_same(const struct picture *a, const struct picture *b)
{
    return a->format == b->format && a->w == b->w && a->h == b->h && a->seed == b->seed && a->bytes == b->bytes;
}

size_t picture_length(const struct picture *p)
{
    size_t len = encoded(p)->len;

    return p->bytes > (int64_t)len ? (size_t)p->bytes : len;
}

void picture_write(const struct picture *p, struct buf *out)
{
    const struct buf *file = encoded(p);
    size_t missing = picture_length(p) - file->len;

    if (p->format == PICTURE_PNG && missing >= PNG_CHUNK_FRAME) {
        append_png_grown(file, missing - PNG_CHUNK_FRAME, out);
        return;
    }
    buf_append(out, file->p, file->len);
    if (missing > 0)
        append_zeros(out, missing);
}
