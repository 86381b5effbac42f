/* admit.c - from a caller and a request to the hold that it needs, and from what was used to what is charged.
 *
 *   cost       the channel's cost book, else openai-list; no markup
 *   wholesale  the tenant's book, else openai-list; then the tenant's markup
 *   retail     the customer's book, else the wholesale price (the amount, as the tenant pays it); then the customer's
 * markup. A tenant's own key: the wholesale price
 *
 * Invariants
 *   1. The three amounts of a hold and of its charge come from the same pinned versions and markups.
 *   2. The rounding of each amount is up; a retail price made from the wholesale amount grows with it, so a charge
 * whose wholesale amount is within its hold is within it at retail too.
 *   3. A book that is named and lacks a price refuses the model: nothing falls back to another book.
 * Threads: the loop's own; admit_rate any. */
#include "admit.h"

enum { PPM = 1000000 };

/* Whose prices hold. */
struct buyer {
    const struct tenant *tenant;     /* NULL: nobody's, list prices */
    const struct customer *customer; /* NULL: the tenant itself */
    bool test;
};

/* The prices of a call, borrowed from the catalog. */
struct prices {
    struct price_version *cost, *wholesale, *retail; /* retail NULL: from the wholesale amount */
    int64_t wholesale_ppm, retail_ppm;
};

static enum err_code no_model(const char *model, struct err *err)
{
    return err_set(err, ERR_MODEL_NOT_FOUND, "model", "The model `%s` does not exist or you do not have access to it.",
                   model);
}

/* ---- policy ---- */

static bool is_allowed(const struct caller *caller, struct slice model)
{
    for (int i = 0; i < CALLER_POLICIES; i++) {
        if (!policy_allows_model(caller->policies[i], model))
            return false;
    }
    return true;
}

static enum err_code check_policies(const struct caller *caller, const struct image_spec *spec, struct err *err)
{
    enum err_code code = ERR_OK;

    if (!is_allowed(caller, slice_from(spec->model)))
        return no_model(spec->model, err);
    for (int i = 0; i < CALLER_POLICIES && code == ERR_OK; i++)
        code = policy_check_spec(caller->policies[i], spec, err);
    return code;
}

/* ---- channel ---- */

/* Whether the channel is one for this buyer and lists the model, active or not. */
static bool is_candidate(const struct channel *ch, const struct buyer *buyer, struct slice model)
{
    return (!buyer->test || ch->channel_kind == CHANNEL_SANDBOX) &&
           (buyer->tenant == NULL ? ch->n_tenants == 0 : channel_serves_tenant(ch, buyer->tenant->super.row)) &&
           channel_upstream_model(ch, model) != NULL;
}

/* The first active candidate. *listed: there is a candidate at all. */
static const struct channel *find_channel(const struct catalog *c, const struct buyer *buyer, struct slice model,
                                          bool *listed)
{
    const struct channel *ch;
    size_t pos = 0;

    *listed = false;
    while ((ch = catalog_next_any_channel(c, &pos)) != NULL) {
        if (!is_candidate(ch, buyer, model))
            continue;
        *listed = true;
        if (ch->super.status == RECORD_ACTIVE)
            return ch;
    }
    return NULL;
}

/* ---- prices ---- */

static struct price_version *version_at(const struct catalog *c, int64_t book_row, int64_t now)
{
    const struct price_book *book = catalog_book(c, book_row);

    return book != NULL ? price_book_at(book, now) : NULL;
}

static enum err_code find_prices(const struct catalog *c, const struct buyer *buyer, const struct channel *ch,
                                 const char *model, int64_t now, struct prices *out, struct err *err)
{
    const struct tenant *t = buyer->tenant;
    const struct customer *cu = buyer->customer;
    bool retail_book = cu != NULL && cu->book_row != 0;

    *out = (struct prices){
        .cost = version_at(c, ch != NULL ? ch->cost_book_row : 0, now),
        .wholesale = version_at(c, t != NULL ? t->book_row : 0, now),
        .retail = retail_book ? version_at(c, cu->book_row, now) : NULL,
        .wholesale_ppm = t != NULL ? t->markup_ppm : 0,
        .retail_ppm = cu != NULL ? cu->markup_ppm : 0,
    };
    if (out->cost == NULL || out->wholesale == NULL || (retail_book && out->retail == NULL))
        return no_model(model, err);
    return ERR_OK;
}

/* An amount with a markup, rounded up; for retail made from wholesale. */
static enum err_code mark_up(int64_t nano, int64_t ppm, int64_t *out, struct err *err)
{
    __int128 product = (__int128)nano * ((__int128)PPM + ppm);

