/* lib_power.c - see lib_power.h.
 *
 * Locks and shared memory are among the connections of this process alone. One mutex guards everything; SQLite's own
 * shared memory is used outside of it, as on a real system.
 * Invariants
 *  (1) After the cut nothing changes the disk; closing and unlocking work, all else fails.
 *  (2) A file's directory is synced where the real layer does it: with the first sync of a new journal or log, and by
 *      a deletion that asks for it. */
#define _GNU_SOURCE
#include "lib_power.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/attrs.h"

enum { REGIONS = 64, SLOTS = SQLITE_SHM_NLOCK, SLOT_CHECKPOINT = 1, WAL_HEADER = 32 };

struct handle;

/* What the connections to one database share. */
struct sharing {
    struct sharing *next;
    char path[DISK_PATH];
    int refs, readers, maps;
    const struct handle *reserved, *pending, *exclusive;
    void *regions[REGIONS];
    int shm_readers[SLOTS];
    const struct handle *shm_writer[SLOTS];
};

struct handle {
    sqlite3_file super;
    struct inode *file;
    struct sharing *sharing; /* of databases */
    char path[DISK_PATH];
    int level, persist_wal;
    unsigned shm_shared; /* slots */
    bool mapped, is_log, sync_names, header_last;
};

static pthread_mutex_t big = PTHREAD_MUTEX_INITIALIZER;
static sqlite3_vfs *real_vfs, vfs;
static struct disk *disk;
static struct sharing *sharings;
static bool off, relaxed, powersafe = true;
static enum power_point armed;
static long left, checkpoints, handles;

/* ---- the cut ---- */

/* With the lock held: the power goes here. */
static bool hits(enum power_point point)
{
    if (armed != point || --left > 0)
        return false;
    armed = POWER_NEVER;
    off = true;
    return true;
}

static int enter(int dead)
{
    pthread_mutex_lock(&big);
    if (!off)
        return SQLITE_OK;
    pthread_mutex_unlock(&big);
    return dead;
}

static int leave(int rc)
{
    pthread_mutex_unlock(&big);
    return rc;
}

/* ---- what connections share ---- */

static struct sharing *find_sharing(const char *path, size_t len)
{
    struct sharing *s = sharings;

    while (s != NULL && (strlen(s->path) != len || memcmp(s->path, path, len) != 0))
        s = s->next;
    return s;
}

static struct sharing *take_sharing(const char *path)
{
    struct sharing *s = find_sharing(path, strlen(path));

    if (s == NULL) {
        s = mem_zalloc(sizeof(*s));
        memcpy(s->path, path, strlen(path) + 1);
        s->next = sharings;
        sharings = s;
    }
    s->refs++;
    return s;
}

static void drop_regions(struct sharing *s)
{
    for (int i = 0; i < REGIONS; i++) {
        free(s->regions[i]);
        s->regions[i] = NULL;
    }
}

static void drop_sharing(struct sharing *s)
{
    struct sharing **at = &sharings;

    if (--s->refs > 0)
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    drop_regions(s);
    free(s);
}

/* ---- data ---- */

static struct handle *self(sqlite3_file *f)
{
    return (struct handle *)f;
}

static int x_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    const struct bytes *b = &self(f)->file->now;
    size_t want = (size_t)n, start = (size_t)at, have;

    if (enter(SQLITE_IOERR_READ) != SQLITE_OK)
        return SQLITE_IOERR_READ;
    have = start < b->n ? b->n - start : 0;
    have = have < want ? have : want;
    if (have > 0)
        memcpy(p, b->p + start, have);
    memset((char *)p + have, 0, want - have);
    return leave(have == want ? SQLITE_OK : SQLITE_IOERR_SHORT_READ);
}

static int x_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    struct handle *h = self(f);

    if (enter(SQLITE_IOERR_WRITE) != SQLITE_OK)
        return SQLITE_IOERR_WRITE;
    inode_write(h->file, p, (size_t)n, (size_t)at);
    h->header_last = at == 0 && n == WAL_HEADER;
    return leave(hits(POWER_AT_WRITE) ? SQLITE_IOERR_WRITE : SQLITE_OK);
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    if (enter(SQLITE_IOERR_TRUNCATE) != SQLITE_OK)
        return SQLITE_IOERR_TRUNCATE;
    inode_truncate(self(f)->file, (size_t)n);
    return leave(hits(POWER_AT_WRITE) ? SQLITE_IOERR_TRUNCATE : SQLITE_OK);
}

