/* views.c - the routes that only look: models, pictures that a url names, and what was served. */
#include "views.h"

#include <stdio.h>

#include "daemon/billing/model.h"
#include "picture.h"
#include "served.h"

enum { MODEL_CREATED = 1698785189 /* when dall-e-3 was announced; every model says the same */ };

void view_served(void *sandbox, struct front_call *call)
{
    struct buf body;

    (void)sandbox;
    buf_init(&body, SERVED_KEYS * 256);
    served_print(&body);
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

static void append_model(struct buf *out, const char *name)
{
    buf_append_str(out, "{\"id\":");
    buf_append_json_string(out, slice_from(name));
    buf_printf(out, ",\"object\":\"model\",\"created\":%d,\"owned_by\":\"sandbox\"}", MODEL_CREATED);
}

void view_models(void *sandbox, struct front_call *call)
{
    const struct model_card *card;
    struct buf body;
    size_t pos = 0;
    const char *comma = "";

    (void)sandbox;
    buf_init(&body, LIMIT_ADMIN_BODY);
    buf_append_str(&body, "{\"object\":\"list\",\"data\":[");
    while ((card = model_next(&pos)) != NULL) {
        buf_append_str(&body, comma);
        append_model(&body, card->name);
        comma = ",";
    }
    buf_append_str(&body, "]}\n");
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

void view_model(void *sandbox, struct front_call *call)
{
    const struct model_card *card = model_find(front_call_param(call));
    struct buf body;
    struct err err;

    (void)sandbox;
    if (card == NULL) {
        (void)err_set(&err, ERR_MODEL_NOT_FOUND, "model", "The model `%.*s` does not exist",
                      (int)front_call_param(call).len, front_call_param(call).p);
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    buf_init(&body, LIMIT_ADMIN_BODY);
    append_model(&body, card->name);
    front_reply_json(call, 200, buf_slice(&body));
    buf_dispose(&body);
}

/* "1024x1024-0123456789abcdef-0.png" */
static bool parse_name(struct slice name, struct picture *p)
{
    struct slice size, seed, rest, length, format;
    unsigned long long n;
    char hex[17];
    int end = 0;

    if (!slice_cut(name, '-', &size, &rest) || !slice_cut(rest, '-', &seed, &rest) ||
        !slice_cut(rest, '.', &length, &format) || !model_parse_size(size, &p->w, &p->h) || p->w > MODEL_EDGE_MAX ||
        p->h > MODEL_EDGE_MAX || !slice_copy(seed, hex, sizeof(hex)) || seed.len != 16 || !slice_to_u64(length, &n) ||
        n > PICTURE_FILE_MAX / 2 || !picture_format_parse(format, &p->format))
        return false;
    p->bytes = (int64_t)n;
    return sscanf(hex, "%16llx%n", &n, &end) == 1 && end == 16 && (p->seed = n, true);
}

void view_picture(void *sandbox, struct front_call *call)
{
    struct picture p;
    struct buf file;
    struct err err;
    char type[32];

    (void)sandbox;
    if (!parse_name(front_call_param(call), &p)) {
        (void)err_set(&err, ERR_NOT_FOUND, NULL, "There is no such picture.");
        front_reply_err(call, &err, NULL, 0);
        return;
    }
    buf_init(&file, PICTURE_FILE_MAX);
    picture_write(&p, &file);
    (void)snprintf(type, sizeof(type), "image/%s", picture_format_name(p.format));
    front_reply(call, 200, NULL, 0, slice_from(type), buf_slice(&file));
    buf_dispose(&file);
}
