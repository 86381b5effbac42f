/* report.c - the buckets of a report, what is sold in it, its groups.
 *
 * Invariants
 *  (1) Buckets lie side by side in the order of time, each a whole number of minutes, none empty of minutes.
 *  (2) A group is in the table once; its sums are of all rows that were added to it. They stop at INT64_MAX.
 * One thread at a time. */
#include "report_state.h"

#include <stdlib.h>

#include "days.h"

enum { FIRST_ROOM = 64, LOAD = 2 }; /* of arrays; slots of the table for each group */

#define LAST_MINUTE (INT64_MAX / ROLLUP_MINUTE - 2 * DAYS_LONGEST)

enum { BY_ITEM = 1 << REPORT_MODEL | 1 << REPORT_OPERATION | 1 << REPORT_SIZE | 1 << REPORT_QUALITY };

/* ---- buckets ---- */

static unsigned filtered(const struct store_filter *f)
{
    return (f->tenants.n > 0 ? 1u << REPORT_TENANT : 0) | (f->customers.n > 0 ? 1u << REPORT_CUSTOMER : 0) |
           (f->keys.n > 0 ? 1u << REPORT_KEY : 0) | (f->channels.n > 0 ? 1u << REPORT_CHANNEL : 0) |
           (f->models.n > 0 ? 1u << REPORT_MODEL : 0) | (f->sizes.n > 0 ? 1u << REPORT_SIZE : 0) |
           (f->qualities.n > 0 ? 1u << REPORT_QUALITY : 0) | (f->operations != 0 ? 1u << REPORT_OPERATION : 0);
}

static int64_t next_begin(const struct report_state *r, int64_t minute)
{
    int64_t begin, end = r->horizon;

    switch (r->q->width) {
    case REPORT_MINUTE:
        end = minute + 1;
        break;
    case REPORT_HOUR:
        end = days_next_hour(r->zone, minute);
        break;
    case REPORT_DAY:
        days_at(r->zone, minute, &begin, &end);
        break;
    case REPORT_ALL:
        break;
    }
    return end < r->horizon ? end : r->horizon;
}

static void make_buckets(struct report_state *r)
{
    struct store_report *q = r->q;
    int64_t at = r->begin;

    q->buckets = mem_zalloc((size_t)q->limit * sizeof(q->buckets[0]));
    while (at < r->horizon && q->n_buckets < q->limit) {
        struct report_bucket *b = &q->buckets[q->n_buckets++];

        b->begin = at * ROLLUP_MINUTE;
        at = next_begin(r, at);
        b->end = at * ROLLUP_MINUTE;
    }
    q->more = at < r->horizon;
    q->next = q->more ? at * ROLLUP_MINUTE : 0;
    r->end = at > r->begin ? at : r->begin;
}

static int64_t floor_minute(int64_t wall)
{
    int64_t minute = wall > 0 ? wall / ROLLUP_MINUTE : 0;

    return minute < LAST_MINUTE ? minute : LAST_MINUTE;
}

static int64_t ceil_minute(int64_t wall)
{
    int64_t minute = floor_minute(wall);

    return minute + (wall > minute * ROLLUP_MINUTE && minute < LAST_MINUTE);
}

static enum err_code open_zone(struct report_state *r, struct err *err)
{
    const char *name = r->q->zone[0] != '\0' ? r->q->zone : "UTC";
    enum err_code code = zone_open(name, &r->zone, err);

    r->utc = strcmp(name, "UTC") == 0;
    if (code == ERR_NOT_FOUND)
        code =
            err_set(err, ERR_INVALID_VALUE, "timezone", "Invalid value for 'timezone': there is no zone '%s'.", name);
    return code;
}

enum err_code report_open(struct store_report *q, int64_t now, struct report_state **out, struct err *err)
{
    struct report_state *r;

    q->n_buckets = q->n_rows = 0;
    q->buckets = NULL;
    q->rows = NULL;
    q->more = false;
    q->next = 0;
    if (q->limit < 1 || q->limit > REPORT_BUCKETS)
        return err_set(err, ERR_INVALID_VALUE, "limit", "Invalid value for 'limit': expected 1 to %d.", REPORT_BUCKETS);
    r = mem_zalloc(sizeof(*r));
    r->q = q;
    table_init(&r->item_index);
    if (open_zone(r, err) != ERR_OK) {
        report_destroy(r);
        return err->code;
    }
    r->asked = q->group_by | filtered(&q->filter);
    r->begin = floor_minute(q->from_bucket > q->filter.start_time ? q->from_bucket : q->filter.start_time);
    r->horizon = ceil_minute(q->filter.end_time != 0 ? q->filter.end_time : now);
    make_buckets(r);
    *out = r;
    return ERR_OK;
}

