/* refusal.h - why a call is refused, in OpenAI's words: errors that only the upstream knows beside those of errors.def.
 * Pure. */
#ifndef TG_SANDBOX_REFUSAL_H
#define TG_SANDBOX_REFUSAL_H

#include "daemon/base/err.h"

struct refusal {
    int status;
    const char *type;
    const char *code; /* NULL: JSON null */
    bool details;     /* the safety system's, beside the message */
    char param[LIMIT_ERROR_PARAM];
    char message[LIMIT_ERROR_MESSAGE];
};

/* Status 400, invalid_request_error. <code> and <param> may be NULL; both static, or copied where they are not. Returns
 * false, so that `return refuse(...)` reads well. */
bool refuse(struct refusal *out, const char *code, const char *param, const char *fmt, ...) TG_PRINTF(4, 5);
bool refuse_err(struct refusal *out, const struct err *err);

/* What [[status=N]] and [[moderation]] ask for. <gpt>: in the words of the gpt-image models. */
void refusal_of_status(int status, struct refusal *out);
void refusal_of_moderation(bool gpt, struct refusal *out);

/* The error object, alone or as the data of an event (one line). */
void refusal_append(struct buf *out, const struct refusal *r);
void refusal_append_event(struct buf *out, const struct refusal *r);

#endif
