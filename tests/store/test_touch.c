/* test_touch.c - last uses as a loop notes them (daemon/gate/touch.h), down to the rows. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "daemon/base/clock.h"
#include "daemon/gate/touch.h"
#include "lib_sql.h"
#include "lib_world.h"

#define AT (INT64_C(1795507200) * CLOCK_SECOND)

static int armed;
static int64_t delay;

static void arm(void *ctx, int64_t microseconds)
{
    (void)ctx;
    armed++;
    delay = microseconds;
}

static int set_up(void **state)
{
    struct world *w = mem_zalloc(sizeof(*w));

    world_init(w);
    world_open(w);
    world_fill(w, 0, 0);
    armed = 0;
    *state = w;
    return 0;
}

static int64_t used_at(struct world *w, const char *table, int64_t row)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT coalesce(last_used_at, 0) FROM %s WHERE row = %lld", table,
                   (long long)row);
    return sql_number(w->url, sql);
}

static int64_t count_used(struct world *w)
{
    return sql_number(w->url, "SELECT count(*) FROM keys WHERE last_used_at IS NOT NULL");
}

static void make_keys(struct world *w, struct record **records, int n)
{
    struct store_put_many op = {.super = {.kind = STORE_PUT_MANY}, .n = n, .records = records};

    for (int i = 0; i < n; i++)
        records[i] = &world_key(w, "k", 0)->super;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static struct credential *credential_of(struct record *key)
{
    return ((struct api_key *)key)->credential;
}

static void a_minute_later(void **state)
{
    struct world *w = *state;
    struct touch *t = touch_create(w->store, &w->box.super, arm, NULL);
    struct record *key;

    make_keys(w, &key, 1);
    touch_key(t, credential_of(key), AT);
    assert_int_equal(armed, 1);
    assert_int_equal(delay, 10 * CLOCK_SECOND);
    touch_key(t, credential_of(key), AT + 59 * CLOCK_SECOND); /* too soon */
    touch_key(t, credential_of(key), AT - 5);
    assert_int_equal(used_at(w, "keys", key->row), 0); /* it waits */
    touch_due(t);
    box_run(&w->box);
    assert_int_equal(used_at(w, "keys", key->row), AT);
    touch_due(t); /* nothing to do */
    touch_key(t, credential_of(key), AT + 60 * CLOCK_SECOND);
    assert_int_equal(armed, 2);
    touch_due(t);
    box_run(&w->box);
    assert_int_equal(used_at(w, "keys", key->row), AT + 60 * CLOCK_SECOND);
    record_unref(key);
    touch_destroy(t);
}

/* Two loops see the same key: one of them notes it. */
static void one_of_two(void **state)
{
    struct world *w = *state;
    struct touch *a = touch_create(w->store, &w->box.super, arm, NULL);
    struct touch *b = touch_create(w->store, &w->box.super, arm, NULL);
    struct record *key;

    make_keys(w, &key, 1);
    touch_key(a, credential_of(key), AT);
    touch_key(b, credential_of(key), AT + 1);
    assert_int_equal(armed, 1);
    touch_key(NULL, credential_of(key), AT + 100 * CLOCK_SECOND); /* nobody notes */
    touch_stop(b);
    touch_stop(a);
    world_close(w);
    world_open(w);
    assert_int_equal(used_at(w, "keys", key->row), AT);
    record_unref(key);
    touch_destroy(a);
    touch_destroy(b);
}

/* A full bundle goes by itself; while both fly nothing is noted, and nothing of that is forgotten. */
static void full(void **state)
{
    enum { KEYS = 2 * STORE_TOUCHES + 10 };
    static struct record *keys[KEYS];
    struct world *w = *state;
    struct touch *t = touch_create(w->store, &w->box.super, arm, NULL);
    struct store_touch after = {.super = {.kind = STORE_TOUCH}};

    make_keys(w, keys, KEYS);
    for (int i = 0; i < KEYS; i++)
        touch_key(t, credential_of(keys[i]), AT + i);
    assert_int_equal(armed, 2);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(atomic_load(&credential_of(keys[i])->used_at), i < 2 * STORE_TOUCHES ? AT + i : 0);
    assert_int_equal(world_do(w, &after.super), ERR_OK); /* both have come back before this one */
    assert_int_equal(count_used(w), 2 * STORE_TOUCHES);
    touch_key(t, credential_of(keys[KEYS - 1]), AT);
    assert_int_equal(armed, 3);
    touch_stop(t);
    touch_key(t, credential_of(keys[KEYS - 2]), AT); /* too late */
    world_close(w);
    assert_int_equal(count_used(w), 2 * STORE_TOUCHES + 1);
    for (int i = 0; i < 2 * STORE_TOUCHES; i++)
        assert_int_equal(used_at(w, "keys", keys[i]->row), AT + i);
    for (int i = 0; i < KEYS; i++)
        record_unref(keys[i]);
    touch_destroy(t);
    world_open(w);
}

static void tokens(void **state)
{
    struct world *w = *state;
    struct touch *t = touch_create(w->store, &w->box.super, arm, NULL);
    struct admin_token *token = record_create(RECORD_ADMIN_TOKEN, 0);
    struct record *r;

    token->super.id = id_make();
    secret_random(token->digest, SECRET_DIGEST);
    assert_int_equal(world_put(w, token, &r, NULL), ERR_OK);
    token = (struct admin_token *)r;
    touch_admin_token(t, token, AT);
    touch_admin_token(t, token, AT + 1);
    touch_due(t);
    box_run(&w->box);
    assert_int_equal(used_at(w, "admin_tokens", token->super.row), AT);
    touch_admin_token(t, token, AT + 59 * CLOCK_SECOND);
    assert_int_equal(armed, 1);
    touch_admin_token(t, token, AT + 60 * CLOCK_SECOND);
    assert_int_equal(armed, 2);
    touch_stop(t);
    touch_destroy(NULL);
    world_close(w);
    assert_int_equal(sql_number(w->url, "SELECT max(last_used_at) FROM admin_tokens"), AT + 60 * CLOCK_SECOND);
    touch_destroy(t);
    world_open(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_minute_later, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(one_of_two, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(full, set_up, world_tear_down),
        cmocka_unit_test_setup_teardown(tokens, set_up, world_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
