/* sqlite_ledger.c - answers about money: a wallet's transfers, grants, open holds, the chart of accounts.
 *
 * A transfer has neither owner nor time of its own: they are its event's. So a wallet's ledger is read by merging the
 * four kinds of events it has (usage records and what is left of pruned ones, grants, entries), each by its index,
 * newest first, and looking up the transfers of each. Of a customer's own wallet the tenant's usage records are looked
 * at, which may be many more: hence in slices of SLICE events, each a transaction of its own. What lies behind never
 * changes but that a record is pruned, which keeps its number; what is new has greater numbers. Reader's thread; a
 * single grant the writer's too. */
#include "sqlite_conn.h"

enum { SLICE = 20000 };

/* ---- names ---- */

static const char *const transfer_names[TRANSFER_KINDS] = {
    [TRANSFER_COST] = "cost",
    [TRANSFER_CHARGE] = "charge",
    [TRANSFER_RETAIL_CHARGE] = "retail_charge",
    [TRANSFER_CREDIT] = "credit",
    [TRANSFER_ADJUSTMENT] = "adjustment",
    [TRANSFER_LOSS] = "loss",
    [TRANSFER_OVERAGE] = "overage",
    [TRANSFER_RETAIL_OVERAGE] = "retail_overage",
    [TRANSFER_SETTLEMENT] = "settlement",
    [TRANSFER_LAPSE] = "lapse",
    [TRANSFER_WITHDRAWAL] = "withdrawal",
    [TRANSFER_REFUND] = "refund",
    [TRANSFER_OVERAGE_REFUND] = "overage_refund",
};

const char *sqlite_transfer_name(int kind)
{
    return kind >= 0 && kind < TRANSFER_KINDS ? transfer_names[kind] : "unknown";
}

enum account_owner { OWNER_TENANT = 0, OWNER_CUSTOMER, OWNER_CHANNEL };

static const struct {
    const char *name;
    enum account_owner owner;
} account_kinds[ACCOUNT_KINDS] = {
    [ACCOUNT_TENANT_WALLET] = {"wallet", OWNER_TENANT},
    [ACCOUNT_CUSTOMER_WALLET] = {"wallet", OWNER_CUSTOMER},
    [ACCOUNT_TENANT_REVENUE] = {"revenue", OWNER_TENANT},
    [ACCOUNT_CUSTOMER_REVENUE] = {"revenue", OWNER_CUSTOMER},
    [ACCOUNT_COST] = {"cost", OWNER_TENANT},
    [ACCOUNT_PAYABLE] = {"payable", OWNER_CHANNEL},
    [ACCOUNT_PROMOTIONAL] = {"promotional", OWNER_TENANT},
    [ACCOUNT_EXTERNAL] = {"external", OWNER_TENANT},
    [ACCOUNT_LOSS] = {"loss", OWNER_TENANT},
    [ACCOUNT_TENANT_RECEIVABLE] = {"receivable", OWNER_TENANT},
    [ACCOUNT_CUSTOMER_RECEIVABLE] = {"receivable", OWNER_CUSTOMER},
    [ACCOUNT_LAPSED] = {"lapsed", OWNER_TENANT},
    [ACCOUNT_CUSTOMER_PROMOTIONAL] = {"promotional", OWNER_CUSTOMER},
    [ACCOUNT_CUSTOMER_EXTERNAL] = {"external", OWNER_CUSTOMER},
    [ACCOUNT_CUSTOMER_LAPSED] = {"lapsed", OWNER_CUSTOMER},
};
_Static_assert((int)ACCOUNT_KINDS <= (int)STORE_CHART, "a chart has room for every account");

/* ---- the ledger ---- */

/* What the transfers of one event have in common. */
struct event {
    int64_t seq, created_at;
    struct id usage, request;
    char note[LIMIT_NAME * 2];
    bool others; /* another customer's record */
};

static void read_event(sqlite3_stmt *s, struct event *event)
{
    int64_t usage = sqlite3_column_int64(s, 2);

    memset(event, 0, sizeof(*event));
    event->seq = sqlite3_column_int64(s, 0);
    event->created_at = sqlite3_column_int64(s, 1) * 1000;
    if (usage != 0)
        event->usage = id_from_seq(sqlite3_column_int64(s, 3) * 1000, usage);
    sqlite_column_id(s, 4, &event->request);
    sqlite_column_copy(s, 5, event->note, sizeof(event->note));
    event->others = sqlite3_column_int(s, 6) != 0;
}

static void read_transfer(sqlite3_stmt *s, int64_t account, const struct event *event, struct store_transfer *out)
{
    int kind = sqlite3_column_int(s, 1);
    int64_t amount = sqlite3_column_int64(s, 4), lot = sqlite3_column_int64(s, 5);

    memset(out, 0, sizeof(*out));
    out->number = sqlite3_column_int64(s, 0);
    out->created_at = event->created_at;
    out->kind = sqlite_transfer_name(kind);
    if (sqlite3_column_int64(s, 2) == account)
        out->amount -= amount;
    if (sqlite3_column_int64(s, 3) == account)
        out->amount += amount;
    out->usage = event->usage;
    out->request = event->request;
    if (lot != 0)
        out->grant = id_from_seq(sqlite3_column_int64(s, 6) * 1000, lot);
    memcpy(out->note, event->note, sizeof(out->note));
}

