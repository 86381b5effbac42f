/* money.h - amounts as integers, decimal text in and out, no floating point anywhere.
 *
 * Balances and charges are int64_t nano-dollars (1e-9 USD); rates are int64_t pico-dollars (1e-12 USD) per unit.
 * Every overflow is reported, none wraps. */
#ifndef TG_BASE_MONEY_H
#define TG_BASE_MONEY_H

#include <stdint.h>

#include "err.h"
#include "slice.h"

enum {
    MONEY_NANO_DIGITS = 9,
    MONEY_PICO_DIGITS = 12,
    MONEY_PPM_DIGITS = 4, /* a percentage in parts per million: "12.5" -> 125000 */
    MONEY_TEXT = 32       /* bytes for any formatted amount, with the NUL */
};

/* Parses [-]digits[.digits] with at most <digits> decimals into an integer scaled by 10^digits. No exponent, no plus
 * sign, no blanks, no bare point, no leading zeros. On failure INVALID_VALUE naming <param>. */
TG_MUSTCHECK enum err_code money_parse(struct slice text, int digits, const char *param, int64_t *out, struct err *err);

/* "12.340000000": always 9 decimals. <out> has MONEY_TEXT bytes. Returns <out>. */
const char *money_format_nano(int64_t nano, char out[MONEY_TEXT]);

/* A scaled integer as a decimal without needless zeros ("12.5", "0", "-3"): for rates and percentages. */
const char *money_format_scaled(int64_t value, int digits, char out[MONEY_TEXT]);

/* Checked sum; false on overflow, *out untouched. */
TG_MUSTCHECK bool money_add(int64_t a, int64_t b, int64_t *out);

#endif
