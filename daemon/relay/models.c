/* models.c - GET /v1/models and /v1/models/{id}: what the calling key can use now.
 *
 * A model is listed when a generation, an edit or a variation with it would be let through to the hold: by the same
 * rules, asked in the same place (admit_model). One thread: the loop's. */
#include "carry.h"

#include <stdlib.h>

#include "daemon/base/clock.h"

struct listed {
    const char *name; /* borrowed from a channel */
    int64_t created_at;
};

struct list {
    struct listed *at;
    size_t n, cap;
};

static void add(struct list *list, const char *name, int64_t created_at)
{
    if (list->n == list->cap) {
        list->cap = list->cap > 0 ? list->cap * 2 : LIMIT_CHANNEL_MODELS;
        list->at = mem_realloc(list->at, list->cap * sizeof(*list->at));
    }
    list->at[list->n++] = (struct listed){name, created_at};
}

static int by_name(const void *x, const void *y)
{
    return strcmp(((const struct listed *)x)->name, ((const struct listed *)y)->name);
}

/* Every name that an active channel has, once, sorted. */
static void gather(const struct catalog *catalog, struct list *list)
{
    const struct channel *ch;
    size_t pos = 0, kept = 0;

    while ((ch = catalog_next_channel(catalog, &pos)) != NULL)
        for (int i = 0; i < ch->n_models; i++)
            add(list, ch->models[i].name, 0);
    if (list->n > 0)
        qsort(list->at, list->n, sizeof(*list->at), by_name);
    for (size_t i = 0; i < list->n; i++)
        if (kept == 0 || by_name(&list->at[kept - 1], &list->at[i]) != 0)
            list->at[kept++] = list->at[i];
    list->n = kept;
}

/* Leaves what the caller can use. */
static void sift(const struct catalog *catalog, const struct caller *caller, struct list *list)
{
    int64_t now = clock_wall(), created_at;
    size_t kept = 0;

    for (size_t i = 0; i < list->n; i++)
        if (admit_model(catalog, caller, slice_from(list->at[i].name), now, &created_at))
            list->at[kept++] = (struct listed){list->at[i].name, created_at};
    list->n = kept;
}

static void append_model(struct buf *out, struct slice name, int64_t created_at)
{
    buf_append_str(out, "{\"id\":");
    buf_append_json_string(out, name);
    buf_printf(out, ",\"object\":\"model\",\"created\":%lld,\"owned_by\":\"system\"}",
               (long long)(created_at / CLOCK_SECOND));
}

static void answer_list(struct front_call *call, const struct list *list)
{
    struct buf out;

    buf_init(&out, LIMIT_NAME + list->n * (LIMIT_MODEL * 6 + LIMIT_NAME));
    buf_append_str(&out, "{\"object\":\"list\",\"data\":[");
    for (size_t i = 0; i < list->n; i++) {
        if (i > 0)
            buf_append_char(&out, ',');
        append_model(&out, slice_from(list->at[i].name), list->at[i].created_at);
    }
    buf_append_str(&out, "]}");
    TG_ASSERT(!out.full);
    front_reply_json(call, 200, buf_slice(&out));
    buf_dispose(&out);
}

void models_list(void *ctx, struct front_call *call)
{
    const struct catalog *catalog = loop_get(front_call_loop(call), LOOP_SLOT_CATALOG);
    struct list list = {NULL, 0, 0};
    struct caller caller;

    if (!public_enter(ctx, call, &caller))
        return;
    gather(catalog, &list);
    sift(catalog, &caller, &list);
    answer_list(call, &list);
    free(list.at);
    caller_dispose(&caller);
}

/* The front leaves an escaped slash as it came. False when no model can be called so. */
static bool read_id(struct slice param, char out[LIMIT_MODEL])
{
    size_t n = 0;

    for (size_t i = 0; i < param.len; i++) {
        bool slash = param.len - i >= 3 && slice_eq_nocase((struct slice){param.p + i, 3}, SLICE("%2F"));

        if (n == LIMIT_MODEL - 1 || param.p[i] == '\0')
            return false;
        out[n++] = slash ? '/' : param.p[i];
        i += slash ? 2 : 0;
    }
    out[n] = '\0';
    return true;
}

static void answer_model(struct front_call *call, struct slice name, int64_t created_at)
{
    struct buf out;

    buf_init(&out, LIMIT_MODEL * 6 + LIMIT_NAME);
    append_model(&out, name, created_at);
    TG_ASSERT(!out.full);
    front_reply_json(call, 200, buf_slice(&out));
    buf_dispose(&out);
}

void models_get(void *ctx, struct front_call *call)
{
    const struct catalog *catalog = loop_get(front_call_loop(call), LOOP_SLOT_CATALOG);
    struct slice asked = front_call_param(call);
    char name[LIMIT_MODEL];
    struct caller caller;
    int64_t created_at;
    struct err err;
    bool fits;

    if (!public_enter(ctx, call, &caller))
        return;
    fits = read_id(asked, name);
    if (fits)
        asked = slice_from(name);
    if (fits && admit_model(catalog, &caller, asked, clock_wall(), &created_at)) {
        answer_model(call, asked, created_at);
    } else {
        (void)err_set(&err, ERR_MODEL_NOT_FOUND, "model",
                      "The model `%.*s` does not exist or you do not have access to it.", (int)asked.len, asked.p);
        front_reply_err(call, &err, NULL, 0);
    }
    caller_dispose(&caller);
}
