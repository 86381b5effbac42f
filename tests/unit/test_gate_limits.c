/* test_gate_limits.c - limits as text, and meters: by the clock, by many threads, through changes of figures. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "daemon/base/clock.h"
#include "daemon/base/table.h"
#include "daemon/base/zone.h"
#include "daemon/gate/auth.h"
#include "gate_fixture.h"

#define MONO (INT64_C(5000) * CLOCK_SECOND)

static int64_t mono, wall;

static void set_clock(void)
{
    clock_freeze(wall, mono);
}

static void pass(int64_t microseconds)
{
    mono += microseconds;
    wall += microseconds;
    set_clock();
}

static int freeze(void **state)
{
    (void)state;
    mono = MONO;
    wall = NOW;
    set_clock();
    return 0;
}

static int release(void **state)
{
    (void)state;
    clock_release();
    return 0;
}

/* ---- text ---- */

static void expect_text(const char *in, const char *out)
{
    struct limits limits;
    struct buf text;

    assert_int_equal(limits_parse("limits", slice_from(in), &limits, NULL), ERR_OK);
    buf_init(&text, LIMITS_TEXT);
    limits_format(&limits, &text);
    assert_int_equal(text.len, strlen(out));
    assert_memory_equal(text.p, out, text.len);
    buf_dispose(&text);
}

static void test_text(void **state)
{
    (void)state;
    expect_text("", "{}");
    expect_text("{}", "{}");
    expect_text("{\"images_per_day\": null}", "{}");
    expect_text("{\"concurrent_requests\":100000,\"requests_per_minute\":1}",
                "{\"requests_per_minute\":1,\"concurrent_requests\":100000}");
    expect_text("{\"images_per_day\":1000000000,\"images_per_minute\":7}",
                "{\"images_per_minute\":7,\"images_per_day\":1000000000}");
}

