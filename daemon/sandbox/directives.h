/* directives.h - what a prompt asks the sandbox to do: "[[latency=2s]] [[status=429]] a sea otter".
 *
 * Any answer
 *   latency=2s        wait before the answer (us, ms, s)      status=429       answer with this error status (400..599)
 *   die=headers       close before any answer                 die=50%          close after that share of the answer
 *   die=2events       close after so many events              moderation       refuse as the safety system does
 *   hang              never answer                            hang=50%, hang=2events  fall silent there
 *   slow=100KiB/s     at this rate                            split=1          so many bytes a write
 *   gzip              compressed, whoever asked               chunked          without a Content-Length
 *   retry-after=7     that header, in seconds                 early            refuse before the form's end has come
 *   as=html           a page instead of JSON                  as=text          the right body as text/plain
 *   as=error          an error object with status 200         as=cut           JSON without its last brace
 *   as=json           JSON, though a stream was asked         as=events        a stream, though none was
 *
 * What is delivered
 *   images=1          fewer images (0..n)                     partials=1       fewer partial images (0..asked)
 *   bytes=4MiB        bytes of each picture (B, KiB, MiB)
 *   usage=1000,20,4160  text in, image in, image out          usage=none       left out
 *   usage=last        on the last event alone                 usage=repeated   the whole call's on every event
 *   usage=negative, fractional, huge, inconsistent, zero      figures that cannot be
 *
 * Streams
 *   pause=50ms        between two events
 *   events=crlf,done  how they are written, any of
 *     crlf cr         how lines end                           untyped          no `event:` lines
 *     done            data: [DONE] at the end                 comments         a comment before each event
 *     lines           an event's data in two lines            minimal          type, picture and usage alone
 *     unknown         an event of an unknown type first       open             no empty line at the end
 *     error           an error event instead of the last image
 *
 * Anything else in double brackets is part of the prompt. */
#ifndef TG_SANDBOX_DIRECTIVES_H
#define TG_SANDBOX_DIRECTIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/slice.h"

#define DIRECTIVE_BYTES_MAX (INT64_C(64) * 1024 * 1024) /* of one picture */
#define DIRECTIVE_LATENCY_MAX (INT64_C(3600) * 1000000)

enum directive_stop { STOP_NEVER = 0, STOP_HEADERS, STOP_PERCENT, STOP_EVENTS };

enum directive_usage { USAGE_EACH = 0, USAGE_LAST, USAGE_REPEATED, USAGE_NONE };

enum directive_lie { LIE_NONE = 0, LIE_NEGATIVE, LIE_FRACTIONAL, LIE_HUGE, LIE_INCONSISTENT, LIE_ZERO };

enum directive_form { FORM_ASKED = 0, FORM_JSON, FORM_EVENTS, FORM_HTML, FORM_TEXT, FORM_ERROR, FORM_CUT };

enum directive_events {
    EVENTS_CRLF = 1,
    EVENTS_CR = 2,
    EVENTS_UNTYPED = 4,
    EVENTS_DONE = 8,
    EVENTS_COMMENTS = 16,
    EVENTS_LINES = 32,
    EVENTS_MINIMAL = 64,
    EVENTS_UNKNOWN = 128,
    EVENTS_OPEN = 256,
    EVENTS_ERROR = 512
};

struct directives {
    int64_t latency;      /* microseconds; 0: none asked */
    int64_t pause;        /* microseconds between events */
    int64_t bytes;        /* 0: as the picture is */
    int64_t slow;         /* bytes a second; 0: no limit */
    int64_t split;        /* bytes a write; 0: all at once */
    int64_t retry_after;  /* seconds; -1: no such header */
    int64_t usage[3];     /* text in, image in, image out, when usage_given */
    int64_t stop_at;      /* percent or events */
    int status;           /* 0: none asked */
    int images, partials; /* -1: as many as asked */
    unsigned events;      /* enum directive_events */
    enum directive_stop stop;
    enum directive_usage usage_on;
    enum directive_lie lie;
    enum directive_form form;
    bool usage_given;
    bool hang; /* at the stop; else the connection breaks there */
    bool moderation, gzip, chunked, early;
};

/* Reads every directive in <prompt>; the last of a kind counts. */
void directives_read(struct slice prompt, struct directives *out);

#endif
