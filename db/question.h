/* question.h - everything that the store can be asked: a reader answers it from a read-only connection.
 *
 * A question begins with a struct store_query; its caller fills it, gives it to store_ask and has it back, answered,
 * when mail.deliver runs (store.h). Long ones are answered in slices, so that none waits long behind another. */
#ifndef TG_DB_QUESTION_H
#define TG_DB_QUESTION_H

#include "operation.h"

enum store_question {
    STORE_GET = 0,
    STORE_LIST,
    STORE_BALANCE,
    STORE_USAGE,
    STORE_LEDGER,
    STORE_GRANTS,
    STORE_HOLDS,
    STORE_ACCOUNTS,
    STORE_REPORT,
    STORE_TURNOVER,
    STORE_AUDIT,
    STORE_QUESTIONS
};
enum { STORE_PAGE = 100 };

struct store_query {
    struct mail mail;
    struct mailbox *reply_to;
    enum store_question question;
    struct err err;
};

struct store_balance {
    int64_t posted, held, credit_limit; /* nano; available = posted - held + credit_limit */
    int64_t receivable;                 /* what was used beyond the wallet and is owed, >= 0; queries only */
};

/* STORE_GET and STORE_LIST: records of one kind, newest first; STORE_GET by id (NOT_FOUND when absent or, with a
 * tenant_row, another tenant's). Deleted records are not seen; revoked keys are. */
struct store_list {
    struct store_query super;
    enum record_kind kind;
    struct id id;                              /* STORE_GET: which; STORE_LIST: after which (zero: from the newest) */
    int64_t tenant_row;                        /* 0: any */
    char external_id[LIMIT_NAME];              /* empty: any */
    int64_t customer_row;                      /* keys; 0: any */
    int status;                                /* 1 + enum record_status; 0: any */
    int mode;                                  /* keys: 1 live, 2 test; 0: any */
    char prefix[16];                           /* keys: what the visible prefix begins with ("sk-tg-a1"); empty: any */
    char last4[5];                             /* keys: the last four characters; empty: any */
    bool closed;                               /* STORE_GET: a deleted one is seen, too */
    int limit;                                 /* 1..STORE_PAGE */
    int n;                                     /* out */
    bool more;                                 /* out */
    struct record *items[STORE_PAGE];          /* out: references of the caller's */
    struct store_balance balances[STORE_PAGE]; /* out: tenants and customers */
    struct id tenant_ids[STORE_PAGE], customer_ids[STORE_PAGE]; /* out: the owners' ids, zero when none */
};

/* STORE_BALANCE: a wallet now (at = 0) or after the last transfer not later than <at> (held is 0 then). */
struct store_balance_query {
    struct store_query super;
    int64_t tenant_row, customer_row;
    int64_t at;
    struct store_balance balance; /* out */
};

/* Which usage records are meant: all filters that are set must hold, one of the values of each. */
enum { FILTER_VALUES = 32 };

struct filter_rows {
    int n; /* 0: any */
    int64_t rows[FILTER_VALUES];
};

struct filter_names {
    int n; /* 0: any */
    char names[FILTER_VALUES][LIMIT_MODEL];
};

struct store_filter {
    struct filter_rows tenants, customers, keys, channels;
    struct filter_names models, sizes, qualities;
    unsigned operations;          /* a bit (1 << enum image_operation) each; 0: any */
    int64_t start_time, end_time; /* 0: open; start inclusive, end exclusive */
};

/* STORE_USAGE: finished requests, newest first. Records that were pruned are not seen. */
enum { STORE_EXPORT = 1000 };

struct store_usage_query {
    struct store_query super;
    struct store_filter filter;
    struct id request;                     /* of this request alone; zero: any */
    int64_t after_seq;                     /* 0: from the newest */
    int64_t seq;                           /* this record alone; 0: any */
    int limit;                             /* 1..STORE_PAGE, with a page of the caller's 1..STORE_EXPORT */
    struct usage_record *page;             /* room for <limit> records, borrowed: the answer; NULL: items is */
    int n;                                 /* out */
    bool more;                             /* out */
    struct usage_record items[STORE_PAGE]; /* out */
    int64_t scanned;                       /* the store's own: how far a search in slices has come */
};

