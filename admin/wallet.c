/* wallet.c - what the money of a tenant or customer does: balance, chart of accounts, transfers.
 *
 * The routes are the same for both. A customer whose wallet is shared pays from its tenant's and has no balance; what
 * it had while its wallet was its own is still listed. Loop's thread. */
#include "page.h"
#include "render.h"
#include "house.h"

struct wallet wallet_from(const struct admin_call *call, const struct record *record)
{
    const struct customer *customer = (const struct customer *)record;

    if (record->kind == RECORD_TENANT)
        return (struct wallet){.tenant_row = record->row, .tenant = record->id, .own = true};
    TG_ASSERT(record->kind == RECORD_CUSTOMER);
    return (struct wallet){.tenant_row = customer->tenant_row,
                           .customer_row = record->row,
                           .tenant = catalog_id(call->catalog, RECORD_TENANT, customer->tenant_row),
                           .customer = record->id,
                           .own = customer->own_wallet};
}

void wallet_render_balance(struct buf *out, const struct store_balance *b)
{
    render_nano(out, "posted", b->posted);
    render_nano(out, "held", b->held);
    render_nano(out, "available", b->posted - b->held + b->credit_limit);
    render_nano(out, "receivable", b->receivable);
}

void wallet_render_owner(struct buf *out, const struct wallet *wallet)
{
    render_id(out, "tenant", "ten", wallet->tenant);
    render_id(out, "customer", "cus", wallet->customer);
}

/* ---- balance ---- */

