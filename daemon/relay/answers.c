/* answers.c - the directory of kept answers and its index.
 *
 *   answers_begin --> WRITING (tmp-req_...) --answers_commit--> KEPT (req_...) --too old, no room, damaged--> (gone)
 *                        | too long, no room, disk full, answers_drop
 *                        v
 *                     (nothing)
 *
 * Invariants
 *  (1) A file named req_... was renamed after its last byte and its head had been written; after a power cut it may
 *      still lack some of them, which its checksum shows.
 *  (2) An entry is `proven` when this process has written its file, or has read it against its checksum.
 *  (3) `used` is what entries and writers take together and never stays above max_kept; entries stand in the order of
 *      their age, oldest first.
 *  (4) The lock guards index, order and used. Files are made, renamed and removed under it, written and read outside.
 *
 * A file: struct file_head, then the body. Its figures are in the machine's own order: the directory is a cache, not
 * something to be carried about. */
#include "answers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/file.h"
#include "daemon/base/clock.h"
#include "daemon/base/secret.h"
#include "daemon/base/table.h"

enum {
    PATH = 4096,
    FILE_COST = 4096,         /* bytes of disk that a file takes beside its body: its last block, its inode */
    PROOF_PIECE = 256 * 1024, /* bytes checked in one go */
    MAGIC = 8
};

static const char magic[MAGIC] = {'t', 'g', 'a', 'n', 's', 'w', '1', '\n'};
static const char unfinished[] = "tmp-";

struct file_head {
    char magic[MAGIC];
    uint64_t len; /* of the body */
    int64_t charge;
    int32_t status;
    int32_t events;
    char upstream_id[LIMIT_UPSTREAM_ID];
    uint8_t digest[SECRET_DIGEST]; /* of the body, then of this head with zeros here */
};

struct entry {
    struct entry *older, *newer;
    struct id request;
    int64_t kept_at; /* wall */
    int64_t cost;
    bool proven;
};

struct answers {
    char *directory;
    int64_t keep, max_answer, max_kept;
    pthread_mutex_t lock;
    struct table index; /* struct entry by request */
    struct entry *oldest, *newest;
    int64_t used;
};

struct answer_writer {
    struct answers *answers;
    struct id request;
    struct secret_hash *hash;
    uint64_t len;
    int fd; /* -1: given up */
};

struct answer_reader {
    struct answers *answers;
    struct id request;
    struct file_head file;
    struct answer_head head;
    struct secret_hash *hash; /* of what was checked; NULL: proven */
    uint64_t checked;
    int fd;
};

static void path_of(const struct answers *a, const char *before, struct id request, char out[PATH])
{
    char text[ID_TEXT];
    int n = snprintf(out, PATH, "%s/%s%s", a->directory, before, id_format("req", request, text));

    TG_ASSERT(n > 0 && n < PATH);
}

/* ---- the index; the lock is held ---- */

static uint64_t hash_of(struct id request)
{
    return table_hash_bytes(request.b, ID_BYTES);
}

static bool is_of(const void *item, const void *key)
{
    return id_eq(((const struct entry *)item)->request, *(const struct id *)key);
}

static void append(struct answers *a, struct entry *e)
{
    e->older = a->newest;
    e->newer = NULL;
    if (a->newest != NULL)
        a->newest->newer = e;
    else
        a->oldest = e;
    a->newest = e;
    a->used += e->cost;
    (void)table_put(&a->index, hash_of(e->request), is_of, &e->request, e);
}

static void take_out(struct answers *a, struct entry *e)
{
    if (e->older != NULL)
        e->older->newer = e->newer;
    else
        a->oldest = e->newer;
    if (e->newer != NULL)
        e->newer->older = e->older;
    else
        a->newest = e->older;
    a->used -= e->cost;
    (void)table_remove(&a->index, hash_of(e->request), is_of, &e->request);
    free(e);
}

static void remove_entry(struct answers *a, struct entry *e)
{
    char path[PATH];

    path_of(a, "", e->request, path);
    (void)unlink(path);
    take_out(a, e);
}

static bool is_too_old(const struct answers *a, const struct entry *e)
{
    return clock_wall() - e->kept_at > a->keep;
}

