/* sqlite_usage.c - usage records, newest first, by filters; and event numbers by time.
 *
 * created_ms never falls between two clock steps, so a time is found by bisection over the record numbers instead of an
 * index that every record would pay for. A search that matches little is done in slices of SLICE rows, each a
 * transaction of its own, and other questions come in between; it looks at what the filters are about first, and reads
 * the rest of what matches. Of one customer or one key only the days are searched on which it has any, as the sums of
 * days tell. What row numbers stand for is remembered (sqlite_names.c). On the reader's connection; the
 * writer looks up single records and times. */
#include "sqlite_conn.h"

enum { SLICE = 20000, HEX_ID = 16 };
enum { COLUMN_ITEM = 6, MINUTE_MS = 60000, QUARTER_MS = 15 * MINUTE_MS };
enum { REQUEST_ROWS = 100000 }; /* looked at from a request's time on, before all are */

/* ---- time to numbers ---- */

/* The record with the least number from <seq> on, pruned ones too; *found INT64_MAX: there is none. */
static enum err_code next_record(struct sqlite_conn *c, int64_t seq, int64_t *found, int64_t *created_ms,
                                 struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_USAGE_TIME];
    int rc;

    *found = INT64_MAX;
    sqlite3_bind_int64(s, 1, seq);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        if (sqlite3_column_int64(s, 0) >= *found)
            continue;
        *found = sqlite3_column_int64(s, 0);
        *created_ms = sqlite3_column_int64(s, 1);
    }
    sqlite3_reset(s);
    return rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot search by time", err);
}

enum err_code sqlite_bisect_time(struct sqlite_conn *c, int64_t first, int64_t end, int64_t ms, int64_t *out,
                                 struct err *err)
{
    while (first < end) {
        int64_t middle = first + (end - first) / 2, found, created_ms = 0;

        if (next_record(c, middle, &found, &created_ms, err) != ERR_OK)
            return ERR_UNAVAILABLE;
        if (found < end && created_ms < ms)
            first = found + 1;
        else
            end = middle;
    }
    *out = first;
    return ERR_OK;
}

static enum err_code add_range(struct sqlite_conn *c, int64_t first, int64_t end, int64_t from, int64_t to,
                               struct sqlite_ranges *out, struct err *err)
{
    enum err_code code = ERR_OK;

    if (from > 0)
        code = sqlite_bisect_time(c, first, end, from, &first, err);
    if (code == ERR_OK && to > 0)
        code = sqlite_bisect_time(c, first, end, to, &end, err);
    if (code == ERR_OK && first < end) {
        out->at[out->n].first = first;
        out->at[out->n].end = end;
        out->n++;
    }
    return code;
}

enum err_code sqlite_last_usage(struct sqlite_conn *c, int64_t *out, struct err *err)
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
    enum err_code code = sqlite_last_usage(c, &end, err);
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

static enum err_code read_names(struct sqlite_conn *c, int64_t item_row, struct usage_record *u, struct err *err)
{
    struct store_call *call = &u->call;
    struct sqlite_item item;
    enum err_code code = sqlite_find_item(c, item_row, &item, err);

    if (code == ERR_OK) {
        memcpy(call->model, item.model, sizeof(call->model));
        memcpy(call->size, item.size, sizeof(call->size));
        memcpy(call->quality, item.quality, sizeof(call->quality));
        call->operation = item.operation;
        code = sqlite_row_id(c, RECORD_TENANT, call->tenant_row, &u->tenant_id, err);
    }
    if (code == ERR_OK)
        code = sqlite_row_id(c, RECORD_CUSTOMER, call->customer_row, &u->customer_id, err);
    if (code == ERR_OK)
        code = sqlite_row_id(c, RECORD_KEY, call->key_row, &u->key_id, err);
    return code == ERR_OK ? sqlite_channel_name(c, call->channel_row, &u->channel_id, u->channel_name, err) : code;
}

/* The record in the current row of a statement with all columns. */
static enum err_code read_usage(struct sqlite_conn *c, sqlite3_stmt *s, struct usage_record *u, struct err *err)
{
    unsigned flags;
    int at = COLUMN_ITEM + 1;

