/* report_order.c - which groups of a report are shown, in which order: by bucket; within one by group, or, with <top>,
 * the largest first and then the rest as one. Ids are asked for of what is shown alone, or, where they make the order,
 * of all. One thread at a time. */
#include "report_state.h"

#include <stdlib.h>

/* ---- order ---- */

static int compare_values(const void *a, const void *b)
{
    int64_t x = ((const struct report_member *)a)->value, y = ((const struct report_member *)b)->value;

    return (x > y) - (x < y);
}

static struct report_member *find_member(const struct report_members *m, int64_t value)
{
    const struct report_member key = {.value = value};

    return bsearch(&key, m->at, m->n, sizeof(m->at[0]), compare_values);
}

/* What groups have in a dimension, each once, by value. */
static void gather_members(struct report_state *r, int dimension)
{
    struct report_members *m = &r->members[dimension];
    size_t n = 0;

    m->at = mem_zalloc((r->n_groups + 1) * sizeof(m->at[0]));
    for (size_t i = 0; i < r->n_groups; i++)
        m->at[i].value = r->groups[i].key.of[dimension];
    qsort(m->at, r->n_groups, sizeof(m->at[0]), compare_values);
    for (size_t i = 0; i < r->n_groups; i++)
        if (n == 0 || m->at[n - 1].value != m->at[i].value)
            m->at[n++].value = m->at[i].value;
    m->n = n;
    for (size_t i = 0; i < n; i++)
        m->at[i].rank = (uint32_t)i;
}

struct ranked {
    struct id id;
    const char *name;
    uint32_t member;
};

static int compare_ids(const void *a, const void *b)
{
    return memcmp(((const struct ranked *)a)->id.b, ((const struct ranked *)b)->id.b, ID_BYTES);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct ranked *)a)->name, ((const struct ranked *)b)->name);
}

/* Ranks of rows by their ids, of names by what they are; an operation's is its number's. */
static void rank_members(struct report_state *r, int dimension)
{
    struct report_members *m = &r->members[dimension];
    struct ranked *order;

    if (dimension == REPORT_OPERATION || m->n == 0)
        return;
    order = mem_zalloc(m->n * sizeof(order[0]));
    for (size_t i = 0; i < m->n; i++) {
        order[i].id = m->at[i].id;
        order[i].name = report_is_row(dimension) ? "" : r->names[m->at[i].value - 1];
        order[i].member = (uint32_t)i;
    }
    qsort(order, m->n, sizeof(order[0]), report_is_row(dimension) ? compare_ids : compare_names);
    for (size_t i = 0; i < m->n; i++)
        m->at[order[i].member].rank = (uint32_t)i;
    free(order);
}

static int64_t less(int64_t a, int64_t b)
{
    int64_t out;

    return __builtin_sub_overflow(a, b, &out) ? INT64_MIN : out;
}

static int64_t order_value(const struct report_state *r, const int64_t sums[ROLLUP_SUMS])
{
    switch (r->q->order) {
    case ORDER_WHOLESALE:
        return sums[SUM_WHOLESALE];
    case ORDER_RETAIL:
        return sums[SUM_RETAIL];
    case ORDER_COST:
        return sums[SUM_COST];
    case ORDER_MARGIN:
        return r->q->retail_margin ? less(sums[SUM_RETAIL], sums[SUM_WHOLESALE])
                                   : less(sums[SUM_WHOLESALE], sums[SUM_COST]);
    case ORDER_REQUESTS:
        return sums[SUM_REQUESTS];
    case ORDER_IMAGES:
        return sums[SUM_IMAGES];
    }
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct report_place *x = a, *y = b;

    if (x->bucket != y->bucket)
        return x->bucket < y->bucket ? -1 : 1;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    for (int i = 0; i < REPORT_DIMENSIONS; i++)
        if (x->rank[i] != y->rank[i])
            return x->rank[i] < y->rank[i] ? -1 : 1;
    return 0;
}

static void order_places(struct report_state *r)
{
    r->places = mem_zalloc((r->n_groups + 1) * sizeof(r->places[0]));
    for (size_t i = 0; i < r->n_groups; i++) {
        const struct report_group *g = &r->groups[i];
        struct report_place *p = &r->places[i];

        p->bucket = g->key.bucket;
        p->value = r->q->top > 0 ? order_value(r, g->sums) : 0;
        p->group = (uint32_t)i;
        for (int d = 0; d < REPORT_DIMENSIONS; d++)
            p->rank[d] = report_groups_by(r, d) ? find_member(&r->members[d], g->key.of[d])->rank : 0;
    }
    qsort(r->places, r->n_groups, sizeof(r->places[0]), compare_places);
}

/* The first <top> of each bucket are shown, or all. */
static void choose(struct report_state *r)
{
    int shown = 0;

    for (size_t i = 0; i < r->n_groups; i++) {
        struct report_place *p = &r->places[i];

        shown = i > 0 && p->bucket == r->places[i - 1].bucket ? shown + 1 : 1;
        p->shown = r->q->top == 0 || shown <= r->q->top;
        for (int d = 0; p->shown && d < REPORT_DIMENSIONS; d++)
            if (report_groups_by(r, d) && report_is_row(d))
                find_member(&r->members[d], r->groups[p->group].key.of[d])->needed = true;
    }
}

