/* statement.h - inside a statement: what was gathered for it, and the formats that write it.
 *
 * A statement says what became of one wallet in one month of its tenant's time zone: opening balance + movements =
 * closing balance, to the nano-dollar, and what the charges were for. The usage that it lists is priced as the wallet
 * is charged: wholesale for a tenant, retail for a customer with a wallet of its own. What of it was not charged to the
 * wallet (it was used beyond the hold, and the wallet and its credit line could not bear it: then it stands in the
 * receivable; or it was paid from the tenant's wallet) is told beside. The call's loop. */
#ifndef TG_ADMIN_STATEMENT_H
#define TG_ADMIN_STATEMENT_H

#include "daemon/base/zone.h"
#include "house.h"
#include "stream.h"

enum { STATEMENT_GRANTS = 10000 }; /* grants of a month at most */

struct statement {
    struct wallet wallet;
    char tenant_name[LIMIT_NAME], tenant_external[LIMIT_NAME];
    char customer_name[LIMIT_NAME], customer_external[LIMIT_NAME]; /* of a customer's own wallet; empty else */
    char month[16];                                                /* "2026-11" */
    char zone_name[RECORD_TIMEZONE];
    struct zone *zone; /* one reference */
    int64_t from, to;  /* the month */
    int64_t as_of;     /* what happened from here on is not in it */
    bool complete;     /* the month is over */
    enum stream_format format;
    /* What the store said. */
    struct store_turnover turnover;
    int n_grants;
    struct store_grant *grants;    /* owned */
    struct admin_question *report; /* by customer and model; owned */
    /* How far it has come. */
    bool asked_again, settled, headed;
    int row;
    /* Sums of the rows. */
    int64_t requests, images, amount;
};

/* How a statement is written: <row> for each result of the report. */
struct statement_writer {
    void (*head)(const struct statement *s, struct buf *out);
    void (*row)(const struct statement *s, const struct report_row *row, const struct record *customer,
                struct buf *out); /* customer NULL: none, or it is gone */
    void (*tail)(const struct statement *s, struct buf *out);
};

extern const struct statement_writer statement_json, statement_csv, statement_html;

bool statement_is_customers(const struct statement *s);
int64_t statement_price(const struct statement *s, const struct report_row *row); /* what it cost the wallet's owner */
int64_t statement_charged(const struct statement *s); /* taken from the wallet for usage, >= 0 */

#endif
