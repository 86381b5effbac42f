/* carry.h - one relay and the house that all relays live in: shared by the files of this room, by nobody else. */
#ifndef TG_RELAY_CARRY_H
#define TG_RELAY_CARRY_H

#include <pthread.h>
#include <stdatomic.h>

#include "answers.h"
#include "daemon/base/table.h"
#include "daemon/gate/admit.h"
#include "daemon/gate/touch.h"
#include "daemon/images/event_scan.h"
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
    struct answers *answers;
    char *cache_directory;                    /* where large uploads wait */
    char *ca_file;                            /* NULL: the system's */
    bool public_only;                         /* upstreams inside are refused */
    _Atomic int64_t timeout, connect_timeout; /* microseconds; LIVE */
    _Atomic int in_doubt;                     /* enum conf_in_doubt; LIVE */
    atomic_bool draining;
    _Atomic int64_t inflight;
    struct meters *meters; /* what all loops' catalogs count limits in */
    pthread_mutex_t lock;  /* guards the two lists; taken when a loop meets a channel for the first time */
    struct channel_load *loads;
    struct relay_room *rooms;
};

enum { RELAY_OPERATIONS = OPERATION_VARIATIONS + 1 };

/* A channel as one loop calls it: made again when the channel's record has a new version. */
struct channel_way {
    int64_t channel_row, version;
    struct upstream_route *routes[RELAY_OPERATIONS]; /* by enum image_operation; NULL: this kind of channel cannot be
                                                        called so */
    struct channel_load *load;
};

/* What one loop has of the house. */
struct relay_room {
    struct relay_room *next;
    struct relay_house *house;
    struct loop *loop;
    struct upstream_pool *pool;
    struct table ways; /* struct channel_way by channel row */
    struct touch *touch;
    struct loop_timer touch_timer;
};

struct relay_room *house_room(const struct loop *loop);
const struct channel_way *house_way(struct relay_room *room, const struct channel *channel);

/* Takes one of the channel's places; false when its max_concurrency are taken. *load: what house_leave gives back. */
bool house_enter(const struct channel_way *way, const struct channel *channel, struct channel_load **load);
void house_leave(struct channel_load *load); /* NULL-safe */

/* ---- a request on its way in (public.c, intake.c) ---- */

extern const char *const intake_paths[RELAY_OPERATIONS]; /* below a channel's base URL, by enum image_operation */

/* Who is calling, and are we still serving: answers by itself and returns false when not. */
bool public_enter(const struct relay_house *house, struct front_call *call, struct caller *caller);

/* Who is calling, by the catalog as it is now. */
TG_MUSTCHECK enum err_code public_authenticate(const struct relay_house *house, struct front_call *call,
                                               struct caller *caller, struct err *err);

/* Takes the call: reads its body, then makes a relay of it or refuses it. <caller> is borrowed. */
void intake_begin(struct relay_room *room, struct front_call *call, const struct caller *caller,
                  enum image_operation operation);

front_handler models_list, models_get; /* models.c */

/* ---- the reply's way to the client (reply.c, events.c) ---- */

enum reply_mode {
    REPLY_HELD = 0, /* nothing has left */
    REPLY_FLOWING,  /* the head has left; bytes follow as the client takes them */
    REPLY_DROPPED   /* nobody reads it (any more): scanned only */
};

#define REPLY_PATIENCE (60 * INT64_C(1000000)) /* microseconds that a client may take for one buffer */

struct reply {
    enum reply_mode mode;
    bool events;   /* a stream of events; else JSON */
    bool foreign;  /* a 200 of another kind than was asked for */
    bool enough;   /* events: all that was asked for has come, or there will be no more */
    bool unended;  /* events: the last one that counts came without its blank line */
    bool settled;  /* events_settle has run */
    bool mendable; /* events: the upstream's end tore an event that had left in part; this is how to end it */
    uint64_t mend_keep;
    struct slice mend_rest;
    bool lent;     /* bytes are with the front until ready */
    bool closing;  /* the last bytes may leave as soon as they can */
    bool too_long; /* a refusal's body that did not fit */
    struct buf filling;
    struct buf flying;
    int64_t left_at; /* monotonic; events: when bytes last left, or the head had come */
    struct loop_timer patience;
    struct loop_timer quiet;    /* events: the client has heard nothing for a while */
    struct loop_timer grace;    /* events: the upstream need not be waited for any longer */
    struct answer_writer *kept; /* the answer, should it be asked for again; NULL: not kept */
    union {
        struct reply_scan json;
        struct event_scan events;
    } scan;
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
    struct permit permit;         /* what it has taken from the caller's limits */
    struct meter_view limits;     /* what they leave, as it was admitted */
    int delivered;                /* images that were charged */
    struct channel_load *load;    /* NULL: not counted */
    struct upstream_route *route; /* a reference */
    struct spool *body;           /* what the client sent; ours, as it outlives the client */
    char patch[IMAGE_PATCH];      /* what is put into it */
    char *type_header;            /* "Content-Type: ..." as the client has it, of forms; NULL: JSON */
    char *idempotency_key;        /* NULL: none */
    char own_header[HEADERS_OWN];