static void test_bad_text(void **state)
{
    static const struct {
        const char *text, *param;
        enum err_code code;
    } cases[] = {
        {"{\"requests_per_minute\":0}", "limits.requests_per_minute", ERR_INTEGER_BELOW_MIN},
        {"{\"requests_per_minute\":-1}", "limits.requests_per_minute", ERR_INTEGER_BELOW_MIN},
        {"{\"images_per_minute\":1000000001}", "limits.images_per_minute", ERR_INTEGER_ABOVE_MAX},
        {"{\"concurrent_requests\":100001}", "limits.concurrent_requests", ERR_INTEGER_ABOVE_MAX},
        {"{\"images_per_day\":99999999999999999999}", "limits.images_per_day", ERR_INTEGER_ABOVE_MAX},
        {"{\"images_per_day\":1.0}", "limits.images_per_day", ERR_INVALID_TYPE},
        {"{\"images_per_day\":1e3}", "limits.images_per_day", ERR_INVALID_TYPE},
        {"{\"images_per_day\":\"5\"}", "limits.images_per_day", ERR_INVALID_TYPE},
        {"{\"images_per_day\":true}", "limits.images_per_day", ERR_INVALID_TYPE},
        {"{\"images_per_week\":1}", "limits.images_per_week", ERR_UNKNOWN_PARAMETER},
        {"{\"images_per_day\":0,\"x\":1}", "limits.x", ERR_UNKNOWN_PARAMETER},
        {"{\"images_per_day\":1,\"images_per_day\":2}", "limits.images_per_day", ERR_DUPLICATE_PARAMETER},
        {"[]", "limits", ERR_INVALID_TYPE},
        {"7", "limits", ERR_INVALID_TYPE},
        {"{", "limits", ERR_INVALID_TYPE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct limits limits = {{42}};
        struct err err;

        assert_int_equal(limits_parse("limits", slice_from(cases[i].text), &limits, &err), cases[i].code);
        assert_string_equal(err.param, cases[i].param);
        assert_int_equal(limits.of[0], 42);
    }
}

static void test_stricter(void **state)
{
    const struct limits a = {{10, 0, 5, 0}}, b = {{20, 7, 0, 0}};
    struct limits least = limits_stricter(&a, &b);

    (void)state;
    assert_int_equal(least.of[LIMITS_REQUESTS_MINUTE], 10);
    assert_int_equal(least.of[LIMITS_IMAGES_MINUTE], 7);
    assert_int_equal(least.of[LIMITS_IMAGES_DAY], 5);
    assert_int_equal(least.of[LIMITS_CONCURRENT], 0);
}

static void test_spans(void **state)
{
    static const struct {
        int64_t span;
        const char *text;
    } cases[] = {{0, "0ms"},
                 {1, "1ms"},
                 {20000, "20ms"},
                 {999001, "1s"},
                 {CLOCK_SECOND, "1s"},
                 {59 * CLOCK_SECOND + 1, "1m0s"},
                 {360 * CLOCK_SECOND, "6m0s"},
                 {3599 * CLOCK_SECOND + 999999, "1h0m0s"},
                 {40000 * CLOCK_SECOND, "11h6m40s"}};
    char text[METER_SPAN_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(meter_format_span(cases[i].span, text), cases[i].text);
}

/* ---- meters ---- */

static struct limits only(enum limits_kind kind, int64_t figure)
{
    struct limits limits = {{0}};

    limits.of[kind] = figure;
    return limits;
}

static struct meter *enter(struct meters *all, enum meter_owner owner, int64_t version, struct limits limits)
{
    return meters_enter(all, owner, 1, version, 1, &limits, "UTC");
}

struct set {
    struct meters *all;
    struct meter *of[METER_OWNERS];
    struct meter_view view;
    struct err err;
};

static void open_set(struct set *s, enum meter_owner owner, struct limits limits)
{
    memset(s, 0, sizeof(*s));
    s->all = meters_create();
    s->of[owner] = enter(s->all, owner, 1, limits);
}

static void close_set(struct set *s)
{
    for (int i = 0; i < METER_OWNERS; i++)
        meter_unref(s->of[i]);
    meters_destroy(s->all);
}

static enum err_code ask(struct set *s, int images, struct permit *permit)
{
    return meters_admit(s->of, images, permit, &s->view, &s->err);
}

/* One call that is over at once and has delivered all. */
static enum err_code call(struct set *s, int images)
{
    struct permit permit;
    enum err_code code = ask(s, images, &permit);

    permit_end(&permit, images);
    return code;
}

static void test_requests(void **state)
{
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_REQUESTS_MINUTE, 3));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(call(&s, 10), ERR_OK);
        assert_int_equal(s.view.requests.limit, 3);
        assert_int_equal(s.view.requests.remaining, 2 - i);
        assert_int_equal(s.view.images.limit, 0);
        pass(10 * CLOCK_SECOND);
    }
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    assert_int_equal(s.view.wait, 31 * CLOCK_SECOND); /* the first of them was 30 seconds ago */
    assert_string_equal(s.err.message, "Rate limit reached for requests_per_minute of this API key: Limit 3, Used 3, "
                                       "Requested 1. Please try again in 31s.");
    assert_int_equal(s.view.requests.remaining, 0);
    assert_int_equal(s.view.requests.reset, 51 * CLOCK_SECOND);
    pass(s.view.wait - 1);
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    pass(1);
    assert_int_equal(call(&s, 1), ERR_OK);
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    pass(3600 * CLOCK_SECOND);
    for (int i = 0; i < 3; i++)
        assert_int_equal(call(&s, 1), ERR_OK);
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    close_set(&s);
}

