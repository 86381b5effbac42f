/* model.h - model cards: what a model can do and how its tokens are counted. Data from etc/prices/openai.ini.
 *
 * Sources of every figure: facts of the Images API as published by OpenAI and measured by others; the data file names
 * each. Cards are built once (model_init) and read by any thread for ever. */
#ifndef TG_BILLING_MODEL_H
#define TG_BILLING_MODEL_H

#include "price.h"

enum {
    MODEL_SIZES = 8,     /* sizes a card can list */
    MODEL_QUALITIES = 8, /* qualities a card can list */
    MODEL_EDGE_MAX = 3840,
    MODEL_EDGE_STEP = 16
};
#define MODEL_PIXELS_MIN INT64_C(655360) /* free sizes */
#define MODEL_PIXELS_MAX INT64_C(8294400)

enum model_family { MODEL_DALLE2 = 0, MODEL_DALLE3, MODEL_GPT_IMAGE_1, MODEL_GPT_IMAGE_2 };

struct model_card {
    char name[LIMIT_MODEL];
    enum model_family family;
    bool per_token;   /* priced by usage; else per image */
    bool free_size;   /* any WxH inside the limits above */
    bool takes_auto;  /* size and quality may be "auto" */
    int max_n;        /* images a call */
    int max_prompt;   /* code points */
    int max_partials; /* partial images of a stream; 0: no streaming */
    int n_sizes;
    char sizes[MODEL_SIZES][LIMIT_SIZE]; /* named sizes, without "auto" */
    int n_qualities;
    char qualities[MODEL_QUALITIES][LIMIT_QUALITY]; /* without "auto" */
    char default_size[LIMIT_SIZE];                  /* what an absent size means upstream ("auto" or a size) */
    char default_quality[LIMIT_QUALITY];
    char dearest_size[LIMIT_SIZE];                /* what "auto" can cost at most; free sizes only */
    int64_t partial_tokens;                       /* output tokens a partial image adds */
    int64_t text_overhead;                        /* text tokens beyond the prompt's own, a call */
    int64_t text_per_input_image;                 /* text tokens each input image adds */
    int64_t text_output;                          /* text output tokens that a hold counts for each image */
    int64_t tokens[MODEL_QUALITIES][MODEL_SIZES]; /* output table of fixed-size models */
    int64_t factor[MODEL_QUALITIES];              /* of the patch formula, free-size models */
    /* What a hold counts instead, where publications disagree: never less than the two above. */
    int64_t hold_tokens[MODEL_QUALITIES][MODEL_SIZES];
    int64_t hold_factor[MODEL_QUALITIES];
};

/* Reads the embedded data; stops the process when that is broken. Once, before anything else here. */
void model_init(void);

/* The card for a model name: exact, or the name followed by a date (-2026-04-21); NULL for a model that we know nothing
 * of (it can still be sold per image or per request). */
const struct model_card *model_find(struct slice name);

/* Walks all cards from *pos = 0; NULL at the end. */
const struct model_card *model_next(size_t *pos);

/* "1024x1024" into numbers; strict: no leading zeros, no blanks, lower-case x, 1..99999 each. */
bool model_parse_size(struct slice text, int *w, int *h);

/* Whether a size (never "auto") is one that the card can make; likewise a quality. */
bool model_has_size(const struct model_card *card, struct slice size);
bool model_has_quality(const struct model_card *card, struct slice quality);

/* Output tokens of <images> pictures of one size and quality: table, or formula with the images multiplied before the
 * rounding. -1 when the card has no such size or quality. */
int64_t model_output_tokens(const struct model_card *card, struct slice size, struct slice quality, int64_t images);

/* The same for one picture as a hold counts it (hold_tokens, hold_factor). */
int64_t model_hold_tokens(const struct model_card *card, struct slice size, struct slice quality);

/* Tokens of one input image of w x h; an unknown image (w or h 0) counts as the dearest there is. */
int64_t model_input_tokens(const struct model_card *card, int w, int h, bool high_fidelity);

#endif
