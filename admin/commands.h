/* commands.h - inside the admin room: the command line's table, its arguments, and what commands share. */
#ifndef TG_ADMIN_COMMANDS_H
#define TG_ADMIN_COMMANDS_H

#include <stdio.h>

#include "admin.h"

enum command_exit { COMMAND_DONE = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

struct command {
    const char *name;
    command_fn *run; /* NULL: the daemon itself */
    const char *arguments;
    const char *summary;
    const char *options; /* lines of "what<tab>meaning" */
    const char *exits;   /* likewise */
    const char *example;
};

extern const struct command commands[]; /* ends with a NULL name */

/* All options that commands know; each command allows some. */
struct arguments {
    const char *config, *name, *scope, *role, *listen, *latency; /* NULL: not given */
    bool json, man, sample, failpoints, completion, routes;
    const char *operand; /* the first word that is no option */
};

/* Reads argv[1]...; <allowed>: letters of the options that may stand there, "c" alone for most. <operands>: how many
 * other words may. False when something is wrong, which was said on standard error. */
bool arguments_read(int argc, char **argv, const char *allowed, int operands, struct arguments *out);

/* Says "tallygate NAME: ..." on standard error and where help is; returns COMMAND_USAGE. */
int command_misuse(const char *name, const char *fmt, ...) TG_PRINTF(2, 3);

/* Reads the configuration, telling faults on standard error; NULL when there are any, or <path> is NULL. */
struct conf *command_conf(const struct arguments *arguments);

/* Text for man(7): backslashes, hyphens and leading dots have a meaning of their own there. */
void manual_print(FILE *out);

command_fn command_check_config, command_migrate, command_admin_token, command_admin, command_fsck, command_backup,
    command_sandbox, command_version, command_help;

#endif
