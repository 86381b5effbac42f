/* test_keys.c - API keys by the thousand: many at once or none, rotation, lists by every filter, last use, what a start
 * reads. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"
#include "lib_world.h"

static int set_up(void **state)
{
    struct world *w = mem_zalloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 100 * USD, 100 * USD);
    *state = w;
    return 0;
}

/* ---- many ---- */

enum { MANY = 40 };

static struct record *made[STORE_MANY];

static void make_many(struct world *w, int n)
{
    char name[32];

    for (int i = 0; i < n; i++) {
        struct api_key *k;

        (void)snprintf(name, sizeof(name), "many %d", i);
        k = world_key(w, name, i % 2 == 0 ? w->customer : 0);
        (void)snprintf(k->super.external_id, sizeof(k->super.external_id), "e%d", i);
        made[i] = &k->super;
    }
}

static enum err_code put_many(struct world *w, int n, struct store_put_many *op)
{
    *op = (struct store_put_many){.super = {.kind = STORE_PUT_MANY}, .n = n, .records = made};
    return world_do(w, &op->super);
}

static int64_t count_keys(struct world *w)
{
    return sql_number(w->url, "SELECT count(*) FROM keys");
}

static void all_of_many(void **state)
{
    struct world *w = *state;
    struct store_put_many op;
    int64_t before = count_keys(w);

    make_many(w, MANY);
    ((struct api_key *)made[3])->budgets = mem_strdup("[{\"amount\":\"0.000000005\",\"window\":\"lifetime\"}]");
    assert_int_equal(put_many(w, MANY, &op), ERR_OK);
    assert_int_equal(op.failed, -1);
    assert_int_equal(count_keys(w), before + MANY);
    for (int i = 0; i < MANY; i++) {
        const struct api_key *k = (const struct api_key *)made[i];

        assert_int_equal(k->super.version, 1);
        assert_true(k->super.created_at > 0);
        if (i > 0)
            assert_int_equal(k->super.row, made[i - 1]->row + 1);
        assert_int_equal(k->credential->row, k->super.row);
        assert_memory_equal(k->credential->digest, k->digest, SECRET_DIGEST);
    }
    w->key = made[3]->row; /* its budget counts */
    for (int i = 0; i < 2; i++) {
        struct id id;

        assert_int_equal(world_hold(w, 5, -1, &id), i == 0 ? ERR_OK : ERR_INSUFFICIENT_QUOTA);
    }
    for (int i = 0; i < MANY; i++)
        record_unref(made[i]);
}

enum fault {
    TAKEN_NAME, /* an external_id that a key had before */
    TWICE,      /* two of them with one external_id */
    TAKEN_DIGEST,
    BAD_BUDGETS,
    NO_CUSTOMER,
    FAULTS
};

static void spoil(struct world *w, enum fault fault, int place)
{
    struct api_key *k = (struct api_key *)made[place];

    switch (fault) {
    case TAKEN_NAME:
        (void)snprintf(k->super.external_id, sizeof(k->super.external_id), "taken");
        break;
    case TWICE:
        memcpy(k->super.external_id, made[place - 1]->external_id, sizeof(k->super.external_id));
        break;
    case TAKEN_DIGEST:
        memcpy(k->digest, ((struct api_key *)made[0])->digest, SECRET_DIGEST);
        break;
    case BAD_BUDGETS:
        k->budgets = mem_strdup("[{\"amount\":\"1\",\"window\":\"decade\"}]");
        break;
    case NO_CUSTOMER:
        k->customer_row = w->customer + 77;
        break;
    case FAULTS:
        break;
    }
}

static void none_of_many(void **state)
{
    static const enum err_code expected[FAULTS] = {ERR_CONFLICT, ERR_CONFLICT, ERR_CONFLICT, ERR_INVALID_VALUE,
                                                   ERR_NOT_FOUND};
    static const int places[] = {1, 20, MANY - 1};
    struct world *w = *state;
    struct store_put_many op;
    struct api_key *taken = world_key(w, "taken", 0);
    int64_t before, cells;

    (void)snprintf(taken->super.external_id, sizeof(taken->super.external_id), "taken");
    assert_int_equal(world_put(w, taken, NULL, NULL), ERR_OK);
    before = count_keys(w);
    cells = sql_number(w->url, "SELECT count(*) FROM budget_cells");
    for (int fault = 0; fault < FAULTS; fault++)
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            make_many(w, MANY);
            ((struct api_key *)made[0])->budgets = mem_strdup("[{\"amount\":\"5\",\"window\":\"day\"}]");
            spoil(w, (enum fault)fault, places[i]);
            assert_int_equal(put_many(w, MANY, &op), expected[fault]);
            assert_int_equal(op.failed, places[i]);
            for (int j = 0; j < MANY; j++)
                assert_null(made[j]);
            assert_int_equal(count_keys(w), before);
            assert_int_equal(sql_number(w->url, "SELECT count(*) FROM budget_cells"), cells);
        }
    assert_int_equal(put_many(w, 0, &op), ERR_INVALID_VALUE);
    assert_int_equal(op.failed, -1);
    assert_int_equal(w->failures, 0);
}

