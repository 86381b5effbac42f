/* chunk.c - the chunked transfer coding (RFC 9112, 7.1), read strictly and in place.
 *
 * What lax readers take in two ways is damage here: lines that end without a carriage return, sizes that something else
 * than a semicolon follows, control characters. Extensions and trailers are read over. Pure functions. */
#include "inside.h"

enum {
    SIZE_DIGITS = 16,         /* of 64 bits */
    FRAMING_FREE = 16 * 1024, /* bytes that any body may spend on sizes, extensions and trailers */
    FRAMING_PER_BYTE = 8      /* and so many more for each byte of its own: chunks of one byte cost five */
};

enum chunk_state {
    AT_SIZE = 0, /* a new one */
    AT_EXTENSION,
    AT_SIZE_NEWLINE,
    AT_BYTES,
    AT_BYTES_RETURN,
    AT_BYTES_NEWLINE,
    AT_TRAILER, /* at the start of a line */
    IN_TRAILER,
    AT_TRAILER_NEWLINE,
    AT_LAST_NEWLINE,
    AT_END,
    DAMAGED
};

static enum chunk_state read_size(struct chunks *c, char byte)
{
    int digit = slice_hex_byte('0', byte);

    if (digit >= 0) {
        if (c->digits++ == SIZE_DIGITS)
            return DAMAGED;
        c->left = c->left * 16 + (unsigned)digit;
        return AT_SIZE;
    }
    if (c->digits == 0)
        return DAMAGED;
    if (byte == '\r')
        return AT_SIZE_NEWLINE;
    return byte == ';' || byte == ' ' || byte == '\t' ? AT_EXTENSION : DAMAGED;
}

/* A byte within a line that is read over: the line's own state, or what its end leads to. */
static enum chunk_state read_over(char byte, enum chunk_state within, enum chunk_state end)
{
    if (byte == '\r')
        return end;
    return byte == '\t' || ((unsigned char)byte >= ' ' && byte != 0x7f) ? within : DAMAGED;
}

static enum chunk_state begin_bytes(struct chunks *c)
{
    c->digits = 0;
    return c->left == 0 ? AT_TRAILER : AT_BYTES;
}

static enum chunk_state step(struct chunks *c, char byte)
{
    bool newline = byte == '\n';

    switch (c->state) {
    case AT_SIZE:
        return read_size(c, byte);
    case AT_EXTENSION:
        return read_over(byte, AT_EXTENSION, AT_SIZE_NEWLINE);
    case AT_SIZE_NEWLINE:
        return newline ? begin_bytes(c) : DAMAGED;
    case AT_BYTES_RETURN:
        return byte == '\r' ? AT_BYTES_NEWLINE : DAMAGED;
    case AT_BYTES_NEWLINE:
        return newline ? AT_SIZE : DAMAGED;
    case AT_TRAILER:
        return read_over(byte, IN_TRAILER, AT_LAST_NEWLINE);
    case IN_TRAILER:
        return read_over(byte, IN_TRAILER, AT_TRAILER_NEWLINE);
    case AT_TRAILER_NEWLINE:
        return newline ? AT_TRAILER : DAMAGED;
    case AT_LAST_NEWLINE:
        return newline ? AT_END : DAMAGED;
    default:
        return DAMAGED;
    }
}

enum chunk_verdict chunks_next(struct chunks *c, struct slice *in, struct slice *run)
{
    while (in->len > 0 && c->state != AT_END && c->state != DAMAGED) {
        if (c->state == AT_BYTES) {
            size_t n = in->len < c->left ? in->len : (size_t)c->left;

            *run = (struct slice){in->p, n};
            *in = (struct slice){in->p + n, in->len - n};
            c->bytes += n;
            c->left -= n;
            if (c->left == 0)
                c->state = AT_BYTES_RETURN;
            return CHUNK_RUN;
        }
        c->state = step(c, in->p[0]);
        *in = (struct slice){in->p + 1, in->len - 1};
        if (++c->framing > FRAMING_FREE + FRAMING_PER_BYTE * c->bytes)
            c->state = DAMAGED;
    }
    if (c->state == DAMAGED)
        return CHUNK_BAD;
    return c->state == AT_END ? CHUNK_END : CHUNK_MORE;
}
