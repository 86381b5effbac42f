/* lib_world.c - see lib_world.h. */
#include "lib_world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"

/* ---- mailbox ---- */

static void box_post(struct mailbox *box, struct mail *chain)
{
    struct box *b = TG_CONTAINER(struct box, super, box);

    pthread_mutex_lock(&b->lock);
    *b->tail = chain;
    while (*b->tail != NULL)
        b->tail = &(*b->tail)->next;
    pthread_cond_signal(&b->wake);
    pthread_mutex_unlock(&b->lock);
}

void box_init(struct box *b)
{
    b->super.post = box_post;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wake, NULL);
    b->head = NULL;
    b->tail = &b->head;
}

void box_dispose(struct box *b)
{
    MUST(b->head == NULL);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->wake);
}

void box_run(struct box *b)
{
    struct mail *mail, *next;

    pthread_mutex_lock(&b->lock);
    while (b->head == NULL)
        pthread_cond_wait(&b->wake, &b->lock);
    mail = b->head;
    b->head = NULL;
    b->tail = &b->head;
    pthread_mutex_unlock(&b->lock);
    for (; mail != NULL; mail = next) {
        next = mail->next;
        mail->deliver(mail);
    }
}

/* ---- asking and waiting ---- */

static void deliver_op(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);

    op->reply_to = NULL; /* the sign that it came back */
}

static void deliver_query(struct mail *mail)
{
    struct store_query *q = TG_CONTAINER(struct store_query, mail, mail);

    q->reply_to = NULL;
}

enum err_code world_do_in(struct store *s, struct box *box, struct store_op *op)
{
    op->mail.deliver = deliver_op;
    op->reply_to = &box->super;
    store_submit(s, op);
    while (op->reply_to != NULL)
        box_run(box);
    return op->err.code;
}

enum err_code world_do(struct world *w, struct store_op *op)
{
    return world_do_in(w->store, &w->box, op);
}

void world_ask(struct world *w, struct store_query *q)
{
    q->mail.deliver = deliver_query;
    q->reply_to = &w->box.super;
    store_ask(w->store, q);
    while (q->reply_to != NULL)
        box_run(&w->box);
}

/* ---- life ---- */

void world_init(struct world *w)
{
    static bool once;
    char path[128];
    struct err err;

    memset(w, 0, sizeof(*w));
    if (!once) {
        secret_init();
        log_init(LEVEL_ERROR);
        once = true;
    }
    snprintf(w->dir, sizeof(w->dir), "%s/tg-store-XXXXXX", getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    MUST(mkdtemp(w->dir) != NULL);
    snprintf(w->url, sizeof(w->url), "sqlite:%s/t.db", w->dir);
    snprintf(path, sizeof(path), "%s/master.key", w->dir);
    MUST(secret_open(path, NULL, &w->secrets, &err) == ERR_OK);
    box_init(&w->box);
}

void world_close(struct world *w)
{
    store_close(w->store);
    w->store = NULL;
}

void world_dispose(struct world *w)
{
    struct dirent *entry;
    char path[512];
    DIR *dir;

    world_close(w);
    dir = opendir(w->dir);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", w->dir, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    closedir(dir);
    rmdir(w->dir);
    secret_close(w->secrets);
    box_dispose(&w->box);
}

static void on_failed(void *ctx, const char *why)
{
    struct world *w = ctx;

    w->failures++;
    snprintf(w->why, sizeof(w->why), "%s", why);
}

void world_open(struct world *w)
{
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true, .keep = w->keep};
    struct err err = {.code = ERR_OK};

    if (store_open(&options, &w->store, &err) != ERR_OK || store_start(w->store, on_failed, w, &err) != ERR_OK) {
        fprintf(stderr, "store_open: %s\n", err.message);
        abort();
    }
}

/* ---- records ---- */

static void name_record(void *record, const char *name)
{
    struct record *r = record;

    r->id = id_make();
    (void)slice_copy(slice_from(name), r->name, sizeof(r->name));
}

struct tenant *world_tenant(const char *name)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);

    name_record(t, name);
    strcpy(t->timezone, "UTC");
    t->in_doubt = -1;
    return t;
}

struct customer *world_customer(struct world *w, const char *name, bool own_wallet)
{
    struct customer *c = record_create(RECORD_CUSTOMER, 0);

    name_record(c, name);
    c->tenant_row = w->tenant;
    c->own_wallet = own_wallet;
    return c;
}

struct api_key *world_key(struct world *w, const char *name, int64_t customer)
{
    struct api_key *k = record_create(RECORD_KEY, 0);

    name_record(k, name);
    k->tenant_row = w->tenant;
    k->customer_row = customer;
    secret_random(k->digest, sizeof(k->digest));
    strcpy(k->prefix, "sk-tg-abcd");
    strcpy(k->last4, "wxyz");
    return k;
}

struct channel *world_channel(const char *name, const char *credential)
{
    struct channel *c = record_create(RECORD_CHANNEL, 2 * sizeof(struct channel_model));

    name_record(c, name);
    c->channel_kind = CHANNEL_SANDBOX;
    strcpy(c->base_url, "http://127.0.0.1:9/v1");
    c->credential = secret_alloc(strlen(credential) + 1);
    strcpy(c->credential, credential);
    c->weight = 1;
    c->n_models = 2;
    strcpy(c->models[0].name, "dall-e-2");
    strcpy(c->models[0].upstream, "dall-e-2");
    strcpy(c->models[1].name, "picture");
    strcpy(c->models[1].upstream, "gpt-image-1");
    return c;
}

