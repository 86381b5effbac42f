/* sqlite_channel.c - the tables around two records: a channel's models and tenants, a price book's versions and rates.
 *
 * Channels are replaced whole; versions are immutable, so a book's put writes only versions that have no row yet. */
#include "sqlite_conn.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

/* ---- channels ---- */

static enum err_code put_models(struct sqlite_conn *c, const struct channel *channel, struct err *err)
{
    sqlite3_stmt *drop = c->statements[SQL_DROP_CHANNEL_MODELS], *put = c->statements[SQL_PUT_CHANNEL_MODEL];
    enum err_code code;

    sqlite3_bind_int64(drop, 1, channel->super.row);
    code = sqlite_run(c, drop, "Cannot replace a channel's models", err);
    for (int i = 0; code == ERR_OK && i < channel->n_models; i++) {
        sqlite3_bind_int64(put, 1, channel->super.row);
        sqlite3_bind_int(put, 2, i);
        sqlite3_bind_text(put, 3, channel->models[i].name, -1, SQLITE_STATIC);
        sqlite3_bind_text(put, 4, channel->models[i].upstream, -1, SQLITE_STATIC);
        code = sqlite_run(c, put, "Cannot write a channel's model", err);
    }
    return code;
}

static enum err_code put_tenants(struct sqlite_conn *c, const struct channel *channel, struct err *err)
{
    sqlite3_stmt *drop = c->statements[SQL_DROP_CHANNEL_TENANTS], *put = c->statements[SQL_PUT_CHANNEL_TENANT];
    enum err_code code;

    sqlite3_bind_int64(drop, 1, channel->super.row);
    code = sqlite_run(c, drop, "Cannot replace a channel's tenants", err);
    for (int i = 0; code == ERR_OK && i < channel->n_tenants; i++) {
        sqlite3_bind_int64(put, 1, channel->super.row);
        sqlite3_bind_int(put, 2, i);
        sqlite3_bind_int64(put, 3, channel->tenant_rows[i]);
        code = sqlite_run(c, put, "Cannot write a channel's tenant", err);
    }
    return code;
}

enum err_code sqlite_put_channel_parts(struct sqlite_conn *c, const struct channel *channel, struct err *err)
{
    enum err_code code = put_models(c, channel, err);

    return code == ERR_OK ? put_tenants(c, channel, err) : code;
}

static enum err_code read_tenants(struct sqlite_conn *c, int64_t row, struct channel *channel, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_CHANNEL_TENANTS];
    enum err_code code = ERR_OK;
    int rc;

    sqlite3_bind_int64(s, 1, row);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        channel->tenant_rows =
            mem_realloc(channel->tenant_rows, ((size_t)channel->n_tenants + 1) * sizeof(channel->tenant_rows[0]));
        channel->tenant_rows[channel->n_tenants++] = sqlite3_column_int64(s, 0);
    }
    if (rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read a channel's tenants", err);
    sqlite3_reset(s);
    return code;
}

enum err_code sqlite_read_channel(struct sqlite_conn *c, int64_t row, struct channel **out, struct err *err)
{
    struct channel_model models[LIMIT_CHANNEL_MODELS];
    sqlite3_stmt *s = c->statements[SQL_GET_CHANNEL_MODELS];
    struct channel *channel;
    enum err_code code = ERR_OK;
    int n = 0, rc;

    sqlite3_bind_int64(s, 1, row);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && n < LIMIT_CHANNEL_MODELS) {
        sqlite_column_copy(s, 0, models[n].name, sizeof(models[n].name));
        sqlite_column_copy(s, 1, models[n].upstream, sizeof(models[n].upstream));
        n++;
    }
    if (rc != SQLITE_DONE && rc != SQLITE_ROW)
        code = sqlite_error(c, "Cannot read a channel's models", err);
    sqlite3_reset(s);
    if (code != ERR_OK)
        return code;
    channel = record_create(RECORD_CHANNEL, (size_t)n * sizeof(models[0]));
    memcpy(channel->models, models, (size_t)n * sizeof(models[0]));
    channel->n_models = n;
    code = read_tenants(c, row, channel, err);
    if (code == ERR_OK)
        *out = channel;
    else
        record_unref(channel);
    return code;
}

/* ---- price books ---- */

static enum err_code put_rate(struct sqlite_conn *c, int64_t version, const struct price_rate *rate, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_RATE];

    sqlite3_bind_int64(s, 1, version);
    sqlite3_bind_text(s, 2, rate->model, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 3, (int)rate->operation);
    sqlite3_bind_text(s, 4, rate->size, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 5, rate->quality, -1, SQLITE_STATIC);
    sqlite3_bind_int(s, 6, (int)rate->unit);
    sqlite3_bind_int64(s, 7, rate->pico);
    return sqlite_run(c, s, "Cannot write a rate", err);
}

