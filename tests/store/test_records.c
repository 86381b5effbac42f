/* test_records.c - records: creating, replacing, deleting, lists, subscribers; what survives a reopening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "lib_sql.h"
#include "lib_world.h"

static int set_up(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 0, 0);
    *state = w;
    return 0;
}

static struct record *get(struct world *w, enum record_kind kind, struct id id, int64_t tenant_row)
{
    static struct store_list q;

    for (int i = 0; i < q.n; i++)
        record_unref(q.items[i]);
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_GET;
    q.kind = kind;
    q.id = id;
    q.tenant_row = tenant_row;
    world_ask(w, &q.super);
    if (q.super.err.code != ERR_OK) {
        assert_int_equal(q.super.err.code, ERR_NOT_FOUND);
        assert_int_equal(q.n, 0);
        return NULL;
    }
    return q.items[0];
}

static int tear_down(void **state)
{
    struct world *w = *state;
    int bad;

    (void)get(w, RECORD_TENANT, id_make(), 0); /* lets go of what the last one found */
    (void)world_put(w, world_tenant("last"), NULL, NULL);
    world_close(w);
    bad = world_fsck(w);
    world_dispose(w);
    free(w);
    return bad;
}

static void tenant_round_trip(void **state)
{
    struct world *w = *state;
    struct tenant *t = world_tenant("Acme");
    const struct tenant *back;
    struct record *r;
    struct id id;

    strcpy(t->super.external_id, "acme-1");
    strcpy(t->timezone, "Europe/Berlin");
    t->credit_limit = 7;
    t->markup_ppm = 125000;
    t->in_doubt = IN_DOUBT_KEEP;
    t->policy = mem_strdup("{\"models\": [\"dall-e-2\"]}");
    t->super.status = RECORD_SUSPENDED;
    assert_int_equal(world_put(w, t, &r, NULL), ERR_OK);
    assert_true(r->row > 0);
    assert_int_equal(r->version, 1);
    assert_true(r->created_at > 0);
    id = r->id;
    for (int round = 0; round < 2; round++) {
        back = (const struct tenant *)get(w, RECORD_TENANT, id, 0);
        assert_non_null(back);
        assert_string_equal(back->super.name, "Acme");
        assert_string_equal(back->super.external_id, "acme-1");
        assert_string_equal(back->timezone, "Europe/Berlin");
        assert_string_equal(back->policy, "{\"models\": [\"dall-e-2\"]}");
        assert_null(back->limits);
        assert_int_equal(back->credit_limit, 7);
        assert_int_equal(back->markup_ppm, 125000);
        assert_int_equal(back->in_doubt, IN_DOUBT_KEEP);
        assert_int_equal(back->super.status, RECORD_SUSPENDED);
        assert_int_equal(back->super.created_at, r->created_at);
        if (round == 0) {
            world_close(w);
            world_open(w);
        }
    }
}

static void channel_round_trip(void **state)
{
    struct world *w = *state;
    struct channel *c = world_channel("Second", "sk-secret-credential");
    const struct channel *back;
    struct record *r;
    struct id id;

    c->priority = 5;
    c->timeout = 3000000;
    c->n_tenants = 1;
    c->tenant_rows = mem_alloc(sizeof(int64_t));
    c->tenant_rows[0] = w->tenant;
    strcpy(c->api_version, "2025-04-01");
    assert_int_equal(world_put(w, c, &r, NULL), ERR_OK);
    id = r->id;
    world_close(w);
    world_open(w);
    back = (const struct channel *)get(w, RECORD_CHANNEL, id, 0);
    assert_non_null(back);
    assert_string_equal(back->credential, "sk-secret-credential");
    assert_string_equal(back->base_url, "http://127.0.0.1:9/v1");
    assert_int_equal(back->n_models, 2);
    assert_string_equal(back->models[1].name, "picture");
    assert_string_equal(back->models[1].upstream, "gpt-image-1");
    assert_int_equal(back->n_tenants, 1);
    assert_int_equal(back->tenant_rows[0], w->tenant);
    assert_int_equal(back->priority, 5);
    assert_string_equal(back->api_version, "2025-04-01");
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM channels WHERE instr(credential, 'secret') > 0"), 0);
    assert_null(get(w, RECORD_CHANNEL, id, w->tenant)); /* a tenant sees no channels */
}

