/* fsck_refund.c - refunds against the charges that they take back.
 *
 * Of each record and wallet, the transfers of the charge are given back last first, whole or in part: what was owed
 * beyond the wallet, then lot by lot (or into no lot, where the wallet had no room for one more). The tenant's share of
 * a customer's refund is the same part of the wholesale price, rounded down over all refunds together. */
#include "fsck_state.h"

#include <stdlib.h>

/* The charge of one wallet, from which refunds eat away at the end. */
struct leg {
    const struct transfer_row *parts[EVENT_TRANSFERS];
    int n;
    int64_t left; /* of the last part */
    int64_t refunded;
};

struct refunds {
    const struct usage_event *e;
    struct leg legs[STORE_LEGS];
    int64_t tenant_seq, tenant_amount; /* the tenant's share, until the customer's refund follows it; seq 0: none */
};

enum err_code walk_open_refunds(struct walk *w, struct err *err)
{
    struct sqlite_conn *c = &w->f->conn;
    enum err_code code = sqlite_prepare(
        c, "SELECT seq, wallet, amount FROM entries WHERE kind = 1 AND reference = ?1 ORDER BY seq", &w->refunds, err);

    if (code == ERR_OK)
        code = sqlite_prepare(c,
                              "SELECT number, kind, debit, credit, amount, lot FROM transfers"
                              " WHERE number >= ?1 AND number < ?2 ORDER BY number",
                              &w->refund_transfers, err);
    if (code == ERR_OK)
        code = sqlite_prepare(c,
                              "SELECT tenant, customer, flags, refunded FROM usage WHERE seq = ?1 UNION ALL"
                              " SELECT tenant, customer, flags, refunded FROM pruned WHERE seq = ?1",
                              &w->refunded, err);
    return code;
}

void walk_close_refunds(struct walk *w)
{
    sqlite3_finalize(w->refunds);
    sqlite3_finalize(w->refund_transfers);
    sqlite3_finalize(w->refunded);
}

static void split(struct refunds *r, const struct group *g)
{
    for (int i = 0; i < g->n; i++) {
        enum transfer_kind kind = g->at[i].kind;
        struct leg *leg = NULL;

        if (kind == TRANSFER_CHARGE || kind == TRANSFER_OVERAGE)
            leg = &r->legs[0];
        else if (kind == TRANSFER_RETAIL_CHARGE || kind == TRANSFER_RETAIL_OVERAGE)
            leg = &r->legs[1];
        if (leg == NULL)
            continue;
        leg->parts[leg->n++] = &g->at[i];
        leg->left = g->at[i].amount;
    }
}

static bool is_owed(const struct transfer_row *t)
{
    return t->kind == TRANSFER_OVERAGE || t->kind == TRANSFER_RETAIL_OVERAGE;
}

/* The next transfer of a refund of which <amount> is still to come. */
static bool eats(struct leg *leg, const struct transfer_row *t, int64_t amount)
{
    const struct transfer_row *part;

    if (leg->n == 0)
        return false;
    part = leg->parts[leg->n - 1];
    if (t->amount != (leg->left < amount ? leg->left : amount) || t->debit != part->credit ||
        t->credit != part->debit || (t->lot != part->lot && t->lot != 0) ||
        (t->kind == TRANSFER_OVERAGE_REFUND) != is_owed(part))
        return false;
    leg->left -= t->amount;
    if (leg->left == 0 && --leg->n > 0)
        leg->left = leg->parts[leg->n - 1]->amount;
    return true;
}

static enum err_code check_transfers(struct walk *w, struct leg *leg, int64_t seq, int64_t amount, bool *good,
                                     struct err *err)
{
    sqlite3_stmt *s = w->refund_transfers;
    enum err_code code = ERR_OK;
    struct transfer_row t;
    int rc;

    sqlite3_bind_int64(s, 1, seq << EVENT_PLACE_BITS);
    sqlite3_bind_int64(s, 2, (seq + 1) << EVENT_PLACE_BITS);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        fsck_read_transfer(s, &t);
        *good = *good && eats(leg, &t, amount);
        amount = *good ? amount - t.amount : 0;
    }
    if (rc != SQLITE_DONE)
        code = sqlite_error(&w->f->conn, "Cannot read a refund", err);
    sqlite3_reset(s);
    *good = *good && amount == 0;
    return code;
}

