/* sqlite_conn.h - one SQLite connection with its prepared statements: the inside of the SQLite engine.
 *
 * A connection belongs to one thread at a time (opened without mutexes). Text and blobs read from a row are valid until
 * the statement is stepped or reset. */
#ifndef TG_DB_SQLITE_CONN_H
#define TG_DB_SQLITE_CONN_H

#include <sqlite3.h>

#include "engine.h"

enum sql {
#define STATEMENT(name, who, text) SQL_##name,
#include "sqlite_statements.def"
#undef STATEMENT
    SQL_COUNT
};

enum { SQL_INSERT = 0, SQL_UPDATE, SQL_SELECT, SQL_RECORD_STATEMENTS };

struct sqlite_conn {
    sqlite3 *db;
    const struct secrets *secrets;
    bool writer;
    struct sqlite_names *names; /* sqlite_names.c; NULL: nothing is remembered */
    struct sqlite_fold *fold;   /* sqlite_fold.c; the writer's; NULL: not loaded */
    sqlite3_stmt *statements[SQL_COUNT];
    sqlite3_stmt *records[RECORD_KINDS][SQL_RECORD_STATEMENTS]; /* made at first use */
};

enum conn_mode { CONN_WRITER = 0, CONN_READER };

/* Beside enum usage_flag in usage.flags: streamed; the customer's own wallet was charged too. */
enum {
    USAGE_ROW_STREAM = 1024,
    USAGE_ROW_OWN_WALLET = 2048,
    USAGE_ROW_FLAGS = USAGE_ROW_STREAM | USAGE_ROW_OWN_WALLET
};

enum { SPLIT_LEG = -1 }; /* holds.tenant_lot, customer_lot: several lots bear the leg, see hold_pins */

enum { HOLD_ROW_STREAM = 1, HOLD_ROW_TEST = 2 }; /* holds.flags */

enum { STORE_APPLICATION_ID = 0x544c4754 }; /* "TLGT" */

/* Opens <path> and sets what a connection of <mode> needs. */
TG_MUSTCHECK enum err_code sqlite_conn_open(struct sqlite_conn *c, const char *path, enum conn_mode mode,
                                            const struct secrets *secrets, struct err *err);
TG_MUSTCHECK enum err_code sqlite_conn_prepare(struct sqlite_conn *c, struct err *err); /* after the migrations */
void sqlite_conn_close(struct sqlite_conn *c);

/* One line of printable ASCII: whatever else stands in <text> becomes a blank or a question mark. */
void sqlite_plain(char *text);

/* UNAVAILABLE with SQLite's own words, plain. */
enum err_code sqlite_error(struct sqlite_conn *c, const char *doing, struct err *err);

/* Runs a text of one or more statements without results. */
TG_MUSTCHECK enum err_code sqlite_exec(struct sqlite_conn *c, const char *sql, struct err *err);
/* The first column of the first row of a query without parameters; *out is left alone when there is no row. */
TG_MUSTCHECK enum err_code sqlite_get_number(struct sqlite_conn *c, const char *sql, int64_t *out, struct err *err);
/* Prepares for one use; the caller finalizes. */
TG_MUSTCHECK enum err_code sqlite_prepare(struct sqlite_conn *c, const char *sql, sqlite3_stmt **out, struct err *err);
/* Steps a statement that returns no row and resets it. */
TG_MUSTCHECK enum err_code sqlite_run(struct sqlite_conn *c, sqlite3_stmt *s, const char *doing, struct err *err);

/* Text that may be absent: an empty or NULL one is bound as NULL. <text> must stay until the statement is reset. */
void sqlite_bind_opt_text(sqlite3_stmt *s, int place, const char *text);
void sqlite_bind_opt_number(sqlite3_stmt *s, int place, int64_t number); /* 0: NULL */
void sqlite_bind_id(sqlite3_stmt *s, int place, const struct id *id);
void sqlite_column_id(sqlite3_stmt *s, int column, struct id *out); /* zero when it is not 16 bytes */
void sqlite_column_copy(sqlite3_stmt *s, int column, char *out, size_t cap);
struct slice sqlite_column_slice(sqlite3_stmt *s, int column);