void report_arrange(struct report_state *r)
{
    for (int d = 0; d < REPORT_DIMENSIONS; d++) {
        if (!report_groups_by(r, d))
            continue;
        gather_members(r, d);
        for (size_t i = 0; r->q->top == 0 && i < r->members[d].n; i++)
            r->members[d].at[i].needed = true;
    }
    if (r->q->top > 0) { /* ids are needed of what is shown alone */
        order_places(r);
        choose(r);
    }
}

bool report_missing(struct report_state *r, enum report_by *kind, int64_t *row)
{
    for (; r->looking < REPORT_DIMENSIONS; r->looking++, r->looking_at = 0) {
        const struct report_members *m = &r->members[r->looking];

        for (; report_is_row(r->looking) && r->looking_at < m->n; r->looking_at++) {
            if (!m->at[r->looking_at].needed || m->at[r->looking_at].value == 0)
                continue;
            *kind = (enum report_by)r->looking;
            *row = m->at[r->looking_at].value;
            return true;
        }
    }
    return false;
}

void report_found(struct report_state *r, struct id id)
{
    r->members[r->looking].at[r->looking_at++].id = id;
}

/* ---- the answer ---- */

static struct id member_id(const struct report_state *r, int dimension, const struct report_key *key)
{
    static const struct id none;

    return report_groups_by(r, dimension) ? find_member(&r->members[dimension], key->of[dimension])->id : none;
}

static const char *member_name(const struct report_state *r, int dimension, const struct report_key *key)
{
    return report_groups_by(r, dimension) ? r->names[key->of[dimension] - 1] : NULL;
}

static void add_sums(struct report_row *row, const int64_t sums[ROLLUP_SUMS])
{
    report_add_to(&row->requests, sums[SUM_REQUESTS]);
    report_add_to(&row->images, sums[SUM_IMAGES]);
    for (int i = 0; i < ROLLUP_TOKENS; i++)
        report_add_to(&row->tokens[PRICE_TEXT_INPUT + i], sums[SUM_TOKENS + i]);
    report_add_to(&row->cost, sums[SUM_COST]);
    report_add_to(&row->wholesale, sums[SUM_WHOLESALE]);
    report_add_to(&row->retail, sums[SUM_RETAIL]);
    report_add_to(&row->refunded, sums[SUM_REFUNDED]);
}

static struct report_row *next_row(struct report_state *r, int64_t bucket)
{
    struct store_report *q = r->q;
    struct report_row *row = &q->rows[q->n_rows];

    row->bucket = (int32_t)bucket;
    row->operation = -1;
    if (q->buckets[bucket].n++ == 0)
        q->buckets[bucket].first = q->n_rows;
    q->n_rows++;
    return row;
}

static void write_group(struct report_state *r, const struct report_group *g)
{
    struct report_row *row = next_row(r, g->key.bucket);

    row->tenant = member_id(r, REPORT_TENANT, &g->key);
    row->customer = member_id(r, REPORT_CUSTOMER, &g->key);
    row->key = member_id(r, REPORT_KEY, &g->key);
    row->channel = member_id(r, REPORT_CHANNEL, &g->key);
    row->model = member_name(r, REPORT_MODEL, &g->key);
    row->size = member_name(r, REPORT_SIZE, &g->key);
    row->quality = member_name(r, REPORT_QUALITY, &g->key);
    if (report_groups_by(r, REPORT_OPERATION))
        row->operation = (int)g->key.of[REPORT_OPERATION];
    add_sums(row, g->sums);
}

static void write_rows(struct report_state *r)
{
    struct report_row *rest = NULL;
    size_t n = 0;

    for (size_t i = 0; i < r->n_groups; i++)
        n += r->places[i].shown || i == 0 || r->places[i - 1].shown || r->places[i].bucket != r->places[i - 1].bucket;
    r->q->rows = mem_zalloc((n + 1) * sizeof(r->q->rows[0]));
    for (size_t i = 0; i < r->n_groups; i++) {
        const struct report_place *p = &r->places[i];

        if (p->shown) {
            write_group(r, &r->groups[p->group]);
            rest = NULL;
            continue;
        }
        if (rest == NULL || rest->bucket != p->bucket) {
            rest = next_row(r, p->bucket);
            rest->rest = true;
        }
        add_sums(rest, r->groups[p->group].sums);
    }
}

void report_finish(struct report_state *r)
{
    if (r->q->top == 0) {
        for (int d = 0; d < REPORT_DIMENSIONS; d++)
            if (report_groups_by(r, d))
                rank_members(r, d);
        order_places(r);
        choose(r);
    }
    write_rows(r);
    free(r->groups);
    free(r->slots);
    free(r->places);
    r->groups = NULL;
    r->slots = NULL;
    r->places = NULL;
}