    memset(u, 0, sizeof(*u));
    u->seq = sqlite3_column_int64(s, 0);
    sqlite_column_id(s, 1, &u->request);
    u->call.tenant_row = sqlite3_column_int64(s, 2);
    u->call.customer_row = sqlite3_column_int64(s, 3);
    u->call.key_row = sqlite3_column_int64(s, 4);
    u->call.channel_row = sqlite3_column_int64(s, 5);
    u->call.n = sqlite3_column_int(s, at++);
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
    u->created_at = sqlite3_column_int64(s, at) * 1000;
    return read_names(c, sqlite3_column_int64(s, COLUMN_ITEM), u, err);
}

enum err_code sqlite_find_usage(struct sqlite_conn *c, int64_t seq, struct usage_record *out, int64_t *item,
                                bool *own_wallet, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_GET_USAGE];
    enum err_code code = ERR_OK;
    int rc;

    sqlite3_bind_int64(s, 1, seq);
    rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        code = read_usage(c, s, out, err);
        *own_wallet = out->own_wallet;
        *item = sqlite3_column_int64(s, COLUMN_ITEM);
    } else if (rc == SQLITE_DONE) {
        code = err_set(err, ERR_NOT_FOUND, NULL, "No such usage record.");
    } else {
        code = sqlite_error(c, "Cannot read a usage record", err);
    }
    sqlite3_reset(s);
    return code;
}

/* ---- filters ---- */

static bool has_row(const struct filter_rows *f, int64_t row)
{
    for (int i = 0; i < f->n; i++) {
        if (f->rows[i] == row)
            return true;
    }
    return f->n == 0;
}

static bool has_name(const struct filter_names *f, const char *name)
{
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->names[i], name) == 0)
            return true;
    }
    return f->n == 0;
}

static bool filters_items(const struct store_filter *f)
{
    return f->models.n > 0 || f->sizes.n > 0 || f->qualities.n > 0 || f->operations != 0;
}

/* Whether records are looked for that may be few among those of a time and a tenant. */
static bool is_narrow(const struct store_usage_query *q)
{
    const struct store_filter *f = &q->filter;

    return f->tenants.n > 1 || f->customers.n > 0 || f->keys.n > 0 || f->channels.n > 0 || filters_items(f);
}

static bool item_matches(const struct store_filter *f, const struct sqlite_item *item)
{
    return has_name(&f->models, item->model) && has_name(&f->sizes, item->size) &&
           has_name(&f->qualities, item->quality) &&
           (f->operations == 0 || (f->operations & 1u << item->operation) != 0);
}

/* The current row of a statement that finds: seq, tenant, customer, key, channel, item. */
static enum err_code matches(struct sqlite_conn *c, const struct store_filter *f, sqlite3_stmt *s, bool *out,
                             struct err *err)
{
    struct sqlite_item item;
    enum err_code code;

    *out = has_row(&f->tenants, sqlite3_column_int64(s, 1)) && has_row(&f->customers, sqlite3_column_int64(s, 2)) &&
           has_row(&f->keys, sqlite3_column_int64(s, 3)) && has_row(&f->channels, sqlite3_column_int64(s, 4));
    if (!*out || !filters_items(f))
        return ERR_OK;
    code = sqlite_find_item(c, sqlite3_column_int64(s, 5), &item, err);
    *out = has_name(&f->models, item.model) && has_name(&f->sizes, item.size) &&
           has_name(&f->qualities, item.quality) && (f->operations == 0 || (f->operations & 1u << item.operation) != 0);
    return code;
}

static bool in_time(const struct store_filter *f, const struct usage_record *u)
{
    return (f->start_time == 0 || u->created_at >= f->start_time) && (f->end_time == 0 || u->created_at < f->end_time);
}

/* ---- lists ---- */

static struct usage_record *page_of(struct store_usage_query *q)
{
    return q->page != NULL ? q->page : q->items;
}

/* Takes the current row of a statement with all columns into the page; past a full page only notes that there is more.
 */
