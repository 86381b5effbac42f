/* carry.h - one relay and the house that all relays live in: shared by the files of this room, by nobody else. */
#ifndef TG_RELAY_CARRY_H
#define TG_RELAY_CARRY_H

#include <pthread.h>
#include <stdatomic.h>

#include "daemon/base/table.h"
#include "daemon/gate/admit.h"
#include "daemon/images/reply_scan.h"
#include "daemon/images/request.h"
#include "headers.h"
#include "outcome.h"
#include "relay.h"

/* ---- the house (house.c) ---- */

/* How many calls a channel with a limit has under way, over all loops. Never freed before the house is. */
struct channel_load {
    struct channel_load *next;
    int64_t channel_row;
    atomic_llong busy;
};

struct relay_room; /* below */

struct relay_house {
    struct store *store;
    struct secrets *secrets;
    char *ca_file;                            /* NULL: the system's */
    bool public_only;                         /* upstreams inside are refused */
    _Atomic int64_t timeout, connect_timeout; /* microseconds; LIVE */
    _Atomic int in_doubt;                     /* enum conf_in_doubt; LIVE */
    atomic_bool draining;
    _Atomic int64_t inflight;
    pthread_mutex_t lock; /* guards the two lists; taken when a loop meets a channel for the first time */
    struct channel_load *loads;
    struct relay_room *rooms;
};

/* A channel as one loop calls it: made again when the channel's record has a new version. */
struct channel_way {
    int64_t channel_row, version;
    struct upstream_route *generations; /* NULL: this kind of channel cannot be called */
    struct channel_load *load;
};

/* What one loop has of the house. */
struct relay_room {
    struct relay_room *next;
    struct relay_house *house;
    struct loop *loop;
    struct upstream_pool *pool;
    struct table ways; /* struct channel_way by channel row */
};

struct relay_room *house_room(const struct loop *loop);
const struct channel_way *house_way(struct relay_room *room, const struct channel *channel);

/* Takes one of the channel's places; false when its max_concurrency are taken. *load: what house_leave gives back. */
bool house_enter(const struct channel_way *way, const struct channel *channel, struct channel_load **load);
void house_leave(struct channel_load *load); /* NULL-safe */

/* ---- the reply's way to the client (reply.c) ---- */

enum reply_mode {
    REPLY_HELD = 0, /* waits whole for its end */
    REPLY_FLOWING,  /* the head has left; bytes follow as the client takes them */
    REPLY_DROPPED   /* nobody reads it (any more): scanned only */
};

struct reply {
    enum reply_mode mode;
    bool lent;     /* `flying` is with the front until ready */
    bool closing;  /* the last bytes may leave as soon as they can */
    bool too_long; /* a refusal's body that did not fit */
    struct buf filling;
    struct buf flying;
    struct loop_timer patience;
};

/* ---- one relay (relay.c) ---- */

enum relay_state { RELAY_RECEIVED = 0, RELAY_HOLDING, RELAY_CALLING, RELAY_SETTLING, RELAY_FINISHING };

struct relay {
    struct relay_room *room;
    enum relay_state state;
    struct front_call *call; /* NULL once answered, or once the client is gone */
    bool client_gone;
    struct id id;
    int64_t started;     /* monotonic: when the request was whole */
    int64_t called;      /* monotonic: when the upstream call began */
    int64_t upstream_us; /* how long it took */
    int64_t timeout;     /* of the upstream call */

    struct image_request request;
    struct terms terms;
    struct store_hold hold;
    struct channel_load *load;    /* NULL: not counted */
    struct upstream_route *route; /* a reference */
    struct buf body;              /* what goes upstream; ours, as the client's vanishes with the client */
    char own_header[HEADERS_OWN];

    struct upstream *upstream; /* NULL unless CALLING */
    int status;                /* of its head; 0: none yet */
    struct headers_kept kept;
    struct reply_scan scan;
    struct reply_facts facts; /* once the reply has ended */
    struct reply reply;

    const struct outcome *outcome;
    union {
        struct store_capture capture;
        struct store_void give_back;
        struct store_doubt doubt;
    } settle;
};

/* A relay for a call that is to be admitted; <request> is copied. relay_discard takes it back before relay_begin. */
struct relay *relay_create(struct relay_room *room, struct front_call *call, const struct image_request *request);
void relay_discard(struct relay *r);

/* Terms and hold are filled, a place of the channel is taken: the relay is on its way and owns itself. */
void relay_begin(struct relay *r, const struct channel_way *way, struct slice body);

/* The client could not be waited for: its answer ends unfinished. While the upstream runs it is read on; a relay that
 * had only the client left to wait for is gone afterwards. */
void relay_drop_client(struct relay *r);
void relay_answered(struct relay *r); /* the front has the last byte; the relay is gone afterwards */

void reply_init(struct relay *r);
void reply_dispose(struct relay *r);

/* Some of the upstream's body; returns how much was taken: all, or 0 when the client must catch up first. */
size_t reply_take(struct relay *r, const char *bytes, size_t len);
void reply_ready(struct relay *r); /* the front has taken what was lent */
void reply_drop(struct relay *r);  /* from now on nobody reads it; the call is dead */
void reply_break(struct relay *r); /* ends what the client has so far unfinished; r->call is NULL afterwards */
void reply_close(struct relay *r); /* the charge is durable: the last bytes may leave (relay_answered follows) */

#endif