/* Whatever the gaps: no sixty seconds see more than the figure, and the figure is reached. */
static void test_any_minute(void **state)
{
    enum { LIMIT = 25, CALLS = 20000 };
    static int64_t at[CALLS];
    struct set s;
    int n = 0, most = 0;
    uint64_t dice = 7;

    (void)state;
    open_set(&s, METER_TENANT, only(LIMITS_REQUESTS_MINUTE, LIMIT));
    for (int i = 0; i < CALLS; i++) {
        dice = table_hash_u64(dice + 1);
        pass((int64_t)(dice % (i % 1000 < 500 ? 400000 : 4000000)));
        if (call(&s, 1) == ERR_OK)
            at[n++] = mono;
    }
    for (int i = 0, first = 0; i < n; i++) {
        while (at[i] - at[first] >= 60 * CLOCK_SECOND)
            first++;
        most = i - first + 1 > most ? i - first + 1 : most;
    }
    assert_int_equal(most, LIMIT);
    close_set(&s);
}

static void test_images_given_back(void **state)
{
    struct permit permit, other;
    struct set s;

    (void)state;
    open_set(&s, METER_CUSTOMER, only(LIMITS_IMAGES_MINUTE, 10));
    assert_int_equal(ask(&s, 8, &permit), ERR_OK);
    assert_int_equal(s.view.images.remaining, 2);
    assert_int_equal(call(&s, 3), ERR_IMAGES_LIMIT);
    assert_int_equal(s.view.images.remaining, 2); /* a refused call takes nothing */
    assert_non_null(strstr(s.err.message, "images_per_minute of this customer: Limit 10, Used 8, Requested 3"));
    pass(5 * CLOCK_SECOND);
    permit_end(&permit, 5);
    permit_end(&permit, 0); /* it is over */
    assert_int_equal(ask(&s, 5, &permit), ERR_OK);
    assert_int_equal(s.view.images.remaining, 0);
    permit_end(&permit, 0);
    assert_int_equal(ask(&s, 5, &other), ERR_OK);
    pass(61 * CLOCK_SECOND); /* it counts no more */
    assert_int_equal(ask(&s, 10, &permit), ERR_OK);
    permit_end(&other, 0);
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT);
    permit_end(&permit, 99); /* more than was asked for */
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT);
    close_set(&s);
}

static void test_too_many_at_once(void **state)
{
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_IMAGES_MINUTE, 4));
    assert_int_equal(call(&s, 5), ERR_IMAGES_LIMIT);
    assert_int_equal(s.view.wait, INT64_MAX);
    assert_non_null(strstr(s.err.message, "can never pass"));
    assert_int_equal(call(&s, 4), ERR_OK);
    close_set(&s);
}

static void test_concurrency(void **state)
{
    struct permit permits[2], third;
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_CONCURRENT, 2));
    assert_int_equal(ask(&s, 1, &permits[0]), ERR_OK);
    assert_int_equal(ask(&s, 1, &permits[1]), ERR_OK);
    assert_int_equal(ask(&s, 1, &third), ERR_REQUESTS_LIMIT);
    assert_int_equal(s.view.wait, CLOCK_SECOND);
    assert_int_equal(s.view.requests.limit, 0); /* no rate */
    permit_end(&third, 0);
    assert_int_equal(ask(&s, 1, &third), ERR_REQUESTS_LIMIT);
    permit_end(&permits[0], 0);
    assert_int_equal(ask(&s, 1, &third), ERR_OK);
    permit_end(&third, 1);
    permit_end(&permits[1], 1);
    close_set(&s);
}

/* The call takes from all, or from none; the tightest is told, and the one that lasts longest is named. */
static void test_all_or_nothing(void **state)
{
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_REQUESTS_MINUTE, 5));
    s.of[METER_CUSTOMER] = enter(s.all, METER_CUSTOMER, 1, only(LIMITS_IMAGES_MINUTE, 3));
    s.of[METER_TENANT] = enter(s.all, METER_TENANT, 1, only(LIMITS_REQUESTS_MINUTE, 2));
    assert_int_equal(call(&s, 2), ERR_OK);
    assert_int_equal(s.view.requests.limit, 2);
    assert_int_equal(s.view.requests.remaining, 1);
    assert_int_equal(s.view.images.remaining, 1);
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(&s, 2), ERR_IMAGES_LIMIT);
    pass(CLOCK_SECOND);
    assert_int_equal(call(&s, 1), ERR_OK); /* nobody has lost anything by the ten */
    pass(CLOCK_SECOND);
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT); /* the account refuses it for as long: the nearer is named */
    assert_int_equal(s.view.wait, 59 * CLOCK_SECOND);
    assert_non_null(strstr(s.err.message, "of this customer"));
    meter_unref(enter(s.all, METER_CUSTOMER, 2, only(LIMITS_IMAGES_MINUTE, 5)));
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    assert_non_null(strstr(s.err.message, "of this account"));
    close_set(&s);
}

