/* sqlite_record.c - records as rows: one table a kind, seven columns in common, the rest by kind.
 *
 * A record is bound and read column by column in the order of its column list; INSERT, UPDATE and SELECT are made from
 * that list. Rows are never deleted: what is deleted has the status. Columns that are only read here are written by
 * whoever notes them (sqlite_credential.c). */
#include "sqlite_conn.h"

#include <stdlib.h>

#include "daemon/base/failpoint.h"

enum { COMMON = 7, SQL_TEXT = 2048 }; /* columns in common; bytes of a statement made here */

static const struct shape {
    const char *table;
    const char *columns; /* beyond the common ones, comma-separated */
    const char *noted;   /* columns that are only read here, after the others, each with its comma */
} shapes[RECORD_KINDS] = {
    [RECORD_TENANT] = {"tenants", "timezone,credit_limit,price_book,markup_ppm,in_doubt,policy,limits,budgets", ""},
    [RECORD_CUSTOMER] = {"customers", "tenant,own_wallet,credit_limit,price_book,markup_ppm,policy,limits,budgets", ""},
    [RECORD_KEY] = {"keys",
                    "tenant,customer,digest,prefix,last4,test,expires_at,policy,limits,budgets,old_digest,old_until",
                    ",last_used_at"},
    [RECORD_CHANNEL] = {"channels",
                        "kind,base_url,credential,priority,weight,max_concurrency,timeout,cost_book,api_version", ""},
    [RECORD_BOOK] = {"price_books", "kind,tenant", ""},
    [RECORD_ADMIN_TOKEN] = {"admin_tokens", "tenant,role,digest,expires_at", ",last_used_at"},
};
static const char common[] = "row,id,version,status,created_at,name,external_id";

const char *sqlite_record_table(enum record_kind kind)
{
    return shapes[kind].table;
}

void sqlite_record_columns(enum record_kind kind, struct buf *out)
{
    buf_printf(out, "%s,%s%s", common, shapes[kind].columns, shapes[kind].noted);
}

/* ---- statements ---- */

static void write_insert(const struct shape *shape, struct buf *out)
{
    int n = COMMON + 1;

    for (const char *p = shape->columns; *p != '\0'; p++)
        n += *p == ',';
    buf_printf(out, "INSERT INTO %s (%s,%s) VALUES (", shape->table, common, shape->columns);
    for (int i = 1; i <= n; i++)
        buf_printf(out, "%s?%d", i > 1 ? "," : "", i);
    buf_append_str(out, ")");
}

static void write_update(const struct shape *shape, struct buf *out)
{
    struct slice rest, name;
    char all[SQL_TEXT];
    int place = 1;

    (void)snprintf(all, sizeof(all), "%s,%s", common, shape->columns);
    buf_printf(out, "UPDATE %s SET ", shape->table);
    rest = slice_from(all);
    (void)slice_cut(rest, ',', &name, &rest); /* row */
    while (rest.len > 0) {
        (void)slice_cut(rest, ',', &name, &rest);
        place++;
        buf_printf(out, "%s%.*s=?%d", place > 2 ? "," : "", (int)name.len, name.p, place);
    }
    buf_append_str(out, " WHERE row=?1");
}

static void write_select(const struct shape *shape, struct buf *out)
{
    buf_printf(out, "SELECT %s,%s%s FROM %s WHERE row=?1", common, shape->columns, shape->noted, shape->table);
}

static enum err_code statement(struct sqlite_conn *c, enum record_kind kind, int which, sqlite3_stmt **out,
                               struct err *err)
{
    static void (*const write[SQL_RECORD_STATEMENTS])(const struct shape *shape,
                                                      struct buf *out) = {write_insert, write_update, write_select};
    sqlite3_stmt **kept = &c->records[kind][which];
    enum err_code code = ERR_OK;
    struct buf text;

    if (*kept == NULL) {
        buf_init(&text, SQL_TEXT);
        write[which](&shapes[kind], &text);
        buf_append_char(&text, '\0');
        TG_ASSERT(!text.full);
        code = sqlite_prepare(c, text.p, kept, err);
        buf_dispose(&text);
    }
    *out = *kept;
    return code;
}

