/* sqlite_effects.c - writes what a batch left: every account and roll-up once, narrow rows for the rest.
 *
 * Inside the writer's transaction. Bound texts and blobs are borrowed until the statement's reset, which sqlite_run
 * does. */
#include "sqlite_conn.h"

#include "daemon/base/failpoint.h"

enum { PACKED_PREFIX = 4, PACKED_HEX = 32 }; /* "req_" and 32 hex digits */

static enum err_code put_items(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_ITEM];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_items; i++) {
        const struct item *item = e->items[i];

        if (FAILPOINT(ITEM_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, item->row);
        sqlite3_bind_text(s, 2, item->model, -1, SQLITE_STATIC);
        sqlite3_bind_int(s, 3, (int)item->operation);
        sqlite3_bind_text(s, 4, item->size, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 5, item->quality, -1, SQLITE_STATIC);
        code = sqlite_run(c, s, "Cannot write an item", err);
    }
    return code;
}

static enum err_code put_accounts(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_ACCOUNT];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_accounts; i++) {
        const struct account *account = e->accounts[i];

        if (FAILPOINT(ACCOUNT_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, account->number);
        sqlite3_bind_int64(s, 2, account->posted);
        sqlite3_bind_int64(s, 3, account->held);
        code = sqlite_run(c, s, "Cannot write an account", err);
    }
    return code;
}

/* The lot that bears a whole leg; 0: none; SPLIT_LEG: several do. */
static int64_t lot_of_leg(const struct pins *pins)
{
    if (pins->n > 1)
        return SPLIT_LEG;
    return pins->n == 1 && pins->one.lot != NULL ? pins->one.lot->seq : 0;
}

static enum err_code put_pins(struct sqlite_conn *c, const struct hold *h, int leg, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_PIN];
    const struct pins *pins = &h->pins[leg];
    enum err_code code = ERR_OK;

    for (int i = 0; code == ERR_OK && pins->n > 1 && i < pins->n; i++) {
        if (FAILPOINT(PIN_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, h->slot);
        sqlite3_bind_int(s, 2, leg);
        sqlite3_bind_int(s, 3, i);
        sqlite3_bind_int64(s, 4, pins->many[i].lot != NULL ? pins->many[i].lot->seq : 0);
        sqlite3_bind_int64(s, 5, pins->many[i].amount);
        code = sqlite_run(c, s, "Cannot write a hold's lots", err);
    }
    return code;
}

static enum err_code put_hold(struct sqlite_conn *c, const struct hold *h, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_HOLD];
    const int64_t numbers[] = {h->epoch,
                               h->state,
                               h->tenant_row,
                               h->customer_row,
                               h->key_row,
                               h->channel_row,
                               h->item,
                               h->n,
                               (h->stream ? 1 : 0) | (h->test ? 2 : 0),
                               h->n_legs,
                               h->legs[0],
                               h->legs[1],
                               h->cost_max,
                               h->wholesale_max,
                               h->retail_max,
                               h->version_cost,
                               h->version_wholesale,
                               h->version_retail,
                               h->rule,
                               h->created_at,
                               h->call_key,
                               lot_of_leg(&h->pins[0]),
                               lot_of_leg(&h->pins[1])};
    enum err_code code;

    if (FAILPOINT(HOLD_ROW))
        return FAILPOINT_ERROR(err);
    sqlite3_bind_int64(s, 1, h->slot);
    sqlite_bind_id(s, 2, &h->id);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        sqlite3_bind_int64(s, 3 + (int)i, numbers[i]);
    code = sqlite_run(c, s, "Cannot write a hold", err);
    for (int leg = 0; code == ERR_OK && leg < STORE_LEGS; leg++)
        code = put_pins(c, h, leg, err);
    return code;
}

static enum err_code put_holds(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_unpinned; i++) {
        if (FAILPOINT(PIN_DROP))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(c->statements[SQL_DROP_PINS], 1, e->unpinned[i]);
        code = sqlite_run(c, c->statements[SQL_DROP_PINS], "Cannot drop a hold's lots", err);
    }
    for (size_t i = 0; code == ERR_OK && i < e->n_dropped; i++) {
        if (FAILPOINT(HOLD_DROP))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(c->statements[SQL_DROP_HOLD], 1, e->dropped[i]);
        code = sqlite_run(c, c->statements[SQL_DROP_HOLD], "Cannot drop a hold", err);
    }
    for (size_t i = 0; code == ERR_OK && i < e->n_holds; i++)
        code = put_hold(c, e->holds[i], err);
    return code;
}

