/* tries.c - a bucket of failed tries for each address.
 *
 *   address --hash--> table --> struct source, which all stand in a row by when they were last seen
 *
 * Invariants
 *  (1) A source is in the table and in the row, or in neither; there are at most TRIES_ADDRESSES.
 *  (2) 0 <= left <= TRIES_BURST seconds of credit: a try costs one second, and time gives it back.
 *  (3) What is answered to a source without credit depends on its remembered tokens alone.
 * Any thread, under `lock`. */
#include "tries.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/attrs.h"
#include "daemon/base/clock.h"
#include "daemon/base/secret.h"
#include "daemon/base/table.h"

#define ONE_TRY (CLOCK_SECOND / TRIES_PER_SECOND)
#define FULL (TRIES_BURST * ONE_TRY)

enum { ADDRESS = 17 }; /* kind, and up to 16 bytes */

struct source {
    uint8_t address[ADDRESS];
    struct source *older, *newer;
    int64_t left, seen; /* credit in microseconds, as of when it was last seen */
    bool told;          /* a refusal was told since it last had credit */
    struct {
        int64_t row, at; /* at 0: none */
    } good[TRIES_GOOD];
};

struct tries {
    pthread_mutex_t lock;
    struct table table;
    struct source *oldest, *newest;
};

struct tries *tries_create(void)
{
    struct tries *t = mem_zalloc(sizeof(*t));

    TG_ASSERT(pthread_mutex_init(&t->lock, NULL) == 0);
    table_init(&t->table);
    return t;
}

void tries_destroy(struct tries *t)
{
    if (t == NULL)
        return;
    for (struct source *s = t->oldest, *next; s != NULL; s = next) {
        next = s->newer;
        free(s);
    }
    table_dispose(&t->table);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- addresses ---- */

static void read_address(const char *peer, uint8_t out[ADDRESS])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    char text[INET6_ADDRSTRLEN];
    uint8_t bytes[16];

    memset(out, 0, ADDRESS);
    (void)snprintf(text, sizeof(text), "%.*s", (int)strcspn(peer, "%"), peer); /* fe80::1%eth0 */
    if (inet_pton(AF_INET, text, out + 1) == 1) {
        out[0] = 4;
    } else if (inet_pton(AF_INET6, text, bytes) == 1) {
        bool four = memcmp(bytes, mapped, sizeof(mapped)) == 0;

        out[0] = four ? 4 : 6;
        memcpy(out + 1, four ? bytes + 12 : bytes, four ? 4 : 8);
    }
}

static bool match(const void *item, const void *key)
{
    return memcmp(((const struct source *)item)->address, key, ADDRESS) == 0;
}

static void take_from_row(struct tries *t, struct source *s)
{
    *(s->older != NULL ? &s->older->newer : &t->oldest) = s->newer;
    *(s->newer != NULL ? &s->newer->older : &t->newest) = s->older;
}

static void put_newest(struct tries *t, struct source *s)
{
    s->older = t->newest;
    s->newer = NULL;
    *(t->newest != NULL ? &t->newest->newer : &t->oldest) = s;
    t->newest = s;
}

static void forget_oldest(struct tries *t)
{
    struct source *s = t->oldest;

    take_from_row(t, s);
    (void)table_remove(&t->table, secret_hash64(s->address, ADDRESS), match, s->address);
    free(s);
}

static struct source *find_source(struct tries *t, const char *peer, int64_t now)
{
    uint8_t address[ADDRESS];
    struct source *s;

    read_address(peer, address);
    s = table_get(&t->table, secret_hash64(address, ADDRESS), match, address);
    if (s != NULL) {
        take_from_row(t, s);
        put_newest(t, s);
        return s;
    }
    if (t->table.count == TRIES_ADDRESSES)
        forget_oldest(t);
    s = mem_zalloc(sizeof(*s));
    memcpy(s->address, address, ADDRESS);
    s->left = FULL;
    s->seen = now;
    TG_ASSERT(table_put(&t->table, secret_hash64(address, ADDRESS), match, address, s) == NULL);
    put_newest(t, s);
    return s;
}

/* ---- credit ---- */

static void give_back(struct source *s, int64_t now)
{
    int64_t passed = now > s->seen ? now - s->seen : 0;

    s->seen = now;
    s->left = passed >= FULL - s->left ? FULL : s->left + passed;
    if (s->left >= ONE_TRY)
        s->told = false;
}

static bool is_remembered(const struct source *s, int64_t row, int64_t now)
{
    for (int i = 0; i < TRIES_GOOD; i++) {
        if (s->good[i].at != 0 && s->good[i].row == row && now - s->good[i].at < TRIES_REMEMBERED * CLOCK_SECOND)
            return true;
    }
    return false;
}

/* In the place where it stood, else in the oldest. */
static void remember(struct source *s, int64_t row, int64_t now)
{
    int place = 0;

    for (int i = 0; i < TRIES_GOOD; i++) {
        if (s->good[i].at != 0 && s->good[i].row == row) {
            place = i;
            break;
        }
        if (s->good[i].at < s->good[place].at)
            place = i;
    }
    s->good[place].row = row;
    s->good[place].at = now;
}

static enum try_result count(struct source *s, int64_t row, int64_t now, int64_t *wait)
{
    bool told = s->told;

    if (s->left >= ONE_TRY || (row != TRIES_BAD && is_remembered(s, row, now))) {
        if (row != TRIES_BAD)
            remember(s, row, now);
        else
            s->left -= ONE_TRY;
        return TRY_GOES;
    }
    s->told = true;
    *wait = ONE_TRY - s->left;
    return told ? TRY_REFUSED : TRY_REFUSED_FIRST;
}

enum try_result tries_count(struct tries *t, const char *peer, int64_t row, int64_t now, int64_t *wait)
{
    struct source *s;
    enum try_result result;

    *wait = 0;
    (void)pthread_mutex_lock(&t->lock);
    s = find_source(t, peer, now);
    give_back(s, now);
    result = count(s, row, now, wait);
    (void)pthread_mutex_unlock(&t->lock);
    return result;
}
