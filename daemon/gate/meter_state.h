/* meter_state.h - a meter from inside: shared by meter.c and meters.c, by nobody else. */
#ifndef TG_GATE_METER_STATE_H
#define TG_GATE_METER_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/base/zone.h"
#include "meter.h"
#include "minute.h"

/* A zone that somebody's days are of; lives as long as the register. */
struct known_zone {
    struct known_zone *next;
    struct zone *zone;
    char name[ZONE_NAME];
};

struct meter {
    atomic_int refs;
    enum meter_owner owner;
    int64_t row, tenant_row;
    struct meters *all;
    int64_t version; /* of the record whose figures these are; the register's lock */

    pthread_mutex_t lock; /* guards the rest */
    struct limits limits;
    int64_t busy, pending;            /* calls under way; the images that they asked for */
    struct minute *requests, *images; /* NULL: none was counted yet */
    const struct known_zone *zone;
    bool known; /* the day is */
    int64_t begin, end, used;
    int64_t ended; /* no day that ends later was ever counted */
};

/* The day begins unknown. With the meter locked, or not shared yet. */
void meter_forget_day(struct meter *m);

#endif
