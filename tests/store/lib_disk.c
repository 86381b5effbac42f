/* lib_disk.c - see lib_disk.h.
 *
 *   write, truncate --> now, pending --sync--> safe          what is found after a cut: safe + any of pending
 *   make, unlink    --> past[...]    --sync--> past[0]       and any of past
 *
 * Invariants
 *  (1) safe with all of pending in their order is now.
 *  (2) A name has at least one past, the last of which is what programs see. */
#include "lib_disk.h"

#include <stdio.h>
#include <string.h>

#include "daemon/base/attrs.h"
#include "lib_dice.h"

struct change {
    struct change *next;
    bool truncates; /* to <at> */
    size_t at, n;
    uint8_t data[];
};

/* ---- bytes ---- */

static void bytes_resize(struct bytes *b, size_t n)
{
    if (n > b->cap) {
        b->cap = n + n / 2 + DISK_BLOCK;
        b->p = mem_realloc(b->p, b->cap);
    }
    if (n > b->n)
        memset(b->p + b->n, 0, n - b->n);
    b->n = n;
}

static void bytes_put(struct bytes *b, const void *p, size_t n, size_t at)
{
    if (n == 0)
        return;
    if (b->n < at + n)
        bytes_resize(b, at + n);
    memcpy(b->p + at, p, n);
}

/* ---- files ---- */

static struct inode *inode_create(void)
{
    struct inode *f = mem_zalloc(sizeof(*f));

    f->refs = 1;
    f->tail = &f->pending;
    return f;
}

struct inode *inode_ref(struct inode *f)
{
    if (f != NULL)
        f->refs++;
    return f;
}

static void forget_pending(struct inode *f)
{
    struct change *next;

    for (struct change *c = f->pending; c != NULL; c = next) {
        next = c->next;
        free(c);
    }
    f->pending = NULL;
    f->tail = &f->pending;
    f->n_pending = 0;
}

void inode_unref(struct inode *f)
{
    if (f == NULL || --f->refs > 0)
        return;
    forget_pending(f);
    free(f->now.p);
    free(f->safe.p);
    free(f);
}

static void add_change(struct inode *f, bool truncates, const void *p, size_t n, size_t at)
{
    struct change *c = mem_alloc(sizeof(*c) + n);

    *c = (struct change){.truncates = truncates, .at = at, .n = n};
    if (n > 0)
        memcpy(c->data, p, n);
    *f->tail = c;
    f->tail = &c->next;
    f->n_pending++;
}

static void apply(struct bytes *b, const struct change *c)
{
    if (!c->truncates)
        bytes_put(b, c->data, c->n, c->at);
    else if (c->at < b->n)
        bytes_resize(b, c->at);
}

void inode_write(struct inode *f, const void *p, size_t n, size_t at)
{
    bytes_put(&f->now, p, n, at);
    add_change(f, false, p, n, at);
}

void inode_truncate(struct inode *f, size_t n)
{
    bytes_resize(&f->now, n);
    add_change(f, true, NULL, 0, n);
}

void inode_sync(struct inode *f)
{
    for (const struct change *c = f->pending; c != NULL; c = c->next)
        apply(&f->safe, c);
    bytes_resize(&f->safe, f->now.n); /* a truncation may have made it longer */
    forget_pending(f);
}

/* ---- names ---- */

struct disk *disk_create(void)
{
    return mem_zalloc(sizeof(struct disk));
}

static void forget_past(struct name *e, size_t keep)
{
    size_t gone = e->n_past - keep;

    for (size_t i = 0; i < gone; i++)
        inode_unref(e->past[i]);
    memmove(e->past, e->past + gone, keep * sizeof(e->past[0]));
    e->n_past = keep;
}

void disk_destroy(struct disk *d)
{
    struct name *next;

    for (struct name *e = d != NULL ? d->names : NULL; e != NULL; e = next) {
        next = e->next;
        forget_past(e, 0);
        free(e);
    }
    free(d);
}

static struct name *find_name(const struct disk *d, const char *path)
{
    struct name *e = d->names;

    while (e != NULL && strcmp(e->path, path) != 0)
        e = e->next;
    return e;
}

static struct name *add_name(struct disk *d, const char *path, struct inode *f)
{
    struct name *e = mem_zalloc(sizeof(*e));

    TG_ASSERT(strlen(path) < sizeof(e->path));
    memcpy(e->path, path, strlen(path) + 1);
    e->past[e->n_past++] = f;
    e->next = d->names;
    d->names = e;
    return e;
}

/* The name stands for <f> from now on. When there are too many pasts one in the middle is forgotten. */
static void set_now(struct name *e, struct inode *f)
{
    if (e->n_past == DISK_PASTS) {
        inode_unref(e->past[1]);
        memmove(e->past + 1, e->past + 2, (DISK_PASTS - 2) * sizeof(e->past[0]));
        e->n_past--;
    }
    e->past[e->n_past++] = f;
}