static enum err_code take_row(struct sqlite_conn *c, struct store_usage_query *q, sqlite3_stmt *s, struct err *err)
{
    struct usage_record beyond, *u = q->n < q->limit ? &page_of(q)[q->n] : &beyond;
    enum err_code code = read_usage(c, s, u, err);

    if (code != ERR_OK || !in_time(&q->filter, u))
        return code;
    if (q->n < q->limit)
        q->n++;
    else
        q->more = true;
    return ERR_OK;
}

/* Likewise of a statement that finds. */
static enum err_code take_match(struct sqlite_conn *c, struct store_usage_query *q, sqlite3_stmt *s, struct err *err)
{
    sqlite3_stmt *one = c->statements[SQL_GET_USAGE];
    bool match = false;
    enum err_code code = matches(c, &q->filter, s, &match, err);

    if (code != ERR_OK || !match)
        return code;
    sqlite3_bind_int64(one, 1, sqlite3_column_int64(s, 0));
    code =
        sqlite3_step(one) == SQLITE_ROW ? take_row(c, q, one, err) : sqlite_error(c, "Cannot read a usage record", err);
    sqlite3_reset(one);
    return code;
}

/* Where records are looked for. */
struct place {
    int64_t tenant;    /* 0: all */
    enum sql days;     /* sums of days that tell on which an owner has records; SQL_COUNT: every day may */
    int64_t owner;     /* a customer, or a key */
    int64_t folded_ms; /* records created earlier are in those sums */
};

/* One range; *left: rows that this slice may still look at. Ends with the page full, the slice used up or the range
 * done. */
static enum err_code scan_range(struct sqlite_conn *c, struct store_usage_query *q, const struct place *place,
                                int64_t first, int64_t end, int *left, struct err *err)
{
    bool tenant = place->tenant != 0, narrow = is_narrow(q);
    sqlite3_stmt *s = c->statements[narrow ? (tenant ? SQL_FIND_TENANT_USAGE : SQL_FIND_USAGE)
                                           : (tenant ? SQL_LIST_TENANT_USAGE : SQL_LIST_USAGE)];
    enum err_code code = ERR_OK;
    int rc = SQLITE_DONE;

    if (first >= end)
        return ERR_OK;
    sqlite3_bind_int64(s, 1, end);
    sqlite3_bind_int64(s, 2, first);
    if (tenant)
        sqlite3_bind_int64(s, 3, place->tenant);
    while (code == ERR_OK && *left > 0 && !q->more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        (*left)--;
        q->scanned = sqlite3_column_int64(s, 0);
        code = narrow ? take_match(c, q, s, err) : take_row(c, q, s, err);
    }
    sqlite3_reset(s);
    if (code == ERR_OK && rc != SQLITE_ROW && rc != SQLITE_DONE)
        code = sqlite_error(c, "Cannot list usage records", err);
    return code;
}

/* ---- the days of an owner ---- */

/* A number by another: 0 when there is no such row. */
static enum err_code get_number(struct sqlite_conn *c, enum sql which, int64_t key, int64_t *out, struct err *err)
{
    sqlite3_stmt *s = c->statements[which];
    int rc;

    if (key != 0)
        sqlite3_bind_int64(s, 1, key);
    rc = sqlite3_step(s);
    *out = rc == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot look for records", err);
}

/* One customer or one key: its tenant's records alone, on its days. */
static enum err_code find_place(struct sqlite_conn *c, const struct store_filter *f, struct place *out, struct err *err)
{
    bool key = f->keys.n == 1;
    int64_t quarter = 0;
    enum err_code code;

    *out = (struct place){.tenant = f->tenants.n == 1 ? f->tenants.rows[0] : 0, .days = SQL_COUNT};
    if (!key && f->customers.n != 1)
        return ERR_OK;
    out->owner = key ? f->keys.rows[0] : f->customers.rows[0];
    out->days = key ? SQL_FIND_KEY_DAY : SQL_FIND_CUSTOMER_DAY;
    code = get_number(c, key ? SQL_GET_KEY_TENANT : SQL_GET_CUSTOMER_TENANT, out->owner, &out->tenant, err);
    if (code == ERR_OK)
        code = get_number(c, SQL_GET_FOLDED, 0, &quarter, err);
    out->folded_ms = quarter * QUARTER_MS;
    return code;
}

