/* test_base_numbers.c - money, clocks, ids and the hash table. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/id.h"
#include "daemon/base/money.h"
#include "daemon/base/table.h"

static void money_reads_exact_decimals(void **state)
{
    static const struct {
        const char *text;
        int digits;
        int64_t value;
    } cases[] = {
        {"0", 9, 0},
        {"-0", 9, 0},
        {"0.0", 9, 0},
        {"25.00", 9, 25000000000},
        {"-0.000000001", 9, -1},
        {"1.25", 12, 1250000000000},
        {"12.5", 4, 125000},
        {"9223372036.854775807", 9, INT64_MAX},
        {"-9223372036.854775808", 9, INT64_MIN},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"0.100", 3, 100},
    };
    int64_t value;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(money_parse(slice_from(cases[i].text), cases[i].digits, "amount", &value, NULL), ERR_OK);
        assert_true(value == cases[i].value);
    }
}

static void money_refuses_the_rest(void **state)
{
    static const char *const bad[] = {"",
                                      "-",
                                      ".",
                                      "1.",
                                      ".5",
                                      "-.5",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1e3",
                                      "1E3",
                                      "00",
                                      "01",
                                      "-01",
                                      "0x1",
                                      "1,5",
                                      "1.5.5",
                                      "--1",
                                      "NaN",
                                      "inf",
                                      "1.0000000001",
                                      "9223372036.854775808",
                                      "-9223372036.854775809",
                                      "99999999999999999999999999",
                                      "\xD9\xA1",
                                      "1\n"};
    struct err err;
    int64_t value = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(money_parse(slice_from(bad[i]), 9, "amount", &value, &err), ERR_INVALID_VALUE);
        assert_string_equal(err.param, "amount");
    }
    assert_int_equal(money_parse(SLICE("1.0"), 0, NULL, &value, &err), ERR_INVALID_VALUE);
    assert_int_equal(money_parse((struct slice){"1\0", 2}, 9, NULL, &value, &err), ERR_INVALID_VALUE);
    assert_int_equal(value, 7);
}

static void money_writes_decimals(void **state)
{
    char out[MONEY_TEXT];

    (void)state;
    assert_string_equal(money_format_nano(12340000000, out), "12.340000000");
    assert_string_equal(money_format_nano(-1, out), "-0.000000001");
    assert_string_equal(money_format_nano(0, out), "0.000000000");
    assert_string_equal(money_format_nano(INT64_MIN, out), "-9223372036.854775808");
    assert_string_equal(money_format_nano(INT64_MAX, out), "9223372036.854775807");
    assert_string_equal(money_format_scaled(125000, 4, out), "12.5");
    assert_string_equal(money_format_scaled(0, 12, out), "0");
    assert_string_equal(money_format_scaled(-30000, 4, out), "-3");
    assert_string_equal(money_format_scaled(100, 0, out), "100");
    assert_string_equal(money_format_scaled(1, 18, out), "0.000000000000000001");
    assert_string_equal(money_format_scaled(INT64_MIN, 18, out), "-9.223372036854775808");
    assert_string_equal(money_format_scaled(1000000, 6, out), "1");
}

static void money_adds_with_care(void **state)
{
    int64_t sum = 7;

    (void)state;
    assert_false(money_add(INT64_MAX, 1, &sum));
    assert_false(money_add(INT64_MIN, -1, &sum));
    assert_int_equal(sum, 7);
    assert_true(money_add(INT64_MAX, INT64_MIN, &sum));
    assert_int_equal(sum, -1);
}

static void clocks_stand_when_frozen(void **state)
{
    int64_t mono = clock_mono();

    (void)state;
    assert_true(clock_wall() > INT64_C(1700000000) * CLOCK_SECOND);
    assert_true(clock_mono() >= mono);
    clock_freeze(5, 7);
    assert_int_equal(clock_wall(), 5);
    assert_int_equal(clock_mono(), 7);
    clock_release();
    assert_true(clock_wall() > INT64_C(1700000000) * CLOCK_SECOND);
}

static void times_are_written(void **state)
{
    char out[CLOCK_TEXT];

    (void)state;
    assert_string_equal(clock_format(0, out), "1970-01-01T00:00:00Z");
    assert_string_equal(clock_format(INT64_C(1795507200123456), out), "2026-11-24T08:00:00.123456Z");
    assert_string_equal(clock_format(INT64_C(951782400) * CLOCK_SECOND, out), "2000-02-29T00:00:00Z");
    assert_string_equal(clock_format(INT64_C(253402300799) * CLOCK_SECOND, out), "9999-12-31T23:59:59Z");
    assert_string_equal(clock_format(-1, out), "1969-12-31T23:59:59.999999Z");
    assert_string_equal(clock_format(INT64_MAX, out), "294247-01-10T04:00:54.775807Z");
    assert_true(strlen(clock_format(INT64_MIN, out)) < CLOCK_TEXT);
}

static void times_are_read(void **state)
{
    static const struct {
        const char *text;
        int64_t wall;
    } good[] = {
        {"0", 0},
        {"1795507200", INT64_C(1795507200000000)},
        {"253402300799", INT64_C(253402300799000000)},
        {"2026-11-24T08:00:00Z", INT64_C(1795507200000000)},
        {"2026-11-24t08:00:00.5z", INT64_C(1795507200500000)},
        {"2026-11-24T08:00:00.1234567899Z", INT64_C(1795507200123456)},
        {"2026-11-24T09:30:00+01:30", INT64_C(1795507200000000)},
        {"2026-11-24T00:00:00-08:00", INT64_C(1795507200000000)},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000000)},
        {"1970-01-01T01:00:00+01:00", 0},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800000000)},
    };
    static const char *const bad[] = {"",
                                      "-1",
                                      "1.5",
                                      "253402300800",
                                      "99999999999999999999",
                                      "2026-11-24",
                                      "2026-11-24T08:00:00",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "1900-02-29T00:00:00Z",
                                      "2026-11-31T00:00:00Z",
                                      "2026-11-24T24:00:00Z",
                                      "2026-11-24T08:60:00Z",
                                      "2026-11-24T08:00:61Z",
                                      "2026-11-24T08:00:00.Z",
                                      "2026-11-24T08:00:00+0100",
                                      "2026-11-24T08:00:00+24:00",
                                      "2026-11-24T08:00:00Zx",
                                      "1969-12-31T23:59:59Z",
                                      "1970-01-01T00:00:00+00:01",
                                      "9999-12-31T23:59:59-00:01",
                                      "2026-1-24T08:00:00Z",
                                      " 2026-11-24T08:00:00Z"};
    int64_t wall = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(clock_parse(slice_from(good[i].text), &wall));
        assert_true(wall == good[i].wall);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(clock_parse(slice_from(bad[i]), &wall));
}

/* Each day of the supported years, there and back. */
static void times_round_trip(void **state)
{
    char out[CLOCK_TEXT];

    (void)state;
    for (int64_t day = 0; day < 2932897; day += 17) {
        int64_t wall = (day * 86400 + day % 86400) * CLOCK_SECOND + day % 1000000, again;

        assert_true(clock_parse(slice_from(clock_format(wall, out)), &again));
        assert_true(again == wall);
    }
}

