/* budgets.c - from records to the ledger's budgets: whose they are, in which time zone. The writer's thread
 * (store_open's before it starts). */
#include "store_state.h"

#include <stdlib.h>

#include "daemon/base/log.h"

/* ---- time zones ---- */

void zones_dispose(struct zone_shelf *zones)
{
    for (size_t i = 0; i < zones->n; i++)
        zone_unref(zones->at[i].zone);
    free(zones->at);
    *zones = (struct zone_shelf){NULL, 0};
}

/* Borrowed. A zone that the machine's database has no more is taken as UTC, loudly: the ledger must go on. */
static struct zone *zone_named(struct store *s, const char *name)
{
    struct zone_shelf *zones = &s->zones;
    struct named_zone *named;
    struct err err;

    for (size_t i = 0; i < zones->n; i++)
        if (strcmp(zones->at[i].name, name) == 0)
            return zones->at[i].zone;
    zones->at = mem_realloc(zones->at, (zones->n + 1) * sizeof(zones->at[0]));
    named = &zones->at[zones->n];
    (void)slice_copy(slice_from(name), named->name, sizeof(named->name));
    if (zone_open(name, &named->zone, &err) != ERR_OK) {
        enum err_code code = zone_open("UTC", &named->zone, NULL);

        TG_ASSERT(code == ERR_OK);
        LOG(LOG_ZONE_MISSING, LOG_F_STR("zone", name), LOG_F_STR("why", err.message));
    }
    zones->n++;
    return named->zone;
}

/* ---- owners ---- */

static const char *owner_of(const struct record *record, struct budget_owner *owner)
{
    *owner = (struct budget_owner){.row = record->row};
    switch (record->kind) {
    case RECORD_TENANT:
        owner->kind = BUDGET_TENANT;
        owner->tenant_row = record->row;
        return ((const struct tenant *)record)->budgets;
    case RECORD_CUSTOMER:
        owner->kind = BUDGET_CUSTOMER;
        owner->tenant_row = ((const struct customer *)record)->tenant_row;
        owner->retail = true;
        return ((const struct customer *)record)->budgets;
    case RECORD_KEY:
        owner->kind = BUDGET_KEY;
        owner->tenant_row = ((const struct api_key *)record)->tenant_row;
        owner->retail = ((const struct api_key *)record)->customer_row != 0;
        return ((const struct api_key *)record)->budgets;
    case RECORD_CHANNEL:
    case RECORD_BOOK:
    case RECORD_ADMIN_TOKEN:
    case RECORD_KINDS:
        break;
    }
    return NULL;
}

enum err_code budgets_check_record(const struct record *record, struct err *err)
{
    struct budget_owner owner;
    const char *text = owner_of(record, &owner);
    struct budget_list list;

    return text != NULL ? budget_list_parse("budgets", slice_from(text), &list, err) : ERR_OK;
}

static enum err_code set_budgets(struct store *s, const struct record *record, struct err *err)
{
    struct budget_owner owner;
    const char *text = owner_of(record, &owner);
    bool live = record->status != RECORD_DELETED && record->status != RECORD_REVOKED;
    const struct tenant *tenant;
    struct budget_list list = {.n = 0};
    enum err_code code = ERR_OK;

    if (live && text != NULL)
        code = budget_list_parse("budgets", slice_from(text), &list, err);
    if (code != ERR_OK)
        return code;
    tenant = record->kind == RECORD_TENANT
                 ? (const struct tenant *)record
                 : (const struct tenant *)directory_get(&s->directory, RECORD_TENANT, owner.tenant_row);
    return ledger_set_budgets(s->ledger, &owner, &list, zone_named(s, tenant != NULL ? tenant->timezone : "UTC"), err);
}

/* ---- keys: the store has them ---- */

static enum err_code set_key_budgets(void *ctx, const struct api_key *key, struct err *err)
{
    return set_budgets(ctx, &key->super, err);
}

enum err_code load_key_budgets(struct store *s, struct err *err)
{
    return s->engine->class->budget_keys(s->engine, 0, 0, set_key_budgets, s, err);
}

static enum err_code forget_one(void *ctx, const struct api_key *key, struct err *err)
{
    static const struct budget_list none;
    const struct budget_owner owner = {.kind = BUDGET_KEY, .row = key->super.row};
    struct store *s = ctx;

    return ledger_set_budgets(s->ledger, &owner, &none, NULL, err);
}

enum err_code forget_key_budgets(struct store *s, const struct record *owner, struct err *err)
{
    bool customer = owner->kind == RECORD_CUSTOMER;

    return s->engine->class->budget_keys(s->engine,
                                         customer ? ((const struct customer *)owner)->tenant_row : owner->row,
                                         customer ? owner->row : 0, forget_one, s, err);
}

/* ---- a change ---- */

static bool is_owned(const struct record *record, int64_t tenant_row)
{
    struct budget_owner owner;

    return owner_of(record, &owner) != NULL && owner.tenant_row == tenant_row;
}

/* The days of a tenant are those of its customers and keys. */
static enum err_code turn_owned(struct store *s, const struct record *tenant, struct err *err)
{
    const struct shelf *shelf = &s->directory.shelves[RECORD_CUSTOMER];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < shelf->n; i++)
        if (is_owned(shelf->at[i], tenant->row))
            code = set_budgets(s, shelf->at[i], err);
    if (code == ERR_OK)
        code = s->engine->class->budget_keys(s->engine, tenant->row, 0, set_key_budgets, s, err);
    return code;
}

enum err_code put_budgets(struct store *s, const struct record *record, const struct record *before, struct err *err)
{
    enum err_code code = ERR_OK;

    if (record->kind == RECORD_TENANT || record->kind == RECORD_CUSTOMER || record->kind == RECORD_KEY)
        code = set_budgets(s, record, err);
    if (code == ERR_OK && record->kind == RECORD_TENANT && before != NULL && record->status != RECORD_DELETED &&
        strcmp(((const struct tenant *)record)->timezone, ((const struct tenant *)before)->timezone) != 0)
        code = turn_owned(s, record, err);
    return code;
}