static void versions_guard(void **state)
{
    struct world *w = *state;
    struct tenant *t;
    struct record *r;

    for (int64_t version = 1; version <= 3; version++) {
        t = world_tenant("Renamed");
        t->super.row = w->tenant;
        t->super.version = version;
        assert_int_equal(world_put(w, t, &r, NULL), ERR_OK);
        assert_int_equal(r->version, version + 1);
        assert_true(id_eq(r->id, w->tenant_id)); /* identity stays, whatever the new record says */
    }
    t = world_tenant("Late");
    t->super.row = w->tenant;
    t->super.version = 3;
    assert_int_equal(world_put(w, t, &r, NULL), ERR_PRECONDITION_FAILED);
    t = world_tenant("Nobody");
    t->super.row = 12345;
    t->super.version = 1;
    assert_int_equal(world_put(w, t, &r, NULL), ERR_NOT_FOUND);
}

static void unique_values(void **state)
{
    struct world *w = *state;
    struct tenant *t = world_tenant("A");
    struct err err;

    strcpy(t->super.external_id, "x");
    assert_int_equal(world_put(w, t, NULL, NULL), ERR_OK);
    t = world_tenant("B");
    strcpy(t->super.external_id, "x");
    assert_int_equal(world_put(w, t, NULL, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "external_id");
    assert_int_equal(world_put(w, world_channel("Channel", ""), NULL, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "name");
    assert_int_equal(world_put(w, world_tenant("A"), NULL, NULL), ERR_OK); /* names are for people */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM channel_models"), 2);
}

static void owners_must_live(void **state)
{
    struct world *w = *state;
    struct customer *c = world_customer(w, "C", false);
    struct api_key *k;
    struct tenant *t;
    struct record *r;
    struct err err;
    int64_t other;

    c->tenant_row = 999;
    assert_int_equal(world_put(w, c, NULL, &err), ERR_NOT_FOUND);
    assert_int_equal(world_put(w, world_tenant("Other"), &r, NULL), ERR_OK);
    other = r->row;
    k = world_key(w, "k", w->customer);
    k->tenant_row = other; /* another tenant's customer */
    assert_int_equal(world_put(w, k, NULL, &err), ERR_NOT_FOUND);
    t = world_tenant("Other");
    t->super.row = other;
    t->super.version = 1;
    t->super.status = RECORD_DELETED;
    assert_int_equal(world_put(w, t, NULL, NULL), ERR_OK);
    k = world_key(w, "k", 0);
    k->tenant_row = other;
    assert_int_equal(world_put(w, k, NULL, &err), ERR_NOT_FOUND);
}

static enum err_code delete_tenant(struct world *w)
{
    struct tenant *t = world_tenant("Tenant");

    t->super.row = w->tenant;
    t->super.version = 1;
    t->super.status = RECORD_DELETED;
    return world_put(w, t, NULL, NULL);
}

static void deleting(void **state)
{
    struct world *w = *state;
    struct store_hold hold;
    struct id id;

    assert_int_equal(world_credit(w, true, 5), ERR_OK);
    assert_int_equal(delete_tenant(w), ERR_CONFLICT); /* a customer's money */
    assert_int_equal(world_credit(w, true, -5), ERR_OK);
    assert_int_equal(world_credit(w, false, 5), ERR_OK);
    assert_int_equal(delete_tenant(w), ERR_CONFLICT);
    assert_int_equal(world_credit(w, false, -5), ERR_OK);
    world_hold_init(w, &hold, 0, -1);
    assert_int_equal(world_do(w, &hold.super), ERR_OK);
    assert_int_equal(delete_tenant(w), ERR_CONFLICT); /* a hold, though of nothing */
    assert_int_equal(world_void(w, hold.id), ERR_OK);
    assert_int_equal(delete_tenant(w), ERR_OK);
    assert_null(get(w, RECORD_TENANT, w->tenant_id, 0));
    assert_null(get(w, RECORD_CUSTOMER, w->customer_id, 0));
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM keys WHERE status = 3"), 2);
    assert_int_equal(world_hold(w, 0, -1, &id), ERR_ACCOUNT_SUSPENDED);
    assert_int_equal(world_credit(w, false, 5), ERR_NOT_FOUND);
    assert_int_equal(world_credit(w, true, 5), ERR_NOT_FOUND);
    assert_int_equal(delete_tenant(w), ERR_NOT_FOUND);
}

static void wallet_of_a_customer(void **state)
{
    struct world *w = *state;
    struct customer *c = world_customer(w, "Customer", false);

    assert_int_equal(world_credit(w, true, 5), ERR_OK);
    c->super.row = w->customer;
    c->super.version = 1;
    assert_int_equal(world_put(w, c, NULL, NULL), ERR_CONFLICT);
    assert_int_equal(world_credit(w, true, -5), ERR_OK);
    c = world_customer(w, "Customer", false);
    c->super.row = w->customer;
    c->super.version = 1;
    assert_int_equal(world_put(w, c, NULL, NULL), ERR_OK);
    assert_int_equal(world_credit(w, true, 5), ERR_NOT_FOUND); /* no wallet of its own any more */
}

static int n_records[RECORD_KINDS];

static void count_record(void *ctx, struct record *record)
{
    (void)ctx;
    n_records[record->kind]++;
}

static void count_credential(void *ctx, struct credential *credential)
{
    (void)credential;
    (*(int *)ctx)++;
}

static void revoked_keys(void **state)
{
    struct world *w = *state;
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    struct api_key *k = world_key(w, "key", 0);
    struct record *r;
    struct err err;
    struct id id;

    k->super.row = w->key;
    k->super.version = 1;
    k->super.status = RECORD_REVOKED;
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    id = r->id;
    assert_non_null(get(w, RECORD_KEY, id, w->tenant)); /* still seen */
    assert_int_equal(get(w, RECORD_KEY, id, w->tenant)->status, RECORD_REVOKED);
    assert_null(get(w, RECORD_KEY, id, 999));
    k = world_key(w, "again", 0);
    k->super.row = w->key;
    k->super.version = 2;
    assert_int_equal(world_put(w, k, NULL, NULL), ERR_CONFLICT);
    k = world_key(w, "renamed", 0);
    k->super.row = w->key;
    k->super.version = 2;
    k->super.status = RECORD_REVOKED;
    assert_int_equal(world_put(w, k, NULL, NULL), ERR_OK);
    world_close(w);
    memset(n_records, 0, sizeof(n_records));
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    store_each_record(w->store, count_record, NULL);
    assert_int_equal(store_each_credential(w->store, count_credential, &n_records[RECORD_KEY], &err), ERR_OK);
    assert_int_equal(n_records[RECORD_KEY], 1);
    assert_int_equal(n_records[RECORD_TENANT], 2);
    assert_int_equal(n_records[RECORD_BOOK], 1);
    store_close(w->store);
    world_open(w);
}

static void lists(void **state)
{
    struct world *w = *state;
    static struct store_list q;
    char name[16];
    int seen = 0;

    for (int i = 0; i < 45; i++) {
        struct api_key *k;

        (void)snprintf(name, sizeof(name), "k%d", i);
        k = world_key(w, name, w->customer);
        (void)snprintf(k->super.external_id, sizeof(k->super.external_id), "e%d", i);
        assert_int_equal(world_put(w, k, NULL, NULL), ERR_OK);
    }
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_LIST;
    q.kind = RECORD_KEY;
    q.tenant_row = w->tenant;
    q.limit = 20;
    do {
        world_ask(w, &q.super);
        assert_int_equal(q.super.err.code, ERR_OK);
        for (int i = 0; i < q.n; i++) {
            assert_true(id_eq(q.tenant_ids[i], w->tenant_id));
            if (seen < 45) {
                (void)snprintf(name, sizeof(name), "k%d", 44 - seen);
                assert_string_equal(q.items[i]->name, name); /* newest first */
                assert_true(id_eq(q.customer_ids[i], w->customer_id));
            }
            seen++;
            q.id = q.items[i]->id;
            record_unref(q.items[i]);
        }
    } while (q.more);
    assert_int_equal(seen, 47);
    memset(&q.id, 0, sizeof(q.id));
    strcpy(q.external_id, "e7");
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_string_equal(q.items[0]->name, "k7");
    record_unref(q.items[0]);
    q.external_id[0] = '\0';
    q.id = id_make(); /* never was one: the page begins where it would stand, at the newest */
    world_ask(w, &q.super);
    assert_int_equal(q.super.err.code, ERR_OK);
    assert_int_equal(q.n, 20);
    assert_string_equal(q.items[0]->name, "k44");
    for (int i = 0; i < q.n; i++)
        record_unref(q.items[i]);
}

static void balances_beside_tenants(void **state)
{
    struct world *w = *state;
    static struct store_list q;
    struct id id;

    assert_int_equal(world_credit(w, false, 7), ERR_OK);
    assert_int_equal(world_hold(w, 3, -1, &id), ERR_OK);
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_GET;
    q.kind = RECORD_TENANT;
    q.id = w->tenant_id;
    q.tenant_row = w->tenant;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_int_equal(q.balances[0].posted, 7);
    assert_int_equal(q.balances[0].held, 3);
    record_unref(q.items[0]);
}

/* ---- price books ---- */

static struct book *make_book(const struct price_book *old, int64_t effective_from, int64_t pico)
{
    struct price_rate rate = {.model = "dall-e-2", .unit = PRICE_IMAGE, .pico = pico};
    struct price_version *versions[8];
    struct book *book = record_create(RECORD_BOOK, 0);
    size_t n = 0;

    for (; old != NULL && n < old->n; n++)
        versions[n] = price_version_ref(old->versions[n]);
    versions[n] = price_version_create(&rate, 1);
    versions[n]->id = id_make();
    versions[n++]->effective_from = effective_from;
    book->prices = price_book_create(versions, n);
    book->prices->kind = PRICE_RETAIL;
    book->super.id = id_make();
    strcpy(book->super.name, "my prices");
    return book;
}

static void books(void **state)
{
    struct world *w = *state;
    const struct book *back;
    struct book *book, *stored;
    struct record *r;
    struct err err;
    struct id id;
    int64_t pico, row;
    struct price_item item = {.model = SLICE("dall-e-2"), .operation = OPERATION_EDITS};

    assert_int_equal(world_put(w, make_book(NULL, 1000, 5), &r, NULL), ERR_OK);
    id = r->id;
    row = r->row;
    stored = record_ref(r);
    assert_int_equal(stored->prices->row, row);
    assert_true(stored->prices->versions[0]->row > 0);
    book = make_book(stored->prices, 2000, 6);
    book->super.row = row;
    book->super.version = 1;
    assert_int_equal(world_put(w, book, NULL, NULL), ERR_OK);
    book = make_book(stored->prices, 1000, 7); /* loses the second version */
    book->super.row = row;
    book->super.version = 2;
    assert_int_equal(world_put(w, book, NULL, NULL), ERR_CONFLICT);
    world_close(w);
    world_open(w);
    back = (const struct book *)get(w, RECORD_BOOK, id, 0);
    assert_non_null(back);
    assert_int_equal(back->prices->n, 2);
    assert_int_equal(back->prices->kind, PRICE_RETAIL);
    assert_string_equal(back->prices->name, "my prices");
    assert_true(price_find(price_book_at(back->prices, 1500), &item, PRICE_IMAGE, &pico));
    assert_int_equal(pico, 5);
    assert_true(price_find(price_book_at(back->prices, 2500), &item, PRICE_IMAGE, &pico));
    assert_int_equal(pico, 6);
    book = make_book(back->prices, 2000, 7); /* two from the same moment */
    book->super.row = row;
    book->super.version = 2;
    assert_int_equal(world_put(w, book, NULL, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "effective_from");
    record_unref(stored);
}

static void default_prices(void **state)
{
    struct world *w = *state;
    struct price_version *v = price_defaults();

    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM price_versions"), 1);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM price_rates"), (int64_t)v->n);
    assert_int_equal(sql_number(w->url, "SELECT effective_from FROM price_versions"), 0);
    price_version_unref(v);
    world_close(w);
    world_open(w);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM price_versions"), 1);
    world_close(w);
    sql_exec(w->url, "UPDATE meta SET value = x'00' WHERE name = 'default_prices'"); /* as if they had changed */
    world_open(w);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM price_versions"), 2);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM price_books"), 1);
}

