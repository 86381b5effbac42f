/* headers.h - what goes upstream beside the body, and what of an upstream's head comes back.
 *
 * Nothing of the customer's head goes upstream but its body's kind (of a form with its boundary); nothing of the
 * upstream's comes back but what is named here. Owned by the relay or a route; any thread. */
#ifndef TG_RELAY_HEADERS_H
#define TG_RELAY_HEADERS_H

#include "daemon/base/limits.h"
#include "daemon/front/call.h"
#include "daemon/gate/meter.h"
#include "db/record.h"
#include "upstream.h"

/* A route for one path of a channel: "POST", "/images/generations". NULL for a kind of channel that cannot be called
 * so. */
struct upstream_route *headers_route(const struct channel *channel, const char *method, const char *path);

enum { HEADERS_OWN = 32 + ID_TEXT }; /* bytes of headers_own's text */

/* The header that is each call's own: the request's id, under which the upstream can be asked about it. */
const char *headers_own(struct id request, char out[HEADERS_OWN]);

/* What is kept of a reply's head until the answer leaves. */
struct headers_kept {
    char upstream_id[LIMIT_UPSTREAM_ID]; /* x-request-id; printable, cut; empty when absent */
    char processing_ms[16];              /* openai-processing-ms; digits; empty when absent or odd */
    char should_retry[8];                /* x-should-retry: "true", "false" or empty */
    int retry_after;                     /* seconds, 1..59; 0: none given */
};
void headers_keep(struct headers_kept *kept, const struct upstream *u);

/* The kinds of a whole answer: a stream of events, or JSON. */
struct slice headers_type(bool events);
bool headers_is_events(struct slice content_type); /* text/event-stream, any parameters */

/* What a stream of events carries besides, so that no proxy keeps or gathers it. Returns how many. */
enum { HEADERS_EVENTS = 2 };
size_t headers_events(struct front_header out[HEADERS_EVENTS]);

enum { HEADERS_BACK = 4 };

/* The headers that every answer made from an upstream's reply carries; borrowed from <kept>. Returns how many. */
size_t headers_back(const struct headers_kept *kept, struct front_header out[HEADERS_BACK]);

/* Texts of headers that are made for one answer. */
struct headers_texts {
    char of[8][METER_SPAN_TEXT];
};

/* What the caller's rate limits leave, where some stand. Borrowed from <texts>. Returns how many. */
enum { HEADERS_LIMITS = 6 };
size_t headers_limits(const struct meter_view *view, struct headers_texts *texts, struct front_header *out);

/* When a call that a rate limit refused may be repeated, in <wait> microseconds. Every SDK waits up to 59 seconds by
 * itself; where that is of no use it is told not to. Likewise. */
enum { HEADERS_RETRY = 3 };
size_t headers_retry(int64_t wait, struct headers_texts *texts, struct front_header *out);

#endif
