/* test_gate_catalog.c - the catalog's indexes through changes, and callers found in it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "daemon/gate/auth.h"
#include "daemon/gate/keyring.h"
#include "gate_fixture.h"

static struct secrets *secrets;

static int start(void **state)
{
    (void)state;
    secrets = fixture_secrets();
    model_init();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    secret_close(secrets);
    return 0;
}

static void apply(struct catalog *c, void *record)
{
    if (((struct record *)record)->kind == RECORD_KEY)
        (void)fixture_credential(record);
    catalog_apply(c, record);
}

static void test_keys(void **state)
{
    enum { KEYS = 300 };
    struct catalog *c = catalog_create();
    struct api_key *keys[KEYS];

    (void)state;
    for (int i = 0; i < KEYS; i++) {
        keys[i] = record_ref(fixture_key(i + 1, 1, secrets, i % 2 == 0, NULL));
        apply(c, keys[i]);
    }
    for (int i = 0; i < KEYS; i++) {
        assert_ptr_equal(catalog_key_by_digest(c, keys[i]->digest, NOW), keys[i]->credential);
        assert_null(catalog_by_row(c, RECORD_TENANT, i + 1));
    }
    for (int i = 0; i < KEYS; i += 2) { /* every other one is revoked */
        struct api_key *gone = fixture_key(i + 1, 1, secrets, true, NULL);

        gone->super.id = keys[i]->super.id;
        gone->super.status = RECORD_REVOKED;
        gone->super.version = 2;
        catalog_apply(c, &gone->super); /* has no credential */
    }
    for (int i = 0; i < KEYS; i++) {
        assert_ptr_equal(catalog_key_by_digest(c, keys[i]->digest, NOW), i % 2 == 0 ? NULL : keys[i]->credential);
        record_unref(keys[i]);
    }
    catalog_destroy(c);
}

static void test_new_secret(void **state)
{
    struct catalog *c = catalog_create();
    struct api_key *a = record_ref(fixture_key(1, 1, secrets, false, NULL));
    struct api_key *b = record_ref(fixture_key(1, 1, secrets, false, NULL));

    (void)state;
    b->super.id = a->super.id;
    b->super.version = 2;
    apply(c, a);
    atomic_store(&a->credential->used_at, NOW - 1);
    apply(c, b);
    assert_null(catalog_key_by_digest(c, a->digest, NOW));
    assert_ptr_equal(catalog_key_by_digest(c, b->digest, NOW), b->credential);
    assert_int_equal(atomic_load(&b->credential->used_at), NOW - 1); /* it is the same key */
    apply(c, record_ref(a));                                         /* older than what is there: dropped */
    assert_ptr_equal(catalog_key_by_digest(c, b->digest, NOW), b->credential);
    assert_null(catalog_key_by_digest(c, a->digest, NOW));
    record_unref(a);
    record_unref(b);
    catalog_destroy(c);
}

/* A key of version <version> with <secret>'s digest; with <old> that one's works, too, until <until>. */
static struct api_key *rotated(const struct api_key *secret, int64_t version, const struct api_key *old, int64_t until)
{
    struct api_key *k = fixture_record(RECORD_KEY, 1, 0);

    k->super.id = secret->super.id;
    k->super.version = version;
    k->tenant_row = 1;
    memcpy(k->digest, secret->digest, sizeof(k->digest));
    if (old != NULL) {
        memcpy(k->old_digest, old->digest, sizeof(k->old_digest));
        k->old_until = until;
    }
    return k;
}

static int64_t version_found(const struct catalog *c, const struct api_key *secret, int64_t now)
{
    const struct credential *found = catalog_key_by_digest(c, secret->digest, now);

    return found != NULL ? found->version : 0;
}

