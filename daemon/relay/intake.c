/* intake.c - a request whose body is still coming.
 *
 *                  expects a 100, pays by itself        there is money             nothing to look up
 *   intake_begin ------------------------------> ASKING ---------------> RECEIVING --whole--> a relay of its own
 *        |   \------------------------------------------------------------^   |  \                ^
 *        | refused by its head                      | refused, client gone    |   `--> SEEDING ---' its day is known
 *        v                                          v                         v           |
 *     (none)                                     (none)                    (none) <-------' refused, client gone
 *
 * Everything that can be said of a request before its last byte is said at once: by its head before the upload, by its
 * body at the byte that is wrong. What a caller may do is looked at when the body is whole, by the catalog as it is
 * then: an upload may take longer than a key lives.
 *
 * Invariants
 *  (1) Memory is bounded (spool, reader), whatever the length of the body.
 *  (2) `call` is NULL once the client is gone; while ASKING or SEEDING (waiting) the intake then waits for the store's
 *      answer, and ends.
 *  (3) No money is set aside and nothing is written but the spool.
 *
 * One thread: the loop's. */
#include "carry.h"

#include <stdlib.h>

#include "daemon/base/clock.h"
#include "fingerprint.h"
#include "seed.h"

struct intake {
    struct relay_room *room;
    struct front_call *call;
    enum image_operation operation;
    struct image_reader *reader;
    struct spool *spool;
    struct fingerprint *fingerprint; /* NULL without an Idempotency-Key */
    char *idempotency_key;
    char *type_header;        /* forms only */
    int64_t own_customer_row; /* whose wallet has to suffice besides; 0: nobody's, or looked at already */
    struct store_balance_query query;
    bool waiting;                       /* for the store */
    struct meter *meters[METER_OWNERS]; /* the caller's; references */
    int64_t wait;                       /* microseconds, when a limit has refused it */
};

const char *const intake_paths[RELAY_OPERATIONS] = {
    [OPERATION_GENERATIONS] = "/images/generations",
    [OPERATION_EDITS] = "/images/edits",
    [OPERATION_VARIATIONS] = "/images/variations",
};

static void destroy(struct intake *in)
{
    image_reader_destroy(in->reader);
    spool_destroy(in->spool);
    fingerprint_destroy(in->fingerprint);
    free(in->idempotency_key);
    free(in->type_header);
    for (int i = 0; i < METER_OWNERS; i++)
        meter_unref(in->meters[i]);
    free(in);
}

static void refuse(struct intake *in, const struct err *err)
{
    struct front_header headers[HEADERS_LIMITS + HEADERS_RETRY];
    struct headers_texts texts;
    struct meter_view view;
    size_t n;

    meters_look(in->meters, &view);
    n = headers_limits(&view, &texts, headers);
    if (in->wait > 0)
        n += headers_retry(in->wait, &texts, headers + n);
    front_reply_err(in->call, err, headers, n);
    destroy(in);
}

static void keep_meters(struct intake *in, const struct caller *caller)
{
    for (int i = 0; i < METER_OWNERS; i++) {
        struct meter *old = in->meters[i];

        in->meters[i] = meter_ref(caller->meters[i]);
        meter_unref(old);
    }
}

static void on_gone(void *ctx)
{
    struct intake *in = ctx;

    in->call = NULL;
    if (!in->waiting)
        destroy(in);
}

/* ---- the head ---- */

static bool is_printable(struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] < ' ' || text.p[i] > '~')
            return false;
    }
    return text.len > 0;
}

static char *copy_text(const char *before, struct slice text)
{
    size_t n = strlen(before);
    char *out = mem_alloc(n + text.len + 1);

    memcpy(out, before, n);
    memcpy(out + n, text.p, text.len);
    out[n + text.len] = '\0';
    return out;
}

/* A form's type goes upstream as the client wrote it: its boundary is the body's. */
static enum err_code read_type(struct intake *in, struct slice *type, struct err *err)
{
    enum err_code code;
    int count = 0;

