/* key_set.c - makes a store with very many API keys, for the bench of lists, searches and starts.
 *
 *   key_set DIRECTORY [keys [customers [tenants]]]
 *
 * DIRECTORY gets tallygate.db and master.key, and secrets.txt: every 1000th key with its secret. Half of everything is
 * the first tenant's, the rest is spread evenly; of 100 keys 10 are in test mode, 2 disabled, 5 revoked, 30 have an
 * external_id, one a policy. Through the store, as any client of it would. */
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "db/store.h"

enum {
    MANY = STORE_MANY,
    SHOWN = 1000,
    LOG_KEYS = 50000,
    LOG_OWNERS = 20000
}; /* of each, before the log is given back */

struct set {
    char url[512];
    struct secrets *secrets;
    struct store *store;
    FILE *shown;
    int64_t keys, customers, tenants;
    int64_t *tenant_rows, *customer_rows;
    uint64_t dice;
};

static void must(bool good, const char *what, const struct err *err)
{
    if (good)
        return;
    fprintf(stderr, "key_set: %s: %s\n", what, err != NULL ? err->message : "");
    exit(1);
}

/* Only a store that closes gives its log back. */
static void open_store(struct set *s)
{
    const struct store_options options = {.url = s->url, .migrate = true, .secrets = s->secrets};
    struct err err;

    store_close(s->store);
    must(store_open(&options, &s->store, &err) == ERR_OK, s->url, &err);
}

static void open_set(struct set *s, const char *dir)
{
    char path[512];
    struct err err;

    (void)snprintf(path, sizeof(path), "%s/master.key", dir);
    (void)snprintf(s->url, sizeof(s->url), "sqlite:%s/tallygate.db", dir);
    must(secret_open(path, NULL, &s->secrets, &err) == ERR_OK, path, &err);
    (void)snprintf(path, sizeof(path), "%s/secrets.txt", dir);
    s->shown = fopen(path, "w");
    must(s->shown != NULL, path, NULL);
    open_store(s);
}

/* The same set every time, but for ids and secrets. */
static int64_t roll(struct set *s, int64_t n)
{
    s->dice = s->dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((s->dice >> 33) % (uint64_t)n);
}

static void name_record(struct record *r, const char *what, int64_t i)
{
    r->id = id_make();
    (void)snprintf(r->name, sizeof(r->name), "%s %lld", what, (long long)i);
}

static int64_t put(struct set *s, struct record *record)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};
    int64_t row;

    must(store_apply(s->store, &op.super) == ERR_OK, "put", &op.super.err);
    row = op.record->row;
    record_unref(op.record);
    return row;
}

/* Half of all are the first tenant's. */
static int64_t which_tenant(struct set *s)
{
    return roll(s, 2) == 0 ? 0 : roll(s, s->tenants);
}

static void make_owners(struct set *s)
{
    for (int64_t i = 0; i < s->tenants; i++) {
        struct tenant *t = record_create(RECORD_TENANT, 0);

        name_record(&t->super, "Tenant", i);
        (void)snprintf(t->timezone, sizeof(t->timezone), "UTC");
        t->in_doubt = -1;
        s->tenant_rows[i] = put(s, &t->super);
    }
    for (int64_t i = 0; i < s->customers; i++) {
        struct customer *c = record_create(RECORD_CUSTOMER, 0);

        name_record(&c->super, "Customer", i);
        (void)snprintf(c->super.external_id, sizeof(c->super.external_id), "cust-%lld", (long long)i);
        c->tenant_row = s->tenant_rows[i < s->customers / 2 ? 0 : i % s->tenants];
        s->customer_rows[i] = put(s, &c->super);
        if (i % LOG_OWNERS == LOG_OWNERS - 1)
            open_store(s);
    }
}

static int64_t tenant_of(const struct set *s, int64_t customer)
{
    return s->tenant_rows[customer < s->customers / 2 ? 0 : customer % s->tenants];
}

static struct record *make_key(struct set *s, int64_t i)
{
    struct api_key *k = record_create(RECORD_KEY, 0);
    int64_t customer = roll(s, s->customers), kind = roll(s, 100);
    char text[SECRET_KEY_TEXT];

    name_record(&k->super, "Key", i);
    if (roll(s, 5) > 0) { /* else a tenant's own */
        k->customer_row = s->customer_rows[customer];
        k->tenant_row = tenant_of(s, customer);
    } else {
        k->tenant_row = s->tenant_rows[which_tenant(s)];
    }
    k->test = roll(s, 10) == 0;
    k->super.status = kind < 2 ? RECORD_DISABLED : kind < 7 ? RECORD_REVOKED : RECORD_ACTIVE;
    if (roll(s, 10) < 3)
        (void)snprintf(k->super.external_id, sizeof(k->super.external_id), "ext-%lld", (long long)i);
    if (roll(s, 100) == 0)
        k->policy = mem_strdup("{\"max_n\":4}");
    secret_make_key(s->secrets, k->test ? SECRET_API_KEY_TEST : SECRET_API_KEY, text, k->digest);
    (void)slice_copy((struct slice){text, (k->test ? strlen("sk-tg-test-") : strlen("sk-tg-")) + 4}, k->prefix,
                     sizeof(k->prefix));
    (void)slice_copy(slice_from(text + strlen(text) - 4), k->last4, sizeof(k->last4));
    if (i % SHOWN == 0)
        fprintf(s->shown, "%s %s %s\n", text, record_status_name(k->super.status), k->test ? "test" : "live");
    return &k->super;
}

static void make_keys(struct set *s)
{
    static struct record *records[MANY];

    for (int64_t i = 0; i < s->keys;) {
        struct store_put_many op = {.super = {.kind = STORE_PUT_MANY}, .records = records};

        for (op.n = 0; op.n < MANY && i < s->keys; i++)
            records[op.n++] = make_key(s, i);
        must(store_apply(s->store, &op.super) == ERR_OK, "put many", &op.super.err);
        for (int j = 0; j < op.n; j++)
            record_unref(records[j]);
        if (i % LOG_KEYS == 0)
            open_store(s);
    }
}

static int64_t number(int argc, char **argv, int place, int64_t otherwise)
{
    unsigned long long n = 0;

    if (argc <= place)
        return otherwise;
    must(slice_to_u64(slice_from(argv[place]), &n) && n > 0 && n <= 10 * 1000 * 1000, argv[place], NULL);
    return (int64_t)n;
}

int main(int argc, char **argv)
{
    struct set s = {.keys = number(argc, argv, 2, 1000000),
                    .customers = number(argc, argv, 3, 100000),
                    .tenants = number(argc, argv, 4, 50),
                    .dice = 1};
    int64_t began = clock_mono();

    if (argc < 2) {
        fprintf(stderr, "usage: key_set DIRECTORY [keys [customers [tenants]]]\n");
        return 2;
    }
    secret_init();
    log_init(LEVEL_ERROR);
    open_set(&s, argv[1]);
    s.tenant_rows = mem_zalloc((size_t)s.tenants * sizeof(s.tenant_rows[0]));
    s.customer_rows = mem_zalloc((size_t)s.customers * sizeof(s.customer_rows[0]));
    make_owners(&s);
    make_keys(&s);
    store_close(s.store);
    (void)fclose(s.shown);
    secret_close(s.secrets);
    free(s.tenant_rows);
    free(s.customer_rows);
    printf("%lld keys, %lld customers, %lld tenants in %.1f s\n", (long long)s.keys, (long long)s.customers,
           (long long)s.tenants, (double)(clock_mono() - began) / 1e6);
    return 0;
}
