/* completion.c - a script for bash, from the tables of commands and verbs: committed as etc/completion/tallygate.bash;
 * a test compares. No state. */
#include <string.h>

#include "commands.h"
#include "verbs.h"

/* The long options in a command's table of options: "-c, --config FILE<tab>meaning". */
static void print_long_options(FILE *out, const char *lines)
{
    for (const char *p = lines; (p = strstr(p, "--")) != NULL; p += 2) {
        size_t len = strspn(p, "-abcdefghijklmnopqrstuvwxyz");

        if (p == lines || p[-1] == ' ' || p[-1] == '\n')
            fprintf(out, "%.*s ", (int)len, p);
    }
}

static void print_command_options(FILE *out)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        fprintf(out, "    %s) words=\"", c->name);
        print_long_options(out, c->options);
        fputs("--help\" ;;\n", out);
    }
}

static bool first_of_noun(const struct verb *verb)
{
    return verb == verbs || strcmp(verb[-1].noun, verb->noun) != 0;
}

static void print_nouns(FILE *out)
{
    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        if (first_of_noun(v))
            fprintf(out, "%s%s", v == verbs ? "" : " ", v->noun);
    }
}

static void print_verbs(FILE *out)
{
    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        if (first_of_noun(v))
            fprintf(out, "        %s) words=\"", v->noun);
        fprintf(out, "%s%s", first_of_noun(v) ? "" : " ", v->verb);
        if (v[1].noun == NULL || first_of_noun(v + 1))
            fputs("\" ;;\n", out);
    }
}

static void print_verb_options(FILE *out)
{
    struct verb_option options[VERB_OPTIONS];

    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        int n = verb_options(v, options);

        fprintf(out, "    '%s %s') words=\"", v->noun, v->verb);
        for (int i = 0; i < n; i++)
            fprintf(out, "--%s ", options[i].name);
        fputs("$common\" ;;\n", out);
    }
}

void completion_print(FILE *out)
{
    fputs("# bash completion of tallygate; made by: tallygate help --completion\n\n"
          "_tallygate_admin() {\n"
          "    local common=\"--server --token-file --config --json --limit --idempotency-key --help\"\n"
          "    if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
          "        words=\"",
          out);
    print_nouns(out);
    fputs(" --help\"\n        return\n    fi\n"
          "    if [ \"$COMP_CWORD\" -eq 3 ]; then\n"
          "        case ${COMP_WORDS[2]} in\n",
          out);
    print_verbs(out);
    fputs("        esac\n        return\n    fi\n"
          "    case \"${COMP_WORDS[2]} ${COMP_WORDS[3]}\" in\n",
          out);
    print_verb_options(out);
    fputs("    esac\n}\n\n"
          "_tallygate() {\n"
          "    local words=\"\" current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    COMPREPLY=()\n"
          "    case $before in\n"
          "    -c|--config|--token-file|--api-key-file)\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
          "        return ;;\n"
          "    esac\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        words=\"",
          out);
    for (const struct command *c = commands; c->name != NULL; c++)
        fprintf(out, "%s%s", c == commands ? "" : " ", c->name);
    fputs("\"\n    else\n    case ${COMP_WORDS[1]} in\n    admin) _tallygate_admin ;;\n", out);
    print_command_options(out);
    fputs("    esac\n    fi\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")\n"
          "}\n\n"
          "complete -F _tallygate tallygate\n",
          out);
}
