/* store.c - the store's threads: a writer that commits what is queued, a reader that answers questions.
 *
 *   submit --> queue --> [ writer: take all, up to STORE_BATCH, one transaction ] --> mailboxes, one chain each
 *                                                                             \--> changes --> subscribers --> mailbox
 *   ask ----> queue --> [ reader: one question, or a slice of one, at a time ] --> mailbox
 *
 * While a commit waits for the disk, the next batch gathers; no artificial delay.
 * Invariants
 *  (1) Operations are applied in the order in which they were submitted.
 *  (2) A change reaches every subscriber's mailbox in commit order; its operation is acknowledged by the last
 * subscriber that applied it. (3) Each operation and each question is delivered exactly once. Ownership: between submit
 * and delivery mail.next is the store's, then the mailbox's. */
#define _GNU_SOURCE /* pthread_setname_np */
#include "store_state.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"

enum { BOXES = 32, IDLE_SECONDS = 1 }; /* mailboxes answered with one wake-up each; quiet before housekeeping */
enum { LINGER_BATCH = 2 };             /* operations in a batch after which the writer lingers */

#define LINGER INT64_C(200000)                     /* nanoseconds that it lingers */
#define DEFAULT_DEADLINE (3 * 3600 * CLOCK_SECOND) /* of open holds */
#define DEFAULT_KEEP (24 * 3600 * CLOCK_SECOND)    /* of customers' idempotency keys */

/* ---- workers ---- */

static void worker_init(struct worker *w)
{
    pthread_condattr_t attr;

    memset(w, 0, sizeof(*w));
    w->tail = &w->head;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
}

static void worker_dispose(struct worker *w)
{
    TG_ASSERT(w->head == NULL);
    (void)pthread_mutex_destroy(&w->lock);
    (void)pthread_cond_destroy(&w->wake);
}

static void worker_add(struct worker *w, struct mail *mail)
{
    bool wake;

    mail->next = NULL;
    (void)pthread_mutex_lock(&w->lock);
    TG_ASSERT(!w->stopping);
    *w->tail = mail;
    w->tail = &mail->next;
    atomic_fetch_add_explicit(&w->queued, 1, memory_order_relaxed);
    wake = w->waiting;
    w->waiting = false;
    (void)pthread_mutex_unlock(&w->lock);
    if (wake)
        (void)pthread_cond_signal(&w->wake);
}

/* The system's clock, whatever a test has done to the one of clock.h: real threads wait here. */
static int64_t monotonic_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whoever was just answered soon comes again (a hold is followed by its capture), and to wake a sleeping thread costs
 * as much as half a commit. So after a small batch the writer looks around for a moment before it sleeps, giving way to
 * whoever can run; under load, where batches are large, it never does. Called and returns with the lock held. */
static void worker_linger(struct worker *w)
{
    int64_t until = monotonic_ns() + LINGER;

    (void)pthread_mutex_unlock(&w->lock);
    while (atomic_load_explicit(&w->queued, memory_order_relaxed) == 0 && monotonic_ns() < until)
        (void)sched_yield();
    (void)pthread_mutex_lock(&w->lock);
}

/* Waits for work; at most IDLE_SECONDS when <may_tidy>. Called and returns with the lock held. False: the time is over.
 */
static bool worker_wait(struct worker *w, bool may_tidy)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += IDLE_SECONDS;
    while (w->head == NULL && !w->stopping) {
        w->waiting = true;
        if (!may_tidy)
            (void)pthread_cond_wait(&w->wake, &w->lock);
        else if (pthread_cond_timedwait(&w->wake, &w->lock, &until) == ETIMEDOUT && w->head == NULL && !w->stopping)
            break;
    }
    w->waiting = false;
    return w->head != NULL || w->stopping;
}

/* Takes up to <max> mails off the queue as a chain, and none after one that <is_last> (may be NULL) says must be the
 * last; *n how many. With the lock held. */
static struct mail *worker_take(struct worker *w, size_t max, bool (*is_last)(const struct mail *mail), size_t *n)
{
    struct mail *chain = w->head, **end = &w->head;
    bool last = false;