static void reply_balance(struct admin_call *call)
{
    const struct store_balance_query *query = &call->op.balance;
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_open(&out, NULL, '{');
    render_text(&out, "object", SLICE("balance"));
    wallet_render_owner(&out, &call->wallet);
    render_time(&out, "at", query->at != 0 ? query->at : clock_wall());
    wallet_render_balance(&out, &query->balance);
    render_nano(&out, "credit_limit", query->balance.credit_limit);
    render_close(&out, '}');
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

static enum err_code read_at(const struct admin_call *call, int64_t *at, struct err *err)
{
    char text[CLOCK_TEXT * 2];
    const struct page_field field = {"at", text, sizeof(text)};
    enum err_code code = page_read(front_call_query(call->front), "", &field, 1, NULL, err);

    *at = 0;
    if (code != ERR_OK || text[0] == '\0')
        return code;
    if (!clock_parse(slice_from(text), at))
        return err_set(err, ERR_INVALID_VALUE, "at", "Invalid value for 'at': expected a time, but got '%s' instead.",
                       text);
    *at = *at > 0 ? *at : 1; /* 0 means now, to the store */
    return ERR_OK;
}

static void ask_balance(struct admin_call *call, const struct record *record)
{
    int64_t at;
    struct err err;
    enum err_code code = read_at(call, &at, &err);

    call->wallet = wallet_from(call, record);
    if (code == ERR_OK && !call->wallet.own)
        code = err_set(&err, ERR_CONFLICT, NULL,
                       "The customer has no balance: it pays from its tenant's wallet (wallet: shared).");
    if (code != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_BALANCE);
    call->op.balance.tenant_row = call->wallet.tenant_row;
    call->op.balance.customer_row = call->wallet.customer_row;
    call->op.balance.at = at;
    admin_submit(call, reply_balance);
}

void wallet_balance(struct admin_call *call)
{
    noun_fetch(call, ask_balance);
}

/* ---- accounts ---- */

/* What the platform's upstream calls cost is not a tenant's to know. */
static bool is_hidden(const struct admin_call *call, const char *account)
{
    return call->who.tenant_row != 0 && (strcmp(account, "cost") == 0 || strcmp(account, "loss") == 0);
}

static void reply_accounts(struct admin_call *call)
{
    const struct store_accounts_query *query = &call->op.accounts;
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++) {
        if (is_hidden(call, query->items[i].name))
            continue;
        render_open(&out, NULL, '{');
        render_text(&out, "object", SLICE("account"));
        render_text(&out, "name", slice_from(query->items[i].name));
        render_nano(&out, "posted", query->items[i].posted);
        render_nano(&out, "held", query->items[i].held);
        render_close(&out, '}');
    }
    render_list_close(&out, false, NULL);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

static void ask_accounts(struct admin_call *call, const struct record *record)
{
    struct err err;

    call->wallet = wallet_from(call, record);
    if (page_read(front_call_query(call->front), "", NULL, 0, NULL, &err) != ERR_OK) {
        admin_fail(call, &err);
        return;
    }
    admin_begin(call, OP_ACCOUNTS);
    call->op.accounts.tenant_row = call->wallet.tenant_row;
    call->op.accounts.customer_row = call->wallet.customer_row;
    admin_submit(call, reply_accounts);
}

void wallet_accounts(struct admin_call *call)
{
    noun_fetch(call, ask_accounts);
}

/* ---- ledger ---- */

/* What a transfer is about: the usage record, else the grant that came or went. */
static void render_reference(const struct store_transfer *t, struct buf *out)
{
    static const char *const of_grants[] = {"credit", "lapse", "withdrawal"};

    if (!id_is_zero(t->usage)) {
        render_id(out, "reference", "use", t->usage);
        return;
    }
    for (size_t i = 0; i < sizeof(of_grants) / sizeof(of_grants[0]); i++) {
        if (strcmp(t->kind, of_grants[i]) == 0) {
            render_id(out, "reference", "grt", t->grant);
            return;
        }
    }
    render_null(out, "reference");
}

static void render_transfer(const struct store_transfer *t, struct buf *out)
{
    render_open(out, NULL, '{');
    render_id(out, "id", "txn", id_from_seq(t->created_at, t->number));
    render_text(out, "object", SLICE("transaction"));
    render_time(out, "created_at", t->created_at);
    render_text(out, "kind", slice_from(t->kind));
    render_nano(out, "amount", t->amount);
    render_reference(t, out);
    render_id(out, "grant", "grt", t->grant);
    render_id(out, "request_id", "req", t->request);
    render_text_or_null(out, "note", t->note);
    render_close(out, '}');
}

static void reply_ledger(struct admin_call *call)
{
    const struct store_ledger_query *query = &call->op.question->of.ledger;
    char next[ID_TEXT] = "";
    struct buf out;

    buf_init(&out, ADMIN_REPLY);
    render_list_open(&out);
    for (int i = 0; i < query->n; i++)
        render_transfer(&query->items[i], &out);
    if (query->n > 0) {
        const struct store_transfer *last = &query->items[query->n - 1];

        (void)id_format("txn", id_from_seq(last->created_at, last->number), next);
    }
    render_list_close(&out, query->more, next);
    admin_reply(call, 200, &out, 0);
    buf_dispose(&out);
}

bool wallet_read_page(struct admin_call *call, const struct record *record, const char *prefix, int *limit,
                      int64_t *after)
{
    struct page page;
    struct err err;

    *after = 0;
    call->wallet = wallet_from(call, record);
    if (page_read(front_call_query(call->front), prefix, NULL, 0, &page, &err) != ERR_OK ||
        page_seq(&page, after, &err) != ERR_OK) {
        admin_fail(call, &err);
        return false;
    }
    *limit = page.limit;
    return true;
}

static void ask_ledger(struct admin_call *call, const struct record *record)
{
    struct store_ledger_query *query;
    int64_t after;
    int limit;

    if (!wallet_read_page(call, record, "txn", &limit, &after))
        return;
    admin_begin(call, OP_LEDGER);
    query = &call->op.question->of.ledger;
    query->tenant_row = call->wallet.tenant_row;
    query->customer_row = call->wallet.customer_row;
    query->after = after;
    query->limit = limit;
    admin_submit(call, reply_ledger);
}

void wallet_ledger(struct admin_call *call)
{
    noun_fetch(call, ask_ledger);
}
