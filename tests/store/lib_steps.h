/* lib_steps.h - random operations as data: they can be cut, run again and printed.
 *
 * A step names what it is about by the place of the step that made it, so whatever is left out, the others keep their
 * meaning: a hold that was never made is not found, by the store as by the model. */
#ifndef TG_TESTS_LIB_STEPS_H
#define TG_TESTS_LIB_STEPS_H

#include "daemon/billing/budget.h"

/* Tenants are parties 0 and 1; then customers with a wallet of their own and such as use their tenant's. */
enum { STEPS_TENANTS = 2, STEPS_CUSTOMERS = 6, STEPS_PARTIES = STEPS_TENANTS + STEPS_CUSTOMERS };

static inline int steps_tenant_of(int party)
{
    return party % STEPS_TENANTS;
}

static inline bool steps_own_wallet(int party)
{
    return party < STEPS_TENANTS + 4;
}

#define STEP_KINDS                                                                                                     \
    STEP(HOLD)     /* party's key; a, b: legs; c: idempotency key, -1 none; d: its request; rule; flag: test */        \
    STEP(CAPTURE)  /* ref: hold; a, b: charges; c: cost; flag: estimated */                                            \
    STEP(VOID)     /* ref: hold */                                                                                     \
    STEP(DOUBT)    /* ref: hold; flag: the client is gone */                                                           \
    STEP(RESOLVE)  /* ref: hold; a: amount; flag: capture */                                                           \
    STEP(CREDIT)   /* party; a: amount; b: category; c: microseconds to live, 0 for ever; d: priority */               \
    STEP(WITHDRAW) /* ref: credit */                                                                                   \
    STEP(REFUND)   /* ref: hold; a: amount, 0 all; flag: retail only */                                                \
    STEP(TERMS)    /* party; a: credit limit; b: windows, a bit each; c: a day's budget; d: zone */                    \
    STEP(KEY)      /* party's key; b, c: as in terms */                                                                \
    STEP(PROBE)    /* party's key: a hold of all that its budgets bear; flag: and one more; then it is void */         \
    STEP(CLOCK)    /* a: microseconds */                                                                               \
    STEP(RESTART)                                                                                                      \
    STEP(OVERDUE)

enum step_kind {
#define STEP(name) STEP_##name,
    STEP_KINDS
#undef STEP
        STEP_COUNT
};

struct step {
    enum step_kind kind;
    int at; /* its place, also when others are left out */
    int party, ref, rule, flag;
    int64_t a, b, c, d;
};

enum { STEPS_ZONES = 4 };
extern const char *const steps_zones[STEPS_ZONES];

/* What all of a sequence happens in. */
struct steps_setting {
    uint64_t seed;
    bool falls;   /* the clock falls back now and then; then no idempotency key is ever forgotten, and rolling windows
                     are of whole hours a cell */
    int64_t keep; /* microseconds */
    int interval; /* steps between two looks at everything, which wait for all that is under way */
};

void steps_make(struct steps_setting *setting, struct step *steps, int n);
void steps_budgets(const struct step *step, struct budget_list *out); /* of TERMS and KEY */
void steps_print(const struct step *step);                            /* a line of C */

#endif