static enum err_code put_version(struct sqlite_conn *c, int64_t book, struct price_version *v, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_PUT_VERSION];
    enum err_code code;

    sqlite_bind_id(s, 1, &v->id);
    sqlite3_bind_int64(s, 2, book);
    sqlite3_bind_int64(s, 3, v->effective_from);
    sqlite3_bind_int64(s, 4, clock_wall());
    code = sqlite_run(c, s, "Cannot write a price version", err);
    if (code != ERR_OK)
        return code;
    v->row = sqlite3_last_insert_rowid(c->db);
    for (size_t i = 0; code == ERR_OK && i < v->n; i++)
        code = put_rate(c, v->row, &v->rates[i], err);
    if (code != ERR_OK)
        v->row = 0;
    return code;
}

enum err_code sqlite_put_book_parts(struct sqlite_conn *c, struct book *book, struct err *err)
{
    size_t n = book->prices->n;
    bool *made = mem_zalloc(n + 1);
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < n; i++) {
        made[i] = book->prices->versions[i]->row == 0;
        if (made[i])
            code = put_version(c, book->super.row, book->prices->versions[i], err);
    }
    for (size_t i = 0; code != ERR_OK && i < n; i++)
        if (made[i]) /* the savepoint takes it back, so it has no row */
            book->prices->versions[i]->row = 0;
    free(made);
    return code;
}

/* What price_version_create asserts, of a file that may be damaged. */
static bool rate_is_good(const struct price_rate *rate)
{
    return rate->model[0] != '\0' && (unsigned)rate->operation <= OPERATION_VARIATIONS &&
           (unsigned)rate->unit < PRICE_UNITS && rate->pico >= 0;
}

static enum err_code read_rates(struct sqlite_conn *c, int64_t version, struct price_rate **out, size_t *n,
                                struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_RATES];
    struct price_rate *rates = NULL, *rate;
    size_t cap = 0;
    bool good = true;
    int rc = SQLITE_DONE;

    *n = 0;
    sqlite3_bind_int64(s, 1, version);
    while (good && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (*n == cap) {
            cap = cap != 0 ? cap * 2 : 64;
            rates = mem_realloc(rates, cap * sizeof(*rates));
        }
        rate = &rates[(*n)++];
        memset(rate, 0, sizeof(*rate));
        sqlite_column_copy(s, 0, rate->model, sizeof(rate->model));
        rate->operation = (enum image_operation)sqlite3_column_int(s, 1);
        sqlite_column_copy(s, 2, rate->size, sizeof(rate->size));
        sqlite_column_copy(s, 3, rate->quality, sizeof(rate->quality));
        rate->unit = (enum price_unit)sqlite3_column_int(s, 4);
        rate->pico = sqlite3_column_int64(s, 5);
        good = rate_is_good(rate);
    }
    sqlite3_reset(s);
    *out = rates;
    if (!good)
        return err_set(err, ERR_UNAVAILABLE, NULL, "A rate of price version %lld is damaged: run `tallygate fsck`.",
                       (long long)version);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot read rates", err);
}

static enum err_code read_version(struct sqlite_conn *c, sqlite3_stmt *s, struct price_version **out, struct err *err)
{
    struct price_rate *rates;
    size_t n;
    enum err_code code = read_rates(c, sqlite3_column_int64(s, 0), &rates, &n, err);

    if (code == ERR_OK) {
        *out = price_version_create(rates, n);
        (*out)->row = sqlite3_column_int64(s, 0);
        sqlite_column_id(s, 1, &(*out)->id);
        (*out)->effective_from = sqlite3_column_int64(s, 2);
    }
    free(rates);
    return code;
}

enum err_code sqlite_read_book(struct sqlite_conn *c, int64_t row, struct price_book **out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_VERSIONS];
    struct price_version **versions = NULL;
    size_t n = 0;
    enum err_code code = ERR_OK;
    int rc;

    sqlite3_bind_int64(s, 1, row);
    while (code == ERR_OK && (rc = sqlite3_step(s)) != SQLITE_DONE) {
        versions = mem_realloc(versions, (n + 1) * sizeof(versions[0]));
        code = rc == SQLITE_ROW ? read_version(c, s, &versions[n], err)
                                : sqlite_error(c, "Cannot read price versions", err);
        n += code == ERR_OK;
    }
    sqlite3_reset(s);
    if (code == ERR_OK) {
        *out = price_book_create(versions, n);
    } else {
        for (size_t i = 0; i < n; i++)
            price_version_unref(versions[i]);
    }
    free(versions);
    return code;
}
