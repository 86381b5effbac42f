/* client.h - a small blocking HTTP client, with which commands talk to the daemon of the same machine. */
#ifndef TG_ADMIN_CLIENT_H
#define TG_ADMIN_CLIENT_H

#include "daemon/base/err.h"

enum { CLIENT_REPLY = 1024 * 1024 }; /* bytes of an answer */

/* POSTs a JSON <body> to <path> at <address> ("host:port", "[v6]:port", "unix:/path") with <token> as bearer. *status
 * and <reply> (initialised by the caller) get the answer. NO_CHANNEL: nobody listens there; UNAVAILABLE: no whole
 * answer came. */
TG_MUSTCHECK enum err_code client_post(const char *address, const char *path, const char *token, struct slice body,
                                       int *status, struct buf *reply, struct err *err);

#endif
