/* lib_load.c - see lib_load.h.
 *
 *   holding --> held --> capturing --> captured
 *      |         | \
 *      |         |  `--> voiding --> voided
 *      v         v
 *    absent   released      (by the rule of a hold whose process is gone, at the next start) */
#include "lib_load.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define UNIT INT64_C(1000000) /* hand h credits UNIT << h, so that a sum tells who credited */

/* What one hand has in the queue. */
struct errand {
    union {
        struct store_op op;
        struct store_credit credit;
        struct store_hold hold;
        struct store_capture capture;
        struct store_void undo;
        struct store_put put;
    } u;
    int call;
};

static void TG_PRINTF(2, 3) wrong(struct load *l, const char *fmt, ...)
{
    va_list args;

    if (l->wrong[0] != '\0')
        return;
    va_start(args, fmt);
    (void)vsnprintf(l->wrong, sizeof(l->wrong), fmt, args);
    va_end(args);
}

bool load_is_clear(const char *message, size_t cap)
{
    size_t len = strnlen(message, cap), printable = 0;

    while (printable < len && message[printable] >= ' ' && message[printable] <= '~')
        printable++;
    return len > 0 && len < cap && printable == len;
}

void load_init(struct load *l, struct world *w, uint64_t seed, int n_hands, int64_t tenant, int64_t customer)
{
    memset(l, 0, sizeof(*l));
    l->w = w;
    l->dice.state = seed;
    l->n_hands = n_hands;
    l->credited[0] = tenant;
    l->credited[1] = customer;
    for (int h = 0; h < LOAD_HANDS; h++)
        l->hands[h].open = -1;
}

/* ---- opening and closing ---- */

static void on_failed(void *ctx, const char *why)
{
    struct world *w = ctx;

    w->failures++;
    (void)snprintf(w->why, sizeof(w->why), "%s", why);
}

enum err_code load_open(struct load *l, struct err *err)
{
    struct world *w = l->w;
    struct store_options options = {.url = w->url, .secrets = w->secrets, .migrate = true};
    enum err_code code;

    l->failed = false;
    for (int h = 0; h < LOAD_HANDS; h++)
        l->hands[h].open = -1; /* the start ends what is held */
    w->failures = 0;
    w->why[0] = '\0';
    memset(err, 0, sizeof(*err));
    code = store_open(&options, &w->store, err);
    if (code == ERR_OK)
        code = store_start(w->store, on_failed, w, err);
    else
        w->store = NULL;
    if (code == ERR_OK)
        return code;
    world_close(w);
    if (!load_is_clear(err->message, sizeof(err->message)))
        wrong(l, "a start was refused without a clear message");
    return code;
}

void load_close(struct load *l)
{
    bool healthy = store_healthy(l->w->store);

    world_close(l->w);
    /* what the store does by itself may find the disk dead after the last operation */
    if (l->w->failures > 1 || (!healthy && l->w->failures == 0) || (l->failed && healthy))
        wrong(l, "the store told of its failure %d times", l->w->failures);
    if (!healthy && !load_is_clear(l->w->why, sizeof(l->w->why)))
        wrong(l, "the store failed without a clear message");
}

/* ---- asking ---- */

static void ask_credit(struct load *l, int h, struct errand *e)
{
    bool customer = dice_below(&l->dice, 2) == 0;

    e->u.credit = (struct store_credit){.super = {.kind = STORE_CREDIT},
                                        .tenant_row = l->w->tenant,
                                        .customer_row = customer ? l->w->customer : 0,
                                        .amount = UNIT << h};
}

static void ask_put(struct load *l, int h, struct errand *e)
{
    struct load_hand *hand = &l->hands[h];
    struct tenant *t;
    char text[32];

    hand->last = hand->known + 1;
    (void)snprintf(text, sizeof(text), "version %lld", (long long)hand->last);
    t = world_tenant(text);
    if (hand->row == 0) {
        hand->id = t->super.id;
    } else {
        t->super.id = hand->id;
        t->super.row = hand->row;
        t->super.version = hand->known;
    }
    e->u.put = (struct store_put){.super = {.kind = STORE_PUT}, .record = &t->super};
}

