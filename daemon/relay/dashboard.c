/* dashboard.c - New API's balance routes, for clients that show what a key has left: subscription tells what it could
 * spend in all, usage what it has spent in some days. Their difference is what GET /v1/key calls available.
 *
 * Amounts are JSON numbers there, US dollars in one and cents in the other; they are written from integers, exactly.
 * Dates are days of the tenant's time zone; the last day is counted, too, as most of these clients ask until today and
 * mean now. Without dates it is the key's whole life. A key in test mode moves no money: it looks unlimited.
 *
 * One thread: the loop's. */
#include "daemon/base/clock.h"
#include "daemon/base/money.h"
#include "daemon/base/zone.h"
#include "key.h"

enum { DATE = 16, NAME = 32, CENT_DIGITS = MONEY_NANO_DIGITS - 2 };

#define UNLIMITED (INT64_C(100000000) * INT64_C(1000000000)) /* what New API says of a key without end */

/* ---- subscription ---- */

static int64_t limit_of(const struct key_view *v)
{
    int64_t limit;

    if (v->caller.key->test)
        return UNLIMITED;
    return money_add(v->standing.available, key_view_used(v), &limit) ? limit : INT64_MAX;
}

static void answer_subscription(struct key_view *v)
{
    char usd[MONEY_TEXT];
    struct buf out;

    (void)money_format_scaled(limit_of(v), MONEY_NANO_DIGITS, usd);
    buf_init(&out, 512);
    buf_printf(&out,
               "{\"object\":\"billing_subscription\",\"has_payment_method\":true,\"soft_limit_usd\":%s,"
               "\"hard_limit_usd\":%s,\"system_hard_limit_usd\":%s,\"access_until\":%lld}",
               usd, usd, usd, (long long)(v->caller.key->expires_at / CLOCK_SECOND));
    TG_ASSERT(!out.full);
    front_reply_json(v->call, 200, buf_slice(&out));
    buf_dispose(&out);
}

void dashboard_subscription(void *ctx, struct front_call *call)
{
    struct key_view *v = key_view_create(ctx, call, answer_subscription);

    if (v == NULL)
        return;
    v->wants_usage = true;
    key_view_ask(v);
}

/* ---- usage ---- */

static void answer_usage(struct key_view *v)
{
    char cents[MONEY_TEXT];
    struct buf out;

    buf_init(&out, 128);
    buf_printf(&out, "{\"object\":\"list\",\"total_usage\":%s}",
               money_format_scaled(key_view_used(v), CENT_DIGITS, cents));
    TG_ASSERT(!out.full);
    front_reply_json(v->call, 200, buf_slice(&out));
    buf_dispose(&out);
}

/* So many digits, from <at> on. */
static bool read_digits(struct slice text, size_t at, size_t n, int *out)
{
    *out = 0;
    for (size_t i = at; i < at + n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        *out = *out * 10 + (text.p[i] - '0');
    }
    return true;
}

/* "2026-11-24" as the number of the day. */
static bool read_day(struct slice text, int64_t *day)
{
    int y, m, d, back[3];

    if (text.len != 10 || text.p[4] != '-' || text.p[7] != '-' || !read_digits(text, 0, 4, &y) ||
        !read_digits(text, 5, 2, &m) || !read_digits(text, 8, 2, &d) || y < 1970 || m < 1 || m > 12 || d < 1 || d > 31)
        return false;
    *day = zone_day_of(y, m, d);
    zone_civil(*day, &back[0], &back[1], &back[2]);
    return back[1] == m && back[2] == d; /* no 31st of February */
}

/* Puts the day's begin, or its end, into *at. */
static enum err_code read_date(const char *name, const char *text, const struct zone *zone, int64_t later, int64_t *at,
                               struct err *err)
{
    int64_t day;

    if (!read_day(slice_from(text), &day))
        return err_set(err, ERR_INVALID_VALUE, name,
                       "Invalid value for '%s': expected a date such as '2026-11-24', but got '%s' instead.", name,
                       text);
    *at = zone_day_begins(zone, day + later);
    return ERR_OK;
}

static enum err_code read_dates(struct key_view *v, const struct zone *zone, struct err *err)
{
    struct slice rest = front_call_query(v->call);
    char name[NAME], value[DATE];
    bool bad = false;
    enum err_code code = ERR_OK;

    while (code == ERR_OK && front_query_next(&rest, name, sizeof(name), value, sizeof(value), &bad)) {
        if (strcmp(name, "start_date") == 0)
            code = read_date("start_date", value, zone, 0, &v->from, err);
        else if (strcmp(name, "end_date") == 0)
            code = read_date("end_date", value, zone, 1, &v->to, err);
    }
    if (code == ERR_OK && bad)
        return err_set(err, ERR_INVALID_VALUE, NULL, "The query holds a parameter that cannot be read.");
    if (code == ERR_OK && v->to != 0 && v->to <= v->from)
        return err_set(err, ERR_INVALID_VALUE, "end_date", "Invalid value for 'end_date': it is before 'start_date'.");
    return code;
}

void dashboard_usage(void *ctx, struct front_call *call)
{
    struct key_view *v = key_view_create(ctx, call, answer_usage);
    struct zone *zone = NULL;
    struct err err;
    enum err_code code;

    if (v == NULL)
        return;
    v->wants_usage = true;
    code = zone_open(v->caller.tenant->timezone, &zone, &err);
    if (code != ERR_OK)
        code = zone_open("UTC", &zone, &err);
    if (code == ERR_OK)
        code = read_dates(v, zone, &err);
    zone_unref(zone);
    if (code == ERR_OK)
        key_view_ask(v);
    else
        key_view_refuse(v, &err);
}
