/* test_base_secret.c - keys, digests, sealing and the master key file. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/base/secret.h"

static char dir[] = "/tmp/tallygate-test-secret-XXXXXX";
static char key_file[64];

static int setup(void **state)
{
    (void)state;
    secret_init();
    log_init(LEVEL_ERROR);
    unsetenv("CREDENTIALS_DIRECTORY");
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(key_file, sizeof(key_file), "%s/master.key", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(key_file);
    return rmdir(dir);
}

static void write_file(const char *path, const void *bytes, size_t len, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct secrets *open_keys(void)
{
    struct secrets *s = NULL;
    struct err err = {0};

    if (secret_open("", key_file, &s, &err) != ERR_OK)
        fail_msg("%s", err.message);
    return s;
}

static void process_leaves_no_dump(void **state)
{
    struct rlimit limit;

    (void)state;
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    assert_int_equal(limit.rlim_cur, 0);
}

static void master_key_is_made_once(void **state)
{
    struct secrets *a, *b;
    char left[SECRET_KEY_TEXT], right[SECRET_KEY_TEXT];
    struct stat st;

    (void)state;
    unlink(key_file);
    a = open_keys();
    assert_int_equal(stat(key_file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 65);
    assert_int_equal(st.st_nlink, 1); /* the file it was written to first is gone */
    b = open_keys();
    secret_local_token(a, left);
    secret_local_token(b, right);
    assert_string_equal(left, right);
    secret_close(a);
    secret_close(b);
}

/* Many processes at a first start agree on one key. */
static void master_key_is_made_by_one_of_many(void **state)
{
    enum { MANY = 12 };
    int pipes[2];
    char first[SECRET_KEY_TEXT] = "", token[SECRET_KEY_TEXT];

    (void)state;
    unlink(key_file);
    assert_int_equal(pipe(pipes), 0);
    for (int i = 0; i < MANY; i++) {
        if (fork() == 0) {
            struct secrets *s = NULL;

            memset(token, 0, sizeof(token));
            if (secret_open(key_file, "", &s, NULL) == ERR_OK)
                secret_local_token(s, token);
            _exit(write(pipes[1], token, sizeof(token)) != sizeof(token));
        }
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(read(pipes[0], token, sizeof(token)), sizeof(token));
        assert_true(token[0] != '\0');
        if (i == 0)
            memcpy(first, token, sizeof(first));
        assert_string_equal(token, first);
    }
    while (wait(NULL) > 0)
        continue;
    close(pipes[0]);
    close(pipes[1]);
}

static void master_key_may_be_raw_or_hex(void **state)
{
    static const char hex[] = "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f\r\n";
    uint8_t raw[32];
    char left[SECRET_KEY_TEXT], right[SECRET_KEY_TEXT];
    struct secrets *s;

    (void)state;
    for (int i = 0; i < 32; i++)
        raw[i] = (uint8_t)i;
    write_file(key_file, raw, sizeof(raw), 0600);
    s = open_keys();
    secret_local_token(s, left);
    secret_close(s);
    for (size_t cut = 0; cut <= 2; cut++) {
        write_file(key_file, hex, sizeof(hex) - 1 - cut, 0400);
        s = open_keys();
        secret_local_token(s, right);
        secret_close(s);
        assert_string_equal(left, right);
    }
}

static void bad_master_keys_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "short", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f00",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"};
    struct secrets *s = NULL;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        write_file(key_file, bad[i], strlen(bad[i]), 0600);
        assert_int_equal(secret_open(key_file, "", &s, &err), ERR_INVALID_VALUE);
    }
    assert_int_equal(secret_open(dir, "", &s, &err), ERR_INVALID_VALUE); /* a directory */
    assert_int_equal(secret_open("/nonexistent/dir/key", "", &s, &err), ERR_INTERNAL);
    assert_null(s);
}