static void ask_hold(struct load *l, struct errand *e)
{
    int64_t wholesale = 100 + (int64_t)dice_below(&l->dice, 900);
    bool own = dice_below(&l->dice, 2) == 0;
    struct load_call *call = &l->calls[l->n_calls];

    world_hold_init(l->w, &e->u.hold, wholesale, own ? 2 * wholesale : -1);
    e->u.hold.rule = IN_DOUBT_RELEASE;
    *call = (struct load_call){.id = e->u.hold.id, .state = LOAD_HOLDING, .own_wallet = own};
    e->call = l->n_calls++;
}

static void ask_end(struct load *l, int h, struct errand *e)
{
    struct load_call *call = &l->calls[l->hands[h].open];
    int64_t used = 1 + (int64_t)dice_below(&l->dice, 100);

    e->call = l->hands[h].open;
    if (dice_below(&l->dice, 3) == 0) {
        e->u.undo = (struct store_void){.super = {.kind = STORE_VOID}, .hold = call->id};
        call->state = LOAD_VOIDING;
        return;
    }
    call->wholesale = used;
    call->retail = call->own_wallet ? used * 2 : used;
    world_capture_init(&e->u.capture, call->id, used / 2, used, call->own_wallet ? used * 2 : -1);
    call->state = LOAD_CAPTURING;
}

static void choose(struct load *l, int h, struct errand *e)
{
    size_t roll = dice_below(&l->dice, 8);

    if (l->hands[h].open >= 0 && roll < 7)
        ask_end(l, h, e);
    else if (roll == 0 || l->hands[h].open >= 0)
        ask_credit(l, h, e);
    else if (roll == 1)
        ask_put(l, h, e);
    else
        ask_hold(l, e);
}

/* ---- answers ---- */

static void heard_call(struct load *l, int h, struct errand *e, bool done, bool refused)
{
    struct load_call *call = &l->calls[e->call];
    struct load_hand *hand = &l->hands[h];

    if (done) {
        call->state++; /* each asking state is followed by what was asked for */
        hand->open = call->state == LOAD_HELD ? e->call : -1;
    } else if (refused) {
        call->state =
            call->state == LOAD_HOLDING ? LOAD_ABSENT : LOAD_HELD; /* a hold that is open can be ended later */
    } else {
        hand->open = -1;
    }
}

static void heard_put(struct load *l, int h, struct errand *e, bool done)
{
    struct load_hand *hand = &l->hands[h];
    struct record *r = e->u.put.record;

    if (done) {
        hand->row = r->row;
        hand->known = hand->last;
        if (r->version != hand->last)
            wrong(l, "version %lld of a record instead of %lld", (long long)r->version, (long long)hand->last);
    }
    record_unref(r);
}

/* <done>: acknowledged; <refused>: it did not happen, and the store goes on; else it may or may not have happened. */
static void heard(struct load *l, int h, struct errand *e, bool done, bool refused)
{
    switch (e->u.op.kind) {
    case STORE_CREDIT: {
        int wallet = e->u.credit.customer_row != 0;

        l->credited[wallet] += done ? e->u.credit.amount : 0;
        if (!done && !refused)
            l->unknown[wallet] |= 1u << h;
        break;
    }
    case STORE_PUT:
        heard_put(l, h, e, done);
        if (refused)
            l->hands[h].last = l->hands[h].known;
        break;
    default:
        heard_call(l, h, e, done, refused);
    }
}

static void deliver(struct mail *mail)
{
    TG_CONTAINER(struct store_op, mail, mail)->reply_to = NULL;
}

static void wait_for(struct load *l, struct errand *errands)
{
    for (int h = 0; h < l->n_hands; h++)
        while (errands[h].u.op.reply_to != NULL)
            box_run(&l->w->box);
}

