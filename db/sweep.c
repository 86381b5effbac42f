/* sweep.c - what time asks for: holds that nobody ends, lots that lapse.
 *
 * A hold whose process died is ended at the next start, whatever its age; a hold of this process that is older than the
 * deadline, which lies beyond every time-out of a call, has been lost track of and is in doubt. Age is elapsed time
 * (CLOCK_MONOTONIC): the wall clock may jump as it likes. The writer's thread (store_open's before it starts). */
#include "store_state.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"

/* Puts up to STORE_BATCH holds in doubt, in one transaction. */
static enum err_code resolve_some(struct store *s, const struct id *ids, size_t n, struct err *err)
{
    struct store_doubt *ops = mem_zalloc(n * sizeof(*ops));
    enum err_code code = ERR_OK;

    for (size_t i = 0; i < n; i++) {
        ops[i].super.kind = STORE_DOUBT;
        ops[i].super.mail.next = i + 1 < n ? &ops[i + 1].super.mail : NULL;
        ops[i].hold = ids[i];
    }
    batch_run(s, &ops[0].super, n);
    for (size_t i = 0; code == ERR_OK && i < n; i++)
        if (ops[i].super.err.code != ERR_OK)
            code = err_set(err, ops[i].super.err.code, NULL, "Cannot resolve a hold: %s", ops[i].super.err.message);
    free(ops);
    return code;
}

enum err_code sweep_dead(struct store *s, struct err *err)
{
    enum err_code code = ERR_OK;
    size_t n;
    struct id *ids = ledger_dead_holds(s->ledger, &n);

    for (size_t done = 0, some; code == ERR_OK && done < n; done += some) {
        some = n - done < STORE_BATCH ? n - done : STORE_BATCH;
        code = resolve_some(s, ids + done, some, err);
        if (code == ERR_OK)
            code = FAILPOINT_CODE(START_DEAD, err);
    }
    free(ids);
    s->recovered = (int64_t)n;
    if (code == ERR_OK && n > 0)
        LOG(LOG_HOLDS_RECOVERED, LOG_F_INT("holds", s->recovered));
    return code;
}

static void sweep_overdue(struct store *s)
{
    struct id ids[SWEEP_HOLDS];
    size_t n = ledger_overdue_holds(s->ledger, clock_mono() - s->hold_deadline, ids, SWEEP_HOLDS);
    struct err err;

    if (n > 0 && resolve_some(s, ids, n, &err) == ERR_OK)
        LOG(LOG_HOLDS_OVERDUE, LOG_F_INT("holds", (int64_t)n));
}

void sweep_due(struct store *s)
{
    if (!atomic_load(&s->healthy))
        return;
    sweep_overdue(s);
    if (ledger_lapse_due(s->ledger, clock_wall())) {
        (void)FAILPOINT(LAPSE_BEFORE);
        batch_run(s, NULL, 0);
    }
}

bool sweep_waits(const struct store *s)
{
    return ledger_open_holds(s->ledger) > 0 || ledger_lapse_due(s->ledger, INT64_MAX);
}
