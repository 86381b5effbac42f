/* archive.c - a thread that archives and prunes old records, a day after the other, the oldest first.
 *
 *            .----------- nothing is due: an hour; it failed: a minute; told to look or to stop: at once ----------.
 *            v                                                                                                     |
 *        PRUNE_LOOK --a day is due--> sealed files say what is archived --> PRUNE_CLOSE --> [ the rest of the day --+
 *            ^                                                                 page by page into a file, sealed ]  |
 *            '------------------- no record of it is left ------------ PRUNE_TAKE, a step and a pause <------------'
 *
 * Invariants
 *  (1) A record is pruned only when it is in a sealed file whose name is on disk: up to the file's last record, which
 * must be this store's (its number and its request), and is there as long as any other of the day (store.h).
 *  (2) A day is closed before it is read: what is in the file is how the record will ever be.
 *  (3) Records of a day that come after its file (the clock was set back) are in a further file of their own.
 *  (4) The state between two steps is in the store and the directory alone: a kill at any moment loses nothing.
 * The thread has a mailbox; whatever it asks of the store it waits for. */
#define _GNU_SOURCE /* pthread_setname_np, SYS_gettid */
#include "archive.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "archive_file.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/base/metrics.h"
#include "house.h"

enum {
    STEP = 100,                   /* records pruned at once */
    STEP_PAUSE_MS = 20,           /* after each: at most 5,000 records a second */
    LOOK_MS = 3600 * 1000,        /* between two looks */
    RETRY_MS = 60 * 1000,         /* after something failed */
    FOLDING_MS = 5 * 1000,        /* while sums of days are made */
    PAGE_BYTES = 8 * 1024 * 1024, /* rendered records of a page, at most */
    NICENESS = 10
};
#define DAY (24 * 3600 * CLOCK_SECOND)

struct archive {
    struct mailbox box;
    struct store *store;
    char *directory;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct mail *head, **tail;
    bool stopping, told; /* under the lock; told: look now */
    atomic_llong records;
    bool waits; /* nothing is due, but days are being folded */
    struct store_usage_query *query;
    struct usage_record *page; /* STORE_EXPORT of them */
    struct buf lines;
};

/* ---- the mailbox ---- */

static void post(struct mailbox *box, struct mail *chain)
{
    struct archive *a = TG_CONTAINER(struct archive, box, box);

    (void)pthread_mutex_lock(&a->lock);
    *a->tail = chain;
    while (*a->tail != NULL)
        a->tail = &(*a->tail)->next;
    (void)pthread_cond_signal(&a->wake);
    (void)pthread_mutex_unlock(&a->lock);
}

/* Waits for one mail: there is never more than one under way. */
static void receive(struct archive *a)
{
    (void)pthread_mutex_lock(&a->lock);
    while (a->head == NULL)
        (void)pthread_cond_wait(&a->wake, &a->lock);
    a->head = NULL;
    a->tail = &a->head;
    (void)pthread_mutex_unlock(&a->lock);
}

static void deliver(struct mail *mail)
{
    (void)mail; /* receive has seen that it is there */
}

static enum err_code apply(struct archive *a, struct store_prune *op, struct err *err)
{
    op->super.kind = STORE_PRUNE;
    op->super.mail.deliver = deliver;
    op->super.reply_to = &a->box;
    store_submit(a->store, &op->super);
    receive(a);
    *err = op->super.err;
    return err->code;
}

/* Sleeps, unless it is told to stop, or with <listen> to look. False: stop. */
static bool pause_for(struct archive *a, int ms, bool listen)
{
    struct timespec until;
    int rc = 0;
    bool go_on;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void)pthread_mutex_lock(&a->lock);
    while (!a->stopping && !(listen && a->told) && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&a->wake, &a->lock, &until);
    if (listen)
        a->told = false;
    go_on = !a->stopping;
    (void)pthread_mutex_unlock(&a->lock);
    return go_on;
}

static bool stopping(struct archive *a)
{
    bool is;

    (void)pthread_mutex_lock(&a->lock);
    is = a->stopping;
    (void)pthread_mutex_unlock(&a->lock);
    return is;
}

/* ---- reading records ---- */

static enum err_code ask(struct archive *a, struct err *err)
{
    struct store_usage_query *q = a->query;

    q->super.question = STORE_USAGE;
    q->super.mail.deliver = deliver;
    q->super.reply_to = &a->box;
    q->page = a->page;
    store_ask(a->store, &q->super);
    receive(a);
    *err = q->super.err;
    return err->code;
}

/* The day's records before number <after> (0: from its newest), a page of them. */
static enum err_code ask_page(struct archive *a, int64_t day, int64_t after, struct err *err)
{
    memset(a->query, 0, sizeof(*a->query));
    a->query->filter.start_time = day;
    a->query->filter.end_time = day + DAY;
    a->query->after_seq = after;
    a->query->limit = STORE_EXPORT;
    return ask(a, err);
}

