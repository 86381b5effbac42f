/* lib_vfs.h - SQLite's own file layer with a fault in it: the Nth write or sync from now on fails, and all after it. */
#ifndef TG_TESTS_LIB_VFS_H
#define TG_TESTS_LIB_VFS_H

#include <stdbool.h>

enum vfs_fault { VFS_WRITE = 0, VFS_SYNC };

void vfs_install(void);                        /* makes it the default, once */
void vfs_arm(enum vfs_fault fault, int after); /* 1: the next one fails; counts over all files */
void vfs_disarm(void);
bool vfs_failed(void); /* since vfs_arm */

#endif