/* Would synchronous=NORMAL have left this one out? */
static bool is_left_out(const struct handle *h)
{
    const struct sharing *s;

    if (!relaxed || !h->is_log || h->header_last)
        return false;
    s = find_sharing(h->path, strlen(h->path) - strlen("-wal"));
    return s == NULL ||
           (s->shm_writer[SLOT_CHECKPOINT] == NULL && s->exclusive == NULL); /* exclusive: the last close */
}

static int x_sync(sqlite3_file *f, int flags)
{
    struct handle *h = self(f);

    (void)flags;
    if (enter(SQLITE_IOERR_FSYNC) != SQLITE_OK)
        return SQLITE_IOERR_FSYNC;
    if (hits(POWER_BEFORE_SYNC))
        return leave(SQLITE_IOERR_FSYNC);
    if (!is_left_out(h))
        inode_sync(h->file);
    checkpoints += h->sharing != NULL;
    if (hits(POWER_AFTER_SYNC) || !h->sync_names)
        return leave(SQLITE_OK);
    if (hits(POWER_BEFORE_SYNC))
        return leave(SQLITE_IOERR_DIR_FSYNC);
    h->sync_names = false;
    disk_sync_names(disk, h->path);
    (void)hits(POWER_AFTER_SYNC);
    return leave(SQLITE_OK);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *n)
{
    if (enter(SQLITE_IOERR_FSTAT) != SQLITE_OK)
        return SQLITE_IOERR_FSTAT;
    *n = (sqlite3_int64)self(f)->file->now.n;
    return leave(SQLITE_OK);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    struct handle *h = self(f);
    int *value = arg;

    if (op != SQLITE_FCNTL_PERSIST_WAL)
        return SQLITE_NOTFOUND;
    if (*value < 0)
        *value = h->persist_wal;
    else
        h->persist_wal = *value;
    return SQLITE_OK;
}

static int x_sector(sqlite3_file *f)
{
    (void)f;
    return DISK_BLOCK;
}

static int x_traits(sqlite3_file *f)
{
    (void)f;
    return powersafe ? SQLITE_IOCAP_POWERSAFE_OVERWRITE : 0;
}

/* ---- locks ---- */

static bool is_others(const struct handle *owner, const struct handle *h)
{
    return owner != NULL && owner != h;
}

static int lock_level(struct sharing *s, struct handle *h, int level)
{
    if (h->level == SQLITE_LOCK_NONE) {
        if (is_others(s->pending, h) || is_others(s->exclusive, h))
            return SQLITE_BUSY;
        s->readers++;
        h->level = SQLITE_LOCK_SHARED;
    }
    if (level == SQLITE_LOCK_SHARED)
        return SQLITE_OK;
    if (is_others(s->reserved, h) || is_others(s->pending, h))
        return SQLITE_BUSY;
    if (level == SQLITE_LOCK_RESERVED) {
        s->reserved = h;
        h->level = level;
        return SQLITE_OK;
    }
    s->pending = h;
    h->level = SQLITE_LOCK_PENDING;
    if (s->readers > 1)
        return SQLITE_BUSY;
    s->exclusive = h;
    h->level = SQLITE_LOCK_EXCLUSIVE;
    return SQLITE_OK;
}

static int x_lock(sqlite3_file *f, int level)
{
    struct handle *h = self(f);

    if (enter(SQLITE_IOERR_LOCK) != SQLITE_OK)
        return SQLITE_IOERR_LOCK;
    return leave(h->level >= level || h->sharing == NULL ? SQLITE_OK : lock_level(h->sharing, h, level));
}

static void unlock_to(struct handle *h, int level)
{
    struct sharing *s = h->sharing;

    if (s == NULL || h->level <= level)
        return;
    if (s->reserved == h)
        s->reserved = NULL;
    if (s->pending == h)
        s->pending = NULL;
    if (s->exclusive == h)
        s->exclusive = NULL;
    if (level == SQLITE_LOCK_NONE)
        s->readers--;
    h->level = level;
}

static int x_unlock(sqlite3_file *f, int level)
{
    pthread_mutex_lock(&big);
    unlock_to(self(f), level);
    return leave(SQLITE_OK);
}

static int x_reserved(sqlite3_file *f, int *out)
{
    if (enter(SQLITE_IOERR_CHECKRESERVEDLOCK) != SQLITE_OK)
        return SQLITE_IOERR_CHECKRESERVEDLOCK;
    *out = self(f)->sharing != NULL && self(f)->sharing->reserved != NULL;
    return leave(SQLITE_OK);
}