    *type = SLICE_NONE;
    if (front_call_header(in->call, "content-type", type, &count) && count > 1)
        return err_set(err, ERR_BAD_REQUEST, NULL, "There is more than one Content-Type.");
    code = image_reader_create(in->operation, *type, &in->reader, err);
    if (code != ERR_OK || image_reader_boundary(in->reader)[0] == '\0')
        return code;
    if (type->len >= LIMIT_CONTENT_TYPE || !is_printable(*type))
        return err_set(err, ERR_BAD_REQUEST, NULL, "The Content-Type is longer than %d bytes, or not printable.",
                       LIMIT_CONTENT_TYPE - 1);
    in->type_header = copy_text("Content-Type: ", *type);
    return ERR_OK;
}

static enum err_code read_key(struct intake *in, struct slice type, struct err *err)
{
    struct slice key = SLICE_NONE;
    int count = 0;

    if (!front_call_header(in->call, "idempotency-key", &key, &count))
        return ERR_OK;
    if (count > 1 || !is_printable(key) || key.len > LIMIT_IDEMPOTENCY_KEY)
        return err_set(err, ERR_INVALID_VALUE, "Idempotency-Key",
                       "Invalid 'Idempotency-Key': expected one header of 1 to %d printable characters.",
                       LIMIT_IDEMPOTENCY_KEY);
    in->idempotency_key = copy_text("", key);
    in->fingerprint = fingerprint_create(front_call_method(in->call), front_call_path(in->call), type,
                                         image_reader_boundary(in->reader));
    return ERR_OK;
}

static enum err_code read_head(struct intake *in, struct err *err)
{
    struct slice type, encoding = SLICE_NONE;
    enum err_code code = read_type(in, &type, err);
    int count = 0;

    if (code != ERR_OK)
        return code;
    if (front_call_header(in->call, "content-encoding", &encoding, &count) &&
        (count > 1 || !slice_eq_nocase(encoding, SLICE("identity"))))
        return err_set(err, ERR_UNSUPPORTED_CONTENT_TYPE, NULL, "Compressed request bodies are not supported.");
    return read_key(in, type, err);
}

/* ---- the body ---- */

static void on_data(void *ctx, struct slice bytes)
{
    struct intake *in = ctx;
    struct err err;

    if (spool_append(in->spool, bytes, &err) != ERR_OK || image_reader_feed(in->reader, bytes, &err) != ERR_OK)
        refuse(in, &err);
    else if (in->fingerprint != NULL)
        fingerprint_add(in->fingerprint, bytes);
}

static struct relay *make_relay(struct intake *in, const struct image_request *request)
{
    struct relay *r = relay_create(in->room, in->call, request, in->spool);

    in->spool = NULL;
    r->type_header = in->type_header;
    in->type_header = NULL;
    r->idempotency_key = in->idempotency_key;
    in->idempotency_key = NULL;
    if (in->fingerprint != NULL) {
        r->hold.idempotency_key = slice_from(r->idempotency_key);
        fingerprint_finish(in->fingerprint, r->hold.fingerprint);
    }
    return r;
}

/* Fills terms and hold, takes a place of the channel and what the limits ask for. */
static enum err_code admit(struct relay *r, const struct caller *caller, struct upstream_route **route, struct err *err)
{
    const struct relay_house *house = r->room->house;
    const struct catalog *catalog = loop_get(r->room->loop, LOOP_SLOT_CATALOG);
    const struct channel_way *way;
    enum err_code code = admit_call(catalog, caller, &r->request.spec, r->request.stream,
                                    (enum conf_in_doubt)atomic_load_explicit(&house->in_doubt, memory_order_relaxed),
                                    clock_wall(), &r->terms, &r->hold, err);

    if (code != ERR_OK)
        return code;
    way = house_way(r->room, r->terms.channel);
    *route = way->routes[r->request.operation];
    if (*route == NULL || !house_enter(way, r->terms.channel, &r->load))
        return err_set(err, ERR_NO_CHANNEL, NULL,
                       "No channel can serve the model '%s' at the moment. Please try again later.",
                       r->request.spec.model);
    return meters_admit(caller->meters, r->request.spec.n, &r->permit, &r->limits, err);
}

static enum err_code launch(struct intake *in, const struct caller *caller, struct err *err)
{
    struct image_request request;
    struct upstream_route *route;
    struct relay *r;
    enum err_code code = image_reader_finish(in->reader, &request, err);

