/* lib_disk.h - a disk in memory that remembers what was synced and what was only written, files and names alike.
 *
 * Each file has its contents as programs see them and as a power cut leaves them at the least, and between the two the
 * list of unsynced writes and truncations. Each name has the files that it stood for since its directory was last
 * synced. disk_survive makes what a power cut leaves: synced data, any of the unsynced changes in any order, some of
 * them torn. Not locked: the caller sees to that. */
#ifndef TG_TESTS_LIB_DISK_H
#define TG_TESTS_LIB_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DISK_SECTOR = 512, DISK_BLOCK = 4096, DISK_PATH = 256, DISK_PASTS = 8 };

struct bytes {
    uint8_t *p;
    size_t n, cap;
};

struct change;

struct inode {
    int refs; /* names, now or in the past, and open handles */
    struct bytes now, safe;
    struct change *pending, **tail;
    size_t n_pending;
};

struct name {
    struct name *next;
    char path[DISK_PATH];
    struct inode *past[DISK_PASTS]; /* oldest first: what may be found after a cut; NULL: no file; the last is now */
    size_t n_past;
};

struct disk {
    struct name *names;
};

struct disk *disk_create(void);
void disk_destroy(struct disk *d); /* NULL-safe */

struct inode *disk_find(struct disk *d, const char *path); /* borrowed; NULL: no such file */
struct inode *disk_make(struct disk *d,
                        const char *path); /* an empty file under a name that stands for none; borrowed */
void disk_unlink(struct disk *d, const char *path);
void disk_sync_names(struct disk *d, const char *path); /* of the directory in which <path> is */

struct inode *inode_ref(struct inode *f);
void inode_unref(struct inode *f);
void inode_write(struct inode *f, const void *p, size_t n, size_t at);
void inode_truncate(struct inode *f, size_t n);
void inode_sync(struct inode *f);

/* What is there after a clean shutdown. */
struct disk *disk_copy(const struct disk *d);

/* What is there after the power failed now. <d> stays as it is, so that one cut can be survived in many ways.
 * <powersafe>: a torn write damages no byte outside of its own range; else it may leave garbage in the whole block. */
struct disk *disk_survive(const struct disk *d, uint64_t seed, bool powersafe);

#endif