static void ids_increase_whatever_the_clock_does(void **state)
{
    struct id last = id_make();

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct id next;

        if (i % 1000 == 0)
            clock_freeze((INT64_C(1800000000) + (i % 3000 == 0 ? i : -i)) * CLOCK_SECOND, 0);
        if (i == 10000)
            clock_release();
        next = id_make();
        assert_true(memcmp(next.b, last.b, ID_BYTES) > 0);
        last = next;
    }
    clock_release();
}

static void *make_many(void *arg)
{
    struct id *ids = arg;

    for (int i = 0; i < 2000; i++)
        ids[i] = id_make();
    return NULL;
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, ID_BYTES);
}

static void ids_of_many_threads_differ(void **state)
{
    enum { THREADS = 4, EACH = 2000 };
    static struct id ids[THREADS * EACH];
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_many, ids + i * EACH), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    qsort(ids, THREADS * EACH, sizeof(ids[0]), compare_ids);
    for (int i = 1; i < THREADS * EACH; i++)
        assert_false(id_eq(ids[i - 1], ids[i]));
}

static void ids_are_written_and_read(void **state)
{
    struct id zero = {{0}}, most, id = id_make(), again;
    char out[ID_TEXT], other[ID_TEXT];

    (void)state;
    memset(most.b, 0xFF, ID_BYTES);
    assert_string_equal(id_format("ten", zero, out), "ten_0000000000000000000000");
    assert_string_equal(id_format("ten", most, out), "ten_7n42DGM5Tflk9n8mt7Fhc7");
    assert_true(id_parse("ten", slice_from(out), &again));
    assert_true(id_eq(again, most));
    assert_false(id_parse("ten", SLICE("ten_7n42DGM5Tflk9n8mt7Fhc8"), &again)); /* 2^128 */
    assert_false(id_parse("ten", SLICE("ten_zzzzzzzzzzzzzzzzzzzzzz"), &again));
    assert_false(id_parse("cus", slice_from(out), &again));
    assert_false(id_parse("ten", SLICE("ten_000000000000000000000"), &again));
    assert_false(id_parse("ten", SLICE("ten_00000000000000000000000"), &again));
    assert_false(id_parse("ten", SLICE("ten_000000000000000000000-"), &again));
    assert_false(id_parse("ten", SLICE("ten-0000000000000000000000"), &again));
    assert_false(id_parse("ten", SLICE_NONE, &again));
    id_format("req", id, out);
    id_format("req", id_make(), other);
    assert_true(strcmp(out, other) < 0); /* text sorts as the number does */
    assert_true(id_parse("req", slice_from(out), &again));
    assert_true(id_eq(again, id));
    assert_true(id_is_zero(zero));
    assert_false(id_is_zero(id));
}

