/* lib_power.h - SQLite's file layer on a disk in memory (lib_disk.h) whose power can be cut.
 *
 * Databases, journals and logs live on that disk, temporary files on the real one. The power goes at the Nth sync or
 * write from power_arm on; every call of SQLite's fails from then on. The way of a test:
 *
 *   power_boot(image); power_arm(...); open, work, close; if (!power_on()) wreck = power_take();
 *   power_boot(disk_survive(wreck, seed, ...)); open, compare
 *
 * Calls of this header: one thread, and power_boot and power_take only while no database is open. */
#ifndef TG_TESTS_LIB_POWER_H
#define TG_TESTS_LIB_POWER_H

#include "lib_disk.h"

enum power_point {
    POWER_NEVER = 0,
    POWER_BEFORE_SYNC, /* the sync fails, what it was to sync may or may not be on the disk */
    POWER_AFTER_SYNC,  /* the sync succeeds, nothing after it */
    POWER_AT_WRITE,    /* the write may or may not be on the disk, whole or torn */
    POWER_POINTS
};

void power_install(void);            /* makes it SQLite's default, once */
void power_boot(struct disk *image); /* takes it over; the power is on */
struct disk *power_take(void);       /* the disk as it is now, the caller's; boot before the next use */
void power_arm(enum power_point point, long nth);
void power_cut(void); /* now */
bool power_on(void);

/* What the device promises (SQLITE_IOCAP_POWERSAFE_OVERWRITE); the default of the real layer is true. */
void power_set_powersafe(bool powersafe);

/* Swallows the syncs that synchronous=NORMAL leaves out: those of a log outside of checkpoints and of its header. */
void power_set_relaxed(bool relaxed);

long power_checkpoints(void);        /* syncs of database files since power_boot */
size_t power_size(const char *path); /* of a file now; 0: none */

#endif
