/* fsck_query.c - the invariants that a query can tell: every row it gives is a violation, described by its first
 * column. */
#include "fsck_state.h"

/* What holds keep: of a lot, or (lot 0) of the money of no lot. One row a leg where one lot bears it all. */
#define PINS                                                                                                           \
    "WITH pins (slot, leg, wallet, lot, amount) AS ("                                                                  \
    "SELECT slot, 0, tenant * 16, tenant_lot, tenant_leg FROM holds WHERE tenant_leg > 0 AND tenant_lot >= 0"          \
    " UNION ALL SELECT slot, 1, customer * 16 + 1, customer_lot, customer_leg FROM holds"                              \
    "  WHERE customer_leg > 0 AND customer_lot >= 0"                                                                   \
    " UNION ALL SELECT slot, leg, CASE leg WHEN 0 THEN tenant * 16 ELSE customer * 16 + 1 END, lot, amount"            \
    "  FROM hold_pins JOIN holds USING (slot)) "

/* To be put behind "accounts a". */
#define LIMITS                                                                                                         \
    " LEFT JOIN (SELECT row * 16 AS wallet, credit_limit AS most FROM tenants UNION ALL"                               \
    " SELECT row * 16 + 1, credit_limit FROM customers) limits ON limits.wallet = a.row"

/* The sum of a column over all accounts when it is not zero. Dollars and the rest are summed apart: accounts of a
 * thousand million dollars each may add up to more than 64 bits on the way to zero. */
#define DOLLARS(column) "(sum(" column " / 1000000000) + sum(" column " % 1000000000) / 1000000000)"
#define REST(column) "(sum(" column " % 1000000000) % 1000000000)"
#define NONZERO_SUM(column)                                                                                            \
    "SELECT 'sum ' || " DOLLARS(column) " || ' dollars, ' || " REST(                                                   \
        column) " || ' nano' FROM accounts"                                                                            \
                " GROUP BY 1 = 1 HAVING " DOLLARS(column) " <> 0 OR " REST(column) " <> 0"