void report_destroy(struct report_state *r)
{
    if (r == NULL)
        return;
    if (r->destroy_scan != NULL)
        r->destroy_scan(r->scan);
    zone_unref(r->zone);
    table_dispose(&r->item_index);
    for (size_t i = 0; i < r->n_names; i++)
        free(r->names[i]);
    for (int i = 0; i < REPORT_DIMENSIONS; i++)
        free(r->members[i].at);
    free(r->names);
    free(r->items);
    free(r->groups);
    free(r->slots);
    free(r->places);
    free(r);
}

void store_report_dispose(struct store_report *report)
{
    report_destroy(report->state);
    free(report->buckets);
    free(report->rows);
    report->state = NULL;
    report->buckets = NULL;
    report->rows = NULL;
    report->n_buckets = report->n_rows = 0;
}

/* ---- what an engine asks ---- */

enum report_table report_table_of(const struct report_state *r)
{
    unsigned tenant = 1u << REPORT_TENANT, customer = 1u << REPORT_CUSTOMER, key = 1u << REPORT_KEY;
    unsigned items = (unsigned)BY_ITEM | 1u << REPORT_CHANNEL;

    if (r->q->width == REPORT_MINUTE || r->q->width == REPORT_HOUR)
        return REPORT_OF_MINUTES;
    if ((r->asked & ~(tenant | items)) == 0)
        return REPORT_OF_ITEMS;
    if ((r->asked & ~(tenant | customer)) == 0)
        return REPORT_OF_CUSTOMERS;
    return (r->asked & ~(tenant | customer | key)) == 0 ? REPORT_OF_KEYS : REPORT_OF_MINUTES;
}

const struct zone *report_zone(const struct report_state *r)
{
    return r->zone;
}

bool report_in_utc(const struct report_state *r)
{
    return r->utc;
}

int64_t report_begin(const struct report_state *r)
{
    return r->begin;
}

int64_t report_end(const struct report_state *r)
{
    return r->end;
}

int64_t report_horizon(const struct report_state *r)
{
    return r->horizon;
}

int report_bucket_at(const struct report_state *r, int64_t minute)
{
    const struct report_bucket *b = r->q->buckets;
    int low = 0, high = r->q->n_buckets;

    while (high - low > 1) {
        int middle = (low + high) / 2;

        if (b[middle].begin <= minute * ROLLUP_MINUTE)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void report_set_scan(struct report_state *r, void *scan, void (*destroy)(void *scan))
{
    r->scan = scan;
    r->destroy_scan = destroy;
}

void *report_scan(const struct report_state *r)
{
    return r->scan;
}

/* ---- items ---- */

bool report_asks_items(const struct report_state *r)
{
    return (r->asked & (unsigned)BY_ITEM) != 0;
}

static bool match_item(const void *item, const void *key)
{
    const struct report_item *const *probe = key;

    return probe[0][(uintptr_t)item - 1].row == probe[1]->row;
}

static const struct report_item *find_item(const struct report_state *r, int64_t row)
{
    struct report_item wanted = {.row = row};
    const struct report_item *const probe[2] = {r->items, &wanted};
    uintptr_t place = (uintptr_t)table_get(&r->item_index, table_hash_u64((uint64_t)row), match_item, probe);

    return place != 0 ? &r->items[place - 1] : NULL;
}

bool report_knows_item(const struct report_state *r, int64_t row)
{
    return find_item(r, row) != NULL;
}

static int64_t name_number(struct report_state *r, const char *name)
{
    for (size_t i = r->n_names; i > 0; i--)
        if (strcmp(r->names[i - 1], name) == 0)
            return (int64_t)i;
    if (r->n_names == r->cap_names) {
        r->cap_names = r->cap_names != 0 ? r->cap_names * 2 : FIRST_ROOM;
        r->names = mem_realloc(r->names, r->cap_names * sizeof(r->names[0]));
    }
    r->names[r->n_names] = mem_strdup(name);
    return (int64_t)++r->n_names;
}

static bool has_name(const struct filter_names *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->names[i], name) == 0)
            return true;
    return f->n == 0;
}

void report_set_item(struct report_state *r, int64_t row, const char *model, enum image_operation operation,
                     const char *size, const char *quality)
{
    const struct store_filter *f = &r->q->filter;
    struct report_item item = {.row = row};

    item.wanted = has_name(&f->models, model) && has_name(&f->sizes, size) && has_name(&f->qualities, quality) &&
                  (f->operations == 0 || (f->operations & 1u << operation) != 0);
    if (report_groups_by(r, REPORT_MODEL))
        item.of[REPORT_MODEL] = name_number(r, model);
    if (report_groups_by(r, REPORT_SIZE))
        item.of[REPORT_SIZE] = name_number(r, size);
    if (report_groups_by(r, REPORT_QUALITY))
        item.of[REPORT_QUALITY] = name_number(r, quality);
    if (report_groups_by(r, REPORT_OPERATION))
        item.of[REPORT_OPERATION] = (int64_t)operation;
    if (r->n_items == r->cap_items) {
        r->cap_items = r->cap_items != 0 ? r->cap_items * 2 : FIRST_ROOM;
        r->items = mem_realloc(r->items, r->cap_items * sizeof(r->items[0]));
    }
    r->items[r->n_items++] = item;
    {
        const struct report_item *const probe[2] = {r->items, &item};

        (void)table_put(&r->item_index, table_hash_u64((uint64_t)row), match_item, probe,
                        (void *)(uintptr_t)r->n_items);
    }
}