/* The owner's latest day that began before minute <bound>; false in *found: there is none. */
static enum err_code find_day(struct sqlite_conn *c, const struct place *place, int64_t bound, int64_t day_ms[2],
                              bool *found, struct err *err)
{
    sqlite3_stmt *s = c->statements[place->days];
    int rc;

    sqlite3_bind_int64(s, 1, bound);
    sqlite3_bind_int64(s, 2, place->tenant);
    sqlite3_bind_int64(s, 3, place->owner);
    rc = sqlite3_step(s);
    *found = rc == SQLITE_ROW;
    for (int i = 0; *found && i < 2; i++)
        day_ms[i] = sqlite3_column_int64(s, i) * MINUTE_MS;
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot look for days", err);
}

/* A range between two clock steps, of which <step> is the second, day by day; what is not folded yet, all of it. */
static enum err_code scan_days(struct sqlite_conn *c, struct store_usage_query *q, const struct place *place,
                               int64_t first, int64_t end, int64_t step, int *left, struct err *err)
{
    int64_t cut = end, from, to, at, ms = 0, day_ms[2] = {0, 0}, bound = place->folded_ms / MINUTE_MS;
    bool found = true;
    enum err_code code = sqlite_bisect_time(c, first, end, place->folded_ms, &cut, err);

    if (code == ERR_OK)
        code = scan_range(c, q, place, cut, end, left, err);
    if (code == ERR_OK)
        code = next_record(c, cut, &at, &ms, err);
    if (code == ERR_OK && at < step && ms / MINUTE_MS < bound)
        bound = ms / MINUTE_MS + 1; /* what has lesser numbers is not younger */
    while (code == ERR_OK && *left > 0 && !q->more && first < cut) {
        code = find_day(c, place, bound, day_ms, &found, err);
        if (code != ERR_OK || !found)
            break;
        code = sqlite_bisect_time(c, first, cut, day_ms[0], &from, err);
        if (code == ERR_OK)
            code = sqlite_bisect_time(c, from, cut, day_ms[1], &to, err);
        if (code == ERR_OK)
            code = scan_range(c, q, place, from, to, left, err);
        bound = day_ms[0] / MINUTE_MS;
        cut = from;
    }
    return code;
}

static int64_t ceil_ms(int64_t us)
{
    return us / 1000 + (us % 1000 > 0);
}

static enum err_code scan(struct sqlite_conn *c, struct store_usage_query *q, int *left, struct err *err)
{
    int64_t before = q->scanned != 0 ? q->scanned : q->after_seq != 0 ? q->after_seq : INT64_MAX;
    struct sqlite_ranges ranges;
    struct place place;
    enum err_code code =
        sqlite_time_ranges(c, ceil_ms(q->filter.start_time), ceil_ms(q->filter.end_time), &ranges, err);

    if (code == ERR_OK)
        code = find_place(c, &q->filter, &place, err);
    for (int i = 0; code == ERR_OK && i < ranges.n; i++) {
        int64_t end = ranges.at[i].end < before ? ranges.at[i].end : before;
        bool days = place.days != SQL_COUNT && i < TIME_RANGES - 1; /* the last may hold steps of the clock */

        if (*left == 0 || q->more)
            break;
        if (ranges.at[i].first < end)
            code = days ? scan_days(c, q, &place, ranges.at[i].first, end, ranges.at[i].end, left, err)
                        : scan_range(c, q, &place, ranges.at[i].first, end, left, err);
    }
    return code;
}

/* ---- single records ---- */

/* One record by its seq, when the filters are met. */
static enum err_code take_one(struct sqlite_conn *c, struct store_usage_query *q, int64_t seq, struct err *err)
{
    const struct store_filter *f = &q->filter;
    struct usage_record *u = &page_of(q)[0];
    struct sqlite_item item;
    bool own_wallet;
    int64_t row;
    enum err_code code = sqlite_find_usage(c, seq, u, &row, &own_wallet, err);

