/* manual.c - the manual page, from the tables of commands, configuration keys and error codes: what the program does
 * and what its manual says cannot drift apart. Committed as etc/man/tallygate.8; a test compares. One thread. */
#include "commands.h"

#include <string.h>

#include "daemon/base/err.h"
#include "verbs.h"

/* A backslash and a hyphen have a meaning of their own in man(7), and so has a dot that begins a line. */
static void print_roff(FILE *out, struct slice text)
{
    if (text.len > 0 && (text.p[0] == '.' || text.p[0] == '\''))
        fputs("\\&", out);
    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '\\')
            fputs("\\e", out);
        else if (text.p[i] == '-')
            fputs("\\-", out);
        else
            fputc(text.p[i], out);
    }
}

static void print_text(FILE *out, const char *text)
{
    print_roff(out, slice_from(text));
    fputc('\n', out);
}

static void print_lines(FILE *out, const char *lines)
{
    struct slice rest = slice_from(lines), line, what, meaning;

    while (rest.len > 0) {
        (void)slice_cut(rest, '\n', &line, &rest);
        (void)slice_cut(line, '\t', &what, &meaning);
        fputs(".TP\n.B ", out);
        print_roff(out, what);
        fputc('\n', out);
        print_roff(out, meaning);
        fputc('\n', out);
    }
}

static void print_command(FILE *out, const struct command *c)
{
    fputs(".SS ", out);
    print_text(out, c->name);
    fputs(".B tallygate ", out);
    print_roff(out, slice_from(c->name));
    fputc(' ', out);
    print_text(out, c->arguments);
    fputs(".PP\n", out);
    print_text(out, c->summary);
    print_lines(out, c->options);
    fputs(".PP\nExit codes:\n", out);
    print_lines(out, c->exits);
    fputs(".PP\nExample:\n.PP\n.EX\n", out);
    print_text(out, c->example);
    fputs(".EE\n", out);
}

static void print_verbs(FILE *out)
{
    fputs(".SH VERBS OF ADMIN\n", out);
    for (const struct verb *v = verbs; v->noun != NULL; v++) {
        fputs(".TP\n.B ", out);
        print_roff(out, slice_from(v->noun));
        fprintf(out, " %s %s\n", v->verb, v->operands);
        print_text(out, v->summary);
    }
}

static void print_signals(FILE *out)
{
    fputs(".SH SIGNALS\n", out);
    print_lines(
        out,
        "SIGTERM, SIGINT\tThe daemon drains: it accepts nothing more, calls in flight finish and are charged, then it "
        "ends. A second one stops it at once; holds left open are resolved at the next start.\n"
        "SIGHUP\tReads the configuration again, all or nothing. Keys that need a restart are named in the log.\n");
}

/* errors.def as the callers of both listeners see it. */
static void print_errors(FILE *out)
{
    fputs(".SH ERRORS\nAnswers to failed requests are OpenAI's error object. Its codes, with the HTTP status:\n", out);
    for (int code = ERR_OK + 1; code < ERR_COUNT; code++) {
        const char *name = err_api_code((enum err_code)code);

        if (name == NULL)
            continue;
        fprintf(out, ".TP\n.B %s\n%d, type %s\n", name, err_http_status((enum err_code)code),
                err_type((enum err_code)code));
    }
}

static void print_files(FILE *out)
{
    fputs(".SH FILES\n", out);
    print_lines(
        out,
        "/etc/tallygate.conf\tA usual place for the configuration; there is no default.\n"
        "tallygate.db, tallygate.db-wal\tThe ledger, where [store] url says. Copy them only while nothing runs.\n"
        "tallygate.db.lock\tHeld by the one process that writes.\n"
        "master.key\t32 bytes from which all keys are derived, beside the ledger unless configured otherwise. Keep a "
        "copy in another place: without it no API key and no channel credential can be used again.\n");
}

void manual_print(FILE *out)
{
    fputs(".TH TALLYGATE 8 \"\" \"tallygate " TG_VERSION "\" \"System administration\"\n.SH NAME\n", out);
    print_text(out, "tallygate - billing and quota gateway for the OpenAI Images API");
    fputs(".SH SYNOPSIS\n.B tallygate\n.I COMMAND\n[\n.I ARGUMENTS\n]\n.SH DESCRIPTION\n", out);
    print_text(
        out,
        "Tallygate stands between customers and the OpenAI Images API. It checks the API key, works out the most a "
        "call can "
        "cost, sets that money aside in a durable ledger, forwards the call to an upstream channel, charges what was "
        "delivered, and answers. Tenants, keys, channels and prices are kept in the ledger and managed through the "
        "admin API.");
    fputs(".SH COMMANDS\n", out);
    for (const struct command *c = commands; c->name != NULL; c++)
        print_command(out, c);
    print_verbs(out);
    conf_print_manual(out);
    print_signals(out);
    print_errors(out);
    print_files(out);
}