static int64_t share(const struct refunds *r, int64_t refunded)
{
    return (int64_t)((__int128)r->e->wholesale * refunded / r->e->retail);
}

/* The tenant's share comes right before the customer's refund that it belongs to. */
static bool in_proportion(struct refunds *r, int leg, int64_t seq, int64_t amount)
{
    int64_t before = r->legs[1].refunded, tenant_seq = r->tenant_seq;

    r->tenant_seq = 0;
    if ((r->e->flags & USAGE_ROW_OWN_WALLET) == 0)
        return leg == 0;
    if (leg == 0) {
        r->tenant_seq = seq;
        r->tenant_amount = amount;
        return tenant_seq == 0;
    }
    if (tenant_seq == 0)
        return true; /* none, or the customer alone was refunded */
    return tenant_seq == seq - 1 && r->e->retail > 0 && amount <= r->e->retail - before &&
           r->tenant_amount == share(r, before + amount) - share(r, before);
}

static enum err_code check_refunds(struct walk *w, struct refunds *r, bool *good, struct err *err)
{
    sqlite3_stmt *s = w->refunds;
    enum err_code code = ERR_OK;
    int rc = SQLITE_ROW;

    sqlite3_bind_int64(s, 1, r->e->seq);
    while (code == ERR_OK && *good && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t seq = sqlite3_column_int64(s, 0), wallet = sqlite3_column_int64(s, 1);
        int64_t amount = sqlite3_column_int64(s, 2);
        int leg = wallet == account_number(ACCOUNT_CUSTOMER_WALLET, r->e->customer);

        *good = seq > r->e->seq && (leg == 1 || wallet == account_number(ACCOUNT_TENANT_WALLET, r->e->tenant)) &&
                in_proportion(r, leg, seq, amount);
        code = check_transfers(w, &r->legs[leg], seq, amount, good, err);
        if (*good)
            r->legs[leg].refunded += amount;
    }
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(&w->f->conn, "Cannot read the refunds", err);
    sqlite3_reset(s);
    return code;
}

static enum err_code check_record(struct walk *w, const struct usage_event *e, const struct group *g, struct err *err)
{
    bool own = (e->flags & USAGE_ROW_OWN_WALLET) != 0, good;
    struct refunds *r = mem_zalloc(sizeof(*r));
    enum err_code code;

    r->e = e;
    split(r, g);
    good = e->refunded > 0 && e->refunded <= (own ? e->retail : e->wholesale);
    code = check_refunds(w, r, &good, err);
    if (!good || r->tenant_seq != 0 || r->legs[own ? 1 : 0].refunded != e->refunded)
        finding_add(&w->findings[WALK_REFUNDS], "record %lld", (long long)e->seq);
    free(r);
    return code;
}

enum err_code walk_refunds_of(struct walk *w, const struct usage_event *e, const struct group *g, struct err *err)
{
    w->checked[WALK_REFUNDS]++;
    return e->refunded == 0 ? ERR_OK : check_record(w, e, g, err);
}

enum err_code walk_refund(struct walk *w, const struct entry_event *e, struct err *err)
{
    sqlite3_stmt *s = w->refunded;
    enum err_code code = ERR_OK;
    bool good = false;
    int rc;

    sqlite3_bind_int64(s, 1, e->reference);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        int64_t tenant = sqlite3_column_int64(s, 0), customer = sqlite3_column_int64(s, 1);

        good = sqlite3_column_int64(s, 3) > 0 && (e->wallet == account_number(ACCOUNT_TENANT_WALLET, tenant) ||
                                                  ((sqlite3_column_int64(s, 2) & USAGE_ROW_OWN_WALLET) != 0 &&
                                                   e->wallet == account_number(ACCOUNT_CUSTOMER_WALLET, customer)));
    } else if (rc != SQLITE_DONE) {
        code = sqlite_error(&w->f->conn, "Cannot read a record", err);
    }
    sqlite3_reset(s);
    if (!good)
        finding_add(&w->findings[WALK_REFUNDS], "entry %lld of record %lld", (long long)e->seq,
                    (long long)e->reference);
    return code;
}