    for (*n = 0; *end != NULL && *n < max && !last; (*n)++) {
        last = is_last != NULL && is_last(*end);
        end = &(*end)->next;
    }
    w->head = *end;
    *end = NULL;
    if (w->head == NULL)
        w->tail = &w->head;
    atomic_fetch_sub_explicit(&w->queued, *n, memory_order_relaxed);
    return *n > 0 ? chain : NULL;
}

static enum err_code worker_start(struct worker *w, const char *name, void *(*main)(void *), struct store *s,
                                  struct err *err)
{
    sigset_t all, before;
    int why;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are main's */
    why = pthread_create(&w->thread, NULL, main, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0)
        return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot start the %s thread: %s.", name, strerror(why));
    (void)pthread_setname_np(w->thread, name);
    w->running = true;
    return ERR_OK;
}

static void worker_stop(struct worker *w)
{
    (void)pthread_mutex_lock(&w->lock);
    w->stopping = true;
    (void)pthread_mutex_unlock(&w->lock);
    (void)pthread_cond_signal(&w->wake);
    if (w->running)
        (void)pthread_join(w->thread, NULL);
    w->running = false;
}

/* ---- changes ---- */

struct change {
    atomic_size_t left;  /* subscribers that have not applied it */
    struct store_op *op; /* NULL: nobody waits */
    struct change_mail {
        struct mail mail;
        struct change *change;
        const struct subscriber *subscriber;
        struct record *record;
    } mails[];
};

static void apply_change(struct mail *mail)
{
    struct change_mail *m = TG_CONTAINER(struct change_mail, mail, mail);
    struct change *change = m->change;

    m->subscriber->apply(m->subscriber->ctx, m->record);
    if (atomic_fetch_sub_explicit(&change->left, 1, memory_order_acq_rel) > 1)
        return;
    if (change->op != NULL) {
        change->op->mail.next = NULL;
        mailbox_post(change->op->reply_to, &change->op->mail);
    }
    free(change);
}

/* A subscriber's mails, one a record, as one chain. */
static void fill_chain(const struct subscriber *subscriber, const struct changed *changed, size_t n,
                       struct change *change, struct change_mail *mails)
{
    for (size_t i = 0; i < n; i++)
        mails[i] = (struct change_mail){
            .mail = {.deliver = apply_change, .next = i + 1 < n ? &mails[i + 1].mail : NULL},
            .change = change,
            .subscriber = subscriber,
            .record = record_ref(changed[i].record),
        };
}

/* Hands the <n> records that one operation changed to every subscriber. Takes over the references. */
static void publish(struct store *s, struct store_op *op, const struct changed *changed, size_t n)
{
    size_t subscribers = s->n_subscribers;
    struct change *change = mem_alloc(sizeof(*change) + subscribers * n * sizeof(change->mails[0]));

    atomic_init(&change->left, subscribers * n);
    change->op = op;
    for (size_t i = 0; i < subscribers; i++)
        fill_chain(&s->subscribers[i], changed, n, change, &change->mails[i * n]);
    for (size_t i = 0; i < n; i++)
        record_unref(changed[i].record);
    /* The last post may free <change>: nothing of it may be read after that. */
    for (size_t i = 0; i < subscribers; i++)
        mailbox_post(s->subscribers[i].box, &change->mails[i * n].mail);
}

/* What one operation changed, from <first> on, to whoever wants to know. False: nobody does. */
static bool pass_on(struct store *s, struct store_op *op, size_t first, size_t n)
{
    if (n == 0)
        return false;
    if (s->n_subscribers > 0) {
        publish(s, op, &s->changed[first], n);
        return true;
    }
    for (size_t i = first; i < first + n; i++)
        record_unref(s->changed[i].record);
    return false;
}

/* How many of the changes from <first> on are the operation's. */
static size_t count_changed(const struct store *s, const struct store_op *op, size_t first)
{
    size_t n = 0;

    while (first + n < s->n_changed && s->changed[first + n].op == op)
        n++;
    return n;
}

/* ---- the writer ---- */

struct outbox {
    size_t n;
    struct {
        struct mailbox *box;
        struct mail *head, **tail;
    } at[BOXES];
};

static void outbox_add(struct outbox *o, struct store_op *op)
{
    size_t i = 0;

    op->mail.next = NULL;
    while (i < o->n && o->at[i].box != op->reply_to)
        i++;
    if (i == BOXES) {
        mailbox_post(op->reply_to, &op->mail);
        return;
    }
    if (i == o->n) {
        o->n++;
        o->at[i].box = op->reply_to;
        o->at[i].tail = &o->at[i].head;
    }
    *o->at[i].tail = &op->mail;
    o->at[i].tail = &op->mail.next;
}

