/* money.c - decimal text to scaled integers and back.
 *
 * Numbers are gathered as negatives while they are read, since int64_t reaches one further down than up; so every
 * value that can be stored can also be read and written. No floating point. Any thread. */
#include "money.h"

enum { SHOWN = 40 }; /* bytes of a bad amount that its error message repeats */

static bool push_digit(int64_t *negative, char c)
{
    int64_t digit = c - '0';

    return !__builtin_mul_overflow(*negative, INT64_C(10), negative) &&
           !__builtin_sub_overflow(*negative, digit, negative);
}

static bool all_digits(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    }
    return s.len > 0;
}

/* The form alone: digits without leading zeros, then at most <digits> decimals when there is a point. */
static bool split_decimal(struct slice text, int digits, struct slice *whole, struct slice *part)
{
    bool point = slice_cut(text, '.', whole, part);

    if (!all_digits(*whole) || (whole->len > 1 && whole->p[0] == '0'))
        return false;
    return !point || (all_digits(*part) && part->len <= (size_t)digits);
}

static bool scale(struct slice whole, struct slice part, int digits, int64_t *negative)
{
    *negative = 0;
    for (size_t i = 0; i < whole.len; i++) {
        if (!push_digit(negative, whole.p[i]))
            return false;
    }
    for (size_t i = 0; i < (size_t)digits; i++) {
        if (!push_digit(negative, i < part.len ? part.p[i] : '0'))
            return false;
    }
    return true;
}

static enum err_code bad_form(struct slice text, int digits, const char *param, struct err *err)
{
    int shown = text.len < SHOWN ? (int)text.len : SHOWN;

    return err_set(
        err, ERR_INVALID_VALUE, param,
        "Invalid value for '%s': expected a decimal number with at most %d decimals, but got '%.*s' instead.",
        param != NULL ? param : "amount", digits, shown, shown > 0 ? text.p : "");
}

enum err_code money_parse(struct slice text, int digits, const char *param, int64_t *out, struct err *err)
{
    bool minus = text.len > 0 && text.p[0] == '-';
    struct slice number = minus ? (struct slice){text.p + 1, text.len - 1} : text;
    struct slice whole, part;
    int64_t value;

    TG_ASSERT(digits >= 0 && digits <= 18);
    if (!split_decimal(number, digits, &whole, &part))
        return bad_form(text, digits, param, err);
    if (!scale(whole, part, digits, &value) || (!minus && __builtin_sub_overflow(INT64_C(0), value, &value)))
        return err_set(err, ERR_INVALID_VALUE, param, "Invalid value for '%s': the number is out of range.",
                       param != NULL ? param : "amount");
    *out = value;
    return ERR_OK;
}

/* The magnitude of INT64_MIN does not fit in int64_t. */
static uint64_t magnitude(int64_t value)
{
    return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

/* Writes the digits of a magnitude from right to left, a point before the last <digits>; returns where they begin.
 * With <short_form> zeros at the end of the decimals, and then the point, are left out. */
static char *write_back(char *at, uint64_t size, int digits, bool short_form)
{
    bool skipping = short_form;

    for (int i = 0; i < digits; i++, size /= 10) {
        skipping = skipping && size % 10 == 0;
        if (!skipping)
            *--at = (char)('0' + size % 10);
    }
    if (digits > 0 && !skipping)
        *--at = '.';
    do {
        *--at = (char)('0' + size % 10);
        size /= 10;
    } while (size > 0);
    return at;
}

static const char *format(int64_t value, int digits, bool short_form, char out[MONEY_TEXT])
{
    char *at = out + MONEY_TEXT - 1;

    TG_ASSERT(digits >= 0 && digits <= 18);
    *at = '\0';
    at = write_back(at, magnitude(value), digits, short_form);
    if (value < 0)
        *--at = '-';
    memmove(out, at, strlen(at) + 1);
    return out;
}

const char *money_format_nano(int64_t nano, char out[MONEY_TEXT])
{
    return format(nano, MONEY_NANO_DIGITS, false, out);
}

const char *money_format_scaled(int64_t value, int digits, char out[MONEY_TEXT])
{
    return format(value, digits, true, out);
}

bool money_add(int64_t a, int64_t b, int64_t *out)
{
    int64_t sum;

    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}