    if (code != ERR_OK)
        return code;
    r = make_relay(in, &request);
    code = admit(r, caller, &route, err);
    in->wait = r->limits.wait;
    if (code == ERR_OK)
        relay_begin(r, route);
    else
        relay_discard(r);
    return code;
}

static void decide(struct intake *in);

static void seeded(void *ctx, const struct err *err)
{
    struct intake *in = ctx;

    in->waiting = false;
    if (in->call == NULL)
        destroy(in);
    else if (err != NULL)
        refuse(in, err);
    else
        decide(in);
}

/* Whether a limit by the day has to be looked up first; then the intake goes on when it was. */
static bool wait_for_day(struct intake *in)
{
    int64_t from;
    struct meter *unknown = meters_to_seed(in->meters, &from);

    if (unknown == NULL)
        return false;
    in->waiting = true;
    seed_begin(in->room, unknown, from, seeded, in);
    return true;
}

/* The request is whole. */
static void decide(struct intake *in)
{
    struct caller caller;
    struct err err;
    enum err_code code = public_authenticate(in->room->house, in->call, &caller, &err);

    if (code == ERR_OK) {
        keep_meters(in, &caller);
        if (wait_for_day(in)) {
            caller_dispose(&caller);
            return;
        }
        code = launch(in, &caller, &err);
        caller_dispose(&caller);
    }
    if (code == ERR_OK)
        destroy(in); /* the call is the relay's */
    else
        refuse(in, &err);
}

static void on_end(void *ctx, const struct err *failed)
{
    struct intake *in = ctx;

    if (failed != NULL)
        refuse(in, failed);
    else
        decide(in);
}

static void receive(struct intake *in)
{
    const struct front_receiver receiver = {in, on_data, on_end};
    int64_t length = front_call_length(in->call);

    in->spool = spool_create(in->room->house->cache_directory, length > 0 ? (uint64_t)length : 0);
    front_call_receive(in->call, &receiver);
}

/* ---- money, before an upload that waits for our leave ---- */

static void asked(struct mail *mail);

static void ask(struct intake *in, int64_t tenant_row, int64_t customer_row)
{
    in->query = (struct store_balance_query){
        .super = {.mail = {.deliver = asked}, .reply_to = loop_mailbox(in->room->loop), .question = STORE_BALANCE},
        .tenant_row = tenant_row,
        .customer_row = customer_row,
    };
    in->waiting = true;
    store_ask(in->room->house->store, &in->query.super);
}

static void asked(struct mail *mail)
{
    struct intake *in = TG_CONTAINER(struct intake, query.super.mail, mail);
    const struct store_balance *b = &in->query.balance;
    int64_t own = in->own_customer_row;
    struct err err;

    in->waiting = false;
    in->own_customer_row = 0;
    if (in->call == NULL) {
        destroy(in);
    } else if (in->query.super.err.code != ERR_OK) {
        refuse(in, &in->query.super.err);
    } else if (b->posted - b->held + b->credit_limit <= 0) {
        (void)err_set(&err, ERR_INSUFFICIENT_QUOTA, NULL, "%s", relay_no_quota);
        refuse(in, &err);
    } else if (own != 0) {
        ask(in, in->query.tenant_row, own);
    } else {
        receive(in);
    }
}

/* A repeated call may have been paid for already, and a test key pays nothing. */
static bool must_pay(const struct intake *in, const struct caller *caller)
{
    return front_call_expects(in->call) && !caller->key->test && in->idempotency_key == NULL;
}

void intake_begin(struct relay_room *room, struct front_call *call, const struct caller *caller,
                  enum image_operation operation)
{
    struct intake *in = mem_zalloc(sizeof(*in));
    const struct front_owner owner = {.ctx = in, .gone = on_gone};
    struct err err;

    in->room = room;
    in->call = call;
    in->operation = operation;
    keep_meters(in, caller);
    if (read_head(in, &err) != ERR_OK) {
        refuse(in, &err);
        return;
    }
    front_call_own(call, &owner);
    if (!must_pay(in, caller)) {
        receive(in);
        return;
    }
    if (caller->customer != NULL && caller->customer->own_wallet)
        in->own_customer_row = caller->customer->super.row;
    ask(in, caller->tenant->super.row, 0);
}
