/* test_fsck.c - fsck finds what it promises to: each damage, done by hand, breaks the invariant named beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib_sql.h"
#include "lib_world.h"

#include "daemon/base/clock.h"

/* Accounts of the history below: the tenant and the customer are row 1, hence 16 + kind; so is the channel. */
static const struct {
    const char *invariant, *sql;
} damages[] = {
    {"posted sums to zero", "UPDATE accounts SET posted = posted + 1 WHERE kind = 0"},
    {"balances equal their transfers", "UPDATE accounts SET posted = posted + 1 WHERE kind = 0"},
    {"balances equal their transfers", "DELETE FROM accounts WHERE kind = 4"},
    {"held sums to zero", "UPDATE accounts SET held = held + 1 WHERE kind = 0"},
    {"wallets are within their credit", "UPDATE accounts SET posted = -5000000001, held = 0 WHERE kind = 0"},
    {"wallets are within their credit",
     "UPDATE tenants SET credit_limit = 0; UPDATE accounts SET posted = -1, held = 0"},
    {"wallets are within their credit", "UPDATE accounts SET held = -1 WHERE kind = 1"},
    {"what is drawn on credit is within its line",
     "UPDATE accounts SET posted = (SELECT sum(remaining) FROM grants WHERE wallet = 16) - 5000000001 WHERE row = 16"},
    {"what is drawn on credit is within its line",
     "UPDATE holds SET tenant_lot = 0, tenant_leg = tenant_leg + 20000000000"},
    {"grants bear what holds keep of them",
     "PRAGMA ignore_check_constraints = ON; UPDATE grants SET remaining = 0 WHERE seq IN (SELECT lot FROM hold_pins)"},
    {"grants bear what holds keep of them", "UPDATE grants SET remaining = 1 WHERE status = 1 AND remaining = 0"},
    {"grants bear what holds keep of them",
     "UPDATE grants SET remaining = remaining + 1 WHERE status = 2 AND remaining > 0"},
    {"holds keep their legs of lots of their wallets", "DELETE FROM hold_pins WHERE place = 0"},
    {"holds keep their legs of lots of their wallets", "DELETE FROM hold_pins"},
    {"holds keep their legs of lots of their wallets", "UPDATE hold_pins SET amount = amount + 1 WHERE place = 1"},
    {"holds keep their legs of lots of their wallets", "UPDATE hold_pins SET slot = slot + 1000"},
    {"holds keep their legs of lots of their wallets", "UPDATE hold_pins SET lot = 99999 WHERE place = 0"},
    {"holds keep their legs of lots of their wallets",
     "UPDATE hold_pins SET lot = (SELECT seq FROM grants WHERE wallet = 17) WHERE place = 0 AND leg = 0"},
    {"holds keep their legs of lots of their wallets",
     "UPDATE hold_pins SET lot = (SELECT lot FROM hold_pins p WHERE p.slot = hold_pins.slot AND p.leg = hold_pins.leg"
     " AND place = 0)"},
    {"holds keep their legs of lots of their wallets", "UPDATE holds SET tenant_lot = 0 WHERE tenant_lot = -1"},
    {"holds keep their legs of lots of their wallets", "UPDATE holds SET tenant_lot = -1 WHERE tenant_lot >= 0"},
    {"holds keep their legs of lots of their wallets", "UPDATE holds SET tenant_lot = -2"},
    {"holds keep their legs of lots of their wallets", "UPDATE holds SET customer_lot = 5 WHERE n_legs = 1"},
    {"open holds equal the held column", "UPDATE holds SET tenant_leg = tenant_leg + 1"},
    {"open holds equal the held column", "DELETE FROM holds"},
    {"holds are as they can be",
     "PRAGMA ignore_check_constraints = ON; UPDATE holds SET state = 2 WHERE slot = (SELECT min(slot) FROM holds)"},
    {"holds are as they can be", "UPDATE holds SET epoch = epoch + 1"},
    {"holds are as they can be", "UPDATE holds SET epoch = 0"},
    {"holds are as they can be", "DELETE FROM meta WHERE name = 'epoch'"},
    {"holds are as they can be", "UPDATE holds SET n_legs = 3 WHERE n_legs = 2"},
    {"holds are as they can be", "UPDATE holds SET flags = flags | 2"},
    {"holds are as they can be", "UPDATE holds SET key = 99"},
    {"holds are as they can be", "UPDATE holds SET item = 99"},
    {"holds are as they can be", "UPDATE holds SET rule = 3"},
    {"holds are as they can be", "UPDATE holds SET cost_max = -1"},
    {"holds are unique",
     "INSERT INTO holds SELECT slot + 1000, id, epoch, state, tenant, customer, key, channel, item, n, flags,"
     " n_legs, tenant_leg, customer_leg, cost_max, wholesale_max, retail_max, version_cost,"
     " version_wholesale, version_retail, rule, created_at, call_key, tenant_lot, customer_lot FROM holds"},
    {"a hold that is open has no usage record", "UPDATE holds SET id = (SELECT request FROM usage LIMIT 1)"},
    {"idempotency keys have their hold or their record", "DELETE FROM call_keys WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record", "UPDATE holds SET call_key = 0"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET api_key = api_key + 1"},
    {"idempotency keys have their hold or their record",
     "UPDATE call_keys SET request = randomblob(16) WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record",
     "UPDATE call_keys SET request = randomblob(16) WHERE usage IS NOT NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = 1 WHERE usage IS NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = NULL"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET usage = usage + 1"},
    {"idempotency keys have their hold or their record", "UPDATE call_keys SET at_ms = at_ms - 1"},
    {"an idempotency key stands for one request", "INSERT INTO call_keys SELECT row + 1000, api_key, text || '2', "
                                                  "fingerprint, request, usage, at_ms FROM call_keys"},
    {"an idempotency key stands for one request", "DROP INDEX call_keys_text;"
                                                  "INSERT INTO call_keys SELECT row + 1000, api_key, text, "
                                                  "fingerprint, randomblob(16), usage, at_ms FROM call_keys"},
    {"a hold resolves once", "UPDATE usage SET request = (SELECT request FROM usage LIMIT 1)"},
    {"roll-ups equal the usage records", "UPDATE rollups SET cost = cost + 1"},
    {"roll-ups equal the usage records", "DELETE FROM rollups"},
    {"roll-ups equal the usage records", "UPDATE rollups SET image_output_tokens = 0"},
    {"roll-ups equal the usage records", "UPDATE rollups SET minute = (minute + 1) % 15"},
    {"roll-ups equal the usage records", "INSERT INTO rollups SELECT quarter + 1, tenant, minute, customer, key, item,"
                                         " channel, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM rollups"},
    {"sums of days equal the roll-ups", "UPDATE folded SET quarter = 100000000"},
    {"sums of days equal the roll-ups", "DELETE FROM folded"},
    {"sums of days equal the roll-ups",
     "INSERT INTO day_items VALUES (77, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0)"},
    {"sums of days equal the roll-ups", "INSERT INTO spans VALUES (77, 0, 7, 1447)"},
    {"sums of days equal the roll-ups", "INSERT INTO spans VALUES (77, 0, 0, 1440); INSERT INTO day_customers"
                                        " VALUES (77, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0)"},
    {"sums of days equal the roll-ups", "INSERT INTO tenant_zones VALUES (1, 100, 1, 200), (1, 150, 2, NULL)"},
    {"usage records name what exists", "UPDATE usage SET key = 999; UPDATE rollups SET key = 999"},
    {"usage records name what exists", "UPDATE usage SET item = 999; UPDATE rollups SET item = 999"},
    {"foreign keys", "PRAGMA foreign_keys = OFF; UPDATE keys SET tenant = 999"},
    {"accounts belong to what exists", "INSERT INTO accounts (row, posted, held) VALUES (99 * 16 + 4, 0, 0)"},
    {"accounts belong to what exists", "INSERT INTO accounts (row, posted, held) VALUES (99 * 16 + 1, 0, 0)"},
    {"accounts belong to what exists", "INSERT INTO accounts (row, posted, held) VALUES (99 * 16 + 5, 0, 0)"},
    {"accounts belong to what exists", "INSERT INTO accounts (row, posted, held) VALUES (16 + 15, 0, 0)"},
    {"grants and entries are of wallets", "UPDATE grants SET wallet = 18"},
    {"grants and entries are of wallets",
     "UPDATE grants SET wallet = 99 * 16 WHERE seq = (SELECT min(seq) FROM grants)"},
    {"grants and entries are of wallets", "UPDATE entries SET wallet = 16 + 7 WHERE kind = 0"},
    {"time runs forward between clock steps",
     "UPDATE usage SET created_ms = created_ms - 5000 WHERE seq = (SELECT max(seq) FROM usage)"},
    {"time runs forward between clock steps", "UPDATE grants SET created_ms = created_ms + 60000 WHERE wallet = 17"},
    {"time runs forward between clock steps", "UPDATE entries SET created_ms = created_ms - 60000 WHERE kind = 2"},
    {"events have numbers of their own",
     "UPDATE entries SET seq = (SELECT min(seq) FROM usage) WHERE seq = (SELECT max(seq) FROM entries)"},
    {"events have numbers of their own",
     "UPDATE usage SET seq = (SELECT min(seq) FROM grants) WHERE seq = (SELECT max(seq) FROM usage)"},
    {"transfers belong to an event", "INSERT INTO transfers VALUES (99999 * 4096, 0, 20, 21, 1, 0)"},
    {"transfers belong to an event", "DELETE FROM usage WHERE seq = (SELECT min(seq) FROM usage)"},
    {"transfers belong to an event", "DELETE FROM entries WHERE kind = 1"},
    {"transfers belong to an event", "UPDATE transfers SET number = number + 1 WHERE kind = 0"},
    {"transfers belong to an event", "DELETE FROM transfers WHERE number & 4095 = 0 AND kind = 1"},
    {"usage records equal their transfers", "UPDATE usage SET wholesale = wholesale + 1"},
    {"usage records equal their transfers", "UPDATE usage SET cost = cost + 1"},
    {"usage records equal their transfers",
     "UPDATE usage SET retail = coalesce(retail, wholesale) + 1 WHERE customer <> 0"},
    {"usage records equal their transfers", "DELETE FROM transfers WHERE kind = 2"},
    {"usage records equal their transfers", "UPDATE transfers SET amount = amount + 1 WHERE kind = 1"},
    {"usage records equal their transfers", "UPDATE transfers SET debit = 160 WHERE kind = 1"},
    {"usage records equal their transfers", "UPDATE transfers SET credit = 19 WHERE kind = 1"},
    {"usage records equal their transfers", "UPDATE transfers SET debit = 4 WHERE kind = 0"},
    {"usage records equal their transfers", "UPDATE transfers SET credit = 5 WHERE kind = 5"},
    {"usage records equal their transfers", "UPDATE transfers SET kind = 5, debit = 24 WHERE kind = 0"},
    {"usage records equal their transfers", "UPDATE transfers SET kind = 0, debit = 20 WHERE kind = 6"},
    {"usage records equal their transfers", "UPDATE transfers SET kind = 77 WHERE kind = 0"},
    {"usage records equal their transfers", "UPDATE transfers SET kind = -1 WHERE kind = 0"},
    {"usage records equal their transfers",
     "UPDATE transfers SET lot = (SELECT min(seq) FROM grants) WHERE kind IN (0, 6, 7)"},
    {"usage records equal their transfers", "UPDATE usage SET flags = flags & ~8 WHERE flags & 8"},
    {"usage records equal their transfers", "UPDATE usage SET flags = flags & ~32 WHERE flags & 32"},
    {"usage records equal their transfers", "UPDATE usage SET flags = flags & ~2048 WHERE flags & 2048"},
    {"usage records equal their transfers", "UPDATE usage SET flags = flags | 64"},
    {"grants equal their transfers", "UPDATE grants SET amount = amount + 1"},
    {"grants equal their transfers", "DELETE FROM transfers WHERE kind = 3"},
    {"grants equal their transfers", "UPDATE grants SET category = 1 - category"},
    {"grants equal their transfers", "UPDATE transfers SET lot = 0 WHERE kind = 3"},
    {"grants equal their transfers", "UPDATE transfers SET debit = 16 + 7 WHERE kind = 3 AND credit = 17"},
    {"entries equal their transfers", "UPDATE entries SET amount = amount + 1 WHERE kind = 0"},
    {"entries equal their transfers", "UPDATE entries SET amount = amount + 1 WHERE kind = 1"},
    {"entries equal their transfers", "UPDATE entries SET amount = amount + 1 WHERE kind = 2"},
    {"entries equal their transfers", "UPDATE entries SET amount = amount + 1 WHERE kind = 3"},
    {"entries equal their transfers", "UPDATE entries SET amount = amount + 1 WHERE kind = 4"},
    {"entries equal their transfers", "DELETE FROM transfers WHERE kind = 8"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 16 + 2 WHERE kind = 4"},
    {"entries equal their transfers", "UPDATE transfers SET kind = 10 WHERE kind = 4"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 16 + 7 WHERE kind = 9"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 16 + 11 WHERE kind = 10"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 17 WHERE kind = 8"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 16 + 9 WHERE kind = 11"},
    {"entries equal their transfers", "UPDATE transfers SET credit = 16 WHERE kind = 12"},
    {"entries equal their transfers", "UPDATE entries SET reference = 1 WHERE kind = 0"},
    {"entries equal their transfers", "UPDATE entries SET reference = 1 WHERE kind = 4"},
    {"entries equal their transfers", "UPDATE entries SET reference = (SELECT min(seq) FROM grants) WHERE kind = 2"},
    {"entries equal their transfers", "UPDATE entries SET wallet = 33 - wallet WHERE kind = 3"},
    {"entries equal their transfers", "UPDATE entries SET kind = 3 WHERE kind = 2"},
    {"entries equal their transfers", "UPDATE grants SET status = 1 WHERE status = 2"},
    {"entries equal their transfers", "UPDATE grants SET status = 0 WHERE status = 1"},
    {"lots are used by their wallets and within what they have", "UPDATE transfers SET lot = 99999 WHERE kind = 1"},
    {"lots are used by their wallets and within what they have",
     "UPDATE transfers SET lot = (SELECT max(seq) FROM grants) WHERE kind = 1 AND lot <> 0"},
    {"lots are used by their wallets and within what they have",
     "UPDATE transfers SET lot = (SELECT min(seq) FROM grants WHERE wallet = 17) WHERE kind = 4"},
    {"lots are used by their wallets and within what they have", "UPDATE transfers SET lot = 0 WHERE kind = 8"},
    {"lots are used by their wallets and within what they have", "UPDATE transfers SET lot = 0 WHERE kind IN (9, 10)"},
    {"lots are used by their wallets and within what they have",
     "UPDATE transfers SET amount = amount + 1000000000000 WHERE kind = 1 AND lot <> 0"},
    {"lots are used by their wallets and within what they have",
     "UPDATE transfers SET amount = amount + 1000000000000 WHERE kind = 11 AND lot <> 0"},
    {"lots are used by their wallets and within what they have", /* an adjustment of a lot that had lapsed */
     "UPDATE transfers SET lot = (SELECT max(seq) FROM grants WHERE status = 1 AND wallet = 16) WHERE kind = 4"},
    {"lots are used by their wallets and within what they have",
     "UPDATE grants SET expires_at = 1000 WHERE seq IN (SELECT lot FROM transfers WHERE kind = 4)"},
    {"what remains of grants is what transfers left",
     "UPDATE grants SET remaining = remaining - 1 WHERE remaining > 0"},
    {"what remains of grants is what transfers left", "UPDATE transfers SET lot = 0 WHERE kind = 1"},
    {"what remains of grants is what transfers left", "UPDATE transfers SET lot = 0 WHERE kind = 11"},
    {"what remains of grants is what transfers left", "UPDATE transfers SET lot = 0 WHERE kind = 4"},
    {"grants lapse when their time has come", "UPDATE grants SET expires_at = 1000 WHERE status = 0 AND remaining > 0"},
    {"refunds are within the charge", "UPDATE usage SET refunded = wholesale + coalesce(retail, 0) + 1"},
    {"refunds are within the charge", "UPDATE usage SET refunded = refunded + 1 WHERE refunded > 0"},
    {"refunds are within the charge", "UPDATE usage SET refunded = 0"},
    {"refunds are within the charge", "UPDATE usage SET refunded = 1 WHERE refunded = 0"},
    {"refunds are within the charge", "UPDATE usage SET refunded = -refunded"},
    {"refunds are within the charge", "UPDATE entries SET reference = 99999 WHERE kind = 1"},
    {"refunds are within the charge", /* of a record that knows nothing of it */
     "UPDATE entries SET reference = (SELECT min(seq) FROM usage WHERE refunded = 0) WHERE kind = 1"},
    {"refunds are within the charge", /* the tenant's share alone */
     "UPDATE entries SET amount = amount + 1 WHERE kind = 1 AND wallet = 16;"
     "UPDATE transfers SET amount = amount + 1 WHERE number = (SELECT max(number) FROM transfers WHERE kind = 11 AND"
     " credit = 16)"},
    {"refunds are within the charge", "DELETE FROM entries WHERE kind = 1 AND wallet = 17"},
    {"refunds are within the charge", /* another lot than the one that had paid */
     "UPDATE transfers SET lot = lot + 1 WHERE kind = 11 AND lot <> 0"},
    {"refunds are within the charge", /* what was owed is forgiven first */
     "UPDATE transfers SET kind = 11, credit = credit - 9 WHERE kind = 12"},
    {"the chain covers every transfer", "UPDATE transfers SET amount = amount + 1 WHERE kind = 0"},
    {"the chain covers every transfer", "UPDATE transfers SET lot = lot + 1 WHERE kind = 1"},
    {"the chain covers every transfer", "UPDATE transfers SET debit = debit + 16 WHERE kind = 3"},
    {"the chain covers every transfer", "UPDATE transfers SET kind = 0 WHERE kind = 1"},
    {"the chain covers every transfer", "DELETE FROM transfers WHERE number = (SELECT min(number) FROM transfers)"},
    {"the chain covers every transfer", "DELETE FROM transfers WHERE number = (SELECT max(number) FROM transfers)"},
    {"the chain covers every transfer", /* an event that never was */
     "DELETE FROM transfers WHERE number >> 12 = (SELECT min(seq) FROM usage)"},
    {"the chain covers every transfer", "INSERT INTO transfers VALUES (99999 * 4096, 0, 20, 21, 1, 0)"},
    {"the chain covers every transfer", "UPDATE chain SET hash = zeroblob(32)"},
    {"the chain covers every transfer", "UPDATE chain SET hash = randomblob(32) WHERE place = -1"},
    {"the chain covers every transfer", "UPDATE chain SET last = last + 1 WHERE place = 0"},
    {"the chain covers every transfer", "UPDATE chain SET last = 99999 WHERE place = -1"},
    {"the chain covers every transfer", "UPDATE chain SET place = 1 WHERE place = 0"},
    {"the chain covers every transfer", "DELETE FROM chain WHERE place = -1"},
    {"the chain covers every transfer", "DELETE FROM chain WHERE place = 0"},
    {"the chain covers every transfer", "DELETE FROM chain"},
    {"the chain covers every transfer", "INSERT INTO chain VALUES (1, 99999 * 4096, zeroblob(32))"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET used = used + 1 WHERE owner & 3 = 0"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET used = used + 1 WHERE owner & 3 = 1"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET used = used + 1 WHERE owner & 3 = 2"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET owner = 99 * 4 WHERE owner & 3 = 0"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET owner = owner | 3 WHERE owner & 3 = 1"},
    {"budgets have what the usage records say", "UPDATE budget_cells SET end = begin"},
    {"budgets have what the usage records say",
     "UPDATE budget_cells SET begin = 1 + (SELECT max(created_ms) FROM usage) * 1000"
     " WHERE window = 0"},
    {"budgets have what the usage records say",
     "DELETE FROM usage WHERE seq = (SELECT max(seq) FROM usage WHERE wholesale > 0)"},
};

struct seen {
    const char *wanted;
    bool found, violated;
    int lines, told, last; /* lines; words about progress, and how far the last one was */
    char detail[256];      /* of the invariant wanted */
};

static void note(void *ctx, const char *invariant, bool ok, int64_t checked, const char *detail)
{
    struct seen *seen = ctx;

    assert_true(checked >= 0);
    seen->lines++;
    if (seen->wanted != NULL && strcmp(invariant, seen->wanted) == 0) {
        seen->found = true;
        seen->violated = !ok;
        (void)snprintf(seen->detail, sizeof(seen->detail), "%s", detail);
        assert_true(ok || detail[0] != '\0');
    }
}

static void note_progress(void *ctx, const char *what, int permille)
{
    struct seen *seen = ctx;

    assert_true(what[0] != '\0' && permille >= seen->last && permille <= 1000);
    seen->last = permille;
    seen->told++;
}

/* ---- a history in which everything happens ---- */

static char *text(const char *literal)
{
    char *copy = mem_alloc(strlen(literal) + 1);

    return strcpy(copy, literal);
}

static void make_owners(struct world *w)
{
    struct tenant *t = world_tenant("Tenant");
    struct customer *c;
    struct api_key *k;
    struct record *r;

    t->credit_limit = 5 * USD;
    t->budgets =
        text("[{\"amount\":\"10000\",\"window\":\"day\"},{\"amount\":\"10000\",\"window\":\"rolling:3600s\"}]");
    assert_int_equal(world_put(w, t, &r, NULL), ERR_OK);
    w->tenant = r->row;
    c = world_customer(w, "Customer", true);
    c->credit_limit = USD;
    c->budgets = text("[{\"amount\":\"10000\",\"window\":\"month\"}]");
    assert_int_equal(world_put(w, c, &r, NULL), ERR_OK);
    w->customer = r->row;
    k = world_key(w, "key", 0);
    k->budgets = text("[{\"amount\":\"10000\",\"window\":\"lifetime\"}]");
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    w->key = r->row;
    k = world_key(w, "customer key", w->customer);
    k->budgets = text("[{\"amount\":\"10000\",\"window\":\"week\"}]");
    assert_int_equal(world_put(w, k, &r, NULL), ERR_OK);
    w->customer_key = r->row;
    assert_int_equal(world_put(w, world_channel("Channel", "sk-upstream"), &r, NULL), ERR_OK);
    w->channel = r->row;
    (void)world_put(w, world_tenant(""), NULL, NULL); /* lets go of the last record */
}

/* Returns the grant's seq. */
static int64_t credit(struct world *w, bool customer, int64_t amount, enum credit_category category, int priority,
                      int64_t expires_at)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .customer_row = customer ? w->customer : 0,
                              .amount = amount,
                              .category = category,
                              .priority = priority,
                              .expires_at = expires_at,
                              .note = "a note"};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
    return sql_number(w->url, "SELECT max(seq) FROM grants");
}

static struct id hold(struct world *w, int64_t wholesale, int64_t retail)
{
    struct id id;

    assert_int_equal(world_hold(w, wholesale, retail, &id), ERR_OK);
    return id;
}

/* Returns the record's seq. */
static int64_t charge(struct world *w, int64_t held, int64_t wholesale, int64_t retail)
{
    struct id id = hold(w, held, retail >= 0 ? held : -1);

    assert_int_equal(world_capture(w, id, wholesale / 2 + 1, wholesale, retail), ERR_OK);
    return sql_number(w->url, "SELECT max(seq) FROM usage");
}

static void refund(struct world *w, int64_t seq, int64_t amount, bool retail_only)
{
    struct store_refund op = {
        .super = {.kind = STORE_REFUND}, .seq = seq, .amount = amount, .retail_only = retail_only, .reason = "blurred"};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static void withdraw(struct world *w, int64_t seq)
{
    struct store_withdraw op = {.super = {.kind = STORE_WITHDRAW}, .seq = seq};

    assert_int_equal(world_do(w, &op.super), ERR_OK);
}

static void keep_in_doubt(struct world *w, const char *key, int64_t wholesale, int64_t retail)
{
    struct store_hold op;

    world_hold_init(w, &op, wholesale, retail);
    world_hold_key(&op, key, 2);
    op.rule = IN_DOUBT_KEEP;
    assert_int_equal(world_do(w, &op.super), ERR_OK);
    assert_int_equal(world_doubt(w, op.id), ERR_OK);
}

static void use_keys(struct world *w)
{
    struct store_hold op;

    for (int i = 0; i < 3; i++) {
        world_hold_init(w, &op, 2 * USD, i == 1 ? USD : -1);
        world_hold_key(&op, &"aaa"[i], 1); /* three keys */
        assert_int_equal(world_do(w, &op.super), ERR_OK);
        assert_int_equal(world_capture(w, op.id, USD / 2, USD, i == 1 ? USD : -1), ERR_OK);
    }
}

/* Lots that end while holds keep some of them, which is then charged, given back, or kept on. */
static void end_lots(struct world *w)
{
    int64_t now = clock_wall(), lapsing, withdrawn;
    struct id charged, voided, customers;

    lapsing = credit(w, false, 3 * USD, CREDIT_PROMOTIONAL, 0, now + 400000);
    withdrawn = credit(w, false, 4 * USD, CREDIT_PAID, 0, 0);
    (void)credit(w, true, 2 * USD, CREDIT_PROMOTIONAL, 0, now + 400000);
    charged = hold(w, 2 * USD, -1);
    voided = hold(w, 2 * USD, -1); /* the other dollar of the first lot, one of the second */
    keep_in_doubt(w, "kept", USD, -1);
    customers = hold(w, 1, USD);
    withdraw(w, withdrawn);
    usleep(500 * 1000);
    assert_int_equal(world_capture(w, charged, 1, USD, -1), ERR_OK);
    assert_int_equal(world_void(w, voided), ERR_OK);
    assert_int_equal(world_void(w, customers), ERR_OK);
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM entries WHERE kind = 3"), 3);
    assert_true(sql_number(w->url, "SELECT count(*) FROM entries WHERE kind = 2") >= 3);
    refund(w, sql_number(w->url, "SELECT max(seq) FROM usage"), USD / 2, false); /* comes back and leaves at once */
    assert_int_equal(sql_number(w->url, "SELECT max(remaining) FROM grants WHERE status = 1"), 0);
    (void)lapsing;
}

static void give_back(struct world *w)
{
    int64_t plain, both;

    plain = charge(w, 3 * USD, 3 * USD, -1);
    refund(w, plain, USD / 3, false);
    refund(w, plain, 0, false);
    both = charge(w, USD, USD, USD + 7);
    refund(w, both, USD / 7, false);
    refund(w, both, USD / 11, true);
    refund(w, both, USD / 13, false);
    both = charge(w, USD, USD, 40 * USD); /* far beyond the customer's wallet */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM transfers WHERE kind = 7"), 1);
    refund(w, both, 30 * USD, false);
    refund(w, both, 5 * USD, false);
}

static void make_history(struct world *w)
{
    struct id id;

    make_owners(w);
    (void)charge(w, 2 * USD, 2 * USD, -1); /* on the credit line */
    (void)credit(w, false, 10 * USD, CREDIT_PAID, 10, 0);
    (void)credit(w, true, 5 * USD, CREDIT_PAID, 0, 0);
    (void)credit(w, false, USD, CREDIT_PROMOTIONAL, 5, 0);
    use_keys(w);
    end_lots(w);
    give_back(w);
    (void)credit(w, true, 20 * USD, CREDIT_PAID, 0, 0);
    assert_int_equal(world_credit(w, false, -2 * USD), ERR_OK);
    assert_int_equal(world_credit(w, false, 30 * USD), ERR_OK);
    id = hold(w, USD, -1);
    assert_int_equal(world_doubt(w, id), ERR_OK);
    (void)charge(w, USD, 60 * USD, -1); /* far beyond the tenant's wallet */
    assert_int_equal(sql_number(w->url, "SELECT count(*) FROM transfers WHERE kind = 6"), 1);
    (void)credit(w, false, USD, CREDIT_PAID, 50, 0);
    (void)credit(w, false, 6 * USD, CREDIT_PAID, 50, 0);
    (void)credit(w, false, USD, CREDIT_PAID, 50, clock_wall() + 3600 * CLOCK_SECOND);
    keep_in_doubt(w, "two lots", 2 * USD, USD);
    (void)hold(w, USD, -1); /* left open */
    world_close(w);
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1024 * 1024];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

static void finds_every_damage(void **state)
{
    struct seen seen = {.wanted = NULL};
    struct world w;
    char good[128], bad[128], url[160];
    int failed = 0;
    struct err err;

    (void)state;
    world_init(&w);
    world_open(&w);
    make_history(&w);
    (void)snprintf(good, sizeof(good), "%s/t.db", w.dir);
    (void)snprintf(bad, sizeof(bad), "%s/bad.db", w.dir);
    (void)snprintf(url, sizeof(url), "sqlite:%s", bad);
    assert_int_equal(world_fsck(&w), 0);
    assert_int_equal(store_fsck(w.url, note, note_progress, &seen, &err), 0);
    assert_true(seen.lines >= 30 && seen.told >= seen.lines / 2 && seen.last == 1000);
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        copy_file(good, bad);
        sql_exec(url, damages[i].sql);
        seen = (struct seen){.wanted = damages[i].invariant};
        if (store_fsck(url, note, NULL, &seen, &err) < 1 || !seen.found || !seen.violated)
            failed += fprintf(stderr, "\"%s\" was not found by: %s\n", damages[i].sql, damages[i].invariant) > 0;
        sql_exec(url, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
    assert_int_equal(failed, 0);
    world_dispose(&w);
}

/* A page overwritten: told, not believed. */
static void finds_damaged_files(void **state)
{
    struct seen seen = {.wanted = "the file is whole"};
    struct world w;
    char path[128], page[4096];
    struct err err;
    int64_t root;
    int fd;

    (void)state;
    world_init(&w);
    world_open(&w);
    make_history(&w);
    (void)snprintf(path, sizeof(path), "%s/t.db", w.dir);
    root = sql_number(w.url, "SELECT rootpage FROM sqlite_schema WHERE name = 'usage'");
    memset(page, 0xa5, sizeof(page));
    fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, page, sizeof(page), (root - 1) * 4096), (ssize_t)sizeof(page));
    close(fd);
    assert_int_equal(store_fsck(w.url, note, NULL, &seen, &err), 1);
    assert_true(seen.violated);
    world_dispose(&w);
}

/* ---- many events ---- */

struct captures {
    struct store_hold *holds;
    struct store_capture *captures;
    int n;
};

static int delivered;

static void deliver(struct mail *mail)
{
    struct store_op *op = TG_CONTAINER(struct store_op, mail, mail);

    assert_int_equal(op->err.code, ERR_OK);
    delivered++;
}

static void submit(struct world *w, struct store_op *op)
{
    op->mail.deliver = deliver;
    op->reply_to = &w->box.super;
    store_submit(w->store, op);
}

static void await(struct world *w, int n)
{
    while (delivered < n)
        box_run(&w->box);
    delivered = 0;
}

/* Holds and captures without waiting for one another: most share a transaction with many. */
static void submit_many(struct world *w, struct captures *c, int n)
{
    c->n = n;
    c->holds = mem_zalloc((size_t)n * sizeof(c->holds[0]));
    c->captures = mem_zalloc((size_t)n * sizeof(c->captures[0]));
    for (int i = 0; i < n; i++) {
        world_hold_init(w, &c->holds[i], 1000, -1);
        submit(w, &c->holds[i].super);
        world_capture_init(&c->captures[i], c->holds[i].id, 10, 1 + i % 1000, -1);
        submit(w, &c->captures[i].super);
    }
}

static void await_many(struct world *w, struct captures *c)
{
    await(w, 2 * c->n);
    free(c->holds);
    free(c->captures);
}

static void assert_found(const char *url, const char *sql, const char *invariant, const char *what)
{
    struct seen seen = {.wanted = invariant};
    struct err err;

    sql_exec(url, sql);
    if (store_fsck(url, note, NULL, &seen, &err) < 0)
        fail_msg("%s: %s", sql, err.message);
    assert_true(seen.found && seen.violated);
    if (strstr(seen.detail, what) == NULL)
        fail_msg("%s: %s", sql, seen.detail);
    sql_exec(url, "PRAGMA wal_checkpoint(TRUNCATE)");
}

/* In a chain of several links, the one that does not fit is named. */
static void names_the_link(void **state)
{
    char good[128], bad[128], url[160];
    struct captures c;
    struct world w;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 100 * USD, 0);
    submit_many(&w, &c, 9000);
    await_many(&w, &c);
    world_close(&w);
    assert_int_equal(sql_number(w.url, "SELECT count(*) FROM chain"), 4);
    assert_int_equal(sql_number(w.url, "SELECT max(place) FROM chain"), 2);
    assert_int_equal(world_fsck(&w), 0);
    (void)snprintf(good, sizeof(good), "%s/t.db", w.dir);
    (void)snprintf(bad, sizeof(bad), "%s/bad.db", w.dir);
    (void)snprintf(url, sizeof(url), "sqlite:%s", bad);
    copy_file(good, bad);
    assert_found(url, "UPDATE transfers SET amount = amount + 1 WHERE number >> 12 = 5000",
                 "the chain covers every transfer", "link 1, ");
    copy_file(good, bad);
    assert_found(url, "DELETE FROM transfers WHERE number >> 12 = 5000", "the chain covers every transfer", "link 1, ");
    copy_file(good, bad);
    assert_found(url, "DELETE FROM chain WHERE place = 1", "the chain covers every transfer", "link 1 is missing");
    copy_file(good, bad);
    assert_found(url, "DELETE FROM chain WHERE place = 2", "the chain covers every transfer", "is not in it");
    world_dispose(&w);
}

static void beside_a_running_store(void **state)
{
    struct captures c;
    struct world w;
    struct id id;

    (void)state;
    world_init(&w);
    world_open(&w);
    world_fill(&w, 100 * USD, 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(world_hold(&w, USD, -1, &id), ERR_OK);
        assert_int_equal(world_fsck(&w), 0); /* with a hold open */
        assert_int_equal(world_capture(&w, id, 1, 2, -1), ERR_OK);
    }
    submit_many(&w, &c, 20000);
    for (int i = 0; i < 10; i++)
        assert_int_equal(world_fsck(&w), 0); /* while it writes */
    await_many(&w, &c);
    assert_true(store_healthy(w.store));
    world_close(&w);
    assert_int_equal(world_fsck(&w), 0);
    world_dispose(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_every_damage),
        cmocka_unit_test(finds_damaged_files),
        cmocka_unit_test(names_the_link),
        cmocka_unit_test(beside_a_running_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
