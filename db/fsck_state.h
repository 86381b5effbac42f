/* fsck_state.h - the inside of fsck, shared by its files: fsck.c (frame, the file), fsck_query.c (invariants that are a
 * query), fsck_audit.c (the audit trail), fsck_walk.c (all events, once, in their order) and what the walk hands them
 * to: fsck_lot.c, fsck_refund.c, fsck_budget.c, fsck_chain.c; fsck_rollup.c (records and their sums, once, in the order
 * of time) and fsck_day.c.
 *
 * Nothing here calls the writer's rules: of the ledger only numbers, names and the chain's hash function are shared.
 * One thread; the connection is in one read transaction from the first look to the last. */
#ifndef TG_DB_FSCK_STATE_H
#define TG_DB_FSCK_STATE_H

#include "daemon/base/clock.h"
#include "daemon/base/table.h"
#include "sqlite_conn.h"

#define FSCK_MILLISECOND (CLOCK_SECOND / 1000) /* created_ms are milliseconds, other times microseconds */

/* ---- findings ---- */

enum { FSCK_ROWS = 5, FSCK_DETAIL = 1024 }; /* the first rows that break an invariant, and bytes to name them */

struct finding {
    int64_t bad;
    struct buf detail;
};

void finding_init(struct finding *g);
void finding_dispose(struct finding *g);
void finding_add(struct finding *g, const char *fmt, ...) TG_PRINTF(2, 3); /* one row more that breaks it */

/* ---- the frame (fsck.c) ---- */

struct fsck {
    struct sqlite_conn conn;
    store_fsck_fn *line;
    store_progress_fn *progress; /* NULL: nobody looks */
    void *ctx;
    int violated;
    const char *what; /* the part that runs, and which thousandths of the whole it is */
    int begin, end, told;
};

void fsck_report(struct fsck *f, const char *invariant, const struct finding *g, int64_t checked);

/* Begins a part, or tells how far it is. */
void fsck_part(struct fsck *f, const char *what, int begin, int end);
void fsck_progress(struct fsck *f, int64_t done, int64_t of);

/* ---- the walk (fsck_walk.c) ---- */

enum walk_invariant {
    WALK_EVENTS = 0,
    WALK_TIME,
    WALK_TRANSFERS,
    WALK_USAGE,
    WALK_GRANTS,
    WALK_ENTRIES,
    WALK_LOTS,
    WALK_REMAINING,
    WALK_LAPSED,
    WALK_REFUNDS,
    WALK_BALANCES,
    WALK_CHAIN,
    WALK_BUDGETS,
    WALK_INVARIANTS
};

/* The transfers of one event, by number. */
struct group {
    int64_t seq; /* INT64_MAX: there is no further one */
    int n;
    struct transfer_row at[EVENT_TRANSFERS];
};

struct usage_event {
    int64_t seq, tenant, customer, key, channel, cost, wholesale, retail, refunded, created_ms;
    unsigned flags;
};

struct grant_event {
    int64_t seq, wallet, amount, remaining, expires_at, created_ms; /* expires_at 0: never */
    int category, status;
};

struct entry_event {
    int64_t seq, wallet, reference, amount, created_ms;
    int kind;
};

/* A grant as its transfers have left it so far. */
struct walked_lot {
    struct grant_event grant;
    __int128 left;
    bool ended; /* something of it has lapsed or was withdrawn */
};

/* A cell of a budget, and what the records say was charged in it. */
struct walked_cell {
    int64_t begin, end, used;
    __int128 sum;
    bool estimated;
    struct walked_cell *next; /* of the same owner */
};

struct walked_owner {
    int64_t number;
    int64_t status; /* enum record_status; -1: it does not exist */
    bool retail;
    struct walked_cell *cells;
    struct walked_owner *next;
};

/* The link of the chain that the walk is in. */
struct walked_link {
    sqlite3_stmt *rows; /* the links to come */
    int rc;
    int64_t place, last; /* of this one; place -2: there is none */
    uint8_t stored[CHAIN_HASH], hash[CHAIN_HASH];
    int64_t events;
    int64_t begins; /* number of the transfer after which the chain begins */
};

