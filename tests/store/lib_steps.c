/* lib_steps.c - see lib_steps.h. Amounts are small, so that wallets are often empty, lots used up and budgets spent. */
#include "lib_steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/conf.h"
#include "db/store.h"

#define HOUR (3600 * CLOCK_SECOND)

enum {
    PLACES = 64,
    IDEMPOTENCY_KEYS = 6,
    IDEMPOTENCY_REQUESTS = 2,
    REFUNDS_BURST = 30,
    BURST_FROM = 4000,
    INTERVAL = 1000
};

const char *const steps_zones[STEPS_ZONES] = {"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"};

/* The last two only where the clock does not fall: their cells are shorter than the hours of the roll-ups. */
static const struct {
    int64_t window, days; /* the budget in days' budgets */
} windows[] = {{BUDGET_DAY, 1}, {BUDGET_WEEK, 4},      {BUDGET_MONTH, 10}, {216000, 2},
               {432000, 3},     {BUDGET_LIFETIME, 20}, {36000, 2},         {1000, 1}};

enum { WINDOWS = sizeof(windows) / sizeof(windows[0]), WINDOWS_WHOLE = WINDOWS - 2 };

/* Places of steps, the oldest forgotten first. */
struct places {
    int n, at[PLACES];
};

struct maker {
    struct steps_setting *setting;
    uint64_t state;
    struct step *steps;
    int n, cap;
    struct places open, doubted, ended; /* holds, as far as can be told: some were refused */
    struct places credits;
};

static uint64_t below(struct maker *m, uint64_t n)
{
    m->state ^= m->state << 13;
    m->state ^= m->state >> 7;
    m->state ^= m->state << 17;
    return (m->state >> 11) % n;
}

static int64_t up_to(struct maker *m, int64_t n)
{
    return (int64_t)below(m, (uint64_t)n + 1);
}

static bool one_in(struct maker *m, uint64_t n)
{
    return below(m, n) == 0;
}

static struct step *add(struct maker *m, enum step_kind kind)
{
    struct step *s = &m->steps[m->n];

    *s = (struct step){.kind = kind, .at = m->n++};
    return s;
}

static void remember(struct places *p, int at)
{
    if (p->n == PLACES)
        memmove(p->at, p->at + 1, (size_t)--p->n * sizeof(p->at[0]));
    p->at[p->n++] = at;
}

/* One of them, of the last few most often; -1: none. <take>: it is forgotten, nine times in ten. */
static int pick(struct maker *m, struct places *p, bool take)
{
    int i, at;

    if (p->n == 0 || one_in(m, 60))
        return -1;
    i = p->n - 1 - (int)below(m, (uint64_t)(one_in(m, 3) || p->n < 6 ? p->n : 6));
    at = p->at[i];
    if (take && !one_in(m, 10)) {
        p->n--;
        memmove(p->at + i, p->at + i + 1, (size_t)(p->n - i) * sizeof(p->at[0]));
    }
    return at;
}

/* All open holds end by their rule. */
static void end_all(struct maker *m)
{
    for (int i = 0; i < m->open.n; i++)
        remember(m->steps[m->open.at[i]].rule == IN_DOUBT_KEEP ? &m->doubted : &m->ended, m->open.at[i]);
    m->open.n = 0;
}

static int some_wallet(struct maker *m)
{
    int party = (int)below(m, STEPS_PARTIES);

    return steps_own_wallet(party) ? party : steps_tenant_of(party);
}

/* ---- one of each kind ---- */

static void make_hold(struct maker *m)
{
    struct step *s = add(m, STEP_HOLD);
    int64_t top = one_in(m, 12) ? 900 : one_in(m, 3) ? 15 : 120;

    s->party = (int)below(m, STEPS_PARTIES);
    s->a = up_to(m, top);
    s->b = up_to(m, top);
    s->c = one_in(m, 3) ? (int64_t)below(m, IDEMPOTENCY_KEYS) : -1;
    s->d = (int64_t)below(m, IDEMPOTENCY_REQUESTS);
    s->rule = (int)below(m, 3);
    s->flag = one_in(m, 20);
    s->ref = one_in(m, 60) ? pick(m, &m->open, false) : -1; /* its id again */
    if (s->ref < 0)
        remember(&m->open, s->at);
}