static void test_rotation(void **state)
{
    struct catalog *c = catalog_create();
    struct api_key *secrets_of[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        secrets_of[i] = fixture_key(1, 1, secrets, false, NULL);
    apply(c, rotated(secrets_of[0], 1, NULL, 0));
    apply(c, rotated(secrets_of[1], 2, secrets_of[0], NOW + 5));
    assert_int_equal(version_found(c, secrets_of[0], NOW), 2);
    assert_int_equal(version_found(c, secrets_of[0], NOW + 4), 2);
    assert_int_equal(version_found(c, secrets_of[0], NOW + 5), 0);
    assert_int_equal(version_found(c, secrets_of[1], NOW + 5), 2);
    apply(c, rotated(secrets_of[2], 3, secrets_of[1], NOW + 5)); /* again, within the grace */
    assert_int_equal(version_found(c, secrets_of[0], NOW), 0);
    assert_int_equal(version_found(c, secrets_of[1], NOW), 3);
    assert_int_equal(version_found(c, secrets_of[2], NOW), 3);
    apply(c, rotated(secrets_of[2], 4, NULL, 0)); /* the grace is cut short */
    assert_int_equal(version_found(c, secrets_of[1], NOW), 0);
    assert_int_equal(version_found(c, secrets_of[2], NOW), 4);
    for (int i = 0; i < 3; i++)
        record_unref(secrets_of[i]);
    catalog_destroy(c);
}

/* Any order of coming, changing its secret and going leaves an index that finds what is there and nothing else. */
static void test_keyring(void **state)
{
    enum { ROWS = 500, STEPS = 20000 };
    static uint8_t digests[ROWS + 1][SECRET_DIGEST];
    static bool there[ROWS + 1];
    struct keyring k;
    uint64_t dice = 7;

    (void)state;
    keyring_init(&k);
    for (int step = 0; step < STEPS; step++) {
        struct api_key key = {.super = {.version = 1}};
        int row = 1 + (int)((dice = dice * UINT64_C(6364136223846793005) + 1) >> 33) % ROWS;

        keyring_remove(&k, row);
        there[row] = (dice >> 60) % 3 != 0;
        if (there[row]) {
            secret_random(digests[row], SECRET_DIGEST);
            digests[row][0] &= 7; /* many want the same slot */
            memset(digests[row] + 1, 0, 7);
            memcpy(key.digest, digests[row], SECRET_DIGEST);
            key.super.row = row;
            keyring_put(&k, credential_create(&key));
        }
        if (step % 1000 != 999)
            continue;
        for (int i = 1; i <= ROWS; i++) {
            const struct credential *found = keyring_find(&k, digests[i], NOW);

            assert_int_equal(found != NULL ? found->row : 0, there[i] ? i : 0);
            assert_ptr_equal(keyring_by_row(&k, i), found);
        }
    }
    keyring_dispose(&k);
    assert_null(keyring_find(&k, digests[1], NOW));
}

static void test_tokens(void **state)
{
    struct catalog *c = catalog_create();
    struct admin_token *t = record_ref(fixture_record(RECORD_ADMIN_TOKEN, 1, 0));
    struct admin_token *gone = fixture_record(RECORD_ADMIN_TOKEN, 1, 0);
    char text[SECRET_KEY_TEXT];

    (void)state;
    secret_make_key(secrets, SECRET_ADMIN_TOKEN, text, t->digest);
    apply(c, t);
    assert_ptr_equal(catalog_token_by_digest(c, t->digest), t);
    assert_null(catalog_key_by_digest(c, t->digest, NOW));
    gone->super.id = t->super.id;
    gone->super.version = 2;
    gone->super.status = RECORD_DELETED;
    apply(c, gone);
    assert_null(catalog_token_by_digest(c, t->digest));
    record_unref(t);
    catalog_destroy(c);
}

static void test_channels(void **state)
{
    static const int64_t priorities[] = {0, 5, -1, 5, 9};
    static const int64_t order[] = {5, 2, 4, 1, 3};
    struct catalog *c = catalog_create();
    const struct channel *ch;
    struct channel *off;
    size_t pos = 0;

    (void)state;
    for (int i = 0; i < 5; i++)
        apply(c, fixture_channel(i + 1, priorities[i], "m"));
    for (int i = 0; i < 5; i++)
        assert_int_equal(catalog_next_channel(c, &pos)->super.row, order[i]);
    assert_null(catalog_next_channel(c, &pos));
    off = fixture_channel(2, 5, "m");
    off->super.id = ((const struct record *)catalog_by_row(c, RECORD_CHANNEL, 2))->id;
    off->super.version = 2;
    off->super.status = RECORD_DISABLED;
    apply(c, off);
    pos = 0;
    assert_int_equal(catalog_next_channel(c, &pos)->super.row, 5);
    assert_int_equal(catalog_next_channel(c, &pos)->super.row, 4);
    pos = 1;
    assert_int_equal(catalog_next_any_channel(c, &pos)->super.row, 2);
    ch = catalog_by_row(c, RECORD_CHANNEL, 1);
    assert_string_equal(channel_upstream_model(ch, SLICE("m")), "up-m");
    assert_null(channel_upstream_model(ch, SLICE("mm")));
    assert_true(channel_serves_tenant(ch, 7));
    catalog_destroy(c);
}

static void test_books(void **state)
{
    struct catalog *c = catalog_create();
    struct book *list = fixture_book(3, "openai-list", fixture_image_price("m", 1));
    struct book *newer = fixture_book(3, "openai-list", fixture_image_price("m", 2));

    (void)state;
    assert_null(catalog_book(c, 0));
    apply(c, fixture_book(4, "mine", fixture_image_price("m", 1)));
    apply(c, list);
    assert_ptr_equal(catalog_book(c, 0), list->prices);
    assert_ptr_equal(catalog_book(c, 3), list->prices);
    assert_null(catalog_book(c, 5));
    newer->super.id = list->super.id;
    newer->super.version = 2;
    apply(c, newer);
    assert_ptr_equal(catalog_book(c, 0), newer->prices);
    assert_int_equal(catalog_book(c, 4)->row, 4);
    catalog_destroy(c);
}

static void test_policies(void **state)
{
    struct catalog *c = catalog_create();
    struct tenant *t = fixture_tenant(1);
    struct tenant *without = fixture_tenant(1);

    (void)state;
    t->policy = mem_strdup("{\"max_n\":1}");
    without->super.id = t->super.id;
    without->super.version = 2;
    apply(c, t);
    assert_non_null(catalog_policy(c, RECORD_TENANT, 1));
    assert_null(catalog_policy(c, RECORD_KEY, 1));
    apply(c, without);
    assert_null(catalog_policy(c, RECORD_TENANT, 1));
    catalog_destroy(c);
}

/* ---- callers ---- */

/* A catalog with tenant 1, customer 2 and one key; <text> gets "Bearer KEY". */
struct scene {
    struct catalog *c;
    struct tenant *tenant;
    struct customer *customer;
    struct api_key *key;
    char text[SECRET_KEY_TEXT];
    char header[SECRET_KEY_TEXT + 8];
};

static void scene_init(struct scene *s)
{
    s->c = catalog_create();
    s->tenant = fixture_tenant(1);
    s->customer = fixture_customer(2, 1);
    s->key = fixture_key(3, 1, secrets, false, s->text);
    s->key->customer_row = 2;
    (void)snprintf(s->header, sizeof(s->header), "Bearer %s", s->text);
}

static void scene_apply(struct scene *s)
{
    apply(s->c, s->tenant);
    apply(s->c, s->customer);
    apply(s->c, record_ref(s->key));
}

static void scene_dispose(struct scene *s)
{
    catalog_destroy(s->c);
    record_unref(s->key);
}

static enum err_code ask(const struct scene *s, const char *header, int count, const char *peer, struct err *err)
{
    struct caller caller;
    enum err_code code = auth_caller(s->c, secrets, slice_from(header), count, peer, NOW, &caller, err);

    assert_int_equal(code == ERR_OK, caller.key != NULL);
    if (code == ERR_OK) {
        assert_ptr_equal(caller.key, s->key->credential);
        assert_ptr_equal(caller.tenant, s->tenant);
        assert_ptr_equal(caller.customer, s->key->customer_row != 0 ? s->customer : NULL);
    }
    caller_dispose(&caller);
    assert_null(caller.key);
    return code;
}

static void test_headers(void **state)
{
    static const char *const none[] = {"",          "Basic dXNlcjpwYXNz", "Bearer",    "Bearer ",
                                       "bearer   ", "Token sk-tg-x",      "sk-tg-abc", " "};
    struct scene s;
    struct err err = {0};
    char header[SECRET_KEY_TEXT + 16];

    (void)state;
    scene_init(&s);
    scene_apply(&s);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
        assert_int_equal(ask(&s, none[i], none[i][0] != '\0', "127.0.0.1", &err), ERR_NO_KEY);
    assert_true(strncmp(err.message,
                        "You didn't provide an API key. You need to provide your API key in an Authorization "
                        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY)",
                        140) == 0);
    assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_OK);
    (void)snprintf(header, sizeof(header), " bEARER   %s ", s.text);
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_OK);
    assert_int_equal(ask(&s, s.header, 2, "127.0.0.1", &err), ERR_BAD_KEY);
    assert_int_equal(err_http_status(ERR_NO_KEY), 401);
    scene_dispose(&s);
}