struct walk {
    struct fsck *f;
    struct finding findings[WALK_INVARIANTS];
    int64_t checked[WALK_INVARIANTS];
    struct table sums; /* posted, by account */
    struct {
        struct walked_lot *at; /* by seq */
        size_t n, cap;
    } lots;
    struct table owners; /* struct walked_owner by number: those that have cells */
    struct walked_link link;
    sqlite3_stmt *refunds, *refund_transfers, *refunded, *steps;
    int64_t last_seq, last_ms; /* the event before */
    bool stepped;              /* the clock has gone back since the store was made */
};

enum err_code fsck_walk(struct fsck *f, struct err *err);

/* Reads the rows of a SELECT of number, kind, debit, credit, amount, lot FROM transfers. */
void fsck_read_transfer(sqlite3_stmt *s, struct transfer_row *out);

/* ---- fsck_query.c ---- */

enum err_code fsck_queries(struct fsck *f, int begin, int end, struct err *err);

/* ---- fsck_rollup.c ---- */

/* Roll-ups against records, and sums of days against roll-ups, each read once, side by side in the order of time. */
enum err_code fsck_rollups(struct fsck *f, int begin, int end, struct err *err);

/* Sums by key, or their differences; each key once. */
enum { FSCK_KEY = 6 };

struct fsck_sum {
    int64_t key[FSCK_KEY];
    uint64_t sums[ROLLUP_SUMS]; /* modulo 2^64: what is equal differs by 0 all the same */
    unsigned full;              /* a bit a sum that has stopped at INT64_MAX: it says no more */
    int64_t pruned;             /* records whose quantities are not kept */
};

struct fsck_sums {
    struct fsck_sum *at;
    size_t n, cap;
    uint32_t *slots; /* 1 + place */
    size_t n_slots;
};

struct fsck_sum *fsck_sum_at(struct fsck_sums *s, const int64_t key[FSCK_KEY]); /* made when absent */
void fsck_sums_clear(struct fsck_sums *s);
void fsck_sums_dispose(struct fsck_sums *s);

/* ---- fsck_day.c: days against what they were folded from ---- */

struct fsck_days;
enum err_code fsck_days_open(struct fsck *f, struct fsck_days **out, struct err *err);
void fsck_days_add(struct fsck_days *d, const struct rollup *r); /* in the order of the quarters */
/* No roll-up before <minute> comes any more: days that end before it are compared. INT64_MAX: all. */
enum err_code fsck_days_pass(struct fsck_days *d, int64_t minute, struct err *err);
void fsck_days_close(struct fsck_days *d, bool report); /* NULL-safe; <report>: says what it found */

/* ---- fsck_audit.c ---- */

enum err_code fsck_audit(struct fsck *f, int begin, int end, struct err *err);

/* ---- fsck_lot.c ---- */

void walk_add_lot(struct walk *w, const struct grant_event *grant);
const struct walked_lot *walk_find_lot(const struct walk *w, int64_t seq); /* NULL: none so far */
/* A transfer against the lot that it names. */
void walk_use_lot(struct walk *w, const struct transfer_row *t, int64_t created_ms);
void walk_compare_lots(struct walk *w);
void walk_dispose_lots(struct walk *w);

/* ---- fsck_refund.c ---- */

enum err_code walk_open_refunds(struct walk *w, struct err *err);
/* All that was refunded of a record, against its charge. */
enum err_code walk_refunds_of(struct walk *w, const struct usage_event *e, const struct group *g, struct err *err);
/* That a refund is of a record which knows it. */
enum err_code walk_refund(struct walk *w, const struct entry_event *e, struct err *err);
void walk_close_refunds(struct walk *w);

/* ---- fsck_budget.c ---- */

enum err_code walk_load_cells(struct walk *w, struct err *err);
void walk_count_cells(struct walk *w, const struct usage_event *e);
void walk_compare_cells(struct walk *w);
void walk_dispose_cells(struct walk *w);

/* ---- fsck_chain.c ---- */

enum err_code walk_open_chain(struct walk *w, struct err *err);
void walk_chain(struct walk *w, const struct group *g);
enum err_code walk_close_chain(struct walk *w, int64_t last, struct err *err); /* <last>: of all transfers */
void walk_dispose_chain(struct walk *w);

#endif
