/* key.c - GET /v1/key: what the calling key may do and has left.
 *
 *   key_view_create --> RECORD --> STANDING (not in test mode) --> USAGE (when wanted) --> answer --> (gone)
 *                          \___________\____________________________\--> cannot be looked up: 503
 *
 * What is told is the caller's own: amounts in the price that it pays, budgets and limits of the key and of the account
 * that pays for it. A customer's key does not learn what its provider's own budgets and limits are. What is left comes
 * from the writer, in line with all holds, so it is what the next call would find.
 *
 * One thread: the loop's. */
#include "key.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "daemon/base/money.h"
#include "daemon/billing/budget.h"

/* ---- looking it up ---- */

static void destroy(struct key_view *v)
{
    for (int i = 0; i < v->record.n; i++)
        record_unref(v->record.items[i]);
    store_report_dispose(&v->usage);
    caller_dispose(&v->caller);
    free(v);
}

static void on_gone(void *ctx)
{
    struct key_view *v = ctx;

    v->call = NULL; /* the store's answer ends it */
}

struct key_view *key_view_create(const struct relay_house *house, struct front_call *call,
                                 void (*answer)(struct key_view *v))
{
    struct key_view *v;
    struct caller caller;

    if (!public_enter(house, call, &caller))
        return NULL;
    v = mem_zalloc(sizeof(*v));
    v->room = house_room(front_call_loop(call));
    v->call = call;
    v->caller = caller;
    v->answer = answer;
    return v;
}

const struct api_key *key_view_record(const struct key_view *v)
{
    return (const struct api_key *)v->record.items[0];
}

int64_t key_view_used(const struct key_view *v)
{
    if (v->usage.n_rows == 0)
        return 0;
    return v->caller.customer != NULL ? v->usage.rows[0].retail : v->usage.rows[0].wholesale;
}

void key_view_refuse(struct key_view *v, const struct err *err)
{
    front_reply_err(v->call, err, NULL, 0);
    destroy(v);
}

static void refuse(struct key_view *v)
{
    struct err err;

    (void)err_set(&err, ERR_UNAVAILABLE, NULL, "The ledger is unavailable. Please try again later.");
    key_view_refuse(v, &err);
}

static void finish(struct key_view *v)
{
    v->answer(v);
    destroy(v);
}

/* Whether the next step may be taken; ends the view when not. */
static bool goes_on(struct key_view *v, const struct err *err)
{
    if (v->call == NULL)
        destroy(v);
    else if (err->code != ERR_OK)
        refuse(v);
    else
        return true;
    return false;
}

static void on_usage(struct mail *mail)
{
    struct key_view *v = TG_CONTAINER(struct key_view, usage.super.mail, mail);

    if (goes_on(v, &v->usage.super.err))
        finish(v);
}

static void ask_usage(struct key_view *v)
{
    struct store_report *report = &v->usage;
    int64_t created = key_view_record(v)->super.created_at;

    report->filter.keys.n = 1;
    report->filter.keys.rows[0] = v->caller.key->row;
    report->filter.start_time = v->from > created ? v->from : created;
    report->filter.end_time = v->to < clock_wall() ? v->to : 0;
    if (v->to != 0 && v->to <= report->filter.start_time) { /* before there was a key */
        finish(v);
        return;
    }
    report->width = REPORT_ALL;
    report->limit = 1;
    report->super.mail.deliver = on_usage;
    report->super.reply_to = loop_mailbox(v->room->loop);
    report->super.question = STORE_REPORT;
    store_ask(v->room->house->store, &report->super);
}

static void after_standing(struct key_view *v)
{
    if (v->wants_usage && !v->caller.key->test)
        ask_usage(v);
    else
        finish(v);
}

static void on_standing(struct mail *mail)
{
    struct key_view *v = TG_CONTAINER(struct key_view, standing.super.mail, mail);

    if (goes_on(v, &v->standing.super.err))
        after_standing(v);
}

static void on_record(struct mail *mail)
{
    struct key_view *v = TG_CONTAINER(struct key_view, record.super.mail, mail);
    const struct caller *caller = &v->caller;

    if (!goes_on(v, &v->record.super.err))
        return;
    if (caller->key->test) {
        after_standing(v);
        return;
    }
    v->standing = (struct store_standing){
        .super = {.mail = {.deliver = on_standing, .patient = true},
                  .reply_to = loop_mailbox(v->room->loop),
                  .kind = STORE_STANDING},
        .tenant_row = caller->tenant->super.row,
        .customer_row = caller->customer != NULL ? caller->customer->super.row : 0,
        .key_row = caller->key->row,
        .own_wallet = caller->customer != NULL && caller->customer->own_wallet,
    };
    store_submit(v->room->house->store, &v->standing.super);
}