    if (ppm < PRICE_MARKUP_MIN || ppm > PRICE_MARKUP_MAX)
        return err_set(err, ERR_INVALID_VALUE, "markup_percent", "The markup is out of range.");
    product = (product + PPM - 1) / PPM;
    if (product > INT64_MAX)
        return err_set(err, ERR_INVALID_VALUE, NULL, "The charge is too large.");
    *out = (int64_t)product;
    return ERR_OK;
}

static enum err_code quote_all(const struct prices *p, const struct image_spec *spec, struct admit_quote *out,
                               struct err *err)
{
    enum err_code code = quote_ceiling(p->wholesale, p->wholesale_ppm, spec, &out->wholesale, err);

    if (code == ERR_OK)
        code = quote_ceiling(p->cost, 0, spec, &out->cost, err);
    if (code != ERR_OK)
        return code;
    if (p->retail != NULL)
        return quote_ceiling(p->retail, p->retail_ppm, spec, &out->retail, err);
    out->retail = out->wholesale;
    return mark_up(out->wholesale.nano, p->retail_ppm, &out->retail.nano, err);
}

enum err_code admit_price(const struct catalog *c, const struct tenant *tenant, const struct customer *customer,
                          const struct image_spec *spec, int64_t now, struct admit_quote *out, struct err *err)
{
    const struct buyer buyer = {tenant, customer, false};
    bool listed;
    const struct channel *ch = find_channel(c, &buyer, slice_from(spec->model), &listed);
    struct prices prices;
    enum err_code code = find_prices(c, &buyer, ch, spec->model, now, &prices, err);

    return code == ERR_OK ? quote_all(&prices, spec, out, err) : code;
}

/* ---- the hold ---- */

static void fill_call(const struct caller *caller, const struct image_spec *spec, bool stream, const struct channel *ch,
                      struct store_call *call)
{
    *call = (struct store_call){
        .tenant_row = caller->tenant->super.row,
        .customer_row = caller->customer != NULL ? caller->customer->super.row : 0,
        .key_row = caller->key->row,
        .channel_row = ch->super.row,
        .operation = spec->operation,
        .n = spec->n,
        .stream = stream,
        .test = caller->key->test,
    };
    memcpy(call->model, spec->model, sizeof(call->model));
    memcpy(call->size, spec->size, sizeof(call->size));
    memcpy(call->quality, spec->quality, sizeof(call->quality));
}

static void fill_amounts(const struct caller *caller, const struct admit_quote *quote, struct store_hold *hold)
{
    hold->n_legs = 0;
    hold->cost_max = hold->wholesale_max = hold->retail_max = 0;
    if (hold->call.test)
        return;
    hold->cost_max = quote->cost.nano;
    hold->wholesale_max = quote->wholesale.nano;
    hold->retail_max = quote->retail.nano;
    hold->legs[hold->n_legs++] = (struct store_leg){false, quote->wholesale.nano};
    if (caller->customer != NULL && caller->customer->own_wallet)
        hold->legs[hold->n_legs++] = (struct store_leg){true, quote->retail.nano};
}

static void pin(const struct prices *p, const struct channel *ch, struct slice model, struct terms *terms,
                struct store_hold *hold)
{
    bool fits =
        slice_copy(slice_from(channel_upstream_model(ch, model)), terms->upstream_model, sizeof(terms->upstream_model));

    TG_ASSERT(fits);
    terms->cost = price_version_ref(p->cost);
    terms->wholesale = price_version_ref(p->wholesale);
    terms->retail = p->retail != NULL ? price_version_ref(p->retail) : NULL;
    terms->wholesale_ppm = p->wholesale_ppm;
    terms->retail_ppm = p->retail_ppm;
    terms->channel = record_ref((void *)ch);
    hold->version_cost = p->cost->row;
    hold->version_wholesale = p->wholesale->row;
    hold->version_retail = p->retail != NULL ? p->retail->row : 0;
}

enum err_code admit_call(const struct catalog *c, const struct caller *caller, const struct image_spec *spec,
                         bool stream, enum conf_in_doubt rule, int64_t now, struct terms *terms,
                         struct store_hold *hold, struct err *err)
{
    const struct buyer buyer = {caller->tenant, caller->customer, caller->key->test};
    struct admit_quote quote;
    const struct channel *ch;
    struct prices prices;
    bool listed;
    enum err_code code;