bool load_round(struct load *l)
{
    struct errand *errands = mem_zalloc(sizeof(*errands) * LOAD_HANDS);
    bool healthy;

    for (int h = 0; h < l->n_hands; h++) {
        choose(l, h, &errands[h]);
        errands[h].u.op.mail.deliver = deliver;
        errands[h].u.op.reply_to = &l->w->box.super;
        store_submit(l->w->store, &errands[h].u.op);
    }
    wait_for(l, errands);
    healthy = store_healthy(l->w->store);
    for (int h = 0; h < l->n_hands; h++) {
        struct err *err = &errands[h].u.op.err;
        bool done = err->code == ERR_OK;

        if (!done && err->code != ERR_UNAVAILABLE)
            wrong(l, "an operation of kind %d got error %d: %s", (int)errands[h].u.op.kind, (int)err->code,
                  err->message);
        if (!done && !load_is_clear(err->message, sizeof(err->message)))
            wrong(l, "an operation was refused without a clear message");
        if (done && l->failed)
            wrong(l, "an operation was acknowledged after the store had failed");
        l->acknowledged += done;
        heard(l, h, &errands[h], done, healthy);
    }
    free(errands);
    l->failed |= !healthy;
    return !l->failed && l->n_calls + LOAD_HANDS <= LOAD_CALLS;
}

/* ---- comparing ---- */

struct found {
    struct id id;
    int64_t wholesale, retail;
    unsigned flags;
};

static int compare_found(const void *a, const void *b)
{
    return memcmp(((const struct found *)a)->id.b, ((const struct found *)b)->id.b, ID_BYTES);
}

static struct found *find_all(struct load *l, size_t *n)
{
    struct store_usage_query *q = mem_zalloc(sizeof(*q));
    struct found *found = NULL;

    *n = 0;
    q->super.question = STORE_USAGE;
    q->filter.tenants = (struct filter_rows){1, {l->w->tenant}};
    q->limit = STORE_PAGE;
    do {
        world_ask(l->w, &q->super);
        if (q->super.err.code != ERR_OK) {
            wrong(l, "usage: %s", q->super.err.message);
            break;
        }
        found = mem_realloc(found, (*n + (size_t)q->n + 1) * sizeof(*found));
        for (int i = 0; i < q->n; i++)
            found[(*n)++] =
                (struct found){q->items[i].request, q->items[i].wholesale, q->items[i].retail, q->items[i].flags};
        q->after_seq = q->n > 0 ? q->items[q->n - 1].seq : 0;
    } while (q->more);
    free(q);
    if (found != NULL)
        qsort(found, *n, sizeof(*found), compare_found);
    return found;
}

/* The state that a call must have been in for <f> to be there now. */
static enum load_state state_of(struct load *l, const struct load_call *call, const struct found *f)
{
    if (f == NULL)
        return LOAD_ABSENT;
    if ((f->flags & USAGE_IN_DOUBT) != 0) {
        if (f->wholesale != 0 || f->retail != 0)
            wrong(l, "a released hold was charged");
        return LOAD_RELEASED;
    }
    if (f->wholesale != call->wholesale || f->retail != call->retail)
        wrong(l, "a call was charged %lld and %lld instead of %lld and %lld", (long long)f->wholesale,
              (long long)f->retail, (long long)call->wholesale, (long long)call->retail);
    return LOAD_CAPTURED;
}

/* Sets the call's state to what is there. True when something acknowledged is lost. */
static bool judge(struct load *l, struct load_call *call, const struct found *f)
{
    enum { ABSENT = 1, RELEASED = 2, CAPTURED = 4 };
    static const struct {
        int may, lost; /* may be, and what it is when something was lost */
    } table[] = {
        [LOAD_HOLDING] = {ABSENT | RELEASED, 0},
        [LOAD_HELD] = {RELEASED, ABSENT},
        [LOAD_CAPTURING] = {RELEASED | CAPTURED, ABSENT},
        [LOAD_CAPTURED] = {CAPTURED, ABSENT | RELEASED},
        [LOAD_VOIDING] = {ABSENT | RELEASED, 0},
        [LOAD_VOIDED] = {ABSENT, RELEASED},
        [LOAD_RELEASED] = {RELEASED, ABSENT},
        [LOAD_ABSENT] = {ABSENT, 0},
    };
    enum load_state was = call->state;
    int is;

    call->state = state_of(l, call, f);
    is = call->state == LOAD_ABSENT ? ABSENT : call->state == LOAD_RELEASED ? RELEASED : CAPTURED;
    if ((is & table[was].may) != 0)
        return false;
    if ((is & table[was].lost) == 0)
        wrong(l, "a call of state %d is found in state %d", (int)was, (int)call->state);
    return true;
}

