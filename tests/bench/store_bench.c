/* store_bench.c - what the store can do: hold+capture pairs a second by batch size, one commit's time, bytes a request,
 * how long a start takes after a crash.
 *
 *   store_bench DIR [requests [tenants [plain|full|crash]]]
 *
 * plain   tenants with one grant each, their own keys, no budgets: what a request costs at least. With exact batches on
 *         one thread (half of each batch holds, half captures of the holds before), without and with Idempotency-Keys,
 *         then through the writer with callers that wait for each answer
 * full    the whole model: several grants in every wallet, customers with and without wallets of their own, budgets of
 *         tenants, customers and keys over five kinds of windows; the same figures, and whether they reach what they
 *         must
 * crash   the full model again: a process that dies with a hundred thousand open holds, and the next start
 *
 * The databases are left in DIR. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "db/store_state.h"

enum { CALLERS_MAX = 256, KEYS_PER_TENANT = 2 };
enum { CUSTOMERS = 4, OPEN_HOLDS = 100000, PARTIES_MAX = 100000 }; /* of a tenant; when a process dies */
enum { WANT_PAIRS = 33000, WANT_BYTES = 250, WANT_SECONDS = 5 };

/* Who calls. */
struct party {
    int64_t tenant, customer, key;
    bool own_wallet;
};

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
    bool full; /* the whole model */
    struct party *parties;
    size_t n_parties;
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
    const struct party *p = &bench.parties[next_random() % bench.n_parties];

    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_HOLD;
    op->id = id_make();
    op->call.tenant_row = p->tenant;
    op->call.customer_row = p->customer;
    op->call.key_row = p->key;
    op->call.channel_row = 1;
    strcpy(op->call.model, "gpt-image-1");
    op->call.operation = OPERATION_GENERATIONS;
    strcpy(op->call.size, "1024x1024");
    strcpy(op->call.quality, "medium");
    op->call.n = 1;
    op->n_legs = p->own_wallet ? 2 : 1;
    op->legs[0].amount = op->wholesale_max = op->retail_max = 190000000;
    if (p->customer != 0)
        op->retail_max = 228000000;
    op->legs[1] = (struct store_leg){true, op->n_legs == 2 ? op->retail_max : 0};
    op->cost_max = 167000000;
    op->version_cost = op->version_wholesale = 1;
    op->created_at = clock_wall();
    if (bench.keys)
        make_key(c);
}