static int64_t charge_of(struct maker *m, int64_t leg)
{
    switch (below(m, 8)) {
    case 0:
        return leg + up_to(m, 400);
    case 1:
    case 2:
        return leg;
    case 3:
        return one_in(m, 3) ? 0 : leg;
    default:
        return up_to(m, leg);
    }
}

static void make_capture(struct maker *m)
{
    struct step *s = add(m, STEP_CAPTURE);

    s->ref = pick(m, one_in(m, 20) ? &m->doubted : &m->open, true);
    s->a = charge_of(m, s->ref >= 0 ? m->steps[s->ref].a : 50);
    s->b = charge_of(m, s->ref >= 0 ? m->steps[s->ref].b : 50);
    s->c = up_to(m, 100);
    s->flag = one_in(m, 4);
    if (s->ref >= 0)
        remember(&m->ended, s->ref);
}

static void make_end(struct maker *m, enum step_kind kind)
{
    struct step *s = add(m, kind);

    s->ref = pick(m, one_in(m, 20) ? &m->ended : &m->open, true);
    s->flag = (int)below(m, 2);
    if (s->ref >= 0 && kind == STEP_DOUBT)
        remember(m->steps[s->ref].rule == IN_DOUBT_KEEP ? &m->doubted : &m->ended, s->ref);
}

static void make_resolve(struct maker *m)
{
    struct step *s = add(m, STEP_RESOLVE);
    const struct step *hold;

    s->ref = pick(m, one_in(m, 8) ? &m->open : &m->doubted, true);
    s->flag = (int)below(m, 2);
    if (s->ref < 0)
        return;
    hold = &m->steps[s->ref];
    s->a = hold->party >= STEPS_TENANTS && steps_own_wallet(hold->party) ? hold->b : hold->a;
    s->a = one_in(m, 4) ? -1 : up_to(m, s->a + s->a / 3 + 2);
    remember(&m->ended, s->ref);
}

static int64_t life(struct maker *m)
{
    switch (below(m, 6)) {
    case 0:
        return 0;
    case 1:
        return up_to(m, 10 * 1000000) - 2000000; /* sometimes expired already; to the microsecond */
    case 2:
        return 1 + up_to(m, 60 * 24 * HOUR);
    default:
        return 1000 * (1 + up_to(m, 12 * HOUR / 1000));
    }
}

static void make_credit(struct maker *m)
{
    struct step *s = add(m, STEP_CREDIT);

    s->party = some_wallet(m);
    s->a = one_in(m, 6) ? -1 - up_to(m, 200) : one_in(m, 3) ? up_to(m, 1500) : up_to(m, 120);
    s->b = (int64_t)below(m, 2);
    s->c = s->a > 0 ? life(m) : 0;
    s->d = one_in(m, 3) ? up_to(m, 100) : (int64_t)below(m, 3);
    if (s->a > 0)
        remember(&m->credits, s->at);
}

static void make_refund(struct maker *m)
{
    struct step *s = add(m, STEP_REFUND);

    s->ref = pick(m, one_in(m, 30) ? &m->open : &m->ended, false);
    s->a = one_in(m, 2) ? 0 : up_to(m, one_in(m, 5) ? 200 : 40);
    s->flag = one_in(m, 3);
}

/* A small lot that is used up at once. */
static void use_up(struct maker *m, int party)
{
    struct step *s = add(m, STEP_CREDIT);

    s->party = party;
    s->a = 1 + up_to(m, 3);
    s->c = HOUR / 2 + up_to(m, 1000);
    s = add(m, STEP_HOLD);
    s->party = party;
    s->a = s->b = 6;
    s->c = s->ref = -1;
    add(m, STEP_CAPTURE)->ref = s->at;
    m->steps[m->n - 1].a = m->steps[m->n - 1].b = 6;
    remember(&m->ended, s->at);
}

