/* verbs.c - the table of `tallygate admin`, and its help. No state. */
#include "verbs.h"

#include <string.h>

const struct verb verbs[] = {
#define VERB(noun, name, method, path, operands, options, columns, summary)                                            \
    {noun, name, method, path, operands, options, columns, summary},
#include "verbs.def"
#undef VERB
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

/* ---- the table ---- */

int verb_options(const struct verb *verb, struct verb_option out[VERB_OPTIONS])
{
    struct slice rest = slice_from(verb->options), word, name, type;
    int n = 0;

    while (rest.len > 0 && n < VERB_OPTIONS) {
        (void)slice_cut(rest, ' ', &word, &rest);
        (void)slice_cut(word, ':', &name, &type);
        out[n] = (struct verb_option){.type = slice_eq_str(type, "int")    ? VERB_INT
                                              : slice_eq_str(type, "json") ? VERB_JSON
                                              : slice_eq_str(type, "list") ? VERB_LIST
                                                                           : VERB_TEXT};
        if (name.len > 0 && name.p[name.len - 1] == '!') {
            out[n].required = true;
            name.len--;
        }
        n += slice_copy(name, out[n].name, sizeof(out[n].name));
    }
    return n;
}

const struct verb *verb_find(const char *noun, const char *name)
{
    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        if (strcmp(v->noun, noun) == 0 && strcmp(v->verb, name) == 0)
            return v;
    }
    return NULL;
}

void verbs_print(FILE *out, const char *noun)
{
    char line[96];

    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        if (noun != NULL && strcmp(v->noun, noun) != 0)
            continue;
        (void)snprintf(line, sizeof(line), "%s %s %s", v->noun, v->verb, v->operands);
        fprintf(out, "  %-30s %s\n", line, v->summary);
    }
}

void verb_print(FILE *out, const struct verb *verb)
{
    static const char *const kinds[] = {"VALUE", "NUMBER", "JSON", "VALUE"};
    struct verb_option options[VERB_OPTIONS];
    int n = verb_options(verb, options);

    fprintf(out, "Usage: tallygate admin %s %s%s%s%s\n\n%s\n", verb->noun, verb->verb,
            verb->operands[0] != '\0' ? " " : "", verb->operands, n > 0 ? " [OPTIONS]" : "", verb->summary);
    if (n > 0)
        fprintf(out, "\nOptions:\n");
    for (int i = 0; i < n; i++)
        fprintf(out, "  --%s %s%s%s\n", options[i].name, kinds[options[i].type],
                options[i].type == VERB_LIST ? "  (may be repeated)" : "", options[i].required ? "  (required)" : "");
    fprintf(out, "\nAlways: --server ADDRESS, --token-file FILE or -c FILE, -j/--json, --limit ROWS of lists, "
                 "--idempotency-key KEY.\n");
}