    *terms = (struct terms){0};
    code = check_policies(caller, spec, err);
    if (code != ERR_OK)
        return code;
    ch = find_channel(c, &buyer, slice_from(spec->model), &listed);
    if (!listed)
        return no_model(spec->model, err);
    code = find_prices(c, &buyer, ch, spec->model, now, &prices, err);
    if (code == ERR_OK)
        code = quote_all(&prices, spec, &quote, err);
    if (code != ERR_OK)
        return code;
    if (ch == NULL)
        return err_set(err, ERR_NO_CHANNEL, NULL,
                       "The model `%s` can not be served at the moment. Please try again later.", spec->model);
    fill_call(caller, spec, stream, ch, &hold->call);
    fill_amounts(caller, &quote, hold);
    pin(&prices, ch, slice_from(spec->model), terms, hold);
    hold->rule = caller->tenant->in_doubt >= 0 ? (enum conf_in_doubt)caller->tenant->in_doubt : rule;
    hold->created_at = now;
    return ERR_OK;
}

void terms_dispose(struct terms *terms)
{
    price_version_unref(terms->cost);
    price_version_unref(terms->wholesale);
    price_version_unref(terms->retail);
    record_unref(terms->channel);
    *terms = (struct terms){0};
}

/* ---- what can be used ---- */

/* Whether a call that this rate is for has all its prices. */
static bool is_sold(const struct prices *prices, const struct price_rate *rate, struct image_spec *spec)
{
    struct admit_quote quote;

    memcpy(spec->size, rate->size, sizeof(spec->size));
    memcpy(spec->quality, rate->quality, sizeof(spec->quality));
    for (int i = OPERATION_GENERATIONS; i <= OPERATION_VARIATIONS; i++) {
        spec->operation = (enum image_operation)i;
        if ((rate->operation == OPERATION_ANY || rate->operation == spec->operation) &&
            quote_all(prices, spec, &quote, NULL) == ERR_OK)
            return true;
    }
    return false;
}

static bool has_price(const struct catalog *c, const struct buyer *buyer, struct slice model, int64_t now)
{
    struct image_spec spec = {.card = model_find(model), .n = 1};
    const struct price_rate *rates;
    struct prices prices;
    bool listed;
    size_t n;

    if (!slice_copy(model, spec.model, sizeof(spec.model)) ||
        find_prices(c, buyer, find_channel(c, buyer, model, &listed), spec.model, now, &prices, NULL) != ERR_OK)
        return false;
    rates = price_model_rates(prices.wholesale, model, &n);
    for (size_t i = 0; i < n; i++) {
        if (is_sold(&prices, &rates[i], &spec))
            return true;
    }
    return false;
}

bool admit_model(const struct catalog *c, const struct caller *caller, struct slice model, int64_t now,
                 int64_t *created_at)
{
    const struct buyer buyer = {caller->tenant, caller->customer, caller->key->test};
    const struct channel *ch;
    bool served = false;
    size_t pos = 0;

    while ((ch = catalog_next_channel(c, &pos)) != NULL) {
        if (!is_candidate(ch, &buyer, model))
            continue;
        if (!served || ch->super.created_at < *created_at)
            *created_at = ch->super.created_at;
        served = true;
    }
    return served && is_allowed(caller, model) && has_price(c, &buyer, model, now);
}

/* ---- the charge ---- */

/* By the effective size and quality; should a book price sizes one by one and not have that one, by what was asked, for
 * which the hold found a price. */
static enum err_code charge(const struct price_version *v, int64_t ppm, const struct image_spec *spec,
                            const struct price_item *item, const struct price_quantities *q, int64_t *nano,
                            struct err *err)
{
    enum err_code code = price_charge(v, ppm, item, q, nano, NULL, err);
    struct price_item asked;

    if (code != ERR_MODEL_NOT_FOUND)
        return code;
    quote_item(spec, SLICE_NONE, SLICE_NONE, &asked);
    return price_charge(v, ppm, &asked, q, nano, NULL, err);
}

enum err_code admit_rate(const struct terms *terms, const struct store_hold *hold, const struct image_spec *spec,
                         const struct price_item *item, const struct price_quantities *q, struct store_capture *capture,
                         struct err *err)
{
    struct usage_record *u = &capture->usage;
    enum err_code code;

    u->cost = u->wholesale = u->retail = 0;
    memset(capture->charges, 0, sizeof(capture->charges));
    if (hold->call.test)
        return ERR_OK;
    code = charge(terms->cost, 0, spec, item, q, &u->cost, err);
    if (code == ERR_OK)
        code = charge(terms->wholesale, terms->wholesale_ppm, spec, item, q, &u->wholesale, err);
    if (code != ERR_OK)
        return code;
    if (terms->retail != NULL)
        code = charge(terms->retail, terms->retail_ppm, spec, item, q, &u->retail, err);
    else
        code = mark_up(u->wholesale, terms->retail_ppm, &u->retail, err);
    for (int i = 0; i < hold->n_legs && code == ERR_OK; i++)
        capture->charges[i] = hold->legs[i].customer ? u->retail : u->wholesale;
    return code;
}