/* Whether the last record of a sealed file is this store's and still there. */
static enum err_code is_ours(struct archive *a, const struct archive_seal *seal, bool *out, struct err *err)
{
    const struct usage_record *u = &a->page[0];
    enum err_code code;

    memset(a->query, 0, sizeof(*a->query));
    a->query->seq = id_seq(seal->last);
    code = a->query->seq > 0 ? ask(a, err) : ERR_OK;
    *out = code == ERR_OK && a->query->n == 1 && id_eq(u->request, seal->request) &&
           id_eq(id_from_seq(u->created_at, u->seq), seal->last);
    return code;
}

/* ---- writing a day ---- */

/* "2026-10-01" */
static const char *name_day(int64_t day, char out[ARCHIVE_DAY])
{
    char text[CLOCK_TEXT];

    memcpy(out, clock_format(day, text), ARCHIVE_DAY - 1);
    out[ARCHIVE_DAY - 1] = '\0';
    return out;
}

/* The greatest number up to which the day's records are in files. */
static enum err_code find_covered(struct archive *a, const char *day, int64_t *covered, struct err *err)
{
    struct archive_seal seal;
    enum err_code code;
    bool ours = false;

    *covered = 0;
    for (int number = 1;; number++) {
        code = archive_file_read_seal(a->directory, day, number, &seal, err);
        if (code == ERR_NOT_FOUND)
            break;
        if (code == ERR_CONFLICT)
            continue; /* whatever it is, it stays as it is */
        if (code == ERR_OK)
            code = is_ours(a, &seal, &ours, err);
        if (code != ERR_OK)
            return code;
        if (ours && id_seq(seal.last) > *covered)
            *covered = id_seq(seal.last);
    }
    return *covered > 0 ? archive_file_sync(a->directory, err) : ERR_OK;
}

/* Renders the page's records that are numbered above <covered>. Returns how many. */
static int render_page(struct archive *a, int64_t covered)
{
    int n = 0;

    buf_clear(&a->lines);
    while (n < a->query->n && a->page[n].seq > covered) {
        usage_render(&a->page[n++], true, &a->lines);
        buf_append_char(&a->lines, '\n');
    }
    TG_ASSERT(!a->lines.full); /* a record has a bounded length */
    return n;
}

/* Writes the records above <covered>, of which the first page is in a->page, to <file>. Told to stop: UNAVAILABLE. */
static enum err_code write_records(struct archive *a, struct archive_file *file, int64_t day, int64_t covered,
                                   struct archive_seal *seal, struct err *err)
{
    enum err_code code = ERR_OK;

    while (code == ERR_OK) {
        int n = render_page(a, covered);

        code = archive_file_add(file, buf_slice(&a->lines), err);
        seal->records += n;
        if (n < a->query->n || !a->query->more)
            break;
        if (code == ERR_OK && stopping(a))
            code = err_set(err, ERR_UNAVAILABLE, NULL, "Told to stop.");
        if (code == ERR_OK)
            code = ask_page(a, day, a->page[n - 1].seq, err);
    }
    return code;
}

static enum err_code write_file(struct archive *a, int64_t day, const char name[ARCHIVE_DAY], int64_t *covered,
                                struct err *err)
{
    const struct usage_record *newest = &a->page[0];
    struct archive_seal seal = {.last = id_from_seq(newest->created_at, newest->seq), .request = newest->request};
    int64_t last = newest->seq, bytes = 0, began = clock_mono();
    struct archive_file *file;
    enum err_code code = archive_file_create(a->directory, name, &file, err);

    if (code != ERR_OK)
        return code;
    memcpy(seal.day, name, ARCHIVE_DAY);
    code = write_records(a, file, day, *covered, &seal, err);
    if (code != ERR_OK) {
        archive_file_abandon(file);
        return code;
    }
    code = archive_file_finish(file, &seal, &bytes, err);
    if (code != ERR_OK)
        return code;
    *covered = last;
    metric_add(METRIC_RECORDS_ARCHIVED, seal.records);
    LOG(LOG_RECORDS_ARCHIVED, LOG_F_STR("day", name), LOG_F_INT("records", seal.records), LOG_F_INT("bytes", bytes),
        LOG_F_TIME("duration", clock_mono() - began));
    return ERR_OK;
}

/* Brings what is not archived of a day into a file. */
static enum err_code archive_day(struct archive *a, int64_t day, int64_t *covered, struct err *err)
{
    struct store_prune closing = {.step = PRUNE_CLOSE, .before = day + DAY};
    char name[ARCHIVE_DAY];
    enum err_code code = find_covered(a, name_day(day, name), covered, err);

    if (code == ERR_OK)
        code = apply(a, &closing, err);
    if (code == ERR_OK)
        code = ask_page(a, day, 0, err);
    if (code != ERR_OK || a->query->n == 0 || a->page[0].seq <= *covered)
        return code;
    return write_file(a, day, name, covered, err);
}