/* ---- writing ---- */

static int bind_common(sqlite3_stmt *s, const struct record *r)
{
    sqlite_bind_opt_number(s, 1, r->row);
    sqlite_bind_id(s, 2, &r->id);
    sqlite3_bind_int64(s, 3, r->version);
    sqlite3_bind_int(s, 4, (int)r->status);
    sqlite3_bind_int64(s, 5, r->created_at);
    sqlite3_bind_text(s, 6, r->name, -1, SQLITE_STATIC);
    sqlite_bind_opt_text(s, 7, r->external_id);
    return COMMON + 1;
}

static void bind_rules(sqlite3_stmt *s, int at, const char *policy, const char *limits, const char *budgets)
{
    sqlite_bind_opt_text(s, at, policy);
    sqlite_bind_opt_text(s, at + 1, limits);
    sqlite_bind_opt_text(s, at + 2, budgets);
}

static void bind_tenant(sqlite3_stmt *s, int at, const struct tenant *t)
{
    sqlite3_bind_text(s, at++, t->timezone, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, at++, t->credit_limit);
    sqlite_bind_opt_number(s, at++, t->book_row);
    sqlite3_bind_int64(s, at++, t->markup_ppm);
    if (t->in_doubt < 0)
        sqlite3_bind_null(s, at++);
    else
        sqlite3_bind_int(s, at++, t->in_doubt);
    bind_rules(s, at, t->policy, t->limits, t->budgets);
}

static void bind_customer(sqlite3_stmt *s, int at, const struct customer *c)
{
    sqlite3_bind_int64(s, at++, c->tenant_row);
    sqlite3_bind_int(s, at++, c->own_wallet);
    sqlite3_bind_int64(s, at++, c->credit_limit);
    sqlite_bind_opt_number(s, at++, c->book_row);
    sqlite3_bind_int64(s, at++, c->markup_ppm);
    bind_rules(s, at, c->policy, c->limits, c->budgets);
}

static void bind_key(sqlite3_stmt *s, int at, const struct api_key *k)
{
    sqlite3_bind_int64(s, at++, k->tenant_row);
    sqlite_bind_opt_number(s, at++, k->customer_row);
    sqlite3_bind_blob(s, at++, k->digest, SECRET_DIGEST, SQLITE_STATIC);
    sqlite3_bind_text(s, at++, k->prefix, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, at++, k->last4, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, at++, k->test);
    sqlite_bind_opt_number(s, at++, k->expires_at);
    bind_rules(s, at, k->policy, k->limits, k->budgets);
    at += 3;
    if (k->old_until != 0)
        sqlite3_bind_blob(s, at, k->old_digest, SECRET_DIGEST, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, at);
    sqlite_bind_opt_number(s, at + 1, k->old_until);
}

static void bind_channel(struct sqlite_conn *c, sqlite3_stmt *s, int at, const struct channel *channel)
{
    size_t len = channel->credential != NULL ? strlen(channel->credential) : 0;
    uint8_t sealed[LIMIT_CREDENTIAL + SECRET_SEAL_EXTRA];

    sqlite3_bind_int(s, at++, (int)channel->channel_kind);
    sqlite3_bind_text(s, at++, channel->base_url, -1, SQLITE_STATIC);
    if (len == 0) {
        sqlite3_bind_null(s, at++);
    } else {
        TG_ASSERT(len <= LIMIT_CREDENTIAL && c->secrets != NULL);
        secret_seal(c->secrets, channel->super.id, (const uint8_t *)channel->credential, len, sealed);
        sqlite3_bind_blob(s, at++, sealed, (int)(len + SECRET_SEAL_EXTRA), SQLITE_TRANSIENT);
    }
    sqlite3_bind_int64(s, at++, channel->priority);
    sqlite3_bind_int64(s, at++, channel->weight);
    sqlite3_bind_int64(s, at++, channel->max_concurrency);
    sqlite3_bind_int64(s, at++, channel->timeout);
    sqlite_bind_opt_number(s, at++, channel->cost_book_row);
    sqlite_bind_opt_text(s, at, channel->api_version);
}