enum err_code world_put(struct world *w, void *record, struct record **out, struct err *err)
{
    static struct record *last;
    struct store_put put = {.super = {.kind = STORE_PUT}, .record = record};
    enum err_code code = world_do(w, &put.super);

    if (err != NULL)
        *err = put.super.err;
    MUST((code == ERR_OK) == (put.record != NULL));
    record_unref(last);
    last = put.record;
    if (out != NULL)
        *out = put.record;
    return code;
}

void world_fill(struct world *w, int64_t tenant_credit, int64_t customer_credit)
{
    struct record *r;

    MUST(world_put(w, world_tenant("Tenant"), &r, NULL) == ERR_OK);
    w->tenant = r->row;
    w->tenant_id = r->id;
    MUST(world_put(w, world_customer(w, "Customer", true), &r, NULL) == ERR_OK);
    w->customer = r->row;
    w->customer_id = r->id;
    MUST(world_put(w, world_key(w, "key", 0), &r, NULL) == ERR_OK);
    w->key = r->row;
    MUST(world_put(w, world_key(w, "customer key", w->customer), &r, NULL) == ERR_OK);
    w->customer_key = r->row;
    MUST(world_put(w, world_channel("Channel", "sk-upstream"), &r, NULL) == ERR_OK);
    w->channel = r->row;
    (void)world_put(w, world_tenant(""), NULL, NULL); /* lets go of the last record */
    if (tenant_credit != 0)
        MUST(world_credit(w, false, tenant_credit) == ERR_OK);
    if (customer_credit != 0)
        MUST(world_credit(w, true, customer_credit) == ERR_OK);
}

/* ---- money ---- */

enum err_code world_credit(struct world *w, bool customer, int64_t amount)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .customer_row = customer ? w->customer : 0,
                              .amount = amount};

    return world_do(w, &op.super);
}

void world_hold_init(struct world *w, struct store_hold *op, int64_t wholesale, int64_t retail)
{
    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_HOLD;
    op->id = id_make();
    op->call.tenant_row = w->tenant;
    op->call.customer_row = retail >= 0 ? w->customer : 0;
    op->call.key_row = retail >= 0 ? w->customer_key : w->key;
    op->call.channel_row = w->channel;
    strcpy(op->call.model, "dall-e-2");
    op->call.operation = OPERATION_GENERATIONS;
    strcpy(op->call.size, "256x256");
    op->call.n = 1;
    op->n_legs = retail >= 0 ? 2 : 1;
    op->legs[0] = (struct store_leg){false, wholesale};
    op->legs[1] = (struct store_leg){true, retail >= 0 ? retail : 0};
    op->cost_max = wholesale / 2;
    op->wholesale_max = wholesale;
    op->retail_max = retail >= 0 ? retail : wholesale;
    op->created_at = 1;
}

void world_hold_key(struct store_hold *op, const char *text, int request)
{
    op->idempotency_key = slice_from(text);
    memset(op->fingerprint, request, sizeof(op->fingerprint));
}

enum err_code world_hold(struct world *w, int64_t wholesale, int64_t retail, struct id *id)
{
    struct store_hold op;

    world_hold_init(w, &op, wholesale, retail);
    *id = op.id;
    return world_do(w, &op.super);
}

void world_capture_init(struct store_capture *op, struct id hold, int64_t cost, int64_t wholesale, int64_t retail)
{
    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_CAPTURE;
    op->hold = hold;
    op->charges[0] = wholesale;
    op->charges[1] = retail;
    op->usage.images = 1;
    op->usage.cost = cost;
    op->usage.wholesale = wholesale;
    op->usage.retail = retail >= 0 ? retail : wholesale;
    op->usage.status = 200;
    op->usage.duration_ms = 12000;
    op->usage.upstream_ms = 11998;
    op->usage.quantities.of[PRICE_TEXT_INPUT] = 20;
    op->usage.quantities.of[PRICE_IMAGE_OUTPUT] = 1056;
    strcpy(op->usage.upstream_request_id, "req_00112233445566778899aabbccddeeff");
}

enum err_code world_capture(struct world *w, struct id hold, int64_t cost, int64_t wholesale, int64_t retail)
{
    struct store_capture op;

    world_capture_init(&op, hold, cost, wholesale, retail);
    return world_do(w, &op.super);
}

enum err_code world_void(struct world *w, struct id hold)
{
    struct store_void op = {.super = {.kind = STORE_VOID}, .hold = hold};

    return world_do(w, &op.super);
}

enum err_code world_doubt(struct world *w, struct id hold)
{
    struct store_doubt op = {.super = {.kind = STORE_DOUBT}, .hold = hold, .duration_ms = 5};

    return world_do(w, &op.super);
}

struct store_balance world_balance(struct world *w, bool customer)
{
    struct store_balance_query q = {
        .super = {.question = STORE_BALANCE}, .tenant_row = w->tenant, .customer_row = customer ? w->customer : 0};

    world_ask(w, &q.super);
    MUST(q.super.err.code == ERR_OK);
    return q.balance;
}

/* ---- fsck ---- */

static void print_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    (void)ctx;
    if (!ok)
        fprintf(stderr, "fsck: %s: violated (%lld checked): %s\n", invariant, (long long)checked, detail);
}

int world_fsck(struct world *w)
{
    struct err err;
    int n = store_fsck(w->url, print_line, NULL, NULL, &err);

    if (n < 0)
        fprintf(stderr, "fsck: %s\n", err.message);
    return n;
}

int world_tear_down(void **state)
{
    struct world *w = *state;
    int bad;

    clock_release();
    world_close(w);
    bad = world_fsck(w);
    world_dispose(w);
    free(w);
    return bad;
}
