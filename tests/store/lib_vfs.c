/* lib_vfs.c - see lib_vfs.h. Each file is the real one behind a table of methods that may refuse. The counters are
 * atomic: writer and reader call at once. */
#include "lib_vfs.h"

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct file {
    sqlite3_file super;
    sqlite3_file *real; /* in the same allocation, behind this */
};

static sqlite3_vfs *real_vfs, vfs;
static atomic_int armed = -1, code, times, left, failed;

/* Whether this call must fail; *rc is what it returns then. */
static bool refuse(enum vfs_method method, int *rc)
{
    int before;

    if (atomic_load(&armed) != (int)method)
        return false;
    before = atomic_fetch_sub(&left, 1);
    if (before > 1 || (atomic_load(&times) > 0 && before <= 1 - atomic_load(&times)))
        return false;
    atomic_store(&failed, 1);
    *rc = atomic_load(&code);
    return true;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return ((struct file *)f)->real;
}

#define REAL(f) (real_of(f)->pMethods)

static int x_close(sqlite3_file *f)
{
    return REAL(f)->xClose(real_of(f));
}

static int x_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    int rc;

    return refuse(VFS_READ, &rc) ? rc : REAL(f)->xRead(real_of(f), p, n, at);
}

static int x_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    int rc;

    if (!refuse(VFS_WRITE, &rc))
        return REAL(f)->xWrite(real_of(f), p, n, at);
    (void)REAL(f)->xWrite(real_of(f), p, n / 2, at); /* torn */
    return rc;
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    int rc;

    return refuse(VFS_TRUNCATE, &rc) ? rc : REAL(f)->xTruncate(real_of(f), n);
}

static int x_sync(sqlite3_file *f, int flags)
{
    int rc;

    return refuse(VFS_SYNC, &rc) ? rc : REAL(f)->xSync(real_of(f), flags);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *n)
{
    int rc;

    return refuse(VFS_SIZE, &rc) ? rc : REAL(f)->xFileSize(real_of(f), n);
}

static int x_lock(sqlite3_file *f, int level)
{
    int rc;

    return refuse(VFS_LOCK, &rc) ? rc : REAL(f)->xLock(real_of(f), level);
}

static int x_unlock(sqlite3_file *f, int level)
{
    return REAL(f)->xUnlock(real_of(f), level);
}

static int x_reserved(sqlite3_file *f, int *out)
{
    return REAL(f)->xCheckReservedLock(real_of(f), out);
}

static int x_control(sqlite3_file *f, int op, void *arg)
{
    return REAL(f)->xFileControl(real_of(f), op, arg);
}

static int x_sector(sqlite3_file *f)
{
    return REAL(f)->xSectorSize(real_of(f));
}

static int x_traits(sqlite3_file *f)
{
    return REAL(f)->xDeviceCharacteristics(real_of(f));
}

static int x_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out)
{
    int rc;

    if (!refuse(VFS_SHM_MAP, &rc))
        return REAL(f)->xShmMap(real_of(f), page, size, extend, out);
    *out = NULL;
    return rc;
}

static int x_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    int rc;

    if ((flags & SQLITE_SHM_LOCK) != 0 && refuse(VFS_SHM_LOCK, &rc))
        return rc;
    return REAL(f)->xShmLock(real_of(f), at, n, flags);
}

static void x_shm_barrier(sqlite3_file *f)
{
    REAL(f)->xShmBarrier(real_of(f));
}

static int x_shm_unmap(sqlite3_file *f, int drop)
{
    return REAL(f)->xShmUnmap(real_of(f), drop);
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

static int x_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out_flags)
{
    struct file *file = (struct file *)f;
    int rc;

    (void)v;
    memset(file, 0, sizeof(*file));
    if (refuse(VFS_OPEN, &rc))
        return rc;
    file->real = (sqlite3_file *)(file + 1);
    rc = real_vfs->xOpen(real_vfs, name, file->real, flags, out_flags);
    if (file->real->pMethods != NULL)
        file->super.pMethods = &methods;
    return rc;
}

static int x_delete(sqlite3_vfs *v, const char *name, int sync)
{
    int rc;

    (void)v;
    return refuse(VFS_DELETE, &rc) ? rc : real_vfs->xDelete(real_vfs, name, sync);
}

static int x_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
    int rc;

    (void)v;
    return refuse(VFS_ACCESS, &rc) ? rc : real_vfs->xAccess(real_vfs, name, flags, out);
}

void vfs_install(void)
{
    if (real_vfs != NULL)
        return;
    real_vfs = sqlite3_vfs_find(NULL);
    vfs = *real_vfs;
    vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
    vfs.zName = "fault";
    vfs.pNext = NULL;
    vfs.xOpen = x_open;
    vfs.xDelete = x_delete;
    vfs.xAccess = x_access;
    if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
        abort();
}

void vfs_arm(const struct vfs_fault *fault, int after)
{
    atomic_store(&failed, 0);
    atomic_store(&left, after);
    atomic_store(&code, fault->code);
    atomic_store(&times, fault->times);
    atomic_store(&armed, (int)fault->method);
}

void vfs_disarm(void)
{
    atomic_store(&armed, -1);
}

bool vfs_failed(void)
{
    return atomic_load(&failed) != 0;
}

const char *vfs_name(enum vfs_method method)
{
    static const char *const names[VFS_METHODS] = {"open", "read",    "write",    "truncate", "sync",  "size",
                                                   "lock", "shm map", "shm lock", "delete",   "access"};

    return names[method];
}
