/* lib_play.c - see lib_play.h.
 *
 * The model answers first, as the steps are prepared; so it knows the numbers that the store will give to records and
 * grants, and many operations can be under way at once. The writer applies them in the order in which they were
 * submitted, and the clock stands still meanwhile, so it does not matter into how many batches they fall. Only after
 * the clock was moved the first operation is waited for, so that both let lots lapse at the same times. */
#include "lib_play.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_look.h"

enum { SLOTS = 48, SWEPT = 64 };

#define START (INT64_C(1800000000) * CLOCK_SECOND)
#define ROOM INT64_C(1000000000000)
#define PAST_DEADLINE (4 * 3600 * CLOCK_SECOND)

struct slot {
    const struct step *step;
    struct oracle_answer want;
    struct budget_list budgets;
    char key[ORACLE_TEXT];
    union {
        struct store_op super;
        struct store_hold hold;
        struct store_capture capture;
        struct store_void end;
        struct store_doubt doubt;
        struct store_resolve resolve;
        struct store_credit credit;
        struct store_withdraw withdraw;
        struct store_refund refund;
        struct store_put put;
    } op;
};

struct player {
    struct look look; /* world, model and where differences go */
    const struct steps_setting *setting;
    int64_t wall, mono, versions[STEPS_PARTIES], key_versions[STEPS_PARTIES];
    bool turned;     /* the clock was moved and nothing was asked since */
    int64_t *grants; /* by a step's place: seq of the grant it made, else 0 */
    int n_slots;
    struct slot slots[SLOTS];
};

static struct id id_of(int at)
{
    return id_from_seq(START, at + 1000);
}

/* ---- waiting ---- */

static void came_back(struct mail *mail)
{
    TG_CONTAINER(struct store_op, mail, mail)->reply_to = NULL;
}

static void compare_text(struct player *p, const struct slot *s, const char *text)
{
    if (strstr(s->op.super.err.message, text) == NULL)
        look_differ(&p->look, "step %d: the message lacks '%s': %s", s->step->at, text, s->op.super.err.message);
}

static void compare_number(struct player *p, const struct slot *s, const char *what, int64_t got, int64_t want)
{
    if (got != want)
        look_differ(&p->look, "step %d: %s is %" PRId64 ", the model says %" PRId64, s->step->at, what, got, want);
}

static void compare_id(struct player *p, const struct slot *s, const char *what, struct id got, struct id want)
{
    if (!id_eq(got, want))
        look_differ(&p->look, "step %d: %s is another than the model says", s->step->at, what);
}

static void compare_refusal(struct player *p, const struct slot *s)
{
    static const char *const owners[][2] = {{"key", "API key"}, {"customer", "customer"}, {"tenant", "account"}};
    char text[BUDGET_WINDOW_TEXT], when[CLOCK_TEXT];

    if (s->want.owner == NULL) {
        if (strstr(s->op.super.err.message, "budget") != NULL)
            look_differ(&p->look, "step %d: refused by a budget, the model says by the wallet: %s", s->step->at,
                        s->op.super.err.message);
        return;
    }
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++)
        if (strcmp(owners[i][0], s->want.owner) == 0)
            compare_text(p, s, owners[i][1]);
    compare_text(p, s, budget_window_format(s->want.window, text));
    if (s->want.resets_at != INT64_MAX &&
        s->want.window <= 0) /* a rolling one's depends on where its cells were filled */
        compare_text(p, s, clock_format(s->want.resets_at, when));
}

static void compare_hold(struct player *p, const struct slot *s)
{
    compare_id(p, s, "the earlier request", s->op.hold.earlier.request, s->want.request);
    compare_id(p, s, "the earlier record", s->op.hold.earlier.usage, s->want.usage);
    if (s->want.code == ERR_INSUFFICIENT_QUOTA)
        compare_refusal(p, s);
}

static void compare_usage(struct player *p, const struct slot *s, const struct usage_record *u)
{
    compare_number(p, s, "the record's number", u->seq, s->want.seq);
    compare_number(p, s, "created_at", u->created_at, p->look.model->now);
    compare_number(p, s, "flags", (int64_t)u->flags, (int64_t)s->want.flags);
    compare_number(p, s, "cost", u->cost, s->want.cost);
    compare_number(p, s, "wholesale", u->wholesale, s->want.wholesale);
    compare_number(p, s, "retail", u->retail, s->want.retail);
}

static void compare_put(struct player *p, struct slot *s)
{
    int64_t version = (s->step->kind == STEP_KEY ? p->key_versions : p->versions)[s->step->party];

    if (s->op.put.record != NULL)
        compare_number(p, s, "version", s->op.put.record->version >= 0, version >= 0);
    record_unref(s->op.put.record);
}

