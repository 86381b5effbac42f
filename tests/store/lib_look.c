/* lib_look.c - see lib_look.h. Tables are compared by SQL: what the model says becomes VALUES. */
#include "lib_look.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib_sql.h"

enum { SQL_MAX = 64 << 20, ROWS_AT_ONCE = 4000, SHOWN = 3, QUESTION = 512 };

void look_differ(struct look *l, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    if (l->result->text[0] == '\0')
        (void)vsnprintf(l->result->text, sizeof(l->result->text), fmt, args);
    va_end(args);
    _exit(1);
}

/* ---- rows ---- */

/* Rows that the model expects of a question, as VALUES. */
struct rows {
    const char *what;
    const char *question; /* a SELECT of whole numbers */
    int columns, n;
    struct buf values;
};

static void rows_init(struct rows *r, const char *what, const char *question, int columns)
{
    r->what = what;
    r->question = question;
    r->columns = columns;
    r->n = 0;
    buf_init(&r->values, SQL_MAX);
}

static void rows_add(struct rows *r, const int64_t *values)
{
    buf_append_str(&r->values, r->n++ == 0 ? "(" : ",(");
    for (int i = 0; i < r->columns; i++)
        buf_printf(&r->values, "%s%" PRId64, i == 0 ? "" : ",", values[i]);
    buf_append_char(&r->values, ')');
}

/* <tail> after both sides as tables s (the store's) and v (the model's). */
static int64_t rows_ask(struct look *l, const struct rows *r, const char *tail)
{
    struct buf sql;
    int64_t number;

    buf_init(&sql, SQL_MAX);
    for (int side = 0; side < 2; side++) {
        buf_append_str(&sql, side == 0 ? "WITH s(" : "), v(");
        for (int i = 0; i < r->columns; i++)
            buf_printf(&sql, "%sc%d", i == 0 ? "" : ",", i);
        buf_append_str(&sql, ") AS (");
        if (side == 0)
            buf_append_str(&sql, r->question);
        else if (r->n > 0)
            buf_printf(&sql, "VALUES %.*s", (int)r->values.len, r->values.p);
        else
            buf_append_str(&sql, "SELECT * FROM s WHERE 0");
    }
    buf_printf(&sql, ") %s", tail);
    buf_append_char(&sql, '\0');
    number = sql_number(l->world->url, sql.p);
    buf_dispose(&sql);
    return number;
}

static void describe_side(struct look *l, const struct rows *r, const char *minus, struct buf *text)
{
    for (int k = 0; k < SHOWN; k++) {
        char tail[128];

        for (int i = 0; i < r->columns; i++) {
            int64_t number;

            (void)snprintf(tail, sizeof(tail), "SELECT c%d FROM (%s ORDER BY 1, 2) LIMIT 1 OFFSET %d", i, minus, k);
            number = rows_ask(l, r, tail);
            if (number == INT64_MIN)
                return;
            buf_printf(text, "%s%" PRId64, i == 0 ? " (" : ", ", number);
        }
        buf_append_char(text, ')');
    }
}

/* Compares and disposes. */
static void rows_compare(struct look *l, struct rows *r)
{
    static const char here[] = "SELECT * FROM s EXCEPT SELECT * FROM v",
                      there[] = "SELECT * FROM v EXCEPT SELECT * FROM s";
    struct buf text;

    if (rows_ask(l, r,
                 "SELECT (SELECT count(*) FROM (SELECT * FROM s EXCEPT SELECT * FROM v)) + "
                 "abs((SELECT count(*) FROM s) - (SELECT count(*) FROM v))") != 0) {
        buf_init(&text, PLAY_TEXT);
        buf_printf(&text, "%s: the store has", r->what);
        describe_side(l, r, here, &text);
        buf_append_str(&text, "; the model has");
        describe_side(l, r, there, &text);
        look_differ(l, "%.*s", (int)text.len, text.p);
    }
    l->result->compared += r->n;
    buf_dispose(&r->values);
}

/* ---- tables ---- */

static void look_at_accounts(struct look *l)
{
    struct rows r;

    rows_init(&r, "accounts (row, posted, held)",
              "SELECT row, posted, held FROM accounts WHERE posted <> 0 OR held <> 0", 3);
    for (int i = 0; i < l->model->n_accounts; i++) {
        const struct oracle_account *a = &l->model->accounts[i];

        if (a->posted != 0 || a->held != 0)
            rows_add(&r, (int64_t[]){a->number, a->posted, a->held});
    }
    rows_compare(l, &r);
}