/* STORE_REPORT: sums of usage by bucket and group, from roll-ups that are written with the records: never a scan of
 * records, exact to the nano-dollar over any time, pruned or not. */
enum report_by {
    REPORT_TENANT = 0,
    REPORT_CUSTOMER,
    REPORT_KEY,
    REPORT_MODEL,
    REPORT_OPERATION,
    REPORT_SIZE,
    REPORT_QUALITY,
    REPORT_CHANNEL,
    REPORT_DIMENSIONS
};
enum report_width { REPORT_MINUTE = 0, REPORT_HOUR, REPORT_DAY, REPORT_ALL };
enum {
    REPORT_BUCKETS = 1440,
    REPORT_ROWS = 200000
}; /* buckets of a page; results of a page, past which INVALID_VALUE */

/* One result. Names that were not grouped by are empty, ids zero. Sums stop at INT64_MAX. */
struct report_row {
    int32_t bucket; /* place in `buckets` */
    struct id tenant, customer, key, channel;
    const char *model, *size, *quality; /* borrowed from the report; NULL: not grouped by */
    int operation;                      /* enum image_operation; -1: not grouped by */
    bool rest;                          /* the sum of what `top` left out; names empty */
    int64_t requests, images;
    int64_t tokens[PRICE_UNITS];               /* by enum price_unit; images and requests 0 */
    int64_t cost, wholesale, retail, refunded; /* nano */
};

enum report_order { ORDER_WHOLESALE = 0, ORDER_RETAIL, ORDER_COST, ORDER_MARGIN, ORDER_REQUESTS, ORDER_IMAGES };

struct store_report {
    struct store_query super;
    struct store_filter filter; /* start_time must be set; end_time 0: now. Any microsecond; times between minutes are
                                   rounded to the minute they are in (start) and the next (end) */
    unsigned group_by;          /* bits 1 << enum report_by */
    enum report_width width;    /* ALL: one bucket */
    char zone[RECORD_TIMEZONE]; /* whose days and hours are meant; empty: UTC. Unknown: INVALID_VALUE naming timezone */
    int64_t from_bucket;        /* begin of the first bucket to answer; 0: from start_time */
    int limit;                  /* buckets, 1..REPORT_BUCKETS */
    int top; /* 0: all, by bucket then by group; else this many in each bucket, the largest first, and the rest
                as one */
    enum report_order order; /* of top; margin is the platform's (wholesale - cost) unless retail_margin */
    bool retail_margin;      /* margin = retail - wholesale */
    int n_buckets;           /* out: empty ones are there, too */
    struct report_bucket {
        int64_t begin, end; /* wall; the first and last are cut by start and end */
        int first, n;       /* its rows */
    } * buckets;            /* out; freed by store_report_dispose */
    int n_rows;
    struct report_row *rows; /* out; likewise */
    bool more;               /* out: there are buckets after the last */
    int64_t next;            /* out: begin of the next bucket, for from_bucket */
    void *state;             /* the store's own: a report is made in slices; names live here */
};
void store_report_dispose(struct store_report *report);

/* STORE_LEDGER: the transfers of a wallet, newest first. */
struct store_transfer {
    int64_t number; /* txn_ id: id_from_seq(created_at, number) */
    int64_t created_at;
    const char *kind;  /* "charge"; static */
    int64_t amount;    /* signed as the wallet sees it; a settlement within the wallet: 0 */
    struct id usage;   /* the usage record that it belongs to or refunds; else zero */
    struct id request; /* and its request */
    struct id grant;   /* the lot that it takes from or gives to; zero: none */
    char note[LIMIT_NAME * 2];
};

struct store_ledger_query {
    struct store_query super;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t after;                    /* a transfer's number; 0: from the newest */
    int limit;
    int n;                                   /* out */
    bool more;                               /* out */
    struct store_transfer items[STORE_PAGE]; /* out */
    int64_t scanned;                         /* the store's own */
};

/* STORE_GRANTS: the grants of a wallet, newest first; or, with seq, this one (NOT_FOUND; n is 1). */
struct store_grants_query {
    struct store_query super;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t seq;
    int64_t start_time, end_time; /* of their creation; 0: open; start inclusive, end exclusive */
    int64_t after;                /* a grant's seq; 0: from the newest */
    int limit;
    int n;                                /* out */
    bool more;                            /* out */
    struct store_grant items[STORE_PAGE]; /* out */
};

