/* record.h - the store's nouns in memory: immutable, reference-counted, shared by all threads.
 *
 * A change makes a new record; the old one lives until its last reader lets go. `row` is the store's own number (narrow
 * foreign keys, table look-ups), `id` what the outside sees. Times are wall microseconds; 0 means "none". Text members
 * that hold JSON (policy, limits, budgets) are canonical JSON or empty. */
#ifndef TG_DB_RECORD_H
#define TG_DB_RECORD_H

#include "daemon/base/conf.h"
#include "daemon/base/secret.h"
#include "daemon/billing/price.h"

enum record_kind {
    RECORD_TENANT = 0,
    RECORD_CUSTOMER,
    RECORD_KEY,
    RECORD_CHANNEL,
    RECORD_BOOK,
    RECORD_ADMIN_TOKEN,
    RECORD_KINDS
};

enum record_status { RECORD_ACTIVE = 0, RECORD_SUSPENDED, RECORD_DISABLED, RECORD_REVOKED, RECORD_DELETED };

struct record {
    atomic_int refs;
    enum record_kind kind;
    enum record_status status;
    int64_t row;
    int64_t version; /* 1, 2, ...: the etag */
    struct id id;
    int64_t created_at;
    char name[LIMIT_NAME];
    char external_id[LIMIT_NAME];
};

enum { RECORD_JSON = 2048, RECORD_TIMEZONE = 64 };

struct tenant {
    struct record super;
    char timezone[RECORD_TIMEZONE];
    int64_t credit_limit; /* nano */
    int64_t book_row;     /* wholesale price book; 0: openai-list */
    int64_t markup_ppm;
    int in_doubt; /* enum conf_in_doubt, or -1: as configured */
    char *policy; /* JSON or NULL; owned by the record, as below */
    char *limits;
    char *budgets;
};

struct customer {
    struct record super;
    int64_t tenant_row;
    bool own_wallet;
    int64_t credit_limit;
    int64_t book_row; /* retail; 0: the tenant's wholesale price */
    int64_t markup_ppm;
    char *policy, *limits, *budgets;
};

struct api_key {
    struct record super;
    int64_t tenant_row;
    int64_t customer_row; /* 0: the tenant's own */
    uint8_t digest[SECRET_DIGEST];
    uint8_t old_digest[SECRET_DIGEST]; /* of the secret before the last rotation; means something while old_until is not
                                          0 */
    int64_t old_until;                 /* until when that one works, too; 0: there is none */
    char prefix[16];                   /* "sk-tg-a1B2", for people */
    char last4[5];
    bool test;
    int64_t expires_at;   /* 0: never */
    int64_t last_used_at; /* answers of the store only; up to a minute late; 0: never */
    char *policy, *limits, *budgets;
    struct credential *credential; /* what the loops keep of it; one reference; NULL in records that are being made */
};

/* What a request needs of an API key, small, because there may be a million: immutable but for used_at,
 * reference-counted, shared by all loops. */
struct credential {
    atomic_int refs;
    uint8_t status; /* enum record_status */
    bool test;
    int64_t row, version;
    struct id id;
    int64_t tenant_row, customer_row; /* customer 0: the tenant's own */
    int64_t expires_at;               /* 0: never */
    uint8_t digest[SECRET_DIGEST];
    atomic_llong used_at;         /* wall microseconds of the last use that was noted for last_used_at; any thread */
    struct credential_more *more; /* what few keys have: NULL when this one has none of it; owned */
};

struct credential_more {
    int64_t old_until; /* 0: no old secret */
    uint8_t old_digest[SECRET_DIGEST];
    char *policy, *limits; /* JSON or NULL; owned */
};

enum channel_kind { CHANNEL_OPENAI = 0, CHANNEL_AZURE, CHANNEL_SANDBOX };

struct channel_model {
    char name[LIMIT_MODEL];     /* public */
    char upstream[LIMIT_MODEL]; /* what the channel calls it */
};

struct channel {
    struct record super;
    enum channel_kind channel_kind;
    char base_url[LIMIT_URL]; /* without a slash at its end */
    char *credential;         /* secret_alloc'ed text, "" when there is none; freed with the record */
    int64_t priority;
    int64_t weight;
    int64_t max_concurrency; /* 0: no limit */
    int64_t timeout;         /* microseconds; 0: as configured */
    int64_t cost_book_row;   /* 0: openai-list */
    char api_version[32];
    int n_tenants; /* 0: every tenant */
    int64_t *tenant_rows;
    int n_models;
    struct channel_model models[];
};

/* A price book as a record; versions are the book's (price.h). */
struct book {
    struct record super;
    int64_t tenant_row;        /* whose retail book it is; 0: the platform's */
    struct price_book *prices; /* one reference */
};

enum admin_role { ADMIN_ADMIN = 0, ADMIN_VIEWER };

struct admin_token {
    struct record super;
    int64_t tenant_row; /* 0: platform */
    enum admin_role role;
    uint8_t digest[SECRET_DIGEST];
    int64_t expires_at;
    int64_t last_used_at; /* as a key's */
};

/* A zeroed record of <kind> with one reference; <extra> bytes follow the struct (channel models). */
void *record_create(enum record_kind kind, size_t extra);
void *record_ref(void *record);
void record_unref(void *record);                                 /* NULL-safe */
struct credential *credential_create(const struct api_key *key); /* one reference */
struct credential *credential_ref(struct credential *c);
void credential_unref(struct credential *c);      /* NULL-safe */
const char *record_prefix(enum record_kind kind); /* "ten", "cus", "key", "chn", "pbk", "adt" */
const char *
record_object(enum record_kind kind); /* "tenant", "customer", "api_key", "channel", "price_book", "admin_token" */
const char *record_status_name(enum record_status status);

#endif
