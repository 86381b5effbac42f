/* sqlite_names.c - ids and names behind the row numbers of usage records, remembered by a reader's connection.
 *
 * Ids of tenants, customers and keys never change, nor does what an item stands for: so each is looked up once and kept
 * in a slot that its row number chooses, until another row takes the slot. Channels can be renamed: theirs are
 * forgotten at the begin of every read transaction (sqlite_names_begin). A writer looks up single records and keeps
 * nothing. One thread a connection. */
#include "sqlite_conn.h"

#include <stdlib.h>

enum { TENANT_SLOTS = 1024, CUSTOMER_SLOTS = 4096, KEY_SLOTS = 16384, ITEM_SLOTS = 512, CHANNEL_SLOTS = 64 };

struct named_row {
    int64_t row; /* 0: the slot is free */
    struct id id;
};

struct named_channel {
    struct named_row super;
    char name[LIMIT_NAME];
};

struct named_item {
    int64_t row;
    struct sqlite_item item;
};

struct sqlite_names {
    struct named_row tenants[TENANT_SLOTS], customers[CUSTOMER_SLOTS], keys[KEY_SLOTS];
    struct named_channel channels[CHANNEL_SLOTS];
    struct named_item items[ITEM_SLOTS];
};

static struct sqlite_names *names_of(struct sqlite_conn *c)
{
    if (c->names == NULL)
        c->names = mem_zalloc(sizeof(*c->names));
    return c->names;
}

void sqlite_names_begin(struct sqlite_conn *c)
{
    if (c->names != NULL)
        memset(c->names->channels, 0, sizeof(c->names->channels));
}

void sqlite_names_dispose(struct sqlite_conn *c)
{
    free(c->names);
    c->names = NULL;
}

static enum err_code look_up(struct sqlite_conn *c, enum sql which, int64_t row, struct named_channel *out,
                             struct err *err)
{
    sqlite3_stmt *s = c->statements[which];
    int rc;

    memset(&out->super.id, 0, sizeof(out->super.id));
    out->name[0] = '\0';
    sqlite3_bind_int64(s, 1, row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        sqlite_column_id(s, 0, &out->super.id);
    if (rc == SQLITE_ROW && which == SQL_GET_CHANNEL_NAME)
        sqlite_column_copy(s, 1, out->name, sizeof(out->name));
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read a name", err);
}

/* From its slot, or from the table. */
static enum err_code find_id(struct sqlite_conn *c, enum sql which, struct named_row *slot, int64_t row, struct id *out,
                             struct err *err)
{
    struct named_channel found;
    enum err_code code;

    if (slot != NULL && slot->row == row) {
        *out = slot->id;
        return ERR_OK;
    }
    code = look_up(c, which, row, &found, err);
    if (code != ERR_OK)
        return code;
    *out = found.super.id;
    if (slot != NULL && !id_is_zero(*out))
        *slot = (struct named_row){row, *out};
    return ERR_OK;
}

enum err_code sqlite_row_id(struct sqlite_conn *c, enum record_kind kind, int64_t row, struct id *out, struct err *err)
{
    struct sqlite_names *names = c->writer ? NULL : names_of(c);
    uint64_t at = (uint64_t)row;

    if (row == 0) {
        memset(out, 0, sizeof(*out));
        return ERR_OK;
    }
    if (kind == RECORD_TENANT)
        return find_id(c, SQL_GET_TENANT_ID, names != NULL ? &names->tenants[at % TENANT_SLOTS] : NULL, row, out, err);
    if (kind == RECORD_CUSTOMER)
        return find_id(c, SQL_GET_CUSTOMER_ID, names != NULL ? &names->customers[at % CUSTOMER_SLOTS] : NULL, row, out,
                       err);
    TG_ASSERT(kind == RECORD_KEY);
    return find_id(c, SQL_GET_KEY_ID, names != NULL ? &names->keys[at % KEY_SLOTS] : NULL, row, out, err);
}

enum err_code sqlite_channel_name(struct sqlite_conn *c, int64_t row, struct id *id, char name[LIMIT_NAME],
                                  struct err *err)
{
    struct named_channel *slot = c->writer ? NULL : &names_of(c)->channels[(uint64_t)row % CHANNEL_SLOTS], found;
    enum err_code code = ERR_OK;

    memset(&found, 0, sizeof(found));
    if (row != 0 && slot != NULL && slot->super.row == row)
        found = *slot;
    else if (row != 0)
        code = look_up(c, SQL_GET_CHANNEL_NAME, row, &found, err);
    *id = found.super.id;
    memcpy(name, found.name, LIMIT_NAME);
    found.super.row = row;
    if (code == ERR_OK && slot != NULL && row != 0)
        *slot = found;
    return code;
}

static void read_item(sqlite3_stmt *s, struct sqlite_item *out)
{
    sqlite_column_copy(s, 0, out->model, sizeof(out->model));
    out->operation = (enum image_operation)sqlite3_column_int(s, 1);
    sqlite_column_copy(s, 2, out->size, sizeof(out->size));
    sqlite_column_copy(s, 3, out->quality, sizeof(out->quality));
}

enum err_code sqlite_find_item(struct sqlite_conn *c, int64_t row, struct sqlite_item *out, struct err *err)
{
    struct named_item *slot = c->writer ? NULL : &names_of(c)->items[(uint64_t)row % ITEM_SLOTS];
    sqlite3_stmt *s = c->statements[SQL_GET_ITEM];
    int rc;

    if (slot != NULL && slot->row == row) {
        *out = slot->item;
        return ERR_OK;
    }
    memset(out, 0, sizeof(*out));
    sqlite3_bind_int64(s, 1, row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        read_item(s, out);
    sqlite3_reset(s);
    if (rc == SQLITE_ROW && slot != NULL)
        *slot = (struct named_item){row, *out};
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read an item", err);
}