static const struct check {
    const char *name;
    const char *count; /* how many were checked */
    const char *rows;
} checks[] = {
    {"posted sums to zero", "SELECT count(*) FROM accounts", NONZERO_SUM("posted")},
    {"held sums to zero", "SELECT count(*) FROM accounts", NONZERO_SUM("held")},
    {"wallets are within their credit", "SELECT count(*) FROM accounts WHERE kind IN (0, 1)",
     "SELECT 'account ' || a.row || ': ' || (posted - held + coalesce(limits.most, 0)) FROM accounts a" LIMITS
     " WHERE a.kind IN (0, 1) AND (posted - held + coalesce(limits.most, 0) < 0 OR held < 0)"},
    {"what is drawn on credit is within its line", "SELECT count(*) FROM accounts WHERE kind IN (0, 1)",
     PINS
     "SELECT 'account ' || a.row || ': ' || (posted - coalesce(remaining, 0) - coalesce(kept, 0) + "
     "coalesce(limits.most, 0))"
     " FROM accounts a" LIMITS
     " LEFT JOIN (SELECT wallet, sum(remaining) AS remaining FROM grants GROUP BY wallet) g ON g.wallet = a.row"
     " LEFT JOIN (SELECT wallet, sum(amount) AS kept FROM pins WHERE lot = 0 GROUP BY wallet) p ON p.wallet = a.row"
     " WHERE a.kind IN (0, 1) AND posted - coalesce(remaining, 0) - coalesce(kept, 0) + coalesce(limits.most, 0) < 0"},
    {"grants bear what holds keep of them", "SELECT count(*) FROM grants",
     PINS "SELECT 'grant ' || g.seq || ': remaining ' || remaining || ', kept ' || coalesce(kept, 0) FROM grants g"
          " LEFT JOIN (SELECT lot, sum(amount) AS kept FROM pins WHERE lot <> 0 GROUP BY lot) p ON p.lot = g.seq"
          " WHERE remaining < coalesce(kept, 0) OR (status <> 0 AND remaining <> coalesce(kept, 0))"},
    {"holds keep their legs of lots of their wallets", "SELECT count(*) FROM holds",
     PINS
     "SELECT 'hold in slot ' || slot FROM (SELECT slot, 0 AS leg, n_legs > 0 AS has, tenant_leg AS amount,"
     "  tenant_lot AS lot FROM holds UNION ALL SELECT slot, 1, n_legs > 1, customer_leg, customer_lot FROM holds) l"
     " WHERE lot < -1 OR (amount = 0 AND lot <> 0) OR (lot = -1 AND (NOT has OR amount IS NOT"
     "  (SELECT sum(amount) FROM hold_pins p WHERE p.slot = l.slot AND p.leg = l.leg)))"
     " UNION ALL SELECT 'pin of slot ' || p.slot || ' leg ' || p.leg FROM hold_pins p LEFT JOIN holds h USING (slot)"
     "  WHERE CASE p.leg WHEN 0 THEN h.tenant_lot ELSE h.customer_lot END IS NOT -1"
     " UNION ALL SELECT 'slot ' || slot || ': grant ' || lot || ' twice' FROM hold_pins"
     "  GROUP BY slot, leg, lot HAVING count(*) > 1"
     " UNION ALL SELECT 'slot ' || slot || ': grant ' || lot FROM pins WHERE lot <> 0"
     "  AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.seq = pins.lot AND g.wallet = pins.wallet)"},
    {"open holds equal the held column", "SELECT count(*) FROM holds",
     "SELECT 'account ' || account || ': held ' || sum(held) || ', holds ' || sum(legs) FROM ("
     " SELECT row AS account, held, 0 AS legs FROM accounts UNION ALL"
     " SELECT tenant * 16, 0, tenant_leg FROM holds WHERE n_legs > 0 UNION ALL"
     " SELECT tenant * 16 + 2, 0, -tenant_leg FROM holds WHERE n_legs > 0 UNION ALL"
     " SELECT customer * 16 + 1, 0, customer_leg FROM holds WHERE n_legs > 1 UNION ALL"
     " SELECT customer * 16 + 3, 0, -customer_leg FROM holds WHERE n_legs > 1)"
     " GROUP BY account HAVING sum(held) <> sum(legs)"},
    {"holds are as they can be", "SELECT count(*) FROM holds",
     "SELECT 'hold ' || hex(id) FROM holds WHERE slot < 1 OR state NOT IN (0, 1) OR rule NOT BETWEEN 0 AND 2"
     " OR epoch NOT BETWEEN 1 AND (SELECT coalesce(max(CAST(CAST(value AS TEXT) AS INTEGER)), 0) FROM meta"
     "  WHERE name = 'epoch')"
     " OR n_legs NOT BETWEEN 0 AND 2 OR (n_legs = 0) <> (flags & 2 <> 0) OR (n_legs = 2 AND customer = 0)"
     " OR tenant_leg < 0 OR customer_leg < 0 OR (n_legs < 1 AND tenant_leg <> 0) OR (n_legs < 2 AND customer_leg <> 0)"
     " OR cost_max < 0 OR wholesale_max < 0 OR retail_max < 0"
     " OR NOT EXISTS (SELECT 1 FROM tenants WHERE row = tenant)"
     " OR (customer <> 0 AND NOT EXISTS (SELECT 1 FROM customers c WHERE c.row = customer AND c.tenant = holds.tenant))"
     " OR (key <> 0 AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.row = key AND k.tenant = holds.tenant))"
     " OR (channel <> 0 AND NOT EXISTS (SELECT 1 FROM channels WHERE row = channel))"
     " OR NOT EXISTS (SELECT 1 FROM items WHERE row = item)"},
    {"holds are unique", "SELECT count(*) FROM holds",
     "SELECT 'hold ' || hex(id) FROM holds GROUP BY id HAVING count(*) > 1"},
    {"a hold that is open has no usage record", "SELECT count(*) FROM holds",
     "SELECT 'hold ' || hex(h.id) FROM holds h JOIN usage u ON u.request = h.id"
     " UNION ALL SELECT 'hold ' || hex(h.id) FROM holds h JOIN pruned p ON p.request = h.id"},
    {"idempotency keys have their hold or their record", "SELECT count(*) FROM call_keys",
     "SELECT 'key ' || k.row FROM call_keys k LEFT JOIN holds h ON h.call_key = k.row"
     " LEFT JOIN usage u ON u.seq = k.usage LEFT JOIN pruned p ON p.seq = k.usage WHERE CASE WHEN k.usage IS NULL"
     "  THEN h.id IS NOT k.request OR h.key IS NOT k.api_key"
     "  ELSE h.slot IS NOT NULL OR coalesce(u.request, p.request) IS NOT k.request"
     "   OR coalesce(u.key, p.key) IS NOT k.api_key OR coalesce(u.created_ms, p.created_ms) IS NOT k.at_ms END"
     " UNION ALL SELECT 'hold ' || hex(id) FROM holds WHERE call_key <> 0"
     "  AND NOT EXISTS (SELECT 1 FROM call_keys WHERE row = call_key)"},
    {"an idempotency key stands for one request", "SELECT count(*) FROM call_keys",
     "SELECT 'key ' || min(row) FROM call_keys GROUP BY request HAVING count(*) > 1"
     " UNION ALL SELECT 'key ' || min(row) FROM call_keys NOT INDEXED GROUP BY api_key, text HAVING count(*) > 1"},
    {"a hold resolves once", "SELECT (SELECT count(*) FROM usage) + (SELECT count(*) FROM pruned)",
     "SELECT 'request ' || hex(request) FROM (SELECT request FROM usage UNION ALL SELECT request FROM pruned)"
     " GROUP BY request HAVING count(*) > 1"},
    {"pruned records are of closed days", "SELECT count(*) FROM pruned",
     "SELECT 'record ' || seq FROM pruned WHERE created_ms * 1000 >="
     " coalesce((SELECT CAST(CAST(value AS TEXT) AS INTEGER) FROM meta WHERE name = 'closed'), 0)"},
    /* Of pruned records quantities are not known any more. */
    {"accounts belong to what exists", "SELECT count(*) FROM accounts",
     "SELECT 'account ' || row FROM accounts WHERE NOT CASE WHEN kind IN (1, 3, 10, 12, 13, 14)"
     "  THEN EXISTS (SELECT 1 FROM customers c WHERE c.row = owner)"
     " WHEN kind = 5 THEN owner = 0 OR EXISTS (SELECT 1 FROM channels c WHERE c.row = owner)"
     " WHEN kind < 15 THEN EXISTS (SELECT 1 FROM tenants t WHERE t.row = owner) ELSE 0 END"},
    {"grants and entries are of wallets", "SELECT (SELECT count(*) FROM grants) + (SELECT count(*) FROM entries)",
     "SELECT 'grant ' || seq FROM grants WHERE wallet & 15 > 1 OR wallet NOT IN (SELECT row FROM accounts) UNION ALL"
     " SELECT 'entry ' || seq FROM entries WHERE wallet & 15 > 1 OR wallet NOT IN (SELECT row FROM accounts)"},
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
        fsck_report(f, check->name, &g, checked);
    finding_dispose(&g);
    return code;
}

enum err_code fsck_queries(struct fsck *f, int begin, int end, struct err *err)
{
    enum { CHECKS = sizeof(checks) / sizeof(checks[0]) };
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && i < CHECKS; i++) {
        fsck_part(f, checks[i].name, begin + (end - begin) * i / CHECKS, begin + (end - begin) * (i + 1) / CHECKS);
        code = run_check(f, &checks[i], err);
    }
    if (code == ERR_OK)
        fsck_part(f, "done", end, end);
    return code;
}
