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

/* <status>: 0 when no head came. <facts>: of a reply that came whole. <body>: of a reply above 299, as far as it was
 * kept; empty when it was too long. */
const struct outcome *outcome_of(enum upstream_end end, int status, const struct reply_facts *facts, struct slice body);

#endif
