/* loop.c - timers, descriptors and mail on top of one libh2o evloop.
 *
 * Invariants
 *  (1) The heap is ordered by `due`; timer->place is its index there, -1 when it is not armed.
 *  (2) Mail is linked in under the lock; only who finds the list empty wakes the loop, so many mails cost one wake-up.
 *  (3) watch->events is what the epoll set has of it; a watch that is removed while a batch of events is worked off is
 * taken out of the batch, so it is never called again. Everything but post_mail and loop_wake runs on the loop's own
 * thread. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "inside.h"

enum { READY_BATCH = 64, SLEEP_MAX_MS = 1000, PATIENT_BATCH = 8, TIMER_ROUNDS = 16 };

/* ---- timers ---- */

static void heap_put(struct loop *loop, size_t place, struct loop_timer *timer)
{
    loop->heap[place] = timer;
    timer->place = (long)place;
}

static void heap_up(struct loop *loop, size_t place, struct loop_timer *timer)
{
    while (place > 0 && loop->heap[(place - 1) / 2]->due > timer->due) {
        heap_put(loop, place, loop->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    heap_put(loop, place, timer);
}

static void heap_down(struct loop *loop, size_t place, struct loop_timer *timer)
{
    for (;;) {
        size_t child = 2 * place + 1;

        if (child + 1 < loop->n_timers && loop->heap[child + 1]->due < loop->heap[child]->due)
            child++;
        if (child >= loop->n_timers || loop->heap[child]->due >= timer->due)
            break;
        heap_put(loop, place, loop->heap[child]);
        place = child;
    }
    heap_put(loop, place, timer);
}

void loop_timer_init(struct loop_timer *timer, void (*fire)(struct loop_timer *timer))
{
    *timer = (struct loop_timer){.place = -1, .fire = fire};
}

void loop_timer_disarm(struct loop *loop, struct loop_timer *timer)
{
    size_t place = (size_t)timer->place;
    struct loop_timer *last;

    if (timer->place < 0)
        return;
    TG_ASSERT(loop->heap[place] == timer);
    timer->place = -1;
    last = loop->heap[--loop->n_timers];
    if (last == timer)
        return;
    if (place > 0 && loop->heap[(place - 1) / 2]->due > last->due)
        heap_up(loop, place, last);
    else
        heap_down(loop, place, last);
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, int64_t delay)
{
    loop_timer_disarm(loop, timer);
    timer->due = loop_now(loop) + delay;
    if (loop->n_timers == loop->cap_timers) {
        loop->cap_timers = loop->cap_timers > 0 ? 2 * loop->cap_timers : 64;
        loop->heap = mem_realloc(loop->heap, loop->cap_timers * sizeof(*loop->heap));
    }
    heap_up(loop, loop->n_timers++, timer);
}

int64_t loop_now(const struct loop *loop)
{
    (void)loop;
    return clock_mono();
}

/* Whether any was due. */
static bool run_timers(struct loop *loop)
{
    int64_t now = loop_now(loop);
    bool any = loop->n_timers > 0 && loop->heap[0]->due <= now;

    while (loop->n_timers > 0 && loop->heap[0]->due <= now) {
        struct loop_timer *timer = loop->heap[0];

        loop_timer_disarm(loop, timer);
        timer->fire(timer);
    }
    return any;
}

static int sleep_ms(const struct loop *loop)
{
    int64_t left;

    if (loop->patient_first != NULL)
        return 0;
    if (loop->n_timers == 0)
        return SLEEP_MAX_MS;
    left = loop->heap[0]->due - loop_now(loop);
    if (left <= 0)
        return 0;
    return left < SLEEP_MAX_MS * INT64_C(1000) ? (int)((left + 999) / 1000) : SLEEP_MAX_MS;
}

/* ---- descriptors ---- */

static uint32_t epoll_events(unsigned events)
{
    return ((events & LOOP_READ) != 0 ? (uint32_t)EPOLLIN : 0) | ((events & LOOP_WRITE) != 0 ? (uint32_t)EPOLLOUT : 0);
}

static void control(struct loop *loop, int op, struct loop_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = watch};
    int failed = epoll_ctl(loop->epoll, op, watch->fd, &event);

    TG_ASSERT(!failed);
}

void loop_watch_set(struct loop *loop, struct loop_watch *watch, unsigned events)
{
    if (events == watch->events)
        return;
    if (events == 0) {
        loop_watch_remove(loop, watch);
        return;
    }
    control(loop, watch->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, watch, epoll_events(events));
    watch->events = events;
}

void loop_watch_hangup(struct loop *loop, struct loop_watch *watch)
{
    control(loop, EPOLL_CTL_ADD, watch, (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET);
    watch->events = LOOP_READ;
}

void loop_watch_forget(struct loop *loop, struct loop_watch *watch)
{
    watch->events = 0;
    for (int i = 0; i < loop->n_batch; i++) {
        if (loop->batch[i] == watch)
            loop->batch[i] = NULL;
    }
}

void loop_watch_remove(struct loop *loop, struct loop_watch *watch)
{
    if (watch->events != 0)
        control(loop, EPOLL_CTL_DEL, watch, 0);
    loop_watch_forget(loop, watch);
}

static unsigned loop_events_of(uint32_t events)
{
    unsigned out = 0;

    if ((events & (uint32_t)(EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        out |= LOOP_READ;
    if ((events & (uint32_t)(EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        out |= LOOP_WRITE;
    return out;
}

static void on_epoll_ready(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;
    struct epoll_event events[READY_BATCH];
    void *batch[READY_BATCH];
    int n = epoll_wait(loop->epoll, events, READY_BATCH, 0);

    (void)err;
    for (int i = 0; i < n; i++)
        batch[i] = events[i].data.ptr;
    loop->batch = batch;
    loop->n_batch = n > 0 ? n : 0;
    for (int i = 0; i < n; i++) {
        struct loop_watch *watch = batch[i];

        batch[i] = NULL;
        if (watch != NULL)
            watch->ready(watch, loop_events_of(events[i].events));
    }
    loop->n_batch = 0;
}

/* ---- mail ---- */

static void post_mail(struct mailbox *box, struct mail *chain)
{
    struct loop *loop = TG_CONTAINER(struct loop, box, box);
    struct mail **tail = &chain->next;
    bool was_empty;

    while (*tail != NULL)
        tail = &(*tail)->next;
    (void)pthread_mutex_lock(&loop->lock);
    was_empty = loop->first == NULL;
    *loop->last = chain;
    loop->last = tail;
    (void)pthread_mutex_unlock(&loop->lock);
    if (was_empty)
        loop_wake(loop);
}

void loop_wake(struct loop *loop)
{
    (void)eventfd_write(loop->wake, 1);
}

static void queue_patient(struct loop *loop, struct mail *mail)
{
    mail->next = NULL;
    if (loop->patient_first == NULL)
        loop->patient_last = &loop->patient_first;
    *loop->patient_last = mail;
    loop->patient_last = &mail->next;
}

static void deliver_mail(struct loop *loop)
{
    struct mail *mail;

    (void)pthread_mutex_lock(&loop->lock);
    mail = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    (void)pthread_mutex_unlock(&loop->lock);
    while (mail != NULL) {
        struct mail *next = mail->next;

        if (mail->patient)
            queue_patient(loop, mail);
        else
            mail->deliver(mail);
        mail = next;
    }
    for (int n = 0; n < PATIENT_BATCH && (mail = loop->patient_first) != NULL; n++) {
        loop->patient_first = mail->next;
        mail->deliver(mail);
    }
}

/* A wake-up carries nothing: mail is delivered at every turn (loop_turn). */
static void on_wake(h2o_socket_t *sock, const char *err)
{
    const struct loop *loop = sock->data;
    eventfd_t count;

    (void)err;
    (void)eventfd_read(loop->wake, &count);
}

/* ---- connections that have answered ---- */

void loop_guard(struct loop *loop, struct front_conn *conn)
{
    if (conn->guard_wanted)
        return;
    conn->guard_wanted = true;
    if (loop->n_guards == loop->cap_guards) {
        loop->cap_guards = loop->cap_guards > 0 ? 2 * loop->cap_guards : 64;
        loop->guards = mem_realloc(loop->guards, loop->cap_guards * sizeof(*loop->guards));
    }
    loop->guards[loop->n_guards++] = conn;
}

void loop_unguard(struct loop *loop, struct front_conn *conn)
{
    for (size_t i = 0; i < loop->n_guards; i++) {
        if (loop->guards[i] == conn)
            loop->guards[i] = NULL;
    }
}

static void run_guards(struct loop *loop)
{
    for (size_t i = 0; i < loop->n_guards; i++) {
        if (loop->guards[i] != NULL)
            http1_next(loop->guards[i]);
    }
    loop->n_guards = 0;
}

/* ---- life ---- */

void loop_open(struct loop *loop, struct front *front, int index)
{
    loop->evloop = h2o_evloop_create();
    loop->index = index;
    loop->front = front;
    loop->scratch = mem_alloc(SCRATCH);
    loop->box.post = post_mail;
    loop->last = &loop->first;
    (void)pthread_mutex_init(&loop->lock, NULL);
    /* The library's own queue would be read into a buffer from the recycler of the thread that made it: this one's, for
     * every loop. These two descriptors are never read by the library. */
    loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TG_ASSERT(loop->wake >= 0);
    loop->wake_socket = h2o_evloop_socket_create(loop->evloop, loop->wake, H2O_SOCKET_FLAG_DONT_READ);
    loop->wake_socket->data = loop;
    h2o_socket_read_start(loop->wake_socket, on_wake);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    TG_ASSERT(loop->epoll >= 0);
    loop->epoll_socket = h2o_evloop_socket_create(loop->evloop, loop->epoll, H2O_SOCKET_FLAG_DONT_READ);
    loop->epoll_socket->data = loop;
    h2o_socket_read_start(loop->epoll_socket, on_epoll_ready);
    atomic_store(&loop->turned, clock_mono());
}

/* A write that was complete at once waits for its callback. The library takes for granted that such callbacks have run
 * before it looks at the sockets' states again (else it polls for a write that is over, and stops at an assertion when
 * the socket becomes writable), and sees to that after its own time-outs; so what mail and timers wrote is finished
 * here. That ends requests; their connections are guarded again before any of them is read, and a guard that finds the
 * next request held back may start it, which writes. */
static void settle(struct loop *loop)
{
    for (;;) {
        h2o_timeout__do_post_callback(loop->evloop);
        if (loop->n_guards == 0)
            return;
        run_guards(loop);
    }
}

void loop_turn(struct loop *loop)
{
    deliver_mail(loop);
    for (int round = 0; round < TIMER_ROUNDS && run_timers(loop); round++)
        continue;
    settle(loop);
    (void)h2o_evloop_run(loop->evloop, sleep_ms(loop)); /* -1 is EINTR, no error */
    atomic_store_explicit(&loop->turned, clock_mono(), memory_order_relaxed);
}

struct mailbox *loop_mailbox(struct loop *loop)
{
    return &loop->box;
}

int loop_index(const struct loop *loop)
{
    return loop->index;
}

void loop_set(struct loop *loop, enum loop_slot slot, void *value)
{
    loop->slots[slot] = value;
}

void *loop_get(const struct loop *loop, enum loop_slot slot)
{
    return loop->slots[slot];
}
