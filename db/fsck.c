/* fsck.c - checks every invariant of the ledger from the outside, on a read-only connection, in one snapshot.
 *
 * It shares no code with the writer's rules on purpose: sums are made anew from transfers, holds and records. Usage
 * records, grants and transfers are read once, side by side in the order of their numbers; everything else is a query
 * whose rows, if there are any, break the invariant. Any thread; works beside a running daemon. */
#include "sqlite.h"
#include "sqlite_conn.h"

#include <stdlib.h>

#include "daemon/base/table.h"

enum { DETAIL_ROWS = 5, DETAIL_TEXT = 1024 }; /* first rows shown of what breaks an invariant */

struct fsck {
    struct sqlite_conn conn;
    store_fsck_fn *line;
    void *ctx;
    int violated;
    /* the walk over events */
    struct table sums; /* struct sum by account */
    int64_t transfers, events;
    struct finding {
        int64_t bad;
        struct buf detail;
    } orphans, usage, grants;
};

struct sum {
    int64_t account, posted;
};

/* ---- findings ---- */

static void report(struct fsck *f, const char *invariant, int64_t bad, int64_t checked, const struct buf *detail)
{
    char text[DETAIL_TEXT] = "";

    (void)slice_copy(buf_slice(detail), text, sizeof(text));
    if (bad > 0)
        f->violated++;
    f->line(f->ctx, invariant, bad == 0, checked, text);
}

static void finding_init(struct finding *g)
{
    g->bad = 0;
    buf_init(&g->detail, DETAIL_TEXT - 1);
}

static void TG_PRINTF(2, 3) finding_add(struct finding *g, const char *fmt, ...)
{
    char text[256];
    va_list args;

    if (g->bad++ >= DETAIL_ROWS)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    buf_printf(&g->detail, "%s%s", g->bad > 1 ? "; " : "", text);
}

/* ---- invariants that are a query: every row it gives is a violation, described by its first column ---- */