static void test_figures_change(void **state)
{
    struct set s;
    struct meter *other, *again;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_REQUESTS_MINUTE, 3));
    for (int i = 0; i < 3; i++)
        assert_int_equal(call(&s, 1), ERR_OK);
    other = enter(s.all, METER_KEY, 2, only(LIMITS_REQUESTS_MINUTE, 5)); /* another loop hears of it first */
    assert_ptr_equal(other, s.of[METER_KEY]);
    assert_int_equal(call(&s, 1), ERR_OK);
    again = enter(s.all, METER_KEY, 1, only(LIMITS_REQUESTS_MINUTE, 3)); /* older: no news */
    assert_int_equal(meter_limits(again).of[LIMITS_REQUESTS_MINUTE], 5);
    assert_int_equal(call(&s, 1), ERR_OK);
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    meter_unref(enter(s.all, METER_KEY, 3, only(LIMITS_REQUESTS_MINUTE, 2)));
    assert_int_equal(call(&s, 1), ERR_REQUESTS_LIMIT);
    assert_int_equal(s.view.requests.remaining, 0);
    meter_unref(other);
    meter_unref(again);
    close_set(&s);
}

/* ---- days ---- */

static void expect_unknown(struct set *s, int64_t begin)
{
    struct permit permit;
    int64_t from;

    assert_non_null(meters_to_seed(s->of, &from));
    assert_int_equal(from, begin);
    assert_int_equal(ask(s, 1, &permit), ERR_UNAVAILABLE);
}

static void expect_known(struct set *s)
{
    int64_t from;

    assert_null(meters_to_seed(s->of, &from));
}

static void test_days(void **state)
{
    enum { DAY = 86400 };
    const int64_t day = NOW / (DAY * CLOCK_SECOND) * DAY * CLOCK_SECOND;
    struct permit permit, late;
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_IMAGES_DAY, 10));
    expect_unknown(&s, day);
    meter_seed(s.of[METER_KEY], day - 1, 3); /* of another day */
    expect_unknown(&s, day);
    meter_seed(s.of[METER_KEY], day, 6);
    meter_seed(s.of[METER_KEY], day, 0); /* it is known */
    assert_int_equal(call(&s, 5), ERR_IMAGES_LIMIT);
    assert_int_equal(s.view.wait, day + DAY * CLOCK_SECOND - wall);
    assert_int_equal(s.view.images.remaining, 4);
    assert_int_equal(ask(&s, 4, &permit), ERR_OK);
    permit_end(&permit, 3);
    assert_int_equal(ask(&s, 1, &late), ERR_OK);
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT);
    pass(s.view.wait);
    expect_known(&s); /* a day that begins while we count is known */
    assert_int_equal(call(&s, 10), ERR_OK);
    permit_end(&late, 0); /* of yesterday */
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT);
    wall -= CLOCK_SECOND; /* back over midnight */
    set_clock();
    expect_unknown(&s, day);
    meter_seed(s.of[METER_KEY], day, 9);
    assert_int_equal(call(&s, 1), ERR_OK);
    pass(CLOCK_SECOND);
    expect_unknown(&s, day + DAY * CLOCK_SECOND); /* something was counted there */
    close_set(&s);
}