static void look_at_lots(struct look *l)
{
    struct rows r;

    rows_init(&r, "grants (seq, wallet, amount, remaining, status, expires_at, priority, category, created_ms)",
              "SELECT seq, wallet, amount, remaining, status, coalesce(expires_at, 0), priority, category, created_ms "
              "FROM grants",
              9);
    for (int i = 0; i < l->model->n_lots; i++) {
        const struct oracle_lot *lot = &l->model->lots[i];

        rows_add(&r, (int64_t[]){lot->seq, oracle_wallet_number(l->model, lot->party), lot->amount, lot->remaining,
                                 lot->status, lot->expires_at, lot->priority, lot->category, lot->created_at / 1000});
    }
    rows_compare(l, &r);
}

static int compare_transfers(const void *a, const void *b)
{
    const struct transfer_row *x = a, *y = b;
    const int64_t p[] = {x->kind, x->debit, x->credit, x->amount, x->lot};
    const int64_t q[] = {y->kind, y->debit, y->credit, y->amount, y->lot};

    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    return 0;
}

/* Those since the last look, as a bag: where several lots go in one operation, their order is the store's. */
static void look_at_transfers(struct look *l)
{
    struct transfer_row *t = l->model->transfers;
    int n = l->model->n_transfers;
    char question[QUESTION];
    struct rows r;

    (void)snprintf(question, sizeof(question),
                   "SELECT kind, debit, credit, amount, lot, count(*) FROM transfers WHERE number > %" PRId64
                   " GROUP BY 1, 2, 3, 4, 5",
                   l->transfers);
    rows_init(&r, "new transfers (kind, debit, credit, amount, lot, how many)", question, 6);
    if (n > 0)
        qsort(t, (size_t)n, sizeof(*t), compare_transfers);
    for (int i = 0, same; i < n; i += same) {
        same = 1;
        while (i + same < n && compare_transfers(&t[i], &t[i + same]) == 0)
            same++;
        rows_add(&r, (int64_t[]){t[i].kind, t[i].debit, t[i].credit, t[i].amount, t[i].lot, same});
    }
    l->result->transfers += n;
    rows_compare(l, &r);
}

static int compare_entries(const void *a, const void *b)
{
    const struct oracle_entry *x = a, *y = b;
    const int64_t p[] = {x->kind, x->wallet, x->reference, x->amount};
    const int64_t q[] = {y->kind, y->wallet, y->reference, y->amount};

    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    return 0;
}

static void look_at_entries(struct look *l)
{
    struct oracle_entry *e = l->model->entries;
    int n = l->model->n_entries;
    char question[QUESTION];
    struct rows r;

    (void)snprintf(question, sizeof(question),
                   "SELECT kind, wallet, reference, amount, count(*) FROM entries WHERE seq > %" PRId64
                   " GROUP BY 1, 2, 3, 4",
                   l->seq);
    rows_init(&r, "new entries (kind, wallet, reference, amount, how many)", question, 5);
    if (n > 0)
        qsort(e, (size_t)n, sizeof(*e), compare_entries);
    for (int i = 0, same; i < n; i += same) {
        same = 1;
        while (i + same < n && compare_entries(&e[i], &e[i + same]) == 0)
            same++;
        rows_add(&r, (int64_t[]){e[i].kind, e[i].wallet, e[i].reference, e[i].amount, same});
    }
    rows_compare(l, &r);
}

static int64_t row_of(const struct oracle *m, int party)
{
    return party >= 0 ? m->parties[party].row : 0;
}

/* The model's records [first, end): they lie by number, but for those of holds that ended together. */
static void look_at_usage(struct look *l, int first, int end)
{
    const struct oracle *m = l->model;
    int64_t low = INT64_MAX, high = 0;
    char question[QUESTION] = "";
    struct rows r;

    rows_init(&r, "usage (seq, tenant, customer, key, cost, wholesale, retail, refunded, flags, created_ms)", question,
              10);
    for (int i = first; i < end; i++) {
        const struct oracle_usage *u = &m->usage[i];

        low = u->seq < low ? u->seq : low;
        high = u->seq > high ? u->seq : high;
        rows_add(&r, (int64_t[]){u->seq, row_of(m, u->tenant), row_of(m, u->customer), m->parties[u->key].key, u->cost,
                                 u->wholesale, u->retail, u->refunded, u->flags, u->created_at / 1000});
    }
    (void)snprintf(question, sizeof(question),
                   "SELECT seq, tenant, customer, key, cost, wholesale, coalesce(retail, wholesale), refunded, "
                   "flags & 1023, created_ms FROM usage WHERE seq BETWEEN %" PRId64 " AND %" PRId64,
                   low, high);
    if (first < end)
        rows_compare(l, &r);
    else
        buf_dispose(&r.values);
}

