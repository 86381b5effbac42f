/* house.c - what all loops share of the relay, and what each loop keeps: its upstream pool and the ways to its
 * channels.
 *
 * Invariants
 *  (1) A way is made from one version of a channel's record; a newer version makes a new one, and calls under way keep
 *      the route they began with.
 *  (2) The lists of rooms and loads only grow while loops run; the lock guards their heads. The request path reads
 *      neither: it goes from the loop to its room to the way.
 *
 * Threads: house_create and house_destroy the main thread; rooms their loop; reload and inflight any. */
#include "carry.h"

#include <curl/curl.h>
#include <stdlib.h>

#include "daemon/base/secret.h"

static const char answers_folder[] = "/answers"; /* in the cache directory */

static enum err_code open_answers(const struct conf *conf, const char *cache_directory, struct answers **out,
                                  struct err *err)
{
    struct buf path;
    struct answers_options options = {.keep = conf->idempotency_keep,
                                      .max_answer = conf->idempotency_max_answer,
                                      .max_kept = conf->idempotency_max_kept};
    enum err_code code;

    buf_init(&path, strlen(cache_directory) + sizeof(answers_folder) + 1);
    buf_append_str(&path, cache_directory);
    buf_append_str(&path, answers_folder);
    buf_append_char(&path, '\0');
    options.directory = path.p;
    code = answers_open(&options, out, err);
    buf_dispose(&path);
    return code;
}

static void destroy(struct relay_house *house)
{
    pthread_mutex_destroy(&house->lock);
    answers_close(house->answers);
    meters_destroy(house->meters);
    free(house->cache_directory);
    free(house->ca_file);
    free(house);
    curl_global_cleanup();
}

enum err_code relay_house_create(struct store *store, struct secrets *secrets, const struct conf *conf,
                                 const char *cache_directory, struct relay_house **out, struct err *err)
{
    struct relay_house *house = mem_zalloc(sizeof(*house));
    CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);

    TG_ASSERT(started == CURLE_OK);
    house->store = store;
    house->secrets = secrets;
    house->public_only = !conf->relay_private_addresses;
    house->cache_directory = mem_strdup(cache_directory);
    if (conf->relay_ca_file != NULL && conf->relay_ca_file[0] != '\0')
        house->ca_file = mem_strdup(conf->relay_ca_file);
    pthread_mutex_init(&house->lock, NULL);
    house->meters = meters_create();
    relay_house_reload(house, conf);
    if (open_answers(conf, cache_directory, &house->answers, err) == ERR_OK) {
        *out = house;
        return ERR_OK;
    }
    destroy(house);
    *out = NULL;
    return err->code;
}

void relay_house_reload(struct relay_house *house, const struct conf *conf)
{
    atomic_store(&house->timeout, conf->relay_timeout);
    atomic_store(&house->connect_timeout, conf->relay_connect_timeout);
    atomic_store(&house->in_doubt, (int)conf->relay_in_doubt);
}

void relay_house_drain(struct relay_house *house)
{
    atomic_store(&house->draining, true);
}

int64_t relay_inflight(const struct relay_house *house)
{
    return atomic_load(&house->inflight);
}

static void dispose_room(struct relay_room *room)
{
    struct channel_way *way;
    size_t pos = 0;

    while ((way = table_next(&room->ways, &pos)) != NULL) {
        for (int i = 0; i < RELAY_OPERATIONS; i++)
            upstream_route_unref(way->routes[i]);
        free(way);
    }
    table_dispose(&room->ways);
    upstream_pool_destroy(room->pool);
    touch_destroy(room->touch);
    free(room);
}

void relay_house_destroy(struct relay_house *house)
{
    struct relay_room *room;
    struct channel_load *load;

    if (house == NULL)
        return;
    if (relay_inflight(house) > 0)
        return; /* stopped at once: relays still hold all this, and the process ends */
    while ((room = house->rooms) != NULL) {
        house->rooms = room->next;
        dispose_room(room);
    }
    while ((load = house->loads) != NULL) {
        house->loads = load->next;
        free(load);
    }
    destroy(house);
}

/* ---- last uses ---- */

static void fire_touch(struct loop_timer *timer)
{
    touch_due(TG_CONTAINER(struct relay_room, touch_timer, timer)->touch);
}

static void arm_touch(void *ctx, int64_t delay)
{
    struct relay_room *room = ctx;

    loop_timer_arm(room->loop, &room->touch_timer, delay);
}

void relay_house_stop(struct relay_house *house)
{
    for (struct relay_room *room = house->rooms; room != NULL; room = room->next)
        touch_stop(room->touch);
}

/* ---- rooms ---- */

void relay_loop_init(struct relay_house *house, struct loop *loop)
{
    struct relay_room *room = mem_zalloc(sizeof(*room));

    room->house = house;
    room->loop = loop;
    catalog_set_meters(loop_get(loop, LOOP_SLOT_CATALOG), house->meters);
    room->pool = upstream_pool_create(loop, house->ca_file, house->public_only);
    table_init(&room->ways);
    loop_set(loop, LOOP_SLOT_RELAY, room);
    room->touch = touch_create(house->store, loop_mailbox(loop), arm_touch, room);
    loop_timer_init(&room->touch_timer, fire_touch);
    loop_set(loop, LOOP_SLOT_TOUCH, room->touch);
    pthread_mutex_lock(&house->lock);
    room->next = house->rooms;
    house->rooms = room;
    pthread_mutex_unlock(&house->lock);
}

struct relay_room *house_room(const struct loop *loop)
{
    return loop_get(loop, LOOP_SLOT_RELAY);
}

/* ---- ways ---- */

static struct channel_load *find_load(struct relay_house *house, int64_t channel_row)
{
    struct channel_load *load;

    pthread_mutex_lock(&house->lock);
    for (load = house->loads; load != NULL && load->channel_row != channel_row; load = load->next)
        ;
    if (load == NULL) {
        load = mem_zalloc(sizeof(*load));
        load->channel_row = channel_row;
        load->next = house->loads;
        house->loads = load;
    }
    pthread_mutex_unlock(&house->lock);
    return load;
}

static bool is_way(const void *item, const void *key)
{
    return ((const struct channel_way *)item)->channel_row == *(const int64_t *)key;
}

const struct channel_way *house_way(struct relay_room *room, const struct channel *channel)
{
    uint64_t hash = table_hash_u64((uint64_t)channel->super.row);
    struct channel_way *way = table_get(&room->ways, hash, is_way, &channel->super.row);

    if (way != NULL && way->version == channel->super.version)
        return way;
    if (way == NULL) {
        way = mem_zalloc(sizeof(*way));
        way->channel_row = channel->super.row;
        way->load = find_load(room->house, channel->super.row);
        table_put(&room->ways, hash, is_way, &way->channel_row, way);
    }
    for (int i = OPERATION_GENERATIONS; i < RELAY_OPERATIONS; i++) {
        upstream_route_unref(way->routes[i]);
        way->routes[i] = headers_route(channel, "POST", intake_paths[i]);
    }
    way->version = channel->super.version;
    return way;
}

bool house_enter(const struct channel_way *way, const struct channel *channel, struct channel_load **load)
{
    *load = NULL;
    if (channel->max_concurrency <= 0)
        return true;
    if (atomic_fetch_add(&way->load->busy, 1) >= channel->max_concurrency) {
        atomic_fetch_sub(&way->load->busy, 1);
        return false;
    }
    *load = way->load;
    return true;
}

void house_leave(struct channel_load *load)
{
    if (load != NULL)
        atomic_fetch_sub(&load->busy, 1);
}
