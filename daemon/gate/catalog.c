/* catalog.c - one loop's indexes over the records that all loops share.
 *
 *   by_row[kind]   row    -> record      owns the one reference that the catalog holds
 *   by_id[kind]    id     -> record      borrowed from by_row
 *   tokens         digest -> record      borrowed from by_row
 *   keys           digest -> credential  owns a reference of each; instead of by_row and by_id
 *   rules          kind, row -> held     owns the parsed policy, and a reference to the meter, of a record that has one
 *   channels       array by priority     borrowed from by_row
 *
 * Invariants
 *   1. A record is in by_row and by_id, or in neither; a token is in its digest table exactly when it is in by_row.
 *   2. There is one record for a row: a newer one takes the place of the older in every index before that is let go.
 *   3. What is held is there exactly when the record of its row has a policy or limits.
 *   4. list_book is the platform's book named openai-list, or NULL.
 * Threads: the loop's own. */
#include "catalog.h"

#include <stdlib.h>

#include "daemon/base/table.h"
#include "keyring.h"

static const char list_book_name[] = "openai-list";

struct held {
    enum record_kind kind;
    int64_t row;
    struct policy *policy; /* NULL: none, as below */
    struct meter *meter;
};

struct catalog {
    struct table by_row[RECORD_KINDS];
    struct table by_id[RECORD_KINDS];
    struct keyring keys;
    struct table tokens;
    struct table rules;
    struct meters *meters; /* NULL: limits are not looked at */
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
    keyring_init(&c->keys);
    table_init(&c->tokens);
    table_init(&c->rules);
    return c;
}

void catalog_set_meters(struct catalog *c, struct meters *meters)
{
    c->meters = meters;
}

static void destroy_held(struct held *h)
{
    policy_unref(h->policy);
    meter_unref(h->meter);
    free(h);
}

static void dispose_rules(struct catalog *c)
{
    size_t pos = 0;
    struct held *h;

    while ((h = table_next(&c->rules, &pos)) != NULL)
        destroy_held(h);
    table_dispose(&c->rules);
}

