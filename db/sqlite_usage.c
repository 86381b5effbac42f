/* sqlite_usage.c - usage records, newest first, by filters; and event numbers by time.
 *
 * created_ms never falls between two clock steps, so a time is found by bisection over the record numbers instead of an
 * index that every record would pay for. A search that matches little is done in slices of SLICE rows, each a
 * transaction of its own, and other questions come in between. On the reader's connection; the writer looks up single
 * records and times. */
#include "sqlite_conn.h"

enum { SLICE = 20000, HEX_ID = 16 };
enum { COLUMN_FLAGS = 23, COLUMN_ITEM = 34 };

/* ---- time to numbers ---- */

/* The first number in [first, end) whose record was created at <ms> or later; <end> when there is none. */
static enum err_code bisect(struct sqlite_conn *c, int64_t first, int64_t end, int64_t ms, int64_t *out,
                            struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_USAGE_TIME];

    while (first < end) {
        int64_t middle = first + (end - first) / 2;
        int rc;

        sqlite3_bind_int64(s, 1, middle);
        rc = sqlite3_step(s);
        if (rc == SQLITE_ROW && sqlite3_column_int64(s, 0) < end && sqlite3_column_int64(s, 1) < ms)
            first = sqlite3_column_int64(s, 0) + 1;
        else
            end = middle;
        sqlite3_reset(s);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            return sqlite_error(c, "Cannot search by time", err);
    }
    *out = first;
    return ERR_OK;
}

static enum err_code add_range(struct sqlite_conn *c, int64_t first, int64_t end, int64_t from, int64_t to,
                               struct sqlite_ranges *out, struct err *err)
{
    enum err_code code = ERR_OK;

    if (from > 0)
        code = bisect(c, first, end, from, &first, err);
    if (code == ERR_OK && to > 0)
        code = bisect(c, first, end, to, &end, err);
    if (code == ERR_OK && first < end) {
        out->at[out->n].first = first;
        out->at[out->n].end = end;
        out->n++;
    }
    return code;
}

static enum err_code last_number(struct sqlite_conn *c, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_LAST_USAGE];
    int rc = sqlite3_step(s);

    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW ? ERR_OK : sqlite_error(c, "Cannot read the last record", err);
}

enum err_code sqlite_time_ranges(struct sqlite_conn *c, int64_t from, int64_t to, struct sqlite_ranges *out,
                                 struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_CLOCK_STEPS];
    int64_t end;
    enum err_code code = last_number(c, &end, err);
    int rc = SQLITE_DONE;

    out->n = 0;
    end++;
    while (code == ERR_OK && out->n < TIME_RANGES - 1 && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        int64_t step = sqlite3_column_int64(s, 0);

        if (step < end)
            code = add_range(c, step, end, from, to, out, err);
        if (step < end)
            end = step;
    }
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot read clock steps", err);
    sqlite3_reset(s);
    if (code == ERR_OK && rc == SQLITE_ROW && end > 1) { /* more steps than we look at: the oldest as one */
        out->at[out->n].first = 1;
        out->at[out->n++].end = end;
    } else if (code == ERR_OK) {
        code = add_range(c, 1, end, from, to, out, err);
    }
    return code;
}

/* ---- records ---- */

static void read_upstream_id(sqlite3_stmt *s, int column, char out[LIMIT_UPSTREAM_ID])
{
    static const char digits[] = "0123456789abcdef";
    struct slice bytes = sqlite_column_slice(s, column);
    char *p = out;

    if (sqlite3_column_type(s, column) != SQLITE_BLOB || bytes.len != HEX_ID) {
        (void)slice_copy(bytes, out, LIMIT_UPSTREAM_ID);
        return;
    }
    memcpy(p, "req_", 4);
    p += 4;
    for (size_t i = 0; i < HEX_ID; i++) {
        *p++ = digits[(uint8_t)bytes.p[i] >> 4];
        *p++ = digits[(uint8_t)bytes.p[i] & 15];
    }
    *p = '\0';
}

void sqlite_read_call(sqlite3_stmt *s, struct store_call *call)
{
    call->tenant_row = sqlite3_column_int64(s, 2);
    call->customer_row = sqlite3_column_int64(s, 3);
    call->key_row = sqlite3_column_int64(s, 4);
    call->channel_row = sqlite3_column_int64(s, 5);
    sqlite_column_copy(s, 6, call->model, sizeof(call->model));
    call->operation = (enum image_operation)sqlite3_column_int(s, 7);
    sqlite_column_copy(s, 8, call->size, sizeof(call->size));
    sqlite_column_copy(s, 9, call->quality, sizeof(call->quality));
    call->n = sqlite3_column_int(s, 10);
}

