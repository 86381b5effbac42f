/* spool.c - memory first, then an unlinked file.
 *
 *            append passes LIMIT_SPOOL_MEMORY
 *   MEMORY ----------------------------------> FILE
 *
 * Invariants
 *  (1) fd < 0: all bytes are in `memory`; fd >= 0: all bytes are in the file and `memory` is empty.
 *  (2) `len` counts the bytes that can be read back; a failed append does not change it. */
#define _GNU_SOURCE /* O_TMPFILE */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "buf.h"
#include "file.h"

struct spool {
    const char *directory;
    struct buf memory;
    uint64_t len;
    int fd;
};

struct spool *spool_create(const char *directory, uint64_t expect)
{
    struct spool *s = mem_zalloc(sizeof(*s));

    s->directory = directory;
    s->fd = -1;
    buf_init(&s->memory, LIMIT_SPOOL_MEMORY);
    if (expect > 0 && expect <= LIMIT_SPOOL_MEMORY)
        (void)buf_reserve(&s->memory, (size_t)expect);
    return s;
}

void spool_destroy(struct spool *s)
{
    if (s == NULL)
        return;
    if (s->fd >= 0)
        (void)close(s->fd);
    buf_dispose(&s->memory);
    free(s);
}

static enum err_code no_room(struct err *err)
{
    return err_set(err, ERR_UNAVAILABLE, NULL, "The request could not be stored: %s. Please try again later.",
                   strerror(errno));
}

static enum err_code write_file(struct spool *s, struct slice bytes, struct err *err)
{
    if (!file_write_at(s->fd, bytes.p, bytes.len, s->len))
        return no_room(err);
    s->len += bytes.len;
    return ERR_OK;
}

static enum err_code move_to_file(struct spool *s, struct err *err)
{
    enum err_code code;

    s->fd = open(s->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (s->fd < 0)
        return no_room(err);
    s->len = 0;
    code = write_file(s, buf_slice(&s->memory), err);
    if (code != ERR_OK) {
        (void)close(s->fd);
        s->fd = -1;
        s->len = s->memory.len;
        return code;
    }
    buf_dispose(&s->memory);
    return ERR_OK;
}

enum err_code spool_append(struct spool *s, struct slice bytes, struct err *err)
{
    if (s->fd < 0 && bytes.len <= LIMIT_SPOOL_MEMORY - s->memory.len) {
        buf_append_slice(&s->memory, bytes);
        s->len += bytes.len;
        return ERR_OK;
    }
    if (s->fd < 0) {
        enum err_code code = move_to_file(s, err);

        if (code != ERR_OK)
            return code;
    }
    return write_file(s, bytes, err);
}

uint64_t spool_len(const struct spool *s)
{
    return s->len;
}

bool spool_memory(const struct spool *s, struct slice *out)
{
    *out = buf_slice(&s->memory);
    return s->fd < 0;
}

ssize_t spool_read(const struct spool *s, uint64_t offset, void *out, size_t cap)
{
    if (offset >= s->len)
        return 0;
    if (cap > s->len - offset)
        cap = (size_t)(s->len - offset);
    if (s->fd < 0)
        memcpy(out, s->memory.p + offset, cap);
    else if (!file_read_at(s->fd, out, cap, offset))
        return -1;
    return (ssize_t)cap;
}
