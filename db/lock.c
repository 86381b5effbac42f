/* lock.c - OFD locks: unlike classic POSIX locks they do not vanish when some other descriptor of the file is closed,
 * and they do not pass to a child by fork alone (the descriptor is close-on-exec). */
#define _GNU_SOURCE /* F_OFD_SETLK */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static void write_owner(int fd)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    /* Only for people: a number that could not be written whole is not read as one. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
        return;
}

static long read_owner(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    unsigned long long pid;

    if (n <= 1 || text[n - 1] != '\n')
        return 0;
    return slice_to_u64((struct slice){text, (size_t)n - 1}, &pid) ? (long)pid : 0;
}

enum err_code lock_take(const char *path, int *fd, struct err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int why;

    if (file < 0)
        return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot open the lock file %s: %s.", path, strerror(errno));
    if (fcntl(file, F_OFD_SETLK, &lock) == 0) {
        write_owner(file);
        *fd = file;
        return ERR_OK;
    }
    why = errno;
    if (why == EAGAIN || why == EACCES)
        (void)err_set(err, ERR_CONFLICT, NULL, "The store is in use by process %ld (lock file %s).", read_owner(file),
                      path);
    else
        (void)err_set(err, ERR_UNAVAILABLE, NULL, "Cannot lock %s: %s.", path, strerror(why));
    (void)close(file);
    return why == EAGAIN || why == EACCES ? ERR_CONFLICT : ERR_UNAVAILABLE;
}

void lock_release(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}
