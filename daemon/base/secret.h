/* secret.h - everything that touches libsodium: the master key, API keys, sealed credentials.
 *
 * The master key (32 bytes) never leaves this file; keys for each use are derived from it by crypto_kdf with a context
 * of their own: digests of API keys (keyed BLAKE2b, so that a stolen database can not even test guesses), digests of
 * admin tokens, sealing (XChaCha20-Poly1305 with the row's id as associated data, so that rows cannot be swapped), and
 * the local administrator's token. All of it is mlocked and wiped at dispose. After secret_open any thread may use it.
 */
#ifndef TG_BASE_SECRET_H
#define TG_BASE_SECRET_H

#include "err.h"
#include "id.h"

enum {
    SECRET_DIGEST = 32,    /* bytes of a digest */
    SECRET_KEY_TEXT = 80,  /* bytes for a key's or token's text, with the NUL */
    SECRET_SEAL_EXTRA = 40 /* bytes that sealing adds: nonce 24, tag 16 */
};

enum secret_kind { SECRET_API_KEY = 0, SECRET_API_KEY_TEST, SECRET_ADMIN_TOKEN };

struct secrets; /* the derived keys, in guarded memory */

/* Once a process, before anything else here; makes the process undumpable. */
void secret_init(void);

/* Reads the master key (32 raw bytes or 64 hex digits) from <path>; an empty path means
 * $CREDENTIALS_DIRECTORY/master-key, else <fallback>. A missing file is made (0600, random) when its directory is
 * writable. Refuses a file that others may read. */
TG_MUSTCHECK enum err_code secret_open(const char *path, const char *fallback, struct secrets **out, struct err *err);
void secret_close(struct secrets *s);

/* Makes a new key text "sk-tg-...", "sk-tg-test-..." or "ta-..." (43 base62 of 32 random bytes, 6 of CRC-32 IEEE over
 * all before) and its digest. The caller wipes <text> with secret_wipe when it was shown. */
void secret_make_key(const struct secrets *s, enum secret_kind kind, char text[SECRET_KEY_TEXT],
                     uint8_t digest[SECRET_DIGEST]);

/* Form and checksum only: no secret, no look-up. Tells the kind. */
bool secret_check_key(struct slice text, enum secret_kind *kind);

/* The digest under which a key or token is stored and looked up. */
void secret_digest_key(const struct secrets *s, enum secret_kind kind, struct slice text,
                       uint8_t digest[SECRET_DIGEST]);

/* "sk-tg-...9x2Q": how a key may be shown in messages and logs. <out> holds SECRET_KEY_TEXT bytes. */
const char *secret_mask_key(struct slice text, char out[SECRET_KEY_TEXT]);

/* The token with which the same user's command line talks to a running daemon: derived from the master key alone. */
void secret_local_token(const struct secrets *s, char text[SECRET_KEY_TEXT]);

/* <out> gets len + SECRET_SEAL_EXTRA bytes. */
void secret_seal(const struct secrets *s, struct id bound_to, const uint8_t *plain, size_t len, uint8_t *out);

/* <out> gets len - SECRET_SEAL_EXTRA bytes; false when it was altered or bound to another id. */
bool secret_unseal(const struct secrets *s, struct id bound_to, const uint8_t *sealed, size_t len, uint8_t *out);

/* Guarded, locked memory for a long-lived secret; NULL-safe free wipes. */
void *secret_alloc(size_t size);
void secret_free(void *p);
void secret_wipe(void *p, size_t len);
bool secret_equal(const void *a, const void *b, size_t len); /* constant time */

/* Keyed by a key of this process, for tables whose keys strangers choose. */
uint64_t secret_hash64(const void *bytes, size_t len);

/* Unkeyed 32-byte BLAKE2b: fingerprints, checksums of migrations. */
void secret_fingerprint(const void *bytes, size_t len, uint8_t out[SECRET_DIGEST]);

/* The same of bytes that come in pieces. */
struct secret_hash;
struct secret_hash *secret_hash_create(void);
void secret_hash_add(struct secret_hash *h, struct slice bytes);
void secret_hash_finish(struct secret_hash *h, uint8_t out[SECRET_DIGEST]); /* of all so far; nothing may be added */
void secret_hash_destroy(struct secret_hash *h);                            /* NULL-safe */
void secret_random(void *out, size_t len);

#endif