static void a_file_that_others_may_read_is_refused(void **state)
{
    char credential[80];
    struct secrets *s = NULL;
    struct err err;

    (void)state;
    (void)snprintf(credential, sizeof(credential), "%s/master-key", dir);
    write_file(credential, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 64, 0440);
    assert_int_equal(secret_open(credential, "", &s, &err), ERR_INVALID_VALUE);
    assert_non_null(strstr(err.message, "0440"));
    setenv("CREDENTIALS_DIRECTORY", dir, 1); /* there systemd keeps others out by the directory */
    assert_int_equal(secret_open("", "/nonexistent", &s, &err), ERR_OK);
    secret_close(s);
    unlink(credential);
    unlink(key_file);
    s = open_keys(); /* the directory is there but holds no such credential: the fallback */
    secret_close(s);
    assert_int_equal(access(key_file, F_OK), 0);
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void keys_have_their_form(void **state)
{
    static const struct {
        enum secret_kind kind;
        const char *prefix;
    } kinds[] = {{SECRET_API_KEY, "sk-tg-"}, {SECRET_API_KEY_TEST, "sk-tg-test-"}, {SECRET_ADMIN_TOKEN, "ta-"}};
    struct secrets *s = open_keys();
    char text[SECRET_KEY_TEXT];
    uint8_t digest[SECRET_DIGEST], again[SECRET_DIGEST];
    enum secret_kind kind;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(kinds[i].prefix) + 49;

        secret_make_key(s, kinds[i].kind, text, digest);
        assert_int_equal(strlen(text), len);
        assert_memory_equal(text, kinds[i].prefix, strlen(kinds[i].prefix));
        assert_true(secret_check_key(slice_from(text), &kind));
        assert_int_equal(kind, kinds[i].kind);
        secret_digest_key(s, kind, slice_from(text), again);
        assert_true(secret_equal(digest, again, SECRET_DIGEST));
        for (size_t at = 0; at < len; at++) { /* any other character anywhere breaks it */
            char was = text[at];

            text[at] = was == 'q' ? 'r' : 'q';
            assert_false(secret_check_key(slice_from(text), &kind));
            text[at] = was;
        }
        assert_false(secret_check_key((struct slice){text, len - 1}, &kind));
    }
    assert_false(secret_check_key(SLICE_NONE, &kind));
    secret_close(s);
}

/* The checksum against a value made by another implementation of CRC-32 and base62. */
static void checksum_is_crc32_ieee(void **state)
{
    enum secret_kind kind;

    (void)state;
    assert_true(secret_check_key(SLICE("sk-tg-00000000000000000000000000000000000000000004JadvH"), &kind));
    assert_int_equal(kind, SECRET_API_KEY);
    assert_true(secret_check_key(SLICE("ta-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg1SGU2z"), &kind));
    assert_int_equal(kind, SECRET_ADMIN_TOKEN);
}

static void digests_of_kinds_and_masters_differ(void **state)
{
    struct secrets *a, *b;
    uint8_t d[4][SECRET_DIGEST];

    (void)state;
    a = open_keys();
    unlink(key_file);
    b = open_keys();
    secret_digest_key(a, SECRET_API_KEY, SLICE("x"), d[0]);
    secret_digest_key(a, SECRET_API_KEY_TEST, SLICE("x"), d[1]);
    secret_digest_key(a, SECRET_ADMIN_TOKEN, SLICE("x"), d[2]);
    secret_digest_key(b, SECRET_API_KEY, SLICE("x"), d[3]);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++)
            assert_false(secret_equal(d[i], d[j], SECRET_DIGEST));
    }
    secret_close(a);
    secret_close(b);
}

static void sealing_binds_to_the_row(void **state)
{
    struct secrets *s = open_keys();
    struct id here = id_make(), there = id_make();
    static const uint8_t plain[] = "sk-upstream-credential";
    uint8_t sealed[sizeof(plain) + SECRET_SEAL_EXTRA], other[sizeof(sealed)], out[sizeof(plain)];

    (void)state;
    secret_seal(s, here, plain, sizeof(plain), sealed);
    secret_seal(s, here, plain, sizeof(plain), other);
    assert_memory_not_equal(sealed, other, sizeof(sealed)); /* a fresh nonce each time */
    assert_true(secret_unseal(s, here, sealed, sizeof(sealed), out));
    assert_memory_equal(out, plain, sizeof(plain));
    assert_false(secret_unseal(s, there, sealed, sizeof(sealed), out));
    for (size_t i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 1;
        assert_false(secret_unseal(s, here, sealed, sizeof(sealed), out));
        sealed[i] ^= 1;
    }
    for (size_t len = 0; len < sizeof(sealed); len++)
        assert_false(secret_unseal(s, here, sealed, len, out));
    secret_seal(s, here, plain, 0, sealed);
    assert_true(secret_unseal(s, here, sealed, SECRET_SEAL_EXTRA, out));
    secret_close(s);
}