static const struct check {
    const char *name;
    const char *count; /* how many were checked */
    const char *rows;
} checks[] = {
    {"posted sums to zero", "SELECT count(*) FROM accounts",
     "SELECT 'sum ' || sum(posted) FROM accounts GROUP BY 1 = 1 HAVING sum(posted) <> 0"},
    {"held sums to zero", "SELECT count(*) FROM accounts",
     "SELECT 'sum ' || sum(held) FROM accounts GROUP BY 1 = 1 HAVING sum(held) <> 0"},
    {"wallets are within their credit", "SELECT count(*) FROM accounts WHERE kind IN (0, 1)",
     "SELECT 'account ' || a.row || ': ' || (posted - held + coalesce(t.credit_limit, c.credit_limit, 0)) FROM "
     "accounts a"
     " LEFT JOIN tenants t ON a.kind = 0 AND t.row = a.owner LEFT JOIN customers c ON a.kind = 1 AND c.row = a.owner"
     " WHERE a.kind IN (0, 1) AND (posted - held + coalesce(t.credit_limit, c.credit_limit, 0) < 0 OR held < 0)"},
    {"open holds equal the held column", "SELECT count(*) FROM holds",
     "SELECT 'account ' || account || ': held ' || sum(held) || ', holds ' || sum(legs) FROM ("
     " SELECT row AS account, held, 0 AS legs FROM accounts UNION ALL"
     " SELECT tenant * 16, 0, tenant_leg FROM holds WHERE n_legs > 0 UNION ALL"
     " SELECT tenant * 16 + 2, 0, -tenant_leg FROM holds WHERE n_legs > 0 UNION ALL"
     " SELECT customer * 16 + 1, 0, customer_leg FROM holds WHERE n_legs > 1 UNION ALL"
     " SELECT customer * 16 + 3, 0, -customer_leg FROM holds WHERE n_legs > 1)"
     " GROUP BY account HAVING sum(held) <> sum(legs)"},
    {"holds are unique", "SELECT count(*) FROM holds",
     "SELECT 'hold ' || hex(id) FROM holds GROUP BY id HAVING count(*) > 1"},
    {"a hold that is open has no usage record", "SELECT count(*) FROM holds",
     "SELECT 'hold ' || hex(h.id) FROM holds h JOIN usage u ON u.request = h.id"},
    {"idempotency keys have their hold or their record", "SELECT count(*) FROM call_keys",
     "SELECT 'key ' || k.row FROM call_keys k LEFT JOIN holds h ON h.call_key = k.row"
     " LEFT JOIN usage u ON u.seq = k.usage WHERE CASE WHEN k.usage IS NULL"
     "  THEN h.id IS NOT k.request OR h.key IS NOT k.api_key"
     "  ELSE h.slot IS NOT NULL OR u.request IS NOT k.request OR u.key IS NOT k.api_key"
     "   OR u.created_ms IS NOT k.at_ms END"
     " UNION ALL SELECT 'hold ' || hex(id) FROM holds WHERE call_key <> 0"
     "  AND NOT EXISTS (SELECT 1 FROM call_keys WHERE row = call_key)"},
    {"an idempotency key stands for one request", "SELECT count(*) FROM call_keys",
     "SELECT 'key ' || min(row) FROM call_keys GROUP BY request HAVING count(*) > 1"
     " UNION ALL SELECT 'key ' || min(row) FROM call_keys NOT INDEXED GROUP BY api_key, text HAVING count(*) > 1"},
    {"a hold resolves once", "SELECT count(*) FROM usage",
     "SELECT 'request ' || hex(request) FROM usage GROUP BY request HAVING count(*) > 1"},
    {"roll-ups equal the usage records", "SELECT count(*) FROM rollups",
     "SELECT 'hour ' || hour || ' tenant ' || tenant || ' key ' || key || ' item ' || item FROM ("
     " SELECT hour, tenant, customer, key, item, channel, requests, images, text_input_tokens t1,"
     "  cached_text_input_tokens t2, image_input_tokens t3, cached_image_input_tokens t4, image_output_tokens t5,"
     "  text_output_tokens t6, cost, wholesale, retail, refunded FROM rollups UNION ALL"
     " SELECT created_ms / 3600000, tenant, customer, key, item, channel, -count(*), -sum(images), "
     "-sum(text_input_tokens),"
     "  -sum(cached_text_input_tokens), -sum(image_input_tokens), -sum(cached_image_input_tokens),"
     "  -sum(image_output_tokens), -sum(text_output_tokens), -sum(cost), -sum(wholesale),"
     "  -sum(coalesce(retail, wholesale)), -sum(refunded) FROM usage GROUP BY 1, 2, 3, 4, 5, 6)"
     " GROUP BY hour, tenant, customer, key, item, channel"
     " HAVING sum(requests) <> 0 OR sum(images) <> 0 OR sum(t1) <> 0 OR sum(t2) <> 0 OR sum(t3) <> 0 OR sum(t4) <> 0"
     "  OR sum(t5) <> 0 OR sum(t6) <> 0 OR sum(cost) <> 0 OR sum(wholesale) <> 0 OR sum(retail) <> 0 OR sum(refunded) "
     "<> 0"},
    {"refunds are within the charge", "SELECT count(*) FROM usage",
     "SELECT 'record ' || seq FROM usage WHERE refunded < 0 OR refunded > max(wholesale, coalesce(retail, wholesale))"},
    {"usage records name what exists", "SELECT count(*) FROM usage",
     "SELECT 'record ' || u.seq FROM (SELECT min(seq) AS seq, tenant, customer, key, channel, item FROM usage"
     "  GROUP BY tenant, customer, key, channel, item) u"
     " WHERE NOT EXISTS (SELECT 1 FROM tenants WHERE row = u.tenant)"
     "  OR (u.customer <> 0 AND NOT EXISTS (SELECT 1 FROM customers WHERE row = u.customer))"
     "  OR (u.key <> 0 AND NOT EXISTS (SELECT 1 FROM keys WHERE row = u.key))"
     "  OR (u.channel <> 0 AND NOT EXISTS (SELECT 1 FROM channels WHERE row = u.channel))"
     "  OR NOT EXISTS (SELECT 1 FROM items WHERE row = u.item)"},
    {"time runs forward between clock steps", "SELECT count(*) FROM usage",
     "SELECT 'record ' || seq FROM (SELECT seq, created_ms, lag(created_ms) OVER w AS before, lag(seq) OVER w AS last"
     "  FROM usage WINDOW w AS (ORDER BY seq)) r WHERE created_ms < before"
     "  AND NOT EXISTS (SELECT 1 FROM clock_steps c WHERE c.seq > r.last AND c.seq <= r.seq)"},
    {"foreign keys",
     "SELECT (SELECT count(*) FROM tenants) + (SELECT count(*) FROM customers) + (SELECT count(*) FROM keys)"
     " + (SELECT count(*) FROM channels) + (SELECT count(*) FROM price_rates)",
     "SELECT \"table\" || ' row ' || coalesce(rowid, '?') FROM pragma_foreign_key_check"},
};

