/* tariff.c - the reader of price data: one table of keys for the cards, one form of key for the rates.
 *
 * A card is checked as a whole when the data has been read: what the rest of the room relies on (every quality has its
 * tokens, a hold never counts less, defaults are listed) is made sure here and nowhere else.
 *
 * Threads: any; no state between calls. */
#include <inttypes.h>
#include <stdlib.h>

#include "tariff.h"

#include "daemon/base/ini.h"

enum {
    TOKENS_MAX = 1000000, /* of one picture: far above any, far below what could overflow */
    FACTOR_MAX = 1000,
    COUNT_MAX = 1000000000,
    WORD = LIMIT_SIZE /* bytes of a size or quality with its NUL */
};
_Static_assert((int)LIMIT_QUALITY == (int)WORD, "words of a card share one reader");

extern const char embed_openai_ini[];
extern const size_t embed_openai_ini_len;

struct reader {
    struct tariff *out;
    FILE *faults;
};

enum key_kind { KEY_WORD, KEY_WORDS, KEY_SWITCH, KEY_INT, KEY_INT64, KEY_FAMILY };

struct card_key {
    const char *name;
    enum key_kind kind;
    size_t offset; /* of the member in struct model_card */
    size_t count;  /* of the member that counts the words */
    int most;      /* words, or the largest number */
};

#define AT(member) offsetof(struct model_card, member)

static const struct card_key card_keys[] = {
    {"family", KEY_FAMILY, AT(family), 0, 0},
    {"per_token", KEY_SWITCH, AT(per_token), 0, 0},
    {"free_size", KEY_SWITCH, AT(free_size), 0, 0},
    {"takes_auto", KEY_SWITCH, AT(takes_auto), 0, 0},
    {"max_n", KEY_INT, AT(max_n), 0, COUNT_MAX},
    {"max_prompt", KEY_INT, AT(max_prompt), 0, COUNT_MAX},
    {"max_partials", KEY_INT, AT(max_partials), 0, COUNT_MAX},
    {"sizes", KEY_WORDS, AT(sizes), AT(n_sizes), MODEL_SIZES},
    {"qualities", KEY_WORDS, AT(qualities), AT(n_qualities), MODEL_QUALITIES},
    {"default_size", KEY_WORD, AT(default_size), 0, 0},
    {"default_quality", KEY_WORD, AT(default_quality), 0, 0},
    {"dearest_size", KEY_WORD, AT(dearest_size), 0, 0},
    {"partial_tokens", KEY_INT64, AT(partial_tokens), 0, TOKENS_MAX},
    {"text_overhead", KEY_INT64, AT(text_overhead), 0, TOKENS_MAX},
    {"text_per_input_image", KEY_INT64, AT(text_per_input_image), 0, TOKENS_MAX},
    {"text_output", KEY_INT64, AT(text_output), 0, TOKENS_MAX},
};

static const char *const families[] = {
    [MODEL_DALLE2] = "dall-e-2",
    [MODEL_DALLE3] = "dall-e-3",
    [MODEL_GPT_IMAGE_1] = "gpt-image-1",
    [MODEL_GPT_IMAGE_2] = "gpt-image-2",
};

static enum err_code bad(struct err *err, const char *what)
{
    return err_set(err, ERR_INVALID_VALUE, NULL, "%s", what);
}

static bool read_number(struct slice text, long long most, int64_t *out)
{
    unsigned long long value;

    if (!slice_to_u64(text, &value) || value > (unsigned long long)most)
        return false;
    *out = (int64_t)value;
    return true;
}

/* Takes the next word from the list; false at its end. */
static bool next_word(struct slice *list, struct slice *word)
{
    struct slice trimmed = slice_trim(*list);
    struct slice rest = SLICE_NONE;

    if (trimmed.len == 0)
        return false;
    (void)slice_cut(trimmed, ' ', word, &rest);
    *list = rest;
    return true;
}

static enum err_code read_words(struct slice value, char (*out)[WORD], int most, int *n, struct err *err)
{
    struct slice word;

    if (*n != 0)
        return bad(err, "given twice");
    while (next_word(&value, &word)) {
        if (*n == most || !slice_copy(word, out[*n], WORD))
            return bad(err, "too many words, or one too long");
        (*n)++;
    }
    return *n > 0 ? ERR_OK : bad(err, "empty list");
}

static enum err_code read_family(struct slice value, enum model_family *out, struct err *err)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        if (slice_eq_str(value, families[i])) {
            *out = (enum model_family)i;
            return ERR_OK;
        }
    }
    return bad(err, "no such family");
}

static enum err_code read_switch(struct slice value, bool *out, struct err *err)
{
    *out = slice_eq_str(value, "on");
    return *out || slice_eq_str(value, "off") ? ERR_OK : bad(err, "neither on nor off");
}

static enum err_code read_card_key(struct model_card *card, const struct card_key *key, struct slice value,
                                   struct err *err)
{
    char *member = (char *)card + key->offset;
    int64_t number = 0;