void key_view_ask(struct key_view *v)
{
    const struct front_owner owner = {.ctx = v, .gone = on_gone};

    front_call_own(v->call, &owner);
    v->record.kind = RECORD_KEY;
    v->record.id = v->caller.key->id;
    v->record.limit = 1;
    v->record.super.mail.deliver = on_record;
    v->record.super.reply_to = loop_mailbox(v->room->loop);
    v->record.super.question = STORE_GET;
    store_ask(v->room->house->store, &v->record.super);
}

/* ---- GET /v1/key ---- */

static void append_time(struct buf *out, int64_t wall)
{
    char text[CLOCK_TEXT];

    if (wall == 0)
        buf_append_str(out, "null");
    else
        buf_printf(out, "\"%s\"", clock_format(wall, text));
}

static void append_available(struct buf *out, const struct key_view *v)
{
    char text[MONEY_TEXT];

    if (v->caller.key->test)
        buf_append_str(out, "null");
    else
        buf_printf(out, "\"%s\"", money_format_nano(v->standing.available, text));
}

static void append_budgets(struct buf *out, const struct key_view *v)
{
    static const char *const owners[BUDGET_OWNERS] = {
        [BUDGET_TENANT] = "tenant", [BUDGET_CUSTOMER] = "customer", [BUDGET_KEY] = "api_key"};
    char amount[MONEY_TEXT], used[MONEY_TEXT];
    const char *comma = "";

    buf_append_char(out, '[');
    for (int i = 0; i < v->standing.n; i++) {
        int owner = v->standing.budgets[i].owner;

        if (owner == BUDGET_TENANT && v->caller.customer != NULL)
            continue;
        buf_printf(out, "%s{\"owner\":\"%s\",\"window\":\"%s\",\"amount\":\"%s\",\"used\":\"%s\",\"resets_at\":", comma,
                   owners[owner], v->standing.budgets[i].window,
                   money_format_nano(v->standing.budgets[i].amount, amount),
                   money_format_nano(v->standing.budgets[i].used, used));
        append_time(out, v->standing.budgets[i].resets_at);
        buf_append_char(out, '}');
        comma = ",";
    }
    buf_append_char(out, ']');
}

/* The strictest figures of the key and whoever it belongs to. */
static void append_limits(struct buf *out, const struct caller *caller)
{
    enum meter_owner last = caller->customer != NULL ? METER_CUSTOMER : METER_TENANT;
    struct limits all = {{0}};

    for (int i = METER_KEY; i <= (int)last; i++) {
        struct limits own;

        if (caller->meters[i] == NULL)
            continue;
        own = meter_limits(caller->meters[i]);
        all = limits_stricter(&all, &own);
    }
    limits_format(&all, out);
}

static void append_customer(struct buf *out, const struct customer *customer)
{
    char text[ID_TEXT];

    if (customer == NULL)
        buf_append_str(out, "null");
    else
        buf_printf(out, "\"%s\"", id_format("cus", customer->super.id, text));
}

static void answer_key(struct key_view *v)
{
    const struct credential *key = v->caller.key;
    char text[ID_TEXT];
    struct buf out;

    buf_init(&out, LIMIT_NAME * 6 + STORE_STANDINGS * 256 + 1024);
    buf_printf(&out, "{\"object\":\"api_key\",\"id\":\"%s\",\"name\":", id_format("key", key->id, text));
    buf_append_json_string(&out, slice_from(key_view_record(v)->super.name));
    buf_printf(&out, ",\"mode\":\"%s\",\"customer\":", key->test ? "test" : "live");
    append_customer(&out, v->caller.customer);
    buf_append_str(&out, ",\"available\":");
    append_available(&out, v);
    buf_append_str(&out, ",\"budgets\":");
    append_budgets(&out, v);
    buf_append_str(&out, ",\"limits\":");
    append_limits(&out, &v->caller);
    buf_append_str(&out, ",\"expires_at\":");
    append_time(&out, key->expires_at);
    buf_append_char(&out, '}');
    TG_ASSERT(!out.full);
    front_reply_json(v->call, 200, buf_slice(&out));
    buf_dispose(&out);
}

void key_get(void *ctx, struct front_call *call)
{
    struct key_view *v = key_view_create(ctx, call, answer_key);

    if (v != NULL)
        key_view_ask(v);
}
