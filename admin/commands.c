/* commands.c - the command line: from argv to one row of commands.def, help from the same table, and the small
 * commands.
 *
 * What a command is for goes to standard output, what went wrong to standard error. One thread. */
#include "commands.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/clock.h"
#include "daemon/base/failpoint.h"
#include "daemon/base/log.h"
#include "daemon/sandbox/sandbox.h"
#include "rules.h"
#include "verbs.h"

enum { COLUMN = 26, LATENCY_MAX = 3600000 };

const struct command commands[] = {
#define COMMAND(name, run, arguments, summary, options, exits, example)                                                \
    {name, run, arguments, summary, options, exits, example},
#include "commands.def"
#undef COMMAND
    {NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

static const struct command *find_command(const char *name)
{
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

/* ---- help ---- */

/* "what<tab>meaning" lines as two columns. */
static void print_lines(FILE *out, const char *lines)
{
    struct slice rest = slice_from(lines), line, what, meaning;

    while (rest.len > 0) {
        (void)slice_cut(rest, '\n', &line, &rest);
        (void)slice_cut(line, '\t', &what, &meaning);
        fprintf(out, "  %-*.*s  %.*s\n", COLUMN, (int)what.len, what.p, (int)meaning.len, meaning.p);
    }
}

static void print_command(FILE *out, const struct command *c)
{
    fprintf(out, "Usage: tallygate %s%s%s\n\n%s\n", c->name, c->arguments[0] != '\0' ? " " : "", c->arguments,
            c->summary);
    if (c->options[0] != '\0') {
        fprintf(out, "\nOptions:\n");
        print_lines(out, c->options);
    }
    fprintf(out, "\nExit codes:\n");
    print_lines(out, c->exits);
    fprintf(out, "\nExample:\n  %s\n", c->example);
}

static void print_commands(FILE *out)
{
    fprintf(out, "Tallygate, a billing and quota gateway for the OpenAI Images API.\n\nUsage: tallygate COMMAND "
                 "[ARGUMENTS]\n\n");
    for (const struct command *c = commands; c->name != NULL; c++)
        fprintf(out, "  %-13s %s\n", c->name, c->summary);
    fprintf(out, "\n'tallygate help COMMAND' or 'tallygate COMMAND --help' tells more.\n");
}

int command_misuse(const char *name, const char *fmt, ...)
{
    va_list args;

    fprintf(stderr, "tallygate %s: ", name);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    fprintf(stderr, "\nTry 'tallygate help %s'.\n", name);
    return COMMAND_USAGE;
}

/* Standard output may be a full disk or a closed pipe. */
static int flushed(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    perror("tallygate: standard output");
    return COMMAND_FAILED;
}

int command_help(int argc, char **argv)
{
    const struct command *c;
    struct arguments arguments;

    if (!arguments_read(argc, argv, FAILPOINT_BUILD ? "mebof" : "mebo", 1, &arguments))
        return COMMAND_USAGE;
    if (arguments.man) {
        manual_print(stdout);
    } else if (arguments.sample) {
        conf_print_help(stdout);
    } else if (arguments.completion) {
        completion_print(stdout);
    } else if (arguments.routes) {
        rules_print(stdout);
    } else if (FAILPOINT_BUILD && arguments.failpoints) {
        failpoint_list(stdout);
    } else if (arguments.operand == NULL) {
        print_commands(stdout);
    } else {
        c = find_command(arguments.operand);
        if (c == NULL) {
            fprintf(stderr, "tallygate: there is no command '%s'. Try 'tallygate help'.\n", arguments.operand);
            return COMMAND_USAGE;
        }
        print_command(stdout, c);
    }
    return flushed(COMMAND_DONE);
}

int command_version(int argc, char **argv)
{
    struct arguments arguments;

    if (!arguments_read(argc, argv, "", 0, &arguments))
        return COMMAND_USAGE;
    printf("tallygate %s\n", TG_VERSION);
    return flushed(COMMAND_DONE);
}

/* ---- arguments ---- */

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},
    {"name", required_argument, NULL, 'n'},
    {"scope", required_argument, NULL, 's'},
    {"role", required_argument, NULL, 'r'},
    {"listen", required_argument, NULL, 'l'},
    {"latency", required_argument, NULL, 't'},
    {"json", no_argument, NULL, 'j'},
    {"man", no_argument, NULL, 'm'},
    {"sample", no_argument, NULL, 'e'},
    {"completion", no_argument, NULL, 'b'},
    {"routes", no_argument, NULL, 'o'},
#ifdef TG_FAILPOINTS
    {"failpoints", no_argument, NULL, 'f'},
#endif
    {NULL, 0, NULL, 0},
};

static void set_argument(struct arguments *out, int letter, const char *value)
{
    switch (letter) {
    case 'c':
        out->config = value;
        break;
    case 'n':
        out->name = value;
        break;
    case 's':
        out->scope = value;
        break;
    case 'r':
        out->role = value;
        break;
    case 'l':
        out->listen = value;
        break;
    case 't':
        out->latency = value;
        break;
    case 'j':
        out->json = true;
        break;
    case 'm':
        out->man = true;
        break;
    case 'b':
        out->completion = true;
        break;
    case 'o':
        out->routes = true;
        break;
    case 'f':
        out->failpoints = true;
        break;
    default:
        out->sample = true;
        break;
    }
}

bool arguments_read(int argc, char **argv, const char *allowed, int operands, struct arguments *out)
{
    int letter;

    *out = (struct arguments){0};
    opterr = 0;
    optind = 1;
    while ((letter = getopt_long(argc, argv, ":c:n:s:r:l:t:jmebo", long_options, NULL)) != -1) {
        if (letter == ':') {
            (void)command_misuse(argv[0], "%s needs a value", argv[optind - 1]);
            return false;
        }
        if (letter == '?' || strchr(allowed, letter) == NULL) {
            (void)command_misuse(argv[0], "there is no option '%s' here", argv[optind - 1]);
            return false;
        }
        set_argument(out, letter, optarg);
    }
    if (argc - optind > operands) {
        (void)command_misuse(argv[0], "too many words: '%s'", argv[optind + operands]);
        return false;
    }
    out->operand = optind < argc ? argv[optind] : NULL;
    return true;
}

struct conf *command_conf(const struct arguments *arguments)
{
    return arguments->config != NULL ? conf_read(arguments->config, stderr) : NULL;
}

/* ---- small commands ---- */

int command_check_config(int argc, char **argv)
{
    struct arguments arguments;
    struct conf *conf;

    if (!arguments_read(argc, argv, "c", 0, &arguments))
        return COMMAND_USAGE;
    if (arguments.config == NULL)
        return command_misuse(argv[0], "which file? -c FILE is missing");
    conf = command_conf(&arguments);
    if (conf == NULL)
        return COMMAND_FAILED;
    conf_destroy(conf);
    printf("%s: ok\n", arguments.config);
    return flushed(COMMAND_DONE);
}

int command_sandbox(int argc, char **argv)
{
    struct arguments arguments;
    unsigned long long latency = 0;

    if (!arguments_read(argc, argv, "lt", 0, &arguments))
        return COMMAND_USAGE;
    if (arguments.listen == NULL)
        return command_misuse(argv[0], "where? --listen HOST:PORT is missing");
    if (arguments.latency != NULL && (!slice_to_u64(slice_from(arguments.latency), &latency) || latency > LATENCY_MAX))
        return command_misuse(argv[0], "--latency takes milliseconds, 0 to %d", LATENCY_MAX);
    log_init(LEVEL_WARN);
    return sandbox_run(arguments.listen, (int64_t)latency * 1000);
}

/* ---- dispatch ---- */

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

int commands_run(int argc, char **argv, command_fn *serve)
{
    const struct command *c;
    struct err err;

    if (argc < 2) {
        print_commands(stderr);
        return COMMAND_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_commands(stdout);
        return flushed(COMMAND_DONE);
    }
    c = find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (c == NULL) {
        fprintf(stderr, "tallygate: there is no command '%s'. Try 'tallygate help'.\n", argv[1]);
        return COMMAND_USAGE;
    }
    if (c->run != command_admin && asks_for_help(argc - 1, argv + 1)) { /* admin explains itself, verb by verb */
        print_command(stdout, c);
        return flushed(COMMAND_DONE);
    }
    if (!failpoint_arm(FAILPOINT_BUILD ? getenv("TG_FAILPOINT") : NULL, &err)) {
        fprintf(stderr, "tallygate: TG_FAILPOINT: %s\n", err.message);
        return COMMAND_USAGE;
    }
    secret_init();
    return (c->run != NULL ? c->run : serve)(argc - 1, argv + 1);
}