/* ---- shared memory ---- */

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    struct handle *h = self(f);
    struct sharing *s = h->sharing;

    *out = NULL;
    if (enter(SQLITE_IOERR_SHMMAP) != SQLITE_OK)
        return SQLITE_IOERR_SHMMAP;
    TG_ASSERT(page < REGIONS);
    if (!h->mapped)
        s->maps++;
    h->mapped = true;
    if (s->regions[page] == NULL && extend != 0)
        s->regions[page] = mem_zalloc((size_t)size);
    *out = s->regions[page];
    return leave(SQLITE_OK);
}

static bool is_slot_free(const struct sharing *s, const struct handle *h, int slot, bool exclusive)
{
    int others = s->shm_readers[slot] - ((h->shm_shared & 1u << slot) != 0);

    return !is_others(s->shm_writer[slot], h) && (!exclusive || others == 0);
}

static void set_slot(struct handle *h, int slot, int flags)
{
    struct sharing *s = h->sharing;
    unsigned bit = 1u << slot;

    if ((flags & SQLITE_SHM_EXCLUSIVE) != 0) {
        s->shm_writer[slot] = (flags & SQLITE_SHM_LOCK) != 0 ? h : NULL;
    } else if (((h->shm_shared & bit) != 0) != ((flags & SQLITE_SHM_LOCK) != 0)) {
        h->shm_shared ^= bit;
        s->shm_readers[slot] += (flags & SQLITE_SHM_LOCK) != 0 ? 1 : -1;
    }
}

static int x_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    struct handle *h = self(f);

    pthread_mutex_lock(&big);
    if ((flags & SQLITE_SHM_LOCK) != 0) {
        if (off)
            return leave(SQLITE_IOERR_SHMLOCK);
        for (int i = at; i < at + n; i++)
            if (!is_slot_free(h->sharing, h, i, (flags & SQLITE_SHM_EXCLUSIVE) != 0))
                return leave(SQLITE_BUSY);
    }
    for (int i = at; i < at + n; i++)
        set_slot(h, i, flags);
    return leave(SQLITE_OK);
}

static void x_shm_barrier(sqlite3_file *f)
{
    (void)f;
    pthread_mutex_lock(&big);
    pthread_mutex_unlock(&big);
}

static void unmap(struct handle *h)
{
    if (!h->mapped)
        return;
    h->mapped = false;
    if (--h->sharing->maps == 0)
        drop_regions(h->sharing);
}

static int x_shm_unmap(sqlite3_file *f, int drop)
{
    (void)drop;
    pthread_mutex_lock(&big);
    unmap(self(f));
    return leave(SQLITE_OK);
}

/* ---- opening and closing ---- */

static int x_close(sqlite3_file *f)
{
    struct handle *h = self(f);

    pthread_mutex_lock(&big);
    if (h->sharing != NULL) {
        unlock_to(h, SQLITE_LOCK_NONE);
        unmap(h);
        drop_sharing(h->sharing);
    }
    inode_unref(h->file);
    handles--;
    return leave(SQLITE_OK);
}

static const sqlite3_io_methods methods = {.iVersion = 2,
                                           .xClose = x_close,
                                           .xRead = x_read,
                                           .xWrite = x_write,
                                           .xTruncate = x_truncate,
                                           .xSync = x_sync,
                                           .xFileSize = x_size,
                                           .xLock = x_lock,
                                           .xUnlock = x_unlock,
                                           .xCheckReservedLock = x_reserved,
                                           .xFileControl = x_control,
                                           .xSectorSize = x_sector,
                                           .xDeviceCharacteristics = x_traits,
                                           .xShmMap = x_shm_map,
                                           .xShmLock = x_shm_lock,
                                           .xShmBarrier = x_shm_barrier,
                                           .xShmUnmap = x_shm_unmap};

/* A database that was made with the system's own calls, empty, before SQLite opened it. */
static struct inode *import_file(const char *path)
{
    return access(path, F_OK) == 0 ? disk_make(disk, path) : NULL;
}

static struct inode *open_file(struct handle *h, const char *path, int flags)
{
    struct inode *f = disk_find(disk, path);

    if (f == NULL && (flags & SQLITE_OPEN_MAIN_DB) != 0)
        f = import_file(path);
    if (f == NULL && (flags & SQLITE_OPEN_CREATE) != 0) {
        f = disk_make(disk, path);
        h->sync_names = (flags & SQLITE_OPEN_MAIN_DB) == 0;
    }
    return f;
}