/* The event's transfers of one wallet that are numbered below <before>. */
static enum err_code add_transfers(struct sqlite_conn *c, struct store_ledger_query *q, int64_t account,
                                   const struct event *event, int64_t before, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_TRANSFERS];
    int64_t end = (event->seq + 1) << EVENT_PLACE_BITS;
    int rc = SQLITE_DONE;

    sqlite3_bind_int64(s, 1, event->seq << EVENT_PLACE_BITS);
    sqlite3_bind_int64(s, 2, end < before ? end : before);
    sqlite3_bind_int64(s, 3, account);
    while (!q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (q->n == q->limit)
            q->more = true;
        else
            read_transfer(s, account, event, &q->items[q->n++]);
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot list transfers", err);
}

/* One slice: ends with the page full, the slice used up (*left is 0 then) or nothing older there. */
static enum err_code scan_events(struct sqlite_conn *c, struct store_ledger_query *q, const struct sqlite_wallet *w,
                                 int *left, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_EVENTS];
    int64_t before = q->after != 0 ? q->after : INT64_MAX;
    /* an event of which a part was on the page before comes again */
    int64_t end = q->scanned != 0 ? q->scanned : (before >> EVENT_PLACE_BITS) + 1;
    struct event event;
    enum err_code code = ERR_OK;
    int rc = SQLITE_DONE;

    sqlite3_bind_int64(s, 1, w->tenant);
    sqlite3_bind_int64(s, 2, end);
    sqlite3_bind_int64(s, 3, w->customer);
    sqlite3_bind_int64(s, 4, w->account);
    while (code == ERR_OK && *left > 0 && !q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        (*left)--;
        read_event(s, &event);
        q->scanned = event.seq;
        if (!event.others)
            code = add_transfers(c, q, w->account, &event, before, err);
    }
    sqlite3_reset(s);
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot list events", err);
    return code;
}

bool sqlite_ask_ledger(struct sqlite_conn *c, struct store_ledger_query *q)
{
    struct err *err = &q->super.err;
    struct sqlite_wallet wallet;
    int left = SLICE;
    enum err_code code;

    if (q->scanned == 0) {
        q->n = 0;
        q->more = false;
    }
    if (sqlite_check_limit(q->limit, err) != ERR_OK || sqlite_exec(c, "BEGIN", err) != ERR_OK)
        return true;
    code = sqlite_find_wallet(c, q->tenant_row, q->customer_row, &wallet, err);
    if (code == ERR_OK)
        code = scan_events(c, q, &wallet, &left, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    return code != ERR_OK || q->more || left > 0;
}

/* ---- grants ---- */

static void read_grant(sqlite3_stmt *s, struct store_grant *g)
{
    int at = 0;

    memset(g, 0, sizeof(*g));
    g->seq = sqlite3_column_int64(s, at++);
    g->tenant_row = sqlite3_column_int64(s, at++);
    g->customer_row = sqlite3_column_int64(s, at++);
    g->amount = sqlite3_column_int64(s, at++);
    g->remaining = sqlite3_column_int64(s, at++);
    g->category = (enum credit_category)sqlite3_column_int(s, at++);
    g->status = (enum grant_status)sqlite3_column_int(s, at++);
    g->expires_at = sqlite3_column_int64(s, at++);
    g->priority = sqlite3_column_int(s, at++);
    sqlite_column_copy(s, at++, g->note, sizeof(g->note));
    g->created_at = sqlite3_column_int64(s, at++) * 1000;
    sqlite_column_id(s, at++, &g->tenant_id);
    sqlite_column_id(s, at, &g->customer_id);
}

enum err_code sqlite_get_grant(struct sqlite_conn *c, int64_t seq, struct store_grant *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_GRANT];
    int rc;

    sqlite3_bind_int64(s, 1, seq);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        read_grant(s, out);
    sqlite3_reset(s);
    if (rc == SQLITE_ROW)
        return ERR_OK;
    return rc == SQLITE_DONE ? err_set(err, ERR_NOT_FOUND, NULL, "No such grant.")
                             : sqlite_error(c, "Cannot read a grant", err);
}

/* The one grant that is asked for, if it is of the owners that are named. */
static enum err_code ask_one_grant(struct sqlite_conn *c, struct store_grants_query *q, struct err *err)
{
    struct store_grant *g = &q->items[0];
    enum err_code code = sqlite_get_grant(c, q->seq, g, err);

