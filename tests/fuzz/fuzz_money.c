/* fuzz_money.c - what money_parse accepts is what a slow, plain reading of the digits in 128 bits gives, and printing
 * it and reading it again gives the same number; times and ids that are accepted survive the same round.
 *
 * The first byte of the input chooses the decimals; the rest is the text. */
#include <stdint.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/id.h"
#include "daemon/base/money.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The grammar of money.h again, written another way. */
static bool model(struct slice s, int digits, __int128 *out)
{
    bool minus = s.len > 0 && s.p[0] == '-', point = false;
    size_t i = minus, whole = 0, part = 0;
    __int128 value = 0;

    for (; i < s.len; i++) {
        char c = s.p[i];

        if (c == '.' && !point && whole > 0) {
            point = true;
            continue;
        }
        if (c < '0' || c > '9' || s.len > 30)
            return false;
        if (!point && ++whole == 2 && value == 0)
            return false;
        part += point;
        value = value * 10 + (c - '0');
    }
    if (whole == 0 || (point && part == 0) || part > (size_t)digits)
        return false;
    for (; part < (size_t)digits; part++)
        value *= 10;
    *out = minus ? -value : value;
    return *out >= INT64_MIN && *out <= INT64_MAX;
}

static void check_money(struct slice text, int digits)
{
    char out[MONEY_TEXT];
    struct err err = {0};
    __int128 expected = 0;
    int64_t value = 0, again = 0;
    enum err_code code = money_parse(text, digits, "amount", &value, &err);

    TG_ASSERT((code == ERR_OK) == model(text, digits, &expected));
    if (code != ERR_OK) {
        TG_ASSERT(err.message[0] != '\0');
        return;
    }
    TG_ASSERT(value == expected);
    money_format_scaled(value, digits, out);
    code = money_parse(slice_from(out), digits, NULL, &again, NULL);
    TG_ASSERT(code == ERR_OK && again == value);
    money_format_nano(value, out);
    code = money_parse(slice_from(out), MONEY_NANO_DIGITS, NULL, &again, NULL);
    TG_ASSERT(code == ERR_OK && again == value);
}

static void check_clock(struct slice text)
{
    char out[CLOCK_TEXT];
    int64_t wall, again;

    if (!clock_parse(text, &wall))
        return;
    TG_ASSERT(wall >= 0 && clock_parse(slice_from(clock_format(wall, out)), &again) && again == wall);
}

static void check_id(struct slice text)
{
    char out[ID_TEXT];
    struct id id;

    if (id_parse("ten", text, &id))
        TG_ASSERT(slice_eq_str(text, id_format("ten", id, out)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text;

    if (size == 0)
        return 0;
    text = (struct slice){(const char *)data + 1, size - 1};
    check_money(text, data[0] % 19);
    check_clock(text);
    check_id(text);
    return 0;
}