/* sqlite_migrate.c */
enum err_code sqlite_migrate(struct sqlite_conn *c, bool apply, int *applied, struct err *err);

/* sqlite_load.c */
enum err_code sqlite_load(struct sqlite_conn *c, struct ledger *l, struct err *err);

/* sqlite_effects.c */
enum err_code sqlite_put_effects(struct sqlite_conn *c, const struct effects *effects, struct err *err);

/* sqlite_fold.c: sums of days. The first roll-up that is not in them is this one or a later one, in the order of their
 * key. */
struct fold_mark {
    int64_t quarter, tenant, minute;
};

/* Minutes since 1970: the tenant's roll-ups before it are in the sums of days. */
static inline int64_t fold_frontier(const struct fold_mark *m, int64_t tenant_row)
{
    int64_t begin = m->quarter * ROLLUP_QUARTER;

    return tenant_row < m->tenant ? begin + ROLLUP_QUARTER : tenant_row == m->tenant ? begin + m->minute : begin;
}

enum err_code sqlite_fold_load(struct sqlite_conn *c, struct err *err); /* unless it is; before the ones below */
void sqlite_fold_dispose(struct sqlite_conn *c);
void sqlite_folding(const struct sqlite_conn *c, struct fold_state *out);
const struct fold_mark *sqlite_fold_mark(const struct sqlite_conn *c);
int64_t sqlite_fold_latest(const struct sqlite_conn *c); /* the greatest quarter that has roll-ups; -1: none */
/* As in engine.h. */
enum err_code sqlite_fold(struct sqlite_conn *c, int64_t before, int rows, struct err *err);
/* After a roll-up was added to: adds to its days, too, when they have it already. Loads. */
enum err_code sqlite_fold_late(struct sqlite_conn *c, const struct rollup *r, struct err *err);

/* sqlite_rollup.c */
enum err_code sqlite_read_mark(struct sqlite_conn *c, struct fold_mark *out, struct err *err);
enum err_code sqlite_rollup_ends(struct sqlite_conn *c, int64_t *first, int64_t *last, struct err *err); /* -1: none */
/* The first quarter from this one on in which anybody has roll-ups; INT64_MAX: none. For whoever has met ROLLUP_GAP
 * without any. */
enum { ROLLUP_GAP = 96 };
enum err_code sqlite_next_quarter(struct sqlite_conn *c, int64_t quarter, int64_t *out, struct err *err);
/* The tenants of customers or keys (SQL_GET_CUSTOMER_TENANT, SQL_GET_KEY_TENANT), put behind the *n that are there; of
 * those that exist. */
enum err_code sqlite_find_tenants(struct sqlite_conn *c, const struct filter_rows *rows, enum sql statement,
                                  int64_t *tenants, int *n, struct err *err);

/* sqlite_record.c */
enum err_code sqlite_put_record(struct sqlite_conn *c, struct record *record, struct err *err);
enum err_code sqlite_put_records(struct sqlite_conn *c, struct record **records, int n, int *failed, struct err *err);
enum err_code sqlite_find_record(struct sqlite_conn *c, enum record_kind kind, int64_t row, struct record **out,
                                 struct err *err);
enum err_code sqlite_load_records(struct sqlite_conn *c, void (*fn)(void *ctx, struct record *record), void *ctx,
                                  struct err *err);
const char *sqlite_record_table(enum record_kind kind);
void sqlite_record_columns(enum record_kind kind, struct buf *out);
/* The record in the current row of a statement with those columns. */
enum err_code sqlite_read_record(struct sqlite_conn *c, enum record_kind kind, sqlite3_stmt *s, struct record **out,
                                 struct err *err);

/* sqlite_credential.c; as in engine.h */
enum err_code sqlite_load_credentials(struct sqlite_conn *c, int64_t first, int64_t end, credential_fn *fn, void *ctx,
                                      struct err *err);
enum err_code sqlite_last_key(struct sqlite_conn *c, int64_t *row, struct err *err);
enum err_code sqlite_budget_keys(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row, budget_key_fn *fn,
                                 void *ctx, struct err *err);
enum err_code sqlite_touch(struct sqlite_conn *c, enum record_kind kind, int64_t row, int64_t at, struct err *err);

