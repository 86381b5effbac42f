/* outcome.c - the table of outcomes.
 *
 * Two questions decide about the money: did the upstream say what it did, and if not, may it have started? Only a
 * whole reply with pictures, or the whole pictures of a stream, are charged; only a refusal, or a request that never
 * left, frees the hold; all the rest is in doubt and goes by the rule of the hold. Pure functions; any thread. */
#include "outcome.h"

#include "daemon/base/json.h"

enum kind {
    DELIVERED,      /* 200, a whole reply with pictures */
    EMPTY,          /* 200, whole, an error object or nothing in it, and no usage */
    CUT_OFF,        /* a stream that broke after some of its pictures */
    OVERDUE,        /* a stream that had not all of its pictures when the call's time was up */
    GAVE_UP,        /* a stream that ended with an error event before its first picture */
    NONSENSE,       /* 200 (or another 2xx) that is none of these */
    CALLER_ERROR,   /* the customer's own input was refused */
    CHANNEL_DENIED, /* the channel's account was refused: credential, permission, its own credit */
    CHANNEL_BUSY,   /* the channel's limits are reached */
    REFUSED,        /* any other answer that says no */
    UNREACHED,
    CONNECT_TIMEOUT,
    TIMEOUT,
    BROKEN
};

static const struct outcome table[] = {
    [DELIVERED] = {OUTCOME_CAPTURE, OUTCOME_DELIVERED, ERR_OK, false, false, NULL},
    [EMPTY] = {OUTCOME_VOID, OUTCOME_FAILED, ERR_UPSTREAM_INVALID, false, true,
               "The image service returned no image. You were not charged."},
    [CUT_OFF] = {OUTCOME_CAPTURE, OUTCOME_DELIVERED, ERR_UPSTREAM, false, true,
                 "The connection to the image service broke before all images had come."},
    [OVERDUE] = {OUTCOME_CAPTURE, OUTCOME_DELIVERED, ERR_UPSTREAM_TIMEOUT, false, true,
                 "The image service did not send all images in time."},
    [GAVE_UP] = {OUTCOME_VOID, OUTCOME_REFUSED, ERR_OK, false, false, NULL},
    [NONSENSE] = {OUTCOME_DOUBT, OUTCOME_IN_DOUBT, ERR_UPSTREAM_INVALID, false, true,
                  "The image service returned a response that could not be understood."},
    [CALLER_ERROR] = {OUTCOME_VOID, OUTCOME_REFUSED, ERR_OK, true, false, NULL},
    [CHANNEL_DENIED] = {OUTCOME_VOID, OUTCOME_REFUSED, ERR_UPSTREAM, false, false,
                        "The image service refused this gateway's request. You were not charged."},
    [CHANNEL_BUSY] = {OUTCOME_VOID, OUTCOME_REFUSED, ERR_NO_CHANNEL, false, false,
                      "The image service is at its limit. Please try again in a moment."},
    [REFUSED] = {OUTCOME_VOID, OUTCOME_FAILED, ERR_UPSTREAM, false, false,
                 "The image service had an error while processing your request. You were not charged."},
    [UNREACHED] = {OUTCOME_VOID, OUTCOME_FAILED, ERR_UPSTREAM, false, false,
                   "The image service could not be reached. You were not charged."},
    [CONNECT_TIMEOUT] = {OUTCOME_VOID, OUTCOME_FAILED, ERR_UPSTREAM_TIMEOUT, false, false,
                         "The image service could not be reached in time. You were not charged."},
    [TIMEOUT] = {OUTCOME_DOUBT, OUTCOME_IN_DOUBT, ERR_UPSTREAM_TIMEOUT, false, true,
                 "The image service did not answer in time."},
    [BROKEN] = {OUTCOME_DOUBT, OUTCOME_IN_DOUBT, ERR_UPSTREAM, false, true,
                "The connection to the image service broke before its answer was complete."},
};

static bool member_is(struct json_object *obj, const char *name, const char *text)
{
    struct json_object *value;

    return json_object_is_type(obj, json_type_object) && json_find(obj, name, &value) &&
           json_object_is_type(value, json_type_string) && strcmp(json_object_get_string(value), text) == 0;
}

/* Tells JSON from anything else (HTML never passes), and an error about the channel's own bill from one about the
 * input. */
static enum kind read_refusal(struct slice body)
{
    struct json_object *root, *error;
    enum kind kind = CALLER_ERROR;

    if (json_read(body, &root, NULL) != ERR_OK)
        return REFUSED;
    if (json_find(root, "error", &error) &&
        (member_is(error, "code", "billing_hard_limit_reached") ||
         member_is(error, "type", "billing_limit_user_error") || member_is(error, "type", "insufficient_quota")))
        kind = CHANNEL_DENIED;
    json_object_put(root);
    return kind;
}

static enum kind kind_of_status(int status, struct slice body)
{
    switch (status) {
    case 401:
    case 402:
    case 403:
    case 407:
        return CHANNEL_DENIED;
    case 429:
        return CHANNEL_BUSY;
    case 400:
    case 404:
    case 409:
    case 413:
    case 415:
    case 422:
        return read_refusal(body);
    case 504:
    case 524: /* a proxy before the upstream stopped waiting (524: Cloudflare's); what stands behind it may go on */
        return TIMEOUT;
    default:
        return REFUSED; /* 3xx, the rest of 4xx, 5xx: it says that it did nothing */
    }
}

static enum kind kind_of_reply(const struct outcome_seen *seen)
{
    const struct reply_facts *facts = seen->facts;

    if (seen->status != 200 || !facts->whole)
        return NONSENSE;
    if (facts->has_data && facts->images > 0 && !facts->has_error)
        return seen->foreign ? NONSENSE : DELIVERED;
    if (facts->images == 0 && (facts->has_error || facts->usage == REPLY_USAGE_NONE))
        return EMPTY;
    return NONSENSE;
}

/* A stream's pictures count one by one. An error event says, as a refusal does, that there is nothing to pay for. */
static enum kind kind_of_events(const struct outcome_seen *seen)
{
    const struct reply_facts *facts = seen->facts;

    if (facts->images > 0 && (seen->enough || (seen->end == UPSTREAM_COMPLETE && facts->whole)))
        return DELIVERED;
    if (facts->images > 0)
        return seen->end == UPSTREAM_TIMED_OUT ? OVERDUE : CUT_OFF;
    if (facts->has_error && facts->usage == REPLY_USAGE_NONE)
        return GAVE_UP;
    if (seen->enough || seen->end == UPSTREAM_COMPLETE)
        return NONSENSE;
    return seen->end == UPSTREAM_TIMED_OUT ? TIMEOUT : BROKEN;
}

static enum kind kind_of(const struct outcome_seen *seen)
{
    enum upstream_end end = seen->end;

    if (end == UPSTREAM_UNREACHED)
        return UNREACHED;
    if (end == UPSTREAM_CONNECT_TIMED_OUT)
        return CONNECT_TIMEOUT;
    if (seen->status >= 300) /* the verdict had come, whatever became of the body */
        return kind_of_status(seen->status, end == UPSTREAM_COMPLETE ? seen->body : SLICE_NONE);
    if (seen->events)
        return kind_of_events(seen);
    if (end == UPSTREAM_TIMED_OUT)
        return TIMEOUT;
    return end == UPSTREAM_COMPLETE ? kind_of_reply(seen) : BROKEN;
}

const struct outcome *outcome_of(const struct outcome_seen *seen)
{
    return &table[kind_of(seen)];
}

const struct outcome *outcome_nonsense(void)
{
    return &table[NONSENSE];
}