/* ---- pruning ---- */

/* *pruned: how many records went. */
static enum err_code prune_day(struct archive *a, int64_t day, int64_t covered, int64_t *pruned, struct err *err)
{
    enum err_code code = ERR_OK;
    char name[ARCHIVE_DAY];
    int n = STEP;

    *pruned = 0;
    while (code == ERR_OK && n == STEP && covered > 0) {
        struct store_prune op = {.step = PRUNE_TAKE, .from = day, .before = day + DAY, .last = covered, .limit = STEP};

        code = apply(a, &op, err);
        n = op.n;
        if (code != ERR_OK)
            break;
        *pruned += n;
        metric_add(METRIC_RECORDS_PRUNED, n);
        if (n == STEP && !pause_for(a, STEP_PAUSE_MS, false))
            break;
    }
    if (*pruned > 0)
        LOG(LOG_RECORDS_PRUNED, LOG_F_STR("day", name_day(day, name)), LOG_F_INT("records", *pruned));
    return code;
}

/* The oldest day that is due; -1: none. */
static enum err_code find_due(struct archive *a, int64_t *day, struct err *err)
{
    int64_t records = atomic_load(&a->records);
    struct store_prune op = {.step = PRUNE_LOOK, .before = clock_wall() - records};
    enum err_code code = ERR_OK;

    *day = -1;
    a->waits = false;
    if (records == 0)
        return ERR_OK;
    code = apply(a, &op, err);
    if (code == ERR_OK && op.oldest > 0)
        *day = op.oldest - op.oldest % DAY;
    a->waits = code == ERR_OK && op.waits;
    return code;
}

/* Every day that is due. */
static enum err_code work(struct archive *a, struct err *err)
{
    int64_t day = -1, covered, pruned = 1;
    enum err_code code = find_due(a, &day, err);

    while (code == ERR_OK && day >= 0 && !stopping(a)) {
        code = archive_day(a, day, &covered, err);
        if (code == ERR_OK)
            code = prune_day(a, day, covered, &pruned, err);
        if (code == ERR_OK && pruned == 0) /* it would be the same again */
            code = err_set(err, ERR_INTERNAL, NULL, "Records that are archived cannot be pruned.");
        if (code == ERR_OK)
            code = find_due(a, &day, err);
    }
    return code;
}

/* ---- the thread ---- */

static void *archive_main(void *arg)
{
    struct archive *a = arg;
    struct err err = {.code = ERR_OK};
    int wait = 0;

    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS); /* of this thread alone */
    while (pause_for(a, wait, true)) {
        bool good = !store_healthy(a->store) || work(a, &err) == ERR_OK || stopping(a);

        wait = a->waits ? FOLDING_MS : LOOK_MS;
        if (good)
            continue;
        wait = RETRY_MS;
        metric_add(METRIC_ARCHIVE_FAILURES, 1);
        LOG(LOG_ARCHIVE_FAILED, LOG_F_STR("why", err.message), LOG_F_STR("directory", a->directory));
    }
    return NULL;
}

static void dispose(struct archive *a)
{
    (void)pthread_mutex_destroy(&a->lock);
    (void)pthread_cond_destroy(&a->wake);
    buf_dispose(&a->lines);
    free(a->page);
    free(a->query);
    free(a->directory);
    free(a);
}

enum err_code archive_start(struct store *store, const char *directory, int64_t records, struct archive **out,
                            struct err *err)
{
    struct archive *a = mem_zalloc(sizeof(*a));
    pthread_condattr_t attr;
    sigset_t all, before;
    int why;

    a->box.post = post;
    a->store = store;
    a->directory = mem_alloc(strlen(directory) + 1);
    memcpy(a->directory, directory, strlen(directory) + 1);
    a->tail = &a->head;
    atomic_init(&a->records, records);
    a->query = mem_zalloc(sizeof(*a->query));
    a->page = mem_alloc(STORE_EXPORT * sizeof(a->page[0]));
    buf_init(&a->lines, PAGE_BYTES);
    (void)pthread_mutex_init(&a->lock, NULL);
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&a->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are main's */
    why = pthread_create(&a->thread, NULL, archive_main, a);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (why != 0) {
        dispose(a);
        return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot start the archive's thread: %s.", strerror(why));
    }
    (void)pthread_setname_np(a->thread, "archive");
    *out = a;
    return ERR_OK;
}

static void tell(struct archive *a, bool stop)
{
    (void)pthread_mutex_lock(&a->lock);
    a->told = true;
    a->stopping = a->stopping || stop;
    (void)pthread_cond_signal(&a->wake);
    (void)pthread_mutex_unlock(&a->lock);
}

void archive_set_records(struct archive *a, int64_t records)
{
    atomic_store(&a->records, records);
    tell(a, false);
}

void archive_stop(struct archive *a)
{
    if (a == NULL)
        return;
    tell(a, true);
    (void)pthread_join(a->thread, NULL);
    dispose(a);
}
