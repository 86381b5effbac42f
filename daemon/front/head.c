/* head.c - judges HTTP/1 request heads where the library would answer by itself, or would not mind.
 *
 * Uses the library's own parser, so that both read the same; what it takes is looked at for two lengths of one body,
 * the seam through which requests are smuggled behind lax proxies (RFC 9112, 6.1 and 6.3). Pure functions. */
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
    return h->name != NULL && slice_eq_nocase((struct slice){h->name, h->name_len}, name);
}

/* Good, bad, or larger than the listener takes. */
static enum head_verdict judge_fields(const struct phr_header *headers, size_t n, int64_t max_body)
{
    int lengths = 0, encodings = 0;
    bool too_large = false;

    for (size_t i = 0; i < n; i++) {
        unsigned long long length;

        if (is_named(&headers[i], SLICE("transfer-encoding"))) {
            encodings++;
            if (!slice_eq_nocase((struct slice){headers[i].value, headers[i].value_len}, SLICE("chunked")))
                return HEAD_BAD;
        }
        if (!is_named(&headers[i], SLICE("content-length")))
            continue;
        lengths++;
        if (!slice_to_u64((struct slice){headers[i].value, headers[i].value_len}, &length))
            return HEAD_BAD;
        too_large |= length > (unsigned long long)max_body;
    }
    if (lengths + encodings > 1)
        return HEAD_BAD;
    return too_large ? HEAD_TOO_LARGE : HEAD_GOOD;
}

enum head_verdict head_judge(const char *bytes, size_t len, int64_t max_body)
{
    struct phr_header headers[HEAD_FIELDS];
    size_t n = HEAD_FIELDS, method_len, path_len;
    const char *method, *path;
    int minor;
    int used = phr_parse_request(bytes, len < HEAD_BYTES ? len : HEAD_BYTES, &method, &method_len, &path, &path_len,
                                 &minor, headers, &n, 0);

    if (used == -2)
        return len < HEAD_BYTES ? HEAD_INCOMPLETE : HEAD_BAD;
    return used > 0 ? judge_fields(headers, n, max_body) : HEAD_BAD;
}
