/* upstream_wire.c - libcurl's sockets and time-outs inside a loop, with as few system calls as there can be.
 *
 *            open                       libcurl lets go
 *   (none) --------> OWNED (watched) -------------------> RESTING (still watched for reading, without a call)
 *                      ^   |                                 |   |
 *                      |   | close                   wanted  |   | something to read: dropped from epoll,
 *                      |   v                          again  |   v as nobody would read it
 *                      | (none) <-- close -- ASLEEP <--------|-- ASLEEP
 *                      +----------------------wanted again---+
 *
 * Invariants
 *  (1) A registered descriptor that is readable is libcurl's to read, or is dropped at once: the loop never spins.
 *  (2) Only a connection made by open_socket may rest or sleep: its end comes by close_socket. Everything else is
 *      unregistered when libcurl lets go of it. Connection attempts that lost are closed by libcurl without a word, so
 *      a descriptor is taken out of epoll only while it is still the socket that was put in (its inode tells).
 *  (3) libcurl runs only inside a turn (on_timer, on_socket), never nested; `begin` and `collect` run outside of it.
 *
 * One thread: the loop's. */
#include "upstream_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "daemon/base/attrs.h"

enum {
    WIRE_ROUNDS = 8,        /* turns of begin-run-collect before the loop gets its own again */
    WIRE_TURN = 256 * 1024, /* body bytes of one turn after which others come first */
    WIRE_YIELD = 100,       /* microseconds until it goes on then: past the loop's own rounds of timers */
    WIRE_CONNECTIONS = 1024 /* idle connections kept */
};

struct wire_link {
    struct loop_watch watch;
    struct wire *wire;
    ino_t inode;     /* of the socket that is registered */
    bool registered; /* in the loop */
    bool owned;      /* libcurl waits for something */
    bool made;       /* by open_socket: its end comes by close_socket */
};

static void arm(struct wire *w)
{
    int64_t delay;

    if (w->due || w->wanted) {
        loop_timer_arm(w->loop, &w->timer, w->received >= WIRE_TURN ? WIRE_YIELD : 0);
    } else if (w->deadline < 0) {
        loop_timer_disarm(w->loop, &w->timer);
    } else if (w->timer.place < 0 || w->timer.due != w->deadline) {
        delay = w->deadline - loop_now(w->loop);
        loop_timer_arm(w->loop, &w->timer, delay > 0 ? delay : 0);
    }
}

static void action(struct wire *w, curl_socket_t fd, int bits)
{
    int running;

    (void)curl_multi_socket_action(w->multi, fd, bits, &running);
}

/* Everything that can be done now, begun by what the caller did with libcurl just before. */
static void finish_turn(struct wire *w)
{
    for (int round = 0; round < WIRE_ROUNDS; round++) {
        w->wanted = false;
        w->begin(w->ctx);
        if (w->due) {
            w->due = false;
            action(w, CURL_SOCKET_TIMEOUT, 0);
        }
        w->collect(w->ctx);
        if ((!w->due && !w->wanted) || w->received >= WIRE_TURN)
            break;
    }
    w->turning = false;
    arm(w);
    w->received = 0;
}

static void on_timer(struct loop_timer *timer)
{
    struct wire *w = TG_CONTAINER(struct wire, timer, timer);

    TG_ASSERT(!w->turning);
    w->turning = true;
    if (w->deadline >= 0 && w->deadline <= loop_now(w->loop)) {
        w->deadline = -1; /* libcurl names the next one when it has run, even when this was early */
        w->due = true;
    }
    finish_turn(w);
}

void wire_want(struct wire *w)
{
    if (w->wanted)
        return;
    w->wanted = true;
    if (!w->turning)
        arm(w);
}

static int set_timeout(CURLM *multi, long timeout_ms, void *ctx)
{
    struct wire *w = ctx;

    (void)multi;
    w->due = timeout_ms == 0;
    w->deadline = timeout_ms > 0 ? loop_now(w->loop) + timeout_ms * 1000 : -1;
    if (!w->turning)
        arm(w);
    return 0;
}

/* ---- sockets ---- */

/* The descriptor is closed already, which took it out of epoll. */
static void forget(struct wire_link *link)
{
    if (!link->registered)
        return;
    link->registered = false;
    loop_watch_forget(link->wire->loop, &link->watch);
    link->watch.events = 0;
}

