/* lib_relay.h - a gateway in the test's own process: store, loops, front and relay, before lib_peer.h's upstream.
 *
 * Cases are clients on raw sockets; after each the books are looked at. */
#ifndef TG_TESTS_LIB_RELAY_H
#define TG_TESTS_LIB_RELAY_H

#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/gate/catalog.h"
#include "daemon/relay/relay.h"
#include "lib_peer.h"

#define GW_USD INT64_C(1000000000)
#define GW_CREDIT (1000 * GW_USD)
#define GW_JSON "Content-Type: application/json\r\n"

enum { GW_THREADS = 2, GW_TEXT = 64 * 1024, GW_ANSWER_MAX = 64 * 1024 * 1024 };

struct gw {
    char dir[64], url[128], cache[128];
    struct secrets *secrets;
    struct store *store;
    struct relay_house *relay;
    struct front *front;
    struct catalog *catalogs[GW_THREADS];
    uint16_t port;
    int64_t tenant, poor_tenant;
    char key[SECRET_KEY_TEXT], poor_key[SECRET_KEY_TEXT], test_key[SECRET_KEY_TEXT];
    char narrow_key[SECRET_KEY_TEXT]; /* the tenant's, for gpt-image-1 alone */
    char shop_key[SECRET_KEY_TEXT];   /* of a tenant whose book sells vendor/image alone */
};
extern struct gw gw;

/* Fixtures of a group. Channels: "main" (dall-e-2, and gpt-image-1 under another name), "nowhere" (dall-e-3, refuses
 * connections), "narrow" (gpt-image-1-mini, one call at a time), "shop" (vendor/image, unpriced). */
int gw_set_up(void **state);
int gw_tear_down(void **state);

/* Stops everything, and starts it again over the same directory. */
void gw_restart(void);

int64_t gw_put(void *record); /* by the store's own way, before it runs; returns the row */
struct store_balance gw_balance(int64_t tenant);
struct usage_record gw_last_usage(void); /* of the tenant */
void gw_wait_idle(void);
void gw_wait_requests(int n); /* until the upstream has so many */

/* ---- the client's side ---- */

struct answer {
    int status;
    char *text; /* all of it, with a NUL */
    size_t len;
    char *body;
    size_t body_len;
};

int gw_connect(int buffer); /* of the socket, 0: the system's own */
void gw_send_bytes(int fd, const void *bytes, size_t len);
void gw_post(int fd, const char *path, const char *key, const char *headers, const void *body, size_t len);
/* Reads to the end of the connection; <pace> microseconds between reads of <piece> bytes. Closes it. */
void gw_read(int fd, struct answer *a, size_t piece, useconds_t pace);
/* Reads until <text> has come; false at the end of the connection. */
bool gw_read_until(int fd, struct answer *a, const char *text);

/* One whole call: generations as the tenant, with a JSON body, unless said. */
void gw_call(const char *body, struct answer *a);
void gw_call_as(const char *key, const char *headers, const char *body, struct answer *a);
void gw_call_path(const char *path, const char *headers, const void *body, size_t len, struct answer *a);
void gw_get(const char *path, const char *key, struct answer *a);
void answer_dispose(struct answer *a);

bool answer_has(const struct answer *a, const char *line); /* a header's line */
/* Takes the chunks of a chunked body apart, in place; false when the last chunk is missing. */
bool answer_unchunk(struct answer *a);

/* ---- expectations ---- */

void gw_begin(peer_fn *serve); /* a case: waits for the one before, and looks at what was spent so far */
void gw_expect_charge(int64_t nano);
int64_t gw_spent(void); /* in this case */
void gw_expect_doubt(bool recorded);
void gw_expect_error(const struct answer *a, int status, const char *code, bool no_retry);

/* ---- what upstreams say ---- */

void peer_json(struct peer *p, int status, const char *headers, const char *body);
/* From now on every request gets this. */
void gw_begin_reply(int status, const char *headers, const char *body);

extern atomic_bool gw_go;            /* what peer_when_told waits for */
void peer_when_told(struct peer *p); /* answers PEER_ONE once gw_go is set */

#define PEER_TWO "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"},{\"b64_json\":\"REVG\"}]}"
#define PEER_ONE "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"}]}"
#define PEER_USED(i, o, t)                                                                                             \
    "{\"created\":1,\"data\":[{\"b64_json\":\"QUJD\"}],\"size\":\"1024x1024\",\"quality\":\"medium\",\"usage\":{"      \
    "\"input_tokens\":" i ",\"input_tokens_details\":{\"image_tokens\":0,\"text_tokens\":" i "},\"output_tokens\":" o  \
    ",\"total_tokens\":" t "}}"

#endif
