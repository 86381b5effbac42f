/* data_url.c - "data:", a media type, ";base64,", and then pictures' bytes six bits at a time.
 *
 * Invariants: closed once the size is known or can never be; decoded <= DATA_URL_LOOK; n_bits < 8 between characters.
 */
#include "data_url.h"

enum { BLOCK = 256 }; /* bytes decoded before they are looked at */

void data_url_init(struct data_url *u)
{
    u->closed = u->in_body = false;
    u->head_len = 0;
    u->bits = 0;
    u->n_bits = 0;
    u->decoded = 0;
    picture_size_init(&u->size);
}

void data_url_spoil(struct data_url *u)
{
    if (!u->closed)
        picture_size_init(&u->size);
    u->closed = true;
}

/* The head is whole: base64, or nothing that is read here. */
static void end_head(struct data_url *u)
{
    struct slice scheme = SLICE("data:"), coding = SLICE(";base64");
    struct slice head = {u->head, u->head_len};

    u->in_body = head.len >= scheme.len + coding.len && slice_eq_nocase((struct slice){head.p, scheme.len}, scheme) &&
                 slice_eq_nocase((struct slice){head.p + head.len - coding.len, coding.len}, coding);
    u->closed = !u->in_body;
}

static void feed_head(struct data_url *u, struct slice *text)
{
    while (text->len > 0 && !u->closed && !u->in_body) {
        char c = *text->p;

        text->p++;
        text->len--;
        if (c == ',')
            end_head(u);
        else if (u->head_len < sizeof(u->head))
            u->head[u->head_len++] = c;
        else
            u->closed = true;
    }
}

/* -1: no character of base64. */
static int six_bits(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes up to a block; stops at what is no base64 (padding too: nothing follows it that a size could stand in). */
static size_t decode(struct data_url *u, struct slice *text, char out[BLOCK])
{
    size_t room = DATA_URL_LOOK - u->decoded < BLOCK ? DATA_URL_LOOK - u->decoded : BLOCK;
    size_t n = 0;

    while (text->len > 0 && n < room && !u->closed) {
        int six = six_bits(*text->p);

        if (six < 0) {
            u->closed = true;
            break;
        }
        text->p++;
        text->len--;
        u->bits = (u->bits << 6 | (uint32_t)six) & 0xFFFF;
        u->n_bits += 6;
        if (u->n_bits >= 8) {
            u->n_bits -= 8;
            out[n++] = (char)(u->bits >> u->n_bits & 0xFF);
        }
    }
    return n;
}

void data_url_feed(struct data_url *u, struct slice text)
{
    char block[BLOCK];

    feed_head(u, &text);
    while (text.len > 0 && !u->closed) {
        size_t n = decode(u, &text, block);

        picture_size_feed(&u->size, (struct slice){block, n});
        u->decoded += (uint32_t)n;
        if (picture_size_done(&u->size) || u->decoded >= DATA_URL_LOOK)
            u->closed = true;
    }
}

void data_url_size(const struct data_url *u, int *w, int *h)
{
    picture_size_get(&u->size, w, h);
}