static void ids_carry_row_numbers(void **state)
{
    static const int64_t rows[] = {0, 1, 255, 1LL << 40, INT64_MAX};
    int64_t now = INT64_C(1795507200123456);
    char out[ID_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct id id = id_from_seq(now, rows[i]), again;

        assert_true(id_parse("use", slice_from(id_format("use", id, out)), &again));
        assert_true(id_seq(again) == rows[i]);
        assert_int_equal(again.b[6], 0);
        assert_int_equal(again.b[7], 0);
    }
    assert_true(memcmp(id_from_seq(now, 2).b, id_from_seq(now + 1000, 1).b, ID_BYTES) < 0);
}

static void base62_encodes(void **state)
{
    uint8_t most[32];
    char out[48] = {0};

    (void)state;
    memset(most, 0xFF, sizeof(most));
    base62_encode(most, 32, out, 43);
    out[43] = '\0';
    /* 2^256 - 1, reckoned apart with big integers */
    assert_string_equal(out, "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
    base62_encode((const uint8_t[]){0xFF, 0xFF, 0xFF, 0xFF}, 4, out, 6);
    assert_memory_equal(out, "4gfFC3", 6);
    base62_encode((const uint8_t[]){61}, 1, out, 1);
    assert_int_equal(out[0], 'z');
    base62_encode((const uint8_t[]){0, 62}, 2, out, 3);
    assert_memory_equal(out, "010", 3);
}

struct item {
    uint64_t key;
    bool there;
};

static bool same_key(const void *item, const void *key)
{
    return ((const struct item *)item)->key == *(const uint64_t *)key;
}

/* Hashes are made poor on purpose, so that runs are long and wrap around the end. */
static uint64_t poor_hash(uint64_t key)
{
    return key % 3 == 0 ? UINT64_MAX - key % 5 : table_hash_u64(key) % 64;
}

static void check_table(struct table *t, struct item *items, size_t n)
{
    size_t there = 0, seen = 0, pos = 0;

    for (size_t i = 0; i < n; i++) {
        void *found = table_get(t, poor_hash(i), same_key, &items[i].key);

        assert_ptr_equal(found, items[i].there ? &items[i] : NULL);
        there += items[i].there;
    }
    while (table_next(t, &pos) != NULL)
        seen++;
    assert_int_equal(seen, there);
    assert_int_equal(t->count, there);
}

static void tables_agree_with_a_plain_array(void **state)
{
    enum { N = 200 };
    static struct item items[N];
    struct table t;

    (void)state;
    table_init(&t);
    for (uint64_t i = 0; i < N; i++)
        items[i].key = i;
    srand(1);
    for (int step = 0; step < 4000; step++) {
        size_t i = (size_t)rand() % N;

        if (rand() % 2 == 0) {
            void *old = table_put(&t, poor_hash(i), same_key, &items[i].key, &items[i]);

            assert_ptr_equal(old, items[i].there ? &items[i] : NULL);
            items[i].there = true;
        } else {
            void *old = table_remove(&t, poor_hash(i), same_key, &items[i].key);

            assert_ptr_equal(old, items[i].there ? &items[i] : NULL);
            items[i].there = false;
        }
        if (step % 40 == 0)
            check_table(&t, items, N);
    }
    check_table(&t, items, N);
    table_dispose(&t);
}

static void tables_replace_and_may_be_empty(void **state)
{
    struct item one = {1, true}, other = {1, true};
    struct table t;

    (void)state;
    table_init(&t);
    assert_null(table_get(&t, 1, same_key, &one.key));
    assert_null(table_remove(&t, 1, same_key, &one.key));
    assert_null(table_put(&t, 1, same_key, &one.key, &one));
    assert_ptr_equal(table_put(&t, 1, same_key, &one.key, &other), &one);
    assert_int_equal(t.count, 1);
    table_dispose(&t);
    assert_true(table_hash_bytes("abc", 3) != table_hash_bytes("abc\0", 4));
    assert_true(table_hash_bytes("abcdefghi", 9) != table_hash_bytes("abcdefghj", 9));
    assert_true(table_hash_bytes(NULL, 0) == table_hash_bytes("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(money_reads_exact_decimals),
        cmocka_unit_test(money_refuses_the_rest),
        cmocka_unit_test(money_writes_decimals),
        cmocka_unit_test(money_adds_with_care),
        cmocka_unit_test(clocks_stand_when_frozen),
        cmocka_unit_test(times_are_written),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(times_round_trip),
        cmocka_unit_test(ids_increase_whatever_the_clock_does),
        cmocka_unit_test(ids_of_many_threads_differ),
        cmocka_unit_test(ids_are_written_and_read),
        cmocka_unit_test(ids_carry_row_numbers),
        cmocka_unit_test(base62_encodes),
        cmocka_unit_test(tables_agree_with_a_plain_array),
        cmocka_unit_test(tables_replace_and_may_be_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