void catalog_destroy(struct catalog *c)
{
    if (c == NULL)
        return;
    dispose_rules(c);
    keyring_dispose(&c->keys);
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

/* ---- policies and meters ---- */

/* What a record says of its policy and limits. */
struct rules {
    enum record_kind kind;
    int64_t row, version, tenant_row;
    const char *policy, *limits;
};

static struct rules rules_of(const struct record *r)
{
    struct rules rules = {.kind = r->kind, .row = r->row, .version = r->version};

    if (r->kind == RECORD_TENANT) {
        rules.tenant_row = r->row;
        rules.policy = ((const struct tenant *)r)->policy;
        rules.limits = ((const struct tenant *)r)->limits;
    } else if (r->kind == RECORD_CUSTOMER) {
        rules.tenant_row = ((const struct customer *)r)->tenant_row;
        rules.policy = ((const struct customer *)r)->policy;
        rules.limits = ((const struct customer *)r)->limits;
    }
    return rules;
}

static enum meter_owner owner_of(enum record_kind kind)
{
    return kind == RECORD_KEY ? METER_KEY : kind == RECORD_CUSTOMER ? METER_CUSTOMER : METER_TENANT;
}

/* The limits of a record that cannot be read are as strict as there are: it must not open a door. */
static struct limits read_limits(const char *text)
{
    struct limits limits;

    if (limits_parse("limits", slice_from(text), &limits, NULL) == ERR_OK)
        return limits;
    for (int i = 0; i < LIMITS_KINDS; i++)
        limits.of[i] = 1;
    return limits;
}

/* One reference, or NULL. */
static struct meter *enter_meter(const struct catalog *c, const struct rules *rules)
{
    const struct tenant *tenant;
    struct limits limits;

    if (c->meters == NULL || rules->limits == NULL)
        return NULL;
    limits = read_limits(rules->limits);
    if (!limits_any(&limits))
        return NULL;
    tenant = catalog_by_row(c, RECORD_TENANT, rules->tenant_row);
    return meters_enter(c->meters, owner_of(rules->kind), rules->row, rules->version, rules->tenant_row, &limits,
                        tenant != NULL ? tenant->timezone : "");
}

static void add_rules(struct catalog *c, const struct rules *rules)
{
    struct held found = {rules->kind, rules->row, policy_create(rules->policy), enter_meter(c, rules)};
    struct held *h;

    if (found.policy == NULL && found.meter == NULL)
        return;
    h = mem_alloc(sizeof(*h));
    *h = found;
    h = table_put(&c->rules, hash_held(h), match_held, h, h);
    TG_ASSERT(h == NULL);
}

static void remove_rules(struct catalog *c, enum record_kind kind, int64_t row)
{
    struct held key = {.kind = kind, .row = row};
    struct held *h = table_remove(&c->rules, hash_held(&key), match_held, &key);

    if (h != NULL)
        destroy_held(h);
}

static const struct held *find_rules(const struct catalog *c, enum record_kind kind, int64_t row)
{
    struct held key = {.kind = kind, .row = row};

    return table_get(&c->rules, hash_held(&key), match_held, &key);
}

/* ---- putting in and taking out ---- */

static bool is_gone(const struct record *r)
{
    return r->status == RECORD_DELETED || r->status == RECORD_REVOKED;
}

/* What only one kind has; <r> is in no such index yet. */
static void add_particulars(struct catalog *c, struct record *r)
{
    void *old = NULL;

    if (r->kind == RECORD_ADMIN_TOKEN) {
        const uint8_t *digest = ((struct admin_token *)r)->digest;

        old = table_put(&c->tokens, hash_digest(digest), match_token, digest, r);
    } else if (r->kind == RECORD_CHANNEL) {
        add_channel(c, (struct channel *)r);
    } else if (r->kind == RECORD_BOOK && ((struct book *)r)->tenant_row == 0 && strcmp(r->name, list_book_name) == 0) {
        c->list_book = (struct book *)r;
    }
    TG_ASSERT(old == NULL); /* a digest belongs to one record */
}

static void remove_particulars(struct catalog *c, struct record *r)
{
    if (r->kind == RECORD_ADMIN_TOKEN) {
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
    struct rules rules;

    TG_ASSERT(old == NULL);
    old = table_put(&c->by_id[r->kind], hash_id(r->id), match_id, &r->id, r);
    TG_ASSERT(old == NULL);
    add_particulars(c, r);
    rules = rules_of(r);
    add_rules(c, &rules);
}

static void take_out(struct catalog *c, struct record *r)
{
    remove_rules(c, r->kind, r->row);
    remove_particulars(c, r);
    (void)table_remove(&c->by_id[r->kind], hash_id(r->id), match_id, &r->id);
    (void)table_remove(&c->by_row[r->kind], hash_row(r->row), match_row, &r->row);
    record_unref(r);
}

/* ---- keys ---- */

/* Takes over the reference; its row has none. */
static void put_key(struct catalog *c, struct credential *key)
{
    const struct rules rules = {.kind = RECORD_KEY,
                                .row = key->row,
                                .version = key->version,
                                .tenant_row = key->tenant_row,
                                .policy = key->more != NULL ? key->more->policy : NULL,
                                .limits = key->more != NULL ? key->more->limits : NULL};

    keyring_put(&c->keys, key);
    add_rules(c, &rules);
}

/* The last use that was noted of a key is that of its newer version, too. */
static void take_use(struct credential *key, const struct credential *old)
{
    long long used = atomic_load_explicit(&old->used_at, memory_order_relaxed);

    if (atomic_load_explicit(&key->used_at, memory_order_relaxed) < used)
        atomic_store_explicit(&key->used_at, used, memory_order_relaxed);
}

static void apply_key(struct catalog *c, const struct api_key *key)
{
    struct credential *old = keyring_by_row(&c->keys, key->super.row);
    struct meter *meter;

    if (old != NULL && old->version > key->super.version)
        return;
    TG_ASSERT(is_gone(&key->super) || key->credential != NULL);
    meter = meter_ref(catalog_meter(c, RECORD_KEY, key->super.row)); /* what it has counted stays */
    if (old != NULL) {
        if (!is_gone(&key->super))
            take_use(key->credential, old);
        remove_rules(c, RECORD_KEY, key->super.row);
        keyring_remove(&c->keys, key->super.row);
    }
    if (!is_gone(&key->super))
        put_key(c, credential_ref(key->credential));
    meter_unref(meter);
}

/* ---- changes ---- */

static bool has_moved(const struct record *old, const struct record *record)
{
    return record->kind == RECORD_TENANT &&
           strcmp(((const struct tenant *)old)->timezone, ((const struct tenant *)record)->timezone) != 0;
}

static void apply_record(struct catalog *c, struct record *record)
{
    struct record *old = table_get(&c->by_row[record->kind], hash_row(record->row), match_row, &record->row);
    struct meter *meter;

    if (old != NULL && old->version > record->version)
        return;
    meter = meter_ref(catalog_meter(c, record->kind, record->row)); /* what it has counted stays */
    if (old != NULL && has_moved(old, record) && c->meters != NULL)
        meters_set_zone(c->meters, record->row, ((const struct tenant *)record)->timezone);
    if (old != NULL)
        take_out(c, old);
    if (!is_gone(record))
        put_in(c, record_ref(record));
    meter_unref(meter);
}

void catalog_apply(void *catalog, struct record *record)
{
    if (record->kind == RECORD_KEY)
        apply_key(catalog, (const struct api_key *)record);
    else
        apply_record(catalog, record);
    record_unref(record);
}

/* ---- filling ---- */

struct filling {
    struct catalog *const *catalogs;
    int n;
};

static void fill_record(void *ctx, struct record *record)
{
    const struct filling *f = ctx;

    for (int i = 0; i < f->n; i++)
        apply_record(f->catalogs[i], record);
}

static void fill_key(void *ctx, struct credential *key)
{
    const struct filling *f = ctx;

    for (int i = 0; i < f->n; i++)
        put_key(f->catalogs[i], credential_ref(key));
}

enum err_code catalog_fill(struct catalog *const *catalogs, struct mailbox *const *boxes, int n, struct store *store,
                           struct err *err)
{
    struct filling f = {catalogs, n};

    store_each_record(store, fill_record, &f);
    for (int i = 0; i < n; i++)
        store_subscribe(store, boxes[i], catalog_apply, catalogs[i]);
    return store_each_credential(store, fill_key, &f, err);
}

/* ---- look-ups ---- */

struct credential *catalog_key_by_digest(const struct catalog *c, const uint8_t digest[SECRET_DIGEST], int64_t now)
{
    return keyring_find(&c->keys, digest, now);
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
    const struct held *h = find_rules(c, kind, row);

    return h != NULL ? h->policy : NULL;
}

struct meter *catalog_meter(const struct catalog *c, enum record_kind kind, int64_t row)
{
    const struct held *h = find_rules(c, kind, row);

    return h != NULL ? h->meter : NULL;
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
