/* secret.c - libsodium lives here and nowhere else.
 *
 * Invariants:
 *   1. the master key is read into guarded memory, used to derive, and wiped before secret_open returns; what stays is
 *      a struct of derived keys in guarded, locked, read-only memory;
 *   2. one key, one use: digests of each kind of key, sealing and the local token have a derived key of their own, so a
 *      digest of one kind never equals one of another;
 *   3. a master key file is made whole or not at all: it is written beside its place, synced, and linked into place,
 *      which fails when another process was faster; then that one's key is read;
 *   4. secrets on the stack are wiped before their function returns.
 * After secret_init and secret_open any thread. */
#include "secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "log.h"

enum {
    MASTER = crypto_kdf_KEYBYTES,
    MASTER_HEX = 2 * MASTER,
    KINDS = 3,
    RANDOM_DIGITS = 43, /* base62 of 32 bytes */
    CRC_DIGITS = 6,     /* base62 of 32 bits */
    NONCE = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES,
    TAG = crypto_aead_xchacha20poly1305_ietf_ABYTES,
    SHOWN_TAIL = 4 /* characters of a key that may be shown */
};

_Static_assert(MASTER == 32, "the configuration promises 32 bytes");
_Static_assert(NONCE + TAG == SECRET_SEAL_EXTRA, "secret.h says how much sealing adds");

