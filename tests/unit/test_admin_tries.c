/* test_admin_tries.c - failed tries by address: the burst, what comes back, who passes all the same, and who makes
 * room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "admin/tries.h"
#include "daemon/base/clock.h"

#define START (1000 * CLOCK_SECOND)

static int64_t wait;

static int set_up(void **state)
{
    *state = tries_create();
    return 0;
}

static int tear_down(void **state)
{
    tries_destroy(*state);
    return 0;
}

static enum try_result try_bad(struct tries *t, const char *peer, int64_t now)
{
    return tries_count(t, peer, TRIES_BAD, now, &wait);
}

static void use_up(struct tries *t, const char *peer, int64_t now)
{
    for (int i = 0; i < TRIES_BURST; i++)
        assert_int_equal(try_bad(t, peer, now), TRY_GOES);
    assert_int_equal(try_bad(t, peer, now), TRY_REFUSED_FIRST);
    assert_int_equal(wait, CLOCK_SECOND);
    assert_int_equal(try_bad(t, peer, now), TRY_REFUSED);
}

static void burst_and_refill(void **state)
{
    struct tries *t = *state;

    use_up(t, "192.0.2.1", START);
    assert_int_equal(try_bad(t, "192.0.2.1", START + CLOCK_SECOND / 2), TRY_REFUSED);
    assert_int_equal(wait, CLOCK_SECOND / 2);
    assert_int_equal(try_bad(t, "192.0.2.1", START + CLOCK_SECOND), TRY_GOES); /* refused tries cost nothing */
    assert_int_equal(try_bad(t, "192.0.2.1", START + CLOCK_SECOND), TRY_REFUSED_FIRST);
    use_up(t, "192.0.2.1", START + 100 * CLOCK_SECOND);            /* never more than the burst */
    assert_int_equal(try_bad(t, "192.0.2.1", START), TRY_REFUSED); /* a clock that stands still gives nothing */
}

static void good_tokens(void **state)
{
    struct tries *t = *state;

    for (int64_t row = 0; row < 5; row++) /* one more than are remembered; the first is the command line's */
        assert_int_equal(tries_count(t, "unix", row, START + row, &wait), TRY_GOES);
    assert_int_equal(tries_count(t, "unix", 1, START + 6, &wait), TRY_GOES); /* 1 is now the newest */
    use_up(t, "unix", START + 10);
    for (int64_t row = 1; row < 5; row++)
        assert_int_equal(tries_count(t, "unix", row, START + 10, &wait), TRY_GOES);
    assert_int_equal(tries_count(t, "unix", 0, START + 10, &wait), TRY_REFUSED); /* forgotten */
    assert_int_equal(tries_count(t, "unix", 9, START + 10, &wait), TRY_REFUSED); /* good, but never seen from here */
    assert_int_equal(tries_count(t, "unix", 9, START + CLOCK_SECOND + 10, &wait), TRY_GOES);
}

static void memory_ends(void **state)
{
    struct tries *t = *state;
    int64_t late = START + TRIES_REMEMBERED * CLOCK_SECOND;

    assert_int_equal(tries_count(t, "192.0.2.1", 7, START, &wait), TRY_GOES);
    use_up(t, "192.0.2.1", late - 1);
    assert_int_equal(tries_count(t, "192.0.2.1", 7, late - 1, &wait), TRY_GOES); /* and is seen again */
    assert_int_equal(tries_count(t, "192.0.2.1", 7, late, &wait), TRY_GOES);
    assert_int_equal(tries_count(t, "192.0.2.9", 8, START, &wait), TRY_GOES);
    use_up(t, "192.0.2.9", late);
    assert_int_equal(tries_count(t, "192.0.2.9", 8, late, &wait), TRY_REFUSED);
}

static void addresses(void **state)
{
    struct tries *t = *state;

    use_up(t, "2001:db8:1:2::1", START);
    assert_int_equal(try_bad(t, "2001:db8:1:2:ffff:ffff:ffff:ffff", START), TRY_REFUSED); /* the same /64 */
    assert_int_equal(try_bad(t, "2001:db8:1:3::1", START), TRY_GOES);
    use_up(t, "192.0.2.1", START);
    assert_int_equal(try_bad(t, "::ffff:192.0.2.1", START), TRY_REFUSED);
    assert_int_equal(try_bad(t, "::ffff:192.0.2.2", START), TRY_GOES);
    assert_int_equal(try_bad(t, "192.0.2.2", START), TRY_GOES);
    use_up(t, "fe80::1%eth0", START);
    assert_int_equal(try_bad(t, "fe80::2%eth1", START), TRY_REFUSED);
    use_up(t, "unix", START);
    assert_int_equal(try_bad(t, "0.0.0.0", START), TRY_GOES);
}

static void room_for_many(void **state)
{
    struct tries *t = *state;
    char peer[32];

    use_up(t, "192.0.2.1", START);
    use_up(t, "192.0.2.2", START);
    for (int i = 0; i < TRIES_ADDRESSES - 1; i++) {
        (void)snprintf(peer, sizeof(peer), "10.%d.%d.1", i / 256, i % 256);
        assert_int_equal(try_bad(t, peer, START), TRY_GOES);
        if (i % 100 == 0)
            assert_int_equal(try_bad(t, "192.0.2.2", START), TRY_REFUSED); /* it is seen, so it stays */
    }
    assert_int_equal(try_bad(t, "192.0.2.2", START), TRY_REFUSED);
    assert_int_equal(try_bad(t, "192.0.2.1", START), TRY_GOES); /* forgotten */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(burst_and_refill, set_up, tear_down),
        cmocka_unit_test_setup_teardown(good_tokens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(room_for_many, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