/* ---- repeated, and told to whoever subscribed ---- */

enum { WATCHERS = 3 };

static struct watcher {
    struct box box;
    int seen;
    int64_t last_row;
} watchers[WATCHERS];

static void apply(void *ctx, struct record *record)
{
    struct watcher *watcher = ctx;

    watcher->seen++;
    assert_true(record->row > watcher->last_row);
    watcher->last_row = record->row;
    assert_non_null(((struct api_key *)record)->credential);
    record_unref(record);
}

static void delivered(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);

    for (int i = 0; i < WATCHERS; i++)
        assert_int_equal(watchers[i].seen, MANY); /* all of them, before the answer */
    op->reply_to = NULL;
}

static void watched(void **state)
{
    struct world *w = *state;
    const struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    struct store_put_many op = {
        .super = {.kind = STORE_PUT_MANY, .mail = {.deliver = delivered}}, .n = MANY, .records = made};
    struct err err;

    world_close(w);
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    for (int i = 0; i < WATCHERS; i++) {
        watchers[i] = (struct watcher){.seen = 0};
        box_init(&watchers[i].box);
        store_subscribe(w->store, &watchers[i].box.super, apply, &watchers[i]);
    }
    assert_int_equal(store_start(w->store, NULL, NULL, &err), ERR_OK);
    make_many(w, MANY);
    op.super.reply_to = &w->box.super;
    store_submit(w->store, &op.super);
    for (int i = 0; i < WATCHERS; i++)
        box_run(&watchers[i].box); /* one wake-up brings all */
    while (op.super.reply_to != NULL)
        box_run(&w->box);
    assert_int_equal(op.super.err.code, ERR_OK);
    for (int i = 0; i < MANY; i++)
        record_unref(made[i]);
    world_close(w);
    for (int i = 0; i < WATCHERS; i++)
        box_dispose(&watchers[i].box);
    world_open(w);
}

static void render(struct store_op *op, struct buf *out)
{
    buf_printf(out, "%d made", ((struct store_put_many *)op)->n);
}

static void repeated(void **state)
{
    struct world *w = *state;
    struct store_actor actor = {.request = id_make(),
                                .action = "key.create",
                                .idempotency_key = SLICE("bulk"),
                                .render = render,
                                .status = 201};
    struct store_put_many op;
    int64_t before = count_keys(w), audit = sql_number(w->url, "SELECT count(*) FROM audit");

    for (int i = 0; i < 2; i++) {
        buf_init(&actor.reply, 4096);
        make_many(w, MANY);
        op = (struct store_put_many){.super = {.kind = STORE_PUT_MANY, .actor = &actor}, .n = MANY, .records = made};
        assert_int_equal(world_do(w, &op.super), ERR_OK);
        assert_int_equal(actor.replayed, i == 1);
        assert_true(slice_eq_str(buf_slice(&actor.reply), "40 made"));
        for (int j = 0; j < MANY; j++) {
            assert_int_equal(made[j] == NULL, i == 1);
            record_unref(made[j]);
        }
        buf_dispose(&actor.reply);
    }
    assert_int_equal(count_keys(w), before + MANY);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM audit") - audit, MANY); /* an entry each */
}

/* ---- rotation ---- */

static struct api_key *copy_of(struct world *w, const struct api_key *old)
{
    struct api_key *k = world_key(w, old->super.name, old->customer_row);

    k->super.row = old->super.row;
    k->super.version = old->super.version;
    memcpy(k->digest, old->digest, SECRET_DIGEST);
    return k;
}

