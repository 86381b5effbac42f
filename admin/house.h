/* house.h - inside the admin room: the house, who is asking, and one admin call from its wrapper to its answer.
 *
 * Life of a call: the wrapper (admin.c) makes it, knows who asks and has read the body, and hands it to the route's
 * handler. The handler answers at once (admin_reply, admin_fail) or gives an operation to the store (admin_put and its
 * like) with the function that goes on when it is done. Meanwhile the client may vanish; then the call is freed when
 * the operation comes back.
 *
 *   handler --admin_reply, admin_fail--> (freed)
 *      |                                    ^
 *      +--admin_begin, admin_submit--> PENDING --deliver--> next(call) --> as a handler
 *                                           |
 *                        client gone: front = NULL; deliver frees
 *
 * A call with an Idempotency-Key that is refused before it came to the store's operation may be the repetition of one
 * that succeeded (what it needed may have changed since, by itself even): so admin_fail looks for the kept answer
 * first.
 *
 * Threads: everything runs on the call's loop, but for store_actor's `render` (the writer's thread, while the
 * call is pending: it reads only what was set before). */
#ifndef TG_ADMIN_HOUSE_H
#define TG_ADMIN_HOUSE_H

#include "admin.h"
#include "daemon/base/json.h"
#include "daemon/gate/catalog.h"

enum {
    ADMIN_REPLY = 16 * 1024 * 1024, /* bytes of an answer: a price version of 10,000 rates, the longest there can be */
    ADMIN_TRIES = 64                /* how often a change without If-Match starts again when it was overtaken */
};

struct admin_house {
    struct store *store;
    struct secrets *secrets;
    struct relay_house *relay;
    struct front **front; /* filled by the time a request comes */
    struct tries *tries;
    uint8_t local_digest[SECRET_DIGEST]; /* of the token of this machine's command line */
};

/* Who asks. */
struct who {
    int64_t token_row;  /* 0: the command line */
    int64_t tenant_row; /* 0: the platform */
    struct id tenant;   /* its id */
    enum admin_role role;
    int64_t expires_at; /* of the token; 0: never */
};

/* ---- routes ---- */

struct admin_call;
typedef void admin_handler(struct admin_call *call);

enum admin_scope {
    SCOPE_PLATFORM = 0, /* a tenant's token does not see that it is there: 404 */
    SCOPE_TERMS,        /* it sees it, but may not: 403 */
    SCOPE_TENANT        /* it may, for what is its own */
};

/* MONEY: as WRITE, and without an Idempotency-Key it is refused. */
enum admin_access { ACCESS_READ = 0, ACCESS_WRITE, ACCESS_MONEY };

/* One row of routes.def. */
struct admin_rule {
    const char *action; /* "tenant.create", for the audit trail */
    admin_handler *handler;
    const struct noun *noun; /* what {id} and the answer are; NULL: none */
    const char *pattern;
    enum admin_scope scope;
    enum admin_access access;
};

/* ---- nouns: what tenants, keys, channels, price books and admin tokens have in common ---- */

/* Ids that a record's rows stand for, as far as its rendering needs them: looked up on the loop, or for the audit trail
 * by the store. */
struct refs {
    bool audit; /* for the audit trail: without what changes by itself, such as balances, and what an id tells */
    struct id tenant, customer, book;
    struct store_balance balance;
    char *tenants; /* JSON array of ids; owned */
};

typedef void noun_render(const struct record *record, const struct refs *refs, struct buf *out);

struct body_choice; /* body.h */