static int x_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *out_flags)
{
    struct handle *h = self(f);

    (void)v;
    if (path == NULL || (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL)) == 0)
        return real_vfs->xOpen(real_vfs, path, f, flags, out_flags);
    memset(h, 0, sizeof(*h));
    if (enter(SQLITE_CANTOPEN) != SQLITE_OK)
        return SQLITE_CANTOPEN;
    h->file = inode_ref(open_file(h, path, flags));
    if (h->file == NULL)
        return leave(SQLITE_CANTOPEN);
    (void)snprintf(h->path, sizeof(h->path), "%s", path);
    h->is_log = (flags & SQLITE_OPEN_WAL) != 0;
    if ((flags & SQLITE_OPEN_MAIN_DB) != 0)
        h->sharing = take_sharing(path);
    h->super.pMethods = &methods;
    handles++;
    if (out_flags != NULL)
        *out_flags = flags;
    return leave(SQLITE_OK);
}

static int x_delete(sqlite3_vfs *v, const char *path, int sync_names)
{
    (void)v;
    if (enter(SQLITE_IOERR_DELETE) != SQLITE_OK)
        return SQLITE_IOERR_DELETE;
    if (disk_find(disk, path) == NULL)
        return leave(SQLITE_IOERR_DELETE_NOENT);
    disk_unlink(disk, path);
    if (sync_names == 0)
        return leave(SQLITE_OK);
    if (hits(POWER_BEFORE_SYNC))
        return leave(SQLITE_IOERR_DIR_FSYNC);
    disk_sync_names(disk, path);
    (void)hits(POWER_AFTER_SYNC);
    return leave(SQLITE_OK);
}

static int x_access(sqlite3_vfs *v, const char *path, int flags, int *out)
{
    const struct inode *f;

    (void)v;
    if (enter(SQLITE_IOERR_ACCESS) != SQLITE_OK)
        return SQLITE_IOERR_ACCESS;
    f = disk_find(disk, path);
    *out = f != NULL && (flags != SQLITE_ACCESS_EXISTS || f->now.n > 0);
    if (f == NULL && strstr(path, "-wal") == NULL && strstr(path, "-journal") == NULL) {
        pthread_mutex_unlock(&big);
        return real_vfs->xAccess(real_vfs, path, flags, out);
    }
    return leave(SQLITE_OK);
}

/* ---- the interface ---- */

void power_install(void)
{
    if (real_vfs != NULL)
        return;
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.szOsFile = (int)sizeof(struct handle) > real_vfs->szOsFile ? (int)sizeof(struct handle) : real_vfs->szOsFile;
    vfs.zName = "power";
    vfs.pNext = NULL;
    vfs.xOpen = x_open;
    vfs.xDelete = x_delete;
    vfs.xAccess = x_access;
    TG_ASSERT(sqlite3_vfs_register(&vfs, 1) == SQLITE_OK);
}

void power_boot(struct disk *image)
{
    pthread_mutex_lock(&big);
    TG_ASSERT(handles == 0);
    disk_destroy(disk);
    disk = image;
    off = false;
    armed = POWER_NEVER;
    checkpoints = 0;
    pthread_mutex_unlock(&big);
}

struct disk *power_take(void)
{
    struct disk *taken = disk;

    TG_ASSERT(handles == 0);
    disk = NULL;
    off = true;
    return taken;
}

void power_arm(enum power_point point, long nth)
{
    pthread_mutex_lock(&big);
    armed = point;
    left = nth;
    pthread_mutex_unlock(&big);
}

void power_cut(void)
{
    pthread_mutex_lock(&big);
    off = true;
    pthread_mutex_unlock(&big);
}

bool power_on(void)
{
    bool on;

    pthread_mutex_lock(&big);
    on = !off;
    pthread_mutex_unlock(&big);
    return on;
}

void power_set_powersafe(bool value)
{
    powersafe = value;
}

void power_set_relaxed(bool value)
{
    relaxed = value;
}

long power_checkpoints(void)
{
    long n;

    pthread_mutex_lock(&big);
    n = checkpoints;
    pthread_mutex_unlock(&big);
    return n;
}

size_t power_size(const char *path)
{
    const struct inode *f;
    size_t n;

    pthread_mutex_lock(&big);
    f = disk_find(disk, path);
    n = f != NULL ? f->now.n : 0;
    pthread_mutex_unlock(&big);
    return n;
}
