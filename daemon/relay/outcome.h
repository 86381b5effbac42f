/* outcome.h - what an upstream call came to: what becomes of the hold, and what the customer is told. Pure. */
#ifndef TG_RELAY_OUTCOME_H
#define TG_RELAY_OUTCOME_H

#include "daemon/images/reply_scan.h"
#include "upstream.h"

enum outcome_money { OUTCOME_VOID = 0, OUTCOME_CAPTURE, OUTCOME_DOUBT };

/* Labels of tallygate_upstream_calls_total, in the order of metrics.def. */
enum outcome_label { OUTCOME_DELIVERED = 0, OUTCOME_REFUSED, OUTCOME_FAILED, OUTCOME_IN_DOUBT };

struct outcome {
    enum outcome_money money;
    enum outcome_label label;
    enum err_code error; /* ERR_OK: the upstream's reply is the answer */
    bool relay;          /* the upstream's own error body, with its status, is the answer */
    bool no_retry;       /* tell the SDK not to try again: it may have been paid for */
    const char *message; /* of the error */
};

/* A call as it came to its end. */
struct outcome_seen {
    enum upstream_end end;
    int status;   /* 0: no head came */
    bool events;  /* a 200 whose body is an event stream, as was asked for */
    bool foreign; /* a 200 of the other kind, which is no answer */
    bool enough;  /* events: all images had come, or the upstream had said that there are no more */
    const struct reply_facts *facts;
    struct slice body; /* of a reply above 299, as far as it was kept; empty when it was too long */
};

/* With OUTCOME_CAPTURE an error is told after what is charged: an event stream that broke off between two images. */
const struct outcome *outcome_of(const struct outcome_seen *seen);

/* A whole reply that was not understood. */
const struct outcome *outcome_nonsense(void);

#endif
