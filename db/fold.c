/* fold.c - when the sums of days are made: in the background, from roll-ups that change no more.
 *
 *   quarter of an hour:  running --> over, for a minute still left alone --> due --> folded, in steps of FOLD_ROWS
 *
 * Reports are exact however far this is (sqlite_report.c); the farther, the faster. So a step is made while nobody
 * waits; and when there is always somebody, once the work is LAG behind, in a tenth of the writer's time. The writer's
 * thread, between batches; each step is a transaction. */
#include "store_state.h"

#include "daemon/base/clock.h"

#define QUARTER (ROLLUP_QUARTER * ROLLUP_MINUTE)
#define DAY (24 * 60 * ROLLUP_MINUTE)
#define SETTLE (60 * CLOCK_SECOND) /* records come in the order of time: what is so old is complete */
#define LAG (3 * QUARTER)

enum { FOLD_ROWS = 256, FOLD_SHARE = 10 };

/* Quarters that end at it or earlier can be folded. */
static int64_t limit(void)
{
    int64_t wall = clock_wall() - SETTLE;

    return wall < 0 ? 0 : wall - wall % QUARTER;
}

bool fold_due(const struct store *s)
{
    struct fold_state f;
    int64_t end = limit();

    if (!atomic_load(&((struct store *)(uintptr_t)s)->healthy))
        return false;
    s->engine->class->folding(s->engine, &f);
    if (end <= f.folded)
        return false;
    return f.latest >= f.folded || end / DAY > f.folded / DAY; /* a day without records is over, too */
}

bool fold_waits(const struct store *s)
{
    struct fold_state f;

    s->engine->class->folding(s->engine, &f);
    return f.latest >= f.folded;
}

int64_t fold_done(const struct store *s)
{
    struct fold_state f;

    s->engine->class->folding(s->engine, &f);
    return f.folded;
}

/* When another program holds the database, nothing was touched: another time. */
static void step(struct store *s)
{
    struct err err;
    enum err_code code = s->engine->class->begin(s->engine, &err);

    if (code == ERR_CONFLICT)
        return;
    if (code == ERR_OK)
        code = s->engine->class->fold(s->engine, limit(), FOLD_ROWS, &err);
    if (code == ERR_OK)
        code = s->engine->class->commit(s->engine, &err);
    if (code != ERR_OK)
        batch_fail(s, err.message);
}

void fold_run(struct store *s, bool idle)
{
    int64_t began;

    if (!fold_due(s) || (!idle && (limit() - fold_done(s) < LAG || clock_mono() < s->fold_next)))
        return;
    began = clock_mono();
    step(s);
    s->fold_next = clock_mono() + (clock_mono() - began) * (FOLD_SHARE - 1);
}