static void look_at_sums(struct look *l)
{
    static const char question[] =
        "SELECT (SELECT count(*) FROM usage), (SELECT max(seq) FROM (SELECT max(seq) AS seq FROM usage UNION ALL "
        "SELECT max(seq) FROM grants UNION ALL SELECT max(seq) FROM entries)), total(requests), total(cost), "
        "total(wholesale), total(retail), total(refunded) FROM rollups";
    int64_t sums[7] = {l->model->n_usage, l->model->next_seq - 1, l->model->n_usage};
    struct rows r;

    for (int i = 0; i < l->model->n_usage; i++) {
        const struct oracle_usage *u = &l->model->usage[i];
        const int64_t values[] = {u->cost, u->wholesale, u->retail, u->refunded};

        for (int k = 0; k < 4; k++)
            sums[3 + k] += values[k];
    }
    rows_init(&r, "sums (usage, last event; roll-ups' requests, cost, wholesale, retail, refunded)", question, 7);
    rows_add(&r, sums);
    if (sums[1] > 0)
        rows_compare(l, &r);
    else
        buf_dispose(&r.values);
}

static void add_budgets(struct look *l, struct rows *r, int party, int spender, struct buf *question)
{
    const struct oracle *m = l->model;
    const struct budget_list *list = &m->parties[party].spenders[spender].budgets;
    const struct zone *zone = m->parties[m->parties[party].tenant].zone;
    struct budget_owner owner = oracle_owner(m, party, spender);
    int64_t number = budget_owner_number(&owner);

    for (int i = 0; i < list->n; i++) {
        int64_t window = list->of[i].window;

        rows_add(r, (int64_t[]){number, window, oracle_used(m, party, spender, window)});
        buf_printf(question,
                   "%sSELECT %" PRId64 ", %" PRId64 ", coalesce(sum(used), 0) FROM budget_cells WHERE owner = %" PRId64
                   " AND window = %" PRId64 " AND begin >= %" PRId64 " AND begin < %" PRId64,
                   question->len > 0 ? " UNION ALL " : "", number, window, number, window,
                   budget_counts_from(window, zone, m->now), budget_cell_at(window, zone, m->now).end);
    }
}

/* Where the clock never falls back each cell that counts has been written; else windows are filled from the records
 * when they are asked for. */
static void look_at_budgets(struct look *l)
{
    struct rows r;
    struct buf question;

    for (int party = 0; party < l->model->n_parties; party++)
        for (int spender = 0; spender < ORACLE_SPENDERS; spender++) {
            buf_init(&question, SQL_MAX);
            rows_init(&r, "budgets (owner, window, used)", NULL, 3);
            add_budgets(l, &r, party, spender, &question);
            buf_append_char(&question, '\0');
            r.question = question.p;
            if (r.n > 0)
                rows_compare(l, &r);
            buf_dispose(&r.values);
            buf_dispose(&question);
        }
}

/* ---- questions ---- */

static void look_at_balance(struct look *l, int party)
{
    const struct oracle_party *p = &l->model->parties[party];
    const struct oracle_account *a = oracle_account(l->model, oracle_wallet_number(l->model, party));
    struct store_balance_query q = {.super = {.question = STORE_BALANCE},
                                    .tenant_row = l->model->parties[p->tenant].row,
                                    .customer_row = p->customer ? p->row : 0};
    int64_t owed =
        -oracle_account(l->model,
                        account_number(p->customer ? ACCOUNT_CUSTOMER_RECEIVABLE : ACCOUNT_TENANT_RECEIVABLE, p->row))
             ->posted;

    world_ask(l->world, &q.super);
    if (q.super.err.code != ERR_OK || q.balance.posted != a->posted || q.balance.held != a->held ||
        q.balance.credit_limit != p->credit_limit || q.balance.receivable != owed)
        look_differ(l,
                    "balance of party %d: code %d, posted %" PRId64 ", held %" PRId64 ", line %" PRId64
                    ", owed %" PRId64 "; the model says %" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64,
                    party, q.super.err.code, q.balance.posted, q.balance.held, q.balance.credit_limit,
                    q.balance.receivable, a->posted, a->held, p->credit_limit, owed);
}

static const struct oracle_lot *find_lot(const struct oracle *m, int64_t seq)
{
    for (int i = 0; i < m->n_lots; i++)
        if (m->lots[i].seq == seq)
            return &m->lots[i];
    return NULL;
}