/* What an operation that was applied says. */
static void compare_applied(struct player *p, struct slot *s)
{
    const struct oracle_lot *lot = &s->want.lot;

    switch (s->step->kind) {
    case STEP_CAPTURE:
        compare_number(p, s, "charged", s->op.capture.charged, s->want.charged);
        compare_usage(p, s, &s->op.capture.usage);
        break;
    case STEP_DOUBT:
        compare_number(p, s, "applied", s->op.doubt.applied, s->want.applied);
        break;
    case STEP_RESOLVE:
        compare_number(p, s, "charged", s->op.resolve.charged, s->want.charged);
        if (s->op.resolve.capture)
            compare_usage(p, s, &s->op.resolve.usage);
        break;
    case STEP_CREDIT:
        compare_number(p, s, "created_at", s->op.credit.created_at, p->look.model->now);
        if (s->op.credit.amount > 0)
            compare_id(p, s, "the grant", s->op.credit.grant, id_from_seq(p->look.model->now, s->want.seq));
        break;
    case STEP_WITHDRAW:
        compare_number(p, s, "remaining", s->op.withdraw.grant.remaining, lot->remaining);
        compare_number(p, s, "status", s->op.withdraw.grant.status, lot->status);
        compare_number(p, s, "amount", s->op.withdraw.grant.amount, lot->amount);
        break;
    case STEP_REFUND:
        compare_number(p, s, "this refund", s->op.refund.refunded, s->want.charged);
        compare_number(p, s, "refunded in all", s->op.refund.usage.refunded, s->want.refunded);
        break;
    default:
        break;
    }
}

static void compare_slot(struct player *p, struct slot *s)
{
    if (s->op.super.err.code != s->want.code)
        look_differ(&p->look, "step %d: answered %s (%s), the model says %s", s->step->at,
                    s->op.super.err.code == ERR_OK ? "OK" : err_name(s->op.super.err.code), s->op.super.err.message,
                    s->want.code == ERR_OK ? "OK" : err_name(s->want.code));
    if (s->op.super.kind == STORE_HOLD)
        compare_hold(p, s);
    if (s->want.code == ERR_OK)
        compare_applied(p, s);
    if (s->step->kind == STEP_TERMS || s->step->kind == STEP_KEY)
        compare_put(p, s);
}

static void flush(struct player *p)
{
    for (int i = 0; i < p->n_slots; i++) {
        p->slots[i].op.super.mail.deliver = came_back;
        p->slots[i].op.super.reply_to = &p->look.world->box.super;
        store_submit(p->look.world->store, &p->slots[i].op.super);
    }
    for (int i = 0; i < p->n_slots; i++) {
        while (p->slots[i].op.super.reply_to != NULL)
            box_run(&p->look.world->box);
        compare_slot(p, &p->slots[i]);
    }
    p->n_slots = 0;
}

/* Both have begun at this time of the clock. */
static void nudge(struct player *p)
{
    if (p->turned)
        oracle_begin(p->look.model, p->wall);
    p->turned = false;
    if (world_void(p->look.world, id_of(-1)) != ERR_NOT_FOUND)
        look_differ(&p->look, "a hold that never was is found");
}

static void set_clock(struct player *p, int64_t wall, int64_t mono)
{
    flush(p);
    if (p->turned)
        nudge(p);
    p->wall = wall;
    p->mono = mono;
    p->turned = true;
    clock_freeze(wall, mono);
}

/* ---- preparing one of each kind ---- */

static struct slot *next_slot(struct player *p, const struct step *step, enum store_kind kind)
{
    struct slot *s;

    if (p->n_slots == SLOTS)
        flush(p);
    if (p->turned)
        oracle_begin(p->look.model, p->wall);
    if (p->turned && p->n_slots == 0)
        nudge(p);
    p->turned = false;
    s = &p->slots[p->n_slots++];
    memset(s, 0, sizeof(*s));
    s->step = step;
    s->op.super.kind = kind;
    return s;
}