/* sqlite_channel.c: the tables around channels and price books */
enum err_code sqlite_put_channel_parts(struct sqlite_conn *c, const struct channel *channel, struct err *err);
enum err_code sqlite_put_book_parts(struct sqlite_conn *c, struct book *book, struct err *err);
enum err_code sqlite_read_channel(struct sqlite_conn *c, int64_t row, struct channel **out, struct err *err);
enum err_code sqlite_read_book(struct sqlite_conn *c, int64_t row, struct price_book **out, struct err *err);

/* sqlite_admin.c */
enum err_code sqlite_find_reply(struct sqlite_conn *c, const struct store_actor *actor, int64_t oldest,
                                struct stored_reply *out, struct buf *body, struct err *err);
enum err_code sqlite_put_reply(struct sqlite_conn *c, const struct store_actor *actor, int64_t now, int64_t oldest,
                               struct err *err);
enum err_code sqlite_get_meta(struct sqlite_conn *c, const char *name, uint8_t value[META_BYTES], size_t *len,
                              struct err *err);
enum err_code sqlite_put_meta(struct sqlite_conn *c, const char *name, const uint8_t *value, size_t len,
                              struct err *err);

/* sqlite_audit.c; as in engine.h */
enum err_code sqlite_put_audit(struct sqlite_conn *c, const struct audit_entry *entry, struct err *err);
enum err_code sqlite_put_audit_head(struct sqlite_conn *c, const struct audit_head *head, struct err *err);
enum err_code sqlite_get_audit_head(struct sqlite_conn *c, struct audit_head *out, struct err *err);
bool sqlite_ask_audit(struct sqlite_conn *c, struct store_audit_query *q); /* false: a slice is done, ask again */

/* sqlite_key.c; as in engine.h */
enum err_code sqlite_find_key(struct sqlite_conn *c, const struct store_hold *op, int64_t oldest, struct call_key *out,
                              struct err *err);
enum err_code sqlite_put_key(struct sqlite_conn *c, const struct store_hold *op, int64_t now, int64_t *row,
                             struct err *err);
enum err_code sqlite_end_key(struct sqlite_conn *c, const struct ended_key *key, int64_t now, struct err *err);
enum err_code sqlite_drop_keys(struct sqlite_conn *c, int64_t oldest, bool *more, struct err *err);

/* sqlite_charge.c; as in engine.h */
enum err_code sqlite_spent(struct sqlite_conn *c, const struct budget_owner *owner, int64_t from, int64_t to,
                           int64_t *out, struct err *err);
enum err_code sqlite_find_grant(struct sqlite_conn *c, int64_t seq, struct store_grant *out, struct err *err);
enum err_code sqlite_find_charge(struct sqlite_conn *c, int64_t seq, struct charge *out, struct err *err);

/* sqlite_prune.c; as in engine.h */
enum err_code sqlite_prune(struct sqlite_conn *c, struct store_prune *op, struct err *err);

/* sqlite_query.c, sqlite_usage.c, sqlite_ledger.c; false: a slice is done, ask again */
bool sqlite_ask(struct sqlite_conn *c, struct store_query *query);
bool sqlite_ask_usage(struct sqlite_conn *c, struct store_usage_query *q);
bool sqlite_ask_ledger(struct sqlite_conn *c, struct store_ledger_query *q);
bool sqlite_ask_turnover(struct sqlite_conn *c, struct store_turnover *q);
bool sqlite_ask_report(struct sqlite_conn *c, struct store_report *q);
/* In a read transaction of the caller's. */
enum err_code sqlite_ask_list(struct sqlite_conn *c, struct store_list *q, struct err *err); /* sqlite_list.c */
enum err_code sqlite_ask_grants(struct sqlite_conn *c, struct store_grants_query *q, struct err *err);
enum err_code sqlite_ask_holds(struct sqlite_conn *c, struct store_holds_query *q, struct err *err);
enum err_code sqlite_ask_accounts(struct sqlite_conn *c, struct store_accounts_query *q, struct err *err);

/* sqlite_turnover.c: what moved in a wallet in [from, to) and after it. NOT_FOUND: no such wallet. Walk until *done. */
struct sqlite_flow;
enum err_code sqlite_flow_open(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row, int64_t from,
                               int64_t to, struct sqlite_flow **out, struct err *err);
