/* client.h - a small blocking HTTP client over libcurl, with which commands talk to an admin listener.
 *
 * One request, one answer. A server is named by its address as in the configuration ("host:port", "[v6]:port",
 * "unix:/path") or by a URL ("https://gateway.example"). Redirects are not followed, proxies of the environment not
 * used for addresses of this machine. Commands only: one thread, no loop. */
#ifndef TG_ADMIN_CLIENT_H
#define TG_ADMIN_CLIENT_H

#include <stdio.h>

#include "daemon/base/err.h"

enum {
    CLIENT_REPLY = 32 * 1024 * 1024, /* bytes of an answer that is kept: a report of the largest size */
    CLIENT_SERVER = 512              /* bytes of a server's name, with the NUL */
};

struct client_request {
    const char *server;
    const char *method;          /* "GET" */
    const char *path;            /* with its query */
    const char *token;           /* NULL: none */
    struct slice body;           /* JSON; POST and PATCH */
    const char *idempotency_key; /* NULL: none */
    const char *accept;          /* NULL: JSON */
    FILE *stream;                /* a 200's body goes here as it comes; NULL: to the reply */
};

/* *status and <reply> (initialised by the caller) get the answer. NO_CHANNEL: nobody listens there, so nothing
 * happened; UNAVAILABLE: no whole answer came, so it may have. */
TG_MUSTCHECK enum err_code client_call(const struct client_request *request, int *status, struct buf *reply,
                                       struct err *err);

/* Adds "?name=value" or "&name=value" to a path, escaped. */
void client_add_query(struct buf *path, const char *name, const char *value);

#endif
