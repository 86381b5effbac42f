/* put.c - STORE_PUT and STORE_PUT_MANY: creating and replacing records.
 *
 * Order: check against the current record and the wallets, write the row (the engine finds values that are not unique),
 * and only then change the memory. The writer's thread, inside a transaction.
 * Invariants
 *  (1) directory = the records, but API keys, that are neither deleted nor revoked and whose owners live.
 *  (2) A wallet in the ledger is open exactly while its owner is in the directory.
 *  (3) What identifies a record (id, row, owner, time of creation) never changes; a price version never goes away. */
#include "store_state.h"

#include "daemon/base/failpoint.h"

#define CREDIT_LIMIT_MAX INT64_C(1000000000000000000)

static enum err_code not_found(enum record_kind kind, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, NULL, "No such %s.", record_object(kind));
}

static bool closed(const struct record *r)
{
    return r->status == RECORD_DELETED || r->status == RECORD_REVOKED;
}

/* ---- the record that is replaced ---- */

static enum err_code find_current(struct store *s, const struct record *record, struct record **out, struct err *err)
{
    struct record *current = directory_get(&s->directory, record->kind, record->row);
    enum err_code code;

    if (current != NULL) {
        *out = record_ref(current);
        return ERR_OK;
    }
    code = s->engine->class->find_record(s->engine, record->kind, record->row, &current, err);
    if (code != ERR_OK)
        return code;
    if (current->status == RECORD_DELETED) {
        record_unref(current);
        return not_found(record->kind, err);
    }
    *out = current;
    return ERR_OK;
}

static enum err_code check_replacement(const struct record *current, const struct record *record, struct err *err)
{
    if (current->version != record->version)
        return err_set(err, ERR_PRECONDITION_FAILED, NULL, "The %s was changed by someone else in between.",
                       record_object(record->kind));
    if (current->status == RECORD_REVOKED && !closed(record))
        return err_set(err, ERR_CONFLICT, "status", "What is revoked stays revoked.");
    return ERR_OK;
}

static void pin_identity(const struct record *current, struct record *record)
{
    record->id = current->id;
    record->created_at = current->created_at;
    if (record->kind == RECORD_CUSTOMER) {
        ((struct customer *)record)->tenant_row = ((const struct customer *)current)->tenant_row;
    } else if (record->kind == RECORD_KEY) {
        ((struct api_key *)record)->tenant_row = ((const struct api_key *)current)->tenant_row;
        ((struct api_key *)record)->customer_row = ((const struct api_key *)current)->customer_row;
        ((struct api_key *)record)->last_used_at = ((const struct api_key *)current)->last_used_at;
    } else if (record->kind == RECORD_ADMIN_TOKEN) {
        ((struct admin_token *)record)->tenant_row = ((const struct admin_token *)current)->tenant_row;
        ((struct admin_token *)record)->last_used_at = ((const struct admin_token *)current)->last_used_at;
    } else if (record->kind == RECORD_BOOK) {
        ((struct book *)record)->tenant_row = ((const struct book *)current)->tenant_row;
    }
}

/* ---- what it refers to ---- */

static enum err_code check_owner(const struct store *s, enum record_kind kind, int64_t row, int64_t tenant_row,
                                 struct err *err)
{
    const struct record *owner;

    if (row == 0)
        return ERR_OK;
    owner = directory_get(&s->directory, kind, row);
    if (owner == NULL || (kind == RECORD_CUSTOMER && ((const struct customer *)owner)->tenant_row != tenant_row))
        return err_set(err, ERR_NOT_FOUND, record_object(kind), "No such %s.", record_object(kind));
    return ERR_OK;
}

static enum err_code check_owners(const struct store *s, const struct record *record, struct err *err)
{
    enum err_code code;

