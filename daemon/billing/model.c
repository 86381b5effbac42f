/* model.c - the model cards, and how many output tokens a picture is.
 *
 * Cards come from the embedded data once, at the start, and never change. Two ways of counting: a table by quality and
 * size (gpt-image-1 and its kin), and a formula over width, height and a factor by quality (gpt-image-2 and later), in
 * integers exactly as OpenAI's own calculator does it.
 *
 * Threads: model_init once before any other; then any. */
#include <limits.h>
#include <stdlib.h>

#include "model.h"

#include "tariff.h"

enum {
    DATE_LEN = 11,      /* "-2026-04-21" */
    SIZE_DIGITS = 5,    /* of an edge */
    RATIO_MAX = 3,      /* longer edge to shorter */
    AREA_BASE = 2000000 /* pixels' worth that every picture costs */
};
#define AREA_UNIT INT64_C(4000000) /* pixels and base that one squared step of the factor makes a token */

static struct model_card cards[TARIFF_CARDS];
static size_t n_cards;

void model_init(void)
{
    struct tariff *data = tariff_load();

    memcpy(cards, data->cards, data->n_cards * sizeof(cards[0]));
    n_cards = data->n_cards;
    free(data);
}

const struct model_card *model_next(size_t *pos)
{
    return *pos < n_cards ? &cards[(*pos)++] : NULL;
}

static bool is_date(const char *p)
{
    static const char form[] = "-0000-00-00";

    for (int i = 0; i < DATE_LEN; i++) {
        if (form[i] == '-' ? p[i] != '-' : p[i] < '0' || p[i] > '9')
            return false;
    }
    return true;
}

const struct model_card *model_find(struct slice name)
{
    struct slice undated = name;

    if (name.len > DATE_LEN && is_date(name.p + name.len - DATE_LEN))
        undated.len -= DATE_LEN;
    for (size_t i = 0; i < n_cards; i++) {
        if (slice_eq_str(name, cards[i].name) || slice_eq_str(undated, cards[i].name))
            return &cards[i];
    }
    return NULL;
}

/* Digits at the start of [*p, end) as an edge; moves *p behind them. */
static bool parse_edge(const char **p, const char *end, int *edge)
{
    int value = 0;
    int digits = 0;

    if (*p == end || **p == '0')
        return false;
    while (*p < end && **p >= '0' && **p <= '9') {
        if (++digits > SIZE_DIGITS)
            return false;
        value = value * 10 + (**p - '0');
        (*p)++;
    }
    *edge = value;
    return digits > 0;
}

bool model_parse_size(struct slice text, int *w, int *h)
{
    const char *p = text.p;
    const char *end = text.p + text.len;
    int width, height;

    if (text.len == 0 || !parse_edge(&p, end, &width) || p == end || *p++ != 'x' || !parse_edge(&p, end, &height) ||
        p != end)
        return false;
    *w = width;
    *h = height;
    return true;
}

static bool free_size_legal(int w, int h)
{
    int longer = w > h ? w : h;
    int shorter = w > h ? h : w;
    int64_t pixels = (int64_t)w * h;

    return w % MODEL_EDGE_STEP == 0 && h % MODEL_EDGE_STEP == 0 && longer <= MODEL_EDGE_MAX &&
           longer <= RATIO_MAX * shorter && pixels >= MODEL_PIXELS_MIN && pixels <= MODEL_PIXELS_MAX;
}

static int size_index(const struct model_card *card, struct slice size)
{
    for (int i = 0; i < card->n_sizes; i++) {
        if (slice_eq_str(size, card->sizes[i]))
            return i;
    }
    return -1;
}

static int quality_index(const struct model_card *card, struct slice quality)
{
    for (int i = 0; i < card->n_qualities; i++) {
        if (slice_eq_str(quality, card->qualities[i]))
            return i;
    }
    return -1;
}

bool model_has_size(const struct model_card *card, struct slice size)
{
    int w, h;

    if (size_index(card, size) >= 0)
        return true;
    return card->free_size && model_parse_size(size, &w, &h) && free_size_legal(w, h);
}

bool model_has_quality(const struct model_card *card, struct slice quality)
{
    return quality_index(card, quality) >= 0;
}

/* ceil(images * factor * s * (base + w*h) / unit), where s is the factor scaled by the ratio of the edges and rounded
 * to the nearest. */
static int64_t formula_tokens(int64_t factor, int w, int h, int64_t images)
{
    int64_t longer = w > h ? w : h;
    int64_t shorter = w > h ? h : w;
    int64_t s = (2 * factor * shorter + longer) / (2 * longer);
    int64_t each = factor * s * (AREA_BASE + (int64_t)w * h);

    return (int64_t)(((__int128)images * each + AREA_UNIT - 1) / AREA_UNIT);
}

static int64_t output_tokens(const struct model_card *card, struct slice size, struct slice quality, int64_t images,
                             bool hold)
{
    int at_quality = quality_index(card, quality);
    int at_size = size_index(card, size);
    int w, h;

    TG_ASSERT(images >= 0 && images <= INT_MAX); /* and the data keeps the tokens of one below 2^31 */
    if (!card->per_token || at_quality < 0)
        return -1;
    if (!card->free_size) {
        if (at_size < 0)
            return -1;
        return images * (hold ? card->hold_tokens : card->tokens)[at_quality][at_size];
    }
    if (!model_parse_size(size, &w, &h) || !free_size_legal(w, h))
        return -1;
    return formula_tokens(hold ? card->hold_factor[at_quality] : card->factor[at_quality], w, h, images);
}

int64_t model_output_tokens(const struct model_card *card, struct slice size, struct slice quality, int64_t images)
{
    return output_tokens(card, size, quality, images, false);
}

int64_t model_hold_tokens(const struct model_card *card, struct slice size, struct slice quality)
{
    return output_tokens(card, size, quality, 1, true);
}