static void test_bad_keys(void **state)
{
    struct scene s;
    struct err err = {0};
    char header[SECRET_KEY_TEXT + 16], other[SECRET_KEY_TEXT], expected[256];
    uint8_t digest[SECRET_DIGEST];

    (void)state;
    scene_init(&s);
    scene_apply(&s);
    memcpy(header, s.header, sizeof(s.header));
    header[20] = header[20] == 'a' ? 'b' : 'a'; /* the checksum fails */
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
    (void)snprintf(expected, sizeof(expected),
                   "Incorrect API key provided: sk-tg-...%s. You can find your API key in your provider's dashboard.",
                   header + strlen(header) - 4);
    assert_string_equal(err.message, expected);
    assert_int_equal(ask(&s, "Bearer sk-proj-1234567890", 1, "127.0.0.1", &err), ERR_BAD_KEY);
    assert_null(strstr(err.message, "123456"));
    secret_make_key(secrets, SECRET_API_KEY, other, digest); /* well-formed, unknown */
    (void)snprintf(header, sizeof(header), "Bearer %s", other);
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
    secret_make_key(secrets, SECRET_ADMIN_TOKEN, other, digest);
    (void)snprintf(header, sizeof(header), "Bearer %s", other);
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
    scene_dispose(&s);
}

