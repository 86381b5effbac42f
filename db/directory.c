/* directory.c - a sorted array a kind: rows only grow, so a new record is an append and a look-up a binary search. */
#include "directory.h"

#include <stdlib.h>

void directory_init(struct directory *d)
{
    memset(d, 0, sizeof(*d));
}

void directory_dispose(struct directory *d)
{
    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        for (size_t i = 0; i < d->shelves[kind].n; i++)
            record_unref(d->shelves[kind].at[i]);
        free(d->shelves[kind].at);
    }
    directory_init(d);
}

/* The place of <row>, or where it would stand. */
static size_t find(const struct shelf *shelf, int64_t row)
{
    size_t low = 0, high = shelf->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (shelf->at[middle]->row < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct record *directory_get(const struct directory *d, enum record_kind kind, int64_t row)
{
    const struct shelf *shelf = &d->shelves[kind];
    size_t place = find(shelf, row);

    return place < shelf->n && shelf->at[place]->row == row ? shelf->at[place] : NULL;
}

void directory_put(struct directory *d, struct record *record)
{
    struct shelf *shelf = &d->shelves[record->kind];
    size_t place = find(shelf, record->row);

    TG_ASSERT(record->kind != RECORD_KEY);
    if (place < shelf->n && shelf->at[place]->row == record->row) {
        record_unref(shelf->at[place]);
        shelf->at[place] = record;
        return;
    }
    if (shelf->n == shelf->cap) {
        shelf->cap = shelf->cap != 0 ? shelf->cap * 2 : 16;
        shelf->at = mem_realloc(shelf->at, shelf->cap * sizeof(shelf->at[0]));
    }
    memmove(&shelf->at[place + 1], &shelf->at[place], (shelf->n - place) * sizeof(shelf->at[0]));
    shelf->at[place] = record;
    shelf->n++;
}

void directory_remove(struct directory *d, enum record_kind kind, int64_t row)
{
    struct shelf *shelf = &d->shelves[kind];
    size_t place = find(shelf, row);

    if (place == shelf->n || shelf->at[place]->row != row)
        return;
    record_unref(shelf->at[place]);
    shelf->n--;
    memmove(&shelf->at[place], &shelf->at[place + 1], (shelf->n - place) * sizeof(shelf->at[0]));
}

static bool owned_by(const struct record *record, const struct record *owner)
{
    bool tenant = owner->kind == RECORD_TENANT;

    switch (record->kind) {
    case RECORD_CUSTOMER:
        return tenant && ((const struct customer *)record)->tenant_row == owner->row;
    case RECORD_ADMIN_TOKEN:
        return tenant && ((const struct admin_token *)record)->tenant_row == owner->row;
    case RECORD_BOOK:
        return tenant && ((const struct book *)record)->tenant_row == owner->row;
    case RECORD_TENANT:
    case RECORD_CHANNEL:
    case RECORD_KEY:
    case RECORD_KINDS:
        break;
    }
    return false;
}

void directory_remove_owned(struct directory *d, const struct record *owner,
                            void (*gone)(void *ctx, const struct record *record), void *ctx)
{
    TG_ASSERT(owner->kind == RECORD_TENANT || owner->kind == RECORD_CUSTOMER);
    for (int kind = 0; kind < RECORD_KINDS; kind++) {
        struct shelf *shelf = &d->shelves[kind];
        size_t kept = 0;

        for (size_t i = 0; i < shelf->n; i++) {
            if (!owned_by(shelf->at[i], owner)) {
                shelf->at[kept++] = shelf->at[i];
                continue;
            }
            if (gone != NULL)
                gone(ctx, shelf->at[i]);
            record_unref(shelf->at[i]);
        }
        shelf->n = kept;
    }
}

void directory_each(const struct directory *d, void (*fn)(void *ctx, struct record *record), void *ctx)
{
    static const enum record_kind order[] = {RECORD_BOOK, RECORD_TENANT, RECORD_CHANNEL, RECORD_CUSTOMER,
                                             RECORD_ADMIN_TOKEN};

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        const struct shelf *shelf = &d->shelves[order[i]];

        for (size_t j = 0; j < shelf->n; j++)
            fn(ctx, shelf->at[j]);
    }
}