static void fill_hold(struct player *p, const struct step *step, struct store_hold *op, int64_t wholesale,
                      int64_t retail)
{
    const struct oracle_party *party = &p->look.model->parties[step->party];
    bool own = party->customer && party->wallet;

    op->id = id_of(step->at);
    op->call = (struct store_call){.tenant_row = p->look.model->parties[party->tenant].row,
                                   .customer_row = party->customer ? party->row : 0,
                                   .key_row = party->key,
                                   .channel_row = p->look.world->channel,
                                   .operation = OPERATION_GENERATIONS,
                                   .n = 1};
    (void)snprintf(op->call.model, sizeof(op->call.model), "picture");
    (void)snprintf(op->call.size, sizeof(op->call.size), "%d", step->at % 5);
    op->n_legs = own ? 2 : 1;
    op->legs[0] = (struct store_leg){false, wholesale};
    op->legs[1] = (struct store_leg){true, own ? retail : 0};
    op->cost_max = wholesale / 2;
    op->wholesale_max = wholesale;
    op->retail_max = party->customer ? retail : wholesale;
    op->created_at = p->wall;
}

static void prepare_hold(struct player *p, const struct step *step)
{
    struct slot *s = next_slot(p, step, STORE_HOLD);
    struct store_hold *op = &s->op.hold;

    fill_hold(p, step, op, step->a, step->b);
    if (step->ref >= 0 && oracle_find_hold(p->look.model, id_of(step->ref)) != NULL)
        op->id = id_of(step->ref);
    op->call.test = step->flag != 0;
    if (op->call.test)
        op->n_legs = 0;
    op->rule = (enum conf_in_doubt)step->rule;
    if (step->c >= 0) {
        (void)snprintf(s->key, sizeof(s->key), "k%d", (int)step->c);
        world_hold_key(op, s->key, (int)step->d);
    }
    oracle_hold(p->look.model, op, &s->want);
}

/* What budgets bear to the last nano-dollar shows what the store believes was used. */
static void prepare_probe(struct player *p, const struct step *step)
{
    struct slot *s = next_slot(p, step, STORE_HOLD);
    int64_t room = oracle_room(p->look.model, step->party, ROOM) + (step->flag != 0);

    fill_hold(p, step, &s->op.hold, 0, 0);
    s->op.hold.wholesale_max = s->op.hold.retail_max = room > 0 ? room : 0;
    oracle_hold(p->look.model, &s->op.hold, &s->want);
    if (s->want.code != ERR_OK)
        return;
    s = next_slot(p, step, STORE_VOID);
    s->op.end.hold = id_of(step->at);
    oracle_void(p->look.model, &s->op.end, &s->want);
}

static void prepare_capture(struct player *p, const struct step *step)
{
    const struct oracle_hold *h = oracle_find_hold(p->look.model, id_of(step->ref));
    struct slot *s = next_slot(p, step, STORE_CAPTURE);

    world_capture_init(&s->op.capture, id_of(step->ref), step->c, step->a, step->b);
    s->op.capture.usage.retail = h == NULL || h->customer >= 0 ? step->b : step->a;
    s->op.capture.usage.flags = step->flag != 0 ? USAGE_ESTIMATED : 0;
    oracle_capture(p->look.model, &s->op.capture, &s->want);
}

static void prepare_end(struct player *p, const struct step *step)
{
    struct slot *s;

    if (step->kind == STEP_VOID) {
        s = next_slot(p, step, STORE_VOID);
        s->op.end.hold = id_of(step->ref);
        oracle_void(p->look.model, &s->op.end, &s->want);
    } else if (step->kind == STEP_DOUBT) {
        s = next_slot(p, step, STORE_DOUBT);
        s->op.doubt.hold = id_of(step->ref);
        s->op.doubt.client_gone = step->flag != 0;
        oracle_doubt(p->look.model, &s->op.doubt, &s->want);
    } else {
        s = next_slot(p, step, STORE_RESOLVE);
        s->op.resolve.hold = id_of(step->ref);
        s->op.resolve.capture = step->flag != 0;
        s->op.resolve.amount = step->a;
        oracle_resolve(p->look.model, &s->op.resolve, &s->want);
    }
}

static void prepare_credit(struct player *p, const struct step *step)
{
    const struct oracle_party *party = &p->look.model->parties[step->party];
    struct slot *s = next_slot(p, step, STORE_CREDIT);

    s->op.credit.tenant_row = p->look.model->parties[party->tenant].row;
    s->op.credit.customer_row = party->customer ? party->row : 0;
    s->op.credit.amount = step->a;
    s->op.credit.category = (enum credit_category)step->b;
    s->op.credit.expires_at = step->c != 0 ? p->wall + step->c : 0;
    s->op.credit.priority = (int)step->d;
    oracle_credit(p->look.model, &s->op.credit, &s->want);
    p->grants[step->at] = s->want.seq;
}

