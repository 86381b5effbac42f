/* lib_vfs.h - SQLite's own file layer with a fault in it: the Nth call of one method from now on fails. */
#ifndef TG_TESTS_LIB_VFS_H
#define TG_TESTS_LIB_VFS_H

#include <stdbool.h>

enum vfs_method {
    VFS_OPEN = 0,
    VFS_READ,
    VFS_WRITE, /* half of it is written all the same */
    VFS_TRUNCATE,
    VFS_SYNC,
    VFS_SIZE,
    VFS_LOCK,
    VFS_SHM_MAP,
    VFS_SHM_LOCK, /* not unlocking */
    VFS_DELETE,
    VFS_ACCESS,
    VFS_METHODS
};

struct vfs_fault {
    enum vfs_method method;
    int code;  /* SQLITE_IOERR_..., SQLITE_FULL, ... */
    int times; /* how many calls fail; 0: all from the Nth on */
};

void vfs_install(void);                                 /* makes it the default, once */
void vfs_arm(const struct vfs_fault *fault, int after); /* 1: the next one fails; counts over all files and threads */
void vfs_disarm(void);
bool vfs_failed(void); /* since vfs_arm */
const char *vfs_name(enum vfs_method method);

#endif
