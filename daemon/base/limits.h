/* limits.h - every size, count and depth that strangers can push against, named once. */
#ifndef TG_BASE_LIMITS_H
#define TG_BASE_LIMITS_H

enum {
    LIMIT_JSON_DEPTH = 32, /* nesting of any JSON that we build a tree of */
    LIMIT_GENERATION_BODY =
        1024 * 1024, /* bytes of a generations request: 32,000 escaped code points and room to spare */
    LIMIT_ADMIN_BODY = 4 * 1024 * 1024,    /* bytes of an admin request: a price version of 10,000 rates */
    LIMIT_ERROR_MESSAGE = 384,             /* bytes of an error's message, with its NUL */
    LIMIT_ERROR_PARAM = 64,                /* bytes of an error's param, with its NUL */
    LIMIT_NAME = 128,                      /* bytes of a name that people give to a thing, with its NUL */
    LIMIT_MODEL = 96,                      /* bytes of a model name, with its NUL */
    LIMIT_SIZE = 16,                       /* bytes of "3840x2160" and its like, with the NUL */
    LIMIT_QUALITY = 16,                    /* bytes of a quality name, with its NUL */
    LIMIT_URL = 512,                       /* bytes of a channel's base URL, with its NUL */
    LIMIT_CREDENTIAL = 512,                /* bytes of a channel's API key */
    LIMIT_IDEMPOTENCY_KEY = 255,           /* bytes of an Idempotency-Key */
    LIMIT_UPSTREAM_ID = 64,                /* bytes kept of an upstream's request id, with the NUL */
    LIMIT_CHANNEL_MODELS = 64,             /* models in one channel */
    LIMIT_REPLY_BUFFER = 256 * 1024,       /* bytes of a reply that wait for its end before the first leave */
    LIMIT_UPSTREAM_HEAD = 64 * 1024,       /* bytes of an upstream's reply head */
    LIMIT_UPSTREAM_ERROR_BODY = 64 * 1024, /* bytes of an upstream's error body that are relayed */
    LIMIT_SPOOL_MEMORY = 256 * 1024, /* bytes of a request's body that stay in memory; a longer one goes to a file */
    LIMIT_CONTENT_TYPE = 256,        /* bytes of a request's Content-Type, with the NUL */
    LIMIT_INPUT_IMAGES = 16,         /* images of an edit */
    LIMIT_PARTS = 64,                /* parts of a form, nested ones included */
    LIMIT_PART_HEAD = 8 * 1024,      /* bytes of one part's header */
    LIMIT_PART_NAME = 64,            /* bytes of a part's name, with the NUL */
    LIMIT_FORM_FIELD = 512 * 1024,   /* bytes of a form's scalar fields together: a prompt and some more */
    LIMIT_FILE_NAME = 4096           /* bytes of a part's file name */
};

#endif