enum change {
    EXPIRED,
    EXPIRES_NOW,
    EXPIRES_LATER,
    DISABLED,
    REVOKED,
    TENANT_SUSPENDED,
    CUSTOMER_SUSPENDED,
    TENANT_GONE,
    CUSTOMER_GONE,
    OTHERS_CUSTOMER,
    CHANGES
};

static void change_scene(struct scene *s, enum change change)
{
    switch (change) {
    case EXPIRED:
        s->key->expires_at = NOW - 1;
        break;
    case EXPIRES_NOW:
        s->key->expires_at = NOW;
        break;
    case EXPIRES_LATER:
        s->key->expires_at = NOW + 1;
        break;
    case DISABLED:
        s->key->super.status = RECORD_DISABLED;
        break;
    case REVOKED:
        s->key->super.status = RECORD_REVOKED;
        break;
    case TENANT_SUSPENDED:
        s->tenant->super.status = RECORD_SUSPENDED;
        break;
    case CUSTOMER_SUSPENDED:
        s->customer->super.status = RECORD_SUSPENDED;
        break;
    case TENANT_GONE:
        s->tenant->super.status = RECORD_DELETED;
        break;
    case CUSTOMER_GONE:
        s->customer->super.status = RECORD_DELETED;
        break;
    case OTHERS_CUSTOMER:
        s->customer->tenant_row = 9;
        break;
    case CHANGES:
        break;
    }
}