static void rotated(void **state)
{
    struct world *w = *state;
    uint8_t first[SECRET_DIGEST];
    struct record *r;
    struct api_key *k;

    assert_int_equal(world_put(w, world_key(w, "turning", 0), &r, NULL), ERR_OK);
    memcpy(first, ((struct api_key *)r)->digest, SECRET_DIGEST);
    assert_null(((struct api_key *)r)->credential->more);
    k = copy_of(w, (struct api_key *)r);
    secret_random(k->digest, SECRET_DIGEST);
    memcpy(k->old_digest, first, SECRET_DIGEST);
    k->old_until = clock_wall() + CLOCK_SECOND;
    k->super.id = id_make(); /* is not taken */
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    k = (struct api_key *)r;
    assert_int_equal(k->super.version, 2);
    assert_memory_equal(k->credential->more->old_digest, first, SECRET_DIGEST);
    assert_int_equal(k->credential->more->old_until, k->old_until);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM keys WHERE old_digest IS NOT NULL"), 1);
    k = copy_of(w, (struct api_key *)r); /* without the old one */
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    assert_null(((struct api_key *)r)->credential->more);
    assert_int_equal(
        sql_number(w->url, "SELECT count(*) FROM keys WHERE old_digest IS NOT NULL OR old_until IS NOT NULL"), 0);
}

/* ---- last use ---- */

static int64_t used_at(struct world *w, const char *table, int64_t row)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT coalesce(last_used_at, 0) FROM %s WHERE row = %lld", table,
                   (long long)row);
    return sql_number(w->url, sql);
}

static void touch(struct world *w, enum record_kind kind, int64_t row, int64_t at)
{
    struct store_touch op = {.super = {.kind = STORE_TOUCH}, .n = 2};

    op.items[0].kind = kind;
    op.items[0].row = row;
    op.items[0].at = at;
    op.items[1].kind = kind;
    op.items[1].row = 123456; /* is not there */
    op.items[1].at = at;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static void touched(void **state)
{
    struct world *w = *state;
    struct admin_token *t = record_create(RECORD_ADMIN_TOKEN, 0);
    static struct store_list q;
    struct record *r;
    struct api_key *k;

    touch(w, RECORD_KEY, w->key, 1000);
    assert_int_equal(used_at(w, "keys", w->key), 1000);
    touch(w, RECORD_KEY, w->key, 900);
    assert_int_equal(used_at(w, "keys", w->key), 1000);
    touch(w, RECORD_KEY, w->key, 2000);
    assert_int_equal(used_at(w, "keys", w->key), 2000);
    assert_int_equal(sql_number(w->url, "SELECT max(version) FROM keys"), 1); /* no new version */
    k = world_key(w, "renamed", 0);                                           /* a change does not set it back */
    k->super.row = w->key;
    k->super.version = 1;
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    assert_int_equal(((struct api_key *)r)->last_used_at, 2000);
    assert_int_equal(atomic_load(&((struct api_key *)r)->credential->used_at), 2000);
    assert_int_equal(used_at(w, "keys", w->key), 2000);
    q = (struct store_list){.super = {.question = STORE_GET}, .kind = RECORD_KEY, .id = r->id};
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_int_equal(((struct api_key *)q.items[0])->last_used_at, 2000);
    record_unref(q.items[0]);
    t->super.id = id_make();
    secret_random(t->digest, SECRET_DIGEST);
    assert_int_equal(world_put(w, t, &r, NULL), ERR_OK);
    touch(w, RECORD_ADMIN_TOKEN, r->row, 77);
    assert_int_equal(used_at(w, "admin_tokens", r->row), 77);
}

/* ---- lists ---- */

enum { TENANTS = 3, CUSTOMERS = 4, KEYS = 700 };

static struct kept {
    struct id id;
    int64_t row, tenant, customer;
    enum record_status status;
    bool test;
    char prefix[16], last4[5], external[16];
    uint8_t digest[SECRET_DIGEST];
} kept[KEYS];

static int64_t tenants[TENANTS], customers[TENANTS][CUSTOMERS];

static uint64_t dice;

static int roll(int n)
{
    dice = dice * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int)((dice >> 33) % (uint64_t)n);
}

static void make_owners(struct world *w)
{
    struct record *r;

    for (int t = 0; t < TENANTS; t++) {
        assert_int_equal(world_put(w, world_tenant("owner"), &r, NULL), ERR_OK);
        tenants[t] = w->tenant = r->row;
        for (int c = 0; c < CUSTOMERS; c++) {
            assert_int_equal(world_put(w, world_customer(w, "customer", false), &r, NULL), ERR_OK);
            customers[t][c] = r->row;
        }
    }
}

