/* headers.c - the two lists of headers that pass: one up, one down.
 *
 * Both are closed lists. A customer's OpenAI-Organization, cookies or X-Forwarded-* must not ride on the channel's
 * credential; an upstream's cookies, organisation, account limits and server names are the operator's business. */
#include "headers.h"

#include <stdio.h>

#include "daemon/base/attrs.h"
#include "daemon/base/clock.h"

enum {
    RETRY_AFTER_MAX = 59
}; /* every SDK waits this long itself; more is ignored by some and obeyed for hours by others */

enum { AUTHORIZATION = 32 + LIMIT_CREDENTIAL, URL = LIMIT_URL + 64 };

struct upstream_route *headers_route(const struct channel *channel, const char *method, const char *path)
{
    char authorization[AUTHORIZATION], url[URL];
    const char *list[] = {
        "Accept: application/json",
        "Accept-Encoding: identity", /* base64 hardly shrinks, and every byte would be inflated to find the usage */
        "User-Agent: tallygate",
        "Expect:", /* no second of waiting for a 100 */
        authorization,
    };
    size_t n = sizeof(list) / sizeof(list[0]);
    struct upstream_route *route;

    if (channel->channel_kind != CHANNEL_OPENAI && channel->channel_kind != CHANNEL_SANDBOX)
        return NULL;
    if (snprintf(url, sizeof(url), "%s%s", channel->base_url, path) >= (int)sizeof(url))
        return NULL;
    if (channel->credential == NULL || channel->credential[0] == '\0')
        n--;
    else if (snprintf(authorization, sizeof(authorization), "Authorization: Bearer %s", channel->credential) >=
             (int)sizeof(authorization))
        return NULL;
    route = upstream_route_create(method, url, list, n);
    secret_wipe(authorization, sizeof(authorization));
    return route;
}

const char *headers_own(struct id request, char out[HEADERS_OWN])
{
    char text[ID_TEXT];

    snprintf(out, HEADERS_OWN, "x-client-request-id: %s", id_format("req", request, text));
    return out;
}

/* ---- back ---- */

struct slice headers_type(bool events)
{
    return events ? SLICE("text/event-stream") : SLICE("application/json");
}

bool headers_is_events(struct slice content_type)
{
    struct slice type, rest;

    (void)slice_cut(content_type, ';', &type, &rest);
    return slice_eq_nocase(slice_trim(type), headers_type(true));
}

size_t headers_events(struct front_header out[HEADERS_EVENTS])
{
    out[0] = (struct front_header){"cache-control", SLICE("no-cache")};
    out[1] = (struct front_header){"x-accel-buffering", SLICE("no")};
    return HEADERS_EVENTS;
}

static void keep_text(struct slice value, char *out, size_t cap)
{
    size_t n = 0;

    while (n < value.len && n < cap - 1 && value.p[n] > ' ' && value.p[n] < 0x7f) {
        out[n] = value.p[n];
        n++;
    }
    out[n] = '\0';
}

static void keep_number(struct slice value, char *out, size_t cap)
{
    unsigned long long number;

    if (!slice_to_u64(value, &number) || !slice_copy(value, out, cap))
        out[0] = '\0';
}

static int keep_retry_after(struct slice value)
{
    unsigned long long seconds;

    if (!slice_to_u64(value, &seconds)) /* a date, or nothing: the SDKs' own back-off serves as well */
        return 0;
    if (seconds > RETRY_AFTER_MAX)
        return RETRY_AFTER_MAX;
    return seconds < 1 ? 1 : (int)seconds;
}

void headers_keep(struct headers_kept *kept, const struct upstream *u)
{
    struct slice retry = upstream_header(u, "x-should-retry");

    keep_text(upstream_header(u, "x-request-id"), kept->upstream_id, sizeof(kept->upstream_id));
    keep_number(upstream_header(u, "openai-processing-ms"), kept->processing_ms, sizeof(kept->processing_ms));
    kept->retry_after = keep_retry_after(upstream_header(u, "retry-after"));
    kept->should_retry[0] = '\0';
    if (slice_eq_str(retry, "true") || slice_eq_str(retry, "false"))
        (void)slice_copy(retry, kept->should_retry, sizeof(kept->should_retry));
}

size_t headers_back(const struct headers_kept *kept, struct front_header out[HEADERS_BACK])
{
    size_t n = 0;

    if (kept->upstream_id[0] != '\0')
        out[n++] = (struct front_header){"x-upstream-request-id", slice_from(kept->upstream_id)};
    if (kept->processing_ms[0] != '\0')
        out[n++] = (struct front_header){"openai-processing-ms", slice_from(kept->processing_ms)};
    return n;
}

/* ---- rate limits ---- */

enum { FIGURES = 3, TEXT_SECONDS = 2 * FIGURES, TEXT_MS }; /* places among the texts */

static size_t tell(const struct meter_figures *f, const char *const names[FIGURES], struct headers_texts *texts,
                   int first, struct front_header *out)
{
    if (f->limit == 0)
        return 0;
    snprintf(texts->of[first], METER_SPAN_TEXT, "%lld", (long long)f->limit);
    snprintf(texts->of[first + 1], METER_SPAN_TEXT, "%lld", (long long)f->remaining);
    (void)meter_format_span(f->reset, texts->of[first + 2]);
    for (int i = 0; i < FIGURES; i++)
        out[i] = (struct front_header){names[i], slice_from(texts->of[first + i])};
    return FIGURES;
}

size_t headers_limits(const struct meter_view *view, struct headers_texts *texts, struct front_header *out)
{
    static const char *const requests[FIGURES] = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                                                  "x-ratelimit-reset-requests"};
    static const char *const images[FIGURES] = {"x-ratelimit-limit-images", "x-ratelimit-remaining-images",
                                                "x-ratelimit-reset-images"};
    size_t n = tell(&view->requests, requests, texts, 0, out);

    return n + tell(&view->images, images, texts, FIGURES, out + n);
}

size_t headers_retry(int64_t wait, struct headers_texts *texts, struct front_header *out)
{
    int64_t ms = wait < RETRY_AFTER_MAX * CLOCK_SECOND ? (wait + 999) / 1000 : RETRY_AFTER_MAX * INT64_C(1000);
    size_t n = 0;

    if (ms < 1)
        ms = 1;
    snprintf(texts->of[TEXT_SECONDS], METER_SPAN_TEXT, "%lld", (long long)(ms + 999) / 1000);
    snprintf(texts->of[TEXT_MS], METER_SPAN_TEXT, "%lld", (long long)ms);
    out[n++] = (struct front_header){"retry-after", slice_from(texts->of[TEXT_SECONDS])};
    out[n++] = (struct front_header){"retry-after-ms", slice_from(texts->of[TEXT_MS])};
    if (wait > METER_SECONDS * CLOCK_SECOND)
        out[n++] = (struct front_header){"x-should-retry", SLICE("false")};
    return n;
}