/* ---- subscribers ---- */

struct loop {
    struct box box;
    pthread_t thread;
    int applied;
    int64_t last_version;
};

static void apply(void *ctx, struct record *record)
{
    struct loop *loop = ctx;

    loop->applied++;
    assert_true(record->version > loop->last_version);
    loop->last_version = record->version;
    record_unref(record);
}

static void *run_loop(void *arg)
{
    struct loop *loop = arg;

    while (loop->applied < 20)
        box_run(&loop->box);
    return NULL;
}

static void subscribers(void **state)
{
    struct world *w = *state;
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    static struct loop loops[3];
    struct record *r = NULL;
    struct err err;

    (void)world_put(w, world_tenant("x"), NULL, NULL);
    world_close(w);
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    for (int i = 0; i < 3; i++) {
        loops[i] = (struct loop){.applied = 0};
        box_init(&loops[i].box);
        store_subscribe(w->store, &loops[i].box.super, apply, &loops[i]);
    }
    assert_int_equal(store_start(w->store, NULL, NULL, &err), ERR_OK);
    for (int i = 0; i < 3; i++)
        pthread_create(&loops[i].thread, NULL, run_loop, &loops[i]);
    for (int64_t version = 0; version < 20; version++) {
        struct tenant *t = world_tenant("watched");

        t->super.row = r != NULL ? r->row : 0;
        t->super.version = version;
        assert_int_equal(world_put(w, t, &r, NULL), ERR_OK);
        for (int i = 0; i < 3; i++)
            assert_int_equal(loops[i].applied, version + 1); /* known everywhere before it is acknowledged */
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(loops[i].thread, NULL);
        box_dispose(&loops[i].box);
    }
    world_close(w);
    world_open(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tenant_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(channel_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_guard, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unique_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(owners_must_live, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deleting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wallet_of_a_customer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(revoked_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(balances_beside_tenants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(books, set_up, tear_down),
        cmocka_unit_test_setup_teardown(default_prices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(subscribers, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
