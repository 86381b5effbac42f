/* store_bench.c - what the store can do: hold+capture pairs a second by batch size, one commit's time, bytes a request.
 *
 *   store_bench DIR [requests [tenants]]
 *
 * First with exact batches on one thread (half of each batch holds, half captures of the holds before), without and
 * with Idempotency-Keys, then through the writer with callers that wait for each answer. The database is left in
 * DIR/bench.db. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "db/store_state.h"

enum { CALLERS_MAX = 256, KEYS_PER_TENANT = 2 };

struct caller {
    struct store_hold hold;
    struct store_capture capture;
    bool holding; /* what was submitted last */
    char key[40]; /* an Idempotency-Key of the usual length */
};

static struct {
    struct store *store;
    int64_t tenants;
    uint64_t random;
    bool keys; /* holds have Idempotency-Keys */
    struct caller callers[CALLERS_MAX];
} bench = {.random = 88172645463325252u};

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, err != NULL ? err->message : "");
    exit(1);
}

static uint64_t next_random(void)
{
    bench.random ^= bench.random << 13;
    bench.random ^= bench.random >> 7;
    bench.random ^= bench.random << 17;
    return bench.random;
}

static void make_key(struct caller *c)
{
    int n = snprintf(c->key, sizeof(c->key), "%08llx-0000-4000-8000-%012llx",
                     (unsigned long long)next_random() & 0xffffffff, (unsigned long long)next_random() >> 16);

    c->hold.idempotency_key = (struct slice){c->key, (size_t)n};
}

static void make_hold(struct caller *c)
{
    struct store_hold *op = &c->hold;

    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_HOLD;
    op->id = id_make();
    op->call.tenant_row = 1 + (int64_t)(next_random() % (uint64_t)bench.tenants);
    op->call.key_row = op->call.tenant_row * KEYS_PER_TENANT - (int64_t)(next_random() % KEYS_PER_TENANT);
    op->call.channel_row = 1;
    strcpy(op->call.model, "gpt-image-1");
    op->call.operation = OPERATION_GENERATIONS;
    strcpy(op->call.size, "1024x1024");
    strcpy(op->call.quality, "medium");
    op->call.n = 1;
    op->n_legs = 1;
    op->legs[0].amount = op->wholesale_max = op->retail_max = 190000000;
    op->cost_max = 167000000;
    op->version_cost = op->version_wholesale = 1;
    op->created_at = clock_wall();
    if (bench.keys)
        make_key(c);
}

static void make_capture(struct store_capture *op, struct id hold)
{
    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_CAPTURE;
    op->hold = hold;
    op->charges[0] = op->usage.wholesale = op->usage.retail = 48000000 + (int64_t)(next_random() % 1000000);
    op->usage.cost = 42340000;
    op->usage.images = 1;
    op->usage.status = 200;
    op->usage.duration_ms = 10000 + (int64_t)(next_random() % 20000);
    op->usage.upstream_ms = op->usage.duration_ms - 1;
    op->usage.quantities.of[PRICE_TEXT_INPUT] = 20 + (int64_t)(next_random() % 100);
    op->usage.quantities.of[PRICE_IMAGE_OUTPUT] = 1056;
    (void)snprintf(op->usage.upstream_request_id, sizeof(op->usage.upstream_request_id), "req_%016llx%016llx",
                   (unsigned long long)next_random(), (unsigned long long)next_random());
}

/* ---- exact batches ---- */

