/* loop.h - one event loop a thread: timers, file descriptors, mail. The façade over libh2o's evloop.
 *
 * Everything here except loop_mailbox's post and loop_stop belongs to the loop's own thread. */
#ifndef TG_FRONT_LOOP_H
#define TG_FRONT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/mailbox.h"

struct loop;

/* ---- timers: a heap per loop; the earliest bounds how long the loop sleeps, so arming costs no system call ---- */

struct loop_timer {
    int64_t due; /* monotonic microseconds; valid while linked */
    long place;  /* in the heap; -1: not armed */
    void (*fire)(struct loop_timer *timer);
};

void loop_timer_init(struct loop_timer *timer, void (*fire)(struct loop_timer *timer));
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t delay); /* microseconds; re-arms when armed */
void loop_timer_disarm(struct loop *loop, struct loop_timer *timer);             /* no-op when not armed */
int64_t loop_now(const struct loop *loop); /* monotonic microseconds, taken once a turn */

/* ---- file descriptors of others (libcurl's): an own epoll set that hangs in the loop ---- */

enum loop_events { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop_watch {
    int fd;
    unsigned events;                                          /* as registered */
    void (*ready)(struct loop_watch *watch, unsigned events); /* level-triggered */
};

/* Registers, or changes what is waited for (one epoll_ctl; none when nothing changes). The watch must stay in place
 * until loop_watch_remove; removing inside `ready` is allowed, of any watch. */
void loop_watch_set(struct loop *loop, struct loop_watch *watch, unsigned events);
void loop_watch_remove(struct loop *loop, struct loop_watch *watch);
void loop_watch_forget(struct loop *loop, struct loop_watch *watch); /* the fd is closed already: no epoll_ctl */

/* ---- mail and life ---- */

struct mailbox *loop_mailbox(struct loop *loop); /* post from any thread */
int loop_index(const struct loop *loop);         /* 0..threads-1 */

/* What another room keeps per loop (the relay's libcurl multi, the catalog, the last uses): set once before the loop
 * runs. */
enum loop_slot { LOOP_SLOT_RELAY = 0, LOOP_SLOT_CATALOG, LOOP_SLOT_TOUCH, LOOP_SLOTS };
void loop_set(struct loop *loop, enum loop_slot slot, void *value);
void *loop_get(const struct loop *loop, enum loop_slot slot);

#endif
