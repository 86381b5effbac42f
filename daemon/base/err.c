/* err.c - the error table in memory, and errors written as OpenAI's object.
 *
 * A message is made in a local array first: callers may pass the old message of the same struct as an argument.
 * Read-only tables, no state; any thread. */
#include "err.h"

#include <stdio.h>

#include "utf8.h"

struct row {
    const char *name;
    int status;
    const char *type;
    const char *code;
};

static const struct row rows[ERR_COUNT] = {
    [ERR_OK] = {"OK", 0, NULL, NULL},
#define ERROR(name, status, type, code) [ERR_##name] = {#name, status, type, code},
#include "errors.def"
#undef ERROR
};

/* A text that filled <cap> was cut by snprintf, perhaps inside a character: the broken tail goes. */
static void drop_broken_tail(char *text, size_t cap)
{
    size_t len = strlen(text);
    size_t back = 1;

    if (len < cap - 1)
        return;
    while (back < 4 && back < len && ((unsigned char)text[len - back] & 0xC0) == 0x80)
        back++;
    if (((unsigned char)text[len - back] & 0xC0) == 0xC0 && utf8_length((struct slice){text + len - back, back}) == 0)
        text[len - back] = '\0';
}

enum err_code err_set(struct err *err, enum err_code code, const char *param, const char *fmt, ...)
{
    char message[LIMIT_ERROR_MESSAGE];
    char name[LIMIT_ERROR_PARAM];
    va_list args;

    TG_ASSERT(code > ERR_OK && code < ERR_COUNT);
    if (err == NULL)
        return code;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    (void)snprintf(name, sizeof(name), "%s", param != NULL ? param : "");
    drop_broken_tail(message, sizeof(message));
    drop_broken_tail(name, sizeof(name));
    err->code = code;
    memcpy(err->message, message, sizeof(message));
    memcpy(err->param, name, sizeof(name));
    return code;
}

static const struct row *row_of(enum err_code code)
{
    TG_ASSERT(code < ERR_COUNT);
    return &rows[code];
}

int err_http_status(enum err_code code)
{
    TG_ASSERT(code != ERR_OK);
    return row_of(code)->status;
}

const char *err_type(enum err_code code)
{
    TG_ASSERT(code != ERR_OK);
    return row_of(code)->type;
}

const char *err_api_code(enum err_code code)
{
    TG_ASSERT(code != ERR_OK);
    return row_of(code)->code;
}

const char *err_name(enum err_code code)
{
    return row_of(code)->name;
}

/* The object's members, each behind <lead>. */
static void append_members(struct buf *out, const struct err *err, const char *lead, const char *colon)
{
    const struct {
        const char *name, *value;
    } members[] = {
        {"message", err->message},
        {"type", err_type(err->code)},
        {"param", err->param[0] != '\0' ? err->param : NULL},
        {"code", err_api_code(err->code)},
    };

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        buf_printf(out, "%s%s\"%s\"%s", i > 0 ? "," : "", lead, members[i].name, colon);
        if (members[i].value != NULL)
            buf_append_json_string(out, slice_from(members[i].value));
        else
            buf_append_str(out, "null");
    }
}

void err_append_json_of(struct buf *out, const struct err *err, const char *request_id)
{
    buf_append_str(out, "{\n  \"error\": {");
    append_members(out, err, "\n    ", ": ");
    if (request_id != NULL) {
        buf_append_str(out, ",\n    \"request_id\": ");
        buf_append_json_string(out, slice_from(request_id));
    }
    buf_append_str(out, "\n  }\n}\n");
}

void err_append_json(struct buf *out, const struct err *err)
{
    err_append_json_of(out, err, NULL);
}

void err_append_object(struct buf *out, const struct err *err)
{
    buf_append_char(out, '{');
    append_members(out, err, "", ":");
    buf_append_char(out, '}');
}