static int hex_digit(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* OpenAI's own form is 36 characters of which 16 bytes say everything. */
static bool pack_upstream_id(const char *text, uint8_t out[PACKED_HEX / 2])
{
    if (strlen(text) != PACKED_PREFIX + PACKED_HEX || memcmp(text, "req_", PACKED_PREFIX) != 0)
        return false;
    text += PACKED_PREFIX;
    for (int i = 0; i < PACKED_HEX / 2; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static enum err_code put_usage(struct sqlite_conn *c, const struct usage_row *row, struct err *err)
{
    const struct usage_record *u = row->record;
    sqlite3_stmt *s = c->statements[SQL_PUT_USAGE];
    uint8_t packed[PACKED_HEX / 2];
    int at = 1;

    if (FAILPOINT(USAGE_ROW))
        return FAILPOINT_ERROR(err);
    sqlite3_bind_int64(s, at++, u->seq);
    sqlite_bind_id(s, at++, &u->request);
    sqlite3_bind_int64(s, at++, u->call.tenant_row);
    sqlite3_bind_int64(s, at++, u->call.customer_row);
    sqlite3_bind_int64(s, at++, u->call.key_row);
    sqlite3_bind_int64(s, at++, u->call.channel_row);
    sqlite3_bind_int64(s, at++, row->item);
    sqlite3_bind_int(s, at++, u->call.n);
    sqlite3_bind_int(s, at++, u->images);
    sqlite3_bind_int(s, at++, u->partial_images);
    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        sqlite3_bind_int64(s, at++, u->quantities.of[i]);
    sqlite3_bind_int64(s, at++, u->cost);
    sqlite3_bind_int64(s, at++, u->wholesale);
    if (u->retail == u->wholesale)
        sqlite3_bind_null(s, at++);
    else
        sqlite3_bind_int64(s, at++, u->retail);
    sqlite3_bind_int64(s, at++, u->refunded);
    sqlite3_bind_int64(s, at++,
                       (int64_t)u->flags | (u->call.stream ? USAGE_ROW_STREAM : 0) |
                           (row->own_wallet ? USAGE_ROW_OWN_WALLET : 0));
    if (u->status == 200)
        sqlite3_bind_null(s, at++);
    else
        sqlite3_bind_int(s, at++, u->status);
    sqlite3_bind_int64(s, at++, u->duration_ms);
    sqlite3_bind_int64(s, at++, u->duration_ms - u->upstream_ms);
    if (pack_upstream_id(u->upstream_request_id, packed))
        sqlite3_bind_blob(s, at++, packed, sizeof(packed), SQLITE_STATIC);
    else
        sqlite_bind_opt_text(s, at++, u->upstream_request_id);
    sqlite3_bind_int64(s, at++, u->created_at / 1000);
    return sqlite_run(c, s, "Cannot write a usage record", err);
}

static enum err_code put_transfers(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_TRANSFER];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_transfers; i++) {
        const struct transfer_row *t = &e->transfers[i];

        if (FAILPOINT(TRANSFER_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, t->number);
        sqlite3_bind_int(s, 2, (int)t->kind);
        sqlite3_bind_int64(s, 3, t->debit);
        sqlite3_bind_int64(s, 4, t->credit);
        sqlite3_bind_int64(s, 5, t->amount);
        sqlite3_bind_int64(s, 6, t->lot);
        code = sqlite_run(c, s, "Cannot write a transfer", err);
    }
    return code;
}

static enum err_code put_grants(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_GRANT];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_grants; i++) {
        const struct grant_row *g = &e->grants[i];

        if (FAILPOINT(GRANT_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, g->seq);
        sqlite3_bind_int64(s, 2, g->wallet);
        sqlite3_bind_int64(s, 3, g->credit->amount);
        sqlite3_bind_int(s, 4, (int)g->credit->category);
        sqlite3_bind_int(s, 5, g->credit->priority);
        sqlite_bind_opt_number(s, 6, g->credit->expires_at);
        sqlite_bind_opt_text(s, 7, g->credit->note);
        sqlite3_bind_int64(s, 8, g->created_at / 1000);
        code = sqlite_run(c, s, "Cannot write a grant", err);
    }
    return code;
}

static enum err_code put_lots(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_LOT];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_lots; i++) {
        if (FAILPOINT(LOT_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, e->lots[i]->seq);
        sqlite3_bind_int64(s, 2, e->lots[i]->remaining);
        sqlite3_bind_int(s, 3, (int)e->lots[i]->status);
        code = sqlite_run(c, s, "Cannot write a lot", err);
    }
    return code;
}

static enum err_code put_entries(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_ENTRY];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_entries; i++) {
        const struct entry_row *row = &e->entries[i];

