/* fsck_chain.c - the hash chain, made again from the transfers and held against every link.
 *
 *   row -1 (last = L)   after transfer L the chain begins, from 32 zero bytes
 *   row n  (last, hash) the events up to transfer <last>, CHAIN_EVENTS of them in every link but the newest
 *
 * After a link that does not fit, it goes on from what that link says: so a finding names the link in which something
 * was changed, left out or put in. */
#include "chain.h"
#include "fsck_state.h"

enum { NO_LINK = -2 };

static void load_link(struct walked_link *l)
{
    struct slice hash = sqlite_column_slice(l->rows, 2);

    memset(l->stored, 0, sizeof(l->stored));
    l->place = sqlite3_column_int64(l->rows, 0);
    l->last = sqlite3_column_int64(l->rows, 1);
    if (hash.len == CHAIN_HASH)
        memcpy(l->stored, hash.p, CHAIN_HASH);
    l->events = 0;
    l->rc = sqlite3_step(l->rows);
}

enum err_code walk_open_chain(struct walk *w, struct err *err)
{
    static const uint8_t zeros[CHAIN_HASH];
    struct walked_link *l = &w->link;
    enum err_code code =
        sqlite_prepare(&w->f->conn, "SELECT place, last, hash FROM chain ORDER BY place", &l->rows, err);

    l->place = NO_LINK;
    if (code != ERR_OK)
        return code;
    l->rc = sqlite3_step(l->rows);
    if (l->rc == SQLITE_ROW)
        load_link(l);
    if (l->place != -1 || memcmp(l->stored, zeros, sizeof(zeros)) != 0)
        finding_add(&w->findings[WALK_CHAIN], "it does not say where it begins");
    else
        l->begins = l->last;
    return ERR_OK;
}

/* All events of the link were seen. */
static void close_link(struct walk *w)
{
    struct walked_link *l = &w->link;
    bool newest = l->rc != SQLITE_ROW;

    if (l->place < 0)
        return;
    w->checked[WALK_CHAIN] += l->events;
    if (memcmp(l->hash, l->stored, CHAIN_HASH) != 0)
        finding_add(&w->findings[WALK_CHAIN], "link %lld, up to transfer %lld, has another hash", (long long)l->place,
                    (long long)l->last);
    else if (newest ? l->events < 1 || l->events > CHAIN_EVENTS : l->events != CHAIN_EVENTS)
        finding_add(&w->findings[WALK_CHAIN], "link %lld has %lld events", (long long)l->place, (long long)l->events);
}

static bool next_link(struct walk *w)
{
    struct walked_link *l = &w->link;
    int64_t place = l->place;

    close_link(w);
    memcpy(l->hash, l->stored, CHAIN_HASH);
    if (l->rc != SQLITE_ROW)
        return false;
    load_link(l);
    if (l->place != place + 1)
        finding_add(&w->findings[WALK_CHAIN], "link %lld is missing", (long long)place + 1);
    return true;
}

void walk_chain(struct walk *w, const struct group *g)
{
    struct walked_link *l = &w->link;

    if (l->place == NO_LINK || g->at[0].number <= l->begins)
        return;
    while (g->at[0].number > l->last)
        if (!next_link(w)) {
            l->place = NO_LINK;
            finding_add(&w->findings[WALK_CHAIN], "transfer %lld is not in it", (long long)g->at[0].number);
            return;
        }
    chain_step(l->hash, g->at, (size_t)g->n);
    l->events++;
}

enum err_code walk_close_chain(struct walk *w, int64_t last, struct err *err)
{
    struct walked_link *l = &w->link;

    if (l->place != NO_LINK) {
        while (l->rc == SQLITE_ROW)
            (void)next_link(w);
        close_link(w);
        if (l->last != last)
            finding_add(&w->findings[WALK_CHAIN], "it ends with transfer %lld, not %lld", (long long)l->last,
                        (long long)last);
    }
    return l->rc == SQLITE_ROW || l->rc == SQLITE_DONE ? ERR_OK
                                                       : sqlite_error(&w->f->conn, "Cannot read the chain", err);
}

void walk_dispose_chain(struct walk *w)
{
    sqlite3_finalize(w->link.rows);
}