static void run_batches(int batch, int64_t pairs)
{
    int half = batch / 2 > 0 ? batch / 2 : 1;
    int64_t began = clock_mono(), commits = 0, took, at, longest_tidy = 0;

    for (int64_t done = -half; done < pairs; done += half) {
        struct store_op *chain = NULL;
        size_t n = 0;

        for (int i = 0; i < half; i++) {
            struct caller *c = &bench.callers[i];

            if (done >= 0) {
                make_capture(&c->capture, c->hold.id);
                c->capture.super.mail.next = chain != NULL ? &chain->mail : NULL;
                chain = &c->capture.super;
                n++;
                if (batch == 1) { /* two transactions a pair */
                    batch_run(bench.store, chain, n);
                    commits++;
                    chain = NULL;
                    n = 0;
                }
            }
            make_hold(c);
            c->hold.super.mail.next = chain != NULL ? &chain->mail : NULL;
            chain = &c->hold.super;
            n++;
        }
        batch_run(bench.store, chain, n);
        commits++;
        for (struct store_op *op = chain; op != NULL; op = (struct store_op *)op->mail.next)
            if (op->err.code != ERR_OK)
                die("operation refused", &op->err);
        at = clock_mono();
        if (bench.store->engine->class->tidy(bench.store->engine, false, NULL) != ERR_OK)
            die("tidy", NULL);
        longest_tidy = clock_mono() - at > longest_tidy ? clock_mono() - at : longest_tidy;
    }
    took = clock_mono() - began;
    for (int i = 0; i < half; i++) { /* nothing stays open */
        make_capture(&bench.callers[i].capture, bench.callers[i].hold.id);
        bench.callers[i].capture.super.mail.next = NULL;
        batch_run(bench.store, &bench.callers[i].capture.super, 1);
    }
    printf("batch %4d%s: %7.0f pairs/s, %6.3f ms a commit, longest checkpoint %.1f ms\n", batch,
           bench.keys ? " with keys" : "", (double)pairs * 1e6 / (double)took, (double)took / 1e3 / (double)commits,
           (double)longest_tidy / 1e3);
    fflush(stdout);
}

/* ---- callers ---- */

static struct box {
    struct mailbox super;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *head, **tail;
} box;

static int64_t pairs_left, in_flight;

static void post(struct mailbox *b, struct mail *chain)
{
    (void)b;
    pthread_mutex_lock(&box.lock);
    *box.tail = chain;
    while (*box.tail != NULL)
        box.tail = &(*box.tail)->next;
    pthread_cond_signal(&box.wake);
    pthread_mutex_unlock(&box.lock);
}

static void step(struct mail *mail);

static void submit(struct store_op *op)
{
    op->mail.deliver = step;
    op->reply_to = &box.super;
    store_submit(bench.store, op);
}

static void begin_pair(struct caller *c)
{
    if (pairs_left-- <= 0) {
        in_flight--;
        return;
    }
    make_hold(c);
    c->holding = true;
    submit(&c->hold.super);
}

static void step(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);
    struct caller *c;

    if (op->err.code != ERR_OK)
        die("operation refused", &op->err);
    if (op->kind == STORE_CAPTURE) {
        begin_pair(TG_CONTAINER(struct caller, capture, (struct store_capture *)op));
        return;
    }
    c = TG_CONTAINER(struct caller, hold, (struct store_hold *)op);
    make_capture(&c->capture, c->hold.id);
    submit(&c->capture.super);
}

static void run_callers(int callers, int64_t pairs)
{
    int64_t began = clock_mono(), took;
    struct mail *mail, *next;

    pairs_left = pairs;
    in_flight = callers;
    for (int i = 0; i < callers; i++)
        begin_pair(&bench.callers[i]);
    while (in_flight > 0) {
        pthread_mutex_lock(&box.lock);
        while (box.head == NULL)
            pthread_cond_wait(&box.wake, &box.lock);
        mail = box.head;
        box.head = NULL;
        box.tail = &box.head;
        pthread_mutex_unlock(&box.lock);
        for (; mail != NULL; mail = next) {
            next = mail->next;
            mail->deliver(mail);
        }
    }
    took = clock_mono() - began;
    printf("callers %3d: %7.0f pairs/s, %6.3f ms a pair\n", callers, (double)pairs * 1e6 / (double)took,
           (double)took / 1e3 * callers / (double)pairs);
    fflush(stdout);
}

/* ---- the store ---- */

static void apply(struct store_op *op)
{
    if (store_apply(bench.store, op) != ERR_OK)
        die("set-up refused", &op->err);
}

static int64_t put(void *record)
{
    struct store_put op = {.super = {.kind = STORE_PUT}, .record = record};
    int64_t row;

    op.record->id = id_make();
    (void)snprintf(op.record->name, sizeof(op.record->name), "%lld", (long long)next_random());
    apply(&op.super);
    row = op.record->row;
    record_unref(op.record);
    return row;
}

