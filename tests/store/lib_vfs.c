/* lib_vfs.c - see lib_vfs.h. Each file is the real one behind a table of methods whose xWrite and xSync may refuse. */
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
static atomic_int armed = -1, left, failed;

static bool refuse(enum vfs_fault fault)
{
    if (atomic_load(&armed) != (int)fault)
        return false;
    if (atomic_fetch_sub(&left, 1) > 1)
        return false;
    atomic_store(&failed, 1);
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
    return REAL(f)->xRead(real_of(f), p, n, at);
}

static int x_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    if (refuse(VFS_WRITE)) {
        (void)REAL(f)->xWrite(real_of(f), p, n / 2, at); /* torn */
        return SQLITE_FULL;
    }
    return REAL(f)->xWrite(real_of(f), p, n, at);
}

static int x_truncate(sqlite3_file *f, sqlite3_int64 n)
{
    return REAL(f)->xTruncate(real_of(f), n);
}

static int x_sync(sqlite3_file *f, int flags)
{
    return refuse(VFS_SYNC) ? SQLITE_IOERR_FSYNC : REAL(f)->xSync(real_of(f), flags);
}

static int x_size(sqlite3_file *f, sqlite3_int64 *n)
{
    return REAL(f)->xFileSize(real_of(f), n);
}

static int x_lock(sqlite3_file *f, int level)
{
    return REAL(f)->xLock(real_of(f), level);
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
    return REAL(f)->xShmMap(real_of(f), page, size, extend, out);
}

static int x_shm_lock(sqlite3_file *f, int at, int n, int flags)
{
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
    file->real = (sqlite3_file *)(file + 1);
    rc = real_vfs->xOpen(real_vfs, name, file->real, flags, out_flags);
    if (file->real->pMethods != NULL)
        file->super.pMethods = &methods;
    return rc;
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
    if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
        abort();
}

void vfs_arm(enum vfs_fault fault, int after)
{
    atomic_store(&failed, 0);
    atomic_store(&left, after);
    atomic_store(&armed, (int)fault);
}

void vfs_disarm(void)
{
    atomic_store(&armed, -1);
}

bool vfs_failed(void)
{
    return atomic_load(&failed) != 0;
}