static enum err_code run_check(struct fsck *f, const struct check *check, struct err *err)
{
    int64_t checked = 0;
    struct finding g;
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_get_number(&f->conn, check->count, &checked, err);
    int rc = SQLITE_DONE;

    if (code == ERR_OK)
        code = sqlite_prepare(&f->conn, check->rows, &s, err);
    if (code != ERR_OK)
        return code;
    finding_init(&g);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        finding_add(&g, "%s", (const char *)sqlite3_column_text(s, 0));
    if (rc != SQLITE_DONE)
        code = sqlite_error(&f->conn, check->name, err);
    sqlite3_finalize(s);
    if (code == ERR_OK)
        report(f, check->name, g.bad, checked, &g.detail);
    buf_dispose(&g.detail);
    return code;
}

/* ---- the file ---- */

static enum err_code check_file(struct fsck *f, struct err *err)
{
    int64_t id = 0, pages = 0;
    struct finding g;
    sqlite3_stmt *s = NULL;
    enum err_code code = sqlite_get_number(&f->conn, "PRAGMA application_id", &id, err);
    int rc;

    if (code == ERR_OK)
        code = sqlite_get_number(&f->conn, "PRAGMA page_count", &pages, err);
    if (code == ERR_OK && id != STORE_APPLICATION_ID)
        code = err_set(err, ERR_CONFLICT, NULL, "There is no store in this database.");
    if (code == ERR_OK)
        code = sqlite_prepare(&f->conn, "PRAGMA quick_check(5)", &s, err);
    if (code != ERR_OK)
        return code;
    finding_init(&g);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW)
        if (!slice_eq_str(sqlite_column_slice(s, 0), "ok"))
            finding_add(&g, "%s", (const char *)sqlite3_column_text(s, 0));
    if (rc != SQLITE_DONE)
        finding_add(&g, "%s", sqlite3_errmsg(f->conn.db));
    sqlite3_finalize(s);
    report(f, "the file is whole", g.bad, pages, &g.detail);
    buf_dispose(&g.detail);
    return ERR_OK;
}

/* ---- the walk ---- */

static bool match_sum(const void *item, const void *key)
{
    return ((const struct sum *)item)->account == *(const int64_t *)key;
}

static void add_sum(struct fsck *f, int64_t account, int64_t amount)
{
    uint64_t hash = table_hash_u64((uint64_t)account);
    struct sum *sum = table_get(&f->sums, hash, match_sum, &account);

    if (sum == NULL) {
        sum = mem_zalloc(sizeof(*sum));
        sum->account = account;
        table_put(&f->sums, hash, match_sum, &account, sum);
    }
    sum->posted += amount;
}

/* The transfers of one event, summed by kind. */
struct group {
    int64_t by_kind[TRANSFER_KINDS];
    int n;
    bool odd; /* a transfer between accounts that its kind does not join */
};

struct event {
    int64_t seq;
    int64_t tenant, customer, channel, cost, wholesale, retail;
    unsigned flags;
};

