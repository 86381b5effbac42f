/* meters.c - the register that finds the meter of a record, and the life of meters.
 *
 *   (owner, row) -> meter    borrowed: a meter leaves the register with its last reference
 *
 * Invariants
 *  (1) There is one meter for a record while anybody holds it: so its counters go from one version to the next.
 *  (2) Its figures are those of the newest version that any loop has brought.
 *  (3) Locks: the register's goes before a meter's.
 * Any thread. */
#include "meter_state.h"

#include <stdlib.h>

#include "daemon/base/table.h"

struct meters {
    pthread_mutex_t lock;
    struct table by_row;
    struct known_zone *zones; /* the last one is UTC */
};

struct place {
    enum meter_owner owner;
    int64_t row;
};

static bool match_meter(const void *item, const void *key)
{
    const struct meter *m = item;
    const struct place *place = key;

    return m->row == place->row && m->owner == place->owner;
}

static uint64_t hash_place(const struct place *place)
{
    return table_hash_u64((uint64_t)place->row * METER_OWNERS + (uint64_t)place->owner);
}

static struct known_zone *add_zone(struct meters *all, const char *name)
{
    struct known_zone *z = mem_zalloc(sizeof(*z));

    if (!slice_copy(slice_from(name), z->name, sizeof(z->name)) || zone_open(name, &z->zone, NULL) != ERR_OK) {
        free(z);
        return NULL;
    }
    z->next = all->zones;
    all->zones = z;
    return z;
}

/* With the register locked. A zone that cannot be read now is tried again by the next one who asks. */
static const struct known_zone *find_zone(struct meters *all, const char *name)
{
    struct known_zone *z = all->zones, *utc = z;

    for (; z != NULL && strcmp(z->name, name) != 0; z = z->next)
        utc = z;
    if (z == NULL && name[0] != '\0')
        z = add_zone(all, name);
    return z != NULL ? z : utc;
}

struct meters *meters_create(void)
{
    struct meters *all = mem_zalloc(sizeof(*all));
    struct known_zone *utc;

    pthread_mutex_init(&all->lock, NULL);
    table_init(&all->by_row);
    utc = add_zone(all, "UTC");
    TG_ASSERT(utc != NULL);
    return all;
}

void meters_destroy(struct meters *all)
{
    struct known_zone *z;

    if (all == NULL || all->by_row.count > 0)
        return;
    table_dispose(&all->by_row);
    while ((z = all->zones) != NULL) {
        all->zones = z->next;
        zone_unref(z->zone);
        free(z);
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}

/* ---- life of a meter ---- */

static struct meter *make_meter(struct meters *all, const struct place *place, int64_t tenant_row)
{
    struct meter *m = mem_zalloc(sizeof(*m));

    atomic_init(&m->refs, 0);
    m->owner = place->owner;
    m->row = place->row;
    m->tenant_row = tenant_row;
    m->all = all;
    pthread_mutex_init(&m->lock, NULL);
    meter_forget_day(m);
    (void)table_put(&all->by_row, hash_place(place), match_meter, place, m);
    return m;
}

static void set_zone(struct meter *m, const struct known_zone *zone)
{
    pthread_mutex_lock(&m->lock);
    if (m->zone != zone)
        meter_forget_day(m);
    m->zone = zone;
    pthread_mutex_unlock(&m->lock);
}

static void set_limits(struct meter *m, const struct limits *limits)
{
    pthread_mutex_lock(&m->lock);
    if (m->limits.of[LIMITS_IMAGES_DAY] == 0)
        meter_forget_day(m); /* nobody has counted it */
    m->limits = *limits;
    pthread_mutex_unlock(&m->lock);
}

struct meter *meters_enter(struct meters *all, enum meter_owner owner, int64_t row, int64_t version, int64_t tenant_row,
                           const struct limits *limits, const char *zone_name)
{
    const struct place place = {owner, row};
    struct meter *m;

    pthread_mutex_lock(&all->lock);
    m = table_get(&all->by_row, hash_place(&place), match_meter, &place);
    if (m == NULL)
        m = make_meter(all, &place, tenant_row);
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    if (version > m->version) { /* the other loops bring the same figures */
        m->version = version;
        set_limits(m, limits);
    }
    set_zone(m, find_zone(all, zone_name));
    pthread_mutex_unlock(&all->lock);
    return m;
}

void meters_set_zone(struct meters *all, int64_t tenant_row, const char *zone_name)
{
    const struct known_zone *zone;
    struct meter *m;
    size_t pos = 0;

    pthread_mutex_lock(&all->lock);
    zone = find_zone(all, zone_name);
    while ((m = table_next(&all->by_row, &pos)) != NULL)
        if (m->tenant_row == tenant_row)
            set_zone(m, zone);
    pthread_mutex_unlock(&all->lock);
}

struct meter *meter_ref(struct meter *m)
{
    if (m != NULL)
        atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

static void destroy(struct meter *m)
{
    pthread_mutex_destroy(&m->lock);
    free(m->requests);
    free(m->images);
    free(m);
}

/* The last reference goes with the register locked, so that nobody finds a meter that is about to go. */
void meter_unref(struct meter *m)
{
    struct meters *all;
    bool last;
    int refs;

    if (m == NULL)
        return;
    refs = atomic_load_explicit(&m->refs, memory_order_relaxed);
    while (refs > 1)
        if (atomic_compare_exchange_weak_explicit(&m->refs, &refs, refs - 1, memory_order_acq_rel,
                                                  memory_order_relaxed))
            return;
    all = m->all;
    pthread_mutex_lock(&all->lock);
    last = atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1;
    if (last) {
        const struct place place = {m->owner, m->row};

        (void)table_remove(&all->by_row, hash_place(&place), match_meter, &place);
    }
    pthread_mutex_unlock(&all->lock);
    if (last)
        destroy(m);
}