struct secrets {
    uint8_t digest[KINDS][32];
    uint8_t seal[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
    uint8_t local[32];
};

/* While a master key is read: all of it in guarded memory. */
struct master {
    uint8_t key[MASTER];
    char file[MASTER_HEX + 16]; /* what the file holds: hex and a few newlines at most */
    size_t len;
};

static const struct {
    const char *prefix;
    size_t len;
} prefixes[KINDS] = {
    [SECRET_API_KEY] = {"sk-tg-", 6},
    [SECRET_API_KEY_TEST] = {"sk-tg-test-", 11},
    [SECRET_ADMIN_TOKEN] = {"ta-", 3},
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint8_t process_key[crypto_shorthash_KEYBYTES];

static void init_once(void)
{
    int failed = sodium_init() < 0;

    TG_ASSERT(!failed);
    randombytes_buf(process_key, sizeof(process_key));
}

void secret_init(void)
{
    const struct rlimit none = {0, 0};

    (void)pthread_once(&once, init_once);
    /* Neither can fail for the process itself. */
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
}

void *secret_alloc(size_t size)
{
    /* sodium_malloc puts the block at the end of its pages, so a size that is no multiple of 16 is not aligned. */
    void *p = sodium_malloc((size + 15) / 16 * 16);

    TG_ASSERT(p != NULL);
    return p;
}

void secret_free(void *p)
{
    sodium_free(p);
}

void secret_wipe(void *p, size_t len)
{
    sodium_memzero(p, len);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
    return sodium_memcmp(a, b, len) == 0;
}

uint64_t secret_hash64(const void *bytes, size_t len)
{
    unsigned char out[crypto_shorthash_BYTES];
    uint64_t hash;

    _Static_assert(sizeof(out) == sizeof(hash), "SipHash-2-4 gives 64 bits");
    (void)pthread_once(&once, init_once);
    (void)crypto_shorthash(out, bytes, len, process_key);
    memcpy(&hash, out, sizeof(hash));
    return hash;
}

void secret_fingerprint(const void *bytes, size_t len, uint8_t out[SECRET_DIGEST])
{
    (void)crypto_generichash(out, SECRET_DIGEST, bytes, len, NULL, 0);
}

struct secret_hash {
    crypto_generichash_state state; /* wants an alignment that malloc does not promise */
};

struct secret_hash *secret_hash_create(void)
{
    struct secret_hash *h = aligned_alloc(_Alignof(struct secret_hash), sizeof(*h));

    TG_ASSERT(h != NULL);
    (void)crypto_generichash_init(&h->state, NULL, 0, SECRET_DIGEST);
    return h;
}

void secret_hash_add(struct secret_hash *h, struct slice bytes)
{
    (void)crypto_generichash_update(&h->state, (const unsigned char *)bytes.p, bytes.len);
}

void secret_hash_finish(struct secret_hash *h, uint8_t out[SECRET_DIGEST])
{
    (void)crypto_generichash_final(&h->state, out, SECRET_DIGEST);
}

void secret_hash_destroy(struct secret_hash *h)
{
    free(h);
}

void secret_random(void *out, size_t len)
{
    randombytes_buf(out, len);
}

/* CRC-32 as in IEEE 802.3 (reflected, polynomial EDB88320), four bits at a time. */
static uint32_t crc32_of(const char *bytes, size_t len)
{
    static const uint32_t nibble[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
                                        0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
                                        0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    uint32_t crc = 0xFFFFFFFF;

    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)bytes[i];
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

static void append_crc(char *text, size_t len)
{
    uint32_t crc = crc32_of(text, len);
    uint8_t bytes[4] = {(uint8_t)(crc >> 24), (uint8_t)(crc >> 16), (uint8_t)(crc >> 8), (uint8_t)crc};

    base62_encode(bytes, sizeof(bytes), text + len, CRC_DIGITS);
    text[len + CRC_DIGITS] = '\0';
}

static void write_key(enum secret_kind kind, const uint8_t bytes[32], char text[SECRET_KEY_TEXT])
{
    size_t head = prefixes[kind].len;

    memcpy(text, prefixes[kind].prefix, head);
    base62_encode(bytes, 32, text + head, RANDOM_DIGITS);
    append_crc(text, head + RANDOM_DIGITS);
}

void secret_make_key(const struct secrets *s, enum secret_kind kind, char text[SECRET_KEY_TEXT],
                     uint8_t digest[SECRET_DIGEST])
{
    uint8_t bytes[32];

    randombytes_buf(bytes, sizeof(bytes));
    write_key(kind, bytes, text);
    sodium_memzero(bytes, sizeof(bytes));
    secret_digest_key(s, kind, slice_from(text), digest);
}

static bool is_base62(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')))
            return false;
    }
    return true;
}

static bool is_key_of(struct slice text, enum secret_kind kind)
{
    size_t head = prefixes[kind].len;
    char copy[SECRET_KEY_TEXT];
    bool same;

    if (text.len != head + RANDOM_DIGITS + CRC_DIGITS || memcmp(text.p, prefixes[kind].prefix, head) != 0 ||
        !is_base62((struct slice){text.p + head, text.len - head}))
        return false;
    memcpy(copy, text.p, head + RANDOM_DIGITS);
    append_crc(copy, head + RANDOM_DIGITS);
    same = memcmp(copy, text.p, text.len) == 0;
    sodium_memzero(copy, sizeof(copy));
    return same;
}

bool secret_check_key(struct slice text, enum secret_kind *kind)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (is_key_of(text, (enum secret_kind)i)) {
            *kind = (enum secret_kind)i;
            return true;
        }
    }
    return false;
}

void secret_digest_key(const struct secrets *s, enum secret_kind kind, struct slice text, uint8_t digest[SECRET_DIGEST])
{
    (void)crypto_generichash(digest, SECRET_DIGEST, (const unsigned char *)text.p, text.len, s->digest[kind],
                             sizeof(s->digest[kind]));
}

/* The part of a key that says what it is: the longest known prefix. Nothing of a stranger's text is repeated but "sk-".
 */
static struct slice known_prefix(struct slice text)
{
    static const enum secret_kind longest_first[] = {SECRET_API_KEY_TEST, SECRET_API_KEY, SECRET_ADMIN_TOKEN};

    for (size_t i = 0; i < KINDS; i++) {
        struct slice prefix = {prefixes[longest_first[i]].prefix, prefixes[longest_first[i]].len};

        if (slice_starts(text, prefix))
            return prefix;
    }
    return slice_starts(text, SLICE("sk-")) ? SLICE("sk-") : SLICE("");
}