/* STORE_HOLDS: open holds and those in doubt, newest first; or, with only_id, this one (NOT_FOUND; n is 1). */
enum hold_state { HOLD_OPEN = 0, HOLD_IN_DOUBT, HOLD_ENDED };

struct store_held {
    struct id id;
    enum hold_state state;
    struct store_call call;
    int n_legs;
    int64_t legs[STORE_LEGS];                    /* nano */
    int64_t cost_max, wholesale_max, retail_max; /* nano */
    enum conf_in_doubt rule;
    int64_t created_at;
    struct id tenant_id, customer_id, key_id, channel_id;
};

struct store_holds_query {
    struct store_query super;
    int64_t tenant_row; /* 0: any */
    int state;          /* enum hold_state, or -1: open and in doubt */
    struct id only_id;
    struct id after; /* zero: from the newest */
    int limit;
    int n;                               /* out */
    bool more;                           /* out */
    struct store_held items[STORE_PAGE]; /* out */
};

/* STORE_ACCOUNTS: the chart of accounts of a tenant, or with customer_row of a customer; those that were ever used. */
enum { STORE_CHART = 16 };

struct store_accounts_query {
    struct store_query super;
    int64_t tenant_row, customer_row;
    int n; /* out */
    struct {
        const char *name; /* "wallet", "revenue", "cost", "loss", ...; static */
        int64_t posted, held;
    } items[STORE_CHART]; /* out */
};

/* STORE_TURNOVER: what moved in a wallet in [from, to), by kind, and its balance at both ends: opening + the sum of all
 * kinds = closing, to the nano-dollar. For statements. */
enum { STORE_TURNOVER_KINDS = 16 };

struct store_turnover {
    struct store_query super;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's wallet */
    int64_t from, to;                 /* wall; to may lie ahead */
    int64_t opening, closing;         /* out: posted, nano */
    int n;                            /* out */
    struct {
        const char *kind; /* as in struct store_transfer; static */
        int64_t amount;   /* signed as the wallet sees it */
        int64_t count;
    } kinds[STORE_TURNOVER_KINDS]; /* out: those that occur */
    void *state;                   /* the store's own */
};

/* STORE_AUDIT: who changed what, newest first. NOT_FOUND naming tenant or token: no such one, not even a deleted one. A
 * page ends early, with <more>, when its texts come to AUDIT_PAGE_TEXT bytes. */
enum { AUDIT_PAGE_TEXT = 1024 * 1024 };

struct store_audited {
    int64_t seq; /* aud_ id: id_from_seq(at, seq) */
    int64_t at;
    int64_t token_row;           /* 0: the command line */
    struct id token_id;          /* zero: the command line */
    char token_name[LIMIT_NAME]; /* "" likewise */
    int64_t token_tenant;        /* the row of the tenant whose token it is; 0: the platform's */
    struct id tenant_id;         /* that it is about; zero: the platform's alone */
    struct id request;
    char peer[64];               /* the client's address; "": the command line */
    char action[48];             /* "tenant.create" */
    char object[ID_TEXT];        /* "ten_..."; "": no single thing */
    bool chained;                /* false: from before the chain began */
    uint8_t hash[SECRET_DIGEST]; /* of this entry and the hash before it */
    char *before, *after;        /* JSON or NULL; owned by the query */
};

struct store_audit_query {
    struct store_query super;
    int64_t tenant_row;           /* 0: all; else only what is about this tenant, and only its tokens are known */
    struct id tenant, token;      /* zero: any */
    char action[48];              /* empty: any; "key." means all that begins so */
    char object[ID_TEXT];         /* empty: any */
    int64_t start_time, end_time; /* 0: open */
    int64_t after;                /* an entry's seq; 0: from the newest */
    int limit;
    int n;                                  /* out */
    bool more;                              /* out */
    struct store_audited items[STORE_PAGE]; /* out; store_audit_dispose frees what they own */
    /* The store's own: rows, the bounds of the times, how far a search in slices has come. All but the last may be
     * handed on to the query of the next page, which then need not find them again. */
    struct audit_scan {
        int64_t tenant_row, token_row;
        int64_t first, end;
        bool ready;
        int64_t scanned;
    } scan;
};
void store_audit_dispose(struct store_audit_query *query);

#endif
