/* lib_trade.c - see lib_trade.h. */
#include "lib_trade.h"

#include <unistd.h>

#include "daemon/base/clock.h"
#include "lib_sql.h"

static void call(struct world *w, struct dice *dice, int number)
{
    int64_t wholesale = 1000 + below(dice, 5000), retail = below(dice, 2) != 0 ? wholesale * 2 : -1;
    int64_t charge = below(dice, 4) == 0 ? wholesale * 3 : wholesale / (1 + below(dice, 3));
    static const char *const models[] = {"dall-e-2", "dall-e-3", "gpt-image-1"};
    struct store_hold hold;
    struct store_capture capture;
    char key[32];

    world_hold_init(w, &hold, wholesale, retail);
    strcpy(hold.call.model, models[below(dice, 3)]);
    hold.call.channel_row = below(dice, 5) != 0 ? w->channel : 0;
    (void)snprintf(key, sizeof(key), "order-%d", number);
    if (below(dice, 4) == 0)
        world_hold_key(&hold, key, number);
    if (below(dice, 10) == 0) {
        hold.call.test = true;
        hold.n_legs = 0;
    }
    if (world_do(w, &hold.super) != ERR_OK)
        return;
    switch (below(dice, 8)) {
    case 0:
        MUST(world_void(w, hold.id) == ERR_OK);
        return;
    case 1:
        MUST(world_doubt(w, hold.id) == ERR_OK);
        return;
    default:
        world_capture_init(&capture, hold.id, charge / 2, charge, retail >= 0 ? charge * 2 : -1);
        if (below(dice, 3) == 0)
            capture.usage.upstream_request_id[4] = 'X';
        MUST(world_do(w, &capture.super) == ERR_OK);
    }
}

static void credit(struct world *w, struct dice *dice)
{
    struct store_credit op = {.super = {.kind = STORE_CREDIT},
                              .tenant_row = w->tenant,
                              .customer_row = below(dice, 2) != 0 ? w->customer : 0,
                              .amount = below(dice, 4) == 0 ? -1 - below(dice, 3000) : 1 + below(dice, 40000),
                              .category = below(dice, 2) != 0 ? CREDIT_PROMOTIONAL : CREDIT_PAID,
                              .priority = below(dice, 3)};

    if (op.amount > 0 && below(dice, 2) == 0)
        op.expires_at = clock_wall() + TRADE_DAY / 4 + below(dice, 1000) * (TRADE_DAY / 500);
    if (world_do(w, &op.super) == ERR_OK && op.amount > 0 && below(dice, 6) == 0) {
        struct store_withdraw withdraw = {.super = {.kind = STORE_WITHDRAW}, .seq = id_seq(op.grant)};

        MUST(world_do(w, &withdraw.super) == ERR_OK);
    }
}

enum err_code trade_refund(struct world *w, int64_t seq, int64_t amount)
{
    struct store_refund op = {.super = {.kind = STORE_REFUND}, .seq = seq, .amount = amount, .reason = "why not"};

    return world_do(w, &op.super);
}

static void refund(struct world *w, struct dice *dice)
{
    static struct store_usage_query q;

    memset(&q, 0, sizeof(q));
    q.super.question = STORE_USAGE;
    q.limit = 20;
    world_ask(w, &q.super);
    MUST(q.super.err.code == ERR_OK);
    if (q.n > 0)
        (void)trade_refund(w, q.items[below(dice, q.n)].seq, below(dice, 3) * 300);
}

void trade(struct world *w, struct dice *dice, int64_t from, int days, int calls)
{
    int64_t step = days * TRADE_DAY / calls;

    for (int i = 0; i < calls; i++) {
        clock_freeze(from + i * step + below(dice, 1000) * (step / 1000), 0);
        call(w, dice, i);
        if (below(dice, 8) == 0)
            credit(w, dice);
        if (below(dice, 8) == 0)
            refund(w, dice);
    }
    clock_freeze(from + days * TRADE_DAY + 3600 * CLOCK_SECOND, 0);
}

void trade_fold(struct world *w, int64_t until)
{
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT quarter >= %lld FROM folded", (long long)(until / (900 * CLOCK_SECOND)));
    for (int i = 0; sql_number(w->url, sql) != 1; i++) {
        MUST(i < 10000);
        usleep(2000);
    }
}

struct usage_record *trade_records(struct world *w, const struct store_filter *filter, int *n)
{
    static struct store_usage_query q;
    struct usage_record *all = NULL;
    size_t cap = 0;

    *n = 0;
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_USAGE;
    q.limit = 7;
    if (filter != NULL)
        q.filter = *filter;
    do {
        if ((size_t)*n + STORE_PAGE > cap) {
            cap = (cap + STORE_PAGE) * 2;
            all = mem_realloc(all, cap * sizeof(all[0]));
        }
        world_ask(w, &q.super);
        MUST(q.super.err.code == ERR_OK);
        memcpy(all + *n, q.items, (size_t)q.n * sizeof(all[0]));
        *n += q.n;
        q.after_seq = *n > 0 ? all[*n - 1].seq : 0;
        q.limit = STORE_PAGE;
    } while (q.more);
    return all;
}

struct store_transfer *trade_ledger(struct world *w, bool customer, int *n)
{
    static struct store_ledger_query q;
    struct store_transfer *all = NULL;
    size_t cap = 0;

    *n = 0;
    memset(&q, 0, sizeof(q));
    q.super.question = STORE_LEDGER;
    q.tenant_row = w->tenant;
    q.customer_row = customer ? w->customer : 0;
    q.limit = STORE_PAGE;
    do {
        if ((size_t)*n + STORE_PAGE > cap) {
            cap = (cap + STORE_PAGE) * 2;
            all = mem_realloc(all, cap * sizeof(all[0]));
        }
        world_ask(w, &q.super);
        MUST(q.super.err.code == ERR_OK);
        memcpy(all + *n, q.items, (size_t)q.n * sizeof(all[0]));
        *n += q.n;
        q.after = *n > 0 ? all[*n - 1].number : 0;
    } while (q.more);
    return all;
}
