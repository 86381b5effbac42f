/* key.h - what the calling key may do and has left, looked up for the routes that tell it: GET /v1/key (key.c) and New
 * API's balance routes (dashboard.c).
 *
 * They are no calls in the sense of budgets and rate limits: a key that is exhausted or limited can read them. */
#ifndef TG_RELAY_KEY_H
#define TG_RELAY_KEY_H

#include "carry.h"

/* Lives from key_view_begin to the answer. One thread: the loop's. */
struct key_view {
    struct relay_room *room;
    struct front_call *call; /* NULL once the client is gone */
    struct caller caller;
    void (*answer)(struct key_view *v); /* all is there; answers v->call */
    bool wants_usage;
    int64_t from, to;               /* of the usage: wall; from 0: the key's first day, to 0: now */
    struct store_list record;       /* the key's */
    struct store_standing standing; /* nothing for test keys, which move no money */
    struct store_report usage;      /* of the key, in one row or none; when wanted */
};

/* Takes the call: who is calling, then all of the above, then <answer>; or an error. False when the caller was refused
 * and answered. */
struct key_view *key_view_create(const struct relay_house *house, struct front_call *call,
                                 void (*answer)(struct key_view *v));
void key_view_ask(struct key_view *v);
void key_view_refuse(struct key_view *v, const struct err *err); /* instead of key_view_ask */

const struct api_key *key_view_record(const struct key_view *v);

/* What was charged in the usage's time, in the caller's price: nano. */
int64_t key_view_used(const struct key_view *v);

front_handler key_get, dashboard_subscription, dashboard_usage;

#endif