static struct record *draw_key(struct world *w, struct kept *k)
{
    static const enum record_status statuses[] = {RECORD_ACTIVE,   RECORD_ACTIVE,  RECORD_ACTIVE,
                                                  RECORD_DISABLED, RECORD_REVOKED, RECORD_DELETED};
    static const char digits[] = "abtesA"; /* "sk-tg-test" is a live key's prefix, too */
    struct api_key *key;
    int tenant = roll(TENANTS), customer = roll(CUSTOMERS + 2), place = (int)(k - kept), len;

    k->tenant = w->tenant = tenants[tenant];
    k->customer = customer < CUSTOMERS ? customers[tenant][customer] : 0;
    k->status = statuses[roll(6)];
    k->test = roll(3) == 0;
    len = snprintf(k->prefix, sizeof(k->prefix), "sk-tg-%s", k->test ? "test-" : "");
    for (int i = 0; i < 4; i++)
        k->prefix[len++] = digits[roll(6)];
    k->prefix[len] = '\0';
    if (!k->test && roll(20) == 0)
        (void)snprintf(k->prefix, sizeof(k->prefix), "sk-tg-test");
    (void)snprintf(k->last4, sizeof(k->last4), "%04d", roll(30));
    k->external[0] = '\0';
    if (roll(2) == 0) /* one text, many keys: only one of a tenant's live ones may have it */
        (void)snprintf(k->external, sizeof(k->external), "x%d", k->status >= RECORD_REVOKED ? roll(5) : 100 + place);
    key = world_key(w, "listed", k->customer);
    k->id = key->super.id;
    memcpy(k->digest, key->digest, SECRET_DIGEST);
    key->super.status = k->status;
    key->test = k->test;
    memcpy(key->prefix, k->prefix, sizeof(k->prefix));
    memcpy(key->last4, k->last4, sizeof(k->last4));
    (void)snprintf(key->super.external_id, sizeof(key->super.external_id), "%s", k->external);
    return &key->super;
}

static void make_set(struct world *w)
{
    struct store_put_many op;

    dice = 11;
    make_owners(w);
    for (int i = 0; i < KEYS; i++)
        made[i] = draw_key(w, &kept[i]);
    assert_int_equal(put_many(w, KEYS, &op), ERR_OK);
    for (int i = 0; i < KEYS; i++) {
        kept[i].row = made[i]->row;
        record_unref(made[i]);
    }
}

static void draw_filter(struct store_list *q)
{
    const struct kept *k = &kept[roll(KEYS)]; /* something that is there */
    int tenant = roll(TENANTS);

    memset(q, 0, sizeof(*q));
    q->super.question = STORE_LIST;
    q->kind = RECORD_KEY;
    q->limit = 1 + roll(STORE_PAGE);
    if (roll(2) == 0)
        q->tenant_row = roll(4) == 0 ? tenants[tenant] : k->tenant;
    if (roll(3) == 0)
        q->customer_row = roll(4) == 0 ? customers[tenant][roll(CUSTOMERS)] : k->customer;
    if (roll(3) == 0)
        q->status = 1 + (int)(roll(4) == 0 ? (enum record_status)roll(5) : k->status);
    if (roll(3) == 0)
        q->mode = 1 + roll(2);
    if (roll(3) == 0) {
        memcpy(q->prefix, k->prefix, sizeof(q->prefix));
        q->prefix[6 + roll((int)strlen(k->prefix) - 5)] = '\0';
    }
    if (roll(6) == 0)
        memcpy(q->last4, k->last4, sizeof(q->last4));
    if (roll(6) == 0)
        (void)snprintf(q->external_id, sizeof(q->external_id), "%s", k->external);
}

static bool fits(const struct store_list *q, const struct kept *k)
{
    return k->status != RECORD_DELETED && (q->tenant_row == 0 || k->tenant == q->tenant_row) &&
           (q->customer_row == 0 || k->customer == q->customer_row) &&
           (q->status == 0 || (int)k->status == q->status - 1) && (q->mode == 0 || k->test == (q->mode == 2)) &&
           strncmp(k->prefix, q->prefix, strlen(q->prefix)) == 0 &&
           (q->last4[0] == '\0' || strcmp(k->last4, q->last4) == 0) &&
           (q->external_id[0] == '\0' || strcmp(k->external, q->external_id) == 0);
}

