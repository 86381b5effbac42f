/* fsck_lot.c - lots of credit as the transfers tell them: what was put in, taken out, and what must be left.
 *
 * A lot is given its amount once and takes back what is refunded; it never has less than nothing or more than its
 * amount. Charges may take from it after its end, because holds keep it, and what they give back leaves it later;
 * nothing else may. */
#include "fsck_state.h"

#include <stdlib.h>

enum { LOTS_FIRST = 256 };

void walk_add_lot(struct walk *w, const struct grant_event *grant)
{
    if (w->lots.n == w->lots.cap) {
        w->lots.cap = w->lots.cap != 0 ? w->lots.cap * 2 : LOTS_FIRST;
        w->lots.at = mem_realloc(w->lots.at, w->lots.cap * sizeof(w->lots.at[0]));
    }
    w->lots.at[w->lots.n++] = (struct walked_lot){.grant = *grant};
}

static struct walked_lot *find(const struct walk *w, int64_t seq)
{
    size_t low = 0, high = w->lots.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (w->lots.at[middle].grant.seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < w->lots.n && w->lots.at[low].grant.seq == seq ? &w->lots.at[low] : NULL;
}

const struct walked_lot *walk_find_lot(const struct walk *w, int64_t seq)
{
    return find(w, seq);
}

/* What a kind of transfer has to do with the lot that it names. */
static const struct {
    bool needs, gives;  /* it cannot do without one; it is given to, not taken from */
    bool after_its_end; /* may happen to a lot that has ended */
} uses[TRANSFER_KINDS] = {
    [TRANSFER_CHARGE] = {.after_its_end = true},
    [TRANSFER_RETAIL_CHARGE] = {.after_its_end = true},
    [TRANSFER_CREDIT] = {.needs = true, .gives = true},
    [TRANSFER_SETTLEMENT] = {.needs = true},
    [TRANSFER_LAPSE] = {.needs = true, .after_its_end = true},
    [TRANSFER_WITHDRAWAL] = {.needs = true, .after_its_end = true},
    [TRANSFER_REFUND] = {.gives = true, .after_its_end = true},
};

static bool use_is_good(struct walked_lot *lot, const struct transfer_row *t, int64_t created_ms)
{
    const struct grant_event *grant = &lot->grant;
    bool gives = uses[t->kind].gives, good = (gives ? t->credit : t->debit) == grant->wallet;

    if (lot->ended && !uses[t->kind].after_its_end)
        good = false;
    if (t->kind == TRANSFER_ADJUSTMENT && grant->expires_at != 0)
        good = good && (__int128)created_ms * FSCK_MILLISECOND < grant->expires_at;
    lot->left += gives ? t->amount : -t->amount;
    lot->ended |= t->kind == TRANSFER_LAPSE || t->kind == TRANSFER_WITHDRAWAL;
    return good && lot->left >= 0 && lot->left <= grant->amount;
}

void walk_use_lot(struct walk *w, const struct transfer_row *t, int64_t created_ms)
{
    struct walked_lot *lot;

    if (t->kind >= TRANSFER_KINDS || (t->lot == 0 && !uses[t->kind].needs))
        return;
    w->checked[WALK_LOTS]++;
    lot = find(w, t->lot);
    if (lot == NULL)
        finding_add(&w->findings[WALK_LOTS], "transfer %lld: there is no grant %lld yet", (long long)t->number,
                    (long long)t->lot);
    else if (!use_is_good(lot, t, created_ms))
        finding_add(&w->findings[WALK_LOTS], "transfer %lld of grant %lld", (long long)t->number, (long long)t->lot);
}

/* A live grant with something left is over when its time has come at the last event: the writer looks before each. Not
 * where a migration made that event. */
static bool is_overdue(const struct walk *w, const struct grant_event *grant)
{
    return grant->status == GRANT_LIVE && grant->remaining > 0 && grant->expires_at != 0 &&
           grant->expires_at <= (__int128)w->last_ms * FSCK_MILLISECOND &&
           w->last_seq > w->link.begins >> EVENT_PLACE_BITS;
}

void walk_compare_lots(struct walk *w)
{
    for (size_t i = 0; i < w->lots.n; i++) {
        const struct walked_lot *lot = &w->lots.at[i];

        if (lot->left != lot->grant.remaining)
            finding_add(&w->findings[WALK_REMAINING], "grant %lld: remaining %lld, transfers %lld",
                        (long long)lot->grant.seq, (long long)lot->grant.remaining, (long long)lot->left);
        if (is_overdue(w, &lot->grant))
            finding_add(&w->findings[WALK_LAPSED], "grant %lld", (long long)lot->grant.seq);
    }
    w->checked[WALK_REMAINING] = w->checked[WALK_LAPSED] = (int64_t)w->lots.n;
}

void walk_dispose_lots(struct walk *w)
{
    free(w->lots.at);
}
