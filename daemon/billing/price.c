/* price.c - versions of rates, the look-up of a rate, and the charge.
 *
 * Invariants
 *   1. A version never changes after price_version_create but for the fields its maker fills before sharing it.
 *   2. Rates are sorted by model, unit, and within a unit by how much they name; so the first that matches is the one.
 *   3. Money is summed in 128 bits and rounded once, up. Each product is below 2^126 and the sum is kept at or below
 *      SUM_MAX (below 2^93), so no step can overflow.
 *
 * Threads: any; versions are shared by reference count. */
#include <stdlib.h>

#include "price.h"

#include "daemon/base/money.h"

enum {
    PPM = 1000000,        /* the markup's unit */
    PICO_PER_NANO = 1000, /* rates to amounts */
    NAMES_OPERATION = 1,  /* weights of what a rate names */
    NAMES_SIZE = 2,
    NAMES_QUALITY = 4,
    NAMES_EACH = 8 /* of each, so that the number of names counts before their kind */
};

/* Pico-dollars times parts per million that still make an int64_t of nano-dollars. */
#define SUM_MAX ((__int128)INT64_MAX * PICO_PER_NANO * PPM)

static const char *const unit_names[PRICE_UNITS] = {
    [PRICE_IMAGE] = "image",
    [PRICE_REQUEST] = "request",
    [PRICE_TEXT_INPUT] = "text_input_token",
    [PRICE_CACHED_TEXT_INPUT] = "cached_text_input_token",
    [PRICE_IMAGE_INPUT] = "image_input_token",
    [PRICE_CACHED_IMAGE_INPUT] = "cached_image_input_token",
    [PRICE_IMAGE_OUTPUT] = "image_output_token",
    [PRICE_TEXT_OUTPUT] = "text_output_token",
};

/* The unit whose rate stands in for a missing one; a unit that is its own kin has none. */
static const enum price_unit kin[PRICE_UNITS] = {
    [PRICE_IMAGE] = PRICE_IMAGE,
    [PRICE_REQUEST] = PRICE_REQUEST,
    [PRICE_TEXT_INPUT] = PRICE_TEXT_INPUT,
    [PRICE_CACHED_TEXT_INPUT] = PRICE_TEXT_INPUT,
    [PRICE_IMAGE_INPUT] = PRICE_TEXT_INPUT,
    [PRICE_CACHED_IMAGE_INPUT] = PRICE_IMAGE_INPUT,
    [PRICE_IMAGE_OUTPUT] = PRICE_IMAGE_OUTPUT,
    [PRICE_TEXT_OUTPUT] = PRICE_IMAGE_OUTPUT,
};

static const char *const operation_names[] = {
    [OPERATION_ANY] = "",
    [OPERATION_GENERATIONS] = "generations",
    [OPERATION_EDITS] = "edits",
    [OPERATION_VARIATIONS] = "variations",
};

static const char *const kind_names[] = {
    [PRICE_COST] = "cost",
    [PRICE_WHOLESALE] = "wholesale",
    [PRICE_RETAIL] = "retail",
};

static int specificity(const struct price_rate *r)
{
    int score = 0;

    if (r->operation != OPERATION_ANY)
        score += NAMES_EACH + NAMES_OPERATION;
    if (r->size[0] != '\0')
        score += NAMES_EACH + NAMES_SIZE;
    if (r->quality[0] != '\0')
        score += NAMES_EACH + NAMES_QUALITY;
    return score;
}