static void test_day_begins_with_the_limit(void **state)
{
    struct limits both = only(LIMITS_IMAGES_DAY, 10);
    struct permit permit;
    struct set s;
    int64_t from;

    (void)state;
    both.of[LIMITS_CONCURRENT] = 9;
    open_set(&s, METER_KEY, only(LIMITS_CONCURRENT, 9));
    expect_known(&s);
    assert_int_equal(ask(&s, 4, &permit), ERR_OK);
    meter_unref(enter(s.all, METER_KEY, 2, both));
    assert_non_null(meters_to_seed(s.of, &from));
    meter_seed(s.of[METER_KEY], from, 1); /* and four are under way */
    assert_int_equal(call(&s, 6), ERR_IMAGES_LIMIT);
    assert_int_equal(call(&s, 5), ERR_OK);
    permit_end(&permit, 4);
    meter_unref(enter(s.all, METER_KEY, 3, both)); /* the same: nothing is forgotten */
    expect_known(&s);
    assert_int_equal(call(&s, 1), ERR_IMAGES_LIMIT);
    close_set(&s);
}

static int64_t day_of(const char *name)
{
    struct zone *zone;
    int64_t begin;

    assert_int_equal(zone_open(name, &zone, NULL), ERR_OK);
    begin = zone_day_begins(zone, zone_day_at(zone, wall));
    zone_unref(zone);
    return begin;
}

static void test_zones(void **state)
{
    struct limits limits = only(LIMITS_IMAGES_DAY, 10);
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, limits);
    s.of[METER_CUSTOMER] = meters_enter(s.all, METER_CUSTOMER, 7, 1, 2, &limits, "No/Such");
    expect_unknown(&s, day_of("UTC"));
    meter_seed(s.of[METER_KEY], day_of("UTC"), 0);
    expect_unknown(&s, day_of("UTC"));
    meter_seed(s.of[METER_CUSTOMER], day_of("UTC"), 0);
    expect_known(&s);
    meters_set_zone(s.all, 1, "Asia/Kolkata");
    expect_unknown(&s, day_of("Asia/Kolkata"));
    meter_seed(s.of[METER_KEY], day_of("Asia/Kolkata"), 0);
    expect_known(&s); /* the other is another tenant's */
    meters_set_zone(s.all, 1, "Asia/Kolkata");
    expect_known(&s);
    close_set(&s);
}

/* ---- many threads ---- */

enum { THREADS = 4, TRIES = 20000, FEW = 5000, PLACES = 3 };

struct crowd {
    struct set *s;
    atomic_int passed, busy, most;
};

static void *crowd_main(void *arg)
{
    struct crowd *c = arg;

    for (int i = 0; i < TRIES; i++) {
        struct meter_view view;
        struct permit permit;
        int busy;

        if (meters_admit(c->s->of, 1, &permit, &view, NULL) != ERR_OK)
            continue;
        atomic_fetch_add(&c->passed, 1);
        busy = atomic_fetch_add(&c->busy, 1) + 1;
        if (busy > atomic_load(&c->most))
            atomic_store(&c->most, busy);
        if (i % 64 == 0)
            sched_yield();
        atomic_fetch_sub(&c->busy, 1);
        permit_end(&permit, i % 2); /* every other image is given back */
    }
    return NULL;
}

static void run_crowd(struct set *s, struct crowd *c)
{
    pthread_t threads[THREADS];

    *c = (struct crowd){.s = s};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, c), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void test_threads(void **state)
{
    struct crowd crowd;
    struct set s;

    (void)state;
    open_set(&s, METER_KEY, only(LIMITS_REQUESTS_MINUTE, FEW + 1000));
    s.of[METER_TENANT] = enter(s.all, METER_TENANT, 1, only(LIMITS_REQUESTS_MINUTE, FEW));
    run_crowd(&s, &crowd);
    assert_int_equal(crowd.passed, FEW); /* exactly, and the key lost nothing by the others */
    meter_unref(s.of[METER_TENANT]);
    s.of[METER_TENANT] = NULL;
    assert_int_equal(call(&s, 1), ERR_OK);
    assert_int_equal(s.view.requests.remaining, 1000 - 1);
    close_set(&s);

    open_set(&s, METER_CUSTOMER, only(LIMITS_CONCURRENT, PLACES));
    run_crowd(&s, &crowd);
    assert_true(crowd.most <= PLACES);
    assert_true(crowd.passed > 0);
    close_set(&s);
}

