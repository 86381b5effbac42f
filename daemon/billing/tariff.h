/* tariff.h - reads price data: model cards and list prices, in the form that etc/prices/openai.ini explains.
 *
 * A tariff is large; keep it on the heap. No thread of its own, no state between calls. */
#ifndef TG_BILLING_TARIFF_H
#define TG_BILLING_TARIFF_H

#include <stdio.h>

#include "model.h"

enum { TARIFF_CARDS = 32, TARIFF_RATES = 512 };

struct tariff {
    size_t n_cards;
    size_t n_rates;
    struct model_card cards[TARIFF_CARDS]; /* as they stand in the data */
    struct price_rate rates[TARIFF_RATES]; /* likewise */
};

/* Reads <text>. Returns the number of faults; each is written to <faults> (NULL: nowhere) as "line N: key: what". With
 * faults the tariff is not fit for use. */
int tariff_read(struct slice text, struct tariff *out, FILE *faults);

/* The embedded data as a tariff of the caller's (free it); stops the process when the data is broken. */
struct tariff *tariff_load(void);

#endif
