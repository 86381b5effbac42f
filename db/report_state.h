/* report_state.h - a report's inside, shared by report.c (buckets, items, groups) and report_order.c (what is shown, in
 * which order). */
#ifndef TG_DB_REPORT_STATE_H
#define TG_DB_REPORT_STATE_H

#include "daemon/base/table.h"
#include "report.h"

/* What is grouped by; 0 where it is not. Compared as bytes. */
struct report_key {
    int64_t of[REPORT_DIMENSIONS]; /* rows; numbers of names; an operation */
    int64_t bucket;
};

struct report_group {
    struct report_key key;
    int64_t sums[ROLLUP_SUMS];
};

/* A row or a name that groups have, once. */
struct report_member {
    int64_t value;
    struct id id;  /* of rows */
    uint32_t rank; /* in the order of the answer */
    bool needed;
};

struct report_members {
    struct report_member *at; /* by value */
    size_t n;
};

struct report_item {
    int64_t row;
    bool wanted; /* the filters let it pass */
    int64_t of[REPORT_DIMENSIONS];
};

/* A group's place in the answer. */
struct report_place {
    int64_t bucket, value; /* value: what <top> looks at, else 0 */
    uint32_t rank[REPORT_DIMENSIONS];
    uint32_t group;
    bool shown;
};

struct report_state {
    struct store_report *q;
    struct zone *zone;
    bool utc;
    unsigned asked; /* dimensions that are grouped by or filtered by */
    int64_t begin, end, horizon;
    struct report_group *groups;
    size_t n_groups, cap_groups;
    uint32_t *slots; /* 1 + place of a group */
    size_t n_slots;
    char **names; /* of models, sizes, qualities; numbered from 1 */
    size_t n_names, cap_names;
    struct report_item *items;
    size_t n_items, cap_items;
    struct table item_index; /* 1 + place, by row */
    struct report_members members[REPORT_DIMENSIONS];
    struct report_place *places;
    int looking; /* dimension, and place in it, whose id is looked for */
    size_t looking_at;
    void *scan;
    void (*destroy_scan)(void *scan);
};

static inline bool report_is_row(int dimension)
{
    return dimension == REPORT_TENANT || dimension == REPORT_CUSTOMER || dimension == REPORT_KEY ||
           dimension == REPORT_CHANNEL;
}

/* Whether a dimension is grouped by. */
static inline bool report_groups_by(const struct report_state *r, int dimension)
{
    return (r->q->group_by & 1u << dimension) != 0;
}

/* Sums stop at INT64_MAX. */
static inline void report_add_to(int64_t *sum, int64_t more)
{
    if (__builtin_add_overflow(*sum, more, sum))
        *sum = INT64_MAX;
}

#endif