const char *secret_mask_key(struct slice text, char out[SECRET_KEY_TEXT])
{
    struct slice prefix = known_prefix(text);
    size_t n = prefix.len;

    memcpy(out, prefix.p, n);
    memcpy(out + n, "...", 4);
    n += 3;
    if (text.len < prefix.len + 4 * SHOWN_TAIL) /* so short that its end would be too much of it */
        return out;
    for (size_t i = text.len - SHOWN_TAIL; i < text.len; i++)
        out[n++] = text.p[i] > ' ' && text.p[i] < 0x7F ? text.p[i] : '?';
    out[n] = '\0';
    return out;
}

void secret_local_token(const struct secrets *s, char text[SECRET_KEY_TEXT])
{
    write_key(SECRET_ADMIN_TOKEN, s->local, text);
}

void secret_seal(const struct secrets *s, struct id bound_to, const uint8_t *plain, size_t len, uint8_t *out)
{
    randombytes_buf(out, NONCE);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + NONCE, NULL, plain, len, bound_to.b, ID_BYTES, NULL, out,
                                                     s->seal);
}

bool secret_unseal(const struct secrets *s, struct id bound_to, const uint8_t *sealed, size_t len, uint8_t *out)
{
    return len >= SECRET_SEAL_EXTRA &&
           crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, sealed + NONCE, len - NONCE, bound_to.b,
                                                      ID_BYTES, sealed, s->seal) == 0;
}

static enum err_code fail(struct err *err, const char *path, const char *what)
{
    return err_set(err, ERR_INTERNAL, "master_key_file", "%s: %s: %s", path, what, strerror(errno));
}

static bool under_credentials(const char *path)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    struct slice head = slice_from(dir);

    return head.len > 0 && slice_starts(slice_from(path), head) && path[head.len] == '/' &&
           strstr(path + head.len, "/../") == NULL;
}

static enum err_code check_file(int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return fail(err, path, "cannot be looked at");
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID_VALUE, "master_key_file", "%s: is not a regular file", path);
    /* systemd's credentials are 0440 in a directory that only the service may enter. */
    if ((st.st_mode & 0077) != 0 && !under_credentials(path))
        return err_set(err, ERR_INVALID_VALUE, "master_key_file",
                       "%s: its mode is %04o, so others may use it; chmod 0600 it", path,
                       (unsigned)(st.st_mode & 07777));
    return ERR_OK;
}

static enum err_code read_whole(int fd, const char *path, struct master *m, struct err *err)
{
    m->len = 0;
    while (m->len < sizeof(m->file)) {
        ssize_t n = read(fd, m->file + m->len, sizeof(m->file) - m->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(err, path, "cannot be read");
        if (n == 0)
            break;
        m->len += (size_t)n;
    }
    return ERR_OK;
}

/* 32 bytes as they are, or 64 hex digits with white space behind them. */
static bool decode(struct master *m)
{
    size_t n = m->len, bytes;

    if (n == MASTER) {
        memcpy(m->key, m->file, MASTER);
        return true;
    }
    while (n > 0 && strchr("\r\n \t", m->file[n - 1]) != NULL && m->file[n - 1] != '\0')
        n--;
    /* A full buffer means that the file goes on behind it. */
    return m->len < sizeof(m->file) && n == MASTER_HEX &&
           sodium_hex2bin(m->key, MASTER, m->file, n, NULL, &bytes, NULL) == 0 && bytes == MASTER;
}

/* ERR_NOT_FOUND, with <err> untouched, when there is no such file. */
static enum err_code read_master(const char *path, struct master *m, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    enum err_code code;

    if (fd < 0 && errno == ENOENT)
        return ERR_NOT_FOUND;
    if (fd < 0)
        return fail(err, path, "cannot be opened");
    code = check_file(fd, path, err);
    if (code == ERR_OK)
        code = read_whole(fd, path, m, err);
    if (code == ERR_OK && !decode(m))
        code = err_set(err, ERR_INVALID_VALUE, "master_key_file", "%s: holds neither 32 bytes nor 64 hex digits", path);
    close(fd);
    return code;
}

/* A file's name is safe only when its directory was synced too. */
static bool sync_directory_of(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    int fd;
    bool done;

    if (!slice_copy(n > 0 ? (struct slice){path, n} : SLICE("."), dir, sizeof(dir)))
        return false;
    fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    done = fsync(fd) == 0;
    close(fd);
    return done;
}

static bool write_new(const char *path, const char *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool done;

    if (fd < 0)
        return false;
    done = file_write_at(fd, bytes, len, 0) && fsync(fd) == 0;
    return close(fd) == 0 && done;
}

static enum err_code make_master(const char *path, struct master *m, struct err *err)
{
    char temporary[PATH_MAX];
    enum err_code code = ERR_OK;
    uint64_t salt;

