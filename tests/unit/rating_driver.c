/* rating_driver.c - the pricing engine behind a pipe, for test_rating_oracle.py.
 *
 * Reads one case a line from standard input, writes one answer a line. Words are separated by single spaces; "-" stands
 * for an empty text and for a rate that is not there.
 *   c MARKUP RATE*8 QUANTITY*8                       charge under a book with these rates -> NANO LINE*8, or an error's
 * name f OP SIZE QUALITY UNIT N (OP SIZE QUALITY UNIT PICO)*N      which rate is found -> PICO or none d MODEL OP SIZE
 * QUALITY QUANTITY*8               charge under the default prices, no markup -> NANO or an error's name t MODEL SIZE
 * QUALITY IMAGES                      output tokens -> TOKENS o MODEL SIZE QUALITY                             output
 * tokens of one picture as a hold counts them -> TOKENS i MODEL WIDTH HEIGHT HIGH                        input image
 * tokens -> TOKENS h MODEL OP SIZE QUALITY N PARTIALS BYTES         ceiling under the default prices -> NANO or an
 * error's name A line that it cannot read ends it with status 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/billing/quote.h"

enum { CASE_LINE = 65536, CASE_RATES = 64, OUTPUT_BUFFER = 1 << 20 };

static struct price_version *defaults;
static long line_number;

static void give_up(const char *what)
{
    fprintf(stderr, "rating_driver: line %ld: %s\n", line_number, what);
    exit(1);
}

static struct slice word(char **rest)
{
    char *p = *rest;
    size_t len = strcspn(p, " \n");

    if (len == 0)
        give_up("a word is missing");
    *rest = p[len] == ' ' ? p + len + 1 : p + len;
    return len == 1 && *p == '-' ? SLICE_NONE : (struct slice){p, len};
}

static int64_t number(char **rest)
{
    char *end;
    int64_t value = strtoll(*rest, &end, 10);

    if (end == *rest || (*end != ' ' && *end != '\n'))
        give_up("a number is missing");
    *rest = *end == ' ' ? end + 1 : end;
    return value;
}

static enum image_operation operation(char **rest)
{
    struct slice text = word(rest);
    enum image_operation op = OPERATION_ANY;

    if (text.len > 0 && !price_operation_parse(text, &op))
        give_up("no such operation");
    return op;
}

static enum price_unit unit(char **rest)
{
    enum price_unit u;

    if (!price_unit_parse(word(rest), &u))
        give_up("no such unit");
    return u;
}

static void quantities(char **rest, struct price_quantities *q)
{
    for (int i = 0; i < PRICE_UNITS; i++)
        q->of[i] = number(rest);
}

static void answer(enum err_code code, int64_t value)
{
    if (code != ERR_OK)
        puts(err_name(code));
    else
        printf("%" PRId64 "\n", value);
}

static void case_charge(char *rest)
{
    struct price_rate rates[PRICE_UNITS];
    struct price_item item = {.model = SLICE("m"), .operation = OPERATION_EDITS};
    struct price_quantities q;
    int64_t lines[PRICE_UNITS];
    int64_t markup = number(&rest);
    int64_t nano = 0;
    struct price_version *v;
    enum err_code code;
    size_t n = 0;

    for (int i = 0; i < PRICE_UNITS; i++) {
        if (*rest == '-') {
            (void)word(&rest);
            continue;
        }
        rates[n] = (struct price_rate){.model = "m", .unit = (enum price_unit)i, .pico = number(&rest)};
        n++;
    }
    quantities(&rest, &q);
    v = price_version_create(rates, n);
    code = price_charge(v, markup, &item, &q, &nano, lines, NULL);
    price_version_unref(v);
    if (code != ERR_OK) {
        puts(err_name(code));
        return;
    }
    printf("%" PRId64, nano);
    for (int i = 0; i < PRICE_UNITS; i++)
        printf(" %" PRId64, lines[i]);
    putchar('\n');
}

static void case_find(char *rest)
{
    struct price_rate rates[CASE_RATES] = {0};
    struct price_item item = {.model = SLICE("m")};
    enum price_unit wanted;
    struct price_version *v;
    int64_t pico = 0;
    int64_t n;

    item.operation = operation(&rest);
    item.size = word(&rest);
    item.quality = word(&rest);
    wanted = unit(&rest);
    n = number(&rest);
    if (n < 0 || n > CASE_RATES)
        give_up("too many rates");
    for (int64_t i = 0; i < n; i++) {
        struct price_rate *r = &rates[i];

        memcpy(r->model, "m", 2);
        r->operation = operation(&rest);
        if (!slice_copy(word(&rest), r->size, sizeof(r->size)) ||
            !slice_copy(word(&rest), r->quality, sizeof(r->quality)))
            give_up("a word is too long");
        r->unit = unit(&rest);
        r->pico = number(&rest);
    }
    v = price_version_create(rates, (size_t)n);
    if (price_find(v, &item, wanted, &pico))
        printf("%" PRId64 "\n", pico);
    else
        puts("none");
    price_version_unref(v);
}

static void case_default(char *rest)
{
    struct price_item item;
    struct price_quantities q;
    int64_t nano = 0;
    enum err_code code;

    item.model = word(&rest);
    item.operation = operation(&rest);
    item.size = word(&rest);
    item.quality = word(&rest);
    quantities(&rest, &q);
    code = price_charge(defaults, 0, &item, &q, &nano, NULL, NULL);
    answer(code, nano);
}

static const struct model_card *card(char **rest)
{
    const struct model_card *c = model_find(word(rest));

    if (c == NULL)
        give_up("no such model");
    return c;
}

static void case_tokens(char *rest, bool hold)
{
    const struct model_card *c = card(&rest);
    struct slice size = word(&rest);
    struct slice quality = word(&rest);

    answer(ERR_OK, hold ? model_hold_tokens(c, size, quality) : model_output_tokens(c, size, quality, number(&rest)));
}

static void case_input(char *rest)
{
    const struct model_card *c = card(&rest);
    int w = (int)number(&rest);
    int h = (int)number(&rest);

    answer(ERR_OK, model_input_tokens(c, w, h, number(&rest) != 0));
}

static void case_hold(char *rest)
{
    struct image_spec spec = {0};
    struct quote quote = {0};
    struct slice model = word(&rest);
    enum err_code code;

    spec.card = model_find(model);
    spec.operation = operation(&rest);
    if (!slice_copy(model, spec.model, sizeof(spec.model)) || !slice_copy(word(&rest), spec.size, sizeof(spec.size)) ||
        !slice_copy(word(&rest), spec.quality, sizeof(spec.quality)))
        give_up("a word is too long");
    spec.n = (int)number(&rest);
    spec.partial_images = (int)number(&rest);
    spec.prompt_bytes = number(&rest);
    code = quote_ceiling(defaults, 0, &spec, &quote, NULL);
    answer(code, quote.nano);
}

static void run_case(char *line)
{
    char *rest = line;
    struct slice kind = word(&rest);

    switch (kind.len == 1 ? kind.p[0] : '?') {
    case 'c':
        case_charge(rest);
        break;
    case 'f':
        case_find(rest);
        break;
    case 'd':
        case_default(rest);
        break;
    case 't':
        case_tokens(rest, false);
        break;
    case 'o':
        case_tokens(rest, true);
        break;
    case 'i':
        case_input(rest);
        break;
    case 'h':
        case_hold(rest);
        break;
    default:
        give_up("no such kind of case");
    }
}

int main(void)
{
    static char line[CASE_LINE];
    static char output[OUTPUT_BUFFER];

    setvbuf(stdout, output, _IOFBF, sizeof(output));
    model_init();
    defaults = price_defaults();
    while (fgets(line, sizeof(line), stdin) != NULL) {
        line_number++;
        if (strchr(line, '\n') == NULL)
            give_up("too long");
        run_case(line);
    }
    price_version_unref(defaults);
    return ferror(stdin) || fflush(stdout) != 0;
}
