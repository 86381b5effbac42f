/* lib_trade.h - business in a world over some days of a set clock: calls of the tenant's and the customer's keys, in
 * every way that they can end, grants that lapse, adjustments, withdrawals, refunds. The clock is left an hour behind
 * the end. */
#ifndef TG_TESTS_LIB_TRADE_H
#define TG_TESTS_LIB_TRADE_H

#include "lib_dice.h"
#include "lib_world.h"

#define TRADE_DAY (24 * 3600 * INT64_C(1000000))

static inline int64_t below(struct dice *dice, int64_t n)
{
    return (int64_t)dice_below(dice, (size_t)n);
}

/* <calls> calls and about a quarter as much of the rest, evenly over [from, from + days). Calls with an Idempotency-Key
 * among them. */
void trade(struct world *w, struct dice *dice, int64_t from, int days, int calls);

/* Waits until the sums of the days before <until> are folded: then they can be pruned. */
void trade_fold(struct world *w, int64_t until);

/* All records that match, newest first, by pages; the caller frees them. */
struct usage_record *trade_records(struct world *w, const struct store_filter *filter, int *n);

/* The whole ledger of a wallet, newest first; the caller frees it. */
struct store_transfer *trade_ledger(struct world *w, bool customer, int *n);

enum err_code trade_refund(struct world *w, int64_t seq, int64_t amount);

#endif