static int number_compare(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* The order of invariant 2; sizes, qualities and amounts only make it total. */
static int rate_compare(const void *left, const void *right)
{
    const struct price_rate *a = left;
    const struct price_rate *b = right;
    int d = strcmp(a->model, b->model);

    if (d == 0)
        d = number_compare(a->unit, b->unit);
    if (d == 0)
        d = number_compare(specificity(b), specificity(a));
    if (d == 0)
        d = strcmp(a->size, b->size);
    if (d == 0)
        d = strcmp(a->quality, b->quality);
    if (d == 0)
        d = number_compare(a->operation, b->operation);
    return d != 0 ? d : number_compare(b->pico, a->pico);
}

struct price_version *price_version_create(const struct price_rate *rates, size_t n)
{
    struct price_version *v;

    TG_ASSERT(n <= (SIZE_MAX - sizeof(*v)) / sizeof(*rates));
    v = mem_zalloc(sizeof(*v) + n * sizeof(*rates));
    atomic_init(&v->refs, 1);
    v->n = n;
    for (size_t i = 0; i < n; i++) {
        TG_ASSERT(rates[i].pico >= 0 && (unsigned)rates[i].unit < PRICE_UNITS);
        v->rates[i] = rates[i];
    }
    if (n > 1)
        qsort(v->rates, n, sizeof(*rates), rate_compare);
    return v;
}

struct price_version *price_version_ref(struct price_version *v)
{
    atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
    return v;
}

void price_version_unref(struct price_version *v)
{
    if (v == NULL)
        return;
    if (atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1)
        free(v);
}

static int model_compare(const char *name, struct slice model)
{
    size_t len = strlen(name);
    size_t common = len < model.len ? len : model.len;
    int d = common > 0 ? memcmp(name, model.p, common) : 0;

    return d != 0 ? d : (len > model.len) - (len < model.len);
}

/* The first rate from <low> on whose model is not before <model> (with <after>: is after it). */
static size_t model_bound(const struct price_version *v, struct slice model, size_t low, bool after)
{
    size_t high = v->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int d = model_compare(v->rates[middle].model, model);

        if (d < 0 || (after && d == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct price_rate *price_model_rates(const struct price_version *v, struct slice model, size_t *n)
{
    size_t first = model_bound(v, model, 0, false);

    if (first == v->n || model_compare(v->rates[first].model, model) != 0) {
        *n = 0;
        return NULL;
    }
    *n = model_bound(v, model, first, true) - first;
    return &v->rates[first];
}

bool price_has_model(const struct price_version *v, struct slice model)
{
    size_t n;

    return price_model_rates(v, model, &n) != NULL;
}

static bool rate_matches(const struct price_rate *r, const struct price_item *item)
{
    return (r->operation == OPERATION_ANY || r->operation == item->operation) &&
           (r->size[0] == '\0' || slice_eq_str(item->size, r->size)) &&
           (r->quality[0] == '\0' || slice_eq_str(item->quality, r->quality));
}

static const struct price_rate *run_find_unit(const struct price_rate *run, size_t n, const struct price_item *item,
                                              enum price_unit unit)
{
    for (size_t i = 0; i < n && run[i].unit <= unit; i++) {
        if (run[i].unit == unit && rate_matches(&run[i], item))
            return &run[i];
    }
    return NULL;
}

/* In one model's rates: the unit's own rate, else its kin's. */
static bool run_find(const struct price_rate *run, size_t n, const struct price_item *item, enum price_unit unit,
                     int64_t *pico)
{
    for (;;) {
        const struct price_rate *r = run_find_unit(run, n, item, unit);

        if (r != NULL) {
            *pico = r->pico;
            return true;
        }
        if (kin[unit] == unit)
            return false;
        unit = kin[unit];
    }
}

bool price_find(const struct price_version *v, const struct price_item *item, enum price_unit unit, int64_t *pico)
{
    size_t n;
    const struct price_rate *run = price_model_rates(v, item->model, &n);

    return run_find(run, n, item, unit, pico);
}

static enum err_code not_priced(const struct price_item *item, struct err *err)
{
    return err_set(err, ERR_MODEL_NOT_FOUND, "model",
                   "The model `%.*s` does not exist or you do not have access to it.", (int)item->model.len,
                   item->model.p != NULL ? item->model.p : "");
}

static enum err_code too_large(struct err *err)
{
    return err_set(err, ERR_INVALID_VALUE, NULL, "The charge is too large.");
}

/* Sum of pico-dollars to nano-dollars with the markup: the one rounding. */
static enum err_code charge_round(__int128 sum, int64_t markup_ppm, int64_t *nano, struct err *err)
{
    const __int128 scale = (__int128)PPM * PICO_PER_NANO;
    const __int128 factor = (__int128)PPM + markup_ppm;

    if (factor > 0 && sum > SUM_MAX / factor)
        return too_large(err);
    *nano = (int64_t)((sum * factor + scale - 1) / scale);
    return ERR_OK;
}

static int64_t line_of(__int128 pico)
{
    __int128 nano = pico / PICO_PER_NANO;

    return nano > INT64_MAX ? INT64_MAX : (int64_t)nano;
}

enum err_code price_charge(const struct price_version *v, int64_t markup_ppm, const struct price_item *item,
                           const struct price_quantities *q, int64_t *nano, int64_t lines[PRICE_UNITS], struct err *err)
{
    size_t n;
    const struct price_rate *run = price_model_rates(v, item->model, &n);
    __int128 sum = 0;
    bool priced = false;

    if (markup_ppm < PRICE_MARKUP_MIN || markup_ppm > PRICE_MARKUP_MAX)
        return err_set(err, ERR_INVALID_VALUE, "markup_percent", "The markup is out of range.");
    for (int unit = 0; unit < PRICE_UNITS; unit++) {
        int64_t pico = 0;
        __int128 share;

        if (q->of[unit] < 0)
            return err_set(err, ERR_INVALID_VALUE, unit_names[unit], "A quantity is negative.");
        priced |= run_find(run, n, item, (enum price_unit)unit, &pico);
        share = (__int128)q->of[unit] * pico;
        if (share > SUM_MAX - sum)
            return too_large(err);
        sum += share;
        if (lines != NULL)
            lines[unit] = line_of(share);
    }
    return priced ? charge_round(sum, markup_ppm, nano, err) : not_priced(item, err);
}

enum err_code price_parse_amount(struct slice amount, int64_t per, int64_t *pico, struct err *err)
{
    int64_t whole;
    enum err_code code = money_parse(amount, MONEY_PICO_DIGITS, "amount", &whole, err);

    if (code != ERR_OK)
        return code;
    if (whole < 0)
        return err_set(err, ERR_INVALID_VALUE, "amount", "A rate cannot be negative.");
    if (per < 1)
        return err_set(err, ERR_INVALID_VALUE, "per", "'per' must be 1 or more.");
    if (whole % per != 0)
        return err_set(err, ERR_INVALID_VALUE, "amount",
                       "The rate is not a whole number of pico-dollars for one unit.");
    *pico = whole / per;
    return ERR_OK;
}

const char *price_unit_name(enum price_unit unit)
{
    TG_ASSERT((unsigned)unit < PRICE_UNITS);
    return unit_names[unit];
}

bool price_unit_parse(struct slice text, enum price_unit *unit)
{
    for (int i = 0; i < PRICE_UNITS; i++) {
        if (slice_eq_str(text, unit_names[i])) {
            *unit = (enum price_unit)i;
            return true;
        }
    }
    return false;
}

const char *price_operation_name(enum image_operation op)
{
    TG_ASSERT((unsigned)op <= OPERATION_VARIATIONS);
    return operation_names[op];
}

bool price_operation_parse(struct slice text, enum image_operation *op)
{
    for (int i = OPERATION_GENERATIONS; i <= OPERATION_VARIATIONS; i++) {
        if (slice_eq_str(text, operation_names[i])) {
            *op = (enum image_operation)i;
            return true;
        }
    }
    return false;
}

const char *price_kind_name(enum price_kind kind)
{
    TG_ASSERT((unsigned)kind <= PRICE_RETAIL);
    return kind_names[kind];
}
