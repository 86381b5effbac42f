/* refusal.c - the upstream's error objects. Pure. */
#include "refusal.h"

#include <stdio.h>

static const char invalid_request[] = "invalid_request_error";

static void fill(struct refusal *out, int status, const char *type, const char *code, const char *message)
{
    *out = (struct refusal){.status = status, .type = type, .code = code};
    (void)snprintf(out->message, sizeof(out->message), "%s", message);
}

bool refuse(struct refusal *out, const char *code, const char *param, const char *fmt, ...)
{
    struct err err;
    char message[LIMIT_ERROR_MESSAGE];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    (void)err_set(&err, ERR_BAD_REQUEST, param, "%s", message);
    (void)refuse_err(out, &err);
    out->code = code;
    return false;
}

bool refuse_err(struct refusal *out, const struct err *err)
{
    fill(out, err_http_status(err->code), err_type(err->code), err_api_code(err->code), err->message);
    memcpy(out->param, err->param, sizeof(out->param));
    return false;
}

void refusal_of_status(int status, struct refusal *out)
{
    if (status == 429)
        fill(out, status, "requests", "rate_limit_exceeded",
             "Rate limit reached for images per minute: Limit 5, Used 5, Requested 1.");
    else if (status == 401)
        fill(out, status, invalid_request, "invalid_api_key", "Incorrect API key provided.");
    else if (status >= 500)
        fill(out, status, "server_error", NULL,
             "The server had an error while processing your request. Sorry about that!");
    else
        fill(out, status, invalid_request, NULL, "The request was refused, as it asked for.");
}

void refusal_of_moderation(bool gpt, struct refusal *out)
{
    if (gpt)
        fill(out, 400, "image_generation_user_error", "moderation_blocked",
             "Your request was rejected by the safety system. If you believe this is an error, contact us at "
             "help.openai.com and include the request ID. safety_violations=[sexual].");
    else
        fill(out, 400, invalid_request, "content_policy_violation",
             "Your request was rejected as a result of our safety system. Your prompt may contain text that is not "
             "allowed by our safety system.");
    out->details = gpt;
}

static void append_text(struct buf *out, const char *text)
{
    if (text != NULL && text[0] != '\0')
        buf_append_json_string(out, slice_from(text));
    else
        buf_append_str(out, "null");
}

/* The four members and perhaps a fifth, <between> each two. */
static void append_members(struct buf *out, const struct refusal *r, const char *between)
{
    buf_append_str(out, "\"message\": ");
    append_text(out, r->message);
    buf_printf(out, ",%s\"type\": ", between);
    append_text(out, r->type);
    buf_printf(out, ",%s\"param\": ", between);
    append_text(out, r->param);
    buf_printf(out, ",%s\"code\": ", between);
    append_text(out, r->code);
    if (r->details)
        buf_printf(out, ",%s\"moderation_details\": {\"moderation_stage\": \"output\", \"categories\": [\"sexual\"]}",
                   between);
}

void refusal_append(struct buf *out, const struct refusal *r)
{
    buf_append_str(out, "{\n  \"error\": {\n    ");
    append_members(out, r, "\n    ");
    buf_append_str(out, "\n  }\n}\n");
}

void refusal_append_event(struct buf *out, const struct refusal *r)
{
    buf_append_str(out, "{\"type\":\"error\",\"error\":{");
    append_members(out, r, "");
    buf_append_str(out, "}}");
}