    switch (record->kind) {
    case RECORD_CUSTOMER: {
        int64_t tenant = ((const struct customer *)record)->tenant_row;
        return tenant == 0 ? not_found(RECORD_TENANT, err) : check_owner(s, RECORD_TENANT, tenant, 0, err);
    }
    case RECORD_KEY: {
        const struct api_key *key = (const struct api_key *)record;
        if (key->tenant_row == 0)
            return not_found(RECORD_TENANT, err);
        code = check_owner(s, RECORD_TENANT, key->tenant_row, 0, err);
        return code == ERR_OK ? check_owner(s, RECORD_CUSTOMER, key->customer_row, key->tenant_row, err) : code;
    }
    case RECORD_ADMIN_TOKEN:
        return check_owner(s, RECORD_TENANT, ((const struct admin_token *)record)->tenant_row, 0, err);
    case RECORD_BOOK:
        return check_owner(s, RECORD_TENANT, ((const struct book *)record)->tenant_row, 0, err);
    case RECORD_TENANT:
    case RECORD_CHANNEL:
    case RECORD_KINDS:
        break;
    }
    return ERR_OK;
}

/* ---- wallets ---- */

static bool has_money(struct store_balance b)
{
    return b.posted != 0 || b.held != 0;
}

static bool customers_have_money(const struct store *s, int64_t tenant_row)
{
    const struct shelf *shelf = &s->directory.shelves[RECORD_CUSTOMER];

    for (size_t i = 0; i < shelf->n; i++)
        if (((const struct customer *)shelf->at[i])->tenant_row == tenant_row &&
            has_money(ledger_balance(s->ledger, ACCOUNT_CUSTOMER_WALLET, shelf->at[i]->row)))
            return true;
    return false;
}

static enum err_code check_empty(const struct store *s, const struct record *record, struct err *err)
{
    bool customer = record->kind == RECORD_CUSTOMER;

    if (has_money(ledger_balance(s->ledger, customer ? ACCOUNT_CUSTOMER_WALLET : ACCOUNT_TENANT_WALLET, record->row)))
        return err_set(err, ERR_CONFLICT, NULL, "The wallet of this %s is not empty.", record_object(record->kind));
    if (ledger_has_holds(s->ledger, customer, record->row))
        return err_set(err, ERR_CONFLICT, NULL, "This %s has open holds.", record_object(record->kind));
    if (!customer && customers_have_money(s, record->row))
        return err_set(err, ERR_CONFLICT, NULL, "The wallet of a customer of this tenant is not empty.");
    return ERR_OK;
}

static enum err_code check_credit_line(const struct store *s, enum account_kind kind, int64_t row, int64_t limit,
                                       struct err *err)
{
    if (limit < 0 || limit > CREDIT_LIMIT_MAX)
        return err_set(err, ERR_INVALID_VALUE, "credit_limit", "Invalid value for 'credit_limit': out of range.");
    if (row != 0 && !ledger_within_credit(s->ledger, kind, row, limit))
        return err_set(err, ERR_CONFLICT, "credit_limit", "The credit line is in use: it cannot be lowered that far.");
    return ERR_OK;
}

static enum err_code check_wallets(const struct store *s, const struct record *current, const struct record *record,
                                   struct err *err)
{
    if (record->kind != RECORD_TENANT && record->kind != RECORD_CUSTOMER)
        return ERR_OK;
    if (current != NULL && record->status == RECORD_DELETED)
        return check_empty(s, record, err);
    if (record->kind == RECORD_TENANT)
        return check_credit_line(s, ACCOUNT_TENANT_WALLET, record->row, ((const struct tenant *)record)->credit_limit,
                                 err);
    if (current != NULL && ((const struct customer *)current)->own_wallet &&
        !((const struct customer *)record)->own_wallet && check_empty(s, record, err) != ERR_OK)
        return err != NULL ? err->code : ERR_CONFLICT;
    return check_credit_line(s, ACCOUNT_CUSTOMER_WALLET, record->row, ((const struct customer *)record)->credit_limit,
                             err);
}

static const struct budget_list no_budgets;

