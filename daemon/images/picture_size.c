/* picture_size.c - a few bytes at a time: collect what a step wants, look at it, skip what does not matter.
 *
 *    START --89 50--> PNG --> KNOWN
 *          --"RI"---> RIFF --> VP8, VP8L or VP8X --> KNOWN
 *          --"GI"---> GIF --> GIF_BLOCK <--> GIF_LABEL, GIF_SUB (extensions)
 *          |                      `--> GIF_FRAME --> KNOWN
 *          --FF D8--> JPEG_FF --> JPEG_CODE --> JPEG_LENGTH --> JPEG_FF (segments, skipped by their length)
 *                                     |`------> JPEG_FRAME  --> JPEG_FF (the size stands here)
 *                                     `- start of scan --> KNOWN
 *    anything else --> UNKNOWN
 *
 * Tricks, and what becomes of them
 *   - JPEG: a second frame header before the scan, a hierarchical one, a height of 0 that a later marker would define,
 *     markers without a segment where none belongs: unknown. Thumbnails stand inside segments and are skipped.
 *   - GIF: the first frame may reach out of the screen, and decoders then grow the picture: the larger counts.
 *   - PNG: an animation's frames lie inside the canvas. WebP: decoders refuse a bitstream that differs from the canvas.
 *   - A file of a million tiny segments: unknown after STEPS_MAX.
 *
 * Invariants: have < want outside of picture_size_feed unless the step is final; w and h count only in KNOWN. */
#include "picture_size.h"

enum step {
    START = 0,
    PNG,
    RIFF,
    VP8,
    VP8L,
    VP8X,
    GIF,
    GIF_BLOCK,
    GIF_LABEL,
    GIF_SUB,
    GIF_FRAME,
    JPEG_FF,
    JPEG_CODE,
    JPEG_LENGTH,
    JPEG_FRAME,
    KNOWN,
    UNKNOWN
};

enum { STEPS_MAX = 16384 };

static void go(struct picture_size *s, enum step step, unsigned want)
{
    s->step = (uint8_t)step;
    s->want = (uint8_t)want;
    s->have = 0;
}

static int big16(const uint8_t *p)
{
    return p[0] << 8 | p[1];
}

static int little16(const uint8_t *p)
{
    return p[1] << 8 | p[0];
}

static int little24(const uint8_t *p)
{
    return p[2] << 16 | little16(p);
}

/* The picture is w x h, unless that is absurd. */
static void settle(struct picture_size *s, int64_t w, int64_t h)
{
    bool sane = w > 0 && h > 0 && w <= PICTURE_EDGE_MAX && h <= PICTURE_EDGE_MAX;

    s->w = sane ? (int)w : 0;
    s->h = sane ? (int)h : 0;
    go(s, sane ? KNOWN : UNKNOWN, 0);
}

static void start(struct picture_size *s, const uint8_t *p)
{
    if (p[0] == 0x89 && p[1] == 'P')
        go(s, PNG, 22); /* the rest of the signature, IHDR's length and name, width, height */
    else if (p[0] == 0xFF && p[1] == 0xD8)
        go(s, JPEG_FF, 1);
    else if (p[0] == 'G' && p[1] == 'I')
        go(s, GIF, 11);
    else if (p[0] == 'R' && p[1] == 'I')
        go(s, RIFF, 18); /* the rest of "RIFF", length, "WEBP", the first chunk's name and length */
    else
        go(s, UNKNOWN, 0);
}

static void read_png(struct picture_size *s, const uint8_t *p)
{
    static const uint8_t fixed[14] = {'N', 'G', 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13, 'I', 'H', 'D', 'R'};

    if (memcmp(p, fixed, sizeof(fixed)) != 0)
        go(s, UNKNOWN, 0);
    else
        settle(s, (int64_t)big16(p + 14) << 16 | big16(p + 16), (int64_t)big16(p + 18) << 16 | big16(p + 20));
}

/* ---- WebP ---- */

static void read_riff(struct picture_size *s, const uint8_t *p)
{
    const uint8_t *chunk = p + 10;

    if (memcmp(p, "FF", 2) != 0 || memcmp(p + 6, "WEBP", 4) != 0)
        go(s, UNKNOWN, 0);
    else if (memcmp(chunk, "VP8 ", 4) == 0)
        go(s, VP8, 10);
    else if (memcmp(chunk, "VP8L", 4) == 0)
        go(s, VP8L, 5);
    else if (memcmp(chunk, "VP8X", 4) == 0)
        go(s, VP8X, 10);
    else
        go(s, UNKNOWN, 0);
}

/* A key frame: its tag's lowest bit is 0; then a start code, and 14 bits of either edge below two of scaling. */
static void read_vp8(struct picture_size *s, const uint8_t *p)
{
    if ((p[0] & 1) != 0 || p[3] != 0x9D || p[4] != 0x01 || p[5] != 0x2A)
        go(s, UNKNOWN, 0);
    else
        settle(s, little16(p + 6) & 0x3FFF, little16(p + 8) & 0x3FFF);
}

static void read_vp8l(struct picture_size *s, const uint8_t *p)
{
    uint32_t bits = (uint32_t)little16(p + 1) | (uint32_t)little16(p + 3) << 16;

    if (p[0] != 0x2F)
        go(s, UNKNOWN, 0);
    else
        settle(s, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1);
}