static void fill(void)
{
    struct channel *channel = record_create(RECORD_CHANNEL, 0);

    put(channel);
    for (int64_t i = 0; i < bench.tenants; i++) {
        struct tenant *t = record_create(RECORD_TENANT, 0);
        struct store_credit credit = {.super = {.kind = STORE_CREDIT}, .amount = INT64_C(1000000000000000)};

        strcpy(t->timezone, "UTC");
        credit.tenant_row = put(t);
        apply(&credit.super);
        for (int j = 0; j < KEYS_PER_TENANT; j++) {
            struct api_key *key = record_create(RECORD_KEY, 0);

            key->tenant_row = credit.tenant_row;
            secret_random(key->digest, sizeof(key->digest));
            put(key);
        }
    }
}

static long rss_kib(void)
{
    long pages = 0, ignored;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f != NULL) {
        if (fscanf(f, "%ld %ld", &ignored, &pages) != 2)
            pages = 0;
        fclose(f);
    }
    return pages * 4;
}

static int64_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

static void reopen(const char *url, struct secrets *secrets)
{
    struct store_options options = {.url = url, .secrets = secrets, .migrate = true};
    struct err err;

    store_close(bench.store);
    if (store_open(&options, &bench.store, &err) != ERR_OK)
        die("store_open", &err);
}

static void fsck_line(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    (void)ctx;
    if (!ok)
        printf("fsck: %s: VIOLATED (%lld): %s\n", invariant, (long long)checked, detail);
}

int main(int argc, char **argv)
{
    int64_t requests = argc > 2 ? atoll(argv[2]) : 100000, before, after, began;
    static const int sizes[] = {1, 16, 64, 128, 256}, callers[] = {1, 16, 64, 128};
    char path[512], url[600], key[512];
    struct secrets *secrets;
    struct err err;
    int bad;

    if (argc < 2)
        die("usage: store_bench DIR [requests [tenants]]", NULL);
    bench.tenants = argc > 3 ? atoll(argv[3]) : 50;
    (void)snprintf(path, sizeof(path), "%s/bench.db", argv[1]);
    (void)snprintf(url, sizeof(url), "sqlite:%s", path);
    (void)snprintf(key, sizeof(key), "%s/bench.key", argv[1]);
    (void)unlink(path);
    secret_init();
    log_init(LEVEL_ERROR);
    if (secret_open(key, NULL, &secrets, &err) != ERR_OK)
        die("secret_open", &err);
    reopen(url, secrets);
    fill();
    printf("RSS with an open store: %ld KiB\n", rss_kib());
    run_batches(64, 2000); /* warm */
    reopen(url, secrets);
    before = size_of(path);
    run_batches(64, requests);
    reopen(url, secrets);
    after = size_of(path);
    printf("%.1f bytes of database a request (%lld requests, %lld tenants)\n",
           (double)(after - before) / (double)requests, (long long)requests, (long long)bench.tenants);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        run_batches(sizes[i], sizes[i] == 1 ? 5000 : 30000);
    bench.keys = true;
    reopen(url, secrets);
    before = size_of(path);
    run_batches(64, requests);
    reopen(url, secrets);
    after = size_of(path);
    printf("%.1f bytes of database a request with a key\n", (double)(after - before) / (double)requests);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        run_batches(sizes[i], sizes[i] == 1 ? 5000 : 30000);
    bench.keys = false;
    pthread_mutex_init(&box.lock, NULL);
    pthread_cond_init(&box.wake, NULL);
    box.super.post = post;
    box.tail = &box.head;
    if (store_start(bench.store, NULL, NULL, &err) != ERR_OK)
        die("store_start", &err);
    for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++)
        run_callers(callers[i], callers[i] == 1 ? 3000 : 20000);
    printf("RSS at the end: %ld KiB\n", rss_kib());
    store_close(bench.store);
    began = clock_mono();
    bad = store_fsck(url, fsck_line, NULL, &err);
    printf("fsck: %d violated, %.2f s\n", bad, (double)(clock_mono() - began) / 1e6);
    secret_close(secrets);
    return bad == 0 ? 0 : 1;
}