static void bind_token(sqlite3_stmt *s, int at, const struct admin_token *t)
{
    sqlite_bind_opt_number(s, at++, t->tenant_row);
    sqlite3_bind_int(s, at++, (int)t->role);
    sqlite3_bind_blob(s, at++, t->digest, SECRET_DIGEST, SQLITE_STATIC);
    sqlite_bind_opt_number(s, at, t->expires_at);
}

static void bind_record(struct sqlite_conn *c, sqlite3_stmt *s, const struct record *r)
{
    int at = bind_common(s, r);

    switch (r->kind) {
    case RECORD_TENANT:
        bind_tenant(s, at, (const struct tenant *)r);
        break;
    case RECORD_CUSTOMER:
        bind_customer(s, at, (const struct customer *)r);
        break;
    case RECORD_KEY:
        bind_key(s, at, (const struct api_key *)r);
        break;
    case RECORD_CHANNEL:
        bind_channel(c, s, at, (const struct channel *)r);
        break;
    case RECORD_BOOK:
        sqlite3_bind_int(s, at, (int)((const struct book *)r)->prices->kind);
        sqlite_bind_opt_number(s, at + 1, ((const struct book *)r)->tenant_row);
        break;
    case RECORD_ADMIN_TOKEN:
        bind_token(s, at, (const struct admin_token *)r);
        break;
    case RECORD_KINDS:
        break;
    }
}

static enum err_code close_owned(struct sqlite_conn *c, const struct record *r, struct err *err)
{
    static const enum sql tenant[] = {SQL_CLOSE_TENANT_CUSTOMERS, SQL_CLOSE_TENANT_KEYS, SQL_CLOSE_TENANT_TOKENS,
                                      SQL_CLOSE_TENANT_BOOKS};
    static const enum sql customer[] = {SQL_CLOSE_CUSTOMER_KEYS};
    const enum sql *statements = r->kind == RECORD_TENANT ? tenant : customer;
    size_t n = r->kind == RECORD_TENANT ? sizeof(tenant) / sizeof(tenant[0]) : 1;
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        sqlite3_bind_int64(c->statements[statements[i]], 1, r->row);
        code = sqlite_run(c, c->statements[statements[i]], "Cannot close what a record owns", err);
    }
    return code;
}

/* A failed constraint as a refusal: which parameter is not unique, or names something that is not there. */
static enum err_code refuse_constraint(struct sqlite_conn *c, struct err *err)
{
    const char *why = sqlite3_errmsg(c->db);
    const char *param = NULL;

    if (sqlite3_extended_errcode(c->db) == SQLITE_CONSTRAINT_FOREIGNKEY)
        return err_set(err, ERR_CONFLICT, NULL, "The record names something that does not exist.");
    if (strstr(why, "effective_from") != NULL)
        param = "effective_from";
    else if (strstr(why, "external_id") != NULL)
        param = "external_id";
    else if (strstr(why, ".name") != NULL || strstr(why, "_name'") != NULL) /* a column; an index of expressions */
        param = "name";
    if (param == NULL)
        return err_set(err, ERR_CONFLICT, NULL, "The record exists already (%s).", why);
    return err_set(err, ERR_CONFLICT, param, "Invalid value for '%s': it is in use already.", param);
}