/* All pages of a list against the set, newest first. */
static void check_list(struct world *w, struct store_list *q)
{
    int at = KEYS - 1;

    do {
        world_ask(w, &q->super);
        assert_int_equal(q->super.err.code, ERR_OK);
        assert_true(q->n <= q->limit && (q->n > 0 || !q->more));
        for (int i = 0; i < q->n; i++, at--) {
            while (at >= 0 && !fits(q, &kept[at]))
                at--;
            assert_true(at >= 0);
            assert_int_equal(q->items[i]->row, kept[at].row);
            q->id = q->items[i]->id;
            record_unref(q->items[i]);
        }
    } while (q->more);
    while (at >= 0 && !fits(q, &kept[at]))
        at--;
    assert_int_equal(at, -1);
}

static void listed(void **state)
{
    static struct store_list q;
    struct world *w = *state;

    make_set(w);
    for (int i = 0; i < 600; i++) {
        draw_filter(&q);
        if (q.tenant_row == 0 && q.customer_row == 0 && q.last4[0] == '\0' && q.external_id[0] == '\0')
            q.tenant_row = tenants[roll(TENANTS)]; /* others have keys beside the set */
        check_list(w, &q);
    }
}

/* What comes while someone turns the pages is not seen, and what goes does not shift them. */
static void stable(void **state)
{
    static struct store_list q;
    struct world *w = *state;
    struct store_put_many op;
    int seen = 0;

    make_many(w, 30);
    assert_int_equal(put_many(w, 30, &op), ERR_OK);
    q = (struct store_list){
        .super = {.question = STORE_LIST}, .kind = RECORD_KEY, .tenant_row = w->tenant, .limit = 10};
    do {
        world_ask(w, &q.super);
        assert_int_equal(q.super.err.code, ERR_OK);
        for (int i = 0; i < q.n; i++, seen++) {
            if (seen < 30)
                assert_int_equal(q.items[i]->row, made[29 - seen]->row);
            q.id = q.items[i]->id;
            record_unref(q.items[i]);
        }
        assert_int_equal(world_put(w, world_key(w, "new", 0), NULL, NULL), ERR_OK);
        if (seen < 30) { /* the one that the next page begins after */
            struct api_key *gone = world_key(w, "gone", 0);

            gone->super.row = made[30 - seen]->row;
            gone->super.version = 1;
            gone->super.status = RECORD_DELETED;
            assert_int_equal(world_put(w, gone, NULL, NULL), ERR_OK);
        }
    } while (q.more);
    assert_int_equal(seen, 32);
    for (int i = 0; i < 30; i++)
        record_unref(made[i]);
}

/* Customers and tenants are listed the same way. */
static void owners_listed(void **state)
{
    static struct store_list q;
    struct world *w = *state;
    struct record *r;
    struct customer *c;
    int64_t newest[2] = {0, 0};

    make_owners(w);
    for (int i = 0; i < 2; i++) {
        c = world_customer(w, "c", false);
        (void)snprintf(c->super.external_id, sizeof(c->super.external_id), "c%d", i);
        c->super.status = i == 1 ? RECORD_SUSPENDED : RECORD_ACTIVE;
        assert_int_equal(world_put(w, c, &r, NULL), ERR_OK);
        newest[i] = r->row;
    }
    for (int ask = 0; ask < 4; ask++) {
        q = (struct store_list){
            .super = {.question = STORE_LIST}, .kind = RECORD_CUSTOMER, .tenant_row = w->tenant, .limit = 100};
        if (ask == 1)
            q.status = 1 + RECORD_SUSPENDED;
        if (ask == 2)
            (void)snprintf(q.external_id, sizeof(q.external_id), "c0");
        if (ask == 3) {
            (void)snprintf(q.external_id, sizeof(q.external_id), "c0");
            q.status = 1 + RECORD_SUSPENDED;
        }
        world_ask(w, &q.super);
        assert_int_equal(q.super.err.code, ERR_OK);
        assert_int_equal(q.n, ask == 0 ? CUSTOMERS + 2 : ask == 3 ? 0 : 1);
        if (q.n > 0)
            assert_int_equal(q.items[0]->row, newest[ask == 2 ? 0 : 1]);
        for (int i = 0; i < q.n; i++)
            record_unref(q.items[i]);
    }
    q = (struct store_list){.super = {.question = STORE_LIST}, .kind = RECORD_TENANT, .limit = 100};
    world_ask(w, &q.super);
    assert_int_equal(q.n, TENANTS + 2); /* world_fill made two */
    for (int i = 0; i < q.n; i++)
        record_unref(q.items[i]);
}

/* ---- books of tenants ---- */

static struct book *make_book(const char *name, int64_t tenant)
{
    struct book *b = record_create(RECORD_BOOK, 0);