/* ---- GIF ---- */

/* How many bytes a colour table takes, by the flags that announce it. */
static uint64_t colour_table(uint8_t flags)
{
    return (flags & 0x80) != 0 ? UINT64_C(3) << ((flags & 7) + 1) : 0;
}

static void read_gif(struct picture_size *s, const uint8_t *p)
{
    if (memcmp(p, "F87a", 4) != 0 && memcmp(p, "F89a", 4) != 0) {
        go(s, UNKNOWN, 0);
        return;
    }
    s->w = little16(p + 4);
    s->h = little16(p + 6);
    s->skip = colour_table(p[8]);
    go(s, GIF_BLOCK, 1);
}

static void read_gif_block(struct picture_size *s, uint8_t kind)
{
    if (kind == 0x21)
        go(s, GIF_LABEL, 1);
    else if (kind == 0x2C)
        go(s, GIF_FRAME, 8);
    else
        go(s, UNKNOWN, 0);
}

static void read_gif_sub(struct picture_size *s, uint8_t length)
{
    s->skip = length;
    go(s, length > 0 ? GIF_SUB : GIF_BLOCK, 1);
}

static void read_gif_frame(struct picture_size *s, const uint8_t *p)
{
    int right = little16(p) + little16(p + 4);
    int bottom = little16(p + 2) + little16(p + 6);

    settle(s, right > s->w ? right : s->w, bottom > s->h ? bottom : s->h);
}

/* ---- JPEG ---- */

static bool is_frame(uint8_t code)
{
    return code >= 0xC0 && code <= 0xCF && code != 0xC4 && code != 0xC8 && code != 0xCC;
}

static void read_jpeg_code(struct picture_size *s, uint8_t code)
{
    bool lone = code == 0x00 || code == 0x01 || (code >= 0xD0 && code <= 0xD9) || code == 0xDE;

    if (code == 0xFF) /* fill */
        go(s, JPEG_CODE, 1);
    else if (code == 0xDA)
        settle(s, s->w, s->h);
    else if (lone || (is_frame(code) && s->w > 0))
        go(s, UNKNOWN, 0);
    else if (is_frame(code))
        go(s, JPEG_FRAME, 7); /* length, precision, height, width */
    else
        go(s, JPEG_LENGTH, 2);
}

/* <done> bytes of a segment, whose length stands at its head, have been read. */
static void skip_segment(struct picture_size *s, const uint8_t *p, int done)
{
    int length = big16(p);

    s->skip = length >= done ? (uint64_t)(length - done) : 0;
    go(s, length >= done ? JPEG_FF : UNKNOWN, 1);
}

static void read_jpeg_frame(struct picture_size *s, const uint8_t *p)
{
    s->h = big16(p + 3);
    s->w = big16(p + 5);
    skip_segment(s, p, 7);
    if (s->w == 0 || s->h == 0)
        go(s, UNKNOWN, 0);
}

static void take(struct picture_size *s)
{
    const uint8_t *p = s->bytes;

    switch (s->step) {
    case START:
        start(s, p);
        break;
    case PNG:
        read_png(s, p);
        break;
    case RIFF:
        read_riff(s, p);
        break;
    case VP8:
        read_vp8(s, p);
        break;
    case VP8L:
        read_vp8l(s, p);
        break;
    case VP8X:
        settle(s, little24(p + 4) + 1, little24(p + 7) + 1);
        break;
    case GIF:
        read_gif(s, p);
        break;
    case GIF_BLOCK:
        read_gif_block(s, p[0]);
        break;
    case GIF_LABEL:
        go(s, GIF_SUB, 1);
        break;
    case GIF_SUB:
        read_gif_sub(s, p[0]);
        break;
    case GIF_FRAME:
        read_gif_frame(s, p);
        break;
    case JPEG_FF:
        go(s, p[0] == 0xFF ? JPEG_CODE : UNKNOWN, 1);
        break;
    case JPEG_CODE:
        read_jpeg_code(s, p[0]);
        break;
    case JPEG_LENGTH:
        skip_segment(s, p, 2);
        break;
    case JPEG_FRAME:
        read_jpeg_frame(s, p);
        break;
    default:
        break;
    }
}

void picture_size_init(struct picture_size *s)
{
    *s = (struct picture_size){.step = START, .want = 2};
}

bool picture_size_done(const struct picture_size *s)
{
    return s->step >= KNOWN;
}

void picture_size_feed(struct picture_size *s, struct slice bytes)
{
    while (bytes.len > 0 && !picture_size_done(s)) {
        size_t n = bytes.len;

        if (s->skip > 0) {
            n = n < s->skip ? n : (size_t)s->skip;
            s->skip -= n;
        } else {
            n = n < (size_t)(s->want - s->have) ? n : (size_t)(s->want - s->have);
            memcpy(s->bytes + s->have, bytes.p, n);
            s->have = (uint8_t)(s->have + n);
        }
        bytes.p += n;
        bytes.len -= n;
        if (s->skip == 0 && s->have == s->want) {
            take(s);
            if (++s->steps > STEPS_MAX)
                go(s, UNKNOWN, 0);
        }
    }
}

void picture_size_get(const struct picture_size *s, int *w, int *h)
{
    bool known = s->step == KNOWN;

    *w = known ? s->w : 0;
    *h = known ? s->h : 0;
}
