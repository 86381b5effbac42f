/* catalog.c - one loop's indexes over the records that all loops share.
 *
 *   by_row[kind]   row    -> record      owns the one reference that the catalog holds
 *   by_id[kind]    id     -> record      borrowed from by_row
 *   keys, tokens   digest -> record      borrowed from by_row
 *   policies       kind, row -> held     owns the parsed policy of a record that has one
 *   channels       array by priority     borrowed from by_row
 *
 * Invariants
 *   1. A record is in by_row and by_id, or in neither; a key or token is in its digest table exactly when it is in
 * by_row.
 *   2. There is one record for a row: a newer one takes the place of the older in every index before that is let go.
 *   3. A policy is there exactly when the record of its row has one.
 *   4. list_book is the book named openai-list, or NULL.
 * Threads: the loop's own. */
#include "catalog.h"

#include <stdlib.h>

#include "daemon/base/table.h"

static const char list_book_name[] = "openai-list";

struct held {
    enum record_kind kind;
    int64_t row;
    struct policy *policy;
};

struct catalog {
    struct table by_row[RECORD_KINDS];
    struct table by_id[RECORD_KINDS];
    struct table keys;
    struct table tokens;
    struct table policies;
    struct channel **channels;
    size_t n_channels, cap_channels;
    struct book *list_book;
};

/* ---- keys of the tables ---- */

static bool match_row(const void *item, const void *key)
{
    return ((const struct record *)item)->row == *(const int64_t *)key;
}

static bool match_id(const void *item, const void *key)
{
    return id_eq(((const struct record *)item)->id, *(const struct id *)key);
}

static bool match_key(const void *item, const void *digest)
{
    return secret_equal(((const struct api_key *)item)->digest, digest, SECRET_DIGEST);
}

static bool match_token(const void *item, const void *digest)
{
    return secret_equal(((const struct admin_token *)item)->digest, digest, SECRET_DIGEST);
}

static bool match_held(const void *item, const void *key)
{
    const struct held *a = item;
    const struct held *b = key;

    return a->row == b->row && a->kind == b->kind;
}

static uint64_t hash_row(int64_t row)
{
    return table_hash_u64((uint64_t)row);
}

static uint64_t hash_id(struct id id)
{
    return table_hash_bytes(id.b, ID_BYTES);
}

static uint64_t hash_digest(const uint8_t digest[SECRET_DIGEST])
{
    return secret_hash64(digest, SECRET_DIGEST);
}

static uint64_t hash_held(const struct held *h)
{
    return table_hash_u64((uint64_t)h->row * RECORD_KINDS + (uint64_t)h->kind);
}

/* ---- life ---- */

struct catalog *catalog_create(void)
{
    struct catalog *c = mem_zalloc(sizeof(*c));

    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        table_init(&c->by_row[kind]);
        table_init(&c->by_id[kind]);
    }
    table_init(&c->keys);
    table_init(&c->tokens);
    table_init(&c->policies);
    return c;
}

static void dispose_policies(struct catalog *c)
{
    size_t pos = 0;
    struct held *h;

    while ((h = table_next(&c->policies, &pos)) != NULL) {
        policy_unref(h->policy);
        free(h);
    }
    table_dispose(&c->policies);
}

void catalog_destroy(struct catalog *c)
{
    if (c == NULL)
        return;
    dispose_policies(c);
    table_dispose(&c->keys);
    table_dispose(&c->tokens);
    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        size_t pos = 0;
        struct record *r;

        table_dispose(&c->by_id[kind]);
        while ((r = table_next(&c->by_row[kind], &pos)) != NULL)
            record_unref(r);
        table_dispose(&c->by_row[kind]);
    }
    free(c->channels);
    free(c);
}

static void fill_one(void *ctx, struct record *record)
{
    catalog_apply(ctx, record_ref(record));
}

void catalog_fill(struct catalog *c, struct store *store, struct mailbox *box)
{
    store_each_record(store, fill_one, c);
    store_subscribe(store, box, catalog_apply, c);
}

/* ---- channels ---- */

static bool goes_before(const struct channel *a, const struct channel *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->super.row < b->super.row;
}

static void add_channel(struct catalog *c, struct channel *ch)
{
    size_t i = c->n_channels;

    if (c->n_channels == c->cap_channels) {
        c->cap_channels = c->cap_channels > 0 ? c->cap_channels * 2 : 8;
        c->channels = mem_realloc(c->channels, c->cap_channels * sizeof(struct channel *));
    }
    for (; i > 0 && goes_before(ch, c->channels[i - 1]); i--)
        c->channels[i] = c->channels[i - 1];
    c->channels[i] = ch;
    c->n_channels++;
}

static void remove_channel(struct catalog *c, const struct channel *ch)
{
    size_t kept = 0;

    for (size_t i = 0; i < c->n_channels; i++) {
        if (c->channels[i] != ch)
            c->channels[kept++] = c->channels[i];
    }
    c->n_channels = kept;
}

/* ---- policies ---- */

static const char *policy_text(const struct record *r)
{
    switch (r->kind) {
    case RECORD_TENANT:
        return ((const struct tenant *)r)->policy;
    case RECORD_CUSTOMER:
        return ((const struct customer *)r)->policy;
    case RECORD_KEY:
        return ((const struct api_key *)r)->policy;
    default:
        return NULL;
    }
}

