/* lib_play.h - plays a sequence of steps to a store and to the model side by side.
 *
 * Whatever the two differ in ends the process: so it is run in a child, and the result lies in memory shared with it.
 * The clock is frozen and moved by the steps. */
#ifndef TG_TESTS_LIB_PLAY_H
#define TG_TESTS_LIB_PLAY_H

#include "lib_model.h"
#include "lib_steps.h"

enum { PLAY_TEXT = 2048 };

struct play_result {
    int step;             /* the last one that was prepared, or -1 */
    char text[PLAY_TEXT]; /* what differs; empty: nothing */
    char dir[64];         /* of the store; gone when all was well */
    int64_t records, transfers, compared;
    int64_t reached[REACHED_COUNT]; /* added to */
};

/* Returns when nothing differed, else exits with status 1. */
void play(const struct steps_setting *setting, const struct step *steps, int n, struct play_result *result);

#endif