    if (code == ERR_NOT_FOUND)
        err->code = ERR_OK;
    if (code != ERR_OK)
        return code == ERR_NOT_FOUND ? ERR_OK : code;
    code = sqlite_find_item(c, row, &item, err);
    if (code == ERR_OK && in_time(f, u) && has_row(&f->tenants, u->call.tenant_row) &&
        has_row(&f->customers, u->call.customer_row) && has_row(&f->keys, u->call.key_row) &&
        has_row(&f->channels, u->call.channel_row) && item_matches(f, &item) &&
        (id_is_zero(q->request) || id_eq(q->request, u->request)))
        q->n = 1;
    return code;
}

/* Looks for a request among up to <rows> records from <first> on. */
static enum err_code find_request(struct sqlite_conn *c, const struct id *request, int64_t first, int64_t end, int rows,
                                  int64_t *seq, struct err *err)
{
    sqlite3_stmt *s = c->statements[SQL_FIND_REQUEST];
    struct id found;
    int rc;

    sqlite3_bind_int64(s, 1, first);
    sqlite3_bind_int64(s, 2, end);
    sqlite3_bind_int(s, 3, rows);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW && *seq == 0) {
        sqlite_column_id(s, 1, &found);
        if (id_eq(found, *request))
            *seq = sqlite3_column_int64(s, 0);
    }
    sqlite3_reset(s);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? ERR_OK : sqlite_error(c, "Cannot look for a request", err);
}

/* The time in an id of id_make. */
static int64_t made_ms(const struct id *id)
{
    int64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->b[i];
    return ms;
}

/* A request's id begins with the time at which it was made, and its record follows within minutes. So the first slice
 * looks there; only what was in doubt for long, or made before the clock stepped, is found by walking all numbers. */
static enum err_code scan_requests(struct sqlite_conn *c, struct store_usage_query *q, int *left, struct err *err)
{
    int64_t last, first, end, seq = 0;
    struct sqlite_ranges ranges = {.n = 0};
    enum err_code code = sqlite_last_usage(c, &last, err);

    if (code == ERR_OK && q->scanned == 0)
        code = sqlite_time_ranges(c, made_ms(&q->request), 0, &ranges, err);
    for (int i = 0; code == ERR_OK && i < ranges.n && seq == 0; i++)
        code = find_request(c, &q->request, ranges.at[i].first, ranges.at[i].end, REQUEST_ROWS, &seq, err);
    if (q->scanned == 0)
        q->scanned = last + 1;
    while (code == ERR_OK && seq == 0 && *left > 0 && q->scanned > 1) {
        end = q->scanned;
        first = end > SLICE ? end - SLICE : 1;
        *left = 0;
        code = find_request(c, &q->request, first, end, SLICE, &seq, err);
        q->scanned = first;
    }
    if (seq != 0 || q->scanned <= 1)
        *left = 1; /* done */
    return code == ERR_OK && seq != 0 && (q->after_seq == 0 || seq < q->after_seq) ? take_one(c, q, seq, err) : code;
}

static enum err_code check_limit(const struct store_usage_query *q, struct err *err)
{
    if (q->seq != 0 || (q->page != NULL && q->limit >= 1 && q->limit <= STORE_EXPORT))
        return ERR_OK;
    return sqlite_check_limit(q->limit, err);
}

bool sqlite_ask_usage(struct sqlite_conn *c, struct store_usage_query *q)
{
    struct err *err = &q->super.err;
    int left = SLICE;
    enum err_code code = check_limit(q, err);

    if (code != ERR_OK)
        return true;
    if (q->scanned == 0) {
        q->n = 0;
        q->more = false;
    }
    code = sqlite_exec(c, "BEGIN", err);
    if (code != ERR_OK)
        return true;
    sqlite_names_begin(c);
    if (q->seq != 0)
        code = take_one(c, q, q->seq, err);
    else if (!id_is_zero(q->request))
        code = scan_requests(c, q, &left, err);
    else
        code = scan(c, q, &left, err);
    (void)sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL);
    return code != ERR_OK || q->more || left > 0;
}
