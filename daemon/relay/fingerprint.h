/* fingerprint.h - whether two requests are the same, though one comes later: a digest of method, path, media type and
 * body, made while the body streams by.
 *
 * Clients choose a form's boundary anew each time they send it, also when they repeat a call: so it is left out, where
 * the type names it and where it stands in the body. Owned by one request; one thread. */
#ifndef TG_RELAY_FINGERPRINT_H
#define TG_RELAY_FINGERPRINT_H

#include "daemon/base/secret.h"

struct fingerprint;

/* <boundary>: of a form; empty: of anything else. */
struct fingerprint *fingerprint_create(struct slice method, struct slice path, struct slice content_type,
                                       const char *boundary);
void fingerprint_add(struct fingerprint *f, struct slice bytes); /* the body's next */
void fingerprint_finish(struct fingerprint *f, uint8_t out[SECRET_DIGEST]);
void fingerprint_destroy(struct fingerprint *f); /* NULL-safe */

#endif