static void outbox_post(struct outbox *o)
{
    for (size_t i = 0; i < o->n; i++)
        mailbox_post(o->at[i].box, o->at[i].head);
}

static void complete(struct store *s, struct store_op *chain)
{
    struct outbox out;
    struct store_op *next;
    size_t first = 0;

    out.n = 0;
    (void)FAILPOINT(DELIVER_BEFORE);
    for (struct store_op *op = chain; op != NULL; op = next) {
        size_t n = count_changed(s, op, first);

        next = (struct store_op *)op->mail.next;
        if (!pass_on(s, op, first, n))
            outbox_add(&out, op);
        first += n;
    }
    s->n_changed = 0;
    outbox_post(&out);
}

static void tidy(struct store *s, bool idle)
{
    struct err err;

    if (!atomic_load(&s->healthy) || s->engine->class->tidy(s->engine, idle, &err) == ERR_OK)
        return;
    atomic_store(&s->healthy, false);
    LOG(LOG_STORE_FAILED, LOG_F_STR("why", err.message));
    if (s->failed != NULL)
        s->failed(s->failed_ctx, err.message);
}

/* Many rows are enough for one transaction: whoever comes next should not wait for more. */
static bool is_large(const struct mail *mail)
{
    return ((const struct store_op *)mail)->kind == STORE_PUT_MANY;
}

static void *writer_main(void *arg)
{
    struct store *s = arg;
    struct worker *w = &s->write;
    struct mail *chain;
    size_t n = 0;
    bool work, folding;

    for (;;) {
        folding = fold_due(s);
        (void)pthread_mutex_lock(&w->lock);
        if (n >= 1 && n <= LINGER_BATCH)
            worker_linger(w);
        work = folding ? w->head != NULL || w->stopping
                       : worker_wait(w, atomic_load(&s->healthy) &&
                                            (s->engine->class->untidy(s->engine) || sweep_waits(s) || fold_waits(s)));
        chain = worker_take(w, STORE_BATCH, is_large, &n);
        metric_set(METRIC_STORE_QUEUE, (int64_t)atomic_load_explicit(&w->queued, memory_order_relaxed));
        (void)pthread_mutex_unlock(&w->lock);
        if (chain != NULL) {
            batch_run(s, (struct store_op *)chain, n);
            complete(s, (struct store_op *)chain);
        } else if (work) {
            return NULL; /* stopping, and nothing left */
        }
        sweep_due(s);
        fold_run(s, chain == NULL);
        tidy(s, !work && !folding);
    }
}

/* ---- the reader ---- */

static void *reader_main(void *arg)
{
    struct store *s = arg;
    struct worker *w = &s->read;
    struct store_query *query;
    size_t n;

    for (;;) {
        (void)pthread_mutex_lock(&w->lock);
        (void)worker_wait(w, false);
        query = (struct store_query *)worker_take(w, 1, NULL, &n);
        (void)pthread_mutex_unlock(&w->lock);
        if (query == NULL)
            return NULL;
        if (s->reader->class->ask(s->reader, query)) {
            query->mail.next = NULL;
            mailbox_post(query->reply_to, &query->mail);
            continue;
        }
        (void)pthread_mutex_lock(&w->lock); /* a slice is done: others first */
        query->mail.next = NULL;
        *w->tail = &query->mail;
        w->tail = &query->mail.next;
        atomic_fetch_add_explicit(&w->queued, 1, memory_order_relaxed);
        (void)pthread_mutex_unlock(&w->lock);
    }
}

/* ---- the interface ---- */

static enum err_code spent(void *ctx, const struct budget_owner *owner, int64_t from, int64_t to, int64_t *out,
                           struct err *err)
{
    struct store *s = ctx;

    return s->engine->class->spent(s->engine, owner, from, to, out, err);
}

enum err_code store_open(const struct store_options *options, struct store **out, struct err *err)
{
    struct store *s = mem_zalloc(sizeof(*s));
    enum err_code code;