struct noun {
    enum record_kind kind;
    const char *word;     /* "tenant", for messages */
    const char *prefix;   /* of its ids, where it is no record (then nothing below is set); else NULL */
    noun_render *render;  /* the object as the API shows it; without secrets. Pure */
    noun_render *summary; /* the same in a list; NULL: as render */
    void (*refer)(const struct store_names *names, const struct record *record,
                  struct refs *refs);              /* looks up what render needs */
    int64_t (*owner)(const struct record *record); /* the tenant's row that it belongs to; 0: the platform's */
    /* What a tenant's token may read, though it is not its tenant's; NULL: nothing. */
    bool (*shown)(const struct admin_call *call, const struct record *record);
    struct record *(*copy)(const struct record *record);
    /* A PATCH: changes a copy as the call's body says; may put another in its place. */
    enum err_code (*change)(struct admin_call *call, struct record **copy, struct err *err);
    /* Filters of its list; keys have more (noun_list.c). */
    bool has_external_id, has_tenant;
    const struct body_choice *statuses; /* of enum record_status, ends with a NULL name; NULL: no such filter */
};

extern const struct noun noun_tenant, noun_customer, noun_key, noun_channel, noun_book, noun_token;
extern const struct noun noun_grant, noun_hold, noun_usage; /* no records: their {id} alone */

/* ---- one call ---- */

enum admin_op {
    OP_NONE = 0,
    OP_PUT,
    OP_PUT_MANY,
    OP_KEEP,
    OP_CREDIT,
    OP_WITHDRAW,
    OP_RESOLVE,
    OP_REFUND,
    OP_REPLAY,
    OP_LIST,
    OP_BALANCE,
    OP_ACCOUNTS,
    OP_USAGE,
    OP_LEDGER,
    OP_GRANTS,
    OP_HOLDS,
    OP_REPORT,
    OP_TURNOVER,
    OP_AUDIT,
    OP_PROBE,
    ADMIN_OPS
};

struct stream;   /* stream.h */
struct key_bulk; /* key_bulk.c */

/* Whose money a route is about (wallet.c). */
struct wallet {
    int64_t tenant_row, customer_row; /* customer 0: the tenant's */
    struct id tenant, customer;
    bool own; /* false: a customer who pays from its tenant's wallet */
};

/* A question whose answer is too large to sit in every call. */
struct admin_question {
    union {
        struct store_query ask; /* as which each of them begins */
        struct store_usage_query usage;
        struct store_ledger_query ledger;
        struct store_grants_query grants;
        struct store_holds_query holds;
        struct store_report report;
        struct store_turnover turnover;
        struct store_audit_query audit;
    } of;
    struct admin_call *call;
};

struct admin_call {
    struct admin_house *house;
    struct front_call *front; /* NULL once the client is gone */
    struct loop *loop;
    const struct catalog *catalog;
    const struct admin_rule *rule;
    struct who who;
    char peer[64];            /* the client's address */
    int64_t wait;             /* microseconds after which it may try again, when too many tries have failed */
    struct id id;             /* of {id} */
    struct json_object *body; /* POST, PATCH: an object, empty when there was no body */
    struct store_actor actor;
    char idempotency_key[LIMIT_IDEMPOTENCY_KEY + 1];
    char secret[SECRET_KEY_TEXT]; /* of a key or token that is being made; wiped */
    struct refs refs;             /* for the answer that is being made */
    struct wallet wallet;         /* likewise */
    struct buf answer;            /* on its way through admin_reply_kept */
    struct key_bulk *bulk;        /* of keys that are being made in one call; owned */
    int tries;
    bool acted;         /* an operation was given to the store */
    struct err refusal; /* while the kept answer is looked for */
    /* The operation under way, and what happens after it: called with the client still there and no error in it. */
    enum admin_op pending;
    void (*next)(struct admin_call *call);
    bool (*failed)(struct admin_call *call,
                   const struct err *err); /* may take over the call when it failed; NULL: no */
    void (*fetched)(struct admin_call *call, const struct record *record); /* after noun_fetch */
    void (*found)(struct admin_call *call);                                /* after usage_fetch */
    union {
        struct store_op act;    /* as which every operation begins */
        struct store_query ask; /* as which every question begins */
        struct store_put put;
        struct store_put_many put_many;
        struct store_credit credit;
        struct store_withdraw withdraw;
        struct store_resolve resolve;
        struct store_refund refund;
        struct store_void replay;
        struct store_list list;
        struct store_balance_query balance;
        struct store_accounts_query accounts;
        struct admin_question *question; /* OP_USAGE, _LEDGER, _GRANTS, _HOLDS; owned */
    } op;
    bool asked;            /* the store has an operation or a question of it */
    struct stream *stream; /* an answer in pieces; owned */
    /* What a route keeps over several questions: owned, dropped with the call (admin_keep). */
    void *state;
    void (*drop_state)(void *state);
};

