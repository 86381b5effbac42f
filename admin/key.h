/* key.h - API keys in the making: what one and many have in common. The call's loop, but for what renders. */
#ifndef TG_ADMIN_KEY_H
#define TG_ADMIN_KEY_H

#include "body.h"

/* Reads a new key's members from call->body. */
TG_MUSTCHECK enum err_code key_read(struct admin_call *call, struct api_key *k, struct err *err);

/* Draws the secret into <secret>, which the caller wipes; its digest and what people may see of it go into the record.
 */
void key_draw(struct admin_call *call, struct api_key *k, char secret[SECRET_KEY_TEXT]);

/* Wipes the secrets. The records are given back already (admin_op_drop). NULL-safe. */
void key_bulk_destroy(struct key_bulk *bulk);

#endif
