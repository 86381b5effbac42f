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

static bool is_owned(const struct record *record, int64_t tenant_row)
{
    struct budget_owner owner;

    return owner_of(record, &owner) != NULL && owner.tenant_row == tenant_row;
}

enum err_code put_budgets(struct store *s, const struct record *record, struct err *err)
{
    static const enum record_kind kinds[] = {RECORD_CUSTOMER, RECORD_KEY};
    enum err_code code = ERR_OK;

    if (record->kind == RECORD_TENANT || record->kind == RECORD_CUSTOMER || record->kind == RECORD_KEY)
        code = set_budgets(s, record, err);
    for (size_t k = 0; record->kind == RECORD_TENANT && s->started && k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        const struct shelf *shelf = &s->directory.shelves[kinds[k]];

        for (size_t i = 0; code == ERR_OK && i < shelf->n; i++)
            if (is_owned(shelf->at[i], record->row))
                code = set_budgets(s, shelf->at[i], err);
    }
    return code;
}
