/* lib_look.h - compares all that a store says and has written with the model. */
#ifndef TG_TESTS_LIB_LOOK_H
#define TG_TESTS_LIB_LOOK_H

#include "lib_model.h"
#include "lib_play.h"
#include "lib_world.h"

struct look {
    struct world *world;
    struct oracle *model;
    struct play_result *result;
    bool falls;             /* the clock may fall back */
    int64_t transfers, seq; /* the last transfer's and event's number at the last look */
    int usage;              /* records of the model then */
};

/* Notes what differs (the first time) and ends the process with status 1. */
_Noreturn void look_differ(struct look *l, const char *fmt, ...) TG_PRINTF(2, 3);

/* Everything, at a time when nothing is under way; <all>: each usage record, not only the new ones. */
void look_at_everything(struct look *l, bool all);

void look_check(struct look *l); /* fsck, of a store that is closed */

/* The number of the record of a request, which is not before <first>. */
int64_t look_seq_of(struct look *l, struct id request, int64_t first);

#endif