static enum err_code write_row(struct sqlite_conn *c, struct record *r, bool create, struct err *err)
{
    sqlite3_stmt *s;
    enum err_code code = statement(c, r->kind, create ? SQL_INSERT : SQL_UPDATE, &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    bind_record(c, s, r);
    rc = sqlite3_step(s);
    if (rc == SQLITE_DONE && create)
        r->row = sqlite3_last_insert_rowid(c->db);
    else if ((rc & 0xff) == SQLITE_CONSTRAINT)
        code = refuse_constraint(c, err);
    else if (rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot write a record", err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return code;
}

static enum err_code write_parts(struct sqlite_conn *c, struct record *r, struct err *err)
{
    enum err_code code = ERR_OK;

    if (r->kind == RECORD_CHANNEL)
        code = sqlite_put_channel_parts(c, (const struct channel *)r, err);
    else if (r->kind == RECORD_BOOK)
        code = sqlite_put_book_parts(c, (struct book *)r, err);
    else if (r->status == RECORD_DELETED && (r->kind == RECORD_TENANT || r->kind == RECORD_CUSTOMER))
        code = close_owned(c, r, err);
    if (code != ERR_OK && (sqlite3_errcode(c->db) & 0xff) == SQLITE_CONSTRAINT)
        code = refuse_constraint(c, err);
    return code;
}

enum err_code sqlite_put_record(struct sqlite_conn *c, struct record *r, struct err *err)
{
    bool create = r->row == 0;
    enum err_code code = sqlite_run(c, c->statements[SQL_SAVEPOINT], "Cannot write a record", err);

    if (code != ERR_OK)
        return code;
    code = write_row(c, r, create, err);
    if (code == ERR_OK)
        code = write_parts(c, r, err);
    if (code == ERR_OK)
        return sqlite_run(c, c->statements[SQL_RELEASE], "Cannot write a record", err);
    if (create)
        r->row = 0;
    if (code == ERR_CONFLICT &&
        (sqlite_run(c, c->statements[SQL_ROLLBACK_TO], "Cannot take a record back", err) != ERR_OK ||
         sqlite_run(c, c->statements[SQL_RELEASE], "Cannot take a record back", err) != ERR_OK))
        code = ERR_UNAVAILABLE;
    return code;
}

/* All rows or none. *failed: the place of the one that was refused. */
enum err_code sqlite_put_records(struct sqlite_conn *c, struct record **records, int n, int *failed, struct err *err)
{
    enum err_code code = sqlite_run(c, c->statements[SQL_SAVEPOINT_MANY], "Cannot write records", err);

    *failed = -1;
    for (int i = 0; code == ERR_OK && i < n; i++) {
        code = sqlite_put_record(c, records[i], err);
        if (code == ERR_OK)
            code = FAILPOINT_CODE(PUT_MANY_ROW, err);
        if (code != ERR_OK)
            *failed = i;
    }
    if (code == ERR_OK)
        return sqlite_run(c, c->statements[SQL_RELEASE_MANY], "Cannot write records", err);
    for (int i = 0; i < n; i++)
        records[i]->row = 0;
    if (code != ERR_UNAVAILABLE &&
        (sqlite_run(c, c->statements[SQL_ROLLBACK_TO_MANY], "Cannot take records back", err) != ERR_OK ||
         sqlite_run(c, c->statements[SQL_RELEASE_MANY], "Cannot take records back", err) != ERR_OK))
        code = ERR_UNAVAILABLE;
    return code;
}

/* ---- reading ---- */

static char *column_opt_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);

    return text != NULL ? mem_strdup(text) : NULL;
}

static void column_digest(sqlite3_stmt *s, int column, uint8_t out[SECRET_DIGEST])
{
    struct slice bytes = sqlite_column_slice(s, column);

    if (bytes.len == SECRET_DIGEST)
        memcpy(out, bytes.p, SECRET_DIGEST);
}

static void read_common(sqlite3_stmt *s, struct record *r)
{
    r->row = sqlite3_column_int64(s, 0);
    sqlite_column_id(s, 1, &r->id);
    r->version = sqlite3_column_int64(s, 2);
    r->status = (enum record_status)sqlite3_column_int(s, 3);
    r->created_at = sqlite3_column_int64(s, 4);
    sqlite_column_copy(s, 5, r->name, sizeof(r->name));
    sqlite_column_copy(s, 6, r->external_id, sizeof(r->external_id));
}

static struct record *read_tenant(sqlite3_stmt *s)
{
    struct tenant *t = record_create(RECORD_TENANT, 0);
    int at = COMMON;

    sqlite_column_copy(s, at++, t->timezone, sizeof(t->timezone));
    t->credit_limit = sqlite3_column_int64(s, at++);
    t->book_row = sqlite3_column_int64(s, at++);
    t->markup_ppm = sqlite3_column_int64(s, at++);
    t->in_doubt = sqlite3_column_type(s, at) == SQLITE_NULL ? -1 : sqlite3_column_int(s, at);
    at++;
    t->policy = column_opt_text(s, at++);
    t->limits = column_opt_text(s, at++);
    t->budgets = column_opt_text(s, at);
    return &t->super;
}