static void look_at_grants(struct look *l, int party)
{
    static struct store_grants_query q;
    const struct oracle_party *p = &l->model->parties[party];
    int want = 0, got = 0;

    memset(&q, 0, sizeof(q));
    q.super.question = STORE_GRANTS;
    q.tenant_row = l->model->parties[p->tenant].row;
    q.customer_row = p->customer ? p->row : 0;
    q.limit = STORE_PAGE;
    for (int i = 0; i < l->model->n_lots; i++)
        want += l->model->lots[i].party == party;
    do {
        world_ask(l->world, &q.super);
        for (int i = 0; i < q.n; i++) {
            const struct oracle_lot *lot = find_lot(l->model, q.items[i].seq);

            if (lot == NULL || lot->party != party || q.items[i].remaining != lot->remaining ||
                q.items[i].status != lot->status || q.items[i].amount != lot->amount)
                look_differ(l,
                            "grant %" PRId64 " of party %d: remaining %" PRId64 ", status %d; the model says %" PRId64
                            ", %d",
                            q.items[i].seq, party, q.items[i].remaining, q.items[i].status,
                            lot != NULL ? lot->remaining : -1, lot != NULL ? (int)lot->status : -1);
            q.after = q.items[i].seq;
        }
        got += q.n;
    } while (q.super.err.code == ERR_OK && q.more);
    if (got != want || q.super.err.code != ERR_OK)
        look_differ(l, "party %d has %d grants, the model says %d", party, got, want);
}

static void look_at_holds(struct look *l)
{
    static struct store_holds_query q;
    int got = 0;

    memset(&q, 0, sizeof(q));
    q.super.question = STORE_HOLDS;
    q.state = -1;
    q.limit = STORE_PAGE;
    do {
        world_ask(l->world, &q.super);
        for (int i = 0; i < q.n; i++) {
            const struct store_held *held = &q.items[i];
            const struct oracle_hold *h = oracle_find_hold(l->model, held->id);

            if (h == NULL || (held->state == HOLD_IN_DOUBT) != h->doubtful || held->n_legs != h->n_legs ||
                held->legs[0] != h->legs[0] || (h->n_legs == 2 && held->legs[1] != h->legs[1]) ||
                held->rule != h->rule || held->cost_max != h->cost_max || held->wholesale_max != h->wholesale_max ||
                held->retail_max != h->retail_max || held->call.test != h->test)
                look_differ(l, "hold %" PRId64 " is not what the model says", id_seq(held->id));
            q.after = held->id;
        }
        got += q.n;
    } while (q.super.err.code == ERR_OK && q.more);
    if (got != l->model->n_holds || q.super.err.code != ERR_OK)
        look_differ(l, "%d holds are open or in doubt, the model says %d", got, l->model->n_holds);
}

/* ---- the whole ---- */

int64_t look_seq_of(struct look *l, struct id request, int64_t first)
{
    char sql[160], hex[2 * ID_BYTES + 1];
    int64_t seq;

    for (int i = 0; i < ID_BYTES; i++)
        (void)snprintf(&hex[2 * i], 3, "%02x", request.b[i]);
    (void)snprintf(sql, sizeof(sql), "SELECT seq FROM usage WHERE seq >= %" PRId64 " AND request = x'%s'", first, hex);
    seq = sql_number(l->world->url, sql);
    if (seq == INT64_MIN)
        look_differ(l, "hold %" PRId64 " ended without a record", id_seq(request));
    return seq;
}

void look_at_everything(struct look *l, bool all)
{
    look_at_accounts(l);
    look_at_lots(l);
    look_at_transfers(l);
    look_at_entries(l);
    for (int i = all ? 0 : l->usage; i < l->model->n_usage; i += ROWS_AT_ONCE)
        look_at_usage(l, i, i + ROWS_AT_ONCE < l->model->n_usage ? i + ROWS_AT_ONCE : l->model->n_usage);
    look_at_sums(l);
    if (!l->falls)
        look_at_budgets(l);
    look_at_holds(l);
    for (int i = 0; i < l->model->n_parties; i++)
        if (l->model->parties[i].wallet) {
            look_at_balance(l, i);
            look_at_grants(l, i);
        }
    l->transfers = sql_number(l->world->url, "SELECT coalesce(max(number), 0) FROM transfers");
    l->seq = l->model->next_seq - 1;
    l->usage = l->model->n_usage;
    oracle_forget_transfers(l->model);
}

void look_check(struct look *l)
{
    if (world_fsck(l->world) != 0)
        look_differ(l, "fsck finds something (above)");
}