static void prepare_withdraw(struct player *p, const struct step *step)
{
    struct slot *s = next_slot(p, step, STORE_WITHDRAW);

    s->op.withdraw.seq = step->ref >= 0 ? p->grants[step->ref] : 0;
    oracle_withdraw(p->look.model, &s->op.withdraw, &s->want);
}

static void prepare_refund(struct player *p, const struct step *step)
{
    const struct oracle_usage *u = oracle_find_usage(p->look.model, id_of(step->ref));
    struct slot *s = next_slot(p, step, STORE_REFUND);

    s->op.refund.seq = u != NULL ? u->seq : 0;
    s->op.refund.amount = step->a;
    s->op.refund.retail_only = step->flag != 0;
    (void)snprintf(s->op.refund.reason, sizeof(s->op.refund.reason), "reason %d", step->at);
    oracle_refund(p->look.model, &s->op.refund, &s->want);
}

static char *budgets_text(const struct budget_list *list)
{
    struct buf text;
    char *out;

    buf_init(&text, 4096);
    budget_list_format(list, &text);
    out = mem_alloc(text.len + 1);
    memcpy(out, text.p, text.len);
    out[text.len] = '\0';
    buf_dispose(&text);
    return out;
}

static void set_zone(struct player *p, int party, int zone)
{
    struct zone *z;
    struct err err;

    if (zone_open(steps_zones[zone], &z, &err) != ERR_OK)
        look_differ(&p->look, "zone %s: %s", steps_zones[zone], err.message);
    oracle_set_zone(p->look.model, party, z);
}

static void prepare_terms(struct player *p, const struct step *step)
{
    struct oracle_party *party = &p->look.model->parties[step->party];
    struct slot *s = next_slot(p, step, STORE_PUT);
    struct record *record;

    steps_budgets(step, &s->budgets);
    p->look.world->tenant = p->look.model->parties[party->tenant].row;
    if (!party->customer) {
        struct tenant *t = world_tenant("t");

        t->credit_limit = step->a;
        t->budgets = budgets_text(&s->budgets);
        (void)snprintf(t->timezone, sizeof(t->timezone), "%s", steps_zones[step->d]);
        record = &t->super;
    } else {
        struct customer *c = world_customer(p->look.world, "c", party->wallet);

        c->credit_limit = step->a;
        c->budgets = budgets_text(&s->budgets);
        record = &c->super;
    }
    record->row = party->row;
    record->version = p->versions[step->party];
    s->op.put.record = record;
    s->want.code = oracle_put_owner(p->look.model, step->party, step->a, &s->budgets);
    if (s->want.code != ERR_OK)
        return;
    p->versions[step->party]++;
    if (!party->customer)
        set_zone(p, step->party, (int)step->d);
}

static void prepare_key(struct player *p, const struct step *step)
{
    const struct oracle_party *party = &p->look.model->parties[step->party];
    struct slot *s = next_slot(p, step, STORE_PUT);
    struct api_key *k;

    steps_budgets(step, &s->budgets);
    p->look.world->tenant = p->look.model->parties[party->tenant].row;
    k = world_key(p->look.world, "k", party->customer ? party->row : 0);
    k->budgets = budgets_text(&s->budgets);
    k->super.row = party->key;
    k->super.version = p->key_versions[step->party]++;
    s->op.put.record = &k->super;
    oracle_put_key(p->look.model, step->party, &s->budgets);
}

/* ---- restarts ---- */

struct ended {
    struct id id;
    int64_t seq; /* of its record; 0: it is kept */
};

