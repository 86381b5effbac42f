/* lib_model.c - see lib_model.h. */
#include "lib_model.h"

static int64_t left(const struct oracle_wallet *w)
{
    return w->posted - w->held + w->credit_limit;
}

struct oracle_hold *oracle_find(struct oracle *m, struct id id)
{
    for (int i = m->n_holds - 1; i >= 0; i--)
        if (m->holds[i].open && id_eq(m->holds[i].id, id))
            return &m->holds[i];
    return NULL;
}

static struct oracle_wallet *leg_wallet(struct oracle *m, const struct oracle_hold *h, int leg)
{
    return leg == 0 ? &m->wallets[h->tenant] : &m->wallets[h->customer];
}

static int legs_of(const struct oracle_hold *h)
{
    return h->test ? 0 : h->customer >= 0 ? 2 : 1;
}

/* ---- idempotency ---- */

static struct oracle_key *key_of(struct oracle *m, const struct store_hold *op)
{
    struct oracle_key *key = m->keys;

    for (int i = 0; i < m->n_keys; i++, key++)
        if (key->api_key == op->call.key_row && slice_eq_str(op->idempotency_key, key->text))
            return key;
    *key = (struct oracle_key){.api_key = op->call.key_row, .hold = -1};
    (void)slice_copy(op->idempotency_key, key->text, sizeof(key->text));
    m->n_keys++;
    return key;
}

static enum err_code look_up(const struct oracle *m, const struct oracle_key *key, const struct store_hold *op)
{
    if (key->hold < 0 || (key->ended != 0 && key->ended < m->now - m->keep))
        return ERR_OK;
    if (key->fingerprint != op->fingerprint[0])
        return ERR_IDEMPOTENCY_REUSED;
    return key->ended != 0 ? ERR_IDEMPOTENCY_DONE : ERR_IDEMPOTENCY_RUNNING;
}

/* <h> ended: with a record, or without. */
static void end_key(struct oracle *m, const struct oracle_hold *h, bool record)
{
    for (int i = 0; i < m->n_keys; i++)
        if (m->keys[i].hold == (int)(h - m->holds) && m->keys[i].ended == 0) {
            m->keys[i].ended = m->now;
            if (!record)
                m->keys[i].hold = -1;
        }
}

/* ---- money ---- */

enum err_code oracle_hold(struct oracle *m, const struct store_hold *op, int tenant, int customer)
{
    struct oracle_key *key = op->idempotency_key.len > 0 ? key_of(m, op) : NULL;
    enum err_code taken = key != NULL ? look_up(m, key, op) : ERR_OK;
    struct oracle_hold h = {.id = op->id, .open = true, .test = op->call.test, .tenant = tenant, .customer = customer};

    if (taken != ERR_OK)
        return taken;
    if (oracle_find(m, op->id) != NULL)
        return ERR_CONFLICT;
    h.cost_max = op->cost_max;
    h.rule = op->rule;
    for (int i = 0; i < legs_of(&h); i++) {
        h.legs[i] = op->legs[i].amount;
        if (left(leg_wallet(m, &h, i)) < h.legs[i])
            return ERR_INSUFFICIENT_QUOTA;
    }
    for (int i = 0; i < legs_of(&h); i++)
        leg_wallet(m, &h, i)->held += h.legs[i];
    if (key != NULL) {
        key->fingerprint = op->fingerprint[0];
        key->hold = m->n_holds;
        key->ended = 0;
    }
    m->holds[m->n_holds++] = h;
    return ERR_OK;
}

static void close_hold(struct oracle *m, struct oracle_hold *h, bool record)
{
    for (int i = 0; i < legs_of(h); i++)
        leg_wallet(m, h, i)->held -= h->legs[i];
    h->open = false;
    m->records += record;
    end_key(m, h, record);
}

enum err_code oracle_capture(struct oracle *m, const struct store_capture *op, int64_t *charged, bool *overage)
{
    struct oracle_hold *h = oracle_find(m, op->hold);

    *charged = 0;
    *overage = false;
    if (h == NULL)
        return ERR_NOT_FOUND;
    close_hold(m, h, true);
    for (int i = 0; i < legs_of(h); i++) {
        struct oracle_wallet *w = leg_wallet(m, h, i);
        int64_t charge = op->charges[i], bears = left(w), taken = charge <= bears ? charge : bears;

        w->posted -= taken;
        w->revenue += charge;
        w->receivable += charge - taken;
        *charged = taken;
        *overage |= charge > h->legs[i];
    }
    if (!h->test)
        m->cost += op->usage.cost;
    return ERR_OK;
}

enum err_code oracle_void(struct oracle *m, struct id hold)
{
    struct oracle_hold *h = oracle_find(m, hold);

    if (h == NULL)
        return ERR_NOT_FOUND;
    close_hold(m, h, false);
    return ERR_OK;
}

enum err_code oracle_doubt(struct oracle *m, struct id hold)
{
    struct oracle_hold *h = oracle_find(m, hold);

    if (h == NULL)
        return ERR_NOT_FOUND;
    if (h->rule == IN_DOUBT_KEEP) {
        h->doubtful = true;
        return ERR_OK;
    }
    close_hold(m, h, true);
    for (int i = 0; i < legs_of(h) && h->rule == IN_DOUBT_CHARGE; i++) {
        leg_wallet(m, h, i)->posted -= h->legs[i];
        leg_wallet(m, h, i)->revenue += h->legs[i];
    }
    if (!h->test)
        *(h->rule == IN_DOUBT_CHARGE ? &m->cost : &m->loss) += h->cost_max;
    return ERR_OK;
}

enum err_code oracle_credit(struct oracle *m, int wallet, int64_t amount, enum credit_category category)
{
    struct oracle_wallet *w = &m->wallets[wallet];

    if (amount == 0)
        return ERR_INVALID_VALUE;
    if (amount < 0 && left(w) + amount < 0)
        return ERR_INSUFFICIENT_QUOTA;
    w->posted += amount;
    *(category == CREDIT_PROMOTIONAL ? &m->promotional : &m->paid) += amount;
    return ERR_OK;
}

enum err_code oracle_credit_line(struct oracle *m, int wallet, int64_t limit)
{
    struct oracle_wallet *w = &m->wallets[wallet];

    if (w->posted - w->held + limit < 0)
        return ERR_CONFLICT;
    w->credit_limit = limit;
    return ERR_OK;
}

int64_t oracle_restart(struct oracle *m)
{
    int64_t n = 0;

    for (int i = 0; i < m->n_holds; i++)
        if (m->holds[i].open && !m->holds[i].doubtful) {
            (void)oracle_doubt(m, m->holds[i].id);
            n++;
        }
    return n;
}