static ino_t inode_of(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* libcurl may have closed it without a word, and the number may be another thread's by now. */
static void unregister(struct wire_link *link)
{
    if (link->registered && inode_of(link->watch.fd) == link->inode)
        loop_watch_remove(link->wire->loop, &link->watch);
    forget(link);
}

static void watch(struct wire_link *link, unsigned events)
{
    if (link->registered && link->watch.events == events)
        return;
    if (!link->registered)
        link->inode = inode_of(link->watch.fd);
    loop_watch_set(link->wire->loop, &link->watch, events);
    link->registered = true;
}

static void on_socket(struct loop_watch *watch, unsigned events)
{
    struct wire_link *link = TG_CONTAINER(struct wire_link, watch, watch);
    struct wire *w = link->wire;
    curl_socket_t fd = watch->fd;
    /* Before a write libcurl looks for itself what can be done, at the last moment: an upstream that answers early and
     * closes while a long request is being sent makes the write fail, and with it the reply that lies there to read. */
    int bits = (events & LOOP_WRITE) == 0 ? CURL_CSELECT_IN : 0;

    if (!link->owned) {
        unregister(link);
        return;
    }
    TG_ASSERT(!w->turning);
    w->turning = true;
    action(w, fd, bits);
    finish_turn(w);
}

static struct wire_link *find_link(struct wire *w, curl_socket_t fd)
{
    struct wire_link *link;

    TG_ASSERT(fd >= 0);
    if ((size_t)fd >= w->n_links) {
        size_t n = ((size_t)fd + 64) * 2;

        w->links = mem_realloc(w->links, n * sizeof(struct wire_link *));
        for (size_t i = w->n_links; i < n; i++)
            w->links[i] = NULL;
        w->n_links = n;
    }
    link = w->links[fd];
    if (link == NULL) {
        link = w->links[fd] = mem_zalloc(sizeof(*link));
        link->watch = (struct loop_watch){.fd = fd, .ready = on_socket};
        link->wire = w;
    }
    return link;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct wire_link *link = find_link(ctx, fd);
    unsigned events = LOOP_READ | (what & CURL_POLL_OUT ? LOOP_WRITE : 0);

    (void)easy;
    (void)socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        link->owned = false;
        if (!link->made || (link->watch.events & LOOP_WRITE) != 0)
            unregister(link);
        return 0;
    }
    link->owned = true;
    watch(link, events);
    return 0;
}

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct wire *w = ctx;
    struct wire_link *link;
    int fd;

    (void)purpose;
    if (w->public_only && address_is_private(&address->addr, (socklen_t)address->addrlen)) {
        errno = EACCES;
        return CURL_SOCKET_BAD;
    }
    fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    link = find_link(w, fd);
    forget(link); /* an earlier socket of this number was closed without a word */
    link->owned = false;
    link->made = true;
    return fd;
}

static int close_socket(void *ctx, curl_socket_t fd)
{
    struct wire *w = ctx;
    struct wire_link *link = find_link(w, fd);
    int rc = close(fd);

    forget(link);
    link->owned = link->made = false;
    return rc;
}

void wire_adopt(struct wire *w, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, w);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, w);
}

/* ---- life ---- */

void wire_init(struct wire *w, struct loop *loop, bool public_only)
{
    w->loop = loop;
    w->multi = curl_multi_init();
    TG_ASSERT(w->multi != NULL);
    w->links = NULL;
    w->n_links = 0;
    w->deadline = -1;
    w->due = w->wanted = w->turning = false;
    w->received = 0;
    w->public_only = public_only;
    loop_timer_init(&w->timer, on_timer);
    curl_multi_setopt(w->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(w->multi, CURLMOPT_SOCKETDATA, w);
    curl_multi_setopt(w->multi, CURLMOPT_TIMERFUNCTION, set_timeout);
    curl_multi_setopt(w->multi, CURLMOPT_TIMERDATA, w);
    curl_multi_setopt(w->multi, CURLMOPT_MAXCONNECTS, (long)WIRE_CONNECTIONS);
    curl_multi_setopt(w->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
}

void wire_dispose(struct wire *w)
{
    w->turning = true; /* closing connections must arm nothing */
    curl_multi_cleanup(w->multi);
    loop_timer_disarm(w->loop, &w->timer);
    for (size_t i = 0; i < w->n_links; i++) {
        if (w->links[i] == NULL)
            continue;
        unregister(w->links[i]);
        free(w->links[i]);
    }
    free(w->links);
}