    if (code != ERR_OK)
        return code;
    if ((q->tenant_row != 0 && q->tenant_row != g->tenant_row) ||
        (q->customer_row != 0 && q->customer_row != g->customer_row))
        return err_set(err, ERR_NOT_FOUND, NULL, "No such grant.");
    q->n = 1;
    return ERR_OK;
}

enum err_code sqlite_ask_grants(struct sqlite_conn *c, struct store_grants_query *q, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_LIST_GRANTS];
    struct sqlite_wallet wallet;
    enum err_code code;
    int rc = SQLITE_DONE;

    q->n = 0;
    q->more = false;
    if (q->seq != 0)
        return ask_one_grant(c, q, err);
    code = sqlite_check_limit(q->limit, err);
    if (code == ERR_OK)
        code = sqlite_find_wallet(c, q->tenant_row, q->customer_row, &wallet, err);
    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(s, 1, wallet.account);
    sqlite3_bind_int64(s, 2, q->after != 0 ? q->after : INT64_MAX);
    sqlite3_bind_int(s, 3, q->limit + 1);
    sqlite3_bind_int64(s, 4, q->start_time);
    sqlite3_bind_int64(s, 5, q->end_time != 0 ? q->end_time : INT64_MAX);
    while (!q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (q->n == q->limit)
            q->more = true;
        else
            read_grant(s, &q->items[q->n++]);
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot list grants", err);
}

/* ---- holds ---- */

static void read_hold(sqlite3_stmt *s, struct store_held *h)
{
    int at = 11, flags;

    memset(h, 0, sizeof(*h));
    sqlite_column_id(s, 0, &h->id);
    h->state = (enum hold_state)sqlite3_column_int(s, 1);
    sqlite_read_call(s, &h->call);
    flags = sqlite3_column_int(s, at++);
    h->call.stream = (flags & HOLD_ROW_STREAM) != 0;
    h->call.test = (flags & HOLD_ROW_TEST) != 0;
    h->n_legs = sqlite3_column_int(s, at++);
    for (int i = 0; i < STORE_LEGS; i++)
        h->legs[i] = sqlite3_column_int64(s, at++);
    h->cost_max = sqlite3_column_int64(s, at++);
    h->wholesale_max = sqlite3_column_int64(s, at++);
    h->retail_max = sqlite3_column_int64(s, at++);
    h->rule = (enum conf_in_doubt)sqlite3_column_int(s, at++);
    h->created_at = sqlite3_column_int64(s, at++);
    sqlite_column_id(s, at++, &h->tenant_id);
    sqlite_column_id(s, at++, &h->customer_id);
    sqlite_column_id(s, at++, &h->key_id);
    sqlite_column_id(s, at, &h->channel_id);
}

static void bind_opt_id(sqlite3_stmt *s, int place, const struct id *id)
{
    if (id_is_zero(*id))
        sqlite3_bind_null(s, place);
    else
        sqlite_bind_id(s, place, id);
}

enum err_code sqlite_ask_holds(struct sqlite_conn *c, struct store_holds_query *q, struct err *err)
{
    bool one = !id_is_zero(q->only_id);
    int limit = one ? 1 : q->limit, rc = SQLITE_DONE;
    sqlite3_stmt *s = c->statements[SQL_LIST_HOLDS];
    static const struct id none;

    q->n = 0;
    q->more = false;
    if (sqlite_check_limit(limit, err) != ERR_OK)
        return ERR_INVALID_VALUE;
    bind_opt_id(s, 1, &q->only_id);
    bind_opt_id(s, 2, one ? &none : &q->after);
    sqlite3_bind_int64(s, 3, q->tenant_row);
    sqlite3_bind_int(s, 4, one ? -1 : q->state);
    sqlite3_bind_int(s, 5, limit + 1);
    while (!q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (q->n == limit)
            q->more = true;
        else
            read_hold(s, &q->items[q->n++]);
    }
    sqlite3_reset(s);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sqlite_error(c, "Cannot list holds", err);
    return one && q->n == 0 ? err_set(err, ERR_NOT_FOUND, NULL, "No such hold.") : ERR_OK;
}

/* ---- the chart of accounts ---- */

enum err_code sqlite_ask_accounts(struct sqlite_conn *c, struct store_accounts_query *q, struct err *err)
{
    enum account_owner owner = q->customer_row != 0 ? OWNER_CUSTOMER : OWNER_TENANT;
    struct sqlite_wallet wallet;
    enum err_code code;

    q->n = 0;
    code = sqlite_find_wallet(c, q->tenant_row, q->customer_row, &wallet, err);
    for (int kind = 0; code == ERR_OK && kind < ACCOUNT_KINDS; kind++) {
        int64_t number = account_number((enum account_kind)kind, account_owner_of(wallet.account));
        bool found;

        if (account_kinds[kind].owner != owner)
            continue;
        code = sqlite_read_account(c, number, &q->items[q->n].posted, &q->items[q->n].held, &found, err);
        q->items[q->n].name = account_kinds[kind].name;
        if (code == ERR_OK && found)
            q->n++;
    }
    return code;
}
