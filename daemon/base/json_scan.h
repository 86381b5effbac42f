/* json_scan.h - an incremental, allocation-free JSON lexer: feed it any split of a text, get the same events.
 *
 * Serves two masters: strict validation of whole documents that strangers send (grammar of RFC 8259, depth, number of
 * keys), and finding a few small values in replies of hundreds of megabytes, whose base64 strings it crosses with
 * memchr. UTF-8 is checked apart (utf8.h). One scanner, one thread.
 *
 * States: see the diagram at the head of json_scan.c. After an error or the end of the document every further feed
 * returns the same result; trailing white space is allowed, anything else after the document is an error. */
#ifndef TG_BASE_JSON_SCAN_H
#define TG_BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

enum { JSON_SCAN_DEPTH = 64, JSON_SCAN_TEXT = 256 }; /* nesting; bytes kept of a key or a scalar */

enum json_scan_event {
    JSON_SCAN_OBJECT = 0, /* { */
    JSON_SCAN_ARRAY,      /* [ */
    JSON_SCAN_END,        /* } or ] */
    JSON_SCAN_KEY,        /* text = the key, still escaped */
    JSON_SCAN_STRING,     /* text = the string, still escaped */
    JSON_SCAN_NUMBER,     /* text = its characters */
    JSON_SCAN_TRUE,
    JSON_SCAN_FALSE,
    JSON_SCAN_NULL
};

enum json_scan_result { JSON_SCAN_MORE = 0, JSON_SCAN_DONE, JSON_SCAN_BAD };

struct json_scan;

/* <depth>: 0 for the outermost value, 1 for the members of the outermost object, ... A container's END carries the
 * depth of its start. <text> is valid during the call only; when the key or scalar was longer than JSON_SCAN_TEXT it
 * holds the first JSON_SCAN_TEXT bytes and <whole> is false. <start>..<end>: byte offsets in the whole document of the
 * token, quotes included. Return false to stop with JSON_SCAN_BAD. */
typedef bool json_scan_fn(void *ctx, enum json_scan_event event, int depth, struct slice text, bool whole,
                          uint64_t start, uint64_t end);

struct json_scan {
    json_scan_fn *fn;
    void *ctx;
    uint64_t offset; /* bytes consumed */
    uint64_t token_start;
    int depth;                      /* open containers */
    int max_depth;                  /* <= JSON_SCAN_DEPTH */
    uint8_t stack[JSON_SCAN_DEPTH]; /* '{' or '[' */
    uint8_t state;                  /* enum of json_scan.c */
    uint8_t sub;                    /* progress inside a literal, an escape or a number */
    bool is_key;
    bool strict; /* control characters inside strings are errors */
    bool cut;    /* the token did not fit in text */
    size_t text_len;
    char text[JSON_SCAN_TEXT];
};

/* <fn> may be NULL: validation alone. */
void json_scan_init(struct json_scan *s, int max_depth, bool strict, json_scan_fn *fn, void *ctx);
enum json_scan_result json_scan_feed(struct json_scan *s, const char *bytes, size_t len);

/* The end of the text has come: DONE when the document is whole (a number at the outermost level ends here). */
enum json_scan_result json_scan_finish(struct json_scan *s);

/* What has to follow to end the string value that is under way as a member of the outermost object, closing quote
 * included; NULL when none is. <start>: where it begins. */
const char *json_scan_string_rest(const struct json_scan *s, uint64_t *start);

#endif
