/* record.c - life and names of the store's nouns. Any thread: the count is atomic, everything else immutable (but for a
 * credential's used_at, which is atomic, too). */
#include "record.h"

#include <stdlib.h>

static const struct kind {
    const char *prefix, *object;
    size_t size;
} kinds[RECORD_KINDS] = {
    [RECORD_TENANT] = {"ten", "tenant", sizeof(struct tenant)},
    [RECORD_CUSTOMER] = {"cus", "customer", sizeof(struct customer)},
    [RECORD_KEY] = {"key", "api_key", sizeof(struct api_key)},
    [RECORD_CHANNEL] = {"chn", "channel", sizeof(struct channel)},
    [RECORD_BOOK] = {"pbk", "price_book", sizeof(struct book)},
    [RECORD_ADMIN_TOKEN] = {"adt", "admin_token", sizeof(struct admin_token)},
};

void *record_create(enum record_kind kind, size_t extra)
{
    struct record *record;

    TG_ASSERT((unsigned)kind < RECORD_KINDS);
    record = mem_zalloc(kinds[kind].size + extra);
    record->kind = kind;
    atomic_init(&record->refs, 1);
    return record;
}

void *record_ref(void *record)
{
    struct record *r = record;
    int before = atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);

    TG_ASSERT(before > 0);
    return record;
}

static void dispose_tenant(struct tenant *t)
{
    free(t->policy);
    free(t->limits);
    free(t->budgets);
}

static void dispose_customer(struct customer *c)
{
    free(c->policy);
    free(c->limits);
    free(c->budgets);
}

static void dispose_key(struct api_key *k)
{
    free(k->policy);
    free(k->limits);
    free(k->budgets);
    credential_unref(k->credential);
}

static void dispose_channel(struct channel *c)
{
    secret_free(c->credential);
    free(c->tenant_rows);
}

void record_unref(void *record)
{
    struct record *r = record;
    int before;

    if (r == NULL)
        return;
    before = atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel);
    TG_ASSERT(before > 0);
    if (before > 1)
        return;
    switch (r->kind) {
    case RECORD_TENANT:
        dispose_tenant(record);
        break;
    case RECORD_CUSTOMER:
        dispose_customer(record);
        break;
    case RECORD_KEY:
        dispose_key(record);
        break;
    case RECORD_CHANNEL:
        dispose_channel(record);
        break;
    case RECORD_BOOK:
        price_book_unref(((struct book *)record)->prices);
        break;
    case RECORD_ADMIN_TOKEN:
    case RECORD_KINDS:
        break;
    }
    free(record);
}

/* ---- credentials ---- */

static struct credential_more *more_of(const struct api_key *key)
{
    struct credential_more *more;

    if (key->old_until == 0 && key->policy == NULL && key->limits == NULL)
        return NULL;
    more = mem_zalloc(sizeof(*more));
    more->old_until = key->old_until;
    memcpy(more->old_digest, key->old_digest, SECRET_DIGEST);
    more->policy = key->policy != NULL ? mem_strdup(key->policy) : NULL;
    more->limits = key->limits != NULL ? mem_strdup(key->limits) : NULL;
    return more;
}

struct credential *credential_create(const struct api_key *key)
{
    struct credential *c = mem_zalloc(sizeof(*c));

    atomic_init(&c->refs, 1);
    c->status = (uint8_t)key->super.status;
    c->test = key->test;
    c->row = key->super.row;
    c->version = key->super.version;
    c->id = key->super.id;
    c->tenant_row = key->tenant_row;
    c->customer_row = key->customer_row;
    c->expires_at = key->expires_at;
    memcpy(c->digest, key->digest, SECRET_DIGEST);
    atomic_init(&c->used_at, key->last_used_at);
    c->more = more_of(key);
    return c;
}

struct credential *credential_ref(struct credential *c)
{
    int before = atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);

    TG_ASSERT(before > 0);
    return c;
}

void credential_unref(struct credential *c)
{
    int before;

    if (c == NULL)
        return;
    before = atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel);
    TG_ASSERT(before > 0);
    if (before > 1)
        return;
    if (c->more != NULL) {
        free(c->more->policy);
        free(c->more->limits);
        free(c->more);
    }
    free(c);
}

/* ---- names ---- */

const char *record_prefix(enum record_kind kind)
{
    TG_ASSERT((unsigned)kind < RECORD_KINDS);
    return kinds[kind].prefix;
}

const char *record_object(enum record_kind kind)
{
    TG_ASSERT((unsigned)kind < RECORD_KINDS);
    return kinds[kind].object;
}

const char *record_status_name(enum record_status status)
{
    static const char *const names[] = {"active", "suspended", "disabled", "revoked", "deleted"};

    TG_ASSERT((unsigned)status < sizeof(names) / sizeof(names[0]));
    return names[status];
}
