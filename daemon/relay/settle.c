/* settle.c - from a reply's facts to a charge.
 *
 * What the upstream says it used is charged when it can be true. Else, on a model that is priced by tokens, the token
 * tables speak, and the record says that it was estimated. Pictures count as delivered, never more than were asked for.
 * Pure but for logging; one thread: the loop's. */
#include "settle.h"

#include "daemon/base/clock.h"
#include "daemon/base/log.h"

static int64_t to_ms(int64_t us)
{
    return us > 0 ? us / 1000 : 0;
}

static int64_t duration_ms(const struct relay *r)
{
    return to_ms(clock_mono() - r->started);
}

/* A peer that has shut its side (an SDK that aborts does) has most likely left, though it could still read. */
static bool client_left(const struct relay *r)
{
    return r->client_gone || (r->call != NULL && front_call_leaving(r->call));
}

static void note_untrusted(const struct relay *r)
{
    LOG(LOG_UNTRUSTED_USAGE, LOG_F_ID("request", "req", r->id), LOG_F_ID("channel", "chn", r->terms.channel->super.id),
        LOG_F_SLICE("model", slice_from(r->request.spec.model)));
}

/* Fills quantities; returns the flags that tell how they were found. */
static unsigned count_used(const struct relay *r, int images, struct price_quantities *q)
{
    const struct image_spec *spec = &r->request.spec;
    const struct reply_facts *facts = &r->facts;
    bool per_token = spec->card != NULL && spec->card->per_token;
    unsigned flags = 0;

    if (facts->usage == REPLY_USAGE_GOOD) {
        if (r->reply.events)
            quote_choose_usage(spec, slice_from(facts->size), slice_from(facts->quality), images, facts->partial_images,
                               &facts->quantities, &facts->largest, q);
        else
            *q = facts->quantities;
        q->of[PRICE_IMAGE] = images;
        q->of[PRICE_REQUEST] = 1;
        return 0;
    }
    quote_estimate(spec, slice_from(facts->size), slice_from(facts->quality), images, facts->partial_images, q);
    if (per_token)
        flags |= USAGE_ESTIMATED;
    if (facts->usage == REPLY_USAGE_UNTRUSTED) {
        flags |= USAGE_UNTRUSTED;
        note_untrusted(r);
    }
    return flags;
}

static enum err_code fill_capture(struct relay *r, struct err *err)
{
    struct store_capture *c = &r->settle.capture;
    struct usage_record *usage = &c->usage;
    const struct image_spec *spec = &r->request.spec;
    struct price_item item;

    memset(c, 0, sizeof(*c));
    c->super.kind = STORE_CAPTURE;
    c->hold = r->id;
    usage->request = r->id;
    usage->call = r->hold.call;
    usage->created_at = r->hold.created_at;
    usage->images = r->facts.images < spec->n ? r->facts.images : spec->n;
    usage->partial_images = r->facts.partial_images;
    usage->status = r->status;
    usage->duration_ms = duration_ms(r);
    usage->upstream_ms = to_ms(r->upstream_us);
    memcpy(usage->upstream_request_id, r->kept.upstream_id, sizeof(usage->upstream_request_id));
    usage->flags = count_used(r, usage->images, &usage->quantities);
    if (usage->images < spec->n)
        usage->flags |= USAGE_FEWER_IMAGES;
    if (client_left(r))
        usage->flags |= USAGE_CLIENT_GONE;

    quote_item(spec, slice_from(r->facts.size), slice_from(r->facts.quality), &item);
    (void)slice_copy(item.size, usage->call.size, sizeof(usage->call.size));
    (void)slice_copy(item.quality, usage->call.quality, sizeof(usage->call.quality));
    return admit_rate(&r->terms, &r->hold, spec, &item, &usage->quantities, c, err);
}

static struct store_op *fill_void(struct relay *r)
{
    r->settle.give_back = (struct store_void){.super = {.kind = STORE_VOID}, .hold = r->id};
    return &r->settle.give_back.super;
}

static struct store_op *fill_doubt(struct relay *r)
{
    r->settle.doubt = (struct store_doubt){
        .super = {.kind = STORE_DOUBT}, .hold = r->id, .duration_ms = duration_ms(r), .client_gone = client_left(r)};
    return &r->settle.doubt.super;
}

struct store_op *settle_fill(struct relay *r, enum outcome_money money)
{
    struct err err;

    if (money == OUTCOME_CAPTURE) {
        if (fill_capture(r, &err) == ERR_OK)
            return &r->settle.capture.super;
        /* Only figures that no balance can hold come here; they cannot be what was used. */
        LOG(LOG_UNTRUSTED_USAGE, LOG_F_ID("request", "req", r->id), LOG_F_STR("why", err.message));
        r->outcome = outcome_nonsense();
        money = OUTCOME_DOUBT;
    }
    return money == OUTCOME_DOUBT ? fill_doubt(r) : fill_void(r);
}