static void read_usage(sqlite3_stmt *s, struct usage_record *u)
{
    unsigned flags;
    int at = 11;

    memset(u, 0, sizeof(*u));
    u->seq = sqlite3_column_int64(s, 0);
    sqlite_column_id(s, 1, &u->request);
    sqlite_read_call(s, &u->call);
    u->images = sqlite3_column_int(s, at++);
    u->partial_images = sqlite3_column_int(s, at++);
    for (int i = PRICE_TEXT_INPUT; i < PRICE_UNITS; i++)
        u->quantities.of[i] = sqlite3_column_int64(s, at++);
    u->cost = sqlite3_column_int64(s, at++);
    u->wholesale = sqlite3_column_int64(s, at++);
    u->retail = sqlite3_column_type(s, at) == SQLITE_NULL ? u->wholesale : sqlite3_column_int64(s, at);
    at++;
    u->refunded = sqlite3_column_int64(s, at++);
    flags = (unsigned)sqlite3_column_int(s, at++);
    u->call.stream = (flags & USAGE_ROW_STREAM) != 0;
    u->call.test = (flags & USAGE_TEST) != 0;
    u->own_wallet = (flags & USAGE_ROW_OWN_WALLET) != 0;
    u->flags = flags & ~(unsigned)USAGE_ROW_FLAGS;
    u->status = sqlite3_column_type(s, at) == SQLITE_NULL ? 200 : sqlite3_column_int(s, at);
    at++;
    u->duration_ms = sqlite3_column_int64(s, at++);
    u->upstream_ms = u->duration_ms - sqlite3_column_int64(s, at++);
    read_upstream_id(s, at++, u->upstream_request_id);
    u->created_at = sqlite3_column_int64(s, at++) * 1000;
    sqlite_column_id(s, at++, &u->tenant_id);
    sqlite_column_id(s, at++, &u->customer_id);
    sqlite_column_id(s, at++, &u->key_id);
    sqlite_column_id(s, at++, &u->channel_id);
    sqlite_column_copy(s, at, u->channel_name, sizeof(u->channel_name));
}

enum err_code sqlite_find_usage(struct sqlite_conn *c, int64_t seq, struct usage_record *out, int64_t *item,
                                bool *own_wallet, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_USAGE];
    int rc;

    sqlite3_bind_int64(s, 1, seq);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        read_usage(s, out);
        *own_wallet = (sqlite3_column_int(s, COLUMN_FLAGS) & USAGE_ROW_OWN_WALLET) != 0;
        *item = sqlite3_column_int64(s, COLUMN_ITEM);
    }
    sqlite3_reset(s);
    if (rc == SQLITE_ROW)
        return ERR_OK;
    return rc == SQLITE_DONE ? err_set(err, ERR_NOT_FOUND, NULL, "No such usage record.")
                             : sqlite_error(c, "Cannot read a usage record", err);
}

static bool matches(const struct store_usage_query *q, const struct usage_record *u)
{
    const struct store_call *call = &u->call;

    return (q->tenant_row == 0 || q->tenant_row == call->tenant_row) &&
           (q->customer_row == 0 || q->customer_row == call->customer_row) &&
           (q->key_row == 0 || q->key_row == call->key_row) &&
           (q->channel_row == 0 || q->channel_row == call->channel_row) &&
           (q->model[0] == '\0' || strcmp(q->model, call->model) == 0) &&
           (q->operation == OPERATION_ANY || q->operation == call->operation) &&
           (q->size[0] == '\0' || strcmp(q->size, call->size) == 0) &&
           (q->quality[0] == '\0' || strcmp(q->quality, call->quality) == 0) &&
           (q->start_time == 0 || u->created_at >= q->start_time) && (q->end_time == 0 || u->created_at < q->end_time);
}

/* One range; *left: rows that this slice may still look at. Ends with the page full, the slice used up or the range
 * done. */
static enum err_code scan_range(struct sqlite_conn *c, struct store_usage_query *q, int64_t first, int64_t end,
                                int *left, struct err *err)
{
    sqlite3_stmt *s = c->statements[q->tenant_row != 0 ? SQL_LIST_TENANT_USAGE : SQL_LIST_USAGE];
    struct usage_record found;
    int rc = SQLITE_DONE;

    sqlite3_bind_int64(s, 1, end);
    sqlite3_bind_int64(s, 2, first);
    if (q->tenant_row != 0)
        sqlite3_bind_int64(s, 3, q->tenant_row);
    while (*left > 0 && !q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        (*left)--;
        read_usage(s, &found);
        q->scanned = found.seq;
        if (!matches(q, &found))
            continue;
        if (q->n == q->limit)
            q->more = true;
        else
            q->items[q->n++] = found;
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot list usage records", err);
}

/* The one record that is asked for, if the filters let it through. */
static void ask_one(struct sqlite_conn *c, struct store_usage_query *q, struct err *err)
{
    bool own_wallet;
    int64_t item;
    enum err_code code = sqlite_find_usage(c, q->seq, &q->items[0], &item, &own_wallet, err);

    q->more = false;
    q->n = code == ERR_OK && matches(q, &q->items[0]);
    if (code == ERR_NOT_FOUND)
        err->code = ERR_OK;
}

static int64_t ceil_ms(int64_t us)
{
    return us / 1000 + (us % 1000 > 0);
}

bool sqlite_ask_usage(struct sqlite_conn *c, struct store_usage_query *q)
{
    struct err *err = &q->super.err;
    struct sqlite_ranges ranges;
    int64_t before;
    int left = SLICE;
    enum err_code code;

    if (q->seq != 0) {
        ask_one(c, q, err);
        return true;
    }
    if (sqlite_check_limit(q->limit, err) != ERR_OK)
        return true;
    if (q->scanned == 0) {
        q->n = 0;
        q->more = false;
    }
    before = q->scanned != 0 ? q->scanned : q->after_seq != 0 ? q->after_seq : INT64_MAX;
    code = sqlite_exec(c, "BEGIN", err);
    if (code != ERR_OK)
        return true;
    code = sqlite_time_ranges(c, ceil_ms(q->start_time), ceil_ms(q->end_time), &ranges, err);
    for (int i = 0; code == ERR_OK && i < ranges.n && left > 0 && !q->more; i++) {
        int64_t end = ranges.at[i].end < before ? ranges.at[i].end : before;

        if (ranges.at[i].first < end)
            code = scan_range(c, q, ranges.at[i].first, end, &left, err);
    }
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    return code != ERR_OK || q->more || left > 0;
}