/* A wallet gets more lots than it may have, which lapse after some hours; charges to it are refunded meanwhile. */
static void make_burst(struct maker *m)
{
    int party = (int)below(m, STEPS_TENANTS);

    for (int i = 0; i < 6; i++)
        use_up(m, party);
    for (int i = 0; i < STORE_LOTS + 10 && m->n < m->cap; i++) {
        struct step *s = add(m, STEP_CREDIT);

        s->party = party;
        s->a = i == 0 ? 2000 : 1 + up_to(m, 3); /* the first pays what is owed, so that the others last */
        s->b = (int64_t)below(m, 2);
        s->c = HOUR + up_to(m, 6 * HOUR);
        s->d = one_in(m, 2) ? 0 : up_to(m, 100);
        if (i % 64 == 8 && m->n < m->cap)
            make_hold(m);
    }
    for (int i = m->ended.n - 1; i >= 0 && m->n < m->cap; i--)
        if (steps_tenant_of(m->steps[m->ended.at[i]].party) == party)
            add(m, STEP_REFUND)->ref = m->ended.at[i];
}

static void make_withdraw(struct maker *m)
{
    struct step *s = add(m, STEP_WITHDRAW);

    s->ref = pick(m, &m->credits, true);
}

static int64_t some_windows(struct maker *m)
{
    int64_t bits = m->setting->falls ? 0 : INT64_C(3) << WINDOWS_WHOLE; /* those are never taken away */

    for (int i = 0; i < WINDOWS_WHOLE; i++)
        if (one_in(m, 5))
            bits |= INT64_C(1) << i;
    return bits;
}

static int64_t a_days_budget(struct maker *m)
{
    return one_in(m, 6) ? up_to(m, 300) : 1000 + up_to(m, 6000);
}

static void make_terms(struct maker *m, int party)
{
    struct step *s = add(m, STEP_TERMS);

    s->party = party;
    s->a = one_in(m, 3) ? 0 : up_to(m, 500);
    s->b = some_windows(m);
    s->c = a_days_budget(m);
    s->d = (int64_t)below(m, STEPS_ZONES);
}

static void make_key(struct maker *m, int party)
{
    struct step *s = add(m, STEP_KEY);

    s->party = party;
    s->b = some_windows(m);
    s->c = a_days_budget(m);
}

static void make_clock(struct maker *m)
{
    struct step *s = add(m, STEP_CLOCK);

    switch (below(m, 16)) {
    case 0:
        s->a = up_to(m, 30 * HOUR);
        break;
    case 1:
        s->a = one_in(m, 4) ? up_to(m, 12 * 24 * HOUR) : up_to(m, 8 * HOUR);
        break;
    case 2:
        if (m->setting->falls) {
            s->a = -2 * HOUR - up_to(m, 9 * HOUR);
            break;
        }
        /* fallthrough */
    case 3:
    case 4:
    case 5:
        s->a = up_to(m, HOUR);
        break;
    default:
        s->a = up_to(m, 30 * CLOCK_SECOND);
        break;
    }
}

/* A lot lapses in a wallet that owes something: a hold kept it from being used. */
static void make_scene(struct maker *m)
{
    int party = (int)below(m, STEPS_TENANTS);
    struct step *s = m->steps;

    if (m->n + 8 > m->cap)
        return;
    make_terms(m, party);
    m->steps[m->n - 1].a = 500;
    for (int i = 0; i < 4; i++) {
        s = add(m, i < 2 ? STEP_CREDIT : STEP_HOLD);
        s->party = party;
        s->a = i == 0 ? 700 : i == 1 ? 20 + up_to(m, 80) : 1 + up_to(m, 400);
        s->b = i < 2 ? 0 : s->a;
        s->c = i < 2 ? HOUR + up_to(m, HOUR) : -1;
        s->ref = i < 2 ? 0 : -1;
    }
    s = add(m, STEP_CAPTURE);
    s->ref = s->at - 1;
    s->a = s->b = m->steps[s->ref].a + up_to(m, 900);
    add(m, STEP_VOID)->ref = s->at - 2;
    add(m, STEP_CLOCK)->a = 3 * HOUR;
}

