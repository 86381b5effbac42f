/* lock.h - one process at a time: an open-file-description lock on a file of its own.
 *
 * The lock is the kernel's: it ends with the process, however that ends; the file stays and means nothing by itself.
 * Any thread. */
#ifndef TG_DB_LOCK_H
#define TG_DB_LOCK_H

#include "daemon/base/err.h"

/* Creates <path> when needed and locks it. *fd is closed by lock_release. CONFLICT: another process holds it (its
 * number is in the message when it could be read). */
TG_MUSTCHECK enum err_code lock_take(const char *path, int *fd, struct err *err);
void lock_release(int fd); /* -1 is allowed */

#endif
