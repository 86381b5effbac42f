/* listen.c - addresses to listening sockets. Main thread, before the loops. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "inside.h"

enum { BACKLOG = 4096, UNIX_MODE = 0660 };

static enum err_code fail(struct err *err, const char *address, const char *why)
{
    return err_set(err, ERR_INTERNAL, "listen", "%s: %s", address, why);
}

static enum err_code add_socket(struct place *place, const char *address, int family, const struct sockaddr *sa,
                                socklen_t len, struct err *err)
{
    int on = 1;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(err, address, strerror(errno));
    if (place->n_fds == FRONT_ADDRESSES) {
        close(fd);
        return fail(err, address, "too many addresses");
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, sa, len) != 0 || listen(fd, BACKLOG) != 0) {
        enum err_code code = fail(err, address, strerror(errno));

        close(fd);
        return code;
    }
    place->fds[place->n_fds++] = fd;
    return ERR_OK;
}

/* A socket file that nobody answers on is a dead process's. */
static bool is_dead(const struct sockaddr_un *sa)
{
    struct stat st;
    int fd;
    bool dead;

    if (lstat(sa->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    dead = fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) != 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return dead;
}

static enum err_code open_unix(struct place *place, const char *address, struct slice path, struct err *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    enum err_code code;

    if (!slice_copy(path, sa.sun_path, sizeof(sa.sun_path)))
        return fail(err, address, "the path is too long");
    if (is_dead(&sa))
        (void)unlink(sa.sun_path);
    code = add_socket(place, address, AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa), err);
    if (code == ERR_OK && chmod(sa.sun_path, UNIX_MODE) != 0)
        code = fail(err, address, strerror(errno));
    return code;
}

/* "host:port" or "[v6]:port" */
static bool split_host(struct slice address, char host[NI_MAXHOST], char port[NI_MAXSERV])
{
    struct slice name, number;

    return slice_split_address(address, &name, &number) && slice_copy(name, host, NI_MAXHOST) &&
           slice_copy(number, port, NI_MAXSERV);
}

static enum err_code open_host(struct place *place, const char *address, struct err *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    enum err_code code = ERR_OK;
    int failed;

    if (!split_host(slice_from(address), host, port))
        return fail(err, address, "is not host:port");
    failed = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found);
    if (failed != 0)
        return fail(err, address, gai_strerror(failed));
    for (struct addrinfo *a = found; a != NULL && code == ERR_OK; a = a->ai_next)
        code = add_socket(place, address, a->ai_family, a->ai_addr, a->ai_addrlen, err);
    freeaddrinfo(found);
    return code;
}

enum err_code listen_open(struct place *place, struct err *err)
{
    enum err_code code = ERR_OK;

    for (size_t i = 0; i < place->listener.n_addresses && code == ERR_OK; i++) {
        const char *address = place->listener.addresses[i];
        struct slice text = slice_from(address);

        if (slice_starts(text, SLICE("unix:")))
            code = open_unix(place, address, (struct slice){text.p + 5, text.len - 5}, err);
        else
            code = open_host(place, address, err);
    }
    return code;
}

static void append_address(int fd, struct buf *out)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa);
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return;
    if (sa.ss_family == AF_UNIX) {
        buf_printf(out, "unix:%s", ((const struct sockaddr_un *)&sa)->sun_path);
        return;
    }
    if (getnameinfo((const struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0)
        buf_printf(out, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

void front_addresses(const struct front *f, size_t listener, struct buf *out)
{
    const struct place *place = &f->places[listener];

    TG_ASSERT(listener < f->n_places);
    for (size_t i = 0; i < place->n_fds; i++) {
        if (i > 0)
            buf_append_char(out, ' ');
        append_address(place->fds[i], out);
    }
}
