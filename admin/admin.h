/* admin.h - the admin API's place in the daemon, and the commands of the executable. */
#ifndef TG_ADMIN_ADMIN_H
#define TG_ADMIN_ADMIN_H

#include "daemon/front/front.h"
#include "daemon/relay/relay.h"
#include "db/store.h"

struct admin_house; /* what all loops share */

struct admin_house *admin_house_create(struct store *store, struct secrets *secrets, struct relay_house *relay,
                                       struct front **front, const struct conf *conf);
void admin_house_destroy(struct admin_house *house);

/* Routes of the admin listener (admin/routes.def); ctx is the house. Ends with a NULL method. */
extern const struct front_route admin_routes[];

/* ---- commands: one a row of admin/commands.def ---- */

typedef int command_fn(int argc, char **argv); /* argv[0]: the command's name; returns the exit code */

/* Finds and runs argv[1]; help, unknown commands and --help included. Exit codes: 0 done, 1 it failed, 2 called wrongly
 * (fsck and check-config as the contract says). <serve>: the daemon itself (daemon/main.c). */
int commands_run(int argc, char **argv, command_fn *serve);

#endif