/* The accounts that a transfer of a usage record must join. */
static bool joins(const struct event *e, int kind, int64_t debit, int64_t credit)
{
    static const struct {
        enum account_kind debit, credit;
    } pairs[TRANSFER_KINDS] = {
        [TRANSFER_COST] = {ACCOUNT_COST, ACCOUNT_PAYABLE},
        [TRANSFER_CHARGE] = {ACCOUNT_TENANT_WALLET, ACCOUNT_TENANT_REVENUE},
        [TRANSFER_RETAIL_CHARGE] = {ACCOUNT_CUSTOMER_WALLET, ACCOUNT_CUSTOMER_REVENUE},
        [TRANSFER_LOSS] = {ACCOUNT_LOSS, ACCOUNT_PAYABLE},
        [TRANSFER_OVERAGE] = {ACCOUNT_TENANT_RECEIVABLE, ACCOUNT_TENANT_REVENUE},
        [TRANSFER_RETAIL_OVERAGE] = {ACCOUNT_CUSTOMER_RECEIVABLE, ACCOUNT_CUSTOMER_REVENUE},
    };
    bool retail = kind == TRANSFER_RETAIL_CHARGE || kind == TRANSFER_RETAIL_OVERAGE;
    int64_t owner = retail ? e->customer : e->tenant;

    if (kind == TRANSFER_COST || kind == TRANSFER_LOSS)
        return debit == account_number(pairs[kind].debit, 0) &&
               credit == account_number(pairs[kind].credit, e->channel);
    return kind != TRANSFER_CREDIT && kind != TRANSFER_ADJUSTMENT &&
           debit == account_number(pairs[kind].debit, owner) && credit == account_number(pairs[kind].credit, owner);
}

/* Takes the transfers numbered below <end> from the cursor; those of <event> (NULL: there is none) into <group>. */
static int take_transfers(struct fsck *f, sqlite3_stmt *transfers, int rc, int64_t end, const struct event *event,
                          struct group *group)
{
    while (rc == SQLITE_ROW && sqlite3_column_int64(transfers, 0) < end) {
        int64_t number = sqlite3_column_int64(transfers, 0), amount = sqlite3_column_int64(transfers, 4);
        int64_t debit = sqlite3_column_int64(transfers, 2), credit = sqlite3_column_int64(transfers, 3);
        int kind = sqlite3_column_int(transfers, 1);

        f->transfers++;
        add_sum(f, debit, -amount);
        add_sum(f, credit, amount);
        if (event == NULL || number >> EVENT_PLACE_BITS != event->seq || kind < 0 || kind >= TRANSFER_KINDS) {
            finding_add(&f->orphans, "transfer %lld", (long long)number);
        } else {
            group->by_kind[kind] += amount;
            group->odd |= !joins(event, kind, debit, credit);
            group->n++;
        }
        rc = sqlite3_step(transfers);
    }
    return rc;
}

static void check_usage(struct fsck *f, const struct event *e, const struct group *g)
{
    const int64_t *by = g->by_kind;
    int64_t retail = by[TRANSFER_RETAIL_CHARGE] + by[TRANSFER_RETAIL_OVERAGE];
    bool good = !g->odd && by[TRANSFER_CREDIT] == 0 && by[TRANSFER_ADJUSTMENT] == 0 &&
                by[TRANSFER_CHARGE] + by[TRANSFER_OVERAGE] == e->wholesale &&
                by[TRANSFER_COST] + by[TRANSFER_LOSS] == e->cost;

    good = good && retail == ((e->flags & USAGE_ROW_OWN_WALLET) != 0 ? e->retail : 0);
    if ((e->flags & USAGE_TEST) != 0)
        good = good && g->n == 0 && e->cost == 0 && e->wholesale == 0 && e->retail == 0;
    if (by[TRANSFER_LOSS] != 0)
        good = good && (e->flags & USAGE_IN_DOUBT) != 0 && e->wholesale == 0 && by[TRANSFER_COST] == 0;
    if (by[TRANSFER_OVERAGE] + by[TRANSFER_RETAIL_OVERAGE] != 0)
        good = good && (e->flags & USAGE_OVERAGE) != 0;
    if (!good)
        finding_add(&f->usage, "record %lld", (long long)e->seq);
}

struct cursors {
    sqlite3_stmt *usage, *grants, *transfers;
    int usage_rc, grants_rc, transfers_rc;
};

