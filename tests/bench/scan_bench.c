/* scan_bench.c - how fast the scanners cross what passes: base64 in a reply and in an event stream, images in a form.
 *
 *   scan_bench [megabytes [bytes a piece]]
 *
 * Each line: the scanner, gigabytes (10^9) a second, the best of ROUNDS. The bytes come in pieces, as from a socket. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/attrs.h"
#include "daemon/base/clock.h"
#include "daemon/images/event_scan.h"
#include "daemon/images/multipart.h"

enum { ROUNDS = 5, RUN = 4 * 1024 * 1024 /* bytes that are scanned again and again */ };

static struct {
    char *base64; /* RUN bytes */
    char *image;  /* RUN bytes, any value */
    uint64_t total;
    size_t piece;
    uint64_t random;
} bench = {.random = 88172645463325252u};

static uint64_t next_random(void)
{
    bench.random ^= bench.random << 13;
    bench.random ^= bench.random >> 7;
    bench.random ^= bench.random << 17;
    return bench.random;
}

static void make_bytes(void)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    bench.base64 = mem_alloc(RUN);
    bench.image = mem_alloc(RUN);
    for (size_t i = 0; i < RUN; i++) {
        uint64_t x = next_random() >> 16;

        bench.base64[i] = alphabet[x % 64];
        bench.image[i] = (char)(x >> 8);
    }
}

static void require(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "scan_bench: %s\n", what);
    exit(1);
}

/* ---- the scanners: each reads one text around <total> bytes of its content ---- */

typedef void feed_fn(void *scan, const char *bytes, size_t len);

static void feed_content(feed_fn *feed, void *scan, const char *run)
{
    for (uint64_t at = 0; at < bench.total; at += bench.piece)
        feed(scan, run + at % RUN, bench.piece);
}

static void feed_text(feed_fn *feed, void *scan, const char *text)
{
    feed(scan, text, strlen(text));
}

static void feed_reply(void *scan, const char *bytes, size_t len)
{
    reply_scan_feed(scan, bytes, len);
}

static void read_reply(void)
{
    struct reply_scan s;
    struct reply_facts f;

    reply_scan_init(&s);
    feed_text(feed_reply, &s, "{\"created\":1,\"data\":[{\"b64_json\":\"");
    feed_content(feed_reply, &s, bench.base64);
    feed_text(feed_reply, &s, "\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}");
    reply_scan_finish(&s, &f);
    require(f.images == 1 && f.usage == REPLY_USAGE_GOOD, "the reply was not understood");
}

static void feed_events(void *scan, const char *bytes, size_t len)
{
    event_scan_feed(scan, bytes, len);
}

static void read_events(void)
{
    struct event_scan s;
    struct reply_facts f;

    event_scan_init(&s);
    feed_text(feed_events, &s, "event: image_generation.completed\ndata: {\"b64_json\":\"");
    feed_content(feed_events, &s, bench.base64);
    feed_text(feed_events, &s, "\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}\n\n");
    event_scan_finish(&s, &f);
    require(f.images == 1 && f.usage == REPLY_USAGE_GOOD, "the event stream was not understood");
}

/* A stream of small events: what an event costs, not its bytes. */
static void read_small_events(void)
{
    static const char event[] =
        "event: image_generation.partial_image\ndata: {\"type\":\"image_generation.partial_image\","
        "\"url\":\"https://images/1\",\"partial_image_index\":0}\n\n";
    struct event_scan s;
    struct reply_facts f;

    event_scan_init(&s);
    for (uint64_t at = 0; at < bench.total; at += sizeof(event) - 1)
        event_scan_feed(&s, event, sizeof(event) - 1);
    event_scan_finish(&s, &f);
    require(f.whole && f.partial_images > 0, "the event stream was not understood");
}

static enum err_code form_begin(void *ctx, const struct multipart_part *part, struct err *err)
{
    (void)ctx, (void)part, (void)err;
    return ERR_OK;
}

static enum err_code form_data(void *ctx, struct slice bytes, uint64_t offset, struct err *err)
{
    uint64_t *content = ctx;

    (void)offset, (void)err;
    *content += bytes.len;
    return ERR_OK;
}

static enum err_code form_end(void *ctx, uint64_t offset, struct err *err)
{
    (void)ctx, (void)offset, (void)err;
    return ERR_OK;
}

static void feed_form(void *form, const char *bytes, size_t len)
{
    require(multipart_feed(form, (struct slice){bytes, len}, NULL) == ERR_OK, "the form was refused");
}

static void read_form(void)
{
    uint64_t content = 0;
    struct multipart_callbacks callbacks = {&content, form_begin, form_data, form_end};
    struct multipart *form = multipart_create("----boundary7MA4YWxkTrZu0gW", &callbacks);

    feed_text(feed_form, form,
              "------boundary7MA4YWxkTrZu0gW\r\nContent-Disposition: form-data; name=\"image\"; "
              "filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n");
    feed_content(feed_form, form, bench.image);
    feed_text(feed_form, form, "\r\n------boundary7MA4YWxkTrZu0gW--\r\n");
    require(multipart_finish(form, NULL) == ERR_OK && content >= bench.total, "the form was not understood");
    multipart_destroy(form);
}

static void measure(const char *name, void (*read)(void))
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = clock_mono();
        int64_t took;

        read();
        took = clock_mono() - start;
        best = took < best ? took : best;
    }
    printf("%-28s %7.2f GB/s\n", name, (double)bench.total / 1e3 / (double)(best > 0 ? best : 1));
}

int main(int argc, char **argv)
{
    long megabytes = argc > 1 ? strtol(argv[1], NULL, 10) : 512;
    long piece = argc > 2 ? strtol(argv[2], NULL, 10) : 16 * 1024;

    require(megabytes > 0 && piece > 0 && RUN % piece == 0, "megabytes > 0, and a piece that divides 4 MiB");
    bench.total = (uint64_t)megabytes * 1024 * 1024;
    bench.piece = (size_t)piece;
    make_bytes();
    printf("%ld MiB in pieces of %ld bytes\n", megabytes, piece);
    measure("reply_scan, base64", read_reply);
    measure("event_scan, base64", read_events);
    measure("event_scan, small events", read_small_events);
    measure("multipart, image bytes", read_form);
    free(bench.base64);
    free(bench.image);
    return 0;
}
