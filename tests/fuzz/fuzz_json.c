/* fuzz_json.c - the scanner gives the same events and offsets at every split; json_read accepts nothing that the strict
 * scanner refuses, and everything it accepts reads the same again after it was printed.
 *
 * The first byte of the input seeds the splits; the rest is the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/json.h"
#include "daemon/base/json_scan.h"
#include "daemon/base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct digest {
    uint64_t hash;
    uint64_t last_end;
    const uint8_t *text; /* NULL while the text is fed in pieces */
};

static void mix(struct digest *d, uint64_t value)
{
    d->hash = (d->hash ^ value) * UINT64_C(0x100000001B3);
}

static bool on_event(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole, uint64_t start,
                     uint64_t end)
{
    struct digest *d = ctx;

    TG_ASSERT(start >= d->last_end && end > start && depth >= 0 && depth <= LIMIT_JSON_DEPTH);
    TG_ASSERT(text.len <= JSON_SCAN_TEXT);
    d->last_end = end;
    mix(d, (uint64_t)event);
    mix(d, (uint64_t)depth);
    mix(d, whole);
    mix(d, start);
    mix(d, end);
    for (size_t i = 0; i < text.len; i++)
        mix(d, (uint8_t)text.p[i]);
    if (d->text != NULL && text.len > 0) {
        bool quoted = event == JSON_SCAN_KEY || event == JSON_SCAN_STRING;

        TG_ASSERT(memcmp(d->text + start + quoted, text.p, text.len) == 0);
        TG_ASSERT(!whole || end - start == text.len + 2u * quoted);
    }
    return true;
}

static enum json_scan_result scan_whole(const uint8_t *text, size_t len, bool strict, struct digest *d,
                                        uint64_t *offset)
{
    struct json_scan s;

    *d = (struct digest){.text = text};
    json_scan_init(&s, LIMIT_JSON_DEPTH, strict, on_event, d);
    (void)json_scan_feed(&s, (const char *)text, len);
    *offset = s.offset;
    return json_scan_finish(&s);
}

static enum json_scan_result scan_split(const uint8_t *text, size_t len, bool strict, uint32_t seed, struct digest *d,
                                        uint64_t *offset)
{
    struct json_scan s;

    *d = (struct digest){0};
    json_scan_init(&s, LIMIT_JSON_DEPTH, strict, on_event, d);
    while (len > 0) {
        size_t n;
        char *copy;

        seed = seed * 1664525 + 1013904223;
        n = seed >> 24 < 128 ? 1 : 1 + (seed >> 16) % 40;
        if (n > len)
            n = len;
        copy = malloc(n); /* a piece of its own, so that reading past it is caught */
        memcpy(copy, text, n);
        (void)json_scan_feed(&s, copy, n);
        free(copy);
        text += n;
        len -= n;
    }
    *offset = s.offset;
    return json_scan_finish(&s);
}

static void check_reader(struct slice text, bool accepted)
{
    struct json_object *tree = NULL, *again = NULL;
    struct err err = {0};
    enum err_code code = json_read(text, &tree, &err);

    if (code != ERR_OK) {
        TG_ASSERT(tree == NULL && err.code == code && err.message[0] != '\0');
        TG_ASSERT((code == ERR_BAD_JSON) == !(accepted && utf8_valid(text)));
        return;
    }
    TG_ASSERT(accepted && utf8_valid(text));
    const char *printed = json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN);
    code = json_read(slice_from(printed), &again, &err);
    TG_ASSERT(code == ERR_OK);
    TG_ASSERT(strcmp(printed, json_object_to_json_string_ext(again, JSON_C_TO_STRING_PLAIN)) == 0);
    json_object_put(again);
    json_object_put(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum json_scan_result results[2];
    struct digest whole, split;
    uint64_t at, split_at;

    if (size == 0)
        return 0;
    for (int strict = 0; strict < 2; strict++) {
        results[strict] = scan_whole(data + 1, size - 1, strict, &whole, &at);
        TG_ASSERT(scan_split(data + 1, size - 1, strict, data[0], &split, &split_at) == results[strict]);
        TG_ASSERT(whole.hash == split.hash && at == split_at);
    }
    TG_ASSERT(results[1] == JSON_SCAN_BAD || results[0] == JSON_SCAN_DONE); /* strict accepts no more than lax */
    check_reader((struct slice){(const char *)data + 1, size - 1}, results[1] == JSON_SCAN_DONE);
    return 0;
}
