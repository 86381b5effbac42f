/* answer.h - an answer on its way, as its directives want it: late, slow, in pieces, cut short or never.
 *
 *   answer_send --> WAITING --latency--> SENDING --final--> (gone)
 *                      |                    |\--- die=..%--> aborted
 *                      |                    '---- hang=..%-> SILENT
 *                      |--- die=headers --> aborted
 *                      '--- hang ---------> SILENT --- client gone ---> (gone)                                     */
#ifndef TG_SANDBOX_ANSWER_H
#define TG_SANDBOX_ANSWER_H

#include "daemon/front/call.h"
#include "directives.h"
#include "script.h"

struct answer_start {
    int status;
    const char *type; /* Content-Type; static */
    bool streamed;    /* no Content-Length */
};

/* Takes over <script> (moves it) and the call. <latency>: microseconds before anything happens, added to the
 * directive's. */
void answer_send(struct front_call *call, const struct directives *d, int64_t latency, const struct answer_start *head,
                 struct script *script);

#endif
