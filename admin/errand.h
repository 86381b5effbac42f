/* errand.h - inside the admin room: one command of `tallygate admin` on its way, and its exit codes. One thread. */
#ifndef TG_ADMIN_ERRAND_H
#define TG_ADMIN_ERRAND_H

#include "client.h"
#include "daemon/base/id.h"
#include "daemon/base/limits.h"
#include "daemon/base/secret.h"
#include "verbs.h"

enum admin_exit { ADMIN_DONE = 0, ADMIN_REFUSED = 1, ADMIN_MISUSE = 2, ADMIN_UNREACHED = 3 };

/* Options that every verb has */
enum common { COMMON_SERVER = 0, COMMON_TOKEN_FILE, COMMON_CONFIG, COMMON_JSON, COMMON_LIMIT, COMMON_KEY, COMMON };

struct errand {
    const struct verb *verb;
    struct verb_option options[VERB_OPTIONS];
    int n_options;
    const char *common[COMMON]; /* values; NULL: not given */
    bool json;
    char server[CLIENT_SERVER];
    char token[SECRET_KEY_TEXT];         /* wiped */
    char key[LIMIT_IDEMPOTENCY_KEY + 1]; /* of a POST */
    const char *format;                  /* csv, html, ndjson: printed as it comes; NULL: not */
    unsigned given;                      /* a bit an option of the verb */
    struct buf query;                    /* "?name=value&..." or empty */
    struct buf path;                     /* with it */
    struct json_object *body;            /* NULL: none */
};

/* Asks the daemon and shows what it says. Returns an exit code. */
int errand_run(struct errand *e);

/* Says "tallygate admin: NOUN VERB: <what> '<name>'"; returns ADMIN_MISUSE. */
int errand_misuse(const struct errand *e, const char *what, const char *name);

/* A whole number and nothing else. */
bool errand_number(const char *text, int64_t *out);

#endif