    randombytes_buf(&salt, sizeof(salt));
    if (snprintf(temporary, sizeof(temporary), "%s.%016llx", path, (unsigned long long)salt) >= (int)sizeof(temporary))
        return err_set(err, ERR_INVALID_VALUE, "master_key_file", "the path is too long");
    crypto_kdf_keygen(m->key);
    (void)sodium_bin2hex(m->file, sizeof(m->file), m->key, MASTER);
    m->file[MASTER_HEX] = '\n';
    if (!write_new(temporary, m->file, MASTER_HEX + 1))
        code = fail(err, path, "cannot be made");
    else if (link(temporary, path) != 0)
        code = errno == EEXIST ? ERR_CONFLICT : fail(err, path, "cannot be made");
    (void)unlink(temporary);
    if (code == ERR_CONFLICT) { /* another process made one meanwhile: that one counts */
        code = read_master(path, m, err);
        return code == ERR_NOT_FOUND ? fail(err, path, "cannot be made") : code;
    }
    if (code == ERR_OK && !sync_directory_of(path))
        code = fail(err, path, "its directory cannot be synced");
    if (code == ERR_OK)
        LOG(LOG_MASTER_KEY_MADE, LOG_F_STR("path", path));
    return code;
}

static void derive(const struct master *m, struct secrets *s)
{
    for (unsigned kind = 0; kind < KINDS; kind++)
        (void)crypto_kdf_derive_from_key(s->digest[kind], sizeof(s->digest[kind]), kind + 1, "tgdigest", m->key);
    (void)crypto_kdf_derive_from_key(s->seal, sizeof(s->seal), 1, "tgsealed", m->key);
    (void)crypto_kdf_derive_from_key(s->local, sizeof(s->local), 1, "tglocal_", m->key);
}

/* Where the key is: the configured file, else systemd's credential when there is one, else the fallback. */
static const char *choose_path(const char *path, const char *fallback, char credential[PATH_MAX])
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");

    if (path != NULL && path[0] != '\0')
        return path;
    if (dir != NULL && dir[0] != '\0' && snprintf(credential, PATH_MAX, "%s/master-key", dir) < PATH_MAX &&
        access(credential, F_OK) == 0)
        return credential;
    return fallback;
}

enum err_code secret_open(const char *path, const char *fallback, struct secrets **out, struct err *err)
{
    char credential[PATH_MAX];
    const char *file = choose_path(path, fallback, credential);
    struct master *m = secret_alloc(sizeof(*m));
    enum err_code code = read_master(file, m, err);

    if (code == ERR_NOT_FOUND)
        code = make_master(file, m, err);
    if (code == ERR_OK) {
        *out = secret_alloc(sizeof(**out));
        derive(m, *out);
        (void)sodium_mprotect_readonly(*out);
    }
    secret_free(m);
    return code;
}

void secret_close(struct secrets *s)
{
    secret_free(s);
}
