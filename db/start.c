/* start.c - what happens between opening a database and running on it.
 *
 *   schema --> load --> budgets --> new epoch, default prices --> dead holds resolved --> ready
 *
 * Invariants
 *  (1) Every start has an epoch of its own; the engine's lock makes sure that no process of an earlier one lives.
 *  (2) So open holds of earlier epochs are dead: each ends by its own in-doubt rule before anything new is applied.
 * On the thread that opens the store. */
#include "store_state.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"

static const char default_book[] = "openai-list";

/* ---- loading ---- */

static void take_record(void *ctx, struct record *record)
{
    struct store *s = ctx;

    if (record->kind == RECORD_TENANT)
        ledger_set_wallet(s->ledger, ACCOUNT_TENANT_WALLET, record->row, ((struct tenant *)record)->credit_limit, true);
    else if (record->kind == RECORD_CUSTOMER && ((struct customer *)record)->own_wallet)
        ledger_set_wallet(s->ledger, ACCOUNT_CUSTOMER_WALLET, record->row, ((struct customer *)record)->credit_limit,
                          true);
    directory_put(&s->directory, record);
}

/* Once all are there: a budget's windows are those of its tenant's time zone. */
static enum err_code take_budgets(struct store *s, struct err *err)
{
    static const enum record_kind kinds[] = {RECORD_TENANT, RECORD_CUSTOMER};
    enum err_code code = ERR_OK;

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const struct shelf *shelf = &s->directory.shelves[kinds[k]];

        for (size_t i = 0; code == ERR_OK && i < shelf->n; i++)
            code = put_budgets(s, shelf->at[i], NULL, err);
    }
    return code == ERR_OK ? load_key_budgets(s, err) : code;
}

/* ---- epoch ---- */

static enum err_code next_epoch(struct store *s, struct err *err)
{
    uint8_t value[META_BYTES];
    unsigned long long epoch = 0;
    char text[32];
    size_t len;
    int n;
    enum err_code code = s->engine->class->get_meta(s->engine, "epoch", value, &len, err);

    if (code != ERR_OK)
        return code;
    if (len > 0 && !slice_to_u64((struct slice){(const char *)value, len}, &epoch))
        return err_set(err, ERR_CONFLICT, NULL, "The store's epoch is damaged.");
    epoch++;
    n = snprintf(text, sizeof(text), "%llu", epoch);
    ledger_set_epoch(s->ledger, (int64_t)epoch);
    return s->engine->class->put_meta(s->engine, "epoch", (const uint8_t *)text, (size_t)n, err);
}

/* ---- default prices ---- */

static void fingerprint_prices(const struct price_version *v, uint8_t out[SECRET_DIGEST])
{
    struct buf text;

    buf_init(&text, 64 * 1024 * 1024);
    for (size_t i = 0; i < v->n; i++) {
        const struct price_rate *r = &v->rates[i];

        buf_printf(&text, "%s|%s|%s|%s|%s|%lld\n", r->model, price_operation_name(r->operation), r->size, r->quality,
                   price_unit_name(r->unit), (long long)r->pico);
    }
    TG_ASSERT(!text.full);
    secret_fingerprint(text.p, text.len, out);
    buf_dispose(&text);
}

static struct book *find_default_book(const struct store *s)
{
    const struct shelf *shelf = &s->directory.shelves[RECORD_BOOK];

    for (size_t i = 0; i < shelf->n; i++)
        if (strcmp(shelf->at[i]->name, default_book) == 0 && ((struct book *)shelf->at[i])->tenant_row == 0)
            return (struct book *)shelf->at[i];
    return NULL;
}

/* The book with one version more; takes over <v>. */
static struct book *make_book(const struct book *old, struct price_version *v)
{
    struct book *book = record_create(RECORD_BOOK, 0);
    size_t n = old != NULL ? old->prices->n : 0;
    struct price_version **versions = mem_alloc((n + 1) * sizeof(versions[0]));

    for (size_t i = 0; i < n; i++)
        versions[i] = price_version_ref(old->prices->versions[i]);
    versions[n] = v;
    v->id = id_make();
    v->effective_from = old != NULL ? clock_wall() : 0; /* the first holds always */
    book->prices = price_book_create(versions, n + 1);
    free(versions);
    book->prices->kind = old != NULL ? old->prices->kind : PRICE_COST;
    (void)slice_copy(slice_from(default_book), book->super.name, sizeof(book->super.name));
    book->super.id = old != NULL ? old->super.id : id_make();
    book->super.row = old != NULL ? old->super.row : 0;
    book->super.version = old != NULL ? old->super.version : 0;
    return book;
}

static enum err_code update_prices(struct store *s, struct err *err)
{
    struct price_version *v = price_defaults();
    uint8_t wanted[SECRET_DIGEST], value[META_BYTES];
    struct record *before = NULL;
    struct store_put put;
    size_t len;
    enum err_code code = s->engine->class->get_meta(s->engine, "default_prices", value, &len, err);

    fingerprint_prices(v, wanted);
    if (code != ERR_OK || (len == sizeof(wanted) && memcmp(value, wanted, len) == 0)) {
        price_version_unref(v);
        return code;
    }
    memset(&put, 0, sizeof(put));
    put.super.kind = STORE_PUT;
    put.record = &make_book(find_default_book(s), v)->super;
    code = put_apply(s, &put, &before);
    if (code != ERR_OK) {
        *err = put.super.err;
        return code;
    }
    record_unref(before);
    record_unref(put.record);
    record_unref(s->changed[--s->n_changed].record); /* nobody has subscribed yet */
    return s->engine->class->put_meta(s->engine, "default_prices", wanted, sizeof(wanted), err);
}

static enum err_code begin_epoch(struct store *s, struct err *err)
{
    enum err_code code = s->engine->class->begin(s->engine, err);

    if (code != ERR_OK)
        return code;
    code = ledger_begin(s->ledger, clock_wall(), err);
    if (code == ERR_OK)
        code = next_epoch(s, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(START_EPOCH, err);
    if (code == ERR_OK)
        code = update_prices(s, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(START_PRICES, err);
    if (code == ERR_OK)
        code = batch_flush(s, err);
    if (code == ERR_OK)
        code = s->engine->class->commit(s->engine, err);
    if (code != ERR_OK)
        s->engine->class->rollback(s->engine);
    return code;
}

enum err_code start_store(struct store *s, bool migrate, struct err *err)
{
    int applied;
    enum err_code code = s->engine->class->migrate(s->engine, migrate, &applied, err);

    if (code == ERR_OK)
        code = s->engine->class->load(s->engine, s->ledger, err);
    if (code == ERR_OK)
        code = s->engine->class->load_records(s->engine, take_record, s, err);
    if (code == ERR_OK)
        code = prune_load(s, err);
    if (code == ERR_OK)
        code = audit_load(s, err);
    if (code == ERR_OK)
        code = take_budgets(s, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(START_LOADED, err);
    if (code == ERR_OK)
        code = begin_epoch(s, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(START_BEGUN, err);
    if (code == ERR_OK)
        code = sweep_dead(s, err);
    return code;
}