static void add_policy(struct catalog *c, const struct record *r)
{
    struct policy *policy = policy_create(policy_text(r));
    struct held *h;

    if (policy == NULL)
        return;
    h = mem_alloc(sizeof(*h));
    *h = (struct held){r->kind, r->row, policy};
    h = table_put(&c->policies, hash_held(h), match_held, h, h);
    TG_ASSERT(h == NULL);
}

static void remove_policy(struct catalog *c, const struct record *r)
{
    struct held key = {r->kind, r->row, NULL};
    struct held *h = table_remove(&c->policies, hash_held(&key), match_held, &key);

    if (h == NULL)
        return;
    policy_unref(h->policy);
    free(h);
}

/* ---- putting in and taking out ---- */

/* What only one kind has; <r> is in no such index yet. */
static void add_particulars(struct catalog *c, struct record *r)
{
    void *old = NULL;

    if (r->kind == RECORD_KEY) {
        const uint8_t *digest = ((struct api_key *)r)->digest;

        old = table_put(&c->keys, hash_digest(digest), match_key, digest, r);
    } else if (r->kind == RECORD_ADMIN_TOKEN) {
        const uint8_t *digest = ((struct admin_token *)r)->digest;

        old = table_put(&c->tokens, hash_digest(digest), match_token, digest, r);
    } else if (r->kind == RECORD_CHANNEL) {
        add_channel(c, (struct channel *)r);
    } else if (r->kind == RECORD_BOOK && strcmp(r->name, list_book_name) == 0) {
        c->list_book = (struct book *)r;
    }
    TG_ASSERT(old == NULL); /* a digest belongs to one record */
}

static void remove_particulars(struct catalog *c, struct record *r)
{
    if (r->kind == RECORD_KEY) {
        const uint8_t *digest = ((struct api_key *)r)->digest;

        (void)table_remove(&c->keys, hash_digest(digest), match_key, digest);
    } else if (r->kind == RECORD_ADMIN_TOKEN) {
        const uint8_t *digest = ((struct admin_token *)r)->digest;

        (void)table_remove(&c->tokens, hash_digest(digest), match_token, digest);
    } else if (r->kind == RECORD_CHANNEL) {
        remove_channel(c, (struct channel *)r);
    } else if (c->list_book == (struct book *)r) {
        c->list_book = NULL;
    }
}

static void put_in(struct catalog *c, struct record *r)
{
    void *old = table_put(&c->by_row[r->kind], hash_row(r->row), match_row, &r->row, r);

    TG_ASSERT(old == NULL);
    old = table_put(&c->by_id[r->kind], hash_id(r->id), match_id, &r->id, r);
    TG_ASSERT(old == NULL);
    add_particulars(c, r);
    add_policy(c, r);
}

static void take_out(struct catalog *c, struct record *r)
{
    remove_policy(c, r);
    remove_particulars(c, r);
    (void)table_remove(&c->by_id[r->kind], hash_id(r->id), match_id, &r->id);
    (void)table_remove(&c->by_row[r->kind], hash_row(r->row), match_row, &r->row);
    record_unref(r);
}

void catalog_apply(void *catalog, struct record *record)
{
    struct catalog *c = catalog;
    struct record *old = table_get(&c->by_row[record->kind], hash_row(record->row), match_row, &record->row);
    bool gone = record->status == RECORD_DELETED || record->status == RECORD_REVOKED;

    if (old != NULL && old->version > record->version) {
        record_unref(record);
        return;
    }
    if (old != NULL)
        take_out(c, old);
    if (gone)
        record_unref(record);
    else
        put_in(c, record);
}

/* ---- look-ups ---- */

const struct api_key *catalog_key_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST])
{
    return table_get(&c->keys, hash_digest(digest), match_key, digest);
}

const struct admin_token *catalog_token_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST])
{
    return table_get(&c->tokens, hash_digest(digest), match_token, digest);
}

const void *catalog_by_row(const struct catalog *c, enum record_kind kind, int64_t row)
{
    return table_get(&c->by_row[kind], hash_row(row), match_row, &row);
}

const void *catalog_by_id(const struct catalog *c, enum record_kind kind, struct id id)
{
    return table_get(&c->by_id[kind], hash_id(id), match_id, &id);
}

const struct price_book *catalog_book(const struct catalog *c, int64_t row)
{
    const struct book *b = row != 0 ? catalog_by_row(c, RECORD_BOOK, row) : c->list_book;

    return b != NULL ? b->prices : NULL;
}

const struct channel *catalog_next_any_channel(const struct catalog *c, size_t *pos)
{
    return *pos < c->n_channels ? c->channels[(*pos)++] : NULL;
}

const struct channel *catalog_next_channel(const struct catalog *c, size_t *pos)
{
    const struct channel *ch;

    do {
        ch = catalog_next_any_channel(c, pos);
    } while (ch != NULL && ch->super.status != RECORD_ACTIVE);
    return ch;
}

struct policy *catalog_policy(const struct catalog *c, enum record_kind kind, int64_t row)
{
    struct held key = {kind, row, NULL};
    const struct held *h = table_get(&c->policies, hash_held(&key), match_held, &key);

    return h != NULL ? h->policy : NULL;
}

const char *channel_upstream_model(const struct channel *ch, struct slice model)
{
    for (int i = 0; i < ch->n_models; i++) {
        if (slice_eq_str(model, ch->models[i].name))
            return ch->models[i].upstream;
    }
    return NULL;
}

bool channel_serves_tenant(const struct channel *ch, int64_t tenant_row)
{
    for (int i = 0; i < ch->n_tenants; i++) {
        if (ch->tenant_rows[i] == tenant_row)
            return true;
    }
    return ch->n_tenants == 0;
}