/* Makes a call for the wrapper. Ends by one of the next two. */
struct admin_call *admin_call_create(struct admin_house *house, struct front_call *front,
                                     const struct admin_rule *rule);

/* Ends the call with an answer; <out> is not kept. With <version> > 0 an ETag is sent. admin_fail may go on for a
 * while (above). */
void admin_reply(struct admin_call *call, int status, const struct buf *out, int64_t version);
void admin_fail(struct admin_call *call, const struct err *err);

/* "No such tenant: 'ten_...'.": the one answer for what is not there and for what must not be seen. */
enum err_code admin_no_such(struct err *err, const char *word, const char *param, struct slice id);
void admin_fail_no_such(struct admin_call *call); /* the same for the route's own {id} */

/* Gives an operation to the store; <next> runs when it is done, unless it failed (then the call is answered with its
 * error) or the client has gone. The op in the union is zeroed first by admin_begin; the caller fills it between the
 * two. */
void admin_begin(struct admin_call *call, enum admin_op op);
void admin_submit(struct admin_call *call, void (*next)(struct admin_call *call));

/* Answers with a copy of <out>. With an Idempotency-Key the store keeps it; when it has an answer under that key
 * already, that is the one given. For POSTs that change nothing. */
void admin_reply_kept(struct admin_call *call, const struct buf *out);

/* Drops what the last operation brought. */
void admin_op_drop(struct admin_call *call);

/* Takes the question (OP_USAGE and its like) whose answer came out of the call, so that the next can be asked while it
 * is looked at; then admin_question_destroy. */
struct admin_question *admin_question_take(struct admin_call *call);
void admin_question_destroy(struct admin_question *question, enum admin_op op); /* NULL-safe */

/* Gives the call <state>; <drop> frees it with the call. */
void admin_keep(struct admin_call *call, void *state, void (*drop)(void *state));

/* Frees a call that was answered by other means than admin_reply and admin_fail (stream.c). */
void admin_call_destroy(struct admin_call *call);

/* Makes the store write the answer with <render> (and keep it with the idempotency key; NULL: no answer), and the audit
 * trail. */
void admin_act(struct admin_call *call, void (*render)(struct store_op *op, struct buf *out));

/* A record for the audit trail: store_actor's describe. */
void admin_describe(const struct record *record, const struct store_names *names, struct buf *out);

/* Answers with what the actor's render wrote, or with what was kept of the first time. */
void admin_reply_acted(struct admin_call *call);

/* ---- flows that nouns share (noun.c) ---- */

admin_handler noun_get, noun_list, noun_patch, noun_delete; /* used in routes.def as they are */

/* Gets the record of the route's {id} and goes on with <fetched>, unless it is not there or not the token's to see. */
void noun_fetch(struct admin_call *call, void (*fetched)(struct admin_call *call, const struct record *record));

/* Puts <record> (takes over the reference) and answers with it as it is then stored, and with call->secret, when there
 * is one, as its member "secret". noun_create gives it a new id first. When it was overtaken by another change the
 * route starts again. */
void noun_create(struct admin_call *call, struct record *record);
void noun_put(struct admin_call *call, struct record *record);

/* The same, with an answer of the caller's: made by <render> (admin_act), then <next> goes on. */
void noun_submit(struct admin_call *call, struct record *record, void (*render)(struct store_op *op, struct buf *out),
                 void (*next)(struct admin_call *call));

/* For changes that are no PATCH: PRECONDITION_FAILED when the call's If-Match does not mean this version; the second
 * also CONFLICT when the record is revoked. */
