/* err.h - what can go wrong, as a code and a bounded message.
 *
 * Functions that can fail return `enum err_code` (ERR_OK = 0) and take `struct err *` last. They fill it exactly when
 * they return something else; NULL is allowed where the caller wants the code alone. The table errors.def gives each
 * code its HTTP status and the `type` and `code` of the OpenAI error object. */
#ifndef TG_BASE_ERR_H
#define TG_BASE_ERR_H

#include "attrs.h"
#include "buf.h"
#include "limits.h"

enum err_code {
    ERR_OK = 0,
#define ERROR(name, status, type, code) ERR_##name,
#include "errors.def"
#undef ERROR
    ERR_COUNT
};

struct err {
    enum err_code code;
    char param[LIMIT_ERROR_PARAM];     /* the parameter at fault; empty: none (JSON null) */
    char message[LIMIT_ERROR_MESSAGE]; /* for people; cut at the end when too long, never inside a UTF-8 character */
};

/* Fills <err> (when not NULL) and returns <code>, so that `return err_set(...)` reads well. <param> may be NULL. */
enum err_code err_set(struct err *err, enum err_code code, const char *param, const char *fmt, ...) TG_PRINTF(4, 5);

int err_http_status(enum err_code code);      /* 400..599 */
const char *err_type(enum err_code code);     /* "invalid_request_error", ... */
const char *err_api_code(enum err_code code); /* NULL: JSON null */
const char *err_name(enum err_code code);     /* the enum's name without ERR_, for logs */

/* Appends OpenAI's object, two-space indent and a newline at its end:
 * {"error": {"message", "type", "param", "code"}}; all four keys always. */
void err_append_json(struct buf *out, const struct err *err);

/* The same with a fifth key, "request_id", at the end; <request_id> NULL: without it. */
void err_append_json_of(struct buf *out, const struct err *err, const char *request_id);

/* The inner object alone, on one line: {"message", "type", "param", "code"}. */
void err_append_object(struct buf *out, const struct err *err);

#endif
