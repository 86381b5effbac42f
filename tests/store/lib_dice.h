/* lib_dice.h - a small seeded generator (splitmix64): the same seed, the same rolls. */
#ifndef TG_TESTS_LIB_DICE_H
#define TG_TESTS_LIB_DICE_H

#include <stdint.h>
#include <stdlib.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_roll(struct dice *d)
{
    uint64_t z = d->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* 0 .. n - 1; n > 0 */
static inline size_t dice_below(struct dice *d, size_t n)
{
    return (size_t)(dice_roll(d) % n);
}

/* The seed of this run: TG_SEED, else 1. A test prints it. */
static inline uint64_t dice_seed(void)
{
    const char *text = getenv("TG_SEED");

    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

#endif
