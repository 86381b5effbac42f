/* zone_fixture.h - time zones and instants by their names; after cmocka.h. */
#ifndef TG_TESTS_ZONE_FIXTURE_H
#define TG_TESTS_ZONE_FIXTURE_H

#include "daemon/base/clock.h"
#include "daemon/base/zone.h"

static struct zone *opened(const char *name)
{
    struct zone *z = NULL;
    struct err err = {0};

    if (zone_open(name, &z, &err) != ERR_OK)
        fail_msg("%s: %s", name, err.message);
    return z;
}

static int64_t at(const char *time)
{
    int64_t wall = 0;

    if (!clock_parse(slice_from(time), &wall))
        fail_msg("no time: %s", time);
    return wall;
}

#endif