static void make_probe(struct maker *m)
{
    struct step *s = add(m, STEP_PROBE);

    s->party = (int)below(m, STEPS_PARTIES);
    s->flag = one_in(m, 2);
}

static void make_end_of_all(struct maker *m)
{
    add(m, one_in(m, 3) ? STEP_OVERDUE : STEP_RESTART);
    end_all(m);
}

static void make_one(struct maker *m)
{
    uint64_t what = below(m, 1002);

    if (what < 340)
        make_hold(m);
    else if (what < 550)
        make_capture(m);
    else if (what < 600)
        make_end(m, STEP_VOID);
    else if (what < 650)
        make_end(m, STEP_DOUBT);
    else if (what < 690)
        make_resolve(m);
    else if (what < 780)
        make_credit(m);
    else if (what < 800)
        make_withdraw(m);
    else if (what < 890)
        make_refund(m);
    else if (what < 915)
        make_terms(m, (int)below(m, STEPS_PARTIES));
    else if (what < 930)
        make_key(m, (int)below(m, STEPS_PARTIES));
    else if (what < 950)
        make_probe(m);
    else if (what < 996)
        make_clock(m);
    else if (what < 999)
        make_end_of_all(m);
    else
        make_scene(m);
}

void steps_make(struct steps_setting *setting, struct step *steps, int n)
{
    struct maker m = {.setting = setting, .steps = steps, .cap = n};

    int burst = n >= BURST_FROM ? n / 3 : n, bursts = 0;

    m.state = (setting->seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 16; i++) /* the first ones look alike for seeds that do */
        (void)below(&m, 2);
    setting->falls = setting->seed % 2 == 0;
    setting->interval = INTERVAL;
    setting->keep = setting->falls ? 4000 * 24 * HOUR : HOUR;
    for (int i = 0; i < STEPS_PARTIES && m.n + 2 <= n; i++) {
        make_terms(&m, i);
        make_key(&m, i);
    }
    while (m.n < n)
        if (m.n < burst || bursts++ > 0)
            make_one(&m);
        else
            make_burst(&m);
}

void steps_budgets(const struct step *step, struct budget_list *out)
{
    out->n = 0;
    for (int i = 0; i < WINDOWS; i++)
        if ((step->b >> i & 1) != 0)
            out->of[out->n++] = (struct budget){step->c * windows[i].days, windows[i].window};
}

void steps_print(const struct step *s)
{
    static const char *const names[] = {
#define STEP(name) "STEP_" #name,
        STEP_KINDS
#undef STEP
    };

    fprintf(stderr, "    {%s, .at = %d", names[s->kind], s->at);
    if (s->kind == STEP_HOLD || s->kind == STEP_CREDIT || s->kind == STEP_TERMS || s->kind == STEP_KEY ||
        s->kind == STEP_PROBE)
        fprintf(stderr, ", .party = %d", s->party);
    if (s->kind <= STEP_RESOLVE || s->kind == STEP_WITHDRAW || s->kind == STEP_REFUND)
        fprintf(stderr, ", .ref = %d", s->ref);
    if (s->rule != 0)
        fprintf(stderr, ", .rule = %d", s->rule);
    if (s->flag != 0)
        fprintf(stderr, ", .flag = %d", s->flag);
    fprintf(stderr, ", .a = %" PRId64, s->a);
    if (s->b != 0)
        fprintf(stderr, ", .b = %" PRId64, s->b);
    if (s->c != 0)
        fprintf(stderr, ", .c = %" PRId64, s->c);
    if (s->d != 0)
        fprintf(stderr, ", .d = %" PRId64, s->d);
    fprintf(stderr, "},\n");
}