        if (FAILPOINT(ENTRY_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, row->seq);
        sqlite3_bind_int(s, 2, (int)row->kind);
        sqlite3_bind_int64(s, 3, row->wallet);
        sqlite3_bind_int64(s, 4, row->reference);
        sqlite3_bind_int64(s, 5, row->amount);
        sqlite_bind_opt_text(s, 6, row->note);
        sqlite3_bind_int64(s, 7, e->now / 1000);
        code = sqlite_run(c, s, "Cannot write an entry", err);
    }
    s = c->statements[SQL_PUT_REFUNDED];
    for (size_t i = 0; code == ERR_OK && i < e->n_refunds; i++) {
        if (FAILPOINT(REFUNDED_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, e->refunds[i].seq);
        sqlite3_bind_int64(s, 2, e->refunds[i].refunded);
        code = sqlite_run(c, s, "Cannot write a refund", err);
    }
    return code;
}

static enum err_code put_cells(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_DROP_CELLS];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_cell_drops; i++) {
        if (FAILPOINT(CELL_DROP))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, e->cell_drops[i].owner);
        sqlite3_bind_int64(s, 2, e->cell_drops[i].window);
        code = sqlite_run(c, s, "Cannot drop a budget", err);
    }
    s = c->statements[SQL_PUT_CELL];
    for (size_t i = 0; code == ERR_OK && i < e->n_cells; i++) {
        const struct cell_row *row = &e->cells[i];

        if (FAILPOINT(CELL_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, row->owner);
        sqlite3_bind_int64(s, 2, row->window);
        sqlite3_bind_int(s, 3, row->place);
        sqlite3_bind_int64(s, 4, row->cell->begin);
        sqlite3_bind_int64(s, 5, row->cell->end);
        sqlite3_bind_int64(s, 6, row->cell->used);
        sqlite3_bind_int(s, 7, row->cell->estimated);
        code = sqlite_run(c, s, "Cannot write a budget", err);
    }
    return code;
}

static enum err_code put_links(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_LINK];
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < e->n_links; i++) {
        if (FAILPOINT(LINK_ROW))
            return FAILPOINT_ERROR(err);
        sqlite3_bind_int64(s, 1, e->links[i].place);
        sqlite3_bind_int64(s, 2, e->links[i].last);
        sqlite3_bind_blob(s, 3, e->links[i].hash, CHAIN_HASH, SQLITE_STATIC);
        code = sqlite_run(c, s, "Cannot write the chain", err);
    }
    return code;
}

static enum err_code add_rollup(struct sqlite_conn *c, const struct rollup *r, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_ADD_ROLLUP];
    const int64_t key[] = {r->key.minute / ROLLUP_QUARTER,
                           r->key.tenant_row,
                           r->key.minute % ROLLUP_QUARTER,
                           r->key.customer_row,
                           r->key.key_row,
                           r->key.item,
                           r->key.channel_row};
    enum err_code code;
    int at = 1;

    if (FAILPOINT(ROLLUP_ROW))
        return FAILPOINT_ERROR(err);
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++)
        sqlite3_bind_int64(s, at++, key[i]);
    for (int i = 0; i < ROLLUP_SUMS; i++)
        sqlite3_bind_int64(s, at++, r->sums[i]);
    code = sqlite_run(c, s, "Cannot write a roll-up", err);
    return code == ERR_OK ? sqlite_fold_late(c, r, err) : code;
}

enum err_code sqlite_put_effects(struct sqlite_conn *c, const struct effects *e, struct err *err)
{
    enum err_code code = put_items(c, e, err);

    if (code == ERR_OK)
        code = put_accounts(c, e, err);
    if (code == ERR_OK)
        code = put_holds(c, e, err);
    if (code == ERR_OK && e->clock_step != 0) {
        sqlite3_bind_int64(c->statements[SQL_PUT_CLOCK_STEP], 1, e->clock_step);
        code = sqlite_run(c, c->statements[SQL_PUT_CLOCK_STEP], "Cannot write a clock step", err);
    }
    for (size_t i = 0; code == ERR_OK && i < e->n_usage; i++)
        code = put_usage(c, &e->usage[i], err);
    if (code == ERR_OK)
        code = put_transfers(c, e, err);
    if (code == ERR_OK)
        code = put_grants(c, e, err);
    if (code == ERR_OK)
        code = put_lots(c, e, err);
    if (code == ERR_OK)
        code = put_entries(c, e, err);
    if (code == ERR_OK)
        code = put_cells(c, e, err);
    if (code == ERR_OK)
        code = put_links(c, e, err);
    for (size_t i = 0; code == ERR_OK && i < e->n_rollups; i++)
        code = add_rollup(c, &e->rollups[i], err);
    return code;
}