/* ---- groups ---- */

static uint64_t hash_key(const struct report_key *key)
{
    uint64_t h = (uint64_t)key->bucket;

    for (int i = 0; i < REPORT_DIMENSIONS; i++)
        h = (h ^ (h >> 29) ^ (uint64_t)key->of[i]) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 32);
}

static void put_slot(struct report_state *r, uint32_t group)
{
    size_t i = (size_t)hash_key(&r->groups[group].key) & (r->n_slots - 1);

    while (r->slots[i] != 0)
        i = (i + 1) & (r->n_slots - 1);
    r->slots[i] = group + 1;
}

static void grow(struct report_state *r)
{
    r->cap_groups = r->cap_groups != 0 ? r->cap_groups * 2 : FIRST_ROOM;
    r->groups = mem_realloc(r->groups, r->cap_groups * sizeof(r->groups[0]));
    free(r->slots);
    r->n_slots = r->cap_groups * LOAD;
    r->slots = mem_zalloc(r->n_slots * sizeof(r->slots[0]));
    for (size_t i = 0; i < r->n_groups; i++)
        put_slot(r, (uint32_t)i);
}

static struct report_group *find_group(const struct report_state *r, const struct report_key *key)
{
    size_t i;

    if (r->n_slots == 0)
        return NULL;
    for (i = (size_t)hash_key(key) & (r->n_slots - 1); r->slots[i] != 0; i = (i + 1) & (r->n_slots - 1))
        if (memcmp(&r->groups[r->slots[i] - 1].key, key, sizeof(*key)) == 0)
            return &r->groups[r->slots[i] - 1];
    return NULL;
}

static bool has_row(const struct filter_rows *f, int64_t row)
{
    for (int i = 0; i < f->n; i++)
        if (f->rows[i] == row)
            return true;
    return f->n == 0;
}

static bool passes(const struct report_state *r, const struct report_source *s, const struct report_item *item)
{
    const struct store_filter *f = &r->q->filter;

    return has_row(&f->tenants, s->tenant) && has_row(&f->customers, s->customer) && has_row(&f->keys, s->key) &&
           has_row(&f->channels, s->channel) && (item == NULL || item->wanted);
}

static struct report_key key_of(const struct report_state *r, int bucket, const struct report_source *s,
                                const struct report_item *item)
{
    struct report_key key = {.bucket = bucket};

    if (item != NULL)
        memcpy(key.of, item->of, sizeof(key.of));
    if (report_groups_by(r, REPORT_TENANT))
        key.of[REPORT_TENANT] = s->tenant;
    if (report_groups_by(r, REPORT_CUSTOMER))
        key.of[REPORT_CUSTOMER] = s->customer;
    if (report_groups_by(r, REPORT_KEY))
        key.of[REPORT_KEY] = s->key;
    if (report_groups_by(r, REPORT_CHANNEL))
        key.of[REPORT_CHANNEL] = s->channel;
    return key;
}

enum err_code report_add(struct report_state *r, int bucket, const struct report_source *source,
                         const int64_t sums[ROLLUP_SUMS], struct err *err)
{
    const struct report_item *item = report_asks_items(r) ? find_item(r, source->item) : NULL;
    struct report_key key;
    struct report_group *group;

    if (!passes(r, source, item))
        return ERR_OK;
    key = key_of(r, bucket, source, item);
    group = find_group(r, &key);
    if (group == NULL) {
        if (r->n_groups == REPORT_ROWS)
            return err_set(err, ERR_INVALID_VALUE, r->q->limit > 1 ? "limit" : "group_by",
                           "There are more than %d results: ask for fewer buckets, or for fewer groups.", REPORT_ROWS);
        if (r->n_groups == r->cap_groups)
            grow(r);
        group = &r->groups[r->n_groups++];
        memset(group, 0, sizeof(*group));
        group->key = key;
        put_slot(r, (uint32_t)(r->n_groups - 1));
    }
    for (int i = 0; i < ROLLUP_SUMS; i++)
        report_add_to(&group->sums[i], sums[i]);
    return ERR_OK;
}
