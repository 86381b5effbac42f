/* event_scan.h - what an upstream's event stream (text/event-stream, WHATWG HTML 9.2.6) says, and how much of it may
 * leave, found while its bytes stream by.
 *
 * Constant memory at any length of line, event or stream; any split of the stream gives the same facts. Lines end with
 * LF, CR LF or CR; comments and unknown fields and events pass. Several `data:` lines of one event are one JSON text.
 * An event is named by its `event:` line and by the "type" of its data, which both stand in what upstreams send:
 *
 *   *.completed        an image (when it carries one) and usage
 *   *.partial_image    a partial image
 *   error, or data with a non-null "error"      the upstream gave up
 *   data: [DONE]       the end
 *
 * In doubt it is a completed one, so that none gets out uncharged: when one of the two names says so, when a name is
 * too long to be looked at, when there is no name and yet a picture. A completed event whose data is no JSON carries an
 * image.
 *
 * Only the last bytes of a stream decide whether the customer has the whole. So the last EVENT_TAIL bytes are kept back
 * from within any event until its end shows that it is harmless, and from within a completed one until another image
 * (completed or partial) has followed it. Never more than EVENT_TAIL bytes are kept back, so that a stream cannot come
 * to a stand, except after the last image that is expected (event_scan_expect). */
#ifndef TG_IMAGES_EVENT_SCAN_H
#define TG_IMAGES_EVENT_SCAN_H

#include "reply_scan.h"

enum { EVENT_TAIL = 4096 /* bytes kept back */, EVENT_TYPE = 64 /* bytes of an event's name that are looked at */ };

struct event_scan {
    struct reply_scan data;   /* of the event at hand */
    struct reply_facts facts; /* of the events before it */
    uint64_t offset;          /* bytes fed */
    uint64_t start;           /* where the event at hand begins */
    uint64_t held;            /* pending: where the completed event begins that no other image has followed */
    uint64_t released;        /* frozen: bytes that may leave */
    int expected;             /* completed events after which nothing leaves */
    int completed;            /* completed events */
    int told;                 /* completed events with usage */
    uint8_t state, field;     /* enums of event_scan.c */
    uint8_t types;            /* what the event: lines of the event at hand said, enum reply_type */
    uint8_t done_len;         /* how much of its data is the beginning of [DONE] */
    bool after_cr, in_event, has_data;
    bool pending, frozen, done, bad_usage;
    bool cut; /* text is but the beginning */
    uint8_t text_len;
    char text[EVENT_TYPE]; /* of the line at hand: the field's name, then the value of an event: */
};

void event_scan_init(struct event_scan *s);

/* How many completed events there can be (any, unless this is called right after init): the last of them, and whatever
 * comes behind it, is not let go by event_scan_free at all. The caller must not wait for that. */
void event_scan_expect(struct event_scan *s, int completed);
void event_scan_feed(struct event_scan *s, const char *bytes, size_t len);

/* How many of all bytes fed may leave before the charge is durable. Never falls. */
uint64_t event_scan_free(const struct event_scan *s);

/* Whether a comment of our own may follow the first event_scan_free bytes: they end with a line's end, outside an
 * event. */
bool event_scan_at_line(const struct event_scan *s);

/* The stream has said all it will: [DONE], or an error event. */
bool event_scan_ended(const struct event_scan *s);

/* Completed events so far. */
int event_scan_completed(const struct event_scan *s);

/* How an event of which a part has left, and whose rest will never come, can be ended as JSON: after the first *keep
 * bytes of all fed (not fewer than event_scan_free, and never the whole of its picture) *rest ends the member under
 * way, and others may follow it in the object. False when that cannot be told. Before event_scan_finish. */
bool event_scan_mend(const struct event_scan *s, uint64_t *keep, struct slice *rest);

/* The stream has ended; *out gets the facts. whole: it ended between two events. When it ended inside one, and nothing
 * but its last line ends is missing (the data is whole JSON, or [DONE]), that event counts too: some clients' parsers
 * deliver it, the others need a blank line after it. has_data: an event came. has_error: an error event came. images:
 * those of the completed events. usage: NONE when no completed event told any; UNTRUSTED when one told what cannot be
 * (reply_scan_finish), or when some told and others did not, or in sum more than REPLY_TOKENS_MAX; else GOOD. size and
 * quality: of the last completed event that told them. */
void event_scan_finish(struct event_scan *s, struct reply_facts *out);

#endif
