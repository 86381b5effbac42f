/* reply.h - what an order is answered with: OpenAI's JSON, or its events. */
#ifndef TG_SANDBOX_REPLY_H
#define TG_SANDBOX_REPLY_H

#include "daemon/front/call.h"
#include "order.h"
#include "script.h"

/* JSON, or what the directives want in its place. <call> tells where a url leads to. */
void reply_json(struct front_call *call, const struct order *o, struct script *script);

/* The events of a stream; returns how many images they bring. */
int reply_events(const struct order *o, struct script *script);

/* Appends {"input_tokens", ...} for share <k> of <n> of the call's usage; the shares of a call make up its whole. */
void reply_append_usage(const struct order *o, int k, int n, struct buf *out);

#endif