static void walk_usage(struct fsck *f, struct cursors *c)
{
    sqlite3_stmt *s = c->usage;
    struct event e = {.seq = sqlite3_column_int64(s, 0),
                      .tenant = sqlite3_column_int64(s, 1),
                      .customer = sqlite3_column_int64(s, 2),
                      .channel = sqlite3_column_int64(s, 3),
                      .cost = sqlite3_column_int64(s, 4),
                      .wholesale = sqlite3_column_int64(s, 5),
                      .retail = sqlite3_column_int64(s, 6),
                      .flags = (unsigned)sqlite3_column_int(s, 7)};
    struct group g = {.n = 0};

    c->transfers_rc = take_transfers(f, c->transfers, c->transfers_rc, e.seq << EVENT_PLACE_BITS, NULL, &g);
    c->transfers_rc = take_transfers(f, c->transfers, c->transfers_rc, (e.seq + 1) << EVENT_PLACE_BITS, &e, &g);
    check_usage(f, &e, &g);
    f->events++;
    c->usage_rc = sqlite3_step(s);
}

static void walk_grant(struct fsck *f, struct cursors *c)
{
    int64_t seq = sqlite3_column_int64(c->grants, 0), wallet = sqlite3_column_int64(c->grants, 1);
    int64_t amount = sqlite3_column_int64(c->grants, 2);
    int64_t source = account_number(
        sqlite3_column_int(c->grants, 3) == CREDIT_PROMOTIONAL ? ACCOUNT_PROMOTIONAL : ACCOUNT_EXTERNAL, 0);
    struct group g = {.n = 0};
    bool good = false;

    c->transfers_rc = take_transfers(f, c->transfers, c->transfers_rc, seq << EVENT_PLACE_BITS, NULL, &g);
    if (c->transfers_rc == SQLITE_ROW && sqlite3_column_int64(c->transfers, 0) == seq << EVENT_PLACE_BITS) {
        int64_t debit = sqlite3_column_int64(c->transfers, 2), credit = sqlite3_column_int64(c->transfers, 3);
        int64_t moved = sqlite3_column_int64(c->transfers, 4);

        good = amount > 0 ? debit == source && credit == wallet && moved == amount
                          : debit == wallet && credit == source && moved == -amount;
        f->transfers++;
        add_sum(f, debit, -moved);
        add_sum(f, credit, moved);
        c->transfers_rc = sqlite3_step(c->transfers);
    }
    if (!good)
        finding_add(&f->grants, "grant %lld", (long long)seq);
    f->events++;
    c->grants_rc = sqlite3_step(c->grants);
}

/* Both records and transfers by number, so that the transfers of an event are next when the event is. */
static enum err_code walk(struct fsck *f, struct err *err)
{
    struct cursors c = {.usage = NULL};
    enum err_code code = sqlite_prepare(
        &f->conn,
        "SELECT seq, tenant, customer, channel, cost, wholesale, coalesce(retail, wholesale), flags FROM usage"
        " ORDER BY seq",
        &c.usage, err);
    struct group ignored = {.n = 0};

    if (code == ERR_OK)
        code =
            sqlite_prepare(&f->conn, "SELECT seq, wallet, amount, category FROM grants ORDER BY seq", &c.grants, err);
    if (code == ERR_OK)
        code = sqlite_prepare(&f->conn, "SELECT number, kind, debit, credit, amount FROM transfers ORDER BY number",
                              &c.transfers, err);
    if (code != ERR_OK)
        goto out;
    c.usage_rc = sqlite3_step(c.usage);
    c.grants_rc = sqlite3_step(c.grants);
    c.transfers_rc = sqlite3_step(c.transfers);
    while (c.usage_rc == SQLITE_ROW || c.grants_rc == SQLITE_ROW) {
        if (c.grants_rc != SQLITE_ROW ||
            (c.usage_rc == SQLITE_ROW && sqlite3_column_int64(c.usage, 0) < sqlite3_column_int64(c.grants, 0)))
            walk_usage(f, &c);
        else
            walk_grant(f, &c);
    }
    c.transfers_rc = take_transfers(f, c.transfers, c.transfers_rc, INT64_MAX, NULL, &ignored);
    if (c.usage_rc != SQLITE_DONE || c.grants_rc != SQLITE_DONE || c.transfers_rc != SQLITE_DONE)
        code = sqlite_error(&f->conn, "Cannot read the ledger", err);
out:
    sqlite3_finalize(c.usage);
    sqlite3_finalize(c.grants);
    sqlite3_finalize(c.transfers);
    return code;
}

