/* failpoint.c - what a test build does at the places of failpoints.def; in every other build this file is empty.
 *
 * Armed before threads run and never changed after that; only the passages are counted, atomically, so that of several
 * threads exactly one finds itself the count-th. What happens is told on standard error first, by one write, since
 * after a kill nothing tells it any more. */
#include "failpoint.h"

#ifdef TG_FAILPOINTS

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "slice.h"

enum { COUNT_MAX = 1000000000, DELAY_MS = 200, DELAY_MAX_MS = 60000, LINE = 160 };

enum action { NOTHING = 0, KILL, FAIL, DELAY };

enum fails { RUNS = 0, FAILS };

static const struct point {
    const char *name, *where;
    enum fails fails;
} points[FAILPOINTS] = {
#define FAILPOINT_AT(NAME, text, fails, where) {text, where, fails},
#include "failpoints.def"
#undef FAILPOINT_AT
};

static struct armed {
    enum action action;
    unsigned long long count, delay_ms;
    atomic_ullong passed;
} armed[FAILPOINTS];

static atomic_bool any; /* so that an unarmed process looks no further */

/* ---- what is asked for ---- */

static int find_point(struct slice name)
{
    int i = 0;

    while (i < FAILPOINTS && !slice_eq_str(name, points[i].name))
        i++;
    return i;
}

static bool read_delay(struct slice text, unsigned long long *ms)
{
    struct slice number = text;

    if (number.len > 2 && memcmp(number.p + number.len - 2, "ms", 2) == 0)
        number.len -= 2;
    return slice_to_u64(number, ms) && *ms <= DELAY_MAX_MS;
}

static bool read_action(struct slice text, const struct point *point, struct armed *out)
{
    struct slice word, delay;

    out->delay_ms = DELAY_MS;
    if (slice_cut(text, '=', &word, &delay)) {
        out->action = DELAY;
        return slice_eq_str(word, "delay") && read_delay(delay, &out->delay_ms);
    }
    if (slice_eq_str(text, "kill"))
        out->action = KILL;
    else if (slice_eq_str(text, "delay"))
        out->action = DELAY;
    else if (slice_eq_str(text, "err") && point->fails == FAILS)
        out->action = FAIL;
    return out->action != NOTHING;
}

/* "name:count:action" */
static bool read_one(struct slice text, struct err *err)
{
    struct slice name, rest, count, action;
    struct armed *out;
    int at;

    (void)slice_cut(text, ':', &name, &rest);
    (void)slice_cut(rest, ':', &count, &action);
    at = find_point(name);
    if (at == FAILPOINTS) {
        (void)err_set(err, ERR_INVALID_VALUE, NULL, "there is no failpoint '%.*s'", (int)name.len, name.p);
        return false;
    }
    out = &armed[at];
    if (out->action != NOTHING) {
        (void)err_set(err, ERR_INVALID_VALUE, NULL, "'%s' is there twice", points[at].name);
        return false;
    }
    if (!slice_to_u64(count, &out->count) || out->count == 0 || out->count > COUNT_MAX ||
        !read_action(action, &points[at], out)) {
        (void)err_set(err, ERR_INVALID_VALUE, NULL, "'%.*s' is not name:count:%sdelay[=50ms]", (int)text.len, text.p,
                      points[at].fails == FAILS ? "kill|err|" : "kill|");
        return false;
    }
    return true;
}

static void disarm(void)
{
    atomic_store(&any, false);
    for (int i = 0; i < FAILPOINTS; i++) {
        armed[i].action = NOTHING;
        atomic_store(&armed[i].passed, 0);
    }
}

bool failpoint_arm(const char *text, struct err *err)
{
    struct slice rest = slice_from(text != NULL ? text : ""), one;
    bool some = rest.len > 0;

    disarm();
    while (rest.len > 0) {
        (void)slice_cut(rest, ',', &one, &rest);
        if (!read_one(one, err)) {
            disarm();
            return false;
        }
    }
    atomic_store(&any, some);
    return true;
}

void failpoint_list(FILE *out)
{
    for (int i = 0; i < FAILPOINTS; i++)
        fprintf(out, "%s\t%s\t%s\n", points[i].name, points[i].fails == FAILS ? "kill,err,delay" : "kill,delay",
                points[i].where);
}

/* ---- passing ---- */

static void say(const char *name, const char *action)
{
    char line[LINE];
    int n = snprintf(line, sizeof(line), "{\"event\": \"failpoint\", \"name\": \"%s\", \"action\": \"%s\"}\n", name,
                     action);

    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody listens; what is to happen happens all the same */
}

static void sleep_ms(unsigned long long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&left, &left) != 0)
        continue;
}

static bool act(enum failpoint at)
{
    switch (armed[at].action) {
    case KILL:
        say(points[at].name, "kill");
        (void)kill(getpid(), SIGKILL);
        for (;;)
            (void)pause();
    case FAIL:
        say(points[at].name, "err");
        return true;
    case DELAY:
        say(points[at].name, "delay");
        sleep_ms(armed[at].delay_ms);
        return false;
    case NOTHING:
        break;
    }
    return false;
}

bool failpoint_pass(enum failpoint at)
{
    if (!atomic_load_explicit(&any, memory_order_relaxed) || armed[at].action == NOTHING)
        return false;
    return atomic_fetch_add(&armed[at].passed, 1) + 1 == armed[at].count && act(at);
}

#endif
