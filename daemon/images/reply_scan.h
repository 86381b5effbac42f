/* reply_scan.h - what an upstream's JSON reply says, found while its bytes stream by.
 *
 * Constant memory at any length; any split of the reply gives the same facts. The base64 is crossed, never looked at.
 * Of members that stand there twice the last one holds, as in the clients' own parsers; figures of usage that then
 * differ are untrusted. The data of an event in a stream is read by the same rules (reply_scan_init_event). */
#ifndef TG_IMAGES_REPLY_SCAN_H
#define TG_IMAGES_REPLY_SCAN_H

#include "daemon/base/json_scan.h"
#include "daemon/billing/price.h"

enum reply_usage { REPLY_USAGE_NONE = 0, REPLY_USAGE_GOOD, REPLY_USAGE_UNTRUSTED };

struct reply_facts {
    bool whole;         /* a complete JSON object, nothing behind it */
    bool has_error;     /* a non-null "error" member at the top, in one place at least */
    bool has_data;      /* a "data" array at the top */
    int images;         /* objects in it that carry b64_json or url, and not an empty one; of an event stream: completed
                           events that do */
    int partial_images; /* event streams: partial_image events */
    enum reply_usage usage;
    /* When usage is good, else all zero: each token in one unit, cached ones split off; PRICE_IMAGE is images,
     * PRICE_REQUEST 1, so that a model with usage can be sold by the picture too. */
    struct price_quantities quantities;
    /* Event streams: `quantities` sums the usage of all completed events; this is the usage of the one with the most
     * output, for upstreams that repeat the whole call's usage in each (event_scan.h). Else equal to quantities. */
    struct price_quantities largest;
    char size[LIMIT_SIZE]; /* effective, "" when not told */
    char quality[LIMIT_QUALITY];
};

enum { REPLY_LEVELS = 8 }; /* deeper ones hold nothing that we know */

/* What the name of an event says it is, as bits: names that contradict each other are kept together. */
enum reply_type { REPLY_TYPE_COMPLETED = 1, REPLY_TYPE_PARTIAL = 2, REPLY_TYPE_ERROR = 4, REPLY_TYPE_OTHER = 8 };

/* "*.completed", "*.partial_image", "error", any other; no bit for an empty name. */
unsigned reply_type_of(struct slice name);

struct reply_scan {
    struct json_scan scan;
    struct reply_facts facts;
    uint8_t at[REPLY_LEVELS]; /* what each open level is, enum of reply_scan.c */
    uint8_t member;           /* the key whose value comes next, likewise */
    bool event;               /* the data of an event, not a reply */
    uint8_t types;            /* events: what each "type" at the top said; one that cannot be read may be any, and
                                 counts as completed */
    bool has_picture;         /* events: a b64_json or url at the top, not an empty one */
    uint64_t picture_start, picture_end; /* where it stands in the data */
    bool image_counted;                  /* the image at hand */
    bool seen_usage;
    bool bad_usage;               /* a figure that cannot be: negative, fractional, not a number, too large */
    int64_t input, output, total; /* -1: not told */
    int64_t input_text, input_image, input_cached, cached_text, cached_image; /* -1: not told */
    int64_t output_text, output_image;                                        /* -1: not told */
    enum json_scan_result result;
};

void reply_scan_init(struct reply_scan *s);

/* For the data of one event: the picture, like the name ("type"), stands at the top; facts.images is 1 when there is
 * one, or the number of those in a "data" array. */
void reply_scan_init_event(struct reply_scan *s);
void reply_scan_feed(struct reply_scan *s, const char *bytes, size_t len);

/* Events: the value under way is the picture. */
bool reply_scan_in_picture(const struct reply_scan *s);

/* The reply has ended; *out gets the facts. Usage is
 * - none: the reply has none, is not whole, or its usage tells nothing but zeros;
 * - untrusted: a figure is negative, fractional, written with an exponent, no number or above REPLY_TOKENS_MAX; figures
 *   contradict each other (total is not input plus output, parts do not make up their whole); input or output cannot be
 *   known; or there are images and no output;
 * - good: otherwise.
 *
 * What good usage leaves open: output without details is image output; input without details is text (a generation has
 * no image inputs); of two parts the one that is missing is the rest; cached tokens without a split are text first. */
void reply_scan_finish(struct reply_scan *s, struct reply_facts *out);

#define REPLY_TOKENS_MAX INT64_C(100000000) /* tokens in any one figure: far above any call's ceiling */

#endif