static int compare_calls(struct load *l, int64_t charged[2])
{
    size_t n, seen = 0;
    struct found *found = find_all(l, &n);
    int lost = 0;

    for (int i = 0; i < l->n_calls; i++) {
        struct load_call *call = &l->calls[i];
        struct found key = {.id = call->id}, *f;

        f = n > 0 ? bsearch(&key, found, n, sizeof(*found), compare_found) : NULL;
        seen += f != NULL;
        lost += judge(l, call, f);
        if (call->state != LOAD_CAPTURED)
            continue;
        charged[0] += call->wholesale;
        charged[1] += call->own_wallet ? call->retail : 0;
    }
    if (seen != n)
        wrong(l, "%zu usage records that nobody asked for", n - seen);
    free(found);
    return lost;
}

struct store_balance load_balance(struct load *l, int wallet)
{
    struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                    .tenant_row = l->w->tenant,
                                    .customer_row = wallet == 1 ? l->w->customer : 0};

    world_ask(l->w, &q.super);
    if (q.super.err.code != ERR_OK)
        wrong(l, "the balance of wallet %d: %s", wallet, q.super.err.message);
    return q.super.err.code == ERR_OK ? q.balance : (struct store_balance){.posted = 0};
}

static int compare_wallet(struct load *l, int wallet, int64_t charged)
{
    struct store_balance b = load_balance(l, wallet);
    int64_t more = b.posted - (l->credited[wallet] - charged);
    bool good = more >= 0 && more % UNIT == 0 && ((uint64_t)(more / UNIT) & ~(uint64_t)l->unknown[wallet]) == 0;
    bool lost = !good && l->relaxed && more % UNIT == 0;

    if (b.held != 0)
        wrong(l, "wallet %d holds %lld after a restart", wallet, (long long)b.held);
    if (!good && !lost)
        wrong(l, "wallet %d has %lld, %lld acknowledged and %lld charged", wallet, (long long)b.posted,
              (long long)l->credited[wallet], (long long)charged);
    l->credited[wallet] += more;
    l->unknown[wallet] = 0;
    return lost ? 1 : 0;
}

static int compare_record(struct load *l, struct load_hand *hand)
{
    struct store_list *q;
    int64_t version = 0;
    char text[32];
    bool lost;

    if (hand->last == 0)
        return 0;
    q = mem_zalloc(sizeof(*q));
    q->super.question = STORE_GET;
    q->kind = RECORD_TENANT;
    q->id = hand->id;
    world_ask(l->w, &q->super);
    if (q->super.err.code == ERR_OK && q->n == 1) {
        version = q->items[0]->version;
        hand->row = q->items[0]->row;
        (void)snprintf(text, sizeof(text), "version %lld", (long long)version);
        if (strcmp(text, q->items[0]->name) != 0)
            wrong(l, "a record is called %s in version %lld", q->items[0]->name, (long long)version);
        record_unref(q->items[0]);
    } else if (q->super.err.code != ERR_NOT_FOUND) {
        wrong(l, "a record: %s", q->super.err.message);
    }
    free(q);
    lost = version < hand->known;
    if (version > hand->last)
        wrong(l, "version %lld of a record, %lld was the last", (long long)version, (long long)hand->last);
    if (version == 0)
        hand->row = 0;
    hand->known = hand->last = version;
    return lost ? 1 : 0;
}

int load_compare(struct load *l)
{
    int64_t charged[2] = {0, 0};
    int lost = compare_calls(l, charged);

    for (int wallet = 0; wallet < 2; wallet++)
        lost += compare_wallet(l, wallet, charged[wallet]);
    for (int h = 0; h < LOAD_HANDS; h++)
        lost += compare_record(l, &l->hands[h]);
    if (lost > 0 && !l->relaxed)
        wrong(l, "%d acknowledged operations are lost", lost);
    return lost;
}
