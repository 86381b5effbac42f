/* archive_file.c - see archive_file.h; the only file that includes zstd.h.
 *
 *   create --> .part, open --add, add, ...--> --finish--> sealed --fsync--> named --fsync of the directory--> done
 *
 * Invariants
 *  (1) A name without .part stands for a file that was synced before it got the name.
 *  (2) A name is taken by link(2)'s kind of renaming, which fails where there is a file already: then the next number
 * is tried. */
#define _GNU_SOURCE /* renameat2 */
#include "archive_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "daemon/base/failpoint.h"

enum { LEVEL = 3, SEAL_HEAD = 8, SEAL_TEXT = 248, SEAL = SEAL_HEAD + SEAL_TEXT, NUMBERS = 10000 };
#define SEAL_MAGIC UINT32_C(0x184D2A57) /* one of zstd's sixteen for frames that it skips */

struct archive_file {
    int fd;
    ZSTD_CCtx *zstd;
    char *out; /* one block of zstd's output */
    size_t cap;
    int64_t bytes;
    char directory[PATH_MAX], day[ARCHIVE_DAY], part[PATH_MAX];
};

/* ---- paths ---- */

static bool path_of(const char *directory, const char *day, int number, const char *end, char out[PATH_MAX])
{
    char ordinal[16] = "";
    int n;

    if (number > 1)
        (void)snprintf(ordinal, sizeof(ordinal), ".%d", number);
    n = snprintf(out, PATH_MAX, "%s/records-%s%s.ndjson.zst%s", directory, day, ordinal, end);
    return n > 0 && n < PATH_MAX;
}

static enum err_code fail(const char *doing, const char *path, struct err *err)
{
    int why = errno;

    return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot %s %.200s: %s.", doing, path, strerror(why));
}

enum err_code archive_file_sync(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum err_code code = fd >= 0 && fsync(fd) == 0 ? ERR_OK : fail("sync", path, err);

    if (fd >= 0)
        (void)close(fd);
    return code;
}

static enum err_code make_directory(const char *path, struct err *err)
{
    char parent[PATH_MAX];
    char *slash;

    if (mkdir(path, 0700) != 0)
        return errno == EEXIST ? ERR_OK : fail("make the directory", path, err);
    (void)snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash == NULL)
        return archive_file_sync(".", err);
    slash[slash == parent ? 1 : 0] = '\0';
    return archive_file_sync(parent, err);
}

/* ---- writing ---- */

static void dispose(struct archive_file *f)
{
    if (f->fd >= 0)
        (void)close(f->fd);
    (void)ZSTD_freeCCtx(f->zstd);
    free(f->out);
    free(f);
}

void archive_file_abandon(struct archive_file *f)
{
    if (f == NULL)
        return;
    (void)unlink(f->part);
    dispose(f);
}

enum err_code archive_file_create(const char *directory, const char *day, struct archive_file **out, struct err *err)
{
    struct archive_file *f;
    enum err_code code = make_directory(directory, err);