    switch (key->kind) {
    case KEY_WORD:
        return slice_copy(value, member, WORD) ? ERR_OK : bad(err, "too long");
    case KEY_WORDS:
        return read_words(value, (char(*)[WORD])member, key->most, (int *)(void *)((char *)card + key->count), err);
    case KEY_SWITCH:
        return read_switch(value, (bool *)member, err);
    case KEY_FAMILY:
        return read_family(value, (enum model_family *)(void *)member, err);
    case KEY_INT:
    case KEY_INT64:
        if (!read_number(value, key->most, &number))
            return bad(err, "no such number");
        if (key->kind == KEY_INT)
            memcpy(member, &(int){(int)number}, sizeof(int));
        else
            memcpy(member, &number, sizeof(number));
        return ERR_OK;
    }
    return bad(err, "unknown kind of key");
}

/* A row of a table: as many numbers as there may be columns, or fewer. */
static enum err_code read_row(struct slice value, int64_t *row, int columns, int64_t most, struct err *err)
{
    struct slice word;

    for (int i = 0; next_word(&value, &word); i++) {
        if (i == columns || !read_number(word, most, &row[i]))
            return bad(err, "too many numbers, or one that is none");
    }
    return ERR_OK;
}

/* "tokens.high = 4160 6240 6208" and its like. */
static enum err_code read_card_table(struct model_card *card, struct slice table, struct slice quality,
                                     struct slice value, struct err *err)
{
    int q = 0;

    while (q < card->n_qualities && !slice_eq_str(quality, card->qualities[q]))
        q++;
    if (q == card->n_qualities)
        return bad(err, "a quality that 'qualities' above does not list");
    if (slice_eq_str(table, "tokens"))
        return read_row(value, card->tokens[q], MODEL_SIZES, TOKENS_MAX, err);
    if (slice_eq_str(table, "hold_tokens"))
        return read_row(value, card->hold_tokens[q], MODEL_SIZES, TOKENS_MAX, err);
    if (slice_eq_str(table, "factor"))
        return read_row(value, &card->factor[q], 1, FACTOR_MAX, err);
    if (slice_eq_str(table, "hold_factor"))
        return read_row(value, &card->hold_factor[q], 1, FACTOR_MAX, err);
    return bad(err, "unknown table");
}

static enum err_code read_card(struct tariff *out, struct slice name, struct slice key, struct slice value,
                               struct err *err)
{
    struct model_card *card = out->n_cards > 0 ? &out->cards[out->n_cards - 1] : NULL;
    struct slice table, quality;

    if (card == NULL || !slice_eq_str(name, card->name)) {
        if (out->n_cards == TARIFF_CARDS)
            return bad(err, "too many models");
        card = &out->cards[out->n_cards];
        if (name.len == 0 || !slice_copy(name, card->name, sizeof(card->name)))
            return bad(err, "a model's name is missing or too long");
        out->n_cards++;
    }
    for (size_t i = 0; i < sizeof(card_keys) / sizeof(card_keys[0]); i++) {
        if (slice_eq_str(key, card_keys[i].name))
            return read_card_key(card, &card_keys[i], value, err);
    }
    if (slice_cut(key, '.', &table, &quality))
        return read_card_table(card, table, quality, value, err);
    return bad(err, "unknown key");
}

/* "image.edits.hd.1024x1024": a unit, then whatever the rate names. */
static enum err_code read_rate_key(struct slice key, struct price_rate *rate, struct err *err)
{
    struct slice part, rest;
    bool more = slice_cut(key, '.', &part, &rest);
    int w, h;

    if (!price_unit_parse(part, &rate->unit))
        return bad(err, "unknown unit");
    while (more) {
        enum image_operation operation;

        more = slice_cut(rest, '.', &part, &rest);
        if (rate->operation == OPERATION_ANY && price_operation_parse(part, &operation))
            rate->operation = operation;
        else if (rate->size[0] == '\0' && model_parse_size(part, &w, &h))
            (void)slice_copy(part, rate->size, sizeof(rate->size));
        else if (part.len == 0 || rate->quality[0] != '\0' || !slice_copy(part, rate->quality, sizeof(rate->quality)))
            return bad(err, "names something twice, or nothing");
    }
    return ERR_OK;
}

/* "5.00 per 1000000" or "0.016". */
static enum err_code read_rate_value(struct slice value, int64_t *pico, struct err *err)
{
    struct slice amount, word;
    int64_t per = 1;

    if (!next_word(&value, &amount))
        return bad(err, "no amount");
    if (next_word(&value, &word)) {
        if (!slice_eq_str(word, "per") || !next_word(&value, &word) || !read_number(word, COUNT_MAX, &per) ||
            next_word(&value, &word))
            return bad(err, "neither AMOUNT nor AMOUNT per COUNT");
    }
    return price_parse_amount(amount, per, pico, err);
}

static bool rate_is_known(const struct tariff *out, const struct price_rate *rate)
{
    for (size_t i = 0; i < out->n_rates; i++) {
        const struct price_rate *r = &out->rates[i];

        if (r->unit == rate->unit && r->operation == rate->operation && strcmp(r->model, rate->model) == 0 &&
            strcmp(r->size, rate->size) == 0 && strcmp(r->quality, rate->quality) == 0)
            return true;
    }
    return false;
}