    struct upstream *upstream; /* NULL unless CALLING */
    int status;                /* of its head; 0: none yet */
    struct headers_kept kept;
    struct reply_facts facts; /* once the reply has ended */
    struct reply reply;

    const struct outcome *outcome;
    union {
        struct store_capture capture;
        struct store_void give_back;
        struct store_doubt doubt;
    } settle;
};

/* A relay for a call that is to be admitted; <request> is copied, <body> is taken over. relay_discard takes it back
 * before relay_begin. */
struct relay *relay_create(struct relay_room *room, struct front_call *call, const struct image_request *request,
                           struct spool *body);
void relay_discard(struct relay *r);

/* Terms and hold are filled, a place of the channel and what the limits ask for are taken: the relay is on its way and
 * owns itself. */
void relay_begin(struct relay *r, struct upstream_route *route);

/* The client could not be waited for: its answer ends unfinished. While the upstream runs it is read on; a relay that
 * had only the client left to wait for is gone afterwards. */
void relay_drop_client(struct relay *r);
void relay_answered(struct relay *r); /* the front has the last byte; the relay is gone afterwards */

/* The call is over for the caller's limits: before the last byte of its answer leaves, so that a client which has read
 * it finds its place free. Once; nothing happens later. */
void relay_release(struct relay *r);

extern const char relay_no_quota[]; /* OpenAI's words */

/* What the customer is told that the call cost: in the caller's price. */
int64_t relay_charge_told(const struct relay *r);

void reply_init(struct relay *r);
void reply_dispose(struct relay *r);

/* The upstream's head has come: r->status, and what kind of body follows. */
void reply_head(struct relay *r, struct slice content_type);

/* Some of the upstream's body; returns how much was taken: all, or 0 when the client must catch up first. */
size_t reply_take(struct relay *r, const char *bytes, size_t len);
void reply_end(struct relay *r);      /* the upstream has no more: fills r->facts */
void reply_ready(struct relay *r);    /* the front has taken what was lent */
void reply_drop(struct relay *r);     /* from now on nobody reads it; the call is dead */
void reply_break(struct relay *r);    /* ends what the client has so far unfinished; r->call is NULL afterwards */
void reply_close(struct relay *r);    /* what is there is the answer's rest and may leave (relay_answered follows) */
void reply_lend_any(struct relay *r); /* lends what may leave, when nothing is lent and it is worth it */
void reply_lend_text(struct relay *r, struct slice text); /* a text that stays where it is; nothing may be lent */

/* events.c: what is a stream's own */
void events_init(struct relay *r);
void events_stop(struct relay *r);  /* no comment, no grace from now on */
void events_begin(struct relay *r); /* the head of a stream has come */
void events_feed(struct relay *r, const char *bytes, size_t len);
size_t events_kept(const struct relay *r); /* how many of the last bytes fed must not leave yet */
void events_end(struct relay *r);

/* The stream ends with what it has told: all of it but an unfinished event, in which the client cannot see an end. */
void events_settle(struct relay *r);
/* It ends with an error: what may leave by now (everything after events_settle), then an error event. */
void events_fail(struct relay *r, const struct err *err);

/* ---- answers given again (replay.c) ---- */

/* Answers <call>, which is now the replay's, with a kept answer; with <otherwise> when that turns out to be damaged.
 * <limits>: what its caller's leave. */
void replay_begin(struct relay_room *room, struct front_call *call, struct answer_reader *reader,
                  const struct err *otherwise, const struct meter_view *limits);

#endif