    if (code != ERR_OK)
        return code;
    f = mem_zalloc(sizeof(*f));
    f->fd = -1;
    f->cap = ZSTD_CStreamOutSize();
    f->out = mem_alloc(f->cap);
    f->zstd = ZSTD_createCCtx();
    TG_ASSERT(f->zstd != NULL);
    (void)ZSTD_CCtx_setParameter(f->zstd, ZSTD_c_compressionLevel, LEVEL);
    (void)ZSTD_CCtx_setParameter(f->zstd, ZSTD_c_checksumFlag, 1);
    (void)snprintf(f->day, sizeof(f->day), "%s", day);
    if (snprintf(f->directory, PATH_MAX, "%s", directory) >= PATH_MAX || !path_of(directory, day, 1, ".part", f->part))
        code = err_set(err, ERR_UNAVAILABLE, NULL, "The path of the archive is too long.");
    else if ((f->fd = open(f->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
        code = fail("write", f->part, err);
    if (code == ERR_OK)
        *out = f;
    else
        dispose(f);
    return code;
}

static enum err_code write_all(struct archive_file *f, const char *bytes, size_t len, struct err *err)
{
    while (len > 0) {
        ssize_t n = write(f->fd, bytes, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail("write", f->part, err);
        bytes += n;
        len -= (size_t)n;
        f->bytes += n;
    }
    return ERR_OK;
}

static enum err_code compress(struct archive_file *f, struct slice lines, ZSTD_EndDirective end, struct err *err)
{
    ZSTD_inBuffer in = {lines.p, lines.len, 0};
    enum err_code code = ERR_OK;
    size_t left = 1;

    while (code == ERR_OK && (in.pos < in.size || (end == ZSTD_e_end && left > 0))) {
        ZSTD_outBuffer out = {f->out, f->cap, 0};

        left = ZSTD_compressStream2(f->zstd, &out, &in, end);
        if (ZSTD_isError(left))
            return err_set(err, ERR_UNAVAILABLE, NULL, "Cannot compress: %s.", ZSTD_getErrorName(left));
        code = write_all(f, f->out, out.pos, err);
    }
    return code;
}

enum err_code archive_file_add(struct archive_file *f, struct slice lines, struct err *err)
{
    return lines.len > 0 ? compress(f, lines, ZSTD_e_continue, err) : ERR_OK;
}

/* ---- the seal ---- */

static void put_le(char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (char)(value >> (8 * i));
}

static void write_seal(const struct archive_seal *seal, char out[SEAL])
{
    char last[ID_TEXT], request[ID_TEXT];
    int n;

    memset(out, ' ', SEAL);
    put_le(out, SEAL_MAGIC);
    put_le(out + 4, SEAL_TEXT);
    n = snprintf(out + SEAL_HEAD, SEAL_TEXT,
                 "{\"day\":\"%s\",\"records\":%" PRId64 ",\"last\":\"%s\",\"request\":\"%s\"}", seal->day,
                 seal->records, id_format("use", seal->last, last), id_format("req", seal->request, request));
    TG_ASSERT(n > 0 && n < SEAL_TEXT);
    out[SEAL_HEAD + n] = ' ';
    out[SEAL - 1] = '\n';
}

static bool read_seal(const char text[SEAL], const char *day, struct archive_seal *out)
{
    char head[SEAL_HEAD], body[SEAL_TEXT + 1], last[ID_TEXT + 1], request[ID_TEXT + 1];

    put_le(head, SEAL_MAGIC);
    put_le(head + 4, SEAL_TEXT);
    memcpy(body, text + SEAL_HEAD, SEAL_TEXT);
    body[SEAL_TEXT] = '\0';
    _Static_assert(ID_TEXT >= 26, "an id with its prefix fits");
    return memcmp(text, head, SEAL_HEAD) == 0 &&
           sscanf(body,
                  "{\"day\":\"%10[0-9-]\",\"records\":%" SCNd64
                  ",\"last\":\"%26[0-9A-Za-z_]\",\"request\":\"%26[0-9A-Za-z_]\"}",
                  out->day, &out->records, last, request) == 4 &&
           strcmp(out->day, day) == 0 && out->records > 0 && id_parse("use", slice_from(last), &out->last) &&
           id_parse("req", slice_from(request), &out->request);
}

enum err_code archive_file_read_seal(const char *directory, const char *day, int number, struct archive_seal *out,
                                     struct err *err)
{
    char path[PATH_MAX], text[SEAL];
    enum err_code code = ERR_OK;
    struct stat st;
    int fd;

    if (!path_of(directory, day, number, "", path))
        return err_set(err, ERR_UNAVAILABLE, NULL, "The path of the archive is too long.");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, NULL, "There is no %.200s.", path)
                               : fail("read", path, err);
    if (fstat(fd, &st) != 0)
        code = fail("read", path, err);
    else if (st.st_size < SEAL || pread(fd, text, SEAL, st.st_size - SEAL) != SEAL || !read_seal(text, day, out))
        code = err_set(err, ERR_CONFLICT, NULL, "%.200s is not an archive of this day.", path);
    (void)close(fd);
    return code;
}

/* ---- the end ---- */

static enum err_code take_name(struct archive_file *f, struct err *err)
{
    char path[PATH_MAX];

    for (int number = 1; number < NUMBERS; number++) {
        if (!path_of(f->directory, f->day, number, "", path))
            return err_set(err, ERR_UNAVAILABLE, NULL, "The path of the archive is too long.");
        if (renameat2(AT_FDCWD, f->part, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
            return ERR_OK;
        if (errno == EINVAL && link(f->part, path) == 0) { /* a file system without it */
            (void)unlink(f->part);
            return ERR_OK;
        }
        if (errno != EEXIST)
            return fail("name", path, err);
    }
    return err_set(err, ERR_UNAVAILABLE, NULL, "There are too many archives of %s.", f->day);
}

enum err_code archive_file_finish(struct archive_file *f, const struct archive_seal *seal, int64_t *bytes,
                                  struct err *err)
{
    static const struct slice nothing = {"", 0};
    char text[SEAL];
    enum err_code code = compress(f, nothing, ZSTD_e_end, err);

    write_seal(seal, text);
    if (code == ERR_OK)
        code = write_all(f, text, SEAL, err);
    if (code == ERR_OK && fsync(f->fd) != 0)
        code = fail("sync", f->part, err);
    if (code == ERR_OK && FAILPOINT(ARCHIVE_WRITTEN))
        code = err_set(err, ERR_UNAVAILABLE, NULL, "The archive failed: a test told it to.");
    if (code == ERR_OK)
        code = take_name(f, err);
    if (code != ERR_OK) {
        archive_file_abandon(f);
        return code;
    }
    *bytes = f->bytes;
    code = archive_file_sync(f->directory, err);
    dispose(f);
    if (code == ERR_OK && FAILPOINT(ARCHIVE_NAMED))
        code = err_set(err, ERR_UNAVAILABLE, NULL, "The archive failed: a test told it to.");
    return code;
}