static void make_capture(struct store_capture *op, const struct store_hold *hold)
{
    memset(op, 0, sizeof(*op));
    op->super.kind = STORE_CAPTURE;
    op->hold = hold->id;
    op->charges[0] = op->usage.wholesale = op->usage.retail = 48000000 + (int64_t)(next_random() % 1000000);
    if (hold->call.customer_row != 0)
        op->charges[1] = op->usage.retail = op->usage.wholesale * 6 / 5;
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

/* Pairs a second. */
static double run_batches(int batch, int64_t pairs)
{
    int half = batch / 2 > 0 ? batch / 2 : 1;
    int64_t began = clock_mono(), commits = 0, took, at, longest_tidy = 0;

    for (int64_t done = -half; done < pairs; done += half) {
        struct store_op *chain = NULL;
        size_t n = 0;

        for (int i = 0; i < half; i++) {
            struct caller *c = &bench.callers[i];

            if (done >= 0) {
                make_capture(&c->capture, &c->hold);
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
        make_capture(&bench.callers[i].capture, &bench.callers[i].hold);
        bench.callers[i].capture.super.mail.next = NULL;
        batch_run(bench.store, &bench.callers[i].capture.super, 1);
    }
    printf("batch %4d%s: %7.0f pairs/s, %6.3f ms a commit, longest checkpoint %.1f ms\n", batch,
           bench.keys ? " with keys" : "", (double)pairs * 1e6 / (double)took, (double)took / 1e3 / (double)commits,
           (double)longest_tidy / 1e3);
    fflush(stdout);
    return (double)pairs * 1e6 / (double)took;
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
    make_capture(&c->capture, &c->hold);
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

static void add_party(int64_t tenant, int64_t customer, int64_t key, bool own_wallet)
{
    if (bench.n_parties == PARTIES_MAX)
        die("too many tenants", NULL);
    if (bench.parties == NULL)
        bench.parties = mem_zalloc(PARTIES_MAX * sizeof(bench.parties[0]));
    bench.parties[bench.n_parties++] = (struct party){tenant, customer, key, own_wallet};
}

static char *budgets(const char *windows)
{
    char *text = NULL, window[32];
    size_t n = 0;
    struct buf out;

    if (!bench.full)
        return NULL;
    buf_init(&out, RECORD_JSON);
    while (sscanf(windows, "%31s", window) == 1) {
        buf_printf(&out, "%s{\"amount\":\"900000000.00\",\"window\":\"%s\"}", n++ == 0 ? "[" : ",", window);
        windows += strlen(window) + (windows[strlen(window)] == ' ');
    }
    buf_printf(&out, "]");
    text = mem_zalloc(out.len + 1);
    memcpy(text, out.p, out.len);
    buf_dispose(&out);
    return text;
}

/* One grant; in the full model five, of which the first ones are small and get used up on the way. */
static void add_credit(int64_t tenant, int64_t customer)
{
    static const int64_t small[] = {300000000, 5000000000, 20000000000, 100000000000};
    struct store_credit op = {.super = {.kind = STORE_CREDIT}, .tenant_row = tenant, .customer_row = customer};

    for (int i = 0; bench.full && i < 4; i++) {
        op.amount = small[i];
        op.priority = i;
        op.category = i % 2 == 0 ? CREDIT_PROMOTIONAL : CREDIT_PAID;
        op.expires_at = clock_wall() + (30 + i) * 24 * 3600 * CLOCK_SECOND;
        apply(&op.super);
    }
    op.amount = INT64_C(100000000000000);
    op.priority = 100;
    op.category = CREDIT_PAID;
    op.expires_at = 0;
    apply(&op.super);
}

static int64_t add_key(int64_t tenant, int64_t customer)
{
    struct api_key *key = record_create(RECORD_KEY, 0);

    key->tenant_row = tenant;
    key->customer_row = customer;
    key->budgets = budgets("day");
    secret_random(key->digest, sizeof(key->digest));
    return put(key);
}

static void add_customer(int64_t tenant, bool own_wallet)
{
    struct customer *c = record_create(RECORD_CUSTOMER, 0);
    int64_t row;

    c->tenant_row = tenant;
    c->own_wallet = own_wallet;
    c->budgets = budgets("week rolling:86400s");
    row = put(c);
    if (own_wallet)
        add_credit(tenant, row);
    add_party(tenant, row, add_key(tenant, row), own_wallet);
}

static void fill(void)
{
    struct channel *channel = record_create(RECORD_CHANNEL, 0);

    bench.n_parties = 0;
    put(channel);
    for (int64_t i = 0; i < bench.tenants; i++) {
        struct tenant *t = record_create(RECORD_TENANT, 0);
        int64_t tenant;

        strcpy(t->timezone, bench.full ? "Europe/Berlin" : "UTC");
        t->budgets = budgets("day month lifetime");
        tenant = put(t);
        add_credit(tenant, 0);
        for (int j = 0; j < KEYS_PER_TENANT; j++)
            add_party(tenant, 0, add_key(tenant, 0), false);
        for (int j = 0; bench.full && j < CUSTOMERS; j++)
            add_customer(tenant, j % 2 == 0);
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

/* ---- what is measured ---- */

struct place {
    char path[512], url[600];
    struct secrets *secrets;
};

static void open_new(struct place *p, const char *dir, const char *name)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char file[600];

    (void)snprintf(p->path, sizeof(p->path), "%s/%s.db", dir, name);
    (void)snprintf(p->url, sizeof(p->url), "sqlite:%s", p->path);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        (void)snprintf(file, sizeof(file), "%s%s", p->path, ends[i]);
        (void)unlink(file);
    }
    reopen(p->url, p->secrets);
    fill();
}

static void verdict(const char *what, double is, double wanted, const char *unit, bool more)
{
    bool reached = more ? is >= wanted : is <= wanted;

    printf("  %s: %.*f %s, must be %s %.0f: %s\n", what, is < 100 ? 2 : 0, is, unit, more ? "at least" : "at most",
           wanted, reached ? "reached" : "MISSED");
    fflush(stdout);
}

/* The file's growth for each of <requests>, in batches of 64. *pairs: how many a second. */
static double measure_bytes(struct place *p, int64_t requests, double *pairs)
{
    int64_t before;

    reopen(p->url, p->secrets);
    before = size_of(p->path);
    *pairs = run_batches(64, requests);
    reopen(p->url, p->secrets);
    return (double)(size_of(p->path) - before) / (double)requests;
}

static void measure_callers(void)
{
    static const int callers[] = {1, 16, 64, 128};
    struct err err;

    if (store_start(bench.store, NULL, NULL, &err) != ERR_OK)
        die("store_start", &err);
    for (size_t i = 0; i < sizeof(callers) / sizeof(callers[0]); i++)
        run_callers(callers[i], callers[i] == 1 ? 3000 : 20000);
}

static int check(struct place *p)
{
    int64_t began;
    struct err err;
    int bad;

    store_close(bench.store);
    bench.store = NULL;
    began = clock_mono();
    bad = store_fsck(p->url, fsck_line, NULL, NULL, &err);
    printf("fsck: %d violated, %.2f s\n\n", bad, (double)(clock_mono() - began) / 1e6);
    fflush(stdout);
    return bad;
}

static int measure(struct place *p, const char *dir, bool full, int64_t requests)
{
    static const int sizes[] = {1, 16, 64, 128, 256};
    double pairs, bytes;

    bench.full = full;
    printf("%s model, %lld tenants\n", full ? "full" : "plain", (long long)bench.tenants);
    open_new(p, dir, full ? "full" : "bench");
    printf("RSS with an open store: %ld KiB\n", rss_kib());
    run_batches(64, 2000); /* warm */
    bytes = measure_bytes(p, requests, &pairs);
    printf("%.1f bytes of database a request (%lld requests)\n", bytes, (long long)requests);
    if (full) {
        verdict("pairs", pairs, WANT_PAIRS, "a second in batches of 64", true);
        verdict("bytes", bytes, WANT_BYTES, "of store a request", false);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        run_batches(sizes[i], sizes[i] == 1 ? 5000 : 30000);
    bench.keys = true;
    bytes = measure_bytes(p, requests < 100000 ? requests : 100000, &pairs);
    printf("%.1f bytes of database a request with a key\n", bytes);
    bench.keys = false;
    measure_callers();
    printf("RSS at the end: %ld KiB\n", rss_kib());
    return check(p);
}

/* ---- a crash ---- */

static void hold_and_die(void)
{
    static struct store_hold holds[STORE_BATCH];
    struct caller *c = &bench.callers[0];

    for (int done = 0; done < OPEN_HOLDS;) {
        int n = OPEN_HOLDS - done < STORE_BATCH ? OPEN_HOLDS - done : STORE_BATCH;

        for (int i = 0; i < n; i++) {
            make_hold(c);
            holds[i] = c->hold;
            holds[i].super.mail.next = i > 0 ? &holds[i - 1].super.mail : NULL;
        }
        batch_run(bench.store, &holds[n - 1].super, (size_t)n);
        for (int i = 0; i < n; i++)
            if (holds[i].super.err.code != ERR_OK)
                die("hold refused", &holds[i].super.err);
        done += n;
    }
    _exit(0);
}

static int measure_crash(struct place *p, const char *dir)
{
    int64_t began;
    int status;
    pid_t child;

    bench.full = true;
    open_new(p, dir, "crash");
    store_close(bench.store);
    bench.store = NULL;
    child = fork();
    if (child == 0) {
        reopen(p->url, p->secrets);
        hold_and_die();
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        die("the process that was to die failed", NULL);
    began = clock_mono();
    reopen(p->url, p->secrets);
    began = clock_mono() - began;
    printf("start after a crash: %lld holds resolved, %.2f s, RSS %ld KiB\n", (long long)store_recovered(bench.store),
           (double)began / 1e6, rss_kib());
    if (store_recovered(bench.store) != OPEN_HOLDS)
        die("not all holds were resolved", NULL);
    verdict("start", (double)began / 1e6, WANT_SECONDS, "s", false);
    return check(p);
}

int main(int argc, char **argv)
{
    int64_t requests = argc > 2 ? atoll(argv[2]) : 100000;
    const char *what = argc > 4 ? argv[4] : "all";
    bool all = strcmp(what, "all") == 0;
    struct place place;
    char key[512];
    struct err err;
    int bad = 0;

    if (argc < 2)
        die("usage: store_bench DIR [requests [tenants [plain|full|crash]]]", NULL);
    bench.tenants = argc > 3 ? atoll(argv[3]) : 50;
    (void)snprintf(key, sizeof(key), "%s/bench.key", argv[1]);
    secret_init();
    log_init(LEVEL_ERROR);
    if (secret_open(key, NULL, &place.secrets, &err) != ERR_OK)
        die("secret_open", &err);
    pthread_mutex_init(&box.lock, NULL);
    pthread_cond_init(&box.wake, NULL);
    box.super.post = post;
    box.tail = &box.head;
    if (all || strcmp(what, "plain") == 0)
        bad |= measure(&place, argv[1], false, requests);
    if (all || strcmp(what, "full") == 0)
        bad |= measure(&place, argv[1], true, requests);
    if (all || strcmp(what, "crash") == 0)
        bad |= measure_crash(&place, argv[1]);
    secret_close(place.secrets);
    free(bench.parties);
    return bad == 0 ? 0 : 1;
}