/* Meters are found, made and let go by many at once. */
static void *visitor_main(void *arg)
{
    for (int i = 0; i < TRIES; i++) {
        struct meter *m = enter(arg, METER_KEY, 1, only(LIMITS_CONCURRENT, 1));

        meter_ref(m);
        meter_unref(m);
        meter_unref(m);
    }
    return NULL;
}

static void test_register(void **state)
{
    struct meters *all = meters_create();
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, visitor_main, all), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    meters_destroy(all);
}

/* ---- the catalog's part ---- */

static void put_key_limits(struct catalog *c, struct api_key *k, int64_t version, const char *limits)
{
    struct api_key *next = fixture_record(RECORD_KEY, k->super.row, 0);

    next->super.id = k->super.id;
    next->super.version = version;
    next->tenant_row = k->tenant_row;
    memcpy(next->digest, k->digest, sizeof(next->digest));
    next->limits = limits != NULL ? mem_strdup(limits) : NULL;
    (void)fixture_credential(next);
    catalog_apply(c, &next->super);
}

static void test_catalogs(void **state)
{
    struct secrets *secrets = fixture_secrets();
    struct meters *all = meters_create();
    struct catalog *loops[2] = {catalog_create(), catalog_create()};
    struct tenant *tenant = fixture_tenant(1);
    struct api_key *key = fixture_key(1, 1, secrets, false, NULL);
    struct meter *meter;

    (void)state;
    tenant->limits = mem_strdup("damaged");
    for (int i = 0; i < 2; i++) {
        catalog_set_meters(loops[i], all);
        catalog_apply(loops[i], record_ref(tenant));
        put_key_limits(loops[i], key, 1, "{\"requests_per_minute\":2}");
        assert_null(catalog_meter(loops[i], RECORD_CUSTOMER, 1));
    }
    meter = catalog_meter(loops[0], RECORD_KEY, 1);
    assert_ptr_equal(meter, catalog_meter(loops[1], RECORD_KEY, 1));
    assert_int_equal(meter_limits(catalog_meter(loops[0], RECORD_TENANT, 1)).of[LIMITS_IMAGES_DAY], 1);
    put_key_limits(loops[0], key, 2, "{\"requests_per_minute\":9}");
    assert_ptr_equal(catalog_meter(loops[0], RECORD_KEY, 1), meter);
    assert_int_equal(meter_limits(meter).of[LIMITS_REQUESTS_MINUTE], 9);
    put_key_limits(loops[1], key, 2, "{\"requests_per_minute\":9}");
    for (int i = 0; i < 2; i++) {
        put_key_limits(loops[i], key, 3, NULL);
        assert_null(catalog_meter(loops[i], RECORD_KEY, 1));
    }
    record_unref(key);
    record_unref(tenant);
    for (int i = 0; i < 2; i++)
        catalog_destroy(loops[i]);
    meters_destroy(all);
    secret_close(secrets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_stricter),
        cmocka_unit_test(test_spans),
        cmocka_unit_test_setup_teardown(test_requests, freeze, release),
        cmocka_unit_test_setup_teardown(test_any_minute, freeze, release),
        cmocka_unit_test_setup_teardown(test_images_given_back, freeze, release),
        cmocka_unit_test_setup_teardown(test_too_many_at_once, freeze, release),
        cmocka_unit_test_setup_teardown(test_concurrency, freeze, release),
        cmocka_unit_test_setup_teardown(test_all_or_nothing, freeze, release),
        cmocka_unit_test_setup_teardown(test_figures_change, freeze, release),
        cmocka_unit_test_setup_teardown(test_days, freeze, release),
        cmocka_unit_test_setup_teardown(test_day_begins_with_the_limit, freeze, release),
        cmocka_unit_test_setup_teardown(test_zones, freeze, release),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_register),
        cmocka_unit_test(test_catalogs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