static void forget_budgets(struct store *s, enum budget_owner_kind kind, int64_t row)
{
    const struct budget_owner owner = {.kind = kind, .row = row};

    (void)ledger_set_budgets(s->ledger, &owner, &no_budgets, NULL, NULL); /* to forget cannot fail */
}

static void close_owned(void *ctx, const struct record *record)
{
    struct store *s = ctx;

    if (record->kind != RECORD_CUSTOMER)
        return;
    forget_budgets(s, BUDGET_CUSTOMER, record->row);
    ledger_set_wallet(s->ledger, ACCOUNT_CUSTOMER_WALLET, record->row, 0, false);
}

static void set_wallet(struct store *s, const struct record *record)
{
    bool live = !closed(record);

    if (record->kind == RECORD_TENANT) {
        ledger_set_wallet(s->ledger, ACCOUNT_TENANT_WALLET, record->row,
                          live ? ((const struct tenant *)record)->credit_limit : 0, live);
    } else if (record->kind == RECORD_CUSTOMER) {
        bool open = live && ((const struct customer *)record)->own_wallet;
        ledger_set_wallet(s->ledger, ACCOUNT_CUSTOMER_WALLET, record->row,
                          open ? ((const struct customer *)record)->credit_limit : 0, open);
    }
}

/* ---- price books ---- */

static bool has_version(const struct price_book *book, int64_t row)
{
    for (size_t i = 0; i < book->n; i++)
        if (book->versions[i]->row == row)
            return true;
    return false;
}

static enum err_code check_book(const struct record *current, const struct record *record, struct err *err)
{
    const struct price_book *old, *new_book;
    size_t stored = 0;

    if (record->kind != RECORD_BOOK)
        return ERR_OK;
    new_book = ((const struct book *)record)->prices;
    TG_ASSERT(new_book != NULL);
    for (size_t i = 0; i < new_book->n; i++)
        stored += new_book->versions[i]->row != 0;
    if (current == NULL)
        return stored == 0 ? ERR_OK : err_set(err, ERR_CONFLICT, NULL, "A price version belongs to one book.");
    old = ((const struct book *)current)->prices;
    for (size_t i = 0; i < old->n; i++)
        if (!has_version(new_book, old->versions[i]->row))
            return err_set(err, ERR_CONFLICT, NULL, "A price version cannot be taken away.");
    return stored == old->n ? ERR_OK : err_set(err, ERR_CONFLICT, NULL, "A price version belongs to one book.");
}

static void complete_book(struct record *record)
{
    struct price_book *prices = ((struct book *)record)->prices;

    prices->row = record->row;
    prices->id = record->id;
    prices->created_at = record->created_at;
    memcpy(prices->name, record->name, sizeof(prices->name));
}

/* ---- the whole ---- */

static void note_changed(struct store *s, struct store_op *op, struct record *record)
{
    if (s->n_changed == s->cap_changed) {
        s->cap_changed = s->cap_changed != 0 ? s->cap_changed * 2 : STORE_BATCH;
        s->changed = mem_realloc(s->changed, s->cap_changed * sizeof(s->changed[0]));
    }
    s->changed[s->n_changed++] = (struct changed){op, record_ref(record)};
}

/* An owner is gone, and what is its own with it. */
static enum err_code forget_owned(struct store *s, const struct record *owner, struct err *err)
{
    if (owner->kind != RECORD_TENANT && owner->kind != RECORD_CUSTOMER)
        return ERR_OK;
    directory_remove_owned(&s->directory, owner, close_owned, s);
    return forget_key_budgets(s, owner, err);
}

/* The row stands, and what the batch did before is flushed: new budgets begin with what the records say. */
static enum err_code remember(struct store *s, const struct record *current, struct record *record, struct err *err)
{
    enum err_code code = ERR_OK;