/* One rate for each model that the section names. */
static enum err_code read_rate(struct tariff *out, struct slice names, struct slice key, struct slice value,
                               struct err *err)
{
    struct price_rate rate = {.operation = OPERATION_ANY};
    struct slice name;
    enum err_code code = read_rate_key(key, &rate, err);

    if (code == ERR_OK)
        code = read_rate_value(value, &rate.pico, err);
    while (code == ERR_OK && next_word(&names, &name)) {
        if (!slice_copy(name, rate.model, sizeof(rate.model)))
            return bad(err, "a model's name is too long");
        if (rate_is_known(out, &rate))
            return bad(err, "given twice");
        if (out->n_rates == TARIFF_RATES)
            return bad(err, "too many rates");
        out->rates[out->n_rates++] = rate;
    }
    return code;
}

static enum err_code read_line(void *ctx, struct slice section, struct slice key, struct slice value, int line,
                               struct err *err)
{
    struct reader *reader = ctx;
    struct slice kind, names;

    (void)line;
    (void)slice_cut(section, ' ', &kind, &names);
    names = slice_trim(names);
    if (slice_eq_str(kind, "model"))
        return read_card(reader->out, names, key, value, err);
    if (slice_eq_str(kind, "rates") && names.len > 0)
        return read_rate(reader->out, names, key, value, err);
    return bad(err, "neither in [model NAME] nor in [rates NAME ...]");
}

static void note_fault(void *ctx, int line, struct slice key, const char *what)
{
    const struct reader *reader = ctx;

    if (reader->faults != NULL)
        fprintf(reader->faults, "line %d: %.*s: %s\n", line, (int)key.len, key.p != NULL ? key.p : "", what);
}

/* A hold that the data does not give counts what the charge does; one that it gives may not count less. */
static bool finish_number(int64_t tokens, int64_t *hold)
{
    if (*hold == 0)
        *hold = tokens;
    return tokens > 0 && *hold >= tokens;
}

/* Every number that the card's way of counting needs, and no other. */
static const char *finish_tables(struct model_card *card)
{
    bool table = card->per_token && !card->free_size;
    bool formula = card->per_token && card->free_size;

    for (int q = 0; q < MODEL_QUALITIES; q++) {
        for (int s = 0; s < MODEL_SIZES; s++) {
            bool wanted = table && q < card->n_qualities && s < card->n_sizes;

            if (wanted ? !finish_number(card->tokens[q][s], &card->hold_tokens[q][s])
                       : card->tokens[q][s] != 0 || card->hold_tokens[q][s] != 0)
                return "its token table does not fit its sizes and qualities";
        }
        if (formula && q < card->n_qualities ? !finish_number(card->factor[q], &card->hold_factor[q])
                                             : card->factor[q] != 0 || card->hold_factor[q] != 0)
            return "its factors do not fit its qualities";
    }
    return NULL;
}

static const char *finish_card(struct model_card *card)
{
    int w, h;

    if (card->n_sizes == 0 || card->n_qualities == 0)
        return "no sizes or no qualities";
    for (int i = 0; i < card->n_sizes; i++) {
        if (!model_parse_size(slice_from(card->sizes[i]), &w, &h))
            return "a size that is none";
    }
    if (!(card->takes_auto && strcmp(card->default_size, "auto") == 0) &&
        !model_has_size(card, slice_from(card->default_size)))
        return "its default size is not one of its own";
    if (!(card->takes_auto && strcmp(card->default_quality, "auto") == 0) &&
        !model_has_quality(card, slice_from(card->default_quality)))
        return "its default quality is not one of its own";
    if (card->free_size ? !model_has_size(card, slice_from(card->dearest_size)) : card->dearest_size[0] != '\0')
        return "its dearest size is not one of its own";
    if (card->max_n < 1 || card->max_prompt < 1)
        return "max_n or max_prompt is missing";
    return finish_tables(card);
}

int tariff_read(struct slice text, struct tariff *out, FILE *faults)
{
    struct reader reader = {.out = out, .faults = faults};
    int n;

    memset(out, 0, sizeof(*out));
    n = ini_read(text, read_line, note_fault, &reader);
    for (size_t i = 0; i < out->n_cards; i++) {
        const char *what = finish_card(&out->cards[i]);

        if (what == NULL)
            continue;
        n++;
        if (faults != NULL)
            fprintf(faults, "[model %s]: %s\n", out->cards[i].name, what);
    }
    return n;
}

struct tariff *tariff_load(void)
{
    struct tariff *data = mem_alloc(sizeof(*data));
    int n = tariff_read((struct slice){embed_openai_ini, embed_openai_ini_len}, data, stderr);

    TG_ASSERT(n == 0); /* the embedded price data is sound */
    return data;
}

struct price_version *price_defaults(void)
{
    struct tariff *data = tariff_load();
    struct price_version *v = price_version_create(data->rates, data->n_rates);

    free(data);
    return v;
}