    TG_ASSERT(options->secrets != NULL);
    worker_init(&s->write);
    worker_init(&s->read);
    directory_init(&s->directory);
    s->ledger = ledger_create();
    atomic_init(&s->healthy, true);
    s->keep = options->keep > 0 ? options->keep : DEFAULT_KEEP;
    s->hold_deadline = options->hold_deadline > 0 ? options->hold_deadline : DEFAULT_DEADLINE;
    ledger_set_source(s->ledger, spent, s);
    code = engine_open(options->url, options->secrets, &s->engine, err);
    if (code == ERR_OK)
        code = start_store(s, options->migrate, err);
    if (code != ERR_OK) {
        store_close(s);
        return code;
    }
    LOG(LOG_STORE_OPENED, LOG_F_STR("url", options->url));
    *out = s;
    return ERR_OK;
}

enum err_code store_migrate(const char *url, int *applied, struct err *err)
{
    struct engine *engine;
    enum err_code code = engine_open(url, NULL, &engine, err);

    if (code != ERR_OK)
        return code;
    code = engine->class->migrate(engine, true, applied, err);
    engine->class->close(engine, code == ERR_OK);
    return code;
}

void store_subscribe(struct store *s, struct mailbox *box, store_apply_fn *apply, void *ctx)
{
    TG_ASSERT(!s->started && s->n_subscribers < STORE_SUBSCRIBERS);
    s->subscribers = mem_realloc(s->subscribers, (s->n_subscribers + 1) * sizeof(s->subscribers[0]));
    s->subscribers[s->n_subscribers++] = (struct subscriber){box, apply, ctx};
}

void store_each_record(struct store *s, void (*fn)(void *ctx, struct record *record), void *ctx)
{
    TG_ASSERT(!s->started);
    directory_each(&s->directory, fn, ctx);
}

enum err_code store_start(struct store *s, void (*failed)(void *ctx, const char *why), void *ctx, struct err *err)
{
    enum err_code code;

    TG_ASSERT(!s->started);
    s->failed = failed;
    s->failed_ctx = ctx;
    code = s->engine->class->open_reader(s->engine, &s->reader, err);
    if (code != ERR_OK)
        return code;
    s->started = true;
    code = worker_start(&s->write, "store-writer", writer_main, s, err);
    if (code == ERR_OK)
        code = worker_start(&s->read, "store-reader", reader_main, s, err);
    return code;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    worker_stop(&s->write);
    worker_stop(&s->read);
    if (s->reader != NULL)
        s->reader->class->close(s->reader, false);
    if (s->engine != NULL)
        s->engine->class->close(s->engine, atomic_load(&s->healthy));
    for (size_t i = 0; i < s->n_changed; i++)
        record_unref(s->changed[i].record);
    ledger_destroy(s->ledger);
    zones_dispose(&s->zones);
    directory_dispose(&s->directory);
    worker_dispose(&s->write);
    worker_dispose(&s->read);
    free(s->changed);
    free(s->subscribers);
    free(s);
}

bool store_healthy(const struct store *s)
{
    return atomic_load(&((struct store *)(uintptr_t)s)->healthy);
}

int64_t store_recovered(const struct store *s)
{
    return s->recovered;
}

void store_submit(struct store *s, struct store_op *op)
{
    TG_ASSERT(op->reply_to != NULL && op->mail.deliver != NULL);
    worker_add(&s->write, &op->mail);
}

enum err_code store_apply(struct store *s, struct store_op *op)
{
    TG_ASSERT(!s->started);
    op->mail.next = NULL;
    batch_run(s, op, 1);
    (void)pass_on(s, NULL, 0, s->n_changed);
    s->n_changed = 0;
    return op->err.code;
}

void store_ask(struct store *s, struct store_query *query)
{
    TG_ASSERT(query->reply_to != NULL && query->mail.deliver != NULL);
    if (query->question == STORE_USAGE)
        TG_CONTAINER(struct store_usage_query, super, query)->scanned = 0;
    else if (query->question == STORE_LEDGER)
        TG_CONTAINER(struct store_ledger_query, super, query)->scanned = 0;
    else if (query->question == STORE_TURNOVER)
        TG_CONTAINER(struct store_turnover, super, query)->state = NULL;
    else if (query->question == STORE_REPORT)
        TG_CONTAINER(struct store_report, super, query)->state = NULL;
    worker_add(&s->read, &query->mail);
}