static struct record *read_customer(sqlite3_stmt *s)
{
    struct customer *c = record_create(RECORD_CUSTOMER, 0);
    int at = COMMON;

    c->tenant_row = sqlite3_column_int64(s, at++);
    c->own_wallet = sqlite3_column_int(s, at++) != 0;
    c->credit_limit = sqlite3_column_int64(s, at++);
    c->book_row = sqlite3_column_int64(s, at++);
    c->markup_ppm = sqlite3_column_int64(s, at++);
    c->policy = column_opt_text(s, at++);
    c->limits = column_opt_text(s, at++);
    c->budgets = column_opt_text(s, at);
    return &c->super;
}

static struct record *read_key(sqlite3_stmt *s)
{
    struct api_key *k = record_create(RECORD_KEY, 0);
    int at = COMMON;

    k->tenant_row = sqlite3_column_int64(s, at++);
    k->customer_row = sqlite3_column_int64(s, at++);
    column_digest(s, at++, k->digest);
    sqlite_column_copy(s, at++, k->prefix, sizeof(k->prefix));
    sqlite_column_copy(s, at++, k->last4, sizeof(k->last4));
    k->test = sqlite3_column_int(s, at++) != 0;
    k->expires_at = sqlite3_column_int64(s, at++);
    k->policy = column_opt_text(s, at++);
    k->limits = column_opt_text(s, at++);
    k->budgets = column_opt_text(s, at++);
    column_digest(s, at++, k->old_digest);
    k->old_until = sqlite3_column_int64(s, at++);
    k->last_used_at = sqlite3_column_int64(s, at);
    return &k->super;
}

static enum err_code read_credential(struct sqlite_conn *c, struct slice sealed, struct channel *channel,
                                     struct err *err)
{
    size_t len = sealed.len > SECRET_SEAL_EXTRA ? sealed.len - SECRET_SEAL_EXTRA : 0;

    channel->credential = secret_alloc(len + 1);
    channel->credential[len] = '\0';
    if (len == 0 || secret_unseal(c->secrets, channel->super.id, (const uint8_t *)sealed.p, sealed.len,
                                  (uint8_t *)channel->credential))
        return ERR_OK;
    return err_set(
        err, ERR_UNAVAILABLE, NULL,
        "The credential of channel '%s' cannot be unsealed: it was made with another master key, or altered.",
        channel->super.name);
}

static enum err_code read_channel(struct sqlite_conn *c, sqlite3_stmt *s, struct record **out, struct err *err)
{
    struct channel *channel;
    int at = COMMON;
    enum err_code code = sqlite_read_channel(c, sqlite3_column_int64(s, 0), &channel, err);

    if (code != ERR_OK)
        return code;
    read_common(s, &channel->super);
    channel->channel_kind = (enum channel_kind)sqlite3_column_int(s, at++);
    sqlite_column_copy(s, at++, channel->base_url, sizeof(channel->base_url));
    code = read_credential(c, sqlite_column_slice(s, at++), channel, err);
    channel->priority = sqlite3_column_int64(s, at++);
    channel->weight = sqlite3_column_int64(s, at++);
    channel->max_concurrency = sqlite3_column_int64(s, at++);
    channel->timeout = sqlite3_column_int64(s, at++);
    channel->cost_book_row = sqlite3_column_int64(s, at++);
    sqlite_column_copy(s, at, channel->api_version, sizeof(channel->api_version));
    if (code == ERR_OK)
        *out = &channel->super;
    else
        record_unref(channel);
    return code;
}

static enum err_code read_book(struct sqlite_conn *c, sqlite3_stmt *s, struct record **out, struct err *err)
{
    struct price_book *prices;
    struct book *book;
    enum err_code code = sqlite_read_book(c, sqlite3_column_int64(s, 0), &prices, err);

