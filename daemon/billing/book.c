/* book.c - price books: immutable lists of versions by the time from which they hold.
 *
 * Invariants: versions ascend by effective_from, then row; the book holds one reference to each; nothing changes after
 * price_book_create but for the fields its maker fills before sharing it.
 *
 * Threads: any; books are shared by reference count. */
#include <stdlib.h>

#include "price.h"

static int version_compare(const void *left, const void *right)
{
    const struct price_version *a = *(struct price_version *const *)left;
    const struct price_version *b = *(struct price_version *const *)right;

    if (a->effective_from != b->effective_from)
        return a->effective_from < b->effective_from ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

struct price_book *price_book_create(struct price_version **versions, size_t n)
{
    struct price_book *b;

    TG_ASSERT(n <= (SIZE_MAX - sizeof(*b)) / sizeof(*versions));
    b = mem_zalloc(sizeof(*b) + n * sizeof(*versions));
    atomic_init(&b->refs, 1);
    b->n = n;
    if (n > 0)
        memcpy(b->versions, versions, n * sizeof(*versions));
    if (n > 1)
        qsort(b->versions, n, sizeof(*versions), version_compare);
    return b;
}

struct price_book *price_book_ref(struct price_book *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

void price_book_unref(struct price_book *b)
{
    if (b == NULL || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < b->n; i++)
        price_version_unref(b->versions[i]);
    free(b);
}

/* The newest version is nearly always the answer, so the search starts there. */
struct price_version *price_book_at(const struct price_book *b, int64_t wall)
{
    for (size_t i = b->n; i > 0; i--) {
        if (b->versions[i - 1]->effective_from <= wall)
            return b->versions[i - 1];
    }
    return NULL;
}