struct inode *disk_find(struct disk *d, const char *path)
{
    struct name *e = find_name(d, path);

    return e != NULL ? e->past[e->n_past - 1] : NULL;
}

struct inode *disk_make(struct disk *d, const char *path)
{
    struct inode *f = inode_create();
    struct name *e = find_name(d, path);

    set_now(e != NULL ? e : add_name(d, path, NULL), f);
    return f;
}

void disk_unlink(struct disk *d, const char *path)
{
    set_now(find_name(d, path), NULL);
}

void disk_sync_names(struct disk *d, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) + 1 : 0;

    for (struct name *e = d->names; e != NULL; e = e->next)
        if (strncmp(e->path, path, len) == 0 && strchr(e->path + len, '/') == NULL)
            forget_past(e, 1);
}

/* ---- copies and survivors ---- */

static struct inode *inode_with(const struct bytes *b)
{
    struct inode *f = inode_create();

    bytes_put(&f->now, b->p, b->n, 0);
    bytes_put(&f->safe, b->p, b->n, 0);
    return f;
}

struct disk *disk_copy(const struct disk *d)
{
    struct disk *copy = disk_create();

    for (const struct name *e = d->names; e != NULL; e = e->next)
        if (e->past[e->n_past - 1] != NULL)
            add_name(copy, e->path, inode_with(&e->past[e->n_past - 1]->now));
    return copy;
}

static void fill_garbage(struct bytes *b, size_t from, size_t to, struct dice *dice)
{
    for (size_t i = from; i < to; i++)
        b->p[i] = (uint8_t)dice_roll(dice);
}

/* Garbage in the block around <at>, as far as the file goes. */
static void spoil_block(struct bytes *b, size_t at, struct dice *dice)
{
    size_t from = at / DISK_BLOCK * DISK_BLOCK, to = from + DISK_BLOCK;

    fill_garbage(b, from < b->n ? from : b->n, to < b->n ? to : b->n, dice);
}

/* Each sector of the write is old, new or garbage. */
static void apply_torn(struct bytes *b, const struct change *c, struct dice *dice, bool powersafe)
{
    enum { OLD = 4, NEW = 7, ROLLS = 8 };
    size_t end = c->at + c->n;

    if (c->truncates || c->n == 0) {
        if (dice_below(dice, 2) == 0)
            apply(b, c);
        return;
    }
    for (size_t from = c->at, to; from < end; from = to) {
        size_t roll = dice_below(dice, ROLLS);

        to = (from / DISK_SECTOR + 1) * DISK_SECTOR;
        to = to < end ? to : end;
        if (roll < OLD)
            continue;
        bytes_put(b, c->data + (from - c->at), to - from, from);
        if (roll >= NEW)
            fill_garbage(b, from, to, dice);
    }
    if (!powersafe && dice_below(dice, 2) == 0)
        spoil_block(b, dice_below(dice, 2) == 0 ? c->at : end - 1, dice);
}

static void shuffle(const struct change **at, size_t n, struct dice *dice)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = dice_below(dice, i);
        const struct change *swap = at[i - 1];

        at[i - 1] = at[other];
        at[other] = swap;
    }
}

enum fate { FATE_NOTHING = 0, FATE_ALL, FATE_PREFIX, FATE_SOME, FATE_SOME_TORN, FATES };

static struct inode *survive_file(const struct inode *f, struct dice *dice, bool powersafe)
{
    const struct change **changes = mem_alloc((f->n_pending + 1) * sizeof(changes[0]));
    enum fate fate = (enum fate)dice_below(dice, FATES);
    size_t n = 0, prefix = dice_below(dice, f->n_pending + 1);
    struct inode *left = inode_create();
    struct bytes *b = &left->safe;

    bytes_put(b, f->safe.p, f->safe.n, 0);
    for (const struct change *c = f->pending; c != NULL; c = c->next)
        changes[n++] = c;
    if (fate == FATE_SOME || fate == FATE_SOME_TORN)
        shuffle(changes, n, dice);
    for (size_t i = 0; i < n; i++) {
        size_t roll = dice_below(dice, 4);

        if (fate == FATE_ALL || (fate == FATE_PREFIX && i < prefix) || (fate >= FATE_SOME && roll < 2))
            apply(b, changes[i]);
        else if ((fate == FATE_PREFIX && i == prefix) || (fate == FATE_SOME_TORN && roll == 2))
            apply_torn(b, changes[i], dice, powersafe);
    }
    bytes_put(&left->now, b->p, b->n, 0);
    free(changes);
    return left;
}

struct disk *disk_survive(const struct disk *d, uint64_t seed, bool powersafe)
{
    struct disk *left = disk_create();
    struct dice dice = {seed};

    for (const struct name *e = d->names; e != NULL; e = e->next) {
        const struct inode *f = e->past[dice_below(&dice, e->n_past)];

        if (f != NULL)
            add_name(left, e->path, survive_file(f, &dice, powersafe));
    }
    return left;
}
