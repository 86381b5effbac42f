/* document.c - the OpenAPI document and the reference page that renders it, both inside the executable. No token:
 * neither tells anything of this installation.
 *
 * The page is one file whose style and script stand in it; a Content-Security-Policy allows just these, by a nonce that
 * is new with each answer, and requests to this listener alone. The call's loop. */
#include "daemon/base/secret.h"
#include "house.h"

enum { NONCE_BYTES = 16, NONCE_DIGITS = 22, POLICY = 512 };

#define NONCE_MARK "{{nonce}}" /* where the page wants it */

extern const char embed_openapi_json[], embed_reference_html[];
extern const size_t embed_openapi_json_len, embed_reference_html_len;

void document_openapi(void *ctx, struct front_call *call)
{
    const struct front_header headers[] = {
        {"cache-control", SLICE("no-cache")},
        {"x-content-type-options", SLICE("nosniff")},
    };

    (void)ctx;
    front_reply(call, 200, headers, sizeof(headers) / sizeof(headers[0]), SLICE("application/json"),
                (struct slice){embed_openapi_json, embed_openapi_json_len});
}

/* The page with each mark replaced. */
static void append_page(struct buf *out, const char *nonce)
{
    const char *at = embed_reference_html, *end = at + embed_reference_html_len;
    const char *mark;

    while ((mark = strstr(at, NONCE_MARK)) != NULL) {
        buf_append(out, at, (size_t)(mark - at));
        buf_append_str(out, nonce);
        at = mark + strlen(NONCE_MARK);
    }
    buf_append(out, at, (size_t)(end - at));
}

void document_reference(void *ctx, struct front_call *call)
{
    uint8_t bytes[NONCE_BYTES];
    char nonce[NONCE_DIGITS + 1] = "", policy[POLICY];
    struct buf out;

    (void)ctx;
    secret_random(bytes, sizeof(bytes));
    base62_encode(bytes, sizeof(bytes), nonce, NONCE_DIGITS);
    (void)snprintf(
        policy, sizeof(policy),
        "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'",
        nonce, nonce);
    const struct front_header headers[] = {
        {"content-security-policy", slice_from(policy)},
        {"cache-control", SLICE("no-store")},
        {"referrer-policy", SLICE("no-referrer")},
        {"x-content-type-options", SLICE("nosniff")},
    };
    buf_init(&out, embed_reference_html_len + 16 * sizeof(nonce));
    append_page(&out, nonce);
    TG_ASSERT(!out.full);
    front_reply(call, 200, headers, sizeof(headers) / sizeof(headers[0]), SLICE("text/html; charset=utf-8"),
                buf_slice(&out));
    buf_dispose(&out);
}