TG_MUSTCHECK enum err_code noun_check_match(const struct admin_call *call, const struct record *record,
                                            struct err *err);
TG_MUSTCHECK enum err_code noun_check_changeable(const struct admin_call *call, const struct record *record,
                                                 struct err *err);

/* What an answer needs beside the record; the second for item <i> of the list that the store has brought. */
void noun_refer(struct admin_call *call, const struct record *record, struct refs *refs);
void noun_refer_item(struct admin_call *call, int i, struct refs *refs);

void refs_dispose(struct refs *refs);
bool noun_sees(const struct who *who, const struct noun *noun, const struct record *record);
const char *noun_prefix(const struct noun *noun);
struct id catalog_id(const struct catalog *catalog, enum record_kind kind, int64_t row); /* zero when there is none */
struct id names_id(const struct store_names *names, enum record_kind kind, int64_t row); /* likewise */

/* The row of the tenant that a list's filter names (empty: that of the token's own, or 0). NOT_FOUND naming "tenant".
 */
TG_MUSTCHECK enum err_code noun_filter_tenant(struct admin_call *call, const char *text, int64_t *row, struct err *err);

/* What stands at the end of every changeable record: created_at, etag, and the brace. */
void noun_render_tail(const struct record *record, struct buf *out);
char *noun_copy_text(const char *text); /* NULL: NULL */

/* The object as the API shows it, with <secret> as its member "secret"; empty: without. Pure; any thread. */
void noun_render_secret(const struct noun *noun, const struct record *record, const struct refs *refs,
                        const char *secret, struct buf *out);

/* ---- money (wallet.c, usage.c) ---- */

/* The wallet of a tenant or customer that noun_fetch has just brought. */
struct wallet wallet_from(const struct admin_call *call, const struct record *record);

/* For a list of what belongs to a wallet, by ids that begin with <prefix>: fills call->wallet from its owner and reads
 * which page of it is asked for. False: the call was answered with what is wrong. */
bool wallet_read_page(struct admin_call *call, const struct record *record, const char *prefix, int *limit,
                      int64_t *after);
void wallet_render_balance(struct buf *out, const struct store_balance *balance); /* members, without braces */
void wallet_render_owner(struct buf *out, const struct wallet *wallet);           /* tenant and customer */

/* A usage record as a JSON object; a comma goes first after the brace of another. Any thread. */
void usage_render(const struct usage_record *usage, bool platform, struct buf *out);

/* Usage records as a CSV file: the line of names, and the line of a record. */
void usage_render_csv_head(bool platform, struct buf *out);
void usage_render_csv(const struct usage_record *usage, bool platform, struct buf *out);

/* Gets the record of the route's {id}; it is in call->op.question->of.usage.items[0] then. Not there, or another
 * tenant's: the call is answered. */
void usage_fetch(struct admin_call *call, void (*next)(struct admin_call *call));

/* ---- prices (book.c) ---- */

/* Whether the token may read the book: the platform's, its tenant's own, and the one that its tenant pays by. */
bool book_sees(const struct admin_call *call, const struct record *record);
void book_render_version(const struct price_version *version, bool rates, struct buf *out);

/* ---- handlers ---- */

admin_handler tenant_create;
admin_handler customer_create;
admin_handler wallet_credit, wallet_balance, wallet_accounts, wallet_ledger, wallet_grants; /* tenants and customers */
admin_handler grant_void;
admin_handler hold_list, hold_get, hold_resolve;
admin_handler key_create, key_rotate, key_revoke, key_bulk_create;
admin_handler channel_create, channel_test;
admin_handler book_create;
admin_handler version_create, version_list;
admin_handler quote_create;
admin_handler usage_records, usage_get, usage_refund;
admin_handler report_usage;                           /* GET /usage */
admin_handler statement_get;                          /* tenants and customers */
admin_handler organization_usage, organization_costs; /* as OpenAI's */
admin_handler token_create;
admin_handler audit_list;
front_handler health_live, health_ready, health_metrics;
front_handler document_openapi, document_reference;

#endif