static int compare_ended(const void *a, const void *b)
{
    const struct ended *x = a, *y = b;

    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

static int count_open(const struct oracle *m)
{
    int n = 0;

    for (int i = 0; i < m->n_holds; i++)
        n += !m->holds[i].doubtful;
    return n;
}

/* The store has ended all open holds by their rules, in an order that its records tell. */
static void end_open_holds(struct player *p, bool dead)
{
    struct oracle *m = p->look.model;
    struct ended *ended = mem_zalloc(((size_t)m->n_holds + 1) * sizeof(*ended));
    int n = 0;

    for (int i = 0; i < m->n_holds; i++)
        if (!m->holds[i].doubtful) {
            ended[n].id = m->holds[i].id;
            ended[n].seq = m->holds[i].rule == IN_DOUBT_KEEP ? 0 : look_seq_of(&p->look, ended[n].id, m->next_seq);
            n++;
        }
    qsort(ended, (size_t)n, sizeof(*ended), compare_ended);
    for (int i = 0; i < n; i++)
        oracle_end_by_rule(m, ended[i].id, dead);
    free(ended);
}

static void restart(struct player *p, const struct step *step)
{
    int dead;

    flush(p);
    world_close(p->look.world);
    if (step->at % 8 == 0)
        look_check(&p->look);
    world_open(p->look.world);
    oracle_begin(p->look.model, p->wall);
    dead = count_open(p->look.model);
    if (store_recovered(p->look.world->store) != dead)
        look_differ(&p->look, "step %d: %" PRId64 " dead holds, the model says %d", step->at,
                    store_recovered(p->look.world->store), dead);
    end_open_holds(p, true);
    p->turned = true;
}

static void overdue(struct player *p)
{
    set_clock(p, p->wall, p->mono + PAST_DEADLINE);
    for (int i = 0; i <= count_open(p->look.model) / SWEPT + 1; i++)
        nudge(p);
    end_open_holds(p, false);
}

/* ---- the whole ---- */

static void prepare(struct player *p, const struct step *step)
{
    switch (step->kind) {
    case STEP_HOLD:
        prepare_hold(p, step);
        break;
    case STEP_CAPTURE:
        prepare_capture(p, step);
        break;
    case STEP_VOID:
    case STEP_DOUBT:
    case STEP_RESOLVE:
        prepare_end(p, step);
        break;
    case STEP_CREDIT:
        prepare_credit(p, step);
        break;
    case STEP_WITHDRAW:
        prepare_withdraw(p, step);
        break;
    case STEP_REFUND:
        prepare_refund(p, step);
        break;
    case STEP_TERMS:
        prepare_terms(p, step);
        break;
    case STEP_KEY:
        prepare_key(p, step);
        break;
    case STEP_PROBE:
        prepare_probe(p, step);
        break;
    case STEP_CLOCK:
        set_clock(p, p->wall + step->a, p->mono);
        break;
    case STEP_RESTART:
        restart(p, step);
        break;
    case STEP_OVERDUE:
        overdue(p);
        break;
    case STEP_COUNT:
        break;
    }
}

static int64_t put(struct player *p, void *record)
{
    struct record *r;

    if (world_put(p->look.world, record, &r, NULL) != ERR_OK)
        look_differ(&p->look, "a party cannot be made");
    return r->row;
}

static void make_parties(struct player *p)
{
    struct world *w = p->look.world;
    int64_t rows[STEPS_PARTIES], key;

    w->channel = put(p, world_channel("Channel", "sk-upstream"));
    for (int i = 0; i < STEPS_PARTIES; i++) {
        bool customer = i >= STEPS_TENANTS;

        if (customer)
            w->tenant = rows[steps_tenant_of(i)];
        rows[i] = put(p, customer ? (void *)world_customer(w, "c", steps_own_wallet(i)) : (void *)world_tenant("t"));
        w->tenant = rows[steps_tenant_of(i)];
        key = put(p, world_key(w, "k", customer ? rows[i] : 0));
        (void)oracle_add_party(p->look.model, customer ? steps_tenant_of(i) : -1, steps_own_wallet(i), rows[i], key);
        p->versions[i] = p->key_versions[i] = 1;
        if (!customer)
            set_zone(p, i, 0);
    }
    (void)world_put(w, world_tenant(""), NULL, NULL); /* lets go of the last record */
}

void play(const struct steps_setting *setting, const struct step *steps, int n, struct play_result *result)
{
    static struct world world;
    static struct player p;
    int places = n > 0 ? steps[n - 1].at + 1 : 0;

    memset(&p, 0, sizeof(p));
    p.look = (struct look){
        .world = &world, .model = oracle_create(result->reached), .result = result, .falls = setting->falls};
    p.setting = setting;
    p.grants = mem_zalloc(((size_t)places + 1) * sizeof(p.grants[0]));
    p.wall = START;
    p.mono = CLOCK_SECOND;
    clock_freeze(p.wall, p.mono);
    world_init(&world);
    world.keep = p.look.model->keep = setting->keep;
    (void)snprintf(result->dir, sizeof(result->dir), "%s", world.dir);
    world_open(&world);
    make_parties(&p);
    p.turned = true;
    for (int i = 0; i < n; i++) {
        result->step = i;
        prepare(&p, &steps[i]);
        if (i + 1 < n && (i + 1) % setting->interval != 0)
            continue;
        flush(&p);
        nudge(&p);
        look_at_everything(&p.look, i + 1 == n);
    }
    world_close(&world);
    look_check(&p.look);
    result->records += p.look.model->n_usage;
    oracle_destroy(p.look.model);
    free(p.grants);
    world_dispose(&world);
    result->dir[0] = '\0';
    clock_release();
}
