/* head.c - judges HTTP/1 request heads where the library would answer by itself, or would not mind.
 *
 * Uses the library's own parser, so that both read the same; what it takes is looked at for two lengths of one body,
 * the seam through which requests are smuggled behind lax proxies (RFC 9112, 6.1 and 6.3), and for what proxies read in
 * two ways: folded lines, bare newlines, more than one Host. Pure functions. */
#include "inside.h"

enum { HEAD_BYTES = 65536, HEAD_FIELDS = 100 };

/* picohttpparser, inside libh2o: exported, but its header is not installed. */
struct phr_header {
    const char *name; /* NULL: a folded line */
    size_t name_len;
    const char *value;
    size_t value_len;
};
int phr_parse_request(const char *buf, size_t len, const char **method, size_t *method_len, const char **path,
                      size_t *path_len, int *minor_version, struct phr_header *headers, size_t *num_headers,
                      size_t last_len);

static bool is_named(const struct phr_header *h, struct slice name)
{
    return slice_eq_nocase((struct slice){h->name, h->name_len}, name);
}

/* What else stands in a head is the library's and the handlers' to judge. */
struct tally {
    int lengths, encodings, hosts;
    bool expects;
    const char *framing; /* the name of the field that tells the body's end */
};

static bool count_field(const struct phr_header *h, struct tally *tally, struct head *out)
{
    struct slice value = {h->value, h->value_len};

    if (h->name == NULL) /* a folded line (RFC 9112, 5.2) */
        return false;
    if (is_named(h, SLICE("content-length"))) {
        tally->lengths++;
        tally->framing = h->name;
        return slice_to_u64(slice_trim(value), &out->body);
    }
    if (is_named(h, SLICE("transfer-encoding"))) {
        tally->encodings++;
        tally->framing = h->name;
        out->chunked = true;
        return slice_eq_nocase(slice_trim(value), SLICE("chunked"));
    }
    if (is_named(h, SLICE("host")))
        tally->hosts++;
    if (is_named(h, SLICE("expect")) && slice_eq_nocase(slice_trim(value), SLICE("100-continue")))
        tally->expects = true;
    return true;
}

/* A line that ends without a carriage return ends for some proxies, and for others it does not. */
static bool has_bare_newline(const char *bytes, size_t len)
{
    const char *end = bytes + len, *at = bytes;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (at == bytes || at[-1] != '\r')
            return true;
        at++;
    }
    return false;
}

static bool judge_fields(const struct phr_header *headers, size_t n, int minor, const char *bytes, struct head *out)
{
    struct tally tally = {.framing = NULL};

    for (size_t i = 0; i < n; i++) {
        if (!count_field(&headers[i], &tally, out))
            return false;
    }
    out->framing = tally.framing != NULL ? (size_t)(tally.framing - bytes) : 0;
    out->expects = tally.expects && minor > 0;
    if (minor == 0)
        return tally.lengths <= 1 && tally.encodings == 0 && tally.hosts <= 1;
    return tally.lengths + tally.encodings <= 1 && tally.hosts == 1;
}

enum head_verdict head_judge(const char *bytes, size_t len, size_t seen, struct head *out)
{
    struct phr_header headers[HEAD_FIELDS];
    size_t n = HEAD_FIELDS;
    int minor, used;

    *out = (struct head){.len = 0};
    used = phr_parse_request(bytes, len < HEAD_BYTES ? len : HEAD_BYTES, &out->method.p, &out->method.len,
                             &out->target.p, &out->target.len, &minor, headers, &n, seen);
    if (used == -2)
        return len < HEAD_BYTES ? HEAD_INCOMPLETE : HEAD_BAD;
    if (used <= 0 || minor > 1 || has_bare_newline(bytes, (size_t)used) || !judge_fields(headers, n, minor, bytes, out))
        return HEAD_BAD;
    out->len = (size_t)used;
    return HEAD_GOOD;
}