    if (code != ERR_OK)
        return code;
    book = record_create(RECORD_BOOK, 0);
    book->prices = prices;
    read_common(s, &book->super);
    prices->row = book->super.row;
    prices->id = book->super.id;
    memcpy(prices->name, book->super.name, sizeof(prices->name));
    prices->kind = (enum price_kind)sqlite3_column_int(s, COMMON);
    book->tenant_row = sqlite3_column_int64(s, COMMON + 1);
    prices->created_at = book->super.created_at;
    *out = &book->super;
    return ERR_OK;
}

static struct record *read_token(sqlite3_stmt *s)
{
    struct admin_token *t = record_create(RECORD_ADMIN_TOKEN, 0);
    int at = COMMON;

    t->tenant_row = sqlite3_column_int64(s, at++);
    t->role = (enum admin_role)sqlite3_column_int(s, at++);
    column_digest(s, at++, t->digest);
    t->expires_at = sqlite3_column_int64(s, at++);
    t->last_used_at = sqlite3_column_int64(s, at);
    return &t->super;
}

enum err_code sqlite_read_record(struct sqlite_conn *c, enum record_kind kind, sqlite3_stmt *s, struct record **out,
                                 struct err *err)
{
    switch (kind) {
    case RECORD_TENANT:
        *out = read_tenant(s);
        break;
    case RECORD_CUSTOMER:
        *out = read_customer(s);
        break;
    case RECORD_KEY:
        *out = read_key(s);
        break;
    case RECORD_CHANNEL:
        return read_channel(c, s, out, err);
    case RECORD_BOOK:
        return read_book(c, s, out, err);
    case RECORD_ADMIN_TOKEN:
        *out = read_token(s);
        break;
    case RECORD_KINDS:
        return err_set(err, ERR_INTERNAL, NULL, "No such kind of record.");
    }
    read_common(s, *out);
    return ERR_OK;
}

enum err_code sqlite_find_record(struct sqlite_conn *c, enum record_kind kind, int64_t row, struct record **out,
                                 struct err *err)
{
    sqlite3_stmt *s;
    enum err_code code = statement(c, kind, SQL_SELECT, &s, err);
    int rc;

    if (code != ERR_OK)
        return code;
    sqlite3_bind_int64(s, 1, row);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW)
        code = sqlite_read_record(c, kind, s, out, err);
    else if (rc == SQLITE_DONE)
        code = err_set(err, ERR_NOT_FOUND, NULL, "No such %s.", record_object(kind));
    else
        code = sqlite_error(c, "Cannot read a record", err);
    sqlite3_reset(s);
    return code;
}

static enum err_code load_kind(struct sqlite_conn *c, enum record_kind kind,
                               void (*fn)(void *ctx, struct record *record), void *ctx, struct err *err)
{
    struct record *record;
    sqlite3_stmt *s = NULL;
    struct buf text;
    enum err_code code;
    int rc;

    buf_init(&text, SQL_TEXT);
    buf_append_str(&text, "SELECT ");
    sqlite_record_columns(kind, &text);
    buf_printf(&text, " FROM %s WHERE status NOT IN (%d, %d) ORDER BY row", shapes[kind].table, RECORD_REVOKED,
               RECORD_DELETED);
    buf_append_char(&text, '\0');
    code = sqlite_prepare(c, text.p, &s, err);
    buf_dispose(&text);
    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        code = rc == SQLITE_ROW ? sqlite_read_record(c, kind, s, &record, err)
                                : sqlite_error(c, "Cannot load records", err);
        if (code == ERR_OK)
            fn(ctx, record);
    }
    sqlite3_finalize(s);
    return code;
}

enum err_code sqlite_load_records(struct sqlite_conn *c, void (*fn)(void *ctx, struct record *record), void *ctx,
                                  struct err *err)
{
    static const enum record_kind order[] = {RECORD_BOOK, RECORD_TENANT, RECORD_CHANNEL, RECORD_CUSTOMER,
                                             RECORD_ADMIN_TOKEN};
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < sizeof(order) / sizeof(order[0]); i++)
        code = load_kind(c, order[i], fn, ctx, err);
    return code;
}
