/* price.h - price books in memory: immutable versions of rates, looked up by what is being sold.
 *
 * A rate prices one unit of one model, for an operation, size and quality or for any of them; of the rates that match,
 * the one that names most wins (quality over size over operation where they tie). A kind of token without a rate of its
 * own is priced as its kin: cached text as text, image input as text, cached image as image input, text output as image
 * output. Versions and books are reference-counted and never change; any thread may read one that it holds a reference
 * to. */
#ifndef TG_BILLING_PRICE_H
#define TG_BILLING_PRICE_H

#include <stdatomic.h>
#include <stdint.h>

#include "daemon/base/err.h"
#include "daemon/base/id.h"

enum price_unit {
    PRICE_IMAGE = 0,
    PRICE_REQUEST,
    PRICE_TEXT_INPUT,
    PRICE_CACHED_TEXT_INPUT,
    PRICE_IMAGE_INPUT,
    PRICE_CACHED_IMAGE_INPUT,
    PRICE_IMAGE_OUTPUT,
    PRICE_TEXT_OUTPUT,
    PRICE_UNITS /* how many */
};

enum {
    PRICE_MARKUP_MIN = -1000000,  /* parts per million: free */
    PRICE_MARKUP_MAX = 1000000000 /* 1001 times the list price */
};

enum image_operation { OPERATION_ANY = 0, OPERATION_GENERATIONS, OPERATION_EDITS, OPERATION_VARIATIONS };

/* How much of each unit: never negative. For tokens, each token stands in one unit only. */
struct price_quantities {
    int64_t of[PRICE_UNITS];
};

struct price_rate {
    char model[LIMIT_MODEL];
    enum image_operation operation; /* OPERATION_ANY: all */
    char size[LIMIT_SIZE];          /* empty: any */
    char quality[LIMIT_QUALITY];    /* empty: any */
    enum price_unit unit;
    int64_t pico; /* pico-dollars per unit, >= 0 */
};

struct price_version {
    atomic_int refs;
    int64_t row;            /* the store's number of it; 0 when it is not stored */
    struct id id;           /* pbv_ */
    int64_t effective_from; /* wall microseconds */
    size_t n;
    struct price_rate rates[]; /* sorted: by model, unit, then the one that names most first */
};

enum price_kind { PRICE_COST = 0, PRICE_WHOLESALE, PRICE_RETAIL };

struct price_book {
    atomic_int refs;
    int64_t row;
    struct id id; /* pbk_ */
    char name[LIMIT_NAME];
    enum price_kind kind;
    int64_t created_at;
    size_t n;
    struct price_version *versions[]; /* by effective_from, ascending; the book holds a reference to each */
};

/* What is sold, for a look-up. */
struct price_item {
    struct slice model;
    enum image_operation operation;
    struct slice size;    /* "1024x1024" */
    struct slice quality; /* "high" */
};

/* Copies <rates> (any order), sorts them; returns with one reference, row 0, no id and effective from ever: the caller
 * fills these before any other thread sees the version. Of two rates that differ in nothing but the amount, the dearer
 * holds. */
struct price_version *price_version_create(const struct price_rate *rates, size_t n);
struct price_version *price_version_ref(struct price_version *v);
void price_version_unref(struct price_version *v);

/* Takes over one reference to each version (any order; of two with the same time the one with the later row is in
 * effect); returns with one reference, the caller fills the rest. */
struct price_book *price_book_create(struct price_version **versions, size_t n);
struct price_book *price_book_ref(struct price_book *b);
void price_book_unref(struct price_book *b);

/* The version in effect at <wall>: borrowed from the book; NULL before the first. */
struct price_version *price_book_at(const struct price_book *b, int64_t wall);

/* Whether any rate names the model. */
bool price_has_model(const struct price_version *v, struct slice model);

/* The <*n> rates that name the model, borrowed from the version; NULL and 0 when there is none. */
const struct price_rate *price_model_rates(const struct price_version *v, struct slice model, size_t *n);

/* The rate for one unit, kinship applied; false when there is none. */
bool price_find(const struct price_version *v, const struct price_item *item, enum price_unit unit, int64_t *pico);

/* Charge in nano-dollars: the sum of quantity x rate in 128 bits, times (1 + markup), rounded once, up. A quantity
 * whose unit (and kin) has no rate is free, but the item must have a rate for one unit at least (whatever its
 * quantity): else MODEL_NOT_FOUND. INVALID_VALUE: a negative quantity, a markup outside PRICE_MARKUP_MIN..MAX, a charge
 * (or, under a negative markup, a sum above PRICE_SUM_MAX) that is too large. <lines> (may be NULL) gets each unit's
 * share in nano-dollars before the markup, rounded down, at most INT64_MAX, for display. */
TG_MUSTCHECK enum err_code price_charge(const struct price_version *v, int64_t markup_ppm,
                                        const struct price_item *item, const struct price_quantities *q, int64_t *nano,
                                        int64_t lines[PRICE_UNITS], struct err *err);

const char *price_unit_name(enum price_unit unit); /* "image_output_token", as contract section 4 spells them */
bool price_unit_parse(struct slice text, enum price_unit *unit);
const char *price_operation_name(enum image_operation op); /* "generations"; OPERATION_ANY: "" */
bool price_operation_parse(struct slice text, enum image_operation *op);
const char *price_kind_name(enum price_kind kind);

/* "<amount> dollars for <per> units" as pico-dollars a unit; INVALID_VALUE naming amount or per when it is negative, no
 * number, or no whole number of pico-dollars. */
TG_MUSTCHECK enum err_code price_parse_amount(struct slice amount, int64_t per, int64_t *pico, struct err *err);

/* The rates of the embedded default price data (etc/prices/openai.ini) as a new version with row 0 and one reference;
 * stops the process when that data is broken. */
struct price_version *price_defaults(void);

#endif