    b->super.id = id_make();
    (void)snprintf(b->super.name, sizeof(b->super.name), "%s", name);
    b->tenant_row = tenant;
    b->prices = price_book_create(NULL, 0);
    b->prices->kind = PRICE_RETAIL;
    return b;
}

static void books(void **state)
{
    static struct store_list q;
    struct world *w = *state;
    struct record *r;
    struct err err;

    make_owners(w);
    assert_int_equal(world_put(w, make_book("mine", tenants[0]), &r, NULL), ERR_OK);
    assert_int_equal(((struct book *)r)->tenant_row, tenants[0]);
    assert_int_equal(world_put(w, make_book("mine", tenants[1]), NULL, NULL), ERR_OK); /* another's */
    assert_int_equal(world_put(w, make_book("mine", 0), NULL, NULL), ERR_OK);
    assert_int_equal(world_put(w, make_book("mine", tenants[0]), NULL, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "name");
    assert_int_equal(world_put(w, make_book("mine", 0), NULL, &err), ERR_CONFLICT);
    assert_string_equal(err.param, "name");
    assert_int_equal(world_put(w, make_book("nobody's", 9999), NULL, NULL), ERR_NOT_FOUND);
    q = (struct store_list){
        .super = {.question = STORE_LIST}, .kind = RECORD_BOOK, .tenant_row = tenants[0], .limit = 100};
    world_ask(w, &q.super);
    assert_int_equal(q.n, 1);
    assert_int_equal(((struct book *)q.items[0])->tenant_row, tenants[0]);
    record_unref(q.items[0]);
    q.tenant_row = 0;
    world_ask(w, &q.super);
    assert_int_equal(q.n, 4); /* openai-list */
    for (int i = 0; i < q.n; i++)
        record_unref(q.items[i]);
}

/* ---- a start ---- */

static int64_t loaded;
static bool right;

static void check_credential(void *ctx, struct credential *c)
{
    const struct kept *k;
    int i = 0;

    (void)ctx;
    while (i < KEYS && kept[i].row != c->row)
        i++;
    if (i == KEYS)
        return; /* of world_fill */
    k = &kept[i];
    loaded++;
    right = right && id_eq(c->id, k->id) && c->tenant_row == k->tenant && c->customer_row == k->customer &&
            c->test == k->test && c->status == k->status && c->status < RECORD_REVOKED && c->version == 1 &&
            (c->more != NULL) == (k->row % 100 == 0) && memcmp(c->digest, k->digest, SECRET_DIGEST) == 0;
}

static void started(void **state)
{
    struct world *w = *state;
    const struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    int64_t live = 0;
    struct err err;

    make_set(w);
    world_close(w);
    sql_exec(w->url, "UPDATE keys SET policy = '{\"max_n\":1}' WHERE row % 100 = 0");
    for (int i = 0; i < KEYS; i++)
        live += kept[i].status < RECORD_REVOKED;
    assert_int_equal(store_open(&options, &w->store, &err), ERR_OK);
    loaded = 0;
    right = true;
    assert_int_equal(store_each_credential(w->store, check_credential, NULL, &err), ERR_OK);
    assert_int_equal(loaded, live);
    assert_true(right);
    store_close(w->store);
    world_open(w);
}

/* Budgets of keys: there after a start, gone with their owner, in their tenant's days. */
static void budgets_of_keys(void **state)
{
    struct world *w = *state;
    struct api_key *k = world_key(w, "spender", w->customer);
    struct customer *c;
    struct record *r;
    struct store_hold hold;

    k->budgets = mem_strdup("[{\"amount\":\"0.00000001\",\"window\":\"month\"}]");
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    w->customer_key = r->row;
    for (int i = 0; i < 2; i++) {
        world_hold_init(w, &hold, 1, 11);
        assert_int_equal(world_do(w, &hold.super), ERR_INSUFFICIENT_QUOTA);
        world_close(w);
        world_open(w);
    }
    assert_int_equal(world_credit(w, true, -100 * USD), ERR_OK);
    c = world_customer(w, "Customer", true);
    c->super.row = w->customer;
    c->super.version = 1;
    c->super.status = RECORD_DELETED;
    assert_int_equal(world_put(w, c, NULL, NULL), ERR_OK);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM budget_cells WHERE owner & 3 = 2"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_of_many, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(none_of_many, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(watched, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(repeated, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(rotated, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(touched, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(listed, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(stable, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(owners_listed, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(books, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(started, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(budgets_of_keys, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
