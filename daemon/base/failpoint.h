/* failpoint.h - places where a test stops, fails or delays the process; nothing of it is in a release.
 *
 * A build with TG_FAILPOINTS reads the environment variable TG_FAILPOINT once, at the start of main:
 *
 *     TG_FAILPOINT=commit.before:3:kill,usage.row:1:err,deliver.before:2:delay=50ms
 *
 * and when the process passes one of these places for the count-th time it is killed (SIGKILL), or the place fails as
 * it may in life, or the thread sleeps (200 ms, when not told how long). `tallygate help --failpoints` lists them. In
 * every other build FAILPOINT(NAME) is the constant false. Any thread. */
#ifndef TG_BASE_FAILPOINT_H
#define TG_BASE_FAILPOINT_H

#include <stdbool.h>
#include <stdio.h>

#include "err.h"

enum failpoint {
#define FAILPOINT_AT(NAME, text, fails, where) FAILPOINT_##NAME,
#include "failpoints.def"
#undef FAILPOINT_AT
    FAILPOINTS
};

#ifdef TG_FAILPOINTS

/* Takes the value of TG_FAILPOINT (NULL, empty: none) before other threads run; the second time it replaces the first.
 * False: it is not understood, and <err> says why; then nothing is armed. */
TG_MUSTCHECK bool failpoint_arm(const char *text, struct err *err);

/* A line each: name, its actions with commas, where it stands, with tabs between. */
void failpoint_list(FILE *out);

/* Whether the place is to fail. */
bool failpoint_pass(enum failpoint at);

#define FAILPOINT_BUILD true
#define FAILPOINT_NTH(NAME, n) failpoint_pass((enum failpoint)(FAILPOINT_##NAME + (int)(n)))

#else

static inline bool failpoint_arm(const char *text, struct err *err)
{
    (void)text, (void)err;
    return true;
}

static inline void failpoint_list(FILE *out)
{
    (void)out;
}

#define FAILPOINT_BUILD false
#define FAILPOINT_NTH(NAME, n) ((void)FAILPOINT_##NAME, (void)(n), false)

#endif

/* True: fail here, now. The n-th row after NAME's: FAILPOINT_NTH. */
#define FAILPOINT(NAME) FAILPOINT_NTH(NAME, 0)

/* What a place whose database has failed returns. */
#define FAILPOINT_ERROR(err) err_set(err, ERR_UNAVAILABLE, NULL, "The database failed: a test told it to.")

/* The same as an expression: ERR_OK, or fail. */
#define FAILPOINT_CODE(NAME, err) (FAILPOINT(NAME) ? FAILPOINT_ERROR(err) : ERR_OK)

#endif