enum err_code sqlite_flow_walk(struct sqlite_conn *c, struct sqlite_flow *f, bool *done, struct err *err);
/* Wallet and receivable at <to>. */
void sqlite_flow_closing(const struct sqlite_flow *f, int64_t *posted, int64_t *owed);
void sqlite_flow_close(struct sqlite_flow *f); /* NULL-safe */
const char *sqlite_transfer_name(int kind);    /* static */

enum err_code sqlite_check_limit(int limit, struct err *err); /* INVALID_VALUE: not 1..STORE_PAGE */

/* sqlite_names.c: what row numbers stand for. A row that is not there, and 0: a zero id, no name. */
struct sqlite_item {
    char model[LIMIT_MODEL];
    enum image_operation operation;
    char size[LIMIT_SIZE];
    char quality[LIMIT_QUALITY];
};
void sqlite_names_begin(struct sqlite_conn *c); /* at the begin of a read transaction */
void sqlite_names_dispose(struct sqlite_conn *c);
/* Of a tenant, a customer or a key. */
enum err_code sqlite_row_id(struct sqlite_conn *c, enum record_kind kind, int64_t row, struct id *out, struct err *err);
enum err_code sqlite_channel_name(struct sqlite_conn *c, int64_t row, struct id *id, char name[LIMIT_NAME],
                                  struct err *err);
enum err_code sqlite_find_item(struct sqlite_conn *c, int64_t row, struct sqlite_item *out, struct err *err);

/* A wallet that is asked about: the customer's, or with customer_row 0 the tenant's. */
struct sqlite_wallet {
    int64_t account, receivable; /* account numbers */
    int64_t tenant, customer;    /* rows; customer 0: the tenant's own */
    int64_t credit_limit;
};
struct sqlite_wallet sqlite_make_wallet(int64_t tenant, int64_t customer, int64_t credit_limit);
/* As it is now. */
enum err_code sqlite_read_balance(struct sqlite_conn *c, const struct sqlite_wallet *w, struct store_balance *out,
                                  struct err *err);
/* NOT_FOUND: no such owner, or with a tenant_row a customer of another tenant. */
enum err_code sqlite_find_wallet(struct sqlite_conn *c, int64_t tenant_row, int64_t customer_row,
                                 struct sqlite_wallet *out, struct err *err);
/* False in *found, and zeros: an account that was never used. */
enum err_code sqlite_read_account(struct sqlite_conn *c, int64_t number, int64_t *posted, int64_t *held, bool *found,
                                  struct err *err);
/* A usage record by its seq: NOT_FOUND. <item> and <own_wallet> as in struct usage_row. */
enum err_code sqlite_find_usage(struct sqlite_conn *c, int64_t seq, struct usage_record *out, int64_t *item,
                                bool *own_wallet, struct err *err);
/* A grant with its owners' ids: NOT_FOUND. */
enum err_code sqlite_get_grant(struct sqlite_conn *c, int64_t seq, struct store_grant *out, struct err *err);
/* Columns 2 to 10 of a row: who is served with what. */
void sqlite_read_call(sqlite3_stmt *s, struct store_call *call);

/* Event numbers of the usage records created in [from, to) milliseconds (0: open), as ranges [first, end), newest
 * first. After very many clock steps the oldest range has others too. */
enum { TIME_RANGES = 64 };
struct sqlite_ranges {
    int n;
    struct {
        int64_t first, end;
    } at[TIME_RANGES];
};
enum err_code sqlite_time_ranges(struct sqlite_conn *c, int64_t from, int64_t to, struct sqlite_ranges *out,
                                 struct err *err);
/* The first number in [first, end), between two clock steps, whose record was created at <ms> or later; <end> when
 * there is none. Both, and the next, count pruned records too. */
enum err_code sqlite_bisect_time(struct sqlite_conn *c, int64_t first, int64_t end, int64_t ms, int64_t *out,
                                 struct err *err);
enum err_code sqlite_last_usage(struct sqlite_conn *c, int64_t *out, struct err *err); /* 0: there was never one */

#endif