/* Makes room: whatever is too old, then the oldest. */
static void make_room(struct answers *a)
{
    while (a->oldest != NULL && (a->used > a->max_kept || is_too_old(a, a->oldest)))
        remove_entry(a, a->oldest);
}

static struct entry *find_entry(struct answers *a, struct id request)
{
    return table_get(&a->index, hash_of(request), is_of, &request);
}

/* ---- opening ---- */

struct found {
    struct entry **at;
    size_t n, cap;
};

/* Looks at one name of the directory; what this process cannot use is removed. */
static void look_at(int dir, const char *name, struct found *found)
{
    struct entry *e;
    struct id request;
    struct stat st;

    if (strncmp(name, unfinished, sizeof(unfinished) - 1) == 0) {
        (void)unlinkat(dir, name, 0);
        return;
    }
    if (!id_parse("req", slice_from(name), &request) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    e = mem_zalloc(sizeof(*e));
    e->request = request;
    e->kept_at = (int64_t)st.st_mtim.tv_sec * CLOCK_SECOND + st.st_mtim.tv_nsec / 1000;
    e->cost = (int64_t)st.st_size - (int64_t)sizeof(struct file_head) + FILE_COST;
    if (found->n == found->cap) {
        found->cap = found->cap > 0 ? found->cap * 2 : 64;
        found->at = mem_realloc(found->at, found->cap * sizeof(struct entry *));
    }
    found->at[found->n++] = e;
}

static int by_age(const void *x, const void *y)
{
    const struct entry *a = *(struct entry *const *)x;
    const struct entry *b = *(struct entry *const *)y;

    if (a->kept_at != b->kept_at)
        return a->kept_at > b->kept_at ? 1 : -1;
    return memcmp(a->request.b, b->request.b, ID_BYTES); /* ids grow with time, and finer than a file's times do */
}

static enum err_code take_stock(struct answers *a, struct err *err)
{
    struct found found = {NULL, 0, 0};
    DIR *dir = opendir(a->directory);
    struct dirent *item;

    if (dir == NULL)
        return err_set(err, ERR_INTERNAL, NULL, "%s: %s", a->directory, strerror(errno));
    while ((item = readdir(dir)) != NULL)
        look_at(dirfd(dir), item->d_name, &found);
    (void)closedir(dir);
    if (found.n > 0)
        qsort(found.at, found.n, sizeof(struct entry *), by_age);
    for (size_t i = 0; i < found.n; i++)
        append(a, found.at[i]);
    free(found.at);
    make_room(a);
    return ERR_OK;
}

enum err_code answers_open(const struct answers_options *options, struct answers **out, struct err *err)
{
    struct answers *a;

    *out = NULL;
    if (strlen(options->directory) > PATH - 2 * ID_TEXT)
        return err_set(err, ERR_INVALID_VALUE, "server.cache_directory", "The path is too long.");
    if (mkdir(options->directory, 0700) != 0 && errno != EEXIST)
        return err_set(err, ERR_INTERNAL, NULL, "%s: %s", options->directory, strerror(errno));
    a = mem_zalloc(sizeof(*a));
    a->directory = mem_strdup(options->directory);
    a->keep = options->keep;
    a->max_answer = options->max_answer;
    a->max_kept = options->max_kept;
    pthread_mutex_init(&a->lock, NULL);
    table_init(&a->index);
    if (take_stock(a, err) != ERR_OK) {
        answers_close(a);
        return err != NULL ? err->code : ERR_INTERNAL;
    }
    *out = a;
    return ERR_OK;
}

void answers_close(struct answers *a)
{
    if (a == NULL)
        return;
    while (a->oldest != NULL)
        take_out(a, a->oldest);
    table_dispose(&a->index);
    pthread_mutex_destroy(&a->lock);
    free(a->directory);
    free(a);
}

/* ---- writing ---- */

struct answer_writer *answers_begin(struct answers *a, struct id request)
{
    struct answer_writer *w;
    char path[PATH];
    int fd;

    if (a->max_answer <= 0 || a->max_kept <= FILE_COST)
        return NULL;
    path_of(a, unfinished, request, path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return NULL;
    w = mem_zalloc(sizeof(*w));
    w->answers = a;
    w->request = request;
    w->fd = fd;
    w->hash = secret_hash_create();
    pthread_mutex_lock(&a->lock);
    a->used += FILE_COST;
    make_room(a);
    pthread_mutex_unlock(&a->lock);
    return w;
}

/* Gives up what was written; the writer stays, deaf. */
static void give_up(struct answer_writer *w)
{
    char path[PATH];

    if (w->fd < 0)
        return;
    (void)close(w->fd);
    w->fd = -1;
    path_of(w->answers, unfinished, w->request, path);
    (void)unlink(path);
    pthread_mutex_lock(&w->answers->lock);
    w->answers->used -= (int64_t)w->len + FILE_COST;
    pthread_mutex_unlock(&w->answers->lock);
}

/* Whether there is room for <n> more bytes; older answers make it. */
static bool take_room(struct answers *a, size_t n)
{
    bool fits;

    pthread_mutex_lock(&a->lock);
    a->used += (int64_t)n;
    make_room(a);
    fits = a->used <= a->max_kept;
    pthread_mutex_unlock(&a->lock);
    return fits;
}

void answers_add(struct answer_writer *w, struct slice bytes)
{
    uint64_t at;
    bool fits;

    if (w == NULL || w->fd < 0)
        return;
    at = w->len;
    fits = take_room(w->answers, bytes.len);
    w->len += bytes.len;
    if (!fits || w->len > (uint64_t)w->answers->max_answer ||
        !file_write_at(w->fd, bytes.p, bytes.len, sizeof(struct file_head) + at))
        give_up(w);
    else
        secret_hash_add(w->hash, bytes);
}

static void finish_digest(struct secret_hash *hash, const struct file_head *file, uint8_t out[SECRET_DIGEST])
{
    struct file_head blank = *file;

    memset(blank.digest, 0, sizeof(blank.digest));
    secret_hash_add(hash, (struct slice){(const char *)&blank, sizeof(blank)});
    secret_hash_finish(hash, out);
}

static bool write_head(struct answer_writer *w, const struct answer_head *head)
{
    struct file_head file;

    memset(&file, 0, sizeof(file));
    memcpy(file.magic, magic, MAGIC);
    file.len = w->len;
    file.charge = head->charge;
    file.status = head->status;
    file.events = head->events;
    (void)slice_copy(slice_from(head->upstream_id), file.upstream_id, sizeof(file.upstream_id));
    finish_digest(w->hash, &file, file.digest);
    return file_write_at(w->fd, &file, sizeof(file), 0);
}

/* The writer's room becomes the entry's. */
static bool put_in_place(struct answer_writer *w)
{
    struct answers *a = w->answers;
    char from[PATH], to[PATH];
    struct entry *e;

    path_of(a, unfinished, w->request, from);
    path_of(a, "", w->request, to);
    pthread_mutex_lock(&a->lock);
    if (rename(from, to) != 0) {
        pthread_mutex_unlock(&a->lock);
        return false;
    }
    e = mem_zalloc(sizeof(*e));
    *e = (struct entry){.request = w->request, .kept_at = clock_wall(), .cost = (int64_t)w->len + FILE_COST};
    e->proven = true;
    a->used -= e->cost;
    append(a, e);
    pthread_mutex_unlock(&a->lock);
    return true;
}

static void destroy_writer(struct answer_writer *w)
{
    secret_hash_destroy(w->hash);
    free(w);
}

void answers_commit(struct answer_writer *w, const struct answer_head *head)
{
    if (w == NULL)
        return;
    if (w->fd >= 0) {
        if (write_head(w, head) && put_in_place(w))
            (void)close(w->fd);
        else
            give_up(w);
    }
    destroy_writer(w);
}

void answers_drop(struct answer_writer *w)
{
    if (w == NULL)
        return;
    give_up(w);
    destroy_writer(w);
}

/* ---- reading ---- */

static bool read_head(struct answer_reader *r)
{
    const struct file_head *file = &r->file;

    if (!file_read_at(r->fd, &r->file, sizeof(r->file), 0) || memcmp(file->magic, magic, MAGIC) != 0)
        return false;
    r->head.status = file->status;
    r->head.events = file->events != 0;
    r->head.charge = file->charge;
    memcpy(r->head.upstream_id, file->upstream_id, sizeof(r->head.upstream_id));
    r->head.upstream_id[LIMIT_UPSTREAM_ID - 1] = '\0';
    return true;
}

static void forget(struct answers *a, struct id request)
{
    struct entry *e;

    pthread_mutex_lock(&a->lock);
    e = find_entry(a, request);
    if (e != NULL)
        remove_entry(a, e);
    pthread_mutex_unlock(&a->lock);
}

/* Opens the file under the lock, so that it is the entry's. -1: there is none. */
static int open_entry(struct answers *a, struct id request, bool *proven)
{
    char path[PATH];
    struct entry *e;
    int fd = -1;

    pthread_mutex_lock(&a->lock);
    make_room(a);
    e = find_entry(a, request);
    if (e != NULL) {
        path_of(a, "", request, path);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        *proven = e->proven;
        if (fd < 0)
            remove_entry(a, e);
    }
    pthread_mutex_unlock(&a->lock);
    return fd;
}

struct answer_reader *answers_find(struct answers *a, struct id request)
{
    struct answer_reader *r;
    bool proven = false;
    int fd = open_entry(a, request, &proven);

    if (fd < 0)
        return NULL;
    r = mem_zalloc(sizeof(*r));
    r->answers = a;
    r->request = request;
    r->fd = fd;
    r->hash = proven ? NULL : secret_hash_create();
    if (read_head(r))
        return r;
    forget(a, request);
    answer_close(r);
    return NULL;
}

const struct answer_head *answer_head(const struct answer_reader *r)
{
    return &r->head;
}

uint64_t answer_len(const struct answer_reader *r)
{
    return r->file.len;
}

static bool is_whole(struct answer_reader *r)
{
    uint8_t digest[SECRET_DIGEST];
    struct stat st;

    finish_digest(r->hash, &r->file, digest);
    return fstat(r->fd, &st) == 0 && (uint64_t)st.st_size == sizeof(r->file) + r->file.len &&
           memcmp(digest, r->file.digest, sizeof(digest)) == 0;
}

static void note_proven(struct answers *a, struct id request)
{
    struct entry *e;

    pthread_mutex_lock(&a->lock);
    e = find_entry(a, request);
    if (e != NULL)
        e->proven = true;
    pthread_mutex_unlock(&a->lock);
}

/* Checks a piece; false when it cannot be read. */
static bool check_piece(struct answer_reader *r)
{
    uint64_t left = r->file.len - r->checked;
    size_t len = left < PROOF_PIECE ? (size_t)left : PROOF_PIECE;
    char *piece = mem_alloc(PROOF_PIECE);
    bool ok = file_read_at(r->fd, piece, len, sizeof(r->file) + r->checked);

    if (ok)
        secret_hash_add(r->hash, (struct slice){piece, len});
    r->checked += len;
    free(piece);
    return ok;
}

enum answer_proof answer_prove(struct answer_reader *r)
{
    if (r->hash == NULL)
        return ANSWER_GOOD;
    if (r->checked < r->file.len && check_piece(r))
        return ANSWER_UNPROVEN;
    if (r->checked < r->file.len || !is_whole(r)) {
        forget(r->answers, r->request);
        return ANSWER_DAMAGED;
    }
    note_proven(r->answers, r->request);
    secret_hash_destroy(r->hash);
    r->hash = NULL;
    return ANSWER_GOOD;
}

ssize_t answer_read(struct answer_reader *r, uint64_t offset, void *out, size_t cap)
{
    uint64_t left = offset < r->file.len ? r->file.len - offset : 0;

    if (cap > left)
        cap = (size_t)left;
    return file_read_at(r->fd, out, cap, sizeof(r->file) + offset) ? (ssize_t)cap : -1;
}

void answer_close(struct answer_reader *r)
{
    (void)close(r->fd);
    secret_hash_destroy(r->hash);
    free(r);
}