static void test_lives(void **state)
{
    static const enum err_code expected[CHANGES] = {
        [EXPIRED] = ERR_BAD_KEY,
        [EXPIRES_NOW] = ERR_BAD_KEY,
        [EXPIRES_LATER] = ERR_OK,
        [DISABLED] = ERR_BAD_KEY,
        [REVOKED] = ERR_BAD_KEY,
        [TENANT_SUSPENDED] = ERR_ACCOUNT_SUSPENDED,
        [CUSTOMER_SUSPENDED] = ERR_ACCOUNT_SUSPENDED,
        [TENANT_GONE] = ERR_BAD_KEY,
        [CUSTOMER_GONE] = ERR_BAD_KEY,
        [OTHERS_CUSTOMER] = ERR_BAD_KEY,
    };
    char unknown[LIMIT_ERROR_MESSAGE] = "";

    (void)state;
    for (int i = 0; i < CHANGES; i++) {
        struct scene s;
        struct err err = {0};

        scene_init(&s);
        change_scene(&s, (enum change)i);
        if (expected[i] == ERR_BAD_KEY) { /* what the same text gets where nobody knows it */
            struct catalog *full = s.c;

            s.c = catalog_create();
            assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
            memcpy(unknown, err.message, sizeof(unknown));
            catalog_destroy(s.c);
            s.c = full;
        }
        scene_apply(&s);
        assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), expected[i]);
        if (expected[i] == ERR_BAD_KEY)
            assert_string_equal(err.message, unknown);
        scene_dispose(&s);
    }
}

static void test_addresses(void **state)
{
    (void)state;
    for (int who = 0; who < 3; who++) {
        struct scene s;
        struct err err = {0};
        char **policy;

        scene_init(&s);
        policy = who == 0 ? &s.key->policy : who == 1 ? &s.customer->policy : &s.tenant->policy;
        *policy = mem_strdup("{\"ip_allow\":[\"192.0.2.0/24\"]}");
        scene_apply(&s);
        assert_int_equal(ask(&s, s.header, 1, "192.0.2.1", &err), ERR_OK);
        assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_IP_NOT_AUTHORIZED);
        assert_int_equal(ask(&s, s.header, 1, "unix", &err), ERR_IP_NOT_AUTHORIZED);
        scene_dispose(&s);
    }
}

/* A caller keeps what it has although the catalog has moved on. */
static void test_references(void **state)
{
    struct scene s;
    struct caller caller;
    struct tenant *newer = fixture_tenant(1);

    (void)state;
    scene_init(&s);
    s.key->customer_row = 0;
    s.tenant->policy = mem_strdup("{\"models\":[\"m\"]}");
    newer->super.id = s.tenant->super.id;
    newer->super.version = 2;
    scene_apply(&s);
    assert_int_equal(auth_caller(s.c, secrets, slice_from(s.header), 1, "::1", NOW, &caller, NULL), ERR_OK);
    assert_null(caller.customer);
    apply(s.c, newer);
    scene_dispose(&s);
    assert_int_equal(caller.tenant->super.version, 1);
    assert_false(policy_allows_model(caller.policies[2], SLICE("x")));
    caller_dispose(&caller);
}

/* The secret before the last rotation, once its grace is over, answers exactly like an unknown one. */
static void test_grace(void **state)
{
    struct scene s;
    struct err err = {0};
    char unknown[LIMIT_ERROR_MESSAGE], fresh[SECRET_KEY_TEXT], header[SECRET_KEY_TEXT + 8];

    (void)state;
    scene_init(&s);
    assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
    memcpy(unknown, err.message, sizeof(unknown));
    memcpy(s.key->old_digest, s.key->digest, SECRET_DIGEST);
    secret_make_key(secrets, SECRET_API_KEY, fresh, s.key->digest);
    (void)snprintf(header, sizeof(header), "Bearer %s", fresh);
    s.key->old_until = NOW + 1;
    scene_apply(&s);
    assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_OK);
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_OK);
    s.key->old_until = NOW;
    apply(s.c, record_ref(s.key));
    assert_int_equal(ask(&s, header, 1, "127.0.0.1", &err), ERR_OK);
    assert_int_equal(ask(&s, s.header, 1, "127.0.0.1", &err), ERR_BAD_KEY);
    assert_string_equal(err.message, unknown);
    scene_dispose(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),      cmocka_unit_test(test_new_secret), cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_channels),  cmocka_unit_test(test_books),      cmocka_unit_test(test_policies),
        cmocka_unit_test(test_headers),   cmocka_unit_test(test_bad_keys),   cmocka_unit_test(test_lives),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_references), cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_keyring),   cmocka_unit_test(test_grace),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