/* Every account against the sum of its transfers, and every sum against an account. */
static enum err_code compare_sums(struct fsck *f, struct err *err)
{
    struct finding g;
    sqlite3_stmt *s = NULL;
    struct sum *sum;
    size_t pos = 0;
    int64_t n = 0;
    enum err_code code = sqlite_prepare(&f->conn, "SELECT row, posted FROM accounts", &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    finding_init(&g);
    for (; (rc = sqlite3_step(s)) == SQLITE_ROW; n++) {
        int64_t account = sqlite3_column_int64(s, 0), posted = sqlite3_column_int64(s, 1);

        sum = table_remove(&f->sums, table_hash_u64((uint64_t)account), match_sum, &account);
        if ((sum != NULL ? sum->posted : 0) != posted)
            finding_add(&g, "account %lld: posted %lld, transfers %lld", (long long)account, (long long)posted,
                        (long long)(sum != NULL ? sum->posted : 0));
        free(sum);
    }
    if (rc != SQLITE_DONE)
        code = sqlite_error(&f->conn, "Cannot read the accounts", err);
    sqlite3_finalize(s);
    while (code == ERR_OK && (sum = table_next(&f->sums, &pos)) != NULL)
        if (sum->posted != 0)
            finding_add(&g, "account %lld is missing", (long long)sum->account);
    if (code == ERR_OK)
        report(f, "balances equal their transfers", g.bad, n, &g.detail);
    buf_dispose(&g.detail);
    return code;
}

static enum err_code check_events(struct fsck *f, struct err *err)
{
    struct sum *sum;
    size_t pos = 0;
    enum err_code code;

    table_init(&f->sums);
    finding_init(&f->orphans);
    finding_init(&f->usage);
    finding_init(&f->grants);
    code = walk(f, err);
    if (code == ERR_OK)
        code = compare_sums(f, err);
    if (code == ERR_OK) {
        report(f, "transfers belong to a record or a grant", f->orphans.bad, f->transfers, &f->orphans.detail);
        report(f, "usage records equal their transfers", f->usage.bad, f->events, &f->usage.detail);
        report(f, "grants equal their transfers", f->grants.bad, f->events, &f->grants.detail);
    }
    while ((sum = table_next(&f->sums, &pos)) != NULL)
        free(sum);
    table_dispose(&f->sums);
    buf_dispose(&f->orphans.detail);
    buf_dispose(&f->usage.detail);
    buf_dispose(&f->grants.detail);
    return code;
}

int store_fsck(const char *url, store_fsck_fn *line, void *ctx, struct err *err)
{
    struct fsck f = {.line = line, .ctx = ctx};
    const char *path;
    int applied;
    enum err_code code = ERR_OK;

    if (!sqlite_url_path(url, &path)) {
        (void)err_set(err, ERR_INVALID_VALUE, "url", "The store's URL must be sqlite:PATH, not '%s'.", url);
        return -1;
    }
    if (sqlite_conn_open(&f.conn, path, CONN_READER, NULL, err) != ERR_OK)
        return -1;
    code = sqlite_exec(&f.conn, "PRAGMA temp_store = FILE; PRAGMA cache_size = -16384; BEGIN", err);
    if (code == ERR_OK)
        code = check_file(&f, err);
    if (code == ERR_OK && f.violated > 0)
        goto out; /* nothing read from a damaged file means anything */
    if (code == ERR_OK)
        code = sqlite_migrate(&f.conn, false, &applied, err); /* applies nothing: is the schema ours? */
    if (code == ERR_OK)
        code = check_events(&f, err);
    for (size_t i = 0; code == ERR_OK && i < sizeof(checks) / sizeof(checks[0]); i++)
        code = run_check(&f, &checks[i], err);
out:
    sqlite_conn_close(&f.conn);
    return code == ERR_OK ? f.violated : -1;
}