    set_wallet(s, record);
    if (record->kind == RECORD_KEY)
        ((struct api_key *)record)->credential = credential_create((const struct api_key *)record);
    else if (closed(record))
        directory_remove(&s->directory, record->kind, record->row);
    else
        directory_put(&s->directory, record_ref(record));
    if (closed(record))
        code = forget_owned(s, record, err);
    return code == ERR_OK ? put_budgets(s, record, current, err) : code;
}

static enum err_code check_record(const struct store *s, const struct record *current, const struct record *record,
                                  struct err *err)
{
    enum err_code code = check_book(current, record, err);

    if (code == ERR_OK && !closed(record))
        code = check_owners(s, record, err);
    if (code == ERR_OK)
        code = check_wallets(s, current, record, err);
    return code == ERR_OK ? budgets_check_record(record, err) : code;
}

static enum err_code write_record(struct store *s, struct record *current, struct record *record, struct err *err)
{
    enum err_code code = check_record(s, current, record, err);

    if (code != ERR_OK)
        return code;
    record->version = current != NULL ? current->version + 1 : 1;
    code = s->engine->class->put_record(s->engine, record, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(PUT_WRITTEN, err);
    if (code != ERR_OK)
        return code;
    if (record->kind == RECORD_BOOK)
        complete_book(record);
    code = batch_flush(s, err);
    return code == ERR_OK ? remember(s, current, record, err) : code;
}

enum err_code put_apply(struct store *s, struct store_put *op, struct record **before)
{
    struct record *record = op->record;
    struct err *err = &op->super.err;
    enum err_code code = ERR_OK;

    TG_ASSERT(record != NULL && (unsigned)record->kind < RECORD_KINDS);
    *before = NULL;
    if (record->row == 0) {
        record->created_at = ledger_now(s->ledger);
    } else {
        code = find_current(s, record, before, err);
        if (code == ERR_OK)
            code = check_replacement(*before, record, err);
        if (code == ERR_OK)
            pin_identity(*before, record);
    }
    if (code == ERR_OK)
        code = write_record(s, *before, record, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(PUT_APPLIED, err);
    if (code == ERR_OK) {
        note_changed(s, &op->super, record);
        return ERR_OK;
    }
    record_unref(record);
    op->record = NULL;
    record_unref(*before);
    *before = NULL;
    return code;
}

/* ---- many ---- */

void put_many_drop(struct store_put_many *op)
{
    for (int i = 0; i < op->n; i++) {
        record_unref(op->records[i]);
        op->records[i] = NULL;
    }
}

static enum err_code check_many(struct store *s, struct store_put_many *op)
{
    struct err *err = &op->super.err;
    enum err_code code = ERR_OK;

    op->failed = -1;
    if (op->n < 1 || op->n > STORE_MANY)
        return err_set(err, ERR_INVALID_VALUE, NULL, "Expected 1 to %d records.", STORE_MANY);
    for (int i = 0; code == ERR_OK && i < op->n; i++) {
        struct record *record = op->records[i];

        TG_ASSERT(record != NULL && record->kind == RECORD_KEY && record->row == 0);
        record->created_at = ledger_now(s->ledger);
        record->version = 1;
        code = check_record(s, NULL, record, err);
        if (code != ERR_OK)
            op->failed = i;
    }
    return code;
}

/* Memory changes only once every row stands. */
enum err_code put_many_apply(struct store *s, struct store_put_many *op)
{
    struct err *err = &op->super.err;
    enum err_code code = check_many(s, op);

    if (code == ERR_OK)
        code = s->engine->class->put_records(s->engine, op->records, op->n, &op->failed, err);
    if (code == ERR_OK)
        code = FAILPOINT_CODE(PUT_MANY_WRITTEN, err);
    if (code == ERR_OK)
        code = batch_flush(s, err);
    for (int i = 0; code == ERR_OK && i < op->n; i++) {
        code = remember(s, NULL, op->records[i], err);
        if (code == ERR_OK)
            note_changed(s, &op->super, op->records[i]);
    }
    if (code != ERR_OK)
        put_many_drop(op);
    return code;
}