static void local_token_is_a_token(void **state)
{
    struct secrets *s = open_keys();
    char text[SECRET_KEY_TEXT];
    enum secret_kind kind;

    (void)state;
    secret_local_token(s, text);
    assert_true(secret_check_key(slice_from(text), &kind));
    assert_int_equal(kind, SECRET_ADMIN_TOKEN);
    secret_close(s);
}

static void masks_show_little(void **state)
{
    char out[SECRET_KEY_TEXT];
    char long_text[4096];

    (void)state;
    assert_string_equal(secret_mask_key(SLICE("sk-tg-abcdefghijklmnopqrstuvwxyz9x2Q"), out), "sk-tg-...9x2Q");
    assert_string_equal(secret_mask_key(SLICE("sk-tg-test-abcdefghijklmnopqrs9x2Q"), out), "sk-tg-test-...9x2Q");
    assert_string_equal(secret_mask_key(SLICE("ta-abcdefghijklmnopqrs9x2Q"), out), "ta-...9x2Q");
    assert_string_equal(secret_mask_key(SLICE("sk-proj-abcdefghijklmnopqrs9900"), out), "sk-...9900");
    assert_string_equal(secret_mask_key(SLICE("hunter2"), out), "...");
    assert_string_equal(secret_mask_key(SLICE("sk-tg-"), out), "sk-tg-...");
    assert_string_equal(secret_mask_key(SLICE_NONE, out), "...");
    assert_string_equal(secret_mask_key(SLICE("0123456789abcdef\x1b\xff z"), out), "...???z");
    memset(long_text, 'x', sizeof(long_text));
    assert_string_equal(secret_mask_key((struct slice){long_text, sizeof(long_text)}, out), "...xxxx");
}

static void small_things(void **state)
{
    uint8_t a[SECRET_DIGEST], b[SECRET_DIGEST], zero[SECRET_DIGEST] = {0};
    /* BLAKE2b-256 of nothing, as published */
    static const uint8_t empty[] = {0x0e, 0x57, 0x51, 0xc0, 0x26, 0xe5, 0x43, 0xb2, 0xe8, 0xab, 0x2e,
                                    0xb0, 0x60, 0x99, 0xda, 0xa1, 0xd1, 0xe5, 0xdf, 0x47, 0x77, 0x8f,
                                    0x77, 0x87, 0xfa, 0xab, 0x45, 0xcd, 0xf1, 0x2f, 0xe3, 0xa8};
    char *p = secret_alloc(21);

    (void)state;
    memset(p, 'x', 21);
    assert_int_equal((uintptr_t)p % 16, 0);
    secret_free(p);
    secret_free(NULL);
    secret_fingerprint("", 0, a);
    assert_memory_equal(a, empty, sizeof(empty));
    secret_random(a, sizeof(a));
    secret_random(b, sizeof(b));
    assert_memory_not_equal(a, b, sizeof(a));
    secret_wipe(a, sizeof(a));
    assert_memory_equal(a, zero, sizeof(a));
    assert_true(secret_hash64("abc", 3) == secret_hash64("abc", 3));
    assert_true(secret_hash64("abc", 3) != secret_hash64("abd", 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(process_leaves_no_dump),
        cmocka_unit_test(master_key_is_made_once),
        cmocka_unit_test(master_key_is_made_by_one_of_many),
        cmocka_unit_test(master_key_may_be_raw_or_hex),
        cmocka_unit_test(bad_master_keys_are_refused),
        cmocka_unit_test(a_file_that_others_may_read_is_refused),
        cmocka_unit_test(keys_have_their_form),
        cmocka_unit_test(checksum_is_crc32_ieee),
        cmocka_unit_test(digests_of_kinds_and_masters_differ),
        cmocka_unit_test(sealing_binds_to_the_row),
        cmocka_unit_test(local_token_is_a_token),
        cmocka_unit_test(masks_show_little),
        cmocka_unit_test(small_things),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
